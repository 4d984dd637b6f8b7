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

use anyhow::Result;

use super::lanes::{Running, RunningLane};
use super::plugins::{Plugins, Used};
use super::{Agent, for_groups, lock, settings};
use crate::budget::Budget;
use crate::config::{Admin, Config, ConfigErrors, Logstore, Place, Problem, ServerTls};
use crate::confine::Needs;
use crate::lane::orders::{NewChain, Order};
use crate::metrics::PluginAccounts;
use crate::sandbox::{Chain, dry_run};
use crate::source;

/// A lane that is to end has so long to settle what it has in flight.
const SETTLE: Duration = Duration::from_secs(5);

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
enum Plan {
    Begin(Logstore, Vec<Used>, Chain),
    Swap(String, Logstore, Vec<Used>, Chain),
    BeginAnew(String, Logstore, Vec<Used>, Chain),
    /// Only what is said about it is another: the place in the file, for one.
    Note(String, Logstore),
}

impl Agent {
    /// Goes on with another configuration. If anything is wrong with it, nothing changes. `file` is its name, for
    /// messages.
    pub fn reload(&self, config: &Config, file: &str) -> Result<Changed> {
        let config = for_groups(config, &self.groups);
        let changed = self.reload_for_us(config, file)?;
        self.go_on_with_trials();
        Ok(changed)
    }

    fn reload_for_us(&self, config: Config, file: &str) -> Result<Changed> {
        let mut plugins = lock(&self.plugins);
        let errors = |problems| ConfigErrors::new(file, problems);
        let problems = self.impossible(&config);
        if !problems.is_empty() {
            return Err(errors(problems).into());
        }
        let before = self.running().config.plugin_dirs.clone();
        plugins.look_in(&config.plugin_dirs);
        // Their plugins' memory is counted from the start.
        self.running().add_projects(&config.projects, &self.schedule);
        let planned = self.plan(&config, &mut plugins);
        let plans = match planned {
            Ok(plans) => plans,
            Err(problems) => {
                plugins.look_in(&before);
                return Err(errors(problems).into());
            }
        };
        let used: BTreeSet<_> = config.logstores.iter().flat_map(|logstore| &logstore.sinks).collect();
        let next = self.sinks.prepare(&config, |name| used.contains(&name.to_owned()))?;

        let removed = self.removed(&config);
        let mut changed = Changed { removed, ..Changed::default() };
        // Whoever only looks does not wait for lanes that end.
        let ending: Vec<_> = {
            let mut running = self.running();
            running.set_projects(&config.projects, &self.schedule);
            let restarted = plans.iter().filter_map(|plan| match plan {
                Plan::BeginAnew(name, ..) => Some(name),
                _ => None,
            });
            for name in &changed.removed {
                running.lanes.entry(name.clone()).and_modify(|lane| lane.is_ending = true);
            }
            let names = restarted.chain(&changed.removed);
            names.map(|name| (name.clone(), running.lanes[name].clone())).collect()
        };
        // All are asked before any is waited for.
        ending.iter().for_each(|(_, lane)| lane.orders.give(Order::Retire));
        let deadline = Instant::now() + SETTLE;
        let owed: BTreeMap<_, _> =
            ending.iter().map(|(name, lane)| (name.clone(), self.end_lane(lane, deadline))).collect();
        let mut running = self.running();
        self.checkpoint.flush()?;
        let gone = self.sinks.go_on_with(next);
        for name in &changed.removed {
            if let Some(lane) = running.lanes.remove(name) {
                self.free(&mut running, &lane);
            }
        }
        let mut told = Vec::new();
        for plan in plans {
            match plan {
                Plan::Begin(logstore, used, chain) => {
                    changed.added.insert(logstore.name.to_string());
                    self.begin(&mut running, logstore, used, chain, None)?;
                }
                Plan::Swap(name, logstore, used, chain) => {
                    told.extend(swap(&mut running, &name, used, chain));
                    if let Some(lane) = running.lanes.get_mut(&name) {
                        lane.logstore = logstore;
                    }
                    changed.plugins.insert(name);
                }
                Plan::BeginAnew(name, logstore, used, chain) => {
                    self.begin_anew(&mut running, &name, logstore, used, chain, owed[&name])?;
                    changed.restarted.insert(name);
                }
                Plan::Note(name, logstore) => {
                    if let Some(lane) = running.lanes.get_mut(&name) {
                        lane.logstore = logstore;
                    }
                    changed.untouched += 1;
                }
            }
        }
        running.problems = Vec::new();
        self.logs.keep(|name| config.logstores.iter().any(|logstore| logstore.name.to_string() == name));
        running.config = Arc::new(config);
        drop(running);
        plugins.forget_unused();
        // Nothing is on its way to them that anybody waits for.
        gone.iter().for_each(|sender| sender.close(Duration::ZERO));
        wait_for(told);
        Ok(changed)
    }

