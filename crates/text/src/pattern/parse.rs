//! Pattern text to a tree. Classes are handed to `regex-syntax`, the rest is read here.

use super::{Assert, Class, Flavour, Mode};
use crate::error::{Error, Result};
use regex_syntax::hir::HirKind;

/// Nesting that no published pattern comes near; keeps the reader's recursion small.
const DEPTH_MAX: usize = 48;

#[derive(Clone, Debug)]
pub(super) enum Node {
    Class(usize),
    Concat(Vec<Node>),
    Alternate(Vec<Node>),
    Repeat { node: Box<Node>, min: u32, max: Option<u32>, mode: Mode },
    Look { node: Box<Node>, behind: bool, negate: bool },
    Atomic(Box<Node>),
    Assert(Assert),
}

pub(super) struct Parser<'a> {
    source: &'a str,
    pos: usize,
    flavour: Flavour,
    pub(super) classes: Vec<Class>,
    insensitive: bool,
    dot_all: bool,
    depth: usize,
}

/// The characters that a class expression (`[...]`, `\p{L}`, `\s`) stands for.
pub(super) fn resolve(expression: &str, insensitive: bool) -> Result<Class> {
    let mut builder = regex_syntax::ParserBuilder::new();
    builder.case_insensitive(insensitive).nest_limit(16);
    let hir = builder
        .build()
        .parse(expression)
        .map_err(|_| Error::invalid(format!("pattern: {expression:.60} is no character class")))?;
    let empty = || Error::unsupported(format!("pattern: {expression:.60} is no character class"));
    match hir.into_kind() {
        HirKind::Class(regex_syntax::hir::Class::Unicode(class)) => {
            Ok(Class::from_ranges(class.iter().map(|r| (u32::from(r.start()), u32::from(r.end())))))
        }
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).map_err(|_| empty())?;
            let mut chars = text.chars();
            match (chars.next(), chars.next()) {
                (Some(c), None) => Ok(Class::from_ranges(std::iter::once((u32::from(c), u32::from(c))))),
                _ => Err(empty()),
            }
        }
        _ => Err(empty()),
    }
}

impl<'a> Parser<'a> {
    pub(super) fn new(source: &'a str, flavour: Flavour) -> Self {
        Parser { source, pos: 0, flavour, classes: Vec::new(), insensitive: false, dot_all: false, depth: 0 }
    }

    pub(super) fn parse(&mut self) -> Result<Node> {
        let node = self.alternation()?;
        match self.peek() {
            None => Ok(node),
            Some(c) => Err(self.wrong(&format!("unexpected {c:?}"))),
        }
    }

    fn wrong(&self, what: &str) -> Error {
        Error::invalid(format!("pattern {:.80}: {what} at byte {}", self.source, self.pos))
    }

