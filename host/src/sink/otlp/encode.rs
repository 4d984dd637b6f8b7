//! Log records of OpenTelemetry, written straight from a batch's cells.
//!
//! A payload is an `ExportLogsServiceRequest`. Each file's events are one `ResourceLogs`, whose resource is what the
//! file's tags say: the head of their group. The numbers of fields are those of `opentelemetry/proto/logs/v1`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::super::Buffer;
use super::super::ndjson::{Text, integer, is_number};
use super::super::protobuf::{
    Stamp, Writer, bytes_len, bytes_tag, fixed64_tag, put_bytes, put_head, varint_len, varint_tag,
};
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

// Fields of a ResourceLogs, of its Resource and its ScopeLogs.
const RESOURCE_LOGS: u8 = 1;
const RESOURCE: u8 = 1;
const RESOURCE_ATTRIBUTES: u8 = 1;
const SCOPE_LOGS: u8 = 2;
const SCOPE: u8 = 1;
const SCOPE_NAME: u8 = 1;
const SCOPE_VERSION: u8 = 2;
const LOG_RECORDS: u8 = 2;
// Of a LogRecord.
const TIME: u8 = 1;
const SEVERITY_NUMBER: u8 = 2;
const SEVERITY_TEXT: u8 = 3;
const BODY: u8 = 5;
const ATTRIBUTES: u8 = 6;
const OBSERVED_TIME: u8 = 11;
// Of a KeyValue.
const KEY: u8 = 1;
const VALUE: u8 = 2;
// Of an AnyValue, and of the ArrayValue that it may be.
const STRING: u8 = 1;
const BOOLEAN: u8 = 2;
const INTEGER: u8 = 3;
const DOUBLE: u8 = 4;
const ARRAY: u8 = 5;
const ARRAY_VALUES: u8 = 1;

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
    /// A pair's key that says [`ERROR`].
    error_key: Stamp,
    /// Events that were looked at.
    looked_at: u64,
    /// The attributes of an event that has a name twice: names, and where their cells are.
    repeated: Vec<(u32, u32)>,
}

/// What is known of a field before its cells are.
struct Column {
    kind: Kind,
    role: Role,
    /// Whether its cells are attributes with its name and with text, whatever they say.
    is_plain: bool,
    /// Fields of the same name have the same.
    name: u32,
    /// A pair's key, and the tag of its value.
    key: Stamp,
    /// The same for a cell which says that it is a container's stream.
    stream_key: Option<Stamp>,
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Attribute,
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
            error_key: pair_key(ERROR),
            looked_at: 0,
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
                let role = match &*field.name {
                    name if name == self.body_field => Role::Body,
                    name if Some(name) == self.severity_field.as_deref() => Role::Severity,
                    _ => Role::Attribute,
                };
                let is_stream = role == Role::Attribute && &*field.name == IOSTREAM.0 && !has_iostream;
                Column {
                    kind: field.kind,
                    role,
                    is_plain: role == Role::Attribute && !is_stream && matches!(field.kind, Kind::Text | Kind::Json),
                    name: *names.entry(field.name.clone()).or_insert(next),
                    key: pair_key(&field.name),
                    stream_key: is_stream.then(|| pair_key(IOSTREAM.1)),
                }
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

    /// Looks at an event's cells: how much room they need at most, if all are UTF-8, and whether no name is there twice.
    #[inline(always)]
    fn look_at(&mut self, cells: &[u32], error: Option<&str>) -> (usize, bool) {
        let (mut room, mut is_plain) = (Writer::PER_FIELD, true);
        self.looked_at += 1;
        for cell in cells.chunks_exact(CELL) {
            let column = &self.columns[cell[0] as usize];
            let seen = &mut self.seen[column.name as usize];
            is_plain &= *seen != self.looked_at;
            *seen = self.looked_at;
            room += column.key.len() + (cell[2] - cell[1]) as usize + Writer::PER_FIELD;
        }
        let has_error = self.error_name.is_some_and(|name| self.seen[name as usize] == self.looked_at);
        (room, is_plain && !(has_error && error.is_some()))
    }

    /// Writes cells, no two of which have the same name. The Writer has room for `promised` bytes.
    #[inline(always)]
    fn put_cells(&self, writer: &mut Writer, text: &Text, cells: &[u32], promised: usize) {
        for cell in cells.chunks_exact(CELL) {
            let column = &self.columns[cell[0] as usize];
            let (start, end) = (cell[1] as usize, cell[2] as usize);
            if column.is_plain && text.is_utf8(start, end) {
                let len = end - start;
                let value = bytes_len(len);
                writer.head(ATTRIBUTES, column.key.len() + varint_len(value) + value);
                writer.stamp(&column.key);
                writer.varint(value as u64);
                writer.head(STRING, len);
                writer.part(text.bytes, start, end);
            } else {
                column.put(writer, text, start, end, promised);
            }
        }
    }

