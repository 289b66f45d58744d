//! A licence as bills of materials write it: an SPDX expression, in which what SPDX does not list is a `LicenseRef-`.
use crate::license::{names, terms};
use spdx::{Expression, ParseMode};

/// Longest name of a licence that is shown whole in a reference.
const NAME_MAX: usize = 80;
/// Identifiers that SPDX has retired are still what files declare.
const MODE: ParseMode = ParseMode { allow_deprecated: true, ..ParseMode::STRICT };

/// A licence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Licence {
    /// The id as licence reports have it.
    pub id: String,
    /// A valid SPDX expression.
    pub expression: String,
    /// What stands behind its references: `LicenseRef-x` and the licence's name.
    pub refs: Vec<(String, String)>,
}

impl Licence {
    /// The licence `id` of a report.
    pub fn of(id: &str) -> Licence {
        if is_expression(id) {
            return Licence { id: id.into(), expression: id.into(), refs: Vec::new() };
        }
        let (mut parts, all) = names::parts(id);
        if parts.len() == 1 || parts.iter().any(String::is_empty) {
            parts = vec![id.to_string()];
        }
        let mut refs = Vec::new();
        let parts: Vec<String> = parts
            .iter()
            .map(|part| if is_expression(part) { part.clone() } else { reference(part, &mut refs) })
            .collect();
        let expression = parts.join(if all { " AND " } else { " OR " });
        if is_expression(&expression) {
            return Licence { id: id.into(), expression, refs };
        }
        let mut refs = Vec::new();
        let expression = reference(id, &mut refs);
        Licence { id: id.into(), expression, refs }
    }

    /// All of several.
    pub fn all(ids: &[String]) -> Option<Licence> {
        let whole = |id: &String| if ids.len() > 1 && id.contains(" OR ") { format!("({id})") } else { id.clone() };
        (!ids.is_empty()).then(|| Licence::of(&ids.iter().map(whole).collect::<Vec<_>>().join(" AND ")))
    }

    /// The id, where it is a single one that SPDX has listed for long enough that validators know it.
    pub fn listed(&self) -> Option<&str> {
        (spdx::license_id(&self.id).is_some() && terms::of(&self.id).is_some()).then_some(&*self.id)
    }

    /// The name, where it is a single licence that SPDX does not list.
    pub fn named(&self) -> Option<&str> {
        match &self.refs[..] {
            [(only, name)] if *only == self.expression => Some(name),
            _ => None,
        }
    }
}

fn is_expression(text: &str) -> bool {
    Expression::parse_mode(text, MODE).is_ok()
}

/// A reference of its own for each name.
fn reference(name: &str, refs: &mut Vec<(String, String)>) -> String {
    if let Some((known, _)) = refs.iter().find(|r| r.1 == name) {
        return known.clone();
    }
    let bare = name.strip_prefix("other: ").unwrap_or(name);
    let mut plain: String = bare
        .chars()
        .take(NAME_MAX)
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '-' })
        .collect();
    if plain.is_empty() {
        plain = "unnamed".into();
    }
    let mut id = format!("LicenseRef-{plain}");
    let mut n = 1;
    while refs.iter().any(|r| r.0 == id) {
        n += 1;
        id = format!("LicenseRef-{plain}-{n}");
    }
    refs.push((id.clone(), name.into()));
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_becomes_a_valid_expression() {
        for (id, expression, listed, named) in [
            ("MIT", "MIT", Some("MIT"), None),
            ("MIT OR Apache-2.0", "MIT OR Apache-2.0", None, None),
            ("GPL-3.0", "GPL-3.0", Some("GPL-3.0"), None),
            ("Llama-3.1", "LicenseRef-Llama-3.1", None, Some("Llama-3.1")),
            ("other: qwen", "LicenseRef-qwen", None, Some("other: qwen")),
            ("other", "LicenseRef-other", None, Some("other")),
            ("gemma", "LicenseRef-gemma", None, Some("gemma")),
            ("MIT AND Llama-3.1", "MIT AND LicenseRef-Llama-3.1", None, None),
            ("a b AND a_b", "LicenseRef-a-b AND LicenseRef-a-b-2", None, None),
            ("x OR y AND z", "LicenseRef-x AND LicenseRef-y AND LicenseRef-z", None, None),
            ("(", "LicenseRef--", None, Some("(")),
            ("é", "LicenseRef--", None, Some("é")),
        ] {
            let l = Licence::of(id);
            assert_eq!((&*l.expression, l.listed(), l.named()), (expression, listed, named), "{id}");
            assert!(is_expression(&l.expression), "{id}");
        }
        assert_eq!(Licence::all(&[]), None);
        assert_eq!(Licence::all(&["MIT".into(), "Llama-2".into()]).unwrap().expression, "MIT AND LicenseRef-Llama-2");
        let choice = Licence::all(&["MIT OR Apache-2.0".into(), "ISC".into()]).unwrap();
        assert_eq!(choice.expression, "(MIT OR Apache-2.0) AND ISC");
    }
}
