//! Lists: one listpack while short, then a sequence of nodes.
//!
//! ```text
//!   packed   [ a b c ]                                                    OBJECT ENCODING listpack
//!   quick    nodes: [ Arc ─> [ a b c … ] ][ Arc ─> [ … ] ][ … ]           OBJECT ENCODING quicklist
//!                            a few KiB each; an element above a node's limit is a node of its own
//! ```
//!
//! Both ends are reached at once, an index by counting nodes from the nearer end. A node is shared by the list and by copies and
//! snapshots of it until one of them changes it, so that copying a list of millions, or reading it out while it changes, costs
//! eight bytes a node.
//!
//! With `list-compress-depth` the nodes between the outer ones of both ends are kept compressed, each by itself, if that saves
//! something. A reader opens a copy, a writer opens the node and it is compressed again once the change is made:
//!
//! ```text
//!   depth 1   [ a b c ] [LZF] [LZF] … [LZF] [ x y z ]       pushing, popping and looking at the ends compresses nothing
//! ```
//!
//! A change of the setting reaches a node when nodes come or go beside it, or when it is written to.
//!
//! A value of one key, used on its shard's core; snapshots may travel. Invariants: no node is empty; `len` is the sum of the nodes'
//! lengths; a compressed node opens. Absent on purpose: anything about clients.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::listpack::{Item, Listpack, Pos};
use super::object::{DataType, in_object};
use crate::base::lzf;

/// When a node is full (`list-max-listpack-size`), and when it is compressed (`list-compress-depth`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListLimits {
    /// Positive: elements of a node. -1 to -5: its bytes, 4, 8, 16, 32 or 64 KiB. Zero counts as 1, as in Redis.
    pub node_size: i32,
    /// Nodes at each end that are not compressed; 0 means that none is.
    pub compress_depth: usize,
}

/// A node that is limited by its elements is limited to so many bytes all the same (Redis's `SIZE_SAFETY_LIMIT`).
const NODE_BYTES_SAFE: usize = 8192;
/// What Redis reckons for the header of an entry that is to be added to a node.
const ENTRY_OVERHEAD: usize = 8;
/// A node of fewer bytes is not worth compressing (Redis's `MIN_COMPRESS_BYTES`).
const COMPRESSED_FROM_BYTES: usize = 48;
/// Nor is one that becomes shorter by less (Redis's `MIN_COMPRESS_IMPROVE`).
const COMPRESSION_SAVES_BYTES: usize = 8;

impl ListLimits {
    fn bytes_max(self) -> usize {
        match self.node_size {
            0.. => NODE_BYTES_SAFE,
            -1 => 4096,
            -2 => 8192,
            -3 => 16_384,
            -4 => 32_768,
            _ => 65_536,
        }
    }

    fn elements_max(self) -> usize {
        usize::try_from(self.node_size).map_or(usize::MAX, |count| count.max(1))
    }

    fn exceeded_by(self, bytes: usize, elements: usize) -> bool {
        bytes > self.bytes_max() || elements > self.elements_max()
    }
}

#[derive(Clone)]
enum Node {
    Packed(Listpack),
    /// One element that is too large for a packed node.
    Plain(Box<[u8]>),
    /// One of the above, compressed.
    Compressed(Box<Compressed>),
}

#[derive(Clone)]
struct Compressed {
    stream: Box<[u8]>,
    /// What the stream opens to.
    bytes: usize,
    elements: usize,
    /// Whether it opens to a plain node.
    plain: bool,
}

impl Node {
    fn of(text: &[u8], limits: ListLimits) -> Node {
        if text.len() > limits.bytes_max() {
            return Node::Plain(text.into());
        }
        let mut pack = Listpack::new();
        pack.push_back(text);
        Node::Packed(pack)
    }

    #[inline]
    fn len(&self) -> usize {
        match self {
            Node::Packed(pack) => pack.len(),
            Node::Plain(_) => 1,
            Node::Compressed(packed) => packed.elements,
        }
    }

    /// The bytes of a listpack; none of a plain node.
    fn pack_bytes(&self) -> Option<usize> {
        match self {
            Node::Packed(pack) => Some(pack.bytes_len()),
            Node::Plain(_) => None,
            Node::Compressed(packed) => (!packed.plain).then_some(packed.bytes),
        }
    }

    fn takes(&self, text: &[u8], limits: ListLimits) -> bool {
        self.pack_bytes().is_some_and(|bytes| {
            text.len() <= limits.bytes_max() && !limits.exceeded_by(bytes + text.len() + ENTRY_OVERHEAD, self.len() + 1)
        })
    }