    /// The same where names may be there twice: such attributes become one, which is a list.
    #[cold]
    fn put_repeated(&mut self, writer: &mut Writer, text: &Text, cells: &[u32], error: Option<&str>) {
        const OF_ERROR: u32 = u32::MAX;
        let mut all = std::mem::take(&mut self.repeated);
        let (mut has_body, mut has_severity) = (false, false);
        for (at, cell) in (0..).zip(cells.chunks_exact(CELL)) {
            let column = &self.columns[cell[0] as usize];
            let is_first = match column.role {
                Role::Body => !std::mem::replace(&mut has_body, true),
                Role::Severity if cell[2] > cell[1] => !std::mem::replace(&mut has_severity, true),
                _ => false,
            };
            match is_first {
                true => column.put(writer, text, cell[1] as usize, cell[2] as usize, 0),
                false => all.push((column.name, at)),
            }
        }
        // A name that no field has is as good as any.
        all.extend(error.map(|_| (self.error_name.unwrap_or(u32::MAX), OF_ERROR)));
        all.sort_unstable();
        let value = |at: u32| {
            if at == OF_ERROR {
                return Value::Text(error.unwrap_or_default().as_bytes().into());
            }
            let cell = &cells[at as usize * CELL..][..CELL];
            Value::of(text, self.columns[cell[0] as usize].kind, cell[1] as usize, cell[2] as usize)
        };
        for same in all.chunk_by(|a, b| a.0 == b.0) {
            let first = same[0].1;
            let key = if first == OF_ERROR {
                &self.error_key
            } else {
                let cell = &cells[first as usize * CELL..][..CELL];
                let column = &self.columns[cell[0] as usize];
                // Of several values none has a role of its own.
                match same.len() {
                    1 => column.key_of(&text.bytes[cell[1] as usize..cell[2] as usize]),
                    _ => &column.key,
                }
            };
            if same.len() == 1 {
                put_pair(writer, ATTRIBUTES, key, &value(first), 0);
                continue;
            }
            let values: Vec<_> = same.iter().map(|(_, at)| value(*at)).collect();
            let array: usize = values.iter().map(|value| bytes_len(value.size())).sum();
            let any = bytes_len(array);
            writer.reserve(key.len() + any);
            writer.head(ATTRIBUTES, key.len() + varint_len(any) + any);
            writer.stamp(key);
            writer.varint(any as u64);
            writer.head(ARRAY, array);
            for value in &values {
                writer.reserve(value.size());
                writer.head(ARRAY_VALUES, value.size());
                value.put(writer);
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
        let mut writer = Writer::new(&mut out.bytes);
        let end = batch.len().min(from.saturating_add(out.left(room)));
        let mut event = from;
        while event < end {
            let cells = batch.event(event);
            let error = marks.next_if(|mark| mark.event as usize == event).map(|mark| &*mark.reason);
            let (promised, is_plain) = self.look_at(cells, error);

            writer.reserve(promised);
            let record = writer.begin(LOG_RECORDS);
            // Times before 1970 cannot be written.
            if let Ok(time) = u64::try_from(batch.time(event))
                && time != 0
            {
                writer.byte(fixed64_tag(TIME));
                writer.bytes(&time.to_le_bytes());
            }
            writer.byte(fixed64_tag(OBSERVED_TIME));
            writer.bytes(&observed.to_le_bytes());
            if is_plain {
                self.put_cells(&mut writer, &text, cells, promised);
                if let Some(error) = error {
                    put_pair(&mut writer, ATTRIBUTES, &self.error_key, &Value::Text(error.as_bytes().into()), 0);
                }
            } else {
                self.put_repeated(&mut writer, &text, cells, error);
            }
            writer.end(record);

            event += 1;
            if out.wants_ends {
                out.ends.push(writer.len() as u32);
            }
            if writer.len() >= room.bytes {
                break;
            }
        }
        out.bytes = writer.finish();
        out.events += event - from;
        event
    }

    fn wrap(&self) -> Option<Wrap> {
        Some(Wrap::Around(wrap))
    }
}

/// Writes a `ResourceLogs` with its resource, its only scope and that one's records.
fn wrap(resource: &[u8], records: &[u8], out: &mut Vec<u8>) -> usize {
    let mut scope = Vec::new();
    put_bytes(&mut scope, SCOPE_NAME, b"weir");
    put_bytes(&mut scope, SCOPE_VERSION, env!("CARGO_PKG_VERSION").as_bytes());
    let scope_logs = bytes_len(scope.len()) + records.len();
    put_head(out, RESOURCE_LOGS, resource.len() + bytes_len(scope_logs));
    out.extend_from_slice(resource);
    put_head(out, SCOPE_LOGS, scope_logs);
    put_bytes(out, SCOPE, &scope);
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
    let mut pairs = Writer::new(&mut Buffer::default());
    for (name, value) in attributes {
        put_pair(&mut pairs, RESOURCE_ATTRIBUTES, &pair_key(name), &Value::Text(value.as_bytes().into()), 0);
    }
    let mut out = Vec::new();
    put_bytes(&mut out, RESOURCE, pairs.finish().as_slice());
    out
}

impl Column {
    /// The key of the attribute that such a value is.
    fn key_of(&self, value: &[u8]) -> &Stamp {
        match &self.stream_key {
            Some(key) if matches!(value, b"stdout" | b"stderr") => key,
            _ => &self.key,
        }
    }

    /// Writes a cell, whatever it is, and leaves room for what was `promised` before.
    #[inline]
    fn put(&self, writer: &mut Writer, text: &Text, start: usize, end: usize, promised: usize) {
        let bytes = &text.bytes[start..end];
        match self.role {
            Role::Body => {
                let value = Value::of(text, self.kind, start, end);
                writer.reserve(promised + value.size());
                writer.head(BODY, value.size());
                value.put(writer);
            }
            // An empty one would not be there.
            Role::Severity if !bytes.is_empty() => {
                let word = utf8(text, start, end);
                writer.reserve(promised + word.len());
                if let Some(number) = severity(bytes) {
                    writer.byte(varint_tag(SEVERITY_NUMBER));
                    writer.byte(number);
                }
                writer.head(SEVERITY_TEXT, word.len());
                writer.bytes(&word);
            }
            _ => {
                let value = Value::of(text, self.kind, start, end);
                put_pair(writer, ATTRIBUTES, self.key_of(bytes), &value, promised);
            }
        }
    }
}

/// A value, as it is going to be written.
enum Value<'a> {
    /// UTF-8.
    Text(Cow<'a, [u8]>),
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
        known.unwrap_or_else(|| Value::Text(utf8(text, start, end)))
    }

    /// Bytes that it has as an `AnyValue`.
    #[inline]
    fn size(&self) -> usize {
        match self {
            Value::Text(bytes) => bytes_len(bytes.len()),
            Value::Integer(value) => 1 + varint_len(*value as usize),
            Value::Double(_) => 9,
            Value::Boolean(_) => 2,
        }
    }

    /// Writes it as an `AnyValue`, for which there is room.
    #[inline]
    fn put(&self, writer: &mut Writer) {
        match self {
            Value::Text(bytes) => {
                writer.head(STRING, bytes.len());
                writer.bytes(bytes);
            }
            Value::Integer(value) => {
                writer.byte(varint_tag(INTEGER));
                writer.varint(*value as u64);
            }
            Value::Double(value) => {
                writer.byte(fixed64_tag(DOUBLE));
                writer.bytes(&value.to_le_bytes());
            }
            Value::Boolean(value) => {
                writer.byte(varint_tag(BOOLEAN));
                writer.byte(u8::from(*value));
            }
        }
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
    // So many always fit.
    const DIGITS: usize = 18;
    if integer(bytes)? != bytes.len() {
        return None;
    }
    match bytes {
        [b'0'..=b'9', ..] if bytes.len() <= DIGITS => {
            Some(bytes.iter().fold(0, |value, digit| 10 * value + i64::from(digit - b'0')))
        }
        _ => str::from_utf8(bytes).ok()?.parse().ok(),
    }
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

/// A name as it is written in a `KeyValue`, and the tag of what it names.
fn pair_key(name: &str) -> Stamp {
    let mut key = Vec::with_capacity(name.len() + 4);
    put_bytes(&mut key, KEY, name.as_bytes());
    key.push(bytes_tag(VALUE));
    Stamp::new(key)
}

/// Writes a `KeyValue` as a field, and leaves room for what was `promised` before.
#[inline]
fn put_pair(writer: &mut Writer, field: u8, key: &Stamp, value: &Value, promised: usize) {
    let size = value.size();
    writer.reserve(promised + key.len() + size);
    writer.head(field, key.len() + varint_len(size) + size);
    writer.stamp(key);
    writer.varint(size as u64);
    value.put(writer);
}
