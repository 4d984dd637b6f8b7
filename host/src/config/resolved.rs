//! What a config means: typed, checked, every path absolute.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use super::Reach;
use super::admin::{Admin, admin};
use super::fields::{Fields, Table};
use super::limits::{Ceilings, Limits};
use super::logstore::logstores;
use super::problem::{Place, Problem};
use super::project::{Project, memory, projects, warn_of_memory};
use super::raw::{Node, Value};
use super::secret::Secret;
use super::sinks::{Sink, sinks};
use super::template::{LogstoreName, NAME_RULE, is_name};
use crate::signing::Keys;

/// Worker threads that are started without being asked for: an agent is a guest on its node.
const DEFAULT_WORKERS_MAX: usize = 2;

/// Where an agent keeps what it keeps if the config doesn't say.
const DEFAULT_DATA_DIR: &str = "/var/lib/weir";

/// Everything that a config file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where checkpoints and caches are kept.
    pub data_dir: PathBuf,
    /// Where plugins are looked for by name, in this order.
    pub plugin_dirs: Vec<PathBuf>,
    /// Worker threads, 1 to 256.
    pub workers: usize,
    /// Bytes that all projects may use together, 8 MiB to 1 TiB; none: as the system says.
    pub memory: Option<u64>,
    /// What becomes of a kernel that cannot confine the agent.
    pub confine: Confine,
    /// By name: those that are declared, and those of all logstores.
    pub projects: BTreeMap<String, Project>,
    /// In the order of the file; at least one; no name twice.
    pub logstores: Vec<Arc<Logstore>>,
    /// By name.
    pub sinks: BTreeMap<String, Sink>,
    /// What becomes of events that a destination refuses.
    pub dead_letters: DeadLetters,
    /// The admin server, if there is to be one.
    pub admin: Option<Admin>,
}

/// What becomes of events that a destination refuses for good: they are kept on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    /// Bytes of each logstore at most; 64 KiB to 1 TiB.
    pub max_size: u64,
    /// What becomes of more.
    pub when_full: WhenFull,
}

/// What becomes of events that a destination refuses when there is no room for more dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Their logstore waits until there is room.
    Hold,
    /// They are discarded, and counted.
    Discard,
}

impl Default for DeadLetters {
    fn default() -> Self {
        DeadLetters { max_size: 64 << 20, when_full: WhenFull::Hold }
    }
}

/// Whether the agent confines itself to what its configuration needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Confine {
    /// As far as the kernel can; what it cannot is told.
    #[default]
    BestEffort,
    /// It does not run unconfined.
    Required,
    /// Not at all.
    Off,
}

/// A named stream of one project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logstore {
    /// Its name.
    pub name: LogstoreName,
    /// Only agents of one of these groups run it; empty: all do.
    pub machine_groups: Vec<String>,
    /// What is read.
    pub files: Files,
    /// The chain, in order.
    pub plugins: Vec<PluginUse>,
    /// What an uploaded plugin may use that replaces none.
    pub limits: Limits,
    /// Who must have signed an uploaded plugin.
    pub plugin_keys: Keys,
    /// What becomes of events on which a plugin faults.
    pub on_fault: OnFault,
    /// Where it goes: keys of [`Config::sinks`]; one at least, none twice.
    pub sinks: Vec<String>,
    /// Where the config says so.
    pub place: Place,
}

/// What becomes of events on which a plugin faults: it traps, runs out of fuel, breaks the contract, or is suspended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFault {
    /// They are shipped as they came, marked.
    #[default]
    Raw,
    /// They are discarded, and counted.
    Drop,
    /// Reading waits there, and tries again with growing pauses until the plugin can do it.
    Hold,
}

/// The files of a logstore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Nothing outside this directory is opened. Absolute; it need not exist.
    pub root: PathBuf,
    /// Globs relative to the root, where `*` stops at a slash and `**` does not; at least one.
    pub include: Vec<String>,
    /// Globs of files that are left out all the same.
    pub exclude: Vec<String>,
    /// Where reading begins in files that are there when the agent first runs.
    pub from: StartAt,
    /// Files that were last written longer ago when they are first found are left alone until they are written
    /// again, and then only what is new is read; 1 s to 10 years.
    pub ignore_older: Option<Duration>,
    /// How often files are looked at even if nothing was heard of them; 10 ms to an hour.
    pub poll_interval: Duration,
    /// What wraps the lines.
    pub format: Format,
    /// The name of a WHATWG encoding that decodes something, as [`encoding_rs::Encoding::name`] gives it: `UTF-8`.
    pub encoding: &'static str,
    /// What becomes of bytes that are not valid in the encoding.
    pub invalid: Invalid,
    /// Bytes of a line, or of an event of several lines, at most; 1 KiB to 64 MiB.
    pub max_line: usize,
    /// What becomes of a line or event that is longer than `max_line`.
    pub long_lines: LongEvent,
    /// How lines are joined to events.
    pub multiline: Option<Multiline>,
    /// What may not be complete at the end of a file is shipped when the file has been quiet for so long.
    pub flush_after: Duration,
    /// How long files are read on that the globs no longer find.
    pub rotated: Rotated,
    /// Files that are held open at once, 1 to 1,000,000. Quiet ones beyond it are closed, and opened again when they
    /// are written to.
    pub max_open_files: usize,
}

