//! How many requests may be under way, found by trying: one more on success, half on push-back.

use std::time::{Duration, Instant};

/// A limit that follows what the other side takes.
#[derive(Debug)]
pub struct Limit {
    now: f64,
    max: f64,
    /// Up to here each success adds one; from here on, each round of successes does.
    threshold: f64,
    /// When it was last lowered: what was sent before says nothing new.
    lowered: Option<Instant>,
}

/// What a limit begins with.
const FIRST: f64 = 2.0;

impl Limit {
    /// A limit of at most `max`.
    pub fn new(max: usize) -> Self {
        let max = max as f64;
        Limit { now: FIRST.min(max), max, threshold: max, lowered: None }
    }

    /// Requests that may be under way, 1 at least.
    pub fn get(&self) -> usize {
        self.now as usize
    }

    /// A request succeeded.
    pub fn raise(&mut self) {
        let step = if self.now < self.threshold { 1.0 } else { 1.0 / self.now };
        self.now = (self.now + step).min(self.max);
    }

    /// A request that was sent then was pushed back.
    pub fn lower(&mut self, sent: Instant, now: Instant) {
        if self.lowered.is_none_or(|lowered| sent >= lowered) {
            self.now = (self.now / 2.0).floor().max(1.0);
            self.threshold = self.now.max(FIRST);
            self.lowered = Some(now);
        }
    }

    /// Nothing comes through: one request at a time tries whether anything does again. What was reached before is
    /// soon reached again.
    pub fn probe(&mut self) {
        self.threshold = self.threshold.max(self.now / 2.0);
        self.now = 1.0;
    }
}

/// Pauses that double, from a quarter of a second up to a longest one.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    /// When the last failure was counted: what was sent before says nothing new.
    counted: Option<Instant>,
}

/// The pause after the first failure, before jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

impl Backoff {
    /// After a failure of what was sent then: how long to wait. Half of it is by chance, so that not all come back at
    /// once. None for what was under way when the last failure was counted: a single trouble makes all of it fail.
    pub fn fail(&mut self, sent: Instant, now: Instant, longest: Duration) -> Option<Duration> {
        if self.counted.is_some_and(|counted| sent < counted) {
            return None;
        }
        self.counted = Some(now);
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(20)).min(longest);
        self.failures = self.failures.saturating_add(1);
        Some(pause.mul_f64(0.5 + fastrand::f64() / 2.0))
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// After a success: how many failures there had been.
    pub fn succeed(&mut self) -> u32 {
        std::mem::take(&mut self.failures)
    }
}

/// How long to wait where the server says how long: up to a quarter longer, as it says the same to all others.
pub fn as_asked(after: Duration) -> Duration {
    after.mul_f64(1.0 + fastrand::f64() / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_fast_to_where_it_was_and_slowly_beyond() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut limit = Limit::new(32);
        assert_eq!(limit.get(), 2);
        (0..100).for_each(|_| limit.raise());
        assert_eq!(limit.get(), 32);
        limit.lower(at(0), at(10));
        assert_eq!(limit.get(), 16);
        // These were sent before that.
        limit.lower(at(9), at(11));
        limit.lower(at(5), at(12));
        assert_eq!(limit.get(), 16);
        // A round of successes adds one.
        (0..17).for_each(|_| limit.raise());
        assert_eq!(limit.get(), 17);
        limit.lower(at(13), at(14));
        assert_eq!(limit.get(), 8);
        for i in 0..10 {
            limit.lower(at(20 + i), at(20 + i));
        }
        assert_eq!(limit.get(), 1);
    }

    #[test]
    fn after_an_outage_it_is_soon_what_it_was() {
        let mut limit = Limit::new(32);
        (0..100).for_each(|_| limit.raise());
        for _ in 0..20 {
            limit.probe();
            assert_eq!(limit.get(), 1);
        }
        (0..31).for_each(|_| limit.raise());
        assert_eq!(limit.get(), 32);
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let (longest, now) = (Duration::from_secs(2), Instant::now());
        for expected in [250, 500, 1000, 2000, 2000, 2000] {
            let pause = backoff.fail(now, now, longest).unwrap().as_millis();
            assert!((expected / 2..=expected).contains(&pause), "{pause} of {expected}");
        }
        assert_eq!(backoff.succeed(), 6);
        assert!(backoff.fail(now, now, longest).unwrap().as_millis() <= 250);
    }

    #[test]
    fn what_was_under_way_together_fails_once() {
        let (mut backoff, longest, start) = (Backoff::default(), Duration::from_secs(30), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert!(backoff.fail(start, at(10), longest).is_some());
        for sent in 0..8 {
            assert_eq!(backoff.fail(at(sent), at(20), longest), None);
        }
        assert_eq!(backoff.failures(), 1);
        assert!(backoff.fail(at(10), at(30), longest).unwrap() <= Duration::from_millis(500));
        assert_eq!(backoff.failures(), 2);
    }

    #[test]
    fn who_is_asked_to_wait_does_not_come_back_with_all_others() {
        let asked = Duration::from_secs(8);
        let pauses: Vec<_> = (0..100).map(|_| as_asked(asked)).collect();
        assert!(pauses.iter().all(|pause| (asked..=asked * 5 / 4).contains(pause)));
        assert!(pauses.iter().max().unwrap().abs_diff(*pauses.iter().min().unwrap()) > Duration::from_secs(1));
    }
}
