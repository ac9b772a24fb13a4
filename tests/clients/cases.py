"""The register of client tests: what `@case` marks, run.py runs.

A case is a function that gets a running server, or, with `start=True`, the function that starts one. It fails by
raising. `shards` says at how many shards it runs: once for each; `whole` at how many if time does not matter (`run.py --whole`).
Deliberately absent: fixtures and plugins.
"""

import shutil
from dataclasses import dataclass
from typing import Callable


class Skip(Exception):
    """What the case needs is not here. Under CI=true this is a failure."""


@dataclass
class Case:
    name: str
    run: Callable
    shards: tuple
    args: list
    start: bool
    ours: bool
    whole: tuple


ALL: list[Case] = []
# Whether to run what CI has no time for, too.
WHOLE = False


def case(shards=(1, 4), args=(), start=False, ours=False, whole=None):
    """Registers a case. `args` are directives for its server; `ours` marks what stock Redis does not promise."""

    def register(function):
        ALL.append(Case(function.__name__, function, tuple(shards), list(args), start, ours, tuple(whole or shards)))
        return function

    return register


def tool(name):
    """The path of a program the case needs."""
    path = shutil.which(name)
    if path is None:
        raise Skip(f"{name} is not installed")
    return path


def equal(got, wanted, what=""):
    assert got == wanted, f"{what or 'value'}: got {got!r}, wanted {wanted!r}"


def within(got, low, high, what=""):
    assert low <= got <= high, f"{what or 'value'}: got {got!r}, wanted {low!r} to {high!r}"
