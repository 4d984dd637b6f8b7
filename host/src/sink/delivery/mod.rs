//! What all destinations on the network share: whose payload is next, retries, concurrency, splitting, dead letters.
//!
//! A [`Transport`] sends a payload once and says what became of it. Each destination has one task, which owns its
//! queues: one for each logstore, taken from in turn, by projects first. What a server says of a logstore slows that
//! logstore down; only what keeps every request from arriving slows down the destination.

mod aside;
mod attempt;
mod limit;
mod piece;
mod queue;
mod task;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc as blocking};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::dead_letters::DeadLetters;
use super::records::Layout;
use super::{Payload, Sender};
use crate::config::LogstoreName;
use crate::metrics::SinkAccounts;
use aside::Aside;
use attempt::Common;
use task::Task;

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
pub struct Runtime {
    network: Option<tokio::runtime::Runtime>,
    aside: Arc<Aside>,
}

impl Runtime {
    /// Starts them.
    pub fn start() -> std::io::Result<Arc<Runtime>> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let network = Some(builder.worker_threads(2).thread_name("net").enable_all().build()?);
        Ok(Arc::new(Runtime { network, aside: Arc::default() }))
    }

    /// Does something to its end.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.network.as_ref().expect("it runs until it is dropped").block_on(work)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.network {
            runtime.spawn(task);
        }
    }
}

impl Drop for Runtime {
    /// Nobody waits for a name that is still being looked up.
    fn drop(&mut self) {
        if let Some(runtime) = self.network.take() {
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
        let common = Arc::new(Common {
            sink: name.to_owned(),
            transport,
            dead_letters,
            accounts,
            trouble: trouble.clone(),
            aside: runtime.aside.clone(),
            letters: Mutex::default(),
            has_ended: AtomicBool::new(false),
        });
        runtime.spawn(async move {
            Task::new(common.clone(), limits).run(payloads, stopped).await;
            common.has_ended.store(true, Ordering::Relaxed);
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
