//! One plugin of a logstore: a batch in, a batch out, or a fault and the batch as it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Plugin;
use super::api::v0_1::{self, Output};
use super::files::{self, Files};
use super::guest::{Guest, cut};
use super::instance::{Fault, Instance};
use super::limits::Limits;
use super::log::Log;
use super::output::{self, Numbers, Violation};
use super::poison::Poison;
use super::trust::Trust;
use crate::budget::Budget;
use crate::event::{Aside, Batch, Field, Origin, merge};

/// A plugin with its settings in one logstore.
pub struct Stage {
    plugin: Arc<Plugin>,
    settings: String,
    limits: Limits,
    files: Option<Arc<Files>>,
    budget: Arc<Budget>,
    instance: Option<Instance>,
    /// Fuel that taking its settings took the last time.
    settings_fuel: u64,
    log: Log,
    /// Whether it may be called.
    pub trust: Trust,
    /// The fields of the last output, whose names need not be made again.
    fields: Vec<Field>,
    /// What it has done.
    pub stats: Stats,
}

/// What a stage has done.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Calls of `process`.
    pub calls: u64,
    /// Events that it was given.
    pub events: u64,
    /// Bytes that it was given.
    pub bytes: u64,
    /// Fuel that it used, also for its settings.
    pub fuel: u64,
    /// CPU time of its calls, with the copying in and out and the making of instances.
    pub cpu: Duration,
    /// Events on which it failed: those that it could not process, as it says, and those on which it faulted.
    pub failed: u64,
    /// Calls that gave nothing that can be used.
    pub faults: u64,
    /// The last of these.
    pub last_fault: Option<String>,
    /// In words of weir alone, without any of the plugin's.
    pub last_kind: &'static str,
    /// The last event that was found to be what it faults on.
    pub last_poison: Option<Poison>,
    /// Why it failed last: by its own word, or by a fault.
    pub last_failure: Option<Arc<str>>,
    /// Instances that were made.
    pub instances: u64,
    /// The most bytes of linear memory that an instance had.
    pub peak_memory: usize,
    /// The plugin's own counters.
    pub counters: BTreeMap<String, u64>,
}

impl Stage {
    /// Makes a first instance, so that settings which the plugin refuses are known at once.
    pub fn new(plugin: Arc<Plugin>, settings: &str, limits: Limits, budget: &Arc<Budget>) -> Result<Self> {
        Self::with(plugin, settings, limits, budget, None, Log::of_author())
    }

    /// The same of a plugin that may read these files, and logs there.
    pub fn with(
        plugin: Arc<Plugin>,
        settings: &str,
        limits: Limits,
        budget: &Arc<Budget>,
        files: Option<Arc<Files>>,
        log: Log,
    ) -> Result<Self> {
        let mut stage = Stage {
            plugin,
            settings: settings.to_owned(),
            limits,
            files,
            budget: budget.clone(),
            instance: None,
            settings_fuel: 0,
            log,
            trust: Trust::default(),
            fields: Vec::new(),
            stats: Stats::default(),
        };
        if let Err(error) = stage.instance() {
            return Err(error).with_context(|| format!("plugin {}", stage.plugin.name()));
        }
        Ok(stage)
    }

    /// The plugin.
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// Whether it does the same as another, with the same limits.
    pub fn is_same(&self, other: &Stage) -> bool {
        (&self.plugin.digest, &self.settings, &self.limits) == (&other.plugin.digest, &other.settings, &other.limits)
            && files::is_same(self.files.as_ref(), other.files.as_ref())
    }

    /// Its settings, which are JSON.
    pub fn settings(&self) -> &str {
        &self.settings
    }

    /// Fuel that a call with that batch may use.
    pub fn allowance(&self, batch: &Batch) -> u64 {
        self.limits.fuel(batch.arena.len(), batch.len())
    }

    /// Fuel that any call may use, and what an instance of its own takes.
    pub fn small_call(&self) -> u64 {
        self.limits.fuel_base.saturating_add(self.settings_fuel)
    }

    /// Bytes that a call may hand over.
    pub fn output_bytes(&self) -> usize {
        self.limits.output_bytes
    }

    /// Bytes of linear memory that it has.
    pub fn memory(&self) -> usize {
        self.instance.as_ref().map_or(0, Instance::memory)
    }

    /// Whether memory of its project comes back by itself.
    pub fn awaits_memory(&self) -> bool {
        self.budget.is_awaited()
    }

    /// Lets its instance go; another is made when it is needed.
    pub fn rest(&mut self) {
        self.instance = None;
    }

