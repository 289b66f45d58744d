//! `inspect`: what is in a model's files, without running anything.
use crate::{
    Context,
    error::Result,
    inspect::{report, view},
    model,
    view::{Side, Table},
};
use pondera_arch::FAMILIES;
use serde_json::json;

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
    /// List the families that run, instead of a model
    #[arg(long, conflicts_with_all = ["model", "ctx", "tensors"])]
    families: bool,
}

/// Writes the report.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    if args.families {
        return families(context);
    }
    let source = model::resolve(args.model.as_deref(), &context.global)?;
    let report = report(&source, args.ctx.map(|n| n as usize))?;
    if context.out.json() {
        return context.out.object(&report);
    }
    context.out.page(&view::draw(&report, args.tensors))
}

fn families(context: &Context) -> Result<()> {
    if context.out.json() {
        let row = |f: &pondera_arch::Family| json!({ "model_type": f.model_type, "title": f.title, "gguf": f.gguf.map(|g| g.0) });
        return context.out.object(&json!({ "families": FAMILIES.iter().map(row).collect::<Vec<_>>() }));
    }
    let mut table = Table::new(&[("model_type", Side::Left), ("family", Side::Left), ("GGUF architecture", Side::Left)]);
    for f in FAMILIES {
        table.row(vec![f.model_type.into(), f.title.into(), f.gguf.map_or("–", |g| g.0).into()]);
    }
    context.out.page(&table.draw())
}
