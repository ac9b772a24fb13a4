//! HyperLogLog: an estimate of how many different elements were added, in a string of 12 KiB at most.
//!
//! Flajolet, Fusy, Gandouet, Meunier, "HyperLogLog: the analysis of a near-optimal cardinality estimation algorithm" (2007); the
//! estimate is that of Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (arXiv:1702.01284). An element's
//! hash chooses one of 16384 registers; the register keeps the longest run of zeros, plus one, that any hash brought there.
//!
//! The string is Redis's, byte for byte, since clients copy it by GET and SET and files hold it:
//!
//! ```text
//!   "HYLL" | encoding: u8 | 0 0 0 | count: u64 little-endian, its top bit set if it has to be computed anew | registers
//!
//!   dense    (0)   16384 registers of 6 bits, the lowest bits of a byte first
//!   sparse   (1)   00llllll            l + 1 registers of 0                     1 to 64
//!                  01llllll llllllll   l + 1 registers of 0                     1 to 16384
//!                  1vvvvvll            l + 1 registers of v + 1                 1 to 4, of 1 to 32
//! ```
//!
//! A sparse string becomes dense when a register goes beyond 32 or the string beyond `hll-sparse-max-bytes`.
//!
//! Anybody can SET such a string, so nothing in it is believed: a run is used only within the bytes and registers that there
//! are, and what does not add up is [`Corrupted`], never a read or write outside (CVE-2025-32023 was one).
//!
//! Plain functions over the bytes. Absent on purpose: where the string is stored, and the threshold, which is handed in.

/// Bits of a hash that choose the register.
const INDEX_BITS: u32 = 14;
/// Registers of every HyperLogLog.
pub const REGISTERS: usize = 1 << INDEX_BITS;
/// The other bits of a hash: the longest run of zeros among them.
const RUN_BITS: usize = 64 - INDEX_BITS as usize;
/// Bits of a dense register, and the largest number that fits.
const REGISTER_BITS: usize = 6;
const REGISTER_MAX: u8 = (1 << REGISTER_BITS) - 1;
/// What the hash of elements starts from.
const HASH_SEED: u64 = 0xadc8_3b19;

const MAGIC: &[u8; 4] = b"HYLL";
const ENCODING_AT: usize = 4;
const COUNT_AT: usize = 8;
/// Bytes in front of the registers.
pub const HEADER_BYTES: usize = 16;
/// Bytes of a dense string.
pub const DENSE_BYTES: usize = HEADER_BYTES + REGISTERS * REGISTER_BITS / 8;
/// The top bit of the count, in the last of its bytes.
const STALE: u8 = 1 << 7;

const ZERO_RUN_MAX: usize = 64;
const LONG_ZERO_RUN_MAX: usize = 16384;
const VALUE_RUN_MAX: usize = 4;
const VALUE_MAX: u8 = 32;

/// How the registers are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// All of them, 6 bits each.
    Dense,
    /// As runs of equal ones.
    Sparse,
}

/// The registers are not what the string's header promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Corrupted;

/// An empty one: sparse, and its count of 0 is right.
pub fn new() -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    bytes[ENCODING_AT] = 1;
    push_run(&mut bytes, 0, REGISTERS);
    bytes
}

/// How it is encoded, if the string's header is that of a HyperLogLog.
pub fn encoding(bytes: &[u8]) -> Option<Encoding> {
    if bytes.len() < HEADER_BYTES || !bytes.starts_with(MAGIC) {
        return None;
    }
    match bytes[ENCODING_AT] {
        0 => (bytes.len() == DENSE_BYTES).then_some(Encoding::Dense),
        1 => Some(Encoding::Sparse),
        _ => None,
    }
}

/// The count that was stored, if nothing was added since.
pub fn stored_count(bytes: &[u8]) -> Option<u64> {
    let count: [u8; 8] = bytes[COUNT_AT..HEADER_BYTES].try_into().expect("eight bytes");
    (count[7] & STALE == 0).then_some(u64::from_le_bytes(count))
}

