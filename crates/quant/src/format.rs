//! The table of formats. A format is one file plus one line in [`FORMATS`].
use crate::{
    iq1_m, iq1_s, iq2_s, iq2_xs, iq2_xxs, iq3_s, iq3_xxs, iq4_nl, iq4_xs, mxfp4, nvfp4, plain, q1_0, q2_k, q3_k, q4_0,
    q4_1, q4_k, q5_0, q5_1, q5_k, q6_k, q8_0, q8_1, q8_k, tq1_0, tq2_0,
};

/// How an element or block of a stored tensor is encoded.
#[allow(missing_docs)] // the names are the field's own
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    F64,
    F32,
    F16,
    BF16,
    F8E4M3,
    F8E5M2,
    F8E8M0,
    Bool,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Q8K,
    Iq2Xxs,
    Iq2Xs,
    Iq2S,
    Iq3Xxs,
    Iq3S,
    Iq1S,
    Iq1M,
    Iq4Nl,
    Iq4Xs,
    Tq1_0,
    Tq2_0,
    Mxfp4,
    Nvfp4,
    Q1_0,
}

/// What a weight of this format is multiplied with: this belongs to the format, never to the kernel
/// (docs/numerics.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Activations stay f32; the weight is decoded to f32 and one FMA chain runs with k ascending.
    F32,
    /// Activations are quantized to int8 in blocks of this many elements ([`crate::Q8`]); integer dot
    /// products are exact within a block, the float expression per block is the format's `dot`.
    Q8 {
        /// 32 or 256.
        block: usize,
    },
}

/// Whole blocks to f32.
pub type Decode = fn(src: &[u8], dst: &mut [f32]);
/// f32 to whole blocks.
pub type Encode = fn(src: &[f32], dst: &mut [u8]);
/// A row of whole blocks times quantized activations, continuing `acc`.
pub type Dot = fn(src: &[u8], x: crate::Q8<'_>, acc: f32) -> f32;
/// Random blocks from random words.
pub type Random = fn(next: &mut dyn FnMut() -> u64, std: f32, dst: &mut [u8]);

/// One row of [`FORMATS`].
pub struct FormatInfo {
    /// The format.
    pub format: Format,
    /// The name users know: `Q4_K`, `BF16`, `IQ2_XXS`.
    pub name: &'static str,
    /// Type id in GGUF files, where GGUF has it.
    pub gguf_id: Option<u32>,
    /// Dtype name in safetensors headers, where safetensors has it.
    pub safetensors: Option<&'static str>,
    /// Elements per block (1 for plain types).
    pub block: usize,
    /// Bytes per block.
    pub bytes: usize,
    /// What it is multiplied with.
    pub activation: Activation,
    /// Decodes whole blocks to f32: `src.len() / bytes * block == dst.len()`.
    pub decode: Decode,
    /// For `Activation::Q8`: the dot product of a row of whole blocks with quantized activations,
    /// exactly as docs/numerics.md says; it continues the FMA chain `acc`.
    pub dot: Option<Dot>,
    /// Encodes whole blocks, the other way round of `decode`, where this crate can quantize to the format.
    pub encode: Option<Encode>,
    /// Fills whole blocks with random codes and finite, plausible scales (weights of standard deviation
    /// about `std`), for benches without a download. `next` gives random 64-bit words.
    pub random: Random,
}

/// Every format, in the order of [`Format`].
pub static FORMATS: [FormatInfo; 42] = [
    plain::F64,
    plain::F32,
    plain::F16,
    plain::BF16,
    plain::F8E4M3,
    plain::F8E5M2,
    plain::F8E8M0,
    plain::BOOL,
    plain::I8,
    plain::I16,
    plain::I32,
    plain::I64,
    plain::U8,
    plain::U16,
    plain::U32,
    plain::U64,
    q4_0::INFO,
    q4_1::INFO,
    q5_0::INFO,
    q5_1::INFO,
    q8_0::INFO,
    q8_1::INFO,
    q2_k::INFO,
    q3_k::INFO,
    q4_k::INFO,
    q5_k::INFO,
    q6_k::INFO,
    q8_k::INFO,
    iq2_xxs::INFO,
    iq2_xs::INFO,
    iq2_s::INFO,
    iq3_xxs::INFO,
    iq3_s::INFO,
    iq1_s::INFO,
    iq1_m::INFO,
    iq4_nl::INFO,
    iq4_xs::INFO,
    tq1_0::INFO,
    tq2_0::INFO,
    mxfp4::INFO,
    nvfp4::INFO,
    q1_0::INFO,
];

impl Format {
    /// Its row of [`FORMATS`].
    pub fn info(self) -> &'static FormatInfo {
        &FORMATS[self as usize]
    }

    /// Stored bytes of `n` elements; `None` where `n` is no whole number of blocks or the size overflows.
    pub fn row_bytes(self, n: usize) -> Option<usize> {
        let i = self.info();
        if n.is_multiple_of(i.block) { (n / i.block).checked_mul(i.bytes) } else { None }
    }

    /// The format with this GGUF type id.
    pub fn from_gguf(id: u32) -> Option<Format> {
        FORMATS.iter().find(|f| f.gguf_id == Some(id)).map(|f| f.format)
    }

    /// The format with this safetensors dtype.
    pub fn from_safetensors(dtype: &str) -> Option<Format> {
        FORMATS.iter().find(|f| f.safetensors == Some(dtype)).map(|f| f.format)
    }
}
