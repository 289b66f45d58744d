//! What a model's files say of the model: family, size, context, storage types, configuration.
//!
//! Owns which facts a bill of materials has. Does not own: readers of files (`pondera-weights`) and what a configuration
//! means (`pondera-arch`). A model of an unknown family has fewer facts, and the reason.
use pondera_arch::{Config, Model, Source};
use pondera_weights::{Kind, Weights, gguf::Gguf};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

/// Longest configuration file that is read.
const CONFIG_MAX: u64 = 16 << 20;
/// Most values of a configuration that are kept, longest text of one, longest list.
const SETTINGS_MAX: usize = 500;
const TEXT_MAX: usize = 200;
const LIST_MAX: usize = 16;
/// Most entries of numbered metadata.
const NUMBERED_MAX: usize = 64;
/// Keys that say nothing about the model, or have a place of their own.
const LEFT_OUT: [&str; 4] = ["_name_or_path", "architectures", "auto_map", "model_type"];

/// What is known of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The family as `config.json` names it: `llama`.
    pub family: Option<String>,
    /// The class or the GGUF architecture: `LlamaForCausalLM`.
    pub architecture: Option<String>,
    /// Weights.
    pub parameters: Option<u64>,
    /// Of these, those that work on one token.
    pub parameters_active: Option<u64>,
    /// Longest context.
    pub context: Option<usize>,
    /// `gguf`, `safetensors`, `pytorch`.
    pub container: Option<&'static str>,
    /// Tensors.
    pub tensors: usize,
    /// Storage types with their bytes, most bytes first.
    pub types: Vec<(&'static str, u64)>,
    /// How a tool packed the weights: `gptq`.
    pub quantization: Option<String>,
    /// The configuration's short values.
    pub settings: BTreeMap<String, String>,
    /// The name that a GGUF file gives.
    pub name: Option<String>,
    /// Datasets that a GGUF file names, with their address.
    pub datasets: Vec<(String, Option<String>)>,
    /// Languages that a GGUF file names.
    pub languages: Vec<String>,
    /// Why there are no more facts.
    pub trouble: Option<String>,
    /// The files that hold the tensors.
    pub files: Vec<std::path::PathBuf>,
}

/// What the files at `path`, a model's folder or file, say.
pub fn read(path: &Path) -> Facts {
    let mut facts = Facts::default();
    let weights = Weights::open(path);
    let value = match &weights {
        Ok(w) if w.gguf().is_some() => None,
        Ok(w) => json(&w.folder().join("config.json")),
        Err(_) => json(&path.join("config.json")),
    };
    if let Some(value) = &value {
        facts.raw(value);
    }
    match &weights {
        Ok(w) => facts.weights(w, value.as_ref()),
        Err(e) => facts.trouble = Some(e.to_string()),
    }
    facts
}

/// A JSON file; none where there is none or it is broken, which an audit says.
fn json(path: &Path) -> Option<Value> {
    Config::parse(&bounded(path)?).ok()
}

/// The bytes of a configuration, as far as there are no more than any has.
fn bounded(path: &Path) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(CONFIG_MAX + 1).read_to_end(&mut text).ok()?;
    (text.len() as u64 <= CONFIG_MAX).then_some(text)
}

impl Facts {
    /// What stands in a `config.json`, whatever the family.
    fn raw(&mut self, value: &Value) {
        let text = |v: Option<&Value>| v.and_then(Value::as_str).map(str::to_string);
        self.family = text(value.get("model_type"));
        self.architecture = text(value.get("architectures").and_then(|a| a.get(0)));
        if let Some(map) = value.as_object() {
            self.settings(map);
        }
    }

    fn weights(&mut self, weights: &Weights, value: Option<&Value>) {
        self.container = Some(match weights.kind() {
            Kind::Gguf => "gguf",
            Kind::Torch => "pytorch",
            Kind::Safetensors | Kind::Memory => "safetensors",
        });
        self.files = weights.files().map(Path::to_path_buf).collect();
        self.tensors = weights.tensors().len();
        let mut types: BTreeMap<&'static str, u64> = BTreeMap::new();
        for t in weights.tensors() {
            *types.entry(t.format.info().name).or_default() += t.bytes() as u64;
        }
        self.types = types.into_iter().collect();
        self.types.sort_by_key(|t| (std::cmp::Reverse(t.1), t.0));
        let config = match (weights.gguf(), value) {
            (Some(gguf), _) => {
                self.gguf(gguf);
                Config::from_gguf(gguf)
            }
            (None, Some(value)) => {
                Config::from_value(value).and_then(|c| match bounded(&weights.folder().join("hf_quant_config.json")) {
                    Some(text) => c.with_quantization_file(&text),
                    None => Ok(c),
                })
            }
            (None, None) => {
                self.trouble = Some("there is no configuration beside the tensors".into());
                return;
            }
        };
        let model = config.and_then(|c| Ok((Model::load(&c, &Source::Files(weights))?, c)));
        match model {
            Ok((model, config)) => {
                let d = model.description();
                self.family = Some(d.family.into());
                self.parameters = Some(d.parameters_total);
                self.parameters_active = Some(d.parameters_active);
                self.context = Some(d.max_position_embeddings);
                self.quantization = config.quantization().map(|q| q.method.clone());
                self.settings(config.keys());
            }
            Err(e) => self.trouble = Some(e.to_string()),
        }
    }

    fn gguf(&mut self, gguf: &Gguf) {
        let text = |key: &str| gguf.str(key).ok().flatten().map(str::to_string);
        self.architecture = text("general.architecture");
        self.family = self.architecture.clone();
        self.name = text("general.name");
        let list = |key: &str| gguf.strings(key).ok().flatten().unwrap_or_default();
        self.languages = list("general.languages").into_iter().take(NUMBERED_MAX).map(str::to_string).collect();
        for i in 0..NUMBERED_MAX {
            let key = |what: &str| format!("general.dataset.{i}.{what}");
            let (name, url) = (text(&key("name")), text(&key("repo_url")));
            let Some(name) = name.or(url.clone()) else { break };
            let name = text(&key("organization")).map_or(name.clone(), |org| format!("{org}/{name}"));
            self.datasets.push((name, url));
        }
        let old = list("general.datasets").into_iter().take(NUMBERED_MAX);
        self.datasets.extend(old.map(|name| (name.to_string(), None)));
    }

    /// The short values of a configuration.
    fn settings(&mut self, map: &Map<String, Value>) {
        self.settings = map
            .iter()
            .filter(|(key, _)| !LEFT_OUT.contains(&&***key) && key.len() <= TEXT_MAX)
            .filter_map(|(key, value)| Some((key.clone(), short(value)?)))
            .take(SETTINGS_MAX)
            .collect();
    }
}

/// A value that is short enough to be a line.
fn short(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(s) => s.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(list) if list.len() <= LIST_MAX && !list.iter().any(|v| v.is_array() || v.is_object()) => {
            value.to_string()
        }
        _ => return None,
    };
    (text.len() <= TEXT_MAX).then_some(text)
}
