//! What an answer shall be as a grammar in Lark's notation: thoughts, then text or calls as the family writes them.
use super::{Calls, Style, Wanted};
use crate::{
    error::{Error, Result},
    grammar::GRAMMAR_BYTES_MAX,
    reasoning::Marks,
    tools::{
        Form, Syntax, Texts, Tool, in_key,
        pattern::{Hole, Piece, pieces},
        resolved, texts,
    },
};
use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::{Value, json};
use std::{collections::HashMap, fmt::Write as _};

/// Between the parts of a JSON text: a space, or a new line and some indentation. Free white space would let a model write it
/// for ever.
pub(crate) const WHITE_SPACE: &str = r"( |\n {0,12})?";
/// Terminals that every grammar may use.
const TERMINALS: &str = "ANY: /(\\n|.)*/\nTEXT: /(\\n|.)+/\nSPACE: /[ \\n]{1,4}/\nKEY: /[A-Za-z0-9_.-]{1,64}/\nCOUNT: /[0-9]{1,4}/\nID: /[A-Za-z0-9]{9,10}/\n";

/// Writes rules.
pub(crate) struct Lark<'s> {
    specials: &'s Specials,
    /// Rules for JSON, by their schemas.
    json: HashMap<String, String>,
    /// The rule for any value.
    any: Option<String>,
    /// A field's name that the syntax cannot write.
    unwritable: Option<String>,
    rules: String,
    count: usize,
    /// Schemas unfold to more than is compiled.
    pub(super) overflow: bool,
    /// Parts of schemas that were followed.
    pub(super) unfolded: usize,
}

/// Finds special tokens in the texts of a grammar.
pub(crate) struct Specials {
    finder: Option<AhoCorasick>,
    ids: Vec<u32>,
}

impl Specials {
    /// These texts and their tokens.
    pub fn new(all: impl Iterator<Item = (String, u32)>) -> Specials {
        let (texts, ids): (Vec<String>, Vec<u32>) = all.filter(|(text, _)| !text.is_empty()).unzip();
        let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&texts).ok();
        Specials { finder: finder.filter(|_| !texts.is_empty()), ids }
    }
}

/// Most rules of a grammar: the compiler numbers their parts with 16 bits.
const RULES_MAX: usize = 4000;

/// A part of a text: plain, or a special token.
enum Part<'t> {
    Plain(&'t str),
    Special(u32),
}

