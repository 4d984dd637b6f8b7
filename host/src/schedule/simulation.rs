//! Hours of turns in simulated time: shares, ceilings, who waits how long, and random lanes against what must hold.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::turns::{ProjectNumber, Turns};

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;

/// Workers, whose turns take as long as they cost, and lanes, in nanoseconds since the beginning.
struct World {
    turns: Turns,
    begin: Instant,
    now: u64,
    idle_workers: usize,
    workers: usize,
    /// What comes next: ends of turns and wakes.
    agenda: BinaryHeap<Reverse<(u64, usize, What)>>,
    lanes: Vec<Lane>,
    random: fastrand::Rng,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    End(u64),
    Wake,
    Look,
}

struct Lane {
    project: ProjectNumber,
    /// What it does, again and again.
    habit: Habit,
    state: State,
    /// Since when it has wanted a turn.
    since: u64,
    longest_wait: u64,
    served: u64,
    used: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Rests,
    Wants,
    HasTurn { is_woken: bool },
}

/// The costs of turns, and the pauses after them. A pause of 0 is none.
#[derive(Clone)]
struct Habit {
    cost: std::ops::RangeInclusive<u64>,
    pause: std::ops::RangeInclusive<u64>,
}

/// Always wants turns, that cost so much.
fn busy(cost: std::ops::RangeInclusive<u64>) -> Habit {
    Habit { cost, pause: 0..=0 }
}

impl World {
    fn new(workers: usize) -> Self {
        World {
            turns: Turns::default(),
            begin: Instant::now(),
            now: 0,
            idle_workers: workers,
            workers,
            agenda: BinaryHeap::new(),
            lanes: Vec::new(),
            random: fastrand::Rng::with_seed(7),
        }
    }

    fn at(&self, nanos: u64) -> Instant {
        self.begin + Duration::from_nanos(nanos)
    }

    fn project(&mut self, share: u32, ceiling: Option<u32>) -> ProjectNumber {
        self.turns.project(share, ceiling, self.at(self.now))
    }

    fn lane(&mut self, project: ProjectNumber, habit: Habit) -> usize {
        let number = self.turns.lane(project);
        let state = State::Rests;
        self.lanes.push(Lane { project, habit, state, since: 0, longest_wait: 0, served: 0, used: 0 });
        self.agenda.push(Reverse((self.now, number, What::Wake)));
        number
    }

    fn used(&self, project: ProjectNumber) -> u64 {
        self.turns.usage(project, self.at(self.now)).cpu.as_nanos() as u64
    }

    fn run_for(&mut self, nanos: u64) {
        self.run_until(self.now + nanos);
    }

    fn run_until(&mut self, end: u64) {
        self.hand_out();
        while let Some(Reverse((when, ..))) = self.agenda.peek()
            && *when <= end
        {
            let Some(Reverse((when, lane, what))) = self.agenda.pop() else { break };
            self.now = when;
            match what {
                What::End(cost) => self.end(lane, cost),
                What::Wake => self.wake(lane),
                What::Look => {}
            }
            self.hand_out();
        }
        self.now = end;
    }

    fn hand_out(&mut self) {
        while self.idle_workers > 0
            && let Some(number) = self.turns.take(self.at(self.now))
        {
            let lane = &mut self.lanes[number];
            assert_eq!(lane.state, State::Wants, "lane {number} is in two places, or nowhere");
            lane.state = State::HasTurn { is_woken: false };
            lane.longest_wait = lane.longest_wait.max(self.now - lane.since);
            let cost = self.random.u64(lane.habit.cost.clone());
            self.agenda.push(Reverse((self.now + cost, number, What::End(cost))));
            self.idle_workers -= 1;
        }
        assert!(self.idle_workers == 0 || !self.turns.has_ready());
        if self.idle_workers > 0
            && let Some(opens) = self.turns.opens_at()
        {
            let opens = (opens - self.begin).as_nanos() as u64;
            assert!(opens > self.now, "no time passes");
            self.agenda.push(Reverse((opens, 0, What::Look)));
        }
    }

    fn end(&mut self, number: usize, cost: u64) {
        let lane = &mut self.lanes[number];
        let State::HasTurn { is_woken } = lane.state else { panic!("lane {number} has no turn to end") };
        (lane.served, lane.used) = (lane.served + 1, lane.used + cost);
        let pause = self.random.u64(lane.habit.pause.clone());
        let again = is_woken || pause == 0;
        (lane.state, lane.since) = (if again { State::Wants } else { State::Rests }, self.now);
        if !again {
            self.agenda.push(Reverse((self.now + pause, number, What::Wake)));
        }
        self.turns.end(number, cost, again, self.at(self.now));
        self.idle_workers += 1;
    }

