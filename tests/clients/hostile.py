"""Bytes and readers that mean no good: an error to the one who sent them, and nobody else notices.

Cases named `cve_…` are published reports about servers of this family, by number.
"""

import itertools
import random
import time

from cases import case, equal, within
from server import encode, wait_for

GARBAGE = {
    b"*abc\r\n": "Protocol error: invalid multibulk length",
    b"*99999999999999999999\r\n": "Protocol error: invalid multibulk length",
    b"*1\r\n:1\r\n": "Protocol error: expected '$', got ':'",
    b"*1\r\n$abc\r\n": "Protocol error: invalid bulk length",
    b"*1\r\n$-1\r\n": "Protocol error: invalid bulk length",
    b"*1\r\n$536870913\r\n": "Protocol error: invalid bulk length",
    b"*1\r\n$99999999999999999999\r\n": "Protocol error: invalid bulk length",
    b'"unbalanced\r\n': "Protocol error: unbalanced quotes in request",
    b"*" + b"1" * 70_000: "Protocol error: too big mbulk count string",
    b"*1\r\n$" + b"1" * 70_000: "Protocol error: too big bulk count string",
    b"x" * 70_000: "Protocol error: too big inline request",
}


@case()
def garbage_closes_the_one_who_sent_it(server):
    with server.raw() as bystander:
        equal(bystander.call("SET", "k", "v"), b"OK")
        for bytes_sent, text in GARBAGE.items():
            with server.raw() as connection:
                connection.send(encode("PING") + bytes_sent)
                equal(connection.reply(), b"PONG", "the command before the garbage")
                equal(connection.error(), f"ERR {text}", repr(bytes_sent[:40]))
                assert connection.is_closed(), f"still connected after {bytes_sent[:40]!r}"
            equal(bystander.call("GET", "k"), b"v")


@case(ours=True)
def more_arguments_than_a_mebi_are_refused_at_their_announcement(server):
    """Stock 7.0 takes up to 2,147,483,647 here."""
    with server.raw() as connection:
        connection.send(b"*1048577\r\n")
        equal(connection.error(), "ERR Protocol error: invalid multibulk length")
        assert connection.is_closed()


@case()
def random_bytes_never_harm_a_neighbour(server):
    seed = time.time_ns() % 1_000_000
    print(f"seed {seed}")
    rng = random.Random(seed)
    alphabet = [b"*", b"$", b"\r\n", b"\n", b"-", b"1", b"3", b"SET", b"GET", b"k", b"\0", b"\xff", b"+", b"%", b" ", b'"', b"'"]
    with server.raw() as bystander:
        for _ in range(300):
            with server.raw(timeout=1) as connection:
                try:
                    connection.send(b"".join(rng.choices(alphabet, k=rng.randrange(1, 200))))
                except OSError:
                    pass  # Closed on us: that is the point.
            equal(bystander.call("PING"), b"PONG")
    wait_for(lambda: int(server.info("clients")["connected_clients"]) == 1, 5, "the random ones are gone")


