//! The numbers, as a table and as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::json;

use crate::job::Job;
use crate::measure::{Sample, median};

/// Who ran.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Agent {
    Weir,
    /// weir, to a sink on the network.
    To(&'static str),
    /// Without fuel and checks: what the sandbox's metering costs.
    Trusting,
    /// With its queues as they are without being asked for.
    Rsyslog,
    /// Without queues, which is the fastest that was found.
    RsyslogDirect,
}

impl Agent {
    /// As it stands in the table.
    pub fn name(self) -> &'static str {
        match self {
            Agent::Weir => "weir",
            Agent::To(sink) => sink,
            Agent::Trusting => "weir, no metering",
            Agent::Rsyslog => "rsyslog",
            Agent::RsyslogDirect => "rsyslog, no queue",
        }
    }
}

/// All runs.
#[derive(Default)]
pub struct Report {
    samples: BTreeMap<(Job, Agent), Vec<Sample>>,
}

impl Report {
    pub fn add(&mut self, job: Job, agent: Agent, sample: Sample) {
        self.samples.entry((job, agent)).or_default().push(sample);
    }

    /// Medians: one row a job and agent, and what was flawed below.
    pub fn table(&self) -> String {
        let mut table = String::from(
            "\njob  agent               MB/s  MB/CPU s    user s   sys s  peak MiB   events in  events out  weir is x\n",
        );
        for (&(job, agent), samples) in &self.samples {
            let of = |value: fn(&Sample) -> f64| median(samples.iter().map(value));
            let row = format!(
                "{job:<4} {:<17} {:>6.0}  {:>8.1}  {:>8.2}{:>8.2}  {:>8.1}  {:>10}  {:>10}  {:>9}",
                agent.name(),
                of(Sample::mb_per_second),
                of(Sample::mb_per_cpu_second),
                of(|s| s.user_seconds),
                of(|s| s.sys_seconds),
                of(|s| s.peak_bytes as f64 / f64::from(1 << 20)),
                of(|s| s.events_in as f64),
                of(|s| s.events_out as f64),
                self.ratio(job, agent).map_or(String::new(), |ratio| format!("{ratio:.2}")),
            );
            let _ = writeln!(table, "{}", row.trim_end());
        }
        table.push_str(
            "MB = 10^6 bytes of input; CPU s = user + sys; medians; weir is so many times that in MB/CPU s\n",
        );
        for flaw in self.flaws() {
            let _ = writeln!(table, "note: {flaw}");
        }
        table
    }

    /// All runs and their medians.
    pub fn json(&self) -> String {
        let result = |(&(job, agent), samples): (&(Job, Agent), &Vec<Sample>)| {
            json!({
                "job": job.to_string(),
                "agent": agent.name(),
                "mb_per_second": median(samples.iter().map(Sample::mb_per_second)),
                "mb_per_cpu_second": median(samples.iter().map(Sample::mb_per_cpu_second)),
                "weir_is_times": self.ratio(job, agent),
                "runs": samples,
            })
        };
        let results: Vec<_> = self.samples.iter().map(result).collect();
        format!("{:#}\n", json!({ "results": results }))
    }

    /// How many times another agent's MB per CPU second weir's are, on the same job.
    fn ratio(&self, job: Job, agent: Agent) -> Option<f64> {
        let of = |agent| {
            let samples = self.samples.get(&(job, agent))?;
            Some(median(samples.iter().map(Sample::mb_per_cpu_second)))
        };
        (agent != Agent::Weir).then_some(())?;
        Some(of(Agent::Weir)? / of(agent)?)
    }

    fn flaws(&self) -> BTreeSet<String> {
        let of_job = |((job, _), samples): (&(Job, Agent), &Vec<Sample>)| {
            let job = *job;
            samples
                .iter()
                .filter_map(move |sample| Some(format!("{job}: {}", sample.flaw.as_ref()?)))
                .collect::<Vec<_>>()
        };
        self.samples.iter().flat_map(of_job).collect()
    }
}
