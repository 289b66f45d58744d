//! Which weight of one model is which of the other.
//!
//! Owns: pairs by the names that formats share, by place where a format has no name of its own, layers that moved, rows
//! that belong to the same token. Does not own: names (`pondera-arch`), values.
use super::{
    open::{Entry, Side},
    values::{Values, likeness},
};
use pondera_text::Tokenizer;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

/// Layers whose best counterpart is less like them than this have none.
const LIKE_MIN: f64 = 0.5;
/// Most layers of models whose layers are matched by content: the work is the product of both numbers.
const LAYERS_MAX: usize = 512;

/// The pairs and what is left.
pub(super) struct Pairs {
    /// Indices into the entries of both, in the order of the second.
    pub pairs: Vec<(usize, usize)>,
    pub only_a: Vec<usize>,
    pub only_b: Vec<usize>,
}

/// Pairs of `a` and `b`; `layers` says which layer of `a` each layer of `b` is, where they are not the same.
pub(super) fn pairs(a: &Side, b: &Side, layers: Option<&[Option<usize>]>) -> Pairs {
    let layer = |e: &Entry| match (e.layer, layers) {
        (Some(l), Some(map)) => map.get(l).copied().flatten().map(Some),
        (l, _) => Some(l),
    };
    let known: HashMap<(Option<usize>, &str), usize> =
        a.entries.iter().enumerate().map(|(i, e)| ((e.layer, &*e.slot), i)).collect();
    let mut found: Vec<Option<usize>> = Vec::with_capacity(b.entries.len());
    // A layer of `a` may stand in `b` twice.
    for e in &b.entries {
        found.push(layer(e).and_then(|l| known.get(&(l, &*e.slot)).copied()));
    }
    if a.is_known() && b.is_known() {
        by_place(a, b, &layer, &mut found);
    }
    // What has a weight of its own in one model and none in the other is compared with what it shares there.
    let place = |s: &Side, key: &str| s.entries.iter().position(|e| e.key == key);
    for (key, shared) in &a.tied {
        if let Some(j) = place(b, key).filter(|j| found[*j].is_none()) {
            found[j] = Some(*shared);
        }
    }
    let mut pairs: Vec<(usize, usize)> = found.iter().enumerate().filter_map(|(j, i)| Some(((*i)?, j))).collect();
    let mut used: HashSet<usize> = pairs.iter().map(|p| p.0).collect();
    for (key, shared) in &b.tied {
        if let Some(i) = place(a, key).filter(|i| used.insert(*i)) {
            pairs.push((i, *shared));
        }
    }
    let only_a = (0..a.entries.len()).filter(|i| !used.contains(i)).collect();
    let only_b = found.iter().enumerate().filter(|(_, i)| i.is_none()).map(|(j, _)| j).collect();
    Pairs { pairs, only_a, only_b }
}

/// Pairs what names left over: within a layer the family names its weights in the same order whatever the files are.
fn by_place(a: &Side, b: &Side, layer: &dyn Fn(&Entry) -> Option<Option<usize>>, found: &mut [Option<usize>]) {
    let used: HashSet<usize> = found.iter().flatten().copied().collect();
    let mut left: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
    for (i, e) in a.entries.iter().enumerate().filter(|(i, _)| !used.contains(i)) {
        left.entry(e.layer).or_default().push(i);
    }
    let mut next: HashMap<Option<usize>, usize> = HashMap::new();
    for (j, e) in b.entries.iter().enumerate() {
        let Some(l) = layer(e).filter(|_| found[j].is_none()) else { continue };
        let Some(candidates) = left.get(&l) else { continue };
        let first = next.entry(l).or_default();
        let same = |i: &usize| {
            let x = &a.entries[*i];
            (x.groups.len(), x.out, x.inp) == (e.groups.len(), e.out, e.inp)
        };
        if let Some(at) = candidates[*first..].iter().position(same) {
            found[j] = Some(candidates[*first + at]);
            *first += at + 1;
        }
    }
}

/// Which layer of `a` each layer of `b` is like, where their numbers differ; none where their layers have nothing in common.
pub(super) fn moved_layers(a: &Side, b: &Side) -> Option<Vec<Option<usize>>> {
    let (na, nb) = (a.layers(), b.layers());
    if na == nb || na == 0 || nb == 0 || na.max(nb) > LAYERS_MAX {
        return None;
    }
    let slots = |s: &Side, l: usize| -> BTreeMap<String, usize> {
        let of = s.entries.iter().enumerate().filter(|(_, e)| e.layer == Some(l) && !e.is_vector());
        of.map(|(i, e)| (e.slot.clone(), i)).collect()
    };
    let (of_a, of_b): (Vec<_>, Vec<_>) =
        ((0..na).map(|l| slots(a, l)).collect(), (0..nb).map(|l| slots(b, l)).collect());
    let like = |la: usize, lb: usize| {
        let shared = of_b[lb].iter().filter_map(|(slot, j)| Some((*of_a[la].get(slot)?, *j)));
        let same = shared.filter(|(i, j)| {
            let (x, y) = (&a.entries[*i], &b.entries[*j]);
            (x.groups.len(), x.out, x.inp) == (y.groups.len(), y.out, y.inp)
        });
        // Two matrices of a layer tell it from the others.
        let cosines: Vec<f64> =
            same.take(2).map(|(i, j)| likeness(&Values::new(&a.entries[i]), &Values::new(&b.entries[j]))).collect();
        if cosines.is_empty() { 0.0 } else { cosines.iter().sum::<f64>() / cosines.len() as f64 }
    };
    let best = |lb: usize| {
        let of = (0..na).map(|la| (like(la, lb), la)).max_by(|x, y| x.0.total_cmp(&y.0))?;
        (of.0 >= LIKE_MIN).then_some(of.1)
    };
    let map: Vec<Option<usize>> = (0..nb).map(best).collect();
    map.iter().any(Option::is_some).then_some(map)
}

/// For each token that both vocabularies have, its row in either, where ids moved.
pub(super) struct Moved {
    pub a: Arc<[u32]>,
    pub b: Arc<[u32]>,
}

/// Rows by token; none where every token that both have keeps its id.
pub(super) fn moved_tokens(a: &Tokenizer, b: &Tokenizer) -> Option<Moved> {
    let size = |t: &Tokenizer| u32::try_from(t.vocab_size()).unwrap_or(u32::MAX);
    let ids: HashMap<Vec<u8>, u32> =
        (0..size(a)).rev().filter_map(|id| Some((a.token_bytes(id).filter(|t| !t.is_empty())?, id))).collect();
    let both = (0..size(b)).filter_map(|id| {
        let bytes = b.token_bytes(id)?;
        // The same text may be a token twice.
        let same = a.token_bytes(id).is_some_and(|t| t == bytes);
        Some((if same { id } else { *ids.get(&bytes)? }, id))
    });
    let both: Vec<(u32, u32)> = both.collect();
    if both.iter().all(|(x, y)| x == y) {
        return None;
    }
    let (a, b): (Vec<u32>, Vec<u32>) = both.into_iter().unzip();
    Some(Moved { a: a.into(), b: b.into() })
}

/// Whether a weight has a row per token.
pub(super) fn is_per_token(e: &Entry, side: &Side) -> bool {
    const NAMES: [&str; 6] = ["embed", "lm_head", "wte", "token_embd", "output.weight", "word_embeddings"];
    e.layer.is_none()
        && e.groups.len() == 1
        && e.inp > 1
        && side.vocab_size().is_some_and(|n| e.out.abs_diff(n) <= 4096.max(n / 8))
        && NAMES.iter().any(|n| e.key.contains(n))
}
