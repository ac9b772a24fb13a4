"""Publish and subscribe as client libraries use them: redis-py in both protocols, ioredis with a connection that listens only."""

import os
import subprocess
import threading

import redis

from cases import Skip, case, equal, tool

HERE = os.path.dirname(os.path.abspath(__file__))


def messages(pubsub, count):
    """The next messages, confirmations left out."""
    found = []
    while len(found) < count:
        message = pubsub.get_message(timeout=10)
        assert message is not None, f"{count} messages were due, {found} came"
        if message["type"] in ("message", "pmessage", "smessage"):
            found.append(message)
    return found


@case()
def redis_py_publish_and_subscribe(server):
    for protocol in (2, 3):
        client = redis.Redis(port=server.port, protocol=protocol)
        pubsub = client.pubsub()
        pubsub.subscribe("news", "sport")
        pubsub.psubscribe("n*")
        for name, count in ((b"news", 1), (b"sport", 2), (b"n*", 3)):
            message = pubsub.get_message(timeout=10)
            equal((message["channel"], message["data"]), (name, count))
        equal(client.publish("news", "hello"), 2)
        first, second = messages(pubsub, 2)
        equal((first["type"], first["channel"], first["data"]), ("message", b"news", b"hello"))
        equal((second["type"], second["pattern"], second["channel"]), ("pmessage", b"n*", b"news"))
        equal(client.pubsub_numsub("news", "none"), [(b"news", 1), (b"none", 0)])
        equal(sorted(client.pubsub_channels()), [b"news", b"sport"])
        equal(client.pubsub_numpat(), 1)
        pubsub.ping("there?")
        pubsub.unsubscribe("news")
        pubsub.punsubscribe()
        while (message := pubsub.get_message(timeout=10))["type"] != "punsubscribe":
            pass
        equal(message["data"], 1, "subscriptions that are left")
        equal(client.publish("news", "nobody"), 0)
        pubsub.close()
        client.close()


@case()
def redis_py_handlers_in_a_thread_get_everything(server):
    for protocol in (2, 3):
        client = redis.Redis(port=server.port, protocol=protocol)
        got, done = [], threading.Event()

        def handle(message):
            got.append(int(message["data"]))
            if got[-1] == 4999:
                done.set()

        pubsub = client.pubsub(ignore_subscribe_messages=True)
        pubsub.subscribe(**{"numbers": handle})
        pubsub.get_message(timeout=10)
        thread = pubsub.run_in_thread(sleep_time=0.01)
        for start in range(0, 5000, 500):
            pipe = client.pipeline(transaction=start % 1000 == 0)
            for number in range(start, start + 500):
                pipe.publish("numbers", number)
            equal(pipe.execute(), [1] * 500)
        assert done.wait(20), f"{len(got)} of 5000 messages came"
        equal(got, list(range(5000)))
        thread.stop()
        thread.join()
        client.close()


@case()
def redis_py_reads_keyspace_events(server):
    client = redis.Redis(port=server.port)
    client.config_set("notify-keyspace-events", "KEA")
    pubsub = client.pubsub()
    pubsub.psubscribe("__keyevent@0__:*")
    pubsub.get_message(timeout=10)
    client.set("session:1", "x", px=30)
    client.rpush("queue", "job")
    seen = {}
    for message in messages(pubsub, 4):
        seen.setdefault(message["data"], []).append(message["channel"].split(b":")[-1])
    equal(seen, {b"session:1": [b"set", b"expire", b"expired"], b"queue": [b"rpush"]})
    pubsub.close()
    client.close()


@case()
def redis_py_monitor(server):
    client = redis.Redis(port=server.port)
    with client.monitor() as monitor:
        other = redis.Redis(port=server.port)
        other.set("watched key", "a \"value\"")
        for command in monitor.listen():
            if command["command"].startswith("SET"):
                break
        equal(command["command"], 'SET watched key a "value"')
        equal(command["db"], 0)
    client.close()


@case()
def ioredis_publish_and_subscribe(server):
    folder = os.path.join(HERE, "node")
    if not os.path.isdir(os.path.join(folder, "node_modules")):
        raise Skip("tests/clients/node has no node_modules: npm ci")
    done = subprocess.run([tool("node"), os.path.join(folder, "pubsub.mjs"), str(server.port)],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
