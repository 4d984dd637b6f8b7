//! Loki's push API: streams of entries, by protobuf with Snappy.
//!
//! An event is an entry of the stream that its labels name: those of the configuration, tags, and chosen fields. Loki
//! takes two entries with the same time and line for one, so events in a row with the same time get one nanosecond more
//! each. An event without a time, or one before 1970-01-01T00:00:01Z, has that of its encoding.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reqwest::header::{CONTENT_TYPE, HeaderValue};

use super::client::{self, Client, Headers, Rendered};
use super::delivery::{Outcome, Transport};
use super::ndjson::Ndjson;
use super::protobuf::{Writer, bytes_tag, put_bytes, put_varint, varint_len, varint_tag};
use super::records::{Encode, Group, Layout, Records, Room, Wrap};
use crate::config::LogstoreName;
use crate::config::sinks::{Line, Loki};
use crate::event::{Batch, CELL, CONTENT, Field, Tags};

// Fields of a PushRequest.
const STREAMS: u8 = 1;
// Of a Stream.
const LABELS: u8 = 1;
const ENTRIES: u8 = 2;
// Of an Entry.
const TIMESTAMP: u8 = 1;
const LINE: u8 = 2;
const METADATA: u8 = 3;
// Of a Timestamp.
const SECONDS: u8 = 1;
const NANOS: u8 = 2;
// Of a pair in the structured metadata.
const NAME: u8 = 1;
const VALUE: u8 = 2;

/// Streams of a payload that fields may make.
const MAX_SETS: usize = 100;

/// Bytes of a label's value; Loki itself takes 2048.
const MAX_VALUE: usize = 1024;

/// The encoder for a logstore.
pub fn encoder(loki: &Loki, target: &LogstoreName) -> Box<dyn Encode> {
    Box::new(Entries::new(loki, target))
}

/// An encoder, which remembers the fields and tags of the last batch as they are written.
struct Entries {
    labels: Vec<(String, String)>,
    label_tags: Vec<String>,
    label_fields: Vec<String>,
    line: Line,
    has_metadata: bool,
    json: Ndjson,
    /// Lines as JSON.
    lines: Records,
    tags: Option<Arc<Tags>>,
    /// Labels without those of fields.
    base: BTreeMap<String, String>,
    /// The head of the stream of these.
    base_head: Arc<[u8]>,
    /// Tags that are no labels, as structured metadata.
    metadata: Vec<u8>,
    fields: Vec<Field>,
    /// For each field which of the label fields it is.
    label_of: Vec<Option<usize>>,
    /// For each field whether it is the line, where it is there.
    is_line: Vec<bool>,
    sets: Sets,
    /// The time of the last event, and how many before it had the same.
    last: (i64, i64),
}

/// The streams of the open payload that fields have made.
#[derive(Default)]
struct Sets {
    /// By the fields' values.
    heads: HashMap<Vec<u8>, Arc<[u8]>>,
    count: usize,
    /// The head of the last event that has one of its own, and its values.
    last: Option<Arc<[u8]>>,
    last_values: Vec<u8>,
    /// Values of an event, each behind its length.
    values: Vec<u8>,
}

impl Entries {
    fn new(loki: &Loki, target: &LogstoreName) -> Self {
        let labels = loki.labels.iter().map(|(name, value)| (name.clone(), value.render(target))).collect();
        Entries {
            labels,
            label_tags: loki.labels_from_tags.clone(),
            label_fields: loki.label_fields.clone(),
            line: loki.line.clone(),
            has_metadata: loki.structured_metadata,
            json: Ndjson::bare(),
            lines: Records { wants_ends: true, ..Records::default() },
            tags: None,
            base: BTreeMap::new(),
            base_head: Arc::default(),
            metadata: Vec::new(),
            fields: Vec::new(),
            label_of: Vec::new(),
            is_line: Vec::new(),
            sets: Sets::default(),
            last: (0, 0),
        }
    }

