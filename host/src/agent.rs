//! A configuration, put to work: sinks, lanes, workers, and an orderly end.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::books::{Books, LogstoreBooks};
use crate::budget::Budget;
use crate::checkpoint::Checkpoint;
use crate::clock::Clock;
use crate::config::{self, Config, ConfigErrors, Logstore, Place, Problem};
use crate::heap::Trim;
use crate::lane::{Lane, Mode, Parts, Scratch, Tap};
use crate::metrics::{Accounts, PluginAccounts};
use crate::pace::Pace;
use crate::registry;
use crate::sandbox::compile::{ByChild, Cache, Compiler};
use crate::sandbox::{Chain, Limits, OnFault, Sandbox, Stage};
use crate::schedule::Schedule;
use crate::sink::Returns;
use crate::sinks::Sinks;
use crate::source::decode::{self, Decoder};
use crate::source::framing::multiline::{Patterns, Rule};
use crate::source::framing::{self, Framing};
use crate::source::watch::{News, Watch};
use crate::source::{self, Source};

/// Changes of settled offsets are on disk after this at the latest.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// What is in flight has so long to settle after the agent is told to stop.
pub const GRACE: Duration = Duration::from_secs(10);

/// A running agent.
pub struct Agent {
    schedule: Arc<Schedule<Scratch>>,
    mode: Mode,
    workers: Vec<JoinHandle<()>>,
    sinks: Sinks,
    checkpoint: Arc<Checkpoint>,
    writer: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
    /// What is counted.
    pub books: Books,
    /// What keeps other logstores from running.
    pub problems: Vec<Problem>,
}

/// How an agent is to run.
#[derive(Default)]
pub struct Options {
    /// The groups that this agent belongs to.
    pub machine_groups: Vec<String>,
    /// Follow, or settle what is there.
    pub mode: Mode,
    /// Who looks on, by logstore.
    pub taps: BTreeMap<String, Tap>,
    /// How plugins are compiled.
    pub compile: ByChild,
    /// Runs plugins without fuel, and believes them: only to measure what metering and checking cost.
    pub trusts_plugins: bool,
}

impl Agent {
    /// Starts all logstores of the configuration that are for this agent. A logstore whose plugins cannot be used
    /// is left out, with its files unread, and named in [`Agent::problems`]: it must not keep the others from
    /// running. An error if nothing can run.
    pub fn start(config: &Config, file: &str, mut options: Options) -> Result<Agent> {
        let raised = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let limit = rustix::process::Rlimit { current: raised.maximum, maximum: raised.maximum };
        if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit) {
            tracing::warn!("cannot raise the limit of open files: {error}");
        }
        let data_dir = &config.data_dir;
        make_data_dir(data_dir)?;
        let checkpoint = Arc::new(Checkpoint::open(&data_dir.join("checkpoint.redb"))?);
        let cache = data_dir.join("cache");
        let sandbox = match options.trusts_plugins {
            true => Sandbox::unmetered(Compiler::in_process(&cache)?)?,
            // The checkpoint is ours alone, so the cache is too.
            false => Sandbox::new(Compiler::new(&cache, Cache::Own, options.compile)?)?,
        };

        let mut plugins = Plugins::new(sandbox, &config.plugin_dirs);
        let budget = |project: &config::Project| Budget::new(project.memory.map(|bytes| bytes as usize));
        let budgets: BTreeMap<_, _> = config.projects.iter().map(|(name, p)| (name.clone(), budget(p))).collect();
        let (mut chains, mut problems) = (Vec::new(), Vec::new());
        for logstore in config.logstores.iter().filter(|l| is_for(l, &options.machine_groups)) {
            match plugins.chain(logstore, &budgets[&logstore.name.project]) {
                Ok(mut chain) => {
                    // Many will have nothing to do for long; and what comes to stay is not scattered among instances.
                    chain.begin();
                    chains.push((logstore, chain));
                }
                Err(found) => problems.extend(found),
            }
        }
        if chains.is_empty() && !problems.is_empty() {
            return Err(ConfigErrors::new(file, problems).into());
        }

