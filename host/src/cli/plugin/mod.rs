//! `weir plugin …`: for authors, and for logstores of a running agent.

mod build;
mod push;
mod toolchain;
mod versions;

use clap::Subcommand;

#[derive(Subcommand)]
pub enum Command {
    /// Build plugin crates into components
    Build(build::Args),
    /// Upload a plugin to a running agent, for one of its logstores
    Push(push::Args),
    /// Show the versions of a logstore's plugin that were uploaded, and which of them runs
    List(versions::List),
    /// Run another version
    Activate(versions::Activate),
    /// End what is tried on a part of the files; or run again what ran before
    Rollback(versions::Rollback),
    /// Remove a version that does not run
    Remove(versions::Remove),
    /// Save a version's .wasm, as it was uploaded
    Download(versions::Download),
}

pub fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Build(args) => build::run(args),
        Command::Push(args) => push::run(args),
        Command::List(args) => versions::list(args),
        Command::Activate(args) => versions::activate(args),
        Command::Rollback(args) => versions::rollback(args),
        Command::Remove(args) => versions::remove(args),
        Command::Download(args) => versions::download(args),
    }
}