    /// Looks at the plugins' files again: a logstore gets those that have changed between two batches. Gives which did,
    /// and what is wrong with others, which go on as they are.
    pub fn reload_plugins(&self) -> (BTreeSet<String>, Vec<Problem>) {
        let mut plugins = lock(&self.plugins);
        let lanes: Vec<_> = {
            let running = self.running();
            running.lanes.values().map(|lane| (lane.logstore.clone(), lane.used.clone())).collect()
        };
        let (mut changed, mut problems, mut told) = (BTreeSet::new(), Vec::new(), Vec::new());
        for (logstore, before) in lanes {
            let resolved = plugins.resolve(&logstore).and_then(|used| {
                if is_same(&used, &before) {
                    return Ok(None);
                }
                let budget = self.running().tenants[&logstore.name.project].budget.clone();
                self.try_out(&logstore, &before, &used, &budget)?;
                let chain = super::plugins::chain(&used, logstore.on_fault, &budget)?;
                Ok(Some((used, chain)))
            });
            match resolved {
                Ok(None) => {}
                Ok(Some((used, chain))) => {
                    let name = logstore.name.to_string();
                    told.extend(swap(&mut self.running(), &name, used, chain));
                    changed.insert(name);
                }
                Err(found) => problems.extend(found),
            }
        }
        plugins.forget_unused();
        wait_for(told);
        (changed, problems)
    }

    /// Objects to a chain that does worse on the logstore's last lines than the one that runs, as it does to an upload.
    fn try_out(
        &self,
        logstore: &Logstore,
        before: &[Used],
        used: &[Used],
        budget: &Arc<Budget>,
    ) -> Result<(), Vec<Problem>> {
        let chain = |used| super::plugins::chain(used, logstore.on_fault, budget);
        let problem = |message: String| vec![Problem::new(logstore.place.clone(), message)];
        let recent = settings::source(&logstore.files, self.tags.clone())
            .and_then(|settings| source::recent(&settings, dry_run::BYTES))
            .map_err(|error| problem(format!("reading its last lines: {error:#}")))?;
        // What runs now may be in no state to be tried.
        let report = dry_run::dry_run(chain(used)?, chain(before).ok(), &recent);
        report.objection().map_or(Ok(()), |objection| Err(problem(objection)))
    }

    /// What of a configuration cannot be had without starting again.
    fn impossible(&self, config: &Config) -> Vec<Problem> {
        let running = self.running();
        let now = &running.config;
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
        drop(running);
        if let Some(granted) = &self.granted {
            let lacking = Needs::of(config, config.logstores.iter()).lacking(granted);
            let place = || Place { path: "confine".to_owned(), ..Place::default() };
            let said = |what| format!("{what} is not what this process has confined itself to: start weir again");
            problems.extend(lacking.into_iter().map(|what| Problem::new(place(), said(what))));
        }
        problems
    }

