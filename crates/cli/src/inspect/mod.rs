//! What is in a model's files, found without computing anything: the report behind `inspect`.
//!
//! Owns: which facts are reported and under what names. Does not own: files (`pondera-weights`), families
//! (`pondera-arch`), vocabularies (`pondera-text`), how the report is drawn ([`view`], [`html`]).
pub mod architecture;
mod draw;
pub mod html;
mod metadata;
pub mod predict;
pub mod remote;
pub mod values;
pub mod view;

use crate::{
    error::{Error, Exit, Result},
    model::Source,
    words,
};
use architecture::Architecture;
use pondera_arch::{Config, Description, Model};
use pondera_ops::KvType;
use pondera_weights::{ErrorKind, Kind, TensorInfo, Weights};
use predict::Predicted;
use remote::{Mirror, RemoteFacts};
use serde::Serialize;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, path::Path};
use values::{Comparison, Values};

/// A report and what it was read from.
pub struct Inspected {
    /// The report.
    pub report: Report,
    /// The tensors, where there are any.
    pub weights: Option<Weights>,
    /// The model, where they make one.
    pub loaded: Option<Loaded>,
}

/// A model that was loaded to be described.
pub struct Loaded {
    /// Its configuration.
    pub config: Config,
    /// It.
    pub model: Model,
}

/// Everything that `inspect --json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What was inspected.
    pub path: String,
    /// `gguf`, `safetensors`, `pytorch`, `config`, `tokenizer`, `adapter`.
    pub kind: &'static str,
    /// How it came, where it lies on a hub.
    pub remote: Option<RemoteFacts>,
    /// The licence, from card, texts and metadata; `pondera license` says how sure that is and what it lets one do.
    pub license: Option<String>,
    /// The files.
    pub files: Vec<FileFacts>,
    /// The tensors; none for a vocabulary or a configuration alone.
    pub tensors: Option<TensorFacts>,
    /// The model that the files make; none where they make none.
    pub model: Option<ModelFacts>,
    /// Why they make none.
    pub not_runnable: Option<String>,
    /// The vocabulary.
    pub tokenizer: Option<TokenizerFacts>,
    /// The chat template.
    pub chat_template: Option<TemplateFacts>,
    /// What an adapter says of itself.
    pub adapter: Option<Value>,
    /// Metadata of the container: short values whole, arrays as their length.
    pub metadata: Map<String, Value>,
    /// How fast this machine should run it, where that was asked for.
    pub predicted: Option<Predicted>,
    /// What the weights' values are, where that was asked for.
    pub values: Option<Values>,
    /// How far they are from another model's, where one was named.
    pub comparison: Option<Comparison>,
}

