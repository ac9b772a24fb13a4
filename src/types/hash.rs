//! The place of a hash. Absent so far: everything but an empty value.

use super::object::{DataType, in_object};

/// Empty.
#[derive(Clone, Default)]
pub struct Hash;

impl DataType for Hash {
    const NAME: &'static str = "hash";
    fn len(&self) -> usize {
        0
    }
    fn encoding(&self) -> &'static str {
        "listpack"
    }
    fn allocated_bytes(&self) -> usize {
        0
    }
    fn free_some(&mut self, _elements_max: usize) -> bool {
        false
    }
    in_object!(Hash);
}
