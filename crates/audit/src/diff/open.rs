//! A side of a comparison: a model's weights under names that all formats share, its configuration and its words.
//!
//! Owns: what is read of a model, and what happens where no family knows it. Does not own: formats (`pondera-weights`,
//! `pondera-quant`), names (`pondera-arch`).
use super::Error;
use pondera_arch::{Config, Inventory, Source};
use pondera_quant::{Matrix, TensorView};
use pondera_text::{ChatTemplate, Tokenizer};
use pondera_weights::{Kind, Weights};
use serde::Serialize;
use serde_json::{Map, Value};
use std::{collections::HashMap, path::Path};

/// Longest configuration file that is read. Published ones stay below 100 KiB.
const CONFIG_BYTES_MAX: u64 = 16 << 20;

/// A model that is open for comparison.
pub struct Side {
    /// What the report calls it.
    pub name: String,
    pub(super) weights: Weights,
    pub(super) config: Option<Config>,
    /// `config.json` as it stands, where it is of no family that is known.
    pub(super) plain: Map<String, Value>,
    /// Why its names are taken as they stand in the files.
    pub(super) note: Option<String>,
    pub(super) entries: Vec<Entry>,
    /// Keys of modules without a weight of their own, and the entry that they share.
    pub(super) tied: Vec<(String, usize)>,
    pub(super) tokenizer: Option<Tokenizer>,
    pub(super) template: Option<ChatTemplate>,
}

/// A weight.
pub(super) struct Entry {
    /// The name that all formats share.
    pub key: String,
    /// The name in the files.
    pub name: String,
    /// The layer that it is of.
    pub layer: Option<usize>,
    /// The key with `*` for the layer; parts of one stored tensor are told apart by their number.
    pub slot: String,
    pub groups: Vec<Matrix>,
    pub out: usize,
    pub inp: usize,
}

