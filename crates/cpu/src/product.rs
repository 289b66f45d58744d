//! Products of weights with activations: which arithmetic, which kernel, which thread.
//!
//! Owns [`Job`] (one or two products of one input, their bias and nonlinearity, cut into tasks by outputs), the
//! quantized activations, and the log line of formats without a fast kernel. Does not own: the kernels
//! ([`crate::dot`], [`crate::gemm`]), when products are wanted ([`crate::ops`]).
use crate::{
    dot, gemm, packed,
    pool::Pool,
    promote::Promoter,
    quantize::quantize,
    simd::Level,
    tiled::{self, CodeTiles, Tiled},
    vmath,
};
use pondera_ops::{Activation as Nonlinearity, Linear, W, reference::product::activation};
use pondera_quant::{Activation, Matrix, Q8};
use std::{cell::RefCell, ops::Range, slice};

/// What runs the products.
pub struct Engine {
    /// The instruction set, with its proof.
    pub level: Level,
    /// Its name.
    pub isa: crate::Isa,
    /// The threads.
    pub pool: Pool,
    /// Which weights lie packed.
    pub promoter: Promoter,
    scratch: PerThread<Scratch>,
    /// The tasks of the product under way.
    tasks: RefCell<Vec<Task>>,
    /// Formats that were said to be slow.
    said: RefCell<Vec<&'static str>>,
    /// What ran: a kind of kernel, and what it multiplied with or was.
    ran: RefCell<Vec<(&'static str, &'static str)>>,
}

/// A thread's memory, kept between products.
#[derive(Default)]
pub struct Scratch {
    kernels: KernelScratch,
    /// Outputs that go no further than their task.
    tile: Vec<f32>,
}

/// The kernels' part of it.
#[derive(Default)]
pub struct KernelScratch {
    float: gemm::Scratch,
    packed: packed::Scratch,
}

impl Scratch {
    /// The first `n` floats of the tile, contents unspecified, and the kernels' memory.
    pub fn tile(&mut self, n: usize) -> (&mut [f32], &mut KernelScratch) {
        if self.tile.len() < n {
            self.tile.resize(n, 0.0);
        }
        (&mut self.tile[..n], &mut self.kernels)
    }
}

/// Tokens of few: their products are bound by memory.
const FEW: usize = 4;

/// Bytes that a thread reads from memory in a nanosecond, roughly.
const BYTES_PER_NS: usize = 12;

/// Work below this is done by the caller alone: waking a helper costs more.
pub const INLINE_NS: usize = 15_000;

/// A weight matrix made ready for a product.
#[derive(Clone, Copy)]
pub enum Weights {
    /// An integer kernel of the format.
    Dot {
        kernel: dot::Kernel,
        many: Option<packed::OnTheWay>,
        bytes: *const u8,
        len: usize,
        stride: usize,
        block: usize,
    },
    /// An integer kernel over packed groups.
    Packed { kernel: packed::Kernel, weights: packed::Weights, block: usize },
    /// A kernel over packed groups that takes f32 activations.
    PackedFloat { kernel: packed::FloatKernel, weights: packed::Weights },
    /// The format's scalar dot product.
    Scalar { matrix: *const Matrix, block: usize },
    /// Float weights.
    Float(gemm::Source),
}

impl Weights {
    /// Elements of a block of quantized activations; `None` where they stay f32.
    pub fn block(&self) -> Option<usize> {
        match self {
            Weights::Dot { block, .. } | Weights::Packed { block, .. } | Weights::Scalar { block, .. } => Some(*block),
            Weights::Float(_) | Weights::PackedFloat { .. } => None,
        }
    }

    /// The product of `l`, whose weights these are and whose outputs lie side by side at `y`, with `float` or, where they
    /// want them, with the codes that `codes(block)` gives.
    pub fn product(self, l: &Linear, y: *mut f32, float: Input, codes: &dyn Fn(usize) -> Input) -> Product {
        let (out, inp) = (l.weight.out, l.weight.inp);
        let input = self.block().map_or(float, codes);
        let bias = l.bias.as_ref().map_or(std::ptr::null(), |b| b.vector()[..out].as_ptr());
        Product { weights: self, out, inp, input, y, ld: out, bias }
    }

