//! Several processes on one cache, and processes that are killed at any moment. The children are this test program itself.
mod hub;

use hub::{Folder, Hub, Random, bytes, repo, sha256};
use pondera_store::{Config, ErrorKind, PullOptions, Store};
use std::{
    env, fs,
    ops::ControlFlow,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

const CHUNK: u64 = 32 << 10;
const CONNECTIONS: usize = 4;

fn store(endpoint: &str, cache: &Path) -> Store {
    Store::new(Config {
        endpoint: endpoint.into(),
        chunk_bytes: CHUNK,
        connections: CONNECTIONS,
        pause: Duration::from_millis(1),
        ..Config::new(cache)
    })
}

/// The child's part: it pulls what the environment says.
#[test]
fn child() {
    let (Ok(endpoint), Ok(cache)) = (env::var("PULL_FROM"), env::var("PULL_TO")) else { return };
    let pulled = store(&endpoint, Path::new(&cache))
        .pull(&"org/m".parse().unwrap(), &PullOptions::default(), &|_| ControlFlow::Continue(()));
    pulled.unwrap();
}

fn spawn(hub: &Hub, cache: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--quiet"])
        .env("PULL_FROM", &hub.address)
        .env("PULL_TO", cache)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

fn model() -> (Vec<u8>, hub::Repo) {
    let content = bytes(11, 1_200_000);
    let files = [("README.md", b"# m".to_vec()), ("m-Q4_0.gguf", content.clone())];
    (content, repo(&files))
}

#[test]
fn sixteen_processes_are_one_download() {
    let (hub, folder, (content, repo)) = (Hub::new(), Folder::new(), model());
    hub.put("org/m", repo);
    hub.pace(Some((16 << 10, Duration::from_millis(4))));
    let children: Vec<Child> = (0..16).map(|_| spawn(&hub, folder.path())).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(hub.body_bytes(), content.len() as u64 + 3);
    let path = store(&hub.address, folder.path()).resolve(&"org/m".parse().unwrap()).unwrap();
    assert!(fs::read(path).unwrap() == content);
    assert_eq!(fs::read_dir(folder.path().join("models--org--m/.pondera")).unwrap().count(), 0);
}

#[test]
fn threads_of_one_process_share_a_download_too() {
    let (hub, folder, (content, repo)) = (Hub::new(), Folder::new(), model());
    hub.put("org/m", repo);
    let one = store(&hub.address, folder.path());
    let go = |_: &pondera_store::Progress<'_>| ControlFlow::Continue(());
    thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| one.pull(&"org/m".parse().unwrap(), &PullOptions::default(), &go).unwrap());
        }
    });
    assert_eq!(hub.body_bytes(), content.len() as u64 + 3);
}

/// Nothing that can be seen is bad: blobs hold what their names say, links lead to them, a ref names a whole snapshot.
fn assert_sound(cache: &Path, content: &[u8], moment: u64) {
    let root = cache.join("models--org--m");
    for entry in fs::read_dir(root.join("blobs")).into_iter().flatten().flatten() {
        let found = fs::read(entry.path()).unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert!(name == sha256(&found) || name == hub::git_id(&found), "moment {moment}: {name}");
    }
    let store = store("http://127.0.0.1:1", cache);
    match store.resolve(&"org/m".parse().unwrap()) {
        Ok(path) => assert!(fs::read(path).unwrap() == content, "moment {moment}"),
        Err(e) => assert_eq!(e.kind(), ErrorKind::Missing, "moment {moment}: {e}"),
    }
    for model in store.list().unwrap() {
        for file in model.revisions.iter().flat_map(|r| &r.files) {
            assert!(file.present, "moment {moment}: {}", file.path);
        }
    }
    if root.join("refs/main").exists() {
        assert!(store.resolve(&"org/m".parse().unwrap()).is_ok(), "moment {moment}");
    }
}

