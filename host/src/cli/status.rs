//! `weir status`: all that is to be seen of a running agent.

use std::collections::BTreeMap;

use anyhow::Result;

use super::client::{Client, Whom};
use super::screen::{
    Cell, Look, Table, amount, coloured, duration, harmless, has_colours, on_one_line, per_event, print, print_json,
    short, since, size,
};
use super::{Usage, client};
use crate::config::units::show_cpu;
use crate::config::{LogstoreName, is_name};
use crate::control::{
    LogstoreState, LogstoreStatus, PluginState, PluginStatus, ProjectStatus, SinkState, SinkStatus, Status,
};

/// Show how a running agent is: projects, logstores, plugins and sinks
///
/// Of a logstore that is named, its files too. With a project's token, what is that project's.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    whom: Whom,
    /// Only this project, or this logstore with its files
    #[arg(value_name = "PROJECT[/LOGSTORE]", value_parser = about)]
    about: Option<About>,
    /// What the agent answers, as JSON
    #[arg(long)]
    json: bool,
}

/// What is to be shown.
#[derive(Clone)]
enum About {
    Project(String),
    Logstore(LogstoreName),
}

fn about(text: &str) -> Result<About, String> {
    match text.contains('/') {
        true => text.parse().map(About::Logstore).map_err(|error: crate::config::BadLogstoreName| error.to_string()),
        false if is_name(text) => Ok(About::Project(text.to_owned())),
        false => Err("must be a project, or PROJECT/LOGSTORE".to_owned()),
    }
}

pub fn run(args: &Args) -> Result<()> {
    let client = args.whom.client()?;
    let colours = has_colours();
    match &args.about {
        Some(About::Logstore(name)) if args.json => {
            print_json(&client.get::<serde_json::Value>(&client::logstore(name))?)
        }
        Some(About::Logstore(name)) => {
            let logstore = client.get(&client::logstore(name))?;
            print(&one(&name.to_string(), &logstore, colours))
        }
        Some(About::Project(project)) => {
            let status = of_project(&client, project)?;
            if args.json { print_json(&status) } else { print(&all(&status, colours)) }
        }
        None if args.json => print_json(&client.get::<serde_json::Value>(client::STATUS)?),
        None => print(&all(&client.get(client::STATUS)?, colours)),
    }
}

fn of_project(client: &Client, project: &str) -> Result<Status> {
    let mut status = client.get::<Status>(client::STATUS)?;
    if !status.projects.contains_key(project) {
        return Err(Usage(format!("there is no project {project}, or its token is another")).into());
    }
    let is_own = |name: &str| name.split_once('/').is_some_and(|(owner, _)| owner == project);
    status.projects.retain(|name, _| name == project);
    status.logstores.retain(|name, _| is_own(name));
    let used = |name: &String| status.logstores.values().any(|logstore| logstore.sinks.contains(name));
    status.sinks.retain(|name, _| used(name));
    Ok(status)
}