    /// The same without the first `rows` rows; `None` where only the whole can be multiplied.
    pub fn skip(self, rows: usize) -> Option<Weights> {
        match self {
            Weights::Dot { kernel, many, bytes, len, stride, block } => {
                let skipped = rows.checked_mul(stride).filter(|n| *n <= len)?;
                // SAFETY: within the bytes.
                let bytes = unsafe { bytes.add(skipped) };
                Some(Weights::Dot { kernel, many, bytes, len: len - skipped, stride, block })
            }
            _ => None,
        }
    }

    /// Bytes of so many rows, where few tokens take as long as reading them.
    fn row_bytes(&self, rows: usize) -> usize {
        match self {
            Weights::Dot { stride, .. } => stride * rows,
            Weights::Packed { weights, .. } | Weights::PackedFloat { weights, .. } => {
                weights.group_bytes / packed::GROUP * rows
            }
            _ => 0,
        }
    }

    /// Thousandths of a nanosecond of one multiplication, roughly.
    fn cost(&self) -> usize {
        match self {
            Weights::Dot { .. } => 30,
            Weights::Packed { .. } => 15,
            Weights::PackedFloat { .. } => 60,
            Weights::Scalar { .. } => 700,
            Weights::Float(s) if s.is_slow() => 700,
            Weights::Float(_) => 90,
        }
    }
}

/// The input of products: f32 rows, or their codes.
#[derive(Clone, Copy)]
pub enum Input {
    /// `[n, ld]`; many rows also as tiles read them, for packed weights.
    Float { x: *const f32, ld: usize, tiled: Option<Tiled> },
    /// Codes, scales and sums of `[n, inp]`.
    Codes { q: *const i8, d: *const f32, sums: *const i16, tiles: Option<CodeTiles> },
}

/// One product.
#[derive(Clone, Copy)]
pub struct Product {
    /// The weights.
    pub weights: Weights,
    /// Outputs.
    pub out: usize,
    /// Inputs.
    pub inp: usize,
    /// What they are multiplied with.
    pub input: Input,
    /// `[n, ld]`.
    pub y: *mut f32,
    /// Elements from a token to the next.
    pub ld: usize,
    /// `[out]`, or null.
    pub bias: *const f32,
}

impl Product {
    /// The same with outputs `rows` side by side in `tile`, token after token.
    pub fn into_tile(self, tile: &mut [f32], rows: &Range<usize>) -> Product {
        Product { y: tile.as_mut_ptr().wrapping_sub(rows.start), ld: rows.len(), ..self }
    }

    /// Rough time for `n` tokens on one thread.
    pub fn ns(&self, n: usize) -> usize {
        let computing = self.out * self.inp * self.weights.cost() / 1000 * n;
        computing.max(self.weights.row_bytes(self.out) / BYTES_PER_NS)
    }

    /// Output `row` of token `t`.
    pub fn at(&self, t: usize, row: usize) -> *mut f32 {
        self.y.wrapping_add(t * self.ld + row)
    }
}

/// One or two products over the same tokens; with a nonlinearity the first becomes `act(first) · second` (or
/// `act(first)` where there is no second).
#[derive(Clone, Copy)]
pub struct Job {
    /// The product, or the gate.
    pub first: Product,
    /// The factor.
    pub second: Option<Product>,
    /// What joins them.
    pub act: Option<Nonlinearity>,
    /// Where the result goes as codes: nothing is written to the `y` of either product.
    pub codes: Option<CodesOut>,
    /// Tokens.
    pub n: usize,
}

impl Job {
    /// A job, not yet cut into tasks.
    pub fn new(first: Product, n: usize) -> Job {
        Job { first, second: None, act: None, codes: None, n }
    }

    /// A job whose result is `act(gate) · up`, or `act(up)` without a gate.
    pub fn gated(act: Nonlinearity, gate: Option<Product>, up: Product, n: usize) -> Job {
        let second = gate.is_some().then_some(up);
        Job { second, act: Some(act), ..Job::new(gate.unwrap_or(up), n) }
    }

    /// Rough time on one thread.
    fn ns(&self) -> usize {
        self.first.ns(self.n) + self.second.as_ref().map_or(0, |p| p.ns(self.n))
    }
}

/// Outputs `from .. to` of a job.
#[derive(Clone, Copy)]
struct Task {
    job: usize,
    from: usize,
    to: usize,
}

