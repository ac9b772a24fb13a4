//! Payloads for RESTORE that mean no good. Tests named `cve_…`, or after another server's report, are published faults of servers of
//! this family, by number. Each payload has its checksum right: only what is inside is not.

use super::harness::{Client, Server};
use annulus::base::rng::Rng;
use annulus::persist::dump::seal;

/// Runs `test` on a server of our own.
fn on_a_server(test: impl Fn(&mut Client)) {
    test(&mut Server::annulus(1, &[]).connect());
}

/// RESTORE of these bytes; the reply as text.
fn restore(client: &mut Client, body: &[u8]) -> String {
    let mut payload = body.to_vec();
    seal(&mut payload, 9);
    client.command(&[&b"RESTORE"[..], b"k", b"0", &payload, b"REPLACE"]).text()
}

const REFUSED: &str = "ERR Bad data format";

/// Touches every part of what is at `k`.
fn read_all(client: &mut Client) {
    for line in [
        "GET k",
        "PFCOUNT k",
        "LRANGE k 0 -1",
        "LPOS k x RANK -1",
        "SMEMBERS k",
        "SRANDMEMBER k 5",
        "HGETALL k",
        "HRANDFIELD k 5 WITHVALUES",
        "HPTTL k FIELDS 1 f",
        "ZRANGE k 0 -1 WITHSCORES",
        "ZRANGEBYSCORE k -inf 5",
        "XRANGE k - +",
        "XPENDING k g",
        "XINFO STREAM k FULL",
        "DUMP k",
        "COPY k other REPLACE",
        "DEL other",
    ] {
        client.line(line);
    }
}

fn samples() -> Vec<Vec<u8>> {
    let lines = include_str!("../fuzz/restore_samples.txt").lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (_, hex) = line.split_once(' ').expect("a name and bytes");
            let digits: Vec<u8> = hex.chars().map(|digit| digit.to_digit(16).expect("hexadecimal") as u8).collect();
            digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect::<Vec<u8>>()
        })
        .map(|payload| payload[..payload.len() - 10].to_vec())
        .collect()
}

/// CVE-2026-25243, 25588, 25589 and 62356: RESTORE of damaged values of several types read and wrote memory that was not theirs.
#[test]
fn cve_2026_25243_no_damaged_value_does_more_than_be_refused_or_be_read() {
    on_a_server(|client| {
        let seed = 25_243;
        println!("seed {seed}");
        let mut rng = Rng::seed(seed);
        for body in samples().iter().filter(|body| body.len() < 2000) {
            assert_eq!(restore(client, body), "OK");
            read_all(client);
            for _ in 0..60 {
                let mut damaged = body.clone();
                for _ in 0..1 + rng.below(2) {
                    let at = rng.below(damaged.len() as u64) as usize;
                    damaged[at] = if rng.chance(1, 2) { rng.next_u64() as u8 } else { damaged[at] ^ 1 << rng.below(8) };
                }
                let reply = restore(client, &damaged);
                assert!(reply == "OK" || reply == REFUSED, "{reply} to {}", damaged.escape_ascii());
                if reply == "OK" {
                    read_all(client);
                }
            }
        }
        assert_eq!(client.line("PING").text(), "PONG");
    });
}

/// Announced lengths and counts of up to 2^64, with nothing behind them, in every type and place.
#[test]
fn cve_2026_62356_lengths_that_are_only_announced_cost_nothing() {
    on_a_server(|client| {
        let huge: [&[u8]; 4] = [
            b"\x80\xff\xff\xff\xff",
            b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff",
            b"\x81\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x80\x40\0\0\0",
        ];
        for length in huge {
            for type_byte in 0..=30u8 {
                for before in
                    [&b""[..], b"\x01", b"\x01\x01", b"\x01\x02", b"\x01\x01f", b"\0\0\0\0\0\0\0\0", b"\xc3\x03"]
                {
                    for behind in [&b""[..], b"x", b"\x02abc", b"\xe0\xff\0\xe0\xff\0"] {
                        let body = [&[type_byte][..], before, length, behind].concat();
                        let reply = restore(client, &body);
                        // Type 5 takes any eight bytes as a score.
                        assert!(reply == REFUSED || type_byte == 5, "{reply} to {}", body.escape_ascii());
                    }
                }
            }
        }
        assert_eq!(client.line("PING").text(), "PONG");
    });
}

/// A stream without entries, a group with one pending entry, and consumers that own it.
fn stream_with_owners(consumers: &[(&[u8], usize)]) -> Vec<u8> {
    let key = b"\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x01";
    let time = 1_700_000_000_000i64.to_le_bytes();
    let mut body = b"\x0f\0\0\x05\x01\x01\x01g\x05\x01\x01".to_vec();
    body.extend([&key[..], &time, b"\x01"].concat());
    body.push(consumers.len() as u8);
    for (name, owned) in consumers {
        body.push(name.len() as u8);
        body.extend([name, &time[..], &[*owned as u8]].concat());
        body.extend(key.repeat(*owned));
    }
    body
}

/// CVE-2026-63639, also Debian's 2026-66373: two consumers that shared one pending entry, which was freed twice.
#[test]
fn cve_2026_63639_a_pending_entry_has_one_owner() {
    on_a_server(|client| {
        assert_eq!(restore(client, &stream_with_owners(&[(b"alice", 1), (b"bob", 0)])), "OK");
        read_all(client);
        client.line("XGROUP DELCONSUMER k g alice");
        client.line("DEL k");
        for consumers in [
            &[(&b"alice"[..], 1), (b"bob", 1)][..],
            &[(b"alice", 2)],
            &[(b"alice", 0), (b"bob", 0)],
            &[],
            &[(b"alice", 1), (b"alice", 0)],
        ] {
            assert_eq!(restore(client, &stream_with_owners(consumers)), REFUSED, "{consumers:?}");
        }
        assert_eq!(client.line("EXISTS k").to_string(), "(integer) 0");
    });
}