@case()
def a_browser_is_cut_off(server):
    for request in (b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\nSET k v\r\n", b"Host: localhost\r\nSET k v\r\n"):
        with server.raw() as connection:
            connection.send(request)
            assert connection.is_closed(), request
    equal(server.call("EXISTS", "k"), 0)


@case()
def cve_2026_27623_empty_requests_between_others_at_every_split(server):
    pieces = [b"*0\r\n", b"*-1\r\n", b"\r\n", b"PING\r\n", encode("ECHO", "x")]
    for order in itertools.islice(itertools.permutations(pieces), 0, 120, 7):
        whole = b"".join(order) + encode("ECHO", "end")
        wanted = [{b"PING\r\n": b"PONG", encode("ECHO", "x"): b"x"}.get(piece) for piece in order]
        wanted = [reply for reply in wanted if reply] + [b"end"]
        with server.raw() as connection:
            for split in range(1, len(whole)):
                connection.send(whole[:split])
                connection.send(whole[split:])
                equal([connection.reply() for _ in wanted], wanted, f"{whole!r} split at {split}")
            for byte in whole:
                connection.send(bytes([byte]))
            equal([connection.reply() for _ in wanted], wanted, f"{whole!r} byte by byte")


@case(args=["--requirepass", "sesame"])
def cve_2021_32675_little_is_allowed_before_auth(server):
    for bytes_sent, text in {
        b"*11\r\n": "Protocol error: unauthenticated multibulk length",
        b"*1000000\r\n": "Protocol error: unauthenticated multibulk length",
        b"*1\r\n$16385\r\n": "Protocol error: unauthenticated bulk length",
        b"*1\r\n$500000000\r\n": "Protocol error: unauthenticated bulk length",
    }.items():
        with server.raw() as connection:
            connection.send(bytes_sent)
            equal(connection.error(), f"ERR {text}")
            assert connection.is_closed(), bytes_sent
    with server.raw() as connection:
        connection.send(encode("GET", "k"))
        equal(connection.error(), "NOAUTH Authentication required.")
        equal(connection.call("AUTH", "sesame"), b"OK")
        equal(connection.call("SET", "k", "x" * 100_000), b"OK")
        equal(connection.call("EXISTS", *map(str, range(1000))), 0)


@case(args=["--requirepass", "sesame"], ours=True)
def cve_2025_21605_a_stranger_who_never_reads_is_cut_off(server):
    before = server.resident_kib()
    with server.raw(rcvbuf=4096, timeout=3) as connection:
        closed = False
        try:
            for _ in range(200):
                connection.send(encode("PING") * 5000)
        except ConnectionError:
            closed = True
        except TimeoutError:
            pass
        assert closed, "a million PING from a stranger, none of the replies read, and still connected"
    within(server.resident_kib() - before, -(1 << 20), 12 << 10, "resident KiB that a stranger took")


@case(args=["--client-query-buffer-limit", "1mb"])
def cve_2025_46686_a_query_beyond_its_limit_is_cut_off(server):
    with server.raw() as bystander, server.raw() as connection:
        try:
            connection.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5000000\r\n")
            for _ in range(80):
                connection.send(b"x" * 60_000)
                time.sleep(0.001)
        except ConnectionError:
            pass
        assert connection.is_closed(), "4.8 MB of one query are held for a limit of 1 MB"
        equal(bystander.call("EXISTS", "k"), 0)


@case(args=["--client-query-buffer-limit", "1mb"], ours=True)
def cve_2025_46686_arguments_that_wait_for_their_last_count_too(server):
    """Stock 7.0 counts the bytes that are not yet split into arguments, and here those are never many."""
    before = server.resident_kib()
    with server.raw() as bystander, server.raw() as connection:
        try:
            connection.send(b"*1000000\r\n$4\r\nMSET\r\n")
            for _ in range(200):
                connection.send(b"$10\r\n0123456789\r\n" * 1000)
                time.sleep(0.001)
        except ConnectionError:
            pass
        assert connection.is_closed(), "200,000 arguments of one query are held for a limit of 1 MB"
        equal(bystander.call("PING"), b"PONG")
    within(server.resident_kib() - before, -(1 << 20), 12 << 10, "resident KiB that the query took")


@case()
def lengths_announced_are_not_believed(server):
    """A thousand clients announce half a gigabyte each and send nothing: memory must not follow their word."""
    before = server.resident_kib()
    connections = [server.raw() for _ in range(500)]
    for number, connection in enumerate(connections):
        if number % 2:
            connection.send(b"*2\r\n$4\r\nECHO\r\n$536870912\r\nx")
        else:
            connection.send(b"*1048576\r\n$4\r\nMGET\r\n")
    time.sleep(0.2)
    equal(server.call("PING"), b"PONG")
    within(server.resident_kib() - before, -(1 << 20), 64 << 10, "resident KiB taken on announcements")
    for connection in connections:
        connection.cut()


@case()
def a_slow_reader_of_large_replies_stops_nobody(server):
    server.call("SET", "big", b"x" * 1_000_000)
    with server.raw(rcvbuf=4096) as slow, server.raw(timeout=2) as other:
        slow.send(encode("GET", "big") * 20)
        for _ in range(200):
            equal(other.call("PING"), b"PONG")
        equal(slow.reply() == b"x" * 1_000_000, True, "the slow reader's first value is whole")


@case()
def megabytes_of_arguments_come_back_whole(server):
    with server.raw(timeout=30) as connection:
        for size in (0, 1, 16_383, 16_384, 65_536, 1 << 20, 33_000_001):
            value = random.Random(size).randbytes(size)
            equal(connection.call("SET", "k", value), b"OK")
            assert connection.call("GET", "k") == value, f"{size} bytes came back changed"
        keys = [f"many:{n}" for n in range(20_000)]
        equal(connection.call("MSET", *itertools.chain.from_iterable((key, key) for key in keys)), b"OK")
        assert connection.call("MGET", *keys) == [key.encode() for key in keys], "20,000 keys of one MGET"
        equal(connection.call("DEL", *keys), 20_000)
