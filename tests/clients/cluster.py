"""Cluster clients and tools against the shards as nodes (`cluster-shard-nodes`): they find every node and each key where it is."""

import contextlib
import os
import random
import re
import socket
import subprocess
import time

import redis
from redis.cluster import ClusterNode, RedisCluster

from cases import Skip, case, equal, tool

HERE = os.path.dirname(os.path.abspath(__file__))


def nodes(start):
    """A server in the mode, with a row of free ports below those that the system gives to connections."""
    while True:
        port = random.randrange(20000, 32000)
        with contextlib.ExitStack() as sockets:
            try:
                for number in range(port, port + 4):
                    sockets.enter_context(socket.socket()).bind(("127.0.0.1", number))
            except OSError:
                continue
        return start(args=["--cluster-shard-nodes", "yes"], port=port)


def ports(server):
    return [server.port + 1 + shard for shard in range(server.shards)]


def run(*args, timeout=60):
    done = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{args} ended with {done.returncode}: {done.stdout + done.stderr}"
    # Colours are left out.
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)


def moved(server):
    """How often a node has told a client to go elsewhere."""
    count = 0
    for port in ports(server):
        with redis.Redis(port=port) as node:
            count += node.info("errorstats").get("errorstat_MOVED", {}).get("count", 0)
    return count


@case(shards=(1, 3), start=True, ours=True)
def redis_cli_follows_redirections(start):
    server = nodes(start)
    cli = [tool("redis-cli"), "-c", "-p", str(ports(server)[0])]
    for n in range(50):
        equal(run(*cli, "SET", f"key:{n}", str(n)), "OK\n")
    for n in range(50):
        equal(run(*cli, "GET", f"key:{n}"), f"{n}\n")
    equal(server.call("DBSIZE"), 50)


@case(shards=(1, 3), start=True, ours=True)
def redis_cli_cluster_check_info_and_call(start):
    server = nodes(start)
    for n in range(100):
        server.call("SET", f"key:{n}", n)
    for port in ports(server):
        address = f"127.0.0.1:{port}"
        text = run(tool("redis-cli"), "--cluster", "check", address)
        for line in ("[OK] All nodes agree about slots configuration.", "[OK] All 16384 slots covered."):
            assert line in text, text
        assert f"[OK] 100 keys in {server.shards} masters." in text, text
        assert f"[OK] 100 keys in {server.shards} masters." in run(tool("redis-cli"), "--cluster", "info", address)
        text = run(tool("redis-cli"), "--cluster", "call", address, "DBSIZE")
        equal(sum(int(n) for n in re.findall(r"^127[^ ]+: (\d+)$", text, re.M)), 100, "sum of DBSIZE")


# The tool wants two nodes at least.
@case(shards=(2, 3), start=True, ours=True)
def redis_benchmark_cluster(start):
    server = nodes(start)
    for port in (ports(server)[-1], server.port):
        text = run(tool("redis-benchmark"), "--cluster", "-p", str(port), "-t", "set,get", "-n", "5000", "-r", "1000", "-P", "4", "-q")
        assert f"Cluster has {server.shards} master nodes" in text, text
        equal(len(re.findall(r"(?:SET|GET): [\d.]+ requests per second", text)), 2, text)
        assert "rror" not in text, text
    equal(moved(server), 0, "redirections: the benchmark knows where slots are")


