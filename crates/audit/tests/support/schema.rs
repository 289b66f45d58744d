//! JSON Schema (draft 7), as much of it as the schemas that are looked at use. What it does not know it refuses: nothing
//! passes because it was overlooked.
use regex_lite::Regex;
use serde_json::Value;

/// Keywords that bind nothing.
const WORDS: [&str; 10] = [
    "$schema",
    "$id",
    "title",
    "description",
    "$comment",
    "examples",
    "default",
    "meta:enum",
    "deprecated",
    "definitions",
];

/// Checks values against a schema. `outside` answers for what other files define.
pub struct Schema<'a> {
    pub root: &'a Value,
    pub outside: &'a dyn Fn(&str, &Value) -> Result<(), String>,
}

impl Schema<'_> {
    pub fn check(&self, value: &Value) -> Result<(), String> {
        self.value(self.root, value, "$")
    }

    fn value(&self, schema: &Value, v: &Value, at: &str) -> Result<(), String> {
        let fail = |why: String| Err(format!("{at}: {why}"));
        let rules = match schema {
            Value::Bool(true) => return Ok(()),
            Value::Bool(false) => return fail("nothing may be here".into()),
            other => other.as_object().unwrap(),
        };
        if let Some(to) = rules.get("$ref").and_then(Value::as_str) {
            // In draft 7 nothing beside a reference counts.
            return match to.strip_prefix('#') {
                Some(pointer) => self.value(self.root.pointer(pointer).unwrap(), v, at),
                None => (self.outside)(to, v).map_err(|e| format!("{at}: {e}")),
            };
        }
        for (rule, arg) in rules {
            match &**rule {
                word if WORDS.contains(&word) => {}
                "type" => {
                    let is = |kind: &Value| match kind.as_str().unwrap() {
                        "object" => v.is_object(),
                        "array" => v.is_array(),
                        "string" => v.is_string(),
                        "boolean" => v.is_boolean(),
                        "number" => v.is_number(),
                        "integer" => v.is_i64() || v.is_u64(),
                        "null" => v.is_null(),
                        other => panic!("type {other}"),
                    };
                    if !arg.as_array().map_or_else(|| is(arg), |all| all.iter().any(is)) {
                        return fail(format!("expected {arg}, got {v}"));
                    }
                }
                "enum" => {
                    if !arg.as_array().unwrap().contains(v) {
                        return fail(format!("{v} is not one of those that may be"));
                    }
                }
                "required" => {
                    let Some(map) = v.as_object() else { continue };
                    for key in arg.as_array().unwrap() {
                        if !map.contains_key(key.as_str().unwrap()) {
                            return fail(format!("{key} is missing"));
                        }
                    }
                }
                "properties" => {
                    for (key, inner) in v.as_object().into_iter().flatten() {
                        if let Some(schema) = arg.get(key) {
                            self.value(schema, inner, &format!("{at}.{key}"))?;
                        }
                    }
                }
                "additionalProperties" => {
                    let known = rules.get("properties").and_then(Value::as_object);
                    for (key, inner) in v.as_object().into_iter().flatten() {
                        if !known.is_some_and(|k| k.contains_key(key)) {
                            self.value(arg, inner, &format!("{at}.{key}"))?;
                        }
                    }
                }
                "items" => {
                    for (i, inner) in v.as_array().into_iter().flatten().enumerate() {
                        let schema = match arg.as_array() {
                            Some(each) => each.get(i).or(rules.get("additionalItems")).unwrap_or(&Value::Bool(true)),
                            None => arg,
                        };
                        self.value(schema, inner, &format!("{at}[{i}]"))?;
                    }
                }
                "additionalItems" => {}
                "minItems" | "maxItems" => {
                    let (n, bound) = (v.as_array().map(Vec::len), arg.as_u64().unwrap() as usize);
                    let holds = n.is_none_or(|n| if rule == "minItems" { n >= bound } else { n <= bound });
                    if !holds {
                        return fail(format!("{rule} {bound}, got {n:?}"));
                    }
                }
                "minLength" | "maxLength" => {
                    let (n, bound) = (v.as_str().map(|s| s.chars().count()), arg.as_u64().unwrap() as usize);
                    let holds = n.is_none_or(|n| if rule == "minLength" { n >= bound } else { n <= bound });
                    if !holds {
                        return fail(format!("{rule} {bound}, got {n:?}"));
                    }
                }
                "minimum" | "maximum" => {
                    let (Some(n), bound) = (v.as_f64(), arg.as_f64().unwrap()) else { continue };
                    let holds = if rule == "minimum" { n >= bound } else { n <= bound };
                    if !holds {
                        return fail(format!("{rule} {bound}, got {n}"));
                    }
                }
                "uniqueItems" => {
                    let list = v.as_array().map_or(&[][..], |l| l);
                    if arg == true && (1..list.len()).any(|i| list[..i].contains(&list[i])) {
                        return fail("an item stands twice".into());
                    }
                }
                "pattern" => {
                    let pattern = Regex::new(arg.as_str().unwrap()).unwrap();
                    if v.as_str().is_some_and(|s| !pattern.is_match(s)) {
                        return fail(format!("{v} is not as {arg} has it"));
                    }
                }
                "format" => self.format(arg.as_str().unwrap(), v).map_err(|e| format!("{at}: {e}"))?,
                "oneOf" | "anyOf" => {
                    let tried: Vec<_> = arg.as_array().unwrap().iter().map(|s| self.value(s, v, at)).collect();
                    let good = tried.iter().filter(|t| t.is_ok()).count();
                    if good == 0 || rule == "oneOf" && good != 1 {
                        return fail(format!("{good} of {rule} hold: {tried:?}"));
                    }
                }
                other => panic!("{at}: the keyword {other} is not known here"),
            }
        }
        Ok(())
    }

    fn format(&self, format: &str, v: &Value) -> Result<(), String> {
        let Some(text) = v.as_str() else { return Ok(()) };
        let holds = match format {
            "date-time" => {
                Regex::new(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$").unwrap().is_match(text)
            }
            "iri-reference" => !text.contains([' ', '<', '>', '"', '{', '}', '|', '\\', '^', '`', '\n']),
            "email" | "idn-email" => text.contains('@'),
            other => panic!("the format {other} is not known here"),
        };
        if holds { Ok(()) } else { Err(format!("{text:?} is no {format}")) }
    }
}
