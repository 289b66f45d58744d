//! Certificates, logs and bundles of a test's own, in DER as RFC 5280 and RFC 6962 have it.
use base64::{Engine, engine::general_purpose::STANDARD};
use p256::{
    ecdsa::{Signature, SigningKey, signature::Signer},
    pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A key made of a number.
pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed; 32]).unwrap()
}

pub fn private_pem(key: &SigningKey) -> String {
    key.to_pkcs8_pem(LineEnding::LF).unwrap().to_string()
}

pub fn public_pem(key: &SigningKey) -> String {
    key.verifying_key().to_public_key_pem(LineEnding::LF).unwrap()
}

pub fn spki(key: &SigningKey) -> Vec<u8> {
    key.verifying_key().to_public_key_der().unwrap().as_bytes().to_vec()
}

pub fn sign(key: &SigningKey, message: &[u8]) -> Vec<u8> {
    let signature: Signature = key.sign(message);
    signature.to_der().as_bytes().to_vec()
}

pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub fn unbase64(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A value of DER.
pub fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut bytes = vec![tag];
    match content.len() {
        n @ 0..128 => bytes.push(n as u8),
        n @ 128..256 => bytes.extend([0x81, n as u8]),
        n => bytes.extend([0x82, (n >> 8) as u8, n as u8]),
    }
    bytes.extend(content);
    bytes
}

const ECDSA_SHA256: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];

/// What a certificate says.
#[derive(Clone)]
pub struct Said {
    pub subject: &'static str,
    pub issuer: &'static str,
    /// `YYMMDDhhmmssZ`.
    pub from: &'static str,
    pub to: &'static str,
    /// Extensions: object identifier, whether critical, content.
    pub extensions: Vec<(Vec<u8>, bool, Vec<u8>)>,
}

/// An object identifier's content.
pub fn oid(numbers: &[u32]) -> Vec<u8> {
    let mut bytes = vec![(numbers[0] * 40 + numbers[1]) as u8];
    for &n in &numbers[2..] {
        let mut digits = vec![(n & 0x7f) as u8];
        let mut rest = n >> 7;
        while rest > 0 {
            digits.push(0x80 | (rest & 0x7f) as u8);
            rest >>= 7;
        }
        bytes.extend(digits.iter().rev());
    }
    bytes
}

impl Said {
    pub fn authority(subject: &'static str, issuer: &'static str) -> Said {
        let constraints = tlv(0x30, &[&tlv(1, &[&[0xff]])]);
        let usage = vec![3, 2, 1, 0x06];
        let extensions = vec![(oid(&[2, 5, 29, 19]), true, constraints), (oid(&[2, 5, 29, 15]), true, usage)];
        Said { subject, issuer, from: "200101000000Z", to: "400101000000Z", extensions }
    }

    pub fn signer(issuer: &'static str) -> Said {
        let usage = vec![3, 2, 7, 0x80];
        let code = tlv(0x30, &[&tlv(6, &[&oid(&[1, 3, 6, 1, 5, 5, 7, 3, 3])])]);
        let extensions = vec![(oid(&[2, 5, 29, 15]), true, usage), (oid(&[2, 5, 29, 37]), false, code)];
        Said { subject: "signer", issuer, from: "260101000000Z", to: "270101000000Z", extensions }
    }

    /// The signed part.
    pub fn body(&self, key: &SigningKey) -> Vec<u8> {
        let name = |text: &str| {
            let pair = tlv(0x30, &[&tlv(6, &[&oid(&[2, 5, 4, 3])]), &tlv(12, &[text.as_bytes()])]);
            tlv(0x30, &[&tlv(0x31, &[&pair])])
        };
        let extension = |(id, critical, content): &(Vec<u8>, bool, Vec<u8>)| {
            let critical = if *critical { tlv(1, &[&[0xff]]) } else { Vec::new() };
            tlv(0x30, &[&tlv(6, &[id]), &critical, &tlv(4, &[content])])
        };
        let extensions: Vec<u8> = self.extensions.iter().flat_map(extension).collect();
        let time = tlv(0x30, &[&tlv(0x17, &[self.from.as_bytes()]), &tlv(0x17, &[self.to.as_bytes()])]);
        tlv(
            0x30,
            &[
                &tlv(0xa0, &[&[2, 1, 2]]),
                &[2, 1, 7],
                ECDSA_SHA256,
                &name(self.issuer),
                &time,
                &name(self.subject),
                &spki(key),
                &tlv(0xa3, &[&tlv(0x30, &[&extensions])]),
            ],
        )
    }

    /// The certificate of `key`, signed by `by`.
    pub fn certificate(&self, key: &SigningKey, by: &SigningKey) -> Vec<u8> {
        let body = self.body(key);
        let signature = sign(by, &body);
        tlv(0x30, &[&body, ECDSA_SHA256, &tlv(3, &[&[0], &signature])])
    }
}

