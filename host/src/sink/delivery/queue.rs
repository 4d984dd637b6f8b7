//! Whose payload is next: the projects in turn, and then the logstores of a project.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::limit::{Backoff, Limit, as_asked};
use crate::config::LogstoreName;

/// Refused events in a row that cost nothing: a few bad ones are nothing strange.
const FREE_REFUSALS: u32 = 16;

/// The longest pause between events that are all refused.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);

/// A request that took so long and came to nothing takes a place from others: its logstore has one then.
const HOGS: Duration = Duration::from_secs(2);

/// The queues of all logstores of a destination.
pub struct Queues<P> {
    max: usize,
    limit: Limit,
    /// Nobody is next before.
    closed_until: Option<Instant>,
    under_way: usize,
    waiting: usize,
    /// Logstores that were pushed back since the destination last took something: of several, it is not their own
    /// limit that was reached.
    pushed_back: HashSet<Arc<LogstoreName>>,
    logstores: HashMap<Arc<LogstoreName>, Queue<P>>,
    /// Requests of each project that are under way.
    by_project: HashMap<String, usize>,
    /// Projects with logstores that may be next, in turn.
    projects: VecDeque<String>,
    ready: HashMap<String, VecDeque<Arc<LogstoreName>>>,
    /// Logstores that wait for a time.
    paused: BTreeMap<(Instant, Arc<LogstoreName>), ()>,
}

struct Queue<P> {
    pieces: VecDeque<P>,
    limit: Limit,
    under_way: usize,
    backoff: Backoff,
    refusals: u32,
    refused: Backoff,
    until: Option<Instant>,
    is_ready: bool,
}

impl<P> Queues<P> {
    /// With so many requests at once at most.
    pub fn new(max: usize) -> Self {
        Queues {
            max,
            limit: Limit::new(max),
            closed_until: None,
            under_way: 0,
            waiting: 0,
            pushed_back: HashSet::new(),
            logstores: HashMap::new(),
            by_project: HashMap::new(),
            projects: VecDeque::new(),
            ready: HashMap::new(),
            paused: BTreeMap::new(),
        }
    }

    /// Whether nothing is waiting. What is under way may come back.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// How many are waiting.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Requests that may be under way.
    pub fn limit(&self) -> usize {
        self.limit.get()
    }

    fn queue(&mut self, target: &Arc<LogstoreName>) -> &mut Queue<P> {
        let max = self.max;
        if !self.by_project.contains_key(&target.project) {
            self.by_project.insert(target.project.clone(), 0);
        }
        self.logstores.entry(target.clone()).or_insert_with(|| Queue {
            pieces: VecDeque::new(),
            limit: Limit::new(max),
            under_way: 0,
            backoff: Backoff::default(),
            refusals: 0,
            refused: Backoff::default(),
            until: None,
            is_ready: false,
        })
    }

    /// Puts a piece behind all others of its logstore.
    pub fn push_back(&mut self, target: &Arc<LogstoreName>, piece: P) {
        self.queue(target).pieces.push_back(piece);
        self.waiting += 1;
        self.offer(target);
    }

    /// Puts a piece before all others of its logstore.
    pub fn push_front(&mut self, target: &Arc<LogstoreName>, piece: P) {
        self.queue(target).pieces.push_front(piece);
        self.waiting += 1;
        self.offer(target);
    }

    /// Drops the first pieces of a logstore, as many as nobody waits for.
    pub fn forget_first(&mut self, target: &Arc<LogstoreName>, is_over: impl Fn(&P) -> bool) {
        let pieces = &mut self.queue(target).pieces;
        let count = pieces.iter().take_while(|piece| is_over(piece)).count();
        pieces.drain(..count);
        self.waiting -= count;
    }

    /// The logstore is ready, if nothing speaks against it.
    fn offer(&mut self, target: &Arc<LogstoreName>) {
        let queue = self.queue(target);
        let may = !queue.pieces.is_empty() && queue.until.is_none() && queue.under_way < queue.limit.get();
        if !may || queue.is_ready {
            return;
        }
        queue.is_ready = true;
        let ready = self.ready.entry(target.project.clone()).or_default();
        if ready.is_empty() {
            self.projects.push_back(target.project.clone());
        }
        ready.push_back(target.clone());
    }

