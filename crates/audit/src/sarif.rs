//! Findings as SARIF 2.1.0, the form that code scanning tools read.
//! <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>
use crate::findings::{Finding, RULES, Severity};
use serde_json::{Value, json};

/// One run with `findings`, by this program's `version`.
pub fn sarif(findings: &[Finding], version: &str) -> Value {
    let rules: Vec<Value> = RULES
        .iter()
        .map(|r| {
            json!({
                "id": r.id,
                "shortDescription": { "text": r.title },
                "help": { "text": r.advice },
            })
        })
        .collect();
    let results: Vec<Value> = findings.iter().map(result).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "pondera", "version": version, "rules": rules } },
            "results": results,
        }],
    })
}

fn result(f: &Finding) -> Value {
    let level = match f.severity {
        Severity::Info => "note",
        Severity::Low | Severity::Medium => "warning",
        Severity::High | Severity::Critical => "error",
    };
    // A member of an archive is no file of its own.
    let file = f.file.split('!').next().unwrap_or(&f.file);
    let uri: String = file
        .bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-._~/".contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect();
    let mut place = json!({ "artifactLocation": { "uri": uri } });
    if let Some(offset) = f.offset.filter(|_| !f.file.contains('!')) {
        place["region"] = json!({ "byteOffset": offset, "byteLength": 1 });
    }
    let logical = json!([{ "fullyQualifiedName": f.name.as_deref().unwrap_or(&f.file) }]);
    json!({
        "ruleId": f.rule,
        "ruleIndex": RULES.iter().position(|r| r.id == f.rule),
        "level": level,
        "message": { "text": format!("{}: {}", f.file, f.what) },
        "locations": [{ "physicalLocation": place, "logicalLocations": logical }],
        "properties": { "severity": f.severity.name(), "advice": f.advice },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::{Findings, New, PICKLE_CODE};

    #[test]
    fn a_result_points_at_its_rule_and_byte() {
        let mut f = Findings::default();
        f.add(New {
            rule: PICKLE_CODE,
            severity: Severity::Critical,
            file: "a b.pkl",
            what: "imports os.system".into(),
            offset: Some(7),
            name: Some("os.system"),
        });
        let v = sarif(&f.finish().0, "1");
        let run = &v["runs"][0];
        let r = &run["results"][0];
        let rule = r["ruleIndex"].as_u64().unwrap() as usize;
        assert_eq!(run["tool"]["driver"]["rules"][rule]["id"], "pickle-code");
        assert_eq!(r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "a%20b.pkl");
        assert_eq!(r["locations"][0]["physicalLocation"]["region"]["byteOffset"], 7);
        assert_eq!(r["level"], "error");
    }
}
