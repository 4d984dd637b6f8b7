//! The events of a case: raw lines, or events with fields, and any part of them as a batch.

use std::fmt;
use std::ops::Range;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::event::{Batch, CELL, CONTENT, Field, Kind, UNKNOWN_TIME};
use crate::source::framing::{self, LongEvent, Map, Memory, lines};
use crate::source::{CHUNK, EVENTS};

/// A line longer than this is split, as `weir pipe` does.
pub const MAX_LINE: usize = 1 << 20;

/// The member of an event that is its time; no other may begin as it does.
const TIME: &str = "__time__";

/// Events in their order.
#[derive(Clone, Default)]
pub struct Input {
    /// All of them; the bytes of each end with a line feed.
    all: Batch,
    /// Where the bytes of each end.
    ends: Vec<usize>,
}

impl Input {
    /// The lines of a file.
    pub fn lines(bytes: &[u8]) -> Input {
        let content = content();
        let (mut input, mut rest, mut memory) = (Input::default(), bytes.to_vec(), Memory::default());
        while !rest.is_empty() {
            let mut batch = Batch { arena: rest, ..Batch::default() };
            let at = framing::Input { map: &Map::Plain { base: 0 }, ended: true, flush: true, now: Instant::now() };
            let framed = lines::frame(MAX_LINE, LongEvent::Split, &mut memory, &mut batch, &mut Vec::new(), &at);
            for cell in batch.cells.chunks_exact(CELL) {
                let line = &batch.arena[cell[1] as usize..cell[2] as usize];
                input.push([(content.clone(), line)].into_iter(), UNKNOWN_TIME);
            }
            rest = batch.arena.split_off(framed.consumed);
        }
        input
    }

    /// Events as JSON objects, one a line.
    pub fn events(text: &str) -> Result<Input> {
        let mut input = Input::default();
        for (number, line) in (1..).zip(text.lines()) {
            let event = Members::read(line).and_then(|members| members.cells());
            let (cells, time) = event.with_context(|| format!("line {number}"))?;
            input.push(cells.iter().map(|(field, bytes)| (field.clone(), bytes.as_slice())), time);
        }
        Ok(input)
    }

    /// Adds an event.
    fn push<'a>(&mut self, cells: impl Iterator<Item = (Field, &'a [u8])>, time: i64) {
        let all = &mut self.all;
        for (field, bytes) in cells {
            let known = all.fields.iter().position(|known| *known == field);
            let index = known.unwrap_or_else(|| {
                all.fields.push(field);
                all.fields.len() - 1
            });
            let start = all.arena.len();
            all.arena.extend_from_slice(bytes);
            all.cells.extend([index as u32, start as u32, all.arena.len() as u32]);
        }
        all.arena.push(b'\n');
        all.rows.push((all.cells.len() / CELL) as u32);
        all.times.push(time);
        self.ends.push(all.arena.len());
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Bytes of all events.
    pub fn bytes(&self) -> usize {
        self.all.arena.len()
    }

    /// Some of the events, as the source would make a batch of them.
    pub fn batch(&self, events: Range<usize>) -> Batch {
        let start = self.end_before(events.start);
        let cells = &self.all.cells[self.cells_before(events.start)..self.cells_before(events.end)];
        let rows = &self.all.rows[events.clone()];
        let first_cell = (self.cells_before(events.start) / CELL) as u32;
        let times = &self.all.times[events.clone()];
        let moved = |cell: &[u32]| [cell[0], cell[1] - start as u32, cell[2] - start as u32];
        Batch {
            arena: self.all.arena[start..self.end_before(events.end)].to_vec(),
            fields: self.all.fields.clone(),
            rows: rows.iter().map(|end| end - first_cell).collect(),
            cells: cells.chunks_exact(CELL).flat_map(moved).collect(),
            times: if times.iter().all(|time| *time == UNKNOWN_TIME) { Vec::new() } else { times.to_vec() },
            first: events.start as u64,
            ..Batch::default()
        }
    }

    /// Where batches end that have as many bytes and events as an agent reads at once.
    pub fn ends(&self) -> Vec<usize> {
        let (mut ends, mut first) = (Vec::new(), 0);
        for event in 1..self.len() {
            if self.ends[event] - self.end_before(first) > CHUNK || event - first == EVENTS {
                ends.push(event);
                first = event;
            }
        }
        ends.push(self.len());
        ends
    }

    /// Events like the first, once for each of its texts, which is one of these bytes; raw lines if there is none.
    pub fn like_first(&self, texts: &[Vec<u8>], most: usize) -> Input {
        let first = if self.is_empty() { Input::lines(b"\n") } else { self.clone() };
        let cells = || first.all.event(0).chunks_exact(CELL);
        let field = |cell: &[u32]| first.all.fields[cell[0] as usize].clone();
        let mut input = Input::default();
        let is_text = |cell: &[u32]| field(cell).kind == Kind::Text;
        for replaced in (0..cells().len()).filter(|cell| cells().nth(*cell).is_some_and(is_text)).take(most) {
            for text in texts {
                let bytes = |(number, cell): (usize, &[u32])| match number == replaced {
                    true => (field(cell), text.clone()),
                    false => (field(cell), first.all.arena[cell[1] as usize..cell[2] as usize].to_vec()),
                };
                let made: Vec<_> = cells().enumerate().map(bytes).collect();
                input.push(made.iter().map(|(field, bytes)| (field.clone(), bytes.as_slice())), first.all.time(0));
            }
        }
        input
    }

    /// The bytes of the first text of the first event; none if there is no event.
    pub fn first_text(&self) -> &[u8] {
        if self.is_empty() {
            return &[];
        }
        let is_text = |cell: &&[u32]| self.all.fields[cell[0] as usize].kind == Kind::Text;
        let first = self.all.event(0).chunks_exact(CELL).find(is_text);
        first.map_or(&[], |cell| &self.all.arena[cell[1] as usize..cell[2] as usize])
    }

    fn end_before(&self, event: usize) -> usize {
        event.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    fn cells_before(&self, event: usize) -> usize {
        event.checked_sub(1).map_or(0, |before| self.all.rows[before] as usize * CELL)
    }
}

fn content() -> Field {
    Field { name: CONTENT.into(), kind: Kind::Text }
}

type Cells = Vec<(Field, Vec<u8>)>;

/// The members of a JSON object in their order, their values as they are written.
struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    fn read(line: &str) -> Result<Members> {
        serde_json::from_str(line).map_err(|error| anyhow!("it is no JSON object: {error}"))
    }

    /// As cells, and a time.
    fn cells(self) -> Result<(Cells, i64)> {
        let (mut cells, mut time) = (Vec::new(), UNKNOWN_TIME);
        for (name, value) in self.0 {
            if name == TIME {
                let text: String = serde_json::from_str(value.get()).with_context(|| format!("{TIME} is no text"))?;
                let at: jiff::Timestamp = text.parse().with_context(|| format!("{TIME} is no time of RFC 3339"))?;
                time = i64::try_from(at.as_nanosecond()).with_context(|| format!("{TIME} is out of range"))?;
                continue;
            }
            if name.is_empty() || name.starts_with("__") {
                bail!(
                    "a field is named {name:?}: names are not empty, and of those with `__` only {TIME} may be given"
                );
            }
            let Some((kind, bytes)) = cell(value.get())? else { continue };
            cells.push((Field { name: name.into(), kind }, bytes));
        }
        Ok((cells, time))
    }
}

