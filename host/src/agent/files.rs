//! Plugins' files that change while logstores run. What takes the place of one that runs is tried as an upload is, and is
//! as good as not there if it is refused: whatever else changes, it is not used until it is another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;

use super::changes::{Basis, Fallback, by_choice};
use super::lanes::{Prepared, RunningLane, chain_to_stay};
use super::plugins::{Plugins, Used, chain};
use super::swap::{is_same, swap, wait_for};
use super::{Agent, lock, settings};
use crate::budget::Budget;
use crate::config::{Config, Logstore, LogstoreName, PluginRef, Problem};
use crate::sandbox::{Chain, dry_run};
use crate::secret::{Stamp, stamp};
use crate::source;

/// Why plugins whose files have changed are not used.
#[derive(Clone)]
pub(super) struct Refusal {
    /// What was tried, and is not tried again; none if it could not be tried.
    tried: Option<Vec<Used>>,
    pub problems: Vec<Problem>,
}

impl Refusal {
    /// In words.
    pub fn words(&self) -> String {
        self.problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; ")
    }
}

/// The files that are looked for, whether they are there or not, and what tells that each has changed.
pub(super) fn stamps(config: &Config) -> BTreeMap<PathBuf, Option<Stamp>> {
    let references = config.logstores.iter().flat_map(|logstore| &logstore.plugins);
    let files = references.flat_map(|used| match &used.reference {
        PluginRef::Path(path) => vec![path.clone()],
        PluginRef::Name(name) => config.plugin_dirs.iter().map(|dir| dir.join(format!("{name}.wasm"))).collect(),
        // It cannot change.
        PluginRef::Digest(_) => Vec::new(),
    });
    files.map(|path| (path.clone(), stamp(&path).ok())).collect()
}

/// What a logstore is to run by its files.
enum Found {
    /// What it runs.
    Same,
    Other(Vec<Used>, Chain),
    /// It does not run, and could.
    Stopped(Box<Prepared>, Option<Fallback>),
}

impl Agent {
    /// Looks at the plugins' files, and those that they have read, and again at all plugins if one has changed.
    pub(super) fn look_at_plugins(&self) {
        let mut now = stamps(&self.config());
        let tables: Vec<_> = {
            let running = self.running();
            running.lanes.values().flat_map(|lane| &lane.used).filter_map(|used| used.files.clone()).collect()
        };
        now.extend(tables.iter().flat_map(|files| files.stamps()));
        if std::mem::replace(&mut *lock(&self.plugin_stamps), now.clone()) == now {
            return;
        }
        for name in self.reload_plugins() {
            tracing::info!(logstore = name, "has its plugins anew, as their files have changed");
        }
    }

    /// A logstore gets those of its plugins that have changed between two batches; one that did not run for want of them
    /// begins. Gives which did. What is wrong with others is said, and they go on as they are.
    pub fn reload_plugins(&self) -> BTreeSet<String> {
        let config = self.config();
        let mut changed = BTreeSet::new();
        for logstore in &config.logstores {
            if self.is_stopping() {
                break;
            }
            match self.look_again(&logstore.name) {
                Ok(true) => _ = changed.insert(logstore.name.to_string()),
                Ok(false) => {}
                Err(error) => tracing::error!(logstore = %logstore.name, "its plugins cannot be looked at: {error:#}"),
            }
        }
        self.plugins().forget_unused();
        changed
    }

    /// Begins logstores that could not begin anew when the configuration changed.
    pub(super) fn begin_what_failed(&self) {
        let failed = self.running().failed.clone();
        for name in failed.iter().filter_map(|name| name.parse().ok()) {
            if self.look_again(&name).is_ok_and(|begun| begun) {
                tracing::info!(logstore = %name, "goes on");
            }
        }
    }

    /// Whether a logstore runs otherwise now.
    fn look_again(&self, name: &LogstoreName) -> Result<bool> {
        let prepare = |basis: &Basis| Ok(self.find_out(basis.logstore(name)?, basis));
        let told = self.change(name, prepare, |basis, found| {
            let logstore = basis.logstore(name)?;
            match (found, &basis.lane) {
                (Ok((found, refusal)), lane) => {
                    if lane.is_some() {
                        self.refuse(name, refusal);
                    }
                    match found {
                        Found::Same => Ok(None),
                        Found::Other(used, chain) => {
                            Ok(Some(swap(&mut self.running(), &name.to_string(), used, chain)))
                        }
                        Found::Stopped(prepared, fallback) => {
                            self.revive(&basis.config, *prepared)?;
                            if let Some(fallback) = fallback {
                                fallback.write_down(name, &self.registry);
                            }
                            Ok(Some(None))
                        }
                    }
                }
                (Err(problems), None) => {
                    self.is_stopped_by(logstore, problems);
                    Ok(None)
                }
                (Err(problems), Some(_)) => {
                    self.refuse(name, Some(Refusal { tried: None, problems }));
                    Ok(None)
                }
            }
        })?;
        let is_changed = told.is_some();
        wait_for(told.flatten().into_iter().collect(), &self.is_stopping);
        Ok(is_changed)
    }

