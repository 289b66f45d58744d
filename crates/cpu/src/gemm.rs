//! Products with float weights: `y[t, o] = Σ_k w[o, k] x[t, k]`, one FMA chain per output with k ascending.
//!
//! ```text
//!  stored rows [out, inp]            panel [k][R] in f32           tile: R rows x NT tokens
//!  row o   k k k k …                 k0: o o o o … (R outputs)     acc[t][r] += panel[k][r] · x[t][k]
//!  row o+1 k k k k …   -- pack -->   k1: o o o o …                 (x broadcast, R vectorised)
//! ```
//! R rows of a block of k are widened to f32 and transposed (4x4 words per 128 bits, in registers) into a panel in
//! L1 or L2, which all tokens use; accumulators go through `y` between blocks of k, so that a chain is one chain however
//! it is cut. One token (decode) and many (prefill) run the same code with other tile sizes, so their bits are equal.
//!
//! Tiles: AVX2 4 vectors x 1..3 tokens for few tokens (4 chains hide most of the FMA latency, reads of memory are the
//! bound), 2 vectors x 6 tokens for many (12 accumulators + 2 + 1 of 16 registers; the FMA units are the bound).
//! AVX-512: 4 x 3 and 2 x 12 of 32. NEON: 4 x 6 of 32.
//!
//! Does not own: integer dot products ([`crate::dot`]), splitting outputs over threads ([`crate::product`]).
#[cfg(target_arch = "x86_64")]
use crate::simd::outer;
use crate::simd::{Level, MAX_LANES, Simd, kernel};
use pondera_quant::{Format, Matrix};
use std::ops::Range;

mod pack;
pub use pack::{Pack, pack_rows, widen};

/// Vectors in a panel's row for few tokens.
const RV_FEW: usize = 4;
/// Tokens up to which the tiles for few are used.
const FEW: usize = 3;
/// The same over panels in place: registers of AVX-512 hold one more, and lines are read in the order in which they lie.
const FEW_WIDE: usize = 4;
/// Tokens that share a pass over a group of panels: their block of x stays in L2.
const TOKENS: usize = 96;
/// Bytes of a cache line.
const LINE: usize = 64;

/// Where float weights come from.
#[derive(Clone, Copy)]
pub enum Source {
    /// Rows of a packable format, `stride` bytes apart.
    Rows { code: Code, base: *const u8, stride: usize },
    /// Outputs lie side by side: element `(o, k)` at `base + o · size + k · stride` bytes.
    Columns { code: Code, base: *const u8, stride: usize },
    /// Anything else, decoded row by row with the scalar code.
    Decode(*const Matrix),
    /// The transpose of anything else: outputs are the matrix's inputs.
    DecodeTransposed(*const Matrix),
}

/// How a packable format is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    F32,
    F16,
    BF16,
    Mxfp4,
    /// Signed bytes; no weights, but a cache's codes.
    I8,
}

impl Code {
    /// Bytes of `k` elements, a whole number of blocks.
    fn bytes(self, k: usize) -> usize {
        match self {
            Code::F32 => k * 4,
            Code::F16 | Code::BF16 => k * 2,
            Code::Mxfp4 => k / 32 * 17,
            Code::I8 => k,
        }
    }

    /// Of a format; `None` for those that only the scalar code knows.
    pub fn of(format: Format) -> Option<Code> {
        Some(match format {
            Format::F32 => Code::F32,
            Format::F16 => Code::F16,
            Format::BF16 => Code::BF16,
            Format::Mxfp4 => Code::Mxfp4,
            _ => return None,
        })
    }
}

