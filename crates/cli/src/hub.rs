//! The store as flags and environment set it up, and what its commands share: progress, and how models look as JSON.
use crate::{
    Context,
    args::Global,
    error::{Error, Result},
    interrupt::{self, Listening},
    model::{self, default_store},
    progress::Bar,
};
use pondera_store::{Config, Model, Progress, Reference, Revision, Store};
use serde_json::{Value, json};
use std::{env, ops::ControlFlow, path::Path, sync::Mutex};

/// In front of names of Ollama's models.
pub const OLLAMA: &str = "ollama:";

/// The store that the hub's variables, `--store` and `--offline` describe.
pub fn store(global: &Global) -> Result<Store> {
    let mut config = Config::read(&|name| env::var_os(name))?;
    config.named = global.store.clone().or_else(default_store);
    config.offline |= global.offline;
    Ok(Store::new(config))
}

/// `REF` as it stands on the command line: also a short name of the catalogue.
pub fn reference(text: &str) -> Result<Reference> {
    let known = model::alias(text).filter(|_| !Path::new(text).exists());
    Ok(known.as_deref().unwrap_or(text).parse::<Reference>()?)
}

/// A bar over bytes, and Ctrl-C, for calls into the store.
pub struct Watching<'a> {
    context: &'a Context,
    what: &'static str,
    listening: Listening,
    bar: Mutex<(Option<Bar>, bool)>,
}

impl<'a> Watching<'a> {
    /// Counts bytes as `what` says (`fetched`, `hashed`).
    pub fn new(context: &'a Context, what: &'static str) -> Watching<'a> {
        Watching { context, what, listening: interrupt::listen(), bar: Mutex::new((None, false)) }
    }

    /// What the store calls.
    pub fn see(&self, p: &Progress<'_>) -> ControlFlow<()> {
        if let Ok(mut state) = self.bar.lock() {
            if p.waiting && !std::mem::replace(&mut state.1, true) {
                self.context.out.note("another process fetches it; waiting");
            }
            if p.bytes > 0 {
                state.0.get_or_insert_with(|| Bar::bytes(self.context, self.what, p.bytes)).set(p.bytes_done);
            }
        }
        if self.listening.asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// A model as `list`, `show` and `du` give it.
pub fn model_json(model: &Model) -> Value {
    json!({
        "name": model.name,
        "path": model.path,
        "bytes": model.bytes,
        "unfinished_bytes": model.unfinished,
        "revisions": model.revisions.iter().map(revision_json).collect::<Vec<_>>(),
    })
}

fn revision_json(revision: &Revision) -> Value {
    let files = revision.files.iter().map(|f| {
        json!({
            "path": f.path,
            "size": f.size,
            "digest": f.digest.as_ref().map(ToString::to_string),
            "present": f.present,
        })
    });
    json!({
        "commit": revision.commit,
        "names": revision.names,
        "path": revision.path,
        "bytes": revision.bytes(),
        "files": files.collect::<Vec<_>>(),
    })
}

/// The first digits of a commit, as people name it.
pub fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

/// An error for a plain word where a repository was expected.
pub fn not_a_name(name: &str) -> Error {
    Error::usage(format!("{name}: neither a repository nor a name in the store"))
        .hint("as in org/name; `pondera list` shows what is there")
}