    /// Lets its first instance go, and does not count it.
    pub fn begin(&mut self) {
        self.instance = None;
        self.stats = Stats::default();
    }

    /// The same, with the memory of later instances from another budget.
    pub fn begin_with(&mut self, budget: &Arc<Budget>) {
        self.begin();
        self.budget = budget.clone();
    }

    /// Lets its instance go, and the names of what it made.
    pub fn forget(&mut self) {
        self.rest();
        self.fields = Vec::new();
    }

    /// Suspends it from now on.
    pub fn suspend(&mut self, now: Instant, fault: &Fault) {
        self.instance = None;
        self.trust.suspend(now, &self.cut_fault(fault));
    }

    /// What stands in `__error__` of events that fail by a fault.
    pub fn reason_of(&self, fault: &Fault) -> Arc<str> {
        format!("{}: {}", self.plugin.name(), self.cut_fault(fault)).into()
    }

    /// What stands in `__error__` of events that pass by it because of that.
    pub fn reason(&self, what: &str) -> Arc<str> {
        format!("{}: {what}", self.plugin.name()).into()
    }

    /// A reason as it was before it had the plugin's name.
    pub fn without_name<'a>(&self, reason: &'a str) -> &'a str {
        let own = reason.strip_prefix(self.plugin.name()).and_then(|rest| rest.strip_prefix(": "));
        own.unwrap_or(reason)
    }

    fn cut_fault(&self, fault: &Fault) -> String {
        // With a stack, which the host makes.
        cut(&fault.to_string(), 4 * self.limits.reason)
    }

    /// What the plugin answers to one call, also without any event, which no agent does: to try its manners.
    pub fn answer(&mut self, batch: &Batch, last: bool) -> Result<Output, Fault> {
        self.call(batch, last)
    }

    /// One batch through the plugin. Events that are marked already pass by it, in their places. After a fault the batch
    /// is as it was.
    pub fn process(&mut self, batch: &mut Batch, held: &mut Batch, last: bool) -> Result<Batch, Fault> {
        if batch.marks.is_empty() {
            let Made { batch: made, asides, places } = self.transform(batch, held, last)?;
            return Ok(match asides.is_empty() {
                true => made,
                false => merge(batch, made, &places.unwrap_or_else(|| (0..batch.len() as u32).collect()), &asides),
            });
        }
        let (mut open, open_places) = batch.take_unmarked();
        let transformed = self.transform(&mut open, held, last);
        let Made { batch: mut made, mut asides, places } = match transformed {
            Ok(made) => made,
            Err(fault) => {
                batch.arena = open.arena;
                return Err(fault);
            }
        };
        if !held.is_empty() {
            // Marked events do not overtake those that are held: they wait with them.
            let first = open_places[open_places.len() - held.len()];
            batch.arena = std::mem::take(&mut made.arena);
            *held = batch.tail(batch.len() - first as usize);
            made.arena = std::mem::take(&mut batch.arena);
            batch.marks.retain(|mark| mark.event < first);
        }
        asides.iter_mut().for_each(|aside| aside.event = open_places[aside.event as usize]);
        asides.extend(batch.marks.iter().map(|mark| Aside { event: mark.event, reason: mark.reason.clone() }));
        asides.sort_by_key(|aside| aside.event);
        let places = match places {
            Some(places) => places.iter().map(|place| open_places[*place as usize]).collect(),
            None => open_places,
        };
        Ok(merge(batch, made, &places, &asides))
    }

    /// What the plugin makes of events of which none is marked. The arena goes from `batch` into what is made.
    fn transform(&mut self, batch: &mut Batch, held: &mut Batch, last: bool) -> Result<Made, Fault> {
        if batch.is_empty() {
            return Ok(Made { batch: std::mem::take(batch), asides: Vec::new(), places: None });
        }
        let output = self.call(batch, last)?;
        let asides = self.set_aside(&output, batch, last, held);
        self.stats.failed += asides.len() as u64;
        if let Some(aside) = asides.last() {
            self.log.fail(&self.limits, self.plugin.name(), self.without_name(&aside.reason));
            self.stats.last_failure = Some(aside.reason.clone());
        }
        let places = (!output.origins.is_empty() || !output.failed.is_empty()).then(|| places(&output, batch));
        Ok(Made { batch: self.adopt(output, batch, places.as_deref()), asides, places })
    }

    /// Calls the plugin and checks what it returns. After a fault its instance is gone.
    fn call(&mut self, batch: &Batch, last: bool) -> Result<Output, Fault> {
        let begun = crate::clock::thread_cpu();
        let called = self.call_instance(batch, last);
        self.stats.cpu += crate::clock::thread_cpu() - begun;
        // What found no memory is called again.
        if !matches!(called, Err(Fault::NoMemory)) {
            self.stats.calls += 1;
            self.stats.events += batch.len() as u64;
            self.stats.bytes += batch.arena.len() as u64;
        }
        match &called {
            Ok(_) => self.budget.has_enough(),
            // Another may have what it needs, and give it back.
            Err(Fault::NoMemory) => self.instance = None,
            Err(fault) => {
                self.instance = None;
                self.stats.faults += 1;
                self.stats.last_kind = fault.kind();
                let fault = fault.to_string();
                self.log.fail(&self.limits, self.plugin.name(), &fault);
                self.stats.last_failure = Some(fault.as_str().into());
                self.stats.last_fault = Some(fault);
            }
        }
        called
    }

    fn call_instance(&mut self, batch: &Batch, last: bool) -> Result<Output, Fault> {
        let limits = self.limits;
        let instance = self.instance().map_err(|error| match error.downcast() {
            Ok(Fault::NoMemory) => Fault::NoMemory,
            Ok(fault) => Fault::NotStarted(fault.to_string()),
            Err(error) => Fault::NotStarted(format!("{error:#}")),
        })?;
        let called = instance.process(batch, last);
        let (memory, is_bloated, counters) = (instance.memory(), instance.is_bloated(), instance.take_counters());
        self.stats.peak_memory = self.stats.peak_memory.max(memory);
        self.stats.fuel += called.fuel;
        self.count(counters);
        if is_bloated {
            self.instance = None;
        }
        let output = called.result?;
        if self.plugin.is_metered {
            check(&output, batch, &limits).map_err(Fault::Lied)?;
        }
        Ok(output)
    }

    fn instance(&mut self) -> Result<&mut Instance> {
        if self.instance.is_none() {
            let guest = Guest::new(self.plugin.name(), &self.limits, &self.budget, &self.log, self.files.as_ref());
            let made = Instance::new(&self.plugin, &self.settings, guest);
            self.stats.fuel += made.fuel;
            self.settings_fuel = made.fuel;
            self.instance = Some(made.result?);
            self.stats.instances += 1;
        }
        Ok(self.instance.as_mut().expect("it was just made"))
    }

    /// Adds to the plugin's counters. Each instance may have some names, and all together no more.
    fn count(&mut self, counters: BTreeMap<String, u64>) {
        for (name, amount) in counters {
            let fits = self.stats.counters.len() < self.limits.counters || self.stats.counters.contains_key(&name);
            let count = self.stats.counters.entry(if fits { name } else { "other".to_owned() }).or_default();
            *count = count.saturating_add(amount);
        }
    }

    /// Keeps what is held for the next batch, and lists the events that failed, in order.
    fn set_aside(&self, output: &Output, batch: &Batch, last: bool, held: &mut Batch) -> Vec<Aside> {
        // There may be many that nothing refers to.
        let mut reasons = vec![None; if output.failed.is_empty() { 0 } else { output.reasons.len() }];
        let mut reason = |index: usize| -> Arc<str> {
            let made = || self.reason(&cut(&output.reasons[index], self.limits.reason));
            reasons[index].get_or_insert_with(made).clone()
        };
        let pairs = output.failed.chunks_exact(2);
        let mut failed: Vec<_> = pairs.map(|pair| Aside { event: pair[0], reason: reason(pair[1] as usize) }).collect();
        let count = output.held as usize;
        if count > 0 {
            let waiting = batch.tail(count);
            let refusal = if last {
                Some("held, but nothing follows".to_owned())
            } else if waiting.arena.len() > self.limits.held_bytes {
                Some(format!("held more than {} bytes", self.limits.held_bytes))
            } else {
                *held = waiting;
                None
            };
            if let Some(refusal) = refusal {
                let reason = self.reason(&refusal);
                let events = (batch.len() - count) as u32..batch.len() as u32;
                failed.extend(events.map(|event| Aside { event, reason: reason.clone() }));
            }
        }
        failed
    }

    /// The output as a batch whose arena is the input's with what was made behind it. `places` says which input
    /// event each came from; without it, all are one to one.
    fn adopt(&mut self, output: Output, input: &mut Batch, places: Option<&[u32]>) -> Batch {
        self.remember_fields(&output.fields);
        let events = output.rows.len();
        let mut arena = std::mem::take(&mut input.arena);
        arena.extend_from_slice(&output.made);
        let times = match places {
            _ if !output.times.is_empty() => output.times,
            _ if input.times.is_empty() => Vec::new(),
            Some(places) => places.iter().map(|place| input.time(*place as usize)).collect(),
            None => input.times[..events].to_vec(),
        };
        let origins = match places {
            _ if !output.origins.is_empty() => {
                let compose = |pair: &[u32]| Origin {
                    first: input.origin(pair[0] as usize).first,
                    end: input.origin(pair[1] as usize - 1).end,
                };
                output.origins.chunks_exact(2).map(compose).collect()
            }
            Some(places) => places.iter().map(|place| input.origin(*place as usize)).collect(),
            None if input.origins.is_empty() => Vec::new(),
            None => input.origins[..events].to_vec(),
        };
        Batch {
            tags: input.tags.clone(),
            arena,
            fields: self.fields.clone(),
            rows: output.rows,
            cells: output.cells,
            times,
            origins,
            first: input.first,
            marks: Vec::new(),
        }
    }

    /// Plugins name the same fields batch after batch: their names are made once.
    fn remember_fields(&mut self, fields: &[v0_1::OutputField]) {
        let is_same =
            |(old, new): (&Field, &v0_1::OutputField)| *old.name == *new.name && old.kind == v0_1::to_kind(new.kind);
        if self.fields.len() != fields.len() || !self.fields.iter().zip(fields).all(is_same) {
            let field = |f: &v0_1::OutputField| Field { name: f.name.as_str().into(), kind: v0_1::to_kind(f.kind) };
            self.fields = fields.iter().map(field).collect();
        }
    }
}

