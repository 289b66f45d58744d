//! Policies: which licences one accepts for which use (`policy.toml`), and the verdict with the clause that decided.
//!
//! Owns the file's form and the decision. Every command that fetches or uses a model may ask [`Policy::judge`]; what
//! it does with a refusal (exit 4) is its own.
use super::{
    Report, names,
    terms::{self, License, Value, What},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use toml::de::{DeTable, DeValue};

/// A policy, as its file says it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// What to do where the licence or its terms are not known.
    pub unknown: Unknown,
    /// Ids or kinds that are accepted; none: all that are not denied.
    pub allow: Vec<String>,
    /// Ids or kinds that are refused.
    pub deny: Vec<String>,
    /// Least confidence of the identification, 0 to 1.
    pub confidence_min: f64,
    /// What the model is for.
    #[serde(rename = "use")]
    pub purpose: Use,
    /// Models with a decision of their own.
    pub exception: Vec<Exception>,
    /// The line of each key, by the name that verdicts give it (`use.commercial`, `exception 0`).
    #[serde(skip)]
    lines: BTreeMap<String, usize>,
}

/// What to do with what is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unknown {
    /// Refuse it.
    #[default]
    Deny,
    /// Accept it.
    Allow,
}

/// What a model is for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Use {
    /// For a business.
    pub commercial: bool,
    /// Monthly users of the products it is in.
    pub users: Option<u64>,
    /// Revenue in a year, in US dollars.
    pub revenue_usd: Option<u64>,
    /// Where its user is at home: an ISO 3166 code, `EU` or `UK`.
    pub region: Option<String>,
    /// Its outputs train other models.
    pub outputs_training: bool,
    /// It is changed: fine-tuned, merged, quantized.
    pub modify: bool,
    /// It, or what was made of it, is given to others.
    pub distribute: bool,
}

/// A decision about some models.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// Name of the model, `*` at the end for any.
    pub model: String,
    /// Only where it is under one of these; none: whatever it is under.
    #[serde(default)]
    pub license: Vec<String>,
    /// The decision.
    pub verdict: Decision,
    /// Why, for whoever reads the verdict.
    pub reason: String,
}

/// A decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Accepted.
    Allow,
    /// Refused.
    Deny,
}

/// What a policy says about a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Accepted or refused.
    pub decision: Decision,
    /// The line of the policy that decided: `deny`, `allow`, `unknown`, `use.commercial`, `exception`, …
    pub rule: String,
    /// Its line in the policy, counted from 1; none where the default decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The licence that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// The clause of the licence that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clause: Option<String>,
    /// In a sentence.
    pub reason: String,
    /// Thresholds and duties that an accepted use must still keep.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
}

impl Verdict {
    /// Whether the use is accepted.
    pub fn allowed(&self) -> bool {
        self.decision == Decision::Allow
    }
}

/// Member states of the European Union, ISO 3166.
const EU: &[&str] = &[
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT", "LT", "LU", "LV",
    "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
];

