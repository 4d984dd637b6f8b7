//! LogGroups, written from a batch's spans: events as Logs, tags as LogTags.
//!
//! All values are text to the service. Its fields have a name each: the second of one name in an event gets `_2`, the
//! third `_3`. A Log must have a time of 1970-01-01T00:00:01Z to 2106-02-07T06:28:15Z: an event without a time has
//! that of its encoding; one with another time too, and what it had as the field `__time__`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::super::ndjson::Text;
use super::super::protobuf::{Stamp, Writer, bytes_tag, fixed32_tag, put_bytes, put_varint, varint_len, varint_tag};
use super::super::records::{Encode, Group, Records, Room, Wrap};
use crate::event::{Batch, CELL, Field, Tags, UNKNOWN_TIME};

// Fields of a LogGroup.
const LOGS: u8 = 1;
const TOPIC: u8 = 3;
const SOURCE: u8 = 4;
const LOG_TAGS: u8 = 6;
// Of a Log.
const TIME: u8 = 1;
const CONTENTS: u8 = 2;
const TIME_NS: u8 = 4;
// Of a Content and a LogTag.
const KEY: u8 = 1;
const VALUE: u8 = 2;

/// What the service calls weir's tags.
const TAG_NAMES: [(&str, &str); 6] = [
    ("path", "__path__"),
    ("host", "__hostname__"),
    ("namespace", "_namespace_"),
    ("pod", "_pod_name_"),
    ("uid", "_pod_uid_"),
    ("container", "_container_name_"),
];

/// The tag by which the service finds the groups before and after one.
const PACK_ID: &str = "__pack_id__";

/// An encoder, which remembers the fields and tags of the last batch as they are written.
pub struct LogGroups {
    /// Whether a Log has the nanoseconds of its time.
    has_nanoseconds: bool,
    /// Topic and source, encoded.
    common: Vec<u8>,
    packs: Packs,
    fields: Vec<Field>,
    /// For each field a Content without its value: see [`content`].
    contents: Vec<Stamp>,
    /// Bytes of all these.
    size: usize,
    /// Whether fields have different names.
    are_different: bool,
    /// For each field, the first of its name.
    first: Vec<u32>,
    /// For each field that is the first of its name, the last event that had it.
    seen: Vec<u64>,
    /// Events that were looked at.
    looked_at: u64,
    tags: Option<Arc<Tags>>,
    /// What the group has beside its Logs, but for its pack ID.
    head: Arc<[u8]>,
    /// The beginning of the group's pack ID.
    pack: u64,
}

impl LogGroups {
    /// `seed` is what no other encoder has.
    pub fn new(topic: &str, source: &str, has_nanoseconds: bool, seed: u64) -> Self {
        let mut common = Vec::new();
        put_bytes(&mut common, TOPIC, topic.as_bytes());
        put_bytes(&mut common, SOURCE, source.as_bytes());
        LogGroups {
            has_nanoseconds,
            common,
            packs: Packs { seed, next: HashMap::new() },
            fields: Vec::new(),
            contents: Vec::new(),
            size: 0,
            are_different: true,
            first: Vec::new(),
            seen: Vec::new(),
            looked_at: 0,
            tags: None,
            head: Arc::default(),
            pack: 0,
        }
    }

    /// Writes what is the same for all events of the batch, if it isn't what it was.
    fn prepare(&mut self, batch: &Batch) {
        if self.fields != batch.fields {
            self.fields.clone_from(&batch.fields);
            self.contents = batch.fields.iter().map(|field| content(&field.name)).collect();
            self.size = self.contents.iter().map(Stamp::len).sum();
            let mut known = HashMap::new();
            let first = (0..).zip(&batch.fields).map(|(index, field)| *known.entry(&field.name).or_insert(index));
            self.first = first.collect();
            self.are_different = known.len() == batch.fields.len();
            self.seen = vec![0; batch.fields.len()];
        }
        if !self.has_tags_of(batch) {
            let mut head = self.common.clone();
            for (name, value) in &*batch.tags {
                let known = TAG_NAMES.iter().find(|(ours, _)| ours == name);
                put_tag(&mut head, known.map_or(&**name, |(_, theirs)| *theirs), value);
            }
            self.head = head.into();
            let path = batch.tags.iter().find(|(name, _)| name == "path");
            self.pack = self.packs.of(path.map_or("", |(_, path)| path.as_str()));
            self.tags = Some(batch.tags.clone());
        }
    }