/// A file.
#[derive(Debug, Serialize)]
pub struct FileFacts {
    /// Its path.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

/// The tensors of all files.
#[derive(Debug, Serialize)]
pub struct TensorFacts {
    /// How many.
    pub count: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Their elements as stored (packed codes count as what holds them).
    pub elements: u64,
    /// By storage type, most bytes first.
    pub types: Vec<TypeFacts>,
    /// Each of them, in order of names.
    pub list: Vec<TensorLine>,
}

/// The tensors of one storage type.
#[derive(Debug, Serialize)]
pub struct TypeFacts {
    /// `Q4_K`, `BF16`.
    #[serde(rename = "type")]
    pub name: &'static str,
    /// How many tensors.
    pub tensors: usize,
    /// Their elements.
    pub elements: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// One tensor.
#[derive(Debug, Serialize)]
pub struct TensorLine {
    /// Its name.
    pub name: String,
    /// Storage type.
    #[serde(rename = "type")]
    pub format: &'static str,
    /// Outermost first.
    pub shape: Vec<usize>,
    /// Stored bytes.
    pub bytes: u64,
}

/// The model that files make.
#[derive(Debug, Serialize)]
pub struct ModelFacts {
    /// `llama`, `deepseek_v3`.
    pub family: &'static str,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Width.
    pub hidden_size: usize,
    /// Tokens.
    pub vocab_size: usize,
    /// Longest context that was promised.
    pub max_position_embeddings: usize,
    /// Weights.
    pub parameters_total: u64,
    /// Of these, those that work on one token.
    pub parameters_active: u64,
    /// Their stored bytes.
    pub weight_bytes: u64,
    /// How weights are packed, if a tool packed them: `gptq`, `fp8`.
    pub quantization: Option<String>,
    /// Layout of the experts.
    pub experts: Option<ExpertFacts>,
    /// How far back each layer's attention sees, as computed; `null` for all. A configured window may be unused.
    pub windows: Vec<Option<usize>>,
    /// What it is made of.
    pub architecture: Architecture,
    /// Memory at a context.
    pub memory: MemoryFacts,
    /// The configuration, in the spelling of `config.json`.
    pub config: Map<String, Value>,
    /// Oddities that change nothing.
    pub warnings: Vec<String>,
}

/// Mixture-of-experts layout.
#[derive(Debug, Serialize)]
pub struct ExpertFacts {
    /// Experts of a sparse layer.
    pub experts: usize,
    /// Of these, how many work on a token.
    pub per_token: usize,
    /// Weights in experts.
    pub parameters: u64,
}

/// What it takes to run one sequence.
#[derive(Debug, Serialize)]
pub struct MemoryFacts {
    /// Tokens of the sequence.
    pub ctx: usize,
    /// Bytes of the weights.
    pub weights: u64,
    /// Bytes of an f16 cache.
    pub kv_f16: u64,
    /// Bytes of an f32 cache.
    pub kv_f32: u64,
    /// Bytes of a q8 cache.
    pub kv_q8: u64,
    /// Bytes of recurrent states, the same at any length.
    pub states: u64,
    /// Weights, f16 cache and states.
    pub total_f16: u64,
    /// Bytes that one more token takes in an f16 cache.
    pub kv_bytes_per_token_f16: u64,
}

/// A vocabulary.
#[derive(Debug, Serialize)]
pub struct TokenizerFacts {
    /// `BPE`, `SentencePiece`.
    pub kind: &'static str,
    /// Tokens.
    pub vocab_size: usize,
    /// Beginning of a sequence.
    pub bos: Option<u32>,
    /// End of a sequence.
    pub eos: Vec<u32>,
    /// Tokens that stand for no text, in order of their ids; the first thousand.
    pub special: Vec<SpecialToken>,
    /// How many there are.
    pub special_count: usize,
}

/// A token that stands for no text.
#[derive(Debug, Serialize)]
pub struct SpecialToken {
    /// Its id.
    pub id: u32,
    /// How it is spelt.
    pub text: String,
}

/// A chat template.
#[derive(Debug, Serialize)]
pub struct TemplateFacts {
    /// Its length.
    pub bytes: usize,
    /// Its text.
    pub text: String,
}

/// Longest configuration file that is read. Published ones stay below 100 KiB.
const CONFIG_BYTES_MAX: u64 = 16 << 20;
/// Longest metadata string that is reported whole.
const METADATA_TEXT_MAX: usize = 4096;

/// Most special tokens that are listed.
const SPECIAL_MAX: usize = 1000;

/// Reads `source` and reports. `ctx` is the context of the memory plan.
pub fn inspect(source: &Source, ctx: Option<usize>) -> Result<Inspected> {
    let mut found = Inspected { report: Report::new(source.name()), weights: None, loaded: None };
    match source.weights() {
        Ok(weights) => {
            found.take_weights(&weights, source, ctx, false)?;
            found.weights = Some(weights);
        }
        // What holds no tensors may still be a vocabulary or a configuration.
        Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::NotFound) => match source {
            Source::Path(p) if found.take_alone(p, ctx)? => {}
            _ => return Err(e.into()),
        },
        Err(e) => return Err(e.into()),
    }
    let license = match (source, &found.weights) {
        (Source::Path(p), _) => pondera_audit::license::report(p).ok(),
        (_, Some(weights)) => Some(pondera_audit::license::report_of(weights)),
        _ => None,
    };
    found.report.license = license.and_then(|r| r.id);
    Ok(found)
}

/// The same of a repository that lies on a hub.
pub fn inspect_mirror(mirror: Mirror, ctx: Option<usize>) -> Result<(Report, Option<Loaded>)> {
    let source = Source::Path(mirror.model.clone());
    // A folder of PyTorch files holds none that can be opened here: its configuration says what they make.
    let read = || {
        let mut found = Inspected { report: Report::new(String::new()), weights: None, loaded: None };
        match source.weights() {
            Ok(weights) => found.take_weights(&weights, &source, ctx, true)?,
            Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::NotFound) => {
                if !found.take_alone(&mirror.model, ctx)? {
                    return Err(e.into());
                }
                if mirror.blind {
                    found.report.kind = "pytorch";
                    found.report.not_runnable = Some("the tensors of PyTorch files are read once they are here".into());
                }
            }
            Err(e) => return Err(e.into()),
        }
        found.report.license = pondera_audit::license::report(&mirror.model).ok().and_then(|r| r.id);
        Ok((found.report, found.loaded))
    };
    let (mut report, loaded) = read().map_err(|e: Error| e.map(|text| mirror.own(text)))?;
    report.path = mirror.facts.reference.clone();
    let file = |(path, bytes): &(String, u64)| FileFacts { path: path.clone(), bytes: *bytes };
    report.files = mirror.files.iter().map(file).collect();
    report.not_runnable = report.not_runnable.map(|text| mirror.own(&text));
    if let Some(m) = &mut report.model {
        m.warnings.iter_mut().for_each(|w| *w = mirror.own(w));
    }
    report.remote = Some(mirror.into_facts());
    Ok((report, loaded))
}

