//! What a template's source says before anything is rendered: its texts with their lines, names that reach outside of
//! the template, and conditions on the clock or on who runs the model. Owns the reading of tokens; judges nothing.

use super::lexer::{Token, lex};
use super::{Fault, SOURCE_MAX};
use crate::error::Result;
use std::collections::HashSet;

/// Functions that a template is given.
const FUNCTIONS: [&str; 10] =
    ["range", "dict", "namespace", "raise_exception", "strftime_now", "cycler", "joiner", "caller", "loop", "tojson"];
/// Names of Python's own that no conversation holds; behind each stands the interpreter.
const OUTSIDE: [&str; 20] = [
    "os",
    "sys",
    "subprocess",
    "builtins",
    "eval",
    "exec",
    "open",
    "compile",
    "globals",
    "locals",
    "getattr",
    "setattr",
    "importlib",
    "self",
    "request",
    "lipsum",
    "get_flashed_messages",
    "url_for",
    "popen",
    "socket",
];
/// Attributes without an underscore in front that lead to frames and globals all the same.
const FRAMES: [&str; 12] = [
    "mro",
    "func_globals",
    "func_code",
    "gi_frame",
    "gi_code",
    "cr_frame",
    "cr_code",
    "ag_frame",
    "tb_frame",
    "f_globals",
    "f_builtins",
    "f_locals",
];
/// Names of who runs the model, where and for whom: a chat template has no use for comparing them.
const IDENTITY: [&str; 29] = [
    "model",
    "model_name",
    "model_id",
    "model_path",
    "name_or_path",
    "_name_or_path",
    "base_model",
    "hostname",
    "host",
    "username",
    "user_name",
    "user_id",
    "user_email",
    "email",
    "account",
    "ip",
    "ip_address",
    "environ",
    "environment",
    "env",
    "platform",
    "os_name",
    "country",
    "locale",
    "region",
    "company",
    "organization",
    "tenant",
    "api_key",
];
const TESTS: [&str; 14] = [
    "eq",
    "equalto",
    "ne",
    "in",
    "lt",
    "lessthan",
    "gt",
    "greaterthan",
    "le",
    "ge",
    "sameas",
    "divisibleby",
    "odd",
    "even",
];
const METHODS: [&str; 9] =
    ["startswith", "endswith", "find", "rfind", "index", "count", "get", "removeprefix", "replace"];
/// Rounds in which assignments carry a mark on.
const ROUNDS: usize = 8;

/// A text that stands in a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Literal {
    /// The line, from 1 on.
    pub line: usize,
    /// The text, escapes resolved.
    pub text: String,
    /// Whether it stands in quotes inside of a tag.
    pub quoted: bool,
}

/// Something that leads out of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// An attribute of Python's objects, spelled out or in quotes.
    Attribute(String),
    /// A tag that loads another template.
    Load(String),
    /// A name of Python's own.
    Name(String),
    /// A function that no renderer gives to a chat template.
    Function(String),
    /// An attribute whose name is computed.
    Computed,
}

/// A condition that a conversation has no part in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// On the clock.
    Clock,
    /// On this name.
    Identity(String),
}

/// What a source holds.
#[derive(Clone, Debug, Default)]
pub struct Outline {
    /// Its texts, in order.
    pub literals: Vec<Literal>,
    /// What leads out of it, with lines.
    pub reaches: Vec<(usize, Reach)>,
    /// Conditions on what is no part of a conversation, with lines.
    pub conditions: Vec<(usize, Condition)>,
    /// Whole numbers in it.
    pub numbers: Vec<i64>,
}

/// Reads a source. A source that the parser refuses has an outline, too, as long as it can be cut into tokens.
///
/// # Errors
/// [`crate::ErrorKind::Template`] for what cannot be cut into tokens, [`crate::ErrorKind::Limit`] for a source of more than 4 MiB.
pub fn outline(source: &str) -> Result<Outline> {
    if source.len() > SOURCE_MAX {
        return Err(Fault::Limit("the source is larger than 4 MiB").into());
    }
    let tokens = lex(source)?;
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = Outline::default();
    let mut lines = Vec::with_capacity(tokens.len());
    let (mut line, mut at) = (1, 0);
    for (_, place) in &tokens {
        let place = (*place as usize).clamp(at, source.len());
        line += source.as_bytes()[at..place].iter().filter(|b| **b == b'\n').count();
        at = place;
        lines.push(line);
    }
    let reader = Reader { tokens: &tokens, lines: &lines };
    reader.literals(&mut out);
    reader.reaches(&mut out);
    reader.conditions(&mut out);
    Ok(out)
}

