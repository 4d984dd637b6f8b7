//! A logstore while it runs, and one turn of it: read, process, encode, hand over.
//!
//! The lane keeps the accounts: a payload is remembered until its receipt comes back, and only then are its
//! events delivered and its file's offset settled. Payloads settle in the order in which they were made.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use crate::budget::{Budget, Share};
use crate::checkpoint::Checkpoint;
use crate::clock::Clock;
use crate::event::{Batch, Field, Tags, Tally};
use crate::metrics::{self, Accounts, PluginAccounts};
use crate::pace::Pace;
use crate::sandbox::{Chain, Held, Passage, Step};
use crate::schedule::{TakeTurn, Turn};
use crate::sink::{Buffer, Encoder, Payload, Returned, Returns, Sender, Target};
use crate::source::identity::{FileId, Stamp};
use crate::source::place::Place;
use crate::source::reader::{Chunk, Name};
use crate::source::{Ended, Read, Source, Then};

/// Payloads of one lane that are on their way. More are not made before some come back.
const IN_FLIGHT: usize = 4;

/// Settled offsets are noted at most this often.
const NOTE_EVERY: Duration = Duration::from_millis(500);

/// Faults of plugins are told of at most this often.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// The instances of a lane that has had nothing to do for so long are let go.
const IDLE: Duration = Duration::from_secs(10);

/// Nothing is put off so soon after a file came, went or was renamed: its writer may be between two files.
const CALM: Duration = Duration::from_secs(5);

/// A lane whose project has no memory left looks again after so long, if it isn't woken.
const SHORT: Duration = Duration::from_millis(50);

/// Events that a plugin holds are given to it for the last time when their file has been quiet for so long.
const HOLD_AT_MOST: Duration = Duration::from_secs(5);

/// What a lane is asked to do. Set by the agent, read at each turn.
#[derive(Clone, Default)]
pub struct Mode(Arc<AtomicU8>);

impl Mode {
    /// 0 is to follow.
    const UNTIL_IDLE: u8 = 1;
    const DRAIN: u8 = 2;

    /// Reads what there is, flushes what has no end, and is done.
    pub fn until_idle() -> Self {
        Mode(Arc::new(AtomicU8::new(Self::UNTIL_IDLE)))
    }

    /// From now on: as [`Mode::until_idle`].
    pub fn finish(&self) {
        self.0.store(Self::UNTIL_IDLE, Ordering::Relaxed);
    }

    /// From now on: reads nothing more, and is done when all payloads have come back.
    pub fn drain(&self) {
        self.0.store(Self::DRAIN, Ordering::Relaxed);
    }

    fn is(&self, mode: u8) -> bool {
        self.0.load(Ordering::Relaxed) == mode
    }
}

/// What one worker needs for a turn, whichever lane it has.
#[derive(Default)]
pub struct Scratch {
    chunk: Chunk,
    returned: Vec<Returned>,
}

/// Sees events before and after the chain: for demonstrations.
pub type Tap = Box<dyn FnMut(&Batch, &Batch) + Send>;