impl Report {
    fn new(path: String) -> Report {
        Report {
            path,
            kind: "gguf",
            remote: None,
            license: None,
            files: Vec::new(),
            tensors: None,
            model: None,
            not_runnable: None,
            tokenizer: None,
            chat_template: None,
            adapter: None,
            metadata: Map::new(),
            predicted: None,
            values: None,
            comparison: None,
        }
    }
}

impl Inspected {
    /// `holes`: the tensors are places without bytes, which read as zeros.
    fn take_weights(&mut self, weights: &Weights, source: &Source, ctx: Option<usize>, holes: bool) -> Result<()> {
        let report = &mut self.report;
        report.kind = match weights.kind() {
            Kind::Gguf => "gguf",
            Kind::Torch => "pytorch",
            Kind::Safetensors | Kind::Memory => "safetensors",
        };
        for path in weights.files() {
            let bytes = std::fs::metadata(path).map_or_else(|_| weights.file_bytes(), |m| m.len());
            report.files.push(FileFacts { path: path.display().to_string(), bytes });
        }
        report.tensors = Some(tensor_facts(weights));
        report.metadata = metadata(weights)?;
        let folder = config_folder(source, weights);
        match config(folder, weights)? {
            Some(found) => {
                let loaded = found.and_then(|c| load(c, &pondera_arch::Source::Files(weights), ctx));
                let loaded = match (loaded, config(folder, weights)?) {
                    // Some packed layouts keep sizes among their tensors, where zeros make no sense: their shapes still do.
                    (Err(e), Some(Ok(c))) if holes => {
                        load(c, &pondera_arch::Source::Describe, ctx).map(|(mut facts, loaded)| {
                            let what = "types and bytes by layer are not known before the tensors are here";
                            facts.warnings.push(format!("{what} ({e})"));
                            (facts, loaded)
                        })
                    }
                    (loaded, _) => loaded,
                };
                match loaded {
                    Ok((facts, loaded)) => (report.model, self.loaded) = (Some(facts), Some(loaded)),
                    Err(e) => report.not_runnable = Some(e.to_string()),
                }
            }
            None => report.not_runnable = Some("there is no configuration beside the tensors".into()),
        }
        report.adapter = folder.map(|f| read_json(&f.join("adapter_config.json"))).transpose()?.flatten();
        if report.adapter.is_some() || weights.names().all(|n| n.contains("lora_")) && !weights.tensors().is_empty() {
            report.kind = "adapter";
            report.not_runnable = Some("an adapter changes a model and is none itself".into());
        }
        self.take_text(source)?;
        // A template belongs to a model; a bare tensor file in a model's folder is none.
        if self.report.model.is_some() {
            self.report.chat_template = words::template(weights)?.map(|t| {
                let text = t.source(false).to_string();
                TemplateFacts { bytes: text.len(), text }
            });
        }
        Ok(())
    }

