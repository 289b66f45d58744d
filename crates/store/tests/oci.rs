//! Pulls from an OCI registry that is sound, closed, broken or hostile.
mod hub;

use hub::{Fault, Folder, Hub, Registry, Request, TOKEN, bytes, challenge, sha256};
use pondera_store::{Config, Error, ErrorKind, PullOptions, Pulled, Reference, Store, Token};
use serde_json::{Value, json};
use std::{
    fs,
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A store whose hub is nowhere, with a token of the hub's that no registry may see.
fn store(cache: &Path) -> Store {
    Store::new(Config {
        endpoint: "http://127.0.0.1:1".into(),
        token: Some(Token::new("hf_of_the_hub").unwrap()),
        chunk_bytes: 16 << 10,
        connections: 4,
        attempts: 4,
        pause: Duration::from_millis(1),
        patience: Duration::from_secs(5),
        ..Config::new(cache)
    })
}

fn reference(hub: &Hub, rest: &str) -> Reference {
    format!("oci://{}/org/m{rest}", hub.address.trim_start_matches("http://")).parse().unwrap()
}

fn pull(hub: &Hub, cache: &Path, rest: &str) -> Result<Pulled, Error> {
    pull_with(hub, cache, rest, &[])
}

fn pull_with(hub: &Hub, cache: &Path, rest: &str, include: &[&str]) -> Result<Pulled, Error> {
    let options = PullOptions { include: include.iter().map(|s| s.to_string()).collect(), ..PullOptions::default() };
    store(cache).pull(&reference(hub, rest), &options, &|_| ControlFlow::Continue(()))
}

fn layer(registry: &mut Registry, kind: &str, path: Option<&str>, content: &[u8]) -> Value {
    let digest = registry.blob("org/m", content);
    let annotations = path.map(|p| json!({ "org.cncf.model.filepath": p }));
    json!({ "mediaType": kind, "digest": digest, "size": content.len(), "annotations": annotations })
}

fn manifest(registry: &mut Registry, layers: &[Value]) -> Value {
    let config = registry.blob("org/m", br#"{"descriptor":{"name":"m"}}"#);
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/vnd.cncf.model.manifest.v1+json",
        "config": { "mediaType": "application/vnd.cncf.model.config.v1+json", "digest": config, "size": 27 },
        "layers": layers,
    })
}

fn put(registry: &mut Registry, tags: &[&str], media_type: &str, document: &Value) -> String {
    registry.manifest("org/m", tags, media_type, document.to_string().as_bytes())
}

const WEIGHT: &str = "application/vnd.cncf.model.weight.v1.raw";
const TAR: &str = "application/vnd.cncf.model.weight.v1.tar";
const DOC: &str = "application/vnd.cncf.model.doc.v1.raw";
const CODE: &str = "application/vnd.cncf.model.code.v1.raw";

/// An artefact with weights of several chunks, behind an index; its registry, the weights and the manifest's digest.
fn model() -> (Registry, Vec<u8>, String) {
    let (mut registry, content) = (Registry::default(), bytes(3, 100_000));
    let layers = [
        layer(&mut registry, WEIGHT, Some("weights/m-Q8_0.gguf"), &content),
        layer(&mut registry, DOC, Some("README.md"), b"# m"),
        layer(&mut registry, "application/vnd.cncf.model.weight.config.v1.raw", Some("generation_config.json"), b"{}"),
        layer(&mut registry, CODE, Some("train.py"), b"import os"),
    ];
    let document = manifest(&mut registry, &layers);
    let digest = put(&mut registry, &["v1"], MANIFEST, &document);
    let size = document.to_string().len();
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [
        { "mediaType": MANIFEST, "digest": digest, "size": size },
        { "mediaType": MANIFEST, "digest": format!("sha256:{}", "0".repeat(64)), "size": 2,
          "platform": { "os": "unknown", "architecture": "unknown" } },
    ] });
    put(&mut registry, &["latest"], INDEX, &index);
    (registry, content, digest)
}

/// Whether anything of the artefact can be seen.
fn visible(cache: &Path) -> bool {
    let folders = fs::read_dir(cache).map(|d| d.flatten().map(|e| e.path()).collect::<Vec<_>>()).unwrap_or_default();
    let any = |p: &Path| fs::read_dir(p).is_ok_and(|mut d| d.next().is_some());
    folders.iter().any(|f| any(&f.join("snapshots")) || any(&f.join("refs")))
}

