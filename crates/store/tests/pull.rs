//! Pulls from a sound hub, and from one that is gated, moved, terse or hostile.
mod hub;

use hub::{Fault, Folder, Hub, Repo, TOKEN, bytes, git_id, repo, sha256};
use pondera_store::{Config, Error, ErrorKind, Proxies, PullOptions, Pulled, Store, Token};
use std::{
    fs,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

fn store(hub: &Hub, cache: &Path) -> Store {
    Store::new(Config { chunk_bytes: 64 << 10, ..config(hub, cache) })
}

fn config(hub: &Hub, cache: &Path) -> Config {
    Config {
        endpoint: hub.address.clone(),
        patience: Duration::from_secs(2),
        pause: Duration::from_millis(2),
        ..Config::new(cache)
    }
}

fn pull(store: &Store, reference: &str) -> Result<Pulled, Error> {
    store.pull(&reference.parse().unwrap(), &PullOptions::default(), &|_| ControlFlow::Continue(()))
}

fn small() -> Repo {
    repo(&[
        ("README.md", b"# a model\n".to_vec()),
        ("config.json", b"{\"model_type\": \"llama\"}".to_vec()),
        ("model.safetensors", bytes(1, 300_000)),
        ("tokenizer.json", bytes(2, 70_000)),
        ("weird name #1?.txt", b"x".to_vec()),
        ("training_args.bin", bytes(3, 10)),
    ])
}

#[test]
fn a_repository_comes_whole_and_lies_as_the_hubs_tools_lay_it() {
    let (hub, folder) = (Hub::new(), Folder::new());
    hub.put("org/m", small());
    let store = store(&hub, folder.path());
    let calls = AtomicU64::new(0);
    let watch = |p: &pondera_store::Progress<'_>| {
        assert!(p.bytes_done <= p.bytes && p.files_done <= p.files, "{p:?}");
        calls.fetch_add(1, Ordering::Relaxed);
        ControlFlow::Continue(())
    };
    let pulled = store.pull(&"org/m".parse().unwrap(), &PullOptions::default(), &watch).unwrap();
    assert!(calls.load(Ordering::Relaxed) > 0);
    let want = small();
    assert_eq!(pulled.commit, want.commit);
    let names: Vec<&str> = pulled.files.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(names, ["README.md", "config.json", "model.safetensors", "tokenizer.json"]);
    assert!(pulled.files.iter().all(|f| f.fetched));
    let root = folder.path().join("models--org--m");
    assert_eq!(pulled.path, root.join("snapshots").join(&want.commit));
    assert_eq!(fs::read_to_string(root.join("refs/main")).unwrap(), want.commit);
    for name in names {
        let (content, large) = &want.files[name];
        let link = pulled.path.join(name);
        let blob = if *large { sha256(content) } else { git_id(content) };
        assert_eq!(fs::read_link(&link).unwrap(), Path::new(&format!("../../blobs/{blob}")));
        assert_eq!(&fs::read(&link).unwrap(), content.as_ref());
    }
    assert_eq!(fs::read_dir(root.join(".pondera")).unwrap().count(), 0);
    // A second time nothing is fetched, and what the hub's list says is still asked.
    hub.forget();
    let again = pull(&store, "org/m").unwrap();
    assert_eq!((again.fetched, again.files.iter().any(|f| f.fetched), hub.log().len()), (0, false, 1));
    // Every way of naming it.
    for name in
        ["org/m@main", &format!("org/m@{}", want.commit), &format!("org/m@{}", &want.commit[..7]), "org/m@refs/pr/1"]
    {
        assert_eq!(pull(&store, name).unwrap().path, pulled.path, "{name}");
        assert_eq!(store.resolve(&name.parse().unwrap()).unwrap(), pulled.path, "{name}");
    }
    let missing = pull(&store, "org/m@dev").unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Remote);
    assert!(missing.to_string().contains("dev"), "{missing}");
}

