//! Standard output and error: what is data, what is for people, and when colour is wanted.
use crate::error::{Error, Result};
use anstyle::{AnsiColor, Style};
use serde::Serialize;
use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
};

/// Names and headings.
pub const BOLD: Style = Style::new().bold();
/// What can be overlooked.
pub const DIM: Style = Style::new().dimmed();
/// Figures, bars.
pub const ACCENT: Style = AnsiColor::Cyan.on_default();
/// The user's side of a chat.
pub const PROMPT: Style = AnsiColor::Green.on_default().bold();
const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();

/// Where a command writes. Data goes to standard output, everything else to standard error.
pub struct Out {
    json: bool,
    quiet: bool,
}

impl Out {
    /// Output as the global flags ask for it.
    pub fn new(json: bool, quiet: bool) -> Out {
        Out { json, quiet }
    }

    /// Whether `--json` was given.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Whether `-q` was given.
    pub fn quiet(&self) -> bool {
        self.quiet
    }

    /// One JSON value and a newline: a line for programs, laid out for a person at a terminal.
    pub fn object(&self, value: &impl Serialize) -> Result<()> {
        let pretty = io::stdout().is_terminal();
        let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
        let text = text.map_err(|e| Error::failed(format!("the result cannot be written as JSON: {e}")))?;
        self.data(text.as_bytes())?;
        self.data(b"\n")
    }

    /// Bytes as they are, at once: text that streams.
    pub fn data(&self, bytes: &[u8]) -> Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|e| Error::stdout(&e))
    }

    /// Text that a model made or a file holds, at once: as it is for programs, [`shown`] at a terminal.
    pub fn text(&self, text: &str) -> Result<()> {
        if io::stdout().is_terminal() { self.data(shown(text).as_bytes()) } else { self.data(text.as_bytes()) }
    }

    /// Text with styles for a person; styles are dropped where standard output is no terminal.
    pub fn page(&self, text: &str) -> Result<()> {
        let mut stdout = anstream::stdout().lock();
        stdout.write_all(shown(text).as_bytes()).and_then(|()| stdout.flush()).map_err(|e| Error::stdout(&e))
    }

    /// A line on standard error for a person, unless `-q`.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(anstream::stderr().lock(), "{}", shown(text));
        }
    }
}

/// What styles look like when they are written: all that [`shown`] lets through.
const STYLES: [&str; 7] = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[36m"];

/// Text as a terminal may have it. Names, licences and settings come out of files that anybody may have made: what would
/// move the cursor, clear the screen, set a title, hide letters or turn their order around is written as an escape (`\u{1b}`).
/// Line breaks, tabs and this program's own styles stay.
pub fn shown(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let (mut rest, mut changed) = (text, false);
    while let Some((at, c)) = rest.char_indices().find(|(_, c)| moves(*c)) {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        let style = STYLES.iter().find(|s| tail.starts_with(**s));
        let taken = style.map_or(c.len_utf8(), |s| s.len());
        match style {
            Some(style) => out.push_str(style),
            None => {
                changed = true;
                out.extend(c.escape_default());
            }
        }
        rest = tail.get(taken..).unwrap_or("");
    }
    if !changed {
        return Cow::Borrowed(text);
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Whether a terminal does something other than to show it: control characters, and those that order text anew.
fn moves(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The same on one line: line breaks and tabs are escapes, too.
pub fn line(text: &str) -> Cow<'_, str> {
    match shown(text) {
        t if !t.contains(['\n', '\t']) => t,
        t => Cow::Owned(t.replace('\n', "\\n").replace('\t', "\\t")),
    }
}

/// Whether a person watches standard error.
pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Columns of the terminal, or 100 where there is none.
pub fn columns() -> usize {
    terminal_size::terminal_size().map_or(100, |(w, _)| usize::from(w.0).max(20))
}

/// The two lines of an error.
pub fn error_lines(what: &str, hint: Option<&str>) {
    let mut stderr = anstream::stderr().lock();
    let _ = writeln!(stderr, "{ERROR}error{ERROR:#}: {}", shown(what));
    if let Some(hint) = hint {
        let _ = writeln!(stderr, "{BOLD}hint{BOLD:#}: {}", shown(hint));
    }
}

/// A log line.
pub fn stderr_line(level: &str, text: &str) {
    let style = level_style(level);
    let _ = writeln!(anstream::stderr().lock(), "{style}{level}{style:#}: {}", shown(text));
}

/// How a level is shown.
pub fn level_style(level: &str) -> Style {
    match level {
        "error" | "ERROR" => ERROR,
        "warning" | "WARN" => WARNING,
        _ => DIM,
    }
}

/// Lines as they are; styles are dropped where standard error is no terminal.
pub fn stderr_bytes(lines: &[u8]) {
    let mut stderr = anstream::stderr().lock();
    let _ = stderr.write_all(lines).and_then(|()| stderr.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_our_styles_and_no_others() {
        for (text, want) in [
            ("plain ü 日本 🦀\n\tx", "plain ü 日本 🦀\n\tx"),
            ("\x1b[2J", "\\u{1b}[2J"),
            ("a\x1b]0;title\x07b", "a\\u{1b}]0;title\\u{7}b"),
            ("\x1b[8mhidden", "\\u{1b}[8mhidden"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("over\rwritten\x08\x7f", "over\\rwritten\\u{8}\\u{7f}"),
            ("\u{202e}txt.exe", "\\u{202e}txt.exe"),
        ] {
            assert_eq!(shown(text), want, "{text:?}");
        }
        for style in [BOLD, DIM, ACCENT, PROMPT, ERROR, WARNING] {
            let text = format!("{style}x{style:#} y");
            assert_eq!(shown(&text), text);
        }
        assert_eq!(line("a\nb\tc\x1b"), "a\\nb\\tc\\u{1b}");
    }
}
