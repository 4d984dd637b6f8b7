//! Which bytes a sink makes of a batch.

use super::Buffer;
use super::ndjson::Ndjson;
use crate::event::Batch;

/// Appends a batch to a payload.
pub enum Encoder {
    /// One JSON object a line.
    Ndjson(Box<Ndjson>),
    /// No bytes: for a destination that keeps nothing.
    Nothing,
}

impl Encoder {
    /// An encoder of NDJSON.
    pub fn ndjson() -> Self {
        Encoder::Ndjson(Box::default())
    }

    /// Appends the batch's events to `out`.
    pub fn encode(&mut self, batch: &Batch, out: &mut Buffer) {
        match self {
            Encoder::Ndjson(ndjson) => ndjson.encode(batch, out),
            Encoder::Nothing => {}
        }
    }

    /// Forgets what it remembers of the last batch.
    pub fn forget(&mut self) {
        match self {
            Encoder::Ndjson(ndjson) => ndjson.forget(),
            Encoder::Nothing => {}
        }
    }
}
