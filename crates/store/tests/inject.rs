//! Errors of the disk at every call that writes, by strace: each is reported, nothing bad is seen, the next pull works.
//! Where there is no strace that may trace, nothing is tested, and a line says so.
#![cfg(target_os = "linux")]
mod hub;

use hub::{Folder, Hub, bytes, git_id, repo, sha256};
use pondera_store::{Config, ErrorKind, PullOptions, Store};
use std::{
    env, fs,
    ops::ControlFlow,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

fn store(endpoint: &str, cache: &Path) -> Store {
    Store::new(Config {
        endpoint: endpoint.into(),
        chunk_bytes: 16 << 10,
        connections: 2,
        pause: Duration::from_millis(1),
        ..Config::new(cache)
    })
}

/// The child's part. It says what went wrong, and that the disk was full where it was.
#[test]
fn child() {
    let (Ok(endpoint), Ok(cache)) = (env::var("INJECT_FROM"), env::var("INJECT_TO")) else { return };
    if let Ok(file) = env::var("INJECT_PID") {
        fs::write(file, std::process::id().to_string()).unwrap();
    }
    let go = |_: &pondera_store::Progress<'_>| ControlFlow::Continue(());
    if let Err(e) = store(&endpoint, Path::new(&cache)).pull(&"org/m".parse().unwrap(), &PullOptions::default(), &go) {
        eprintln!("REPORTED {:?} {e}", e.kind());
        std::process::exit(9);
    }
}

fn pull(hub: &Hub, cache: &Path, inject: &str) -> Output {
    command(hub, cache, inject, "trace").output().unwrap()
}

/// A child under strace, whose trace lies beside the cache.
fn command(hub: &Hub, cache: &Path, inject: &str, trace: &str) -> Command {
    let mut command = Command::new("strace");
    command
        .args(["-f", "-qq", "-o"])
        .arg(cache.with_extension(trace))
        .args(["-e", &format!("trace={}", inject.split(':').next().unwrap()), "-e", &format!("inject={inject}")])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--quiet", "--test-threads=1"])
        .env("INJECT_FROM", &hub.address)
        .env("INJECT_TO", cache)
        .stdin(Stdio::null());
    command
}

fn traces() -> bool {
    let run = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    let works = run.is_ok_and(|o| o.status.success());
    if !works {
        eprintln!("there is no strace that may trace here: errors of the disk were not tested");
    }
    works
}

/// What can be seen is right: blobs are what their names say.
fn assert_sound(cache: &Path, case: &str) {
    for entry in fs::read_dir(cache.join("models--org--m/blobs")).into_iter().flatten().flatten() {
        let (found, name) = (fs::read(entry.path()).unwrap(), entry.file_name().into_string().unwrap());
        assert!(name == sha256(&found) || name == git_id(&found), "{case}: {name}");
    }
}

/// Injects `error` into each call of `syscall`, one run each, until a run has fewer calls. Gives the number of runs.
fn each(syscall: &str, error: &str) -> u64 {
    let (hub, folder) = (Hub::new(), Folder::fast());
    let content = bytes(3, 70_000);
    hub.put("org/m", repo(&[("README.md", b"# m".to_vec()), ("m-Q4_0.gguf", content.clone())]));
    for when in 1..200 {
        let cache = folder.path().join(format!("{when}"));
        let case = format!("{syscall} {error} {when}");
        let out = pull(&hub, &cache, &format!("{syscall}:{error}:when={when}"));
        let said = String::from_utf8_lossy(&out.stderr);
        let trace = fs::read_to_string(cache.with_extension("trace")).unwrap_or_default();
        assert_sound(&cache, &case);
        if !trace.contains("(INJECTED)") {
            assert!(out.status.success(), "{case}: {said}");
            return when - 1;
        }
        let reads = store(&hub.address, &cache).resolve(&"org/m".parse().unwrap());
        if out.status.success() {
            // What the pull could do without, or did again.
            assert!(fs::read(reads.unwrap()).unwrap() == content, "{case}");
        } else {
            assert!(said.contains("REPORTED"), "{case}: {said}");
            let kind = match error {
                "error=ENOSPC" => "Full",
                "error=EIO" => "Io",
                // A lost write is no error until the bytes are hashed.
                _ => "Corrupt",
            };
            assert!(said.contains(&format!("REPORTED {kind}")), "{case}: {said}");
            if let Err(e) = reads {
                assert_eq!(e.kind(), ErrorKind::Missing, "{case}");
            }
        }
        // The same process need not be restarted, and another one does as well.
        let go = |_: &pondera_store::Progress<'_>| ControlFlow::Continue(());
        let again = store(&hub.address, &cache).pull(&"org/m".parse().unwrap(), &PullOptions::default(), &go);
        assert!(fs::read(again.unwrap().path).unwrap() == content, "{case}");
        fs::remove_dir_all(&cache).unwrap();
    }
    panic!("{syscall}: no end of calls");
}

#[test]
fn errors_of_the_disk_are_reported_and_the_next_pull_works() {
    if !traces() {
        return;
    }
    let mut runs = 0;
    for syscall in ["pwrite64", "fsync", "ftruncate"] {
        for error in ["error=EIO", "error=ENOSPC"] {
            let n = each(syscall, error);
            assert!(n > 0, "{syscall} is called");
            runs += n;
        }
    }
    for syscall in ["rename", "symlink", "mkdir"] {
        runs += each(syscall, "error=EIO") + each(syscall, "error=ENOSPC");
    }
    eprintln!("{runs} injected errors");
}

#[test]
fn short_and_lost_writes_are_caught() {
    if !traces() {
        return;
    }
    // The kernel says that a part was written, and nothing was.
    assert!(each("pwrite64", "retval=1") > 0);
}

#[test]
fn locks_that_everybody_gets_cost_bytes_and_nothing_else() {
    if !traces() {
        return;
    }
    let (hub, folder) = (Hub::new(), Folder::fast());
    let content = bytes(3, 1_000_000);
    hub.put("org/m", repo(&[("README.md", b"# m".to_vec()), ("m-Q4_0.gguf", content.clone())]));
    hub.pace(Some((8 << 10, Duration::from_millis(1))));
    let cache = folder.path().join("cache");
    let pid = |i: usize| cache.with_extension(format!("pid{i}"));
    let spawn = |i: usize| {
        let mut command = command(&hub, &cache, "flock:retval=0", &format!("trace{i}"));
        command.env("INJECT_PID", pid(i)).stdout(Stdio::null()).spawn().unwrap()
    };
    // The first two are killed on the way: what they leave is read, and never written to.
    for i in 0..2 {
        let before = hub.body_bytes();
        let mut child = spawn(i);
        while hub.body_bytes() < before + 200_000 {
            std::thread::sleep(Duration::from_millis(1));
        }
        // The traced process itself: it would outlive its tracer.
        let number = fs::read_to_string(pid(i)).unwrap();
        assert!(Command::new("kill").args(["-9", &number]).status().unwrap().success());
        assert!(!child.wait().unwrap().success());
        assert_sound(&cache, "killed");
    }
    let before = hub.body_bytes();
    let children: Vec<_> = (2..8).map(spawn).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
        assert_sound(&cache, "many");
    }
    // Each of the six went on with what the killed ones had.
    let fetched = hub.body_bytes() - before;
    assert!(fetched < 6 * (content.len() as u64 - 200_000), "{fetched}");
    assert!(fs::read_to_string(cache.with_extension("trace2")).unwrap().contains("(INJECTED)"));
    let path = store(&hub.address, &cache).resolve(&"org/m".parse().unwrap()).unwrap();
    assert!(fs::read(path).unwrap() == content);
}
