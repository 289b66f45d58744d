//! What can be wrong with a quantized weight or with the configuration that describes it.
use std::fmt;

/// Kinds of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A method, algorithm or storage format that this crate does not know.
    Unsupported,
    /// A key of the configuration is missing or makes no sense.
    Config,
    /// A tensor that the method needs is not there.
    Missing,
    /// A tensor's element format is another.
    Format,
    /// A tensor's shape or number of bytes is another.
    Shape,
    /// A value inside a tensor is out of range.
    Value,
}

/// A quantized weight that cannot be read. Displays as `part: expected …, got …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What kind of fault it is.
    pub kind: ErrorKind,
    /// Which part: a sibling tensor (`qzeros`), or a key (`quantization_config.bits`).
    pub part: String,
    /// What it should have been.
    pub expected: String,
    /// What it was.
    pub got: String,
}

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, part: &str, expected: impl fmt::Display, got: impl fmt::Display) -> Error {
        Error { kind, part: part.to_string(), expected: expected.to_string(), got: got.to_string() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, got {}", self.part, self.expected, self.got)
    }
}

impl std::error::Error for Error {}
