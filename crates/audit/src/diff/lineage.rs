//! What B is to A, with the reasons: a verdict over the figures of all weights.
//!
//! Owns: the kinds of descent and their thresholds. Measures nothing itself.
use super::{
    MergeFit, Report, Status, TensorDiff,
    moments::{Moments, Third},
};
use serde::Serialize;
use std::collections::BTreeMap;

/// Cosines below this are those of models that have nothing in common.
pub(super) const UNLIKE: f64 = 0.1;
/// A change below this is what fine-tuning leaves; above it, longer training.
const TUNED: f64 = 0.05;
/// From this cosine on one model descends from the other, or both from one.
const RELATED: f64 = 0.5;
/// Share of the weights that decides.
const MOST: f64 = 0.8;
/// What a combination of two models may leave of the difference.
const LEFT: f64 = 0.05;

/// Kinds of descent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lineage {
    /// The same bytes.
    Identical,
    /// The same values, in other types or layouts.
    SameValues,
    /// The same weights with the noise of another type.
    Requantized,
    /// With a difference of low rank merged into it.
    AdapterMerged,
    /// Trained a little further.
    FineTuned,
    /// Trained much further.
    ContinuedPretraining,
    /// A combination of models, or of the layers of one.
    Merged,
    /// With layers left out.
    Pruned,
    /// In part alike.
    PartlyRelated,
    /// Of the same shape, with nothing in common.
    Unrelated,
    /// Of another shape.
    #[default]
    DifferentArchitecture,
}

impl Lineage {
    /// In words.
    pub fn title(self) -> &'static str {
        match self {
            Lineage::Identical => "identical weights",
            Lineage::SameValues => "the same values, stored otherwise",
            Lineage::Requantized => "the same weights in another type",
            Lineage::AdapterMerged => "an adapter was merged",
            Lineage::FineTuned => "fine-tuned",
            Lineage::ContinuedPretraining => "continued pre-training",
            Lineage::Merged => "a merge",
            Lineage::Pruned => "layers were left out",
            Lineage::PartlyRelated => "related in part",
            Lineage::Unrelated => "unrelated",
            Lineage::DifferentArchitecture => "different architectures",
        }
    }
}

/// A combination of two models.
#[derive(Clone, Debug, Serialize)]
pub struct Merge {
    /// `linear` (x + y = 1), `slerp`, `combination`, `with_unrelated`, `layers`.
    pub kind: &'static str,
    /// How much of A, over all weights.
    pub x: Option<f64>,
    /// How much of the third.
    pub y: Option<f64>,
    /// Least and greatest `y` of a layer.
    pub y_range: Option<[f64; 2]>,
    /// What is left over, as a share of the difference.
    pub residual: Option<f64>,
}

/// What B is to A.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// The kind.
    pub lineage: Lineage,
    /// A sentence.
    pub summary: String,
    /// Why, in figures.
    pub reasons: Vec<String>,
    /// The adapter's rank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    /// The merge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge: Option<Merge>,
}

impl Verdict {
    fn new(lineage: Lineage, reasons: Vec<String>) -> Verdict {
        Verdict { lineage, summary: lineage.title().into(), reasons, rank: None, merge: None }
    }
}

/// Least squares `b - a ≈ p · a + t · (c - a)`; none where the third is no other model than A.
pub(super) fn fit(m: &Moments, third: &Third) -> Option<MergeFit> {
    let (aa, au, uu, ad, ud) = (m.aa, third.au, third.uu, m.ad, third.ud);
    if uu <= 0.0 || m.dd <= 0.0 {
        return None;
    }
    let det = aa * uu - au * au;
    // Where A and C are multiples of each other, only the way between them counts.
    let (p, t) = match det > 1e-12 * aa * uu {
        true => ((ad * uu - ud * au) / det, (aa * ud - au * ad) / det),
        false => (0.0, ud / uu),
    };
    let left = (m.dd - p * ad - t * ud).max(0.0);
    // A straight line that fits as well is the simpler answer.
    let straight = (m.dd - ud * ud / uu).max(0.0);
    let (p, t, left) = if straight <= left * 1.1 + 1e-10 * m.dd { (0.0, ud / uu, straight) } else { (p, t, left) };
    let (x, y) = (1.0 + p - t, t);
    Some(MergeFit { x, y, residual: (left / m.dd).sqrt(), slerp: slerp(x, y, m.aa, third), left, apart: third.bc })
}

