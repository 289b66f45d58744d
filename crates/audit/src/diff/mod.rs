//! Two models side by side, whatever formats they are stored in: configuration, words, every weight, and what that says
//! of where one comes from.
//!
//! Owns: what a difference is called and the figures behind it ([`diff`], [`Report`]), and its page ([`page`]).
//! Does not own: files (`pondera-weights`), formats (`pondera-quant`), names of weights (`pondera-arch`), vocabularies and
//! templates (`pondera-text`). Every element of both models is compared; memory is bounded by a piece of one weight.
mod lineage;
mod moments;
mod noise;
mod open;
mod page;
mod pairs;
mod rank;
mod settings;
mod values;
mod words;

pub use lineage::{Lineage, Merge, Verdict};
pub use open::{Side, SideFacts};
pub use page::page;
pub use settings::Setting;
pub use words::{TemplateDiff, TokenChange, TokenizerDiff};

use moments::{Moments, measure};
use noise::{Storage, expected, is_rounding};
use open::Entry;
use pairs::{Moved, Pairs, is_per_token, moved_layers, moved_tokens, pairs};
use serde::Serialize;
use std::{
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};
use values::{Values, aligned};

/// Rows from which the rank of a difference is found, spread over the weight.
const RANK_ROWS: usize = 2048;
/// Most elements of those rows.
const RANK_ELEMENTS: usize = 1 << 23;
/// A difference below this share of the weight is what arithmetic in f32 leaves (a converter's exponentials).
const ARITHMETIC: f64 = 2.4e-7;
/// Energy beside the leading directions that their computation in f32 does not resolve.
const RESOLVED: f64 = 1e-6;
/// What rounding leaves is at most this many times its mean energy.
const EXPLAINED: f64 = 3.0;

/// Why two models cannot be compared.
#[derive(Debug)]
pub enum Error {
    /// A file with tensors.
    Weights(pondera_weights::Error),
    /// A vocabulary or template.
    Text(pondera_text::Error),
    /// A file beside them.
    Broken(String),
    /// Whoever watches the progress said so.
    Stopped,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Weights(e) => e.fmt(f),
            Error::Text(e) => f.write_str(e.message()),
            Error::Broken(what) => f.write_str(what),
            Error::Stopped => f.write_str("stopped"),
        }
    }
}

impl std::error::Error for Error {}

impl From<pondera_weights::Error> for Error {
    fn from(e: pondera_weights::Error) -> Error {
        Error::Weights(e)
    }
}

impl From<pondera_text::Error> for Error {
    fn from(e: pondera_text::Error) -> Error {
        Error::Text(e)
    }
}

/// What the values of a weight say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The same bytes in the same type.
    Identical,
    /// The same values in another type or layout.
    Equal,
    /// A difference that the types they are stored in explain.
    Storage,
    /// A difference of few directions.
    LowRank,
    /// A difference in all directions.
    Dense,
    /// Nothing in common.
    Unrelated,
    /// Other dimensions.
    Shape,
}

impl Status {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Status::Identical => "identical",
            Status::Equal => "equal values",
            Status::Storage => "storage noise",
            Status::LowRank => "low rank",
            Status::Dense => "dense",
            Status::Unrelated => "unrelated",
            Status::Shape => "other dimensions",
        }
    }
}

/// One side of a weight.
#[derive(Clone, Debug, Serialize)]
pub struct Stored {
    /// Its name in the files.
    pub name: String,
    /// Storage type.
    #[serde(rename = "type")]
    pub format: &'static str,
    /// Its dimensions, as the family reads it.
    pub shape: Vec<usize>,
}

/// The rank of a difference.
#[derive(Clone, Debug, Serialize)]
pub struct RankFacts {
    /// Singular values that stand above the difference's own noise.
    pub rank: usize,
    /// There are more than were looked for.
    pub more: bool,
    /// Energy over that of the strongest direction.
    pub stable_rank: f64,
    /// `(Σ σ²)² / Σ σ⁴`.
    pub effective_rank: f64,
    /// The highest that it could be.
    pub full_rank: usize,
    /// Share of the energy in the directions that stand out.
    pub share: f64,
    /// Leading singular values.
    pub singular_values: Vec<f64>,
    /// Rows that this was found from, of as many.
    pub rows: [usize; 2],
    /// Which of the stacked matrices it is of: the one that differs most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<usize>,
}

