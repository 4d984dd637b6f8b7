//! One request with a piece, and what is done with it by the answer: it has come to its end, is sent again, is halved, or
//! some of its events become dead letters.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures_util::FutureExt;

use super::aside::Aside;
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
    pub aside: Arc<Aside>,
    /// Of each logstore, events that were made dead letters and that nobody was told of.
    pub letters: Mutex<BTreeMap<Arc<LogstoreName>, u64>>,
    /// Whether the task has ended.
    pub has_ended: AtomicBool,
}

impl<T> Common<T> {
    pub fn set_trouble(&self, why: Option<&str>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = why.map(str::to_owned);
    }

    pub fn letters(&self) -> MutexGuard<'_, BTreeMap<Arc<LogstoreName>, u64>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Sends a piece once. After a mistake in weir, of which the panic tells, the piece is gone: its events stay unsettled,
    /// and come again when the agent does.
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
        let piece = Arc::new(piece);
        let next = match outcome {
            Outcome::Delivered => {
                metrics::add(&accounts.delivered, piece.layout.events as u64);
                metrics::add(&accounts.bytes_delivered, piece.bytes.len() as u64);
                piece.whole.done(piece.layout.events, []);
                Ok(Next::Nothing)
            }
            Outcome::Again(again) => Err(again),
            Outcome::Refused(why) if events <= 1 => self.bury(&piece, vec![(0, why)], Vec::new()).await,
            Outcome::Refused(_) => self.halve(&piece).await,
            Outcome::SomeRefused { count, reason } => self.bury_whole(&piece, count, reason).await,
            Outcome::Partly { refused, again } if are_some_of(events, &refused, &again) => {
                self.bury(&piece, refused, again).await
            }
            Outcome::Partly { .. } => Err(mistake("the answer names events that were not sent".to_owned())),
        };
        let next = next.unwrap_or_else(|again| {
            // Nobody has it any more.
            Arc::into_inner(piece).map_or(Next::Nothing, |piece| Next::Again(piece, again))
        });
        Sent { target, at, next, took, refused }
    }

    /// Something done with a piece beside all else. An error if all of it is to be sent again.
    pub(super) async fn aside<R: Send + 'static>(
        &self,
        piece: &Arc<Piece>,
        work: impl FnOnce(&Piece) -> Result<R, Again> + Send + 'static,
    ) -> Result<R, Again> {
        let piece = piece.clone();
        self.aside.run(move || work(&piece)).await.unwrap_or_else(|| Err(mistake("a mistake in weir".to_owned())))
    }

    /// Two halves of a piece that was refused as a whole.
    async fn halve(&self, piece: &Arc<Piece>) -> Result<Next, Again> {
        let halves = |piece: &Piece| {
            let plain = piece.layout.plain(&piece.bytes).map_err(broken)?;
            let events: Vec<u32> = (0..piece.layout.events as u32).collect();
            let (first, second) = events.split_at(events.len() / 2);
            Ok(vec![piece.part(first, &plain), piece.part(second, &plain)])
        };
        self.aside(piece, halves).await.map(Next::Pieces)
    }

    /// Keeps refused events as dead letters; others are sent again, and the rest is delivered.
    async fn bury(
        self: &Arc<Self>,
        piece: &Arc<Piece>,
        refused: Vec<(u32, String)>,
        again: Vec<u32>,
    ) -> Result<Next, Again> {
        let (events, delivered) = (piece.layout.events, piece.layout.events - refused.len() - again.len());
        let indices: Vec<u32> = refused.iter().map(|(event, _)| *event).collect();
        let common = self.clone();
        let letters = move |piece: &Piece| {
            let plain = piece.layout.plain(&piece.bytes).map_err(broken)?;
            let letter = |(event, reason): (u32, String)| {
                common.letter(piece, &reason, piece.layout.alone(event as usize, &plain))
            };
            Ok(refused.into_iter().map(letter).collect())
        };
        let (kept, trouble) = match indices.is_empty() {
            true => Default::default(),
            false => self.keep(piece, self.aside(piece, letters).await?, 1).await,
        };
        // What was taken or kept so far is done; the rest is tried again.
        let mut left: Vec<u32> = again.iter().chain(&indices[kept.len()..]).copied().collect();
        left.sort_unstable();
        let done = events - left.len();
        let rest = match left.is_empty() {
            true => None,
            false => {
                let part = move |piece: &Piece| {
                    let plain = piece.layout.plain(&piece.bytes).map_err(broken)?;
                    Ok(piece.part(&left, &plain))
                };
                Some(self.aside(piece, part).await?)
            }
        };
        if delivered > 0 {
            metrics::add(&self.accounts.delivered, delivered as u64);
            metrics::add(&self.accounts.bytes_delivered, piece.bytes.len() as u64);
        }
        piece.whole.done(done, indices.iter().map(|event| piece.index(*event)).zip(kept));
        let Some(rest) = rest else { return Ok(Next::Nothing) };
        let pushed_back = || {
            let why = format!("{} of {events} events were pushed back", again.len());
            Again { why, after: None, scope: Scope::Logstore, is_mistake: false }
        };
        Ok(Next::Again(rest, trouble.map_or_else(pushed_back, mistake)))
    }

    /// Keeps a copy of all events as one dead letter, where it is not known which of them were refused.
    async fn bury_whole(self: &Arc<Self>, piece: &Arc<Piece>, count: usize, reason: String) -> Result<Next, Again> {
        let events = piece.layout.events;
        let count = count.min(events);
        let common = self.clone();
        let letter = move |piece: &Piece| {
            let plain = piece.layout.plain(&piece.bytes).map_err(broken)?;
            let mut letter = common.letter(piece, &reason, plain.into());
            letter.head.events = events;
            Ok(vec![letter])
        };
        let (kept, trouble) = self.keep(piece, self.aside(piece, letter).await?, count).await;
        if let Some(why) = trouble {
            return Err(mistake(why));
        }
        metrics::add(&self.accounts.delivered, (events - count) as u64);
        metrics::add(&self.accounts.bytes_delivered, piece.bytes.len() as u64);
        // Some have to be taken for those.
        let lost = (events - count..events).map(|event| piece.index(event as u32));
        piece.whole.done(events, lost.zip(kept.into_iter().cycle()));
        Ok(Next::Nothing)
    }

    fn letter(&self, piece: &Piece, reason: &str, body: Vec<u8>) -> Letter {
        Letter::new(&self.sink, self.transport.format(), &piece.whole.target, reason, body)
    }

    /// Keeps dead letters, each of which stands for so many events, until one has to be tried again. Gives what has become
    /// of those before, and why it must.
    async fn keep(self: &Arc<Self>, piece: &Piece, letters: Vec<Letter>, events: usize) -> (Vec<Lost>, Option<String>) {
        let (common, target) = (self.clone(), piece.whole.target.clone());
        let keep = move || {
            let mut kept = Vec::with_capacity(letters.len());
            for letter in letters {
                // Nobody waits for those of a task that has ended.
                match common.has_ended.load(Ordering::Relaxed) {
                    true => return (kept, Some("the sink ends".to_owned())),
                    false => match common.keep_one(letter, &target, events) {
                        Ok(lost) => kept.push(lost),
                        Err(why) => return (kept, Some(why)),
                    },
                }
            }
            (kept, None)
        };
        let kept = tokio::task::spawn_blocking(keep).await;
        kept.unwrap_or_else(|_| (Vec::new(), Some("a mistake in weir".to_owned())))
    }

    fn keep_one(&self, letter: Letter, target: &Arc<LogstoreName>, events: usize) -> Result<Lost, String> {
        match self.dead_letters.keep(letter) {
            Ok(Kept::Kept) => {
                *self.letters().entry(target.clone()).or_default() += events as u64;
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

fn broken(error: std::io::Error) -> Again {
    mistake(format!("a payload that weir made cannot be read again: {error}"))
}

fn mistake(why: String) -> Again {
    Again { why, after: None, scope: Scope::Logstore, is_mistake: true }
}