/// Cuts work into pieces that shrink: large ones first, since each begins with memory that nobody fetched ahead, small ones
/// last, so that all threads end together.
struct Cutter {
    /// Time of what is left.
    ns: usize,
    threads: usize,
    /// Bounds of a piece's time.
    bounds: (usize, usize),
}

impl Cutter {
    /// Work of `ns` in all; that of many tokens is cut finer, for its pieces keep activations in cache.
    fn new(ns: usize, threads: usize, many: bool) -> Cutter {
        Cutter { ns, threads, bounds: (6_000, if many { 200_000 } else { 1_000_000 }) }
    }

    /// The end of the piece from `from` on, of rows up to `end` that take `per_row` each: whole units.
    fn cut(&mut self, from: usize, end: usize, unit: usize, per_row: usize) -> usize {
        let share = (self.ns / (2 * self.threads)).clamp(self.bounds.0, self.bounds.1);
        let rows = if self.threads == 1 { end } else { (share / per_row.max(1)).max(1).next_multiple_of(unit) };
        let to = (from + rows).min(end);
        self.ns = self.ns.saturating_sub((to - from) * per_row);
        to
    }
}

/// Jobs as threads see them. The pointers in them are valid and disjoint where written: the maker of a job promises it.
struct Shared<'a>(&'a [Job]);
// SAFETY: see above.
unsafe impl Sync for Shared<'_> {}

impl Engine {
    /// Kernels of `level` on `threads`.
    pub fn new(isa: crate::Isa, level: Level, threads: usize) -> Engine {
        let pool = Pool::new(threads);
        let scratch = PerThread::new(pool.threads());
        let promoter = Promoter::new(isa, pool.pulse.clone());
        Engine {
            level,
            isa,
            pool,
            promoter,
            scratch,
            tasks: RefCell::default(),
            said: RefCell::default(),
            ran: RefCell::default(),
        }
    }

    /// The fastest way to multiply `n` rows with group `g` of `w`, packed or as stored.
    pub fn weights_of(&self, w: &W, g: usize, n: usize) -> Weights {
        self.promoter.packed(self, w, g, n).unwrap_or_else(|| self.weights(&w.groups[g], false))
    }

    /// The fastest way to multiply with `m` as stored (or its transpose, over decoded weights).
    pub fn weights(&self, m: &Matrix, transpose: bool) -> Weights {
        if let (Activation::Q8 { block }, Matrix::Rows { format, bytes, stride, .. }, false) =
            (activation(m), m, transpose)
        {
            if let Some(kernel) = dot::kernel(*format, self.isa) {
                self.ran("dot products on stored blocks", m.format_name());
                return Weights::Dot {
                    kernel,
                    many: packed::OnTheWay::new(self.level, self.isa, *format),
                    bytes: bytes.as_slice().as_ptr(),
                    len: bytes.len(),
                    stride: *stride,
                    block,
                };
            }
            self.slow(m, "multiplies by the scalar dot product");
            self.ran("SCALAR dot products", m.format_name());
            return Weights::Scalar { matrix: m, block };
        }
        let source = gemm::Source::new(m, transpose);
        if source.is_slow() {
            self.slow(m, "is decoded by the scalar code before it is multiplied");
            self.ran("SCALAR decoding, float tiles", m.format_name());
        } else {
            self.ran("float tiles on stored rows", m.format_name());
        }
        Weights::Float(source)
    }

    /// Products with `m` from its packed bytes ([`packed::pack`], all groups from `base` on); `None` where the format has
    /// no kernel here.
    ///
    /// # Safety
    /// The bytes stay there, unchanged, as long as the result is used.
    pub unsafe fn packed(&self, m: &Matrix, base: *const u8) -> Option<Weights> {
        let (set, group_bytes) = (packed::Set::of(self.isa)?, packed::group_bytes_of(m)?);
        let weights = packed::Weights { base, group_bytes };
        let Matrix::Rows { format, .. } = m else {
            return Some(Weights::PackedFloat { kernel: set.apart_kernel(packed::Apart::of(m)?)?, weights });
        };
        Some(match activation(m) {
            Activation::Q8 { block } => Weights::Packed { kernel: set.kernel(*format)?, weights, block },
            Activation::F32 => Weights::PackedFloat { kernel: set.float_kernel(*format)?, weights },
        })
    }

    /// Remembers that a kind of kernel was used.
    pub fn ran(&self, kernel: &'static str, on: &'static str) {
        let mut ran = self.ran.borrow_mut();
        if !ran.contains(&(kernel, on)) {
            ran.push((kernel, on));
        }
    }

