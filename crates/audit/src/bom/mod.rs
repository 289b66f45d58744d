//! Bills of materials of a model: its files with digests, its licence, what it was made of and from, and what made
//! the bill, in the two forms that tools exchange: CycloneDX ([`cyclonedx()`]) and SPDX 3 ([`spdx()`]).
//!
//! Owns what goes into a bill. Does not own: licences ([`crate::license`]), which files count ([`crate::manifest`]).
//! The same model gives the same bytes but for the moment: identifiers come from what the bill says.
mod cyclonedx;
mod facts;
mod licence;
mod spdx;
pub mod time;

pub use cyclonedx::cyclonedx;
pub use facts::Facts;
pub use licence::Licence;
pub use spdx::spdx;

use crate::{
    license::{self, Base, How, Report, card},
    manifest::{self, Listing, Sha},
    signature,
};
use pondera_weights::{Error, ErrorKind, Result};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{fs::File, io::Read, path::Path};

/// What git and the hub's tools keep beside a model's files; and the signature, which may cover the bill.
pub const IGNORED: [&str; 6] =
    [".git", ".gitattributes", ".github", ".gitignore", ".cache/huggingface", signature::DEFAULT_NAME];
/// The hub whose addresses need no qualifier.
const HUB: &str = "https://huggingface.co";

/// Where a model was fetched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hub {
    /// Its address: `https://huggingface.co`.
    pub endpoint: String,
    /// `org/name`.
    pub repository: String,
    /// The commit.
    pub commit: String,
}

/// What a bill is asked about.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The model: a folder or a file.
    pub path: &'a Path,
    /// What it is called; without, by the hub's name, a GGUF file's own or that of the folder or file.
    pub name: Option<&'a str>,
    /// Its version; without, the hub's commit.
    pub version: Option<&'a str>,
    /// Where it was fetched from, as far as that is known.
    pub hub: Option<Hub>,
    /// A file that is none of the model's: an earlier bill.
    pub without: Option<&'a Path>,
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Tensors.
    Weights,
    /// Settings of the model, its vocabulary, its template.
    Configuration,
    /// Cards, licences, notes.
    Documentation,
    /// Code.
    Source,
    /// Anything else.
    Data,
}

/// A file of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filed {
    /// Its path inside of the model.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Sha,
    /// What it is for.
    pub role: Role,
}

/// A dataset that the model was trained on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// Its name, `org/name` on the hub.
    pub name: String,
    /// Where it is to be found.
    pub url: Option<String>,
}

/// Everything that a bill says.
#[derive(Clone, Debug)]
pub struct Bill {
    /// The model's name.
    pub name: String,
    /// Its version.
    pub version: Option<String>,
    /// Where it was fetched from.
    pub hub: Option<Hub>,
    /// Its files.
    pub files: Vec<Filed>,
    /// The digest over the digests of the files, in their order.
    pub root: Sha,
    /// What lies in the folder and is no file that could be listed, with the reason.
    pub left_out: Vec<(String, &'static str)>,
    /// The licence that it declares.
    pub declared: Option<Licence>,
    /// The licences that apply, those of the models that it was made of included.
    pub effective: Option<Licence>,
    /// What the licence report found, and where.
    pub licence: Report,
    /// Texts of licences that SPDX does not list: the reference, the text.
    pub texts: Vec<(String, String)>,
    /// The models that it was made of.
    pub bases: Vec<Base>,
    /// What it was trained on.
    pub datasets: Vec<Dataset>,
    /// The card.
    pub card: card::Card,
    /// The rest.
    pub facts: Facts,
    /// This program's version.
    pub tool: &'static str,
}

/// Looks at a model, reading every byte of its files once; `seen` is told how many of how many have been read.
///
/// Errors: a path that cannot be read, a folder without files.
pub fn describe(request: &Request<'_>, seen: &mut dyn FnMut(u64, u64)) -> Result<Bill> {
    let path = request.path;
    let facts = facts::read(path);
    let ignored: Vec<String> = IGNORED.map(str::to_string).to_vec();
    // A file may stand for the set that it belongs to.
    let mut listing = match path.is_dir() {
        true => Listing::of(path, &ignored)?,
        false if facts.files.len() > 1 => Listing::of_files(facts.files.iter().map(|f| &**f))?,
        false => Listing::of(path, &[])?,
    };
    if let Some(without) = request.without.and_then(|w| w.canonicalize().ok()) {
        listing.entries.retain(|e| e.full().canonicalize().ok().as_ref() != Some(&without));
    }
    if listing.entries.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "there are no files")
            .at(path)
            .hint("name a model's folder or file"));
    }
    let total = listing.bytes();
    let digests = listing.digests(&mut |done| seen(done, total.max(done)))?;
    let root = manifest::root(&digests);
    let files: Vec<Filed> = listing
        .entries
        .iter()
        .zip(digests)
        .map(|(e, sha256)| Filed { path: e.path.clone(), bytes: e.bytes, sha256, role: Role::of(&e.path) })
        .collect();
    // A file that nobody can read as a licence's source still has a bill.
    let licence = license::report(path).unwrap_or_default();
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    let card = text(&folder.join("README.md")).as_deref().and_then(card::front_matter).map(card::parse);
    let card = card.unwrap_or_default();
    let declared = licence.id.as_deref().map(Licence::of);
    let effective = Licence::all(&licence.effective);
    let texts = texts(folder, &licence, &[&declared, &effective]);
    let mut datasets: Vec<Dataset> = Vec::new();
    let of_card = card.datasets.iter().map(|name| {
        let url = is_repository(name).then(|| format!("{HUB}/datasets/{name}"));
        Dataset { name: name.clone(), url }
    });
    let of_file = facts.datasets.iter().map(|(name, url)| Dataset { name: name.clone(), url: url.clone() });
    for d in of_card.chain(of_file) {
        if !d.name.is_empty() && !datasets.iter().any(|other| other.name == d.name) {
            datasets.push(d);
        }
    }
    Ok(Bill {
        name: name(request, &facts),
        version: request.version.map(str::to_string).or_else(|| Some(request.hub.as_ref()?.commit.clone())),
        hub: request.hub.clone(),
        files,
        root,
        left_out: listing.odd,
        declared,
        effective,
        bases: licence.bases.clone(),
        licence,
        texts,
        datasets,
        card,
        facts,
        tool: env!("CARGO_PKG_VERSION"),
    })
}

