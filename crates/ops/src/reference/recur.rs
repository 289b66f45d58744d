//! Convolutions and recurrences along a sequence (rule 5 of docs/numerics.md): serial in tokens, f32 state.
//!
//! A part is a run of channels or a head: it has a stretch of the state for itself. The functions are written over
//! columns that do not depend on one another, so that a compiler may vectorise them without changing a bit; the CPU
//! backend runs these very functions from code that may use its instructions.
use super::row;
use crate::{Activation, Conv, RUN, ScanKind, Sequence, math};
use std::ops::Range;

/// Added to the sum of squares of a key or query of the delta rule before the root.
const UNIT_EPS: f32 = 1e-6;

/// What advances along a sequence: a convolution or a recurrence, with its inputs `[rows, cols]` and the vectors of
/// [`ScanKind`] at hand.
#[allow(missing_docs)]
pub enum Work<'a> {
    /// One input.
    Conv(&'a Conv, [Input<'a>; 1]),
    /// x, step sizes, B, C.
    Selective { rates: &'a [f32], bias: &'a [f32], d: &'a [f32], inputs: [Input<'a>; 4] },
    /// x, step sizes, B, C.
    Heads { rates: &'a [f32], bias: &'a [f32], d: &'a [f32], groups: usize, limit: (f32, f32), inputs: [Input<'a>; 4] },
    /// q, k, v, decays, betas.
    Delta { rates: &'a [f32], bias: &'a [f32], heads: usize, key_heads: usize, beta_scale: f32, inputs: [Input<'a>; 5] },
    /// q, k, v.
    Linear { decay: &'a [f32], inputs: [Input<'a>; 3] },
}

/// An activation's values and columns.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// `[rows, cols]`.
    pub data: &'a [f32],
    /// Columns.
    pub cols: usize,
}

impl<'a> Input<'a> {
    #[inline(always)]
    fn row(&self, r: usize) -> &'a [f32] {
        &self.data[r * self.cols..][..self.cols]
    }

    /// Group `g` of `groups` in row `r`.
    #[inline(always)]
    fn group(&self, r: usize, g: usize, groups: usize) -> &'a [f32] {
        let n = self.cols / groups;
        &self.data[r * self.cols + g * n..][..n]
    }
}

