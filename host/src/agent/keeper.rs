//! What changes by itself while an agent runs: the file of its configuration, its plugins' files, and trials of versions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::reload::Changed;
use super::{Agent, lock};
use crate::config::{self, Problem};
use crate::secret::{Stamp, stamp};

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often plugins are looked at and trials judged, in looks.
const SELDOM: u32 = 4;

/// What became of changes of the configuration.
#[derive(Clone, Debug)]
pub struct Reloads {
    /// How often one was applied.
    pub applied: u64,
    /// How often one was refused.
    pub refused: u64,
    /// When the one in force was read, in Unix seconds.
    pub since: u64,
    /// Why the last one was refused, as long as it is the last.
    pub error: Option<String>,
    /// Why plugins whose files have changed are not used.
    pub plugins: Vec<Problem>,
}

impl Reloads {
    pub(super) fn begin() -> Self {
        Reloads { applied: 0, refused: 0, since: unix_now(), error: None, plugins: Vec::new() }
    }
}

/// A configuration that was applied, and what may be a mistake in it.
#[derive(Debug)]
pub struct Applied {
    /// What it has changed.
    pub changed: Changed,
    /// A line each.
    pub warnings: Vec<String>,
}

impl Agent {
    /// Reads the configuration again and applies what has changed. After an error, which says all that is wrong,
    /// everything goes on as before.
    pub fn reload_file(&self) -> Result<Applied> {
        let path = self.file.as_deref().context("this agent has no file of its configuration")?;
        let file = path.to_string_lossy();
        let applied = config::load(path).map_err(anyhow::Error::from).and_then(|loaded| {
            let warnings = loaded.warnings.iter().map(|warning| warning.in_file(&file).to_string()).collect();
            Ok(Applied { changed: self.reload(&loaded.config, &file)?, warnings })
        });
        let mut reloads = lock(&self.reloads);
        match &applied {
            Ok(applied) => {
                (reloads.applied, reloads.since, reloads.error) = (reloads.applied + 1, unix_now(), None);
                reloads.plugins = Vec::new();
                tracing::info!("the configuration is applied: {}", applied.changed);
            }
            Err(error) => {
                reloads.refused += 1;
                reloads.error = Some(format!("{error:#}"));
                tracing::error!("the configuration is not applied, and the one before goes on: {error:#}");
            }
        }
        applied
    }

    /// What became of changes of the configuration.
    pub fn reloads(&self) -> Reloads {
        lock(&self.reloads).clone()
    }

    fn look_at_plugins(&self, known: &mut BTreeMap<PathBuf, Option<Stamp>>) {
        let now: BTreeMap<_, _> =
            self.plugin_files().into_iter().map(|path| (path.clone(), stamp(&path).ok())).collect();
        let is_first = known.is_empty();
        if *known == now || std::mem::replace(known, now).is_empty() && is_first {
            return;
        }
        let (changed, problems) = self.reload_plugins();
        for name in &changed {
            tracing::info!(logstore = name, "has its plugins anew, as their files have changed");
        }
        for problem in &problems {
            let (place, problem) = (&problem.place.path, problem.in_file(&self.file_name));
            tracing::error!(place, "a plugin's file has changed and cannot be used; what ran goes on: {problem}");
        }
        lock(&self.reloads).plugins = problems;
    }

    /// The files that are looked for, whether they are there or not.
    fn plugin_files(&self) -> Vec<PathBuf> {
        let running = self.running();
        let references = running.config.logstores.iter().flat_map(|logstore| &logstore.plugins);
        let dirs = &running.config.plugin_dirs;
        let mut files: Vec<_> = references
            .flat_map(|used| match &used.reference {
                config::PluginRef::Path(path) => vec![path.clone()],
                config::PluginRef::Name(name) => dirs.iter().map(|dir| dir.join(format!("{name}.wasm"))).collect(),
                // It cannot change.
                config::PluginRef::Digest(_) => Vec::new(),
            })
            .collect();
        files.sort();
        files.dedup();
        files
    }
}

/// Looks after a running agent, on a thread of its own.
pub struct Keeper {
    orders: mpsc::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Begins. The configuration is read again when its file changes, or when it is [asked for](Keeper::reload).
    pub fn start(agent: &Arc<Agent>) -> Result<Keeper> {
        let (orders, asked) = mpsc::channel();
        let agent = agent.clone();
        let mut known = agent.file.as_deref().map(look_at);
        let work = move || {
            let (mut plugins, mut looks) = (BTreeMap::new(), 0);
            agent.look_at_plugins(&mut plugins);
            loop {
                let is_asked = match asked.recv_timeout(LOOK_EVERY) {
                    Ok(()) => true,
                    Err(mpsc::RecvTimeoutError::Timeout) => false,
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                };
                let now = agent.file.as_deref().map(look_at);
                if is_asked || now != known {
                    known = now;
                    // Whoever is interested is told in the log and the status.
                    let _ = agent.reload_file();
                }
                looks += 1;
                if looks % SELDOM == 0 {
                    agent.look_at_plugins(&mut plugins);
                    agent.judge_canaries();
                }
            }
        };
        let thread = thread::Builder::new().name("keeper".to_owned()).spawn(work).context("starting a thread")?;
        Ok(Keeper { orders, thread: Some(thread) })
    }

    /// Has the configuration read again soon.
    pub fn reload(&self) {
        // It ends only with this.
        let _ = self.orders.send(());
    }

    /// Ends, when what is being changed is changed.
    pub fn stop(mut self) {
        let thread = self.thread.take();
        drop(self);
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

/// What tells that the configuration has changed: its file's stamp. Behind a link that is another file's, as Kubernetes
/// does it.
fn look_at(path: &Path) -> Option<Stamp> {
    stamp(path).ok()
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
