//! Weights as a forward pass sees them: `[groups, out, inp]`, each group with storage of its own.
use pondera_quant::{Bytes, Format, Matrix};
use std::{
    any::Any,
    sync::{Arc, OnceLock},
};

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
    /// What a backend keeps beside the weight: where it laid the groups out its own way. The first to come has it.
    pub kept: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Weight {
    /// A weight of these groups; `None` if there are none or their shapes differ.
    pub fn new(name: impl Into<String>, groups: Vec<Matrix>) -> Option<W> {
        let (out, inp) = groups.first().map(|m| (m.out(), m.inp()))?;
        let same = groups.iter().all(|m| m.out() == out && m.inp() == inp);
        same.then(|| Arc::new(Weight::of(name.into(), groups, out, inp)))
    }

    fn of(name: String, groups: Vec<Matrix>, out: usize, inp: usize) -> Weight {
        Weight { name, groups, out, inp, vector: OnceLock::new(), kept: OnceLock::new() }
    }

    /// A weight of one group from f32 values `[out, inp]`.
    pub fn from_f32(name: impl Into<String>, out: usize, inp: usize, data: &[f32]) -> W {
        assert_eq!(data.len(), out * inp);
        let bytes = Bytes::from(data.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
        let m = Matrix::Rows { format: Format::F32, out, inp, bytes, stride: inp * 4 };
        Arc::new(Weight::of(name.into(), vec![m], out, inp))
    }

    /// A weight of one group that a backend leaves as it lies: what is small, or used beside others of its kind.
    pub fn apart(name: impl Into<String>, matrix: Matrix) -> W {
        let (out, inp) = (matrix.out(), matrix.inp());
        let w = Weight::of(name.into(), vec![matrix], out, inp);
        let _ = w.kept.set(Arc::new(()));
        Arc::new(w)
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

/// How a backend lays weights out in memory. None changes a bit of any result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// As their files have them: nothing is copied.
    #[default]
    Mapped,
    /// As their files have them at first, then tensor by tensor in the backend's own fast layout: between steps, while
    /// nothing else is to do, and before products of so many rows that it pays at once.
    Auto,
    /// In the backend's own layout before they are first used.
    Packed,
}

/// How far the weights used so far are in the layout that was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Settled {
    /// Bytes in the backend's own layout.
    pub packed_bytes: u64,
    /// Bytes that will be.
    pub left_bytes: u64,
    /// Seconds of work that it took.
    pub seconds: f64,
}