    /// A file without tensors. False if it is nothing that is known.
    fn take_alone(&mut self, path: &Path, ctx: Option<usize>) -> Result<bool> {
        let config = if path.is_dir() { path.join("config.json") } else { path.to_path_buf() };
        if config.extension().is_some_and(|e| e == "json") && !config.to_string_lossy().ends_with(".index.json") {
            match read_json(&config)? {
                Some(value) if path.is_dir() || value.get("model_type").is_some() => self.take_config(value, ctx),
                _ => {}
            }
        }
        if self.report.kind != "config" || path.is_dir() {
            self.take_text(&Source::Path(path.to_path_buf()))?;
        }
        let report = &mut self.report;
        if report.kind != "config" && report.tokenizer.is_some() {
            report.kind = "tokenizer";
            report.not_runnable = Some("a vocabulary is no model".into());
        }
        let known = report.kind == "config" || report.tokenizer.is_some();
        if known && path.is_file() {
            report.files.push(file_facts(path));
        }
        Ok(known)
    }

    fn take_config(&mut self, value: Value, ctx: Option<usize>) {
        self.report.kind = "config";
        match Config::from_value(&value)
            .map_err(Error::from)
            .and_then(|c| load(c, &pondera_arch::Source::Describe, ctx))
        {
            Ok((facts, loaded)) => (self.report.model, self.loaded) = (Some(facts), Some(loaded)),
            Err(e) => self.report.not_runnable = Some(e.to_string()),
        }
        self.report.not_runnable.get_or_insert_with(|| "there are no weights beside the configuration".into());
    }

    fn take_text(&mut self, source: &Source) -> Result<()> {
        if let Some(t) = words::tokenizer(source)? {
            let ids = || (0..u32::try_from(t.vocab_size()).unwrap_or(u32::MAX)).filter(|id| t.is_special(*id));
            self.report.tokenizer = Some(TokenizerFacts {
                kind: t.kind(),
                vocab_size: t.vocab_size(),
                bos: t.bos_id(),
                eos: t.stop_ids().to_vec(),
                special: ids()
                    .take(SPECIAL_MAX)
                    .map(|id| SpecialToken { id, text: words::token_text(&t, id) })
                    .collect(),
                special_count: ids().count(),
            });
        }
        Ok(())
    }
}

fn file_facts(path: &Path) -> FileFacts {
    FileFacts { path: path.display().to_string(), bytes: std::fs::metadata(path).map_or(0, |m| m.len()) }
}

fn tensor_facts(weights: &Weights) -> TensorFacts {
    let mut types: BTreeMap<&'static str, TypeFacts> = BTreeMap::new();
    for t in weights.tensors() {
        let name = t.format.info().name;
        let row = types.entry(name).or_insert(TypeFacts { name, tensors: 0, elements: 0, bytes: 0 });
        row.tensors += 1;
        row.elements += t.elements() as u64;
        row.bytes += t.bytes() as u64;
    }
    let mut types: Vec<TypeFacts> = types.into_values().collect();
    types.sort_by_key(|t| std::cmp::Reverse(t.bytes));
    let line = |t: &TensorInfo| TensorLine {
        name: t.name.to_string(),
        format: t.format.info().name,
        shape: t.shape.to_vec(),
        bytes: t.bytes() as u64,
    };
    TensorFacts {
        count: weights.tensors().len(),
        bytes: weights.total_bytes(),
        elements: types.iter().map(|t| t.elements).sum(),
        types,
        list: weights.tensors().iter().map(line).collect(),
    }
}

/// Where the configuration lies: beside the tensors, if those were named by their folder, their index, or by the
/// name that a folder's weights have.
fn config_folder<'a>(source: &'a Source, weights: &'a Weights) -> Option<&'a Path> {
    match source {
        Source::Path(_) if weights.kind() != Kind::Gguf => Some(weights.folder()),
        _ => None,
    }
}