/// The place between A and C where spherical interpolation has these weights of both, if it has.
fn slerp(x: f64, y: f64, aa: f64, third: &Third) -> Option<f64> {
    let cosine = third.ac / (aa.sqrt() * third.cc.sqrt());
    let angle = cosine.clamp(-1.0, 1.0).acos();
    if !(0.05..3.0).contains(&angle) || x < 0.0 || y < 0.0 {
        return None;
    }
    let at = (y * angle.sin()).atan2(x + y * angle.cos()) / angle;
    let (wx, wy) = (((1.0 - at) * angle).sin() / angle.sin(), (at * angle).sin() / angle.sin());
    ((wx - x).abs() < 0.02 && (wy - y).abs() < 0.02).then_some(at)
}

/// Elements by what their weights say.
struct Shares {
    by: BTreeMap<u8, u64>,
    all: u64,
}

impl Shares {
    fn of<'a>(tensors: impl Iterator<Item = &'a TensorDiff>) -> Shares {
        let (mut by, mut all) = (BTreeMap::new(), 0);
        for t in tensors {
            *by.entry(t.status as u8).or_default() += t.elements.max(1);
            all += t.elements.max(1);
        }
        Shares { by, all }
    }

    fn count(&self, statuses: &[Status]) -> u64 {
        statuses.iter().filter_map(|s| self.by.get(&(*s as u8))).sum()
    }

    fn share(&self, statuses: &[Status]) -> f64 {
        self.count(statuses) as f64 / self.all.max(1) as f64
    }
}

pub(super) fn verdict(r: &Report) -> Verdict {
    use Status::{Dense, Equal, Identical, LowRank, Storage, Unrelated};
    let paired = || r.tensors.iter().filter(|t| t.status != Status::Shape);
    let elements: u64 = paired().map(|t| t.elements).sum();
    let least = r.a.parameters.min(r.b.parameters);
    if least == 0 || (elements as f64) < 0.5 * least as f64 {
        return strangers(r, elements, least);
    }
    let mut notes = additions(r);
    let all = Shares::of(paired());
    let mut found = if let Some(v) = layers(r) {
        v
    } else if all.share(&[Identical]) == 1.0 {
        Verdict::new(Lineage::Identical, vec![format!("all {} weights have the same bytes", paired().count())])
    } else if all.share(&[Identical, Equal]) == 1.0 {
        let what = format!("all {elements} values are equal; stored as {}", types(r));
        Verdict::new(Lineage::SameValues, vec![what])
    } else if all.share(&[Identical, Equal, Storage]) == 1.0 {
        requantized(r)
    } else if let Some(v) = merged(r) {
        v
    } else {
        let matrices = Shares::of(paired().filter(|t| !t.is_vector));
        let changed = matrices.count(&[LowRank, Dense, Unrelated, Storage]);
        let unlike = matrices.count(&[Unrelated]) as f64 / changed.max(1) as f64;
        // A few rows of an embedding may be trained beside an adapter.
        let dense = paired().filter(|t| t.status == Dense && t.differing_rows * 20 > rows(t));
        let beside: u64 = dense.filter(|t| !t.is_vector).map(|t| t.elements).sum();
        let low = all.count(&[LowRank]);
        if unlike >= MOST {
            unrelated(r)
        } else if low > 0 && beside as f64 <= 0.1 * low as f64 && matrices.count(&[Unrelated]) == 0 {
            adapter(r)
        } else if let Some(v) = diluted(r) {
            v
        } else {
            trained(r, &matrices)
        }
    };
    if r.with.is_some() && found.merge.is_none() && !matches!(found.lineage, Lineage::Identical) {
        notes.push(not_combined(r));
    }
    found.reasons.append(&mut notes);
    found
}

