//! Encoded events, before and after they are a payload.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::Buffer;
use super::compress::{self, Compression};
use crate::event::Batch;

/// Which bytes a sink makes of events.
pub trait Encode: Send {
    /// Appends the batch's events from `from` on to `out`, until all are there or `room` is used up. One at least is
    /// appended, however long it is. Gives the first event that is not.
    fn encode(&mut self, batch: &Batch, from: usize, room: Room, out: &mut Records) -> usize;

    /// Whether events of the batch may be in one payload with those that are in `open`.
    fn joins(&self, _open: &Records, _batch: &Batch) -> bool {
        true
    }

    /// What stands around the events of a group in a payload; nothing if there is none.
    fn wrap(&self) -> Option<Wrap> {
        None
    }

    /// Forgets what it remembers only to be faster.
    fn forget(&mut self) {}

    /// Called once for each payload: the head of its groups may still be changed.
    fn seal(&mut self, _groups: &mut [Group]) {}
}

/// What stands around the events of a group.
#[derive(Clone, Copy, Debug)]
pub enum Wrap {
    /// Writes a group: its head, the events' bytes, and where to. Gives where the events begin, in bytes of the whole.
    Around(fn(&[u8], &[u8], &mut Vec<u8>) -> usize),
    /// The group's head stands behind its events.
    Behind,
}

impl Wrap {
    fn write(self, head: &[u8], events: &[u8], out: &mut Vec<u8>) -> usize {
        match self {
            Wrap::Around(write) => write(head, events, out),
            Wrap::Behind => {
                let at = out.len();
                out.extend_from_slice(events);
                out.extend_from_slice(head);
                at
            }
        }
    }
}

/// What may still be appended.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Encoded bytes in all, about; the event that reaches it is the last.
    pub bytes: usize,
    /// Events in all.
    pub events: usize,
}

impl Room {
    /// No limit.
    pub const ALL: Room = Room { bytes: usize::MAX, events: usize::MAX };
}

/// Events that are encoded and in no payload yet.
#[derive(Debug, Default)]
pub struct Records {
    /// Their bytes, one after the other, without what stands around them.
    pub bytes: Buffer,
    /// Where each of them ends. Empty if nobody asked for it.
    pub ends: Vec<u32>,
    /// Whether ends are asked for.
    pub wants_ends: bool,
    /// How many there are.
    pub events: usize,
    /// Those that have something in common; empty if that doesn't matter.
    pub groups: Vec<Group>,
}

/// Neighbouring events that have something in common: tags, labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The first of them. The last is the one before the next group.
    pub first: u32,
    /// What they have in common, encoded.
    pub head: Arc<[u8]>,
    /// Where their bytes begin, once they are in a payload.
    pub at: u32,
}

impl Records {
    /// How many events more there may be.
    #[inline]
    pub fn left(&self, room: Room) -> usize {
        room.events.saturating_sub(self.events).max(1)
    }

    /// From here on, events have that in common; nothing happens if they have already.
    pub fn begin_group(&mut self, head: &Arc<[u8]>) {
        let is_same = |group: &Group| Arc::ptr_eq(&group.head, head) || group.head == *head;
        if !self.groups.last().is_some_and(is_same) {
            self.groups.push(Group { first: self.events as u32, head: head.clone(), at: 0 });
        }
    }

    /// Ends an event, whose bytes were appended.
    #[inline]
    pub fn end_event(&mut self) {
        self.events += 1;
        if self.wants_ends {
            self.ends.push(self.bytes.len() as u32);
        }
    }

