//! Packing of weights whose codes and scales lie in two tensors: FP8 and the MXFP4 of safetensors.
//!
//! ```text
//! FP8 in blocks     group  16 f32 scales, one for 128 weights of all rows | bytes [128][16 rows] each | …
//! FP8 by rows       group  a scale for each row | bytes [inp][16 rows]
//! MXFP4             as the blocks of GGUF: neighbours become low and high nibbles 16 weights apart
//! ```
//! A scale is stored times 2^8, for a code is decoded as a half of 2^-8 of its value. What would not be the same to the
//! bit is refused: codes and scales that are NaN, scales near the end of the range.
//!
//! Does not own: the kernels ([`super::floats`]), when a weight is packed ([`crate::promote`]).
use super::{
    GROUP, Layout,
    floats::{Decoded, FP8_SCALE, Fp8Blocks, Fp8Rows, Mxfp4},
    group_bytes_of, pack_rows,
};
use crate::{Isa, simd::Level};
use pondera_quant::{Fp8, Matrix};
use std::ops::Range;

/// Scales beyond this stay as they are.
const SCALE_MAX: f32 = 1e30;

/// Kinds of such weights that have a packed layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apart {
    /// E4M3 with a scale for at least 128 columns of whole groups of rows.
    Fp8Blocks,
    /// E4M3 with a scale for each row.
    Fp8Rows,
    /// E2M1 with a power of two for 32 columns.
    Mxfp4,
}

impl Apart {
    /// What `m` is; `None` where it has no packed layout.
    pub fn of(m: &Matrix) -> Option<Apart> {
        let Matrix::Packed { weight, first, step: 1, .. } = m else { return None };
        let inp = weight.inp();
        if weight.mxfp4().is_some() {
            return inp.is_multiple_of(Apart::Mxfp4.layout().block).then_some(Apart::Mxfp4);
        }
        let [rows, columns] = weight.fp8().filter(|_| inp.is_multiple_of(Apart::Fp8Rows.layout().block))?.block;
        if columns >= inp {
            Some(Apart::Fp8Rows)
        } else {
            let whole = columns.is_multiple_of(Apart::Fp8Blocks.layout().block) && rows.is_multiple_of(GROUP);
            (whole && first.is_multiple_of(GROUP)).then_some(Apart::Fp8Blocks)
        }
    }

    /// Its layout.
    pub fn layout(self) -> Layout {
        match self {
            Apart::Fp8Blocks => Fp8Blocks::LAYOUT,
            Apart::Fp8Rows => Fp8Rows::LAYOUT,
            Apart::Mxfp4 => Mxfp4::LAYOUT,
        }
    }
}

/// [`super::pack`] of such a weight.
pub fn pack(isa: Isa, m: &Matrix, groups: Range<usize>, dst: &mut [u8]) -> bool {
    let (Some(kind), Some(size), Some(level)) = (Apart::of(m), group_bytes_of(m), Level::new(isa)) else {
        return false;
    };
    let Matrix::Packed { weight, first, out, .. } = m else { return false };
    if groups.end > out.div_ceil(GROUP) || Some(dst.len()) != groups.len().checked_mul(size) {
        return false;
    }
    let (layout, inp) = (kind.layout(), weight.inp());
    let mut blocks = Vec::new();
    groups.zip(dst.chunks_exact_mut(size)).all(|(group, dst)| {
        let valid = GROUP.min(out - group * GROUP);
        let rows = first + group * GROUP..first + group * GROUP + valid;
        match (weight.fp8(), weight.mxfp4()) {
            (Some(w), _) => fp8(&w, &layout, rows, inp, dst),
            (_, Some(w)) => {
                blocks.clear();
                let known = rows.clone().all(|o| {
                    let codes = w.codes[o * inp / 2..][..inp / 2].as_chunks::<16>().0;
                    let scales = &w.scales[o * inp / 32..][..inp / 32];
                    codes.iter().zip(scales).for_each(|(codes, &e)| blocks.extend(block(e, codes)));
                    !scales.contains(&255)
                });
                let row = inp / 32 * layout.bytes;
                // SAFETY: `valid` rows were made, one after another.
                known
                    && unsafe {
                        pack_rows(level, &layout, blocks.as_ptr(), row, valid, row, dst);
                        true
                    }
            }
            _ => false,
        }
    })
}

/// A block of GGUF's MXFP4 from neighbours in one byte.
fn block(e: u8, pairs: &[u8; 16]) -> [u8; 17] {
    let code = |i: usize| pairs[i / 2] >> (i % 2 * 4) & 15;
    std::array::from_fn(|i| if i == 0 { e } else { code(i - 1) | code(i + 15) << 4 })
}

/// A group of FP8 rows; false where a code or a scale is none that the kernels know.
fn fp8(w: &Fp8<'_>, l: &Layout, rows: Range<usize>, inp: usize, dst: &mut [u8]) -> bool {
    let row = |r: usize| &w.codes[(rows.start + r).min(rows.end - 1) * inp..][..inp];
    let rows16: [&[u8]; GROUP] = std::array::from_fn(row);
    let scale = |o: usize, k: usize| {
        let scale = w.scale(o, k);
        (scale.abs() < SCALE_MAX).then_some((scale * FP8_SCALE).to_le_bytes())
    };
    let mut known = true;
    if l.prefix > 0 {
        for (r, to) in dst[..l.prefix].as_chunks_mut::<4>().0.iter_mut().enumerate() {
            match scale((rows.start + r).min(rows.end - 1), 0) {
                Some(bytes) => *to = bytes,
                None => known = false,
            }
        }
    }
    let blocks = inp / l.block;
    if l.shared && !blocks.is_multiple_of(l.unit()) {
        // The last line of scales is not full.
        let at = l.at(blocks / l.unit() * l.unit()).0;
        dst[at..at + l.head()].fill(0);
    }
    for b in 0..blocks {
        let (scales, words) = l.at(b);
        if l.shared {
            match scale(rows.start, b * l.block) {
                Some(bytes) => dst[scales..scales + 4].copy_from_slice(&bytes),
                None => known = false,
            }
        }
        let to = dst[words..words + l.block * GROUP].as_chunks_mut::<{ GROUP * GROUP }>().0;
        for (i, to) in to.iter_mut().enumerate() {
            let from: [[u8; GROUP]; GROUP] = std::array::from_fn(|r| {
                rows16[r][b * l.block + i * GROUP..].first_chunk().copied().unwrap_or([0; GROUP])
            });
            known &= from.as_flattened().iter().all(|c| c & 0x7f != 0x7f);
            for (k, to) in to.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
                *to = std::array::from_fn(|r| from[r][k]);
            }
        }
    }
    known
}
