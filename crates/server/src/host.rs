//! A model with a thread of its own: the only one that touches the engine. Handlers send it commands; what comes of a request
//! goes to the request's own channel, so that no client waits for another's.
//!
//! A [`Ticket`] that is dropped cancels its request, wherever that is: queued, in its prompt or decoding.
use crate::{
    access,
    error::{ApiError, Result},
    facts::Facts,
    grammars::Grammars,
    metrics::Metrics,
    spelled::Spellings,
    tools::{Called, Namer},
};
use pondera_engine::{
    AdapterId, Engine, Event, FinishReason, Load, Logprob, Pooling, Request, RequestId, Sampling, Stops, Timings,
    TokenLogprobs, Usage,
};
use pondera_text::{
    ChatTemplate, Tokenizer,
    answer::{Reader, Said, Style},
};
use std::{
    collections::{HashMap, VecDeque},
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc as events, oneshot, watch};

/// Time that laying out weights may take between two looks at the commands.
const SETTLE: Duration = Duration::from_millis(4);

/// How a model comes to be served.
pub struct ModelSpec {
    /// The name that clients use.
    pub name: String,
    /// Further names.
    pub aliases: Vec<String>,
    /// Sampling values where a request says nothing.
    pub sampling: Sampling,
    /// In place of the model's own.
    pub template: Option<ChatTemplate>,
    /// How it makes vectors.
    pub embedding: Arc<Embedding>,
    /// Its adapters, each a model of its own to clients: what they call it, and where it is.
    pub adapters: Vec<(String, PathBuf)>,
    /// Bytes of its files.
    pub bytes: u64,
    /// Its file or folder, links followed: two names of one are one model. None for what is no file.
    pub file: Option<PathBuf>,
    /// Opens it, on the thread that will run it.
    #[allow(clippy::type_complexity)]
    pub open: Box<dyn Fn(&Room) -> pondera_engine::Result<Engine> + Send + Sync>,
}

impl ModelSpec {
    /// Whom clients mean by `name`: 0 for the model, then its adapters.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        if self.name == name || self.aliases.iter().any(|a| a == name) {
            return Some(0);
        }
        self.adapters.iter().position(|a| a.0 == name).map(|i| i + 1)
    }
}

/// What a model may take when it is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Most bytes, of weights and all else; none: what the machine has.
    pub memory: Option<u64>,
    /// Its context; none: as it was set up.
    pub ctx: Option<usize>,
    /// Tokens of its cache; none: as it was set up.
    pub kv_tokens: Option<usize>,
}

/// How a model makes a vector of a text.
pub struct Embedding {
    /// How rows become one; none: the mean of an encoder's, the last of a decoder's.
    pub pooling: Option<Pooling>,
    /// Tokens that the model was made for.
    pub max_tokens: Option<usize>,
    /// What is put before a text, and how its letters are.
    pub prepare: Box<dyn Fn(&str) -> String + Send + Sync>,
    /// What follows the pooling: dense layers, the length.
    #[allow(clippy::type_complexity)]
    pub finish: Box<dyn Fn(Vec<f32>) -> pondera_engine::Result<Vec<f32>> + Send + Sync>,
}

/// What is known of a model, whether it is open or not.
#[derive(Debug)]
pub struct Card {
    /// The name that clients use.
    pub name: String,
    /// Sampling values where a request says nothing.
    pub sampling: Sampling,
    /// When it was opened, in seconds since 1970.
    pub created: u64,
    /// Most tokens of prompt and answer together.
    pub ctx: usize,
    /// What lists say of it.
    pub facts: Facts,
    /// None where the model has none.
    pub template: Option<Arc<ChatTemplate>>,
    /// Whether its template has calls that are known here.
    pub calls: bool,
    /// Whether it makes embeddings alone.
    pub encoder: bool,
    /// The model that it adapts, by its name.
    pub parent: Option<String>,
    /// What it counts.
    pub metrics: Arc<Metrics>,
}

