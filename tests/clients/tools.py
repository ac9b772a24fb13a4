"""redis-cli in its modes and redis-benchmark: what an operator has in hand must run clean."""

import csv
import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

from cases import case, equal, tool


def cli(server, *args, stdin=None, timeout=30):
    """Runs redis-cli and returns what it printed; anything on standard error or a bad exit fails."""
    done = subprocess.run(
        [tool("redis-cli"), "-p", str(server.port), *args],
        input=stdin,
        stdin=None if stdin is not None else subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"redis-cli {args} ended with {done.returncode}: {done.stdout + done.stderr!r}"
    equal(done.stderr, b"", f"standard error of redis-cli {args}")
    return done.stdout.decode()


class Terminal:
    """A program that believes that a person sits in front of it."""

    def __init__(self, *argv):
        self.screen = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            # Without a size, line editors ask the terminal for the cursor's place and wait for an answer.
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
            os.environ.update(TERM="xterm", REDISCLI_HISTFILE="/dev/null", HOME="/tmp")
            os.execvp(argv[0], argv)

    def type(self, text):
        os.write(self.fd, text.encode())

    def read_until(self, pattern, seconds=10):
        """Reads until the screen since the last match matches, and returns that text."""
        until = time.monotonic() + seconds
        # Colours and cursor moves are left out of what is matched and returned.
        while not re.search(pattern, shown := re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", self.screen)):
            ready, _, _ = select.select([self.fd], [], [], max(0, until - time.monotonic()))
            assert ready, f"the screen never showed {pattern!r}: {self.screen!r}"
            self.screen += os.read(self.fd, 65536).decode(errors="replace")
        self.screen = ""
        return shown

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


def fill(server, keys):
    lines = "".join(f"SET key:{n} {'x' * (n % 50 + 1)}\r\n" for n in range(keys))
    out = cli(server, "--pipe", stdin=lines.encode())
    assert f"errors: 0, replies: {keys}" in out, out


@case()
def redis_cli_one_shot_in_both_protocols(server):
    equal(cli(server, "SET", "k", "v"), "OK\n")
    equal(cli(server, "GET", "k"), "v\n")
    equal(cli(server, "-3", "GET", "k"), "v\n")
    equal(cli(server, "-n", "5", "GET", "k"), "\n")
    equal(cli(server, "--no-raw", "GET", "none"), "(nil)\n")
    equal(cli(server, "-x", "SET", "bin", stdin=b"a\0\r\nb"), "OK\n")
    equal(cli(server, "STRLEN", "bin"), "5\n")
    assert "proto 3" in cli(server, "-3", "HELLO").replace("\n", " ")
    assert "redis_version:" in cli(server, "INFO", "server")
    equal(cli(server, "-e", "--csv", "MGET", "k", "none"), '"v",NULL\n')


@case()
def redis_cli_pipe_and_scan(server):
    fill(server, 3000)
    equal(cli(server, "DBSIZE"), "3000\n")
    found = cli(server, "--scan").split()
    equal(sorted(found), sorted(f"key:{n}" for n in range(3000)), "--scan")
    equal(len(cli(server, "--scan", "--pattern", "key:29*").split()), 111)
    replies = "".join(f"*3\r\n$3\r\nSET\r\n$4\r\np{n:03}\r\n$1\r\nx\r\n" for n in range(500))
    assert "errors: 1, replies: 501" in run_pipe_with_errors(server, replies + "INCR p000\r\n")


def run_pipe_with_errors(server, text):
    """--pipe ends with 1 when a reply was an error, and says how many."""
    done = subprocess.run(
        [tool("redis-cli"), "-p", str(server.port), "--pipe"], input=text.encode(), capture_output=True, timeout=30, check=False
    )
    equal(done.returncode, 1, "exit code of --pipe with an error reply")
    return done.stdout.decode()


@case()
def redis_cli_bigkeys_and_memkeys(server):
    fill(server, 500)
    cli(server, "SET", "giant", "y" * 4000)
    out = cli(server, "--bigkeys")
    assert re.search(r'Biggest string found ["\']+giant["\']+ has 4000 bytes', out), out
    assert re.search(r"501 strings with \d+ bytes", out), out
    out = cli(server, "--memkeys")
    assert re.search(r'Biggest string found ["\']+giant["\']+ has \d{4} bytes', out), out
    out = cli(server, "--memkeys-samples", "5")
    assert "501 strings" in out, out


@case(args=["--maxmemory-policy", "allkeys-lfu"])
def redis_cli_hotkeys(server):
    fill(server, 50)
    out = cli(server, "--hotkeys")
    assert "Sampled 50 keys in the keyspace!" in out, out


@case(args=["--slowlog-log-slower-than", "0", "--latency-monitor-threshold", "1"])
def redis_cli_reads_the_logs_of_slow_things(server):
    fill(server, 50)
    assert "SET" in cli(server, "--no-raw", "SLOWLOG", "GET", "5")
    assert int(cli(server, "SLOWLOG", "LEN")) >= 50
    cli(server, "LATENCY", "DOCTOR")
    cli(server, "LATENCY", "LATEST")


@case()
def redis_cli_latency(server):
    done = subprocess.Popen(
        [tool("redis-cli"), "-p", str(server.port), "--latency", "--raw"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, faults = done.communicate(timeout=30)
    equal((done.returncode, faults), (0, b""))
    lowest, highest, average, samples = out.decode().split()[:4]
    assert int(samples) >= 20 and float(average) < 50, out
    assert int(lowest) <= float(average) + 1 <= int(highest) + 1, (lowest, average, highest)


@case()
def redis_cli_stat(server):
    fill(server, 321)
    terminal = Terminal(tool("redis-cli"), "-p", str(server.port), "--stat", "-i", "0.1")
    try:
        rows = terminal.read_until(r"(\n321 .*){3}")
        assert re.search(r"\n321 +[\d.]+[BKMG] +\d+ +\d+ +\d+ \(\+\d+\) +\d+", rows), rows
    finally:
        terminal.close()


@case()
def redis_cli_interactive_help_and_completion(server):
    terminal = Terminal(tool("redis-cli"), "-p", str(server.port))
    try:
        prompt = rf"127\.0\.0\.1:{server.port}> $"

        def ask(line, answer, prompt=prompt):
            """Types a line; returns what stands before the next prompt. What is typed before that prompt shows can be lost: the
            line editor drops waiting input when it takes the terminal over."""
            terminal.type(line + "\r")
            return terminal.read_until(rf"{answer}[\s\S]*{prompt}")

        terminal.read_until(prompt)
        # Completion: tab walks the names that start so; the first is shown in place of what was typed.
        terminal.type("getr\t")
        terminal.read_until("GETRANGE")
        terminal.type("\x15")
        # Hints come from the arguments in COMMAND DOCS.
        terminal.type("GETRANGE")
        terminal.type(" ")
        terminal.read_until("key start end")
        terminal.type("\x15")
        text = ask("help GETEX", r"group: \S+")
        for part in ("GETEX", "key", "EX", "PERSIST", "summary:", "since: 6.2.0", "group: string"):
            assert part in text, f"help GETEX has no {part!r}: {text!r}"
        assert "KEEPTTL" in ask("help SET", r"group: string")
        assert "EXPIRE" in ask("help @generic", r"WAIT|UNLINK|TYPE")
        ask("incr counter", r"\(integer\) 1")
        ask("select 3", "OK", rf"127\.0\.0\.1:{server.port}\[3\]> $")
    finally:
        terminal.close()


@case()
def redis_benchmark_default_tests(server):
    benchmark = [tool("redis-benchmark"), "-p", str(server.port), "-n", "5000", "--csv"]
    for extra in ([], ["-P", "16", "-r", "1000"], ["-3", "-P", "4"], ["-k", "0", "-n", "300"], ["-d", "20000", "-n", "500"]):
        names = ["ping_inline", "ping_mbulk", "set", "get", "incr", "mset"]
        done = subprocess.run(
            [*benchmark, *extra, "-t", ",".join(names)], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        # With -k 0 it warns by itself about the ports that it is going to use up.
        equal([line for line in done.stderr.splitlines() if "Keepalive" not in line], [], f"standard error with {extra}")
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        equal(len(rows), len(names), f"rows with {extra}")
        for row in rows:
            assert float(row["rps"]) > 0, row


@case()
def redis_benchmark_any_command(server):
    for command in (["GETRANGE", "k", "0", "-1"], ["SETEX", "key:__rand_int__", "10", "v"], ["MGET", *["key:__rand_int__"] * 10]):
        done = subprocess.run(
            [tool("redis-benchmark"), "-p", str(server.port), "-n", "2000", "-q", "-r", "100", "-P", "10", *command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        equal((done.returncode, done.stderr), (0, ""), " ".join(command[:1]))
        assert "requests per second" in done.stdout, done.stdout