/// Stores a count.
pub fn store_count(bytes: &mut [u8], count: u64) {
    bytes[COUNT_AT..HEADER_BYTES].copy_from_slice(&count.to_le_bytes());
}

/// Says that the stored count is not right any more.
pub fn forget_count(bytes: &mut [u8]) {
    bytes[HEADER_BYTES - 1] |= STALE;
}

/// Which register an element belongs to, and what it wants there at least.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    register: usize,
    value: u8,
}

impl Mark {
    /// That of an element.
    pub fn of(element: &[u8]) -> Mark {
        let hash = murmur_hash_64a(element, HASH_SEED);
        // A one behind the end bounds the run.
        let run = (hash >> INDEX_BITS) | 1 << RUN_BITS;
        Mark { register: hash as usize & (REGISTERS - 1), value: run.trailing_zeros() as u8 + 1 }
    }
}

/// Austin Appleby's MurmurHash64A.
fn murmur_hash_64a(bytes: &[u8], seed: u64) -> u64 {
    const MULTIPLIER: u64 = 0xc6a4_a793_5bd1_e995;
    const SHIFT: u32 = 47;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(MULTIPLIER);
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        let mut word = u64::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        word ^= word >> SHIFT;
        hash = (hash ^ word.wrapping_mul(MULTIPLIER)).wrapping_mul(MULTIPLIER);
    }
    if !tail.is_empty() {
        let mut word = [0; 8];
        word[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> SHIFT;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ hash >> SHIFT
}

/// Whether adding would change the string.
pub fn wants(bytes: &[u8], mark: Mark) -> Result<bool, Corrupted> {
    Ok(match encoding(bytes) {
        Some(Encoding::Dense) => dense_get(&bytes[HEADER_BYTES..], mark.register) < mark.value,
        _ => find_run(bytes, mark.register)?.run.value < mark.value,
    })
}

/// Adds an element; true if that changed the string, whose stored count is then forgotten. A sparse string may become dense.
/// When it is corrupted nothing was changed.
pub fn add(bytes: &mut Vec<u8>, mark: Mark, sparse_bytes_max: usize) -> Result<bool, Corrupted> {
    if encoding(bytes) == Some(Encoding::Dense) {
        return Ok(add_dense(bytes, mark));
    }
    match sparse_raise(bytes, mark, sparse_bytes_max)? {
        Raised::No => return Ok(false),
        Raised::Yes => {}
        Raised::DoesNotFit => {
            make_dense(bytes)?;
            dense_raise(&mut bytes[HEADER_BYTES..], mark);
        }
    }
    forget_count(bytes);
    Ok(true)
}

/// As [`add`], where the string is dense and so keeps its length.
pub fn add_dense(bytes: &mut [u8], mark: Mark) -> bool {
    let raised = dense_raise(&mut bytes[HEADER_BYTES..], mark);
    if raised {
        forget_count(bytes);
    }
    raised
}

/// Makes a sparse string dense; the stored count stays.
pub fn make_dense(bytes: &mut Vec<u8>) -> Result<(), Corrupted> {
    let mut dense = vec![0; DENSE_BYTES];
    dense[..HEADER_BYTES].copy_from_slice(&bytes[..HEADER_BYTES]);
    dense[ENCODING_AT] = 0;
    let registers = &mut dense[HEADER_BYTES..];
    let mut first = 0;
    for run in Runs::of(bytes) {
        let run = run?;
        if first + run.len > REGISTERS {
            return Err(Corrupted);
        }
        if run.value > 0 {
            (first..first + run.len).for_each(|register| dense_set(registers, register, run.value));
        }
        first += run.len;
    }
    if first != REGISTERS {
        return Err(Corrupted);
    }
    *bytes = dense;
    Ok(())
}

// Dense registers.

fn dense_get(registers: &[u8], register: usize) -> u8 {
    let (byte, shift) = (register * REGISTER_BITS / 8, register * REGISTER_BITS % 8);
    let high = registers.get(byte + 1).copied().unwrap_or(0);
    (u16::from_le_bytes([registers[byte], high]) >> shift) as u8 & REGISTER_MAX
}

fn dense_set(registers: &mut [u8], register: usize, value: u8) {
    let (byte, shift) = (register * REGISTER_BITS / 8, register * REGISTER_BITS % 8);
    let high = registers.get(byte + 1).copied().unwrap_or(0);
    let word = u16::from_le_bytes([registers[byte], high]);
    let word = word & !(u16::from(REGISTER_MAX) << shift) | u16::from(value) << shift;
    let [low, high] = word.to_le_bytes();
    registers[byte] = low;
    if let Some(byte) = registers.get_mut(byte + 1) {
        *byte = high;
    }
}

fn dense_raise(registers: &mut [u8], mark: Mark) -> bool {
    let raised = dense_get(registers, mark.register) < mark.value;
    if raised {
        dense_set(registers, mark.register, mark.value);
    }
    raised
}

/// All registers of a dense string, in order: four in each three bytes.
fn dense_values(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes[HEADER_BYTES..].as_chunks::<3>().0.iter().flat_map(|[a, b, c]| {
        let word = u32::from_le_bytes([*a, *b, *c, 0]);
        [0, 6, 12, 18].map(|shift| (word >> shift) as u8 & REGISTER_MAX)
    })
}

// Sparse registers.

/// A run of equal registers.
#[derive(Clone, Copy)]
struct Run {
    value: u8,
    /// How many registers.
    len: usize,
    /// How many bytes it takes.
    bytes: usize,
}

/// The run that begins at a byte of the string; none if its second byte is missing.
fn run_at(bytes: &[u8], at: usize) -> Option<Run> {
    let byte = bytes[at];
    Some(match byte >> 6 {
        0 => Run { value: 0, len: usize::from(byte) + 1, bytes: 1 },
        1 => {
            let len = u16::from_be_bytes([byte & 0x3f, *bytes.get(at + 1)?]);
            Run { value: 0, len: usize::from(len) + 1, bytes: 2 }
        }
        _ => Run { value: (byte >> 2 & 0x1f) + 1, len: usize::from(byte & 3) + 1, bytes: 1 },
    })
}

/// Appends a run: at most four registers of a value, or any number of zeros.
fn push_run(out: &mut Vec<u8>, value: u8, len: usize) {
    let count = |max: usize| {
        debug_assert!((1..=max).contains(&len));
        len - 1
    };
    match value {
        0 if len <= ZERO_RUN_MAX => out.push(count(ZERO_RUN_MAX) as u8),
        0 => out.extend_from_slice(&(0x4000 | count(LONG_ZERO_RUN_MAX) as u16).to_be_bytes()),
        value => out.push(0x80 | (value - 1) << 2 | count(VALUE_RUN_MAX) as u8),
    }
}

/// The runs of a sparse string, up to the first that is cut.
struct Runs<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Runs<'_> {
    fn of(bytes: &[u8]) -> Runs<'_> {
        Runs { bytes, at: HEADER_BYTES }
    }
}

