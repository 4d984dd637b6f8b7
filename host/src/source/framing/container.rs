//! Logs of containers: lines of two streams, some in pieces, are put together again.
//!
//! Pieces are joined to lines, and lines, if there is a rule, to events; each stream by itself. What is not complete
//! when the arena ends is copied, and remembered: no byte is read twice.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use super::multiline::Rule;
use super::time::Times;
use super::{Cut, Format, Framed, Framing, Input, LongEvent, Memory, cri, cut, docker, without_cr};
use crate::event::{Batch, Mark, UNKNOWN_TIME};
use crate::source::place::{Place, Rest};

/// The names of the streams.
const NAMES: [&str; 2] = ["stdout", "stderr"];

/// What one line of the file has.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Which of the two streams.
    pub stream: usize,
    /// Where in the arena the stream's name is, if it is there as it should be.
    pub name: Option<(usize, usize)>,
    /// Unix nanoseconds.
    pub time: i64,
    /// Where in the arena the content is.
    pub content: (usize, usize),
    /// Whether the line goes on with the stream's next piece.
    pub is_partial: bool,
}

/// What is remembered of the two streams.
#[derive(Debug, Default)]
pub struct Streams {
    streams: [Stream; 2],
    times: Times,
    /// Whether what comes next is the rest of a line that is not of the format.
    in_malformed: bool,
}

#[derive(Debug, Default)]
struct Stream {
    /// Lines that begin before this offset were settled by a former run.
    read: u64,
    /// The line whose pieces come.
    line: Open,
    /// The event whose lines come.
    event: Open,
    lines: usize,
    has_start: bool,
    /// What became of the line's pieces so far: a part of it is an event, or the rest is dropped.
    line_cut: Option<Fate>,
    /// What became of the event's lines so far.
    cut: Option<Cut>,
    /// When the last piece came.
    since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Shipped,
    Dropped,
}

/// Something that may go on.
#[derive(Debug, Default)]
struct Open {
    is_open: bool,
    /// The file's offset of its first line.
    start: u64,
    /// Of its first piece.
    time: i64,
    /// Its content, unless it is still where it came in the arena.
    bytes: Vec<u8>,
    span: Option<(usize, usize)>,
}

impl Open {
    fn begin(&mut self, start: u64, time: i64) {
        (self.is_open, self.start, self.time, self.span) = (true, start, time, None);
        self.bytes.clear();
    }

    fn len(&self) -> usize {
        self.span.map_or(self.bytes.len(), |(start, end)| end - start)
    }

    /// Copies what is in the arena.
    fn keep(&mut self, arena: &[u8]) {
        if let Some((start, end)) = self.span.take() {
            self.bytes.extend_from_slice(&arena[start..end]);
        }
    }
}

impl Stream {
    fn is_open(&self) -> bool {
        self.line.is_open || self.event.is_open
    }

    /// Where the unfinished event begins.
    fn start(&self) -> Option<u64> {
        [&self.event, &self.line].into_iter().find(|open| open.is_open).map(|open| open.start)
    }
}

impl Streams {
    /// Bytes of memory that it has, about.
    pub fn bytes(&self) -> usize {
        self.streams.iter().map(|stream| stream.line.bytes.capacity() + stream.event.bytes.capacity()).sum()
    }

    pub fn resume(place: &Place) -> Self {
        let mut streams = Streams::default();
        for (stream, read) in streams.streams.iter_mut().zip(place.read) {
            stream.read = read;
        }
        streams
    }

    pub fn place(&self, end: u64, rest: Rest) -> Place {
        let read = self.streams.each_ref().map(|stream| stream.start().unwrap_or(stream.read.max(end)));
        let offset = read[0].min(read[1]).min(end);
        let rest = if offset == end { rest } else { Rest::Line };
        Place { offset, rest, read: read.map(|read| if read > offset { read } else { 0 }) }
    }

    pub fn waits_since(&self) -> Option<Instant> {
        self.streams.iter().filter(|stream| stream.is_open()).filter_map(|stream| stream.since).min()
    }

    /// Of which stream a line that is not of the format is said to be: of one without an open event, so that it is
    /// after what is open.
    fn of_malformed(&self) -> usize {
        usize::from(self.streams[0].is_open() && !self.streams[1].is_open())
    }

