// ioredis with its default handshake: typed calls, an explicit pipeline, scan stream, then the caching example.
// Usage: node ioredis.mjs PORT API_URL

import assert from "node:assert/strict";
import { Redis } from "ioredis";
import { cacheAnApi } from "./caching.mjs";

const [port, api] = process.argv.slice(2);
const client = new Redis(Number(port), "127.0.0.1", { maxRetriesPerRequest: 0 });

await client.flushall();
assert.equal(await client.ping(), "PONG");
assert.equal(await client.set("k", "v", "EX", 100), "OK");
assert.equal(await client.get("k"), "v");
assert.deepEqual(await client.getBuffer("k"), Buffer.from("v"));
assert.equal(await client.get("none"), null);
assert.equal(await client.incrby("n", 5), 5);
assert.deepEqual(await client.mget("k", "none", "n"), ["v", null, "5"]);
assert.equal(await client.mset("a", "1", "b", "2"), "OK");
assert.equal(await client.del("a", "b", "none"), 2);
await assert.rejects(client.incr("k"), /not an integer or out of range/);
const replies = await client.pipeline().set("p", "1").incr("p").incr("k").get("p").exec();
assert.deepEqual([replies[0][1], replies[1][1], replies[3][1]], ["OK", 2, "2"]);
assert.match(replies[2][0].message, /not an integer/);
const found = [];
for await (const keys of client.scanStream({ count: 10 })) found.push(...keys);
assert.deepEqual(found.sort(), ["k", "n", "p"]);

await cacheAnApi(client, api);
client.disconnect();
