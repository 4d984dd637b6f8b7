//! `weir run`: the agent.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::agent::{Agent, GRACE, Options};
use crate::config::{self, ConfigErrors};
use crate::lane::Mode;

/// Follow files, parse them with their logstore's plugins, and ship the result.
///
/// Stops on SIGTERM or SIGINT, after what is in flight has settled.
#[derive(clap::Args)]
pub struct Args {
    /// The configuration
    #[arg(short, long, value_name = "FILE", env = "WEIR_CONFIG", default_value = "/etc/weir/weir.yaml")]
    config: PathBuf,
    /// Settle all that is there, then exit
    #[arg(long)]
    until_idle: bool,
    /// A group that this agent belongs to: it runs the logstores of its groups, and those of no group
    #[arg(long, value_name = "NAME", env = "WEIR_MACHINE_GROUP", value_delimiter = ',')]
    machine_group: Vec<String>,
    /// At the end, write the accounts of each logstore, plugin and project to this file, as JSON
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    super::start_log("info");
    let mut signals = Signals::listen()?;
    let file = args.config.to_string_lossy();
    let loaded = config::load(&args.config)?;
    for warning in &loaded.warnings {
        tracing::warn!("{}", warning.in_file(&file));
    }
    let mode = if args.until_idle { Mode::until_idle() } else { Mode::default() };
    let options = Options { machine_groups: args.machine_group.clone(), mode, ..Options::default() };
    let agent = Agent::start(&loaded.config, &file, options)?;
    for problem in &agent.problems {
        tracing::error!("this logstore is not read: {}", problem.in_file(&file));
    }
    tracing::info!(logstores = agent.books.logstores.len(), workers = loaded.config.workers, "running");

    if agent.books.logstores.is_empty() {
        tracing::warn!("no logstore of this configuration is for this agent's machine groups");
    }
    signals.wait(&agent, args.until_idle);
    let is_lost = agent.has_lost_a_sink();
    let (books, problems) = (agent.books.clone(), agent.problems.clone());
    agent.stop(if is_lost { Duration::ZERO } else { GRACE })?;
    let summary = books.summary();
    for (name, logstore) in &summary.logstores {
        let counts = &logstore.counts;
        tracing::info!(
            "{name}: read {}, delivered {} ({} of them raw), dropped by plugins {}, in flight {}, faults of plugins {}",
            counts["read"],
            counts["delivered"],
            counts["kept_raw"],
            counts["dropped"],
            counts["in_flight"],
            counts["faults"]
        );
    }
    if let Some(path) = &args.summary {
        let text = serde_json::to_vec_pretty(&summary)?;
        std::fs::write(path, text).with_context(|| format!("writing the summary to {}", path.display()))?;
    }
    ensure!(!is_lost, "a sink is gone; what was in flight comes again at the next start");
    match args.until_idle && !problems.is_empty() {
        true => Err(ConfigErrors::new(&*file, problems).into()),
        false => Ok(()),
    }
}

/// The signals that end the agent. They are listened for before anything starts, so that none comes too early.
struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let guard = runtime.enter();
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        drop(guard);
        Ok(Signals { runtime, terminate, interrupt })
    }

    /// Waits until all lanes are done, a sink is gone, or for a signal, which has the lanes drained.
    fn wait(&mut self, agent: &Agent, until_idle: bool) {
        // An agent that follows may have no lane at all, and waits for a signal all the same.
        let goes_on =
            || !agent.has_lost_a_sink() && (!agent.is_done() || agent.books.logstores.is_empty() && !until_idle);
        // Looking is cheap, and whatever ends the agent needs no way to tell.
        let pause = Duration::from_millis(if until_idle { 10 } else { 500 });
        self.runtime.block_on(async {
            let done = async {
                while goes_on() {
                    tokio::time::sleep(pause).await;
                }
            };
            tokio::select! {
                () = done => {}
                _ = self.terminate.recv() => agent.drain(),
                _ = self.interrupt.recv() => agent.drain(),
            }
        });
    }
}
