//! The decoder that most families share: a residual stream, layers of branches that read and add to it, a head.
//!
//! ```text
//! x = project(norm(embed(tokens) · scale (+ positions)))
//! x = keep · x + scale · post(body(pre(x)))      for each branch of each layer
//! logits = cap(scale · head(project(norm(x))))
//! ```
use super::{Block, Same};
use crate::{Config, Graph, Params, Result, Step};
use pondera_ops::{Act, Batch, Index, Linear, Norm, Ops, Point, W};

/// What tokens become.
pub struct Embedding {
    /// `[vocab, hidden]`.
    pub tokens: W,
    /// Factor on its rows.
    pub scale: f32,
    /// `[positions, hidden]`: learnt positions, added, and the row of the first.
    pub positions: Option<(W, u32)>,
    /// Of the sum.
    pub norm: Option<Norm>,
    /// From the width of the table to that of the stream.
    pub project: Option<Linear>,
}

impl Embedding {
    /// The rows of `tokens` as they are.
    pub fn new(tokens: W) -> Embedding {
        Embedding { tokens, scale: 1.0, positions: None, norm: None, project: None }
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
        match &self.norm {
            Some(n) => ops.norm(n, &x, x.cols),
            None => x,
        }
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

    /// [`Branch::pre_norm`] of a body whose kind is not known here.
    pub fn boxed(norm: Norm, body: Box<dyn Block>) -> Branch {
        Branch { pre: Some(norm), body, post: None, keep: 1.0, scale: 1.0, after: None }
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
            true => Linear { weight: embedding.clone(), bias: None },
            false => p.linear(("lm_head", "output"), embedding.out, embedding.inp, false)?,
        };
        Ok(Head { norm: norm.into(), project: None, linear, scale: 1.0, softcap: None })
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

/// Builds `count` layers.
pub fn layers(count: usize, build: impl FnMut(usize) -> Result<Vec<Branch>>) -> Result<Vec<Vec<Branch>>> {
    (0..count).map(build).collect()
}

impl Decoder {
    /// A decoder whose layers are called `name`, from what stands around them.
    pub fn build(
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
        let (hidden, eps) = (c.hidden_size()?, c.eps("rms_norm_eps")?);
        let body = p.body();
        let tokens = body.weight(("embed_tokens", "token_embd"), c.vocab_size()?, hidden)?;
        let layers = layers(c.num_hidden_layers()?, |i| {
            let l = body.layer("layers", i);
            let mix = Branch::pre_norm(
                l.rms(("input_layernorm", "attn_norm"), hidden, eps, false)?,
                mixer(&l.at((mixer_name, "")), i)?,
            );
            let pre = Some(l.rms(("post_attention_layernorm", "ffn_norm|post_attention_norm"), hidden, eps, false)?);
            let body = ffn(&l.at((ffn_name, "")), i)?;
            let ffn = Branch { pre, body, post: None, keep: 1.0, scale: 1.0, after: None };
            Ok(vec![mix, ffn])
        })?;
        let norm = body.rms(("norm", "output_norm"), hidden, eps, false)?;
        let head = Head::load(p, norm, &tokens, c.flag("tie_word_embeddings")?)?;
        Ok(Decoder { embedding: Embedding::new(tokens), layers, head })
    }
}

impl Graph for Decoder {
    fn positions_end(&self) -> Option<usize> {
        self.embedding.positions.as_ref().map(|(table, first)| table.out.saturating_sub(*first as usize))
    }

    fn hidden(&self, ops: &dyn Ops, step: &Step<'_>) -> Act {
        let batch = step.batch;
        let x = self.embedding.forward(ops, batch);
        let mut x = Stream { sum: Some(x), rest: None, point: None };
        // Once rows mix for the last time, those whose logits nobody wants are done with.
        let unread = batch.len() - batch.logit_rows.len();
        let wanted = if unread < UNREAD_MIN { None } else { batch.wanted() };
        let narrowed = wanted.as_ref().map(|w| step.narrowed(ops, w));
        let last = self.layers.last().and_then(|l| l.iter().rposition(|b| b.body.mixes()));
        let last = last.map(|branch| (self.layers.len() - 1, branch));
        let mut now = step;
        for (i, branches) in self.layers.iter().enumerate() {
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
        x.point = Some(Point::Hidden(self.layers.len()));
        if now.batch.len() != batch.logit_rows.len() {
            x.select(ops, &batch.logit_rows);
        }
        match &self.head.norm {
            Some(n) => x.norm(ops, n),
            None => x.settled(ops).clone(),
        }
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
