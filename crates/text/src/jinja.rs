//! Jinja templates as Python's jinja2 renders them in its immutable sandbox, with a price on everything: steps,
//! bytes and depth are metered, so that a hostile template ends in an error and not in a hang or an abort. Owns the
//! language; what a chat looks like to a template is [`crate::chat`]'s business.
//!
//! An interpreter of its own, because the limits must sit where the work is done: `'a' * 10**9`, `x ~ x` in a loop
//! and `'%999999999d' % 1` each build their result inside of one operator, where fuel that is counted per
//! instruction does not see them.

mod ast;
mod eval;
mod filters;
mod lexer;
mod methods;
pub(crate) mod outline;
mod parser;
mod text;
mod value;
pub(crate) mod watch;

use crate::error::{Error, ErrorKind};
pub(crate) use text::Clock;

/// Largest template source.
const SOURCE_MAX: usize = 4 << 20;
/// Stack of the rendering thread: the depth limits keep well below it.
const STACK: usize = 24 << 20;

/// Why rendering stopped.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// `raise_exception`, with the template's words.
    Raised(String),
    /// What Python would raise: a syntax, type, undefined or security error.
    Failed(String),
    /// A meter ran out.
    Limit(&'static str),
}

pub(crate) type Outcome<T> = Result<T, Fault>;

pub(crate) fn failed<T>(message: impl Into<String>) -> Outcome<T> {
    Err(Fault::Failed(message.into()))
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Raised(message) => Error::new(ErrorKind::Raised, message),
            Fault::Failed(message) => Error::new(ErrorKind::Template, format!("chat template: {message}")),
            Fault::Limit(what) => Error::new(ErrorKind::Limit, format!("chat template: {what}"))
                .with_hint("the template does far more work than a chat template needs"),
        }
    }
}

/// Checks that a template can be parsed.
pub(crate) fn check(source: &str) -> Result<(), Error> {
    on_own_stack(|| parser::parse(source).map(|_| ()))
}

/// Renders `source` with these variables (a JSON object).
pub(crate) fn render(
    source: &str,
    variables: serde_json::Map<String, serde_json::Value>,
    clock: Clock,
) -> Result<String, Error> {
    on_own_stack(move || {
        let body = parser::parse(source)?;
        eval::render(&body, variables, clock)
    })
}

/// Renders `source`, and gives what was seen on the way, also where it fails.
pub(crate) fn render_watched(
    source: &str,
    variables: serde_json::Map<String, serde_json::Value>,
    clock: Clock,
) -> (Result<String, Error>, watch::Watch) {
    let done = on_own_stack(move || {
        let body = parser::parse(source)?;
        Ok(eval::render_watched(&body, variables, clock))
    });
    match done {
        Ok((outcome, watch)) => (outcome.map_err(Error::from), watch),
        Err(error) => (Err(error), watch::Watch::default()),
    }
}

/// Runs `work` on a thread whose stack is known.
fn on_own_stack<T: Send>(work: impl FnOnce() -> Outcome<T> + Send) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).name("template".into());
        let thread = thread.spawn_scoped(scope, work).map_err(|e| Error::new(ErrorKind::Io, format!("thread: {e}")))?;
        match thread.join() {
            Ok(outcome) => outcome.map_err(Error::from),
            Err(_) => Err(Error::new(ErrorKind::Template, "chat template: the renderer failed")),
        }
    })
}
