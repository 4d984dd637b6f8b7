//! Log records of OpenTelemetry, written straight from a batch's cells.
//!
//! A payload is an `ExportLogsServiceRequest`. Each file's events are one `ResourceLogs`, whose resource is what the
//! file's tags say: the head of their group. The numbers of fields are those of `opentelemetry/proto/logs/v1`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::super::ndjson::{Text, integer, is_number};
use super::super::records::{Encode, Records, Room, Wrap};
use crate::config::LogstoreName;
use crate::config::sinks::{ChosenTags, Otlp};
use crate::event::{Batch, CELL, Field, Kind, Tags};

/// The attribute that says why a plugin could not process an event.
const ERROR: &str = "weir.error";

/// Tags that OpenTelemetry has names for.
const CONVENTIONS: [(&str, &str); 6] = [
    ("path", "log.file.path"),
    ("host", "host.name"),
    ("namespace", "k8s.namespace.name"),
    ("pod", "k8s.pod.name"),
    ("uid", "k8s.pod.uid"),
    ("container", "k8s.container.name"),
];

/// What OpenTelemetry calls the stream of a container, and what weir does.
const IOSTREAM: (&str, &str) = ("stream", "log.iostream");

// Keys of fields: the field's number, and how it is written.
const FIXED64: u8 = 1;
const DELIMITED: u8 = 2;
const fn key(number: u8, wire: u8) -> u8 {
    (number << 3) | wire
}
const RESOURCE_LOGS: u8 = key(1, DELIMITED);
const RESOURCE: u8 = key(1, DELIMITED);
const RESOURCE_ATTRIBUTE: u8 = key(1, DELIMITED);
const SCOPE_LOGS: u8 = key(2, DELIMITED);
const SCOPE: u8 = key(1, DELIMITED);
const SCOPE_NAME: u8 = key(1, DELIMITED);
const SCOPE_VERSION: u8 = key(2, DELIMITED);
const LOG_RECORD: u8 = key(2, DELIMITED);
const TIME: u8 = key(1, FIXED64);
const SEVERITY_NUMBER: u8 = key(2, 0);
const SEVERITY_TEXT: u8 = key(3, DELIMITED);
const BODY: u8 = key(5, DELIMITED);
const ATTRIBUTE: u8 = key(6, DELIMITED);
const OBSERVED_TIME: u8 = key(11, FIXED64);
const PAIR_KEY: u8 = key(1, DELIMITED);
const PAIR_VALUE: u8 = key(2, DELIMITED);
const STRING: u8 = key(1, DELIMITED);
const BOOLEAN: u8 = key(2, 0);
const INTEGER: u8 = key(3, 0);
const DOUBLE: u8 = key(4, FIXED64);
const ARRAY: u8 = key(5, DELIMITED);
const ARRAY_VALUE: u8 = key(1, DELIMITED);

/// An encoder, which remembers the fields and tags of the last batch as they are written.
pub struct Encoder {
    resource: Vec<(String, String)>,
    tags_chosen: ChosenTags,
    severity_field: Option<String>,
    body_field: String,
    fields: Vec<Field>,
    columns: Vec<Column>,
    tags: Arc<Tags>,
    /// The resource, as it is written in a `ResourceLogs`.
    head: Option<Arc<[u8]>>,
    /// For each name, the last event that has it as an attribute.
    seen: Vec<u64>,
    /// The name that [`ERROR`] has, if a field has it.
    error_name: Option<u32>,
    /// Events so far.
    count: u64,
    /// The attributes of an event that has a name twice: names, and where their cells are.
    repeated: Vec<(u32, u32)>,
}

/// What is known of a field before its cells are.
struct Column {
    kind: Kind,
    role: Role,
    /// Fields of the same name have the same.
    name: u32,
    /// The name, as it is written in a `KeyValue`.
    key: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Attribute,
    /// An attribute; that of a container's stream, if it is `stdout` or `stderr`.
    Stream,
    Severity,
    Body,
}

