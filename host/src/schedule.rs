//! Whose turn it is.
//!
//! Worker threads take lanes out of one queue, each for one turn, so that a lane is never in two places. A lane
//! that has nothing to do rests until it is woken, or until a time that it named; resting costs nothing.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Something that takes turns.
pub trait TakeTurn<S>: Send {
    /// Does a bounded piece of work. `scratch` is the worker's, to be used for the time of the turn.
    fn turn(&mut self, scratch: &mut S) -> Turn;
}

/// What a lane wants after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Another turn, when the others have had theirs.
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
}

struct State<S> {
    slots: Vec<Slot<S>>,
    ready: VecDeque<usize>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Lanes that are not done.
    open: usize,
    /// Lanes that ended by a panic.
    broken: usize,
    closed: bool,
}

struct Slot<S> {
    /// Not here while a worker has it, and after it is done.
    lane: Option<Box<dyn TakeTurn<S>>>,
    is_ready: bool,
    /// When it wants to be woken; older entries of the timers are void.
    timer: Option<Instant>,
}

impl<S: Default> Schedule<S> {
    /// No lanes yet.
    pub fn new() -> Arc<Self> {
        let state = State {
            slots: Vec::new(),
            ready: VecDeque::new(),
            timers: BinaryHeap::new(),
            open: 0,
            broken: 0,
            closed: false,
        };
        Arc::new(Schedule { state: Mutex::new(state), changed: Condvar::new() })
    }

    /// Makes room for a lane, which can be woken from now on by that number.
    pub fn reserve(&self) -> usize {
        let mut state = self.lock();
        state.slots.push(Slot { lane: None, is_ready: false, timer: None });
        state.slots.len() - 1
    }

    /// Gives a lane its first turn.
    pub fn add(&self, number: usize, lane: Box<dyn TakeTurn<S>>) {
        let mut state = self.lock();
        let slot = &mut state.slots[number];
        debug_assert!(slot.lane.is_none());
        // It may have been woken before it was here.
        (slot.lane, slot.is_ready) = (Some(lane), true);
        state.ready.push_back(number);
        state.open += 1;
        self.changed.notify_one();
    }

    /// Gives a lane a turn soon. One that has its turn just now gets another.
    pub fn wake(&self, number: usize) {
        let mut state = self.lock();
        if !state.slots[number].is_ready {
            state.slots[number].is_ready = true;
            if state.slots[number].lane.is_some() {
                state.ready.push_back(number);
                self.changed.notify_one();
            }
        }
    }

    /// How many lanes ended by a panic: a mistake in weir, which must not be taken for a good end.
    pub fn broken(&self) -> usize {
        self.lock().broken
    }

    /// Wakes all.
    pub fn wake_all(&self) {
        let count = self.lock().slots.len();
        (0..count).for_each(|number| self.wake(number));
    }