impl Source {
    /// The fastest way to read `m`, or its transpose.
    pub fn new(m: &Matrix, transpose: bool) -> Source {
        if !cfg!(target_endian = "little") {
            return Source::decode(m, transpose);
        }
        match m {
            Matrix::Rows { format, out, inp, bytes, stride } => {
                let fits = format.row_bytes(*inp).is_some_and(|row| holds(bytes.len(), *out, *stride, row));
                match Code::of(*format) {
                    Some(code) if fits && !transpose => {
                        Source::Rows { code, base: bytes.as_slice().as_ptr(), stride: *stride }
                    }
                    Some(code) if fits && code != Code::Mxfp4 => {
                        Source::Columns { code, base: bytes.as_slice().as_ptr(), stride: *stride }
                    }
                    _ => Source::decode(m, transpose),
                }
            }
            Matrix::Strided { format, out, inp, bytes, out_stride, inp_stride } => {
                let size = format.info().bytes;
                let (out_stride, inp_stride) = (out_stride * size, inp_stride * size);
                // Seen as rows of `row` elements that lie side by side, `stride` bytes apart.
                let (rows, row, stride, columns) = if inp_stride == size {
                    (*out, *inp, out_stride, transpose)
                } else {
                    (*inp, *out, inp_stride, !transpose)
                };
                let fits = holds(bytes.len(), rows, stride, row * size);
                let base = bytes.as_slice().as_ptr();
                match Code::of(*format) {
                    Some(code) if code != Code::Mxfp4 && fits && (inp_stride == size || out_stride == size) => {
                        if columns {
                            Source::Columns { code, base, stride }
                        } else {
                            Source::Rows { code, base, stride }
                        }
                    }
                    _ => Source::decode(m, transpose),
                }
            }
            Matrix::Packed { .. } => Source::decode(m, transpose),
        }
    }

    fn decode(m: &Matrix, transpose: bool) -> Source {
        if transpose { Source::DecodeTransposed(m) } else { Source::Decode(m) }
    }

    /// Whether the scalar decode is in the way.
    pub fn is_slow(&self) -> bool {
        matches!(self, Source::Decode(_) | Source::DecodeTransposed(_))
    }
}

/// Whether `rows` rows of `row` bytes, `stride` apart, lie within `len`.
fn holds(len: usize, rows: usize, stride: usize, row: usize) -> bool {
    rows == 0 || (rows - 1).checked_mul(stride).and_then(|s| s.checked_add(row)).is_some_and(|end| end <= len)
}

/// A thread's own memory for panels and decoded rows, kept between calls.
#[derive(Default)]
pub struct Scratch {
    panel: Vec<f32>,
    rows: Vec<f32>,
    edge: Vec<f32>,
}

/// One product, or a range of its outputs.
#[derive(Clone, Copy)]
pub struct Product {
    /// The weights.
    pub source: Source,
    /// Outputs.
    pub out: usize,
    /// Length of a chain.
    pub inp: usize,
    /// `[n, ldx]`.
    pub x: *const f32,
    /// Elements from a token to the next.
    pub ldx: usize,
    /// Tokens.
    pub n: usize,
    /// `[n, ldy]`.
    pub y: *mut f32,
    /// Elements from a token to the next.
    pub ldy: usize,
}

/// Tile sizes for a product.
struct Plan {
    /// Rows of a panel.
    r: usize,
    rv: usize,
    /// Panels packed together.
    panels: usize,
    /// Length of a block of k.
    kb: usize,
}

impl Plan {
    fn new(level: Level, p: &Product) -> Plan {
        let few = p.n <= FEW;
        let rv = if few { RV_FEW } else { many_rv(level) };
        let r = rv * level.lanes();
        let (panels, kb) = match (p.source, few) {
            (Source::Rows { .. }, true) => (1, 128),
            (Source::Rows { .. }, false) => (4, 256),
            (Source::Columns { .. }, true) => (8, 32),
            (Source::Columns { .. }, false) => (8, 128),
            // All outputs at once: each row is decoded once.
            (Source::DecodeTransposed(_), _) => (p.out.div_ceil(r).max(1), 32),
            (Source::Decode(_), _) => (1, 256),
        };
        Plan { r, rv, panels, kb }
    }
}

/// Vectors in a panel's row for many tokens.
fn many_rv(level: Level) -> usize {
    match level {
        #[cfg(target_arch = "aarch64")]
        Level::Neon(_) => 4,
        _ => 2,
    }
}

/// Computes the outputs `range` of all tokens.
///
/// # Safety
/// The source's memory holds all of its rows, `x` all tokens; `y` is valid for writes of those outputs of all tokens
/// and nobody else touches them.
pub unsafe fn run(level: Level, p: &Product, range: Range<usize>, scratch: &mut Scratch) {
    let plan = Plan::new(level, p);
    if p.inp == 0 || p.n == 0 {
        for t in 0..p.n {
            // SAFETY: the caller's promise.
            range.clone().for_each(|o| unsafe { *p.y.add(t * p.ldy + o) = 0.0 });
        }
        return;
    }
    let step = plan.r * plan.panels;
    resize(&mut scratch.panel, step * plan.kb);
    resize(&mut scratch.edge, plan.r * MAX_NT);
    let mut from = range.start;
    while from < range.end {
        let rows = from..range.end.min(from + step);
        if let Source::Decode(m) = p.source {
            resize(&mut scratch.rows, rows.len() * p.inp);
            // SAFETY: the matrix outlives the call.
            unsafe { &*m }.decode_rows(rows.clone(), &mut scratch.rows[..rows.len() * p.inp]);
        }
        for k0 in (0..p.inp).step_by(plan.kb) {
            let kn = plan.kb.min(p.inp - k0);
            // SAFETY: the caller's promise; the scratch holds the panels of a step.
            unsafe {
                pack(level, p, &plan, rows.clone(), k0, kn, scratch);
                tiles(level, p, &plan, rows.clone(), k0, kn, scratch);
            }
        }
        from = rows.end;
    }
}