/// What wraps the lines of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Nothing: each line is what was logged.
    Lines,
    /// What containerd and CRI-O write: `TIME STREAM P|F TEXT`, where the next line goes on with the text after a `P`.
    Cri,
    /// What Docker's json-file driver writes: an object a line, with `log`, `stream` and `time`.
    Docker,
}

/// What becomes of a line or event that is longer than `max_line`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LongEvent {
    /// It becomes several events, and no byte is lost; counted.
    Split,
    /// It is cut, and the rest is discarded; counted.
    Truncate,
    /// All of it is discarded; counted.
    Skip,
}

/// What becomes of bytes that are not valid in the file's encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// U+FFFD stands in their place.
    Replace,
    /// The line stays as its bytes.
    Keep,
}

/// How long a file is read on that was deleted, or renamed so that the globs no longer match. What is cut off by these
/// limits is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// Until nothing was written to it for so long; 100 ms to an hour.
    pub wait: Duration,
    /// Such files that are held open at most; 0 to 100,000.
    pub max_files: usize,
    /// Bytes on disk of all such files together at most; up to 1 TiB.
    pub max_size: u64,
}

impl Default for Rotated {
    fn default() -> Self {
        Rotated { wait: Duration::from_secs(30), max_files: 100, max_size: 1 << 30 }
    }
}

/// Regular expressions that are searched for in each line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patterns {
    /// An event begins with a line that matches, and goes on until the next such line.
    Start(String),
    /// An event begins with a line that matches the first, and goes on with lines that match the second.
    StartContinue(String, String),
    /// An event ends with a line that matches.
    End(String),
}

/// Which lines are one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multiline {
    /// Lines that begin, continue or end an event.
    pub patterns: Patterns,
    /// Lines of an event; a longer one is split, and counted.
    pub max_lines: usize,
}

/// Where reading begins in a file that has no checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At its first byte.
    Beginning,
    /// At its end: only what is appended is read.
    End,
}

/// One plugin of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginUse {
    /// Which one.
    pub reference: PluginRef,
    /// Its settings: the text of a JSON object.
    pub settings: String,
    /// What it may use.
    pub limits: Limits,
    /// The directory whose files it may read; if it has none, it may read nothing.
    pub files: Option<PathBuf>,
    /// Whether an uploaded plugin takes its place; not said: if it is the only one of its chain.
    pub replaceable: Option<bool>,
    /// Where the config says so.
    pub place: Place,
}

/// What a plugin is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginRef {
    /// `nginx`: the file `nginx.wasm` of one of [`Config::plugin_dirs`].
    Name(String),
    /// A file, absolute.
    Path(PathBuf),
    /// `sha256:` and 64 lower-case hex digits.
    Digest(String),
}

/// Why nothing can be uploaded for a logstore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReplaceable {
    /// The only plugin is not to be replaced.
    #[error("its plugin has `replaceable: false` in the agent's configuration")]
    Forbidden,
    /// There are several, and none is marked.
    #[error("its chain has several plugins, and none is marked with `replaceable: true` in the agent's configuration")]
    Ambiguous,
}

impl Logstore {
    /// The place in the chain that an uploaded plugin takes: that of the plugin which it replaces, or 0 if there is none.
    pub fn upload_slot(&self) -> Result<usize, NotReplaceable> {
        match &self.plugins[..] {
            [] => Ok(0),
            [one] if one.replaceable == Some(false) => Err(NotReplaceable::Forbidden),
            [_] => Ok(0),
            several => {
                let marked = several.iter().position(|used| used.replaceable == Some(true));
                marked.ok_or(NotReplaceable::Ambiguous)
            }
        }
    }
}

