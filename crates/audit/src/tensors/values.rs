//! Single tensors: values that are no numbers, zeros where weights should be, values and scales far from all others.
//!
//! Owns what is held for odd in one tensor. The margins are wide: models that were trained have weights a thousand times the
//! usual ones, and tables that are no weights.
use super::{
    Seen, Set,
    statistics::{Statistics, is_codes, median_magnitude},
};
use crate::findings::{ALL_ZERO, Findings, NON_FINITE, ODD_SCALE, OUTLIER_VALUE, Severity};
use pondera_quant::Format;
use pondera_weights::{TensorInfo, Weights};

/// Times the usual magnitude from which a value or scale is named: 2^14.
const MARGIN: f32 = 16384.0;
/// Values below this are named never, however small the others are.
const VALUE_MIN: f32 = 64.0;
/// Beyond this a half is infinite: who runs the model in F16 gets no numbers.
const HALF_MAX: f32 = 65504.0;
/// No weight that was trained is larger, whatever is usual.
const WEIGHT_MAX: f32 = 1e6;
/// From this share of zero blocks on they are worth knowing of.
const ZERO_BLOCKS: f64 = 0.25;
/// From this share of zeros on they are worth knowing of.
const ZEROS: f64 = 0.9;
/// Smaller tensors have no share of zeros that says anything.
const ZEROS_ELEMENTS_MIN: usize = 4096;

/// Suffixes of scales that quantization tools store beside their codes, and those of the codes.
const SCALES: &[(&str, &[&str])] = &[
    (".weight_scale_inv", &[".weight"]),
    (".weight_scale", &[".weight", ".weight_packed"]),
    (".weight_scale_2", &[".weight"]),
    ("_scale_inv", &[""]),
    (".scales", &[".qweight", ".blocks"]),
    ("_scales", &["_blocks"]),
];

/// Whether a tensor is the scales of another, whose codes lie in the same set.
pub(super) fn is_scale(w: &Weights, name: &str) -> bool {
    SCALES.iter().any(|(suffix, codes)| {
        let Some(base) = name.strip_suffix(suffix) else { return false };
        let coded = |t: &TensorInfo| is_codes(t.format) || matches!(t.format, Format::F8E4M3 | Format::F8E5M2);
        codes.iter().any(|c| w.info(&format!("{base}{c}")).is_some_and(coded))
    })
}

/// The format that a tensor's bytes are read as: scales of MXFP4 are exponents in bytes.
pub(super) fn read_as(w: &Weights, t: &TensorInfo) -> Format {
    if t.format == Format::U8 && is_scale(w, &t.name) { Format::F8E8M0 } else { t.format }
}

/// Tables that are no weights: infinities and huge numbers are what they are made of.
fn is_table(name: &str) -> bool {
    ["mask", "rope_freqs", "rope_factors", "rotary", "inv_freq"].iter().any(|part| name.contains(part))
}

pub(super) fn look(set: &Set<'_>, seen: &[Seen<'_>], findings: &mut Findings) {
    for s in seen.iter().filter(|s| !is_codes(s.view.format)) {
        non_finite(set, s, findings);
        zeros(set, s, findings);
        outlier(set, s, findings);
        scales(set, s, findings);
    }
}

fn non_finite(set: &Set<'_>, s: &Seen<'_>, findings: &mut Findings) {
    let stats = &s.stats;
    let severity = if is_table(&s.info.name) { Severity::Info } else { Severity::Medium };
    let info = s.view.format.info();
    if let Some(scales) = stats.scales.filter(|sc| sc.non_finite > 0) {
        let first = scales.first_non_finite.unwrap_or(0);
        let what = format!(
            "{} of {} blocks have a scale that is no number; the first is block {first}",
            scales.non_finite, scales.blocks
        );
        set.add_tensor(findings, (NON_FINITE, severity), s.info, first * info.bytes, what);
    } else if stats.non_finite > 0 {
        let first = stats.first_non_finite.unwrap_or(0);
        let at = first / info.block * info.bytes;
        let what =
            format!("{} of {} values are not finite; the first is at index {first}", stats.non_finite, stats.seen);
        set.add_tensor(findings, (NON_FINITE, severity), s.info, at, what);
    }
}