    fn wake(&mut self, number: usize) {
        let now = self.at(self.now);
        let lane = &mut self.lanes[number];
        match &mut lane.state {
            State::Wants => {}
            State::HasTurn { is_woken } => *is_woken = true,
            State::Rests => {
                (lane.state, lane.since) = (State::Wants, self.now);
                self.turns.want(number, now);
            }
        }
    }
}

#[track_caller]
fn assert_within(part: f64, percent: f64, what: &str) {
    assert!((part - 1.0).abs() <= percent / 100.0, "{what}: {part} times what it should be");
}

#[test]
fn shares_are_kept_by_one_worker_and_by_several() {
    for workers in [1, 2, 4] {
        let mut world = World::new(workers);
        let shares = [1, 2, 4];
        let projects = shares.map(|share| world.project(share, None));
        for project in projects {
            // Costs differ, which must make no difference.
            for lane in 0..4 {
                world.lane(project, busy(10 * US..=(1 + lane) * MS));
            }
        }
        world.run_for(10 * S);
        for (share, project) in shares.into_iter().zip(projects) {
            let due = workers as f64 * 10e9 * f64::from(share) / 7.0;
            assert_within(world.used(project) as f64 / due, 1.0, &format!("share {share}, {workers} workers"));
        }
    }
}

#[test]
fn a_project_with_many_lanes_gets_no_more_than_one_with_one() {
    let mut world = World::new(1);
    let (one, many) = (world.project(1, None), world.project(1, None));
    world.lane(one, busy(MS..=3 * MS));
    let lanes: Vec<_> = (0..10).map(|n| world.lane(many, busy(100 * US..=(n + 1) * MS))).collect();
    world.run_for(10 * S);
    assert_within(world.used(one) as f64 / world.used(many) as f64, 1.0, "one lane beside ten");
    for lane in lanes {
        // Whatever a turn of it costs.
        assert_within(world.lanes[lane].used as f64 / 0.5e9, 3.0, "a lane of ten");
    }
}

#[test]
fn whoever_wakes_is_next_beside_five_hundred() {
    for cost in [2 * MS..=2 * MS, 10 * US..=4 * MS] {
        let mut world = World::new(2);
        for _ in 0..500 {
            let project = world.project(1, None);
            world.lane(project, busy(cost.clone()));
        }
        let project = world.project(1, None);
        // Well below its five hundredth of two cores.
        let light = world.lane(project, Habit { cost: 100 * US..=100 * US, pause: 100 * MS..=200 * MS });
        // Until all have had a turn nobody knows how long they take.
        world.run_for(S);
        world.lanes[light].longest_wait = 0;
        world.run_for(60 * S);
        let Lane { longest_wait, served, .. } = world.lanes[light];
        assert!(served > 380, "{served} turns in a minute");
        assert!(longest_wait <= *cost.end(), "it waited for {longest_wait} ns");
    }
}

#[test]
fn a_share_that_one_lane_cannot_use_is_no_claim_for_later() {
    let mut world = World::new(2);
    let (large, small) = (world.project(1000, None), world.project(1, None));
    world.lane(large, busy(MS..=MS));
    (0..3).for_each(|_| _ = world.lane(small, busy(MS..=MS)));
    world.run_for(60 * S);
    // One worker for each: more than one the larger cannot use.
    assert_within(world.used(large) as f64 / 60e9, 1.0, "the larger");
    let middle = world.project(1000, None);
    world.lane(middle, busy(MS..=MS));
    world.lane(large, busy(MS..=MS));
    let before = [large, middle].map(|project| world.used(project));
    world.run_for(10 * S);
    let [large, middle] = [world.used(large) - before[0], world.used(middle) - before[1]];
    assert_within(large as f64 / middle as f64, 3.0, "two of the same share, of which one could not use it before");
}

#[test]
fn ceilings_hold_and_others_have_the_rest() {
    for workers in [1, 2] {
        for rate in [1, 20, 100, 500, 900] {
            let mut world = World::new(workers);
            let (low, other) = (world.project(1000, Some(rate)), world.project(1, None));
            (0..3).for_each(|_| _ = world.lane(low, busy(100 * US..=5 * MS)));
            (0..2).for_each(|_| _ = world.lane(other, busy(100 * US..=5 * MS)));
            // What was saved up before it began.
            world.run_for(S);
            let before = (world.used(low), world.used(other));
            let seconds = if rate == 1 { 1000 } else { 50 };
            world.run_for(seconds * S);
            let (used, rest) = (world.used(low) - before.0, world.used(other) - before.1);
            let due = f64::from(rate) / 1000.0 * seconds as f64 * 1e9;
            assert_within(used as f64 / due, 5.0, &format!("a ceiling of {rate}m, {workers} workers"));
            let all = workers as u64 * seconds * S;
            assert!(used + rest >= all - 10 * MS, "{} ns were nobody's", all - used - rest);
        }
    }
}

