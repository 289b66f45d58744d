//! `du`: what models take on the disk.
use crate::{
    Context,
    error::Result,
    hub,
    view::{self, Side, Table},
};
use serde_json::json;

/// Show what models take on the disk
#[derive(clap::Args)]
#[command(after_help = "What revisions share counts once.\n\nExamples:\n  pondera du\n  pondera du --json")]
pub struct Args {}

/// Writes the sums, largest first.
pub fn run(_: &Args, context: &Context) -> Result<()> {
    let store = hub::store(&context.global)?;
    let mut models = store.list()?;
    models.sort_by_key(|m| std::cmp::Reverse(m.bytes.saturating_add(m.unfinished)));
    let total = models.iter().map(|m| m.bytes).fold(0, u64::saturating_add);
    let unfinished = models.iter().map(|m| m.unfinished).fold(0, u64::saturating_add);
    if context.out.json() {
        let rows = models.iter().map(|m| json!({ "name": m.name, "bytes": m.bytes, "unfinished_bytes": m.unfinished }));
        return context.out.object(&json!({
            "cache": store.config().cache,
            "bytes": total,
            "unfinished_bytes": unfinished,
            "models": rows.collect::<Vec<_>>(),
        }));
    }
    let mut table = Table::new(&[("model", Side::Left), ("size", Side::Right), ("unfinished", Side::Right)]);
    let size = |n: u64| if n == 0 { String::new() } else { view::bytes(n) };
    for m in &models {
        table.row(vec![m.name.clone(), view::bytes(m.bytes), size(m.unfinished)]);
    }
    table.row(vec!["all".into(), view::bytes(total), size(unfinished)]);
    context.out.page(&table.draw())
}
