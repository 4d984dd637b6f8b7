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
        self.on_their_way() + self.spare.iter().map(Buffer::capacity).sum::<usize>() + self.open.memory()
    }

    /// Bytes of memory that come back when the sink has taken them.
    pub fn on_their_way(&self) -> usize {
        self.on_the_way.iter().map(|payload| payload.memory).sum()
    }

    /// Lets go of all that it has only to be faster.
    pub fn forget(&mut self) {
        self.release();
        self.parts.encoder.forget();
        self.on_the_way.shrink_to_fit();
        if self.open.events == 0 {
            self.open.ends = Vec::new();
            self.open.groups = Vec::new();
        }
    }

    /// Lets go of memory that it doesn't need.
    pub fn release(&mut self) {
        self.spare = Vec::new();
        if self.open.events == 0 {
            self.open.bytes = Buffer::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::ndjson::Ndjson;
    use super::*;
    use crate::event::testing::raw;

    /// Keeps payloads until it is told to deliver them.
    #[derive(Default)]
    struct Kept(Mutex<Vec<Payload>>);

    impl Sender for Kept {
        fn send(&self, payload: Payload) {
            self.0.lock().unwrap().push(payload);
        }

        fn close(&self, _: Duration) {}
    }

    struct Scene {
        outlet: Outlet,
        kept: Arc<Kept>,
        returns: Arc<Returns>,
    }

    impl Scene {
        fn new(max_bytes: usize, max_events: usize, max_age: u64) -> Self {
            let kept = Arc::<Kept>::default();
            let returns = Returns::new(Box::new(|| {}));
            let batching = Batching { max_bytes, max_events, max_age: Duration::from_secs(max_age), in_flight: 3 };
            let parts = OutletParts {
                encoder: Box::<Ndjson>::default(),
                compression: Compression::None,
                batching,
                sender: kept.clone(),
                target: Arc::new("a/b".parse().unwrap()),
            };
            Scene { outlet: Outlet::new(parts, returns.clone(), 0), kept, returns }
        }

        /// The payloads that were sent and not delivered, as the letters of their events.
        fn sent(&self) -> Vec<String> {
            let letters = |payload: &Payload| {
                let text = String::from_utf8(payload.body.bytes.as_slice().to_vec()).unwrap();
                text.lines().map(|line| line["{\"content\":\"".len()..].trim_end_matches("\"}").to_owned()).collect()
            };
            self.kept.0.lock().unwrap().iter().map(letters).collect()
        }

        /// Delivers the payload at that place.
        fn deliver(&mut self, index: usize, lost: Vec<(u32, Lost)>) -> Back {
            let payload = self.kept.0.lock().unwrap().remove(index);
            payload.receipt.done(payload.body.bytes, lost);
            let mut returned = Vec::new();
            self.returns.take(&mut returned);
            self.outlet.returned(returned.remove(0))
        }
    }

    #[test]
    fn payloads_are_closed_by_count_bytes_and_age() {
        let start = Instant::now();
        let mut scene = Scene::new(1 << 20, 4, 5);
        let batch = raw(&["a", "b", "c", "d", "e", "f"], 0);
        assert_eq!(scene.outlet.take(&batch, 0, start), 6);
        assert_eq!(scene.sent(), ["abcd"]);
        let due = start + Duration::from_secs(5);
        assert_eq!(scene.outlet.tick(start + Duration::from_secs(4), false), Some(due));
        assert_eq!(scene.outlet.tick(due, false), None);
        assert_eq!(scene.sent(), ["abcd", "ef"]);
        // Nothing is open, so nothing is due.
        assert_eq!(scene.outlet.tick(due, true), None);
        assert_eq!(scene.sent().len(), 2);

        // An event has 16 bytes: the third reaches 40.
        let mut scene = Scene::new(40, 100, 5);
        assert_eq!(scene.outlet.take(&batch, 0, start), 6);
        assert_eq!(scene.sent(), ["abc", "def"]);

        let mut scene = Scene::new(1 << 20, 100, 0);
        assert_eq!(scene.outlet.take(&batch, 0, start), 6);
        assert_eq!(scene.sent(), ["abcdef"]);
    }

    #[test]
    fn no_more_is_taken_than_may_be_on_the_way() {
        let start = Instant::now();
        let mut scene = Scene::new(1 << 20, 2, 5);
        let batch = raw(&["a", "b", "c", "d", "e", "f", "g", "h", "i"], 0);
        assert_eq!(scene.outlet.take(&batch, 0, start), 6);
        assert!(scene.outlet.is_full());
        assert_eq!(scene.outlet.take(&batch, 6, start), 6);
        scene.deliver(1, Vec::new());
        assert_eq!(scene.outlet.take(&batch, 6, start), 8);
        assert_eq!(scene.sent(), ["ab", "ef", "gh"]);
    }

    #[test]
    fn events_settle_in_their_order_whatever_order_payloads_return_in() {
        let mut scene = Scene::new(1 << 20, 2, 5);
        let batch = raw(&["a", "b", "c", "d", "e", "f", "g"], 0);
        assert_eq!(scene.outlet.take(&batch, 0, Instant::now()), 6);
        assert_eq!(scene.outlet.settled(), 0);
        assert_eq!(scene.deliver(2, Vec::new()).lost, []);
        assert_eq!(scene.outlet.settled(), 0);
        assert_eq!(scene.deliver(0, Vec::new()).bytes, 32);
        assert_eq!(scene.outlet.settled(), 2);
        // Of the second payload the second event is the fourth of all.
        assert_eq!(scene.deliver(0, vec![(1, Lost::DeadLetter)]).lost, [(3, Lost::DeadLetter)]);
        assert_eq!(scene.outlet.settled(), 6);
        assert!(scene.outlet.is_empty());
        // What is open holds back what comes after it.
        assert_eq!(scene.outlet.take(&batch, 6, Instant::now()), 7);
        assert_eq!(scene.outlet.settled(), 6);
        assert!(!scene.outlet.is_empty());
    }
}
