//! The task of one destination: whose turn it is, how many requests are under way, and who is told what.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;

use super::attempt::{Common, Next, Sent};
use super::limit::Backoff;
use super::piece::Piece;
use super::queue::Queues;
use super::{Again, Limits, Scope, Transport};
use crate::config::LogstoreName;
use crate::metrics;
use crate::sink::Payload;

/// A failure that goes on is told of this often.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// Whether a destination is reached again is tried this often: a connection costs little, and what waits is much.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// A server's wish to be left alone is granted for so long at most.
const LONGEST_AFTER: Duration = Duration::from_secs(300);

/// The task of one destination.
pub struct Task<T> {
    common: Arc<Common<T>>,
    limits: Limits,
    queues: Queues<Piece>,
    /// How often in a row nothing arrived.
    unreached: Backoff,
    /// When each kind of trouble was last told of, and of which logstore. One does not hide another's.
    told: HashMap<(Kind, Option<Arc<LogstoreName>>), Instant>,
}

/// Kinds of trouble that are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Unreached,
    Mistake,
    PushedBack,
    Refused,
}

impl<T: Transport> Task<T> {
    pub fn new(common: Arc<Common<T>>, limits: Limits) -> Self {
        Task {
            common,
            queues: Queues::new(limits.concurrency),
            limits,
            unreached: Backoff::default(),
            told: HashMap::new(),
        }
    }

    pub async fn run(
        mut self,
        mut payloads: mpsc::UnboundedReceiver<Payload>,
        mut stopped: tokio::sync::oneshot::Receiver<Instant>,
    ) {
        // On this task: a transport gets a logstore's payloads in their order, which Kafka keeps.
        let mut under_way = FuturesUnordered::new();
        let mut deadline: Option<Instant> = None;
        let (mut is_open, mut is_stopping) = (true, false);
        while is_open || !under_way.is_empty() || !self.queues.is_empty() {
            let now = Instant::now();
            while let Some(piece) = self.queues.next(now) {
                under_way.push(self.common.clone().send_or_give_up(piece, now));
            }
            self.publish();
            let until = self.queues.due().into_iter().chain(deadline).chain(self.tell_letters(now)).min();
            let wait = tokio::time::sleep_until(until.unwrap_or(now + Duration::from_secs(3600)).into());
            tokio::select! {
                Some(sent) = under_way.next(), if !under_way.is_empty() => self.sent(sent),
                payload = payloads.recv(), if is_open => match payload {
                    Some(payload) => {
                        let piece = Piece::new(payload);
                        let target = piece.whole.target.clone();
                        // The logstore has begun anew, and reads them again.
                        self.queues.forget_first(&target, |piece| piece.whole.is_over());
                        self.queues.push_back(&target, piece);
                    }
                    None => is_open = false,
                },
                at = &mut stopped, if !is_stopping => {
                    is_stopping = true;
                    deadline = at.ok();
                }
                () = wait => {
                    if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                        return;
                    }
                }
            }
        }
        self.publish();
        // Also what it would have been too early for.
        self.told.clear();
        self.tell_letters(Instant::now());
    }

    fn publish(&self) {
        let accounts = &self.common.accounts;
        metrics::set(&accounts.waiting, self.queues.len() as u64);
        metrics::set(&accounts.concurrency, self.queues.limit() as u64);
    }

    /// A request has come to its end.
    fn sent(&mut self, sent: Sent) {
        let Sent { target, at, next, took, refused } = sent;
        let now = Instant::now();
        match next {
            Next::Nothing | Next::Pieces(_) => {
                let pieces = if let Next::Pieces(pieces) = next { pieces } else { Vec::new() };
                // An answer came, whatever it was.
                self.reached();
                self.queues.finished(&target, took);
                for piece in pieces.into_iter().rev() {
                    self.queues.push_front(&target, piece);
                }
                if took {
                    self.common.set_trouble(None);
                } else {
                    self.queues.refused(&target, refused, at, now, self.limits.max_backoff);
                }
            }
            Next::Again(piece, again) => {
                metrics::add(&self.common.accounts.retries, 1);
                let after = again.after.map(|after| after.min(LONGEST_AFTER));
                self.queues.push_front(&target, piece);
                match if self.limits.is_one_host { again.scope } else { Scope::Logstore } {
                    Scope::Destination => {
                        let pause = self.unreached.fail(at, now, self.limits.max_backoff.min(PROBE_EVERY));
                        self.queues.finished_unreached(&target, pause.map(|pause| now + pause));
                    }
                    Scope::Logstore => {
                        self.reached();
                        self.queues.pushed_back(&target, at, now, after, self.limits.max_backoff);
                    }
                }
                self.tell(&target, &again, now);
            }
        }
    }

    fn reached(&mut self) {
        if self.unreached.succeed() > 0 {
            self.queues.reached();
            if self.told.remove(&(Kind::Unreached, None)).is_some() {
                tracing::info!(sink = self.common.sink, "is reached again");
            }
        }
    }

    /// Whether it is time to tell of such a thing; then it is told now. When it is, if not.
    fn may_tell(&mut self, kind: Kind, target: Option<&Arc<LogstoreName>>, now: Instant) -> Result<(), Instant> {
        let told = self.told.entry((kind, target.cloned()));
        match told {
            Entry::Occupied(told) if now - *told.get() < TELL_EVERY => Err(*told.get() + TELL_EVERY),
            told => {
                told.insert_entry(now);
                Ok(())
            }
        }
    }

    /// Says that there are dead letters, without what is in them. Gives when to say more.
    fn tell_letters(&mut self, now: Instant) -> Option<Instant> {
        let waiting: Vec<_> = self.common.letters().keys().cloned().collect();
        let tell = |target: Arc<LogstoreName>| {
            if let Err(when) = self.may_tell(Kind::Refused, Some(&target), now) {
                return Some(when);
            }
            let new = self.common.letters().remove(&target).unwrap_or_default();
            tracing::warn!(
                sink = self.common.sink,
                logstore = %target,
                "{new} events were refused for good, and are kept as dead letters: see `weir dead-letters list`"
            );
            None
        };
        waiting.into_iter().filter_map(tell).min()
    }

    fn tell(&mut self, target: &Arc<LogstoreName>, again: &Again, now: Instant) {
        self.common.set_trouble(Some(&again.why));
        let (kind, of) = match (again.scope, again.is_mistake) {
            (Scope::Destination, _) => (Kind::Unreached, None),
            (Scope::Logstore, true) => (Kind::Mistake, Some(target)),
            (Scope::Logstore, false) => (Kind::PushedBack, Some(target)),
        };
        if self.may_tell(kind, of, now).is_err() {
            return;
        }
        let sink = &self.common.sink;
        match (again.scope, again.is_mistake) {
            (Scope::Destination, _) => {
                tracing::error!(sink, "not reached, trying again; nothing is lost: {}", again.why);
            }
            (Scope::Logstore, true) => {
                tracing::error!(sink, logstore = %target, "does not take what is sent; nothing is lost: {}", again.why);
            }
            (Scope::Logstore, false) => {
                tracing::warn!(sink, logstore = %target, "pushes back, trying again; nothing is lost: {}", again.why);
            }
        }
    }
}
