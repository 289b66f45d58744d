//! `verify`: whether the bytes of a model on the disk are those that were published.
use crate::{
    Context,
    error::{Error, Result},
    hub::{self, Watching},
    view,
};
use serde_json::json;

/// Hash the files of a model again and name those that do not hold
#[derive(clap::Args)]
#[command(after_help = "Files are known by their digests: SHA-256 of large ones, git's blob id of the others. Exit 3 \
    where one does not hold; `pondera pull REF --recheck` fetches it again.\n\nExamples:\n  pondera verify org/name\n  \
    pondera verify org/name:Q4_K_M --json")]
pub struct Args {
    /// org/name[@revision][:quant]
    #[arg(value_name = "REF")]
    reference: String,
}

/// Hashes, and fails where something does not hold.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let reference = hub::reference(&args.reference)?;
    let watching = Watching::new(context, "hashed");
    let found = hub::store(&context.global)?.verify(&reference, &|p| watching.see(p))?;
    drop(watching);
    if context.out.json() {
        let bad = found.bad.iter().map(|b| json!({ "path": b.path, "commit": b.commit, "why": b.why }));
        context.out.object(&json!({
            "model": reference.to_string(),
            "holds": found.bad.is_empty(),
            "good": found.good,
            "bytes": found.bytes,
            "bad": bad.collect::<Vec<_>>(),
            "unknown": found.unknown,
        }))?;
    }
    for path in &found.unknown {
        context.out.note(&format!("{path}: has no digest to hold it to"));
    }
    match found.bad.as_slice() {
        [] => {
            if !context.out.json() {
                context.out.note(&format!("{} files hold, {}", found.good, view::bytes(found.bytes)));
            }
            Ok(())
        }
        [first, rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!(", and {} more files", rest.len()) };
            Err(Error::file(format!("{reference}: {}: {}{more}", first.path, first.why))
                .hint(format!("fetch it again: pondera pull {reference} --recheck")))
        }
    }
}
