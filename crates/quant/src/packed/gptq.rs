//! GPTQ: integer codes packed along the input, zero points and scales per group of input columns:
//! `w[o, i] = (code[i, o] - zero[g(i), o]) · scale[g(i), o]`.
//!
//! ```text
//! qweight [inp · bits / 32, out] i32   column o is a little-endian stream of bits: code i at bit i · bits
//! qzeros  [groups, out · bits / 32] i32   row g is such a stream over the outputs
//! scales  [groups, out]
//! g_idx   [inp] i32, optional   group of each input column; act-order shuffles it
//! ```
//! Version 1 (`gptq`) stores zero points less one, modulo 2^bits; `gptq_v2` stores them as they are.
use super::{GroupIndex, Numbers, Parts, SCALES, groups, unpack, word};
use crate::{Bytes, Error, ErrorKind, Format, Packed, Result};
use std::ops::Range;

/// Output rows decoded together: neighbours in a word's row, so that words are read in order.
const COLUMNS: usize = 8;
/// Groups whose zero points and scales are kept while the columns of a weight in act-order are decoded.
const KNOWN: usize = 128;

/// A GPTQ weight.
pub(crate) struct Gptq {
    bits: usize,
    zero_offset: u32,
    codes: Bytes,
    zeros: Bytes,
    scales: Numbers,
    index: GroupIndex,
    groups: usize,
    out: usize,
    inp: usize,
}

impl Gptq {
    /// `exact`: the configuration's `bits` and `group` hold for every module; otherwise shapes decide.
    pub(crate) fn new(
        parts: &Parts<'_>,
        bits: usize,
        group: Option<usize>,
        zero_offset: u32,
        exact: bool,
    ) -> Result<Gptq> {
        let (out, inp) = (parts.out, parts.inp);
        let bits = if exact { bits } else { stored_bits(parts)?.unwrap_or(bits) };
        let (group, count) = groups(inp, if exact { group } else { stored_group(parts)?.or(group) });
        for (what, n) in [("input columns", inp), ("output rows", out)] {
            if n % (32 / gcd(bits, 32)) != 0 {
                return Err(Error::new(
                    ErrorKind::Shape,
                    "qweight",
                    format!("{what} in whole words of {bits}-bit codes"),
                    n,
                ));
            }
        }
        let codes = parts.exact("qweight", &[Format::I32], &[words(inp, bits), out])?.bytes;
        let zeros = parts.exact("qzeros", &[Format::I32], &[count, words(out, bits)])?.bytes;
        let scales = Numbers::new(parts.exact("scales", SCALES, &[count, out])?);
        let index = parts.group_index("g_idx", group, count)?;
        Ok(Gptq { bits, zero_offset, codes, zeros, scales, index, groups: count, out, inp })
    }

    /// Code `at` of a stream of bits whose word `w` is word `first + w · step` of `bytes`.
    fn code(&self, bytes: &[u8], first: usize, step: usize, at: usize) -> u32 {
        let (w, shift) = (at * self.bits / 32, at * self.bits % 32);
        let low = word(bytes, first + w * step) >> shift;
        let cut = shift + self.bits > 32;
        let high = if cut { word(bytes, first + (w + 1) * step) << (32 - shift) } else { 0 };
        (low | high) & self.mask()
    }

    fn mask(&self) -> u32 {
        (1 << self.bits) - 1
    }

    /// Zero points and scales of group `g` of output rows `from …`.
    fn factors(&self, g: usize, from: usize, factors: &mut [(f32, f32)]) {
        let (zeros, scales) = (self.zeros.as_slice(), self.scales.slice());
        let zero_words = words(self.out, self.bits);
        for (c, f) in factors.iter_mut().enumerate() {
            let stored = self.code(zeros, g * zero_words, 1, from + c);
            *f = (((stored + self.zero_offset) & self.mask()) as f32, scales.get(g * self.out + from + c));
        }
    }

    /// Output rows `from …` to `dst` `[≤ COLUMNS, inp]`, any order of groups, any width.
    fn decode_columns(&self, from: usize, dst: &mut [f32]) {
        let columns = dst.len() / self.inp;
        // Act-order jumps between groups at every column: what is known of the first ones is kept.
        let (mut known, mut next) = ([[(0.0, 0.0); COLUMNS]; KNOWN], [(0.0, 0.0); COLUMNS]);
        for (g, known) in known.iter_mut().enumerate().take(self.groups) {
            self.factors(g, from, &mut known[..columns]);
        }
        for i in 0..self.inp {
            let g = self.index.get(i);
            let factors = known.get(g).unwrap_or_else(|| {
                self.factors(g, from, &mut next[..columns]);
                &next
            });
            let codes = self.codes.as_slice();
            for (c, (dst, (zero, scale))) in dst.chunks_exact_mut(self.inp).zip(factors).enumerate() {
                dst[i] = (self.code(codes, from + c, self.out, i) as f32 - zero) * scale;
            }
        }
    }

    /// As [`Gptq::decode_columns`], where the codes of a word share a group: groups of `group` columns.
    fn decode_words(&self, from: usize, dst: &mut [f32], group: usize) {
        let (codes, per_word) = (self.codes.as_slice(), 32 / self.bits);
        let mut factors = [(0.0, 0.0); COLUMNS];
        let factors = &mut factors[..dst.len() / self.inp];
        for (w, i) in (0..self.inp).step_by(per_word).enumerate() {
            if i % group == 0 {
                self.factors(i / group, from, factors);
            }
            for (c, (dst, (zero, scale))) in dst.chunks_exact_mut(self.inp).zip(factors.iter()).enumerate() {
                let word = word(codes, w * self.out + from + c);
                unpack(word, self.bits, *zero, *scale, &mut dst[i..i + per_word]);
            }
        }
    }
}

/// Words that hold `n` codes, a multiple of a word's (proven by the constructor).
fn words(n: usize, bits: usize) -> usize {
    n / 32 * bits + n % 32 * bits / 32
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Bits that the shape of `qweight` tells.
fn stored_bits(parts: &Parts<'_>) -> Result<Option<usize>> {
    let rows = parts.needed("qweight")?.shape.first().copied().unwrap_or(0);
    Ok([2, 3, 4, 8].into_iter().find(|bits| words(parts.inp, *bits) == rows))
}

/// Group size that the shape of `scales` tells.
fn stored_group(parts: &Parts<'_>) -> Result<Option<usize>> {
    let count = parts.needed("scales")?.shape.first().copied().unwrap_or(0);
    Ok((count > 0 && parts.inp.is_multiple_of(count)).then(|| parts.inp / count))
}

impl Packed for Gptq {
    fn name(&self) -> &'static str {
        match self.bits {
            2 => "GPTQ INT2",
            3 => "GPTQ INT3",
            4 => "GPTQ INT4",
            _ => "GPTQ INT8",
        }
    }

    fn out(&self) -> usize {
        self.out
    }

    fn inp(&self) -> usize {
        self.inp
    }

    fn bytes(&self) -> usize {
        self.codes.len() + self.zeros.len() + self.scales.bytes.len() + self.index.bytes()
    }

    fn decode_rows(&self, rows: Range<usize>, dst: &mut [f32]) {
        for (from, dst) in rows.step_by(COLUMNS).zip(dst.chunks_mut(COLUMNS * self.inp)) {
            match self.index.whole(32 / self.bits).filter(|_| 32 % self.bits == 0) {
                Some(group) => self.decode_words(from, dst, group),
                None => self.decode_columns(from, dst),
            }
        }
    }
}
