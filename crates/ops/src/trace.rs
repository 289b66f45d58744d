//! A decorator that shows chosen values of a forward pass to a closure.
use crate::*;

/// Passes every call on to `inner` and every observed value to `watch`.
pub struct Watch<'a, F: Fn(Point, &Act)> {
    /// The backend that computes.
    pub inner: &'a dyn Ops,
    /// Called at each [`Ops::observe`].
    pub watch: F,
}

impl<F: Fn(Point, &Act)> Ops for Watch<'_, F> {
    forward_ops!(inner);

    fn observe(&self, point: Point, x: &Act) {
        (self.watch)(point, x);
        self.inner.observe(point, x);
    }
}
