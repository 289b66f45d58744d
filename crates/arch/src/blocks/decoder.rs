//! The decoder that most families share: a residual stream, layers of branches that read and add to it, a head.
//!
//! ```text
//! x = project(norm(embed(tokens) · scale (+ positions)))
//! x = keep · x + scale · post(body(pre(x)))      for each branch of each layer
//! logits = cap(scale · head(project(norm(x))))
//! ```
use super::{Block, Parallel, Same};
use crate::{Config, Graph, Name, Params, Result, Step};
use pondera_ops::{Act, Batch, Index, Linear, Norm, Ops, Point, W};

/// What tokens become.
pub struct Embedding {
    /// `[vocab, hidden]`.
    pub tokens: W,
    /// Factor on its rows.
    pub scale: f32,
    /// `[positions, hidden]`: learnt positions, added, and the row of the first.
    pub positions: Option<(W, u32)>,
    /// `[types, hidden]`: kinds of tokens, of which all are the first; added.
    pub types: Option<W>,
    /// Of the sum.
    pub norm: Option<Norm>,
    /// From the width of the table to that of the stream.
    pub project: Option<Linear>,
    /// Positions that some layer can tell apart, where that is bounded.
    pub positions_max: Option<usize>,
}

impl Embedding {
    /// The rows of `tokens` as they are.
    pub fn new(tokens: W) -> Embedding {
        Embedding { tokens, scale: 1.0, positions: None, types: None, norm: None, project: None, positions_max: None }
    }

    /// `[rows, hidden]`.
    pub fn forward(&self, ops: &dyn Ops, batch: &Batch) -> Act {
        let mut x = ops.embed(&self.tokens, Index::Tokens, self.scale, batch);
        if let Some(l) = &self.project {
            x = ops.linear(l, &x);
        }
        if let Some((table, first)) = &self.positions {
            x = ops.add(x, &ops.embed(table, Index::Positions(*first), 1.0, batch));
        }
        if let Some(types) = &self.types {
            x = ops.add(x, &ops.embed(types, Index::Row(0), 1.0, batch));
        }
        match &self.norm {
            Some(n) => ops.norm(n, &x, x.cols),
            None => x,
        }
    }

    /// Positions that exist, where that is bounded.
    fn positions_end(&self) -> Option<usize> {
        let learnt = self.positions.as_ref().map(|(table, first)| table.out.saturating_sub(*first as usize));
        learnt.into_iter().chain(self.positions_max).min()
    }
}

/// One branch of a layer.
pub struct Branch {
    /// Before the body.
    pub pre: Option<Norm>,
    /// The mixer or the feed-forward part.
    pub body: Box<dyn Block>,
    /// After it, before the sum.
    pub post: Option<Norm>,
    /// Factor on the stream.
    pub keep: f32,
    /// Factor on what is added to it.
    pub scale: f32,
    /// Of the new stream.
    pub after: Option<Norm>,
}

impl Branch {
    /// `x += body(x)`.
    pub fn plain(body: impl Block + 'static) -> Branch {
        Branch { pre: None, body: Box::new(body), post: None, keep: 1.0, scale: 1.0, after: None }
    }

    /// `x += body(norm(x))`.
    pub fn pre_norm(norm: Norm, body: impl Block + 'static) -> Branch {
        Branch { pre: Some(norm), ..Branch::plain(body) }
    }

    /// `x = norm(x)`.
    pub fn renewed(norm: Norm) -> Branch {
        Branch { keep: 0.0, ..Branch::pre_norm(norm, Same) }
    }

    /// [`Branch::pre_norm`], or without a norm [`Branch::plain`], of a body whose kind is not known here.
    pub fn boxed(norm: impl Into<Option<Norm>>, body: Box<dyn Block>) -> Branch {
        Branch { pre: norm.into(), body, post: None, keep: 1.0, scale: 1.0, after: None }
    }

    /// `x += norm(body(x))`.
    pub fn post_norm(body: impl Block + 'static, norm: Norm) -> Branch {
        Branch { post: Some(norm), ..Branch::plain(body) }
    }

    /// `x += post(body(pre(x)))`.
    pub fn sandwich(pre: Norm, body: impl Block + 'static, post: Norm) -> Branch {
        Branch { pre: Some(pre), post: Some(post), ..Branch::plain(body) }
    }

