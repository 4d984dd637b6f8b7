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
pub mod instance;
pub mod limits;
pub mod output;

use std::path::PathBuf;
use std::sync::Arc;

pub use admission::Metadata;
pub use chain::{Chain, Held, Stage};
pub use engine::Sandbox;
pub use limits::Limits;

/// A plugin that has been admitted and compiled, ready to be instantiated.
pub struct Plugin {
    /// What it says of itself; its file's name where it says nothing.
    pub metadata: Metadata,
    /// Where it was read.
    pub path: PathBuf,
    /// SHA-256 of the `.wasm`, in hex.
    pub digest: String,
    /// Compiled, with its imports resolved.
    ready: api::v0_1::Ready,
    engine: Arc<engine::Sandbox>,
}

impl Plugin {
    /// The name that its users know it by.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }
}
