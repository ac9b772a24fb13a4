"""The port for metrics, read by Prometheus's own parser, and what dashboards' exporters ask of a server."""

import threading
import urllib.error
import urllib.request

from cases import case, equal, within
from prometheus_client.parser import text_string_to_metric_families
from server import encode, free_port


def fetch(port, path):
    """Status, content type and body."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


def families(port):
    status, kind, body = fetch(port, "/metrics")
    equal(status, 200)
    equal(kind, "text/plain; version=0.0.4; charset=utf-8")
    return {family.name: family for family in text_string_to_metric_families(body)}


def value(found, family, **labels):
    samples = [sample.value for sample in found[family].samples if sample.labels == labels]
    equal(len(samples), 1, f"samples of {family} {labels}")
    return samples[0]


@case(start=True, ours=True)
def prometheus_reads_the_metrics(start):
    port = free_port()
    server = start(["--metrics-port", str(port), "--metrics-bind", "127.0.0.1"])
    with server.raw() as connection:
        for n in range(200):
            equal(connection.call("SET", f"key:{n}", "v"), b"OK")
        connection.send(encode("INCR", "key:1"))
        equal(connection.error(), "ERR value is not an integer or out of range")
        found = families(port)
        equal(value(found, "redis_up"), 1)
        equal(value(found, "redis_commands", cmd="set"), 200)
        equal(value(found, "redis_commands_failed_calls", cmd="incr"), 1)
        equal(value(found, "redis_db_keys", db="db0"), 200)
        equal(value(found, "redis_connected_clients"), 1)
        equal(sum(sample.value for sample in found["annulus_shard_keys"].samples), 200)
        equal(sum(sample.value for sample in found["annulus_shard_slots"].samples), 16384)
        for family in found.values():
            assert family.documentation and family.type in ("gauge", "counter"), family
        counters = {name: family for name, family in found.items() if family.type == "counter"}
        for n in range(50):
            connection.call("GET", f"key:{n}")
        again = families(port)
        for name, family in counters.items():
            for sample in family.samples:
                assert value(again, name, **sample.labels) >= sample.value, f"{name} went back"


@case(start=True, ours=True)
def health_is_asked_for_while_clients_work(start):
    port = free_port()
    server = start(["--metrics-port", str(port), "--metrics-bind", "127.0.0.1"])
    with server.raw() as connection:
        statuses = []

        def ask():
            statuses.extend(fetch(port, "/healthz")[0] for _ in range(20))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for n in range(500):
            equal(connection.call("SET", f"key:{n}", "v"), b"OK")
        for thread in threads:
            thread.join()
        equal(statuses, [200] * 80)
        equal(fetch(port, "/nothing")[0], 404)
        within(len(families(port)), 40, 200, "families")
