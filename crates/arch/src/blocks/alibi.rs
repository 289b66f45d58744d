//! Attention with linear biases (arXiv 2108.12409): a slope for each head.
use pondera_ops::{W, Weight};

/// `[heads]`: powers of `2^(-8 / n)`, `n` the power of two below the number of heads; the heads beyond take every other
/// power for `2 n`.
pub fn slopes(heads: usize) -> W {
    let below = 1 << heads.ilog2();
    let first = (1..=below).map(|i| power(below, i));
    let rest = (0..heads - below).map(|i| power(2 * below, 2 * i + 1));
    listed(first.chain(rest).collect())
}

/// `[heads]`, MPT's: powers for the power of two above the number of heads, every second first.
pub fn slopes_above(heads: usize) -> W {
    let above = heads.next_power_of_two();
    if above == heads {
        return slopes(heads);
    }
    let order = (2..=above).step_by(2).chain((1..=above).step_by(2));
    listed(order.map(|i| power(above, i)).take(heads).collect())
}

/// `2^(-8 i / n)`.
fn power(n: usize, i: usize) -> f32 {
    libm::exp2(-8.0 * i as f64 / n as f64) as f32
}

fn listed(all: Vec<f32>) -> W {
    Weight::from_f32("alibi slopes", 1, all.len(), &all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_the_papers() {
        let halves: Vec<f32> = (1..=8).map(|i| 0.5f32.powi(i)).collect();
        assert_eq!(slopes(8).vector(), halves);
        assert_eq!(slopes_above(8).vector(), halves);
        assert_eq!(slopes(3).vector(), [0.0625, 0.00390625, 0.25]);
        assert_eq!(slopes(6).vector(), [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]);
        assert_eq!(slopes_above(6).vector(), [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]);
    }
}
