//! What all destinations on the network share: whose payload is next, retries, concurrency, splitting, dead letters.
//!
//! A [`Transport`] sends a payload once and says what became of it. Each destination has one task, which owns its
//! queues: one for each logstore, taken from in turn, by projects first. What a server says of a logstore slows that
//! logstore down; only what keeps every request from arriving slows down the destination.

mod limit;
mod queue;
#[cfg(test)]
mod tests;

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError, mpsc as blocking};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;

use super::dead_letters::{DeadLetters, Kept, Letter};
use super::records::Layout;
use super::{Buffer, Lost, Payload, Receipt, Sender};
use crate::config::LogstoreName;
use crate::metrics::{self, SinkAccounts};
use limit::Backoff;
use queue::Queues;

/// Sends payloads to one destination.
pub trait Transport: Send + Sync + 'static {
    /// Sends a payload once, and says what became of it. `bytes` are what `layout` describes.
    fn send<'a>(&'a self, target: &'a LogstoreName, bytes: Bytes, layout: &'a Layout) -> BoxFuture<'a, Outcome>;

    /// What payloads are: one of another format can't be sent.
    fn format(&self) -> &'static str;
}

impl Transport for Box<dyn Transport> {
    fn send<'a>(&'a self, target: &'a LogstoreName, bytes: Bytes, layout: &'a Layout) -> BoxFuture<'a, Outcome> {
        (**self).send(target, bytes, layout)
    }

    fn format(&self) -> &'static str {
        (**self).format()
    }
}

/// What became of a payload that was sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The destination has all of it.
    Delivered,
    /// The destination has what is neither refused, each with a reason, nor to be sent again.
    Partly {
        /// By increasing index. Never to be sent again.
        refused: Vec<(u32, String)>,
        /// By increasing index. May pass later.
        again: Vec<u32>,
    },
    /// It cannot be taken as it is, and never will be: the reason. Parts of it may.
    Refused(String),
    /// The destination has all but so many, and does not say which. Nothing of it must be sent again.
    SomeRefused {
        /// Fewer than there are.
        count: usize,
        /// Why.
        reason: String,
    },
    /// It may pass later.
    Again(Again),
}

/// Why and when to try again.
#[derive(Debug, PartialEq, Eq)]
pub struct Again {
    /// In words without anything secret, and without what is in the logs.
    pub why: String,
    /// Not before so long.
    pub after: Option<Duration>,
    /// Whom it concerns.
    pub scope: Scope,
    /// Whether it is more than push-back: somebody has to set something right.
    pub is_mistake: bool,
}

/// Whom a failure concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All that is sent to the destination.
    Destination,
    /// What the logstore sends.
    Logstore,
}

impl Outcome {
    /// Pushed back: the logstore sends less.
    pub fn later(why: impl Into<String>, after: Option<Duration>) -> Self {
        Outcome::Again(Again { why: why.into(), after, scope: Scope::Logstore, is_mistake: false })
    }

    /// Not reached.
    pub fn unreachable(why: impl Into<String>) -> Self {
        Outcome::Again(Again { why: why.into(), after: None, scope: Scope::Destination, is_mistake: false })
    }

    /// Cannot work before somebody sets something right: a wrong password, a missing index.
    pub fn mistake(why: impl Into<String>) -> Self {
        Outcome::Again(Again { why: why.into(), after: None, scope: Scope::Logstore, is_mistake: true })
    }
}

/// How a destination is used.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests at once at most.
    pub concurrency: usize,
    /// The longest pause between two tries.
    pub max_backoff: Duration,
    /// Whether all logstores are sent to the same host. If not, one that isn't reached concerns those that are sent there.
    pub is_one_host: bool,
}

/// Delivers payloads through a transport.
pub struct Delivery {
    name: String,
    queue: Mutex<Option<mpsc::UnboundedSender<Payload>>>,
    ended: Mutex<blocking::Receiver<()>>,
    stop: Mutex<Option<tokio::sync::oneshot::Sender<Instant>>>,
    trouble: Trouble,
    _runtime: Arc<Runtime>,
}

/// Why the last request delivered nothing, as long as it is the last.
type Trouble = Arc<Mutex<Option<String>>>;

