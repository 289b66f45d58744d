//! Reading parts of files: what is asked for, what is refused, what is tried again.
mod hub;

use hub::{Fault, Folder, Hub, Repo, TOKEN, bytes, repo};
use pondera_store::{Config, ErrorKind, Peek, Progress, Reference, RemoteFile, Store, Token};
use std::{ops::ControlFlow, time::Duration};

const LONG: usize = 3 << 20;

fn small() -> Repo {
    repo(&[("config.json", b"{}".to_vec()), ("model.safetensors", bytes(1, LONG))])
}

fn store(hub: &Hub, folder: &Folder) -> Store {
    Store::new(Config {
        endpoint: hub.address.clone(),
        pause: Duration::from_millis(1),
        patience: Duration::from_secs(5),
        attempts: 3,
        ..Config::new(folder.path())
    })
}

fn quiet(_: &Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Opens `org/m` and does `f` with its two files.
fn with<T>(hub: &Hub, f: impl FnOnce(&Peek<'_>, &RemoteFile, &RemoteFile) -> T) -> T {
    let folder = Folder::new();
    let (store, reference) = (store(hub, &folder), "org/m".parse::<Reference>().unwrap());
    let mut peek = store.peek(&reference, &quiet).unwrap();
    let files = peek.chosen().unwrap();
    assert_eq!(files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["config.json", "model.safetensors"]);
    let out = f(&peek, &files[0], &files[1]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is written");
    out
}

/// Bytes that the hub has written: it counts them a moment after they are here.
fn served(hub: &Hub, least: u64) -> u64 {
    for _ in 0..200 {
        if hub.body_bytes() >= least {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    hub.body_bytes()
}

#[test]
fn a_part_costs_its_bytes_and_no_more() {
    let hub = Hub::new();
    hub.put("org/m", small());
    let all = bytes(1, LONG);
    with(&hub, |peek, config, model| {
        assert_eq!(peek.whole(config, 100).unwrap(), b"{}");
        served(&hub, 2);
        hub.forget();
        for (start, end) in [(0, 8), (0, 70_000), (1_000_000, 1_000_001), (LONG - 5, LONG), (7, 7)] {
            assert_eq!(peek.part(model, start as u64..end as u64).unwrap(), all[start..end]);
        }
        assert_eq!(served(&hub, 70_014), 70_014);
        // What lies behind the end is not there.
        assert_eq!(peek.part(model, LONG as u64 - 3..u64::MAX).unwrap(), all[LONG - 3..]);
        assert!(peek.part(model, u64::MAX - 1..u64::MAX).unwrap().is_empty());
        // The hub is asked once where the file lies.
        assert_eq!(hub.log().iter().filter(|r| !r.away && r.is_body()).count(), 1);
        assert_eq!(peek.fetched(), 2 + 8 + 70_000 + 1 + 5 + 3);
        assert_eq!(peek.whole(model, 1000).unwrap_err().kind(), ErrorKind::Unsafe);
    });
}

#[test]
fn what_goes_wrong_once_is_tried_again_and_what_goes_on_is_an_error() {
    let all = bytes(1, LONG);
    let part = 100_000u64..300_000;
    for (fault, kind) in [
        (Fault::Status(503, vec![]), ErrorKind::Network),
        (Fault::Cut(70_000), ErrorKind::Network),
        (Fault::OtherPlace { honest: true }, ErrorKind::Network),
        (Fault::Length(1), ErrorKind::Corrupt),
        (Fault::Length(-1), ErrorKind::Corrupt),
    ] {
        let hub = Hub::new();
        hub.put("org/m", small());
        let once = fault.clone();
        let first = std::sync::atomic::AtomicBool::new(true);
        hub.hook(move |r| {
            let hit = r.away && first.swap(false, std::sync::atomic::Ordering::SeqCst);
            hit.then(|| once.clone())
        });
        let got = with(&hub, |peek, _, model| peek.part(model, part.clone()));
        assert_eq!(got.unwrap(), all[100_000..300_000], "{fault:?}");
        let always = fault.clone();
        hub.hook(move |r| r.away.then(|| always.clone()));
        let failed = with(&hub, |peek, _, model| peek.part(model, part.clone()));
        // A connection that breaks off later each time comes to the end.
        match (&fault, failed) {
            (Fault::Cut(_), got) => assert_eq!(got.unwrap(), all[100_000..300_000]),
            (_, got) => assert_eq!(got.unwrap_err().kind(), kind, "{fault:?}"),
        }
    }
}

#[test]
fn a_server_without_ranges_is_cut_off() {
    let hub = Hub::new();
    hub.put("org/m", Repo { lengths: [("model.safetensors".to_string(), 1 << 40)].into(), ..small() });
    hub.hook(|r| r.away.then_some(Fault::IgnoreRange));
    let all = bytes(1, LONG);
    with(&hub, |peek, _, model| {
        assert_eq!(model.size, Some(1 << 40));
        assert_eq!(peek.part(model, 0..1000).unwrap(), all[..1000]);
        assert_eq!(peek.part(model, 90_000..100_000).unwrap(), all[90_000..100_000]);
        assert_eq!(peek.fetched(), 1000 + 100_000);
    });
    // What the sockets took before they were closed is little, of a file of a terabyte.
    assert!(hub.body_bytes() < 100 << 20, "{}", hub.body_bytes());
}

#[test]
fn changed_small_files_are_refused() {
    let hub = Hub::new();
    hub.put("org/m", small());
    hub.hook(|r| r.path.ends_with("config.json").then_some(Fault::Flip(3)));
    let failed = with(&hub, |peek, config, _| peek.whole(config, 100));
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn the_token_stays_with_its_host_and_offline_stays_off() {
    let (hub, folder) = (Hub::new(), Folder::new());
    hub.put("org/m", Repo { gated: true, ..small() });
    let reference: Reference = "org/m".parse().unwrap();
    let mut config = store(&hub, &folder).config().clone();
    config.token = Some(Token::new(TOKEN).unwrap());
    let known = Store::new(config.clone());
    let mut peek = known.peek(&reference, &quiet).unwrap();
    let files = peek.chosen().unwrap();
    peek.part(&files[1], 0..100).unwrap();
    peek.part(&files[1], 100..200).unwrap();
    let log = hub.log();
    assert!(log.iter().filter(|r| !r.away).all(|r| r.header("authorization").is_some()));
    assert!(log.iter().any(|r| r.away) && log.iter().filter(|r| r.away).all(|r| r.header("authorization").is_none()));
    config.token = None;
    let unknown = Store::new(config.clone());
    let mut peek = unknown.peek(&reference, &quiet).unwrap();
    let files = peek.chosen().unwrap();
    assert_eq!(peek.part(&files[1], 0..100).unwrap_err().kind(), ErrorKind::Denied);
    hub.forget();
    let off = Store::new(Config { offline: true, ..config });
    assert_eq!(off.peek(&reference, &quiet).err().unwrap().kind(), ErrorKind::Offline);
    assert!(hub.log().is_empty());
}

#[test]
fn mirrors_that_give_no_sizes_are_asked_for_them() {
    let hub = Hub::new();
    hub.put("org/m", Repo { terse: true, ..small() });
    with(&hub, |peek, _, model| {
        assert_eq!(model.size, Some(LONG as u64));
        assert_eq!(peek.part(model, 5..9).unwrap(), bytes(1, LONG)[5..9]);
    });
}

#[test]
fn many_are_read_at_a_time_in_their_order_and_the_first_error_ends_it() {
    let hub = Hub::new();
    hub.put("org/m", small());
    with(&hub, |peek, _, model| {
        let starts: Vec<u64> = (0..40).map(|i| i * 1000).collect();
        let parts = peek.each(&starts, |s| peek.part(model, *s..s + 10)).unwrap();
        let all = bytes(1, LONG);
        for (s, part) in starts.iter().zip(parts) {
            assert_eq!(part, all[*s as usize..*s as usize + 10]);
        }
        let failed = peek.each(&starts, |s| if *s < 5000 { Ok(()) } else { Err("no") });
        assert_eq!(failed, Err("no"));
    });
}
