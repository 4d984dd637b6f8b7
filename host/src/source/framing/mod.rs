//! From bytes to events: one module for each way in which a log marks where an event ends.
//!
//! ```text
//! lines ─────────────────────────┐
//! multiline: lines that belong   ├─> events
//! cri, docker ──> container ─────┘
//!   one line       pieces and lines of two streams
//! ```
//!
//! For the same bytes the same events come out, in whichever portions they were read.

mod container;
mod cri;
mod docker;
pub mod lines;
pub mod multiline;
#[cfg(test)]
mod property;
mod time;

use std::time::{Duration, Instant};

use super::decode::Table;
use super::place::{Place, Rest};
use crate::event::{Batch, CONTENT, Field, Kind};

/// The field of the stream that a container wrote to.
pub const STREAM: &str = "stream";

/// How a file's bytes become events.
#[derive(Clone, Debug)]
pub struct Framing {
    /// What a line of the file is.
    pub format: Format,
    /// Bytes of an event's content.
    pub max_event: usize,
    /// What is done with an event that has more.
    pub long: LongEvent,
    /// How lines are joined; each is an event if not.
    pub multiline: Option<multiline::Rule>,
    /// An event of a container's stream that may not be complete is shipped when the stream was quiet for so long.
    pub flush_after: Duration,
}

/// What a line of a file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The content.
    #[default]
    Lines,
    /// What containerd and CRI-O write: time, stream, tags, and a piece of content.
    Cri,
    /// What Docker's `json-file` driver writes: an object with `log`, `stream` and `time`.
    Docker,
}

/// What is done with an event of more than `max_event` bytes, or with more lines than its rule allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LongEvent {
    /// It becomes several events.
    #[default]
    Split,
    /// Its beginning is an event, and the rest is dropped.
    Truncate,
    /// All of it is dropped.
    Skip,
}

/// What framing remembers of one file between reads.
#[derive(Debug, Default)]
pub struct Memory {
    /// What comes before the next line end.
    pub rest: Rest,
    /// What became of the beginning of the event that the next line may belong to.
    cut: Option<Cut>,
    /// The streams of a container's log.
    streams: container::Streams,
}

/// An event of several lines, or of one long line, of which a part has been dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    /// Whether it began with a line that a start pattern matched.
    has_start: bool,
    /// Whether the rest is dropped too, instead of becoming an event.
    is_dropped: bool,
    /// Whether the cut was inside of a line, whose rest comes next.
    in_line: bool,
}

impl Memory {
    /// Goes on at a place.
    pub fn resume(place: &Place) -> Memory {
        Memory { rest: place.rest, cut: None, streams: container::Streams::resume(place) }
    }

    /// Bytes of memory that it has, about.
    pub fn bytes(&self) -> usize {
        self.streams.bytes()
    }

    /// Where to go on if all events so far are settled; `end` is the file's offset after what was consumed.
    pub fn place(&self, end: u64) -> Place {
        self.streams.place(end, self.rest)
    }

    /// When the longest quiet stream with an unfinished event got its last piece.
    pub fn waits_since(&self) -> Option<Instant> {
        self.streams.waits_since()
    }

    /// Deals with what is left of a line at the beginning of the arena. Gives where the next line begins, if it can be
    /// told.
    fn skip_rest(&mut self, arena: &[u8], flush: bool) -> Option<usize> {
        let skipped = match self.rest {
            Rest::Line => 0,
            Rest::Late => match arena {
                [b'\n', ..] => 1,
                [b'\r', b'\n', ..] => 2,
                [] => return None,
                [b'\r'] if !flush => return None,
                _ => 0,
            },
            Rest::Discard => memchr::memchr(b'\n', arena)? + 1,
        };
        self.rest = Rest::Line;
        Some(skipped)
    }
}

/// What the bytes are of which events are made.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Where in the file they come from.
    pub map: &'a Map,
    /// Whether the file has no more bytes now.
    pub ended: bool,
    /// Whether what is not complete is an event too. Only if the file has ended.
    pub flush: bool,
    /// The time of the read.
    pub now: Instant,
}

/// From places in the arena to offsets in the file.
#[derive(Debug)]
pub enum Map {
    /// The arena is what the file has from an offset on.
    Plain {
        /// That offset.
        base: u64,
    },
    /// The arena was decoded.
    Decoded(Table),
}