/// The threads on which all destinations of an agent do their work.
pub struct Runtime(Option<tokio::runtime::Runtime>);

impl Runtime {
    /// Starts them.
    pub fn start() -> std::io::Result<Arc<Runtime>> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        Ok(Arc::new(Runtime(Some(builder.worker_threads(2).thread_name("net").enable_all().build()?))))
    }

    /// Does something to its end.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.0.as_ref().expect("it runs until it is dropped").block_on(work)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            runtime.spawn(task);
        }
    }
}

impl Drop for Runtime {
    /// Nobody waits for a name that is still being looked up.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Delivery {
    /// Starts the task of the sink with that name.
    pub fn start(
        name: &str,
        transport: impl Transport,
        limits: Limits,
        dead_letters: Arc<DeadLetters>,
        accounts: Arc<SinkAccounts>,
        runtime: Arc<Runtime>,
    ) -> Self {
        let (queue, payloads) = mpsc::unbounded_channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ends, ended) = blocking::channel();
        let trouble = Trouble::default();
        let common =
            Arc::new(Common { sink: name.to_owned(), transport, dead_letters, accounts, trouble: trouble.clone() });
        runtime.spawn(async move {
            Task::new(common, limits).run(payloads, stopped).await;
            drop(ends);
        });
        let (queue, ended, stop) = (Mutex::new(Some(queue)), Mutex::new(ended), Mutex::new(Some(stop)));
        Delivery { name: name.to_owned(), queue, ended, stop, trouble, _runtime: runtime }
    }
}

impl Sender for Delivery {
    fn send(&self, payload: Payload) {
        if let Some(queue) = &*self.queue.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = queue.send(payload);
        }
    }

    fn splits(&self) -> bool {
        true
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn close(&self, within: Duration) {
        if let Some(stop) = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = stop.send(Instant::now() + within);
        }
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(within + Duration::from_millis(500)) == Err(blocking::RecvTimeoutError::Timeout) {
            tracing::warn!(sink = self.name, "does not end in time; what is on its way comes again");
        }
    }
}

/// What all requests of a destination need.
struct Common<T> {
    sink: String,
    transport: T,
    dead_letters: Arc<DeadLetters>,
    accounts: Arc<SinkAccounts>,
    trouble: Trouble,
}

impl<T> Common<T> {
    fn set_trouble(&self, why: Option<&str>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = why.map(str::to_owned);
    }
}

/// Events that are sent together: a payload, or a part of one that was refused as a whole.
struct Piece {
    bytes: Bytes,
    layout: Layout,
    /// Which of the payload's events they are, if not all.
    events: Option<Vec<u32>>,
    whole: Arc<Whole>,
}

/// A payload, until nothing of it is on its way.
struct Whole {
    target: Arc<LogstoreName>,
    left: Mutex<Left>,
}

struct Left {
    events: usize,
    lost: Vec<(u32, Lost)>,
    receipt: Option<Receipt>,
}

impl Piece {
    fn new(payload: Payload) -> Self {
        let Payload { target, body, receipt } = payload;
        let left = Left { events: body.layout.events, lost: Vec::new(), receipt: Some(receipt) };
        let whole = Arc::new(Whole { target, left: Mutex::new(left) });
        Piece { bytes: body.bytes.into(), layout: body.layout, events: None, whole }
    }

    /// Some of its events.
    fn part(&self, events: &[u32], plain: &[u8]) -> Piece {
        let body = self.layout.part(events.iter().map(|event| *event as usize), plain);
        let events = Some(events.iter().map(|event| self.index(*event)).collect());
        Piece { bytes: body.bytes.into(), layout: body.layout, events, whole: self.whole.clone() }
    }

    /// Which of the payload's events this one of the piece is.
    fn index(&self, event: u32) -> u32 {
        self.events.as_ref().map_or(event, |events| events[event as usize])
    }
}

