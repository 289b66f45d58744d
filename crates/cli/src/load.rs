//! A model ready to run: opened with the flags of the command, with progress for a person who waits.
use crate::{
    Context,
    ahead::Ahead,
    error::{Error, Result},
    flags::{Compute, Recommended},
    interrupt::Listening,
    model::{self, PEBBLE_NAME, Source, embedded_bytes},
    policy,
    progress::Spinner,
    words,
};
use pondera_engine as engine;
use pondera_engine::{Completion, Engine, EngineOptions, Event, KvType, Request};
use pondera_text::Tokenizer;
use serde_json::Value;
use std::{ops::ControlFlow, time::Instant};

/// An engine with what the command line knows about its model.
pub struct Loaded {
    /// The engine.
    pub engine: Engine,
    /// What the publisher recommends for sampling.
    pub recommended: Recommended,
    /// Seconds from the start of the load to its end.
    pub load_s: f64,
    /// What messages call the model.
    pub name: String,
}

impl Loaded {
    /// Opens `source`; `kv` is the cache type that the command prefers. Exit 4 where a policy refuses it.
    pub fn open(source: &Source, compute: &Compute, kv: KvType, context: &Context) -> Result<Loaded> {
        policy::check(source, &context.global)?;
        Loaded::open_part(source, compute, kv, context)
    }

    /// The same for a part of a model of which the policy was asked already.
    pub fn open_part(source: &Source, compute: &Compute, kv: KvType, context: &Context) -> Result<Loaded> {
        let options = compute.options(context.global.threads, kv)?;
        let mut loaded = Loaded::from_source(&from(source), source.name(), &options, context)?;
        loaded.recommended = source.folder().map(Recommended::of).transpose()?.unwrap_or_default();
        Ok(loaded)
    }

    /// Opens the draft model of `--draft`, if there is one.
    pub fn open_draft(&mut self, ahead: &Ahead, context: &Context) -> Result<()> {
        let Some(name) = &ahead.draft else { return Ok(()) };
        let source = model::resolve(Some(name), &context.global)?;
        policy::check(&source, &context.global)?;
        let start = Instant::now();
        let spinner = Spinner::new(context, format!("loading {}", source.name()));
        self.engine.set_draft(&from(&source), &mut |_| {})?;
        drop(spinner);
        self.load_s += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Opens whatever the engine can open.
    pub fn from_source(
        from: &engine::Source<'_>,
        name: String,
        options: &EngineOptions,
        context: &Context,
    ) -> Result<Loaded> {
        let start = Instant::now();
        let spinner = Spinner::new(context, format!("loading {name}"));
        let engine = Engine::open(from, options, &mut |_| {})?;
        drop(spinner);
        let (recommended, load_s) = (Recommended::default(), start.elapsed().as_secs_f64());
        Ok(Loaded { engine, recommended, load_s, name })
    }

    /// The vocabulary, or an error that says what to do without.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.engine.tokenizer()?.map(|t| &**t).ok_or_else(|| {
            Error::file(format!("{}: the model has no tokenizer", self.name))
                .hint("give the prompt as ids: --tokens 1,2,3")
        })
    }

    /// The vocabulary, if the model has one that can be read.
    pub fn words(&self) -> Option<&Tokenizer> {
        self.engine.tokenizer().ok().flatten().map(|t| &**t)
    }

    /// Ids of `text` as a prompt: special tokens added as the vocabulary says.
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>> {
        words::encode(self.tokenizer()?, text, true)
    }

    /// Ids of a conversation as the model's chat template lays it out, the assistant's turn opened.
    /// `None` where the model has no template.
    pub fn chat(&self, messages: &[Value]) -> Result<Option<Vec<u32>>> {
        let template = self.engine.weights().map(words::template).transpose()?.flatten();
        template.map(|t| words::chat(&t, self.tokenizer()?, messages)).transpose()
    }

    /// Runs one request to its end and shows its text as it comes. Ctrl-C cancels the request.
    pub fn generate(
        &mut self,
        request: Request,
        listening: &Listening,
        show: &mut dyn FnMut(Piece<'_>) -> Result<()>,
    ) -> Result<Completion> {
        let mut trouble = None;
        let done = self.engine.generate(request, &mut |event| {
            let shown = match event {
                Event::Prefill { done, total } => show(Piece::Prefill(*done, *total)),
                Event::Token { text, .. } | Event::Finished { text, .. } => show(Piece::Text(text)),
                Event::Failed(_) => Ok(()),
            };
            match shown {
                Err(e) => trouble = Some(e),
                Ok(()) if !listening.asked() => return ControlFlow::Continue(()),
                Ok(()) => {}
            }
            ControlFlow::Break(())
        });
        trouble.map_or(Ok(done?), Err)
    }
}

/// A model's files as the engine takes them.
pub fn from(source: &Source) -> engine::Source<'_> {
    match source {
        Source::Path(path) => engine::Source::Path(path),
        Source::Embedded(bytes) => engine::Source::Gguf { name: PEBBLE_NAME, bytes: embedded_bytes(bytes) },
    }
}

/// What a running request shows.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// So much of the prompt is computed.
    Prefill(usize, usize),
    /// Text to be shown now.
    Text(&'a str),
}