    /// Shows an element of this node.
    fn show<R>(&self, index: usize, show: impl FnOnce(Item<'_>) -> R) -> R {
        match &*self.open() {
            Node::Packed(pack) => show(pack.get(pack.seek(index as i64).expect("the index lies in this node"))),
            Node::Plain(bytes) => show(Item::Bytes(bytes)),
            Node::Compressed(_) => unreachable!("it was opened"),
        }
    }

    /// This node, or what it opens to.
    fn open(&self) -> Cow<'_, Node> {
        let Node::Compressed(packed) = self else { return Cow::Borrowed(self) };
        let bytes = lzf::decompress(&packed.stream, packed.bytes).expect("a node opens to what was compressed");
        Cow::Owned(match packed.plain {
            true => Node::Plain(bytes.into_boxed_slice()),
            false => Node::Packed(Listpack::from_bytes(&bytes).expect("a node opens to what was compressed")),
        })
    }

    /// This node compressed, if it is not and that saves something.
    fn compressed(&self) -> Option<Node> {
        let (bytes, plain) = match self {
            Node::Packed(pack) => (pack.as_bytes(), false),
            Node::Plain(bytes) => (&**bytes, true),
            Node::Compressed(_) => return None,
        };
        if bytes.len() < COMPRESSED_FROM_BYTES {
            return None;
        }
        let stream = lzf::compress(bytes, bytes.len() - COMPRESSION_SAVES_BYTES)?.into_boxed_slice();
        Some(Node::Compressed(Box::new(Compressed { stream, bytes: bytes.len(), elements: self.len(), plain })))
    }

    fn allocated_bytes(&self) -> usize {
        // The two counts of the shared pointer, and this value.
        16 + size_of::<Node>()
            + match self {
                Node::Packed(pack) => pack.allocated_bytes(),
                Node::Plain(bytes) => bytes.len(),
                Node::Compressed(packed) => size_of::<Compressed>() + packed.stream.len(),
            }
    }
}

#[derive(Clone, Default)]
struct Quick {
    nodes: VecDeque<Arc<Node>>,
    len: usize,
}

#[derive(Clone)]
enum Repr {
    Packed(Listpack),
    Quick(Box<Quick>),
}

/// See the module.
#[derive(Clone)]
pub struct List {
    repr: Repr,
}

impl Default for List {
    fn default() -> List {
        List { repr: Repr::Packed(Listpack::new()) }
    }
}

impl DataType for List {
    const NAME: &'static str = "list";

    #[inline]
    fn len(&self) -> usize {
        match &self.repr {
            Repr::Packed(pack) => pack.len(),
            Repr::Quick(quick) => quick.len,
        }
    }

    fn encoding(&self) -> &'static str {
        match self.repr {
            Repr::Packed(_) => "listpack",
            Repr::Quick(_) => "quicklist",
        }
    }

    fn allocated_bytes(&self) -> usize {
        match &self.repr {
            Repr::Packed(pack) => pack.allocated_bytes(),
            Repr::Quick(quick) => {
                // Three nodes stand for the others, which are as full as the limits let them be; those inside may be compressed.
                let inner = quick.nodes.len().saturating_sub(2);
                let few = [1, inner.div_ceil(2), inner];
                let inner_sum: usize = match inner {
                    0 => 0,
                    _ => few.iter().map(|at| quick.nodes[*at].allocated_bytes()).sum(),
                };
                let ends = [quick.nodes.front(), quick.nodes.back()];
                let ends_sum: usize = ends.iter().flatten().map(|node| node.allocated_bytes()).sum();
                let nodes =
                    if quick.nodes.len() == 1 { ends_sum / 2 } else { ends_sum + inner_sum / few.len() * inner };
                size_of::<Quick>() + quick.nodes.capacity() * size_of::<Arc<Node>>() + nodes
            }
        }
    }

    fn free_some(&mut self, elements_max: usize) -> bool {
        let Repr::Quick(quick) = &mut self.repr else { return false };
        let mut freed = 0;
        while freed < elements_max {
            let Some(node) = quick.nodes.pop_back() else { return false };
            freed += node.len();
        }
        !quick.nodes.is_empty()
    }

    in_object!(List);
}

impl List {
    /// Appends an element.
    #[inline]
    pub fn push_back(&mut self, text: &[u8], limits: ListLimits) {
        self.make_room(text.len(), limits);
        match &mut self.repr {
            Repr::Packed(pack) => pack.push_back(text),
            Repr::Quick(quick) => {
                quick.len += 1;
                if let Some(last) = quick.nodes.back_mut()
                    && last.takes(text, limits)
                    && let Some(pack) = pack_mut(last)
                {
                    pack.push_back(text);
                } else {
                    quick.nodes.push_back(Arc::new(Node::of(text, limits)));
                    quick.settle(limits, 0..0);
                }
            }
        }
    }

