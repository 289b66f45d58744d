//! Block formats of stored weights: layout, scalar decode and the exact arithmetic of each, one file a format.
//!
//! Owns: [`TensorView`] (a stored tensor: format, shape, bytes), [`FORMATS`] (one row a format),
//! [`Matrix`] (a weight matrix `[out, inp]` as kernels see it) and activation quantization ([`Q8`]).
//! Does not own: files and their headers (`pondera-weights`), SIMD kernels (`pondera-cpu`).
//! No IO, no unsafe.
#![forbid(unsafe_code)]

mod bytes;
mod format;
mod matrix;
mod q8;

pub use bytes::{Bytes, Owner};
pub use format::{Activation, FORMATS, Format, FormatInfo};
pub use matrix::{Matrix, Packed, TensorView};
pub use q8::Q8;
