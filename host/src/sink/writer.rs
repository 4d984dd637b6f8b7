//! The thread that writes payloads to something local, and tries again until it succeeds.

use std::collections::{HashMap, VecDeque};
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
    /// Whether what cannot be written to one target may well be to another. If not, all wait for it.
    fn targets_are_apart(&self) -> bool {
        false
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
        accounts.waiting.fetch_sub(1, Ordering::Relaxed);
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
            let (stuck, group) = (HashMap::new(), Vec::new());
            let work = Work { sink: &sink, output, deadline: &until, is_lost: &lost, told: &tell, stuck, group };
            work.run(&receiver);
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

/// What the thread does.
struct Work<'w, O> {
    sink: &'w str,
    output: O,
    deadline: &'w Deadline,
    is_lost: &'w AtomicBool,
    told: &'w Told,
    /// Targets that cannot be written to for now, where others can all the same.
    stuck: HashMap<Arc<LogstoreName>, Stuck>,
    /// Written and not synced yet, where only that delivers; and since when each was.
    group: Vec<(Payload, Instant)>,
}

/// Payloads of a target, the first of which could not be written.
struct Stuck {
    payloads: VecDeque<Payload>,
    /// Bytes of the first that were.
    written: usize,
    failures: Failures,
    again: Instant,
}

/// Nothing more is written.
struct Ended;

/// What is next.
enum Next {
    Payload(Payload),
    /// A stuck target is tried again.
    Again(Arc<LogstoreName>),
    Tick,
    End,
}

