//! One instance of a plugin: its memory, its fuel, and what it says.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use anyhow::Result;
use wasmtime::{ResourceLimiter, Store, Trap, WasmBacktrace};

use super::api::v0_1;
use super::limits::{Limits, RECYCLE_PERCENT};
use super::{Plugin, output::Violation};
use crate::event::Batch;

/// An instance, configured.
pub struct Instance {
    store: Store<Guest>,
    bound: v0_1::Bound,
    limits: Limits,
}

/// What a call gave, and what it cost.
pub struct Called<T> {
    /// What came back.
    pub result: Result<T, Fault>,
    /// Fuel used.
    pub fuel: u64,
}

/// Why a call gave nothing that can be used.
#[derive(Debug)]
pub enum Fault {
    /// It used all its fuel.
    OutOfFuel {
        /// How much it had.
        fuel: u64,
    },
    /// It wanted more memory than it may have.
    OutOfMemory {
        /// Bytes that it may have.
        limit: usize,
    },
    /// It trapped.
    Trapped {
        /// wasmtime's word for it, or the guest's own if it panicked.
        what: String,
        /// Where, innermost first, by the guest's function names.
        stack: Vec<String>,
    },
    /// Its output breaks the contract.
    Lied(Violation),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::OutOfFuel { fuel } => write!(f, "out of fuel: it used all of {fuel}"),
            Fault::OutOfMemory { limit } => write!(f, "out of memory: it may have {limit} bytes"),
            Fault::Trapped { what, stack } => {
                write!(f, "trapped: {what}")?;
                match stack.first() {
                    Some(place) => write!(f, " in {place}"),
                    None => Ok(()),
                }
            }
            Fault::Lied(violation) => violation.fmt(f),
        }
    }
}

impl Instance {
    /// Makes an instance and gives it its settings. The error is for the settings' author.
    pub fn new(plugin: &Plugin, settings: &str, limits: &Limits) -> Result<Self> {
        let mut store = Store::new(&plugin.engine.engine, Guest::new(plugin.name(), limits));
        store.limiter(|guest| guest);
        store.set_hostcall_fuel(limits.output_bytes);
        store.set_fuel(limits.configure_fuel)?;
        let bound = plugin.ready.instantiate(&mut store);
        let bound = bound.map_err(|e| store_fault(&store, e, limits.configure_fuel, limits))?;
        match v0_1::configure(&mut store, &bound, settings) {
            Ok(Ok(())) => Ok(Instance { store, bound, limits: *limits }),
            Ok(Err(refusal)) => Err(SettingsRefused(cut(&refusal, 4 * limits.log_line)).into()),
            Err(error) => Err(store_fault(&store, error, limits.configure_fuel, limits).into()),
        }
    }

    /// Gives it a batch. After a fault the instance is of no use.
    pub fn process(&mut self, batch: &Batch, last: bool) -> Called<v0_1::Output> {
        let given = self.limits.fuel(batch.arena.len(), batch.len());
        if let Err(error) = self.store.set_fuel(given) {
            return Called { result: Err(store_fault(&self.store, error, given, &self.limits)), fuel: 0 };
        }
        let result = v0_1::process(&mut self.store, &self.bound, batch, last);
        let fuel = given - self.store.get_fuel().unwrap_or(0);
        Called { result: result.map_err(|e| store_fault(&self.store, e, given, &self.limits)), fuel }
    }

    /// Bytes of linear memory that the instance has.
    pub fn memory(&self) -> usize {
        self.store.data().memory
    }

    /// Whether the instance has grown so large that a new one should take its place.
    pub fn is_bloated(&self) -> bool {
        self.memory() > self.limits.memory / 100 * RECYCLE_PERCENT
    }

    /// The plugin's own counters since this was last asked.
    pub fn take_counters(&mut self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.store.data_mut().counters)
    }
}

/// `configure` said no.
#[derive(Debug, thiserror::Error)]
#[error("it refuses its settings: {0}")]
pub struct SettingsRefused(pub String);

impl std::error::Error for Fault {}

