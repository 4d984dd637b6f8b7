//! Beginning to read a file: where a former run left it, where a copy of it was read to, or where it is new.

use std::path::Path;
use std::time::{Instant, SystemTime};

use super::discover::Found;
use super::disk::Meta;
use super::identity::{self, Position};
use super::reader::{Ends, Reader};
use super::{Source, StartAt, TRY_AGAIN, Tracked};

impl Source {
    fn is_too_old(&self, meta: &Meta) -> bool {
        let age = |modified| SystemTime::now().duration_since(modified).unwrap_or_default();
        let limit = self.settings.ignore_older.zip(meta.modified);
        limit.is_some_and(|(limit, modified)| age(modified) > limit)
    }

    /// Begins to read a file, where it was left, or where it is new.
    pub(super) fn open(&mut self, found: Found, now: Instant) {
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
        reader.rename(&self.settings.root, &path, &self.host, &self.settings.tags);
        reader.detect_gzip();
        let mut tracked = Tracked {
            reader,
            buffered: 0,
            queued: false,
            is_cold: false,
            is_fetched: false,
            timer: None,
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
            Some(position) => self.resume(&mut tracked, position),
            None if skip => tracked.reader.skip_to(meta.len),
            None => self.find_original(&tracked),
        }
        self.follow(&mut tracked, &path);
        self.files.insert(id, Box::new(tracked));
        if !is_known {
            self.find_copies(id);
        }
        self.enqueue(id);
    }

    /// Goes on where a former run was, if it is the same file.
    fn resume(&mut self, tracked: &mut Tracked, position: Position) {
        let reader = &mut tracked.reader;
        let is_born_then =
            position.born.is_none() || reader.name().born.is_none() || position.born == reader.name().born;
        if is_born_then && reader.is_compressed() {
            // How far it is the same is found out while it is read.
            self.copies.expect_itself(reader.name().id, position);
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
        let key = self.take_key();
        self.copies.remember(key, position, Path::new(""), Ends::default());
        tracked.announce = true;
        self.find_original(tracked);
    }

    /// Tries to open a file again in a while.
    pub(super) fn look_soon(&mut self, path: &Path, now: Instant) {
        // So that it is new when it is found again.
        self.paths.remove(path);
        self.discovery.forget();
        self.next_scan = self.next_scan.min(now + TRY_AGAIN);
    }
}
