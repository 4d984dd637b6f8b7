//! One JSON object a line: an event's fields in their order, then `__time__`, `__error__` and `__tags__`.
//!
//! A cell of kind `integer`, `float`, `boolean` or `json` is written as it stands if it really is that in JSON,
//! and as a string if not. Bytes that are not UTF-8 become U+FFFD.
//!
//! A [`Style`] says what is different for other destinations that take JSON objects.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::de::IgnoredAny;
use wide::u8x16;

use super::Buffer;
use super::records::{Encode, Records, Room, Wrap};
use crate::event::{Batch, CELL, Field, Kind, Tags, UNKNOWN_TIME};

/// Bytes that are copied and looked at at once.
const BLOCK: usize = 16;

/// The member that says why an event failed.
const ERROR: &str = "__error__";

/// How events are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Style {
    /// Stands before each event, if it is not empty.
    pub before: Vec<u8>,
    /// The name of the time's member.
    pub time: String,
    /// Whether an event whose time is unknown has the time at which it is written.
    pub is_always_timed: bool,
    /// The name of the tags' member.
    pub tags: String,
    /// How the tags are written.
    pub tags_as: TagsAs,
    /// Whether no two members of an event may have the same name. Of those that would, the later ones get a number:
    /// `name_2`; and an event's own field is kept, where it has one of the time's name.
    pub names_are_unique: bool,
}

/// How tags are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagsAs {
    /// An object of strings.
    Object,
    /// A string, which is such an object in JSON.
    Text,
}

impl Default for Style {
    fn default() -> Self {
        Style {
            before: Vec::new(),
            time: "__time__".to_owned(),
            is_always_timed: false,
            tags: "__tags__".to_owned(),
            tags_as: TagsAs::Object,
            names_are_unique: false,
        }
    }
}

/// An encoder, which remembers the fields and tags of the last batch as they are written.
#[derive(Default)]
pub struct Ndjson {
    /// Whether events are the elements of an array.
    is_array: bool,
    style: Style,
    /// Whether times and tags are left out.
    is_bare: bool,
    fields: Vec<Field>,
    /// What stands before the values of each field.
    prefixes: Vec<Prefix>,
    names: Names,
    tags: Arc<Tags>,
    /// What ends an event: its tags, a brace and a newline.
    suffix: Vec<u8>,
    clock: Clock,
}

impl Encode for Ndjson {
    fn encode(&mut self, batch: &Batch, from: usize, room: Room, out: &mut Records) -> usize {
        self.prepare(batch);
        if self.is_array && out.groups.is_empty() {
            out.begin_group(&Arc::default());
        }
        let text = Text::look_at(&batch.arena);
        let now = if self.style.is_always_timed { now() } else { UNKNOWN_TIME };
        let mut marks =
            batch.marks[batch.marks.partition_point(|mark| (mark.event as usize) < from)..].iter().peekable();
        let mut line = Line { room: std::mem::take(&mut out.bytes.room), len: out.bytes.len, promised: 0 };
        let end = batch.len().min(from.saturating_add(out.left(room)));
        let mut event = from;
        while event < end {
            if !self.style.before.is_empty() {
                line.put(&self.style.before);
            }
            let begun = line.len;
            let cells = batch.event(event);
            let (mut has_twins, mut has_time) = (false, false);
            if self.style.names_are_unique {
                (has_twins, has_time) = self.names.look_at(cells);
            }
            line.promise(cells.chunks_exact(CELL).map(|cell| (cell[2] - cell[1]) as usize + PER_CELL).sum());
            if has_twins {
                let renamed = self.names.rename(&self.fields, cells, &self.style);
                for (cell, renamed) in cells.chunks_exact(CELL).zip(&renamed) {
                    line.put_cell(&text, renamed.as_ref().unwrap_or(&self.prefixes[cell[0] as usize]), cell);
                }
            } else {
                for cell in cells.chunks_exact(CELL) {
                    line.put_cell(&text, &self.prefixes[cell[0] as usize], cell);
                }
            }
            let time = match batch.time(event) {
                UNKNOWN_TIME => now,
                time => time,
            };
            if time != UNKNOWN_TIME && !has_time && !self.is_bare {
                line.put(self.clock.member(time));
            }
            if let Some(mark) = marks.next_if(|mark| mark.event as usize == event) {
                line.put(b",\"__error__\":\"");
                line.reserve(mark.reason.len());
                line.put_text(&Text::look_at(mark.reason.as_bytes()), 0, mark.reason.len());
            }
            line.put(&self.suffix);
            line.open(begun, self.suffix.len());
            event += 1;
            if out.wants_ends {
                out.ends.push(line.len as u32);
            }
            if line.len >= room.bytes {
                break;
            }
        }
        out.bytes = Buffer { room: line.room, len: line.len };
        out.events += event - from;
        event
    }

