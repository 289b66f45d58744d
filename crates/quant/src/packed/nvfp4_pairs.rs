//! NVFP4 of safetensors: E2M1 codes two neighbours to a byte, an E4M3 scale for 16 columns, one f32 for the tensor.
//!
//! ```text
//! compressed-tensors: weight_packed [out, inp / 2]   weight_scale [out, inp / 16]   weight_global_scale [1]
//!                     w = E2M1[q] · (scale / global)
//! ModelOpt:           weight [out, inp / 2]          weight_scale [out, inp / 16]   weight_scale_2 []
//!                     w = E2M1[q] · (scale · scale_2)
//! byte i of a row:    column 2 i low, column 2 i + 1 high
//! ```
use super::{Numbers, Parts, decode_pairs};
use crate::{Bytes, Error, ErrorKind, Format, Packed, Result};
use std::ops::Range;

/// Columns that share a scale.
const GROUP: usize = 16;

/// How the scale of the tensor joins the scale of a group.
enum Global {
    Divides(f32),
    Multiplies(f32),
}

/// Codes with two levels of scales.
pub(crate) struct Nvfp4Pairs {
    codes: Bytes,
    scales: Numbers,
    global: Global,
    out: usize,
    inp: usize,
}

impl Nvfp4Pairs {
    /// compressed-tensors `nvfp4-pack-quantized`.
    pub(crate) fn compressed_tensors(parts: &Parts<'_>) -> Result<Nvfp4Pairs> {
        parts.optional("input_global_scale")?;
        let global = parts.scalar("weight_global_scale")?;
        if global == 0.0 {
            return Err(Error::new(ErrorKind::Value, "weight_global_scale", "a divisor", "0"));
        }
        Nvfp4Pairs::new(parts, "weight_packed", Global::Divides(global))
    }

    /// ModelOpt NVFP4.
    pub(crate) fn model_opt(parts: &Parts<'_>) -> Result<Nvfp4Pairs> {
        parts.optional("input_scale")?;
        if parts.optional("pre_quant_scale")?.is_some() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "pre_quant_scale",
                "NVFP4 on plain activations",
                "smoothed ones",
            ));
        }
        let global = parts.scalar("weight_scale_2")?;
        Nvfp4Pairs::new(parts, "weight", Global::Multiplies(global))
    }

    fn new(parts: &Parts<'_>, weight: &str, global: Global) -> Result<Nvfp4Pairs> {
        let (out, inp) = (parts.out, parts.inp);
        if inp % GROUP != 0 {
            return Err(Error::new(ErrorKind::Shape, weight, "input columns in groups of 16", inp));
        }
        let codes = parts.exact(weight, &[Format::U8], &[out, inp / 2])?.bytes;
        let scales = Numbers::new(parts.exact("weight_scale", &[Format::F8E4M3], &[out, inp / GROUP])?);
        Ok(Nvfp4Pairs { codes, scales, global, out, inp })
    }
}

impl Packed for Nvfp4Pairs {
    fn name(&self) -> &'static str {
        "NVFP4"
    }

    fn out(&self) -> usize {
        self.out
    }

    fn inp(&self) -> usize {
        self.inp
    }

    fn bytes(&self) -> usize {
        self.codes.len() + self.scales.bytes.len() + 4
    }

    fn decode_rows(&self, rows: Range<usize>, dst: &mut [f32]) {
        let first = rows.start * (self.inp / GROUP);
        let codes = &self.codes.as_slice()[first * GROUP / 2..];
        let scales = self.scales.slice();
        for (i, (dst, codes)) in dst.chunks_exact_mut(GROUP).zip(codes.chunks_exact(GROUP / 2)).enumerate() {
            let scale = scales.get(first + i);
            let scale = match self.global {
                Global::Divides(global) => scale / global,
                Global::Multiplies(global) => scale * global,
            };
            decode_pairs(codes, scale, dst);
        }
    }
}