#[test]
fn quants_and_split_sets() {
    let (hub, folder) = (Hub::new(), Folder::new());
    let files = [
        ("LICENSE", b"MIT".to_vec()),
        ("Q8_0/m-Q8_0-00001-of-00002.gguf", bytes(1, 100_000)),
        ("Q8_0/m-Q8_0-00002-of-00002.gguf", bytes(2, 1)),
        ("m-Q2_K.gguf", bytes(3, 10)),
        ("m-Q4_K_M.gguf", bytes(4, 100)),
    ];
    hub.put("org/m", repo(&files));
    let store = store(&hub, folder.path());
    for (reference, first, count) in [
        ("org/m:q8_0", "Q8_0/m-Q8_0-00001-of-00002.gguf", 3),
        ("org/m", "m-Q4_K_M.gguf", 2),
        ("org/m:Q2_K", "m-Q2_K.gguf", 2),
    ] {
        let pulled = pull(&store, reference).unwrap();
        assert!(pulled.path.ends_with(first), "{reference}: {:?}", pulled.path);
        assert_eq!(pulled.files.len(), count);
        assert_eq!(store.resolve(&reference.parse().unwrap()).unwrap(), pulled.path);
    }
    let e = pull(&store, "org/m:Q5_K").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Choice);
    assert!(e.hint_text().unwrap().contains("m-Q2_K"), "{e:#}");
}

#[test]
fn a_sharded_repository_is_what_its_index_says() {
    let (hub, folder) = (Hub::new(), Folder::new());
    let index = r#"{"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
    let mut files = vec![
        ("config.json", b"{}".to_vec()),
        ("model-00001-of-00002.safetensors", bytes(1, 200_000)),
        ("model-00002-of-00002.safetensors", bytes(2, 200_001)),
        ("model.safetensors.index.json", index.into()),
        ("other.safetensors", bytes(3, 10)),
    ];
    hub.put("org/m", repo(&files));
    let pulled = pull(&store(&hub, folder.path()), "org/m").unwrap();
    assert_eq!(pulled.files.len(), 4);
    assert!(pulled.files.iter().all(|f| f.path != "other.safetensors"));
    // An index that names what is not there, or leaves.
    for name in ["model-00003-of-00003.safetensors", "../../x"] {
        files[3].1 = index.replace("model-00002-of-00002.safetensors", name).into();
        hub.put("org/bad", repo(&files));
        let e = pull(&store(&hub, folder.path()), "org/bad").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corrupt, "{e:#}");
        assert!(store(&hub, folder.path()).resolve(&"org/bad".parse().unwrap()).is_err());
    }
}

#[test]
fn the_token_stays_with_its_host() {
    let (hub, evil, folder) = (Hub::new(), Hub::new(), Folder::new());
    hub.put("org/m", Repo { gated: true, ..small() });
    evil.put("org/m", small());
    let mut config = Config { chunk_bytes: 64 << 10, ..config(&hub, folder.path()) };
    config.token = Some(Token::new(TOKEN).unwrap());
    let with_token = |hub: &Hub| hub.log().iter().filter(|r| r.header("authorization").is_some()).count();
    pull(&Store::new(config.clone()), "org/m").unwrap();
    let away = |hub: &Hub| hub.log().into_iter().filter(|r| r.away).collect::<Vec<_>>();
    assert!(away(&hub).len() > 2, "large files come from the second server");
    assert!(away(&hub).iter().all(|r| r.header("authorization").is_none()));
    assert!(hub.log().iter().filter(|r| !r.away).all(|r| r.header("authorization").is_some()));
    // A hub that sends on to another host, another port and back.
    let (second, third) = (Folder::new(), Folder::new());
    let to = evil.address.clone();
    hub.hook(move |r| (!r.away).then(|| Fault::Redirect(format!("{to}{}", r.path))));
    hub.forget();
    pull(&Store::new(Config { cache: second.path().into(), ..config.clone() }), "org/m").unwrap();
    assert_eq!(with_token(&evil), 0);
    assert!(!evil.log().is_empty());
    let home = hub.address.clone();
    hub.hook(|r| r.path.contains("bounce").then(|| Fault::Status(404, vec![])));
    evil.hook(move |_| Some(Fault::Redirect(format!("{home}/bounce"))));
    let to = evil.address.clone();
    hub.hook(move |r| (!r.path.contains("bounce")).then(|| Fault::Redirect(format!("{to}{}", r.path))));
    hub.forget();
    assert!(pull(&Store::new(Config { cache: third.path().into(), ..config }), "org/m").is_err());
    let bounced: Vec<_> = hub.log().into_iter().filter(|r| r.path.contains("bounce")).collect();
    assert!(!bounced.is_empty() && bounced.iter().all(|r| r.header("authorization").is_none()));
}