#[test]
fn an_artefact_is_a_model_as_any_other() {
    let (hub, folder, (registry, content, digest)) = (Hub::new(), Folder::new(), model());
    hub.registry(registry);
    let pulled = pull(&hub, folder.path(), "").unwrap();
    assert_eq!(format!("sha256:{}", pulled.commit), digest);
    assert!(pulled.path.ends_with("weights/m-Q8_0.gguf") && fs::read(&pulled.path).unwrap() == content);
    let paths: Vec<&str> = pulled.files.iter().map(|f| f.path.as_str()).collect();
    let want = [".oci/config.json", ".oci/manifest.json", "README.md", "generation_config.json", "weights/m-Q8_0.gguf"];
    assert_eq!(paths, want, "no code");
    let store = store(folder.path());
    let (bare, tagged) = (reference(&hub, ""), reference(&hub, ":v1"));
    let models = store.list().unwrap();
    assert_eq!((models.len(), models[0].name.as_str()), (1, bare.to_string().as_str()));
    assert_eq!(models[0].revisions[0].names, ["latest"]);
    assert_eq!(store.resolve(&bare).unwrap(), pulled.path);
    assert_eq!(store.resolve(&tagged).unwrap_err().kind(), ErrorKind::Missing, "a tag that was not fetched");
    let verified = store.verify(&bare, &|_| ControlFlow::Continue(())).unwrap();
    assert_eq!((verified.good, verified.bad.len(), verified.unknown.len()), (5, 0, 0));
    hub.forget();
    let again = pull(&hub, folder.path(), ":v1").unwrap();
    assert_eq!((again.fetched, again.commit), (0, pulled.commit));
    assert!(hub.log().iter().all(|r| !r.is_body() || r.path.starts_with("/token")), "nothing is fetched twice");
    let coded = pull_with(&hub, folder.path(), ":v1", &["*.py"]).unwrap();
    assert!(coded.files.iter().any(|f| f.path == "train.py") && !coded.files.iter().any(|f| f.path.contains("gguf")));
    assert!(store.resolve(&tagged).unwrap().ends_with("weights/m-Q8_0.gguf"), "the rest is still there");
    store.remove(&bare).unwrap();
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn a_digest_pins_and_another_manifest_is_refused() {
    let (hub, folder, (registry, content, digest)) = (Hub::new(), Folder::new(), model());
    hub.registry(registry);
    let pulled = pull(&hub, folder.path(), &format!("@{digest}")).unwrap();
    assert_eq!(fs::read(&pulled.path).unwrap(), content);
    let store = store(folder.path());
    assert_eq!(store.resolve(&reference(&hub, &format!("@{digest}"))).unwrap(), pulled.path);
    let other = Folder::new();
    hub.hook(|r| r.path.contains("/manifests/").then_some(Fault::Flip(300)));
    for rest in [format!("@{digest}"), ":v1".into(), String::new()] {
        let e = pull(&hub, other.path(), &rest).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corrupt, "{rest}: {e}");
        assert!(!visible(other.path()));
    }
}

#[test]
fn the_registrys_token_stays_with_it_and_the_hubs_goes_nowhere() {
    let (hub, folder, (registry, ..)) = (Hub::new(), Folder::new(), model());
    hub.registry(registry);
    // The token runs out once, in the middle.
    let (seen, away) = (AtomicU64::new(0), hub.away.clone());
    hub.hook(move |r| {
        let blob = !r.away && r.path.contains("/blobs/");
        (blob && seen.fetch_add(1, Ordering::SeqCst) == 1).then(|| Fault::Status(401, vec![challenge(&away)]))
    });
    pull(&hub, folder.path(), "").unwrap();
    let log = hub.log();
    let tokens = log.iter().filter(|r| r.path.starts_with("/token")).count();
    assert!(tokens >= 2, "{tokens} tokens");
    let bearer = format!("Bearer {TOKEN}");
    assert!(log.iter().any(|r| r.away && r.path.contains("/blobs/")));
    assert!(log.iter().any(|r| !r.away && r.header("authorization") == Some(&bearer)));
    for r in &log {
        let sent = r.header("authorization");
        assert!(sent.is_none() || !r.away && sent == Some(&bearer), "{r:?}");
    }
    let accept = log.iter().find(|r| r.path.contains("/manifests/")).and_then(|r| r.header("accept")).unwrap();
    assert!(accept.contains(MANIFEST) && accept.contains(INDEX), "{accept}");
}

