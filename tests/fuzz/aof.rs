//! Hostile bytes for the reader of logs: real logs, changed.
//!
//! Each case is read by a model, whole and slowly, and by the scanner in pieces of drawn lengths, with and without keeping bytes. Both
//! must see the same records, the same end and the same damage; what may be kept of the file must be whole; and memory must
//! follow what was fed, not what a header announces.

mod campaign;

use annulus::base::rng::Rng;
use annulus::persist::aof::annotation::{self, Annotation, Epoch};
use annulus::persist::aof::effect::{EXEC, MULTI, push_command, push_select};
use annulus::persist::aof::epochs::{Ending, FileScan, FileSum};
use annulus::persist::aof::scan::{Damage, End, Found, Item, Keep, Limits, Scanner};

/// Knows how much a thread has allocated.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const INTERESTING: &[u8] = b"*$#\r\n0123456789:-\0x";

const LIMITS: Limits = Limits { bulk_bytes_max: 100_000, args_max: 50 };

/// What a log holds: `(from, to, what)`.
type Seen = Vec<(usize, usize, String)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Damaged(Damage),
    Ended(End),
}

/// Reads `log` from one byte to the next.
struct Model<'a> {
    log: &'a [u8],
    at: usize,
}

/// Why the model stops; none: the log ends.
type Stop = Option<Damage>;

impl Model<'_> {
    fn wrong<T>(&self, offset: usize, expected: &'static str) -> Result<T, Stop> {
        Err(Some(Damage { offset: offset as u64, expected }))
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        let byte = *self.log.get(self.at).ok_or(None)?;
        self.at += 1;
        Ok(byte)
    }

    fn number(&mut self, least: u64, most: u64, expected: &'static str) -> Result<u64, Stop> {
        let first = self.at;
        let mut digits = String::new();
        loop {
            match self.byte()? {
                digit @ b'0'..=b'9' if digits.len() < 19 => digits.push(char::from(digit)),
                b'\r' if !digits.is_empty() => break,
                _ => return self.wrong(self.at - 1, expected),
            }
        }
        if self.byte()? != b'\n' {
            return self.wrong(self.at - 1, "a line end");
        }
        let number: u64 = digits.parse().expect("nineteen digits");
        if number.to_string() != digits || number < least || number > most {
            return self.wrong(first, expected);
        }
        Ok(number)
    }

    fn record(&mut self) -> Result<Vec<Vec<u8>>, Stop> {
        let argc = self.number(1, LIMITS.args_max, "a number of arguments")?;
        let mut argv = Vec::new();
        for _ in 0..argc {
            if self.byte()? != b'$' {
                return self.wrong(self.at - 1, "'$' of an argument");
            }
            let len = self.number(0, LIMITS.bulk_bytes_max, "the length of an argument")? as usize;
            let bytes = self.log[self.at..].get(..len).ok_or(None)?;
            self.at += len;
            let end = &self.log[self.at..];
            match end {
                [b'\r', b'\n', ..] => self.at += 2,
                [b'\r'] | [] => return Err(None),
                _ => return self.wrong(self.at, "the line end behind an argument"),
            }
            argv.push(bytes.to_vec());
        }
        Ok(argv)
    }

    fn annotation(&mut self) -> Result<Annotation, Stop> {
        let first = self.at - 1;
        let line: Vec<u8> = self.log[first..].iter().copied().take(1024).take_while(|byte| *byte != b'\n').collect();
        self.at = first + line.len();
        if line.len() == 1024 {
            return self.wrong(first, "an annotation of at most 1024 bytes");
        }
        self.byte()?;
        Ok(Annotation::parse(line.strip_suffix(b"\r").unwrap_or(&line)))
    }
}

