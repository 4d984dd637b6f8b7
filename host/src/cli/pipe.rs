//! `weir pipe`: lines in, NDJSON out.

mod watch;

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Usage;
use crate::agent::plugins::{Plugins, sandbox_for_tools};
use crate::config::PluginRef;
use crate::event::{Batch, CONTENT, Field, Kind, Tally};
use crate::sandbox::{Chain, Files, Held, Limits, OnFault};
use crate::sink::ndjson::Ndjson;
use crate::source::CHUNK;
use crate::source::framing::{Input, LongEvent, Map, Memory, lines};

/// Send lines from standard input through plugins to standard output: try a parser at once
///
/// Plugins run in the same sandbox, under the same limits, as in the agent. With --watch, a plugin is built and the same
/// lines are sent through it again, each time one of its files is saved, until Ctrl-C.
#[derive(clap::Args)]
pub struct Args {
    /// A plugin's name or the path of a .wasm; several are a chain
    #[arg(long, value_name = "NAME")]
    plugin: Vec<String>,
    /// Settings of the plugin, as JSON, or @FILE; the first for the first plugin, and so on
    #[arg(long, value_name = "JSON")]
    settings: Vec<String>,
    /// Where to look for plugins; several are searched in order
    #[arg(long, value_name = "DIR", env = "WEIR_PLUGIN_DIR", value_delimiter = ':')]
    plugin_dir: Vec<PathBuf>,
    /// A directory whose files the plugins may read
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// Read this file instead of standard input
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Build the plugin in this directory, put it behind the others, and begin again when its files change, or the
    /// settings or input files
    #[arg(long, value_name = "DIR")]
    watch: Option<PathBuf>,
    /// Say at the end, on standard error, what was read, shipped, dropped and used
    #[arg(long)]
    summary: bool,
}

/// A line longer than this is split.
const MAX_LINE: usize = 1 << 20;

pub fn run(args: &Args) -> Result<()> {
    super::log::start("info");
    let count = args.plugin.len() + usize::from(args.watch.is_some());
    if args.settings.len() > count {
        return Err(Usage("there are more --settings than --plugin".to_owned()).into());
    }
    if let Some(dir) = &args.watch {
        return watch::run(args, dir);
    }
    let mut pipe = Pipe::new(args, &mut plugins(args)?, None)?;
    match &args.input {
        Some(path) => pipe.copy(&mut open(path)?)?,
        None => pipe.copy(&mut io::stdin().lock())?,
    }
    if args.summary {
        pipe.summarize();
    }
    Ok(())
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("--input {}", path.display()))
}

/// Where plugins are found, and those that have been.
fn plugins(args: &Args) -> Result<Plugins> {
    let dirs = if args.plugin_dir.is_empty() { super::default_plugin_dirs() } else { args.plugin_dir.clone() };
    Ok(Plugins::new(sandbox_for_tools(&super::user_cache())?, &dirs))
}

struct Pipe {
    chain: Chain,
    held: Held,
    tally: Tally,
    encoder: Ndjson,
    read: u64,
    dropped: u64,
    failed: u64,
}

impl Pipe {
    /// With the plugins that are named, and one more.
    fn new(args: &Args, plugins: &mut Plugins, last: Option<&Path>) -> Result<Self> {
        let files = args.files.as_deref().map(Files::new);
        let named = args.plugin.iter().map(|name| {
            let is_path = name.contains('/') || name.ends_with(".wasm");
            if is_path { PluginRef::Path(name.into()) } else { PluginRef::Name(name.clone()) }
        });
        let last = last.map(|path| PluginRef::Path(path.to_owned()));
        let mut stages = Vec::new();
        for (i, reference) in named.chain(last).enumerate() {
            let settings = match args.settings.get(i) {
                None => "{}".to_owned(),
                Some(text) => match text.strip_prefix('@') {
                    Some(file) => std::fs::read_to_string(file).with_context(|| format!("--settings {text}"))?,
                    None => text.clone(),
                },
            };
            stages.push(plugins.stage(&reference, &settings, Limits::default(), files.clone())?);
        }
        Ok(Pipe {
            chain: Chain::new(stages, OnFault::Raw),
            held: Held::default(),
            tally: Tally::default(),
            encoder: Ndjson::default(),
            read: 0,
            dropped: 0,
            failed: 0,
        })
    }

    /// All lines, to standard output. Whoever reads that may have seen enough.
    fn copy(&mut self, from: &mut impl Read) -> Result<()> {
        match self.copy_to(from, &mut io::stdout().lock()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            other => other.context("from the input to standard output"),
        }
    }

    fn copy_to(&mut self, from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
        let mut pending = Vec::new();
        let mut buffer = vec![0; CHUNK];
        let mut memory = Memory::default();
        loop {
            let count = match from.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            };
            let ended = count == 0;
            pending.extend_from_slice(&buffer[..count]);
            // There may be more lines than a batch has events.
            while self.batch(&mut pending, &mut memory, ended, to)? {}
            if ended {
                return Ok(());
            }
        }
    }

    /// Sends the first lines that are pending through the plugins. Gives whether there are more.
    fn batch(
        &mut self,
        pending: &mut Vec<u8>,
        memory: &mut Memory,
        ended: bool,
        to: &mut impl Write,
    ) -> io::Result<bool> {
        let fields = vec![Field { name: CONTENT.into(), kind: Kind::Text }];
        let mut batch = Batch { arena: std::mem::take(pending), fields, first: self.read, ..Batch::default() };
        let input = Input { map: &Map::Plain { base: 0 }, ended, flush: ended, now: std::time::Instant::now() };
        let framed = lines::frame(MAX_LINE, LongEvent::Split, memory, &mut batch, &mut Vec::new(), &input);
        *pending = batch.arena.split_off(framed.consumed);

        self.read += batch.len() as u64;
        let batch = self.chain.process(batch, &mut self.held, ended && !framed.is_full);
        let tallied = self.tally.count(&batch, self.held.first().unwrap_or(self.read), &[]);
        self.dropped += tallied.dropped;
        self.failed += tallied.kept_raw;
        to.write_all(self.encoder.lines(&batch).as_slice())?;
        to.flush()?;
        Ok(framed.is_full)
    }

    fn summarize(&self) {
        complain!("read {}, dropped {}, failed {}", self.read, self.dropped, self.failed);
        for stage in self.chain.stages() {
            let stats = &stage.stats;
            let per = |total: u64, of: u64| total as f64 / of.max(1) as f64;
            complain!(
                "{}: {:.0} fuel per event, {:.1} per byte, {} KiB of memory, {} faults",
                stage.plugin().name(),
                per(stats.fuel, stats.events),
                per(stats.fuel, stats.bytes),
                stats.peak_memory >> 10,
                stats.faults
            );
            if let Some(poison) = &stats.last_poison {
                complain!("{}: the last event that it faults on:", stage.plugin().name());
                poison.to_string().lines().for_each(|line| complain!("  {line}"));
            } else if let Some(fault) = &stats.last_fault {
                complain!("{}: the last fault: {fault}", stage.plugin().name());
            }
        }
    }
}
