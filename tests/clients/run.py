#!/usr/bin/env python3
"""Real clients and tools against a running server.

    tests/clients/run.py --bin target/asserts/annulus            everything
    tests/clients/run.py --bin redis-server --only caching        one part, against stock Redis
    tests/clients/run.py --bin target/asserts/annulus --only suite --whole      suites of other projects, all of them
    tests/clients/run.py --list

Needs what tests/requirements.txt names, and node with `npm ci` done in tests/clients/node for the parts in
JavaScript; tests/run installs both. Ends with a line 'N passed, N failed' and exit code 0 or 1.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
import traceback

import cases
from server import Server

import api_surface  # noqa: F401  (importing a module registers its cases)
import caching  # noqa: F401
import client_side_cache  # noqa: F401
import cluster  # noqa: F401
import connections  # noqa: F401
import data_types  # noqa: F401
import hostile  # noqa: F401
import metrics  # noqa: F401
import process  # noqa: F401
import pubsub  # noqa: F401
import python_client  # noqa: F401
import suites  # noqa: F401
import tls  # noqa: F401
import tools  # noqa: F401


def run(case, program, shards, ours):
    """Runs one case at one shard count; returns nothing or raises."""
    count = shards if ours else None
    if case.start:
        started = []

        def start(args=(), **options):
            server = Server(program, shards=options.pop("shards", count) if ours else None, args=args, **options)
            started.append(server)
            return server

        try:
            case.run(start)
        except Exception:
            for server in started:
                print(f"--- log of port {server.port}:\n{server.tail()}")
            raise
        finally:
            for server in started:
                server.close()
        return
    server = Server(program, shards=count, args=case.args)
    try:
        case.run(server)
        assert server.process.poll() is None, f"the server died, exit {server.process.poll()}"
    except Exception:
        print(f"--- log of port {server.port}:\n{server.tail()}")
        raise
    finally:
        server.close()


def reason(error):
    """What an exception says, and the line of a client test that it came from, in a few lines."""
    frames = traceback.extract_tb(error.__traceback__)
    here = os.path.dirname(os.path.abspath(__file__))
    ours = [frame for frame in frames if os.path.dirname(os.path.abspath(frame.filename)) == here] or frames
    # The innermost is mostly a check of cases.py or server.py; what called it names the expectation.
    places = " < ".join(f"{os.path.basename(frame.filename)}:{frame.lineno} {frame.line}" for frame in ours[:0:-1])
    text = f"{type(error).__name__}: {error}"
    return "\n    ".join([*text[:1500].splitlines()[:12], f"at {places}"])


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--bin", help="the server to test")
    options.add_argument("--only", default="", help="cases whose name contains this; several by comma")
    options.add_argument("--shards", help="instead of each case's own shard counts, such as 1,2")
    options.add_argument("--whole", action="store_true", help="also what takes longer than CI has time for")
    options.add_argument("--list", action="store_true", help="name the cases and leave")
    options = options.parse_args()
    wanted = [word for word in options.only.split(",") if word]
    chosen = [case for case in cases.ALL if not wanted or any(word in case.name for word in wanted)]
    if options.list:
        print("\n".join(case.name for case in chosen))
        return 0
    program = shutil.which(options.bin or "")
    if program is None:
        sys.exit("--bin: name the server to test")
    program = os.path.abspath(program)
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    ours = not version.startswith("Redis server")
    cases.WHOLE = options.whole
    in_ci = os.environ.get("CI") == "true"
    passed, failed, skipped = 0, [], 0
    for case in chosen:
        counts = case.whole if options.whole else case.shards
        if options.shards:
            counts = [int(n) for n in options.shards.split(",")]
        for shards in counts if ours else counts[:1]:
            name = f"{case.name} [{shards} shards]" if ours else case.name
            if case.ours and not ours:
                continue
            began = time.monotonic()
            try:
                run(case, program, shards, ours)
                verdict, passed = "ok", passed + 1
            except cases.Skip as skip:
                verdict = f"skipped: {skip}"
                skipped += 1
                if in_ci:
                    failed.append((name, verdict))
            except Exception as error:
                traceback.print_exc(file=sys.stdout)
                verdict = "FAILED"
                failed.append((name, reason(error)))
            print(f"{name} ... {verdict} ({time.monotonic() - began:.1f} s)", flush=True)
    # The end of the log is all that is seen of a long one, so the reasons are said again there.
    for name, why in failed:
        print(f"failed: {name}\n    {why}")
    print(f"{passed} passed, {len(failed)} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