impl Whole {
    /// So many events more have come to their end; these of them are lost. Reports when all have.
    fn done(&self, events: usize, lost: impl IntoIterator<Item = (u32, Lost)>) {
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

/// What is next for a piece that was sent.
enum Next {
    /// It has come to its end.
    Nothing,
    /// These are sent in its place.
    Pieces(Vec<Piece>),
    /// It is sent again.
    Again(Piece, Again),
}

/// A piece that was sent.
struct Sent {
    target: Arc<LogstoreName>,
    at: Instant,
    next: Next,
    /// Whether the destination took something of it.
    took: bool,
    /// Events that were refused for good, or 1 for a payload of which it is not known.
    refused: u32,
}

impl<T: Transport> Common<T> {
    /// The same. After a mistake in weir, of which the panic tells, the piece is gone: its events stay unsettled, and come
    /// again when the agent does.
    async fn send_or_give_up(self: Arc<Self>, piece: Piece, at: Instant) -> Sent {
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
            Outcome::Refused(why) if events <= 1 => self.aside(|all| all.bury(piece, vec![(0, why)], Vec::new())).await,
            Outcome::Refused(_) => self.aside(|_| Self::halve(piece)).await,
            Outcome::SomeRefused { count, reason } => {
                self.aside(move |all| all.bury_whole(piece, count, &reason)).await
            }
            Outcome::Partly { refused, again } => {
                if are_some_of(events, &refused, &again) {
                    metrics::add(&accounts.delivered, (events - refused.len() - again.len()) as u64);
                    metrics::add(&accounts.bytes_delivered, piece.bytes.len() as u64);
                    self.aside(|all| all.bury(piece, refused, again)).await
                } else {
                    let why = "the answer names events that were not sent".to_owned();
                    Next::Again(piece, Again { why, after: None, scope: Scope::Logstore, is_mistake: true })
                }
            }
        };
        Sent { target, at, next, took, refused }
    }

    /// Done by a thread of its own: compressing again and writing to disk take time, which other logstores' payloads
    /// would wait for. Without an end, the piece is gone as after a mistake in weir.
    async fn aside(self: &Arc<Self>, work: impl FnOnce(&Self) -> Next + Send + 'static) -> Next {
        let common = self.clone();
        tokio::task::spawn_blocking(move || work(&common)).await.unwrap_or(Next::Nothing)
    }

    /// Two halves of a piece that was refused as a whole.
    fn halve(piece: Piece) -> Next {
        let plain = match piece.layout.plain(&piece.bytes) {
            Ok(plain) => plain,
            Err(error) => return Next::Again(piece, broken(&error)),
        };
        let events: Vec<u32> = (0..piece.layout.events as u32).collect();
        let (first, second) = events.split_at(events.len() / 2);
        Next::Pieces(vec![piece.part(first, &plain), piece.part(second, &plain)])
    }

    /// Keeps refused events as dead letters; others are sent again, and the rest is delivered.
    fn bury(&self, piece: Piece, refused: Vec<(u32, String)>, again: Vec<u32>) -> Next {
        let plain = match piece.layout.plain(&piece.bytes) {
            Ok(plain) => plain,
            Err(error) => return Next::Again(piece, broken(&error)),
        };
        let mut lost = Vec::new();
        for (at, (event, reason)) in refused.iter().enumerate() {
            let body = piece.layout.part([*event as usize], &plain);
            let bytes = match body.layout.plain(body.bytes.as_slice()) {
                Ok(bytes) => bytes,
                Err(error) => return Next::Again(piece, broken(&error)),
            };
            let letter = self.letter(&piece, reason, &bytes);
            match self.keep(letter, 1) {
                Ok(kept) => lost.push((piece.index(*event), kept)),
                Err(why) => {
                    // What was taken or kept so far is done; the rest is tried again.
                    let mut rest: Vec<u32> = refused[at..].iter().map(|(event, _)| *event).chain(again).collect();
                    rest.sort_unstable();
                    piece.whole.done(piece.layout.events - rest.len(), lost);
                    let rest = piece.part(&rest, &plain);
                    return Next::Again(rest, Again { why, after: None, scope: Scope::Logstore, is_mistake: true });
                }
            }
        }
        piece.whole.done(piece.layout.events - again.len(), lost);
        match again.is_empty() {
            true => Next::Nothing,
            false => {
                let why = format!("{} of {} events were pushed back", again.len(), piece.layout.events);
                let again = piece.part(&again, &plain);
                Next::Again(again, Again { why, after: None, scope: Scope::Logstore, is_mistake: false })
            }
        }
    }

    /// Keeps a copy of all events as one dead letter, where it is not known which of them were refused.
    fn bury_whole(&self, piece: Piece, count: usize, reason: &str) -> Next {
        let plain = match piece.layout.plain(&piece.bytes) {
            Ok(plain) => plain,
            Err(error) => return Next::Again(piece, broken(&error)),
        };
        let events = piece.layout.events;
        let count = count.min(events);
        let mut letter = self.letter(&piece, reason, &plain);
        letter.head.events = events;
        match self.keep(letter, count) {
            Ok(kept) => {
                metrics::add(&self.accounts.delivered, (events - count) as u64);
                metrics::add(&self.accounts.bytes_delivered, piece.bytes.len() as u64);
                // Some have to be taken for those.
                let lost = (events - count..events).map(|event| (piece.index(event as u32), kept));
                piece.whole.done(events, lost);
                Next::Nothing
            }
            Err(why) => Next::Again(piece, Again { why, after: None, scope: Scope::Logstore, is_mistake: true }),
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
    let why = format!("a payload that weir made cannot be read again: {error}");
    Again { why, after: None, scope: Scope::Logstore, is_mistake: true }
}

/// A failure that goes on is told of this often.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// Whether a destination is reached again is tried this often: a connection costs little, and what waits is much.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// A server's wish to be left alone is granted for so long at most.
const LONGEST_AFTER: Duration = Duration::from_secs(300);

/// The task of one destination.
struct Task<T> {
    common: Arc<Common<T>>,
    limits: Limits,
    queues: Queues<Piece>,
    /// How often in a row nothing arrived.
    unreached: Backoff,
    /// When each kind of trouble was last told of.
    told: [Option<Instant>; KINDS],
    /// Dead letters that were told of.
    told_letters: u64,
}

/// Kinds of trouble that are told of.
const KINDS: usize = 4;
const UNREACHED: usize = 0;
const MISTAKE: usize = 1;
const PUSHED_BACK: usize = 2;
const REFUSED: usize = 3;

impl<T: Transport> Task<T> {
    fn new(common: Arc<Common<T>>, limits: Limits) -> Self {
        Task {
            common,
            queues: Queues::new(limits.concurrency),
            limits,
            unreached: Backoff::default(),
            told: [None; KINDS],
            told_letters: 0,
        }
    }

    async fn run(
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
            let until = self.queues.due().into_iter().chain(deadline).min();
            let wait = tokio::time::sleep_until(until.unwrap_or(now + Duration::from_secs(3600)).into());
            tokio::select! {
                Some(sent) = under_way.next(), if !under_way.is_empty() => self.sent(sent),
                payload = payloads.recv(), if is_open => match payload {
                    Some(payload) => {
                        let piece = Piece::new(payload);
                        self.queues.push_back(&piece.whole.target.clone(), piece);
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
        self.tell_letters(&target, now);
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
            if self.told[UNREACHED].take().is_some() {
                tracing::info!(sink = self.common.sink, "is reached again");
            }
        }
    }

    /// Whether it is time to tell of such a thing; then it is told now.
    fn may_tell(&mut self, kind: usize, now: Instant) -> bool {
        let may = self.told[kind].is_none_or(|told| now - told >= TELL_EVERY);
        if may {
            self.told[kind] = Some(now);
        }
        may
    }

    /// Says that there are dead letters, without what is in them.
    fn tell_letters(&mut self, target: &LogstoreName, now: Instant) {
        let letters = self.common.accounts.dead_lettered.load(std::sync::atomic::Ordering::Relaxed);
        if letters > self.told_letters && self.may_tell(REFUSED, now) {
            let (sink, new) = (&self.common.sink, letters - self.told_letters);
            self.told_letters = letters;
            tracing::warn!(
                sink,
                logstore = %target,
                "{new} events were refused for good, and are kept as dead letters: see `weir dead-letters list`"
            );
        }
    }

    fn tell(&mut self, target: &LogstoreName, again: &Again, now: Instant) {
        self.common.set_trouble(Some(&again.why));
        let kind = match (again.scope, again.is_mistake) {
            (Scope::Destination, _) => UNREACHED,
            (Scope::Logstore, true) => MISTAKE,
            (Scope::Logstore, false) => PUSHED_BACK,
        };
        if !self.may_tell(kind, now) {
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