fn rows(t: &TensorDiff) -> u64 {
    let inp = t.b.shape.last().copied().unwrap_or(1).max(1) as u64;
    if t.b.shape.len() == 1 { 1 } else { t.elements / inp }
}

fn percent(v: Option<f64>) -> String {
    v.map_or("beyond any".into(), |v| format!("{} %", significant(v * 100.0)))
}

/// Three digits.
fn significant(v: f64) -> String {
    match v.abs() {
        0.0 => "0".into(),
        a if a >= 100.0 => format!("{v:.0}"),
        a if a >= 10.0 => format!("{v:.1}"),
        a if a >= 1.0 => format!("{v:.2}"),
        a if a >= 0.001 => format!("{v:.4}"),
        _ => format!("{v:.1e}"),
    }
}

fn cosine(v: Option<f64>) -> String {
    v.map_or("none".into(), |v| format!("{v:.6}"))
}

/// `BF16 and F32 in A, Q4_K in B`.
fn types(r: &Report) -> String {
    let of = |t: &[(&str, u64)]| t.iter().map(|t| t.0).take(4).collect::<Vec<_>>().join(", ");
    format!("{} in A, {} in B", of(&r.a.types), of(&r.b.types))
}

fn figures(r: &Report) -> String {
    format!("the difference is {} of A's norm, the cosine {}", percent(r.relative_norm), cosine(r.cosine))
}

/// What stands beside the lineage: rows added, weights that only one has, what is no number.
fn additions(r: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    for t in r.tensors.iter().filter(|t| t.rows_only != [0, 0]) {
        let [a, b] = t.rows_only;
        let text = match (a, b) {
            (0, b) => format!("{}: B has {b} more rows", t.name),
            (a, 0) => format!("{}: A has {a} more rows", t.name),
            (a, b) => format!("{}: {a} rows only in A, {b} only in B", t.name),
        };
        notes.push(text);
    }
    let names = |only: &[super::Stored]| only.iter().take(3).map(|s| s.name.clone()).collect::<Vec<_>>().join(", ");
    for (only, which) in [(&r.only_in_a, "A"), (&r.only_in_b, "B")] {
        if !only.is_empty() {
            let more = if only.len() > 3 { ", …" } else { "" };
            notes.push(format!("{} weights only in {which}: {}{more}", only.len(), names(only)));
        }
    }
    let odd: u64 = r.tensors.iter().map(|t| t.nonfinite[0] + t.nonfinite[1]).sum();
    if odd > 0 {
        let t = r.tensors.iter().find(|t| t.nonfinite != [0, 0]);
        let first = t.map_or(String::new(), |t| format!(", first in {}", t.name));
        notes.push(format!("{odd} values are no numbers{first}"));
    }
    let shapes: Vec<&str> = r.tensors.iter().filter(|t| t.status == Status::Shape).map(|t| &*t.name).collect();
    if let Some(first) = shapes.first() {
        notes.push(format!("{} weights have other dimensions, first {first}", shapes.len()));
    }
    if let Some(t) = r.tensors.iter().find(|t| t.notes.iter().any(|n| n.starts_with("rows"))) {
        notes.push(format!("{}: {}", t.name, t.notes.join(", ")));
    }
    notes
}

