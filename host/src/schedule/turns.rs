//! Who is next: of the projects the one that used least for its share, of its lanes the one that used least.
//!
//! Nothing here knows threads or clocks, and nothing is done for a lane that wants nothing: tests simulate hours of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::bucket::Bucket;
use super::line::{Line, Member};

/// A project, by the number that its schedule gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProjectNumber(usize);

/// What a project has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of all turns of its lanes.
    pub cpu: Duration,
    /// How often lanes that wanted turns had to wait for its ceiling.
    pub throttled: u64,
    /// How long, together.
    pub throttled_for: Duration,
}

/// Projects, their lanes, and the order of those that want turns.
#[derive(Default)]
pub struct Turns {
    projects: Vec<Project>,
    lanes: Vec<Lane>,
    line: Line,
    /// Projects at their ceilings, by when to look at them again, of which lanes want turns.
    closed: BTreeSet<(Instant, usize)>,
}

struct Project {
    member: Member,
    lanes: Line,
    ceiling: Option<Bucket>,
    closed: Option<Closed>,
    usage: Usage,
}

struct Lane {
    project: usize,
    member: Member,
}

/// That a project waits for its ceiling.
#[derive(Clone, Copy)]
struct Closed {
    since: Instant,
    until: Instant,
}

impl Turns {
    /// One more project. Its ceiling is in thousandths of a core.
    pub fn project(&mut self, share: u32, ceiling: Option<u32>, now: Instant) -> ProjectNumber {
        let number = self.projects.len();
        self.projects.push(Project {
            member: Member::new(number, share),
            lanes: Line::default(),
            ceiling: ceiling.map(|rate| Bucket::new(rate, now)),
            closed: None,
            usage: Usage::default(),
        });
        ProjectNumber(number)
    }

    /// What a project gets from now on.
    pub fn set_project(&mut self, project: ProjectNumber, share: u32, ceiling: Option<u32>, now: Instant) {
        let ProjectNumber(number) = project;
        let Project { member, ceiling: before, .. } = &mut self.projects[number];
        self.line.set_weight(member, share);
        // What it has used up stays used up.
        *before = ceiling.map(|rate| match before.take() {
            Some(bucket) if bucket.rate() == rate => bucket,
            Some(bucket) => bucket.at_rate(rate, now),
            None => Bucket::new(rate, now),
        });
        self.place(number, now);
    }

    /// One more lane of a project, which wants nothing yet. Lanes are numbered from 0.
    pub fn lane(&mut self, project: ProjectNumber) -> usize {
        let number = self.lanes.len();
        self.lanes.push(Lane { project: project.0, member: Member::new(number, 1) });
        number
    }

    /// A lane wants a turn. It must not have one.
    pub fn want(&mut self, lane: usize, now: Instant) {
        let Lane { project, ref mut member } = self.lanes[lane];
        self.projects[project].lanes.enter(member);
        self.place(project, now);
    }

    /// Gives the next lane its turn, which has to be ended.
    pub fn take(&mut self, now: Instant) -> Option<usize> {
        self.look_at_closed(now);
        let first = self.line.first()?;
        let project = &mut self.projects[first];
        self.line.take(&mut project.member);
        let lane = project.lanes.first().expect("a project in line has a lane in line");
        project.lanes.take(&mut self.lanes[lane].member);
        self.place(first, now);
        Some(lane)
    }

    /// A lane's turn is over and has cost so many nanoseconds of CPU time. It may want another.
    pub fn end(&mut self, lane: usize, nanos: u64, again: bool, now: Instant) {
        let Lane { project: number, ref mut member } = self.lanes[lane];
        let project = &mut self.projects[number];
        project.usage.cpu = project.usage.cpu.saturating_add(Duration::from_nanos(nanos));
        if let Some(ceiling) = &mut project.ceiling {
            ceiling.charge(nanos, now);
        }
        project.lanes.end(member, nanos, again);
        let is_ready = self.is_ready_now(number, now);
        self.line.end(&mut self.projects[number].member, nanos, is_ready);
    }

    /// Whether somebody could have a turn at once.
    pub fn has_ready(&self) -> bool {
        self.line.first().is_some()
    }

    /// When a project that waits for its ceiling may go on.
    pub fn opens_at(&self) -> Option<Instant> {
        self.closed.first().map(|(until, _)| *until)
    }

    /// Forgets all ceilings.
    pub fn lift_ceilings(&mut self, now: Instant) {
        for number in 0..self.projects.len() {
            self.projects[number].ceiling = None;
            self.place(number, now);
        }
    }

    /// What a project has used.
    pub fn usage(&self, project: ProjectNumber, now: Instant) -> Usage {
        let Project { usage, closed, .. } = &self.projects[project.0];
        let waits = closed.map_or(Duration::ZERO, |closed| now.saturating_duration_since(closed.since));
        Usage { throttled_for: usage.throttled_for + waits, ..*usage }
    }

    fn look_at_closed(&mut self, now: Instant) {
        while let Some(&(until, project)) = self.closed.first()
            && until <= now
        {
            self.place(project, now);
        }
    }

    /// Puts a project in line, or takes it out.
    fn place(&mut self, number: usize, now: Instant) {
        let is_ready = self.is_ready_now(number, now);
        let member = &mut self.projects[number].member;
        if is_ready { self.line.enter(member) } else { self.line.leave(member) }
    }

    /// Whether a project belongs in line. If it is at its ceiling and a lane wants a turn, it is noted among those.
    fn is_ready_now(&mut self, number: usize, now: Instant) -> bool {
        let project = &mut self.projects[number];
        let is_wanted = project.lanes.first().is_some();
        let until = project.ceiling.as_mut().filter(|_| is_wanted).and_then(|ceiling| ceiling.closed_until(now));
        let before = project.closed.take();
        if let Some(closed) = before {
            self.closed.remove(&(closed.until, number));
        }
        if let Some(until) = until {
            self.closed.insert((until, number));
            project.usage.throttled += u64::from(before.is_none());
            project.closed = Some(Closed { since: before.map_or(now, |closed| closed.since), until });
        } else if let Some(closed) = before {
            project.usage.throttled_for += now.saturating_duration_since(closed.since);
        }
        is_wanted && until.is_none()
    }
}
