//! What is asked of the engine and what comes back: plain data, no text processing.
use crate::{Error, Guesses, Result, Speculation};
use pondera_text::Grammar;
use std::{sync::Arc, time::Instant};

/// How tokens are chosen from logits. [`Sampling::default`] is greedy. The steps, in this order:
///
/// 1. `logit_bias` is added;
/// 2. `repetition_penalty` over prompt and completion (a positive logit is divided, a negative one multiplied),
///    then `frequency_penalty` times the count in the completion and `presence_penalty` are subtracted;
/// 3. temperature 0: the greatest logit, ties to the lower id. Otherwise logits are divided by it;
/// 4. `top_k`, `top_p`, `min_p`, `typical_p`, each on the renormalised rest of the one before;
/// 5. one draw, with a random number that depends on `seed` and the token's position in the sequence alone.
///
/// Log probabilities and counts follow the raw logits: neither bias nor penalties nor temperature move them.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// `0 ..= 100`; 0 is greedy.
    pub temperature: f32,
    /// Keep the `top_k` likeliest; 0 keeps all.
    pub top_k: usize,
    /// Keep the likeliest until their probabilities reach this, `0 ..= 1`; 1 keeps all. The likeliest always stays.
    pub top_p: f32,
    /// Keep what is at least this fraction as likely as the likeliest, `0 ..= 1`; 0 keeps all.
    pub min_p: f32,
    /// Locally typical sampling: keep those whose surprise is nearest to the entropy until their probabilities
    /// reach this, `0 ..= 1`; 1 keeps all.
    pub typical_p: f32,
    /// Above 0; 1 changes nothing.
    pub repetition_penalty: f32,
    /// `-100 ..= 100`; 0 changes nothing.
    pub frequency_penalty: f32,
    /// `-100 ..= 100`; 0 changes nothing.
    pub presence_penalty: f32,
    /// Added to the logits of these ids; `-inf` forbids a token.
    pub logit_bias: Vec<(u32, f32)>,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

/// Most stop strings, and most bytes of one.
pub const STOPS_MAX: usize = 64;
/// See [`STOPS_MAX`].
pub const STOP_BYTES_MAX: usize = 1024;
/// Most alternatives that a token's log probabilities may list.
pub const TOP_LOGPROBS_MAX: usize = 128;

impl Sampling {
    /// Whether every value is within its documented range.
    pub fn check(&self, vocab: usize) -> Result<()> {
        let ranges = [
            ("temperature", self.temperature, 0.0, 100.0),
            ("top_p", self.top_p, 0.0, 1.0),
            ("min_p", self.min_p, 0.0, 1.0),
            ("typical_p", self.typical_p, 0.0, 1.0),
            ("repetition_penalty", self.repetition_penalty, f32::MIN_POSITIVE, 100.0),
            ("frequency_penalty", self.frequency_penalty, -100.0, 100.0),
            ("presence_penalty", self.presence_penalty, -100.0, 100.0),
        ];
        for (name, v, min, max) in ranges {
            if !(min..=max).contains(&v) {
                return Err(Error::invalid(format!("{name}: {v} is not within {min} ..= {max}")));
            }
        }
        for &(id, v) in &self.logit_bias {
            if id as usize >= vocab {
                return Err(Error::invalid(format!("logit_bias: token {id} is not within the vocabulary of {vocab}")));
            }
            if v.is_nan() || v == f32::INFINITY {
                return Err(Error::invalid(format!("logit_bias: {v} for token {id} is no finite number or -inf")));
            }
        }
        Ok(())
    }

    /// Whether penalties change anything.
    pub(crate) fn penalises(&self) -> bool {
        self.repetition_penalty != 1.0 || self.frequency_penalty != 0.0 || self.presence_penalty != 0.0
    }
}

