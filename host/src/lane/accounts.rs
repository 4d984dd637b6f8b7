//! What a lane tells of itself: its counts, and faults of its plugins.

use std::time::Duration;

use super::Lane;
use crate::metrics;

/// Faults of plugins are told of at most this often.
const TELL_EVERY: Duration = Duration::from_secs(10);

impl Lane {
    pub(super) fn publish(&mut self) {
        self.count_in_flight();
        let accounts = &self.accounts;
        let counts = self.source.counts;
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
        let (mut fuel, mut faults, mut cpu) = (0, 0, Duration::ZERO);
        for (stage, accounts) in self.chain.stages().iter().zip(&self.plugins) {
            let stats = &stage.stats;
            fuel += stats.fuel;
            faults += stats.faults;
            cpu += stats.cpu;
            metrics::set(&accounts.calls, stats.calls);
            metrics::set(&accounts.events, stats.events);
            metrics::set(&accounts.bytes, stats.bytes);
            metrics::set(&accounts.fuel, stats.fuel);
            metrics::set(&accounts.cpu, stats.cpu.as_nanos() as u64);
            metrics::set(&accounts.faults, stats.faults);
            metrics::set(&accounts.instances, stats.instances);
            metrics::set(&accounts.suspensions, stage.trust.suspensions);
            metrics::set(&accounts.suspended, u64::from(stage.trust.is_suspended()));
            metrics::set(&accounts.memory, stage.memory() as u64);
        }
        metrics::set(&self.accounts.fuel, fuel);
        metrics::set(&self.accounts.faults, faults);
        metrics::set(&self.accounts.plugin_cpu, cpu.as_nanos() as u64);
        self.tell_faults(faults);
    }

    /// Says in the agent's log that plugins fail, now and then, and each time that one is suspended or works again.
    fn tell_faults(&mut self, faults: u64) {
        let logstore = &self.name;
        for (stage, told) in self.chain.stages().iter().zip(&mut self.told_suspensions) {
            let (plugin, trust) = (stage.plugin().name(), &stage.trust);
            let fault = stage.stats.last_fault.as_deref().unwrap_or_default();
            if trust.suspensions > told.0 {
                tracing::warn!(logstore, plugin, "suspended, as it fails too often: {fault}");
            } else if told.1 && !trust.is_suspended() {
                tracing::info!(logstore, plugin, "works again");
            }
            *told = (trust.suspensions, trust.is_suspended());
        }
        let is_due = self.told.is_none_or(|(_, when)| self.clock.now() - when >= TELL_EVERY);
        if faults > self.told.map_or(0, |(told, _)| told) && is_due {
            self.told = Some((faults, self.clock.now()));
            for stage in self.chain.stages() {
                if let Some(fault) = &stage.stats.last_fault {
                    tracing::warn!(logstore, plugin = stage.plugin().name(), faults, "faults on events: {fault}");
                }
            }
        }
    }
}