impl Encoder {
    /// For the events of a logstore.
    pub fn new(otlp: &Otlp, logstore: &LogstoreName) -> Self {
        Encoder {
            resource: otlp.resource.iter().map(|(name, value)| (name.clone(), value.render(logstore))).collect(),
            tags_chosen: otlp.resource_from_tags.clone(),
            severity_field: otlp.severity_field.clone(),
            body_field: otlp.body_field.clone(),
            fields: Vec::new(),
            columns: Vec::new(),
            tags: Arc::default(),
            head: None,
            seen: Vec::new(),
            error_name: None,
            count: 0,
            repeated: Vec::new(),
        }
    }

    /// Writes what is the same for all events of the batch, if it isn't what it was.
    fn prepare(&mut self, batch: &Batch) -> Arc<[u8]> {
        if self.fields != batch.fields {
            self.fields.clone_from(&batch.fields);
            let mut names = HashMap::new();
            let has_iostream = batch.fields.iter().any(|field| &*field.name == IOSTREAM.1);
            let column = |field: &Field| {
                let next = names.len() as u32;
                let name = *names.entry(field.name.clone()).or_insert(next);
                let role = match &*field.name {
                    name if name == self.body_field => Role::Body,
                    name if Some(name) == self.severity_field.as_deref() => Role::Severity,
                    name if name == IOSTREAM.0 && !has_iostream => Role::Stream,
                    _ => Role::Attribute,
                };
                Column { kind: field.kind, role, name, key: pair_key(&field.name) }
            };
            self.columns = batch.fields.iter().map(column).collect();
            self.error_name = names.get(ERROR).copied();
            self.seen = vec![0; names.len()];
        }
        match &self.head {
            Some(head) if Arc::ptr_eq(&self.tags, &batch.tags) => head.clone(),
            _ => {
                self.tags = batch.tags.clone();
                let head: Arc<[u8]> = resource(&self.resource, &self.tags_chosen, &batch.tags).into();
                self.head.insert(head).clone()
            }
        }
    }

    /// Appends an event as a `LogRecord` of a `ScopeLogs`.
    fn record(
        &mut self,
        batch: &Batch,
        text: &Text,
        event: usize,
        error: Option<&str>,
        observed: u64,
        out: &mut Vec<u8>,
    ) {
        let cells = batch.event(event);
        out.push(LOG_RECORD);
        let begun = out.len();
        // The length of most records has two bytes.
        out.extend_from_slice(&[0; 2]);
        // Times before 1970 cannot be written.
        if let Ok(time) = u64::try_from(batch.time(event))
            && time != 0
        {
            out.push(TIME);
            out.extend_from_slice(&time.to_le_bytes());
        }
        out.push(OBSERVED_TIME);
        out.extend_from_slice(&observed.to_le_bytes());
        let attributes = out.len();
        self.count += 1;
        if !self.put_cells(text, cells, error, out) {
            out.truncate(attributes);
            self.put_repeated(text, cells, error, out);
        }
        put_length(out, begun, 2);
    }

    /// Appends what the cells say, and gives whether that was all: not if two attributes have the same name.
    fn put_cells(&mut self, text: &Text, cells: &[u32], error: Option<&str>, out: &mut Vec<u8>) -> bool {
        let (mut has_body, mut has_severity) = (false, false);
        for cell in cells.chunks_exact(CELL) {
            let column = &self.columns[cell[0] as usize];
            let (start, end) = (cell[1] as usize, cell[2] as usize);
            if put_own_field(column, text, start, end, &mut has_body, &mut has_severity, out) {
                continue;
            }
            let seen = &mut self.seen[column.name as usize];
            if *seen == self.count {
                return false;
            }
            *seen = self.count;
            put_attribute(out, column.key_of(&text.bytes[start..end]), &Value::of(text, column.kind, start, end));
        }
        match (error, self.error_name) {
            (None, _) => true,
            (Some(_), Some(name)) if self.seen[name as usize] == self.count => false,
            (Some(error), _) => {
                put_attribute(out, &pair_key(ERROR), &Value::Text(error.as_bytes()));
                true
            }
        }
    }

