//! Adapters: files of small matrices to changes of a model's weights.
//!
//! Owns: what the files mean ([`peft`], [`gguf`]), which weight each module is ([`targets`]), the matrices that a step
//! multiplies with. Does not own: how rows take them (`pondera_ops::Adapted`), who does (the engine).
//!
//! ```text
//! W' = g · (W + s B A)       g = m / ‖W + s B A‖ per output with magnitudes m, else 1
//! ```
mod gguf;
mod peft;
mod targets;

pub(crate) use targets::{Overlay, Probe, Tied};

use crate::{Config, Error, Model, Result, Source};
use pondera_ops::{Adapter, Batch, Change, Count, Ops, PAGE, Part, Role, W, Weight};
use pondera_quant::{Bytes, Format, Matrix, TensorView};
use pondera_weights::Weights;
use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet},
};
use targets::{Module, Origin, Targets};

/// An adapter's file.
pub struct AdapterFile<'a> {
    /// Its tensors.
    pub weights: &'a Weights,
    /// The text of `adapter_config.json`; none for GGUF files, which hold it themselves.
    pub keys: Option<&'a [u8]>,
    /// Factor on what it adds. What it has in place of the base's tensors stays as it is.
    pub scale: f32,
}

impl AdapterFile<'_> {
    fn place(&self) -> String {
        self.weights.files().next().unwrap_or(self.weights.folder()).display().to_string()
    }
}

/// The low-rank change of one module, in f32.
struct Lora {
    /// Rows are looked up: `a` is `[rank, rows]`.
    table: bool,
    rank: usize,
    /// Of one expert, where it is of all; the same otherwise.
    rank_of_one: usize,
    inp: usize,
    out: usize,
    /// `[rank, inp]`.
    a: Vec<f32>,
    /// `[out, rank]`.
    b: Vec<f32>,
    scale: f64,
    magnitude: Option<Vec<f32>>,
    bias: Option<Vec<f32>>,
}

impl Lora {
    fn check(&self, module: &str) -> Result<()> {
        let vectors = [("lora_magnitude_vector", &self.magnitude), ("lora_B.bias", &self.bias)];
        for (name, v) in vectors {
            if let Some(v) = v.as_ref().filter(|v| v.len() != self.out) {
                return Err(Error::tensor(module, format!("{name}: expected {} values, got {}", self.out, v.len())));
            }
        }
        Ok(())
    }
}

/// What a file says.
#[derive(Default)]
struct Parsed {
    /// By module.
    lora: BTreeMap<String, Lora>,
    /// Tensors in place of the base's, by their names in the model; with the names in the file.
    full: BTreeMap<String, (String, TensorView)>,
    /// Modules that share a weight share its change.
    tied: bool,
}

/// Whether a module is a parameter that holds all experts.
fn is_stack(module: &str) -> bool {
    let name = module.trim_end_matches(".base_layer");
    name.ends_with(".experts")
}

pub(crate) fn load(model: &Model, config: &Config, source: &Source<'_>, files: &[AdapterFile<'_>]) -> Result<Adapter> {
    let targets = Targets::of(config, source)?;
    let mut sums = Sums::default();
    let mut adapter = Adapter::default();
    for file in files {
        let parsed = match (file.keys, file.weights.gguf()) {
            (Some(keys), _) if !config.is_gguf() => peft::parse(file, keys)?,
            (None, Some(gguf)) if config.is_gguf() => gguf::parse(file, gguf)?,
            (Some(_), _) => return Err(other_names(file, "of a repository", "a GGUF file")),
            (None, Some(_)) => return Err(other_names(file, "a GGUF file", "of a repository")),
            (None, None) => {
                let e = Error::config("adapter_config.json", format!("missing ({})", file.place()));
                return Err(e.hint("name an adapter's folder or a GGUF file"));
            }
        };
        let base = Base { model, config, source, targets: &targets };
        let replaced = base.replace(&parsed).map_err(|e| about(file, e))?;
        base.add(&parsed, &replaced, &mut sums).map_err(|e| about(file, e))?;
        for ((weight, role), w) in replaced {
            if sums.replaced.insert((weight, role), w).is_some() {
                let what = "two adapters have a tensor in its place";
                return Err(about(file, Error::tensor(&model.weights()[weight].name, what)));
            }
        }
    }
    sums.finish(model, &mut adapter);
    check(model, &adapter)?;
    Ok(adapter)
}

