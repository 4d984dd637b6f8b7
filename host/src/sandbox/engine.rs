//! How plugins are compiled and run: metered by fuel, and nothing of WebAssembly that a parser has no use for.

use anyhow::Result;
use wasmtime::{Config, Engine, OperatorCost, OptLevel};

/// Fuel of an instruction that asks the host for memory, whether it gets some or not. Others cost one, and one more for
/// each byte that they copy.
const GROWING: u8 = 100;

/// Frames of a stack that are shown, and those that a profile has: the outermost must be among them.
const FRAMES: usize = 20;
const PROFILED_FRAMES: usize = 200;

/// The one configuration of the engine: compiled code is only valid for the same one.
pub fn engine() -> Result<Engine> {
    metered(FRAMES)
}

/// The same with deep stacks, for which the same code is valid.
pub fn profiling() -> Result<Engine> {
    metered(PROFILED_FRAMES)
}

/// The same without fuel: to measure what that costs.
pub fn unmetered() -> Result<Engine> {
    let mut config = config();
    config.wasm_backtrace_max_frames(std::num::NonZeroUsize::new(FRAMES));
    Ok(Engine::new(&config)?)
}

fn metered(frames: usize) -> Result<Engine> {
    let cost = OperatorCost { MemoryGrow: GROWING, TableGrow: GROWING, ..OperatorCost::new() };
    let mut config = config();
    config.consume_fuel(true).operator_cost(cost);
    config.wasm_backtrace_max_frames(std::num::NonZeroUsize::new(frames));
    Ok(Engine::new(&config)?)
}

fn config() -> Config {
    let mut config = Config::new();
    config.cranelift_opt_level(OptLevel::Speed);
    config.wasm_relaxed_simd(false);
    config.wasm_memory64(false);
    config
}
