//! A loaded model: what a family's `load` returns, with what the engine needs to know about it.
//!
//! Does not own: sequences, sampling, memory (the engine's), the equations (blocks and families).
use crate::{
    AdapterFile, Config, Listed, Params, Result, Source, adapter,
    params::{Core, Declared},
};
use arrayvec::ArrayVec;
use pondera_ops::{Act, Adapter, Batch, CacheSpec, KvType, Ops, Point, Rope, StateSpec, W};
use std::sync::Mutex;

/// The equations of a family: from a step's tokens to its logits.
pub trait Graph: Send + Sync {
    /// Logits of the rows in `batch.logit_rows`: `[logit_rows, vocab]`.
    fn forward(&self, ops: &dyn Ops, step: &Step<'_>) -> Act;

    /// What the last layer gives for those rows, normalised: `[logit_rows, hidden]`.
    fn hidden(&self, ops: &dyn Ops, step: &Step<'_>) -> Act;

    /// Whether it is an encoder: its `forward` is its `hidden`, and a sequence comes whole in one step.
    fn is_encoder(&self) -> bool {
        false
    }

    /// The number of positions that exist at all, where a table of learnt positions ends; none otherwise.
    fn positions_end(&self) -> Option<usize>;
}

/// Most ropes, and most position factors, of one model: a step keeps their tables without an allocation.
const ROPES_MAX: usize = 8;

/// A factor on queries that depends on the position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PositionFactor {
    /// `1 + beta · ln(1 + floor((p + ahead) / floor))` at position `p` (Llama 4, Ministral 3).
    Log {
        /// Weight of the logarithm.
        beta: f64,
        /// Positions of a step.
        floor: f64,
        /// 1 where positions are counted from 1.
        ahead: f64,
    },
    /// `(1 + (p + 1) / scale)^power` (Beam).
    Power {
        /// Positions over which it grows.
        scale: f64,
        /// Exponent.
        power: f64,
    },
}

impl PositionFactor {
    /// Its value, computed in f64.
    pub fn at(self, position: u32) -> f32 {
        let p = f64::from(position);
        let value = match self {
            PositionFactor::Log { beta, floor, ahead } => 1.0 + beta * libm::log1p(((p + ahead) / floor).floor()),
            PositionFactor::Power { scale, power } => libm::pow(1.0 + (p + 1.0) / scale, power),
        };
        value as f32
    }
}

/// A step under way: the batch and what is computed once for all layers.
pub struct Step<'a> {
    /// The tokens of the step.
    pub batch: &'a Batch,
    /// Cosines and sines, one per rope that `load` declared.
    rotary: ArrayVec<Act, ROPES_MAX>,
    /// `[rows, 1]`, one per position factor that `load` declared.
    factors: ArrayVec<Act, ROPES_MAX>,
}

impl<'a> Step<'a> {
    /// The rows whose logits are wanted as a step of their own; `wanted` is [`Batch::wanted`] of this step's.
    pub fn narrowed(&self, ops: &dyn Ops, wanted: &'a Batch) -> Step<'a> {
        let select = |tables: &ArrayVec<Act, ROPES_MAX>| {
            tables.iter().map(|table| ops.select_rows(table, &self.batch.logit_rows)).collect()
        };
        Step { batch: wanted, rotary: select(&self.rotary), factors: select(&self.factors) }
    }

    /// Factors `[rows, 1]` of a declared [`PositionFactor`].
    pub fn factor(&self, factor: usize) -> &Act {
        &self.factors[factor]
    }

    /// Cosines and sines of a declared rope.
    pub fn rotary(&self, rope: usize) -> &Act {
        &self.rotary[rope]
    }
}

/// What is known about a model without running it.
#[derive(Clone, Debug)]
pub struct Description {
    /// The family's model type, as `config.json` names it.
    pub family: &'static str,
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Longest context the configuration promises.
    pub max_position_embeddings: usize,
    /// Experts per sparse layer and experts per token, for mixtures of experts.
    pub experts: Option<(usize, usize)>,
    /// Stored weights, tied ones once.
    pub parameters_total: u64,
    /// Weights that take part in one token: all but the experts that are not chosen.
    pub parameters_active: u64,
    /// Stored bytes of the weights.
    pub weight_bytes: u64,
    /// Every weight, in the order in which the family names them.
    pub tensors: Vec<Listed>,
}

/// A model, ready for any backend.
pub struct Model {
    graph: Box<dyn Graph>,
    caches: Vec<CacheSpec>,
    states: Vec<StateSpec>,
    ropes: Vec<Rope>,
    factors: Vec<PositionFactor>,
    /// Memory for factors, used again by every step.
    row: Mutex<Vec<f32>>,
    description: Description,
    warnings: Vec<String>,
    /// The weights of `description.tensors`.
    weights: Vec<W>,
}

impl Model {
    /// Builds the model of `config` from `source`.
    ///
    /// Errors name the first missing tensor, the first whose shape differs, or the unsupported mechanism. Tensors
    /// that the family does not know are in [`Model::warnings`].
    pub fn load(config: &Config, source: &Source<'_>) -> Result<Model> {
        let core = Core::new(config, source)?;
        let graph = (config.family().load)(config, &Params::root(&core)).map_err(|e| core.place(e))?;
        let warnings = core.unexpected(config);
        let Declared { tensors, caches, states, ropes, factors, handles: weights, .. } = core.finish();
        let kinds = ropes.len().max(factors.len());
        if kinds > ROPES_MAX {
            return Err(crate::Error::unsupported("rope", format!("{kinds} kinds, at most {ROPES_MAX} are supported")));
        }
        let sum = |f: fn(&Listed) -> u64| tensors.iter().map(f).fold(0u64, u64::saturating_add);
        let description = Description {
            family: config.family().model_type,
            vocab_size: config.vocab_size()?,
            hidden_size: config.hidden_size()?,
            num_hidden_layers: config.num_hidden_layers()?,
            max_position_embeddings: config.max_positions()?,
            experts: config.experts()?,
            parameters_total: sum(|t| t.parameters),
            parameters_active: sum(|t| t.active),
            weight_bytes: sum(|t| t.bytes),
            tensors,
        };
        Ok(Model { graph, caches, states, ropes, factors, row: Mutex::default(), description, warnings, weights })
    }

