//! Two parts of a layer side by side: both read the stream, their results are added to it together.
use super::Block;
use crate::Step;
use pondera_ops::{Act, Norm, Ops};

/// `a(norm_a(x)) + b(norm_b(x))`.
pub struct Parallel {
    /// Before each; where the second is absent both read what the first gives.
    pub norms: [Option<Norm>; 2],
    /// The mixer, then the feed-forward part.
    pub bodies: [Box<dyn Block>; 2],
}

impl Parallel {
    /// Both parts under one norm.
    pub fn shared(norm: Norm, a: impl Block + 'static, b: impl Block + 'static) -> Parallel {
        Parallel { norms: [Some(norm), None], bodies: [Box::new(a), Box::new(b)] }
    }

    /// Each part under a norm of its own.
    pub fn apart(norms: [Norm; 2], a: impl Block + 'static, b: impl Block + 'static) -> Parallel {
        Parallel { norms: norms.map(Some), bodies: [Box::new(a), Box::new(b)] }
    }

    /// What both read.
    fn inputs(&self, ops: &dyn Ops, x: &Act) -> [Act; 2] {
        let norm = |n: &Norm| ops.norm(n, x, x.cols);
        let a = self.norms[0].as_ref().map_or_else(|| x.clone(), norm);
        let b = self.norms[1].as_ref().map_or_else(|| a.clone(), norm);
        [a, b]
    }
}

impl Block for Parallel {
    fn forward(&self, ops: &dyn Ops, step: &Step<'_>, x: &Act) -> Act {
        let [a, b] = self.inputs(ops, x);
        ops.add(self.bodies[0].forward(ops, step, &a), &self.bodies[1].forward(ops, step, &b))
    }

    fn forward_wanted(&self, ops: &dyn Ops, step: &Step<'_>, wanted: &Step<'_>, x: &Act) -> Act {
        let [a, b] = self.inputs(ops, x);
        let a = self.bodies[0].forward_wanted(ops, step, wanted, &a);
        ops.add(a, &self.bodies[1].forward_wanted(ops, step, wanted, &b))
    }
}

/// What a part of a layer gives, times a factor.
pub struct Scaled {
    /// The part.
    pub body: Box<dyn Block>,
    /// The factor.
    pub scale: f32,
}

impl Block for Scaled {
    fn forward(&self, ops: &dyn Ops, step: &Step<'_>, x: &Act) -> Act {
        ops.scale(self.body.forward(ops, step, x), self.scale)
    }

    fn mixes(&self) -> bool {
        self.body.mixes()
    }

    fn forward_wanted(&self, ops: &dyn Ops, step: &Step<'_>, wanted: &Step<'_>, x: &Act) -> Act {
        ops.scale(self.body.forward_wanted(ops, step, wanted, x), self.scale)
    }
}
