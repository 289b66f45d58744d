//! What licences let one do, demand and limit, as data (`terms.toml`), each fact with the clause it comes from.
//!
//! Owns the table and its types. Does not decide anything: `policy` does.
use crate::catalogue;
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;

static TABLE: &str = include_str!("terms.toml");

/// How it is known what a licence says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Read {
    /// Its text was read.
    Text,
    /// An account of its text was read.
    Stored,
}

/// A licence.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct License {
    /// SPDX's id, or that of this table.
    pub id: String,
    /// Its title.
    pub name: String,
    /// What kind it is: `permissive`, `copyleft`, `community`, `use-restricted`, `non-commercial`, …
    pub kind: String,
    /// The hub's `license:` value, where it means this licence alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<String>,
    /// Other names that cards give it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Names of models that are known to be under it, `*` at the end for any.
    #[serde(default, skip_serializing)]
    pub models: Vec<String>,
    /// How its terms are known.
    pub read: Read,
    /// What was read.
    pub source: String,
    /// What one may do.
    pub permissions: Vec<String>,
    /// What one must do.
    pub conditions: Vec<String>,
    /// What it does not give.
    pub limitations: Vec<String>,
    /// The details.
    #[serde(default)]
    pub facts: Vec<Fact>,
}

/// One fact about a licence.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fact {
    /// Which one.
    pub what: What,
    /// Its value.
    pub value: Value,
    /// The clause that says so.
    pub clause: String,
}

/// What facts are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Commercial use: `yes`, `no`, `conditional`.
    Commercial,
    /// Only research (or the like) is allowed.
    ResearchOnly,
    /// Most monthly users without another licence.
    UsersMax,
    /// Most revenue in a year without another licence, in US dollars.
    RevenueMaxUsd,
    /// Regions where it grants nothing: ISO 3166 codes, `EU`, `UK`.
    RegionsExcluded,
    /// What products must show.
    Display,
    /// Fewest monthly users from which on `display` applies.
    DisplayUsersMin,
    /// Least monthly revenue from which on `display` applies, in US dollars.
    DisplayRevenueUsdMonthMin,
    /// How names of derived models must begin.
    NamePrefix,
    /// A policy of acceptable use applies.
    AcceptableUse,
    /// Restrictions bind every later recipient.
    FlowDown,
    /// Whether outputs may train other models: `allowed`, `named`, `derivative`, `forbidden`.
    OutputsTraining,
    /// Who owns outputs, where it is not the user.
    OutputsOwned,
    /// Patents.
    Patents,
    /// Notices that must stay or be given.
    Notice,
    /// Derivatives are under the same licence.
    ShareAlike,
    /// Derivatives are not distributed.
    NoDerivatives,
    /// The source must be available.
    SourceCode,
    /// Use over a network counts as distribution.
    Network,
    /// Registration with or notice to the maker.
    Registration,
    /// Safety mechanisms must stay.
    Guardrails,
    /// When it ends.
    Termination,
    /// Limits on selling.
    Sale,
}

/// A fact's value.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A number.
    Number(u64),
    /// A word or sentence.
    Text(String),
    /// Several words.
    List(Vec<String>),
}

impl License {
    /// The fact about `what`, if the licence says anything.
    pub fn fact(&self, what: What) -> Option<&Fact> {
        self.facts.iter().find(|f| f.what == what)
    }
}

#[derive(Deserialize)]
struct Table {
    license: Vec<License>,
}

/// All licences whose terms are known.
pub fn table() -> &'static [License] {
    static ALL: OnceLock<Vec<License>> = OnceLock::new();
    // The table is part of the program; a test reads it.
    ALL.get_or_init(|| toml::from_str::<Table>(TABLE).map(|t| t.license).unwrap_or_default())
}

