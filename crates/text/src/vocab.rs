//! A table of tokens: id to bytes and bytes to id. All bytes lie in one buffer, so that a vocabulary of a quarter
//! million tokens costs a handful of allocations. Knows nothing of how text becomes tokens.

use crate::error::{Error, Result};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// Id of a place that holds no token.
const HOLE: (u32, u32) = (u32::MAX, 0);

/// Tokens with their ids. Ids may have holes; of equal tokens the one that came last is found by its bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vocab {
    bytes: Vec<u8>,
    spans: Vec<(u32, u32)>,
    table: HashTable<u32>,
    hasher: RandomState,
    longest: usize,
}

impl Vocab {
    /// Room for `tokens` tokens of together `bytes` bytes.
    pub(crate) fn with_capacity(tokens: usize, bytes: usize) -> Self {
        Vocab {
            bytes: Vec::with_capacity(bytes),
            spans: Vec::with_capacity(tokens),
            table: HashTable::with_capacity(tokens),
            ..Vocab::default()
        }
    }

    /// Puts `token` at `id`. `true` if the bytes were not in the table before.
    ///
    /// # Errors
    /// An id far beyond the number of tokens present (memory would follow the declared number, not the file).
    pub(crate) fn insert(&mut self, id: u32, token: &[u8]) -> Result<bool> {
        let slot = usize::try_from(id).unwrap_or(usize::MAX);
        if slot > 16 * self.table.len() + (1 << 20) {
            return Err(Error::invalid(format!("token id {id} in a vocabulary of about {} tokens", self.table.len())));
        }
        let start = u32::try_from(self.bytes.len()).map_err(|_| Error::invalid("vocabulary above 4 GiB"))?;
        let len = u32::try_from(token.len()).map_err(|_| Error::invalid("token above 4 GiB"))?;
        start.checked_add(len).ok_or_else(|| Error::invalid("vocabulary above 4 GiB"))?;
        self.bytes.extend_from_slice(token);
        if slot >= self.spans.len() {
            self.spans.resize(slot + 1, HOLE);
        }
        self.spans[slot] = (start, len);
        self.longest = self.longest.max(token.len());
        let hash = self.hasher.hash_one(token);
        let (bytes, spans, hasher) = (&self.bytes, &self.spans, &self.hasher);
        let same = |other: &u32| *other == id || slice(bytes, spans, *other) == Some(token);
        if let Some(found) = self.table.find_mut(hash, same) {
            *found = id;
            return Ok(false);
        }
        self.table.insert_unique(hash, id, |other| hasher.hash_one(slice(bytes, spans, *other).unwrap_or(b"")));
        Ok(true)
    }

    /// The id of a token.
    #[inline]
    pub(crate) fn get(&self, token: &[u8]) -> Option<u32> {
        if token.len() > self.longest {
            return None;
        }
        let hash = self.hasher.hash_one(token);
        self.table.find(hash, |id| slice(&self.bytes, &self.spans, *id) == Some(token)).copied()
    }

    /// The bytes of a token.
    pub(crate) fn token(&self, id: u32) -> Option<&[u8]> {
        slice(&self.bytes, &self.spans, id)
    }

    /// The token as text; tokens that came as text always are.
    pub(crate) fn text(&self, id: u32) -> Option<&str> {
        self.token(id).and_then(|token| std::str::from_utf8(token).ok())
    }

    /// One more than the highest id.
    pub(crate) fn size(&self) -> usize {
        self.spans.len()
    }

    /// Bytes of the longest token.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }
}

#[inline]
fn slice<'b>(bytes: &'b [u8], spans: &[(u32, u32)], id: u32) -> Option<&'b [u8]> {
    let &(start, len) = spans.get(id as usize)?;
    if (start, len) == HOLE {
        return None;
    }
    bytes.get(start as usize..start as usize + len as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_put_in_and_refuses_far_ids() {
        let mut vocab = Vocab::default();
        for (id, token) in [(0, "a"), (2, "bc"), (5, "")] {
            assert!(vocab.insert(id, token.as_bytes()).expect("near"));
        }
        assert!(!vocab.insert(7, b"a").expect("near"));
        assert_eq!((vocab.get(b"a"), vocab.get(b"bc"), vocab.get(b"zzz")), (Some(7), Some(2), None));
        assert_eq!((vocab.text(0), vocab.text(1), vocab.text(5), vocab.size()), (Some("a"), None, Some(""), 8));
        assert!(vocab.insert(u32::MAX, b"far").is_err());
    }
}
