//! The plugins that logstores use: each is loaded once, and again when its file has changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};

use super::{lock, settings};
use crate::budget::Budget;
use crate::config::{self, Logstore, Place, PluginRef, Problem};
use crate::registry::{self, Choice, Registry};
use crate::sandbox::cache::Whose;
use crate::sandbox::compile::{ByChild, Compiler};
use crate::sandbox::limits::COMPONENT_BYTES;
use crate::sandbox::{Chain, Files, Given, Limits, Log, Logs, Plugin, Sandbox, Stage, files};
use crate::secret::{Stamp, stamp};

/// Loads plugins, each once. What one of several that are cloned has loaded, all have.
#[derive(Clone)]
pub struct Plugins {
    sandbox: Arc<Sandbox>,
    dirs: Vec<PathBuf>,
    /// Never held while something is loaded, which may take minutes.
    loaded: Arc<Mutex<Loaded>>,
    /// Those that were uploaded; none are for a command that is not the agent.
    registry: Option<Arc<Registry>>,
    /// Where they log; none: to a command that is not the agent.
    logs: Option<Arc<Logs>>,
}

#[derive(Default)]
struct Loaded {
    files: BTreeMap<PathBuf, (Stamp, Arc<Plugin>)>,
    /// By digest.
    uploaded: BTreeMap<String, Arc<Plugin>>,
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
    /// What it may read.
    pub files: Option<Arc<Files>>,
    /// The number under which it was uploaded; 0 if it was not.
    pub version: u64,
    /// What it was found by; none if it was uploaded.
    pub reference: Option<PluginRef>,
    /// Where it logs.
    pub log: Log,
    /// Where the configuration says so.
    pub place: Place,
}

impl Used {
    /// Whether it does the same as another, with the same limits.
    pub fn is_same(&self, other: &Used) -> bool {
        (&self.plugin.digest, &self.settings, &self.limits) == (&other.plugin.digest, &other.settings, &other.limits)
            && files::is_same(self.files.as_ref(), other.files.as_ref())
    }

    /// Whether it is what another was found by, and its file has changed, or one that it has read of its files.
    pub fn is_changed(&self, other: &Used) -> bool {
        let is_it = self.reference.is_some() && self.reference == other.reference;
        let reads_others = || match (&self.files, &other.files) {
            (Some(own), Some(others)) => own.dir() == others.dir() && others.has_changed(),
            _ => false,
        };
        is_it && (self.plugin.digest != other.plugin.digest || reads_others())
    }

    /// The same, to be tried beside it: what it reads of its files says nothing of the other.
    pub fn beside(&self) -> Used {
        Used { files: self.files.as_ref().map(|files| Files::new(files.dir())), ..self.clone() }
    }

    /// It alone, with an instance that has taken its settings.
    pub fn stage(&self, budget: &Arc<Budget>) -> Result<Stage> {
        let (files, log) = (self.files.clone(), self.log.clone());
        Stage::with(self.plugin.clone(), &self.settings, self.limits, budget, files, log)
    }

    fn problem(&self, error: &anyhow::Error) -> Problem {
        problem(&self.place, error)
    }
}

impl Plugins {
    /// Looks for plugins in these directories.
    pub fn new(sandbox: Sandbox, dirs: &[PathBuf]) -> Self {
        let (sandbox, dirs) = (Arc::new(sandbox), dirs.to_owned());
        Plugins { sandbox, dirs, loaded: Arc::default(), registry: None, logs: None }
    }

    /// Uses what was uploaded in the place of what is configured.
    pub fn with_uploads(self, registry: Arc<Registry>) -> Self {
        Plugins { registry: Some(registry), ..self }
    }

    /// The same in these directories.
    pub fn looking_in(self, dirs: &[PathBuf]) -> Self {
        Plugins { dirs: dirs.to_owned(), ..self }
    }

    /// Has each logstore's plugins log there.
    pub fn with_logs(self, logs: Arc<Logs>) -> Self {
        Plugins { logs: Some(logs), ..self }
    }