/// CVE-2025-32023 by way of RESTORE: a HyperLogLog whose runs reach beyond its registers.
#[test]
fn cve_2025_32023_a_crafted_hyperloglog_may_be_restored_and_is_refused_where_it_is_read() {
    on_a_server(|client| {
        let text = [&b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80"[..], &b"\x7f\xff".repeat(20)].concat();
        let body = [&[0, text.len() as u8][..], &text].concat();
        assert_eq!(restore(client, &body), "OK");
        for line in ["PFCOUNT k", "PFMERGE k other", "PFMERGE other k"] {
            client.line("PFADD other x");
            assert_eq!(client.line(line).text(), "INVALIDOBJ Corrupted HLL object detected", "{line}");
        }
    });
}

/// A listpack of these entries, each as its bytes without the length behind it.
fn listpack(entries: &[&[u8]]) -> Vec<u8> {
    let mut pack = vec![0; 6];
    for entry in entries {
        pack.extend_from_slice(entry);
        match entry.len() {
            len @ 0..=127 => pack.push(len as u8),
            len => pack.extend([(len >> 7) as u8, (len & 127) as u8 | 128]),
        }
    }
    pack.push(0xff);
    let total = pack.len() as u32;
    pack[..4].copy_from_slice(&total.to_le_bytes());
    pack[4] = entries.len() as u8;
    pack
}

/// A value that is this blob.
fn blob(type_byte: u8, blob: &[u8]) -> Vec<u8> {
    [&[type_byte][..], &(0x4000 | blob.len() as u16).to_be_bytes(), blob].concat()
}

/// Dragonfly's CVE-2026-54341: lengths inside a listpack that reach out of it.
#[test]
fn dragonfly_cve_2026_54341_lengths_inside_a_listpack_are_checked() {
    on_a_server(|client| {
        let pair: [&[u8]; 2] = [b"\x81f", b"\x81v"];
        for type_byte in [16, 20] {
            assert_eq!(restore(client, &blob(type_byte, &listpack(&pair))), "OK");
        }
        let longer: [&[u8]; 7] = [
            b"\x84v",
            b"\xbfv",
            b"\xe0\x05v",
            b"\xef\xffv",
            b"\xf0\xff\xff\xff\xffv",
            b"\xf0\xff\xff\xff\x7fv",
            b"\xf4v",
        ];
        for entry in longer {
            for type_byte in [16, 17, 20, 25] {
                let body = blob(type_byte, &listpack(&[b"\x81f", entry]));
                assert_eq!(restore(client, &body), REFUSED, "type {type_byte}, {entry:?}");
            }
            let list = [&b"\x12\x01\x02"[..], &blob(0, &listpack(&[entry]))[1..]].concat();
            assert_eq!(restore(client, &list), REFUSED, "{entry:?} in a list");
        }
    });
}

/// Dragonfly's issue 8182: a hash or a sorted set whose last field has no value.
#[test]
fn dragonfly_8182_an_odd_number_of_entries_makes_no_pairs() {
    on_a_server(|client| {
        for type_byte in [16, 17] {
            assert_eq!(restore(client, &blob(type_byte, &listpack(&[b"\x81f", b"\x01"]))), "OK");
            assert_eq!(restore(client, &blob(type_byte, &listpack(&[b"\x81f", b"\x01", b"\x81g"]))), REFUSED);
            assert_eq!(restore(client, &blob(type_byte, &listpack(&[b"\x81f"]))), REFUSED);
        }
        for count in [1, 2, 4, 5] {
            let entries: [&[u8]; 5] = [b"\x81f", b"\x01", b"\x00", b"\x81g", b"\x01"];
            assert_eq!(restore(client, &blob(23, &listpack(&entries[..count]))), REFUSED, "{count} of threes");
        }
        assert_eq!(client.line("ZRANGE k 0 -1 WITHSCORES").to_string(), r#"["f", "1"]"#, "the last that was taken");
    });
}

/// Dragonfly's issue 7502: the text of a score that is longer than any buffer for one.
#[test]
fn dragonfly_7502_a_score_of_many_digits_is_a_number_or_refused() {
    on_a_server(|client| {
        for (text, reply) in [
            ("1".repeat(128), "OK"),
            ("0.".to_owned() + &"1".repeat(126), "OK"),
            ("x".repeat(128), REFUSED),
            ("nan".to_owned(), REFUSED),
        ] {
            let entry = match text.len() {
                len @ 0..=63 => [&[0x80 | len as u8][..], text.as_bytes()].concat(),
                len => [&(0xe000 | len as u16).to_be_bytes()[..], text.as_bytes()].concat(),
            };
            let body = blob(17, &listpack(&[b"\x81m", &entry]));
            assert_eq!(restore(client, &body), reply, "{text}");
            read_all(client);
            let ascii = [&b"\x03\x01\x01m"[..], &[text.len() as u8], text.as_bytes()].concat();
            assert_eq!(restore(client, &ascii), reply, "{text}");
        }
        for score in [f64::NAN, -f64::NAN] {
            let body = [&b"\x05\x01\x01m"[..], &score.to_le_bytes()].concat();
            assert_eq!(restore(client, &body), REFUSED);
        }
        assert_eq!(restore(client, b"\x03\x01\x01m\xfd"), REFUSED, "the byte that says that it is no number");
    });
}