    /// The same with another factor on what is added.
    pub fn scaled(self, scale: f32) -> Branch {
        Branch { scale, ..self }
    }

    /// What the branch makes of the stream, still to be added to it; `body` computes the middle.
    fn forward(&self, ops: &dyn Ops, x: &mut Stream, body: impl FnOnce(&Act) -> Act) -> Act {
        let y = match &self.pre {
            Some(n) => body(&x.norm(ops, n)),
            None => body(x.settled(ops)),
        };
        let y = match &self.post {
            Some(n) => ops.norm(n, &y, y.cols),
            None => y,
        };
        if self.scale == 1.0 { y } else { ops.scale(y, self.scale) }
    }
}

/// Rows without a reader from which on it pays to leave them out at the end.
const UNREAD_MIN: usize = 16;

/// The residual stream. What a branch gave is added when somebody reads the sum: mostly the next norm, which does both
/// in one pass over a row.
struct Stream {
    /// Empty only within its methods.
    sum: Option<Act>,
    rest: Option<Act>,
    /// What the next sum is called by those who watch.
    point: Option<Point>,
}

impl Stream {
    /// The stream itself.
    fn settled(&mut self, ops: &dyn Ops) -> &Act {
        let x = self.sum.take().expect("a stream holds a value");
        let x = match self.rest.take() {
            Some(y) => ops.add(x, &y),
            None => x,
        };
        self.show(ops, x)
    }

    fn show(&mut self, ops: &dyn Ops, x: Act) -> &Act {
        if let Some(point) = self.point.take() {
            ops.observe(point, &x);
        }
        self.sum.insert(x)
    }

    /// Its norm.
    fn norm(&mut self, ops: &dyn Ops, n: &Norm) -> Act {
        let (y, x) = (self.rest.take(), self.sum.take().expect("a stream holds a value"));
        let (x, h) = match y {
            Some(y) => ops.add_norm(x, &y, n),
            None => {
                let h = ops.norm(n, &x, x.cols);
                (x, h)
            }
        };
        self.show(ops, x);
        h
    }

    /// What the branch `b` gave joins it.
    fn join(&mut self, ops: &dyn Ops, b: &Branch, y: Act) {
        if b.keep != 1.0 {
            self.settled(ops);
            let x = self.sum.take().expect("a stream holds a value");
            self.sum = Some(ops.scale(x, b.keep));
        }
        self.rest = Some(y);
        if let Some(n) = &b.after {
            let h = self.norm(ops, n);
            self.sum = Some(h);
        }
    }

    /// Only these rows from now on.
    fn select(&mut self, ops: &dyn Ops, rows: &[u32]) {
        self.sum = Some(ops.select_rows(self.settled(ops), rows));
    }
}

/// What the residual stream becomes.
pub struct Head {
    /// Before it.
    pub norm: Option<Norm>,
    /// From the width of the stream to that of the table.
    pub project: Option<Linear>,
    /// `[vocab, hidden]`.
    pub linear: Linear,
    /// Factor on the logits.
    pub scale: f32,
    /// Bound on the logits, after that.
    pub softcap: Option<f32>,
}

impl Head {
    /// Logits from `{lm_head, output}`, or from the embedding where they are tied.
    ///
    /// GGUF files say that they are tied by having no `output.weight`.
    pub fn load(p: &Params<'_>, norm: impl Into<Option<Norm>>, embedding: &W, tied: bool) -> Result<Head> {
        let tied = if p.is_gguf() { !p.has(("", "output.weight")) } else { tied };
        let linear = match tied {
            true => Linear { weight: p.tied(("lm_head|embed_out", "output"), embedding)?, bias: None },
            false => p.linear(("lm_head|embed_out", "output"), embedding.out, embedding.inp, false)?,
        };
        Ok(Head { norm: norm.into(), project: None, linear, scale: 1.0, softcap: None })
    }

    /// With a bias on the logits where `wanted`, tied or not.
    pub fn with_bias(mut self, p: &Params<'_>, wanted: bool) -> Result<Head> {
        if self.linear.bias.is_none() {
            self.linear.bias = p.bias(("lm_head", "output"), self.linear.weight.out, wanted)?;
        }
        Ok(self)
    }
}

