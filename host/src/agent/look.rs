//! How all is: what the admin server shows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::files::Refusal;
use super::lanes::RunningLane;
use super::{Agent, Published, lock, uploads};
use crate::config::{Logstore, Problem};
use crate::control::{
    CanaryStatus, FileStatus, Health, LogstoreState, LogstoreStatus, PluginState, PluginStatus, ProjectStatus,
    ReloadStatus, SinkState, SinkStatus, Status,
};
use crate::lane::glance::{FileGlance, Seen};
use crate::lane::orders::Order;
use crate::metrics::PluginAccounts;

impl Agent {
    pub(super) fn look_at_health(&self) -> Health {
        let mut health = Health::default();
        let turn = self.schedule.longest_turn();
        if turn > self.dead_after {
            health.dead.push(format!("a worker has not ended its turn for {} s", turn.as_secs()));
        }
        let written = Duration::from_millis(self.written.at.load(Ordering::Relaxed));
        let unwritten = self.written.begun.elapsed().saturating_sub(written);
        if unwritten > self.dead_after {
            health.dead.push(format!("the checkpoint has not been written for {} s", unwritten.as_secs()));
        }
        if self.schedule.broken() > 0 {
            health.dead.push("a logstore has ended by a mistake in weir".to_owned());
        }
        if !self.mode.is_following() {
            health.unready.push("it is ending".to_owned());
        }
        let reloads = self.reloads();
        if let Some(error) = reloads.error {
            health.details.push(format!("the configuration was refused, and the one before goes on: {error}"));
        }
        let refused: Vec<_> = lock(&self.refusals).values().flat_map(|refusal| refusal.problems.clone()).collect();
        let problems = refused.into_iter().chain(self.problems());
        health.details.extend(problems.map(|problem| problem.in_file(&self.file_name).to_string()));
        health
    }

    /// Of all, or of what is a project's: lanes of others are not asked.
    pub(super) fn look_at_all(&self, project: Option<&str>, files: usize) -> Status {
        let is_own =
            |name: &str| project.is_none_or(|project| name.split_once('/').is_some_and(|(of, _)| of == project));
        let reloads = self.reloads();
        let mut logstores = self.look_at_lanes(is_own, files);
        let Published { config, problems } = self.published();
        for logstore in config.logstores.iter().filter(|logstore| is_own(&logstore.name.to_string())) {
            logstores.entry(logstore.name.to_string()).or_insert_with(|| stopped(&problems, logstore));
        }
        let running = self.running();
        let projects = config.projects.iter().filter_map(|(name, project)| {
            let tenant = running.tenants.get(name)?;
            let usage = self.schedule.usage(tenant.number);
            let status = ProjectStatus {
                share: project.share,
                cpu: project.cpu,
                cpu_seconds: usage.cpu.as_secs_f64(),
                throttled_seconds: usage.throttled_for.as_secs_f64(),
                memory: tenant.budget.used() as u64,
                memory_budget: tenant.budget.limit().map(|bytes| bytes as u64),
            };
            Some((name.clone(), status))
        });
        let projects = projects.collect();
        drop(running);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            machine_groups: self.groups.clone(),
            health: self.look_at_health(),
            reload: ReloadStatus {
                applied: reloads.applied,
                refused: reloads.refused,
                since: reloads.since,
                error: reloads.error,
            },
            projects,
            logstores,
            sinks: self.look_at_sinks(),
        }
    }

    pub(super) fn look_at_one(&self, name: &str, files: usize) -> Option<LogstoreStatus> {
        let found = self.look_at_lanes(|lane| lane == name, files).remove(name);
        found.or_else(|| {
            let Published { config, problems } = self.published();
            let logstore = config.logstores.iter().find(|logstore| logstore.name.to_string() == name)?;
            Some(stopped(&problems, logstore))
        })
    }

    /// Asks lanes how they are. Of one that has no turn for long, what was last known is shown.
    fn look_at_lanes(&self, is_wanted: impl Fn(&str) -> bool, files: usize) -> BTreeMap<String, LogstoreStatus> {
        let running = self.running();
        let wanted = running.lanes.iter().filter(|(name, _)| is_wanted(name)).map(|(name, lane)| {
            if let Some(asked) = lane.glances.ask() {
                lane.orders.give(Order::Look(asked));
            }
            (name.clone(), lane.glances.clone())
        });
        let wanted: Vec<_> = wanted.collect();
        drop(running);
        let seen: Vec<_> = wanted.into_iter().map(|(name, glances)| (name, glances.seen())).collect();
        let running = self.running();
        let refusals = lock(&self.refusals);
        // Some may have ended meanwhile.
        let status = seen.into_iter().filter_map(|(name, seen)| {
            let lane = running.lanes.get(&name)?;
            let refused = refusals.get(&name).map(Refusal::words);
            Some((name, LogstoreStatus { refused, ..lane_status(lane, &seen, files) }))
        });
        status.collect()
    }

    fn look_at_sinks(&self) -> BTreeMap<String, SinkStatus> {
        let accounts = self.sinks.accounts();
        let status = |(name, kind, sender): (String, &str, std::sync::Arc<dyn crate::sink::Sender>)| {
            let error = sender.trouble();
            let state = match (sender.is_lost(), &error) {
                (true, _) => SinkState::Lost,
                (false, Some(_)) => SinkState::Retrying,
                (false, None) => SinkState::Working,
            };
            let counts = accounts.get(&name).map(|accounts| accounts.summary()).unwrap_or_default();
            let counts = counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
            (name, SinkStatus { kind: kind.to_owned(), state, error, counts })
        };
        self.sinks.list().into_iter().map(status).collect()
    }
}

