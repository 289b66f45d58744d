//! The catalogue: models that people ask for, with families, makers, countries, licences, sizes, mechanisms and
//! recommended quantizations as data (`catalogue.toml`), each fact with the source that was read for it.
//!
//! Owns the table, its types and the short names. Does not own: what licences say (`license::terms`), which families
//! run (`pondera-arch`). What no read source says is absent, and unknown to whoever asks.
use crate::license::terms;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, sync::OnceLock};

#[cfg(test)]
mod tests;

static TABLE: &str = include_str!("catalogue.toml");

/// A fact and what was read for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fact<T> {
    /// The fact.
    pub value: T,
    /// What was read.
    pub source: &'static str,
}

/// Layers of a cache that are alike: how many, values per position and layer, and positions that a window keeps (0: all).
pub type KvLayers = [u64; 3];

/// A model with weights of its own.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Model {
    /// `org/name` on the hub.
    pub name: String,
    /// Short names that stand for it.
    pub aliases: Vec<String>,
    /// All its parameters.
    pub parameters: Option<Fact<u64>>,
    /// Those that a token uses, of a mixture of experts.
    pub active: Option<Fact<u64>>,
    /// Its licence, where that is not its family's.
    pub license: Option<Fact<String>>,
    /// Positions that it was made for, where that is not its family's.
    pub context: Option<Fact<String>>,
    /// What its cache holds.
    pub kv: Option<Fact<Vec<KvLayers>>>,
}

/// Models of one architecture and maker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Family {
    /// What people call it.
    pub name: String,
    /// Who made it.
    pub maker: Option<Fact<String>>,
    /// Where its maker is at home: ISO 3166.
    pub country: Option<Fact<Vec<String>>>,
    /// The licence of its models, as `license::terms` calls it; `other: NAME` where its terms are not known.
    pub license: Option<Fact<String>>,
    /// `model_type` in `config.json`.
    pub model_type: Option<Fact<String>>,
    /// Architecture in GGUF files.
    pub gguf: Option<Fact<String>>,
    /// Whether its layers are mixtures of experts.
    pub moe: Option<Fact<bool>>,
    /// Positions that it was made for.
    pub context: Option<Fact<String>>,
    /// When it was published.
    pub released: Option<Fact<String>>,
    /// What an engine needs for it.
    pub mechanisms: Option<Fact<Vec<String>>>,
    /// Formats in which its maker publishes the weights.
    pub formats: Option<Fact<Vec<String>>>,
    /// The quantization that is recommended.
    pub quant: Option<Fact<String>>,
    /// Its models, small ones first.
    pub models: Vec<Model>,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Catalogue {
    /// The families.
    pub families: Vec<Family>,
    /// Bits that a parameter takes in each quantization.
    pub bits: BTreeMap<String, Fact<f64>>,
}

/// The catalogue.
pub fn catalogue() -> &'static Catalogue {
    static ALL: OnceLock<Catalogue> = OnceLock::new();
    // The table is part of the program; a test reads it.
    ALL.get_or_init(|| read(TABLE).unwrap_or_default())
}

/// The model that a short name stands for.
pub fn alias(name: &str) -> Option<&'static Model> {
    let fits = |m: &&Model| m.aliases.iter().any(|a| a.eq_ignore_ascii_case(name));
    catalogue().families.iter().flat_map(|f| &f.models).find(fits)
}

/// The model `org/name` and its family.
pub fn model(name: &str) -> Option<(&'static Family, &'static Model)> {
    let mut all = catalogue().families.iter().flat_map(|f| f.models.iter().map(move |m| (f, m)));
    all.find(|(_, m)| m.name.eq_ignore_ascii_case(name))
}

impl Family {
    /// The licence of one of its models.
    pub fn license_of<'a>(&'a self, model: &'a Model) -> Option<&'a Fact<String>> {
        model.license.as_ref().or(self.license.as_ref())
    }

    /// The context of one of its models.
    pub fn context_of<'a>(&'a self, model: &'a Model) -> Option<&'a Fact<String>> {
        model.context.as_ref().or(self.context.as_ref())
    }
}

/// Whether a licence is meant by `asked`: its id, one of its names, or its kind.
pub fn license_fits(id: &str, asked: &str) -> bool {
    let l = terms::of(id);
    let same = |a: &str| a.eq_ignore_ascii_case(asked);
    same(id) || l.is_some_and(|l| same(&l.id) || same(&l.kind) || l.hub.as_deref().is_some_and(same))
}

