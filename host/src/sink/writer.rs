//! The thread that writes payloads to something local, and tries again until it succeeds.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Payload;
use crate::config::LogstoreName;
use crate::metrics::{self, SinkAccounts};

/// The pause after the first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A failure that goes on is reported this often.
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// After the deadline, a write that is under way may take so long.
const LAST_WRITE: Duration = Duration::from_millis(500);

/// What a writer writes to.
pub trait Output: Send + 'static {
    /// Called before the first of a payload's bytes is written; so many will be.
    fn begin(&mut self, _: &LogstoreName, _bytes: usize) -> io::Result<()> {
        Ok(())
    }
    /// Writes some of the bytes and says how many.
    fn write(&mut self, target: &LogstoreName, bytes: &[u8]) -> io::Result<usize>;
    /// Called after a failure: where in the payload to go on, of which so much was written.
    fn recover(&mut self, _: &LogstoreName, _bytes: &[u8], written: usize) -> usize {
        written
    }
    /// Called after each payload.
    fn flush(&mut self) -> io::Result<()>;
    /// Whether payloads are delivered only when they were written and then synced.
    fn delivers_by_sync(&self) -> bool {
        false
    }
    /// Makes safe what was written. After an error all that was written since the last time is written again.
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
    /// When it wants to be called by [`Output::tick`], if nothing is written before.
    fn due(&self) -> Option<Instant> {
        None
    }
    /// Called when it is due.
    fn tick(&mut self) {}
    /// Called when nothing more will be written.
    fn end(&mut self) {}
}

/// Payloads that share a sync at most.
const GROUP: usize = 64;

/// A thread that writes payloads in the order in which they come.
pub struct Writer {
    name: String,
    queue: Mutex<Option<mpsc::Sender<Payload>>>,
    /// Is disconnected when the thread ends.
    ended: Mutex<mpsc::Receiver<()>>,
    deadline: Arc<Deadline>,
    is_lost: Arc<AtomicBool>,
    told: Arc<Told>,
}

/// What the thread tells of itself.
struct Told {
    accounts: Arc<SinkAccounts>,
    /// Why the last that was tried failed, as long as it is the last.
    trouble: Mutex<Option<String>>,
}

impl Told {
    fn set_trouble(&self, why: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// A write or a sync failed, and is tried again.
    fn failed(&self, error: &io::Error) {
        let SinkAccounts { requests, failures, retries, .. } = &*self.accounts;
        [requests, failures, retries].into_iter().for_each(|count| metrics::add(count, 1));
        self.set_trouble(Some(error.to_string()));
    }

    /// A payload is where it should be.
    fn delivered(&self, payload: Payload, begun: Instant) {
        let accounts = &self.accounts;
        metrics::add(&accounts.requests, 1);
        metrics::add(&accounts.delivered, payload.body.layout.events as u64);
        metrics::add(&accounts.bytes_delivered, payload.body.bytes.as_slice().len() as u64);
        metrics::add(&accounts.request_time, begun.elapsed().as_nanos() as u64);
        payload.delivered();
    }
}

/// When the writer is to give up; never, until it is closed.
#[derive(Default)]
struct Deadline {
    at: Mutex<Option<Instant>>,
    changed: Condvar,
}

impl Writer {
    /// Starts the thread; `name` is the sink's.
    pub fn start(name: &str, output: impl Output, accounts: Arc<SinkAccounts>) -> Self {
        metrics::set(&accounts.concurrency, 1);
        let told = Arc::new(Told { accounts, trouble: Mutex::default() });
        let (sender, receiver) = mpsc::channel();
        let deadline = Arc::new(Deadline::default());
        let is_lost = Arc::new(AtomicBool::new(false));
        let (sink, until, lost, tell) = (name.to_owned(), deadline.clone(), is_lost.clone(), told.clone());
        let (ends, ended) = mpsc::channel();
        let work = move || {
            run(&sink, output, &receiver, &until, &lost, &tell);
            drop(ends);
        };
        std::thread::Builder::new().name(format!("sink {name}")).spawn(work).expect("the system has a thread to give");
        let (name, queue, ended) = (name.to_owned(), Mutex::new(Some(sender)), Mutex::new(ended));
        Writer { name, queue, ended, deadline, is_lost, told }
    }