impl<'s> Lark<'s> {
    pub fn new(specials: &'s Specials) -> Lark<'s> {
        let rules = TERMINALS.to_string();
        let (json, any, unwritable) = (HashMap::new(), None, None);
        Lark { specials, json, any, unwritable, rules, count: 0, overflow: false, unfolded: 0 }
    }

    /// The grammar of an answer whose thoughts have begun or not; none where it may be anything.
    ///
    /// # Errors
    /// Tools that the model has no way to call.
    pub fn answer(mut self, style: &Style, wanted: &Wanted, opened: bool) -> Result<Option<String>> {
        if wanted.text.is_none() && wanted.tools.is_empty() {
            return Ok(None);
        }
        let start = match style.calls {
            Some(Calls::Harmony) => self.harmony(wanted)?,
            _ => {
                let body = self.body(style, wanted)?;
                match style.marks {
                    Some(marks) => format!("{} {body}", self.thought(marks, opened)),
                    None => body,
                }
            }
        };
        if let Some(key) = self.unwritable {
            let key: String = key.chars().take(40).collect();
            return Err(Error::invalid(format!("tools: the model's syntax cannot write a parameter named {key:?}")));
        }
        if self.overflow {
            return Err(Error::invalid("grammar: the schemas unfold to more than is compiled"));
        }
        Ok(Some(format!("start: {start}\n{}", self.rules)))
    }

    fn body(&mut self, style: &Style, wanted: &Wanted) -> Result<String> {
        let text = wanted.text.as_ref().map(|schema| self.json(schema, true));
        if wanted.tools.is_empty() {
            return Ok(text.unwrap_or_default());
        }
        let Some(Calls::Syntax(syntax)) = style.calls else {
            return Err(Error::invalid("tools: the model's chat template knows none"));
        };
        let first = format!("{}{}", syntax.open, syntax.head());
        let mark = syntax.trigger();
        let rest = self.terms(&first[mark.len()..]);
        let one = self.tools(syntax, &wanted.tools)?;
        let more = match wanted.one_call {
            true => String::new(),
            false => format!("( {} {one} )*", self.terms(&format!("{}{}", syntax.between, syntax.head()))),
        };
        let calls = format!("{rest} {one} {more} {}", self.terms(syntax.close));
        let begun = self.terms(mark);
        Ok(match text {
            _ if wanted.must_call => format!("SPACE? {begun} {calls}"),
            Some(json) => format!("( SPACE? {begun} {calls} | {json} )"),
            None if syntax.bare() => {
                self.rules.push_str("OTHER: /[^{\\n ](\\n|.)*/\n");
                format!("SPACE? ( {begun} {calls} | OTHER )?")
            }
            None => format!("( {} {calls} | TEXT? )", self.until(mark)),
        })
    }

    fn thought(&mut self, marks: &Marks, opened: bool) -> String {
        let rest = format!("{} SPACE?", self.until(marks.close));
        if opened {
            return rest;
        }
        // Where it stands it is no part of the text.
        let open = match &self.split(marks.open)[..] {
            [Part::Plain(text)] => {
                let (name, text) = (self.name("think"), quoted(text));
                let _ = writeln!(self.rules, "{name}[lazy]: {text}");
                name
            }
            _ => self.terms(marks.open),
        };
        format!("( {open} {rest} )?")
    }

    /// Any of the tools, from behind what every call begins with.
    fn tools(&mut self, syntax: &Syntax, tools: &[Tool]) -> Result<String> {
        let all: Vec<String> = tools.iter().map(|tool| self.tool(syntax, tool)).collect::<Result<_>>()?;
        let name = self.name("call");
        let _ = writeln!(self.rules, "{name}: {}", all.join(" | "));
        Ok(name)
    }

    fn tool(&mut self, syntax: &Syntax, tool: &Tool) -> Result<String> {
        let rule = match syntax.call {
            Form::Json(all) => {
                let arguments = self.arguments(tool);
                self.filled(all, true, &tool.name, &arguments)
            }
            Form::Elements { head, parameter, tail } => {
                let head = self.filled(head, true, &tool.name, "");
                let parameters = self.parameters(parameter, tool);
                format!("{head} {parameters} {}", self.terms(tail))
            }
            Form::Literals { head, tail, notation } => {
                let head = self.filled(head, true, &tool.name, "");
                let fields = self.fields(&tool.parameters, &tool.parameters, notation, true, 0);
                format!("{head} {fields} {}", self.terms(tail))
            }
        };
        let name = self.name("tool");
        let _ = writeln!(self.rules, "{name}: {rule}");
        Ok(name)
    }

    /// A pattern with its holes filled; without the text that it begins with, if `rest`.
    fn filled(&mut self, pattern: &'static str, rest: bool, name: &str, arguments: &str) -> String {
        let mut out = String::new();
        for (i, piece) in pieces(pattern).into_iter().enumerate() {
            let term = match piece {
                Piece::Text(_) if rest && i == 0 => continue,
                Piece::Text(text) => self.terms(text),
                Piece::Hole(Hole::Name) => quoted(name),
                Piece::Hole(Hole::Arguments) => arguments.to_string(),
                Piece::Hole(Hole::Count) => "COUNT".to_string(),
                Piece::Hole(_) => "ID".to_string(),
            };
            out.push_str(&term);
            out.push(' ');
        }
        out
    }

    fn arguments(&mut self, tool: &Tool) -> String {
        let schema = if tool.parameters.is_object() { tool.parameters.clone() } else { json!({ "type": "object" }) };
        self.json(&schema, tool.strict)
    }

    /// A rule for JSON of this schema.
    fn json(&mut self, schema: &Value, strict: bool) -> String {
        if self.full() {
            return String::new();
        }
        let schema = guided(schema, strict).to_string();
        if let Some(name) = self.json.get(&schema) {
            return name.clone();
        }
        let name = self.name("json");
        let _ = writeln!(self.rules, "{name}: %json {schema}");
        self.json.insert(schema, name.clone());
        name
    }

    /// Whether no more can be written.
    pub(super) fn full(&mut self) -> bool {
        self.overflow |= self.rules.len() > GRAMMAR_BYTES_MAX || self.count > RULES_MAX;
        self.overflow
    }

    /// Takes note of a name that cannot be read back.
    pub(super) fn check_key(&mut self, key: &str) {
        if key.is_empty() || !key.chars().all(in_key) {
            self.unwritable.get_or_insert_with(|| key.to_string());
        }
    }

    /// The rule for any value of a language, made once.
    pub(super) fn any_rule(&mut self) -> (String, bool) {
        match &self.any {
            Some(name) => (name.clone(), false),
            None => {
                let name = self.name("any");
                self.any = Some(name.clone());
                (name, true)
            }
        }
    }

    /// Parameters in the schema's order, those that are required at least.
    fn parameters(&mut self, pattern: &'static str, tool: &Tool) -> String {
        let Some(properties) = tool.parameters["properties"].as_object().filter(|p| !p.is_empty()) else {
            if tool.parameters["properties"].is_object() || tool.parameters.is_null() {
                return String::new();
            }
            // An object of anything.
            let any = self.parameter(pattern, None, &Value::Null, tool);
            return format!("( {any} )*");
        };
        let required = tool.parameters["required"].as_array();
        let mut out = Vec::new();
        for (key, schema) in properties {
            self.check_key(key);
            if self.full() {
                break;
            }
            let schema = resolved(&tool.parameters, schema);
            let one = self.parameter(pattern, Some(key), schema, tool);
            let must = required.is_some_and(|r| r.iter().any(|k| k == key));
            out.push(format!("( {one} ){}", if must { "" } else { "?" }));
        }
        out.join(" ")
    }

    /// One parameter of this name, or of any.
    fn parameter(&mut self, pattern: &'static str, key: Option<&str>, schema: &Value, tool: &Tool) -> String {
        let parts = pieces(pattern);
        let says = parts.contains(&Piece::Hole(Hole::IsText));
        let kind = texts(schema);
        let kinds: &[bool] = match kind {
            Texts::Always => &[true],
            Texts::Never => &[false],
            Texts::Maybe if says => &[true, false],
            // The reader finds out.
            Texts::Maybe => &[true],
        };
        let all: Vec<String> = kinds.iter().map(|text| self.element(&parts, key, *text, schema, tool)).collect();
        all.join(" | ")
    }

    fn element(&mut self, parts: &[Piece], key: Option<&str>, text: bool, schema: &Value, tool: &Tool) -> String {
        // Texts around holes are put together first, so that one that ends a value is found whole.
        let (mut before, mut after, mut passed) = (String::new(), String::new(), false);
        const ANY_KEY: char = '\u{0}';
        for piece in parts {
            let side = if passed { &mut after } else { &mut before };
            match piece {
                Piece::Text(t) => side.push_str(t),
                Piece::Hole(Hole::Key) => match key {
                    Some(key) => side.push_str(key),
                    None => side.push(ANY_KEY),
                },
                Piece::Hole(Hole::IsText) => side.push_str(if text { "true" } else { "false" }),
                Piece::Hole(_) => passed = true,
            }
        }
        let keyed =
            |lark: &Self, text: &str| text.split(ANY_KEY).map(|t| lark.terms(t)).collect::<Vec<_>>().join(" KEY ");
        let (head, tail) = (keyed(self, &before), keyed(self, &after));
        let value = match (text, choices(schema).or_else(|| alternatives(schema, tool))) {
            (true, Some(all)) => {
                format!("( {} ) {tail}", all.iter().map(|v| quoted(v)).collect::<Vec<_>>().join(" | "))
            }
            (true, None) => match after.split_once(ANY_KEY) {
                Some((first, rest)) => format!("{} KEY {}", self.until(first), keyed(self, rest)),
                None => self.until(&after),
            },
            (false, _) => {
                let mut schema = if schema.is_null() { json!({}) } else { schema.clone() };
                for shared in ["$defs", "definitions"] {
                    if let (Some(object), all @ Value::Object(_)) = (schema.as_object_mut(), &tool.parameters[shared]) {
                        object.insert(shared.into(), all.clone());
                    }
                }
                format!("{} {tail}", self.json(&schema, tool.strict))
            }
        };
        format!("{head} {value}")
    }

    fn harmony(&mut self, wanted: &Wanted) -> Result<String> {
        let again = self.terms("<|start|>assistant");
        let thought = format!("{} {} {again}", self.terms("<|channel|>analysis<|message|>"), self.until("<|end|>"));
        let text = wanted.text.as_ref().map_or("TEXT?".into(), |schema| self.json(schema, true));
        let fin = format!("{} {text}", self.terms("<|channel|>final<|message|>"));
        if wanted.tools.is_empty() {
            return Ok(format!("( {thought} )* {fin}"));
        }
        let mut calls = Vec::new();
        for tool in &wanted.tools {
            let arguments = self.arguments(tool);
            for (before, after) in [
                ("<|channel|>commentary to=functions.", " <|constrain|>json<|message|>"),
                (" to=functions.", "<|channel|>commentary json<|message|>"),
            ] {
                let (before, after) = (self.terms(&format!("{before}{}", tool.name)), self.terms(after));
                calls.push(format!("{before} {after} {arguments}"));
            }
        }
        let calls = calls.join(" | ");
        if wanted.must_call {
            return Ok(format!("( {thought} )* ( {calls} )"));
        }
        let said = format!("{} {} {again}", self.terms("<|channel|>commentary<|message|>"), self.until("<|end|>"));
        Ok(format!("( {thought} | {said} )* ( {calls} | {fin} )"))
    }

    /// Free text up to and with `mark`.
    pub fn until(&mut self, mark: &str) -> String {
        let parts = self.split(mark);
        match &parts[..] {
            [] => "TEXT?".to_string(),
            [Part::Special(_), ..] => format!("TEXT? {}", joined(&parts)),
            [Part::Plain(text)] => {
                let (name, text) = (self.name("until"), quoted(text));
                let _ = writeln!(self.rules, "{name}[lazy]: ANY {text}");
                name
            }
            [Part::Plain(text), rest @ ..] => format!("/(\\n|.)*{}/ {}", regex_escape(text), joined(rest)),
        }
    }

    /// `text` as terms: strings and special tokens.
    pub fn terms(&self, text: &str) -> String {
        joined(&self.split(text))
    }

    fn split<'t>(&self, text: &'t str) -> Vec<Part<'t>> {
        let (mut out, mut done) = (Vec::new(), 0);
        for found in self.specials.finder.iter().flat_map(|f| f.find_iter(text)) {
            if found.start() > done {
                out.push(Part::Plain(&text[done..found.start()]));
            }
            out.push(Part::Special(self.specials.ids[found.pattern().as_usize()]));
            done = found.end();
        }
        if done < text.len() {
            out.push(Part::Plain(&text[done..]));
        }
        out
    }

    pub fn name(&mut self, kind: &str) -> String {
        self.count += 1;
        format!("{kind}_{}", self.count)
    }

    pub fn rule(&mut self, name: &str, body: &str) {
        let _ = writeln!(self.rules, "{name}: {body}");
    }
}

