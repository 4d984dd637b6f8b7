//! What a lane tells of itself: its counts, and faults of its plugins.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Lane;
use crate::metrics::{self, Accounts, PluginAccounts};
use crate::sandbox::Chain;
use crate::source::Counts;

/// Faults of plugins are told of at most this often.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What plugins have done that are gone by now.
#[derive(Clone, Copy, Default)]
pub(super) struct Gone {
    fuel: u64,
    faults: u64,
    cpu: Duration,
}

impl Gone {
    pub(super) fn add(&mut self, chain: &Chain) {
        for stage in chain.stages() {
            self.fuel += stage.stats.fuel;
            self.faults += stage.stats.faults;
            self.cpu += stage.stats.cpu;
        }
    }
}

/// What the accounts had when the lane began: those of a lane before it, whose place it took.
pub(super) fn former(accounts: &Accounts) -> (Counts, Gone) {
    let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let counts = Counts {
        bytes: get(&accounts.bytes_read),
        split: get(&accounts.split),
        truncated: get(&accounts.truncated),
        malformed: get(&accounts.malformed),
        invalid: get(&accounts.invalid),
        abandoned_files: get(&accounts.abandoned_files),
        abandoned_bytes: get(&accounts.abandoned_bytes),
        truncations: get(&accounts.truncations),
        refused: get(&accounts.refused),
    };
    let cpu = Duration::from_nanos(get(&accounts.plugin_cpu));
    (counts, Gone { fuel: get(&accounts.fuel), faults: get(&accounts.faults), cpu })
}

impl Lane {
    pub(super) fn publish(&mut self) {
        self.count_in_flight();
        let accounts = &self.accounts;
        let counts = self.former + self.source.counts;
        metrics::set(&accounts.bytes_read, counts.bytes);
        metrics::set(&accounts.split, counts.split);
        metrics::set(&accounts.truncated, counts.truncated);
        metrics::set(&accounts.malformed, counts.malformed);
        metrics::set(&accounts.invalid, counts.invalid);
        metrics::set(&accounts.abandoned_files, counts.abandoned_files);
        metrics::set(&accounts.abandoned_bytes, counts.abandoned_bytes);
        metrics::set(&accounts.open_files, self.source.open_files() as u64);
        metrics::set(&accounts.truncations, counts.truncations);
        metrics::set(&accounts.refused, counts.refused);
        let Gone { mut fuel, mut faults, mut cpu } = self.gone;
        let tried = self.trial.as_ref().map(|trial| (&trial.new.chain, &trial.new.plugins));
        for (chain, plugins) in [(&self.chain, &self.plugins)].into_iter().chain(tried) {
            publish_plugins(chain, plugins);
            for stage in chain.stages() {
                fuel += stage.stats.fuel;
                faults += stage.stats.faults;
                cpu += stage.stats.cpu;
            }
        }
        metrics::set(&self.accounts.fuel, fuel);
        metrics::set(&self.accounts.faults, faults);
        metrics::set(&self.accounts.plugin_cpu, cpu.as_nanos() as u64);
        self.tell_faults(faults);
    }

    /// Says in the agent's log that plugins fail, now and then, and each time that one is suspended or works again. What
    /// they say of it may be what is in a line, and is not for this log.
    fn tell_faults(&mut self, faults: u64) {
        let logstore = &self.name;
        for (stage, told) in self.chain.stages().iter().zip(&mut self.told_suspensions) {
            let (plugin, trust) = (stage.plugin().name(), &stage.trust);
            if trust.suspensions > told.0 {
                let kind = stage.stats.last_kind;
                tracing::warn!(logstore, plugin, "suspended, as it fails too often: {kind}; `weir status` says more");
            } else if told.1 && !trust.is_suspended() {
                tracing::info!(logstore, plugin, "works again");
            }
            *told = (trust.suspensions, trust.is_suspended());
        }
        let is_due = self.told.is_none_or(|(_, when)| self.clock.now() - when >= TELL_EVERY);
        if faults > self.told.map_or(0, |(told, _)| told) && is_due {
            self.told = Some((faults, self.clock.now()));
            for stage in self.chain.stages() {
                let (plugin, kind) = (stage.plugin().name(), stage.stats.last_kind);
                if stage.stats.faults > 0 {
                    tracing::warn!(logstore, plugin, faults, "faults on events: {kind}; `weir status` says more");
                }
            }
        }
    }
}

fn publish_plugins(chain: &Chain, plugins: &[Arc<PluginAccounts>]) {
    for (stage, accounts) in chain.stages().iter().zip(plugins) {
        let stats = &stage.stats;
        metrics::set(&accounts.calls, stats.calls);
        metrics::set(&accounts.events, stats.events);
        metrics::set(&accounts.failed, stats.failed);
        metrics::set(&accounts.bytes, stats.bytes);
        metrics::set(&accounts.fuel, stats.fuel);
        metrics::set(&accounts.cpu, stats.cpu.as_nanos() as u64);
        metrics::set(&accounts.faults, stats.faults);
        metrics::set(&accounts.instances, stats.instances);
        metrics::set(&accounts.suspensions, stage.trust.suspensions);
        metrics::set(&accounts.suspended, u64::from(stage.trust.is_suspended()));
        metrics::set(&accounts.memory, stage.memory() as u64);
    }
}
