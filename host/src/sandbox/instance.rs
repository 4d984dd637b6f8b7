//! One instance of a plugin: its memory, its fuel, and what it says.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use wasmtime::{FrameInfo, Store, Trap, WasmBacktrace};

use super::api::v0_1;
use super::guest::{Guest, Refusal, harmless};
use super::limits::{Limits, RECYCLE_PERCENT};
use super::{Plugin, output::Violation};
use crate::event::Batch;

/// An instance, configured.
pub struct Instance {
    store: Store<Guest>,
    bound: v0_1::Bound,
    limits: Limits,
    is_metered: bool,
}

/// What a call gave, and what it cost.
pub struct Called<T, E = Fault> {
    /// What came back.
    pub result: Result<T, E>,
    /// Fuel used.
    pub fuel: u64,
}

/// What its user must do.
const NO_FILES: &str = "it reads files, and none are granted to it: give it `files: DIR` beside `use`";

/// Callers that are named in an error.
const STACK: usize = 4;

/// Why a call gave nothing that can be used.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It used all its fuel.
    OutOfFuel {
        /// How much it had.
        fuel: u64,
        /// Where it was then, innermost first, by the guest's function names.
        stack: Vec<String>,
    },
    /// It wanted more memory than it may have.
    OutOfMemory {
        /// Bytes that it may have.
        limit: usize,
    },
    /// It wanted memory that its project has not: not its own fault, unless nobody else has it.
    NoMemory,
    /// No instance of it could be made.
    NotStarted(String),
    /// It trapped.
    Trapped {
        /// wasmtime's word for it, or the guest's own if it panicked.
        what: String,
        /// Where, innermost first, by the guest's function names.
        stack: Vec<String>,
    },
    /// Its output breaks the contract.
    Lied(Violation),
    /// It made more of the parts of a batch than there is room for.
    Swollen,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::OutOfFuel { fuel, .. } => write!(f, "out of fuel: it used all of {fuel}"),
            Fault::OutOfMemory { limit } => write!(f, "out of memory: it may have {limit} bytes"),
            Fault::Trapped { what, stack } => {
                write!(f, "trapped: {what}")?;
                match stack.split_first() {
                    Some((place, [])) => write!(f, " in {place}"),
                    Some((place, callers)) => {
                        write!(f, " in {place}, called by {}", callers[..callers.len().min(STACK)].join(", "))
                    }
                    None => Ok(()),
                }
            }
            Fault::NoMemory => f.write_str("out of memory: its project has no more"),
            Fault::NotStarted(why) => write!(f, "no instance: {why}"),
            Fault::Lied(violation) => violation.fmt(f),
            Fault::Swollen => f.write_str("it makes more of a batch than there is room for"),
        }
    }
}

impl Fault {
    /// What happened, in words that are none of the plugin's or of the events'.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::OutOfFuel { .. } => "it runs out of fuel",
            Fault::OutOfMemory { .. } => "it runs out of memory",
            Fault::NoMemory => "its project has no memory left",
            Fault::NotStarted(_) => "no instance of it can be made",
            Fault::Trapped { .. } => "it traps",
            Fault::Lied(_) => "it breaks the contract",
            Fault::Swollen => "it makes more of a batch than there is room for",
        }
    }

    /// What happened, and where, innermost first: for the plugin's author, who has more room than an event.
    pub fn parts(&self) -> (String, &[String]) {
        match self {
            // Rust ends the line behind the place of a panic.
            Fault::Trapped { what, stack } => (format!("trapped: {}", what.replacen(":\\n", ": ", 1)), stack),
            Fault::OutOfFuel { stack, .. } => (self.to_string(), stack),
            fault => (fault.to_string(), &[]),
        }
    }
}

