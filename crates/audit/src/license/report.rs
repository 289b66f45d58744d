//! The report on a model's licence: what its sources say, weighed into one answer, with the terms that follow.
//!
//! Owns the weighing. A text counts more than a name; a text that is there and not known leaves the answer open
//! whatever a card declares; a base model's terms travel with what was made of it.
use super::{
    Resemblance, names,
    policy::Verdict,
    sources,
    terms::{self, Fact, Read},
};
use pondera_weights::{Result, Weights};
use serde::Serialize;
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

/// What every report says of itself.
pub const NO_ADVICE: &str = "a reading of facts by a program, no legal advice";
/// A text of fewer words beside a card settles nothing.
const WORDS_MIN: usize = 40;

/// How a source says what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// A licence's text.
    Text,
    /// A notice that something is under a licence.
    Notice,
    /// The front matter of a card.
    Card,
    /// GGUF metadata.
    Gguf,
    /// Metadata of a safetensors file.
    Metadata,
    /// A config.
    Config,
    /// The name under which a hub has it.
    Name,
}

/// One place that says something about the licence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Source {
    /// The file.
    pub file: String,
    /// How it says it.
    pub how: How,
    /// The licence, if it is known.
    pub id: Option<String>,
    /// How sure that is, 0 to 1.
    pub confidence: f64,
    /// Licences that stand whole in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contains: Vec<String>,
    /// What it says beside them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub riders: Vec<String>,
    /// The licence that it looks like and is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resembles: Option<Resemblance>,
    /// What could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Words of a text, counted up to 100.
    #[serde(skip)]
    pub words: usize,
}

impl Source {
    /// A name that some file declares.
    pub(super) fn declared(file: &str, how: How, id: Option<String>) -> Source {
        // A name that leaves the version open is half an answer.
        let confidence = match &id {
            None => 0.0,
            Some(id) if terms::of(id).is_some() => 0.8,
            Some(_) => 0.5,
        };
        Source {
            file: file.into(),
            how,
            id,
            confidence,
            contains: vec![],
            riders: vec![],
            resembles: None,
            trouble: None,
            words: 0,
        }
    }

    /// A file that could not be read.
    pub(super) fn trouble(file: String, how: How, what: String) -> Source {
        Source { trouble: Some(what), ..Source::declared(&file, how, None) }
    }

    /// Whether it is a text that nobody knows.
    fn is_open(&self) -> bool {
        self.how == How::Text && self.id.is_none() && (self.words >= WORDS_MIN || !self.riders.is_empty())
    }
}

/// A model that this one was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Base {
    /// Its name, `org/name` on the hub.
    pub model: String,
    /// `quantized`, `adapter`, `merge`, `finetune` or, where nobody says, `derived`.
    pub relation: String,
    /// The file that says so.
    pub file: String,
    /// The licence that it is known to be under.
    pub id: Option<String>,
}

impl Base {
    pub(super) fn new(model: &str, relation: &str, file: &str) -> Base {
        let id = terms::of_model(model).map(|l| l.id.clone());
        Base { model: model.into(), relation: relation.into(), file: file.into(), id }
    }
}

/// A fact about a licence, and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Term {
    /// The licence.
    pub license: String,
    /// The fact.
    #[serde(flatten)]
    pub fact: Fact,
    /// What was read.
    pub source: String,
    /// Whether that was the licence itself.
    pub read: Read,
}

/// The licence of a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// The licence, or `None` where there is none or none that is known.
    pub id: Option<String>,
    /// How sure that is, 0 to 1.
    pub confidence: f64,
    /// Its title.
    pub name: Option<String>,
    /// What kind it is.
    pub kind: Option<String>,
    /// What one may do, under all licences that apply.
    pub permissions: Vec<String>,
    /// What one must do.
    pub conditions: Vec<String>,
    /// What is not given.
    pub limitations: Vec<String>,
    /// The details, with clause and source.
    pub facts: Vec<Term>,
    /// The licence itself and those that base models bring along.
    pub effective: Vec<String>,
    /// Models that it was made of.
    pub bases: Vec<Base>,
    /// What was looked at.
    pub sources: Vec<Source>,
    /// Where sources contradict one another.
    pub conflicts: Vec<String>,
    /// What a policy says; without one nothing is decided.
    pub verdict: Option<Verdict>,
    /// That this is no legal advice.
    pub note: &'static str,
}

/// Reads what `path` says about its licence: a model's folder or file, a licence text, a card.
///
/// Errors: a path that cannot be read, a file that is neither.
pub fn report(path: &Path) -> Result<Report> {
    let found = sources::find(path)?;
    Ok(weigh(found.sources, found.bases))
}

