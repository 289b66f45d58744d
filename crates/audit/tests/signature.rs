//! Signatures of models: whoever is trusted signed these very files, and nothing else is taken for that.
mod support;

use pondera_audit::{
    Options, audit_signed,
    findings::{Finding, Findings},
    signature::{self, Cert, Demand, Identity, PublicKey, SecretKey, Signing, Trust, TrustRoot},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{fs, path::Path};
use support::{
    Folder,
    pki::{self, Said, Sigstore, base64, key, unbase64},
    safetensors,
};

fn model(folder: &Folder) {
    folder.write("m/model.safetensors", safetensors());
    folder.write("m/config.json", "{}");
    folder.write("m/a-b", "1");
    folder.write("m/a/z", "2");
    folder.write("m/.gitattributes", "x");
    folder.write("m/.git/HEAD", "x");
}

fn signed(folder: &Folder, seed: u8, certificates: &[Cert]) -> Value {
    let secret = SecretKey::from_pem(&pki::private_pem(&key(seed))).unwrap();
    let (path, out) = (folder.join("m"), folder.join("m/model.sig"));
    let what = Signing { path: &path, out: &out, key: &secret, certificates, ignored: &[] };
    let done = signature::sign(&what, &mut |_, _| {}).unwrap();
    assert_eq!(done.files, 4);
    fs::write(out, &done.bundle).unwrap();
    serde_json::from_slice(&done.bundle).unwrap()
}

fn trusted(seed: u8) -> Trust {
    Trust::Key(PublicKey::from_pem(&pki::public_pem(&key(seed))).unwrap())
}

/// What is known of the signature alone.
struct Got {
    signature: Option<signature::Report>,
    findings: Vec<Finding>,
}

fn audit(folder: &Folder, trust: &Trust, ignored: &[String]) -> Got {
    let (path, file) = (folder.join("m"), folder.join("m/model.sig"));
    let (demand, mut findings) = (Demand { signature: &file, trust, ignored }, Findings::default());
    let report = signature::verify(&path, &demand, &mut findings, &mut |_, _| {}).unwrap();
    Got { signature: Some(report), findings: findings.finish().0 }
}

/// The rules of the findings about the signature, and whether it is verified.
fn found(folder: &Folder, trust: &Trust) -> (bool, Vec<(&'static str, String)>) {
    let report = audit(folder, trust, &[]);
    let about = report.findings.iter().filter(|f| f.rule.starts_with("sign"));
    (report.signature.unwrap().verified, about.map(|f| (f.rule, f.file.clone())).collect())
}

fn holds(folder: &Folder, trust: &Trust) -> bool {
    let (verified, rules) = found(folder, trust);
    assert_eq!(verified, rules.is_empty(), "{rules:?}");
    verified
}

/// The bundle with another payload, signed by `seed` all the same.
fn resigned(bundle: &Value, seed: u8, change: impl FnOnce(&mut Value)) -> Value {
    let mut bundle = bundle.clone();
    let mut payload: Value =
        serde_json::from_slice(&unbase64(bundle["dsseEnvelope"]["payload"].as_str().unwrap())).unwrap();
    change(&mut payload);
    let payload = payload.to_string();
    let kind = "application/vnd.in-toto+json";
    let message = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
    bundle["dsseEnvelope"]["payload"] = base64(payload.as_bytes()).into();
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64(&pki::sign(&key(seed), message.as_bytes())).into();
    bundle
}

#[test]
fn a_signature_holds_for_its_files_and_for_no_others() {
    let folder = Folder::new();
    model(&folder);
    let bundle = signed(&folder, 1, &[]);
    assert!(holds(&folder, &trusted(1)));
    let report = audit(&folder, &trusted(1), &[]).signature.unwrap();
    assert_eq!((report.files, report.subject.as_deref()), (4, Some("m")));
    assert_eq!(report.signer.unwrap().name, PublicKey::from_pem(&pki::public_pem(&key(1))).unwrap().hint());
    // The same model and key: the same signature.
    assert_eq!(signed(&folder, 1, &[]), bundle);

    let file = |name: &str| folder.join(&format!("m/{name}"));
    let one = |rule, name: &str| (false, vec![(rule, name.to_string())]);
    let key = trusted(1);
    fs::write(file("a/z"), "3").unwrap();
    assert_eq!(found(&folder, &key), one("signed-file-changed", "a/z"));
    fs::remove_file(file("a/z")).unwrap();
    assert_eq!(found(&folder, &key), one("signed-file-missing", "a/z"));
    fs::write(file("a/y"), "2").unwrap();
    let rules = [("signed-file-extra", "a/y".to_string()), ("signed-file-missing", "a/z".to_string())];
    assert_eq!(found(&folder, &key), (false, rules.to_vec()), "renamed");
    fs::rename(file("a/y"), file("a/z")).unwrap();
    assert!(holds(&folder, &key));
    // What git keeps does not matter, another name does; what is said not to matter does not.
    fs::write(file(".git/other"), "x").unwrap();
    fs::write(file(".github"), "x").unwrap();
    assert!(holds(&folder, &key));
    fs::write(file(".gitmodules"), "x").unwrap();
    assert_eq!(found(&folder, &key), one("signed-file-extra", ".gitmodules"));
    assert!(audit(&folder, &key, &[".gitmodules".into()]).signature.unwrap().verified);
    assert!(!audit(&folder, &key, &["../m/.gitmodules".into(), "/".into(), ".".into()]).signature.unwrap().verified);
    fs::remove_file(file(".gitmodules")).unwrap();
    // A signed file that is said not to matter still does.
    fs::write(file("a/z"), "4").unwrap();
    assert!(!audit(&folder, &key, &["a".into()]).signature.unwrap().verified);
    fs::write(file("a/z"), "2").unwrap();
    // The wrong key, none, and none demanded.
    assert_eq!(found(&folder, &trusted(2)).1[0].0, "signature-invalid");
    fs::remove_file(file("model.sig")).unwrap();
    assert_eq!(found(&folder, &key).1[0].0, "signature-missing");
    fs::write(file("model.sig"), bundle.to_string()).unwrap();
    let report = audit_signed(&folder.join("m"), "m", &Options::default(), None, &mut |_, _| {}).unwrap();
    assert!(report.signature.is_none() && report.findings.iter().any(|f| f.rule == "signature-unverified"));
}

#[cfg(unix)]
#[test]
fn links_bring_nothing_in() {
    use std::os::unix::fs::symlink;
    let folder = Folder::new();
    model(&folder);
    signed(&folder, 1, &[]);
    folder.write("elsewhere/code.py", "x");
    // A file of the hub's cache is a link to the same bytes.
    folder.write("blob", "2");
    fs::remove_file(folder.join("m/a/z")).unwrap();
    symlink("../../blob", folder.join("m/a/z")).unwrap();
    assert!(holds(&folder, &trusted(1)));
    symlink("../elsewhere", folder.join("m/more")).unwrap();
    assert_eq!(found(&folder, &trusted(1)).1, [("signed-file-extra", "more".to_string())]);
    let secret = SecretKey::from_pem(&pki::private_pem(&key(1))).unwrap();
    let (path, out) = (folder.join("m"), folder.join("m/model.sig"));
    let what = Signing { path: &path, out: &out, key: &secret, certificates: &[], ignored: &[] };
    assert!(signature::sign(&what, &mut |_, _| {}).is_err(), "a link to a folder is not signed");
}

#[test]
fn one_file_is_a_model_too() {
    let folder = Folder::new();
    let file = folder.write("x.safetensors", safetensors());
    let secret = SecretKey::from_pem(&pki::private_pem(&key(1))).unwrap();
    let out = folder.join("x.safetensors.sig");
    let what = Signing { path: &file, out: &out, key: &secret, certificates: &[], ignored: &[] };
    fs::write(&out, signature::sign(&what, &mut |_, _| {}).unwrap().bundle).unwrap();
    let verified = |path: &Path| {
        let trust = trusted(1);
        let demand = Demand { signature: &out, trust: &trust, ignored: &[] };
        audit_signed(path, "x", &Options::default(), Some(&demand), &mut |_, _| {}).unwrap().signature.unwrap().verified
    };
    assert!(verified(&file));
    assert!(!verified(folder.path()), "a file was signed, no folder");
    let renamed = folder.write("y.safetensors", safetensors());
    assert!(verified(&renamed), "the name of a single file is not signed");
    let mut bytes = safetensors();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    assert!(!verified(&file));
}

#[test]
fn every_changed_field_is_caught() {
    let folder = Folder::new();
    model(&folder);
    let bundle = signed(&folder, 1, &[]);
    let write = |b: &Value| fs::write(folder.join("m/model.sig"), b.to_string()).unwrap();
    // In the bundle, without the key.
    let changes: &[(&str, Value)] = &[
        ("/mediaType", json!("application/vnd.dev.sigstore.bundle+json;version=0.2")),
        ("/verificationMaterial", json!({})),
        ("/verificationMaterial/publicKey/hint", json!("0".repeat(64))),
        ("/verificationMaterial/publicKey", Value::Null),
        ("/dsseEnvelope", Value::Null),
        ("/dsseEnvelope/payloadType", json!("application/json")),
        ("/dsseEnvelope/payload", json!("")),
        ("/dsseEnvelope/payload", json!("%%%")),
        ("/dsseEnvelope/signatures", json!([])),
        ("/dsseEnvelope/signatures/0/sig", json!("")),
        ("/dsseEnvelope/signatures/0/sig", json!(base64(&[0x30, 6, 2, 1, 0, 2, 1, 0]))),
        ("/dsseEnvelope/signatures/0/sig", json!(base64(&[0; 64]))),
    ];
    for (pointer, value) in changes {
        let mut changed = bundle.clone();
        *changed.pointer_mut(pointer).unwrap() = value.clone();
        write(&changed);
        assert_eq!(found(&folder, &trusted(1)).1[0].0, "signature-invalid", "{pointer} {value}");
    }
    let mut twice = bundle.clone();
    let one = twice["dsseEnvelope"]["signatures"][0].clone();
    twice["dsseEnvelope"]["signatures"].as_array_mut().unwrap().push(one);
    write(&twice);
    assert!(!holds(&folder, &trusted(1)));
    // A hint is none of the key's word: without one the key decides.
    let mut hint = bundle.clone();
    hint["verificationMaterial"]["publicKey"] = json!({});
    write(&hint);
    assert!(holds(&folder, &trusted(1)));
    // In what is signed, with the key: what the standard forbids is refused whoever signed it.
    type Change = fn(&mut Value);
    let signed: &[(&str, Change)] = &[
        ("type", |p| p["_type"] = json!("https://in-toto.io/Statement/v0.1")),
        ("predicate type", |p| p["predicateType"] = json!("https://model_signing/Digests/v0.1")),
        ("no subject", |p| p["subject"] = json!([])),
        ("two subjects", |p| p["subject"] = json!([p["subject"][0], p["subject"][0]])),
        ("root digest", |p| p["subject"][0]["digest"]["sha256"] = json!("0".repeat(64))),
        ("order", |p| p["predicate"]["resources"].as_array_mut().unwrap().reverse()),
        ("digest", |p| p["predicate"]["resources"][0]["digest"] = json!("0".repeat(64))),
        ("short digest", |p| p["predicate"]["resources"][0]["digest"] = json!("00")),
        ("no resources", |p| p["predicate"]["resources"] = Value::Null),
        ("way of gathering", |p| p["predicate"]["serialization"]["method"] = json!("tensors")),
    ];
    for (what, change) in signed {
        write(&resigned(&bundle, 1, change));
        assert_eq!(found(&folder, &trusted(1)).1[0].0, "signature-invalid", "{what}");
    }
    let unsupported: &[Change] = &[
        |p| p["predicate"]["serialization"]["method"] = json!("shards"),
        |p| p["predicate"]["serialization"]["hash_type"] = json!("blake3"),
        |p| p["predicate"]["resources"][0]["algorithm"] = json!("sha512"),
    ];
    for change in unsupported {
        write(&resigned(&bundle, 1, change));
        assert_eq!(found(&folder, &trusted(1)).1[0].0, "signature-unsupported");
    }
    // Lists of files that are right in themselves.
    let list = |resources: &[(&str, &str)]| {
        let root = Sha256::digest(resources.iter().flat_map(|r| Sha256::digest(r.1)).collect::<Vec<u8>>());
        let resources: Vec<Value> = resources
            .iter()
            .map(|(name, text)| json!({ "name": name, "algorithm": "sha256", "digest": pki::hex(&Sha256::digest(text)) }))
            .collect();
        resigned(&bundle, 1, |p| {
            p["predicate"]["resources"] = resources.into();
            p["subject"][0]["digest"]["sha256"] = pki::hex(&root).into();
        })
    };
    folder.write("outside", "o");
    for (what, resources) in [
        ("duplicate", &[("a-b", "1"), ("a-b", "1")][..]),
        ("duplicate of another digest", &[("a-b", "1"), ("a-b", "2")]),
        ("escape", &[("../outside", "o")]),
        ("escape inside", &[("a/../../outside", "o")]),
        ("absolute", &[("/etc/passwd", "o")]),
        ("empty part", &[("a//z", "2")]),
        ("dot", &[("./a-b", "1")]),
        ("file and folder", &[(".", "1"), ("a-b", "1")]),
        ("backslash", &[("..\\outside", "o")]),
        ("zero byte", &[("a\0b", "o")]),
        ("nothing", &[]),
    ] {
        write(&list(resources));
        assert_eq!(found(&folder, &trusted(1)).1[0].0, "signature-invalid", "{what}");
    }
    // What the signer leaves out by a path that leads elsewhere is not left out.
    write(&resigned(&bundle, 1, |p| {
        p["predicate"]["serialization"]["ignore_paths"] = json!(["model.sig", ".", "/", "..", "../m/extra"])
    }));
    assert!(holds(&folder, &trusted(1)));
    folder.write("m/extra", "x");
    assert!(!holds(&folder, &trusted(1)));
}

/// Every byte of a bundle, changed: never verified as something else, never a panic, always in time.
#[test]
fn no_changed_byte_makes_another_truth() {
    let folder = Folder::new();
    model(&folder);
    let bundle = signed(&folder, 1, &[]).to_string().into_bytes();
    let file = folder.join("m/model.sig");
    let demanded = |text: &[u8]| {
        fs::write(&file, text).unwrap();
        audit(&folder, &trusted(1), &[]).signature.unwrap()
    };
    let good = demanded(&bundle);
    for i in 0..bundle.len() {
        for change in [|b: u8| b ^ 1, |b: u8| b ^ 0x20] {
            let mut text = bundle.clone();
            text[i] = change(text[i]);
            let report = demanded(&text);
            // Names of keys that are not read may change: what was verified may not.
            assert!(!report.verified || (&report.signer, report.files) == (&good.signer, good.files), "byte {i}");
        }
        if i % 50 == 0 {
            assert!(!demanded(&bundle[..i]).verified, "cut at {i}");
        }
    }
    for hostile in ["", "null", "[]", "{}", &"[".repeat(100_000), &"{\"mediaType\":".repeat(10_000), "\u{feff}{}"] {
        assert!(!demanded(hostile.as_bytes()).verified);
    }
}

#[test]
fn keys_are_read_as_tools_write_them() {
    let private = pki::private_pem(&key(1));
    let public = SecretKey::from_pem(&private).unwrap().public();
    let with_parameters =
        format!("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{private}");
    assert_eq!(SecretKey::from_pem(&with_parameters).unwrap().public(), public);
    assert_eq!(SecretKey::from_pem(&private.replace('\n', "\r\n")).unwrap().public(), public);
    for bad in [
        "",
        "x",
        "-----BEGIN PRIVATE KEY-----",
        "-----END PRIVATE KEY----------BEGIN PRIVATE KEY-----",
        &pki::public_pem(&key(1)),
    ] {
        assert!(SecretKey::from_pem(bad).is_err());
    }
    let encrypted = private.replace("PRIVATE", "ENCRYPTED PRIVATE");
    assert!(SecretKey::from_pem(&encrypted).err().unwrap().contains("encrypted"));
    for bad in ["", &private, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"] {
        assert!(PublicKey::from_pem(bad).is_err());
    }
}

/// An extended key usage.
fn purpose(numbers: &[u32]) -> Vec<u8> {
    pki::tlv(0x30, &[&pki::tlv(6, &[&pki::oid(numbers)])])
}

fn certs(all: &[Vec<u8>]) -> Vec<Cert> {
    Cert::from_pem(&all.iter().map(|c| pki::pem(c)).collect::<String>()).unwrap()
}

#[test]
fn a_chain_leads_from_the_signer_to_a_trusted_root() {
    let (root, between, leaf) = (key(11), key(12), key(1));
    let root_cert = Said::authority("root", "root").certificate(&root, &root);
    let between_cert = Said::authority("between", "root").certificate(&between, &root);
    let leaf_cert = Said::signer("between").certificate(&leaf, &between);
    let trust = Trust::Certificates(certs(std::slice::from_ref(&root_cert)));
    let folder = Folder::new();
    model(&folder);
    let chain = |all: &[Vec<u8>]| signed(&folder, 1, &certs(all));
    chain(&[leaf_cert.clone(), between_cert.clone()]);
    assert!(holds(&folder, &trust));
    let signer = audit(&folder, &trust, &[]).signature.unwrap().signer.unwrap();
    assert_eq!(
        (signer.kind, &*signer.name, signer.issuer.as_deref()),
        ("certificate", "CN=signer", Some("CN=between"))
    );
    // Those in between may be given with the root.
    chain(std::slice::from_ref(&leaf_cert));
    assert!(!holds(&folder, &trust));
    assert!(holds(&folder, &Trust::Certificates(certs(&[root_cert.clone(), between_cert.clone()]))));
    // One in between is no root.
    assert!(!holds(&folder, &Trust::Certificates(certs(std::slice::from_ref(&between_cert)))));
    // A root of the same name with another key.
    chain(&[leaf_cert.clone(), between_cert.clone()]);
    let other = Said::authority("root", "root").certificate(&key(13), &key(13));
    assert!(!holds(&folder, &Trust::Certificates(certs(&[other]))));
    // A key is trusted and a certificate is there, and the reverse.
    assert!(!holds(&folder, &trusted(1)));
    signed(&folder, 1, &[]);
    assert!(!holds(&folder, &trust));
    // What a certificate must not be.
    type Change = fn(&mut Said);
    let oid = pki::oid;
    let bad: &[(&str, bool, Change)] = &[
        ("the signer's use", true, |s| s.extensions.clear()),
        ("a server's certificate", true, |s| s.extensions[1].2 = purpose(&[1, 3, 6, 1, 5, 5, 7, 3, 1])),
        ("a key to certify with", true, |s| s.extensions[0].2 = vec![3, 2, 2, 0x04]),
        ("expired in between", false, |s| s.to = "250101000000Z"),
        ("not yet valid in between", false, |s| s.from = "260601000000Z"),
        ("no authority in between", false, |s| drop(s.extensions.remove(0))),
        ("an authority that may not certify", false, |s| s.extensions[1].2 = vec![3, 2, 7, 0x80]),
        ("not yet valid, as all above it is", true, |s| (s.from, s.to) = ("390101000000Z", "391231000000Z")),
        ("unknown and critical", false, |s| s.extensions.push((pki::oid(&[1, 2, 3, 4]), true, vec![5, 0]))),
        ("limits on names", false, |s| s.extensions.push((pki::oid(&[2, 5, 29, 30]), false, vec![0x30, 0]))),
        ("twice", false, |s| s.extensions.push(s.extensions[0].clone())),
    ];
    for change in
        [|s: &mut Said| drop(s.extensions.remove(0)), |s: &mut Said| s.extensions[1].2 = purpose(&[2, 5, 29, 37, 0])]
    {
        let mut good = Said::signer("between");
        change(&mut good);
        chain(&[good.certificate(&leaf, &between), between_cert.clone()]);
        assert!(holds(&folder, &trust), "one of the two uses is enough, and any purpose");
    }
    for (what, of_leaf, change) in bad {
        let (mut a, mut b) = (Said::authority("between", "root"), Said::signer("between"));
        change(if *of_leaf { &mut b } else { &mut a });
        chain(&[b.certificate(&leaf, &between), a.certificate(&between, &root)]);
        assert!(!holds(&folder, &trust), "{what}");
    }
    // A path may be no longer than its authorities allow.
    let mut short = Said::authority("root", "root");
    short.extensions[0].2 = pki::tlv(0x30, &[&[1, 1, 0xff], &[2, 1, 0]]);
    let short = short.certificate(&root, &root);
    chain(&[leaf_cert.clone(), between_cert.clone()]);
    assert!(!holds(&folder, &Trust::Certificates(certs(&[short]))));
    // A certificate that signs itself into a chain, and one of another key.
    let selfish = Said::authority("between", "between").certificate(&between, &between);
    chain(&[leaf_cert.clone(), selfish]);
    assert!(!holds(&folder, &trust));
    let secret = SecretKey::from_pem(&pki::private_pem(&key(2))).unwrap();
    let (path, out, wrong) = (folder.join("m"), folder.join("m/model.sig"), certs(std::slice::from_ref(&leaf_cert)));
    let what = Signing { path: &path, out: &out, key: &secret, certificates: &wrong, ignored: &[] };
    assert!(signature::sign(&what, &mut |_, _| {}).is_err());
    // Each byte of the chain.
    let bundle = chain(&[leaf_cert.clone(), between_cert.clone()]);
    for (n, cert) in [&leaf_cert, &between_cert].into_iter().enumerate() {
        for i in (0..cert.len()).step_by(7) {
            let (mut cert, mut changed) = (cert.clone(), bundle.clone());
            cert[i] ^= 1;
            changed["verificationMaterial"]["x509CertificateChain"]["certificates"][n]["rawBytes"] =
                base64(&cert).into();
            fs::write(folder.join("m/model.sig"), changed.to_string()).unwrap();
            assert!(!holds(&folder, &trust), "certificate {n}, byte {i}");
        }
    }
    assert_eq!(oid(&[2, 5, 29, 19]), [0x55, 0x1d, 0x13]);
}

#[test]
fn an_identity_is_vouched_for_by_its_sigstore() {
    let folder = Folder::new();
    model(&folder);
    let payload = unbase64(signed(&folder, 1, &[])["dsseEnvelope"]["payload"].as_str().unwrap());
    let (store, signer) = (Sigstore::new(), key(41));
    let trust_of = |store: &Value, subject: &str, issuer: &str| {
        let identity = Identity { subject: subject.into(), issuer: issuer.into() };
        Trust::Identity(identity, Box::new(TrustRoot::parse(&store.to_string()).unwrap()))
    };
    let trust = trust_of(&store.trust_root(), "me@example.org", "https://id.example.org");
    let cert = store.certificate(&signer, "me@example.org", "https://id.example.org");
    let bundle = store.bundle(&payload, &signer, &cert);
    let write = |b: &Value| fs::write(folder.join("m/model.sig"), b.to_string()).unwrap();
    write(&bundle);
    assert!(holds(&folder, &trust), "{:?}", audit(&folder, &trust, &[]).findings);
    let report = audit(&folder, &trust, &[]).signature.unwrap().signer.unwrap();
    assert_eq!(report.logged_at.as_deref(), Some("2026-01-01T00:05:00Z"));
    assert!(!holds(&folder, &trust_of(&store.trust_root(), "you@example.org", "https://id.example.org")));
    assert!(!holds(&folder, &trust_of(&store.trust_root(), "me@example.org", "https://id.example.com")));
    // A trust root as clients' configurations hold it, and others' keys.
    assert!(holds(
        &folder,
        &trust_of(&json!({ "trustedRoot": store.trust_root() }), "me@example.org", "https://id.example.org")
    ));
    for part in ["tlogs", "ctlogs", "certificateAuthorities"] {
        let other = Sigstore { root: key(51), authority: key(52), certificates: key(53), log: key(54) };
        let mut mixed = store.trust_root();
        mixed[part] = other.trust_root()[part].clone();
        assert!(!holds(&folder, &trust_of(&mixed, "me@example.org", "https://id.example.org")), "{part}");
        let mut ended = store.trust_root();
        let period = match part {
            "certificateAuthorities" => &mut ended[part][0]["validFor"],
            _ => &mut ended[part][0]["publicKey"]["validFor"],
        };
        period["end"] = json!("2025-12-31T00:00:00Z");
        assert!(!holds(&folder, &trust_of(&ended, "me@example.org", "https://id.example.org")), "{part}");
        let mut none = store.trust_root();
        none[part] = json!([]);
        assert!(TrustRoot::parse(&none.to_string()).is_err());
    }
    // Every part of the log's entry.
    let entry = "/verificationMaterial/tlogEntries/0";
    for (pointer, value) in [
        ("/logIndex", json!("1003")),
        ("/integratedTime", json!("1767225901")),
        ("/integratedTime", json!("0")),
        ("/logId/keyId", json!(base64(&[0; 32]))),
        ("/kindVersion/kind", json!("hashedrekord")),
        ("/inclusionPromise", Value::Null),
        ("/inclusionPromise/signedEntryTimestamp", json!(base64(&[0; 70]))),
        ("/inclusionProof", Value::Null),
        ("/inclusionProof/logIndex", json!("3")),
        ("/inclusionProof/logIndex", json!("5")),
        ("/inclusionProof/treeSize", json!("6")),
        ("/inclusionProof/treeSize", json!("0")),
        ("/inclusionProof/rootHash", json!(base64(&[0; 32]))),
        ("/inclusionProof/hashes", json!([])),
        ("/inclusionProof/hashes/1", json!(base64(&[0; 32]))),
        ("/inclusionProof/checkpoint/envelope", json!("log\n5\nAAAA\n\n")),
        ("/inclusionProof/checkpoint", Value::Null),
        ("/canonicalizedBody", json!(base64(b"{}"))),
    ] {
        let mut changed = bundle.clone();
        *changed.pointer_mut(&format!("{entry}{pointer}")).unwrap() = value.clone();
        write(&changed);
        assert!(!holds(&folder, &trust), "{pointer} {value}");
    }
    let mut none = bundle.clone();
    none["verificationMaterial"]["tlogEntries"] = json!([]);
    write(&none);
    assert!(!holds(&folder, &trust));
    // An entry that the log did make, about something else.
    let other = store.bundle(b"{}", &signer, &cert);
    let mut swapped = bundle.clone();
    swapped["verificationMaterial"]["tlogEntries"] = other["verificationMaterial"]["tlogEntries"].clone();
    write(&swapped);
    assert!(!holds(&folder, &trust), "another payload's entry");
    let own = store.certificate(&key(42), "me@example.org", "https://id.example.org");
    let mut swapped = bundle.clone();
    swapped["verificationMaterial"]["certificate"]["rawBytes"] = base64(&own).into();
    write(&swapped);
    assert!(!holds(&folder, &trust), "another certificate");
    // Certificates that no log was promised, or whose promise is of another certificate; or made outside of its minutes.
    let mut said = Said::signer("sigstore");
    said.extensions.push((pki::oid(&[2, 5, 29, 17]), true, pki::tlv(0x30, &[&pki::tlv(0x81, &[b"me@example.org"])])));
    said.extensions.push((
        pki::oid(&[1, 3, 6, 1, 4, 1, 57264, 1, 8]),
        false,
        pki::tlv(12, &[b"https://id.example.org"]),
    ));
    let unlogged = said.certificate(&signer, &store.authority);
    write(&store.bundle(&payload, &signer, &unlogged));
    assert!(!holds(&folder, &trust), "no promise");
    // What a key signed, and what another's certificate does not cover.
    write(&store.bundle(&payload, &key(43), &cert));
    assert!(!holds(&folder, &trust), "another key than the certificate's");
    signed(&folder, 1, &[]);
    assert!(!holds(&folder, &trust), "a key's");
    // Each byte of the certificate, entered anew each time.
    for i in (0..cert.len()).step_by(5) {
        let mut changed = cert.clone();
        changed[i] ^= 1;
        write(&store.bundle(&payload, &signer, &changed));
        assert!(!holds(&folder, &trust), "byte {i}");
    }
}