/// One weight of both.
#[derive(Clone, Debug, Serialize)]
pub struct TensorDiff {
    /// The name that all formats share.
    pub name: String,
    /// Its layer.
    pub layer: Option<usize>,
    /// What it is called within a layer.
    pub kind: String,
    /// In A.
    pub a: Stored,
    /// In B.
    pub b: Stored,
    /// What its values say.
    pub status: Status,
    /// Elements that were compared: all that both have.
    pub elements: u64,
    /// Of these, how many differ.
    pub differing: u64,
    /// Rows that do.
    pub differing_rows: u64,
    /// Frobenius norm of A.
    pub norm_a: f64,
    /// Of B.
    pub norm_b: f64,
    /// Of B - A.
    pub norm_difference: f64,
    /// That over the norm of A.
    pub relative_norm: Option<f64>,
    /// Between both as vectors.
    pub cosine: Option<f64>,
    /// Largest difference of an element.
    pub max_difference: f32,
    /// The part of A that is in B: `⟨a, b⟩ / ⟨a, a⟩`.
    pub projection: Option<f64>,
    /// What the storage types alone would make of the same weights, as `relative_norm`.
    pub expected_noise: Option<f64>,
    /// The rank of the difference.
    pub rank: Option<RankFacts>,
    /// Elements of A and B that are no numbers.
    pub nonfinite: [u64; 2],
    /// Rows that only one of them has (a vocabulary that grew): in A, in B.
    pub rows_only: [u64; 2],
    /// What was done so that both lie alike.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// B as a combination of A and the third model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge: Option<MergeFit>,
    #[serde(skip)]
    is_vector: bool,
    #[serde(skip)]
    expected_energy: f64,
}

/// `b ≈ x · a + y · c`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MergeFit {
    /// Of A.
    pub x: f64,
    /// Of the third.
    pub y: f64,
    /// Norm of what is left over that of B - A.
    pub residual: f64,
    /// Where spherical interpolation would put it, if it is that.
    pub slerp: Option<f64>,
    #[serde(skip)]
    left: f64,
    #[serde(skip)]
    apart: f64,
}

/// All weights of a layer, or those of no layer.
#[derive(Clone, Debug, Serialize)]
pub struct LayerDiff {
    /// It.
    pub layer: Option<usize>,
    /// Norm of the difference over that of A, all its weights together.
    pub relative_norm: Option<f64>,
    /// Between both.
    pub cosine: Option<f64>,
}

/// A comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The first model.
    pub a: SideFacts,
    /// The second.
    pub b: SideFacts,
    /// The third, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with: Option<SideFacts>,
    /// What B is to A.
    pub verdict: Verdict,
    /// Whether anything differs: a weight, a setting, a token, the template.
    pub differs: bool,
    /// Norm of the difference over that of A, all matrices together.
    pub relative_norm: Option<f64>,
    /// Between all matrices of both.
    pub cosine: Option<f64>,
    /// What was not compared element by element.
    pub sampled: Vec<&'static str>,
    /// Keys of the configuration that differ.
    pub config: Vec<Setting>,
    /// The vocabularies.
    pub tokenizer: TokenizerDiff,
    /// The chat templates.
    pub chat_template: TemplateDiff,
    /// Which layer of A each layer of B was compared with, where they are not the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_map: Option<Vec<Option<usize>>>,
    /// By layer.
    pub layers: Vec<LayerDiff>,
    /// Every weight that both have.
    pub tensors: Vec<TensorDiff>,
    /// Those that only A has.
    pub only_in_a: Vec<Stored>,
    /// Those that only B has.
    pub only_in_b: Vec<Stored>,
}

/// Told how many elements were compared since the last time; false ends the comparison.
pub type Progress<'a> = &'a (dyn Fn(u64) -> bool + Sync);