fn all(status: &Status, colours: bool) -> String {
    let mut parts = vec![
        head(status, colours),
        projects(&status.projects).text(colours),
        logstores(&status.logstores).text(colours),
        plugins(&status.logstores).text(colours),
        failures(&status.logstores),
        sinks(&status.sinks).text(colours),
    ];
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

/// A line or two about the agent, and one for all that is wrong.
fn head(status: &Status, colours: bool) -> String {
    let mut text = format!("weir {}, up {}", on_one_line(&status.version), since(status.started_at));
    if !status.machine_groups.is_empty() {
        text += &format!(", machine groups: {}", on_one_line(&status.machine_groups.join(", ")));
    }
    let reload = &status.reload;
    if reload.applied + reload.refused > 0 {
        let (applied, refused) = (reload.applied, reload.refused);
        text += &format!(", configuration: {applied} times applied, {refused} refused");
    }
    text.push('\n');
    let health = &status.health;
    let wrong = health.dead.iter().map(|what| ("not alive", Look::Bad, what));
    let wrong = wrong.chain(health.unready.iter().map(|what| ("not ready", Look::Warning, what)));
    let wrong: Vec<_> = wrong.chain(health.details.iter().map(|what| ("wrong", Look::Warning, what))).collect();
    for (kind, look, what) in &wrong {
        text += &format!("{}: {}\n", coloured(kind, *look, colours), harmless(what));
    }
    // A project is told no details.
    if health.details.is_empty()
        && let Some(error) = &reload.error
    {
        text += &format!("{}: {}\n", coloured("wrong", Look::Warning, colours), harmless(error));
    }
    text
}

fn projects(projects: &BTreeMap<String, ProjectStatus>) -> Table {
    let mut table = Table::new(&["PROJECT", ">SHARE", ">CPU LIMIT", ">CPU TIME", ">THROTTLED", ">MEMORY", ">OF"]);
    for (name, project) in projects {
        table.row(vec![
            name.into(),
            project.share.to_string().into(),
            project.cpu.map(|cpu| show_cpu(cpu.into())).unwrap_or_else(none).into(),
            duration(project.cpu_seconds).into(),
            duration(project.throttled_seconds).into(),
            size(project.memory).into(),
            project.memory_budget.map(size).unwrap_or_else(none).into(),
        ]);
    }
    table
}

fn logstores(logstores: &BTreeMap<String, LogstoreStatus>) -> Table {
    // What hardly anybody has takes no room if nobody has it.
    let mut rare = vec![(">DEAD LETTERS", "dead_lettered"), (">DISCARDED", "discarded")];
    let has = |name: &str| logstores.values().any(|logstore| logstore.counts.get(name).is_some_and(|count| *count > 0));
    rare.retain(|(_, name)| has(name));
    let mut head = vec!["LOGSTORE", "STATE", ">LAG", ">BEHIND", ">FILES", ">READ", ">DELIVERED", ">RAW", ">DROPPED"];
    head.extend(rare.iter().map(|(title, _)| *title));
    head.push(">IN FLIGHT");
    let mut table = Table::new(&head);
    for (name, logstore) in logstores {
        let count = |name: &str| logstore.counts.get(name).copied().unwrap_or(0);
        let warned = |count: u64| Cell::new(count.to_string(), if count > 0 { Look::Warning } else { Look::Plain });
        let mut row = vec![
            name.into(),
            Cell::new(state_name(logstore.state), state_look(logstore.state)),
            size(logstore.lag_bytes).into(),
            duration(logstore.lag_seconds).into(),
            logstore.files_total.to_string().into(),
            count("read").to_string().into(),
            count("delivered").to_string().into(),
            warned(count("kept_raw")),
            count("dropped").to_string().into(),
        ];
        row.extend(rare.iter().map(|(_, name)| warned(count(name))));
        row.push(count("in_flight").to_string().into());
        table.row(row);
    }
    table
}

fn plugins(logstores: &BTreeMap<String, LogstoreStatus>) -> Table {
    let head = [
        "PLUGIN OF",
        "NAME",
        "VERSION",
        "DIGEST",
        "STATE",
        ">EVENTS",
        ">FUEL/EVENT",
        ">CPU/EVENT",
        ">MEMORY",
        ">FAILED",
        ">FAULTS",
    ];
    let mut table = Table::new(&head);
    for (name, logstore) in logstores {
        logstore.plugins.iter().for_each(|plugin| table.row(plugin_row(name, plugin)));
    }
    table
}

fn plugin_row(logstore: &str, plugin: &PluginStatus) -> Vec<Cell> {
    let (state, look) = match plugin.state {
        PluginState::Running => ("running", Look::Good),
        PluginState::Suspended => ("suspended", Look::Bad),
    };
    let bad = |count: u64| Cell::new(count.to_string(), if count > 0 { Look::Warning } else { Look::Plain });
    vec![
        logstore.into(),
        format!("{} {}", plugin.name, plugin.plugin_version).trim_end().into(),
        plugin.version.map_or("configured".to_owned(), |version| version.to_string()).into(),
        short(&plugin.digest).into(),
        Cell::new(state, look),
        plugin.events.to_string().into(),
        amount(plugin.fuel_per_event).into(),
        per_event(plugin.cpu_per_event).into(),
        size(plugin.memory).into(),
        bad(plugin.failed),
        bad(plugin.faults),
    ]
}

/// What logstores wait for, what is tried, and why plugins failed last, a line each.
fn failures(logstores: &BTreeMap<String, LogstoreStatus>) -> String {
    let mut text = String::new();
    for (name, logstore) in logstores {
        let mut tell = |what: &str| text += &format!("{}: {}\n", on_one_line(name), on_one_line(what));
        if let Some(problem) = &logstore.problem {
            tell(&format!("{}: {problem}", state_name(logstore.state)));
        }
        if let Some(refused) = &logstore.refused {
            tell(&format!("a plugin's file has changed and is not used: {refused}"));
        }
        if !logstore.root_exists {
            tell(&format!("its root {} does not exist", logstore.root));
        }
        if let Some(canary) = &logstore.canary {
            tell(&format!(
                "version {} is tried on {}% of the files: {} of {} events failed; of the other's, {} of {}",
                canary.version, canary.percent, canary.failed, canary.events, canary.other_failed, canary.other_events
            ));
        }
        for plugin in &logstore.plugins {
            if let Some(reason) = &plugin.last_failure {
                tell(&format!("{} failed last: {reason}", plugin.name));
            }
        }
    }
    text
}

fn sinks(sinks: &BTreeMap<String, SinkStatus>) -> Table {
    let mut table = Table::new(&["SINK", "TYPE", "STATE", "LAST ERROR"]);
    for (name, sink) in sinks {
        let (state, look) = sink_state(sink.state);
        let error = sink.error.as_deref().unwrap_or_default();
        table.row(vec![name.into(), (&sink.kind).into(), Cell::new(state, look), error.into()]);
    }
    table
}

/// A logstore with its files.
fn one(name: &str, logstore: &LogstoreStatus, colours: bool) -> String {
    let only = BTreeMap::from([(name.to_owned(), logstore.clone())]);
    let mut files = Table::new(&["FILE", ">SIZE", ">READ", ">SETTLED", ">LAG", ">BEHIND"]);
    for file in &logstore.files {
        files.row(vec![
            file.path.to_string_lossy().into(),
            file.size.to_string().into(),
            file.offset.to_string().into(),
            file.settled.to_string().into(),
            size(file.lag_bytes).into(),
            duration(file.lag_seconds).into(),
        ]);
    }
    let mut files = files.text(colours);
    if logstore.files_total > logstore.files.len() as u64 {
        let rest = logstore.files_total - logstore.files.len() as u64;
        files += &format!("and {rest} more that lag less\n");
    }
    let mut counts = Table::new(&["COUNTER", ">VALUE"]);
    for (what, count) in logstore.counts.iter().filter(|(_, count)| **count > 0) {
        counts.row(vec![what.into(), count.to_string().into()]);
    }
    let root = format!("root {}, sinks: {}\n", on_one_line(&logstore.root), on_one_line(&logstore.sinks.join(", ")));
    let mut parts = vec![
        logstores(&only).text(colours) + &root,
        plugins(&only).text(colours),
        failures(&only),
        files,
        counts.text(colours),
    ];
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

fn none() -> String {
    "-".to_owned()
}

/// A state in a word.
pub fn state_name(state: LogstoreState) -> &'static str {
    match state {
        LogstoreState::Running => "running",
        LogstoreState::Waiting => "waiting",
        LogstoreState::Ending => "ending",
        LogstoreState::Stopped => "stopped",
    }
}

/// How it looks.
pub fn state_look(state: LogstoreState) -> Look {
    match state {
        LogstoreState::Running => Look::Good,
        LogstoreState::Waiting | LogstoreState::Ending => Look::Warning,
        LogstoreState::Stopped => Look::Bad,
    }
}

/// A sink's state in a word, and how it looks.
pub fn sink_state(state: SinkState) -> (&'static str, Look) {
    match state {
        SinkState::Working => ("working", Look::Good),
        SinkState::Retrying => ("retrying", Look::Warning),
        SinkState::Lost => ("lost", Look::Bad),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{CanaryStatus, FileStatus};

    fn logstore() -> LogstoreStatus {
        LogstoreStatus {
            state: LogstoreState::Waiting,
            problem: Some("its sink does not take more yet".to_owned()),
            root: "/var/log/nginx".to_owned(),
            plugins: vec![PluginStatus {
                name: "nginx".to_owned(),
                plugin_version: "0.1.0".to_owned(),
                digest: "0123456789abcdef".repeat(4),
                version: Some(3),
                events: 1000,
                fuel_per_event: 12_345.6,
                cpu_per_event: 480.0,
                memory: 1 << 20,
                faults: 2,
                last_failure: Some("it panicked:\x1b[2J\nhere".to_owned()),
                ..PluginStatus::default()
            }],
            canary: Some(CanaryStatus {
                version: 4,
                percent: 10,
                events: 9,
                failed: 1,
                other_events: 91,
                other_failed: 0,
            }),
            sinks: vec!["archive".to_owned()],
            counts: [("read", 1000), ("delivered", 990), ("in_flight", 10)].map(|(k, v)| (k.to_owned(), v)).into(),
            lag_bytes: 1536,
            lag_seconds: 2.5,
            files_total: 2,
            files: vec![FileStatus {
                path: "/var/log/nginx/a.log".into(),
                size: 2000,
                offset: 1000,
                settled: 464,
                lag_bytes: 1536,
                lag_seconds: 2.5,
            }],
            ..LogstoreStatus::default()
        }
    }

    #[test]
    fn a_logstore_is_shown_with_its_files() {
        let expected = "\
LOGSTORE  STATE       LAG  BEHIND  FILES  READ  DELIVERED  RAW  DROPPED  IN FLIGHT
shop/a    waiting  1.5KiB    2.5s      2  1000        990    0        0         10
root /var/log/nginx, sinks: archive

PLUGIN OF  NAME         VERSION  DIGEST        STATE    EVENTS  FUEL/EVENT  CPU/EVENT  MEMORY  FAILED  FAULTS
shop/a     nginx 0.1.0  3        0123456789ab  running    1000       12.3k     0.48µs  1.0MiB       0       2

shop/a: waiting: its sink does not take more yet
shop/a: its root /var/log/nginx does not exist
shop/a: version 4 is tried on 10% of the files: 1 of 9 events failed; of the other's, 0 of 91
shop/a: nginx failed last: it panicked:\\u{1b}[2J\\nhere

FILE                  SIZE  READ  SETTLED     LAG  BEHIND
/var/log/nginx/a.log  2000  1000      464  1.5KiB    2.5s
and 1 more that lag less

COUNTER    VALUE
delivered    990
in_flight     10
read        1000
";
        assert_eq!(one("shop/a", &logstore(), false), expected);
    }

    #[test]
    fn what_was_lost_has_columns_if_anything_was() {
        let mut one = logstore();
        one.counts.insert("dead_lettered".to_owned(), 3);
        let all = [("shop/a".to_owned(), one), ("shop/b".to_owned(), logstore())].into();
        let shown = logstores(&all).text(false);
        let lines: Vec<Vec<_>> =
            shown.lines().map(|line| line.split("  ").filter(|cell| !cell.is_empty()).collect()).collect();
        let ends: Vec<_> =
            lines.iter().map(|cells| cells[8..].iter().map(|cell| cell.trim()).collect::<Vec<_>>()).collect();
        assert_eq!(ends, [["DROPPED", "DEAD LETTERS", "IN FLIGHT"], ["0", "3", "10"], ["0", "0", "10"]]);
    }

    #[test]
    fn an_agent_is_shown_with_what_is_wrong() {
        let mut status =
            Status { version: "0.1.0".to_owned(), machine_groups: vec!["web".to_owned()], ..Status::default() };
        status.health.unready.push("it is ending".to_owned());
        status.health.details.push("the configuration was refused".to_owned());
        status.reload.refused = 1;
        let project = ProjectStatus { share: 2, cpu: Some(500), memory: 1 << 20, ..ProjectStatus::default() };
        status.projects.insert("shop".to_owned(), project);
        let sink = SinkStatus { kind: "http".to_owned(), state: SinkState::Retrying, ..SinkStatus::default() };
        status.sinks.insert("far".to_owned(), SinkStatus { error: Some("the answer is 503".to_owned()), ..sink });
        let text = all(&status, false);
        let (first, rest) = text.split_once('\n').unwrap();
        assert!(first.starts_with("weir 0.1.0, up "), "{first}");
        assert!(first.ends_with(", machine groups: web, configuration: 0 times applied, 1 refused"), "{first}");
        let expected = "\
not ready: it is ending
wrong: the configuration was refused

PROJECT  SHARE  CPU LIMIT  CPU TIME  THROTTLED  MEMORY  OF
shop         2       500m        0s         0s  1.0MiB   -

SINK  TYPE  STATE     LAST ERROR
far   http  retrying  the answer is 503
";
        assert_eq!(rest, expected);
    }
}
