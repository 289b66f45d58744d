//! Rotary positions: from the configuration's `rope_parameters` to frequencies.
use crate::{Config, Params, PositionFactor, Result, Step, config::shown};
use pondera_ops::{Act, Frequencies, Norm, Ops, Rope, RopeLayout, default_frequencies};
use serde_json::{Map, Value};
use std::f64::consts::PI;

/// No head is wider; keeps hostile configurations from costing memory.
const DIMS_MAX: usize = 1 << 14;

/// Which columns of a head rotate.
#[derive(Clone, Copy, Debug)]
pub struct RotaryDims {
    /// Columns per head.
    pub head_dim: usize,
    /// Rotated columns; even.
    pub dims: usize,
    /// First rotated column.
    pub offset: usize,
    /// Pairs are neighbours; otherwise halves.
    pub interleaved: bool,
}

impl RotaryDims {
    /// All columns of a head.
    pub fn whole(head_dim: usize, interleaved: bool) -> RotaryDims {
        RotaryDims { head_dim, dims: head_dim, offset: 0, interleaved }
    }

    /// The first columns of a head, as many as `partial_rotary_factor` says (in GGUF files: as the file counts them).
    pub fn partial(c: &Config, head_dim: usize, interleaved: bool) -> Result<RotaryDims> {
        RotaryDims::partial_of(c, head_dim, interleaved, "full_attention")
    }

    /// The same for layers of this type.
    pub fn partial_of(c: &Config, head_dim: usize, interleaved: bool, layer_type: &str) -> Result<RotaryDims> {
        let counted = c.size_opt("rope_dimension_count")?;
        let dims = match counted {
            Some(n) => n,
            None => Parameters::read(c, layer_type)?.rotated(head_dim)?,
        };
        if dims > head_dim {
            return Err(c.bad("partial_rotary_factor", format!("{dims} columns rotate, but a head has {head_dim}")));
        }
        Ok(RotaryDims { head_dim, dims, offset: 0, interleaved })
    }

    /// Whether so many columns can rotate.
    fn checked(self, c: &Config) -> Result<RotaryDims> {
        let n = self.dims;
        if !n.is_multiple_of(2) || n == 0 {
            return Err(c.bad("head_dim", format!("expected an even number of rotary columns, got {n}")));
        }
        if n > DIMS_MAX {
            return Err(c.bad("head_dim", format!("expected at most {DIMS_MAX} rotary columns, got {n}")));
        }
        Ok(self)
    }
}

/// A rope declared to the step, and where in a head it acts.
#[derive(Clone, Copy, Debug)]
pub struct Rotary {
    rope: usize,
    layout: RopeLayout,
}

impl Rotary {
    /// Declares the rope of `rope_parameters`; `layer_type` chooses among parameters per layer type.
    pub fn load(p: &Params<'_>, c: &Config, dims: RotaryDims, layer_type: &str) -> Result<Rotary> {
        let dims = dims.checked(c)?;
        // GGUF says how many columns rotate; here the family does.
        if let Some(n) = c.size_opt("rope_dimension_count")?.filter(|n| *n != dims.dims) {
            return Err(c.unknown("rope.dimension_count", &n.to_string(), &[&dims.dims.to_string()]));
        }
        let r = Parameters::read(c, layer_type)?;
        if r.rotated(dims.head_dim)? != dims.dims && r.number("partial_rotary_factor")?.is_some_and(|f| f != 1.0) {
            let got = r.number("partial_rotary_factor")?.unwrap_or_default().to_string();
            return Err(c.unknown("rope_parameters.partial_rotary_factor", &got, &["1"]));
        }
        let factors = |name| p.rope_factors(name, dims.dims / 2);
        if let (Some(short), Some(long)) = (factors("rope_factors_short.weight")?, factors("rope_factors_long.weight")?)
        {
            return Ok(Rotary::of(p, r.long(dims.dims, &short, &long)?, dims));
        }
        let factors = factors("rope_freqs.weight")?;
        Ok(Rotary::of(p, r.rope(dims.dims, factors)?, dims))
    }