/// A logstore while it runs.
pub struct Lane {
    name: String,
    source: Source,
    chain: Chain,
    encoder: Encoder,
    sender: Arc<dyn Sender>,
    target: Target,
    returns: Arc<Returns>,
    checkpoint: Arc<Checkpoint>,
    accounts: Arc<Accounts>,
    mode: Mode,
    clock: Clock,
    tap: Option<Tap>,
    /// The life of each file, by the source's key.
    files: HashMap<u64, FileState>,
    pending: VecDeque<Pending>,
    next_payload: u64,
    /// Buffers of payloads that came back.
    spare: Vec<Buffer>,
    /// What is settled of each file and not noted yet.
    settled: HashMap<FileId, Settled>,
    noted: Instant,
    /// Events of all files that are not decided on, because plugins hold them.
    undecided: u64,
    /// Whether it has been told that what is there now is all there is.
    is_finishing: bool,
    /// How many faults of plugins were told of, and when.
    told: Option<(u64, Instant)>,
    /// For each plugin, how often it was suspended, and whether it is, as far as that was told of.
    told_suspensions: Vec<(u64, bool)>,
    /// A batch that has not come through the chain yet: nothing else is read before.
    job: Option<Job>,
    /// A life whose end waits for what plugins held of it.
    ending: Option<Ended>,
    /// When a batch was last begun.
    busy: Instant,
    budget: Arc<Budget>,
    /// What it has of the budget, without linear memories, which count themselves.
    share: Share,
    overdraft: Option<Overdraft>,
    pace: Option<Arc<Pace>>,
    /// What is written before that is read then.
    next_read: Instant,
    /// Bytes that were read since there was nothing to read.
    read_lately: u64,
    /// When a file last came, went or was renamed.
    unsettled_at: Option<Instant>,
    held_bytes: usize,
    plugins: Vec<Arc<PluginAccounts>>,
}

/// A batch on its way through the chain.
struct Job {
    /// What it was read into; empty while the worker has it.
    chunk: Chunk,
    passage: Passage,
    /// What waits behind it, the last first: a plugin is suspended, and holds up what it has not seen.
    behind: Vec<Passage>,
    name: Arc<Name>,
    /// What the batch was, if somebody looks on.
    before: Option<Batch>,
    /// The fields of raw events, to be used again.
    fields: Vec<Field>,
}

/// The right to go on although the project's memory is used up.
struct Overdraft(Arc<Budget>);

impl Drop for Overdraft {
    fn drop(&mut self) {
        self.0.end_overdraft();
    }
}

/// All that a lane is made of.
pub struct Parts {
    /// The logstore's name.
    pub name: String,
    /// Its files.
    pub source: Source,
    /// Its plugins.
    pub chain: Chain,
    /// How its sink writes events.
    pub encoder: Encoder,
    /// Its sink.
    pub sender: Arc<dyn Sender>,
    /// Where in the sink.
    pub target: Target,
    /// Where its payloads come back.
    pub returns: Arc<Returns>,
    /// Where its settled offsets go.
    pub checkpoint: Arc<Checkpoint>,
    /// What it counts.
    pub accounts: Arc<Accounts>,
    /// What each of its plugins counts, in order.
    pub plugins: Vec<Arc<PluginAccounts>>,
    /// Its project's memory.
    pub budget: Arc<Budget>,
    /// How often its project reads little; as often as it likes, if there is none.
    pub pace: Option<Arc<Pace>>,
    /// What it is asked to do.
    pub mode: Mode,
    /// What time it is.
    pub clock: Clock,
    /// Who looks on.
    pub tap: Option<Tap>,
}

#[derive(Default)]
struct FileState {
    /// The tags of the last chunk, which what is held keeps.
    tags: Arc<Tags>,
    held: Held,
    tally: Tally,
    /// The place up to which all was decided on: where the oldest held event begins.
    undecided: Place,
    /// Number of the next event.
    next: u64,
    /// Where the last chunk ended.
    end: Place,
    stamp: Stamp,
    /// The file, once something of it was read.
    name: Option<Arc<Name>>,
    /// When plugins began to hold what they hold.
    held_since: Option<Instant>,
}

/// A payload on its way.
struct Pending {
    id: u64,
    is_back: bool,
    /// What is settled once this and all before it are delivered.
    settles: Settles,
    shipped: u64,
    kept_raw: u64,
    bytes: u64,
    /// Bytes that its buffer takes.
    memory: usize,
}

enum Settles {
    /// A file, up to a place.
    UpTo(Arc<Name>, Place, Stamp),
    /// All that there was of a file.
    All(FileId, Then),
}

/// What is to be noted of a file.
#[derive(Default)]
struct Settled {
    up_to: Option<(Arc<Name>, Place, Stamp)>,
    then: Option<Then>,
}