#[test]
fn gated_and_missing_repositories_are_explained() {
    let (hub, folder) = (Hub::new(), Folder::new());
    hub.put("org/m", Repo { gated: true, ..small() });
    let mut config = config(&hub, folder.path());
    let e = pull(&Store::new(config.clone()), "org/m").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Denied);
    assert!(e.to_string().contains("gated"), "{e}");
    assert!(e.hint_text().unwrap().contains("HF_TOKEN") && e.hint_text().unwrap().contains("/org/m"), "{e:#}");
    config.token = Some(Token::new("wrong").unwrap());
    let e = pull(&Store::new(config.clone()), "org/m").unwrap_err();
    assert!(e.hint_text().unwrap().contains("agree"), "{e:#}");
    assert!(!format!("{e:#}").contains("wrong"));
    assert!(Store::new(config.clone()).resolve(&"org/m".parse().unwrap()).is_err());
    config.token = Some(Token::new(TOKEN).unwrap());
    pull(&Store::new(config.clone()), "org/m").unwrap();
    assert_eq!(pull(&Store::new(config.clone()), "org/none").unwrap_err().kind(), ErrorKind::Remote);
    config.offline = true;
    hub.forget();
    let offline = Store::new(config);
    assert_eq!(pull(&offline, "org/m").unwrap_err().kind(), ErrorKind::Offline);
    assert!(offline.resolve(&"org/m".parse().unwrap()).is_ok());
    assert!(hub.log().is_empty());
}

#[test]
fn names_that_leave_the_store_fetch_nothing() {
    for hostile in
        ["../x.safetensors", "/etc/x.json", "a/../../b", "C:\\x", "a\\..\\b", "a//b", "./x", "x\u{7}", "..", "a/."]
    {
        let (hub, folder) = (Hub::new(), Folder::new());
        let cache = folder.path().join("deep/cache");
        hub.put(
            "org/m",
            repo(&[("config.json", b"{}".to_vec()), ("model.safetensors", bytes(1, 9)), (hostile, b"x".to_vec())]),
        );
        let e = pull(&store(&hub, &cache), "org/m").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsafe, "{hostile:?}: {e}");
        assert!(hub.log().iter().all(|r| !r.is_body()), "{hostile:?}");
        assert!(!cache.join("models--org--m/snapshots").exists(), "{hostile:?}");
    }
    // Devices are refused where they are asked for.
    let (hub, folder) = (Hub::new(), Folder::new());
    hub.put("org/m", repo(&[("nul.gguf", bytes(1, 9))]));
    assert_eq!(pull(&store(&hub, folder.path()), "org/m").unwrap_err().kind(), ErrorKind::Unsafe);
}

#[cfg(unix)]
#[test]
fn links_that_somebody_planted_lead_nowhere() {
    let (hub, folder) = (Hub::new(), Folder::new());
    hub.put("org/m", small());
    let (cache, outside) = (folder.path().join("cache"), folder.path().join("outside"));
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("config.json"), "mine").unwrap();
    let snapshot = cache.join("models--org--m/snapshots").join(&small().commit);
    fs::create_dir_all(&snapshot).unwrap();
    std::os::unix::fs::symlink(outside.join("config.json"), snapshot.join("config.json")).unwrap();
    let pulled = pull(&store(&hub, &cache), "org/m").unwrap();
    assert_eq!(fs::read_to_string(outside.join("config.json")).unwrap(), "mine");
    assert_eq!(fs::read(pulled.path.join("config.json")).unwrap(), *small().files["config.json"].0);
}

#[test]
fn a_mirror_whose_list_is_terse_is_asked_file_by_file() {
    let (hub, folder) = (Hub::new(), Folder::new());
    hub.put("org/m", Repo { terse: true, ..small() });
    let store = store(&hub, folder.path());
    let pulled = pull(&store, "org/m").unwrap();
    assert_eq!(pulled.files.iter().find(|f| f.path == "model.safetensors").unwrap().digest.algorithm(), "sha256");
    assert!(store.verify(&"org/m".parse().unwrap(), &|_| ControlFlow::Continue(())).unwrap().bad.is_empty());
}