impl Policy {
    /// A policy from its text; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Policy, String> {
        let mut policy: Policy = toml::from_str(text).map_err(|e| {
            let place = e.span().map_or(String::new(), |s| format!("line {}: ", line_of(text, s.start)));
            format!("{place}{}", e.message().trim().replace('\n', " "))
        })?;
        let known = |name: &String| terms::of(name).is_some() || terms::table().iter().any(|l| l.kind == *name);
        let named = policy.allow.iter().chain(&policy.deny);
        if let Some(odd) = named
            .filter(|n| !known(n))
            .find(|n| names::id(n).is_none_or(|id| spdx::license_id(&id).is_none()) && !n.starts_with("other"))
        {
            return Err(format!("`{odd}` is neither a licence nor a kind of licences"));
        }
        if !(0.0..=1.0).contains(&policy.confidence_min) {
            return Err(format!("confidence_min: expected 0 to 1, got {}", policy.confidence_min));
        }
        policy.lines = lines(text);
        Ok(policy)
    }

    /// Whether `report`, about the model `name`, is accepted.
    pub fn judge(&self, name: &str, report: &Report) -> Verdict {
        let mut verdict = self.decide(name, report);
        if verdict.line.is_none() {
            verdict.line = self.lines.get(&verdict.rule).copied();
        }
        verdict
    }

    fn decide(&self, name: &str, report: &Report) -> Verdict {
        let id = report.id.as_deref();
        if let Some((i, e)) = self.exception.iter().enumerate().find(|(_, e)| e.fits(name, &report.effective)) {
            let reason = format!("exception for {}: {}", e.model, e.reason);
            let line = self.lines.get(&format!("exception {i}")).copied();
            return Verdict { decision: e.verdict, line, ..verdict("exception", id, None, reason) };
        }
        if report.effective.is_empty() {
            return self.unknown(None, "no licence was found, or none that is known".into());
        }
        if report.confidence < self.confidence_min {
            let reason = format!("the licence is only known with confidence {:.2}", report.confidence);
            return verdict("confidence_min", id, None, reason);
        }
        let mut keep = Vec::new();
        for id in &report.effective {
            let (parts, all) = names::parts(id);
            let verdicts: Vec<Verdict> = parts.iter().map(|p| self.one(p)).collect();
            let refused = verdicts.iter().find(|v| !v.allowed());
            let accepted = verdicts.iter().find(|v| v.allowed());
            match (refused, accepted, all) {
                (Some(refused), _, true) | (Some(refused), None, false) => return refused.clone(),
                (_, Some(chosen), false) => keep.extend(chosen.keep.clone()),
                _ => keep.extend(verdicts.into_iter().flat_map(|v| v.keep)),
            }
        }
        let reason = format!("{} is accepted for this use", report.effective.join(" with "));
        Verdict { decision: Decision::Allow, keep, ..verdict("use", id, None, reason) }
    }

    fn unknown(&self, id: Option<&str>, reason: String) -> Verdict {
        let decision = if self.unknown == Unknown::Allow { Decision::Allow } else { Decision::Deny };
        Verdict { decision, ..verdict("unknown", id, None, reason) }
    }

    /// The verdict on a single licence.
    fn one(&self, id: &str) -> Verdict {
        let l = terms::of(id);
        let listed = |list: &[String]| list.iter().any(|n| matches(n, id, l));
        if listed(&self.deny) {
            return verdict("deny", Some(id), None, format!("{id} is on the list of what is refused"));
        }
        if !self.allow.is_empty() && !listed(&self.allow) {
            return verdict("allow", Some(id), None, format!("{id} is not on the list of what is accepted"));
        }
        let Some(l) = l else {
            if self.allow.iter().any(|n| n.eq_ignore_ascii_case(id)) {
                let reason = format!("{id} is on the list of what is accepted");
                return Verdict { decision: Decision::Allow, ..verdict("allow", Some(id), None, reason) };
            }
            return self.unknown(Some(id), format!("the terms of {id} are not known"));
        };
        self.purpose.refused(l).unwrap_or_else(|| Verdict {
            decision: Decision::Allow,
            keep: self.purpose.keep(l),
            ..verdict("use", Some(&l.id), None, format!("{} allows this use", l.id))
        })
    }
}

fn verdict(rule: &str, license: Option<&str>, clause: Option<&str>, reason: String) -> Verdict {
    let owned = |s: Option<&str>| s.map(str::to_string);
    Verdict {
        decision: Decision::Deny,
        rule: rule.into(),
        line: None,
        license: owned(license),
        clause: owned(clause),
        reason,
        keep: Vec::new(),
    }
}

/// The line of a byte, counted from 1.
fn line_of(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or_default().matches('\n').count() + 1
}

/// The lines of a policy's keys; the text is one that could be read.
fn lines(text: &str) -> BTreeMap<String, usize> {
    let mut lines = BTreeMap::new();
    let Ok(table) = DeTable::parse(text) else { return lines };
    let line = |at: usize| line_of(text, at);
    for (key, value) in table.get_ref() {
        let name: &str = key.get_ref();
        lines.insert(name.to_string(), line(key.span().start));
        match value.get_ref() {
            DeValue::Table(inner) => {
                for (part, _) in inner {
                    lines.insert(format!("{name}.{}", part.get_ref()), line(part.span().start));
                }
            }
            DeValue::Array(list) => {
                for (i, entry) in list.iter().enumerate() {
                    lines.insert(format!("{name} {i}"), line(entry.span().start));
                }
            }
            _ => {}
        }
    }
    lines
}

/// Whether an entry of a list means this licence: its id, or its kind.
fn matches(entry: &str, id: &str, l: Option<&License>) -> bool {
    let same = |a: &str| a.eq_ignore_ascii_case(entry);
    let plain = id.trim_end_matches("-only").trim_end_matches("-or-later");
    same(id) || same(plain) || l.is_some_and(|l| same(&l.id) || l.kind == entry)
}