/// A model that is open. What its [`Card`] says can be read from it.
pub struct Model {
    /// What is known of it when it is closed too.
    pub card: Arc<Card>,
    /// Its words, and its template for conversations.
    pub words: Words,
    /// How it makes vectors.
    pub embedding: Arc<Embedding>,
    adapter: Option<AdapterId>,
    commands: mpsc::Sender<Command>,
    tickets: Arc<AtomicU64>,
    under_way: Arc<()>,
}

impl Deref for Model {
    type Target = Card;

    fn deref(&self) -> &Card {
        &self.card
    }
}

/// A model's thread, and the model on it.
#[derive(Clone)]
pub struct Started {
    /// The model, then one for each of its adapters.
    pub models: Vec<Arc<Model>>,
    /// Bytes that it takes at most.
    pub bytes: u64,
    /// Most tokens of prompt and answer together.
    pub ctx: usize,
    /// Tokens of its cache.
    pub kv_tokens: usize,
    /// Its sender goes when the thread has ended and its memory is free.
    pub gone: watch::Receiver<()>,
    alive: Arc<AtomicBool>,
    under_way: Arc<()>,
}

impl Started {
    /// Whether its thread still runs.
    pub fn alive(&self) -> bool {
        self.alive.load(SeqCst)
    }

    /// Whether somebody holds one of its models, or has a request under way.
    pub fn busy(&self) -> bool {
        // Each model has one, and this itself.
        Arc::strong_count(&self.under_way) > self.models.len() + 1
            || self.models.iter().any(|m| Arc::strong_count(m) > 1)
    }
}

/// What turns text into tokens and back.
#[derive(Clone, Default)]
pub struct Words {
    /// None where the model has none.
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// None where the model has none.
    pub template: Option<Arc<ChatTemplate>>,
    /// How its answers are written; none without a template.
    pub style: Option<Arc<Style>>,
    /// Whether it makes embeddings alone.
    pub encoder: bool,
    /// Columns of its logits.
    pub width: usize,
    /// What nobody but the template writes.
    pub spellings: Arc<Spellings>,
    /// What answers were asked to be.
    pub grammars: Arc<Grammars>,
}

/// What comes of a request.
#[derive(Debug)]
pub enum Out {
    /// A token was chosen; what can be shown now.
    Token { id: u32, part: Part, logprob: Option<f64>, top: Vec<Logprob> },
    /// The end.
    End { reason: FinishReason, part: Part, usage: Usage, timings: Timings },
    /// The end, without an answer.
    Failed(ApiError),
}

/// What was said, in this order.
#[derive(Debug, Default)]
pub struct Part {
    pub thought: String,
    pub text: String,
    pub calls: Vec<Called>,
}

impl Part {
    fn text(text: &str) -> Part {
        Part { text: text.to_string(), ..Part::default() }
    }

    /// Nothing was.
    pub fn is_empty(&self) -> bool {
        self.thought.is_empty() && self.text.is_empty() && self.calls.is_empty()
    }
}

enum Command {
    Submit(u64, Box<Request>, events::UnboundedSender<Out>),
    Cancel(u64),
    /// The text of this one ended at this of its stop strings.
    Stop(u64, usize),
    PromptLogprobs(Option<AdapterId>, Vec<u32>, usize, oneshot::Sender<Result<Vec<TokenLogprobs>>>),
    Embed(Option<AdapterId>, Vec<u32>, Pooling, oneshot::Sender<Result<Vec<f32>>>),
}

/// A request under way.
pub struct Ticket {
    id: u64,
    events: events::UnboundedReceiver<Out>,
    commands: mpsc::Sender<Command>,
    ended: bool,
    /// Its model is in use.
    _under_way: Arc<()>,
    /// Tells thoughts and calls from the text, and names the calls.
    pub reader: Option<(Reader, Namer)>,
    /// What ends the text where there is a reader: thoughts and calls are no part of it. Without one the engine looks.
    pub stops: Stops,
    /// Tokens that came, and the stop string that ended the text.
    tokens: usize,
    cut: Option<usize>,
    /// Tells the log and the trace of its request.
    pub seen: access::Seen,
}

