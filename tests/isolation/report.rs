//! The numbers, as a table.

use std::fmt;

use serde::Serialize;

use crate::agent::Ended;
use crate::victim::Seen;

/// What the victim saw beside one attacker.
#[derive(Serialize)]
pub struct Row {
    pub beside: &'static str,
    /// Microseconds from write to output: half of the lines, all but 1 %, and the last.
    pub p50: u32,
    pub p99: u32,
    pub most: u32,
    /// What all but 1 % of the messages took at the same time that no agent had anything to do with.
    pub relay_p99: u32,
    /// Of the victim's input.
    pub megabytes_per_second: f64,
    /// What the agent read for the attacker meanwhile.
    pub others_megabytes: f64,
    /// CPU seconds of the victim's turns, and of all others'.
    pub cpu: f64,
    pub others_cpu: f64,
    pub peak_mib: f64,
}

impl Row {
    pub fn new(beside: &'static str, seen: &Seen, relay: &[u32], ended: &Ended) -> Row {
        let of = |part: usize| seen.latencies[(seen.latencies.len() - 1) * part / 1000];
        let others = ended.logstores.iter().filter(|(name, _)| *name != "victim/access");
        let (bytes, cpu) = others.fold((0, 0), |(bytes, cpu), (_, c)| (bytes + c.bytes_read, cpu + c.cpu));
        Row {
            beside,
            p50: of(500),
            p99: of(990),
            most: of(1000),
            relay_p99: relay.get(relay.len() * 99 / 100).copied().unwrap_or_default(),
            megabytes_per_second: seen.bytes_per_second / 1e6,
            others_megabytes: bytes as f64 / 1e6,
            cpu: ended.logstores["victim/access"].cpu as f64 / 1e9,
            others_cpu: cpu as f64 / 1e9,
            peak_mib: ended.peak_bytes as f64 / f64::from(1 << 20),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let ms = |micros: u32| f64::from(micros) / 1e3;
        write!(
            f,
            "{:<26} {:>8.1} {:>8.1} {:>8.1} {:>9.1}  {:>7.2}  {:>9.0}  {:>7.2} {:>8.2}  {:>8.1}",
            self.beside,
            ms(self.p50),
            ms(self.p99),
            ms(self.most),
            ms(self.relay_p99),
            self.megabytes_per_second,
            self.others_megabytes,
            self.cpu,
            self.others_cpu,
            self.peak_mib
        )
    }
}

/// One row an attacker.
pub fn table(rows: &[Row]) -> String {
    let mut table = String::from(
        "\nbeside                       p50 ms   p99 ms   max ms relay p99     MB/s  others MB    CPU s others s  peak MiB\n",
    );
    for row in rows {
        table += &format!("{row}\n");
    }
    table
        + "latency from write to output, and MB/s of the victim; p99 of a relay that no agent is in; MB that were read, \
           and CPU seconds of turns, for others\n"
}
