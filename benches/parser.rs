//! What a request costs before a handler sees it, and an answer after: parser and reply writer alone, on one core.
//!
//! `cargo bench --bench parser`. Numbers are per command unless the name says how many.

use std::hint::black_box;

use annulus::base::Blob;
use annulus::resp::{OwnedArgs, ParseLimits, Parser, Reply, Step};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

/// The bytes a client sends for these words.
fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut wire = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        wire.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        wire.extend_from_slice(word);
        wire.extend_from_slice(b"\r\n");
    }
    wire
}

/// Steps over all commands in `input`, looking at each one's name and last argument as a handler would.
#[inline]
fn parse_all(parser: &mut Parser, mut input: &[u8], limits: &ParseLimits) -> usize {
    let mut seen = 0;
    loop {
        match parser.step(input, limits) {
            Step::Command { consumed } => {
                let args = parser.args(input);
                seen += args.get(0).len() + args.get(args.len() - 1).len();
                input = &input[consumed..];
            }
            _ => return seen,
        }
    }
}

fn requests(c: &mut Criterion) {
    let limits = ParseLimits::default();
    let value = [b'v'; 32];
    let set = command(&[b"SET", b"key:000000000001", &value]);
    let get = command(&[b"GET", b"key:000000000001"]);
    let keys: Vec<String> = (0..100).map(|i| format!("key:{i:012}")).collect();
    let mut words: Vec<&[u8]> = vec![b"MGET"];
    words.extend(keys.iter().map(|key| key.as_bytes()));

    let mut group = c.benchmark_group("parse");
    for (name, commands, wire) in [
        ("set", 1, set.clone()),
        ("get", 1, get.clone()),
        ("16 sets", 16, set.repeat(16)),
        ("100 gets", 100, get.repeat(100)),
        ("mget of 100 keys", 1, command(&words)),
        ("inline ping", 1, b"PING\r\n".to_vec()),
    ] {
        let mut parser = Parser::new();
        group.throughput(Throughput::Elements(commands));
        group.bench_function(name, |b| b.iter(|| parse_all(&mut parser, black_box(&wire), black_box(&limits))));
    }
    group.finish();

    let mut parser = Parser::new();
    c.bench_function("parse/set in two pieces", |b| {
        b.iter(|| {
            assert_eq!(parser.step(black_box(&set[..30]), &limits), Step::Incomplete);
            parse_all(&mut parser, black_box(&set), &limits)
        });
    });
    let mut owned = OwnedArgs::new();
    parser.step(&set, &limits);
    c.bench_function("args/copy a set for another core", |b| {
        b.iter(|| {
            owned.clear();
            owned.extend(black_box(parser.args(&set)));
            owned.len()
        });
    });
}

fn replies(c: &mut Criterion) {
    let mut reply = Reply::new();
    let value = [b'v'; 32];
    c.bench_function("reply/32 byte bulk", |b| {
        b.iter(|| {
            reply.clear();
            reply.bulk(black_box(&value));
            reply.len()
        });
    });
    c.bench_function("reply/ok", |b| {
        b.iter(|| {
            reply.clear();
            black_box(&mut reply).ok();
            reply.len()
        });
    });
    c.bench_function("reply/int of 6 digits", |b| {
        b.iter(|| {
            reply.clear();
            reply.int(black_box(123_456));
            reply.len()
        });
    });
    let blob = Blob::new(vec![b'x'; 1 << 20]);
    c.bench_function("reply/1 MiB blob", |b| {
        b.iter_batched_ref(Reply::new, |reply| reply.blob(black_box(&blob)), BatchSize::SmallInput);
    });
}

criterion_group!(benches, requests, replies);
criterion_main!(benches);
