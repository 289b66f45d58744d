//! The tokens of one step: a ragged batch. Prefill, decode and mixtures are the same thing.
use std::ops::Range;

/// Positions per page of the KV cache, and per span of attention: spans are aligned to absolute positions
/// (docs/numerics.md), so the page size is part of the numerics.
pub const PAGE: usize = 64;

/// One step: row `r` is token `tokens[r]` at `positions[r]` of the sequence whose range holds `r`.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Token id per row.
    pub tokens: Vec<u32>,
    /// Cache position per row, consecutive within a sequence; also the rotary position.
    pub positions: Vec<u32>,
    /// The sequences, in order of their rows, which they cover without gaps.
    pub sequences: Vec<Sequence>,
    /// Rows whose logits are wanted, ascending.
    pub logit_rows: Vec<u32>,
}

/// A sequence's part of a step.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    /// Its rows.
    pub rows: Range<usize>,
    /// Its pages: page `i` holds positions `i · PAGE ..`.
    pub pages: Vec<u32>,
    /// The length that chooses length-dependent rotary frequencies (rule 7 of docs/numerics.md).
    pub rope_length: u32,
    /// The slot that holds its recurrent states before its first row; none: it begins here, with zeros.
    pub state: Option<u32>,
    /// The adapter that its rows take, by its number in the table of who runs the step; the base alone without one.
    pub adapter: Option<u32>,
    /// The slots where its states go: after row `rows.start + .0`, ascending, to slot `.1`. May name the slot they come from.
    pub keep: Vec<(u32, u32)>,
}

impl Batch {
    /// One sequence of `tokens` from position `start` on in pages `0, 1, …` and state slot 0, all logits wanted.
    pub fn single(tokens: &[u32], start: u32) -> Batch {
        let n = tokens.len();
        let end = start as usize + n;
        Batch {
            tokens: tokens.to_vec(),
            positions: (start..start + n as u32).collect(),
            sequences: vec![Sequence {
                rows: 0..n,
                pages: (0..end.div_ceil(PAGE) as u32).collect(),
                rope_length: end as u32,
                state: (start > 0).then_some(0),
                adapter: None,
                keep: vec![((n as u32).saturating_sub(1), 0)],
            }],
            logit_rows: (0..n as u32).collect(),
        }
    }

    /// The rows whose logits are wanted as a batch of their own, for what comes after the last mixing of rows. None
    /// where that saves nothing (all are wanted) or those of a sequence do not follow one another.
    pub fn wanted(&self) -> Option<Batch> {
        if self.logit_rows.len() == self.len() {
            return None;
        }
        let at = |v: &[u32]| self.logit_rows.iter().map(|&r| v[r as usize]).collect();
        let mut wanted = Batch {
            tokens: at(&self.tokens),
            positions: at(&self.positions),
            sequences: Vec::new(),
            logit_rows: (0..self.logit_rows.len() as u32).collect(),
        };
        for s in &self.sequences {
            let place = |row: usize| self.logit_rows.partition_point(|&r| (r as usize) < row);
            let rows = place(s.rows.start)..place(s.rows.end);
            if !wanted.positions[rows.clone()].is_sorted_by(|a, b| a + 1 == *b) {
                return None;
            }
            if !rows.is_empty() {
                wanted.sequences.push(Sequence {
                    rows,
                    pages: s.pages.clone(),
                    rope_length: s.rope_length,
                    adapter: s.adapter,
                    ..Sequence::default()
                });
            }
        }
        Some(wanted)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_rows_keep_their_sequences() {
        let part =
            |rows: Range<usize>, page: u32| Sequence { rows, pages: vec![page], rope_length: 9, ..Sequence::default() };
        let mut b = Batch {
            tokens: (10..16).collect(),
            positions: vec![0, 1, 2, 7, 0, 1],
            sequences: vec![part(0..3, 5), part(3..4, 6), part(4..6, 7)],
            logit_rows: vec![1, 2, 5],
        };
        let w = b.wanted().unwrap();
        assert_eq!((w.tokens, w.positions, w.logit_rows), (vec![11, 12, 15], vec![1, 2, 1], vec![0, 1, 2]));
        let rows: Vec<_> = w.sequences.iter().map(|s| (s.rows.clone(), s.pages[0])).collect();
        assert_eq!(rows, [(0..2, 5), (2..3, 7)]);
        b.logit_rows = vec![];
        assert!(b.wanted().is_some_and(|w| w.is_empty() && w.sequences.is_empty()));
        b.logit_rows = vec![0, 2];
        assert!(b.wanted().is_none(), "positions of a sequence follow one another");
        b.logit_rows = (0..6).collect();
        assert!(b.wanted().is_none(), "nothing to save");
    }
}
