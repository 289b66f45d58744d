//! A model that takes requests: checks them, numbers them, and steps. What [`crate::Engine`] is, but for how the
//! model was opened.
use crate::{
    Completion, Error, Event, FinishReason, Guesses, Load, Pooling, Request, RequestId, Result, STOP_BYTES_MAX,
    STOPS_MAX, Score, TOP_LOGPROBS_MAX, TokenLogprobs, Trace, TraceOptions,
    draft::{DraftParts, Drafter},
    net::{Net, Vocabulary},
    rows::{Logits, Rows},
    scheduler::{Emit, Limits, Scheduler},
    sequence::Sequence,
};
use pondera_ops::{KvType, Ops, PAGE};
use std::ops::ControlFlow;

/// What a runner is made of.
pub(crate) struct Parts {
    pub net: Box<dyn Net>,
    pub ops: Box<dyn Ops>,
    pub words: Option<Box<dyn Vocabulary>>,
    /// Fails once what was read from files cannot be trusted any more.
    pub trust: Box<dyn Fn() -> Result<()>>,
    pub limits: Limits,
    pub kv: KvType,
    pub kv_tokens: usize,
    pub max_waiting: usize,
}

pub(crate) struct Runner {
    net: Box<dyn Net>,
    pub words: Option<Box<dyn Vocabulary>>,
    trust: Box<dyn Fn() -> Result<()>>,
    kv: KvType,
    max_waiting: usize,
    pub scheduler: Scheduler,
    last_id: u64,
    /// For passes, and for requests that name none.
    pub adapter: Option<crate::AdapterId>,
}

impl Runner {
    pub fn new(p: Parts) -> Runner {
        let scheduler = Scheduler::new(p.ops, &*p.net, p.limits, p.kv, p.kv_tokens.max(p.limits.ctx));
        let Parts { net, words, trust, kv, max_waiting, .. } = p;
        Runner { net, words, trust, kv, max_waiting, scheduler, last_id: 0, adapter: None }
    }

    pub fn limits(&self) -> Limits {
        self.scheduler.limits
    }

    /// Whether a request under way takes this adapter.
    pub fn takes(&self, id: crate::AdapterId) -> bool {
        let mut all = self.scheduler.running.iter().chain(self.scheduler.waiting.iter());
        all.any(|s| s.request.adapter == Some(id))
    }

    pub fn is_idle(&self) -> bool {
        self.scheduler.running.is_empty() && self.scheduler.waiting.is_empty()
    }

    pub fn submit(&mut self, mut request: Request) -> Result<RequestId> {
        request.adapter = request.adapter.or(self.adapter);
        self.check(&request)?;
        if self.scheduler.waiting.len() >= self.max_waiting {
            return Err(Error::new(crate::ErrorKind::Busy, format!("{} requests wait already", self.max_waiting))
                .hint("try again later"));
        }
        let ctx = self.scheduler.limits.ctx;
        let room = (ctx - request.prompt.len()).min(request.max_tokens.unwrap_or(usize::MAX));
        self.last_id += 1;
        let id = RequestId(self.last_id);
        let s = Sequence::new(id, request, room, self.net.vocab_size(), self.words.as_deref());
        self.scheduler.waiting.push(s);
        Ok(id)
    }

    /// Type of the KV cache, and tokens that it holds.
    pub fn kv(&self) -> (KvType, usize) {
        (self.kv, self.scheduler.pages.count() * PAGE)
    }

    /// Who runs, who waits, and what of the cache is held.
    pub fn load(&self) -> Load {
        let Scheduler { running, waiting, pages, preemptions, .. } = &self.scheduler;
        Load {
            running: running.len(),
            waiting: waiting.len(),
            pages_used: pages.count() - pages.free(),
            pages: pages.count(),
            preemptions: *preemptions,
        }
    }

    /// From now on `parts` guesses for those who ask.
    pub fn set_draft(&mut self, parts: DraftParts) {
        let s = &mut self.scheduler;
        let drafter = Drafter::new(parts, self.kv, s.pages.count(), s.limits.max_rows, s.limits.max_prefixes);
        s.drafter = Some(drafter);
        for s in s.running.iter_mut().chain(s.waiting.iter_mut()) {
            s.shadow = crate::draft::Shadow::default();
        }
    }

    fn check(&self, r: &Request) -> Result<()> {
        self.check_tokens(&r.prompt)?;
        if r.max_tokens == Some(0) {
            return Err(Error::invalid("max_tokens: expected at least 1, got 0"));
        }
        if r.stop.len() > STOPS_MAX || r.stop.iter().any(|s| s.is_empty() || s.len() > STOP_BYTES_MAX) {
            return Err(Error::invalid(format!("stop: at most {STOPS_MAX} strings of 1 to {STOP_BYTES_MAX} bytes")));
        }
        if !r.stop.is_empty() && self.words.is_none() {
            return Err(Error::invalid("stop: the model has no tokenizer, so there is no text to look in"));
        }
        if r.logprobs.is_some_and(|n| n > TOP_LOGPROBS_MAX) {
            return Err(Error::invalid(format!("logprobs: at most {TOP_LOGPROBS_MAX}")));
        }
        r.sampling.check(self.net.vocab_size())?;
        r.speculation.map_or(Ok(()), |s| s.check(self.scheduler.drafter.is_some()))?;
        let ctx = self.scheduler.limits.ctx;
        if r.prompt.len() >= ctx {
            return Err(Error::context(r.prompt.len() + 1, ctx));
        }
        Ok(())
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        if tokens.is_empty() {
            return Err(Error::invalid("the prompt is empty").hint("give at least one token"));
        }
        let vocab = self.net.vocab_size();
        match tokens.iter().find(|t| **t as usize >= vocab) {
            Some(t) => Err(Error::invalid(format!("token {t} is not within the vocabulary of {vocab}"))),
            None => Ok(()),
        }
    }