fn resize(v: &mut Vec<f32>, n: usize) {
    if v.len() < n {
        v.resize(n, 0.0);
    }
}

/// Multiplies the packed panels of `rows` with all tokens.
unsafe fn tiles(
    level: Level,
    p: &Product,
    plan: &Plan,
    rows: Range<usize>,
    k0: usize,
    kn: usize,
    scratch: &mut Scratch,
) {
    let panel_size = plan.r * plan.kb;
    for t0 in (0..p.n).step_by(TOKENS) {
        let n = TOKENS.min(p.n - t0);
        for (i, o) in rows.clone().step_by(plan.r).enumerate() {
            let valid = plan.r.min(rows.end - o);
            // SAFETY: token t0, output o.
            let (x, y) = unsafe { (p.x.add(t0 * p.ldx + k0), p.y.add(t0 * p.ldy + o)) };
            let tile = Tile {
                panel: scratch.panel[i * panel_size..].as_ptr().cast(),
                ld: plan.r * 4,
                kn,
                x,
                ldx: p.ldx,
                step: 1,
                y,
                ldy: p.ldy,
                first: k0 == 0,
                fetch: if t0 == 0 { Fetch::next(p, plan, o, k0) } else { Fetch::NONE },
            };
            // SAFETY: the panel is packed; a partial one goes through the edge buffer.
            unsafe {
                if valid == plan.r {
                    sweep::<F32e>(level, plan.rv, tile, n);
                } else {
                    partial(level, plan, tile, n, valid, &mut scratch.edge);
                }
            }
        }
    }
}

/// The tile of a panel with fewer valid outputs than vectors: computed beside `y`, copied.
unsafe fn partial(level: Level, plan: &Plan, tile: Tile, n: usize, valid: usize, edge: &mut [f32]) {
    for t0 in (0..n).step_by(MAX_NT) {
        let n = MAX_NT.min(n - t0);
        // SAFETY: the caller's promise: `valid` outputs of these tokens.
        unsafe {
            let y = tile.y.add(t0 * tile.ldy);
            for t in 0..n {
                let src = y.add(t * tile.ldy);
                (0..valid).for_each(|i| edge[t * plan.r + i] = if tile.first { 0.0 } else { *src.add(i) });
            }
            let x = tile.x.add(t0 * tile.ldx);
            sweep::<F32e>(level, plan.rv, Tile { x, y: edge.as_mut_ptr(), ldy: plan.r, ..tile }, n);
            for t in 0..n {
                (0..valid).for_each(|i| *y.add(t * tile.ldy + i) = edge[t * plan.r + i]);
            }
        }
    }
}

// ---- tiles

/// Most tokens of a tile.
const MAX_NT: usize = 12;

/// A tile's operands.
#[derive(Clone, Copy)]
pub struct Tile {
    /// `[kn][..]`, elements of the kernel's type.
    pub panel: *const u8,
    /// Bytes from a k to the next.
    pub ld: usize,
    /// Length of the chains.
    pub kn: usize,
    /// Of the first token, at the first k.
    pub x: *const f32,
    /// Elements from a token to the next.
    pub ldx: usize,
    /// Elements from a k to the next.
    pub step: usize,
    /// Of the first token and output.
    pub y: *mut f32,
    /// Elements from a token to the next.
    pub ldy: usize,
    /// Chains start at 0; otherwise they continue what `y` holds.
    pub first: bool,
    /// What to ask memory for meanwhile, in the first tile of a strip.
    pub fetch: Fetch,
}

