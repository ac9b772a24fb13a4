"""redis-py's own client-side cache over RESP3: what it serves without asking, and that it learns of every change."""

import threading

import redis
from redis.cache import CacheConfig
from redis.connection import CacheProxyConnection

from cases import case, equal


def allow_any_version(server):
    """It asks for Redis 7.4 by the version in HELLO, as ours says; the stock server of these tests is older, and no different."""
    if server.shards is None:
        CacheProxyConnection.MIN_ALLOWED_VERSION = "7.0.0"


def cached_client(server):
    return redis.Redis(port=server.port, protocol=3, cache_config=CacheConfig(max_size=1000), decode_responses=True)


def hits(server):
    stats = redis.Redis(port=server.port).info("commandstats")
    return stats.get("cmdstat_get", {"calls": 0})["calls"]


@case()
def redis_py_cache_serves_what_it_has_and_learns_of_changes(server):
    allow_any_version(server)
    reader, writer = cached_client(server), redis.Redis(port=server.port)
    writer.mset({f"cached:{n}": n for n in range(20)})
    for n in range(20):
        equal(reader.get(f"cached:{n}"), str(n))
    before = hits(server)
    for _ in range(5):
        for n in range(20):
            equal(reader.get(f"cached:{n}"), str(n))
    equal(hits(server), before, "reads that went to the server")
    for n in range(20):
        writer.set(f"cached:{n}", n + 100)
        equal(reader.get(f"cached:{n}"), str(n + 100), "after a write was answered")
    writer.delete("cached:3")
    equal(reader.get("cached:3"), None)
    equal(reader.mget("cached:4", "cached:5"), ["104", "105"])
    writer.incr("cached:5")
    equal(reader.mget("cached:4", "cached:5"), ["104", "106"])
    writer.flushall()
    equal(reader.get("cached:7"), None)
    equal(reader.hgetall("cached:h"), {})
    writer.hset("cached:h", "f", "v")
    equal(reader.hgetall("cached:h"), {"f": "v"})
    reader.close()
    writer.close()


@case()
def redis_py_caches_are_never_older_than_an_answered_write(server):
    allow_any_version(server)
    confirmed, stop, faults = {}, threading.Event(), []

    def write():
        client, value = redis.Redis(port=server.port), 0
        while not stop.is_set():
            value += 1
            for n in range(8):
                client.set(f"count:{n}", value)
                confirmed[n] = value

    def read():
        client = cached_client(server)
        for turn in range(400):
            n = turn % 8
            least = confirmed.get(n, 0)
            value = int(client.get(f"count:{n}") or 0)
            if value < least:
                faults.append((n, value, least))
        client.close()

    writer = threading.Thread(target=write)
    readers = [threading.Thread(target=read) for _ in range(4)]
    for thread in [writer, *readers]:
        thread.start()
    for thread in readers:
        thread.join()
    stop.set()
    writer.join()
    equal(faults, [])
