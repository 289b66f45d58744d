//! Packed weights: one layout per format for decode and prefill, at the file's own bytes per weight.
//!
//! ```text
//! matrix   groups of 16 rows (the last one repeats its last row)
//! group    units of blocks, ascending in k; a unit's scales come first and fill one line of 64 bytes
//! block    vectors of 16 words: word i of the block of rows 0 … 15
//!
//! file, row r      d dmin | word 0 | word 1 | …        one block
//! packed           d × 16, dmin × 16 | word 0 of 16 rows | word 1 of 16 rows | …
//! ```
//! A word is four bytes of a row's block in the order of the file, so a vector of codes holds a quad (four successive k)
//! of sixteen rows: what `vpdpbusd` multiplies with one broadcast quad of activations, and what a tile of AMX takes
//! as it lies. Unpacking nibbles and bits is the same for all rows; no shuffles, no horizontal sums. Narrower vectors
//! take a group in halves. The numbers a kernel makes of it are those of the format's scalar `dot`, to the bit.
//!
//! Owns: the layout, packing, kernels over packed bytes. Does not own: where packed bytes live and when a matrix is
//! packed, threads ([`crate::product`]), products of rows as stored ([`crate::dot`]).
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx32;
mod apart;
pub mod floats;
pub mod formats;
pub mod int;
#[cfg(target_arch = "x86_64")]
mod kernel;
#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use apart::Apart;

use crate::{
    dot::{Out, Rows, Tokens},
    isa::Isa,
    simd::{Level, Simd, kernel},
    tiled::Tiled,
};
use pondera_quant::{Format, Matrix};
use std::ops::Range;

/// Rows of a group.
pub const GROUP: usize = 16;
/// Bytes of a line and of a vector of a group's words.
pub const LINE: usize = 64;

/// Where the parts of a format's block lie in the file's bytes.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Weights in a block.
    pub block: usize,
    /// Bytes of a block of a row.
    pub bytes: usize,
    /// Byte offsets of the 16-bit scales.
    pub halves: &'static [usize],
    /// Byte offset of the 8-bit scale, where there is one.
    pub scale_byte: Option<usize>,
    /// Byte offset of the words.
    pub word: usize,
    /// Number of words.
    pub words: usize,
    /// Bytes that open a group: scales of its rows.
    pub prefix: usize,
    /// Whether a block has an f32 scale that all rows share.
    pub shared: bool,
    /// What packing does to the words beyond laying them side by side.
    pub fix: Fix,
}

/// Rearranged bits, where the file's order would cost every product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fix {
    /// None.
    Keep,
    /// Word 0 holds bit `i` of element `i`: becomes byte `b`, bit `v` of element `4 v + b`.
    Spread,
    /// Eight words from this one hold in byte `b` of word `v` bit `j` of element `4 v + b` of sub-block `j`: becomes word
    /// `j`, byte `b`, bit `v`.
    Planes(usize),
}

impl Layout {
    /// A layout without 8-bit scales.
    pub const fn new(
        block: usize,
        bytes: usize,
        halves: &'static [usize],
        word: usize,
        words: usize,
        fix: Fix,
    ) -> Layout {
        Layout { block, bytes, halves, scale_byte: None, word, words, prefix: 0, shared: false, fix }
    }

    /// Bytes of a block's scales, sixteen rows.
    const fn scales(&self) -> usize {
        let bytes = if self.scale_byte.is_some() { GROUP } else { 0 };
        self.halves.len() * 2 * GROUP + bytes + if self.shared { size_of::<f32>() } else { 0 }
    }

    /// Blocks that share a line of scales.
    pub const fn unit(&self) -> usize {
        if self.scales() == 0 || self.scales() >= LINE { 1 } else { LINE / self.scales() }
    }

    /// Bytes of a block's words, sixteen rows.
    pub const fn body(&self) -> usize {
        self.words * LINE
    }

    /// Bytes of scales that open a unit.
    pub const fn head(&self) -> usize {
        self.unit() * self.scales()
    }

    /// Where the scales and the words of block `b` begin, from the start of its group.
    #[inline(always)]
    pub const fn at(&self, b: usize) -> (usize, usize) {
        let (unit, i) = (b / self.unit(), b % self.unit());
        let at = self.prefix + unit * (self.head() + self.unit() * self.body());
        (at + i * self.scales(), at + self.head() + i * self.body())
    }

