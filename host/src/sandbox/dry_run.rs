//! What a chain makes of some events, without anything coming of it, beside what another makes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::chain::{Chain, Held};
use super::guest::harmless;
use super::passage::{Passage, Step};
use crate::clock::thread_cpu;
use crate::event::{Batch, CELL, CONTENT, Kind, Tally};

/// Bytes of lines that are tried at most.
pub const BYTES: usize = 256 << 10;

/// CPU time that a chain may use for them. What it is in the middle of then is brought to its end, which fuel bounds.
const TIME: Duration = Duration::from_secs(2);

/// How long memory of the project is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reasons that are named, and examples.
const REASONS: usize = 5;
const EXAMPLES: usize = 3;

/// Different reasons that are counted; all others are one.
const COUNTED: usize = 100;

/// Fields that are named.
const FIELDS: usize = 100;

/// Bytes of a reason, a name or a line that is shown.
const SHOWN: usize = 200;

/// What two chains made of the same events.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// Bytes of the events.
    pub bytes: u64,
    /// What may come.
    pub candidate: Outcome,
    /// What runs now, if anything does.
    pub running: Option<Outcome>,
    /// Events that fail in the candidate alone, a few.
    pub examples: Vec<Example>,
}

/// What a chain made of events.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Outcome {
    /// Events that it was given.
    pub events: u64,
    /// Those of them that were parsed.
    pub parsed: u64,
    /// Those that would be shipped unchanged, marked with a reason.
    pub failed: u64,
    /// Those that it left out on purpose.
    pub dropped: u64,
    /// Events that came out, of those that were parsed.
    pub made: u64,
    /// Calls that trapped, ran out of something, or broke the contract.
    pub faults: u64,
    /// Why events failed, the most frequent first.
    pub reasons: Vec<Count>,
    /// The fields that came out, in their order.
    pub fields: Vec<FieldCount>,
    /// Fuel for an event.
    pub fuel_per_event: f64,
    /// CPU time for an event, in nanoseconds.
    pub cpu_per_event: f64,
    /// 10^6 bytes of events in a second of CPU time.
    pub megabytes_per_second: f64,
    /// Why not all events were tried.
    pub cut_short: Option<String>,
}

/// How often there was something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Count {
    /// What.
    pub what: String,
    /// Events.
    pub events: u64,
}

/// A field that came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldCount {
    /// Its name.
    pub name: String,
    /// `text`, `integer`, `float`, `boolean` or `json`.
    pub kind: String,
    /// Events that have it.
    pub events: u64,
}

/// An event that fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Example {
    /// The beginning of it, as it was read.
    pub line: String,
    /// Why.
    pub reason: String,
}

/// Sends events through both chains, which are of no other use then. The batches of a file follow one another.
pub fn dry_run(candidate: Chain, running: Option<Chain>, batches: &[Batch]) -> Report {
    dry_run_until(&AtomicBool::new(false), candidate, running, batches)
}

/// The same, cut short as soon as it is to stop.
pub fn dry_run_until(stop: &AtomicBool, mut candidate: Chain, running: Option<Chain>, batches: &[Batch]) -> Report {
    let mut new = Trial::of(&mut candidate, batches, stop);
    let old = running.map(|mut running| Trial::of(&mut running, batches, stop));
    let failed_before = old.as_ref().map(|old| old.failures.keys().copied().collect::<BTreeSet<_>>());
    let is_new = |event: &&(usize, u64)| failed_before.as_ref().is_none_or(|before| !before.contains(event));
    let examples = new.failures.keys().filter(is_new).take(EXAMPLES);
    let examples =
        examples.filter_map(|at| Some(Example { line: line(batches, *at)?, reason: new.failures[at].clone() }));
    let examples = examples.collect();
    new.outcome.finish();
    Report {
        bytes: batches.iter().map(content_bytes).sum(),
        candidate: new.outcome,
        running: old.map(|mut old| {
            old.outcome.finish();
            old.outcome
        }),
        examples,
    }
}

impl Report {
    /// Why the candidate should not run, if it should not: it faults more than what runs now, or does nothing of what that
    /// does.
    pub fn objection(&self) -> Option<String> {
        let new = &self.candidate;
        let faults = self.running.as_ref().map_or(0, |running| running.faults);
        let why = new.reasons.first().map(|reason| format!(", as here: {}", reason.what)).unwrap_or_default();
        if new.faults > faults {
            return Some(format!(
                "it faults on the logstore's last lines, {} times in {} events{why}",
                new.faults, new.events
            ));
        }
        let has_worked = self.running.as_ref().is_none_or(|running| running.parsed > 0);
        let does_nothing = new.parsed == 0 && new.failed > 0;
        (does_nothing && has_worked)
            .then(|| format!("none of the logstore's last {} events can be parsed{why}", new.events))
    }
}

/// A chain that is tried.
#[derive(Default)]
struct Trial {
    outcome: Outcome,
    /// By file and number of the event.
    failures: BTreeMap<(usize, u64), String>,
    cpu: Duration,
    fuel: u64,
    bytes: u64,
}