#[test]
fn who_is_not_let_in_hears_why() {
    let (registry, ..) = model();
    let cases: [(&str, ErrorKind, Fault); 5] = [
        ("/token", ErrorKind::Denied, Fault::Status(403, vec![])),
        ("/token", ErrorKind::Network, Fault::Replace(b"{\"token\":\"a\\r\\nb\"}".to_vec())),
        ("/manifests/", ErrorKind::Remote, Fault::Status(404, vec![])),
        ("/manifests/", ErrorKind::Denied, Fault::Status(403, vec![])),
        (
            "/manifests/",
            ErrorKind::Unsafe,
            Fault::Status(401, vec![("WWW-Authenticate".into(), "Bearer realm=\"http://tokens.example/\"".into())]),
        ),
    ];
    for (path, kind, fault) in cases {
        let (hub, folder) = (Hub::new(), Folder::new());
        hub.registry(registry.clone());
        hub.hook(move |r| r.path.contains(path).then(|| fault.clone()));
        let e = pull(&hub, folder.path(), "").unwrap_err();
        assert_eq!(e.kind(), kind, "{path}: {e}");
        assert!(!e.to_string().contains("hf_"), "{e}");
    }
}

#[test]
fn what_passes_is_tried_again_and_bad_bytes_are_never_seen() {
    let body = |r: &Request| r.away && r.path.contains("/blobs/");
    for (name, fault) in [
        ("429", Fault::Status(429, vec![("Retry-After".into(), "0".into())])),
        ("500", Fault::Status(500, vec![])),
        ("503", Fault::Status(503, vec![])),
        ("cut", Fault::Cut(1)),
        ("flipped", Fault::Flip(12)),
        ("no ranges", Fault::IgnoreRange),
    ] {
        for blobs in [true, false] {
            let (hub, folder, (registry, content, _)) = (Hub::new(), Folder::new(), model());
            hub.registry(registry);
            let (seen, fault) = (AtomicU64::new(0), fault.clone());
            hub.hook(move |r| {
                let hit =
                    if blobs { body(r) } else { r.path.contains("/manifests/") && r.header("authorization").is_some() };
                (hit && seen.fetch_add(1, Ordering::SeqCst) < 1).then(|| fault.clone())
            });
            let pulled = pull(&hub, folder.path(), "").unwrap_or_else(|e| panic!("{name}, {blobs}: {e:#}"));
            assert_eq!(fs::read(&pulled.path).unwrap(), content, "{name}");
        }
    }
    for (name, fault, kind) in [
        ("flipped", Fault::Flip(7), ErrorKind::Corrupt),
        ("too long", Fault::Length(1), ErrorKind::Corrupt),
        ("too short", Fault::Length(-1), ErrorKind::Corrupt),
        ("500", Fault::Status(500, vec![]), ErrorKind::Network),
        ("cut", Fault::Cut(0), ErrorKind::Network),
    ] {
        let (hub, folder, (registry, ..)) = (Hub::new(), Folder::new(), model());
        hub.registry(registry);
        hub.hook(move |r| body(r).then(|| fault.clone()));
        let e = pull(&hub, folder.path(), "").unwrap_err();
        assert_eq!(e.kind(), kind, "{name}: {e}");
        assert!(!visible(folder.path()), "{name}");
    }
}

/// The error of a pull of a manifest that was made by `change` from a sound one.
fn refused(change: impl FnOnce(&mut Registry, &mut Value)) -> Error {
    let (hub, folder) = (Hub::new(), Folder::new());
    let mut registry = Registry { open: true, ..Registry::default() };
    let weights = layer(&mut registry, WEIGHT, Some("m.gguf"), b"GGUF");
    let doc = layer(&mut registry, DOC, Some("README.md"), b"# m");
    let mut document = manifest(&mut registry, &[weights, doc]);
    change(&mut registry, &mut document);
    put(&mut registry, &["latest"], MANIFEST, &document);
    hub.registry(registry);
    let e = pull(&hub, folder.path(), "").unwrap_err();
    assert!(!visible(folder.path()), "{e}");
    e
}

