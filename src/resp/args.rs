//! The arguments of one command, without a copy.
//!
//! ```text
//!   buf    *3\r\n $3\r\n SET \r\n $1\r\n k \r\n $20000\r\n      (the 20,000 bytes were received elsewhere)
//!                        ^^^             ^      ┆
//!   spans  [ 8+3 ]───────┘  [ 17+1 ]─────┘  [ blob 0 ]──────┐
//!   blobs                                                 [ Arc<Vec<u8>>, 20,000 bytes ]
//! ```
//!
//! [`Args`] borrows from a connection's parser and input and lives for the run of one command; a handler sees nothing
//! but this. [`OwnedArgs`] is the same picture with its own memory, for what outlives the input: a command that waits
//! in MULTI, or that travels to another core.
//!
//! Invariant: a span lies inside the buffer, or names a blob that exists. Spans are made in this module and in the
//! parser only.
//!
//! Absent on purpose: any knowledge of commands. Arity is checked before a handler indexes its arguments, so indexing
//! out of range is a broken invariant of ours and panics.

use std::fmt;
use std::ops::Index;

use crate::base::Blob;

/// Where one argument lies: a range of the command's bytes, or the number of a blob.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Offset from the command's first byte, or [`Span::BLOB`].
    start: u32,
    /// Length in bytes, or the index of the blob.
    len: u32,
}

/// The most bytes of one command that spans can address. Bodies that were received as blobs do not count.
pub const COMMAND_BYTES_MAX: usize = Span::BLOB as usize - 1;

impl Span {
    /// Marks a span that stands for a blob. No range starts here, because of [`COMMAND_BYTES_MAX`].
    const BLOB: u32 = u32::MAX;

    /// The range of `len` bytes from `start` on. The caller keeps `start + len` within [`COMMAND_BYTES_MAX`].
    #[inline]
    pub fn range(start: usize, len: usize) -> Span {
        debug_assert!(start.checked_add(len).is_some_and(|end| end <= COMMAND_BYTES_MAX));
        Span { start: start as u32, len: len as u32 }
    }

    /// The blob with this index.
    #[inline]
    pub fn blob(index: usize) -> Span {
        Span { start: Span::BLOB, len: u32::try_from(index).expect("a command has far fewer than 2^32 arguments") }
    }

    /// The index of the blob that this span stands for.
    #[inline]
    pub fn blob_index(self) -> Option<usize> {
        (self.start == Span::BLOB).then_some(self.len as usize)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.blob_index() {
            Some(index) => write!(f, "blob {index}"),
            None => write!(f, "{}+{}", self.start, self.len),
        }
    }
}

/// A command's name and arguments, borrowed. Argument 0 is the command's name as the client wrote it.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    buf: &'a [u8],
    spans: &'a [Span],
    blobs: &'a [Blob],
}

impl<'a> Args<'a> {
    /// Views `spans` over `buf` and `blobs`. A span that points outside of them makes [`get`](Args::get) panic.
    #[inline]
    pub fn new(buf: &'a [u8], spans: &'a [Span], blobs: &'a [Blob]) -> Args<'a> {
        Args { buf, spans, blobs }
    }

    /// How many arguments there are, the command's name included.
    #[inline]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// True for a view without arguments (an empty [`slice`](Args::slice); a parsed command has at least a name).
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The bytes of argument `i`. Panics when there is no such argument: arity was checked before.
    #[inline]
    pub fn get(&self, i: usize) -> &'a [u8] {
        self.resolve(self.spans[i])
    }

    /// Argument `i` as a shared buffer, when it was received as one; it can then be stored without a copy. `None` says
    /// nothing about its size: a large argument that came whole inside one read is an ordinary range.
    #[inline]
    pub fn blob(&self, i: usize) -> Option<&'a Blob> {
        self.spans[i].blob_index().map(|index| &self.blobs[index])
    }

    /// The arguments in order.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + DoubleEndedIterator + Clone + use<'a> {
        let args = *self;
        self.spans.iter().map(move |&span| args.resolve(span))
    }

    /// The arguments from number `from` on. Panics when `from > len()`.
    #[inline]
    pub fn slice(&self, from: usize) -> Args<'a> {
        Args { spans: &self.spans[from..], ..*self }
    }

    /// The bytes that ranges point into: the command as it was received.
    #[inline]
    pub fn buf(&self) -> &'a [u8] {
        self.buf
    }

    /// Where the arguments lie, for copying them with their positions.
    #[inline]
    pub fn spans(&self) -> &'a [Span] {
        self.spans
    }

    /// How long the command is on the wire, as an array of bulk strings.
    pub fn encoded_bytes(&self) -> usize {
        let digits = |n: usize| n.checked_ilog10().unwrap_or(0) as usize + 1;
        let arg = |arg: &[u8]| "$\r\n\r\n".len() + digits(arg.len()) + arg.len();
        "*\r\n".len() + digits(self.len()) + self.iter().map(arg).sum::<usize>()
    }

    /// The blobs that spans name. A [`slice`](Args::slice) may name only some of them.
    #[inline]
    pub fn blobs(&self) -> &'a [Blob] {
        self.blobs
    }

    #[inline]
    fn resolve(&self, span: Span) -> &'a [u8] {
        match span.blob_index() {
            None => &self.buf[span.start as usize..][..span.len as usize],
            Some(index) => &self.blobs[index],
        }
    }
}

