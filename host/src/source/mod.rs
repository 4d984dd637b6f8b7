//! From paths to batches of raw events.
//!
//! ```text
//! watch ──┐ news: "something may have changed"
//! poll  ──┴─> discover ──> identity ──> reader ──> framing ──> Chunk
//! ```
//!
//! What inotify says is a hint, what polling finds is the truth, and both only put files into one queue of those
//! that may have something to read. A [`Source`] belongs to one lane; each call of [`Source::read`] reads at
//! most one chunk of one file, and the files take turns.

pub mod decode;
pub mod discover;
pub mod framing;
pub mod identity;
pub mod place;
pub mod reader;
pub mod watch;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use discover::{Discovery, Found};
use framing::Framing;
use identity::{FileId, Position};
use reader::{Chunk, Reader};
use watch::{News, Watch};

/// Bytes that are read of one file in one turn, unless a line is longer.
pub const CHUNK: usize = 128 << 10;

/// A file that is no longer found is let go after so long without news.
const LINGER: Duration = Duration::from_secs(5);

/// Where a new file is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At its first byte.
    Beginning,
    /// At its end, if it was there when the agent started; at its first byte otherwise.
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
    /// How bytes become events.
    pub framing: Framing,
    /// What may not be complete at the end of a file is shipped when the file has been quiet for so long.
    pub flush_after: Duration,
}

/// What the reader did of its own accord, in events or files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Pieces of lines that were too long for one event.
    pub split_lines: u64,
    /// Files that were found shorter or other than before, and begun anew.
    pub truncations: u64,
    /// Paths that could not be opened.
    pub refused: u64,
    /// Bytes read.
    pub bytes: u64,
}

/// The files of one logstore.
pub struct Source {
    settings: Settings,
    discovery: Discovery,
    news: Arc<News>,
    watch: Arc<Watch>,
    /// The files that are open, and by which paths they were last found.
    files: HashMap<FileId, Tracked>,
    paths: HashMap<PathBuf, FileId>,
    /// Files that may have something to read. A file is in it at most once.
    queue: VecDeque<FileId>,
    /// Settled positions of the last run, until their files are found.
    known: HashMap<FileId, Position>,
    host: String,
    next_scan: Instant,
    is_first_scan: bool,
    is_watched: bool,
    /// Incremented for each file, and each time that one is begun anew.
    next_key: u64,
    /// Lives that are over, until somebody asks.
    ended: Vec<u64>,
    /// What happened.
    pub counts: Counts,
}

struct Tracked {
    reader: Reader,
    queued: bool,
    missing_since: Option<Instant>,
}

/// What a call of [`Source::read`] gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// The chunk has events, or says that a file has ended; there may be more.
    Some,
    /// There is nothing to read before that time, unless news comes.
    NothingBefore(Instant),
}

impl Source {
    /// Files that are begun where `known` says, which is what a former run had settled. Looks at all files, so that
    /// what is there by now is what "was there when the agent started".
    pub fn new(
        settings: Settings,
        known: HashMap<FileId, Position>,
        watch: Arc<Watch>,
        news: Arc<News>,
    ) -> anyhow::Result<Self> {
        let discovery = Discovery::new(&settings.root, &settings.include, &settings.exclude)?;
        let mut source = Source {
            settings,
            discovery,
            news,
            watch,
            files: HashMap::new(),
            paths: HashMap::new(),
            queue: VecDeque::new(),
            known,
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            next_scan: Instant::now(),
            is_first_scan: true,
            is_watched: false,
            next_key: 0,
            ended: Vec::new(),
            counts: Counts::default(),
        };
        source.scan(Instant::now());
        Ok(source)
    }

