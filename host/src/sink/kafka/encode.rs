//! Records of Kafka in a payload's body, each with all that is sent of it.
//!
//! ```text
//! body:   groups
//! group:  u32 bytes of its head, u32 bytes of its records, head, records
//! head:   u32 bytes of the file's key, key, headers: u32 bytes of the name, name, u32 bytes of the value, value
//! record: u32 bytes that follow, i64 time, u32 bytes of its key or NO_KEY, key, value
//! ```
//!
//! All numbers are little-endian. A body explains itself, so that one that was kept can be sent again.

use std::cell::RefCell;
use std::sync::Arc;

use super::super::ndjson::Ndjson;
use super::super::records::{Encode, Records, Room, Wrap};
use crate::config::sinks::{ChosenTags, Kafka};
use crate::event::{Batch, CELL, Field, Tags};

/// A record without a key of its own has its file's.
const NO_KEY: u32 = u32::MAX;

/// Bytes of JSON that are made at once, before they get into records.
const CHUNK: usize = 64 << 10;

thread_local! {
    /// Kept by each thread, as lanes are many and threads few.
    static JSON: RefCell<Records> = RefCell::new(Records { wants_ends: true, ..Records::default() });
}

/// An encoder, which remembers the fields and tags of the last batch.
pub struct Encoder {
    ndjson: Ndjson,
    key_field: Option<String>,
    headers_chosen: ChosenTags,
    fields: Vec<Field>,
    /// For each field, whether it is that of the key.
    is_key: Vec<bool>,
    tags: Arc<Tags>,
    head: Option<Arc<[u8]>>,
}

impl Encoder {
    /// As configured.
    pub fn new(kafka: &Kafka) -> Self {
        Encoder {
            ndjson: Ndjson::default(),
            key_field: kafka.key_field.clone(),
            headers_chosen: kafka.headers_from_tags.clone(),
            fields: Vec::new(),
            is_key: Vec::new(),
            tags: Arc::default(),
            head: None,
        }
    }

    fn prepare(&mut self, batch: &Batch) -> Arc<[u8]> {
        if self.fields != batch.fields {
            self.fields.clone_from(&batch.fields);
            self.is_key = batch.fields.iter().map(|field| Some(&*field.name) == self.key_field.as_deref()).collect();
        }
        match &self.head {
            Some(head) if Arc::ptr_eq(&self.tags, &batch.tags) => head.clone(),
            _ => {
                self.tags = batch.tags.clone();
                let head: Arc<[u8]> = head(&batch.tags, &self.headers_chosen).into();
                self.head.insert(head).clone()
            }
        }
    }

    /// The value of the event's first cell of the key's field.
    fn key<'b>(&self, batch: &'b Batch, event: usize) -> Option<&'b [u8]> {
        self.key_field.as_ref()?;
        let cell = batch.event(event).chunks_exact(CELL).find(|cell| self.is_key[cell[0] as usize])?;
        Some(&batch.arena[cell[1] as usize..cell[2] as usize])
    }
}

impl Encode for Encoder {
    fn encode(&mut self, batch: &Batch, from: usize, room: Room, out: &mut Records) -> usize {
        let head = self.prepare(batch);
        out.begin_group(&head);
        JSON.with_borrow_mut(|json| {
            let mut event = from;
            while event < batch.len() {
                json.bytes.clear();
                json.ends.clear();
                json.events = 0;
                let chunk =
                    Room { bytes: CHUNK.min(room.bytes.saturating_sub(out.bytes.len())), events: out.left(room) };
                let end = self.ndjson.encode(batch, event, chunk, json);
                let mut start = 0;
                for (event, line_end) in (event..end).zip(&json.ends) {
                    let line = &json.bytes.as_slice()[start..*line_end as usize];
                    start = *line_end as usize;
                    let value = line.strip_suffix(b"\n").unwrap_or(line);
                    let key = self.key(batch, event);
                    out.bytes.extend_with(|bytes| put_record(batch.time(event), key, value, bytes));
                    out.end_event();
                }
                event = end;
                if out.bytes.len() >= room.bytes || out.events >= room.events {
                    break;
                }
            }
            if json.bytes.capacity() > 4 * CHUNK {
                json.bytes = super::super::Buffer::default();
            }
            event
        })
    }

