//! Weights as a forward pass sees them: `[groups, out, inp]`, each group with storage of its own.
use pondera_quant::{Bytes, Format, Matrix};
use std::sync::{Arc, OnceLock};

/// A weight shared by model and backend.
pub type W = Arc<Weight>;

/// A weight `[groups, out, inp]`: one group for an ordinary matrix, a group per expert or head.
#[derive(Debug)]
pub struct Weight {
    /// Its name in the family's table, for logs and errors.
    pub name: String,
    /// One matrix per group, all of one shape.
    pub groups: Vec<Matrix>,
    /// Output rows of a group.
    pub out: usize,
    /// Input columns.
    pub inp: usize,
    vector: OnceLock<Vec<f32>>,
}

impl Weight {
    /// A weight of these groups; `None` if there are none or their shapes differ.
    pub fn new(name: impl Into<String>, groups: Vec<Matrix>) -> Option<W> {
        let (out, inp) = groups.first().map(|m| (m.out(), m.inp()))?;
        let same = groups.iter().all(|m| m.out() == out && m.inp() == inp);
        same.then(|| Arc::new(Weight { name: name.into(), groups, out, inp, vector: OnceLock::new() }))
    }

    /// A weight of one group from f32 values `[out, inp]`.
    pub fn from_f32(name: impl Into<String>, out: usize, inp: usize, data: &[f32]) -> W {
        assert_eq!(data.len(), out * inp);
        let bytes = Bytes::from(data.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
        let m = Matrix::Rows { format: Format::F32, out, inp, bytes, stride: inp * 4 };
        Arc::new(Weight { name: name.into(), groups: vec![m], out, inp, vector: OnceLock::new() })
    }

    /// All values of all groups as f32, decoded once and kept: for vectors (norms, biases, sinks), not for matrices.
    pub fn vector(&self) -> &[f32] {
        self.vector.get_or_init(|| {
            let n = self.out * self.inp;
            let mut v = vec![0.0; n * self.groups.len()];
            for (m, v) in self.groups.iter().zip(v.chunks_exact_mut(n.max(1))) {
                m.decode_rows(0..self.out, v);
            }
            v
        })
    }
}
