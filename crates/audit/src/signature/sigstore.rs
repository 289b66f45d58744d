//! Signatures without keys of one's own (Sigstore): a certificate that was valid for minutes, an identity in it, and a
//! public log's word that the signature was made in them. <https://github.com/sigstore/architecture-docs>
//!
//! Owns the trust root and all checks against it: the certificate's path, its entry in a certificate log, the entry of
//! the signature in the log, the identity. All of it is given: nobody is asked. Entries without an integrated time, as
//! logs of the second generation make them, are refused by name, for their time comes from elsewhere.
use super::{
    Refusal,
    bundle::{Bundle, LogEntry, Proof, base64, unbase64},
    chain::{self, Cert},
    der,
    keys::PublicKey,
};
use crate::{
    bom::time,
    findings::{SIGNATURE_INVALID, SIGNATURE_UNSUPPORTED},
    manifest::{Sha, hex, unhex},
};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use x509_cert::{
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// Most entries of a bundle that are looked at.
const ENTRIES_MAX: usize = 8;
/// Extensions of Fulcio's certificates: the identity provider, as text in DER and, older, as it is; names of users.
const ISSUER: &str = "1.3.6.1.4.1.57264.1.8";
const ISSUER_OLD: &str = "1.3.6.1.4.1.57264.1.1";
const USER_NAME: &str = "1.3.6.1.4.1.57264.1.7";
/// Signed certificate timestamps inside of a certificate (RFC 6962).
const TIMESTAMPS: &str = "1.3.6.1.4.1.11129.2.4.2";

/// Whom an identity provider knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// An address of mail, of a workflow, a user's name.
    pub subject: String,
    /// The identity provider.
    pub issuer: String,
}

/// A key of a log.
#[derive(Debug)]
struct Log {
    id: Sha,
    key: PublicKey,
    from: u64,
    to: u64,
}

/// An authority that certifies identities.
#[derive(Debug)]
struct Authority {
    /// The last one is the root.
    chain: Vec<Cert>,
    from: u64,
    to: u64,
}