#[test]
fn hostile_manifests_are_refused() {
    for path in [
        "../x",
        "/etc/passwd",
        "a/../../x",
        "",
        "a\0b",
        "a\\b",
        "./m",
        "nul.txt",
        "readme.MD",
        "README.md/x",
        "m.gguf",
        ".oci/manifest.json",
    ] {
        let e = refused(|registry, m| {
            let more = layer(registry, DOC, Some(path), b"other");
            m["layers"].as_array_mut().unwrap().push(more);
        });
        assert_eq!(e.kind(), ErrorKind::Unsafe, "{path:?}: {e}");
    }
    let e = refused(|r, m| m["layers"][0] = layer(r, WEIGHT, None, b"GGUF"));
    assert_eq!(e.kind(), ErrorKind::Unsafe, "no path: {e}");
    for (pointer, value, kind) in [
        ("/layers/0/digest", json!("sha256:../../x"), ErrorKind::Unsafe),
        ("/layers/0/digest", json!(format!("sha512:{}", "0".repeat(128))), ErrorKind::Unsafe),
        ("/layers/0/digest", json!("a".repeat(64)), ErrorKind::Unsafe),
        ("/layers/0/digest", json!(format!("sha256:{}", "a".repeat(64))), ErrorKind::Remote),
        ("/layers/0/size", json!(3), ErrorKind::Corrupt),
        ("/layers/0/size", json!(5), ErrorKind::Corrupt),
        ("/layers/0/size", json!(-1), ErrorKind::Corrupt),
        ("/layers/0/size", json!(u64::MAX), ErrorKind::Full),
        ("/config/digest", json!("x"), ErrorKind::Unsafe),
        ("/config/size", json!(1u64 << 40), ErrorKind::Unsafe),
        ("/config", Value::Null, ErrorKind::Unsafe),
        ("/layers", json!([]), ErrorKind::Choice),
        ("/layers", json!("x"), ErrorKind::Corrupt),
        ("/mediaType", json!(INDEX), ErrorKind::Unsafe),
        ("/layers/0/mediaType", json!("application/vnd.cncf.model.weight.v1.tar+gzip"), ErrorKind::Choice),
        ("/layers/0/mediaType", json!("application/vnd.cncf.model.weight.v1.tar+zstd"), ErrorKind::Choice),
        ("/layers/0/mediaType", json!(TAR), ErrorKind::Corrupt),
        ("/layers/0/mediaType", json!("application/vnd.cncf.model.other.v1.raw"), ErrorKind::Choice),
    ] {
        let e = refused(|_, m| *m.pointer_mut(pointer).unwrap() = value.clone());
        assert_eq!(e.kind(), kind, "{pointer} {value}: {e}");
    }
    let e = refused(|_, m| m["layers"][0]["mediaType"] = json!("application/vnd.cncf.model.weight.v1.tar+gzip"));
    assert!(e.to_string().contains("weight.v1.tar+gzip"), "{e}");
    let e = refused(|_, m| m["manifests"] = json!([]));
    assert_eq!(e.kind(), ErrorKind::Unsafe, "{e}");
    let e = refused(|_, m| m["padding"] = json!("x".repeat(5 << 20)));
    assert_eq!(e.kind(), ErrorKind::Unsafe, "{e}");
    let image = refused(|_, m| m["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+gzip"));
    assert_eq!(image.kind(), ErrorKind::Choice, "{image}");
}

#[test]
fn an_index_names_one_manifest_and_no_index() {
    let (registry, _, digest) = model();
    let size = registry.held["org/m/manifests/v1"].1.len();
    let one = json!({ "mediaType": MANIFEST, "digest": digest, "size": size });
    let latest = registry.held["org/m/manifests/latest"].1.clone();
    let index = json!({ "mediaType": INDEX, "digest": format!("sha256:{}", sha256(&latest)), "size": latest.len() });
    let disguised = json!({ "mediaType": MANIFEST, "digest": index["digest"], "size": latest.len() });
    let shorter = json!({ "mediaType": MANIFEST, "digest": digest, "size": size - 1 });
    let huge = json!({ "mediaType": MANIFEST, "digest": digest, "size": 1u64 << 40 });
    for (entries, kind) in [
        (vec![one.clone(), one.clone()], ErrorKind::Choice),
        (vec![], ErrorKind::Choice),
        (vec![one.clone(), index], ErrorKind::Unsafe),
        (vec![disguised], ErrorKind::Unsafe),
        (vec![shorter], ErrorKind::Corrupt),
        (vec![huge], ErrorKind::Unsafe),
    ] {
        let (hub, folder, mut registry) = (Hub::new(), Folder::new(), registry.clone());
        let document = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
        put(&mut registry, &["latest"], INDEX, &document);
        hub.registry(registry);
        let e = pull(&hub, folder.path(), "").unwrap_err();
        assert_eq!(e.kind(), kind, "{document}: {e}");
    }
}

