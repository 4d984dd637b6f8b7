//! One request with a piece, and what is done with it by the answer: it has come to its end, is sent again, is halved, or
//! some of its events become dead letters.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use futures_util::FutureExt;

use super::piece::Piece;
use super::{Again, Outcome, Scope, Transport, Trouble};
use crate::config::LogstoreName;
use crate::metrics::{self, SinkAccounts};
use crate::sink::Lost;
use crate::sink::dead_letters::{DeadLetters, Kept, Letter};

/// What all requests of a destination need.
pub struct Common<T> {
    pub sink: String,
    pub transport: T,
    pub dead_letters: Arc<DeadLetters>,
    pub accounts: Arc<SinkAccounts>,
    pub trouble: Trouble,
}

impl<T> Common<T> {
    pub fn set_trouble(&self, why: Option<&str>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = why.map(str::to_owned);
    }
}

/// What is next for a piece that was sent.
pub enum Next {
    /// It has come to its end.
    Nothing,
    /// These are sent in its place.
    Pieces(Vec<Piece>),
    /// It is sent again.
    Again(Piece, Again),
}

/// What has become of a piece that was taken apart.
pub enum Taken {
    /// It has come to its end.
    Nothing,
    /// These are sent in its place.
    Pieces(Vec<Piece>),
    /// This part of it is sent again.
    Part(Piece, Again),
    /// All of it is sent again.
    Again(Again),
}

/// A piece that was sent.
pub struct Sent {
    pub target: Arc<LogstoreName>,
    pub at: Instant,
    pub next: Next,
    /// Whether the destination took something of it.
    pub took: bool,
    /// Events that were refused for good, or 1 for a payload of which it is not known.
    pub refused: u32,
}

impl<T: Transport> Common<T> {
    /// The same. After a mistake in weir, of which the panic tells, the piece is gone: its events stay unsettled, and come
    /// again when the agent does.
    pub async fn send_or_give_up(self: Arc<Self>, piece: Piece, at: Instant) -> Sent {
        let target = piece.whole.target.clone();
        let sent = AssertUnwindSafe(self.send(piece, at)).catch_unwind().await;
        sent.unwrap_or(Sent { target, at, next: Next::Nothing, took: false, refused: 0 })
    }

    async fn send(self: Arc<Self>, piece: Piece, at: Instant) -> Sent {
        let target = piece.whole.target.clone();
        let sending = AssertUnwindSafe(self.transport.send(&target, piece.bytes.clone(), &piece.layout));
        // The panic has been told of. Without the answer nothing is known, so it is as if there were none.
        let outcome = sending.catch_unwind().await.unwrap_or_else(|_| Outcome::mistake("a mistake in weir"));
        let accounts = &self.accounts;
        metrics::add(&accounts.requests, 1);
        metrics::add(&accounts.request_time, at.elapsed().as_nanos() as u64);
        let events = piece.layout.events;
        let took = match &outcome {
            Outcome::Delivered | Outcome::SomeRefused { .. } => true,
            Outcome::Partly { refused, again } => refused.len() + again.len() < events,
            Outcome::Refused(_) | Outcome::Again(_) => false,
        };
        let refused = if let Outcome::Partly { refused, .. } = &outcome { refused.len() as u32 } else { 1 };
        if !took {
            metrics::add(&accounts.failures, 1);
        }
        let next = match outcome {
            Outcome::Delivered => {
                metrics::add(&accounts.delivered, piece.layout.events as u64);
                metrics::add(&accounts.bytes_delivered, piece.bytes.len() as u64);
                piece.whole.done(piece.layout.events, []);
                Next::Nothing
            }
            Outcome::Again(again) => Next::Again(piece, again),
            Outcome::Refused(why) if events <= 1 => {
                self.aside(piece, move |all, piece| all.bury(piece, &[(0, why)], &[])).await
            }
            Outcome::Refused(_) => self.aside(piece, |_, piece| Self::halve(piece)).await,
            Outcome::SomeRefused { count, reason } => {
                self.aside(piece, move |all, piece| all.bury_whole(piece, count, &reason)).await
            }
            Outcome::Partly { refused, again } => {
                if are_some_of(events, &refused, &again) {
                    self.aside(piece, move |all, piece| all.bury(piece, &refused, &again)).await
                } else {
                    Next::Again(piece, mistake("the answer names events that were not sent".to_owned()))
                }
            }
        };
        Sent { target, at, next, took, refused }
    }

    /// Done by a thread of its own: compressing again and writing to disk take time, which other logstores' payloads
    /// would wait for.
    pub(super) async fn aside(
        self: &Arc<Self>,
        piece: Piece,
        work: impl FnOnce(&Self, &Piece) -> Taken + Send + 'static,
    ) -> Next {
        let (common, piece) = (self.clone(), Arc::new(piece));
        let its = piece.clone();
        let taken = tokio::task::spawn_blocking(move || work(&common, &its)).await;
        // What panics has reported nothing yet.
        match taken.unwrap_or_else(|_| Taken::Again(mistake("a mistake in weir".to_owned()))) {
            Taken::Nothing => Next::Nothing,
            Taken::Pieces(pieces) => Next::Pieces(pieces),
            Taken::Part(part, again) => Next::Again(part, again),
            Taken::Again(again) => Next::Again(Arc::into_inner(piece).expect("its thread has ended"), again),
        }
    }