impl Index<usize> for Args<'_> {
    type Output = [u8];

    #[inline]
    fn index(&self, i: usize) -> &[u8] {
        self.get(i)
    }
}

impl fmt::Debug for Args<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for arg in self.iter() {
            list.entry(&format_args!("\"{}\"", arg[..arg.len().min(64)].escape_ascii()));
        }
        list.finish()
    }
}

/// Arguments with their own memory. Belongs to whoever holds it and may be sent to another core; blobs are shared by
/// reference, everything else is copied.
#[derive(Clone, Default)]
pub struct OwnedArgs {
    buf: Vec<u8>,
    spans: Vec<Span>,
    blobs: Vec<Blob>,
}

impl OwnedArgs {
    /// No arguments, no memory.
    pub fn new() -> OwnedArgs {
        OwnedArgs::default()
    }

    /// A copy of these byte strings.
    pub fn from_slices<T: AsRef<[u8]>>(slices: &[T]) -> OwnedArgs {
        let mut owned = OwnedArgs::new();
        owned.spans.reserve_exact(slices.len());
        owned.buf.reserve_exact(slices.iter().map(|s| s.as_ref().len()).sum());
        for slice in slices {
            owned.push(slice.as_ref());
        }
        owned
    }

    /// A copy of borrowed arguments: only the arguments' bytes, not the framing between them.
    pub fn from_args(args: Args<'_>) -> OwnedArgs {
        let mut owned = OwnedArgs::new();
        owned.extend(args);
        owned
    }

    /// Appends a copy of every argument, with at most one allocation each for bytes, spans and blobs.
    pub fn extend(&mut self, args: Args<'_>) {
        self.spans.reserve(args.len());
        self.buf.reserve(args.spans.iter().filter(|s| s.blob_index().is_none()).map(|s| s.len as usize).sum());
        for &span in args.spans {
            match span.blob_index() {
                None => self.push(args.resolve(span)),
                Some(index) => self.push_blob(args.blobs[index].clone()),
            }
        }
    }

    /// As [`OwnedArgs::extend`], in one piece where that is possible: with what stands between the arguments. For a message, which does
    /// not live long.
    #[inline]
    pub fn extend_framed(&mut self, args: Args<'_>) {
        let (Some(first), Some(last), true) = (args.spans.first(), args.spans.last(), args.blobs.is_empty()) else {
            return self.extend(args);
        };
        let (from, to) = (first.start as usize, (last.start + last.len) as usize);
        let base = self.buf.len();
        if base + (to - from) > COMMAND_BYTES_MAX {
            return self.extend(args);
        }
        debug_assert!(args.spans.is_sorted_by_key(|span| span.start), "arguments lie in their order");
        self.buf.extend_from_slice(&args.buf[from..to]);
        self.spans
            .extend(args.spans.iter().map(|span| Span::range(span.start as usize - from + base, span.len as usize)));
    }

    /// Appends a copy of one argument. What would not fit the 4 GiB that ranges can address becomes a blob.
    #[inline]
    pub fn push(&mut self, arg: &[u8]) {
        let start = self.buf.len();
        if arg.len() > COMMAND_BYTES_MAX - start {
            return self.push_blob(Blob::new(arg.to_vec()));
        }
        self.buf.extend_from_slice(arg);
        self.spans.push(Span::range(start, arg.len()));
    }

