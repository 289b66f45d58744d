//! Names of licences: the hub's `license:` values, SPDX identifiers and expressions, each to one id.
//!
//! Owns the mapping. An id is SPDX's where there is one, else that of the table of terms; a value of the hub that
//! names no version stays as it is, for nobody knows which one is meant.
use super::terms;
use spdx::Expression;

/// Values of the hub that are an id of SPDX in another spelling.
const SPELT: &[(&str, &str)] = &[
    ("odbl", "ODbL-1.0"),
    ("odc-by", "ODC-By-1.0"),
    ("pddl", "PDDL-1.0"),
    ("lgpl-lr", "LGPLLR"),
    ("open-mdw", "OpenMDW-1.0"),
];
/// Values of the hub that name a licence without its version, or a kind of licence.
const NO_VERSION: &[&str] =
    &["bsd", "cc", "gfdl", "gpl", "lgpl", "openrail", "openrail++", "gemma", "creativeml-openrail-m"];
/// Longest name that is looked at.
const NAME_MAX: usize = 2000;

/// The id for one name. `None` for no licence.
pub fn id(name: &str) -> Option<String> {
    let name = name.trim();
    let lower = name.to_lowercase();
    if name.len() > NAME_MAX || matches!(&*lower, "" | "unknown" | "none" | "null" | "n/a" | "noassertion") {
        return None;
    }
    if NO_VERSION.contains(&&*lower) {
        return Some(lower);
    }
    if let Some((_, id)) = SPELT.iter().find(|s| s.0 == lower) {
        return Some(id.to_string());
    }
    let versioned = |l: &&terms::License| l.id.eq_ignore_ascii_case(name) || l.hub.as_deref() == Some(&*lower);
    if let Some(l) = terms::table().iter().find(versioned) {
        return Some(l.id.clone());
    }
    if let Some(id) = spdx_id(name) {
        return Some(id);
    }
    // `mit or apache-2.0`: an expression, whatever its case.
    for (by, joined) in [(" or ", " OR "), (" and ", " AND ")] {
        if lower.contains(by) && !lower.contains('(') {
            let ids: Option<Vec<String>> = lower.split(by).map(|part| spdx_id(part.trim())).collect();
            return Some(ids.map_or_else(|| name.to_string(), |ids| ids.join(joined)));
        }
    }
    if let Ok(e) = Expression::parse(name) {
        return Some(e.to_string());
    }
    match spdx::imprecise_license_id(name) {
        Some((id, n)) if n == name.len() => Some(id.name.to_string()),
        _ => Some(name.to_string()),
    }
}

fn spdx_id(name: &str) -> Option<String> {
    spdx::identifiers::LICENSES.iter().find(|l| l.name.eq_ignore_ascii_case(name)).map(|l| l.name.to_string())
}

/// The id for a card's `license` (one or several) and `license_name`.
pub fn declared(licenses: &[String], license_name: Option<&str>) -> Option<String> {
    let named = license_name.map(str::trim).filter(|n| !n.is_empty());
    let one = |l: &String| match (l.trim().eq_ignore_ascii_case("other"), named) {
        (true, Some(name)) => Some(format!("other: {name}")),
        (true, None) => Some("other".to_string()),
        (false, _) => id(l),
    };
    let mut ids: Vec<String> = Vec::new();
    for id in licenses.iter().filter_map(one) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    (!ids.is_empty()).then(|| ids.join(" AND "))
}

/// The single licences that an id names, with whether all of them apply or one may be chosen.
pub fn parts(id: &str) -> (Vec<String>, bool) {
    let split = |by: &str| id.split(by).map(|p| p.trim_matches(['(', ')', ' ']).to_string()).collect::<Vec<_>>();
    match (id.contains(" OR "), id.contains(" AND ")) {
        (true, false) => (split(" OR "), false),
        // A mixture is read as the sum of its parts: never less than what applies.
        (true, true) => (
            split(" AND ").iter().flat_map(|p| p.split(" OR ").map(str::to_string).collect::<Vec<_>>()).collect(),
            true,
        ),
        _ => (split(" AND "), true),
    }
}

/// Whether two names may well mean the same licence: `gemma` and a version of it, `GPL-3.0` and `GPL-3.0-only`,
/// `other: qwen` and a licence that the table lists under that name.
pub fn agree(a: &str, b: &str) -> bool {
    let plain = |x: &str| x.trim_end_matches("-only").trim_end_matches("-or-later").to_lowercase();
    let (a, b) = (plain(a), plain(b));
    if a == b {
        return true;
    }
    let names = |id: &str| -> Vec<String> {
        let l = terms::table().iter().find(|l| plain(&l.id) == id);
        l.into_iter().flat_map(|l| l.hub.iter().chain(&l.aliases).map(|n| n.to_lowercase())).collect()
    };
    let bare = |x: &str| x.strip_prefix("other: ").unwrap_or(x).to_string();
    names(&a).contains(&bare(&b)) || names(&b).contains(&bare(&a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_ids() {
        let cases: &[(&str, Option<&str>)] = &[
            ("apache-2.0", Some("Apache-2.0")),
            ("MIT", Some("MIT")),
            ("gpl-3.0", Some("GPL-3.0")),
            ("gpl-3.0-or-later", Some("GPL-3.0-or-later")),
            ("cc-by-nc-sa-4.0", Some("CC-BY-NC-SA-4.0")),
            ("odbl", Some("ODbL-1.0")),
            ("wtfpl", Some("WTFPL")),
            ("llama3.1", Some("Llama-3.1")),
            ("llama2", Some("Llama-2")),
            ("bigscience-bloom-rail-1.0", Some("BigScience-BLOOM-RAIL-1.0")),
            ("bigcode-openrail-m", Some("BigCode-OpenRAIL-M-v1")),
            ("gemma", Some("gemma")),
            ("openrail", Some("openrail")),
            ("cc", Some("cc")),
            ("unknown", None),
            ("", None),
            ("mit or apache-2.0", Some("MIT OR Apache-2.0")),
            ("my-own-license", Some("my-own-license")),
        ];
        for (name, want) in cases {
            assert_eq!(id(name).as_deref(), *want, "{name}");
        }
    }

    #[test]
    fn cards_become_ids() {
        let card = |l: &[&str], name| declared(&l.iter().map(|s| s.to_string()).collect::<Vec<_>>(), name);
        assert_eq!(card(&["mit", "apache-2.0"], None).as_deref(), Some("MIT AND Apache-2.0"));
        assert_eq!(card(&["other"], Some("qwen")).as_deref(), Some("other: qwen"));
        assert_eq!(card(&["other"], None).as_deref(), Some("other"));
        assert_eq!(card(&["mit"], Some("qwen")).as_deref(), Some("MIT"));
        assert_eq!(card(&[], Some("qwen")), None);
    }

    #[test]
    fn some_names_agree() {
        for (a, b, want) in [
            ("gemma", "Gemma-ToU-2024-04-01", true),
            ("GPL-3.0-only", "GPL-3.0", true),
            ("other: qwen", "Qwen-2024", true),
            ("other: modified-mit", "Modified-MIT-Kimi-K2", true),
            ("MIT", "Apache-2.0", false),
            ("MIT", "Modified-MIT-Kimi-K2", false),
            ("other: deepseek", "DeepSeek-License-1.0", true),
        ] {
            assert_eq!(agree(a, b), want, "{a} {b}");
        }
    }
}