    /// Inserts an element in front of all.
    #[inline]
    pub fn push_front(&mut self, text: &[u8], limits: ListLimits) {
        self.make_room(text.len(), limits);
        match &mut self.repr {
            Repr::Packed(pack) => pack.push_front(text),
            Repr::Quick(quick) => {
                quick.len += 1;
                if let Some(first) = quick.nodes.front_mut()
                    && first.takes(text, limits)
                    && let Some(pack) = pack_mut(first)
                {
                    pack.push_front(text);
                } else {
                    quick.nodes.push_front(Arc::new(Node::of(text, limits)));
                    quick.settle(limits, 0..0);
                }
            }
        }
    }

    /// Removes the first element after showing it to `take`; none if the list is empty.
    #[inline]
    pub fn pop_front<R>(&mut self, limits: ListLimits, take: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        match &mut self.repr {
            Repr::Packed(pack) => {
                let first = pack.first()?;
                let taken = take(pack.get(first));
                pack.remove(first);
                Some(taken)
            }
            Repr::Quick(quick) => {
                let taken = quick.nodes.front()?.show(0, take);
                quick.remove_one(0, 0, limits);
                self.pack_if_small(limits);
                Some(taken)
            }
        }
    }

    /// Removes the last element after showing it to `take`; none if the list is empty.
    #[inline]
    pub fn pop_back<R>(&mut self, limits: ListLimits, take: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        match &mut self.repr {
            Repr::Packed(pack) => {
                let last = pack.last()?;
                let taken = take(pack.get(last));
                pack.remove(last);
                Some(taken)
            }
            Repr::Quick(quick) => {
                let node = quick.nodes.len().checked_sub(1)?;
                let at = quick.nodes[node].len() - 1;
                let taken = quick.nodes[node].show(at, take);
                quick.remove_one(node, at, limits);
                self.pack_if_small(limits);
                Some(taken)
            }
        }
    }

    /// Shows the element at an index from the front; none behind the last.
    pub fn get<R>(&self, index: usize, show: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        match &self.repr {
            Repr::Packed(pack) => Some(show(pack.get(pack.seek(index as i64)?))),
            Repr::Quick(quick) => {
                let (node, at) = quick.locate(index)?;
                Some(quick.nodes[node].show(at, show))
            }
        }
    }

    /// Replaces the element at an index, which must be there.
    pub fn set(&mut self, index: usize, text: &[u8], limits: ListLimits) {
        match &mut self.repr {
            Repr::Packed(pack) => {
                let at = pack.seek(index as i64).expect("the caller knows the length");
                let growth = text.len().saturating_sub(pack.get(at).len());
                if limits.exceeded_by(pack.bytes_len() + growth, pack.len()) {
                    self.unpack(limits);
                    self.set(index, text, limits);
                } else {
                    pack.replace(at, text);
                }
            }
            Repr::Quick(quick) => {
                let (node, at) = quick.locate(index).expect("the caller knows the length");
                let count = quick.nodes[node].len();
                let fits = quick.nodes[node].pack_bytes().is_some_and(|bytes| {
                    text.len() <= limits.bytes_max() && !limits.exceeded_by(bytes + text.len(), count)
                });
                if fits && let Some(pack) = pack_mut(&mut quick.nodes[node]) {
                    let pos = pack.seek(at as i64).expect("it was just located");
                    pack.replace(pos, text);
                    quick.close(node..node + 1, limits);
                } else if count == 1 {
                    quick.nodes[node] = Arc::new(Node::of(text, limits));
                    quick.close(node..node + 1, limits);
                } else {
                    quick.remove(node, at, 1);
                    quick.insert(index, text, limits);
                }
                self.pack_if_small(limits);
            }
        }
    }

    /// Inserts an element in front of the one at an index, or behind all if the index is the length.
    pub fn insert(&mut self, index: usize, text: &[u8], limits: ListLimits) {
        self.make_room(text.len(), limits);
        match &mut self.repr {
            Repr::Packed(pack) => match pack.seek(index as i64) {
                Some(at) => pack.insert_before(at, text),
                None => pack.push_back(text),
            },
            Repr::Quick(quick) => quick.insert(index, text, limits),
        }
    }

    /// Removes up to `count` elements that equal `text`, from the front or from the back; returns how many there were.
    pub fn remove_equal(&mut self, text: &[u8], count: usize, from_back: bool, limits: ListLimits) -> usize {
        let removed = match &mut self.repr {
            Repr::Packed(pack) => remove_from_pack(pack, text, count, from_back),
            Repr::Quick(quick) => quick.remove_equal(text, count, from_back, limits),
        };
        if removed > 0 {
            self.pack_if_small(limits);
        }
        removed
    }

    /// Keeps `count` elements from index `start` on, which must be there.
    pub fn keep(&mut self, start: usize, count: usize, limits: ListLimits) {
        match &mut self.repr {
            Repr::Packed(pack) => {
                if let Some(end) = pack.seek((start + count) as i64) {
                    pack.remove_range(end, usize::MAX);
                }
                if let Some(first) = pack.first() {
                    pack.remove_range(first, start);
                }
            }
            Repr::Quick(quick) => {
                quick.cut_back(quick.len - start - count);
                quick.cut_front(start);
                quick.settle(limits, 0..0);
                self.pack_if_small(limits);
            }
        }
    }