pub fn pem(der: &[u8]) -> String {
    let text = base64(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|c| std::str::from_utf8(c).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// A Sigstore: an authority, a log of certificates, a log of signatures.
pub struct Sigstore {
    pub root: SigningKey,
    pub authority: SigningKey,
    pub certificates: SigningKey,
    pub log: SigningKey,
}

/// When signatures are entered: 2026-01-01T00:05:00Z.
pub const LOGGED: u64 = 1_767_225_900;

impl Sigstore {
    pub fn new() -> Sigstore {
        Sigstore { root: key(31), authority: key(32), certificates: key(33), log: key(34) }
    }

    pub fn trust_root(&self) -> Value {
        let log = |key: &SigningKey| {
            json!({ "publicKey": { "rawBytes": base64(&spki(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": { "start": "2021-01-01T00:00:00.000Z" } },
                "logId": { "keyId": base64(&Sha256::digest(spki(key))) } })
        };
        let root = Said::authority("sigstore root", "sigstore root").certificate(&self.root, &self.root);
        let between = Said::authority("sigstore", "sigstore root").certificate(&self.authority, &self.root);
        json!({ "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(&self.log)], "ctlogs": [log(&self.certificates)],
            "certificateAuthorities": [{ "certChain": { "certificates": [
                { "rawBytes": base64(&between) }, { "rawBytes": base64(&root) }] },
                "validFor": { "start": "2021-01-01T00:00:00Z" } }] })
    }

    /// A certificate for minutes, with the promise of the log of certificates.
    pub fn certificate(&self, key: &SigningKey, identity: &str, issuer: &str) -> Vec<u8> {
        let mut said = Said::signer("sigstore");
        (said.from, said.to) = ("260101000000Z", "260101001000Z");
        said.extensions.push((oid(&[2, 5, 29, 17]), true, tlv(0x30, &[&tlv(0x81, &[identity.as_bytes()])])));
        said.extensions.push((oid(&[1, 3, 6, 1, 4, 1, 57264, 1, 8]), false, tlv(12, &[issuer.as_bytes()])));
        let before = said.body(key);
        let time = ((LOGGED - 60) * 1000).to_be_bytes();
        let issuer = Sha256::digest(spki(&self.authority));
        let length = &(before.len() as u32).to_be_bytes()[1..];
        let signature =
            sign(&self.certificates, &[&[0, 0][..], &time, &[0, 1], &issuer, length, &before, &[0, 0]].concat());
        let id = Sha256::digest(spki(&self.certificates));
        let size = |n: usize| (n as u16).to_be_bytes();
        let one = [&[0][..], &id, &time, &[0, 0], &[4, 3], &size(signature.len()), &signature].concat();
        let list = [&size(one.len() + 2)[..], &size(one.len()), &one].concat();
        said.extensions.push((oid(&[1, 3, 6, 1, 4, 1, 11129, 2, 4, 2]), false, tlv(4, &[&list])));
        said.certificate(key, &self.authority)
    }

    /// The bundle of `payload`, entered as the third of five entries.
    pub fn bundle(&self, payload: &[u8], key: &SigningKey, certificate: &[u8]) -> Value {
        let kind = "application/vnd.in-toto+json";
        let signed = [format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).as_bytes(), payload].concat();
        let signature = sign(key, &signed);
        let body = json!({ "apiVersion": "0.0.1", "kind": "dsse", "spec": {
            "envelopeHash": { "algorithm": "sha256", "value": "00" },
            "payloadHash": { "algorithm": "sha256", "value": hex(&Sha256::digest(payload)) },
            "signatures": [{ "signature": base64(&signature), "verifier": base64(pem(certificate).as_bytes()) }] } });
        json!({ "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": { "certificate": { "rawBytes": base64(certificate) },
                "tlogEntries": [self.entry(body.to_string().as_bytes())], "timestampVerificationData": {} },
            "dsseEnvelope": { "payload": base64(payload), "payloadType": kind, "signatures": [{ "sig": base64(&signature) }] } })
    }

    /// The entry of `body` in the log.
    pub fn entry(&self, body: &[u8]) -> Value {
        let leaf = |b: &[u8]| Sha256::digest([&[0][..], b].concat()).to_vec();
        let node = |a: &[u8], b: &[u8]| Sha256::digest([&[1][..], a, b].concat()).to_vec();
        let others: Vec<Vec<u8>> = (0..5u8).map(|i| leaf(&[i])).collect();
        let (left, own) = (node(&others[0], &others[1]), leaf(body));
        let root = node(&node(&left, &node(&own, &others[3])), &others[4]);
        let text = format!("log.example.org - 1\n5\n{}\n", base64(&root));
        let id = Sha256::digest(spki(&self.log));
        let word = [&id[..4], &sign(&self.log, text.as_bytes())].concat();
        let promised = format!(
            "{{\"body\":\"{}\",\"integratedTime\":{LOGGED},\"logID\":\"{}\",\"logIndex\":1002}}",
            base64(body),
            hex(&id)
        );
        json!({ "logIndex": "1002", "logId": { "keyId": base64(&id) }, "kindVersion": { "kind": "dsse", "version": "0.0.1" },
            "integratedTime": LOGGED.to_string(),
            "inclusionPromise": { "signedEntryTimestamp": base64(&sign(&self.log, promised.as_bytes())) },
            "inclusionProof": { "logIndex": "2", "rootHash": base64(&root), "treeSize": "5",
                "hashes": [base64(&others[3]), base64(&left), base64(&others[4])],
                "checkpoint": { "envelope": format!("{text}\n\u{2014} log.example.org {}\n", base64(&word)) } },
            "canonicalizedBody": base64(body) })
    }
}
