//! From batches to receipts.
//!
//! An [`Encoder`] makes a payload's bytes on the worker's thread, where the batch is in cache. A sender delivers
//! payloads on a thread of its own, so that a slow destination holds up no worker. A delivered payload comes back
//! to the lane that made it through its [`Returns`], which is what settles offsets.

pub mod blackhole;
pub mod encoder;
pub mod file;
pub mod ndjson;
pub mod stdout;
mod writer;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use encoder::Encoder;

/// Bytes of events, on their way to a destination.
pub struct Payload {
    /// What the encoder made.
    pub bytes: Buffer,
    /// The lane's number for it.
    pub id: u64,
    /// Where to report that it is delivered.
    pub returns: Arc<Returns>,
}

impl Payload {
    /// Reports that the payload is where it should be, and gives its memory back.
    pub fn delivered(self) {
        self.returns.push(Returned { id: self.id, buffer: self.bytes });
    }
}

/// Bytes that an encoder appends to, and then more room that has been written to before.
///
/// A `Vec` by itself would have to be filled with zeros again for each payload.
#[derive(Debug, Default)]
pub struct Buffer {
    room: Vec<u8>,
    len: usize,
}

impl Buffer {
    /// What was appended.
    pub fn as_slice(&self) -> &[u8] {
        &self.room[..self.len]
    }

    /// Bytes that were appended.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory that it has.
    pub fn capacity(&self) -> usize {
        self.room.capacity()
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets what was appended.
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

impl From<&str> for Buffer {
    fn from(text: &str) -> Self {
        Buffer { room: text.into(), len: text.len() }
    }
}

/// A payload that was delivered.
pub struct Returned {
    /// The lane's number for it.
    pub id: u64,
    /// Its buffer, to be used again.
    pub buffer: Buffer,
}

/// Where delivered payloads come back to a lane.
pub struct Returns {
    done: Mutex<Done>,
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
        Arc::new(Returns { done: Mutex::default(), wake })
    }

    /// Says whether to wake the lane when a payload comes back. Gives whether one has.
    pub fn wait(&self, is_awaited: bool) -> bool {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.is_awaited = is_awaited;
        !done.payloads.is_empty()
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
    /// Takes a payload for `target`, and sees to it that it is delivered or kept. Does not block.
    fn send(&self, target: &Target, payload: Payload);

    /// Ends the sender: delivers what it has within that time, and then gives up. What was not delivered is
    /// not reported as such, so that its events stay unsettled.
    fn close(&self, within: Duration);

    /// Whether the destination is gone for good, so that nothing can be delivered to it any more.
    fn is_lost(&self) -> bool {
        false
    }
}

/// Where in a destination a logstore's events go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// There is only one place.
    Only,
    /// A file.
    File(PathBuf),
}
