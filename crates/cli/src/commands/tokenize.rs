//! `tokenize`: text to ids, as the model's own tokenizer gives them.
use crate::{
    Context,
    error::{Error, Result},
    words,
};
use pondera_text::{EncodeOptions, Tokenizer};
use std::io::{self, BufRead, Read};

/// Turn text into token ids
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  pondera tokenize model.gguf \"Once upon a time\"\n  \
    pondera tokenize tokenizer.json --jsonl --no-special < strings.jsonl")]
pub struct Args {
    /// A model, or a vocabulary alone
    model: String,
    /// The text; `-` reads standard input
    text: Option<String>,
    /// Add no special tokens
    #[arg(long)]
    no_special: bool,
    /// Add the end-of-sequence token
    #[arg(long)]
    add_eos: bool,
    /// Find special tokens that stand in the text
    #[arg(long)]
    parse_special: bool,
    /// One JSON string per line on standard input, one JSON array per line on standard output
    #[arg(long, conflicts_with = "text")]
    jsonl: bool,
}

/// Writes the ids: separated by commas, or as JSON.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let tokenizer = open(&args.model, context)?;
    let options =
        EncodeOptions { add_special: !args.no_special, parse_special: args.parse_special, add_eos: args.add_eos };
    if args.jsonl {
        return json_lines(context, "a JSON string", |text: String| Ok(tokenizer.encode(&text, &options)?));
    }
    let text = match args.text.as_deref() {
        None | Some("-") => standard_input()?,
        Some(text) => text.to_string(),
    };
    let ids = tokenizer.encode(&text, &options)?;
    if context.out.json() {
        return context.out.object(&serde_json::json!({ "ids": ids }));
    }
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    context.out.data(format!("{}\n", ids.join(",")).as_bytes())
}

/// The vocabulary of a model; it must have one.
pub(super) fn open(model: &str, context: &Context) -> Result<Tokenizer> {
    let source = crate::model::resolve(Some(model), &context.global)?;
    words::tokenizer(&source)?.ok_or_else(|| {
        Error::file(format!("{}: no vocabulary", source.name()))
            .hint("a vocabulary file can be given in place of the model")
    })
}

/// All of standard input.
pub(super) fn standard_input() -> Result<String> {
    let mut text = String::new();
    match io::stdin().lock().read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(Error::failed("standard input: not UTF-8")),
        Err(e) => Err(Error::io("standard input", &e)),
    }
}

/// One JSON value per line in, one out.
pub(super) fn json_lines<I, O>(context: &Context, expected: &str, convert: impl Fn(I) -> Result<O>) -> Result<()>
where
    I: serde::de::DeserializeOwned,
    O: serde::Serialize,
{
    const FLUSH: usize = 1 << 16;
    let mut out = Vec::new();
    for (n, line) in io::stdin().lock().lines().enumerate() {
        let line = line.map_err(|e| Error::io("standard input", &e))?;
        let wrong = |e| Error::failed(format!("standard input, line {}: expected {expected}: {e}", n + 1));
        let value = convert(serde_json::from_str(&line).map_err(wrong)?)?;
        serde_json::to_writer(&mut out, &value).map_err(|e| Error::failed(format!("the result is no JSON: {e}")))?;
        out.push(b'\n');
        if out.len() > FLUSH {
            context.out.data(&out)?;
            out.clear();
        }
    }
    context.out.data(&out)
}
