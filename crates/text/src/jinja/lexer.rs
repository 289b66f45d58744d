//! Template source to tokens: text, tags and their white space control (`trim_blocks` and `lstrip_blocks` are on).

use super::{Outcome, failed};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Text(String),
    VarStart,
    VarEnd,
    BlockStart,
    BlockEnd,
    Name(String),
    Str(String),
    Int(i128),
    Float(f64),
    Op(&'static str),
}

const OPERATORS: [&str; 27] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".",
    ":", "|", ",", ";", "!",
];

/// Cuts a template into tokens, each with its place in bytes.
pub(super) fn lex(source: &str) -> Outcome<Vec<(Token, u32)>> {
    let mut source = source.replace("\r\n", "\n").replace('\r', "\n");
    if source.ends_with('\n') {
        source.pop();
    }
    let mut lexer = Lexer { rest: &source, source: &source, out: Vec::new() };
    lexer.template()?;
    Ok(lexer.out)
}

struct Lexer<'s> {
    source: &'s str,
    rest: &'s str,
    out: Vec<(Token, u32)>,
}

impl<'s> Lexer<'s> {
    fn push(&mut self, token: Token) {
        let at = self.source.len() - self.rest.len();
        self.out.push((token, u32::try_from(at).unwrap_or(u32::MAX)));
    }

    fn template(&mut self) -> Outcome<()> {
        let mut trim_left = false; // the tag before ended with '-'
        let mut line_start = true; // the text begins at the start of a line
        loop {
            let open = self
                .rest
                .match_indices('{')
                .map(|(at, _)| at)
                .find(|at| matches!(self.rest.as_bytes().get(at + 1), Some(b'{' | b'%' | b'#')));
            let Some(open) = open else {
                let text = if trim_left { self.rest.trim_start() } else { self.rest };
                if !text.is_empty() {
                    self.push(Token::Text(text.to_string()));
                }
                self.rest = "";
                return Ok(());
            };
            let (text, tag) = self.rest.split_at(open);
            let kind = tag.as_bytes()[1];
            let sign = tag.as_bytes().get(2).copied();
            let mut text = if trim_left { text.trim_start() } else { text };
            if sign == Some(b'-') {
                text = text.trim_end();
            } else if sign != Some(b'+') && kind != b'{' {
                let bare = text.trim_end_matches([' ', '\t']);
                if bare.ends_with('\n') || (bare.is_empty() && line_start) {
                    text = bare;
                }
            }
            if !text.is_empty() {
                self.push(Token::Text(text.to_string()));
            }
            self.rest = &tag[2..];
            if matches!(sign, Some(b'-' | b'+')) && (kind != b'{' || sign == Some(b'-')) {
                self.rest = &self.rest[1..];
            }
            let closed = match kind {
                b'#' => self.comment()?,
                b'{' => {
                    self.push(Token::VarStart);
                    self.expression("}}", Token::VarEnd)?
                }
                _ => match self.raw()? {
                    Some(closed) => closed,
                    None => {
                        self.push(Token::BlockStart);
                        self.expression("%}", Token::BlockEnd)?
                    }
                },
            };
            trim_left = closed == b'-';
            line_start = false;
            if kind != b'{' && closed == 0 && self.rest.starts_with('\n') {
                self.rest = &self.rest[1..];
                line_start = true;
            }
            if trim_left {
                let trimmed = self.rest.trim_start();
                line_start = self.rest[..self.rest.len() - trimmed.len()].ends_with('\n');
            }
        }
    }

    fn comment(&mut self) -> Outcome<u8> {
        let Some(end) = self.rest.find("#}") else { return failed("Missing end of comment tag") };
        let sign = self.rest.as_bytes()[..end].last().copied().filter(|b| matches!(b, b'-' | b'+')).unwrap_or(0);
        self.rest = &self.rest[end + 2..];
        Ok(sign)
    }

    /// `{% raw %}` up to `{% endraw %}`, as text; `None` if this tag is another.
    fn raw(&mut self) -> Outcome<Option<u8>> {
        let inside = self.rest.trim_start();
        let Some(after) = inside.strip_prefix("raw") else { return Ok(None) };
        let after = after.trim_start();
        let body = match (after.strip_prefix("-%}"), after.strip_prefix("%}")) {
            (Some(body), _) => body.trim_start(),
            (_, Some(body)) => body.strip_prefix('\n').unwrap_or(body),
            _ => return Ok(None),
        };
        for (at, _) in body.match_indices("{%") {
            let tag = &body[at + 2..];
            let (minus, tag) = match tag.strip_prefix('-') {
                Some(tag) => (true, tag),
                None => (false, tag.strip_prefix('+').unwrap_or(tag)),
            };
            let Some(tail) = tag.trim_start().strip_prefix("endraw") else { continue };
            let tail = tail.trim_start();
            let (sign, rest) = match (tail.strip_prefix("-%}"), tail.strip_prefix("%}")) {
                (Some(rest), _) => (b'-', rest),
                (_, Some(rest)) => (0, rest),
                _ => continue,
            };
            let mut text = &body[..at];
            if minus {
                text = text.trim_end();
            } else {
                let bare = text.trim_end_matches([' ', '\t']);
                if bare.ends_with('\n') {
                    text = bare;
                }
            }
            self.push(Token::Text(text.to_string()));
            self.rest = rest;
            return Ok(Some(sign));
        }
        failed("Missing end of raw directive")
    }