impl Iterator for Runs<'_> {
    type Item = Result<Run, Corrupted>;

    fn next(&mut self) -> Option<Result<Run, Corrupted>> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let run = run_at(self.bytes, self.at);
        self.at = run.map_or(self.bytes.len(), |run| self.at + run.bytes);
        Some(run.ok_or(Corrupted))
    }
}

/// A run that was looked for.
struct Found {
    run: Run,
    /// Where it begins in the string.
    at: usize,
    /// Where the run in front of it begins, or it itself if it is the first.
    prev: usize,
    /// Its first register.
    first: usize,
}

fn find_run(bytes: &[u8], register: usize) -> Result<Found, Corrupted> {
    let (mut at, mut prev, mut first) = (HEADER_BYTES, HEADER_BYTES, 0);
    while at < bytes.len() {
        let run = run_at(bytes, at).ok_or(Corrupted)?;
        if register < first + run.len {
            return Ok(Found { run, at, prev, first });
        }
        prev = at;
        at += run.bytes;
        first += run.len;
    }
    Err(Corrupted)
}

enum Raised {
    No,
    Yes,
    /// The value, or the string, would become too large; nothing was changed.
    DoesNotFit,
}

/// Raises one register: the run around it is cut in up to three, and runs of values that have come together are joined. Which
/// of them are joined is a part of the format, as equal sets of elements shall give equal strings in Redis and here.
fn sparse_raise(bytes: &mut Vec<u8>, mark: Mark, bytes_max: usize) -> Result<Raised, Corrupted> {
    if mark.value > VALUE_MAX {
        return Ok(Raised::DoesNotFit);
    }
    let Found { run, at, prev, first } = find_run(bytes, mark.register)?;
    if run.value >= mark.value {
        return Ok(Raised::No);
    }
    let (before, after) = (mark.register - first, first + run.len - 1 - mark.register);
    let mut pieces = Vec::with_capacity(5);
    for (value, len) in [(run.value, before), (mark.value, 1), (run.value, after)] {
        if len > 0 {
            push_run(&mut pieces, value, len);
        }
    }
    if pieces.len() > run.bytes && bytes.len() + pieces.len() - run.bytes > bytes_max {
        return Ok(Raised::DoesNotFit);
    }
    bytes.splice(at..at + run.bytes, pieces);
    join_runs(bytes, prev);
    Ok(Raised::Yes)
}

