//! One file, from a place on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::CHUNK;
use super::decode::{Decoder, Table};
use super::disk::{Bytes, Done, Meta};
use super::framing::{Framed, Framing, Input, Map, Memory};
use super::gzip::{self, Gzip};
use super::identity::{FileId, HEAD, Position, Seen, Stamp};
use super::place::{Place, Rest};
use super::rotation::is_gzip;
use crate::event::{Batch, CONTENT, Field, Kind, Tags};

/// Bytes that are decompressed in one turn to get to where reading goes on.
const SKIP: usize = 4 << 20;

/// Which file events are of; the same as long as it has the same name.
#[derive(Clone, Debug)]
pub struct Name {
    /// Which file it is.
    pub id: FileId,
    /// When it was made.
    pub born: Option<i64>,
    /// Where it was last found.
    pub path: PathBuf,
}

impl Name {
    /// What is remembered of the file when all up to a place is settled.
    pub fn position(&self, place: Place, stamp: Stamp) -> Position {
        Position { place, stamp, born: self.born, path: self.path.to_string_lossy().into_owned(), gone: None }
    }
}

/// What one read gave: events of one file, and where in the file they are. Its memory is used again.
pub struct Chunk {
    /// The events, raw.
    pub batch: Batch,
    /// Which file, in which of its lives; from the source.
    pub key: u64,
    /// The file.
    pub name: Option<Arc<Name>>,
    /// For each event, the file's offset where it begins.
    pub starts: Vec<u64>,
    /// For each event of a container's log, its stream; empty for others.
    pub streams: Vec<u8>,
    /// Where reading goes on after the last event.
    pub end: Place,
    /// What the file looked like up to where it was read.
    pub stamp: Stamp,
    /// Whether everything has been read that the file had.
    pub at_end: bool,
    /// Bytes that events were made of, or that were discarded.
    pub bytes: u64,
    /// What was made of them.
    pub framed: Framed,
    /// Lines with bytes that are not valid in their encoding.
    pub invalid: u64,
    /// Bytes as they are in the file, where they need to be decoded.
    raw: Vec<u8>,
    map: Map,
}

impl Default for Chunk {
    fn default() -> Self {
        let content = Field { name: CONTENT.into(), kind: Kind::Text };
        Chunk {
            batch: Batch { fields: vec![content], ..Batch::default() },
            key: 0,
            name: None,
            starts: Vec::new(),
            streams: Vec::new(),
            end: Place::default(),
            stamp: Stamp::default(),
            at_end: false,
            bytes: 0,
            framed: Framed::default(),
            invalid: 0,
            raw: Vec::new(),
            map: Map::Plain { base: 0 },
        }
    }
}

impl Chunk {
    /// Where to go on if all before the event of that number is settled, and it is not; if it is in this chunk.
    pub fn place_of(&self, number: u64) -> Option<Place> {
        let index = usize::try_from(number.checked_sub(self.batch.first)?).ok()?;
        let start = *self.starts.get(index)?;
        if self.streams.is_empty() {
            return Some(Place::at(start));
        }
        let first_of = |stream: u8| {
            let later = self.starts[index..].iter().zip(&self.streams[index..]);
            let first = later.filter(|(_, of)| **of == stream).map(|(start, _)| *start).next();
            first.unwrap_or_else(|| self.end.read[usize::from(stream)].max(self.end.offset))
        };
        let read = [first_of(0), first_of(1)];
        Some(Place { offset: read[0].min(read[1]), read, ..Place::default() })
    }

    /// No events, of a file that is not read: `number` is that of the next event.
    pub fn clear(&mut self, key: u64, number: u64, end: Place, stamp: Stamp) {
        self.batch.clear();
        (self.key, self.batch.first, self.end, self.stamp) = (key, number, end, stamp);
        self.starts.clear();
        self.streams.clear();
        (self.framed, self.bytes, self.invalid) = (Framed::default(), 0, 0);
    }
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// The chunk is filled, perhaps with no events.
    Chunk,
    /// The bytes before the place are not what they were: the file was truncated, and perhaps written again.
    Other,
}

