//! Every fuzz target on seeded mutations of sound files: no panic, no hang. Two seconds in all, or
//! `PONDERA_FUZZ_SECONDS` for each target, from mutation `PONDERA_FUZZ_FIRST` on.
mod common;
use common::*;
use pondera_quant::Format;
use pondera_weights::{fuzz::TARGETS, gguf::Meta};
use std::time::{Duration, Instant};

/// Numbers that parsers stumble over.
const EDGES: [u64; 10] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, 1 << 32, i64::MAX as u64, 1 << 63, u64::MAX];

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let tensors =
        [tensor("a", Format::F32, &[2, 3], 1), tensor("b", Format::BF16, &[0], 2), tensor("c", Format::F16, &[], 3)];
    let meta = [
        ("general.alignment", Meta::U32(32)),
        ("t", Meta::Strings(vec!["x".into(), "yz".into()])),
        ("n", Meta::I32s(vec![1, -1])),
    ];
    let views = state_dict(&[("v", 0, &[3, 4], &[4, 1]), ("t", 0, &[4, 3], &[1, 4])]);
    match target {
        "safetensors" => vec![safetensors_file(&[("format", "pt")], &tensors), safetensors_file(&[], &[])],
        "gguf" => vec![gguf_file(&meta, &tensors), gguf_file(&[], &[])],
        "pickle" => {
            vec![views, b"cos\nsystem\n(S'x'\ntR.".to_vec(), b"\x80\x04\x95\x05\0\0\0\0\0\0\0]\x94(K\x01e.".to_vec()]
        }
        "zip" | "torch" => vec![checkpoint(&views)],
        "index" => vec![br#"{"metadata":{},"weight_map":{"a":"x.safetensors","b":"sub/y"}}"#.to_vec()],
        other => panic!("no seed for the target {other}"),
    }
}

fn mutate(r: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..1 + r.below(4) {
        let at = r.below(bytes.len());
        match r.below(6) {
            _ if bytes.is_empty() => bytes.push(r.next() as u8),
            0 => bytes[at] ^= 1 << r.below(8),
            1 => bytes[at] = r.next() as u8,
            2 => bytes.truncate(at),
            3 => {
                let part = bytes[at..(at + r.below(16)).min(bytes.len())].to_vec();
                let to = r.below(bytes.len());
                bytes.splice(to..to, part);
            }
            4 => drop(bytes.drain(at..(at + r.below(8)).min(bytes.len()))),
            _ => {
                let edge = EDGES[r.below(EDGES.len())].to_le_bytes();
                let n = [1, 2, 4, 8][r.below(4)].min(bytes.len() - at);
                bytes[at..at + n].copy_from_slice(&edge[..n]);
            }
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn mutated_files_never_panic() {
    let time = number("PONDERA_FUZZ_SECONDS").map_or(Duration::from_millis(330), Duration::from_secs);
    let first = number("PONDERA_FUZZ_FIRST").unwrap_or(0);
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        let (start, mut runs) = (Instant::now(), 0u64);
        // The seeds of the mutations are their numbers; time only decides how many there are, 2,000 at least.
        while runs < 2_000 || start.elapsed() < time {
            let mut r = Random(first + runs);
            let mut bytes = seeds[r.below(seeds.len())].clone();
            if first + runs > 0 {
                mutate(&mut r, &mut bytes);
            }
            if std::panic::catch_unwind(|| target(&bytes)).is_err() {
                panic!("{name}: mutation {} panics: {:?}", first + runs, bytes.escape_ascii().to_string());
            }
            runs += 1;
        }
        println!("{name}: {runs} runs");
    }
}
