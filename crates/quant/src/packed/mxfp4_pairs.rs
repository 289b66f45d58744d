//! MXFP4 of safetensors: E2M1 codes two neighbours to a byte, one power-of-two scale for 32: `w = 2^(e - 127) · E2M1[q]`.
//!
//! ```text
//! gpt-oss:            blocks [rows, inp / 32, 16]   scales [rows, inp / 32]   (of one expert)
//! compressed-tensors: weight_packed [out, inp / 2]  weight_scale [out, inp / 32]
//! byte i of a block:  column 2 i low, column 2 i + 1 high
//! ```
//! GGUF keeps the same numbers in another order (`MXFP4` of the format table).
use super::{Numbers, Parts, decode_pairs};
use crate::{Bytes, Error, ErrorKind, Format, Mxfp4, Packed, Result, TensorView};
use std::ops::Range;

/// Columns that share a scale.
const BLOCK: usize = 32;

/// Codes with E8M0 scales; a scale byte of 255 is NaN.
pub(crate) struct Mxfp4Pairs {
    codes: Bytes,
    scales: Numbers,
    out: usize,
    inp: usize,
}

impl Mxfp4Pairs {
    /// gpt-oss: `blocks` and `scales`.
    pub(crate) fn blocks(parts: &Parts<'_>) -> Result<Mxfp4Pairs> {
        let (out, blocks) = (parts.out, whole_blocks(parts)?);
        let codes = parts.exact("blocks", &[Format::U8], &[out, blocks, BLOCK / 2])?;
        let scales = parts.exact("scales", &[Format::U8, Format::F8E8M0], &[out, blocks])?;
        Ok(Mxfp4Pairs::of(parts, codes, scales))
    }

    /// compressed-tensors `mxfp4-pack-quantized`.
    pub(crate) fn packed(parts: &Parts<'_>) -> Result<Mxfp4Pairs> {
        let (out, blocks) = (parts.out, whole_blocks(parts)?);
        let codes = parts.exact("weight_packed", &[Format::U8], &[out, parts.inp / 2])?;
        let scales = parts.exact("weight_scale", &[Format::U8, Format::F8E8M0], &[out, blocks])?;
        Ok(Mxfp4Pairs::of(parts, codes, scales))
    }

    fn of(parts: &Parts<'_>, codes: TensorView, scales: TensorView) -> Mxfp4Pairs {
        Mxfp4Pairs { codes: codes.bytes, scales: Numbers::new(scales), out: parts.out, inp: parts.inp }
    }
}

fn whole_blocks(parts: &Parts<'_>) -> Result<usize> {
    if !parts.inp.is_multiple_of(BLOCK) {
        return Err(Error::new(ErrorKind::Shape, "weight", "input columns in blocks of 32", parts.inp));
    }
    Ok(parts.inp / BLOCK)
}

impl Packed for Mxfp4Pairs {
    fn name(&self) -> &'static str {
        "MXFP4"
    }

    fn out(&self) -> usize {
        self.out
    }

    fn inp(&self) -> usize {
        self.inp
    }

    fn bytes(&self) -> usize {
        self.codes.len() + self.scales.bytes.len()
    }

    fn mxfp4(&self) -> Option<Mxfp4<'_>> {
        Some(Mxfp4 { codes: self.codes.as_slice(), scales: self.scales.bytes.as_slice() })
    }

    fn intact(&self) -> bool {
        self.codes.intact() && self.scales.bytes.intact()
    }

    fn forget(&self, rows: Range<usize>) {
        self.codes.forget(rows.start * self.inp / 2..rows.end * self.inp / 2);
    }

    fn decode_rows(&self, rows: Range<usize>, dst: &mut [f32]) {
        let first = rows.start * (self.inp / BLOCK);
        let codes = &self.codes.as_slice()[first * BLOCK / 2..];
        let scales = self.scales.slice();
        for (i, (dst, codes)) in dst.chunks_exact_mut(BLOCK).zip(codes.chunks_exact(BLOCK / 2)).enumerate() {
            decode_pairs(codes, scales.get(first + i), dst);
        }
    }
}