/// A file that is read.
pub struct Reader {
    /// Not here while it is closed to save descriptors.
    file: Option<Box<dyn Bytes>>,
    gzip: Option<Gzip>,
    decoder: Decoder,
    name: Arc<Name>,
    /// Where it was before it got the name that it has.
    former: PathBuf,
    tags: Arc<Tags>,
    key: u64,
    /// Bytes of the content read so far; equals the offset after the last complete event, or line.
    offset: u64,
    /// The bytes before the offset.
    seen: Seen,
    memory: Memory,
    /// Bytes after the offset that are no complete event yet: if the file is truncated, they are all that is left. Empty if
    /// there is no room for them.
    rest: Vec<u8>,
    /// How many of them there are.
    rest_len: usize,
    /// Number of the next event.
    next_event: u64,
    /// The file's size as far as it was looked at.
    len: u64,
    /// When the bytes after the offset were last found to have grown.
    waits_since: Option<Instant>,
    at_end: bool,
    /// Bytes of the last read.
    got: usize,
    /// Whether it may wait for a disk.
    may_wait: bool,
    /// Where the last reads ended, with hashes of the bytes before.
    ends: Ends,
}

/// The least that is asked for in a read.
const LITTLE: usize = 8 << 10;

/// Offsets at which reads ended, with hashes of the 64 bytes before; the oldest is overwritten.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends {
    ends: [(u64, u64); 8],
    next: usize,
}

impl Ends {
    fn add(&mut self, stamp: &Stamp) {
        if self.ends.iter().all(|(offset, _)| *offset != stamp.looked) {
            self.ends[self.next] = (stamp.looked, stamp.tail_hash);
            self.next = (self.next + 1) % self.ends.len();
        }
    }

    /// Those up to an offset.
    pub fn up_to(&self, offset: u64) -> impl Iterator<Item = (u64, u64)> {
        self.ends.into_iter().filter(move |(end, _)| (1..=offset).contains(end))
    }
}

impl Reader {
    /// Reads from the file's first byte.
    pub fn new(file: Box<dyn Bytes>, meta: &Meta, key: u64, decoder: Decoder) -> Self {
        Reader {
            file: Some(file),
            gzip: None,
            decoder,
            name: Arc::new(Name { id: meta.id, born: meta.born, path: PathBuf::new() }),
            former: PathBuf::new(),
            tags: Arc::default(),
            key,
            offset: 0,
            seen: Seen::nothing(),
            memory: Memory::resume(&Place::default()),
            rest: Vec::new(),
            rest_len: 0,
            next_event: 0,
            len: 0,
            waits_since: None,
            at_end: false,
            got: CHUNK,
            may_wait: true,
            ends: Ends::default(),
        }
    }

    /// Notes by which path the file is now found, relative to the root.
    pub fn rename(&mut self, root: &Path, path: &Path, host: &str, of_all: &Tags) {
        if self.name.path.strip_prefix(root) != Ok(path) {
            let before = &*self.name;
            self.former = before.path.clone();
            self.name = Arc::new(Name { path: root.join(path), ..before.clone() });
            self.tags = Arc::new(super::tags::tags(root, path, host, of_all));
        }
    }

    /// Takes the content for what a compressed file has in it, if name and first bytes say so.
    /// Gives whether it can be told yet.
    pub fn detect_gzip(&mut self) -> bool {
        if self.gzip.is_some() || self.offset > 0 || !is_gzip(&self.name.path) {
            return true;
        }
        let mut magic = [0; gzip::MAGIC.len()];
        let is_there = self.read_plain(&mut magic, 0);
        if is_there && magic == gzip::MAGIC {
            self.gzip = Some(Gzip::default());
        }
        is_there
    }

    /// Goes on at a place of the content, after bytes that were seen. `head` is its first bytes.
    pub fn go_on(&mut self, place: &Place, seen: Seen, head: &[u8]) {
        if place.offset > 0 {
            self.decoder = self.decoder.by_bom(head).0;
        }
        self.offset = place.offset;
        self.len = self.len.max(place.offset);
        self.seen = seen;
        self.memory = Memory::resume(place);
    }

    /// Leaves out what there is, `len` bytes.
    pub fn skip_to(&mut self, len: u64) {
        let mut place = Place::at(len);
        let mut last = [b'\n'];
        if len > 0 && self.read_plain(&mut last, len - 1) && last != *b"\n" {
            place.rest = Rest::Late;
        }
        if let (Some(seen), Ok(head)) = (self.seen_before(len), self.head()) {
            self.go_on(&place, seen, &head);
        }
    }

