//! The innermost loop of integer products with up to six tokens on AVX-512, whose sums stay in registers over all
//! sub-blocks of 32 weights: for CPUs that do 512 bits in two halves on four ports, of which two multiply-add.
//!
//! ```text
//! zmm 0 … 11    sums of a sub-block: token n in 2n (rows 0 … 15) and 2n + 1 (rows 16 … 31)
//! zmm 12 … 23   what they join into: words of a block, or the chains of floats
//! zmm 24, 25    weights of this step          zmm 26, 27, 28   broadcasts and scales
//! ```
//! Scales go by `vpmulld` and `vpaddd`, which run beside the products on the other two ports; through memory, as
//! [`super::outer`] has it, two vectors wait for the one port that stores. It is written out since compilers spill.
//!
//! Does not own: what is multiplied ([`crate::packed`]).
use super::Avx512;
use std::arch::asm;

/// Most tokens of a call.
pub const TOKENS: usize = 6;

/// The lines of all tokens: `$do` gets the two sums, the two vectors that they join into, the addresses of activations, of
/// starts (or minima) and of scales, and the place in memory of the results.
macro_rules! tokens {
    ($do:ident 1 $($a:tt)*) => { $do!(["0" "1" "12" "13" "{x}" "{st}" "{d}" "0" "64"] $($a)*) };
    ($do:ident 2 $($a:tt)*) => {
        concat!(tokens!($do 1 $($a)*),
            $do!(["2" "3" "14" "15" "{x} + {ldx}" "{st} + {lds}" "{d} + {lds}" "128" "192"] $($a)*))
    };
    ($do:ident 3 $($a:tt)*) => {
        concat!(tokens!($do 2 $($a)*),
            $do!(["4" "5" "16" "17" "{x} + 2*{ldx}" "{st} + 2*{lds}" "{d} + 2*{lds}" "256" "320"] $($a)*))
    };
    ($do:ident 4 $($a:tt)*) => {
        concat!(tokens!($do 3 $($a)*), $do!(["6" "7" "18" "19" "{x3}" "{st3}" "{d3}" "384" "448"] $($a)*))
    };
    ($do:ident 5 $($a:tt)*) => {
        concat!(tokens!($do 4 $($a)*),
            $do!(["8" "9" "20" "21" "{x3} + {ldx}" "{st3} + {lds}" "{d3} + {lds}" "512" "576"] $($a)*))
    };
    ($do:ident 6 $($a:tt)*) => {
        concat!(tokens!($do 5 $($a)*),
            $do!(["10" "11" "22" "23" "{x3} + 2*{ldx}" "{st3} + 2*{lds}" "{d3} + 2*{lds}" "640" "704"] $($a)*))
    };
}

macro_rules! zero {
    ([$a:tt $b:tt $($rest:tt)*]) => {
        concat!("vpxord zmm", $a, ", zmm", $a, ", zmm", $a, "\nvpxord zmm", $b, ", zmm", $b, ", zmm", $b, "\n")
    };
}

macro_rules! start {
    ([$a:tt $b:tt $c:tt $e:tt $x:tt $st:tt $($rest:tt)*]) => {
        concat!("vpbroadcastd zmm", $a, ", [", $st, "]\nvmovdqa64 zmm", $b, ", zmm", $a, "\n")
    };
}

macro_rules! zero_kept {
    ([$a:tt $b:tt $c:tt $e:tt $($rest:tt)*]) => {
        concat!("vpxord zmm", $c, ", zmm", $c, ", zmm", $c, "\nvpxord zmm", $e, ", zmm", $e, ", zmm", $e, "\n")
    };
}

macro_rules! load_kept {
    ([$a:tt $b:tt $c:tt $e:tt $x:tt $st:tt $d:tt $to:tt $to1:tt]) => {
        concat!("vmovups zmm", $c, ", [{to} + ", $to, "]\nvmovups zmm", $e, ", [{to} + ", $to1, "]\n")
    };
}