    /// The rope of layers with windows: that of `sliding_attention` where parameters are per layer type; otherwise no
    /// scaling applies to them, and the base is `rope_local_base_freq` where there is one.
    pub fn sliding(p: &Params<'_>, c: &Config, dims: RotaryDims) -> Result<Rotary> {
        let nested = |v: &Value| v.as_object().is_some_and(|o| o.values().any(Value::is_object));
        if c.get("rope_parameters").is_some_and(nested) {
            return Rotary::load(p, c, dims, "sliding_attention");
        }
        let theta = match c.number_opt("rope_local_base_freq")? {
            Some(local) => local,
            None => Parameters::read(c, "")?.positive("rope_theta")?.unwrap_or(10_000.0),
        };
        let rope = Rope { frequencies: Frequencies::Fixed(default_frequencies(theta, dims.dims)), scale: 1.0 };
        Ok(Rotary::of(p, rope, dims))
    }

    /// The same parameters with another base; none where the base is 0.
    pub fn based(p: &Params<'_>, c: &Config, dims: RotaryDims, theta: f64) -> Result<Option<Rotary>> {
        if theta == 0.0 {
            return Ok(None);
        }
        let dims = dims.checked(c)?;
        let r = Parameters { theta: Some(theta), ..Parameters::read(c, "full_attention")? };
        Ok(Some(Rotary::of(p, r.rope(dims.dims, None)?, dims)))
    }

    /// A rope that a family computes by itself.
    pub fn of(p: &Params<'_>, rope: Rope, dims: RotaryDims) -> Rotary {
        let RotaryDims { head_dim, offset, interleaved, .. } = dims;
        Rotary { rope: p.rope(rope), layout: RopeLayout { head_dim, offset, interleaved } }
    }

    /// Whether layers of this type rotate: of parameters per layer type, null says that its layers do not.
    pub fn rotates(c: &Config, layer_type: &str) -> bool {
        let parameters = c.get("rope_parameters").and_then(Value::as_object);
        parameters.and_then(|o| o.get(layer_type)) != Some(&Value::Null)
    }

    /// The same rope at another place of a head.
    pub fn placed(self, head_dim: usize, offset: usize) -> Rotary {
        Rotary { layout: RopeLayout { head_dim, offset, ..self.layout }, ..self }
    }

    /// Rotates every head of `x`.
    pub fn rotate(&self, ops: &dyn Ops, step: &Step<'_>, x: Act) -> Act {
        self.norm_and_rotate(ops, step, x, None)
    }

    /// Normalises every head of `x`, then rotates it.
    pub fn norm_and_rotate(&self, ops: &dyn Ops, step: &Step<'_>, x: Act, norm: Option<&Norm>) -> Act {
        ops.rope(x, norm, step.rotary(self.rope), &self.layout)
    }
}

/// The factor on queries that grows with the logarithm of the position, in steps of the original context.
pub fn llama4_scaling(c: &Config, p: &Params<'_>) -> Result<usize> {
    let r = Parameters::read(c, "full_attention")?;
    let beta = r.need("llama_4_scaling_beta")?;
    Ok(p.position_factor(PositionFactor::Log { beta, floor: r.original()?, ahead: 0.0 }))
}

/// The factor on attention scores that DeepSeek's models take from YaRN: `m²`, `m = 0.1 · mscale_all_dim · ln factor + 1`.
pub fn attention_mscale(c: &Config) -> Result<f64> {
    let r = Parameters::read(c, "full_attention")?;
    let all = r.number("mscale_all_dim")?.unwrap_or(0.0);
    if r.kind == "default" || all == 0.0 {
        return Ok(1.0);
    }
    let m = mscale(r.factor()?, all);
    Ok(m * m)
}