    fn forget(&mut self) {
        (self.fields, self.prefixes, self.suffix) = (Vec::new(), Vec::new(), Vec::new());
        self.clock = Clock::default();
    }

    fn wrap(&self) -> Option<Wrap> {
        self.is_array.then_some(Wrap::Around(wrap_array))
    }
}

/// An array of events, each of which begins with a comma: the first one's gives way to a space.
fn wrap_array(_: &[u8], events: &[u8], out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(b"[ ");
    out.extend_from_slice(&events[1..]);
    out.extend_from_slice(b"]\n");
    1
}

impl Ndjson {
    /// Writes events as the elements of a JSON array, with what stands around them.
    pub fn array() -> Self {
        Ndjson { is_array: true, ..Ndjson::with(Style { before: b",".to_vec(), ..Style::default() }) }
    }

    /// Writes events in that style.
    pub fn with(style: Style) -> Self {
        Ndjson { clock: Clock::new(&style.time), style, ..Ndjson::default() }
    }

    /// Writes lines without what is not in the event itself: its time and tags.
    pub fn bare() -> Self {
        Ndjson { is_bare: true, ..Ndjson::default() }
    }

    /// All of a batch, as lines.
    pub fn lines(&mut self, batch: &Batch) -> Buffer {
        let mut out = Records::default();
        let _ = self.encode(batch, 0, Room::ALL, &mut out);
        out.bytes
    }

    /// Writes what is the same for all events of the batch, if it isn't what it was.
    fn prepare(&mut self, batch: &Batch) {
        if self.fields != batch.fields {
            self.fields.clone_from(&batch.fields);
            self.prefixes = batch.fields.iter().map(|field| Prefix::new(&field.name, field.kind)).collect();
            if self.style.names_are_unique {
                self.names = Names::new(&batch.fields, &self.style);
            }
        }
        if self.suffix.is_empty() || !Arc::ptr_eq(&self.tags, &batch.tags) {
            self.tags = batch.tags.clone();
            self.suffix = suffix(if self.is_bare { &[] } else { &batch.tags }, &self.style);
        }
    }
}

/// Bytes of a prefix that are copied whatever its length is.
const SHORT: usize = 2 * BLOCK;

/// What stands before a value: `,"name":` and, for text, the opening quote.
struct Prefix {
    kind: Kind,
    len: usize,
    /// The prefix, if it is short, and then anything.
    short: [u8; SHORT],
    whole: Vec<u8>,
}

impl Prefix {
    fn new(name: &str, kind: Kind) -> Self {
        let mut whole = b",".to_vec();
        whole.extend(json_string(name));
        whole.extend_from_slice(if kind == Kind::Text { b":\"" } else { b":" });
        let mut short = [0; SHORT];
        let len = whole.len();
        short[..len.min(SHORT)].copy_from_slice(&whole[..len.min(SHORT)]);
        Prefix { kind, len, short, whole }
    }
}

/// Which fields have the same name. An event may have a field twice, also by two fields of different kinds.
#[derive(Default)]
struct Names {
    /// For each field, the first of its name.
    first: Vec<u32>,
    /// For each field that is the first of its name, the last event that had it.
    seen: Vec<u64>,
    /// Events that were looked at.
    event: u64,
    /// The field that has the name of the time's member.
    time: Option<u32>,
    /// Whether a field has the name of a member that weir adds.
    is_reserved: Vec<bool>,
}

impl Names {
    fn new(fields: &[Field], style: &Style) -> Self {
        let mut known = HashMap::new();
        let first = (0..).zip(fields).map(|(index, field)| *known.entry(&*field.name).or_insert(index)).collect();
        Names {
            first,
            seen: vec![0; fields.len()],
            event: 0,
            time: known.get(&*style.time).copied(),
            is_reserved: fields.iter().map(|field| *field.name == style.tags || &*field.name == ERROR).collect(),
        }
    }

