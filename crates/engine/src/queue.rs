//! Who waits: a line for each tenant, and whose turn it is. Does not know what a request needs to start.
//!
//! Tenants take turns, so that one with a thousand requests does not keep out another's first; within a tenant, who came
//! first goes first.
use crate::sequence::Sequence;
use std::collections::VecDeque;

/// The lines, in the order of their turns; none is empty.
#[derive(Default)]
pub(crate) struct Queue {
    lines: VecDeque<Line>,
    count: usize,
}

struct Line {
    tenant: u64,
    /// In order of arrival.
    waiting: VecDeque<Sequence>,
}

/// Where somebody waits; good until the queue changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    line: usize,
    at: usize,
}

impl Queue {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Behind all of its tenant; a tenant of whom nobody waited has its turn after all others.
    pub fn push(&mut self, s: Sequence) {
        self.count += 1;
        let tenant = s.request.tenant;
        match self.lines.iter_mut().find(|l| l.tenant == tenant) {
            Some(line) => line.waiting.push_back(s),
            None => self.lines.push_back(Line { tenant, waiting: VecDeque::from([s]) }),
        }
    }

    /// One that gave way comes back before all others.
    pub fn push_first(&mut self, s: Sequence) {
        self.count += 1;
        let tenant = s.request.tenant;
        let known = self.lines.iter().position(|l| l.tenant == tenant);
        let mut line = known
            .and_then(|i| self.lines.remove(i))
            .unwrap_or_else(|| Line { tenant, waiting: VecDeque::with_capacity(1) });
        line.waiting.push_front(s);
        self.lines.push_front(line);
    }

    /// The first for whom `ready` holds: of the tenant whose turn it is, or the next one of whom there is any.
    pub fn find(&mut self, mut ready: impl FnMut(&mut Sequence) -> bool) -> Option<Place> {
        let mut lines = self.lines.iter_mut().enumerate();
        lines.find_map(|(line, l)| l.waiting.iter_mut().position(&mut ready).map(|at| Place { line, at }))
    }

    /// Who waits at `place`.
    pub fn at(&mut self, place: Place) -> &mut Sequence {
        &mut self.lines[place.line].waiting[place.at]
    }

    /// Takes who waits at `place`; its tenant has had its turn.
    pub fn take(&mut self, place: Place) -> Option<Sequence> {
        let mut line = self.lines.remove(place.line)?;
        let taken = line.waiting.remove(place.at);
        self.count -= usize::from(taken.is_some());
        if !line.waiting.is_empty() {
            self.lines.push_back(line);
        }
        taken
    }

    /// All, line by line.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Sequence> {
        self.lines.iter_mut().flat_map(|l| &mut l.waiting)
    }

    /// Keeps those for whom `stays` holds.
    pub fn retain_mut(&mut self, mut stays: impl FnMut(&mut Sequence) -> bool) {
        self.lines.iter_mut().for_each(|l| l.waiting.retain_mut(&mut stays));
        self.lines.retain(|l| !l.waiting.is_empty());
        self.count = self.lines.iter().map(|l| l.waiting.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Request, RequestId};

    fn sequence(id: u64, tenant: u64) -> Sequence {
        Sequence::new(RequestId(id), Request { prompt: vec![1], tenant, ..Request::default() }, 1, 8, None)
    }

    fn taken(q: &mut Queue, mut ready: impl FnMut(u64) -> bool) -> Vec<u64> {
        let mut order = Vec::new();
        while let Some(place) = q.find(|s| ready(s.id.0)) {
            order.push(q.take(place).unwrap().id.0);
        }
        order
    }

    #[test]
    fn tenants_take_turns_and_keep_their_order() {
        let mut q = Queue::default();
        for (id, tenant) in [(1, 7), (2, 7), (3, 7), (4, 8), (5, 9), (6, 8)] {
            q.push(sequence(id, tenant));
        }
        assert_eq!(q.len(), 6);
        assert_eq!(taken(&mut q, |_| true), [1, 4, 5, 2, 6, 3]);
        assert!(q.is_empty());
    }

    #[test]
    fn who_gave_way_is_first_and_who_is_not_ready_holds_nobody_up() {
        let mut q = Queue::default();
        for (id, tenant) in [(1, 7), (2, 7), (3, 8), (4, 8)] {
            q.push(sequence(id, tenant));
        }
        q.push_first(sequence(0, 8));
        assert_eq!(taken(&mut q, |id| id != 1), [0, 2, 3, 4]);
        q.retain_mut(|s| s.id.0 != 1);
        assert!(q.is_empty() && q.find(|_| true).is_none());
    }
}
