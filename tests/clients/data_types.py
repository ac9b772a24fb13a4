"""Lists, sets, hashes, sorted sets, streams, bitmaps and HyperLogLogs through redis-py's typed calls, in RESP2 and RESP3, and
the classic uses of them: a work queue, a consumer group, a leaderboard, unique visitors, sessions whose fields expire."""

import threading
import time

import redis

from cases import case, equal, within
from python_client import clients, raises


@case()
def redis_py_lists(server):
    for client in clients(server):
        client.flushall()
        equal(client.rpush("l", "a", "b", "c"), 3)
        equal(client.lpush("l", "x"), 4)
        equal(client.lrange("l", 0, -1), [b"x", b"a", b"b", b"c"])
        equal(client.llen("l"), 4)
        equal(client.lindex("l", -1), b"c")
        equal(client.lset("l", 0, "y"), True)
        equal(client.linsert("l", "before", "a", "i"), 5)
        equal(client.lpos("l", "b"), 3)
        equal(client.lpos("l", "b", count=0), [3])
        equal(client.lrem("l", 1, "i"), 1)
        equal(client.lpushx("none", "v"), 0)
        equal(client.rpushx("l", "d"), 5)
        equal(client.lpop("l"), b"y")
        equal(client.rpop("l", 2), [b"d", b"c"])
        equal(client.ltrim("l", 0, 0), True)
        equal(client.lmove("l", "m", "LEFT", "RIGHT"), b"a")
        equal(client.rpoplpush("m", "l"), b"a")
        equal(client.lmpop(2, "m", "l", direction="LEFT", count=5), [b"l", [b"a"]])
        equal(client.lmpop(2, "m", "l", direction="LEFT"), None)
        client.rpush("q", "1", "2", "3", "4", "5")
        equal(tuple(client.blpop(["p", "q"], timeout=1)), (b"q", b"1"))
        equal(tuple(client.brpop("q", timeout=1)), (b"q", b"5"))
        equal(client.blmove("q", "r", 1, "LEFT", "LEFT"), b"2")
        equal(client.brpoplpush("q", "r", timeout=1), b"4")
        equal(client.blmpop(1, 2, "p", "q", direction="LEFT"), [b"q", [b"3"]])
        equal(client.blpop("nothing", timeout=0.01), None)
        client.rpush("words", "pear", "apple")
        raises("WRONGTYPE", client.get, "words")
        client.close()


@case()
def redis_py_sets(server):
    for client in clients(server):
        client.flushall()
        equal(client.sadd("s", "a", "b", "c"), 3)
        equal(client.scard("s"), 3)
        equal(client.sismember("s", "a"), 1)
        equal(client.smismember("s", ["a", "z"]), [1, 0])
        equal(set(client.smembers("s")), {b"a", b"b", b"c"})
        equal(client.srem("s", "c"), 1)
        client.sadd("t", "b", "d")
        equal(set(client.sinter("s", "t")), {b"b"})
        equal(set(client.sunion("s", "t")), {b"a", b"b", b"d"})
        equal(set(client.sdiff("s", "t")), {b"a"})
        equal(client.sinterstore("i", "s", "t"), 1)
        equal(client.sunionstore("u", "s", "t"), 3)
        equal(client.sdiffstore("d", "s", "t"), 1)
        equal(client.sintercard(2, ["s", "t"], limit=0), 1)
        equal(client.smove("s", "t", "a"), True)
        assert client.srandmember("t") in {b"a", b"b", b"d"}
        equal(len(client.srandmember("t", 2)), 2)
        equal(len(client.srandmember("t", -7)), 7)
        assert client.spop("t") in {b"a", b"b", b"d"}
        equal(len(client.spop("t", 5)), 2)
        client.sadd("many", *range(3000))
        equal({int(member) for member in client.sscan_iter("many", count=100)}, set(range(3000)))
        client.close()


@case()
def redis_py_hashes(server):
    for client in clients(server):
        client.flushall()
        equal(client.hset("h", mapping={"a": 1, "b": 2}), 2)
        equal(client.hget("h", "a"), b"1")
        equal(client.hgetall("h"), {b"a": b"1", b"b": b"2"})
        equal(client.hmget("h", "a", "z"), [b"1", None])
        equal(sorted(client.hkeys("h")), [b"a", b"b"])
        equal(sorted(client.hvals("h")), [b"1", b"2"])
        equal(client.hlen("h"), 2)
        equal(client.hexists("h", "a"), True)
        equal(client.hstrlen("h", "a"), 1)
        equal(client.hsetnx("h", "a", 5), 0)
        equal(client.hincrby("h", "a", 4), 5)
        equal(client.hincrbyfloat("h", "a", 0.5), 5.5)
        assert client.hrandfield("h") in {b"a", b"b"}
        equal(len(client.hrandfield("h", 2)), 2)
        equal(client.hdel("h", "b"), 1)
        equal(client.hexpire("h", 100, "a"), [1])
        within(client.httl("h", "a")[0], 99, 100, "HTTL")
        within(client.hpttl("h", "a")[0], 98_000, 100_000, "HPTTL")
        within(client.hexpiretime("h", "a")[0], time.time() + 90, time.time() + 110, "HEXPIRETIME")
        equal(client.hpersist("h", "a"), [1])
        equal(client.hpexpireat("h", 1, "a"), [2])
        equal(client.exists("h"), 0)
        equal(client.hsetex("h", mapping={"x": "1", "y": "2"}, ex=100), 1)
        equal(client.hgetex("h", "x", persist=True), [b"1"])
        equal(client.hgetdel("h", "x", "y"), [b"1", b"2"])
        client.hset("many", mapping={f"f{n}": n for n in range(3000)})
        equal(len(dict(client.hscan_iter("many", count=100))), 3000)
        client.close()


