//! What a lane has of its project's memory, and what it does when there is none left.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Lane;
use crate::budget::Budget;
use crate::heap;
use crate::metrics;
use crate::sandbox::{Chain, Passage};
use crate::schedule::Turn;
use crate::sink::Outlet;

/// A lane whose project has no memory left looks again after so long, if it isn't woken.
const SHORT: Duration = Duration::from_millis(50);

/// How long a batch waits for memory: each time longer. Whoever is woken whenever another gives some back, and gives back
/// what it has then, would keep others awake who do the same.
#[derive(Clone, Copy, Default)]
pub(super) struct Patience {
    pause: Duration,
    until: Option<Instant>,
}

impl Patience {
    /// Until when to wait, if it isn't over.
    pub fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }

    /// Nothing was there again: until when to wait now.
    pub fn grow(&mut self, now: Instant) -> Instant {
        self.pause = (2 * self.pause).clamp(Duration::from_millis(1), SHORT);
        *self.until.insert(now + self.pause)
    }
}

/// The right to go on although the project's memory is used up.
pub(super) struct Overdraft(Arc<Budget>);

impl Drop for Overdraft {
    fn drop(&mut self) {
        self.0.end_overdraft();
    }
}

impl Lane {
    /// While the project has no memory left, one of its lanes at a time goes on, and the others wait.
    pub(super) fn wait_for_memory(&mut self, now: Instant) -> Option<Turn> {
        let is_free = self.has_nothing_on_the_way();
        if is_free {
            self.overdraft = None;
        } else if self.budget.is_filled_by_payloads() {
            metrics::add(&self.accounts.short, 1);
            return Some(self.look_again(now));
        }
        if !self.budget.is_full() {
            return None;
        }
        self.release();
        if !self.budget.is_full() {
            return None;
        }
        self.run_short();
        // What is waiting for more to come would hold up all others.
        self.outlets.iter_mut().for_each(|outlet| _ = outlet.tick(now, true));
        let next = self.source.look(now);
        // Who has nothing to do would take the right, end it, and wake all others and itself by that, for ever.
        let held = self.held_due().map(|(due, _)| due);
        let has_work = self.source.has_work() || self.ending.is_some() || held.is_some_and(|due| due <= now);
        if !has_work && self.mode.is_following() {
            return Some(self.rest(Some(held.map_or(next, |due| due.min(next)))));
        }
        if self.has_nothing_on_the_way() && self.budget.overdraw() {
            self.overdraft = Some(Overdraft(self.budget.clone()));
            return None;
        }
        Some(self.look_again(now))
    }

    fn look_again(&mut self, now: Instant) -> Turn {
        let next = self.source.look(now);
        self.rest(Some(next.min(now + SHORT)))
    }

    /// Calls on the project's other lanes to let go of what they can do without.
    pub(super) fn run_short(&self) {
        metrics::add(&self.accounts.short, 1);
        self.budget.runs_short();
    }

    /// Lets go of all memory that it can do without.
    pub(super) fn release(&mut self) {
        self.chains().for_each(Chain::rest);
        self.outlets.iter_mut().for_each(Outlet::release);
        self.source.release();
        self.count_memory();
    }

    /// Lets go of all that it needs only while it is busy: there may be thousands of lanes that are not.
    pub(super) fn fall_asleep(&mut self) {
        self.is_awake = false;
        self.chains().for_each(Chain::forget);
        self.outlets.iter_mut().for_each(Outlet::forget);
        self.parcels.shrink_to_fit();
        self.shipping.shrink_to_fit();
        self.settled.shrink_to_fit();
        self.growing.shrink_to_fit();
        self.returns.shrink();
        for file in self.files.values_mut() {
            file.held.shrink();
        }
        heap::let_go();
    }

    /// Counts what it has of the project's memory.
    pub(super) fn count_memory(&mut self) {
        let outlets: usize = self.outlets.iter().map(Outlet::memory).sum();
        let on_their_way: usize = self.outlets.iter().map(Outlet::on_their_way).sum();
        let shipping: usize = self.shipping.iter().map(|shipping| shipping.batch.bytes()).sum();
        let job = self.job.as_ref().map_or(0, |job| {
            let passages = job.behind.iter().chain([&job.passage]);
            passages.map(Passage::bytes).sum::<usize>() + job.chunk.batch.bytes()
        });
        let bytes = self.source.buffered() + self.held_bytes + job + outlets + shipping;
        self.share.set(bytes, on_their_way);
        let memory: usize = self.chains().map(|chain| chain.memory()).sum();
        metrics::set(&self.accounts.memory, (bytes + memory) as u64);
    }
}
