//! Keys that sign models: ECDSA on P-256 and P-384, from PEM files.
//!
//! Owns reading them, signing and verifying. A curve has its hash: SHA-256 for P-256, SHA-384 for P-384, whatever a
//! bundle says.
use crate::manifest::hex;
use p256::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePublicKey, LineEnding};
use sha2::{Digest, Sha256, Sha384};

/// Not a public key that is known.
const PUBLIC: &str = "no public key of ECDSA P-256 or P-384 in PEM (BEGIN PUBLIC KEY)";
/// Not a private key that is known.
const PRIVATE: &str = "no private key of ECDSA P-256 or P-384 in PEM (BEGIN PRIVATE KEY or BEGIN EC PRIVATE KEY)";
/// A key that only its password opens.
const ENCRYPTED: &str = "the key is encrypted: openssl pkcs8 -in KEY -out PLAIN opens it";

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// On P-256.
    P256(p256::ecdsa::VerifyingKey),
    /// On P-384.
    P384(p384::ecdsa::VerifyingKey),
}

impl PublicKey {
    /// The key in a PEM text.
    pub fn from_pem(text: &str) -> Result<PublicKey, &'static str> {
        let block = block(text, "PUBLIC KEY").ok_or(PUBLIC)?;
        let p256 = p256::ecdsa::VerifyingKey::from_public_key_pem(&block).map(PublicKey::P256);
        p256.or_else(|_| p384::ecdsa::VerifyingKey::from_public_key_pem(&block).map(PublicKey::P384))
            .map_err(|_| PUBLIC)
    }

    /// The key in a SubjectPublicKeyInfo.
    pub(super) fn from_der(spki: &[u8]) -> Option<PublicKey> {
        let p256 = p256::ecdsa::VerifyingKey::from_public_key_der(spki).map(PublicKey::P256);
        p256.or_else(|_| p384::ecdsa::VerifyingKey::from_public_key_der(spki).map(PublicKey::P384)).ok()
    }

    /// Whether `signature` (DER) is this key's over `message`, hashed as the curve has it.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            PublicKey::P256(_) => self.verify_hash(&Sha256::digest(message), signature),
            PublicKey::P384(_) => self.verify_hash(&Sha384::digest(message), signature),
        }
    }

    /// The same of a hash.
    pub(super) fn verify_hash(&self, hash: &[u8], signature: &[u8]) -> bool {
        use p256::ecdsa::signature::hazmat::PrehashVerifier;
        match self {
            PublicKey::P256(key) => p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(hash, &signature).is_ok()),
            PublicKey::P384(key) => p384::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(hash, &signature).is_ok()),
        }
    }

    /// What bundles call it by: SHA-256 of its PEM text.
    pub fn hint(&self) -> String {
        let pem = match self {
            PublicKey::P256(key) => key.to_public_key_pem(LineEnding::LF),
            PublicKey::P384(key) => key.to_public_key_pem(LineEnding::LF),
        };
        hex(&Sha256::digest(pem.unwrap_or_default()))
    }
}

/// A private key.
pub enum SecretKey {
    /// On P-256.
    P256(p256::ecdsa::SigningKey),
    /// On P-384.
    P384(p384::ecdsa::SigningKey),
}

impl SecretKey {
    /// The key in a PEM text: PKCS #8, or SEC 1 as `openssl ecparam -genkey` writes it.
    pub fn from_pem(text: &str) -> Result<SecretKey, &'static str> {
        if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
            return Err(ENCRYPTED);
        }
        if let Some(block) = block(text, "PRIVATE KEY") {
            let p256 = p256::ecdsa::SigningKey::from_pkcs8_pem(&block).map(SecretKey::P256);
            return p256
                .or_else(|_| p384::ecdsa::SigningKey::from_pkcs8_pem(&block).map(SecretKey::P384))
                .map_err(|_| PRIVATE);
        }
        let block = block(text, "EC PRIVATE KEY").ok_or(PRIVATE)?;
        let p256 = p256::SecretKey::from_sec1_pem(&block).map(|key| SecretKey::P256(key.into()));
        p256.or_else(|_| p384::SecretKey::from_sec1_pem(&block).map(|key| SecretKey::P384(key.into())))
            .map_err(|_| PRIVATE)
    }

    /// The signature over `message` in DER. The same message has the same signature (RFC 6979).
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        use p256::ecdsa::signature::Signer;
        match self {
            SecretKey::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
            SecretKey::P384(key) => {
                let signature: p384::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
        }
    }

    /// Its public key.
    pub fn public(&self) -> PublicKey {
        match self {
            SecretKey::P256(key) => PublicKey::P256(*key.verifying_key()),
            SecretKey::P384(key) => PublicKey::P384(*key.verifying_key()),
        }
    }
}

/// The first PEM block of a kind, which may have others in front.
fn block(text: &str, kind: &str) -> Option<String> {
    let (begin, end) = (format!("-----BEGIN {kind}-----"), format!("-----END {kind}-----"));
    let from = text.find(&begin)?;
    let rest = text.get(from..)?;
    let to = rest.find(&end)? + end.len();
    Some(format!("{}\n", rest.get(..to)?.replace("\r\n", "\n")))
}
