//! The plugins that logstores use: each is loaded once, and again when its file has changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use super::settings;
use crate::budget::Budget;
use crate::config::{self, Logstore, Place, PluginRef, Problem};
use crate::registry;
use crate::sandbox::compile::{ByChild, Cache, Compiler};
use crate::sandbox::{Chain, Limits, Plugin, Sandbox, Stage};
use crate::secret::{Stamp, stamp};

/// Loads plugins, each once.
pub struct Plugins {
    sandbox: Sandbox,
    dirs: Vec<PathBuf>,
    loaded: BTreeMap<PathBuf, (Stamp, Arc<Plugin>)>,
}

/// A plugin with its settings, as a logstore uses it.
#[derive(Clone)]
pub struct Used {
    /// The plugin.
    pub plugin: Arc<Plugin>,
    /// JSON.
    pub settings: String,
    /// What it may use.
    pub limits: Limits,
    /// Where the configuration says so.
    pub place: Place,
}

impl Used {
    /// Whether it does the same as another, with the same limits.
    pub fn is_same(&self, other: &Used) -> bool {
        (&self.plugin.digest, &self.settings, &self.limits) == (&other.plugin.digest, &other.settings, &other.limits)
    }

    /// It alone, with an instance that has taken its settings.
    pub fn stage(&self, budget: &Arc<Budget>) -> Result<Stage> {
        Stage::new(self.plugin.clone(), &self.settings, self.limits, budget)
    }

    fn problem(&self, error: &anyhow::Error) -> Problem {
        problem(&self.place, error)
    }
}

impl Plugins {
    /// Looks for plugins in these directories.
    pub fn new(sandbox: Sandbox, dirs: &[PathBuf]) -> Self {
        Plugins { sandbox, dirs: dirs.to_owned(), loaded: BTreeMap::new() }
    }

    /// Looks in these directories from now on.
    pub fn look_in(&mut self, dirs: &[PathBuf]) {
        self.dirs = dirs.to_owned();
    }

    /// The sandbox that they run in.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// The plugins of a logstore as their files are now, or what is wrong with each.
    pub fn resolve(&mut self, logstore: &Logstore) -> Result<Vec<Used>, Vec<Problem>> {
        let (mut chain, mut problems) = (Vec::with_capacity(logstore.plugins.len()), Vec::new());
        for used in &logstore.plugins {
            match self.find(&used.reference).and_then(|path| self.load(&path)) {
                Ok(plugin) => chain.push(Used {
                    plugin,
                    settings: used.settings.clone(),
                    limits: settings::limits(&used.limits),
                    place: used.place.clone(),
                }),
                Err(error) => problems.push(problem(&used.place, &error)),
            }
        }
        if problems.is_empty() { Ok(chain) } else { Err(problems) }
    }

    /// The chain of a logstore, or what is wrong with each of its plugins.
    pub fn chain(&mut self, logstore: &Logstore, budget: &Arc<Budget>) -> Result<Chain, Vec<Problem>> {
        chain(&self.resolve(logstore)?, logstore.on_fault, budget)
    }

    /// A plugin with its settings, which are JSON.
    pub fn stage(
        &mut self,
        reference: &PluginRef,
        settings: &str,
        limits: Limits,
        budget: &Arc<Budget>,
    ) -> Result<Stage> {
        let path = self.find(reference)?;
        Stage::new(self.load(&path)?, settings, limits, budget)
    }

    /// The file of a plugin.
    pub fn find(&self, reference: &PluginRef) -> Result<PathBuf> {
        registry::find(reference, &self.dirs)
    }

    /// The plugin in a file, as that is now.
    pub fn load(&mut self, path: &Path) -> Result<Arc<Plugin>> {
        let now = stamp(path).with_context(|| format!("plugin {}", path.display()))?;
        if let Some((known, plugin)) = self.loaded.get(path)
            && *known == now
        {
            return Ok(plugin.clone());
        }
        let plugin = self.sandbox.load(path)?;
        self.loaded.insert(path.to_owned(), (now, plugin.clone()));
        Ok(plugin)
    }

    /// Forgets those that nobody uses any more.
    pub fn forget_unused(&mut self) {
        self.loaded.retain(|_, (_, plugin)| Arc::strong_count(plugin) > 1);
    }
}

/// The chain that these make, or what is wrong with each.
pub fn chain(used: &[Used], on_fault: config::OnFault, budget: &Arc<Budget>) -> Result<Chain, Vec<Problem>> {
    let (mut stages, mut problems) = (Vec::with_capacity(used.len()), Vec::new());
    for used in used {
        match used.stage(budget) {
            Ok(stage) => stages.push(stage),
            Err(error) => problems.push(used.problem(&error)),
        }
    }
    if problems.is_empty() { Ok(Chain::new(stages, settings::on_fault(on_fault))) } else { Err(problems) }
}

fn problem(place: &Place, error: &anyhow::Error) -> Problem {
    Problem::new(Place { path: format!("{}.use", place.path), ..place.clone() }, format!("{error:#}"))
}

/// A sandbox for a command that isn't the agent, which keeps what it compiles in that directory.
pub fn sandbox_for_tools(cache: &Path) -> Result<Sandbox> {
    Sandbox::new(Compiler::new(cache, Cache::Shared, ByChild::default())?)
}
