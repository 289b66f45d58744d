//! Model families over the operations: one file a family, read from its real configuration and tensors.
//!
//! Owns: [`Config`] (`config.json` or GGUF metadata, validated), [`Params`] (tensors by name), the blocks,
//! [`FAMILIES`] (one row a family), [`Model`] (a loaded family), [`Inventory`] (its weights by name)
//! and [`SHAPES`] (published shapes as data).
//! Does not own: files (`pondera-weights`), storage formats (`pondera-quant`), arithmetic (`pondera-ops`),
//! sequences and sampling (`pondera-engine`).
//!
//! To add a family see `docs/adding-a-model.md`: a file in `families/`, a line in [`FAMILIES`], a golden.
#![forbid(unsafe_code)]

mod adapter;
pub mod blocks;
mod config;
mod error;
pub mod families;
mod inventory;
mod model;
mod params;
mod shapes;

pub use adapter::AdapterFile;
pub use config::{Config, Quantization};
pub use error::{Error, ErrorKind, Result};
pub use families::{FAMILIES, Family};
pub use inventory::{Inventory, Named};
pub use model::{Description, Graph, Model, PositionFactor, Step};
pub use params::{Layout, Listed, Mix, Name, Params, Source};
pub use shapes::{SHAPES, Shape, more_bits};
