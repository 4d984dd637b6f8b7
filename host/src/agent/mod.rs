//! A configuration, put to work: sinks, lanes, workers, changes while they run, and an orderly end.
//!
//! `plugins` what the chains are made of · `lanes` the logstores that run · `reload` from one configuration to the next ·
//! `changes` what may change beneath a change · `swap` one chain for another · `files` plugins' files that change ·
//! `uploads` what is uploaded, put to work · `keeper` what changes by itself · `look` how all is · `control` what the admin server may do · `settings` what
//! the configuration says, in the words of those who do it.
//!
//! A change is prepared while nobody waits for it: compiling may take minutes, and taking settings as long as a plugin
//! likes. Whoever then makes it holds `changing`, and looks whether what it was prepared for is still so. `running` is
//! held for moments alone.

mod changes;
mod control;
mod files;
pub mod keeper;
mod lanes;
mod look;
pub mod plugins;
pub mod reload;
mod settings;
mod swap;
mod uploads;

pub(crate) use uploads::joined;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::books::Books;
use crate::checkpoint::Checkpoint;
use crate::config::units::show_size;
use crate::config::{self, Config, ConfigErrors, Logstore, Problem};
use crate::confine::Needs;
use crate::event::Tags;
use crate::heap::Trim;
use crate::lane::{Mode, Scratch, Tap};
use crate::registry::Registry;
use crate::sandbox::cache::Whose;
use crate::sandbox::compile::{ByChild, Compiler};
use crate::sandbox::{Logs, Sandbox};
use crate::schedule::Schedule;
use crate::secret::Stamp;
use crate::sinks::Sinks;
use crate::source::watch::Watch;
use changes::prepare_at_start;
use files::Refusal;
use keeper::Reloads;
use lanes::Running;
use plugins::Plugins;

/// Changes of settled offsets are on disk after this at the latest.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// A turn is bounded, and the checkpoint is written every second: what takes so long does not end.
const DEAD_AFTER: Duration = Duration::from_secs(60);

/// What is in flight has so long to settle after the agent is told to stop.
pub const GRACE: Duration = Duration::from_secs(10);

/// A running agent.
pub struct Agent {
    schedule: Arc<Schedule<Scratch>>,
    mode: Mode,
    groups: Vec<String>,
    /// Bytes that the system gives to all, if it limits that.
    memory: Option<u64>,
    tags: Arc<Tags>,
    /// What the process is confined to, if it is.
    granted: Option<Needs>,
    watch: Arc<Watch>,
    checkpoint: Arc<Checkpoint>,
    sandbox: Arc<Sandbox>,
    registry: Arc<Registry>,
    /// What plugins log.
    logs: Arc<Logs>,
    sinks: Sinks,
    /// Where the configuration is read again, if it is.
    file: Option<PathBuf>,
    /// What its file is called in messages.
    file_name: String,
    /// What told of the file when it was read at the start.
    file_stamp: Option<Stamp>,
    /// The plugins' files as they were when they were last looked at.
    plugin_stamps: Mutex<BTreeMap<PathBuf, Option<Stamp>>>,
    /// Nothing is compiled any more, and no change goes on.
    is_stopping: Arc<AtomicBool>,
    reloads: Mutex<Reloads>,
    /// Why plugins whose files have changed are not used, by logstore.
    refusals: Mutex<BTreeMap<String, Refusal>>,
    /// In Unix seconds.
    started_at: u64,
    /// Whoever has it reads the configuration and applies it: the one that is read last is in force.
    reloading: Mutex<()>,
    /// Whoever has it changes what runs.
    changing: Mutex<()>,
    plugins: Mutex<Plugins>,
    running: Mutex<Running>,
    published: Mutex<Published>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    writer: Mutex<Option<(mpsc::Sender<()>, JoinHandle<()>)>>,
    written: Arc<Written>,
    dead_after: Duration,
}

/// How an agent is to run.
#[derive(Default)]
pub struct Options {
    /// The groups that this agent belongs to.
    pub machine_groups: Vec<String>,
    /// Bytes that the system gives to the agent, if it limits that.
    pub memory: Option<u64>,
    /// Tags of all events, besides those of their files.
    pub tags: Arc<Tags>,
    /// Follow, or settle what is there.
    pub mode: Mode,
    /// Who looks on, by logstore.
    pub taps: BTreeMap<String, Tap>,
    /// Where the configuration is read again, if it is.
    pub file: Option<PathBuf>,
    /// Its stamp before it was read: a change after that is seen, however long the start takes.
    pub file_stamp: Option<Stamp>,
    /// How plugins are compiled.
    pub compile: ByChild,
    /// What the process is confined to, if it is.
    pub granted: Option<Needs>,
    /// What stands still for so long is dead; none: a minute.
    pub dead_after: Option<Duration>,
    /// Runs plugins without fuel, and believes them: only to measure what metering and checking cost.
    pub trusts_plugins: bool,
}

