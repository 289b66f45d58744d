//! A model's configuration: `config.json` of either style or GGUF metadata, as one set of checked keys.
//!
//! Owns: reading and bounding keys, and the words several families share (rope, layer types, activations).
//! Does not own: defaults of a family (its `defaults`), what a key means to a family (its `load`).
mod gguf;
mod json;
mod quantization;

pub use quantization::Quantization;

use crate::{Error, Family, Result, error::shortened, families};
use pondera_ops::{Activation, GroupScore};
use pondera_weights::Gguf;
use serde_json::{Map, Value};

/// No width, count or vocabulary of a model is larger; keeps products of two within 64 bits.
const SIZE_MAX: u64 = 1 << 28;
/// No model has more layers.
const LAYERS_MAX: usize = 4096;
/// No layer has more experts.
const EXPERTS_MAX: usize = 16384;

/// No model has more experts in all.
const EXPERTS_ALL_MAX: usize = 1 << 18;

/// How names and values are stored: by the conventions of the model hub's library or of GGUF converters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Convention {
    Hf,
    Gguf,
}

/// The configuration of a known family. Every key is checked where it is read, defaults are the family's.
#[derive(Clone, Debug)]
pub struct Config {
    family: &'static Family,
    keys: Map<String, Value>,
    convention: Convention,
    quantization: Option<Quantization>,
}

impl Config {
    /// Reads the text of a `config.json`, in the style of transformers 4 or 5.
    pub fn from_json(text: &[u8]) -> Result<Config> {
        let value = Config::parse(text);
        Config::from_value(&value.map_err(|e| Error::config("config.json", format!("not valid JSON: {e}")))?)
    }

    /// JSON as model repositories have it: with Python's `Infinity` where JSON has no such number, which becomes
    /// `{"__float__": "Infinity"}`.
    pub fn parse(text: &[u8]) -> serde_json::Result<Value> {
        json::parse(text)
    }

    /// As [`Config::from_json`], from parsed JSON.
    pub fn from_value(value: &Value) -> Result<Config> {
        let (family, keys) = json::normalize(value)?;
        let quantization = Quantization::read(value, None)?;
        Config { family, keys, convention: Convention::Hf, quantization }.checked()
    }

    /// Reads the metadata of a GGUF file.
    pub fn from_gguf(metadata: &Gguf) -> Result<Config> {
        let (family, keys) = gguf::translate(metadata)?;
        Config { family, keys, convention: Convention::Gguf, quantization: None }.checked()
    }

    /// A configuration of `family` from keys in transformers style; those absent take the family's defaults.
    pub fn from_keys(family: &'static Family, mut keys: Map<String, Value>) -> Result<Config> {
        keys.insert("model_type".into(), family.model_type.into());
        Config::from_value(&Value::Object(keys))
    }

    /// The same with another number of layers (a cut model for benches).
    pub fn with_layers(mut self, layers: usize) -> Result<Config> {
        self.keys.insert("num_hidden_layers".into(), layers.into());
        for key in ["layer_types", "mlp_layer_types", "no_rope_layers", "layer_rope_theta"] {
            if let Some(Value::Array(list)) = self.keys.get_mut(key) {
                list.truncate(layers);
            }
        }
        self.checked()
    }

    /// The same with what a `hf_quant_config.json` beside it says (ModelOpt); does nothing where the configuration
    /// itself names a quantization.
    pub fn with_quantization_file(mut self, text: &[u8]) -> Result<Config> {
        let value: Value = serde_json::from_slice(text)
            .map_err(|e| Error::config("hf_quant_config.json", format!("not valid JSON: {e}")))?;
        if self.quantization.is_none() {
            self.quantization = Quantization::read(&Value::Null, Some(&value))?;
        }
        Ok(self)
    }

