//! `models`: which models run here. Does not own: the table of families (`pondera-arch`).
use crate::{
    Context,
    error::Result,
    view::{Side, Table},
};
use pondera_arch::{FAMILIES, Family};
use serde_json::json;

/// List the families of models that run
#[derive(clap::Args)]
#[command(after_help = "A family's mechanisms are those of its published default configuration; `pondera inspect MODEL` \
    tells them of one model.\n\nExamples:\n  pondera models --families\n  pondera models --families --json")]
pub struct Args {
    /// The families, with their mechanisms, formats and what they were verified with
    #[arg(long, required = true)]
    families: bool,
}

/// Writes the table.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    debug_assert!(args.families, "the only list there is");
    if context.out.json() {
        return context.out.object(&json!({ "families": FAMILIES.iter().map(row).collect::<Vec<_>>() }));
    }
    let left = |name| (name, Side::Left);
    let mut table = Table::new(&[left("model_type"), left("family"), left("GGUF"), left("verified"), left("mechanisms")]);
    for f in FAMILIES {
        table.row(vec![
            f.model_type.into(),
            f.title.into(),
            f.gguf.map_or("–", |g| g.0).into(),
            f.verified().join(", "),
            mechanisms(f).join(", "),
        ]);
    }
    context.out.page(&table.draw())
}

fn row(f: &'static Family) -> serde_json::Value {
    json!({
        "model_type": f.model_type,
        "title": f.title,
        "config_json": true,
        "gguf": f.gguf.map(|g| g.0),
        "verified": f.verified(),
        "mechanisms": mechanisms(f),
    })
}

/// Empty for a family without any whole configuration, which its tests rule out.
fn mechanisms(f: &'static Family) -> Vec<&'static str> {
    let found = f.example().and_then(|c| Family::mechanisms(&c)).unwrap_or_default();
    found.into_iter().map(|m| m.name()).collect()
}