impl Exception {
    fn fits(&self, name: &str, effective: &[String]) -> bool {
        let (pattern, name) = (self.model.to_lowercase(), name.to_lowercase());
        let fits = pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start));
        let under = |id: &String| self.license.iter().any(|l| l.eq_ignore_ascii_case(id));
        fits && (self.license.is_empty() || effective.iter().any(under))
    }
}

impl Use {
    /// The first clause of `l` that this use is against.
    fn refused(&self, l: &License) -> Option<Verdict> {
        let text = |what: What, value: &str| l.fact(what).filter(|f| f.value == Value::Text(value.into()));
        let refuse = |rule: &str, clause: &str, reason: String| Some(verdict(rule, Some(&l.id), Some(clause), reason));
        let id = &l.id;
        if self.commercial
            && let Some(f) = text(What::Commercial, "no")
        {
            return refuse("use.commercial", &f.clause, format!("{id} does not allow commercial use"));
        }
        for (rule, what, n, unit) in [
            ("use.users", What::UsersMax, self.users, "monthly users"),
            ("use.revenue_usd", What::RevenueMaxUsd, self.revenue_usd, "US dollars of yearly revenue"),
        ] {
            if let (Some(n), Some(f)) = (n, l.fact(what))
                && let Value::Number(most) = f.value
                && n > most
            {
                return refuse(rule, &f.clause, format!("{id} allows up to {most} {unit}, here are {n}"));
            }
        }
        if let (Some(region), Some(f)) = (&self.region, l.fact(What::RegionsExcluded))
            && let Value::List(regions) = &f.value
        {
            let here = region.to_uppercase();
            let here = if here == "GB" { "UK".to_string() } else { here };
            if regions.iter().any(|r| *r == here || r == "EU" && EU.contains(&&*here)) {
                return refuse("use.region", &f.clause, format!("{id} grants nothing in {region}"));
            }
        }
        if self.outputs_training
            && let Some(f) = text(What::OutputsTraining, "forbidden")
        {
            return refuse(
                "use.outputs_training",
                &f.clause,
                format!("{id} does not let its outputs train other models"),
            );
        }
        if self.modify
            && self.distribute
            && let Some(f) = l.fact(What::NoDerivatives)
        {
            return refuse("use.modify", &f.clause, format!("{id} does not let changed versions be given to others"));
        }
        if self.distribute && !l.permissions.iter().any(|p| p == "distribution") {
            return refuse("use.distribute", "grant", format!("{id} does not let it be given to others"));
        }
        None
    }