        let schedule = Schedule::new();
        let projects: BTreeMap<_, _> = config
            .projects
            .iter()
            .map(|(name, p)| (name, (schedule.project(p.share, p.cpu), Arc::new(Pace::default()))))
            .collect();
        let used = |name: &str| chains.iter().any(|(logstore, _)| logstore.sinks.iter().any(|sink| sink == name));
        let sinks = Sinks::start(config, used)?;
        let watch = Watch::start();
        let mut books = Books { budgets, sinks: sinks.accounts().clone(), ..Books::default() };
        for (name, (number, _)) in &projects {
            let (schedule, number) = (schedule.clone(), *number);
            books.usages.insert((*name).clone(), Arc::new(move || schedule.usage(number)));
        }
        for (logstore, chain) in chains {
            let name = logstore.name.to_string();
            let (project, pace) = &projects[&logstore.name.project];
            let number = schedule.reserve(*project);
            let wake = |schedule: &Arc<Schedule<Scratch>>| {
                let schedule = schedule.clone();
                Box::new(move || schedule.wake(number))
            };
            let project = logstore.name.project.clone();
            let budget = books.budgets[&project].clone();
            budget.join(wake(&schedule));
            let accounts = Arc::new(Accounts::default());
            let counted = |stage: &Stage| (stage.plugin().name().to_owned(), Arc::new(PluginAccounts::default()));
            let plugins: Vec<_> = chain.stages().iter().map(counted).collect();
            let counted = LogstoreBooks { project, accounts: accounts.clone(), plugins: plugins.clone() };
            books.logstores.insert(name.clone(), counted);
            let settings = source_settings(&logstore.files)?;
            let known = checkpoint.load(&name)?;
            let source = Source::new(settings, known, watch.clone(), News::new(wake(&schedule)))?;
            for (id, position) in source.begun() {
                checkpoint.set(&name, id, position);
            }
            let lane = Lane::new(Parts {
                source,
                chain,
                outlets: sinks.outlets(logstore),
                returns: Returns::new(wake(&schedule)),
                checkpoint: checkpoint.clone(),
                accounts,
                plugins: plugins.into_iter().map(|(_, accounts)| accounts).collect(),
                budget,
                pace: Some(pace.clone()),
                mode: options.mode.clone(),
                clock: Clock::default(),
                tap: options.taps.remove(&name),
                name,
            });
            schedule.add(number, Box::new(lane));
        }
        // Nothing that is written from now on is lost, even if this is the last that the agent does.
        checkpoint.flush()?;
        let workers = (0..config.workers).map(|number| worker(number, &schedule)).collect::<Result<_>>()?;
        let writer = Some(checkpoint_writer(&checkpoint)?);
        Ok(Agent { schedule, mode: options.mode, workers, sinks, checkpoint, writer, books, problems })
    }

    /// Whether all lanes are done, which they are only if they were asked to finish.
    pub fn is_done(&self) -> bool {
        self.workers.iter().all(JoinHandle::is_finished)
    }

    /// Whether a sink can deliver nothing any more, so that its logstores stand still for ever.
    pub fn has_lost_a_sink(&self) -> bool {
        self.sinks.any(|sink| sink.is_lost())
    }

    /// Reads what there is to its end, and is done then.
    pub fn finish(&self) {
        self.mode.finish();
        self.schedule.wake_all();
    }

    /// Reads nothing more, and is done when what is in flight is settled.
    pub fn drain(&self) {
        self.mode.drain();
        self.schedule.lift_ceilings();
        self.schedule.wake_all();
    }

    /// Ends the workers and the sinks, and writes the checkpoint. What did not settle within `grace` stays unsettled:
    /// it comes again at the next start.
    pub fn stop(mut self, grace: Duration) -> Result<()> {
        let deadline = Instant::now() + grace;
        while !self.is_done() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        self.schedule.close();
        self.sinks.close(deadline);
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
        if let Some((stop, thread)) = self.writer.take() {
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
}

/// Loads plugins, each once.
pub struct Plugins<'a> {
    sandbox: Sandbox,
    dirs: &'a [PathBuf],
    loaded: BTreeMap<PathBuf, Arc<crate::sandbox::Plugin>>,
}

impl<'a> Plugins<'a> {
    /// Looks for plugins in these directories.
    pub fn new(sandbox: Sandbox, dirs: &'a [PathBuf]) -> Self {
        Plugins { sandbox, dirs, loaded: BTreeMap::new() }
    }

    /// The chain of a logstore, or what is wrong with each of its plugins.
    pub fn chain(&mut self, logstore: &Logstore, budget: &Arc<Budget>) -> Result<Chain, Vec<Problem>> {
        let (mut stages, mut problems) = (Vec::with_capacity(logstore.plugins.len()), Vec::new());
        for used in &logstore.plugins {
            let limits = limits(&used.limits);
            match self.stage(&used.reference, &used.settings, limits, budget) {
                Ok(stage) => stages.push(stage),
                Err(error) => {
                    let place = Place { path: format!("{}.use", used.place.path), ..used.place.clone() };
                    problems.push(Problem::new(place, format!("{error:#}")));
                }
            }
        }
        let on_fault = match logstore.on_fault {
            config::OnFault::Raw => OnFault::Raw,
            config::OnFault::Drop => OnFault::Drop,
            config::OnFault::Hold => OnFault::Hold,
        };
        if problems.is_empty() { Ok(Chain::new(stages, on_fault)) } else { Err(problems) }
    }

