//! A model that is open: its weights, its vocabulary, its backend, and the requests under way.
use crate::{
    Backend, Completion, EngineOptions, Error, Event, Load, Logits, MemoryPlan, Pooling, Progress, Request, RequestId,
    Result, Score, Source, TokenLogprobs, Trace, TraceOptions,
    adapters::{Adapters, Shared},
    draft::{self, DraftParts},
    embed,
    net::Vocabulary,
    open::{self, Opened},
    runner::{Parts, Runner},
    scheduler::Limits,
    states::{StateCounts, TRIALS},
    words::Words,
};
use pondera_arch::{Config, Description, Model};
use pondera_ops::{KvType, Layout, PAGE, Settled};
use pondera_text::Tokenizer;
use pondera_weights::Weights;
use std::{ops::ControlFlow, sync::Arc, time::Duration};

/// A model ready to answer. One thread owns it; none of its results depends on what else it does at the time.
pub struct Engine {
    pub(crate) runner: Runner,
    model: Arc<Model>,
    config: Config,
    weights: Option<Arc<Weights>>,
    tokenizer: Result<Option<Arc<Tokenizer>>>,
    pub(crate) plan: MemoryPlan,
    pub(crate) adapters: Adapters,
    backend: Backend,
    /// What was asked for.
    layout: Layout,
}

impl Engine {
    /// Opens a model. Weights are mapped, not read; `progress` hears of what takes long.
    ///
    /// # Errors
    /// [`crate::ErrorKind::File`] for what is broken or not supported, [`crate::ErrorKind::DoesNotFit`] with the bytes it takes,
    /// [`crate::ErrorKind::Isa`] and [`crate::ErrorKind::Invalid`] for options that make no sense.
    pub fn open(source: &Source<'_>, options: &EngineOptions, progress: &mut dyn FnMut(Progress)) -> Result<Engine> {
        options.check()?;
        let (ops, backend) = crate::backend::open(options.threads, options.isa)?;
        let Opened { config, model, weights, tokenizer } = open::open(source, progress)?;
        let model = Arc::new(model);
        let (ctx, plan) = context(&model, options)?;
        let bytes = state_bytes(&model);
        // What a prefix keeps, and what those hold that run.
        let snapshots = if options.max_prefixes == 0 { 0 } else { 2 * options.max_prefixes + options.max_sequences };
        let (max_sequences, states) =
            plan.states(options.max_sequences, StateCounts { trials: TRIALS, snapshots }, bytes);
        let plan = plan.with_states(max_sequences + states.trials + states.snapshots, bytes);
        plan.check()?;
        ops.lay_out(plan.layout(options.layout));
        let limits = Limits {
            ctx,
            chunk: options.chunk,
            max_rows: options.max_rows,
            max_sequences,
            max_prefixes: options.max_prefixes,
            states,
            step_time: options.step_time,
        };
        let adapters = Adapters::default();
        let runner = Runner::new(Parts {
            net: Box::new(Shared(model.clone(), adapters.clone())),
            ops,
            words: tokenizer.iter().flatten().next().map(|t| Box::new(Words(t.clone())) as Box<dyn Vocabulary>),
            trust: trust(weights.clone(), adapters.clone()),
            limits,
            kv: options.kv,
            kv_tokens: plan.kv_tokens,
            max_waiting: options.max_waiting,
        });
        Ok(Engine { runner, model, config, weights, tokenizer, plan, adapters, backend, layout: options.layout })
    }

