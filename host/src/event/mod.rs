//! The batch: many events of one file, in order, as flat arrays over one arena of bytes.
//!
//! Nothing here knows of files, plugins or networks. A batch's invariants are those of [`Batch::check`];
//! whoever makes a batch keeps them, and whoever reads one relies on them.

mod merge;
mod tally;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

pub use merge::{Aside, merge};
pub use tally::{Tallied, Tally};

/// Numbers of a cell in [`Batch::cells`]: field, start, end.
pub const CELL: usize = 3;

/// The field of a raw line.
pub const CONTENT: &str = "content";

/// Nanoseconds that mean "unknown" in [`Batch::times`].
pub const UNKNOWN_TIME: i64 = i64::MIN;

/// How a sink may write a cell's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Any bytes.
    Text,
    /// A decimal integer, as in JSON.
    Integer,
    /// A number, as in JSON.
    Float,
    /// `true` or `false`.
    Boolean,
    /// One JSON value.
    Json,
}

/// A name and a kind that cells refer to by index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// Not empty.
    pub name: Arc<str>,
    /// How its cells may be written.
    pub kind: Kind,
}

/// What is the same for all events of a source: `path`, `host`, ….
pub type Tags = Vec<(String, String)>;

/// The events that were read, `first..end`, which an event came from. Numbered per file, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The first of them.
    pub first: u64,
    /// The one after the last.
    pub end: u64,
}

/// An event that a plugin could not process: shipped as it came to the plugin, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its index in the batch.
    pub event: u32,
    /// What happened, beginning with the plugin's name.
    pub reason: Arc<str>,
}

/// Many events of one file, in order.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Of the source; the same for all events.
    pub tags: Arc<Tags>,
    /// What cells point into. Only grows while a batch goes through a chain, so that no cell is ever moved.
    pub arena: Vec<u8>,
    /// What cells refer to.
    pub fields: Vec<Field>,
    /// For each event, the end of its run of cells, in cells. Never decreases.
    pub rows: Vec<u32>,
    /// Three numbers a cell: field, start and end in the arena.
    pub cells: Vec<u32>,
    /// Unix nanoseconds, one an event, or [`UNKNOWN_TIME`]. Empty: unknown for all.
    pub times: Vec<i64>,
    /// Where each event came from. Empty: event *i* came from the one read event `first + i`.
    pub origins: Vec<Origin>,
    /// The number of the first event, where `origins` is empty.
    pub first: u64,
    /// The events that failed, by increasing index.
    pub marks: Vec<Mark>,
}

impl Batch {
    /// How many events there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of memory that it has, about.
    pub fn bytes(&self) -> usize {
        self.arena.capacity()
            + 4 * (self.rows.capacity() + self.cells.capacity())
            + 8 * self.times.capacity()
            + size_of::<Origin>() * self.origins.capacity()
    }

    /// Bytes that its events take where they are written, about: many cells may share bytes and names.
    pub fn weight(&self) -> usize {
        let names: Vec<_> = self.fields.iter().map(|field| field.name.len()).collect();
        let cell = |cell: &[u32]| (cell[2] - cell[1]) as usize + names[cell[0] as usize];
        let reasons: usize = self.marks.iter().map(|mark| mark.reason.len()).sum();
        self.cells.chunks_exact(CELL).map(cell).sum::<usize>() + reasons + 32 * (self.len() + self.cells.len() / CELL)
    }

    /// The numbers of the event's cells.
    #[inline]
    pub fn event(&self, index: usize) -> &[u32] {
        &self.cells[self.row(index)]
    }

    /// Where the event's cells lie in [`Batch::cells`].
    #[inline]
    pub fn row(&self, index: usize) -> Range<usize> {
        let start = if index == 0 { 0 } else { self.rows[index - 1] as usize };
        start * CELL..self.rows[index] as usize * CELL
    }

    /// The event's time, or [`UNKNOWN_TIME`].
    #[inline]
    pub fn time(&self, index: usize) -> i64 {
        self.times.get(index).copied().unwrap_or(UNKNOWN_TIME)
    }

