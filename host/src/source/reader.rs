//! One file, from an offset on.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rustix::io::pread;

use super::framing::{Framing, Input, Map, Memory};
use super::identity::{FileId, Position, tail_hash};
use super::place::{Place, Rest};
use super::{CHUNK, tags};
use crate::event::{Batch, CONTENT, Field, Kind, Tags};

/// What one read gave: events of one file, and where in the file they are. Its memory is used again.
pub struct Chunk {
    /// The events, raw.
    pub batch: Batch,
    /// Which file, in which of its lives; from the source.
    pub key: u64,
    /// The file's offset where the batch's arena begins.
    pub base: u64,
    /// For each event, the file's offset where it begins.
    pub starts: Vec<u64>,
    /// For each event of a container's log, its stream.
    pub streams: Vec<u8>,
    /// The file's offset after the last event.
    pub end: u64,
    /// Whether everything has been read that the file had.
    pub at_end: bool,
    /// Bytes that events were made of.
    pub bytes: u64,
    /// Events that are pieces of longer lines.
    pub split: u64,
}

impl Default for Chunk {
    fn default() -> Self {
        let content = Field { name: CONTENT.into(), kind: Kind::Text };
        Chunk {
            batch: Batch { fields: vec![content], ..Batch::default() },
            key: 0,
            base: 0,
            starts: Vec::new(),
            streams: Vec::new(),
            end: 0,
            at_end: false,
            bytes: 0,
            split: 0,
        }
    }
}

impl Chunk {
    /// The file's offset where the event of that number begins, if it is in this chunk.
    pub fn offset_of(&self, number: u64) -> Option<u64> {
        let index = number.checked_sub(self.batch.first)?;
        self.starts.get(usize::try_from(index).ok()?).copied()
    }
}

/// A file that is read.
pub struct Reader {
    file: File,
    id: FileId,
    key: u64,
    path: PathBuf,
    tags: Arc<Tags>,
    /// Bytes of the file read so far; equals the file's offset after the last complete line.
    offset: u64,
    /// Hash of the bytes before the offset, taken when the end was reached; none while reading on.
    tail: Option<u64>,
    /// Number of the next event.
    next_event: u64,
    /// Bytes to read at once: more than usual while a line is longer than that.
    want: usize,
    /// What framing remembers.
    memory: Memory,
    /// The file's size as far as it was looked at.
    seen: u64,
    /// When the bytes between the offset and that were last found to have grown.
    waits_since: Option<Instant>,
}

impl Reader {
    /// Reads from the file's first byte.
    pub fn new(file: File, id: FileId, key: u64) -> Self {
        Reader {
            file,
            id,
            key,
            path: PathBuf::new(),
            tags: Arc::default(),
            offset: 0,
            tail: None,
            next_event: 0,
            want: CHUNK,
            memory: Memory::default(),
            seen: 0,
            waits_since: None,
        }
    }

    /// Goes on at a position of a former run, if the file is still the same one.
    pub fn resume(&mut self, position: &Position) -> bool {
        let same = position.is_in(&self.file);
        if same {
            self.skip_to(position.offset);
            let is_late = position.offset > 0 && self.byte_at(position.offset - 1).is_some_and(|b| b != b'\n');
            let rest = if is_late { Rest::Late } else { Rest::Line };
            self.memory = Memory::resume(&Place { rest, ..Place::at(position.offset) });
        }
        same
    }

    /// Leaves out what comes before the offset.
    pub fn skip_to(&mut self, offset: u64) {
        (self.offset, self.seen) = (offset, offset);
    }

    /// Starts from the first byte, under a new key.
    pub fn begin_anew(&mut self, key: u64) {
        self.key = key;
        (self.offset, self.seen, self.waits_since) = (0, 0, None);
        self.next_event = 0;
        self.memory = Memory::default();
        self.tail = None;
        self.want = CHUNK;
    }