    fn has_tags_of(&self, batch: &Batch) -> bool {
        self.tags.as_ref().is_some_and(|tags| Arc::ptr_eq(tags, &batch.tags) || *tags == batch.tags)
    }

    /// How many bytes must be promised to an event, and whether no two of its cells have the same name.
    #[inline(always)]
    fn look_at(&mut self, cells: &[u32]) -> (usize, bool) {
        let (mut bytes, mut next, mut rises) = (0, 0, self.are_different);
        for cell in cells.chunks_exact(CELL) {
            rises &= cell[0] >= next;
            next = cell[0].saturating_add(1);
            bytes += (cell[2] - cell[1]) as usize;
        }
        let promised = Writer::PER_FIELD * (1 + cells.len() / CELL) + bytes;
        match rises {
            true => (promised + self.size, true),
            false => self.look_at_each(cells, promised),
        }
    }

    /// The same where the order of fields does not tell.
    #[inline(never)]
    fn look_at_each(&mut self, cells: &[u32], mut promised: usize) -> (usize, bool) {
        let mut is_plain = true;
        self.looked_at += 1;
        for cell in cells.chunks_exact(CELL) {
            let seen = &mut self.seen[self.first[cell[0] as usize] as usize];
            is_plain &= *seen != self.looked_at;
            *seen = self.looked_at;
            promised += self.contents[cell[0] as usize].len();
        }
        (promised, is_plain)
    }

    /// Writes cells as Contents. The Writer has room for `promised` bytes, as long as all are UTF-8.
    #[inline(always)]
    fn put_cells(&self, writer: &mut Writer, text: &Text, arena: &[u8], cells: &[u32], promised: usize) {
        for cell in cells.chunks_exact(CELL) {
            let content = &self.contents[cell[0] as usize];
            let (start, end) = (cell[1] as usize, cell[2] as usize);
            let len = end - start;
            if !text.is_utf8(start, end) {
                let value = String::from_utf8_lossy(&arena[start..end]);
                writer.reserve(promised + value.len());
                put_value(writer, content, value.as_bytes());
                continue;
            }
            // Of both lengths before it, each is a byte.
            let size = content.len() - 2 + len;
            if size >= 0x80 || !writer.filled(content, size as u8, len as u8) {
                put_head(writer, content, len);
            }
            writer.part(arena, start, end);
        }
    }

    /// The same where names may be there twice, with more fields behind.
    #[inline(never)]
    fn put_all(&self, writer: &mut Writer, arena: &[u8], cells: &[u32], more: &[(&str, &str)]) {
        let mut names = Names::default();
        let mut put = |name: &str, value: &str| {
            let content = content(&names.unique(name));
            writer.reserve(content.len() + value.len());
            put_value(writer, &content, value.as_bytes());
        };
        for cell in cells.chunks_exact(CELL) {
            let value = String::from_utf8_lossy(&arena[cell[1] as usize..cell[2] as usize]);
            put(&self.fields[cell[0] as usize].name, &value);
        }
        more.iter().for_each(|(name, value)| put(name, value));
    }
}

