//! compressed-tensors `pack-quantized`: integer codes in words along the input, scales (and zero points) per group of
//! columns, per row or for all: `w = (code - zero) · scale`.
//!
//! ```text
//! weight_packed     [out, ceil(inp / n)] i32   n = 32 / bits codes a word, first lowest, stored + 2^(bits - 1)
//! weight_scale      [out, groups]
//! weight_zero_point [ceil(out / n), groups] i32, packed along the outputs and biased like the codes; or i8 [out, groups]
//! weight_g_idx      [inp] i32, optional: group of each column
//! weight_shape      [2]: out, inp
//! ```
use super::{Grain, GroupIndex, Numbers, Parts, SCALES, check_format, check_shape, unpack, word};
use crate::{Bytes, Error, ErrorKind, Format, Packed, Result};
use std::ops::Range;

/// Codes in words with scales.
pub(crate) struct PackQuantized {
    bits: usize,
    codes: Bytes,
    scales: Numbers,
    zeros: Zeros,
    index: GroupIndex,
    /// Scales per row; 0 where one scale serves all.
    groups: usize,
    out: usize,
    inp: usize,
}

enum Zeros {
    None,
    Packed(Bytes),
    Plain(Bytes),
}

impl PackQuantized {
    /// `bits` is 1 … 8.
    pub(crate) fn new(parts: &Parts<'_>, bits: usize, grain: Grain, symmetric: bool) -> Result<PackQuantized> {
        let (out, inp) = (parts.out, parts.inp);
        parts.check_weight_shape()?;
        let per_word = 32 / bits;
        let codes = parts.exact("weight_packed", &[Format::I32], &[out, inp.div_ceil(per_word)])?.bytes;
        let (group, groups) = match grain {
            Grain::Tensor => (inp, 0),
            Grain::Channel => (inp, 1),
            Grain::Group(group) => (group.max(1), inp.div_ceil(group.max(1))),
            Grain::Block(block) => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "quantization_config.config_groups.weights.strategy",
                    "tensor, channel or group for packed integers",
                    format!("block {block:?}"),
                ));
            }
        };
        let scales = parts.needed("weight_scale")?;
        check_format("weight_scale", &scales, SCALES)?;
        match grain {
            Grain::Tensor => check_shape("weight_scale", &scales, &[&[1], &[], &[1, 1]])?,
            Grain::Channel => check_shape("weight_scale", &scales, &[&[out, 1], &[out]])?,
            _ => check_shape("weight_scale", &scales, &[&[out, groups]])?,
        }
        let zeros = zero_points(parts, per_word, groups, symmetric)?;
        let index = parts.group_index("weight_g_idx", group, groups.max(1))?;
        Ok(PackQuantized { bits, codes, scales: Numbers::new(scales), zeros, index, groups, out, inp })
    }

    /// Zero point of a group of row `o`, biased as the codes are.
    fn zero(&self, o: usize, g: usize) -> f32 {
        let (per_word, bias) = (32 / self.bits, 1i16 << (self.bits - 1));
        f32::from(match &self.zeros {
            Zeros::None => bias,
            Zeros::Plain(bytes) => bias + i16::from(bytes.as_slice()[self.scale_index(o, g)] as i8),
            Zeros::Packed(bytes) => {
                let stored = word(bytes.as_slice(), o / per_word * self.groups + g) >> (o % per_word * self.bits);
                (stored & ((1 << self.bits) - 1)) as i16
            }
        })
    }

    fn scale_index(&self, o: usize, g: usize) -> usize {
        if self.groups == 0 { 0 } else { o * self.groups + g }
    }
}

fn zero_points(parts: &Parts<'_>, per_word: usize, groups: usize, symmetric: bool) -> Result<Zeros> {
    const PART: &str = "weight_zero_point";
    let Some(view) = parts.optional(PART)? else {
        return if symmetric { Ok(Zeros::None) } else { parts.needed(PART).map(|_| Zeros::None) };
    };
    check_format(PART, &view, &[Format::I32, Format::I8])?;
    if view.format == Format::I8 {
        let rows = if groups == 0 { 1 } else { parts.out };
        check_shape(PART, &view, &[&[rows, groups.max(1)], if groups == 0 { &[1] } else { &[usize::MAX] }])?;
        return Ok(Zeros::Plain(view.bytes));
    }
    check_shape(PART, &view, &[&[parts.out.div_ceil(per_word), groups]])?;
    Ok(Zeros::Packed(view.bytes))
}

impl Packed for PackQuantized {
    fn name(&self) -> &'static str {
        match self.bits {
            1 => "packed INT1",
            2 => "packed INT2",
            3 => "packed INT3",
            4 => "packed INT4",
            5 => "packed INT5",
            6 => "packed INT6",
            7 => "packed INT7",
            _ => "packed INT8",
        }
    }

    fn out(&self) -> usize {
        self.out
    }

    fn inp(&self) -> usize {
        self.inp
    }

    fn bytes(&self) -> usize {
        let zeros = match &self.zeros {
            Zeros::None => 0,
            Zeros::Packed(b) | Zeros::Plain(b) => b.len(),
        };
        self.codes.len() + self.scales.bytes.len() + zeros + self.index.bytes()
    }

    fn decode_rows(&self, rows: Range<usize>, dst: &mut [f32]) {
        let per_word = 32 / self.bits;
        let per_row = 4 * self.inp.div_ceil(per_word);
        // Columns that surely share a group: those of a word, or one.
        let run = if self.index.whole(per_word).is_some() { per_word } else { 1 };
        let scales = self.scales.slice();
        for (o, dst) in rows.zip(dst.chunks_exact_mut(self.inp)) {
            let codes = &self.codes.as_slice()[o * per_row..][..per_row];
            let (mut group, mut zero, mut scale) = (usize::MAX, 0.0, 0.0);
            for (r, dst) in dst.chunks_mut(run).enumerate() {
                let i = r * run;
                let g = self.index.get(i);
                if g != group {
                    group = g;
                    (zero, scale) = (self.zero(o, g), scales.get(self.scale_index(o, g)));
                }
                unpack(word(codes, i / per_word) >> (i % per_word * self.bits), self.bits, zero, scale, dst);
            }
        }
    }
}