    fn wrap(&self) -> Option<Wrap> {
        Some(Wrap::Around(wrap))
    }
}

/// A file's key and headers: those of all of its records.
fn head(tags: &Tags, chosen: &ChosenTags) -> Vec<u8> {
    let tag = |name| tags.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value);
    let mut out = Vec::new();
    // Paths are the same on many hosts.
    put_bytes(&mut out, format!("{}:{}", tag("host"), tag("path")).as_bytes());
    for (name, value) in tags.iter().filter(|(name, _)| chosen.has(name)) {
        put_bytes(&mut out, name.as_bytes());
        put_bytes(&mut out, value.as_bytes());
    }
    out
}

fn put_record(time: i64, key: Option<&[u8]>, value: &[u8], out: &mut Vec<u8>) {
    let size = 12 + key.map_or(0, <[u8]>::len) + value.len();
    out.extend_from_slice(&(size as u32).to_le_bytes());
    out.extend_from_slice(&time.to_le_bytes());
    match key {
        Some(key) => put_bytes(out, key),
        None => out.extend_from_slice(&NO_KEY.to_le_bytes()),
    }
    out.extend_from_slice(value);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn wrap(head: &[u8], records: &[u8], out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&(head.len() as u32).to_le_bytes());
    out.extend_from_slice(&(records.len() as u32).to_le_bytes());
    out.extend_from_slice(head);
    let at = out.len();
    out.extend_from_slice(records);
    at
}

/// A record, as it is in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What says which partition it goes to.
    pub key: &'a [u8],
    /// A JSON object.
    pub value: &'a [u8],
    /// Unix nanoseconds, or [`UNKNOWN_TIME`](crate::event::UNKNOWN_TIME).
    pub time: i64,
    /// Names and values, for [`headers`].
    pub(super) headers: &'a [u8],
}

impl<'a> Record<'a> {
    /// Names and values of its headers.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let mut rest = self.headers;
        std::iter::from_fn(move || {
            let name = str::from_utf8(take_bytes(&mut rest)?).ok()?;
            Some((name, take_bytes(&mut rest)?))
        })
    }
}

/// The records of a body, in their order; none if it is no body.
pub fn records(mut body: &[u8]) -> Option<Vec<Record<'_>>> {
    let mut records = Vec::new();
    while !body.is_empty() {
        let (head, size) = (take_u32(&mut body)? as usize, take_u32(&mut body)? as usize);
        let (mut headers, mut group) = (take(&mut body, head)?, take(&mut body, size)?);
        let file_key = take_bytes(&mut headers)?;
        while !group.is_empty() {
            let mut record = take_bytes(&mut group)?;
            let time = i64::from_le_bytes(take(&mut record, 8)?.try_into().ok()?);
            let key = match take_u32(&mut record)? {
                NO_KEY => file_key,
                size => take(&mut record, size as usize)?,
            };
            records.push(Record { key, value: record, time, headers });
        }
    }
    Some(records)
}

fn take<'a>(from: &mut &'a [u8], size: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(size)?;
    *from = rest;
    Some(taken)
}

fn take_u32(from: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(take(from, 4)?.try_into().ok()?))
}