/// Reads what the metadata of open weights says about their licence.
pub fn report_of(weights: &Weights) -> Report {
    let found = sources::of(weights);
    weigh(found.sources, found.bases)
}

/// What these files say, each under the name that it has in its repository: for a model that is not whole yet.
/// Files that cannot be read say nothing.
pub fn report_of_files(files: &[(String, PathBuf)]) -> Report {
    let found = sources::of_files(files);
    weigh(found.sources, found.bases)
}

fn weigh(sources: Vec<Source>, mut bases: Vec<Base>) -> Report {
    let mut seen = HashSet::new();
    bases.retain(|b| seen.insert(b.model.clone()));
    let mut r = Report { note: NO_ADVICE, ..Report::default() };
    // What a file says about code is not about weights, where another says something about these.
    let about_code = |s: &Source| s.how == How::Text && s.file.to_uppercase().contains("CODE");
    let about_model = sources.iter().any(|s| s.how == How::Text && !about_code(s) && s.id.is_some());
    let counts = |s: &&Source| !(about_model && about_code(s));
    let texts: Vec<&Source> =
        sources.iter().filter(counts).filter(|s| matches!(s.how, How::Text | How::Notice)).collect();
    let names: Vec<&Source> =
        sources.iter().filter(|s| !matches!(s.how, How::Text | How::Notice) && s.id.is_some()).collect();
    let open = texts.iter().find(|s| s.is_open());
    let mut ids: Vec<String> = Vec::new();
    for id in texts.iter().filter_map(|s| s.id.clone()) {
        if !ids.iter().any(|other| names::agree(other, &id)) {
            ids.push(id);
        }
    }
    if let Some(open) = open {
        let like =
            open.resembles.as_ref().map_or(String::new(), |l| format!("; it resembles {} and is not that", l.id));
        r.conflicts.extend(names.first().map(|n| {
            format!(
                "{} declares {}, but {} is no licence that is known{like}",
                n.file,
                n.id.as_deref().unwrap_or(""),
                open.file
            )
        }));
    } else if !ids.is_empty() {
        r.confidence = texts.iter().filter(|s| s.id.is_some()).map(|s| s.confidence).fold(1.0, f64::min);
        let joined = ids.join(" AND ");
        for n in &names {
            let declared = n.id.as_deref().unwrap_or("");
            if !ids.iter().any(|id| names::agree(id, declared)) && declared != joined && declared != "other" {
                r.conflicts.push(format!("{} declares {declared}, the text is that of {joined}", n.file));
                r.confidence = r.confidence.min(0.6);
            }
        }
        r.id = Some(joined);
    } else if let Some(first) = names.iter().max_by(|a, b| a.confidence.total_cmp(&b.confidence)) {
        r.id = first.id.clone();
        r.confidence = first.confidence;
        for n in
            names.iter().filter(|n| !names::agree(n.id.as_deref().unwrap_or(""), first.id.as_deref().unwrap_or("")))
        {
            r.conflicts.push(format!(
                "{} declares {}, {} declares {}",
                first.file,
                first.id.as_deref().unwrap_or(""),
                n.file,
                n.id.as_deref().unwrap_or("")
            ));
            r.confidence = r.confidence.min(0.4);
        }
    }
    r.effective.extend(r.id.clone());
    for b in bases.iter().filter_map(|b| b.id.as_ref().map(|id| (b, id))) {
        let own = r.id.as_deref().unwrap_or("");
        if own.is_empty() || !names::parts(own).0.iter().any(|p| names::agree(p, b.1)) {
            if !own.is_empty() {
                r.conflicts
                    .push(format!("{} is under {}, whose terms travel with it; declared is {own}", b.0.model, b.1));
            }
            if !r.effective.contains(b.1) {
                r.effective.push(b.1.clone());
            }
        }
    }
    r.bases = bases;
    r.sources = sources;
    r.fill_terms();
    r
}

impl Report {
    /// With what is known of the hub's model `name` (`org/name`), where no file says anything.
    #[must_use]
    pub fn named(mut self, name: &str) -> Report {
        let open = self.sources.iter().any(Source::is_open);
        if let (Some(l), true) = (terms::of_model(name), self.effective.is_empty() && !open) {
            let source = Source { confidence: 0.6, ..Source::declared(name, How::Name, Some(l.id.clone())) };
            (self.id, self.confidence) = (source.id.clone(), source.confidence);
            self.effective.push(l.id.clone());
            self.sources.push(source);
            self.fill_terms();
        }
        self
    }