/// What is in force, for all who ask: it is never held for longer than it takes to copy.
#[derive(Clone)]
struct Published {
    /// Without the logstores that are for other agents.
    config: Arc<Config>,
    /// What keeps logstores of it from running.
    problems: Vec<Problem>,
}

/// When the checkpoint was last written, or nothing was to be written.
struct Written {
    begun: Instant,
    /// Milliseconds after that.
    at: AtomicU64,
}

impl Agent {
    /// Starts all logstores of the configuration that are for this agent. A logstore whose plugins cannot be used
    /// is left out, with its files unread, and named in [`Agent::problems`]: it must not keep the others from
    /// running. An error if nothing can run.
    pub fn start(config: &Config, file: &str, options: Options) -> Result<Agent> {
        let raised = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let limit = rustix::process::Rlimit { current: raised.maximum, maximum: raised.maximum };
        if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit) {
            tracing::warn!("cannot raise the limit of open files: {error}");
        }
        let data_dir = &config.data_dir;
        let is_stopping = options.compile.stop.clone();
        make_data_dir(data_dir)?;
        let checkpoint = Arc::new(Checkpoint::open(&data_dir.join("checkpoint.redb"))?);
        let cache = data_dir.join("cache");
        let sandbox = match options.trusts_plugins {
            true => Sandbox::unmetered(Compiler::in_process(&cache)?)?,
            // The checkpoint is ours alone, so the cache is too.
            false => Sandbox::new(Compiler::new(&cache, Whose::Own, options.compile)?)?,
        };
        let registry = Arc::new(Registry::open(&data_dir.join("registry"))?);
        let config = &for_agent(config, &options.machine_groups, options.memory);
        let logs = Arc::<Logs>::default();
        let plugins = Plugins::new(sandbox, &config.plugin_dirs);
        let mut plugins = plugins.with_uploads(registry.clone()).with_logs(logs.clone());
        // What changes while they are loaded is seen.
        let plugin_stamps = files::stamps(config);
        let schedule = Schedule::new();
        let mut running = Running::default();
        running.set_projects(&config.projects, &schedule);
        let (mut chains, mut problems) = (Vec::new(), Vec::new());
        for logstore in &config.logstores {
            match prepare_at_start(&running, logstore, &mut plugins, &registry, &is_stopping) {
                Ok(prepared) => chains.push(prepared),
                Err(found) => problems.extend(found),
            }
        }
        if chains.is_empty() && !problems.is_empty() {
            return Err(ConfigErrors::new(file, problems).into());
        }
        let used = |name: &str| chains.iter().any(|(logstore, ..)| logstore.sinks.iter().any(|sink| sink == name));
        let sinks = Sinks::start(config, used)?;
        let written = Arc::new(Written { begun: Instant::now(), at: AtomicU64::new(0) });
        let agent = Agent {
            mode: options.mode,
            groups: options.machine_groups,
            memory: options.memory,
            tags: options.tags,
            granted: options.granted,
            watch: Watch::start(),
            sandbox: plugins.sandbox().clone(),
            registry,
            logs,
            file: options.file,
            file_name: file.to_owned(),
            file_stamp: options.file_stamp,
            plugin_stamps: Mutex::new(plugin_stamps),
            is_stopping,
            refusals: Mutex::default(),
            reloading: Mutex::default(),
            changing: Mutex::default(),
            published: Mutex::new(Published { config: Arc::new(config.clone()), problems }),
            reloads: Mutex::new(Reloads::begin()),
            started_at: Reloads::begin().since,
            sinks,
            plugins: Mutex::new(plugins),
            workers: Mutex::default(),
            writer: Mutex::default(),
            running: Mutex::new(running),
            written,
            dead_after: options.dead_after.unwrap_or(DEAD_AFTER),
            schedule,
            checkpoint,
        };
        let mut taps = options.taps;
        for prepared in chains {
            let tap = taps.remove(&prepared.0.name.to_string());
            agent.begin(prepared, tap)?;
        }
        // Nothing that is written from now on is lost, even if this is the last that the agent does.
        agent.checkpoint.flush()?;
        agent.schedule.stay_open(agent.mode.is_following());
        let workers = (0..config.workers).map(|number| worker(number, &agent.schedule)).collect::<Result<_>>()?;
        *lock(&agent.workers) = workers;
        *lock(&agent.writer) = Some(checkpoint_writer(&agent.checkpoint, &agent.written)?);
        agent.go_on_with_trials();
        Ok(agent)
    }

    /// What is counted.
    pub fn books(&self) -> Books {
        let running = self.running();
        let mut books = Books { sinks: self.sinks.accounts(), ..Books::default() };
        for (name, tenant) in &running.tenants {
            let (schedule, number) = (self.schedule.clone(), tenant.number);
            books.usages.insert(name.clone(), Arc::new(move || schedule.usage(number)));
            books.budgets.insert(name.clone(), tenant.budget.clone());
        }
        books.logstores = running.lanes.iter().map(|(name, lane)| (name.clone(), lane.books())).collect();
        books
    }

    /// What keeps other logstores from running.
    pub fn problems(&self) -> Vec<Problem> {
        lock(&self.published).problems.clone()
    }

    /// The configuration that is in force, without the logstores that are for other agents.
    pub fn config(&self) -> Arc<Config> {
        lock(&self.published).config.clone()
    }

    /// Whether all lanes are done, which they are only if they were asked to finish.
    pub fn is_done(&self) -> bool {
        lock(&self.workers).iter().all(JoinHandle::is_finished)
    }

    /// Whether a sink can deliver nothing any more, so that its logstores stand still for ever.
    pub fn has_lost_a_sink(&self) -> bool {
        self.sinks.any(|sink| sink.is_lost())
    }

    /// Reads what there is to its end, and is done then.
    pub fn finish(&self) {
        self.mode.finish();
        self.schedule.stay_open(false);
        self.schedule.wake_all();
    }

    /// Reads nothing more, and is done when what is in flight is settled.
    pub fn drain(&self) {
        self.mode.drain();
        self.schedule.stay_open(false);
        self.schedule.lift_ceilings();
        self.schedule.wake_all();
    }

    /// Ends the workers and the sinks, and writes the checkpoint. What did not settle within `grace` stays unsettled:
    /// it comes again at the next start.
    pub fn stop(&self, grace: Duration) -> Result<()> {
        let deadline = Instant::now() + grace;
        while !self.is_done() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        self.schedule.close();
        self.sinks.close(deadline);
        for worker in lock(&self.workers).drain(..) {
            let _ = worker.join();
        }
        if let Some((stop, thread)) = lock(&self.writer).take() {
            drop(stop);
            let _ = thread.join();
        }
        self.checkpoint.flush()?;
        self.checkpoint.back_up()?;
        match self.schedule.broken() {
            0 => Ok(()),
            broken => bail!("{broken} logstores ended by a mistake in weir; the log above says where"),
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        lock(&self.running)
    }

    /// Those that are loaded, and how to load others.
    fn plugins(&self) -> Plugins {
        lock(&self.plugins).clone()
    }

    /// Whether it has been told to stop, so that what takes time is of no use any more.
    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the directory of an agent's own files, if need be.
pub fn make_data_dir(data_dir: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o750).create(data_dir);
    made.with_context(|| format!("data_dir {}", data_dir.display()))
}

