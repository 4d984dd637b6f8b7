//! The accounts of an agent: of all logstores, their plugins, and the projects that they belong to.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::budget::Budget;
use crate::metrics::{Accounts, PluginAccounts, SinkAccounts};
use crate::schedule::Usage;

/// What the agent counts, by names. Copies count the same.
#[derive(Clone, Default)]
pub struct Books {
    /// Of each logstore that runs: `project/logstore`.
    pub logstores: BTreeMap<String, LogstoreBooks>,
    /// Of each sink, but for `blackhole`.
    pub sinks: BTreeMap<String, Arc<SinkAccounts>>,
    /// The memory of each project.
    pub budgets: BTreeMap<String, Arc<Budget>>,
    /// What turns the lanes of each project had.
    pub usages: BTreeMap<String, Arc<dyn Fn() -> Usage + Send + Sync>>,
}

/// What is counted for one logstore.
#[derive(Clone)]
pub struct LogstoreBooks {
    /// The project that it belongs to.
    pub project: String,
    /// Its events, and what they cost.
    pub accounts: Arc<Accounts>,
    /// Its plugins by name, in the order of the chain.
    pub plugins: Vec<(String, Arc<PluginAccounts>)>,
}

/// All counts of a moment, by short names.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// By `project/logstore`.
    pub logstores: BTreeMap<String, LogstoreSummary>,
    /// By name: the sums of their logstores, how often their ceilings were reached, and for how many nanoseconds.
    pub projects: BTreeMap<String, BTreeMap<&'static str, u64>>,
    /// By name: as in [`SinkAccounts`].
    pub sinks: BTreeMap<String, BTreeMap<&'static str, u64>>,
}

/// The counts of one logstore.
#[derive(Debug, Serialize)]
pub struct LogstoreSummary {
    /// As in [`Accounts`].
    #[serde(flatten)]
    pub counts: BTreeMap<&'static str, u64>,
    /// As in [`PluginAccounts`], in the order of the chain.
    pub plugins: Vec<PluginSummary>,
}

/// The counts of one plugin.
#[derive(Debug, Serialize)]
pub struct PluginSummary {
    /// What it calls itself.
    pub name: String,
    /// As in [`PluginAccounts`].
    #[serde(flatten)]
    pub counts: BTreeMap<&'static str, u64>,
}

impl Books {
    /// All counts as they are now.
    pub fn summary(&self) -> Summary {
        let mut projects: BTreeMap<String, BTreeMap<&'static str, u64>> = BTreeMap::new();
        let mut logstores = BTreeMap::new();
        for (name, books) in &self.logstores {
            let counts = books.accounts.summary();
            let project = projects.entry(books.project.clone()).or_default();
            for (count, value) in &counts {
                *project.entry(count).or_default() += value;
            }
            let plugins = books.plugins.iter();
            let plugins =
                plugins.map(|(name, plugin)| PluginSummary { name: name.clone(), counts: plugin.summary() }).collect();
            logstores.insert(name.clone(), LogstoreSummary { counts, plugins });
        }
        for (name, project) in &mut projects {
            if let Some(budget) = self.budgets.get(name) {
                project.insert("memory", budget.used() as u64);
            }
            if let Some(usage) = self.usages.get(name) {
                let usage = usage();
                project.insert("throttled", usage.throttled);
                project.insert("throttled_for", usage.throttled_for.as_nanos() as u64);
            }
        }
        let sinks = self.sinks.iter().map(|(name, accounts)| (name.clone(), accounts.summary())).collect();
        Summary { logstores, projects, sinks }
    }
}
