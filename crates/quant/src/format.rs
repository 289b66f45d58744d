//! The table of formats. A format is one file plus one line in [`FORMATS`].

/// How an element or block of a stored tensor is encoded.
#[allow(missing_docs)] // the names are the field's own
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    F64, F32, F16, BF16, F8E4M3, F8E5M2, F8E8M0,
    Bool, I8, I16, I32, I64, U8, U16, U32, U64,
    Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q8_1,
    Q2K, Q3K, Q4K, Q5K, Q6K, Q8K,
    Iq2Xxs, Iq2Xs, Iq2S, Iq3Xxs, Iq3S, Iq1S, Iq1M, Iq4Nl, Iq4Xs,
    Tq1_0, Tq2_0, Mxfp4, Nvfp4, Q1_0,
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
    pub decode: fn(src: &[u8], dst: &mut [f32]),
    /// For `Activation::Q8`: the dot product of a row of whole blocks with quantized activations,
    /// exactly as docs/numerics.md says; it continues the FMA chain `acc`.
    pub dot: Option<fn(src: &[u8], x: crate::Q8<'_>, acc: f32) -> f32>,
    /// Fills whole blocks with random codes and finite, plausible scales (weights of standard deviation
    /// about `std`), for benches without a download. `next` gives random 64-bit words.
    pub random: fn(next: &mut dyn FnMut() -> u64, std: f32, dst: &mut [u8]),
}