/// One completion to be made.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The prompt's ids, special tokens included; at least one.
    pub prompt: Vec<u32>,
    /// How to choose tokens.
    pub sampling: Sampling,
    /// The completion ends before the first of these that its text contains (at most [`STOPS_MAX`] of at most
    /// [`STOP_BYTES_MAX`] bytes). Needs a tokenizer.
    pub stop: Vec<String>,
    /// Most tokens to generate; none: until the context is full.
    pub max_tokens: Option<usize>,
    /// End-of-sequence tokens do not end the completion.
    pub ignore_eos: bool,
    /// Further ids that end the completion, as the tokenizer's own do.
    pub stop_tokens: Vec<u32>,
    /// Show special tokens in the text.
    pub show_special: bool,
    /// Special tokens that are shown whatever `show_special` says.
    pub shown: Arc<[u32]>,
    /// Report log probabilities: of the chosen token, and of this many likeliest ones.
    pub logprobs: Option<usize>,
    /// Whom it is for: what is cached of a beginning is shared with the same one alone.
    pub tenant: u64,
    /// When it must have ended: later it fails with [`crate::ErrorKind::Late`] at the next step, and what it held is free.
    pub deadline: Option<Instant>,
    /// The adapter that it takes ([`crate::Engine::load_adapter`]); none: what [`crate::Engine::use_adapter`] says.
    pub adapter: Option<crate::AdapterId>,
    /// Guess tokens ahead; changes nothing but the speed.
    pub speculation: Option<Speculation>,
    /// What the completion must follow. It ends where nothing can follow, and never in the middle but for its length.
    pub grammar: Option<Arc<Grammar>>,
}

/// Names a request within its engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// An end-of-sequence token.
    Stop,
    /// This one of [`Request::stop`].
    StopString(usize),
    /// `max_tokens`, or the context is full.
    Length,
    /// [`crate::Engine::cancel`].
    Cancelled,
}

impl FinishReason {
    /// The name that APIs use.
    pub fn name(self) -> &'static str {
        match self {
            FinishReason::Stop | FinishReason::StopString(_) => "stop",
            FinishReason::Length => "length",
            FinishReason::Cancelled => "cancelled",
        }
    }
}

/// Tokens in and out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, how many another request had left in the cache.
    pub cached_tokens: usize,
    /// Tokens generated, an end-of-sequence token included.
    pub completion_tokens: usize,
}

/// Where the time of a request went, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    /// From submission to the first step that worked on it.
    pub queue_s: f64,
    /// From there to the first token.
    pub prefill_s: f64,
    /// From the first token to the last.
    pub decode_s: f64,
    /// Computed tokens of the prompt per second of `prefill_s`; 0 if nothing was generated.
    pub prefill_tps: f64,
    /// Tokens after the first per second of `decode_s`; 0 if there are none.
    pub decode_tps: f64,
}

/// A token and its natural log probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logprob {
    /// The token.
    pub id: u32,
    /// `ln p` under the raw logits.
    pub logprob: f64,
}

/// What happens to a request. Text never holds half a character, and never the start of a stop string before it
/// is certain that none comes.
#[derive(Debug)]
pub enum Event<'a> {
    /// Part of the prompt has been computed.
    Prefill {
        /// Tokens computed.
        done: usize,
        /// Tokens to compute.
        total: usize,
    },
    /// A token was chosen.
    Token {
        /// Its id.
        id: u32,
        /// The text that can be shown now, of this token or of earlier ones. Often empty.
        text: &'a str,
        /// Of the chosen token, if asked for.
        logprob: Option<f64>,
        /// The likeliest tokens, best first, as many as asked for.
        top: &'a [Logprob],
    },
    /// The completion ended; the last event of its request.
    Finished {
        /// Why.
        reason: FinishReason,
        /// The rest of the text.
        text: &'a str,
        /// Tokens in and out.
        usage: Usage,
        /// Seconds.
        timings: Timings,
        /// Of [`Request::speculation`].
        guesses: Guesses,
    },
    /// The request failed; its last event. Others go on.
    Failed(&'a Error),
}

/// A whole completion, collected.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The text, without the stop string.
    pub text: String,
    /// All generated ids, an end-of-sequence token included.
    pub tokens: Vec<u32>,
    /// Per token, if asked for: its log probability and the likeliest ones.
    pub logprobs: Vec<(f64, Vec<Logprob>)>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens in and out.
    pub usage: Usage,
    /// Seconds.
    pub timings: Timings,
    /// Of [`Request::speculation`].
    pub guesses: Guesses,
}

/// How busy an engine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests that take part in steps.
    pub running: usize,
    /// Requests in the queue.
    pub waiting: usize,
    /// Pages of the KV cache that are held: by requests, or by beginnings that are kept until their room is needed.
    pub pages_used: usize,
    /// Pages in all, of [`crate::PAGE`] tokens each.
    pub pages: usize,
    /// How often a request lost its pages to others, so far.
    pub preemptions: u64,
}
