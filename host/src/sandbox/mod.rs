//! From an untrusted `.wasm` to a batch that may be trusted.
//!
//! ```text
//! a file ── admission ──> compile (child process, private cache) ──> Plugin      once per plugin
//! Plugin + settings + limits ──────────────────────────────────────> Instance    once per logstore, and after a fault
//! Batch ── api::v0_1 ──> Instance ── api::v0_1 ──> output::check ──> Batch       once per turn: see stage
//! ```
//!
//! What a plugin returns is believed only after [`output::check`]. A trap or a lie costs the plugin its
//! instance and nobody an event: the batch is halved until the event that does it is alone (see [`passage`]), and a
//! plugin that fails too often is suspended (see `trust`).

pub mod admission;
pub mod anatomy;
pub mod api;
pub mod cache;
pub mod chain;
pub mod check;
pub mod compile;
pub mod dry_run;
pub mod engine;
pub mod files;
pub mod guest;
pub mod instance;
pub mod limits;
pub mod log;
pub mod output;
pub mod passage;
pub mod poison;
pub mod profile;
pub mod stage;
pub mod trust;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use wasmtime::{Engine, Store};

use admission::{Admitted, Takes};
use api::v0_1;
use check::{Check, During, Failed};
use compile::Compiler;

pub use admission::{Given, Metadata};
pub use chain::{Chain, Held, OnFault};
pub use files::Files;
pub use limits::{CompileLimits, Limits};
pub use log::{Log, Logs};
pub use passage::{Passage, Step};
pub use stage::Stage;

/// The engine, the host functions, and the compiler with its cache.
pub struct Sandbox {
    engine: Engine,
    linker: v0_1::HostLinker,
    compiler: Compiler,
    is_metered: bool,
}

impl Sandbox {
    /// A sandbox whose plugins are metered.
    pub fn new(compiler: Compiler) -> Result<Self> {
        Self::on(engine::engine()?, compiler, true)
    }

    /// A sandbox without fuel, in which a plugin may run for ever and is believed: to measure what metering and checking
    /// cost. Nothing that weir offers leads here.
    pub fn unmetered(compiler: Compiler) -> Result<Self> {
        Self::on(engine::unmetered()?, compiler, false)
    }

    fn on(engine: Engine, compiler: Compiler, is_metered: bool) -> Result<Self> {
        let linker = v0_1::linker(&engine)?;
        Ok(Sandbox { engine, linker, compiler, is_metered })
    }

    /// Admits, compiles and links the plugin in a file.
    pub fn load(&self, path: &Path) -> Result<Arc<Plugin>> {
        let admitted = admission::admit_file(path)?;
        self.compile(admitted).with_context(|| format!("plugin {}", path.display()))
    }

    /// The same, if it begins with no more than these limits allow: what doesn't is not compiled.
    pub fn load_within(&self, path: &Path, limits: &Limits) -> Result<Arc<Plugin>> {
        let describe = || format!("plugin {}", path.display());
        let admitted = admission::admit_file(path)?;
        // Whether there are files for it is seen when it takes its settings.
        let given = Given { limits: *limits, files: true };
        admitted.check(&given).map_err(anyhow::Error::from).with_context(describe)?;
        self.compile(admitted).with_context(describe)
    }

    /// Admits, compiles and links the plugin of these bytes, of which there are at most so many, for a place where it is
    /// given that. `name` is used if it doesn't say one.
    pub fn load_bytes(&self, bytes: Bytes, name: &str, most: u64, given: &Given) -> Result<Arc<Plugin>, Failed> {
        let admitted = admission::admit_upload(bytes, name, most)?;
        admitted.check(given)?;
        self.compile(admitted).during(Check::Compile)
    }

    fn compile(&self, admitted: Admitted) -> Result<Arc<Plugin>> {
        let component = self.compiler.compile(&self.engine, &admitted.bytes, &admitted.digest)?;
        let ready = v0_1::link(&self.linker, &component)?;
        let (engine, is_metered) = (self.engine.clone(), self.is_metered);
        let reads_files = admitted.reads_files();
        let Admitted { metadata, digest, takes, .. } = admitted;
        Ok(Arc::new(Plugin { metadata, digest, reads_files, takes, ready, engine, is_metered }))
    }
}

/// A plugin that has been admitted and compiled, ready to be instantiated.
pub struct Plugin {
    /// What it says of itself; its file's name where it says nothing.
    pub metadata: Metadata,
    /// SHA-256 of the `.wasm`, in hex.
    pub digest: String,
    /// Whether it imports `files`.
    pub reads_files: bool,
    /// What it takes as soon as it is instantiated.
    takes: Takes,
    /// Compiled, with its imports resolved.
    ready: v0_1::Ready,
    engine: Engine,
    is_metered: bool,
}

impl Plugin {
    /// The name that its users know it by.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Whether it can be instantiated within these limits, as far as it says itself. It is loaded once for all that use
    /// it, and each has limits of its own.
    pub fn check_limits(&self, limits: &Limits) -> Result<(), Failed> {
        self.takes.check(limits).during(Check::Limits)
    }

    fn fuel(&self, store: &mut Store<guest::Guest>, amount: u64) -> wasmtime::Result<()> {
        if self.is_metered { store.set_fuel(amount) } else { Ok(()) }
    }
}