fn about(file: &AdapterFile<'_>, e: Error) -> Error {
    let place = file.place();
    if e.to_string().contains(&place) { e } else { e.at(&place) }
}

fn other_names(file: &AdapterFile<'_>, adapter: &str, model: &str) -> Error {
    let what = format!("the adapter is {adapter}, the model {model} ({})", file.place());
    Error::unsupported("adapter", what).hint("take both in the same form")
}

/// A forward pass that computes nothing says which changes can take effect: all must.
fn check(model: &Model, adapter: &Adapter) -> Result<()> {
    let count = Count::new();
    count.reserve(model.caches(), pondera_ops::KvType::F32, 1);
    let mut batch = Batch::single(&vec![0; PAGE.min(2)], 0);
    batch.sequences[0].adapter = Some(0);
    if let Some(adapted) = pondera_ops::Adapted::new(&count, &batch, |_| Some(adapter)) {
        model.forward(&adapted, &batch);
    }
    match adapter.unused().first() {
        None => Ok(()),
        Some(module) => Err(Error::unsupported(module, "this module of the model cannot be adapted")
            .hint("linears, embeddings, norms, experts and the output head can")),
    }
}

/// A weight of the model by its place, as one of its roles; none: as all.
type Key = (usize, Option<Role>);

struct Base<'a> {
    model: &'a Model,
    config: &'a Config,
    source: &'a Source<'a>,
    targets: &'a Targets,
}

impl Base<'_> {
    /// The names that a family may know a module of the adapter by.
    fn names(&self, name: &str) -> Vec<String> {
        if self.config.is_gguf() {
            return vec![name.to_string()];
        }
        crate::params::adapter_names(name, self.config.family().base)
    }

    /// The weights that the adapter has tensors of its own for.
    fn replace(&self, parsed: &Parsed) -> Result<HashMap<Key, W>> {
        let mut overlay = Overlay::default();
        let mut names: HashSet<String> = HashSet::new();
        for (name, (_, view)) in &parsed.full {
            for n in self.names(name) {
                overlay.insert(n.clone(), view.clone());
                names.insert(n);
            }
        }
        let mut found = HashMap::new();
        if parsed.full.is_empty() {
            return Ok(found);
        }
        let (weights, tied) = targets::replaced(self.config, self.source, &overlay)?;
        if weights.len() != self.model.weights().len() {
            return Err(Error::tensor("modules_to_save", "they make another model of it"));
        }
        for (name, (stored, _)) in &parsed.full {
            if !self.names(name).iter().any(|n| overlay.used(n)) {
                return Err(Error::tensor(stored, "the model has no such tensor"));
            }
        }
        let has = |names_of: &[String], suffixes: &[&str]| {
            names_of.iter().any(|n| suffixes.iter().any(|s| names.contains(&format!("{n}{s}"))))
        };
        for (i, w) in weights.into_iter().enumerate() {
            let from =
                |o: &Option<Origin>| o.is_some_and(|o| has(&self.targets.modules[o.module].names, &[".weight", ""]));
            let vector = has(std::slice::from_ref(&self.model.weights()[i].name), &[""]);
            if vector || self.targets.origins[i].iter().any(from) {
                let role = self.is_tied(i).then_some(Role::Table);
                if role.is_some() && parsed.tied {
                    found.insert((i, Some(Role::Product)), w.clone());
                }
                found.insert((i, role), w);
            }
        }
        for ((names_of, i), w) in self.targets.tied.iter().zip(tied) {
            if has(names_of, &[".weight"]) {
                found.insert((*i, Some(Role::Product)), w);
            }
        }
        // What is the base's own, saved beside a change of it, need not be computed apart.
        found.retain(|(i, _), w| !same(&self.model.weights()[*i], w));
        Ok(found)
    }

    fn is_tied(&self, weight: usize) -> bool {
        self.targets.tied.iter().any(|t| t.1 == weight)
    }

    /// Adds what the adapter does to each weight.
    fn add(&self, parsed: &Parsed, replaced: &HashMap<Key, W>, sums: &mut Sums) -> Result<()> {
        let mut by_name: HashMap<String, &str> = HashMap::new();
        for module in parsed.lora.keys() {
            for n in self.names(module) {
                by_name.insert(n, module);
            }
        }
        let used: RefCell<HashSet<&str>> = RefCell::default();
        let lookup = |names: &[String]| names.iter().find_map(|n| by_name.get(n).copied());
        let mut add = |i: usize, g: usize, origin: Origin, module: &Module, names: &[String]| -> Result<()> {
            let found = lookup(names).map(|m| (m, None)).or_else(|| stack(module, names, &by_name, parsed));
            let Some((name, element)) = found else { return Ok(()) };
            used.borrow_mut().insert(name);
            let lora = &parsed.lora[name];
            let piece = Piece::of(name, lora, module, element)?;
            let role = if lora.table { Role::Table } else { Role::Product };
            let own = replaced.get(&(i, Some(role))).or_else(|| replaced.get(&(i, None)));
            let base = &own.unwrap_or(&self.model.weights()[i]).groups[g];
            sums.add((i, role), g, name, &piece, origin, base)?;
            if lora.table && parsed.tied && self.is_tied(i) {
                sums.add((i, Role::Product), g, name, &piece.turned(), origin, base)?;
            }
            Ok(())
        };
        for (i, groups) in self.targets.origins.iter().enumerate() {
            for (g, origin) in groups.iter().enumerate() {
                let Some(origin) = *origin else { continue };
                let module = &self.targets.modules[origin.module];
                add(i, g, origin, module, &module.names)?;
            }
        }
        for (names, i) in &self.targets.tied {
            let Some(origin) = self.targets.origins[*i].first().copied().flatten() else { continue };
            add(*i, 0, origin, &self.targets.modules[origin.module], names)?;
        }
        let unused = parsed.lora.keys().find(|m| !used.borrow().contains(m.as_str()));
        match unused {
            None => Ok(()),
            Some(m) => Err(Error::tensor(m, "the model has no such module that can be adapted")
                .hint("the adapter is of another model, or adapts what is not a linear or an embedding")),
        }
    }
}

