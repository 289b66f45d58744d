//! One request under way: its tokens, its pages, its text. Knows nothing of other sequences.
use crate::{
    Error, Event, FinishReason, Request, RequestId, Result, Timings, Usage,
    admission::Awaited,
    draft::Shadow,
    guided::Place,
    kv::{Beginning, Ended, Kin},
    net::{Stream, Vocabulary},
    sampler::{Sampler, Seen},
    speculation::Guess,
    states::Snapshot,
    stop::Stops,
};
use std::{
    mem::take,
    time::{Duration, Instant},
};

pub(crate) struct Sequence {
    pub id: RequestId,
    pub request: Request,
    /// Prompt and completion.
    pub tokens: Vec<u32>,
    /// Positions whose keys and values stand in the cache.
    pub cached: usize,
    /// Positions of the prompt that were there when it started.
    pub reused: usize,
    /// Pages held; lent to the batch during a step.
    pub pages: Vec<u32>,
    /// Where its recurrent states are, once it has any.
    pub slot: Option<u32>,
    /// Where those after each guess of the step under way go.
    pub trials: Vec<u32>,
    /// Where they were before the step under way, if it leaves them elsewhere.
    pub left: Option<u32>,
    /// Its states at the ends of pages.
    pub snapshots: Vec<Snapshot>,
    /// Positions at which snapshots are wanted, whole pages; 0 for none.
    pub marks: [usize; 2],
    /// While it waits: whose computation it waits for.
    pub awaits: Option<Awaited>,
    /// Rotary epoch of what is cached.
    pub epoch: u32,
    /// Rows of the step under way, those of guesses not counted.
    pub rows: usize,
    pub guess: Guess,
    /// Its place in the draft model's cache.
    pub shadow: Shadow,
    pub cancelled: bool,
    pub seen: Seen,
    /// Its place in its grammar.
    guide: Option<Place>,
    /// Logits of the last row, while it is not known which tokens the grammar allows.
    held: Option<Vec<f32>>,
    text: Option<Text>,
    clock: Clock,
}

struct Text {
    stream: Box<dyn Stream>,
    stops: Stops,
}

struct Clock {
    submitted: Instant,
    started: Option<Instant>,
    first: Option<Instant>,
    last: Option<Instant>,
}

/// Text on its way out, used again for every token.
pub(crate) struct Buffers {
    pub piece: String,
    pub shown: String,
}

impl Default for Buffers {
    /// With room for more than a token's text.
    fn default() -> Buffers {
        Buffers { piece: String::with_capacity(1024), shown: String::with_capacity(1024) }
    }
}

impl Sequence {
    /// `room`: tokens that may follow the prompt.
    pub fn new(id: RequestId, request: Request, room: usize, vocab: usize, words: Option<&dyn Vocabulary>) -> Sequence {
        let mut tokens = Vec::with_capacity(request.prompt.len() + room);
        tokens.extend_from_slice(&request.prompt);
        let seen = Seen::new(&request.sampling, vocab, &request.prompt, room);
        let stream = |w: &dyn Vocabulary| w.stream(request.show_special, request.shown.clone());
        let text = words.map(|w| Text { stream: stream(w), stops: Stops::new(&request.stop) });
        let clock = Clock { submitted: Instant::now(), started: None, first: None, last: None };
        let pages = Vec::with_capacity((request.prompt.len() + room).div_ceil(pondera_ops::PAGE));
        let guide = request.grammar.clone().map(Place::new);
        let guess = Guess::new(request.speculation.map_or(0, |s| s.tokens));
        Sequence {
            id,
            request,
            tokens,
            cached: 0,
            reused: 0,
            pages,
            slot: None,
            trials: Vec::new(),
            left: None,
            snapshots: Vec::new(),
            marks: [0; 2],
            awaits: None,
            epoch: 0,
            rows: 0,
            guess,
            shadow: Shadow::default(),
            cancelled: false,
            seen,
            guide,
            held: None,
            text,
            clock,
        }
    }

    /// Positions that must be computed before the next token can be chosen; 1 while decoding.
    pub fn missing(&self) -> usize {
        self.tokens.len() - self.cached
    }

    /// Tokens generated.
    pub fn generated(&self) -> usize {
        self.tokens.len() - self.request.prompt.len()
    }

    /// Most guesses that can all turn out right before it ends: one token always comes from the model itself.
    pub fn guesses_left(&self, ctx: usize) -> usize {
        let most = self.request.max_tokens.unwrap_or(usize::MAX);
        let left = (most - self.generated()).min(ctx - self.tokens.len()).saturating_sub(1);
        self.request.speculation.map_or(0, |s| s.tokens.min(left))
    }

    /// Who may share its beginning.
    pub fn kin(&self, epoch: u32) -> Kin {
        Kin { epoch, tenant: self.request.tenant, adapter: self.request.adapter }
    }

