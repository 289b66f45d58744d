//! Log lines of the libraries on standard error: warnings always, more with `-v`, none but errors with `-q`; for people or, with
//! `--log-format json`, for programs.
//!
//! A server's lines go through a queue to a thread that writes them, so that whoever has something to say never waits for
//! whoever reads it: what does not fit is dropped and counted. Does not own: what is said (each library), results and the two
//! lines of an error in text (`out.rs`).
use crate::{
    error::Error,
    out::{self, DIM},
};
use clap::ValueEnum;
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// A JSON object per line: timestamp, level, target, message, fields
    Json,
}

/// Lines that may wait for the writer.
const LINES_MAX: usize = 4096;
/// Most bytes of one text in a line; the rest is cut and says so.
const TEXT_MAX: usize = 4096;
/// How long the end waits for the last lines to be read.
const PATIENCE: Duration = Duration::from_secs(1);

/// The log of this process; dropping it writes what is left.
pub struct Log {
    format: Format,
    dropped: Arc<AtomicU64>,
    /// The queue, and what tells that its writer has ended.
    writer: Option<(SyncSender<Line>, Receiver<()>)>,
}

enum Line {
    Text(String),
    End,
}

/// Shows warnings, and with `verbose` 1, 2, 3 also information, debug and trace lines. A server's log is what it has to show, so
/// its lines begin at information, and have a date.
pub fn install(verbose: u8, quiet: bool, format: Format, server: bool) -> Log {
    let level = match (quiet, verbose.saturating_add(u8::from(server))) {
        (true, _) => Level::ERROR,
        (_, 0) => Level::WARN,
        (_, 1) => Level::INFO,
        (_, 2) => Level::DEBUG,
        _ => Level::TRACE,
    };
    let dropped = Arc::new(AtomicU64::new(0));
    let writer = server.then(|| start(format, dropped.clone())).flatten();
    let queue = writer.as_ref().map(|w| w.0.clone());
    // A second caller in one process (tests) keeps the first one's.
    let _ = tracing::subscriber::set_global_default(Stderr { level, format, server, queue, dropped: dropped.clone() });
    Log { format, dropped, writer }
}

impl Log {
    /// How many lines were dropped so far.
    pub fn dropped(&self) -> Arc<AtomicU64> {
        self.dropped.clone()
    }

    /// How lines are written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The last word of a command that failed, after everything that was said before.
    pub fn end(mut self, e: &Error) {
        self.flush();
        match self.format {
            Format::Json => e.log(),
            Format::Text => e.print(),
        }
    }

