//! The policy of `--policy`: asked before a model is fetched, used or converted, and what a refusal says (exit 4).
//!
//! Owns: the file, which name a policy knows a model by, the two lines of a refusal. Does not own: what licences say and what
//! a policy decides (`pondera-audit`).
use crate::{
    args::Global,
    error::{Error, Exit, Result},
    model::{PEBBLE_NAME, Source},
};
use pondera_audit::license::{self, Origin, Policy, Report, Verdict};
use pondera_store::{Early, ErrorKind, Reference};
use pondera_weights::Weights;
use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

/// Most bytes of a policy.
const BYTES_MAX: u64 = 1 << 20;

/// A policy that holds for this command.
#[derive(Clone, Debug)]
pub struct Guard {
    policy: Policy,
    file: PathBuf,
}

impl Guard {
    /// The policy of `--policy`, its variable or the file of `--config`; none where none is named.
    pub fn read(global: &Global) -> Result<Option<Guard>> {
        let Some(file) = global.policy.as_ref().filter(|f| !f.as_os_str().is_empty()) else { return Ok(None) };
        let wrong = |what: String| Error::usage(format!("--policy {}: {what}", file.display()));
        let mut text = String::new();
        let size = File::open(file).and_then(|f| f.take(BYTES_MAX + 1).read_to_string(&mut text));
        match size {
            Ok(n) if n as u64 <= BYTES_MAX => {}
            Ok(_) => return Err(wrong(format!("more than {BYTES_MAX} bytes"))),
            Err(e) => return Err(wrong(e.to_string()).hint("name a policy file that can be read")),
        }
        let policy = Policy::parse(&text).map_err(|e| wrong(e).hint("docs/licences.md has its form"))?;
        Ok(Some(Guard { policy, file: file.clone() }))
    }

    /// The policy itself.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// An error where the model at `source` is refused.
    pub fn source(&self, source: &Source) -> Result<()> {
        let (name, reports) = reports(source)?;
        reports.iter().try_for_each(|report| self.report(&name, report))
    }

    /// An error where the model `name`, of which `report` speaks, is refused.
    pub fn report(&self, name: &str, report: &Report) -> Result<()> {
        self.refused(name, report, &self.policy.judge(name, report))
    }

    /// An error where `verdict`, on the model `name`, refuses it.
    pub fn refused(&self, name: &str, report: &Report, verdict: &Verdict) -> Result<()> {
        if verdict.allowed() {
            return Ok(());
        }
        let license = verdict.license.as_deref().unwrap_or("no known licence");
        let brought = report.bases.iter().find(|b| b.id.is_some() && b.id == verdict.license && b.id != report.id);
        let brought = brought.map_or(String::new(), |b| format!(" of {}", b.model));
        let clause = verdict.clause.as_ref().map_or(String::new(), |c| format!(", clause {c}"));
        let what = format!("{name}: refused: {} [{license}{brought}{clause}]", verdict.reason);
        let place = match verdict.line {
            Some(line) => format!("{}:{line}, `{}`, decided", self.file.display(), verdict.rule),
            None => format!("the default of `{}` decided, which {} does not set", verdict.rule, self.file.display()),
        };
        Err(Error::new(Exit::Refused, what)
            .hint(format!("{place}: choose another model, or add an [[exception]] for {name}")))
    }

    /// What a pull of `reference` asks: at first of its documents, then of all of it.
    pub fn early(&self, reference: &Reference, early: &Early) -> pondera_store::Result<()> {
        let name = &reference.repository();
        let report = license::report_of_files(&early.files).named(name);
        let verdict = self.policy.judge(name, &report);
        // What documents leave open, the files of the weights may yet say.
        let open = report.effective.is_empty() || verdict.rule == "confidence_min";
        if !early.whole && open && verdict.rule != "exception" {
            return Ok(());
        }
        self.refused(name, &report, &verdict).map_err(|e| {
            let refused = pondera_store::Error::new(ErrorKind::Refused, e.what());
            e.hint_text().map_or(refused.clone(), |hint| refused.hint(hint))
        })
    }
}

/// An error where a policy refuses the model at `source`; without a policy nothing is asked.
pub fn check(source: &Source, global: &Global) -> Result<()> {
    Guard::read(global)?.map_or(Ok(()), |guard| guard.source(source))
}

/// What is known of the licence of `source`, and the name by which policies know it.
pub fn reported(source: &Source) -> Result<(String, Report)> {
    let (name, mut all) = reports(source)?;
    match all.pop() {
        Some(report) => Ok((name, report)),
        None => Err(Error::failed(format!("{name}: nothing is known of its licence"))),
    }
}

