//! The settings by which data types choose their encodings, in the form in which the types take them.
//!
//! Plain functions of the settings in force, read at each change of a value: a new limit concerns what is changed from then on, as
//! in Redis. Absent on purpose: the limits' meaning, which stands with each type.

use super::Config;
use crate::types::hash::HashLimits;
use crate::types::list::ListLimits;
use crate::types::set::SetLimits;
use crate::types::stream::StreamLimits;
use crate::types::zset::ZsetLimits;

/// A setting that is never negative.
fn count(setting: i64) -> usize {
    usize::try_from(setting).unwrap_or(0)
}

impl Config {
    /// `list-max-listpack-size` and `list-compress-depth`.
    pub fn list_limits(&self) -> ListLimits {
        ListLimits {
            node_size: self.list_max_listpack_size,
            compress_depth: usize::try_from(self.list_compress_depth).unwrap_or(0),
        }
    }

    /// `hash-max-listpack-entries` and `hash-max-listpack-value`.
    pub fn hash_limits(&self) -> HashLimits {
        HashLimits {
            listpack_entries: count(self.hash_max_listpack_entries),
            listpack_value: usize::try_from(self.hash_max_listpack_value).unwrap_or(usize::MAX),
        }
    }

    /// `zset-max-listpack-entries` and `zset-max-listpack-value`.
    pub fn zset_limits(&self) -> ZsetLimits {
        ZsetLimits {
            listpack_entries: count(self.zset_max_listpack_entries),
            listpack_value: usize::try_from(self.zset_max_listpack_value).unwrap_or(usize::MAX),
        }
    }

    /// `stream-node-max-bytes` and `stream-node-max-entries`.
    pub fn stream_limits(&self) -> StreamLimits {
        StreamLimits { node_bytes: self.stream_node_max_bytes, node_entries: self.stream_node_max_entries }
    }

    /// `set-max-intset-entries`, `set-max-listpack-entries` and `set-max-listpack-value`.
    pub fn set_limits(&self) -> SetLimits {
        SetLimits {
            intset_entries: count(self.set_max_intset_entries),
            listpack_entries: count(self.set_max_listpack_entries),
            listpack_value: usize::try_from(self.set_max_listpack_value).unwrap_or(usize::MAX),
        }
    }
}
