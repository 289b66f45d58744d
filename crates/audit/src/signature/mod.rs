//! Signatures of models (OpenSSF Model Signing 1.0): whether somebody who is trusted signed these very files.
//!
//! Owns trust, the comparison of the files with what was signed, and the findings over both ([`verify()`]); making a
//! signature with a key ([`sign()`]). Nothing here asks anybody else: keys, roots and logs' keys are given.
mod bundle;
mod chain;
mod der;
mod keys;
mod sign;
mod sigstore;

pub use chain::Cert;
pub use keys::{PublicKey, SecretKey};
pub use sign::{Signature, Signing, sign};
pub use sigstore::{Identity, TrustRoot};

use crate::{
    bom::time,
    findings::{
        Findings, New, Rule, SIGNATURE_INVALID, SIGNATURE_MISSING, SIGNATURE_UNSUPPORTED, SIGNED_CHANGED, SIGNED_EXTRA,
        SIGNED_MISSING, Severity, shown,
    },
    manifest::{Listing, hex, under},
};
use bundle::{BUNDLE_MAX, Bundle, Manifest, normal, pre_authentication};
use pondera_weights::{Error, Result};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::{self, Read},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// The signature of a folder, unless it is named.
pub const DEFAULT_NAME: &str = "model.sig";
/// What is no part of any model: what git keeps.
const IGNORED: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];
/// Longest name of a signer that is shown.
const SHOWN_MAX: usize = 200;

/// Who is trusted.
pub enum Trust {
    /// Whoever has the private key to this one.
    Key(PublicKey),
    /// Whoever has a certificate for signing under one of these; others among them may be in between.
    Certificates(Vec<Cert>),
    /// Somebody, as an identity provider knows them, at a Sigstore whose keys are known.
    Identity(Identity, Box<TrustRoot>),
}

/// A signature that is asked for.
pub struct Demand<'a> {
    /// Where it lies.
    pub signature: &'a Path,
    /// Who must have signed.
    pub trust: &'a Trust,
    /// Paths inside of the model that do not matter.
    pub ignored: &'a [String],
}

/// Who signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Signer {
    /// `key`, `certificate` or `identity`.
    pub kind: &'static str,
    /// The certificate's subject, the identity, or the key's name in bundles.
    pub name: String,
    /// Who vouches for an identity or certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// SHA-256 of the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_sha256: Option<String>,
    /// When a log entered the signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logged_at: Option<String>,
}

/// What is known of a signature.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The signature's file.
    pub file: String,
    /// Whether who is trusted signed these very files.
    pub verified: bool,
    /// Who signed; none where the signature does not hold.
    pub signer: Option<Signer>,
    /// What the signer called the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// How many files the signature covers.
    pub files: usize,
}

/// Why a signature says nothing.
pub(crate) type Refusal = (&'static Rule, &'static str);

/// Verifies the signature of `path`, a model's folder or file, which is read once. What does not hold is a finding;
/// `seen` is told how many of how many bytes have been read.
///
/// Errors: a path of the model that cannot be read.
pub fn verify(
    path: &Path,
    demand: &Demand<'_>,
    findings: &mut Findings,
    seen: &mut dyn FnMut(u64, u64),
) -> Result<Report> {
    let file = demand.signature.display().to_string();
    let mut report = Report { file: file.clone(), verified: false, signer: None, subject: None, files: 0 };
    let (signer, manifest) = match read(demand.signature).and_then(|text| check(&text, demand.trust)) {
        Ok(found) => found,
        Err((rule, what)) => {
            let what = what.into();
            findings.add(New { rule, severity: Severity::High, file: &file, what, offset: None, name: None });
            return Ok(report);
        }
    };
    report.signer = Some(signer);
    report.subject = Some(shown(&manifest.subject));
    report.files = manifest.files.len();
    report.verified = compare(path, demand, &manifest, findings, seen)?;
    Ok(report)
}

