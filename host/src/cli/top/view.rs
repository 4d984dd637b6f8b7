//! What is shown, and in which order: all but how it is drawn.

use std::cmp::Ordering;
use std::time::Instant;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::rates::{self, Look as Looked, Rates};
use crate::cli::screen::{Cell, Look, amount, duration, size};
use crate::cli::status::{sink_state, state_look, state_name};
use crate::config::units::show_cpu;
use crate::control::{LogstoreStatus, SinkStatus, Status};

/// Rows that a page key goes by.
const PAGE: usize = 10;

/// Characters of a filter.
const FILTER: usize = 64;

/// Whether it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    GoOn,
    Quit,
}

/// What the rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Logstores,
    Projects,
    Sinks,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Logstores, Kind::Projects, Kind::Sinks];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Logstores => "logstores",
            Kind::Projects => "projects",
            Kind::Sinks => "sinks",
        }
    }

    fn moved(self, by: usize) -> Kind {
        Kind::ALL[(self as usize + by) % Kind::ALL.len()]
    }
}

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Lag,
    Events,
    Cpu,
    Fuel,
    Failures,
    Name,
}

impl By {
    /// With the keys that choose them.
    pub const ALL: [(char, By); 6] =
        [('l', By::Lag), ('e', By::Events), ('c', By::Cpu), ('f', By::Fuel), ('x', By::Failures), ('n', By::Name)];

    pub fn name(self) -> &'static str {
        match self {
            By::Lag => "lag",
            By::Events => "events",
            By::Cpu => "CPU",
            By::Fuel => "fuel",
            By::Failures => "failures",
            By::Name => "name",
        }
    }
}

/// A row, and what it is sorted by.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub name: String,
    /// Behind the name.
    pub cells: Vec<Cell>,
    /// What there is to say of it when it is chosen.
    pub detail: String,
    pub lag: f64,
    pub rates: Rates,
    /// Fuel of an event.
    pub fuel: f64,
    pub failures: f64,
}

/// What is shown.
pub struct View {
    pub address: String,
    pub kind: Kind,
    pub by: By,
    /// The other way round: the least first, or the last name.
    pub is_reversed: bool,
    pub filter: String,
    /// Whether what is typed goes to the filter.
    pub is_typing: bool,
    /// The row that is chosen, by its place.
    pub chosen: usize,
    /// Why there was no status the last time.
    pub error: Option<String>,
    pub now: Option<Looked>,
    before: Option<Looked>,
}

impl View {
    pub fn new(address: &str) -> Self {
        View {
            address: address.to_owned(),
            kind: Kind::Logstores,
            by: By::Lag,
            is_reversed: false,
            filter: String::new(),
            is_typing: false,
            chosen: 0,
            error: None,
            now: None,
            before: None,
        }
    }

    /// How the agent is at that moment.
    pub fn add(&mut self, status: Status, at: Instant) {
        let is_same = |before: &Looked| before.status.started_at == status.started_at;
        // What another process has counted is nothing to compare with.
        self.before = self.now.take().filter(is_same);
        self.now = Some(Looked { status, at });
        self.error = None;
    }

    /// There is no status.
    pub fn failed(&mut self, why: String) {
        self.error = Some(why);
    }