    /// Whether a line that is not of the format was settled by a former run.
    fn has_settled(&self, start: u64) -> bool {
        let is_before = |stream: &Stream| start < stream.read;
        self.streams.iter().any(is_before) && self.streams.iter().all(|stream| is_before(stream) || stream.is_open())
    }
}

/// As [`super::Framing::frame`].
pub fn frame(
    framing: &Framing,
    memory: &mut Memory,
    batch: &mut Batch,
    starts: &mut Vec<u64>,
    streams: &mut Vec<u8>,
    input: &Input,
) -> Framed {
    let len = batch.arena.len();
    let mut framed = Framed::default();
    let mut rest = memory.rest;
    match memory.skip_rest(&batch.arena, input.flush) {
        Some(first) => framed.consumed = first,
        None if rest == Rest::Discard => framed.consumed = len,
        None => {}
    }
    let is_known = memory.rest == Rest::Line;
    let mut joiner =
        Joiner { framing, memory: &mut memory.streams, batch, starts, streams, input, names: [None; 2], framed };
    if is_known {
        let mut next = joiner.framed.consumed;
        while let Some(newline) = memchr::memchr(b'\n', &joiner.batch.arena[next..len]) {
            let newline = next + newline;
            joiner.line(next, newline);
            next = newline + 1;
        }
        joiner.framed.consumed = next;
        rest = joiner.rest(next, len);
    }
    joiner.flush_streams();
    joiner.keep();
    let framed = joiner.framed;
    memory.rest = rest;
    framed
}

struct Joiner<'a> {
    framing: &'a Framing,
    memory: &'a mut Streams,
    batch: &'a mut Batch,
    starts: &'a mut Vec<u64>,
    streams: &'a mut Vec<u8>,
    input: &'a Input<'a>,
    /// Where in the arena the names of the streams are, once they are.
    names: [Option<(u32, u32)>; 2],
    framed: Framed,
}

/// A line, or a part of one that is too long.
#[derive(Clone, Copy)]
struct Part {
    stream: usize,
    start: u64,
    time: i64,
    content: (usize, usize),
    /// Whether the line begins with it, and ends with it.
    is_first: bool,
    is_last: bool,
    /// Whether it is an event at once: another part has been made of the same line of the file.
    is_alone: bool,
}