    /// Two halves of a piece that was refused as a whole.
    fn halve(piece: &Piece) -> Taken {
        let plain = match piece.layout.plain(&piece.bytes) {
            Ok(plain) => plain,
            Err(error) => return Taken::Again(broken(&error)),
        };
        let events: Vec<u32> = (0..piece.layout.events as u32).collect();
        let (first, second) = events.split_at(events.len() / 2);
        Taken::Pieces(vec![piece.part(first, &plain), piece.part(second, &plain)])
    }

    /// Keeps refused events as dead letters; others are sent again, and the rest is delivered.
    fn bury(&self, piece: &Piece, refused: &[(u32, String)], again: &[u32]) -> Taken {
        let plain = match piece.layout.plain(&piece.bytes) {
            Ok(plain) => plain,
            Err(error) => return Taken::Again(broken(&error)),
        };
        let mut lost = Vec::new();
        let mut left = again.to_vec();
        let mut trouble = None;
        for (at, (event, reason)) in refused.iter().enumerate() {
            let body = piece.layout.part([*event as usize], &plain);
            let bytes = match body.layout.plain(body.bytes.as_slice()) {
                Ok(bytes) => bytes,
                Err(error) => return Taken::Again(broken(&error)),
            };
            match self.keep(self.letter(piece, reason, &bytes), 1) {
                Ok(kept) => lost.push((piece.index(*event), kept)),
                Err(why) => {
                    // What was taken or kept so far is done; the rest is tried again.
                    left.extend(refused[at..].iter().map(|(event, _)| *event));
                    left.sort_unstable();
                    trouble = Some(mistake(why));
                    break;
                }
            }
        }
        let rest = (!left.is_empty()).then(|| piece.part(&left, &plain));
        let delivered = piece.layout.events - refused.len() - again.len();
        if delivered > 0 {
            metrics::add(&self.accounts.delivered, delivered as u64);
            metrics::add(&self.accounts.bytes_delivered, piece.bytes.len() as u64);
        }
        piece.whole.done(piece.layout.events - left.len(), lost);
        let Some(rest) = rest else { return Taken::Nothing };
        let pushed_back = || {
            let why = format!("{} of {} events were pushed back", left.len(), piece.layout.events);
            Again { why, after: None, scope: Scope::Logstore, is_mistake: false }
        };
        Taken::Part(rest, trouble.unwrap_or_else(pushed_back))
    }

    /// Keeps a copy of all events as one dead letter, where it is not known which of them were refused.
    fn bury_whole(&self, piece: &Piece, count: usize, reason: &str) -> Taken {
        let plain = match piece.layout.plain(&piece.bytes) {
            Ok(plain) => plain,
            Err(error) => return Taken::Again(broken(&error)),
        };
        let events = piece.layout.events;
        let count = count.min(events);
        let mut letter = self.letter(piece, reason, &plain);
        letter.head.events = events;
        match self.keep(letter, count) {
            Ok(kept) => {
                metrics::add(&self.accounts.delivered, (events - count) as u64);
                metrics::add(&self.accounts.bytes_delivered, piece.bytes.len() as u64);
                // Some have to be taken for those.
                let lost = (events - count..events).map(|event| (piece.index(event as u32), kept));
                piece.whole.done(events, lost);
                Taken::Nothing
            }
            Err(why) => Taken::Again(mistake(why)),
        }
    }

    fn letter(&self, piece: &Piece, reason: &str, body: &[u8]) -> Letter {
        Letter::new(&self.sink, self.transport.format(), &piece.whole.target, reason, body)
    }

    /// Keeps a dead letter, which stands for so many events, and gives what has become of them. An error if it has to
    /// be tried again.
    fn keep(&self, letter: Letter, events: usize) -> Result<Lost, String> {
        match self.dead_letters.keep(letter) {
            Ok(Kept::Kept) => {
                metrics::add(&self.accounts.dead_lettered, events as u64);
                Ok(Lost::DeadLetter)
            }
            Ok(Kept::Discarded) => {
                metrics::add(&self.accounts.discarded, events as u64);
                Ok(Lost::Discarded)
            }
            Ok(Kept::Full) => Err("dead letters are full".to_owned()),
            Err(error) => Err(format!("a dead letter cannot be kept: {error}")),
        }
    }
}

/// Whether these are different ones of so many events, each in order.
fn are_some_of(events: usize, refused: &[(u32, String)], again: &[u32]) -> bool {
    let mut all: Vec<u32> = refused.iter().map(|(event, _)| *event).collect();
    let in_order = |events: &[u32]| events.windows(2).all(|pair| pair[0] < pair[1]);
    if !in_order(&all) || !in_order(again) {
        return false;
    }
    all.extend(again);
    all.sort_unstable();
    in_order(&all) && all.last().is_none_or(|last| (*last as usize) < events)
}

fn broken(error: &std::io::Error) -> Again {
    mistake(format!("a payload that weir made cannot be read again: {error}"))
}

fn mistake(why: String) -> Again {
    Again { why, after: None, scope: Scope::Logstore, is_mistake: true }
}