impl Map {
    /// The file's offset of a byte in the arena.
    #[inline]
    pub fn raw(&self, at: usize) -> u64 {
        match self {
            Map::Plain { base } => base + at as u64,
            Map::Decoded(table) => table.raw(at),
        }
    }
}

/// What was made of the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Framed {
    /// Bytes of the arena that are dealt with, with their line ends.
    pub consumed: usize,
    /// Events that continue one that was too long.
    pub split: u64,
    /// Events that are the beginning of one that was too long.
    pub truncated: u64,
    /// Events that were too long, and dropped.
    pub skipped: u64,
    /// Lines that are not of the format.
    pub malformed: u64,
    /// Whether there are as many events as may be at once, and perhaps more in the rest.
    pub is_full: bool,
}

impl Framing {
    /// Makes events of the arena, which holds what comes after what was consumed before, and nothing else. Bytes that
    /// are in no such form in the file are appended to it.
    ///
    /// `starts` gets the file's offset of each event's first line. With a container's log, `streams` gets which of
    /// the two each event is of; a line that is not of the format is of one without an open event.
    pub fn frame(
        &self,
        memory: &mut Memory,
        batch: &mut Batch,
        starts: &mut Vec<u64>,
        streams: &mut Vec<u8>,
        input: &Input,
    ) -> Framed {
        self.set_fields(&mut batch.fields);
        match (self.format, &self.multiline) {
            (Format::Lines, None) => lines::frame(self.max_event, self.long, memory, batch, starts, input),
            (Format::Lines, Some(rule)) => multiline::frame(rule, self, memory, batch, starts, input),
            (Format::Cri | Format::Docker, _) => container::frame(self, memory, batch, starts, streams, input),
        }
    }

    fn set_fields(&self, fields: &mut Vec<Field>) {
        let names: &[&str] = if self.format == Format::Lines { &[CONTENT] } else { &[CONTENT, STREAM] };
        let is_same = |(field, name): (&Field, &&str)| *field.name == **name && field.kind == Kind::Text;
        if fields.len() != names.len() || !fields.iter().zip(names).all(is_same) {
            *fields = names.iter().map(|name| Field { name: (*name).into(), kind: Kind::Text }).collect();
        }
    }
}

/// Where to cut an event that is too long: at most at `max`, and before a character of UTF-8 that would be cut.
fn cut(bytes: &[u8], max: usize) -> usize {
    let is_inside = |at: usize| bytes[at] & 0xc0 == 0x80;
    (max.saturating_sub(3)..=max).rev().find(|at| *at > 0 && !is_inside(*at)).unwrap_or(max.max(1))
}

/// The end of a line's content, before the CR of a CRLF.
#[inline]
fn without_cr(arena: &[u8], start: usize, newline: usize) -> usize {
    newline - usize::from(newline > start && arena[newline - 1] == b'\r')
}

#[cfg(test)]
mod testing {
    use super::*;

    /// Lines of a file, or events of several lines.
    pub fn lines(max_event: usize, long: LongEvent, multiline: Option<multiline::Rule>) -> Framing {
        Framing { format: Format::Lines, max_event, long, multiline, flush_after: Duration::from_secs(5) }
    }

    /// The contents of the events of the bytes, and where they begin.
    pub fn frame_once(
        framing: &Framing,
        memory: &mut Memory,
        bytes: &[u8],
        flush: bool,
    ) -> (Vec<String>, Vec<u64>, Framed) {
        let mut batch = Batch { arena: bytes.to_vec(), ..Batch::default() };
        let (mut starts, mut streams) = (Vec::new(), Vec::new());
        let map = Map::Plain { base: 0 };
        let input = Input { map: &map, ended: flush, flush, now: Instant::now() };
        let framed = framing.frame(memory, &mut batch, &mut starts, &mut streams, &input);
        batch.check().expect("a sound batch");
        assert_eq!(starts.len(), batch.len());
        assert!(framed.consumed <= bytes.len());
        let content = |i: usize| &batch.arena[batch.event(i)[1] as usize..batch.event(i)[2] as usize];
        let events = (0..batch.len()).map(|i| String::from_utf8_lossy(content(i)).into_owned()).collect();
        (events, starts, framed)
    }
}
