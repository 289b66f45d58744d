//! A hub that errs and lies: whatever it does, a bad byte is never seen, and what passes is tried again.
mod hub;

use hub::{Fault, Folder, Hub, Random, Request, bytes, repo};
use pondera_store::{Config, Error, ErrorKind, PullOptions, Pulled, Store};
use std::{
    fs,
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

const CHUNK: u64 = 16 << 10;

fn store(hub: &Hub, cache: &Path) -> Store {
    Store::new(Config {
        endpoint: hub.address.clone(),
        chunk_bytes: CHUNK,
        connections: 4,
        pause: Duration::from_millis(1),
        patience: Duration::from_secs(5),
        ..Config::new(cache)
    })
}

fn pull(store: &Store) -> Result<Pulled, Error> {
    store.pull(&"org/m".parse().unwrap(), &PullOptions::default(), &|_| ControlFlow::Continue(()))
}

/// The fault for the first `n` requests for bytes.
fn first(n: u64, fault: Fault) -> impl Fn(&Request) -> Option<Fault> + Send + Sync {
    let seen = AtomicU64::new(0);
    move |r: &Request| (r.is_body() && r.away && seen.fetch_add(1, Ordering::SeqCst) < n).then(|| fault.clone())
}

/// Whether anything of the model can be seen.
fn visible(cache: &Path) -> bool {
    let root = cache.join("models--org--m");
    let any = |p: &str| fs::read_dir(root.join(p)).is_ok_and(|mut d| d.next().is_some());
    any("blobs") || any("snapshots") || any("refs")
}

fn model() -> (Vec<u8>, hub::Repo) {
    let content = bytes(5, 100_000);
    (content.clone(), repo(&[("m-Q4_0.gguf", content)]))
}

#[test]
fn a_thousand_flipped_bits_are_all_caught() {
    let (hub, folder) = (Hub::new(), Folder::fast());
    let content = bytes(7, 3 * CHUNK as usize);
    hub.put("org/m", repo(&[("m-Q4_0.gguf", content.clone())]));
    let mut random = Random(42);
    for i in 0..1000u64 {
        let cache = folder.path().join(format!("{i}"));
        let (bit, victim, always) = (random.next(), random.below(3) * CHUNK, i % 2 == 0);
        let (flipped, counter) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let seen = flipped.clone();
        hub.hook(move |r| {
            let here = r.away && r.header("range").is_some_and(|h| h.starts_with(&format!("bytes={victim}-")));
            let flip = here && (always || counter.fetch_add(1, Ordering::SeqCst) == 0);
            flip.then(|| {
                seen.fetch_add(1, Ordering::SeqCst);
                Fault::Flip(bit)
            })
        });
        let result = pull(&store(&hub, &cache));
        let times = flipped.load(Ordering::SeqCst);
        match result {
            Err(e) if always => {
                assert_eq!((e.kind(), times), (ErrorKind::Corrupt, 2), "flip {i}: {e}");
                assert!(!visible(&cache), "flip {i}");
            }
            Ok(pulled) if !always => {
                assert_eq!((times, fs::read(&pulled.path).unwrap() == content), (1, true), "flip {i}");
            }
            other => panic!("flip {i}: {other:?}"),
        }
        fs::remove_dir_all(&cache).unwrap();
    }
}

#[test]
fn what_passes_is_tried_again() {
    let status = |s: u16| Fault::Status(s, vec![]);
    for (name, fault) in [
        ("429", Fault::Status(429, vec![("Retry-After".into(), "0".into())])),
        ("500", status(500)),
        ("502", status(502)),
        ("503", status(503)),
        ("408", status(408)),
        ("cut at once", Fault::Cut(0)),
        ("cut in the middle", Fault::Cut(5000)),
        ("other place, honest", Fault::OtherPlace { honest: true }),
        ("other place, lying", Fault::OtherPlace { honest: false }),
        ("too long", Fault::Length(10)),
        ("too short", Fault::Length(-10)),
        ("empty", Fault::Length(-1_000_000)),
        ("no ranges", Fault::IgnoreRange),
        ("expired", status(403)),
    ] {
        let (hub, folder, (content, repo)) = (Hub::new(), Folder::new(), model());
        hub.put("org/m", repo);
        hub.hook(first(3, fault));
        // An address that no longer holds is looked up anew only once it was known.
        if name == "expired" {
            let number = AtomicU64::new(0);
            hub.hook(move |r| {
                (r.away && number.fetch_add(1, Ordering::SeqCst) == 5).then(|| Fault::Status(403, vec![]))
            });
        }
        let pulled = pull(&store(&hub, folder.path())).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        assert!(fs::read(&pulled.path).unwrap() == content, "{name}");
    }
}

#[test]
fn what_stays_wrong_is_an_error_and_nothing_is_seen() {
    for (name, fault, kind) in [
        ("503", Fault::Status(503, vec![]), ErrorKind::Network),
        ("429", Fault::Status(429, vec![("Retry-After".into(), "0".into())]), ErrorKind::Network),
        ("403", Fault::Status(403, vec![]), ErrorKind::Denied),
        ("404", Fault::Status(404, vec![]), ErrorKind::Remote),
        ("cut", Fault::Cut(0), ErrorKind::Network),
        ("other place, honest", Fault::OtherPlace { honest: true }, ErrorKind::Network),
        ("other place, lying", Fault::OtherPlace { honest: false }, ErrorKind::Corrupt),
        ("too long", Fault::Length(1), ErrorKind::Corrupt),
        ("too short", Fault::Length(-1), ErrorKind::Corrupt),
        ("a longer file", Fault::Replace(bytes(5, 100_001)), ErrorKind::Corrupt),
        ("a shorter file", Fault::Replace(bytes(5, 99_999)), ErrorKind::Corrupt),
        ("an empty file", Fault::Replace(vec![]), ErrorKind::Corrupt),
        ("another file", Fault::Replace(bytes(6, 100_000)), ErrorKind::Corrupt),
        ("round and round", Fault::Redirect("/org/m/again".into()), ErrorKind::Network),
        ("to a file", Fault::Redirect("file:///etc/passwd".into()), ErrorKind::Unsafe),
    ] {
        let (hub, folder, (_, repo)) = (Hub::new(), Folder::new(), model());
        hub.put("org/m", repo);
        hub.hook(move |r| (r.is_body() && (r.away || r.path.contains("again"))).then(|| fault.clone()));
        let e = pull(&store(&hub, folder.path())).unwrap_err();
        assert_eq!(e.kind(), kind, "{name}: {e:#}");
        assert!(!visible(folder.path()), "{name}");
        // And it passes once the hub is sound again, without a trace of the bad bytes.
        hub.hook(|_| None);
        pull(&store(&hub, folder.path())).unwrap_or_else(|e| panic!("{name}: {e:#}"));
    }
}

#[test]
fn a_hub_without_ranges_gives_the_right_bytes() {
    let (hub, folder, (content, repo)) = (Hub::new(), Folder::new(), model());
    hub.put("org/m", repo);
    let number = AtomicU64::new(0);
    // Every other whole answer breaks off.
    hub.hook(move |r| {
        let whole = r.away && r.header("range").is_none();
        let cut = whole && number.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        r.is_body().then_some(if cut { Fault::Cut(60_000) } else { Fault::IgnoreRange })
    });
    let pulled = pull(&store(&hub, folder.path())).unwrap();
    assert!(fs::read(&pulled.path).unwrap() == content);
}

#[test]
fn a_wait_that_the_hub_asks_for_is_kept() {
    let (hub, folder, (_, repo)) = (Hub::new(), Folder::new(), model());
    hub.put("org/m", repo);
    hub.hook(first(1, Fault::Status(429, vec![("Retry-After".into(), "1".into())])));
    let start = Instant::now();
    pull(&store(&hub, folder.path())).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_slow_hub_is_waited_for() {
    let (hub, folder, (content, repo)) = (Hub::new(), Folder::new(), model());
    hub.put("org/m", repo);
    hub.hook(|r| r.away.then_some(Fault::Slow(1000, Duration::from_millis(5))));
    assert!(fs::read(pull(&store(&hub, folder.path())).unwrap().path).unwrap() == content);
}

#[test]
fn a_list_that_cannot_be_read_is_an_error() {
    for (name, body, kind) in [
        ("a page", b"<html>".to_vec(), ErrorKind::Network),
        ("another commit", br#"{"sha": "../../x", "siblings": []}"#.to_vec(), ErrorKind::Unsafe),
        ("a digest that is a path", br#"{"sha": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "siblings": [{"rfilename": "x", "blobId": "../x"}]}"#.to_vec(), ErrorKind::Unsafe),
        ("deep", "[".repeat(1 << 20).into_bytes(), ErrorKind::Network),
    ] {
        // The list comes from a file here: its answer is what a redirect leads to.
        let (hub, folder) = (Hub::new(), Folder::new());
        hub.put("org/m", repo(&[("list.txt", b"x".to_vec())]));
        hub.hook(move |r| {
            let list = r.path.starts_with("/api").then(|| Fault::Redirect("/org/m/resolve/x/list.txt".into()));
            list.or_else(|| Some(Fault::Replace(body.clone())))
        });
        assert_eq!(pull(&store(&hub, folder.path())).unwrap_err().kind(), kind, "{name}");
    }
}

#[test]
fn a_damaged_blob_is_found_and_fetched_again() {
    let (hub, folder, (content, repo)) = (Hub::new(), Folder::new(), model());
    hub.put("org/m", repo);
    let store = store(&hub, folder.path());
    let pulled = pull(&store).unwrap();
    let blob = fs::canonicalize(&pulled.path).unwrap();
    let mut bad = content.clone();
    bad[50_000] ^= 1;
    fs::write(&blob, &bad).unwrap();
    let go = |_: &pondera_store::Progress<'_>| ControlFlow::Continue(());
    let found = store.verify(&"org/m".parse().unwrap(), &go).unwrap();
    assert_eq!((found.good, found.bad.len(), found.bad[0].path.as_str()), (0, 1, "m-Q4_0.gguf"));
    // A pull trusts names of the right size unless it is asked to look.
    assert_eq!(pull(&store).unwrap().fetched, 0);
    let options = PullOptions { recheck: true, ..PullOptions::default() };
    let again = store.pull(&"org/m".parse().unwrap(), &options, &go).unwrap();
    assert!(again.fetched > 0 && fs::read(&again.path).unwrap() == content);
    assert!(store.verify(&"org/m".parse().unwrap(), &go).unwrap().bad.is_empty());
    // One of another size is never trusted.
    fs::write(fs::canonicalize(&again.path).unwrap(), b"short").unwrap();
    pull(&store).unwrap();
    assert!(fs::read(&again.path).unwrap() == content);
}
