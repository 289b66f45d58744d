//! Certificates: from the one that signed to a root that is trusted (RFC 5280, of it what signatures of models need).
//!
//! Owns building and checking the path. Keys are ECDSA on P-256 and P-384; certificates may also be signed with RSA.
//! What limits a certificate in a way that is not understood here makes it no part of a path.
use super::{der, keys::PublicKey};
use rsa::{Pkcs1v15Sign, pkcs8::DecodePublicKey};
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_cert::{
    Certificate,
    der::{Decode, Encode, oid::ObjectIdentifier},
    ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage},
};

/// Most certificates of a path, and signatures that are checked in search of one.
const PATH_MAX: usize = 8;
const CHECKS_MAX: usize = 64;
/// Most certificates that a bundle or file may hold.
pub const CERTIFICATES_MAX: usize = 64;
/// The use that certificates for signing code have.
pub const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
/// Any use.
const ANY_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
/// Extensions that are understood, or bind nothing that is looked at: constraints, uses, names, identifiers.
const UNDERSTOOD: [&str; 6] = ["2.5.29.19", "2.5.29.15", "2.5.29.37", "2.5.29.17", "2.5.29.35", "2.5.29.14"];
/// Limits on the names below a certificate.
const NAME_CONSTRAINTS: &str = "2.5.29.30";

/// A certificate and its bytes.
#[derive(Clone, Debug)]
pub struct Cert {
    /// What it says.
    pub parsed: Certificate,
    /// All of it.
    pub whole: Vec<u8>,
    /// The part that is signed.
    pub signed: Vec<u8>,
}

impl Cert {
    /// From its DER bytes.
    pub fn from_der(bytes: &[u8]) -> Option<Cert> {
        let parsed = Certificate::from_der(bytes).ok()?;
        let (signed, _) = der::next(der::only(bytes, der::SEQUENCE)?)?;
        Some(Cert { parsed, whole: bytes.to_vec(), signed: signed.whole.to_vec() })
    }