/// Compares `b` with `a`; `with` is a third model that B may be a merge of A with. Weights are shared among `threads`.
///
/// # Errors
/// Files that change while they are read, broken vocabularies, [`Error::Stopped`].
pub fn diff(
    a: &mut Side,
    b: &mut Side,
    mut with: Option<&mut Side>,
    threads: usize,
    progress: Progress<'_>,
) -> Result<Report, Error> {
    same_names(a, b);
    if let Some(c) = with.as_deref_mut() {
        if a.is_known() && !c.is_known() {
            c.borrow(a);
        }
        if !a.is_known() {
            c.forget_family("the names stand as they do in the files, for the other model's are not known better");
        }
    }
    let (a, b, with) = (&*a, &*b, with.as_deref());
    let tokenizer = words::tokenizers(a, b)?;
    let moved = match (&a.tokenizer, &b.tokenizer) {
        (Some(x), Some(y)) if tokenizer.moved > 0 => moved_tokens(x, y),
        _ => None,
    };
    let layer_map = moved_layers(a, b);
    let Pairs { pairs: found, only_a, only_b } = pairs(a, b, layer_map.as_deref());
    let thirds = with.map(|c| pairs(a, c, None).pairs.into_iter().collect::<std::collections::HashMap<_, _>>());
    let third = |i: usize| Some((with?, *thirds.as_ref()?.get(&i)?));
    let job = |(i, j): (usize, usize)| tensor((a, i), (b, j), third(i), moved.as_ref(), progress);
    let tensors = shared(&found, threads, &job).ok_or(Error::Stopped)?;
    [Some(a), Some(b), with].into_iter().flatten().try_for_each(|s| s.weights.check())?;
    let config = settings::settings(a, b);
    let chat_template = words::templates(a, b);
    let stored = |s: &Side, only: Vec<usize>| only.iter().map(|i| facts(&s.entries[*i])).collect::<Vec<_>>();
    let (only_in_a, only_in_b) = (stored(a, only_a), stored(b, only_b));
    let (relative_norm, cosine) = together(tensors.iter().filter(|t| !t.is_vector));
    let ranked = tensors.iter().filter_map(|t| t.rank.as_ref()).any(|r| r.rows[0] < r.rows[1]);
    let lossy = tensors.iter().any(|t| t.expected_noise.is_some());
    let mut sampled = Vec::new();
    if ranked {
        sampled.push("ranks of large weights: from at most 2048 rows spread over each");
    }
    if lossy {
        sampled.push("noise that block formats are expected to add: from 24 rows of each weight, encoded anew");
    }
    let mut report = Report {
        a: a.facts(),
        b: b.facts(),
        with: with.map(Side::facts),
        verdict: Verdict::default(),
        differs: false,
        relative_norm,
        cosine,
        sampled,
        config,
        tokenizer,
        chat_template,
        layer_map,
        layers: by_layer(&tensors),
        tensors,
        only_in_a,
        only_in_b,
    };
    report.verdict = lineage::verdict(&report);
    let weights = report.tensors.iter().all(|t| t.status == Status::Identical && t.rows_only == [0, 0]);
    let rest = report.only_in_a.is_empty() && report.only_in_b.is_empty() && report.config.is_empty();
    let words = ["same", "absent"].contains(&report.tokenizer.status)
        && ["same", "absent"].contains(&report.chat_template.status);
    report.differs = !(weights && rest && words);
    Ok(report)
}

/// Elements that a comparison reads, of each model: what progress is counted in.
pub fn elements(b: &Side) -> u64 {
    b.entries.iter().map(Entry::elements).sum()
}

/// Names of one kind on both sides: the family's, or those in the files.
fn same_names(a: &mut Side, b: &mut Side) {
    if a.is_known() && !b.is_known() {
        b.borrow(a);
    }
    if b.is_known() && !a.is_known() {
        a.borrow(b);
    }
    let why = "the names stand as they do in the files, for the other model's are not known better";
    match (a.is_known(), b.is_known()) {
        (true, false) => a.forget_family(why),
        (false, true) => b.forget_family(why),
        _ => {}
    }
}

