// ioredis and node-redis as cluster clients, with their default settings: where nodes are, keys of all of them, a pipeline, a transaction
// of one slot, a scan of each node, channels.
// Usage: node cluster.mjs PORT NODES

import assert from "node:assert/strict";
import { Cluster } from "ioredis";
import { createCluster } from "redis";

const [port, nodes] = process.argv.slice(2).map(Number);

const cluster = new Cluster([{ host: "127.0.0.1", port }]);
await Promise.all(Array.from({ length: 200 }, (_, n) => cluster.set(`key:${n}`, n)));
assert.equal(await cluster.get("key:77"), "77");
const masters = cluster.nodes("master");
assert.equal(masters.length, nodes);
assert.equal((await Promise.all(masters.map((node) => node.dbsize()))).reduce((a, b) => a + b), 200);
const found = [];
for (const node of masters) for await (const keys of node.scanStream({ count: 20 })) found.push(...keys);
assert.equal(found.length, 200);
assert.equal(new Set(found).size, 200);
const replies = await cluster.pipeline().incr("{tag}a").incr("{tag}b").get("{tag}a").exec();
assert.deepEqual(replies, [[null, 1], [null, 1], [null, "1"]]);
assert.deepEqual(await cluster.multi().incr("{tag}a").incr("{tag}b").exec(), [[null, 2], [null, 2]]);
await assert.rejects(cluster.mget("key:1", "key:2", "key:3"), /CROSSSLOT|same slot/);
const heard = new Promise((resolve) => cluster.once("message", (channel, message) => resolve([channel, message])));
await cluster.subscribe("news");
const publisher = new Cluster([{ host: "127.0.0.1", port }]);
await publisher.publish("news", "hello");
assert.deepEqual(await heard, ["news", "hello"]);
publisher.disconnect();
cluster.disconnect();

const other = createCluster({ rootNodes: [{ url: `redis://127.0.0.1:${port}` }] });
await other.connect();
assert.equal(other.masters.length, nodes);
const values = await Promise.all(Array.from({ length: 200 }, (_, n) => other.get(`key:${n}`)));
assert.deepEqual(values, Array.from({ length: 200 }, (_, n) => String(n)));
assert.deepEqual(await other.multi().incr("{tag}a").incr("{tag}b").exec(), [3, 3]);
await Promise.all(other.masters.map(async (node) => (await other.nodeClient(node)).flushAll()));
await other.destroy();