    /// Shows elements from an index on, towards the back or the front, until `visit` returns false.
    pub fn walk(&self, start: usize, backwards: bool, mut visit: impl FnMut(Item<'_>) -> bool) {
        match &self.repr {
            Repr::Packed(pack) => {
                if let Some(at) = pack.seek(start as i64) {
                    walk_pack(pack, at, backwards, &mut visit);
                }
            }
            Repr::Quick(quick) => {
                let Some((mut node, mut at)) = quick.locate(start) else { return };
                loop {
                    let go_on = match &*quick.nodes[node].open() {
                        Node::Plain(bytes) => visit(Item::Bytes(bytes)),
                        Node::Packed(pack) => {
                            let pos = pack.seek(at as i64).expect("it was just located");
                            walk_pack(pack, pos, backwards, &mut visit)
                        }
                        Node::Compressed(_) => unreachable!("it was opened"),
                    };
                    let next = if backwards { node.checked_sub(1) } else { Some(node + 1) };
                    match next {
                        Some(next) if go_on && next < quick.nodes.len() => node = next,
                        _ => return,
                    }
                    at = if backwards { quick.nodes[node].len() - 1 } else { 0 };
                }
            }
        }
    }

    /// A reader of `count` elements from index `start` on, with a snapshot of its own: eight bytes a node.
    pub fn snapshot(&self, start: usize, count: usize) -> ListSnapshot {
        let (node, at) = match &self.repr {
            Repr::Packed(_) => (0, start),
            Repr::Quick(quick) => quick.locate(start).unwrap_or((quick.nodes.len(), 0)),
        };
        ListSnapshot { list: self.clone(), node, at, left: count }
    }

    /// Becomes a sequence of nodes if another element of this length does not fit.
    #[inline]
    fn make_room(&mut self, bytes: usize, limits: ListLimits) {
        if let Repr::Packed(pack) = &self.repr
            && limits.exceeded_by(pack.bytes_len() + bytes, pack.len() + 1)
        {
            self.unpack(limits);
        }
    }

    #[cold]
    fn unpack(&mut self, limits: ListLimits) {
        if let Repr::Packed(pack) = &mut self.repr {
            let pack = std::mem::take(pack);
            let mut quick = Quick::default();
            if limits.exceeded_by(pack.bytes_len(), pack.len()) {
                // The limit was lowered since: what is here is spread over nodes anew.
                let mut list = List { repr: Repr::Quick(Box::new(quick)) };
                pack.iter().for_each(|item| list.push_back(&item.text(), limits));
                *self = list;
                return;
            }
            if !pack.is_empty() {
                quick.len = pack.len();
                quick.nodes.push_back(Arc::new(Node::Packed(pack)));
            }
            self.repr = Repr::Quick(Box::new(quick));
        }
    }

    /// Becomes one listpack again once it takes half of what one may take, so that a list at the limit does not go back and forth.
    #[inline]
    fn pack_if_small(&mut self, limits: ListLimits) {
        let Repr::Quick(quick) = &mut self.repr else { return };
        if quick.nodes.len() > 1 {
            return;
        }
        let small = quick.nodes.front().is_none_or(|node| {
            node.pack_bytes().is_some_and(|bytes| bytes <= limits.bytes_max() / 2)
                && node.len() <= (limits.elements_max() / 2).max(1)
        });
        if small {
            let pack = quick.nodes.front_mut().and_then(pack_mut).map(std::mem::take);
            self.repr = Repr::Packed(pack.unwrap_or_default());
        }
    }
}

impl Quick {
    /// The node and the index in it of an element; none behind the last.
    fn locate(&self, index: usize) -> Option<(usize, usize)> {
        if index >= self.len {
            return None;
        }
        if index <= self.len / 2 {
            let mut left = index;
            for (number, node) in self.nodes.iter().enumerate() {
                let len = node.len();
                if left < len {
                    return Some((number, left));
                }
                left -= len;
            }
        } else {
            let mut left = self.len - index;
            for (number, node) in self.nodes.iter().enumerate().rev() {
                let len = node.len();
                if left <= len {
                    return Some((number, len - left));
                }
                left -= len;
            }
        }
        unreachable!("the length is the sum of the nodes' lengths")
    }

    /// Whether a node lies between those that are not compressed.
    fn is_inner(&self, node: usize, depth: usize) -> bool {
        depth > 0 && node >= depth && node.saturating_add(depth) < self.nodes.len()
    }

    /// Compresses those of these nodes that are to be.
    fn close(&mut self, nodes: Range<usize>, limits: ListLimits) {
        for at in nodes {
            if self.is_inner(at, limits.compress_depth)
                && let Some(compressed) = self.nodes[at].compressed()
            {
                self.nodes[at] = Arc::new(compressed);
            }
        }
    }

