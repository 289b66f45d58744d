//! Stored tensors and weight matrices, without copying what the file holds.
use crate::{Bytes, Format, packed::NumberSlice};
use std::{fmt, ops::Range, sync::Arc};

/// A stored tensor: row-major, the last dimension contiguous and (for block formats) a multiple of the block.
#[derive(Clone, Debug)]
pub struct TensorView {
    /// Element or block format.
    pub format: Format,
    /// Dimensions, outermost first. Empty for a scalar.
    pub shape: Vec<usize>,
    /// Exactly the bytes of the tensor.
    pub bytes: Bytes,
}

impl TensorView {
    /// Part `i` along the first axis: one expert of a stack. `None` where there is no such part, the bytes do not fit
    /// the shape, or parts are no whole number of blocks.
    pub fn index(&self, i: usize) -> Option<TensorView> {
        let (&count, shape) = self.shape.split_first()?;
        let (&last, outer) = shape.split_last().unwrap_or((&1, &[]));
        let size = outer.iter().try_fold(self.format.row_bytes(last)?, |n, d| n.checked_mul(*d))?;
        if i >= count || size.checked_mul(count)? != self.bytes.len() {
            return None;
        }
        let bytes = self.bytes.slice(i * size..(i + 1) * size)?;
        Some(TensorView { format: self.format, shape: shape.to_vec(), bytes })
    }
}

/// A weight stored in more than one tensor (codes, scales, zero points), as quantization tools write it.
pub trait Packed: Send + Sync {
    /// What users call it: `GPTQ INT4`, `FP8 block 128x128`.
    fn name(&self) -> &'static str;
    /// Output rows.
    fn out(&self) -> usize;
    /// Input columns.
    fn inp(&self) -> usize;
    /// Stored bytes of all its parts.
    fn bytes(&self) -> usize;
    /// Decodes output rows `rows` to f32: `dst` is `[rows.len(), inp]`.
    fn decode_rows(&self, rows: Range<usize>, dst: &mut [f32]);
    /// The codes themselves, for kernels of their own, where the weight is E2M1 in blocks of 32.
    fn mxfp4(&self) -> Option<Mxfp4<'_>> {
        None
    }
    /// The codes themselves where the weight is E4M3 with scales.
    fn fp8(&self) -> Option<Fp8<'_>> {
        None
    }
    /// [`crate::Owner::intact`] of all parts.
    fn intact(&self) -> bool {
        true
    }
    /// [`crate::Owner::forget`] of the codes of output rows `rows`.
    fn forget(&self, _rows: Range<usize>) {}
}

/// E4M3 codes and scales stored apart: `w[o, i] = E4M3[code] · scale(o, i)`, rounded once.
#[derive(Clone, Copy)]
pub struct Fp8<'a> {
    /// `[out, inp]`.
    pub codes: &'a [u8],
    /// Rows and columns that share a scale.
    pub block: [usize; 2],
    pub(crate) scales: NumberSlice<'a>,
    pub(crate) inp: usize,
}

impl Fp8<'_> {
    /// The scale of output row `o` and column `i`.
    pub fn scale(&self, o: usize, i: usize) -> f32 {
        self.scales.get(o / self.block[0] * self.inp.div_ceil(self.block[1]) + i / self.block[1])
    }
}

/// E2M1 codes and E8M0 scales stored apart (gpt-oss): `w = 2^(e - 127) · E2M1[q]`, `e = 255` is NaN.
#[derive(Clone, Copy, Debug)]
pub struct Mxfp4<'a> {
    /// `[out, inp / 2]`: column `2 i` in the low nibble of byte `i`, column `2 i + 1` in the high one.
    pub codes: &'a [u8],
    /// `[out, inp / 32]`.
    pub scales: &'a [u8],
}

/// A weight matrix `[out, inp]`: `y[o] = Σ_i w[o, i] · x[i]`. Clones share the bytes.
#[derive(Clone)]
pub enum Matrix {
    /// Rows of whole blocks along `inp`, `stride` bytes apart (row `o` starts at `o · stride`).
    Rows {
        /// Block format.
        format: Format,
        /// Output rows.
        out: usize,
        /// Input columns.
        inp: usize,
        /// From the first byte of row 0.
        bytes: Bytes,
        /// Bytes from a row to the next; more than a row's own where other rows lie between.
        stride: usize,
    },
    /// Plain elements at any strides: transposed (`Conv1D`, stacked experts `[E, inp, out]`) or interleaved.
    Strided {
        /// A format with block 1.
        format: Format,
        /// Output rows.
        out: usize,
        /// Input columns.
        inp: usize,
        /// From the first byte of element (0, 0).
        bytes: Bytes,
        /// Elements from an output row to the next.
        out_stride: usize,
        /// Elements from an input column to the next.
        inp_stride: usize,
    },
    /// Several tensors that make one weight.
    Packed {
        /// The whole weight.
        weight: Arc<dyn Packed>,
        /// First output row taken.
        first: usize,
        /// Distance between rows taken.
        step: usize,
        /// Output rows taken.
        out: usize,
    },
}

