//! What a running agent shows of itself, and what it lets be changed. The agent does it, and the admin server asks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::Receiver;
use utoipa::ToSchema;

use crate::books::Books;
use crate::config::{Config, LogstoreName};
use crate::event::Batch;
use crate::registry::Registry;
use crate::sandbox::{Chain, Given, Log, Plugin, Sandbox};

/// A running agent, as the server sees it. Every method may wait, and is called on a thread where that disturbs nobody,
/// but for [`Control::config`] and [`Control::health`].
///
/// Names of logstores are those of [`Control::config`]; of others there are errors.
pub trait Control: Send + Sync {
    /// The configuration that is in force, without the logstores that are for other agents. Another value each time that
    /// it changes. This one does not wait.
    fn config(&self) -> Arc<Config>;

    /// Uploaded plugins.
    fn registry(&self) -> &Registry;

    /// What loads plugins.
    fn sandbox(&self) -> &Sandbox;

    /// Whether it works. This one does not wait, either, whatever else is under way.
    fn health(&self) -> Health;

    /// All that is to be seen of it; or of one project's, whose lanes alone are asked then. Of each logstore the files that
    /// lag most, [`FILES`] of them.
    fn status(&self, project: Option<&str>) -> Status;

    /// The same of one logstore, with [`MORE_FILES`]. None if there is none of that name.
    fn logstore(&self, name: &LogstoreName) -> Option<LogstoreStatus>;

    /// What is counted.
    fn books(&self) -> Books;

    /// The last events of a logstore's files, about so many bytes, as its plugins would get them.
    fn recent(&self, name: &LogstoreName, bytes: usize) -> Result<Vec<Batch>>;

    /// What a plugin is given in the place that uploads take.
    fn given(&self, name: &LogstoreName) -> Given;

    /// A chain of a logstore, with instances of its own: as it runs now, or with another plugin in the place that uploads
    /// take.
    fn chain(&self, name: &LogstoreName, candidate: Option<&Candidate>) -> Result<Chain>;

    /// Makes the lane run what the registry says by now, from a batch boundary on. Returns when it does, with true; or
    /// with false if it has not come to one within a second, as it has no turn or waits for something: it does then what
    /// it is told as soon as it can. After an error it runs what it ran before.
    fn apply(&self, name: &LogstoreName) -> Result<bool>;

    /// Reads the configuration again and applies what has changed. After an error everything goes on as before.
    fn reload(&self) -> Result<Reloaded, NotReloaded>;

    /// What a logstore's plugins say and fail with.
    fn log(&self, name: &LogstoreName) -> Log;

    /// Events of a logstore from now on, as long as somebody receives them. Each is a line of NDJSON with its line end.
    /// Where they come faster than they are taken, some are left out.
    fn tap(&self, name: &LogstoreName, tap: Tap) -> Result<Receiver<Bytes>>;
}

/// Files of a logstore in the status of all.
pub const FILES: usize = 20;

/// Files in the status of one logstore.
pub const MORE_FILES: usize = 1000;

/// A plugin that is not used yet.
pub struct Candidate {
    /// The plugin.
    pub plugin: Arc<Plugin>,
    /// Its settings: the text of a JSON object.
    pub settings: String,
}

/// Which events to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tap {
    /// As they were read; or as they go to the sinks.
    pub before: bool,
    /// So many at most.
    pub limit: u64,
}

/// Whether the agent works. All lists are empty if all is well. They name no tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Why only a restart helps: workers that do not turn, checkpoints that are not written.
    pub dead: Vec<String>,
    /// Why it does not do its work yet.
    pub unready: Vec<String>,
    /// What is wrong and keeps it from nothing: the last configuration was refused, a logstore does not run.
    pub details: Vec<String>,
}

/// All that is to be seen of an agent at a moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Of weir.
    pub version: String,
    /// Unix seconds.
    pub started_at: u64,
    /// The groups that it belongs to.
    pub machine_groups: Vec<String>,
    /// Whether it works.
    pub health: Health,
    /// The last changes of the configuration.
    pub reload: ReloadStatus,
    /// By name.
    pub projects: BTreeMap<String, ProjectStatus>,
    /// By `project/logstore`: those that run, and those that can't.
    pub logstores: BTreeMap<String, LogstoreStatus>,
    /// By name, those that are used.
    pub sinks: BTreeMap<String, SinkStatus>,
}

/// What became of changes of the configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ReloadStatus {
    /// How often it was applied since the start.
    pub applied: u64,
    /// How often it was refused.
    pub refused: u64,
    /// When the one in force was read, in Unix seconds.
    pub since: u64,
    /// Why the last one was refused, as long as it is the last: line by line, as `weir check` says it.
    pub error: Option<String>,
}

/// A project.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ProjectStatus {
    /// Its part of the CPU.
    pub share: u32,
    /// Its ceiling, in thousandths of a core.
    pub cpu: Option<u32>,
    /// CPU seconds of its turns.
    pub cpu_seconds: f64,
    /// Seconds that it waited at its ceiling.
    pub throttled_seconds: f64,
    /// Bytes that it uses.
    pub memory: u64,
    /// Bytes that it may use.
    pub memory_budget: Option<u64>,
}

