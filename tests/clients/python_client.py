"""redis-py with its default handshake, in RESP2 and RESP3: the string, generic and connection commands as typed calls."""

import threading
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cases import case, equal, within


def clients(server):
    """The library's default (RESP3 since 8.0), RESP3 asked for, RESP2 asked for."""
    yield redis.Redis(port=server.port)
    yield redis.Redis(port=server.port, protocol=3)
    yield redis.Redis(port=server.port, protocol=2, decode_responses=False)


def raises(text, function, *args, **options):
    try:
        got = function(*args, **options)
    except redis.RedisError as error:
        assert text in str(error), f"the error was {error}, wanted {text}"
        return
    raise AssertionError(f"got {got!r} where an error with {text!r} was due")


@case()
def redis_py_handshake_and_connection_commands(server):
    for client in clients(server):
        equal(client.ping(), True)
        equal(client.echo("hello"), b"hello")
        connection_id = client.client_id()
        assert connection_id > 0
        equal(client.client_setname("tester"), True)
        equal(client.client_getname() in ("tester", b"tester"), True, "name")
        listed = [row for row in client.client_list() if row["id"] == str(connection_id)]
        equal(len(listed), 1, "rows of CLIENT LIST with our id")
        equal(listed[0]["name"], "tester")
        info = client.info()
        version = tuple(int(n) for n in info["redis_version"].split(".")[:2])
        assert version >= (7, 0), version
        if version >= (7, 2):
            assert listed[0]["lib-name"].startswith("redis-py"), listed[0]
        equal(client.client_info()["id"] in (connection_id, str(connection_id)), True)
        raises("No such client", client.execute_command, "CLIENT KILL 127.0.0.1:1")
        within(client.time()[0], time.time() - 5, time.time() + 5, "TIME")
        equal(info["redis_mode"], "standalone")
        assert client.config_get("maxclients")["maxclients"] == "10000"
        raises("unknown command 'NOSUCH'", client.execute_command, "NOSUCH", "a")
        raises("wrong number of arguments for 'get' command", client.execute_command, "GET")
        client.close()


@case()
def redis_py_strings(server):
    for client in clients(server):
        client.flushall()
        equal(client.set("k", "v"), True)
        equal(client.get("k"), b"v")
        equal(client.set("k", "w", nx=True), None)
        equal(client.set("k", "w", xx=True, get=True), b"v")
        equal(client.set("t", "1", ex=100), True)
        within(client.ttl("t"), 99, 100, "TTL")
        equal(client.set("t", "2", keepttl=True), True)
        within(client.pttl("t"), 98_000, 100_000, "PTTL")
        equal(client.getset("k", "x"), b"w")
        equal(client.getdel("k"), b"x")
        equal(client.get("k"), None)
        equal(client.setex("s", 50, "v"), True)
        equal(client.psetex("p", 50_000, "v"), True)
        equal(client.getex("p", persist=True), b"v")
        equal(client.ttl("p"), -1)
        equal(client.setnx("s", "other"), False)
        equal(client.append("a", "abc"), 3)
        equal(client.append("a", "def"), 6)
        equal(client.strlen("a"), 6)
        equal(client.getrange("a", -3, -1), b"def")
        equal(client.setrange("a", 8, "!"), 9)
        equal(client.get("a"), b"abcdef\0\0!")
        equal(client.incr("n"), 1)
        equal(client.incrby("n", 41), 42)
        equal(client.decr("n"), 41)
        equal(client.decrby("n", 40), 1)
        equal(float(client.incrbyfloat("f", "10.5")), 10.5)
        equal(float(client.incrbyfloat("f", "-0.25")), 10.25)
        raises("value is not an integer or out of range", client.incr, "a")
        equal(client.mset({f"m{i}": i for i in range(50)}), True)
        equal(client.mget([f"m{i}" for i in range(50)] + ["none"]), [str(i).encode() for i in range(50)] + [None])
        equal(client.msetnx({"m0": "x", "new": "y"}), False)
        equal(client.exists("new"), 0)
        equal(client.msetnx({"new": "y", "newer": "z"}), True)
        client.mset({"lcs1": "ohmytext", "lcs2": "mynewtext"})
        equal(client.lcs("lcs1", "lcs2"), b"mytext")
        blob = bytes(range(256)) * 4096
        equal(client.set(b"\0\r\n\xff", blob), True)
        equal(client.get(b"\0\r\n\xff") == blob, True, "a megabyte of every byte comes back")
        client.close()


