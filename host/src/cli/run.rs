//! `weir run`: the agent.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::config_file::ConfigFile;
use super::tombstone::{self, Tombstone};
use crate::admin::Server;
use crate::agent::keeper::{Keeper, look_at};
use crate::agent::{self, Agent, GRACE, Options, is_for};
use crate::cgroup;
use crate::config::units::{DURATION_HINT, parse_duration, show_duration};
use crate::config::{Config, ConfigErrors, Confine, Place, Problem};
use crate::confine::{self, Needs};
use crate::environment::{self, ENV_TAGS, MACHINE_GROUP, USER_ID};
use crate::event::Tags;
use crate::lane::Mode;
use crate::sandbox::compile::ByChild;

/// As long as a pod may take to end is long enough.
const LONGEST_GRACE: Duration = Duration::from_secs(3600);

/// A turn may take nearly so long, and the checkpoint is written every second.
const SOONEST_DEAD: Duration = Duration::from_secs(2);

/// This part of the grace is for what is on its way when nothing more is read.
const SETTLING: u32 = 4;

/// How often an agent is looked at that follows, and one that comes to its end.
const LOOK: Duration = Duration::from_millis(500);
const LOOK_OFTEN: Duration = Duration::from_millis(10);

/// Follow files, parse them with their logstore's plugins, and ship the result
///
/// Stops on SIGTERM or SIGINT, after what is in flight has settled.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// Settle all that is there, then exit
    #[arg(long)]
    until_idle: bool,
    /// When this file is there, settle all that is there by then, and exit: for a container beside another one
    #[arg(long, value_name = "FILE", conflicts_with = "until_idle")]
    exit_with: Option<PathBuf>,
    /// When told to stop, read what is there to its end first: for files that are gone afterwards
    #[arg(long)]
    finish_on_stop: bool,
    /// How long all that may take after the agent is told to stop, up to an hour; what is not settled then comes again
    /// [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = grace)]
    grace: Option<Duration>,
    /// A worker or the checkpoint that stands still for so long is one that only a restart helps: then `weir health` and
    /// /healthz say so [default: 1m]
    #[arg(long, value_name = "DURATION", value_parser = dead_after)]
    dead_after: Option<Duration>,
    /// A group that this agent belongs to: it runs the logstores of its groups, and those of no group [env: WEIR_MACHINE_GROUP]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    machine_group: Vec<String>,
    /// At the end, write the accounts of each logstore, plugin and project to this file, as JSON
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    super::log::start_of_agent();
    let signals = Signals::listen()?;
    let file = args.config.name();
    let file_stamp = look_at(&args.config.path());
    let loaded = args.config.load()?;
    for warning in &loaded.warnings {
        tracing::warn!(place = warning.place.path, "{}", warning.in_file(&file));
    }
    environment::contradictions(&environment::process).iter().for_each(|words| tracing::warn!("{words}"));
    let (groups, tags) = (machine_groups(args), tags()?);
    let config = &loaded.config;
    let summary_file = args.summary.as_deref().map(open_summary).transpose()?;
    agent::make_data_dir(&config.data_dir)?;
    // It cannot be read later.
    let memory = cgroup::memory();
    let granted = confine_to(config, &file, &groups)?;
    // From here on there may be other threads.
    let told = signals.watch()?;
    let mode = if args.until_idle { Mode::until_idle() } else { Mode::default() };
    let compile = ByChild { stop: told.flag.clone(), ..ByChild::default() };
    let options = Options {
        machine_groups: groups.clone(),
        memory,
        tags: Arc::new(tags),
        mode,
        compile,
        granted,
        dead_after: args.dead_after,
        file: Some(args.config.path()),
        file_stamp,
        ..Options::default()
    };
    let agent = match Agent::start(config, &file, options) {
        Err(_) if told.flag.load(Ordering::Relaxed) => return Ok(()),
        started => Arc::new(started?),
    };
    let workers = config.workers;
    if agent.books().logstores.is_empty() {
        warn_of_groups(config, &groups);
    }
    for problem in &agent.problems() {
        tracing::error!(place = problem.place.path, "this logstore is not read: {}", problem.in_file(&file));
    }
    let user_id = USER_ID.of(&environment::process).map(|(id, _)| id);
    tracing::info!(user_id, logstores = agent.books().logstores.len(), workers, "running");

    // What is to end does not change any more.
    let server = match &config.admin {
        Some(admin) => {
            Some(Server::start(admin, &config.data_dir, agent.clone()).context("starting the admin server")?)
        }
        None => None,
    };
    let keeper = (!args.until_idle).then(|| Keeper::start(&agent)).transpose()?;
    let grace = told.wait(&agent, keeper, args);
    // Whoever asks is told that it is ending, but for this.
    drop(server);
    let is_lost = agent.has_lost_a_sink();
    let (books, problems) = (agent.books(), agent.problems());
    agent.stop(if is_lost { Duration::ZERO } else { grace })?;
    let summary = books.summary();
    for (name, logstore) in &summary.logstores {
        let counts = &logstore.counts;
        tracing::info!(
            logstore = name,
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
    let settles = args.until_idle || args.exit_with.is_some();
    match settles && !problems.is_empty() && !told.flag.load(Ordering::Relaxed) {
        true => Err(ConfigErrors::new(file, problems).into()),
        false => Ok(()),
    }
}

fn grace(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text).filter(|duration| *duration <= LONGEST_GRACE);
    duration.ok_or_else(|| format!("must be a duration up to {}; {DURATION_HINT}", show_duration(LONGEST_GRACE)))
}

