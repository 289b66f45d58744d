//! `list`: what is on this machine, by whomever it was fetched.
use crate::{
    Context,
    error::Result,
    hub::{self, OLLAMA, model_json, short},
    view::{self, Side, Table},
};
use serde_json::json;

/// List the models on this machine
#[derive(clap::Args)]
#[command(after_help = "The hub's cache, names in the store, and what Ollama has; each can be used as MODEL.\n\n\
    Examples:\n  pondera list\n  pondera list --json")]
pub struct Args {}

/// Writes the table.
pub fn run(_: &Args, context: &Context) -> Result<()> {
    let store = hub::store(&context.global)?;
    let (models, mut named, ollama) = (store.list()?, store.named()?, store.ollama_models()?);
    for (_, path) in &mut named {
        *path = std::fs::canonicalize(&*path).unwrap_or_else(|_| path.clone());
    }
    if context.out.json() {
        return context.out.object(&json!({
            "cache": store.config().cache,
            "models": models.iter().map(model_json).collect::<Vec<_>>(),
            "named": named.iter().map(|(name, path)| json!({ "name": name, "path": path })).collect::<Vec<_>>(),
            "ollama": ollama.iter().map(|m| json!({
                "name": format!("{OLLAMA}{}", m.name), "path": m.path, "bytes": m.size, "digest": m.digest.to_string(),
            })).collect::<Vec<_>>(),
        }));
    }
    let left = |name| (name, Side::Left);
    let mut table = Table::new(&[left("model"), left("revision"), left("commit"), ("size", Side::Right), ("files", Side::Right)]);
    let mut empty = true;
    for model in &models {
        for r in &model.revisions {
            let cells = [model.name.clone(), r.names.join(", "), short(&r.commit).into(), view::bytes(r.bytes())];
            table.row(cells.into_iter().chain([r.files.len().to_string()]).collect());
            empty = false;
        }
        if model.revisions.is_empty() {
            let cells = [model.name.clone(), "(unfinished)".into(), String::new(), view::bytes(model.unfinished)];
            table.row(cells.into_iter().chain([String::new()]).collect());
            empty = false;
        }
    }
    for (name, path) in named {
        table.row(vec![name, "(named)".into(), String::new(), String::new(), path.display().to_string()]);
        empty = false;
    }
    for m in ollama {
        let cells = [format!("{OLLAMA}{}", m.name), String::new(), String::new(), view::bytes(m.size), "1".into()];
        table.row(cells.into_iter().collect());
        empty = false;
    }
    if empty {
        context.out.note(&format!("nothing in {}; fetch a model with `pondera pull org/name`", store.config().cache.display()));
        return Ok(());
    }
    context.out.page(&table.draw())
}
