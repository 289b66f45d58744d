//! The table of a comparison, and the part of docs/performance.md that holds it.
use super::{Engine, Options, PEER, Phase, median};
use serde_json::Value;
use std::{fmt::Write as _, fs, path::Path, process::Command};

const BEGIN: &str = "<!-- written by `cargo xtask compare --write` -->";
const END: &str = "<!-- end of what is written -->";

/// Rows so far, and what was learnt on the way.
pub struct Report {
    command: String,
    rounds: usize,
    threads: usize,
    engines: Vec<String>,
    rows: Vec<Vec<String>>,
    /// Ratios to the best peer: the row's name and the number.
    ceiling: Option<String>,
}

impl Report {
    pub fn new(o: &Options) -> Report {
        Report {
            command: command(o),
            rounds: o.rounds,
            threads: o.threads,
            engines: Vec::new(),
            rows: Vec::new(),
            ceiling: None,
        }
    }

    /// Adds a phase; `engines[0]` is ours.
    pub fn row(&mut self, file: &Path, phase: Phase, engines: &[Engine], speeds: &[Vec<f64>]) {
        self.engines = engines.iter().map(|e| e.name.clone()).collect();
        let model = file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let own = &engines[0].about;
        let bound = reached(&engines[0].reached);
        let medians: Vec<Option<f64>> = speeds.iter().map(|s| median(s)).collect();
        let mut cells = vec![model, name(phase)];
        cells.extend(speeds.iter().zip(&medians).map(|(s, m)| cell(s, *m)));
        cells.extend([ratio(&medians), bound]);
        self.ceiling = ceiling(own).or(self.ceiling.take());
        eprintln!("{}", cells.join("  "));
        self.rows.push(cells);
    }

    /// The table, in Markdown.
    pub fn text(&self) -> String {
        let mut head = vec!["model".to_string(), "test".into()];
        head.extend(self.engines.iter().cloned());
        head.extend(["ratio to the best peer".into(), "reached of this machine's bound".into()]);
        let mut s = String::new();
        let _ = writeln!(s, "| {} |", head.join(" | "));
        let _ = writeln!(s, "| --- | --- |{}", " ---: |".repeat(head.len() - 2));
        for row in &self.rows {
            let _ = writeln!(s, "| {} |", row.join(" | "));
        }
        s
    }

    /// Puts the table, the machine and the versions in place of those of the last run.
    pub fn update(&self, path: &Path) -> Result<(), String> {
        let old = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut new = String::new();
        let _ = writeln!(new, "Machine: {}.", machine(self.threads));
        if let Some(c) = &self.ceiling {
            let _ = writeln!(new, "Its roofs, measured beside the last row: {c}.");
        }
        let _ =
            writeln!(new, "Engines: pondera {}, {PEER} from PyPI. {} alternating rounds.\n", version(), self.rounds);
        let _ = writeln!(new, "```console\n$ {}\n```\n\n{}", self.command, self.text());
        let text =
            replace(&old, &new).ok_or_else(|| format!("{}: no place for the table ({BEGIN})", path.display()))?;
        fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
    }
}

/// `old` with `new` between the marks.
fn replace(old: &str, new: &str) -> Option<String> {
    let start = old.find(BEGIN)? + BEGIN.len();
    let end = start + old[start..].find(END)?;
    Some(format!("{}\n{}\n{}", &old[..start], new.trim_end(), &old[end..]))
}

fn name(phase: Phase) -> String {
    let at = |depth: usize| if depth > 0 { format!(" @d{depth}") } else { String::new() };
    match phase {
        Phase::Prefill { tokens, depth } => format!("pp{tokens}{}", at(depth)),
        Phase::Decode { tokens, depth, batch: 1 } => format!("tg{tokens}{}", at(depth)),
        Phase::Decode { tokens, depth, batch } => format!("tg{tokens}{} x{batch}", at(depth)),
    }
}

/// The run in the middle: its part of its bound.
fn reached(runs: &[(f64, String)]) -> String {
    let mut runs: Vec<_> = runs.iter().collect();
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    runs.get(runs.len() / 2).map_or("—".into(), |(part, bound)| format!("{:.0} % of {bound}", part * 100.0))
}