/// What is read next: the next block of the rows that a panel was packed from, or a run of memory. Chains are bound by
/// latency and reading by memory: without this the one waits for the other.
#[derive(Clone, Copy)]
pub struct Fetch {
    /// Of the first row.
    pub at: *const u8,
    /// Where to stop.
    pub end: *const u8,
    /// Bytes from a row to the next.
    pub stride: usize,
    /// Cache lines per step of k, `jump` bytes apart.
    pub lines: usize,
    /// See `lines`.
    pub jump: usize,
    /// After a panel's rows comes the next line of the first.
    pub rows: bool,
}

impl Fetch {
    /// Nothing.
    pub const NONE: Fetch =
        Fetch { at: std::ptr::null(), end: std::ptr::null(), stride: 0, lines: 0, jump: 0, rows: false };

    /// `bytes` bytes that lie side by side, in so many steps of k; no more of them than a few a step, since many at once hold up
    /// the loads that are waited for.
    fn run(at: *const u8, bytes: usize, steps: usize) -> Fetch {
        let lines = bytes.div_ceil(LINE).div_ceil(steps.max(1)).min(4);
        Fetch { at, end: at.wrapping_add(bytes), stride: lines * LINE, lines, jump: LINE, rows: false }
    }

    /// What is left after so many steps of a run.
    fn after(self, steps: usize) -> Fetch {
        Fetch { at: self.at.wrapping_add(steps * self.stride), ..self }
    }

    /// For rows `o ..` at `k0`: the next block of k, or the start of the next panel's rows.
    fn next(p: &Product, plan: &Plan, o: usize, k0: usize) -> Fetch {
        let Source::Rows { code, base, stride } = p.source else { return Fetch::NONE };
        let k = k0 + plan.kb;
        let at = if k < p.inp {
            base.wrapping_add(o * stride + code.bytes(k))
        } else {
            base.wrapping_add((o + plan.r * plan.panels) * stride)
        };
        let lines = (code.bytes(plan.kb) * plan.r / plan.kb / LINE).max(1);
        let end = std::ptr::null::<u8>().wrapping_sub(1);
        Fetch { at, end, stride, lines, jump: plan.kb / plan.r * LINE, rows: true }
    }
}

/// An element type of panels.
pub trait Elem: Copy + 'static {
    /// Bytes of an element.
    const SIZE: usize;
    /// A vector, widened.
    ///
    /// # Safety
    /// `p` is valid for a vector of elements.
    unsafe fn load<S: Simd>(s: S, p: *const u8) -> S::F;
}

/// f32 elements.
#[derive(Clone, Copy)]
pub struct F32e;
/// Half-precision elements.
#[derive(Clone, Copy)]
pub struct F16e;
/// bfloat16 elements.
#[derive(Clone, Copy)]
pub struct Bf16e;
/// Signed bytes.
#[derive(Clone, Copy)]
pub struct I8e;

impl Elem for F32e {
    const SIZE: usize = 4;
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const u8) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { s.load(p.cast()) }
    }
}

impl Elem for F16e {
    const SIZE: usize = 2;
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const u8) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { s.load_f16(p.cast()) }
    }
}

impl Elem for Bf16e {
    const SIZE: usize = 2;
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const u8) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { s.load_bf16(p.cast()) }
    }
}

impl Elem for I8e {
    const SIZE: usize = 1;
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const u8) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { s.load_i8(p.cast()) }
    }
}

#[inline(always)]
unsafe fn tile_body<S: Simd, E: Elem, const RV: usize, const NT: usize>(s: S, t: &Tile) {
    // SAFETY: the caller's promise: RV vectors of outputs, NT tokens.
    unsafe {
        let mut acc = [[s.splat(0.0); RV]; NT];
        if !t.first {
            for (j, acc) in acc.iter_mut().enumerate() {
                for (v, acc) in acc.iter_mut().enumerate() {
                    *acc = s.load(t.y.add(j * t.ldy + v * S::LANES));
                }
            }
        }
        let mut panel = t.panel;
        let mut fetch = t.fetch.at;
        for k in 0..t.kn {
            // The first is the same for all steps: a loop without it is made where there is nothing to ask for.
            if t.fetch.lines > 0 && fetch < t.fetch.end {
                for line in 0..t.fetch.lines {
                    let at = fetch.wrapping_add(line * t.fetch.jump);
                    if t.fetch.rows { s.prefetch(at) } else { s.prefetch_far(at) }
                }
                fetch = fetch.wrapping_add(t.fetch.stride);
                if t.fetch.rows && (k + 1) % (RV * S::LANES) == 0 {
                    fetch = t.fetch.at.wrapping_add((k + 1) / (RV * S::LANES) * LINE);
                }
            }
            let mut w = [s.splat(0.0); RV];
            for (v, w) in w.iter_mut().enumerate() {
                *w = E::load(s, panel.add(v * S::LANES * E::SIZE));
            }
            for (j, acc) in acc.iter_mut().enumerate() {
                let x = s.splat(*t.x.add(j * t.ldx + k * t.step));
                for (acc, w) in acc.iter_mut().zip(&w) {
                    *acc = s.fma(*w, x, *acc);
                }
            }
            panel = panel.wrapping_add(t.ld);
        }
        for (j, acc) in acc.iter().enumerate() {
            for (v, acc) in acc.iter().enumerate() {
                s.store(t.y.add(j * t.ldy + v * S::LANES), *acc);
            }
        }
    }
}

