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
}

impl Batch {
    /// One sequence of `tokens` from position `start` on in pages `0, 1, …`, all logits wanted.
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
            }],
            logit_rows: (0..n as u32).collect(),
        }
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