    /// Memory that it has, in bytes.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + 4 * self.ends.capacity()
    }

    /// Makes a payload's body of all events, and forgets them.
    pub fn seal(&mut self, wrap: Option<Wrap>, compression: Compression) -> Body {
        let mut layout = Layout {
            size: 0,
            events: std::mem::take(&mut self.events),
            compression,
            ends: std::mem::take(&mut self.ends),
            groups: std::mem::take(&mut self.groups),
            wrap,
        };
        let plain = match wrap {
            None => None,
            // Nothing has to be moved.
            Some(Wrap::Behind) if layout.groups.len() == 1 => {
                self.bytes.extend(&layout.groups[0].head);
                None
            }
            Some(wrap) => Some(layout.wrap(self.bytes.as_slice(), wrap)),
        };
        layout.size = plain.as_ref().map_or(self.bytes.len(), Vec::len);
        let bytes = match (compression, plain) {
            (Compression::None, None) => std::mem::take(&mut self.bytes),
            (Compression::None, Some(plain)) => plain.into(),
            (_, None) => compress::compress(compression, self.bytes.as_slice()).into(),
            (_, Some(plain)) => compress::compress(compression, &plain).into(),
        };
        self.bytes.clear();
        Body { bytes, layout }
    }
}

/// Events as they are sent.
#[derive(Debug)]
pub struct Body {
    /// What is sent.
    pub bytes: Buffer,
    /// What it is made of.
    pub layout: Layout,
}

/// What a body is made of, and where events are in it.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Bytes before compression.
    pub size: usize,
    /// How many events there are.
    pub events: usize,
    /// How it was compressed.
    pub compression: Compression,
    /// Where each ends, counted as if there were nothing but events.
    pub ends: Vec<u32>,
    /// What some have in common.
    pub groups: Vec<Group>,
    wrap: Option<Wrap>,
}

impl Layout {
    /// That of a body which was kept by itself. With several events in it, where they are is not known any more.
    pub fn of(plain: &[u8], events: usize, compression: Compression) -> Layout {
        let ends = if events == 1 { vec![plain.len() as u32] } else { Vec::new() };
        Layout { size: plain.len(), events, compression, ends, ..Layout::default() }
    }

    /// Writes all groups.
    fn wrap(&mut self, events: &[u8], wrap: Wrap) -> Vec<u8> {
        let mut out = Vec::with_capacity(events.len() + events.len() / 16 + 256);
        for i in 0..self.groups.len() {
            let range = self.group(i);
            let bytes = self.start(range.start)..self.start(range.end);
            let at = wrap.write(&self.groups[i].head, &events[bytes], &mut out);
            self.groups[i].at = at as u32;
        }
        out
    }

    /// The events of a group.
    fn group(&self, index: usize) -> Range<usize> {
        let end = self.groups.get(index + 1).map_or(self.ends.len(), |next| next.first as usize);
        self.groups[index].first as usize..end
    }

    /// Where an event would begin if there were nothing but events.
    fn start(&self, event: usize) -> usize {
        event.checked_sub(1).map_or(0, |before| self.ends[before] as usize)
    }

    /// Where an event is in the body before compression.
    pub fn event(&self, event: usize) -> Range<usize> {
        let (start, end) = (self.start(event), self.start(event + 1));
        let base = match self.groups.partition_point(|group| group.first as usize <= event).checked_sub(1) {
            Some(group) if self.wrap.is_some() => {
                let group = &self.groups[group];
                group.at as usize - self.start(group.first as usize)
            }
            _ => 0,
        };
        base + start..base + end
    }

    /// The bytes before compression of what was sent as `bytes`.
    pub fn plain(&self, bytes: &[u8]) -> io::Result<Bytes> {
        compress::decompress(self.compression, bytes, self.size)
    }

    /// A body of some of the events, in order; `plain` is that of this one before compression.
    pub fn part(&self, events: impl IntoIterator<Item = usize>, plain: &[u8]) -> Body {
        self.records(events, plain).seal(self.wrap, self.compression)
    }

    /// A body of one event, before compression.
    pub fn alone(&self, event: usize, plain: &[u8]) -> Vec<u8> {
        self.records([event], plain).seal(self.wrap, Compression::None).bytes.into()
    }

    fn records(&self, events: impl IntoIterator<Item = usize>, plain: &[u8]) -> Records {
        let mut records = Records { wants_ends: true, ..Records::default() };
        for event in events {
            let group = self.groups.partition_point(|group| group.first as usize <= event);
            if let Some(group) = group.checked_sub(1) {
                records.begin_group(&self.groups[group].head);
            }
            records.bytes.extend(&plain[self.event(event)]);
            records.end_event();
        }
        records
    }
}

