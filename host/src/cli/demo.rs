//! `weir demo`: the main job on generated logs, explained as it goes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};

use crate::agent::{Agent, GRACE, Options};
use crate::config;
use crate::event::{Batch, CELL};
use crate::lane::Tap;
use crate::mock::{Generator, LogType};
use crate::sink::ndjson::Ndjson;

/// See the main job done on generated logs, explained as it goes
///
/// Writes nginx access logs at a rate, tails them through the `nginx` plugin in its sandbox, ships NDJSON to a file,
/// and accounts for every event. Everything happens in a temporary directory.
#[derive(clap::Args)]
pub struct Args {
    /// Where to look for plugins
    #[arg(long, value_name = "DIR", env = "WEIR_PLUGIN_DIR", value_delimiter = ':')]
    plugin_dir: Vec<PathBuf>,
    /// Lines to write a second
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    rate: u64,
    /// Seconds to write for
    #[arg(long, value_name = "N", default_value_t = 6)]
    seconds: u64,
}

/// Events that are shown before and after.
const SHOWN: usize = 2;

pub fn run(args: &Args) -> Result<()> {
    super::log::start("warn");
    let dir = tempfile::Builder::new().prefix("weir-demo-").tempdir()?;
    let dirs = if args.plugin_dir.is_empty() { super::default_plugin_dirs() } else { args.plugin_dir.clone() };
    let text = config_text(dir.path(), &dirs);
    let file = dir.path().join("weir.yaml");
    std::fs::write(&file, &text)?;
    std::fs::create_dir(dir.path().join("logs"))?;
    say!("A tenant, `shop`, has a logstore, `shop/nginx-access`, and a parser of its own for it:\n\n{}", indent(&text));

    let loaded = config::load(&file)?;
    let shown = Arc::new(Mutex::new(Vec::new()));
    let taps = BTreeMap::from([("shop/nginx-access".to_owned(), tap(shown.clone()))]);
    let begun = Instant::now();
    let agent = Agent::start(&loaded.config, &file.to_string_lossy(), Options { taps, ..Options::default() })?;
    say!("The plugin is compiled and has its settings: {} ms.", begun.elapsed().as_millis());
    say!("Writing {} lines a second for {} s, and tailing them:\n", args.rate, args.seconds);

    let writing = Instant::now();
    let written = write_logs(&dir.path().join("logs/access.log"), args, &agent)?;
    agent.finish();
    while !agent.is_done() {
        thread::sleep(Duration::from_millis(5));
    }
    let wall = writing.elapsed();
    let accounts = agent.books().logstores["shop/nginx-access"].accounts.clone();
    agent.stop(GRACE)?;

    say!("\nAn event before and after:\n");
    for (before, after) in shown.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        say!("  {before}\n  -> {after}\n");
    }
    let out = File::open(dir.path().join("out/shop/nginx-access.ndjson")).context("reading what came out")?;
    let lines = count_lines(out)?;
    summarize(&accounts.summary(), written, lines, wall);
    ensure!(lines == written, "{written} lines were written and {lines} came out");
    Ok(())
}

fn config_text(dir: &Path, plugin_dirs: &[PathBuf]) -> String {
    let dirs = plugin_dirs.iter().filter_map(|dir| std::path::absolute(dir).ok());
    let dirs: Vec<_> = dirs.map(|dir| format!("{:?}", dir.to_string_lossy())).collect();
    format!(
        "data_dir: {dir}/data
plugin_dirs: [{dirs}]
logstores:
  - name: shop/nginx-access
    files: {{ root: {dir}/logs }}
    plugins:
      - use: nginx
        settings: {{ format: main }}
        limits: {{ fuel_per_byte: 2000, memory: 64MiB }}
    sink: archive
sinks:
  archive: {{ type: file, path: \"{dir}/out/{{project}}/{{logstore}}.ndjson\" }}
",
        dir = dir.display(),
        dirs = dirs.join(", "),
    )
}

/// Keeps the first events as they came and as they went.
fn tap(shown: Arc<Mutex<Vec<(String, String)>>>) -> Tap {
    Box::new(move |before: &Batch, after: &Batch| {
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.len() >= SHOWN || after.is_empty() {
            return true;
        }
        let json = Ndjson::default().lines(after);
        let json = String::from_utf8_lossy(json.as_slice()).into_owned();
        for (i, after) in json.lines().take(SHOWN - shown.len()).enumerate() {
            let Some(cell) = before.cells.chunks_exact(CELL).nth(i) else { break };
            let line = String::from_utf8_lossy(&before.arena[cell[1] as usize..cell[2] as usize]);
            shown.push((line.into_owned(), after.to_owned()));
        }
        true
    })
}

/// Writes lines at the rate and tells how far the agent is. Gives how many were written.
fn write_logs(path: &Path, args: &Args, agent: &Agent) -> Result<u64> {
    let mut file = File::create(path)?;
    let mut generator = Generator::new(LogType::Nginx, 1).with_clock(SystemTime::now);
    let mut burst = Vec::new();
    let begun = Instant::now();
    let total = args.rate * args.seconds;
    let mut told = 0;
    while generator.count() < total {
        // Bursts of 10 ms: a sleep is not more exact.
        thread::sleep(Duration::from_millis(10));
        let due = (begun.elapsed().as_secs_f64() * args.rate as f64) as u64;
        burst.clear();
        while generator.count() < due.min(total) {
            generator.next(&mut burst);
        }
        file.write_all(&burst)?;
        if begun.elapsed().as_secs() > told {
            told = begun.elapsed().as_secs();
            let counts = agent.books().logstores["shop/nginx-access"].accounts.summary();
            say!("  {told} s: {} written, {} delivered", generator.count(), counts["delivered"]);
        }
    }
    Ok(generator.count())
}

fn count_lines(file: File) -> Result<u64> {
    let mut file = BufReader::new(file);
    let mut lines = 0;
    loop {
        let block = file.fill_buf()?;
        if block.is_empty() {
            return Ok(lines);
        }
        lines += memchr::memchr_iter(b'\n', block).count() as u64;
        let len = block.len();
        file.consume(len);
    }
}

fn summarize(counts: &BTreeMap<&str, u64>, written: u64, lines: u64, wall: Duration) {
    let cpu = counts["cpu"] as f64 / 1e9;
    let megabytes = counts["bytes_read"] as f64 / 1e6;
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    super::print_table(&[
        row("events written", written.to_string()),
        row("events read", counts["read"].to_string()),
        row("events delivered", counts["delivered"].to_string()),
        row("  of them raw, because the parser failed", counts["kept_raw"].to_string()),
        row("dropped by the plugin", counts["dropped"].to_string()),
        row("lines in the output", lines.to_string()),
        row("lost", written.saturating_sub(lines).to_string()),
        row("wall time", format!("{:.1} s", wall.as_secs_f64())),
        row("read", format!("{megabytes:.1} MB")),
        row("speed of reading, parsing and encoding", format!("{:.0} MB per CPU second", megabytes / cpu)),
        row("fuel per event", format!("{:.0}", counts["fuel"] as f64 / counts["read"].max(1) as f64)),
        row("plugin's share of that CPU", format!("{:.0} %", counts["plugin_cpu"] as f64 / 1e7 / cpu)),
        row("peak memory of the process", peak_memory()),
    ]);
}

fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    peak.map_or("unknown".to_owned(), |kb| format!("{:.1} MiB", kb as f64 / 1024.0))
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}
