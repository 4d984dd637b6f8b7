//! What a plugin costs on some batches, and how much of each limit it takes.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::Progress;
use super::input::Case;
use crate::budget::Budget;
use crate::clock::thread_cpu;
use crate::event::{Batch, CELL, Tally};
use crate::sandbox::cache::Whose;
use crate::sandbox::compile::{ByChild, Compiler};
use crate::sandbox::instance::Fault;
use crate::sandbox::limits::COMPONENT_BYTES;
use crate::sandbox::{CompileLimits, Limits, Log, Plugin, Sandbox, Stage};

/// CPU time in which all batches of a case are measured again and again, and how often at least.
const ROUNDS_TIME: Duration = Duration::from_secs(1);
const ROUNDS: usize = 5;

/// CPU time of one round: of what takes longer, the first batches are measured.
const ROUND_TIME: Duration = Duration::from_millis(500);

/// How often loading and starting are measured, unless it takes long.
const STARTS: usize = 15;
const STARTS_TIME: Duration = Duration::from_millis(500);

/// What the host takes for a cell besides its bytes, as it is counted against the output.
const CELL_BYTES: u64 = 32;

/// A plugin, measured.
#[derive(Debug, Serialize)]
pub struct Bench {
    pub name: String,
    pub version: String,
    pub file: String,
    /// Bytes of the `.wasm`.
    pub size: u64,
    /// CPU seconds of compiling it, in the process that does that.
    pub compile_seconds: f64,
    /// CPU seconds of loading it when it is compiled.
    pub load_seconds: f64,
    pub cases: Vec<Run>,
    /// Of each limit, the case that takes most of it.
    pub limits: Vec<Usage>,
    /// Where the fuel goes, if that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<Function>,
}

/// A plugin with settings and some input, measured.
#[derive(Debug, Default, Serialize)]
pub struct Run {
    pub case: String,
    /// Of the batches that are measured.
    pub events: u64,
    pub bytes: u64,
    pub rounds: usize,
    /// 10^6 bytes of input in a second of CPU time, with the copying in and out and the checks: of the median round.
    pub megabytes_per_second: f64,
    pub events_per_second: f64,
    pub fuel_per_byte: f64,
    pub fuel_per_event: f64,
    /// The most bytes of linear memory.
    pub memory: u64,
    /// CPU seconds of making an instance that has taken its settings.
    pub start_seconds: f64,
    /// Events of a round that it could not process, and those that it left out.
    pub failed: u64,
    pub dropped: u64,
    /// A limit that it exceeds, or a trap; without rounds it could not be measured.
    pub fault: Option<String>,
    #[serde(skip)]
    pub(super) usages: Vec<Usage>,
}

/// How much of a limit is taken.
#[derive(Clone, Debug, Serialize)]
pub struct Usage {
    pub limit: &'static str,
    /// Fuel, bytes or CPU seconds.
    pub used: f64,
    pub most: f64,
    #[serde(skip)]
    pub unit: Unit,
    /// Where, if that is not the same for all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub case: String,
}

/// What a limit is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Fuel,
    Bytes,
    Seconds,
}

impl Usage {
    fn new(limit: &'static str, unit: Unit, used: f64, most: f64) -> Self {
        Usage { limit, used, most, unit, case: String::new() }
    }

    /// The part of the limit that is taken: 1 is all of it.
    pub fn share(&self) -> f64 {
        self.used / self.most
    }
}

/// A function that uses fuel.
#[derive(Debug, Serialize)]
pub struct Function {
    pub name: String,
    /// Parts of all fuel: its own, and with what it calls.
    pub own: f64,
    pub all: f64,
}

/// Measures a plugin with each of these.
pub fn bench(file: &Path, cases: &[Case], progress: &Progress) -> Result<Bench> {
    let size = fs::metadata(file).with_context(|| format!("plugin {}", file.display()))?.len();
    let cache = tempfile::tempdir().context("making a directory for what is compiled")?;
    let sandbox = Sandbox::new(Compiler::new(&cache.path().join("cache"), Whose::Own, ByChild::default())?)?;
    progress.say(&format!("{}: compiling", file.display()));
    let before = children_cpu();
    let plugin = sandbox.load(file)?;
    let compile = (children_cpu() - before).as_secs_f64();
    let load = median_of_many(|| sandbox.load(file).map(drop))?;
    let mut runs = Vec::new();
    for case in cases {
        progress.say(&format!("{}, {}: measuring", plugin.name(), case.name));
        runs.push(measure(&plugin, case)?);
    }
    let mut limits = nearest(&runs);
    limits.push(Usage::new("size of the .wasm", Unit::Bytes, size as f64, COMPONENT_BYTES as f64));
    let most = CompileLimits::default().cpu_seconds;
    limits.push(Usage::new("CPU time to compile", Unit::Seconds, compile, most as f64));
    Ok(Bench {
        name: plugin.name().to_owned(),
        version: plugin.metadata.version.clone(),
        file: file.display().to_string(),
        size,
        compile_seconds: compile,
        load_seconds: load.as_secs_f64(),
        cases: runs,
        limits,
        functions: Vec::new(),
    })
}

