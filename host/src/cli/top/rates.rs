//! What happened a second between two looks at an agent.

use std::time::Instant;

use crate::control::{LogstoreStatus, ProjectStatus, SinkStatus, Status};

/// An agent as it was at a moment.
pub struct Look {
    pub status: Status,
    pub at: Instant,
}

/// Of a logstore or a project, a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    pub events: f64,
    pub bytes: f64,
    /// Cores.
    pub cpu: f64,
    pub fuel: f64,
    /// Events that a plugin failed on.
    pub failures: f64,
}

impl Rates {
    /// Both together.
    pub fn add(&mut self, other: Rates) {
        self.events += other.events;
        self.bytes += other.bytes;
        self.cpu += other.cpu;
        self.fuel += other.fuel;
        self.failures += other.failures;
    }
}

/// What has become of a total, a second. One that has become less was begun anew.
fn rate(before: f64, now: f64, seconds: f64) -> f64 {
    if now >= before && seconds > 0.0 { (now - before) / seconds } else { 0.0 }
}

fn seconds(before: &Look, now: &Look) -> f64 {
    now.at.saturating_duration_since(before.at).as_secs_f64()
}

/// Of a logstore; none if it was not there before.
pub fn of_logstore(before: Option<&Look>, now: &Look, name: &str) -> Option<Rates> {
    let before = before?;
    let (was, is) = (before.status.logstores.get(name)?, now.status.logstores.get(name)?);
    let per = |total: fn(&LogstoreStatus) -> f64| rate(total(was), total(is), seconds(before, now));
    Some(Rates {
        events: per(|logstore| count(logstore, "read")),
        bytes: per(|logstore| count(logstore, "bytes_read")),
        cpu: per(|logstore| logstore.plugins.iter().map(|p| p.events as f64 * p.cpu_per_event).sum::<f64>() / 1e9),
        fuel: per(|logstore| logstore.plugins.iter().map(|p| p.events as f64 * p.fuel_per_event).sum()),
        failures: per(|logstore| failures(logstore) as f64),
    })
}

/// Of a project: of its logstores together, with all CPU time that its turns take.
pub fn of_project(before: Option<&Look>, now: &Look, name: &str) -> Option<Rates> {
    let look = before?;
    let (was, is) = (look.status.projects.get(name)?, now.status.projects.get(name)?);
    let mut rates = Rates::default();
    let is_own = |logstore: &&String| logstore.split_once('/').is_some_and(|(owner, _)| owner == name);
    for logstore in now.status.logstores.keys().filter(is_own) {
        rates.add(of_logstore(before, now, logstore).unwrap_or_default());
    }
    let cpu = |project: &ProjectStatus| project.cpu_seconds;
    Some(Rates { cpu: rate(cpu(was), cpu(is), seconds(look, now)), ..rates })
}

/// Events that a sink has delivered a second; none of one that does not count them.
pub fn of_sink(before: Option<&Look>, now: &Look, name: &str, what: &str) -> Option<f64> {
    let before = before?;
    let total = |sink: &SinkStatus| sink.counts.get(what).map(|count| *count as f64);
    let (was, is) = (before.status.sinks.get(name)?, now.status.sinks.get(name)?);
    Some(rate(total(was)?, total(is)?, seconds(before, now)))
}

/// Events that its plugins failed on since they run.
pub fn failures(logstore: &LogstoreStatus) -> u64 {
    logstore.plugins.iter().map(|plugin| plugin.failed).sum()
}

fn count(logstore: &LogstoreStatus, name: &str) -> f64 {
    logstore.counts.get(name).copied().unwrap_or(0) as f64
}