    /// A plugin with its settings, which are JSON.
    pub fn stage(
        &mut self,
        reference: &config::PluginRef,
        settings: &str,
        limits: Limits,
        budget: &Arc<Budget>,
    ) -> Result<Stage> {
        let path = registry::find(reference, self.dirs)?;
        let plugin = match self.loaded.get(&path) {
            Some(plugin) => plugin.clone(),
            None => {
                let plugin = self.sandbox.load(&path)?;
                self.loaded.insert(path, plugin.clone());
                plugin
            }
        };
        Stage::new(plugin, settings, limits, budget)
    }
}

/// Makes the directory of an agent's own files, if need be.
pub fn make_data_dir(data_dir: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o750).create(data_dir);
    made.with_context(|| format!("data_dir {}", data_dir.display()))
}

fn limits(limits: &config::Limits) -> Limits {
    Limits {
        fuel_base: limits.fuel_base,
        fuel_per_byte: limits.fuel_per_byte,
        configure_fuel: limits.configure_fuel,
        memory: limits.memory as usize,
        table_elements: limits.table_elements as usize,
        instances: limits.instances as usize,
        output_bytes: limits.output_bytes as usize,
        output_events: limits.output_events as usize,
        held_bytes: limits.held_bytes as usize,
        fields: limits.fields as usize,
        field_name: limits.field_name as usize,
        reason: limits.reason as usize,
        log_lines_per_second: limits.log_lines_per_second as u32,
        log_line: limits.log_line as usize,
        counters: limits.counters as usize,
    }
}

/// Whether an agent of these groups runs the logstore.
pub fn is_for(logstore: &Logstore, groups: &[String]) -> bool {
    logstore.machine_groups.is_empty() || logstore.machine_groups.iter().any(|group| groups.contains(group))
}

fn source_settings(files: &config::Files) -> Result<source::Settings> {
    let multiline = files.multiline.as_ref().map(|multiline| {
        let patterns = match &multiline.patterns {
            config::Patterns::Start(start) => Patterns::Start(start.clone()),
            config::Patterns::StartContinue(start, more) => Patterns::StartContinue(start.clone(), more.clone()),
            config::Patterns::End(end) => Patterns::End(end.clone()),
        };
        Rule::new(&patterns, multiline.max_lines)
    });
    Ok(source::Settings {
        root: files.root.clone(),
        include: files.include.clone(),
        exclude: files.exclude.clone(),
        from: match files.from {
            config::StartAt::Beginning => source::StartAt::Beginning,
            config::StartAt::End => source::StartAt::End,
        },
        poll_interval: files.poll_interval,
        decoder: decoder(files)?,
        framing: Framing {
            format: match files.format {
                config::Format::Lines => framing::Format::Lines,
                config::Format::Cri => framing::Format::Cri,
                config::Format::Docker => framing::Format::Docker,
            },
            max_event: files.max_line,
            long: match files.long_lines {
                config::LongEvent::Split => framing::LongEvent::Split,
                config::LongEvent::Truncate => framing::LongEvent::Truncate,
                config::LongEvent::Skip => framing::LongEvent::Skip,
            },
            multiline: multiline.transpose()?,
            flush_after: files.flush_after,
        },
        ignore_older: files.ignore_older,
        rotated: source::Rotated {
            wait: files.rotated.wait,
            max_files: files.rotated.max_files,
            max_size: files.rotated.max_size,
        },
        max_open: files.max_open_files,
    })
}

fn decoder(files: &config::Files) -> Result<Decoder> {
    let invalid = match files.invalid {
        config::Invalid::Replace => decode::Invalid::Replace,
        config::Invalid::Keep => decode::Invalid::Keep,
    };
    Decoder::new(files.encoding, invalid).with_context(|| format!("the encoding {}", files.encoding))
}

fn worker(number: usize, schedule: &Arc<Schedule<Scratch>>) -> Result<JoinHandle<()>> {
    let schedule = schedule.clone();
    let work = move || schedule.work(&mut Scratch::default());
    thread::Builder::new().name(format!("worker {number}")).spawn(work).context("starting a worker thread")
}

/// A thread that writes the checkpoint now and then, and gives memory back to the system, until its sender is dropped.
fn checkpoint_writer(checkpoint: &Arc<Checkpoint>) -> Result<(mpsc::Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = mpsc::channel();
    let checkpoint = checkpoint.clone();
    let write = move || {
        let mut trim = Trim::default();
        while stopped.recv_timeout(CHECKPOINT_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
            if let Err(error) = checkpoint.flush() {
                tracing::error!("{error:#}; trying again");
            }
            trim.tick(Instant::now());
        }
    };
    let thread = thread::Builder::new().name("checkpoint".to_owned()).spawn(write);
    Ok((stop, thread.context("starting the thread of the checkpoint")?))
}

/// A sandbox for a command that isn't the agent, which keeps what it compiles in that directory.
pub fn sandbox_for_tools(cache: &Path) -> Result<Sandbox> {
    Sandbox::new(Compiler::new(cache, Cache::Shared, ByChild::default())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_configured_is_the_sandboxs_default() {
        assert_eq!(limits(&config::Limits::default()), Limits::default());
    }
}
