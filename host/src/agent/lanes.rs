//! The logstores that run: how each was begun, and how to reach it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::plugins::{Used, chain};
use super::{Agent, settings};
use crate::books::LogstoreBooks;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::config::{self, Logstore, Problem};
use crate::lane::glance::Glances;
use crate::lane::orders::{Order, Orders};
use crate::lane::{Lane, Parts, Scratch, Tap};
use crate::metrics::{Accounts, PluginAccounts};
use crate::pace::Pace;
use crate::registry::Canary;
use crate::sandbox::Chain;
use crate::schedule::{ProjectNumber, Schedule};
use crate::sink::Returns;
use crate::source::Source;
use crate::source::watch::News;

/// Whoever waits looks so often whether the agent is to stop.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// All that runs.
#[derive(Default)]
pub(super) struct Running {
    pub tenants: BTreeMap<String, Tenant>,
    /// By `project/logstore`.
    pub lanes: BTreeMap<String, Box<RunningLane>>,
    /// Logstores that could not begin anew when the configuration changed, as something failed that may be well again.
    pub failed: BTreeSet<String>,
    /// Numbers of lanes that are gone, by project: to be used again.
    free: BTreeMap<String, Vec<usize>>,
    /// How often what a lane runs was changed.
    changes: u64,
}

/// A project while it runs.
#[derive(Clone)]
pub(super) struct Tenant {
    pub number: ProjectNumber,
    pub budget: Arc<Budget>,
    /// Whether the configuration says how much memory it has.
    pub has_memory: bool,
    pace: Arc<Pace>,
}

/// A lane, as those see it who do not own it.
#[derive(Clone)]
pub(super) struct RunningLane {
    pub logstore: Arc<Logstore>,
    pub number: usize,
    pub orders: Arc<Orders>,
    pub accounts: Arc<Accounts>,
    pub used: Vec<Used>,
    pub plugins: Vec<Arc<PluginAccounts>>,
    pub canary: Option<CanaryRun>,
    /// What it says of itself.
    pub glances: Arc<Glances>,
    /// Another number after each change of what it runs.
    pub change: u64,
    /// Whether it is not in the configuration any more, and only what is in flight settles.
    pub is_ending: bool,
}

/// A version that a part of a lane's files tries.
#[derive(Clone)]
pub(super) struct CanaryRun {
    pub canary: Canary,
    pub used: Vec<Used>,
    pub plugins: Vec<Arc<PluginAccounts>>,
    pub begun: Instant,
    /// What the version that is active had been given and had failed on when it began.
    pub before: (u64, u64),
}

/// What a logstore needs to begin.
pub(super) type Prepared = (Arc<Logstore>, Vec<Used>, Chain);

impl RunningLane {
    /// The number of the uploaded version that runs; 0 if there is none.
    pub fn active(&self) -> u64 {
        self.used.iter().map(|used| used.version).max().unwrap_or(0)
    }

    pub fn books(&self) -> LogstoreBooks {
        let names = self.used.iter().map(|used| used.plugin.name().to_owned());
        LogstoreBooks {
            project: self.logstore.name.project.clone(),
            accounts: self.accounts.clone(),
            plugins: names.zip(self.plugins.iter().cloned()).collect(),
        }
    }
}

impl Running {
    /// Gives projects what they are to have from now on. Those that are gone are kept, and have nothing to do.
    pub fn set_projects(&mut self, projects: &BTreeMap<String, config::Project>, schedule: &Arc<Schedule<Scratch>>) {
        self.add_projects(projects, schedule);
        for (name, project) in projects {
            let Some(tenant) = self.tenants.get_mut(name) else { continue };
            schedule.set_project(tenant.number, project.share, project.cpu);
            tenant.budget.set_limit(project.budget().map(|bytes| bytes as usize));
            tenant.has_memory = project.memory.is_some();
        }
    }

