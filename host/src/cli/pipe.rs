//! `weir pipe`: lines in, NDJSON out.

use std::io::{self, ErrorKind, Read, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Usage;
use crate::agent::plugins::{Plugins, sandbox_for_tools};
use crate::budget::Budget;
use crate::config::PluginRef;
use crate::event::{Batch, CONTENT, Field, Kind, Tally};
use crate::sandbox::{Chain, Held, Limits, OnFault};
use crate::sink::ndjson::Ndjson;
use crate::source::CHUNK;
use crate::source::framing::{Input, LongEvent, Map, Memory, lines};

/// Send lines from standard input through plugins to standard output: try a parser at once.
///
/// Plugins run in the same sandbox, under the same limits, as in the agent.
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
    /// Say at the end, on standard error, what was read, shipped, dropped and used
    #[arg(long)]
    summary: bool,
}

/// A line longer than this is split.
const MAX_LINE: usize = 1 << 20;

pub fn run(args: &Args) -> Result<()> {
    super::start_log("info");
    let mut pipe = Pipe::new(args)?;
    match pipe.copy(&mut io::stdin().lock(), &mut io::stdout().lock()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        other => other.context("from standard input to standard output")?,
    }
    if args.summary {
        pipe.summarize();
    }
    Ok(())
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
    fn new(args: &Args) -> Result<Self> {
        if args.settings.len() > args.plugin.len() {
            return Err(Usage("there are more --settings than --plugin".to_owned()).into());
        }
        let dirs = if args.plugin_dir.is_empty() { super::default_plugin_dirs() } else { args.plugin_dir.clone() };
        let mut plugins = Plugins::new(sandbox_for_tools(&super::user_cache())?, &dirs);
        let mut stages = Vec::new();
        for (i, name) in args.plugin.iter().enumerate() {
            let settings = match args.settings.get(i) {
                None => "{}".to_owned(),
                Some(text) => match text.strip_prefix('@') {
                    Some(file) => std::fs::read_to_string(file).with_context(|| format!("--settings {text}"))?,
                    None => text.clone(),
                },
            };
            let is_path = name.contains('/') || name.ends_with(".wasm");
            let reference = if is_path { PluginRef::Path(name.into()) } else { PluginRef::Name(name.clone()) };
            stages.push(plugins.stage(&reference, &settings, Limits::default(), &Budget::new(None))?);
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

    fn copy(&mut self, from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
        let fields = vec![Field { name: CONTENT.into(), kind: Kind::Text }];
        let mut pending = Vec::new();
        let mut buffer = vec![0; CHUNK];
        let mut starts = Vec::new();
        let mut memory = Memory::default();
        loop {
            let count = match from.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            };
            let ended = count == 0;
            pending.extend_from_slice(&buffer[..count]);
            let mut batch = Batch { arena: pending, fields: fields.clone(), first: self.read, ..Batch::default() };
            starts.clear();
            let input = Input { map: &Map::Plain { base: 0 }, ended, flush: ended, now: std::time::Instant::now() };
            let framed = lines::frame(MAX_LINE, LongEvent::Split, &mut memory, &mut batch, &mut starts, &input);
            pending = batch.arena[framed.consumed..].to_vec();

            self.read += batch.len() as u64;
            let batch = self.chain.process(batch, &mut self.held, ended);
            let tallied = self.tally.count(&batch, self.held.first().unwrap_or(self.read), &[]);
            self.dropped += tallied.dropped;
            self.failed += tallied.kept_raw;
            to.write_all(self.encoder.lines(&batch).as_slice())?;
            to.flush()?;
            if ended {
                return Ok(());
            }
        }
    }

    fn summarize(&self) {
        eprintln!("read {}, dropped {}, failed {}", self.read, self.dropped, self.failed);
        for stage in self.chain.stages() {
            let stats = &stage.stats;
            let per = |total: u64, of: u64| total as f64 / of.max(1) as f64;
            eprintln!(
                "{}: {:.0} fuel per event, {:.1} per byte, {} KiB of memory, {} faults",
                stage.plugin().name(),
                per(stats.fuel, stats.events),
                per(stats.fuel, stats.bytes),
                stats.peak_memory >> 10,
                stats.faults
            );
            if let Some(fault) = &stats.last_fault {
                eprintln!("{}: the last fault: {fault}", stage.plugin().name());
            }
        }
    }
}
