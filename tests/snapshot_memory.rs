//! How much memory a snapshot takes while clients change what it has yet to write. A program of its own, so that it has the
//! allocator's counts of its thread to itself.

use std::sync::Arc;

use annulus::base::DbIndex;
use annulus::base::rng::Rng;
use annulus::base::time::Millis;
use annulus::keyspace::{Entry, EntrySink, Keyspace, NewValue, SnapshotBudget, SnapshotProgress};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const KEYS: u64 = 1_000_000;

/// Counts what it is given.
struct Count;

impl EntrySink for Count {
    fn database(&self, _: DbIndex, _: &mut Vec<u8>) {}

    fn entry(&self, _: Entry<'_>, out: &mut Vec<u8>) {
        out.push(0);
    }
}

/// Bytes that this thread has allocated and nobody has given back.
fn allocated() -> i64 {
    use tikv_jemalloc_ctl::thread::{allocatedp, deallocatedp};
    let allocated = allocatedp::read().expect("the allocator counts").get();
    let freed = deallocatedp::read().expect("the allocator counts").get();
    allocated as i64 - freed as i64
}

#[test]
fn a_snapshot_of_a_million_keys_that_are_overwritten_takes_next_to_no_memory() {
    let seed = 1;
    let mut rng = Rng::seed(seed);
    let mut keyspace = Keyspace::new(1, &ahash::RandomState::with_seeds(seed, 2, 3, 4));
    let zero = DbIndex(0);
    let key = |number: u64| format!("key:{number:012}");
    let before = allocated();
    for number in 0..KEYS {
        keyspace.db_mut(zero).set(key(number).as_bytes(), NewValue::string(&[b'v'; 30]), None, 0);
    }
    let data = allocated() - before;
    let sink: Arc<dyn EntrySink> = Arc::new(Count);
    keyspace.begin_snapshot(Millis(0), &sink);
    let (mut most, mut written) = (0, 0);
    let budget = SnapshotBudget { entries: 500, bytes: usize::MAX, nanos: u64::MAX };
    loop {
        // Two keys are overwritten while one is written: near the end, nearly all that is ahead was.
        for _ in 0..1000 {
            let key = key(rng.below(KEYS));
            keyspace.db_mut(zero).set(key.as_bytes(), NewValue::string(&[b'w'; 30]), None, 0);
        }
        let progress = keyspace.snapshot_step(budget, || 0);
        most = most.max(allocated() - before - data);
        written += keyspace.take_snapshot_output().iter().map(Vec::len).sum::<usize>();
        if progress == SnapshotProgress::Done {
            break;
        }
    }
    assert_eq!(written as u64, KEYS, "seed {seed}");
    // A set of the keys that are ahead and written would be a third of the data. Here are two buffers.
    assert!(most < data / 1000, "seed {seed}: {most} bytes beside {data}");
}