/// YaRN's growth of attention with the context (arXiv 2309.00071).
fn mscale(factor: f64, weight: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 }
}

/// `rope_parameters` of one layer type.
struct Parameters<'a> {
    c: &'a Config,
    keys: &'a Map<String, Value>,
    kind: &'a str,
    /// In place of `rope_theta`.
    theta: Option<f64>,
}

impl<'a> Parameters<'a> {
    fn read(c: &'a Config, layer_type: &str) -> Result<Parameters<'a>> {
        let object = |v: Option<&'a Value>| match v {
            Some(Value::Object(o)) => Ok(o),
            Some(v) => Err(c.bad("rope_parameters", format!("expected an object, got {}", shown(v)))),
            None => Err(c.bad("rope_parameters", "absent")),
        };
        let mut keys = object(c.get("rope_parameters"))?;
        if keys.values().any(Value::is_object) {
            keys = object(keys.get(layer_type))?;
        }
        let kind = match keys.get("rope_type") {
            Some(Value::String(s)) => s.as_str(),
            None => "default",
            Some(v) => return Err(c.bad("rope_parameters.rope_type", format!("expected a string, got {}", shown(v)))),
        };
        Ok(Parameters { c, keys, kind, theta: None })
    }

    /// Columns of a head that rotate, as `partial_rotary_factor` says; all where it says nothing.
    fn rotated(&self, head_dim: usize) -> Result<usize> {
        let factor = self.positive("partial_rotary_factor")?.unwrap_or(1.0);
        Ok((head_dim as f64 * factor) as usize)
    }

    /// Frequencies for `dims` rotated columns; `factors` divide them (GGUF stores some scalings so).
    fn rope(&self, dims: usize, factors: Option<Vec<f32>>) -> Result<Rope> {
        let theta = self.theta.or(self.positive("rope_theta")?).unwrap_or(10_000.0);
        let plain = default_frequencies(theta, dims);
        let (mut frequencies, scale) = match self.kind {
            "default" => (Frequencies::Fixed(plain), 1.0),
            "linear" => {
                let factor = self.factor()?;
                (Frequencies::Fixed(plain.into_iter().map(|w| w / factor).collect()), 1.0)
            }
            // Hunyuan's: the base grows by a factor of its own, at every length.
            "dynamic" if self.keys.contains_key("alpha") => {
                let alpha = self.positive("alpha")?.unwrap_or(1.0);
                let base = theta * libm::pow(alpha, dims as f64 / (dims as f64 - 2.0).max(1.0));
                (Frequencies::Fixed(default_frequencies(base, dims)), 1.0)
            }
            "dynamic" => (self.dynamic(theta, dims)?, 1.0),
            // The factors are this scaling, worked out.
            "longrope" | "su" => {
                let list = |key| self.list(key, dims / 2);
                return self.long(dims, &list("short_factor")?, &list("long_factor")?);
            }
            "llama3" if factors.is_some() => (Frequencies::Fixed(plain), 1.0),
            "llama3" => (Frequencies::Fixed(self.llama3(plain)?), 1.0),
            "yarn" => (Frequencies::Fixed(self.yarn(theta, dims, plain)?), self.yarn_scale()? as f32),
            kind => {
                return Err(self.c.unknown(
                    "rope_parameters.rope_type",
                    kind,
                    &["default", "linear", "dynamic", "llama3", "yarn", "longrope"],
                ));
            }
        };
        match (&mut frequencies, factors) {
            (_, None) => {}
            (Frequencies::Fixed(all), Some(f)) => all.iter_mut().zip(f).for_each(|(w, f)| *w /= f64::from(f)),
            (_, Some(_)) => {
                return Err(self.c.bad("rope_freqs.weight", "frequencies that depend on the length take no factors"));
            }
        }
        Ok(Rope { frequencies, scale })
    }