/// A logstore.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct LogstoreStatus {
    /// Whether it runs.
    pub state: LogstoreState,
    /// Why it does not run, or what waits.
    pub problem: Option<String>,
    /// Why a plugin's file that has changed is not used: what ran goes on.
    pub refused: Option<String>,
    /// Nothing outside it is read.
    pub root: String,
    /// Whether the root is there.
    pub root_exists: bool,
    /// The chain, in order.
    pub plugins: Vec<PluginStatus>,
    /// What runs on a part of the files.
    pub canary: Option<CanaryStatus>,
    /// Keys of `sinks`.
    pub sinks: Vec<String>,
    /// As in the summary of `weir run`: read, delivered, dropped, ….
    pub counts: BTreeMap<String, u64>,
    /// Bytes that were written and are not settled.
    pub lag_bytes: u64,
    /// Seconds since the oldest of them was written, about.
    pub lag_seconds: f64,
    /// How many files it has.
    pub files_total: u64,
    /// Those of them that lag most, these first.
    pub files: Vec<FileStatus>,
}

/// Whether a logstore runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogstoreState {
    /// It reads what comes.
    #[default]
    Running,
    /// It waits: for a sink, for memory, or for a plugin that is suspended.
    Waiting,
    /// It was taken out of the configuration, and what is in flight settles.
    Ending,
    /// Its plugins cannot be used.
    Stopped,
}

/// A plugin of a chain.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct PluginStatus {
    /// What it calls itself.
    pub name: String,
    /// Its own version, as it says.
    pub plugin_version: String,
    /// SHA-256 of the `.wasm`, in hex.
    pub digest: String,
    /// The number under which it was uploaded; none: it is in the configuration.
    pub version: Option<u64>,
    /// Whether it is called.
    pub state: PluginState,
    /// Events that it was given.
    pub events: u64,
    /// Fuel for one of them.
    pub fuel_per_event: f64,
    /// CPU time for one of them, in nanoseconds.
    pub cpu_per_event: f64,
    /// Bytes of linear memory.
    pub memory: u64,
    /// Events that it said it failed on.
    pub failed: u64,
    /// Calls that trapped, ran out of something, or broke the contract.
    pub faults: u64,
    /// The last reason of either.
    pub last_failure: Option<String>,
}

/// Whether a plugin is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PluginState {
    /// It is.
    #[default]
    Running,
    /// It failed too often, and is tried again later.
    Suspended,
}

/// A version that runs on a part of the files.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct CanaryStatus {
    /// Its number.
    pub version: u64,
    /// Percent of the files.
    pub percent: u8,
    /// Events that it was given, and that failed, by its own word or by a fault.
    pub events: u64,
    /// Those that failed.
    pub failed: u64,
    /// The same of the other version since it began.
    pub other_events: u64,
    /// Those of them that failed.
    pub other_failed: u64,
}

/// Names need not be UTF-8, and JSON must be.
fn as_text<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// A file.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct FileStatus {
    /// Where it was last found. What is not UTF-8 in it is U+FFFD.
    #[schema(value_type = String)]
    #[serde(serialize_with = "as_text")]
    pub path: PathBuf,
    /// Bytes that it has.
    pub size: u64,
    /// Bytes that were read.
    pub offset: u64,
    /// Bytes that are settled.
    pub settled: u64,
    /// Bytes that are not.
    pub lag_bytes: u64,
    /// Seconds since the first of these was written, about.
    pub lag_seconds: f64,
}

/// A sink.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct SinkStatus {
    /// `file`, `http`, ….
    pub kind: String,
    /// Whether it delivers.
    pub state: SinkState,
    /// Why it does not.
    pub error: Option<String>,
    /// As in the summary of `weir run`.
    pub counts: BTreeMap<String, u64>,
}

/// Whether a sink delivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SinkState {
    /// It does, or has had nothing to do.
    #[default]
    Working,
    /// The last that it tried failed, and is tried again.
    Retrying,
    /// It is gone for good.
    Lost,
}

/// What a change of the configuration has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// Logstores that run now.
    pub added: Vec<String>,
    /// Logstores that do not any more.
    pub removed: Vec<String>,
    /// Logstores that run otherwise.
    pub changed: Vec<String>,
    /// How many run on as they did.
    pub unchanged: u64,
    /// What may be a mistake, a line each.
    pub warnings: Vec<String>,
}

/// Why a configuration was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotReloaded(pub String);

impl Status {
    /// What one project may see of it.
    pub fn of_project(mut self, project: &str) -> Status {
        let is_own = |name: &str| name.split_once('/').is_some_and(|(owner, _)| owner == project);
        self.projects.retain(|name, _| name == project);
        self.logstores.retain(|name, _| is_own(name));
        let used = |name: &String| self.logstores.values().any(|logstore| logstore.sinks.contains(name));
        self.sinks.retain(|name, _| used(name));
        // Others may use them too, and the configuration is not theirs to see.
        for sink in self.sinks.values_mut() {
            (sink.counts, sink.error) = (BTreeMap::new(), None);
        }
        self.health.details.clear();
        self.reload.error = self.reload.error.map(|_| "the operator's configuration is wrong".to_owned());
        self
    }
}
