//! A batch on its way through a chain, and the search for what is poisonous in it.
//!
//! A batch on which a plugin faults is halved, and the halves are tried in order, until the event that does it is
//! alone. That one is set aside, and all others go on as they would have without it. What a search may cost is bounded:
//! by the plugin's credit (see `trust`) and by fuel. When it is used up, the plugin is suspended, and what is left of
//! the batch passes it by. Halves are copies, which only a search pays for.
//!
//! Events that the plugin holds are given to it again with the next part, so it is the new events of a part that are
//! halved. If there is only one, it is tried by itself: if it is not that, it is one of those before, which are then given
//! to the plugin for the last time, so that it must look at them.
//!
//! Each call of [`Passage::advance`] calls a plugin at most once, so that a search can be spread over many turns.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::chain::OnFault;
use super::instance::Fault;
use super::poison::Poison;
use super::stage::Stage;
use crate::event::{Batch, Origin};

/// Fuel that a search may use, in calls with the whole batch: to find one event takes two of them, and many small ones.
const SEARCH: u64 = 4;

/// Small calls of a search, which cost the base of a call at least, and a new instance that takes its settings again.
const SMALL_CALLS: u64 = 20;

/// Events that a plugin is tried with after it was suspended, so that one that has not changed costs little.
const TRIAL: usize = 16;

/// What comes out of all parts of a batch may be so many times what may come out of a call.
const SWELLING: usize = 4;

/// A project that has no memory left, and none on its way to a sink, has so long to find some, before that is taken for a
/// plugin's fault.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a batch does not go on now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is through.
    Done,
    /// It has taken long.
    Pause,
    /// It can't before that time.
    Wait(Instant),
    /// Its project has no memory left.
    Short,
}

/// Events before a stage.
#[derive(Default)]
struct Part {
    batch: Batch,
    /// So many at its head were held.
    held: usize,
    /// Nothing follows in the file, or it is to look as if.
    is_last: bool,
    /// The plugin has faulted on it, and its last event alone is new.
    is_in_doubt: bool,
}

impl Part {
    /// The events before `at`, and the others.
    fn split(&self, at: usize) -> (Part, Part) {
        let first = Part { batch: self.batch.part(0..at), held: self.held.min(at), ..Part::default() };
        let batch = self.batch.part(at..self.batch.len());
        (first, Part { batch, held: self.held.saturating_sub(at), is_last: self.is_last, is_in_doubt: false })
    }
}

/// A batch on its way.
pub struct Passage {
    /// The number of the stage that it is at.
    stage: usize,
    /// What that stage has not seen yet, in order.
    parts: VecDeque<Part>,
    /// What came out of it.
    made: Option<Batch>,
    /// Bytes that this stands for, if there is more than one part.
    weight: usize,
    is_last: bool,
    /// Fuel of calls that failed at this stage, and the most that it may be.
    spent: u64,
    most: Option<u64>,
    /// Whether a call went well at this stage.
    went_well: bool,
    short_since: Option<Instant>,
    left_out: Vec<Origin>,
    suspended: u64,
}

impl Passage {
    /// A batch before the first stage. `is_last`: nothing follows in its file.
    pub fn new(batch: Batch, is_last: bool) -> Self {
        Passage {
            stage: 0,
            parts: [Part { batch, ..Part::default() }].into(),
            made: None,
            weight: 0,
            is_last,
            spent: 0,
            most: None,
            went_well: false,
            short_since: None,
            left_out: Vec::new(),
            suspended: 0,
        }
    }

    /// The number of the stage that it is at.
    pub fn stage(&self) -> usize {
        self.stage
    }

    /// What it could not do at the stage that it is at, another plugin may be able to.
    pub fn begin_again(&mut self) {
        (self.spent, self.most, self.short_since) = (0, None, None);
        self.parts.iter_mut().for_each(|part| part.is_in_doubt = false);
    }

