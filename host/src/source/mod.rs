//! From paths to batches of raw events.
//!
//! ```text
//! watch ──┐ news: "something may have changed"
//! poll  ──┴─> discover ──> identity ──> reader ──> decode ──> framing ──> Chunk
//! ```
//!
//! What inotify says is a hint, what polling finds is the truth, and both only put files into one queue of those
//! that may have something to read. A [`Source`] belongs to one lane; each call of [`Source::read`] reads at
//! most one chunk of one file, and the files take turns.
//!
//! What there is and where it is begun is found out in `looks` and `begin`. A file has *lives*: one ends when the file is
//! truncated, or let go, and each has a key. What is done with rotated files is in [`rotation`] (their names), `copies` (what was read already under another name) and `held` (files
//! that are not found any more). Apart from all that, [`recent()`] reads the last events.

mod begin;
mod compare;
mod copies;
pub mod decode;
pub mod discover;
pub mod disk;
mod fetch;
pub mod framing;
pub mod gzip;
mod held;
pub mod identity;
mod looks;
pub mod place;
pub mod reader;
mod recent;
pub mod rotation;
mod settings;
mod tags;
pub mod watch;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use copies::Copies;
use discover::Discovery;
use disk::{Disk, Meta, Tree};
use identity::{FileId, Position};
use reader::{Chunk, Got, Reader};
use watch::{News, Watch};

pub use recent::recent;
pub use settings::{Rotated, Settings, StartAt};

/// Bytes that are read of one file in one turn, unless a line is longer.
pub const CHUNK: usize = 128 << 10;

/// Events that are made of a chunk, or a few more: each is written with all tags of its file, however short it is. Lines of
/// 32 bytes fill a chunk with as many.
pub const EVENTS: usize = 4096;

/// Stands for the logstore as a whole: that its files were once begun at their ends.
pub const BEGUN: FileId = FileId { device: 0, inode: 0 };

/// Bytes of unfinished events of a logstore that are kept at most in case that their files are truncated: many files may
/// have long lines without ends.
const MOST_RESTS: usize = 16 << 20;

/// So many are kept even if there is no memory.
const FEW_RESTS: usize = 256 << 10;

/// A file that cannot be read or opened is tried again after so long.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What the reader did of its own accord, in events or files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Cuts in events that were too long, each of which makes one event more.
    pub split: u64,
    /// Events that were cut, and the rest of them discarded.
    pub truncated: u64,
    /// Lines that are not what the format says.
    pub malformed: u64,
    /// Lines with bytes that are not valid in their encoding.
    pub invalid: u64,
    /// Files that were found shorter or other than before, and begun anew.
    pub truncations: u64,
    /// Paths that could not be opened.
    pub refused: u64,
    /// Files that a budget cut off, or that were lost while they were closed to save descriptors.
    pub abandoned_files: u64,
    /// Bytes of them that were not read.
    pub abandoned_bytes: u64,
    /// Bytes read.
    pub bytes: u64,
}

impl std::ops::Add for Counts {
    type Output = Counts;

