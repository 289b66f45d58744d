//! What a run takes at its peak: the file's bytes, the cache and little more, also while weights move from the file
//! into memory of the process.
#![cfg(target_os = "linux")]
mod support;

use pondera::quant::Format;
use serde_json::Value;
use std::{fs, io::Read, process::Stdio, thread, time::Duration};
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
    let args = ["bench", "large.gguf", "--prompt", "0", "--gen", "6", "--repeat", "1", "--json"];
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
    let report: Value = serde_json::from_str(&out).unwrap();
    let packed = report["layout"]["packed_bytes"].as_u64().unwrap();
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        assert!(packed > file / 10 * 9, "{packed} of {file} bytes were packed");
    }
    assert!(most > file / 2 && most <= file + MORE, "{} MB for a file of {} MB", most >> 20, file >> 20);
}
