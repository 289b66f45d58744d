//! Who starts, and with what: the step's first part. Owns whom a request waits for and what it begins with; the order of
//! the queue is [`crate::queue`]'s.
//!
//! A request that begins as another one does shares what that one has computed, also while it still runs: whole pages as
//! they are, and of the page in which the two part a copy. While somebody who came before is about to compute more of what
//! it begins with, it waits for that and computes it not a second time. It waits for those alone who run and came before,
//! and the first of those who run always goes on, so that nobody waits for ever; when that one ends early or gives way, it
//! goes on by itself.
use crate::{
    kv::alike,
    net::Net,
    queue::Place,
    scheduler::{ROWS_MIN, Scheduler, pages_wanted},
    sequence::Sequence,
};
use pondera_ops::PAGE;

/// Whom a sequence waits for, and until how many positions are there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Awaited {
    pub who: crate::RequestId,
    pub end: usize,
}

impl Scheduler {
    /// Starts those who wait, by turns, while the pages of all their tokens are free. Who does not fit is waited for, so
    /// that small requests do not keep a large one out. Whoever is alone may start: submission made sure that it fits.
    pub fn admit(&mut self, net: &dyn Net) {
        while self.running.len() < self.limits.max_sequences {
            let Scheduler { waiting, running, prefixes, slots, limits, .. } = self;
            let snapshots = if slots.any() { Some(limits.states.snapshots > 0) } else { None };
            let ready = |s: &mut Sequence| {
                s.epoch = net.rope_epoch(s.tokens.len() as u32);
                !is_awaited(s, running) && {
                    let known = prefixes.known(&s.tokens, s.kin(s.epoch), running.iter().map(Sequence::beginning));
                    s.awaits = await_more(s, known, running, snapshots);
                    s.awaits.is_none()
                }
            };
            let Some(place) = waiting.find(ready) else { return };
            if !self.begin(net, place) {
                return;
            }
            let Some(mut s) = self.waiting.take(place) else { return };
            s.start();
            // Whoever was preempted comes back to its place among the others.
            let at = self.running.partition_point(|r| r.id < s.id);
            self.running.insert(at, s);
        }
    }

    /// Gives who waits at `place` what it begins with. False, and nothing, if there is no room for the rest.
    fn begin(&mut self, net: &dyn Net, place: Place) -> bool {
        let Scheduler { ops, waiting, running, prefixes, pages, slots, .. } = self;
        let s = waiting.at(place);
        let others = running.iter().map(Sequence::beginning);
        let shared = prefixes.share(&s.tokens, s.kin(s.epoch), others, &mut s.pages, pages);
        s.cached = shared.positions;
        s.marks = [shared.alike, (s.tokens.len() - 1) / PAGE * PAGE];
        // Held before prefixes give way to it.
        slots.begin(s, shared.snapshot);
        let promised: usize = running.iter().map(|r| pages_wanted(r, r.missing())).sum();
        let copies = usize::from(!s.cached.is_multiple_of(PAGE));
        let wanted = promised + pages_wanted(s, s.missing() + 1) + copies;
        prefixes.make_free(wanted, pages);
        if wanted > pages.free() && !running.is_empty() {
            pages.release(&mut s.pages);
            slots.release(s);
            s.cached = 0;
            return false;
        }
        if copies > 0 {
            own_last_page(s, pages, &mut |from, to| net.copy_page(&**ops, from, to));
        }
        true
    }
}

/// Makes the page in which what `s` shares ends its own: a copy, or the page itself where nobody else holds it any more.
/// Without a free page it begins at the page's start.
fn own_last_page(s: &mut Sequence, pages: &mut crate::kv::Pages, copy: &mut dyn FnMut(u32, u32)) {
    let Some(page) = s.pages.pop() else { return };
    if !pages.is_shared(page) {
        s.pages.push(page);
        return;
    }
    match pages.take() {
        Some(own) => {
            copy(page, own);
            s.pages.push(own);
        }
        None => s.cached = s.cached / PAGE * PAGE,
    }
    pages.release_page(page);
}

/// Whether what `s` waited for so far is still on its way.
fn is_awaited(s: &Sequence, running: &[Sequence]) -> bool {
    s.awaits.is_some_and(|a| running.iter().any(|r| r.id == a.who && computes(r, a.end)))
}

/// Whether a prompt is under way and its first `end` positions not there yet.
fn computes(r: &Sequence, end: usize) -> bool {
    r.missing() > 1 && r.cached < end
}

/// Who of those that came before `s` will have the most for it that it has not got by now, of which it knows `known`
/// positions; none where that saves nothing. `snapshots`: with recurrent states, whether any can be kept; what is worth
/// waiting for then ends at a snapshot, which is asked for where the two part.
fn await_more(s: &Sequence, known: usize, running: &mut [Sequence], snapshots: Option<bool>) -> Option<Awaited> {
    let mut best: Option<(usize, usize)> = None;
    for (i, r) in running.iter_mut().enumerate().take_while(|(_, r)| r.id < s.id) {
        if r.missing() <= 1 || r.kin(r.epoch) != s.kin(s.epoch) {
            continue;
        }
        let same = alike(&r.tokens, &s.tokens).min(s.tokens.len() - 1);
        let end = match snapshots {
            None => same,
            Some(true) => mark(r, same / PAGE * PAGE),
            Some(false) => 0,
        };
        if computes(r, end) && end >= known + ROWS_MIN && best.is_none_or(|(_, most)| end > most) {
            best = Some((i, end));
        }
    }
    best.map(|(i, end)| Awaited { who: running[i].id, end })
}

/// The deepest position up to `end` at which `r` will leave a snapshot; it leaves one at `end` if it is free to.
fn mark(r: &mut Sequence, end: usize) -> usize {
    // The second mark is that of its own prompt's end.
    if r.marks[0] <= r.cached && r.cached < end && r.marks[1] != end {
        r.marks[0] = end;
    }
    r.marks.into_iter().filter(|m| *m <= end).max().unwrap_or(0)
}
