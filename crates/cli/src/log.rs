//! Log lines of the libraries on standard error: warnings always, more with `-v`, none with `-q`.
use crate::out;
use std::fmt::Write as _;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

struct Stderr {
    level: Level,
}

/// Shows warnings, and with `verbose` 1, 2, 3 also information, debug and trace lines.
pub fn install(verbose: u8, quiet: bool) {
    let level = match (quiet, verbose) {
        (true, _) => Level::ERROR,
        (_, 0) => Level::WARN,
        (_, 1) => Level::INFO,
        (_, 2) => Level::DEBUG,
        _ => Level::TRACE,
    };
    // A second caller in one process (tests) keeps the first one's.
    let _ = tracing::subscriber::set_global_default(Stderr { level });
}

impl Subscriber for Stderr {
    fn enabled(&self, m: &Metadata<'_>) -> bool {
        // Other crates' chatter is of no use to our users.
        *m.level() <= self.level && m.target().starts_with("pondera")
    }

    fn event(&self, e: &Event<'_>) {
        let mut line = Line::default();
        e.record(&mut line);
        let name = match *e.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            _ => "log",
        };
        out::stderr_line(name, &format!("{}{}", line.message, line.fields));
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value}"),
            name => write!(self.fields, " {name}={value}"),
        };
    }
}
