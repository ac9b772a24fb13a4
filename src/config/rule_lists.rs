//! Rules for settings that are lists of words, or one word with a structure of its own.
//!
//! In a configuration file a list is the rest of the line; in CONFIG SET it is one argument that the caller has split
//! at single blanks, as Redis does, so two blanks in a row make an empty word. That is why `save "1  2"` is refused.

use super::rule::{Refusal, Rule, WRONG_COUNT};
use super::units::loose_integer;
use super::values::{EventClasses, MasterAddress, OutputLimit, OutputLimits, SavePoint, ShutdownFlags, Text};
use crate::base::{float, num, size};

/// Words joined by single blanks.
fn joined<T: ToString>(words: impl IntoIterator<Item = T>) -> Vec<u8> {
    words.into_iter().map(|word| word.to_string()).collect::<Vec<_>>().join(" ").into_bytes()
}

/// `save`: pairs of seconds and changes, none at all when saving is off.
pub(super) struct SavePoints;

impl Rule for SavePoints {
    type Value = Vec<SavePoint>;
    const MANY: bool = true;

    fn assign(&self, value: &mut Vec<SavePoint>, words: &[&[u8]]) -> Result<(), Refusal> {
        const WRONG: Refusal = Refusal::Borrowed("Invalid save parameters");
        let (pairs, rest) = words.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(WRONG);
        }
        let point = |[seconds, changes]: &[&[u8]; 2]| {
            let seconds = loose_integer(seconds).filter(|seconds| *seconds >= 1)?;
            let changes = loose_integer(changes).and_then(|changes| i32::try_from(changes).ok())?;
            (changes >= 0).then_some(SavePoint { seconds, changes })
        };
        *value = pairs.iter().map(point).collect::<Option<_>>().ok_or(WRONG)?;
        Ok(())
    }

    fn print(&self, value: &Vec<SavePoint>) -> Vec<u8> {
        joined(value.iter().map(|point| format!("{} {}", point.seconds, point.changes)))
    }

    fn wants(&self) -> String {
        "pairs of seconds and changes such as 3600 1 300 100, or \"\" for no saving".to_owned()
    }
}

/// `client-output-buffer-limit`: groups of class, hard limit, soft limit, seconds. Classes that are not named keep
/// what they have.
pub(super) struct OutputLimitGroups;

impl Rule for OutputLimitGroups {
    type Value = OutputLimits;
    const MANY: bool = true;

    fn assign(&self, value: &mut OutputLimits, words: &[&[u8]]) -> Result<(), Refusal> {
        let (groups, rest) = words.as_chunks::<4>();
        if !rest.is_empty() {
            return Err("Wrong number of arguments in buffer limit configuration.".into());
        }
        let mut limits = *value;
        for [class, hard, soft, seconds] in groups {
            let limit = match class.to_ascii_lowercase().as_slice() {
                b"normal" => &mut limits.normal,
                b"slave" | b"replica" => &mut limits.replica,
                b"pubsub" => &mut limits.pubsub,
                _ => return Err("Invalid client class specified in buffer limit configuration.".into()),
            };
            let read = || {
                let soft_seconds = loose_integer(seconds).and_then(|seconds| i32::try_from(seconds).ok())?;
                Some(OutputLimit {
                    hard_bytes: size::parse_bytes(hard)?,
                    soft_bytes: size::parse_bytes(soft)?,
                    soft_seconds: u32::try_from(soft_seconds).ok()?,
                })
            };
            *limit = read().ok_or("Error in hard, soft or soft_seconds setting in buffer limit configuration.")?;
        }
        *value = limits;
        Ok(())
    }

    fn print(&self, value: &OutputLimits) -> Vec<u8> {
        let group = |(class, limit): (&str, OutputLimit)| {
            format!("{class} {} {} {}", limit.hard_bytes, limit.soft_bytes, limit.soft_seconds)
        };
        joined([("normal", value.normal), ("slave", value.replica), ("pubsub", value.pubsub)].map(group))
    }

    fn wants(&self) -> String {
        "groups of class (normal, replica, pubsub), hard limit, soft limit and seconds".to_owned()
    }
}

/// `oom-score-adj-values`: three scores.
pub(super) struct OomScores;

impl Rule for OomScores {
    type Value = [i32; 3];
    const MANY: bool = true;

    fn assign(&self, value: &mut [i32; 3], words: &[&[u8]]) -> Result<(), Refusal> {
        let words: &[&[u8]; 3] = words.try_into().map_err(|_| WRONG_COUNT)?;
        let mut scores = [0; 3];
        for (score, word) in scores.iter_mut().zip(words) {
            let number = loose_integer(word).filter(|number| (-2000..=2000).contains(number));
            let refusal = "Invalid oom-score-adj-values, elements must be between -2000 and 2000.";
            *score = number.ok_or(refusal)? as i32;
        }
        *value = scores;
        Ok(())
    }

