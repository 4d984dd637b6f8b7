//! What the plugins of a logstore say and fail with, for whoever they belong to.
//!
//! It may hold what is in log lines, and is the tenant's: so it goes to those who listen to that logstore, and the
//! agent's own log says no more than that there is something. The last lines are kept for who comes later. All is
//! bounded: in rate, whatever becomes of instances and of the plugins themselves, and in what waits for a listener,
//! who misses the oldest lines and is told how many.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use utoipa::ToSchema;

use super::guest::harmless;
use super::limits::Limits;

/// Lines that are kept for who comes later.
const KEPT: usize = 20;

/// Lines that wait for a listener.
const WAITING: usize = 256;

/// Bytes of a failure's text, which may have a stack.
const FAILURE: usize = 4096;

/// The agent's own log says so often that there is something.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Something that a plugin said or failed with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Line {
    /// In Unix seconds.
    pub at: f64,
    /// How grave it is.
    pub level: Level,
    /// What the plugin calls itself.
    pub plugin: String,
    /// What it said, or why it failed.
    pub text: String,
    /// So many before it are left out: there were too many, or they were not taken in time.
    pub missed: u64,
}

/// How grave it is what a plugin said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Of no interest unless something is searched for.
    Debug,
    /// Good to know.
    Info,
    /// Somebody should look.
    Warn,
    /// Something is wrong.
    Error,
    /// It did not say it: it failed on events, or faulted.
    Failure,
}

impl From<tracing::Level> for Level {
    fn from(level: tracing::Level) -> Self {
        match level {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            _ => Level::Debug,
        }
    }
}

/// What the plugins of one logstore say.
#[derive(Clone)]
pub struct Log(Arc<Inner>);

struct Inner {
    /// None: what is said goes to the log of the command that the author runs.
    logstore: Option<String>,
    state: Mutex<State>,
}

struct State {
    said: Rate,
    failed: Rate,
    /// The last ones, in order.
    kept: VecDeque<Line>,
    live: Option<broadcast::Sender<Line>>,
    told: Option<Instant>,
    untold: u64,
}

/// Lines that may be passed on now, and since when they have been saved up. Twice what may come in a second is saved.
struct Rate {
    lines: f64,
    since: Instant,
    missed: u64,
}

impl Rate {
    fn new(now: Instant) -> Self {
        Rate { lines: f64::INFINITY, since: now, missed: 0 }
    }

    /// If a line may be passed on now, how many before it were not.
    fn take(&mut self, limits: &Limits, now: Instant) -> Option<u64> {
        let rate = f64::from(limits.log_lines_per_second);
        let saved = rate * now.saturating_duration_since(self.since).as_secs_f64();
        (self.lines, self.since) = ((self.lines + saved).min(2.0 * rate), now);
        if self.lines < 1.0 {
            self.missed += 1;
            return None;
        }
        self.lines -= 1.0;
        Some(std::mem::take(&mut self.missed))
    }
}

impl Log {
    /// For a command that an author runs.
    pub fn of_author() -> Self {
        Self::with(None)
    }

    /// Of a logstore of an agent.
    pub fn of_logstore(name: &str) -> Self {
        Self::with(Some(name.to_owned()))
    }