impl<'a> Work<'a> {
    /// A recurrence over its inputs.
    pub fn new(kind: &'a ScanKind, inputs: &[Input<'a>]) -> Work<'a> {
        fn all<'a, const N: usize>(inputs: &[Input<'a>]) -> [Input<'a>; N] {
            <[Input<'a>; N]>::try_from(inputs).unwrap_or_else(|_| panic!("expected {N} inputs, got {}", inputs.len()))
        }
        match kind {
            ScanKind::Selective { rates, step_bias, d } => {
                Work::Selective { rates: rates.vector(), bias: step_bias.vector(), d: d.vector(), inputs: all(inputs) }
            }
            ScanKind::Heads { rates, step_bias, d, groups, limit } => Work::Heads {
                rates: rates.vector(),
                bias: step_bias.vector(),
                d: d.vector(),
                groups: *groups,
                limit: *limit,
                inputs: all(inputs),
            },
            ScanKind::Delta { rates, step_bias, heads, key_heads, beta_scale } => Work::Delta {
                rates: rates.vector(),
                bias: step_bias.vector(),
                heads: *heads,
                key_heads: *key_heads,
                beta_scale: *beta_scale,
                inputs: all(inputs),
            },
            ScanKind::Linear { decay } => Work::Linear { decay: decay.vector(), inputs: all(inputs) },
        }
    }

    /// Columns of the result.
    pub fn cols(&self) -> usize {
        match self {
            Work::Conv(_, [x]) => x.cols,
            Work::Selective { inputs, .. } | Work::Heads { inputs, .. } => inputs[0].cols,
            Work::Delta { inputs, .. } => inputs[2].cols,
            Work::Linear { inputs, .. } => inputs[2].cols,
        }
    }

    /// Number of parts.
    pub fn parts(&self) -> usize {
        match self {
            Work::Conv(..) | Work::Selective { .. } => self.cols().div_ceil(RUN),
            Work::Heads { rates, .. } => rates.len(),
            Work::Delta { heads, .. } => *heads,
            Work::Linear { decay, .. } => decay.len(),
        }
    }

    /// Columns of the result that part `i` computes.
    #[inline(always)]
    pub fn columns(&self, i: usize) -> Range<usize> {
        let cols = self.cols();
        match self {
            Work::Conv(..) | Work::Selective { .. } => i * RUN..cols.min((i + 1) * RUN),
            _ => {
                let n = cols / self.parts();
                i * n..(i + 1) * n
            }
        }
    }

    /// Values of state per column of the result.
    #[inline(always)]
    fn depth(&self) -> usize {
        match self {
            Work::Conv(c, _) => c.kernel - 1,
            Work::Selective { inputs, .. } => inputs[2].cols,
            Work::Heads { inputs, groups, .. } => inputs[2].cols / groups,
            Work::Delta { inputs, key_heads, .. } => inputs[1].cols / key_heads,
            Work::Linear { inputs, decay } => inputs[1].cols / decay.len(),
        }
    }

    /// The stretch of the state that is part `i`'s.
    #[inline(always)]
    pub fn state(&self, i: usize) -> Range<usize> {
        let (c, n) = (self.columns(i), self.depth());
        c.start * n..c.end * n
    }

    /// Values of state in all.
    pub fn state_len(&self) -> usize {
        self.cols() * self.depth()
    }

    /// Values of scratch that a part needs.
    pub fn scratch(&self) -> usize {
        let widest = self.columns(0).len();
        2 * widest + 2 * self.depth()
    }

    /// Takes part `i` along sequence `s`. `state` holds what the sequence left (zeros at its start); `keep` is given it
    /// with the slot it goes to, `put` the row and the columns of the result.
    #[inline(always)]
    pub fn run(
        &self,
        i: usize,
        s: &Sequence,
        state: &mut [f32],
        scratch: &mut [f32],
        mut put: impl FnMut(usize, &[f32]),
        mut keep: impl FnMut(u32, &[f32]),
    ) {
        let columns = self.columns(i);
        let (y, scratch) = scratch.split_at_mut(columns.len());
        let mut kept = s.keep.iter().peekable();
        for (t, r) in s.rows.clone().enumerate() {
            self.token(i, r, &columns, state, scratch, y);
            put(r, y);
            while let Some((_, slot)) = kept.next_if(|k| k.0 as usize == t) {
                keep(*slot, state);
            }
        }
    }

    /// Row `r` of part `i`.
    #[inline(always)]
    fn token(&self, i: usize, r: usize, c: &Range<usize>, state: &mut [f32], scratch: &mut [f32], y: &mut [f32]) {
        match self {
            Work::Conv(conv, [x]) => {
                let at = c.start * conv.kernel..c.end * conv.kernel;
                let bias = conv.bias.as_ref().map(|b| &b.vector()[c.clone()]);
                convolve(&conv.weight.vector()[at], bias, conv.act, state, &x.row(r)[c.clone()], y);
            }
            Work::Selective { rates, bias, d, inputs: [x, step, b, cs] } => {
                let rates = &rates[self.state(i)];
                let (bias, d) = (&bias[c.clone()], &d[c.clone()]);
                let (x, step) = (&x.row(r)[c.clone()], &step.row(r)[c.clone()]);
                selective(state, rates, (bias, d), (x, step), (b.row(r), cs.row(r)), scratch, y);
            }
            Work::Heads { rates, bias, d, groups, limit, inputs: [x, step, b, cs] } => {
                let (heads, low, high) = (rates.len(), limit.0, limit.1);
                let t = math::softplus(step.row(r)[i] + bias[i]);
                let t = if t < low { low } else { t };
                let t = if t > high { high } else { t };
                let g = i / (heads / groups);
                let bc = (b.group(r, g, *groups), cs.group(r, g, *groups));
                head(state, (rates[i], t, d[i]), x.group(r, i, heads), bc, y);
            }
            Work::Delta { rates, bias, heads, key_heads, beta_scale, inputs: [q, k, v, decay, beta] } => {
                let depth = self.depth();
                let (keys, error) = scratch.split_at_mut(2 * depth);
                let (qs, ks) = keys.split_at_mut(depth);
                let g = i / (heads / key_heads);
                unit(q.group(r, g, *key_heads), (depth as f32).sqrt(), qs);
                unit(k.group(r, g, *key_heads), 1.0, ks);
                let beta = beta_scale * math::sigmoid(beta.row(r)[i]);
                let (decay, bias) = (decay.group(r, i, *heads), &bias[i * decay.cols / heads..][..decay.cols / heads]);
                delta(state, (rates[i], decay, bias), beta, (qs, ks), v.group(r, i, *heads), error, y);
            }
            Work::Linear { decay, inputs: [q, k, v] } => {
                let heads = decay.len();
                linear(state, decay[i], (q.group(r, i, heads), k.group(r, i, heads)), v.group(r, i, heads), y);
            }
        }
    }
}

