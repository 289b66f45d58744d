//! How an engine is set up: where the model is, and its sizes.
use crate::Isa;
use pondera_arch::Mix;
use pondera_ops::{KvType, Layout};
use pondera_quant::{Bytes, Format};
use std::path::Path;
use std::time::Duration;

/// Where a model comes from.
#[derive(Clone, Debug)]
pub enum Source<'a> {
    /// A folder or file.
    Path(&'a Path),
    /// A GGUF file in memory (the model in the box).
    Gguf {
        /// Its name in messages.
        name: &'a str,
        /// The file's bytes.
        bytes: Bytes,
    },
    /// Random weights of a published shape.
    Shape {
        /// The shape's name in the table of `pondera-arch`.
        name: &'a str,
        /// Type of the matrices.
        format: Format,
        /// In place of it: a type for each matrix by its name.
        mix: Option<Mix>,
        /// Only so many layers.
        layers: Option<usize>,
        /// Of the random weights.
        seed: u64,
    },
}

/// Sizes and choices of an engine. None of them changes a bit of any result, but for `kv`.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Threads that compute; 0: as many as the machine offers.
    pub threads: usize,
    /// Instruction set; none: the best that the machine has.
    pub isa: Option<Isa>,
    /// How weights lie in memory. Where memory is short, as their files have them.
    pub layout: Layout,
    /// Type of the KV cache.
    pub kv: KvType,
    /// Most tokens of one sequence, prompt and completion together; none: what the model was trained for, or
    /// less where memory is short (a line in the log says so).
    pub ctx: Option<usize>,
    /// Tokens of all sequences that the KV cache holds at once; none: as `kv_contexts` says. Never less than `ctx`.
    pub kv_tokens: Option<usize>,
    /// Where `kv_tokens` says nothing: room for so many sequences of `ctx`, as far as a quarter of the memory that is left
    /// goes; one always fits.
    pub kv_contexts: usize,
    /// Most bytes of weights and all else; none: what the machine has.
    pub memory: Option<u64>,
    /// Most rows of one sequence's prompt per step.
    pub chunk: usize,
    /// Most rows of a step.
    pub max_rows: usize,
    /// Most sequences that run at once; others wait.
    pub max_sequences: usize,
    /// Ended sequences whose beginnings stay in the cache, while nobody else wants the room, for later ones that begin
    /// alike: the turns of a conversation. 0 keeps none.
    pub max_prefixes: usize,
    /// Longest step while somebody decodes: prompts get fewer rows then. Changes no bit. None: as many as fit.
    pub step_time: Option<Duration>,
    /// Most requests that wait; [`crate::Engine::submit`] refuses more.
    pub max_waiting: usize,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            threads: 0,
            isa: None,
            layout: Layout::Auto,
            kv: KvType::F16,
            ctx: None,
            kv_tokens: None,
            kv_contexts: 1,
            memory: None,
            chunk: 512,
            max_rows: 512,
            max_sequences: 64,
            max_prefixes: 16,
            step_time: None,
            max_waiting: 1024,
        }
    }
}

/// What a long load is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The stage's name, for people.
    pub stage: &'static str,
    /// Units done.
    pub done: u64,
    /// Units to do; 0 where it is not known.
    pub total: u64,
}
