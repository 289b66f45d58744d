//! `run`: one answer, or an interactive chat.
//!
//! Does not own: sampling and stopping (`pondera-engine`), templates (`pondera-text`), the chat's surface (`chat`).
use crate::{
    Context,
    ahead::{self, Ahead},
    chat,
    error::{Error, Result},
    flags::{self, Choice, Compute, Ids},
    interrupt,
    load::{Loaded, Piece},
    lora::Lora,
    memory, model,
    progress::Bar,
    view,
};
use pondera_engine::{Completion, FinishReason, KvType, Request};
use pondera_text::{Compiler, GRAMMAR_BYTES_MAX, Grammar};
use serde_json::json;
use std::{
    fs,
    io::{self, IsTerminal, Read},
    path::PathBuf,
    sync::Arc,
};

/// Generate text, or chat
#[derive(clap::Args)]
#[command(after_help = "Without MODEL the built-in one answers; without PROMPT it is read from standard input, and at a \
    terminal a chat begins.\n\nExamples:\n  pondera run \"Tell me a story about a fox\"\n  \
    pondera run model.gguf \"Why is the sky blue?\" -n 200 --temperature 0\n  \
    pondera run model.gguf --raw \"Once upon a time\" --seed 7\n  \
    pondera run large.gguf --draft small.gguf \"Why is the sky blue?\"\n  pondera run model.gguf")]
pub struct Args {
    /// The model [default: the built-in one]
    model: Option<String>,
    /// What to say to it
    prompt: Option<String>,
    /// The prompt as token ids
    #[arg(long, value_name = "1,2,3", value_parser = flags::ids, conflicts_with = "prompt")]
    tokens: Option<Ids>,
    /// Most tokens to generate [default: until the model ends or the context is full]
    #[arg(short = 'n', long, visible_alias = "predict", value_name = "N")]
    max_tokens: Option<usize>,
    /// Go on past end-of-sequence tokens
    #[arg(long)]
    ignore_eos: bool,
    /// End before this text appears; may be repeated
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// System text of the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Take the prompt as it is: no chat template
    #[arg(long, conflicts_with = "system")]
    raw: bool,
    /// The answer is JSON of this schema
    #[arg(long, value_name = "FILE", conflicts_with = "grammar")]
    schema: Option<PathBuf>,
    /// The answer follows this grammar, in Lark's notation
    #[arg(long, value_name = "FILE")]
    grammar: Option<PathBuf>,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    ahead: Ahead,
    #[command(flatten)]
    lora: Lora,
    #[command(flatten)]
    compute: Compute,
}

/// What one request says.
enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
    Chat,
}

/// Answers once, or chats.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let (name, prompt) = prompt(args, context)?;
    let source = model::resolve(name, &context.global)?;
    let mut loaded = Loaded::open(&source, &args.compute, KvType::F16, context)?;
    loaded.open_lora(&args.lora, context)?;
    loaded.open_draft(&args.ahead, context)?;
    match prompt {
        Prompt::Chat if args.schema.is_some() || args.grammar.is_some() => {
            Err(Error::usage("--schema, --grammar: for one answer, not for a chat").hint("give a prompt"))
        }
        Prompt::Chat => chat::run(loaded, chat_settings(args), context),
        Prompt::Text(text) => answer(args, loaded, Some(&text), Vec::new(), context),
        Prompt::Tokens(tokens) => answer(args, loaded, None, tokens, context),
    }
}

