//! The elementary functions of `pondera_ops::math` over vectors, operation for operation, and its row reductions.
use crate::simd::{Simd, kernel};
use pondera_ops::{Activation, math};

/// [`math::exp`].
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    let n = s.round(s.mul(x, s.splat(math::LOG2_E)));
    let r = s.fma(n, s.splat(-math::LN2_HI), x);
    let r = s.fma(n, s.splat(-math::LN2_LO), r);
    let mut p = s.splat(math::EXP_POLY[0]);
    let mut i = 1;
    while i < math::EXP_POLY.len() {
        p = s.fma(p, r, s.splat(math::EXP_POLY[i]));
        i += 1;
    }
    p = s.fma(p, r, s.splat(1.0));
    p = s.fma(p, r, s.splat(1.0));
    let v = s.mul(p, s.exp2i(n));
    let v = s.select(s.lt(x, s.splat(math::EXP_MIN)), s.splat(0.0), v);
    s.select(s.lt(s.splat(math::EXP_MAX), x), s.splat(f32::INFINITY), v)
}

/// [`math::sigmoid`].
#[inline(always)]
pub fn sigmoid<S: Simd>(s: S, x: S::F) -> S::F {
    s.div(s.splat(1.0), s.add(s.splat(1.0), exp(s, s.neg(x))))
}

/// [`math::tanh`].
#[inline(always)]
pub fn tanh<S: Simd>(s: S, x: S::F) -> S::F {
    let e = exp(s, s.mul(s.splat(2.0), s.abs(x)));
    s.copysign(s.sub(s.splat(1.0), s.div(s.splat(2.0), s.add(e, s.splat(1.0)))), x)
}

/// [`math::erf`].
#[inline(always)]
fn erf<S: Simd>(s: S, x: S::F) -> S::F {
    let a = s.abs(x);
    let t = s.div(s.splat(1.0), s.fma(a, s.splat(math::ERF[5]), s.splat(1.0)));
    let mut p = s.splat(math::ERF[0]);
    let mut i = 1;
    while i < 5 {
        p = s.fma(p, t, s.splat(math::ERF[i]));
        i += 1;
    }
    let tail = s.mul(s.mul(p, t), exp(s, s.neg(s.mul(a, a))));
    s.copysign(s.sub(s.splat(1.0), tail), x)
}

/// `cap · tanh(x / cap)`.
#[inline(always)]
pub fn softcap<S: Simd>(s: S, x: S::F, cap: f32) -> S::F {
    s.mul(s.splat(cap), tanh(s, s.div(x, s.splat(cap))))
}

/// `reference::row::activation`.
#[inline(always)]
fn activation<S: Simd>(s: S, a: Activation, x: S::F) -> S::F {
    match a {
        Activation::Silu => s.div(x, s.add(s.splat(1.0), exp(s, s.neg(x)))),
        Activation::GeluTanh => {
            let inner = s.fma(s.mul(s.mul(s.splat(math::GELU[1]), x), x), x, x);
            let t = tanh(s, s.mul(s.splat(math::GELU[0]), inner));
            s.mul(s.mul(s.splat(0.5), x), s.add(s.splat(1.0), t))
        }
        Activation::GeluErf => {
            let e = erf(s, s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2)));
            s.mul(s.mul(s.splat(0.5), x), s.add(s.splat(1.0), e))
        }
        Activation::Relu => relu(s, x),
        Activation::Relu2 => s.mul(relu(s, x), relu(s, x)),
        Activation::Xielu { positive, negative, beta, eps } => {
            let linear = s.mul(s.splat(beta), x);
            let above = s.fma(s.mul(s.splat(positive), x), x, linear);
            let low = s.select(s.lt(s.splat(eps), x), s.splat(eps), x);
            let below = s.fma(s.sub(exp_m1(s, low), x), s.splat(negative), linear);
            s.select(s.lt(s.splat(0.0), x), above, below)
        }
        Activation::ClampedSwiglu { .. } => panic!("the clamped SwiGLU needs a gate"),
    }
}

/// `math::exp_m1`.
#[inline(always)]
fn exp_m1<S: Simd>(s: S, x: S::F) -> S::F {
    let mut p = s.splat(1.0 / 40320.0);
    let mut i = 0;
    while i < math::EXP_POLY.len() {
        p = s.fma(p, x, s.splat(math::EXP_POLY[i]));
        i += 1;
    }
    let near = s.mul(s.fma(p, x, s.splat(1.0)), x);
    let far = s.sub(exp(s, x), s.splat(1.0));
    let near_zero = s.select(s.lt(s.splat(-0.5), x), near, far);
    s.select(s.lt(x, s.splat(0.5)), near_zero, far)
}