/// Of each limit, what comes nearest to it.
fn nearest(runs: &[Run]) -> Vec<Usage> {
    let mut limits: Vec<Usage> = Vec::new();
    for run in runs {
        for usage in &run.usages {
            let usage = Usage { case: run.case.clone(), ..usage.clone() };
            match limits.iter_mut().find(|known| known.limit == usage.limit) {
                Some(known) if known.share() < usage.share() => *known = usage,
                Some(_) => {}
                None => limits.push(usage),
            }
        }
    }
    limits
}

fn measure(plugin: &Arc<Plugin>, case: &Case) -> Result<Run> {
    let (limits, budget) = (Limits::default(), Budget::new(None));
    let make = || Stage::with(plugin.clone(), &case.settings, limits, &budget, case.files(), Log::of_author());
    let start = median_of_many(|| make().map(drop)).with_context(|| format!("case {}", case.name))?;
    let (mut stage, mut fresh) = (make()?, make()?);
    let mut used = Used { configure: stage.stats.fuel, ..Used::default() };
    let mut run = Run { case: case.name.clone(), start_seconds: start.as_secs_f64(), ..Run::default() };
    let mut batches = case.batches.as_slice();
    match first_round(&mut stage, &mut batches, &mut used, &mut run) {
        Ok(()) => rounds(&mut stage, batches, &mut run),
        Err(fault) => run.fault = Some(used.add_fault(&fault, &limits)),
    }
    if let Err(fault) = first_alone(&mut fresh, batches, &mut used) {
        let fault = used.add_fault(&fault, &limits);
        run.fault.get_or_insert(format!("on its first event, alone and in a new instance: {fault}"));
    }
    run.memory = stage.stats.peak_memory as u64;
    used.memory = used.memory.max(stage.stats.peak_memory);
    run.usages = used.usages(&limits);
    Ok(run)
}

/// What a plugin took at most of what is limited.
#[derive(Default)]
struct Used {
    /// Fuel of all calls.
    fuel: u64,
    /// Fuel of the call that came nearest to what it may use, and that.
    call: (u64, u64),
    configure: u64,
    memory: usize,
    /// The same in bytes.
    output: (u64, u64),
    held: usize,
}

impl Used {
    fn usages(&self, limits: &Limits) -> Vec<Usage> {
        let pair = |limit, unit, (used, most): (u64, u64)| Usage::new(limit, unit, used as f64, most.max(1) as f64);
        let mut usages = vec![
            pair("fuel of a call", Unit::Fuel, self.call),
            pair("fuel for its settings", Unit::Fuel, (self.configure, limits.configure_fuel)),
            pair("memory", Unit::Bytes, (self.memory as u64, limits.memory as u64)),
            pair("output of a call", Unit::Bytes, self.output),
        ];
        if self.held > 0 {
            usages.push(pair("events held back", Unit::Bytes, (self.held as u64, limits.held_bytes as u64)));
        }
        usages
    }

    fn add_call(&mut self, fuel: u64, most: u64) {
        self.call = nearer(self.call, (fuel, most));
    }

    fn add_output(&mut self, bytes: u64, most: u64) {
        self.output = nearer(self.output, (bytes, most));
    }

    /// Adds what it wanted more of than it may have. Gives the fault in words.
    fn add_fault(&mut self, fault: &Fault, limits: &Limits) -> String {
        match fault {
            Fault::OutOfFuel { fuel, .. } => self.call = (*fuel, *fuel),
            Fault::OutOfMemory { limit } => self.memory = *limit,
            Fault::Swollen => self.output = (limits.output_bytes as u64, limits.output_bytes as u64),
            _ => {}
        }
        fault.to_string()
    }
}

/// Of two parts of a limit, the larger.
fn nearer(one: (u64, u64), other: (u64, u64)) -> (u64, u64) {
    let share = |(used, most): (u64, u64)| used as f64 / most.max(1) as f64;
    if share(other) > share(one) { other } else { one }
}

/// The first event alone, to an instance that has seen none, as in a quiet logstore. That is where a call has least fuel, and
/// what it does only once has to be in it.
fn first_alone(stage: &mut Stage, batches: &[Batch], used: &mut Used) -> Result<(), Fault> {
    let Some(first) = batches.first() else { return Ok(()) };
    call(stage, &first.part(0..1), &mut Batch::default(), true, used).map(drop)
}

/// Sends all batches through the plugin once, looks at each call, and leaves as many as a round may have.
fn first_round(stage: &mut Stage, batches: &mut &[Batch], used: &mut Used, run: &mut Run) -> Result<(), Fault> {
    let (mut held, mut tally, mut read) = (Batch::default(), Tally::default(), 0);
    let begun = thread_cpu();
    for (index, batch) in batches.iter().enumerate() {
        let is_last = index + 1 == batches.len() || thread_cpu() - begun > ROUND_TIME;
        read += batch.len() as u64;
        run.bytes += batch.arena.len() as u64;
        let made = call(stage, batch, &mut held, is_last, used)?;
        let settled = if held.is_empty() { read } else { held.origin(0).first };
        let tallied = tally.count(&made, settled, &[]);
        run.dropped += tallied.dropped;
        run.failed += tallied.kept_raw;
        if is_last {
            *batches = &batches[..=index];
            break;
        }
    }
    run.events = read;
    run.fuel_per_byte = used.fuel as f64 / run.bytes.max(1) as f64;
    run.fuel_per_event = used.fuel as f64 / run.events.max(1) as f64;
    Ok(())
}

