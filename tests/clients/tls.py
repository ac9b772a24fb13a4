"""The TLS port with real tools and libraries: redis-cli, redis-benchmark, redis-py, ioredis, node-redis, openssl s_client.

The certificates are made here, by the openssl command. Where a case is not marked `ours`, stock Redis passes it, too.
"""

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cases import Skip, case, equal, tool
from python_client import raises
from server import ReplyError, free_port, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))


def openssl(*args, cwd, stdin=None, check=True, timeout=30):
    done = subprocess.run(
        [tool("openssl"), *args], cwd=cwd, input=stdin, capture_output=True, timeout=timeout, check=False
    )
    assert not check or done.returncode == 0, f"openssl {args} ended with {done.returncode}: {done.stderr.decode()}"
    return done


class Certificates:
    """An authority, and what it signs, in a folder."""

    def __init__(self, folder):
        self.folder = folder
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt", cwd=folder)  # fmt: skip
        self.sign("server")
        self.sign("client")

    def path(self, name):
        return os.path.join(self.folder, name)

    def sign(self, name, key=("ec", "-pkeyopt", "ec_paramgen_curve:P-256"), version=3):
        """Makes `name.crt` and `name.key`, for the common name `name`."""
        openssl("req", "-newkey", *key, "-nodes", "-subj", f"/O=Test/CN={name}", "-keyout", f"{name}.key",
                "-out", f"{name}.csr", cwd=self.folder)  # fmt: skip
        extensions = []
        if version == 3:
            with open(self.path("extensions"), "w", encoding="ascii") as file:
                file.write("subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
            extensions = ["-extfile", "extensions"]
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                "-sha256", "-out", f"{name}.crt", *extensions, cwd=self.folder)  # fmt: skip

    def directives(self, tls_port, name="server"):
        return ["--tls-port", str(tls_port), "--tls-cert-file", self.path(f"{name}.crt"), "--tls-key-file",
                self.path(f"{name}.key"), "--tls-ca-cert-file", self.path("ca.crt")]  # fmt: skip


def secured(start, *more, prepare=None, **options):
    """A server with a TLS port as `server.tls_port`, and its certificates as `server.certificates`."""
    certificates = Certificates(tempfile.mkdtemp(prefix="annulus-tls-"))
    atexit.register(shutil.rmtree, certificates.folder, True)
    if prepare:
        prepare(certificates)
    port = free_port()
    server = start(args=[*certificates.directives(port), *more], **options)
    server.certificates, server.tls_port = certificates, port
    return server


def client_files(server, name="client"):
    files = server.certificates
    return ["--tls", "--cacert", files.path("ca.crt"), "--cert", files.path(f"{name}.crt"), "--key", files.path(f"{name}.key")]


