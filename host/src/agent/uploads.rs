//! What is uploaded, put to work: the version that is active, and one that a part of the files tries.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::changes::Basis;
use super::files::Refusal;
use super::lanes::{CanaryRun, Prepared, Running, RunningLane, chain_to_stay};
use super::plugins::{Used, chain};
use super::swap::{swap, wait_for};
use super::{Agent, lock};
use crate::config::{Logstore, LogstoreName, Problem};
use crate::lane::orders::{NewChain, Order, Verdict};
use crate::metrics::PluginAccounts;
use crate::registry::{Canary, Choice};
use crate::sandbox::Chain;

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

/// What makes a logstore run what is chosen.
#[derive(Default)]
struct Steps {
    /// It begins.
    begin: Option<Prepared>,
    /// The trial that is under way ends.
    verdict: Option<Verdict>,
    swap: Option<(Vec<Used>, Chain)>,
    trial: Option<(Canary, Vec<Used>, Chain)>,
    /// Why a plugin's file that has changed is left out.
    refusal: Option<Refusal>,
}

impl Agent {
    /// Has the versions that are tried go on. A trial that cannot is ended.
    pub(super) fn go_on_with_trials(&self) {
        let is_running = |name: &LogstoreName| self.running().lanes.contains_key(&name.to_string());
        for name in self.registry.canaries().into_iter().filter(is_running) {
            let Ok(Choice { canary: Some(canary), .. }) = self.registry.choice(&name) else { continue };
            let Err(error) = self.apply_choice(&name) else { continue };
            if self.is_stopping() {
                return;
            }
            let note = format!("could not be tried: {error:#}");
            tracing::error!(logstore = %name, "the version that was tried {note}");
            if let Err(error) = self.registry.judge(&name, canary, Err(&note)) {
                tracing::error!(logstore = %name, "that is not written down: {error}");
            }
        }
    }

    /// Makes a lane run what the registry says by now. After an error it runs what it ran before. Whether it does
    /// already: one that has no turn for a moment, or waits for something, does it later.
    pub(super) fn apply_choice(&self, name: &LogstoreName) -> Result<bool> {
        let prepare = |basis: &Basis| self.steps(basis.logstore(name)?, basis);
        let told = self.change(name, prepare, |basis, steps| {
            let Steps { begin, verdict, swap: other, trial, refusal } = steps;
            if let Some(prepared) = begin {
                return self.revive(&basis.config, prepared).map(|()| Vec::new());
            }
            self.refuse(name, refusal);
            let ended = verdict.and_then(|verdict| self.end_trial(name, verdict));
            let mut running = self.running();
            let swapped = other.and_then(|(used, chain)| swap(&mut running, &name.to_string(), used, chain));
            let begun = trial.and_then(|trial| begin_trial(&mut running, name, trial));
            Ok([ended, swapped, begun].into_iter().flatten().collect())
        })?;
        Ok(wait_for(told, &self.is_stopping))
    }

    fn steps(&self, logstore: &Arc<Logstore>, basis: &Basis) -> Result<Steps> {
        let mut plugins = self.plugins();
        let budget = self.running().tenants[&logstore.name.project].budget.clone();
        let Choice { active, canary, .. } = basis.choice;
        let Some(lane) = &basis.lane else {
            let used = plugins.resolve_with(logstore, active).map_err(joined)?;
            let chain = chain_to_stay(logstore, &used, &budget).map_err(joined)?;
            return Ok(Steps { begin: Some((logstore.clone(), used, chain)), ..Steps::default() });
        };
        let mut steps = Steps::default();
        let mut prepare = |version| {
            let checked = self.resolve_checked(logstore, version, &mut plugins, lane, &budget);
            let (used, refusal) = checked.map_err(joined)?;
            let chain = chain(&used, logstore.on_fault, &budget).map_err(joined)?;
            anyhow::Ok(((used, chain), refusal))
        };
        let is_active = lane.active() == active;
        let tried = lane.canary.as_ref().map(|run| run.canary);
        let is_adopted = !is_active && tried.is_some_and(|tried| tried.version == active);
        steps.verdict = match tried {
            Some(_) if is_adopted => Some(Verdict::Adopt),
            Some(tried) if canary != Some(tried) => Some(Verdict::Dismiss),
            _ => None,
        };
        let swaps = !is_active && !is_adopted;
        if swaps {
            let (other, refusal) = prepare(active)?;
            (steps.swap, steps.refusal) = (Some(other), refusal);
        }
        // With another chain beside it, it begins anew.
        if let Some(canary) = canary.filter(|canary| swaps || tried != Some(*canary)) {
            let ((used, chain), refusal) = prepare(canary.version)?;
            steps.trial = Some((canary, used, chain));
            steps.refusal = steps.refusal.take().or(refusal);
        }
        if !swaps && steps.trial.is_none() {
            // Nothing was looked at.
            steps.refusal = lock(&self.refusals).get(&logstore.name.to_string()).cloned();
        }
        Ok(steps)
    }

    fn end_trial(&self, name: &LogstoreName, verdict: Verdict) -> Option<mpsc::Receiver<()>> {
        let mut running = self.running();
        let change = running.next_change();
        let lane = running.lanes.get_mut(&name.to_string())?;
        let run = lane.canary.take()?;
        lane.change = change;
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
            let complaint = comparison.complaint();
            if complaint.is_none() && (begun.elapsed() < TRIAL || comparison.tried.0 < TRIED) {
                continue;
            }
            let verdict = complaint.as_deref().map_or(Ok(()), Err);
            // Somebody may have ended it, or have begun another.
            let ended = match self.registry.judge(&name, canary, verdict) {
                Ok(false) => continue,
                Ok(true) => self.apply_choice(&name),
                Err(error) => Err(error.into()),
            };
            match (&complaint, ended) {
                (_, Err(error)) => tracing::error!(logstore = %name, "a trial cannot be ended: {error:#}"),
                (Some(complaint), _) => tracing::warn!(logstore = %name, version = canary.version, "{complaint}"),
                (None, _) => {
                    tracing::info!(logstore = %name, version = canary.version, "its trial went well; it is active now");
                }
            }
        }
    }
}

/// Has a part of a lane's files try another chain. Gives where it says when they do.
fn begin_trial(
    running: &mut Running,
    name: &LogstoreName,
    (canary, used, chain): (Canary, Vec<Used>, Chain),
) -> Option<mpsc::Receiver<()>> {
    let change = running.next_change();
    let lane = running.lanes.get_mut(&name.to_string())?;
    let counts: Vec<Arc<PluginAccounts>> = used.iter().map(|_| Arc::default()).collect();
    let (done, began) = mpsc::channel();
    let new = NewChain { chain, plugins: counts.clone() };
    lane.orders.give(Order::Try(new, canary.percent, done));
    let before = judged(lane, &lane.plugins);
    lane.canary = Some(CanaryRun { canary, used, plugins: counts, begun: Instant::now(), before });
    lane.change = change;
    Some(began)
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