/// One call, with what was held before it.
fn call(stage: &mut Stage, batch: &Batch, held: &mut Batch, last: bool, used: &mut Used) -> Result<Batch, Fault> {
    let mut input = batch.clone();
    if !held.is_empty() {
        input.prepend(&std::mem::take(held));
    }
    let (bytes, most) = (input.arena.len(), stage.allowance(&input));
    let (fuel, instances) = (stage.stats.fuel, stage.stats.instances);
    let made = stage.process(&mut input, held, last)?;
    let settings = used.configure * (stage.stats.instances - instances);
    let fuel = stage.stats.fuel - fuel - settings;
    used.fuel += fuel;
    used.add_call(fuel, most);
    used.add_output(output_bytes(&made, bytes), stage.output_bytes().max(2 * bytes) as u64);
    used.held = used.held.max(held.arena.len());
    Ok(made)
}

/// Bytes that an output has, or that its cells stand for: what of the two is more.
fn output_bytes(made: &Batch, input: usize) -> u64 {
    let names: Vec<_> = made.fields.iter().map(|field| field.name.len() as u64 + CELL_BYTES).collect();
    let cell = |cell: &[u32]| u64::from(cell[2] - cell[1]) + names[cell[0] as usize];
    let written = |cells: &[u32]| cells.chunks_exact(CELL).map(cell).sum::<u64>();
    let marked: u64 = made.marks.iter().map(|mark| written(made.event(mark.event as usize))).sum();
    let numbers = 4 * (made.rows.len() + made.cells.len()) + 8 * (made.times.len() + made.origins.len());
    let handed_over = (made.arena.len() - input + numbers) as u64;
    handed_over.max(written(&made.cells) - marked)
}

/// The same batches again and again.
fn rounds(stage: &mut Stage, batches: &[Batch], run: &mut Run) {
    let (mut times, begun) = (Vec::new(), thread_cpu());
    while times.len() < ROUNDS || thread_cpu() - begun < ROUNDS_TIME {
        let (mut held, before) = (Batch::default(), stage.stats.cpu);
        for (index, batch) in batches.iter().enumerate() {
            let mut input = batch.clone();
            if !held.is_empty() {
                input.prepend(&std::mem::take(&mut held));
            }
            if let Err(fault) = stage.process(&mut input, &mut held, index + 1 == batches.len()) {
                run.fault = Some(format!("in round {}, though not in the first: {fault}", times.len() + 1));
                return;
            }
        }
        times.push(stage.stats.cpu - before);
    }
    run.rounds = times.len();
    let seconds = median(times).as_secs_f64();
    run.megabytes_per_second = run.bytes as f64 / 1e6 / seconds;
    run.events_per_second = run.events as f64 / seconds;
}

/// The median CPU time of doing something several times.
fn median_of_many(mut act: impl FnMut() -> Result<()>) -> Result<Duration> {
    let (mut times, begun) = (Vec::new(), thread_cpu());
    while times.is_empty() || times.len() < STARTS && thread_cpu() - begun < STARTS_TIME {
        let before = thread_cpu();
        act()?;
        times.push(thread_cpu() - before);
    }
    Ok(median(times))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// CPU time of the processes that this one has started and that have ended.
fn children_cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in brackets, may have anything in it.
    let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
    let ticks: u64 = after.split(' ').skip(13).take(2).filter_map(|number| number.parse::<u64>().ok()).sum();
    // A hundredth of a second each, on all systems.
    Duration::from_millis(10 * ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_to_a_limit_is_kept() {
        assert_eq!(nearer((1, 10), (5, 100)), (1, 10));
        assert_eq!(nearer((0, 0), (5, 100)), (5, 100));
        let run = |case: &str, used| Run {
            case: case.to_owned(),
            usages: vec![Usage::new("memory", Unit::Bytes, used, 10.0)],
            ..Run::default()
        };
        let limits = nearest(&[run("a", 1.0), run("b", 8.0), run("c", 2.0)]);
        assert_eq!(limits.iter().map(|usage| (&*usage.case, usage.share())).collect::<Vec<_>>(), [("b", 0.8)]);
    }

    #[test]
    fn an_output_counts_as_what_it_hands_over_or_stands_for() {
        let mut made = crate::event::testing::raw(&["abcd", "ef"], 0);
        let input = made.arena.len();
        assert_eq!(output_bytes(&made, input), 6 + 2 * (7 + CELL_BYTES));
        made.arena.extend_from_slice(&[0; 1000]);
        assert_eq!(output_bytes(&made, input), 1000 + 4 * (2 + 6));
    }
}