    /// What `files`, adapters that add up, do to this model, which was loaded from `config` and `source`. Where they are
    /// broken, or name what the model lacks or cannot adapt, the error says which module of which file.
    pub fn adapter(&self, config: &Config, source: &Source<'_>, files: &[AdapterFile<'_>]) -> Result<Adapter> {
        adapter::load(self, config, source, files)
    }

    /// Its weights, in the order of [`Description::tensors`].
    pub(crate) fn weights(&self) -> &[W] {
        &self.weights
    }

    /// Its weights with what is known of each, in the order in which the family names them.
    pub fn listed(&self) -> impl Iterator<Item = (&Listed, &W)> {
        self.description.tensors.iter().zip(&self.weights)
    }

    /// Logits of the rows in `batch.logit_rows`: `[logit_rows, vocab]`. Token ids must be below
    /// [`Model::vocab_size`]; caches must have been reserved from [`Model::caches`].
    pub fn forward(&self, ops: &dyn Ops, batch: &Batch) -> Act {
        let logits = self.graph.forward(ops, &self.step(ops, batch));
        ops.observe(Point::Logits, &logits);
        logits
    }

    /// The last layer's output of the rows in `batch.logit_rows`, normalised: `[logit_rows, hidden]`; as
    /// [`Model::forward`] otherwise.
    pub fn hidden(&self, ops: &dyn Ops, batch: &Batch) -> Act {
        self.graph.hidden(ops, &self.step(ops, batch))
    }

    fn step<'a>(&self, ops: &dyn Ops, batch: &'a Batch) -> Step<'a> {
        let rotary = self.ropes.iter().map(|r| ops.rotary(r, batch)).collect();
        let mut row = self.row.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut factors = ArrayVec::new();
        for f in &self.factors {
            row.clear();
            row.extend(batch.positions.iter().map(|p| f.at(*p)));
            factors.push(ops.input(batch.len(), 1, &row));
        }
        Step { batch, rotary, factors }
    }

    /// Whether it is an encoder: it has no logits ([`Model::forward`] gives [`Model::hidden`]), and a sequence must come
    /// whole in one step.
    pub fn is_encoder(&self) -> bool {
        self.graph.is_encoder()
    }

    /// What recurrent layers keep of a sequence, in the order of their ids.
    pub fn states(&self) -> &[StateSpec] {
        &self.states
    }

    /// What the layers keep per position, in the order of their ids.
    pub fn caches(&self) -> &[CacheSpec] {
        &self.caches
    }

    /// Two lengths with equal epochs have equal rotary frequencies; a sequence that grows into another epoch must be
    /// computed again from its start.
    pub fn rope_epoch(&self, length: u32) -> u32 {
        // Each rope's epoch never falls as the length grows, so sums are equal only where all are.
        self.ropes.iter().map(|r| r.epoch(length)).fold(0, u32::saturating_add)
    }

    /// Tokens in the vocabulary: the width of the logits.
    pub fn vocab_size(&self) -> usize {
        self.description.vocab_size
    }

    /// Longest context the configuration promises.
    pub fn max_positions(&self) -> usize {
        self.description.max_position_embeddings
    }

    /// The number of positions that can be computed at all; none where nothing but quality ends with
    /// [`Model::max_positions`].
    pub fn positions_end(&self) -> Option<usize> {
        self.graph.positions_end()
    }

    /// What is known without running it.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Tensors in the files that the family does not use, and other oddities that change nothing.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

impl Description {
    /// Bytes of the KV caches of type `kv` for `positions` of one sequence.
    pub fn kv_bytes(caches: &[CacheSpec], positions: usize, kv: KvType) -> u64 {
        let bytes = |c: &CacheSpec| (c.bytes(kv) as u64).saturating_mul(positions as u64);
        caches.iter().map(bytes).fold(0, u64::saturating_add)
    }
}
