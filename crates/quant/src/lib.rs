//! Block formats of stored weights: layout, scalar decode and the exact arithmetic of each, one file a format.
//!
//! Owns: [`TensorView`] (a stored tensor: format, shape, bytes), [`FORMATS`] (one row a format),
//! [`Matrix`] (a weight matrix `[out, inp]` as kernels see it), weights in several tensors ([`packed`]) and activation
//! quantization ([`Q8`]).
//! Does not own: files and their headers (`pondera-weights`), SIMD kernels (`pondera-cpu`).
//! No IO, no unsafe.
#![forbid(unsafe_code)]

mod block;
mod bytes;
mod error;
mod fit;
pub mod float;
mod format;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod iq_grid;
mod matrix;
mod mxfp4;
mod nvfp4;
pub mod packed;
mod plain;
mod q1_0;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8;
mod q8_0;
mod q8_1;
mod q8_k;
mod scales;
mod tq1_0;
mod tq2_0;

pub use bytes::{Bytes, Owner};
pub use error::{Error, ErrorKind, Result};
pub use format::{Activation, Decode, Dot, Encode, FORMATS, Format, FormatInfo, Random};
pub use matrix::{Fp8, Matrix, Mxfp4, Packed, TensorView};
pub use q8::Q8;
pub use scales::BlockScale;
