//! Elements of collections on their way to a client: what the families of all types share.
//!
//! Pure functions over replies. Absent on purpose: anything that knows a type.

use crate::resp::Reply;
use crate::types::listpack::Item;

/// From so many elements on a reply is encoded while it is sent. Below, the snapshot costs more than it saves.
pub const STREAMED_ELEMENTS_MIN: usize = 4096;

/// Elements of a snapshot that are freed at a time once it has been read.
pub const FREED_PER_PIECE: usize = 4096;

/// An element as a bulk.
#[inline]
pub fn push_item(reply: &mut Reply, item: Item<'_>) {
    match item {
        Item::Bytes(bytes) => reply.bulk(bytes),
        Item::Int(number) => reply.bulk_int(number),
    }
}
