//! Commands over sets and sorted sets of thousands of members, whose replies and results are worked out in slices: they are what they
//! would be for few, in both protocols, at one shard and at several, and whatever happens to the operands meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use annulus::base::rng::Rng;

use super::harness::{Client, Server, Value};

/// Runs `test` at 1 and at 4 shards, with a client in each protocol and a seed.
fn on_own_servers(test: impl Fn(&mut [Client; 2], &mut Rng, &str)) {
    let seed = u64::from(std::process::id());
    for shards in [1, 4] {
        let server = Server::annulus(shards, &[]);
        let told = format!("{shards} shards, seed {seed}");
        test(&mut [server.connect(), server.connect_resp3()], &mut Rng::seed(seed), &told);
    }
}

fn members(reply: &Value) -> BTreeSet<String> {
    let elements = match reply {
        Value::Set(elements) | Value::Array(elements) => elements,
        other => panic!("no members: {other}"),
    };
    let set: BTreeSet<String> = elements.iter().map(Value::text).collect();
    assert_eq!(set.len(), elements.len(), "no member comes twice");
    set
}

/// Members with their scores, in the order of the reply.
fn scored(reply: &Value) -> Vec<(String, f64)> {
    let elements = reply.elements().unwrap_or_else(|| panic!("no members: {reply}"));
    let number = |value: &Value| {
        let text = if let Value::Double(text) = value { Some(&text[..]) } else { value.bytes() };
        std::str::from_utf8(text.unwrap_or_else(|| panic!("no score: {value}")))
            .ok()
            .and_then(|text| text.parse().ok())
            .expect("a score")
    };
    match elements.first() {
        Some(Value::Array(_)) => {
            let pairs = elements.iter().map(|pair| pair.elements().expect("a pair"));
            pairs.map(|pair| (pair[0].text(), number(&pair[1]))).collect()
        }
        _ => elements.chunks(2).map(|pair| (pair[0].text(), number(&pair[1]))).collect(),
    }
}

/// Random members, some of which other calls draw, too.
fn draw(rng: &mut Rng, count: usize, range: u64) -> BTreeSet<String> {
    let mut drawn = BTreeSet::new();
    while drawn.len() < count {
        drawn.insert(format!("m{}", rng.below(range)));
    }
    drawn
}

fn add_in_chunks(client: &mut Client, command: &str, words: &[String]) {
    for chunk in words.chunks(2000) {
        client.line(&format!("{command} {}", chunk.join(" ")));
    }
}

#[test]
fn the_algebra_of_long_sets_is_that_of_short_ones() {
    on_own_servers(|clients, rng, told| {
        let sets: Vec<BTreeSet<String>> =
            [(9000, 20_000), (12_000, 20_000), (5000, 8000)].map(|(count, range)| draw(rng, count, range)).into();
        for (number, set) in sets.iter().enumerate() {
            add_in_chunks(&mut clients[0], &format!("SADD s{number}"), &set.iter().cloned().collect::<Vec<_>>());
        }
        clients[0].line("SADD few m1 m2 m3 m4 m5 none");
        for (a, b) in [(0, 1), (1, 0), (1, 2), (2, 2)] {
            let keys = format!("s{a} s{b}");
            let union: BTreeSet<String> = sets[a].union(&sets[b]).cloned().collect();
            let intersection: BTreeSet<String> = sets[a].intersection(&sets[b]).cloned().collect();
            let difference: BTreeSet<String> = sets[a].difference(&sets[b]).cloned().collect();
            for (name, expected) in [("UNION", union), ("INTER", intersection), ("DIFF", difference)] {
                for client in clients.iter_mut() {
                    assert!(members(&client.line(&format!("S{name} {keys}"))) == expected, "{name} {keys}: {told}");
                    let mut scored = scored(&client.line(&format!("Z{name} 2 {keys} WITHSCORES")));
                    scored.sort_by(|a, b| a.0.cmp(&b.0));
                    assert!(scored.iter().map(|(member, _)| member).eq(&expected), "Z{name} {keys}: {told}");
                }
                for (line, range) in [
                    (format!("S{name}STORE d {keys}"), "SMEMBERS d"),
                    (format!("Z{name}STORE d 2 {keys}"), "ZRANGE d 0 -1"),
                ] {
                    assert_eq!(clients[0].line(&line), Value::Int(expected.len() as i64), "{line}: {told}");
                    assert!(members(&clients[1].line(range)) == expected, "{line}: {told}");
                }
                if name == "INTER" {
                    for (limit, count) in [(0, expected.len()), (10, 10), (7000, expected.len().min(7000))] {
                        for card in ["SINTERCARD", "ZINTERCARD"] {
                            let reply = clients[1].line(&format!("{card} 2 {keys} LIMIT {limit}"));
                            assert_eq!(reply, Value::Int(count as i64), "{card} {keys} {limit}: {told}");
                        }
                    }
                }
            }
        }
        // A result that is empty, or takes the place of an operand.
        assert_eq!(clients[0].line("SDIFFSTORE d s0 s0"), Value::Int(0));
        assert_eq!(clients[0].line("EXISTS d"), Value::Int(0));
        assert_eq!(
            clients[0].line("SUNIONSTORE s0 s0 few"),
            Value::Int(sets[0].len() as i64 + 6 - (1..6).filter(|n| sets[0].contains(&format!("m{n}"))).count() as i64)
        );
        assert_eq!(clients[0].line("SINTER few").elements().map_or(6, <[Value]>::len), 6);
    });
}

