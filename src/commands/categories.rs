//! The ACL categories of a command, and the older form of its key positions: what follows from a row without being said in it.
//!
//! Pure functions over rows, for COMMAND and for access checks. The rules are those of Redis 7.0, compared with it in the
//! differential tests.

use super::docs::Group;
use super::keys::{Begin, Find, KeyFlags};
use super::table::{Flags, Row};

/// Every category, in the order in which Redis lists them.
pub const CATEGORIES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// Whether a command belongs to a category, given in lower case.
pub fn in_category(row: &Row, category: &str) -> bool {
    let flag = |flag: Flags| row.flags.has(flag);
    let implied = match category {
        "read" => flag(Flags::READONLY) && !row.acl.contains(&"scripting"),
        "write" => flag(Flags::WRITE),
        "admin" | "dangerous" => flag(Flags::ADMIN),
        "pubsub" => flag(Flags::PUBSUB),
        "fast" => flag(Flags::FAST),
        "slow" => !flag(Flags::FAST),
        "blocking" => flag(Flags::BLOCKING),
        // What a container is about is said by its subcommands.
        "keyspace" => {
            // WAIT is filed with the commands for keys, and is one about the connection; SORT is one about lists, among others.
            let elsewhere = row.acl.contains(&"connection") || row.acl.contains(&"list");
            row.group == Group::Generic && row.subcommands.is_empty() && !elsewhere
        }
        _ => family(category).is_some_and(|group| row.group == group && row.subcommands.is_empty()),
    };
    implied || row.acl.contains(&category)
}

/// The family that a category is named after.
fn family(category: &str) -> Option<Group> {
    Some(match category {
        "string" => Group::String,
        "list" => Group::List,
        "set" => Group::Set,
        "hash" => Group::Hash,
        "sortedset" => Group::SortedSet,
        "stream" => Group::Stream,
        "bitmap" => Group::Bitmap,
        "hyperloglog" => Group::HyperLogLog,
        "geo" => Group::Geo,
        "connection" => Group::Connection,
        "transaction" => Group::Transactions,
        _ => return None,
    })
}

/// The categories of a command, in Redis's order.
pub fn categories(row: &Row) -> impl Iterator<Item = &'static str> {
    CATEGORIES.into_iter().filter(move |category| in_category(row, category))
}

/// Key positions as clients older than key specifications want them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KeyRange {
    /// First key; 0 if there is none at a fixed place.
    pub first: i32,
    /// Last key, negative if counted from the end.
    pub last: i32,
    /// Distance between keys.
    pub step: i32,
    /// Whether some keys are not in this range, so that a client has to ask COMMAND GETKEYS.
    pub movable: bool,
}

impl KeyRange {
    /// The range that stands for all specifications of a row: the first one, and those that go on where it ends.
    pub fn of(row: &Row) -> KeyRange {
        let mut range = KeyRange::default();
        for (number, spec) in row.keys.iter().enumerate() {
            let (Begin::Index(first), Find::Range { last, step, .. }) = (spec.begin, spec.find) else {
                range.movable = true;
                continue;
            };
            range.movable |= spec.flags.has(KeyFlags::INCOMPLETE);
            let first = i32::try_from(first).expect("positions are small");
            let last = if last >= 0 { first + last } else { last };
            if number == 0 {
                range = KeyRange { first, last, step, ..range };
            } else if step == 1 && range.step == 1 && first == range.last + 1 {
                range.last = last;
            } else {
                range.movable = true;
            }
        }
        range
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::KeySpec;
    use super::*;

    #[test]
    fn flags_and_family_imply_categories() {
        let row = Row { group: Group::String, flags: Flags::READONLY.and(Flags::FAST), ..Row::DEFAULT };
        assert_eq!(categories(&row).collect::<Vec<_>>(), ["read", "string", "fast"]);
        let row = Row { group: Group::Server, flags: Flags::ADMIN, ..Row::DEFAULT };
        assert_eq!(categories(&row).collect::<Vec<_>>(), ["admin", "slow", "dangerous"]);
        let row = Row { group: Group::Connection, subcommands: &[Row::DEFAULT], ..Row::DEFAULT };
        assert_eq!(categories(&row).collect::<Vec<_>>(), ["slow"]);
    }

    #[test]
    fn explicit_categories_are_known_ones() {
        for command in super::super::table::table().all() {
            for category in command.row.acl {
                assert!(CATEGORIES.contains(category), "{}: {category}", command.full_name);
            }
        }
    }

    #[test]
    fn neighbouring_keys_make_one_range_and_others_are_movable() {
        const RENAME: &[KeySpec] = &[KeySpec::one(1, KeyFlags::RW), KeySpec::one(2, KeyFlags::OW)];
        let row = Row { keys: RENAME, ..Row::DEFAULT };
        assert_eq!(KeyRange::of(&row), KeyRange { first: 1, last: 2, step: 1, movable: false });
        const FAR: &[KeySpec] = &[KeySpec::one(1, KeyFlags::RW), KeySpec::one(4, KeyFlags::OW)];
        let row = Row { keys: FAR, ..Row::DEFAULT };
        assert_eq!(KeyRange::of(&row), KeyRange { first: 1, last: 1, step: 1, movable: true });
        const PAIRS: &[KeySpec] = &[KeySpec::rest(1, 2, KeyFlags::OW)];
        let row = Row { keys: PAIRS, ..Row::DEFAULT };
        assert_eq!(KeyRange::of(&row), KeyRange { first: 1, last: -1, step: 2, movable: false });
        assert_eq!(KeyRange::of(&Row::DEFAULT), KeyRange::default());
    }
}