    /// Nodes came or went: those near the ends are opened, and those that moved away from them compressed, as `changed` ones are.
    fn settle(&mut self, limits: ListLimits, changed: Range<usize>) {
        /// A change adds so many nodes at most.
        const NEW_MAX: usize = 2;
        let (depth, len) = (limits.compress_depth, self.nodes.len());
        if depth == 0 {
            return;
        }
        let outer = depth.min(len);
        for at in (0..outer).chain(len - outer..len) {
            if matches!(*self.nodes[at], Node::Compressed(_)) {
                let open = self.nodes[at].open().into_owned();
                self.nodes[at] = Arc::new(open);
            }
        }
        let back = len - outer;
        self.close(outer..(outer + NEW_MAX).min(len), limits);
        self.close(back.saturating_sub(NEW_MAX)..back, limits);
        self.close(changed, limits);
    }

    /// Removes one element of a node.
    fn remove_one(&mut self, node: usize, at: usize, limits: ListLimits) {
        let nodes = self.nodes.len();
        self.remove(node, at, 1);
        if self.nodes.len() < nodes {
            self.settle(limits, 0..0);
        }
    }

    /// Removes `count` elements of one node from index `at` in it on, and the node if nothing is left of it.
    fn remove(&mut self, node: usize, at: usize, count: usize) {
        self.len -= count;
        if count == self.nodes[node].len() {
            self.nodes.remove(node);
        } else if let Some(pack) = pack_mut(&mut self.nodes[node]) {
            let pos = pack.seek(at as i64).expect("the caller located it");
            pack.remove_range(pos, count);
        }
    }

    fn insert(&mut self, index: usize, text: &[u8], limits: ListLimits) {
        let place = self.locate(index);
        self.len += 1;
        let changed = match place {
            Some((node, at)) => self.insert_at(node, at, text, limits),
            None => {
                let node = self.nodes.len();
                let room = self.nodes.back_mut().filter(|last| last.takes(text, limits)).and_then(pack_mut);
                match room {
                    Some(pack) => pack.push_back(text),
                    None => self.nodes.push_back(Arc::new(Node::of(text, limits))),
                }
                node..node
            }
        };
        self.settle(limits, changed.start..changed.end.min(self.nodes.len()));
    }

    /// Inserts in front of an element; which nodes have changed.
    fn insert_at(&mut self, node: usize, at: usize, text: &[u8], limits: ListLimits) -> Range<usize> {
        if self.nodes[node].takes(text, limits)
            && let Some(pack) = pack_mut(&mut self.nodes[node])
        {
            let pos = pack.seek(at as i64).expect("it was just located");
            pack.insert_before(pos, text);
            return node..node + 1;
        }
        if at == 0 {
            // Between two nodes: at the end of the one before, if there is room.
            if node > 0
                && self.nodes[node - 1].takes(text, limits)
                && let Some(pack) = pack_mut(&mut self.nodes[node - 1])
            {
                pack.push_back(text);
            } else {
                self.nodes.insert(node, Arc::new(Node::of(text, limits)));
            }
            return node.saturating_sub(1)..node + 1;
        }
        // In the middle of a full node, which becomes two.
        let pack = pack_mut(&mut self.nodes[node]).expect("a plain node has index 0 only");
        let pos = pack.seek(at as i64).expect("it was just located");
        let mut back = Listpack::new();
        pack.iter_from(Some(pos)).for_each(|item| back.push_back(&item.text()));
        pack.remove_range(pos, usize::MAX);
        self.nodes.insert(node + 1, Arc::new(Node::Packed(back)));
        if self.nodes[node].takes(text, limits)
            && let Some(pack) = pack_mut(&mut self.nodes[node])
        {
            pack.push_back(text);
        } else {
            self.nodes.insert(node + 1, Arc::new(Node::of(text, limits)));
        }
        node..node + 3
    }

    fn remove_equal(&mut self, text: &[u8], count: usize, from_back: bool, limits: ListLimits) -> usize {
        let mut removed = 0;
        let mut node = if from_back { self.nodes.len() } else { 0 };
        let nodes = self.nodes.len();
        loop {
            if from_back {
                if node == 0 {
                    break;
                }
                node -= 1;
            } else if node >= self.nodes.len() {
                break;
            }
            let found = match &*self.nodes[node].open() {
                Node::Plain(bytes) => **bytes == *text,
                Node::Packed(pack) => pack.first().is_some_and(|first| pack.find(text, first, 0).is_some()),
                Node::Compressed(_) => unreachable!("it was opened"),
            };
            let mut gone = false;
            if found {
                let taken = match pack_mut(&mut self.nodes[node]) {
                    None => {
                        gone = true;
                        1
                    }
                    Some(pack) => {
                        let taken = remove_from_pack(pack, text, count - removed, from_back);
                        gone = pack.is_empty();
                        taken
                    }
                };
                removed += taken;
                self.len -= taken;
                if gone {
                    self.nodes.remove(node);
                } else {
                    self.close(node..node + 1, limits);
                }
            }
            if removed == count {
                break;
            }
            if !from_back && !gone {
                node += 1;
            }
        }
        if self.nodes.len() < nodes {
            self.settle(limits, 0..0);
        }
        removed
    }