    /// Opens a draft model: a smaller one of the same vocabulary that guesses ahead for requests whose
    /// [`crate::Speculation`] asks for it. It takes the place of an earlier one.
    ///
    /// # Errors
    /// As [`Engine::open`], and [`crate::ErrorKind::Invalid`] with the first token that differs for another vocabulary.
    pub fn set_draft(&mut self, source: &Source<'_>, progress: &mut dyn FnMut(Progress)) -> Result<()> {
        let Opened { model, weights, tokenizer, .. } = open::open(source, progress)?;
        let mine = self.tokenizer()?.map(|t| &**t);
        draft::same_vocabulary(mine, tokenizer?.as_deref(), [self.model.vocab_size(), model.vocab_size()])?;
        if !model.states().is_empty() {
            let what =
                format!("draft model: {} has recurrent states, which cannot go back", model.description().family);
            return Err(Error::invalid(what).hint("take a draft model with attention alone, or --lookup"));
        }
        let (kv, tokens) = self.runner.kv();
        let plan = self.plan.with(&self::plan(&model, kv, tokens));
        plan.check()?;
        let (ops, _) = crate::backend::open(self.backend.threads, Some(self.backend.isa))?;
        ops.lay_out(plan.layout(self.layout));
        let positions_end = model.positions_end();
        self.runner.set_draft(DraftParts {
            net: Box::new(Shared(Arc::new(model), Adapters::default())),
            ops,
            trust: trust(weights, Adapters::default()),
            positions_end,
        });
        self.plan = plan;
        Ok(())
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its files; none for random weights.
    pub fn weights(&self) -> Option<&Weights> {
        self.weights.as_deref()
    }

    /// Its vocabulary; none where its files have none (then requests give and get ids alone).
    ///
    /// # Errors
    /// Where there is one that cannot be read. The model runs without it.
    pub fn tokenizer(&self) -> Result<Option<&Arc<Tokenizer>>> {
        self.tokenizer.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// What memory it takes.
    pub fn plan(&self) -> &MemoryPlan {
        &self.plan
    }

    /// What computes.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Most tokens of a sequence, prompt and completion together.
    pub fn ctx(&self) -> usize {
        self.runner.limits().ctx
    }

    /// Type of the KV cache, and tokens that it holds.
    pub fn kv(&self) -> (KvType, usize) {
        self.runner.kv()
    }

    /// How busy it is between two steps.
    pub fn load(&self) -> Load {
        self.runner.load()
    }

    /// Puts a request in the queue.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] names the field; [`crate::ErrorKind::Context`] says how many tokens do not fit;
    /// [`crate::ErrorKind::Busy`] if too many wait. A prompt is never cut.
    pub fn submit(&mut self, request: Request) -> Result<RequestId> {
        self.check_decoder()?;
        self.check_adapter(request.adapter)?;
        self.runner.submit(request)
    }

    /// Ends a request at the next step; it still gets its last event. Does nothing for one that has ended.
    pub fn cancel(&mut self, id: RequestId) {
        self.runner.cancel(id);
    }

    /// One step of all requests that fit. False if nothing is left to do.
    pub fn step(&mut self, emit: &mut dyn FnMut(RequestId, Event<'_>)) -> bool {
        self.runner.step(emit)
    }

    /// Lays out more of the weights that were used so far, for about `budget`; steps do so too, a little each.
    pub fn settle(&mut self, budget: Duration) -> Settled {
        self.runner.scheduler.settle(budget)
    }

    /// What products and recurrences ran on so far ([`pondera_ops::Ops::kernels`]).
    pub fn kernels(&self) -> Vec<String> {
        self.runner.scheduler.ops.kernels()
    }

    /// Bytes per second at which packed weights are read from memory now, measured; none where they are few.
    pub fn read_weights(&self) -> Option<f64> {
        self.runner.scheduler.ops.read_weights()
    }

    /// Whether no request runs or waits.
    pub fn is_idle(&self) -> bool {
        self.runner.is_idle()
    }

    /// Runs one request to its end. `watch` sees its events as they come; `Break` cancels it, and the completion so
    /// far is returned with [`crate::FinishReason::Cancelled`]. Meant for one caller: events of other requests are
    /// not seen.
    pub fn generate(
        &mut self,
        request: Request,
        watch: &mut dyn FnMut(&Event<'_>) -> ControlFlow<()>,
    ) -> Result<Completion> {
        self.check_decoder()?;
        self.check_adapter(request.adapter)?;
        self.runner.generate(request, watch)
    }

    /// A forward pass over `tokens`, laid open. Length-dependent rotary frequencies are those of the whole sequence.
    /// The context's limit does not hold here, only the model's own.
    pub fn trace(&mut self, tokens: &[u32], options: TraceOptions) -> Result<Trace> {
        self.check_decoder()?;
        self.check_positions(tokens.len())?;
        self.runner.trace(tokens, options)
    }

    /// Scores every token but the first, given all before it; appends to `out` in order. For perplexity and
    /// likelihoods.
    pub fn score(&mut self, tokens: &[u32], out: &mut Vec<Score>) -> Result<()> {
        self.check_decoder()?;
        self.check_positions(tokens.len())?;
        self.runner.score(tokens, out)
    }

    /// For every token but the first, given all before it: its log probability and the `top` likeliest.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for more than [`crate::TOP_LOGPROBS_MAX`].
    pub fn prompt_logprobs(&mut self, tokens: &[u32], top: usize) -> Result<Vec<TokenLogprobs>> {
        self.check_decoder()?;
        self.check_positions(tokens.len())?;
        if top > crate::TOP_LOGPROBS_MAX {
            return Err(Error::invalid(format!("logprobs: expected at most {}, got {top}", crate::TOP_LOGPROBS_MAX)));
        }
        self.runner.prompt_logprobs(tokens, top)
    }

    /// The logits of every position of `tokens`, chunk by chunk: a pass whose memory does not grow with its length.
    /// Two engines that were opened with the same options and have vocabularies of one size give the same chunks.
    pub fn logits<'a>(&'a mut self, tokens: &'a [u32]) -> Result<Logits<'a>> {
        self.check_decoder()?;
        self.check_positions(tokens.len())?;
        self.runner.logits(tokens)
    }

    /// The embedding of `tokens`, not normalised: `[hidden]`, for [`Pooling::None`] `[tokens, hidden]`. An encoder sees
    /// all of them in one step; nothing is cut.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Context`] for more tokens than an encoder has positions or was made for.
    pub fn embed(&mut self, tokens: &[u32], pooling: Pooling) -> Result<Vec<f32>> {
        self.check_positions(tokens.len())?;
        let (encoder, limit) = (self.model.is_encoder(), self.model.max_positions());
        if encoder && tokens.len() > limit {
            return Err(Error::context(tokens.len(), limit));
        }
        self.runner.embed(tokens, pooling, encoder)
    }

    fn check_decoder(&self) -> Result<()> {
        if self.model.is_encoder() { Err(embed::no_logits(self.model.description().family)) } else { Ok(()) }
    }

    fn check_positions(&self, tokens: usize) -> Result<()> {
        match self.model.positions_end() {
            Some(limit) if tokens > limit => Err(Error::context(tokens, limit)),
            _ => Ok(()),
        }
    }
}

impl EngineOptions {
    fn check(&self) -> Result<()> {
        let sizes = [
            ("chunk", self.chunk),
            ("max_rows", self.max_rows),
            ("max_sequences", self.max_sequences),
            ("max_waiting", self.max_waiting),
            ("ctx", self.ctx.unwrap_or(1)),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, v)| *v == 0) {
            return Err(Error::invalid(format!("{name}: expected at least 1, got 0")));
        }
        let counts = [("max_sequences", self.max_sequences), ("max_prefixes", self.max_prefixes)];
        match counts.iter().find(|(_, v)| *v > COUNT_MAX) {
            Some((name, v)) => Err(Error::invalid(format!("{name}: expected at most {COUNT_MAX}, got {v}"))),
            None => Ok(()),
        }
    }
}

/// Most sequences, and prefixes, that an engine is made for.
const COUNT_MAX: usize = 1 << 16;
/// Longest default context: beyond it, page tables alone would be felt.
const DEFAULT_CTX_MAX: usize = 1 << 20;
/// A default context is not shortened below this: rather say that the model does not fit.
const DEFAULT_CTX_MIN: usize = 512;
/// Dynamic NTK is made to go past `max_position_embeddings`; by this much where no context is named.
const DYNAMIC_CTX: usize = 8;

/// Length of a sequence, and what memory it takes.
fn context(model: &Model, o: &EngineOptions) -> Result<(usize, MemoryPlan)> {
    let promised = promised_positions(model);
    if let (Some(ctx), Some(limit)) = (o.ctx, model.positions_end())
        && ctx > limit
    {
        return Err(Error::context(ctx, limit).hint("this model has no positions beyond"));
    }
    let per_token = kv_bytes_per_token(model, o.kv);
    let plan = |tokens: usize| {
        let tokens = tokens.max(o.kv_tokens.unwrap_or(0)).next_multiple_of(PAGE);
        plan(model, o.kv, tokens).within(o.memory)
    };
    let ctx = match o.ctx {
        Some(ctx) => {
            if ctx > promised {
                tracing::warn!(ctx, promised, "the context is longer than the model was trained for");
            }
            ctx
        }
        None => fitting(promised.min(DEFAULT_CTX_MAX), per_token, &plan(0)),
    };
    let tokens = if o.kv_tokens.is_some() { ctx } else { several(ctx, o.kv_contexts, per_token, &plan(0)) };
    let plan = plan(tokens);
    plan.check()?;
    Ok((ctx, plan))
}

/// Tokens of `contexts` sequences of `ctx`, fewer where these would take more than a quarter of the room.
fn several(ctx: usize, contexts: usize, per_token: u64, plan: &MemoryPlan) -> usize {
    let quarter = plan.kv_room_bytes() / 4 / per_token.max(1);
    let quarter = usize::try_from(quarter).unwrap_or(usize::MAX) / PAGE * PAGE;
    ctx.saturating_mul(contexts).min(quarter).max(ctx)
}

/// `wanted`, or less where memory is short.
fn fitting(wanted: usize, per_token: u64, plan: &MemoryPlan) -> usize {
    let room = plan.kv_room_bytes() / per_token.max(1);
    let room = usize::try_from(room).unwrap_or(usize::MAX) / PAGE * PAGE;
    if room >= wanted {
        return wanted;
    }
    let ctx = room.max(wanted.min(DEFAULT_CTX_MIN));
    tracing::warn!(wanted, ctx, "memory is short: the context is shorter than the model's own");
    ctx
}

fn promised_positions(model: &Model) -> usize {
    let n = model.max_positions();
    let epoch = |len: usize| model.rope_epoch(u32::try_from(len).unwrap_or(u32::MAX));
    let dynamic = epoch(n) != epoch(n.saturating_add(1));
    if dynamic { n.saturating_mul(DYNAMIC_CTX) } else { n }
}

/// Fails once a file under `weights` or an adapter is no longer what it was.
fn trust(weights: Option<Arc<Weights>>, adapters: Adapters) -> Box<dyn Fn() -> Result<()>> {
    Box::new(move || {
        weights.as_ref().map_or(Ok(()), |w| w.check())?;
        adapters.borrow().check()
    })
}

/// What a model takes on this machine for a KV cache of `tokens` tokens. Nothing is allocated.
pub fn plan(model: &Model, kv: KvType, tokens: usize) -> MemoryPlan {
    MemoryPlan::new(model.description().weight_bytes, kv_bytes_per_token(model, kv), tokens)
}

/// Bytes of one sequence's recurrent states.
fn state_bytes(model: &Model) -> u64 {
    model.states().iter().map(|s| s.bytes() as u64).sum()
}

fn kv_bytes_per_token(model: &Model, kv: KvType) -> u64 {
    Description::kv_bytes(model.caches(), 1, kv)
}