    /// Where the event came from.
    #[inline]
    pub fn origin(&self, index: usize) -> Origin {
        match self.origins.get(index) {
            Some(origin) => *origin,
            None => Origin { first: self.first + index as u64, end: self.first + index as u64 + 1 },
        }
    }

    /// Forgets all events and keeps the memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.rows.clear();
        self.cells.clear();
        self.times.clear();
        self.origins.clear();
        self.marks.clear();
    }

    /// Adds copies of all events of `other` before those of this batch: events that were held before.
    pub fn prepend(&mut self, other: &Batch) {
        let mut joined = Batch { tags: self.tags.clone(), arena: std::mem::take(&mut self.arena), ..Batch::default() };
        let moved = joined.arena.len() as u32;
        joined.arena.extend_from_slice(&other.arena);
        joined.push_all(other, moved);
        joined.push_all(self, 0);
        *self = joined;
    }

    /// Adds all events of another batch, whose arena begins at `moved` of this one's.
    fn push_all(&mut self, from: &Batch, moved: u32) {
        let mut fields = FieldMap::new(from, self);
        (0..from.len()).for_each(|i| self.push(from, &mut fields, i, moved));
    }

    /// Adds an event of another batch, whose arena begins at `moved` of this one's.
    fn push(&mut self, from: &Batch, fields: &mut FieldMap, index: usize, moved: u32) {
        for cell in from.event(index).chunks_exact(CELL) {
            let field = fields.find(from, self, cell[0]);
            self.cells.extend_from_slice(&[field, cell[1] + moved, cell[2] + moved]);
        }
        self.end_row(from.time(index), from.origin(index));
        if let Ok(at) = from.marks.binary_search_by_key(&(index as u32), |mark| mark.event) {
            let event = self.len() as u32 - 1;
            self.marks.push(Mark { event, reason: from.marks[at].reason.clone() });
        }
    }

    /// Copies the last `count` events, marks and all, with only the bytes that they need.
    pub fn tail(&self, count: usize) -> Batch {
        self.part(self.len() - count..self.len())
    }

    /// Copies some of the events, marks and all, with only the bytes that they need.
    pub fn part(&self, events: Range<usize>) -> Batch {
        let mut part = Batch { tags: self.tags.clone(), ..Batch::default() };
        let mut fields = FieldMap::new(self, &part);
        for i in events.clone() {
            for cell in self.event(i).chunks_exact(CELL) {
                let field = fields.find(self, &mut part, cell[0]);
                let start = part.arena.len() as u32;
                part.arena.extend_from_slice(&self.arena[cell[1] as usize..cell[2] as usize]);
                part.cells.extend_from_slice(&[field, start, part.arena.len() as u32]);
            }
            part.end_row(self.time(i), self.origin(i));
        }
        let first = self.marks.partition_point(|mark| (mark.event as usize) < events.start);
        let marks = self.marks[first..].iter().take_while(|mark| (mark.event as usize) < events.end);
        let moved = |mark: &Mark| Mark { event: mark.event - events.start as u32, reason: mark.reason.clone() };
        part.marks = marks.map(moved).collect();
        part
    }

    /// Adds copies of all events of `other` after those of this batch.
    pub fn append(&mut self, other: &Batch) {
        // Those that are here get the origins that they have by their numbers.
        if self.origins.len() < self.len() {
            self.origins = (0..self.len()).map(|i| self.origin(i)).collect();
        }
        let moved = self.arena.len() as u32;
        self.arena.extend_from_slice(&other.arena);
        self.push_all(other, moved);
    }

    /// Marks all events that are not marked yet.
    pub fn mark_all(&mut self, reason: &Arc<str>) {
        let mut old = std::mem::take(&mut self.marks).into_iter().peekable();
        let mark = |event| match old.next_if(|mark| mark.event == event) {
            Some(mark) => mark,
            None => Mark { event, reason: reason.clone() },
        };
        self.marks = (0..self.rows.len() as u32).map(mark).collect();
    }

    /// Leaves only the events that are marked, and gives the origins of the others.
    pub fn keep_marked(&mut self) -> Vec<Origin> {
        let mut kept = Batch { tags: self.tags.clone(), arena: std::mem::take(&mut self.arena), ..Batch::default() };
        let (mut fields, mut others) = (FieldMap::new(self, &kept), Vec::new());
        let mut marks = self.marks.iter().map(|mark| mark.event as usize).peekable();
        for event in 0..self.len() {
            match marks.next_if_eq(&event) {
                Some(_) => kept.push(self, &mut fields, event, 0),
                None => others.push(self.origin(event)),
            }
        }
        *self = kept;
        others
    }

    /// The events that are not marked, with the arena, and where each stands in this batch.
    pub fn take_unmarked(&mut self) -> (Batch, Vec<u32>) {
        let mut open = Batch { tags: self.tags.clone(), fields: self.fields.clone(), ..Batch::default() };
        let mut places = Vec::new();
        let mut marks = self.marks.iter().peekable();
        for event in 0..self.len() as u32 {
            if marks.next_if(|mark| mark.event == event).is_none() {
                open.cells.extend_from_slice(self.event(event as usize));
                open.end_row(self.time(event as usize), self.origin(event as usize));
                places.push(event);
            }
        }
        open.arena = std::mem::take(&mut self.arena);
        (open, places)
    }

    fn end_row(&mut self, time: i64, origin: Origin) {
        if time != UNKNOWN_TIME || !self.times.is_empty() {
            self.times.resize(self.rows.len(), UNKNOWN_TIME);
            self.times.push(time);
        }
        self.rows.push((self.cells.len() / CELL) as u32);
        self.origins.push(origin);
    }

    /// Says which invariant is broken. For tests and debug builds.
    pub fn check(&self) -> Result<(), String> {
        let mut last = 0;
        for (i, end) in self.rows.iter().enumerate() {
            if *end < last {
                return Err(format!("the row of event {i} ends at {end}, before it starts at {last}"));
            }
            last = *end;
        }
        if last as usize * CELL != self.cells.len() {
            return Err(format!("rows end at cell {last}, but there are {} numbers of cells", self.cells.len()));
        }
        for (i, cell) in self.cells.chunks_exact(CELL).enumerate() {
            let inside = cell[1] <= cell[2] && cell[2] as usize <= self.arena.len();
            if cell[0] as usize >= self.fields.len() || !inside {
                return Err(format!("cell {i} is {cell:?}, out of bounds"));
            }
        }
        let one_each = |n: usize| n == 0 || n == self.len();
        if !one_each(self.times.len()) || !one_each(self.origins.len()) {
            return Err(format!("{} times, {} origins, {} events", self.times.len(), self.origins.len(), self.len()));
        }
        let ordered = self.marks.windows(2).all(|m| m[0].event < m[1].event);
        match self.marks.last() {
            Some(mark) if !ordered || mark.event as usize >= self.len() => {
                Err("marks out of order or bounds".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// Which field of one batch is which of another. Each is looked for once: there may be many, of long names.
struct FieldMap {
    found: Vec<Option<u32>>,
    known: HashMap<Field, u32>,
}

impl FieldMap {
    fn new(from: &Batch, to: &Batch) -> Self {
        let known = (0..).zip(&to.fields).map(|(index, field)| (field.clone(), index)).collect();
        FieldMap { found: vec![None; from.fields.len()], known }
    }

    /// The index in `to` of a field of `from`. It is added if it is new.
    fn find(&mut self, from: &Batch, to: &mut Batch, index: u32) -> u32 {
        *self.found[index as usize].get_or_insert_with(|| {
            let field = &from.fields[index as usize];
            *self.known.entry(field.clone()).or_insert_with(|| {
                to.fields.push(field.clone());
                to.fields.len() as u32 - 1
            })
        })
    }
}

/// For tests of whatever takes or gives batches.
pub mod testing {
    use super::*;

    /// A batch of raw lines, as the source makes it; they are numbered from `first`.
    pub fn raw(lines: &[&str], first: u64) -> Batch {
        let mut batch =
            Batch { fields: vec![Field { name: CONTENT.into(), kind: Kind::Text }], first, ..Batch::default() };
        for (i, line) in lines.iter().enumerate() {
            let start = batch.arena.len() as u32;
            batch.arena.extend_from_slice(line.as_bytes());
            batch.cells.extend([0, start, batch.arena.len() as u32]);
            batch.arena.push(b'\n');
            batch.rows.push(i as u32 + 1);
        }
        batch
    }

    /// Each event as `name=value` pairs, then ` !reason` if it is marked.
    pub fn text(batch: &Batch) -> Vec<String> {
        batch.check().expect("a sound batch");
        let one = |i: usize| {
            let cells = batch.event(i).chunks_exact(CELL).map(|cell| {
                let bytes = &batch.arena[cell[1] as usize..cell[2] as usize];
                format!("{}={}", batch.fields[cell[0] as usize].name, String::from_utf8_lossy(bytes))
            });
            let text = cells.collect::<Vec<_>>().join(" ");
            match batch.marks.iter().find(|m| m.event as usize == i) {
                Some(mark) => format!("{text} !{}", mark.reason),
                None => text,
            }
        };
        (0..batch.len()).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{raw, text};
    use super::*;

    #[test]
    fn held_events_come_first_and_keep_what_they_are() {
        let held = raw(&["a", "b", "c"], 5).tail(2);
        assert_eq!(held.arena, b"bc");
        let mut marked = raw(&["a", "b"], 0);
        marked.marks = [0, 1].map(|event| Mark { event, reason: "no".into() }).into();
        assert_eq!(text(&marked.tail(1)), ["content=b !no"]);
        let mut next = raw(&["d"], 8);
        next.times = vec![7];
        next.prepend(&held);
        assert_eq!(text(&next), ["content=b", "content=c", "content=d"]);
        assert_eq!(next.times, [UNKNOWN_TIME, UNKNOWN_TIME, 7]);
        assert_eq!([next.origin(0).first, next.origin(1).first, next.origin(2).first], [6, 7, 8]);
    }

    #[test]
    fn parts_of_a_batch_make_the_batch_again() {
        let mut batch = raw(&["a", "b", "c", "d"], 5);
        batch.times = vec![1, UNKNOWN_TIME, 3, 4];
        batch.marks = [1, 3].map(|event| Mark { event, reason: "no".into() }).into();
        let mut again = batch.part(0..1);
        again.append(&batch.part(1..3));
        again.append(&batch.part(3..4));
        assert_eq!(text(&again), text(&batch));
        assert_eq!(again.times, batch.times);
        assert!((0..4).all(|i| again.origin(i) == batch.origin(i)));
    }

    #[test]
    fn events_are_appended_to_those_that_have_only_numbers() {
        let mut batch = raw(&["a", "b"], 5);
        batch.append(&raw(&["c"], 9));
        assert_eq!((0..3).map(|i| batch.origin(i).first).collect::<Vec<_>>(), [5, 6, 9]);
        assert_eq!(text(&batch), ["content=a", "content=b", "content=c"]);
    }

    #[test]
    fn what_is_not_marked_is_marked_or_left_out() {
        let mut batch = raw(&["a", "b", "c"], 5);
        batch.marks = vec![Mark { event: 1, reason: "no".into() }];
        let mut rest = batch.clone();
        batch.mark_all(&"late".into());
        assert_eq!(text(&batch), ["content=a !late", "content=b !no", "content=c !late"]);
        let out = rest.keep_marked();
        assert_eq!(text(&rest), ["content=b !no"]);
        assert_eq!(out, [Origin { first: 5, end: 6 }, Origin { first: 7, end: 8 }]);
    }

    #[test]
    fn broken_invariants_are_named() {
        let mut batch = raw(&["a"], 0);
        batch.cells[2] = 9;
        assert_eq!(batch.check().unwrap_err(), "cell 0 is [0, 0, 9], out of bounds");
        batch.rows[0] = 2;
        assert_eq!(batch.check().unwrap_err(), "rows end at cell 2, but there are 3 numbers of cells");
    }
}