    /// Whether a name of the event is not the only one, or that of a member that weir adds; and whether it has a field
    /// of the time's name.
    fn look_at(&mut self, cells: &[u32]) -> (bool, bool) {
        self.event += 1;
        let mut has_twins = false;
        for cell in cells.chunks_exact(CELL) {
            let field = self.first[cell[0] as usize] as usize;
            has_twins |= self.seen[field] == self.event || self.is_reserved[field];
            self.seen[field] = self.event;
        }
        (has_twins, self.time.is_some_and(|field| self.seen[field as usize] == self.event))
    }

    /// What stands before each cell that cannot have its own name.
    #[cold]
    fn rename(&self, fields: &[Field], cells: &[u32], style: &Style) -> Vec<Option<Prefix>> {
        let names = || cells.chunks_exact(CELL).map(|cell| &fields[cell[0] as usize]);
        // No name that an event has itself is given to another of its cells.
        let own: HashSet<&str> = names().map(|field| &*field.name).collect();
        let mut taken: HashSet<String> = [ERROR.to_owned(), style.tags.clone()].into();
        let mut rename = |field: &Field| {
            if taken.insert(field.name.to_string()) {
                return None;
            }
            let numbered = (2..).map(|number: u64| format!("{}_{number}", field.name));
            let mut free = numbered.filter(|name| !own.contains(&**name) && !taken.contains(name));
            let name = free.next().expect("there are more numbers than cells");
            let prefix = Prefix::new(&name, field.kind);
            taken.insert(name);
            Some(prefix)
        };
        names().map(&mut rename).collect()
    }
}

/// Nanoseconds since 1970.
fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(UNKNOWN_TIME)
}

fn suffix(tags: &[(String, String)], style: &Style) -> Vec<u8> {
    let mut object = Vec::new();
    for (i, (name, value)) in tags.iter().enumerate() {
        object.push(if i == 0 { b'{' } else { b',' });
        object.extend(json_string(name));
        object.push(b':');
        object.extend(json_string(value));
    }
    let mut suffix = Vec::new();
    if !tags.is_empty() {
        object.push(b'}');
        suffix.push(b',');
        suffix.extend(json_string(&style.tags));
        suffix.push(b':');
        match style.tags_as {
            TagsAs::Object => suffix.extend(object),
            TagsAs::Text => suffix.extend(json_string(&String::from_utf8_lossy(&object))),
        }
    }
    suffix.extend_from_slice(b"}\n");
    suffix
}

fn json_string(text: &str) -> Vec<u8> {
    serde_json::to_vec(text).expect("a string can be written")
}

/// Bytes that cells point into, and what is known of all of them.
pub(super) struct Text<'a> {
    pub(super) bytes: &'a [u8],
    encoding: Encoding<'a>,
}

#[derive(Clone, Copy)]
enum Encoding<'a> {
    Ascii,
    /// A cell is UTF-8 if it begins and ends between characters.
    Utf8(&'a str),
    Unknown,
}

impl<'a> Text<'a> {
    pub(super) fn look_at(bytes: &'a [u8]) -> Self {
        let encoding = match bytes.is_ascii() {
            true => Encoding::Ascii,
            false => simdutf8::basic::from_utf8(bytes).map_or(Encoding::Unknown, Encoding::Utf8),
        };
        Text { bytes, encoding }
    }

    #[inline]
    pub(super) fn is_utf8(&self, start: usize, end: usize) -> bool {
        match self.encoding {
            Encoding::Ascii => true,
            Encoding::Utf8(text) => text.is_char_boundary(start) && text.is_char_boundary(end),
            Encoding::Unknown => simdutf8::basic::from_utf8(&self.bytes[start..end]).is_ok(),
        }
    }
}

/// Bytes of an event for each cell beside its value: its prefix, and the block that its value may end in.
const PER_CELL: usize = SHORT + 2 * BLOCK;

/// A buffer that has room for what is promised to the open event, so that a cell need not ask for it, and whole
/// blocks can be copied into it.
struct Line {
    room: Vec<u8>,
    len: usize,
    promised: usize,
}

impl Line {
    /// Makes room for an event of so many bytes, as long as nothing in it has to be escaped.
    #[inline]
    fn promise(&mut self, bytes: usize) {
        self.promised = bytes + 2 * BLOCK;
        self.reserve(0);
    }

    /// Makes room for so many bytes beside what was promised.
    #[inline]
    fn reserve(&mut self, bytes: usize) {
        let needed = self.len + bytes + self.promised;
        if self.room.len() < needed {
            self.grow(needed);
        }
    }

