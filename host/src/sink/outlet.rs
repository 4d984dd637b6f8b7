//! A lane's way to one of its sinks: encodes batches, closes payloads, and knows what is still on its way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::compress::Compression;
use super::records::{Encode, Records, Room};
use super::{Buffer, Lost, Payload, Receipt, Returned, Returns, Sender};
use crate::config::LogstoreName;
use crate::event::Batch;

/// When payloads are closed, and how many may be on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// Bytes before compression; a payload is closed by the event that reaches it.
    pub max_bytes: usize,
    /// Events of a payload at most.
    pub max_events: usize,
    /// A payload is closed so long after its first event; at once, if zero.
    pub max_age: Duration,
    /// Payloads that may be on their way.
    pub in_flight: usize,
}

impl Batching {
    /// For what is written locally: a payload a batch.
    pub const LOCAL: Batching =
        Batching { max_bytes: 4 << 20, max_events: usize::MAX, max_age: Duration::ZERO, in_flight: 4 };
}

/// All that an outlet is made of.
pub struct OutletParts {
    /// How events are written.
    pub encoder: Box<dyn Encode>,
    /// How payloads are compressed.
    pub compression: Compression,
    /// When payloads are closed.
    pub batching: Batching,
    /// The sink.
    pub sender: Arc<dyn Sender>,
    /// Whose events they are.
    pub target: Arc<LogstoreName>,
}

/// A lane's way to one of its sinks. Events are numbered from 0, in the order in which they come.
pub struct Outlet {
    parts: OutletParts,
    returns: Arc<Returns>,
    /// Its number among the outlets of its lane.
    number: usize,
    open: Records,
    /// The first event that is open.
    first_open: u64,
    /// When it was encoded.
    opened: Option<Instant>,
    on_the_way: VecDeque<OnTheWay>,
    /// Payloads of these that are not back.
    waiting: usize,
    next_id: u64,
    spare: Vec<Buffer>,
}

struct OnTheWay {
    id: u64,
    first: u64,
    is_back: bool,
    memory: usize,
    bytes: u64,
}

/// What was found when a payload came back.
#[derive(Debug, Default)]
pub struct Back {
    /// Bytes that were delivered.
    pub bytes: u64,
    /// Events of it that were not, by their numbers.
    pub lost: Vec<(u64, Lost)>,
}

impl Outlet {
    /// The outlet with that number of a lane; its payloads come back to `returns`.
    pub fn new(parts: OutletParts, returns: Arc<Returns>, number: usize) -> Self {
        let open = Records { wants_ends: parts.sender.splits(), ..Records::default() };
        Outlet {
            parts,
            returns,
            number,
            open,
            first_open: 0,
            opened: None,
            on_the_way: VecDeque::new(),
            waiting: 0,
            next_id: 0,
            spare: Vec::new(),
        }
    }

    /// Whether nothing more can be taken until a payload comes back.
    pub fn is_full(&self) -> bool {
        self.waiting >= self.parts.batching.in_flight
    }

    /// Whether nothing is open, and nothing on its way.
    pub fn is_empty(&self) -> bool {
        self.open.events == 0 && self.waiting == 0
    }

    /// All events before this one are delivered, or lost and reported.
    pub fn settled(&self) -> u64 {
        self.on_the_way.front().map_or(self.first_open, |payload| payload.first)
    }

    /// Takes the batch's events from `from` on, until it is full or has all. Gives the first that it doesn't have.
    pub fn take(&mut self, batch: &Batch, mut from: usize, now: Instant) -> usize {
        let Batching { max_bytes, max_events, max_age, .. } = self.parts.batching;
        while from < batch.len() && !self.is_full() {
            if self.open.events > 0 && !self.parts.encoder.joins(&self.open, batch) {
                self.close();
                continue;
            }
            if self.open.bytes.capacity() == 0 {
                self.open.bytes = self.spare.pop().unwrap_or_default();
                self.open.bytes.clear();
            }
            self.opened.get_or_insert(now);
            let room = Room { bytes: max_bytes, events: max_events };
            from = self.parts.encoder.encode(batch, from, room, &mut self.open);
            if self.open.bytes.len() >= max_bytes || self.open.events >= max_events || max_age.is_zero() {
                self.close();
            }
        }
        from
    }

    /// Sends what is open if that is due, or `at_once`. Gives when it will be.
    pub fn tick(&mut self, now: Instant, at_once: bool) -> Option<Instant> {
        let due = self.opened? + self.parts.batching.max_age;
        if due > now && !at_once {
            return Some(due);
        }
        self.close();
        None
    }

    fn close(&mut self) {
        if self.open.events == 0 {
            return;
        }
        self.parts.encoder.seal(&mut self.open.groups);
        let body = self.open.seal(self.parts.encoder.wrap(), self.parts.compression);
        self.opened = None;
        let id = self.next_id;
        self.next_id += 1;
        let memory = body.bytes.capacity() + 4 * body.layout.ends.capacity();
        let bytes = body.bytes.len() as u64;
        self.on_the_way.push_back(OnTheWay { id, first: self.first_open, is_back: false, memory, bytes });
        self.waiting += 1;
        self.first_open += body.layout.events as u64;
        let receipt = Receipt { id, outlet: self.number, returns: self.returns.clone() };
        self.parts.sender.send(Payload { target: self.parts.target.clone(), body, receipt });
    }

    /// A payload has come back.
    pub fn returned(&mut self, returned: Returned) -> Back {
        let Returned { id, buffer, lost, .. } = returned;
        let Some(oldest) = self.on_the_way.front().map(|payload| payload.id) else { return Back::default() };
        let index = id.checked_sub(oldest).map(|index| index as usize);
        let Some(payload) = index.and_then(|index| self.on_the_way.get_mut(index)) else { return Back::default() };
        if payload.is_back {
            return Back::default();
        }
        payload.is_back = true;
        payload.memory = 0;
        self.waiting -= 1;
        if buffer.capacity() > 0 {
            self.spare.push(buffer);
        }
        let lost = lost.into_iter().map(|(event, lost)| (payload.first + u64::from(event), lost)).collect();
        let back = Back { bytes: payload.bytes, lost };
        while self.on_the_way.pop_front_if(|payload| payload.is_back).is_some() {}
        back
    }

    /// Bytes of memory that it has.
    pub fn memory(&self) -> usize {
        let payloads: usize = self.on_the_way.iter().map(|payload| payload.memory).sum();
        payloads + self.spare.iter().map(Buffer::capacity).sum::<usize>() + self.open.memory()
    }

    /// Lets go of memory that it doesn't need.
    pub fn release(&mut self) {
        self.spare = Vec::new();
        if self.open.events == 0 {
            self.open.bytes = Buffer::default();
        }
    }
}