    /// What a key does.
    pub fn press(&mut self, key: KeyEvent) -> Flow {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Flow::Quit;
        }
        if self.is_typing {
            self.type_key(key.code);
            return Flow::GoOn;
        }
        match key.code {
            KeyCode::Char('q') => return Flow::Quit,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Tab => self.show(self.kind.moved(1)),
            KeyCode::BackTab => self.show(self.kind.moved(2)),
            KeyCode::Up | KeyCode::Char('k') => self.chosen = self.chosen.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.chosen += 1,
            KeyCode::PageUp => self.chosen = self.chosen.saturating_sub(PAGE),
            KeyCode::PageDown => self.chosen += PAGE,
            KeyCode::Home => self.chosen = 0,
            KeyCode::End => self.chosen = usize::MAX,
            KeyCode::Char(key) => {
                if let Some((_, by)) = By::ALL.iter().find(|(known, _)| *known == key) {
                    self.sort(*by);
                }
            }
            _ => {}
        }
        self.chosen = self.chosen.min(self.rows().len().saturating_sub(1));
        Flow::GoOn
    }

    fn type_key(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => (self.is_typing, self.filter) = (false, String::new()),
            KeyCode::Backspace => _ = self.filter.pop(),
            KeyCode::Char(c) if !c.is_control() && self.filter.chars().count() < FILTER => self.filter.push(c),
            _ => {}
        }
        self.chosen = 0;
    }

    fn show(&mut self, kind: Kind) {
        (self.kind, self.chosen) = (kind, 0);
    }

    fn sort(&mut self, by: By) {
        self.is_reversed = self.by == by && !self.is_reversed;
        (self.by, self.chosen) = (by, 0);
    }

    /// The titles of the columns behind the name, and how wide they are. Those of width 0 take what is left; those that
    /// begin with `>` end in line.
    pub fn columns(&self) -> &'static [(&'static str, u16)] {
        match self.kind {
            Kind::Logstores => &[
                ("STATE", 7),
                (">LAG", 9),
                (">BEHIND", 7),
                (">EVENTS/S", 8),
                (">CPU", 6),
                (">FUEL/EV", 7),
                (">FAILED", 6),
            ],
            Kind::Projects => &[
                (">STORES", 6),
                (">LAG", 9),
                (">EVENTS/S", 8),
                (">CPU", 6),
                (">LIMIT", 5),
                (">MEMORY", 9),
                (">FAILED", 6),
            ],
            Kind::Sinks => &[("TYPE", 13), ("STATE", 8), (">EVENTS/S", 8), (">FAILURES", 8), (">WAITING", 7)],
        }
    }

    /// Those that the filter lets through, in their order.
    pub fn rows(&self) -> Vec<Row> {
        let Some(now) = &self.now else { return Vec::new() };
        let before = self.before.as_ref();
        let wanted = self.filter.to_lowercase();
        let is_wanted = |name: &&String| name.to_lowercase().contains(&wanted);
        let status = &now.status;
        let mut rows: Vec<Row> = match self.kind {
            Kind::Logstores => {
                let names = status.logstores.keys().filter(is_wanted);
                names
                    .map(|name| logstore(name, &status.logstores[name], rates::of_logstore(before, now, name)))
                    .collect()
            }
            Kind::Projects => {
                let names = status.projects.keys().filter(is_wanted);
                names.map(|name| project(name, status, rates::of_project(before, now, name))).collect()
            }
            Kind::Sinks => {
                let names = status.sinks.keys().filter(is_wanted);
                names
                    .map(|name| sink(name, &status.sinks[name], rates::of_sink(before, now, name, "delivered")))
                    .collect()
            }
        };
        rows.sort_by(|a, b| {
            let order = self.compare(a, b);
            if self.is_reversed { order.reverse() } else { order }
        });
        rows
    }

    /// The most first; of those that are the same, by name.
    fn compare(&self, a: &Row, b: &Row) -> Ordering {
        let value = |row: &Row| match self.by {
            By::Lag => row.lag,
            By::Events => row.rates.events,
            By::Cpu => row.rates.cpu,
            By::Fuel => row.fuel,
            By::Failures => row.failures,
            By::Name => 0.0,
        };
        value(b).total_cmp(&value(a)).then_with(|| a.name.cmp(&b.name))
    }

    /// All logstores together: rates, and bytes of lag.
    pub fn total(&self) -> Option<(Rates, u64)> {
        let now = self.now.as_ref()?;
        let mut total = Rates::default();
        for name in now.status.projects.keys() {
            total.add(rates::of_project(self.before.as_ref(), now, name)?);
        }
        Some((total, now.status.logstores.values().map(|logstore| logstore.lag_bytes).sum()))
    }
}

fn failed(count: u64) -> Cell {
    Cell::new(amount(count as f64), if count > 0 { Look::Warning } else { Look::Plain })
}

/// A part of a core.
pub fn cores(cpu: f64) -> String {
    format!("{:.1}%", cpu * 100.0)
}

/// Without anything to compare with there are no rates yet.
fn or_none<T>(value: Option<T>, show: impl Fn(T) -> String) -> Cell {
    value.map(show).unwrap_or_else(|| "-".to_owned()).into()
}