@case()
def redis_py_generic_commands(server):
    for client in clients(server):
        client.flushall()
        names = [f"key:{i}" for i in range(1000)]
        client.mset({name: "v" for name in names})
        equal(client.dbsize(), 1000)
        equal(sorted(client.scan_iter(count=37)), sorted(name.encode() for name in names), "scan_iter")
        equal(len(set(client.scan_iter(match="key:1*"))), 111)
        equal(len(set(client.scan_iter(_type="string"))), 1000)
        equal(len(client.keys("key:?")), 10)
        assert client.randomkey() in {name.encode() for name in names}
        equal(client.exists(*names[:3], names[0], "none"), 4)
        equal(client.touch(*names[:3], "none"), 3)
        equal(client.delete(*names[:100], "none"), 100)
        equal(client.unlink(*names[100:200]), 100)
        equal(client.type("key:500"), b"string")
        equal(client.type("none"), b"none")
        equal(client.rename("key:500", "renamed"), True)
        raises("no such key", client.rename, "key:500", "x")
        equal(client.renamenx("renamed", "key:501"), False)
        equal(client.copy("renamed", "copied"), True)
        equal(client.copy("renamed", "key:501"), False)
        equal(client.copy("renamed", "key:501", replace=True), True)
        equal(client.expire("copied", 100), True)
        equal(client.expire("copied", 50, gt=True), False)
        equal(client.expireat("copied", int(time.time()) + 1000), True)
        within(client.expiretime("copied") - time.time(), 990, 1001, "EXPIRETIME")
        equal(client.persist("copied"), True)
        equal(client.pexpire("copied", 20), True)
        time.sleep(0.06)
        equal(client.get("copied"), None)
        equal(client.object("encoding", "renamed"), b"embstr")
        equal(client.move("renamed", 3), True)
        equal(client.exists("renamed"), 0)
        other = redis.Redis(port=server.port, db=3, protocol=client.connection_pool.connection_kwargs.get("protocol", 3))
        equal(other.get("renamed"), b"v")
        equal(client.swapdb(0, 3), True)
        equal(client.get("renamed"), b"v")
        other.close()
        equal(client.flushdb(), True)
        equal(client.flushall(asynchronous=True), True)
        equal(client.dbsize(), 0)
        client.close()


@case()
def redis_py_pipelines_keep_their_order(server):
    for client in clients(server):
        client.flushall()
        pipe = client.pipeline(transaction=False)
        for i in range(2000):
            pipe.set(f"p:{i}", i)
            pipe.get(f"p:{i}")
            pipe.incr("same")
        pipe.get("none")
        pipe.echo("end")
        replies = pipe.execute()
        for i in range(2000):
            equal(replies[3 * i : 3 * i + 3], [True, str(i).encode(), i + 1], f"replies of step {i}")
        equal(replies[-2:], [None, b"end"])
        pipe.set("good", "1").incr("good").incr("p:bad").execute_command("NOSUCH").get("good")
        replies = pipe.execute(raise_on_error=False)
        assert isinstance(replies[3], redis.ResponseError), replies
        equal(replies[4], b"2", "the reply after an error in the same pipeline")
        client.close()


@case()
def redis_py_threads_share_a_pool(server):
    client = redis.Redis(port=server.port)
    faults = []

    def work(me):
        try:
            for i in range(200):
                equal(client.set(f"{me}:{i}", i), True)
                equal(client.get(f"{me}:{i}"), str(i).encode())
                client.incr("total")
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(me,)) for me in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal(faults, [])
    equal(client.get("total"), b"3200")
    client.close()


@case(args=["--requirepass", "sesame"])
def redis_py_passwords(server):
    once = Retry(NoBackoff(), 0)
    for protocol in (2, 3):

        def client(**login):
            return redis.Redis(port=server.port, protocol=protocol, retry=once, **login)

        equal(client(password="sesame").ping(), True)
        equal(client(username="default", password="sesame").ping(), True)
        raises("uthentica", client().ping)
        raises("invalid username-password pair", client(password="wrong").ping)
        raises("invalid username-password pair", client(username="nobody", password="sesame").ping)


@case()
def redis_py_users(server):
    admin = redis.Redis(port=server.port, decode_responses=True)
    equal(
        admin.acl_setuser(
            "ann",
            enabled=True,
            passwords=["+sesame"],
            categories=["+@read", "+@transaction", "-@dangerous"],
            commands=["+set", "+ping", "+acl|whoami", "+client"],
            keys=["a*", "cache:*"],
            channels=["news.*"],
        ),
        True,
    )
    user = admin.acl_getuser("ann")
    equal(user["enabled"], True)
    equal(user["keys"], ["~a*", "~cache:*"])
    equal(user["channels"], ["&news.*"])
    assert "+set" in user["commands"] and "+@read" in user["categories"], user
    equal(admin.acl_users(), ["ann", "default"])
    for protocol in (2, 3):
        ann = redis.Redis(
            port=server.port, protocol=protocol, username="ann", password="sesame", decode_responses=True
        )
        equal(ann.acl_whoami(), "ann")
        equal(ann.set("a1", "x"), True)
        equal(ann.get("a1"), "x")
        for call in (lambda: ann.get("b"), ann.flushall, lambda: ann.publish("other", "x")):
            try:
                call()
                raise AssertionError("it was not refused")
            except redis.exceptions.NoPermissionError:
                pass
        pipe = ann.pipeline()
        pipe.set("a2", "y").get("a2")
        equal(pipe.execute(), [True, "y"])
        ann.close()
    assert "has no permissions to run the" in admin.acl_dryrun("ann", "flushall")
    entries = admin.acl_log()
    equal({entry["reason"] for entry in entries}, {"key", "command"})
    equal(entries[0]["username"], "ann")
    assert isinstance(entries[0]["client-info"], dict), entries[0]
    equal(admin.acl_log_reset(), True)
    equal(len(admin.acl_genpass()), 64)
    equal(admin.acl_deluser("ann"), 1)
    admin.close()
