//! `show`: the files of one model, with sizes and digests.
use crate::{
    Context,
    error::Result,
    hub::{self, model_json},
    view,
};
use std::fmt::Write as _;

/// Show the files of a model with sizes and digests
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  pondera show org/name\n  pondera show org/name@main --json")]
pub struct Args {
    /// org/name[@revision][:quant]
    #[arg(value_name = "REF")]
    reference: String,
}

/// Writes them.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let model = hub::store(&context.global)?.show(&hub::reference(&args.reference)?)?;
    if context.out.json() {
        return context.out.object(&model_json(&model));
    }
    let mut sheet = view::Sheet::new(12);
    for revision in &model.revisions {
        sheet.head(&format!("{} {}", model.name, revision.names.join(", ")));
        sheet.line("commit", &revision.commit);
        sheet.line("path", revision.path.display().to_string());
        sheet.line("size", view::bytes(revision.bytes()));
        let width = revision.files.iter().map(|f| f.path.len()).max().unwrap_or(0);
        let mut text = String::new();
        for f in &revision.files {
            let digest = f.digest.as_ref().map_or_else(|| "no digest".to_string(), ToString::to_string);
            let size = if f.present { view::bytes(f.size) } else { "gone".into() };
            let _ = writeln!(text, "  {:<width$}  {size:>10}  {digest}", f.path);
        }
        sheet.raw(&text);
    }
    if model.unfinished > 0 {
        sheet.line("unfinished", view::bytes(model.unfinished));
    }
    context.out.page(&sheet.finish())
}
