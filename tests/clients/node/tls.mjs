// ioredis and node-redis over TLS, with a client's certificate: calls, a pipeline, a large value, pub/sub.
// Usage: node tls.mjs PORT CA CERTIFICATE KEY

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { Redis } from "ioredis";
import { createClient } from "redis";

const [port, ...paths] = process.argv.slice(2);
const [ca, cert, key] = paths.map((path) => readFileSync(path));
const large = Buffer.alloc(3_000_000, "large ");

const io = new Redis({ port: Number(port), host: "localhost", maxRetriesPerRequest: 0, tls: { ca, cert, key } });
await io.flushall();
assert.equal(await io.set("k", "v"), "OK");
assert.equal(await io.get("k"), "v");
assert.equal(await io.set("large", large), "OK");
assert.deepEqual(await io.getBuffer("large"), large);
const pipeline = io.pipeline();
for (let n = 0; n < 2000; n++) pipeline.incr(`n${n % 10}`);
const replies = await pipeline.exec();
assert.equal(replies.length, 2000);
assert.deepEqual(replies.slice(-1)[0], [null, 200]);
const listener = io.duplicate();
await listener.subscribe("news");
const heard = new Promise((resolve) => listener.on("message", (channel, text) => resolve([channel, text])));
assert.equal(await io.publish("news", "hello"), 1);
assert.deepEqual(await heard, ["news", "hello"]);
listener.disconnect();
io.disconnect();

const socket = { port: Number(port), host: "localhost", tls: true, ca, cert, key, reconnectStrategy: false };
const client = await createClient({ socket, RESP: 3 }).connect();
assert.equal(await client.get("k"), "v");
const values = await Promise.all(Array.from({ length: 1000 }, (_, n) => client.set(`m${n}`, String(n)).then(() => client.get(`m${n}`))));
assert.deepEqual(values, Array.from({ length: 1000 }, (_, n) => String(n)));
await client.close();

// Without a certificate nobody is served.
const stranger = createClient({ socket: { ...socket, cert: undefined, key: undefined } });
stranger.on("error", () => {});
await assert.rejects(async () => {
  await stranger.connect();
  await stranger.ping();
});
process.exit(0);