/// Makes a config of what was typed; worth nothing if errors were reported.
pub(super) fn resolve(root: &Node, fields: &mut Fields) -> Option<Config> {
    let keys = [
        "data_dir",
        "plugin_dirs",
        "workers",
        "memory",
        "confine",
        "admin",
        "projects",
        "logstores",
        "sinks",
        "dead_letters",
    ];
    let table = fields.table(root, &keys)?;
    let data_dir = table.get("data_dir").and_then(|node| fields.path(node));
    let plugin_dirs = table.get("plugin_dirs").map(|node| plugin_dirs(node, fields));
    let cores = available_parallelism().map_or(1, usize::from);
    let workers = fields.integer(table.get("workers"), cores.min(DEFAULT_WORKERS_MAX) as u64, 1..=256);
    let memory = table.get("memory").map(|node| memory(node, fields));
    let confine = table.get("confine").and_then(|node| confine(node, fields));
    let admin = table.get("admin").and_then(|node| admin(node, fields));
    let projects = projects(table.get("projects"), fields);
    check_tokens(&table, &admin, &projects, fields);
    let sinks = sinks(table.get("sinks"), fields);
    let sink_names = sinks.as_ref().map(|sinks| sinks.keys().map(String::as_str).collect());
    let logstores = logstores(&table, sink_names.as_ref(), &projects, fields);
    warn_of_unused(&table, &logstores, fields);
    let mut projects: BTreeMap<_, _> = projects.into_iter().map(|(name, (project, _))| (name, project)).collect();
    for logstore in &logstores {
        projects.entry(logstore.name.project.clone()).or_default();
    }
    if let (Some(total), Some(bytes)) = (table.get("memory"), memory) {
        let runs = |name: &str| logstores.iter().any(|logstore| logstore.name.project == name);
        warn_of_memory(
            total,
            bytes,
            projects.iter().filter(|(name, _)| runs(name)).map(|(_, project)| project),
            fields,
        );
    }
    Some(Config {
        data_dir: data_dir.unwrap_or_else(|| DEFAULT_DATA_DIR.into()),
        plugin_dirs: plugin_dirs.unwrap_or_else(super::default_plugin_dirs),
        workers: workers as usize,
        memory,
        confine: confine.unwrap_or_default(),
        projects,
        logstores,
        dead_letters: table.get("dead_letters").map(|node| dead_letters(node, fields)).unwrap_or_default(),
        admin,
        sinks: sinks?.into_iter().filter_map(|(name, sink)| Some((name, sink?))).collect(),
    })
}

/// What of it says how the agent is reached.
pub(super) fn reach(root: &Node, fields: &mut Fields) -> Reach {
    let table = fields.open_table(root);
    let get = |key: &str| table.as_ref().and_then(|table| table.get(key));
    let data_dir = get("data_dir").and_then(|node| fields.path(node));
    let admin = get("admin").and_then(|node| admin(node, fields));
    Reach { data_dir: data_dir.unwrap_or_else(|| DEFAULT_DATA_DIR.into()), admin }
}

/// Whose a token is must be clear.
fn check_tokens(
    root: &Table,
    admin: &Option<Admin>,
    projects: &BTreeMap<String, (Project, Ceilings)>,
    fields: &mut Fields,
) {
    let mut taken: BTreeMap<&Secret, String> = BTreeMap::new();
    if let Some(token) = admin.as_ref().and_then(|admin| admin.token.as_ref()) {
        taken.insert(token, "admin".to_owned());
    }
    let Some(Node { value: Value::Map(entries), .. }) = root.get("projects") else { return };
    for (name, node) in entries {
        let Some(token) = projects.get(name).and_then(|(project, _)| project.token.as_ref()) else { continue };
        match taken.get(token) {
            Some(other) => {
                let message = format!("is the token of {other} too: each needs one of its own");
                fields.problems.error(Problem::new(node.place_of("token"), message));
            }
            None => _ = taken.insert(token, format!("projects.{name}")),
        }
    }
}

fn plugin_dirs(node: &Node, fields: &mut Fields) -> Vec<PathBuf> {
    fields.list(Some(node)).iter().filter_map(|item| fields.path(item)).collect()
}

fn dead_letters(node: &Node, fields: &mut Fields) -> DeadLetters {
    let default = DeadLetters::default();
    let Some(table) = fields.table(node, &["max_size", "when_full"]) else { return default };
    let choices = [("hold", WhenFull::Hold), ("discard", WhenFull::Discard)];
    DeadLetters {
        max_size: fields.size(table.get("max_size"), default.max_size, 64 << 10..=1 << 40),
        when_full: table.get("when_full").and_then(|node| fields.choice(node, &choices)).unwrap_or(default.when_full),
    }
}

fn confine(node: &Node, fields: &mut Fields) -> Option<Confine> {
    let choices = [("best_effort", Confine::BestEffort), ("required", Confine::Required), ("off", Confine::Off)];
    fields.choice(node, &choices)
}

/// Reports a key that is no name.
pub(super) fn check_name(name: &str, node: &Node, fields: &mut Fields) {
    if !is_name(name) {
        fields.error(node, format!("the name must be {NAME_RULE}"));
    }
}

fn warn_of_unused(root: &Table, logstores: &[Arc<Logstore>], fields: &mut Fields) {
    let projects: HashSet<_> = logstores.iter().map(|logstore| &*logstore.name.project).collect();
    let sinks: HashSet<_> = logstores.iter().flat_map(|logstore| &logstore.sinks).map(|sink| &**sink).collect();
    let kinds = [("projects", projects, "no logstore belongs to it"), ("sinks", sinks, "no logstore uses it")];
    for (key, used, message) in kinds {
        let Some(Node { value: Value::Map(entries), .. }) = root.get(key) else { continue };
        for (_, node) in entries.iter().filter(|(name, _)| !used.contains(name.as_str())) {
            fields.problems.warning(Problem::new(node.place(), message));
        }
    }
}
