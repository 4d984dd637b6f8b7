//! Whether an output is what the input demands. The expectation is computed here, from the input alone.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use jiff::fmt::strtime;
use memchr::memmem;
use serde_json::{Map, Value};

use crate::corpus::Corpus;
use crate::job::{Job, NGINX_FIELDS};

/// About so many events are compared field by field.
const COMPARED: u64 = 1000;

/// Whether `__time__` is demanded.
#[derive(Clone, Copy, PartialEq)]
pub enum Time {
    Demanded,
    Ignored,
}

/// Compares an NDJSON file with the first `expected` events of a corpus: every event must be there, once, in its
/// place, and the fields of some must be right.
pub fn ndjson(job: Job, corpus: &Corpus, output: &Path, expected: u64, time: Time) -> anyhow::Result<()> {
    let file = File::open(output).with_context(|| format!("cannot open {}", output.display()))?;
    let mut output = BufReader::with_capacity(1 << 20, file);
    let mut input = corpus.events()?;
    let (mut event, mut line) = (Vec::new(), Vec::new());
    let stride = (expected / COMPARED).max(1);
    for index in 0..expected {
        line.clear();
        input.next(&mut event)?;
        ensure!(output.read_until(b'\n', &mut line)? > 0, "the output has {index} lines instead of {expected}");
        let place = || {
            let (event, line) = (String::from_utf8_lossy(&event), String::from_utf8_lossy(&line));
            format!("line {} of the output\n  input:  {event}\n  output: {line}", index + 1)
        };
        ensure!(line.ends_with(b"\n") && sequence(&event) == sequence(&line), "wrong event in {}", place());
        if index % stride == 0 {
            fields(job, &event, &line, time).with_context(place)?;
        }
    }
    ensure!(output.fill_buf()?.is_empty(), "the output has more than {expected} lines");
    Ok(())
}

/// The digits after `seq=` or `"seq":`.
fn sequence(event: &[u8]) -> Option<&[u8]> {
    let start = match memmem::find(event, b"seq=") {
        Some(at) => at + 4,
        None => memmem::find(event, b"\"seq\":")? + 6,
    };
    let digits = event[start..].iter().take_while(|b| b.is_ascii_digit()).count();
    (digits > 0).then(|| &event[start..start + digits])
}

fn fields(job: Job, event: &[u8], line: &[u8], time: Time) -> anyhow::Result<()> {
    let Value::Object(mut found) = serde_json::from_slice(line)? else { bail!("not an object") };
    let found_time = found.remove("__time__");
    found.retain(|name, _| !name.starts_with("__"));
    let event = str::from_utf8(event)?;
    match job {
        Job::Nginx | Job::Regex => {
            let expected = nginx(event).context("the benchmark does not understand the input")?;
            for (name, expected) in NGINX_FIELDS.into_iter().zip(expected) {
                let found = found.get(name).map(text);
                ensure!(found.as_deref() == Some(expected), "expected {name} {expected:?}, found {found:?}");
            }
            ensure!(found.len() == NGINX_FIELDS.len(), "there are {} fields", found.len());
            if time == Time::Demanded {
                let expected = strtime::parse("%d/%b/%Y:%H:%M:%S %z", expected[2])?.to_timestamp()?;
                let found: Option<Timestamp> = found_time.as_ref().and_then(Value::as_str).and_then(|t| t.parse().ok());
                ensure!(found == Some(expected), "expected __time__ {expected}, found {found_time:?}");
            }
        }
        Job::Json => {
            let expected: Map<String, Value> = serde_json::from_str(event)?;
            ensure!(found == expected, "the objects differ");
        }
        Job::Join => ensure!(found.get("content").and_then(Value::as_str) == Some(event), "the contents differ"),
        Job::Tail | Job::NginxToNowhere | Job::Cri | Job::Network => {}
    }
    Ok(())
}

/// What a value says, be it a string or a number.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The values of [`NGINX_FIELDS`].
fn nginx(line: &str) -> Option<[&str; 11]> {
    let (remote_addr, rest) = line.split_once(" - ")?;
    let (remote_user, rest) = rest.split_once(" [")?;
    let (time_local, rest) = rest.split_once("] \"")?;
    let mut parts = rest.split('"');
    let mut request = parts.next()?.split(' ');
    let mut sizes = parts.next()?.trim().split(' ');
    let (referer, _, agent, _, forwarded) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let (method, uri, protocol) = (request.next()?, request.next()?, request.next()?);
    let (status, bytes) = (sizes.next()?, sizes.next()?);
    Some([remote_addr, remote_user, time_local, method, uri, protocol, status, bytes, referer, agent, forwarded])
}
