//! `inspect`: what is in a model's files, without running anything.
use crate::{
    Context,
    error::Result,
    inspect::{report, view},
    model,
};

/// Show what is in a model
#[derive(clap::Args)]
#[command(after_help = "MODEL may also be any one file of a known format: a bare .safetensors or .gguf, an index, a \
    config.json, a vocabulary, an adapter.\n\nExamples:\n  pondera inspect model.gguf\n  \
    pondera inspect Qwen3-0.6B/ --ctx 32768 --tensors\n  pondera inspect model.gguf --json")]
pub struct Args {
    /// A model or one of its files [default: the built-in model]
    model: Option<String>,
    /// Plan memory for this many tokens [default: the longest context]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    ctx: Option<u32>,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
}

/// Writes the report.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let source = model::resolve(args.model.as_deref(), &context.global)?;
    let report = report(&source, args.ctx.map(|n| n as usize))?;
    if context.out.json() {
        return context.out.object(&report);
    }
    context.out.page(&view::draw(&report, args.tensors))
}