/// Whether both hold the same bytes.
fn same(a: &W, b: &W) -> bool {
    let rows = |m: &Matrix| match m {
        Matrix::Rows { format, out, inp, .. } => Some((*format, *out, *inp)),
        _ => None,
    };
    let equal =
        |a: &Matrix, b: &Matrix| rows(a).is_some() && rows(a) == rows(b) && (0..a.out()).all(|o| a.row(o) == b.row(o));
    a.groups.len() == b.groups.len() && a.groups.iter().zip(&b.groups).all(|(a, b)| equal(a, b))
}

/// The change of `module` within one of all experts: which of the adapter's modules, and which part of it.
fn stack<'n>(
    module: &Module,
    names: &[String],
    by_name: &HashMap<String, &'n str>,
    parsed: &Parsed,
) -> Option<(&'n str, Option<Element>)> {
    for name in names {
        let Some(at) = name.find(".experts.") else { continue };
        let (experts, rest) = (&name[..at + ".experts".len()], &name[at + ".experts.".len()..]);
        // Of gate and up in one, the gate's rows come first.
        let (expert, inner) = match (module.element, rest.split_once('.')) {
            (Some(e), None) => (e, rest),
            (None, Some((e, inner))) => (e.parse().ok()?, inner),
            _ => continue,
        };
        let (out, first) = match inner {
            "gate_proj" | "w1" => (2 * module.out, 0),
            "up_proj" | "w3" => (2 * module.out, module.out),
            _ => (module.out, 0),
        };
        for suffix in ["", ".base_layer"] {
            let Some(&found) = by_name.get(&format!("{experts}{suffix}")) else { continue };
            let lora = parsed.lora.get(found)?;
            if (lora.inp, lora.out) == (module.inp, out) {
                return Some((found, Some(Element { expert, first })));
            }
        }
    }
    None
}

/// A part of a change of all experts.
#[derive(Clone, Copy)]
struct Element {
    expert: usize,
    /// Rows of the outputs before the module's own.
    first: usize,
}