    fn rest(&self) -> &'a str {
        self.source.get(self.pos..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.pos += token.len();
        }
        found
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    fn alternation(&mut self) -> Result<Node> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.wrong("nested too deeply"));
        }
        let (insensitive, dot_all) = (self.insensitive, self.dot_all);
        let mut branches = vec![self.concatenation()?];
        while self.eat("|") {
            branches.push(self.concatenation()?);
        }
        (self.insensitive, self.dot_all) = (insensitive, dot_all);
        self.depth -= 1;
        Ok(if branches.len() == 1 { branches.remove(0) } else { Node::Alternate(branches) })
    }

    fn concatenation(&mut self) -> Result<Node> {
        let mut items = Vec::new();
        while let Some(c) = self.peek() {
            if c == '|' || c == ')' {
                break;
            }
            let Some(atom) = self.atom()? else { continue };
            let item = self.quantified(atom)?;
            items.push(item);
        }
        Ok(if items.len() == 1 { items.remove(0) } else { Node::Concat(items) })
    }

    fn quantified(&mut self, mut node: Node) -> Result<Node> {
        loop {
            let braces = self.rest().starts_with('{');
            let (min, max) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => match self.bounds()? {
                    Some(bounds) => bounds,
                    None => return Ok(node),
                },
                _ => return Ok(node),
            };
            if !braces {
                self.pos += 1;
            }
            let mode = if self.eat("?") {
                Mode::Lazy
            } else if (!braces || self.flavour == Flavour::Fancy) && self.eat("+") {
                Mode::Possessive
            } else {
                Mode::Greedy
            };
            if matches!(node, Node::Assert(_)) {
                return Err(self.wrong("nothing to repeat"));
            }
            node = Node::Repeat { node: Box::new(node), min, max, mode };
        }
    }

    /// `{n}`, `{n,}`, `{n,m}`, `{,m}`; anything else in braces is literal text.
    fn bounds(&mut self) -> Result<Option<(u32, Option<u32>)>> {
        let Some(close) = self.rest().find('}') else { return Ok(None) };
        let inner = self.rest().get(1..close).unwrap_or("");
        if inner.is_empty() || inner == "," || !inner.bytes().all(|b| b.is_ascii_digit() || b == b',') {
            return Ok(None);
        }
        let number = |text: &str| text.parse::<u32>().ok().filter(|n| *n <= 1000);
        let too_big = || self.wrong("a repetition above 1000");
        let (min, max) = match inner.split_once(',') {
            None => {
                let n = number(inner).ok_or_else(too_big)?;
                (n, Some(n))
            }
            Some((low, high)) => {
                let min = if low.is_empty() { 0 } else { number(low).ok_or_else(too_big)? };
                let max = if high.is_empty() { None } else { Some(number(high).ok_or_else(too_big)?) };
                (min, max)
            }
        };
        if max.is_some_and(|max| max < min) {
            return Err(self.wrong("a repetition whose end lies before its start"));
        }
        self.pos += close + 1;
        Ok(Some((min, max)))
    }

    fn class(&mut self, class: Class) -> Node {
        self.classes.push(class);
        Node::Class(self.classes.len() - 1)
    }

    fn literal(&mut self, c: char) -> Result<Node> {
        let class = if self.insensitive {
            resolve(&format!("[{}]", regex_syntax::escape(&c.to_string())), true)?
        } else {
            Class::from_ranges(std::iter::once((u32::from(c), u32::from(c))))
        };
        Ok(self.class(class))
    }

    /// One item; `None` for one that only sets flags.
    fn atom(&mut self) -> Result<Option<Node>> {
        let line_aware = self.flavour == Flavour::Oniguruma;
        let Some(c) = self.peek() else { return Err(self.wrong("unexpected end")) };
        match c {
            '(' => return self.group(),
            '[' => {
                let expression = self.bracket()?;
                let class = resolve(&expression, self.insensitive)?;
                return Ok(Some(self.class(class)));
            }
            '\\' => return self.escape().map(Some),
            '*' | '+' | '?' => return Err(self.wrong("nothing to repeat")),
            _ => {}
        }
        self.pos += c.len_utf8();
        Ok(Some(match c {
            '.' => {
                let class = if self.dot_all { resolve(r"[\s\S]", false)? } else { resolve(r"[^\n]", false)? };
                self.class(class)
            }
            '^' => Node::Assert(if line_aware { Assert::LineStart } else { Assert::TextStart }),
            '$' => Node::Assert(if line_aware { Assert::LineEnd } else { Assert::TextEnd }),
            c => self.literal(c)?,
        }))
    }

    fn group(&mut self) -> Result<Option<Node>> {
        self.pos += 1;
        let look = [("?=", false, false), ("?!", false, true), ("?<=", true, false), ("?<!", true, true)];
        for (token, behind, negate) in look {
            if self.eat(token) {
                let node = Box::new(self.closed()?);
                return Ok(Some(Node::Look { node, behind, negate }));
            }
        }
        if self.eat("?>") {
            return Ok(Some(Node::Atomic(Box::new(self.closed()?))));
        }
        if self.eat("?:") {
            return self.closed().map(Some);
        }
        if self.eat("?P<") || self.eat("?<") {
            let close = self.rest().find('>').ok_or_else(|| self.wrong("a group name without end"))?;
            self.pos += close + 1;
            return self.closed().map(Some);
        }
        if self.eat("?") {
            return self.flags();
        }
        self.closed().map(Some)
    }

    fn closed(&mut self) -> Result<Node> {
        let node = self.alternation()?;
        if self.eat(")") { Ok(node) } else { Err(self.wrong("a group without end")) }
    }

    fn flags(&mut self) -> Result<Option<Node>> {
        let saved = (self.insensitive, self.dot_all);
        let mut on = true;
        loop {
            match self.next() {
                Some('-') => on = false,
                Some('i') => self.insensitive = on,
                Some('s') if self.flavour == Flavour::Fancy => self.dot_all = on,
                Some('m') if self.flavour == Flavour::Oniguruma => self.dot_all = on,
                Some('u') => {}
                Some(')') => return Ok(None),
                Some(':') => {
                    let node = self.closed()?;
                    (self.insensitive, self.dot_all) = saved;
                    return Ok(Some(node));
                }
                _ => return Err(Error::unsupported(format!("pattern {:.80}: unknown group flag", self.source))),
            }
        }
    }

    /// The text of a bracket expression, mended where `regex-syntax` would read an operator that is none here.
    fn bracket(&mut self) -> Result<String> {
        let mut out = String::new();
        let mut depth = 0_usize;
        let mut fresh = false;
        let mut last = ' ';
        while let Some(c) = self.next() {
            match c {
                '\\' => {
                    let escaped = self.next().ok_or_else(|| self.wrong("a class without end"))?;
                    match escaped {
                        'h' => out.push_str("0-9a-fA-F"),
                        '\'' | '"' | '`' | '/' | '@' | '!' | ',' | ':' | ';' | '=' | '%' | '_' | '<' | '>' => {
                            out.push(escaped);
                        }
                        _ => {
                            out.push('\\');
                            out.push(escaped);
                        }
                    }
                    (fresh, last) = (false, ' ');
                    continue;
                }
                '[' => {
                    depth += 1;
                    out.push('[');
                    (fresh, last) = (true, '[');
                    continue;
                }
                '^' if fresh => {
                    out.push('^');
                    last = '^';
                    continue;
                }
                ']' if !fresh => {
                    depth -= 1;
                    out.push(']');
                    if depth == 0 {
                        return Ok(out);
                    }
                }
                ']' => out.push_str(r"\]"),
                '-' | '~' if last == c => {
                    out.push('\\');
                    out.push(c);
                }
                c => out.push(c),
            }
            (fresh, last) = (false, c);
        }
        Err(self.wrong("a class without end"))
    }

    fn escape(&mut self) -> Result<Node> {
        let start = self.pos;
        self.pos += 1;
        let Some(c) = self.next() else { return Err(self.wrong("a lone backslash")) };
        let assert = match c {
            'A' => Some(Assert::TextStart),
            'z' => Some(Assert::TextEnd),
            'Z' => Some(Assert::TextEndOrNewline),
            'b' => Some(Assert::Word),
            'B' => Some(Assert::NotWord),
            _ => None,
        };
        if let Some(assert) = assert {
            return Ok(Node::Assert(assert));
        }
        match c {
            'p' | 'P' => {
                if self.peek() == Some('{') {
                    let close = self.rest().find('}').ok_or_else(|| self.wrong("a property without end"))?;
                    self.pos += close + 1;
                } else {
                    self.next();
                }
            }
            'x' | 'u' => {
                if self.peek() == Some('{') {
                    let close = self.rest().find('}').ok_or_else(|| self.wrong("a code point without end"))?;
                    self.pos += close + 1;
                } else {
                    for _ in 0..if c == 'x' { 2 } else { 4 } {
                        self.next();
                    }
                }
            }
            'h' => {
                let class = resolve("[0-9a-fA-F]", false)?;
                return Ok(self.class(class));
            }
            's' | 'S' | 'd' | 'D' | 'w' | 'W' | 'n' | 'r' | 't' | 'f' | 'v' | 'a' => {}
            c if c.is_ascii_alphanumeric() => {
                return Err(Error::unsupported(format!("pattern {:.80}: \\{c} is not understood", self.source)));
            }
            c => return self.literal(c),
        }
        let expression = self.source.get(start..self.pos).unwrap_or("");
        let class = resolve(&format!("[{expression}]"), self.insensitive)?;
        Ok(self.class(class))
    }
}
