//! How often the lanes of a project read only a little.
//!
//! A turn costs the same for one line as for a hundred. So a project's lanes may make some small reads as soon as lines
//! come, and what trickles in faster than that is read together a little later. What other projects do changes nothing.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of a read that is not small.
pub const SMALL: u64 = 4 << 10;

/// Small reads that a project may make in a second.
const RATE: f64 = 10.0;

/// Small reads that it may save up.
const SAVED: f64 = 50.0;

/// No line waits longer than that for others.
const LONGEST: Duration = Duration::from_secs(1);

/// The small reads of one project.
#[derive(Debug, Default)]
pub struct Pace(Mutex<Option<(f64, Instant)>>);

impl Pace {
    /// Counts a read of so many bytes, and gives when the lane may read again. Large reads earn small ones.
    pub fn next(&self, now: Instant, bytes: u64) -> Instant {
        let mut saved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (reads, since) = saved.unwrap_or((SAVED, now));
        let earned = now.saturating_duration_since(since).as_secs_f64() * RATE + (bytes / SMALL) as f64;
        let reads = (reads + earned).min(SAVED) - 1.0;
        // Nobody pays for more than the longest wait.
        let reads = reads.max(-RATE * LONGEST.as_secs_f64());
        *saved = Some((reads, now.max(since)));
        if reads >= 0.0 || bytes >= SMALL { now } else { now + Duration::from_secs_f64(-reads / RATE).min(LONGEST) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_lines_are_read_at_once_and_a_trickle_together() {
        let (pace, start) = (Pace::default(), Instant::now());
        for _ in 0..50 {
            assert_eq!(pace.next(start, 1), start);
        }
        // One lane that waits each time reads ten times a second.
        let mut now = start;
        for _ in 0..20 {
            now = pace.next(now, 1);
        }
        assert!((now - start).abs_diff(Duration::from_secs(2)) < Duration::from_millis(10), "{:?}", now - start);
    }

    #[test]
    fn however_many_lanes_there_are_none_waits_for_long() {
        let (pace, start) = (Pace::default(), Instant::now());
        let longest = (0..1000).map(|_| pace.next(start, 1) - start).max();
        assert_eq!(longest, Some(LONGEST));
        let later = start + Duration::from_secs(10);
        assert_eq!(pace.next(later, 1), later);
    }

    #[test]
    fn who_reads_much_is_not_slowed_down_by_reading_little_between() {
        let (pace, now) = (Pace::default(), Instant::now());
        for _ in 0..100 {
            assert_eq!(pace.next(now, 3 * SMALL), now);
            assert_eq!(pace.next(now, 1), now);
        }
    }
}