    pub fn cancel(&mut self, id: RequestId) {
        let Scheduler { running, waiting, .. } = &mut self.scheduler;
        if let Some(s) = running.iter_mut().chain(waiting.iter_mut()).find(|s| s.id == id) {
            s.cancelled = true;
        }
    }

    pub fn step(&mut self, emit: Emit<'_>) -> bool {
        self.scheduler.step(&*self.net, self.words.as_deref(), &*self.trust, emit)
    }

    /// Runs one request to its end and collects it. Other requests advance too; their events are not seen.
    pub fn generate(
        &mut self,
        request: Request,
        watch: &mut dyn FnMut(&Event<'_>) -> ControlFlow<()>,
    ) -> Result<Completion> {
        let mine = self.submit(request)?;
        let mut c = Collected::default();
        while c.end.is_none() && c.failed.is_none() {
            let mut go_on = ControlFlow::Continue(());
            self.step(&mut |id, event| {
                if id == mine {
                    c.add(&event);
                    if watch(&event).is_break() {
                        go_on = ControlFlow::Break(());
                    }
                }
            });
            if go_on.is_break() {
                self.cancel(mine);
            }
        }
        c.completion()
    }

    pub fn trace(&mut self, tokens: &[u32], options: TraceOptions) -> Result<Trace> {
        let (scheduler, net, rows) = self.rows(tokens, options.chunk)?;
        scheduler.trace(net, rows, options)
    }

    /// `whole`: the sequence comes in one step.
    pub fn embed(&mut self, tokens: &[u32], pooling: Pooling, whole: bool) -> Result<Vec<f32>> {
        let (scheduler, net, rows) = self.rows(tokens, whole.then_some(tokens.len()))?;
        scheduler.embed(net, rows, pooling)
    }

    pub fn score(&mut self, tokens: &[u32], out: &mut Vec<Score>) -> Result<()> {
        let (scheduler, net, rows) = self.rows(tokens, None)?;
        scheduler.score(net, rows, out)
    }

    pub fn prompt_logprobs(&mut self, tokens: &[u32], top: usize) -> Result<Vec<TokenLogprobs>> {
        let (scheduler, net, rows) = self.rows(tokens, None)?;
        scheduler.prompt_logprobs(net, rows, top)
    }

    pub fn logits<'a>(&'a mut self, tokens: &'a [u32]) -> Result<Logits<'a>> {
        let (scheduler, net, rows) = self.rows(tokens, None)?;
        Logits::new(scheduler, net, rows)
    }

    /// What a pass over a whole sequence takes, with room in the cache.
    fn rows<'a>(
        &'a mut self,
        tokens: &'a [u32],
        chunk: Option<usize>,
    ) -> Result<(&'a mut Scheduler, &'a dyn Net, Rows<'a>)> {
        self.check_tokens(tokens)?;
        self.make_room(tokens.len());
        let chunk = chunk.unwrap_or(self.scheduler.limits.chunk);
        Ok((&mut self.scheduler, &*self.net, Rows { tokens, chunk, trust: &*self.trust, adapter: self.adapter }))
    }

    /// A cache for at least `tokens`: a larger one takes the place of a smaller; who runs is computed again.
    fn make_room(&mut self, tokens: usize) {
        let s = &mut self.scheduler;
        if tokens.div_ceil(PAGE) > s.pages.count() {
            s.preempt_all();
            s.prefixes.make_free(usize::MAX, &mut s.pages);
            s.pages = crate::kv::Pages::new(tokens.div_ceil(PAGE));
            s.ops.reserve(self.net.caches(), self.kv, s.pages.count());
        }
    }
}

/// A completion as its events come.
#[derive(Default)]
struct Collected {
    text: String,
    tokens: Vec<u32>,
    logprobs: Vec<(f64, Vec<crate::Logprob>)>,
    end: Option<(FinishReason, crate::Usage, crate::Timings, Guesses)>,
    failed: Option<Error>,
}

impl Collected {
    fn add(&mut self, event: &Event<'_>) {
        match event {
            Event::Prefill { .. } => {}
            Event::Token { id, text, logprob, top } => {
                self.tokens.push(*id);
                self.text.push_str(text);
                self.logprobs.extend(logprob.map(|p| (p, top.to_vec())));
            }
            Event::Finished { reason, text, usage, timings, guesses } => {
                self.text.push_str(text);
                self.end = Some((*reason, *usage, *timings, *guesses));
            }
            Event::Failed(e) => self.failed = Some((*e).clone()),
        }
    }

    fn completion(self) -> Result<Completion> {
        let Collected { text, tokens, logprobs, end, failed } = self;
        match (end, failed) {
            (Some((finish_reason, usage, timings, guesses)), None) => {
                Ok(Completion { text, tokens, logprobs, finish_reason, usage, timings, guesses })
            }
            (_, Some(e)) => Err(e),
            (None, None) => Err(Error::invalid("the request ended without an event")),
        }
    }
}
