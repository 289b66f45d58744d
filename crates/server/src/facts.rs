//! What a model is, as lists and its page say it.
use pondera_engine::Engine;
use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

/// Most bytes of a licence's name.
const LICENCE: usize = 100;

/// Most bytes of a model card that are read.
const CARD: u64 = 64 << 10;

/// What is known of a model once it is open.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its architecture.
    pub family: &'static str,
    /// `gguf`, `safetensors` or `torch`.
    pub kind: &'static str,
    /// Weights.
    pub parameters: u64,
    /// Weights that take part in one token.
    pub active: u64,
    /// Bytes of all weights.
    pub bytes: u64,
    /// The type of most of them.
    pub format: String,
    /// Bytes by type, most first.
    pub formats: Vec<(&'static str, u64)>,
    /// Layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Heads of queries, of keys and values, and their width, where all layers have the same.
    pub heads: Option<(usize, usize, usize)>,
    /// Experts of a layer, and those of them that a token takes.
    pub experts: Option<(usize, usize)>,
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Longest context that the configuration promises.
    pub trained: usize,
    /// Bytes of KV cache that a token takes, and their type.
    pub kv: (u64, &'static str),
    /// The licence that its files name.
    pub licence: Option<String>,
}

impl Facts {
    /// Of an open model.
    pub fn of(engine: &Engine) -> Facts {
        let d = engine.model().description();
        let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
        let tensors = engine.weights().map_or(&[][..], |w| w.tensors());
        for t in tensors {
            *bytes.entry(t.format.info().name).or_default() += t.range.len() as u64;
        }
        let mut formats: Vec<(&'static str, u64)> = bytes.into_iter().collect();
        formats.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        let kind = match engine.weights().map(|w| w.gguf().is_some()) {
            Some(true) => "gguf",
            Some(false) => "safetensors",
            None => "",
        };
        let (kv, _) = engine.kv();
        let plan = engine.plan();
        Facts {
            family: d.family,
            kind,
            parameters: d.parameters_total,
            active: d.parameters_active,
            bytes: d.weight_bytes,
            format: formats.first().map_or("", |(name, _)| name).to_string(),
            formats,
            layers: d.num_hidden_layers,
            hidden_size: d.hidden_size,
            heads: engine.config().heads().ok(),
            experts: d.experts,
            vocab_size: d.vocab_size,
            trained: d.max_position_embeddings,
            kv: (plan.kv_bytes / plan.kv_tokens.max(1) as u64, kv.name()),
            licence: licence(engine),
        }
    }
}

/// `general.license` of a GGUF file, or `license` in the head of the folder's model card.
fn licence(engine: &Engine) -> Option<String> {
    let weights = engine.weights()?;
    let found = match weights.gguf() {
        Some(gguf) => gguf.str("general.license").ok().flatten().map(str::to_string),
        None => {
            let card = head(&weights.folder().join("README.md"))?;
            stated(&card).map(str::to_string)
        }
    };
    // A name, not a text: some files hold the whole of it.
    found.filter(|name| !name.is_empty() && name.len() <= LICENCE && !name.contains('\n'))
}

/// The beginning of a text file.
fn head(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(CARD).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The licence in the head of a model card, which is YAML between two lines of dashes.
fn stated(card: &str) -> Option<&str> {
    let head = card.strip_prefix("---")?.split("\n---").next()?;
    let value = |key: &str| {
        let line = head.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))?;
        Some(line.trim().trim_matches(['"', '\'']))
    };
    // "other" has a name beside it.
    value("license").filter(|name| *name != "other").or_else(|| value("license_name")).or_else(|| value("license"))
}

#[cfg(test)]
mod tests {
    use super::stated;

    #[test]
    fn licences_stand_in_the_heads_of_cards() {
        assert_eq!(stated("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model"), Some("apache-2.0"));
        assert_eq!(stated("---\nlicense: other\nlicense_name: \"own\"\n---\n"), Some("own"));
        assert_eq!(stated("---\nlicense: other\n---\n"), Some("other"));
        assert_eq!(stated("# A model\nlicense: mit"), None);
        assert_eq!(stated("---\ntags: x\n---\nlicense: mit"), None);
    }
}