/// A logstore whose plugins cannot be used.
fn stopped(problems: &[Problem], logstore: &Logstore) -> LogstoreStatus {
    let own = |problem: &&Problem| problem.place.path.starts_with(&logstore.place.path);
    let problems: Vec<_> = problems.iter().filter(own).map(|problem| problem.message.clone()).collect();
    LogstoreStatus {
        state: LogstoreState::Stopped,
        problem: Some(problems.join("; ")),
        root: logstore.files.root.display().to_string(),
        root_exists: logstore.files.root.is_dir(),
        sinks: logstore.sinks.clone(),
        ..LogstoreStatus::default()
    }
}

fn lane_status(lane: &RunningLane, seen: &Seen, most_files: usize) -> LogstoreStatus {
    let logstore = &lane.logstore;
    let nothing = Arc::default();
    let glance = seen.glance.as_ref().unwrap_or(&nothing);
    let plugins = lane.used.iter().zip(&lane.plugins).enumerate();
    let plugins = plugins.map(|(index, (used, counts))| {
        let glance = glance.plugins.get(index).filter(|glance| glance.digest == used.plugin.digest && !glance.is_tried);
        let suspended = glance.and_then(|glance| glance.suspended.clone());
        let last = suspended.clone().or(glance.and_then(|glance| glance.last_failure.clone()));
        let is_suspended = counts.suspended.load(Ordering::Relaxed) > 0;
        PluginStatus {
            name: used.plugin.name().to_owned(),
            plugin_version: used.plugin.metadata.version.clone(),
            digest: used.plugin.digest.clone(),
            version: (used.version > 0).then_some(used.version),
            state: if is_suspended { PluginState::Suspended } else { PluginState::Running },
            last_failure: last,
            ..counted(counts)
        }
    });
    let plugins: Vec<_> = plugins.collect();
    let suspended = plugins.iter().find(|plugin| plugin.state == PluginState::Suspended);
    let problem = match () {
        () if !seen.is_new => {
            Some("it had no turn to say how its files are: its project is at its ceiling, or it is busy".to_owned())
        }
        () if glance.is_short => Some("its project's memory is used up".to_owned()),
        () if glance.is_held_up => Some("its sink does not take more yet".to_owned()),
        () => suspended.map(|plugin| format!("its plugin {} is suspended", plugin.name)),
    };
    let canary = lane.canary.as_ref().zip(uploads::compare(lane)).map(|(run, comparison)| CanaryStatus {
        version: run.canary.version,
        percent: run.canary.percent,
        events: comparison.tried.0,
        failed: comparison.tried.1,
        other_events: comparison.other.0,
        other_failed: comparison.other.1,
    });
    // Without a turn nothing is settled, and what lagged lags on.
    let since = if seen.is_new { Duration::ZERO } else { seen.age };
    let mut files: Vec<_> = glance.files.iter().map(|file| file_status(file, since)).collect();
    let (lag_bytes, lag_seconds) =
        (files.iter().map(|file| file.lag_bytes).sum(), files.iter().map(|file| file.lag_seconds).fold(0.0, f64::max));
    // Of the same moment as its files.
    let counts = if seen.is_new { glance.counts.clone() } else { balanced(lane) };
    files.sort_by(|a, b| b.lag_bytes.cmp(&a.lag_bytes).then_with(|| a.path.cmp(&b.path)));
    files.truncate(most_files);
    LogstoreStatus {
        state: match &problem {
            _ if lane.is_ending => LogstoreState::Ending,
            Some(_) => LogstoreState::Waiting,
            None => LogstoreState::Running,
        },
        problem,
        root: logstore.files.root.display().to_string(),
        root_exists: logstore.files.root.is_dir(),
        plugins,
        canary,
        sinks: logstore.sinks.clone(),
        counts: counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
        lag_bytes,
        lag_seconds,
        files_total: glance.files.len() as u64,
        files,
        refused: None,
    }
}

/// Its counts, of one moment.
fn balanced(lane: &RunningLane) -> BTreeMap<&'static str, u64> {
    lane.accounts.balanced().into_iter().map(|(name, _, count)| (name, count)).collect()
}

fn counted(counts: &PluginAccounts) -> PluginStatus {
    let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let events = get(&counts.events);
    let per_event = |total: u64| if events == 0 { 0.0 } else { total as f64 / events as f64 };
    PluginStatus {
        events,
        fuel_per_event: per_event(get(&counts.fuel)),
        cpu_per_event: per_event(get(&counts.cpu)),
        memory: get(&counts.memory),
        failed: get(&counts.failed),
        faults: get(&counts.faults),
        ..PluginStatus::default()
    }
}

fn file_status(file: &FileGlance, since: Duration) -> FileStatus {
    let lag_bytes = file.lag_bytes().unwrap_or(file.read.saturating_sub(file.settled));
    FileStatus {
        path: file.path.clone(),
        size: file.size.unwrap_or(file.read),
        offset: file.read,
        settled: file.settled,
        lag_bytes,
        lag_seconds: if lag_bytes > 0 { file.lag + since } else { file.lag }.as_secs_f64(),
    }
}

impl Agent {
    /// What a logstore is in the configuration that is in force.
    pub(super) fn logstore_of(&self, name: &crate::config::LogstoreName) -> anyhow::Result<Arc<Logstore>> {
        let config = self.config();
        let found = config.logstores.iter().find(|logstore| logstore.name == *name);
        anyhow::Context::context(found.cloned(), "there is no such logstore")
    }

    fn published(&self) -> Published {
        lock(&self.published).clone()
    }
}
