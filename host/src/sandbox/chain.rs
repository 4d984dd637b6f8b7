//! The plugins of a logstore, in order: a batch in, a batch out, and every event accounted for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::passage::{Passage, Step};
use super::stage::Stage;
use crate::budget::Budget;
use crate::event::Batch;

/// Time after which a batch that needs more gives the worker back.
const LONG: Duration = Duration::from_millis(5);

/// What becomes of events on which a plugin faults: it traps, runs out of something, breaks the contract, or is
/// suspended for that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFault {
    /// They go on as they came, marked.
    #[default]
    Raw,
    /// They are left out, and counted.
    Drop,
    /// They wait, and all after them, until the plugin can do it.
    Hold,
}

/// The plugins of a logstore, in order.
#[derive(Default)]
pub struct Chain {
    stages: Vec<Stage>,
    on_fault: OnFault,
}

/// Events of one file that plugins hold back, one batch a stage.
#[derive(Default)]
pub struct Held {
    stages: Vec<Batch>,
    /// What the first stages hold, while those behind them are asked for the last of theirs.
    carried: Vec<Batch>,
}

impl Held {
    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.batches().all(Batch::is_empty)
    }

    /// The number of the first read event of which something is held.
    pub fn first(&self) -> Option<u64> {
        self.batches().filter(|held| !held.is_empty()).map(|held| held.origin(0).first).min()
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.batches().map(Batch::bytes).sum()
    }

    fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.stages.iter().chain(&self.carried)
    }

    /// Whether anything is held from that stage on.
    pub fn is_any_from(&self, stage: usize) -> bool {
        self.stages.iter().skip(stage).any(|held| !held.is_empty())
    }

    /// Takes what the first stages hold out of the way, until [`Held::put_down`].
    pub fn carry(&mut self, stages: usize) {
        if !self.carried.is_empty() {
            return;
        }
        let count = stages.min(self.stages.len());
        self.carried.resize_with(count, Batch::default);
        self.carried.iter_mut().zip(&mut self.stages).for_each(|(carried, held)| std::mem::swap(carried, held));
    }

    /// Gives it back.
    pub fn put_down(&mut self) {
        let carried = std::mem::take(&mut self.carried);
        carried.into_iter().zip(&mut self.stages).for_each(|(carried, held)| *held = carried);
    }

    /// Gives back the room for what is not held.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            self.stages = Vec::new();
        }
    }
}

impl Chain {
    /// A chain of these stages.
    pub fn new(stages: Vec<Stage>, on_fault: OnFault) -> Self {
        Chain { stages, on_fault }
    }

    /// From now on events on which it faults are marked, whatever was to become of them: for trying it out.
    pub fn keep_all(&mut self) {
        self.on_fault = OnFault::Raw;
    }

    /// Whether there is no plugin.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// The stages, in order.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// How many stages, from the first on, are the same in the other.
    pub fn common(&self, other: &Chain) -> usize {
        self.stages.iter().zip(&other.stages).take_while(|(stage, other)| stage.is_same(other)).count()
    }

    /// Takes so many of the first stages from the other, which are the same there, as they are.
    pub fn keep(&mut self, from: &mut Chain, count: usize) {
        self.stages.drain(..count);
        self.stages.splice(..0, from.stages.drain(..count));
    }

    /// Sends a batch of one file on through the plugins, until it is through, has taken long, or must wait. `held` is
    /// that file's.
    pub fn advance(&mut self, passage: &mut Passage, held: &mut Held, now: Instant) -> Step {
        held.stages.reserve_exact(self.stages.len().saturating_sub(held.stages.len()));
        held.stages.resize_with(self.stages.len(), Batch::default);
        let begun = Instant::now();
        loop {
            let number = passage.stage();
            let Some(stage) = self.stages.get_mut(number) else { return Step::Done };
            if let Some(stop) = passage.advance(stage, &mut held.stages[number], self.on_fault, now) {
                return stop;
            }
            if passage.stage() < self.stages.len() && begun.elapsed() > LONG {
                return Step::Pause;
            }
        }
    }

    /// Sends a batch of one file through all plugins at once. `last` says that nothing follows. What may wait, waits
    /// here, so that this is for tools.
    pub fn process(&mut self, batch: Batch, held: &mut Held, last: bool) -> Batch {
        let mut passage = Passage::new(batch, last);
        loop {
            match self.advance(&mut passage, held, Instant::now()) {
                Step::Done => return passage.into_made().0,
                Step::Wait(until) => std::thread::sleep(until.saturating_duration_since(Instant::now())),
                Step::Pause | Step::Short => {}
            }
        }
    }

    /// Bytes of linear memory that its instances have.
    pub fn memory(&self) -> usize {
        self.stages.iter().map(Stage::memory).sum()
    }

    /// Lets the first instances go, which have shown that the settings are accepted. What that has cost is not counted.
    pub fn begin(&mut self) {
        self.stages.iter_mut().for_each(Stage::begin);
    }

    /// The same, with the memory of later instances from another budget.
    pub fn begin_with(&mut self, budget: &Arc<Budget>) {
        self.stages.iter_mut().for_each(|stage| stage.begin_with(budget));
    }

    /// Lets the instances go; they are made again when they are needed.
    pub fn rest(&mut self) {
        self.stages.iter_mut().for_each(Stage::rest);
    }

    /// Lets the instances go, and what is remembered of what they made.
    pub fn forget(&mut self) {
        self.stages.iter_mut().for_each(Stage::forget);
    }
}