/// The log's items, how it ends, and where it may be cut.
fn model(log: &[u8]) -> (Seen, Last, usize) {
    let mut model = Model { log, at: 0 };
    let (mut seen, mut multi, mut valid) = (Vec::new(), None, 0);
    loop {
        let from = model.at;
        let Ok(first) = model.byte() else {
            let end = multi.map_or(End::Whole, |at: usize| End::OpenTransaction { at: at as u64 });
            return (seen, Last::Ended(end), valid);
        };
        let item = match first {
            b'#' => model.annotation().map(|annotation| {
                if multi.is_none() && !matches!(annotation, Annotation::Transaction { .. }) {
                    valid = model.at;
                }
                format!("{annotation:?} {}", multi.is_some())
            }),
            b'*' => model.record().and_then(|argv| {
                let name = argv[0].to_ascii_uppercase();
                match (name.as_slice(), multi) {
                    (b"MULTI", Some(_)) => model.wrong(from, "EXEC before the next MULTI")?,
                    (b"EXEC", None) => model.wrong(from, "MULTI before an EXEC")?,
                    (b"MULTI", None) => multi = Some(from),
                    (b"EXEC", Some(_)) => multi = None,
                    _ => {}
                }
                if multi.is_none() {
                    valid = model.at;
                }
                Ok(format!("{} {:?}", argv.len(), &argv[0][..argv[0].len().min(32)]))
            }),
            _ => model.wrong(from, "'*' of a command or '#' of an annotation"),
        };
        match item {
            Ok(item) => seen.push((from, model.at, item)),
            Err(Some(damage)) => return (seen, Last::Damaged(damage), valid),
            Err(None) => return (seen, Last::Ended(End::Cut { at: from as u64 }), valid),
        }
    }
}

fn scan(log: &[u8], keep: Keep, mut piece: impl FnMut() -> usize) -> (Seen, Last, usize) {
    let mut scanner = Scanner::new(0, keep, LIMITS);
    let (mut seen, mut rest) = (Vec::new(), log);
    let last = loop {
        match scanner.next_item() {
            Ok(Item::NeedMore) if rest.is_empty() => break Last::Ended(scanner.end()),
            Ok(Item::NeedMore) => {
                let (now, later) = rest.split_at(piece().clamp(1, rest.len()));
                scanner.feed(now);
                rest = later;
            }
            Ok(Item::Annotation { at, annotation, in_transaction }) => {
                seen.push((at.start as usize, at.end as usize, format!("{annotation:?} {in_transaction}")));
            }
            Ok(Item::Record { at, argc, name, .. }) => {
                let what = format!("{argc} {name:?}");
                seen.push((at.start as usize, at.end as usize, what));
                if keep == Keep::Records {
                    assert_eq!(scanner.bytes(at.clone()), &log[at.start as usize..at.end as usize]);
                }
            }
            Err(damage) => break Last::Damaged(damage),
        }
    };
    (seen, last, scanner.valid_up_to() as usize)
}

/// The bytes of all records up to damage, as a dispatch engine gets them.
fn runs(log: &[u8], bytes_max: u64, mut piece: impl FnMut() -> usize) -> Vec<u8> {
    let mut scanner = Scanner::new(0, Keep::Records, LIMITS);
    let (mut records, mut rest) = (Vec::new(), log);
    loop {
        match scanner.next_run(bytes_max) {
            Ok(Found::NeedMore) if rest.is_empty() => return records,
            Ok(Found::NeedMore) => {
                let (now, later) = rest.split_at(piece().clamp(1, rest.len()));
                scanner.feed(now);
                rest = later;
            }
            Ok(Found::Run(run)) => records.extend_from_slice(scanner.bytes(run.at)),
            Ok(Found::Annotation { .. }) => {}
            Err(_) => return records,
        }
    }
}

fn sum(log: &[u8], mut piece: impl FnMut() -> usize) -> FileSum {
    let mut scan = FileScan::new(0, LIMITS);
    let mut rest = log;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(piece().clamp(1, rest.len()));
        scan.feed(now);
        rest = later;
    }
    scan.finish()
}

