//! Encoders by themselves: how fast each writes a batch of parsed lines that is in the cache.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use prost::Message;
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
        let encode = || {
            encoder.encode(&batch, 0, Room::ALL, &mut records);
            let written = records.bytes.len();
            records.events = 0;
            records.bytes.clear();
            records.ends.clear();
            records.groups.clear();
            written
        };
        row(&mut table, name, batch.arena.len(), encode)?;
    }
    let (arena, mut out) = (Bytes::from(batch.arena.clone()), Vec::new());
    row(&mut table, "sls, by prost", batch.arena.len(), || {
        out.clear();
        sls_by_prost::group(&batch, &arena).encode(&mut out).expect("a vector takes all");
        out.len()
    })?;
    Ok(table)
}

/// Does so for a while, each time with so many bytes of input; gives the bytes that were written.
fn row(table: &mut String, name: &str, input: usize, mut encode: impl FnMut() -> usize) -> anyhow::Result<()> {
    let (begun, mut rounds) = (cpu(), 0);
    let (spent, written) = loop {
        let written = encode();
        rounds += 1;
        let spent = cpu().saturating_sub(begun);
        if spent >= FOR {
            break (spent, written);
        }
    };
    let speed = (rounds * input) as f64 / spent.as_secs_f64() / 1e6;
    writeln!(table, "{name:<20} {speed:>9.0}  {:>10.2}", written as f64 / input as f64).context("a string takes all")
}

/// What the library makes of the Log Service's schema, with values that are not copied before they are written: it says
/// whether weir's own encoder is worth it.
mod sls_by_prost {
    use bytes::Bytes;
    use weir::event::{Batch, CELL};

    #[derive(prost::Message)]
    pub struct Pair {
        #[prost(bytes = "bytes", required, tag = "1")]
        key: Bytes,
        #[prost(bytes = "bytes", required, tag = "2")]
        value: Bytes,
    }

    #[derive(prost::Message)]
    pub struct Log {
        #[prost(uint32, required, tag = "1")]
        time: u32,
        #[prost(message, repeated, tag = "2")]
        contents: Vec<Pair>,
        #[prost(fixed32, optional, tag = "4")]
        time_ns: Option<u32>,
    }

    #[derive(prost::Message)]
    pub struct LogGroup {
        #[prost(message, repeated, tag = "1")]
        logs: Vec<Log>,
    }

    /// The batch's events; `arena` is its own.
    pub fn group(batch: &Batch, arena: &Bytes) -> LogGroup {
        let keys: Vec<_> = batch.fields.iter().map(|field| Bytes::copy_from_slice(field.name.as_bytes())).collect();
        let pair = |cell: &[u32]| Pair {
            key: keys[cell[0] as usize].clone(),
            value: arena.slice(cell[1] as usize..cell[2] as usize),
        };
        let log = |event| Log {
            time: (batch.time(event) / 1_000_000_000) as u32,
            contents: batch.event(event).chunks_exact(CELL).map(pair).collect(),
            time_ns: Some((batch.time(event) % 1_000_000_000) as u32),
        };
        LogGroup { logs: (0..batch.len()).map(log).collect() }
    }
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