kernel!(
    /// One tile: `RV` vectors of outputs, `NT` tokens.
    unsafe fn tile<E: Elem; const RV, const NT>(t: &Tile) = tile_body::<_, E, RV, NT>
);

/// [`tile`] of two vectors of f32 by the loop that is written out.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn outer_tile(s: crate::simd::Avx512, tokens: usize, t: &Tile) {
    let o = outer::Operands { w: t.panel, x: t.x.cast(), ldx: t.ldx * 4, steps: t.kn };
    // SAFETY: the caller's promise.
    unsafe { outer::fma(s, tokens, o, t.ld, t.step * 4, t.y, t.ldy * 4, t.first) };
    std::arch::x86_64::_mm256_zeroupper();
}

/// Tokens of a full tile.
fn tile_tokens(level: Level, rv: usize) -> usize {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(_) if rv == 2 => 12,
        #[cfg(target_arch = "aarch64")]
        Level::Neon(_) => 6,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(_) if rv == RV_FEW => FEW_WIDE,
        _ if rv == RV_FEW => FEW,
        _ => 6,
    }
}

/// Tiles of nearly equal size in which `n` tokens go through [`strips`] of many, and the most tokens of one.
pub fn tiles_of(level: Level, n: usize) -> (usize, usize) {
    let most = tile_tokens(level, many_rv(level));
    (n.div_ceil(most), most)
}

/// A strip of `rv` vectors of outputs for `n` tokens, in tiles of nearly equal size.
///
/// # Safety
/// The panel holds `kn` rows of that many outputs, `x` and `y` all tokens.
unsafe fn sweep<E: Elem>(level: Level, rv: usize, mut t: Tile, n: usize) {
    let mut tiles = n.div_ceil(tile_tokens(level, rv));
    let mut from = 0;
    while tiles > 0 {
        let nt = (n - from).div_ceil(tiles);
        // SAFETY: the caller's promise, for these tokens.
        unsafe {
            let t = Tile { x: t.x.add(from * t.ldx), y: t.y.add(from * t.ldy), ..t };
            #[cfg(target_arch = "x86_64")]
            if let (Level::Avx512(s), 2, 4, 0) = (level, rv, E::SIZE, t.fetch.lines) {
                outer_tile(s, nt, &t);
                from += nt;
                tiles -= 1;
                continue;
            }
            match (rv, nt) {
                (4, 1) => tile::<E, 4, 1>(level, &t),
                (4, 2) => tile::<E, 4, 2>(level, &t),
                (4, 3) => tile::<E, 4, 3>(level, &t),
                (4, 4) => tile::<E, 4, 4>(level, &t),
                #[cfg(target_arch = "aarch64")]
                (4, 5) => tile::<E, 4, 5>(level, &t),
                #[cfg(target_arch = "aarch64")]
                (4, 6) => tile::<E, 4, 6>(level, &t),
                (2, 1) => tile::<E, 2, 1>(level, &t),
                (2, 2) => tile::<E, 2, 2>(level, &t),
                (2, 3) => tile::<E, 2, 3>(level, &t),
                (2, 4) => tile::<E, 2, 4>(level, &t),
                (2, 5) => tile::<E, 2, 5>(level, &t),
                (2, 6) => tile::<E, 2, 6>(level, &t),
                (2, 7) => tile::<E, 2, 7>(level, &t),
                (2, 8) => tile::<E, 2, 8>(level, &t),
                (2, 9) => tile::<E, 2, 9>(level, &t),
                (2, 10) => tile::<E, 2, 10>(level, &t),
                (2, 11) => tile::<E, 2, 11>(level, &t),
                (2, 12) => tile::<E, 2, 12>(level, &t),
                _ => unreachable!("no tile of {rv} vectors and {nt} tokens"),
            }
        }
        t.fetch = Fetch::NONE;
        from += nt;
        tiles -= 1;
    }
}

