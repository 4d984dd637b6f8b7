//! The agent's own log, on standard error: what of it is written, and how much.
//!
//! Whatever goes wrong again and again is told of again and again, somewhere else each time it is forgotten: so it is
//! limited here, once for all. A *cause* is a place in the code together with the words that the event has as fields: a
//! file, a logstore, a sink. Numbers and the message do not tell causes apart, as they may be others each time.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::clock::Clock;

/// What plugins log is their authors', who see it with `weir tap --log`.
const OF_AGENT: &str = "info,plugin=off";

/// Of one cause.
const CAUSE: Rate = Rate { at_once: 5.0, every: Duration::from_secs(30) };

/// Of one place in the code, whatever the causes.
const PLACE: Rate = Rate { at_once: 1000.0, every: Duration::from_secs(1) };

/// Causes that are remembered.
const CAUSES: usize = 4096;

/// Starts writing the log of a command. `RUST_LOG` sets what is written; without it, `default`.
pub fn start(default: &str) {
    let builder = tracing_subscriber::fmt().with_env_filter(filter(default)).with_writer(io::stderr);
    builder.with_ansi(io::stderr().is_terminal()).init();
}

/// Starts writing the log of an agent, which runs for long: of each cause so much and no more.
pub fn start_of_agent() {
    let builder = tracing_subscriber::fmt().with_env_filter(filter(OF_AGENT)).with_writer(io::stderr);
    let limited = Limited { format: Format::default(), limits: Mutex::default(), clock: Clock::default() };
    builder.with_ansi(io::stderr().is_terminal()).event_format(limited).init();
}

fn filter(default: &str) -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| default.into())
}

/// So many events at once, and then one every so often.
#[derive(Clone, Copy)]
struct Rate {
    at_once: f64,
    every: Duration,
}

/// Events that may be written now, and those that were left out.
struct Bucket {
    events: f64,
    since: Instant,
    left_out: u64,
}

impl Bucket {
    fn new(rate: Rate, now: Instant) -> Self {
        Bucket { events: rate.at_once, since: now, left_out: 0 }
    }

    fn fill(&mut self, rate: Rate, now: Instant) {
        let saved = now.saturating_duration_since(self.since).as_secs_f64() / rate.every.as_secs_f64();
        (self.events, self.since) = ((self.events + saved).min(rate.at_once), now);
    }

    /// Whether as much may be written as of one that is not known.
    fn is_as_new(&mut self, rate: Rate, now: Instant) -> bool {
        self.fill(rate, now);
        self.events >= rate.at_once
    }

    /// If an event may be written now, how many before it were not.
    fn take(&mut self, rate: Rate, now: Instant) -> Option<u64> {
        self.fill(rate, now);
        if self.events < 1.0 {
            self.left_out += 1;
            return None;
        }
        self.events -= 1.0;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// What has been written lately.
#[derive(Default)]
struct Limits {
    hash: RandomState,
    /// By a hash of place and words.
    causes: HashMap<u64, Bucket>,
    /// By place: as many as there are in the code.
    places: HashMap<u64, Bucket>,
}

impl Limits {
    /// If an event may be written now, how many of its kind before it were not.
    fn take(&mut self, event: &Event<'_>, now: Instant) -> Option<u64> {
        let place = self.hash.hash_one(event.metadata().callsite());
        let mut words = Words(self.hash.build_hasher());
        event.metadata().callsite().hash(&mut words.0);
        event.record(&mut words);
        let cause = words.0.finish();
        let of_place = self.places.entry(place).or_insert_with(|| Bucket::new(PLACE, now));
        // What is left out here is not remembered either.
        let left_out_here = of_place.take(PLACE, now)?;
        if !self.causes.contains_key(&cause) && self.causes.len() >= CAUSES {
            self.causes.retain(|_, bucket| !bucket.is_as_new(CAUSE, now));
        }
        // When there are too many, all others are one.
        let cause = if self.causes.contains_key(&cause) || self.causes.len() < CAUSES { cause } else { place };
        let of_cause = self.causes.entry(cause).or_insert_with(|| Bucket::new(CAUSE, now));
        let left_out = of_cause.take(CAUSE, now);
        if left_out.is_none() {
            // Its place has lost nothing by it.
            of_place.events += 1.0;
            of_place.left_out += left_out_here;
        }
        Some(left_out? + left_out_here)
    }
}

/// Hashes the fields of an event that are words.
struct Words<H>(H);

impl<H: Hasher> Visit for Words<H> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() != "message" {
            (field.name(), format!("{value:?}")).hash(&mut self.0);
        }
    }