    /// What is to be done with each logstore of a configuration, or what is wrong.
    fn plan(&self, config: &Config, plugins: &mut Plugins) -> Result<Vec<Plan>, Vec<Problem>> {
        let (mut plans, mut problems) = (Vec::new(), Vec::new());
        for logstore in &config.logstores {
            match self.plan_one(logstore, config, plugins) {
                Ok(plan) => plans.push(plan),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() { Ok(plans) } else { Err(problems) }
    }

    fn plan_one(&self, logstore: &Logstore, config: &Config, plugins: &mut Plugins) -> Result<Plan, Vec<Problem>> {
        let running = self.running();
        let name = logstore.name.to_string();
        let Some(lane) = running.lanes.get(&name) else {
            let (logstore, used, chain) = running.prepare(logstore, plugins)?;
            return Ok(Plan::Begin(logstore, used, chain));
        };
        let before = &lane.logstore;
        let differs = |sink: &String| self.sinks.differs(sink, config);
        let is_moved =
            before.files != logstore.files || before.sinks != logstore.sinks || logstore.sinks.iter().any(differs);
        let is_same = before.on_fault == logstore.on_fault && is_same(&plugins.resolve(logstore)?, &lane.used);
        if is_same && !is_moved {
            return Ok(Plan::Note(name, logstore.clone()));
        }
        let (logstore, used, chain) = running.prepare(logstore, plugins)?;
        Ok(match is_moved {
            true => Plan::BeginAnew(name, logstore, used, chain),
            false => Plan::Swap(name, logstore, used, chain),
        })
    }

    fn removed(&self, config: &Config) -> BTreeSet<String> {
        let stay: BTreeSet<_> = config.logstores.iter().map(|logstore| logstore.name.to_string()).collect();
        self.running().lanes.keys().filter(|name| !stay.contains(*name)).cloned().collect()
    }

    /// Begins a logstore again whose lane is gone.
    fn begin_anew(
        &self,
        running: &mut Running,
        name: &str,
        logstore: Logstore,
        used: Vec<Used>,
        chain: Chain,
        owed: u64,
    ) -> Result<()> {
        let Some(mut lane) = running.lanes.remove(name) else { return Ok(()) };
        lane.plugins = plugins_of(&lane, &used);
        (lane.logstore, lane.used, lane.canary) = (logstore, used, None);
        let begun = self.put_to_work(&running.tenants[&lane.logstore.name.project], &lane, chain, owed, None);
        running.lanes.insert(name.to_owned(), lane);
        begun
    }
}

/// What a server cannot change while it listens.
fn fixed_of(admin: &Option<Admin>) -> Option<(SocketAddr, &Option<ServerTls>)> {
    admin.as_ref().map(|admin| (admin.listen, &admin.tls))
}

/// Has a lane go on with another chain. Gives where it says when it does.
pub(super) fn swap(running: &mut Running, name: &str, used: Vec<Used>, chain: Chain) -> Option<mpsc::Receiver<()>> {
    let lane = running.lanes.get_mut(name)?;
    lane.plugins = plugins_of(lane, &used);
    (lane.used, lane.canary) = (used, None);
    let (done, told) = mpsc::channel();
    lane.orders.give(Order::Swap(NewChain { chain, plugins: lane.plugins.clone() }, done));
    Some(told)
}

/// What the plugins of a new chain count: those that stay, with all before them, count on.
fn plugins_of(lane: &RunningLane, used: &[Used]) -> Vec<Arc<PluginAccounts>> {
    let common = lane.used.iter().zip(used).take_while(|(before, now)| before.is_same(now)).count();
    (0..used.len()).map(|index| if index < common { lane.plugins[index].clone() } else { Default::default() }).collect()
}

fn is_same(used: &[Used], other: &[Used]) -> bool {
    used.len() == other.len() && used.iter().zip(other).all(|(used, other)| used.is_same(other))
}

/// Waits until lanes have done what they were told, which those that wait for something do later.
pub(super) fn wait_for(told: Vec<mpsc::Receiver<()>>) {
    let deadline = Instant::now() + Duration::from_secs(1);
    for told in told {
        let _ = told.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}