fn dead_after(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text).filter(|duration| (SOONEST_DEAD..=LONGEST_GRACE).contains(duration));
    let range = [SOONEST_DEAD, LONGEST_GRACE].map(show_duration).join(" to ");
    duration.ok_or_else(|| format!("must be a duration from {range}; {DURATION_HINT}"))
}

/// By the arguments, or else by the environment.
fn machine_groups(args: &Args) -> Vec<String> {
    let named = || MACHINE_GROUP.of(&environment::process).map(|(list, _)| environment::names(&list, &[',']));
    if args.machine_group.is_empty() { named().unwrap_or_default() } else { args.machine_group.clone() }
}

/// What the environment says of all events.
fn tags() -> Result<Tags> {
    let problem = |message| Problem::new(Place::default(), message);
    let (tags, unset) = environment::tags(&environment::process)
        .map_err(|wrong| ConfigErrors::new("the environment", wrong.into_iter().map(problem).collect()))?;
    if !unset.is_empty() {
        tracing::warn!(
            "{} names variables that are not set, so there are no such tags: {}",
            ENV_TAGS.name,
            unset.join(", ")
        );
    }
    Ok(tags)
}

/// Says why an agent that runs nothing does so.
fn warn_of_groups(config: &Config, own: &[String]) {
    let list = |names: BTreeSet<&String>| names.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let wanted = list(config.logstores.iter().flat_map(|logstore| &logstore.machine_groups).collect());
    let own = if own.is_empty() { "none".to_owned() } else { list(own.iter().collect()) };
    tracing::warn!(
        "no logstore of this configuration is for this agent's machine groups, which are: {own}; those of the \
         configuration are: {wanted}. Set {} or --machine-group",
        MACHINE_GROUP.name
    );
}

/// Opened at the start, when the agent may still make files anywhere.
fn open_summary(path: &Path) -> Result<File> {
    let opened = File::options().create(true).write(true).truncate(false).open(path);
    opened.with_context(|| format!("the summary {}", path.display()))
}