macro_rules! store_kept {
    ([$a:tt $b:tt $c:tt $e:tt $x:tt $st:tt $d:tt $to:tt $to1:tt]) => {
        concat!("vmovups [{to} + ", $to, "], zmm", $c, "\nvmovups [{to} + ", $to1, "], zmm", $e, "\n")
    };
}

macro_rules! dot {
    ([$a:tt $b:tt $c:tt $e:tt $x:tt $($rest:tt)*] $at:tt) => {
        concat!(
            "vpbroadcastd zmm26, [",
            $x,
            " + ",
            $at,
            "]\nvpdpbusd zmm",
            $a,
            ", zmm24, zmm26\nvpdpbusd zmm",
            $b,
            ", zmm25, zmm26\n"
        )
    };
}

macro_rules! add_words {
    ([$a:tt $b:tt $c:tt $e:tt $($rest:tt)*]) => {
        concat!(
            "vpmulld zmm",
            $a,
            ", zmm",
            $a,
            ", zmm27\nvpmulld zmm",
            $b,
            ", zmm",
            $b,
            ", zmm28\n",
            "vpaddd zmm",
            $c,
            ", zmm",
            $c,
            ", zmm",
            $a,
            "\nvpaddd zmm",
            $e,
            ", zmm",
            $e,
            ", zmm",
            $b,
            "\n",
        )
    };
}

macro_rules! chain {
    ([$a:tt $b:tt $c:tt $e:tt $x:tt $st:tt $d:tt $($rest:tt)*]) => {
        concat!(
            "vbroadcastss zmm26, [",
            $d,
            "]\nvcvtdq2ps zmm",
            $a,
            ", zmm",
            $a,
            "\nvcvtdq2ps zmm",
            $b,
            ", zmm",
            $b,
            "\n",
            "vmulps zmm24, zmm27, zmm26\nvmulps zmm25, zmm28, zmm26\n",
            "vfmadd231ps zmm",
            $c,
            ", zmm24, zmm",
            $a,
            "\nvfmadd231ps zmm",
            $e,
            ", zmm25, zmm",
            $b,
            "\n",
        )
    };
}

macro_rules! chain_min {
    ([$a:tt $b:tt $c:tt $e:tt $x:tt $st:tt $d:tt $($rest:tt)*]) => {
        concat!(
            chain!([$a $b $c $e $x $st $d]),
            "vmulps zmm24, zmm26, [{s} + 128]\nvmulps zmm25, zmm26, [{s} + 192]\n",
            "vbroadcastss zmm26, [", $st, "]\n",
            "vfmadd231ps zmm", $c, ", zmm24, zmm26\nvfmadd231ps zmm", $e, ", zmm25, zmm26\n",
        )
    };
}

/// One step: four weights of 32 rows, `$w` and `$w1` bytes on, activations `$x` bytes on.
macro_rules! step {
    ($n:tt $w:tt $w1:tt $x:tt) => {
        concat!(
            "vmovups zmm24, [{w} + ", $w, "]\nvmovups zmm25, [{w} + ", $w1, "]\n",
            tokens!(dot $n $x),
        )
    };
}

/// The steps of a sub-block of 32 weights.
macro_rules! steps {
    ($n:tt) => {
        concat!(
            step!($n "0" "64" "0"),
            step!($n "128" "192" "4"),
            step!($n "256" "320" "8"),
            step!($n "384" "448" "12"),
            step!($n "512" "576" "16"),
            step!($n "640" "704" "20"),
            step!($n "768" "832" "24"),
            step!($n "896" "960" "28"),
        )
    };
}

/// What the loop reads.
#[derive(Clone, Copy)]
pub struct Operands {
    /// Two vectors of weights a step, eight steps a sub-block.
    pub w: *const u8,
    /// Codes of the first token; bytes from a token to the next.
    pub x: *const i8,
    pub ldx: usize,
    /// Sub-blocks, at least one.
    pub subs: usize,
    /// Where the sums of the first sub-block begin, one word a sub-block; null for 0. With a minimum: its sums, as floats.
    pub start: *const i32,
    /// Scales of tokens, one float a sub-block (chains).
    pub dx: *const f32,
    /// Bytes from a token to the next in `start` and `dx`.
    pub lds: usize,
    /// Scales of rows: two vectors a sub-block, words; or, for chains, four: two of scales, two of minima, floats.
    pub scales: *const u8,
}

