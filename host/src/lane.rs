//! A logstore while it runs, and one turn of it: read, process, encode, hand over.
//!
//! The lane keeps the accounts: what was shipped is remembered until all of its sinks have it, and only then are its
//! events delivered and its file's offset settled, in the order in which it was shipped.

mod accounts;
mod change;
pub mod glance;
mod memory;
pub mod orders;
mod passage;
mod settle;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use accounts::Gone;
use change::{Change, Trial};
use glance::Growth;
use memory::{Overdraft, Patience};
use orders::Orders;
use passage::Job;
use settle::{NOTE_EVERY, Parcel, Settled, Shipping};

use crate::budget::{Budget, Share};
use crate::checkpoint::Checkpoint;
use crate::clock::Clock;
use crate::event::{Batch, Tags, Tally};
use crate::metrics::{self, Accounts, PluginAccounts};
use crate::pace::Pace;
use crate::sandbox::{Chain, Held};
use crate::schedule::{TakeTurn, Turn};
use crate::sink::outlet::OutletParts;
use crate::sink::{Lost, Outlet, Returned, Returns};
use crate::source::identity::{FileId, Stamp};
use crate::source::place::Place;
use crate::source::reader::{Chunk, Name};
use crate::source::{Counts, Ended, Read, Source};

/// A lane that has had nothing to do for so long lets go of instances, and all that it has only to be faster.
const IDLE: Duration = Duration::from_secs(10);