    /// Adds those that are not there yet.
    pub fn add_projects(&mut self, projects: &BTreeMap<String, config::Project>, schedule: &Arc<Schedule<Scratch>>) {
        for (name, project) in projects.iter().filter(|(name, _)| !self.tenants.contains_key(*name)).collect::<Vec<_>>()
        {
            let number = schedule.project(project.share, project.cpu);
            let budget = Budget::new(project.budget().map(|bytes| bytes as usize));
            let has_memory = project.memory.is_some();
            self.tenants.insert(name.clone(), Tenant { number, budget, has_memory, pace: Arc::default() });
        }
    }

    /// A number for what a lane runs from now on.
    pub fn next_change(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }
}

/// A chain that comes to stay, or what is wrong with each of its plugins. All have taken their settings.
pub(super) fn chain_to_stay(logstore: &Logstore, used: &[Used], budget: &Arc<Budget>) -> Result<Chain, Vec<Problem>> {
    let mut chain = chain(used, logstore.on_fault, budget)?;
    // Many will have nothing to do for long; and what comes to stay is not scattered among instances.
    chain.begin();
    Ok(chain)
}

/// The same for a project that may be using all its memory, which must keep no change of the configuration from others:
/// what its plugins need to take their settings is not counted, and is given back at once. `memory` is what it may use.
pub(super) fn chain_beside(
    logstore: &Logstore,
    used: &[Used],
    budget: &Arc<Budget>,
    memory: Option<usize>,
) -> Result<Chain, Vec<Problem>> {
    match chain_to_stay(logstore, used, budget) {
        Err(_) if budget.limit().is_some() => {}
        made => return made,
    }
    let mut chain = chain(used, logstore.on_fault, &Budget::new(memory))?;
    chain.begin_with(budget);
    Ok(chain)
}

impl Agent {
    /// Begins a logstore.
    pub(super) fn begin(&self, (logstore, used, chain): Prepared, tap: Option<Tap>) -> Result<()> {
        let name = logstore.name.to_string();
        let (tenant, number, change) = {
            let mut running = self.running();
            let tenant = running.tenants[&logstore.name.project].clone();
            let free = running.free.get_mut(&logstore.name.project).and_then(Vec::pop);
            let number = free.unwrap_or_else(|| {
                let number = self.schedule.reserve(tenant.number);
                tenant.budget.join(self.wake(number));
                number
            });
            (tenant, number, running.next_change())
        };
        let plugins = chain.stages().iter().map(|_| Arc::default()).collect();
        let orders = Orders::new(self.wake(number));
        let (accounts, glances) = Default::default();
        let lane = RunningLane {
            logstore,
            number,
            orders,
            accounts,
            used,
            plugins,
            canary: None,
            glances,
            change,
            is_ending: false,
        };
        let ready = self.ready(&tenant, &lane, chain, 0, tap);
        let mut running = self.running();
        match ready {
            Ok(ready) => {
                running.failed.remove(&name);
                running.lanes.insert(name, Box::new(lane));
                self.schedule.add(number, ready);
                Ok(())
            }
            Err(error) => {
                self.free(&mut running, &lane);
                Err(error)
            }
        }
    }

    /// The lane of a logstore, to be put to work when its number is free. `owed`: events of its accounts that it has yet
    /// to read again.
    pub(super) fn ready(
        &self,
        tenant: &Tenant,
        running: &RunningLane,
        chain: Chain,
        owed: u64,
        tap: Option<Tap>,
    ) -> Result<Box<Lane>> {
        let RunningLane { logstore, number, orders, accounts, plugins, .. } = running;
        let (name, number) = (logstore.name.to_string(), *number);
        let settings = settings::source(&logstore.files, self.tags.clone())?;
        let outlets = self.sinks.outlets(logstore, tenant.has_memory)?;
        let known = self.checkpoint.load(&name)?;
        let source = Source::new(settings, known, self.watch.clone(), News::new(self.wake(number)))?;
        for (id, position) in source.begun() {
            self.checkpoint.set(&name, id, position);
        }
        Ok(Box::new(Lane::new(Parts {
            source,
            chain,
            outlets,
            returns: Returns::new(self.wake(number)),
            checkpoint: self.checkpoint.clone(),
            accounts: accounts.clone(),
            plugins: plugins.clone(),
            budget: tenant.budget.clone(),
            pace: Some(tenant.pace.clone()),
            mode: self.mode.clone(),
            orders: orders.clone(),
            owed,
            clock: Clock::default(),
            tap,
            name,
        })))
    }