fn name(request: &Request<'_>, facts: &Facts) -> String {
    if let Some(name) = request.name {
        return name.into();
    }
    if let Some(hub) = &request.hub {
        return hub.repository.clone();
    }
    let path = request.path.canonicalize().unwrap_or_else(|_| request.path.to_path_buf());
    let of_path = path.file_name().map(|n| n.to_string_lossy().into_owned());
    let own = facts.name.clone().filter(|n| !n.trim().is_empty());
    own.or(of_path).unwrap_or_else(|| "model".into())
}

/// A text beside the model of bounded length.
fn text(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(license::TEXT_MAX as u64 + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() <= license::TEXT_MAX).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// The text behind each reference, where a file of the model is that licence's text.
fn texts(folder: &Path, report: &Report, licences: &[&Option<Licence>]) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for (id, name) in licences.iter().copied().flatten().flat_map(|l| &l.refs) {
        let mut sources = report.sources.iter().filter(|s| s.how == How::Text && s.trouble.is_none());
        let one = sources.clone().count() == 1;
        let source = sources.find(|s| s.id.as_ref() == Some(name) || one && s.id.is_none());
        let Some(text) = source.and_then(|s| text(&folder.join(&s.file))) else { continue };
        if !found.iter().any(|f| f.0 == *id) {
            found.push((id.clone(), text));
        }
    }
    found
}

/// Whether a name is that of a repository on the hub, `org/name`.
fn is_repository(name: &str) -> bool {
    let part = |p: &str| {
        !p.is_empty()
            && !p.starts_with(['.', '-'])
            && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    name.len() <= 200 && name.split_once('/').is_some_and(|(org, name)| part(org) && part(name))
}

/// The package URL of a repository of models on the hub.
fn purl(hub: Option<&Hub>, repository: &str) -> Option<String> {
    if !is_repository(repository) {
        return None;
    }
    let Some(hub) = hub else { return Some(format!("pkg:huggingface/{repository}")) };
    let elsewhere = match hub.endpoint.trim_end_matches('/') {
        HUB => String::new(),
        other => format!("?repository_url={}", escape(other, b"-._~:/")),
    };
    Some(format!("pkg:huggingface/{repository}@{}{elsewhere}", escape(&hub.commit.to_lowercase(), b"-._~")))
}

/// `text` as part of an address: all but letters, digits and `kept` is escaped.
fn escape(text: &str, kept: &[u8]) -> String {
    let one = |b: u8| match b.is_ascii_alphanumeric() || kept.contains(&b) {
        true => char::from(b).to_string(),
        false => format!("%{b:02X}"),
    };
    text.bytes().map(one).collect()
}

impl Hub {
    /// Where the model's page is.
    fn page(&self) -> String {
        format!("{}/{}/tree/{}", self.endpoint.trim_end_matches('/'), self.repository, self.commit)
    }
}

impl Role {
    /// By the file's name.
    fn of(path: &str) -> Role {
        let name = path.rsplit('/').next().unwrap_or(path).to_lowercase();
        let ends = |all: &[&str]| all.iter().any(|e| name.ends_with(e));
        if ends(&[".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".h5", ".msgpack", ".npz", ".pkl"])
        {
            Role::Weights
        } else if ends(&[".md", ".rst", ".pdf"])
            || name.contains("license")
            || name.contains("licence")
            || name == "notice"
        {
            Role::Documentation
        } else if ends(&[".json", ".yaml", ".yml", ".toml", ".jinja", ".model", ".tiktoken"]) {
            Role::Configuration
        } else if ends(&[".py", ".sh", ".c", ".cpp", ".cu", ".rs", ".js", ".ipynb"]) {
            Role::Source
        } else {
            Role::Data
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Weights => "weights",
            Role::Configuration => "configuration",
            Role::Documentation => "documentation",
            Role::Source => "source",
            Role::Data => "data",
        }
    }
}

/// A UUID (version 8: by a rule of our own) from what a document says: SHA-256 over it with sorted keys.
fn uuid(document: &Value) -> String {
    let mut hash = Sha256::new();
    hash.update(b"pondera bill of materials\0");
    canonical(document, &mut hash);
    let digest: Sha = hash.finalize().into();
    let mut id: [u8; 16] = std::array::from_fn(|i| digest[i]);
    id[6] = id[6] & 0x0f | 0x80;
    id[8] = id[8] & 0x3f | 0x80;
    let hex = manifest::hex(&id);
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

/// Each value with its kind and length in front, so that no two documents are hashed alike.
fn canonical(value: &Value, hash: &mut Sha256) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            hash.update(format!("{{{}:", keys.len()));
            for key in keys {
                hash.update(format!("{}:{key}", key.len()));
                canonical(map.get(key).unwrap_or(&Value::Null), hash);
            }
        }
        Value::Array(list) => {
            hash.update(format!("[{}:", list.len()));
            list.iter().for_each(|v| canonical(v, hash));
        }
        Value::String(text) => hash.update(format!("\"{}:{text}", text.len())),
        other => hash.update(format!("={other};")),
    }
}
