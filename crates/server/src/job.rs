//! A request as all dialects make it: tokens, sampling and bounds, checked before it reaches the engine.
use crate::{
    access,
    chat::Prompt,
    error::{ApiError, Result},
    host::{Model, Ticket},
    id,
    tools::Namer,
};
use pondera_engine::{Request, STOP_BYTES_MAX, STOPS_MAX, Sampling, Stops};
use pondera_text::{Grammar, answer::Reader};
use std::{collections::BTreeMap, sync::Arc};

/// Fields about sampling, as dialects give them. What is not given comes from the model's preset.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub top_k: Option<i64>,
    pub min_p: Option<f32>,
    pub typical_p: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    pub presence_penalty: Option<f32>,
    pub logit_bias: Option<BTreeMap<String, f32>>,
    pub seed: Option<i64>,
}

/// Most tokens of a `logit_bias`: each costs time for every token of an answer.
const BIASES: usize = 1024;

/// One prompt, to be answered `n` times.
#[derive(Clone, Debug)]
pub struct Job {
    pub prompt: Vec<u32>,
    pub sampling: Sampling,
    pub n: usize,
    pub max_tokens: Option<usize>,
    pub stop: Vec<String>,
    pub logprobs: Option<usize>,
    pub ignore_eos: bool,
    pub show_special: bool,
    pub grammar: Option<Arc<Grammar>>,
    /// Special tokens whose text the reader needs.
    pub shown: Arc<[u32]>,
    /// Tells thoughts and calls from the text.
    pub reader: Option<(Reader, Namer)>,
}

impl Choice {
    /// Checked values over `preset`.
    pub fn sampling(&self, preset: &Sampling) -> Result<Sampling> {
        let within = |name: &str, value: Option<f32>, min: f32, max: f32, otherwise: f32| match value {
            Some(v) if !(min..=max).contains(&v) => {
                Err(ApiError::invalid(name, format!("expected a number from {min} to {max}, got {v}")))
            }
            v => Ok(v.unwrap_or(otherwise)),
        };
        let top_k = match self.top_k {
            None => preset.top_k,
            // Some clients say "all" by -1.
            Some(-1) => 0,
            Some(k) => {
                usize::try_from(k).map_err(|_| ApiError::invalid("top_k", format!("expected -1 or more, got {k}")))?
            }
        };
        Ok(Sampling {
            temperature: within("temperature", self.temperature, 0.0, 2.0, preset.temperature)?,
            top_p: within("top_p", self.top_p, 0.0, 1.0, preset.top_p)?,
            top_k,
            min_p: within("min_p", self.min_p, 0.0, 1.0, preset.min_p)?,
            typical_p: within("typical_p", self.typical_p, 0.0, 1.0, preset.typical_p)?,
            repetition_penalty: within(
                "repetition_penalty",
                self.repetition_penalty,
                0.01,
                100.0,
                preset.repetition_penalty,
            )?,
            frequency_penalty: within(
                "frequency_penalty",
                self.frequency_penalty,
                -2.0,
                2.0,
                preset.frequency_penalty,
            )?,
            presence_penalty: within("presence_penalty", self.presence_penalty, -2.0, 2.0, preset.presence_penalty)?,
            logit_bias: self.bias()?,
            seed: self.seed.map_or_else(id::seed, |s| s as u64),
        })
    }

    fn bias(&self) -> Result<Vec<(u32, f32)>> {
        if let Some(n) = self.logit_bias.as_ref().map(BTreeMap::len).filter(|n| *n > BIASES) {
            return Err(ApiError::invalid("logit_bias", format!("expected at most {BIASES} tokens, got {n}")));
        }
        let entry = |(token, value): (&String, &f32)| {
            let id = token.parse::<u32>().ok().filter(|id| id.to_string() == *token);
            let id = id.ok_or_else(|| {
                ApiError::invalid("logit_bias", format!("expected token ids as keys, got {:?}", short(token)))
            })?;
            if !(-100.0..=100.0).contains(value) {
                return Err(ApiError::invalid("logit_bias", format!("expected values from -100 to 100, got {value}")));
            }
            // The documented meaning of the end of the scale.
            Ok((id, if *value == -100.0 { f32::NEG_INFINITY } else { *value }))
        };
        self.logit_bias.iter().flatten().map(entry).collect()
    }
}

impl Job {
    /// One answer to a prompt that is yet to come, of any length.
    pub fn new(sampling: Sampling) -> Job {
        Job {
            prompt: Vec::new(),
            sampling,
            n: 1,
            max_tokens: None,
            stop: Vec::new(),
            logprobs: None,
            ignore_eos: false,
            show_special: false,
            grammar: None,
            shown: [].into(),
            reader: None,
        }
    }

    /// Answers a conversation.
    pub fn take(&mut self, prompt: Prompt) {
        self.prompt = prompt.tokens;
        self.grammar = prompt.grammar;
        self.shown = prompt.shown;
        self.reader = prompt.reader;
    }

    /// Hands all choices to the engine, for `tenant`; each has a seed of its own.
    pub fn submit(&self, model: &Model, tenant: u64) -> Vec<Ticket> {
        let request = |i: usize| Request {
            prompt: self.prompt.clone(),
            sampling: Sampling { seed: self.sampling.seed.wrapping_add(i as u64), ..self.sampling.clone() },
            stop: if self.reader.is_none() { self.stop.clone() } else { Vec::new() },
            max_tokens: self.max_tokens,
            ignore_eos: self.ignore_eos,
            show_special: self.show_special,
            shown: self.shown.clone(),
            logprobs: self.logprobs,
            grammar: self.grammar.clone(),
            tenant,
            ..Request::default()
        };
        access::submitted(self);
        let start = |i| {
            let seen = access::Seen::new(i);
            let mut ticket = model.submit(request(i));
            ticket.reader.clone_from(&self.reader);
            ticket.stops = Stops::new(&self.stop);
            ticket.seen = seen;
            ticket
        };
        (0..self.n).map(start).collect()
    }
}

/// Stop strings of the field `name`, checked: with a reader the engine never sees them.
///
/// # Errors
/// 400 for more, or longer ones, than the engine takes, and for empty ones.
pub fn stops(name: &str, list: Vec<String>) -> Result<Vec<String>> {
    if list.len() > STOPS_MAX {
        return Err(ApiError::invalid(name, format!("expected at most {STOPS_MAX} strings, got {}", list.len())));
    }
    match list.iter().any(|s| s.is_empty() || s.len() > STOP_BYTES_MAX) {
        true => Err(ApiError::invalid(name, format!("expected strings of 1 to {STOP_BYTES_MAX} bytes"))),
        false => Ok(list),
    }
}

/// At most 40 characters of what a client sent, for messages.
pub fn short(text: &str) -> String {
    let mut out: String = text.chars().take(40).collect();
    if out.len() < text.len() {
        out.push('…');
    }
    out
}
