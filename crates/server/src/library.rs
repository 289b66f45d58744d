//! Models beyond those that a server was started with: what the machine's store holds, and what can be fetched into it. Where
//! it is and how it fetches is whoever implements [`Library`]'s.
use crate::{error::ApiError, host::ModelSpec};
use axum::http::StatusCode;
use std::{fmt, ops::ControlFlow, path::PathBuf};

/// Where a server finds models by their names. Calls may take long and are made on threads for such things.
pub trait Library: Send + Sync {
    /// What is there.
    ///
    /// # Errors
    /// A store that cannot be read.
    fn list(&self) -> Result<Vec<Held>, LibraryError>;

    /// How the model of that name is served; none where there is none. Names are the store's own, or copies'.
    ///
    /// # Errors
    /// One that is there and cannot be served.
    fn find(&self, name: &str) -> Result<Option<ModelSpec>, LibraryError>;

    /// Fetches a model; `progress` hears of it and may end it. What was fetched so far is kept for the next time.
    ///
    /// # Errors
    /// What the store says.
    fn pull(&self, name: &str, progress: &mut Progress<'_>) -> Result<(), LibraryError>;

    /// Gives a model a further name.
    ///
    /// # Errors
    /// A name that there is not, or that is taken.
    fn copy(&self, from: &str, to: &str) -> Result<(), LibraryError>;

    /// Where a name leads; none where it leads nowhere.
    ///
    /// # Errors
    /// A store that cannot be read.
    fn place(&self, name: &str) -> Result<Option<Placed>, LibraryError>;

    /// Removes a name, and the files of its model where it was the store's own.
    ///
    /// # Errors
    /// A name that there is not.
    fn delete(&self, name: &str) -> Result<(), LibraryError>;
}

/// Hears how far a pull is, and says whether it goes on.
pub type Progress<'a> = dyn FnMut(&Pulling) -> ControlFlow<()> + Send + 'a;

/// Where a name leads.
#[derive(Clone, Debug)]
pub struct Placed {
    /// What would go if it were deleted, links followed.
    pub root: PathBuf,
    /// It is a further name alone, which would go without any file.
    pub link: bool,
}

/// A model of a library.
#[derive(Clone, Debug)]
pub struct Held {
    /// What clients call it.
    pub name: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// When it came, in seconds since 1970.
    pub modified: u64,
    /// What its files are, where that is one file: `sha256:…`.
    pub digest: Option<String>,
}

/// How far a model has been fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pulling {
    /// What there is to fetch is being asked for.
    Listing,
    /// Of this file so many bytes of all are there.
    File {
        /// Its name, and its digest where it is known.
        name: String,
        /// Bytes that are there.
        done: u64,
        /// All of them.
        total: u64,
    },
    /// Its bytes are compared with what they should be.
    Verifying,
}

/// Why a library did not do what it was asked.
#[derive(Clone, Debug)]
pub struct LibraryError {
    /// What is at fault.
    pub kind: LibraryErrorKind,
    /// A sentence for people, without paths.
    pub message: String,
}

/// What is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LibraryErrorKind {
    /// The name or what goes with it.
    Invalid,
    /// There is no such model.
    NotFound,
    /// Its maker, or this machine's policy, does not allow it.
    Refused,
    /// The place that it comes from.
    Upstream,
    /// This machine.
    Failed,
}

impl fmt::Display for LibraryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<LibraryError> for ApiError {
    fn from(e: LibraryError) -> ApiError {
        let (status, code) = match e.kind {
            LibraryErrorKind::Invalid => (StatusCode::BAD_REQUEST, "invalid_model"),
            LibraryErrorKind::NotFound => (StatusCode::NOT_FOUND, "model_not_found"),
            LibraryErrorKind::Refused => (StatusCode::FORBIDDEN, "refused"),
            LibraryErrorKind::Upstream => (StatusCode::BAD_GATEWAY, "upstream"),
            LibraryErrorKind::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "store"),
        };
        ApiError { param: Some("model".into()), ..ApiError::new(status, e.message) }.code(code)
    }
}
