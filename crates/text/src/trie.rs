//! All prefixes of a text that are tokens, by one walk over a byte trie laid out level by level.

/// A trie over byte strings; a value is the index its string had when the trie was built.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trie {
    labels: Vec<u8>,
    children: Vec<u32>,
    values: Vec<u32>,
    roots: Vec<u32>,
}

const NONE: u32 = u32::MAX;

impl Trie {
    /// Builds the trie. Of equal strings the first counts; empty ones are left out.
    pub(crate) fn new<'a>(strings: impl Iterator<Item = (u32, &'a [u8])>) -> Self {
        let mut sorted: Vec<(&[u8], u32)> = strings.filter(|(_, s)| !s.is_empty()).map(|(v, s)| (s, v)).collect();
        sorted.sort_unstable();
        sorted.dedup_by(|later, earlier| later.0 == earlier.0);
        let mut trie = Trie::default();
        // A node is a range of strings that share `depth` bytes; level by level, so children of a node are neighbours.
        let mut level: Vec<(usize, usize)> = vec![(0, sorted.len())];
        let mut depth = 0;
        trie.grow(&sorted, &mut level, depth);
        trie.roots = vec![NONE; 256];
        for (node, label) in trie.labels.iter().enumerate() {
            trie.roots[usize::from(*label)] = node as u32;
        }
        while !level.is_empty() {
            depth += 1;
            trie.grow(&sorted, &mut level, depth);
        }
        trie.children.push(trie.labels.len() as u32);
        trie
    }

    fn grow(&mut self, sorted: &[(&[u8], u32)], level: &mut Vec<(usize, usize)>, depth: usize) {
        let mut below = Vec::new();
        for &(from, to) in level.iter() {
            if depth > 0 {
                self.children.push(self.labels.len() as u32);
            }
            let mut at = from;
            // a string that ends here stands first; its value is already on the node
            while at < to && sorted[at].0.len() == depth {
                at += 1;
            }
            while at < to {
                let label = sorted[at].0[depth];
                let end = at + sorted[at..to].partition_point(|(s, _)| s[depth] == label);
                self.labels.push(label);
                self.values.push(if sorted[at].0.len() == depth + 1 { sorted[at].1 } else { NONE });
                below.push((at, end));
                at = end;
            }
        }
        *level = below;
    }

    /// Calls `found` with (length in bytes, value) for every string that `text` begins with, shortest first.
    #[inline]
    pub(crate) fn prefixes(&self, text: &[u8], mut found: impl FnMut(usize, u32)) {
        let Some(mut node) = text.first().and_then(|b| self.roots.get(usize::from(*b))).copied() else { return };
        let mut len = 1;
        while node != NONE {
            let value = self.values[node as usize];
            if value != NONE {
                found(len, value);
            }
            let Some(byte) = text.get(len) else { return };
            let (from, to) = (self.children[node as usize] as usize, self.children[node as usize + 1] as usize);
            let labels = &self.labels[from..to];
            node = match labels.binary_search(byte) {
                Ok(at) => (from + at) as u32,
                Err(_) => NONE,
            };
            len += 1;
        }
    }

    /// The longest string that `text` begins with.
    pub(crate) fn longest(&self, text: &[u8]) -> Option<(usize, u32)> {
        let mut best = None;
        self.prefixes(text, |len, value| best = Some((len, value)));
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_prefix() {
        let words = ["a", "ab", "abcd", "b", "", "bcd", "ab"];
        let trie = Trie::new(words.iter().enumerate().map(|(n, w)| (n as u32, w.as_bytes())));
        for (text, want) in [
            ("abcde", vec![(1, 0), (2, 1), (4, 2)]),
            ("bc", vec![(1, 3)]),
            ("bcd", vec![(1, 3), (3, 5)]),
            ("x", vec![]),
            ("", vec![]),
        ] {
            let mut got = Vec::new();
            trie.prefixes(text.as_bytes(), |len, value| got.push((len, value)));
            assert_eq!(got, want, "{text}");
        }
        assert_eq!(Trie::default().longest(b"a"), None);
        assert_eq!(Trie::new(std::iter::empty()).longest(b"a"), None);
    }
}
