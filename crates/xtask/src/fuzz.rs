//! Drives every fuzz target on the stable toolchain: seeded mutations of the sound files in `fuzz/seeds`. Coverage-guided
//! fuzzing of the same functions, where a nightly toolchain exists: `fuzz/README.md`.
use std::{
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A target by name.
type Target = (&'static str, fn(&[u8]));

/// Numbers that parsers stumble over.
const EDGES: [u64; 10] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, 1 << 32, i64::MAX as u64, 1 << 63, u64::MAX];

/// One input may take this long, once in [`TRIES`] on a machine that has other work.
const SLOW: Duration = Duration::from_secs(2);

/// Times that an input is run before it counts as slow.
const TRIES: usize = 3;

fn targets() -> impl Iterator<Item = Target> {
    pondera_weights::fuzz::TARGETS.iter().chain(pondera_text::fuzz::TARGETS).copied()
}

/// `cargo xtask fuzz [SECONDS] [TARGET…]`: that many seconds per target; a finding is written to `fuzz/artifacts`.
pub fn run(args: &[String]) -> Result<(), String> {
    let seconds = args.first().map_or(Ok(20), |s| s.parse().map_err(|_| format!("not a number of seconds: {s}")))?;
    let only = args.get(1..).unwrap_or(&[]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    for (name, target) in targets().filter(|(n, _)| only.is_empty() || only.iter().any(|o| o == n)) {
        let seeds = seeds(&root.join("seeds").join(name))?;
        let (start, mut runs) = (Instant::now(), 0u64);
        while start.elapsed() < Duration::from_secs(seconds) {
            let mut r = Random(runs.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut bytes = seeds[r.below(seeds.len())].clone();
            if r.below(8) == 0 {
                splice(&mut r, &mut bytes, &seeds);
            }
            mutate(&mut r, &mut bytes);
            let sound = || catch_unwind(|| target(&bytes)).is_ok();
            let fast = || {
                let at = Instant::now();
                sound().then(|| at.elapsed() <= SLOW)
            };
            let mut tries = (0..TRIES).map(|_| fast());
            if let Some(what) = match tries.next().flatten() {
                None => Some("panics"),
                Some(true) => None,
                Some(false) => (!tries.any(|t| t == Some(true))).then_some("is slow"),
            } {
                return Err(format!("{name}: input {runs} {what}: {}", keep(&root, name, runs, &bytes)?));
            }
            runs += 1;
        }
        println!("{name}: {runs} inputs in {seconds} s, no finding");
    }
    Ok(())
}

fn keep(root: &Path, name: &str, number: u64, bytes: &[u8]) -> Result<String, String> {
    let path: PathBuf = root.join("artifacts").join(format!("{name}-{number}"));
    fs::create_dir_all(root.join("artifacts"))
        .and_then(|()| fs::write(&path, bytes))
        .map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path.display().to_string())
}

fn seeds(folder: &Path) -> Result<Vec<Vec<u8>>, String> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}; every target needs a seed", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths.iter().filter_map(|p| fs::read(p).ok()).collect();
    if seeds.is_empty() { Err(format!("{}: no seeds", folder.display())) } else { Ok(seeds) }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// The start of one seed with the end of another.
fn splice(r: &mut Random, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let other = &seeds[r.below(seeds.len())];
    bytes.truncate(r.below(bytes.len() + 1));
    bytes.extend_from_slice(&other[r.below(other.len() + 1)..]);
}

/// One to eight small changes: bits, bytes, cuts, repeats, edge numbers (binary and as text).
fn mutate(r: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..1 + r.below(8) {
        let (n, at) = (bytes.len(), r.below(bytes.len()));
        let part = at..(at + 1 + r.below(32)).min(n);
        match r.below(7) {
            _ if n == 0 => bytes.push(r.next() as u8),
            0 => bytes[at] ^= 1 << r.below(8),
            1 => bytes[at] = r.next() as u8,
            2 if r.below(4) == 0 => bytes.truncate(at),
            3 => {
                let times = if r.below(16) == 0 { 2000 } else { 3 };
                let copy = bytes[part].repeat(1 + r.below(times));
                let to = r.below(n);
                bytes.splice(to..to, copy);
            }
            4 => drop(bytes.drain(part)),
            5 => {
                let number = EDGES[r.below(EDGES.len())].to_string().into_bytes();
                bytes.splice(at..at, number);
            }
            _ => {
                let edge = EDGES[r.below(EDGES.len())].to_le_bytes();
                let width = [1, 2, 4, 8][r.below(4)].min(n - at);
                bytes[at..at + width].copy_from_slice(&edge[..width]);
            }
        }
    }
}
