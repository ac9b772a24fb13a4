//! What finding, storing, removing and saving a key costs, beside the standard library's hash table with the same hash function.
//!
//! Keys and values have 16 bytes. At a million keys nearly everything is a cache miss: compare the two tables with each
//! other, on a quiet machine, rather than with numbers from elsewhere. The standard table stores each key and value in an
//! allocation of its own, takes 88 to 109 bytes for what ours takes 60 for, and stalls for each doubling.
//!
//! Run with `cargo bench --bench table`.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use ahash::RandomState;
use annulus::base::DbIndex;
use annulus::base::rng::Rng;
use annulus::base::time::Millis;
use annulus::keyspace::{Db, Entry, EntrySink, INLINE_BYTES_MAX, Keyspace, NewValue, SnapshotBudget, SnapshotProgress};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const KEYS: u64 = 1_000_000;
/// Keys per measured iteration, as many as a pipeline has.
const BATCH: usize = 16;

type Flat = HashMap<Box<[u8]>, Box<[u8]>, RandomState>;
type Key = [u8; 16];

fn key_of(number: u64) -> Key {
    let mut key = *b"key:000000000000";
    key[4..].copy_from_slice(format!("{number:012}").as_bytes());
    key
}

fn hasher() -> RandomState {
    RandomState::with_seeds(1, 2, 3, 4)
}

fn filled() -> Db {
    let mut db = Db::new(hasher());
    for number in 0..KEYS {
        db.set(&key_of(number), NewValue::string(&[b'v'; 16]), None, 0);
    }
    db
}

/// Batches of random keys, taken in turn: enough of them that the caches forget.
struct Batches {
    batches: Vec<[Key; BATCH]>,
    next: usize,
}

impl Batches {
    fn of(numbers: std::ops::Range<u64>) -> Batches {
        let mut rng = Rng::seed(7);
        let mut draw = || key_of(numbers.start + rng.below(numbers.end - numbers.start));
        Batches { batches: (0..20_000).map(|_| std::array::from_fn(|_| draw())).collect(), next: 0 }
    }

    fn next(&mut self) -> &[Key; BATCH] {
        self.next = (self.next + 1) % self.batches.len();
        &self.batches[self.next]
    }
}

fn lookups(c: &mut Criterion) {
    let mut group = c.benchmark_group("1M keys");
    group.throughput(Throughput::Elements(BATCH as u64));
    let (mut there, mut absent) = (Batches::of(0..KEYS), Batches::of(KEYS..2 * KEYS));
    let mut db = filled();
    let mut flat = Flat::with_hasher(hasher());
    for number in 0..KEYS {
        flat.insert(key_of(number)[..].into(), [b'v'; 16][..].into());
    }

    let read = |db: &Db, hash: u64, key: &Key| db.find_hashed(hash, key).map_or(0, |entry| entry.value().text()[3]);
    group.bench_function("hit", |b| {
        b.iter(|| there.next().iter().map(|key| u64::from(read(&db, db.hash(key), key))).sum::<u64>());
    });
    group.bench_function("hit, prefetched by batch", |b| {
        b.iter(|| {
            let keys = there.next();
            let hashes = keys.map(|key| db.hash(&key));
            hashes.iter().for_each(|&hash| db.prefetch(hash));
            hashes.iter().for_each(|&hash| db.prefetch_record(hash));
            keys.iter().zip(hashes).map(|(key, hash)| u64::from(read(&db, hash, key))).sum::<u64>()
        });
    });
    group.bench_function("hit, std", |b| {
        let read = |key: &Key| flat.get(&key[..]).map_or(0, |value| u64::from(value[3]));
        b.iter(|| there.next().iter().map(read).sum::<u64>());
    });
    group.bench_function("miss", |b| b.iter(|| absent.next().iter().filter(|key| db.find(&key[..]).is_some()).count()));
    group.bench_function("miss, std", |b| {
        b.iter(|| absent.next().iter().filter(|key| flat.contains_key(&key[..])).count());
    });
    group.bench_function("overwrite", |b| {
        b.iter(|| there.next().iter().filter(|key| db.set(&key[..], NewValue::string(&[b'w'; 16]), None, 1)).count());
    });
    group.bench_function("overwrite with another size", |b| {
        let mut rng = Rng::seed(1);
        let mut set = |key: &&Key| {
            let value = [b'w'; 100];
            db.set(&key[..], NewValue::string(&value[..rng.below(100) as usize]), None, 1)
        };
        b.iter(|| there.next().iter().filter(&mut set).count());
    });
    group.bench_function("overwrite, std", |b| {
        b.iter(|| {
            for key in there.next() {
                flat.get_mut(&key[..]).expect("all keys are there").copy_from_slice(&[b'w'; 16]);
            }
        });
    });
    group.bench_function("insert and remove", |b| {
        b.iter(|| {
            let keys = absent.next();
            for key in keys {
                db.set(key, NewValue::string(&[b'v'; 16]), None, 0);
            }
            keys.iter().filter(|key| db.remove(&key[..]).is_some()).count()
        });
    });
    group.bench_function("insert and remove, std", |b| {
        b.iter(|| {
            let keys = absent.next();
            for key in keys {
                flat.insert(key[..].into(), [b'v'; 16][..].into());
            }
            keys.iter().filter(|key| flat.remove(&key[..]).is_some()).count()
        });
    });
    group.bench_function("random key", |b| {
        let mut rng = Rng::seed(3);
        b.iter(|| (0..BATCH).filter_map(|_| db.random(|n| rng.below(n))).map(|entry| entry.key().len()).sum::<usize>());
    });
}