    fn cut_front(&mut self, mut count: usize) {
        while count > 0 {
            let len = self.nodes[0].len().min(count);
            self.remove(0, 0, len);
            count -= len;
        }
    }

    fn cut_back(&mut self, mut count: usize) {
        while count > 0 {
            let node = self.nodes.len() - 1;
            let in_node = self.nodes[node].len();
            let len = in_node.min(count);
            self.remove(node, in_node - len, len);
            count -= len;
        }
    }
}

/// The listpack of a node, opened and not shared any more; none of a plain one.
fn pack_mut(node: &mut Arc<Node>) -> Option<&mut Listpack> {
    if matches!(**node, Node::Compressed(_)) {
        let open = node.open().into_owned();
        *node = Arc::new(open);
    }
    // A plain node is replaced, never changed: it need not be copied here.
    if matches!(**node, Node::Plain(_)) {
        return None;
    }
    match Arc::make_mut(node) {
        Node::Packed(pack) => Some(pack),
        Node::Plain(_) | Node::Compressed(_) => None,
    }
}

fn remove_from_pack(pack: &mut Listpack, text: &[u8], count: usize, from_back: bool) -> usize {
    let mut removed = 0;
    let wanted = Item::of(text);
    let mut at = if from_back { pack.last() } else { pack.first() };
    while let Some(pos) = at {
        let equal = pack.get(pos) == wanted;
        let before = if from_back { pack.prev(pos) } else { None };
        let behind = if equal {
            removed += 1;
            pack.remove(pos)
        } else if from_back {
            None
        } else {
            pack.next(pos)
        };
        at = if from_back { before } else { behind };
        if removed == count {
            break;
        }
    }
    removed
}

/// Visits entries from `at` on; false if `visit` has had enough.
fn walk_pack<'a>(pack: &'a Listpack, at: Pos, backwards: bool, visit: &mut impl FnMut(Item<'a>) -> bool) -> bool {
    if !backwards {
        return pack.iter_from(Some(at)).all(visit);
    }
    let mut at = Some(at);
    while let Some(pos) = at {
        if !visit(pack.get(pos)) {
            return false;
        }
        at = pack.prev(pos);
    }
    true
}

/// A part of a list as it was at one moment. See [`List::snapshot`].
pub struct ListSnapshot {
    list: List,
    node: usize,
    at: usize,
    left: usize,
}

impl ListSnapshot {
    /// Shows the next elements until `visit` returns false; whether there are more after that.
    pub fn read_on(&mut self, mut visit: impl FnMut(Item<'_>) -> bool) -> bool {
        while self.left > 0 {
            if let Repr::Quick(quick) = &mut self.list.repr
                && matches!(*quick.nodes[self.node], Node::Compressed(_))
            {
                let open = quick.nodes[self.node].open().into_owned();
                quick.nodes[self.node] = Arc::new(open);
            }
            let mut read = 0;
            let mut step = |item: Item<'_>| {
                read += 1;
                visit(item) && read < self.left
            };
            let ended = match &self.list.repr {
                Repr::Packed(pack) => {
                    let at = pack.seek(self.at as i64).expect("as many elements are left");
                    walk_pack(pack, at, false, &mut step)
                }
                Repr::Quick(quick) => match &*quick.nodes[self.node] {
                    Node::Compressed(_) => unreachable!("it was opened"),
                    Node::Plain(bytes) => step(Item::Bytes(bytes)),
                    Node::Packed(pack) => {
                        let at = pack.seek(self.at as i64).expect("as many elements are left");
                        walk_pack(pack, at, false, &mut step)
                    }
                },
            };
            self.left -= read;
            self.at += read;
            if let Repr::Quick(quick) = &mut self.list.repr
                && self.at == quick.nodes[self.node].len()
            {
                // What has been read is given up: the snapshot holds on to what is to come, no more.
                quick.nodes[self.node] = Arc::new(Node::Plain(Box::default()));
                self.node += 1;
                self.at = 0;
            }
            if !ended {
                break;
            }
        }
        self.left > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    fn shown(list: &List) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        list.walk(0, false, |item| {
            all.push(item.to_vec());
            true
        });
        all
    }