    /// Starts from the first byte, under a new key.
    pub fn begin_anew(&mut self, key: u64) {
        self.key = key;
        (self.offset, self.len, self.waits_since, self.at_end) = (0, 0, None, false);
        self.next_event = 0;
        self.ends = Ends::default();
        self.seen = Seen::default();
        self.memory = Memory::resume(&Place::default());
        (self.rest, self.rest_len) = (Vec::new(), 0);
        self.gzip = None;
        self.detect_gzip();
    }

    /// The file, and where it was last found.
    pub fn name(&self) -> &Arc<Name> {
        &self.name
    }

    /// Where it was before that.
    pub fn former(&self) -> &Path {
        &self.former
    }

    /// Which life of the file it is.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// Bytes of the content read so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Where the last reads ended.
    pub fn ends(&self) -> Ends {
        self.ends
    }

    /// Whether all was read that there was when it was last looked at.
    pub fn is_at_end(&self) -> bool {
        self.at_end
    }

    /// Whether it is compressed.
    pub fn is_compressed(&self) -> bool {
        self.gzip.is_some()
    }

    /// What is wrong with a compressed file.
    pub fn broken(&self) -> Option<&str> {
        self.gzip.as_ref()?.broken.as_deref()
    }

    /// The file's size as far as it was looked at.
    pub fn looked_at(&self) -> u64 {
        self.len
    }

    /// When what is not a complete event is to be taken for one.
    pub fn due(&self, framing: &Framing) -> Option<Instant> {
        let since = self.waits_since.into_iter().chain(self.memory.waits_since()).min()?;
        Some(since + framing.flush_after)
    }

    /// Whether there is something that is not a complete event yet.
    pub fn has_rest(&self) -> bool {
        self.rest_len > 0 || self.memory.waits_since().is_some()
    }

    /// Lets go of the bytes after the offset: they are in the file, unless it is truncated.
    pub fn forget_rest(&mut self) {
        self.rest = Vec::new();
    }

    /// The bytes after the offset that are no complete event yet, unless they were let go.
    pub fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// What the file is like now; none while it is closed.
    pub fn meta(&self) -> Option<Meta> {
        self.file.as_ref()?.meta().ok()
    }

    /// Whether the file, of that size, has bytes that were not looked at.
    pub fn has_more(&self, len: u64) -> bool {
        len != self.gzip.as_ref().map_or(self.len, Gzip::fed)
    }

    /// Where the content was read to, and what it looked like.
    pub fn position(&self) -> Position {
        self.name.position(self.memory.place(self.offset), self.seen.stamp())
    }

    /// Bytes of memory that it has, about: what is not a complete event yet.
    pub fn bytes(&self) -> usize {
        self.rest.capacity() + self.memory.bytes() + self.gzip.as_ref().map_or(0, Gzip::bytes)
    }

    /// Gives the descriptor back; it can be opened again.
    pub fn close(&mut self) {
        self.file = None;
    }

    /// Whether the file is open.
    pub fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Takes the same file, opened again.
    pub fn open_again(&mut self, file: Box<dyn Bytes>) {
        self.file = Some(file);
    }

    /// What is before an offset of a file that is not compressed; none if there is less.
    pub fn seen_before(&self, offset: u64) -> Option<Seen> {
        Seen::before(offset, |into, at| self.read_plain(into, at))
    }

    /// The first bytes of the content, 1024 if there are so many.
    pub fn head(&self) -> io::Result<Vec<u8>> {
        let Some(file) = &self.file else { return Ok(Vec::new()) };
        if self.gzip.is_some() {
            return Ok(Gzip::default().read(&**file, 0, HEAD, usize::MAX)?.bytes.to_vec());
        }
        let mut head = vec![0; HEAD];
        let got = file.read_at([&mut [], &mut head], 0)?;
        head.truncate(got);
        Ok(head)
    }

    /// What is in the content before an offset, `back` bytes of it; fewer if the content is shorter. None if that has not
    /// been reached yet in a compressed file.
    pub fn content_before(&mut self, offset: u64, back: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = &self.file else { return Ok(Some(Vec::new())) };
        let Some(gzip) = &mut self.gzip else {
            let mut content = vec![0; back as usize];
            let got = file.read_at([&mut [], &mut content], offset - back)?;
            content.truncate(got);
            return Ok(Some(content));
        };
        let content = gzip.read(&**file, offset - back, back as usize, SKIP)?;
        let is_all = content.is_there && content.bytes.len() as u64 == back || content.ended;
        Ok(is_all.then(|| content.bytes.to_vec()))
    }

