//! The innermost loop of products with many tokens on AVX-512: two vectors of weights times up to twelve broadcast
//! activations a step, in 24 accumulators.
//!
//! ```text
//! zmm 0 … 23   accumulators: token n in 2n (rows 0 … 15) and 2n + 1 (rows 16 … 31)
//! zmm 24, 25   weights of this step           zmm 26, 27   broadcast activations, in turn
//! zmm 28, 29   scales of the sub-block
//! ```
//! It is written out, since compilers gather the broadcasts at the top of the loop and then lack registers: that halves
//! the speed. 14 loads for 24 products a step keep both ports for products busy.
//!
//! Does not own: what is multiplied ([`crate::gemm`], [`crate::packed`]).
use super::Avx512;
use std::arch::asm;

/// Most tokens of a call.
pub const TOKENS: usize = 12;

/// The lines of all tokens: `$do` gets the numbers of the two accumulators and the address of the activation.
macro_rules! tokens {
    ($do:ident 1) => { $do!("0", "1", "{x0}") };
    ($do:ident 2) => { concat!(tokens!($do 1), $do!("2", "3", "{x0} + {ldx}")) };
    ($do:ident 3) => { concat!(tokens!($do 2), $do!("4", "5", "{x0} + 2*{ldx}")) };
    ($do:ident 4) => { concat!(tokens!($do 3), $do!("6", "7", "{x3}")) };
    ($do:ident 5) => { concat!(tokens!($do 4), $do!("8", "9", "{x3} + {ldx}")) };
    ($do:ident 6) => { concat!(tokens!($do 5), $do!("10", "11", "{x3} + 2*{ldx}")) };
    ($do:ident 7) => { concat!(tokens!($do 6), $do!("12", "13", "{x6}")) };
    ($do:ident 8) => { concat!(tokens!($do 7), $do!("14", "15", "{x6} + {ldx}")) };
    ($do:ident 9) => { concat!(tokens!($do 8), $do!("16", "17", "{x6} + 2*{ldx}")) };
    ($do:ident 10) => { concat!(tokens!($do 9), $do!("18", "19", "{x9}")) };
    ($do:ident 11) => { concat!(tokens!($do 10), $do!("20", "21", "{x9} + {ldx}")) };
    ($do:ident 12) => { concat!(tokens!($do 11), $do!("22", "23", "{x9} + 2*{ldx}")) };
}

macro_rules! zero {
    ($a:literal, $b:literal, $x:literal) => {
        concat!("vpxord zmm", $a, ", zmm", $a, ", zmm", $a, "\n", "vpxord zmm", $b, ", zmm", $b, ", zmm", $b, "\n")
    };
}

macro_rules! load {
    ($a:literal, $b:literal, $x:literal) => {
        concat!("vmovups zmm", $a, ", [{from}]\n", "vmovups zmm", $b, ", [{from} + 64]\n", "add {from}, {ldy}\n")
    };
}

macro_rules! start {
    ($a:literal, $b:literal, $x:literal) => {
        concat!(
            "vpbroadcastd zmm", $a, ", [{start}]\n",
            "vmovdqa64 zmm", $b, ", zmm", $a, "\n",
            "add {start}, {lds}\n",
        )
    };
}

macro_rules! fma {
    ($a:literal, $b:literal, $x:literal) => {
        concat!(
            "vbroadcastss zmm26, [",
            $x,
            "]\n",
            "vfmadd231ps zmm",
            $a,
            ", zmm24, zmm26\n",
            "vfmadd231ps zmm",
            $b,
            ", zmm25, zmm26\n",
        )
    };
}

macro_rules! dot {
    ($a:literal, $b:literal, $x:literal) => {
        concat!(
            "vpbroadcastd zmm26, [",
            $x,
            "]\n",
            "vpdpbusd zmm",
            $a,
            ", zmm24, zmm26\n",
            "vpdpbusd zmm",
            $b,
            ", zmm25, zmm26\n",
        )
    };
}

macro_rules! store {
    ($a:literal, $b:literal, $x:literal) => {
        concat!("vmovups [{to}], zmm", $a, "\n", "vmovups [{to} + 64], zmm", $b, "\n", "add {to}, {ldy}\n")
    };
}

macro_rules! put {
    ($a:literal, $b:literal, $x:literal) => {
        concat!("vmovups [{to}], zmm", $a, "\n", "vmovups [{to} + 64], zmm", $b, "\n", "add {to}, 128\n")
    };
}

