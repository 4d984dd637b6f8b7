//! How plugins are compiled and run: metered by fuel, and nothing of WebAssembly that a parser has no use for.

use anyhow::Result;
use wasmtime::{Config, Engine, OperatorCost, OptLevel};

/// Fuel of an instruction that asks the host for memory, whether it gets some or not. Others cost one, and one more for
/// each byte that they copy.
const GROWING: u8 = 100;

/// The one configuration of the engine: compiled code is only valid for the same one.
pub fn engine() -> Result<Engine> {
    let cost = OperatorCost { MemoryGrow: GROWING, TableGrow: GROWING, ..OperatorCost::new() };
    Ok(Engine::new(config().consume_fuel(true).operator_cost(cost))?)
}

/// The same without fuel: to measure what that costs.
pub fn unmetered() -> Result<Engine> {
    Ok(Engine::new(&config())?)
}

fn config() -> Config {
    let mut config = Config::new();
    config.cranelift_opt_level(OptLevel::Speed);
    config.wasm_relaxed_simd(false);
    config.wasm_memory64(false);
    config.wasm_backtrace_max_frames(std::num::NonZeroUsize::new(20));
    config
}
