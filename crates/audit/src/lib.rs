//! What a model is, what it may do to you and what you may do with it, before anything of it runs.
//!
//! Owns: findings ([`findings`]), the scan of pickles and archives for code ([`scan`]), licences ([`license`]).
//! Does not own: readers of file formats (`pondera-weights`), what a model computes; nothing here executes, imports
//! or runs anything of a file, and no room that runs a model may be imported.
#![forbid(unsafe_code)]

pub mod license;