def cli(server, *args, stdin=None, port=None, files=None, status=0):
    line = [tool("redis-cli"), "-h", "localhost", "-p", str(port or server.tls_port)]
    line += client_files(server) if files is None else files
    done = subprocess.run([*line, *args], input=stdin, capture_output=True, timeout=30, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == status, f"redis-cli {args} ended with {done.returncode}: {said}"
    return said


def python_client(server, name="client", **options):
    files = server.certificates
    return redis.Redis(
        host="localhost",
        port=server.tls_port,
        ssl=True,
        ssl_ca_certs=files.path("ca.crt"),
        ssl_certfile=files.path(f"{name}.crt") if name else None,
        ssl_keyfile=files.path(f"{name}.key") if name else None,
        **options,
    )


@case(start=True, shards=(1, 2))
def redis_cli_over_tls(start):
    server = secured(start)
    equal(cli(server, "SET", "k", "v"), "OK\n")
    equal(cli(server, "-3", "GET", "k"), "v\n")
    equal(server.call("GET", "k"), b"v", "the same data on the plain port")
    lines = "".join(f"SET key:{n} {'x' * (n % 50 + 1)}\r\n" for n in range(3000))
    assert "errors: 0, replies: 3000" in cli(server, "--pipe", stdin=lines.encode())
    equal(len(cli(server, "--scan").split()), 3001)
    equal(cli(server, "-x", "SET", "big", stdin=b"y" * 5_000_000), "OK\n")
    equal(cli(server, "GET", "big"), "y" * 5_000_000 + "\n")
    without = ["--tls", "--cacert", server.certificates.path("ca.crt")]
    said = cli(server, "PING", files=without, status=1)
    assert "Error" in said or "error" in said, said
    wait_for(lambda: "Error accepting a client connection: " in server.log(), 5, "the line of the log")


@case(start=True, shards=(1, 2))
def redis_benchmark_over_tls(start):
    server = secured(start)
    line = [tool("redis-benchmark"), "-p", str(server.tls_port), *client_files(server), "-q", "--csv", "-n", "20000"]
    done = subprocess.run([*line, "-P", "16", "-t", "set,get,lpush,lrange_100"], capture_output=True, timeout=120, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0 and "Error" not in said, said
    equal(len([row for row in said.splitlines() if row.startswith('"')]), 5 + 1, said)


@case(start=True, shards=(1, 2))
def redis_py_over_tls(start):
    server = secured(start)
    for protocol in (2, 3):
        client = python_client(server, protocol=protocol)
        equal(client.ping(), True)
        equal(client.set("k", "v"), True)
        value = os.urandom(1_000_000)
        equal(client.set("bin", value), True)
        equal(client.get("bin"), value)
        with client.pipeline(transaction=True) as pipe:
            for n in range(500):
                pipe.incr(f"n{n % 7}")
            equal(len(pipe.execute()), 500)
        client.flushall()
        listener = client.pubsub()
        listener.subscribe("news")
        equal(listener.get_message(timeout=5)["type"], "subscribe")
        equal(client.publish("news", "hello"), 1)
        equal(listener.get_message(timeout=5)["data"], b"hello")
        listener.close()
        popped = []
        blocked = threading.Thread(target=lambda c=client, into=popped: into.extend(c.blpop("q", 5)))
        blocked.start()
        wait_for(lambda c=client: int(c.info("clients")["blocked_clients"]) == 1, 5, "a blocked client")
        client.rpush("q", "x")
        blocked.join(10)
        equal(popped, [b"q", b"x"], "BLPOP")
        client.close()
    try:
        python_client(server, name=None).ping()
    except redis.ConnectionError:
        return
    raise AssertionError("a client without a certificate was served")


@case(start=True, shards=(1, 2))
def node_clients_over_tls(start):
    server = secured(start)
    folder = os.path.join(HERE, "node")
    if not os.path.isdir(os.path.join(folder, "node_modules")):
        raise Skip("tests/clients/node has no node_modules: npm ci")
    files = [server.certificates.path(name) for name in ("ca.crt", "client.crt", "client.key")]
    done = subprocess.run([tool("node"), os.path.join(folder, "tls.mjs"), str(server.tls_port), *files],
                          capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert done.returncode == 0, f"tls.mjs ended with {done.returncode}:\n{done.stdout}{done.stderr}"


@case(start=True, shards=(1,))
def only_tls_is_enough(start):
    def start_without_plain_port(args=(), **options):
        return start(args=[*args, "--port", "0"], **options)

    server = secured(start_without_plain_port)
    assert f"tcp_port:{server.tls_port}" in cli(server, "INFO", "server")
    assert f"laddr=127.0.0.1:{server.tls_port}" in cli(server, "CLIENT", "INFO"), cli(server, "CLIENT", "INFO")


KEYS = {
    "rsa": ("rsa:2048",),
    "p384": ("ec", "-pkeyopt", "ec_paramgen_curve:P-384"),
    "ed25519": ("ed25519",),
}


@case(start=True, shards=(1,))
def keys_of_every_kind_that_is_supported(start):
    server = secured(start)
    files = server.certificates
    for name, key in KEYS.items():
        files.sign(name, key=key)
        server.call("CONFIG", "SET", "tls-cert-file", files.path(f"{name}.crt"), "tls-key-file", files.path(f"{name}.key"))
        equal(cli(server, "PING"), "PONG\n", name)
        equal(cli(server, "PING", files=client_files(server, name)), "PONG\n", f"a client with {name}")
    # The forms of OpenSSL's older commands.
    for kind, command in {"rsa": ["rsa", "-traditional"], "p384": ["ec"]}.items():
        openssl(*command, "-in", f"{kind}.key", "-out", "old.key", cwd=files.folder)
        server.call("CONFIG", "SET", "tls-cert-file", files.path(f"{kind}.crt"), "tls-key-file", files.path("old.key"))
        equal(cli(server, "PING"), "PONG\n", command)


@case(start=True, shards=(1,), ours=True)
def encrypted_keys_are_opened_or_refused_by_name(start):
    server = secured(start)
    files = server.certificates
    files.sign("sealed", key=("rsa:2048",))
    folder, crt = files.folder, files.path("sealed.crt")

    def set_key(name, password):
        pairs = ["tls-cert-file", crt, "tls-key-file", files.path(name), "tls-key-file-pass", password]
        try:
            return server.call("CONFIG", "SET", *pairs)
        except ReplyError as error:
            return str(error)

    for name, options in {"aes": ["-v2", "aes-256-cbc"], "aes128": ["-v2", "aes-128-cbc"], "scrypt": ["-scrypt"]}.items():
        openssl("pkcs8", "-topk8", "-in", "sealed.key", *options, "-passout", "pass:sesame", "-out", f"{name}.key", cwd=folder)
        equal(set_key(f"{name}.key", "sesame"), b"OK", name)
        equal(cli(server, "PING"), "PONG\n", name)
        assert "tls-key-file-pass is wrong" in set_key(f"{name}.key", "open"), name
        assert "tls-key-file-pass is not set" in set_key(f"{name}.key", ""), name
    openssl("rsa", "-traditional", "-aes128", "-in", "sealed.key", "-passout", "pass:sesame", "-out", "old.key", cwd=folder)
    assert "openssl pkcs8 -topk8" in set_key("old.key", "sesame")
    openssl("pkcs8", "-topk8", "-v1", "PBE-SHA1-3DES", "-in", "sealed.key", "-passout", "pass:sesame", "-out", "weak.key", cwd=folder)
    assert "not supported" in set_key("weak.key", "sesame")
    equal(cli(server, "PING"), "PONG\n", "the last good one is served still")


@case(start=True, shards=(1,), ours=True)
def a_version_1_certificate_is_served_with_a_remark(start):
    """As `openssl x509 -req` makes them without extensions: redis-cli takes them; from a client they are refused."""
    server = secured(start, prepare=lambda files: files.sign("bare", version=1))
    files = server.certificates
    equal(server.call("CONFIG", "SET", "tls-cert-file", files.path("bare.crt"), "tls-key-file", files.path("bare.key")), b"OK")
    shown = openssl("x509", "-in", "bare.crt", "-noout", "-text", cwd=files.folder).stdout.decode()
    equal(cli(server, "PING"), "PONG\n")
    if "Version: 1" in shown:
        assert "a certificate of X.509 version 1, which some clients refuse" in server.log(), server.tail()
        cli(server, "PING", files=client_files(server, "bare"), status=1)
        wait_for(lambda: "openssl x509 -req -extfile" in server.log(), 5, "the remedy in the log")


@case(start=True, shards=(1,))
def authorities_in_a_folder(start):
    def hashed(files):
        os.mkdir(files.path("authorities"))
        with open(files.path("ca.crt"), "rb") as pem, open(files.path("authorities/ca.crt"), "wb") as copy:
            copy.write(pem.read())
        openssl("rehash", "authorities", cwd=files.folder)

    server = secured(start, prepare=hashed)
    files = server.certificates
    equal(server.call("CONFIG", "SET", "tls-ca-cert-file", "", "tls-ca-cert-dir", files.path("authorities")), b"OK")
    equal(cli(server, "PING"), "PONG\n")


@case(start=True, shards=(1, 2), ours=True)
def the_common_name_of_a_certificate_is_a_user(start):
    """As Redis 8 has it."""
    server = secured(start, "--requirepass", "sesame", "--tls-auth-clients-user", "CN",
                     prepare=lambda files: [files.sign("default"), files.sign("nobody")])  # fmt: skip
    equal(cli(server, "PING", files=client_files(server, "default")), "PONG\n")
    assert "NOAUTH" in cli(server, "PING", files=client_files(server, "nobody"))
    stranger = python_client(server, name="nobody", protocol=2, retry=Retry(NoBackoff(), 0))
    raises("Authentication required", stranger.ping)
    equal(python_client(server, name="nobody", password="sesame").ping(), True)


def address_of_this_machine():
    """One that is not the loopback's; no packet is sent for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            raise Skip("this machine has the loopback interface alone") from None
        return probe.getsockname()[0]


@case(start=True, shards=(1, 2))
def protected_mode_keeps_outsiders_out_in_words_they_can_read(start):
    address = address_of_this_machine()
    server = secured(start, "--bind", "0.0.0.0", "--protected-mode", "yes")
    files = [*client_files(server), "--insecure"]
    line = [tool("redis-cli"), "-h", address, "-p", str(server.tls_port), *files, "PING"]
    done = subprocess.run(line, capture_output=True, timeout=30, check=False)
    assert b"DENIED" in done.stdout + done.stderr, done
    equal(cli(server, "PING"), "PONG\n", "from this machine")


def s_client(server, *args, stdin=b"", timeout=10):
    files = server.certificates
    line = ["s_client", "-connect", f"localhost:{server.tls_port}", "-CAfile", "ca.crt", "-cert", "client.crt", "-key",
            "client.key", *args]  # fmt: skip
    return openssl(*line, cwd=files.folder, stdin=stdin, check=False, timeout=timeout)


@case(start=True, shards=(1, 2))
def openssl_s_client_and_what_it_may_not(start):
    server = secured(start)
    with server.raw() as neighbour:
        for version in ("-tls1_2", "-tls1_3"):
            done = s_client(server, version, "-quiet", stdin=b"PING\r\nQUIT\r\n")
            assert b"+PONG\r\n" in done.stdout, (version, done.stdout, done.stderr)
            s_client(server, version, "-quiet", stdin=os.urandom(100_000) + b"\r\n*x\r\n")
            equal(neighbour.call("PING"), b"PONG", "after garbage inside TLS")
        done = s_client(server, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
        assert done.returncode != 0, "TLS 1.1 was spoken"
        # A line with R alone asks for renegotiation.
        renegotiating = subprocess.Popen(
            [tool("openssl"), "s_client", "-connect", f"localhost:{server.tls_port}", "-tls1_2", "-CAfile", "ca.crt",
             "-cert", "client.crt", "-key", "client.key"],
            cwd=server.certificates.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            for line in (b"R\n", b"PING\r\n", b"Q\n"):
                time.sleep(0.3)
                renegotiating.stdin.write(line)
                renegotiating.stdin.flush()
            renegotiating.communicate(timeout=10)
        except BrokenPipeError:
            renegotiating.wait(10)
        finally:
            if renegotiating.poll() is None:
                renegotiating.kill()
            renegotiating.wait()
        equal(neighbour.call("PING"), b"PONG", "after renegotiation was asked for")
        equal(cli(server, "PING"), "PONG\n")


@case(start=True, shards=(1, 2))
def plain_text_and_half_handshakes_disturb_nobody(start):
    server = secured(start)
    halves = []
    with server.raw() as neighbour:
        for n in range(50):
            connection = socket.create_connection(("127.0.0.1", server.tls_port), timeout=10)
            connection.sendall(b"PING\r\n" if n % 2 else b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            halves.append(connection)
        equal(neighbour.call("PING"), b"PONG")
        equal(cli(server, "PING"), "PONG\n")
        for n, connection in enumerate(halves):
            if n % 2:
                try:
                    while connection.recv(1000):
                        pass
                except ConnectionError:
                    pass
            connection.close()
        wait_for(lambda: len(server.call("CLIENT", "LIST").splitlines()) == 2, 10, "none of them to be left")