    /// Notes by which path the file is now found.
    pub fn rename(&mut self, root: &Path, path: &Path, host: &str) {
        if self.path.strip_prefix(root) != Ok(path) {
            self.path = root.join(path);
            self.tags = Arc::new(tags(root, path, host));
        }
    }

    /// Where the file was last found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which file it is.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Which life of the file it is.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// The file's size as far as it was looked at: the offset, and a line that has no end yet.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Since when the file has ended in what may be a part of an event.
    pub fn waits_since(&self) -> Option<Instant> {
        self.waits_since
    }

    /// Whether the file has bytes that were not read; a line without its end is none.
    pub fn has_more(&self) -> bool {
        self.file.metadata().is_ok_and(|meta| meta.len() != self.seen)
    }

    /// The position at an offset up to which all is settled.
    pub fn position(&self, offset: u64) -> io::Result<Position> {
        Position::at(&self.file, offset, &self.path.to_string_lossy())
    }

    /// Whether what was read is no longer there: the file was truncated, and perhaps written again. Asked once
    /// after each time that the end was reached.
    pub fn has_other_content(&mut self) -> bool {
        match self.tail.take() {
            Some(tail) => tail_hash(&self.file, self.offset).map_or(true, |now| now != tail),
            None => self.file.metadata().is_ok_and(|meta| meta.len() < self.offset),
        }
    }

    /// Reads the next events. With `flush`, what the file has after its last newline is an event too.
    pub fn read(&mut self, chunk: &mut Chunk, framing: &Framing, flush: bool) -> io::Result<()> {
        loop {
            self.read_once(chunk, framing, flush)?;
            if !chunk.batch.is_empty() || chunk.at_end {
                break;
            }
            if chunk.bytes == 0 {
                // Not an event in so many bytes: look at more of them. Framing cuts a line before this grows too far.
                self.want *= 2;
            }
        }
        self.want = CHUNK;
        Ok(())
    }

    fn byte_at(&self, offset: u64) -> Option<u8> {
        let mut byte = [0];
        (pread(&self.file, &mut byte, offset) == Ok(1)).then_some(byte[0])
    }

    fn read_once(&mut self, chunk: &mut Chunk, framing: &Framing, flush: bool) -> io::Result<()> {
        let batch = &mut chunk.batch;
        // Not cleared first: what a vector has already had written to it need not be filled with zeros again.
        let mut arena = std::mem::take(&mut batch.arena);
        arena.resize(self.want, 0);
        let mut got = 0;
        while got < self.want {
            match pread(&self.file, &mut arena[got..], self.offset + got as u64) {
                Ok(0) => break,
                Ok(count) => got += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let ended = got < self.want;
        arena.truncate(got);
        batch.clear();
        batch.arena = arena;
        batch.tags = self.tags.clone();
        batch.first = self.next_event;
        chunk.starts.clear();
        chunk.streams.clear();
        let map = Map::Plain { base: self.offset };
        let input = Input { map: &map, ended, flush: flush && ended, now: Instant::now() };
        let framed = framing.frame(&mut self.memory, batch, &mut chunk.starts, &mut chunk.streams, &input);
        chunk.split = framed.split;
        chunk.key = self.key;
        chunk.base = self.offset;
        chunk.bytes = framed.consumed as u64;
        self.offset += framed.consumed as u64;
        self.next_event += batch.len() as u64;
        chunk.end = self.offset;
        chunk.at_end = ended;
        let seen = chunk.base + got as u64;
        match seen > self.offset {
            false => self.waits_since = None,
            true if seen != self.seen || self.waits_since.is_none() => self.waits_since = Some(Instant::now()),
            true => {}
        }
        self.seen = seen;
        if ended {
            // Where it cannot be had, the file was truncated just now: no hash will be this one, and what was read counts.
            self.tail = Some(tail_hash(&self.file, self.offset).unwrap_or_default());
        }
        Ok(())
    }
}