impl<O: Output> Work<'_, O> {
    fn run(mut self, queue: &mpsc::Receiver<Payload>) {
        while let Ok(true) = self.step(queue) {}
    }

    /// Whether there may be more.
    fn step(&mut self, queue: &mpsc::Receiver<Payload>) -> Result<bool, Ended> {
        match self.next(queue) {
            Next::Payload(payload) => self.write(payload)?,
            Next::Again(target) => self.again(&target)?,
            Next::Tick => self.output.tick(),
            Next::End => {
                self.output.end();
                return Ok(false);
            }
        }
        // What has come meanwhile shares the sync.
        while (1..GROUP).contains(&self.group.len())
            && let Ok(payload) = queue.try_recv()
        {
            self.write(payload)?;
        }
        self.sync()?;
        Ok(true)
    }

    fn next(&self, queue: &mpsc::Receiver<Payload>) -> Next {
        let again = self.stuck.iter().min_by_key(|(_, stuck)| stuck.again).map(|(target, stuck)| (target, stuck.again));
        let due = self.output.due();
        if let Some((target, _)) = again.filter(|(_, at)| *at <= Instant::now()) {
            return Next::Again(target.clone());
        }
        let until = again.map(|(_, at)| at).into_iter().chain(due).min();
        let payload = match until {
            None => queue.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            Some(until) => queue.recv_timeout(until.saturating_duration_since(Instant::now())),
        };
        match (payload, again) {
            (Ok(payload), _) => Next::Payload(payload),
            (Err(mpsc::RecvTimeoutError::Timeout), Some((target, at))) if due.is_none_or(|due| at <= due) => {
                Next::Again(target.clone())
            }
            (Err(mpsc::RecvTimeoutError::Timeout), _) => Next::Tick,
            (Err(mpsc::RecvTimeoutError::Disconnected), Some((target, at))) => {
                match self.deadline.pause(at.saturating_duration_since(Instant::now())) {
                    true => Next::Again(target.clone()),
                    false => Next::End,
                }
            }
            (Err(mpsc::RecvTimeoutError::Disconnected), None) => Next::End,
        }
    }

    /// Writes a payload, behind those of its target that are stuck.
    fn write(&mut self, payload: Payload) -> Result<(), Ended> {
        match self.stuck.get_mut(&payload.target) {
            Some(stuck) => {
                stuck.payloads.push_back(payload);
                Ok(())
            }
            None => self.go_on(payload, 0, Failures::default()).map(|_| ()),
        }
    }

    /// Goes on with what is stuck.
    fn again(&mut self, target: &LogstoreName) -> Result<(), Ended> {
        let Some(Stuck { mut payloads, mut written, mut failures, .. }) = self.stuck.remove(target) else {
            return Ok(());
        };
        while let Some(payload) = payloads.pop_front() {
            if !self.go_on(payload, written, failures)? {
                let stuck = self.stuck.get_mut(target);
                stuck.into_iter().for_each(|stuck| stuck.payloads.append(&mut payloads));
                break;
            }
            (written, failures) = (0, Failures::default());
        }
        Ok(())
    }

    /// Writes the rest of a payload. False if it is stuck.
    fn go_on(&mut self, payload: Payload, mut written: usize, mut failures: Failures) -> Result<bool, Ended> {
        let begun = Instant::now();
        while let Err(error) = self.try_to_write(&payload, &mut written) {
            if error.kind() == io::ErrorKind::BrokenPipe {
                tracing::error!(sink = self.sink, "nobody reads it any more: {error}");
                self.is_lost.store(true, Ordering::Relaxed);
                return Err(Ended);
            }
            failures.tell(self.sink, &error, self.told);
            written = self.output.recover(&payload.target, payload.body.bytes.as_slice(), written);
            let pause = failures.pause();
            if self.output.targets_are_apart() {
                let (target, again) = (payload.target.clone(), Instant::now() + pause);
                self.stuck.insert(target, Stuck { payloads: [payload].into(), written, failures, again });
                return Ok(false);
            }
            if !self.deadline.pause(pause) {
                return Err(Ended);
            }
        }
        failures.end(self.sink, self.told);
        if let Err(error) = self.output.flush() {
            tracing::error!(sink = self.sink, "cannot flush: {error}");
        }
        match self.output.delivers_by_sync() {
            true => self.group.push((payload, begun)),
            false => self.told.delivered(payload, begun),
        }
        Ok(true)
    }

    fn try_to_write(&mut self, payload: &Payload, written: &mut usize) -> io::Result<()> {
        let (target, bytes) = (&payload.target, payload.body.bytes.as_slice());
        if *written == 0 && !bytes.is_empty() {
            self.output.begin(target, bytes.len())?;
        }
        while *written < bytes.len() {
            match self.output.write(target, &bytes[*written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => *written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Delivers what is written, by a sync. What cannot be synced is written again.
    fn sync(&mut self) -> Result<(), Ended> {
        let mut failures = Failures::default();
        while !self.group.is_empty()
            && let Err(error) = self.output.sync()
        {
            failures.tell(self.sink, &error, self.told);
            if !self.deadline.pause(failures.pause()) {
                return Err(Ended);
            }
            let group = std::mem::take(&mut self.group).into_iter().map(|(payload, _)| payload);
            let (behind, free): (Vec<_>, Vec<_>) = group.partition(|payload| self.stuck.contains_key(&payload.target));
            for payload in behind.into_iter().rev() {
                if let Some(stuck) = self.stuck.get_mut(&payload.target) {
                    stuck.payloads.push_front(payload);
                    stuck.written = 0;
                }
            }
            free.into_iter().try_for_each(|payload| self.write(payload))?;
        }
        failures.end(self.sink, self.told);
        self.group.drain(..).for_each(|(payload, begun)| self.told.delivered(payload, begun));
        Ok(())
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
    use std::collections::BTreeMap;

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

    /// Each target's bytes, of which `a` has no room as long as it is full.
    #[derive(Clone, Default)]
    struct Apart {
        taken: Arc<Mutex<BTreeMap<String, String>>>,
        is_full: Arc<AtomicBool>,
    }

    impl Output for Apart {
        fn write(&mut self, target: &LogstoreName, bytes: &[u8]) -> io::Result<usize> {
            let mut taken = self.taken.lock().unwrap();
            let taken = taken.entry(target.project.clone()).or_default();
            let is_full = target.project == "a" && self.is_full.load(Ordering::SeqCst);
            if is_full && taken.len() % 4 == 2 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            taken.push_str(str::from_utf8(&bytes[..2]).unwrap());
            Ok(2)
        }

        fn targets_are_apart(&self) -> bool {
            true
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_cannot_be_written_to_holds_up_nobody_else() {
        let apart = Apart::default();
        apart.is_full.store(true, Ordering::SeqCst);
        let (news, came) = mpsc::channel();
        let returns = Returns::new(Box::new(move || news.send(()).unwrap()));
        let writer = Writer::start("test", apart.clone(), Arc::default());
        for (id, project) in [(0, "a"), (1, "b"), (2, "a"), (3, "c"), (4, "b"), (5, "a")] {
            let target = Arc::new(format!("{project}/x").parse().unwrap());
            writer.send(Payload { target, ..payload(&format!("{id}{id}{id}{id}"), id, &returns) });
        }
        let mut done = Vec::new();
        let mut wait_for = |count| {
            while done.len() < count {
                if !returns.wait(true) {
                    came.recv_timeout(Duration::from_secs(60)).unwrap();
                }
                returns.take(&mut done);
            }
            done.iter().map(|returned| returned.id).collect::<Vec<_>>()
        };
        assert_eq!(wait_for(3), [1, 3, 4]);
        apart.is_full.store(false, Ordering::SeqCst);
        assert_eq!(wait_for(6), [1, 3, 4, 0, 2, 5]);
        let taken: Vec<_> = apart.taken.lock().unwrap().values().cloned().collect();
        assert_eq!(taken, ["000022225555", "11114444", "3333"]);
        writer.close(Duration::ZERO);
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