fn store_fault(store: &Store<Guest>, error: wasmtime::Error, fuel: u64, limits: &Limits) -> Fault {
    let guest = store.data();
    if guest.refused_memory {
        return Fault::OutOfMemory { limit: limits.memory };
    }
    let trap = error.downcast_ref::<Trap>().copied();
    if trap == Some(Trap::OutOfFuel) {
        return Fault::OutOfFuel { fuel };
    }
    let stack = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
    let what = match (trap, &guest.last_error) {
        (Some(Trap::UnreachableCodeReached), Some(said)) => said.clone(),
        (Some(trap), _) => trap.to_string(),
        (None, _) => cut(&error.root_cause().to_string(), limits.log_line),
    };
    Fault::Trapped { what, stack }
}

/// Frames by name, innermost first, without those of the panic itself.
fn frames(backtrace: &WasmBacktrace) -> Vec<String> {
    let names = backtrace.frames().iter().map(|frame| match frame.func_name() {
        Some(name) => cut(&format!("{:#}", rustc_demangle::demangle(name)), 200),
        None => format!("function {}", frame.func_index()),
    });
    let of_panic = |name: &String| ["std::", "core::", "__rust", "_rust", "abort"].iter().any(|p| name.contains(p));
    names.skip_while(of_panic).collect()
}

/// What a store holds of the guest: its limits, and what it has said and counted.
pub struct Guest {
    name: String,
    limits: Limits,
    memory: usize,
    refused_memory: bool,
    counters: BTreeMap<String, u64>,
    last_error: Option<String>,
    /// Log lines that may be passed on now, and since when they have been saved up.
    lines: f64,
    since: Instant,
    unsaid: u64,
}

impl Guest {
    fn new(name: &str, limits: &Limits) -> Self {
        Guest {
            name: name.to_owned(),
            limits: *limits,
            memory: 0,
            refused_memory: false,
            counters: BTreeMap::new(),
            last_error: None,
            lines: f64::from(limits.log_lines_per_second),
            since: Instant::now(),
            unsaid: 0,
        }
    }

    /// Passes a line on, under the plugin's name, escaped, cut, and limited in rate.
    pub(super) fn log(&mut self, level: tracing::Level, message: &str) {
        let message: String = cut(message, self.limits.log_line).escape_debug().collect();
        let message = message.replace("\\\"", "\"").replace("\\'", "'");
        if level == tracing::Level::ERROR {
            self.last_error = Some(message.clone());
        }
        let rate = f64::from(self.limits.log_lines_per_second);
        let now = Instant::now();
        self.lines = (self.lines + rate * (now - self.since).as_secs_f64()).min(2.0 * rate);
        self.since = now;
        if self.lines < 1.0 {
            self.unsaid += 1;
            return;
        }
        self.lines -= 1.0;
        let (plugin, unsaid) = (&self.name, std::mem::take(&mut self.unsaid));
        match level {
            tracing::Level::ERROR => tracing::error!(target: "plugin", plugin, unsaid, "{message}"),
            tracing::Level::WARN => tracing::warn!(target: "plugin", plugin, unsaid, "{message}"),
            tracing::Level::INFO => tracing::info!(target: "plugin", plugin, unsaid, "{message}"),
            _ => tracing::debug!(target: "plugin", plugin, unsaid, "{message}"),
        }
    }

    /// Adds to a counter; those beyond the limit count as `other`.
    pub(super) fn count(&mut self, name: &str, amount: u64) {
        let fits = self.counters.len() < self.limits.counters && name.len() <= self.limits.field_name;
        let name = if fits || self.counters.contains_key(name) { name } else { "other" };
        match self.counters.get_mut(name) {
            Some(count) => *count = count.saturating_add(amount),
            None => drop(self.counters.insert(name.to_owned(), amount)),
        }
    }
}

impl ResourceLimiter for Guest {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        // Growth of any memory counts into one sum, so that many small memories are no way around.
        let sum = self.memory + (desired - current);
        let fits = sum <= self.limits.memory;
        self.refused_memory |= !fits;
        if fits {
            self.memory = sum;
        }
        Ok(fits)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= self.limits.table_elements)
    }

    fn instances(&self) -> usize {
        self.limits.instances
    }

    fn tables(&self) -> usize {
        self.limits.instances
    }

    fn memories(&self) -> usize {
        self.limits.instances
    }
}

/// At most so many bytes of a text, cut between characters.
pub fn cut(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].to_owned()
}