/// A decoder.
pub struct Decoder {
    /// What tokens become.
    pub embedding: Embedding,
    /// Branches of each layer, in order.
    pub layers: Vec<Vec<Branch>>,
    /// What the residual stream becomes.
    pub head: Head,
}

/// Where the parts of a decoder are and which norms stand around them.
#[derive(Clone, Copy, Debug)]
pub struct Tree<'a> {
    /// The embedding.
    pub tokens: Name<'a>,
    /// What layers are called in repositories.
    pub layers: &'a str,
    /// A layer's mixer.
    pub mixer: &'a str,
    /// A layer's feed-forward part.
    pub ffn: &'a str,
    /// Norms before both.
    pub pre: [Option<Name<'a>>; 2],
    /// Norms after both, before the sum.
    pub post: [Option<Name<'a>>; 2],
    /// Norms of the stream after both.
    pub after: [Option<Name<'a>>; 2],
    /// Both read the same stream; without a second norm, what the first gives.
    pub parallel: bool,
    /// The head has a bias.
    pub head_bias: bool,
    /// The norm after the last layer.
    pub norm: Option<Name<'a>>,
    /// What kind all norms are.
    pub kind: NormKind,
}

impl Tree<'static> {
    /// Llama's: RMS norms before the mixer and the feed-forward part.
    pub fn pre_norm(c: &Config) -> Result<Tree<'static>> {
        Ok(Tree {
            tokens: ("embed_tokens", "token_embd"),
            layers: "layers",
            mixer: "self_attn",
            ffn: "mlp",
            pre: [
                Some(("input_layernorm", "attn_norm")),
                Some(("post_attention_layernorm", "ffn_norm|post_attention_norm")),
            ],
            post: [None, None],
            after: [None, None],
            head_bias: false,
            parallel: false,
            norm: Some(("norm", "output_norm")),
            kind: NormKind::Rms { eps: c.eps_or("rms_norm_eps", 1e-6)?, one_plus: false },
        })
    }

    /// OLMo 2's: RMS norms after both, before the sum.
    pub fn post_norm(c: &Config) -> Result<Tree<'static>> {
        let post = [
            Some(("post_attention_layernorm", "post_attention_norm")),
            Some(("post_feedforward_layernorm", "post_ffw_norm")),
        ];
        Ok(Tree { pre: [None, None], post, ..Tree::pre_norm(c)? })
    }

    /// Gemma 2's: RMS norms before and after both.
    pub fn sandwich(c: &Config) -> Result<Tree<'static>> {
        let pre = [Some(("input_layernorm", "attn_norm")), Some(("pre_feedforward_layernorm", "ffn_norm"))];
        Ok(Tree { pre, ..Tree::post_norm(c)? })
    }

    /// The same with RMS norms whose factor is `1 + w`.
    pub fn one_plus(self) -> Tree<'static> {
        let NormKind::Rms { eps, .. } = self.kind else { return self };
        Tree { kind: NormKind::Rms { eps, one_plus: true }, ..self }
    }
}

/// The norms of a decoder.
#[derive(Clone, Copy, Debug)]
pub enum NormKind {
    /// [`Norm::Rms`].
    Rms {
        /// Added to the mean square.
        eps: f32,
        /// The factor is `1 + w` in repositories.
        one_plus: bool,
    },
    /// [`Norm::Layer`].
    Layer {
        /// Added to the variance.
        eps: f32,
        /// With factors.
        weight: bool,
        /// With biases.
        bias: bool,
    },
    /// A layer norm with biases whose factor is `1 + w` in repositories; GGUF converters store the sum.
    LayerOnePlus {
        /// Added to the variance.
        eps: f32,
    },
}

impl NormKind {
    /// The norm of this name over `n` columns.
    pub fn load(self, p: &Params<'_>, name: Name<'_>, n: usize) -> Result<Norm> {
        match self {
            NormKind::Rms { eps, one_plus } => p.rms(name, n, eps, one_plus),
            NormKind::LayerOnePlus { eps } => {
                let norm = p.layer_norm(name, n, eps)?;
                let Norm::Layer { weight: Some(w), bias, eps } = norm else { return Ok(norm) };
                let sum = |w: &[f32]| w.iter().map(|w| 1.0 + w).collect();
                let weight = if p.is_gguf() { w } else { p.computed(&w, sum) };
                Ok(Norm::Layer { weight: Some(weight), bias, eps })
            }
            NormKind::Layer { eps, weight, bias } => p.layer_norm_of(name, n, eps, (weight, bias)),
        }
    }
}

