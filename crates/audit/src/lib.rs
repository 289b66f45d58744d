//! What a model is, what it may do to you and what you may do with it, before anything of it runs.
//!
//! Owns: findings ([`findings`]) and their SARIF form ([`sarif()`]), the scan of pickles and archives for code
//! ([`scan()`]), licences ([`license`]), bills of materials ([`bom`]), signatures ([`signature`]), and the report over
//! all of it ([`audit()`]).
//! Does not own: readers of file formats (`pondera-weights`), what a model computes; nothing here executes, imports
//! or runs anything of a file, and no room that runs a model may be imported.
#![forbid(unsafe_code)]

mod audit;
pub mod bom;
pub mod findings;
pub mod license;
pub mod manifest;
mod sarif;
mod scan;
pub mod signature;

pub use audit::{Audit, audit, audit_signed};
pub use sarif::sarif;
pub use scan::scan;
