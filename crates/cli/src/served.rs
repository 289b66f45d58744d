//! How a model is served: what clients get where they say nothing, and how it is opened.
use crate::{
    error::Result,
    flags::{Choice, Recommended},
    load::from,
    model::Source,
    sentence::Recipe,
};
use pondera_engine::{Engine, EngineOptions, ErrorKind, normalize};
use pondera_server::{Embedding, ModelSpec, Room};
use pondera_weights::Weights;
use std::{fs, sync::Arc};

/// Temperature, `top_k`, `top_p` and `min_p` where neither the request nor the publisher says anything: as the APIs document.
const DOCUMENTED: (f32, u32, f32, f32) = (1.0, 0, 1.0, 0.0);

/// How a model is served that nothing more is said of.
///
/// # Errors
/// What cannot be read of what lies beside its weights; these are read when it is opened.
pub fn spec(name: String, mut source: Source, options: &EngineOptions) -> Result<ModelSpec> {
    let recipe = match &source {
        Source::Path(path) => Recipe::read(path)?,
        Source::Embedded(_) => Recipe::default(),
    };
    if let Some(inner) = &recipe.model {
        source = Source::Path(inner.clone());
    }
    let recommended = source.folder().map(Recommended::of).transpose()?.unwrap_or_default();
    let sampling = Choice::default().over(&recommended, DOCUMENTED);
    let (bytes, options) = (size(&source), options.clone());
    let file = match &source {
        Source::Path(path) => fs::canonicalize(path).ok(),
        Source::Embedded(_) => None,
    };
    let open = move |room: &Room| {
        let mut options = options.clone();
        options.memory = room.memory;
        options.ctx = room.ctx.or(options.ctx);
        options.kv_tokens = room.kv_tokens.or(options.kv_tokens);
        Engine::open(&from(&source), &options, &mut |_| {})
    };
    let (embedding, open) = (Arc::new(embedding(recipe)?), Box::new(open));
    Ok(ModelSpec {
        name,
        aliases: Vec::new(),
        sampling,
        template: None,
        embedding,
        adapters: Vec::new(),
        bytes,
        file,
        open,
    })
}

/// Bytes of a model's tensors; 0 where they cannot be read, which opening it says better.
fn size(source: &Source) -> u64 {
    let weights = match source {
        Source::Path(path) => Weights::open(path).ok(),
        Source::Embedded(bytes) => return bytes.len() as u64,
    };
    weights.map_or(0, |w| w.tensors().iter().map(|t| t.range.len() as u64).sum())
}

/// As the model's folder says.
fn embedding(recipe: Recipe) -> Result<Embedding> {
    let (prompt, lower) = (recipe.prompt(None)?.to_string(), recipe.lower_case);
    let (pooling, max_tokens) = (recipe.pooling, recipe.max_tokens);
    let prepare = move |text: &str| {
        let text = format!("{prompt}{text}");
        if lower { text.to_lowercase() } else { text }
    };
    let finish = move |mut x: Vec<f32>| {
        for dense in &recipe.dense {
            x = dense.apply(&x).map_err(|e| pondera_engine::Error::new(ErrorKind::File, e.to_string()))?;
        }
        if recipe.normalize.unwrap_or(true) {
            normalize(&mut x);
        }
        Ok(x)
    };
    Ok(Embedding { pooling, max_tokens, prepare: Box::new(prepare), finish: Box::new(finish) })
}