fn some_log(rng: &mut Rng) -> Vec<u8> {
    let mut log = Vec::new();
    let mut number = 0;
    for _ in 0..rng.below(10) {
        match rng.below(8) {
            0 => {
                number += 1 + rng.below(3);
                annotation::push_epoch(&mut log, Epoch { number, unix_ms: rng.next_u64() >> 20 });
            }
            1 => annotation::push_time(&mut log, rng.below(1 << 31)),
            2 => push_select(&mut log, rng.below(16) as u16),
            3 | 4 => {
                if rng.chance(1, 2) {
                    annotation::push_transaction(&mut log, rng.below(4) as u16, rng.below(1000));
                }
                log.extend_from_slice(MULTI);
                for _ in 0..rng.below(3) {
                    push_command(&mut log, [&b"INCR"[..], b"k"]);
                }
                log.extend_from_slice(EXEC);
            }
            _ => {
                let value = match rng.below(4) {
                    0 => b"\r\n#EPOCH:5:5\r\n*1\r\n$4\r\nEXEC\r\n".to_vec(),
                    1 => vec![b'v'; rng.below(2000) as usize],
                    _ => rng.below(1000).to_string().into_bytes(),
                };
                let args = 1 + rng.below(4) as usize;
                push_command(&mut log, std::iter::repeat_n(value.as_slice(), args));
            }
        }
    }
    log
}

fn case(rng: &mut Rng) -> String {
    let mut log = some_log(rng);
    campaign::mutate(rng, &mut log, INTERESTING);
    let allocated = tikv_jemalloc_ctl::thread::allocatedp::read().expect("the allocator counts");
    let (seen, last, valid) = model(&log);
    let most = *rng.pick(&[1, 2, 7, 60, 3000]);
    for keep in [Keep::Records, Keep::Nothing] {
        let before = allocated.get();
        let scanned = scan(&log, keep, || 1 + rng.below(most) as usize);
        let spent = allocated.get() - before;
        assert!(spent < 20_000 + 200 * log.len() as u64, "{spent} bytes allocated for {}", log.len());
        assert_eq!(scanned, (seen.clone(), last, valid), "{keep:?}: {}", log.escape_ascii());
    }
    let records: Vec<u8> = seen
        .iter()
        .filter(|(from, ..)| log[*from] == b'*')
        .flat_map(|(from, to, _)| log[*from..*to].iter().copied())
        .collect();
    let bytes_max = *rng.pick(&[1, 100, 1 << 20]);
    assert_eq!(runs(&log, bytes_max, || 1 + rng.below(most) as usize), records, "{}", log.escape_ascii());

    // What may be kept is whole, and holds the same epochs.
    let whole = sum(&log, || usize::MAX);
    let pieces = sum(&log, || 1 + rng.below(most) as usize);
    match (whole.ending, pieces.ending) {
        // Where a search behind damage goes on may depend on the pieces; where the damage is may not.
        (Ending::Damaged(one, _), Ending::Damaged(other, _)) => assert_eq!(one, other),
        _ => assert_eq!(whole, pieces, "{}", log.escape_ascii()),
    }
    let kept = sum(&log[..whole.valid_up_to as usize], || usize::MAX);
    assert_eq!((kept.ending, kept.valid_up_to), (Ending::Whole, whole.valid_up_to), "{}", log.escape_ascii());
    let outside = |sum: &FileSum| sum.epochs.iter().filter(|closed| closed.end <= whole.valid_up_to).count();
    assert_eq!((kept.epochs.len(), outside(&kept)), (whole.epochs.len(), outside(&whole)), "{}", log.escape_ascii());
    match last {
        Last::Damaged(damage) => format!("damaged: {}", damage.expected),
        Last::Ended(End::Whole) => "whole".to_owned(),
        Last::Ended(End::Cut { .. }) => "cut".to_owned(),
        Last::Ended(End::OpenTransaction { .. }) => "open transaction".to_owned(),
    }
}

#[test]
fn changed_logs_are_read_as_the_model_reads_them() {
    campaign::run(case);
}

#[test]
fn the_cases_reach_every_end_and_every_damage() {
    let outcomes: std::collections::BTreeSet<String> = (0..6000).map(|seed| case(&mut Rng::seed(seed))).collect();
    assert!(outcomes.len() >= 10, "{outcomes:#?}");
}

#[test]
fn an_announced_length_costs_nothing() {
    let allocated = tikv_jemalloc_ctl::thread::allocatedp::read().expect("the allocator counts");
    let before = allocated.get();
    let mut scanner = Scanner::new(0, Keep::Records, Limits::default());
    scanner.feed(b"*1048576\r\n$536870912\r\nabc");
    assert_eq!(scanner.next_item(), Ok(Item::NeedMore));
    assert!(allocated.get() - before < 10_000);
}
