//! The CPU backend: [`Cpu`] equals the scalar specification ([`pondera_ops::Reference`]) to the bit, for every
//! format, shape, number of threads and instruction set.
//!
//! Owns: instruction set detection, kernels, the thread pool, its KV cache's storage. Does not own: what an operation
//! means (`pondera-ops`), block formats (`pondera-quant`), sequences and pages (`pondera-engine`).

pub mod dot;
pub mod isa;

pub use isa::{Error, Isa};
use pondera_ops::*;

/// Most threads of one backend.
pub const MAX_THREADS: usize = 1024;

/// How a [`Cpu`] is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Instruction set.
    pub isa: Isa,
    /// Threads, the caller's included.
    pub threads: usize,
}

impl Default for Options {
    /// The fastest instruction set and a thread per available core.
    fn default() -> Options {
        Options { isa: Isa::detect(), threads: default_threads() }
    }
}

/// Physical cores that this process may run on.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get()).min(MAX_THREADS)
}

/// The CPU backend. Used from one thread; it brings its own helpers.
pub struct Cpu {
    options: Options,
    reference: Reference,
}

impl Cpu {
    /// A backend.
    ///
    /// # Errors
    /// [`Error::UnsupportedIsa`] where the machine lacks the instruction set, [`Error::Threads`] for a number of
    /// threads that is 0 or beyond [`MAX_THREADS`].
    pub fn new(options: Options) -> Result<Cpu, Error> {
        if !options.isa.supported() {
            return Err(Error::UnsupportedIsa(options.isa));
        }
        if options.threads == 0 || options.threads > MAX_THREADS {
            return Err(Error::Threads(options.threads));
        }
        Ok(Cpu { options, reference: Reference::new() })
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.options.isa
    }

    /// Threads in use, the caller's included.
    pub fn threads(&self) -> usize {
        self.options.threads
    }
}

impl Ops for Cpu {
    fn input(&self, rows: usize, cols: usize, data: &[f32]) -> Act {
        self.reference.input(rows, cols, data)
    }
    fn read(&self, x: &Act, out: &mut Vec<f32>) {
        self.reference.read(x, out)
    }
    fn reserve(&self, caches: &[CacheSpec], kv: KvType, pages: usize) {
        self.reference.reserve(caches, kv, pages)
    }
    fn embed(&self, table: &W, index: Index, scale: f32, batch: &Batch) -> Act {
        self.reference.embed(table, index, scale, batch)
    }
    fn linear(&self, l: &Linear, x: &Act) -> Act {
        self.reference.linear(l, x)
    }
    fn linears(&self, ls: &[&Linear], x: &Act) -> Acts {
        self.reference.linears(ls, x)
    }
    fn linear_heads(&self, w: &W, x: &Act, transpose: bool) -> Act {
        self.reference.linear_heads(w, x, transpose)
    }
    fn norm(&self, n: &Norm, x: &Act, group: usize) -> Act {
        self.reference.norm(n, x, group)
    }
    fn rotary(&self, rope: &Rope, batch: &Batch) -> Act {
        self.reference.rotary(rope, batch)
    }
    fn rope(&self, x: Act, table: &Act, layout: &RopeLayout) -> Act {
        self.reference.rope(x, table, layout)
    }
    fn append(&self, cache: CacheId, k: &Act, v: Option<&Act>, batch: &Batch) {
        self.reference.append(cache, k, v, batch)
    }
    fn attention(&self, a: &Attention, q: &Act, batch: &Batch) -> Act {
        self.reference.attention(a, q, batch)
    }
    fn columns(&self, x: &Act, group: usize, from: usize, to: usize) -> Act {
        self.reference.columns(x, group, from, to)
    }
    fn concat_heads(&self, a: &Act, b: &Act, heads: usize) -> Act {
        self.reference.concat_heads(a, b, heads)
    }
    fn select_rows(&self, x: &Act, rows: &[u32]) -> Act {
        self.reference.select_rows(x, rows)
    }
    fn add(&self, a: Act, b: &Act) -> Act {
        self.reference.add(a, b)
    }
    fn scale(&self, x: Act, factor: f32) -> Act {
        self.reference.scale(x, factor)
    }
    fn softcap(&self, x: Act, cap: f32) -> Act {
        self.reference.softcap(x, cap)
    }
    fn sigmoid_mul(&self, x: Act, gate: &Act) -> Act {
        self.reference.sigmoid_mul(x, gate)
    }
    fn mlp(&self, m: &Mlp, x: &Act) -> Act {
        self.reference.mlp(m, x)
    }
    fn route(&self, r: &Route, logits: &Act) -> Act {
        self.reference.route(r, logits)
    }
    fn experts(&self, e: &Experts, route: &Act, x: &Act) -> Act {
        self.reference.experts(e, route, x)
    }
    fn observe(&self, _: Point, _: &Act) {}
}
