//! Sentence-Transformers folders: which modules make an embedding of a model's hidden states, and with which words before
//! the text. Does not own: the model (`pondera-engine`).
use crate::error::{Error, Result};
use pondera_engine::Pooling;
use pondera_ops::math;
use pondera_weights::Weights;
use serde_json::{Map, Value};
use std::{
    fs,
    path::{Component, Path, PathBuf},
};

/// What a folder says besides its model.
#[derive(Default)]
pub struct Recipe {
    /// Where the model is within the folder; none: in the folder itself.
    pub model: Option<PathBuf>,
    /// How rows become a vector; none where there is no such folder.
    pub pooling: Option<Pooling>,
    /// Linear layers after it.
    pub dense: Vec<Dense>,
    /// Whether the result has length 1; none where there is no such folder.
    pub normalize: Option<bool>,
    /// Most tokens of a text.
    pub max_tokens: Option<usize>,
    /// Text is made lower-case first.
    pub lower_case: bool,
    /// Words before a text, by name.
    pub prompts: Map<String, Value>,
    /// The name that counts where none is given.
    pub default_prompt: Option<String>,
}

/// `act(W x + b)`.
pub struct Dense {
    /// `[out, inp]`.
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    inp: usize,
    tanh: bool,
}

impl Dense {
    /// Its result for `x`.
    pub fn apply(&self, x: &[f32]) -> Result<Vec<f32>> {
        if x.len() != self.inp {
            return Err(Error::file(format!("a dense module takes {} values, got {}", self.inp, x.len())));
        }
        let row = |(i, w): (usize, &[f32])| {
            let y = math::chain(w, x) + self.bias.as_ref().map_or(0.0, |b| b[i]);
            if self.tanh { math::tanh(y) } else { y }
        };
        Ok(self.weight.chunks_exact(self.inp.max(1)).enumerate().map(row).collect())
    }

    fn load(folder: &Path) -> Result<Dense> {
        let config = object(&folder.join("config.json"))?;
        let size = |key: &str| {
            let n = config.get(key).and_then(Value::as_u64).filter(|n| (1..1 << 20).contains(n));
            n.map(|n| n as usize).ok_or_else(|| broken(folder, &format!("{key}: expected a size")))
        };
        let (inp, out) = (size("in_features")?, size("out_features")?);
        let act = config.get("activation_function").and_then(Value::as_str).unwrap_or("Tanh");
        let tanh = match act.rsplit('.').next() {
            Some("Tanh") => true,
            Some("Identity") => false,
            _ => {
                return Err(broken(folder, &format!("activation_function: {act} is not implemented (Tanh, Identity)")));
            }
        };
        let weights = Weights::open(folder)?;
        let read = |name: &str, shape: &[usize]| -> Result<Vec<f32>> {
            let view = weights.get(name)?;
            if view.shape != shape {
                return Err(broken(folder, &format!("{name}: expected {shape:?}, got {:?}", view.shape)));
            }
            let mut values = vec![0.0; shape.iter().product()];
            (view.format.info().decode)(view.bytes.as_slice(), &mut values);
            Ok(values)
        };
        let biased = config.get("bias").and_then(Value::as_bool).unwrap_or(true);
        let bias = biased.then(|| read("linear.bias", &[out])).transpose()?;
        Ok(Dense { weight: read("linear.weight", &[out, inp])?, bias, inp, tanh })
    }
}

impl Recipe {
    /// What the folder at `path` says; nothing where it is no such folder.
    pub fn read(path: &Path) -> Result<Recipe> {
        let file = path.join("modules.json");
        let Some(Value::Array(modules)) = optional(&file)? else { return Ok(Recipe::default()) };
        let mut recipe = Recipe { normalize: Some(false), ..Recipe::default() };
        for module in &modules {
            let text = |key: &str| module.get(key).and_then(Value::as_str).unwrap_or_default();
            let folder = inside(path, text("path")).ok_or_else(|| broken(&file, "a path leaves the folder"))?;
            match text("type").rsplit('.').next().unwrap_or_default() {
                "Transformer" => {
                    recipe.model = (folder != path).then(|| folder.clone());
                    recipe.transformer(&folder)?;
                }
                "Pooling" => recipe.pooling = Some(pooling(&folder.join("config.json"))?),
                "Dense" => recipe.dense.push(Dense::load(&folder)?),
                "Normalize" => recipe.normalize = Some(true),
                other => return Err(broken(&file, &format!("the module {other} is not implemented"))),
            }
        }
        if let Some(Value::Object(config)) = optional(&path.join("config_sentence_transformers.json"))? {
            recipe.prompts = config.get("prompts").and_then(Value::as_object).cloned().unwrap_or_default();
            recipe.default_prompt = config.get("default_prompt_name").and_then(Value::as_str).map(str::to_string);
        }
        Ok(recipe)
    }