    fn flush(&mut self) {
        let Some((queue, ended)) = self.writer.take() else { return };
        let end = Instant::now() + PATIENCE;
        while let Err(TrySendError::Full(_)) = queue.try_send(Line::End)
            && Instant::now() < end
        {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = ended.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Fields of a line, in the order in which they were said.
pub type Fields = Vec<(&'static str, Value)>;

/// A line as JSON, written at once: for what ends the process.
pub fn json_line(level: &str, target: &str, message: &str, fields: &Fields) {
    out::stderr_bytes(json(level, target, message, fields).as_bytes());
}

/// A queue, and what tells that its writer has ended; none where there is no thread to be had.
fn start(format: Format, dropped: Arc<AtomicU64>) -> Option<(SyncSender<Line>, Receiver<()>)> {
    let (queue, lines) = sync_channel(LINES_MAX);
    let (ended, end) = channel();
    let body = move || {
        write(format, &lines, &dropped);
        let _ = ended.send(());
    };
    thread::Builder::new().name("log".into()).spawn(body).ok()?;
    Some((queue, end))
}

/// Most bytes that are written at once.
const TOGETHER: usize = 32 << 10;

fn write(format: Format, lines: &Receiver<Line>, dropped: &AtomicU64) {
    let (mut told, mut ending) = (0, false);
    while !ending && let Ok(first) = lines.recv() {
        let (mut together, mut next) = (String::new(), Some(first));
        while let Some(line) = next.take() {
            match line {
                Line::Text(line) => together.push_str(&line),
                Line::End => ending = true,
            }
            if !ending && together.len() < TOGETHER {
                next = lines.try_recv().ok();
            }
        }
        let lost = dropped.load(Relaxed);
        if lost > told {
            let what = "log lines were dropped: they came faster than they were read";
            let fields = vec![("lines", Value::from(lost - told))];
            together.push_str(&match format {
                Format::Json => json("WARN", module_path!(), what, &fields),
                Format::Text => text("WARN", what, &shown(&fields)),
            });
            told = lost;
        }
        // A reader that is gone is no reason to keep what was said.
        out::stderr_bytes(together.as_bytes());
    }
}

struct Stderr {
    level: Level,
    format: Format,
    server: bool,
    queue: Option<SyncSender<Line>>,
    dropped: Arc<AtomicU64>,
}

impl Subscriber for Stderr {
    fn enabled(&self, m: &Metadata<'_>) -> bool {
        // Other crates' chatter is of no use to our users.
        *m.level() <= self.level && m.target().starts_with("pondera")
    }

    fn event(&self, e: &Event<'_>) {
        let mut said = Said::default();
        e.record(&mut said);
        let (level, target) = (*e.metadata().level(), e.metadata().target());
        let line = match (self.format, self.server) {
            (Format::Json, _) => json(level.as_str(), target, &said.message, &said.fields),
            (Format::Text, true) => {
                // What the message of a request says already.
                let told = |name: &str| target.ends_with("::access") && ["method", "route", "status"].contains(&name);
                said.fields.retain(|(name, _)| !told(name));
                text(level.as_str(), &said.message, &shown(&said.fields))
            }
            (Format::Text, false) => {
                let name = match level {
                    Level::ERROR => "error",
                    Level::WARN => "warning",
                    _ => "log",
                };
                return out::stderr_line(name, &format!("{}{}", said.message, shown(&said.fields)));
            }
        };
        let Some(queue) = &self.queue else { return out::stderr_bytes(line.as_bytes()) };
        if queue.try_send(Line::Text(line)).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

fn json(level: &str, target: &str, message: &str, fields: &Fields) -> String {
    #[derive(Serialize)]
    struct Whole<'a> {
        timestamp: String,
        level: &'a str,
        target: &'a str,
        message: &'a str,
        #[serde(serialize_with = "in_order")]
        fields: &'a Fields,
    }
    let line = serde_json::to_string(&Whole { timestamp: now(), level, target, message, fields });
    line.unwrap_or_default() + "\n"
}

fn in_order<S: Serializer>(fields: &&Fields, s: S) -> Result<S::Ok, S::Error> {
    s.collect_map(fields.iter().map(|(name, value)| (name, value)))
}

fn text(level: &str, message: &str, fields: &str) -> String {
    let style = out::level_style(level);
    format!("{DIM}{}{DIM:#} {style}{level:5}{style:#} {}{fields}\n", now(), plain(message))
}

/// RFC 3339, in UTC, to the millisecond.
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let whole = pondera_server::rfc3339(since.as_secs());
    format!("{}.{:03}Z", whole.trim_end_matches('Z'), since.subsec_millis())
}

/// ` name=value …`; a value that is no single word stands in quotation marks.
fn shown(fields: &Fields) -> String {
    let mut out = String::new();
    for (name, value) in fields {
        let _ = match value {
            Value::String(s) if s.is_empty() || s.chars().any(|c| c.is_whitespace() || c == '"' || c.is_control()) => {
                write!(out, " {name}={s:?}")
            }
            Value::String(s) => write!(out, " {name}={s}"),
            other => write!(out, " {name}={other}"),
        };
    }
    out
}

/// Nothing in a line ends it or speaks to the terminal.
fn plain(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

#[derive(Default)]
struct Said {
    message: String,
    fields: Fields,
}

impl Said {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("message", other) => self.message = other.to_string(),
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field, cut(format!("{value:?}")).into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, cut(value.to_string()).into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_MAX {
        text.truncate(text.floor_char_boundary(TEXT_MAX));
        text.push_str("… (cut)");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_and_a_value_stays_whole() {
        let fields: Fields = vec![("z", "x\ny\u{1b}[2J".into()), ("b", 1.5.into()), ("c", "plain".into())];
        let line = text("INFO", "one\ntwo", &shown(&fields));
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.contains("one\\ntwo") && line.contains(r#" z="x\ny\u{1b}[2J" b=1.5 c=plain"#), "{line:?}");
        let line = json("INFO", "t", "one\ntwo", &fields);
        assert_eq!(line.matches('\n').count(), 1);
        let back: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&back["message"], &back["fields"]["z"]), (&"one\ntwo".into(), &"x\ny\u{1b}[2J".into()));
        let at = back["timestamp"].as_str().unwrap();
        assert!(at.len() == "2026-01-01T00:00:00.000Z".len() && at.ends_with('Z') && at.contains('T'), "{at}");
    }

    #[test]
    fn long_texts_are_cut_where_a_letter_ends() {
        let long = cut("ä".repeat(TEXT_MAX));
        assert!(long.len() < TEXT_MAX + 16 && long.ends_with("ä… (cut)"));
    }

    #[test]
    fn what_nobody_reads_is_counted() {
        let (queue, lines) = sync_channel(2);
        let dropped = Arc::new(AtomicU64::new(0));
        let log = Stderr {
            level: Level::INFO,
            format: Format::Json,
            server: true,
            queue: Some(queue),
            dropped: dropped.clone(),
        };
        tracing::subscriber::with_default(log, || {
            for i in 0..5 {
                tracing::info!(target: "pondera_test", i, "said");
            }
        });
        assert_eq!((lines.try_iter().count(), dropped.load(Relaxed)), (2, 3));
    }
}
