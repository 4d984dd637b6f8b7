//! All metrics as text that Prometheus reads.

use std::fmt::Write;

use super::access::Role;
use crate::books::{Books, LogstoreBooks};
use crate::control::{LogstoreState, PluginState, PluginStatus, SinkState, Status};
use crate::metrics::{Accounts, Histogram, PluginAccounts, SinkAccounts};

/// What the text is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics that are made of the status: name and help.
pub const OF_STATUS: &[(&str, &str)] = &[
    ("weir_build_info", "1, with the version of weir."),
    ("weir_start_time_seconds", "When the agent was started, in Unix seconds."),
    ("weir_alive", "1 as long as workers turn and the checkpoint is written."),
    ("weir_ready", "1 as long as the agent does its work."),
    ("weir_reloads_total", "Changes of the configuration, by result: applied or refused."),
    ("weir_config_ok", "0 after the last change of the configuration was refused, and the one before is in force."),
    ("weir_config_time_seconds", "When the configuration in force was read, in Unix seconds."),
    ("weir_project_memory_bytes", "Bytes of memory that the project uses."),
    ("weir_project_memory_budget_bytes", "Bytes of memory that it may use, if it has a budget."),
    ("weir_project_cpu_seconds_total", "CPU time of all turns of the project."),
    ("weir_project_throttled_seconds_total", "Time that it has waited at its ceiling of CPU time."),
    ("weir_logstore_running", "1 for a logstore that runs, 0 for one that cannot."),
    ("weir_logstore_lag_bytes", "Bytes that were written to its files and are not settled."),
    ("weir_logstore_lag_seconds", "Time since the oldest of these bytes was written, about."),
    ("weir_logstore_files", "Files that it has."),
    ("weir_plugin_version", "The number of the uploaded version that is active; 0 is what the configuration says."),
    ("weir_plugin_canary_percent", "The part of the files on which another version is tried; 0 if none is."),
    ("weir_plugins_suspended", "Plugins of the chain that are suspended."),
    ("weir_sink_state", "1 for the state that the sink is in: working, retrying or lost."),
];

/// The one histogram: name and help.
pub const LATENCY: (&str, &str) =
    ("weir_latency_seconds", "Time from when an event was written, as far as is known, to when it was settled.");

/// What is said of the unit in which something is counted, and not shown.
const AS_COUNTED: &str = ", here in nanoseconds";

/// The metrics that a role may see.
pub fn text(status: &Status, books: &Books, role: &Role) -> String {
    let mut text = Text::default();
    let status = match role {
        Role::Project(project) => &status.clone().of_project(project),
        _ => status,
    };
    let is_seen = |books: &&LogstoreBooks| match role {
        Role::Operator => true,
        Role::Project(project) => books.project == *project,
        Role::Nobody => false,
    };
    let logstores: Vec<_> = books.logstores.iter().filter(|(_, books)| is_seen(books)).collect();
    let counts: Vec<_> = logstores.iter().map(|(name, books)| (name, books.accounts.balanced())).collect();
    for (number, (metric, help)) in Accounts::HELP.iter().enumerate() {
        text.family(metric, help);
        for (name, counts) in &counts {
            text.sample(&of_logstore(name), scaled(metric, counts[number].2));
        }
    }
    text.latencies(&logstores);
    for (number, (metric, help)) in PluginAccounts::HELP.iter().enumerate() {
        text.family(metric, help);
        for (name, books) in &logstores {
            for (stage, (plugin, accounts)) in books.plugins.iter().enumerate() {
                let stage = stage.to_string();
                let labels = [&of_logstore(name)[..], &[("stage", stage.as_str()), ("plugin", plugin)]].concat();
                text.sample(&labels, scaled(metric, accounts.list()[number].2));
            }
        }
    }
    if *role == Role::Operator {
        for (number, (metric, help)) in SinkAccounts::HELP.iter().enumerate() {
            text.family(metric, help);
            for (name, accounts) in &books.sinks {
                text.sample(&[("sink", name)], scaled(metric, accounts.list()[number].2));
            }
        }
    }
    text.status(status, *role == Role::Operator);
    text.text
}

/// Nanoseconds are counted, and seconds are shown.
fn scaled(metric: &str, value: u64) -> f64 {
    if metric.contains("_seconds") { value as f64 / 1e9 } else { value as f64 }
}

fn of_logstore(name: &str) -> [(&str, &str); 2] {
    let (project, logstore) = name.split_once('/').unwrap_or((name, ""));
    [("project", project), ("logstore", logstore)]
}