/// What a report says of a side.
#[derive(Clone, Debug, Serialize)]
pub struct SideFacts {
    /// What it was called.
    pub name: String,
    /// `gguf`, `safetensors`, `pytorch`.
    pub kind: &'static str,
    /// The family, where it is known.
    pub family: Option<&'static str>,
    /// Weights.
    pub parameters: u64,
    /// Tensors as they are compared: parts that are stored as one count each.
    pub tensors: usize,
    /// Storage types by number of weights, most first.
    pub types: Vec<(&'static str, u64)>,
    /// Layers.
    pub layers: usize,
    /// Why its names are taken as they stand in the files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Side {
    /// A model whose files are open, with its vocabulary. The configuration and the template are looked for inside of
    /// the file or beside it.
    ///
    /// # Errors
    /// A configuration or template that is broken. One of no known family is none: the tensors are compared by the
    /// names that they have.
    pub fn new(name: String, weights: Weights, tokenizer: Option<Tokenizer>) -> Result<Side, Error> {
        let (config, plain, note) = configuration(&weights)?;
        let template = ChatTemplate::of(&weights)?;
        let (entries, tied) = (Vec::new(), Vec::new());
        let mut side = Side { name, weights, config, plain, note, entries, tied, tokenizer, template };
        side.take();
        Ok(side)
    }

    /// Reads the tensors as the family does, or as they stand.
    fn take(&mut self) {
        let found = self.config.as_ref().map(|c| Inventory::load(c, &Source::Files(&self.weights)));
        match found {
            Some(Ok(inventory)) => self.known(inventory),
            Some(Err(e)) => {
                self.note = Some(e.to_string());
                self.config = None;
                self.stored();
            }
            None => self.stored(),
        }
    }

    /// Whether the family said what its tensors are.
    pub(super) fn is_known(&self) -> bool {
        self.config.is_some()
    }

    /// Takes the names as they stand in the files, since the other side has no better ones.
    pub(super) fn forget_family(&mut self, why: &str) {
        if self.config.is_some() {
            self.note = Some(why.to_string());
            self.stored();
        }
    }

    /// Reads a bare tensor file by the configuration of the other side, where its names are of the same kind.
    pub(super) fn borrow(&mut self, other: &Side) {
        let Some(config) = other.config.as_ref().filter(|_| self.weights.gguf().is_none()) else { return };
        // What a GGUF file says, with a repository's names.
        let config = match config.is_gguf() {
            true => Config::from_keys(config.family(), config.keys().clone()),
            false => Ok(config.clone()),
        };
        let Ok(config) = config else { return };
        if let Ok(inventory) = Inventory::load(&config, &Source::Files(&self.weights)) {
            self.config = Some(config);
            self.note = Some(format!("read by the configuration of {}", other.name));
            self.known(inventory);
        }
    }

    fn known(&mut self, inventory: Inventory) {
        let names = inventory.weights.into_iter().map(|n| (n.key, n.name, n.weight.groups.clone()));
        let unused = inventory.unused.into_iter().filter_map(|name| {
            let view = self.weights.get(&name).ok()?;
            Some((name.clone(), name, vec![flat(&view)?]))
        });
        self.entries = entries(names.chain(unused));
        self.tied = inventory.tied.into_iter().map(|(key, i)| (format!("{key}.weight"), i)).collect();
    }

    fn stored(&mut self) {
        let all = self.weights.tensors().iter().filter_map(|t| {
            let view = self.weights.view(t).ok()?;
            Some((t.name.to_string(), t.name.to_string(), matrices(&view)?))
        });
        self.entries = entries(all);
        self.tied.clear();
    }

    /// The vocabulary's size, as far as it is known.
    pub(super) fn vocab_size(&self) -> Option<usize> {
        let stated = self.config.as_ref().and_then(|c| c.vocab_size().ok());
        stated.or_else(|| self.tokenizer.as_ref().map(Tokenizer::vocab_size))
    }

    /// Its configuration's keys, in the spelling of `config.json`.
    pub(super) fn keys(&self) -> &Map<String, Value> {
        self.config.as_ref().map_or(&self.plain, Config::keys)
    }

    pub(super) fn facts(&self) -> SideFacts {
        let mut types: HashMap<&'static str, u64> = HashMap::new();
        for e in &self.entries {
            *types.entry(e.format()).or_default() += e.elements();
        }
        let mut types: Vec<(&'static str, u64)> = types.into_iter().collect();
        types.sort_by_key(|t| (std::cmp::Reverse(t.1), t.0));
        SideFacts {
            name: self.name.clone(),
            kind: match self.weights.kind() {
                Kind::Gguf => "gguf",
                Kind::Torch => "pytorch",
                Kind::Safetensors | Kind::Memory => "safetensors",
            },
            family: self.config.as_ref().map(|c| c.family().model_type),
            parameters: self.entries.iter().map(Entry::elements).sum(),
            tensors: self.entries.len(),
            types,
            layers: self.layers(),
            note: self.note.clone(),
        }
    }

    pub(super) fn layers(&self) -> usize {
        self.entries.iter().filter_map(|e| e.layer).max().map_or(0, |n| n.saturating_add(1))
    }
}

impl Entry {
    pub fn elements(&self) -> u64 {
        (self.groups.len() as u64).saturating_mul(self.out as u64).saturating_mul(self.inp as u64)
    }

    pub fn format(&self) -> &'static str {
        self.groups.first().map_or("", Matrix::format_name)
    }

    /// Dimensions as people write them: without groups where there is one, without rows where there is one.
    pub fn shape(&self) -> Vec<usize> {
        match (self.groups.len(), self.out) {
            (1, 1) => vec![self.inp],
            (1, out) => vec![out, self.inp],
            (groups, out) => vec![groups, out, self.inp],
        }
    }

    /// One row: a norm, a bias.
    pub fn is_vector(&self) -> bool {
        self.groups.len() == 1 && (self.out == 1 || self.inp == 1)
    }

    /// What the layers call it: `self_attn.q_proj`.
    pub fn kind(&self) -> &str {
        let (_, tail) = self.slot.rsplit_once("*.").unwrap_or(("", &self.slot));
        tail.strip_suffix(".weight").unwrap_or(tail)
    }
}

fn entries(all: impl Iterator<Item = (String, String, Vec<Matrix>)>) -> Vec<Entry> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut found = Vec::new();
    for (key, name, groups) in all {
        let Some((out, inp)) = groups.first().map(|m| (m.out(), m.inp())) else { continue };
        let nth = seen.entry(key.clone()).or_default();
        *nth += 1;
        let key = if *nth > 1 { format!("{key} ({nth})") } else { key };
        let (layer, slot) = split(&key);
        found.push(Entry { key, name, layer, slot, groups, out, inp });
    }
    found
}