/// Which argument is the model and which the prompt. A single one is the model if it names one.
fn prompt<'a>(args: &'a Args, context: &Context) -> Result<(Option<&'a str>, Prompt)> {
    let (name, text) = match (args.model.as_deref(), args.prompt.as_deref()) {
        (Some(only), None) if args.tokens.is_none() && !model::looks_like_model(only, &context.global) => {
            (None, Some(only))
        }
        both => both,
    };
    if let Some(Ids(tokens)) = &args.tokens {
        if tokens.is_empty() {
            return Err(Error::usage("--tokens: the list is empty").hint("give at least one id, as in --tokens 1"));
        }
        return Ok((name, Prompt::Tokens(tokens.clone())));
    }
    if let Some(text) = text.filter(|t| *t != "-") {
        return Ok((name, Prompt::Text(text.to_string())));
    }
    if text.is_none() && io::stdin().is_terminal() {
        if context.out.json() || !io::stdout().is_terminal() {
            return Err(Error::usage("run: there is no prompt").hint("give one as PROMPT, as --tokens, or on standard input"));
        }
        return Ok((name, Prompt::Chat));
    }
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes).map_err(|e| Error::io("standard input", &e))?;
    let text = String::from_utf8(bytes).map_err(|_| Error::usage("standard input: the prompt is not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    if text.is_empty() {
        return Err(Error::usage("run: the prompt on standard input is empty").hint("give one as PROMPT, or type in a terminal"));
    }
    Ok((name, Prompt::Text(text.to_string())))
}

fn chat_settings(args: &Args) -> chat::Settings {
    chat::Settings {
        choice: args.choice.clone(),
        speculation: args.ahead.speculation(),
        stop: args.stop.clone(),
        max_tokens: args.max_tokens,
        ignore_eos: args.ignore_eos,
        system: args.system.clone(),
        raw: args.raw,
    }
}

/// Ids of the prompt: through the chat template where the model has one.
fn prompt_ids(args: &Args, loaded: &Loaded, text: &str, context: &Context) -> Result<Vec<u32>> {
    if !args.raw {
        let system = args.system.as_ref().map(|s| json!({ "role": "system", "content": s }));
        let messages: Vec<_> = system.into_iter().chain([json!({ "role": "user", "content": text })]).collect();
        if let Some(ids) = loaded.chat(&messages)? {
            return Ok(ids);
        }
        if args.system.is_some() {
            return Err(Error::usage(format!("--system: {} has no chat template", loaded.name))
                .hint("put the system text into the prompt"));
        }
        context.out.note("note: the model has no chat template, so the prompt is taken as it is");
    }
    loaded.tokenize(text)
}

/// What the answer must follow.
fn grammar(args: &Args, loaded: &Loaded) -> Result<Option<Arc<Grammar>>> {
    let Some(file) = args.schema.as_ref().or(args.grammar.as_ref()) else { return Ok(None) };
    let size = fs::metadata(file).map_err(|e| Error::io(file.display(), &e))?.len();
    if size > GRAMMAR_BYTES_MAX as u64 {
        return Err(Error::file(format!("{}: {size} bytes, at most {GRAMMAR_BYTES_MAX} are read", file.display())));
    }
    let text = fs::read_to_string(file).map_err(|e| Error::io(file.display(), &e))?;
    let wrong = |what: String| Error::file(format!("{}: {what}", file.display()));
    let compiler = Compiler::new(loaded.tokenizer()?, loaded.engine.model().vocab_size())?;
    let made = match args.schema {
        Some(_) => compiler.json_schema(&serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?),
        None => compiler.lark(&text),
    };
    made.map(|g| Some(Arc::new(g))).map_err(|e| wrong(e.message().to_string()))
}

