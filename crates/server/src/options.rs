//! How a server is set up: plain data.
use crate::{library::Library, models::Keep, store::Data, trace::Traces};
use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

/// What a key opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Requests to models.
    Use,
    /// These and everything that looks into the server or changes it.
    Admin,
}

/// A secret that a client shows as `Authorization: Bearer …` or `x-api-key: …`.
#[derive(Clone, Debug)]
pub struct Key {
    /// For the log: never the secret.
    pub name: String,
    /// The secret.
    pub secret: String,
    /// What it opens.
    pub scope: Scope,
}

/// What one request, and all of them together, may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Bytes of a file.
    pub file_bytes: usize,
    /// Bytes of all headers.
    pub header_bytes: usize,
    /// From the first byte of a request to the end of its headers.
    pub header_time: Duration,
    /// From there to the end of its body.
    pub body_time: Duration,
    /// From admission to the last token; 0 for none.
    pub request_time: Duration,
    /// Connections at once.
    pub connections: usize,
    /// Requests that run or wait, at once.
    pub requests: usize,
    /// Tokens of their prompts.
    pub tokens: usize,
    /// Bytes of their bodies.
    pub bytes: usize,
    /// Choices of one request (`n`).
    pub choices: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            body_bytes: 32 << 20,
            file_bytes: 200 << 20,
            header_bytes: 64 << 10,
            header_time: Duration::from_secs(10),
            body_time: Duration::from_secs(30),
            request_time: Duration::from_secs(3600),
            connections: 4096,
            requests: 256,
            tokens: 4 << 20,
            bytes: 256 << 20,
            choices: 16,
        }
    }
}

/// A server.
#[derive(Clone)]
pub struct Options {
    /// Where to listen.
    pub address: SocketAddr,
    /// Who may call; none: everybody on this machine.
    pub keys: Vec<Key>,
    /// Names in `Host` and `Origin` beside those of the loopback and the address itself.
    pub hosts: Vec<String>,
    /// Bounds.
    pub limits: Limits,
    /// How long a stop waits for requests that run.
    pub grace: Duration,
    /// Where files and batches are kept; none: there are none.
    pub data: Option<Data>,
    /// Bytes that models may take together: those that do not fit take turns. None: whatever they take.
    pub memory: Option<u64>,
    /// How long a model stays open that nobody asks for.
    pub keep: Keep,
    /// Models beside those that the server is started with, which clients may also fetch, copy and delete; none: there are none.
    pub library: Option<Arc<dyn Library>>,
    /// Where traces go; none: there are none.
    pub traces: Option<Traces>,
    /// Counted by whoever writes the log: lines that nobody read in time.
    pub log_lines_dropped: Arc<AtomicU64>,
}

impl Options {
    /// Listening on `address`, all else as it is by default.
    pub fn new(address: SocketAddr) -> Options {
        Options {
            address,
            keys: Vec::new(),
            hosts: Vec::new(),
            limits: Limits::default(),
            grace: Duration::from_secs(30),
            data: None,
            memory: None,
            keep: Keep::Forever,
            library: None,
            traces: None,
            log_lines_dropped: Arc::default(),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("address", &self.address).finish_non_exhaustive()
    }
}