    fn add(self, other: Counts) -> Counts {
        Counts {
            split: self.split + other.split,
            truncated: self.truncated + other.truncated,
            malformed: self.malformed + other.malformed,
            invalid: self.invalid + other.invalid,
            truncations: self.truncations + other.truncations,
            refused: self.refused + other.refused,
            abandoned_files: self.abandoned_files + other.abandoned_files,
            abandoned_bytes: self.abandoned_bytes + other.abandoned_bytes,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// The files of one logstore.
pub struct Source {
    settings: Settings,
    discovery: Discovery,
    news: Arc<News>,
    watch: Arc<Watch>,
    /// The files that are read, and by which paths they were last found.
    files: HashMap<FileId, Box<Tracked>>,
    paths: HashMap<PathBuf, FileId>,
    /// Those of the files that are not found any more, and since when.
    missing: HashMap<FileId, Instant>,
    /// Files that may have something to read. A file is in it at most once.
    queue: VecDeque<FileId>,
    /// Files that have to come from disk, of which the first is being fetched.
    cold: VecDeque<FileId>,
    /// When files are to be put into the queue without news of them.
    timers: BTreeSet<(Instant, FileId)>,
    /// The generations of each log, in the order in which they were begun.
    families: HashMap<Box<[u8]>, Vec<FileId>>,
    /// Settled positions of the last run, until their files are found.
    known: HashMap<FileId, Position>,
    copies: Copies,
    /// Files that are too old to be read, as they were then.
    ignored: HashMap<PathBuf, Meta>,
    /// Files that are to be closed first if there are too many.
    closable: VecDeque<FileId>,
    open: usize,
    /// Paths of which there is news, and that were not found yet.
    unknown: HashSet<PathBuf>,
    host: String,
    next_scan: Instant,
    /// No look for new files before that, whatever inotify says.
    not_before: Instant,
    polls: u64,
    is_first_scan: bool,
    /// Whether there is nothing of this logstore from a run before.
    is_new: bool,
    is_watched: bool,
    /// Whether inotify tells of the root.
    is_heard: bool,
    /// Incremented for each file, and each time that one is begun anew.
    next_key: u64,
    /// Lives that are over, until somebody asks.
    ended: VecDeque<Ended>,
    /// Whether a file was worked on without anything to show.
    is_working: bool,
    /// How often something was waited for since anything was read.
    waits: usize,
    /// Bytes of memory that readers have.
    buffered: usize,
    /// What happened.
    pub counts: Counts,
}

struct Tracked {
    reader: Reader,
    /// Its part of [`Source::buffered`].
    buffered: usize,
    /// Whether it is in [`Source::queue`], or will be when it has come from disk.
    queued: bool,
    /// Whether it is in [`Source::cold`].
    is_cold: bool,
    /// Whether it has come from disk, and was not read since.
    is_fetched: bool,
    /// When it is in [`Source::timers`].
    timer: Option<Instant>,
    /// What is read before it.
    after: Option<After>,
    /// The generation after it.
    before: Option<FileId>,
    /// Whether it could not be read when that was last tried.
    is_failing: bool,
    /// Whether it is in [`Source::closable`].
    is_closable: bool,
    /// Whether its content is no more, and something else has yet to be read before the new one.
    is_over: bool,
    /// Whether a place in it is to be settled although there is no event before it.
    announce: bool,
}

/// The generation before a file, which is read first.
#[derive(Clone, Copy)]
struct After {
    file: FileId,
    /// Up to that size, if it goes on growing.
    len: u64,
    /// Whether that is its size after the file had something: whoever writes there has written all that it had for this.
    is_final: bool,
}

/// A life of a file that is over, of which nothing more will be read.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Which one.
    pub key: u64,
    /// What is to be remembered of the file.
    pub then: Then,
}

/// What becomes of a file whose life has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It lives again, under another key.
    Anew,
    /// It is not found any more.
    Gone,
    /// It is deleted.
    Deleted,
}

/// What a call of [`Source::read`] gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// The chunk has events, or says that a file has ended; there may be more.
    Some,
    /// There was something to do, and there is more, but nothing in the chunk.
    Working,
    /// There is nothing to read before that time, unless news comes.
    NothingBefore(Instant),
}

impl Source {
    /// Files of the file system, that are begun where `known` says, which is what a former run had settled. Looks at
    /// all files, so that what is there by now is what "was there when the agent started".
    pub fn new(
        settings: Settings,
        known: HashMap<FileId, Position>,
        watch: Arc<Watch>,
        news: Arc<News>,
    ) -> anyhow::Result<Self> {
        let disk = Box::new(Disk::new(&settings.root));
        Self::on(disk, settings, known, watch, news, Instant::now())
    }