/// Kills a pull at `moments` random moments each, and looks at what is left and at what the next one fetches.
fn kill(moments: u64) {
    let (hub, folder, (content, repo)) = (Hub::new(), Folder::new(), model());
    hub.put("org/m", repo);
    let total = content.len() as u64 + 3;
    let mut random = Random(7);
    let (mut moment, mut run) = (0, 0);
    while moment < moments {
        run += 1;
        let cache = folder.path().join(format!("{run}"));
        hub.pace(Some((8 << 10, Duration::from_micros(500))));
        hub.forget();
        let mut kills = 0;
        // One pull after another on the same cache, killed until one gets to its end.
        loop {
            let mut child = spawn(&hub, &cache);
            // Later and later, so that a busy machine gets to the end of one too.
            thread::sleep(Duration::from_micros(random.below(60_000 * (1 + kills / 16))));
            let ended = child.try_wait().unwrap();
            let _ = child.kill();
            let status = child.wait().unwrap();
            assert_sound(&cache, &content, moment);
            if ended.is_some() || status.success() {
                assert!(status.success(), "moment {moment}");
                break;
            }
            (moment, kills) = (moment + 1, kills + 1);
            // The kill's connections write what the sockets still take.
            thread::sleep(Duration::from_millis(2));
            if kills >= 40 {
                hub.pace(None);
            }
        }
        // Each kill costs at most a chunk of each connection, and the small file.
        let bound = total + kills * (CONNECTIONS as u64 * CHUNK + 3);
        assert!(hub.body_bytes() <= bound, "{} bytes for {kills} kills, bound {bound}", hub.body_bytes());
        assert!(store(&hub.address, &cache).resolve(&"org/m".parse().unwrap()).is_ok());
        fs::remove_dir_all(&cache).unwrap();
    }
    eprintln!("{moment} kills in {run} downloads");
}

#[test]
fn a_kill_at_any_moment_leaves_nothing_bad() {
    kill(60);
}

#[test]
#[ignore = "minutes"]
fn a_thousand_kills_leave_nothing_bad() {
    kill(1000);
}

#[test]
fn what_runs_is_left_alone_and_what_is_left_over_goes() {
    let (hub, folder, (content, repo)) = (Hub::new(), Folder::new(), model());
    hub.put("org/m", repo);
    // Slow enough that it runs for as long as it is looked at, on a busy machine too.
    hub.pace(Some((4 << 10, Duration::from_millis(100))));
    let mut child = spawn(&hub, folder.path());
    let private = folder.path().join("models--org--m/.pondera");
    let store = store(&hub.address, folder.path());
    // Some of the large file is here: the card, which comes first, is soon whole.
    while !store.list().is_ok_and(|all| all.first().is_some_and(|m| m.unfinished > 100)) {
        thread::sleep(Duration::from_millis(1));
    }
    let cleaned = store.clean().unwrap();
    assert_eq!((cleaned.busy.len(), cleaned.files), (1, 0));
    assert_eq!(store.remove(&"org/m".parse().unwrap()).unwrap_err().kind(), ErrorKind::Busy);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(store.list().unwrap()[0].unfinished > 0);
    let cleaned = store.clean().unwrap();
    assert!(cleaned.busy.is_empty() && cleaned.files >= 1 && cleaned.bytes > 0, "{cleaned:?}");
    assert_eq!(fs::read_dir(&private).unwrap().count(), 0);
    hub.pace(None);
    let go = |_: &pondera_store::Progress<'_>| ControlFlow::Continue(());
    store.pull(&"org/m".parse().unwrap(), &PullOptions::default(), &go).unwrap();
    assert_eq!(store.clean().unwrap().files, 0);
    let removed = store.remove(&"org/m".parse().unwrap()).unwrap();
    // Two blobs and a ref.
    assert_eq!((removed.files, removed.bytes >= content.len() as u64), (3, true));
    assert_eq!(store.list().unwrap().len(), 0);
    assert!(!folder.path().join("models--org--m").exists());
    assert_eq!(store.remove(&"org/m".parse().unwrap()).unwrap_err().kind(), ErrorKind::Missing);
}