#[test]
fn artefacts_of_docker_model_runner() {
    let (hub, folder) = (Hub::new(), Folder::new());
    let mut registry = Registry { open: true, ..Registry::default() };
    let kind = |k: &str| format!("application/vnd.docker.ai.{k}");
    let shards = [bytes(1, 5000), bytes(2, 5000)];
    let layers = [
        layer(&mut registry, &kind("gguf.v3"), None, &shards[0]),
        layer(&mut registry, &kind("gguf.v3"), None, &shards[1]),
        layer(&mut registry, &kind("license"), None, b"words"),
        layer(&mut registry, &kind("license"), None, b"more words"),
        layer(&mut registry, &kind("mmproj"), None, b"eyes"),
    ];
    let document = manifest(&mut registry, &layers);
    put(&mut registry, &["latest"], MANIFEST, &document);
    hub.registry(registry);
    let pulled = pull(&hub, folder.path(), "").unwrap();
    let paths: Vec<&str> = pulled.files.iter().skip(2).map(|f| f.path.as_str()).collect();
    let want = ["LICENSE", "LICENSE-2", "mmproj.gguf", "model-00001-of-00002.gguf", "model-00002-of-00002.gguf"];
    assert_eq!(paths, want);
    assert_eq!(fs::read(&pulled.path).unwrap(), shards[0]);
}

#[test]
fn documents_come_first_and_offline_asks_nobody() {
    let (hub, folder, (registry, ..)) = (Hub::new(), Folder::new(), model());
    hub.registry(registry);
    let seen = Arc::new(AtomicU64::new(0));
    let asked = seen.clone();
    let no = move |early: &pondera_store::Early| {
        asked.fetch_add(1, Ordering::SeqCst);
        let names: Vec<&str> = early.files.iter().map(|f| f.0.as_str()).collect();
        assert!(!early.whole && names == [".oci/config.json", "README.md"], "{early:?}");
        Err(Error::new(ErrorKind::Refused, "not wanted"))
    };
    let here = store(folder.path());
    let result = here.pull_approved(&reference(&hub, ""), &PullOptions::default(), &|_| ControlFlow::Continue(()), &no);
    assert_eq!((result.unwrap_err().kind(), seen.load(Ordering::SeqCst)), (ErrorKind::Refused, 1));
    assert_eq!(hub.log().iter().filter(|r| r.away && r.path.contains("/blobs/")).count(), 2, "no weights");
    hub.forget();
    let offline = Store::new(Config { offline: true, ..Config::new(folder.path()) });
    let e = offline.pull(&reference(&hub, ""), &PullOptions::default(), &|_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!((e.kind(), hub.log().len()), (ErrorKind::Offline, 0));
}

/// An archive's entry: its header, its bytes, and what they are filled up with.
fn entry(name: &[u8], kind: u8, content: &[u8]) -> Vec<u8> {
    let mut header = [0u8; 512];
    header[..name.len()].copy_from_slice(name);
    header[100..108].copy_from_slice(b"0000644\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    let mut all = summed(header);
    all.extend(content);
    all.resize(all.len().next_multiple_of(512), 0);
    all
}

/// A header with its sum.
fn summed(mut header: [u8; 512]) -> Vec<u8> {
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header.to_vec()
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 1024]].concat()
}

