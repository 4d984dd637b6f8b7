//! A component that is slow to compile.

use std::fs;
use std::path::Path;

use anyhow::Context;
use wasm_encoder::{CodeSection, Encode, Function, FunctionSection, Module, TypeSection, ValType};

/// Operators of each function.
const OPERATORS: i64 = 4000;

/// A plugin, with so many bytes of code beside it that nobody calls, and that has to be compiled all the same.
pub fn large_plugin(plugin: &Path, bytes: usize) -> anyhow::Result<Vec<u8>> {
    let mut component = fs::read(plugin).with_context(|| format!("cannot read {}", plugin.display()))?;
    let module = module(bytes.saturating_sub(component.len()));
    // A section of a component that has a core module in it.
    component.push(1);
    module.encode(&mut component);
    Ok(component)
}

fn module(bytes: usize) -> Vec<u8> {
    let mut function = Function::new([(4, ValType::I64)]);
    for n in 0..OPERATORS {
        let mut code = function.instructions();
        let (from, to) = ((n % 4) as u32, ((n + 1) % 4) as u32);
        code.local_get(from).i64_const(n * 7919).i64_mul().local_get(to).i64_xor().local_set(to);
    }
    function.instructions().end();
    let (mut types, mut functions, mut code) = (TypeSection::new(), FunctionSection::new(), CodeSection::new());
    types.ty().function([], []);
    while code.byte_len() < bytes {
        functions.function(0);
        code.function(&function);
    }
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&code);
    module.finish()
}
