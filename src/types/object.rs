//! What a key holds that is not a plain string: one of the five types or a packed string, and what they have in common.
//!
//! An object is owned by its record and used on its shard's core. Invariant: what is stored is not empty, unless its type
//! allows it ([`DataType::DIES_EMPTY`]). Absent on purpose: plain strings, which
//! the record itself stores.

use std::fmt;

use super::{Hash, List, Packed, Set, Stream, Zset};
use crate::base::time::Millis;

/// What every type can be asked, whatever it holds.
pub trait DataType: Default + Clone + Send + 'static {
    /// What TYPE replies.
    const NAME: &'static str;
    /// Whether a key goes away when its value becomes empty.
    const DIES_EMPTY: bool = true;
    /// Elements, fields, members or entries.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// What OBJECT ENCODING replies.
    fn encoding(&self) -> &'static str;
    /// Bytes allocated for it, or a close estimate; never takes time in proportion to the number of elements.
    fn allocated_bytes(&self) -> usize;
    /// As many as there are to free: elements, and what else the value is made of.
    fn parts(&self) -> usize {
        self.len()
    }
    /// Frees about so many elements of a value that nobody will read again; true while there are more. The way to free a
    /// large value in slices.
    fn free_some(&mut self, elements_max: usize) -> bool;
    /// When the first part of it expires, if parts of it do.
    fn next_expiry(&self) -> Option<Millis> {
        None
    }
    /// The value in an object, if it is of this type.
    fn of(object: &Object) -> Option<&Self>;
    /// As [`DataType::of`], to change it.
    fn of_mut(object: &mut Object) -> Option<&mut Self>;
    /// As an object.
    fn into_object(self) -> Object;
    /// Out of an object, if it is of this type.
    fn from_object(object: Object) -> Option<Self>;
}

/// A value of one of the types.
#[derive(Clone)]
pub enum Object {
    /// A list.
    List(List),
    /// A set.
    Set(Set),
    /// A hash.
    Hash(Hash),
    /// A sorted set.
    Zset(Zset),
    /// A stream.
    Stream(Stream),
    /// A string that is kept compressed. To all but the record and its readers it is a string like any other.
    Packed(Packed),
}

// The box of every small value: one of jemalloc's classes of 32 bytes.
const _: () = assert!(size_of::<Object>() <= 32);

/// Implements the conversions of [`DataType`] for the type of one variant.
macro_rules! in_object {
    ($variant:ident) => {
        fn of(object: &crate::types::Object) -> Option<&Self> {
            match object {
                crate::types::Object::$variant(value) => Some(value),
                _ => None,
            }
        }

        fn of_mut(object: &mut crate::types::Object) -> Option<&mut Self> {
            match object {
                crate::types::Object::$variant(value) => Some(value),
                _ => None,
            }
        }

        fn into_object(self) -> crate::types::Object {
            crate::types::Object::$variant(self)
        }

        fn from_object(object: crate::types::Object) -> Option<Self> {
            match object {
                crate::types::Object::$variant(value) => Some(value),
                _ => None,
            }
        }
    };
}
pub(crate) use in_object;

/// Calls a method of [`DataType`] on whatever is in the object.
macro_rules! each {
    ($object:expr, $value:ident => $result:expr) => {
        match $object {
            Object::List($value) => $result,
            Object::Set($value) => $result,
            Object::Hash($value) => $result,
            Object::Zset($value) => $result,
            Object::Stream($value) => $result,
            Object::Packed($value) => $result,
        }
    };
}

fn name_of<T: DataType>(_: &T) -> &'static str {
    T::NAME
}

fn dies_empty<T: DataType>(_: &T) -> bool {
    T::DIES_EMPTY
}

impl Object {
    /// A value up to this many elements is freed on the spot, a larger one in slices.
    pub const FREED_AT_ONCE_MAX: usize = 64;

    /// What TYPE replies.
    pub fn type_name(&self) -> &'static str {
        each!(self, value => name_of(value))
    }

    /// What OBJECT ENCODING replies.
    pub fn encoding(&self) -> &'static str {
        each!(self, value => value.encoding())
    }

    /// Elements, fields, members or entries.
    pub fn len(&self) -> usize {
        each!(self, value => value.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is empty and of a type whose key goes away then.
    pub fn is_dead(&self) -> bool {
        each!(self, value => dies_empty(value) && value.is_empty())
    }

    /// See [`DataType::allocated_bytes`].
    pub fn allocated_bytes(&self) -> usize {
        each!(self, value => value.allocated_bytes())
    }

    /// See [`DataType::next_expiry`].
    pub fn next_expiry(&self) -> Option<Millis> {
        each!(self, value => value.next_expiry())
    }

    /// See [`DataType::parts`].
    pub fn parts(&self) -> usize {
        each!(self, value => value.parts())
    }

    /// See [`DataType::free_some`].
    pub fn free_some(&mut self, elements_max: usize) -> bool {
        each!(self, value => value.free_some(elements_max))
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.type_name(), self.len())
    }
}