/// Nothing is put off so soon after a file came, went or was renamed: its writer may be between two files.
const CALM: Duration = Duration::from_secs(5);

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

    /// Whether nothing is said about an end.
    pub fn is_following(&self) -> bool {
        self.is(0)
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

/// Sees events before and after the chain, until it says that it has seen enough.
pub type Tap = Box<dyn FnMut(&Batch, &Batch) -> bool + Send>;

/// A logstore while it runs.
pub struct Lane {
    name: String,
    source: Source,
    chain: Chain,
    /// Its ways to its sinks.
    outlets: Vec<Outlet>,
    returns: Arc<Returns>,
    checkpoint: Arc<Checkpoint>,
    accounts: Arc<Accounts>,
    mode: Mode,
    orders: Arc<Orders>,
    /// Changes of its chain that are to be made.
    changes: VecDeque<Change>,
    /// Another chain, for a part of the files.
    trial: Option<Box<Trial>>,
    is_retiring: bool,
    is_abandoned: bool,
    /// Events that a lane before it had read and not settled, and that it has not read again yet.
    owed: u64,
    /// What the accounts had before it.
    former: Counts,
    gone: Gone,
    clock: Clock,
    /// Who looks on.
    taps: Vec<Tap>,
    /// The life of each file, by the source's key.
    files: HashMap<u64, Box<FileState>>,
    /// Those that were read lately, of which the lag is known.
    growing: Vec<u64>,
    /// What some outlet has not taken yet: it has too much on its way.
    shipping: VecDeque<Shipping>,
    /// What is shipped and not settled, in its order.
    parcels: VecDeque<Parcel>,
    /// The number of the next event that is shipped, counted from 0.
    next_event: u64,
    /// Read events that are shipped and not settled.
    unsettled: u64,
    /// Of these events, those that some sink will never have.
    lost: BTreeMap<u64, Lost>,
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
    job: Option<Box<Job>>,
    /// A life whose end waits for what plugins held of it.
    ending: Option<Ended>,
    /// When a batch was last begun.
    busy: Instant,
    /// Whether it has not let go of what it needs only while it is busy.
    is_awake: bool,
    budget: Arc<Budget>,
    /// What it has of the budget, without linear memories, which count themselves.
    share: Share,
    overdraft: Option<Overdraft>,
    patience: Patience,
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

/// All that a lane is made of.
pub struct Parts {
    /// The logstore's name.
    pub name: String,
    /// Its files.
    pub source: Source,
    /// Its plugins.
    pub chain: Chain,
    /// Its sinks, one at least.
    pub outlets: Vec<OutletParts>,
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
    /// What it is asked to do, with all others.
    pub mode: Mode,
    /// What it alone is asked to do.
    pub orders: Arc<Orders>,
    /// Events of its accounts that were read and not settled by the lane whose place it takes.
    pub owed: u64,
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
    /// Whether it goes through the chain that is tried.
    is_on_trial: bool,
    growth: Growth,
    /// When what was read last was written, as far as is known.
    written: Option<Instant>,
}

impl Lane {
    /// A lane that has not had a turn.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            name,
            source,
            chain,
            outlets,
            returns,
            checkpoint,
            accounts,
            plugins,
            budget,
            pace,
            mode,
            orders,
            owed,
            clock,
            tap,
        } = parts;
        let (former, gone) = accounts::former(&accounts);
        let told_suspensions = vec![(0, false); chain.stages().len()];
        let outlet = |(number, parts)| Outlet::new(parts, returns.clone(), number);
        Lane {
            name,
            source,
            chain,
            outlets: outlets.into_iter().enumerate().map(outlet).collect(),
            returns,
            checkpoint,
            accounts,
            mode,
            orders,
            changes: VecDeque::new(),
            trial: None,
            is_retiring: false,
            is_abandoned: false,
            owed,
            former,
            gone,
            plugins,
            share: Share::new(&budget),
            budget,
            overdraft: None,
            patience: Patience::default(),
            pace,
            next_read: clock.now(),
            read_lately: 0,
            unsettled_at: None,
            held_bytes: 0,
            job: None,
            ending: None,
            noted: clock.now(),
            busy: clock.now(),
            is_awake: true,
            clock,
            taps: tap.into_iter().collect(),
            // What comes to stay is not to be scattered among the memory of plugins, so it has its room from the start.
            files: HashMap::with_capacity(1),
            growing: Vec::new(),
            shipping: VecDeque::new(),
            parcels: VecDeque::new(),
            next_event: 0,
            unsettled: 0,
            lost: BTreeMap::new(),
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
        self.obey();
        self.settle(&mut scratch.returned);
        let now = self.clock.now();
        self.ship_on(now);
        if self.is_abandoned {
            return self.end();
        }
        if self.is_retiring || self.mode.is(Mode::DRAIN) {
            return self.finish_or_rest();
        }
        if let Some(turn) = self.change(&mut scratch.chunk) {
            return turn;
        }
        if let Some(until) = self.patience.until(now).filter(|_| self.job.is_some()) {
            let next = self.source.look(now);
            return self.rest(Some(until.min(next)));
        }
        if let Some(mut job) = self.job.take_if(|_| self.shipping.is_empty()) {
            // What vanishes meanwhile is held.
            let next = self.source.look(now);
            std::mem::swap(&mut scratch.chunk, &mut job.chunk);
            return match self.advance(*job, &mut scratch.chunk) {
                Some(Turn::RestUntil(when)) => self.rest(Some(when.min(next))),
                _ => Turn::More,
            };
        }
        if self.is_full() {
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
            if self.is_full() {
                return Turn::More;
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
                // What has to come from disk first will be read.
                if self.source.is_quiet() {
                    self.write_off_owed();
                }
                if self.undecided == 0 {
                    return self.rest(Some(when));
                }
                match self.held_due() {
                    Some((due, key)) if due <= now => self.flush(key, &mut scratch.chunk).unwrap_or(Turn::More),
                    Some((due, _)) => self.rest(Some(due.min(when))),
                    None => self.rest(Some(when)),
                }
            }
        }
    }

    /// When plugins have held something for as long as they may, and of which file.
    fn held_due(&self) -> Option<(Instant, u64)> {
        let held = self.files.iter().filter_map(|(key, file)| Some((file.held_since? + HOLD_AT_MOST, *key)));
        held.min()
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

    fn rest(&mut self, until: Option<Instant>) -> Turn {
        let now = self.clock.now();
        let is_empty = self.has_nothing_on_the_way();
        if is_empty {
            self.outlets.iter_mut().for_each(Outlet::release);
        }
        let due = self.outlets.iter_mut().filter_map(|outlet| outlet.tick(now, false)).min();
        let note = (!self.settled.is_empty()).then(|| self.noted + NOTE_EVERY);
        let mut idle = (self.is_awake && self.job.is_none()).then(|| self.busy + IDLE);
        if idle.is_some_and(|idle| idle <= now) {
            self.fall_asleep();
            idle = None;
        }
        // What comes back without being awaited is settled in time for the next note.
        let is_awaited =
            self.is_full() || self.is_finishing || self.overdraft.is_some() || self.budget.is_filled_by_payloads();
        if self.returns.wait(is_awaited) && is_awaited {
            return Turn::More;
        }
        let settle = (!self.parcels.is_empty()).then(|| now + NOTE_EVERY);
        // A turn that comes soon in any case does that, too.
        let own =
            note.into_iter().chain(settle).min().filter(|due| until.is_none_or(|until| until > *due + NOTE_EVERY));
        match until.into_iter().chain(own).chain(idle).chain(due).min() {
            Some(when) => Turn::RestUntil(when),
            None => Turn::Rest,
        }
    }

    fn finish_or_rest(&mut self) -> Turn {
        let now = self.clock.now();
        self.outlets.iter_mut().for_each(|outlet| _ = outlet.tick(now, true));
        if !self.parcels.is_empty() {
            return if self.returns.wait(true) { Turn::More } else { Turn::Rest };
        }
        self.end()
    }

    fn end(&mut self) -> Turn {
        self.note();
        if self.is_retiring || self.is_abandoned {
            self.source.end();
            self.returns.end();
        }
        self.publish();
        Turn::Done
    }

    /// All is read that there is: what a lane before had read of files that are not there any more does not come again.
    fn write_off_owed(&mut self) {
        let owed = std::mem::take(&mut self.owed);
        if owed > 0 {
            tracing::warn!(
                logstore = self.name,
                events = owed,
                "were read before the configuration changed, and cannot be read again"
            );
            metrics::add(&self.accounts.discarded, owed);
            metrics::add(&self.accounts.abandoned, owed);
            self.count_in_flight();
        }
    }

    fn chains(&mut self) -> impl Iterator<Item = &mut Chain> {
        [&mut self.chain].into_iter().chain(self.trial.as_mut().map(|trial| &mut trial.new.chain))
    }
}

impl TakeTurn<Scratch> for Lane {
    fn turn(&mut self, scratch: &mut Scratch) -> Turn {
        let turn = self.take_turn(scratch);
        self.count_in_flight();
        self.accounts.balance();
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
