// ioredis as a subscriber: channels, patterns, many messages in order, and back to an ordinary connection.
// Usage: node pubsub.mjs PORT

import assert from "node:assert/strict";
import { once } from "node:events";
import { Redis } from "ioredis";

const port = Number(process.argv[2]);
const listener = new Redis(port, "127.0.0.1", { maxRetriesPerRequest: 0 });
const sender = new Redis(port, "127.0.0.1", { maxRetriesPerRequest: 0 });

assert.equal(await listener.subscribe("news", "sport"), 2);
assert.equal(await listener.psubscribe("n*"), 3);
const message = once(listener, "message");
const pmessage = once(listener, "pmessage");
assert.equal(await sender.publish("news", "hello"), 2);
assert.deepEqual(await message, ["news", "hello"]);
assert.deepEqual(await pmessage, ["n*", "news", "hello"]);
assert.equal(await listener.punsubscribe("n*"), 2);

const got = [];
const all = new Promise((resolve) => {
  listener.on("message", (channel, text) => {
    got.push(`${channel} ${text}`);
    if (got.length === 4000) resolve();
  });
});
const sent = [];
for (let n = 0; n < 4000; n++) {
  const channel = n % 2 ? "news" : "sport";
  sent.push(`${channel} ${n}`);
  sender.publish(channel, String(n));
}
await all;
assert.deepEqual(got, sent);

assert.equal(await listener.unsubscribe("news", "sport"), 0);
assert.equal(await listener.set("k", "v"), "OK");
assert.equal(await listener.get("k"), "v");
listener.disconnect();
sender.disconnect();
