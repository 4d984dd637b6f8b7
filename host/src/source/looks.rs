//! What there is: news of files, looks at all of them, and what is found then.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use super::discover::{Found, Scan};
use super::identity::FileId;
use super::{Source, Tracked, rotation};

/// Where inotify hears of all that is written, a file that it says nothing of is looked at once in so many polls.
const QUIET: u64 = 30;

/// Looking for files takes at most a part of the time: a pause after it is so many times as long.
const SCAN_PAUSE: u32 = 4;

/// The longest such pause, so that new files are found soon after inotify has told of them.
const LONGEST_PAUSE: Duration = Duration::from_millis(80);

impl Source {
    pub(super) fn take_news(&mut self, now: Instant) {
        let may_scan = now >= self.not_before;
        let changed = self.news.take(may_scan);
        for id in changed.fetched {
            self.take_fetched(id);
        }
        for path in changed.paths {
            let Ok(path) = Path::new(&path).strip_prefix(self.discovery.watched_root()) else { continue };
            match self.paths.get(path) {
                Some(id) => self.enqueue(*id),
                // It may be new, or have this name since now.
                None if self.discovery.is_wanted(path) => _ = self.unknown.insert(path.to_owned()),
                None => {}
            }
        }
        let has_new = changed.everything || !self.unknown.is_empty();
        // One that is due soon needs no turn of its own.
        let is_due = now + self.settings.poll_interval / 2 >= self.next_scan;
        if may_scan && (has_new || is_due) {
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
    pub(super) fn scan(&mut self, now: Instant, all: bool) {
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
        self.let_go_of_replaced(&found);
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
        self.missing.retain(|id, _| !named.contains(id));
        for id in self.files.keys().filter(|id| !named.contains(id)) {
            self.missing.entry(*id).or_insert(now);
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
            tracked.reader.rename(&self.settings.root, path, &self.host, &self.settings.tags);
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
                if self.files.contains_key(&meta.id) {
                    self.missing.insert(meta.id, now);
                }
            }
        }
    }

    /// Files that were closed to save descriptors, and have names by now that the globs don't match.
    pub(super) fn find_closed(&mut self) {
        let is_closed = |id: &&FileId| self.files.get(id).is_some_and(|file| !file.reader.is_open());
        let inodes: HashSet<u64> = self.missing.keys().filter(is_closed).map(|id| id.inode).collect();
        if inodes.is_empty() {
            return;
        }
        for path in self.discovery.find(&inodes) {
            let Ok(meta) = self.discovery.look(&path) else { continue };
            let is_it = |file: &Tracked| !file.reader.is_open() && file.reader.name().born == meta.born;
            if self.files.get(&meta.id).is_some_and(|file| is_it(file))
                && let Ok(Some(file)) = self.discovery.open(&path, meta.id)
            {
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
            // Nothing of a file is touched before its turn: of many, that costs more than the look itself.
            let is_its_turn = id.inode % QUIET == polls % QUIET || all || !is_heard || self.missing.contains_key(id);
            if !is_its_turn || tracked.queued {
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
            if let Some(since) = self.missing.get_mut(&id) {
                // Whoever had it open goes on writing to it.
                *since = now;
            }
            self.enqueue(id);
        }
    }

    pub(super) fn relative<'a>(&self, tracked: &'a Tracked) -> &'a Path {
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
            // It may have another name, under which it is read already.
            if !self.files.contains_key(&meta.id) {
                self.open(Found { path, meta }, now);
            }
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
}
