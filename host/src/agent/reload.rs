//! From one configuration to the next, while logstores run: what is the same goes on undisturbed.
//!
//! All is checked first, and nothing is changed if anything is wrong. Then a logstore whose plugins alone are others gets
//! them between two batches. One whose files or sinks are others ends, when what it has in flight is settled, and begins
//! anew where that was. If its sink takes too long for that, it begins where the last was settled, so that its new sink
//! gets what the old one did not take.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::changes::{Basis, Fallback, by_choice};
use super::files::Refusal;
use super::lanes::{Prepared, RunningLane, Tenant, chain_beside, chain_to_stay};
use super::plugins::{Plugins, Used};
use super::swap::{is_same, plugins_of, swap, wait_for};
use super::{Agent, Published, for_agent, lock};
use crate::budget::Budget;
use crate::config::{Admin, Config, ConfigErrors, Logstore, Place, Problem, ServerTls};
use crate::confine::Needs;
use crate::lane::orders::Order;
use crate::sandbox::Chain;

/// A lane that is to end has so long to settle what it has in flight.
const SETTLE: Duration = Duration::from_secs(5);

/// Why no change is made any more.
const STOPPING: &str = "weir is stopping";

/// What a new configuration has changed, by `project/logstore`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Changed {
    /// Logstores that began.
    pub added: BTreeSet<String>,
    /// Logstores that ended.
    pub removed: BTreeSet<String>,
    /// Logstores that have other plugins.
    pub plugins: BTreeSet<String>,
    /// Logstores that have other files or sinks, and were begun anew.
    pub restarted: BTreeSet<String>,
    /// Logstores that nothing has changed for.
    pub untouched: usize,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let kinds = [
            ("added", &self.added),
            ("removed", &self.removed),
            ("with other plugins", &self.plugins),
            ("with other files or sinks", &self.restarted),
        ];
        let said = kinds.iter().filter(|(_, names)| !names.is_empty());
        for (kind, names) in said {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            write!(f, "{kind}: {}; ", names.join(", "))?;
        }
        write!(f, "untouched: {}", self.untouched)
    }
}

/// What is to be done with a logstore.
struct Plan {
    logstore: Arc<Logstore>,
    step: Step,
    /// What it was prepared for.
    basis: Basis,
    /// What it runs, if what is chosen cannot be used.
    fallback: Option<Fallback>,
    /// Why a plugin's file that has changed is left out.
    refusal: Option<Refusal>,
}

enum Step {
    Begin(Vec<Used>, Chain),
    Swap(Vec<Used>, Chain),
    BeginAnew(Vec<Used>, Chain),
    /// Only what is said about it is another: the place in the file, for one.
    Note,
}

impl Plan {
    fn name(&self) -> String {
        self.logstore.name.to_string()
    }
}

impl Agent {
    /// Goes on with another configuration. If anything is wrong with it, nothing changes. `file` is its name, for
    /// messages.
    pub fn reload(&self, config: &Config, file: &str) -> Result<Changed> {
        let _reloading = lock(&self.reloading);
        self.reload_in_turn(config, file)
    }

    /// The same for whoever has the right to.
    pub(super) fn reload_in_turn(&self, config: &Config, file: &str) -> Result<Changed> {
        let changed = self.reload_for_us(for_agent(config, &self.groups, self.memory), file)?;
        self.go_on_with_trials();
        Ok(changed)
    }

    fn reload_for_us(&self, config: Config, file: &str) -> Result<Changed> {
        let errors = |problems| ConfigErrors::new(file, problems);
        let problems = self.impossible(&config);
        if !problems.is_empty() {
            return Err(errors(problems).into());
        }
        // Their plugins' memory is counted from the start.
        self.running().add_projects(&config.projects, &self.schedule);
        let plugins = self.plugins().looking_in(&config.plugin_dirs);
        let mut plans = self.plan(&config, &plugins).map_err(errors)?;
        let changing = lock(&self.changing);
        for plan in &mut plans {
            if !self.is_still(&plan.logstore.name, &plan.basis) {
                *plan = self.plan_one(&plan.logstore, &config, &plugins).map_err(errors)?;
            }
        }
        // What may fail does so before anything ends.
        ensure!(!self.is_stopping(), STOPPING);
        self.checkpoint.flush()?;
        let used: BTreeSet<_> = config.logstores.iter().flat_map(|logstore| &logstore.sinks).collect();
        let next = self.sinks.prepare(&config, |name| used.contains(&name.to_owned()))?;

        let removed = self.removed(&config);
        let owed = self.end_lanes(&config, &plans, &removed);
        // All lanes come to their ends in any case.
        ensure!(!self.is_stopping(), STOPPING);
        if let Err(error) = self.checkpoint.flush() {
            tracing::error!("{error:#}; what logstores that begin anew had settled since it was written comes again");
        }
        let gone = self.sinks.go_on_with(next);
        *lock(&self.plugins) = plugins.clone();
        let (changed, problems, told) = self.carry_out(plans, removed, &owed);
        let names: BTreeSet<_> = config.logstores.iter().map(|logstore| logstore.name.to_string()).collect();
        lock(&self.refusals).retain(|name, _| names.contains(name));
        self.running().failed.retain(|name| names.contains(name));
        self.logs.keep(|name| names.contains(name));
        *lock(&self.published) = Published { config: Arc::new(config), problems };
        drop(changing);
        plugins.forget_unused();
        // Nothing is on its way to them that anybody waits for.
        gone.iter().for_each(|sender| sender.close(Duration::ZERO));
        wait_for(told, &self.is_stopping);
        Ok(changed)
    }