impl Encode for LogGroups {
    fn encode(&mut self, batch: &Batch, from: usize, room: Room, out: &mut Records) -> usize {
        self.prepare(batch);
        out.begin_group(&self.head);
        let now = Time::now();
        let text = Text::look_at(&batch.arena);
        let mut marks =
            batch.marks[batch.marks.partition_point(|mark| (mark.event as usize) < from)..].iter().peekable();
        let mut writer = Writer::new(&mut out.bytes);
        let end = batch.len().min(from.saturating_add(out.left(room)));
        let mut event = from;
        while event < end {
            let cells = batch.event(event);
            let (promised, is_plain) = self.look_at(cells);
            let stamp = batch.time(event);
            let (time, is_meant) = Time::of(stamp, now);
            let mark = marks.next_if(|mark| mark.event as usize == event);

            writer.reserve(promised);
            let log = writer.begin(LOGS);
            writer.byte(varint_tag(TIME));
            writer.varint(time.seconds.into());
            if is_plain && is_meant && mark.is_none() {
                self.put_cells(&mut writer, &text, &batch.arena, cells, promised);
            } else {
                let stamp =
                    (!is_meant).then(|| jiff::Timestamp::from_nanosecond(stamp.into()).unwrap_or_default().to_string());
                let stamp = stamp.iter().map(|stamp| ("__time__", &**stamp));
                let more: Vec<_> = stamp.chain(mark.map(|mark| ("__error__", &*mark.reason))).collect();
                self.put_all(&mut writer, &batch.arena, cells, &more);
                writer.reserve(0);
            }
            if self.has_nanoseconds {
                writer.byte(fixed32_tag(TIME_NS));
                writer.bytes(&time.nanoseconds.to_le_bytes());
            }
            writer.end(log);

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

    /// A group has one set of tags, and a request has one group.
    fn joins(&self, _open: &Records, batch: &Batch) -> bool {
        self.has_tags_of(batch)
    }

    fn wrap(&self) -> Option<Wrap> {
        Some(Wrap::Behind)
    }

    /// Numbers the group.
    fn seal(&mut self, groups: &mut [Group]) {
        for group in groups {
            let mut head = group.head.to_vec();
            put_tag(&mut head, PACK_ID, &self.packs.id(self.pack));
            group.head = head.into();
        }
    }
}

/// A Content's tag, a byte for its length, its key, the tag of its value, and a byte for its length.
fn content(name: &str) -> Stamp {
    let mut content = vec![bytes_tag(CONTENTS), 0];
    put_bytes(&mut content, KEY, name.as_bytes());
    content.extend([bytes_tag(VALUE), 0]);
    Stamp::new(content)
}

/// Writes what stands before a value of so many bytes.
fn put_head(writer: &mut Writer, content: &Stamp, len: usize) {
    let key = &content.as_slice()[2..content.len() - 1];
    writer.byte(bytes_tag(CONTENTS));
    writer.varint((key.len() + varint_len(len) + len) as u64);
    writer.bytes(key);
    writer.varint(len as u64);
}

fn put_value(writer: &mut Writer, content: &Stamp, value: &[u8]) {
    put_head(writer, content, value.len());
    writer.bytes(value);
}

fn put_tag(out: &mut Vec<u8>, name: &str, value: &str) {
    let mut tag = Vec::new();
    put_bytes(&mut tag, KEY, name.as_bytes());
    put_bytes(&mut tag, VALUE, value.as_bytes());
    out.push(bytes_tag(LOG_TAGS));
    put_varint(out, tag.len() as u64);
    out.extend_from_slice(&tag);
}

/// A Log's time.
#[derive(Clone, Copy)]
struct Time {
    /// Since the epoch, and not 0, which the service takes for none.
    seconds: u32,
    nanoseconds: u32,
}

impl Time {
    fn now() -> Time {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time { seconds: u32::try_from(now.as_secs()).unwrap_or(u32::MAX).max(1), nanoseconds: now.subsec_nanos() }
    }

    /// Of an event's Unix nanoseconds, and whether it is what they say.
    #[inline]
    fn of(stamp: i64, now: Time) -> (Time, bool) {
        const SECOND: i64 = 1_000_000_000;
        let (seconds, nanoseconds) = (stamp.div_euclid(SECOND), stamp.rem_euclid(SECOND) as u32);
        match u32::try_from(seconds) {
            Ok(seconds) if seconds > 0 => (Time { seconds, nanoseconds }, true),
            _ => (now, stamp == UNKNOWN_TIME),
        }
    }
}

/// The names of one event's fields.
#[derive(Default)]
struct Names {
    /// With the number that the next of the same name may have.
    used: HashMap<String, usize>,
}

impl Names {
    /// The name, or one like it that the event doesn't have yet.
    fn unique<'n>(&mut self, name: &'n str) -> Cow<'n, str> {
        let Some(number) = self.used.get(name).copied() else {
            self.used.insert(name.to_owned(), 2);
            return name.into();
        };
        let mut others = (number..).map(|number| (number, format!("{name}_{number}")));
        let free = others.find(|(_, other)| !self.used.contains_key(other));
        let (number, other) = free.expect("numbers do not end");
        self.used.insert(name.to_owned(), number + 1);
        self.used.insert(other.clone(), 2);
        other.into()
    }
}