#[inline(always)]
fn relu<S: Simd>(s: S, x: S::F) -> S::F {
    s.select(s.lt(x, s.splat(0.0)), s.splat(0.0), x)
}

/// `reference::row::glu`.
#[inline(always)]
fn gated<S: Simd>(s: S, a: Activation, gate: S::F, up: S::F) -> S::F {
    match a {
        Activation::ClampedSwiglu { alpha, limit } => {
            let (top, bottom) = (s.splat(limit), s.splat(-limit));
            let g = s.select(s.lt(top, gate), top, gate);
            let u = s.select(s.lt(top, up), top, up);
            let u = s.select(s.lt(u, bottom), bottom, u);
            let g = s.mul(g, sigmoid(s, s.mul(g, s.splat(alpha))));
            s.mul(s.add(u, s.splat(1.0)), g)
        }
        _ => s.mul(activation(s, a, gate), up),
    }
}

/// Runs `$body` over vectors of the slices `$x` (read) and `$y` (read and written), the tail through padded copies.
macro_rules! each {
    ($s:ident, $y:ident $(, $x:ident)*; $body:expr) => {{
        let n = $y.len();
        $(assert_eq!($x.len(), n);)*
        let mut i = 0;
        while i + S::LANES <= n {
            // SAFETY: i + LANES is within all slices.
            unsafe {
                let at = $y.as_mut_ptr().add(i);
                let $y = $s.load(at);
                $(let $x = $s.load($x.as_ptr().add(i));)*
                $s.store(at, $body);
            }
            i += S::LANES;
        }
        if i < n {
            let rest = n - i;
            let mut tail = [0.0f32; $crate::simd::MAX_LANES];
            tail[..rest].copy_from_slice(&$y[i..]);
            // SAFETY: the padded copies hold MAX_LANES values.
            unsafe {
                let out = &mut $y[i..];
                let $y = $s.load(tail.as_ptr());
                $(let $x = {
                    let mut copy = [0.0f32; $crate::simd::MAX_LANES];
                    copy[..rest].copy_from_slice(&$x[i..]);
                    $s.load(copy.as_ptr())
                };)*
                $s.store(tail.as_mut_ptr(), $body);
                out.copy_from_slice(&tail[..rest]);
            }
        }
    }};
}

#[inline(always)]
unsafe fn glu_body<S: Simd>(s: S, a: Activation, y: &mut [f32], up: &[f32]) {
    each!(s, y, up; gated(s, a, y, up))
}
#[inline(always)]
unsafe fn activate_body<S: Simd>(s: S, a: Activation, y: &mut [f32]) {
    each!(s, y; activation(s, a, y))
}
#[inline(always)]
unsafe fn softcap_body<S: Simd>(s: S, y: &mut [f32], cap: f32) {
    each!(s, y; softcap(s, y, cap))
}
#[inline(always)]
unsafe fn add_body<S: Simd>(s: S, y: &mut [f32], x: &[f32]) {
    each!(s, y, x; s.add(y, x))
}
#[inline(always)]
unsafe fn mul_body<S: Simd>(s: S, y: &mut [f32], x: &[f32]) {
    each!(s, y, x; s.mul(y, x))
}
#[inline(always)]
unsafe fn scale_body<S: Simd>(s: S, y: &mut [f32], factor: f32) {
    each!(s, y; s.mul(y, s.splat(factor)))
}
#[inline(always)]
unsafe fn fma_body<S: Simd>(s: S, y: &mut [f32], x: &[f32], factor: f32) {
    each!(s, y, x; s.fma(s.splat(factor), x, y))
}
#[inline(always)]
unsafe fn gate_body<S: Simd>(s: S, y: &mut [f32], gate: &[f32]) {
    each!(s, y, gate; s.mul(y, sigmoid(s, gate)))
}
#[inline(always)]
unsafe fn gate_one_body<S: Simd>(s: S, y: &mut [f32], gate: f32) {
    each!(s, y; s.mul(y, sigmoid(s, s.splat(gate))))
}
/// `y = x · new + y · old`, the first product fused.
///
/// # Safety
/// Equal lengths.
#[inline(always)]
pub unsafe fn join_body<S: Simd>(s: S, y: &mut [f32], x: &[f32], old: f32, new: f32) {
    each!(s, y, x; s.fma(x, s.splat(new), s.mul(y, s.splat(old))))
}
#[inline(always)]
unsafe fn sigmoids_body<S: Simd>(s: S, y: &mut [f32]) {
    each!(s, y; sigmoid(s, y))
}
#[inline(always)]
unsafe fn exp_one_body<S: Simd>(s: S, x: f32) -> f32 {
    let mut out = [0.0; crate::simd::MAX_LANES];
    // SAFETY: the array holds MAX_LANES values.
    unsafe { s.store(out.as_mut_ptr(), exp(s, s.splat(x))) };
    out[0]
}

