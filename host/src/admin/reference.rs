//! The page of metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::access::Role;
use super::exposition::{LATENCY, OF_STATUS, text};
use crate::books::{Books, LogstoreBooks};
use crate::control::{LogstoreStatus, ProjectStatus, SinkStatus, Status};
use crate::metrics::{Accounts, PluginAccounts, SinkAccounts};
use crate::reference::{check, head, row};

const PAGE: &str = "# All metrics

What `GET /metrics` has, as `make reference` wrote it down. What they are for is in [metrics](../metrics.md).
";

/// A metric, as it is exposed.
#[derive(Default)]
struct Metric {
    help: String,
    kind: String,
    labels: Vec<String>,
}

#[test]
fn the_reference_of_metrics() {
    let exposed = exposed();
    let names = |help: &[(&'static str, &'static str)]| help.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let sections = [
        ("Logstores", [names(Accounts::HELP), vec![LATENCY.0]].concat()),
        ("Plugins", names(PluginAccounts::HELP)),
        ("Sinks", names(SinkAccounts::HELP)),
        ("The agent, projects, and states", names(OF_STATUS)),
    ];
    let mut page = PAGE.to_owned();
    for (heading, names) in &sections {
        page += &format!("\n## {heading}\n\n{}", head(["metric", "type", "unit", "labels", "what it is"]));
        for name in names {
            let metric = &exposed[*name];
            let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            page += &row([&format!("`{name}`"), &metric.kind, unit(name), &labels.join(", "), &metric.help]);
        }
    }
    check("metrics.md", &page);
    assert_eq!(exposed.len(), sections.iter().map(|(_, names)| names.len()).sum::<usize>());
}

/// What is exposed of an agent that has one of each.
fn exposed() -> BTreeMap<String, Metric> {
    let plugins = vec![("parser".to_owned(), Arc::<PluginAccounts>::default())];
    let logstore = LogstoreBooks { project: "p".into(), accounts: Arc::default(), plugins };
    let books = Books {
        logstores: BTreeMap::from([("p/a".to_owned(), logstore)]),
        sinks: BTreeMap::from([("out".to_owned(), Arc::default())]),
        ..Books::default()
    };
    let project = ProjectStatus { memory_budget: Some(1), ..ProjectStatus::default() };
    let status = Status {
        projects: BTreeMap::from([("p".to_owned(), project)]),
        logstores: BTreeMap::from([("p/a".to_owned(), LogstoreStatus::default())]),
        sinks: BTreeMap::from([("out".to_owned(), SinkStatus::default())]),
        ..Status::default()
    };
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    let mut name = String::new();
    for line in text(&status, &books, &Role::Operator).lines() {
        if let Some((found, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            name = found.to_owned();
            metrics.entry(name.clone()).or_default().help = help.to_owned();
        } else if let Some((_, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            metrics.get_mut(&name).unwrap().kind = kind.to_owned();
        } else {
            metrics.get_mut(&name).unwrap().labels = labels(line);
        }
    }
    metrics
}

/// The names of a sample's labels.
fn labels(sample: &str) -> Vec<String> {
    let Some((_, labels)) = sample.split_once('{') else { return Vec::new() };
    labels.split("\",").flat_map(|label| label.split("=\"").next()).map(str::to_owned).collect()
}

fn unit(name: &str) -> &'static str {
    let has = |part: &str| name.split('_').any(|of| of == part);
    match () {
        () if has("seconds") => "seconds",
        () if has("bytes") => "bytes",
        () if has("percent") => "percent",
        () if has("fuel") => "fuel",
        () => "",
    }
}