    /// Why the last that was tried failed, as long as it is the last.
    pub fn trouble(&self) -> Option<String> {
        self.told.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the other end of a pipe was closed: nobody will ever read from it again.
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// Puts a payload into the queue. What is sent after [`Writer::close`] stays undelivered.
    pub fn send(&self, payload: Payload) {
        if let Some(queue) = &*self.queue.lock().unwrap_or_else(PoisonError::into_inner) {
            // The thread ends only after the queue is closed, which this lock excludes.
            metrics::add(&self.told.accounts.waiting, 1);
            let _ = queue.send(payload);
        }
    }

    /// Writes what is in the queue within that time, and ends the thread. One that is stuck in a write is left behind.
    pub fn close(&self, within: Duration) {
        *self.deadline.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + within);
        self.deadline.changed.notify_all();
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(within + LAST_WRITE) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!(sink = self.name, "does not take what is written; what is on its way comes again");
        }
    }
}

fn run(
    sink: &str,
    mut output: impl Output,
    queue: &mpsc::Receiver<Payload>,
    deadline: &Deadline,
    is_lost: &AtomicBool,
    told: &Told,
) {
    let is_taken = |_: &Payload| _ = told.accounts.waiting.fetch_sub(1, Ordering::Relaxed);
    let mut group = Vec::new();
    while let Some(payload) = next(queue, &mut output).inspect(is_taken) {
        let begun = Instant::now();
        let write = |output: &mut _, payload: &Payload| {
            write_all(sink, output, &payload.target, payload.body.bytes.as_slice(), deadline, is_lost, told)
        };
        if !write(&mut output, &payload) {
            return;
        }
        if !output.delivers_by_sync() {
            told.delivered(payload, begun);
            continue;
        }
        group.push(payload);
        // What has come meanwhile shares the sync.
        while group.len() < GROUP
            && let Ok(payload) = queue.try_recv().inspect(is_taken)
        {
            if !write(&mut output, &payload) {
                return;
            }
            group.push(payload);
        }
        let mut failures = Failures::default();
        while let Err(error) = output.sync() {
            failures.tell(sink, &error, told);
            if !deadline.pause(failures.pause()) || !group.iter().all(|payload| write(&mut output, payload)) {
                return;
            }
        }
        failures.end(sink, told);
        group.drain(..).for_each(|payload| told.delivered(payload, begun));
    }
    output.end();
}

/// The next payload; none, if there will be no more.
fn next(queue: &mpsc::Receiver<Payload>, output: &mut impl Output) -> Option<Payload> {
    loop {
        let Some(due) = output.due() else { return queue.recv().ok() };
        match queue.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(payload) => return Some(payload),
            Err(mpsc::RecvTimeoutError::Timeout) => output.tick(),
            Err(mpsc::RecvTimeoutError::Disconnected) => return None,
        }
    }
}

/// Failures in a row.
struct Failures {
    pause: Duration,
    told: Option<Instant>,
}

impl Default for Failures {
    fn default() -> Self {
        Failures { pause: FIRST_PAUSE, told: None }
    }
}

impl Failures {
    fn tell(&mut self, sink: &str, error: &io::Error, told: &Told) {
        told.failed(error);
        if self.told.is_none_or(|when| when.elapsed() > REPORT_EVERY) {
            tracing::error!(sink, "cannot write, trying again until it works; nothing is lost: {error}");
            self.told = Some(Instant::now());
        }
    }

    /// How long to wait before the next try.
    fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }

    fn end(self, sink: &str, told: &Told) {
        if self.told.is_some() {
            told.set_trouble(None);
            tracing::info!(sink, "writing works again");
        }
    }
}

/// Whether all was written before the deadline.
fn write_all(
    sink: &str,
    output: &mut impl Output,
    target: &LogstoreName,
    bytes: &[u8],
    deadline: &Deadline,
    is_lost: &AtomicBool,
    told: &Told,
) -> bool {
    let mut written = 0;
    let mut has_begun = false;
    let mut failures = Failures::default();
    while written < bytes.len() {
        let result = match has_begun {
            true => output.write(target, &bytes[written..]),
            false => output.begin(target, bytes.len()).map(|()| 0),
        };
        let error = match result {
            Ok(0) if !has_begun => {
                has_begun = true;
                continue;
            }
            Ok(0) => io::Error::from(io::ErrorKind::WriteZero),
            Ok(count) => {
                written += count;
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                tracing::error!(sink, "nobody reads it any more: {error}");
                is_lost.store(true, Ordering::Relaxed);
                return false;
            }
            Err(error) => error,
        };
        failures.tell(sink, &error, told);
        written = output.recover(target, bytes, written);
        has_begun = written > 0;
        if !deadline.pause(failures.pause()) {
            return false;
        }
    }
    failures.end(sink, told);
    if let Err(error) = output.flush() {
        tracing::error!(sink, "cannot flush: {error}");
    }
    true
}