    /// What others may begin with while it runs.
    pub fn beginning(&self) -> Beginning<'_> {
        Beginning {
            tokens: &self.tokens[..self.cached],
            pages: &self.pages,
            kin: self.kin(self.epoch),
            snapshots: &self.snapshots,
        }
    }

    /// What it leaves behind, out of it.
    pub fn take_ended(&mut self) -> Ended {
        Ended {
            tokens: take(&mut self.tokens),
            pages: take(&mut self.pages),
            cached: self.cached,
            kin: self.kin(self.epoch),
            snapshots: take(&mut self.snapshots),
        }
    }

    /// Work on the sequence begins now, if it did not before.
    pub fn start(&mut self) {
        if self.clock.started.is_none() {
            self.clock.started = Some(Instant::now());
            self.reused = self.cached;
        }
        self.guide.iter_mut().for_each(Place::start);
    }

    /// Whether a token can be chosen, now or within `patience`.
    pub fn can_choose(&mut self, patience: Duration) -> bool {
        self.guide.as_mut().is_none_or(|g| g.is_known(patience))
    }

    /// Keeps a row of logits until a token can be chosen by it. Until then nothing of the sequence is missing.
    pub fn hold(&mut self, row: &[f32]) {
        self.held = Some(row.to_vec());
    }

    /// Whether a row is kept.
    pub fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// The row that was kept, if a token can be chosen by now.
    pub fn take_held(&mut self) -> Option<Vec<f32>> {
        if self.held.is_some() && self.can_choose(Duration::ZERO) { self.held.take() } else { None }
    }

    /// What is cached of it is gone.
    pub fn forget(&mut self) {
        (self.cached, self.rows, self.held) = (0, 0, None);
    }

    /// Whether work on it has ever begun.
    #[cfg(test)]
    pub fn has_started(&self) -> bool {
        self.clock.started.is_some()
    }

    /// The token that follows, by its row of logits.
    ///
    /// # Errors
    /// Every token is forbidden; a grammar whose step costs too much.
    pub fn choose(&mut self, row: &[f32], sampler: &mut Sampler) -> Result<u32> {
        let allowed = self.guide.as_mut().map(Place::allowed).transpose()?;
        let chosen = sampler.choose(row, &self.request.sampling, &self.seen, self.tokens.len() as u64, allowed);
        chosen.ok_or_else(|| match self.guide {
            Some(_) => Error::invalid("logit_bias: every token that the grammar allows is forbidden"),
            None => Error::invalid("logit_bias: every token is forbidden"),
        })
    }

    /// Takes the chosen token. Leaves the text that can be shown in `b.shown`; says whether the completion ends.
    pub fn accept(&mut self, token: u32, ends: &[u32], ctx: usize, b: &mut Buffers) -> Option<FinishReason> {
        let now = Instant::now();
        self.clock.first.get_or_insert(now);
        self.clock.last = Some(now);
        self.tokens.push(token);
        self.seen.add(token);
        b.shown.clear();
        if self.request.stop_tokens.contains(&token) || !self.request.ignore_eos && ends.contains(&token) {
            return Some(FinishReason::Stop);
        }
        if let Some(i) = self.show(token, b) {
            return Some(FinishReason::StopString(i));
        }
        if self.guide.as_mut().is_some_and(|g| g.accept(token)) {
            return Some(FinishReason::Stop);
        }
        let most = self.request.max_tokens.unwrap_or(usize::MAX);
        (self.generated() >= most || self.tokens.len() >= ctx).then_some(FinishReason::Length)
    }

    /// The place of a stop string that is complete.
    fn show(&mut self, token: u32, b: &mut Buffers) -> Option<usize> {
        let t = self.text.as_mut()?;
        b.piece.clear();
        t.stream.push(token, &mut b.piece);
        let hit = t.stops.push(&b.piece, &mut b.shown);
        if hit.is_some() {
            self.text = None; // nothing may follow
        }
        hit
    }

    /// The last event: the rest of the text, the counts, the times.
    pub fn finish<'b>(&mut self, reason: FinishReason, b: &'b mut Buffers) -> Event<'b> {
        b.shown.clear();
        let mut reason = reason;
        if let Some(mut t) = self.text.take() {
            b.piece.clear();
            t.stream.finish(&mut b.piece);
            if let Some(i) = t.stops.push(&b.piece, &mut b.shown) {
                reason = FinishReason::StopString(i);
            }
            t.stops.finish(&mut b.shown);
        }
        let usage = Usage {
            prompt_tokens: self.request.prompt.len(),
            cached_tokens: self.reused,
            completion_tokens: self.generated(),
        };
        Event::Finished { reason, text: &b.shown, usage, timings: self.timings(), guesses: self.guess.counts }
    }

    fn timings(&self) -> Timings {
        let seconds = |a: Option<Instant>, b: Option<Instant>| match (a, b) {
            (Some(a), Some(b)) => b.saturating_duration_since(a).as_secs_f64(),
            _ => 0.0,
        };
        let rate = |n: usize, s: f64| if s > 0.0 { n as f64 / s } else { 0.0 };
        let c = &self.clock;
        let (prefill_s, decode_s) = (seconds(c.started, c.first), seconds(c.first, c.last));
        Timings {
            queue_s: seconds(Some(c.submitted), c.started),
            prefill_s,
            decode_s,
            prefill_tps: rate(self.request.prompt.len() - self.reused, prefill_s),
            decode_tps: rate(self.generated().saturating_sub(1), decode_s),
        }
    }
}