#[test]
fn nobody_looks_all_the_time_whether_a_ceiling_is_over() {
    let mut world = World::new(1);
    let project = world.project(1, Some(100));
    let lane = world.lane(project, busy(MS..=MS));
    world.run_for(10 * S);
    let usage = world.turns.usage(project, world.at(world.now));
    // Turns come in rows, each after one wait.
    assert!(usage.throttled <= 400 && world.lanes[lane].served >= 950, "{usage:?}");
    assert_within(usage.throttled_for.as_secs_f64() / 9.0, 2.0, "the time at its ceiling");
    // A project that wants nothing waits for nothing.
    let idle = world.project(1, Some(1));
    world.lane(idle, Habit { cost: 20 * MS..=20 * MS, pause: 100 * S..=100 * S });
    world.run_for(30 * S);
    let usage = world.turns.usage(idle, world.at(world.now));
    assert_eq!((usage.throttled, usage.throttled_for), (0, Duration::ZERO));
}

#[test]
fn debt_is_not_escaped_by_an_instant_of_rest() {
    let mut world = World::new(1);
    let (honest, sly) = (world.project(1, None), world.project(1, None));
    world.lane(honest, busy(MS..=MS));
    world.lane(sly, Habit { cost: 50 * MS..=50 * MS, pause: 1..=1 });
    world.run_for(60 * S);
    assert_within(world.used(sly) as f64 / world.used(honest) as f64, 1.0, "long turns with rests between");
}

/// A world of random projects and lanes. Some projects are always busy: the first lanes of each are, one more than
/// there are workers.
fn random_world(seed: u64) -> (World, Vec<(ProjectNumber, u32, bool)>, u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::new(random.usize(1..=4));
    let longest = [100 * US, 5 * MS, 50 * MS][random.usize(..3)];
    let mut projects = Vec::new();
    for _ in 0..random.usize(1..=8) {
        let (share, is_busy) = (random.u32(1..=10), random.bool());
        let ceiling = (!is_busy && random.bool()).then(|| random.u32(50..=3000));
        let project = world.project(share, ceiling);
        projects.push((project, share, is_busy));
        let busy_lanes = if is_busy { world.workers + 1 } else { 0 };
        for lane in 0..busy_lanes + random.usize(0..=5) {
            let cost = 0..=random.u64(longest / 8..=longest);
            let pauses = [0..=0, 0..=US, 0..=MS, MS..=100 * MS, S..=3 * S];
            let pause = pauses[if lane < busy_lanes { 0 } else { random.usize(..pauses.len()) }].clone();
            // A turn that is over at once and wants another is no turn of a real lane.
            world.lane(project, Habit { cost: US + cost.start()..=US + cost.end(), pause });
        }
    }
    world.random = random;
    (world, projects, longest + US)
}

#[test]
fn random_lanes_get_their_shares_and_none_is_forgotten() {
    for seed in 0..100 {
        let (mut world, projects, longest) = random_world(seed);
        world.run_for(S);
        let used = |world: &World| projects.iter().map(|(project, ..)| world.used(*project)).collect::<Vec<_>>();
        let before = used(&world);
        for _ in 0..20 {
            // Wakes from outside, whatever the lanes are doing.
            for _ in 0..20 {
                if !world.lanes.is_empty() {
                    let lane = world.random.usize(..world.lanes.len());
                    world.wake(lane);
                }
                world.run_for(10 * longest);
            }
        }
        let got: Vec<_> = used(&world).iter().zip(&before).map(|(after, before)| after - before).collect();
        let all: u64 = got.iter().sum();
        let shares: u64 = projects.iter().map(|(_, share, _)| u64::from(*share)).sum();
        // Turns that began before and those that are not over yet, for the project and for all that it is compared to.
        let turns = longest * world.workers as u64;
        for (got, (_, share, _)) in got.iter().zip(&projects).filter(|(_, (.., is_busy))| *is_busy) {
            let due = all * u64::from(*share) / shares;
            let slack = turns + turns * projects.len() as u64 * u64::from(*share) / shares;
            assert!(got + slack >= due, "seed {seed}: share {share} of {shares} got {got} ns of {all}");
        }
        // Time passes in which nobody is woken from outside: whoever wanted a turn has had it.
        let wanted: Vec<_> = (0..world.lanes.len()).filter(|n| world.lanes[*n].state == State::Wants).collect();
        let served: Vec<_> = world.lanes.iter().map(|lane| lane.served).collect();
        world.run_for(S + 1000 * longest);
        for lane in wanted {
            let Lane { project, served: now, .. } = world.lanes[lane];
            assert!(now > served[lane], "seed {seed}: lane {lane} of {project:?} is forgotten");
        }
    }
}
