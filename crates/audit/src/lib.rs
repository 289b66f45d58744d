//! What a model is, what it may do to you and what you may do with it, before anything of it runs.
//!
//! Owns: findings ([`findings`]) and their SARIF form ([`sarif()`]), the scan of pickles and archives for code
//! ([`scan()`]), tensors and their configurations ([`tensors`]), licences ([`license`]), and the report over all of it ([`audit()`]).
//! Does not own: readers of file formats (`pondera-weights`), what a model computes; nothing here executes, imports
//! or runs anything of a file, and no room that runs a model may be imported.
#![forbid(unsafe_code)]

mod audit;
pub mod findings;
mod known_bad;
pub mod license;
mod sarif;
mod scan;
pub mod tensors;

pub use audit::{Audit, Options, audit};
pub use known_bad::KnownBad;
pub use sarif::sarif;
pub use scan::scan;