    fn read_plain(&self, into: &mut [u8], at: u64) -> bool {
        let len = into.len();
        self.file.as_ref().is_some_and(|file| matches!(file.read_at([&mut [], into], at), Ok(got) if got == len))
    }

    /// Has what follows brought from disk to memory, and calls `done` then.
    pub fn fetch(&self, done: Done) {
        match &self.file {
            Some(file) => file.fetch(self.offset, done),
            None => done(),
        }
    }

    /// Reads the next events. With `flush`, what is left at the end of the file is an event too. If it must not wait for a
    /// disk, [`io::ErrorKind::WouldBlock`] says that it would have to; nothing has changed then.
    pub fn read(
        &mut self,
        chunk: &mut Chunk,
        framing: &Framing,
        flush: bool,
        may_wait: bool,
        now: Instant,
    ) -> io::Result<Got> {
        self.may_wait = may_wait;
        // A buffer is filled with zeros before it is read into, which costs more than a trickle itself.
        let mut want = (4 * self.got).clamp(LITTLE, CHUNK);
        self.detect_gzip();
        loop {
            if self.read_once(chunk, framing, flush, now, want)? == Got::Other {
                return Ok(Got::Other);
            }
            let has_nothing = chunk.batch.is_empty() && chunk.bytes == 0 && chunk.framed.skipped == 0;
            if !has_nothing || chunk.at_end || self.gzip.is_some() && chunk.raw_is_short(want) {
                return Ok(Got::Chunk);
            }
            // Not an event in so many bytes: look at more of them. Framing splits a line before this grows too far.
            want *= 2;
        }
    }

    fn read_once(
        &mut self,
        chunk: &mut Chunk,
        framing: &Framing,
        flush: bool,
        now: Instant,
        want: usize,
    ) -> io::Result<Got> {
        // Not cleared first: what a vector has already had written to it need not be filled with zeros again.
        let mut arena = std::mem::take(&mut chunk.batch.arena);
        let is_plain = self.decoder.is_plain();
        let raw = if is_plain { &mut arena } else { &mut chunk.raw };
        let fetched = self.fill(raw, want);
        let Ok(Some(ended)) = fetched else {
            chunk.batch.arena = arena;
            return fetched.map(|_| Got::Other);
        };
        let len = self.offset + raw.len() as u64;
        self.got = raw.len();
        if self.offset == 0 && self.skip_bom(raw) {
            // Once a file.
            chunk.batch.arena = arena;
            return self.read_once(chunk, framing, flush, now, want);
        }
        chunk.invalid = 0;
        if is_plain {
            chunk.map = Map::Plain { base: self.offset };
        } else {
            let mut table = match std::mem::replace(&mut chunk.map, Map::Plain { base: 0 }) {
                Map::Decoded(table) => table,
                Map::Plain { .. } => Table::default(),
            };
            arena.clear();
            let decoded = self.decoder.decode(&chunk.raw, self.offset, flush && ended, &mut arena, &mut table);
            chunk.invalid = decoded.invalid_lines;
            chunk.map = Map::Decoded(table);
        }
        chunk.batch.clear();
        chunk.batch.arena = arena;
        self.frame(chunk, framing, flush && ended, ended, now);
        let ended = chunk.at_end;

        let raw = if is_plain { &chunk.batch.arena } else { &chunk.raw };
        let left = &raw[chunk.bytes as usize..(len - (self.offset - chunk.bytes)) as usize];
        self.rest.clear();
        self.rest_len = if ended { left.len() } else { 0 };
        self.rest.extend_from_slice(&left[..self.rest_len]);
        if self.rest.capacity() > LITTLE {
            self.rest.shrink_to_fit();
        }
        // What is behind the last of as many events as fit is seen next time.
        let looked_at = if chunk.framed.is_full { self.offset } else { len };
        match left.is_empty() || chunk.framed.is_full {
            true => self.waits_since = None,
            false if len != self.len || self.waits_since.is_none() => self.waits_since = Some(now),
            false => {}
        }
        (self.len, self.at_end) = (looked_at, ended);
        Ok(Got::Chunk)
    }