@case()
def redis_py_sorted_sets(server):
    for client in clients(server):
        client.flushall()
        equal(client.zadd("z", {"a": 1, "b": 2.5, "c": 3}), 3)
        equal(client.zadd("z", {"a": 2}, xx=True, ch=True), 1)
        equal(client.zadd("z", {"a": 1}, incr=True), 3.0)
        equal(client.zcard("z"), 3)
        equal(client.zscore("z", "b"), 2.5)
        equal(client.zmscore("z", ["a", "x"]), [3.0, None])
        equal(client.zincrby("z", -2, "a"), 1.0)
        equal(client.zrange("z", 0, -1), [b"a", b"b", b"c"])
        equal([tuple(pair) for pair in client.zrange("z", 0, 0, withscores=True)], [(b"a", 1.0)])
        equal(client.zrange("z", "(1", "+inf", byscore=True), [b"b", b"c"])
        equal(client.zrevrange("z", 0, 0), [b"c"])
        equal(client.zrangebyscore("z", 2, 3, start=0, num=1), [b"b"])
        equal(client.zrevrangebyscore("z", 3, 2), [b"c", b"b"])
        equal(client.zcount("z", "-inf", 2.5), 2)
        equal(client.zrank("z", "b"), 1)
        equal(client.zrevrank("z", "b"), 1)
        equal(client.zrangestore("y", "z", 0, 1), 2)
        equal(sorted(client.zunion(["y", "z"])), [b"a", b"b", b"c"])
        equal(sorted(client.zinter(["y", "z"])), [b"a", b"b"])
        equal(client.zdiff(["z", "y"]), [b"c"])
        equal(client.zunionstore("u", {"y": 2, "z": 1}, aggregate="MAX"), 3)
        equal(client.zintercard(2, ["y", "z"]), 2)
        equal(client.zrem("z", "a"), 1)
        equal(client.zremrangebyrank("u", 0, 0), 1)
        equal(client.zremrangebyscore("u", "-inf", "+inf"), 2)
        equal([tuple(pair) for pair in client.zpopmin("z", 2)], [(b"b", 2.5), (b"c", 3.0)])
        client.zadd("z", {"x": 7})
        equal(tuple(client.bzpopmin(["none", "z"], timeout=1)), (b"z", b"x", 7.0))
        client.zadd("names", {name: 0 for name in "abcd"})
        equal(client.zrangebylex("names", "[b", "(d"), [b"b", b"c"])
        equal(client.zlexcount("names", "-", "+"), 4)
        equal(client.zremrangebylex("names", "-", "[b"), 2)
        client.zadd("many", {f"m{n}": n for n in range(3000)})
        equal(len(dict(client.zscan_iter("many", count=100))), 3000)
        client.close()


@case()
def redis_py_bits_and_visitors(server):
    for client in clients(server):
        client.flushall()
        equal(client.setbit("days", 100, 1), 0)
        equal(client.getbit("days", 100), 1)
        equal(client.bitcount("days"), 1)
        equal(client.bitpos("days", 1), 100)
        client.setbit("other", 3, 1)
        equal(client.bitop("OR", "both", "days", "other"), 13)
        equal(client.bitcount("both"), 2)
        equal(client.bitfield("counter").incrby("u8", "#0", 200).incrby("u8", "#0", 100, "SAT").execute(), [200, 255])
        for day in range(3):
            client.pfadd(f"visitors:{day}", *(f"user:{n}" for n in range(day * 500, day * 500 + 1000)))
        within(client.pfcount("visitors:0"), 970, 1030, "visitors of a day")
        within(client.pfcount("visitors:0", "visitors:1", "visitors:2"), 1940, 2060, "visitors of three days")
        equal(client.pfmerge("visitors", "visitors:0", "visitors:1", "visitors:2"), True)
        within(client.pfcount("visitors"), 1940, 2060, "merged")
        client.close()


@case(shards=(1, 4))
def a_reliable_queue_with_blmove(server):
    """Workers move each job to a list of their own, and take it off when it is done: what a dead worker leaves is found there."""
    jobs, done, lock = 300, [], threading.Lock()

    def work(number):
        client = redis.Redis(port=server.port)
        own = f"doing:{number}"
        while True:
            job = client.blmove("jobs", own, 5, "LEFT", "RIGHT")
            if job in (None, b"end"):
                return
            with lock:
                done.append(int(job))
            equal(client.lrem(own, 1, job), 1)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    client = redis.Redis(port=server.port)
    for job in range(jobs):
        client.rpush("jobs", job)
    client.rpush("jobs", *["end"] * len(workers))
    for worker in workers:
        worker.join(30)
        assert not worker.is_alive(), "a worker waits for ever"
    equal(sorted(done), list(range(jobs)), "every job once")
    equal([client.llen(f"doing:{number}") for number in range(4)], [1, 1, 1, 1], "but for the end, nothing is left")