/// Builds `count` layers.
pub fn layers(count: usize, build: impl FnMut(usize) -> Result<Vec<Branch>>) -> Result<Vec<Vec<Branch>>> {
    (0..count).map(build).collect()
}

impl Decoder {
    /// A decoder whose layers are called `name`, from what stands around them.
    pub fn layered(
        c: &Config,
        p: &Params<'_>,
        (embedding, norm): (Embedding, Option<Norm>),
        name: &str,
        mut layer: impl FnMut(&Params<'_>, usize) -> Result<Vec<Branch>>,
    ) -> Result<Decoder> {
        let body = p.body();
        let layers = layers(c.num_hidden_layers()?, |i| layer(&body.layer(name, i), i))?;
        let head = Head::load(p, norm, &embedding.tokens, c.flag("tie_word_embeddings")?)?;
        Ok(Decoder { embedding, layers, head })
    }

    /// The pre-norm tree of names that most families have: `mixer` reads from `self_attn`, `ffn` from `mlp`, both
    /// given the reader of their part and the layer's number.
    pub fn pre_norm<M: Block + 'static>(
        c: &Config,
        p: &Params<'_>,
        mixer: impl Fn(&Params<'_>, usize) -> Result<M>,
        ffn: impl Fn(&Params<'_>, usize) -> Result<Box<dyn Block>>,
    ) -> Result<Decoder> {
        Decoder::pre_norm_at(c, p, ("self_attn", "mlp"), mixer, ffn)
    }

    /// The same with other names for both parts of a layer.
    pub fn pre_norm_at<M: Block + 'static>(
        c: &Config,
        p: &Params<'_>,
        (mixer_name, ffn_name): (&str, &str),
        mixer: impl Fn(&Params<'_>, usize) -> Result<M>,
        ffn: impl Fn(&Params<'_>, usize) -> Result<Box<dyn Block>>,
    ) -> Result<Decoder> {
        let tree = Tree { mixer: mixer_name, ffn: ffn_name, ..Tree::pre_norm(c)? };
        Decoder::build(c, p, &tree, |p, i| Ok(Box::new(mixer(p, i)?)), ffn)
    }

    /// A decoder of this tree of names.
    pub fn build(
        c: &Config,
        p: &Params<'_>,
        tree: &Tree<'_>,
        mixer: impl Fn(&Params<'_>, usize) -> Result<Box<dyn Block>>,
        ffn: impl Fn(&Params<'_>, usize) -> Result<Box<dyn Block>>,
    ) -> Result<Decoder> {
        Decoder::build_over(c, p, (tree, c.hidden_size()?), mixer, ffn)
    }

    /// The same over an embedding of another width than the stream's.
    pub fn build_over(
        c: &Config,
        p: &Params<'_>,
        (tree, width): (&Tree<'_>, usize),
        mixer: impl Fn(&Params<'_>, usize) -> Result<Box<dyn Block>>,
        ffn: impl Fn(&Params<'_>, usize) -> Result<Box<dyn Block>>,
    ) -> Result<Decoder> {
        let (hidden, body) = (c.hidden_size()?, p.body());
        let tokens = body.weight(tree.tokens, c.vocab_size()?, width)?;
        let layers = layers(c.num_hidden_layers()?, |i| {
            let l = body.layer(tree.layers, i);
            let norms = |names: &[Option<Name<'_>>; 2]| -> Result<[Option<Norm>; 2]> {
                let one = |n: Option<Name<'_>>| n.map(|n| tree.kind.load(&l, n, hidden)).transpose();
                Ok([one(names[0])?, one(names[1])?])
            };
            let (pre, post, after) = (norms(&tree.pre)?, norms(&tree.post)?, norms(&tree.after)?);
            let bodies = [mixer(&l.at((tree.mixer, "")), i)?, ffn(&l.at((tree.ffn, "")), i)?];
            if tree.parallel {
                return Ok(vec![Branch::plain(Parallel { norms: pre, bodies })]);
            }
            let parts = pre.into_iter().zip(post).zip(after).zip(bodies);
            let branch = |(((pre, post), after), body)| Branch { pre, body, post, keep: 1.0, scale: 1.0, after };
            Ok(parts.map(branch).collect())
        })?;
        let norm = tree.norm.map(|n| tree.kind.load(&body, n, hidden)).transpose()?;
        let head = Head::load(p, norm, &tokens, c.flag("tie_word_embeddings")?)?.with_bias(p, tree.head_bias)?;
        Ok(Decoder { embedding: Embedding::new(tokens), layers, head })
    }

    /// The same with a factor on what every branch adds.
    pub fn scaled(mut self, scale: f32) -> Decoder {
        self.layers.iter_mut().flatten().for_each(|b| b.scale = scale);
        self
    }
}

impl Graph for Decoder {
    fn positions_end(&self) -> Option<usize> {
        self.embedding.positions_end()
    }

    fn hidden(&self, ops: &dyn Ops, step: &Step<'_>) -> Act {
        run(ops, step, (&self.embedding, &self.layers, self.head.norm.as_ref()))
    }

    fn forward(&self, ops: &dyn Ops, step: &Step<'_>) -> Act {
        let (head, mut x) = (&self.head, self.hidden(ops, step));
        if let Some(l) = &head.project {
            x = ops.linear(l, &x);
        }
        let mut logits = ops.linear(&head.linear, &x);
        if head.scale != 1.0 {
            logits = ops.scale(logits, head.scale);
        }
        match head.softcap {
            Some(cap) => ops.softcap(logits, cap),
            None => logits,
        }
    }
}

/// From tokens through layers to the rows whose logits are wanted, normalised.
fn run(ops: &dyn Ops, step: &Step<'_>, (embedding, layers, norm): (&Embedding, &[Vec<Branch>], Option<&Norm>)) -> Act {
    let batch = step.batch;
    let x = embedding.forward(ops, batch);
    let mut x = Stream { sum: Some(x), rest: None, point: None };
    // Once rows mix for the last time, those whose logits nobody wants are done with.
    let unread = batch.len() - batch.logit_rows.len();
    let wanted = if unread < UNREAD_MIN { None } else { batch.wanted() };
    let narrowed = wanted.as_ref().map(|w| step.narrowed(ops, w));
    let last = layers.last().and_then(|l| l.iter().rposition(|b| b.body.mixes()));
    let last = last.map(|branch| (layers.len() - 1, branch));
    let mut now = step;
    for (i, branches) in layers.iter().enumerate() {
        x.point = Some(Point::Hidden(i));
        for (j, b) in branches.iter().enumerate() {
            let y = match &narrowed {
                Some(wanted) if last == Some((i, j)) => {
                    let y = b.forward(ops, &mut x, |h| b.body.forward_wanted(ops, step, wanted, h));
                    x.select(ops, &batch.logit_rows);
                    now = wanted;
                    y
                }
                _ => b.forward(ops, &mut x, |h| b.body.forward(ops, now, h)),
            };
            x.join(ops, b, y);
        }
    }
    x.point = Some(Point::Hidden(layers.len()));
    if now.batch.len() != batch.logit_rows.len() {
        x.select(ops, &batch.logit_rows);
    }
    match norm {
        Some(n) => x.norm(ops, n),
        None => x.settled(ops).clone(),
    }
}

/// An encoder: each token sees those after it too, so a sequence comes whole in one step; there are no logits.
pub struct Encoder {
    /// What tokens become.
    pub embedding: Embedding,
    /// Branches of each layer, in order.
    pub layers: Vec<Vec<Branch>>,
    /// After the last layer.
    pub norm: Option<Norm>,
}

impl Graph for Encoder {
    fn forward(&self, ops: &dyn Ops, step: &Step<'_>) -> Act {
        self.hidden(ops, step)
    }

    fn hidden(&self, ops: &dyn Ops, step: &Step<'_>) -> Act {
        run(ops, step, (&self.embedding, &self.layers, self.norm.as_ref()))
    }

    fn positions_end(&self) -> Option<usize> {
        self.embedding.positions_end()
    }

    fn is_encoder(&self) -> bool {
        true
    }
}