    /// The same where several attributes have the same name: they become one, which is a list.
    #[cold]
    fn put_repeated(&mut self, text: &Text, cells: &[u32], error: Option<&str>, out: &mut Vec<u8>) {
        const OF_ERROR: u32 = u32::MAX;
        let mut all = std::mem::take(&mut self.repeated);
        let (mut has_body, mut has_severity) = (false, false);
        for (at, cell) in (0..).zip(cells.chunks_exact(CELL)) {
            let column = &self.columns[cell[0] as usize];
            if !put_own_field(column, text, cell[1] as usize, cell[2] as usize, &mut has_body, &mut has_severity, out) {
                all.push((column.name, at));
            }
        }
        let error_key = pair_key(ERROR);
        // A name that no field has is as good as any.
        all.extend(error.map(|_| (self.error_name.unwrap_or(u32::MAX), OF_ERROR)));
        all.sort_unstable();
        let value = |at: u32| {
            if at == OF_ERROR {
                return Value::Text(error.unwrap_or_default().as_bytes());
            }
            let cell = &cells[at as usize * CELL..][..CELL];
            Value::of(text, self.columns[cell[0] as usize].kind, cell[1] as usize, cell[2] as usize)
        };
        for same in all.chunk_by(|a, b| a.0 == b.0) {
            let first = same[0].1;
            let key: &[u8] = if first == OF_ERROR {
                &error_key
            } else {
                let cell = &cells[first as usize * CELL..][..CELL];
                let column = &self.columns[cell[0] as usize];
                // Of several values none has a role of its own.
                if same.len() == 1 {
                    column.key_of(&text.bytes[cell[1] as usize..cell[2] as usize])
                } else {
                    &column.key
                }
            };
            if same.len() == 1 {
                put_attribute(out, key, &value(first));
                continue;
            }
            let values: Vec<_> = same.iter().map(|(_, at)| value(*at)).collect();
            let array: usize = values.iter().map(|value| field_size(value.size())).sum();
            let any = field_size(array);
            put_head(out, ATTRIBUTE, key.len() + field_size(any));
            out.extend_from_slice(key);
            put_head(out, PAIR_VALUE, any);
            put_head(out, ARRAY, array);
            for value in &values {
                put_head(out, ARRAY_VALUE, value.size());
                value.put(out);
            }
        }
        all.clear();
        self.repeated = all;
    }
}

impl Encode for Encoder {
    fn encode(&mut self, batch: &Batch, from: usize, room: Room, out: &mut Records) -> usize {
        let head = self.prepare(batch);
        out.begin_group(&head);
        let text = Text::look_at(&batch.arena);
        let observed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        let mut marks =
            batch.marks[batch.marks.partition_point(|mark| (mark.event as usize) < from)..].iter().peekable();
        let end = batch.len().min(from.saturating_add(out.left(room)));
        for event in from..end {
            let error = marks.next_if(|mark| mark.event as usize == event).map(|mark| &*mark.reason);
            out.bytes.extend_with(|bytes| self.record(batch, &text, event, error, observed, bytes));
            out.end_event();
            if out.bytes.len() >= room.bytes {
                return event + 1;
            }
        }
        end
    }

    fn wrap(&self) -> Option<Wrap> {
        Some(Wrap::Around(wrap))
    }
}

/// Writes a `ResourceLogs` with its resource, its only scope and that one's records.
fn wrap(resource: &[u8], records: &[u8], out: &mut Vec<u8>) -> usize {
    let mut scope = Vec::new();
    for (key, text) in [(SCOPE_NAME, "weir"), (SCOPE_VERSION, env!("CARGO_PKG_VERSION"))] {
        put_head(&mut scope, key, text.len());
        scope.extend_from_slice(text.as_bytes());
    }
    let scope_logs = field_size(scope.len()) + records.len();
    put_head(out, RESOURCE_LOGS, resource.len() + field_size(scope_logs));
    out.extend_from_slice(resource);
    put_head(out, SCOPE_LOGS, scope_logs);
    put_head(out, SCOPE, scope.len());
    out.extend_from_slice(&scope);
    let at = out.len();
    out.extend_from_slice(records);
    at
}