    /// Has lanes end that are to begin anew or are gone from the configuration, which its projects are given by then.
    /// Gives what each of those that have ended had read and not settled.
    fn end_lanes(&self, config: &Config, plans: &[Plan], removed: &BTreeSet<String>) -> BTreeMap<String, u64> {
        // Whoever only looks does not wait for lanes that end.
        let ending: Vec<_> = {
            let mut running = self.running();
            running.set_projects(&config.projects, &self.schedule);
            let restarted = plans.iter().filter(|plan| matches!(plan.step, Step::BeginAnew(..))).map(Plan::name);
            for name in removed {
                running.lanes.entry(name.clone()).and_modify(|lane| lane.is_ending = true);
            }
            let names = restarted.chain(removed.iter().cloned());
            names.filter_map(|name| running.lanes.get(&name).cloned().map(|lane| (name, lane))).collect()
        };
        // All are asked before any is waited for.
        ending.iter().for_each(|(_, lane)| lane.orders.give(Order::Retire));
        let deadline = Instant::now() + SETTLE;
        ending.into_iter().filter_map(|(name, lane)| Some((name, self.end_lane(&lane, deadline)?))).collect()
    }

    /// Does what is planned. A logstore that cannot begin is left out, and begun later. Gives what has changed, what is
    /// wrong with those left out, and where others say when they have changed.
    fn carry_out(
        &self,
        plans: Vec<Plan>,
        removed: BTreeSet<String>,
        owed: &BTreeMap<String, u64>,
    ) -> (Changed, Vec<Problem>, Vec<mpsc::Receiver<()>>) {
        for name in &removed {
            self.let_go(name, owed.contains_key(name));
        }
        let mut changed = Changed { removed, ..Changed::default() };
        let (mut problems, mut told) = (Vec::new(), Vec::new());
        for plan in plans {
            let name = plan.name();
            let Plan { logstore, step, fallback, refusal, .. } = plan;
            if let Some(fallback) = fallback {
                fallback.write_down(&logstore.name, &self.registry);
            }
            self.refuse(&logstore.name, refusal);
            let place = logstore.place.clone();
            let begun = match step {
                Step::Begin(used, chain) => {
                    changed.added.insert(name.clone());
                    self.begin((logstore, used, chain), None)
                }
                Step::BeginAnew(used, chain) => {
                    changed.restarted.insert(name.clone());
                    self.begin_anew(&name, (logstore, used, chain), owed.get(&name).copied())
                }
                Step::Swap(used, chain) => {
                    let mut running = self.running();
                    told.extend(swap(&mut running, &name, used, chain));
                    if let Some(lane) = running.lanes.get_mut(&name) {
                        lane.logstore = logstore;
                    }
                    changed.plugins.insert(name.clone());
                    Ok(())
                }
                Step::Note => {
                    if let Some(lane) = self.running().lanes.get_mut(&name) {
                        lane.logstore = logstore;
                    }
                    changed.untouched += 1;
                    Ok(())
                }
            };
            if let Err(error) = begun {
                let problem = Problem::new(place, format!("it could not begin, and is tried again: {error:#}"));
                tracing::error!("this logstore is not read: {}", problem.in_file(&self.file_name));
                changed.added.remove(&name);
                changed.restarted.remove(&name);
                self.running().failed.insert(name);
                problems.push(problem);
            }
        }
        (changed, problems, told)
    }

    /// What of a configuration cannot be had without starting again.
    fn impossible(&self, config: &Config) -> Vec<Problem> {
        let now = self.config();
        let same = [
            ("data_dir", now.data_dir == config.data_dir),
            ("workers", now.workers == config.workers),
            ("confine", now.confine == config.confine),
            ("dead_letters", now.dead_letters == config.dead_letters),
            ("admin", fixed_of(&now.admin) == fixed_of(&config.admin)),
        ];
        let fixed = same.iter().filter(|(_, is_same)| !is_same).map(|(key, _)| {
            let place = Place { path: (*key).to_owned(), ..Place::default() };
            Problem::new(place, "cannot change while weir runs: start it again")
        });
        let mut problems: Vec<_> = fixed.collect();
        if let Some(granted) = &self.granted {
            let lacking = Needs::of(config, config.logstores.iter()).lacking(granted);
            let place = || Place { path: "confine".to_owned(), ..Place::default() };
            let said = |what| format!("{what} is not what this process has confined itself to: start weir again");
            problems.extend(lacking.into_iter().map(|what| Problem::new(place(), said(what))));
        }
        problems
    }