    fn with(logstore: Option<String>) -> Self {
        let now = Instant::now();
        let (said, failed) = (Rate::new(now), Rate::new(now));
        let state = State { said, failed, kept: VecDeque::new(), live: None, told: None, untold: 0 };
        Log(Arc::new(Inner { logstore, state: Mutex::new(state) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A plugin says something, which is harmless already.
    pub(super) fn say(&self, limits: &Limits, plugin: &str, level: tracing::Level, text: &str) {
        let mut state = self.state();
        let now = Instant::now();
        let Some(missed) = state.said.take(limits, now) else { return };
        if let Some(logstore) = self.0.logstore.as_deref() {
            state.keep(Line::new(level.into(), plugin, text, missed));
            state.tell(logstore, now);
        }
        drop(state);
        emit(self.0.logstore.as_deref(), plugin, level, text, missed);
    }

    /// A plugin failed on an event, or faulted. Whoever runs it as its author is told otherwise.
    pub(crate) fn fail(&self, limits: &Limits, plugin: &str, why: &str) {
        if self.0.logstore.is_none() {
            return;
        }
        let mut state = self.state();
        let Some(missed) = state.failed.take(limits, Instant::now()) else { return };
        state.keep(Line::new(Level::Failure, plugin, &harmless(why, FAILURE), missed));
    }

    /// The last lines, and those that come from now on.
    pub fn listen(&self) -> Listener {
        let mut state = self.state();
        let live = state.live.get_or_insert_with(|| broadcast::channel(WAITING).0).subscribe();
        Listener { kept: state.kept.clone(), live, missed: 0 }
    }

    /// The last lines.
    pub fn last(&self) -> Vec<Line> {
        self.state().kept.iter().cloned().collect()
    }
}

impl State {
    fn keep(&mut self, line: Line) {
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(line.clone());
        // When nobody listens any more, what waits is not kept either.
        if self.live.take_if(|live| live.receiver_count() == 0).is_none()
            && let Some(live) = &self.live
        {
            _ = live.send(line);
        }
    }

    fn tell(&mut self, logstore: &str, now: Instant) {
        self.untold += 1;
        if self.told.is_none_or(|told| now - told >= TELL_EVERY) {
            let lines = std::mem::take(&mut self.untold);
            self.told = Some(now);
            tracing::info!(logstore, lines, "its plugins log: see `weir tap {logstore} --log`");
        }
    }
}

impl Line {
    fn new(level: Level, plugin: &str, text: &str, missed: u64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = now.as_millis() as f64 / 1e3;
        Line { at, level, plugin: plugin.to_owned(), text: text.to_owned(), missed }
    }
}

/// Under `target: "plugin"`, which an agent writes only if it is told to.
fn emit(logstore: Option<&str>, plugin: &str, level: tracing::Level, text: &str, unsaid: u64) {
    match level {
        tracing::Level::ERROR => tracing::error!(target: "plugin", logstore, plugin, unsaid, "{text}"),
        tracing::Level::WARN => tracing::warn!(target: "plugin", logstore, plugin, unsaid, "{text}"),
        tracing::Level::INFO => tracing::info!(target: "plugin", logstore, plugin, unsaid, "{text}"),
        _ => tracing::debug!(target: "plugin", logstore, plugin, unsaid, "{text}"),
    }
}

/// Hears what the plugins of a logstore say.
pub struct Listener {
    kept: VecDeque<Line>,
    live: broadcast::Receiver<Line>,
    missed: u64,
}

impl Listener {
    /// The next line. None when the logstore is gone.
    pub async fn next(&mut self) -> Option<Line> {
        if let Some(line) = self.kept.pop_front() {
            return Some(line);
        }
        loop {
            match self.live.recv().await {
                Ok(mut line) => {
                    line.missed += std::mem::take(&mut self.missed);
                    return Some(line);
                }
                Err(RecvError::Lagged(missed)) => self.missed += missed,
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// The logs of an agent's logstores.
#[derive(Default)]
pub struct Logs(Mutex<BTreeMap<String, Log>>);

impl Logs {
    /// That of a logstore, whatever its plugins are.
    pub fn of(&self, logstore: &str) -> Log {
        let mut logs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        logs.entry(logstore.to_owned()).or_insert_with(|| Log::of_logstore(logstore)).clone()
    }

    /// Forgets those of logstores that are not there any more: whoever listens hears the end.
    pub fn keep(&self, is_there: impl Fn(&str) -> bool) {
        let mut logs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        logs.retain(|name, _| is_there(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 3;

    fn limits() -> Limits {
        Limits { log_lines_per_second: RATE, ..Limits::default() }
    }

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[tokio::test]
    async fn a_listener_hears_the_last_lines_and_those_that_come() {
        let (logs, limits) = (Logs::default(), Limits { log_lines_per_second: 1000, ..Limits::default() });
        let log = logs.of("shop/app");
        for number in 0..=KEPT {
            log.say(&limits, "own", tracing::Level::WARN, &number.to_string());
        }
        let mut listener = log.listen();
        log.fail(&limits, "own", "no\x1b");
        for number in 1..=KEPT {
            let line = listener.next().await.unwrap();
            assert_eq!((line.text, line.level, line.missed), (number.to_string(), Level::Warn, 0));
        }
        let line = listener.next().await.unwrap();
        assert_eq!((line.text.as_str(), line.level, line.plugin.as_str()), ("no\\u{1b}", Level::Failure, "own"));
        // Who does not take them misses the oldest, and is told.
        for number in 0..WAITING + 7 {
            log.say(&limits, "own", tracing::Level::INFO, &number.to_string());
        }
        let line = listener.next().await.unwrap();
        assert_eq!((line.text.as_str(), line.missed), ("7", 7));
        assert_eq!(listener.next().await.unwrap().missed, 0);
        // Of another logstore nothing is heard.
        assert_eq!(logs.of("shop/other").last(), []);
        drop(log);
        logs.keep(|_| false);
        let mut rest = 0;
        while listener.next().await.is_some() {
            rest += 1;
        }
        assert_eq!(rest, WAITING - 2);
    }

    #[test]
    fn more_than_its_rate_is_left_out_whoever_says_it() {
        let log = Log::of_logstore("shop/app");
        for number in 0..100 {
            // Another plugin, or another version, has no more.
            log.clone().say(&limits(), &format!("v{number}"), tracing::Level::ERROR, &number.to_string());
        }
        assert_eq!(texts(&log.last()), ["0", "1", "2", "3", "4", "5"]);
        // What it fails with does not wait for that.
        (0..100).for_each(|number| log.fail(&limits(), "own", &number.to_string()));
        assert_eq!(texts(&log.last())[6..], ["0", "1", "2", "3", "4", "5"]);
        let mut rate = Rate::new(Instant::now());
        let now = Instant::now();
        let taken: Vec<_> = (0..10).filter_map(|_| rate.take(&limits(), now)).collect();
        assert_eq!(taken, [0; 6]);
        assert_eq!(rate.take(&limits(), now + Duration::from_secs(1)), Some(4));
    }
}
