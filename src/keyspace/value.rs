//! What a key holds: as it is read ([`Value`]) and as it is written ([`NewValue`]).
//!
//! Strings are stored by the record itself, in one of three ways, or packed; every other type is a boxed [`Object`], and so is a
//! packed string, which readers see as a kind of its own.

use std::ops::Deref;

use crate::base::Blob;
use crate::base::num::{self, Digits};
use crate::types::{DataType, Object, Packed};

/// The longest string that OBJECT ENCODING calls `embstr` (Redis's `OBJ_ENCODING_EMBSTR_SIZE_LIMIT`).
pub const EMBSTR_BYTES_MAX: usize = 44;

/// The longest text that is tried as an integer (Redis's `tryObjectEncoding`): i64::MIN has 20 characters.
const INT_BYTES_MAX: usize = num::DIGITS_MAX;

/// A value in the keyspace, borrowed from its record.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A string that is the decimal text of this number.
    Int(i64),
    /// A string that lies inside its record.
    Inline {
        /// The string.
        bytes: &'a [u8],
        /// Whether OBJECT ENCODING says `raw` (long, or changed in place) and not `embstr`.
        raw: bool,
    },
    /// A string in an allocation of its own, which may be shared: clone the `Arc` to send it without a copy.
    Blob(&'a Blob),
    /// A string that is kept compressed.
    Packed(&'a Packed),
    /// A value of another type.
    Object(&'a Object),
}

impl<'a> Value<'a> {
    /// What TYPE replies.
    pub fn type_name(self) -> &'static str {
        match self {
            Value::Object(object) => object.type_name(),
            Value::Int(_) | Value::Inline { .. } | Value::Blob(_) | Value::Packed(_) => "string",
        }
    }

    /// Whether it is a string.
    #[inline]
    pub fn is_string(self) -> bool {
        !matches!(self, Value::Object(_))
    }

    /// What OBJECT ENCODING replies.
    pub fn encoding_name(self) -> &'static str {
        match self {
            Value::Int(_) => "int",
            Value::Inline { raw: false, .. } => "embstr",
            Value::Inline { raw: true, .. } | Value::Blob(_) => "raw",
            Value::Packed(packed) => packed.encoding(),
            Value::Object(object) => object.encoding(),
        }
    }

    /// The length of the string in bytes, as STRLEN counts it; of another type the number of its elements.
    pub fn len(self) -> usize {
        match self {
            Value::Int(number) => num::i64_len(number),
            Value::Inline { bytes, .. } => bytes.len(),
            Value::Blob(blob) => blob.len(),
            Value::Packed(packed) => packed.text_len(),
            Value::Object(object) => object.len(),
        }
    }

    /// Whether this is the empty string, or a value without elements.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The same value once more: bytes that the record will copy, a shared blob, or a copy of an object.
    pub fn to_new(self) -> NewValue<'a> {
        match self {
            Value::Int(number) => NewValue::Int(number),
            Value::Inline { bytes, raw } => NewValue::Bytes { bytes, raw },
            Value::Blob(blob) => NewValue::Blob(Blob::clone(blob)),
            Value::Packed(packed) => NewValue::Object(Box::new(Object::Packed(packed.clone()))),
            Value::Object(object) => NewValue::Object(Box::new(object.clone())),
        }
    }

    /// The string itself: borrowed from the record, a number printed onto the stack, or unpacked into a vector. Panics if it is
    /// not a string: the caller has asked [`Value::is_string`].
    pub fn text(self) -> Text<'a> {
        match self {
            Value::Int(number) => Text::Digits(num::format_i64(number)),
            Value::Inline { bytes, .. } => Text::Borrowed(bytes),
            Value::Blob(blob) => Text::Borrowed(blob),
            Value::Packed(packed) => Text::Unpacked(packed.text()),
            Value::Object(object) => unreachable!("a {} is not a string", object.type_name()),
        }
    }
}

/// The bytes of a string value. Dereferences to them.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    /// They lie in the keyspace.
    Borrowed(&'a [u8]),
    /// They were printed for this reader.
    Digits(Digits),
    /// They were unpacked for this reader.
    Unpacked(Vec<u8>),
}

impl Deref for Text<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Text::Borrowed(bytes) => bytes,
            Text::Digits(digits) => digits.as_bytes(),
            Text::Unpacked(bytes) => bytes,
        }
    }
}

/// A value on its way into the keyspace. Bytes are copied, a blob is moved in.
#[derive(Clone, Debug)]
pub enum NewValue<'a> {
    /// A string that is the decimal text of this number.
    Int(i64),
    /// A string. Whether it lies inside the record or in a blob is the record's decision.
    Bytes {
        /// The string.
        bytes: &'a [u8],
        /// Whether OBJECT ENCODING shall say `raw`. A string that is too long for its record is raw in any case.
        raw: bool,
    },
    /// A string that already has its own allocation, such as a bulk that was received straight into one.
    Blob(Blob),
    /// A value of another type.
    Object(Box<Object>),
}

impl<'a> NewValue<'a> {
    /// A string in the encoding that Redis gives to what SET stores: an integer if the text is one in canonical form,
    /// `embstr` up to [`EMBSTR_BYTES_MAX`] bytes, `raw` above.
    pub fn string(bytes: &'a [u8]) -> NewValue<'a> {
        if bytes.len() <= INT_BYTES_MAX
            && let Some(number) = num::parse_i64(bytes)
        {
            return NewValue::Int(number);
        }
        NewValue::Bytes { bytes, raw: bytes.len() > EMBSTR_BYTES_MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoding(text: &[u8]) -> &'static str {
        match NewValue::string(text) {
            NewValue::Int(number) => Value::Int(number).encoding_name(),
            NewValue::Bytes { bytes, raw } => Value::Inline { bytes, raw }.encoding_name(),
            NewValue::Blob(blob) => Value::Blob(&blob).encoding_name(),
            NewValue::Object(object) => object.encoding(),
        }
    }

    #[test]
    fn only_the_canonical_text_of_an_integer_is_stored_as_one() {
        for text in ["0", "1", "-1", "9223372036854775807", "-9223372036854775808", "1234567890"] {
            assert_eq!(encoding(text.as_bytes()), "int", "{text}");
        }
        for text in
            ["", "-", "-0", "00", "01", "+1", " 1", "1 ", "1.0", "9223372036854775808", "0x1", "123456789012345678901"]
        {
            assert_eq!(encoding(text.as_bytes()), "embstr", "{text}");
        }
    }

    #[test]
    fn strings_are_embstr_up_to_44_bytes_and_raw_above() {
        assert_eq!(encoding(&[b'x'; 44]), "embstr");
        assert_eq!(encoding(&[b'x'; 45]), "raw");
    }

    #[test]
    fn an_integer_has_the_length_and_bytes_of_its_text() {
        for number in [0, 7, -7, 10, i64::MIN, i64::MAX] {
            let value = Value::Int(number);
            assert_eq!(*value.text(), *number.to_string().as_bytes());
            assert_eq!(value.len(), number.to_string().len());
        }
    }
}
