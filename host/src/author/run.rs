//! A case in the sandbox, under the limits that a plugin has if nothing else is configured.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::anyhow;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::cases::Case;
use super::input::Input;
use super::report::{Line, Said, Tone};
use crate::budget::Budget;
use crate::event::Batch;
use crate::sandbox::guest::harmless;
use crate::sandbox::instance::Fault;
use crate::sandbox::poison::{Poison, stack_text};
use crate::sandbox::{Chain, Files, Held, Limits, Log as PluginLog, OnFault, Plugin, Stage};
use crate::sink::ndjson::Ndjson;

/// Log lines of a plugin that are kept: authors see what an agent would pass over, but not without end.
const LOG_LINES: usize = 1000;

/// Bytes of the words of a plugin that does not start.
const WORDS: usize = 4096;

/// A plugin under test.
pub struct Subject {
    plugin: Arc<Plugin>,
    limits: Limits,
}

impl Subject {
    /// A plugin with the limits that agents give it.
    pub fn new(plugin: Arc<Plugin>) -> Self {
        // What it logs changes nothing, and is not to depend on how fast it is.
        let limits = Limits { log_lines_per_second: u32::MAX, ..Limits::default() };
        Subject { plugin, limits }
    }

    /// The name that its users know it by.
    pub fn name(&self) -> &str {
        self.plugin.name()
    }

    /// A new instance of it that has taken the settings of a case, and may read its files.
    pub fn stage(&self, case: &Case) -> Result<Stage, Wrong> {
        let files = case.files.as_deref().map(Files::new);
        if self.plugin.reads_files && files.is_none() {
            let how = anyhow!("it reads files: put those that it is to read into {}.files/", case.name);
            return Err(Wrong::NotStarted(how));
        }
        let budget = Budget::new(None);
        let stage =
            Stage::with(self.plugin.clone(), &case.settings, self.limits, &budget, files, PluginLog::of_author());
        stage.map_err(Wrong::NotStarted)
    }
}

/// Why nothing came out that could be compared.
pub enum Wrong {
    /// It did not take its settings.
    NotStarted(anyhow::Error),
    /// It trapped, ran out of something, or broke the contract.
    Faulted {
        /// How often: the batch is halved until the event is alone.
        faults: u64,
        /// The event, if it was found.
        poison: Option<Box<Poison>>,
        /// What happened.
        fault: String,
    },
}

impl Wrong {
    /// A fault of one call.
    pub fn of_call(fault: &Fault) -> Wrong {
        let (what, stack) = fault.parts();
        Wrong::Faulted { faults: 1, poison: None, fault: what + &stack_text(stack) }
    }

    /// In words. `file` is what the events come from, if it is one.
    pub fn lines(&self, file: Option<&str>) -> Vec<Line> {
        let text = match self {
            Wrong::NotStarted(error) => harmless(&format!("{error:#}"), WORDS),
            Wrong::Faulted { poison: Some(poison), .. } => match file {
                Some(file) => poison.to_string().replacen("\nat event ", &format!("\nat {file}:"), 1),
                None => poison.to_string(),
            },
            Wrong::Faulted { fault, .. } => fault.clone(),
        };
        text.lines().map(|line| Line::new(Tone::Plain, line.to_owned())).collect()
    }
}

/// A plugin that is given events of one file, as an agent does.
pub struct Run {
    chain: Chain,
    held: Held,
    encoder: Ndjson,
    made: Vec<u8>,
}

impl Run {
    /// Begins with a new instance.
    pub fn new(subject: &Subject, case: &Case) -> Result<Run, Wrong> {
        let chain = Chain::new(vec![subject.stage(case)?], OnFault::Raw);
        Ok(Run { chain, held: Held::default(), encoder: Ndjson::default(), made: Vec::new() })
    }

    /// All events, in batches as large as an agent's.
    pub fn whole(subject: &Subject, case: &Case, input: &Input) -> Result<Vec<u8>, Wrong> {
        let mut run = Run::new(subject, case)?;
        run.give_all(input, &input.ends(), |_| {})?;
        Ok(run.made)
    }

    /// Gives all events in batches that end there, and says before each but the first where it begins.
    pub fn give_all(&mut self, input: &Input, ends: &[usize], mut before: impl FnMut(&mut Run)) -> Result<(), Wrong> {
        let mut start = 0;
        for end in ends {
            if start > 0 {
                before(self);
            }
            self.give(input.batch(start..*end), *end == input.len());
            start = *end;
        }
        self.check()
    }

    fn give(&mut self, batch: Batch, last: bool) {
        let made = self.chain.process(batch, &mut self.held, last);
        self.made.extend_from_slice(self.encoder.lines(&made).as_slice());
    }

    /// Has another instance go on.
    pub fn renew(&mut self) {
        self.chain.rest();
    }

    /// What has come out since this was last asked.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.made)
    }

    fn check(&self) -> Result<(), Wrong> {
        let stats = &self.chain.stages()[0].stats;
        match &stats.last_fault {
            None => Ok(()),
            Some(fault) => Err(Wrong::Faulted {
                faults: stats.faults,
                poison: stats.last_poison.clone().map(Box::new),
                fault: fault.clone(),
            }),
        }
    }
}

/// Does something, and keeps what plugins log meanwhile.
pub fn recorded<T>(act: impl FnOnce() -> T) -> (T, Vec<Said>) {
    let log = Log::default();
    let made = tracing::subscriber::with_default(tracing_subscriber::registry().with(log.clone()), act);
    let said = std::mem::take(&mut *log.0.lock().unwrap_or_else(PoisonError::into_inner));
    (made, said)
}

/// Log lines of plugins, each different one once.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Said>>>);

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != "plugin" {
            return;
        }
        let mut message = Message::default();
        event.record(&mut message);
        let (level, text) = (level(*event.metadata().level()), message.0);
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match said.iter().position(|said| said.level == level && said.text == text) {
            Some(known) => said[known].times += 1,
            None if said.len() < LOG_LINES => said.push(Said { level, text, times: 1 }),
            None => {}
        }
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        _ => "debug",
    }
}

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