/// One token of a convolution: chain over taps, the oldest input first, then the bias, then the nonlinearity. `past`
/// `[kernel - 1][run]` takes `x` as its newest; `weight` is `[kernel][run]`.
#[inline(always)]
fn convolve(weight: &[f32], bias: Option<&[f32]>, act: Option<Activation>, past: &mut [f32], x: &[f32], y: &mut [f32]) {
    let n = x.len();
    let taps = |y: &mut [f32], x: &[f32], w: &[f32]| {
        for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
            *y = w.mul_add(*x, *y);
        }
    };
    y.fill(0.0);
    let (older, newest) = weight.split_at(weight.len() - n);
    for (past, w) in past.chunks_exact(n).zip(older.chunks_exact(n)) {
        taps(y, past, w);
    }
    taps(y, x, newest);
    if let Some(bias) = bias {
        y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
    }
    match act {
        // By name, so that it is vectorised.
        Some(Activation::Silu) => y.iter_mut().for_each(|y| *y = math::silu(*y)),
        Some(act) => y.iter_mut().for_each(|y| *y = row::activation(act, *y)),
        None => {}
    }
    if let Some(last) = past.len().checked_sub(n) {
        past.copy_within(n.., 0);
        past[last..].copy_from_slice(x);
    }
}

/// One token of a selective scan for a run of channels; `state` and `rates` are `[n][run]`.
#[inline(always)]
fn selective(
    state: &mut [f32],
    rates: &[f32],
    (bias, d): (&[f32], &[f32]),
    (x, step): (&[f32], &[f32]),
    (b, c): (&[f32], &[f32]),
    scratch: &mut [f32],
    y: &mut [f32],
) {
    let n = x.len();
    let t = &mut scratch[..n];
    for ((t, step), bias) in t.iter_mut().zip(step).zip(bias) {
        *t = math::softplus(step + bias);
    }
    y.fill(0.0);
    for ((s, a), (b, c)) in state.chunks_exact_mut(n).zip(rates.chunks_exact(n)).zip(b.iter().zip(c)) {
        for (((s, a), (t, x)), y) in s.iter_mut().zip(a).zip(t.iter().zip(x)).zip(y.iter_mut()) {
            *s = math::exp(t * a).mul_add(*s, t * x * b);
            *y = s.mul_add(*c, *y);
        }
    }
    for ((y, x), d) in y.iter_mut().zip(x).zip(d) {
        *y = d.mul_add(*x, *y);
    }
}

/// One token of a head of Mamba 2; `state` is `[n][dim]`.
#[inline(always)]
fn head(state: &mut [f32], (rate, t, d): (f32, f32, f32), x: &[f32], (b, c): (&[f32], &[f32]), y: &mut [f32]) {
    let decay = math::exp(t * rate);
    y.fill(0.0);
    for (s, (b, c)) in state.chunks_exact_mut(x.len()).zip(b.iter().zip(c)) {
        let tb = t * b;
        for ((s, x), y) in s.iter_mut().zip(x).zip(y.iter_mut()) {
            *s = decay.mul_add(*s, tb * x);
            *y = s.mul_add(*c, *y);
        }
    }
    for (y, x) in y.iter_mut().zip(x) {
        *y = d.mul_add(*x, *y);
    }
}

/// `x / √(Σ x² + 1e-6) / divisor`, into `y`.
fn unit(x: &[f32], divisor: f32, y: &mut [f32]) {
    let factor = 1.0 / (math::sum_squares(x, 0.0) + UNIT_EPS).sqrt();
    y.iter_mut().zip(x).for_each(|(y, x)| *y = x * factor / divisor);
}

/// One token of a head of the delta rule; `state` is `[dk][dv]`, decays and biases one or `dk`.
#[inline(always)]
fn delta(
    state: &mut [f32],
    (rate, decay, bias): (f32, &[f32], &[f32]),
    beta: f32,
    (q, k): (&[f32], &[f32]),
    v: &[f32],
    error: &mut [f32],
    y: &mut [f32],
) {
    let n = v.len();
    let error = &mut error[..n];
    let left = |i: usize| math::exp(rate * math::softplus(decay[i] + bias[i]));
    let all = left(0);
    error.fill(0.0);
    for (i, (s, k)) in state.chunks_exact_mut(n).zip(k).enumerate() {
        let g = if decay.len() == 1 { all } else { left(i) };
        for (s, e) in s.iter_mut().zip(error.iter_mut()) {
            *s *= g;
            *e = s.mul_add(*k, *e);
        }
    }
    for (e, v) in error.iter_mut().zip(v) {
        *e = (v - *e) * beta;
    }
    y.fill(0.0);
    for ((s, k), q) in state.chunks_exact_mut(n).zip(k).zip(q) {
        for ((s, e), y) in s.iter_mut().zip(error.iter()).zip(y.iter_mut()) {
            *s = k.mul_add(*e, *s);
            *y = s.mul_add(*q, *y);
        }
    }
}

/// One token of a head of linear attention; `state` is `[dk][dv]`.
#[inline(always)]
fn linear(state: &mut [f32], decay: f32, (q, k): (&[f32], &[f32]), v: &[f32], y: &mut [f32]) {
    y.fill(0.0);
    for ((s, k), q) in state.chunks_exact_mut(v.len()).zip(k).zip(q) {
        for ((s, v), y) in s.iter_mut().zip(v).zip(y.iter_mut()) {
            *s = decay.mul_add(*s, k * v);
            *y = s.mul_add(*q, *y);
        }
    }
}