/// Outputs that [`strips`] works on at once: panels there are padded to it.
pub const STRIP: usize = 2 * MAX_LANES;

/// Nothing to ask for.
pub const NOTHING: (*const u8, usize) = (std::ptr::null(), 0);

/// Chains over a panel in place: outputs `columns` (ends at multiples of [`STRIP`]) for `n` tokens. Meanwhile asks for the
/// `ahead.1` bytes at `ahead.0`, which are read next, in place of the tile's own `fetch`; not where the loop that is written
/// out takes the tile.
///
/// # Safety
/// As [`sweep`], for these columns of panel and `y`.
pub unsafe fn strips<E: Elem>(level: Level, columns: Range<usize>, t: Tile, n: usize, ahead: (*const u8, usize)) {
    let wide = RV_FEW * level.lanes();
    let few = n <= tile_tokens(level, RV_FEW).min(FEW_WIDE);
    let rv = if few && columns.len().is_multiple_of(wide) { RV_FEW } else { many_rv(level) };
    let width = rv * level.lanes();
    let fetch = match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(_) if E::SIZE == 4 && rv == 2 => Fetch::NONE,
        _ => Fetch::run(ahead.0, ahead.1, columns.len() / width * t.kn),
    };
    for (i, c) in columns.step_by(width).enumerate() {
        let fetch = fetch.after(i * t.kn);
        // SAFETY: the caller's promise.
        unsafe {
            sweep::<E>(level, rv, Tile { panel: t.panel.wrapping_add(c * E::SIZE), y: t.y.add(c), fetch, ..t }, n);
        }
    }
}

/// Packs block `k0 .. k0 + kn` of `rows` into the panels of a step.
unsafe fn pack(
    level: Level,
    p: &Product,
    plan: &Plan,
    rows: Range<usize>,
    k0: usize,
    kn: usize,
    scratch: &mut Scratch,
) {
    let (panel_size, groups) = (plan.r * plan.kb, plan.r / level.lanes());
    if let Source::DecodeTransposed(m) = p.source {
        // The matrix's rows k are what lies side by side.
        // SAFETY: the matrix outlives the call.
        let m = unsafe { &*m };
        resize(&mut scratch.rows, kn * m.inp());
        m.decode_rows(k0..k0 + kn, &mut scratch.rows[..kn * m.inp()]);
    }
    for (i, o) in rows.clone().step_by(plan.r).enumerate() {
        let valid = plan.r.min(rows.end - o);
        let dst = scratch.panel[i * panel_size..].as_mut_ptr();
        let mut pointers = [std::ptr::null::<u8>(); RV_FEW * MAX_LANES];
        // SAFETY: rows o .. o + valid are there; rows past them repeat the last, their results are not kept.
        unsafe {
            let mut whole = |code, base: *const u8, stride: usize| {
                for (j, at) in pointers.iter_mut().enumerate().take(plan.r) {
                    *at = base.add(j.min(valid - 1) * stride);
                }
                pack_rows(level, code, &Pack { rows: pointers.as_ptr(), groups, k0, kn, dst });
            };
            match p.source {
                Source::Rows { code, base, stride } => whole(code, base.add(o * stride), stride),
                Source::Decode(_) => {
                    let base = scratch.rows.as_ptr().add((o - rows.start) * p.inp);
                    whole(Code::F32, base.cast(), p.inp * 4);
                }
                Source::Columns { code, base, stride } => {
                    for k in 0..kn {
                        let (row, dst) = (base.add((k0 + k) * stride), dst.add(k * plan.r));
                        match code {
                            Code::F32 => widen::<F32e>(level, row.add(o * 4), valid, dst),
                            Code::F16 => widen::<F16e>(level, row.add(o * 2), valid, dst),
                            Code::BF16 => widen::<Bf16e>(level, row.add(o * 2), valid, dst),
                            Code::Mxfp4 | Code::I8 => unreachable!("no weights of such columns"),
                        }
                    }
                }
                Source::DecodeTransposed(_) => {
                    for k in 0..kn {
                        let row = scratch.rows.as_ptr().add(k * p.out + o);
                        std::ptr::copy_nonoverlapping(row, dst.add(k * plan.r), valid);
                    }
                }
            }
        }
    }
}
