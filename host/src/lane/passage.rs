//! A batch on its way through a lane's chain, from the chunk that it was read in to the payload that it becomes.

use std::sync::Arc;
use std::time::SystemTime;

use super::Lane;
use super::memory::Patience;
use super::settle::{Parcel, Settles, Shipping};
use crate::event::{Batch, Field};
use crate::metrics;
use crate::sandbox::{Passage, Step};
use crate::schedule::Turn;
use crate::source::reader::{Chunk, Name};
use crate::source::{Ended, Then};

/// A batch on its way through the chain.
pub(super) struct Job {
    /// What it was read into; empty while the worker has it.
    pub(super) chunk: Chunk,
    pub(super) passage: Passage,
    /// What waits behind it, the last first: a plugin is suspended, and holds up what it has not seen.
    pub(super) behind: Vec<Passage>,
    pub(super) name: Arc<Name>,
    /// What the batch was, if somebody looks on.
    pub(super) before: Option<Batch>,
    /// The fields of raw events, to be used again.
    pub(super) fields: Vec<Field>,
    /// Whether a plugin is suspended, and it waits for that.
    pub(super) waits: bool,
}

impl Job {
    /// The stages at which it is, with what waits behind it.
    pub(super) fn stages(&self) -> impl Iterator<Item = usize> {
        self.behind.iter().chain([&self.passage]).map(Passage::stage)
    }

    /// It goes on through other plugins than those which it has failed at.
    pub(super) fn begin_again(&mut self) {
        self.behind.iter_mut().chain([&mut self.passage]).for_each(Passage::begin_again);
        self.waits = false;
    }
}

impl Lane {
    /// A file has been let go, or begun anew.
    pub(super) fn end_life(&mut self, ended: Ended, chunk: &mut Chunk) -> Option<Turn> {
        if let Some(turn) = self.flush(ended.key, chunk) {
            self.ending = Some(ended);
            return Some(turn);
        }
        let name = self.files.remove(&ended.key)?.name?;
        if ended.then != Then::Anew {
            let (first, settles) = (self.next_event, Settles::All(name.id, ended.then));
            self.parcels.push_back(Parcel { first, settles, ..Parcel::default() });
        }
        None
    }

    /// Gives plugins for the last time what they hold of a file. If that takes longer, says what comes first.
    pub(super) fn flush(&mut self, key: u64, chunk: &mut Chunk) -> Option<Turn> {
        let file = self.files.get(&key).filter(|file| !file.held.is_empty())?;
        chunk.clear(key, file.next, file.end, file.stamp);
        // The worker's last batch may have been another lane's.
        chunk.name = file.name.clone();
        chunk.batch.tags = file.tags.clone();
        self.process(chunk, true)
    }

    /// One chunk of one file, through the chain to the sink. `last`: nothing will follow in this file. If that takes
    /// longer, says what comes first.
    pub(super) fn process(&mut self, chunk: &mut Chunk, last: bool) -> Option<Turn> {
        let name = chunk.name.clone()?;
        let file = self.files.entry(chunk.key).or_default();
        let read = chunk.batch.len() as u64;
        let end = chunk.batch.first + read;
        let batch = std::mem::take(&mut chunk.batch);
        file.tags = batch.tags.clone();
        // What numbers of events are counted from when their offsets are asked for.
        chunk.batch.first = batch.first;
        let fields = batch.fields.clone();
        let before = (!self.taps.is_empty()).then(|| batch.clone());
        let now = self.clock.now();
        // By this, all that was read and isn't decided on is in flight.
        self.undecided += end - file.next;
        (file.next, file.end, file.stamp) = (end, chunk.end, chunk.stamp);
        file.name = Some(name.clone());
        file.held_since = if read == 0 { file.held_since } else { Some(now) };
        if let Some(meta) = self.source.meta(name.id).filter(|_| read > 0) {
            if file.growth.is_empty() {
                self.growing.push(chunk.key);
            }
            file.growth.add(now, meta.len);
            file.written = match chunk.at_end {
                true => meta.modified.and_then(|at| now.checked_sub(SystemTime::now().duration_since(at).ok()?)),
                false => file.growth.when(chunk.end.offset),
            };
        }
        let skipped = chunk.framed.skipped;
        // What a lane before this one had read, and had to leave, was counted by it.
        let again = self.owed.min(read + skipped);
        self.owed -= again;
        metrics::add(&self.accounts.read, read + skipped - again);
        metrics::add(&self.accounts.discarded, skipped);
        (self.busy, self.is_awake) = (now, true);
        self.try_with(chunk.key, name.id);
        let passage = Passage::new(batch, last);
        let job = Job { chunk: Chunk::default(), passage, behind: Vec::new(), name, before, fields, waits: false };
        self.advance(job, chunk)
    }

    /// Sends a batch on through the chain. `chunk` is its own.
    pub(super) fn advance(&mut self, mut job: Job, chunk: &mut Chunk) -> Option<Turn> {
        let now = self.clock.now();
        let file = self.files.entry(chunk.key).or_default();
        let before = file.held.bytes();
        let chain = match &mut self.trial {
            Some(trial) if file.is_on_trial => &mut trial.new.chain,
            _ => &mut self.chain,
        };
        let step = chain.advance(&mut job.passage, &mut file.held, now);
        job.waits = matches!(step, Step::Wait(_));
        if !matches!(step, Step::Short) {
            self.patience = Patience::default();
        }
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
                self.run_short();
                Turn::RestUntil(self.patience.grow(now))
            }
        };
        std::mem::swap(chunk, &mut job.chunk);
        self.job = Some(Box::new(job));
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

    /// Hands what is through the chain to the sinks. All of its chunk from the event `next` on is not.
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
        let begins = std::mem::replace(&mut file.undecided, place).offset;
        let written = file.written;
        if file.held.is_empty() {
            file.held_since = None;
        }
        let decided_before = file.tally.next();
        let mut weights = Vec::new();
        let tallied = file.tally.count_each(&batch, settled, &left_out, &mut weights);
        self.undecided -= file.tally.next() - decided_before;
        if let Some(before) = before {
            self.taps.retain_mut(|tap| tap(&before, &batch));
        }

        self.parcels.push_back(Parcel {
            first: self.next_event,
            events: batch.len(),
            settles: Settles::UpTo(name, place, chunk.stamp),
            begins,
            written,
            shipped: tallied.shipped,
            kept_raw: tallied.kept_raw,
            weights,
            raw: batch.marks.iter().map(|mark| mark.event).collect(),
        });
        self.next_event += batch.len() as u64;
        self.unsettled += tallied.shipped;
        let mut shipping = Shipping::new(batch, self.outlets.len());
        let is_done = self.shipping.is_empty() && shipping.go_on(&mut self.outlets, self.clock.now());
        let batch = match is_done {
            true => shipping.batch,
            false => {
                self.shipping.push_back(shipping);
                Batch::default()
            }
        };

        metrics::add(&self.accounts.dropped, tallied.dropped);
        metrics::add(&self.accounts.discarded, tallied.faulted);
        metrics::add(&self.accounts.faulted, tallied.faulted);
        self.publish();
        batch
    }
}