    #[cold]
    fn grow(&mut self, needed: usize) {
        let len = needed.max(self.room.capacity()).max(self.room.len() * 2);
        self.room.resize(len, 0);
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.room[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    #[inline(always)]
    fn put_prefix(&mut self, prefix: &Prefix) {
        if prefix.len <= SHORT {
            self.room[self.len..][..SHORT].copy_from_slice(&prefix.short);
            self.len += prefix.len;
        } else {
            self.put(&prefix.whole);
        }
    }

    #[inline(always)]
    fn put_cell(&mut self, text: &Text, prefix: &Prefix, cell: &[u32]) {
        let (start, end) = (cell[1] as usize, cell[2] as usize);
        self.put_prefix(prefix);
        match prefix.kind {
            Kind::Text => self.put_text(text, start, end),
            kind => self.put_value(text, kind, start, end),
        }
    }

    #[inline]
    fn put_byte(&mut self, byte: u8) {
        self.room[self.len] = byte;
        self.len += 1;
    }

    /// Writes the brace that opens the event which begins there: over the comma of its first member, if it has
    /// one. All of its members begin with a comma; `suffix` ends it.
    #[inline]
    fn open(&mut self, begun: usize, suffix: usize) {
        if self.room[begun] != b',' {
            self.reserve(1);
            self.room.copy_within(begun..begun + suffix, begun + 1);
            self.len += 1;
        }
        self.room[begun] = b'{';
    }

    /// Writes a JSON string without its opening quote.
    #[inline(always)]
    fn put_text(&mut self, text: &Text, start: usize, end: usize) {
        if text.is_utf8(start, end) {
            self.put_utf8(text.bytes, start, end);
        } else {
            let replaced = String::from_utf8_lossy(&text.bytes[start..end]);
            self.reserve(replaced.len());
            self.put_slowly(replaced.as_bytes());
        }
    }

    /// Copies block by block as long as nothing has to be escaped.
    #[inline(always)]
    fn put_utf8(&mut self, bytes: &[u8], mut at: usize, end: usize) {
        while let Some(block) = bytes.get(at..at + BLOCK) {
            let block: &[u8; BLOCK] = block.try_into().expect("a block has its length");
            self.room[self.len..][..BLOCK].copy_from_slice(block);
            let clean = escapes(block).trailing_zeros() as usize;
            if end - at <= clean.min(BLOCK) {
                self.len += end - at;
                self.put_byte(b'"');
                return;
            }
            if clean < BLOCK {
                break;
            }
            self.len += BLOCK;
            at += BLOCK;
        }
        self.put_slowly(&bytes[at..end]);
    }

    /// As [`Line::put_utf8`], where something has to be escaped, or there is no whole block to look at.
    #[inline(never)]
    fn put_slowly(&mut self, bytes: &[u8]) {
        let mut at = 0;
        self.reserve(bytes.len());
        while let Some(block) = bytes.get(at..at + BLOCK) {
            let block: &[u8; BLOCK] = block.try_into().expect("a block has its length");
            self.room[self.len..][..BLOCK].copy_from_slice(block);
            let clean = (escapes(block).trailing_zeros() as usize).min(BLOCK);
            self.len += clean;
            at += clean;
            if clean < BLOCK {
                self.put_escaped(bytes[at]);
                at += 1;
                self.reserve(bytes.len() - at);
            }
        }
        for byte in &bytes[at..] {
            match byte {
                0..0x20 | b'"' | b'\\' => self.put_escaped(*byte),
                _ => self.put(&[*byte]),
            }
        }
        self.put_byte(b'"');
    }

    fn put_escaped(&mut self, byte: u8) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let short = match byte {
            b'"' | b'\\' => byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            _ => {
                let code = [b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                return self.put(&code);
            }
        };
        self.put(&[b'\\', short]);
    }

    /// Writes a cell that claims to be something else than text.
    fn put_value(&mut self, text: &Text, kind: Kind, start: usize, end: usize) {
        let bytes = &text.bytes[start..end];
        let is_so = match kind {
            Kind::Text => false,
            Kind::Integer => integer(bytes) == Some(bytes.len()),
            Kind::Float => is_number(bytes),
            Kind::Boolean => matches!(bytes, b"true" | b"false"),
            Kind::Json => text.is_utf8(start, end) && is_json(bytes),
        };
        if !is_so {
            self.put(b"\"");
            self.put_text(text, start, end);
        } else if kind == Kind::Json && memchr::memchr2(b'\n', b'\r', bytes).is_some() {
            // A line break in valid JSON is white space.
            let line: Vec<u8> = bytes.iter().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { *b }).collect();
            self.put(&line);
        } else {
            self.put_short(bytes);
        }
    }

    /// As [`Line::put`]; numbers are shorter than a block.
    #[inline]
    fn put_short(&mut self, bytes: &[u8]) {
        if bytes.len() <= 8 {
            for (to, from) in self.room[self.len..][..8].iter_mut().zip(bytes) {
                *to = *from;
            }
            self.len += bytes.len();
        } else {
            self.put(bytes);
        }
    }
}

/// A bit for each byte of the block that cannot stand in a JSON string.
#[inline]
fn escapes(block: &[u8; BLOCK]) -> u32 {
    let bytes = u8x16::new(*block);
    let control = bytes.max(u8x16::splat(0x1f)).simd_eq(u8x16::splat(0x1f));
    let quote = bytes.simd_eq(u8x16::splat(b'"'));
    let backslash = bytes.simd_eq(u8x16::splat(b'\\'));
    (control | quote | backslash).to_bitmask()
}

/// Where the integer ends with which the bytes begin.
pub(super) fn integer(bytes: &[u8]) -> Option<usize> {
    let sign = usize::from(bytes.first() == Some(&b'-'));
    let digits = bytes[sign..].iter().take_while(|b| b.is_ascii_digit()).count();
    let is_sound = digits == 1 || digits > 1 && bytes[sign] != b'0';
    is_sound.then_some(sign + digits)
}

/// Whether the bytes are a value of JSON that all parsers take.
fn is_json(bytes: &[u8]) -> bool {
    // What is skipped may have half of a surrogate pair as an escape; what is read may not.
    match memchr::memmem::find(bytes, b"\\u").is_none() {
        true => serde_json::from_slice::<IgnoredAny>(bytes).is_ok(),
        false => serde_json::from_slice::<serde_json::Value>(bytes).is_ok(),
    }
}

/// Whether the bytes are a number of JSON.
pub(super) fn is_number(bytes: &[u8]) -> bool {
    let Some(mut at) = integer(bytes) else { return false };
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    if bytes.get(at) == Some(&b'.') {
        match digits(at + 1) {
            0 => return false,
            count => at += 1 + count,
        }
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        match digits(at + 1 + sign) {
            0 => return false,
            count => at += 1 + sign + count,
        }
    }
    at == bytes.len()
}

/// Times as RFC 3339, remembering the last second.
struct Clock {
    second: i64,
    /// `,"__time__":"`.
    name: Vec<u8>,
    /// That and the time to the second.
    text: Vec<u8>,
    /// Bytes of it that are for the second; the rest is the fraction, the zone and the quote.
    whole: usize,
    nanosecond: i64,
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new(&Style::default().time)
    }
}