    /// Appends the argument that `write` adds to the end of the buffer it is given. When it fails, nothing was added.
    pub(super) fn push_with<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let start = self.buf.len();
        let written = write(&mut self.buf);
        if written.is_err() {
            self.buf.truncate(start);
            return written;
        }
        assert!(
            start <= self.buf.len() && self.buf.len() <= COMMAND_BYTES_MAX,
            "an argument is appended, within 4 GiB"
        );
        self.spans.push(Span::range(start, self.buf.len() - start));
        Ok(())
    }

    /// Appends one argument by reference.
    pub fn push_blob(&mut self, blob: Blob) {
        self.spans.push(Span::blob(self.blobs.len()));
        self.blobs.push(blob);
    }

    /// The view that handlers take.
    #[inline]
    pub fn as_args(&self) -> Args<'_> {
        Args { buf: &self.buf, spans: &self.spans, blobs: &self.blobs }
    }

    /// The view of one command among several that lie here back to back: `argc` arguments from number `first` on.
    #[inline]
    pub fn command(&self, first: u32, argc: u32) -> Args<'_> {
        Args { buf: &self.buf, spans: &self.spans[first as usize..][..argc as usize], blobs: &self.blobs }
    }

    /// How many arguments there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// True when nothing was pushed since the last [`clear`](OwnedArgs::clear).
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Bytes of all arguments, shared ones included: what MULTI counts against the client's memory.
    pub fn bytes(&self) -> usize {
        self.buf.len() + self.blobs.iter().map(|blob| blob.len()).sum::<usize>()
    }

    /// Bytes of memory held, without what blobs share.
    pub fn allocated_bytes(&self) -> usize {
        self.buf.capacity() + self.spans.capacity() * size_of::<Span>() + self.blobs.capacity() * size_of::<Blob>()
    }

    /// Makes room for so many more arguments and bytes, so that pushing them moves nothing.
    pub fn reserve(&mut self, args: usize, bytes: usize) {
        self.spans.reserve(args);
        self.buf.reserve(bytes);
    }

    /// Forgets the arguments and keeps the memory for the next ones; blobs are released.
    pub fn clear(&mut self) {
        self.buf.clear();
        self.spans.clear();
        self.blobs.clear();
    }
}

impl fmt::Debug for OwnedArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_args().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_resolves_ranges_and_blobs() {
        let blobs = [Blob::new(vec![7; 3])];
        let spans = [Span::range(1, 2), Span::blob(0), Span::range(3, 0)];
        let args = Args::new(b"abcd", &spans, &blobs);
        assert_eq!(args.len(), 3);
        assert_eq!(args.get(0), b"bc");
        assert_eq!(&args[1], [7, 7, 7]);
        assert_eq!(args.get(2), b"");
        assert!(args.blob(0).is_none());
        assert!(std::sync::Arc::ptr_eq(args.blob(1).expect("argument 1 is a blob"), &blobs[0]));
        assert_eq!(args.slice(1).get(0), [7, 7, 7]);
        assert_eq!(args.slice(3).len(), 0);
        assert_eq!(args.iter().map(<[u8]>::len).collect::<Vec<_>>(), [2, 3, 0]);
        assert_eq!(format!("{args:?}"), r#"["bc", "\x07\x07\x07", ""]"#);
    }

    #[test]
    #[should_panic(expected = "out of bounds")]
    fn an_argument_that_is_not_there_panics() {
        OwnedArgs::from_slices(&["GET"]).as_args().get(1);
    }

    #[test]
    fn a_copy_drops_the_framing_and_shares_the_blobs() {
        let blobs = [Blob::new(vec![1; 20_000]), Blob::new(vec![2; 20_000])];
        let spans = [Span::range(4, 3), Span::blob(0), Span::blob(1)];
        let args = Args::new(b"....SET....", &spans, &blobs);
        let owned = OwnedArgs::from_args(args.slice(1));
        assert_eq!(owned.len(), 2);
        assert_eq!(owned.buf.len(), 0);
        assert!(std::sync::Arc::ptr_eq(owned.as_args().blob(1).expect("a blob"), &blobs[1]));
        let mut owned = OwnedArgs::from_args(args);
        assert_eq!(owned.as_args().get(0), b"SET");
        assert_eq!(owned.buf, b"SET");
        assert_eq!(owned.bytes(), 40_003);
        owned.push(b"tail");
        assert_eq!(owned.as_args().iter().map(<[u8]>::len).collect::<Vec<_>>(), [3, 20_000, 20_000, 4]);
    }

    #[test]
    fn a_framed_copy_has_the_same_arguments() {
        let blobs = [Blob::new(vec![1; 20_000])];
        let mut owned = OwnedArgs::from_slices(&["before"]);
        let spans = [Span::range(4, 3), Span::range(9, 0), Span::range(11, 2)];
        owned.extend_framed(Args::new(b"....SET..  kv..", &spans, &[]));
        owned.extend_framed(Args::new(b"GET", &[Span::range(0, 3), Span::blob(0)], &blobs));
        let lens: Vec<usize> = owned.as_args().iter().map(<[u8]>::len).collect();
        assert_eq!(lens, [6, 3, 0, 2, 3, 20_000]);
        assert_eq!(owned.command(1, 3).iter().collect::<Vec<_>>(), [&b"SET"[..], b"", b"kv"]);
        assert_eq!(owned.command(4, 2).get(0), b"GET");
    }

    #[test]
    fn clear_keeps_the_memory_and_lets_go_of_blobs() {
        let blob = Blob::new(vec![0; 20_000]);
        let mut owned = OwnedArgs::from_slices(&[&b"a"[..], b"bcdefgh"]);
        owned.push_blob(blob.clone());
        let capacity = (owned.buf.capacity(), owned.spans.capacity());
        owned.clear();
        assert!(owned.is_empty());
        assert_eq!((owned.buf.capacity(), owned.spans.capacity()), capacity);
        assert_eq!(std::sync::Arc::strong_count(&blob), 1);
    }
}
