//! What a tenant notices of its neighbours: a victim that writes 5 MB/s of nginx logs, alone and beside each kind of
//! attacker, on one worker.
//!
//! `make bench-isolation`, or `cargo run --release --example isolation -- --help`. Rooms: [`victim`] who is measured ·
//! [`attack`] who is beside it · [`agent`] the process that both are in · [`relay`] what the machine does to anybody
//! meanwhile · [`report`] and [`chart`] the numbers.

mod agent;
mod attack;
mod bomb;
mod chart;
mod relay;
mod report;
mod victim;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};

use self::agent::Site;
use self::attack::Attack;
use self::report::Row;

/// Measure what a tenant notices of its neighbours
#[derive(Parser)]
struct Args {
    /// Neighbours to measure beside
    #[arg(long, value_enum, value_delimiter = ',')]
    attacks: Vec<Attack>,

    /// Seconds of each measurement
    #[arg(long, default_value_t = 15)]
    seconds: u64,

    /// Megabytes that the victim writes in a second
    #[arg(long, default_value_t = 5.0)]
    rate: f64,

    /// Runs of each measurement; the one with the middle p99 is shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// The agent
    #[arg(long, default_value = "target/release/weir")]
    weir: PathBuf,

    /// Where nginx.wasm and the others are
    #[arg(long, default_value = "target/plugins")]
    plugins: PathBuf,

    /// Where logs and outputs go
    #[arg(long, default_value = "target/isolation")]
    dir: PathBuf,

    /// Draw the latencies into this file, as SVG
    #[arg(long)]
    chart: Option<PathBuf>,

    /// Write the numbers to this file, too, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let attacks = if args.attacks.is_empty() { Attack::value_variants().to_vec() } else { args.attacks };
    fs::create_dir_all(&args.dir)?;
    let length = Duration::from_secs(args.seconds);
    let mut rows = Vec::new();
    for attack in attacks {
        let mut runs = Vec::new();
        for run in 1..=args.runs {
            let site = Site::new(&args.dir, &args.weir, &args.plugins)?;
            let row = attack::run(attack, &site, args.rate, length).with_context(|| attack.name())?;
            eprintln!("run {run}/{}  {row}", args.runs);
            runs.push(row);
        }
        runs.sort_by_key(|row: &Row| row.p99);
        rows.push(runs.swap_remove(runs.len() / 2));
    }
    print!("{}", report::table(&rows));
    if let Some(path) = args.chart {
        fs::write(&path, chart::svg(&rows)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = args.json {
        fs::write(&path, serde_json::to_vec_pretty(&rows)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