/// The change of one module, ready to be cut into rows.
struct Piece {
    rank: usize,
    inp: usize,
    /// `[rank, inp]`, or for a table `[rows, rank]`.
    a: Vec<f32>,
    /// `[out, rank]`, without the scale.
    b: Vec<f32>,
    scale: f64,
    magnitude: Option<Vec<f32>>,
    bias: Option<Vec<f32>>,
    table: bool,
}

impl Piece {
    fn of(name: &str, l: &Lora, module: &Module, element: Option<Element>) -> Result<Piece> {
        let wrong = |want: [usize; 2], got: [usize; 2]| {
            let what = format!("expected an adapter of [{}, {}], got [{}, {}]", want[0], want[1], got[0], got[1]);
            Error::tensor(name, what).hint("the adapter is of another model")
        };
        let mut p = Piece {
            rank: l.rank,
            inp: l.inp,
            a: l.a.clone(),
            b: l.b.clone(),
            scale: l.scale,
            magnitude: l.magnitude.clone(),
            bias: l.bias.clone(),
            table: l.table,
        };
        if l.table {
            // A table's outputs are its columns.
            if (l.out, l.inp) != (module.inp, module.out) {
                return Err(wrong([module.inp, module.out], [l.out, l.inp]));
            }
            p.a = transposed(&l.a, l.rank, l.inp);
            return Ok(p);
        }
        let Some(Element { expert, first }) = element else {
            if (l.out, l.inp) != (module.out, module.inp) || module.element.is_some() {
                return Err(wrong([module.out, module.inp], [l.out, l.inp]));
            }
            return Ok(p);
        };
        // PEFT: A is `[experts · rank, inp]`, B `[out, rank · experts]` with the experts innermost.
        let rank = l.rank_of_one;
        let experts = l.rank / rank.max(1);
        if rank == 0 || experts * rank != l.rank || expert >= experts || p.magnitude.is_some() || p.bias.is_some() {
            return Err(Error::tensor(name, format!("expected a rank of {rank} per expert, got {} in all", l.rank)));
        }
        p.rank = rank;
        p.a = l.a[expert * rank * l.inp..][..rank * l.inp].to_vec();
        let row = |o: usize| (0..rank).map(move |j| l.b[o * l.rank + j * experts + expert]);
        p.b = (first..first + module.out).flat_map(row).collect();
        Ok(p)
    }

    /// Of an embedding, what it is to a product with the same weight.
    fn turned(&self) -> Piece {
        let hidden = self.b.len() / self.rank.max(1);
        Piece {
            rank: self.rank,
            inp: hidden,
            a: transposed(&self.b, hidden, self.rank),
            b: self.a.clone(),
            scale: self.scale,
            magnitude: None,
            bias: None,
            table: false,
        }
    }

    /// Row `o` of B times the scale.
    fn row(&self, o: usize) -> impl Iterator<Item = f64> {
        self.b[o * self.rank..][..self.rank].iter().map(|b| f64::from(*b) * self.scale)
    }
}

/// `[cols, rows]` of `[rows, cols]`.
fn transposed(x: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..cols).flat_map(|c| (0..rows).map(move |r| x[r * cols + c])).collect()
}

/// What adapters do to the weights of a model, added up.
#[derive(Default)]
struct Sums {
    groups: BTreeMap<(usize, u8), BTreeMap<usize, Sum>>,
    replaced: HashMap<Key, W>,
}

/// What they do to one group.
struct Sum {
    module: String,
    rank: usize,
    inp: usize,
    out: usize,
    /// `[rank, inp]`; of a table `[rows, rank]`, parts by parts.
    a: Vec<(usize, Vec<f32>)>,
    /// Per part `[out, rank]`, with scales and gains.
    b: Vec<Vec<f32>>,
    gain: Option<Vec<f64>>,
    bias: Option<Vec<f64>>,
    table: bool,
}