impl Trial {
    fn of(chain: &mut Chain, batches: &[Batch], stop: &AtomicBool) -> Trial {
        chain.keep_all();
        let mut trial = Trial::default();
        let (mut held, mut tally) = (Held::default(), Tally::default());
        let before = costs(chain);
        let begun = thread_cpu();
        for (index, batch) in batches.iter().enumerate() {
            let file = file_of(batches, index);
            if file == index {
                (held, tally) = (Held::default(), Tally::new(batch.first));
            }
            let is_last = index + 1 == batches.len() || file_of(batches, index + 1) == index + 1;
            if thread_cpu() - begun > TIME {
                trial.outcome.cut_short = Some(format!("it took more than {} s of CPU time", TIME.as_secs()));
                break;
            }
            let Some(made) = send(chain, batch.clone(), &mut held, is_last, stop) else {
                let why =
                    if stop.load(Ordering::Relaxed) { "weir is stopping" } else { "its project has no memory left" };
                trial.outcome.cut_short = Some(why.to_owned());
                break;
            };
            let end = batch.first + batch.len() as u64;
            let tallied = tally.count(&made, held.first().unwrap_or(end), &[]);
            trial.outcome.events += batch.len() as u64;
            trial.bytes += content_bytes(batch);
            trial.outcome.parsed += tallied.shipped - tallied.kept_raw;
            trial.outcome.failed += tallied.kept_raw;
            trial.outcome.dropped += tallied.dropped + tallied.faulted;
            trial.count(file, &made);
        }
        let after = costs(chain);
        (trial.fuel, trial.cpu, trial.outcome.faults) = (after.0 - before.0, after.1 - before.1, after.2 - before.2);
        let per = |total: f64, of: f64| if of > 0.0 { total / of } else { 0.0 };
        let events = trial.outcome.events as f64;
        trial.outcome.fuel_per_event = per(trial.fuel as f64, events);
        trial.outcome.cpu_per_event = per(trial.cpu.as_nanos() as f64, events);
        trial.outcome.megabytes_per_second = per(trial.bytes as f64 / 1e6, trial.cpu.as_secs_f64());
        trial
    }

    /// Counts what came out.
    fn count(&mut self, file: usize, made: &Batch) {
        let mut marks = made.marks.iter().peekable();
        let mut fields = vec![0; made.fields.len()];
        for event in 0..made.len() {
            if let Some(mark) = marks.next_if(|mark| mark.event as usize == event) {
                let reason = harmless(&mark.reason, SHOWN);
                self.fail(&reason);
                self.failures.insert((file, made.origin(event).first), reason);
                continue;
            }
            self.outcome.made += 1;
            made.event(event).chunks_exact(CELL).for_each(|cell| fields[cell[0] as usize] += 1);
        }
        for (field, events) in made.fields.iter().zip(fields).filter(|(_, events)| *events > 0) {
            let (name, kind) = (harmless(&field.name, SHOWN), kind_name(field.kind));
            let known = &mut self.outcome.fields;
            match known.iter().position(|known| known.name == name && known.kind == kind) {
                Some(at) => known[at].events += events,
                None if known.len() == FIELDS => {}
                None => known.push(FieldCount { name, kind: kind.to_owned(), events }),
            }
        }
    }

    fn fail(&mut self, reason: &str) {
        let reasons = &mut self.outcome.reasons;
        if let Some(known) = reasons.iter_mut().find(|known| known.what == reason) {
            known.events += 1;
        } else if reasons.len() < COUNTED {
            reasons.push(Count { what: reason.to_owned(), events: 1 });
        }
    }
}

impl Outcome {
    fn finish(&mut self) {
        self.reasons.sort_by_key(|reason| std::cmp::Reverse(reason.events));
        self.reasons.truncate(REASONS);
    }
}