kernel!(/// `y = act(y) · up`.
    pub unsafe fn glu(a: Activation, y: &mut [f32], up: &[f32]) = glu_body);
kernel!(/// `y = act(y)`.
    pub unsafe fn activate(a: Activation, y: &mut [f32]) = activate_body);
kernel!(/// `y = cap · tanh(y / cap)`.
    pub unsafe fn softcaps(y: &mut [f32], cap: f32) = softcap_body);
kernel!(/// `y += x`.
    pub unsafe fn add(y: &mut [f32], x: &[f32]) = add_body);
kernel!(/// `y *= x`.
    pub unsafe fn mul(y: &mut [f32], x: &[f32]) = mul_body);
kernel!(/// `y *= factor`.
    pub unsafe fn scale(y: &mut [f32], factor: f32) = scale_body);
kernel!(/// `y = factor · x + y`, fused.
    pub unsafe fn fma(y: &mut [f32], x: &[f32], factor: f32) = fma_body);
kernel!(/// `y *= sigmoid(gate)`, element by element.
    pub unsafe fn gate(y: &mut [f32], gate: &[f32]) = gate_body);
kernel!(/// `y *= sigmoid(gate)` with one gate.
    pub unsafe fn gate_one(y: &mut [f32], gate: f32) = gate_one_body);
#[cfg(test)]
kernel!(/// [`join_body`].
    unsafe fn join(y: &mut [f32], x: &[f32], old: f32, new: f32) = join_body);
kernel!(/// `y = sigmoid(y)`.
    pub unsafe fn sigmoids(y: &mut [f32]) = sigmoids_body);
kernel!(/// [`math::exp`] of one number.
    pub unsafe fn exp_one(x: f32) -> f32 = exp_one_body);
kernel!(/// `y = x / sum of e^(x - max)`: the softmax of `reference::moe`.
    pub unsafe fn softmax(y: &mut [f32]) = softmax_body);

kernel!(/// Rounds to half precision, ties to even.
    pub unsafe fn halves(x: &[f32], y: &mut [u16]) = halves_body);

#[inline(always)]
unsafe fn halves_body<S: Simd>(s: S, x: &[f32], y: &mut [u16]) {
    assert_eq!(x.len(), y.len());
    let whole = x.len() / S::LANES * S::LANES;
    // SAFETY: whole vectors within both; the tail goes through padded copies.
    unsafe {
        for i in (0..whole).step_by(S::LANES) {
            s.store_f16(y.as_mut_ptr().add(i), s.load(x.as_ptr().add(i)));
        }
        let (mut from, mut to) = ([0.0f32; crate::simd::MAX_LANES], [0u16; crate::simd::MAX_LANES]);
        let rest = x.len() - whole;
        from[..rest].copy_from_slice(&x[whole..]);
        s.store_f16(to.as_mut_ptr(), s.load(from.as_ptr()));
        y[whole..].copy_from_slice(&to[..rest]);
    }
}

kernel!(/// `reference::row::greatest`.
    pub unsafe fn greatest(x: &[f32]) -> (u32, f32) = greatest_body);

#[inline(always)]
unsafe fn greatest_body<S: Simd>(s: S, x: &[f32]) -> (u32, f32) {
    /// Values whose place is found by a second look.
    const RUN: usize = 1024;
    let (mut run, mut best) = (0, f32::NEG_INFINITY);
    let mut size = s.bits(s.splat(0.0));
    let mut rest_finite = true;
    for (r, x) in x.chunks(RUN).enumerate() {
        let mut top = s.splat(f32::NEG_INFINITY);
        let whole = x.len() / S::LANES * S::LANES;
        for i in (0..whole).step_by(S::LANES) {
            // SAFETY: i + LANES is within the run.
            let v = unsafe { s.load(x.as_ptr().add(i)) };
            size = s.umax(size, s.bits(s.abs(v)));
            top = s.select(s.lt(top, v), v, top);
        }
        let mut lanes = [f32::NEG_INFINITY; crate::simd::MAX_LANES];
        // SAFETY: the array holds MAX_LANES values.
        unsafe { s.store(lanes.as_mut_ptr(), top) };
        rest_finite &= x[whole..].iter().all(|v| v.is_finite());
        let most = lanes.iter().chain(&x[whole..]).fold(f32::NEG_INFINITY, |m, &v| if v > m { v } else { m });
        if most > best {
            (run, best) = (r, most);
        }
    }
    let mut sizes = [0.0f32; crate::simd::MAX_LANES];
    // SAFETY: the array holds MAX_LANES values.
    unsafe { s.store(sizes.as_mut_ptr(), s.floats(size)) };
    if !rest_finite || sizes.iter().any(|v| !v.is_finite()) {
        return (0, f32::NAN);
    }
    let at = x[run * RUN..].iter().position(|&v| v == best).unwrap_or(0);
    ((run * RUN + at) as u32, best)
}

