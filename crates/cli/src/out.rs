//! Standard output and error: what is data, what is for people, and when colour is wanted.
use crate::error::{Error, Result};
use anstyle::{AnsiColor, Style};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

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

    /// Text with styles for a person; styles are dropped where standard output is no terminal.
    pub fn page(&self, text: &str) -> Result<()> {
        let mut stdout = anstream::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|e| Error::stdout(&e))
    }

    /// A line on standard error for a person, unless `-q`.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(anstream::stderr().lock(), "{text}");
        }
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
    let _ = writeln!(stderr, "{ERROR}error{ERROR:#}: {what}");
    if let Some(hint) = hint {
        let _ = writeln!(stderr, "{BOLD}hint{BOLD:#}: {hint}");
    }
}

/// A log line.
pub fn stderr_line(level: &str, text: &str) {
    let style = level_style(level);
    let _ = writeln!(anstream::stderr().lock(), "{style}{level}{style:#}: {text}");
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
