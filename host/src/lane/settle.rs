//! What is on its way to the sinks, and what is settled when they have it: in the order in which it was shipped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Lane;
use crate::event::Batch;
use crate::metrics;
use crate::sink::{Lost, Outlet, Returned};
use crate::source::Then;
use crate::source::identity::{FileId, Stamp};
use crate::source::place::Place;
use crate::source::reader::Name;

/// Settled offsets are noted at most this often.
pub(super) const NOTE_EVERY: Duration = Duration::from_millis(500);

/// What a batch became, until all sinks have it.
#[derive(Default)]
pub(super) struct Parcel {
    /// The number of its first event.
    pub(super) first: u64,
    /// How many it has.
    pub(super) events: usize,
    /// What is settled once this and all before it are.
    pub(super) settles: Settles,
    /// The offset of its file before which all was decided on earlier.
    pub(super) begins: u64,
    /// When what it was made of was written, as far as is known.
    pub(super) written: Option<Instant>,
    /// Read events in it.
    pub(super) shipped: u64,
    /// Those of them that are unchanged, because a plugin failed on them.
    pub(super) kept_raw: u64,
    /// Of how many read events each is the first to have a part; of one, if empty.
    pub(super) weights: Vec<u32>,
    /// The events that are unchanged.
    pub(super) raw: Vec<u32>,
}

/// A batch that not all outlets have.
pub(super) struct Shipping {
    pub(super) batch: Batch,
    /// The first event that each of them does not have.
    from: Vec<usize>,
}

impl Shipping {
    pub(super) fn new(batch: Batch, outlets: usize) -> Self {
        Shipping { batch, from: vec![0; outlets] }
    }

    /// Gives outlets as much as they take; whether that was all.
    pub(super) fn go_on(&mut self, outlets: &mut [Outlet], now: Instant) -> bool {
        for (outlet, from) in outlets.iter_mut().zip(&mut self.from) {
            *from = outlet.take(&self.batch, *from, now);
        }
        self.from.iter().all(|from| *from == self.batch.len())
    }
}

#[derive(Default)]
pub(super) enum Settles {
    /// Nothing.
    #[default]
    Nothing,
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
    /// Whether nothing more can be shipped before payloads come back.
    pub(super) fn is_full(&self) -> bool {
        !self.shipping.is_empty() || self.outlets.iter().any(Outlet::is_full)
    }

    /// Whether its sinks have all that it shipped.
    pub(super) fn has_nothing_on_the_way(&self) -> bool {
        self.shipping.is_empty() && self.outlets.iter().all(Outlet::is_empty)
    }

    /// Goes on with what outlets had no room for.
    pub(super) fn ship_on(&mut self, now: Instant) {
        while let Some(shipping) = self.shipping.front_mut() {
            if !shipping.go_on(&mut self.outlets, now) {
                break;
            }
            self.shipping.pop_front();
        }
    }

    /// Takes the payloads that came back, and settles what all sinks have.
    pub(super) fn settle(&mut self, returned: &mut Vec<Returned>) {
        self.returns.take(returned);
        let news = !returned.is_empty();
        for returned in returned.drain(..) {
            let back = self.outlets[returned.outlet].returned(returned);
            metrics::add(&self.accounts.bytes_delivered, back.bytes);
            for (event, lost) in back.lost {
                self.lost.entry(event).or_insert(lost);
            }
        }
        let settled = self.outlets.iter().map(Outlet::settled).min().unwrap_or(self.next_event);
        while let Some(parcel) = self.parcels.pop_front_if(|parcel| parcel.first + parcel.events as u64 <= settled) {
            self.count_settled(&parcel);
            match parcel.settles {
                Settles::Nothing => {}
                Settles::UpTo(name, place, stamp) => {
                    let settled = Settled { up_to: Some((name.clone(), place, stamp)), then: None };
                    self.settled.insert(name.id, settled);
                }
                Settles::All(id, then) => self.settled.entry(id).or_default().then = Some(then),
            }
        }
        if news {
            self.count_in_flight();
        }
        if self.clock.now() - self.noted >= NOTE_EVERY {
            self.note();
        }
    }

    /// Gives the settled offsets to the checkpoint.
    pub(super) fn note(&mut self) {
        self.noted = self.clock.now();
        self.publish_lag();
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

    /// Counts what became of a parcel's events.
    fn count_settled(&mut self, parcel: &Parcel) {
        let Parcel { shipped, mut kept_raw, .. } = *parcel;
        let mut delivered = shipped;
        let end = parcel.first + parcel.events as u64;
        while let Some(entry) = self.lost.first_entry().filter(|entry| *entry.key() < end) {
            let (event, lost) = entry.remove_entry();
            let index = (event - parcel.first) as usize;
            let weight = u64::from(parcel.weights.get(index).copied().unwrap_or(1));
            delivered -= weight;
            if parcel.raw.binary_search(&(index as u32)).is_ok() {
                kept_raw -= weight;
            }
            match lost {
                Lost::DeadLetter => metrics::add(&self.accounts.dead_lettered, weight),
                Lost::Discarded => {
                    metrics::add(&self.accounts.discarded, weight);
                    metrics::add(&self.accounts.undeliverable, weight);
                }
            }
        }
        self.unsettled -= shipped;
        if let Some(written) = parcel.written {
            self.accounts.latency.observe(self.clock.now().saturating_duration_since(written), delivered);
        }
        metrics::add(&self.accounts.delivered, delivered);
        metrics::add(&self.accounts.kept_raw, kept_raw);
    }

    /// Events that are shipped and not settled, and events that are not decided on.
    pub(super) fn count_in_flight(&self) {
        metrics::set(&self.accounts.in_flight, self.unsettled + self.undecided + self.owed);
    }
}
