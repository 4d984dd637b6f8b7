//! `weir plugin …`: for authors, for registries, and for logstores of a running agent.

mod bench;
pub mod build;
mod check;
mod inspect;
mod new;
mod progress;
mod pull;
mod push;
mod registry;
pub(super) mod settings;
mod sign;
mod test;
mod versions;

use clap::Subcommand;

// Where a variant has no text, that of its arguments is shown, all of it by `--help`.
#[derive(Subcommand)]
pub enum Command {
    /// Begin a plugin: a project with a parser, its tests, and the SDK
    New(new::Args),
    Build(build::Args),
    Test(test::Args),
    Check(check::Args),
    Inspect(inspect::Args),
    Bench(bench::Args),
    Push(Box<push::Args>),
    Pull(pull::Args),
    Keygen(sign::Keygen),
    Sign(sign::Sign),
    Verify(sign::Verify),
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
        Command::New(args) => new::run(args),
        Command::Build(args) => build::run(args),
        Command::Test(args) => test::run(args),
        Command::Check(args) => check::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Push(args) => push::run(args),
        Command::Pull(args) => pull::run(args),
        Command::Keygen(args) => sign::keygen(args),
        Command::Sign(args) => sign::sign(args),
        Command::Verify(args) => sign::verify(args),
        Command::List(args) => versions::list(args),
        Command::Activate(args) => versions::activate(args),
        Command::Rollback(args) => versions::rollback(args),
        Command::Remove(args) => versions::remove(args),
        Command::Download(args) => versions::download(args),
    }
}
