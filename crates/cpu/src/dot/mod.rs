//! Integer dot products of block-quantized weights with quantized activations: one file per format, generic over
//! the instruction set. Each equals the format's scalar `dot` in `pondera-quant` to the bit.
//!
//! Does not own: quantizing activations, splitting rows over threads, float formats ([`crate::gemm`]).
use crate::isa::Isa;
use pondera_quant::Format;
use std::ops::Range;

/// Rows of a block format, as stored: row `o` starts at `o · stride`.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// From the first byte of row 0.
    pub bytes: &'a [u8],
    /// Bytes from a row to the next.
    pub stride: usize,
    /// Elements per row.
    pub inp: usize,
}

/// Quantized activations of `n` tokens (see [`pondera_quant::Q8`]).
#[derive(Clone, Copy)]
pub struct Tokens<'a> {
    /// Number of tokens.
    pub n: usize,
    /// Elements per token.
    pub inp: usize,
    /// Codes `[n, inp]`.
    pub q: &'a [i8],
    /// Scales `[n, inp / block]`.
    pub d: &'a [f32],
    /// Sums of 16 codes `[n, inp / 16]`.
    pub sums: &'a [i16],
}

/// Where results go: token `t`, row `o` to `t · stride + o`. Threads write disjoint rows.
#[derive(Clone, Copy)]
pub struct Out {
    /// Of element (0, 0).
    pub ptr: *mut f32,
    /// Elements from a token to the next.
    pub stride: usize,
}

/// Computes the rows `range` for all tokens.
///
/// # Safety
/// The CPU supports the instruction set the kernel was asked for; `out` is valid for writes of those rows of all
/// tokens and nobody else touches them; `rows` holds whole rows up to `range.end`.
pub type Kernel = unsafe fn(rows: Rows<'_>, range: Range<usize>, tokens: Tokens<'_>, out: Out);

/// The kernel of a format on an instruction set; `None` where the format runs through the scalar path.
pub fn kernel(format: Format, isa: Isa) -> Option<Kernel> {
    let _ = (format, isa);
    None
}
