//! Arguments as literals of a language: Python's, and the one of Gemma's. Read into JSON.

/// Whether a bare name of a field may hold this.
pub(crate) fn in_key(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-.$@".contains(c)
}

/// How a language writes values.
#[derive(Debug)]
pub struct Notation {
    /// What may stand around a text; no escapes where it is more than a letter.
    pub quotes: &'static [&'static str],
    /// Between a field's name and its value in a call.
    pub gives: char,
    /// What ends the fields of a call.
    pub end: char,
    /// `true`, `false` and `null`.
    pub words: [&'static str; 3],
    /// Names of an object's fields stand without quotes.
    pub bare_keys: bool,
}

/// Python's.
pub const PYTHON: Notation =
    Notation { quotes: &["\"", "'"], gives: '=', end: ')', words: ["True", "False", "None"], bare_keys: false };

/// Gemma's.
pub const GEMMA: Notation =
    Notation { quotes: &["<|\"|>"], gives: ':', end: '}', words: ["true", "false", "null"], bare_keys: true };

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// JSON, of this many bytes.
    Whole(String, usize),
    /// The text is not all there.
    More,
    Wrong,
}

/// Deepest nesting that is read.
const DEPTH: usize = 64;

/// Why there is no value.
enum Stop {
    More,
    Wrong,
}

type Parsed<T> = std::result::Result<T, Stop>;

/// The fields of a call up to the bracket that ends them, as a JSON object.
pub(super) fn fields(text: &str, notation: &Notation) -> Read {
    // Nothing can be whole before the bracket came.
    if !text.contains(notation.end) {
        return Read::More;
    }
    let mut p = Parser { text, at: 0, notation };
    let mut out = String::from("{");
    match p.members(notation.end, notation.gives, true, &mut out, 0) {
        Ok(()) => {
            out.push('}');
            Read::Whole(out, p.at - notation.end.len_utf8())
        }
        Err(Stop::More) => Read::More,
        Err(Stop::Wrong) => Read::Wrong,
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    notation: &'t Notation,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn peek(&mut self) -> Parsed<char> {
        self.space();
        self.rest().chars().next().ok_or(Stop::More)
    }

    fn expect(&mut self, wanted: char) -> Parsed<()> {
        match self.peek()? {
            c if c == wanted => {
                self.at += c.len_utf8();
                Ok(())
            }
            _ => Err(Stop::Wrong),
        }
    }

    /// Names with values, up to `end`, which is taken.
    fn members(&mut self, end: char, gives: char, bare: bool, out: &mut String, depth: usize) -> Parsed<()> {
        let mut first = true;
        loop {
            if self.peek()? == end {
                self.at += end.len_utf8();
                return Ok(());
            }
            if !first {
                self.expect(',')?;
                out.push_str(", ");
                // A comma may stand before the end.
                if self.peek()? == end {
                    return Err(Stop::Wrong);
                }
            }
            first = false;
            let key = match bare {
                true => self.word()?,
                false => self.string()?.ok_or(Stop::Wrong)?,
            };
            out.push_str(&serde_json::Value::from(key).to_string());
            self.expect(gives)?;
            out.push_str(": ");
            self.value(out, depth)?;
        }
    }

    /// A name without quotes.
    fn word(&mut self) -> Parsed<String> {
        self.space();
        let rest = self.rest();
        let end = rest.find(|c: char| !(in_key(c))).ok_or(Stop::More)?;
        let word = rest[..end].to_string();
        self.at += end;
        if word.is_empty() { Err(Stop::Wrong) } else { Ok(word) }
    }

    /// A text in quotes; none if there is no quote.
    fn string(&mut self) -> Parsed<Option<String>> {
        self.space();
        let rest = &self.text[self.at..];
        let Some(quote) = self.notation.quotes.iter().find(|q| rest.starts_with(**q)) else {
            let begun = self.notation.quotes.iter().any(|q| q.len() > rest.len() && q.starts_with(rest));
            return if begun { Err(Stop::More) } else { Ok(None) };
        };
        let body = &rest[quote.len()..];
        if quote.len() > 1 {
            let end = body.find(quote).ok_or(Stop::More)?;
            self.at += 2 * quote.len() + end;
            return Ok(Some(body[..end].to_string()));
        }
        let (mut out, mut letters) = (String::new(), body.char_indices());
        while let Some((i, c)) = letters.next() {
            match c {
                '\\' => out.push(escape(&mut letters)?),
                c if quote.starts_with(c) => {
                    self.at += quote.len() + i + c.len_utf8();
                    return Ok(Some(out));
                }
                c => out.push(c),
            }
        }
        Err(Stop::More)
    }

    fn value(&mut self, out: &mut String, depth: usize) -> Parsed<()> {
        if depth > DEPTH {
            return Err(Stop::Wrong);
        }
        if let Some(text) = self.string()? {
            out.push_str(&serde_json::Value::from(text).to_string());
            return Ok(());
        }
        match self.peek()? {
            '{' => {
                self.at += 1;
                out.push('{');
                self.members('}', ':', self.notation.bare_keys, out, depth + 1)?;
                out.push('}');
            }
            c @ ('[' | '(') => {
                self.at += 1;
                out.push('[');
                self.items(if c == '[' { ']' } else { ')' }, out, depth + 1)?;
                out.push(']');
            }
            _ => out.push_str(&self.atom()?),
        }
        Ok(())
    }

    fn items(&mut self, end: char, out: &mut String, depth: usize) -> Parsed<()> {
        let mut first = true;
        while self.peek()? != end {
            if !first {
                self.expect(',')?;
                if self.peek()? == end {
                    break;
                }
                out.push_str(", ");
            }
            first = false;
            self.value(out, depth)?;
        }
        self.at += end.len_utf8();
        Ok(())
    }

    /// A number or a word.
    fn atom(&mut self) -> Parsed<String> {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c))).ok_or(Stop::More)?;
        let atom = rest[..end].to_string();
        self.at += end;
        let json = ["true", "false", "null"];
        let at = self.notation.words.iter().chain(&json).position(|w| *w == atom);
        match at {
            Some(i) => Ok(json[i % 3].to_string()),
            None if serde_json::from_str::<serde_json::Number>(&atom).is_ok() => Ok(atom),
            None => Err(Stop::Wrong),
        }
    }
}

