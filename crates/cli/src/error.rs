//! The one error of the command line: an exit status, a line that says what is wrong, a line that says what to do.
use crate::{log, out};
use std::{fmt, io, process::ExitCode};

/// How a command ended, as scripts see it (docs/commands.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It worked, or whoever read the output has had enough.
    Ok = 0,
    /// It failed for a reason of the machine or of the request.
    Failed = 1,
    /// The command line does not say what to do.
    Usage = 2,
    /// A file is invalid, unsafe or unsupported, or no runnable model.
    File = 3,
    /// Policy refuses it.
    Refused = 4,
    /// Memory or disk does not hold it.
    DoesNotFit = 5,
    /// A check did not hold.
    CheckFailed = 6,
    /// Stopped from the keyboard: 128 + SIGINT, as shells have it.
    Interrupted = 130,
}

impl Exit {
    /// The process's status.
    pub fn code(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub struct Error {
    exit: Exit,
    what: String,
    hint: Option<String>,
}

/// What commands return.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with its exit status and its sentence.
    pub fn new(exit: Exit, what: impl Into<String>) -> Error {
        Error { exit, what: what.into(), hint: None }
    }

    /// Exit 1.
    pub fn failed(what: impl Into<String>) -> Error {
        Error::new(Exit::Failed, what)
    }

    /// Exit 2.
    pub fn usage(what: impl Into<String>) -> Error {
        Error::new(Exit::Usage, what)
    }

    /// Exit 3.
    pub fn file(what: impl Into<String>) -> Error {
        Error::new(Exit::File, what)
    }

    /// Says what to do next, unless a nearer place has said it before.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// With its sentence changed.
    pub fn map(mut self, change: impl Fn(&str) -> String) -> Error {
        self.what = change(&self.what);
        self
    }

    /// The exit status.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// What is wrong.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What to do next.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Writes its lines to standard error; nothing for a reader that went away.
    pub fn print(&self) {
        if !self.what.is_empty() {
            out::error_lines(&self.what, self.hint.as_deref());
        }
    }

    /// The same as one line for programs.
    pub fn log(&self) {
        if !self.what.is_empty() {
            let mut fields = vec![("exit", (self.exit as u8).into())];
            fields.extend(self.hint.as_deref().map(|hint| ("hint", hint.into())));
            log::json_line("ERROR", "pondera", &self.what, &fields);
        }
    }

    /// An error of the operating system about `what` (a path).
    pub fn io(what: impl fmt::Display, e: &io::Error) -> Error {
        match e.kind() {
            io::ErrorKind::BrokenPipe => Error::new(Exit::Ok, ""),
            io::ErrorKind::NotFound => Error::file(format!("{what}: no such file")).hint("check the path"),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::new(Exit::DoesNotFit, format!("{what}: {e}")).hint("free space, or name another place")
            }
            _ => Error::failed(format!("{what}: {e}")),
        }
    }

    /// An error while creating or writing the output file `what`: never a statement about a model.
    pub fn output(what: impl fmt::Display, e: &io::Error) -> Error {
        match e.kind() {
            io::ErrorKind::NotFound => Error::failed(format!("{what}: its folder does not exist"))
                .hint("make the folder, or name another place"),
            _ => Error::io(what, e).hint("name another place for the output"),
        }
    }

    /// An error while writing to standard output.
    pub fn stdout(e: &io::Error) -> Error {
        Error::io("standard output", e)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Error {}

impl From<pondera_weights::Error> for Error {
    fn from(e: pondera_weights::Error) -> Error {
        use pondera_weights::ErrorKind;
        let exit = match e.kind() {
            ErrorKind::Io => Exit::Failed,
            ErrorKind::NotFound
            | ErrorKind::Invalid
            | ErrorKind::Unsafe
            | ErrorKind::Unsupported
            | ErrorKind::Damaged => Exit::File,
        };
        with_hint(exit, e.to_string(), e.hint_text(), FILE_HINT)
    }
}

impl From<pondera_quant::Error> for Error {
    fn from(e: pondera_quant::Error) -> Error {
        with_hint(Exit::File, e.to_string(), None, FILE_HINT)
    }
}

impl From<pondera_arch::Error> for Error {
    fn from(e: pondera_arch::Error) -> Error {
        with_hint(Exit::File, e.to_string(), e.hint_text(), FILE_HINT)
    }
}

impl From<pondera_text::Error> for Error {
    fn from(e: pondera_text::Error) -> Error {
        use pondera_text::ErrorKind;
        let exit = match e.kind() {
            ErrorKind::Io | ErrorKind::Raised | ErrorKind::Template => Exit::Failed,
            ErrorKind::Invalid | ErrorKind::Unsupported | ErrorKind::Missing | ErrorKind::Limit => Exit::File,
        };
        let otherwise = match e.kind() {
            ErrorKind::Raised | ErrorKind::Template => {
                "the template refuses these messages: change them, or name another with --template, or none with --raw"
            }
            _ => FILE_HINT,
        };
        with_hint(exit, e.message().to_string(), e.hint(), otherwise)
    }
}

impl From<pondera_store::Error> for Error {
    fn from(e: pondera_store::Error) -> Error {
        use pondera_store::ErrorKind;
        let exit = match e.kind() {
            ErrorKind::Invalid | ErrorKind::Choice => Exit::Usage,
            ErrorKind::Missing | ErrorKind::Corrupt | ErrorKind::Unsafe => Exit::File,
            ErrorKind::Full => Exit::DoesNotFit,
            ErrorKind::Stopped => Exit::Interrupted,
            ErrorKind::Refused => Exit::Refused,
            ErrorKind::Remote
            | ErrorKind::Denied
            | ErrorKind::Network
            | ErrorKind::Offline
            | ErrorKind::Io
            | ErrorKind::Busy => Exit::Failed,
        };
        with_hint(exit, e.to_string(), e.hint_text(), "run again with -v to see more")
    }
}

impl From<pondera_engine::Error> for Error {
    fn from(e: pondera_engine::Error) -> Error {
        use pondera_engine::ErrorKind;
        let exit = match e.kind() {
            ErrorKind::File | ErrorKind::Damaged { .. } => Exit::File,
            ErrorKind::Invalid | ErrorKind::Isa => Exit::Usage,
            ErrorKind::DoesNotFit { .. } => Exit::DoesNotFit,
            ErrorKind::Context { .. } | ErrorKind::NonFinite { .. } | ErrorKind::Busy | ErrorKind::Late => Exit::Failed,
        };
        let otherwise = match exit {
            Exit::Usage => "`pondera help` with the command's name lists what its options take",
            _ => "run again with -v to see more",
        };
        with_hint(exit, e.to_string(), e.hint_text(), otherwise)
    }
}

/// What to do where the library knows nothing better.
const FILE_HINT: &str = "the file is broken, or of another kind than it seems: fetch it again, or name another";

fn with_hint(exit: Exit, what: String, hint: Option<&str>, otherwise: &str) -> Error {
    Error::new(exit, what).hint(hint.unwrap_or(otherwise))
}
