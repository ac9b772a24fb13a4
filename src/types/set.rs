//! The place of a set. Absent so far: everything but an empty value.

use super::object::{DataType, in_object};

/// Empty.
#[derive(Clone, Default)]
pub struct Set;

impl DataType for Set {
    const NAME: &'static str = "set";
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
    in_object!(Set);
}