    /// Bytes of a group of `blocks` blocks a row: the file's own, rounded up to a line.
    pub const fn group_bytes(&self, blocks: usize) -> usize {
        self.prefix + blocks.div_ceil(self.unit()) * self.head() + blocks * self.body()
    }
}

/// Packed weights as kernels see them.
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    /// Group 0; aligned to a line for speed.
    pub base: *const u8,
    /// Bytes from a group to the next.
    pub group_bytes: usize,
}

/// Memory that begins at a line.
#[derive(Default)]
pub struct Lines(Vec<Line>);

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code)] [u8; LINE]);

impl Lines {
    /// At least `bytes` bytes, contents unspecified.
    pub fn at_least(&mut self, bytes: usize) -> *mut u8 {
        let lines = bytes.div_ceil(LINE);
        if self.0.len() < lines {
            self.0.resize(lines, Line([0; LINE]));
        }
        self.0.as_mut_ptr().cast()
    }
}

/// A thread's memory, kept between calls.
#[derive(Default)]
pub struct Scratch {
    /// Unpacked weights.
    panel: Lines,
    /// Chains of a pass.
    chains: Lines,
    /// Groups packed on the way.
    packed: Lines,
    /// Sums of tokens' sub-blocks as tiles want them.
    sides: Lines,
    /// Codes of a tile's tokens with rows of zeros.
    tail: Lines,
}

/// Computes the rows `range` (from a multiple of [`GROUP`] on) for all tokens.
///
/// # Safety
/// The CPU supports the instruction set the kernel was asked for; the weights hold all groups of `range`; `out` is
/// valid for writes of those rows of all tokens and nobody else touches them.
pub type Kernel = unsafe fn(w: Weights, range: Range<usize>, tokens: Tokens<'_>, out: Out, scratch: &mut Scratch);

/// [`Kernel`] of formats that f32 activations are multiplied with.
pub type FloatKernel = unsafe fn(w: Weights, range: Range<usize>, x: Floats, out: Out, scratch: &mut Scratch);

/// Float activations.
#[derive(Clone, Copy)]
pub struct Floats {
    /// `[n, ld]`.
    pub x: *const f32,
    /// Elements from a token to the next.
    pub ld: usize,
    /// Tokens.
    pub n: usize,
    /// Elements of a token.
    pub inp: usize,
    /// The same for many tokens, as their tiles read it.
    pub tiled: Option<Tiled>,
}

/// Entry points of a set of instructions.
#[cfg(target_arch = "x86_64")]
macro_rules! entry {
    ($name:ident, $token:path, $tiles:path, $features:literal) => {
        /// # Safety
        /// As [`Kernel`].
        unsafe fn $name<P: formats::Packed>(w: Weights, r: Range<usize>, t: Tokens<'_>, out: Out, s: &mut Scratch) {
            #[target_feature(enable = $features)]
            unsafe fn inner<P: formats::Packed>(
                token: $token,
                w: Weights,
                range: Range<usize>,
                tokens: Tokens<'_>,
                out: Out,
                scratch: &mut Scratch,
            ) {
                // SAFETY: handed on.
                unsafe { kernel::run::<P, $token, $tiles>(token, w, range, tokens, out, scratch) }
            }
            let token = <$token>::new().expect("the kernel was asked for");
            // SAFETY: the token is the proof of the instructions; the rest is handed on.
            unsafe { inner::<P>(token, w, r, t, out, s) }
        }
    };
}

/// The same for formats with f32 activations.
#[cfg(target_arch = "x86_64")]
macro_rules! float_entry {
    ($float:ident, $token:path, $features:literal) => {
        /// # Safety
        /// As [`FloatKernel`].
        unsafe fn $float<P: floats::Decoded>(w: Weights, r: Range<usize>, x: Floats, out: Out, s: &mut Scratch) {
            #[target_feature(enable = $features)]
            unsafe fn inner<P: floats::Decoded>(
                token: $token,
                w: Weights,
                range: Range<usize>,
                x: Floats,
                out: Out,
                scratch: &mut Scratch,
            ) {
                // SAFETY: handed on.
                unsafe { floats::run::<P, $token>(token, w, range, x, out, scratch) }
            }
            let token = <$token>::new().expect("the kernel was asked for");
            // SAFETY: the token is the proof of the instructions; the rest is handed on.
            unsafe { inner::<P>(token, w, r, x, out, s) }
        }
    };
}

#[cfg(target_arch = "x86_64")]
entry!(vnni512, x86::Vnni512, kernel::Wide, "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c,bmi1,bmi2");
#[cfg(target_arch = "x86_64")]
entry!(kept512, x86::Vnni512, kernel::Kept, "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c,bmi1,bmi2");
#[cfg(target_arch = "x86_64")]
entry!(vnni256, x86::Vnni256, kernel::Plain, "avxvnni,avx2,fma,f16c,bmi1,bmi2");
#[cfg(target_arch = "x86_64")]
entry!(avx2, x86::Plain256, kernel::Plain, "avx2,fma,f16c,bmi1,bmi2");
#[cfg(target_arch = "x86_64")]
float_entry!(float512, x86::Vnni512, "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,bmi1,bmi2");
#[cfg(target_arch = "x86_64")]
float_entry!(float256, x86::Plain256, "avx2,fma,f16c,bmi1,bmi2");

/// The table of formats with int8 activations: runs `$do` with each name, which is the same in [`Format`] and in
/// [`formats`].
macro_rules! each {
    ($do:ident) => {
        $do!(Q2K, Q3K, Q4K, Q5K, Q6K, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1)
    };
}

/// The same for formats with f32 activations, in [`floats`].
macro_rules! each_float {
    ($do:ident) => {
        $do!(F32, F16, BF16, Mxfp4, Iq4Nl, Iq4Xs)
    };
}

/// Sets of instructions with packed kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// Tiles for many tokens, [`Set::Vnni512`] for few.
    Amx,
    /// As [`Set::Vnni512`], for CPUs that add beside their products: sums of many tokens stay in registers where sub-blocks have 32
    /// weights.
    Kept512,
    /// 512-bit vectors with VNNI.
    Vnni512,
    /// 256-bit vectors with VNNI.
    Vnni256,
    /// AVX2.
    Avx2,
}