/// The name by which policies know `source`, and what is known of its licence: of the file itself, the last, and of each
/// link that leads to it and has something beside it that speaks of a licence. A name of the store is such a link.
fn reports(source: &Source) -> Result<(String, Vec<Report>)> {
    let Source::Path(path) = source else {
        return Ok((PEBBLE_NAME.into(), vec![license::report_of(&source.weights()?)]));
    };
    let mut places = places(path);
    let hub = places.iter().find_map(|place| hub_name(place)).map(|(name, _)| name);
    let itself = places.pop().map_or_else(|| license::report(path), |place| license::report(&place))?;
    let mut all = Vec::new();
    for place in places {
        let report = license::report(&place)?;
        // What the file says, the file itself says too.
        let own = place.file_name().map(|name| name.to_string_lossy());
        if report.sources.iter().any(|s| Some(s.file.as_str()) != own.as_deref()) {
            all.push(report);
        }
    }
    all.push(match &hub {
        Some(name) => itself.named(name),
        None => itself,
    });
    Ok((hub.unwrap_or_else(|| source.name()), all))
}

/// `path`, and where it leads if it is a link to a file: step by step, for each may have a card beside it. Not into the
/// blobs of the hub's cache, beside which nothing lies.
fn places(path: &Path) -> Vec<PathBuf> {
    const STEPS_MAX: usize = 8;
    let mut places = vec![path.to_path_buf()];
    let mut at = path.to_path_buf();
    while places.len() <= STEPS_MAX && at.is_file() {
        let Ok(led) = fs::read_link(&at) else { break };
        at = at.parent().map_or_else(|| led.clone(), |folder| folder.join(&led));
        if at.parent().is_some_and(|folder| folder.ends_with("blobs")) {
            break;
        }
        places.push(at.clone());
    }
    places
}

/// What a file that is made of `source` records of it; `alone` where no folder goes with it. An error where a policy
/// refuses the source.
pub fn origin(source: &Source, weights: &Weights, alone: bool, global: &Global) -> Result<Origin> {
    let (name, report) = reported(source)?;
    if let Some(guard) = Guard::read(global)? {
        guard.report(&name, &report)?;
    }
    let path = match source {
        Source::Path(path) => Some(path.as_path()),
        Source::Embedded(_) => None,
    };
    // Of a path only the name: where somebody keeps files is nobody's business.
    let file = |path: &Path| {
        let whole = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        whole.file_name().map_or_else(|| name.clone(), |n| n.to_string_lossy().into_owned())
    };
    let named = path.map_or_else(
        || name.clone(),
        |path| hub_name(path).map_or_else(|| file(path), |(name, commit)| format!("{name}@{commit}")),
    );
    let origin = Origin::new(&report, &named, "quantized");
    Ok(if alone { origin.with_texts(path, weights)? } else { origin })
}

/// `org/name` (`oci://host/org/name` of a registry's) and the commit of a path in the hub's cache
/// (`models--org--name/snapshots/commit`).
pub fn hub_name(path: &Path) -> Option<(String, String)> {
    let whole = std::path::absolute(path).ok()?;
    let parts: Vec<&str> = whole.components().filter_map(|c| c.as_os_str().to_str()).collect();
    let found = |parts: &[&str]| {
        parts.windows(3).rev().find_map(|w| {
            let name = w[0].strip_prefix("models--").filter(|_| w[1] == "snapshots")?;
            let registry = Reference::from_folder(w[0]).filter(|r| r.registry().is_some());
            let plain = || name.split_once("--").map(|(org, name)| format!("{org}/{name}"));
            registry.map(|r| r.repository()).or_else(plain).map(|name| (name, w[2].to_string()))
        })
    };
    // A name in the store is a link into the cache.
    found(&parts).or_else(|| {
        let led = fs::read_link(path).ok()?;
        let parts: Vec<&str> = led.components().filter_map(|c| c.as_os_str().to_str()).collect();
        found(&parts)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_of_the_hub_are_known_by_their_names() {
        for (path, want) in [
            ("/c/hub/models--org--name/snapshots/abc", Some(("org/name", "abc"))),
            ("/c/hub/models--org--a--b/snapshots/abc/x-Q8_0.gguf", Some(("org/a--b", "abc"))),
            (
                "/c/hub/models--oci--r.example+5000--a--m/snapshots/abc/m.gguf",
                Some(("oci://r.example:5000/a/m", "abc")),
            ),
            ("/c/hub/models--org--name/blobs/abc", None),
            ("model.gguf", None),
        ] {
            let found = hub_name(Path::new(path));
            assert_eq!(found.as_ref().map(|(n, c)| (&**n, &**c)), want, "{path}");
        }
        assert_eq!(places(Path::new("nosuch.gguf")), [Path::new("nosuch.gguf")]);
    }
}
