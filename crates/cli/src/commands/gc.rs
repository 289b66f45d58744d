//! `gc`: takes off the disk what nobody refers to.
use crate::{Context, error::Result, hub, view};
use serde_json::json;

/// Remove unfinished downloads and files that no revision refers to
#[derive(clap::Args)]
#[command(after_help = "What a running pull has is left alone.\n\nExamples:\n  pondera gc")]
pub struct Args {}

/// Removes them.
pub fn run(_: &Args, context: &Context) -> Result<()> {
    let removed = hub::store(&context.global)?.clean()?;
    if context.out.json() {
        let object = json!({ "files": removed.files, "bytes": removed.bytes, "busy": removed.busy });
        return context.out.object(&object);
    }
    for name in &removed.busy {
        context.out.note(&format!("{name}: left alone, a pull of it runs"));
    }
    context.out.note(&format!("{} files removed, {} freed", removed.files, view::bytes(removed.bytes)));
    Ok(())
}