#[test]
fn archives_become_their_files_and_are_fetched_once() {
    let (hub, folder) = (Hub::new(), Folder::new());
    let mut registry = Registry { open: true, ..Registry::default() };
    let (content, long) = (bytes(9, 70_001), format!("texts/{}.md", "x".repeat(120)));
    let attribute = |key: &str, value: &str| {
        let rest = format!(" {key}={value}\n");
        let digits = (1..).find(|d| (rest.len() + d).to_string().len() == *d).unwrap();
        format!("{}{rest}", rest.len() + digits).into_bytes()
    };
    // A size beyond octal digits is written in binary.
    let mut binary: [u8; 512] = entry(b"added_tokens.json", b'0', b"")[..512].try_into().unwrap();
    binary[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    let weights = archive(&[
        entry(b"./", b'5', b""),
        entry(b"pax", b'g', &attribute("comment", "c")),
        entry(b"./m.gguf", b'0', &content),
        entry(b"pax", b'x', &attribute("path", &long)),
        entry(b"cut", b'0', b"long"),
        entry(b"././@LongLink", b'L', b"texts/other.md\0"),
        entry(b"cut", 0, b""),
        [summed(binary), b"{}".to_vec(), vec![0; 510]].concat(),
    ]);
    let layers = [
        layer(&mut registry, TAR, Some("m.gguf"), &weights),
        layer(
            &mut registry,
            "application/vnd.cncf.model.doc.v1.tar",
            Some("README.md"),
            &archive(&[entry(b"README.md", b'0', b"# m")]),
        ),
        layer(
            &mut registry,
            "application/vnd.cncf.model.code.v1.tar",
            None,
            &archive(&[entry(b"x.py", b'0', b"pass")]),
        ),
    ];
    let document = manifest(&mut registry, &layers);
    put(&mut registry, &["latest"], MANIFEST, &document);
    hub.registry(registry);
    let (store, seen) = (store(folder.path()), AtomicU64::new(0));
    let approve = |early: &pondera_store::Early| {
        seen.fetch_add(1, Ordering::SeqCst);
        let card = early.files.iter().find(|f| f.0 == "README.md").unwrap();
        assert_eq!(fs::read(&card.1).unwrap(), b"# m", "the card, not its archive");
        assert_eq!(early.whole, early.files.len() > 2);
        Ok(())
    };
    let go = |_: &pondera_store::Progress<'_>| ControlFlow::Continue(());
    let pulled = store.pull_approved(&reference(&hub, ""), &PullOptions::default(), &go, &approve).unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 2);
    let (path, files) = (pulled.path, pulled.files);
    assert_eq!(fs::read(&path).unwrap(), content);
    let snapshot = path.parent().unwrap();
    for (name, want) in
        [(long.as_str(), "long"), ("texts/other.md", ""), ("added_tokens.json", "{}"), ("README.md", "# m")]
    {
        assert_eq!(fs::read_to_string(snapshot.join(name)).unwrap(), want, "{name}");
    }
    assert_eq!(files.len(), 9, "{files:?}");
    let verified = store.verify(&reference(&hub, ""), &go).unwrap();
    assert_eq!((verified.good, verified.bad.len(), verified.unknown.len()), (9, 0, 0));
    let model = &store.list().unwrap()[0];
    assert!(model.bytes < weights.len() as u64 + 5000 && model.unfinished == 0, "archives do not stay: {model:?}");
    hub.forget();
    let again = pull(&hub, folder.path(), "").unwrap();
    assert_eq!((again.fetched, again.files.len()), (0, 9));
    assert!(hub.log().iter().all(|r| !r.is_body()), "nothing is fetched twice");
    // What no longer holds is fetched again.
    let blob = fs::canonicalize(&path).unwrap();
    fs::write(&blob, vec![0; content.len()]).unwrap();
    let options = PullOptions { recheck: true, ..PullOptions::default() };
    store.pull(&reference(&hub, ""), &options, &go).unwrap();
    assert_eq!(fs::read(&path).unwrap(), content);
    store.remove(&reference(&hub, "")).unwrap();
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn hostile_archives_are_refused() {
    let sound = entry(b"m.gguf", b'0', b"GGUF");
    let mut unsummed = sound.clone();
    unsummed[0] = b'n';
    let mut longer: [u8; 512] = sound[..512].try_into().unwrap();
    longer[124..136].copy_from_slice(b"77777777777\0");
    let mut enormous = longer;
    enormous[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    let record = format!(".oci/layers/{}.json", "a".repeat(64));
    let pax = |text: &str| archive(&[entry(b"pax", b'x', text.as_bytes()), sound.clone()]);
    for (name, content, kind) in [
        ("link", archive(&[sound.clone(), entry(b"a", b'2', b"")]), ErrorKind::Unsafe),
        ("hard link", archive(&[sound.clone(), entry(b"a", b'1', b"")]), ErrorKind::Unsafe),
        ("device", archive(&[sound.clone(), entry(b"a", b'3', b"")]), ErrorKind::Unsafe),
        ("sparse", archive(&[entry(b"m.gguf", b'S', b"GGUF")]), ErrorKind::Unsafe),
        ("up", archive(&[entry(b"../m.gguf", b'0', b"GGUF")]), ErrorKind::Unsafe),
        ("absolute", archive(&[entry(b"/m.gguf", b'0', b"GGUF")]), ErrorKind::Unsafe),
        ("no name", archive(&[entry(b"", b'0', b"GGUF")]), ErrorKind::Unsafe),
        ("no text", archive(&[entry(b"\xff", b'0', b"GGUF")]), ErrorKind::Unsafe),
        ("twice", archive(&[sound.clone(), sound.clone()]), ErrorKind::Unsafe),
        ("another layer's", archive(&[entry(b"readme.md", b'0', b"GGUF")]), ErrorKind::Unsafe),
        ("a record", archive(&[entry(record.as_bytes(), b'0', b"[]")]), ErrorKind::Unsafe),
        ("sum", archive(&[unsummed]), ErrorKind::Corrupt),
        ("too long", archive(&[summed(longer)]), ErrorKind::Corrupt),
        ("enormous", archive(&[summed(enormous)]), ErrorKind::Corrupt),
        ("cut", sound[..514].to_vec(), ErrorKind::Corrupt),
        ("no end", sound.clone(), ErrorKind::Corrupt),
        ("empty", vec![], ErrorKind::Corrupt),
        ("attribute up", pax("16 path=../../x\n"), ErrorKind::Unsafe),
        ("attribute sparse", pax("22 GNU.sparse.major=1\n"), ErrorKind::Unsafe),
        ("attribute size", pax("11 size=-1\n"), ErrorKind::Unsafe),
        ("attribute length", pax("99999 path=x\n"), ErrorKind::Unsafe),
        ("attribute short", pax("3 path=x\n"), ErrorKind::Unsafe),
        ("attribute of all", archive(&[entry(b"g", b'g', b"10 path=x\n"), sound.clone()]), ErrorKind::Unsafe),
    ] {
        let e = refused(|r, m| m["layers"][0] = layer(r, TAR, Some("m.gguf"), &content));
        assert_eq!(e.kind(), kind, "{name}: {e}");
    }
}

/// Changes of a sound archive's headers, byte by byte: a model or an error, no panic, and nothing outside the snapshot.
#[test]
fn no_archive_panics_or_leaves() {
    let (hub, folder) = (Hub::new(), Folder::fast());
    let sound = archive(&[entry(b"pax", b'x', b"12 path=a/b\n"), entry(b"m", b'0', b"GGUF"), entry(b"c", b'0', b"{}")]);
    let (mut random, mut whole) = (hub::Random(11), 0);
    for i in 0..400 {
        let mut content = sound.clone();
        for _ in 0..1 + random.below(2) {
            let block = [0, 1, 2, 4][random.below(4) as usize] * 512;
            content[block + random.below(512) as usize] = *b"\0/.0x25\xff"[random.below(8) as usize..].first().unwrap();
            // Half of the headers have the right sum.
            if block != 512 && i % 2 == 0 {
                let header: [u8; 512] = content[block..block + 512].try_into().unwrap();
                content[block..block + 512].copy_from_slice(&summed(header));
            }
        }
        let mut registry = Registry { open: true, ..Registry::default() };
        let weights = layer(&mut registry, TAR, None, &content);
        let document = manifest(&mut registry, &[weights]);
        put(&mut registry, &["latest"], MANIFEST, &document);
        hub.registry(registry);
        let cache = folder.path().join("cache");
        match pull(&hub, &cache, "") {
            Ok(pulled) => {
                whole += 1;
                for file in pulled.files {
                    assert!(!file.path.split('/').any(|p| ["", ".", ".."].contains(&p)), "{:?}", file.path);
                }
            }
            Err(e) => assert!([ErrorKind::Unsafe, ErrorKind::Corrupt].contains(&e.kind()), "{e}"),
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let _ = fs::remove_dir_all(&cache);
    }
    assert!(whole > 20, "{whole}");
}