/// Joins neighbours of the same value from a run on, as far as a raised register can have brought them together.
fn join_runs(bytes: &mut Vec<u8>, from: usize) {
    /// Runs that are looked at, those that were joined counted again.
    const STEPS: usize = 5;
    let mut at = from;
    for _ in 0..STEPS {
        let Some(run) = (at < bytes.len()).then(|| run_at(bytes, at)).flatten() else { break };
        let next = bytes.get(at + run.bytes).filter(|byte| run.value > 0 && **byte & 0x80 != 0);
        let next = next.and_then(|_| run_at(bytes, at + run.bytes));
        match next {
            Some(next) if next.value == run.value && run.len + next.len <= VALUE_RUN_MAX => {
                let mut joined = Vec::with_capacity(1);
                push_run(&mut joined, run.value, run.len + next.len);
                bytes.splice(at..at + 2, joined);
            }
            _ => at += run.bytes,
        }
    }
}

// Counting and merging.

/// The registers of several HyperLogLogs, each the largest of theirs.
#[derive(Clone)]
pub struct Registers(Box<[u8; REGISTERS]>);

impl Default for Registers {
    fn default() -> Registers {
        Registers(Box::new([0; REGISTERS]))
    }
}

impl Registers {
    /// Takes in a HyperLogLog.
    pub fn merge(&mut self, bytes: &[u8]) -> Result<(), Corrupted> {
        if encoding(bytes) == Some(Encoding::Dense) {
            for (register, value) in self.0.iter_mut().zip(dense_values(bytes)) {
                *register = (*register).max(value);
            }
            return Ok(());
        }
        let mut rest = self.0.as_mut_slice();
        for run in Runs::of(bytes) {
            let run = run?;
            let (these, behind) = rest.split_at_mut_checked(run.len).ok_or(Corrupted)?;
            if run.value > 0 {
                these.iter_mut().for_each(|register| *register = (*register).max(run.value));
            }
            rest = behind;
        }
        if rest.is_empty() { Ok(()) } else { Err(Corrupted) }
    }

    /// Raises the registers of a HyperLogLog to these, and forgets its stored count.
    pub fn write_to(&self, bytes: &mut Vec<u8>, sparse_bytes_max: usize) -> Result<(), Corrupted> {
        for mark in self.marks() {
            add(bytes, mark, sparse_bytes_max)?;
        }
        forget_count(bytes);
        Ok(())
    }