/// The kind and the bytes of a value; none of `null`.
fn cell(json: &str) -> Result<Option<(Kind, Vec<u8>)>> {
    let plain = |kind| Ok(Some((kind, json.as_bytes().to_vec())));
    match json.as_bytes()[0] {
        b'n' => Ok(None),
        b't' | b'f' => plain(Kind::Boolean),
        b'{' | b'[' => plain(Kind::Json),
        b'"' => Ok(Some((Kind::Text, serde_json::from_str::<String>(json)?.into_bytes()))),
        _ if json.contains(['.', 'e', 'E']) => plain(Kind::Float),
        _ => plain(Kind::Integer),
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object: an event with its fields")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::testing::text;

    #[test]
    fn lines_are_batches_of_any_part() {
        let input = Input::lines(b"a\r\nbc\n\nd");
        assert_eq!(text(&input.batch(0..4)), ["content=a", "content=bc", "content=", "content=d"]);
        let part = input.batch(1..3);
        assert_eq!((part.arena.as_slice(), part.first, text(&part).len()), (&b"bc\n\n"[..], 1, 2));
        assert_eq!(input.ends(), [4]);
        let long = Input::lines("x".repeat(CHUNK - 10).as_bytes().repeat(3).as_slice());
        assert_eq!((long.len(), long.ends()), (1, vec![1]));
        let many = Input::lines(&[b'x'; 63].iter().chain(b"\n").copied().collect::<Vec<_>>().repeat(CHUNK / 32));
        assert_eq!(many.ends(), [CHUNK / 64, CHUNK / 32]);
        assert_eq!(Input::lines(&b"\n".repeat(EVENTS + 1)).ends(), [EVENTS, EVENTS + 1]);
    }

    #[test]
    fn events_keep_what_their_values_are() {
        let line =
            r#"{"a":"x\n","b":1.50,"c":-7,"d":true,"e":{"f": [1]},"g":null,"__time__":"1970-01-01T00:00:01.5Z","b":2}"#;
        let batch = Input::events(&format!("{line}\n{{}}\n")).unwrap().batch(0..2);
        assert_eq!(text(&batch), ["a=x\n b=1.50 c=-7 d=true e={\"f\": [1]} b=2", ""]);
        let kinds = [Kind::Text, Kind::Float, Kind::Integer, Kind::Boolean, Kind::Json, Kind::Integer];
        assert_eq!(batch.fields.iter().map(|field| field.kind).collect::<Vec<_>>(), kinds);
        assert_eq!(batch.times, [1_500_000_000, UNKNOWN_TIME]);
    }

    #[test]
    fn what_is_no_event_is_refused_with_its_line() {
        let refusal = |text: &str| format!("{:#}", Input::events(text).err().unwrap());
        assert_eq!(
            refusal("{}\n[1]"),
            "line 2: it is no JSON object: invalid type: sequence, expected an object: an event with its fields at line 1 column 0"
        );
        assert_eq!(
            refusal("{\"__error__\":\"x\"}"),
            "line 1: a field is named \"__error__\": names are not empty, and of those with `__` only __time__ may be given"
        );
        assert!(refusal("{\"__time__\":\"soon\"}").starts_with("line 1: __time__ is no time of RFC 3339"));
    }

    #[test]
    fn events_like_the_first_have_other_texts() {
        let input = Input::events("{\"a\":\"x\",\"n\":1,\"b\":\"y\"}").unwrap();
        let like = input.like_first(&[b"!".to_vec()], 8);
        assert_eq!(text(&like.batch(0..2)), ["a=! n=1 b=y", "a=x n=1 b=!"]);
        assert_eq!(text(&Input::default().like_first(&[b"!".to_vec()], 8).batch(0..1)), ["content=!"]);
    }
}
