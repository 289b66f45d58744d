//! What a run takes at its peak: the file's bytes, the cache and little more, also while weights move from the file
//! into memory of the process.
#![cfg(target_os = "linux")]
mod support;

use pondera::{
    engine::{Engine, EngineOptions, ErrorKind, Layout, Request, Source},
    quant::Format,
};
use std::{fs, io::Read, ops::ControlFlow, path::Path, process::Stdio, thread, time::Duration};
use support::{Folder, Size, command, write_gguf_of};

/// What may be taken beside the file and the cache.
const MORE: u64 = 150 << 20;
const SIZE: Size = Size { hidden: 2048, inner: 8192, layers: 6 };

/// The most memory that the process had so far, in bytes.
fn peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

#[test]
fn a_run_takes_the_file_the_cache_and_little_more_while_weights_move() {
    let folder = Folder::new();
    write_gguf_of(SIZE, &folder, "large.gguf", Format::Q4K);
    let file = fs::metadata(folder.join("large.gguf")).unwrap().len();
    assert!(file > MORE, "a copy would not be noticed");
    // Twelve tokens of cache are far below a megabyte.
    let args = ["run", "large.gguf", "--tokens", "1,2,3", "-n", "6", "--layout", "packed", "--json"];
    let mut child = command(folder.path(), &args).stdout(Stdio::piped()).spawn().unwrap();
    let mut most = 0;
    let status = loop {
        most = peak(child.id()).unwrap_or(0).max(most);
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        thread::sleep(Duration::from_millis(1));
    };
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert!(status.success(), "{out}");
    assert!(most > file / 2 && most <= file + MORE, "{} MB for a file of {} MB", most >> 20, file >> 20);
}

/// Tokens and the bits of their probabilities, or why there are none.
fn answer(engine: &mut Engine) -> Result<Vec<(u32, u64)>, ErrorKind> {
    let request = Request {
        prompt: vec![5, 6, 7, 8],
        max_tokens: Some(12),
        ignore_eos: true,
        logprobs: Some(0),
        ..Request::default()
    };
    let done = engine.generate(request, &mut |_| ControlFlow::Continue(())).map_err(|e| e.kind().clone())?;
    Ok(done.tokens.iter().zip(&done.logprobs).map(|(t, (p, _))| (*t, p.to_bits())).collect())
}

fn settled(engine: &mut Engine) -> u64 {
    loop {
        let s = engine.settle(Duration::from_millis(50));
        if s.left_bytes == 0 {
            return s.packed_bytes;
        }
    }
}

/// Changes a file behind the back of whoever has it mapped; whether answers go on.
type Fate = (&'static str, fn(&Path), bool);

#[test]
fn what_befalls_the_file_changes_no_answer_silently() {
    let folder = Folder::new();
    let fates: [Fate; 3] = [
        ("removed", |p| fs::remove_file(p).unwrap(), true),
        ("cut", |p| fs::OpenOptions::new().write(true).open(p).unwrap().set_len(70_000).unwrap(), false),
        ("rewritten", |p| fs::write(p, vec![7; fs::metadata(p).unwrap().len() as usize]).unwrap(), false),
    ];
    for (name, fate, goes_on) in fates {
        for packed_before in [false, true] {
            let path = folder.join("model.gguf");
            write_gguf_of(Size { hidden: 512, inner: 1024, layers: 2 }, &folder, "model.gguf", Format::Q4K);
            let options = EngineOptions { threads: 1, layout: Layout::Mapped, ..EngineOptions::default() };
            let want = answer(&mut Engine::open(&Source::Path(&path), &options, &mut |_| {}).unwrap()).unwrap();
            let options = EngineOptions { layout: Layout::Auto, ..options };
            let mut engine = Engine::open(&Source::Path(&path), &options, &mut |_| {}).unwrap();
            if packed_before {
                assert_eq!(answer(&mut engine).unwrap(), want);
                settled(&mut engine);
            }
            fate(&path);
            let got = answer(&mut engine);
            let packed = settled(&mut engine);
            if goes_on {
                assert_eq!(got.unwrap(), want, "{name}");
                assert_eq!(answer(&mut engine).unwrap(), want, "{name}");
            } else {
                assert!(matches!(got, Err(ErrorKind::Damaged { .. })), "{name}: {got:?}");
                assert!(matches!(answer(&mut engine), Err(ErrorKind::Damaged { .. })), "{name}");
                assert!(packed_before || packed == 0, "{name}: {packed} bytes were packed from a changed file");
            }
        }
    }
}
