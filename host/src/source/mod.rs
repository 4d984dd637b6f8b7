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
//! A file has *lives*: one ends when the file is truncated, or let go, and each has a key. What is done with rotated
//! files is in [`rotation`] (their names), `copies` (what was read already under another name) and `held` (files
//! that are not found any more).

mod copies;
pub mod decode;
pub mod discover;
pub mod disk;
pub mod framing;
pub mod gzip;
mod held;
pub mod identity;
pub mod place;
pub mod reader;
pub mod rotation;
mod tags;
pub mod watch;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use copies::Copies;
use decode::Decoder;
use discover::{Discovery, Found, Scan};
use disk::{Disk, Meta, Tree};
use framing::Framing;
use identity::{FileId, Position};
use reader::{Chunk, Got, Reader};
use watch::{News, Watch};

/// Bytes that are read of one file in one turn, unless a line is longer.
pub const CHUNK: usize = 128 << 10;

/// Stands for the logstore as a whole: that its files were once begun at their ends.
pub const BEGUN: FileId = FileId { device: 0, inode: 0 };

/// Where inotify hears of all that is written, a file that it says nothing of is looked at once in so many polls.
const QUIET: u64 = 30;

/// A file that cannot be read or opened is tried again after so long.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Looking for files takes at most a part of the time: a pause after it is so many times as long.
const SCAN_PAUSE: u32 = 4;

/// The longest such pause, so that new files are found soon after inotify has told of them.
const LONGEST_PAUSE: Duration = Duration::from_millis(80);

/// Where a new file is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At its first byte.
    Beginning,
    /// At its end, if it was there when the logstore was first read; at its first byte otherwise.
    End,
}

/// Which files a source reads, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Nothing outside it is ever opened.
    pub root: PathBuf,
    /// Globs relative to the root, with `**`.
    pub include: Vec<String>,
    /// Globs of what is left out.
    pub exclude: Vec<String>,
    /// Where a new file is begun.
    pub from: StartAt,
    /// The longest time until a change is seen, also without inotify.
    pub poll_interval: Duration,
    /// What the bytes of a file are.
    pub decoder: Decoder,
    /// How they become events.
    pub framing: Framing,
    /// A file that was last written longer ago than that when it is found is left alone until it is written again.
    pub ignore_older: Option<Duration>,
    /// What is kept of files that are not found any more.
    pub rotated: Rotated,
    /// Files that are open at once.
    pub max_open: usize,
}

/// What is kept of files that were deleted, or renamed so that the globs don't match any more.
#[derive(Clone, Copy, Debug)]
pub struct Rotated {
    /// How long nothing must have been written to such a file before it is let go.
    pub wait: Duration,
    /// How many of them are held open.
    pub max_files: usize,
    /// Bytes on disk that they may have together.
    pub max_size: u64,
}

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

/// The files of one logstore.
pub struct Source {
    settings: Settings,
    discovery: Discovery,
    news: Arc<News>,
    watch: Arc<Watch>,
    /// The files that are read, and by which paths they were last found.
    files: HashMap<FileId, Tracked>,
    paths: HashMap<PathBuf, FileId>,
    /// Files that may have something to read. A file is in it at most once.
    queue: VecDeque<FileId>,
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
    /// What happened.
    pub counts: Counts,
}

