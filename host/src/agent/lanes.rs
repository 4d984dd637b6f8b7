//! The logstores that run: how each was begun, and how to reach it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use super::plugins::{Plugins, Used, chain};
use super::{Agent, settings};
use crate::books::LogstoreBooks;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::config::{self, Config, Logstore, Problem};
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

/// All that runs.
pub(super) struct Running {
    /// What it was made of.
    pub config: Arc<Config>,
    pub tenants: BTreeMap<String, Tenant>,
    /// By `project/logstore`.
    pub lanes: BTreeMap<String, RunningLane>,
    /// Numbers of lanes that are gone, by project: to be used again.
    free: BTreeMap<String, Vec<usize>>,
    /// What keeps other logstores from running.
    pub problems: Vec<Problem>,
}

/// A project while it runs.
pub(super) struct Tenant {
    pub number: ProjectNumber,
    pub budget: Arc<Budget>,
    pace: Arc<Pace>,
}

/// A lane, as those see it who do not own it.
#[derive(Clone)]
pub(super) struct RunningLane {
    pub logstore: Logstore,
    pub number: usize,
    pub orders: Arc<Orders>,
    pub accounts: Arc<Accounts>,
    pub used: Vec<Used>,
    pub plugins: Vec<Arc<PluginAccounts>>,
    pub canary: Option<CanaryRun>,
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
pub(super) type Prepared = (Logstore, Vec<Used>, Chain);

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
    /// Nothing yet but the projects.
    pub fn new(config: &Config, schedule: &Arc<Schedule<Scratch>>) -> Self {
        let mut running = Running {
            config: Arc::new(config.clone()),
            tenants: BTreeMap::new(),
            lanes: BTreeMap::new(),
            free: BTreeMap::new(),
            problems: Vec::new(),
        };
        running.set_projects(&config.projects, schedule);
        running
    }

    /// Gives projects what they are to have from now on. Those that are gone are kept, and have nothing to do.
    pub fn set_projects(&mut self, projects: &BTreeMap<String, config::Project>, schedule: &Arc<Schedule<Scratch>>) {
        self.add_projects(projects, schedule);
        for (name, project) in projects {
            let tenant = &self.tenants[name];
            schedule.set_project(tenant.number, project.share, project.cpu);
            tenant.budget.set_limit(project.memory.map(|bytes| bytes as usize));
        }
    }

    /// Adds those that are not there yet.
    pub fn add_projects(&mut self, projects: &BTreeMap<String, config::Project>, schedule: &Arc<Schedule<Scratch>>) {
        for (name, project) in projects.iter().filter(|(name, _)| !self.tenants.contains_key(*name)).collect::<Vec<_>>()
        {
            let number = schedule.project(project.share, project.cpu);
            let budget = Budget::new(project.memory.map(|bytes| bytes as usize));
            self.tenants.insert(name.clone(), Tenant { number, budget, pace: Arc::default() });
        }
    }

    /// The chain of a logstore, with what it is made of; or what is wrong with it.
    pub fn prepare(&self, logstore: &Logstore, plugins: &mut Plugins) -> Result<Prepared, Vec<Problem>> {
        let active = plugins.choice(logstore)?.active;
        self.prepare_with(logstore, active, plugins)
    }

    /// The same with one version of what was uploaded; 0 is what is configured.
    pub fn prepare_with(
        &self,
        logstore: &Logstore,
        version: u64,
        plugins: &mut Plugins,
    ) -> Result<Prepared, Vec<Problem>> {
        let used = plugins.resolve_with(logstore, version)?;
        let budget = &self.tenants[&logstore.name.project].budget;
        let mut chain = chain(&used, logstore.on_fault, budget)?;
        // Many will have nothing to do for long; and what comes to stay is not scattered among instances.
        chain.begin();
        Ok((logstore.clone(), used, chain))
    }
}

impl Agent {
    /// Begins a logstore.
    pub(super) fn begin(
        &self,
        running: &mut Running,
        logstore: Logstore,
        used: Vec<Used>,
        chain: Chain,
        tap: Option<Tap>,
    ) -> Result<()> {
        let tenant = &running.tenants[&logstore.name.project];
        let free = running.free.get_mut(&logstore.name.project).and_then(Vec::pop);
        let number = free.unwrap_or_else(|| {
            let number = self.schedule.reserve(tenant.number);
            tenant.budget.join(self.wake(number));
            number
        });
        let plugins = chain.stages().iter().map(|_| Arc::default()).collect();
        let orders = Orders::new(self.wake(number));
        let accounts = Arc::default();
        let lane = RunningLane { logstore, number, orders, accounts, used, plugins, canary: None, is_ending: false };
        self.put_to_work(tenant, &lane, chain, 0, tap)?;
        running.lanes.insert(lane.logstore.name.to_string(), lane);
        Ok(())
    }

    /// Begins the lane of a logstore, whose number must be free. `owed`: events of its accounts that it has yet to read
    /// again.
    pub(super) fn put_to_work(
        &self,
        tenant: &Tenant,
        running: &RunningLane,
        chain: Chain,
        owed: u64,
        tap: Option<Tap>,
    ) -> Result<()> {
        let RunningLane { logstore, number, orders, accounts, plugins, .. } = running;
        let (name, number) = (logstore.name.to_string(), *number);
        let settings = settings::source(&logstore.files, self.tags.clone())?;
        let known = self.checkpoint.load(&name)?;
        let source = Source::new(settings, known, self.watch.clone(), News::new(self.wake(number)))?;
        for (id, position) in source.begun() {
            self.checkpoint.set(&name, id, position);
        }
        let lane = Lane::new(Parts {
            source,
            chain,
            outlets: self.sinks.outlets(logstore),
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
        });
        self.schedule.add(number, Box::new(lane));
        Ok(())
    }

    fn wake(&self, number: usize) -> Box<dyn Fn() + Send + Sync> {
        let schedule = self.schedule.clone();
        Box::new(move || schedule.wake(number))
    }

    /// Has a lane end when what it has in flight is settled, or at once after the deadline. Gives how many events it had
    /// read that are not settled.
    pub(super) fn end_lane(&self, lane: &RunningLane, deadline: Instant) -> u64 {
        if !self.schedule.wait_gone(lane.number, deadline) {
            lane.orders.give(Order::Abandon);
            // A turn is bounded.
            self.schedule.wait_gone(lane.number, Instant::now() + super::GRACE);
        }
        lane.accounts.in_flight.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// A lane's number can be used again.
    pub(super) fn free(&self, running: &mut Running, lane: &RunningLane) {
        running.free.entry(lane.logstore.name.project.clone()).or_default().push(lane.number);
    }
}
