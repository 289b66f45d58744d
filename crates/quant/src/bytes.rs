//! Bytes that keep their owner alive: a range of a mapped file, or memory of our own.
use std::{fmt, ops::Range, sync::Arc};

/// What a [`Bytes`] is cut from: a mapped file, a vector, a static array.
pub trait Owner: Send + Sync {
    /// All the bytes; the same address and length at every call.
    fn bytes(&self) -> &[u8];

    /// Whether the bytes are still those that were there at first: another process may write to a mapped file.
    fn intact(&self) -> bool {
        true
    }

    /// Nobody will read `range` soon: its memory may go. Read again, it is the same.
    fn forget(&self, _range: Range<usize>) {}
}

impl Owner for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

impl Owner for &'static [u8] {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// A shared, immutable range of an [`Owner`]'s bytes. Cloning copies no data.
#[derive(Clone)]
pub struct Bytes {
    owner: Arc<dyn Owner>,
    start: usize,
    len: usize,
}

impl Bytes {
    /// All bytes of `owner`.
    pub fn new(owner: Arc<dyn Owner>) -> Bytes {
        let len = owner.bytes().len();
        Bytes { owner, start: 0, len }
    }

    /// The part `range` of these bytes, or `None` where it reaches past the end.
    pub fn slice(&self, range: Range<usize>) -> Option<Bytes> {
        let ok = range.start <= range.end && range.end <= self.len;
        ok.then(|| Bytes { owner: self.owner.clone(), start: self.start + range.start, len: range.end - range.start })
    }

    /// The bytes themselves.
    pub fn as_slice(&self) -> &[u8] {
        &self.owner.bytes()[self.start..self.start + self.len]
    }

    /// [`Owner::intact`].
    pub fn intact(&self) -> bool {
        self.owner.intact()
    }

    /// [`Owner::forget`] for the part `range` of these bytes.
    pub fn forget(&self, range: Range<usize>) {
        self.owner.forget(self.start + range.start.min(self.len)..self.start + range.end.min(self.len));
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(v: Vec<u8>) -> Bytes {
        Bytes::new(Arc::new(v))
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({} bytes)", self.len)
    }
}