/// The terms of `id`: an id of the table, or one of the names that cards give it (`other: NAME`). GNU licences are
/// found with `-only` and `-or-later`, too. A name that several licences share is none.
pub fn of(id: &str) -> Option<&'static License> {
    let plain = id.trim_end_matches("-only").trim_end_matches("-or-later");
    if let Some(l) = table().iter().find(|l| l.id.eq_ignore_ascii_case(plain)) {
        return Some(l);
    }
    let name = id.strip_prefix("other: ").unwrap_or(id).to_lowercase();
    let mut found = table().iter().filter(|l| l.hub.as_deref() == Some(&*name) || l.aliases.contains(&name));
    match (found.next(), found.next()) {
        (Some(l), None) => Some(l),
        _ => None,
    }
}

/// The licence that the hub's model `name` (`org/name`) is known to be under.
pub fn of_model(name: &str) -> Option<&'static License> {
    let name = name.split(['@', ':']).next().unwrap_or(name).to_lowercase();
    let fits = |pattern: &String| {
        let pattern = pattern.to_lowercase();
        pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
    };
    // The longest pattern is the nearest.
    let all = table().iter().flat_map(|l| l.models.iter().map(move |m| (l, m)));
    let nearest = all.filter(|(_, m)| fits(m)).max_by_key(|(_, m)| m.len()).map(|(l, _)| l);
    nearest.or_else(|| {
        let (family, model) = catalogue::model(&name)?;
        of(&family.license_of(model)?.value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_complete_and_consistent() {
        let all: Vec<License> = toml::from_str::<Table>(TABLE).unwrap().license;
        assert!(all.len() > 80);
        for (i, l) in all.iter().enumerate() {
            assert!(!all[..i].iter().any(|o| o.id == l.id), "{} stands twice", l.id);
            assert!(!l.source.is_empty() && l.facts.iter().all(|f| !f.clause.is_empty()), "{}", l.id);
            let commercial = l.permissions.iter().any(|p| p == "commercial-use");
            let fact = l.fact(What::Commercial).unwrap_or_else(|| panic!("{}: commercial?", l.id));
            let Value::Text(value) = &fact.value else { panic!("{}", l.id) };
            assert!(["yes", "no", "conditional"].contains(&&**value), "{}", l.id);
            assert!(!commercial || value != "no", "{}", l.id);
            assert_eq!(l.limitations.iter().any(|p| p == "commercial-use"), value == "no", "{}", l.id);
            for what in [What::UsersMax, What::RevenueMaxUsd] {
                assert!(l.fact(what).is_none_or(|f| matches!(f.value, Value::Number(_))), "{}", l.id);
            }
        }
    }

    #[test]
    fn texts_that_were_read_are_recorded() {
        let recorded: Vec<&str> = super::super::template::templates().iter().map(|t| &*t.id).collect();
        for l in table().iter().filter(|l| l.read == Read::Text) {
            assert!(recorded.contains(&&*l.id), "{}: read, and no text of it is recorded", l.id);
        }
    }

    #[test]
    fn models_are_known_by_name() {
        for (name, want) in [
            ("meta-llama/Llama-3.1-8B-Instruct", Some("Llama-3.1")),
            ("meta-llama/Meta-Llama-3-8B", Some("Llama-3")),
            ("Qwen/Qwen2.5-72B-Instruct@main", Some("Qwen-2024")),
            ("Qwen/Qwen2.5-7B", None),
            ("Qwen/Qwen3-8B", Some("Apache-2.0")),
            ("google/gemma-4-31B-it", Some("Apache-2.0")),
            ("nvidia/Nemotron-3-Ultra-550B-A55B", Some("OpenMDW-1.1")),
            ("MiniMaxAI/MiniMax-M2.7", Some("MiniMax-M2.7-NC")),
            ("MiniMaxAI/MiniMax-M2", Some("Modified-MIT-MiniMax-M2")),
            ("moonshotai/Kimi-K3", Some("Kimi-K3")),
            ("deepseek-ai/DeepSeek-V3.1", None),
        ] {
            assert_eq!(of_model(name).map(|l| &*l.id), want, "{name}");
        }
        assert_eq!(of("other: mrl").map(|l| &*l.id), Some("Mistral-Research"));
        assert_eq!(of("GPL-3.0-or-later").map(|l| &*l.id), Some("GPL-3.0"));
        assert_eq!(of("gemma"), None);
    }
}
