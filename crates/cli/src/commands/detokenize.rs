//! `detokenize`: ids to text, as the vocabulary's own decoder gives it.
use crate::{
    Context,
    error::{Error, Result},
};

/// Turn token ids into text
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  pondera detokenize model.gguf 1,403,407\n  \
    pondera detokenize tokenizer.json --jsonl --skip-special < ids.jsonl")]
pub struct Args {
    /// A model, or a vocabulary alone
    model: String,
    /// The ids, separated by commas or spaces; `-` reads standard input
    #[arg(value_name = "IDS")]
    ids: Vec<String>,
    /// Drop special tokens
    #[arg(long)]
    skip_special: bool,
    /// One JSON array per line on standard input, one JSON string per line on standard output
    #[arg(long, conflicts_with = "ids")]
    jsonl: bool,
}

/// Writes the text.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let source = crate::model::resolve(Some(&args.model), &context.global)?;
    Err(Error::failed(format!("{}: this build has no tokenizer", source.name())))
}