/// A key's layer, and the key without it: the first whole number between dots.
fn split(key: &str) -> (Option<usize>, String) {
    let parts: Vec<&str> = key.split('.').collect();
    let at = parts.iter().position(|p| !p.is_empty() && p.len() <= 5 && p.bytes().all(|b| b.is_ascii_digit()));
    let Some(at) = at.filter(|at| *at > 0) else { return (None, key.to_string()) };
    let mut slot = parts.clone();
    slot[at] = "*";
    (parts[at].parse().ok(), slot.join("."))
}

/// Any tensor as one matrix: all dimensions but the last are rows.
fn flat(view: &TensorView) -> Option<Matrix> {
    let (&inp, outer) = view.shape.split_last().unwrap_or((&1, &[]));
    let out = outer.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
    Matrix::new(&TensorView { format: view.format, shape: vec![out, inp], bytes: view.bytes.clone() })
}

/// A stack of matrices where there are three dimensions, otherwise one.
fn matrices(view: &TensorView) -> Option<Vec<Matrix>> {
    match view.shape[..] {
        [groups, _, _] if groups > 0 => (0..groups).map(|g| Matrix::new(&view.index(g)?)).collect(),
        _ => flat(view).map(|m| vec![m]),
    }
}

type Configuration = (Option<Config>, Map<String, Value>, Option<String>);

fn configuration(weights: &Weights) -> Result<Configuration, Error> {
    if let Some(gguf) = weights.gguf() {
        return Ok(match Config::from_gguf(gguf) {
            Ok(c) => (Some(c), Map::new(), None),
            Err(e) => (None, Map::new(), Some(e.to_string())),
        });
    }
    let folder = weights.folder();
    let Some(text) = read(&folder.join("config.json"))? else {
        return Ok((None, Map::new(), Some("there is no config.json beside the tensors".into())));
    };
    let file = folder.join("config.json");
    let value = Config::parse(&text).map_err(|e| Error::Broken(format!("{}: {e}", file.display())))?;
    let config = Config::from_value(&value);
    let config = match (config, read(&folder.join("hf_quant_config.json"))?) {
        (Ok(c), Some(text)) => c.with_quantization_file(&text),
        (found, _) => found,
    };
    let plain = value.as_object().cloned().unwrap_or_default();
    Ok(match config {
        Ok(c) => (Some(c), plain, None),
        Err(e) => (None, plain, Some(e.to_string())),
    })
}

/// A file's bytes; none where there is no such file.
pub(super) fn read(file: &Path) -> Result<Option<Vec<u8>>, Error> {
    match std::fs::metadata(file) {
        Err(_) => Ok(None),
        Ok(m) if m.len() > CONFIG_BYTES_MAX => Err(Error::Broken(format!(
            "{}: {} bytes, no configuration has more than {CONFIG_BYTES_MAX}",
            file.display(),
            m.len()
        ))),
        Ok(_) => std::fs::read(file).map(Some).map_err(|e| Error::Broken(format!("{}: {e}", file.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn layers_are_numbers_between_dots() {
        let cases = [
            ("model.layers.12.mlp.up_proj.weight", Some(12), "model.layers.*.mlp.up_proj.weight"),
            ("blk.0.attn_q.weight", Some(0), "blk.*.attn_q.weight"),
            ("model.layers.1.mlp.experts.3.w1.weight", Some(1), "model.layers.*.mlp.experts.3.w1.weight"),
            ("model.norm.weight", None, "model.norm.weight"),
            ("7", None, "7"),
            ("a.123456.b", None, "a.123456.b"),
        ];
        for (key, layer, slot) in cases {
            assert_eq!(split(key), (layer, slot.to_string()), "{key}");
        }
    }
}