impl Joiner<'_> {
    /// A line of the file, up to its newline.
    #[inline]
    fn line(&mut self, start: usize, end: usize) {
        let longest = self.longest_line();
        if self.memory.in_malformed
            || end - start > longest && without_cr(&self.batch.arena, start, end) - start > longest
        {
            let end = without_cr(&self.batch.arena, start, end);
            self.malformed(start, end, true);
            return;
        }
        let (arena, times) = (&mut self.batch.arena, &mut self.memory.times);
        let piece = match self.framing.format {
            Format::Docker => docker::unwrap(arena, start, end, times),
            _ => cri::unwrap(arena, start, end, times),
        };
        let Some(piece) = piece else {
            let end = without_cr(&self.batch.arena, start, end);
            self.malformed(start, end, true);
            return;
        };
        let offset = self.input.map.raw(start);
        if offset >= self.memory.streams[piece.stream].read {
            if let (Some((start, end)), None) = (piece.name, self.names[piece.stream]) {
                self.names[piece.stream] = Some((start as u32, end as u32));
            }
            self.piece(&piece, offset);
        }
    }

    /// Bytes of a line of the file: a header, and content of which each byte may be escaped.
    fn longest_line(&self) -> usize {
        self.framing.max_event.saturating_mul(6).saturating_add(4096)
    }

    /// Adds a piece to its stream's line.
    #[inline]
    fn piece(&mut self, piece: &Piece, offset: u64) {
        let max_event = self.framing.max_event;
        let (mut start, mut end) = piece.content;
        let arena = &self.batch.arena;
        let stream = &mut self.memory.streams[piece.stream];
        if !piece.is_partial {
            if start < end {
                end = without_cr(arena, start, end);
            } else if stream.line.is_open && stream.line.bytes.ends_with(b"\r") {
                stream.line.bytes.pop();
            }
        }
        if stream.line_cut == Some(Fate::Dropped) {
            if !piece.is_partial {
                stream.line_cut = None;
            }
            return;
        }
        let have = if stream.line.is_open { stream.line.bytes.len() } else { 0 };
        let mut part = Part {
            stream: piece.stream,
            start: offset,
            time: piece.time,
            content: (start, end),
            is_first: stream.line_cut.is_none(),
            is_last: !piece.is_partial,
            is_alone: false,
        };
        stream.since = Some(self.input.now);
        if have + (end - start) > max_event {
            if self.framing.long != LongEvent::Split {
                return self.long_line(part, have);
            }
            self.ship_line(piece.stream, false);
            let mut is_cut = false;
            while end - start > max_event {
                let cut = start + cut(&self.batch.arena[start..end], max_event);
                part.is_first = self.memory.streams[piece.stream].line_cut.is_none();
                self.part(Part { content: (start, cut), is_last: false, ..part });
                self.memory.streams[piece.stream].line_cut = Some(Fate::Shipped);
                start = cut;
                is_cut = true;
            }
            part.is_first = self.memory.streams[piece.stream].line_cut.is_none();
            part.content = (start, end);
            part.is_alone = is_cut;
        }
        let stream = &mut self.memory.streams[piece.stream];
        if part.is_alone || part.is_last && !stream.line.is_open {
            self.part(part);
            let fate = if part.is_last { None } else { Some(Fate::Shipped) };
            self.memory.streams[piece.stream].line_cut = fate;
            return;
        }
        if !stream.line.is_open {
            stream.line.begin(offset, piece.time);
        }
        stream.line.bytes.extend_from_slice(&self.batch.arena[part.content.0..part.content.1]);
        if part.is_last {
            self.ship_line(piece.stream, true);
        }
    }

    /// Passes on the pieces that the open line has.
    fn ship_line(&mut self, index: usize, is_last: bool) {
        let stream = &mut self.memory.streams[index];
        if stream.line.is_open {
            let made = self.batch.arena.len();
            self.batch.arena.extend_from_slice(&stream.line.bytes);
            stream.line.is_open = false;
            let (start, time, is_first) = (stream.line.start, stream.line.time, stream.line_cut.is_none());
            let content = (made, self.batch.arena.len());
            self.part(Part { stream: index, start, time, content, is_first, is_last, is_alone: false });
            self.memory.streams[index].line_cut = Some(Fate::Shipped);
        }
        if is_last {
            self.memory.streams[index].line_cut = None;
        }
    }

    /// A line that is too long, with this piece after what is there of it, and is not split.
    #[cold]
    fn long_line(&mut self, mut part: Part, have: usize) {
        let arena = &mut self.batch.arena;
        let stream = &mut self.memory.streams[part.stream];
        let made = arena.len();
        if stream.line.is_open {
            arena.extend_from_slice(&stream.line.bytes);
            (part.start, part.time) = (stream.line.start, stream.line.time);
            stream.line.is_open = false;
        }
        let wanted = (self.framing.max_event + 1 - have).min(part.content.1 - part.content.0);
        arena.extend_from_within(part.content.0..part.content.0 + wanted);
        part.content = (made, made + cut(&arena[made..], self.framing.max_event));
        stream.line_cut = if part.is_last { None } else { Some(Fate::Dropped) };

        let Some(rule) = &self.framing.multiline else {
            return self.too_long(Some(part));
        };
        let before = self.judge_and_close(rule, &part);
        let stream = &mut self.memory.streams[part.stream];
        if stream.event.is_open {
            let has_start = stream.has_start;
            self.end_too_long(part.stream, has_start);
        } else if stream.cut.is_none() {
            self.too_long(Some(part));
        }
        let cut = Cut { has_start: before, is_dropped: true, in_line: false };
        self.memory.streams[part.stream].cut = (!rule.has_end()).then_some(cut);
    }

    /// Counts something that is not split, and ships its beginning if that is wanted.
    fn too_long(&mut self, beginning: Option<Part>) {
        if self.framing.long == LongEvent::Skip {
            self.framed.skipped += 1;
            return;
        }
        self.framed.truncated += 1;
        if let Some(part) = beginning {
            self.event(part.stream, part.start, part.time, part.content);
        }
    }

    /// Judges a line by its first part, and closes the event before it if it begins another. Gives whether the event
    /// that it is of began with a start.
    fn judge_and_close(&mut self, rule: &Rule, part: &Part) -> bool {
        let verdict = rule.judge(&self.batch.arena[part.content.0..part.content.1], self.before(part.stream));
        if verdict.begins {
            self.close(part.stream);
        }
        self.before(part.stream).unwrap_or(verdict.has_start)
    }

    /// Whether the event before began with a start; none if it is complete.
    fn before(&self, stream: usize) -> Option<bool> {
        let stream = &self.memory.streams[stream];
        if stream.event.is_open { Some(stream.has_start) } else { stream.cut.map(|cut| cut.has_start) }
    }

    /// A line, or a part of it.
    #[inline]
    fn part(&mut self, part: Part) {
        if !part.is_first {
            self.framed.split += 1;
        }
        match &self.framing.multiline {
            None => self.event(part.stream, part.start, part.time, part.content),
            Some(rule) => self.join(rule, part),
        }
    }

    /// Adds a line to its stream's event.
    fn join(&mut self, rule: &Rule, part: Part) {
        let line = &self.batch.arena[part.content.0..part.content.1];
        let length = line.len();
        if !part.is_first {
            let has_start = self.memory.streams[part.stream].cut.is_some_and(|cut| cut.has_start);
            let ends = part.is_last && rule.ends_after(line);
            if part.is_last && !part.is_alone {
                self.open(part, has_start);
            } else {
                self.event(part.stream, part.start, part.time, part.content);
            }
            if ends {
                self.close(part.stream);
            }
            return;
        }
        let verdict = rule.judge(line, self.before(part.stream));
        if verdict.begins {
            self.close(part.stream);
        }
        let has_start = self.before(part.stream).unwrap_or(verdict.has_start);
        let stream = &mut self.memory.streams[part.stream];
        if !part.is_last {
            if stream.event.is_open {
                self.end_too_long(part.stream, has_start);
            }
            self.event(part.stream, part.start, part.time, part.content);
            self.memory.streams[part.stream].cut = Some(Cut { has_start, is_dropped: false, in_line: false });
            return;
        }
        if stream.event.is_open {
            let fits = stream.event.len() + 1 + length <= self.framing.max_event && rule.allows_after(stream.lines);
            if fits {
                stream.event.keep(&self.batch.arena);
                stream.event.bytes.push(b'\n');
                stream.event.bytes.extend_from_slice(&self.batch.arena[part.content.0..part.content.1]);
                stream.lines += 1;
            } else if self.end_too_long(part.stream, has_start) {
                self.open(part, has_start);
            }
        } else if !stream.cut.is_some_and(|cut| cut.is_dropped) {
            self.open(part, has_start);
        }
        if verdict.ends {
            self.close(part.stream);
        }
    }

    fn open(&mut self, part: Part, has_start: bool) {
        let stream = &mut self.memory.streams[part.stream];
        stream.event.begin(part.start, part.time);
        stream.event.span = Some(part.content);
        (stream.lines, stream.has_start) = (1, has_start);
    }

    /// The open event cannot have the line that would be next. Gives whether that line is wanted.
    fn end_too_long(&mut self, index: usize, has_start: bool) -> bool {
        match self.framing.long {
            LongEvent::Split => {
                self.framed.split += 1;
                self.ship(index);
            }
            LongEvent::Truncate => {
                self.too_long(None);
                self.ship(index);
            }
            LongEvent::Skip => {
                self.too_long(None);
                self.memory.streams[index].event.is_open = false;
            }
        }
        let is_dropped = self.framing.long != LongEvent::Split;
        self.memory.streams[index].cut = Some(Cut { has_start, is_dropped, in_line: false });
        !is_dropped
    }

    /// The stream's event is complete, as well as what was cut from it.
    fn close(&mut self, index: usize) {
        self.ship(index);
        self.memory.streams[index].cut = None;
    }

    fn ship(&mut self, index: usize) {
        let open = &mut self.memory.streams[index].event;
        if !open.is_open {
            return;
        }
        open.is_open = false;
        let (start, time) = (open.start, open.time);
        let content = open.span.take().unwrap_or_else(|| {
            let made = self.batch.arena.len();
            self.batch.arena.extend_from_slice(&open.bytes);
            (made, self.batch.arena.len())
        });
        self.event(index, start, time, content);
    }

    #[inline]
    fn event(&mut self, stream: usize, start: u64, time: i64, content: (usize, usize)) {
        let name = match self.names[stream] {
            Some(name) => name,
            None => self.make_name(stream),
        };
        self.batch.cells.extend_from_slice(&[0, content.0 as u32, content.1 as u32, 1, name.0, name.1]);
        self.end_row(stream, start, time);
    }

    #[cold]
    fn make_name(&mut self, stream: usize) -> (u32, u32) {
        let made = self.batch.arena.len();
        self.batch.arena.extend_from_slice(NAMES[stream].as_bytes());
        *self.names[stream].insert((made as u32, self.batch.arena.len() as u32))
    }

    #[inline]
    fn end_row(&mut self, stream: usize, start: u64, time: i64) {
        self.batch.rows.push((self.batch.cells.len() / crate::event::CELL) as u32);
        self.batch.times.push(time);
        self.starts.push(start);
        self.streams.push(stream as u8);
    }

    /// A line that is not of the format, or what there is of it. Gives where what is left of it begins.
    #[cold]
    fn malformed(&mut self, mut start: usize, end: usize, is_complete: bool) -> usize {
        let is_first = !self.memory.in_malformed;
        let is_settled = self.memory.has_settled(self.input.map.raw(start));
        if is_first && !is_settled {
            self.framed.malformed += 1;
        }
        self.memory.in_malformed = !is_complete;
        let max_event = self.framing.max_event;
        if end - start > max_event && self.framing.long != LongEvent::Split {
            self.memory.in_malformed = false;
            if self.framing.long == LongEvent::Truncate {
                let cut = cut(&self.batch.arena[start..end], max_event);
                self.marked(start, start + cut);
            }
            if !is_settled {
                self.too_long(None);
            }
            return end;
        }
        while end - start > max_event {
            let cut = start + cut(&self.batch.arena[start..end], max_event);
            self.marked(start, cut);
            self.framed.split += u64::from(!is_settled);
            start = cut;
        }
        if is_complete {
            self.marked(start, end);
            start = end;
        }
        start
    }

    fn marked(&mut self, start: usize, end: usize) {
        static CRI: LazyLock<Arc<str>> = LazyLock::new(|| cri::MALFORMED.into());
        static DOCKER: LazyLock<Arc<str>> = LazyLock::new(|| docker::MALFORMED.into());
        let offset = self.input.map.raw(start);
        if self.memory.has_settled(offset) {
            return;
        }
        let reason = if self.framing.format == Format::Docker { &DOCKER } else { &CRI };
        let event = self.batch.rows.len() as u32;
        self.batch.marks.push(Mark { event, reason: Arc::clone(reason) });
        self.batch.cells.extend_from_slice(&[0, start as u32, end as u32]);
        self.end_row(self.memory.of_malformed(), offset, UNKNOWN_TIME);
    }

    /// What follows the last line end, up to `len`.
    fn rest(&mut self, start: usize, len: usize) -> Rest {
        if self.input.flush {
            if start == len {
                return Rest::Line;
            }
            self.framed.consumed = len;
            let is_dropped = self.framing.long != LongEvent::Split && len - start > self.longest_line();
            self.line(start, len);
            return if is_dropped { Rest::Discard } else { Rest::Late };
        }
        // A CR may be half of the line's end.
        let end = without_cr(&self.batch.arena, start, len);
        let longest = if self.memory.in_malformed { self.framing.max_event } else { self.longest_line() };
        if end - start > longest {
            self.framed.consumed = self.malformed(start, end, false);
            if self.framing.long != LongEvent::Split {
                self.framed.consumed = len;
                return Rest::Discard;
            }
        }
        Rest::Line
    }

    /// Ships what is open in streams that were quiet for too long, the one that began first before the other.
    fn flush_streams(&mut self) {
        let Input { ended, flush, now, .. } = *self.input;
        if !ended {
            return;
        }
        let [first, second] = self.memory.streams.each_ref().map(|stream| stream.start().unwrap_or(u64::MAX));
        for index in if first <= second { [0, 1] } else { [1, 0] } {
            let stream = &self.memory.streams[index];
            let is_quiet = stream.since.is_some_and(|since| now.duration_since(since) >= self.framing.flush_after);
            if flush || stream.is_open() && is_quiet {
                self.ship_line(index, true);
                self.close(index);
            }
        }
    }

    /// Copies what is open, as the arena is used again.
    fn keep(&mut self) {
        for stream in &mut self.memory.streams {
            stream.event.keep(&self.batch.arena);
        }
    }
}

#[cfg(test)]
mod tests;