impl Set {
    /// All of them.
    pub const ALL: [Set; 5] = [Set::Amx, Set::Kept512, Set::Vnni512, Set::Vnni256, Set::Avx2];

    /// The fastest that the machine has within `isa`.
    pub fn of(isa: Isa) -> Option<Set> {
        let within = |s: &Set| match s {
            Set::Amx => isa == Isa::Amx,
            Set::Kept512 => (isa == Isa::Amx || isa == Isa::Avx512) && crate::isa::is_amd(),
            Set::Vnni512 => isa == Isa::Amx || isa == Isa::Avx512,
            Set::Vnni256 | Set::Avx2 => isa == Isa::Amx || isa == Isa::Avx512 || isa == Isa::Avx2,
        };
        Set::ALL.into_iter().find(|s| s.supported() && within(s))
    }

    /// The instruction set whose vectors it works with.
    pub fn isa(self) -> Isa {
        match self {
            Set::Amx => Isa::Amx,
            Set::Kept512 | Set::Vnni512 => Isa::Avx512,
            Set::Vnni256 | Set::Avx2 => Isa::Avx2,
        }
    }

    /// Whether the machine has it.
    pub fn supported(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return match self {
            #[cfg(target_os = "linux")]
            Set::Amx => amx::Amx::new().is_some(),
            #[cfg(not(target_os = "linux"))]
            Set::Amx => false,
            Set::Kept512 | Set::Vnni512 => x86::Vnni512::new().is_some(),
            Set::Vnni256 => x86::Vnni256::new().is_some(),
            Set::Avx2 => x86::Plain256::new().is_some(),
        };
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// The kernel of a format; `None` where the set has none.
    pub fn kernel(self, format: Format) -> Option<Kernel> {
        #[cfg(target_arch = "x86_64")]
        {
            // Formats without tiles take vectors, those whose sums do not stay in registers the other loop.
            let set = if matches!(self, Set::Amx | Set::Kept512) { Set::Vnni512 } else { self };
            let kept = match format {
                Format::Q4K => Some(kept512::<formats::Q4K> as Kernel),
                Format::Q5K => Some(kept512::<formats::Q5K> as Kernel),
                Format::Q8_0 => Some(kept512::<formats::Q8_0> as Kernel),
                Format::Q4_0 => Some(kept512::<formats::Q4_0> as Kernel),
                Format::Q4_1 => Some(kept512::<formats::Q4_1> as Kernel),
                Format::Q5_0 => Some(kept512::<formats::Q5_0> as Kernel),
                Format::Q5_1 => Some(kept512::<formats::Q5_1> as Kernel),
                _ => None,
            };
            macro_rules! of {
                ($($name:ident),*) => {
                    match (format, set) {
                        $(
                            (Format::$name, Set::Vnni512) => Some(vnni512::<formats::$name> as Kernel),
                            (Format::$name, Set::Vnni256) => Some(vnni256::<formats::$name> as Kernel),
                            (Format::$name, Set::Avx2) => Some(avx2::<formats::$name> as Kernel),
                        )*
                        _ => None,
                    }
                };
            }
            #[cfg(target_os = "linux")]
            let tiles = match format {
                Format::Q2K => Some(amx::run::<formats::Q2K> as Kernel),
                Format::Q3K => Some(amx::run::<formats::Q3K> as Kernel),
                Format::Q4K => Some(amx::run::<formats::Q4K> as Kernel),
                Format::Q5K => Some(amx::run::<formats::Q5K> as Kernel),
                Format::Q6K => Some(amx::run::<formats::Q6K> as Kernel),
                Format::Q8_0 => Some(amx32::run::<formats::Q8_0> as Kernel),
                Format::Q4_0 => Some(amx32::run::<formats::Q4_0> as Kernel),
                Format::Q4_1 => Some(amx32::run::<formats::Q4_1> as Kernel),
                Format::Q5_0 => Some(amx32::run::<formats::Q5_0> as Kernel),
                Format::Q5_1 => Some(amx32::run::<formats::Q5_1> as Kernel),
                _ => None,
            };
            #[cfg(not(target_os = "linux"))]
            let tiles = None;
            each!(of)
                .map(|vectors| match self {
                    Set::Amx => tiles.unwrap_or(vectors),
                    Set::Kept512 => kept.unwrap_or(vectors),
                    _ => vectors,
                })
                .filter(|_| self.supported())
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = format;
            None
        }
    }

    /// The kernel of codes whose scales lie apart; `None` where the set has none.
    pub fn apart_kernel(self, kind: Apart) -> Option<FloatKernel> {
        #[cfg(target_arch = "x86_64")]
        {
            let kernel = match (kind, self) {
                (Apart::Mxfp4, _) => return self.float_kernel(Format::Mxfp4),
                (Apart::Fp8Blocks, Set::Amx | Set::Kept512 | Set::Vnni512) => {
                    float512::<floats::Fp8Blocks> as FloatKernel
                }
                (Apart::Fp8Rows, Set::Amx | Set::Kept512 | Set::Vnni512) => float512::<floats::Fp8Rows>,
                (Apart::Fp8Blocks, _) => float256::<floats::Fp8Blocks>,
                (Apart::Fp8Rows, _) => float256::<floats::Fp8Rows>,
            };
            self.supported().then_some(kernel)
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = kind;
            None
        }
    }

    /// The kernel of a format with f32 activations; `None` where the set has none.
    pub fn float_kernel(self, format: Format) -> Option<FloatKernel> {
        #[cfg(target_arch = "x86_64")]
        {
            macro_rules! of {
                ($($name:ident),*) => {
                    match (format, self) {
                        $(
                            (Format::$name, Set::Amx | Set::Kept512 | Set::Vnni512) => Some(float512::<floats::$name> as FloatKernel),
                            (Format::$name, Set::Vnni256 | Set::Avx2) => Some(float256::<floats::$name> as FloatKernel),
                        )*
                        _ => None,
                    }
                };
            }
            each_float!(of).filter(|_| self.supported())
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = format;
            None
        }
    }
}

/// The layout of a format; `None` where it has none.
pub fn layout(format: Format) -> Option<Layout> {
    macro_rules! of {
        ($($name:ident),*) => {
            match format {
                $(Format::$name => Some(<formats::$name as formats::Packed>::LAYOUT),)*
                _ => None,
            }
        };
    }
    macro_rules! of_float {
        ($($name:ident),*) => {
            match format {
                $(Format::$name => Some(<floats::$name as floats::Decoded>::LAYOUT),)*
                _ => None,
            }
        };
    }
    each!(of).or(each_float!(of_float))
}

/// Bytes of a packed matrix `[out, inp]`; `None` where the format has no packed layout or rows are no whole blocks.
pub fn bytes(format: Format, out: usize, inp: usize) -> Option<usize> {
    let groups = out.div_ceil(GROUP);
    group_bytes(format, inp)?.checked_mul(groups)
}

/// Bytes of one group; `None` as in [`bytes`].
pub fn group_bytes(format: Format, inp: usize) -> Option<usize> {
    let layout = layout(format)?;
    (inp > 0 && inp.is_multiple_of(layout.block)).then(|| layout.group_bytes(inp / layout.block))
}

/// Bytes of one group of `m`; `None` where it has no packed layout.
pub fn group_bytes_of(m: &Matrix) -> Option<usize> {
    match m {
        Matrix::Rows { format, inp, .. } => group_bytes(*format, *inp),
        _ => Some(Apart::of(m)?.layout().group_bytes(m.inp() / Apart::of(m)?.layout().block)),
    }
}

/// Packs the groups `groups` of `m` into `dst`, which holds exactly those. Any cut into ranges gives the same bytes.
/// False where the machine lacks `isa`, the matrix has no packed layout, `dst` another length, or a value is met that
/// the packed kernels do not know: then what was written is worth nothing.
pub fn pack(isa: Isa, m: &Matrix, groups: Range<usize>, dst: &mut [u8]) -> bool {
    let Matrix::Rows { format, out, inp, bytes, stride } = m else { return apart::pack(isa, m, groups, dst) };
    let (Some(layout), Some(size)) = (layout(*format), group_bytes(*format, *inp)) else { return false };
    let Some(level) = Level::new(isa) else { return false };
    let row = inp / layout.block * layout.bytes;
    let whole = groups.end <= out.div_ceil(GROUP)
        && Some(dst.len()) == groups.len().checked_mul(size)
        && out.checked_sub(1).and_then(|n| n.checked_mul(*stride)?.checked_add(row)).is_some_and(|n| n <= bytes.len());
    if !whole {
        return false;
    }
    let base = bytes.as_slice().as_ptr();
    for (group, dst) in groups.zip(dst.chunks_exact_mut(size)) {
        let first = group * GROUP;
        // SAFETY: all rows lie within the bytes, `dst` holds a group.
        unsafe { pack_rows(level, &layout, base.add(first * stride), *stride, GROUP.min(out - first), row, dst) };
    }
    true
}

/// Packs one group of `valid` rows of `row` bytes.
///
/// # Safety
/// The rows lie `stride` bytes apart from `base` on.
unsafe fn pack_rows(
    level: Level,
    layout: &Layout,
    base: *const u8,
    stride: usize,
    valid: usize,
    row: usize,
    dst: &mut [u8],
) {
    assert!((1..=GROUP).contains(&valid) && dst.len() == layout.group_bytes(row / layout.bytes));
    let mut rows = [base; GROUP];
    // SAFETY: within the rows.
    (1..GROUP).for_each(|r| rows[r] = unsafe { base.add(r.min(valid - 1) * stride) });
    // SAFETY: the caller's promise.
    unsafe { group(level, layout, &rows, row, dst) }
}

/// Rows packed at once on the way to a product.
const STEP: usize = 4 * GROUP;

/// The packed kernel over rows as stored: for many tokens, where packing is a small part of the work.
#[derive(Clone, Copy)]
pub struct OnTheWay {
    level: Level,
    layout: Layout,
    kernel: Kernel,
}

impl OnTheWay {
    /// Tokens from which it beats the kernels for rows as stored.
    pub const TOKENS: usize = 8;

