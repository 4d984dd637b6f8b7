//! What is uploaded, put to work: the version that is active, and one that a part of the files tries.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::lanes::{CanaryRun, Prepared, Running, RunningLane};
use super::plugins::{Plugins, chain};
use super::reload::{swap, wait_for};
use super::{Agent, lock};
use crate::config::{Logstore, LogstoreName, Problem};
use crate::lane::orders::{NewChain, Order, Verdict};
use crate::metrics::PluginAccounts;
use crate::registry::{Choice, Registry};

/// A version that is tried takes the place of the other after so long, if it has done no worse.
const TRIAL: Duration = Duration::from_secs(60);

/// It has been given so many events by then, at least; and is not judged by fewer.
const TRIED: u64 = 100;

/// What it may fail on more than the other, in thousandths of its events.
const TOLERANCE: u64 = 1;

/// How a version that is tried does beside the other: events that each was given, and those that it failed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    pub tried: (u64, u64),
    pub other: (u64, u64),
    pub is_suspended: bool,
}

impl Comparison {
    /// Why it is to go, if it is.
    fn complaint(&self) -> Option<String> {
        let ((events, failed), (other_events, other_failed)) = (self.tried, self.other);
        if self.is_suspended {
            return Some(format!(
                "went back by itself: it was suspended, after {failed} of {events} events had failed"
            ));
        }
        // failed / events > other_failed / other_events + TOLERANCE / 1000
        let (this, other) = (u128::from(failed) * 1000, u128::from(other_failed) * 1000);
        let is_worse = match other_events {
            0 => this > u128::from(TOLERANCE * events),
            _ => {
                let (events, other_events) = (u128::from(events), u128::from(other_events));
                this * other_events > other * events + u128::from(TOLERANCE) * events * other_events
            }
        };
        (events >= TRIED && is_worse).then(|| {
            format!(
                "went back by itself: it failed on {failed} of {events} events, and the version before on \
                 {other_failed} of {other_events}"
            )
        })
    }
}

/// A logstore at the start. What was written down and could not be tried before the agent was killed may be of no use,
/// and its files are to be read all the same: by the version before, or else by what is configured.
pub(super) fn prepare_at_start(
    running: &Running,
    logstore: &Logstore,
    plugins: &mut Plugins,
    registry: &Registry,
    is_stopping: &AtomicBool,
) -> Result<Prepared, Vec<Problem>> {
    let Choice { active, before, .. } = plugins.choice(logstore)?;
    let problems = match running.prepare_with(logstore, active, plugins) {
        Err(problems) if active != 0 => problems,
        prepared => return prepared,
    };
    for other in before.into_iter().filter(|before| *before != 0).chain([0]) {
        let Ok(prepared) = running.prepare_with(logstore, other, plugins) else { continue };
        // What stops compiles nothing, which says nothing of the version.
        if is_stopping.load(Ordering::Relaxed) {
            break;
        }
        let note = format!("could not be used when the agent started: {}", joined(problems));
        let name = &logstore.name;
        tracing::error!(logstore = %name, version = active, "{note}; instead of it runs version {other}");
        if let Err(error) = registry.fall_back(name, other, &note) {
            tracing::error!(logstore = %name, "that is not written down: {error}");
        }
        return Ok(prepared);
    }
    Err(problems)
}

impl Agent {
    /// Has the versions that are tried go on. A trial that cannot is ended.
    pub(super) fn go_on_with_trials(&self) {
        let is_running = |name: &LogstoreName| self.running().lanes.contains_key(&name.to_string());
        for name in self.registry.canaries().into_iter().filter(is_running) {
            let Err(error) = self.apply_choice(&name) else { continue };
            if self.is_stopping.load(Ordering::Relaxed) {
                return;
            }
            let note = format!("could not be tried: {error:#}");
            tracing::error!(logstore = %name, "the version that was tried {note}");
            if let Err(error) = self.registry.end_canary(&name, &note) {
                tracing::error!(logstore = %name, "that is not written down: {error}");
            }
        }
    }

    /// Makes a lane run what the registry says by now. After an error it runs what it ran before.
    pub(super) fn apply_choice(&self, name: &LogstoreName) -> Result<()> {
        let mut plugins = lock(&self.plugins);
        let choice = self.registry.choice(name)?;
        let (logstore, runs) = {
            let running = self.running();
            let logstore = running.config.logstores.iter().find(|logstore| logstore.name == *name);
            (logstore.context("there is no such logstore")?.clone(), running.lanes.contains_key(&name.to_string()))
        };
        if !runs {
            let prepared = self.running().prepare(&logstore, &mut plugins);
            let (logstore, used, chain) = prepared.map_err(joined)?;
            let mut running = self.running();
            running.problems.retain(|problem| !problem.place.path.starts_with(&logstore.place.path));
            return self.begin(&mut running, logstore, used, chain, None);
        }
        let Choice { active, canary, .. } = choice;
        let mut told = Vec::new();
        let (is_active, tried) = {
            let running = self.running();
            let lane = running.lanes.get(&name.to_string()).context("there is no such logstore")?;
            (lane.active() == active, lane.canary.as_ref().map(|run| run.canary))
        };
        if !is_active && tried.is_some_and(|tried| tried.version == active) {
            told.extend(self.end_trial(name, Verdict::Adopt));
        } else if tried.is_some() && tried != canary {
            told.extend(self.end_trial(name, Verdict::Dismiss));
        }
        let budget = self.running().tenants[&name.project].budget.clone();
        let is_active = self.running().lanes.get(&name.to_string()).is_some_and(|lane| lane.active() == active);
        if !is_active {
            let used = plugins.resolve_with(&logstore, active).map_err(joined)?;
            let chain = chain(&used, logstore.on_fault, &budget).map_err(joined)?;
            told.extend(swap(&mut self.running(), &name.to_string(), used, chain));
        }
        if let Some(canary) = canary.filter(|canary| tried != Some(*canary)) {
            let used = plugins.resolve_with(&logstore, canary.version).map_err(joined)?;
            let chain = chain(&used, logstore.on_fault, &budget).map_err(joined)?;
            let mut running = self.running();
            let lane = running.lanes.get_mut(&name.to_string()).context("there is no such logstore")?;
            let counts: Vec<Arc<PluginAccounts>> = used.iter().map(|_| Arc::default()).collect();
            let (done, began) = mpsc::channel();
            let new = NewChain { chain, plugins: counts.clone() };
            lane.orders.give(Order::Try(new, canary.percent, done));
            let before = judged(lane, &lane.plugins);
            lane.canary = Some(CanaryRun { canary, used, plugins: counts, begun: Instant::now(), before });
            told.push(began);
        }
        drop(plugins);
        wait_for(told);
        Ok(())
    }

