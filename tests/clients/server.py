"""One server process for a client test, what /proc says about it, and a socket that speaks RESP by the byte.

The server lives in a temporary folder, listens on 127.0.0.1 alone and is stopped by its own process id.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

READY = "Ready to accept connections"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, seconds, what):
    """Polls until `condition()` is true, and returns its value."""
    until = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.01)


class Server:
    """`wrap` is put before the program, such as ["prlimit", "--nofile=64"]; `preexec` runs in the child."""

    def __init__(self, program, shards=None, args=(), wrap=(), preexec=None, expect_ready=True, port=None):
        self.dir = tempfile.mkdtemp(prefix="annulus-client-test-")
        os.chmod(self.dir, 0o777)
        self.port = port or free_port()
        self.shards = shards
        self.program = program
        if wrap:
            # Another user may not be able to reach the folder that the program was built in.
            program = shutil.copy(program, self.dir)
            os.chmod(program, 0o755)
        line = [*wrap, program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self.dir]
        if shards is not None:
            line += ["--shards", str(shards)]
        self.log_path = os.path.join(self.dir, "log.txt")
        self.started = time.monotonic()
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                line + list(args), cwd=self.dir, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=preexec
            )
        self.ready_after = None
        if expect_ready:
            try:
                wait_for(lambda: READY in self.log() or self.process.poll() is not None, 20, "the ready line")
                self.ready_after = time.monotonic() - self.started
                assert self.process.poll() is None, f"did not start, exit {self.process.poll()}:\n{self.tail()}"
            except AssertionError:
                self.close()
                raise

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def tail(self, lines=25):
        return "\n".join(self.log().splitlines()[-lines:])

    def signal(self, number=signal.SIGTERM, seconds=10):
        """Sends a signal that ends the server, and returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def raw(self, **options):
        return Raw(self.port, **options)

    def call(self, *argv):
        """One command on a connection of its own."""
        with self.raw() as connection:
            return connection.call(*argv)

    def info(self, section="all"):
        text = self.call("INFO", section).decode()
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def resident_kib(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            return int(re.search(r"VmRSS:\s+(\d+) kB", status.read())[1])

    def cpu_ticks(self):
        """User and system time so far, of all threads, in ticks of 1/100 s."""
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def limit(self, name):
        """A soft limit as the kernel holds it, such as 'Max open files'."""
        with open(f"/proc/{self.pid}/limits", encoding="ascii") as limits:
            for line in limits:
                if line.startswith(name):
                    return int(line[len(name) :].split()[0])
        raise AssertionError(f"no limit called {name}")


class ReplyError(Exception):
    """An error reply; its text is the argument."""


def encode(*argv):
    """A command as an array of bulk strings."""
    parts = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in argv]
    return b"".join([b"*%d\r\n" % len(parts), *(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)])


class Raw:
    """A RESP2 connection without a library: errors are raised as `ReplyError`, nil is None."""

    def __init__(self, port, timeout=10, rcvbuf=None):
        self.socket = socket.socket()
        if rcvbuf:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.socket.settimeout(timeout)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.file.close()
        self.socket.close()

    def cut(self):
        """Closes with a reset instead of a polite end."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.close()

    def send(self, data):
        self.socket.sendall(data)

    def call(self, *argv):
        self.send(encode(*argv))
        return self.reply()

    def reply(self):
        line = self.file.readline()
        if not line:
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            raise ReplyError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            size = int(rest)
            return None if size < 0 else self.file.read(size + 2)[:-2]
        if kind == b"*":
            count = int(rest)
            return None if count < 0 else [self.reply() for _ in range(count)]
        raise AssertionError(f"no RESP2 reply starts like {line!r}")

    def error(self):
        """The text of the next reply, which has to be an error."""
        try:
            reply = self.reply()
        except ReplyError as error:
            return str(error)
        raise AssertionError(f"got {reply!r} where an error was due")

    def is_closed(self):
        """True when the server closes the connection within the timeout; what comes before is dropped."""
        try:
            while self.file.read(65536):
                pass
            return True
        except ConnectionError:
            return True
        except TimeoutError:
            return False