    /// All of a PEM text.
    pub fn from_pem(text: &str) -> Result<Vec<Cert>, &'static str> {
        const NONE: &str = "no certificates in PEM (BEGIN CERTIFICATE)";
        let parsed = Certificate::load_pem_chain(text.as_bytes()).map_err(|_| NONE)?;
        if parsed.is_empty() || parsed.len() > CERTIFICATES_MAX {
            return Err(NONE);
        }
        let all = parsed.iter().map(|c| Cert::from_der(&c.to_der().ok()?)).collect::<Option<Vec<_>>>();
        all.ok_or(NONE)
    }

    /// The key that it certifies, where that is one that signs models.
    pub fn key(&self) -> Option<PublicKey> {
        PublicKey::from_der(&self.spki()?)
    }

    /// The key as it is written.
    pub fn spki(&self) -> Option<Vec<u8>> {
        self.parsed.tbs_certificate().subject_public_key_info().to_der().ok()
    }

    /// From when to when it is valid, in seconds since 1970.
    pub fn validity(&self) -> (u64, u64) {
        let v = self.parsed.tbs_certificate().validity();
        (v.not_before.to_unix_duration().as_secs(), v.not_after.to_unix_duration().as_secs())
    }

    /// The content of the extension `oid`; none if it is there twice.
    pub fn extension(&self, oid: &str) -> Option<&[u8]> {
        let all = self.parsed.tbs_certificate().extensions()?;
        let mut found = all.iter().filter(|e| e.extn_id.to_string() == oid);
        let one = found.next()?;
        found.next().is_none().then(|| one.extn_value.as_bytes())
    }

    fn get<'a, T: Decode<'a> + x509_cert::der::oid::AssociatedOid>(&'a self) -> Result<Option<T>, ()> {
        Ok(self.parsed.tbs_certificate().get_extension::<T>().map_err(|_| ())?.map(|(_, value)| value))
    }

    /// Whether it may be used to sign models with: its key usage or its extended one says so, and neither says otherwise
    /// (RFC 5280, 4.2.1.12: a certificate with both is for what both allow).
    pub fn signs(&self) -> bool {
        let (Ok(usage), Ok(purposes)) = (self.get::<KeyUsage>(), self.get::<ExtendedKeyUsage>()) else { return false };
        let usage = usage.map(|u| u.digital_signature());
        let purpose = purposes.map(|p| p.0.iter().any(|oid| [CODE_SIGNING, ANY_PURPOSE].contains(oid)));
        usage != Some(false) && purpose != Some(false) && (usage.is_some() || purpose.is_some())
    }

    /// Whether its extended key usage is signing code.
    pub fn signs_code(&self) -> bool {
        self.get::<ExtendedKeyUsage>().ok().flatten().is_some_and(|u| u.0.contains(&CODE_SIGNING))
    }

    /// Whether nothing in it is beyond what is understood.
    fn understood(&self) -> bool {
        let all = self.parsed.tbs_certificate().extensions();
        all.into_iter().flatten().all(|e| {
            let oid = e.extn_id.to_string();
            oid != NAME_CONSTRAINTS && (!e.critical || UNDERSTOOD.contains(&&*oid))
        })
    }

    /// Whether it may certify others with `below` authorities between.
    fn certifies(&self, below: usize) -> bool {
        let Ok(Some(constraints)) = self.get::<BasicConstraints>() else { return false };
        let usage = match self.get::<KeyUsage>() {
            Ok(usage) => usage.is_none_or(|u| u.key_cert_sign()),
            Err(()) => false,
        };
        let short = constraints.path_len_constraint.is_none_or(|max| below <= usize::from(max));
        constraints.ca && usage && short && self.understood()
    }

    fn is_self_issued(&self) -> bool {
        self.parsed.tbs_certificate().issuer() == self.parsed.tbs_certificate().subject()
    }

    /// Whether `issuer`'s key signed it.
    fn is_signed_by(&self, issuer: &Cert) -> bool {
        let algorithm = self.parsed.signature_algorithm();
        // What is signed names the algorithm, too: only then is it the signer's word.
        let (Some(signature), true) =
            (self.parsed.signature().as_bytes(), algorithm == self.parsed.tbs_certificate().signature())
        else {
            return false;
        };
        let Some(spki) = issuer.spki() else { return false };
        let hash = |n: &str| match n {
            "256" => Sha256::digest(&self.signed).to_vec(),
            "384" => Sha384::digest(&self.signed).to_vec(),
            _ => Sha512::digest(&self.signed).to_vec(),
        };
        let ecdsa = |n: &str| PublicKey::from_der(&spki).is_some_and(|key| key.verify_hash(&hash(n), signature));
        let rsa = |n: &str| {
            let padding = match n {
                "256" => Pkcs1v15Sign::new::<Sha256>(),
                "384" => Pkcs1v15Sign::new::<Sha384>(),
                _ => Pkcs1v15Sign::new::<Sha512>(),
            };
            let key = rsa::PublicKey::from_public_key_der(&spki);
            key.is_ok_and(|key| key.verify(padding, &hash(n), signature).is_ok())
        };
        match &*algorithm.oid.to_string() {
            "1.2.840.10045.4.3.2" => ecdsa("256"),
            "1.2.840.10045.4.3.3" => ecdsa("384"),
            "1.2.840.10045.4.3.4" => ecdsa("512"),
            "1.2.840.113549.1.1.11" => rsa("256"),
            "1.2.840.113549.1.1.12" => rsa("384"),
            "1.2.840.113549.1.1.13" => rsa("512"),
            _ => false,
        }
    }

    /// Whether it is a root: signed by itself.
    pub fn is_root(&self) -> bool {
        self.is_self_issued() && self.is_signed_by(self)
    }
}

/// The certificate that certifies `leaf` at the end of a path over `others` to one of `roots`: the issuer of the leaf.
/// All of the path were valid at `time`.
pub fn path<'a>(leaf: &Cert, others: &'a [Cert], roots: &'a [Cert], time: u64) -> Option<&'a Cert> {
    if !leaf.understood() || !valid(leaf, time) {
        return None;
    }
    let mut checks = 0;
    climb(leaf, others, roots, time, 0, &mut checks)
}

fn valid(cert: &Cert, time: u64) -> bool {
    let (from, to) = cert.validity();
    (from..=to).contains(&time)
}

/// The issuer of `cert`, if a path leads from it to a root.
fn climb<'a>(
    cert: &Cert,
    others: &'a [Cert],
    roots: &'a [Cert],
    time: u64,
    below: usize,
    checks: &mut usize,
) -> Option<&'a Cert> {
    if below >= PATH_MAX {
        return None;
    }
    let named = |c: &&Cert| c.parsed.tbs_certificate().subject() == cert.parsed.tbs_certificate().issuer();
    for (issuer, root) in roots.iter().map(|r| (r, true)).chain(others.iter().map(|o| (o, false))) {
        if !named(&issuer) || !valid(issuer, time) || !issuer.certifies(below) || *checks >= CHECKS_MAX {
            continue;
        }
        *checks += 1;
        if cert.is_signed_by(issuer) && (root || climb(issuer, others, roots, time, below + 1, checks).is_some()) {
            return Some(issuer);
        }
    }
    None
}