    /// LongRoPE (arXiv 2402.13753): a divisor for each frequency, by whether the sequence is longer than the original
    /// context; cosines and sines grow with the ratio of the contexts.
    fn long(&self, dims: usize, short: &[f32], long: &[f32]) -> Result<Rope> {
        let theta = self.theta.or(self.positive("rope_theta")?).unwrap_or(10_000.0);
        let original = self.original()?;
        let plain = default_frequencies(theta, dims);
        let divided = |by: &[f32]| plain.iter().zip(by).map(|(w, f)| w / f64::from(*f)).collect();
        let factor = self.positive("factor")?.unwrap_or(self.c.max_positions()? as f64 / original);
        let grown = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original.ln()).sqrt() };
        let scale = self.number("attention_factor")?.unwrap_or(grown) as f32;
        let original = original as u32; // a size, below 2^28
        Ok(Rope { frequencies: Frequencies::Long { short: divided(short), long: divided(long), original }, scale })
    }

    /// A list of `n` positive numbers.
    fn list(&self, key: &str, n: usize) -> Result<Vec<f32>> {
        let bad = || self.c.bad(&format!("rope_parameters.{key}"), format!("expected {n} positive numbers"));
        let list = self.keys.get(key).and_then(Value::as_array).filter(|l| l.len() == n).ok_or_else(bad)?;
        let one = |v: &Value| v.as_f64().map(|f| f as f32).filter(|f| *f > 0.0 && f.is_finite());
        list.iter().map(one).collect::<Option<_>>().ok_or_else(bad)
    }

    fn dynamic(&self, theta: f64, dims: usize) -> Result<Frequencies> {
        if dims <= 2 {
            return Err(self.c.bad("head_dim", "dynamic rope needs more than 2 rotary columns"));
        }
        let max_position =
            u32::try_from(self.c.max_positions()?).map_err(|_| self.c.bad("max_position_embeddings", "too large"))?;
        Ok(Frequencies::Dynamic { theta, dims, max_position, factor: self.factor()? })
    }

    /// Llama 3.1: long wavelengths stretched by the factor, short ones kept, a ramp between.
    fn llama3(&self, plain: Vec<f64>) -> Result<Vec<f64>> {
        let factor = self.factor()?;
        let low = self.need("low_freq_factor")?;
        let high = self.need("high_freq_factor")?;
        let original = self.original()?;
        if high <= low {
            return Err(self.c.bad(
                "rope_parameters.high_freq_factor",
                format!("expected more than low_freq_factor = {low}, got {high}"),
            ));
        }
        let scaled = |w: f64| {
            let turns = original * w / (2.0 * PI);
            if turns > high {
                w
            } else if turns < low {
                w / factor
            } else {
                let smooth = (turns - low) / (high - low);
                (1.0 - smooth) * w / factor + smooth * w
            }
        };
        Ok(plain.into_iter().map(scaled).collect())
    }

    /// YaRN: a ramp over dimensions from kept to stretched frequencies.
    fn yarn(&self, theta: f64, dims: usize, plain: Vec<f64>) -> Result<Vec<f64>> {
        let factor = self.factor()?;
        let original = self.original()?;
        // Absent, null and 0 all mean the default.
        let beta = |key: &str, default: f64| self.number(key).map(|b| b.filter(|b| *b != 0.0).unwrap_or(default));
        let dimension = |turns: f64| dims as f64 * (original / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln());
        let mut low = dimension(beta("beta_fast", 32.0)?);
        let mut high = dimension(beta("beta_slow", 1.0)?);
        if self.truncate()? {
            (low, high) = (low.floor(), high.ceil());
        }
        low = low.max(0.0);
        high = high.min(dims as f64 - 1.0);
        if !(low.is_finite() && high.is_finite()) {
            return Err(self.c.bad("rope_parameters", "beta_fast, beta_slow or rope_theta give no finite range"));
        }
        if low == high {
            high += 0.001;
        }
        let blend = |(i, w): (usize, f64)| {
            let stretched = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
            w / factor * stretched + w * (1.0 - stretched)
        };
        Ok(plain.into_iter().enumerate().map(blend).collect())
    }

    /// The factor on cosines and sines.
    fn yarn_scale(&self) -> Result<f64> {
        if let Some(f) = self.number("attention_factor")? {
            return Ok(f);
        }
        let factor = self.factor()?;
        let weight = |key| self.number(key).map(|w| w.filter(|w| *w != 0.0));
        Ok(match (weight("mscale")?, weight("mscale_all_dim")?) {
            (Some(m), Some(all)) => mscale(factor, m) / mscale(factor, all),
            _ => mscale(factor, 1.0),
        })
    }

    fn truncate(&self) -> Result<bool> {
        match self.keys.get("truncate") {
            None | Some(Value::Null) => Ok(true),
            Some(Value::Bool(b)) => Ok(*b),
            Some(v) => Err(self.c.bad("rope_parameters.truncate", format!("expected true or false, got {}", shown(v)))),
        }
    }

    /// `factor`; absent or null, the ratio of the context to the original one.
    fn factor(&self) -> Result<f64> {
        match self.positive("factor")? {
            Some(f) => Ok(f),
            None if self.kind == "yarn" => Ok(self.c.max_positions()? as f64 / self.original()?),
            None => Err(self.c.bad("rope_parameters.factor", format!("absent, and rope type {} needs it", self.kind))),
        }
    }

    /// The context that the model was first trained at; a key beside `rope_parameters` counts before one within.
    fn original(&self) -> Result<f64> {
        if let Some(n) = self.c.size_opt("original_max_position_embeddings")? {
            return Ok(n as f64);
        }
        match self.positive("original_max_position_embeddings")? {
            Some(n) => Ok(n),
            None => Ok(self.c.max_positions()? as f64),
        }
    }

    fn need(&self, key: &str) -> Result<f64> {
        self.number(key)?.ok_or_else(|| {
            self.c.bad(&format!("rope_parameters.{key}"), format!("absent, and rope type {} needs it", self.kind))
        })
    }

    fn positive(&self, key: &str) -> Result<Option<f64>> {
        match self.number(key)? {
            Some(n) if n <= 0.0 => {
                Err(self.c.bad(&format!("rope_parameters.{key}"), format!("expected a positive number, got {n}")))
            }
            n => Ok(n),
        }
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        match self.keys.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(v) => match v.as_f64().filter(|f| f.is_finite()) {
                Some(f) => Ok(Some(f)),
                None => {
                    Err(self.c.bad(&format!("rope_parameters.{key}"), format!("expected a number, got {}", shown(v))))
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn factors_of_a_gguf_file_divide_what_every_scaling_finds() {
        let frequencies = |rope: Value, factors: Option<Vec<f32>>| {
            let c = json!({"model_type": "llama", "max_position_embeddings": 64, "rope_parameters": rope});
            let c = Config::from_value(&c).unwrap();
            let found = Parameters::read(&c, "full_attention").and_then(|r| r.rope(8, factors))?;
            Ok::<_, crate::Error>(match found.frequencies {
                Frequencies::Fixed(all) => all,
                other => panic!("{other:?}"),
            })
        };
        let factors = vec![1.0f32, 2.0, 4.0, 8.0];
        for rope in [
            json!({"rope_type": "default"}),
            json!({"rope_type": "linear", "factor": 3.0}),
            json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}),
        ] {
            let alone = frequencies(rope.clone(), None).unwrap();
            let both = frequencies(rope.clone(), Some(factors.clone())).unwrap();
            let want: Vec<f64> = alone.iter().zip(&factors).map(|(w, f)| w / f64::from(*f)).collect();
            assert_eq!(both, want, "{rope}");
        }
        let e = frequencies(json!({"rope_type": "dynamic", "factor": 2.0}), Some(factors)).unwrap_err();
        assert_eq!(e.item(), "rope_freqs.weight");
    }
}