    /// For a format; `None` where the set has no kernel.
    pub fn new(level: Level, isa: Isa, format: Format) -> Option<OnTheWay> {
        Some(OnTheWay { level, layout: layout(format)?, kernel: Set::of(isa)?.kernel(format)? })
    }

    /// Computes the rows `range` for all tokens.
    ///
    /// # Safety
    /// As [`crate::dot::Kernel`].
    pub unsafe fn run(&self, rows: Rows<'_>, range: Range<usize>, tokens: Tokens<'_>, out: Out, scratch: &mut Scratch) {
        let l = &self.layout;
        let (blocks, row) = (rows.inp / l.block, rows.inp / l.block * l.bytes);
        let group_bytes = l.group_bytes(blocks);
        for first in range.clone().step_by(STEP) {
            let n = STEP.min(range.end - first);
            let mut packed = std::mem::take(&mut scratch.packed);
            let base = packed.at_least(n.div_ceil(GROUP) * group_bytes);
            // SAFETY: the caller's promise; the memory holds these groups.
            unsafe {
                for g in 0..n.div_ceil(GROUP) {
                    let dst = std::slice::from_raw_parts_mut(base.add(g * group_bytes), group_bytes);
                    let valid = GROUP.min(n - g * GROUP);
                    let from = rows.bytes.as_ptr().add((first + g * GROUP) * rows.stride);
                    pack_rows(self.level, l, from, rows.stride, valid, row, dst);
                }
                let out = Out { ptr: out.ptr.add(first), stride: out.stride };
                (self.kernel)(Weights { base, group_bytes }, 0..n, tokens, out, scratch);
            }
            scratch.packed = packed;
        }
    }
}

kernel!(/// Packs a group.
    unsafe fn group(layout: &Layout, rows: &[*const u8; GROUP], row: usize, dst: &mut [u8]) = group_body);

#[inline(always)]
unsafe fn group_body<S: Simd>(s: S, l: &Layout, rows: &[*const u8; GROUP], row: usize, dst: &mut [u8]) {
    // Nothing but words: one long block.
    let l = if l.scales() == 0 { &Layout { bytes: row, words: row / 4, ..*l } } else { l };
    let blocks = row / l.bytes;
    if !blocks.is_multiple_of(l.unit()) {
        // The last unit's line of scales is not full.
        let at = l.at(blocks / l.unit() * l.unit()).0;
        dst[at..at + LINE].fill(0);
    }
    for b in 0..blocks {
        if let Some(at) = l.scale_byte {
            for (r, row) in rows.iter().enumerate() {
                // SAFETY: block b of row r is there.
                dst[l.at(b).0 + r] = unsafe { *row.add(b * l.bytes + at) };
            }
        }
        let (scales, words) = l.at(b);
        for (h, &at) in l.halves.iter().enumerate() {
            for (r, row) in rows.iter().enumerate() {
                // SAFETY: block b of row r is there; the length of `dst` was checked.
                unsafe {
                    let half = row.add(b * l.bytes + at).cast::<u16>().read_unaligned();
                    dst.as_mut_ptr().add(scales + h * 2 * GROUP + 2 * r).cast::<u16>().write_unaligned(half);
                }
            }
        }
        // SAFETY: as above; the last tile overlaps the one before it, no byte outside of the block is read.
        unsafe {
            let dst = dst.as_mut_ptr().add(words);
            let mut w = 0;
            while w < l.words {
                let i = if l.words >= 4 { w.min(l.words - 4) } else { w };
                let at = b * l.bytes + l.word + 4 * i;
                if l.words < 4 {
                    for (r, row) in rows.iter().enumerate() {
                        let word = row.add(at).cast::<u32>().read_unaligned();
                        dst.add(i * LINE + 4 * r).cast::<u32>().write_unaligned(word);
                    }
                    w += 1;
                    continue;
                }
                for part in 0..GROUP / S::LANES {
                    let tile = s.tile(rows.as_ptr().add(part * S::LANES), at);
                    for (j, v) in tile.into_iter().enumerate() {
                        s.store(dst.add((i + j) * LINE + part * 4 * S::LANES).cast(), s.floats(v));
                    }
                }
                w += 4;
            }
            fix(l.fix, dst.cast());
        }
    }
}

/// Rearranges the bits of a packed block.
#[inline(always)]
unsafe fn fix(fix: Fix, words: *mut [u32; GROUP]) {
    const LOW: u32 = 0x0101_0101;
    // SAFETY: the caller's promise: the words that the fix names.
    unsafe {
        match fix {
            Fix::Keep => {}
            Fix::Spread => {
                for bits in &mut *words {
                    // A nibble's bits land in four bytes.
                    let spread = |v: usize| ((*bits >> (4 * v)) & 15).wrapping_mul(0x0020_4081) & LOW;
                    *bits = (0..8).fold(0, |all, v| all | spread(v) << v);
                }
            }
            Fix::Planes(first) => {
                let words = std::slice::from_raw_parts_mut(words.add(first), 8);
                let mut planes = [[0; GROUP]; 8];
                for (j, plane) in planes.iter_mut().enumerate() {
                    for (v, word) in words.iter().enumerate() {
                        for (to, from) in plane.iter_mut().zip(word) {
                            *to |= ((from >> j) & LOW) << v;
                        }
                    }
                }
                words.copy_from_slice(&planes);
            }
        }
    }
}