impl Ticket {
    /// The next of what comes; none after the end.
    pub async fn next(&mut self) -> Option<Out> {
        if self.ended {
            return None;
        }
        let mut out = loop {
            let out = self.events.recv().await.unwrap_or_else(|| Out::Failed(gone()));
            // Behind a stop string nothing is said; what it took is yet to come.
            if self.cut.is_none() || !matches!(out, Out::Token { .. }) {
                break out;
            }
        };
        self.read(&mut out);
        self.ended = !matches!(out, Out::Token { .. });
        self.seen.note(&out);
        Some(out)
    }

    /// Tells what was said from what was thought and called, and ends it at a stop string.
    fn read(&mut self, out: &mut Out) {
        if let (Some(place), Out::End { reason, part, usage, .. }) = (self.cut, &mut *out) {
            (*reason, *part, usage.completion_tokens) = (FinishReason::StopString(place), Part::default(), self.tokens);
            return;
        }
        let Some((reader, namer)) = &mut self.reader else { return };
        let (part, reason) = match out {
            Out::Token { part, .. } => (part, None),
            Out::End { part, reason, .. } => (part, Some(reason)),
            Out::Failed(_) => return,
        };
        self.tokens += usize::from(reason.is_none());
        let said = reader.push(&std::mem::take(&mut part.text));
        add(part, said, namer);
        if reason.is_some() {
            add(part, reader.finish(), namer);
        }
        self.cut = self.stops.push(&std::mem::take(&mut part.text), &mut part.text);
        match (self.cut, reason) {
            (Some(place), reason) => {
                // Calls come behind the text.
                part.calls.clear();
                match reason {
                    Some(reason) => *reason = FinishReason::StopString(place),
                    None => drop(self.commands.send(Command::Stop(self.id, place))),
                }
            }
            (None, reason) if reason.is_some() || !part.calls.is_empty() => self.stops.finish(&mut part.text),
            (None, _) => {}
        }
    }
}

fn add(part: &mut Part, said: Said, namer: &mut Namer) {
    part.thought.push_str(&said.thought);
    part.text.push_str(&said.text);
    part.calls.extend(said.calls.into_iter().map(|call| namer.name(call)));
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.ended {
            // A thread that is gone has nothing to cancel.
            let _ = self.commands.send(Command::Cancel(self.id));
        }
    }
}

fn gone() -> ApiError {
    ApiError::unavailable("the model is not running")
}