    /// The terms of all licences that apply: permissions that all give, conditions and limitations of any.
    fn fill_terms(&mut self) {
        let parts: Vec<String> = self.effective.iter().flat_map(|id| names::parts(id).0).collect();
        let known: Vec<&terms::License> = parts.iter().filter_map(|id| terms::of(id)).collect();
        if let [only] = &known[..] {
            self.name = Some(only.name.clone());
            self.kind = Some(only.kind.clone());
        }
        // A licence that is not known may take anything away.
        if let (Some(first), true) = (known.first(), known.len() == parts.len()) {
            let all = |p: &&String| known.iter().all(|l| l.permissions.contains(p));
            self.permissions = first.permissions.iter().filter(all).cloned().collect();
        }
        for l in known {
            let add = |to: &mut Vec<String>, from: &[String]| {
                let new: Vec<String> = from.iter().filter(|c| !to.contains(c)).cloned().collect();
                to.extend(new);
            };
            add(&mut self.conditions, &l.conditions);
            add(&mut self.limitations, &l.limitations);
            self.facts.extend(l.facts.iter().map(|f| Term {
                license: l.id.clone(),
                fact: f.clone(),
                source: l.source.clone(),
                read: l.read,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(file: &str, id: Option<&str>) -> Source {
        let id = id.map(str::to_string);
        Source {
            words: 100,
            confidence: if id.is_some() { 1.0 } else { 0.0 },
            ..Source { id, ..Source::declared(file, How::Text, None) }
        }
    }

    fn card(id: &str) -> Source {
        Source::declared("README.md", How::Card, Some(id.into()))
    }

    #[test]
    fn sources_are_weighed() {
        type Case<'a> = (Vec<Source>, Option<&'a str>, usize);
        let cases: Vec<Case> = vec![
            (vec![], None, 0),
            (vec![card("MIT")], Some("MIT"), 0),
            (vec![text("LICENSE", Some("MIT")), card("MIT")], Some("MIT"), 0),
            (vec![text("LICENSE", Some("Apache-2.0")), card("MIT")], Some("Apache-2.0"), 1),
            (vec![text("LICENSE", Some("Qwen-2024")), card("other: qwen")], Some("Qwen-2024"), 0),
            (vec![text("LICENSE", Some("Gemma-ToU-2024-04-01")), card("gemma")], Some("Gemma-ToU-2024-04-01"), 0),
            (vec![text("LICENSE", None), card("MIT")], None, 1),
            (
                vec![text("LICENSE-CODE", Some("MIT")), text("LICENSE-MODEL", Some("DeepSeek-License-1.0"))],
                Some("DeepSeek-License-1.0"),
                0,
            ),
            (
                vec![text("LICENSE-APACHE", Some("Apache-2.0")), text("LICENSE-MIT", Some("MIT"))],
                Some("Apache-2.0 AND MIT"),
                0,
            ),
        ];
        for (sources, want, conflicts) in cases {
            let r = weigh(sources.clone(), vec![]);
            assert_eq!((r.id.as_deref(), r.conflicts.len()), (want, conflicts), "{sources:?}\n{r:?}");
        }
    }

    #[test]
    fn a_base_models_licence_is_inherited() {
        let base = Base::new("meta-llama/Llama-3.1-8B", "quantized", "README.md");
        let r = weigh(vec![card("Apache-2.0")], vec![base.clone()]);
        assert_eq!(r.id.as_deref(), Some("Apache-2.0"));
        assert_eq!(r.effective, ["Apache-2.0", "Llama-3.1"]);
        assert_eq!(r.conflicts.len(), 1);
        assert!(!r.permissions.contains(&"patent-use".to_string()));
        let r = weigh(vec![], vec![base]);
        assert_eq!((r.id, r.effective), (None, vec!["Llama-3.1".to_string()]));
    }

    #[test]
    fn a_name_counts_where_no_file_says_anything() {
        let r = weigh(vec![], vec![]).named("mistralai/Mistral-Large-Instruct-2411");
        assert_eq!((r.id.as_deref(), &*r.effective), (Some("Mistral-Research"), &["Mistral-Research".to_string()][..]));
        assert!(r.confidence < 0.8 && !r.facts.is_empty());
        assert_eq!(weigh(vec![], vec![]).named("org/unheard-of").id, None);
        assert_eq!(weigh(vec![card("MIT")], vec![]).named("meta-llama/Llama-3.1-8B").effective, ["MIT"]);
        assert_eq!(weigh(vec![text("LICENSE", None)], vec![]).named("meta-llama/Llama-3.1-8B").id, None);
    }

    #[test]
    fn unknown_parts_take_permissions_away() {
        let r = weigh(vec![card("MIT AND my-own")], vec![]);
        assert!(r.permissions.is_empty() && !r.conditions.is_empty());
    }
}
