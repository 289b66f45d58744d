//! The operations of a forward pass: one coarse trait, its handles, and the scalar specification.
//!
//! Owns: [`Ops`] (what every backend provides), the handles ([`Act`], [`W`]), the ragged [`Batch`],
//! the specs of the operations, [`reference`] (what each operation means, to the bit) and decorators
//! such as [`trace`]. Does not own: fast kernels (`pondera-cpu`), families (`pondera-arch`), files.
//!
//! Activations are always `[rows, cols]`: rows are tokens of a ragged batch, heads are groups of columns,
//! nothing is ever transposed.
#![forbid(unsafe_code)]

#[macro_use]
mod forward;

pub mod act;
pub mod adapted;
pub mod batch;
pub mod conformance;
pub mod count;
pub mod math;
pub mod reference;
pub mod spec;
pub mod trace;
pub mod weight;

pub use act::{Act, Arena};
pub use adapted::{Adapted, Adapter, Change, Part, Role};
pub use batch::{Batch, PAGE, Sequence};
pub use count::{Count, Mechanism};
pub use reference::Reference;
pub use spec::*;
pub use weight::{Layout, Settled, W, Weight};

use std::time::Duration;

/// Most linears in one call of [`Ops::linears`].
pub const MAX_LINEARS: usize = 4;

/// Results of [`Ops::linears`], without an allocation.
pub type Acts = arrayvec::ArrayVec<Act, MAX_LINEARS>;

/// What a backend provides. [`Reference`] defines the meaning of every method; a CPU backend equals it to
/// the bit, a GPU within tolerance and itself from run to run (docs/numerics.md).
///
/// Shapes are the caller's duty: a mismatch here is a bug and panics. No method has a default body, so that
/// a decorator cannot silently bypass a backend's own.
pub trait Ops {
    /// What products and recurrences ran on since the backend was made, for people: a kernel and what it was used for
    /// in each line.
    fn kernels(&self) -> Vec<String>;

    /// An activation from host values: `data` is `[rows, cols]`.
    fn input(&self, rows: usize, cols: usize, data: &[f32]) -> Act;

    /// Appends the values of `x`, `[rows, cols]`, to `out`. This and [`Ops::greatest`] alone wait for others.
    fn read(&self, x: &Act, out: &mut Vec<f32>);

    /// Appends each row's greatest value and its column, the lowest of several, to `out`; in place of the value NaN where
    /// a value of the row is not finite (the column then means nothing). A row has a column at least.
    fn greatest(&self, x: &Act, out: &mut Vec<(u32, f32)>);

    /// Makes room for caches: one per spec, addressed by its index, `pages` pages of [`PAGE`] positions each.
    /// Forgets what earlier caches held. Memory is taken as pages are written.
    fn reserve(&self, caches: &[CacheSpec], kv: KvType, pages: usize);

    /// Gives page `to` of every cache what page `from` holds, which was written before.
    fn copy_page(&self, from: usize, to: usize);

    /// Makes room for recurrent states: `slots` of each spec, addressed by its index. Forgets what earlier ones held.
    fn reserve_states(&self, states: &[StateSpec], slots: usize);

    /// What caches and states have taken so far.
    fn held(&self) -> Held;

    /// How weights lie in memory from here on. Changes no bit of any result.
    fn lay_out(&self, layout: Layout);

    /// Lays out more of the weights that were used so far, for about `budget`; with none it only tells how far they are.
    fn settle(&self, budget: Duration) -> Settled;

    /// Bytes per second at which the weights that were laid out are read from memory now, measured in some tens of
    /// milliseconds; none where there are too few of them to be read from there.
    fn read_weights(&self) -> Option<f64>;

    /// Rows of `table` `[n, dim]` for the batch's tokens or positions, times `scale`: `[rows, dim]`.
    fn embed(&self, table: &W, index: Index, scale: f32, batch: &Batch) -> Act;

    /// `y = W x (+ bias)`: `[rows, inp]` to `[rows, out]`.
    fn linear(&self, l: &Linear, x: &Act) -> Act;

    /// At most [`MAX_LINEARS`] linears of one input, as if each were called alone: `x` is prepared once.
    /// Outputs in the order of `ls`.
    fn linears(&self, ls: &[&Linear], x: &Act) -> Acts;

    /// Group `g` of the columns of `x` times group `g` of `w`: `[rows, groups · inp]` to `[rows, groups · out]`;
    /// with `transpose` times its transpose: `[rows, groups · out]` to `[rows, groups · inp]`.
    fn linear_heads(&self, w: &W, x: &Act, transpose: bool) -> Act;

    /// Normalises each `group` of columns of each row.
    fn norm(&self, n: &Norm, x: &Act, group: usize) -> Act;

