//! Eight-bit codes `[out, inp]` in one tensor and scales in another: FP8 in blocks (DeepSeek), FP8 and INT8 per channel,
//! group or tensor (compressed-tensors, ModelOpt, FBGEMM): `w = (code - zero) · scale`.
//!
//! ```text
//! weight            weight_scale(_inv)
//! [out, inp]        [ceil(out / rows), ceil(inp / columns)]
//! +-----+-----+-+   one scale covers rows × columns codes; the last
//! |     |     | |   blocks may be cut off by the edges of the matrix
//! +-----+-----+-+
//! ```
use super::{Grain, Numbers, Parts, SCALES, check_format, check_shape};
use crate::{Bytes, Error, ErrorKind, Format, Fp8, Packed, Result, TensorView};
use std::ops::Range;

/// Codes with scales.
pub(crate) struct Scaled {
    name: &'static str,
    format: Format,
    codes: Bytes,
    out: usize,
    inp: usize,
    /// Rows and columns that share a scale.
    block: [usize; 2],
    scales: Numbers,
    zeros: Option<Numbers>,
}

/// `quant_method: fp8`: `weight` and `weight_scale_inv`, in blocks where the configuration says so, else one scale per
/// tensor or per row.
pub(crate) fn fine_grained(parts: &Parts<'_>, block: Option<[usize; 2]>) -> Result<Scaled> {
    parts.optional("input_scale")?;
    parts.optional("activation_scale")?;
    let name = match (parts.optional("weight_scale_inv")?, parts.optional("weight_scale")?) {
        (None, Some(_)) => "weight_scale",
        _ => "weight_scale_inv",
    };
    let grains = match block {
        Some(block) => vec![Grain::Block(block)],
        None => vec![Grain::Tensor, Grain::Channel],
    };
    Scaled::new(parts, &[Format::F8E4M3], name, &grains)
}

/// compressed-tensors `float-quantized`, `int-quantized` and `naive-quantized`.
pub(crate) fn compressed(parts: &Parts<'_>, float: bool, grain: Grain, symmetric: bool) -> Result<Scaled> {
    parts.optional("input_scale")?;
    parts.optional("input_zero_point")?;
    let format = if float { Format::F8E4M3 } else { Format::I8 };
    let mut scaled = Scaled::new(parts, &[format], "weight_scale", &[grain])?;
    let stored = parts.optional("weight_zero_point")?;
    if !symmetric && stored.is_none() {
        parts.needed("weight_zero_point")?;
    }
    if let Some(view) = stored {
        check_format("weight_zero_point", &view, &[format])?;
        grain_of("weight_zero_point", &view, parts, &[grain])?;
        scaled.zeros = Some(Numbers::new(view));
    }
    Ok(scaled)
}

/// ModelOpt FP8.
pub(crate) fn model_opt(parts: &Parts<'_>, grain: Grain) -> Result<Scaled> {
    parts.optional("input_scale")?;
    Scaled::new(parts, &[Format::F8E4M3], "weight_scale", &[grain])
}

impl Scaled {
    fn new(parts: &Parts<'_>, formats: &[Format], scale: &str, grains: &[Grain]) -> Result<Scaled> {
        let codes = parts.exact("weight", formats, &[parts.out, parts.inp])?;
        let scales = parts.needed(scale)?;
        check_format(scale, &scales, &[SCALES, &[Format::F8E8M0]].concat())?;
        let (grain, block) = grain_of(scale, &scales, parts, grains)?;
        let name = match (codes.format == Format::I8, grain) {
            (false, Grain::Block(_)) => "FP8 block",
            (false, Grain::Channel) => "FP8 channel",
            (false, Grain::Group(_)) => "FP8 group",
            (false, Grain::Tensor) => "FP8 tensor",
            (true, Grain::Block(_)) => "INT8 block",
            (true, Grain::Channel) => "INT8 channel",
            (true, Grain::Group(_)) => "INT8 group",
            (true, Grain::Tensor) => "INT8 tensor",
        };
        let (format, codes, scales) = (codes.format, codes.bytes, Numbers::new(scales));
        Ok(Scaled { name, format, codes, out: parts.out, inp: parts.inp, block, scales, zeros: None })
    }
}

/// The first of `grains` that the shape of `view` fits, and its block.
fn grain_of(part: &str, view: &TensorView, parts: &Parts<'_>, grains: &[Grain]) -> Result<(Grain, [usize; 2])> {
    let mut shapes: Vec<Vec<usize>> = Vec::new();
    for grain in grains {
        let block = grain.block(parts.out, parts.inp);
        if block.contains(&0) {
            return Err(Error::new(ErrorKind::Config, part, "blocks of at least one element", format!("{block:?}")));
        }
        let [rows, columns] = [parts.out.div_ceil(block[0]), parts.inp.div_ceil(block[1])];
        let mut fitting = vec![vec![rows, columns]];
        match grain {
            Grain::Tensor => fitting.extend([vec![], vec![1]]),
            Grain::Channel => fitting.push(vec![rows]),
            Grain::Block(_) => fitting.push(vec![rows, 1, columns, 1]), // ModelOpt keeps an axis of one inside the block
            Grain::Group(_) => {}
        }
        if fitting.contains(&view.shape) {
            return Ok((*grain, block));
        }
        shapes.extend(fitting);
    }
    let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
    check_shape(part, view, &shapes)?;
    Err(Error::new(ErrorKind::Shape, part, "a shape for its scales", format!("{:?}", view.shape)))
}

impl Packed for Scaled {
    fn name(&self) -> &'static str {
        self.name
    }

    fn out(&self) -> usize {
        self.out
    }

    fn inp(&self) -> usize {
        self.inp
    }

    fn bytes(&self) -> usize {
        self.codes.len() + self.scales.bytes.len() + self.zeros.as_ref().map_or(0, |z| z.bytes.len())
    }

    fn fp8(&self) -> Option<Fp8<'_>> {
        let (codes, scales) = (self.codes.as_slice(), self.scales.slice());
        let plain = self.format == Format::F8E4M3 && self.zeros.is_none();
        plain.then_some(Fp8 { codes, block: self.block, scales, inp: self.inp })
    }

    fn intact(&self) -> bool {
        self.codes.intact() && self.scales.bytes.intact()
    }

    fn forget(&self, rows: Range<usize>) {
        self.codes.forget(rows.start * self.inp..rows.end * self.inp);
    }

    fn decode_rows(&self, rows: Range<usize>, dst: &mut [f32]) {
        let (codes, scales) = (self.codes.as_slice(), self.scales.slice());
        let zeros = self.zeros.as_ref().map(Numbers::slice);
        let per_row = self.inp.div_ceil(self.block[1]);
        for (o, dst) in rows.zip(dst.chunks_exact_mut(self.inp)) {
            (self.format.info().decode)(&codes[o * self.inp..][..self.inp], dst);
            let first = o / self.block[0] * per_row;
            for (g, dst) in dst.chunks_mut(self.block[1]).enumerate() {
                let scale = scales.get(first + g);
                match zeros.map(|z| z.get(first + g)) {
                    None => dst.iter_mut().for_each(|w| *w *= scale),
                    Some(zero) => dst.iter_mut().for_each(|w| *w = (*w - zero) * scale),
                }
            }
        }
    }
}
