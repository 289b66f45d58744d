//! Which backend computes. The only file of the project's libraries that names one.
use crate::{Error, ErrorKind, Result};
use pondera_cpu::{Cpu, Options, ceiling::READ_BYTES, default_threads};
use pondera_ops::Ops;

pub use pondera_cpu::{
    Isa,
    ceiling::{Ceiling, Roof},
};

/// What was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Instruction set in use.
    pub isa: Isa,
    /// Threads that compute.
    pub threads: usize,
}

/// What this machine can do at most on `threads` (0: one per core), measured in about half a second. Takes a quarter of
/// the free memory, at most 1 GiB, until it returns.
pub fn ceiling(threads: usize) -> Ceiling {
    Ceiling::measure(number(threads), room())
}

/// Threads that are meant: one per core for 0.
fn number(threads: usize) -> usize {
    if threads == 0 { default_threads() } else { threads }
}

/// Bytes that are read to measure how fast that goes.
fn room() -> usize {
    let free = crate::memory::available_bytes().and_then(|n| usize::try_from(n / 4).ok()).unwrap_or(READ_BYTES);
    free.min(READ_BYTES)
}

/// The backend for `threads` (0: one per core) and `isa` (none: the fastest).
pub(crate) fn open(threads: usize, isa: Option<Isa>) -> Result<(Box<dyn Ops>, Backend)> {
    let threads = number(threads);
    let isa = isa.unwrap_or_else(Isa::detect);
    let cpu = Cpu::new(Options { isa, threads }).map_err(|e| {
        let kind = match e {
            pondera_cpu::Error::Threads(_) => ErrorKind::Invalid,
            _ => ErrorKind::Isa,
        };
        Error::new(kind, e.to_string())
    })?;
    let chosen = Backend { isa: cpu.isa(), threads: cpu.threads() };
    Ok((Box::new(cpu), chosen))
}