fn growth(c: &mut Criterion) {
    let mut group = c.benchmark_group("grow to 1M keys");
    group.throughput(Throughput::Elements(KEYS)).sample_size(10);
    group.bench_function("insert", |b| b.iter_with_large_drop(filled));
    group.bench_function("scan, 100 at a time", |b| {
        let db = filled();
        b.iter(|| {
            let (mut cursor, mut seen) = (0, 0);
            loop {
                cursor = db.scan(cursor, 100, Millis(0), |_| seen += 1);
                if cursor == 0 {
                    return seen;
                }
            }
        });
    });
    group.bench_function("remove", |b| {
        b.iter_batched_ref(
            filled,
            |db| (0..KEYS).filter(|&number| db.remove(&key_of(number)).is_some()).count(),
            BatchSize::PerIteration,
        );
    });
}

/// Copies keys and values.
struct Copies;

impl EntrySink for Copies {
    fn database(&self, _: DbIndex, _: &mut Vec<u8>) {}

    fn entry(&self, entry: Entry<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(entry.key());
        out.extend_from_slice(&entry.value().text());
    }
}

/// What the walk of a snapshot costs by itself, and when every entry was written by its first change and not by the walk.
fn snapshots(c: &mut Criterion) {
    let mut group = c.benchmark_group("snapshot of 1M keys");
    group.throughput(Throughput::Elements(KEYS)).sample_size(10);
    let mut keyspace = Keyspace::new(1, &hasher());
    let zero = DbIndex(0);
    let overwrite = |keyspace: &mut Keyspace| {
        for number in 0..KEYS {
            keyspace.db_mut(zero).set(&key_of(number), NewValue::string(&[b'v'; 16]), None, 0);
        }
    };
    overwrite(&mut keyspace);
    let sink: Arc<dyn EntrySink> = Arc::new(Copies);
    let budget = SnapshotBudget { entries: 1000, bytes: 1 << 20, nanos: u64::MAX };
    let finish = |keyspace: &mut Keyspace| {
        let mut bytes = 0;
        while keyspace.snapshot_step(budget, || 0) == SnapshotProgress::More {
            bytes += keyspace.take_snapshot_output().iter().map(Vec::len).sum::<usize>();
        }
        bytes + keyspace.take_snapshot_output().iter().map(Vec::len).sum::<usize>()
    };
    group.bench_function("walk", |b| {
        b.iter(|| {
            keyspace.begin_snapshot(Millis(0), &sink);
            finish(&mut keyspace)
        });
    });
    group.bench_function("overwrite all, none runs", |b| b.iter(|| overwrite(&mut keyspace)));
    group.bench_function("overwrite all, then walk", |b| {
        b.iter(|| {
            keyspace.begin_snapshot(Millis(0), &sink);
            overwrite(&mut keyspace);
            finish(&mut keyspace)
        });
    });
}

/// The price of a blob just above the longest inline string.
fn long_values(c: &mut Criterion) {
    let mut group = c.benchmark_group("long values");
    for (name, len) in [("inline", INLINE_BYTES_MAX), ("blob", INLINE_BYTES_MAX + 1)] {
        let mut db = Db::new(hasher());
        let value = vec![b'v'; len];
        for number in 0..20_000 {
            db.set(&key_of(number), NewValue::string(&value), None, 0);
        }
        let mut there = Batches::of(0..20_000);
        group.throughput(Throughput::Elements(BATCH as u64));
        let mut copy = Vec::with_capacity(len);
        group.bench_function(format!("copy out, {name}"), |b| {
            b.iter(|| {
                for key in there.next() {
                    copy.clear();
                    copy.extend_from_slice(&db.find(key).expect("all keys are there").value().text());
                    black_box(&copy);
                }
            });
        });
        group.bench_function(format!("overwrite, {name}"), |b| {
            b.iter(|| there.next().iter().filter(|key| db.set(&key[..], NewValue::string(&value), None, 0)).count());
        });
    }
}

criterion_group!(benches, lookups, growth, snapshots, long_values);
criterion_main!(benches);