impl Sums {
    fn add(
        &mut self,
        (weight, role): (usize, Role),
        group: usize,
        module: &str,
        piece: &Piece,
        origin: Origin,
        base: &Matrix,
    ) -> Result<()> {
        let rows: Vec<usize> = if piece.table { (0..base.inp()).collect() } else { origin.rows().collect() };
        let gains = match &piece.magnitude {
            Some(m) => Some(gains(module, m, piece, &rows, base)?),
            None => None,
        };
        let gain = |i: usize| gains.as_ref().map_or(1.0, |g| g[i]);
        let all = self.groups.entry((weight, role as u8)).or_default();
        let (out, inp) = (rows.len(), piece.inp);
        let sum = all.entry(group).or_insert_with(|| Sum {
            module: module.to_string(),
            rank: 0,
            inp,
            out,
            a: vec![],
            b: vec![],
            gain: None,
            bias: None,
            table: piece.table,
        });
        sum.rank += piece.rank;
        sum.a.push((piece.rank, piece.a.clone()));
        let b = rows.iter().enumerate().flat_map(|(i, &o)| piece.row(o).map(move |v| (v * gain(i)) as f32));
        sum.b.push(b.collect());
        if gains.is_some() {
            let sums = sum.gain.get_or_insert_with(|| vec![1.0; out]);
            sums.iter_mut().enumerate().for_each(|(i, s)| *s += gain(i) - 1.0);
        }
        if let Some(bias) = &piece.bias {
            let sums = sum.bias.get_or_insert_with(|| vec![0.0; out]);
            let more = rows.iter().map(|&o| f64::from(bias[o]) * piece.scale).enumerate();
            more.for_each(|(i, v)| sums[i] += v * gain(i));
        }
        Ok(())
    }

    /// The changes, one per weight and role.
    fn finish(mut self, model: &Model, adapter: &mut Adapter) {
        for ((weight, role), groups) in std::mem::take(&mut self.groups) {
            let role = if role == Role::Table as u8 { Role::Table } else { Role::Product };
            let base = &model.weights()[weight];
            let module = groups.values().next().map_or(String::new(), |s| s.module.clone());
            let replace = self.replaced.remove(&(weight, Some(role)));
            let replace = replace.or_else(|| self.replaced.get(&(weight, None)).cloned());
            // Groups of one module are heads, groups of several are experts.
            let heads = base.groups.len() > 1 && groups.values().all(|s| s.module == module) && !is_stack(&module);
            let mut parts = vec![Part::default(); base.groups.len()];
            let change = if heads && groups.values().any(|s| s.gain.is_some()) {
                let merged = merged(replace.as_ref().unwrap_or(base), &groups);
                Change::new(module, base.clone(), merged, Vec::new(), None)
            } else {
                for (g, s) in &groups {
                    parts[*g] = s.part(&base.name);
                }
                let stacks = heads.then(|| stacks(&base.name, &parts)).flatten();
                Change::new(module, base.clone(), replace, parts, stacks)
            };
            adapter.insert(role, change);
        }
        for ((weight, role), w) in self.replaced {
            let base = &model.weights()[weight];
            let roles = role.map_or(vec![Role::Table, Role::Product], |r| vec![r]);
            for role in roles {
                if !adapter.has(base, role) {
                    let change = Change::new(w.name.clone(), base.clone(), Some(w.clone()), Vec::new(), None);
                    adapter.insert(role, change);
                }
            }
        }
    }
}

impl Sum {
    /// Several adapters as one of their ranks together.
    fn part(&self, name: &str) -> Part {
        let beside = |parts: Vec<(usize, &[f32])>, rows: usize| -> Vec<f32> {
            (0..rows).flat_map(|r| parts.iter().flat_map(move |(k, p)| p[r * k..][..*k].iter().copied())).collect()
        };
        let ranks = self.a.iter().map(|a| a.0);
        let b = beside(ranks.zip(self.b.iter().map(Vec::as_slice)).collect(), self.out);
        let (a, a_rows, a_cols) = if self.table {
            (beside(self.a.iter().map(|a| (a.0, &a.1[..])).collect(), self.inp), self.inp, self.rank)
        } else {
            (self.a.iter().flat_map(|a| a.1.iter().copied()).collect(), self.rank, self.inp)
        };
        let vector = |v: &Option<Vec<f64>>| {
            v.as_ref().map(|v| small(name, 1, v.len(), &v.iter().map(|v| *v as f32).collect::<Vec<_>>()))
        };
        Part {
            gain: vector(&self.gain),
            low: Some([small(name, a_rows, a_cols, &a), small(name, self.out, self.rank, &b)]),
            bias: vector(&self.bias),
        }
    }
}

