//! Weights that safetensors files keep in several tensors: one file a layout, one entry point, [`from_parts`].
//!
//! Owns: which sibling tensors make a weight, their checks, their decoding to f32. Does not own: names of modules
//! (the caller looks siblings up by suffix), reading of files.
mod awq;
mod gptq;
mod method;
mod mxfp4_pairs;
mod nvfp4_pairs;
mod pack_quantized;
mod scaled;

pub use method::{Grain, QuantMethod, Scheme};

use crate::{
    Bytes, Error, ErrorKind, Format, Matrix, Packed, Result, TensorView,
    float::{E4M3, bf16_to_f32, e8m0_to_f32, f16_to_f32},
};
use std::sync::Arc;

/// The weight `[out, inp]` of `module` from its sibling tensors.
///
/// `lookup` gives a sibling by suffix: `weight`, `weight_scale_inv`, `qweight`, … ([`QuantMethod::suffixes`]); for
/// stacked experts the caller's `lookup` gives the slice of one expert, and for MXFP4 (`blocks`, `scales`) the names
/// are joined with `_` in the files. Siblings that say nothing new (`weight_shape`, `input_scale`) are looked up too,
/// so that a caller who records look-ups knows what was consumed.
///
/// A `weight` of plain floats is taken as it is, whatever the configuration says: its presence shows that the tool left
/// it alone. Errors name the sibling or key, what was expected, what was found.
pub fn from_parts(
    method: &QuantMethod,
    module: &str,
    lookup: &dyn Fn(&str) -> Option<TensorView>,
    out: usize,
    inp: usize,
) -> Result<Matrix> {
    let parts = Parts { lookup, out, inp };
    if out == 0 || inp == 0 {
        return Err(Error::new(ErrorKind::Shape, "weight", "a matrix that is not empty", format!("[{out}, {inp}]")));
    }
    if let Some(view) = (lookup)("weight").filter(|v| PLAIN.contains(&v.format)) {
        let shape = format!("{:?}", view.shape);
        let fits = |m: &Matrix| (m.out(), m.inp()) == (out, inp);
        let wrong = || Error::new(ErrorKind::Shape, "weight", format!("[{out}, {inp}]"), shape);
        return Matrix::new(&view).filter(fits).ok_or_else(wrong);
    }
    let weight: Arc<dyn Packed> = match method.scheme(module)? {
        Scheme::Fp8 { block } => Arc::new(scaled::fine_grained(&parts, *block)?),
        Scheme::Scaled { float, grain, symmetric } => Arc::new(scaled::compressed(&parts, *float, *grain, *symmetric)?),
        Scheme::Gptq { bits, group, zero_offset, exact } => {
            Arc::new(gptq::Gptq::new(&parts, *bits, *group, *zero_offset, *exact)?)
        }
        Scheme::Awq { group } => Arc::new(awq::Awq::new(&parts, *group)?),
        Scheme::Mxfp4 => Arc::new(mxfp4_pairs::Mxfp4Pairs::blocks(&parts)?),
        Scheme::Mxfp4Packed => Arc::new(mxfp4_pairs::Mxfp4Pairs::packed(&parts)?),
        Scheme::PackQuantized { bits, grain, symmetric } => {
            Arc::new(pack_quantized::PackQuantized::new(&parts, *bits, *grain, *symmetric)?)
        }
        Scheme::Nvfp4Packed => Arc::new(nvfp4_pairs::Nvfp4Pairs::compressed_tensors(&parts)?),
        Scheme::ModelOptNvfp4 => Arc::new(nvfp4_pairs::Nvfp4Pairs::model_opt(&parts)?),
        Scheme::ModelOptFp8 { grain } => Arc::new(scaled::model_opt(&parts, *grain)?),
    };
    Ok(Matrix::packed(weight))
}

/// Formats that need no scale beside them.
const PLAIN: [Format; 4] = [Format::F64, Format::F32, Format::F16, Format::BF16];

/// Formats that scales are stored in.
const SCALES: &[Format] = &[Format::F32, Format::F16, Format::BF16];