    /// A line per kind of kernel that was used, with what it was used on.
    pub fn kernels(&self) -> Vec<String> {
        let mut ran = self.ran.borrow().clone();
        ran.sort();
        let lines = ran.chunk_by(|a, b| a.0 == b.0);
        lines.map(|l| format!("{}: {}", l[0].0, l.iter().map(|r| r.1).collect::<Vec<_>>().join(", "))).collect()
    }

    /// Says once per format that it has no fast kernel.
    fn slow(&self, m: &Matrix, what: &str) {
        let (name, mut said) = (m.format_name(), self.said.borrow_mut());
        if self.isa != crate::Isa::Scalar && !said.contains(&name) {
            said.push(name);
            tracing::info!("{name} has no {} kernel for this layout: it {what} (same results, slower)", self.isa);
        }
    }

    /// Runs jobs. Their pointers are valid for all tokens of each, and no two write the same place.
    ///
    /// # Safety
    /// What the line above says.
    pub unsafe fn run(&self, jobs: &[Job]) {
        let ns: usize = jobs.iter().map(Job::ns).sum();
        let threads = if ns < INLINE_NS { 1 } else { self.pool.threads() };
        let tasks = &mut *self.tasks.borrow_mut();
        tasks.clear();
        let mut cutter = Cutter::new(ns, threads, jobs.iter().any(|j| j.n > FEW));
        for (i, job) in jobs.iter().enumerate() {
            let (out, unit) = (job.first.out, unit(job, threads));
            let (per_row, mut from) = (job.ns() / out.max(1), 0);
            while from < out {
                let to = if unit == 0 { out } else { cutter.cut(from, out, unit, per_row) };
                tasks.push(Task { job: i, from, to });
                from = to;
            }
        }
        let (level, scratch, tasks) = (self.level, &self.scratch, &tasks[..]);
        let shared = Shared(jobs);
        let run = |thread: usize, i: usize| {
            // Whole struct captured, not its field: the promise of `Shared` is on the struct.
            let Shared(jobs) = &shared;
            let Task { job, from, to } = tasks[i];
            // SAFETY: one task at a time has this thread's scratch; outputs of tasks are disjoint.
            unsafe { task(level, &jobs[job], from..to, scratch.of(thread)) };
        };
        if threads == 1 {
            (0..tasks.len()).for_each(|i| run(0, i));
        } else {
            self.pool.run(tasks.len(), &run);
        }
    }

    /// Whether products of `n` rows read their codes as tiles.
    pub fn tiled(&self, n: usize) -> bool {
        self.isa == crate::Isa::Amx && n >= tiled::SIDE
    }

    /// Quantizes `n` rows of `inp` values, with `tiled` also into tiles: row `r` starts at `x(r)`.
    ///
    /// # Safety
    /// What `x` returns is valid for `inp` reads.
    pub unsafe fn quantize(
        &self,
        block: usize,
        (n, tiled): (usize, bool),
        inp: usize,
        codes: &mut Codes,
        x: &(dyn Fn(usize) -> *const f32 + Sync),
    ) {
        let (out, level) = (codes.make(n, inp, block, tiled), self.level);
        // SAFETY: row r is this task's alone.
        self.rows(n, inp / 8, &|r| unsafe { out.put(level, r, 0, slice::from_raw_parts(x(r), inp)) });
    }

    /// Calls `f` for ranges that together are `0 .. n`, each a multiple of `unit` long but for the last, with its thread
    /// and that thread's memory; all of it takes about `ns`.
    pub fn ranges(&self, n: usize, unit: usize, ns: usize, f: &(dyn Fn(Range<usize>, usize, &mut Scratch) + Sync)) {
        let threads = if ns < INLINE_NS { 1 } else { self.pool.threads() };
        let tasks = &mut *self.tasks.borrow_mut();
        tasks.clear();
        let (mut cutter, mut from) = (Cutter::new(ns, threads, true), 0);
        while from < n {
            let to = cutter.cut(from, n, unit, ns / n);
            tasks.push(Task { job: 0, from, to });
            from = to;
        }
        let (scratch, tasks) = (&self.scratch, &tasks[..]);
        // SAFETY: one task at a time has this thread's memory.
        let run = |thread: usize, i: usize| f(tasks[i].from..tasks[i].to, thread, unsafe { scratch.of(thread) });
        match threads {
            1 => (0..tasks.len()).for_each(|i| run(0, i)),
            _ => self.pool.run(tasks.len(), &run),
        }
    }