fn take_bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let size = take_u32(from)?;
    take(from, size as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::testing::raw;
    use crate::event::{CONTENT, Kind, Mark, UNKNOWN_TIME};
    use crate::sink::compress::Compression;

    fn encoder(key_field: Option<&str>, headers_chosen: ChosenTags) -> Encoder {
        Encoder {
            ndjson: Ndjson::default(),
            key_field: key_field.map(str::to_owned),
            headers_chosen,
            fields: Vec::new(),
            is_key: Vec::new(),
            tags: Arc::default(),
            head: None,
        }
    }

    fn tagged(lines: &[&str], path: &str) -> Batch {
        let mut batch = raw(lines, 0);
        batch.tags = Arc::new(vec![("path".into(), path.into()), ("host".into(), "n1".into())]);
        batch
    }

    #[test]
    fn a_body_has_all_of_each_record() {
        let mut encoder = encoder(None, ChosenTags::Named(vec!["path".into()]));
        let mut out = Records { wants_ends: true, ..Records::default() };
        let mut first = tagged(&["a", "b"], "/x");
        first.times = vec![5_000_000, UNKNOWN_TIME];
        first.marks = vec![Mark { event: 1, reason: "no".into() }];
        assert_eq!(encoder.encode(&first, 0, Room::ALL, &mut out), 2);
        assert_eq!(encoder.encode(&tagged(&["c"], "/y"), 0, Room::ALL, &mut out), 1);
        let body = out.seal(Some(Wrap::Around(wrap)), Compression::None);
        let plain = body.bytes.as_slice().to_vec();
        let show = |body: &[u8]| -> Vec<String> {
            let show = |record: Record| {
                let headers: Vec<_> = record.headers().map(|(n, v)| format!("{n}={}", v.escape_ascii())).collect();
                let [key, value] = [record.key, record.value].map(|bytes| bytes.escape_ascii().to_string());
                format!("{key} {} {headers:?} {}", record.time, value.replace('\\', ""))
            };
            records(body).unwrap().into_iter().map(show).collect()
        };
        let none = UNKNOWN_TIME;
        let expected = [
            r#"n1:/x 5000000 ["path=/x"] {"content":"a","__time__":"1970-01-01T00:00:00.005Z","__tags__":{"path":"/x","host":"n1"}}"#.to_owned(),
            format!(r#"n1:/x {none} ["path=/x"] {{"content":"b","__error__":"no","__tags__":{{"path":"/x","host":"n1"}}}}"#),
            format!(r#"n1:/y {none} ["path=/y"] {{"content":"c","__tags__":{{"path":"/y","host":"n1"}}}}"#),
        ];
        assert_eq!(show(&plain), expected);
        // And so has a part.
        let part = body.layout.part([1, 2], &plain);
        assert_eq!(show(part.bytes.as_slice()), expected[1..]);
        // What was cut is no body.
        let whole: Vec<_> = (0..plain.len()).filter(|end| records(&plain[..*end]).is_some()).collect();
        assert_eq!(whole.len(), 2, "{whole:?}");
    }

    #[test]
    fn a_field_may_be_the_key() {
        let mut encoder = encoder(Some("user"), ChosenTags::Named(Vec::new()));
        let mut batch = tagged(&["ann", "x"], "/x");
        batch.fields = [CONTENT, "user"].map(|name| Field { name: name.into(), kind: Kind::Text }).to_vec();
        batch.cells[0] = 1;
        let mut out = Records { wants_ends: true, ..Records::default() };
        encoder.encode(&batch, 0, Room::ALL, &mut out);
        let body = out.seal(Some(Wrap::Around(wrap)), Compression::None);
        let records = records(body.bytes.as_slice()).unwrap();
        assert_eq!(records.iter().map(|record| record.key).collect::<Vec<_>>(), [b"ann".as_slice(), b"n1:/x"]);
    }

    #[test]
    fn room_is_kept() {
        let lines: Vec<String> = (0..5000).map(|n| format!("{n} {}", "x".repeat(60))).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let batch = tagged(&lines, "/x");
        for room in
            [Room { bytes: 100_000, events: 7 }, Room { bytes: 150_000, events: 10_000 }, Room { bytes: 1, events: 9 }]
        {
            let mut encoder = encoder(None, ChosenTags::All);
            let (mut from, mut seen) = (0, 0);
            while from < batch.len() {
                let mut out = Records { wants_ends: true, ..Records::default() };
                from = encoder.encode(&batch, from, room, &mut out);
                assert!(out.events >= 1 && out.events <= room.events, "{room:?}");
                assert!(
                    out.events == 1 || out.bytes.len() < room.bytes + room.bytes / 2,
                    "{room:?}: {}",
                    out.bytes.len()
                );
                let body = out.seal(Some(Wrap::Around(wrap)), Compression::None);
                for record in records(body.bytes.as_slice()).unwrap() {
                    assert!(record.value.starts_with(
                        format!("{{\"content\":\"{} ", lines[seen].split(' ').next().unwrap()).as_bytes()
                    ));
                    seen += 1;
                }
            }
            assert_eq!(seen, 5000);
        }
    }
}