/// A resource as the field of a `ResourceLogs`. What the config says goes before what tags say.
fn resource(given: &[(String, String)], chosen: &ChosenTags, tags: &Tags) -> Vec<u8> {
    let mut attributes: Vec<(&str, &str)> = given.iter().map(|(name, value)| (&**name, &**value)).collect();
    for (name, value) in tags.iter().filter(|(name, _)| !name.is_empty() && chosen.has(name)) {
        let convention = CONVENTIONS.iter().find(|(tag, _)| tag == name).map(|(_, convention)| *convention);
        let is_free = |name: &&str| attributes.iter().all(|(known, _)| known != name);
        if let Some(name) = convention.into_iter().chain([&**name]).find(is_free) {
            attributes.push((name, value));
        }
    }
    let mut pairs = Vec::new();
    for (name, value) in attributes {
        put_pair(&mut pairs, RESOURCE_ATTRIBUTE, &pair_key(name), &Value::Text(value.as_bytes()));
    }
    let mut out = Vec::new();
    put_head(&mut out, RESOURCE, pairs.len());
    out.extend_from_slice(&pairs);
    out
}

impl Column {
    /// The key of the attribute that such a value is.
    fn key_of(&self, value: &[u8]) -> &[u8] {
        // The key and its length come before the name.
        const STREAM_KEY: &[u8] = b"\x0a\x0clog.iostream";
        match self.role == Role::Stream && matches!(value, b"stdout" | b"stderr") {
            true => STREAM_KEY,
            false => &self.key,
        }
    }
}

/// Appends a cell that is the body or the severity, if it is, and the first such one.
#[inline]
fn put_own_field(
    column: &Column,
    text: &Text,
    start: usize,
    end: usize,
    has_body: &mut bool,
    has_severity: &mut bool,
    out: &mut Vec<u8>,
) -> bool {
    match column.role {
        Role::Body if !*has_body => {
            *has_body = true;
            let value = Value::of(text, column.kind, start, end);
            put_head(out, BODY, value.size());
            value.put(out);
            true
        }
        // An empty one would not be there.
        Role::Severity if !*has_severity && end > start => {
            *has_severity = true;
            if let Some(number) = severity(&text.bytes[start..end]) {
                out.extend_from_slice(&[SEVERITY_NUMBER, number]);
            }
            let word = utf8(text, start, end);
            put_head(out, SEVERITY_TEXT, word.len());
            out.extend_from_slice(&word);
            true
        }
        _ => false,
    }
}

/// A value, as it is going to be written.
enum Value<'a> {
    /// UTF-8.
    Text(&'a [u8]),
    Replaced(Vec<u8>),
    Integer(i64),
    Double(f64),
    Boolean(bool),
}

impl<'a> Value<'a> {
    /// What a cell is. What is not what its kind says is text.
    #[inline]
    fn of(text: &Text<'a>, kind: Kind, start: usize, end: usize) -> Self {
        let bytes = &text.bytes[start..end];
        let known = match kind {
            Kind::Text | Kind::Json => None,
            Kind::Integer => as_integer(bytes).map(Value::Integer),
            Kind::Float => as_double(bytes).map(Value::Double),
            Kind::Boolean => match bytes {
                b"true" => Some(Value::Boolean(true)),
                b"false" => Some(Value::Boolean(false)),
                _ => None,
            },
        };
        known.unwrap_or_else(|| match utf8(text, start, end) {
            Cow::Borrowed(bytes) => Value::Text(bytes),
            Cow::Owned(bytes) => Value::Replaced(bytes),
        })
    }

    /// Bytes that it has as an `AnyValue`.
    #[inline]
    fn size(&self) -> usize {
        match self {
            Value::Text(bytes) => field_size(bytes.len()),
            Value::Replaced(bytes) => field_size(bytes.len()),
            Value::Integer(value) => 1 + varint_size(*value as u64),
            Value::Double(_) => 9,
            Value::Boolean(_) => 2,
        }
    }

    /// Appends it as an `AnyValue`.
    #[inline]
    fn put(&self, out: &mut Vec<u8>) {
        let text: &[u8] = match self {
            Value::Text(bytes) => bytes,
            Value::Replaced(bytes) => bytes,
            Value::Integer(value) => {
                out.push(INTEGER);
                return put_varint(out, *value as u64);
            }
            Value::Double(value) => {
                out.push(DOUBLE);
                return out.extend_from_slice(&value.to_le_bytes());
            }
            Value::Boolean(value) => return out.extend_from_slice(&[BOOLEAN, u8::from(*value)]),
        };
        put_head(out, STRING, text.len());
        out.extend_from_slice(text);
    }
}

