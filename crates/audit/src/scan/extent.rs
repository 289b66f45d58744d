//! Bytes of a GGUF file that belong to no tensor: behind the last one, and between them.
//!
//! Owns what readers pass over. A safetensors file is refused by its reader where it has such bytes.
use crate::findings::{Findings, New, Severity, TRAILING};
use pondera_weights::Weights;
use std::path::Path;

/// Looks at the file `path`, whose bytes are `data`; findings call it `file`.
pub(super) fn look(w: &Weights, path: &Path, data: &[u8], file: &str, findings: &mut Findings) {
    let Some(gguf) = w.gguf() else { return };
    let mut ranges: Vec<(usize, usize)> =
        w.tensors().iter().filter(|t| w.path_of(t) == path).map(|t| (t.range.start, t.range.end)).collect();
    ranges.sort_unstable();
    // The metadata of a split set are those of its first file, which ends with its header where it holds no tensor.
    let own = w.files().count() == 1;
    let mut at = match ranges.first() {
        Some(first) if !own => first.0,
        _ if own => gguf.data_start().min(data.len()),
        _ => return,
    };
    ranges.push((data.len(), data.len()));
    let mut gaps = Vec::new();
    for (start, end) in ranges {
        if start > at {
            gaps.push((at, start));
        }
        at = at.max(end);
    }
    for (from, to) in gaps {
        let bytes = data.get(from..to).unwrap_or(&[]);
        let zero = bytes.iter().all(|b| *b == 0);
        let padding = bytes.len() < gguf.alignment().max(1);
        let last = to == data.len();
        let (severity, what) = match (last, padding, zero) {
            (_, true, true) => continue,
            (_, true, false) => (Severity::Low, format!("{} bytes of padding are not zero", bytes.len())),
            (true, false, _) => (Severity::Medium, format!("{} bytes lie behind the last tensor", bytes.len())),
            (false, false, true) => (Severity::Low, format!("{} bytes of nothing lie between tensors", bytes.len())),
            (false, false, false) => {
                (Severity::Medium, format!("{} bytes between tensors belong to none", bytes.len()))
            }
        };
        findings.add(New { rule: TRAILING, severity, file, what, offset: Some(from), name: None });
    }
}