    fn transformer(&mut self, folder: &Path) -> Result<()> {
        if let Some(Value::Object(config)) = optional(&folder.join("sentence_bert_config.json"))? {
            self.max_tokens = config.get("max_seq_length").and_then(Value::as_u64).map(|n| n as usize);
            self.lower_case = config.get("do_lower_case").and_then(Value::as_bool).unwrap_or(false);
        }
        Ok(())
    }

    /// The words before a text: those of `name`, or of the folder's own choice.
    pub fn prompt(&self, name: Option<&str>) -> Result<&str> {
        let Some(name) = name.or(self.default_prompt.as_deref()) else { return Ok("") };
        self.prompts.get(name).and_then(Value::as_str).ok_or_else(|| {
            let known: Vec<&str> = self.prompts.keys().map(String::as_str).collect();
            let hint =
                if known.is_empty() { "the model has none".into() } else { format!("one of {}", known.join(", ")) };
            Error::usage(format!("--prompt-name {name}: no such prompt")).hint(hint)
        })
    }
}

/// The one way of pooling that a configuration switches on.
fn pooling(file: &Path) -> Result<Pooling> {
    let config = object(file)?;
    const MODES: [(&str, &str, Pooling); 5] = [
        ("pooling_mode_cls_token", "cls", Pooling::Cls),
        ("pooling_mode_mean_tokens", "mean", Pooling::Mean),
        ("pooling_mode_max_tokens", "max", Pooling::Max),
        ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", Pooling::MeanSqrtLen),
        ("pooling_mode_lasttoken", "lasttoken", Pooling::Last),
    ];
    if let Some(mode) = config.get("pooling_mode").and_then(Value::as_str) {
        let found = MODES.iter().find(|m| m.1 == mode).map(|m| m.2);
        return found.ok_or_else(|| broken(file, &format!("pooling_mode: {mode} is not implemented")));
    }
    let on = |key: &str| config.get(key).and_then(Value::as_bool).unwrap_or(false);
    let unknown = config.keys().find(|k| k.starts_with("pooling_mode_") && on(k) && MODES.iter().all(|m| m.0 != **k));
    if let Some(key) = unknown {
        return Err(broken(file, &format!("{key} is not implemented")));
    }
    match MODES.iter().filter(|m| on(m.0)).collect::<Vec<_>>()[..] {
        [one] => Ok(one.2),
        [] => Ok(Pooling::Mean),
        _ => Err(broken(file, "several ways of pooling at once are not implemented")),
    }
}

/// `path` below `folder`, if it stays there.
fn inside(folder: &Path, path: &str) -> Option<PathBuf> {
    let plain = Path::new(path).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    plain.then(|| if path.is_empty() { folder.to_path_buf() } else { folder.join(path) })
}

fn broken(file: &Path, what: &str) -> Error {
    Error::file(format!("{}: {what}", file.display())).hint("--pooling and a model's own folder do without its modules")
}

fn object(file: &Path) -> Result<Map<String, Value>> {
    match optional(file)? {
        Some(Value::Object(o)) => Ok(o),
        _ => Err(broken(file, "expected a file with an object")),
    }
}

/// A small JSON file; none where there is none.
fn optional(file: &Path) -> Result<Option<Value>> {
    const BYTES_MAX: u64 = 1 << 20;
    match fs::metadata(file) {
        Err(_) => return Ok(None),
        Ok(m) if m.len() > BYTES_MAX => return Err(broken(file, "longer than a megabyte")),
        Ok(_) => {}
    }
    let text = fs::read(file).map_err(|e| Error::io(file.display(), &e))?;
    serde_json::from_slice(&text).map(Some).map_err(|e| broken(file, &format!("not valid JSON: {e}")))
}
