//! AWQ (GEMM version): 4-bit codes packed along the output, zero points and scales per group of input columns:
//! `w[o, i] = (code[i, o] - zero[i / group, o]) · scale[i / group, o]`.
//!
//! ```text
//! qweight [inp, out / 8] i32        a word holds outputs 8 w … 8 w + 7; its nibbles, lowest first,
//! qzeros  [inp / group, out / 8]    are outputs 0 2 4 6 1 3 5 7
//! scales  [inp / group, out]
//! ```
use super::{Numbers, Parts, SCALES, groups, word};
use crate::{Bytes, Error, ErrorKind, Format, Packed, Result};
use std::ops::Range;

/// Bit of the nibble that holds each of a word's eight outputs.
const SHIFT: [u32; 8] = [0, 16, 4, 20, 8, 24, 12, 28];

/// An AWQ weight.
pub(crate) struct Awq {
    group: usize,
    codes: Bytes,
    zeros: Bytes,
    scales: Numbers,
    out: usize,
    inp: usize,
}

impl Awq {
    pub(crate) fn new(parts: &Parts<'_>, group: Option<usize>) -> Result<Awq> {
        let (out, inp) = (parts.out, parts.inp);
        let (group, count) = groups(inp, group);
        if out % 8 != 0 {
            return Err(Error::new(ErrorKind::Shape, "qweight", "output rows in whole words of eight", out));
        }
        let codes = parts.exact("qweight", &[Format::I32], &[inp, out / 8])?.bytes;
        let zeros = parts.exact("qzeros", &[Format::I32], &[count, out / 8])?.bytes;
        let scales = Numbers::new(parts.exact("scales", SCALES, &[count, out])?);
        Ok(Awq { group, codes, zeros, scales, out, inp })
    }

    /// Output rows `from …` of word column `from / 8` to `dst` `[≤ 8, inp]`.
    fn decode_columns(&self, from: usize, dst: &mut [f32]) {
        let (codes, zeros, scales) = (self.codes.as_slice(), self.zeros.as_slice(), self.scales.slice());
        let (words, column) = (self.out / 8, from / 8);
        let shifts = &SHIFT[from % 8..];
        let mut factors = [(0.0, 0.0); 8];
        for i in 0..self.inp {
            if i % self.group == 0 {
                let g = i / self.group;
                let zero = word(zeros, g * words + column);
                for (c, (f, shift)) in factors.iter_mut().zip(shifts).enumerate() {
                    *f = ((zero >> shift & 15) as f32, scales.get(g * self.out + from + c));
                }
            }
            let code = word(codes, i * words + column);
            for (dst, (shift, (zero, scale))) in dst.chunks_exact_mut(self.inp).zip(shifts.iter().zip(factors)) {
                dst[i] = ((code >> shift & 15) as f32 - zero) * scale;
            }
        }
    }
}

impl Packed for Awq {
    fn name(&self) -> &'static str {
        "AWQ INT4"
    }

    fn out(&self) -> usize {
        self.out
    }

    fn inp(&self) -> usize {
        self.inp
    }

    fn bytes(&self) -> usize {
        self.codes.len() + self.zeros.len() + self.scales.bytes.len()
    }

    fn decode_rows(&self, rows: Range<usize>, mut dst: &mut [f32]) {
        let mut from = rows.start;
        while from < rows.end {
            let to = rows.end.min(from / 8 * 8 + 8);
            let (columns, rest) = dst.split_at_mut((to - from) * self.inp);
            self.decode_columns(from, columns);
            (from, dst) = (to, rest);
        }
    }
}
