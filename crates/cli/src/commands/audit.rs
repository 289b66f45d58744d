//! `audit`: whether a model or any one file is safe and sound, without running anything of it.
//!
//! Owns the flags, the drawing and the exit status. Does not own: the rules (`pondera-audit`).
use crate::{
    Context,
    error::{Error, Exit, Result},
    model::{self, Source},
    out::BOLD,
    policy::{self, Guard},
    progress::Bar,
    view::{self, Sheet},
};
use pondera_audit::{Audit, KnownBad, Options, audit, findings::Severity, sarif, tensors};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
};

/// Look for code, hidden data and broken structure in a model or file
#[derive(clap::Args)]
#[command(after_help = "PATH may be a model, a folder, or any one file, .pkl, .pt, .bin, .ckpt, .npy and .npz included. \
    Exit 3: an unsafe file; exit 4: refused for its licence.\n\nExamples:\n  pondera audit model/\n  \
    pondera audit checkpoint.pt --json\n  pondera audit model/ --fail-on medium --sarif audit.sarif\n  \
    pondera audit model/ --no-tensors --known-bad digests.txt")]
pub struct Args {
    /// A model, a folder or any one file
    #[arg(value_name = "PATH")]
    model: String,
    /// Fail where a finding is at least this bad
    #[arg(long, value_name = "SEVERITY", default_value = "high", value_parser = ["info", "low", "medium", "high", "critical", "never"])]
    fail_on: String,
    /// Write the findings as SARIF 2.1.0, too
    #[arg(long, value_name = "FILE")]
    sarif: Option<PathBuf>,
    /// Files with one of these SHA-256 digests are bad: a digest and what is known of it on each line
    #[arg(long, value_name = "FILE")]
    known_bad: Option<PathBuf>,
    /// Do not read the values of tensors, only what files say of them
    #[arg(long)]
    no_tensors: bool,
}

/// Writes the report.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let guard = Guard::read(&context.global)?;
    let Source::Path(path) = model::resolve(Some(&args.model), &context.global)? else {
        return Err(Error::usage("the built-in model is part of this program").hint("name a folder or file"));
    };
    let name = policy::hub_name(&path).map_or_else(|| args.model.clone(), |(name, _)| name);
    let known_bad = args.known_bad.as_deref().map(read_known_bad).transpose()?;
    let bar: Mutex<Option<Bar>> = Mutex::default();
    let progress = |done: u64, total: u64| {
        let mut bar = bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        bar.get_or_insert_with(|| Bar::bytes(context, "tensors", total)).set(done);
    };
    let options = Options {
        policy: guard.as_ref().map(Guard::policy),
        known_bad: known_bad.as_ref(),
        tensors: tensors::Options {
            values: !args.no_tensors,
            threads: context.global.threads.map_or(0, usize::from),
            progress: Some(&progress),
        },
    };
    let report = audit(&path, &name, &options)?;
    drop(bar.into_inner());
    if let Some(file) = &args.sarif {
        let log = sarif(&report.findings, env!("CARGO_PKG_VERSION"));
        let text = serde_json::to_vec_pretty(&log).map_err(|e| Error::failed(format!("SARIF: {e}")))?;
        fs::write(file, text).map_err(|e| Error::output(file.display(), &e))?;
    }
    match context.out.json() {
        true => context.out.object(&report)?,
        false => context.out.page(&draw(&report))?,
    }
    verdict(args, &report)
}

fn read_known_bad(path: &Path) -> Result<KnownBad> {
    let error = |e: String| Error::usage(format!("--known-bad {}: {e}", path.display()));
    let text = fs::read_to_string(path).map_err(|e| error(e.to_string()).hint("name a list that can be read"))?;
    KnownBad::parse(&text).map_err(|e| error(e).hint("each line has a SHA-256 digest and what is known of the file"))
}

/// Exit 3 for an unsafe file, 4 for a licence, from the given severity on.
fn verdict(args: &Args, report: &Audit) -> Result<()> {
    let Some(limit) = Severity::ALL.into_iter().find(|s| s.name() == args.fail_on) else { return Ok(()) };
    let worst = |what: Option<Severity>| what.filter(|s| *s >= limit);
    let (exit, severity) = match (worst(report.worst_safety), worst(report.worst_policy)) {
        (Some(s), _) => (Exit::File, s),
        (None, Some(s)) => (Exit::Refused, s),
        (None, None) => return Ok(()),
    };
    let first = report.findings.iter().find(|f| f.severity == severity).or(report.findings.first());
    let what = first.map_or(String::new(), |f| format!("{}: {}", f.file, f.what));
    let n = report.findings.iter().filter(|f| f.severity >= limit).count() + report.findings_left_out;
    let more = if n > 1 { format!(" (and {} more)", n - 1) } else { String::new() };
    Err(Error::new(exit, format!("{what}{more}: {}", severity.name())).hint(first.map_or("", |f| f.advice)))
}

fn draw(report: &Audit) -> String {
    let mut s = Sheet::new(10);
    s.head(&report.path);
    let files = if report.files == 1 { "1 file".to_string() } else { format!("{} files", report.files) };
    match report.findings.len() + report.findings_left_out {
        0 => s.line("findings", format!("none in {files}")),
        n => s.line("findings", format!("{n} in {files}")),
    }
    let t = &report.tensors;
    if t.tensors > 0 {
        let how = if t.values { "" } else { ", values not read" };
        s.line("tensors", format!("{} of {}{how}", t.tensors, view::bytes(t.bytes)));
    }
    if let Some(l) = &report.license {
        s.line("licence", l.id.as_deref().unwrap_or("none that is known"));
    }
    for f in &report.findings {
        s.raw(&format!("\n{BOLD}{}{BOLD:#}  {}  {}\n", f.severity.name(), f.rule, f.file));
        let at = f.offset.map_or(String::new(), |o| format!(" (byte {o})"));
        s.line("", format!("{}{at}", f.what));
        s.line("", f.advice);
    }
    if report.findings_left_out > 0 {
        s.raw(&format!("\n  and {} more\n", report.findings_left_out));
    }
    s.finish()
}
