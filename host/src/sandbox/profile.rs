//! Where a plugin's fuel goes: the functions that it is in, weighed by the fuel that it uses there.
//!
//! A call is a function of its input, so it can be had again with less fuel: it stops where that is gone, and its stack
//! says where. Calls that stop at places spread evenly over all the fuel of some batches are a sample of it. Nothing is
//! measured in time, so the same plugin and the same batches have the same profile each time.
//!
//! Whether fuel is gone is only looked at where a function or a loop begins. So the plugin is changed before it is
//! compiled: an empty loop, which costs no fuel, comes before and after each call, and where a function ends. Then what
//! is used between two looks is used in one function.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent};
use wasm_encoder::{BlockType, CodeSection, Component, Instruction};
use wasmparser::{CompositeInnerType, Encoding, FuncType, FunctionBody, Operator, Parser, Payload};

use super::compile::Compiler;
use super::files::Files;
use super::guest::Guest;
use super::instance::{Called, Instance};
use super::limits::Limits;
use super::log::Log;
use super::{Plugin, Sandbox, admission, engine};
use crate::budget::Budget;
use crate::event::Batch;

/// Calls that are stopped, unless they take too long: of a function that has a hundredth of the fuel, 4000 find a
/// hundredth to within a sixth of it.
const SAMPLES: u64 = 4000;

/// Fewer say nothing.
const FEWEST: u64 = 200;

/// How long all of them may take.
const LONG: Duration = Duration::from_secs(10);

/// Fuel of a batch: of one that takes more, as many events as take that much. Each sample is a whole call, or half of one.
const BATCH_FUEL: u64 = 4_000_000;

/// Events that an instance has had before.
const WARM: usize = 64;

/// Fuel of a call that isn't stopped: whether a plugin keeps its limits is not asked here.
const PLENTY: u64 = 100_000_000_000;

/// Batches of the input that are looked at, evenly spread.
const BATCHES: usize = 8;

/// Where fuel goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Fuel by stack: the names of functions, outermost first.
    pub stacks: BTreeMap<Vec<String>, u64>,
    /// Calls that were stopped.
    pub samples: u64,
}

impl Profile {
    /// All fuel in it.
    pub fn fuel(&self) -> u64 {
        self.stacks.values().sum()
    }

    /// Adds another, below a name of its own.
    pub fn add(&mut self, name: Option<&str>, other: Profile) {
        self.samples += other.samples;
        for (stack, fuel) in other.stacks {
            let stack = name.map(str::to_owned).into_iter().chain(stack).collect();
            *self.stacks.entry(stack).or_default() += fuel;
        }
    }

    /// The fuel that each function uses itself, and that with all that it calls; the most first.
    pub fn functions(&self) -> Vec<(String, u64, u64)> {
        let mut functions: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (stack, fuel) in &self.stacks {
            for (depth, name) in stack.iter().enumerate() {
                let (own, all) = functions.entry(name).or_default();
                *own += if depth + 1 == stack.len() { *fuel } else { 0 };
                // One that calls itself is there once.
                *all += if stack[..depth].contains(name) { 0 } else { *fuel };
            }
        }
        let mut functions: Vec<_> =
            functions.into_iter().map(|(name, (own, all))| (name.to_owned(), own, all)).collect();
        functions.sort_by_key(|(_, own, all)| std::cmp::Reverse((*own, *all)));
        functions
    }

    /// A line a stack: functions with semicolons between them, and the fuel.
    pub fn folded(&self) -> String {
        let line = |(stack, fuel): (&Vec<String>, &u64)| {
            let names: Vec<_> = stack.iter().map(|name| name.replace(';', ",")).collect();
            format!("{} {fuel}\n", names.join(";"))
        };
        self.stacks.iter().map(line).collect()
    }
}

/// A plugin that looks at its fuel more often, with its settings.
pub struct Profiled {
    plugin: Arc<Plugin>,
    /// JSON.
    settings: String,
    files: Option<Arc<Files>>,
    limits: Limits,
    budget: Arc<Budget>,
    log: Log,
}

