//! A ceiling of CPU time: a token bucket.

use std::time::{Duration, Instant};

/// Time of the rate that may be saved up, in milliseconds.
const BURST_MS: i128 = 100;

/// Nanoseconds of CPU time that may be saved up at least: a turn of a small rate is no smaller.
const LEAST_BURST: i128 = 5_000_000;

/// The longest wait that is foretold. It is looked at again then.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// CPU time that fills up at a rate. Turns may take more than there is; the debt has to fill up first.
///
/// Once empty it stays closed until a quarter of the burst is there, so that whoever is always at its ceiling has some
/// turns in a row and not a timer for each.
pub struct Bucket {
    /// Thousandths of a core, so thousandths of a nanosecond each nanosecond.
    rate: u32,
    /// In thousandths of a nanosecond, so that nothing is lost however often it is looked at.
    level: i128,
    burst: i128,
    filled: Instant,
    is_open: bool,
}

impl Bucket {
    /// A full one. The rate is in thousandths of a core, 1 at least.
    pub fn new(rate: u32, now: Instant) -> Self {
        let rate = rate.max(1);
        let burst = (i128::from(rate) * BURST_MS * 1_000_000).max(LEAST_BURST * 1000);
        Bucket { rate, level: burst, burst, filled: now, is_open: true }
    }

    /// In thousandths of a core.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// One that fills up at another rate, with what is in this one or the debt of it, as far as it holds so much.
    pub fn at_rate(mut self, rate: u32, now: Instant) -> Self {
        self.fill(now);
        let other = Bucket::new(rate, now);
        Bucket { level: self.level.min(other.burst), is_open: self.is_open, ..other }
    }

    /// Takes out so many nanoseconds of CPU time.
    pub fn charge(&mut self, nanos: u64, now: Instant) {
        self.fill(now);
        self.level -= i128::from(nanos) * 1000;
        self.is_open &= self.level > 0;
    }

    /// None if turns may be had; else when to look again.
    pub fn closed_until(&mut self, now: Instant) -> Option<Instant> {
        self.fill(now);
        let lacking = self.burst / 4 - self.level;
        self.is_open |= lacking <= 0;
        if self.is_open {
            return None;
        }
        let wait = u64::try_from(lacking / i128::from(self.rate) + 1).map_or(LONGEST_WAIT, Duration::from_nanos);
        Some(now + wait.min(LONGEST_WAIT))
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled).as_nanos();
        // What fits in no 64 bits is 500 years.
        let gained = i128::from(u64::try_from(elapsed).unwrap_or(u64::MAX)) * i128::from(self.rate);
        self.level = (self.level + gained).min(self.burst);
        self.filled = self.filled.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn after(begin: Instant, ms: u64) -> Instant {
        begin + Duration::from_millis(ms)
    }

    #[test]
    fn a_burst_then_the_rate() {
        let begin = Instant::now();
        let mut bucket = Bucket::new(500, begin);
        bucket.charge(49 * MS, begin);
        assert_eq!(bucket.closed_until(begin), None);
        bucket.charge(11 * MS, begin);
        // 10 ms of debt, and 12.5 ms to go on with, at half a core.
        let open = bucket.closed_until(begin).unwrap();
        assert_eq!((open - begin).as_micros(), 45_000);
        assert!(bucket.closed_until(after(begin, 44)).is_some());
        assert_eq!(bucket.closed_until(open), None);
        // An hour saves up no more than a burst.
        let later = after(begin, 3_600_000);
        bucket.charge(50 * MS - 1, later);
        assert_eq!(bucket.closed_until(later), None);
        bucket.charge(1, later);
        assert!(bucket.closed_until(later).is_some());
    }

    #[test]
    fn another_rate_forgives_nothing() {
        let begin = Instant::now();
        let mut bucket = Bucket::new(100, begin);
        bucket.charge(60 * MS, begin);
        // 50 ms of debt, and a quarter of 200 ms to go on with, at two cores.
        let mut bucket = bucket.at_rate(2000, begin);
        let open = bucket.closed_until(begin).unwrap();
        assert_eq!((open - begin).as_micros(), 50_000);
        // A full one is no fuller than a slow one can be.
        let mut bucket = Bucket::new(1000, begin).at_rate(100, begin);
        bucket.charge(10 * MS, begin);
        assert!(bucket.closed_until(begin).is_some());
    }

    #[test]
    fn nothing_is_lost_by_looking() {
        let begin = Instant::now();
        let mut bucket = Bucket::new(1, begin);
        bucket.charge(5 * MS, begin);
        let mut now = begin;
        for _ in 0..1_000_000 {
            now += Duration::from_nanos(999);
            bucket.closed_until(now);
        }
        assert_eq!(bucket.level, 999 * 1_000_000);
    }

    #[test]
    fn no_debt_and_no_time_is_too_large() {
        let begin = Instant::now();
        let mut bucket = Bucket::new(1, begin);
        (0..1000).for_each(|_| bucket.charge(u64::MAX, begin));
        assert_eq!(bucket.closed_until(begin), Some(begin + LONGEST_WAIT));
        let mut bucket = Bucket::new(u32::MAX, begin);
        bucket.charge(u64::MAX, begin + Duration::from_secs(1 << 40));
        assert!(bucket.closed_until(begin).is_some());
    }
}