    /// The next piece that may be sent now; it is under way then.
    pub fn next(&mut self, now: Instant) -> Option<P> {
        while let Some(entry) = self.paused.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, target), ()) = entry.remove_entry();
            self.queue(&target).until = None;
            self.offer(&target);
        }
        if self.closed_until.is_some_and(|until| until > now) || self.under_way >= self.limit.get() {
            return None;
        }
        self.closed_until = None;
        let most = self.most_of_a_project();
        let mut passed_over = 0;
        while passed_over < self.projects.len() {
            let project = self.projects.pop_front()?;
            if self.by_project.get(&project).is_some_and(|under_way| *under_way >= most) {
                self.projects.push_back(project);
                passed_over += 1;
                continue;
            }
            let Some(ready) = self.ready.get_mut(&project) else { continue };
            let target = ready.pop_front();
            if ready.is_empty() {
                self.ready.remove(&project);
            } else {
                self.projects.push_back(project);
            }
            let Some(target) = target else { continue };
            let queue = self.queue(&target);
            queue.is_ready = false;
            if queue.until.is_some() || queue.under_way >= queue.limit.get() {
                continue;
            }
            let Some(piece) = queue.pieces.pop_front() else { continue };
            queue.under_way += 1;
            self.under_way += 1;
            self.waiting -= 1;
            *self.by_project.entry(target.project.clone()).or_default() += 1;
            self.offer(&target);
            return Some(piece);
        }
        None
    }

    /// Requests of one project that may be under way: a place is left for others, whose requests may be fast.
    fn most_of_a_project(&self) -> usize {
        let limit = self.limit.get();
        if self.by_project.len() > 1 { limit - (limit / 4).max(1).min(limit - 1) } else { limit }
    }

    /// A request of the logstore has come to its end.
    fn end(&mut self, target: &Arc<LogstoreName>) -> &mut Queue<P> {
        self.under_way -= 1;
        if let Some(under_way) = self.by_project.get_mut(&target.project) {
            *under_way -= 1;
        }
        let queue = self.queue(target);
        queue.under_way -= 1;
        queue
    }

    /// When something may be sent that may not now.
    pub fn due(&self) -> Option<Instant> {
        let paused = self.paused.first_key_value().map(|((until, _), ())| *until);
        paused.into_iter().chain(self.closed_until.filter(|_| self.waiting > 0)).min()
    }

    /// A request was answered, and what it sent taken or not.
    pub fn finished(&mut self, target: &Arc<LogstoreName>, took: bool) {
        self.limit.raise();
        if took {
            self.pushed_back.clear();
        }
        let queue = self.end(target);
        if took {
            queue.limit.raise();
            queue.backoff.succeed();
            queue.refused.succeed();
            queue.refusals = 0;
        }
        self.offer(target);
        self.forget_idle(target);
    }

    /// So many events, or a payload of which it is not known yet, were refused for good, and nothing of what was sent
    /// then was taken. If that goes on and on, somebody made a mistake, and the server is spared.
    pub fn refused(&mut self, target: &Arc<LogstoreName>, events: u32, sent: Instant, now: Instant, longest: Duration) {
        let queue = self.queue(target);
        queue.refusals = queue.refusals.saturating_add(events);
        if queue.refusals > FREE_REFUSALS
            && let Some(pause) = queue.refused.fail(sent, now, longest.min(REFUSAL_PAUSE))
        {
            self.pause(target, now + pause);
        }
    }

    /// A request did not arrive: nothing is sent before that time, if there is one, and then one.
    pub fn finished_unreached(&mut self, target: &Arc<LogstoreName>, until: Option<Instant>) {
        self.end(target);
        self.limit.probe();
        self.closed_until = self.closed_until.max(until);
        self.offer(target);
    }

    /// Something arrived, after nothing did.
    pub fn reached(&mut self) {
        self.closed_until = None;
    }

    /// A request that was sent then was pushed back.
    pub fn pushed_back(
        &mut self,
        target: &Arc<LogstoreName>,
        sent: Instant,
        now: Instant,
        after: Option<Duration>,
        longest: Duration,
    ) {
        self.pushed_back.insert(target.clone());
        if self.pushed_back.len() > 1 {
            self.limit.lower(sent, now);
        }
        let queue = self.end(target);
        if now - sent < HOGS {
            queue.limit.lower(sent, now);
        } else {
            queue.limit.probe();
        }
        match queue.backoff.fail(sent, now, longest).max(after.map(as_asked)) {
            Some(pause) => self.pause(target, now + pause),
            None => self.offer(target),
        }
    }

    fn pause(&mut self, target: &Arc<LogstoreName>, until: Instant) {
        let queue = self.queue(target);
        // Of several that were under way together, the one that is told to wait longest counts.
        let until = queue.until.map_or(until, |known| known.max(until));
        if let Some(known) = queue.until.replace(until) {
            self.paused.remove(&(known, target.clone()));
        }
        self.paused.insert((until, target.clone()), ());
    }

    /// Keeps nothing of a logstore that has nothing to send, unless it has learnt something.
    fn forget_idle(&mut self, target: &Arc<LogstoreName>) {
        let is_idle = |queue: &Queue<P>| {
            let is_plain = queue.until.is_none() && queue.refusals == 0 && queue.backoff.failures() == 0;
            queue.pieces.is_empty() && queue.under_way == 0 && !queue.is_ready && is_plain
        };
        // Its limit is found again fast.
        if self.logstores.len() > 4 * self.max && self.logstores.get(target).is_some_and(is_idle) {
            self.logstores.remove(target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Arc<LogstoreName> {
        Arc::new(text.parse().unwrap())
    }

    /// Sends and finishes one piece after the other.
    fn drain(queues: &mut Queues<&'static str>, targets: &[&Arc<LogstoreName>], now: Instant) -> Vec<&'static str> {
        let mut order = Vec::new();
        while let Some(piece) = queues.next(now) {
            order.push(piece);
            let target = targets.iter().find(|target| piece.starts_with(&target.logstore)).unwrap();
            queues.finished(target, true);
        }
        order
    }

    #[test]
    fn projects_come_in_turn_and_then_their_logstores() {
        let (a, b, c) = (name("p/a"), name("p/b"), name("q/c"));
        let mut queues = Queues::new(8);
        for piece in ["a1", "a2", "a3"] {
            queues.push_back(&a, piece);
        }
        for piece in ["b1", "b2"] {
            queues.push_back(&b, piece);
        }
        for piece in ["c1", "c2", "c3"] {
            queues.push_back(&c, piece);
        }
        let order = drain(&mut queues, &[&a, &b, &c], Instant::now());
        assert_eq!(order, ["a1", "c1", "b1", "c2", "a2", "c3", "b2", "a3"]);
        assert!(queues.is_empty());
    }

    #[test]
    fn one_that_is_pushed_back_waits_and_others_do_not() {
        let (a, b) = (name("p/a"), name("p/b"));
        let start = Instant::now();
        let mut queues = Queues::new(8);
        queues.push_back(&a, "a1");
        assert_eq!(queues.next(start), Some("a1"));
        let second = Duration::from_secs(1);
        queues.push_front(&a, "a1");
        queues.pushed_back(&a, start, start, Some(5 * second), 30 * second);
        queues.push_back(&a, "a2");
        queues.push_back(&b, "b1");
        assert_eq!(drain(&mut queues, &[&a, &b], start), ["b1"]);
        let due = queues.due().unwrap();
        assert!((start + 5 * second..=start + 7 * second).contains(&due));
        assert_eq!(queues.next(start + 4 * second), None);
        // One at a time now, and the first first.
        assert_eq!(queues.next(due), Some("a1"));
        assert_eq!(queues.next(due), None);
        queues.finished(&a, true);
        assert_eq!(queues.next(due), Some("a2"));
    }

    #[test]
    fn requests_that_are_pushed_back_together_make_one_short_pause() {
        let a = name("p/a");
        let start = Instant::now();
        let mut queues = Queues::new(8);
        (0..20).for_each(|_| queues.push_back(&a, "a"));
        for _ in 0..8 {
            assert!(queues.next(start).is_some());
            queues.finished(&a, true);
        }
        let under_way = std::iter::from_fn(|| queues.next(start)).count();
        assert_eq!(under_way, 8);
        let soon = start + Duration::from_millis(10);
        for _ in 0..under_way {
            queues.push_front(&a, "a");
            queues.pushed_back(&a, start, soon, None, Duration::from_secs(30));
        }
        let due = queues.due().unwrap();
        assert!(due <= soon + Duration::from_millis(250), "{:?}", due - soon);
        assert_eq!(std::iter::from_fn(|| queues.next(due)).count(), 4, "half of them");
    }

    #[test]
    fn what_pushes_back_several_logstores_lowers_the_destinations_limit() {
        let (a, b) = (name("p/a"), name("q/b"));
        let start = Instant::now();
        let mut queues = Queues::new(8);
        let mut now = start;
        let mut round =
            |queues: &mut Queues<&str>, pushed_back: &[&Arc<LogstoreName>], taken: &[&Arc<LogstoreName>]| {
                now += Duration::from_secs(60);
                for target in pushed_back.iter().chain(taken) {
                    queues.push_back(target, if Arc::ptr_eq(target, &a) { "a" } else { "b" });
                }
                let sent = std::iter::from_fn(|| queues.next(now)).count();
                assert_eq!(sent, pushed_back.len() + taken.len());
                for target in pushed_back {
                    queues.pushed_back(target, now, now + Duration::from_millis(5), None, Duration::from_secs(1));
                }
                taken.iter().for_each(|target| queues.finished(target, true));
                queues.limit()
            };
        for _ in 0..8 {
            round(&mut queues, &[], &[&a]);
        }
        assert_eq!(queues.limit(), 8);
        // A limit of one logstore is its own, as others show.
        for _ in 0..3 {
            assert_eq!(round(&mut queues, &[&a], &[&b]), 8);
        }
        // Nobody comes through.
        assert_eq!(round(&mut queues, &[&a, &b], &[]), 4);
        assert_eq!(round(&mut queues, &[&a, &b], &[]), 2);
    }

    #[test]
    fn requests_that_hang_leave_places_for_others() {
        let (slow, fast) = (name("p/slow"), name("q/fast"));
        let start = Instant::now();
        let mut queues = Queues::new(8);
        // Both are known, and the limit is found.
        for target in [&slow, &fast].repeat(8) {
            queues.push_back(target, "x");
            assert!(queues.next(start).is_some());
            queues.finished(target, true);
        }
        assert_eq!(queues.limit(), 8);
        for _ in 0..20 {
            queues.push_back(&slow, "slow");
        }
        let hanging = std::iter::from_fn(|| queues.next(start)).count();
        assert_eq!(hanging, 6);
        queues.push_back(&fast, "fast");
        assert_eq!(queues.next(start), Some("fast"));
        queues.finished(&fast, true);
        // All of them come to nothing after half a minute: from now on it is one.
        let later = start + Duration::from_secs(30);
        for _ in 0..hanging {
            queues.push_front(&slow, "slow");
            queues.pushed_back(&slow, start, later, None, Duration::from_secs(1));
        }
        let again = later + Duration::from_secs(2);
        assert_eq!(std::iter::from_fn(|| queues.next(again)).count(), 1);
    }

    #[test]
    fn while_nothing_arrives_one_tries() {
        let (a, b) = (name("p/a"), name("q/b"));
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut queues = Queues::new(8);
        for piece in ["a1", "a2", "a3"] {
            queues.push_back(&a, piece);
        }
        queues.push_back(&b, "b1");
        let sent = [queues.next(start), queues.next(start)];
        assert_eq!(sent, [Some("a1"), Some("b1")]);
        assert_eq!(queues.next(start), None, "a limit of two to begin with");
        for (target, piece) in [(&a, "a1"), (&b, "b1")] {
            queues.push_front(target, piece);
            queues.finished_unreached(target, Some(start + second));
        }
        assert_eq!(queues.next(start), None);
        assert_eq!(queues.due(), Some(start + second));
        let tried = queues.next(start + second);
        assert!(tried.is_some());
        assert_eq!(queues.next(start + second), None);
    }

    #[test]
    fn refusals_without_end_slow_down() {
        let a = name("p/a");
        let start = Instant::now();
        let mut queues = Queues::new(8);
        for _ in 0..FREE_REFUSALS {
            queues.push_back(&a, "a");
            assert!(queues.next(start).is_some());
            queues.finished(&a, false);
            queues.refused(&a, 1, start, start, Duration::from_secs(30));
            assert_eq!(queues.due(), None);
        }
        queues.push_back(&a, "a");
        assert!(queues.next(start).is_some());
        queues.finished(&a, false);
        queues.refused(&a, 1, start, start, Duration::from_secs(30));
        queues.push_back(&a, "a");
        assert_eq!(queues.next(start), None);
        assert!(queues.due().is_some_and(|due| due <= start + REFUSAL_PAUSE));
    }
}
