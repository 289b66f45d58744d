//! An audit: everything that is looked at in a model or file, in one report.
//!
//! Owns what belongs to an audit and how findings of licences are graded. The rules are their modules'.
use crate::{
    findings::{
        Concern, Finding, Findings, LICENSE_CONFLICT, LICENSE_MISSING, LICENSE_POLICY, LICENSE_UNKNOWN, New,
        SIGNATURE_UNVERIFIED, Severity,
    },
    known_bad::{self, KnownBad},
    license::{self, Policy},
    provenance, scan,
    signature::{self, Demand},
    template,
    tensors::{self, Looked},
    tokenizer,
};
use pondera_weights::Result;
use serde::Serialize;
use std::path::Path;

/// What an audit looks at beside the files themselves.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// Judges the licence.
    pub policy: Option<&'a Policy>,
    /// How tensors are looked at.
    pub tensors: tensors::Options<'a>,
    /// Digests that no file should have.
    pub known_bad: Option<&'a KnownBad>,
}

/// What an audit found.
#[derive(Debug, Serialize)]
pub struct Audit {
    /// What was looked at.
    pub path: String,
    /// Files that were looked at.
    pub files: usize,
    /// Tensors that were looked at.
    pub tensors: Looked,
    /// The findings, the worst first.
    pub findings: Vec<Finding>,
    /// Findings beyond those.
    pub findings_left_out: usize,
    /// The worst finding about the files.
    pub worst_safety: Option<Severity>,
    /// The worst finding about licence and policy.
    pub worst_policy: Option<Severity>,
    /// The licence, where a model was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<license::Report>,
    /// The signature, where one is demanded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<signature::Report>,
}

/// Looks at `path`, a model's folder or any one file; `name` is what a policy knows it by.
///
/// Errors: a path that cannot be read.
pub fn audit(path: &Path, name: &str, options: &Options<'_>) -> Result<Audit> {
    audit_signed(path, name, options, None, &mut |_, _| {})
}

/// As [`audit()`], with a signature that is demanded; `seen` is told how many of how many bytes have been read for it.
///
/// Errors: a path that cannot be read.
pub fn audit_signed(
    path: &Path,
    name: &str,
    options: &Options<'_>,
    demand: Option<&Demand<'_>>,
    seen: &mut dyn FnMut(u64, u64),
) -> Result<Audit> {
    let (mut findings, policy) = (Findings::default(), options.policy);
    let files = scan::scan(path, &mut findings)?;
    template::look(path, &mut findings);
    tokenizer::look(path, &mut findings);
    provenance::look(path, &mut findings);
    let tensors = tensors::look(path, &options.tensors, &mut findings);
    if let Some(list) = options.known_bad {
        known_bad::look(path, list, options.tensors.threads(), &|_| {}, &mut findings)?;
    }
    let model = path.is_dir() || path.extension().is_some_and(|e| e == "gguf" || e == "safetensors");
    let license = if model || policy.is_some() { licence(path, name, policy, &mut findings) } else { None };
    let signature = match demand {
        Some(demand) => Some(signature::verify(path, demand, &mut findings, seen)?),
        None => {
            unverified(path, &mut findings);
            None
        }
    };
    let (worst_safety, worst_policy) = (findings.worst(Concern::Safety), findings.worst(Concern::Policy));
    let (findings, findings_left_out) = findings.finish();
    Ok(Audit {
        path: path.display().to_string(),
        files,
        tensors,
        findings,
        findings_left_out,
        worst_safety,
        worst_policy,
        license,
        signature,
    })
}

/// A signature that nobody asked for is worth knowing of.
fn unverified(path: &Path, findings: &mut Findings) {
    if path.join(signature::DEFAULT_NAME).is_file() {
        findings.add(New {
            rule: SIGNATURE_UNVERIFIED,
            severity: Severity::Info,
            file: signature::DEFAULT_NAME,
            what: "a signature lies beside the model and was not verified".into(),
            offset: None,
            name: None,
        });
    }
}

fn licence(path: &Path, name: &str, policy: Option<&Policy>, findings: &mut Findings) -> Option<license::Report> {
    // Weights that cannot be read have a finding already.
    let mut report = license::report(path).unwrap_or_default();
    let file = path.display().to_string();
    let mut add = |rule, severity, what: String| {
        findings.add(New { rule, severity, file: &file, what, offset: None, name: None });
    };
    let open = report.sources.iter().find(|s| s.id.is_none() && s.how == license::How::Text);
    match (&report.id, open) {
        (Some(_), _) => {}
        (None, Some(open)) => {
            let like = open.resembles.as_ref().map_or(String::new(), |l| format!("; it resembles {}", l.id));
            let like = match (&open.contains[..], open.riders.first()) {
                ([], _) | (_, None) => like,
                (parts, Some(rider)) => format!("; it holds {} and adds: {rider}", parts.join(", ")),
            };
            add(LICENSE_UNKNOWN, Severity::Low, format!("{} is no licence that is known{like}", open.file));
        }
        (None, None) => add(LICENSE_MISSING, Severity::Low, "no licence was found".into()),
    }
    for conflict in &report.conflicts {
        add(LICENSE_CONFLICT, Severity::Medium, conflict.clone());
    }
    if let Some(policy) = policy {
        let verdict = policy.judge(name, &report);
        if !verdict.allowed() {
            let clause = verdict.clause.as_ref().map_or(String::new(), |c| format!(" (clause {c})"));
            add(LICENSE_POLICY, Severity::High, format!("{}: {}{clause}", verdict.rule, verdict.reason));
        }
        report.verdict = Some(verdict);
    }
    Some(report)
}