#[test]
fn scores_of_long_sorted_sets_are_joined_as_those_of_short_ones() {
    on_own_servers(|clients, rng, told| {
        let mut zsets: Vec<BTreeMap<String, f64>> = Vec::new();
        for (number, (count, range)) in [(8000, 12_000), (6000, 12_000)].into_iter().enumerate() {
            let zset: BTreeMap<String, f64> =
                draw(rng, count, range).into_iter().map(|member| (member, rng.range(-500..=500) as f64)).collect();
            let words: Vec<String> = zset.iter().map(|(member, score)| format!("{score} {member}")).collect();
            add_in_chunks(&mut clients[0], &format!("ZADD z{number}"), &words);
            zsets.push(zset);
        }
        for (aggregate, join) in [("SUM", (|a, b| a + b) as fn(f64, f64) -> f64), ("MIN", f64::min), ("MAX", f64::max)]
        {
            let (mut union, mut intersection) = (zsets[0].clone(), BTreeMap::new());
            union.values_mut().for_each(|score| *score *= 2.0);
            for (member, score) in &zsets[1] {
                let score = score * -1.0;
                let joined = union.get(member).map(|old| join(*old, score));
                union.insert(member.clone(), joined.unwrap_or(score));
                intersection.extend(joined.map(|score| (member.clone(), score)));
            }
            for (name, expected) in [("ZUNION", &union), ("ZINTER", &intersection)] {
                let mut expected: Vec<(String, f64)> = expected.iter().map(|(m, s)| (m.clone(), *s)).collect();
                expected.sort_by(|a, b| a.1.total_cmp(&(b.1 + 0.0)).then_with(|| a.0.cmp(&b.0)));
                // Zero has two signs and one place.
                expected.iter_mut().for_each(|(_, score)| *score += 0.0);
                expected.sort_by(|a, b| a.1.partial_cmp(&b.1).unwrap().then_with(|| a.0.cmp(&b.0)));
                let options = format!("2 z0 z1 WEIGHTS 2 -1 AGGREGATE {aggregate}");
                for client in clients.iter_mut() {
                    assert!(
                        scored(&client.line(&format!("{name} {options} WITHSCORES"))) == expected,
                        "{name} {aggregate}: {told}"
                    );
                }
                let stored = clients[0].line(&format!("{name}STORE d {options}"));
                assert_eq!(stored, Value::Int(expected.len() as i64), "{name} {aggregate}: {told}");
                assert!(
                    scored(&clients[0].line("ZRANGE d 0 -1 WITHSCORES")) == expected,
                    "{name}STORE {aggregate}: {told}"
                );
            }
        }
    });
}

#[test]
fn long_ranges_are_sent_as_they_were_when_they_were_asked_for() {
    on_own_servers(|clients, _, told| {
        let words: Vec<String> = (0..30_000).map(|n| format!("{n} m{n:05}")).collect();
        let expected = |from: usize, count: usize| -> Vec<(String, f64)> {
            (from..from + count).map(|n| (format!("m{n:05}"), n as f64)).collect()
        };
        for client in clients.iter_mut() {
            add_in_chunks(client, "ZADD z", &words);
            // The key goes away before the reply has been read.
            client.send(&["ZRANGE", "z", "0", "-1", "WITHSCORES"]);
            client.send(&["ZREMRANGEBYSCORE", "z", "(10", "(29990"]);
            client.send(&["ZRANGE", "z", "0", "-1", "WITHSCORES"]);
            assert!(scored(&client.reply()) == expected(0, 30_000), "{told}");
            assert_eq!(client.reply(), Value::Int(29_979), "{told}");
            assert!(scored(&client.reply()) == [expected(0, 11), expected(29_990, 10)].concat(), "{told}");
            assert_eq!(client.line("OBJECT ENCODING z").text(), "skiplist");
            add_in_chunks(client, "ZADD z", &words);
            let mut backwards = expected(1000, 9000);
            backwards.reverse();
            for (line, expected) in [
                ("ZRANGEBYSCORE z 1000 +inf WITHSCORES LIMIT 500 8000", expected(1500, 8000)),
                ("ZREVRANGEBYSCORE z (10000 1000 WITHSCORES", backwards.clone()),
                ("ZRANGE z (10000 1000 BYSCORE REV WITHSCORES", backwards.clone()),
                ("ZREVRANGE z 20000 28999 WITHSCORES", backwards),
            ] {
                assert!(scored(&client.line(line)) == expected, "{line}: {told}");
            }
            let names: Vec<String> = expected(100, 9900).into_iter().map(|(member, _)| member).collect();
            let range = client.line("ZRANGE z 100 9999");
            assert!(range.elements().unwrap().iter().map(Value::text).eq(names), "{told}");
            assert_eq!(client.line("ZREMRANGEBYRANK z 0 -1"), Value::Int(30_000));
            assert_eq!(client.line("EXISTS z"), Value::Int(0));
        }
    });
}

#[test]
fn most_of_a_long_set_is_popped_and_the_rest_stays() {
    on_own_servers(|clients, rng, told| {
        let set = draw(rng, 20_000, 1 << 40);
        for client in clients.iter_mut() {
            add_in_chunks(client, "SADD s", &set.iter().cloned().collect::<Vec<_>>());
            let popped = members(&client.line("SPOP s 19990"));
            let rest = members(&client.line("SMEMBERS s"));
            assert!(popped.len() == 19_990 && rest.len() == 10 && popped.is_disjoint(&rest), "{told}");
            assert!(popped.union(&rest).eq(&set), "{told}");
            assert!(members(&client.line("SPOP s 10")) == rest, "{told}");
            assert_eq!(client.line("EXISTS s"), Value::Int(0));
        }
    });
}
