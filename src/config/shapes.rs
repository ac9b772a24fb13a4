//! The settings by which data types choose their encodings, in the form in which the types take them.
//!
//! Plain functions of the settings in force, read at each change of a value: a new limit concerns what is changed from then on, as
//! in Redis. Absent on purpose: the limits' meaning, which stands with each type.

use super::Config;
use crate::types::list::ListLimits;

impl Config {
    /// `list-max-listpack-size`.
    pub fn list_limits(&self) -> ListLimits {
        ListLimits { node_size: self.list_max_listpack_size }
    }
}