macro_rules! add_floats {
    ($a:literal, $b:literal, $x:literal) => {
        concat!(
            "vcvtdq2ps zmm",
            $a,
            ", zmm",
            $a,
            "\n",
            "vcvtdq2ps zmm",
            $b,
            ", zmm",
            $b,
            "\n",
            "vfmadd213ps zmm",
            $a,
            ", zmm28, [{to}]\n",
            "vfmadd213ps zmm",
            $b,
            ", zmm29, [{to} + 64]\n",
            put!($a, $b, $x),
        )
    };
}

macro_rules! chain {
    ($a:literal, $b:literal, $x:literal) => {
        concat!(
            "vbroadcastss zmm26, [{dx}]\n",
            "add {dx}, {lds}\n",
            "vmulps zmm24, zmm28, zmm26\n",
            "vmulps zmm25, zmm29, zmm26\n",
            "vcvtdq2ps zmm",
            $a,
            ", zmm",
            $a,
            "\n",
            "vcvtdq2ps zmm",
            $b,
            ", zmm",
            $b,
            "\n",
            "vfmadd213ps zmm",
            $a,
            ", zmm24, [{to}]\n",
            "vfmadd213ps zmm",
            $b,
            ", zmm25, [{to} + 64]\n",
            put!($a, $b, $x),
        )
    };
}

macro_rules! add_words {
    ($a:literal, $b:literal, $x:literal) => {
        concat!(
            "vpmulld zmm",
            $a,
            ", zmm",
            $a,
            ", zmm28\n",
            "vpmulld zmm",
            $b,
            ", zmm",
            $b,
            ", zmm29\n",
            "vpaddd zmm",
            $a,
            ", zmm",
            $a,
            ", [{to}]\n",
            "vpaddd zmm",
            $b,
            ", zmm",
            $b,
            ", [{to} + 64]\n",
            put!($a, $b, $x),
        )
    };
}

/// The loop: `$n` tokens, begun by `$begin`, each step `$step`, ended by `$end`, with further operands.
macro_rules! steps {
    ($n:tt, $o:ident, $begin:ident, $step:ident, $ldw:literal, $next:literal, $end:ident, $before:literal, $($operand:tt)*) => {
        asm!(
            tokens!($begin $n),
            "lea {x3}, [{x0} + 2*{ldx}]",
            "add {x3}, {ldx}",
            "lea {x6}, [{x3} + 2*{ldx}]",
            "add {x6}, {ldx}",
            "lea {x9}, [{x6} + 2*{ldx}]",
            "add {x9}, {ldx}",
            "2:",
            "vmovups zmm24, [{w}]",
            "vmovups zmm25, [{w} + 64]",
            tokens!($step $n),
            concat!("add {w}, ", $ldw),
            concat!("add {x0}, ", $next),
            concat!("add {x3}, ", $next),
            concat!("add {x6}, ", $next),
            concat!("add {x9}, ", $next),
            "dec {steps}",
            "jnz 2b",
            $before,
            tokens!($end $n),
            x0 = inout(reg) $o.x => _,
            x3 = out(reg) _,
            x6 = out(reg) _,
            x9 = out(reg) _,
            ldx = in(reg) $o.ldx,
            w = inout(reg) $o.w => _,
            steps = inout(reg) $o.steps => _,
            $($operand)*
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm5") _,
            out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
            out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _, out("zmm16") _, out("zmm17") _,
            out("zmm18") _, out("zmm19") _, out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _,
            out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm28") _, out("zmm29") _,
            options(nostack),
        )
    };
}

/// `$call` for the number of tokens at hand.
macro_rules! by_tokens {
    ($n:expr, $call:ident) => {
        match $n {
            1 => $call!(1),
            2 => $call!(2),
            3 => $call!(3),
            4 => $call!(4),
            5 => $call!(5),
            6 => $call!(6),
            7 => $call!(7),
            8 => $call!(8),
            9 => $call!(9),
            10 => $call!(10),
            11 => $call!(11),
            _ => $call!(12),
        }
    };
}

/// What the loop reads.
#[derive(Clone, Copy)]
pub struct Operands {
    /// Two vectors of weights a step.
    pub w: *const u8,
    /// Activations: four bytes a step of each token, in [`dot`] one after another.
    pub x: *const u8,
    /// Bytes from a token to the next.
    pub ldx: usize,
    /// At least 1.
    pub steps: usize,
}

