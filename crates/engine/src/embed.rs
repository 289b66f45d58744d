//! Embeddings: the hidden states of a whole text as one vector. Uses the same step as scoring, so it gives the same bits
//! whatever runs beside it.
use crate::{
    Error, ErrorKind, Result,
    math::all_finite,
    net::Net,
    rows::{Logits, Rows},
    scheduler::{Scheduler, blame},
};

/// How the rows of a text become its embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first.
    Cls,
    /// The last.
    Last,
    /// All of them, one after another.
    None,
    /// The greatest value of each column.
    Max,
    /// Their sum, divided by the root of their number.
    MeanSqrtLen,
}

impl Scheduler {
    /// The embedding of `rows`, not normalised: `[hidden]`, for [`Pooling::None`] `[tokens, hidden]`.
    pub fn embed(&mut self, net: &dyn Net, rows: Rows<'_>, pooling: Pooling) -> Result<Vec<f32>> {
        let tokens = rows.tokens.len();
        let mut out: Vec<f32> = Vec::new();
        // In f64, so that a mean does not depend on how the rows came.
        let mut sum: Vec<f64> = Vec::new();
        let mut pass = Logits::new(self, net, rows)?;
        while let Some((width, batch)) = pass.next_hidden()? {
            let values = pass.values();
            if let Some(r) = values.chunks_exact(width).position(|row| !all_finite(row)) {
                return Err(blame(pass.ops(), net, batch, r..r + 1));
            }
            for row in values.chunks_exact(width) {
                match pooling {
                    Pooling::None => out.extend_from_slice(row),
                    Pooling::Cls if out.is_empty() => out.extend_from_slice(row),
                    Pooling::Cls => {}
                    Pooling::Last => {
                        out.clear();
                        out.extend_from_slice(row);
                    }
                    Pooling::Max if out.is_empty() => out.extend_from_slice(row),
                    Pooling::Max => out.iter_mut().zip(row).for_each(|(o, v)| *o = o.max(*v)),
                    Pooling::Mean | Pooling::MeanSqrtLen => {
                        sum.resize(width, 0.0);
                        sum.iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(*v));
                    }
                }
            }
        }
        let n = tokens as f64;
        match pooling {
            Pooling::Mean => out.extend(sum.iter().map(|s| (s / n) as f32)),
            Pooling::MeanSqrtLen => out.extend(sum.iter().map(|s| (s / n.sqrt()) as f32)),
            _ => {}
        }
        Ok(out)
    }
}

/// `x` at length 1, as common libraries do: divided by its length, at least 1e-12.
pub fn normalize(x: &mut [f32]) {
    let length = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt().max(1e-12);
    x.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
}

/// What an encoder cannot do.
pub(crate) fn no_logits(family: &str) -> Error {
    Error::new(ErrorKind::File, format!("{family}: an encoder has no next token"))
        .hint("it makes embeddings: pondera embed")
}

#[cfg(test)]
mod tests {
    #[test]
    fn lengths_become_one_and_nothing_stays_nothing() {
        let mut x = [3.0, 4.0];
        super::normalize(&mut x);
        assert_eq!(x, [0.6, 0.8]);
        let mut x = [0.0; 3];
        super::normalize(&mut x);
        assert_eq!(x, [0.0; 3]);
    }
}
