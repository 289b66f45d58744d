//! SentencePiece's precompiled character map: a double array from byte strings to replacement strings.

use crate::error::{Error, Result};

/// The map; empty when a model has none.
#[derive(Clone, Debug, Default)]
pub(crate) struct CharsMap {
    units: Vec<u32>,
    replacements: Vec<u8>,
}

impl CharsMap {
    /// Reads the blob: the byte length of the double array (u32, little-endian), the array, the replacements, each
    /// ended by a zero byte.
    pub(crate) fn new(blob: &[u8]) -> Result<Self> {
        if blob.is_empty() {
            return Ok(CharsMap::default());
        }
        let broken = || Error::invalid("precompiled_charsmap: cut off or of a wrong size");
        let (head, rest) = blob.split_first_chunk::<4>().ok_or_else(broken)?;
        let size = usize::try_from(u32::from_le_bytes(*head)).map_err(|_| broken())?;
        if size % 4 != 0 || size > rest.len() {
            return Err(broken());
        }
        let (array, replacements) = rest.split_at(size);
        let units = array.as_chunks::<4>().0.iter().map(|c| u32::from_le_bytes(*c)).collect();
        if std::str::from_utf8(replacements).is_err() {
            return Err(Error::invalid("precompiled_charsmap: replacements are not UTF-8"));
        }
        Ok(CharsMap { units, replacements: replacements.to_vec() })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// Calls `found` with (bytes matched, replacement) for every key that `text` begins with, shortest first.
    fn prefixes(&self, text: &[u8], mut found: impl FnMut(usize, u32)) {
        let unit = |at: u32| self.units.get(at as usize).copied();
        let offset = |unit: u32| (unit >> 10) << ((unit & (1 << 9)) >> 6);
        let Some(root) = unit(0) else { return };
        let mut node = offset(root);
        for (n, &byte) in text.iter().enumerate() {
            if byte == 0 {
                return;
            }
            node ^= u32::from(byte);
            let Some(value) = unit(node).filter(|u| u & (1 << 31 | 0xff) == u32::from(byte)) else { return };
            node ^= offset(value);
            if value >> 8 & 1 == 1 {
                let Some(leaf) = unit(node) else { return };
                found(n + 1, leaf & 0x7fff_ffff);
            }
        }
    }

    fn replacement(&self, at: u32) -> Option<&str> {
        let rest = self.replacements.get(at as usize..)?;
        let end = rest.iter().position(|b| *b == 0).unwrap_or(rest.len());
        std::str::from_utf8(rest.get(..end)?).ok()
    }

    /// The longest key at the front of `text`: bytes taken and what stands for them.
    pub(crate) fn longest(&self, text: &str) -> Option<(usize, &str)> {
        let mut best = None;
        self.prefixes(text.as_bytes(), |len, at| best = Some((len, at)));
        let (len, at) = best.filter(|(len, _)| text.is_char_boundary(*len))?;
        Some((len, self.replacement(at)?))
    }

    /// What `tokenizers` puts in place of `chunk`: the replacement of its shortest key.
    pub(crate) fn of_chunk(&self, chunk: &str) -> Option<&str> {
        let mut first = None;
        self.prefixes(chunk.as_bytes(), |_, at| first = first.or(Some(at)));
        self.replacement(first?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_blobs_are_errors_or_match_nothing() {
        for blob in [&[1_u8][..], &[8, 0, 0, 0, 1, 2, 3, 4], &[3, 0, 0, 0, 1, 2, 3], &[0, 0, 0, 0, 0xff]] {
            assert!(CharsMap::new(blob).is_err(), "{blob:?}");
        }
        let mut blob = vec![4, 0, 0, 0];
        blob.extend(u32::MAX.to_le_bytes());
        let map = CharsMap::new(&blob).expect("sizes hold");
        assert_eq!(map.longest("abc"), None);
        assert!(CharsMap::new(&[]).expect("empty").is_empty());
    }
}
