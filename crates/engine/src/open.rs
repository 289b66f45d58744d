//! From a source to a model: which files are read, in what order, and what is made of them.
use crate::{Error, ErrorKind, Progress, Result, Source};
use pondera_arch::{Config, Model, Shape, Source as Weighing};
use pondera_text::Tokenizer;
use pondera_weights::Weights;
use std::{fs, io::Read, path::Path, sync::Arc};

/// What was found.
pub(crate) struct Opened {
    pub config: Config,
    pub model: Model,
    pub weights: Option<Arc<Weights>>,
    /// The vocabulary, if there is one; or why it cannot be read.
    pub tokenizer: Result<Option<Arc<Tokenizer>>>,
}

/// Largest `config.json` that is read.
const CONFIG_BYTES_MAX: u64 = 16 << 20;

pub(crate) fn open(source: &Source<'_>, progress: &mut dyn FnMut(Progress)) -> Result<Opened> {
    let mut stage = |stage, done| progress(Progress { stage, done, total: 3 });
    stage("files", 0);
    let weights = match source {
        Source::Path(path) => Weights::open(path)?,
        Source::Gguf { name, bytes } => Weights::from_bytes(name, bytes.clone())?,
        Source::Shape { name, format, mix, layers, seed } => {
            stage("random weights", 1);
            let config = shape(name, *layers)?;
            let source = match *mix {
                Some(mix) => Weighing::Mixed { mix, seed: *seed },
                None => Weighing::Random { format: *format, seed: *seed },
            };
            let model = Model::load(&config, &source).map_err(|e| about(name, &e))?;
            stage("random weights", 3);
            return Ok(Opened { config, model, weights: None, tokenizer: Ok(None) });
        }
    };
    let place = place(source);
    stage("configuration", 1);
    let config = read_config(&weights)?;
    stage("weights", 2);
    let model = Model::load(&config, &Weighing::Files(&weights)).map_err(|e| about(&place, &e))?;
    for warning in model.warnings() {
        tracing::warn!("{place}: {warning}");
    }
    let tokenizer = vocabulary(&weights);
    stage("weights", 3);
    Ok(Opened { config, model, weights: Some(Arc::new(weights)), tokenizer })
}

fn place(source: &Source<'_>) -> String {
    match source {
        Source::Path(path) => path.display().to_string(),
        Source::Gguf { name, .. } | Source::Shape { name, .. } => name.to_string(),
    }
}

/// The vocabulary that lies in the file or beside it.
fn vocabulary(weights: &Weights) -> Result<Option<Arc<Tokenizer>>> {
    let read = match weights.gguf() {
        Some(gguf) => Tokenizer::from_gguf(gguf),
        None => Tokenizer::open(weights.folder()),
    };
    match read {
        Ok(t) => Ok(Some(Arc::new(t))),
        Err(e) if e.kind() == pondera_text::ErrorKind::Missing => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// An error of the model's configuration or tensors, with the place that they came from.
fn about(place: &str, e: &pondera_arch::Error) -> Error {
    let error = Error::new(ErrorKind::File, format!("{e} ({place})"));
    match e.hint_text() {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// The configuration that lies in the file or beside it.
pub fn read_config(weights: &Weights) -> Result<Config> {
    if let Some(gguf) = weights.gguf() {
        let file = weights.files().next().unwrap_or(weights.folder());
        return Config::from_gguf(gguf).map_err(|e| about(&file.display().to_string(), &e));
    }
    let path = weights.folder().join("config.json");
    let Some(text) = read_small(&path)? else {
        let what = format!(
            "{}: no config.json beside the tensors, so nothing says what model they make",
            weights.folder().display()
        );
        return Err(Error::new(ErrorKind::File, what).hint("name a model's folder or a GGUF file"));
    };
    let name = path.display().to_string();
    let config = Config::from_json(&text).map_err(|e| about(&name, &e))?;
    let quantization = weights.folder().join("hf_quant_config.json");
    match read_small(&quantization)? {
        Some(text) => config.with_quantization_file(&text).map_err(|e| about(&quantization.display().to_string(), &e)),
        None => Ok(config),
    }
}

/// A file's bytes; none if it is not there.
pub(crate) fn read_small(path: &Path) -> Result<Option<Vec<u8>>> {
    let failed = |e: &std::io::Error| Error::from(pondera_weights::Error::io(path, e));
    let file = match fs::File::open(path) {
        Ok(f) => f,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(&e)),
    };
    let mut text = Vec::new();
    file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut text).map_err(|e| failed(&e))?;
    if text.len() as u64 > CONFIG_BYTES_MAX {
        let what = format!("{}: longer than {CONFIG_BYTES_MAX} bytes", path.display());
        return Err(Error::new(ErrorKind::File, what));
    }
    Ok(Some(text))
}

/// The configuration of a published shape.
pub fn shape(name: &str, layers: Option<usize>) -> Result<Config> {
    let known = |e: pondera_arch::Error| {
        let error = Error::invalid(e.to_string());
        e.hint_text().map_or(error.clone(), |h| error.hint(h))
    };
    Shape::config_of(name, layers).map_err(known)
}
