//! Lanes on real threads, which say themselves what their turns have cost.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;

thread_local! {
    /// What the lanes of this thread say that their turns have cost, in nanoseconds.
    static SPENT: Cell<u64> = const { Cell::new(0) };
}

fn spent() -> Duration {
    Duration::from_nanos(SPENT.get())
}

/// A schedule with one project, whose number is that.
fn one_project<S: Default>() -> (Arc<Schedule<S>>, ProjectNumber) {
    let schedule = Schedule::metered(spent);
    let project = schedule.project(1, None);
    (schedule, project)
}

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
    let (schedule, project) = one_project();
    let log = Arc::new(Mutex::new(String::new()));
    for (name, script) in lanes {
        let number = schedule.reserve(project);
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
    let (schedule, project) = one_project();
    let log = Arc::new(Mutex::new(String::new()));
    let number = schedule.reserve(project);
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
    let (schedule, project) = one_project();
    let number = schedule.reserve(project);
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
    let (schedule, project) = one_project();
    let log = Arc::new(Mutex::new(String::new()));
    let number = schedule.reserve(project);
    schedule.add(number, Box::new(Panics));
    let number = schedule.reserve(project);
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
            SPENT.set(SPENT.get() + 10_000);
            self.busy.store(false, Ordering::SeqCst);
            match self.left {
                0 => Turn::Done,
                n if n % 7 == 0 => Turn::RestUntil(Instant::now() + Duration::from_micros(u64::from(n))),
                _ => Turn::More,
            }
        }
    }
    let schedule = Schedule::metered(spent);
    // Half of the projects are at their ceilings most of the time: 500 turns of 10 µs take 10 ms at half a core.
    let projects: Vec<_> = (0..4).map(|n| schedule.project(n, (n % 2 == 0).then_some(500))).collect();
    for lane in 0..20 {
        let number = schedule.reserve(projects[lane % 4]);
        schedule.add(number, Box::new(Alone { busy: Arc::default(), left: 500 }));
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| schedule.work(&mut ()));
        }
    });
    assert_eq!(schedule.broken(), 0);
    assert_eq!(schedule.lock().open, 0);
    for project in projects {
        assert_eq!(schedule.usage(project).cpu, Duration::from_millis(5 * 5));
    }
}

/// Wants turns until all lanes together have used so much. Turns of every cost up to 2 ms.
struct Busy {
    random: fastrand::Rng,
    left: Arc<AtomicU64>,
}

impl TakeTurn<()> for Busy {
    fn turn(&mut self, _: &mut ()) -> Turn {
        let cost = self.random.u64(1..2_000_000);
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return Turn::Done;
        }
        self.left.store(left.saturating_sub(cost), Ordering::Relaxed);
        SPENT.set(SPENT.get() + cost);
        std::thread::yield_now();
        Turn::More
    }
}

#[test]
fn several_workers_keep_to_the_shares() {
    const WORKERS: usize = 4;
    let schedule = Schedule::metered(spent);
    let left = Arc::new(AtomicU64::new(60_000_000_000));
    let shares = [1, 2, 4];
    let projects = shares.map(|share| schedule.project(share, None));
    for project in projects {
        // One more than workers, so that there is always one that wants a turn.
        for lane in 0..=WORKERS {
            let number = schedule.reserve(project);
            let random = fastrand::Rng::with_seed(lane as u64);
            schedule.add(number, Box::new(Busy { random, left: left.clone() }));
        }
    }
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| schedule.work(&mut ()));
        }
    });
    let used = projects.map(|project| schedule.usage(project).cpu.as_secs_f64());
    let all: f64 = used.iter().sum();
    for (share, used) in shares.into_iter().zip(used) {
        let part = used / all / (f64::from(share) / 7.0);
        assert!((0.95..1.05).contains(&part), "a project of share {share} got {part} of what it should get");
    }
}

#[test]
fn a_ceiling_is_over_when_it_is_lifted() {
    struct Costly(Arc<AtomicU64>);
    impl TakeTurn<()> for Costly {
        fn turn(&mut self, _: &mut ()) -> Turn {
            // Hours at this rate.
            SPENT.set(SPENT.get() + 100_000_000_000);
            if self.0.fetch_add(1, Ordering::SeqCst) == 1 { Turn::Done } else { Turn::More }
        }
    }
    let schedule = Schedule::metered(spent);
    let project = schedule.project(1, Some(1));
    let (number, other) = (schedule.reserve(project), schedule.reserve(project));
    let turns = Arc::new(AtomicU64::new(0));
    schedule.add(number, Box::new(Costly(turns.clone())));
    std::thread::scope(|scope| {
        scope.spawn(|| schedule.work(&mut ()));
        while schedule.usage(project).throttled == 0 {
            std::thread::yield_now();
        }
        // Whoever comes waits as well.
        let log = Arc::new(Mutex::new(String::new()));
        schedule.add(other, Box::new(Scripted { name: 'a', script: [].into(), log: log.clone() }));
        assert_eq!((turns.load(Ordering::SeqCst), log.lock().unwrap().len()), (1, 0));
        schedule.lift_ceilings();
    });
    assert_eq!(turns.load(Ordering::SeqCst), 2);
    let usage = schedule.usage(project);
    assert_eq!((usage.cpu, usage.throttled), (Duration::from_secs(200), 1));
    assert!(usage.throttled_for > Duration::ZERO);
}

/// Is done when it is told so.
struct Until(Arc<AtomicBool>);

impl TakeTurn<()> for Until {
    fn turn(&mut self, _: &mut ()) -> Turn {
        if self.0.load(Ordering::Relaxed) { Turn::Done } else { Turn::Rest }
    }
}

#[test]
fn a_number_is_free_when_its_lane_is_gone() {
    let (schedule, project) = one_project::<()>();
    schedule.stay_open(true);
    let number = schedule.reserve(project);
    let worker = {
        let schedule = schedule.clone();
        std::thread::spawn(move || schedule.work(&mut ()))
    };
    // Nobody was there yet.
    assert!(schedule.wait_gone(number, Instant::now()));
    for _ in 0..100 {
        let is_over = Arc::new(AtomicBool::new(false));
        schedule.add(number, Box::new(Until(is_over.clone())));
        assert!(!schedule.wait_gone(number, Instant::now()));
        is_over.store(true, Ordering::Relaxed);
        schedule.wake(number);
        assert!(schedule.wait_gone(number, Instant::now() + Duration::from_secs(60)));
    }
    // The worker waits for more, until there will be none.
    assert!(!worker.is_finished());
    schedule.stay_open(false);
    worker.join().unwrap();
}