fn strangers(r: &Report, elements: u64, least: u64) -> Verdict {
    let mut reasons =
        vec![format!("{elements} of {least} weights of the smaller model have a counterpart of their shape")];
    if r.a.family != r.b.family {
        let name = |f: Option<&'static str>| f.unwrap_or("no known family");
        reasons.insert(0, format!("A is {}, B is {}", name(r.a.family), name(r.b.family)));
    }
    for s in r.config.iter().filter(|s| s.a.is_u64() && s.b.is_u64()).take(6) {
        reasons.push(format!("{}: {} in A, {} in B", s.key, s.a, s.b));
    }
    if let Some(t) = r.tensors.iter().find(|t| t.status == Status::Shape) {
        reasons.push(format!("{}: {:?} in A, {:?} in B", t.name, t.a.shape, t.b.shape));
    }
    for side in [&r.a, &r.b] {
        reasons.extend(side.note.as_ref().map(|n| format!("{}: {n}", side.name)));
    }
    Verdict::new(Lineage::DifferentArchitecture, reasons)
}

fn requantized(r: &Report) -> Verdict {
    let noisy: Vec<&TensorDiff> = r.tensors.iter().filter(|t| t.status == Status::Storage).collect();
    let mut pairs: BTreeMap<(&str, &str), (usize, f64, f64, f64)> = BTreeMap::new();
    for t in &noisy {
        let p = pairs.entry((t.a.format, t.b.format)).or_default();
        let expected = t.expected_noise.map_or(t.expected_energy, |n| (n * t.norm_a).powi(2));
        *p = (p.0 + 1, p.1 + t.norm_difference.powi(2), p.2 + expected, p.3 + t.norm_a.powi(2));
    }
    let mut reasons: Vec<String> = pairs
        .iter()
        .map(|((a, b), (n, dd, expected, aa))| {
            let share = |e: f64| percent((*aa > 0.0).then(|| (e / aa).sqrt()));
            let weights = if *n == 1 { "weight" } else { "weights" };
            format!(
                "{n} {weights} {a} to {b}: {} of the norm, where these types cost about {}",
                share(*dd),
                share(*expected)
            )
        })
        .collect();
    let ranked: Vec<_> = noisy.iter().filter_map(|t| t.rank.as_ref()).collect();
    if !ranked.is_empty() {
        let share =
            ranked.iter().map(|r| r.effective_rank / r.full_rank.max(1) as f64).sum::<f64>() / ranked.len() as f64;
        let top = ranked.iter().map(|r| r.share).fold(0.0, f64::max);
        reasons.push(format!(
            "the differences go in all directions: effective rank {:.0} % of the full one on average, at most {:.0} % of \
             the energy in single directions",
            share * 100.0,
            top * 100.0
        ));
    }
    reasons.push(figures(r));
    if noisy.iter().any(|t| t.expected_noise.is_some()) {
        reasons.push("a change smaller than this noise could not be seen".into());
    }
    let mut v = Verdict::new(Lineage::Requantized, reasons);
    if let Some((a, b)) = pairs.iter().max_by_key(|p| p.1.0).map(|p| p.0) {
        v.summary = format!("the same weights in another type: {a} in A, {b} in B");
    }
    v
}