    /// Reads the next chunk of the file whose turn it is. With `flush`, what has no newline at the end of a file
    /// is an event, and the chunk says that the file has ended.
    pub fn read(&mut self, chunk: &mut Chunk, flush: bool) -> Read {
        self.take_news();
        while let Some(id) = self.queue.pop_front() {
            let Some(tracked) = self.files.get_mut(&id) else { continue };
            tracked.queued = false;
            if tracked.reader.has_other_content() {
                self.begin_anew(id);
            }
            let Some(tracked) = self.files.get_mut(&id) else { continue };
            let due = tracked.reader.waits_since().is_some_and(|since| since.elapsed() >= self.settings.flush_after);
            match tracked.reader.read(chunk, &self.settings.framing, flush || due) {
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(file = %tracked.reader.path().display(), "cannot read: {error}");
                    continue;
                }
            }
            self.counts.bytes += chunk.bytes;
            self.counts.split_lines += chunk.split;
            if !chunk.at_end {
                tracked.queued = true;
                self.queue.push_back(id);
            }
            if !chunk.batch.is_empty() || flush && chunk.at_end {
                return Read::Some;
            }
        }
        Read::NothingBefore(self.queue_unfinished())
    }

    /// Queues the files whose unfinished events are due. Gives when to look again.
    fn queue_unfinished(&mut self) -> Instant {
        let now = Instant::now();
        let mut next = self.next_scan;
        for (id, tracked) in &mut self.files {
            let Some(since) = tracked.reader.waits_since() else { continue };
            let due = since + self.settings.flush_after;
            if due > now {
                next = next.min(due);
            } else if !tracked.queued {
                tracked.queued = true;
                self.queue.push_back(*id);
                next = now;
            }
        }
        next
    }

    /// Looks for files at the next read, and reads each once more, whatever inotify has said by then.
    pub fn look_again(&mut self) {
        self.next_scan = Instant::now();
        let ids: Vec<_> = self.files.keys().copied().collect();
        ids.into_iter().for_each(|id| enqueue(&mut self.files, &mut self.queue, id));
    }

    /// The position of a file at an offset that is settled; none if the file is no longer open.
    pub fn position(&mut self, key: u64, offset: u64) -> Option<(FileId, Position)> {
        let tracked = self.files.values_mut().find(|tracked| tracked.reader.key() == key)?;
        match tracked.reader.position(offset) {
            Ok(position) => Some((tracked.reader.id(), position)),
            Err(error) => {
                tracing::error!(file = %tracked.reader.path().display(), "cannot remember where it was read to: {error}");
                None
            }
        }
    }

    /// A life of a file that is over, of which nothing more will be read: the file was let go, or begun anew. Each is
    /// given once.
    pub fn take_ended(&mut self) -> Option<u64> {
        self.ended.pop()
    }

    /// How many files are open.
    pub fn open_files(&self) -> usize {
        self.files.len()
    }

    fn take_news(&mut self) {
        let now = Instant::now();
        let changed = self.news.take();
        if changed.everything || now >= self.next_scan {
            self.scan(now);
        }
        let mut has_new = false;
        for path in changed.paths {
            let Ok(path) = path.strip_prefix(self.discovery.watched_root()) else { continue };
            match self.paths.get(path) {
                Some(id) => enqueue(&mut self.files, &mut self.queue, *id),
                None => has_new |= self.discovery.is_wanted(path),
            }
        }
        if has_new {
            self.scan(now);
        }
    }

    /// Looks at all paths, opens what is new, and queues what has changed.
    fn scan(&mut self, now: Instant) {
        self.next_scan = now + self.settings.poll_interval;
        let refused = self.discovery.refused();
        let found = self.discovery.scan();
        self.counts.refused += (self.discovery.refused() - refused) as u64;
        match self.discovery.is_open() {
            true if !self.is_watched => {
                self.watch.add(self.discovery.watched_root(), &self.news);
                self.is_watched = true;
            }
            // When it appears again, it is another directory.
            false => self.is_watched = false,
            true => {}
        }
        self.paths.clear();
        for file in found {
            self.paths.insert(file.path.clone(), file.id);
            match self.files.get_mut(&file.id) {
                Some(tracked) => {
                    tracked.missing_since = None;
                    tracked.reader.rename(&self.settings.root, &file.path, &self.host);
                    if tracked.reader.seen() != file.len {
                        enqueue(&mut self.files, &mut self.queue, file.id);
                    }
                }
                None => self.open(file),
            }
        }
        let present: std::collections::HashSet<_> = self.paths.values().copied().collect();
        self.files.retain(|id, tracked| {
            if present.contains(id) {
                return true;
            }
            let mut since = *tracked.missing_since.get_or_insert(now);
            if tracked.reader.has_more() {
                // Whoever had it open goes on writing to it.
                since = now;
                tracked.missing_since = Some(now);
                if !tracked.queued {
                    tracked.queued = true;
                    self.queue.push_back(*id);
                }
            }
            let stays = tracked.queued || now - since < LINGER;
            if !stays {
                self.ended.push(tracked.reader.key());
            }
            stays
        });
        self.is_first_scan = false;
    }

    fn open(&mut self, found: Found) {
        let file = match self.discovery.open(&found) {
            Ok(Some(file)) => file,
            Ok(None) => return,
            Err(error) => {
                self.counts.refused += 1;
                let path = self.settings.root.join(&found.path);
                tracing::warn!(file = %path.display(), "not read: {error}");
                return;
            }
        };
        let key = self.take_key();
        let mut reader = Reader::new(file, found.id, key);
        reader.rename(&self.settings.root, &found.path, &self.host);
        let skip = self.settings.from == StartAt::End && self.is_first_scan;
        match self.known.remove(&found.id) {
            Some(position) if reader.resume(&position) => {}
            Some(_) => self.counts.truncations += 1,
            None if skip => reader.skip_to(found.len),
            None => {}
        }
        self.files.insert(found.id, Tracked { reader, queued: true, missing_since: None });
        self.queue.push_back(found.id);
    }

    /// A file has become shorter, or is another one in the same place: it is read from its first byte.
    fn begin_anew(&mut self, id: FileId) {
        let key = self.take_key();
        let Some(tracked) = self.files.get_mut(&id) else { return };
        tracing::info!(file = %tracked.reader.path().display(), "truncated: reading it from its beginning");
        self.counts.truncations += 1;
        self.ended.push(tracked.reader.key());
        tracked.reader.begin_anew(key);
    }

    fn take_key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }
}

fn enqueue(files: &mut HashMap<FileId, Tracked>, queue: &mut VecDeque<FileId>, id: FileId) {
    if let Some(tracked) = files.get_mut(&id)
        && !tracked.queued
    {
        tracked.queued = true;
        queue.push_back(id);
    }
}

/// The tags of a file's events.
fn tags(root: &Path, path: &Path, host: &str) -> crate::event::Tags {
    vec![("path".to_owned(), root.join(path).to_string_lossy().into_owned()), ("host".to_owned(), host.to_owned())]
}
