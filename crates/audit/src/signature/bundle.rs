//! Signatures of models as they are written: a Sigstore bundle around a DSSE envelope around an in-toto statement with
//! OpenSSF Model Signing's predicate. <https://github.com/ossf/model-signing-spec>
//!
//! Owns the forms and what must hold in them. Does not own who signed, nor whether the files are those that were
//! signed. Every message is a constant: nothing of a hostile bundle is repeated.
use crate::manifest::{Sha, root, unhex};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::HashSet;

/// The form of bundles.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// What envelopes hold.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// What that is.
pub const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// What it says.
pub const PREDICATE: &str = "https://model_signing/signature/v1.0";
/// Longest bundle that is read.
pub const BUNDLE_MAX: u64 = 64 << 20;
/// Most files that a signature may cover, longest path.
const RESOURCES_MAX: usize = 100_000;
const NAME_MAX: usize = 4096;
/// Most paths that a signature may leave out.
const IGNORED_MAX: usize = 1000;

/// A bundle.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    /// Its form.
    pub media_type: String,
    /// With what it is verified.
    pub verification_material: Material,
    /// What is signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dsse_envelope: Option<Envelope>,
}

/// With what a bundle is verified: one of the first three.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Material {
    /// A key that the verifier has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<KeyName>,
    /// A chain of certificates, that of the signer first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x509_certificate_chain: Option<Chain>,
    /// The certificate of the signer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Raw>,
    /// Entries in a log.
    #[serde(default)]
    pub tlog_entries: Option<Vec<LogEntry>>,
}

/// What a key is called.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct KeyName {
    /// SHA-256 of its PEM text.
    #[serde(default)]
    pub hint: Option<String>,
}

/// Certificates.
#[derive(Debug, Deserialize, Serialize)]
pub struct Chain {
    /// That of the signer first.
    pub certificates: Vec<Raw>,
}

/// Bytes.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Raw {
    /// In base64.
    pub raw_bytes: String,
}

/// An entry of a transparency log.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogEntry {
    /// Its number.
    #[serde(deserialize_with = "number")]
    pub log_index: u64,
    /// The log.
    pub log_id: LogId,
    /// What kind of entry it is.
    pub kind_version: KindVersion,
    /// When it was entered, in seconds since 1970.
    #[serde(default, deserialize_with = "number")]
    pub integrated_time: u64,
    /// The log's word that it enters it.
    #[serde(default)]
    pub inclusion_promise: Option<Promise>,
    /// Proof that it did.
    #[serde(default)]
    pub inclusion_proof: Option<Proof>,
    /// The entry, in base64.
    pub canonicalized_body: String,
}

/// The name of a log.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogId {
    /// SHA-256 of its key, in base64.
    pub key_id: String,
}

/// A kind of entries.
#[derive(Debug, Deserialize, Serialize)]
pub struct KindVersion {
    /// Its name.
    pub kind: String,
    /// Its version.
    pub version: String,
}

/// A log's word.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Promise {
    /// Its signature, in base64.
    pub signed_entry_timestamp: String,
}

/// Proof that a log holds an entry.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// Its place in the tree.
    #[serde(deserialize_with = "number")]
    pub log_index: u64,
    /// The tree's digest, in base64.
    pub root_hash: String,
    /// The tree's size.
    #[serde(deserialize_with = "number")]
    pub tree_size: u64,
    /// The way to the root, in base64.
    #[serde(default)]
    pub hashes: Vec<String>,
    /// The log's word on its tree.
    #[serde(default)]
    pub checkpoint: Option<Checkpoint>,
}

/// A log's word on its tree.
#[derive(Debug, Deserialize, Serialize)]
pub struct Checkpoint {
    /// A signed note.
    pub envelope: String,
}

/// A DSSE envelope.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// What is signed, in base64.
    pub payload: String,
    /// What that is.
    pub payload_type: String,
    /// The signatures.
    pub signatures: Vec<Signed>,
}

/// A signature of an envelope.
#[derive(Debug, Deserialize, Serialize)]
pub struct Signed {
    /// In base64.
    pub sig: String,
    /// A hint that nothing depends on.
    #[serde(default)]
    pub keyid: Option<String>,
}

/// Numbers, which JSON of protobuf writes as text.
fn number<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }
    match Either::deserialize(d)? {
        Either::Number(n) => Ok(n),
        Either::Text(t) => t.parse().map_err(|_| serde::de::Error::custom("no number")),
    }
}

/// Bytes from base64.
pub fn unbase64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Bytes as base64.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// What a signature of an envelope is over.
pub fn pre_authentication(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

impl Bundle {
    /// Reads a bundle. Only its form is looked at.
    pub fn parse(text: &[u8]) -> Result<Bundle, &'static str> {
        let bundle: Bundle = serde_json::from_slice(text).map_err(|_| "the file is no Sigstore bundle")?;
        if bundle.media_type != MEDIA_TYPE {
            return Err("the bundle is of another version than 0.3");
        }
        Ok(bundle)
    }

    /// The payload with its one signature.
    pub fn signed(&self) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
        let envelope = self.dsse_envelope.as_ref().ok_or("the bundle holds no envelope")?;
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err("the envelope holds no in-toto statement");
        }
        let [only] = &envelope.signatures[..] else { return Err("the envelope has not exactly one signature") };
        let payload = unbase64(&envelope.payload).ok_or("the envelope's payload is no base64")?;
        let signature = unbase64(&only.sig).ok_or("the envelope's signature is no base64")?;
        Ok((payload, signature))
    }
}

