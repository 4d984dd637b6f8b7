//! Payloads on their way, and what is settled when they are back: in the order in which they were made.

use std::sync::Arc;
use std::time::Duration;

use super::Lane;
use crate::metrics;
use crate::sink::Returned;
use crate::source::Then;
use crate::source::identity::{FileId, Stamp};
use crate::source::place::Place;
use crate::source::reader::Name;

/// Settled offsets are noted at most this often.
pub(super) const NOTE_EVERY: Duration = Duration::from_millis(500);

/// A payload on its way.
pub(super) struct Pending {
    pub(super) id: u64,
    pub(super) is_back: bool,
    /// What is settled once this and all before it are delivered.
    pub(super) settles: Settles,
    pub(super) shipped: u64,
    pub(super) kept_raw: u64,
    pub(super) bytes: u64,
    /// Bytes that its buffer takes.
    pub(super) memory: usize,
}

pub(super) enum Settles {
    /// A file, up to a place.
    UpTo(Arc<Name>, Place, Stamp),
    /// All that there was of a file.
    All(FileId, Then),
}

/// What is to be noted of a file.
#[derive(Default)]
pub(super) struct Settled {
    pub(super) up_to: Option<(Arc<Name>, Place, Stamp)>,
    pub(super) then: Option<Then>,
}

impl Lane {
    pub(super) fn take_payload(&mut self) -> u64 {
        self.next_payload += 1;
        self.next_payload - 1
    }

    /// Takes the payloads that came back, and settles offsets up to the first that didn't.
    pub(super) fn settle(&mut self, returned: &mut Vec<Returned>) {
        self.returns.take(returned);
        let news = !returned.is_empty();
        for Returned { id, buffer } in returned.drain(..) {
            let Some(first) = self.pending.front().map(|pending| pending.id) else { continue };
            let Some(pending) = self.pending.get_mut((id - first) as usize) else { continue };
            (pending.is_back, pending.memory) = (true, 0);
            metrics::add(&self.accounts.delivered, pending.shipped);
            metrics::add(&self.accounts.kept_raw, pending.kept_raw);
            metrics::add(&self.accounts.bytes_delivered, pending.bytes);
            self.spare.push(buffer);
        }
        if news {
            self.count_in_flight();
        }
        while let Some(pending) = self.pending.pop_front_if(|pending| pending.is_back) {
            match pending.settles {
                Settles::UpTo(name, place, stamp) => {
                    let settled = Settled { up_to: Some((name.clone(), place, stamp)), then: None };
                    self.settled.insert(name.id, settled);
                }
                Settles::All(id, then) => self.settled.entry(id).or_default().then = Some(then),
            }
        }
        if self.clock.now() - self.noted >= NOTE_EVERY {
            self.note();
        }
    }

    /// Gives the settled offsets to the checkpoint.
    pub(super) fn note(&mut self) {
        self.noted = self.clock.now();
        for (id, Settled { up_to, then }) in self.settled.drain() {
            if let Some((name, place, stamp)) = up_to {
                self.checkpoint.set(&self.name, id, name.position(place, stamp));
            }
            match then {
                Some(Then::Deleted) => self.checkpoint.remove(&self.name, id),
                Some(Then::Gone) => self.checkpoint.set_gone(&self.name, id),
                Some(Then::Anew) | None => {}
            }
        }
    }

    /// Events in payloads that are not back, and events that are not decided on.
    pub(super) fn count_in_flight(&self) {
        let shipped: u64 = self.pending.iter().filter(|pending| !pending.is_back).map(|pending| pending.shipped).sum();
        metrics::set(&self.accounts.in_flight, shipped + self.undecided);
    }
}