impl Matrix {
    /// The tensor `[out, inp]` (or `[inp]`, as one row) as a matrix; `None` if its shape or bytes do not fit.
    pub fn new(t: &TensorView) -> Option<Matrix> {
        let (out, inp) = match t.shape[..] {
            [inp] => (1, inp),
            [out, inp] => (out, inp),
            _ => return None,
        };
        let stride = t.format.row_bytes(inp)?;
        (stride.checked_mul(out)? == t.bytes.len()).then(|| Matrix::Rows {
            format: t.format,
            out,
            inp,
            bytes: t.bytes.clone(),
            stride,
        })
    }

    /// The tensor `[inp, out]` read the other way round; `None` if its shape does not fit or its format has blocks.
    pub fn transposed(t: &TensorView) -> Option<Matrix> {
        let [inp, out] = t.shape[..] else { return None };
        let size = t.format.info().bytes;
        (t.format.info().block == 1 && t.bytes.len() == out.checked_mul(inp)?.checked_mul(size)?).then(|| {
            Matrix::Strided { format: t.format, out, inp, bytes: t.bytes.clone(), out_stride: 1, inp_stride: out }
        })
    }

    /// A weight of several tensors.
    pub fn packed(weight: Arc<dyn Packed>) -> Matrix {
        let out = weight.out();
        Matrix::Packed { weight, first: 0, step: 1, out }
    }

    /// Output rows `first, first + step, …` (`count` of them); `None` where they reach past the end.
    pub fn rows(&self, first: usize, step: usize, count: usize) -> Option<Matrix> {
        let end =
            count.checked_sub(1).map_or(Some(first), |n| n.checked_mul(step)?.checked_add(first)?.checked_add(1))?;
        if end > self.out() || step == 0 {
            return None;
        }
        Some(match self {
            Matrix::Rows { format, inp, bytes, stride, .. } => Matrix::Rows {
                format: *format,
                out: count,
                inp: *inp,
                bytes: bytes.slice(first * stride..bytes.len())?,
                stride: stride * step,
            },
            Matrix::Strided { format, inp, bytes, out_stride, inp_stride, .. } => Matrix::Strided {
                format: *format,
                out: count,
                inp: *inp,
                bytes: bytes.slice(first * out_stride * format.info().bytes..bytes.len())?,
                out_stride: out_stride * step,
                inp_stride: *inp_stride,
            },
            Matrix::Packed { weight, first: f, step: s, .. } => {
                Matrix::Packed { weight: weight.clone(), first: f + first * s, step: s * step, out: count }
            }
        })
    }

    /// Output rows.
    pub fn out(&self) -> usize {
        match self {
            Matrix::Rows { out, .. } | Matrix::Strided { out, .. } | Matrix::Packed { out, .. } => *out,
        }
    }

    /// Input columns.
    pub fn inp(&self) -> usize {
        match self {
            Matrix::Rows { inp, .. } | Matrix::Strided { inp, .. } => *inp,
            Matrix::Packed { weight, .. } => weight.inp(),
        }
    }

    /// What users call its storage.
    pub fn format_name(&self) -> &'static str {
        match self {
            Matrix::Rows { format, .. } | Matrix::Strided { format, .. } => format.info().name,
            Matrix::Packed { weight, .. } => weight.name(),
        }
    }

    /// Stored bytes of the rows taken.
    pub fn stored_bytes(&self) -> usize {
        match self {
            Matrix::Rows { format, out, inp, .. } => format.row_bytes(*inp).unwrap_or(0) * out,
            Matrix::Strided { format, out, inp, .. } => out * inp * format.info().bytes,
            Matrix::Packed { weight, out, .. } => weight.bytes() * out / weight.out().max(1),
        }
    }

    /// The stored bytes of row `o`, for formats whose rows are whole blocks.
    pub fn row(&self, o: usize) -> Option<&[u8]> {
        match self {
            Matrix::Rows { format, inp, bytes, stride, .. } => {
                bytes.as_slice().get(o * stride..)?.get(..format.row_bytes(*inp)?)
            }
            _ => None,
        }
    }

    /// Decodes output rows `rows` to f32: `dst` is `[rows.len(), inp]`.
    pub fn decode_rows(&self, rows: Range<usize>, dst: &mut [f32]) {
        let inp = self.inp();
        assert!(rows.end <= self.out() && dst.len() == rows.len() * inp);
        match self {
            Matrix::Rows { format, .. } => {
                for (o, dst) in rows.zip(dst.chunks_exact_mut(inp.max(1))) {
                    (format.info().decode)(self.row(o).unwrap_or(&[]), dst);
                }
            }
            Matrix::Strided { format, bytes, out_stride, inp_stride, .. } => {
                let (info, bytes) = (format.info(), bytes.as_slice());
                for (o, dst) in rows.zip(dst.chunks_exact_mut(inp.max(1))) {
                    for (i, v) in dst.iter_mut().enumerate() {
                        let at = (o * out_stride + i * inp_stride) * info.bytes;
                        (info.decode)(&bytes[at..at + info.bytes], std::slice::from_mut(v));
                    }
                }
            }
            Matrix::Packed { weight, first, step, .. } if *step == 1 => {
                weight.decode_rows(first + rows.start..first + rows.end, dst);
            }
            Matrix::Packed { weight, first, step, .. } => {
                for (o, dst) in rows.zip(dst.chunks_exact_mut(inp.max(1))) {
                    let o = first + o * step;
                    weight.decode_rows(o..o + 1, dst);
                }
            }
        }
    }
}

impl fmt::Debug for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Matrix({} [{}, {}])", self.format_name(), self.out(), self.inp())
    }
}