macro_rules! run {
    ($n:tt $o:ident $to:ident $first:ident $begin:ident $end:ident $scales:literal $last:ident) => {
        asm!(
            tokens!($first $n),
            "lea {x3}, [{x} + 2*{ldx}]",
            "add {x3}, {ldx}",
            "lea {st3}, [{st} + 2*{lds}]",
            "add {st3}, {lds}",
            "lea {d3}, [{d} + 2*{lds}]",
            "add {d3}, {lds}",
            "2:",
            tokens!($begin $n),
            steps!($n),
            "vmovups zmm27, [{s}]",
            "vmovups zmm28, [{s} + 64]",
            tokens!($end $n),
            "add {w}, 1024",
            "add {x}, 32",
            "add {x3}, 32",
            concat!("add {s}, ", $scales),
            "add {st}, 4",
            "add {st3}, 4",
            "add {d}, 4",
            "add {d3}, 4",
            "dec {subs}",
            "jnz 2b",
            tokens!($last $n),
            x = inout(reg) $o.x => _,
            x3 = out(reg) _,
            ldx = in(reg) $o.ldx,
            w = inout(reg) $o.w => _,
            s = inout(reg) $o.scales => _,
            st = inout(reg) $o.start => _,
            st3 = out(reg) _,
            d = inout(reg) $o.dx => _,
            d3 = out(reg) _,
            lds = in(reg) $o.lds,
            subs = inout(reg) $o.subs => _,
            to = in(reg) $to,
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm5") _,
            out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
            out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _, out("zmm16") _, out("zmm17") _,
            out("zmm18") _, out("zmm19") _, out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _,
            out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _, out("zmm28") _,
            options(nostack),
        )
    };
}

/// `$call` for the number of tokens at hand.
macro_rules! by_tokens {
    ($n:expr, $call:ident $($a:tt)*) => {
        match $n {
            1 => $call!(1 $($a)*),
            2 => $call!(2 $($a)*),
            3 => $call!(3 $($a)*),
            4 => $call!(4 $($a)*),
            5 => $call!(5 $($a)*),
            _ => $call!(6 $($a)*),
        }
    };
}

/// Words of a block: `to[n][32] = Σ scale_j · (start_j + w_j · x_j)`, in i32.
///
/// # Safety
/// The CPU has VNNI; `tokens` is 1 to [`TOKENS`], and all is valid for so many; `to` for `[tokens][32]`.
#[inline(always)]
pub unsafe fn words(_: Avx512, tokens: usize, o: Operands, to: *mut u8) {
    macro_rules! call {
        ($n:tt $begin:ident) => { run!($n o to zero_kept $begin add_words "128" store_kept) };
    }
    // SAFETY: VNNI and memory by the caller's promise.
    unsafe { if o.start.is_null() { by_tokens!(tokens, call zero) } else { by_tokens!(tokens, call start) } }
}

/// Chains over blocks of 32 weights: `to[n][32] = fma(d · dx, start + w · x, to)`, block after block; with `MIN` the sums
/// begin at 0, and `fma(m · dx, start as a float, to)` follows each.
///
/// # Safety
/// As [`words`]; `to` holds floats.
#[inline(always)]
pub unsafe fn chains<const MIN: bool>(_: Avx512, tokens: usize, o: Operands, to: *mut u8) {
    macro_rules! call {
        ($n:tt $begin:ident $end:ident) => { run!($n o to load_kept $begin $end "256" store_kept) };
    }
    // SAFETY: VNNI and memory by the caller's promise.
    unsafe {
        match (MIN, o.start.is_null()) {
            (true, _) => by_tokens!(tokens, call zero chain_min),
            (_, true) => by_tokens!(tokens, call zero chain),
            (_, false) => by_tokens!(tokens, call start chain),
        }
    }
}