impl Deadline {
    /// Waits so long; false if the deadline is reached before.
    fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let now = Instant::now();
            match *at {
                Some(deadline) if now >= deadline => return false,
                _ if now >= until => return true,
                deadline => {
                    let next = deadline.map_or(until, |d| d.min(until));
                    at = self.changed.wait_timeout(at, next - now).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Receipt, Returns};
    use super::*;

    /// Takes three bytes at a time, and has no room at every second call.
    #[derive(Clone, Default)]
    struct Narrow {
        taken: Arc<Mutex<Vec<u8>>>,
        calls: usize,
        is_full: bool,
    }

    impl Output for Narrow {
        fn write(&mut self, _: &LogstoreName, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            if self.is_full || self.calls.is_multiple_of(2) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let count = bytes.len().min(3);
            self.taken.lock().unwrap().extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn payload(bytes: &str, id: u64, returns: &Arc<Returns>) -> Payload {
        let receipt = Receipt { id, outlet: 0, returns: returns.clone() };
        Payload { target: Arc::new("a/b".parse().unwrap()), body: bytes.into(), receipt }
    }

    #[test]
    fn what_fits_in_parts_is_written_once_and_in_order() {
        let narrow = Narrow::default();
        let writer = Writer::start("test", narrow.clone(), Arc::default());
        let returns = Returns::new(Box::new(|| {}));
        for (id, bytes) in [(0, "hello "), (1, "world")] {
            writer.send(payload(bytes, id, &returns));
        }
        writer.close(Duration::from_secs(60));
        assert_eq!(*narrow.taken.lock().unwrap(), b"hello world");
        let mut done = Vec::new();
        returns.take(&mut done);
        assert_eq!(done.iter().map(|r| r.id).collect::<Vec<_>>(), [0, 1]);
    }

    /// Keeps what is synced; every second sync fails, and forgets what was written.
    #[derive(Clone, Default)]
    struct Forgetful {
        safe: Arc<Mutex<Vec<u8>>>,
        written: Vec<u8>,
        syncs: usize,
    }

    impl Output for Forgetful {
        fn write(&mut self, _: &LogstoreName, bytes: &[u8]) -> io::Result<usize> {
            self.written.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn delivers_by_sync(&self) -> bool {
            true
        }

        fn sync(&mut self) -> io::Result<()> {
            self.syncs += 1;
            let written = std::mem::take(&mut self.written);
            if self.syncs % 2 == 1 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.safe.lock().unwrap().extend(written);
            Ok(())
        }
    }

    #[test]
    fn what_a_sync_loses_is_written_again_before_it_is_delivered() {
        let output = Forgetful::default();
        let safe = output.safe.clone();
        let returns = Returns::new(Box::new(|| {}));
        let writer = Writer::start("test", output, Arc::default());
        for (id, bytes) in [(0, "a"), (1, "b"), (2, "c")] {
            writer.send(payload(bytes, id, &returns));
        }
        writer.close(Duration::from_secs(60));
        assert_eq!(*safe.lock().unwrap(), b"abc");
        let mut done = Vec::new();
        returns.take(&mut done);
        assert_eq!(done.iter().map(|r| r.id).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn a_write_that_never_returns_is_left_behind() {
        struct Stuck;
        impl Output for Stuck {
            fn write(&mut self, _: &LogstoreName, _: &[u8]) -> io::Result<usize> {
                loop {
                    std::thread::park();
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let writer = Writer::start("test", Stuck, Arc::default());
        let returns = Returns::new(Box::new(|| {}));
        writer.send(payload("x", 0, &returns));
        writer.close(Duration::ZERO);
        let mut done = Vec::new();
        returns.take(&mut done);
        assert!(done.is_empty());
    }

    #[test]
    fn what_cannot_be_written_is_not_reported_as_delivered() {
        let writer = Writer::start("test", Narrow { is_full: true, ..Narrow::default() }, Arc::default());
        let returns = Returns::new(Box::new(|| {}));
        writer.send(payload("x", 0, &returns));
        writer.close(Duration::ZERO);
        let mut done = Vec::new();
        returns.take(&mut done);
        assert!(done.is_empty());
    }
}