fn logstore(name: &str, logstore: &LogstoreStatus, rates: Option<Rates>) -> Row {
    let events: u64 = logstore.plugins.iter().map(|plugin| plugin.events).max().unwrap_or(0);
    let fuel: f64 = logstore.plugins.iter().map(|plugin| plugin.events as f64 * plugin.fuel_per_event).sum();
    let fuel = if events > 0 { fuel / events as f64 } else { 0.0 };
    let failures = rates::failures(logstore);
    let cells = vec![
        Cell::new(state_name(logstore.state), state_look(logstore.state)),
        size(logstore.lag_bytes).into(),
        duration(logstore.lag_seconds).into(),
        or_none(rates, |rates| amount(rates.events)),
        or_none(rates, |rates| cores(rates.cpu)),
        amount(fuel).into(),
        failed(failures),
    ];
    let lag = logstore.lag_bytes as f64;
    let rates = rates.unwrap_or_default();
    Row { name: name.to_owned(), cells, detail: detail(logstore), lag, rates, fuel, failures: failures as f64 }
}

/// Why it waits, what is tried, or why a plugin failed last.
fn detail(logstore: &LogstoreStatus) -> String {
    let mut said: Vec<String> = logstore.problem.iter().cloned().collect();
    let refused = |why: &String| format!("a plugin's file has changed and is not used: {why}");
    said.extend(logstore.refused.as_ref().map(refused));
    if !logstore.root_exists {
        said.push(format!("its root {} does not exist", logstore.root));
    }
    if let Some(canary) = &logstore.canary {
        said.push(format!("version {} is tried on {}% of the files", canary.version, canary.percent));
    }
    let last = logstore.plugins.iter().filter_map(|plugin| Some((plugin, plugin.last_failure.as_ref()?)));
    said.extend(last.map(|(plugin, reason)| format!("{} failed last: {reason}", plugin.name)));
    said.join("; ")
}

fn project(name: &str, status: &Status, rates: Option<Rates>) -> Row {
    let is_own = |logstore: &str| logstore.split_once('/').is_some_and(|(owner, _)| owner == name);
    let own: Vec<_> = status.logstores.iter().filter(|(name, _)| is_own(name)).map(|(_, logstore)| logstore).collect();
    let lag: u64 = own.iter().map(|logstore| logstore.lag_bytes).sum();
    let failures: u64 = own.iter().map(|logstore| rates::failures(logstore)).sum();
    let project = &status.projects[name];
    let cells = vec![
        own.len().to_string().into(),
        size(lag).into(),
        or_none(rates, |rates| amount(rates.events)),
        or_none(rates, |rates| cores(rates.cpu)),
        or_none(project.cpu, |cpu| show_cpu(cpu.into())),
        size(project.memory).into(),
        failed(failures),
    ];
    let budget = project.memory_budget.map(size).unwrap_or_else(|| "all there is".to_owned());
    let throttled = duration(project.throttled_seconds);
    let detail = format!("share {}, memory of {budget}, throttled for {throttled}", project.share);
    let rates = rates.unwrap_or_default();
    let fuel = if rates.events > 0.0 { rates.fuel / rates.events } else { 0.0 };
    Row { name: name.to_owned(), cells, detail, lag: lag as f64, rates, fuel, failures: failures as f64 }
}

fn sink(name: &str, sink: &SinkStatus, events: Option<f64>) -> Row {
    let (state, look) = sink_state(sink.state);
    let count = |what: &str| sink.counts.get(what).copied();
    let failures = count("failures");
    let waiting = count("waiting");
    let whole = |count: u64| amount(count as f64);
    let cells = vec![
        (&sink.kind).into(),
        Cell::new(state, look),
        or_none(events, amount),
        or_none(failures, whole),
        or_none(waiting, whole),
    ];
    Row {
        name: name.to_owned(),
        cells,
        detail: sink.error.clone().unwrap_or_default(),
        lag: waiting.unwrap_or(0) as f64,
        rates: Rates { events: events.unwrap_or(0.0), ..Rates::default() },
        fuel: 0.0,
        failures: failures.unwrap_or(0) as f64,
    }
}
