// The caching example, for any client that is wrapped as { get, setex, pttl, exists, flushall }.
//
// The last line of output is JSON with the number of answers that came from the API, which the caller compares
// with what the API counted.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

export async function cacheAnApi(cache, api) {
  let hits = 0;

  async function fetchCached(url, seconds) {
    const kept = await cache.get(`cache:${url}`);
    if (kept !== null) return { answer: JSON.parse(kept), kept: true };
    const response = await fetch(url);
    const body = await response.text();
    hits += 1;
    await cache.setex(`cache:${url}`, seconds, body);
    return { answer: JSON.parse(body), kept: false };
  }

  await cache.flushall();
  const oslo = `${api}/weather/oslo`;
  assert.equal((await fetchCached(oslo, 1)).kept, false);
  for (let i = 0; i < 20; i++) {
    const { answer, kept } = await fetchCached(oslo, 1);
    assert.deepEqual([answer.hit, kept, answer.sky.length], [1, true, 50]);
  }
  const left = await cache.pttl(`cache:${oslo}`);
  assert.ok(left > 0 && left <= 1000, `PTTL ${left}`);
  await sleep(1050);
  assert.equal(await cache.exists(`cache:${oslo}`), 0);
  assert.equal((await fetchCached(oslo, 100)).answer.hit, 2);

  // Sixteen users at once; every entry is there after the first round.
  const user = async (rounds) => {
    const kept = [];
    for (let i = 0; i < rounds; i++) kept.push((await fetchCached(`${api}/weather/city${i % 10}`, 100)).kept);
    return kept;
  };
  await Promise.all(Array.from({ length: 16 }, () => user(10)));
  const before = hits;
  const second = await Promise.all(Array.from({ length: 16 }, () => user(50)));
  assert.ok(second.flat().every((kept) => kept), "an entry was lost");
  assert.equal(hits, before);
  console.log(JSON.stringify({ hits }));
}
