//! Tensors beside one another: exact copies that nothing declares, and layers unlike all others of their kind.
//!
//! Owns what counts as a kind and how far is far. Statistics tell candidates apart first; only equal ones are compared byte by
//! byte, each with few others.
use super::{Seen, Set, statistics::is_codes, values::is_scale};
use crate::findings::{DUPLICATE, Findings, OUTLIER_LAYER, Severity, shown};
use pondera_weights::TensorInfo;
use std::collections::HashMap;

/// Smaller tensors are equal by chance or by how they were filled.
const ELEMENTS_MIN: usize = 256;
/// Tensors of equal statistics and other bytes that one is compared with.
const COMPARED_MAX: usize = 4;
/// Pairs that a finding spells out.
const SHOWN_MAX: usize = 8;
/// A kind needs so many layers before one of them can be unlike the others.
const LAYERS_MIN: usize = 5;
/// Powers of two that a layer's root mean square may be from the median of its kind …
const OCTAVES: f64 = 5.0;
/// … and times what half of the layers differ from it.
const SPREADS: f64 = 16.0;

/// Tables that every layer may repeat.
const REPEATED: &[&str] =
    &["rotary", "inv_freq", "rope_", "mask", "attn.bias", "attention.bias", "position_ids", "slope"];

/// Whether copies of this tensor would say anything.
fn counts(s: &Seen<'_>) -> bool {
    let name = &*s.info.name;
    let codes = is_codes(s.view.format);
    let packed = ["qweight", "weight_packed", "weight", "blocks"].iter().any(|e| name.ends_with(e));
    s.stats.elements >= ELEMENTS_MIN
        && (codes || s.stats.min < s.stats.max)
        && (!codes || packed)
        && !REPEATED.iter().any(|part| name.contains(part))
}

/// The two ends of a model, which may share their matrix.
fn is_end(name: &str) -> bool {
    let ends =
        ["embed_tokens", "lm_head", "token_embd", "wte", "embed_in", "embed_out", "word_embeddings", "tok_embeddings"];
    ends.iter().any(|e| name.contains(e))
        || ["output.weight", "embeddings.weight", "shared.weight"].iter().any(|e| name.ends_with(e))
}

pub(super) fn duplicates(set: &Set<'_>, seen: &[Seen<'_>], findings: &mut Findings) {
    // Of each group of equal statistics, tensors that differ.
    let mut groups: HashMap<_, Vec<&Seen>> = HashMap::new();
    let mut pairs: Vec<(&TensorInfo, &TensorInfo)> = Vec::new();
    for s in seen.iter().filter(|s| counts(s)) {
        let st = &s.stats;
        let sums = (st.mean.to_bits(), st.rms.to_bits(), st.min.to_bits(), st.max.to_bits(), st.zeros, st.mark);
        let known = groups.entry((s.view.format, &s.info.shape, sums)).or_default();
        let same = |k: &&&Seen| k.view.bytes.as_slice() == s.view.bytes.as_slice();
        match known.iter().find(same) {
            // Tensors may share their bytes, as PyTorch's do.
            Some(k) if k.info.file == s.info.file && k.info.range == s.info.range => {}
            Some(k) => pairs.push((k.info, s.info)),
            None if known.len() < COMPARED_MAX => known.push(s),
            None => {}
        }
    }
    let (ends, copies): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(a, b)| is_end(&a.name) && is_end(&b.name));
    for (severity, pairs) in [(Severity::Low, copies), (Severity::Info, ends)] {
        let Some((_, first)) = pairs.first() else { continue };
        let list: Vec<String> =
            pairs.iter().take(SHOWN_MAX).map(|(a, b)| format!("{} = {}", shown(&b.name), shown(&a.name))).collect();
        let more = pairs.len().saturating_sub(SHOWN_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let bytes: usize = pairs.iter().map(|p| p.1.bytes()).sum();
        let what = format!(
            "{} ({bytes} bytes) hold what others hold: {}{more}",
            count(pairs.len(), "tensor"),
            list.join(", ")
        );
        set.add_tensor(findings, (DUPLICATE, severity), first, 0, what);
    }
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// A name without its numbers, which layers and experts of one kind share.
fn kind(name: &str) -> String {
    let parts: Vec<&str> =
        name.split('.').map(|p| if p.bytes().all(|b| b.is_ascii_digit()) { "*" } else { p }).collect();
    parts.join(".")
}

pub(super) fn layers(set: &Set<'_>, seen: &[Seen<'_>], findings: &mut Findings) {
    type Kind<'a> = (String, &'a [usize]);
    let mut kinds: HashMap<Kind<'_>, Vec<(&Seen, f64)>> = HashMap::new();
    for s in seen {
        let matrix = s.info.shape.iter().filter(|d| **d > 1).count() > 1;
        let rms = s.stats.rms;
        if matrix && s.stats.elements >= ELEMENTS_MIN && rms > 0.0 && rms.is_finite() && !is_codes(s.view.format) {
            let kind = kind(&s.info.name);
            if kind != *s.info.name && !is_scale(set.weights, &s.info.name) {
                kinds.entry((kind, &s.info.shape)).or_default().push((s, rms.log2()));
            }
        }
    }
    let mut kinds: Vec<_> = kinds.into_iter().filter(|k| k.1.len() >= LAYERS_MIN).collect();
    kinds.sort_by(|a, b| a.0.cmp(&b.0));
    for ((kind, _), members) in kinds {
        let median = median(members.iter().map(|m| m.1));
        let spread = self::median(members.iter().map(|m| (m.1 - median).abs()));
        for (s, rms) in members.iter().filter(|m| (m.1 - median).abs() > OCTAVES.max(SPREADS * spread)) {
            let what = format!(
                "its root mean square is {:.3e}, that of the {} tensors {} {:.3e} in the median",
                rms.exp2(),
                members.len(),
                shown(&kind),
                median.exp2()
            );
            set.add_tensor(findings, (OUTLIER_LAYER, Severity::Low), s.info, 0, what);
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut v: Vec<f64> = values.collect();
    let middle = v.len() / 2;
    if v.is_empty() { 0.0 } else { *v.select_nth_unstable_by(middle, f64::total_cmp).1 }
}
