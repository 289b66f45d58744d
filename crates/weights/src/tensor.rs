//! What a header says of a tensor, before and after it is written.
use crate::{bounded::checked_size, error::Result};
use pondera_quant::Format;
use std::ops::Range;

/// Most tensors that one file or set may declare. Published models stay below 200,000; the bound keeps a header
/// that is made of nothing but names from costing memory.
pub(crate) const TENSORS_MAX: usize = 1 << 20;
/// Most metadata entries of one file; published ones have some hundred.
pub(crate) const METADATA_MAX: usize = 1 << 16;

/// A tensor as its file declares it; every extent has been checked against the bytes that are there.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Its name in the file.
    pub name: Box<str>,
    /// Element or block format.
    pub format: Format,
    /// Dimensions, outermost first.
    pub shape: Box<[usize]>,
    /// Which of the set's files holds it.
    pub file: u32,
    /// Its bytes in that file; for strided tensors, the bytes from its first to its last element.
    pub range: Range<usize>,
    /// Elements from one index to the next in each dimension, where they are not row-major.
    pub strides: Option<Box<[usize]>>,
}

impl TensorInfo {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes that its elements take, row-major.
    pub fn bytes(&self) -> usize {
        checked_size(self.format, &self.shape).unwrap_or(self.range.len())
    }
}

/// A tensor that a writer will be given.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Element or block format.
    pub format: Format,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// A spec of these parts.
    pub fn new(name: impl Into<String>, format: Format, shape: &[usize]) -> TensorSpec {
        TensorSpec { name: name.into(), format, shape: shape.to_vec() }
    }

    /// Bytes of the tensor's data.
    pub fn bytes(&self) -> Result<usize> {
        checked_size(self.format, &self.shape).map_err(|e| e.of(&self.name))
    }
}
