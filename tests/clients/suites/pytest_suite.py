"""A plugin for suites of other projects: writes what became of each test, and has them talk to the server under test.

ANNULUS_SUITE_PORT is its port: what these suites connect to by its default, 6379, is there.
ANNULUS_SUITE_RESULTS is the file for the results: a line for each test, its outcome and its name.
"""

import os
import socket
import tracemalloc

# redis-py's suite traces its own memory. Of no use here, and it makes the suite half as fast.
tracemalloc.start = lambda *_: None
tracemalloc.stop = lambda: None

DEFAULT_PORT = 6379
PORT = int(os.environ["ANNULUS_SUITE_PORT"])
getaddrinfo = socket.getaddrinfo


def getaddrinfo_here(host, port, *args, **options):
    return getaddrinfo(host, PORT if port == DEFAULT_PORT else port, *args, **options)


socket.getaddrinfo = getaddrinfo_here

outcomes = {}
WORSE = ["passed", "skipped", "failed"]


def pytest_runtest_logreport(report):
    outcome = report.outcome
    if hasattr(report, "wasxfail"):
        # Its authors expect it to fail.
        outcome = "passed"
    before = outcomes.get(report.nodeid, "passed")
    outcomes[report.nodeid] = max(before, outcome, key=WORSE.index)


def pytest_collectreport(report):
    if report.failed:
        outcomes[report.nodeid] = "failed"


def pytest_sessionfinish():
    with open(os.environ["ANNULUS_SUITE_RESULTS"], "w", encoding="utf-8") as file:
        file.writelines(f"{outcome} {name}\n" for name, outcome in outcomes.items())
