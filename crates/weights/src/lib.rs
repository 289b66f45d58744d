//! Files to named tensors and back: safetensors, GGUF, sharded sets, PyTorch checkpoints as pure data.
//!
//! Owns: [`Weights`] (whatever layout a path has, its tensors by name), the parsers of each container, their
//! writers, mapped files and the guard against files that change underneath ([`mmap`]).
//! Does not own: what an element format means (`pondera-quant`), what a model's tensors mean (`pondera-arch`),
//! configs, vocabularies and licences that lie beside the tensors.
//!
//! Every byte is untrusted: lengths are proven before they are used ([`bounded`]), memory follows the bytes that
//! are there and not those that are declared, nothing in a file is ever executed.
#![deny(unsafe_code)]

pub mod bounded;
mod error;
pub mod fuzz;
pub mod gguf;
pub mod index;
#[allow(unsafe_code)]
pub mod mmap;
pub mod pickle;
pub mod safetensors;
mod tensor;
pub mod torch;
mod weights;
pub mod zip;

pub use error::{Error, ErrorKind, Result};
pub use gguf::Gguf;
pub use mmap::{Advice, Mapping};
pub use tensor::{TensorInfo, TensorSpec};
pub use weights::{Kind, Weights};