    /// Events that passed by a plugin because it is suspended.
    pub fn suspended(&self) -> u64 {
        self.suspended
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|part| &part.batch).chain(&self.made).map(Batch::bytes).sum()
    }

    /// While it waits: what came out of the stage that it is at, to go on by itself.
    pub fn go_ahead(&mut self) -> Option<Passage> {
        let made = self.made.take_if(|made| !made.is_empty())?;
        self.weight = 0;
        Some(Passage { stage: self.stage + 1, ..Passage::new(made, false) })
    }

    /// The number of the first read event that has not gone on.
    pub fn first(&self) -> Option<u64> {
        self.parts.iter().map(|part| &part.batch).find(|batch| !batch.is_empty()).map(|batch| batch.origin(0).first)
    }

    /// What came out of the last stage, and what was left out by `on_fault: drop`, in order.
    pub fn into_made(mut self) -> (Batch, Vec<Origin>) {
        self.left_out.sort_by_key(|origin| origin.first);
        (self.parts.pop_front().unwrap_or_default().batch, self.left_out)
    }

    /// Gives a part of the batch to the stage that it is at, and says if it can't go on after that.
    pub(super) fn advance(
        &mut self,
        stage: &mut Stage,
        held: &mut Batch,
        on_fault: OnFault,
        now: Instant,
    ) -> Option<Step> {
        let mut part = self.parts.pop_front().unwrap_or_default();
        if !held.is_empty() {
            part.held = held.len();
            part.batch.prepend(&std::mem::take(held));
        }
        let count = part.batch.len();
        if part.batch.marks.len() == count {
            self.put(part.batch);
        } else if let Some((until, reason)) = stage.trust.suspended(now) {
            if on_fault == OnFault::Hold {
                self.parts.push_front(part);
                return Some(Step::Wait(until));
            }
            let reason = stage.reason(reason);
            self.suspended += (count - part.batch.marks.len()) as u64;
            let passed = self.set_aside(part.batch, &reason, on_fault);
            self.put(passed);
        } else {
            if stage.trust.is_on_trial() && count > TRIAL && !part.is_in_doubt {
                let (first, rest) = part.split(TRIAL);
                self.parts.push_front(rest);
                part = first;
            }
            let fuel = stage.stats.fuel;
            let called = match part.is_in_doubt {
                _ if self.weight > SWELLING * stage.output_bytes() => Err(Fault::Swollen),
                true => stage.process(&mut part.batch.tail(1), held, true),
                false => {
                    let is_last = part.is_last || self.is_last && self.parts.is_empty();
                    stage.process(&mut part.batch, held, is_last)
                }
            };
            match called {
                Ok(_) if part.is_in_doubt => {
                    let (before, last) = part.split(count - 1);
                    self.parts.push_front(last);
                    self.parts.push_front(Part { is_last: true, ..before });
                }
                Ok(made) => {
                    self.put(made);
                    stage.trust.worked();
                    (self.went_well, self.short_since) = (true, None);
                }
                Err(Fault::NoMemory) if self.may_wait(stage, now) => {
                    self.parts.push_front(part);
                    return Some(Step::Short);
                }
                Err(fault) => {
                    self.spent += stage.stats.fuel - fuel;
                    self.search(part, &fault, stage, on_fault, now);
                }
            }
        }
        if self.parts.is_empty() {
            self.leave(stage);
        }
        None
    }

    /// Whether memory that its project has not now may be there later.
    fn may_wait(&mut self, stage: &Stage, now: Instant) -> bool {
        if stage.awaits_memory() {
            self.short_since = None;
        }
        now - *self.short_since.get_or_insert(now) < PATIENCE
    }

    /// The plugin has faulted on a part: halves it, sets its one event aside, or gives up.
    fn search(&mut self, mut part: Part, fault: &Fault, stage: &mut Stage, on_fault: OnFault, now: Instant) {
        let (batch, count) = (&part.batch, part.batch.len());
        let most = *self.most.get_or_insert_with(|| SEARCH * stage.allowance(batch) + SMALL_CALLS * stage.small_call());
        let may_go_on =
            stage.trust.failed() && self.spent <= most && !matches!(fault, Fault::NotStarted(_) | Fault::Swollen);
        let is_alone = part.is_in_doubt || count - batch.marks.len() == 1;
        if is_alone {
            let is_marked = |event: &usize| batch.marks.iter().any(|mark| mark.event as usize == *event);
            let alone =
                if part.is_in_doubt { count - 1 } else { (0..count).find(|event| !is_marked(event)).unwrap_or(0) };
            stage.stats.last_poison = Some(Poison::of(batch, alone, fault));
        }
        let new = match count - part.held {
            0 => count,
            new => new,
        };
        if !may_go_on || is_alone && on_fault == OnFault::Hold {
            stage.suspend(now, fault);
            part.is_in_doubt = false;
            self.parts.push_front(part);
        } else if part.is_in_doubt {
            // It waits in its place, behind those that may be held again.
            stage.stats.failed += 1;
            let last = self.set_aside(batch.tail(1), &stage.reason_of(fault), on_fault);
            let mut batch = batch.part(0..count - 1);
            batch.append(&last);
            self.parts.push_front(Part { held: batch.len(), batch, is_last: part.is_last, is_in_doubt: false });
        } else if is_alone {
            stage.stats.failed += 1;
            let one = self.set_aside(part.batch, &stage.reason_of(fault), on_fault);
            self.put(one);
        } else if new == 1 {
            part.is_in_doubt = true;
            self.parts.push_front(part);
        } else {
            let (first, second) = part.split(count - new.div_ceil(2));
            self.parts.push_front(second);
            self.parts.push_front(first);
        }
    }

    /// Events are to go on without the plugin, or not at all. Gives those that go on.
    fn set_aside(&mut self, mut batch: Batch, reason: &Arc<str>, on_fault: OnFault) -> Batch {
        match on_fault {
            OnFault::Drop => self.left_out.extend(batch.keep_marked()),
            OnFault::Raw | OnFault::Hold => batch.mark_all(reason),
        }
        batch
    }

    fn put(&mut self, made: Batch) {
        if !self.parts.is_empty() {
            self.weight += made.weight();
        }
        match &mut self.made {
            Some(before) => before.append(&made),
            None => self.made = Some(made),
        }
    }

    /// Goes on to the next stage.
    fn leave(&mut self, stage: &mut Stage) {
        if self.went_well {
            stage.trust.passed();
        }
        self.stage += 1;
        self.parts.push_back(Part { batch: self.made.take().unwrap_or_default(), ..Part::default() });
        (self.spent, self.most, self.weight, self.went_well) = (0, None, 0, false);
    }
}