/// Sends a batch through; none if there is no memory for it, or if it is to stop.
fn send(chain: &mut Chain, batch: Batch, held: &mut Held, is_last: bool, stop: &AtomicBool) -> Option<Batch> {
    let mut passage = Passage::new(batch, is_last);
    let mut short_since = None;
    loop {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        let now = Instant::now();
        match chain.advance(&mut passage, held, now) {
            Step::Done => return Some(passage.into_made().0),
            Step::Pause => short_since = None,
            Step::Wait(_) | Step::Short => {
                if now - *short_since.get_or_insert(now) > PATIENCE {
                    return None;
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Fuel, CPU time and faults of all stages so far.
fn costs(chain: &Chain) -> (u64, Duration, u64) {
    let stages = chain.stages().iter().map(|stage| &stage.stats);
    stages.fold((0, Duration::ZERO, 0), |(fuel, cpu, faults), stats| {
        (fuel + stats.fuel, cpu + stats.cpu, faults + stats.faults)
    })
}

/// The index of the first batch of the same file.
fn file_of(batches: &[Batch], index: usize) -> usize {
    let goes_on = |index: &usize| {
        let Some(before) = index.checked_sub(1).map(|before| &batches[before]) else { return false };
        before.tags == batches[*index].tags && before.first + before.len() as u64 == batches[*index].first
    };
    (0..=index).rev().find(|index| !goes_on(index)).unwrap_or(0)
}

/// The beginning of an event as it was read.
fn line(batches: &[Batch], (file, event): (usize, u64)) -> Option<String> {
    let is_it = |batch: &&Batch| (batch.first..batch.first + batch.len() as u64).contains(&event);
    let batch = batches[file..].iter().find(is_it)?;
    let content = content(batch, (event - batch.first) as usize)?;
    Some(harmless(&String::from_utf8_lossy(&content[..content.len().min(4 * SHOWN)]), SHOWN))
}

fn content(batch: &Batch, event: usize) -> Option<&[u8]> {
    let cells = batch.event(event).chunks_exact(CELL);
    let cell = cells.into_iter().find(|cell| &*batch.fields[cell[0] as usize].name == CONTENT)?;
    batch.arena.get(cell[1] as usize..cell[2] as usize)
}

fn content_bytes(batch: &Batch) -> u64 {
    (0..batch.len()).filter_map(|event| content(batch, event)).map(|content| content.len() as u64 + 1).sum()
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "text",
        Kind::Integer => "integer",
        Kind::Float => "float",
        Kind::Boolean => "boolean",
        Kind::Json => "json",
    }
}

/// A number as it stands in the table.
type Shown = fn(&Outcome) -> String;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.candidate.events == 0 && self.candidate.cut_short.is_none() {
            return writeln!(f, "The logstore has no lines to try it on.");
        }
        let rows: [(&str, Shown); 9] = [
            ("events", |o| o.events.to_string()),
            ("  parsed", |o| o.parsed.to_string()),
            ("  failed", |o| o.failed.to_string()),
            ("  dropped", |o| o.dropped.to_string()),
            ("events made", |o| o.made.to_string()),
            ("faults", |o| o.faults.to_string()),
            ("fuel an event", |o| format!("{:.0}", o.fuel_per_event)),
            ("CPU time an event", |o| format!("{:.2} µs", o.cpu_per_event / 1e3)),
            ("MB/s of CPU time", |o| format!("{:.0}", o.megabytes_per_second)),
        ];
        let titles = ("", "new".to_owned(), self.running.as_ref().map(|_| "running".to_owned()));
        let rows = rows.map(|(name, show)| (name, show(&self.candidate), self.running.as_ref().map(show)));
        let rows: Vec<_> = [titles].into_iter().chain(rows).collect();
        let width = |cell: &str| cell.chars().count();
        let widths = (
            rows.iter().map(|(_, new, _)| width(new)).max().unwrap_or(0),
            rows.iter().filter_map(|(_, _, old)| old.as_deref()).map(width).max().unwrap_or(0),
        );
        for (name, new, old) in &rows {
            write!(f, "{name:<18}  {new:>0$}", widths.0)?;
            if let Some(old) = old {
                write!(f, "  {old:>0$}", widths.1)?;
            }
            writeln!(f)?;
        }
        self.write_fields(f)?;
        for reason in &self.candidate.reasons {
            writeln!(f, "fails {} times: {}", reason.events, reason.what)?;
        }
        for example in &self.examples {
            let before = if self.running.is_some() { ", and does not now" } else { "" };
            writeln!(f, "would fail{before}: {}\n  {}", example.reason, example.line)?;
        }
        for (which, outcome) in [("new", Some(&self.candidate)), ("running", self.running.as_ref())] {
            if let Some(why) = outcome.and_then(|outcome| outcome.cut_short.as_ref()) {
                writeln!(f, "{which}: not all lines were tried: {why}")?;
            }
        }
        Ok(())
    }
}

impl Report {
    /// A line a field, with the events that have it, in both.
    fn write_fields(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut rows: Vec<(String, u64, Option<u64>)> = Vec::new();
        let name = |field: &FieldCount| format!("{} ({})", field.name, field.kind);
        let old = self.running.as_ref().map(|running| &running.fields);
        for field in &self.candidate.fields {
            let same = |other: &&FieldCount| other.name == field.name && other.kind == field.kind;
            let count = old.map(|old| old.iter().find(same).map_or(0, |field| field.events));
            rows.push((name(field), field.events, count));
        }
        let is_gone = |field: &&FieldCount| {
            !self.candidate.fields.iter().any(|other| other.name == field.name && other.kind == field.kind)
        };
        rows.extend(old.into_iter().flatten().filter(is_gone).map(|field| (name(field), 0, Some(field.events))));
        if rows.is_empty() {
            return Ok(());
        }
        let width = rows.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0).max("field".len());
        let running = if old.is_some() { "  in running" } else { "" };
        writeln!(f, "{:<width$}  {:>8}{running}", "field", "in new")?;
        for (name, new, old) in rows {
            write!(f, "{name:<width$}  {new:>8}")?;
            if let Some(old) = old {
                write!(f, "  {old:>10}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