impl Lane {
    /// A lane that has not had a turn.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            name,
            source,
            chain,
            encoder,
            sender,
            target,
            returns,
            checkpoint,
            accounts,
            plugins,
            budget,
            pace,
            mode,
            clock,
            tap,
        } = parts;
        let told_suspensions = vec![(0, false); chain.stages().len()];
        Lane {
            name,
            source,
            chain,
            encoder,
            sender,
            target,
            returns,
            checkpoint,
            accounts,
            mode,
            plugins,
            share: Share::new(&budget),
            budget,
            overdraft: None,
            pace,
            next_read: clock.now(),
            read_lately: 0,
            unsettled_at: None,
            held_bytes: 0,
            job: None,
            ending: None,
            noted: clock.now(),
            busy: clock.now(),
            clock,
            tap,
            files: HashMap::new(),
            pending: VecDeque::new(),
            next_payload: 0,
            spare: Vec::new(),
            settled: HashMap::new(),
            undecided: 0,
            is_finishing: false,
            told: None,
            told_suspensions,
        }
    }

    /// Its files.
    pub fn source(&self) -> &Source {
        &self.source
    }

    fn take_turn(&mut self, scratch: &mut Scratch) -> Turn {
        self.settle(&mut scratch.returned);
        if self.mode.is(Mode::DRAIN) {
            return self.finish_or_rest();
        }
        let now = self.clock.now();
        if let Some(mut job) = self.job.take() {
            // What vanishes meanwhile is held.
            let next = self.source.look(now);
            std::mem::swap(&mut scratch.chunk, &mut job.chunk);
            return match self.advance(job, &mut scratch.chunk) {
                Some(Turn::RestUntil(when)) => self.rest(Some(when.min(next))),
                _ => Turn::More,
            };
        }
        if self.pending.len() >= IN_FLIGHT {
            // Nothing is read, but what vanishes meanwhile is held.
            let next = self.source.look(now);
            return self.rest(Some(next));
        }
        if let Some(turn) = self.wait_for_memory(now) {
            return turn;
        }
        while let Some(ended) = self.ending.take().or_else(|| self.source.take_ended()) {
            if let Some(turn) = self.end_life(ended, &mut scratch.chunk) {
                return turn;
            }
        }
        let until_idle = self.mode.is(Mode::UNTIL_IDLE);
        let next = self.next_read.min(self.source.next_scan());
        if self.source.has_urgent_news() {
            self.unsettled_at = Some(now);
        } else if now < next && !until_idle {
            return self.rest(Some(next));
        }
        self.source.mute(false);
        if until_idle && !self.is_finishing {
            self.is_finishing = true;
            self.source.look_again(now);
        }
        match self.source.read(&mut scratch.chunk, until_idle, now) {
            Read::Working => Turn::More,
            Read::Some => {
                let ended = until_idle && scratch.chunk.at_end;
                self.read_lately += scratch.chunk.bytes;
                if scratch.chunk.at_end && self.source.is_quiet() {
                    self.slow_down(now);
                }
                if let Some(turn) = self.process(&mut scratch.chunk, ended) {
                    return turn;
                }
                // A sink that delivers at once has done so by now.
                self.settle(&mut scratch.returned);
                if now < self.next_read && self.job.is_none() && !self.source.has_urgent_news() {
                    let next = self.next_read.min(self.source.next_scan());
                    return self.rest(Some(next));
                }
                Turn::More
            }
            Read::NothingBefore(_) if until_idle => self.finish_or_rest(),
            Read::NothingBefore(when) => {
                if self.undecided == 0 {
                    return self.rest(Some(when));
                }
                let held = self.files.iter().filter_map(|(key, file)| Some((file.held_since? + HOLD_AT_MOST, *key)));
                match held.min() {
                    Some((due, key)) if due <= now => self.flush(key, &mut scratch.chunk).unwrap_or(Turn::More),
                    Some((due, _)) => self.rest(Some(due.min(when))),
                    None => self.rest(Some(when)),
                }
            }
        }
    }

    /// All is read that there was: if that was little, what comes next is read together.
    fn slow_down(&mut self, now: Instant) {
        let is_calm = self.unsettled_at.is_none_or(|when| now - when > CALM);
        if let Some(pace) = &self.pace
            && is_calm
        {
            self.next_read = pace.next(now, self.read_lately);
            self.source.mute(self.next_read > now);
        }
        self.read_lately = 0;
    }

    /// While the project has no memory left, one of its lanes at a time goes on, and the others wait.
    fn wait_for_memory(&mut self, now: Instant) -> Option<Turn> {
        if self.pending.is_empty() {
            self.overdraft = None;
        }
        if !self.budget.is_full() || self.overdraft.is_some() {
            return None;
        }
        self.release();
        if !self.budget.is_full() {
            return None;
        }
        self.budget.runs_short();
        if self.pending.is_empty() && self.budget.overdraw() {
            self.overdraft = Some(Overdraft(self.budget.clone()));
            return None;
        }
        let next = self.source.look(now);
        Some(self.rest(Some(next.min(now + SHORT))))
    }

    /// Lets go of all memory that it can do without.
    fn release(&mut self) {
        self.chain.rest();
        self.spare = Vec::new();
        self.count_memory();
    }

    /// Counts what it has of the project's memory.
    fn count_memory(&mut self) {
        let buffers = self.spare.iter().map(Buffer::capacity).chain(self.pending.iter().map(|pending| pending.memory));
        let job = self.job.as_ref().map_or(0, |job| {
            let passages = job.behind.iter().chain([&job.passage]);
            passages.map(Passage::bytes).sum::<usize>() + job.chunk.batch.bytes()
        });
        let bytes = self.source.buffered() + self.held_bytes + job + buffers.sum::<usize>();
        if bytes != self.share.bytes() {
            self.share.set(bytes);
        }
        metrics::set(&self.accounts.memory, (bytes + self.chain.memory()) as u64);
    }

    /// A file has been let go, or begun anew.
    fn end_life(&mut self, ended: Ended, chunk: &mut Chunk) -> Option<Turn> {
        if let Some(turn) = self.flush(ended.key, chunk) {
            self.ending = Some(ended);
            return Some(turn);
        }
        let name = self.files.remove(&ended.key)?.name?;
        if ended.then != Then::Anew {
            let settles = Settles::All(name.id, ended.then);
            let id = self.take_payload();
            self.pending.push_back(Pending {
                id,
                is_back: true,
                settles,
                shipped: 0,
                kept_raw: 0,
                bytes: 0,
                memory: 0,
            });
        }
        None
    }

    fn take_payload(&mut self) -> u64 {
        self.next_payload += 1;
        self.next_payload - 1
    }

    /// Gives plugins for the last time what they hold of a file. If that takes longer, says what comes first.
    fn flush(&mut self, key: u64, chunk: &mut Chunk) -> Option<Turn> {
        let file = self.files.get(&key).filter(|file| !file.held.is_empty())?;
        chunk.clear(key, file.next, file.end, file.stamp);
        // The worker's last batch may have been another lane's.
        chunk.name = file.name.clone();
        chunk.batch.tags = file.tags.clone();
        self.process(chunk, true)
    }

    /// One chunk of one file, through the chain to the sink. `last`: nothing will follow in this file. If that takes
    /// longer, says what comes first.
    fn process(&mut self, chunk: &mut Chunk, last: bool) -> Option<Turn> {
        let name = chunk.name.clone()?;
        let file = self.files.entry(chunk.key).or_default();
        let read = chunk.batch.len() as u64;
        let end = chunk.batch.first + read;
        let batch = std::mem::take(&mut chunk.batch);
        file.tags = batch.tags.clone();
        // What numbers of events are counted from when their offsets are asked for.
        chunk.batch.first = batch.first;
        let fields = batch.fields.clone();
        let before = self.tap.is_some().then(|| batch.clone());
        // By this, all that was read and isn't decided on is in flight.
        self.undecided += end - file.next;
        (file.next, file.end, file.stamp) = (end, chunk.end, chunk.stamp);
        file.name = Some(name.clone());
        file.held_since = if read == 0 { file.held_since } else { Some(self.clock.now()) };
        let skipped = chunk.framed.skipped;
        metrics::add(&self.accounts.read, read + skipped);
        metrics::add(&self.accounts.discarded, skipped);
        self.busy = self.clock.now();
        let passage = Passage::new(batch, last);
        self.advance(Job { chunk: Chunk::default(), passage, behind: Vec::new(), name, before, fields }, chunk)
    }

    /// Sends a batch on through the chain. `chunk` is its own.
    fn advance(&mut self, mut job: Job, chunk: &mut Chunk) -> Option<Turn> {
        let now = self.clock.now();
        let file = self.files.entry(chunk.key).or_default();
        let before = file.held.bytes();
        let step = self.chain.advance(&mut job.passage, &mut file.held, now);
        self.held_bytes = self.held_bytes + file.held.bytes() - before;
        let turn = match step {
            Step::Done => match job.behind.pop() {
                None => {
                    self.finish(job, chunk);
                    return None;
                }
                Some(behind) => {
                    let passage = std::mem::replace(&mut job.passage, behind);
                    self.ship(passage, job.passage.first(), job.name.clone(), None, chunk);
                    Turn::More
                }
            },
            Step::Pause => Turn::More,
            Step::Wait(until) => match job.passage.go_ahead() {
                None => Turn::RestUntil(until),
                Some(ahead) => {
                    job.behind.push(std::mem::replace(&mut job.passage, ahead));
                    Turn::More
                }
            },
            Step::Short => {
                self.release();
                self.budget.runs_short();
                Turn::RestUntil(now + SHORT)
            }
        };
        std::mem::swap(chunk, &mut job.chunk);
        self.job = Some(job);
        self.publish();
        Some(turn)
    }

    /// A batch is through the chain.
    fn finish(&mut self, job: Job, chunk: &mut Chunk) {
        let Job { passage, name, before, fields, .. } = job;
        let batch = self.ship(passage, None, name, before, chunk);
        // The memory goes back to the worker for the next turn.
        chunk.batch = batch;
        chunk.batch.clear();
        chunk.batch.fields = fields;
    }

    /// Encodes what is through the chain, and hands it to the sink. All of its chunk from the event `next` on is not.
    fn ship(
        &mut self,
        passage: Passage,
        next: Option<u64>,
        name: Arc<Name>,
        before: Option<Batch>,
        chunk: &Chunk,
    ) -> Batch {
        metrics::add(&self.accounts.suspended, passage.suspended());
        let (batch, left_out) = passage.into_made();
        let file = self.files.entry(chunk.key).or_default();
        let (settled, place) = match file.held.first().into_iter().chain(next).min() {
            None => (file.next, chunk.end),
            // A held event that came with an earlier chunk holds the place where it was.
            Some(first) => (first, chunk.place_of(first).unwrap_or(file.undecided)),
        };
        file.undecided = place;
        if file.held.is_empty() {
            file.held_since = None;
        }
        let decided_before = file.tally.next();
        let tallied = file.tally.count(&batch, settled, &left_out);
        self.undecided -= file.tally.next() - decided_before;
        if let (Some(tap), Some(before)) = (&mut self.tap, before) {
            tap(&before, &batch);
        }

        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        self.encoder.encode(&batch, &mut bytes);
        let id = self.take_payload();
        self.pending.push_back(Pending {
            id,
            is_back: false,
            settles: Settles::UpTo(name, place, chunk.stamp),
            shipped: tallied.shipped,
            kept_raw: tallied.kept_raw,
            bytes: bytes.len() as u64,
            memory: bytes.capacity(),
        });
        let payload = Payload { bytes, id, returns: self.returns.clone() };
        if batch.is_empty() {
            // Nothing to deliver, but an offset to settle in its turn.
            payload.delivered();
        } else {
            self.sender.send(&self.target, payload);
        }

        metrics::add(&self.accounts.dropped, tallied.dropped);
        metrics::add(&self.accounts.discarded, tallied.faulted);
        metrics::add(&self.accounts.faulted, tallied.faulted);
        self.publish();
        batch
    }

    /// Takes the payloads that came back, and settles offsets up to the first that didn't.
    fn settle(&mut self, returned: &mut Vec<Returned>) {
        self.returns.take(returned);
        let news = !returned.is_empty();
        for Returned { id, buffer } in returned.drain(..) {
            let Some(first) = self.pending.front().map(|pending| pending.id) else { continue };
            let Some(pending) = self.pending.get_mut((id - first) as usize) else { continue };
            pending.is_back = true;
            metrics::add(&self.accounts.delivered, pending.shipped);
            metrics::add(&self.accounts.kept_raw, pending.kept_raw);
            metrics::add(&self.accounts.bytes_delivered, pending.bytes);
            self.spare.push(buffer);
        }
        if news {
            self.count_in_flight();
        }
        while let Some(pending) = self.pending.pop_front_if(|pending| pending.is_back) {
            match pending.settles {
                Settles::UpTo(name, place, stamp) => {
                    let settled = Settled { up_to: Some((name.clone(), place, stamp)), then: None };
                    self.settled.insert(name.id, settled);
                }
                Settles::All(id, then) => self.settled.entry(id).or_default().then = Some(then),
            }
        }
        if self.clock.now() - self.noted >= NOTE_EVERY {
            self.note();
        }
    }

    /// Gives the settled offsets to the checkpoint.
    fn note(&mut self) {
        self.noted = self.clock.now();
        for (id, Settled { up_to, then }) in self.settled.drain() {
            if let Some((name, place, stamp)) = up_to {
                self.checkpoint.set(&self.name, id, name.position(place, stamp));
            }
            match then {
                Some(Then::Deleted) => self.checkpoint.remove(&self.name, id),
                Some(Then::Gone) => self.checkpoint.set_gone(&self.name, id),
                Some(Then::Anew) | None => {}
            }
        }
    }

    fn rest(&mut self, until: Option<Instant>) -> Turn {
        if self.pending.is_empty() {
            self.spare.clear();
        }
        let note = (!self.settled.is_empty()).then(|| self.noted + NOTE_EVERY);
        let mut idle = (self.chain.memory() > 0 && self.job.is_none()).then(|| self.busy + IDLE);
        if idle.is_some_and(|idle| idle <= self.clock.now()) {
            self.chain.rest();
            idle = None;
        }
        // What comes back without being awaited is settled in time for the next note.
        let is_awaited = self.pending.len() >= IN_FLIGHT || self.is_finishing || self.overdraft.is_some();
        if self.returns.wait(is_awaited) && is_awaited {
            return Turn::More;
        }
        let settle = (!self.pending.is_empty()).then(|| self.clock.now() + NOTE_EVERY);
        // A turn that comes soon in any case does that, too.
        let own =
            note.into_iter().chain(settle).min().filter(|due| until.is_none_or(|until| until > *due + NOTE_EVERY));
        match until.into_iter().chain(own).chain(idle).min() {
            Some(when) => Turn::RestUntil(when),
            None => Turn::Rest,
        }
    }

    fn finish_or_rest(&mut self) -> Turn {
        if !self.pending.is_empty() {
            return if self.returns.wait(true) { Turn::More } else { Turn::Rest };
        }
        self.note();
        self.publish();
        Turn::Done
    }

    /// Says in the agent's log that plugins fail, now and then, and each time that one is suspended or works again.
    fn tell_faults(&mut self, faults: u64) {
        let logstore = &self.name;
        for (stage, told) in self.chain.stages().iter().zip(&mut self.told_suspensions) {
            let (plugin, trust) = (stage.plugin().name(), &stage.trust);
            let fault = stage.stats.last_fault.as_deref().unwrap_or_default();
            if trust.suspensions > told.0 {
                tracing::warn!(logstore, plugin, "suspended, as it fails too often: {fault}");
            } else if told.1 && !trust.is_suspended() {
                tracing::info!(logstore, plugin, "works again");
            }
            *told = (trust.suspensions, trust.is_suspended());
        }
        let is_due = self.told.is_none_or(|(_, when)| self.clock.now() - when >= TELL_EVERY);
        if faults > self.told.map_or(0, |(told, _)| told) && is_due {
            self.told = Some((faults, self.clock.now()));
            for stage in self.chain.stages() {
                if let Some(fault) = &stage.stats.last_fault {
                    tracing::warn!(logstore, plugin = stage.plugin().name(), faults, "faults on events: {fault}");
                }
            }
        }
    }

    /// Events in payloads that are not back, and events that are not decided on.
    fn count_in_flight(&self) {
        let shipped: u64 = self.pending.iter().filter(|pending| !pending.is_back).map(|pending| pending.shipped).sum();
        metrics::set(&self.accounts.in_flight, shipped + self.undecided);
    }

    fn publish(&mut self) {
        self.count_in_flight();
        let accounts = &self.accounts;
        let counts = self.source.counts;
        metrics::set(&accounts.bytes_read, counts.bytes);
        metrics::set(&accounts.split, counts.split);
        metrics::set(&accounts.truncated, counts.truncated);
        metrics::set(&accounts.malformed, counts.malformed);
        metrics::set(&accounts.invalid, counts.invalid);
        metrics::set(&accounts.abandoned_files, counts.abandoned_files);
        metrics::set(&accounts.abandoned_bytes, counts.abandoned_bytes);
        metrics::set(&accounts.open_files, self.source.open_files() as u64);
        metrics::set(&accounts.truncations, counts.truncations);
        metrics::set(&accounts.refused, counts.refused);
        let (mut fuel, mut faults, mut cpu) = (0, 0, Duration::ZERO);
        for (stage, accounts) in self.chain.stages().iter().zip(&self.plugins) {
            let stats = &stage.stats;
            fuel += stats.fuel;
            faults += stats.faults;
            cpu += stats.cpu;
            metrics::set(&accounts.calls, stats.calls);
            metrics::set(&accounts.events, stats.events);
            metrics::set(&accounts.bytes, stats.bytes);
            metrics::set(&accounts.fuel, stats.fuel);
            metrics::set(&accounts.cpu, stats.cpu.as_nanos() as u64);
            metrics::set(&accounts.faults, stats.faults);
            metrics::set(&accounts.instances, stats.instances);
            metrics::set(&accounts.suspensions, stage.trust.suspensions);
            metrics::set(&accounts.suspended, u64::from(stage.trust.is_suspended()));
            metrics::set(&accounts.memory, stage.memory() as u64);
        }
        metrics::set(&self.accounts.fuel, fuel);
        metrics::set(&self.accounts.faults, faults);
        metrics::set(&self.accounts.plugin_cpu, cpu.as_nanos() as u64);
        self.tell_faults(faults);
    }
}

impl TakeTurn<Scratch> for Lane {
    fn turn(&mut self, scratch: &mut Scratch) -> Turn {
        let turn = self.take_turn(scratch);
        self.count_memory();
        if self.budget.is_short() && self.job.is_none() {
            self.release();
        }
        turn
    }

    fn charge(&mut self, cpu: Duration) {
        metrics::add(&self.accounts.cpu, cpu.as_nanos() as u64);
    }
}