/// The sibling tensors of one weight `[out, inp]`.
pub(crate) struct Parts<'a> {
    lookup: &'a dyn Fn(&str) -> Option<TensorView>,
    pub out: usize,
    pub inp: usize,
}

impl Parts<'_> {
    /// A sibling that need not be there, its number of bytes proven.
    fn optional(&self, part: &str) -> Result<Option<TensorView>> {
        let Some(view) = (self.lookup)(part) else { return Ok(None) };
        let elements = view.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        let bytes = elements.and_then(|n| n.checked_mul(view.format.info().bytes));
        if view.format.info().block != 1 {
            return Err(Error::new(ErrorKind::Format, part, "plain elements", view.format.info().name));
        }
        if bytes != Some(view.bytes.len()) {
            let expected = format!("the bytes of {:?} {}", view.shape, view.format.info().name);
            return Err(Error::new(ErrorKind::Shape, part, expected, format!("{} bytes", view.bytes.len())));
        }
        Ok(Some(view))
    }

    /// A sibling that must be there.
    fn needed(&self, part: &str) -> Result<TensorView> {
        self.optional(part)?
            .ok_or_else(|| Error::new(ErrorKind::Missing, part, "this tensor beside the weight", "none"))
    }

    /// A sibling of one of these formats and of exactly this shape.
    fn exact(&self, part: &str, formats: &[Format], shape: &[usize]) -> Result<TensorView> {
        let view = self.needed(part)?;
        check_format(part, &view, formats)?;
        check_shape(part, &view, &[shape])?;
        Ok(view)
    }

    /// One number, stored without axes or with axes of one.
    fn scalar(&self, part: &str) -> Result<f32> {
        let view = self.needed(part)?;
        check_format(part, &view, SCALES)?;
        check_shape(part, &view, &[&[], &[1], &[1, 1]])?;
        Ok(Numbers::new(view).slice().get(0))
    }

    /// Proves `weight_shape`, where it is there, to say `[out, inp]`.
    fn check_weight_shape(&self) -> Result<()> {
        let Some(view) = self.optional("weight_shape")? else { return Ok(()) };
        check_format("weight_shape", &view, &[Format::I64, Format::I32])?;
        check_shape("weight_shape", &view, &[&[2]])?;
        let size = view.format.info().bytes;
        let value = |b: &[u8]| b.iter().rev().fold(0u64, |v, b| v << 8 | u64::from(*b));
        let stored: Vec<u64> = view.bytes.as_slice().chunks_exact(size).map(value).collect();
        if stored != [self.out as u64, self.inp as u64] {
            let expected = format!("[{}, {}]", self.out, self.inp);
            return Err(Error::new(ErrorKind::Value, "weight_shape", expected, format!("{stored:?}")));
        }
        Ok(())
    }

    /// For each input column its group, below `groups`: the stored table where there is one, else `group` columns each.
    fn group_index(&self, part: &str, group: usize, groups: usize) -> Result<GroupIndex> {
        let Some(_) = self.optional(part)? else { return Ok(GroupIndex::Even(group)) };
        let view = self.exact(part, &[Format::I32], &[self.inp])?;
        let index = view.bytes.as_slice().as_chunks().0.iter().map(|b| i32::from_le_bytes(*b));
        let bad = |g: &i32| usize::try_from(*g).map_or(true, |g| g >= groups);
        if let Some((i, g)) = index.clone().enumerate().find(|(_, g)| bad(g)) {
            return Err(Error::new(
                ErrorKind::Value,
                part,
                format!("groups below {groups}"),
                format!("{g} at column {i}"),
            ));
        }
        if index.enumerate().all(|(i, g)| usize::try_from(g) == Ok(i / group)) {
            return Ok(GroupIndex::Even(group));
        }
        Ok(GroupIndex::Table(view.bytes))
    }
}

/// The group of each input column, proven in range.
enum GroupIndex {
    Even(usize),
    Table(Bytes),
}

