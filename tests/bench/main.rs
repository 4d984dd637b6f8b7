//! The benchmark: how many MB of logs weir works through in a second of CPU time, beside rsyslog on the same jobs.
//!
//! `make bench`, or `cargo run --release --example bench -- --help`. Outputs are checked: every event must be
//! there, once and in its place, and the fields of about a thousand of them are compared with the input.
//!
//! Rooms: [`corpus`] the input · [`job`] what is measured · [`weir`] and [`rsyslog`] who does it ·
//! [`network`] where J6 sends to · [`encoders`] how fast each writes · [`check`] whether it was done · [`measure`] and [`report`] the numbers.

mod check;
mod corpus;
mod encoders;
mod job;
mod measure;
mod network;
mod report;
mod rsyslog;
mod weir;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use clap::Parser;

use self::corpus::Corpus;
use self::job::Job;
use self::measure::Sample;
use self::network::{SINKS, Sinkhole};
use self::report::{Agent, Report};
use self::rsyslog::{Queue, Rsyslog};
use self::weir::Weir;

/// Measure weir, and rsyslog beside it, on generated logs.
#[derive(Parser)]
struct Args {
    /// Jobs to run
    #[arg(long, value_enum, ignore_case = true, value_delimiter = ',', default_value = "J1,J2,J2n,J3,J2r,J4,J5,J6")]
    jobs: Vec<Job>,

    /// Sinks of J6, by their names [default: all]
    #[arg(long)]
    sink: Vec<String>,

    /// Runs of each job; medians are shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Size of each corpus in MiB [default: 256; java 128]
    #[arg(long)]
    mib: Option<u64>,

    /// Seed of the corpora
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// The agent
    #[arg(long, default_value = "target/release/weir")]
    weir: PathBuf,

    /// Where nginx.wasm and the others are
    #[arg(long, default_value = "target/plugins")]
    plugins: PathBuf,

    /// Where corpora and outputs go
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,

    /// Install rsyslog with apt-get if it is missing
    #[arg(long)]
    install: bool,

    /// Write all numbers to this file, too
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some(weir::TRUSTING_AGENT) => return weir::trusting_agent(),
        Some(network::SERVERS) => return network::serve_all(),
        _ => {}
    }
    let args = Args::parse();
    fs::create_dir_all(&args.dir).with_context(|| format!("cannot make {}", args.dir.display()))?;
    let dir = args.dir.canonicalize()?;

    let weir = Weir::new(&args.weir, &args.plugins, &dir)?;
    let rsyslog = find_rsyslog(&dir, args.install);
    let corpora = corpora(&args, &dir)?;
    let server = Sinkhole::start()?;
    let sinks = || SINKS.iter().filter(|(name, _)| args.sink.is_empty() || args.sink.iter().any(|sink| sink == name));

    let mut report = Report::default();
    for &job in &args.jobs {
        let corpus = &corpora[&job.corpus()];
        weir.warm_up(job, corpus)?;
        // Not counted: the first output of this size takes pages that the machine has to find for it.
        weir.run(job, corpus).with_context(|| format!("{job}: weir"))?;
        if job == Job::Nginx {
            weir.run_trusting(job, corpus)?;
        }
    }
    for run in 1..=args.runs {
        for &job in &args.jobs {
            let corpus = &corpora[&job.corpus()];
            let say = |agent: Agent, sample: &Sample| {
                let speed = sample.mb_per_cpu_second();
                eprintln!("run {run}/{}  {job:<4} {:<17} {speed:6.0} MB/CPU s", args.runs, agent.name());
            };

            if job == Job::Network {
                for &(name, sink) in sinks() {
                    settle(corpus)?;
                    let sample = weir.run_to(job, corpus, &server.sink(sink));
                    let sample = sample.with_context(|| format!("{job}: {name}"))?;
                    say(Agent::To(name), &sample);
                    report.add(job, Agent::To(name), sample);
                }
                continue;
            }

            settle(corpus)?;
            let sample = weir.run(job, corpus).with_context(|| format!("{job}: weir"))?;
            say(Agent::Weir, &sample);
            report.add(job, Agent::Weir, sample);

            if matches!(job, Job::Nginx | Job::NginxToNowhere) {
                settle(corpus)?;
                let sample = weir.run_trusting(job, corpus).with_context(|| format!("{job}: without fuel"))?;
                say(Agent::Trusting, &sample);
                report.add(job, Agent::Trusting, sample);
            }

            let Some(rsyslog) = rsyslog.as_ref().filter(|_| job.has_rival()) else { continue };
            for (agent, queue) in [(Agent::Rsyslog, Queue::Default), (Agent::RsyslogDirect, Queue::Direct)] {
                settle(corpus)?;
                let sample = rsyslog.run(job, corpus, queue).with_context(|| format!("{job}: {}", agent.name()))?;
                say(agent, &sample);
                report.add(job, agent, sample);
            }
        }
    }

    print!("{}", report.table());
    if args.jobs.contains(&Job::Network) {
        print!("{}", encoders::table()?);
    }
    if let Some(path) = &args.json {
        fs::write(path, report.json()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The corpora that the jobs need, made or reused.
fn corpora(args: &Args, dir: &Path) -> anyhow::Result<HashMap<corpus::Kind, Corpus>> {
    let mut corpora = HashMap::new();
    for kind in args.jobs.iter().map(|job| job.corpus()) {
        if let Entry::Vacant(slot) = corpora.entry(kind) {
            let mib = args.mib.unwrap_or(kind.default_mib());
            slot.insert(Corpus::ensure(&dir.join("corpus"), kind, mib, args.seed)?);
        }
    }
    Ok(corpora)
}

/// Lets the last run's writes reach the disk, and the next run's input be in memory.
fn settle(corpus: &Corpus) -> anyhow::Result<()> {
    rustix::fs::sync();
    corpus.warm()
}

fn find_rsyslog(dir: &Path, install: bool) -> Option<Rsyslog> {
    let found = Rsyslog::find(dir).or_else(|| {
        let apt_get = ["install", "-y", "--no-install-recommends", "rsyslog"];
        let installed = install && Command::new("apt-get").args(apt_get).status().is_ok_and(|status| status.success());
        Rsyslog::find(dir).filter(|_| installed)
    });
    if found.is_none() {
        eprintln!("rsyslogd is not installed: its rows are left out (--install, or apt-get install rsyslog)");
    }
    found
}