/// Whom a Sigstore's verifiers trust: its authorities and logs.
#[derive(Debug)]
pub struct TrustRoot {
    authorities: Vec<Authority>,
    logs: Vec<Log>,
    certificate_logs: Vec<Log>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRoot {
    #[serde(default)]
    tlogs: Vec<RawLog>,
    #[serde(default)]
    ctlogs: Vec<RawLog>,
    #[serde(default)]
    certificate_authorities: Vec<RawAuthority>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawLog {
    public_key: RawKey,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawKey {
    raw_bytes: String,
    #[serde(default)]
    valid_for: Option<Period>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawAuthority {
    cert_chain: super::bundle::Chain,
    #[serde(default)]
    valid_for: Option<Period>,
}

#[derive(Deserialize)]
struct Period {
    #[serde(default)]
    start: Option<String>,
    #[serde(default)]
    end: Option<String>,
}

impl Period {
    /// From when to when, in seconds since 1970.
    fn read(period: Option<&Period>) -> Option<(u64, u64)> {
        let moment = |text: &str| {
            let whole = text.split_once('.').map_or(text.to_string(), |(whole, _)| format!("{whole}Z"));
            time::parse(&whole)
        };
        let Some(period) = period else { return Some((0, u64::MAX)) };
        let from = period.start.as_deref().map_or(Some(0), moment)?;
        let to = period.end.as_deref().map_or(Some(u64::MAX), moment)?;
        Some((from, to))
    }
}

impl TrustRoot {
    /// Reads a `trusted_root.json`, or the part of that name in a client's configuration. Logs whose keys are of a kind
    /// that is not known are passed over: nothing is verified by them.
    pub fn parse(text: &str) -> Result<TrustRoot, &'static str> {
        const NONE: &str = "no trust root of Sigstore (trusted_root.json)";
        let value: Value = serde_json::from_str(text).map_err(|_| NONE)?;
        let value = value.get("trustedRoot").cloned().unwrap_or(value);
        let raw: RawRoot = serde_json::from_value(value).map_err(|_| NONE)?;
        let log = |raw: &RawLog| {
            let spki = unbase64(&raw.public_key.raw_bytes)?;
            let (from, to) = Period::read(raw.public_key.valid_for.as_ref())?;
            Some(Log { id: Sha256::digest(&spki).into(), key: PublicKey::from_der(&spki)?, from, to })
        };
        let authority = |raw: &RawAuthority| {
            let certs = raw.cert_chain.certificates.iter().take(chain::CERTIFICATES_MAX);
            let chain = certs.map(|c| Cert::from_der(&unbase64(&c.raw_bytes)?)).collect::<Option<Vec<_>>>()?;
            let (from, to) = Period::read(raw.valid_for.as_ref())?;
            Some(Authority { chain, from, to })
        };
        let root = TrustRoot {
            authorities: raw.certificate_authorities.iter().filter_map(authority).collect(),
            logs: raw.tlogs.iter().filter_map(log).collect(),
            certificate_logs: raw.ctlogs.iter().filter_map(log).collect(),
        };
        if root.authorities.is_empty() || root.logs.is_empty() || root.certificate_logs.is_empty() {
            return Err("the trust root names no authority, log or certificate log whose keys are known");
        }
        Ok(root)
    }
}

/// Who signed `payload`: the certificate, and when a log entered it.
pub(super) fn verify(
    bundle: &Bundle,
    payload: &[u8],
    signature: &[u8],
    identity: &Identity,
    root: &TrustRoot,
) -> Result<(Cert, u64), Refusal> {
    let invalid = |what| (SIGNATURE_INVALID, what);
    let material = &bundle.verification_material;
    let first = || material.x509_certificate_chain.as_ref()?.certificates.first();
    let raw = material.certificate.as_ref().or_else(first).ok_or(invalid("the bundle holds no certificate"))?;
    let leaf = unbase64(&raw.raw_bytes).and_then(|bytes| Cert::from_der(&bytes));
    let leaf = leaf.ok_or(invalid("the signer's certificate cannot be read"))?;
    let entries = material.tlog_entries.as_deref().unwrap_or_default();
    if entries.is_empty() || entries.len() > ENTRIES_MAX {
        return Err(invalid("the bundle holds no entry of a log, or too many"));
    }
    let mut logged = Err(invalid("the bundle holds no entry of a log"));
    for entry in entries {
        logged = entered(entry, payload, signature, &leaf, root);
        if logged.is_ok() {
            break;
        }
    }
    let logged = logged?;
    let issuer = root
        .authorities
        .iter()
        .filter(|a| (a.from..=a.to).contains(&logged))
        .find_map(|a| {
            let (last, between) = a.chain.split_last()?;
            chain::path(&leaf, between, std::slice::from_ref(last), logged)
        })
        .ok_or(invalid("no path led from the signer's certificate to a trusted authority when the log entered it"))?;
    if !leaf.signs_code() {
        return Err(invalid("the signer's certificate is not for signing code"));
    }
    if !in_certificate_log(&leaf, issuer, root) {
        return Err(invalid("no trusted certificate log vouches for the signer's certificate"));
    }
    if !names(&leaf).contains(&identity.subject) {
        return Err(invalid("the signer's certificate is of another identity"));
    }
    if provider(&leaf).as_deref() != Some(&identity.issuer) {
        return Err(invalid("the signer's identity is another provider's"));
    }
    let key = leaf.key().ok_or(invalid("the signer's certificate is of no ECDSA key on P-256 or P-384"))?;
    if !key.verify(&super::pre_authentication(payload), signature) {
        return Err(invalid("the signature is not the certificate's over what the bundle holds"));
    }
    Ok((leaf, logged))
}

/// When a trusted log entered this signature by this certificate.
fn entered(entry: &LogEntry, payload: &[u8], signature: &[u8], leaf: &Cert, root: &TrustRoot) -> Result<u64, Refusal> {
    let invalid = |what| (SIGNATURE_INVALID, what);
    if (&*entry.kind_version.kind, &*entry.kind_version.version) != ("dsse", "0.0.1") {
        return Err((SIGNATURE_UNSUPPORTED, "the log's entry is of a kind that is not supported: only dsse 0.0.1 is"));
    }
    let (Some(promise), 1..) = (&entry.inclusion_promise, entry.integrated_time) else {
        let what = "the log gives no integrated time, and timestamps of other authorities are not supported";
        return Err((SIGNATURE_UNSUPPORTED, what));
    };
    let body = unbase64(&entry.canonicalized_body).ok_or(invalid("the log's entry is no base64"))?;
    let id = unbase64(&entry.log_id.key_id).ok_or(invalid("the log's name is no base64"))?;
    let time = entry.integrated_time;
    let log = root.logs.iter().find(|l| l.id[..] == id[..] && (l.from..=l.to).contains(&time));
    let log = log.ok_or(invalid("the signature was entered in a log that is not trusted"))?;
    // RFC 8785: sorted keys, no spaces; nothing in it needs an escape.
    let promised = format!(
        r#"{{"body":"{}","integratedTime":{time},"logID":"{}","logIndex":{}}}"#,
        base64(&body),
        hex(&id),
        entry.log_index
    );
    let word = unbase64(&promise.signed_entry_timestamp);
    if !word.is_some_and(|word| log.key.verify(promised.as_bytes(), &word)) {
        return Err(invalid("the log's word on its entry does not hold"));
    }
    let proof = entry.inclusion_proof.as_ref().ok_or(invalid("the log's entry has no proof that it was included"))?;
    if !included(&body, proof, log) {
        return Err(invalid("the proof that the log includes its entry does not hold"));
    }
    if !is_about(&body, payload, signature, leaf) {
        return Err(invalid("the log's entry is about another signature"));
    }
    Ok(time)
}

/// Whether the log's tree, as it signed it, holds `body` (RFC 6962, section 2.1.1).
fn included(body: &[u8], proof: &Proof, log: &Log) -> bool {
    let Some(claimed) = unbase64(&proof.root_hash) else { return false };
    if proof.log_index >= proof.tree_size || proof.hashes.len() > 64 {
        return false;
    }
    let mut hash: Sha = Sha256::new().chain_update([0]).chain_update(body).finalize().into();
    let pair = |left: &[u8], right: &[u8]| -> Sha {
        Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
    };
    let (mut at, mut last) = (proof.log_index, proof.tree_size - 1);
    for sibling in &proof.hashes {
        let Some(sibling) = unbase64(sibling).filter(|s| s.len() == 32) else { return false };
        if last == 0 {
            return false;
        }
        if at % 2 == 1 || at == last {
            hash = pair(&sibling, &hash);
            while at % 2 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = pair(&hash, &sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    let note = proof.checkpoint.as_ref().map_or("", |c| &*c.envelope);
    last == 0 && claimed == hash && is_signed_note(note, &hash, proof.tree_size, log)
}

/// Whether a checkpoint says that the tree of `size` has the digest `root`, and the log signed it.
fn is_signed_note(note: &str, root: &Sha, size: u64, log: &Log) -> bool {
    let Some((text, signatures)) = note.split_once("\n\n") else { return false };
    let mut lines = text.lines();
    let (Some(_origin), Some(says), Some(digest)) = (lines.next(), lines.next(), lines.next()) else { return false };
    if says.parse() != Ok(size) || unbase64(digest).as_deref() != Some(&root[..]) {
        return false;
    }
    let signed = format!("{text}\n");
    signatures.lines().take(ENTRIES_MAX).any(|line| {
        let word = line.strip_prefix("\u{2014} ").and_then(|l| l.rsplit_once(' ')).and_then(|(_, w)| unbase64(w));
        // In front stands the beginning of the log's name.
        word.is_some_and(|w| {
            w.split_at_checked(4)
                .is_some_and(|(hint, word)| log.id.starts_with(hint) && log.key.verify(signed.as_bytes(), word))
        })
    })
}

/// Whether the body of an entry is about this payload, signature and certificate.
fn is_about(body: &[u8], payload: &[u8], signature: &[u8], leaf: &Cert) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        api_version: String,
        kind: String,
        spec: Spec,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        payload_hash: Hash,
        signatures: Vec<Entered>,
    }
    #[derive(Deserialize)]
    struct Hash {
        algorithm: String,
        value: String,
    }
    #[derive(Deserialize)]
    struct Entered {
        signature: String,
        verifier: String,
    }
    let Ok(body) = serde_json::from_slice::<Body>(body) else { return false };
    let [only] = &body.spec.signatures[..] else { return false };
    let verifier = unbase64(&only.verifier).and_then(|pem| String::from_utf8(pem).ok());
    let certs = verifier.and_then(|pem| Cert::from_pem(&pem).ok());
    let same = certs.is_some_and(|c| matches!(&c[..], [one] if one.whole == leaf.whole));
    let hash = &body.spec.payload_hash;
    (&*body.api_version, &*body.kind, &*hash.algorithm) == ("0.0.1", "dsse", "sha256")
        && unhex(&hash.value) == Some(Sha256::digest(payload).into())
        && unbase64(&only.signature).as_deref() == Some(signature)
        && same
}

/// Whether a trusted certificate log promised to enter the certificate: it signed what the certificate was before the
/// promise was put in (RFC 6962, section 3.2).
fn in_certificate_log(leaf: &Cert, issuer: &Cert, root: &TrustRoot) -> bool {
    let look = || -> Option<bool> {
        let list = der::only(leaf.extension(TIMESTAMPS)?, der::OCTETS)?;
        let before = without_timestamps(&leaf.signed)?;
        let issuer = Sha256::digest(issuer.spki()?);
        let mut list = Bytes(list);
        let mut all = Bytes(list.prefixed(2)?);
        while !all.0.is_empty() {
            let mut one = Bytes(all.prefixed(2)?);
            let (version, id, time) = (one.take(1)?, one.take(32)?, one.take(8)?);
            let extensions = one.prefixed(2)?;
            let (algorithm, signature) = (one.take(2)?, one.prefixed(2)?);
            let moment = u64::from_be_bytes(time.try_into().ok()?) / 1000;
            let log = root.certificate_logs.iter().find(|l| l.id[..] == *id && (l.from..=l.to).contains(&moment));
            // SHA-256 with ECDSA.
            let (Some(log), [4, 3], [0]) = (log, algorithm, version) else { continue };
            let mut signed = vec![0, 0];
            signed.extend_from_slice(time);
            signed.extend_from_slice(&[0, 1]);
            signed.extend_from_slice(&issuer);
            signed.extend_from_slice(before.len().to_be_bytes().last_chunk::<3>()?);
            signed.extend_from_slice(&before);
            signed.extend_from_slice(&u16::try_from(extensions.len()).ok()?.to_be_bytes());
            signed.extend_from_slice(extensions);
            if log.key.verify_hash(&Sha256::digest(&signed), signature) {
                return Some(true);
            }
        }
        Some(false)
    };
    look().unwrap_or(false)
}

/// Bytes that are taken from their beginning.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    /// What a length of `digits` bytes stands in front of.
    fn prefixed(&mut self, digits: usize) -> Option<&'a [u8]> {
        let length = self.take(digits)?.iter().fold(0usize, |n, &d| n << 8 | usize::from(d));
        self.take(length)
    }
}

/// The signed part of a certificate without the promises of logs.
fn without_timestamps(signed: &[u8]) -> Option<Vec<u8>> {
    let oid = der::write(6, x509_cert::der::oid::ObjectIdentifier::new(TIMESTAMPS).ok()?.as_bytes());
    let parts = der::all(der::only(signed, der::SEQUENCE)?)?;
    let (extensions, parts) = parts.split_last()?;
    let list = der::all(der::only(der::only(extensions.whole, 0xa3)?, der::SEQUENCE)?)?;
    let mut kept = Vec::new();
    for e in &list {
        if !e.content.starts_with(&oid) {
            kept.extend_from_slice(e.whole);
        }
    }
    let mut content: Vec<u8> = parts.iter().flat_map(|p| p.whole.to_vec()).collect();
    content.extend(der::write(0xa3, &der::write(der::SEQUENCE, &kept)));
    Some(der::write(der::SEQUENCE, &content))
}

/// The identities in a certificate.
fn names(leaf: &Cert) -> Vec<String> {
    let names = leaf.extension("2.5.29.17").and_then(|e| SubjectAltName::from_der(e).ok());
    let one = |name: &GeneralName| match name {
        GeneralName::Rfc822Name(mail) => Some(mail.to_string()),
        GeneralName::UniformResourceIdentifier(address) => Some(address.to_string()),
        GeneralName::OtherName(other) if other.type_id.to_string() == USER_NAME => {
            other.value.decode_as::<String>().ok()
        }
        _ => None,
    };
    names.map_or_else(Vec::new, |n| n.0.iter().filter_map(one).collect())
}

/// The identity provider in a certificate.
fn provider(leaf: &Cert) -> Option<String> {
    if let Some(text) = leaf.extension(ISSUER) {
        return String::from_utf8(der::only(text, 12)?.to_vec()).ok();
    }
    String::from_utf8(leaf.extension(ISSUER_OLD)?.to_vec()).ok()
}
