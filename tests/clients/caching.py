"""The classic use: cache the answers of a slow HTTP API with SETEX, from Python, node-redis and ioredis.

The API is a small HTTP server in this process. It counts its hits, so the test knows what the cache saved: one hit
for each URL while its entry lives, one more after it has expired, and what is served is always what the API said.
"""

import json
import os
import subprocess
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import redis

from cases import Skip, case, equal, tool, within

HERE = os.path.dirname(os.path.abspath(__file__))


class Api:
    """GET /weather/CITY gives JSON that is different at each hit, after 20 ms."""

    def __enter__(self):
        self.hits = {}
        lock = threading.Lock()
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                with lock:
                    api.hits[self.path] = api.hits.get(self.path, 0) + 1
                    body = json.dumps({"path": self.path, "hit": api.hits[self.path], "sky": "☀" * 50}).encode()
                time.sleep(0.02)
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                """Quiet."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()


def fetch_cached(client, url, seconds):
    """What an application writes: look, else ask and keep. Returns the answer and whether it was kept."""
    kept = client.get(f"cache:{url}")
    if kept is not None:
        return json.loads(kept), True
    with urllib.request.urlopen(url, timeout=5) as response:
        body = response.read()
    client.setex(f"cache:{url}", seconds, body)
    return json.loads(body), False


@case()
def caching_an_api_with_redis_py(server):
    for options in ({}, {"protocol": 2}):
        with Api() as api:
            client = redis.Redis(port=server.port, **options)
            client.flushall()
            url = f"{api.url}/weather/oslo"
            equal(fetch_cached(client, url, 1)[1], False)
            for _ in range(20):
                answer, kept = fetch_cached(client, url, 1)
                equal((answer["hit"], kept), (1, True))
            within(client.pttl(f"cache:{url}"), 1, 1000, "PTTL")
            equal(api.hits, {"/weather/oslo": 1})
            time.sleep(1.05)
            equal(client.exists(f"cache:{url}"), 0, "EXISTS after the second is over")
            equal(fetch_cached(client, url, 100)[0]["hit"], 2)

            # Many users, few cities: misses may race at first, and from then on nothing reaches the API.
            cities = [f"{api.url}/weather/city{n}" for n in range(10)]
            with ThreadPoolExecutor(16) as users:
                list(users.map(lambda n: fetch_cached(client, cities[n % 10], 100), range(320)))
                hits = dict(api.hits)
                for path in hits:
                    within(hits[path], 1, 16, f"hits of {path}")
                answers = list(users.map(lambda n: fetch_cached(client, cities[n % 10], 100), range(500)))
            equal(api.hits, hits, "hits while every entry lives")
            for n, (answer, kept) in enumerate(answers):
                equal((answer["path"], kept), (f"/weather/city{n % 10}", True))
            client.close()


def run_script(server, name):
    node = tool("node")
    folder = os.path.join(HERE, "node")
    if not os.path.isdir(os.path.join(folder, "node_modules")):
        raise Skip("tests/clients/node has no node_modules: npm ci")
    with Api() as api:
        done = subprocess.run(
            [node, os.path.join(folder, name), str(server.port), api.url],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{name} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        equal(api.hits.get("/weather/oslo"), 2, "hits: once before and once after the entry's second")
        for city in range(10):
            within(api.hits.get(f"/weather/city{city}"), 1, 16, f"hits of city{city}")
        equal(json.loads(done.stdout.splitlines()[-1])["hits"], sum(api.hits.values()), "hits as the script saw them")


@case()
def caching_an_api_with_node_redis(server):
    run_script(server, "node_redis.mjs")


@case()
def caching_an_api_with_ioredis(server):
    run_script(server, "ioredis.mjs")