    fn log(&self, logstore: &Logstore) -> Log {
        self.logs.as_ref().map_or_else(Log::of_author, |logs| logs.of(&logstore.name.to_string()))
    }

    /// The sandbox that they run in.
    pub fn sandbox(&self) -> &Arc<Sandbox> {
        &self.sandbox
    }

    /// The plugins of a logstore as their files are now, with the uploaded one that is active; or what is wrong with
    /// each.
    pub fn resolve(&mut self, logstore: &Logstore) -> Result<Vec<Used>, Vec<Problem>> {
        let active = self.choice(logstore)?.active;
        self.resolve_with(logstore, active)
    }

    /// What is chosen of what was uploaded.
    pub fn choice(&self, logstore: &Logstore) -> Result<Choice, Vec<Problem>> {
        let Some(registry) = &self.registry else { return Ok(Choice::default()) };
        registry.choice(&logstore.name).map_err(|error| vec![problem(&logstore.place, &error.into())])
    }

    /// The same with one version of what was uploaded; 0 is what is configured.
    pub fn resolve_with(&mut self, logstore: &Logstore, version: u64) -> Result<Vec<Used>, Vec<Problem>> {
        self.resolve_beside(logstore, version, &[]).map(|(chain, _)| chain)
    }

    /// The same beside plugins that run: where a file cannot be used any more, what was found there stays. Gives also what
    /// is wrong with such files.
    pub fn resolve_beside(
        &mut self,
        logstore: &Logstore,
        version: u64,
        running: &[Used],
    ) -> Result<(Vec<Used>, Vec<Problem>), Vec<Problem>> {
        let wrong = |error: anyhow::Error| vec![problem(&logstore.place, &error)];
        let slot = match version {
            0 => None,
            _ => Some(logstore.upload_slot().map_err(|error| wrong(error.into()))?),
        };
        let (mut chain, mut problems) = (Vec::with_capacity(logstore.plugins.len()), Vec::new());
        let mut unusable = Vec::new();
        for (index, used) in logstore.plugins.iter().enumerate() {
            if slot == Some(index) {
                continue;
            }
            let limits = settings::limits(&used.limits);
            let found = self.find(&used.reference).and_then(|path| self.load_within(&path, &limits));
            let standing = running.iter().find(|running| running.reference.as_ref() == Some(&used.reference));
            let plugin = match (found, standing) {
                (Err(error), Some(standing)) => {
                    unusable.push(problem(&used.place, &error));
                    Ok(standing.plugin.clone())
                }
                (found, _) => found,
            };
            match plugin {
                Ok(plugin) => chain.push(Used {
                    plugin,
                    settings: used.settings.clone(),
                    limits,
                    files: used.files.as_deref().map(Files::new),
                    version: 0,
                    reference: Some(used.reference.clone()),
                    log: self.log(logstore),
                    place: used.place.clone(),
                }),
                Err(error) => problems.push(problem(&used.place, &error)),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        if let Some(slot) = slot {
            let used = self.uploaded(logstore, slot, version).map_err(wrong)?;
            chain.insert(slot, used);
        }
        Ok((chain, unusable))
    }

    /// A chain with another plugin in the place that uploads take.
    pub fn resolve_candidate(
        &mut self,
        logstore: &Logstore,
        plugin: Arc<Plugin>,
        settings: &str,
    ) -> Result<Vec<Used>, Vec<Problem>> {
        let slot = logstore.upload_slot().map_err(|error| vec![problem(&logstore.place, &error.into())])?;
        let mut without = logstore.clone();
        if slot < without.plugins.len() {
            without.plugins.remove(slot);
        }
        let mut chain = self.resolve_with(&without, 0)?;
        chain.insert(slot, uploaded(logstore, slot, plugin, settings.to_owned(), self.log(logstore)));
        Ok(chain)
    }

    /// A version that was uploaded.
    fn uploaded(&mut self, logstore: &Logstore, slot: usize, number: u64) -> Result<Used> {
        let registry = self.registry.as_ref().context("nothing can be uploaded here")?;
        let version = registry.version(&logstore.name, number)?;
        let signed = logstore.plugin_keys.check(&version.digest, version.signature.as_deref());
        signed.with_context(|| format!("version {number}, which was uploaded, cannot run"))?;
        let given = given_to(logstore, slot);
        let known = lock(&self.loaded).uploaded.get(&version.digest).cloned();
        let plugin = match known {
            Some(plugin) => plugin,
            None => {
                let bytes = registry.blob(&version.digest)?;
                let plugin = self.sandbox.load_bytes(bytes.into(), &version.name, COMPONENT_BYTES, &given)?;
                lock(&self.loaded).uploaded.insert(version.digest.clone(), plugin.clone());
                plugin
            }
        };
        plugin.check_limits(&given.limits)?;
        let used = uploaded(logstore, slot, plugin, version.settings.to_string(), self.log(logstore));
        Ok(Used { version: number, ..used })
    }

    /// The chain of a logstore, or what is wrong with each of its plugins.
    pub fn chain(&mut self, logstore: &Logstore, budget: &Arc<Budget>) -> Result<Chain, Vec<Problem>> {
        chain(&self.resolve(logstore)?, logstore.on_fault, budget)
    }

    /// A plugin with its settings, which are JSON, for a command that is not the agent.
    pub fn stage(
        &mut self,
        reference: &PluginRef,
        settings: &str,
        limits: Limits,
        files: Option<Arc<Files>>,
    ) -> Result<Stage> {
        let path = self.find(reference)?;
        Stage::with(self.load_within(&path, &limits)?, settings, limits, &Budget::new(None), files, Log::of_author())
    }

    /// The file of a plugin.
    pub fn find(&self, reference: &PluginRef) -> Result<PathBuf> {
        registry::find(reference, &self.dirs)
    }

    /// The plugin in a file, as that is now, if it begins with no more than these limits allow.
    pub fn load_within(&self, path: &Path, limits: &Limits) -> Result<Arc<Plugin>> {
        let describe = || format!("plugin {}", path.display());
        let now = stamp(path).with_context(describe)?;
        let known = lock(&self.loaded).files.get(path).filter(|(known, _)| *known == now).cloned();
        if let Some((_, plugin)) = known {
            plugin.check_limits(limits).with_context(describe)?;
            return Ok(plugin);
        }
        let plugin = self.sandbox.load_within(path, limits)?;
        lock(&self.loaded).files.insert(path.to_owned(), (now, plugin.clone()));
        Ok(plugin)
    }

    /// Forgets those that nobody uses any more.
    pub fn forget_unused(&self) {
        let mut loaded = lock(&self.loaded);
        loaded.files.retain(|_, (_, plugin)| Arc::strong_count(plugin) > 1);
        loaded.uploaded.retain(|_, plugin| Arc::strong_count(plugin) > 1);
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

/// An uploaded plugin gets the limits and the files of what it replaces, or what its project's plugins may have if
/// nothing else is said.
pub fn given_to(logstore: &Logstore, slot: usize) -> Given {
    let replaced = logstore.plugins.get(slot);
    let limits = settings::limits(replaced.map_or(&logstore.limits, |used| &used.limits));
    Given { limits, files: replaced.is_some_and(|used| used.files.is_some()) }
}

fn uploaded(logstore: &Logstore, slot: usize, plugin: Arc<Plugin>, settings: String, log: Log) -> Used {
    let replaced = logstore.plugins.get(slot);
    Used {
        plugin,
        settings,
        limits: given_to(logstore, slot).limits,
        files: replaced.and_then(|used| used.files.as_deref()).map(Files::new),
        version: 0,
        reference: None,
        log,
        place: replaced.map_or(&logstore.place, |used| &used.place).clone(),
    }
}

fn problem(place: &Place, error: &anyhow::Error) -> Problem {
    Problem::new(Place { path: format!("{}.use", place.path), ..place.clone() }, format!("{error:#}"))
}

/// A sandbox for a command that isn't the agent, which keeps what it compiles in that directory.
pub fn sandbox_for_tools(cache: &Path) -> Result<Sandbox> {
    Sandbox::new(Compiler::new(cache, Whose::Shared, ByChild::default())?)
}