    /// Calls `f` for each of `n` rows that take about `ns` each, on several threads where that pays.
    pub fn rows(&self, n: usize, ns: usize, f: &(dyn Fn(usize) + Sync)) {
        let total = n * ns;
        if total < INLINE_NS || self.pool.threads() == 1 || n == 1 {
            return (0..n).for_each(f);
        }
        let tasks = n.min(self.pool.threads() * 4).min(total / (INLINE_NS / 4)).max(1);
        self.pool.run(tasks, &|_, i| (i * n / tasks..(i + 1) * n / tasks).for_each(f));
    }
}

/// The outputs `rows` of a job.
unsafe fn task(level: Level, job: &Job, rows: Range<usize>, scratch: &mut Scratch) {
    let (tile, scratch) = scratch.tile(if job.codes.is_some() { 2 * job.n * rows.len() } else { 0 });
    let (first, second) = match job.codes {
        None => (job.first, job.second),
        Some(_) => {
            let (one, two) = tile.split_at_mut(job.n * rows.len());
            (job.first.into_tile(one, &rows), job.second.map(|p| p.into_tile(two, &rows)))
        }
    };
    // SAFETY: the caller's promise.
    unsafe {
        product(level, &first, job.n, rows.clone(), scratch);
        if let Some(second) = &second {
            product(level, second, job.n, rows.clone(), scratch);
        }
        let part = |p: &Product, t: usize| slice::from_raw_parts_mut(p.at(t, rows.start), rows.len());
        for t in 0..job.n {
            match (job.act, &second) {
                (Some(act), Some(second)) => vmath::glu(level, act, part(&first, t), part(second, t)),
                (Some(act), None) => vmath::activate(level, act, part(&first, t)),
                (None, _) => {}
            }
            if let Some(codes) = &job.codes {
                codes.put(level, t, rows.start, part(&first, t));
            }
        }
    }
}

/// The outputs `rows` of `n` tokens.
///
/// # Safety
/// All pointers of `p` are valid: for all tokens of the input, for these outputs of `y`.
pub unsafe fn product(level: Level, p: &Product, n: usize, rows: Range<usize>, scratch: &mut KernelScratch) {
    // Steps whose logits nobody wants end with a product of no rows; kernels expect one at least.
    if n == 0 {
        return;
    }
    // SAFETY: the caller's promise: all tokens of the input, these outputs of `y`.
    unsafe {
        match (p.weights, p.input) {
            (Weights::Dot { kernel, many, bytes, len, stride, block }, Input::Codes { .. }) => {
                let weights = dot::Rows { bytes: slice::from_raw_parts(bytes, len), stride, inp: p.inp };
                let tokens = tokens(p.input, n, p.inp, block);
                let out = dot::Out { ptr: p.y, stride: p.ld };
                match many {
                    Some(many) if n >= packed::OnTheWay::TOKENS => {
                        many.run(weights, rows.clone(), tokens, out, &mut scratch.packed);
                    }
                    _ => kernel(weights, rows.clone(), tokens, out),
                }
            }
            (Weights::Packed { kernel, weights, block }, Input::Codes { .. }) => {
                let out = dot::Out { ptr: p.y, stride: p.ld };
                kernel(weights, rows.clone(), tokens(p.input, n, p.inp, block), out, &mut scratch.packed);
            }
            (Weights::PackedFloat { kernel, weights }, Input::Float { x, ld, tiled }) => {
                let x = packed::Floats { x, ld, n, inp: p.inp, tiled };
                kernel(weights, rows.clone(), x, dot::Out { ptr: p.y, stride: p.ld }, &mut scratch.packed);
            }
            (Weights::Scalar { matrix, block }, Input::Codes { .. }) => {
                scalar(&*matrix, block, tokens(p.input, n, p.inp, block), rows.clone(), p);
            }
            (Weights::Float(source), Input::Float { x, ld, .. }) => {
                let product = gemm::Product { source, out: p.out, inp: p.inp, x, ldx: ld, n, y: p.y, ldy: p.ld };
                gemm::run(level, &product, rows.clone(), &mut scratch.float);
            }
            _ => unreachable!("activations prepared for other weights"),
        }
        if !p.bias.is_null() {
            let bias = slice::from_raw_parts(p.bias.add(rows.start), rows.len());
            for t in 0..n {
                vmath::add(level, slice::from_raw_parts_mut(p.at(t, rows.start), rows.len()), bias);
            }
        }
    }
}

