//! What a run costs.

use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use wait4::{ResourceUsage, Wait4};

/// One run of one job by one agent.
#[derive(Clone, Serialize)]
pub struct Sample {
    pub input_bytes: u64,
    pub events_in: u64,
    pub events_out: u64,
    pub wall_seconds: f64,
    /// CPU time of the process and its own children.
    pub user_seconds: f64,
    pub sys_seconds: f64,
    /// Most memory resident at once. The kernel counts what the process that started it had, too: so the
    /// benchmark itself stays small.
    pub peak_bytes: u64,
    /// What was wrong with the output, where that does not end the benchmark.
    pub flaw: Option<String>,
}

impl Sample {
    pub fn new(input_bytes: u64, events_in: u64, events_out: u64, wall: Duration, usage: ResourceUsage) -> Sample {
        Sample {
            input_bytes,
            events_in,
            events_out,
            wall_seconds: wall.as_secs_f64(),
            user_seconds: usage.utime.as_secs_f64(),
            sys_seconds: usage.stime.as_secs_f64(),
            peak_bytes: usage.maxrss,
            flaw: None,
        }
    }

    pub fn mb_per_second(&self) -> f64 {
        self.input_bytes as f64 / 1e6 / self.wall_seconds
    }

    pub fn mb_per_cpu_second(&self) -> f64 {
        self.input_bytes as f64 / 1e6 / (self.user_seconds + self.sys_seconds)
    }
}

/// Waits for the end of a process; an error unless it exits with 0.
pub fn wait(child: Child, start: Instant) -> anyhow::Result<(Duration, ResourceUsage)> {
    let ended = child.wait4().context("cannot wait for the process")?;
    anyhow::ensure!(ended.status.success(), "ended with {}", ended.status);
    Ok((start.elapsed(), ended.rusage))
}

/// The middle value, or the mean of the two in the middle. Panics if there is none.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    low + (high - low) / 2.0
}