    /// Writes what is the same for all events of the batch, if it isn't what it was.
    fn prepare(&mut self, batch: &Batch) {
        if self.fields != batch.fields {
            self.fields.clone_from(&batch.fields);
            let label = |field: &Field| self.label_fields.iter().position(|name| **name == *field.name);
            self.label_of = batch.fields.iter().map(label).collect();
            let line = match &self.line {
                Line::Json => None,
                Line::Content => Some(CONTENT),
                Line::Field(name) => Some(&**name),
            };
            self.is_line = batch.fields.iter().map(|field| Some(&*field.name) == line).collect();
        }
        if !self.tags.as_ref().is_some_and(|tags| Arc::ptr_eq(tags, &batch.tags)) {
            self.tags = Some(batch.tags.clone());
            self.base.clear();
            self.metadata.clear();
            for (name, value) in &self.labels {
                add(&mut self.base, name, value);
            }
            let is_label = |name: &String| self.label_tags.contains(name);
            for (name, value) in batch.tags.iter().filter(|(name, _)| is_label(name)) {
                add(&mut self.base, name, value);
            }
            let mut names: Vec<String> = Vec::new();
            for (name, value) in batch.tags.iter().filter(|(name, _)| self.has_metadata && !is_label(name)) {
                let name = label_name(name);
                if !names.contains(&name) {
                    let mut pair = Vec::new();
                    put_bytes(&mut pair, NAME, name.as_bytes());
                    put_bytes(&mut pair, VALUE, value.as_bytes());
                    put_bytes(&mut self.metadata, METADATA, &pair);
                    names.push(name);
                }
            }
            self.base_head = head(&self.base);
            self.sets.heads.clear();
            self.sets.last = None;
        }
    }

    /// The head of the stream that an event belongs to.
    fn head_of(&mut self, batch: &Batch, event: usize) -> Arc<[u8]> {
        if self.label_fields.is_empty() {
            return self.base_head.clone();
        }
        let Sets { heads, count, last, last_values, values } = &mut self.sets;
        values.clear();
        let cells = batch.event(event);
        let value_of = |label: usize| {
            let cell = cells.chunks_exact(CELL).find(|cell| self.label_of[cell[0] as usize] == Some(label));
            cell.map_or(&[][..], |cell| {
                let value = &batch.arena[cell[1] as usize..cell[2] as usize];
                &value[..value.len().min(MAX_VALUE)]
            })
        };
        for label in 0..self.label_fields.len() {
            let value = value_of(label);
            values.extend_from_slice(&(value.len() as u32).to_le_bytes());
            values.extend_from_slice(value);
        }
        if let Some(head) = last
            && last_values == values
        {
            return head.clone();
        }
        let head = match heads.get(&**values) {
            Some(head) => head.clone(),
            // Too many for labels; the line still has the fields.
            None if *count >= MAX_SETS => return self.base_head.clone(),
            None => {
                let mut labels = self.base.clone();
                for (label, name) in self.label_fields.iter().enumerate() {
                    add(&mut labels, name, &String::from_utf8_lossy(value_of(label)));
                }
                *count += 1;
                let head = head(&labels);
                heads.insert(values.clone(), head.clone());
                head
            }
        };
        *last = Some(head.clone());
        std::mem::swap(last_values, values);
        head
    }

    /// The line of an event whose line is one of its cells.
    fn cell_line<'b>(&self, batch: &'b Batch, event: usize) -> Option<&'b [u8]> {
        let cells = batch.event(event);
        // What else there is would be nowhere.
        if self.line == Line::Content && cells.len() != CELL {
            return None;
        }
        if batch.marks.binary_search_by_key(&(event as u32), |mark| mark.event).is_ok() {
            return None;
        }
        let cell = cells.chunks_exact(CELL).find(|cell| self.is_line[cell[0] as usize])?;
        Some(&batch.arena[cell[1] as usize..cell[2] as usize])
    }

    /// The event's time for Loki, in Unix nanoseconds.
    fn time(&mut self, time: i64, now: i64) -> i64 {
        let time = if time < 1_000_000_000 { now } else { time };
        self.last = if self.last.0 == time { (time, self.last.1 + 1) } else { (time, 0) };
        time.saturating_add(self.last.1)
    }
}