/// Files whose numbers are remembered.
const MAX_FILES: usize = 1000;

/// Numbers the groups of each file, so that the service knows which follow each other.
struct Packs {
    seed: u64,
    /// For each file the number of its next group.
    next: HashMap<u64, u64>,
}

impl Packs {
    /// What the pack IDs of a file's groups begin with.
    fn of(&mut self, path: &str) -> u64 {
        if self.next.len() >= MAX_FILES {
            // Numbers begin again, so what is before them must be something else.
            self.seed = self.seed.wrapping_add(1);
            self.next.clear();
        }
        xxh3_64_with_seed(path.as_bytes(), self.seed)
    }

    fn id(&mut self, pack: u64) -> String {
        let next = self.next.entry(pack).or_default();
        let id = format!("{pack:016X}-{next:X}");
        *next += 1;
        id
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::super::super::compress::Compression;
    use super::*;
    use crate::event::testing::raw;
    use crate::event::{Kind, Mark};

    /// The schema as the vendor publishes it, for an independent library.
    mod sls {
        #[derive(Clone, PartialEq, prost::Message)]
        pub struct Pair {
            #[prost(string, required, tag = "1")]
            pub key: String,
            #[prost(string, required, tag = "2")]
            pub value: String,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub struct Log {
            #[prost(uint32, required, tag = "1")]
            pub time: u32,
            #[prost(message, repeated, tag = "2")]
            pub contents: Vec<Pair>,
            #[prost(fixed32, optional, tag = "4")]
            pub time_ns: Option<u32>,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub struct LogGroup {
            #[prost(message, repeated, tag = "1")]
            pub logs: Vec<Log>,
            #[prost(string, optional, tag = "3")]
            pub topic: Option<String>,
            #[prost(string, optional, tag = "4")]
            pub source: Option<String>,
            #[prost(message, repeated, tag = "6")]
            pub tags: Vec<Pair>,
        }
    }

    fn encoder() -> LogGroups {
        LogGroups::new("", "s", true, 7)
    }

    fn body(encoder: &mut LogGroups, records: &mut Records) -> Vec<u8> {
        encoder.seal(&mut records.groups);
        let body = records.seal(encoder.wrap(), Compression::None);
        body.layout.plain(body.bytes.as_slice()).unwrap().to_vec()
    }

    fn group(batch: &Batch) -> sls::LogGroup {
        let (mut encoder, mut records) = (encoder(), Records { wants_ends: true, ..Records::default() });
        assert_eq!(encoder.encode(batch, 0, Room::ALL, &mut records), batch.len());
        sls::LogGroup::decode(&*body(&mut encoder, &mut records)).unwrap()
    }

    /// `key=value` of each Content.
    fn contents(log: &sls::Log) -> Vec<String> {
        log.contents.iter().map(|pair| format!("{}={}", pair.key, pair.value)).collect()
    }

    fn with_fields(fields: &[&str], arena: &[u8], rows: &[u32], cells: &[u32]) -> Batch {
        let fields = fields.iter().map(|name| Field { name: (*name).into(), kind: Kind::Text }).collect();
        Batch { arena: arena.into(), fields, rows: rows.into(), cells: cells.into(), ..Batch::default() }
    }

    #[test]
    fn the_published_group() {
        let mut batch = with_fields(&["TestKey"], b"TestContent", &[1], &[0, 0, 11]);
        batch.times = vec![1_405_409_656_000_000_000];
        let mut encoder = LogGroups::new("", "10.230.201.117", false, 0);
        let mut records = Records { wants_ends: true, ..Records::default() };
        encoder.encode(&batch, 0, Room::ALL, &mut records);
        let body = records.seal(encoder.wrap(), Compression::None);
        let expected =
            b"\x0a\x1e\x08\xf8\xb2\x93\x9e\x05\x12\x16\x0a\x07TestKey\x12\x0bTestContent\x1a\0\x22\x0e10.230.201.117";
        assert_eq!(body.bytes.as_slice(), expected);
        assert_eq!(expected.len(), 50);
    }

    #[test]
    fn an_event_has_its_cells_and_a_group_has_tags() {
        let long = "x".repeat(40_000);
        let mut batch = raw(&["one", &long, "", "é"], 0);
        batch.times =
            vec![1_136_214_245_250_000_000, i64::from(u32::MAX) * 1_000_000_000, 1_000_000_001, 2_000_000_000];
        batch.tags =
            Arc::new(vec![("path".into(), "/a".into()), ("host".into(), "h".into()), ("zone".into(), "z".into())]);
        let group = group(&batch);
        let logs: Vec<_> = group.logs.iter().map(|log| (log.time, log.time_ns, contents(log).join(" "))).collect();
        assert_eq!(
            logs,
            [
                (1_136_214_245, Some(250_000_000), "content=one".to_owned()),
                (u32::MAX, Some(0), format!("content={long}")),
                (1, Some(1), "content=".to_owned()),
                (2, Some(0), "content=é".to_owned()),
            ]
        );
        assert_eq!((group.topic.as_deref(), group.source.as_deref()), (Some(""), Some("s")));
        let tags: Vec<_> = group.tags.iter().map(|pair| format!("{}={}", pair.key, pair.value)).collect();
        let pack = format!("__pack_id__={:016X}-0", xxh3_64_with_seed(b"/a", 7));
        assert_eq!(tags, ["__path__=/a", "__hostname__=h", "zone=z", &pack]);
    }

    #[test]
    fn a_time_that_cannot_be_is_now_and_stays_as_a_field() {
        let mut batch = raw(&["a", "b", "c", "d"], 0);
        batch.times = vec![UNKNOWN_TIME, 999_999_999, -1, (i64::from(u32::MAX) + 1) * 1_000_000_000];
        let before = Time::now().seconds;
        let logs = group(&batch).logs;
        assert!(logs.iter().all(|log| (before..before + 60).contains(&log.time) && log.time_ns == logs[0].time_ns));
        assert_eq!(
            logs.iter().map(contents).collect::<Vec<_>>(),
            [
                vec!["content=a"],
                vec!["content=b", "__time__=1970-01-01T00:00:00.999999999Z"],
                vec!["content=c", "__time__=1969-12-31T23:59:59.999999999Z"],
                vec!["content=d", "__time__=2106-02-07T06:28:16Z"],
            ]
        );
    }

    #[test]
    fn names_are_there_once_and_failures_are_marked() {
        let fields = ["a", "b", "a", "a_2", "__error__"];
        let mut batch = with_fields(
            &fields,
            b"1234",
            &[0, 2, 6, 8],
            &[1, 0, 1, 0, 1, 2, 0, 0, 1, 2, 1, 2, 0, 2, 3, 3, 3, 4, 4, 0, 1, 1, 1, 1],
        );
        batch.marks = vec![Mark { event: 3, reason: "p: no".into() }];
        let events: Vec<_> = group(&batch).logs.iter().map(contents).collect();
        let expected: [&[&str]; 4] =
            [&[], &["b=1", "a=2"], &["a=1", "a_2=2", "a_3=3", "a_2_2=4"], &["__error__=1", "b=", "__error___2=p: no"]];
        assert_eq!(events, expected);
        // Fields of different names, one of them twice.
        batch.fields.truncate(2);
        (batch.rows, batch.cells, batch.marks) = (vec![3], vec![0, 0, 1, 1, 1, 2, 0, 2, 3], Vec::new());
        assert_eq!(contents(&group(&batch).logs[0]), ["a=1", "b=2", "a_2=3"]);
    }

    #[test]
    fn what_is_not_utf8_is_replaced_cell_by_cell() {
        let arena = b"gr\xc3\xbc \xff!\xff\xff\xff\xff";
        let batch = with_fields(&["a", "b"], arena, &[2, 4], &[0, 0, 4, 1, 4, 7, 0, 0, 3, 1, 7, 11]);
        let events: Vec<_> = group(&batch).logs.iter().map(contents).collect();
        assert_eq!(events, [["a=grü", "b= \u{fffd}!"], ["a=gr\u{fffd}", "b=\u{fffd}\u{fffd}\u{fffd}\u{fffd}"]]);
        // Replacements take more bytes than what was there.
        let arena = vec![0xff; 100_000];
        let cells: Vec<u32> = (0..10).flat_map(|i| [i, i * 10_000, (i + 1) * 10_000]).collect();
        let names: Vec<_> = (0..10).map(|i| i.to_string()).collect();
        let batch = with_fields(&names.iter().map(|name| &**name).collect::<Vec<_>>(), &arena, &[10], &cells);
        let log = &group(&batch).logs[0];
        assert!(log.contents.iter().all(|pair| pair.value == "\u{fffd}".repeat(10_000)) && log.contents.len() == 10);
    }

    #[test]
    fn groups_of_a_file_are_numbered_and_files_are_apart() {
        let mut one = raw(&["a", "b", "c"], 0);
        one.tags = Arc::new(vec![("path".into(), "/1".into())]);
        let same = Batch { tags: Arc::new((*one.tags).clone()), ..raw(&["d"], 3) };
        let other = Batch { tags: Arc::new(vec![("path".into(), "/2".into())]), ..raw(&["e"], 0) };
        let (mut encoder, mut records) = (encoder(), Records { wants_ends: true, ..Records::default() });
        let mut pack = |encoder: &mut LogGroups, batch: &Batch, from, room| {
            let end = encoder.encode(batch, from, room, &mut records);
            (end, sls::LogGroup::decode(&*body(encoder, &mut records)).unwrap().tags.last().unwrap().value.clone())
        };
        let (end, first) = pack(&mut encoder, &one, 0, Room { bytes: usize::MAX, events: 2 });
        assert_eq!((end, first.len()), (2, 18));
        assert!(encoder.joins(&Records::default(), &one) && encoder.joins(&Records::default(), &same));
        assert!(!encoder.joins(&Records::default(), &other));
        let prefix = first.strip_suffix("-0").unwrap();
        assert_eq!(pack(&mut encoder, &one, 2, Room::ALL), (3, format!("{prefix}-1")));
        let (_, of_other) = pack(&mut encoder, &other, 0, Room::ALL);
        assert!(of_other.ends_with("-0") && !of_other.starts_with(prefix));
        for n in 2..30 {
            assert_eq!(pack(&mut encoder, &same, 0, Room::ALL), (1, format!("{prefix}-{n:X}")));
        }
        // Those of an agent that was started again are others.
        let (mut again, mut records) =
            (LogGroups::new("", "s", true, 8), Records { wants_ends: true, ..Records::default() });
        again.encode(&one, 0, Room::ALL, &mut records);
        let group = sls::LogGroup::decode(&*body(&mut again, &mut records)).unwrap();
        assert!(!group.tags.last().unwrap().value.starts_with(prefix));
    }

    #[test]
    fn a_batch_that_has_no_room_is_encoded_in_parts() {
        let mut batch = raw(&["a", "b", "c", "d"], 0);
        batch.marks = [1, 3].map(|event| Mark { event, reason: "no".into() }).into();
        let whole: Vec<_> = group(&batch).logs.iter().map(contents).collect();
        for room in [Room { bytes: 1, events: 9 }, Room { bytes: 40, events: 9 }, Room { bytes: 999, events: 3 }] {
            let (mut parts, mut from) = (Vec::new(), 0);
            let mut encoder = encoder();
            while from < batch.len() {
                let mut records = Records { wants_ends: true, ..Records::default() };
                from = encoder.encode(&batch, from, room, &mut records);
                assert!(records.events > 0 && records.events <= room.events);
                let body = body(&mut encoder, &mut records);
                parts.extend(sls::LogGroup::decode(&*body).unwrap().logs.iter().map(contents));
            }
            assert_eq!(parts, whole);
        }
    }
}