impl Clock {
    /// For a member of that name.
    fn new(name: &str) -> Self {
        let name = [b",", &*json_string(name), b":\""].concat();
        Clock { second: i64::MIN, name, text: Vec::new(), whole: 0, nanosecond: 0 }
    }

    /// The member `,"__time__":"…"`. `time` is in Unix nanoseconds; the fraction has the digits that it needs.
    fn member(&mut self, time: i64) -> &[u8] {
        const SECOND: i64 = 1_000_000_000;
        let (second, nanosecond) = (time.div_euclid(SECOND), time.rem_euclid(SECOND));
        if second == self.second && nanosecond == self.nanosecond {
            return &self.text;
        }
        if second != self.second {
            // An i64 of nanoseconds ends in the year 2262, within what a timestamp can be.
            let stamp = jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string();
            self.text.clear();
            self.text.extend_from_slice(&self.name);
            self.text.extend_from_slice(stamp.trim_end_matches('Z').as_bytes());
            self.whole = self.text.len();
        }
        (self.second, self.nanosecond) = (second, nanosecond);
        self.text.truncate(self.whole);
        if nanosecond > 0 {
            let digits = format!(".{nanosecond:09}");
            self.text.extend_from_slice(digits.trim_end_matches('0').as_bytes());
        }
        self.text.extend_from_slice(b"Z\"");
        &self.text
    }
}

#[cfg(test)]
mod tests;