struct Reader<'t> {
    tokens: &'t [(Token, u32)],
    lines: &'t [usize],
}

impl<'t> Reader<'t> {
    fn token(&self, at: usize) -> Option<&'t Token> {
        self.tokens.get(at).map(|t| &t.0)
    }

    fn before(&self, at: usize) -> Option<&'t Token> {
        at.checked_sub(1).and_then(|at| self.token(at))
    }

    fn name(&self, at: usize) -> Option<&'t str> {
        match self.token(at) {
            Some(Token::Name(name)) => Some(name),
            _ => None,
        }
    }

    fn is_op(token: Option<&Token>, op: &str) -> bool {
        matches!(token, Some(Token::Op(o)) if *o == op)
    }

    fn literals(&self, out: &mut Outline) {
        for ((token, _), &line) in self.tokens.iter().zip(self.lines) {
            match token {
                Token::Text(text) => out.literals.push(Literal { line, text: text.clone(), quoted: false }),
                Token::Str(text) => out.literals.push(Literal { line, text: text.clone(), quoted: true }),
                Token::Int(n) => {
                    let new = i64::try_from(*n).ok().filter(|n| out.numbers.len() < 256 && !out.numbers.contains(n));
                    out.numbers.extend(new);
                }
                _ => {}
            }
        }
    }

    /// Names that the template gives something to: macros, variables, parameters.
    fn assigned(&self) -> HashSet<&'t str> {
        let mut names = HashSet::new();
        let mut at = 0;
        while at < self.tokens.len() {
            if matches!(self.token(at), Some(Token::BlockStart)) {
                let stop: &[&str] = match self.name(at + 1) {
                    Some("set") => &["="],
                    Some("for") => &["in"],
                    Some("macro" | "call" | "with") => &[],
                    _ => {
                        at += 1;
                        continue;
                    }
                };
                let mut inner = at + 2;
                while let Some(token) = self.token(inner).filter(|t| !matches!(t, Token::BlockEnd)) {
                    match token {
                        Token::Name(name) if stop.contains(&name.as_str()) => break,
                        Token::Name(name) if !Self::is_op(self.before(inner), ".") => {
                            names.insert(name.as_str());
                        }
                        Token::Op(op) if stop.contains(op) => break,
                        _ => {}
                    }
                    inner += 1;
                }
                at = inner;
            }
            at += 1;
        }
        names
    }

    fn reaches(&self, out: &mut Outline) {
        let assigned = self.assigned();
        for (at, (token, _)) in self.tokens.iter().enumerate() {
            let line = self.lines[at];
            let mut add = |reach| out.reaches.push((line, reach));
            match token {
                Token::Name(name) => {
                    let behind = self.token(at + 1);
                    let (dot, called) = (Self::is_op(self.before(at), "."), Self::is_op(behind, "("));
                    if matches!(self.before(at), Some(Token::BlockStart)) {
                        if matches!(name.as_str(), "include" | "import" | "from" | "extends") {
                            add(Reach::Load(name.clone()));
                        }
                    } else if dot && (name.starts_with("__") || FRAMES.contains(&name.as_str())) {
                        add(Reach::Attribute(name.clone()));
                    } else if name.starts_with("__") && name.ends_with("__") {
                        add(Reach::Name(name.clone()));
                    } else if Self::is_op(self.before(at), "|") {
                        // A filter; one takes the name of an attribute.
                        if matches!(name.as_str(), "attr") && called {
                            match (self.token(at + 2), self.token(at + 3)) {
                                (Some(Token::Str(_)), Some(Token::Op(")"))) => {}
                                _ => add(Reach::Computed),
                            }
                        }
                    } else if !dot && !assigned.contains(name.as_str()) {
                        if OUTSIDE.contains(&name.as_str()) && (called || Self::is_op(behind, ".")) {
                            add(Reach::Name(name.clone()));
                        } else if called && !self.is_word(at) && !FUNCTIONS.contains(&name.as_str()) {
                            add(Reach::Function(name.clone()));
                        }
                    }
                }
                Token::Str(text) => {
                    const MARKS: [&str; 12] = [
                        "__class__",
                        "__globals__",
                        "__builtins__",
                        "__import__",
                        "__subclasses__",
                        "__mro__",
                        "__base__",
                        "__bases__",
                        "__getattribute__",
                        "__dict__",
                        "__init__",
                        "__reduce__",
                    ];
                    if let Some(mark) = MARKS.iter().find(|m| text.contains(**m)) {
                        add(Reach::Attribute((*mark).to_string()));
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether a name is a word of the language, a test or a filter rather than something that is called.
    fn is_word(&self, at: usize) -> bool {
        const WORDS: [&str; 14] = [
            "if",
            "elif",
            "else",
            "in",
            "not",
            "and",
            "or",
            "is",
            "for",
            "set",
            "filter",
            "call",
            "macro",
            "recursive",
        ];
        let after = |n: usize| at.checked_sub(n).and_then(|at| self.name(at));
        self.name(at).is_some_and(|n| WORDS.contains(&n))
            || matches!(after(1), Some("is" | "macro" | "filter" | "block"))
            || (after(1) == Some("not") && after(2) == Some("is"))
    }

    /// The tags, as ranges of tokens without their marks.
    fn tags(&self) -> Vec<std::ops::Range<usize>> {
        let mut tags = Vec::new();
        let mut start = None;
        for (at, (token, _)) in self.tokens.iter().enumerate() {
            match token {
                Token::BlockStart | Token::VarStart => start = Some(at + 1),
                Token::BlockEnd | Token::VarEnd => tags.extend(start.take().map(|s| s..at)),
                _ => {}
            }
        }
        tags
    }

    /// Whether the token asks the clock, or holds what the clock gave.
    fn is_clock(&self, at: usize, marked: &HashSet<&str>) -> bool {
        let Some(name) = self.name(at) else { return false };
        if matches!(self.name(at + 1), Some("is")) {
            return false; // whether it is defined
        }
        marked.contains(name) || (name == "strftime_now" && Self::is_op(self.token(at + 1), "("))
    }

    fn conditions(&self, out: &mut Outline) {
        let tags = self.tags();
        let assigned = self.assigned();
        let mut marked: HashSet<&str> = HashSet::new();
        for _ in 0..ROUNDS {
            let before = marked.len();
            for tag in tags.iter().filter(|t| matches!(self.name(t.start), Some("set"))) {
                let Some(equals) = tag.clone().find(|&at| Self::is_op(self.token(at), "=")) else { continue };
                if (equals..tag.end).any(|at| self.is_clock(at, &marked)) {
                    // A namespace's field carries the mark by the field's name.
                    let target = (tag.start + 1..equals).rev().find_map(|at| self.name(at));
                    marked.extend(target);
                }
            }
            if marked.len() == before {
                break;
            }
        }
        for tag in tags {
            let header = if self.name(tag.start) == Some("for") {
                tag.clone().find(|&at| self.name(at) == Some("in")).map_or(tag.start, |at| at + 1)
            } else {
                tag.start
            };
            let mut start = header;
            for at in header..=tag.end {
                let cut = at == tag.end
                    || matches!(self.name(at), Some("and" | "or" | "if" | "elif" | "else"))
                    || Self::is_op(self.token(at), ",");
                if !cut {
                    continue;
                }
                let clause = start..at;
                start = at + 1;
                if !self.compares(clause.clone()) {
                    continue;
                }
                if let Some(at) = clause.clone().find(|&at| self.is_clock(at, &marked)) {
                    out.conditions.push((self.lines[at], Condition::Clock));
                }
                let text = clause.clone().any(|at| matches!(self.token(at), Some(Token::Str(_))));
                let identity = clause.clone().find(|&at| {
                    self.name(at).is_some_and(|n| IDENTITY.contains(&n) && !assigned.contains(n))
                        && !Self::is_op(self.before(at), ".")
                        && !Self::is_op(self.before(at), "|")
                        && self.name(at + 1) != Some("is")
                });
                if let Some(at) = identity.filter(|_| text) {
                    let name = self.name(at).unwrap_or_default().to_string();
                    out.conditions.push((self.lines[at], Condition::Identity(name)));
                }
            }
        }
    }

    /// Whether something is compared with something here.
    fn compares(&self, mut clause: std::ops::Range<usize>) -> bool {
        clause.any(|at| match self.token(at) {
            Some(Token::Op(op)) => matches!(*op, "==" | "!=" | "<" | ">" | "<=" | ">="),
            Some(Token::Name(name)) => {
                let called = Self::is_op(self.before(at), ".") && METHODS.contains(&name.as_str());
                let tested = TESTS.contains(&name.as_str())
                    && (matches!(at.checked_sub(1).and_then(|at| self.name(at)), Some("is" | "not")));
                name == "in" || called || tested
            }
            _ => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reaches(source: &str) -> Vec<Reach> {
        outline(source).unwrap().reaches.into_iter().map(|r| r.1).collect()
    }

    #[test]
    fn what_reaches_outside_is_named() {
        use Reach::*;
        let cases: &[(&str, Vec<Reach>)] = &[
            ("{{ ''.__class__ }}", vec![Attribute("__class__".into())]),
            ("{{ x['__globals__'] }}", vec![Attribute("__globals__".into())]),
            ("{{ '{0.__class__}'.format(x) }}", vec![Attribute("__class__".into())]),
            ("{% include 'x' %}", vec![Load("include".into())]),
            ("{% from 'x' import y %}", vec![Load("from".into())]),
            ("{{ x|attr('_' ~ y) }}", vec![Computed]),
            ("{{ lipsum.x }}", vec![Name("lipsum".into())]),
            ("{{ os.popen('id') }}", vec![Name("os".into())]),
            ("{{ fetch('x') }}", vec![Function("fetch".into())]),
            ("{% macro f(x) %}{{ x }}{% endmacro %}{{ f(1) }}{% if (x) %}{{ range(3) }}{% endif %}", vec![]),
            ("{% if x is divisibleby(3) and y is not in ('a') %}{{ x|join(' ')|trim }}{% endif %}", vec![]),
            ("a __init__ in text, {# x.__class__ #}", vec![]),
        ];
        for (source, want) in cases {
            assert_eq!(&reaches(source), want, "{source}");
        }
    }

    #[test]
    fn conditions_on_the_clock_and_on_names() {
        let conditions = |source: &str| outline(source).unwrap().conditions;
        let clock = |source: &str| conditions(source).iter().any(|c| c.1 == Condition::Clock);
        assert!(clock("{% if strftime_now('%Y') > '2026' %}x{% endif %}"));
        assert!(clock("{% set d = strftime_now('%Y') %}{% set y = d|int %}\n{{ 'x' if y >= 2027 else '' }}"));
        assert!(clock("{% if strftime_now('%d').startswith('1') %}x{% endif %}"));
        assert!(!clock("{% if strftime_now is defined %}{% set d = strftime_now('%Y') %}{% endif %}{{ d }}"));
        assert!(!clock("{% set d = strftime_now('%Y') %}{% if d is defined and x == 'y' %}{{ d }}{% endif %}"));
        let named = conditions("a\n{% if model_name == 'x' %}y{% endif %}");
        assert_eq!(named, [(2, Condition::Identity("model_name".into()))]);
        assert!(conditions("{% if model_name is defined %}{{ x.model == 'y' }}{% endif %}").is_empty());
    }

    #[test]
    fn lines_are_those_of_the_source() {
        let found = outline("a\r\n{{ 'b\\u200b' }}\n\n{% if x %}\nc{% endif %}").unwrap();
        let lines: Vec<_> = found.literals.iter().map(|l| (l.line, l.text.as_str(), l.quoted)).collect();
        assert_eq!(lines, [(1, "a\n", false), (2, "b\u{200b}", true), (2, "\n\n", false), (5, "c", false)]);
    }
}