/// What a plugin made of a batch.
struct Made {
    /// Its events, in an arena that continues the input's.
    batch: Batch,
    /// The input's events that go on unchanged, in order.
    asides: Vec<Aside>,
    /// For each event made, the first input event that it came from; none where all are one to one.
    places: Option<Vec<u32>>,
}

/// For each output event, the first input event that it came from.
fn places(output: &Output, input: &Batch) -> Vec<u32> {
    if !output.origins.is_empty() {
        return output.origins.chunks_exact(2).map(|pair| pair[0]).collect();
    }
    let mut failed = output.failed.chunks_exact(2).map(|pair| pair[0]).peekable();
    let open = input.len() as u32 - output.held;
    let kept = (0..open).filter(|event| failed.next_if_eq(event).is_none());
    kept.take(output.rows.len()).collect()
}

fn check(output: &Output, batch: &Batch, limits: &Limits) -> Result<(), Violation> {
    if output.fields.len() > limits.fields {
        return Err(Violation(format!("{} fields, and {} are allowed", output.fields.len(), limits.fields)));
    }
    for field in &output.fields {
        let name = &field.name;
        if name.is_empty() || name.len() > limits.field_name || name.starts_with("__") {
            return Err(Violation(format!(
                "the field name {:?} is empty, longer than {} bytes, or begins with `__`",
                cut(name, 64),
                limits.field_name
            )));
        }
    }
    let (events, most_events) = (output.rows.len(), limits.output_events.max(batch.len()));
    if events > most_events {
        return Err(Violation(format!("{events} events, and {most_events} are allowed")));
    }
    let names: Vec<_> = output.fields.iter().map(|field| written(field.name.as_bytes())).collect();
    output::check(&Numbers {
        inputs: batch.len(),
        data: batch.arena.len(),
        made: output.made.len(),
        fields: &names,
        reasons: output.reasons.len(),
        rows: &output.rows,
        cells: &output.cells,
        times: &output.times,
        origins: &output.origins,
        failed: &output.failed,
        held: output.held,
        // An event may be larger than what is usual.
        most_bytes: limits.output_bytes.max(2 * batch.arena.len()),
    })?;
    // Each is written as often as it is referred to.
    let reason = |pair: &[u32]| {
        let reason = output.reasons[pair[1] as usize].as_bytes();
        written(&reason[..reason.len().min(limits.reason)]) as usize
    };
    let (bytes, most) = (output.failed.chunks_exact(2).map(reason).sum::<usize>(), limits.output_bytes);
    if bytes > most {
        return Err(Violation(format!("the reasons have {bytes} bytes together, and {most} are allowed")));
    }
    Ok(())
}

/// Bytes of a text where it is written, with its escapes.
fn written(text: &[u8]) -> u32 {
    text.iter().map(|byte| if *byte < b' ' { 6 } else { 1 }).sum()
}