impl GroupIndex {
    fn get(&self, i: usize) -> usize {
        match self {
            GroupIndex::Even(group) => i / group,
            GroupIndex::Table(bytes) => word(bytes.as_slice(), i) as usize,
        }
    }

    /// The size of groups that whole runs of `n` columns lie in, if they do.
    fn whole(&self, n: usize) -> Option<usize> {
        match self {
            GroupIndex::Even(group) if group.is_multiple_of(n) => Some(*group),
            _ => None,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            GroupIndex::Even(_) => 0,
            GroupIndex::Table(bytes) => bytes.len(),
        }
    }
}

/// Word `i` of little-endian words.
fn word(bytes: &[u8], i: usize) -> u32 {
    let b = &bytes[4 * i..4 * i + 4];
    u32::from_le_bytes([b[0], b[1], b[2], b[3]])
}

/// The number of groups of `group` columns; one where the configuration gives no size.
fn groups(inp: usize, group: Option<usize>) -> (usize, usize) {
    let group = group.unwrap_or(inp).max(1);
    (group, inp.div_ceil(group))
}

fn check_format(part: &str, view: &TensorView, formats: &[Format]) -> Result<()> {
    if formats.contains(&view.format) {
        return Ok(());
    }
    let names: Vec<&str> = formats.iter().map(|f| f.info().name).collect();
    Err(Error::new(ErrorKind::Format, part, names.join(" or "), view.format.info().name))
}

fn check_shape(part: &str, view: &TensorView, shapes: &[&[usize]]) -> Result<()> {
    if shapes.contains(&&view.shape[..]) {
        return Ok(());
    }
    let expected: Vec<String> = shapes.iter().map(|s| format!("{s:?}")).collect();
    Err(Error::new(ErrorKind::Shape, part, expected.join(" or "), format!("{:?}", view.shape)))
}

/// Scales or zero points as stored.
struct Numbers {
    format: Format,
    bytes: Bytes,
}

impl Numbers {
    fn new(view: TensorView) -> Numbers {
        Numbers { format: view.format, bytes: view.bytes }
    }

    fn slice(&self) -> NumberSlice<'_> {
        NumberSlice { format: self.format, bytes: self.bytes.as_slice() }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct NumberSlice<'a> {
    format: Format,
    bytes: &'a [u8],
}

impl NumberSlice<'_> {
    /// Number `i`, widened to f32.
    pub(crate) fn get(self, i: usize) -> f32 {
        let half = || u16::from_le_bytes([self.bytes[2 * i], self.bytes[2 * i + 1]]);
        match self.format {
            Format::F16 => f16_to_f32(half()),
            Format::BF16 => bf16_to_f32(half()),
            Format::F8E4M3 => E4M3[usize::from(self.bytes[i])],
            Format::F8E8M0 | Format::U8 => e8m0_to_f32(self.bytes[i]),
            Format::I8 => f32::from(self.bytes[i] as i8),
            _ => f32::from_bits(word(self.bytes, i)),
        }
    }
}

/// The values of E2M1; bit 3 is the sign.
const E2M1: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// `dst = (code - zero) · scale` of the codes of a word, lowest first; at most a word's.
fn unpack(word: u32, bits: usize, zero: f32, scale: f32, dst: &mut [f32]) {
    if let (4, Ok(dst)) = (bits, <&mut [f32; 8]>::try_from(&mut *dst)) {
        *dst = std::array::from_fn(|i| (((word >> (4 * i)) & 15) as f32 - zero) * scale);
        return;
    }
    let codes = (0..32 / bits).map(|i| (word >> (i * bits)) & ((1 << bits) - 1));
    dst.iter_mut().zip(codes).for_each(|(w, code)| *w = (code as f32 - zero) * scale);
}

/// `dst = scale · E2M1` of codes two to a byte, the even column low.
fn decode_pairs(codes: &[u8], scale: f32, dst: &mut [f32]) {
    for (w, b) in dst.as_chunks_mut::<2>().0.iter_mut().zip(codes) {
        *w = [E2M1[usize::from(b & 15)] * scale, E2M1[usize::from(b >> 4)] * scale];
    }
}