impl Encode for Entries {
    fn encode(&mut self, batch: &Batch, from: usize, room: Room, out: &mut Records) -> usize {
        self.prepare(batch);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as i64;
        let mut end = batch.len().min(from.saturating_add(out.left(room)));
        let is_json = self.line == Line::Json || (from..end).any(|event| self.cell_line(batch, event).is_none());
        self.lines.bytes.clear();
        self.lines.ends.clear();
        self.lines.events = 0;
        if is_json {
            let bytes = room.bytes.saturating_sub(out.bytes.len());
            end = self.json.encode(batch, from, Room { bytes, events: end - from }, &mut self.lines);
        }
        let mut writer = Writer::new(&mut out.bytes);
        let mut event = from;
        while event < end {
            out.begin_group(&self.head_of(batch, event));
            let time = self.time(batch.time(event), now);
            let cell = if self.line == Line::Json { None } else { self.cell_line(batch, event) };
            let text;
            let line = match cell {
                Some(cell) => {
                    text = String::from_utf8_lossy(cell);
                    text.as_bytes()
                }
                None => &self.lines.bytes.as_slice()[line_at(&self.lines.ends, event - from)],
            };
            put_entry(&mut writer, time, line, &self.metadata);
            event += 1;
            out.events += 1;
            if out.wants_ends {
                out.ends.push(writer.len() as u32);
            }
            if writer.len() >= room.bytes {
                break;
            }
        }
        out.bytes = writer.finish();
        event
    }

    fn wrap(&self) -> Option<Wrap> {
        Some(Wrap::Around(wrap))
    }

    fn seal(&mut self, _groups: &mut [Group]) {
        self.sets = Sets::default();
    }
}

/// Where a line is, without what ends it.
fn line_at(ends: &[u32], index: usize) -> std::ops::Range<usize> {
    let start = index.checked_sub(1).map_or(0, |before| ends[before] as usize);
    start..ends[index] as usize - 1
}

#[inline]
fn put_entry(writer: &mut Writer, time: i64, line: &[u8], metadata: &[u8]) {
    let (seconds, nanos) = ((time / 1_000_000_000) as usize, (time % 1_000_000_000) as usize);
    writer.reserve(line.len() + metadata.len() + Writer::PER_FIELD);
    let entry = writer.begin(ENTRIES);
    writer.byte(bytes_tag(TIMESTAMP));
    writer.varint((2 + varint_len(seconds) + varint_len(nanos)) as u64);
    writer.byte(varint_tag(SECONDS));
    writer.varint(seconds as u64);
    writer.byte(varint_tag(NANOS));
    writer.varint(nanos as u64);
    writer.byte(bytes_tag(LINE));
    writer.varint(line.len() as u64);
    writer.bytes(line);
    writer.bytes(metadata);
    writer.end(entry);
}

/// A stream: its labels and its entries.
fn wrap(head: &[u8], events: &[u8], out: &mut Vec<u8>) -> usize {
    out.push(bytes_tag(STREAMS));
    put_varint(out, (head.len() + events.len()) as u64);
    out.extend_from_slice(head);
    let at = out.len();
    out.extend_from_slice(events);
    at
}

/// A stream's labels, as they are sent.
fn head(labels: &BTreeMap<String, String>) -> Arc<[u8]> {
    let mut text = String::new();
    for (name, value) in labels {
        text.push_str(if text.is_empty() { "{" } else { ", " });
        let _ = write!(text, "{name}=");
        quote(value, &mut text);
    }
    // A stream must have one.
    text.push_str(if text.is_empty() { "{job=\"weir\"}" } else { "}" });
    let mut head = Vec::new();
    put_bytes(&mut head, LABELS, text.as_bytes());
    head.into()
}

/// A string of Go.
fn quote(value: &str, out: &mut String) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => _ = write!(out, "\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Adds a label, unless there is one of that name. One without a value is none.
fn add(labels: &mut BTreeMap<String, String>, name: &str, value: &str) {
    if !value.is_empty() {
        let cut = (0..=MAX_VALUE.min(value.len())).rev().find(|at| value.is_char_boundary(*at)).unwrap_or(0);
        labels.entry(label_name(name)).or_insert_with(|| value[..cut].to_owned());
    }
}

/// The name with `_` for whatever a label's name cannot have.
fn label_name(name: &str) -> String {
    let mut label = String::with_capacity(name.len() + 1);
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        label.push('_');
    }
    label.extend(name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }));
    label
}

/// Sends each payload as a request of its own.
pub struct LokiTransport {
    client: Client,
    url: Rendered<String>,
    tenant: Option<Rendered<String>>,
    headers: Headers,
}

impl LokiTransport {
    /// As configured.
    pub fn new(loki: &Loki) -> Self {
        let (url, tenant) = (loki.url.clone(), loki.tenant.clone());
        LokiTransport {
            client: Client::new(&loki.network, &loki.auth, loki.url.fixed()),
            url: Rendered::new(move |target| push_url(url.render(target))),
            tenant: tenant.map(|tenant| Rendered::new(move |target| tenant.render(target))),
            headers: Headers::new(&loki.headers),
        }
    }

