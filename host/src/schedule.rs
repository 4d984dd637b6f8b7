//! Whose turn it is.
//!
//! Worker threads take lanes, each for one turn, so that a lane is never in two places. A lane that has nothing to do
//! rests until it is woken, or until a time that it named; resting costs nothing.
//!
//! Turns are fair in CPU time as it was measured, by project and share, and between the lanes of a project alike. The
//! order is that of virtual time ([`line`]): each project has used so much for its share, and of those that want turns
//! the one is next that will have used least after its turn. One that comes from rest begins at the present, which is
//! what the last one served had used: it has saved up nothing, and is next all the same. The shares are those of deficit
//! round robin, but whoever wakes need not wait for a round of all others. Finding the next lane takes logarithmic time.
//!
//! A project may have a ceiling ([`bucket`]). While it is at it its lanes get no turns, and cost nothing.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::thread_cpu;

mod bucket;
mod line;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod turns;

pub use turns::{ProjectNumber, Usage};

/// Lanes that rest for at least ten times as long are woken at multiples of this.
const TOGETHER: Duration = Duration::from_millis(10);

/// Something that takes turns.
pub trait TakeTurn<S>: Send {
    /// Does a bounded piece of work. `scratch` is the worker's, to be used for the time of the turn.
    fn turn(&mut self, scratch: &mut S) -> Turn;

    /// Is told what the turn has cost.
    fn charge(&mut self, _cpu: Duration) {}
}

/// What a lane wants after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Another turn, when it is due.
    More,
    /// To be woken.
    Rest,
    /// To be woken, at that time at the latest.
    RestUntil(Instant),
    /// Nothing any more.
    Done,
}

/// The lanes and their order.
pub struct Schedule<S> {
    state: Mutex<State<S>>,
    changed: Condvar,
    /// Told when a lane is gone.
    ended: Condvar,
    /// CPU time that the calling thread has used.
    cpu: fn() -> Duration,
}

struct State<S> {
    /// By the numbers that `turns` gave them.
    slots: Vec<Slot<S>>,
    turns: turns::Turns,
    /// When lanes want to be woken.
    timers: BTreeSet<(Instant, usize)>,
    /// Lanes that are not done.
    open: usize,
    /// Whether more lanes may come, so that workers stay although there is none.
    stays_open: bool,
    /// Workers that wait for something to do: telling one costs a system call, whether it waits or not.
    waiting: usize,
    /// Lanes that ended by a panic.
    broken: usize,
    closed: bool,
    /// What times that are rounded are multiples from.
    begun: Instant,
}

struct Slot<S> {
    /// Not here while a worker has it, and after it is done.
    lane: Option<Box<dyn TakeTurn<S>>>,
    /// Whether there is one, here or with a worker.
    is_taken: bool,
    /// It was woken, and has had no turn since.
    is_woken: bool,
    /// When it wants to be woken.
    timer: Option<Instant>,
    /// When its turn began, while it has one.
    turn: Option<Instant>,
}

impl<S: Default> Schedule<S> {
    /// No lanes yet.
    pub fn new() -> Arc<Self> {
        Schedule::metered(thread_cpu)
    }

    /// One that finds out in that way what a turn has cost.
    fn metered(cpu: fn() -> Duration) -> Arc<Self> {
        let state = State {
            slots: Vec::new(),
            turns: turns::Turns::default(),
            timers: BTreeSet::new(),
            open: 0,
            stays_open: false,
            waiting: 0,
            broken: 0,
            closed: false,
            begun: Instant::now(),
        };
        Arc::new(Schedule { state: Mutex::new(state), changed: Condvar::new(), ended: Condvar::new(), cpu })
    }

    /// One more project. Its lanes get CPU time by its share, 1 at least, relative to other projects that want more
    /// than there is, and never more than its ceiling, in thousandths of a core, over any long time.
    pub fn project(&self, share: u32, ceiling: Option<u32>) -> ProjectNumber {
        self.lock().turns.project(share, ceiling, Instant::now())
    }

    /// Makes room for a lane of a project, which can be woken from now on by that number.
    pub fn reserve(&self, project: ProjectNumber) -> usize {
        let mut state = self.lock();
        state.slots.push(Slot { lane: None, is_taken: false, is_woken: false, timer: None, turn: None });
        state.turns.lane(project)
    }

    /// What a project gets from now on, as in [`Schedule::project`].
    pub fn set_project(&self, project: ProjectNumber, share: u32, ceiling: Option<u32>) {
        self.lock().turns.set_project(project, share, ceiling, Instant::now());
        self.changed.notify_all();
    }

    /// Gives a lane its first turn. There must be no other of that number.
    pub fn add(&self, number: usize, lane: Box<dyn TakeTurn<S>>) {
        let mut state = self.lock();
        let slot = &mut state.slots[number];
        debug_assert!(!slot.is_taken);
        // It may have been woken before it was here.
        (slot.lane, slot.is_woken, slot.is_taken) = (Some(lane), true, true);
        state.turns.want(number, Instant::now());
        state.open += 1;
        self.tell_one(state);
    }

    /// Gives a lane a turn soon. One that has its turn just now gets another.
    pub fn wake(&self, number: usize) {
        let mut state = self.lock();
        if state.wake(number, Instant::now()) {
            self.tell_one(state);
        }
    }