#[test]
fn a_pull_can_be_stopped_and_goes_on() {
    let (hub, folder) = (Hub::new(), Folder::new());
    let large = bytes(9, 3_000_000);
    hub.put("org/m", repo(&[("m-Q4_0.gguf", large.clone())]));
    hub.pace(Some((16 << 10, Duration::from_millis(3))));
    let store = store(&hub, folder.path());
    let half = |p: &pondera_store::Progress<'_>| {
        if p.bytes_done > 1_500_000 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let e = store.pull(&"org/m".parse().unwrap(), &PullOptions::default(), &half).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Stopped);
    assert!(store.resolve(&"org/m".parse().unwrap()).is_err());
    hub.pace(None);
    let pulled = pull(&store, "org/m").unwrap();
    // At most the chunks under way are fetched again.
    assert!(pulled.fetched <= 1_500_000 + 8 * (64 << 10), "{}", pulled.fetched);
    assert_eq!(fs::read(&pulled.path).unwrap(), large);
}

#[test]
fn a_revision_that_moves_keeps_both() {
    let (hub, folder) = (Hub::new(), Folder::new());
    let shared = bytes(1, 100_000);
    let old = repo(&[("config.json", b"{}".to_vec()), ("model.safetensors", shared.clone())]);
    let new = repo(&[("config.json", b"{\"a\": 1}".to_vec()), ("model.safetensors", shared)]);
    let store = store(&hub, folder.path());
    hub.put("org/m", old.clone());
    pull(&store, "org/m").unwrap();
    hub.put("org/m", new.clone());
    hub.forget();
    let second = pull(&store, "org/m").unwrap();
    assert_eq!(second.files.iter().filter(|f| f.fetched).count(), 1, "shared blobs are not fetched again");
    assert_eq!(store.resolve(&"org/m".parse().unwrap()).unwrap(), second.path);
    assert!(store.resolve(&format!("org/m@{}", old.commit).parse().unwrap()).is_ok());
    // Without the old revision, what the new one shares stays.
    let removed = store.remove(&format!("org/m@{}", old.commit).parse().unwrap()).unwrap();
    assert_eq!(removed.files, 1);
    assert!(store.resolve(&format!("org/m@{}", old.commit).parse().unwrap()).is_err());
    let kept = store.verify(&"org/m".parse().unwrap(), &|_| ControlFlow::Continue(())).unwrap();
    assert_eq!((kept.good, kept.bad.len()), (2, 0));
}

#[test]
fn silence_ends_in_an_error() {
    let (hub, folder) = (Hub::new(), Folder::new());
    hub.put("org/m", small());
    hub.hook(|r| r.is_body().then_some(Fault::Silence));
    let mut config = config(&hub, folder.path());
    (config.patience, config.attempts, config.pause) = (Duration::from_millis(200), 2, Duration::from_millis(1));
    let start = Instant::now();
    assert_eq!(pull(&Store::new(config), "org/m").unwrap_err().kind(), ErrorKind::Network);
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// A proxy that tunnels what `CONNECT` asks for, and counts. Gives its address.
fn proxy(count: Arc<AtomicU64>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let count = count.clone();
            thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0u8];
                while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).unwrap_or(0) == 1 {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let Some(target) = head.strip_prefix("CONNECT ").and_then(|h| h.split(' ').next()) else { return };
                count.fetch_add(1, Ordering::SeqCst);
                let mut server = TcpStream::connect(target).unwrap();
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                let (mut a, mut b) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || io::copy(&mut a, &mut b));
                let _ = io::copy(&mut server, &mut client);
            });
        }
    });
    address
}

#[test]
fn proxies_are_used_and_left_out_where_they_are_told_to_be() {
    let hub = Hub::new();
    hub.put("org/m", small());
    for (except, used) in [(vec![], true), (vec!["127.0.0.1".to_string()], false), (vec!["*".into()], false)] {
        let (folder, count) = (Folder::new(), Arc::new(AtomicU64::new(0)));
        let mut config = config(&hub, folder.path());
        config.proxies = Proxies { http: Some(proxy(count.clone())), https: None, except };
        pull(&Store::new(config), "org/m").unwrap();
        assert_eq!(count.load(Ordering::SeqCst) > 0, used);
    }
}