    /// Files of any tree.
    pub fn on(
        tree: Box<dyn Tree>,
        settings: Settings,
        known: HashMap<FileId, Position>,
        watch: Arc<Watch>,
        news: Arc<News>,
        now: Instant,
    ) -> anyhow::Result<Self> {
        let discovery = Discovery::new(&settings.root, &settings.include, &settings.exclude, tree)?;
        let mut source = Source {
            settings,
            discovery,
            news,
            watch,
            files: HashMap::new(),
            paths: HashMap::new(),
            missing: HashMap::new(),
            queue: VecDeque::new(),
            cold: VecDeque::new(),
            timers: BTreeSet::new(),
            families: HashMap::new(),
            is_new: !known.contains_key(&BEGUN) && known.is_empty(),
            known: known.into_iter().filter(|(id, _)| *id != BEGUN).collect(),
            copies: Copies::default(),
            ignored: HashMap::new(),
            closable: VecDeque::with_capacity(1),
            open: 0,
            unknown: HashSet::new(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            next_scan: now,
            not_before: now,
            polls: 0,
            is_first_scan: true,
            is_watched: false,
            is_heard: false,
            next_key: 0,
            ended: VecDeque::new(),
            is_working: false,
            waits: 0,
            buffered: 0,
            counts: Counts::default(),
        };
        source.scan(now, true);
        Ok(source)
    }

    /// Reads the next chunk of the file whose turn it is. With `flush`, what is not complete at the end of a file
    /// is an event, and the chunk says that the file has ended.
    pub fn read(&mut self, chunk: &mut Chunk, flush: bool, now: Instant) -> Read {
        self.take_news(now);
        self.ring_timers(now);
        while let Some(id) = self.queue.pop_front() {
            let Some(tracked) = self.files.get_mut(&id) else { continue };
            tracked.queued = false;
            let is_readable = !self.is_blocked(id) && self.open_again(id, now) && self.decide_copy(id, flush, now);
            if std::mem::take(&mut self.is_working) {
                return Read::Working;
            }
            if !is_readable {
                continue;
            }
            if self.read_file(id, chunk, flush, now) {
                return Read::Some;
            }
            if std::mem::take(&mut self.is_working) {
                return Read::Working;
            }
        }
        Read::NothingBefore(self.next_look())
    }

    /// Whether there is something in the chunk that the lane should see.
    fn read_file(&mut self, id: FileId, chunk: &mut Chunk, flush: bool, now: Instant) -> bool {
        let flush_now = flush || self.is_succeeded(id, now);
        let Some(tracked) = self.files.get_mut(&id) else { return false };
        if tracked.is_over {
            return self.begin_anew(id, chunk, now);
        }
        let framing = &self.settings.framing;
        let is_due = tracked.reader.due(framing).is_some_and(|due| due <= now);
        let before = tracked.reader.offset();
        let was_broken = tracked.reader.broken().is_some();
        // Whoever is to end has nothing else to do.
        let may_wait = std::mem::take(&mut tracked.is_fetched) || flush;
        match tracked.reader.read(chunk, framing, flush_now || is_due, may_wait, now) {
            Ok(Got::Chunk) => {}
            Ok(Got::Other) => {
                tracked.is_over = true;
                // Another file may be what was cut off here: it has to be found, and read first.
                self.enqueue(id);
                (self.next_scan, self.not_before, self.is_working) = (now, now, true);
                return false;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.wait_for_disk(id);
                return false;
            }
            Err(error) => {
                tracing::error!(file = ?tracked.reader.name().path, "cannot read: {error}");
                tracked.is_failing = true;
                self.unblock_successor(id);
                self.set_timer(id, now + TRY_AGAIN);
                return false;
            }
        }
        tracked.is_failing = false;
        if self.buffered > MOST_RESTS {
            tracked.reader.forget_rest();
        }
        let buffered = tracked.reader.bytes();
        self.buffered = self.buffered + buffered - std::mem::replace(&mut tracked.buffered, buffered);
        if let Some(broken) = tracked.reader.broken().filter(|_| !was_broken) {
            let path = &tracked.reader.name().path;
            tracing::error!(file = ?path, "cannot be decompressed further than {} bytes: {broken}", tracked.reader.offset());
        }
        let announce = std::mem::take(&mut tracked.announce);
        let (has_moved, due) = (tracked.reader.offset() != before, tracked.reader.due(framing));
        count(&mut self.counts, chunk);
        if has_moved {
            self.waits = 0;
        }
        if chunk.at_end {
            if !std::mem::replace(&mut tracked.is_closable, true) {
                self.closable.push_back(id);
            }
            self.unblock_successor(id);
        } else {
            self.enqueue(id);
        }
        if let Some(due) = due {
            self.set_timer(id, due);
        }
        !chunk.batch.is_empty() || has_moved || announce || !chunk.at_end || flush
    }

    /// Looks for files without reading any, so that those that vanish meanwhile are held. Gives when to look again.
    pub fn look(&mut self, now: Instant) -> Instant {
        self.take_news(now);
        self.next_scan
    }

    /// Says that what is written is looked at soon in any case, so that it need not be told of, or not. That files come
    /// and go is.
    pub fn mute(&self, is_muted: bool) {
        self.news.mute(is_muted);
    }

    /// When files are looked for, whatever happens before.
    pub fn next_scan(&self) -> Instant {
        self.next_scan
    }

    /// Whether there is something that can be done at once.
    pub fn has_work(&self) -> bool {
        !self.queue.is_empty() || !self.ended.is_empty()
    }

    /// Whether no file is known to have something to read.
    pub fn is_quiet(&self) -> bool {
        self.queue.is_empty() && self.cold.is_empty()
    }

    /// Whether files may have come, gone or been renamed.
    pub fn has_urgent_news(&self) -> bool {
        self.news.is_urgent()
    }

    /// Looks for files, and reads each once more, whatever inotify has said by then.
    pub fn look_again(&mut self, now: Instant) {
        self.scan(now, true);
        for id in std::mem::take(&mut self.cold) {
            if let Some(tracked) = self.files.get_mut(&id).filter(|tracked| tracked.is_cold) {
                (tracked.is_cold, tracked.is_fetched) = (false, true);
                self.queue.push_back(id);
            }
        }
        let ids: Vec<_> = self.files.keys().copied().collect();
        ids.into_iter().for_each(|id| self.enqueue(id));
    }

    /// Where files are begun that are not read from their beginnings: to be on disk before anything is read.
    pub fn begun(&self) -> Vec<(FileId, Position)> {
        if self.settings.from == StartAt::Beginning || !self.is_new {
            return Vec::new();
        }
        let mark = Position {
            place: place::Place::default(),
            stamp: identity::Stamp::default(),
            born: None,
            path: String::new(),
            gone: None,
        };
        let files = self.files.iter().map(|(id, file)| (*id, file.reader.position()));
        files.chain([(BEGUN, mark)]).collect()
    }

    /// A life of a file that is over. Each is given once.
    pub fn take_ended(&mut self) -> Option<Ended> {
        self.ended.pop_front()
    }

    /// Bytes of memory that unfinished events have.
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// Lets go of unfinished events, as far as they are in their files.
    pub fn release(&mut self) {
        if self.buffered <= FEW_RESTS {
            return;
        }
        for tracked in self.files.values_mut() {
            tracked.reader.forget_rest();
            let buffered = tracked.reader.bytes();
            self.buffered = self.buffered + buffered - std::mem::replace(&mut tracked.buffered, buffered);
        }
    }

    /// How many files are open.
    pub fn open_files(&self) -> usize {
        self.open
    }

    /// The files that are read, with what each is like now; not of those that are closed.
    pub fn files(&self) -> impl Iterator<Item = (&Reader, Option<Meta>)> {
        self.files.values().map(|file| (&file.reader, file.reader.meta()))
    }

    /// What a file is like now, if it is open.
    pub fn meta(&self, id: FileId) -> Option<Meta> {
        self.files.get(&id)?.reader.meta()
    }

    /// Files that may have something to read.
    pub fn queued(&self) -> impl Iterator<Item = FileId> {
        self.queue.iter().chain(&self.cold).copied()
    }

    /// Lets go of all files; what is not read of those that were deleted or renamed cannot be read by anybody else.
    pub fn end(&mut self) {
        let is_lost = |id: &&FileId| self.files.get(id).is_some_and(|file| !file.reader.is_at_end());
        let lost: Vec<_> = self.missing.keys().filter(is_lost).copied().collect();
        lost.into_iter().for_each(|id| self.abandon(id));
    }

    /// Whether the file is read.
    pub fn knows(&self, id: FileId) -> bool {
        self.files.contains_key(&id)
    }

    /// Whether the file is read, and open.
    pub fn holds(&self, id: FileId) -> bool {
        self.files.get(&id).is_some_and(|file| file.reader.is_open())
    }

    fn next_look(&self) -> Instant {
        self.timers.first().map_or(self.next_scan, |(first, _)| self.next_scan.min(*first))
    }

    /// Goes on with a file whose content has changed: what is left of the old one first, then the new one.
    fn begin_anew(&mut self, id: FileId, chunk: &mut Chunk, now: Instant) -> bool {
        let key = self.take_key();
        let was_copied = self.copies.was_taken(id);
        let Some(tracked) = self.files.get_mut(&id) else { return false };
        tracing::info!(file = ?tracked.reader.name().path, "truncated: reading it from its beginning");
        self.counts.truncations += 1;
        // What is left is in the copy, if there is one.
        let lost = tracked.reader.finish(chunk, &self.settings.framing, now, !was_copied);
        if lost > 0 {
            self.counts.abandoned_bytes += lost;
            let file = &tracked.reader.name().path;
            tracing::warn!(
                ?file,
                lost,
                "truncated before its last line was complete, of which there was no room to keep so much"
            );
        }
        count(&mut self.counts, chunk);
        let reader = &tracked.reader;
        self.copies.remember(reader.key(), reader.position(), reader.former(), reader.ends());
        self.ended.push_back(Ended { key: tracked.reader.key(), then: Then::Anew });
        tracked.reader.begin_anew(key);
        tracked.is_over = false;
        self.enqueue(id);
        true
    }

    fn take_key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }

