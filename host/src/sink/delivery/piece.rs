//! What is sent: a payload, or a part of one, until all of its events have come to their end.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::config::LogstoreName;
use crate::sink::records::Layout;
use crate::sink::{Buffer, Lost, Payload, Receipt};

/// Events that are sent together: a payload, or a part of one that was refused as a whole.
pub struct Piece {
    pub bytes: Bytes,
    pub layout: Layout,
    /// Which of the payload's events they are, if not all.
    events: Option<Vec<u32>>,
    pub whole: Arc<Whole>,
}

/// A payload, until nothing of it is on its way.
pub struct Whole {
    pub target: Arc<LogstoreName>,
    left: Mutex<Left>,
}

struct Left {
    events: usize,
    lost: Vec<(u32, Lost)>,
    receipt: Option<Receipt>,
}

impl Piece {
    pub fn new(payload: Payload) -> Self {
        let Payload { target, body, receipt } = payload;
        let left = Left { events: body.layout.events, lost: Vec::new(), receipt: Some(receipt) };
        let whole = Arc::new(Whole { target, left: Mutex::new(left) });
        Piece { bytes: body.bytes.into(), layout: body.layout, events: None, whole }
    }

    /// Some of its events.
    pub fn part(&self, events: &[u32], plain: &[u8]) -> Piece {
        let body = self.layout.part(events.iter().map(|event| *event as usize), plain);
        let events = Some(events.iter().map(|event| self.index(*event)).collect());
        Piece { bytes: body.bytes.into(), layout: body.layout, events, whole: self.whole.clone() }
    }

    /// Which of the payload's events this one of the piece is.
    pub fn index(&self, event: u32) -> u32 {
        self.events.as_ref().map_or(event, |events| events[event as usize])
    }
}

impl Whole {
    /// Whether nobody waits for it any more.
    pub fn is_over(&self) -> bool {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.receipt.as_ref().is_none_or(|receipt| receipt.returns.is_over())
    }

    /// So many events more have come to their end; these of them are lost. Reports when all have.
    pub fn done(&self, events: usize, lost: impl IntoIterator<Item = (u32, Lost)>) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.lost.extend(lost);
        left.events -= events;
        if left.events == 0
            && let Some(receipt) = left.receipt.take()
        {
            let mut lost = std::mem::take(&mut left.lost);
            lost.sort_unstable_by_key(|(event, _)| *event);
            receipt.done(Buffer::default(), lost);
        }
    }
}