fn adapter(r: &Report) -> Verdict {
    let low: Vec<(&TensorDiff, &super::RankFacts)> =
        r.tensors.iter().filter(|t| t.status == Status::LowRank).filter_map(|t| Some((t, t.rank.as_ref()?))).collect();
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    low.iter().for_each(|(_, r)| *counts.entry(r.rank).or_default() += 1);
    let rank = counts.iter().max_by_key(|c| (c.1, c.0)).map_or(0, |c| *c.0);
    let (least, most) = (counts.keys().next().copied().unwrap_or(0), counts.keys().last().copied().unwrap_or(0));
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    low.iter().for_each(|(t, _)| *kinds.entry(&t.kind).or_default() += 1);
    let kinds: Vec<String> = kinds.iter().map(|(k, n)| format!("{k} ({n})")).collect();
    let held = low.iter().map(|(_, r)| r.share).fold(f64::INFINITY, f64::min);
    let mut reasons = vec![
        format!(
            "the difference of {} matrices is of low rank, of {rank} in {}",
            low.len(),
            counts.get(&rank).unwrap_or(&0)
        ),
        format!("they are {}", kinds.join(", ")),
        format!(
            "their leading directions hold at least {:.1} % of the difference; storage explains the rest",
            held * 100.0
        ),
    ];
    if least < most {
        reasons.push(format!("ranks from {least} to {most}: weak directions drown in the rounding of stored values"));
    }
    let others =
        r.tensors.iter().filter(|t| matches!(t.status, Status::Identical | Status::Equal | Status::Storage)).count();
    reasons.push(format!("{others} of the other {} weights are unchanged", r.tensors.len() - low.len()));
    reasons.push(figures(r));
    let mut v = Verdict::new(Lineage::AdapterMerged, reasons);
    v.rank = Some(rank);
    v.summary = format!(
        "an adapter of rank {rank} was merged into {}",
        kinds.len().to_string() + if kinds.len() == 1 { " kind of matrix" } else { " kinds of matrices" }
    );
    v
}

fn trained(r: &Report, matrices: &Shares) -> Verdict {
    use Status::{Equal, Identical, LowRank, Storage, Unrelated};
    let mut reasons = vec![figures(r)];
    let dense: Vec<&TensorDiff> = r.tensors.iter().filter(|t| t.status == Status::Dense).collect();
    let spread = dense
        .iter()
        .filter(|t| !t.is_vector)
        .filter_map(|t| t.rank.as_ref())
        .map(|r| r.effective_rank / r.full_rank.max(1) as f64);
    let (n, sum) = spread.fold((0usize, 0f64), |(n, s), v| (n + 1, s + v));
    if n > 0 {
        reasons.push(format!(
            "{n} matrices differ in many directions: effective rank {:.0} % of the full one on average",
            sum / n as f64 * 100.0
        ));
    }
    let frozen = matrices.share(&[Identical, Equal, Storage]);
    if frozen > 0.0 {
        reasons
            .push(format!("{:.0} % of the weights in matrices are unchanged: they were not trained", frozen * 100.0));
    }
    if matrices.count(&[LowRank]) > 0 {
        reasons.push(format!("{:.0} % changed by a low rank", matrices.share(&[LowRank]) * 100.0));
    }
    let scaled =
        dense.iter().filter(|t| t.cosine.is_some_and(|c| c > 0.99999) && t.relative_norm.is_some_and(|n| n > 0.01));
    let scaled = scaled.count();
    if scaled > 0 {
        reasons.push(format!("{scaled} weights are multiples of A's: some families' files hold factors multiplied in"));
    }
    if scaled * 2 > dense.len() {
        let mut v = Verdict::new(Lineage::PartlyRelated, reasons);
        v.summary = "related: most weights that differ are multiples of A's".into();
        return v;
    }
    let related = r.cosine.is_some_and(|c| c >= RELATED);
    let unlike = matrices.share(&[Unrelated]);
    if unlike > 0.0 {
        reasons.push(format!("{:.0} % have nothing in common: they were made anew", unlike * 100.0));
    }
    if !related || unlike > 1.0 - MOST {
        return Verdict::new(Lineage::PartlyRelated, reasons);
    }
    let small = r.relative_norm.is_some_and(|n| n <= TUNED);
    reasons.push(match small {
        true => format!("below {:.0} %: as fine-tuning leaves it", TUNED * 100.0),
        false => format!("above {:.0} %: as long training leaves it", TUNED * 100.0),
    });
    Verdict::new(if small { Lineage::FineTuned } else { Lineage::ContinuedPretraining }, reasons)
}