    fn record_u64(&mut self, _: &Field, _: u64) {}
    fn record_i64(&mut self, _: &Field, _: i64) {}
    fn record_u128(&mut self, _: &Field, _: u128) {}
    fn record_i128(&mut self, _: &Field, _: i128) {}
    fn record_f64(&mut self, _: &Field, _: f64) {}
    fn record_bool(&mut self, _: &Field, _: bool) {}
}

/// Writes events in a format, and leaves out those that are too many. The next one of the same cause says how many.
struct Limited<F> {
    format: F,
    limits: Mutex<Limits>,
    clock: Clock,
}

impl<S, N, F> FormatEvent<S, N> for Limited<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let now = self.clock.now();
        let taken = self.limits.lock().unwrap_or_else(PoisonError::into_inner).take(event, now);
        match taken {
            None => Ok(()),
            Some(0) => self.format.format_event(ctx, writer, event),
            Some(left_out) => {
                let mut line = String::new();
                self.format.format_event(ctx, Writer::new(&mut line), event)?;
                writeln!(writer, "{} left_out={left_out}", line.trim_end())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        /// Lines since this was last asked.
        fn take(&self) -> Vec<String> {
            let bytes = std::mem::take(&mut *self.0.lock().unwrap());
            String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
        }
    }

    /// Does something while the log is written there, by a clock that stands still.
    fn logged(act: impl FnOnce(&Written, &Clock)) {
        let (written, clock) = (Written::default(), Clock::simulated());
        let format = Format::default().without_time().with_target(false);
        let limited = Limited { format, limits: Mutex::default(), clock: clock.clone() };
        let to = written.clone();
        let builder = tracing_subscriber::fmt().with_ansi(false).with_writer(move || to.clone());
        tracing::subscriber::with_default(builder.event_format(limited).finish(), || act(&written, &clock));
    }

    fn fail(file: &str, times: u64) {
        for number in 0..times {
            tracing::warn!(file, number, "cannot be read, for the time {number}");
        }
    }

    #[test]
    fn a_cause_is_told_of_five_times_and_then_seldom_with_how_often_it_was_not() {
        logged(|written, clock| {
            fail("a", 1000);
            let first: Vec<_> = (0..5)
                .map(|number| format!(" WARN cannot be read, for the time {number} file=\"a\" number={number}"))
                .collect();
            assert_eq!(written.take(), first);
            // Another cause is not left out for that, and neither is another place.
            fail("b", 1);
            assert_eq!(written.take(), [" WARN cannot be read, for the time 0 file=\"b\" number=0"]);
            tracing::error!(file = "a", "cannot be written");
            assert_eq!(written.take(), ["ERROR cannot be written file=\"a\""]);
            clock.advance(Duration::from_secs(29));
            fail("a", 1);
            assert!(written.take().is_empty());
            clock.advance(Duration::from_secs(1));
            fail("a", 2);
            let line = " WARN cannot be read, for the time 0 file=\"a\" number=0 left_out=996";
            assert_eq!(written.take(), [line]);
            clock.advance(Duration::from_secs(300));
            fail("a", 10);
            let lines = written.take();
            assert_eq!(lines.len(), 5);
            assert!(lines[0].ends_with(" left_out=1") && !lines[1].contains("left_out"), "{lines:?}");
        });
    }

    #[test]
    fn ever_new_causes_are_limited_by_their_place_and_take_no_more_memory() {
        let lines = |written: &Written| written.take().len();
        logged(|written, clock| {
            (0..50_000).for_each(|file| fail(&file.to_string(), 1));
            assert_eq!(lines(written), PLACE.at_once as usize);
            clock.advance(Duration::from_secs(10));
            (0..50_000).for_each(|file| fail(&format!("new {file}"), 1));
            assert_eq!(lines(written), 10);
        });
        let mut bucket = Bucket::new(CAUSE, Instant::now());
        let now = bucket.since;
        bucket.take(CAUSE, now);
        assert!(!bucket.is_as_new(CAUSE, now + Duration::from_secs(29)));
        assert!(bucket.is_as_new(CAUSE, now + Duration::from_secs(31)));
    }
}