    fn request(&self, target: &LogstoreName, bytes: Bytes) -> Result<reqwest::RequestBuilder, String> {
        let request = self.client.get()?.post(&*self.url.of(target));
        let mut request = self.headers.add(self.client.authorize(request)?)?;
        if let Some(tenant) = &self.tenant {
            let tenant = HeaderValue::from_str(&tenant.of(target));
            request = request.header("x-scope-orgid", tenant.map_err(|_| "the tenant fits in no header".to_owned())?);
        }
        Ok(request.header(CONTENT_TYPE, "application/x-protobuf").body(bytes))
    }
}

/// An address without a path is that of the server.
fn push_url(url: String) -> String {
    let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    match path {
        "" => format!("{}/loki/api/v1/push", url.trim_end_matches('/')),
        _ => url,
    }
}

impl Transport for LokiTransport {
    fn format(&self) -> &'static str {
        "loki"
    }

    fn send<'a>(&'a self, target: &'a LogstoreName, bytes: Bytes, _: &'a Layout) -> BoxFuture<'a, Outcome> {
        async move {
            match self.request(target, bytes) {
                Err(why) => Outcome::mistake(why),
                Ok(request) => match client::answer(request).await {
                    Ok(response) => client::judge(response).await,
                    Err(outcome) => outcome,
                },
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::super::compress::Compression;
    use super::*;
    use crate::event::testing::raw;
    use crate::event::{Kind, Mark, UNKNOWN_TIME};

    /// The schema as Loki publishes it, for an independent library.
    mod logproto {
        #[derive(Clone, PartialEq, prost::Message)]
        pub struct Timestamp {
            #[prost(int64, tag = "1")]
            pub seconds: i64,
            #[prost(int32, tag = "2")]
            pub nanos: i32,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub struct Pair {
            #[prost(string, tag = "1")]
            pub name: String,
            #[prost(string, tag = "2")]
            pub value: String,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub struct Entry {
            #[prost(message, required, tag = "1")]
            pub timestamp: Timestamp,
            #[prost(string, tag = "2")]
            pub line: String,
            #[prost(message, repeated, tag = "3")]
            pub metadata: Vec<Pair>,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub struct Stream {
            #[prost(string, tag = "1")]
            pub labels: String,
            #[prost(message, repeated, tag = "2")]
            pub entries: Vec<Entry>,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub struct PushRequest {
            #[prost(message, repeated, tag = "1")]
            pub streams: Vec<Stream>,
        }
    }

    fn entries(keys: &str) -> Entries {
        let text = format!(
            "logstores: [{{name: a/b, files: {{root: /x}}, sink: s}}]\nsinks:\n  s: {{type: loki, url: 'http://h'{keys}}}"
        );
        let config = crate::config::parse(&text, "weir.yaml", &|_| None).unwrap().config;
        match &config.sinks["s"] {
            crate::config::Sink::Loki(loki) => Entries::new(loki, &"a/b".parse().unwrap()),
            other => panic!("{other:?}"),
        }
    }

    fn push(encoder: &mut Entries, records: &mut Records) -> logproto::PushRequest {
        encoder.seal(&mut records.groups);
        let body = records.seal(encoder.wrap(), Compression::Snappy);
        let plain = body.layout.plain(body.bytes.as_slice()).unwrap();
        logproto::PushRequest::decode(plain).unwrap()
    }

    fn encode(encoder: &mut Entries, batches: &[&Batch]) -> logproto::PushRequest {
        let mut records = Records { wants_ends: true, ..Records::default() };
        for batch in batches {
            assert_eq!(encoder.encode(batch, 0, Room::ALL, &mut records), batch.len());
        }
        push(encoder, &mut records)
    }

    /// Each entry as its stream's labels, its time, its line and its metadata.
    fn shown(push: &logproto::PushRequest) -> Vec<String> {
        let show = |stream: &logproto::Stream, entry: &logproto::Entry| {
            let time = &entry.timestamp;
            let metadata: String = entry.metadata.iter().map(|pair| format!(" {}={}", pair.name, pair.value)).collect();
            format!("{} {}.{:09} {}{metadata}", stream.labels, time.seconds, time.nanos, entry.line)
        };
        push.streams.iter().flat_map(|stream| stream.entries.iter().map(move |entry| show(stream, entry))).collect()
    }

    fn tagged(mut batch: Batch, tags: &[(&str, &str)]) -> Batch {
        batch.tags = Arc::new(tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect());
        batch
    }

    /// Events of the fields `level` and `m`, each a pair of these.
    fn levels(events: &[(&str, &str)]) -> Batch {
        let fields = ["level", "m"].map(|name| Field { name: name.into(), kind: Kind::Text });
        let mut batch = Batch { fields: fields.into(), ..Batch::default() };
        for (level, message) in events {
            for (field, value) in [(0, level), (1, message)] {
                let start = batch.arena.len() as u32;
                batch.arena.extend_from_slice(value.as_bytes());
                batch.cells.extend([field, start, batch.arena.len() as u32]);
            }
            batch.rows.push(batch.cells.len() as u32 / 3);
            batch.times.push(5_000_000_000 * batch.rows.len() as i64);
        }
        batch
    }

    #[test]
    fn tags_are_labels_and_others_metadata() {
        let tags = [("path", "/a\"\\\n\u{1}é"), ("host", "h"), ("uid", "u"), ("1-x", "y")];
        let mut batch = tagged(raw(&["one", "two"], 0), &tags);
        batch.times = vec![1_136_214_245_250_000_000, 1_136_214_246_000_000_000];
        batch.marks = vec![Mark { event: 1, reason: "p: no".into() }];
        let pushed = encode(&mut entries(", structured_metadata: true"), &[&batch]);
        let labels = r#"{host="h", logstore="b", path="/a\"\\\n\u0001é", project="a"}"#;
        assert_eq!(
            shown(&pushed),
            [
                format!("{labels} 1136214245.250000000 {{\"content\":\"one\"}} uid=u _1_x=y"),
                format!("{labels} 1136214246.000000000 {{\"content\":\"two\",\"__error__\":\"p: no\"}} uid=u _1_x=y"),
            ]
        );
        assert_eq!(pushed.streams.len(), 1);
        let pushed = encode(&mut entries(", labels: {a: 'x-{logstore}'}, labels_from_tags: [1-x]"), &[&batch]);
        assert_eq!(pushed.streams[0].labels, r#"{_1_x="y", a="x-b"}"#);
        assert!(pushed.streams[0].entries[0].metadata.is_empty());
        let pushed = encode(&mut entries(", labels: {}, labels_from_tags: []"), &[&batch]);
        assert_eq!(pushed.streams[0].labels, r#"{job="weir"}"#);
    }

    #[test]
    fn fields_make_streams_in_the_order_of_events() {
        let mut encoder = entries(", labels: {a: b}, labels_from_tags: [host], label_fields: [level, none]");
        let one =
            tagged(levels(&[("info", "1"), ("info", "2"), ("warn", "3"), ("", "4"), ("info", "5")]), &[("host", "h")]);
        let two = tagged(levels(&[("info", "6")]), &[("host", "i")]);
        let pushed = encode(&mut encoder, &[&one, &two]);
        let (info, warn, none) =
            (r#"{a="b", host="h", level="info"}"#, r#"{a="b", host="h", level="warn"}"#, r#"{a="b", host="h"}"#);
        assert_eq!(
            shown(&pushed),
            [
                format!("{info} 5.000000000 {{\"level\":\"info\",\"m\":\"1\"}}"),
                format!("{info} 10.000000000 {{\"level\":\"info\",\"m\":\"2\"}}"),
                format!("{warn} 15.000000000 {{\"level\":\"warn\",\"m\":\"3\"}}"),
                format!("{none} 20.000000000 {{\"level\":\"\",\"m\":\"4\"}}"),
                format!("{info} 25.000000000 {{\"level\":\"info\",\"m\":\"5\"}}"),
                format!("{} 5.000000000 {{\"level\":\"info\",\"m\":\"6\"}}", r#"{a="b", host="i", level="info"}"#),
            ]
        );
        assert_eq!(pushed.streams.len(), 5);
    }

    #[test]
    fn too_many_streams_are_one() {
        let mut encoder = entries(", labels: {a: b}, label_fields: [level]");
        let numbers: Vec<_> = (0..MAX_SETS + 10).map(|n| n.to_string()).collect();
        let events: Vec<_> = numbers.iter().map(|n| (&**n, "x")).chain([("0", "x")]).collect();
        for _ in 0..2 {
            let pushed = encode(&mut encoder, &[&levels(&events)]);
            let labels: Vec<_> = pushed.streams.iter().map(|stream| &*stream.labels).collect();
            let expected: Vec<_> = (0..MAX_SETS).map(|n| format!("{{a=\"b\", level=\"{n}\"}}")).collect();
            assert_eq!(labels[..MAX_SETS], expected);
            assert_eq!(labels[MAX_SETS..], [r#"{a="b"}"#, r#"{a="b", level="0"}"#]);
            assert_eq!(pushed.streams[MAX_SETS].entries.len(), 10);
        }
    }

    #[test]
    fn a_line_may_be_the_content_or_a_field() {
        let mut batch = raw(&["a", "b\u{fffd}"], 0);
        batch.times = vec![1_000_000_000, 2_000_000_000];
        batch.arena[2] = 0xff;
        let lines = |keys: &str, batch: &Batch| -> Vec<String> {
            let pushed = encode(&mut entries(keys), &[batch]);
            pushed.streams.iter().flat_map(|stream| stream.entries.iter().map(|entry| entry.line.clone())).collect()
        };
        assert_eq!(lines(", line: content", &batch), ["a", "\u{fffd}\u{fffd}"]);
        let parsed = levels(&[("info", "one"), ("warn", "two")]);
        let json = [r#"{"level":"info","m":"one"}"#, r#"{"level":"warn","m":"two"}"#];
        assert_eq!(lines(", line: content", &parsed), json);
        assert_eq!(lines(", line: {field: m}", &parsed), ["one", "two"]);
        assert_eq!(lines(", line: {field: x}", &parsed), json);
        // What failed says so.
        batch.marks = vec![Mark { event: 0, reason: "no".into() }];
        assert_eq!(lines(", line: content", &batch), [r#"{"content":"a","__error__":"no"}"#, "\u{fffd}\u{fffd}"]);
    }

    #[test]
    fn events_at_the_same_time_are_apart() {
        let mut batch = raw(&["a", "a", "a", "b", "c"], 0);
        batch.times = vec![7_000_000_000, 7_000_000_000, 7_000_000_000, 8_000_000_000, 8_000_000_000];
        let mut encoder = entries("");
        let times = |pushed: &logproto::PushRequest| -> Vec<(i64, i32)> {
            pushed.streams[0].entries.iter().map(|entry| (entry.timestamp.seconds, entry.timestamp.nanos)).collect()
        };
        assert_eq!(times(&encode(&mut encoder, &[&batch])), [(7, 0), (7, 1), (7, 2), (8, 0), (8, 1)]);
        batch.times = vec![8_000_000_000, UNKNOWN_TIME, UNKNOWN_TIME, 0, -5];
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        let times = times(&encode(&mut encoder, &[&batch]));
        assert_eq!(times[0], (8, 2));
        assert!((now..now + 60).contains(&times[1].0), "{times:?}");
        let nanos: Vec<_> =
            times[1..].iter().map(|(second, nanos)| second * 1_000_000_000 + i64::from(*nanos)).collect();
        assert_eq!(nanos, [0, 1, 2, 3].map(|n| nanos[0] + n));
    }

    #[test]
    fn a_batch_that_has_no_room_is_encoded_in_parts() {
        let batch = levels(&[("info", "1"), ("warn", "2"), ("warn", "3"), ("info", "4")]);
        let whole = shown(&encode(&mut entries(", label_fields: [level]"), &[&batch]));
        for room in [Room { bytes: 1, events: 9 }, Room { bytes: 60, events: 9 }, Room { bytes: 999, events: 3 }] {
            let (mut parts, mut from) = (Vec::new(), 0);
            let mut encoder = entries(", label_fields: [level]");
            while from < batch.len() {
                let mut records = Records { wants_ends: true, ..Records::default() };
                from = encoder.encode(&batch, from, room, &mut records);
                assert!(records.events > 0 && records.events <= room.events);
                parts.extend(shown(&push(&mut encoder, &mut records)));
            }
            assert_eq!(parts, whole);
        }
    }

    #[test]
    fn an_address_may_leave_out_the_path() {
        for (url, expected) in [
            ("http://h:3100", "http://h:3100/loki/api/v1/push"),
            ("https://h/", "https://h/loki/api/v1/push"),
            ("https://h/x/push", "https://h/x/push"),
        ] {
            assert_eq!(push_url(url.to_owned()), expected);
        }
    }
}