fn unrelated(r: &Report) -> Verdict {
    let cosines = r.tensors.iter().filter(|t| !t.is_vector).filter_map(|t| t.cosine).map(f64::abs);
    let most = cosines.fold(0.0, f64::max);
    let reasons = vec![
        "all dimensions agree, but the values have nothing in common".into(),
        format!("the greatest cosine of a pair of matrices is {most:.4}, of all together {}", cosine(r.cosine)),
    ];
    Verdict::new(Lineage::Unrelated, reasons)
}

/// Layers of A that stand in B in another order, more than once, or not at all.
fn layers(r: &Report) -> Option<Verdict> {
    let map = r.layer_map.as_ref()?;
    let found: Vec<usize> = map.iter().flatten().copied().collect();
    if (found.len() as f64) < MOST * map.len() as f64 {
        return None;
    }
    // Runs of layers: 0-15, 8-23.
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for l in &found {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == *l => *end = *l,
            _ => runs.push((*l, *l)),
        }
    }
    let text: Vec<String> = runs.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") }).collect();
    let mut seen = found.clone();
    seen.sort_unstable();
    seen.dedup();
    let reasons = vec![
        format!("B's layers are these of A: {}", text.join(", ")),
        format!(
            "{} of A's {} layers stand in B, {} of them more than once",
            seen.len(),
            r.a.layers,
            found.len() - seen.len()
        ),
        figures(r),
    ];
    if r.b.layers < r.a.layers {
        let mut v = Verdict::new(Lineage::Pruned, reasons);
        v.summary = format!("{} of {} layers were left out", r.a.layers - r.b.layers, r.a.layers);
        return Some(v);
    }
    let mut v = Verdict::new(Lineage::Merged, reasons);
    v.summary = "a merge of layers: some of A's stand more than once".into();
    v.merge = Some(Merge { kind: "layers", x: None, y: None, y_range: None, residual: None });
    Some(v)
}

/// Whether B is a combination of A and the third model.
fn merged(r: &Report) -> Option<Verdict> {
    let third = r.with.as_ref()?;
    let fits: Vec<(&TensorDiff, MergeFit)> = r.tensors.iter().filter_map(|t| Some((t, t.merge?))).collect();
    let (mut left, mut all, mut storage, mut apart) = (0f64, 0f64, 0f64, 0f64);
    for (t, f) in &fits {
        left += f.left;
        all += t.norm_difference.powi(2);
        storage += t.expected_energy;
        apart += f.apart;
    }
    if all <= 0.0
        || apart <= 0.0
        || !(left <= LEFT * LEFT * all.min(apart) || left <= super::EXPLAINED * storage && all > 4.0 * left)
    {
        return None;
    }
    let mean = |f: fn(&MergeFit) -> f64, layer: Option<Option<usize>>| {
        let of = fits.iter().filter(|(t, _)| layer.is_none_or(|l| t.layer == l));
        let (sum, n) =
            of.fold((0.0, 0.0), |(s, n), (t, m)| (s + f(m) * t.norm_difference.powi(2), n + t.norm_difference.powi(2)));
        if n > 0.0 { sum / n } else { 0.0 }
    };
    let (x, y) = (mean(|m| m.x, None), mean(|m| m.y, None));
    let by_layer: Vec<f64> = {
        let layers: std::collections::BTreeSet<Option<usize>> = fits.iter().map(|f| f.0.layer).collect();
        layers.into_iter().map(|l| mean(|m| m.y, Some(l))).collect()
    };
    let range = [
        by_layer.iter().copied().fold(f64::INFINITY, f64::min),
        by_layer.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    ];
    let linear = fits.iter().filter(|(_, m)| (m.x + m.y - 1.0).abs() < 0.02).count();
    let spherical = fits.iter().filter(|(t, m)| !t.is_vector && m.slerp.is_some()).count();
    let matrices = fits.iter().filter(|(t, _)| !t.is_vector).count();
    let kind = if linear * 10 >= fits.len() * 9 {
        "linear"
    } else if matrices > 0 && spherical * 10 >= matrices * 9 {
        "slerp"
    } else {
        "combination"
    };
    let residual = (left / all).sqrt();
    let mut reasons = vec![
        format!("B = {x:.4} A + {y:.4} C by least squares over {} weights, C being {}", fits.len(), third.name),
        format!("it leaves {} of the difference", percent(Some(residual))),
    ];
    if range[1] - range[0] > 0.02 {
        reasons.push(format!("C's part goes from {:.3} to {:.3} by layer", range[0], range[1]));
    }
    if kind == "slerp" {
        let at = fits.iter().filter_map(|(t, m)| Some((m.slerp?, t.norm_difference.powi(2))));
        let (sum, n) = at.fold((0.0, 0.0), |(s, n), (v, w)| (s + v * w, n + w));
        reasons.push(format!(
            "the parts are those of spherical interpolation at {:.3}",
            if n > 0.0 { sum / n } else { 0.0 }
        ));
    }
    reasons.push(figures(r));
    let mut v = Verdict::new(Lineage::Merged, reasons);
    v.summary = match kind {
        "linear" => format!("a linear merge: {:.0} % A, {:.0} % {}", x * 100.0, y * 100.0, third.name),
        "slerp" => format!("a spherical merge of A and {}", third.name),
        _ => format!("a combination of A and {}", third.name),
    };
    v.merge = Some(Merge { kind, x: Some(x), y: Some(y), y_range: Some(range), residual: Some(residual) });
    Some(v)
}