    /// What an accepted use must still keep: thresholds that the policy does not state, duties that it brings.
    fn keep(&self, l: &License) -> Vec<String> {
        let mut keep = Vec::new();
        let mut add = |what: What, text: &dyn Fn(&Value) -> String| {
            if let Some(f) = l.fact(what) {
                keep.push(format!("{}: {} (clause {})", l.id, text(&f.value), f.clause));
            }
        };
        let plain = |v: &Value| match v {
            Value::Text(t) => t.clone(),
            Value::Number(n) => n.to_string(),
            Value::List(l) => l.join(", "),
        };
        if self.users.is_none() {
            add(What::UsersMax, &|v| format!("up to {} monthly users", plain(v)));
        }
        if self.revenue_usd.is_none() {
            add(What::RevenueMaxUsd, &|v| format!("up to {} US dollars of yearly revenue", plain(v)));
        }
        if self.region.is_none() {
            add(What::RegionsExcluded, &|v| format!("not in {}", plain(v)));
        }
        add(What::AcceptableUse, &|v| format!("acceptable use: {}", plain(v)));
        if self.commercial {
            add(What::Display, &|v| format!("show: {}", plain(v)));
            add(What::Registration, &plain);
        }
        if self.outputs_training {
            add(What::OutputsTraining, &|v| format!("training on outputs: {}", plain(v)));
        }
        if self.distribute {
            add(What::Notice, &|v| format!("notice: {}", plain(v)));
            add(What::FlowDown, &plain);
            add(What::ShareAlike, &plain);
            add(What::SourceCode, &plain);
        }
        if self.distribute && self.modify {
            add(What::NamePrefix, &|v| format!("names begin with {}", plain(v)));
        }
        keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn under(id: &str) -> Report {
        Report { id: Some(id.into()), effective: vec![id.into()], confidence: 1.0, ..Report::default() }
    }

    const COMMERCIAL: &str = "[use]\ncommercial = true";
    const LARGE: &str = "[use]\ncommercial = true\nusers = 800000000";
    const MIDDLE: &str = "[use]\ncommercial = true\nusers = 150000000\nrevenue_usd = 30000000";
    const SMALL: &str = "[use]\ncommercial = true\nusers = 1000\nrevenue_usd = 500000";
    const HOBBY: &str = "[use]\ncommercial = false";
    const BERLIN: &str = "[use]\ncommercial = true\nregion = \"DE\"";
    const LONDON: &str = "[use]\nregion = \"GB\"";
    const TEXAS: &str = "[use]\nregion = \"US\"";
    const TEACHER: &str = "[use]\noutputs_training = true";
    const REMIX: &str = "[use]\nmodify = true\ndistribute = true";
    const GIVE: &str = "[use]\ndistribute = true";
    const OPEN_ONLY: &str = "allow = [\"permissive\", \"public-domain\"]";
    const NO_COPYLEFT: &str = "deny = [\"copyleft\", \"AGPL-3.0\"]";
    const LAX: &str = "unknown = \"allow\"";

    /// A licence, a use, and what refuses it: the rule, and how the clause begins.
    type Row = (&'static str, &'static str, Option<(&'static str, &'static str)>);

    const TABLE: &[Row] = &[
        ("MIT", COMMERCIAL, None),
        ("MIT", LARGE, None),
        ("MIT", REMIX, None),
        ("Apache-2.0", COMMERCIAL, None),
        ("Apache-2.0", OPEN_ONLY, None),
        ("CC0-1.0", OPEN_ONLY, None),
        ("GPL-3.0-or-later", OPEN_ONLY, Some(("allow", ""))),
        ("GPL-3.0-or-later", NO_COPYLEFT, Some(("deny", ""))),
        ("AGPL-3.0", NO_COPYLEFT, Some(("deny", ""))),
        ("MPL-2.0", COMMERCIAL, None),
        ("CC-BY-NC-4.0", COMMERCIAL, Some(("use.commercial", "2.a.1"))),
        ("CC-BY-NC-4.0", HOBBY, None),
        ("CC-BY-NC-ND-4.0", REMIX, Some(("use.modify", "2.a.1"))),
        ("CC-BY-NC-ND-4.0", GIVE, None),
        ("CC-BY-SA-4.0", REMIX, None),
        ("Llama-1-2023", COMMERCIAL, Some(("use.commercial", "1.a"))),
        ("Llama-2", COMMERCIAL, None),
        ("Llama-2", LARGE, Some(("use.users", "2"))),
        ("Llama-2", TEACHER, Some(("use.outputs_training", "1.b.v"))),
        ("Llama-3.1", LARGE, Some(("use.users", "2"))),
        ("Llama-3.1", MIDDLE, None),
        ("Llama-3.1", TEACHER, None),
        ("Llama-4", BERLIN, Some(("use.region", "acceptable use"))),
        ("Llama-4", TEXAS, None),
        ("Gemma-ToU-2024-04-01", COMMERCIAL, None),
        ("gemma", COMMERCIAL, Some(("unknown", ""))),
        ("gemma", LAX, None),
        ("Qwen-2024", MIDDLE, Some(("use.users", "4"))),
        ("Qwen-2024", SMALL, None),
        ("Tongyi-Qianwen-2023", TEACHER, Some(("use.outputs_training", "5.b"))),
        ("DeepSeek-License-1.0", COMMERCIAL, None),
        ("Stability-Community-2024", MIDDLE, Some(("use.revenue_usd", "III"))),
        ("Stability-Community-2024", SMALL, None),
        ("Stability-NC-2023", COMMERCIAL, Some(("use.commercial", "1.a"))),
        ("Tencent-Hunyuan3D-2.0", LONDON, Some(("use.region", "1.l"))),
        ("Tencent-Hunyuan3D-2.0", MIDDLE, Some(("use.users", "4"))),
        ("Modified-MIT-Kimi-K2", LARGE, None),
        ("other: kimi-k3", MIDDLE, Some(("use.revenue_usd", "2: model as a service"))),
        ("other: mrl", COMMERCIAL, Some(("use.commercial", "3.2"))),
        ("other: mnpl", COMMERCIAL, Some(("use.commercial", "3.2"))),
        ("MiniMax-M2.7-NC", COMMERCIAL, Some(("use.commercial", "3:"))),
        ("other: my-own", COMMERCIAL, Some(("unknown", ""))),
        ("other: my-own", LAX, None),
        ("EXAONE-1.1-NC", GIVE, None),
        ("EXAONE-1.1-NC", TEACHER, Some(("use.outputs_training", "3.1"))),
        ("BigScience-OpenRAIL-M", COMMERCIAL, None),
        ("NVIDIA-Open-Model-2025", COMMERCIAL, None),
        ("MIT AND CC-BY-NC-4.0", COMMERCIAL, Some(("use.commercial", "2.a.1"))),
        ("MIT OR CC-BY-NC-4.0", COMMERCIAL, None),
    ];

    #[test]
    fn verdicts_and_the_clauses_that_decide() {
        assert!(TABLE.len() >= 40);
        for (id, policy, want) in TABLE {
            let v = Policy::parse(policy).unwrap().judge("org/name", &under(id));
            match want {
                None => assert!(v.allowed(), "{id}, {policy}: {v:?}"),
                Some((rule, clause)) => {
                    assert!(!v.allowed() && v.rule == *rule, "{id}, {policy}: {v:?}");
                    assert!(v.clause.unwrap_or_default().starts_with(clause), "{id}, {policy}");
                }
            }
        }
    }

    #[test]
    fn a_base_models_terms_count() {
        let mut r = under("Apache-2.0");
        r.effective.push("Llama-3.1".into());
        let v = Policy::parse(LARGE).unwrap().judge("x", &r);
        assert_eq!((v.allowed(), v.license.as_deref()), (false, Some("Llama-3.1")));
    }

    #[test]
    fn exceptions_come_first() {
        let text = "[use]\ncommercial = true\n[[exception]]\nmodel = \"org/*\"\nlicense = [\"CC-BY-NC-4.0\"]\nverdict = \"allow\"\nreason = \"contract 7\"";
        let policy = Policy::parse(text).unwrap();
        let v = policy.judge("Org/name", &under("CC-BY-NC-4.0"));
        assert!(v.allowed() && v.reason.contains("contract 7"), "{v:?}");
        assert!(!policy.judge("other/name", &under("CC-BY-NC-4.0")).allowed());
        assert!(policy.judge("org/name", &under("MIT")).allowed());
    }

    #[test]
    fn a_verdict_names_the_line_that_decided() {
        let text = "# ours\nunknown = \"deny\"\nallow = [\n  \"permissive\",\n  \"Llama-3.1\",\n]\n\n[use]\ncommercial = true\nusers = 800000000\n\n\
            [[exception]]\nmodel = \"a/*\"\nverdict = \"allow\"\nreason = \"x\"\n\n[[exception]]\nmodel = \"b/*\"\nverdict = \"deny\"\nreason = \"y\"\n";
        let policy = Policy::parse(text).unwrap();
        for (name, id, rule, line) in [
            ("m", "CC-BY-NC-4.0", "allow", Some(3)),
            ("m", "Llama-3.1", "use.users", Some(10)),
            ("b/m", "MIT", "exception", Some(17)),
            ("a/m", "CC-BY-NC-4.0", "exception", Some(12)),
        ] {
            let v = policy.judge(name, &under(id));
            assert_eq!((&*v.rule, v.line), (rule, line), "{name} {id}");
        }
        let unknown = |text: &str| Policy::parse(text).unwrap().judge("m", &Report::default());
        assert_eq!(unknown(text).line, Some(2));
        // What decided is the default, which no line says.
        assert_eq!((unknown("").allowed(), unknown("").line), (false, None));
    }

    #[test]
    fn what_is_accepted_has_duties() {
        let v = Policy::parse(COMMERCIAL).unwrap().judge("x", &under("Llama-3.1"));
        assert!(
            v.keep.iter().any(|k| k.contains("700000000")) && v.keep.iter().any(|k| k.contains("Built with Llama")),
            "{v:?}"
        );
    }

    #[test]
    fn a_policy_with_a_mistake_is_none() {
        for bad in [
            "alow = []",
            "allow = [\"MTI\"]",
            "[use]\ncomercial = true",
            "confidence_min = 2.0",
            "unknown = \"maybe\"",
            "x",
        ] {
            assert!(Policy::parse(bad).is_err(), "{bad}");
        }
        assert!(Policy::parse("[use]\nusers = 3\ncommercial = 3").unwrap_err().starts_with("line 3: "));
        assert!(Policy::parse("allow = [\"MIT\", \"permissive\", \"Apache-2.0\", \"other: x\"]").is_ok());
    }
}