impl From<&str> for Body {
    fn from(text: &str) -> Self {
        let layout = Layout { size: text.len(), events: 1, ..Layout::default() };
        Body { bytes: text.into(), layout }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brackets(head: &[u8], events: &[u8], out: &mut Vec<u8>) -> usize {
        out.extend_from_slice(head);
        out.push(b'[');
        let at = out.len();
        out.extend_from_slice(events);
        out.push(b']');
        at
    }

    /// Three events of group `a`, then one of `b`, then one of `a` again.
    fn five() -> Records {
        let mut records = Records { wants_ends: true, ..Records::default() };
        let (a, b): (Arc<[u8]>, Arc<[u8]>) = (b"a".as_slice().into(), b"b".as_slice().into());
        for (head, event) in [(&a, "1"), (&a, "22"), (&a, ""), (&b, "333"), (&a, "4")] {
            records.begin_group(head);
            records.bytes.extend(event.as_bytes());
            records.end_event();
        }
        records
    }

    #[test]
    fn events_are_wrapped_by_groups_and_found_again() {
        for compression in compress::ALL {
            let mut records = five();
            let body = records.seal(Some(Wrap::Around(brackets)), compression);
            assert!(records.bytes.is_empty() && records.events == 0 && records.groups.is_empty());
            let plain = body.layout.plain(body.bytes.as_slice()).unwrap();
            assert_eq!(plain, "a[122]b[333]a[4]", "{compression:?}");
            assert_eq!((body.layout.size, body.layout.events), (plain.len(), 5));
            let events: Vec<_> = (0..5).map(|i| &plain[body.layout.event(i)]).collect();
            assert_eq!(events, [b"1".as_slice(), b"22", b"", b"333", b"4"]);
            for (part, expected) in [
                (vec![1, 3], "a[22]b[333]"),
                (vec![0, 4], "a[14]"),
                (vec![2], "a[]"),
                (vec![4], "a[4]"),
                (vec![0, 1, 2, 3, 4], "a[122]b[333]a[4]"),
            ] {
                if let [event] = part[..] {
                    assert_eq!(body.layout.alone(event, &plain), expected.as_bytes());
                }
                let part = body.layout.part(part, &plain);
                assert_eq!(part.layout.plain(part.bytes.as_slice()).unwrap(), expected);
                // And parts of parts.
                let plain = part.layout.plain(part.bytes.as_slice()).unwrap();
                let again = part.layout.part(0..part.layout.events, &plain);
                assert_eq!(again.layout.plain(again.bytes.as_slice()).unwrap(), expected);
            }
        }
    }

    #[test]
    fn a_head_may_stand_behind_its_events() {
        let mut records = Records { wants_ends: true, ..Records::default() };
        for event in ["1", "22", "3"] {
            records.begin_group(&b"h".as_slice().into());
            records.bytes.extend(event.as_bytes());
            records.end_event();
        }
        let body = records.seal(Some(Wrap::Behind), Compression::None);
        assert_eq!(body.bytes.as_slice(), b"1223h");
        assert_eq!(body.layout.part([0, 2], b"1223h").bytes.as_slice(), b"13h");
        let body = five().seal(Some(Wrap::Behind), Compression::None);
        assert_eq!(body.bytes.as_slice(), b"122a333b4a");
        assert_eq!(body.layout.part([1, 3], body.bytes.as_slice()).bytes.as_slice(), b"22a333b");
    }

    #[test]
    fn events_without_groups_are_only_joined() {
        let mut records = Records { wants_ends: true, ..Records::default() };
        for event in ["{}\n", "{\"a\":1}\n", "{\"b\":2}\n"] {
            records.bytes.extend(event.as_bytes());
            records.end_event();
        }
        let body = records.seal(None, Compression::None);
        let plain = body.layout.plain(body.bytes.as_slice()).unwrap();
        assert_eq!(plain, "{}\n{\"a\":1}\n{\"b\":2}\n");
        let part = body.layout.part([0, 2], &plain);
        assert_eq!(part.layout.plain(part.bytes.as_slice()).unwrap(), "{}\n{\"b\":2}\n");
    }
}
