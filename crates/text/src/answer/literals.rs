//! Arguments as literals of a language, as a grammar: the schema's types in the schema's order.
use super::lark::{Lark, choices, quoted};
use crate::tools::Notation;
use serde_json::Value;

/// Deepest schema that is followed; below, anything may stand.
const DEPTH: usize = 16;
/// Most parts of schemas that are followed, each as often as it is referred to.
const UNFOLDED_MAX: usize = 20_000;
/// Between values, and between a name and its value.
const COMMA: &str = "/, ?/";
const COLON: &str = "/: ?/";

impl Lark<'_> {
    /// Fields of an object, those that are required at least; `call`: as arguments of a call, with names that stand bare.
    pub(super) fn fields(
        &mut self,
        schema: &Value,
        root: &Value,
        n: &'static Notation,
        call: bool,
        depth: usize,
    ) -> String {
        let gives = if call { quoted(&n.gives.to_string()) } else { COLON.to_string() };
        let comma = COMMA;
        let Some(properties) = schema["properties"].as_object().filter(|p| !p.is_empty()) else {
            if call && schema["properties"].is_object() {
                return String::new();
            }
            let any = self.any(n);
            let key = if call || n.bare_keys { "KEY".to_string() } else { self.text(n) };
            let field = format!("{key} {gives} {any}");
            return format!("( {field} ( {comma} {field} )* )?");
        };
        let required = schema["required"].as_array();
        // From the last field to the first: what may follow when none was written yet, and when some was.
        let (mut none, mut some) = (String::new(), String::new());
        let mut all: Vec<(&String, &Value)> = properties.iter().collect();
        if n.bare_keys {
            // As its templates show arguments: by their names.
            all.sort_by_key(|(key, _)| key.to_lowercase());
        }
        for (key, value) in all.into_iter().rev() {
            if self.full() {
                break;
            }
            if call || n.bare_keys {
                self.check_key(key);
            }
            let must = required.is_some_and(|r| r.iter().any(|k| k == key));
            let name = if call || n.bare_keys { quoted(key) } else { quoted(&Value::from(key.as_str()).to_string()) };
            let field = format!("{name} {gives} {}", self.literal(value, root, n, depth + 1));
            let (first, later) = (self.name("first"), self.name("later"));
            let or = |rest: &str| match must {
                true => String::new(),
                false if rest.is_empty() => " | \"\"".to_string(),
                false => format!(" | {rest}"),
            };
            self.rule(&first, &format!("{field} {some}{}", or(&none)));
            self.rule(&later, &format!("{comma} {field} {some}{}", or(&some)));
            (none, some) = (first, later);
        }
        none
    }

    fn literal(&mut self, schema: &Value, root: &Value, n: &'static Notation, depth: usize) -> String {
        self.unfolded += 1;
        if self.unfolded > UNFOLDED_MAX || self.full() {
            self.overflow = true;
            return String::new();
        }
        if depth > DEPTH {
            return self.any(n);
        }
        if let Some(all) = choices(schema) {
            let all: Vec<String> = all.iter().map(|v| self.terms(&self.written(v, n))).collect();
            return format!("( {} )", all.join(" | "));
        }
        if let Some(values) = schema["enum"].as_array() {
            let one = |v: &Value| match v {
                Value::Bool(b) => quoted(n.words[usize::from(!b)]),
                Value::Null => quoted(n.words[2]),
                Value::String(s) => self.terms(&self.written(s, n)),
                other => quoted(&other.to_string()),
            };
            return format!("( {} )", values.iter().map(one).collect::<Vec<_>>().join(" | "));
        }
        if let Some(place) = schema["$ref"].as_str().and_then(|r| r.strip_prefix('#')) {
            let target = root.pointer(place).unwrap_or(&Value::Null);
            return self.literal(target, root, n, depth + 1);
        }
        if let Some(parts) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
            let all: Vec<String> = parts.iter().map(|p| self.literal(p, root, n, depth + 1)).collect();
            return format!("( {} )", all.join(" | "));
        }
        match &schema["type"] {
            Value::String(kind) => self.of_type(kind, schema, root, n, depth),
            Value::Array(kinds) => {
                let kinds = kinds.iter().filter_map(Value::as_str);
                let all: Vec<String> = kinds.map(|kind| self.of_type(kind, schema, root, n, depth)).collect();
                format!("( {} )", all.join(" | "))
            }
            _ => self.any(n),
        }
    }

    fn of_type(&mut self, kind: &str, schema: &Value, root: &Value, n: &'static Notation, depth: usize) -> String {
        match kind {
            "string" => self.text(n),
            "integer" => "/-?(0|[1-9][0-9]{0,17})/".to_string(),
            "number" => "/-?(0|[1-9][0-9]{0,17})(\\.[0-9]{1,17})?([eE][+-]?[0-9]{1,3})?/".to_string(),
            "boolean" => format!("( {} | {} )", quoted(n.words[0]), quoted(n.words[1])),
            "null" => quoted(n.words[2]),
            "array" => {
                let item = self.literal(&schema["items"], root, n, depth + 1);
                format!("\"[\" ( {item} ( {COMMA} {item} )* )? \"]\"")
            }
            "object" => format!("\"{{\" {} \"}}\"", self.fields(schema, root, n, false, depth + 1)),
            _ => self.any(n),
        }
    }

    /// Any text in quotes.
    fn text(&mut self, n: &'static Notation) -> String {
        match n.quotes {
            [quote] if quote.len() > 1 => format!("{} {}", self.terms(quote), self.until(quote)),
            _ => "/\"([^\"\\\\\\n]|\\\\[\"\\\\nrtbf\\/])*\"/".to_string(),
        }
    }

    fn written(&self, text: &str, n: &'static Notation) -> String {
        match n.quotes {
            [quote] if quote.len() > 1 => format!("{quote}{text}{quote}"),
            _ => Value::from(text).to_string(),
        }
    }

    /// Any value.
    fn any(&mut self, n: &'static Notation) -> String {
        let (name, new) = self.any_rule();
        if !new {
            return name;
        }
        let text = self.text(n);
        let key = if n.bare_keys { "KEY".to_string() } else { text.clone() };
        let number = "/-?(0|[1-9][0-9]{0,17})(\\.[0-9]{1,17})?/";
        let words = n.words.map(quoted).join(" | ");
        let list = format!("\"[\" ( {name} ( {COMMA} {name} )* )? \"]\"");
        let object = format!("\"{{\" ( {key} {COLON} {name} ( {COMMA} {key} {COLON} {name} )* )? \"}}\"");
        self.rule(&name, &format!("{text} | {number} | {words} | {list} | {object}"));
        name
    }
}
