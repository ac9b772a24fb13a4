// node-redis with its default handshake: typed calls, a pipeline, both protocols, then the caching example.
// Usage: node node_redis.mjs PORT API_URL

import assert from "node:assert/strict";
import { createClient } from "redis";
import { cacheAnApi } from "./caching.mjs";

const [port, api] = process.argv.slice(2);

for (const options of [{}, { RESP: 2 }, { RESP: 3 }]) {
  const client = createClient({ url: `redis://127.0.0.1:${port}`, ...options });
  client.on("error", (error) => {
    throw error;
  });
  await client.connect();
  await client.flushAll();
  assert.equal(await client.ping(), "PONG");
  assert.equal(await client.set("k", "v", { expiration: { type: "EX", value: 100 } }), "OK");
  assert.equal(await client.get("k"), "v");
  assert.equal(await client.get("none"), null);
  assert.equal(await client.incrBy("n", 5), 5);
  assert.deepEqual(await client.mGet(["k", "none", "n"]), ["v", null, "5"]);
  assert.equal(await client.mSet({ a: "1", b: "2" }), "OK");
  assert.equal(await client.del(["a", "b", "none"]), 2);
  await assert.rejects(client.incr("k"), /not an integer or out of range/);
  // Calls of one tick travel as one pipeline.
  const sums = await Promise.all(Array.from({ length: 500 }, () => client.incr("sum")));
  assert.deepEqual(sums, Array.from({ length: 500 }, (_, i) => i + 1));
  const found = [];
  for await (const keys of client.scanIterator({ COUNT: 10 })) found.push(...[keys].flat());
  assert.deepEqual(found.sort(), ["k", "n", "sum"]);
  await client.close();
}

const client = await createClient({ url: `redis://127.0.0.1:${port}` }).connect();
await cacheAnApi(
  {
    get: (key) => client.get(key),
    setex: (key, seconds, value) => client.setEx(key, seconds, value),
    pttl: (key) => client.pTTL(key),
    exists: (key) => client.exists(key),
    flushall: () => client.flushAll(),
  },
  api,
);
await client.close();