    /// Makes events of what the arena has.
    fn frame(&mut self, chunk: &mut Chunk, framing: &Framing, flush: bool, ended: bool, now: Instant) {
        chunk.batch.tags = self.tags.clone();
        chunk.batch.first = self.next_event;
        chunk.starts.clear();
        chunk.streams.clear();
        let input = Input { map: &chunk.map, ended, flush, now };
        chunk.framed = framing.frame(&mut self.memory, &mut chunk.batch, &mut chunk.starts, &mut chunk.streams, &input);
        let end = chunk.map.raw(chunk.framed.consumed);
        chunk.bytes = end - self.offset;
        let raw = if matches!(chunk.map, Map::Plain { .. }) { &chunk.batch.arena } else { &chunk.raw };
        self.seen.add(&raw[..chunk.bytes as usize]);
        self.offset = end;
        self.next_event += chunk.batch.len() as u64;
        self.describe(chunk, ended && !chunk.framed.is_full);
    }

    /// Says in the chunk which file it is of, and where in it.
    fn describe(&mut self, chunk: &mut Chunk, ended: bool) {
        chunk.key = self.key;
        chunk.name = Some(self.name.clone());
        chunk.end = self.memory.place(self.offset);
        chunk.stamp = self.seen.stamp();
        self.ends.add(&chunk.stamp);
        chunk.at_end = ended;
    }

    /// Makes events of what was left at the end of a content that is no more, unless it is not wanted. Gives how many bytes
    /// of it are lost, because they were let go.
    pub fn finish(&mut self, chunk: &mut Chunk, framing: &Framing, now: Instant, is_wanted: bool) -> u64 {
        chunk.batch.clear();
        let rest = std::mem::take(&mut self.rest);
        let lost = std::mem::take(&mut self.rest_len) - rest.len();
        if !is_wanted {
            let place = self.memory.place(self.offset);
            chunk.clear(self.key, self.next_event, place, self.seen.stamp());
            chunk.name = Some(self.name.clone());
            chunk.at_end = true;
            return 0;
        }
        chunk.invalid = 0;
        if self.decoder.is_plain() {
            chunk.batch.arena.extend_from_slice(&rest);
            chunk.map = Map::Plain { base: self.offset };
        } else {
            let mut table = Table::default();
            let decoded = self.decoder.decode(&rest, self.offset, true, &mut chunk.batch.arena, &mut table);
            chunk.invalid = decoded.invalid_lines;
            chunk.map = Map::Decoded(table);
            chunk.raw = rest;
        }
        self.frame(chunk, framing, true, true, now);
        self.waits_since = None;
        lost as u64
    }

    /// Skips the mark of a file's encoding at its beginning; whether there was one.
    fn skip_bom(&mut self, head: &[u8]) -> bool {
        let (decoder, len) = self.decoder.by_bom(head);
        if len == 0 {
            return false;
        }
        self.decoder = decoder;
        self.seen.add(&head[..len]);
        self.offset = len as u64;
        true
    }

    /// Fills `raw` with `want` bytes from the offset on, or fewer if there are fewer. Gives whether the end was reached;
    /// none if what comes before is not what it was.
    fn fill(&mut self, raw: &mut Vec<u8>, want: usize) -> io::Result<Option<bool>> {
        let Some(file) = &self.file else {
            raw.clear();
            return Ok(Some(true));
        };
        if let Some(gzip) = &mut self.gzip {
            if file.meta()?.len < gzip.fed() {
                return Ok(None);
            }
            let content = gzip.read(&**file, self.offset, want, SKIP)?;
            raw.clear();
            raw.extend_from_slice(content.bytes);
            if !content.is_there {
                raw.clear();
            }
            return Ok(Some(content.ended));
        }
        raw.resize(want, 0);
        let before = self.seen.tail();
        // Together with the bytes before them: nothing can happen in between.
        let mut tail = [0; super::identity::TAIL];
        let tail = &mut tail[..before.len()];
        let offset = self.offset - before.len() as u64;
        let got = match self.may_wait {
            true => file.read_at([tail, raw], offset)?,
            false => file.read_now([tail, raw], offset)?,
        };
        if got < before.len() || *tail != *before {
            raw.clear();
            return Ok(None);
        }
        raw.truncate(got - before.len());
        Ok(Some(raw.len() < want))
    }
}

impl Chunk {
    fn raw_is_short(&self, want: usize) -> bool {
        self.batch.arena.len().max(self.raw.len()) < want
    }
}