    #[track_caller]
    fn check(list: &List, model: &VecDeque<Vec<u8>>) {
        assert_eq!(list.len(), model.len());
        assert!(model.iter().eq(shown(list).iter()));
        if let Repr::Quick(quick) = &list.repr {
            assert!(quick.nodes.iter().all(|node| node.len() > 0));
            assert_eq!(quick.nodes.iter().map(|node| node.len()).sum::<usize>(), quick.len);
            for node in &quick.nodes {
                let open = node.open();
                assert_eq!((node.len(), node.pack_bytes()), (open.len(), open.pack_bytes()));
            }
        }
    }

    fn text(rng: &mut Rng) -> Vec<u8> {
        match rng.below(12) {
            0 => vec![b'x'; rng.range(4000..=4200) as usize],
            1 => vec![b'y'; 70_000],
            2..=5 => rng.range(-5..=5).to_string().into_bytes(),
            _ => vec![b'a' + rng.below(3) as u8; rng.below(200) as usize],
        }
    }

    #[test]
    fn random_changes_leave_what_they_leave_in_a_deque() {
        let seed = 77;
        println!("seed {seed}");
        let mut rng = Rng::seed(seed);
        let sizes = [-1, -2, 1, 3, 128, 0];
        for (node_size, compress_depth) in sizes.into_iter().flat_map(|size| [(size, 0), (size, 1), (size, 2)]) {
            let limits = ListLimits { node_size, compress_depth };
            let (mut list, mut model) = (List::default(), VecDeque::<Vec<u8>>::new());
            // Compressing is slow without optimisation.
            let steps = if compress_depth == 0 { 900 } else { 60 };
            for step in 0..steps {
                let value = text(&mut rng);
                let len = model.len();
                let at = rng.below(len as u64 + 1) as usize;
                match rng.below(if step % 300 < 200 { 8 } else { 13 }) {
                    0..=2 => {
                        list.push_front(&value, limits);
                        model.push_front(value);
                    }
                    3 | 4 => {
                        list.push_back(&value, limits);
                        model.push_back(value);
                    }
                    5 => {
                        list.insert(at, &value, limits);
                        model.insert(at, value);
                    }
                    6 if at < len => {
                        list.set(at, &value, limits);
                        model[at] = value;
                    }
                    7 => assert_eq!(list.get(at, |item| item.to_vec()), model.get(at).cloned()),
                    8 => assert_eq!(list.pop_front(limits, |item| item.to_vec()), model.pop_front()),
                    9 => assert_eq!(list.pop_back(limits, |item| item.to_vec()), model.pop_back()),
                    10 | 11 => {
                        let (count, from_back) = (rng.range(1..=3) as usize, rng.chance(1, 2));
                        let value = model.get(at).cloned().unwrap_or(value);
                        let mut places: Vec<usize> = (0..len).filter(|at| model[*at] == value).collect();
                        if from_back {
                            places.reverse();
                        }
                        places.truncate(count);
                        assert_eq!(list.remove_equal(&value, count, from_back, limits), places.len());
                        places.sort_unstable_by(|a, b| b.cmp(a));
                        places.iter().for_each(|at| drop(model.remove(*at)));
                    }
                    _ if rng.chance(1, 3) => {
                        let count = rng.below((len - at) as u64 + 1) as usize;
                        list.keep(at, count, limits);
                        model = model.drain(at..at + count).collect();
                    }
                    _ => {}
                }
                check(&list, &model);
                let mut backwards = Vec::new();
                if at < model.len() {
                    list.walk(at, true, |item| {
                        backwards.push(item.to_vec());
                        true
                    });
                    backwards.reverse();
                    assert!(model.iter().take(at + 1).eq(&backwards));
                }
            }
            let copy = list.clone();
            while list.pop_front(limits, |_| ()).is_some() {}
            check(&copy, &model);
        }
    }

    #[test]
    fn a_list_is_packed_up_to_its_limit_and_again_from_half_of_it() {
        let limits = ListLimits { node_size: 10, compress_depth: 0 };
        let mut list = List::default();
        for n in 0..10 {
            list.push_back(n.to_string().as_bytes(), limits);
        }
        assert_eq!(list.encoding(), "listpack");
        list.push_back(b"10", limits);
        assert_eq!(list.encoding(), "quicklist");
        while list.len() > 6 {
            list.pop_front(limits, |_| ());
        }
        assert_eq!(list.encoding(), "quicklist");
        list.pop_back(limits, |_| ());
        assert_eq!(list.encoding(), "listpack");
    }

    /// Which nodes are compressed.
    fn compressed(list: &List) -> Vec<bool> {
        let Repr::Quick(quick) = &list.repr else { return Vec::new() };
        quick.nodes.iter().map(|node| matches!(**node, Node::Compressed(_))).collect()
    }

    fn of_nodes(nodes: usize, limits: ListLimits) -> List {
        let mut list = List::default();
        (0..nodes).for_each(|_| list.push_back(&[b'x'; 100], limits));
        assert_eq!(compressed(&list).len(), nodes);
        list
    }

