//! The local store of models, in the cache layout that the hub's own tools use, so that a model is on the disk once; from a
//! hub or from an OCI registry.
//!
//! Owns: references ([`Reference`]), the hub's API and that of OCI registries, downloads that are verified before anybody sees them
//! ([`Store::pull`]), parts of files without a download ([`Store::peek`]), and everything about what is on the disk ([`Store::list`], [`Store::resolve`],
//! [`Store::verify`], [`Store::remove`], [`Store::clean`]). The only room that opens outbound connections.
//! Does not own: what the files mean (`pondera-weights` and above), the environment (the command line reads it and hands
//! it to [`Config::read`]), what a person sees of progress.
//!
//! Everything the network says is untrusted: lengths and digests are checked, names that would leave the store are
//! refused, and only bytes whose digest holds get a name that readers look for.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::cast_possible_truncation)
)]

mod blob;
#[cfg(test)]
mod changes;
mod choose;
mod config;
mod digest;
mod error;
mod http;
mod hub;
mod layout;
mod local;
mod lock;
mod names;
mod oci;
mod ollama;
mod partial;
mod peek;
mod pull;
mod reference;
mod remove;
mod unpack;

pub use choose::{Choice, RemoteFile, choose};
pub use config::{Config, Proxies, Token};
pub use digest::Digest;
pub use error::{Error, ErrorKind, Result};
pub use local::{Bad, LocalFile, Model, Revision, Verified};
pub use ollama::OllamaModel;
pub use peek::Peek;
pub use pull::{Approve, Early, Progress, PullOptions, Pulled, PulledFile, Watch};
pub use reference::Reference;
pub use remove::Removed;

/// The models on this machine, and the hub they come from.
///
/// Cheap to make; holds no lock and no open file between calls. Calls block.
#[derive(Debug)]
pub struct Store {
    config: Config,
}

impl Store {
    /// A store as `config` says. Nothing is read or made before it is needed.
    pub fn new(config: Config) -> Store {
        Store { config }
    }

    /// What it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }
}