fn answer(args: &Args, mut loaded: Loaded, text: Option<&str>, tokens: Vec<u32>, context: &Context) -> Result<()> {
    let prompt = match text {
        Some(text) => prompt_ids(args, &loaded, text, context)?,
        None => tokens,
    };
    let grammar = grammar(args, &loaded)?;
    let sampling = args.choice.sampling(&loaded.recommended);
    let seed = sampling.seed;
    let request = Request {
        prompt,
        sampling,
        stop: args.stop.clone(),
        max_tokens: args.max_tokens,
        ignore_eos: args.ignore_eos,
        speculation: args.ahead.speculation(),
        grammar,
        ..Request::default()
    };
    let listening = interrupt::listen();
    let (json, out) = (context.out.json(), &context.out);
    let mut bar: Option<Bar> = None;
    let done = loaded.generate(request, &listening, &mut |piece| match piece {
        Piece::Prefill(done, total) => {
            bar.get_or_insert_with(|| Bar::new(context, "reading the prompt", total as u64)).set(done as u64);
            Ok(())
        }
        Piece::Text(text) => {
            bar = None;
            if json || text.is_empty() { Ok(()) } else { out.text(text) }
        }
    })?;
    if json {
        let mut object = report(&done, args.max_tokens, &loaded, seed);
        if args.ahead.speculation().is_some() {
            object["speculation"] = ahead::report(&done.guesses, done.usage.completion_tokens);
        }
        out.object(&object)?;
    } else {
        finish(&done, &loaded, context)?;
    }
    if context_full(&done, args.max_tokens) {
        // Said even with -q: an answer is never cut silently.
        eprintln!(
            "warning: the context is full after {} tokens, so the answer ends early; a larger --ctx holds more",
            done.usage.prompt_tokens + done.usage.completion_tokens
        );
    }
    match done.finish_reason {
        FinishReason::Cancelled => listening.check(),
        _ => Ok(()),
    }
}

/// The object of `--json` (docs/commands.md).
fn report(done: &Completion, asked: Option<usize>, loaded: &Loaded, seed: u64) -> serde_json::Value {
    let text = loaded.words().map(|_| &done.text);
    json!({
        "text": text,
        "tokens": done.tokens,
        "finish_reason": done.finish_reason.name(),
        "context_full": context_full(done, asked),
        "usage": { "prompt_tokens": done.usage.prompt_tokens, "completion_tokens": done.usage.completion_tokens },
        "timings": { "load_s": loaded.load_s, "prefill_tps": done.timings.prefill_tps, "decode_tps": done.timings.decode_tps },
        "peak_rss_bytes": memory::peak_rss_bytes(),
        "seed": seed,
        "model": loaded.name,
    })
}

/// Whether the answer ended because the context was full, not because it had the length asked for.
fn context_full(done: &Completion, asked: Option<usize>) -> bool {
    done.finish_reason == FinishReason::Length && asked.is_none_or(|n| done.usage.completion_tokens < n)
}

/// Ends the streamed text; without a tokenizer the ids are the result. Then a line of figures for a person.
fn finish(done: &Completion, loaded: &Loaded, context: &Context) -> Result<()> {
    let out = &context.out;
    if loaded.words().is_none() {
        let ids: Vec<String> = done.tokens.iter().map(u32::to_string).collect();
        out.data(ids.join(",").as_bytes())?;
        out.data(b"\n")?;
    } else if !done.text.ends_with('\n') {
        out.data(b"\n")?;
    }
    out.note(&summary(done, loaded.load_s));
    Ok(())
}

/// `12 + 80 tokens · prompt 410 tok/s · answer 95.1 tok/s · loaded in 0.02 s`.
pub fn summary(done: &Completion, load_s: f64) -> String {
    use crate::out::DIM;
    let mut parts = vec![format!("{} + {} tokens", done.usage.prompt_tokens, done.usage.completion_tokens)];
    for (name, tps) in [("prompt", done.timings.prefill_tps), ("answer", done.timings.decode_tps)] {
        if tps > 0.0 {
            parts.push(format!("{name} {} tok/s", view::three(tps)));
        }
    }
    let g = &done.guesses;
    if g.drafted > 0 {
        parts.push(format!("{} of {} guesses right", g.accepted, g.drafted));
    }
    parts.push(format!("loaded in {load_s:.2} s"));
    if done.finish_reason == FinishReason::Length {
        parts.push("ended by length".into());
    }
    format!("{DIM}{}{DIM:#}", parts.join(" · "))
}
