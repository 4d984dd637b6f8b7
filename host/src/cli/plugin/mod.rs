//! `weir plugin …`: for authors.

mod build;
mod toolchain;

use clap::Subcommand;

#[derive(Subcommand)]
pub enum Command {
    /// Build plugin crates into components
    Build(build::Args),
}

pub fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Build(args) => build::run(args),
    }
}