@case(shards=(1, 4))
def a_leaderboard(server):
    client = redis.Redis(port=server.port)
    client.zadd("board", {f"player:{n}": n * 37 % 1000 for n in range(1000)})
    pipeline = client.pipeline(transaction=False)
    for n in range(1000):
        pipeline.zincrby("board", 1000 - n, f"player:{n}")
    pipeline.execute()
    best = client.zrevrange("board", 0, 9, withscores=True)
    scores = {f"player:{n}".encode(): float(n * 37 % 1000 + 1000 - n) for n in range(1000)}
    wanted = sorted(scores.items(), key=lambda item: (item[1], item[0]), reverse=True)
    equal([tuple(pair) for pair in best], wanted[:10])
    member = wanted[500][0]
    equal(client.zrevrank("board", member), 500)


@case(shards=(1, 4))
def redis_py_streams(server):
    for client in clients(server):
        client.flushall()
        first = client.xadd("log", {"n": 1})
        equal(client.xadd("log", {"n": 2, "text": "two"}, id="99999999999999-1"), b"99999999999999-1")
        equal(client.xlen("log"), 2)
        equal(client.xrange("log"), [(first, {b"n": b"1"}), (b"99999999999999-1", {b"n": b"2", b"text": b"two"})])
        equal(client.xrevrange("log", count=1)[0][0], b"99999999999999-1")
        equal(client.xgroup_create("log", "g", id="0"), True)
        raises("BUSYGROUP", client.xgroup_create, "log", "g")
        equal(len(client.xreadgroup("g", "ann", {"log": ">"}, count=1)), 1)
        equal(client.xpending("log", "g")["consumers"], [{"name": b"ann", "pending": 1}])
        entry = client.xpending_range("log", "g", "-", "+", 10)[0]
        equal((entry["message_id"], entry["consumer"], entry["times_delivered"]), (first, b"ann", 1))
        equal(client.xclaim("log", "g", "bob", 0, [first], justid=True), [first])
        group = client.xinfo_groups("log")[0]
        equal((group["name"], group["pending"], group["entries-read"], group["lag"]), (b"g", 1, 1, 1))
        equal(sorted(consumer["name"] for consumer in client.xinfo_consumers("log", "g")), [b"ann", b"bob"])
        info = client.xinfo_stream("log")
        equal((info["length"], info["first-entry"][0], info["groups"]), (2, first, 1))
        client.xinfo_stream("log", full=True)
        equal(client.xack("log", "g", first), 1)
        equal(client.xdel("log", first), 1)
        equal(client.xtrim("log", maxlen=0, approximate=False), 1)
        equal(bool(client.xread({"log": "$"}, block=5)), False)
        client.close()


@case(shards=(1, 4))
def a_consumer_group_recovers_what_a_dead_consumer_left(server):
    """Consumers share the entries of a stream; one dies with entries that it has not acknowledged, and the others take them over."""
    jobs, done, lock = 300, [], threading.Lock()
    client = redis.Redis(port=server.port)
    client.xgroup_create("jobs", "workers", id="0", mkstream=True)
    for job in range(jobs):
        client.xadd("jobs", {"job": job})
    taken = client.xreadgroup("workers", "dead", {"jobs": ">"}, count=50)
    equal(client.xpending("jobs", "workers")["pending"], 50)

    def finish(own, entries):
        for entry, fields in entries:
            # Only one of several acknowledges an entry, whoever else has taken it over meanwhile.
            if own.xack("jobs", "workers", entry) == 1:
                with lock:
                    done.append(int(fields[b"job"]))

    def entries_of(reply):
        # A map of lists of pages in RESP3, a list of pairs in RESP2.
        if not reply:
            return []
        entries = list(reply.values())[0] if isinstance(reply, dict) else reply[0][1]
        return entries[0] if entries and isinstance(entries[0], list) else entries

    def work(number):
        own = redis.Redis(port=server.port)
        name = f"worker:{number}"
        while entries := entries_of(own.xreadgroup("workers", name, {"jobs": ">"}, count=7, block=100)):
            finish(own, entries)
        start = "0-0"
        while True:
            start, entries, gone = own.xautoclaim("jobs", "workers", name, 0, start, count=9)
            equal(gone, [], "nothing was removed")
            finish(own, entries)
            if start == b"0-0":
                return

    equal(len(entries_of(taken)), 50)
    workers = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
        assert not worker.is_alive(), "a worker waits for ever"
    equal(sorted(done), list(range(jobs)), "every job once")
    equal(client.xpending("jobs", "workers")["pending"], 0)
    equal(client.xinfo_groups("jobs")[0]["lag"], 0)
