//! `weir __compile`: what the agent starts to compile a plugin.

use anyhow::Result;

use crate::sandbox::CompileLimits;
use crate::sandbox::compile::child_main;

/// Compile a plugin from standard input to standard output, within limits.
#[derive(clap::Args)]
pub struct Args {
    /// The process that wants it, with which it ends
    parent: u32,
    /// Seconds of CPU time
    cpu_seconds: u64,
    /// Bytes of address space
    memory: u64,
    /// Bytes of compiled code
    output: u64,
}

pub fn run(args: &Args) -> Result<()> {
    let Args { parent, cpu_seconds, memory, output } = *args;
    child_main(parent, CompileLimits { cpu_seconds, memory, output, ..CompileLimits::default() })
}