/// `203 (198–205)`: the median and its spread.
fn cell(speeds: &[f64], median: Option<f64>) -> String {
    let short = |v: f64| if v >= 99.95 { format!("{v:.0}") } else { format!("{v:.1}") };
    let Some(m) = median else { return "—".into() };
    let (low, high) = speeds.iter().fold((f64::MAX, 0f64), |(l, h), v| (l.min(*v), h.max(*v)));
    format!("{} ({}–{})", short(m), short(low), short(high))
}

/// Our median over that of the fastest peer.
fn ratio(medians: &[Option<f64>]) -> String {
    let best = medians.iter().skip(1).flatten().copied().fold(0.0, f64::max);
    match medians.first() {
        Some(Some(own)) if best > 0.0 => format!("{:.2}", own / best),
        _ => "—".into(),
    }
}

fn ceiling(own: &Value) -> Option<String> {
    let c = &own["ceiling"];
    let mut s = format!("{:.1} GB/s read, f32 {:.0} Gop/s", c["gb_per_s"].as_f64()?, c["f32_gop_per_s"].as_f64()?);
    for r in c["int8"].as_array()? {
        let _ = write!(s, ", int8 {:.0} Gop/s ({})", r["gop_per_s"].as_f64()?, r["with"].as_str()?);
    }
    Some(s)
}

fn machine(threads: usize) -> String {
    let read = |p: &str| fs::read_to_string(p).unwrap_or_default();
    let field = |text: &str, name: &str| {
        text.lines().find_map(|l| Some(l.strip_prefix(name)?.split_once(':')?.1.trim().to_string())).unwrap_or_default()
    };
    let (cpu, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let flags = field(&cpu, "flags");
    let known = ["avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_fp16", "amx_int8"];
    let has: Vec<&str> = known.into_iter().filter(|k| flags.split(' ').any(|f| f == *k)).collect();
    let kilobytes: u64 = field(&memory, "MemTotal").trim_end_matches("kB").trim().parse().unwrap_or(0);
    let total = kilobytes >> 20;
    format!("{}, {threads} threads, {total} GiB of memory, {}", field(&cpu, "model name"), has.join(" "))
}

fn version() -> String {
    let git = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let git = git.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_string()).unwrap_or_default();
    format!("{} ({git})", env!("CARGO_PKG_VERSION"))
}

/// The command that makes this table, with programs and files by their names alone.
fn command(o: &Options) -> String {
    let base = |p: &str| p.rsplit('/').next().unwrap_or(p).to_string();
    let mut s = "cargo xtask compare".to_string();
    for m in &o.models {
        let _ = write!(s, " --model {}", base(&m.display().to_string()));
    }
    for p in &o.peers {
        let (program, options) = p.split_once(' ').unwrap_or((p, ""));
        let (name, path) = program.split_once('=').unwrap_or(("", program));
        let name = if name.is_empty() { String::new() } else { format!("{name}=") };
        let _ = write!(s, " --peer \"{}\"", format!("{name}{} {options}", base(path)).trim_end());
    }
    let batch: Vec<String> = o.batch.iter().map(usize::to_string).collect();
    let _ = write!(s, " --rounds {} --prompt {} --gen {}", o.rounds, o.prompt, o.generate);
    if o.depth > 0 {
        let _ = write!(s, " --depth {}", o.depth);
    }
    if o.batch != [1] {
        let _ = write!(s, " --batch {}", batch.join(","));
    }
    format!("{s} --write")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_to_the_best_peer_that_ran() {
        assert_eq!(ratio(&[Some(30.0), Some(10.0), None, Some(15.0)]), "2.00");
        assert_eq!(ratio(&[Some(30.0), None]), "—");
        assert_eq!(ratio(&[None, Some(1.0)]), "—");
        assert_eq!(cell(&[1.0, 3.0, 200.0], Some(3.0)), "3.0 (1.0–200)");
        assert_eq!(cell(&[], None), "—");
    }

    #[test]
    fn the_table_takes_the_place_of_the_last() {
        let old = format!("# A\n{BEGIN}\nold\n{END}\nrest\n");
        let new = replace(&old, "new\n").unwrap();
        assert_eq!(new, format!("# A\n{BEGIN}\nnew\n{END}\nrest\n"));
        assert_eq!(replace(&new, "new\n").as_ref(), Some(&new));
        assert!(replace("# A\n", "new").is_none());
    }

    #[test]
    fn the_document_has_a_place_for_the_table() {
        let text = fs::read_to_string(super::super::root().join("docs/performance.md")).unwrap();
        assert!(replace(&text, "x").is_some());
    }
}