@case(shards=(1, 3), start=True, ours=True)
def redis_py_cluster(start):
    server = nodes(start)
    # One begins at a node, one at the main port.
    for protocol, port in ((2, ports(server)[0]), (3, server.port)):
        client = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", port)], protocol=protocol, decode_responses=True)
        equal(sorted(node.port for node in client.get_nodes()), ports(server))
        everywhere, before = RedisCluster.PRIMARIES, moved(server)
        keys = {f"key:{n}": str(n) for n in range(300)}
        for key, value in keys.items():
            equal(client.set(key, value), True)
        equal({key: client.get(key) for key in keys}, keys)
        with client.pipeline() as pipeline:
            for key in keys:
                pipeline.incr(key)
            equal(pipeline.execute(), [int(value) + 1 for value in keys.values()])
        equal(client.mget_nonatomic(list(keys)), [str(int(value) + 1) for value in keys.values()])
        equal(client.mset_nonatomic({key: "x" for key in keys}), [True] * len(set(map(client.keyslot, keys))), "mset_nonatomic")
        equal(sorted(client.scan_iter(match="key:*", count=50)), sorted(keys), "scan_iter: each key once")
        equal(sorted(client.keys("key:*", target_nodes=everywhere)), sorted(keys))
        equal(client.dbsize(target_nodes=everywhere), len(keys))
        equal(client.mset({"{tag}a": 1, "{tag}b": 2}), True)
        equal(client.mget("{tag}a", "{tag}b"), ["1", "2"])
        with client.pipeline(transaction=True) as pipeline:
            pipeline.incr("{tag}a")
            pipeline.incr("{tag}b")
            equal(pipeline.execute(), [2, 3], "a transaction of one slot")
        try:
            client.rename("key:1", "key:2")
            raise AssertionError("RENAME over slots went through")
        except redis.exceptions.RedisClusterException:
            pass
        equal(client.rpush("{q}list", "a", "b"), 2)
        equal(client.blpop(["{q}none", "{q}list"], timeout=5), ("{q}list", "a") if protocol == 2 else ["{q}list", "a"])
        equal(client.cluster_info(target_nodes=client.get_random_node())["cluster_state"], "ok")
        slot = client.keyslot("{tag}")
        equal(client.cluster_countkeysinslot(slot), 2)
        equal(sorted(client.cluster_get_keys_in_slot(slot, 10)), ["{tag}a", "{tag}b"])
        equal(client.delete(*keys), len(keys))
        client.flushall()
        equal(client.dbsize(target_nodes=everywhere), 0)
        equal(moved(server), before, "redirections")
        client.close()


@case(shards=(1, 3), start=True, ours=True)
def redis_py_cluster_pubsub(start):
    server = nodes(start)
    client = RedisCluster(host="127.0.0.1", port=ports(server)[0], decode_responses=True)

    def next_message(pubsub, **options):
        until = time.monotonic() + 10
        while time.monotonic() < until:
            message = pubsub.get_message(timeout=0.1, **options) if not options else pubsub.get_sharded_message(timeout=0.1)
            if message and message["type"] in ("message", "smessage"):
                return message["data"]
        raise AssertionError("no message within ten seconds")

    pubsub = client.pubsub()
    pubsub.subscribe("news")
    equal(pubsub.get_message(timeout=10)["type"], "subscribe")
    equal(client.pubsub_numsub("news", target_nodes=RedisCluster.PRIMARIES), [("news", 1)], "summed over all nodes")
    for node in client.get_primaries():
        equal(client.publish("news", str(node.port), target_nodes=node), 1)
    equal(sorted(next_message(pubsub) for _ in ports(server)), sorted(map(str, ports(server))), "each message once")
    pubsub.close()

    channels = [f"channel:{n}" for n in range(8)]
    sharded = client.pubsub()
    for channel in channels:
        sharded.ssubscribe(channel)
    confirmed = 0
    until = time.monotonic() + 10
    while confirmed < len(channels) and time.monotonic() < until:
        message = sharded.get_sharded_message(timeout=0.1)
        confirmed += bool(message and message["type"] == "ssubscribe")
    equal(confirmed, len(channels), "confirmations")
    for channel in channels:
        equal(client.spublish(channel, channel), 1)
    equal(sorted(next_message(sharded, sharded=True) for _ in channels), channels)
    sharded.close()
    client.close()


@case(shards=(1, 3), start=True, ours=True)
def ioredis_cluster(start):
    server = nodes(start)
    folder = os.path.join(HERE, "node")
    if not os.path.isdir(os.path.join(folder, "node_modules")):
        raise Skip("tests/clients/node has no node_modules: npm ci")
    for port in (ports(server)[0], server.port):
        run(tool("node"), os.path.join(folder, "cluster.mjs"), str(port), str(server.shards))
    equal(moved(server), 0, "redirections")
