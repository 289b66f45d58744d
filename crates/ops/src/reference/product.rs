//! Matrix times row: the two arithmetics that formats choose from.
use crate::math;
use pondera_quant::{Activation, Matrix, Q8};

/// One matrix, with the scratch memory that its arithmetic needs.
pub struct Product<'a> {
    matrix: &'a Matrix,
    row: Vec<f32>,
    codes: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i16>,
}

/// The activation that `m` is multiplied with: its format's, where rows are whole blocks; f32 otherwise.
pub fn activation(m: &Matrix) -> Activation {
    match m {
        Matrix::Rows { format, .. } => format.info().activation,
        _ => Activation::F32,
    }
}

impl<'a> Product<'a> {
    /// For products with `matrix`.
    pub fn new(matrix: &'a Matrix) -> Product<'a> {
        Product { matrix, row: vec![], codes: vec![], scales: vec![], sums: vec![] }
    }

    /// `y[o] = Σ_k w[o, k] x[k]`, by the arithmetic of the matrix's format.
    pub fn row(&mut self, x: &[f32], y: &mut [f32]) {
        assert_eq!((self.matrix.inp(), self.matrix.out()), (x.len(), y.len()));
        match (activation(self.matrix), self.matrix) {
            (Activation::Q8 { block }, Matrix::Rows { format, .. }) => {
                let dot = format.info().dot.expect("a format with quantized activations has a dot product");
                self.codes.resize(x.len(), 0);
                self.scales.resize(x.len() / block, 0.0);
                self.sums.resize(x.len() / 16, 0);
                Q8::quantize(block, x, &mut self.codes, &mut self.scales, &mut self.sums);
                let x = Q8 { block, q: &self.codes, d: &self.scales, sums: &self.sums };
                for (o, y) in y.iter_mut().enumerate() {
                    *y = dot(self.matrix.row(o).expect("row within the matrix"), x, 0.0);
                }
            }
            _ => {
                self.row.resize(x.len(), 0.0);
                for (o, y) in y.iter_mut().enumerate() {
                    self.matrix.decode_rows(o..o + 1, &mut self.row);
                    *y = math::chain(&self.row, x);
                }
            }
        }
    }

    /// `y[k] = Σ_o w[o, k] x[o]`, one FMA chain per `k` with `o` ascending, over decoded weights.
    pub fn row_transposed(&mut self, x: &[f32], y: &mut [f32]) {
        assert_eq!((self.matrix.out(), self.matrix.inp()), (x.len(), y.len()));
        self.row.resize(y.len(), 0.0);
        y.fill(0.0);
        for (o, x) in x.iter().enumerate() {
            self.matrix.decode_rows(o..o + 1, &mut self.row);
            for (y, w) in y.iter_mut().zip(&self.row) {
                *y = w.mul_add(*x, *y);
            }
        }
    }
}