impl Model {
    /// Starts the model's thread and waits until it is open.
    ///
    /// # Errors
    /// What the engine says.
    pub fn start(spec: &Arc<ModelSpec>, room: &Room, metrics: Arc<Metrics>) -> pondera_engine::Result<Started> {
        let (commands, inbox) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let (here, gone) = watch::channel(());
        let alive = Arc::new(AtomicBool::new(true));
        let (counts, living, plan, room) = (metrics.clone(), alive.clone(), spec.clone(), *room);
        let body = move || {
            // Dropped last.
            let _here = here;
            let opened = (plan.open)(&room).and_then(|mut engine| {
                let load = |(name, path): &(String, PathBuf)| engine.load_adapter(name, &[(path, 1.0)]);
                let ids = plan.adapters.iter().map(load).collect::<pondera_engine::Result<Vec<_>>>()?;
                let words = words(&engine, plan.template.clone())?;
                let (ctx, kv_tokens) = (engine.ctx(), engine.kv().1);
                let facts = Facts::of(&engine);
                let bytes = engine.plan().total_bytes();
                Ok((engine, Opened { words, facts, ids, ctx, kv_tokens, bytes }))
            });
            let engine = match opened {
                Ok((engine, opened)) => {
                    let _ = tell.send(Ok(opened));
                    engine
                }
                Err(e) => return drop(tell.send(Err(e))),
            };
            let worker = Worker {
                engine,
                inbox,
                tickets: HashMap::new(),
                sinks: HashMap::new(),
                metrics: counts.clone(),
                passes: VecDeque::new(),
            };
            // A bug ends this model, not the server: readiness tells.
            if catch_unwind(AssertUnwindSafe(|| worker.run())).is_err() {
                tracing::error!("the engine's thread ended by a bug");
            }
            counts.work(0, 0, Load::default());
            living.store(false, SeqCst);
        };
        let cannot =
            |e: std::io::Error| pondera_engine::Error::new(pondera_engine::ErrorKind::Invalid, format!("thread: {e}"));
        thread::Builder::new().name("engine".into()).spawn(body).map_err(cannot)?;
        let died = || pondera_engine::Error::new(pondera_engine::ErrorKind::File, "the model could not be opened");
        let Opened { words, facts, ids, ctx, kv_tokens, bytes } = told.recv().unwrap_or_else(|_| Err(died()))?;
        let (created, tickets, under_way) = (crate::id::now_s(), Arc::<AtomicU64>::default(), Arc::new(()));
        let model = |name: &str, parent: Option<&str>, adapter: Option<AdapterId>| {
            let card = Card {
                name: name.to_string(),
                sampling: spec.sampling.clone(),
                created,
                ctx,
                facts: facts.clone(),
                template: words.template.clone(),
                calls: words.style.as_ref().is_some_and(|s| s.calls()),
                encoder: words.encoder,
                parent: parent.map(str::to_string),
                metrics: metrics.clone(),
            };
            Arc::new(Model {
                card: Arc::new(card),
                words: words.clone(),
                embedding: spec.embedding.clone(),
                adapter,
                commands: commands.clone(),
                tickets: tickets.clone(),
                under_way: under_way.clone(),
            })
        };
        let adapted = spec.adapters.iter().zip(ids).map(|((name, _), id)| model(name, Some(&spec.name), Some(id)));
        let models = [model(&spec.name, None, None)].into_iter().chain(adapted).collect();
        Ok(Started { models, bytes, ctx, kv_tokens, gone, alive, under_way })
    }

    /// Whether a prompt can have an answer.
    ///
    /// # Errors
    /// 400: it is never cut.
    pub fn fits(&self, param: &str, tokens: usize) -> Result<()> {
        if tokens > self.ctx { Err(ApiError::context(param, tokens, self.ctx)) } else { Ok(()) }
    }

    /// Hands a request to the engine.
    pub fn submit(&self, mut request: Request) -> Ticket {
        request.adapter = self.adapter;
        let id = self.tickets.fetch_add(1, SeqCst);
        let (sender, events) = events::unbounded_channel();
        let commands = self.commands.clone();
        // Without a thread the sender is dropped, and the ticket says so.
        let _ = commands.send(Command::Submit(id, Box::new(request), sender));
        let (under_way, seen) = (self.under_way.clone(), access::Seen::default());
        Ticket {
            id,
            events,
            commands,
            ended: false,
            _under_way: under_way,
            reader: None,
            stops: Stops::default(),
            tokens: 0,
            cut: None,
            seen,
        }
    }

    /// For every token but the first its log probability and the `top` likeliest, given those before it.
    pub async fn prompt_logprobs(&self, tokens: Vec<u32>, top: usize) -> Result<Vec<TokenLogprobs>> {
        if tokens.len() > self.ctx {
            return Err(ApiError::context("prompt", tokens.len(), self.ctx));
        }
        let (sender, receiver) = oneshot::channel();
        let _ = self.commands.send(Command::PromptLogprobs(self.adapter, tokens, top, sender));
        receiver.await.map_err(|_| gone())?
    }

