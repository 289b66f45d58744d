//! `rm`: takes a model, a revision or a quantization off the disk.
use crate::{
    Context,
    error::Result,
    hub::{self, not_a_name},
    view,
};
use pondera_store::Reference;
use serde_json::json;

/// Remove a model, one revision or one quant of it from the disk
#[derive(clap::Args)]
#[command(after_help = "Files that other revisions share stay. A name in the store goes, and what it stands for stays.\n\n\
    Examples:\n  pondera rm org/name\n  pondera rm org/name@main\n  pondera rm org/name:Q8_0")]
pub struct Args {
    /// org/name[@revision][:quant], or a name in the store
    #[arg(value_name = "REF")]
    reference: String,
}

/// Removes it.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let store = hub::store(&context.global)?;
    let Ok(reference) = args.reference.parse::<Reference>() else {
        if args.reference.contains('/') {
            return Err(not_a_name(&args.reference));
        }
        store.unname(&args.reference)?;
        if context.out.json() {
            return context.out.object(&json!({ "removed": args.reference, "files": 0, "bytes": 0 }));
        }
        context.out.note(&format!("{} is no longer a name; its files stay", args.reference));
        return Ok(());
    };
    let removed = store.remove(&reference)?;
    if context.out.json() {
        let object = json!({ "removed": reference.to_string(), "files": removed.files, "bytes": removed.bytes });
        return context.out.object(&object);
    }
    context.out.note(&format!("{reference}: {} freed", view::bytes(removed.bytes)));
    Ok(())
}
