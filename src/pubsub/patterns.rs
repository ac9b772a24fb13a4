//! Which patterns match a channel, without trying all of them.
//!
//! Most patterns begin with bytes that stand for themselves (`user.17.*`). A channel can only match a pattern whose literal
//! beginning is a beginning of the channel; so patterns are filed under theirs, and a channel looks up its own beginnings, one for
//! each length that some pattern has. Ten thousand patterns `user.N.*` cost a message four lookups and a glob or two, not ten
//! thousand globs. Patterns that begin with a wildcard are all filed under the empty beginning and tried one by one: they are few
//! where patterns are many.
//!
//! Belongs to one shard's table of patterns. Absent on purpose: a tree over the bytes, which would save lookups of lengths that the
//! channel's beginning has no pattern for; there are rarely more than a handful of lengths.

use std::collections::{BTreeMap, HashMap};

use super::Name;
use crate::base::glob;

/// See the module.
#[derive(Default)]
pub struct PatternIndex {
    by_beginning: HashMap<Box<[u8]>, Vec<Name>, ahash::RandomState>,
    /// Beginnings by their length.
    lengths: BTreeMap<usize, usize>,
    len: usize,
}

/// The bytes in front of the first that has a meaning of its own.
fn beginning(pattern: &[u8]) -> &[u8] {
    let end = pattern.iter().position(|byte| b"*?[\\".contains(byte)).unwrap_or(pattern.len());
    &pattern[..end]
}

impl PatternIndex {
    /// Files a pattern that is not there yet.
    pub fn add(&mut self, pattern: &Name) {
        let beginning = beginning(pattern);
        match self.by_beginning.get_mut(beginning) {
            Some(filed) => filed.push(pattern.clone()),
            None => {
                *self.lengths.entry(beginning.len()).or_default() += 1;
                self.by_beginning.insert(beginning.into(), vec![pattern.clone()]);
            }
        }
        self.len += 1;
    }

    /// Takes a pattern out again.
    pub fn remove(&mut self, pattern: &[u8]) {
        let beginning = beginning(pattern);
        let filed = self.by_beginning.get_mut(beginning).expect("it was filed under its beginning");
        let at = filed.iter().position(|other| **other == *pattern).expect("it was filed");
        filed.swap_remove(at);
        self.len -= 1;
        if filed.is_empty() {
            self.by_beginning.remove(beginning);
            let of_length = self.lengths.get_mut(&beginning.len()).expect("a beginning's length is counted");
            *of_length -= 1;
            if *of_length == 0 {
                self.lengths.remove(&beginning.len());
            }
        }
    }

    /// How many patterns there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Shows each pattern that matches.
    pub fn matching<'i>(&'i self, channel: &[u8], mut show: impl FnMut(&'i Name)) {
        for &length in self.lengths.keys().take_while(|length| **length <= channel.len()) {
            let Some(filed) = self.by_beginning.get(&channel[..length]) else { continue };
            filed.iter().filter(|pattern| glob::matches(pattern, channel, false)).for_each(&mut show);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use std::collections::BTreeSet;

    #[test]
    fn a_pattern_begins_where_its_first_wildcard_is() {
        for (pattern, begins) in
            [("a.b*", "a.b"), ("*", ""), ("", ""), ("plain", "plain"), ("a\\*b", "a"), ("x[ab]", "x"), ("ab?", "ab")]
        {
            assert_eq!(beginning(pattern.as_bytes()), begins.as_bytes(), "{pattern}");
        }
    }

    #[test]
    fn the_index_finds_what_trying_all_patterns_finds() {
        for seed in 0..50 {
            let mut rng = Rng::seed(seed);
            let mut word = |letters: &[u8], max: u64| -> Vec<u8> {
                (0..rng.below(max)).map(|_| letters[rng.below(letters.len() as u64) as usize]).collect()
            };
            let patterns: BTreeSet<Vec<u8>> = (0..200).map(|_| word(b"aabbc*?[]\\", 6)).collect();
            let channels: Vec<Vec<u8>> = (0..200).map(|_| word(b"abc*", 6)).collect();
            let mut index = PatternIndex::default();
            patterns.iter().for_each(|pattern| index.add(&Name::from(pattern.as_slice())));
            let mut kept = patterns.clone();
            for pattern in patterns.iter().step_by(3) {
                index.remove(pattern);
                kept.remove(pattern);
            }
            assert_eq!(index.len(), kept.len());
            for channel in &channels {
                let mut found = BTreeSet::new();
                index.matching(channel, |pattern| assert!(found.insert(pattern.to_vec())));
                let wanted: BTreeSet<Vec<u8>> =
                    kept.iter().filter(|pattern| glob::matches(pattern, channel, false)).cloned().collect();
                assert_eq!(found, wanted, "seed {seed}, channel {channel:?}");
            }
            kept.iter().for_each(|pattern| index.remove(pattern));
            assert!(index.by_beginning.is_empty() && index.lengths.is_empty());
        }
    }
}