    /// The embedding of `tokens`.
    ///
    /// # Errors
    /// 400 for more than the model was made for: nothing is cut.
    pub async fn embed(&self, tokens: Vec<u32>) -> Result<Vec<f32>> {
        if let Some(most) = self.embedding.max_tokens.filter(|most| tokens.len() > *most) {
            return Err(ApiError::invalid(
                "input",
                format!("{} tokens do not fit: the model was made for {most}", tokens.len()),
            ));
        }
        if tokens.len() > self.ctx {
            return Err(ApiError::context("input", tokens.len(), self.ctx));
        }
        let otherwise = if self.words.encoder { Pooling::Mean } else { Pooling::Last };
        let pooling = self.embedding.pooling.unwrap_or(otherwise);
        access::read(tokens.len());
        let (sender, receiver) = oneshot::channel();
        let _ = self.commands.send(Command::Embed(self.adapter, tokens, pooling, sender));
        let vector = receiver.await.map_err(|_| gone())??;
        Ok((self.embedding.finish)(vector)?)
    }
}

/// What the thread tells of a model that it has opened.
struct Opened {
    words: Words,
    facts: Facts,
    ids: Vec<AdapterId>,
    ctx: usize,
    kv_tokens: usize,
    bytes: u64,
}

fn words(engine: &Engine, template: Option<ChatTemplate>) -> pondera_engine::Result<Words> {
    let own = || engine.weights().map(ChatTemplate::of).transpose().map(Option::flatten);
    let template = template.map_or_else(own, |t| Ok(Some(t)))?;
    let tokenizer = engine.tokenizer()?.cloned();
    // One from elsewhere has no words of its own.
    let special = |id: Option<u32>| id.zip(tokenizer.as_ref()).map(|(id, t)| t.decode(&[id], false));
    let ids = tokenizer.as_ref().map(|t| (t.bos_id(), t.eos_id().or(t.stop_ids().first().copied())));
    let template = template.map(|t| t.with_tokens(special(ids.and_then(|i| i.0)), special(ids.and_then(|i| i.1))));
    let style = template.as_ref().zip(tokenizer.as_deref()).map(|(t, words)| Arc::new(Style::of(t, words)));
    let own = style.as_ref().map(|s: &Arc<Style>| s.shown(true));
    let spellings =
        tokenizer.as_deref().map(|t| Spellings::of(t, own.as_deref().unwrap_or_default())).unwrap_or_default();
    Ok(Words {
        tokenizer,
        spellings: Arc::new(spellings),
        style,
        template: template.map(Arc::new),
        encoder: engine.model().is_encoder(),
        width: engine.model().vocab_size(),
        grammars: Arc::default(),
    })
}

/// The engine's thread.
struct Worker {
    engine: Engine,
    inbox: mpsc::Receiver<Command>,
    tickets: HashMap<u64, RequestId>,
    sinks: HashMap<RequestId, Sink>,
    metrics: Arc<Metrics>,
    /// Whole passes that were asked for: one between two steps, so that nobody who decodes waits for all of them.
    passes: VecDeque<Command>,
}

struct Sink {
    ticket: u64,
    events: events::UnboundedSender<Out>,
    submitted: Instant,
    last: Option<Instant>,
    /// Tokens of its prompt, and those of them that are yet to be computed.
    prompt: usize,
    unread: usize,
    /// The stop string at which its text ended, as its ticket says.
    stopped: Option<usize>,
}