/// A cell's bytes, of which those that are not UTF-8 are replaced.
#[inline]
fn utf8<'a>(text: &Text<'a>, start: usize, end: usize) -> Cow<'a, [u8]> {
    let bytes = &text.bytes[start..end];
    match text.is_utf8(start, end) {
        true => Cow::Borrowed(bytes),
        false => Cow::Owned(String::from_utf8_lossy(bytes).into_owned().into_bytes()),
    }
}

fn as_integer(bytes: &[u8]) -> Option<i64> {
    (integer(bytes)? == bytes.len()).then(|| str::from_utf8(bytes).ok()?.parse().ok())?
}

fn as_double(bytes: &[u8]) -> Option<f64> {
    let value: f64 = is_number(bytes).then(|| str::from_utf8(bytes).ok()?.parse().ok())??;
    value.is_finite().then_some(value)
}

/// The number of a word for a severity, in any case: as OpenTelemetry maps syslog, log4j, java.util.logging and zap.
fn severity(word: &[u8]) -> Option<u8> {
    let mut lower = [0; 16];
    let lower = lower.get_mut(..word.len())?;
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    Some(match &*lower {
        b"trace" | b"trc" | b"t" | b"finest" | b"verbose" | b"v" => 1,
        b"debug" | b"dbg" | b"d" | b"fine" => 5,
        b"info" | b"inf" | b"i" | b"information" | b"informational" => 9,
        b"notice" => 10,
        b"warn" | b"warning" | b"wrn" | b"w" => 13,
        b"error" | b"err" | b"e" | b"severe" => 17,
        b"critical" | b"crit" | b"dpanic" => 18,
        b"alert" | b"panic" => 19,
        b"fatal" | b"ftl" | b"f" | b"emergency" | b"emerg" => 21,
        _ => return None,
    })
}

/// A name as it is written in a `KeyValue`.
fn pair_key(name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 3);
    put_head(&mut key, PAIR_KEY, name.len());
    key.extend_from_slice(name.as_bytes());
    key
}

#[inline]
fn put_attribute(out: &mut Vec<u8>, key: &[u8], value: &Value) {
    put_pair(out, ATTRIBUTE, key, value);
}

/// Appends a `KeyValue` as a field.
#[inline]
fn put_pair(out: &mut Vec<u8>, field: u8, key: &[u8], value: &Value) {
    let size = value.size();
    put_head(out, field, key.len() + field_size(size));
    out.extend_from_slice(key);
    put_head(out, PAIR_VALUE, size);
    value.put(out);
}

/// Appends what stands before the bytes of a field: its key and their number.
#[inline]
fn put_head(out: &mut Vec<u8>, key: u8, size: usize) {
    out.push(key);
    put_varint(out, size as u64);
}

/// Bytes of a field that has so many, with what stands before them.
#[inline]
fn field_size(size: usize) -> usize {
    1 + varint_size(size as u64) + size
}

#[inline]
fn varint_size(value: u64) -> usize {
    // Seven bits a byte.
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

#[inline]
fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes the number of bytes that come after the `reserved` ones that were left for it at `begun`.
fn put_length(out: &mut Vec<u8>, begun: usize, reserved: usize) {
    let size = out.len() - begun - reserved;
    let needed = varint_size(size as u64);
    match needed {
        _ if needed == reserved => {}
        _ if needed < reserved => {
            out.copy_within(begun + reserved.., begun + needed);
            out.truncate(begun + needed + size);
        }
        _ => {
            out.resize(begun + needed + size, 0);
            out.copy_within(begun + reserved..begun + reserved + size, begun + needed);
        }
    }
    let mut rest = size;
    for at in 0..needed {
        let more = if at + 1 < needed { 0x80 } else { 0 };
        out[begun + at] = (rest & 0x7f) as u8 | more;
        rest >>= 7;
    }
}
