//! Activations: owned handles over memory that is used again once the last handle is gone.
use std::{
    cell::{Cell, Ref, RefCell, RefMut},
    rc::Rc,
};

/// An activation `[rows, cols]`. Clones share the values; dropping the last handle returns the memory.
#[derive(Clone)]
pub struct Act {
    slot: Rc<Slot>,
    /// Tokens.
    pub rows: usize,
    /// Features.
    pub cols: usize,
}

struct Slot {
    data: RefCell<Vec<f32>>,
    stamp: Cell<u64>,
}

/// Host memory for activations. After the first step of a shape, later ones allocate nothing.
#[derive(Default)]
pub struct Arena {
    slots: RefCell<Vec<Rc<Slot>>>,
    clock: Rc<Cell<u64>>,
}

impl Arena {
    /// An activation whose values are unspecified: the caller writes all of them.
    pub fn alloc(&self, rows: usize, cols: usize) -> Act {
        let n = rows * cols;
        let mut slots = self.slots.borrow_mut();
        // The smallest free slot that is large enough and not wastefully so; free means that only the arena holds it.
        let best = slots
            .iter()
            .enumerate()
            .filter(|(_, s)| Rc::strong_count(s) == 1)
            .map(|(i, s)| (s.data.borrow().capacity(), i))
            .filter(|&(c, _)| c >= n && c / 4 <= n.max(256))
            .min();
        let slot = match best {
            Some((_, i)) => slots[i].clone(),
            None => {
                // What is free and too small (or too large) is returned to the system, so that the arena follows the step's shape.
                slots.retain(|s| Rc::strong_count(s) > 1 || s.data.borrow().capacity() <= 4096.max(n));
                let slot = Rc::new(Slot { data: RefCell::new(Vec::with_capacity(n)), stamp: Cell::new(0) });
                slots.push(slot.clone());
                slot
            }
        };
        slot.data.borrow_mut().resize(n, 0.0);
        self.clock.set(self.clock.get() + 1);
        slot.stamp.set(self.clock.get());
        Act { slot, rows, cols }
    }

    /// Bytes held, free and in use.
    pub fn bytes(&self) -> usize {
        self.slots.borrow().iter().map(|s| s.data.borrow().capacity() * 4).sum()
    }

    /// `x` itself where this is its only handle, a copy otherwise: for operations that work in place.
    pub fn owned(&self, x: Act) -> Act {
        if Rc::strong_count(&x.slot) == 2 {
            self.clock.set(self.clock.get() + 1);
            x.slot.stamp.set(self.clock.get());
            return x;
        }
        let y = self.alloc(x.rows, x.cols);
        y.data_mut().copy_from_slice(&x.data());
        y
    }
}

impl Act {
    /// The values, row-major.
    pub fn data(&self) -> Ref<'_, Vec<f32>> {
        self.slot.data.borrow()
    }

    /// The values, to be written. A backend writes only what it just got from [`Arena::alloc`] or [`Arena::owned`].
    pub fn data_mut(&self) -> RefMut<'_, Vec<f32>> {
        self.slot.data.borrow_mut()
    }

    /// Differs between any two activations with different contents: a key for what a backend derives from
    /// them (quantized codes).
    pub fn stamp(&self) -> u64 {
        self.slot.stamp.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_returns_and_is_used_again() {
        let a = Arena::default();
        for _ in 0..10 {
            let x = a.alloc(4, 100);
            let y = a.alloc(4, 100);
            assert_ne!(x.stamp(), y.stamp());
            assert!(!Rc::ptr_eq(&x.slot, &y.slot));
        }
        assert_eq!(a.slots.borrow().len(), 2);
    }

    #[test]
    fn in_place_only_when_alone() {
        let a = Arena::default();
        let x = a.alloc(1, 8);
        let before = x.stamp();
        let keep = x.clone();
        let y = a.owned(x);
        assert!(!Rc::ptr_eq(&keep.slot, &y.slot));
        let slot = Rc::as_ptr(&y.slot);
        let z = a.owned(y);
        assert_eq!(slot, Rc::as_ptr(&z.slot));
        assert_ne!(before, z.stamp());
    }
}