    fn find_out(&self, logstore: &Arc<Logstore>, basis: &Basis) -> Result<(Found, Option<Refusal>), Vec<Problem>> {
        let mut plugins = self.plugins();
        let budget = self.running().tenants[&logstore.name.project].budget.clone();
        let Some(lane) = &basis.lane else {
            let made = by_choice(&basis.choice, "its files had changed", &self.is_stopping, |version| {
                let used = plugins.resolve_with(logstore, version)?;
                let chain = chain_to_stay(logstore, &used, &budget)?;
                Ok((logstore.clone(), used, chain))
            });
            let (prepared, fallback) = made?;
            return Ok((Found::Stopped(Box::new(prepared), fallback), None));
        };
        let (used, refusal) = self.resolve_checked(logstore, basis.choice.active, &mut plugins, lane, &budget)?;
        // What was refused may be a table, which is there all the same.
        let is_kept = refusal.is_some() && is_same_but_files(&used, &lane.used);
        if is_kept || is_same(&used, &lane.used) {
            return Ok((Found::Same, refusal));
        }
        let chain = chain(&used, logstore.on_fault, &budget)?;
        Ok((Found::Other(used, chain), refusal))
    }

    /// The plugins of a logstore that runs, with that version of what was uploaded. A file that has changed beneath what
    /// runs, and cannot be used or is refused, is left out: what runs stays in its place.
    pub(super) fn resolve_checked(
        &self,
        logstore: &Arc<Logstore>,
        version: u64,
        plugins: &mut Plugins,
        lane: &RunningLane,
        budget: &Arc<Budget>,
    ) -> Result<(Vec<Used>, Option<Refusal>), Vec<Problem>> {
        let (mut used, unusable) = plugins.resolve_beside(logstore, version, &lane.used)?;
        let unusable = (!unusable.is_empty()).then_some(Refusal { tried: None, problems: unusable });
        if self.is_stopping() {
            return Err(vec![Problem::new(logstore.place.clone(), "weir is stopping")]);
        }
        if !used.iter().any(|now| lane.used.iter().any(|before| now.is_changed(before))) {
            return Ok((used, unusable));
        }
        let is_it = |refusal: &&Refusal| refusal.tried.as_ref().is_some_and(|tried| is_same(tried, &used));
        let known = lock(&self.refusals).get(&logstore.name.to_string()).filter(is_it).cloned();
        let refusal = match known {
            None => self.try_out(logstore, &lane.used, &used, budget).err(),
            known => known,
        };
        if self.is_stopping() {
            return Err(vec![Problem::new(logstore.place.clone(), "weir is stopping")]);
        }
        if refusal.is_some() {
            keep(&mut used, &lane.used);
            return Ok((used, refusal));
        }
        Ok((used, unusable))
    }

    /// Objects to a chain that does worse on the logstore's last lines than the one that runs, as it does to an upload.
    fn try_out(
        &self,
        logstore: &Arc<Logstore>,
        before: &[Used],
        used: &[Used],
        budget: &Arc<Budget>,
    ) -> Result<(), Refusal> {
        let untried = |problems| Refusal { tried: None, problems };
        let problem = |message: String| vec![Problem::new(logstore.place.clone(), message)];
        let candidate = chain(used, logstore.on_fault, budget).map_err(untried)?;
        let recent = settings::source(&logstore.files, self.tags.clone())
            .and_then(|settings| source::recent(&settings, dry_run::BYTES))
            .map_err(|error| untried(problem(format!("reading its last lines: {error:#}"))))?;
        // What runs now may be in no state to be tried.
        let before: Vec<_> = before.iter().map(Used::beside).collect();
        let running = chain(&before, logstore.on_fault, budget).ok();
        let report = dry_run::dry_run_until(&self.is_stopping, candidate, running, &recent);
        let refuse = |objection| Err(Refusal { tried: Some(used.to_vec()), problems: problem(objection) });
        report.objection().map_or(Ok(()), refuse)
    }

    /// Remembers why plugins' files that have changed are not used, or that nothing is wrong with them.
    pub(super) fn refuse(&self, name: &LogstoreName, refusal: Option<Refusal>) {
        let name = name.to_string();
        let Some(refusal) = refusal else { return drop(lock(&self.refusals).remove(&name)) };
        let before = lock(&self.refusals).insert(name, refusal.clone());
        if before.is_none_or(|before| before.words() != refusal.words()) {
            for problem in &refusal.problems {
                let (place, problem) = (&problem.place.path, problem.in_file(&self.file_name));
                tracing::error!(place, "a plugin's file has changed and cannot be used; what ran goes on: {problem}");
            }
        }
    }

    /// Begins a logstore that did not run.
    pub(super) fn revive(&self, config: &Config, prepared: Prepared) -> Result<()> {
        let place = prepared.0.place.path.clone();
        // Nobody may have used its sinks until now.
        self.sinks.add(config, &prepared.0)?;
        self.begin(prepared, None)?;
        lock(&self.published).problems.retain(|problem| !problem.place.path.starts_with(&place));
        Ok(())
    }

    /// Says what keeps a logstore from running by now.
    fn is_stopped_by(&self, logstore: &Logstore, problems: Vec<Problem>) {
        for problem in &problems {
            tracing::error!("this logstore is not read: {}", problem.in_file(&self.file_name));
        }
        let known = &mut lock(&self.published).problems;
        known.retain(|problem| !problem.place.path.starts_with(&logstore.place.path));
        known.extend(problems);
    }
}

fn is_same_but_files(used: &[Used], other: &[Used]) -> bool {
    let without = |used: &[Used]| used.iter().map(|used| Used { files: None, ..used.clone() }).collect::<Vec<_>>();
    is_same(&without(used), &without(other))
}

/// Puts what runs in the place of files that have changed.
pub(super) fn keep(used: &mut [Used], before: &[Used]) {
    for now in used {
        if let Some(before) = before.iter().find(|before| now.is_changed(before)) {
            now.plugin = before.plugin.clone();
        }
    }
}
