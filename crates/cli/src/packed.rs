//! Weights that a quantization tool keeps in several tensors, found by their names: what `convert` writes as one.
//!
//! Owns: which tensors of a repository belong together and what shape the weight has. Does not own: the layouts'
//! arithmetic (`pondera-quant`).
use crate::error::{Error, Result};
use pondera_quant::{
    Format, Matrix, TensorView,
    packed::{QuantMethod, Scheme, from_parts},
};
use pondera_weights::{TensorInfo, Weights};
use serde_json::Value;
use std::collections::HashSet;

/// A tensor to be written.
pub enum Entry<'a> {
    /// As it is stored.
    Stored(&'a TensorInfo),
    /// One weight of several tensors.
    Packed {
        /// The name that the weight had before it was packed.
        name: String,
        /// `[out, inp]`.
        matrix: Matrix,
    },
    /// Experts in one tensor, as gpt-oss has them: written `[experts, inp, out]`.
    Stack {
        /// The name that the stack had before it was packed.
        name: String,
        /// `[out, inp]` each.
        experts: Vec<Matrix>,
    },
}

impl Entry<'_> {
    /// Its name in the new file.
    pub fn name(&self) -> &str {
        match self {
            Entry::Stored(t) => &t.name,
            Entry::Packed { name, .. } | Entry::Stack { name, .. } => name,
        }
    }

    /// Its shape in the new file.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Entry::Stored(t) => t.shape.to_vec(),
            Entry::Packed { matrix, .. } => vec![matrix.out(), matrix.inp()],
            Entry::Stack { experts, .. } => {
                vec![experts.len(), experts.first().map_or(0, Matrix::inp), experts.first().map_or(0, Matrix::out)]
            }
        }
    }
}

/// The part that tells how a module is packed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Main {
    Qweight,
    WeightPacked,
    Weight,
    Blocks,
}

/// What `weights` hold, packed weights put together as `config` (and `hf_quant_config.json`) says.
pub fn entries<'a>(weights: &'a Weights, config: &Value, own: Option<&Value>) -> Result<Vec<Entry<'a>>> {
    let method = QuantMethod::from_config(config, own)?;
    let Some(method) = method else { return Ok(weights.tensors().iter().map(Entry::Stored).collect()) };
    let mut parts = HashSet::new();
    let mut found = Vec::new();
    for t in weights.tensors() {
        let Some((module, main)) = main_part(t) else { continue };
        found.push(entry(weights, &method, module, main, t)?);
        let joint = if main == Main::Blocks { '_' } else { '.' };
        parts.extend(method.suffixes().iter().map(|s| format!("{module}{joint}{s}")));
    }
    found.extend(weights.tensors().iter().filter(|t| !parts.contains(&*t.name)).map(Entry::Stored));
    found.sort_by(|a, b| a.name().cmp(b.name()));
    Ok(found)
}

/// The module that a tensor is the main part of.
fn main_part(t: &TensorInfo) -> Option<(&str, Main)> {
    use Format::{F8E4M3, I8, U8};
    let ends = |e: &str| t.name.strip_suffix(e);
    if let Some(m) = ends(".qweight") {
        return Some((m, Main::Qweight));
    }
    if let Some(m) = ends(".weight_packed") {
        return Some((m, Main::WeightPacked));
    }
    if let Some(m) = ends("_blocks") {
        return Some((m, Main::Blocks));
    }
    ends(".weight").filter(|_| matches!(t.format, F8E4M3 | I8 | U8)).map(|m| (m, Main::Weight))
}

fn entry<'a>(weights: &Weights, method: &QuantMethod, module: &str, main: Main, t: &TensorInfo) -> Result<Entry<'a>> {
    if main == Main::Blocks {
        return stack(weights, method, module, t);
    }
    let name = format!("{module}.weight");
    let (out, inp) = size(weights, method.scheme(module)?, module, t)?;
    let lookup = |part: &str| weights.get(&format!("{module}.{part}")).ok();
    let matrix = from_parts(method, module, &lookup, out, inp).map_err(|e| about(module, &e))?;
    Ok(Entry::Packed { name, matrix })
}

/// `[out, inp]` of a weight, from the shape of its main part.
fn size(weights: &Weights, scheme: &Scheme, module: &str, t: &TensorInfo) -> Result<(usize, usize)> {
    let [rows, cols] = t.shape[..] else {
        return Err(Error::file(format!("{}: expected a matrix, got {} dimensions", t.name, t.shape.len()))
            .hint("stacked weights of this layout cannot be converted yet"));
    };
    // Codes of `bits` bits in words of 32.
    let codes = |words: usize, bits: usize| words.saturating_mul(32) / bits.max(1);
    Ok(match scheme {
        Scheme::Gptq { bits, .. } => (cols, codes(rows, *bits)),
        Scheme::Awq { .. } => (codes(cols, 4), rows),
        Scheme::PackQuantized { bits, .. } => match stated_shape(weights, module)? {
            Some(shape) => shape,
            None => (rows, codes(cols, *bits)),
        },
        Scheme::Nvfp4Packed | Scheme::Mxfp4Packed | Scheme::ModelOptNvfp4 => (rows, cols.saturating_mul(2)),
        Scheme::Fp8 { .. } | Scheme::Scaled { .. } | Scheme::ModelOptFp8 { .. } | Scheme::Mxfp4 => (rows, cols),
    })
}

/// `weight_shape`: two integers, where the tool wrote them.
fn stated_shape(weights: &Weights, module: &str) -> Result<Option<(usize, usize)>> {
    let name = format!("{module}.weight_shape");
    if !weights.contains(&name) {
        return Ok(None);
    }
    let view = weights.get(&name)?;
    let info = view.format.info();
    let mut values = vec![0f32; view.bytes.len() / info.bytes.max(1)];
    (info.decode)(view.bytes.as_slice(), &mut values);
    match values[..] {
        // Exact in f32 up to 2^24; no matrix of a model is wider.
        [out, inp] if out >= 1.0 && inp >= 1.0 && out.max(inp) < 16_777_216.0 => Ok(Some((out as usize, inp as usize))),
        _ => Err(Error::file(format!("{name}: expected two sizes"))),
    }
}

/// gpt-oss: `blocks` [experts, out, groups, 16], `scales` [experts, out, groups].
fn stack<'a>(weights: &Weights, method: &QuantMethod, module: &str, t: &TensorInfo) -> Result<Entry<'a>> {
    let [experts, out, groups, 16] = t.shape[..] else {
        return Err(Error::file(format!("{}: expected [experts, out, groups, 16], got {:?}", t.name, t.shape)));
    };
    let inp = groups.saturating_mul(32);
    let one = |e: usize| {
        let lookup = |part: &str| slice(&weights.get(&format!("{module}_{part}")).ok()?, experts, e);
        from_parts(method, module, &lookup, out, inp).map_err(|err| about(module, &err))
    };
    Ok(Entry::Stack { name: module.to_string(), experts: (0..experts).map(one).collect::<Result<_>>()? })
}

/// Expert `e` of a stacked part.
fn slice(view: &TensorView, experts: usize, e: usize) -> Option<TensorView> {
    let (first, rest) = view.shape.split_first()?;
    let each = view.bytes.len().checked_div(experts).filter(|_| *first == experts)?;
    let bytes = view.bytes.slice(e.checked_mul(each)?..e.checked_add(1)?.checked_mul(each)?)?;
    Some(TensorView { format: view.format, shape: rest.to_vec(), bytes })
}

fn about(module: &str, e: &pondera_quant::Error) -> Error {
    Error::file(format!("{module}: {e}")).hint("the files and quantization_config contradict each other")
}
