//! Products of weights with activations: which arithmetic, which kernel, which thread.
//!
//! Owns [`Job`] (one or two products of one input, their bias and nonlinearity, cut into tasks by outputs), the
//! quantized activations, and the log line of formats without a fast kernel. Does not own: the kernels
//! ([`crate::dot`], [`crate::gemm`]), when products are wanted ([`crate::ops`]).
use crate::{dot, gemm, packed, pool::Pool, promote::Promoter, quantize::quantize, simd::Level, vmath};
use pondera_ops::{Activation as Nonlinearity, W, reference::product::activation};
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
    /// Formats that were said to be slow.
    said: RefCell<Vec<&'static str>>,
}

/// A thread's memory, kept between products.
#[derive(Default)]
struct Scratch {
    float: gemm::Scratch,
    packed: packed::Scratch,
}

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
            Weights::Float(_) => None,
        }
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

    /// Thousandths of a nanosecond of one multiplication, roughly.
    fn cost(&self) -> usize {
        match self {
            Weights::Dot { .. } => 30,
            Weights::Packed { .. } => 15,
            Weights::Scalar { .. } => 700,
            Weights::Float(s) if s.is_slow() => 700,
            Weights::Float(_) => 90,
        }
    }
}

/// The input of products: f32 rows, or their codes.
#[derive(Clone, Copy)]
pub enum Input {
    /// `[n, ld]`.
    Float { x: *const f32, ld: usize },
    /// Codes, scales and sums of `[n, inp]`.
    Codes { q: *const i8, d: *const f32, sums: *const i16 },
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
    /// Tokens.
    pub n: usize,
    from_task: usize,
    chunk: usize,
}

impl Job {
    /// A job, not yet cut into tasks.
    pub fn new(first: Product, n: usize) -> Job {
        Job { first, second: None, act: None, n, from_task: 0, chunk: 0 }
    }