    /// Waits until the lane of that number is done, and its number free for another; whether it was so in time.
    pub fn wait_gone(&self, number: usize, deadline: Instant) -> bool {
        let mut state = self.lock();
        while state.slots[number].is_taken {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Says whether lanes may be added yet, so that workers stay when there are none.
    pub fn stay_open(&self, stays: bool) {
        self.lock().stays_open = stays;
        self.changed.notify_all();
    }

    /// How many lanes ended by a panic: a mistake in weir, which must not be taken for a good end.
    pub fn broken(&self) -> usize {
        self.lock().broken
    }

    /// How long the longest turn takes already that is not over.
    pub fn longest_turn(&self) -> Duration {
        let begun = self.lock().slots.iter().filter_map(|slot| slot.turn).min();
        begun.map_or(Duration::ZERO, |begun| begun.elapsed())
    }

    /// What a project has used so far.
    pub fn usage(&self, project: ProjectNumber) -> Usage {
        self.lock().turns.usage(project, Instant::now())
    }

    /// Wakes all.
    pub fn wake_all(&self) {
        let count = self.lock().slots.len();
        (0..count).for_each(|number| self.wake(number));
    }

    /// From now on there are no ceilings: what is left to do is little, and must not wait.
    pub fn lift_ceilings(&self) {
        self.lock().turns.lift_ceilings(Instant::now());
        self.changed.notify_all();
    }

    /// Sends the workers home after their turns, whatever there is to do.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// What a worker does, until all lanes are done or the schedule is closed.
    pub fn work(&self, scratch: &mut S) {
        let mut state = self.lock();
        let mut used = None;
        while !state.closed && (state.open > 0 || state.stays_open) {
            let Some((number, mut lane)) = state.take(Instant::now()) else {
                state = self.wait(state);
                used = None;
                continue;
            };
            match state.turns.has_ready() {
                true => self.tell_one(state),
                false => drop(state),
            }
            let begun = used.unwrap_or_else(self.cpu);
            let turn = catch_unwind(AssertUnwindSafe(|| lane.turn(scratch)));
            if turn.is_err() {
                // The panic has been told of. One lane ends, and the others go on.
                *scratch = S::default();
            }
            let now = (self.cpu)();
            let cost = now.saturating_sub(begun);
            // What comes until the next turn is part of it.
            used = Some(now);
            lane.charge(cost);
            // A lane that ends is dropped here, where nobody waits for it.
            let lane = (!matches!(turn, Err(_) | Ok(Turn::Done))).then_some(lane);
            state = self.lock();
            state.broken += usize::from(turn.is_err());
            let is_gone = lane.is_none();
            state.put_back(number, lane, turn.unwrap_or(Turn::Done), cost);
            if is_gone {
                self.ended.notify_all();
            }
        }
        self.changed.notify_all();
    }

    /// Lets a worker know that there is something to do, if one waits.
    fn tell_one(&self, state: MutexGuard<'_, State<S>>) {
        let is_awaited = state.waiting > 0;
        drop(state);
        if is_awaited {
            self.changed.notify_one();
        }
    }

    fn wait<'a>(&self, mut state: MutexGuard<'a, State<S>>) -> MutexGuard<'a, State<S>> {
        state.waiting += 1;
        let mut state = self.wait_for_change(state);
        state.waiting -= 1;
        state
    }

    fn wait_for_change<'a>(&self, state: MutexGuard<'a, State<S>>) -> MutexGuard<'a, State<S>> {
        let timer = state.timers.first().map(|(first, _)| *first);
        match timer.into_iter().chain(state.turns.opens_at()).min() {
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(first) => {
                let pause = first.saturating_duration_since(Instant::now());
                self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time at which a lane is woken that rests until then: those that rest for long are woken together, as it costs
/// a worker more to wake than a lane to have nothing to do.
fn round_up(when: Instant, begun: Instant) -> Instant {
    let over = when.saturating_duration_since(begun).as_nanos() % TOGETHER.as_nanos();
    let is_long = when.saturating_duration_since(Instant::now()) >= 10 * TOGETHER;
    if is_long && over > 0 { when + TOGETHER - Duration::from_nanos(over as u64) } else { when }
}

impl<S> State<S> {
    /// Whether that is news.
    fn wake(&mut self, number: usize, now: Instant) -> bool {
        let slot = &mut self.slots[number];
        let is_news = !slot.is_woken && slot.lane.is_some();
        slot.is_woken = true;
        if is_news {
            self.turns.want(number, now);
        }
        is_news
    }

    fn take(&mut self, now: Instant) -> Option<(usize, Box<dyn TakeTurn<S>>)> {
        self.ring_timers(now);
        let number = self.turns.take(now)?;
        let slot = &mut self.slots[number];
        slot.is_woken = false;
        slot.turn = Some(now);
        if let Some(when) = slot.timer.take() {
            self.timers.remove(&(when, number));
        }
        Some((number, slot.lane.take().expect("a lane that wants a turn is here")))
    }

    fn ring_timers(&mut self, now: Instant) {
        while let Some(&(when, number)) = self.timers.first()
            && when <= now
        {
            self.timers.pop_first();
            self.slots[number].timer = None;
            self.wake(number, now);
        }
    }

    /// Takes back a lane after a turn, unless it is done.
    fn put_back(&mut self, number: usize, lane: Option<Box<dyn TakeTurn<S>>>, turn: Turn, cost: Duration) {
        let slot = &mut self.slots[number];
        slot.is_woken = lane.is_some() && (slot.is_woken || turn == Turn::More);
        if let Turn::RestUntil(when) = turn
            && !slot.is_woken
        {
            let when = round_up(when, self.begun);
            slot.timer = Some(when);
            self.timers.insert((when, number));
        }
        self.open -= usize::from(lane.is_none());
        slot.turn = None;
        slot.is_taken = lane.is_some();
        slot.lane = lane;
        let cost = u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX);
        self.turns.end(number, cost, slot.is_woken, Instant::now());
    }
}
