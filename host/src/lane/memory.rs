//! What a lane has of its project's memory, and what it does when there is none left.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Lane;
use crate::budget::Budget;
use crate::heap;
use crate::metrics;
use crate::sandbox::Passage;
use crate::schedule::Turn;
use crate::sink::Buffer;

/// A lane whose project has no memory left looks again after so long, if it isn't woken.
pub(super) const SHORT: Duration = Duration::from_millis(50);

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
        if self.pending.is_empty() {
            self.overdraft = None;
        }
        if !self.budget.is_full() {
            return None;
        }
        self.release();
        if !self.budget.is_full() {
            return None;
        }
        self.run_short();
        if self.pending.is_empty() && self.budget.overdraw() {
            self.overdraft = Some(Overdraft(self.budget.clone()));
            return None;
        }
        let next = self.source.look(now);
        Some(self.rest(Some(next.min(now + SHORT))))
    }

    /// Calls on the project's other lanes to let go of what they can do without.
    pub(super) fn run_short(&self) {
        metrics::add(&self.accounts.short, 1);
        self.budget.runs_short();
    }

    /// Lets go of all memory that it can do without.
    pub(super) fn release(&mut self) {
        self.chain.rest();
        self.spare = Vec::new();
        self.count_memory();
    }

    /// Lets go of all that it needs only while it is busy: there may be thousands of lanes that are not.
    pub(super) fn fall_asleep(&mut self) {
        self.is_awake = false;
        self.chain.forget();
        self.encoder.forget();
        self.pending.shrink_to_fit();
        self.settled.shrink_to_fit();
        self.returns.shrink();
        if self.pending.is_empty() {
            self.spare = Vec::new();
        }
        for file in self.files.values_mut() {
            file.held.shrink();
        }
        heap::let_go();
    }

    /// Counts what it has of the project's memory.
    pub(super) fn count_memory(&mut self) {
        let on_their_way = self.pending.iter().map(|pending| pending.memory).sum::<usize>();
        let spare = self.spare.iter().map(Buffer::capacity).sum::<usize>();
        let job = self.job.as_ref().map_or(0, |job| {
            let passages = job.behind.iter().chain([&job.passage]);
            passages.map(Passage::bytes).sum::<usize>() + job.chunk.batch.bytes()
        });
        let bytes = self.source.buffered() + self.held_bytes + job + spare + on_their_way;
        self.share.set(bytes, on_their_way);
        metrics::set(&self.accounts.memory, (bytes + self.chain.memory()) as u64);
    }
}