/// The scalar dot product of each row and token.
unsafe fn scalar(m: &Matrix, block: usize, tokens: dot::Tokens<'_>, rows: Range<usize>, p: &Product) {
    let Matrix::Rows { format, .. } = m else { return };
    let dot = format.info().dot.expect("a format with quantized activations has a dot product");
    for o in rows {
        let row = m.row(o).expect("row within the matrix");
        for t in 0..tokens.n {
            let x = Q8 {
                block,
                q: &tokens.q[t * p.inp..][..p.inp],
                d: &tokens.d[t * (p.inp / block)..][..p.inp / block],
                sums: &tokens.sums[t * (p.inp / 16)..][..p.inp / 16],
            };
            // SAFETY: the caller's promise.
            unsafe { *p.at(t, o) = dot(row, x, 0.0) };
        }
    }
}

/// # Safety
/// The input's codes are valid for `n` tokens as long as the result is used.
unsafe fn tokens<'a>(input: Input, n: usize, inp: usize, block: usize) -> dot::Tokens<'a> {
    let Input::Codes { q, d, sums, tiles } = input else { unreachable!("activations prepared for other weights") };
    // SAFETY: the caller's promise.
    unsafe {
        dot::Tokens {
            n,
            inp,
            q: slice::from_raw_parts(q, n * inp),
            d: slice::from_raw_parts(d, n * (inp / block)),
            sums: slice::from_raw_parts(sums, n * (inp / 16)),
            tiles,
        }
    }
}

/// Outputs of a task are a multiple of this: whole groups of panels, whole blocks where they become codes; 0 where all go
/// together. Float activations of many tokens are more than the second level of cache holds, so several panels share a part
/// of them, as long as all threads have work.
fn unit(job: &Job, threads: usize) -> usize {
    match &job.codes {
        Some(codes) => codes.block.max(64),
        None if matches!(job.first.weights, Weights::Float(gemm::Source::DecodeTransposed(_))) => 0,
        None if job.n == 1 => 32,
        None if job.n > FEW && matches!(job.first.weights, Weights::PackedFloat { .. }) => {
            64 * (job.first.out / (4 * 64 * threads)).clamp(1, 4)
        }
        None => 64,
    }
}

/// Quantized rows.
#[derive(Default)]
pub struct Codes {
    /// `[n, inp]`.
    pub q: Vec<i8>,
    /// `[n, inp / block]`.
    pub d: Vec<f32>,
    /// `[n, inp / 16]`.
    pub sums: Vec<i16>,
    /// The codes as tiles, where the last rows were made so.
    tiles: Option<CodeTiles>,
    tile_memory: packed::Lines,
}

impl Codes {
    /// Room for `n` rows, contents unspecified, and where to write them; with `tiled`, as tiles too.
    pub fn make(&mut self, n: usize, inp: usize, block: usize, tiled: bool) -> CodesOut {
        // Never shorter, so that memory is not cleared again and again.
        fn grow<T: Clone + Default>(v: &mut Vec<T>, n: usize) -> *mut T {
            if v.len() < n {
                v.resize(n, T::default());
            }
            v.as_mut_ptr()
        }
        let (blocks, sixteens) = (inp / block, inp / 16);
        let (q, d) = (grow(&mut self.q, n * inp), grow(&mut self.d, n * blocks));
        let memory = tiled.then(|| self.tile_memory.at_least(CodeTiles::bytes(n, inp)));
        // SAFETY: so many bytes.
        self.tiles = memory.map(|m| unsafe { CodeTiles::new(m.cast(), n, inp) });
        CodesOut { q, d, sums: grow(&mut self.sums, n * sixteens), tiles: self.tiles, inp, block }
    }

    /// As input of products, from row `row` on.
    pub fn input(&self, row: usize, inp: usize, block: usize) -> Input {
        Input::Codes {
            q: self.q[row * inp..].as_ptr(),
            d: self.d[row * (inp / block)..].as_ptr(),
            sums: self.sums[row * (inp / 16)..].as_ptr(),
            tiles: self.tiles.filter(|_| row == 0),
        }
    }
}

