//! Requests to tokens: sequences, the scheduler, the paged KV cache, sampling, stop strings.
//!
//! Owns: [`Engine`] (an open model), the step (admit, schedule, forward, sample, emit), what memory it takes, and
//! the choice of a backend: no other library names one. Does not own: a model's equations (`pondera-arch`),
//! arithmetic (`pondera-ops`, `pondera-cpu`), tokens and templates (`pondera-text`), files (`pondera-weights`).
//!
//! What a request gets back depends on the weights and the request alone: never on the batch it shares, the size
//! of chunks, preemption, the number of threads or whether tokens are guessed ahead.
#![forbid(unsafe_code)]

mod adapters;
mod admission;
mod backend;
mod draft;
mod embed;
mod engine;
mod error;
mod guided;
mod kv;
mod math;
mod memory;
mod net;
mod open;
mod options;
mod pace;
mod queue;
mod request;
mod rows;
mod runner;
mod sampler;
mod scheduler;
mod sequence;
mod speculation;
mod states;
mod stop;
#[cfg(test)]
mod tests;
mod words;

pub use adapters::AdapterId;
pub use backend::{Backend, Ceiling, Isa, Roof, ceiling};
pub use embed::{Pooling, normalize};
pub use engine::{Engine, plan};
pub use error::{Error, ErrorKind, Result};
pub use math::log_sum_exp;
pub use memory::{MemoryPlan, available_bytes};
pub use open::{read_config, shape};
pub use options::{EngineOptions, Progress, Source};
pub use pondera_cpu::heap;
pub use pondera_ops::{KvType, Layout, PAGE, Settled};
pub use request::{
    Completion, Event, FinishReason, Load, Logprob, Request, RequestId, STOP_BYTES_MAX, STOPS_MAX, Sampling,
    TOP_LOGPROBS_MAX, Timings, Usage,
};
pub use rows::{Logits, Routing, Score, TokenLogprobs, Trace, TraceOptions};
pub use speculation::{Guesses, SPECULATION_MAX, Speculation};
pub use stop::Stops;