struct Tracked {
    reader: Reader,
    queued: bool,
    /// When it is in [`Source::timers`].
    timer: Option<Instant>,
    missing_since: Option<Instant>,
    /// The generation before it is read up to that size first.
    after: Option<(FileId, u64)>,
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
            queue: VecDeque::new(),
            timers: BTreeSet::new(),
            families: HashMap::new(),
            is_new: !known.contains_key(&BEGUN) && known.is_empty(),
            known: known.into_iter().filter(|(id, _)| *id != BEGUN).collect(),
            copies: Copies::default(),
            ignored: HashMap::new(),
            closable: VecDeque::new(),
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
        match tracked.reader.read(chunk, framing, flush_now || is_due, now) {
            Ok(Got::Chunk) => {}
            Ok(Got::Other) => {
                tracked.is_over = true;
                // Another file may be what was cut off here: it has to be found, and read first.
                self.enqueue(id);
                (self.next_scan, self.not_before, self.is_working) = (now, now, true);
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

    /// Looks for files, and reads each once more, whatever inotify has said by then.
    pub fn look_again(&mut self, now: Instant) {
        self.scan(now, true);
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

    /// How many files are open.
    pub fn open_files(&self) -> usize {
        self.open
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

    fn take_news(&mut self, now: Instant) {
        let may_scan = now >= self.not_before;
        let changed = self.news.take(may_scan);
        for path in changed.paths {
            let Ok(path) = path.strip_prefix(self.discovery.watched_root()) else { continue };
            match self.paths.get(path) {
                Some(id) => self.enqueue(*id),
                // It may be new, or have this name since now.
                None if self.discovery.is_wanted(path) => _ = self.unknown.insert(path.to_owned()),
                None => {}
            }
        }
        let has_new = changed.everything || !self.unknown.is_empty();
        if may_scan && (has_new || now >= self.next_scan) {
            self.scan(now, changed.is_lost);
            for path in std::mem::take(&mut self.unknown) {
                if let Some(id) = self.paths.get(&path) {
                    self.enqueue(*id);
                }
            }
        } else if has_new {
            self.next_scan = self.next_scan.min(self.not_before);
        }
    }

    /// Looks for files, opens what is new, and queues what has changed; `all`: looks at each of them.
    fn scan(&mut self, now: Instant, all: bool) {
        let begun = Instant::now();
        self.polls += 1;
        let refused = self.discovery.refused();
        let (found, is_new_root) = self.discovery.scan(all || !self.discovery.is_heard());
        self.counts.refused += (self.discovery.refused() - refused) as u64;
        // When a root appears again, it is another directory.
        self.is_watched &= self.discovery.is_open() && !is_new_root;
        if self.discovery.is_open() && !self.is_watched {
            self.is_heard = self.watch.add(self.discovery.watched_root(), &self.news);
            self.is_watched = true;
        }
        if let Scan::Changed(found) = found {
            self.take_found(found, now);
        }
        self.look_at_ignored(now);
        self.look_at_files(all, now);
        self.look_at_missing(now);
        self.is_first_scan = false;
        self.next_scan = now + self.settings.poll_interval;
        self.not_before = now + (begun.elapsed() * SCAN_PAUSE).min(LONGEST_PAUSE);
    }

    /// Takes over what was found: names of files that are known, and new files, the oldest first.
    fn take_found(&mut self, found: Vec<Found>, now: Instant) {
        let mut new: Vec<Found> = Vec::new();
        let before = std::mem::take(&mut self.paths);
        let mut named = HashSet::new();
        for file in &found {
            let id = file.meta.id;
            // A file that has several names keeps the one that it had.
            if before.get(&file.path) == Some(&id) && self.files.contains_key(&id) && named.insert(id) {
                self.rename(id, &file.path);
            }
        }
        for file in found {
            let id = file.meta.id;
            self.paths.insert(file.path.clone(), id);
            match self.files.get(&id) {
                Some(_) if named.insert(id) => self.rename(id, &file.path),
                Some(_) => {}
                None => new.push(file),
            }
        }
        for tracked in self.files.values_mut() {
            let id = tracked.reader.name().id;
            if named.contains(&id) {
                tracked.missing_since = None;
            } else if tracked.missing_since.is_none() {
                tracked.missing_since = Some(now);
            }
        }
        self.find_closed();
        self.ignored.retain(|path, meta| self.paths.get(path) == Some(&meta.id));
        // File systems' clocks are coarse: of the same moment, the names say which is older.
        new.sort_by_cached_key(|file| (file.meta.modified, rotation::age(&file.path), file.path.clone()));
        if self.is_first_scan {
            self.open_renamed(&new, now);
        }
        for file in new {
            if !self.files.contains_key(&file.meta.id) {
                self.open(file, now);
            }
        }
    }

    fn rename(&mut self, id: FileId, path: &Path) {
        if let Some(tracked) = self.files.get_mut(&id) {
            tracked.reader.rename(&self.settings.root, path, &self.host);
        }
    }

    /// Files that were read in a former run and have names by now that the globs don't match: they have an end to be
    /// read.
    fn open_renamed(&mut self, found: &[Found], now: Instant) {
        let found: HashSet<FileId> = found.iter().map(|file| file.meta.id).collect();
        let missing = self.known.iter().filter(|(id, position)| !found.contains(id) && position.gone.is_none());
        let inodes: HashSet<u64> = missing.map(|(id, _)| id.inode).collect();
        if inodes.is_empty() {
            return;
        }
        for path in self.discovery.find(&inodes) {
            let Ok(meta) = self.discovery.look(&path) else { continue };
            let is_known = self.known.contains_key(&meta.id) && !self.files.contains_key(&meta.id);
            if is_known && !found.contains(&meta.id) {
                self.open(Found { path, meta }, now);
                if let Some(tracked) = self.files.get_mut(&meta.id) {
                    tracked.missing_since = Some(now);
                }
            }
        }
    }

    /// Files that were closed to save descriptors, and have names by now that the globs don't match.
    fn find_closed(&mut self) {
        let closed = self.files.iter().filter(|(_, file)| file.missing_since.is_some() && !file.reader.is_open());
        let inodes: HashSet<u64> = closed.map(|(id, _)| id.inode).collect();
        if inodes.is_empty() {
            return;
        }
        for path in self.discovery.find(&inodes) {
            let Ok(meta) = self.discovery.look(&path) else { continue };
            let is_closed = self.files.get(&meta.id).is_some_and(|file| !file.reader.is_open());
            if is_closed && let Ok(Some(file)) = self.discovery.open(&path, meta.id) {
                self.open += 1;
                self.rename(meta.id, &path);
                if let Some(tracked) = self.files.get_mut(&meta.id) {
                    tracked.reader.open_again(file);
                }
            }
        }
    }

    /// Looks at files of which inotify may not have told.
    fn look_at_files(&mut self, all: bool, now: Instant) {
        let (polls, is_heard) = (self.polls, self.is_heard && self.discovery.is_heard());
        let mut changed = Vec::new();
        for (id, tracked) in &self.files {
            let is_its_turn = all || !is_heard || tracked.missing_since.is_some() || id.inode % QUIET == polls % QUIET;
            if tracked.queued || !is_its_turn {
                continue;
            }
            let len = match tracked.reader.meta() {
                Some(meta) => Some(meta.len),
                // Closed to save descriptors.
                None => self.discovery.look(self.relative(tracked)).ok().map(|meta| meta.len),
            };
            if len.is_some_and(|len| tracked.reader.has_more(len)) {
                changed.push(*id);
            }
        }
        for id in changed {
            if let Some(tracked) = self.files.get_mut(&id)
                && tracked.missing_since.is_some()
            {
                // Whoever had it open goes on writing to it.
                tracked.missing_since = Some(now);
            }
            self.enqueue(id);
        }
    }

    fn relative<'a>(&self, tracked: &'a Tracked) -> &'a Path {
        let path = &tracked.reader.name().path;
        path.strip_prefix(&self.settings.root).unwrap_or(path)
    }

    /// Opens those that were written again.
    fn look_at_ignored(&mut self, now: Instant) {
        let written: Vec<_> = self
            .ignored
            .iter()
            .filter_map(|(path, before)| {
                let meta = self.discovery.look(path).ok()?;
                (meta.modified != before.modified || meta.len != before.len).then(|| (path.clone(), *before))
            })
            .collect();
        for (path, before) in written {
            self.ignored.remove(&path);
            let Ok(meta) = self.discovery.look(&path) else { continue };
            self.open(Found { path, meta }, now);
            // What it had is too old; what it has more is new.
            if let Some(tracked) = self.files.get_mut(&meta.id)
                && tracked.reader.offset() == 0
                && meta.len >= before.len
                && meta.id == before.id
            {
                tracked.reader.skip_to(before.len);
                tracked.announce = true;
            }
        }
    }

    fn is_too_old(&self, meta: &Meta) -> bool {
        let age = |modified| SystemTime::now().duration_since(modified).unwrap_or_default();
        let limit = self.settings.ignore_older.zip(meta.modified);
        limit.is_some_and(|(limit, modified)| age(modified) > limit)
    }

    /// Begins to read a file, where it was left, or where it is new.
    fn open(&mut self, found: Found, now: Instant) {
        let Found { path, meta } = found;
        let id = meta.id;
        let is_known = self.known.contains_key(&id);
        if !is_known && self.is_too_old(&meta) {
            self.ignored.insert(path, meta);
            return;
        }
        let file = match self.open_file(&path, id) {
            Ok(Some(file)) => file,
            Ok(None) => return self.look_soon(&path, now),
            Err(error) => {
                self.counts.refused += 1;
                tracing::warn!(file = ?self.settings.root.join(&path), "not read: {error}");
                return self.look_soon(&path, now);
            }
        };
        // As it is now: it may have grown since it was found.
        let meta = file.meta().unwrap_or(meta);
        let key = self.take_key();
        let mut reader = Reader::new(file, &meta, key, self.settings.decoder);
        reader.rename(&self.settings.root, &path, &self.host);
        reader.detect_gzip();
        let mut tracked = Tracked {
            reader,
            queued: false,
            timer: None,
            missing_since: None,
            after: None,
            before: None,
            is_failing: false,
            is_closable: false,
            is_over: false,
            // So that it is found again also under another name.
            announce: !is_known,
        };
        let skip = self.settings.from == StartAt::End && self.is_first_scan && self.is_new;
        match self.known.remove(&id) {
            Some(position) => self.resume(&mut tracked, position, &path),
            None if skip => tracked.reader.skip_to(meta.len),
            None => self.find_original(&tracked, &path),
        }
        self.follow(&mut tracked, &path);
        self.files.insert(id, tracked);
        if !is_known {
            self.find_copies(id);
        }
        self.enqueue(id);
    }

    /// Goes on where a former run was, if it is the same file.
    fn resume(&mut self, tracked: &mut Tracked, position: Position, path: &Path) {
        let reader = &mut tracked.reader;
        let is_born_then =
            position.born.is_none() || reader.name().born.is_none() || position.born == reader.name().born;
        if is_born_then && reader.is_compressed() {
            // How far it is the same is found out while it is read.
            self.copies.expect(reader.name().id, copies::Original::Known(position));
            return;
        }
        let seen = if is_born_then { reader.seen_before(position.looked()) } else { None };
        let head = reader.head().unwrap_or_default();
        let is_same = |seen: &identity::Seen| {
            let stamp = seen.stamp();
            position.stamp.has_head(&head) && stamp.tail_hash == position.stamp.tail_hash
        };
        if seen.as_ref().is_some_and(is_same)
            && let Some(seen) = reader.seen_before(position.place.offset)
        {
            reader.go_on(&position.place, seen, &head);
            return;
        }
        tracing::info!(file = ?reader.name().path, "not what it was: reading it from its beginning");
        self.counts.truncations += 1;
        self.copies.remember(0, position);
        tracked.announce = true;
        self.find_original(tracked, path);
    }

    /// Tries to open a file again in a while.
    fn look_soon(&mut self, path: &Path, now: Instant) {
        // So that it is new when it is found again.
        self.paths.remove(path);
        self.discovery.forget();
        self.next_scan = self.next_scan.min(now + TRY_AGAIN);
    }

    /// Goes on with a file whose content has changed: what is left of the old one first, then the new one.
    fn begin_anew(&mut self, id: FileId, chunk: &mut Chunk, now: Instant) -> bool {
        let key = self.take_key();
        let was_copied = self.copies.was_taken(id);
        let Some(tracked) = self.files.get_mut(&id) else { return false };
        tracing::info!(file = ?tracked.reader.name().path, "truncated: reading it from its beginning");
        self.counts.truncations += 1;
        // What is left is in the copy, if there is one.
        tracked.reader.finish(chunk, &self.settings.framing, now, !was_copied);
        count(&mut self.counts, chunk);
        if !was_copied {
            self.copies.remember(tracked.reader.key(), tracked.reader.position());
        }
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