    /// Cosines and sines for the batch's positions: `[rows, 2 · pairs]`, cosines first. Computed once a step, used by every layer.
    fn rotary(&self, rope: &Rope, batch: &Batch) -> Act;

    /// `x + y` and its norm, each row as one group.
    fn add_norm(&self, x: Act, y: &Act, n: &Norm) -> (Act, Act);

    /// Rotates columns `offset .. offset + 2 · pairs` of every head by `table` (from [`Ops::rotary`]), after it was
    /// normalised as a whole if there is a norm.
    fn rope(&self, x: Act, norm: Option<&Norm>, table: &Act, layout: &RopeLayout) -> Act;

    /// Writes keys `[rows, kv_heads · k_dim]` and values `[rows, kv_heads · v_dim]` at the batch's positions.
    /// `v` is `None` where values are a prefix of the keys ([`CacheSpec::v_dim`] `None`).
    fn append(&self, cache: CacheId, k: &Act, v: Option<&Act>, batch: &Batch);

    /// Attends from `q` `[rows, heads · qk_dim]` to the cache: `[rows, heads · v_dim]`.
    fn attention(&self, a: &Attention, q: &Act, batch: &Batch) -> Act;

    /// For each query at `p` the best positions of `0 ..= p`, from `q` `[rows, heads · dim]` and the heads' weights
    /// `[rows, heads]`: `[rows, Indexer::columns]`, positions (below 2^24) as exact f32, ascending, then -1 where there are fewer. Of equal scores the
    /// lower position is taken.
    fn select(&self, i: &Indexer, q: &Act, weights: &Act, batch: &Batch) -> Act;

    /// [`Ops::attention`], causal and with neither cap nor slopes, to the positions that [`Ops::select`] chose. A span of which none is chosen is skipped; the others'
    /// values have weight 0.
    fn attention_over(&self, a: &Attention, q: &Act, selected: &Act, batch: &Batch) -> Act;

    /// Convolves every channel of `x` `[rows, channels]` along each sequence, and keeps its state.
    fn conv(&self, c: &Conv, x: &Act, batch: &Batch) -> Act;

    /// Runs a recurrence along each sequence, and keeps its state. `inputs` as [`Scan`] says; the result is as wide as
    /// x, or v.
    fn scan(&self, s: &Scan, inputs: &[&Act], batch: &Batch) -> Act;

    /// Columns `from .. to` of every `group` of columns.
    fn columns(&self, x: &Act, group: usize, from: usize, to: usize) -> Act;

    /// Per head, the columns of `a` followed by those of `b`.
    fn concat_heads(&self, a: &Act, b: &Act, heads: usize) -> Act;

    /// The rows `rows` of `x`, in that order.
    fn select_rows(&self, x: &Act, rows: &[u32]) -> Act;

    /// `y` with its rows `rows`, ascending, changed as `patch` says.
    fn patch(&self, y: Act, rows: &[u32], patch: &Patch<'_>) -> Act;

    /// `a + b`.
    fn add(&self, a: Act, b: &Act) -> Act;

    /// `x · factor`.
    fn scale(&self, x: Act, factor: f32) -> Act;

    /// `cap · tanh(x / cap)`.
    fn softcap(&self, x: Act, cap: f32) -> Act;

    /// `x[r, c] · sigmoid(gate[r, c / (x.cols / gate.cols)])`: a gate per element, per head or per row.
    fn sigmoid_mul(&self, x: Act, gate: &Act) -> Act;

    /// `x[r, c] · factor[r, c / (x.cols / factor.cols)]`: as [`Ops::sigmoid_mul`], without the sigmoid.
    fn mul(&self, x: Act, factor: &Act) -> Act;

    /// `act(gate) · x`, or for a gate whose nonlinearity takes both, that. Equal shapes.
    fn glu(&self, act: Activation, gate: Act, x: &Act) -> Act;

    /// Every value between `-limit` and `limit`.
    fn clamp(&self, x: Act, limit: f32) -> Act;

    /// The feed-forward block: `down(act(gate x) · up x)`, or `down(act(up x))` without a gate.
    fn mlp(&self, m: &Mlp, x: &Act) -> Act;

    /// Chooses experts from router logits `[rows, experts]`: `[rows, 2 · top_k]`, ids (as exact f32) in order
    /// of falling score, then their weights.
    fn route(&self, r: &Route, logits: &Act) -> Act;

    /// Weighted sum of the chosen experts' outputs, added in ascending expert id; then, if there is one, the output of
    /// the expert that all rows share.
    fn experts(&self, e: &Experts, route: &Act, x: &Act, shared: Option<Shared<'_>>) -> Act;

    /// Shows a value to whoever watches; backends do nothing here.
    fn observe(&self, point: Point, x: &Act);
}
