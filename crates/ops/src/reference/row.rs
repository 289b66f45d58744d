//! What happens to one row of activations: embedding, norms, rotation, pointwise functions.
use crate::{math, *};

/// The table row that batch row `r` takes.
pub fn index(index: Index, batch: &Batch, r: usize) -> usize {
    match index {
        Index::Tokens => batch.tokens[r] as usize,
        Index::Positions(offset) => (batch.positions[r] + offset) as usize,
        Index::Row(row) => row as usize,
    }
}

/// The column of the greatest value, the lowest of several, and the value; NaN where one is not finite.
pub fn greatest(x: &[f32]) -> (u32, f32) {
    let (mut at, mut best) = (0, x[0]);
    for (i, &v) in x.iter().enumerate() {
        if v > best {
            (at, best) = (i as u32, v);
        }
    }
    (at, if x.iter().all(|v| v.is_finite()) { best } else { f32::NAN })
}

/// Row `i` of `table`, decoded, times `scale`.
pub fn embed(table: &Weight, i: usize, scale: f32, y: &mut [f32]) {
    table.groups[0].decode_rows(i..i + 1, y);
    if scale != 1.0 {
        y.iter_mut().for_each(|v| *v *= scale);
    }
}

/// Normalises `x`, group `g` of its row, into `y`. Where the vectors are longer than a group, groups take turns.
pub fn norm(n: &Norm, g: usize, x: &[f32], y: &mut [f32]) {
    let part = |w: &'_ W| {
        let turns = (w.vector().len() / x.len().max(1)).max(1);
        g % turns * x.len()
    };
    let size = x.len() as f32;
    match n {
        Norm::Rms { weight, eps, one_plus } => {
            let inverse = 1.0 / (math::sum_squares(x, 0.0) / size + eps).sqrt();
            for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
                let w = weight.as_ref().map_or(1.0, |w| w.vector()[part(w) + i]);
                *y = x * inverse * if *one_plus { 1.0 + w } else { w };
            }
        }
        Norm::Layer { weight, bias, eps } => {
            let mean = math::sum(x) / size;
            let inverse = 1.0 / (math::sum_squares(x, mean) / size + eps).sqrt();
            for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
                let w = weight.as_ref().map_or(1.0, |w| w.vector()[part(w) + i]);
                let b = bias.as_ref().map_or(0.0, |b| b.vector()[part(b) + i]);
                *y = ((x - mean) * inverse).mul_add(w, b);
            }
        }
    }
}

/// Cosines, then sines, of `position · frequency`, each computed in f64, rounded to f32 and multiplied by `scale`.
pub fn rotary(frequencies: &[f64], scale: f32, position: u32, y: &mut [f32]) {
    let (cos, sin) = y.split_at_mut(frequencies.len());
    for ((f, c), s) in frequencies.iter().zip(cos).zip(sin) {
        let angle = f64::from(position) * f;
        *c = libm::cos(angle) as f32 * scale;
        *s = libm::sin(angle) as f32 * scale;
    }
}

/// Rotates the pairs at the start of `x` by `table`: cosines, then sines.
pub fn rope(x: &mut [f32], table: &[f32], interleaved: bool) {
    let pairs = table.len() / 2;
    for i in 0..pairs {
        let (c, s) = (table[i], table[pairs + i]);
        let (p, q) = if interleaved { (2 * i, 2 * i + 1) } else { (i, i + pairs) };
        let (a, b) = (x[p], x[q]);
        x[p] = a.mul_add(c, -(b * s));
        x[q] = b.mul_add(c, a * s);
    }
}

/// `cap · tanh(x / cap)`.
pub fn softcap(x: f32, cap: f32) -> f32 {
    cap * math::tanh(x / cap)
}

/// `x` between `-limit` and `limit`; NaN stays NaN.
pub fn clamp(x: f32, limit: f32) -> f32 {
    let x = if x > limit { limit } else { x };
    if x < -limit { -limit } else { x }
}

/// The nonlinearity alone.
pub fn activation(a: Activation, x: f32) -> f32 {
    match a {
        Activation::Silu => math::silu(x),
        Activation::GeluTanh => math::gelu_tanh(x),
        Activation::GeluErf => math::gelu_erf(x),
        Activation::Relu => relu(x),
        Activation::Relu2 => relu(x) * relu(x),
        Activation::Xielu { positive, negative, beta, eps } => {
            if x > 0.0 {
                (positive * x).mul_add(x, beta * x)
            } else {
                let low = if x > eps { eps } else { x };
                (math::exp_m1(low) - x).mul_add(negative, beta * x)
            }
        }
        Activation::ClampedSwiglu { .. } => panic!("the clamped SwiGLU needs a gate"),
    }
}

/// NaN stays NaN.
fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// The gated nonlinearity.
pub fn glu(a: Activation, gate: f32, up: f32) -> f32 {
    match a {
        Activation::ClampedSwiglu { alpha, limit } => {
            let g = if gate > limit { limit } else { gate };
            let u = if up > limit { limit } else { up };
            let u = if u < -limit { -limit } else { u };
            (u + 1.0) * (g * math::sigmoid(g * alpha))
        }
        _ => activation(a, gate) * up,
    }
}

/// What becomes of the `i`-th of the rows that a patch changes.
pub fn patch(p: &Patch<'_>, i: usize, y: &mut [f32]) {
    let cols = y.len();
    let part = |x: &Act| x.data()[i * cols..][..cols].to_vec();
    match p {
        Patch::Put(x) => y.copy_from_slice(&part(x)),
        Patch::Add(x) => y.iter_mut().zip(part(x)).for_each(|(y, x)| *y += x),
        Patch::AddTimes(x, factors) => y.iter_mut().zip(part(x)).for_each(|(y, x)| *y = factors[i].mul_add(x, *y)),
        Patch::Mul(g) => y.iter_mut().zip(g.vector()).for_each(|(y, g)| *y *= g),
        Patch::Bias(b) => y.iter_mut().zip(b.vector()).for_each(|(y, b)| *y += b),
    }
}
