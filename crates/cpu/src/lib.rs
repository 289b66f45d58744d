//! The CPU backend: [`Cpu`] equals the scalar specification ([`pondera_ops::Reference`]) to the bit, for every
//! format, shape, number of threads and instruction set.
//!
//! Owns: instruction set detection, kernels, the thread pool, its KV cache's storage. Does not own: what an operation
//! means (`pondera-ops`), block formats (`pondera-quant`), sequences and pages (`pondera-engine`).

mod attention;
pub mod ceiling;
pub mod dot;
mod gemm;
pub mod heap;
pub mod isa;
mod kv;
mod memory;
mod moe;
mod ops;
pub mod packed;
mod pool;
mod product;
mod promote;
mod quantize;
mod rows;
mod scan;
mod select;
mod simd;
pub mod tiled;
mod vmath;

pub use isa::{Error, Isa};

use pondera_ops::Arena;
use product::{Codes, Engine, Job, PerThread};
use simd::Level;
use std::cell::{Cell, RefCell};

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
    pool::physical_cores().clamp(1, MAX_THREADS)
}

/// The CPU backend. Used from the thread that made it; it brings its own helpers.
pub struct Cpu {
    options: Options,
    engine: Engine,
    arena: Arena,
    caches: RefCell<Vec<kv::Cache>>,
    states: RefCell<scan::States>,
    selecting: PerThread<select::Buffers>,
    /// Codes of the last activation, for blocks of 32 and of 256.
    codes: RefCell<[Coded; 2]>,
    /// The stamp of the last norm's result, and the block in which such results were last wanted as codes (0: none was).
    normed: Cell<(u64, usize)>,
    /// The last activation that was laid out for tiles (its stamp), and where.
    tiled: RefCell<(u64, Option<tiled::Tiled>, tiled::Buffer)>,
    /// Codes of what lies between the halves of a feed-forward block.
    hidden: RefCell<Codes>,
    head_codes: RefCell<Codes>,
    jobs: RefCell<Vec<Job>>,
    attending: RefCell<attention::Scratch>,
    experts: RefCell<moe::Scratch>,
    choices: PerThread<moe::Choice>,
    /// The greatest values of parts of rows.
    greatest: RefCell<Vec<(u32, f32)>>,
}

/// Codes and the activation (its stamp, and the block) they were made from.
#[derive(Default)]
struct Coded {
    stamp: (u64, usize),
    codes: Codes,
}

impl Cpu {
    /// A backend.
    ///
    /// # Errors
    /// [`Error::UnsupportedIsa`] where the machine lacks the instruction set, [`Error::Threads`] for a number of
    /// threads that is 0 or beyond [`MAX_THREADS`].
    pub fn new(options: Options) -> Result<Cpu, Error> {
        let level = Level::new(options.isa).ok_or(Error::UnsupportedIsa(options.isa))?;
        if options.threads == 0 || options.threads > MAX_THREADS {
            return Err(Error::Threads(options.threads));
        }
        tracing::debug!("cpu: {} {:?}, {} threads", options.isa, options.isa.extras(), options.threads);
        let engine = Engine::new(options.isa, level, options.threads);
        let threads = engine.pool.threads();
        Ok(Cpu {
            options,
            engine,
            arena: Arena::default(),
            caches: RefCell::default(),
            states: RefCell::new(scan::States::new(threads)),
            selecting: PerThread::new(threads),
            codes: RefCell::default(),
            normed: Cell::default(),
            tiled: RefCell::default(),
            hidden: RefCell::default(),
            head_codes: RefCell::default(),
            jobs: RefCell::default(),
            attending: RefCell::new(attention::Scratch::new(threads)),
            experts: RefCell::default(),
            choices: PerThread::new(threads),
            greatest: RefCell::default(),
        })
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.options.isa
    }

    /// Threads in use, the caller's included.
    pub fn threads(&self) -> usize {
        self.options.threads
    }

    /// Bytes of activations held, in use and free.
    pub fn arena_bytes(&self) -> usize {
        self.arena.bytes()
    }
}
