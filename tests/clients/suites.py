"""Suites that other projects have written for Redis, against our server: redis-py's, redis-rs's and RQ's.

Each comes from its package, as its registry has it, into target/suites; nothing of it is kept here. What is kept is
suites/NAME.txt: the tests that fail, with the reason. A test that fails and is not there fails the case, and so does one that is
there and passes, so the lists shrink. `either` marks reasons for which a test may fail or pass: races of its own.

Under `run.py --whole` redis-py's runs at every number of shards in both protocols, which CI has no time for. Deliberately absent:
tests of clusters, Sentinel and modules, of scripts by themselves, and redis-py's second set over asyncio.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor

import cases
from cases import case

HERE = os.path.dirname(os.path.abspath(__file__))
LISTS = os.path.join(HERE, "suites")
ROOT = os.path.dirname(os.path.dirname(HERE))
TARGET = os.environ.get("CARGO_TARGET_DIR") or os.path.join(ROOT, "target")
KEPT = os.path.join(os.path.abspath(TARGET), "suites")
SECONDS = 600


def known_failures(name, tags):
    """Test to whether it may also pass, from a list. A reason may be for some runs alone: [RESP3] or [2 shards]."""
    known, either, here = {}, False, True
    with open(os.path.join(LISTS, f"{name}.txt"), encoding="utf-8") as file:
        for line in file:
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            if line[0] != " ":
                assert text.endswith(":"), f"{name}.txt: a reason ends with a colon: {text}"
                either = text.startswith("either")
                here = all(tag in tags for tag in re.findall(r"\[([^]]*)\]", text))
            elif here:
                known[text] = either
    return known


def judge(name, outcomes, tags):
    """Compares outcomes with what is known, prints the figures, and raises if something is not as it was."""
    known = known_failures(name, tags)
    failed = {test for test, outcome in outcomes.items() if outcome == "failed"}
    passed = {test for test, outcome in outcomes.items() if outcome == "passed"}
    new = sorted(failed - known.keys())
    over = sorted(test for test, either in known.items() if test in passed and not either)
    skipped = len(outcomes) - len(passed) - len(failed)
    print(f"  {name}, {', '.join(tags)}: {len(passed)} pass, {len(failed)} fail, {skipped} left out by their authors")
    said = [f"fails: {test}" for test in new] + [f"is listed and passes: {test}" for test in over]
    assert not said, f"{name}, {', '.join(tags)}, against suites/{name}.txt:\n" + "\n".join(said)
    assert len(passed) > len(failed), f"{name}: hardly anything has run"


def source(package, version):
    """The folder of a package's source distribution, with its tests."""
    folder = os.path.join(KEPT, f"{package}-{version}")
    if not os.path.isdir(folder):
        os.makedirs(KEPT, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
        run = [*pip, "--no-binary", package, f"{package}=={version}", "-d", KEPT]
        done = subprocess.run(run, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, f"{package} {version} was not downloaded:\n{done.stdout}{done.stderr}"
        with tarfile.open(f"{folder}.tar.gz") as archive:
            archive.extractall(folder + ".new", filter="data")
        os.rename(os.path.join(folder + ".new", f"{package}-{version}"), folder)
        shutil.rmtree(folder + ".new")
    return folder


def pytest(server, folder, args, log):
    """Runs tests of a suite against a server. Returns what became of each."""
    results = os.path.join(server.dir, "results.txt")
    environment = os.environ | {
        "ANNULUS_SUITE_PORT": str(server.port),
        "ANNULUS_SUITE_RESULTS": results,
        "PYTHONPATH": LISTS,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    options = ["-p", "pytest_suite", "-p", "no:cacheprovider", "-q", "--tb=short", "--timeout", "60", "-o", "addopts="]
    with open(log, "w", encoding="utf-8") as out:
        run = [sys.executable, "-m", "pytest", *options, *args]
        subprocess.run(run, cwd=folder, env=environment, stdout=out, stderr=out, timeout=SECONDS, check=False)
    with open(results, encoding="utf-8") as file:
        return {name: outcome for outcome, name in (line.rstrip("\n").split(" ", 1) for line in file)}


def side_by_side(jobs):
    """Runs functions at the same time and returns their results, or raises what one of them raised."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        return [job.result() for job in [pool.submit(job) for job in jobs]]


# In halves that take about as long, each with a server of its own.
REDIS_PY = [
    ["commands"],
    [
        *("pubsub", "pipeline", "lock", "client", "encoding", "monitor", "connection", "connection_pool", "cache"),
        *("keyspace_notifications", "multiprocessing"),
    ],
]


def redis_py_suite(start, protocol):
    folder = source("redis", "8.1.0")

    def run(tests):
        server = start(args=["--enable-debug-command", "yes"])
        options = ["-m", "not onlycluster", "--protocol", str(protocol), "-o", "log_level=CRITICAL"]
        url = ["--redis-url", f"redis://localhost:{server.port}/0"]
        log = os.path.join(KEPT, f"redis-py-{server.shards}-{protocol}-{os.path.basename(tests[0])}.log")
        return server.shards, pytest(server, folder, [*options, *url, *tests], log)

    jobs = [[f"tests/test_{name}.py" for name in part] for part in REDIS_PY]
    outcomes = {}
    for shards, some in side_by_side([lambda job=job: run(job) for job in jobs]):
        outcomes |= some
    judge("redis_py", outcomes, [f"RESP{protocol}", f"{shards} shards"])


@case(shards=(1,), whole=(1, 2), start=True)
def redis_py_suite_in_resp2(start):
    redis_py_suite(start, 2)


@case(shards=(2,), whole=(1, 2), start=True)
def redis_py_suite_in_resp3(start):
    redis_py_suite(start, 3)


@case(shards=(2,), whole=(1, 2))
def rq_suite(server):
    folder = source("rq", "3.0.0")
    tests = [f"tests/test_{name}.py" for name in ("queue", "job", "registry", "results", "scheduler")]
    outcomes = pytest(server, folder, tests, os.path.join(KEPT, f"rq-{server.shards}.log"))
    judge("rq", outcomes, [f"{server.shards} shards"])


REDIS_RS = ["basic", "streams", "acl", "geospatial", "bignum"]
REDIS_RS_VERSION = "1.8.1"


def built_redis_rs():
    """Test programs of redis-rs, by name: its tests from where cargo keeps the crate, built by a manifest of ours."""
    cargo = cases.tool("cargo")
    folder = os.path.join(KEPT, "redis-rs")
    os.makedirs(os.path.join(folder, "src"), exist_ok=True)
    for name in ("Cargo.toml", "Cargo.lock"):
        shutil.copy(os.path.join(LISTS, "redis_rs", name), folder)
    open(os.path.join(folder, "src", "lib.rs"), "w", encoding="utf-8").close()
    environment = os.environ | {"CARGO_TARGET_DIR": os.path.join(folder, "target")}

    def run(*args):
        done = subprocess.run(
            [cargo, *args], cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False
        )
        assert done.returncode == 0, f"cargo {args[0]}, redis-rs:\n{done.stderr[-3000:]}"
        return done.stdout

    packages = json.loads(run("metadata", "--format-version", "1", "--locked"))["packages"]
    crate = next(p for p in packages if p["name"] == "redis" and p["version"] == REDIS_RS_VERSION)
    tests = os.path.join(os.path.dirname(crate["manifest_path"]), "tests")
    shutil.rmtree(os.path.join(folder, "tests"), ignore_errors=True)
    shutil.copytree(os.path.join(tests, "support"), os.path.join(folder, "tests", "support"))
    for name in REDIS_RS:
        # With its times, so that cargo sees what it has built before.
        shutil.copy2(os.path.join(tests, f"test_{name}.rs"), os.path.join(folder, "tests"))
    messages = map(json.loads, run("test", "--no-run", "--locked", "--message-format", "json", "-q").splitlines())
    built = {m["target"]["name"]: m["executable"] for m in messages if m.get("executable")}
    return {name: built[f"test_{name}"] for name in REDIS_RS}


@case(shards=(1, 2), start=True)
def redis_rs_suite(start):
    cases.tool("redis-server")
    programs = built_redis_rs()
    # Its tests start the server themselves, each its own: this one is asked which program it is.
    server = start()
    program = os.path.join(server.dir, "server")
    number = "" if server.shards is None else f"--shards {server.shards}"
    with open(program, "w", encoding="utf-8") as script:
        script.write(f'#!/bin/sh\nexec "{server.program}" {number} "$@"\n')
    os.chmod(program, 0o755)
    faults = []
    for protocol in ("RESP2", "RESP3"):
        for transport in ("tcp", "unix"):
            environment = os.environ | {
                "REDISRS_SERVER_BIN": program,
                "REDISRS_SERVER_TYPE": transport,
                "PROTOCOL": protocol,
            }
            outcomes = {}
            for name, test in programs.items():
                run = [test, "--test-threads", "2"]
                done = subprocess.run(
                    run, cwd=server.dir, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
                )
                with open(os.path.join(KEPT, f"redis-rs-{server.shards}-{protocol}-{transport}-{name}.log"), "w") as log:
                    log.write(done.stdout + done.stderr)
                words = {"ok": "passed", "FAILED": "failed", "ignored": "skipped"}
                for found, verdict in re.findall(r"^test (\S+).* \.\.\. (ok|FAILED|ignored)", done.stdout, re.M):
                    outcomes[f"{name}::{found}"] = words[verdict]
            try:
                judge("redis_rs", outcomes, [protocol, transport, f"{server.shards} shards"])
            except AssertionError as fault:
                faults.append(str(fault))
    assert not faults, "\n".join(faults)
