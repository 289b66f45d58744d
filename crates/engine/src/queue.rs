//! Who waits: a line for each tenant, and whose turn it is. Does not know what a request needs to start.
//!
//! Tenants take turns, so that one with a thousand requests does not keep out another's first; within a tenant, who came
//! first goes first. Who gave way comes back before all of them, and that is nobody's turn.
use crate::sequence::Sequence;
use std::collections::VecDeque;

#[derive(Default)]
pub(crate) struct Queue {
    /// Who gave way, in order of arrival.
    back: VecDeque<Sequence>,
    /// In the order of their turns; none is empty.
    lines: VecDeque<Line>,
}

struct Line {
    tenant: u64,
    /// In order of arrival.
    waiting: VecDeque<Sequence>,
}

/// Where somebody waits; good until the queue changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// None among those who gave way.
    line: Option<usize>,
    at: usize,
}

impl Queue {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.lines.iter().map(|l| l.waiting.len()).sum::<usize>() + self.back.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.back.is_empty()
    }

    /// Behind all of its tenant; a tenant of whom nobody waited has its turn after all others.
    pub fn push(&mut self, s: Sequence) {
        let tenant = s.request.tenant;
        match self.lines.iter_mut().find(|l| l.tenant == tenant) {
            Some(line) => line.waiting.push_back(s),
            None => self.lines.push_back(Line { tenant, waiting: VecDeque::from([s]) }),
        }
    }

    /// Takes back one that gave way.
    pub fn push_back(&mut self, s: Sequence) {
        let at = self.back.partition_point(|b| b.id < s.id);
        self.back.insert(at, s);
    }

    /// The first for whom `ready` holds: of those who gave way, of the tenant whose turn it is, or the next one of whom
    /// there is any.
    pub fn find(&mut self, mut ready: impl FnMut(&mut Sequence) -> bool) -> Option<Place> {
        let lines = self.lines.iter_mut().enumerate().map(|(i, l)| (Some(i), &mut l.waiting));
        let mut all = std::iter::once((None, &mut self.back)).chain(lines);
        all.find_map(|(line, l)| l.iter_mut().position(&mut ready).map(|at| Place { line, at }))
    }

    /// Who waits at `place`.
    pub fn at(&mut self, place: Place) -> &mut Sequence {
        match place.line {
            Some(line) => &mut self.lines[line].waiting[place.at],
            None => &mut self.back[place.at],
        }
    }

    /// Takes who waits at `place`; if it did not give way before, its tenant has had its turn.
    pub fn take(&mut self, place: Place) -> Option<Sequence> {
        let Some(line) = place.line else { return self.back.remove(place.at) };
        let mut line = self.lines.remove(line)?;
        let taken = line.waiting.remove(place.at);
        if !line.waiting.is_empty() {
            self.lines.push_back(line);
        }
        taken
    }

    /// All, line by line.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Sequence> {
        self.back.iter_mut().chain(self.lines.iter_mut().flat_map(|l| &mut l.waiting))
    }

    /// All, line by line.
    pub fn iter(&self) -> impl Iterator<Item = &Sequence> {
        self.back.iter().chain(self.lines.iter().flat_map(|l| &l.waiting))
    }

    /// Keeps those for whom `stays` holds.
    pub fn retain_mut(&mut self, mut stays: impl FnMut(&mut Sequence) -> bool) {
        self.back.retain_mut(&mut stays);
        self.lines.iter_mut().for_each(|l| l.waiting.retain_mut(&mut stays));
        self.lines.retain(|l| !l.waiting.is_empty());
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
        q.push_back(sequence(9, 8));
        q.push_back(sequence(0, 8));
        assert_eq!(taken(&mut q, |id| id != 1), [0, 9, 2, 3, 4]);
        q.retain_mut(|s| s.id.0 != 1);
        assert!(q.is_empty() && q.find(|_| true).is_none());
    }
}
