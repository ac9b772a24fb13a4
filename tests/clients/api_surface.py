"""Every method of redis-py's typed interface about data, called once at least, in RESP2 and RESP3.

The methods are found in redis-py's own classes, so one that a new version brings fails the test until a call for it stands in
CALLS. A call whose command the server does not have (COMMAND INFO says so) is left out: it begins to count with the command.
"""

import time

from redis.commands import core

from cases import case, equal, within
from python_client import clients

FAMILIES = [
    core.BasicKeyCommands,
    core.GeoCommands,
    core.HashCommands,
    core.HyperlogCommands,
    core.ListCommands,
    core.ScanCommands,
    core.SetCommands,
    core.SortedSetCommands,
    core.StreamCommands,
]

SOON = 100_000
LATER = 4_102_444_800


def fill(server_client):
    """What is there before each call."""
    client = server_client.pipeline(transaction=False)
    client.flushall()
    client.mset({"k": "hello", "n": "10", "w_1": "3", "w_2": "2", "w_3": "1"})
    client.rpush("l", "3", "1", "2")
    client.sadd("s", "a", "b", "c")
    client.sadd("t", "c", "d")
    client.hset("h", mapping={"a": "1", "b": "2"})
    client.zadd("z", {"a": 1, "b": 2, "c": 3})
    client.zadd("y", {"c": 10, "d": 20})
    client.zadd("names", {"a": 0, "b": 0, "c": 0})
    client.pfadd("p", "a", "b")
    client.geoadd("g", [13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania"])
    client.execute()


def stream(client):
    """A stream with two entries and a group that has read one of them."""
    client.xadd("x", {"f": "1"}, id="1-1")
    client.xadd("x", {"f": "2"}, id="2-1")
    client.xgroup_create("x", "group", id="0")
    client.xreadgroup("group", "me", {"x": ">"}, count=1)


def with_stream(call):
    def run(client):
        stream(client)
        return call(client)

    return run


def anything(_):
    return True


def pairs(reply):
    """Members and scores, in pairs or one behind the other: redis-py leaves some replies of RESP2 as they come."""
    reply = list(reply)
    if reply and isinstance(reply[0], bytes):
        reply = zip(reply[::2], reply[1::2])
    return [(member, float(score)) for member, score in reply]


def restored(client):
    return client.restore("copy", 0, client.dump("k")) and client.get("copy")


def approx(wanted):
    return lambda got: abs(float(got) - wanted) < 0.001


# Method, command, call, and the result: a value, or a function that judges it. The command is another where an option is younger
# than its own: a server with HEXPIRE has the options of 7.4.
CALLS = [
    # Keys and strings.
    ("append", "append", lambda c: c.append("k", "!"), 6),
    ("bitcount", "bitcount", lambda c: c.bitcount("k", 0, -1), 21),
    ("bitcount", "bitcount", lambda c: c.bitcount("k", 0, 7, "BIT"), 3),
    ("bitfield", "bitfield", lambda c: c.bitfield("b").set("u8", 0, 200).incrby("u8", "#0", 100, "SAT").get("u4", 0).execute(), [0, 255, 15]),
    ("bitfield_ro", "bitfield_ro", lambda c: c.bitfield_ro("k", "u8", 0, [("u8", 8)]), [104, 101]),
    ("bitop", "bitop", lambda c: c.bitop("XOR", "d", "k", "n"), 5),
    ("bitpos", "bitpos", lambda c: c.bitpos("k", 1), 1),
    ("copy", "copy", lambda c: (c.copy("k", "d"), c.copy("n", "d"), c.copy("n", "d", replace=True)), (True, False, True)),
    ("copy", "copy", lambda c: c.copy("k", "d", destination_db=1), True),
    ("decr", "decr", lambda c: c.decr("n"), 9),
    ("decrby", "decrby", lambda c: c.decrby("n", 4), 6),
    ("delete", "del", lambda c: c.delete("k", "n", "none"), 2),
    ("delex", "delex", lambda c: c.delex("k", ifeq="hello"), 1),
    ("digest", "digest", lambda c: c.digest("k"), anything),
    ("digest_local", None, lambda c: callable(c.digest_local), True),
    ("dump", "dump", lambda c: c.dump("k"), lambda dump: isinstance(dump, bytes) and len(dump) > 10),
    ("exists", "exists", lambda c: c.exists("k", "k", "none"), 2),
    ("expire", "expire", lambda c: (c.expire("k", SOON), c.expire("k", SOON * 2, lt=True), c.expire("k", SOON, xx=True)), (True, False, True)),
    ("expireat", "expireat", lambda c: (c.expireat("k", LATER), c.expireat("k", LATER, nx=True)), (True, False)),
    ("expiretime", "expiretime", lambda c: (c.expireat("k", LATER), c.expiretime("k"))[1], LATER),
    ("get", "get", lambda c: c.get("k"), b"hello"),
    ("getbit", "getbit", lambda c: c.getbit("k", 1), 1),
    ("getdel", "getdel", lambda c: (c.getdel("k"), c.get("k")), (b"hello", None)),
    ("getex", "getex", lambda c: (c.getex("k", ex=SOON), c.ttl("k") > 0, c.getex("k", persist=True), c.ttl("k")), (b"hello", True, b"hello", -1)),
    ("getrange", "getrange", lambda c: c.getrange("k", 1, -2), b"ell"),
    ("getset", "getset", lambda c: c.getset("k", "v"), b"hello"),
    ("incr", "incr", lambda c: c.incr("n"), 11),
    ("incrby", "incrby", lambda c: c.incrby("n", 5), 15),
    ("incrbyfloat", "incrbyfloat", lambda c: c.incrbyfloat("n", 0.5), approx(10.5)),
    ("increx", "increx", lambda c: c.increx("n", byint=1), anything),
    ("keys", "keys", lambda c: sorted(c.keys("w_*")), [b"w_1", b"w_2", b"w_3"]),
    ("lcs", "lcs", lambda c: (c.mset({"one": "ohmytext", "two": "mynewtext"}), c.lcs("one", "two"), c.lcs("one", "two", len=True))[1:], (b"mytext", 6)),
    ("lmove", "lmove", lambda c: c.lmove("l", "m", "LEFT", "RIGHT"), b"3"),
    ("blmove", "blmove", lambda c: c.blmove("l", "m", 1, "RIGHT", "LEFT"), b"2"),
    ("lmovem", "lmovem", lambda c: c.lmovem("l", "m", count=2), anything),
    ("blmovem", "blmovem", lambda c: c.blmovem("l", "m", 1, count=2), anything),
    ("mget", "mget", lambda c: c.mget("k", "none", "n"), [b"hello", None, b"10"]),
    ("move", "move", lambda c: c.move("k", 1), True),
    ("mset", "mset", lambda c: c.mset({"one": 1, "two": 2}), True),
    ("msetex", "msetex", lambda c: c.msetex({"one": 1, "two": 2}, ex=SOON), anything),
    ("msetnx", "msetnx", lambda c: (c.msetnx({"one": 1, "k": 2}), c.msetnx({"one": 1, "two": 2})), (False, True)),
    ("persist", "persist", lambda c: (c.persist("k"), c.expire("k", SOON), c.persist("k")), (False, True, True)),
    ("pexpire", "pexpire", lambda c: (c.pexpire("k", SOON * 1000), c.pexpire("k", SOON * 2000, gt=True)), (True, True)),
    ("pexpireat", "pexpireat", lambda c: c.pexpireat("k", LATER * 1000), True),
    ("pexpiretime", "pexpiretime", lambda c: (c.pexpireat("k", LATER * 1000), c.pexpiretime("k"))[1], LATER * 1000),
    ("psetex", "psetex", lambda c: c.psetex("k", SOON * 1000, "v"), True),
    ("pttl", "pttl", lambda c: (c.pexpire("k", SOON * 1000), c.pttl("k"))[1], lambda ttl: 0 < ttl <= SOON * 1000),
    ("hrandfield", "hrandfield", lambda c: c.hrandfield("h"), lambda field: field in (b"a", b"b")),
    ("hrandfield", "hrandfield", lambda c: c.hrandfield("h", 5, withvalues=True), lambda some: len(some) in (2, 4)),
    ("randomkey", "randomkey", lambda c: c.exists(c.randomkey()), 1),
    ("rename", "rename", lambda c: (c.rename("k", "d"), c.get("d")), (True, b"hello")),
    ("renamenx", "renamenx", lambda c: (c.renamenx("k", "n"), c.renamenx("k", "d")), (False, True)),
    ("restore", "restore", restored, b"hello"),
    ("set", "set", lambda c: (c.set("k", "v", nx=True), c.set("k", "v", xx=True, get=True), c.set("k", "w", px=SOON * 1000)), (None, b"hello", True)),
    ("setbit", "setbit", lambda c: c.setbit("k", 7, 1), 0),
    ("setex", "setex", lambda c: c.setex("k", SOON, "v"), True),
    ("setnx", "setnx", lambda c: (c.setnx("k", "v"), c.setnx("d", "v")), (False, True)),
    ("setrange", "setrange", lambda c: (c.setrange("k", 1, "a"), c.get("k")), (5, b"hallo")),
    ("stralgo", "stralgo", lambda c: c.stralgo("LCS", "ohmytext", "mynewtext"), anything),
    ("strlen", "strlen", lambda c: c.strlen("k"), 5),
    ("substr", "substr", lambda c: c.substr("k", 0, 1), b"he"),
    ("touch", "touch", lambda c: c.touch("k", "none"), 1),
    ("ttl", "ttl", lambda c: (c.ttl("k"), c.ttl("none")), (-1, -2)),
    ("type", "type", lambda c: [c.type(key) for key in ("k", "l", "s", "h", "z", "none")], [b"string", b"list", b"set", b"hash", b"zset", b"none"]),
    ("unlink", "unlink", lambda c: c.unlink("k", "none"), 1),
    ("watch", "watch", lambda c: c.pipeline().watch("k"), anything),
    ("unwatch", "unwatch", lambda c: c.pipeline().unwatch(), anything),
    # Places.
    ("geoadd", "geoadd", lambda c: (c.geoadd("g", [2.35, 48.85, "Paris"]), c.geoadd("g", [2.0, 48.0, "Paris"], nx=True)), (1, 0)),
    ("geodist", "geodist", lambda c: c.geodist("g", "Palermo", "Catania", "km"), approx(166.2742)),
    ("geohash", "geohash", lambda c: [str(text).strip("b'") for text in c.geohash("g", "Palermo", "none")], ["sqc8b49rny0", "None"]),
    ("geopos", "geopos", lambda c: c.geopos("g", "Palermo", "none"), lambda found: abs(found[0][0] - 13.361) < 0.01 and found[1] is None),
    ("georadius", "georadius", lambda c: c.georadius("g", 15, 37, 200, "km", sort="ASC"), [b"Catania", b"Palermo"]),
    ("georadius", "georadius", lambda c: (c.georadius("g", 15, 37, 200, "km", store="d"), c.zcard("d")), (2, 2)),
    ("georadiusbymember", "georadiusbymember", lambda c: c.georadiusbymember("g", "Palermo", 10, "km", withdist=True, withcoord=True, withhash=True), lambda found: found[0][0] == b"Palermo"),
    ("geosearch", "geosearch", lambda c: c.geosearch("g", longitude=15, latitude=37, unit="km", radius=200, count=1), [b"Catania"]),
    ("geosearch", "geosearch", lambda c: sorted(c.geosearch("g", member="Palermo", unit="km", width=500, height=500)), [b"Catania", b"Palermo"]),
    ("geosearchstore", "geosearchstore", lambda c: c.geosearchstore("d", "g", member="Palermo", unit="km", radius=10, storedist=True), 1),
    # Hashes.
    ("hdel", "hdel", lambda c: c.hdel("h", "a", "none"), 1),
    ("hexists", "hexists", lambda c: (c.hexists("h", "a"), c.hexists("h", "none")), (True, False)),
    ("hget", "hget", lambda c: (c.hget("h", "a"), c.hget("h", "none")), (b"1", None)),
    ("hgetall", "hgetall", lambda c: c.hgetall("h"), {b"a": b"1", b"b": b"2"}),
    ("hgetdel", "hgetdel", lambda c: (c.hgetdel("h", "a", "none"), c.hlen("h")), ([b"1", None], 1)),
    ("hgetex", "hgetex", lambda c: (c.hgetex("h", "a", ex=SOON), c.httl("h", "a")[0] > 0), ([b"1"], True)),
    ("hincrby", "hincrby", lambda c: c.hincrby("h", "a", 5), 6),
    ("hincrbyfloat", "hincrbyfloat", lambda c: c.hincrbyfloat("h", "a", 0.5), approx(1.5)),
    ("hkeys", "hkeys", lambda c: sorted(c.hkeys("h")), [b"a", b"b"]),
    ("hlen", "hlen", lambda c: c.hlen("h"), 2),
    ("hset", "hset", lambda c: (c.hset("h", "c", 3), c.hset("h", mapping={"d": 4, "a": 0})), (1, 1)),
    ("hsetex", "hsetex", lambda c: c.hsetex("h", mapping={"c": "3"}, ex=SOON), 1),
    ("hsetnx", "hsetnx", lambda c: (c.hsetnx("h", "a", 0), c.hsetnx("h", "c", 0)), (0, 1)),
    ("hmset", "hmset", lambda c: c.hmset("h", {"c": 3}), True),
    ("hmget", "hmget", lambda c: c.hmget("h", "a", "none"), [b"1", None]),
    ("hvals", "hvals", lambda c: sorted(c.hvals("h")), [b"1", b"2"]),
    ("hstrlen", "hstrlen", lambda c: c.hstrlen("h", "a"), 1),
    ("hexpire", "hexpire", lambda c: c.hexpire("h", SOON, "a", "none"), [1, -2]),
    ("hpexpire", "hpexpire", lambda c: c.hpexpire("h", SOON * 1000, "a", nx=True), [1]),
    ("hexpireat", "hexpireat", lambda c: c.hexpireat("h", LATER, "a"), [1]),
    ("hpexpireat", "hpexpireat", lambda c: c.hpexpireat("h", LATER * 1000, "a"), [1]),
    ("hpersist", "hpersist", lambda c: (c.hpersist("h", "a"), c.hexpire("h", SOON, "a"), c.hpersist("h", "a")), ([-1], [1], [1])),
    ("hexpiretime", "hexpiretime", lambda c: (c.hexpireat("h", LATER, "a"), c.hexpiretime("h", "a"))[1], [LATER]),
    ("hpexpiretime", "hpexpiretime", lambda c: (c.hexpireat("h", LATER, "a"), c.hpexpiretime("h", "a"))[1], [LATER * 1000]),
    ("httl", "httl", lambda c: c.httl("h", "a", "none"), [-1, -2]),
    ("hpttl", "hpttl", lambda c: c.hpttl("h", "a"), [-1]),
    ("himport_prepare_internal", "himport", lambda c: c.himport_prepare_internal("set", ["f"]), anything),
    ("himport_set", "himport", lambda c: (c.himport_prepare_internal("set", ["f"]), c.himport_set("h", "set", ["v"])), anything),
    ("himport_discard_internal", "himport", lambda c: c.himport_discard_internal("set"), anything),
    ("himport_discard_all_internal", "himport", lambda c: c.himport_discard_all_internal(), anything),
    # HyperLogLogs.
    ("pfadd", "pfadd", lambda c: (c.pfadd("p", "a"), c.pfadd("p", "c")), (0, 1)),
    ("pfcount", "pfcount", lambda c: (c.pfadd("q", "b", "c"), c.pfcount("p"), c.pfcount("p", "q"))[1:], (2, 3)),
    ("pfmerge", "pfmerge", lambda c: (c.pfadd("q", "b", "c"), c.pfmerge("d", "p", "q"), c.pfcount("d"))[1:], (True, 3)),
    # Lists.
    ("blpop", "blpop", lambda c: tuple(c.blpop(["none", "l"], timeout=1)), (b"l", b"3")),
    ("brpop", "brpop", lambda c: tuple(c.brpop("l", timeout=1)), (b"l", b"2")),
    ("brpoplpush", "brpoplpush", lambda c: c.brpoplpush("l", "m", timeout=1), b"2"),
    ("blmpop", "blmpop", lambda c: c.blmpop(1, 2, "none", "l", direction="LEFT", count=2), [b"l", [b"3", b"1"]]),
    ("lmpop", "lmpop", lambda c: c.lmpop(2, "none", "l", direction="RIGHT"), [b"l", [b"2"]]),
    ("lindex", "lindex", lambda c: c.lindex("l", -1), b"2"),
    ("linsert", "linsert", lambda c: c.linsert("l", "AFTER", "1", "x"), 4),
    ("llen", "llen", lambda c: c.llen("l"), 3),
    ("lpop", "lpop", lambda c: (c.lpop("l"), c.lpop("l", 5), c.lpop("l")), (b"3", [b"1", b"2"], None)),
    ("lpush", "lpush", lambda c: c.lpush("l", "x", "y"), 5),
    ("lpushx", "lpushx", lambda c: (c.lpushx("l", "x"), c.lpushx("none", "x")), (4, 0)),
    ("lrange", "lrange", lambda c: c.lrange("l", 0, -1), [b"3", b"1", b"2"]),
    ("lrem", "lrem", lambda c: c.lrem("l", 0, "1"), 1),
    ("lset", "lset", lambda c: (c.lset("l", 1, "x"), c.lindex("l", 1)), (True, b"x")),
    ("ltrim", "ltrim", lambda c: (c.ltrim("l", 1, -1), c.llen("l")), (True, 2)),
    ("rpop", "rpop", lambda c: (c.rpop("l"), c.rpop("l", 1)), (b"2", [b"1"])),
    ("rpoplpush", "rpoplpush", lambda c: c.rpoplpush("l", "m"), b"2"),
    ("rpush", "rpush", lambda c: c.rpush("l", "x"), 4),
    ("rpushx", "rpushx", lambda c: (c.rpushx("l", "x"), c.rpushx("none", "x")), (4, 0)),
    ("lpos", "lpos", lambda c: (c.lpos("l", "2"), c.lpos("l", "2", count=0), c.lpos("l", "none")), (2, [2], None)),
    ("sort", "sort", lambda c: (c.sort("l"), c.sort("l", by="w_*", get=["#", "w_*"], groups=True)), ([b"1", b"2", b"3"], [(b"3", b"1"), (b"2", b"2"), (b"1", b"3")])),
    ("sort", "sort", lambda c: (c.sort("l", start=0, num=2, desc=True, alpha=True, store="d"), c.lrange("d", 0, -1)), (2, [b"3", b"2"])),
    ("sort_ro", "sort_ro", lambda c: c.sort_ro("s", start=1, num=2, alpha=True), [b"b", b"c"]),
    # Scans.
    ("scan", "scan", lambda c: c.scan(0, match="w_*", count=1000, _type="string"), lambda page: page[0] == 0 and len(page[1]) == 3),
    ("scan_iter", "scan", lambda c: sorted(c.scan_iter(match="w_*", count=1)), [b"w_1", b"w_2", b"w_3"]),
    ("sscan", "sscan", lambda c: sorted(c.sscan("s", count=100)[1]), [b"a", b"b", b"c"]),
    ("sscan_iter", "sscan", lambda c: sorted(c.sscan_iter("s", match="[ab]")), [b"a", b"b"]),
    ("hscan", "hscan", lambda c: c.hscan("h")[1], {b"a": b"1", b"b": b"2"}),
    ("hscan", "hexpire", lambda c: sorted(c.hscan("h", no_values=True)[1]), [b"a", b"b"]),
    ("hscan_iter", "hscan", lambda c: dict(c.hscan_iter("h")), {b"a": b"1", b"b": b"2"}),
    ("zscan", "zscan", lambda c: pairs(c.zscan("z")[1]), [(b"a", 1), (b"b", 2), (b"c", 3)]),
    ("zscan_iter", "zscan", lambda c: pairs(c.zscan_iter("z", match="a")), [(b"a", 1)]),
    # Sets.
    ("sadd", "sadd", lambda c: c.sadd("s", "a", "x"), 1),
    ("scard", "scard", lambda c: c.scard("s"), 3),
    ("sdiff", "sdiff", lambda c: set(c.sdiff("s", "t")), {b"a", b"b"}),
    ("sdiffcard", "sdiffcard", lambda c: c.sdiffcard(2, ["s", "t"]), 2),
    ("sdiffstore", "sdiffstore", lambda c: c.sdiffstore("d", "s", "t"), 2),
    ("sinter", "sinter", lambda c: set(c.sinter("s", "t")), {b"c"}),
    ("sintercard", "sintercard", lambda c: c.sintercard(2, ["s", "t"], limit=5), 1),
    ("sinterstore", "sinterstore", lambda c: c.sinterstore("d", ["s", "t"]), 1),
    ("sismember", "sismember", lambda c: (c.sismember("s", "a"), c.sismember("s", "x")), (1, 0)),
    ("smembers", "smembers", lambda c: set(c.smembers("s")), {b"a", b"b", b"c"}),
    ("smismember", "smismember", lambda c: c.smismember("s", "a", "x"), [1, 0]),
    ("smove", "smove", lambda c: (c.smove("s", "t", "a"), c.smove("s", "t", "x")), (True, False)),
    ("spop", "spop", lambda c: (c.spop("s") in (b"a", b"b", b"c"), len(c.spop("s", 5))), (True, 2)),
    ("srandmember", "srandmember", lambda c: (c.srandmember("s") is not None, len(c.srandmember("s", 2)), len(c.srandmember("s", -7))), (True, 2, 7)),
    ("srem", "srem", lambda c: c.srem("s", "a", "x"), 1),
    ("sunion", "sunion", lambda c: set(c.sunion("s", "t")), {b"a", b"b", b"c", b"d"}),
    ("sunioncard", "sunioncard", lambda c: c.sunioncard(2, ["s", "t"]), 4),
    ("sunionstore", "sunionstore", lambda c: c.sunionstore("d", "s", "t"), 4),
    # Sorted sets.
    ("zadd", "zadd", lambda c: (c.zadd("z", {"a": 5, "x": 1}), c.zadd("z", {"a": 1}, gt=True, ch=True), c.zadd("z", {"a": 2}, incr=True)), (1, 0, 7.0)),
    ("zcard", "zcard", lambda c: c.zcard("z"), 3),
    ("zcount", "zcount", lambda c: c.zcount("z", "(1", "+inf"), 2),
    ("zdiff", "zdiff", lambda c: pairs(c.zdiff(["z", "y"], withscores=True)), [(b"a", 1), (b"b", 2)]),
    ("zdiffstore", "zdiffstore", lambda c: c.zdiffstore("d", ["z", "y"]), 2),
    ("zincrby", "zincrby", lambda c: c.zincrby("z", 2, "a"), 3.0),
    ("zinter", "zinter", lambda c: pairs(c.zinter({"z": 2, "y": 1}, aggregate="SUM", withscores=True)), [(b"c", 16)]),
    ("zinterstore", "zinterstore", lambda c: (c.zinterstore("d", ["z", "y"], aggregate="MAX"), c.zscore("d", "c")), (1, 10.0)),
    ("zintercard", "zintercard", lambda c: c.zintercard(2, ["z", "y"], limit=3), 1),
    ("zlexcount", "zlexcount", lambda c: c.zlexcount("names", "[a", "(c"), 2),
    ("zpopmax", "zpopmax", lambda c: pairs(c.zpopmax("z", 2)), [(b"c", 3), (b"b", 2)]),
    ("zpopmin", "zpopmin", lambda c: pairs(c.zpopmin("z", 1)), [(b"a", 1)]),
    ("zrandmember", "zrandmember", lambda c: (c.zrandmember("z") is not None, len(c.zrandmember("z", 2))), (True, 2)),
    ("bzpopmax", "bzpopmax", lambda c: tuple(c.bzpopmax(["none", "z"], timeout=1)), (b"z", b"c", 3.0)),
    ("bzpopmin", "bzpopmin", lambda c: tuple(c.bzpopmin("z", timeout=1)), (b"z", b"a", 1.0)),
    ("zmpop", "zmpop", lambda c: c.zmpop(2, ["none", "z"], min=True), lambda popped: popped[0] == b"z"),
    ("bzmpop", "bzmpop", lambda c: c.bzmpop(1, 2, ["none", "z"], max=True, count=2), lambda popped: len(popped[1]) == 2),
    ("zrange", "zrange", lambda c: pairs(c.zrange("z", 0, -1, desc=True, withscores=True)), [(b"c", 3), (b"b", 2), (b"a", 1)]),
    ("zrange", "zrange", lambda c: c.zrange("z", "(1", "+inf", byscore=True, offset=1, num=1), [b"c"]),
    ("zrevrange", "zrevrange", lambda c: c.zrevrange("z", 0, 1), [b"c", b"b"]),
    ("zrangestore", "zrangestore", lambda c: c.zrangestore("d", "z", 0, 1), 2),
    ("zrangebylex", "zrangebylex", lambda c: c.zrangebylex("names", "-", "[b"), [b"a", b"b"]),
    ("zrevrangebylex", "zrevrangebylex", lambda c: c.zrevrangebylex("names", "+", "(a", start=0, num=1), [b"c"]),
    ("zrangebyscore", "zrangebyscore", lambda c: pairs(c.zrangebyscore("z", 2, 3, withscores=True)), [(b"b", 2), (b"c", 3)]),
    ("zrevrangebyscore", "zrevrangebyscore", lambda c: c.zrevrangebyscore("z", 3, 2), [b"c", b"b"]),
    ("zrank", "zrank", lambda c: (c.zrank("z", "b"), c.zrank("z", "none")), (1, None)),
    ("zrank", "hexpire", lambda c: list(c.zrank("z", "c", withscore=True)), [2, 3.0]),
    ("zrem", "zrem", lambda c: c.zrem("z", "a", "none"), 1),
    ("zremrangebylex", "zremrangebylex", lambda c: c.zremrangebylex("names", "[a", "[b"), 2),
    ("zremrangebyrank", "zremrangebyrank", lambda c: c.zremrangebyrank("z", 0, 0), 1),
    ("zremrangebyscore", "zremrangebyscore", lambda c: c.zremrangebyscore("z", 2, "inf"), 2),
    ("zrevrank", "zrevrank", lambda c: c.zrevrank("z", "a"), 2),
    ("zscore", "zscore", lambda c: (c.zscore("z", "b"), c.zscore("z", "none")), (2.0, None)),
    ("zunion", "zunion", lambda c: pairs(c.zunion(["z", "y"], withscores=True)), [(b"a", 1), (b"b", 2), (b"c", 13), (b"d", 20)]),
    ("zunionstore", "zunionstore", lambda c: (c.zunionstore("d", {"z": 1, "y": 0.5}, aggregate="MIN"), c.zscore("d", "d")), (4, 10.0)),
    ("zmscore", "zmscore", lambda c: c.zmscore("z", ["a", "none"]), [1.0, None]),
    # Streams.
    ("xack", "xack", with_stream(lambda c: c.xack("x", "group", "1-1")), 1),
    ("xackdel", "xackdel", with_stream(lambda c: c.xackdel("x", "group", "1-1")), anything),
    ("xadd", "xadd", lambda c: (c.xadd("x", {"f": "v"}, id="5-1"), c.xadd("x", {"f": "v"}, id="6-1", maxlen=1, approximate=False), c.xlen("x")), (b"5-1", b"6-1", 1)),
    ("xadd", "xadd", lambda c: c.xadd("none", {"f": "v"}, nomkstream=True), None),
    ("xcfgset", "xcfgset", with_stream(lambda c: c.xcfgset("x", idmp_duration=100)), anything),
    ("xautoclaim", "xautoclaim", with_stream(lambda c: c.xautoclaim("x", "group", "you", 0, count=5, justid=True)), lambda claimed: b"1-1" in str(claimed).encode()),
    ("xclaim", "xclaim", with_stream(lambda c: c.xclaim("x", "group", "you", 0, ["1-1"], justid=True)), [b"1-1"]),
    ("xdel", "xdel", with_stream(lambda c: c.xdel("x", "1-1", "9-9")), 1),
    ("xdelex", "xdelex", with_stream(lambda c: c.xdelex("x", "1-1")), anything),
    ("xgroup_create", "xgroup", lambda c: c.xgroup_create("x", "g2", mkstream=True), True),
    ("xgroup_delconsumer", "xgroup", with_stream(lambda c: c.xgroup_delconsumer("x", "group", "me")), 1),
    ("xgroup_destroy", "xgroup", with_stream(lambda c: c.xgroup_destroy("x", "group")), 1),
    ("xgroup_createconsumer", "xgroup", with_stream(lambda c: c.xgroup_createconsumer("x", "group", "you")), 1),
    ("xgroup_setid", "xgroup", with_stream(lambda c: c.xgroup_setid("x", "group", "0")), True),
    ("xinfo_consumers", "xinfo", with_stream(lambda c: c.xinfo_consumers("x", "group")), lambda all: len(all) == 1),
    ("xinfo_groups", "xinfo", with_stream(lambda c: c.xinfo_groups("x")), lambda all: len(all) == 1),
    ("xinfo_stream", "xinfo", with_stream(lambda c: (c.xinfo_stream("x")["length"], bool(c.xinfo_stream("x", full=True)))), (2, True)),
    ("xlen", "xlen", with_stream(lambda c: c.xlen("x")), 2),
    ("xnack", "xnack", with_stream(lambda c: c.xnack("x", "group", "FAIL", "1-1")), anything),
    ("xpending", "xpending", with_stream(lambda c: c.xpending("x", "group")["pending"]), 1),
    ("xpending_range", "xpending", with_stream(lambda c: len(c.xpending_range("x", "group", "-", "+", 10))), 1),
    ("xrange", "xrange", with_stream(lambda c: c.xrange("x", "-", "+", count=1)), [(b"1-1", {b"f": b"1"})]),
    ("xread", "xread", with_stream(lambda c: c.xread({"x": "1-1"}, count=5)), lambda read: len(read) == 1),
    ("xreadgroup", "xreadgroup", with_stream(lambda c: c.xreadgroup("group", "me", {"x": ">"}, noack=True)), lambda read: len(read) == 1),
    ("xrevrange", "xrevrange", with_stream(lambda c: c.xrevrange("x")), lambda all: [entry[0] for entry in all] == [b"2-1", b"1-1"]),
    ("xtrim", "xtrim", with_stream(lambda c: c.xtrim("x", maxlen=1, approximate=False)), 1),
]


def methods():
    """The names of all public methods of the families."""
    return {name for family in FAMILIES for name, value in vars(family).items() if callable(value) and not name.startswith("_")}


@case()
def redis_py_every_method_about_data(server):
    called = {name for name, _, _, _ in CALLS}
    equal(sorted(methods() - called), [], "methods without a call")
    equal(sorted(called - methods()), [], "calls of what is no method")
    for client in clients(server):
        known, ran, wrong = {}, 0, []
        for name, command, call, wanted in CALLS:
            if command is not None and command not in known:
                # COMMAND INFO replies with nothing for a command that is not there.
                info = client.execute_command("COMMAND INFO", command)
                known[command] = any(info.values()) if isinstance(info, dict) else any(info)
            if command is not None and not known[command]:
                continue
            fill(client)
            ran += 1
            try:
                got = call(client)
                right = wanted(got) if callable(wanted) else got == wanted
            except Exception as error:
                got, right = error, False
            if not right:
                wrong.append(f"{name} gave {got!r}" + ("" if callable(wanted) else f", wanted {wanted!r}"))
        assert not wrong, "\n".join(wrong)
        within(ran, 170, len(CALLS), "calls of commands that are there")
        client.close()


@case()
def shops_nearby(server):
    """The classic use of places: what is near, how far it is, and what is open within reach of a member."""
    for client in clients(server):
        client.flushall()
        # A grid of shops around Alexanderplatz, about 700 m apart from west to east.
        for number in range(100):
            client.geoadd("shops", [13.30 + number % 10 * 0.01, 52.45 + number // 10 * 0.01, f"shop:{number}"])
        near = client.geosearch("shops", longitude=13.345, latitude=52.495, unit="m", radius=1000, withdist=True, sort="ASC")
        assert near, "some shops are within a kilometre"
        distances = [float(distance) for _, distance in near]
        equal(distances, sorted(distances), "the nearest come first")
        within(distances[-1], 0, 1000, "the farthest of them")
        few = client.geosearch("shops", longitude=13.345, latitude=52.495, unit="m", radius=1000, count=3, sort="ASC")
        equal(few, [name for name, _ in near[:3]])
        stored = client.geosearchstore("reach", "shops", member="shop:55", unit="km", radius=3, storedist=True)
        equal(client.zcard("reach"), stored)
        equal(client.zrange("reach", 0, 0), [b"shop:55"])
        client.zrem("shops", "shop:55")
        equal(client.geopos("shops", "shop:55"), [None])
        client.close()


@case()
def a_work_queue_with_brpoplpush(server):
    """The pattern of before 6.2: a job is on the list of its worker while it is done, and comes back if the worker dies."""
    for client in clients(server):
        client.flushall()
        client.lpush("jobs", *[f"job:{number}" for number in range(10)])
        done = []
        while (job := client.brpoplpush("jobs", "working:1", timeout=0.05)) is not None:
            if job == b"job:4":
                # The worker dies with the job, and another finds it on its list.
                equal(client.lrange("working:1", 0, -1), [job])
                equal(client.rpoplpush("working:1", "jobs"), job)
                client.set("again", time.time())
                job = client.brpoplpush("jobs", "working:2", timeout=1)
                equal(client.lrem("working:2", 1, job), 1)
            else:
                equal(client.lrem("working:1", 1, job), 1)
            done.append(job)
        equal(sorted(done), [f"job:{number}".encode() for number in range(10)])
        equal(client.exists("jobs", "working:1", "working:2"), 0)
        client.close()