    /// What is to be done with each logstore of a configuration, or what is wrong.
    fn plan(&self, config: &Config, plugins: &Plugins) -> Result<Vec<Plan>, Vec<Problem>> {
        let (mut plans, mut problems) = (Vec::new(), Vec::new());
        for logstore in &config.logstores {
            match self.plan_one(logstore, config, plugins) {
                Ok(plan) => plans.push(plan),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() { Ok(plans) } else { Err(problems) }
    }

    fn plan_one(&self, logstore: &Arc<Logstore>, config: &Config, plugins: &Plugins) -> Result<Plan, Vec<Problem>> {
        let wrong = |error: anyhow::Error| vec![Problem::new(logstore.place.clone(), format!("{error:#}"))];
        let basis = self.basis(&logstore.name).map_err(wrong)?;
        let Tenant { budget, has_memory, .. } = self.running().tenants[&logstore.name.project].clone();
        let project = config.projects.get(&logstore.name.project);
        let memory = project.and_then(|project| project.budget()).map(|bytes| bytes as usize);
        let has_memory_still = has_memory == project.is_some_and(|project| project.memory.is_some());
        let (lane, mut plugins) = (basis.lane.as_ref(), plugins.clone());
        let differs = |sink: &String| self.sinks.differs(sink, config);
        let is_moved = lane.is_some_and(|lane| {
            let before = &lane.logstore;
            let waits_otherwise = logstore.sinks.len() > 1 && !has_memory_still;
            before.files != logstore.files
                || before.sinks != logstore.sinks
                || logstore.sinks.iter().any(differs)
                || waits_otherwise
        });
        let make = |version| {
            let (used, refusal) = match lane {
                Some(lane) => self.resolve_checked(logstore, version, &mut plugins, lane, &budget)?,
                None => (plugins.resolve_with(logstore, version)?, None),
            };
            let stays = |lane: &RunningLane| {
                !is_moved && lane.logstore.on_fault == logstore.on_fault && is_same(&used, &lane.used)
            };
            let chain = match lane.is_some_and(|lane| stays(lane)) {
                true => {
                    // It must be able to go on with less.
                    if memory.is_some_and(|memory| budget.limit().is_none_or(|limit| memory < limit)) {
                        chain_to_stay(logstore, &used, &Budget::new(memory))?;
                    }
                    None
                }
                false => Some(chain_beside(logstore, &used, &budget, memory)?),
            };
            Ok((used, chain, refusal))
        };
        let made = by_choice(&basis.choice, "the configuration changed", &self.is_stopping, make);
        let ((used, chain, refusal), fallback) = made?;
        let step = match (lane, chain) {
            (_, None) => Step::Note,
            (None, Some(chain)) => Step::Begin(used, chain),
            (Some(_), Some(chain)) if is_moved => Step::BeginAnew(used, chain),
            (Some(_), Some(chain)) => Step::Swap(used, chain),
        };
        Ok(Plan { logstore: logstore.clone(), step, basis, fallback, refusal })
    }

    fn removed(&self, config: &Config) -> BTreeSet<String> {
        let stay: BTreeSet<_> = config.logstores.iter().map(|logstore| logstore.name.to_string()).collect();
        self.running().lanes.keys().filter(|name| !stay.contains(*name)).cloned().collect()
    }

    /// Begins a logstore again whose lane had read so many events that were not settled when it ended.
    fn begin_anew(&self, name: &str, (logstore, used, chain): Prepared, owed: Option<u64>) -> Result<()> {
        let (tenant, lane) = {
            let mut running = self.running();
            let change = running.next_change();
            let Some(mut lane) = running.lanes.get(name).cloned() else { return Ok(()) };
            lane.plugins = plugins_of(&lane, &used);
            (lane.logstore, lane.used, lane.canary, lane.change) = (logstore, used, None, change);
            (running.tenants[&lane.logstore.name.project].clone(), lane)
        };
        let has_ended = owed.is_some();
        let ready = owed.context("a turn of it takes too long");
        let ready = ready.and_then(|owed| self.ready(&tenant, &lane, chain, owed, None));
        let ready = ready.inspect_err(|_| self.let_go(name, has_ended))?;
        let mut running = self.running();
        let number = lane.number;
        running.lanes.insert(name.to_owned(), lane);
        self.schedule.add(number, ready);
        Ok(())
    }

    /// Forgets a lane. Its number can be used again if it has ended.
    fn let_go(&self, name: &str, has_ended: bool) {
        let mut running = self.running();
        if let Some(lane) = running.lanes.remove(name)
            && has_ended
        {
            self.free(&mut running, &lane);
        }
    }
}

/// What a server cannot change while it listens.
fn fixed_of(admin: &Option<Admin>) -> Option<(SocketAddr, &Option<ServerTls>)> {
    admin.as_ref().map(|admin| (admin.listen, &admin.tls))
}
