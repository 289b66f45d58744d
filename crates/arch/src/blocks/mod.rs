//! The equations that families are made of, one file each, written once over [`pondera_ops::Ops`].
//!
//! A different number is configuration; a different equation is another block.
mod alibi;
mod decoder;
mod delta_net;
mod gqa;
mod latent_moe;
mod lightning;
mod mamba;
mod mamba2;
mod mla;
mod mlp;
mod moe;
mod parallel;
mod rope;
mod scaled;
mod short_conv;
mod softmax_moe;

pub use alibi::{slopes, slopes_above};
pub use decoder::{Branch, Decoder, Embedding, Encoder, Head, NormKind, Tree, layers};
pub use delta_net::{DeltaNet, DeltaNetConfig, Joined};
pub use gqa::{Gqa, GqaConfig, Projection, QkNorm};
pub use latent_moe::{LatentMoe, plain_experts};
pub use lightning::{Lightning, Same};
pub use mamba::{Mamba, MambaConfig};
pub use mamba2::{GateOrder, Mamba2, Mamba2Config};
pub use mla::{Mla, MlaConfig};
pub use mlp::{Mlp, fused_mlp, gated, gated_mlp, plain, plain_mlp};
pub use moe::{ExpertNames, Moe, SharedExpert, experts};
pub use moe::{InputScaled, MoeConfig, deepseek_ffn, deepseek_route, is_sparse, routed_ffn};
pub use parallel::Parallel;
pub use parallel::Scaled;
pub use rope::{Rotary, RotaryDims, attention_mscale, llama4_scaling};
pub use scaled::{Multiplied, ScaledMlp};
pub use short_conv::{ShortConv, convolution, convolution_times};
pub use softmax_moe::{SoftmaxMoe, gated_shared, softmax_moe};

use crate::Step;
use pondera_ops::{Act, Linear, Ops};

/// Some linears of one input, each result the caller's own, so that what works in place need not copy it.
fn linears<const N: usize>(ops: &dyn Ops, ls: [&Linear; N], x: &Act) -> [Act; N] {
    let mut results = ops.linears(&ls, x).into_iter();
    std::array::from_fn(|_| results.next().expect("a result for each linear"))
}

/// A mixer or feed-forward part of a layer: `[rows, hidden]` to `[rows, hidden]`.
pub trait Block: Send + Sync {
    /// Its output for the rows of the step; the residual is the caller's.
    fn forward(&self, ops: &dyn Ops, step: &Step<'_>, x: &Act) -> Act;

    /// Whether rows see one another. Where they do not, rows that nobody reads need not be computed.
    fn mixes(&self) -> bool {
        true
    }

    /// [`Block::forward`] of all rows `x` of `step`, of which only those of `wanted` ([`Step::narrowed`]) are returned.
    /// What it leaves in caches is the same.
    fn forward_wanted(&self, ops: &dyn Ops, step: &Step<'_>, wanted: &Step<'_>, x: &Act) -> Act {
        let _ = wanted;
        ops.select_rows(&self.forward(ops, step, x), &step.batch.logit_rows)
    }
}