    fn end_trial(&self, name: &LogstoreName, verdict: Verdict) -> Option<mpsc::Receiver<()>> {
        let mut running = self.running();
        let lane = running.lanes.get_mut(&name.to_string())?;
        let run = lane.canary.take()?;
        if verdict == Verdict::Adopt {
            (lane.used, lane.plugins) = (run.used, run.plugins);
        }
        let (done, told) = mpsc::channel();
        lane.orders.give(Order::EndTrial(verdict, done));
        Some(told)
    }

    /// Ends trials: of those that do worse than what is active, and of those that have gone well for long enough.
    pub(super) fn judge_canaries(&self) {
        for name in self.registry.canaries() {
            let judged = {
                let running = self.running();
                let lane = running.lanes.get(&name.to_string());
                lane.and_then(|lane| Some((compare(lane)?, lane.canary.as_ref()?.begun, lane.canary.as_ref()?.canary)))
            };
            let Some((comparison, begun, canary)) = judged else { continue };
            let ended = if let Some(complaint) = comparison.complaint() {
                tracing::warn!(logstore = %name, version = canary.version, "{complaint}");
                self.registry.end_canary(&name, &complaint)
            } else if begun.elapsed() >= TRIAL && comparison.tried.0 >= TRIED {
                tracing::info!(logstore = %name, version = canary.version, "its trial went well; it is active now");
                self.registry.activate(&name, canary.version)
            } else {
                continue;
            };
            if let Err(error) = ended.map_err(anyhow::Error::from).and_then(|_| self.apply_choice(&name)) {
                tracing::error!(logstore = %name, "a trial cannot be ended: {error:#}");
            }
        }
    }
}

/// How the version that a lane tries does beside the other.
pub(super) fn compare(lane: &RunningLane) -> Option<Comparison> {
    let run = lane.canary.as_ref()?;
    let now = judged(lane, &lane.plugins);
    let since = (now.0.saturating_sub(run.before.0), now.1.saturating_sub(run.before.1));
    // It may have all the files.
    let other = if since.0 >= TRIED { since } else { now };
    let is_suspended = run.plugins.iter().any(|plugin| plugin.suspensions.load(Ordering::Relaxed) > 0);
    Some(Comparison { tried: judged(lane, &run.plugins), other, is_suspended })
}

/// Events that the plugin in the place of uploads was given, and those that it failed on.
fn judged(lane: &RunningLane, plugins: &[Arc<PluginAccounts>]) -> (u64, u64) {
    let slot = lane.logstore.upload_slot().unwrap_or(0);
    let count = |count: fn(&PluginAccounts) -> &std::sync::atomic::AtomicU64| {
        plugins.get(slot).map_or(0, |plugin| count(plugin).load(Ordering::Relaxed))
    };
    (count(|plugin| &plugin.events), count(|plugin| &plugin.failed))
}

/// All that is wrong, in one error.
pub(crate) fn joined(problems: Vec<Problem>) -> anyhow::Error {
    let messages: Vec<_> = problems.into_iter().map(|problem| problem.message).collect();
    anyhow::Error::msg(messages.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(tried: (u64, u64), other: (u64, u64)) -> bool {
        Comparison { tried, other, is_suspended: false }.complaint().is_some()
    }

    #[test]
    fn it_goes_back_if_it_fails_more_than_the_other() {
        assert!(complaint((100, 1), (0, 0)));
        // Of too few nothing is known.
        assert!(!complaint((99, 99), (0, 0)));
        assert!(!complaint((1000, 1), (1000, 0)));
        assert!(complaint((1000, 2), (1000, 0)));
        assert!(!complaint((1000, 50), (1000, 50)));
        assert!(!complaint((1000, 51), (1000, 50)));
        assert!(complaint((1000, 52), (1000, 50)));
        assert!(complaint((u64::MAX, u64::MAX), (u64::MAX, 1)));
        let suspended = Comparison { is_suspended: true, ..Comparison::default() };
        assert!(suspended.complaint().unwrap().contains("suspended"));
    }
}