    fn enqueue(&mut self, id: FileId) {
        if let Some(tracked) = self.files.get_mut(&id)
            && !tracked.queued
        {
            tracked.queued = true;
            self.queue.push_back(id);
        }
    }

    /// Has a file fetched from disk, after those that are before it: one at a time, as others want to read from disk, too.
    fn wait_for_disk(&mut self, id: FileId) {
        let Some(tracked) = self.files.get_mut(&id) else { return };
        (tracked.queued, tracked.is_cold) = (true, true);
        self.cold.push_back(id);
        if self.cold.len() == 1 {
            self.fetch_next();
        }
    }

    fn fetch_next(&mut self) {
        while let Some(id) = self.cold.front() {
            if let Some(tracked) = self.files.get(id).filter(|tracked| tracked.is_cold) {
                let (news, id) = (self.news.clone(), *id);
                return tracked.reader.fetch(Box::new(move || news.fetched(id)));
            }
            self.cold.pop_front();
        }
    }

    /// A file that was cold has come from disk.
    pub(super) fn take_fetched(&mut self, id: FileId) {
        if self.cold.pop_front_if(|first| *first == id).is_none() {
            return;
        }
        if let Some(tracked) = self.files.get_mut(&id).filter(|tracked| tracked.is_cold) {
            (tracked.is_cold, tracked.is_fetched) = (false, true);
            self.queue.push_back(id);
        }
        self.fetch_next();
    }

    fn set_timer(&mut self, id: FileId, when: Instant) {
        let Some(tracked) = self.files.get_mut(&id) else { return };
        if tracked.timer.is_none_or(|timer| when < timer) {
            if let Some(timer) = tracked.timer.replace(when) {
                self.timers.remove(&(timer, id));
            }
            self.timers.insert((when, id));
        }
    }

    fn ring_timers(&mut self, now: Instant) {
        while let Some((when, id)) = self.timers.first().copied()
            && when <= now
        {
            self.timers.pop_first();
            if let Some(tracked) = self.files.get_mut(&id) {
                tracked.timer = None;
            }
            self.enqueue(id);
        }
    }
}

fn count(counts: &mut Counts, chunk: &Chunk) {
    counts.bytes += chunk.bytes;
    counts.split += chunk.framed.split;
    counts.truncated += chunk.framed.truncated;
    counts.malformed += chunk.framed.malformed;
    counts.invalid += chunk.invalid;
}
