//! Encoders by themselves: how fast each writes a batch of parsed lines that is in the cache.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};
use weir::config;
use weir::event::{Batch, Field, Kind};
use weir::mock::{Generator, LogType};
use weir::sink::records::{Records, Room};

use crate::network::{SINKS, led_to};

/// Sinks that J6 does not send to.
const MORE: [(&str, &str); 2] =
    [("file", "{ type: file, path: x }"), ("http, array", "{ type: http, url: URL, encoding: json }")];

/// What is in the names of sinks that write as others do, and only send in another way.
const NOT_OF_ENCODERS: [&str; 3] = ["zstd", "lz4", "grpc"];

/// CPU time for each of them.
const FOR: Duration = Duration::from_millis(500);

/// MB of input for each second of CPU time, as a table.
pub fn table() -> anyhow::Result<String> {
    let batch = parsed_lines();
    let mut table = String::from("\nencoder alone         MB/CPU s  bytes for each of input\n");
    let is_other = |name: &str| !NOT_OF_ENCODERS.iter().any(|word| name.contains(word));
    for (name, sink) in MORE.iter().chain(SINKS).filter(|(name, _)| is_other(name)) {
        let sink = led_to(sink, ["h", "h", "h:9092"]);
        let text = format!("logstores: [{{ name: a/b, files: {{ root: / }}, sink: s }}]\nsinks: {{ s: {sink} }}\n");
        let config = config::parse(&text, "/weir.yaml", &|_| None)?.config;
        let mut encoder = weir::sinks::encoder(&config.sinks["s"], &config.logstores[0]);
        // As where payloads may be split.
        let mut records = Records { wants_ends: *name != "file", ..Records::default() };
        let (begun, mut rounds) = (cpu(), 0);
        let (spent, written) = loop {
            encoder.encode(&batch, 0, Room::ALL, &mut records);
            rounds += 1;
            let written = records.bytes.len();
            records.events = 0;
            records.bytes.clear();
            records.ends.clear();
            records.groups.clear();
            let spent = cpu().saturating_sub(begun);
            if spent >= FOR {
                break (spent, written);
            }
        };
        let input = batch.arena.len();
        let speed = (rounds * input) as f64 / spent.as_secs_f64() / 1e6;
        writeln!(table, "{name:<20} {speed:>9.0}  {:>10.2}", written as f64 / input as f64)
            .context("a string takes all")?;
    }
    Ok(table)
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// About 256 KiB of nginx's lines, parsed as the plugin does.
fn parsed_lines() -> Batch {
    let names = [
        ("remote_addr", " - "),
        ("remote_user", " ["),
        ("time_local", "] \""),
        ("request_method", " "),
        ("request_uri", " "),
        ("server_protocol", "\" "),
        ("status", " "),
        ("body_bytes_sent", " \""),
        ("http_referer", "\" \""),
        ("http_user_agent", "\" \""),
        ("http_x_forwarded_for", "\""),
    ];
    let kind = |name| if matches!(name, "status" | "body_bytes_sent") { Kind::Integer } else { Kind::Text };
    let mut batch = Batch {
        fields: names.map(|(name, _)| Field { name: name.into(), kind: kind(name) }).into(),
        tags: Arc::new(vec![("path".into(), "/var/log/nginx/access.log".into()), ("host".into(), "node-1".into())]),
        ..Batch::default()
    };
    let mut generator = Generator::new(LogType::Nginx, 1);
    while batch.arena.len() < 256 << 10 {
        let mut at = batch.arena.len();
        generator.next(&mut batch.arena);
        for (field, (_, end)) in (0..).zip(&names) {
            let value = memchr::memmem::find(&batch.arena[at..], end.as_bytes()).expect("a line of nginx's");
            batch.cells.extend([field, at as u32, (at + value) as u32]);
            at += value + end.len();
        }
        batch.rows.push(batch.cells.len() as u32 / 3);
        batch.times.push(1_700_000_000_000_000_000 + batch.rows.len() as i64 / 9 * 1_000_000_000);
    }
    batch.check().expect("a sound batch");
    batch
}