    /// Rough time on one thread.
    fn ns(&self) -> usize {
        let one = |p: &Product| p.out * p.inp * p.weights.cost() / 1000 * self.n;
        one(&self.first) + self.second.as_ref().map_or(0, one)
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
        Engine { level, isa, pool, promoter, scratch, said: RefCell::default() }
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
            return Weights::Scalar { matrix: m, block };
        }
        let source = gemm::Source::new(m, transpose);
        if source.is_slow() {
            self.slow(m, "is decoded by the scalar code before it is multiplied");
        }
        Weights::Float(source)
    }

    /// Products with `m` from its packed bytes ([`packed::pack`], all groups from `base` on); `None` where the format has
    /// no kernel here.
    ///
    /// # Safety
    /// The bytes stay there, unchanged, as long as the result is used.
    pub unsafe fn packed(&self, m: &Matrix, base: *const u8) -> Option<Weights> {
        let (Activation::Q8 { block }, Matrix::Rows { format, inp, .. }) = (activation(m), m) else { return None };
        let kernel = packed::Set::of(self.isa)?.kernel(*format)?;
        let weights = packed::Weights { base, group_bytes: packed::group_bytes(*format, *inp)? };
        Some(Weights::Packed { kernel, weights, block })
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
    pub unsafe fn run(&self, jobs: &mut [Job]) {
        let ns: usize = jobs.iter().map(Job::ns).sum();
        let threads = if ns < INLINE_NS { 1 } else { self.pool.threads() };
        let mut tasks = 0;
        for job in jobs.iter_mut() {
            job.from_task = tasks;
            job.chunk = chunk(job, ns, threads);
            tasks += job.first.out.div_ceil(job.chunk).max(1);
        }
        let (level, scratch) = (self.level, &self.scratch);
        let shared = Shared(jobs);
        let run = |thread: usize, i: usize| {
            // Whole struct captured, not its field: the promise of `Shared` is on the struct.
            let Shared(jobs) = &shared;
            let job = &jobs[jobs.partition_point(|j| j.from_task <= i) - 1];
            let from = (i - job.from_task) * job.chunk;
            // SAFETY: one task at a time has this thread's scratch; outputs of tasks are disjoint.
            unsafe { task(level, job, from..(from + job.chunk).min(job.first.out), scratch.of(thread)) };
        };
        if threads == 1 {
            (0..tasks).for_each(|i| run(0, i));
        } else {
            self.pool.run(tasks, &run);
        }
    }

    /// Quantizes `n` rows of `inp` values, `ld` apart.
    ///
    /// # Safety
    /// `x` is valid for them.
    pub unsafe fn quantize(&self, block: usize, x: *const f32, ld: usize, n: usize, inp: usize, codes: &mut Codes) {
        codes.resize(n, inp, block);
        let level = self.level;
        let (x, q) = (Ptr(x.cast_mut()), Ptr(codes.q.as_mut_ptr()));
        let (d, sums) = (Ptr(codes.d.as_mut_ptr()), Ptr(codes.sums.as_mut_ptr()));
        self.rows(n, inp / 2, &|t| {
            // SAFETY: row t of each is this task's alone.
            unsafe {
                let row = slice::from_raw_parts(x.get().add(t * ld), inp);
                let q = slice::from_raw_parts_mut(q.get().add(t * inp), inp);
                let d = slice::from_raw_parts_mut(d.get().add(t * (inp / block)), inp / block);
                let sums = slice::from_raw_parts_mut(sums.get().add(t * (inp / 16)), inp / 16);
                quantize(level, block, row, q, d, sums);
            }
        });
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
    // SAFETY: the caller's promise.
    unsafe {
        product(level, &job.first, job.n, rows.clone(), scratch);
        if let Some(second) = &job.second {
            product(level, second, job.n, rows.clone(), scratch);
        }
        let Some(act) = job.act else { return };
        for t in 0..job.n {
            let part = |p: &Product| slice::from_raw_parts_mut(p.y.add(t * p.ld + rows.start), rows.len());
            match &job.second {
                Some(second) => vmath::glu(level, act, part(&job.first), part(second)),
                None => vmath::activate(level, act, part(&job.first)),
            }
        }
    }
}

unsafe fn product(level: Level, p: &Product, n: usize, rows: Range<usize>, scratch: &mut Scratch) {
    // SAFETY: the caller's promise: all tokens of the input, these outputs of `y`.
    unsafe {
        match (p.weights, p.input) {
            (Weights::Dot { kernel, many, bytes, len, stride, block }, Input::Codes { q, d, sums }) => {
                let weights = dot::Rows { bytes: slice::from_raw_parts(bytes, len), stride, inp: p.inp };
                let tokens = tokens(q, d, sums, n, p.inp, block);
                let out = dot::Out { ptr: p.y, stride: p.ld };
                match many {
                    Some(many) if n >= packed::OnTheWay::TOKENS => {
                        many.run(weights, rows.clone(), tokens, out, &mut scratch.packed);
                    }
                    _ => kernel(weights, rows.clone(), tokens, out),
                }
            }
            (Weights::Packed { kernel, weights, block }, Input::Codes { q, d, sums }) => {
                let out = dot::Out { ptr: p.y, stride: p.ld };
                kernel(weights, rows.clone(), tokens(q, d, sums, n, p.inp, block), out, &mut scratch.packed);
            }
            (Weights::Scalar { matrix, block }, Input::Codes { q, d, sums }) => {
                scalar(&*matrix, block, tokens(q, d, sums, n, p.inp, block), rows.clone(), p);
            }
            (Weights::Float(source), Input::Float { x, ld }) => {
                let product = gemm::Product { source, out: p.out, inp: p.inp, x, ldx: ld, n, y: p.y, ldy: p.ld };
                gemm::run(level, &product, rows.clone(), &mut scratch.float);
            }
            _ => unreachable!("activations prepared for other weights"),
        }
        if !p.bias.is_null() {
            let bias = slice::from_raw_parts(p.bias.add(rows.start), rows.len());
            for t in 0..n {
                vmath::add(level, slice::from_raw_parts_mut(p.y.add(t * p.ld + rows.start), rows.len()), bias);
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
            unsafe { *p.y.add(t * p.ld + o) = dot(row, x, 0.0) };
        }
    }
}

unsafe fn tokens<'a>(
    q: *const i8,
    d: *const f32,
    sums: *const i16,
    n: usize,
    inp: usize,
    block: usize,
) -> dot::Tokens<'a> {
    // SAFETY: the caller's promise.
    unsafe {
        dot::Tokens {
            n,
            inp,
            q: slice::from_raw_parts(q, n * inp),
            d: slice::from_raw_parts(d, n * (inp / block)),
            sums: slice::from_raw_parts(sums, n * (inp / 16)),
        }
    }
}

/// Outputs per task: enough tasks to even out threads that are slowed down, none that is too small to be worth claiming,
/// whole groups of panels.
fn chunk(job: &Job, ns: usize, threads: usize) -> usize {
    let out = job.first.out.max(1);
    if threads == 1 || matches!(job.first.weights, Weights::Float(gemm::Source::DecodeTransposed(_))) {
        return out;
    }
    let wanted = (ns / (threads * 8)).clamp(4_000, 200_000);
    let per_row = (job.ns() / out).max(1);
    let unit = if job.n == 1 { 32 } else { 64 };
    (wanted / per_row).max(1).next_multiple_of(unit).min(out)
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
}

impl Codes {
    /// Room for `n` rows; contents unspecified.
    pub fn resize(&mut self, n: usize, inp: usize, block: usize) {
        self.q.resize(n * inp, 0);
        self.d.resize(n * (inp / block), 0.0);
        self.sums.resize(n * (inp / 16), 0);
    }

    /// As input of products, from row `row` on.
    pub fn input(&self, row: usize, inp: usize, block: usize) -> Input {
        Input::Codes {
            q: self.q[row * inp..].as_ptr(),
            d: self.d[row * (inp / block)..].as_ptr(),
            sums: self.sums[row * (inp / 16)..].as_ptr(),
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