    fn wake(&self, number: usize) -> Box<dyn Fn() + Send + Sync> {
        let schedule = self.schedule.clone();
        Box::new(move || schedule.wake(number))
    }

    /// Has a lane end when what it has in flight is settled, or at once after the deadline. Gives how many events it had
    /// read that are not settled; none if it has not ended, as its turn takes too long or the agent is to stop.
    pub(super) fn end_lane(&self, lane: &RunningLane, deadline: Instant) -> Option<u64> {
        let mut is_gone = self.wait_gone(lane, deadline);
        if !is_gone && !self.is_stopping() {
            lane.orders.give(Order::Abandon);
            // A turn is bounded.
            is_gone = self.wait_gone(lane, Instant::now() + super::GRACE);
        }
        is_gone.then(|| lane.accounts.in_flight.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// Waits until it is done, no longer than the agent is to go on; whether it was so in time.
    fn wait_gone(&self, lane: &RunningLane, deadline: Instant) -> bool {
        loop {
            let now = Instant::now();
            if self.schedule.wait_gone(lane.number, deadline.min(now + LOOK_EVERY)) {
                return true;
            }
            if now >= deadline || self.is_stopping() {
                return false;
            }
        }
    }

    /// A lane's number can be used again.
    pub(super) fn free(&self, running: &mut Running, lane: &RunningLane) {
        running.free.entry(lane.logstore.name.project.clone()).or_default().push(lane.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests::component;
    use crate::config::{self, Place};
    use crate::sandbox::compile::Compiler;
    use crate::sandbox::{Given, Limits, Log, Sandbox};

    #[test]
    fn a_project_without_memory_left_keeps_no_change_from_others() {
        const MEMORY: usize = 1 << 20;
        let text = "logstores: [{ name: a/b, files: { root: /x }, sink: s }]\nsinks: { s: { type: blackhole } }\n";
        let logstore = config::parse(text, "/weir.yaml", &|_| None).unwrap().config.logstores.remove(0);
        let dir = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::new(Compiler::in_process(dir.path()).unwrap()).unwrap();
        let limits = Limits::default();
        let given = Given { limits, files: false };
        let plugin = sandbox.load_bytes(component(2, "").into(), "x", MEMORY as u64, &given).unwrap();
        let used = [Used {
            plugin,
            settings: "{}".to_owned(),
            limits,
            files: None,
            version: 0,
            reference: None,
            log: Log::of_author(),
            place: Place::default(),
        }];
        let budget = Budget::new(Some(MEMORY));
        budget.take(MEMORY);
        let refused = chain_to_stay(&logstore, &used, &budget).err().unwrap();
        assert!(refused[0].message.contains("project"), "{refused:?}");
        let chain = chain_beside(&logstore, &used, &budget, Some(MEMORY)).unwrap();
        assert_eq!((chain.stages().len(), budget.used()), (1, MEMORY));
        // It could never have as much.
        assert!(chain_beside(&logstore, &used, &budget, Some(64 << 10)).is_err());
    }

    #[test]
    fn limits_are_looked_at_before_anything_is_compiled() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.wasm");
        std::fs::write(&path, component(2, "")).unwrap();
        let sandbox = Sandbox::new(Compiler::in_process(&dir.path().join("cache")).unwrap()).unwrap();
        let limits = Limits { memory: 64 << 10, ..Limits::default() };
        let refused = |error: anyhow::Error| format!("{error:#}");
        let said =
            format!("plugin {}: it begins with 131072 bytes of memory, and 65536 are allowed here", path.display());
        assert_eq!(refused(sandbox.load_within(&path, &limits).err().unwrap()), said);
        assert_eq!(std::fs::read_dir(dir.path().join("cache")).unwrap().count(), 0);
        // Nor is one that is loaded already used beyond them.
        let plugin = sandbox.load_within(&path, &Limits::default()).unwrap();
        assert!(plugin.check_limits(&limits).is_err() && plugin.check_limits(&Limits::default()).is_ok());
    }
}
