//! From batches to receipts.
//!
//! An [`Outlet`] is a lane's way to one sink: its encoder makes payloads' bytes on the worker's thread, where the batch
//! is in cache, and compresses them there. A [`Sender`] delivers payloads elsewhere, so that a slow destination holds up
//! no worker: `writer` is the thread that writes to something local, `delivery` what all destinations on the network
//! share. A payload that is done with comes back to its lane through its [`Receipt`], which is what settles offsets.
//!
//! `records` encoded events, and bodies made of them · `compress` · `outlet` when a payload is closed · `ndjson` the
//! encoder that most share · `protobuf` for those written by hand · `writer`, with `file` (and its `rotation`) and
//! `stdout` · `delivery` retries, concurrency, splitting ·
//! `dead_letters` · `client` HTTP and TLS · one file for each destination.

pub mod blackhole;
mod buffer;
pub mod clickhouse;
pub mod client;
pub mod compress;
pub mod dead_letters;
pub mod delivery;
pub mod elasticsearch;
pub mod file;
pub mod http;
pub mod kafka;
pub mod loki;
pub mod ndjson;
pub mod otlp;
pub mod outlet;
mod protobuf;
pub mod records;
mod rotation;
pub mod sls;
pub mod stdout;
mod writer;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use buffer::Buffer;
pub use outlet::Outlet;
use records::Body;
pub use records::Encode;

use crate::config::LogstoreName;

/// Events on their way to a destination.
pub struct Payload {
    /// Whose they are.
    pub target: Arc<LogstoreName>,
    /// The events.
    pub body: Body,
    /// Who is to be told.
    pub receipt: Receipt,
}

impl Payload {
    /// Reports that the payload is where it should be, and gives its memory back.
    pub fn delivered(self) {
        self.receipt.done(self.body.bytes, Vec::new());
    }
}

/// Reports to a lane what became of a payload. Dropped, it reports nothing, and the events stay unsettled.
pub struct Receipt {
    /// The outlet's number for the payload.
    pub id: u64,
    /// The number of the outlet in its lane.
    pub outlet: usize,
    /// Where to report.
    pub returns: Arc<Returns>,
}

impl Receipt {
    /// All events are delivered but those that are lost, by their index in the payload. The buffer is used again.
    pub fn done(self, buffer: Buffer, lost: Vec<(u32, Lost)>) {
        self.returns.push(Returned { id: self.id, outlet: self.outlet, buffer, lost });
    }
}

/// Why an event will not be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The destination refuses it, and it is kept among the dead letters.
    DeadLetter,
    /// The destination refuses it, and dead letters are full, and the operator wants such events discarded.
    Discarded,
}

/// A payload that came back.
pub struct Returned {
    /// The outlet's number for it.
    pub id: u64,
    /// The number of the outlet in its lane.
    pub outlet: usize,
    /// A buffer to be used again, or an empty one.
    pub buffer: Buffer,
    /// Events that were not delivered, by increasing index.
    pub lost: Vec<(u32, Lost)>,
}

/// Where delivered payloads come back to a lane.
pub struct Returns {
    done: Mutex<Done>,
    is_over: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Done {
    payloads: Vec<Returned>,
    /// Whether the lane is to be woken when one comes back.
    is_awaited: bool,
}

impl Returns {
    /// An empty one; `wake` is called when a payload comes back that is awaited.
    pub fn new(wake: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        Arc::new(Returns { done: Mutex::default(), is_over: AtomicBool::new(false), wake })
    }

    /// Says whether to wake the lane when a payload comes back. Gives whether one has.
    pub fn wait(&self, is_awaited: bool) -> bool {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.is_awaited = is_awaited;
        !done.payloads.is_empty()
    }

    /// Says that the lane is gone: what it has read and not settled is read again by another.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Whether the lane is gone.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// What came back since this was last asked.
    pub fn take(&self, into: &mut Vec<Returned>) {
        into.append(&mut self.done.lock().unwrap_or_else(PoisonError::into_inner).payloads);
    }

    /// Gives back the room for what has not come back.
    pub fn shrink(&self) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).payloads.shrink_to_fit();
    }

    fn push(&self, returned: Returned) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.payloads.push(returned);
        let is_awaited = done.is_awaited;
        drop(done);
        if is_awaited {
            (self.wake)();
        }
    }
}

/// A destination, as its lanes see it.
pub trait Sender: Send + Sync {
    /// Takes a payload, and sees to it that it is delivered or kept. Does not block.
    fn send(&self, payload: Payload);

    /// Ends the sender: delivers what it has within that time, and then gives up. What was not delivered is
    /// not reported as such, so that its events stay unsettled.
    fn close(&self, within: Duration);

    /// Whether it may split payloads, and so has to know where each event ends.
    fn splits(&self) -> bool {
        false
    }

    /// Why the last that was tried was not delivered, as long as it is the last.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Whether the destination is gone for good, so that nothing can be delivered to it any more.
    fn is_lost(&self) -> bool {
        false
    }
}
