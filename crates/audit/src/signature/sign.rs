//! Signing a model with a key.
use super::{
    bundle::{
        Bundle, Chain, Envelope, KeyName, MEDIA_TYPE, Material, PAYLOAD_TYPE, PREDICATE, Predicate, Raw, Resource,
        STATEMENT, Serialization, Signed, Statement, Subject, SubjectDigest, base64, normal, pre_authentication,
    },
    chain::Cert,
    inside,
    keys::SecretKey,
};
use crate::manifest::{Listing, hex, root};
use pondera_weights::{Error, ErrorKind, Result};
use std::path::Path;

/// What is signed, and with what.
pub struct Signing<'a> {
    /// The model: a folder or a file.
    pub path: &'a Path,
    /// Where the signature will lie, which it does not cover.
    pub out: &'a Path,
    /// The key.
    pub key: &'a SecretKey,
    /// Certificates of the key, its own first; without any, the key's name stands in the bundle.
    pub certificates: &'a [Cert],
    /// Paths inside of the folder that are left out.
    pub ignored: &'a [String],
}

/// A signature and what it covers.
#[derive(Debug)]
pub struct Signature {
    /// The bundle.
    pub bundle: Vec<u8>,
    /// How many files it covers.
    pub files: usize,
    /// The digest over their digests.
    pub root: String,
}

/// Signs a model. The same model and key give the same bytes.
///
/// Errors: a path that cannot be read or is no file, a certificate of another key.
pub fn sign(what: &Signing<'_>, seen: &mut dyn FnMut(u64, u64)) -> Result<Signature> {
    if let Some(leaf) = what.certificates.first()
        && leaf.key() != Some(what.key.public())
    {
        return Err(Error::new(ErrorKind::Invalid, "the certificate is of another key"));
    }
    let mut ignored: Vec<String> = Vec::new();
    if what.path.is_dir() {
        ignored.extend(super::IGNORED.map(str::to_string));
        ignored.extend(inside(what.path, what.out));
        for path in what.ignored {
            let plain = normal(path);
            ignored.push(plain.ok_or_else(|| Error::new(ErrorKind::Invalid, "no path inside of the model").of(path))?);
        }
        ignored.sort();
        ignored.dedup();
    }
    let listing = Listing::of(what.path, &ignored)?;
    if let Some((path, why)) = listing.odd.first() {
        return Err(Error::new(ErrorKind::Unsupported, format!("{path}: {why}"))
            .at(what.path)
            .hint("remove it, or leave it out with --ignore"));
    }
    if listing.entries.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "there are no files")
            .at(what.path)
            .hint("name a model's folder or file"));
    }
    let total = listing.bytes();
    let digests = listing.digests(&mut |done| seen(done, total.max(done)))?;
    let root = hex(&root(&digests));
    let resources = listing.entries.iter().zip(&digests).map(|(entry, digest)| Resource {
        name: if listing.alone { ".".into() } else { entry.path.clone() },
        algorithm: "sha256".into(),
        digest: hex(digest),
    });
    let full = what.path.canonicalize().map_err(|e| Error::io(what.path, &e))?;
    let name = full.file_name().map_or_else(|| "model".into(), |n| n.to_string_lossy().into_owned());
    let statement = Statement {
        kind: STATEMENT.into(),
        subject: vec![Subject { name, digest: SubjectDigest { sha256: root.clone() } }],
        predicate_type: PREDICATE.into(),
        predicate: Predicate {
            resources: resources.collect(),
            serialization: Serialization {
                method: "files".into(),
                hash_type: "sha256".into(),
                allow_symlinks: listing.entries.iter().any(|e| e.link),
                ignore_paths: ignored,
            },
        },
    };
    let text = |e: serde_json::Error| Error::new(ErrorKind::Invalid, format!("the signature cannot be written: {e}"));
    let payload = serde_json::to_vec(&statement).map_err(text)?;
    let sig = base64(&what.key.sign(&pre_authentication(&payload)));
    let raw = |c: &Cert| Raw { raw_bytes: base64(&c.whole) };
    let verification_material = match what.certificates {
        [] => Material { public_key: Some(KeyName { hint: Some(what.key.public().hint()) }), ..Material::default() },
        all => Material {
            x509_certificate_chain: Some(Chain { certificates: all.iter().map(raw).collect() }),
            ..Material::default()
        },
    };
    let bundle = Bundle {
        media_type: MEDIA_TYPE.into(),
        verification_material: Material { tlog_entries: Some(Vec::new()), ..verification_material },
        dsse_envelope: Some(Envelope {
            payload: base64(&payload),
            payload_type: PAYLOAD_TYPE.into(),
            signatures: vec![Signed { sig, keyid: Some(String::new()) }],
        }),
    };
    let bundle = serde_json::to_vec(&bundle).map_err(text)?;
    Ok(Signature { bundle, files: digests.len(), root })
}