impl Worker {
    /// Works until nobody can send commands any more.
    fn run(mut self) {
        let mut settled = false;
        self.metrics.work(0, 0, self.engine.load());
        loop {
            let idle = self.engine.is_idle() && self.passes.is_empty();
            let next = if idle && settled {
                self.inbox.recv().map_err(|_| mpsc::TryRecvError::Disconnected)
            } else {
                self.inbox.try_recv()
            };
            match next {
                Ok(command) => {
                    settled = false;
                    self.obey(command);
                    continue;
                }
                Err(mpsc::TryRecvError::Disconnected) if idle => return,
                Err(_) => {}
            }
            if idle {
                settled = self.engine.settle(SETTLE).left_bytes == 0;
            } else {
                self.pass();
                self.step();
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Submit(ticket, request, events) => {
                let prompt = request.prompt.len();
                match self.engine.submit(*request) {
                    Ok(id) => {
                        self.tickets.insert(ticket, id);
                        let submitted = Instant::now();
                        self.sinks.insert(
                            id,
                            Sink { ticket, events, submitted, last: None, prompt, unread: prompt, stopped: None },
                        );
                        self.metrics.submitted();
                    }
                    Err(e) => {
                        log(&e);
                        let _ = events.send(Out::Failed(e.into()));
                    }
                }
            }
            Command::Cancel(ticket) => {
                if let Some(id) = self.tickets.get(&ticket) {
                    self.engine.cancel(*id);
                }
            }
            Command::Stop(ticket, place) => {
                if let Some(id) = self.tickets.get(&ticket) {
                    self.sinks.entry(*id).and_modify(|sink| sink.stopped = Some(place));
                    self.engine.cancel(*id);
                }
            }
            pass => self.passes.push_back(pass),
        }
    }

    /// One whole pass over a prompt, if anybody still waits for it.
    fn pass(&mut self) {
        match self.passes.pop_front() {
            Some(Command::PromptLogprobs(adapter, tokens, top, answer)) if !answer.is_closed() => {
                let _ = answer.send(self.with(adapter, |e| e.prompt_logprobs(&tokens, top)).map_err(ApiError::from));
            }
            Some(Command::Embed(adapter, tokens, pooling, answer)) if !answer.is_closed() => {
                let _ = answer.send(self.with(adapter, |e| e.embed(&tokens, pooling)).map_err(ApiError::from));
            }
            _ => {}
        }
    }

    /// A pass with an adapter, which is taken back: requests name their own.
    fn with<T>(
        &mut self,
        adapter: Option<AdapterId>,
        pass: impl FnOnce(&mut Engine) -> pondera_engine::Result<T>,
    ) -> pondera_engine::Result<T> {
        self.engine.use_adapter(adapter)?;
        let done = pass(&mut self.engine);
        self.engine.use_adapter(None)?;
        done
    }

    fn step(&mut self) {
        let Worker { engine, tickets, sinks, metrics, .. } = self;
        let start = Instant::now();
        let (mut read, mut written) = (0, 0);
        engine.step(&mut |id, event| {
            let Some(sink) = sinks.get_mut(&id) else { return };
            let out = match event {
                Event::Prefill { done, .. } => {
                    read += sink.unread.saturating_sub(sink.prompt.saturating_sub(done));
                    sink.unread = sink.prompt.saturating_sub(done);
                    return;
                }
                Event::Token { id, text, logprob, top } => {
                    let now = Instant::now();
                    (read, written) = (read + std::mem::take(&mut sink.unread), written + 1);
                    metrics.token(now - sink.last.unwrap_or(sink.submitted), sink.last.is_none());
                    sink.last = Some(now);
                    Out::Token { id, part: Part::text(text), logprob, top: top.to_vec() }
                }
                Event::Finished { reason, text, usage, timings, .. } => {
                    let reason = match (reason, sink.stopped) {
                        (FinishReason::Cancelled, Some(place)) => FinishReason::StopString(place),
                        (reason, _) => reason,
                    };
                    metrics.ended(reason, &usage, sink.submitted.elapsed());
                    Out::End { reason, part: Part::text(text), usage, timings }
                }
                Event::Failed(e) => {
                    log(e);
                    metrics.failed();
                    Out::Failed(e.clone().into())
                }
            };
            let last = !matches!(out, Out::Token { .. });
            // Whoever does not listen any more cancels by itself.
            let _ = sink.events.send(out);
            if last && let Some(sink) = sinks.remove(&id) {
                tickets.remove(&sink.ticket);
            }
        });
        metrics.step(start.elapsed(), sinks.len());
        metrics.work(read, written, engine.load());
    }
}

/// What clients are not told.
fn log(e: &pondera_engine::Error) {
    tracing::warn!("a request failed: {e}");
}
