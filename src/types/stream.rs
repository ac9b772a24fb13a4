//! The place of a stream. Absent so far: everything but an empty value.

use super::object::{DataType, in_object};

/// Empty.
#[derive(Clone, Default)]
pub struct Stream;

impl DataType for Stream {
    const NAME: &'static str = "stream";
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
    in_object!(Stream);
}
