//! `compare`: this engine beside others, on the same files, alternately, in one run.
//!
//! Installs the pinned peer from PyPI into `target/compare`, writes random models of published shapes there, and holds
//! the release binary's `bench` against the peer with and without its repacking, and against any other program that
//! prints llama-bench's JSON. What comes out are ratios of medians. Does not measure inside an engine.
mod models;
mod report;

use serde_json::{Value, json};
use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

/// The peer. Another version is another comparison.
const PEER: &str = "llama-cpp-python==0.3.36";
/// Serves measurements of the peer's library.
const SERVER: &str = include_str!("compare/peer.py");
/// Included before every file of the peer where the compiler has tiles.
const TILES: &str = include_str!("compare/tiles.h");

pub const USAGE: &str = "\
usage: cargo xtask compare [OPTION…]

  --model FILE        compares on this file; may be given again [default: random weights of the table's shapes]
  --peer [NAME=]PATH  another peer: a program with llama-bench's options and JSON, and more options behind
                      spaces; may be given again
  --rounds N          alternating rounds [5]
  --prompt N          tokens of the prompt [512]; 0 leaves prefill out
  --gen N             tokens to generate [128]; 0 leaves decode out
  --depth N           tokens before either [0]
  --batch N,…         sequences that decode together [1]
  --threads N         threads of every engine [all physical cores]
  --python PATH       an interpreter that has the peer already
  --pondera PATH      a binary in place of the release build
  --write             puts the table into docs/performance.md";

type Done<T> = Result<T, String>;

/// What was asked for.
pub struct Options {
    pub models: Vec<PathBuf>,
    pub peers: Vec<String>,
    pub rounds: usize,
    pub prompt: usize,
    pub generate: usize,
    pub depth: usize,
    pub batch: Vec<usize>,
    pub threads: usize,
    pub python: Option<PathBuf>,
    pub pondera: Option<PathBuf>,
    pub write: bool,
}

impl Options {
    fn parse(args: &[String]) -> Done<Options> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut o = Options {
            models: Vec::new(),
            peers: Vec::new(),
            rounds: 5,
            prompt: 512,
            generate: 128,
            depth: 0,
            batch: vec![1],
            threads,
            python: None,
            pondera: None,
            write: false,
        };
        let mut args = args.iter();
        while let Some(name) = args.next() {
            match name.as_str() {
                "--write" => {
                    o.write = true;
                    continue;
                }
                "--help" | "-h" => return Err(USAGE.into()),
                _ => {}
            }
            let value = args.next().ok_or_else(|| format!("{name}: expected a value\n{USAGE}"))?;
            let number = || value.parse::<usize>().map_err(|_| format!("{name} {value}: expected a number"));
            match name.as_str() {
                "--model" => o.models.push(value.into()),
                "--peer" => o.peers.push(value.clone()),
                "--rounds" => o.rounds = number()?.max(1),
                "--prompt" => o.prompt = number()?,
                "--gen" => o.generate = number()?,
                "--depth" => o.depth = number()?,
                "--threads" => o.threads = number()?.max(1),
                "--python" => o.python = Some(value.into()),
                "--pondera" => o.pondera = Some(value.into()),
                "--batch" => {
                    let all = value.split(',').map(|n| n.parse().ok().filter(|n| *n > 0));
                    o.batch = all.collect::<Option<_>>().ok_or_else(|| format!("--batch {value}: expected numbers"))?;
                }
                _ => return Err(format!("{name}: no such option\n{USAGE}")),
            }
        }
        Ok(o)
    }
}

/// One measured phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Prefill { tokens: usize, depth: usize },
    Decode { tokens: usize, depth: usize, batch: usize },
}