fn not_combined(r: &Report) -> String {
    let fits = r.tensors.iter().filter_map(|t| Some((t, t.merge?)));
    let (left, all) = fits.fold((0.0, 0.0), |(l, a), (t, m)| (l + m.left, a + t.norm_difference.powi(2)));
    let name = r.with.as_ref().map_or("", |w| &w.name);
    match all > 0.0 {
        true => format!(
            "no combination of A and {name}: the best leaves {} of the difference",
            percent(Some(f64::sqrt(left / all)))
        ),
        false => format!("{name} shares no weights with both that differ"),
    }
}

/// Whether every matrix of B holds the same part of A, and the rest of it has nothing to do with A: a merge with a model
/// that is not related. Training does not do that.
fn diluted(r: &Report) -> Option<Verdict> {
    let dense: Vec<f64> = r
        .tensors
        .iter()
        .filter(|t| !t.is_vector && matches!(t.status, Status::Dense | Status::Unrelated))
        .filter(|t| t.elements >= 256)
        .filter_map(|t| t.projection)
        .collect();
    let matrices = r.tensors.iter().filter(|t| !t.is_vector && t.elements >= 256).count();
    if dense.len() < 6 || dense.len() * 10 < matrices * 9 {
        return None;
    }
    let n = dense.len() as f64;
    let mean = dense.iter().sum::<f64>() / n;
    let spread = (dense.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    // Chance alone spreads projections on small matrices.
    let least =
        r.tensors.iter().filter(|t| !t.is_vector && t.elements >= 256).map(|t| t.elements).min().unwrap_or(1) as f64;
    let chance = 1.0 / least.sqrt();
    if !(0.15..0.9).contains(&mean) || spread > 0.02 + chance || r.cosine.is_none_or(|c| c > 0.97) {
        return None;
    }
    let reasons = vec![
        format!(
            "every one of {} matrices holds {mean:.3} of A (spread {spread:.3}); the rest has nothing to do with A",
            dense.len()
        ),
        "training changes matrices by different amounts; averaging with a model of no relation does this".into(),
        figures(r),
        "name the other model with --with to test it".into(),
    ];
    let mut v = Verdict::new(Lineage::Merged, reasons);
    v.summary = format!("a merge of A ({:.0} %) with an unrelated model", mean * 100.0);
    v.merge = Some(Merge { kind: "with_unrelated", x: Some(mean), y: None, y_range: None, residual: None });
    Some(v)
}
