//! From an untrusted `.wasm` to a batch that may be trusted.
//!
//! ```text
//! a file ── admission ──> compile (child process, private cache) ──> Plugin      once per plugin
//! Plugin + settings + limits ──────────────────────────────────────> Instance    once per logstore, and after a fault
//! Batch ── api::v0_1 ──> Instance ── api::v0_1 ──> output::check ──> Batch       once per turn: see chain
//! ```
//!
//! What a plugin returns is believed only after [`output::check`]. A trap or a lie costs the plugin its
//! instance and nobody an event: the chain ships the events as they came, marked.

pub mod admission;
pub mod api;
pub mod chain;
pub mod compile;
pub mod engine;
pub mod guest;
pub mod instance;
pub mod limits;
pub mod output;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use wasmtime::Engine;

use admission::Admitted;
use api::v0_1;
use compile::Compiler;

pub use admission::Metadata;
pub use chain::{Chain, Held, Stage};
pub use limits::{CompileLimits, Limits};

/// The engine, the host functions, and the compiler with its cache.
pub struct Sandbox {
    engine: Engine,
    linker: v0_1::HostLinker,
    compiler: Compiler,
}

impl Sandbox {
    /// A sandbox whose plugins are metered.
    pub fn new(compiler: Compiler) -> Result<Self> {
        let engine = engine::engine()?;
        let linker = v0_1::linker(&engine)?;
        Ok(Sandbox { engine, linker, compiler })
    }

    /// Admits, compiles and links the plugin in a file.
    pub fn load(&self, path: &Path) -> Result<Arc<Plugin>> {
        let Admitted { bytes, digest, metadata } = admission::admit_file(path)?;
        let describe = || format!("plugin {}", path.display());
        let component = self.compiler.compile(&self.engine, &bytes, &digest).with_context(describe)?;
        let ready = v0_1::link(&self.linker, &component).with_context(describe)?;
        Ok(Arc::new(Plugin { metadata, path: path.to_owned(), digest, ready, engine: self.engine.clone() }))
    }
}

/// A plugin that has been admitted and compiled, ready to be instantiated.
pub struct Plugin {
    /// What it says of itself; its file's name where it says nothing.
    pub metadata: Metadata,
    /// Where it was read.
    pub path: PathBuf,
    /// SHA-256 of the `.wasm`, in hex.
    pub digest: String,
    /// Compiled, with its imports resolved.
    ready: v0_1::Ready,
    engine: Engine,
}

impl Plugin {
    /// The name that its users know it by.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }
}
