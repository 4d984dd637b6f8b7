//! Another chain for a lane that runs, from one batch to the next: nothing is lost, repeated or out of order.
//!
//! What plugins hold goes on where it can. A plugin that is the same in both chains, with all that are before it, stays as
//! it is, with what it holds. What the first one that is different holds is given to the one in its place, which gets it
//! as if it had come just now. What is held behind that was made by plugins that go, and they are asked for the last of
//! it first.

use std::sync::mpsc;

use super::orders::{NewChain, Order, Verdict, is_open};
use super::{FileState, Lane};
use crate::sandbox::Chain;
use crate::schedule::Turn;
use crate::source::identity::FileId;
use crate::source::reader::Chunk;

/// A change of chains that waits for its moment.
pub(super) enum Change {
    Swap(NewChain, mpsc::Sender<()>),
    Try(NewChain, u8, mpsc::Sender<()>),
    EndTrial(Verdict, mpsc::Sender<()>),
}

/// A chain that is tried with a part of the files.
pub(super) struct Trial {
    pub(super) new: NewChain,
    /// Percent of the files.
    part: u8,
    /// Whether it has any.
    has_files: bool,
}

impl Trial {
    fn wants(&self, id: FileId) -> bool {
        let hash = xxhash_rust::xxh3::xxh3_64(&[id.device.to_le_bytes(), id.inode.to_le_bytes()].concat());
        !self.has_files || hash % 100 < u64::from(self.part)
    }
}

impl Lane {
    /// Takes what it was told since its last turn.
    pub(super) fn obey(&mut self) {
        for order in self.orders.take() {
            match order {
                Order::Swap(chain, done) => {
                    // What is tried is compared with a chain that goes.
                    let (ended, _) = mpsc::channel();
                    self.changes.push_back(Change::EndTrial(Verdict::Dismiss, ended));
                    self.changes.push_back(Change::Swap(chain, done));
                }
                Order::Try(chain, part, done) => self.changes.push_back(Change::Try(chain, part, done)),
                Order::EndTrial(verdict, done) => self.changes.push_back(Change::EndTrial(verdict, done)),
                Order::Tap(tap) => {
                    // No batch may come for long that would tell which of them have gone.
                    self.taps.retain_mut(is_open);
                    self.taps.push(tap);
                }
                Order::Look(asked) => asked.tell(self.glance()),
                Order::Retire => self.is_retiring = true,
                Order::Abandon => self.is_abandoned = true,
            }
        }
    }

    /// Makes the changes that wait, as far as it can now. If that takes longer, says what comes first.
    pub(super) fn change(&mut self, chunk: &mut Chunk) -> Option<Turn> {
        while let Some(mut change) = self.changes.pop_front() {
            let is_ready = match &mut change {
                Change::Try(..) => Ok(true),
                Change::Swap(new, _) => {
                    let kept = kept(&self.chain, &new.chain);
                    self.clear_the_way(kept, false, chunk)
                }
                Change::EndTrial(verdict, _) => {
                    if std::mem::replace(verdict, Verdict::Dismiss) == Verdict::Adopt {
                        self.trade_places();
                    }
                    match self.trial.as_ref().map(|trial| kept(&trial.new.chain, &self.chain)) {
                        Some(kept) => self.clear_the_way(kept, true, chunk),
                        None => Ok(true),
                    }
                }
            };
            match is_ready {
                Ok(true) => self.make(change),
                Ok(false) => {
                    self.changes.push_front(change);
                    return None;
                }
                Err(turn) => {
                    self.changes.push_front(change);
                    return Some(turn);
                }
            }
        }
        None
    }

    /// The chain that is tried is that of all other files now, and theirs is tried.
    fn trade_places(&mut self) {
        let Some(trial) = &mut self.trial else { return };
        std::mem::swap(&mut self.chain, &mut trial.new.chain);
        std::mem::swap(&mut self.plugins, &mut trial.new.plugins);
        self.told_suspensions = vec![(0, false); self.chain.stages().len()];
        self.files.values_mut().for_each(|file| file.is_on_trial = !file.is_on_trial);
    }

    /// Has the plugins from that one on make their last of what they hold, in the files that are on trial, or in all
    /// others. Says if it has to wait for a batch, or what comes first.
    fn clear_the_way(&mut self, kept: usize, on_trial: bool, chunk: &mut Chunk) -> Result<bool, Turn> {
        if let Some(job) = &mut self.job {
            let is_concerned = self.files.get(&job.chunk.key).is_some_and(|file| file.is_on_trial == on_trial);
            // A batch that waits for a plugin that is suspended may go on with another in its place.
            if is_concerned && !(job.waits && job.stages().all(|stage| stage < kept)) {
                return Ok(false);
            }
            if !is_concerned
                && self.files.values().any(|file| file.is_on_trial == on_trial && file.held.is_any_from(kept))
            {
                return Ok(false);
            }
        }
        let is_full = self.is_full();
        let holds = |file: &FileState| file.is_on_trial == on_trial && file.held.is_any_from(kept);
        while let Some((key, file)) = self.files.iter_mut().find(|(_, file)| holds(file)) {
            if self.job.is_some() || is_full {
                return Ok(false);
            }
            file.held.carry(kept);
            let key = *key;
            if let Some(turn) = self.flush(key, chunk) {
                return Err(turn);
            }
            if let Some(file) = self.files.get_mut(&key) {
                file.held.put_down();
            }
        }
        self.files.values_mut().for_each(|file| file.held.put_down());
        Ok(true)
    }

    fn make(&mut self, change: Change) {
        let done = match change {
            Change::Swap(NewChain { mut chain, mut plugins }, done) => {
                let common = self.chain.common(&chain);
                plugins[..common].clone_from_slice(&self.plugins[..common]);
                let told = self.told_suspensions[..common].to_vec();
                chain.keep(&mut self.chain, common);
                self.gone.add(&self.chain);
                (self.chain, self.plugins) = (chain, plugins);
                self.told_suspensions = told;
                self.told_suspensions.resize(self.chain.stages().len(), (0, false));
                done
            }
            Change::Try(new, part, done) => {
                self.trial = Some(Box::new(Trial { new, part, has_files: false }));
                done
            }
            Change::EndTrial(_, done) => {
                if let Some(trial) = self.trial.take() {
                    self.gone.add(&trial.new.chain);
                }
                self.files.values_mut().for_each(|file| file.is_on_trial = false);
                done
            }
        };
        if let Some(job) = &mut self.job {
            job.begin_again();
        }
        self.publish();
        // Whoever asked may have gone.
        _ = done.send(());
    }

    /// Has a file go through the chain that is tried from now on, if it belongs there and nothing is held of it.
    pub(super) fn try_with(&mut self, key: u64, id: FileId) {
        let Some(trial) = &mut self.trial else { return };
        let Some(file) = self.files.get_mut(&key) else { return };
        if !file.is_on_trial && file.held.is_empty() && trial.wants(id) {
            (file.is_on_trial, trial.has_files) = (true, true);
        }
    }
}

/// What is held by so many of a chain's plugins, from the first on, can be given to those in their places.
fn kept(from: &Chain, to: &Chain) -> usize {
    (from.common(to) + 1).min(to.stages().len())
}