impl Instance {
    /// Makes an instance and gives it its settings. The error is for the settings' author.
    pub fn new(plugin: &Plugin, settings: &str, guest: Guest) -> Called<Self, anyhow::Error> {
        let limits = &guest.limits().clone();
        if plugin.reads_files && !guest.has_files() {
            return Called { result: Err(anyhow::Error::msg(NO_FILES)), fuel: 0 };
        }
        let mut store = Store::new(&plugin.engine, guest);
        store.limiter(|guest| guest);
        store.set_hostcall_fuel(limits.output_bytes);
        let given = limits.configure_fuel;
        let made = plugin.fuel(&mut store, given).and_then(|()| {
            let bound = plugin.ready.instantiate(&mut store)?;
            Ok((v0_1::configure(&mut store, &bound, settings)?, bound))
        });
        let fuel = given - store.get_fuel().unwrap_or(given);
        let result = match made {
            Ok((Ok(()), bound)) => {
                store.data_mut().end_configure();
                Ok(Instance { store, bound, limits: *limits, is_metered: plugin.is_metered })
            }
            Ok((Err(refusal), _)) => Err(SettingsRefused(harmless(&refusal, 4 * limits.log_line)).into()),
            Err(error) => {
                let whole = harmless(&format!("{error:#}"), limits.log_line);
                match store_fault(&store, error, given, limits) {
                    // Its own code was not run yet.
                    Fault::Trapped { stack, .. } if stack.is_empty() => Err(anyhow::Error::msg(whole)),
                    fault => Err(fault.into()),
                }
            }
        };
        Called { result, fuel }
    }

    /// Gives it a batch. After a fault the instance is of no use.
    pub fn process(&mut self, batch: &Batch, last: bool) -> Called<v0_1::Output> {
        let given = self.limits.fuel(batch.arena.len(), batch.len());
        if self.is_metered
            && let Err(error) = self.store.set_fuel(given)
        {
            return Called { result: Err(store_fault(&self.store, error, given, &self.limits)), fuel: 0 };
        }
        self.store.data_mut().begin_call();
        let result = v0_1::process(&mut self.store, &self.bound, batch, last);
        let fuel = given - self.store.get_fuel().unwrap_or(given);
        Called { result: result.map_err(|e| store_fault(&self.store, e, given, &self.limits)), fuel }
    }

    /// The functions that a call with that batch is in when it has used so much fuel, outermost first. None if it has come
    /// to its end by then. The instance is of no use after that.
    pub fn stack_at(&mut self, fuel: u64, batch: &Batch, last: bool) -> Result<Option<Vec<String>>, Fault> {
        let failed = |store: &Store<Guest>, limits: &Limits, error| Err(store_fault(store, error, fuel, limits));
        if let Err(error) = self.store.set_fuel(fuel) {
            return failed(&self.store, &self.limits, error);
        }
        self.store.data_mut().begin_call();
        match v0_1::process(&mut self.store, &self.bound, batch, last) {
            Ok(_) => Ok(None),
            Err(error) if error.downcast_ref::<Trap>() == Some(&Trap::OutOfFuel) => {
                let backtrace = error.downcast_ref::<WasmBacktrace>();
                Ok(backtrace.map(|backtrace| backtrace.frames().iter().rev().map(name).collect()))
            }
            Err(error) => failed(&self.store, &self.limits, error),
        }
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
    match guest.refused {
        Some(Refusal::Limit) => return Fault::OutOfMemory { limit: limits.memory },
        Some(Refusal::Project) => return Fault::NoMemory,
        None => {}
    }
    let trap = error.downcast_ref::<Trap>().copied();
    let stack = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
    if trap == Some(Trap::OutOfFuel) {
        return Fault::OutOfFuel { fuel, stack };
    }
    let what = match (trap, &guest.last_error) {
        (Some(Trap::UnreachableCodeReached), Some(said)) => said.clone(),
        (Some(trap), _) => trap.to_string(),
        (None, _) => harmless(&error.root_cause().to_string(), limits.log_line),
    };
    Fault::Trapped { what, stack }
}

/// Frames by name, innermost first, without those of the panic itself.
fn frames(backtrace: &WasmBacktrace) -> Vec<String> {
    let of_panic = |name: &String| ["std::", "core::", "__rust", "_rust", "abort"].iter().any(|p| name.contains(p));
    backtrace.frames().iter().map(name).skip_while(of_panic).collect()
}

/// The function of a frame, by its name in the source if that is known.
fn name(frame: &FrameInfo) -> String {
    match frame.func_name() {
        Some(name) => harmless(&format!("{:#}", rustc_demangle::demangle(name)), 200),
        None => format!("function {}", frame.func_index()),
    }
}
