//! Indexes of sharded sets against what the shards hold.
//!
//! Owns the comparison of names: each tensor must be where the index says, and nowhere else. A reader that follows the index
//! and one that reads every shard must see the same model.
use crate::findings::{Findings, INDEX_MISMATCH, New, Severity, shown};
use pondera_weights::{Weights, index};
use std::{collections::HashMap, fs, path::Path};

/// Longest index that is read, as elsewhere.
const INDEX_MAX: u64 = 100_000_000;
/// Findings of one index; what is beyond is counted.
const LISTED_MAX: usize = 16;

pub(super) fn look(path: &Path, root: &Path, findings: &mut Findings) {
    // An index that is none has a finding of the scan's.
    let small = fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() <= INDEX_MAX);
    let Some(index) = small.then(|| fs::read(path).ok()).flatten().and_then(|b| index::parse(&b).ok()) else { return };
    let folder = path.parent().unwrap_or(Path::new(""));
    let shards: Vec<Option<Weights>> = index
        .files
        .iter()
        .map(|f| Some(folder.join(f)).filter(|p| p.is_file()).and_then(|p| Weights::open(p).ok()))
        .collect();
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (i, shard) in shards.iter().enumerate() {
        let Some(w) = shard else { continue };
        w.names().for_each(|name| places.entry(name).or_default().push(i));
    }
    let mut odd: Vec<(Severity, &str, String)> = Vec::new();
    for (i, file) in index.files.iter().enumerate().filter(|(i, _)| shards[*i].is_none()) {
        let n = index.tensors.iter().filter(|t| t.1 as usize == i).count();
        odd.push((
            Severity::Medium,
            file,
            format!("the shard is not there or cannot be read; {n} tensors should be in it"),
        ));
    }
    for (name, file) in &index.tensors {
        let file = *file as usize;
        if shards.get(file).is_none_or(Option::is_none) {
            continue;
        }
        let said = shown(&index.files[file]);
        match places.get(&**name) {
            None => odd.push((Severity::Medium, name, format!("the index says it is in {said}; it is in no shard"))),
            Some(p) if !p.contains(&file) => {
                let found = shown(&index.files[p[0]]);
                odd.push((Severity::Medium, name, format!("the index says it is in {said}; it is in {found}")));
            }
            _ => {}
        }
    }
    let mut names: Vec<_> = places.iter().collect();
    names.sort();
    for (name, p) in names {
        if p.len() > 1 {
            let bytes = |i: &usize| shards[*i].as_ref().and_then(|w| w.get(name).ok());
            let views: Vec<_> = p.iter().filter_map(bytes).collect();
            let one = |v: &pondera_quant::TensorView| (v.format, v.shape.clone());
            let equal =
                views.windows(2).all(|v| one(&v[0]) == one(&v[1]) && v[0].bytes.as_slice() == v[1].bytes.as_slice());
            let (severity, how) = if equal { (Severity::Low, "equal") } else { (Severity::Medium, "not equal") };
            let files: Vec<String> = p.iter().take(4).map(|i| shown(&index.files[*i])).collect();
            odd.push((severity, name, format!("{} shards hold it, and they are {how}: {}", p.len(), files.join(", "))));
        } else if index.file_of(name).is_none() {
            let file = shown(&index.files[p[0]]);
            odd.push((Severity::Low, name, format!("{file} holds it and the index does not name it")));
        }
    }
    odd.sort_by_key(|o| std::cmp::Reverse(o.0));
    let file = path.strip_prefix(root).ok().filter(|p| !p.as_os_str().is_empty()).unwrap_or(path).display().to_string();
    let more = odd.len().saturating_sub(LISTED_MAX);
    for (i, (severity, name, mut what)) in odd.into_iter().take(LISTED_MAX).enumerate() {
        if more > 0 && i + 1 == LISTED_MAX {
            what.push_str(&format!(" (and {more} more such)"));
        }
        findings.add(New { rule: INDEX_MISMATCH, severity, file: &file, what, offset: None, name: Some(name) });
    }
}