/// What stands behind a backslash.
fn escape(letters: &mut std::str::CharIndices<'_>) -> Parsed<char> {
    let digits = |letters: &mut std::str::CharIndices<'_>, n: usize| {
        let mut code = 0;
        for _ in 0..n {
            let (_, c) = letters.next().ok_or(Stop::More)?;
            code = code * 16 + c.to_digit(16).ok_or(Stop::Wrong)?;
        }
        Ok(code)
    };
    let (_, c) = letters.next().ok_or(Stop::More)?;
    let code = match c {
        'n' => return Ok('\n'),
        't' => return Ok('\t'),
        'r' => return Ok('\r'),
        'b' => return Ok('\u{8}'),
        'f' => return Ok('\u{c}'),
        'x' => digits(letters, 2)?,
        'u' => digits(letters, 4)?,
        'U' => digits(letters, 8)?,
        c => return Ok(c),
    };
    // Half of a pair, as JSON writes letters beyond 16 bits.
    if (0xd800..0xdc00).contains(&code) {
        let tail = letters.clone().take(2).map(|(_, c)| c).collect::<String>();
        if tail == "\\u" {
            letters.nth(1);
            let low = digits(letters, 4)?.checked_sub(0xdc00).filter(|low| *low < 0x400).ok_or(Stop::Wrong)?;
            return char::from_u32(0x10000 + ((code - 0xd800) << 10) + low).ok_or(Stop::Wrong);
        }
        return Ok(char::REPLACEMENT_CHARACTER);
    }
    Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_become_json() {
        for (notation, text, json) in [
            (&PYTHON, "a=\"x, y)\", b=1)", r#"{"a": "x, y)", "b": 1}"#),
            (
                &PYTHON,
                "a='it\\'s', b=[1, 2.5, -3e2], c=True, d=None)",
                r#"{"a": "it's", "b": [1, 2.5, -3e2], "c": true, "d": null}"#,
            ),
            (&PYTHON, "x={\"k\": ('a', False)})", r#"{"x": {"k": ["a", false]}}"#),
            (&PYTHON, "x=\"\\u00e9\\ud83e\\udd8a\\n\")", r#"{"x": "é🦊\n"}"#),
            (&PYTHON, ")", "{}"),
            (&GEMMA, "location:<|\"|>Paris, \"FR\"<|\"|>,n:3}", r#"{"location": "Paris, \"FR\"", "n": 3}"#),
            (&GEMMA, "o:{a:[<|\"|>x<|\"|>,true],b:null}}", r#"{"o": {"a": ["x", true], "b": null}}"#),
        ] {
            let end = text.len() - 1;
            assert_eq!(fields(text, notation), Read::Whole(json.into(), end), "{text}");
            for cut in (0..text.len()).filter(|c| text.is_char_boundary(*c)) {
                assert_eq!(fields(&text[..cut], notation), Read::More, "{text} cut at {cut}");
            }
        }
        for text in ["a=b)", "a)", "=1)", "a=1 b=2)", "a=\"\\xzz\")", "a=1,)", "a=--1)"] {
            assert_eq!(fields(text, &PYTHON), Read::Wrong, "{text}");
        }
        let deep = format!("a={}", "[".repeat(100_000)) + ")";
        assert_eq!(fields(&deep, &PYTHON), Read::Wrong);
    }
}
