//! What the scheduler needs of a model and of a vocabulary, and no more; tests put models of their own here.
use pondera_ops::{Act, Batch, CacheSpec, Ops, StateSpec};
use std::sync::Arc;

/// From a step's tokens to logits.
pub(crate) trait Net {
    /// Logits of the rows in `batch.logit_rows`, `[logit_rows, vocab]`.
    fn forward(&self, ops: &dyn Ops, batch: &Batch) -> Act;
    /// What comes before the logits: `[logit_rows, hidden]`.
    fn hidden(&self, ops: &dyn Ops, batch: &Batch) -> Act;
    /// What the layers keep per position.
    fn caches(&self) -> &[CacheSpec];
    /// What the layers keep of a whole sequence.
    fn states(&self) -> &[StateSpec];
    /// Sequences that grow into another epoch are computed again from their start.
    fn rope_epoch(&self, length: u32) -> u32;
    /// Gives page `to` of every cache what page `from` holds.
    fn copy_page(&self, ops: &dyn Ops, from: u32, to: u32);
    /// Width of the logits.
    fn vocab_size(&self) -> usize;
}

/// Text of one sequence, token by token.
pub(crate) trait Stream {
    /// Appends the text that `id` completes to `out`; never half a character.
    fn push(&mut self, id: u32, out: &mut String);
    /// No more tokens come: appends what an unfinished character becomes.
    fn finish(&mut self, out: &mut String);
}

/// From ids to text.
pub(crate) trait Vocabulary {
    /// Text of a new sequence; special tokens are shown or left out, but for those of `shown`.
    fn stream(&self, show_special: bool, shown: Arc<[u32]>) -> Box<dyn Stream>;
    /// Ids that end a sequence.
    fn ends(&self) -> &[u32];
}