/// The bytes of a signature.
fn read(path: &Path) -> std::result::Result<Vec<u8>, Refusal> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|f| f.take(BUNDLE_MAX + 1).read_to_end(&mut text));
    match read {
        Ok(n) if n as u64 > BUNDLE_MAX => Err((SIGNATURE_UNSUPPORTED, "the file is larger than any signature")),
        Ok(_) => Ok(text),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err((SIGNATURE_MISSING, "a signature is demanded and there is none"))
        }
        Err(_) => Err((SIGNATURE_MISSING, "a signature is demanded and its file cannot be read")),
    }
}

/// Whether who is trusted signed, and what.
fn check(text: &[u8], trust: &Trust) -> std::result::Result<(Signer, Manifest), Refusal> {
    let invalid = |what| (SIGNATURE_INVALID, what);
    let bundle = Bundle::parse(text).map_err(invalid)?;
    let (payload, signature) = bundle.signed().map_err(invalid)?;
    let signed = pre_authentication(&payload);
    let material = &bundle.verification_material;
    let kinds =
        [material.public_key.is_some(), material.x509_certificate_chain.is_some(), material.certificate.is_some()];
    if kinds.iter().filter(|k| **k).count() != 1 {
        return Err(invalid("the bundle does not say by exactly one of key, chain and certificate who signed"));
    }
    let signer = match trust {
        Trust::Key(key) => {
            let Some(named) = &material.public_key else {
                return Err(invalid("the bundle was signed with a certificate and a key is trusted"));
            };
            let hint = key.hint();
            if named.hint.as_ref().is_some_and(|h| !h.is_empty() && *h != hint) {
                return Err(invalid("the bundle was signed with another key"));
            }
            if !key.verify(&signed, &signature) {
                return Err(invalid("the signature is not this key's over what the bundle holds"));
            }
            Signer { kind: "key", name: hint, issuer: None, certificate_sha256: None, logged_at: None }
        }
        Trust::Certificates(trusted) => {
            let Some(chain) = &material.x509_certificate_chain else {
                return Err(invalid("the bundle holds no chain of certificates and a root is trusted"));
            };
            certified(chain, trusted, &signed, &signature).map_err(invalid)?
        }
        Trust::Identity(identity, root) => {
            if material.public_key.is_some() {
                return Err(invalid("the bundle was signed with a key and an identity is trusted"));
            }
            let (payload, signature) = (&payload[..], &signature[..]);
            let (leaf, logged) = sigstore::verify(&bundle, payload, signature, identity, root)?;
            Signer {
                kind: "identity",
                name: identity.subject.clone(),
                issuer: Some(identity.issuer.clone()),
                certificate_sha256: Some(hex(&Sha256::digest(&leaf.whole))),
                logged_at: Some(time::format(logged)),
            }
        }
    };
    // Only now does the payload count as anybody's word.
    let manifest = Manifest::parse(&payload).map_err(|what| match what.contains("not supported") {
        true => (SIGNATURE_UNSUPPORTED, what),
        false => invalid(what),
    })?;
    Ok((signer, manifest))
}

/// Who signed with a certificate under a trusted root. It is looked at as of the moment that it became valid, for
/// nothing in the bundle proves another one; that moment must have come.
fn certified(
    chain: &bundle::Chain,
    trusted: &[Cert],
    signed: &[u8],
    signature: &[u8],
) -> std::result::Result<Signer, &'static str> {
    if chain.certificates.len() > chain::CERTIFICATES_MAX {
        return Err("the bundle holds more certificates than any chain has");
    }
    let cert = |raw: &bundle::Raw| Cert::from_der(&bundle::unbase64(&raw.raw_bytes)?);
    let mut certs: Vec<Cert> =
        chain.certificates.iter().map(cert).collect::<Option<_>>().ok_or("a certificate cannot be read")?;
    if certs.is_empty() {
        return Err("the bundle holds no certificate");
    }
    let leaf = certs.remove(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    if leaf.validity().0 > now {
        return Err("the signer's certificate is not valid yet");
    }
    let (roots, between): (Vec<Cert>, Vec<Cert>) = trusted.iter().cloned().partition(Cert::is_root);
    certs.extend(between);
    if chain::path(&leaf, &certs, &roots, leaf.validity().0).is_none() {
        return Err("no path leads from the signer's certificate to a trusted root");
    }
    if !leaf.signs() {
        return Err("the signer's certificate is not for signing");
    }
    let key = leaf.key().ok_or("the signer's certificate is of no ECDSA key on P-256 or P-384")?;
    if !key.verify(signed, signature) {
        return Err("the signature is not the certificate's over what the bundle holds");
    }
    let name = |n: &x509_cert::name::Name| shown_long(&n.to_string());
    let parsed = leaf.parsed.tbs_certificate();
    Ok(Signer {
        kind: "certificate",
        name: name(parsed.subject()),
        issuer: Some(name(parsed.issuer())),
        certificate_sha256: Some(hex(&Sha256::digest(&leaf.whole))),
        logged_at: None,
    })
}