/// Compares and reports.
pub fn run(args: &[String]) -> Done<()> {
    let o = Options::parse(args)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let home = target.join("compare");
    fs::create_dir_all(&home).map_err(|e| format!("{}: {e}", home.display()))?;
    let pondera = match &o.pondera {
        Some(path) => path.clone(),
        None => build(&target)?,
    };
    let python = match &o.python {
        Some(path) => path.clone(),
        None => install(&home)?,
    };
    let server = home.join("peer.py");
    fs::write(&server, SERVER).map_err(|e| format!("{}: {e}", server.display()))?;
    let mut report = report::Report::new(&o);
    for file in files(&o, &home)? {
        let mut engines = vec![Engine::pondera(&pondera, &file, &o)];
        for repack in [true, false] {
            engines.push(Engine::serve(&python, &server, &file, &o, repack)?);
        }
        for peer in &o.peers {
            engines.push(Engine::bench(peer, &file, &o)?);
        }
        for phase in phases(&o) {
            let speeds = alternate(&mut engines, phase, o.rounds);
            report.row(&file, phase, &engines, &speeds);
        }
    }
    print!("{}", report.text());
    if o.write { report.update(&root().join("docs/performance.md")) } else { Ok(()) }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn phases(o: &Options) -> Vec<Phase> {
    let prefill = (o.prompt > 0).then_some(Phase::Prefill { tokens: o.prompt, depth: o.depth });
    let decode = |batch: &usize| Phase::Decode { tokens: o.generate, depth: o.depth, batch: *batch };
    prefill.into_iter().chain(o.batch.iter().filter(|_| o.generate > 0).map(decode)).collect()
}

/// All engines in turn, round after round; the first round of each is not counted. An engine that fails once is out.
fn alternate(engines: &mut [Engine], phase: Phase, rounds: usize) -> Vec<Vec<f64>> {
    let mut speeds = vec![Vec::new(); engines.len()];
    let mut out = vec![false; engines.len()];
    engines.iter_mut().for_each(|e| e.reached.clear());
    for round in 0..=rounds {
        for (i, engine) in engines.iter_mut().enumerate() {
            if out[i] || (round == 0 && engine.warms_itself()) {
                continue;
            }
            match engine.measure(phase) {
                Ok(tps) if round > 0 => speeds[i].push(tps),
                Ok(_) => {}
                Err(e) => {
                    eprintln!("{}: {phase:?}: {e}", engine.name);
                    (out[i], speeds[i]) = (true, Vec::new());
                    engine.reached.clear();
                }
            }
        }
    }
    speeds
}

fn build(target: &Path) -> Done<PathBuf> {
    let done = Command::new("cargo").args(["build", "--release", "--quiet", "--bin", "pondera"]).status();
    if !done.is_ok_and(|s| s.success()) {
        return Err("cargo build --release failed".into());
    }
    Ok(target.join("release").join(format!("pondera{}", std::env::consts::EXE_SUFFIX)))
}

/// The peer, built for this machine in an environment of its own.
fn install(home: &Path) -> Done<PathBuf> {
    let venv = home.join("venv");
    let python = venv.join("bin/python");
    let has = |p: &Path| {
        Command::new(p).args(["-c", "import llama_cpp"]).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    };
    if has(&python) {
        return Ok(python);
    }
    let tiles = home.join("tiles.h");
    fs::write(&tiles, TILES).map_err(|e| format!("{}: {e}", tiles.display()))?;
    let run = |c: &mut Command| {
        let done = c.status().is_ok_and(|s| s.success());
        if done { Ok(()) } else { Err(format!("{c:?} failed: name an interpreter that has {PEER} by --python")) }
    };
    eprintln!("building {PEER}: some minutes, once");
    run(Command::new("python3").args([OsStr::new("-m"), OsStr::new("venv"), venv.as_os_str()]))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-binary", "llama-cpp-python", "--no-cache-dir", PEER]);
    if cfg!(target_arch = "x86_64") {
        pip.env("CXXFLAGS", format!("-include {}", tiles.display()));
    }
    run(pip.env("CMAKE_ARGS", "-DGGML_NATIVE=ON"))?;
    Ok(python)
}

/// The files to compare on; those of the table are written where they are missing.
fn files(o: &Options, home: &Path) -> Done<Vec<PathBuf>> {
    if !o.models.is_empty() {
        return Ok(o.models.clone());
    }
    let folder = home.join("models");
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut files = Vec::new();
    for entry in &models::TABLE {
        let path = folder.join(format!("{}.gguf", entry.name));
        if !path.exists() {
            eprintln!("writing {}", path.display());
            models::write(entry, &path)?;
        }
        files.push(path);
    }
    Ok(files)
}

/// An engine that can be measured.
pub struct Engine {
    pub name: String,
    /// What it says of itself: versions, the machine's roofs.
    pub about: Value,
    /// The part of its bound that each run of this phase reached, and which bound.
    pub reached: Vec<(f64, String)>,
    way: Way,
}

enum Way {
    /// Our own `bench`: a process per measurement.
    Pondera { binary: PathBuf, file: PathBuf, threads: usize },
    /// The library behind [`SERVER`]: one process, which answers request after request.
    Served { child: Child, answers: BufReader<ChildStdout> },
    /// A program like llama-bench: a process per measurement.
    Bench { program: Vec<String>, file: PathBuf, threads: usize },
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Way::Served { child, .. } = &mut self.way {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

impl Engine {
    fn pondera(binary: &Path, file: &Path, o: &Options) -> Engine {
        let way = Way::Pondera { binary: binary.into(), file: file.into(), threads: o.threads };
        Engine { name: "pondera".into(), about: Value::Null, reached: Vec::new(), way }
    }

    fn serve(python: &Path, server: &Path, file: &Path, o: &Options, repack: bool) -> Done<Engine> {
        let mut command = Command::new(python);
        let child = command.arg(server).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|e| format!("{}: {e}", python.display()))?;
        let answers = BufReader::new(child.stdout.take().ok_or("no pipe from the peer")?);
        let name = format!("llama.cpp {}", if repack { "default" } else { "no repack" });
        let mut engine = Engine { name, about: Value::Null, reached: Vec::new(), way: Way::Served { child, answers } };
        let request = json!({ "op": "open", "model": file, "repack": repack, "threads": o.threads });
        engine.about = engine.ask(&request).map_err(|e| format!("{}: {e}", engine.name))?;
        Ok(engine)
    }

    fn bench(peer: &str, file: &Path, o: &Options) -> Done<Engine> {
        // Options hold `=` too, but never before the program's name.
        let (name, program) = match peer.split_once('=').filter(|(name, _)| !name.contains(['/', ' '])) {
            Some((name, rest)) => (name.to_string(), rest),
            None => (peer.split('/').next_back().unwrap_or(peer).to_string(), peer),
        };
        let program: Vec<String> = program.split_whitespace().map(String::from).collect();
        if program.is_empty() {
            return Err(format!("--peer {peer}: names no program"));
        }
        let way = Way::Bench { program, file: file.into(), threads: o.threads };
        Ok(Engine { name, about: Value::Null, reached: Vec::new(), way })
    }

    /// Whether each measurement has a run before it that is not counted.
    fn warms_itself(&self) -> bool {
        !matches!(self.way, Way::Served { .. })
    }

    fn ask(&mut self, request: &Value) -> Done<Value> {
        let Way::Served { child, answers } = &mut self.way else { return Err("not a server".into()) };
        let stdin = child.stdin.as_mut().ok_or("no pipe to the peer")?;
        let sent = writeln!(stdin, "{request}").and_then(|()| stdin.flush());
        let mut line = String::new();
        let got = answers.read_line(&mut line);
        if sent.is_err() || !got.is_ok_and(|n| n > 0) {
            return Err(format!("the peer ended: {}", child.wait().map_or_else(|e| e.to_string(), |s| s.to_string())));
        }
        serde_json::from_str(&line).map_err(|e| format!("not an answer: {e}: {line}"))
    }

    /// Tokens per second of all sequences together.
    fn measure(&mut self, phase: Phase) -> Done<f64> {
        let answer = match &self.way {
            Way::Pondera { binary, file, threads } => {
                let report = run_json(Command::new(binary).args(own_args(file, *threads, phase)))?;
                let tps = report["rows"][0]["tps"]["median"].clone();
                let row = &report["rows"][0];
                if let (Some(part), Some(bound)) = (row["fraction"].as_f64(), row["bound"].as_str()) {
                    self.reached.push((part, bound.into()));
                }
                self.about = report;
                tps
            }
            Way::Served { .. } => self.ask(&request(phase))?["tps"].clone(),
            Way::Bench { program, file, threads } => {
                let args = bench_args(file, *threads, phase)?;
                let rows = run_json(Command::new(&program[0]).args(&program[1..]).args(args))?;
                // The row of the phase is the last: a depth makes one of its own before it.
                rows.as_array().and_then(|r| r.last()).map_or(Value::Null, |r| r["avg_ts"].clone())
            }
        };
        answer.as_f64().filter(|v| v.is_finite() && *v > 0.0).ok_or_else(|| format!("no speed in {answer}"))
    }
}

fn own_args(file: &Path, threads: usize, phase: Phase) -> Vec<String> {
    let (prompt, generate, depth, batch) = match phase {
        Phase::Prefill { tokens, depth } => (tokens, 0, depth, 1),
        Phase::Decode { tokens, depth, batch } => (0, tokens, depth, batch),
    };
    let mut args = vec!["bench".into(), file.display().to_string(), "--json".into()];
    for (name, n) in
        [("threads", threads), ("prompt", prompt), ("gen", generate), ("depth", depth), ("batch", batch), ("repeat", 1)]
    {
        args.extend([format!("--{name}"), n.to_string()]);
    }
    args
}

fn request(phase: Phase) -> Value {
    match phase {
        Phase::Prefill { tokens, depth } => json!({ "op": "prefill", "n": tokens, "depth": depth }),
        Phase::Decode { tokens, depth, batch } => json!({ "op": "decode", "n": tokens, "depth": depth, "seqs": batch }),
    }
}

fn bench_args(file: &Path, threads: usize, phase: Phase) -> Done<Vec<String>> {
    let phase = match phase {
        Phase::Prefill { tokens, depth: 0 } => format!("-p {tokens} -n 0"),
        Phase::Decode { tokens, depth: 0, batch: 1 } => format!("-p 0 -n {tokens}"),
        Phase::Decode { tokens, depth, batch: 1 } => format!("-p 0 -n 0 -gp {depth},{tokens}"),
        _ => return Err("llama-bench has no such test".into()),
    };
    let mut args = vec!["-m".into(), file.display().to_string()];
    args.extend(format!("-t {threads} -r 1 -o json {phase}").split(' ').map(String::from));
    Ok(args)
}

/// A program's standard output as JSON, which may have a line of something else before it.
fn run_json(command: &mut Command) -> Done<Value> {
    let out = command.stdin(Stdio::null()).output().map_err(|e| format!("{command:?}: {e}"))?;
    let text = String::from_utf8_lossy(&out.stdout);
    let start = text.find(['[', '{']).unwrap_or(0);
    serde_json::from_str(&text[start..]).map_err(|e| {
        let errors = String::from_utf8_lossy(&out.stderr);
        let last: String = errors.lines().rev().take(3).collect::<Vec<_>>().join(" | ");
        format!("{command:?}: {}: {e}: {last}", out.status)
    })
}

/// The middle of `values`; none of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut v = values.to_vec();
    v.sort_by(f64::total_cmp);
    let n = v.len();
    (n > 0).then(|| (v[(n - 1) / 2] + v[n / 2]) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Done<Options> {
        Options::parse(&text.split(' ').filter(|s| !s.is_empty()).map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read_and_refused() {
        let o = options("--model a.gguf --rounds 3 --batch 1,4 --gen 64 --write").unwrap();
        assert_eq!((o.models.len(), o.rounds, o.generate, o.write), (1, 3, 64, true));
        assert_eq!(phases(&o).len(), 3);
        assert_eq!(phases(&options("--prompt 0 --gen 0").unwrap()), []);
        for bad in ["--rounds x", "--rounds", "--nothing 1", "--batch 1,0"] {
            assert!(options(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[2.0, 1.0]), Some(1.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn peers_are_named_and_take_options() {
        let o = options("").unwrap();
        let peer = |text: &str| Engine::bench(text, Path::new("m.gguf"), &o).map(|e| e.name.clone());
        assert_eq!(peer("ik=/opt/llama-bench -rtr 1").unwrap(), "ik");
        assert_eq!(peer("/opt/llama-bench").unwrap(), "llama-bench");
        assert!(peer("ik=").is_err());
        let decode = |depth, batch| bench_args(Path::new("m"), 2, Phase::Decode { tokens: 8, depth, batch });
        assert!(decode(0, 1).unwrap().join(" ").ends_with("-p 0 -n 8"));
        assert!(decode(64, 1).unwrap().join(" ").ends_with("-gp 64,8"));
        assert!(decode(0, 4).is_err());
    }

    /// Engines take turns, a failing one drops out, and the others go on.
    #[cfg(unix)]
    #[test]
    fn a_failing_peer_is_left_out() {
        let o = options("--threads 1").unwrap();
        let json = r#"[{"avg_ts":7.5}]"#;
        let sound = Engine::bench(&format!("sound=/bin/echo {json}"), Path::new("m"), &o).unwrap();
        let broken = Engine::bench("broken=/bin/false", Path::new("m"), &o).unwrap();
        let mut engines = vec![broken, sound];
        let speeds = alternate(&mut engines, Phase::Prefill { tokens: 1, depth: 0 }, 2);
        assert_eq!((speeds[0].len(), speeds[1].len()), (0, 0), "arguments behind the JSON make it invalid");
        let Way::Bench { program, .. } = &mut engines[1].way else { unreachable!() };
        *program = ["/bin/sh", "-c", &format!("echo noise; echo '{json}'")].map(String::from).to_vec();
        let speeds = alternate(&mut engines, Phase::Prefill { tokens: 1, depth: 0 }, 2);
        assert_eq!((speeds[0].len(), speeds[1].clone()), (0, vec![7.5, 7.5]));
    }
}
