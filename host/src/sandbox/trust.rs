//! How much failing a plugin is allowed, and what happens when it was too much.
//!
//! A call that gives nothing costs one of [`CREDIT`]; a batch in which some call went well gives some back. So a poisonous
//! event in each batch can be found for ever, and a plugin that can do nothing is suspended within one batch: its
//! events go on without it, and it is tried again after a pause that doubles.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// Calls of one plugin in one logstore that may fail before it is suspended.
const CREDIT: u32 = 64;

/// What a batch gives back: as many calls as it takes to find one event among 2^16.
const EARNED: u32 = 17;

/// The first pause.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Whether a plugin may be called.
#[derive(Debug)]
pub struct Trust {
    credit: u32,
    pause: Duration,
    suspension: Option<Suspension>,
    /// Whether no call went well since it was suspended.
    is_on_trial: bool,
    /// How often it was suspended.
    pub suspensions: u64,
}

#[derive(Debug)]
struct Suspension {
    until: Instant,
    reason: Arc<str>,
}

impl Default for Trust {
    fn default() -> Self {
        Trust { credit: CREDIT, pause: PAUSE, suspension: None, is_on_trial: false, suspensions: 0 }
    }
}

impl Trust {
    /// A call has failed. Whether more may.
    pub fn failed(&mut self) -> bool {
        self.credit = self.credit.saturating_sub(1);
        self.credit > 0
    }

    /// A batch is through, and a call went well.
    pub fn passed(&mut self) {
        self.credit = CREDIT.min(self.credit + EARNED);
        self.pause = PAUSE;
        self.suspension = None;
    }

    /// From now on it is not called for a while.
    pub fn suspend(&mut self, now: Instant, fault: &str) {
        let pause = self.pause;
        self.pause = LONGEST_PAUSE.min(2 * pause);
        self.suspensions += 1;
        // When it is tried again, it may fail as often as it takes to find one event.
        self.credit = EARNED;
        self.is_on_trial = true;
        let reason = format!("suspended for {} s: {fault}", pause.as_secs()).into();
        self.suspension = Some(Suspension { until: now + pause, reason });
    }

    /// A call went well.
    pub fn worked(&mut self) {
        self.is_on_trial = false;
    }

    /// Whether it was suspended, and no call went well since.
    pub fn is_on_trial(&self) -> bool {
        self.is_on_trial
    }

    /// Until when it is not called, and why.
    pub fn suspended(&self, now: Instant) -> Option<(Instant, &Arc<str>)> {
        let suspension = self.suspension.as_ref().filter(|suspension| now < suspension.until)?;
        Some((suspension.until, &suspension.reason))
    }

    /// Why it is suspended, or was and has not done anything well since.
    pub fn reason(&self) -> Option<String> {
        self.suspension.as_ref().map(|suspension| suspension.reason.to_string())
    }

    /// Whether it is suspended, or was and has not done anything well since.
    pub fn is_suspended(&self) -> bool {
        self.suspension.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end_when_something_goes_well() {
        let (mut trust, mut now) = (Trust::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..7 {
            while trust.failed() {}
            trust.suspend(now, "bad");
            let (until, reason) = trust.suspended(now).unwrap();
            pauses.push((until - now).as_secs());
            assert_eq!(**reason, format!("suspended for {} s: bad", pauses.last().unwrap()));
            now = until;
            assert!(trust.suspended(now).is_none() && trust.is_suspended());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        trust.passed();
        assert!(!trust.is_suspended());
        trust.suspend(now, "bad");
        assert_eq!(trust.suspended(now).unwrap().0, now + PAUSE);
        assert_eq!(trust.suspensions, 8);
    }

    #[test]
    fn one_poisonous_event_in_each_batch_is_found_for_ever() {
        let mut trust = Trust::default();
        for _ in 0..1000 {
            assert!((0..17).all(|_| trust.failed()));
            trust.passed();
        }
        while trust.failed() {}
        assert_eq!(trust.credit, 0);
    }
}
