//! One file a command; here is what they share: arguments, exit codes, and how errors are told.

#[macro_use]
mod screen;
mod check;
mod checkpoints;
mod client;
mod compile;
mod config_file;
mod dead_letters;
mod demo;
mod health;
mod log;
pub mod mock_log;
mod pipe;
mod plugin;
#[cfg(test)]
mod reference;
mod reload;
mod run;
mod status;
mod tap;
mod tombstone;
mod top;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::health::Unhealthy;
use self::reload::NotApplied;
use crate::config::ConfigErrors;
use crate::sandbox::compile::COMMAND;
use crate::sandbox::instance::SettingsRefused;

/// Exit codes, after sysexits.h.
mod exit {
    /// Of `weir health` alone, as probes have it.
    pub const UNHEALTHY: u8 = 1;
    pub const USAGE: u8 = 64;
    pub const INTERNAL: u8 = 70;
    pub const CONFIG: u8 = 78;
}

/// A log agent that runs each tenant's parser in a WASM sandbox.
#[derive(Parser)]
#[command(name = "weir", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 success, 64 wrong usage, 70 failure, 78 wrong configuration.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Args),
    Pipe(pipe::Args),
    Check(check::Args),
    Status(status::Args),
    Top(top::Args),
    Tap(tap::Args),
    Health(health::Args),
    Reload(reload::Args),
    Checkpoints(checkpoints::Args),
    /// See, send again or remove the events that destinations have refused
    DeadLetters {
        #[command(subcommand)]
        command: dead_letters::Command,
    },
    Demo(demo::Args),
    /// Write test logs, at a rate
    MockLog(mock_log::MockLog),
    /// Make, test, measure and sign plugins, and bring them to registries and running agents
    Plugin {
        #[command(subcommand)]
        command: plugin::Command,
    },
    /// Compile a plugin from standard input to standard output, within limits
    #[command(name = COMMAND, hide = true)]
    Compile(compile::Args),
}

/// Parses the arguments, runs the command, and says what went wrong.
pub fn main() -> ExitCode {
    let matches = command().try_get_matches();
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { exit::USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let result = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Pipe(args) => pipe::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Tap(args) => tap::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Checkpoints(args) => checkpoints::run(&args),
        Command::DeadLetters { command } => dead_letters::run(&command),
        Command::Demo(args) => demo::run(&args),
        Command::MockLog(args) => mock_log::run(args),
        Command::Plugin { command } => plugin::run(&command),
        Command::Compile(args) => compile::run(&args),
    };
    match (result, screen::lost()) {
        (Err(error), _) => tell(&error),
        (Ok(()), Some(lost)) => tell(&anyhow::anyhow!("standard output cannot be written: {lost}")),
        (Ok(()), None) => ExitCode::SUCCESS,
    }
}

/// All commands, with their arguments.
fn command() -> clap::Command {
    Cli::command()
}

fn tell(error: &anyhow::Error) -> ExitCode {
    if let Some(errors) = error.downcast_ref::<ConfigErrors>() {
        complain!("{errors}");
        return exit::CONFIG.into();
    }
    if let Some(usage) = error.downcast_ref::<Usage>() {
        complain!("error: {usage}");
        return exit::USAGE.into();
    }
    if let Some(unhealthy) = error.downcast_ref::<Unhealthy>() {
        complain!("{unhealthy}");
        return exit::UNHEALTHY.into();
    }
    if let Some(wrong) = error.downcast_ref::<NotApplied>() {
        complain!("{wrong}");
        return exit::CONFIG.into();
    }
    complain!("error: {error:#}");
    match error.downcast_ref::<SettingsRefused>() {
        Some(_) => exit::CONFIG.into(),
        None => exit::INTERNAL.into(),
    }
}

/// The arguments can be parsed, but make no sense together.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// The directories where plugins are looked for when none are given: beside the binary, then the system's.
fn default_plugin_dirs() -> Vec<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("plugins")));
    beside.into_iter().chain(crate::config::default_plugin_dirs()).collect()
}

/// Where compiled plugins are kept by commands that have no `data_dir`.
fn user_cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    base.or_else(home).unwrap_or_else(std::env::temp_dir).join("weir")
}

/// A table whose first column is left-aligned and whose others are right-aligned.
fn print_table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(c, (cell, width))| match c {
            0 => format!("  {cell:<width$}"),
            _ => format!("  {cell:>width$}"),
        });
        say!("{}", cells.collect::<String>().trim_end());
    }
}

/// A table with two spaces between left-aligned columns.
fn print_left(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  "));
        say!("{}", cells.collect::<String>().trim_end());
    }
}
