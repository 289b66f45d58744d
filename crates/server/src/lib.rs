//! HTTP over the engine: one internal request, and dialects of it, one file each.
//!
//! Owns: connections, routes and who may call them, wire types, admission, metrics, what is logged and traced of a request, files and batches that clients keep here, the page for browsers. Does not own: anything that computes
//! (`pondera-engine`), templates and tokens (`pondera-text`), where a model's files are (whoever calls [`Server::bind`] says
//! how to open it).
#![forbid(unsafe_code)]

mod access;
mod admission;
mod api;
mod batch;
mod chat;
mod error;
mod facts;
mod grammars;
mod host;
mod id;
mod job;
mod library;
mod listen;
mod metrics;
mod models;
mod multipart;
mod openapi;
mod options;
mod page;
mod responses;
mod route;
mod spelled;
mod sse;
mod store;
mod tools;
mod trace;

pub use host::{Embedding, ModelSpec, Room};
pub use id::rfc3339;
pub use library::{Held, Library, LibraryError, LibraryErrorKind, Placed, Progress, Pulling};
pub use listen::Server;
pub use models::Keep;
pub use options::{Key, Limits, Options, Scope};
pub use store::Data;
pub use trace::{Encoding, Resource, Sampling, Traces};

/// Why a server did not start or stopped.
pub type Error = std::io::Error;
