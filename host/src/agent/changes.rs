//! What a change is prepared for, which may be another when it is made; and what runs in the place of a version that
//! cannot be used.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use super::lanes::{Prepared, Running, RunningLane, chain_to_stay};
use super::plugins::Plugins;
use super::{Agent, joined, lock};
use crate::config::{Config, Logstore, LogstoreName, Problem};
use crate::registry::{Choice, Registry};

/// What a change of a logstore is prepared for.
pub(super) struct Basis {
    /// The configuration that is in force.
    pub config: Arc<Config>,
    /// What is chosen of what was uploaded.
    pub choice: Choice,
    /// What runs, if it does.
    pub lane: Option<Box<RunningLane>>,
}

impl Basis {
    /// The logstore by the configuration that is in force.
    pub fn logstore(&self, name: &LogstoreName) -> Result<&Arc<Logstore>> {
        let found = self.config.logstores.iter().find(|logstore| logstore.name == *name);
        found.context("there is no such logstore")
    }

    fn is_same(&self, other: &Basis) -> bool {
        let change = |basis: &Basis| basis.lane.as_ref().map(|lane| lane.change);
        Arc::ptr_eq(&self.config, &other.config) && self.choice == other.choice && change(self) == change(other)
    }
}

impl Agent {
    /// How it is with a logstore now.
    pub(super) fn basis(&self, name: &LogstoreName) -> Result<Basis> {
        let lane = self.running().lanes.get(&name.to_string()).cloned();
        Ok(Basis { config: self.config(), choice: self.registry.choice(name)?, lane })
    }

    /// Whether all is as it was.
    pub(super) fn is_still(&self, name: &LogstoreName, basis: &Basis) -> bool {
        self.basis(name).is_ok_and(|now| now.is_same(basis))
    }

    /// Prepares a change of a logstore while nobody waits for it, and makes it while nobody changes anything else. If
    /// something was changed meanwhile, it is prepared anew.
    pub(super) fn change<P, T>(
        &self,
        name: &LogstoreName,
        prepare: impl Fn(&Basis) -> Result<P>,
        make: impl FnOnce(Basis, P) -> Result<T>,
    ) -> Result<T> {
        let mut basis = self.basis(name)?;
        let mut prepared = prepare(&basis)?;
        let _changing = lock(&self.changing);
        if !self.is_still(name, &basis) {
            basis = self.basis(name)?;
            prepared = prepare(&basis)?;
        }
        make(basis, prepared)
    }
}

/// A version that runs in the place of the one that is chosen, which cannot be used.
pub(super) struct Fallback {
    chosen: u64,
    runs: u64,
    note: String,
}

/// What is made of the version that is chosen; or if that is of no use, of the version before it, or else of what is
/// configured. `when` says in words when that was.
pub(super) fn by_choice<T>(
    choice: &Choice,
    when: &str,
    is_stopping: &AtomicBool,
    mut make: impl FnMut(u64) -> Result<T, Vec<Problem>>,
) -> Result<(T, Option<Fallback>), Vec<Problem>> {
    let problems = match make(choice.active) {
        Err(problems) if choice.active != 0 => problems,
        made => return made.map(|made| (made, None)),
    };
    for runs in choice.before.into_iter().filter(|before| *before != 0).chain([0]) {
        let Ok(made) = make(runs) else { continue };
        // What stops compiles nothing, which says nothing of the version.
        if is_stopping.load(Ordering::Relaxed) {
            break;
        }
        let note = format!("could not be used when {when}: {}", joined(problems));
        return Ok((made, Some(Fallback { chosen: choice.active, runs, note })));
    }
    Err(problems)
}

impl Fallback {
    /// Says so, and writes it down.
    pub fn write_down(&self, name: &LogstoreName, registry: &Registry) {
        let Fallback { chosen, runs, note } = self;
        tracing::error!(logstore = %name, version = chosen, "{note}; instead of it runs version {runs}");
        if let Err(error) = registry.fall_back(name, *runs, note) {
            tracing::error!(logstore = %name, "that is not written down: {error}");
        }
    }
}

/// A logstore at the start. What was written down and could not be tried before the agent was killed may be of no use,
/// and its files are to be read all the same.
pub(super) fn prepare_at_start(
    running: &Running,
    logstore: &Arc<Logstore>,
    plugins: &mut Plugins,
    registry: &Registry,
    is_stopping: &AtomicBool,
) -> Result<Prepared, Vec<Problem>> {
    let budget = &running.tenants[&logstore.name.project].budget;
    let choice = plugins.choice(logstore)?;
    let (prepared, fallback) = by_choice(&choice, "the agent started", is_stopping, |version| {
        let used = plugins.resolve_with(logstore, version)?;
        let chain = chain_to_stay(logstore, &used, budget)?;
        Ok((logstore.clone(), used, chain))
    })?;
    if let Some(fallback) = fallback {
        fallback.write_down(&logstore.name, registry);
    }
    Ok(prepared)
}