    /// As [`Registers::write_to`], where it is dense.
    pub fn write_to_dense(&self, bytes: &mut [u8]) {
        for mark in self.marks() {
            dense_raise(&mut bytes[HEADER_BYTES..], mark);
        }
        forget_count(bytes);
    }

    fn marks(&self) -> impl Iterator<Item = Mark> {
        let marks = self.0.iter().enumerate().map(|(register, value)| Mark { register, value: *value });
        marks.filter(|mark| mark.value > 0)
    }

    /// How many different elements they have seen, about.
    pub fn count(&self) -> u64 {
        let mut histogram = Histogram::default();
        self.0.iter().for_each(|value| histogram.add(*value, 1));
        histogram.estimate()
    }

    /// The values.
    pub fn values(&self) -> &[u8] {
        self.0.as_slice()
    }
}

/// How many different elements were added, about. Does not look at the stored count.
pub fn count(bytes: &[u8]) -> Result<u64, Corrupted> {
    let mut histogram = Histogram::default();
    if encoding(bytes) == Some(Encoding::Dense) {
        dense_values(bytes).for_each(|value| histogram.add(value, 1));
    } else {
        let mut registers = 0;
        for run in Runs::of(bytes) {
            let run = run?;
            histogram.add(run.value, run.len);
            registers += run.len;
        }
        if registers != REGISTERS {
            return Err(Corrupted);
        }
    }
    Ok(histogram.estimate())
}

/// How many registers have each value.
struct Histogram([usize; REGISTER_MAX as usize + 1]);

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram([0; REGISTER_MAX as usize + 1])
    }
}

impl Histogram {
    fn add(&mut self, value: u8, registers: usize) {
        self.0[usize::from(value)] += registers;
    }

    /// Ertl's improved raw estimator, his algorithm 6. The order of operations decides the last digit, and it is Redis's.
    fn estimate(&self) -> u64 {
        /// 1 / (2 ln 2)
        const ALPHA: f64 = 0.721_347_520_444_481_7;
        let registers = REGISTERS as f64;
        let mut z = registers * tau((registers - self.0[RUN_BITS + 1] as f64) / registers);
        for value in (1..=RUN_BITS).rev() {
            z += self.0[value] as f64;
            z *= 0.5;
        }
        z += registers * sigma(self.0[0] as f64 / registers);
        (ALPHA * registers * registers / z).round() as u64
    }
}