    /// Sends the workers home after their turns, whatever there is to do.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// What a worker does, until all lanes are done or the schedule is closed.
    pub fn work(&self, scratch: &mut S) {
        let mut state = self.lock();
        loop {
            if state.closed || state.open == 0 {
                self.changed.notify_all();
                return;
            }
            state.ring_timers(Instant::now());
            let Some(number) = state.ready.pop_front() else {
                state = self.wait(state);
                continue;
            };
            let Some(mut lane) = state.slots[number].lane.take() else { continue };
            state.slots[number].is_ready = false;
            let more = !state.ready.is_empty();
            drop(state);
            if more {
                self.changed.notify_one();
            }
            let turn = catch_unwind(AssertUnwindSafe(|| lane.turn(scratch)));
            state = self.lock();
            let Ok(turn) = turn else {
                // The panic has been told of. One lane ends, and the others go on.
                state.open -= 1;
                state.broken += 1;
                *scratch = S::default();
                continue;
            };
            state.put_back(number, lane, turn);
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<S>>) -> MutexGuard<'a, State<S>> {
        match state.timers.peek() {
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(Reverse((first, _))) => {
                let pause = first.saturating_duration_since(Instant::now());
                self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> State<S> {
    fn ring_timers(&mut self, now: Instant) {
        while let Some(Reverse((when, number))) = self.timers.peek().copied()
            && when <= now
        {
            self.timers.pop();
            let slot = &mut self.slots[number];
            if slot.timer == Some(when) {
                slot.timer = None;
                if !slot.is_ready && slot.lane.is_some() {
                    slot.is_ready = true;
                    self.ready.push_back(number);
                }
            }
        }
    }

    fn put_back(&mut self, number: usize, lane: Box<dyn TakeTurn<S>>, turn: Turn) {
        let slot = &mut self.slots[number];
        if turn == Turn::Done {
            self.open -= 1;
            return;
        }
        slot.lane = Some(lane);
        slot.timer = None;
        if turn == Turn::More || slot.is_ready {
            slot.is_ready = true;
            self.ready.push_back(number);
        } else if let Turn::RestUntil(when) = turn {
            slot.timer = Some(when);
            self.timers.push(Reverse((when, number)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    /// Writes its name at each turn, and then wants what the script says.
    struct Scripted {
        name: char,
        script: VecDeque<Turn>,
        log: Arc<Mutex<String>>,
    }

    impl TakeTurn<()> for Scripted {
        fn turn(&mut self, _: &mut ()) -> Turn {
            self.log.lock().unwrap().push(self.name);
            self.script.pop_front().unwrap_or(Turn::Done)
        }
    }

    fn run(lanes: Vec<(char, Vec<Turn>)>) -> String {
        let schedule = Schedule::new();
        let log = Arc::new(Mutex::new(String::new()));
        for (name, script) in lanes {
            let number = schedule.reserve();
            schedule.add(number, Box::new(Scripted { name, script: script.into(), log: log.clone() }));
        }
        schedule.work(&mut ());
        std::mem::take(&mut log.lock().unwrap())
    }

    #[test]
    fn lanes_take_turns_until_all_are_done() {
        use Turn::More;
        assert_eq!(run(vec![('a', vec![More, More, More]), ('b', vec![More]), ('c', vec![])]), "abcabaa");
    }

    #[test]
    fn a_lane_that_was_woken_before_it_was_there_gets_its_turns() {
        let schedule = Schedule::new();
        let log = Arc::new(Mutex::new(String::new()));
        let number = schedule.reserve();
        schedule.wake(number);
        schedule.add(number, Box::new(Scripted { name: 'a', script: [Turn::More].into(), log: log.clone() }));
        schedule.work(&mut ());
        assert_eq!(*log.lock().unwrap(), "aa");
    }

    #[test]
    fn a_resting_lane_is_woken_by_its_timer() {
        let soon = Instant::now() + Duration::from_millis(20);
        let later = soon + Duration::from_millis(20);
        assert_eq!(run(vec![('a', vec![Turn::RestUntil(later)]), ('b', vec![Turn::RestUntil(soon)])]), "abba");
        assert!(Instant::now() >= later);
    }

    #[test]
    fn a_lane_that_is_woken_during_its_turn_gets_another() {
        struct WakesItself(Arc<Schedule<u32>>, usize);
        impl TakeTurn<u32> for WakesItself {
            fn turn(&mut self, turns: &mut u32) -> Turn {
                *turns += 1;
                if *turns == 3 {
                    return Turn::Done;
                }
                self.0.wake(self.1);
                self.0.wake(self.1);
                Turn::Rest
            }
        }
        let schedule = Schedule::new();
        let number = schedule.reserve();
        schedule.add(number, Box::new(WakesItself(schedule.clone(), number)));
        let mut turns = 0;
        schedule.work(&mut turns);
        assert_eq!(turns, 3);
    }

    #[test]
    fn a_lane_that_panics_ends_alone() {
        struct Panics;
        impl TakeTurn<()> for Panics {
            fn turn(&mut self, _: &mut ()) -> Turn {
                panic!("this is part of a test");
            }
        }
        let schedule = Schedule::new();
        let log = Arc::new(Mutex::new(String::new()));
        let number = schedule.reserve();
        schedule.add(number, Box::new(Panics));
        let number = schedule.reserve();
        schedule.add(number, Box::new(Scripted { name: 'b', script: [Turn::More].into(), log: log.clone() }));
        schedule.work(&mut ());
        assert_eq!((log.lock().unwrap().as_str(), schedule.broken()), ("bb", 1));
    }

    #[test]
    fn no_lane_is_in_two_places_and_none_is_forgotten() {
        struct Alone {
            busy: Arc<AtomicBool>,
            left: u32,
        }
        impl TakeTurn<()> for Alone {
            fn turn(&mut self, _: &mut ()) -> Turn {
                assert!(!self.busy.swap(true, Ordering::SeqCst));
                std::thread::yield_now();
                self.left -= 1;
                self.busy.store(false, Ordering::SeqCst);
                match self.left {
                    0 => Turn::Done,
                    n if n % 7 == 0 => Turn::RestUntil(Instant::now() + Duration::from_micros(u64::from(n))),
                    _ => Turn::More,
                }
            }
        }
        let schedule = Schedule::new();
        for _ in 0..20 {
            let number = schedule.reserve();
            schedule.add(number, Box::new(Alone { busy: Arc::default(), left: 500 }));
        }
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| schedule.work(&mut ()));
            }
        });
        assert_eq!(schedule.lock().open, 0);
    }
}