    fn print(&self, value: &[i32; 3]) -> Vec<u8> {
        joined(value)
    }

    fn wants(&self) -> String {
        "three numbers from -2000 to 2000".to_owned()
    }
}

/// `bind`: addresses to listen on, none at all for no TCP.
pub(super) struct Addresses;

/// As many as Redis takes.
const ADDRESSES_MAX: usize = 16;

impl Rule for Addresses {
    type Value = Vec<String>;
    const MANY: bool = true;

    fn assign(&self, value: &mut Vec<String>, words: &[&[u8]]) -> Result<(), Refusal> {
        if words.len() > ADDRESSES_MAX {
            return Err("Too many bind addresses specified.".into());
        }
        let text = |word: &&[u8]| std::str::from_utf8(word).ok().filter(|word| !word.contains('\0')).map(str::to_owned);
        let read: Option<Vec<_>> = words.iter().map(text).collect();
        *value = read.ok_or("Failed to bind to specified addresses.")?;
        Ok(())
    }

    fn print(&self, value: &Vec<String>) -> Vec<u8> {
        value.join(" ").into_bytes()
    }

    fn wants(&self) -> String {
        format!("up to {ADDRESSES_MAX} addresses; a leading - makes one optional, * stands for all")
    }
}

/// `latency-tracking-info-percentiles`: percentiles, none at all for no lines.
pub(super) struct Percentiles;

impl Rule for Percentiles {
    type Value = Vec<f64>;
    const MANY: bool = true;

    fn assign(&self, value: &mut Vec<f64>, words: &[&[u8]]) -> Result<(), Refusal> {
        let mut percentiles = Vec::with_capacity(words.len());
        for word in words {
            let number = float::parse_f64(word);
            let number = number.ok_or("Invalid latency-tracking-info-percentiles parameters")?;
            if !(0.0..=100.0).contains(&number) {
                return Err("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".into());
            }
            percentiles.push(number);
        }
        *value = percentiles;
        Ok(())
    }

    fn print(&self, value: &Vec<f64>) -> Vec<u8> {
        // Six decimals without the zeros at their end, as `%f` and a trim give.
        let shown = |number: &f64| {
            let text = format!("{number:.6}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        joined(value.iter().map(shown))
    }

    fn wants(&self) -> String {
        "numbers from 0 to 100".to_owned()
    }
}

/// `shutdown-on-sigint` and `shutdown-on-sigterm`: any of a few words.
pub(super) struct ShutdownWords;

impl Rule for ShutdownWords {
    type Value = ShutdownFlags;
    const MANY: bool = true;

    fn assign(&self, value: &mut ShutdownFlags, words: &[&[u8]]) -> Result<(), Refusal> {
        const UNKNOWN: Refusal =
            Refusal::Borrowed("argument(s) must be one of the following: default, save, nosave, now, force");
        let mut flags = ShutdownFlags::default();
        for word in words {
            match word.to_ascii_lowercase().as_slice() {
                b"default" => {}
                b"save" => flags.save = true,
                b"nosave" => flags.nosave = true,
                b"now" => flags.now = true,
                b"force" => flags.force = true,
                _ => return Err(UNKNOWN),
            }
        }
        if words.is_empty() {
            return Err(UNKNOWN);
        }
        if flags.save && flags.nosave {
            return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".into());
        }
        *value = flags;
        Ok(())
    }

    fn print(&self, value: &ShutdownFlags) -> Vec<u8> {
        let words = [(value.save, "save"), (value.nosave, "nosave"), (value.now, "now"), (value.force, "force")];
        let set: Vec<_> = words.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect();
        if set.is_empty() { b"default".to_vec() } else { joined(set) }
    }

    fn wants(&self) -> String {
        "default, or any of save, nosave, now, force".to_owned()
    }
}

/// `replicaof`: host and port, or `no one`.
pub(super) struct Master;

impl Rule for Master {
    type Value = Option<MasterAddress>;
    const MANY: bool = true;

    fn assign(&self, value: &mut Option<MasterAddress>, words: &[&[u8]]) -> Result<(), Refusal> {
        let [host, port] = words else { return Err(WRONG_COUNT) };
        if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
            *value = None;
            return Ok(());
        }
        let port = num::parse_i64(port).and_then(|port| u16::try_from(port).ok());
        let port = port.ok_or("Invalid master port")?;
        *value = Some(MasterAddress { host: Text(host.to_vec()), port });
        Ok(())
    }

    fn print(&self, value: &Option<MasterAddress>) -> Vec<u8> {
        match value {
            Some(master) => [master.host.as_bytes(), b" ", master.port.to_string().as_bytes()].concat(),
            None => Vec::new(),
        }
    }

    fn wants(&self) -> String {
        "a host and a port, or no one".to_owned()
    }
}

/// `notify-keyspace-events`: a set of letters.
pub(super) struct Events;

/// The letters of event classes in the order in which they are printed; the first ten together are `A`.
const EVENT_LETTERS: &[u8; 14] = b"g$lshzxetdKEmn";
const EVENTS_ALL: u16 = (1 << 10) - 1;

impl Rule for Events {
    type Value = EventClasses;