/// The type of a statement, looked at before the rest is.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(rename = "predicateType")]
    predicate_type: String,
}

/// A statement about a model.
#[derive(Debug, Deserialize, Serialize)]
pub struct Statement {
    /// Its type.
    #[serde(rename = "_type")]
    pub kind: String,
    /// The model.
    pub subject: Vec<Subject>,
    /// What is said of it.
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// That.
    pub predicate: Predicate,
}

/// A model.
#[derive(Debug, Deserialize, Serialize)]
pub struct Subject {
    /// Its name, for people.
    pub name: String,
    /// The digest over the digests of its files.
    pub digest: SubjectDigest,
}

/// A digest of a subject.
#[derive(Debug, Deserialize, Serialize)]
pub struct SubjectDigest {
    /// In hexadecimal digits.
    pub sha256: String,
}

/// Which files a model has.
#[derive(Debug, Deserialize, Serialize)]
pub struct Predicate {
    /// How they were gathered.
    pub serialization: Serialization,
    /// They.
    pub resources: Vec<Resource>,
}

/// How files were gathered.
#[derive(Debug, Deserialize, Serialize)]
pub struct Serialization {
    /// `files` or `shards`.
    pub method: String,
    /// `sha256`.
    pub hash_type: String,
    /// Whether links were followed.
    #[serde(default)]
    pub allow_symlinks: bool,
    /// What was left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore_paths: Vec<String>,
}

/// A file.
#[derive(Debug, Deserialize, Serialize)]
pub struct Resource {
    /// Its path.
    pub name: String,
    /// How its digest was made.
    pub algorithm: String,
    /// In hexadecimal digits.
    pub digest: String,
}

/// What was signed.
#[derive(Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What the model was called.
    pub subject: String,
    /// Paths with their digests; `.` is a model that is one file.
    pub files: Vec<(String, Sha)>,
    /// Paths that were left out.
    pub ignored: Vec<String>,
}

impl Manifest {
    /// What a payload says, once its signature holds.
    pub fn parse(payload: &[u8]) -> Result<Manifest, &'static str> {
        let head: Head = serde_json::from_slice(payload).map_err(|_| "what is signed is no in-toto statement")?;
        if head.kind != STATEMENT {
            return Err("what is signed is no in-toto statement of version 1");
        }
        if head.predicate_type != PREDICATE {
            return Err("what is signed is no model signature of version 1.0");
        }
        let statement: Statement =
            serde_json::from_slice(payload).map_err(|_| "the signed list of files is not as the standard has it")?;
        let [subject] = &statement.subject[..] else { return Err("the signature is not about exactly one model") };
        let Predicate { serialization, resources } = &statement.predicate;
        match &*serialization.method {
            "files" => {}
            "shards" => return Err("files signed in shards are not supported: sign them whole"),
            _ => return Err("the files were gathered in a way that is not known"),
        }
        if serialization.hash_type != "sha256" || resources.iter().any(|r| r.algorithm != "sha256") {
            return Err("the files' digests are none of SHA-256: others are not supported");
        }
        if resources.len() > RESOURCES_MAX || serialization.ignore_paths.len() > IGNORED_MAX {
            return Err("the signature covers or leaves out more files than any model has");
        }
        let (mut files, mut seen) = (Vec::with_capacity(resources.len()), HashSet::new());
        for r in resources {
            if r.name != "." && !is_inside(&r.name) {
                return Err("a signed path leaves the model's folder or is none");
            }
            if !seen.insert(&*r.name) {
                return Err("a file stands twice in the signed list");
            }
            files.push((r.name.clone(), unhex(&r.digest).ok_or("a signed digest is none of SHA-256")?));
        }
        if seen.contains(".") && files.len() > 1 {
            return Err("the signed list is of a file and of a folder at once");
        }
        if files.is_empty() {
            return Err("the signed list holds no file");
        }
        if unhex(&subject.digest.sha256) != Some(root(files.iter().map(|f| &f.1))) {
            return Err("the digest of the signed list is not that of its files");
        }
        let ignored = serialization.ignore_paths.iter().filter_map(|p| normal(p)).collect();
        Ok(Manifest { subject: subject.name.clone(), files, ignored })
    }
}

/// Whether a path names something inside of a folder, written in the one way that lists have it.
fn is_inside(path: &str) -> bool {
    path.len() <= NAME_MAX
        && !path.contains(['\\', '\0'])
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// A path to be ignored without `./` and closing `/`; none for what leads out of the folder.
pub fn normal(path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let parts: Vec<&str> = path.split('/').filter(|p| !matches!(*p, "" | ".")).collect();
    let joined = parts.join("/");
    is_inside(&joined).then_some(joined)
}
