//! `audit`: whether a model or any one file is safe and sound, without running anything of it.
//!
//! Owns the flags, the drawing and the exit status. Does not own: the rules (`pondera-audit`).
use super::sign::{bad, beside, read};
use crate::{
    Context,
    error::{Error, Exit, Result},
    model::{self, Source},
    out::{BOLD, line},
    policy::{self, Guard},
    progress::Bar,
    report,
    view::{self, Sheet},
};
use pondera_audit::{
    Audit, KnownBad, Options, audit_signed,
    findings::Severity,
    sarif,
    signature::{Cert, Demand, Identity, PublicKey, Trust, TrustRoot},
    tensors,
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
};

/// Look for code, hidden data and broken structure in a model or file
#[derive(clap::Args)]
#[command(after_help = "PATH may be a model, a folder, or any one file, .pkl, .pt, .bin, .ckpt, .npy and .npz included. \
    Exit 3: an unsafe file; exit 4: refused for its licence or signature.\n\nExamples:\n  pondera audit model/\n  \
    pondera audit checkpoint.pt --json\n  pondera audit model/ --fail-on medium --sarif audit.sarif\n  \
    pondera audit model/ --key publisher.pem\n  \
    pondera audit model/ --identity me@example.org --issuer https://accounts.example.org --trust-root trusted_root.json\n  \
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
    /// Demand a signature, in this file [default: model.sig in the folder, FILE.sig beside a file]
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// Who must have signed: whoever has the key to this public one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["certificate_root", "identity"])]
    key: Option<PathBuf>,
    /// Who must have signed: somebody with a certificate under one of these roots
    #[arg(long, value_name = "FILE", conflicts_with = "identity")]
    certificate_root: Option<PathBuf>,
    /// Who must have signed: this address or name, as --issuer knows it
    #[arg(long, value_name = "NAME", requires_all = ["issuer", "trust_root"])]
    identity: Option<String>,
    /// The identity provider
    #[arg(long, value_name = "URL", requires = "identity")]
    issuer: Option<String>,
    /// The Sigstore that vouches for identities: its trusted_root.json
    #[arg(long, value_name = "FILE", requires = "identity")]
    trust_root: Option<PathBuf>,
    /// A path inside of the model that the signature need not cover
    #[arg(long, value_name = "PATH")]
    ignore: Vec<String>,
}

/// Writes the report.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let guard = Guard::read(&context.global)?;
    args.sarif.as_ref().map_or(Ok(()), |file| report::free("--sarif", file, &[report::SARIF]))?;
    let Source::Path(path) = model::resolve(Some(&args.model), &context.global)? else {
        return Err(Error::usage("the built-in model is part of this program").hint("name a folder or file"));
    };
    let name = policy::hub_name(&path).map_or_else(|| args.model.clone(), |(name, _)| name);
    let trust = trust(args)?;
    let signature = args.signature.clone().unwrap_or_else(|| beside(&path));
    let demand = trust.as_ref().map(|trust| Demand { signature: &signature, trust, ignored: &args.ignore });
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
    let mut hashed: Option<Bar> = None;
    let report = audit_signed(&path, &name, &options, demand.as_ref(), &mut |done, total| {
        hashed.get_or_insert_with(|| Bar::bytes(context, "hashed", total)).set(done);
    })?;
    drop((bar.into_inner(), hashed));
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

/// Who must have signed; none where no signature is demanded.
fn trust(args: &Args) -> Result<Option<Trust>> {
    if let Some(file) = &args.key {
        let key = PublicKey::from_pem(&read(file, "--key")?).map_err(|what| bad("--key", file, what))?;
        return Ok(Some(Trust::Key(key)));
    }
    if let Some(file) = &args.certificate_root {
        let flag = "--certificate-root";
        let roots = Cert::from_pem(&read(file, flag)?).map_err(|what| bad(flag, file, what))?;
        if !roots.iter().any(Cert::is_root) {
            return Err(bad(flag, file, "none of its certificates is a root: signed by itself"));
        }
        return Ok(Some(Trust::Certificates(roots)));
    }
    if let (Some(subject), Some(issuer), Some(file)) = (&args.identity, &args.issuer, &args.trust_root) {
        let flag = "--trust-root";
        let root = TrustRoot::parse(&read(file, flag)?).map_err(|what| bad(flag, file, what))?;
        let identity = Identity { subject: subject.clone(), issuer: issuer.clone() };
        return Ok(Some(Trust::Identity(identity, Box::new(root))));
    }
    match args.signature {
        Some(_) => Err(Error::usage("--signature: nobody is named who must have signed")
            .hint("give --key, --certificate-root, or --identity with --issuer and --trust-root")),
        None => Ok(None),
    }
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
    if let Some(signature) = &report.signature {
        s.line("signature", match (&signature.signer, signature.verified) {
            (Some(signer), true) => format!("holds for {} files, by the {} {}", signature.files, signer.kind, signer.name),
            (Some(signer), false) => format!("is the {} {}'s, and not of these files", signer.kind, signer.name),
            (None, _) => "does not hold".into(),
        });
    }
    for f in &report.findings {
        s.raw(&format!("\n{BOLD}{}{BOLD:#}  {}  {}\n", f.severity.name(), f.rule, line(&f.file)));
        let at = f.offset.map_or(String::new(), |o| format!(" (byte {o})"));
        s.line("", format!("{}{at}", f.what));
        s.line("", f.advice);
    }
    if report.findings_left_out > 0 {
        s.raw(&format!("\n  and {} more\n", report.findings_left_out));
    }
    s.finish()
}