    #[test]
    fn nodes_between_the_outer_ones_are_compressed_and_those_are_not() {
        for (depth, nodes, shown) in [
            (0, 5, "....."),
            (1, 2, ".."),
            (1, 3, ".C."),
            (1, 6, ".CCCC."),
            (2, 4, "...."),
            (2, 6, "..CC.."),
            (usize::MAX, 6, "......"),
        ] {
            let limits = ListLimits { node_size: 1, compress_depth: depth };
            let as_text = |list: &List| -> String {
                compressed(list).iter().map(|compressed| if *compressed { 'C' } else { '.' }).collect()
            };
            assert_eq!(as_text(&of_nodes(nodes, limits)), shown, "depth {depth}");
            let mut list = of_nodes(nodes + 4, limits);
            (0..2).for_each(|_| assert!(list.pop_front(limits, |_| ()).is_some()));
            (0..2).for_each(|_| assert!(list.pop_back(limits, |_| ()).is_some()));
            assert_eq!(as_text(&list), shown, "depth {depth} after taking two off each end");
            let mut list = of_nodes(nodes + 40, limits);
            list.keep(17, nodes, limits);
            assert_eq!(as_text(&list), shown, "depth {depth} after a cut");
            let mut list = of_nodes(nodes, limits);
            list.set(nodes / 2, &[b'y'; 100], limits);
            list.insert(nodes / 2, &[b'z'; 100], limits);
            list.remove_equal(&[b'z'; 100], 1, false, limits);
            assert_eq!(as_text(&list), shown, "depth {depth} after changes inside");
        }
    }

    #[test]
    fn what_is_short_or_does_not_shrink_stays_as_it_is() {
        let limits = ListLimits { node_size: 1, compress_depth: 1 };
        let mut rng = Rng::seed(1);
        for (element, shrinks) in [(vec![b'x'; 30], false), (vec![b'x'; 60], true), (vec![0; 200], false)] {
            let mut list = List::default();
            for _ in 0..5 {
                let mut element = element.clone();
                if element[0] == 0 {
                    rng.fill(&mut element);
                }
                list.push_back(&element, limits);
            }
            assert_eq!(compressed(&list), [false, shrinks, shrinks, shrinks, false], "{} bytes", element.len());
        }
    }

    #[test]
    fn an_element_in_a_node_of_its_own_is_compressed_too() {
        let limits = ListLimits { node_size: -1, compress_depth: 1 };
        let mut list = List::default();
        (0..3).for_each(|_| list.push_back(&[b'x'; 10_000], limits));
        assert_eq!(compressed(&list), [false, true, false]);
        assert!(list.allocated_bytes() < 21_000, "{}", list.allocated_bytes());
        assert_eq!(list.get(1, |item| item.len()), Some(10_000));
        let (copy, mut read) = (list.clone(), 0);
        while copy.snapshot(0, 3).read_on(|item| {
            read += item.len();
            true
        }) {}
        assert_eq!(read, 30_000);
    }

    #[test]
    fn another_depth_takes_hold_as_the_list_changes() {
        let mut list = of_nodes(6, ListLimits { node_size: 1, compress_depth: 0 });
        let limits = ListLimits { node_size: 1, compress_depth: 1 };
        list.push_back(&[b'x'; 100], limits);
        assert!(compressed(&list).contains(&true) && !compressed(&list)[0] && !compressed(&list)[6]);
        let limits = ListLimits { node_size: 1, compress_depth: 3 };
        list.push_back(&[b'x'; 100], limits);
        assert_eq!(compressed(&list)[..3], [false; 3]);
        assert_eq!(shown(&list).len(), 8);
    }

    #[test]
    fn a_snapshot_reads_what_was_there_when_it_was_taken() {
        let limits = ListLimits { node_size: -1, compress_depth: 0 };
        let mut list = List::default();
        let element = |n: usize| if n % 1000 == 7 { vec![b'p'; 5000] } else { n.to_string().into_bytes() };
        (0..20_000).for_each(|n| list.push_back(&element(n), limits));
        let mut snapshot = list.snapshot(3, 19_990);
        while list.pop_back(limits, |_| ()).is_some() {}
        let mut next = 3;
        loop {
            let mut piece = 0;
            let more = snapshot.read_on(|item| {
                assert_eq!(item.to_vec(), element(next));
                next += 1;
                piece += 1;
                piece < 777
            });
            if !more {
                break;
            }
            assert_eq!(piece, 777);
        }
        assert_eq!(next, 3 + 19_990);
    }

    #[test]
    fn a_large_list_is_freed_in_slices() {
        let mut list = List::default();
        (0..100_000).for_each(|n: i32| {
            list.push_back(n.to_string().as_bytes(), ListLimits { node_size: -2, compress_depth: 0 })
        });
        let mut slices = 1;
        while list.free_some(5000) {
            slices += 1;
        }
        assert!((10..=20).contains(&slices), "{slices}");
    }
}
