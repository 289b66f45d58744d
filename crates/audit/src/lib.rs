//! What a model is, what it may do to you and what you may do with it, before anything of it runs.
//!
//! Owns: findings ([`findings`]) and their SARIF form ([`sarif()`]), the scan of pickles and archives for code
//! ([`scan()`]), rules about chat templates and tokenizers, tensors and their configurations ([`tensors`]), digests of what was
//! fetched, licences ([`license`]), the catalogue of models ([`catalogue`]), bills of materials ([`bom`]), signatures
//! ([`signature`]), the report over all of it ([`audit()`]), and two models side by side ([`diff`]).
//! Does not own: readers of file formats (`pondera-weights`), what a model computes; nothing here executes, imports
//! or runs anything of a file, and no room that runs a model may be imported.
#![forbid(unsafe_code)]

mod audit;
pub mod bom;
pub mod catalogue;
pub mod diff;
pub mod findings;
pub mod html;
mod known_bad;
pub mod license;
pub mod manifest;
mod provenance;
mod sarif;
mod scan;
pub mod signature;
mod template;
pub mod tensors;
mod tokenizer;

pub use audit::{Audit, Options, audit, audit_signed};
pub use known_bad::KnownBad;
pub use sarif::sarif;
pub use scan::scan;
pub use template::digest_lines as template_digests;