fn joined(parts: &[Part<'_>]) -> String {
    let term = |part: &Part<'_>| match part {
        Part::Plain(text) => quoted(text),
        Part::Special(id) => format!("<[{id}]>"),
    };
    parts.iter().map(term).collect::<Vec<_>>().join(" ")
}

/// A schema with what the compiler is told of it.
pub(crate) fn guided(schema: &Value, strict: bool) -> Value {
    let mut schema = schema.clone();
    if let Some(object) = schema.as_object_mut() {
        let guide = json!({ "whitespace_flexible": true, "whitespace_pattern": WHITE_SPACE, "lenient": !strict });
        object.insert("x-guidance".into(), guide);
    }
    schema
}

/// All texts that a schema allows, where it names them.
pub(super) fn choices(schema: &Value) -> Option<Vec<&str>> {
    match (&schema["const"], schema["enum"].as_array()) {
        (Value::String(only), _) => Some(vec![only]),
        (_, Some(all)) if !all.is_empty() => all.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// Texts of the parts of an `anyOf`, where all parts name theirs; `null` is one that says that nothing is there.
fn alternatives<'v>(schema: &'v Value, tool: &'v Tool) -> Option<Vec<&'v str>> {
    let part = |part: &'v Value| {
        let part = resolved(&tool.parameters, part);
        if part["type"] == "null" { Some(vec!["null"]) } else { choices(part) }
    };
    let parts = schema["anyOf"].as_array().or(schema["oneOf"].as_array())?;
    let all: Vec<&str> = parts.iter().map(part).collect::<Option<Vec<_>>>()?.concat();
    (!all.is_empty()).then_some(all)
}

/// A string of the notation.
pub(super) fn quoted(text: &str) -> String {
    // The notation takes no such letter as it is.
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

fn regex_escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            c if "\\.+*?()|[]{}^$/".contains(c) => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}
