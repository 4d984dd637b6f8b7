//! `weir run`: the agent.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::agent::{self, Agent, GRACE, Options, is_for};
use crate::config::{self, Config, ConfigErrors, Confine, Place, Problem};
use crate::confine::{self, Needs};
use crate::lane::Mode;
use crate::sandbox::compile::ByChild;

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
    let signals = Signals::listen()?;
    let file = args.config.to_string_lossy();
    let loaded = config::load(&args.config)?;
    for warning in &loaded.warnings {
        tracing::warn!("{}", warning.in_file(&file));
    }
    let config = &loaded.config;
    let summary_file = args.summary.as_deref().map(open_summary).transpose()?;
    agent::make_data_dir(&config.data_dir)?;
    confine_to(config, &file, &args.machine_group)?;
    // From here on there may be other threads.
    let told = signals.watch()?;
    let mode = if args.until_idle { Mode::until_idle() } else { Mode::default() };
    let compile = ByChild { stop: told.flag.clone(), ..ByChild::default() };
    let options = Options { machine_groups: args.machine_group.clone(), mode, compile, ..Options::default() };
    let agent = match Agent::start(config, &file, options) {
        Err(_) if told.flag.load(Ordering::Relaxed) => return Ok(()),
        started => started?,
    };
    let workers = config.workers;
    // It may be large, and is not needed any more.
    drop(loaded);
    for problem in &agent.problems() {
        tracing::error!("this logstore is not read: {}", problem.in_file(&file));
    }
    tracing::info!(logstores = agent.books().logstores.len(), workers, "running");

    if agent.books().logstores.is_empty() {
        tracing::warn!("no logstore of this configuration is for this agent's machine groups");
    }
    told.wait(&agent, args.until_idle);
    let is_lost = agent.has_lost_a_sink();
    let (books, problems) = (agent.books(), agent.problems());
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
    if let Some(mut file) = summary_file {
        file.set_len(0)
            .and_then(|()| file.write_all(&serde_json::to_vec_pretty(&summary)?))
            .context("writing the summary")?;
    }
    ensure!(!is_lost, "a sink is gone; what was in flight comes again at the next start");
    match args.until_idle && !problems.is_empty() && !told.flag.load(Ordering::Relaxed) {
        true => Err(ConfigErrors::new(&*file, problems).into()),
        false => Ok(()),
    }
}

/// Opened at the start, when the agent may still make files anywhere.
fn open_summary(path: &Path) -> Result<File> {
    let opened = File::options().create(true).write(true).truncate(false).open(path);
    opened.with_context(|| format!("the summary {}", path.display()))
}

/// Takes from this thread, which is the only one, all that the logstores of these groups do not need.
fn confine_to(config: &Config, file: &str, groups: &[String]) -> Result<()> {
    if config.confine == Confine::Off {
        return Ok(());
    }
    let logstores = config.logstores.iter().filter(|logstore| is_for(logstore, groups));
    let mut needs = Needs::of(config, logstores);
    needs.add_file(Path::new(file));
    let report = confine::confine(&needs);
    if report.gaps.is_empty() {
        tracing::info!("confined: {report}");
    } else if config.confine == Confine::BestEffort {
        tracing::warn!("confined: {report}");
    } else {
        let place = Place { path: "confine".into(), ..Place::default() };
        let message = format!("is required, and cannot be had: {}", report.gaps.join("; "));
        return Err(ConfigErrors::new(file, vec![Problem::new(place, message)]).into());
    }
    Ok(())
}

/// The signals that end the agent. They are listened for before anything starts, so that none comes too early.
struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
}

/// Whether a signal came.
struct Told {
    flag: Arc<AtomicBool>,
    news: mpsc::Receiver<()>,
}

impl Signals {
    fn listen() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let guard = runtime.enter();
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        drop(guard);
        Ok(Signals { runtime, terminate, interrupt })
    }

    /// Waits for the first of them on a thread of its own: it may come while the agent starts.
    fn watch(mut self) -> Result<Told> {
        let flag = Arc::new(AtomicBool::new(false));
        let (told, news) = mpsc::channel();
        let told_by = flag.clone();
        let wait = move || {
            self.runtime.block_on(async {
                tokio::select! {
                    _ = self.terminate.recv() => {}
                    _ = self.interrupt.recv() => {}
                }
            });
            told_by.store(true, Ordering::Relaxed);
            // More of them change nothing: they stay caught when nobody waits for them.
            let _ = told.send(());
        };
        thread::Builder::new().name("signals".to_owned()).spawn(wait).context("starting a thread for signals")?;
        Ok(Told { flag, news })
    }
}

impl Told {
    /// Waits until all lanes are done, a sink is gone, or for a signal, which has the lanes drained.
    fn wait(&self, agent: &Agent, until_idle: bool) {
        // An agent that follows may have no lane at all, and waits for a signal all the same.
        let goes_on =
            || !agent.has_lost_a_sink() && (!agent.is_done() || agent.books().logstores.is_empty() && !until_idle);
        // Looking is cheap, and whatever ends the agent needs no way to tell.
        let pause = Duration::from_millis(if until_idle { 10 } else { 500 });
        while goes_on() {
            if self.news.recv_timeout(pause).is_ok() {
                return agent.drain();
            }
        }
    }
}