    /// Tokens up to `end`; gives the sign before it.
    fn expression(&mut self, end: &'static str, token: Token) -> Outcome<u8> {
        let mut braces: Vec<u8> = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            let bytes = self.rest.as_bytes();
            let Some(&first) = bytes.first() else { return failed("unexpected end of template in a tag") };
            if braces.is_empty() {
                let sign = if matches!(first, b'-' | b'+') && self.rest[1..].starts_with(end) { first } else { 0 };
                if sign == b'-' || (sign == b'+' && end == "%}") || self.rest.starts_with(end) {
                    let skip = end.len() + usize::from(sign != 0);
                    self.push(token);
                    self.rest = &self.rest[skip..];
                    return Ok(sign);
                }
            }
            match first {
                b'"' | b'\'' => self.string(first)?,
                b'0'..=b'9' => self.number()?,
                _ if first == b'_' || first.is_ascii_alphabetic() || first >= 0x80 => {
                    let len = self.rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(self.rest.len());
                    if len == 0 {
                        return failed(format!("unexpected char {:?}", self.rest.chars().next().unwrap_or(' ')));
                    }
                    let name = self.rest[..len].to_string();
                    self.push(Token::Name(name));
                    self.rest = &self.rest[len..];
                }
                _ => {
                    let Some(op) = OPERATORS.iter().find(|op| self.rest.starts_with(**op)) else {
                        return failed(format!("unexpected char {:?}", char::from(first)));
                    };
                    match op.as_bytes()[0] {
                        b'(' | b'[' | b'{' => braces.push(first),
                        b')' | b']' | b'}' => {
                            let fits = braces
                                .pop()
                                .is_some_and(|b| matches!((b, first), (b'(', b')') | (b'[', b']') | (b'{', b'}')));
                            if !fits {
                                return failed(format!("unexpected '{op}'"));
                            }
                        }
                        _ => {}
                    }
                    self.push(Token::Op(op));
                    self.rest = &self.rest[op.len()..];
                }
            }
        }
    }

    fn number(&mut self) -> Outcome<()> {
        let text = self.rest;
        let radix = match text.get(..2).map(str::to_ascii_lowercase).as_deref() {
            Some("0x") => 16,
            Some("0o") => 8,
            Some("0b") => 2,
            _ => 10,
        };
        if radix != 10 {
            let len = text[2..].find(|c: char| !c.is_digit(radix) && c != '_').map_or(text.len(), |n| n + 2);
            let Ok(value) = i128::from_str_radix(&text[2..len].replace('_', ""), radix) else {
                return failed("invalid number");
            };
            self.push(Token::Int(value));
            self.rest = &text[len..];
            return Ok(());
        }
        let digits =
            |from: usize| text[from..].find(|c: char| !c.is_ascii_digit() && c != '_').map_or(text.len(), |n| n + from);
        let bytes = text.as_bytes();
        let mut end = digits(0);
        let mut float = false;
        if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
            float = true;
            end = digits(end + 1);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            if bytes.get(end + 1 + sign).is_some_and(u8::is_ascii_digit) {
                float = true;
                end = digits(end + 1 + sign);
            }
        }
        let clean = text[..end].replace('_', "");
        let token = match float {
            true => clean.parse().ok().map(Token::Float),
            false => clean.parse().ok().map(Token::Int),
        };
        let Some(token) = token else { return failed("invalid number") };
        self.push(token);
        self.rest = &text[end..];
        Ok(())
    }

    fn string(&mut self, quote: u8) -> Outcome<()> {
        let bytes = self.rest.as_bytes();
        let mut end = 1;
        while end < bytes.len() && bytes[end] != quote {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        if end >= bytes.len() {
            return failed("a string without end");
        }
        let text = unescape(&self.rest[1..end]);
        self.push(Token::Str(text));
        self.rest = &self.rest[end + 1..];
        Ok(())
    }
}

/// Python's escapes in a string literal.
fn unescape(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_string();
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let Some(escape) = chars.next() else { break };
        let mut code = |digits: usize, radix: u32, first: Option<u32>| {
            let mut value = first.unwrap_or(0);
            for _ in 0..digits {
                let Some(digit) = chars.peek().and_then(|c| c.to_digit(radix)) else { break };
                value = value * radix + digit;
                chars.next();
            }
            char::from_u32(value).unwrap_or('\u{FFFD}')
        };
        match escape {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'a' => out.push('\x07'),
            'b' => out.push('\x08'),
            'f' => out.push('\x0C'),
            'v' => out.push('\x0B'),
            '\n' => {}
            '\\' | '\'' | '"' => out.push(escape),
            'x' => out.push(code(2, 16, None)),
            'u' => out.push(code(4, 16, None)),
            'U' => out.push(code(8, 16, None)),
            '0'..='7' => out.push(code(2, 8, escape.to_digit(8))),
            other => {
                out.push('\\');
                out.push(other);
            }
        }
    }
    out
}