/// `Σ f(x)` in the sixteen lanes of [`math::LANES`]: `x` itself, or squares of distances from `c`.
#[inline(always)]
pub unsafe fn lanes<S: Simd, const SQUARES: bool>(s: S, x: &[f32], c: f32) -> f32 {
    let vectors = math::LANES / S::LANES;
    let mut acc = [s.splat(0.0); 4];
    let mut i = 0;
    while i + math::LANES <= x.len() {
        for (v, acc) in acc.iter_mut().enumerate().take(vectors) {
            // SAFETY: i + 16 is within the slice.
            let x = unsafe { s.load(x.as_ptr().add(i + v * S::LANES)) };
            if SQUARES {
                let d = s.sub(x, s.splat(c));
                *acc = s.fma(d, d, *acc);
            } else {
                *acc = s.add(*acc, x);
            }
        }
        i += math::LANES;
    }
    let mut lanes = [0.0f32; math::LANES];
    for (v, acc) in acc.iter().enumerate().take(vectors) {
        // SAFETY: `vectors` vectors fill the sixteen lanes.
        unsafe { s.store(lanes.as_mut_ptr().add(v * S::LANES), *acc) };
    }
    for (lane, x) in lanes.iter_mut().zip(&x[i..]) {
        if SQUARES {
            let d = x - c;
            *lane = d.mul_add(d, *lane);
        } else {
            *lane += x;
        }
    }
    math::lane_sum(lanes)
}

#[inline(always)]
unsafe fn softmax_body<S: Simd>(s: S, y: &mut [f32]) {
    let max = y.iter().fold(f32::NEG_INFINITY, |m, &v| if v > m || v.is_nan() { v } else { m });
    each!(s, y; exp(s, s.sub(y, s.splat(max))));
    // SAFETY: any slice.
    let inverse = 1.0 / unsafe { lanes::<S, false>(s, y, 0.0) };
    each!(s, y; s.mul(y, s.splat(inverse)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Isa, simd::Level};
    use pondera_ops::reference::row;

    /// Every function, on every set here, over ordinary, extreme and non-finite values and all tails.
    #[test]
    fn vectors_equal_the_scalar_functions() {
        let special = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            1e-40,
            -1e-40,
            88.0,
            88.1,
            -87.0,
            -87.1,
            f32::MAX,
            f32::MIN,
            1e30,
            -1e30,
            0.5,
            44.0,
            300.0,
        ];
        let xs: Vec<f32> =
            special.into_iter().chain((0..4003).map(|i| ((i * 7919) % 4003) as f32 * 0.05 - 100.0)).collect();
        let ups: Vec<f32> = xs.iter().rev().map(|v| v * 0.7).collect();
        for isa in Isa::ALL {
            let Some(level) = Level::new(isa) else { continue };
            for n in (0..40).chain([xs.len()]) {
                let (x, up) = (&xs[..n], &ups[..n]);
                let check = |name: &str, run: &dyn Fn(&mut [f32]), want: &dyn Fn(f32, f32) -> f32| {
                    let mut y = x.to_vec();
                    run(&mut y);
                    for i in 0..n {
                        let w = want(x[i], up[i]);
                        assert!(
                            y[i].to_bits() == w.to_bits() || y[i].is_nan() && w.is_nan(),
                            "{name} {isa} {}: {} {w}",
                            x[i],
                            y[i]
                        );
                    }
                };
                // SAFETY: matching lengths.
                unsafe {
                    use Activation::*;
                    for a in [Silu, GeluTanh, GeluErf, Relu, Relu2] {
                        check("activation", &|y| activate(level, a, y), &|x, _| row::activation(a, x));
                    }
                    for a in [Silu, GeluTanh, ClampedSwiglu { alpha: 1.702, limit: 7.0 }] {
                        check("glu", &|y| glu(level, a, y, up), &|x, u| row::glu(a, x, u));
                    }
                    check("softcap", &|y| softcaps(level, y, 30.0), &|x, _| row::softcap(x, 30.0));
                    check("gate", &|y| gate(level, y, up), &|x, u| x * math::sigmoid(u));
                    check("fma", &|y| fma(level, y, up, 0.3), &|x, u| 0.3f32.mul_add(u, x));
                    check("join", &|y| join(level, y, up, 0.7, 0.2), &|x, u| u.mul_add(0.2, x * 0.7));
                    check("exp", &|y| y.iter_mut().for_each(|v| *v = exp_one(level, *v)), &|x, _| math::exp(x));
                }
            }
        }
    }
}