/// A matrix of an adapter: f32, left as it lies.
fn small(name: &str, out: usize, inp: usize, data: &[f32]) -> W {
    let bytes = Bytes::from(data.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
    Weight::apart(format!("{name} (adapter)"), Matrix::Rows { format: Format::F32, out, inp, bytes, stride: inp * 4 })
}

/// The parts of heads as two weights with a group per head.
fn stacks(name: &str, parts: &[Part]) -> Option<[W; 2]> {
    let one = |i: usize| {
        let all = parts.iter().map(|p| p.low.as_ref().map(|low| low[i].groups[0].clone()));
        Weight::new(format!("{name} (adapter)"), all.collect::<Option<Vec<_>>>()?)
    };
    Some([one(0)?, one(1)?])
}

/// The heads with their changes, where these cannot stand beside them.
fn merged(base: &W, groups: &BTreeMap<usize, Sum>) -> Option<W> {
    let mut all = Vec::with_capacity(base.groups.len());
    for (g, m) in base.groups.iter().enumerate() {
        let mut dense = vec![0.0; m.out() * m.inp()];
        m.decode_rows(0..m.out(), &mut dense);
        if let Some(s) = groups.get(&g) {
            for (o, row) in dense.chunks_exact_mut(m.inp().max(1)).enumerate() {
                let gain = s.gain.as_ref().map_or(1.0, |g| g[o]);
                let mut sum: Vec<f64> = row.iter().map(|v| f64::from(*v) * gain).collect();
                for ((rank, a), b) in s.a.iter().zip(&s.b) {
                    for (j, b) in b[o * rank..][..*rank].iter().enumerate() {
                        let a = &a[j * m.inp()..][..m.inp()];
                        sum.iter_mut().zip(a).for_each(|(s, a)| *s += f64::from(*b) * f64::from(*a));
                    }
                }
                row.iter_mut().zip(sum).for_each(|(r, s)| *r = s as f32);
            }
        }
        let bytes = Bytes::from(dense.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
        all.push(Matrix::Rows { format: Format::F32, out: m.out(), inp: m.inp(), bytes, stride: m.inp() * 4 });
    }
    Weight::new(format!("{} (adapter)", base.name), all)
}

/// `m / ‖W + s B A‖` per output: a row of a matrix, a column of a table.
fn gains(module: &str, magnitude: &[f32], p: &Piece, rows: &[usize], base: &Matrix) -> Result<Vec<f64>> {
    let mut squares = vec![0.0f64; rows.len()];
    let mut row = vec![0.0f32; base.inp()];
    let mut sum = vec![0.0f64; base.inp()];
    for o in 0..base.out() {
        base.decode_rows(o..o + 1, &mut row);
        sum.iter_mut().zip(&row).for_each(|(s, v)| *s = f64::from(*v));
        if p.table {
            // Row `o` of the table: the sum over ranks of a[o, j] · b[c, j].
            let a = &p.a[o * p.rank..][..p.rank];
            for (c, s) in sum.iter_mut().enumerate() {
                *s += p.row(c).zip(a).map(|(b, a)| b * f64::from(*a)).sum::<f64>();
            }
            squares.iter_mut().zip(&sum).for_each(|(q, s)| *q += s * s);
        } else {
            for (j, b) in p.row(rows[o]).enumerate() {
                let a = &p.a[j * p.inp..][..p.inp];
                sum.iter_mut().zip(a).for_each(|(s, a)| *s += b * f64::from(*a));
            }
            squares[o] = sum.iter().map(|s| s * s).sum();
        }
    }
    let gain = |(i, q): (usize, f64)| {
        let g = f64::from(magnitude[rows[i]]) / q.sqrt();
        let bad = || Error::tensor(module, format!("the norm of output {i} is {}", q.sqrt()));
        if g.is_finite() { Ok(g) } else { Err(bad()) }
    };
    squares.into_iter().enumerate().map(gain).collect()
}