/// The configuration, if there is one; inside, whether it is one that can be run.
fn config(folder: Option<&Path>, weights: &Weights) -> Result<Option<Result<Config>>> {
    if let Some(gguf) = weights.gguf() {
        return Ok(Some(Config::from_gguf(gguf).map_err(Error::from)));
    }
    let Some(folder) = folder else { return Ok(None) };
    let Some(value) = read_json(&folder.join("config.json"))? else { return Ok(None) };
    let config = Config::from_value(&value).and_then(|c| match std::fs::read(folder.join("hf_quant_config.json")) {
        Ok(text) => c.with_quantization_file(&text),
        Err(_) => Ok(c),
    });
    Ok(Some(config.map_err(Error::from)))
}

/// A JSON file; none where it does not exist, exit 3 where it is broken.
pub fn read_json(file: &Path) -> Result<Option<Value>> {
    match std::fs::metadata(file) {
        Ok(m) if m.len() > CONFIG_BYTES_MAX => {
            return Err(Error::file(format!(
                "{}: {} bytes, no configuration has more than {CONFIG_BYTES_MAX}",
                file.display(),
                m.len()
            )));
        }
        Ok(_) => {}
        Err(_) => return Ok(None),
    }
    let text = std::fs::read(file).map_err(|e| Error::io(file.display(), &e))?;
    let broken = |e: serde_json::Error| Error::new(Exit::File, format!("{}: {e}", file.display()));
    Config::parse(&text).map(Some).map_err(broken).map_err(|e| e.hint("the file is broken: fetch it again"))
}

fn load(config: Config, source: &pondera_arch::Source<'_>, ctx: Option<usize>) -> Result<(ModelFacts, Loaded)> {
    let model = Model::load(&config, source)?;
    let facts = facts(&config, &model, ctx);
    Ok((facts, Loaded { config, model }))
}

fn facts(config: &Config, model: &Model, ctx: Option<usize>) -> ModelFacts {
    let d = model.description();
    let ctx = ctx.unwrap_or(d.max_position_embeddings);
    ModelFacts {
        family: d.family,
        num_hidden_layers: d.num_hidden_layers,
        hidden_size: d.hidden_size,
        vocab_size: d.vocab_size,
        max_position_embeddings: d.max_position_embeddings,
        parameters_total: d.parameters_total,
        parameters_active: d.parameters_active,
        weight_bytes: d.weight_bytes,
        quantization: config.quantization().map(|q| q.method.clone()),
        experts: d.experts.map(|(experts, per_token)| ExpertFacts {
            experts,
            per_token,
            parameters: in_experts(d, experts),
        }),
        windows: model.caches().iter().map(|c| c.window).collect(),
        architecture: Architecture::of(model, config.keys(), ctx),
        memory: memory(model, ctx),
        config: config.keys().clone(),
        warnings: model.warnings().to_vec(),
    }
}

fn in_experts(d: &Description, experts: usize) -> u64 {
    d.tensors.iter().filter(|t| t.shape[0] == experts && experts > 1).map(|t| t.parameters).sum()
}

/// Bytes for one sequence of `ctx` tokens.
fn memory(model: &Model, ctx: usize) -> MemoryFacts {
    let kv = |positions: usize, kv: KvType| Description::kv_bytes(model.caches(), positions, kv);
    let (weights, kv_f16) = (model.description().weight_bytes, kv(ctx, KvType::F16));
    let states = model.states().iter().map(|s| s.bytes() as u64).sum();
    MemoryFacts {
        ctx,
        weights,
        states,
        kv_f16,
        kv_f32: kv(ctx, KvType::F32),
        kv_q8: kv(ctx, KvType::Q8),
        total_f16: weights.saturating_add(kv_f16).saturating_add(states),
        kv_bytes_per_token_f16: kv(1, KvType::F16),
    }
}

/// Metadata of the container, bounded: long texts and arrays are told by their length.
fn metadata(weights: &Weights) -> Result<Map<String, Value>> {
    let mut map = Map::new();
    for (key, value) in weights.metadata() {
        map.insert(key.clone(), short(value));
    }
    if let Some(gguf) = weights.gguf() {
        for key in gguf.keys() {
            if let Some(value) = gguf.value(key)? {
                map.insert(key.to_string(), metadata::json(&value));
            }
        }
    }
    Ok(map)
}

fn short(text: &str) -> Value {
    if text.len() <= METADATA_TEXT_MAX { text.into() } else { format!("{} bytes of text", text.len()).into() }
}