#[derive(Default)]
struct Text {
    text: String,
    /// The metric whose samples come.
    metric: String,
}

impl Text {
    /// Begins the samples of a metric.
    fn family(&mut self, metric: &str, help: &str) {
        let kind = if metric.ends_with("_total") { "counter" } else { "gauge" };
        let help = help.trim().replace(AS_COUNTED, "");
        let _ = writeln!(self.text, "# HELP {metric} {help}\n# TYPE {metric} {kind}");
        self.metric = metric.to_owned();
    }

    /// How long events took from their file to where they are settled.
    fn latencies(&mut self, logstores: &[(&String, &LogstoreBooks)]) {
        let (metric, help) = LATENCY;
        let _ = writeln!(self.text, "# HELP {metric} {help}\n# TYPE {metric} histogram");
        for (name, books) in logstores {
            let latency = &books.accounts.latency;
            let bounds = Histogram::BOUNDS.iter().map(|bound| (*bound as f64 / 1e3).to_string());
            let mut count = 0;
            self.metric = format!("{metric}_bucket");
            for (bound, new) in bounds.chain(["+Inf".to_owned()]).zip(latency.counts()) {
                count += new;
                let labels = [&of_logstore(name)[..], &[("le", bound.as_str())]].concat();
                self.sample(&labels, count as f64);
            }
            self.metric = format!("{metric}_sum");
            self.sample(&of_logstore(name), latency.sum().as_secs_f64());
            self.metric = format!("{metric}_count");
            self.sample(&of_logstore(name), count as f64);
        }
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(&self.metric);
        for (number, (name, value)) in labels.iter().enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{before}{name}=\"{value}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{end} {value}");
    }

    /// What the status says; of the agent itself, for the operator alone.
    fn status(&mut self, status: &Status, of_agent: bool) {
        for (metric, help) in OF_STATUS {
            if !of_agent
                && !["weir_project_", "weir_logstore_", "weir_plugin"].iter().any(|own| metric.starts_with(own))
            {
                continue;
            }
            self.family(metric, help);
            self.samples(metric, status);
        }
    }

    fn samples(&mut self, metric: &str, status: &Status) {
        let is = |is: bool| if is { 1.0 } else { 0.0 };
        match metric {
            "weir_build_info" => self.sample(&[("version", &status.version)], 1.0),
            "weir_start_time_seconds" => self.sample(&[], status.started_at as f64),
            "weir_alive" => self.sample(&[], is(status.health.dead.is_empty())),
            "weir_ready" => self.sample(&[], is(status.health.dead.is_empty() && status.health.unready.is_empty())),
            "weir_reloads_total" => {
                self.sample(&[("result", "applied")], status.reload.applied as f64);
                self.sample(&[("result", "refused")], status.reload.refused as f64);
            }
            "weir_config_ok" => self.sample(&[], is(status.reload.error.is_none())),
            "weir_config_time_seconds" => self.sample(&[], status.reload.since as f64),
            "weir_sink_state" => {
                for (name, sink) in &status.sinks {
                    let states =
                        [("working", SinkState::Working), ("retrying", SinkState::Retrying), ("lost", SinkState::Lost)];
                    for (word, state) in states {
                        self.sample(&[("sink", name), ("state", word)], is(sink.state == state));
                    }
                }
            }
            _ => {
                self.samples_of_projects(metric, status);
                self.samples_of_logstores(metric, status);
            }
        }
    }

    fn samples_of_projects(&mut self, metric: &str, status: &Status) {
        for (name, project) in &status.projects {
            let value = match metric {
                "weir_project_memory_bytes" => project.memory as f64,
                "weir_project_memory_budget_bytes" => match project.memory_budget {
                    Some(budget) => budget as f64,
                    None => continue,
                },
                "weir_project_cpu_seconds_total" => project.cpu_seconds,
                "weir_project_throttled_seconds_total" => project.throttled_seconds,
                _ => return,
            };
            self.sample(&[("project", name)], value);
        }
    }

    fn samples_of_logstores(&mut self, metric: &str, status: &Status) {
        for (name, logstore) in &status.logstores {
            let active = logstore.plugins.iter().find_map(|plugin| plugin.version);
            let value = match metric {
                "weir_logstore_running" => f64::from(u8::from(logstore.state != LogstoreState::Stopped)),
                "weir_logstore_lag_bytes" => logstore.lag_bytes as f64,
                "weir_logstore_lag_seconds" => logstore.lag_seconds,
                "weir_logstore_files" => logstore.files_total as f64,
                "weir_plugin_version" => active.unwrap_or(0) as f64,
                "weir_plugin_canary_percent" => logstore.canary.as_ref().map_or(0.0, |canary| canary.percent.into()),
                "weir_plugins_suspended" => {
                    let is_suspended = |plugin: &&PluginStatus| plugin.state == PluginState::Suspended;
                    logstore.plugins.iter().filter(is_suspended).count() as f64
                }
                _ => return,
            };
            self.sample(&of_logstore(name), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::control::{LogstoreStatus, ProjectStatus, SinkStatus};
    use crate::metrics;

    fn books() -> Books {
        let books = |project: &str, read: u64| {
            let accounts = Arc::new(Accounts::default());
            metrics::add(&accounts.read, read);
            metrics::add(&accounts.cpu, 1_500_000_000);
            let plugins = vec![("a\"b".to_owned(), Arc::<PluginAccounts>::default())];
            LogstoreBooks { project: project.to_owned(), accounts, plugins }
        };
        let logstores = [("shop/a", books("shop", 7)), ("shop2/a", books("shop2", 8))];
        let logstores = logstores.into_iter().map(|(name, books)| (name.to_owned(), books)).collect();
        let sinks = BTreeMap::from([("out".to_owned(), Arc::default())]);
        Books { logstores, sinks, ..Books::default() }
    }

    fn status() -> Status {
        let logstore = |lag_bytes| LogstoreStatus { lag_bytes, sinks: vec!["out".into()], ..LogstoreStatus::default() };
        Status {
            version: "1".into(),
            projects: ["shop", "shop2"].map(|name| (name.to_owned(), ProjectStatus::default())).into(),
            logstores: [("shop/a".to_owned(), logstore(1)), ("shop2/a".to_owned(), logstore(2))].into(),
            sinks: [("out".to_owned(), SinkStatus::default())].into(),
            ..Status::default()
        }
    }

    fn lines(role: &Role) -> Vec<String> {
        text(&status(), &books(), role).lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_project_sees_its_own_series() {
        let all = lines(&Role::Operator);
        for line in [
            "# HELP weir_events_read_total Events read.",
            "# TYPE weir_events_read_total counter",
            "weir_events_read_total{project=\"shop\",logstore=\"a\"} 7",
            "weir_events_read_total{project=\"shop2\",logstore=\"a\"} 8",
            "weir_cpu_seconds_total{project=\"shop\",logstore=\"a\"} 1.5",
            "weir_plugin_calls_total{project=\"shop\",logstore=\"a\",stage=\"0\",plugin=\"a\\\"b\"} 0",
            "weir_sink_requests_total{sink=\"out\"} 0",
            "weir_sink_state{sink=\"out\",state=\"working\"} 1",
            "weir_sink_state{sink=\"out\",state=\"lost\"} 0",
            "weir_logstore_lag_bytes{project=\"shop2\",logstore=\"a\"} 2",
            "weir_build_info{version=\"1\"} 1",
            "weir_alive 1",
        ] {
            assert!(all.iter().any(|known| known == line), "{line}");
        }
        let own = lines(&Role::Project("shop".into()));
        let series = |lines: &[String]| lines.iter().filter(|line| !line.starts_with('#')).cloned().collect::<Vec<_>>();
        assert!(series(&own).iter().all(|line| line.contains("{project=\"shop\"")), "{own:#?}");
        let expected: Vec<_> = series(&all).into_iter().filter(|line| line.contains("{project=\"shop\"")).collect();
        assert_eq!(series(&own), expected);
    }

    #[test]
    fn each_metric_is_there_once_with_all_its_samples_together() {
        let all = lines(&Role::Operator);
        let mut families = Vec::new();
        for line in &all {
            if let Some(help) = line.strip_prefix("# HELP ") {
                families.push(help.split(' ').next().unwrap().to_owned());
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                let name = if name.starts_with(LATENCY.0) { LATENCY.0 } else { name };
                assert_eq!(families.last().map(String::as_str), Some(name));
            }
        }
        let mut once = families.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), families.len());
        let page = std::fs::read_to_string(crate::reference::repository().join("docs/reference/metrics.md")).unwrap();
        for family in families {
            assert!(page.contains(&format!("`{family}`")), "{family}");
        }
    }
}