/// Ertl's correction for registers that are full.
fn tau(x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut x, mut y, mut z) = (x, 1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// Ertl's correction for registers that are empty.
fn sigma(x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut x, mut y, mut z) = (x, 1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// The runs of a sparse string as PFDEBUG DECODE shows them: `z:3 Z:16000 v:2,1`. A last one that is cut is shown as if a zero
/// followed.
pub fn describe(bytes: &[u8]) -> String {
    let mut words = Vec::new();
    let mut at = HEADER_BYTES;
    while at < bytes.len() {
        let run = run_at(bytes, at).or_else(|| run_at(&[bytes[at], 0], 0)).expect("the second byte is there now");
        words.push(match run {
            Run { value: 0, bytes: 1, len } => format!("z:{len}"),
            Run { value: 0, len, .. } => format!("Z:{len}"),
            Run { value, len, .. } => format!("v:{value},{len}"),
        });
        at += run.bytes;
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    /// The registers by the definition, one number each.
    fn model_of(elements: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
        let mut model = vec![0; REGISTERS];
        for element in elements {
            let mark = Mark::of(&element);
            model[mark.register] = mark.value.max(model[mark.register]);
        }
        model
    }

    fn registers_of(bytes: &[u8]) -> Vec<u8> {
        let mut registers = Registers::default();
        registers.merge(bytes).expect("it is whole");
        registers.values().to_vec()
    }

    fn elements(count: u64) -> impl Iterator<Item = Vec<u8>> {
        (0..count).map(|n| format!("element:{n}").into_bytes())
    }

    #[test]
    fn strings_are_those_of_redis() {
        // Made by redis-server 7.0.15, and so a check of the hash for 1, 8, 0 and 24 bytes.
        let mut bytes = new();
        for element in ["a", "12345678", "", "longer than sixteen bytes"] {
            assert_eq!(add(&mut bytes, Mark::of(element.as_bytes()), 3000), Ok(true));
        }
        assert_eq!(describe(&bytes), "Z:4050 v:3,1 Z:1887 v:2,1 Z:4640 v:3,1 Z:2131 v:2,1 Z:3672");
        assert_eq!(count(&bytes), Ok(4));
        store_count(&mut bytes, 4);
        assert_eq!(bytes[HEADER_BYTES..], *b"\x4f\xd1\x88\x47\x5e\x84\x52\x1f\x88\x48\x52\x84\x4e\x57");
    }

    #[test]
    fn registers_are_the_same_in_both_encodings() {
        for count in [0, 1, 2, 100, 1000, 5000] {
            let mut sparse = new();
            let mut dense = new();
            make_dense(&mut dense).expect("an empty one is whole");
            for element in elements(count) {
                let mark = Mark::of(&element);
                let wanted = wants(&sparse, mark);
                assert_eq!(wants(&dense, mark), wanted);
                assert_eq!(add(&mut sparse, mark, usize::MAX), wanted);
                assert_eq!(add(&mut dense, mark, 0), wanted);
            }
            let model = model_of(elements(count));
            assert_eq!(encoding(&sparse), Some(Encoding::Sparse));
            assert_eq!(encoding(&dense), Some(Encoding::Dense));
            assert!(registers_of(&sparse) == model && registers_of(&dense) == model, "{count} elements");
            assert_eq!(super::count(&sparse), super::count(&dense));
        }
    }

    #[test]
    fn a_string_becomes_dense_when_it_would_be_too_long() {
        let mut bytes = new();
        for element in elements(3000) {
            let before = bytes.len();
            add(&mut bytes, Mark::of(&element), 500).expect("it is whole");
            let dense = encoding(&bytes) == Some(Encoding::Dense);
            assert!(dense || bytes.len() <= 500);
            assert!(!dense || before == DENSE_BYTES || before > 490);
        }
        assert_eq!(registers_of(&bytes), model_of(elements(3000)));
    }

    #[test]
    fn a_value_that_no_run_can_hold_makes_it_dense() {
        let mut bytes = new();
        assert_eq!(add(&mut bytes, Mark { register: 7, value: 33 }, usize::MAX), Ok(true));
        assert_eq!(encoding(&bytes), Some(Encoding::Dense));
        assert_eq!(registers_of(&bytes)[7], 33);
    }

    #[test]
    fn random_marks_agree_with_plain_registers() {
        for seed in 0..30 {
            let mut rng = Rng::seed(seed);
            let mut bytes = new();
            let mut model = vec![0; REGISTERS];
            let spread = *rng.pick(&[20, 300, REGISTERS as u64]);
            for _ in 0..600 {
                let mark = Mark { register: rng.below(spread) as usize, value: 1 + rng.below(4) as u8 };
                let raised = add(&mut bytes, mark, 100_000).expect("it is whole");
                assert_eq!(raised, model[mark.register] < mark.value, "seed {seed}");
                model[mark.register] = mark.value.max(model[mark.register]);
            }
            assert!(registers_of(&bytes) == model, "seed {seed}");
        }
    }

    #[test]
    fn estimates_are_within_a_few_percent() {
        for (count, error) in [(0, 0), (1, 0), (10, 0), (1000, 30), (20_000, 700), (200_000, 7000)] {
            let mut bytes = new();
            for element in elements(count) {
                add(&mut bytes, Mark::of(&element), 3000).expect("it is whole");
            }
            let estimate = super::count(&bytes).expect("it is whole");
            assert!(estimate.abs_diff(count) <= error, "{count} were counted as {estimate}");
            assert_eq!(stored_count(&bytes), (count == 0).then_some(0));
        }
    }

    #[test]
    fn a_stored_count_is_forgotten_by_the_next_change_only() {
        let mut bytes = new();
        add(&mut bytes, Mark::of(b"a"), 3000).expect("it is whole");
        assert_eq!(stored_count(&bytes), None);
        store_count(&mut bytes, 1);
        add(&mut bytes, Mark::of(b"a"), 3000).expect("it is whole");
        assert_eq!(stored_count(&bytes), Some(1));
        make_dense(&mut bytes).expect("it is whole");
        assert_eq!(stored_count(&bytes), Some(1));
    }

    #[test]
    fn merging_takes_the_larger_of_each_two() {
        let (mut a, mut b) = (new(), new());
        for (number, element) in elements(4000).enumerate() {
            let target = if number % 3 == 0 { &mut a } else { &mut b };
            add(target, Mark::of(&element), 3000).expect("it is whole");
        }
        let mut registers = Registers::default();
        registers.merge(&a).expect("it is whole");
        registers.merge(&b).expect("it is whole");
        assert_eq!(registers.values(), model_of(elements(4000)));
        registers.write_to(&mut a, 3000).expect("it is whole");
        assert_eq!(registers_of(&a), registers.values());
        assert_eq!(super::count(&a), Ok(registers.count()));
    }

    #[test]
    fn cve_2025_32023_damaged_strings_are_refused_and_never_left() {
        let seed = 0xc0e;
        println!("seed {seed:#x}");
        let mut rng = Rng::seed(seed);
        for round in 0..20_000 {
            let mut bytes = new();
            for _ in 0..rng.below(20) {
                let mark = Mark { register: rng.below(REGISTERS as u64) as usize, value: 1 + rng.below(32) as u8 };
                add(&mut bytes, mark, 3000).expect("it is whole");
            }
            for _ in 0..rng.below(4) {
                let at = HEADER_BYTES + rng.below((bytes.len() - HEADER_BYTES) as u64) as usize;
                match rng.below(4) {
                    0 => bytes[at] = rng.next_u64() as u8,
                    1 => drop(bytes.remove(at)),
                    2 => bytes.insert(at, rng.next_u64() as u8),
                    _ => bytes.truncate(at + 1),
                }
                if bytes.len() == HEADER_BYTES {
                    break;
                }
            }
            let whole = count(&bytes).is_ok();
            let mut registers = Registers::default();
            assert_eq!(registers.merge(&bytes).is_ok(), whole, "round {round}: {bytes:?}");
            assert_eq!(make_dense(&mut bytes.clone()).is_ok(), whole);
            let mark = Mark { register: rng.below(REGISTERS as u64) as usize, value: 1 + rng.below(50) as u8 };
            let before = bytes.clone();
            let limit = rng.below(60) as usize;
            let added = add(&mut bytes, mark, limit);
            assert!(added.is_ok() || bytes == before);
            assert!(added.is_ok() || !whole);
            let _ = describe(&bytes);
        }
    }

    #[test]
    fn full_and_crafted_registers_have_an_estimate() {
        for byte in [0xff, 0xcf, 0x33, 0x00] {
            let mut bytes = new();
            make_dense(&mut bytes).expect("it is whole");
            bytes[HEADER_BYTES..].fill(byte);
            count(&bytes).expect("every dense string is whole");
        }
    }

    #[test]
    fn other_strings_are_told_apart() {
        for bytes in [
            &b""[..],
            b"HYLL",
            b"HYLL\x02\0\0\0\0\0\0\0\0\0\0\0",
            b"HYLL\0\0\0\0\0\0\0\0\0\0\0\0",
            b"HYLLO world, and so on",
        ] {
            assert_eq!(encoding(bytes), None, "{bytes:?}");
        }
        assert_eq!(encoding(b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0"), Some(Encoding::Sparse));
    }
}