/// Whether an agent of these groups runs the logstore.
pub fn is_for(logstore: &Logstore, groups: &[String]) -> bool {
    logstore.machine_groups.is_empty() || logstore.machine_groups.iter().any(|group| groups.contains(group))
}

/// The configuration without the logstores that are for others, and with the memory divided that there is for projects.
fn for_agent(config: &Config, groups: &[String], memory: Option<u64>) -> Config {
    let mut config = config.clone();
    config.logstores.retain(|logstore| is_for(logstore, groups));
    // A quarter is for what belongs to no project, and for what the kernel keeps of files.
    if let Some(total) = config.memory.or_else(|| memory.map(|bytes| bytes / 4 * 3)) {
        let runs = |name: &str| config.logstores.iter().any(|logstore| logstore.name.project == name);
        let projects = config.projects.iter_mut().filter(|(name, _)| runs(name));
        let sum = config::divide_memory(total, projects.map(|(_, project)| project));
        // What the configuration says itself has been warned of.
        if config.memory.is_none() && sum > total {
            let (sum, total) = (show_size(sum), show_size(total));
            tracing::warn!(
                "projects may use {sum} of memory together, and the container's limit leaves {total}: give each its memory"
            );
        }
    }
    config
}

fn worker(number: usize, schedule: &Arc<Schedule<Scratch>>) -> Result<JoinHandle<()>> {
    let schedule = schedule.clone();
    let work = move || schedule.work(&mut Scratch::default());
    thread::Builder::new().name(format!("worker {number}")).spawn(work).context("starting a worker thread")
}

/// A thread that writes the checkpoint now and then, and gives memory back to the system, until its sender is dropped.
fn checkpoint_writer(
    checkpoint: &Arc<Checkpoint>,
    written: &Arc<Written>,
) -> Result<(mpsc::Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = mpsc::channel();
    let (checkpoint, written) = (checkpoint.clone(), written.clone());
    let write = move || {
        let mut trim = Trim::default();
        while stopped.recv_timeout(CHECKPOINT_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
            match checkpoint.flush() {
                Ok(()) => written.at.store(written.begun.elapsed().as_millis() as u64, Ordering::Relaxed),
                Err(error) => tracing::error!("{error:#}; trying again"),
            }
            trim.tick(Instant::now());
        }
    };
    let thread = thread::Builder::new().name("checkpoint".to_owned()).spawn(write);
    Ok((stop, thread.context("starting the thread of the checkpoint")?))
}