fn shown_long(text: &str) -> String {
    let mut s: String = text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        s.push('…');
    }
    s
}

/// Whether the files are those that were signed, no more and no fewer.
fn compare(
    path: &Path,
    demand: &Demand<'_>,
    manifest: &Manifest,
    findings: &mut Findings,
    seen: &mut dyn FnMut(u64, u64),
) -> Result<bool> {
    let mut holds = true;
    let mut add = |rule, file: &str, what: &str| {
        holds = false;
        findings.add(New { rule, severity: Severity::High, file, what: what.into(), offset: None, name: None });
    };
    let alone = !path.is_dir();
    if alone != manifest.files.iter().any(|f| f.0 == ".") {
        let what = match alone {
            true => "a folder was signed and one file is looked at: name the folder",
            false => "one file was signed and a folder is looked at: name the file",
        };
        add(SIGNATURE_INVALID, &demand.signature.display().to_string(), what);
        return Ok(false);
    }
    let mut ignored: Vec<String> = IGNORED.map(str::to_string).to_vec();
    ignored.extend(manifest.ignored.iter().cloned());
    ignored.extend(inside(path, demand.signature));
    ignored.extend(demand.ignored.iter().filter_map(|p| normal(p)));
    // What was signed counts wherever it lies.
    ignored.retain(|i| !manifest.files.iter().any(|(name, _)| under(name, i)));
    let mut listing = Listing::of(path, &ignored)?;
    let signed: BTreeMap<&str, &[u8; 32]> = manifest.files.iter().map(|(name, sha)| (&**name, sha)).collect();
    let named = |entry: &crate::manifest::Entry| if alone { ".".to_string() } else { entry.path.clone() };
    for (odd, why) in &listing.odd {
        add(SIGNED_EXTRA, &shown_long(odd), &format!("{why}: the signature does not cover it"));
    }
    let present: HashSet<String> = listing.entries.iter().map(named).collect();
    for name in signed.keys().filter(|name| !present.contains(**name)) {
        add(SIGNED_MISSING, &shown_long(name), "the file was signed and is not there");
    }
    for entry in listing.entries.iter().filter(|e| !signed.contains_key(&*named(e))) {
        add(SIGNED_EXTRA, &shown_long(&entry.path), "the signature does not cover the file");
    }
    listing.entries.retain(|e| signed.contains_key(&*named(e)));
    let total = listing.bytes();
    let digests = listing.digests(&mut |done| seen(done, total.max(done)))?;
    for (entry, digest) in listing.entries.iter().zip(&digests) {
        if signed.get(&*named(entry)) != Some(&digest) {
            add(SIGNED_CHANGED, &shown_long(&entry.path), "the file is not the one that was signed");
        }
    }
    Ok(holds)
}

/// The path of `file` inside of `folder`, where it lies in it.
fn inside(folder: &Path, file: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    // The signature may not be there yet, or be a link.
    let parent = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let full = parent.canonicalize().ok()?.join(file.file_name()?);
    let parts = full.strip_prefix(folder).ok()?.components().map(|c| c.as_os_str().to_str());
    Some(parts.collect::<Option<Vec<_>>>()?.join("/"))
}

/// Reads a text that trust is read from: a key, certificates, a trust root.
///
/// Errors: a file that cannot be read or is longer than any of them.
pub fn read_trust(path: &Path) -> Result<String> {
    const LONGEST: u64 = 4 << 20;
    let mut text = String::new();
    let file = File::open(path).map_err(|e| Error::io(path, &e))?;
    file.take(LONGEST).read_to_string(&mut text).map_err(|e| Error::io(path, &e))?;
    Ok(text)
}