/// Takes from this thread, which is the only one, all that the logstores of these groups do not need. Gives what that
/// is, if files are kept from it.
fn confine_to(config: &Config, file: &str, groups: &[String]) -> Result<Option<Needs>> {
    if config.confine == Confine::Off {
        return Ok(None);
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
    Ok(report.landlock_abi.map(|_| needs))
}

/// The signals that end the agent, and the one that has it read its configuration again. They are listened for before anything starts, so that none comes too early.
struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What signals said.
struct Told {
    /// Whether the agent is to end.
    flag: Arc<AtomicBool>,
    news: mpsc::Receiver<News>,
}

/// What a signal says.
enum News {
    /// It came then.
    Stop(Instant),
    Reload,
}

impl Signals {
    fn listen() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let guard = runtime.enter();
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let hangup = signal(SignalKind::hangup())?;
        drop(guard);
        Ok(Signals { runtime, terminate, interrupt, hangup })
    }

    /// Waits for the first of those that end it on a thread of its own: it may come while the agent starts.
    fn watch(mut self) -> Result<Told> {
        let flag = Arc::new(AtomicBool::new(false));
        let (told, news) = mpsc::channel();
        let told_by = flag.clone();
        let wait = move || {
            self.runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = self.terminate.recv() => return,
                        _ = self.interrupt.recv() => return,
                        // Nobody listens when it is ending.
                        _ = self.hangup.recv() => drop(told.send(News::Reload)),
                    }
                }
            });
            told_by.store(true, Ordering::Relaxed);
            // More of them change nothing: they stay caught when nobody waits for them.
            let _ = told.send(News::Stop(Instant::now()));
        };
        thread::Builder::new().name("signals".to_owned()).spawn(wait).context("starting a thread for signals")?;
        Ok(Told { flag, news })
    }
}

impl Told {
    /// Waits until all lanes are done, a sink is gone, or for a signal, which has the lanes drained. Gives what is left of
    /// the grace.
    fn wait(&self, agent: &Agent, mut keeper: Option<Keeper>, args: &Args) -> Duration {
        let mut tombstone = args.exit_with.clone().map(Tombstone::at);
        let mut finishes = args.until_idle;
        // An agent that follows may have no lane at all, and waits for a signal all the same.
        let goes_on = |finishes: bool| {
            !agent.has_lost_a_sink() && (!agent.is_done() || agent.books().logstores.is_empty() && !finishes)
        };
        while goes_on(finishes) {
            if tombstone.take_if(Tombstone::is_there).is_some() {
                if let Some(keeper) = keeper.take() {
                    keeper.stop();
                }
                agent.finish();
                finishes = true;
            }
            // Looking is cheap, and whatever ends the agent needs no way to tell.
            let pause = match tombstone {
                _ if finishes => LOOK_OFTEN,
                Some(_) => tombstone::POLL,
                None => LOOK,
            };
            match (self.news.recv_timeout(pause), &keeper) {
                (Ok(News::Stop(at)), _) => {
                    // The time runs while the keeper comes to its end.
                    let deadline = at + args.grace.unwrap_or(GRACE);
                    if let Some(keeper) = keeper.take() {
                        keeper.stop();
                    }
                    return end(agent, args, deadline);
                }
                (Ok(News::Reload), Some(keeper)) => keeper.reload(),
                _ => {}
            }
        }
        args.grace.unwrap_or(GRACE)
    }
}

/// Has the agent come to its end by then, after a signal. Gives what is left of the grace.
fn end(agent: &Agent, args: &Args, deadline: Instant) -> Duration {
    let grace = args.grace.unwrap_or(GRACE);
    if args.finish_on_stop {
        agent.finish();
        let enough = deadline - grace / SETTLING;
        while !agent.is_done() && !agent.has_lost_a_sink() && Instant::now() < enough {
            thread::sleep(LOOK_OFTEN);
        }
        if !agent.is_done() {
            tracing::warn!("not everything could be read in the time that --grace gives");
        }
    }
    agent.drain();
    deadline.saturating_duration_since(Instant::now())
}