impl Profiled {
    /// The plugin in a file, changed and compiled.
    pub fn load(path: &Path, compiler: Compiler) -> Result<Profiled> {
        let limits = Limits { fuel_base: PLENTY, ..Limits::default() };
        let mut admitted = admission::admit_file(path)?;
        admitted.bytes = with_looks(&admitted.bytes).context("changing the plugin for its profile")?.into();
        admitted.digest = Sha256::digest(&admitted.bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let sandbox = Sandbox::on(engine::profiling()?, compiler, true)?;
        let plugin = sandbox.compile(admitted).with_context(|| format!("plugin {}", path.display()))?;
        let (budget, log) = (Budget::new(None), Log::of_author());
        Ok(Profiled { plugin, settings: "{}".to_owned(), files: None, limits, budget, log })
    }

    /// From now on it has these settings, and may read these files.
    pub fn configure(&mut self, settings: &str, files: Option<Arc<Files>>) {
        (self.settings, self.files) = (settings.to_owned(), files);
    }

    /// Where fuel goes that the plugin uses for some of these batches. `progress` is told how much of it is done.
    pub fn profile(&self, batches: &[Batch], mut progress: impl FnMut(f64)) -> Result<Profile> {
        let begun = Instant::now();
        let calls = self.calls(batches)?;
        let all: u64 = calls.iter().map(|(_, fuel)| fuel).sum();
        let each = begun.elapsed() / calls.len().max(1) as u32;
        let samples = (LONG.as_nanos() / each.as_nanos().max(1)).clamp(FEWEST.into(), SAMPLES.into()) as u64;
        let mut stacks: BTreeMap<Vec<String>, u64> = BTreeMap::new();
        let (mut before, mut calls) = (0, calls.iter());
        let mut call = calls.next();
        for sample in 0..samples {
            let place = (u128::from(all) * u128::from(2 * sample + 1) / u128::from(2 * samples)) as u64;
            while let Some((_, fuel)) = call.filter(|(_, fuel)| before + fuel <= place) {
                before += fuel;
                call = calls.next();
            }
            let Some((batch, _)) = call else { break };
            let stack = self.warm(&batches[0])?.stack_at(place - before + 1, batch, true)?;
            if let Some(stack) = stack {
                *stacks.entry(stack).or_default() += 1;
            }
            progress(sample as f64 / samples as f64);
        }
        let samples: u64 = stacks.values().sum();
        let share = |count: u64| (u128::from(all) * u128::from(count) / u128::from(samples.max(1))) as u64;
        stacks.values_mut().for_each(|count| *count = share(*count));
        Ok(Profile { stacks, samples })
    }

    /// Calls to look into, and their fuel.
    fn calls(&self, batches: &[Batch]) -> Result<Vec<(Batch, u64)>> {
        let step = batches.len().div_ceil(BATCHES).max(1);
        let mut calls = Vec::new();
        for batch in batches.iter().step_by(step) {
            let fuel = self.fuel(&batches[0], batch)?;
            if fuel <= BATCH_FUEL {
                calls.push((batch.clone(), fuel));
                continue;
            }
            let events = (batch.len() as u64 * BATCH_FUEL / fuel).max(1) as usize;
            let part = batch.part(0..events);
            let fuel = self.fuel(&batches[0], &part)?;
            calls.push((part, fuel));
        }
        Ok(calls)
    }

    fn fuel(&self, first: &Batch, batch: &Batch) -> Result<u64> {
        let Called { result, fuel } = self.warm(first)?.process(batch, true);
        result?;
        Ok(fuel)
    }

    /// An instance that has had events already: what is only done once is in no profile.
    fn warm(&self, first: &Batch) -> Result<Instance> {
        let name = self.plugin.name();
        let guest = Guest::new(name, &self.limits, &self.budget, &self.log, self.files.as_ref());
        let mut instance = Instance::new(&self.plugin, &self.settings, guest).result?;
        let few = first.part(0..first.len().min(WARM));
        instance.process(&few, true).result?;
        Ok(instance)
    }
}

/// A component that looks at its fuel before and after each call, and where a function ends.
fn with_looks(component: &[u8]) -> Result<Vec<u8>> {
    let mut looks = Looks { results: results(component)? };
    let mut changed = Component::new();
    looks.parse_component(&mut changed, Parser::new(0), component)?;
    Ok(changed.finish())
}

/// Of each function with code, in order, how a block has the same results; none if it can't.
fn results(component: &[u8]) -> Result<VecDeque<Option<BlockType>>> {
    let mut results = VecDeque::new();
    let mut types: Vec<Option<FuncType>> = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::Version { encoding: Encoding::Module, .. } => types.clear(),
            Payload::TypeSection(section) => {
                for group in section {
                    types.extend(group?.into_types().map(|sub| match sub.composite_type.inner {
                        CompositeInnerType::Func(function) => Some(function),
                        _ => None,
                    }));
                }
            }
            Payload::FunctionSection(section) => {
                for index in section {
                    let function = types.get(index? as usize).and_then(Option::as_ref);
                    results.push_back(match function.map(FuncType::results) {
                        Some([]) => Some(BlockType::Empty),
                        Some([one]) => wasm_encoder::ValType::try_from(*one).ok().map(BlockType::Result),
                        _ => None,
                    });
                }
            }
            _ => {}
        }
    }
    Ok(results)
}

/// An empty loop, at whose beginning fuel is looked at.
const LOOK: [Instruction; 2] = [Instruction::Loop(BlockType::Empty), Instruction::End];

struct Looks {
    results: VecDeque<Option<BlockType>>,
}

impl Reencode for Looks {
    type Error = Infallible;

    fn parse_function_body(&mut self, code: &mut CodeSection, body: FunctionBody<'_>) -> Result<(), Error<Infallible>> {
        let mut function = self.new_function_with_parsed_locals(&body)?;
        // Branches out of the function end this block instead, and come to the look behind it.
        let block = self.results.pop_front().flatten();
        block.iter().for_each(|block| _ = function.instruction(&Instruction::Block(*block)));
        let mut reader = body.get_operators_reader()?;
        while !reader.eof() {
            let operator = reader.read()?;
            let is_call =
                matches!(operator, Operator::Call { .. } | Operator::CallIndirect { .. } | Operator::CallRef { .. });
            let is_last = reader.eof();
            let leaves = matches!(
                operator,
                Operator::Return
                    | Operator::ReturnCall { .. }
                    | Operator::ReturnCallIndirect { .. }
                    | Operator::ReturnCallRef { .. }
            );
            if is_last && block.is_some() {
                function.instruction(&Instruction::End);
            }
            if is_call || leaves || is_last {
                LOOK.iter().for_each(|look| _ = function.instruction(look));
            }
            function.instruction(&self.instruction(operator)?);
            if is_call {
                LOOK.iter().for_each(|look| _ = function.instruction(look));
            }
        }
        code.function(&function);
        Ok(())
    }
}

impl ReencodeComponent for Looks {}