    /// The family it names.
    pub fn family(&self) -> &'static Family {
        self.family
    }

    /// How the weights are packed, where a quantization tool packed them.
    pub fn quantization(&self) -> Option<&Quantization> {
        self.quantization.as_ref()
    }

    /// The keys in transformers style, for display.
    pub fn keys(&self) -> &Map<String, Value> {
        &self.keys
    }

    pub(crate) fn convention(&self) -> Convention {
        self.convention
    }

    /// Whether names and values follow GGUF converters.
    pub fn is_gguf(&self) -> bool {
        self.convention == Convention::Gguf
    }

    /// What every family needs, checked before a tensor is looked at.
    fn checked(self) -> Result<Config> {
        self.hidden_size()?;
        self.vocab_size()?;
        self.max_positions()?;
        let layers = self.num_hidden_layers()?;
        if let Some((experts, _)) = self.experts()?
            && experts * layers > EXPERTS_ALL_MAX
        {
            return Err(
                self.bad("num_experts", format!("{experts} in each of {layers} layers are more than any model has"))
            );
        }
        Ok(self)
    }

    /// `hidden_size`.
    pub fn hidden_size(&self) -> Result<usize> {
        self.size("hidden_size")
    }

    /// `vocab_size`.
    pub fn vocab_size(&self) -> Result<usize> {
        self.size("vocab_size")
    }

    /// `max_position_embeddings`.
    pub fn max_positions(&self) -> Result<usize> {
        self.size("max_position_embeddings")
    }

    /// `num_hidden_layers`.
    pub fn num_hidden_layers(&self) -> Result<usize> {
        self.size_max("num_hidden_layers", LAYERS_MAX)
    }

    /// Experts per layer and per token, where the family has experts.
    pub fn experts(&self) -> Result<Option<(usize, usize)>> {
        if self.count("num_experts")? == 0 {
            return Ok(None);
        }
        let experts = self.size_max("num_experts", EXPERTS_MAX)?;
        let top_k = match self.get("num_experts_per_tok") {
            Some(Value::Array(_)) => self.sizes("num_experts_per_tok")?.into_iter().max().unwrap_or(0),
            _ => self.size("num_experts_per_tok")?,
        };
        if top_k > experts {
            return Err(
                self.bad("num_experts_per_tok", format!("expected at most num_experts = {experts}, got {top_k}"))
            );
        }
        Ok(Some((experts, top_k)))
    }

    /// As [`Config::experts`], for a family that cannot be without.
    pub fn experts_needed(&self) -> Result<(usize, usize)> {
        self.experts()?.ok_or_else(|| self.bad("num_experts", "expected at least 1, got 0"))
    }

    /// Checks a choice among groups of `experts`: (groups, groups kept, how a group is scored).
    pub fn check_groups(&self, experts: usize, top_k: usize, groups: Option<(usize, usize, GroupScore)>) -> Result<()> {
        let Some((n, kept, score)) = groups else { return Ok(()) };
        if !experts.is_multiple_of(n) {
            return Err(self.bad("n_group", format!("expected a divisor of num_experts = {experts}, got {n}")));
        }
        let size = experts / n;
        if kept > n || kept * size < top_k {
            return Err(self.bad("topk_group", format!("{kept} of {n} groups of {size} cannot give {top_k} experts")));
        }
        if score == GroupScore::TopTwo && size < 2 {
            return Err(self.bad("n_group", format!("expected at least 2 experts in a group, got {size}")));
        }
        Ok(())
    }

    /// Query heads, key/value heads and their width: `hidden_size / heads` where the configuration names none.
    pub fn heads(&self) -> Result<(usize, usize, usize)> {
        let heads = self.size("num_attention_heads")?;
        let kv_heads = self.size_opt("num_key_value_heads")?.unwrap_or(heads);
        if heads % kv_heads != 0 {
            return Err(self.bad(
                "num_key_value_heads",
                format!("expected a divisor of num_attention_heads = {heads}, got {kv_heads}"),
            ));
        }
        let hidden = self.hidden_size()?;
        let head_dim = match self.size_opt("head_dim")? {
            Some(d) => d,
            None if hidden % heads == 0 => hidden / heads,
            None => {
                return Err(self
                    .bad("num_attention_heads", format!("expected a divisor of hidden_size = {hidden}, got {heads}")));
            }
        };
        Ok((heads, kv_heads, head_dim))
    }

    /// A size of at least 1.
    pub fn size(&self, key: &str) -> Result<usize> {
        self.size_max(key, SIZE_MAX as usize)
    }

    /// A size of at least 1: one for all layers, or a list with each layer's.
    pub fn size_of_layer(&self, key: &str, layer: usize) -> Result<usize> {
        if !self.get(key).is_some_and(Value::is_array) {
            return self.size(key);
        }
        let n = self.sizes(key)?.get(layer).copied().filter(|n| *n > 0);
        n.ok_or_else(|| self.bad(key, format!("its list has no size for layer {layer}")))
    }

    /// A size from 1 to `max`.
    pub fn size_max(&self, key: &str, max: usize) -> Result<usize> {
        match self.size_opt(key)? {
            Some(n) if n <= max => Ok(n),
            Some(n) => Err(self.bad(key, format!("expected 1 to {max}, got {n}"))),
            None => Err(self.absent(key)),
        }
    }

    /// A size of at least 1, or none where the key is absent or null.
    pub fn size_opt(&self, key: &str) -> Result<Option<usize>> {
        match self.count_opt(key)? {
            Some(0) => Err(self.bad(key, format!("expected 1 to {SIZE_MAX}, got 0"))),
            n => Ok(n),
        }
    }

    /// A number that may be 0; absent and null are 0.
    pub fn count(&self, key: &str) -> Result<usize> {
        Ok(self.count_opt(key)?.unwrap_or(0))
    }

    fn count_opt(&self, key: &str) -> Result<Option<usize>> {
        let Some(v) = self.get(key) else { return Ok(None) };
        let whole = v.as_u64().or_else(|| {
            v.as_f64().filter(|f| f.fract() == 0.0 && (0.0..=SIZE_MAX as f64).contains(f)).map(|f| f as u64)
        });
        match whole {
            Some(n) if n <= SIZE_MAX => Ok(usize::try_from(n).ok()),
            _ => Err(self.bad(key, format!("expected a whole number up to {SIZE_MAX}, got {}", shown(v)))),
        }
    }

    /// A finite number.
    pub fn number(&self, key: &str) -> Result<f64> {
        self.number_opt(key)?.ok_or_else(|| self.absent(key))
    }

    /// A finite number, or none where the key is absent or null.
    pub fn number_opt(&self, key: &str) -> Result<Option<f64>> {
        let Some(v) = self.get(key) else { return Ok(None) };
        match v.as_f64() {
            Some(f) if f.is_finite() => Ok(Some(f)),
            _ => Err(self.bad(key, format!("expected a number, got {}", shown(v)))),
        }
    }

    /// The epsilon of a norm.
    pub fn eps(&self, key: &str) -> Result<f32> {
        let e = self.number(key)?;
        if (0.0..1.0).contains(&e) { Ok(e as f32) } else { Err(self.bad(key, format!("expected 0 to 1, got {e}"))) }
    }

    /// The epsilon of a norm, or `otherwise` where the family's configuration has none of this name.
    pub fn eps_or(&self, key: &str, otherwise: f32) -> Result<f32> {
        if self.get(key).is_some() { self.eps(key) } else { Ok(otherwise) }
    }

    /// A positive number, as f32.
    pub fn positive(&self, key: &str) -> Result<f32> {
        let n = self.number(key)?;
        let n32 = n as f32;
        if n32 > 0.0 && n32.is_finite() {
            Ok(n32)
        } else {
            Err(self.bad(key, format!("expected a positive number, got {n}")))
        }
    }

    /// A positive number, or none where the key is absent or null.
    pub fn positive_opt(&self, key: &str) -> Result<Option<f32>> {
        self.get(key).map(|_| self.positive(key)).transpose()
    }

    /// A truth value; absent and null are false.
    pub fn flag(&self, key: &str) -> Result<bool> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Bool(b)) => Ok(*b),
            Some(v) => Err(self.bad(key, format!("expected true or false, got {}", shown(v)))),
        }
    }

    /// A string, or none where the key is absent or null.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(s)) => Ok(Some(s)),
            Some(v) => Err(self.bad(key, format!("expected a string, got {}", shown(v)))),
        }
    }

    /// A list of sizes; absent and null are empty.
    pub fn sizes(&self, key: &str) -> Result<Vec<usize>> {
        let Some(v) = self.get(key) else { return Ok(Vec::new()) };
        let list = v
            .as_array()
            .and_then(|a| a.iter().map(|v| v.as_u64().filter(|n| *n <= SIZE_MAX)).collect::<Option<Vec<_>>>());
        list.map(|l| l.into_iter().map(|n| n as usize).collect())
            .ok_or_else(|| self.bad(key, format!("expected a list of whole numbers, got {}", shown(v))))
    }

    /// One number a layer, none of them negative; none where the key is absent or null.
    pub fn numbers_of_layers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let Some(v) = self.get(key) else { return Ok(None) };
        let layers = self.num_hidden_layers()?;
        let list = v.as_array().filter(|list| list.len() == layers);
        let number = |v: &Value| v.as_f64().filter(|n| n.is_finite() && *n >= 0.0);
        let list = list.and_then(|list| list.iter().map(number).collect::<Option<Vec<_>>>());
        list.map(Some).ok_or_else(|| self.bad(key, format!("expected {layers} numbers, got {}", shown(v))))
    }

    /// One word a layer, each of them implemented by this family; none where the key is absent or null.
    pub fn words_of_layers(
        &self,
        key: &str,
        implemented: &'static [&'static str],
    ) -> Result<Option<Vec<&'static str>>> {
        let Some(v) = self.get(key) else { return Ok(None) };
        let list = v.as_array().ok_or_else(|| self.bad(key, format!("expected a list, got {}", shown(v))))?;
        let layers = self.num_hidden_layers()?;
        if list.len() != layers {
            return Err(self.bad(key, format!("expected {layers} entries (num_hidden_layers), got {}", list.len())));
        }
        let word = |v: &Value| {
            let found = implemented.iter().find(|w| v.as_str() == Some(**w));
            found.copied().ok_or_else(|| self.unknown(key, &shown(v), implemented))
        };
        list.iter().map(word).collect::<Result<_>>().map(Some)
    }

    /// `N` finite numbers; absent and null are none. Infinity may be spelled as [`json::parse`] leaves it.
    pub fn numbers<const N: usize>(&self, key: &str) -> Result<Option<[f64; N]>> {
        let Some(v) = self.get(key) else { return Ok(None) };
        let number = |v: &Value| match v.get(json::SPECIAL).and_then(Value::as_str) {
            Some("Infinity") => Some(f64::INFINITY),
            _ => v.as_f64(),
        };
        let list = v.as_array().and_then(|a| a.iter().map(number).collect::<Option<Vec<f64>>>());
        let list = list.and_then(|l| <[f64; N]>::try_from(l).ok());
        list.map(Some).ok_or_else(|| self.bad(key, format!("expected a list of {N} numbers, got {}", shown(v))))
    }

    /// The one string this family implements for `key`; absent and null mean it.
    pub fn only(&self, key: &str, implemented: &[&str]) -> Result<()> {
        match self.text(key)? {
            Some(s) if !implemented.contains(&s) => Err(self.unknown(key, s, implemented)),
            _ => Ok(()),
        }
    }

    /// Refuses a flag whose equation this family does not implement.
    pub fn never(&self, key: &str) -> Result<()> {
        if self.flag(key)? {
            Err(Error::unsupported(key, format!("true is not implemented for {}", self.family.model_type)))
        } else {
            Ok(())
        }
    }

    /// The activation that `key` names.
    pub fn activation(&self, key: &str) -> Result<Activation> {
        const NAMES: &[(&str, Activation)] = &[
            ("silu", Activation::Silu),
            ("swish", Activation::Silu),
            ("gelu", Activation::GeluErf),
            ("gelu_new", Activation::GeluTanh),
            ("gelu_fast", Activation::GeluTanh),
            ("gelu_pytorch_tanh", Activation::GeluTanh),
            ("relu", Activation::Relu),
            ("relu2", Activation::Relu2),
        ];
        let name = self.text(key)?.ok_or_else(|| self.absent(key))?;
        let found = NAMES.iter().find(|(n, _)| *n == name).map(|(_, a)| *a);
        found.ok_or_else(|| self.unknown(key, name, &NAMES.iter().map(|(n, _)| *n).collect::<Vec<_>>()))
    }

    /// Which layers have rotary positions: `no_rope_layers` has 1 for those, or every `no_rope_layer_interval`-th has
    /// none.
    pub fn rotated_layers(&self) -> Result<Vec<bool>> {
        let (layers, listed) = (self.num_hidden_layers()?, self.sizes("no_rope_layers")?);
        if listed.is_empty() {
            let every = self.count("no_rope_layer_interval")?;
            return Ok((0..layers).map(|i| every == 0 || (i + 1) % every != 0).collect());
        }
        if listed.len() != layers {
            return Err(self.bad("no_rope_layers", format!("expected {layers} entries, got {}", listed.len())));
        }
        Ok(listed.into_iter().map(|n| n != 0).collect())
    }

    /// The attention window of each layer: `layer_types` where the configuration has it, `otherwise(layer)` where not.
    ///
    /// `window` is what a layer of type `sliding_attention` sees.
    pub fn windows(&self, window: Option<usize>, otherwise: impl Fn(usize) -> bool) -> Result<Vec<Option<usize>>> {
        let layers = self.num_hidden_layers()?;
        let sliding = match self.get("layer_types") {
            None => (0..layers).map(otherwise).collect(),
            Some(Value::Array(types)) => self.layer_types(types, layers)?,
            Some(v) => return Err(self.bad("layer_types", format!("expected a list, got {}", shown(v)))),
        };
        if window.is_none() && sliding.contains(&true) {
            return Err(self.bad("layer_types", "sliding_attention without a sliding_window"));
        }
        Ok(sliding.into_iter().map(|s| if s { window } else { None }).collect())
    }

    /// What each layer is: the words of `key` by this table where the configuration has it, `otherwise(layer)` where not.
    pub fn layer_kinds<T: Copy>(
        &self,
        key: &str,
        words: &[(&str, T)],
        otherwise: impl Fn(usize) -> T,
    ) -> Result<Vec<T>> {
        let layers = self.num_hidden_layers()?;
        let listed = match self.get(key) {
            None => return Ok((0..layers).map(otherwise).collect()),
            Some(Value::Array(listed)) => listed,
            Some(v) => return Err(self.bad(key, format!("expected a list, got {}", shown(v)))),
        };
        if listed.len() != layers {
            let what = format!("expected {layers} entries (num_hidden_layers), got {}", listed.len());
            return Err(self.bad(key, what));
        }
        let known = |v: &Value| words.iter().find(|(w, _)| v.as_str() == Some(w)).map(|(_, kind)| *kind);
        let unknown = |v: &Value| self.unknown(key, &shown(v), &words.iter().map(|(w, _)| *w).collect::<Vec<_>>());
        listed.iter().map(|v| known(v).ok_or_else(|| unknown(v))).collect()
    }

    fn layer_types(&self, types: &[Value], layers: usize) -> Result<Vec<bool>> {
        if types.len() != layers {
            return Err(
                self.bad("layer_types", format!("expected {layers} entries (num_hidden_layers), got {}", types.len()))
            );
        }
        let kind = |t: &Value| match t.as_str() {
            Some("full_attention") => Ok(false),
            Some("sliding_attention") => Ok(true),
            _ => Err(self.unknown("layer_types", &shown(t), &["full_attention", "sliding_attention"])),
        };
        types.iter().map(kind).collect()
    }

    /// A key's value; null counts as absent.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).filter(|v| !v.is_null())
    }

    pub(crate) fn bad(&self, key: &str, what: impl Into<String>) -> Error {
        Error::config(key, what)
    }

    fn absent(&self, key: &str) -> Error {
        Error::config(key, format!("absent, and {} has no default for it", self.family.model_type))
    }

    pub(crate) fn unknown(&self, key: &str, got: &str, implemented: &[&str]) -> Error {
        Error::unsupported(key, format!("{} is not implemented for {}", shortened(got), self.family.model_type))
            .hint(format!("implemented: {}", implemented.join(", ")))
    }
}

/// A value as messages show it, cut where it is long.
pub(crate) fn shown(v: &Value) -> String {
    match v {
        Value::Array(a) => format!("a list of {}", a.len()),
        Value::Object(_) => "an object".into(),
        v => shortened(&v.to_string()),
    }
}

/// The family of this model type, or an error that names the nearest one.
pub(crate) fn family_of(model_type: &str) -> Result<&'static Family> {
    families::find(model_type).ok_or_else(|| {
        let near = families::nearest(model_type).unwrap_or_default();
        Error::unsupported("model_type", format!("{} is not a known model type", shortened(model_type)))
            .hint(format!("the nearest known one is {near}; `pondera models --families` lists all"))
    })
}
