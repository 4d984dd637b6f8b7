//! The engine that all plugins share, and the way from a file to a plugin that can be instantiated.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use wasmtime::{Config, Engine, OptLevel};

use super::Plugin;
use super::admission::{self, Admitted};
use super::api::v0_1;
use super::compile::Compiler;

/// The engine, the host functions, and the compiler with its cache.
pub struct Sandbox {
    pub(super) engine: Engine,
    linker: v0_1::HostLinker,
    compiler: Compiler,
}

impl Sandbox {
    /// A sandbox whose plugins are metered.
    pub fn new(compiler: Compiler) -> Result<Arc<Self>> {
        let engine = engine()?;
        let linker = v0_1::linker(&engine)?;
        Ok(Arc::new(Sandbox { engine, linker, compiler }))
    }

    /// Admits, compiles and links the plugin in a file.
    pub fn load(self: &Arc<Self>, path: &Path) -> Result<Arc<Plugin>> {
        let Admitted { bytes, digest, metadata } = admission::admit_file(path)?;
        let describe = || format!("plugin {}", path.display());
        let component = self.compiler.compile(&self.engine, &bytes, &digest).with_context(describe)?;
        let ready = v0_1::link(&self.linker, &component).with_context(describe)?;
        Ok(Arc::new(Plugin { metadata, path: path.to_owned(), digest, ready, engine: self.clone() }))
    }
}

/// The one configuration of the engine: compiled code is only valid for the same one.
pub fn engine() -> Result<Engine> {
    let mut config = Config::new();
    config.consume_fuel(true);
    config.cranelift_opt_level(OptLevel::Speed);
    config.wasm_relaxed_simd(false);
    config.wasm_memory64(false);
    config.wasm_backtrace_max_frames(std::num::NonZeroUsize::new(20));
    Ok(Engine::new(&config)?)
}