impl Model {
    /// Bytes of its weights at so many bits each.
    pub fn weight_bytes(&self, bits: f64) -> Option<u64> {
        self.parameters.as_ref().map(|p| (p.value as f64 * bits / 8.0).ceil() as u64)
    }

    /// Bytes of a cache of so many positions, at so many bytes a value.
    pub fn kv_bytes(&self, positions: u64, bytes: f64) -> Option<u64> {
        let layers = &self.kv.as_ref()?.value;
        let values = layers.iter().map(|&[n, width, window]| {
            let kept = if window == 0 { positions } else { positions.min(window) };
            n as f64 * width as f64 * kept as f64
        });
        Some((values.sum::<f64>() * bytes).ceil() as u64)
    }
}

/// A fact as the table has it: its value and the key of its source.
#[derive(Deserialize)]
struct Raw<T>(T, String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTable {
    sources: BTreeMap<String, String>,
    bits: BTreeMap<String, Raw<f64>>,
    family: Vec<RawFamily>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFamily {
    name: String,
    maker: Option<Raw<String>>,
    country: Option<Raw<Vec<String>>>,
    license: Option<Raw<String>>,
    model_type: Option<Raw<String>>,
    gguf: Option<Raw<String>>,
    moe: Option<Raw<bool>>,
    context: Option<Raw<String>>,
    released: Option<Raw<String>>,
    mechanisms: Option<Raw<Vec<String>>>,
    formats: Option<Raw<Vec<String>>>,
    quant: Option<Raw<String>>,
    #[serde(default)]
    model: Vec<RawModel>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModel {
    name: String,
    #[serde(default)]
    aliases: Vec<String>,
    parameters: Option<Raw<u64>>,
    active: Option<Raw<u64>>,
    license: Option<Raw<String>>,
    context: Option<Raw<String>>,
    kv: Option<Raw<Vec<KvLayers>>>,
}

/// The table with its sources put in their places; the error says what has none.
fn read(text: &str) -> Result<Catalogue, String> {
    let raw: RawTable = toml::from_str(text).map_err(|e| e.to_string())?;
    // Sources live as long as the program: the table is read once.
    let sources: BTreeMap<String, &'static str> = raw.sources.into_iter().map(|(k, v)| (k, &*v.leak())).collect();
    let sources = Sources(sources);
    let families = raw.family.into_iter().map(|f| sources.family(f)).collect::<Result<_, _>>()?;
    let bits = raw.bits.into_iter().map(|(k, b)| Ok::<_, String>((k, sources.one(b)?))).collect::<Result<_, _>>()?;
    Ok(Catalogue { families, bits })
}

struct Sources(BTreeMap<String, &'static str>);

impl Sources {
    fn one<T: DeserializeOwned>(&self, Raw(value, key): Raw<T>) -> Result<Fact<T>, String> {
        let source = self.0.get(&key).ok_or_else(|| format!("no source is called {key}"))?;
        Ok(Fact { value, source })
    }

    fn maybe<T: DeserializeOwned>(&self, raw: Option<Raw<T>>) -> Result<Option<Fact<T>>, String> {
        raw.map(|raw| self.one(raw)).transpose()
    }

    fn family(&self, f: RawFamily) -> Result<Family, String> {
        Ok(Family {
            name: f.name,
            maker: self.maybe(f.maker)?,
            country: self.maybe(f.country)?,
            license: self.maybe(f.license)?,
            model_type: self.maybe(f.model_type)?,
            gguf: self.maybe(f.gguf)?,
            moe: self.maybe(f.moe)?,
            context: self.maybe(f.context)?,
            released: self.maybe(f.released)?,
            mechanisms: self.maybe(f.mechanisms)?,
            formats: self.maybe(f.formats)?,
            quant: self.maybe(f.quant)?,
            models: f.model.into_iter().map(|m| self.model(m)).collect::<Result<_, _>>()?,
        })
    }

    fn model(&self, m: RawModel) -> Result<Model, String> {
        Ok(Model {
            name: m.name,
            aliases: m.aliases,
            parameters: self.maybe(m.parameters)?,
            active: self.maybe(m.active)?,
            license: self.maybe(m.license)?,
            context: self.maybe(m.context)?,
            kv: self.maybe(m.kv)?,
        })
    }
}