/// The results of `job` for all `pairs`, in their order; none where one was stopped.
fn shared<T: Send>(
    pairs: &[(usize, usize)],
    threads: usize,
    job: &(dyn Fn((usize, usize)) -> Option<T> + Sync),
) -> Option<Vec<T>> {
    let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
    let done = Mutex::new(Vec::with_capacity(pairs.len()));
    let work = || {
        while !stopped.load(Ordering::Relaxed) {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(pair) = pairs.get(i) else { return };
            match job(*pair) {
                Some(t) => done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((i, t)),
                None => stopped.store(true, Ordering::Relaxed),
            }
        }
    };
    thread::scope(|s| {
        for _ in 1..threads.min(pairs.len()) {
            s.spawn(work);
        }
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|d| d.0);
    (!stopped.into_inner()).then(|| done.into_iter().map(|d| d.1).collect())
}

fn facts(e: &Entry) -> Stored {
    Stored { name: e.name.clone(), format: e.format(), shape: e.shape() }
}

/// Compares a weight; none where the progress was stopped.
fn tensor(
    (sa, i): (&Side, usize),
    (sb, j): (&Side, usize),
    third: Option<(&Side, usize)>,
    moved: Option<&Moved>,
    progress: Progress<'_>,
) -> Option<TensorDiff> {
    let (ea, eb) = (&sa.entries[i], &sb.entries[j]);
    let mut t = TensorDiff {
        name: eb.key.clone(),
        layer: eb.layer,
        kind: eb.kind().to_string(),
        a: facts(ea),
        b: facts(eb),
        status: Status::Shape,
        elements: 0,
        differing: 0,
        differing_rows: 0,
        norm_a: 0.0,
        norm_b: 0.0,
        norm_difference: 0.0,
        relative_norm: None,
        cosine: None,
        max_difference: 0.0,
        projection: None,
        expected_noise: None,
        rank: None,
        nonfinite: [0, 0],
        rows_only: [0, 0],
        notes: Vec::new(),
        merge: None,
        is_vector: ea.is_vector() && eb.is_vector(),
        expected_energy: 0.0,
    };
    let one = ea.groups.len() == 1 && eb.groups.len() == 1;
    let alike = ea.groups.len() == eb.groups.len() && ea.out == eb.out;
    if ea.inp != eb.inp || !(alike || one) {
        return progress(eb.elements()).then_some(t);
    }
    let (mut va, mut vb) = (Values::new(ea), Values::new(eb));
    if let Some(m) = moved.filter(|_| is_per_token(ea, sa) && is_per_token(eb, sb)) {
        let both = m.a.iter().zip(m.b.iter()).filter(|(x, y)| (**x as usize) < ea.out && (**y as usize) < eb.out);
        let (x, y): (Vec<u32>, Vec<u32>) = both.map(|(x, y)| (*x, *y)).unzip();
        t.rows_only = [(ea.out - x.len().min(ea.out)) as u64, (eb.out - y.len().min(eb.out)) as u64];
        t.notes.push("rows matched by token".into());
        (va, vb) = (va.ordered(x.into()), vb.ordered(y.into()));
    } else {
        let rows = va.rows.min(vb.rows);
        t.rows_only = [(va.rows - rows) as u64, (vb.rows - rows) as u64];
        (va, vb) = (va.cut(rows), vb.cut(rows));
        let (turned, note) = aligned((&va, vb), (ea, eb), (sa, sb));
        vb = turned;
        t.notes.extend(note);
    }
    let same_bytes = va.same_bytes(&vb);
    let vc = third.and_then(|(s, k)| {
        let e = &s.entries[k];
        let same = (e.groups.len(), e.out, e.inp) == (ea.groups.len(), ea.out, ea.inp) && t.rows_only == [0, 0];
        same.then(|| aligned((&va, Values::new(e)), (ea, e), (sa, s)).0)
    });
    let m = measure(&va, &vb, vc.as_ref(), progress)?;
    fill(&mut t, &m);
    if same_bytes || m.differing == 0 {
        t.status = if same_bytes { Status::Identical } else { Status::Equal };
        return Some(t);
    }
    judge(&mut t, (&va, &ea.groups[0]), (&vb, &eb.groups[0]), &m);
    t.merge = m.third.as_ref().and_then(|third| lineage::fit(&m, third));
    Some(t)
}

fn fill(t: &mut TensorDiff, m: &Moments) {
    (t.elements, t.differing, t.differing_rows) = (m.elements, m.differing, m.differing_rows);
    (t.norm_a, t.norm_b, t.norm_difference) = (m.aa.sqrt(), m.bb.sqrt(), m.dd.sqrt());
    (t.relative_norm, t.cosine, t.max_difference) = (m.relative(), m.cosine(), m.max);
    t.projection = (m.aa > 0.0).then(|| m.ab / m.aa);
    t.nonfinite = [m.nonfinite_a, m.nonfinite_b];
}

type Read<'a, 'b> = (&'a Values<'b>, &'a pondera_quant::Matrix);

/// What a difference is, beside what storage explains of it.
fn judge(t: &mut TensorDiff, a: Read<'_, '_>, b: Read<'_, '_>, m: &Moments) {
    let (sa, sb) = (Storage::of(a.1, m.grid_a()), Storage::of(b.1, m.grid_b()));
    let lossy = sa.is_lossy() || sb.is_lossy();
    let noise = expected((a.0, sa), (b.0, sb), m);
    t.expected_energy = noise;
    if lossy {
        t.expected_noise = (m.aa > 0.0).then(|| (noise / m.aa).sqrt());
    }
    let tiny = m.relative().is_some_and(|r| r <= ARITHMETIC) && m.nonfinite_a + m.nonfinite_b == 0;
    if tiny || (m.nonfinite_a == m.nonfinite_b && is_rounding(sa, sb, m)) {
        t.status = Status::Storage;
        return;
    }
    let matrix = !t.is_vector && a.0.group.min(a.0.cols) >= 2;
    let spectrum = if matrix { rank_of(t, a.0, b.0, m, lossy) } else { None };
    let unlike = matrix && t.cosine.is_none_or(|c| c.abs() < lineage::UNLIKE);
    t.status = match spectrum {
        Some(s) if few(&s, noise, m, lossy) => Status::LowRank,
        _ if lossy && m.dd <= EXPLAINED * noise => Status::Storage,
        _ if unlike => Status::Unrelated,
        _ => Status::Dense,
    };
}

/// Whether a difference is of few directions, and storage explains what is beside them.
fn few(s: &rank::Spectrum, noise: f64, m: &Moments, lossy: bool) -> bool {
    if s.spikes == 0 || s.more || s.spikes > s.full / 2 || s.energy <= 0.0 {
        return false;
    }
    // The spectrum is of some rows: noise falls on all alike.
    let (signal, residual) = (1.0 - s.residual() / s.energy, s.residual() / s.energy);
    let explained = residual <= EXPLAINED * noise / m.dd || residual <= RESOLVED;
    let next = s.values.get(s.spikes).copied().unwrap_or(0.0);
    match lossy {
        false => explained && signal >= 0.15,
        // Noise of blocks follows the weights, which have strong directions of their own.
        true => explained && signal >= 0.05 && s.values[s.spikes - 1] >= 1.3 * next,
    }
}

/// The spectrum of the difference, of the group that differs most; without what is a multiple of A where block formats
/// shrink weights.
fn rank_of(t: &mut TensorDiff, a: &Values<'_>, b: &Values<'_>, m: &Moments, lossy: bool) -> Option<rank::Spectrum> {
    let group = m.groups.iter().enumerate().max_by(|x, y| x.1.total_cmp(y.1)).map_or(0, |g| g.0);
    let first = group * a.group;
    let rows = a.group.min(a.rows.saturating_sub(first)).min(b.rows.saturating_sub(first));
    let taken = rows.min(RANK_ROWS).min((RANK_ELEMENTS / a.cols.max(1)).max(1));
    if taken < 2 {
        return None;
    }
    let beta = if lossy && m.aa > 0.0 { (m.ad / m.aa) as f32 } else { 0.0 };
    let mut d = vec![0f32; taken * a.cols];
    let mut y = vec![0f32; a.cols];
    for (k, d) in d.chunks_exact_mut(a.cols).enumerate() {
        let r = first + (k * rows + rows / 2) / taken;
        a.read(r..r + 1, d);
        b.read(r..r + 1, &mut y);
        for (d, y) in d.iter_mut().zip(&y) {
            let diff = y - *d - beta * *d;
            *d = if diff.is_finite() { diff } else { 0.0 };
        }
    }
    let s = rank::spectrum(&mut d, taken, a.cols);
    t.rank = Some(RankFacts {
        rank: s.spikes,
        more: s.more,
        stable_rank: s.stable_rank(),
        effective_rank: s.participation(),
        full_rank: rows.min(a.cols),
        share: if s.energy > 0.0 { 1.0 - s.residual() / s.energy } else { 0.0 },
        singular_values: s.values.iter().take(16).copied().collect(),
        rows: [taken, rows],
        group: (m.groups.len() > 1).then_some(group),
    });
    Some(s)
}

/// Relative norm and cosine of several weights taken together.
fn together<'a>(tensors: impl Iterator<Item = &'a TensorDiff>) -> (Option<f64>, Option<f64>) {
    let (mut aa, mut bb, mut dd) = (0f64, 0f64, 0f64);
    for t in tensors.filter(|t| t.status != Status::Shape) {
        (aa, bb, dd) = (aa + t.norm_a.powi(2), bb + t.norm_b.powi(2), dd + t.norm_difference.powi(2));
    }
    let relative = if dd == 0.0 { (aa + bb > 0.0).then_some(0.0) } else { (aa > 0.0).then(|| (dd / aa).sqrt()) };
    let cosine = (aa > 0.0 && bb > 0.0).then(|| ((aa + bb - dd) / (2.0 * aa.sqrt() * bb.sqrt())).clamp(-1.0, 1.0));
    (relative, cosine)
}

fn by_layer(tensors: &[TensorDiff]) -> Vec<LayerDiff> {
    let mut all: std::collections::BTreeMap<Option<usize>, Vec<&TensorDiff>> = Default::default();
    tensors.iter().for_each(|t| all.entry(t.layer).or_default().push(t));
    let one = |(layer, tensors): (Option<usize>, Vec<&TensorDiff>)| {
        let (relative_norm, cosine) = together(tensors.into_iter());
        LayerDiff { layer, relative_norm, cosine }
    };
    all.into_iter().map(one).collect()
}