    fn assign(&self, value: &mut EventClasses, words: &[&[u8]]) -> Result<(), Refusal> {
        let [word] = words else { return Err(WRONG_COUNT) };
        let mut classes = 0;
        for letter in *word {
            classes |= match EVENT_LETTERS.iter().position(|known| known == letter) {
                Some(at) => 1 << at,
                None if *letter == b'A' => EVENTS_ALL,
                None => return Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into()),
            };
        }
        *value = EventClasses(classes);
        Ok(())
    }

    fn print(&self, value: &EventClasses) -> Vec<u8> {
        let all = value.0 & EVENTS_ALL == EVENTS_ALL;
        let single = if all { value.0 & !EVENTS_ALL } else { value.0 };
        let letters = EVENT_LETTERS.iter().enumerate().filter(|(at, _)| single & (1 << at) != 0);
        all.then_some(b'A').into_iter().chain(letters.map(|(_, letter)| *letter)).collect()
    }

    fn wants(&self) -> String {
        "letters out of Ag$lshzxeKEtmdn, or \"\"".to_owned()
    }
}

/// A list of CPU numbers: `0`, `2-5`, `0-14:2` (every second one), joined by commas.
pub(super) struct CpuList;

/// More than any machine Linux runs on.
const CPU_MAX: u16 = 8191;

impl Rule for CpuList {
    type Value = Vec<u16>;

    fn assign(&self, value: &mut Vec<u16>, words: &[&[u8]]) -> Result<(), Refusal> {
        let [word] = words else { return Err(WRONG_COUNT) };
        let mut cpus = Vec::new();
        if !word.is_empty() {
            for part in word.split(|byte| *byte == b',') {
                let range = cpu_range(part).ok_or("argument must be a list of CPU numbers such as 0-3,8 or 0-14:2")?;
                cpus.extend(range);
            }
        }
        *value = cpus;
        Ok(())
    }

    fn print(&self, value: &Vec<u16>) -> Vec<u8> {
        let runs = value.chunk_by(|before, after| before + 1 == *after);
        let shown = |run: &[u16]| match run {
            [first, .., last] => format!("{first}-{last}"),
            _ => run[0].to_string(),
        };
        runs.map(shown).collect::<Vec<_>>().join(",").into_bytes()
    }

    fn wants(&self) -> String {
        "CPU numbers such as 0-3,8 or 0-14:2".to_owned()
    }
}