/// Continues chains of floats: `y[n][32] = fma(w[k][32], x[n][k], y[n][32])`, k ascending, from 0 on where `first`. Weights of
/// a step lie `ldw` bytes after those of the one before, activations `next` bytes.
///
/// # Safety
/// `tokens` (1 to [`TOKENS`]) rows at `y`, `ldy` bytes apart, are valid for 32 floats each; the operands for all steps.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub unsafe fn fma(
    _: Avx512,
    tokens: usize,
    o: Operands,
    ldw: usize,
    next: usize,
    y: *mut f32,
    ldy: usize,
    first: bool,
) {
    macro_rules! fresh {
        ($n:tt) => {
            steps!(
                $n, o, zero, fma, "{ldw}", "{next}", store, "",
                ldw = in(reg) ldw, next = in(reg) next, to = inout(reg) y => _, ldy = in(reg) ldy,
            )
        };
    }
    macro_rules! more {
        ($n:tt) => {
            steps!(
                $n, o, load, fma, "{ldw}", "{next}", store, "",
                ldw = in(reg) ldw, next = in(reg) next,
                from = inout(reg) y => _, to = inout(reg) y => _, ldy = in(reg) ldy,
            )
        };
    }
    // SAFETY: the token proves AVX-512 F; memory by the caller's promise.
    unsafe { if first { by_tokens!(tokens, fresh) } else { by_tokens!(tokens, more) } }
}

/// What becomes of the integer sums of a sub-block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Into {
    /// Times a scale of the token (`dx`) and those of the rows (two vectors of floats), added to the floats there: one step
    /// of their chains.
    Chains(*const f32),
    /// Times the scales (two vectors of words), added to the words there.
    ScaledWords,
    /// Times the scales (two vectors of floats) by fma, added to the floats there.
    ScaledFloats,
}

/// Where integer sums of sub-blocks begin and end.
#[derive(Clone, Copy)]
pub struct Sums {
    /// What becomes of them.
    pub into: Into,
    /// The words they begin at, one a token; null for 0.
    pub start: *const i32,
    /// Bytes from a token to the next in `start` and in the scales of [`Into::Chains`].
    pub lds: usize,
    /// Two vectors of scales.
    pub scales: *const u8,
    /// `[tokens][32]`.
    pub to: *mut u8,
}

/// Sums of products of unsigned bytes `w` and signed bytes `x`.
///
/// # Safety
/// The CPU has VNNI; `tokens` is 1 to [`TOKENS`], and all is valid for so many and for all steps.
#[inline(always)]
pub unsafe fn dot(_: Avx512, tokens: usize, o: Operands, sums: Sums) {
    let Sums { into, start, lds, scales, to } = sums;
    macro_rules! run {
        ($begin:ident, $end:ident, $n:tt, $($operand:tt)*) => {
            steps!(
                $n, o, $begin, dot, "128", "4", $end, "vmovups zmm28, [{s}]\nvmovups zmm29, [{s} + 64]",
                to = inout(reg) to => _, s = in(reg) scales, $($operand)*
            )
        };
    }
    macro_rules! words {
        ($n:tt) => {
            run!(zero, add_words, $n,)
        };
    }
    macro_rules! words_from {
        ($n:tt) => { run!(start, add_words, $n, start = inout(reg) start => _, lds = in(reg) lds,) };
    }
    macro_rules! floats {
        ($n:tt) => {
            run!(zero, add_floats, $n,)
        };
    }
    macro_rules! floats_from {
        ($n:tt) => { run!(start, add_floats, $n, start = inout(reg) start => _, lds = in(reg) lds,) };
    }
    // SAFETY: VNNI and memory by the caller's promise.
    unsafe {
        match (into, start.is_null()) {
            (Into::Chains(dx), true) => {
                macro_rules! chains {
                    ($n:tt) => { run!(zero, chain, $n, dx = inout(reg) dx => _, lds = in(reg) lds,) };
                }
                by_tokens!(tokens, chains)
            }
            (Into::Chains(dx), false) => {
                macro_rules! chains_from {
                    ($n:tt) => {
                        run!(
                            start, chain, $n,
                            dx = inout(reg) dx => _, start = inout(reg) start => _, lds = in(reg) lds,
                        )
                    };
                }
                by_tokens!(tokens, chains_from)
            }
            (Into::ScaledWords, true) => by_tokens!(tokens, words),
            (Into::ScaledWords, false) => by_tokens!(tokens, words_from),
            (Into::ScaledFloats, true) => by_tokens!(tokens, floats),
            (Into::ScaledFloats, false) => by_tokens!(tokens, floats_from),
        }
    }
}