fn zeros(set: &Set<'_>, s: &Seen<'_>, findings: &mut Findings) {
    let (stats, name) = (&s.stats, &*s.info.name);
    let matrix = s.info.shape.iter().filter(|d| **d > 1).count() > 1;
    // Biases begin at zero, and many stay there; so does the second matrix of an adapter.
    if stats.seen <= 1 || name.ends_with("bias") || is_table(name) {
        return;
    }
    let mut add = |severity, what| set.add_tensor(findings, (ALL_ZERO, severity), s.info, 0, what);
    if stats.zeros == stats.seen {
        let expected = !matrix || name.contains("lora_");
        let severity = if expected { Severity::Info } else { Severity::Low };
        return add(severity, format!("all {} values are zero", stats.elements));
    }
    match stats.scales {
        Some(sc) if sc.zero_blocks as f64 >= ZERO_BLOCKS * sc.blocks as f64 && sc.blocks > 1 => {
            add(Severity::Info, format!("{} of {} blocks are zero", sc.zero_blocks, sc.blocks));
        }
        _ if matrix && stats.seen >= ZEROS_ELEMENTS_MIN && stats.share_of_zeros() >= ZEROS => {
            add(Severity::Info, format!("{} of {} values are zero", stats.zeros, stats.seen));
        }
        _ => {}
    }
}

/// The factor between a value and the usual one, as people read it.
fn times(value: f32, usual: f32) -> String {
    format!("{:.0} times the usual {usual:.3e}", f64::from(value) / f64::from(usual))
}

fn outlier(set: &Set<'_>, s: &Seen<'_>, findings: &mut Findings) {
    let Statistics { abs_max, abs_max_at, usual, .. } = s.stats;
    let far = usual > 0.0 && abs_max >= MARGIN * usual && abs_max >= VALUE_MIN;
    if is_table(&s.info.name) || is_scale(set.weights, &s.info.name) || !(far || abs_max > WEIGHT_MAX) {
        return;
    }
    let severity = if far && abs_max > HALF_MAX { Severity::Medium } else { Severity::Low };
    let info = s.view.format.info();
    let what = format!("the value at index {abs_max_at} is {abs_max:.4e} in magnitude, {}", times(abs_max, usual));
    set.add_tensor(findings, (OUTLIER_VALUE, severity), s.info, abs_max_at / info.block * info.bytes, what);
}

fn scales(set: &Set<'_>, s: &Seen<'_>, findings: &mut Findings) {
    let mut add = |at: usize, what: String| {
        set.add_tensor(findings, (ODD_SCALE, Severity::Low), s.info, at, what);
    };
    let info = s.view.format.info();
    if let Some(sc) = s.stats.scales {
        if sc.usual > 0.0 && sc.abs_max >= MARGIN * sc.usual && sc.abs_max >= 1.0 {
            let what =
                format!("the scale of block {} is {:.4e}, {}", sc.abs_max_at, sc.abs_max, times(sc.abs_max, sc.usual));
            add(sc.abs_max_at * info.bytes, what);
        }
        return;
    }
    if !is_scale(set.weights, &s.info.name) {
        return;
    }
    let (stats, usual) = (&s.stats, median_magnitude(&s.view));
    if usual > 0.0 && stats.abs_max >= MARGIN * usual && stats.abs_max >= 1.0 {
        let what = format!(
            "the scale at index {} is {:.4e}, {}",
            stats.abs_max_at,
            stats.abs_max,
            times(stats.abs_max, usual)
        );
        add(stats.abs_max_at * info.bytes, what);
    }
    // Packed integers may turn a group round; floats have signs of their own.
    let float = ["_inv", "weight_scale", "weight_scale_2"].iter().any(|e| s.info.name.ends_with(e));
    if float && stats.min < 0.0 {
        add(0, format!("scales are negative, down to {:.4e}", stats.min));
    }
}