fn cpu_range(part: &[u8]) -> Option<impl Iterator<Item = u16>> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten().filter(|cpu| *cpu <= CPU_MAX)
    };
    let part = std::str::from_utf8(part).ok()?;
    let (range, step) = part.split_once(':').unwrap_or((part, "1"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last, step) = (number(first)?, number(last)?, number(step)?);
    (first <= last && step > 0).then(|| (first..=last).step_by(usize::from(step)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Assigns the words of `text`, split at single blanks, and gives what CONFIG GET would show, or the refusal.
    fn set<R: Rule>(rule: &R, value: R::Value, text: &str) -> Result<String, String> {
        let mut value = value;
        let words: Vec<&[u8]> = match text {
            "" if R::MANY => Vec::new(),
            _ => text.split(' ').map(str::as_bytes).collect(),
        };
        rule.assign(&mut value, &words).map_err(|refusal| refusal.to_string())?;
        Ok(String::from_utf8(rule.print(&value)).unwrap())
    }

    #[test]
    fn save_points_come_in_pairs() {
        for (text, shown) in [("", ""), ("1 2", "1 2"), ("+1 02", "1 2"), ("1 2 1 2", "1 2 1 2"), ("1 ", "1 0")] {
            assert_eq!(set(&SavePoints, Vec::new(), text), Ok(shown.to_owned()), "{text}");
        }
        for text in ["50", "0 1", "1 -1", " 1 2", "1  2", "1 2 3", "1 4294967297", "x 1", "9999999999999999999 1"] {
            assert_eq!(set(&SavePoints, Vec::new(), text), Err("Invalid save parameters".to_owned()), "{text}");
        }
    }

    #[test]
    fn output_limits_of_classes_not_named_stay() {
        let none = OutputLimits::default;
        let shown = "normal 0 0 0 slave 1048576 2000 3 pubsub 0 0 0";
        assert_eq!(set(&OutputLimitGroups, none(), "REPLICA 1mb 2k 3"), Ok(shown.to_owned()));
        for (text, refusal) in [
            ("normal 1 2", "Wrong number of arguments in buffer limit configuration."),
            ("master 1 1 1", "Invalid client class specified in buffer limit configuration."),
            ("normal x 1 1", "Error in hard, soft or soft_seconds setting in buffer limit configuration."),
            ("normal 1 1 -1", "Error in hard, soft or soft_seconds setting in buffer limit configuration."),
        ] {
            assert_eq!(set(&OutputLimitGroups, none(), text), Err(refusal.to_owned()), "{text}");
        }
    }

    #[test]
    fn one_wrong_group_of_output_limits_changes_none() {
        let mut limits = OutputLimits::default();
        let words: Vec<&[u8]> = "normal 1 1 1 pubsub x 1 1".split(' ').map(str::as_bytes).collect();
        OutputLimitGroups.assign(&mut limits, &words).unwrap_err();
        assert_eq!(limits, OutputLimits::default());
    }

    #[test]
    fn percentiles_print_without_trailing_zeros() {
        for (text, shown) in
            [("50", "50"), ("99.9 50 1.123456789", "99.9 50 1.123457"), ("1e1", "10"), ("0x10", "16"), ("", "")]
        {
            assert_eq!(set(&Percentiles, Vec::new(), text), Ok(shown.to_owned()), "{text}");
        }
        for text in ["101", "-1", "x", "nan", " 50", "inf"] {
            assert!(set(&Percentiles, Vec::new(), text).is_err(), "{text}");
        }
    }

    #[test]
    fn shutdown_words_do_not_contradict() {
        let none = ShutdownFlags::default;
        for (text, shown) in
            [("save", "save"), ("force NOW", "now force"), ("default", "default"), ("default now now", "now")]
        {
            assert_eq!(set(&ShutdownWords, none(), text), Ok(shown.to_owned()), "{text}");
        }
        for text in ["", "bogus", "save bogus", "save nosave"] {
            assert!(set(&ShutdownWords, none(), text).is_err(), "{text}");
        }
    }

    #[test]
    fn event_classes_print_in_one_order() {
        let none = EventClasses::default;
        for (text, shown) in
            [("", ""), ("Ag", "A"), ("KEA", "AKE"), ("EK$g", "g$KE"), ("g$lshzxetd", "A"), ("nA", "An")]
        {
            assert_eq!(set(&Events, none(), text), Ok(shown.to_owned()), "{text}");
        }
        assert!(Events.assign(&mut none(), &[b"q"]).is_err());
    }

    #[test]
    fn a_master_is_host_and_port_or_no_one() {
        assert_eq!(set(&Master, None, "10.0.0.1 6379"), Ok("10.0.0.1 6379".to_owned()));
        assert_eq!(set(&Master, None, "NO One"), Ok(String::new()));
        assert_eq!(set(&Master, None, "h 65536"), Err("Invalid master port".to_owned()));
        assert_eq!(set(&Master, None, "h"), Err("wrong number of arguments".to_owned()));
    }

    #[test]
    fn cpu_lists_have_ranges_and_steps() {
        for (text, shown) in [("0", "0"), ("3,0-1", "3,0-1"), ("0-6:2", "0,2,4,6"), ("0-2,3", "0-3")] {
            assert_eq!(set(&CpuList, Vec::new(), text), Ok(shown.to_owned()), "{text}");
        }
        for text in ["x", "1-", "3-1", "0-4:0", "1,,2", "9999", "+1", "-1"] {
            assert!(set(&CpuList, Vec::new(), text).is_err(), "{text}");
        }
        assert_eq!(set(&CpuList, vec![1], ""), Ok(String::new()));
    }

    #[test]
    fn there_are_at_most_sixteen_addresses() {
        assert_eq!(set(&Addresses, Vec::new(), "* -::*"), Ok("* -::*".to_owned()));
        let too_many = ["127.0.0.1"; 17].join(" ");
        assert_eq!(set(&Addresses, Vec::new(), &too_many), Err("Too many bind addresses specified.".to_owned()));
    }
}
