//! Integer dot products of block-quantized weights with quantized activations: one file per format.
//! Each equals the format's scalar `dot` in `pondera-quant` to the bit.
//!
//! Does not own: quantizing activations, splitting rows over threads, float formats ([`crate::gemm`]).
#[cfg(target_arch = "x86_64")]
use crate::isa::has_avx512_vnni;
use crate::{isa::Isa, tiled::CodeTiles};
use pondera_quant::Format;
use std::ops::Range;

#[cfg(target_arch = "x86_64")]
mod q4_0;
#[cfg(target_arch = "x86_64")]
mod q4_k;
#[cfg(target_arch = "x86_64")]
mod q5_k;
#[cfg(target_arch = "x86_64")]
mod q6_k;
#[cfg(target_arch = "x86_64")]
mod q8_0;
#[cfg(target_arch = "x86_64")]
mod tile;
#[cfg(target_arch = "x86_64")]
mod vnni;

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
    /// The codes of many tokens once more, as AMX reads them ([`crate::tiled::CodeTiles`]).
    pub tiles: Option<CodeTiles>,
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
#[cfg(target_arch = "x86_64")]
pub fn kernel(format: Format, isa: Isa) -> Option<Kernel> {
    match isa {
        Isa::Avx2 => avx2(format),
        Isa::Avx512 | Isa::Amx if has_avx512_vnni() => avx512_vnni(format),
        // The 256-bit kernels: every AVX-512 machine runs them, with the same bits.
        Isa::Avx512 | Isa::Amx => avx2(format),
        _ => None,
    }
}

#[cfg(target_arch = "x86_64")]
fn avx2(format: Format) -> Option<Kernel> {
    Some(match format {
        Format::Q8_0 => tile::run::<q8_0::Q8_0>,
        Format::Q4_0 => tile::run::<q4_0::Q4_0>,
        Format::Q4K => tile::run::<q4_k::Q4K>,
        Format::Q5K => tile::run::<q5_k::Q5K>,
        Format::Q6K => tile::run::<q6_k::Q6K>,
        _ => return None,
    })
}

#[cfg(target_arch = "x86_64")]
fn avx512_vnni(format: Format) -> Option<Kernel> {
    use vnni::Vnni;
    Some(match format {
        Format::Q8_0 => tile::run_vnni::<Vnni<q8_0::Q8_0>>,
        Format::Q4_0 => tile::run_vnni::<Vnni<q4_0::Q4_0>>,
        Format::Q4K => tile::run_vnni::<Vnni<q4_k::Q4K>>,
        Format::Q5K => tile::run_vnni::<Vnni<q5_k::Q5K>>,
        Format::Q6K => tile::run_vnni::<Vnni<q6_k::Q6K>>,
        _ => return None,
    })
}

/// The kernel of a format on an instruction set; `None` where the format runs through the scalar path.
#[cfg(not(target_arch = "x86_64"))]
pub fn kernel(_: Format, _: Isa) -> Option<Kernel> {
    None
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use pondera_quant::{Activation, Q8};

    /// SplitMix64.
    fn rng(mut s: u64) -> impl FnMut() -> u64 {
        move || {
            s = s.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = s;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }
    }

    /// Every format with a kernel, against the scalar dot product: all tails of rows and tokens, a stride wider than
    /// the row, extreme codes and scales, unaligned bytes.
    #[test]
    fn kernels_equal_the_scalar_dot_to_the_bit() {
        if !std::is_x86_feature_detected!("avx2") {
            return;
        }
        for isa in [Isa::Avx2, Isa::Avx512, Isa::Amx] {
            if !isa.supported() {
                continue;
            }
            for info in &pondera_quant::FORMATS {
                let Some(kernel) = kernel(info.format, isa) else { continue };
                let Activation::Q8 { block } = info.activation else {
                    panic!("{}: no quantized activations", info.name)
                };
                let dot = info.dot.expect("a scalar dot");
                for (case, (out, blocks, n)) in
                    [(1, 1, 1), (3, 2, 1), (4, 1, 4), (5, 3, 5), (37, 2, 9), (8, 9, 3), (33, 1, 2)]
                        .into_iter()
                        .enumerate()
                {
                    let inp = blocks * info.block.max(block);
                    let mut next = rng(case as u64 + 17);
                    let row = info.format.row_bytes(inp).unwrap();
                    let stride = row + 3 * (case % 2);
                    let mut bytes = vec![0u8; out * stride + 1];
                    for o in 0..out {
                        let dst = &mut bytes[1 + o * stride..][..row];
                        (info.random)(&mut next, 0.02, dst);
                        if o % 3 == 2 {
                            // All codes at their ends; the scales stay finite.
                            let keep = dst.to_vec();
                            let fill = if next().is_multiple_of(2) { 0xff } else { 0x80 };
                            dst.fill(fill);
                            let scales: &[usize] = match info.format {
                                Format::Q6K => &[208, 209],
                                Format::Q4K | Format::Q5K => &[0, 1, 2, 3],
                                _ => &[0, 1],
                            };
                            for b in 0..inp / info.block {
                                scales.iter().for_each(|s| dst[b * info.bytes + s] = keep[b * info.bytes + s]);
                            }
                        }
                    }
                    let x: Vec<f32> = (0..n * inp)
                        .map(|i| match (i / inp) % 3 {
                            0 => (next() as i32) as f32 / 1e9,
                            1 => {
                                if next().is_multiple_of(2) {
                                    1.0
                                } else {
                                    -1.0
                                }
                            }
                            _ => 0.0,
                        })
                        .collect();
                    let (mut q, mut d, mut sums) =
                        (vec![0i8; n * inp], vec![0f32; n * inp / block], vec![0i16; n * inp / 16]);
                    Q8::quantize(block, &x, &mut q, &mut d, &mut sums);
                    let rows = Rows { bytes: &bytes[1..], stride, inp };
                    let tokens = Tokens { n, inp, q: &q, d: &d, sums: &sums, tiles: None };
                    let mut y = vec![f32::NAN; n * out];
                    let middle = out / 2;
                    for range in [0..middle, middle..out] {
                        // SAFETY: supported() was asked; y holds n · out values; bytes hold all rows.
                        unsafe { kernel(rows, range, tokens, Out { ptr: y.as_mut_ptr(), stride: out }) };
                    }
                    for t in 0..n {
                        for o in 0..out {
                            let x = Q8 {
                                block,
                                q: &q[t * inp..][..inp],
                                d: &d[t * inp / block..][..inp / block],
                                sums: &sums[t * inp / 16..][..inp / 16],
                            };
                            let want = dot(&bytes[1 + o * stride..][..row], x, 0.0);
                            let got = y[t * out + o];
                            assert_eq!(
                                want.to_bits(),
                                got.to_bits(),
                                "{} case {case} row {o} token {t}: {want} {got}",
                                info.name
                            );
                        }
                    }
                }
            }
        }
    }
}