/// Where quantized rows go. Who makes it promises that tasks write disjoint places.
#[derive(Clone, Copy)]
pub struct CodesOut {
    q: *mut i8,
    d: *mut f32,
    sums: *mut i16,
    tiles: Option<CodeTiles>,
    inp: usize,
    block: usize,
}
// SAFETY: see above.
unsafe impl Sync for CodesOut {}
// SAFETY: see above.
unsafe impl Send for CodesOut {}

impl CodesOut {
    /// Quantizes `x`, whole blocks, as columns `from ..` of row `r`.
    ///
    /// # Safety
    /// The place is within what was made room for, and nobody else uses it.
    pub unsafe fn put(&self, level: Level, r: usize, from: usize, x: &[f32]) {
        let at = r * self.inp + from;
        // SAFETY: the caller's promise; rows and `from` are whole blocks, which are whole sixteens.
        unsafe {
            let q = slice::from_raw_parts_mut(self.q.add(at), x.len());
            let d = slice::from_raw_parts_mut(self.d.add(at / self.block), x.len() / self.block);
            let sums = slice::from_raw_parts_mut(self.sums.add(at / 16), x.len() / 16);
            quantize(level, self.block, x, q, d, sums);
            if let Some(tiles) = &self.tiles {
                tiles.put(r, from, q);
            }
        }
    }

    /// From row `r` on.
    pub fn skip(self, r: usize) -> CodesOut {
        let at = r * self.inp;
        CodesOut {
            q: self.q.wrapping_add(at),
            d: self.d.wrapping_add(at / self.block),
            sums: self.sums.wrapping_add(at / 16),
            tiles: None,
            ..self
        }
    }

    /// Copies row `r` of `from`, codes of this block and width.
    ///
    /// # Safety
    /// As [`CodesOut::put`], and `from` is valid for row `r`.
    pub unsafe fn copy(&self, to: usize, from: Input, r: usize) {
        let Input::Codes { q, d, sums, .. } = from else { return };
        let (blocks, sixteens) = (self.inp / self.block, self.inp / 16);
        // SAFETY: the caller's promise.
        unsafe {
            std::ptr::copy_nonoverlapping(q.add(r * self.inp), self.q.add(to * self.inp), self.inp);
            std::ptr::copy_nonoverlapping(d.add(r * blocks), self.d.add(to * blocks), blocks);
            std::ptr::copy_nonoverlapping(sums.add(r * sixteens), self.sums.add(to * sixteens), sixteens);
        }
    }
}

impl Input {
    /// The input from row `r` on, of rows of `inp` elements; codes in blocks of `block`.
    ///
    /// # Safety
    /// There are that many rows.
    pub unsafe fn skip(self, r: usize, inp: usize, block: usize) -> Input {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Input::Float { x, ld, .. } => Input::Float { x: x.add(r * ld), ld, tiled: None },
                Input::Codes { q, d, sums, tiles } => {
                    let (d, sums) = (d.add(r * (inp / block)), sums.add(r * (inp / 16)));
                    Input::Codes { q: q.add(r * inp), d, sums, tiles: tiles.filter(|_| r == 0) }
                }
            }
        }
    }
}

/// A pointer that tasks share; who makes it promises that they write disjoint places.
#[derive(Clone, Copy)]
pub struct Ptr<T>(pub *mut T);
// SAFETY: see above.
unsafe impl<T> Sync for Ptr<T> {}
// SAFETY: see above.
unsafe impl<T> Send for Ptr<T> {}

impl<T> Ptr<T> {
    /// The pointer (a method, so that closures capture the whole).
    pub fn get(&self) -> *mut T {
        self.0
    }
}

/// One value per thread of the pool.
pub struct PerThread<T>(Box<[std::cell::UnsafeCell<T>]>);
// SAFETY: each value is used by one thread at a time: the pool gives an index to one thread.
unsafe impl<T: Send> Sync for PerThread<T> {}

impl<T: Default> PerThread<T> {
    /// Default values.
    pub fn new(threads: usize) -> PerThread<T> {
        PerThread((0..threads).map(|_| Default::default()).collect())
    }

    /// The value of a thread.
    ///
    /// # Safety
    /// Called within a task with the index that the pool gave it, and not twice at once.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn of(&self, thread: usize) -> &mut T {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.0[thread].get() }
    }
}
