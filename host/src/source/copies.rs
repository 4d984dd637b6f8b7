//! What was read already under another name: rotation by copying and truncating, and by compressing.
//!
//! A new file whose name rotation can have made of another's, and whose content begins like what was read of that
//! one, is gone on with where that one was left. Nothing is taken for a copy of which only the name says so. Until it
//! is certain, the new file is not read; and a file that was truncated is not read on before its copy.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::xxh3_64;

use super::identity::{FileId, HEAD, Position, Seen, TAIL};
use super::place::{Place, Rest};
use super::rotation::may_be_copy;
use super::{Source, Tracked};

/// Lives that are over and may turn up as copies.
const MOST_PAST: usize = 256;

/// When all that is there is to be read, so often is waited without anything to read.
const MOST_WAITS: usize = 1000;

/// How often a copy is looked at that is not complete.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where the content of a new file may have been read before.
#[derive(Clone, Debug, PartialEq)]
pub enum Original {
    /// In a file that is there still, in the life of that key.
    Life(FileId, u64),
    /// In one that was read to that position.
    Known(Position),
}

/// Files that may be copies, and what they may be copies of.
#[derive(Default)]
pub struct Copies {
    /// What was read of contents that are no more, the latest last.
    past: VecDeque<(u64, Position)>,
    undecided: HashMap<FileId, Undecided>,
    /// Files whose content that is no more has been found in another file.
    taken: HashSet<FileId>,
    /// Lives whose content has been found in another file: it has one copy.
    copied: HashSet<u64>,
}

struct Undecided {
    original: Original,
    /// What it is certainly no copy of.
    tried: Vec<Original>,
    /// The new file's size, and since when it has that.
    len: u64,
    since: Option<Instant>,
}

/// Whether a new file is a copy.
enum Verdict {
    Yes(Box<Position>, Seen),
    No,
    NotYet,
    /// There is more to be decompressed first.
    Working,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Verdict::Yes(..) => "it is",
            Verdict::No => "it is not",
            Verdict::NotYet => "it cannot be told yet",
            Verdict::Working => "being decompressed",
        })
    }
}

impl Copies {
    /// The content of a file is to be compared with what was read before.
    pub fn expect(&mut self, id: FileId, original: Original) {
        let tried = self.undecided.remove(&id).map(|before| before.tried).unwrap_or_default();
        self.undecided.insert(id, Undecided { original, tried, len: 0, since: None });
    }

    /// A life is over in which so much was read.
    pub fn remember(&mut self, key: u64, position: Position) {
        if position.looked() > 0 {
            self.past.push_back((key, position));
            if self.past.len() > MOST_PAST {
                self.past.pop_front();
            }
        }
    }

    /// Whether the content of the file that is no more was found in another file. Said once.
    pub fn was_taken(&mut self, id: FileId) -> bool {
        self.taken.remove(&id)
    }

    /// Whether the file's content is to be compared with something.
    pub fn is_undecided(&self, id: FileId) -> bool {
        self.undecided.contains_key(&id)
    }

    /// A file that may have the content of another one's life.
    pub fn undecided_of(&self, original: FileId, life: u64) -> Option<FileId> {
        let is_of = |undecided: &Undecided| matches!(undecided.original, Original::Life(id, key) if (id, key) == (original, life));
        self.undecided.iter().find(|(_, undecided)| is_of(undecided)).map(|(id, _)| *id)
    }

    /// Whether it may be a copy of a file that has to be read first then.
    pub fn waits(&self, copy: FileId) -> bool {
        self.undecided.get(&copy).is_some_and(|undecided| matches!(undecided.original, Original::Life(..)))
    }

    /// The file is gone.
    pub fn forget(&mut self, id: FileId) {
        self.undecided.remove(&id);
        self.taken.remove(&id);
    }
}

impl Source {
    /// Looks for what a new file may be a copy of.
    pub(super) fn find_original(&mut self, tracked: &Tracked, path: &Path) {
        let Ok(head) = tracked.reader.head() else { return };
        let has_name = |of: &Path| may_be_copy(path, of.strip_prefix(&self.settings.root).unwrap_or(of));
        let is_known_kind = tracked.reader.is_compressed() || !super::rotation::is_gzip(path) || head.len() >= 3;
        // A head that is shorter may be that of a file that is being written.
        let fits = |position: &Position| {
            let is_longer = (head.len() as u64) < position.stamp.head || !is_known_kind;
            position.looked() > 0 && (is_longer || position.stamp.has_head(&head))
        };
        let family = super::rotation::family(path);
        if family == path.as_os_str().as_encoded_bytes() {
            return;
        }
        let living = self.families.get(family).into_iter().flatten().filter_map(|id| self.files.get(id));
        let living =
            living.filter(|other| !other.reader.is_compressed() && !self.copies.copied.contains(&other.reader.key()));
        let living = living.filter(|other| match other.reader.offset() {
            0 => begins_alike(&head, other),
            _ => fits(&other.reader.position()),
        });
        // It may have been renamed since.
        let living = living.filter(|other| has_name(&other.reader.name().path) || has_name(other.reader.former()));
        let living = living.map(|other| Original::Life(other.reader.name().id, other.reader.key()));
        let past = self.copies.past.iter().rev().map(|(_, position)| position).chain(self.known.values());
        let past = past
            .filter(|position| fits(position) && has_name(Path::new(&position.path)))
            .map(|position| Original::Known(position.clone()));
        let tried = self.copies.undecided.get(&tracked.reader.name().id).map(|undecided| &undecided.tried[..]);
        let is_untried = |original: &Original| !tried.unwrap_or_default().contains(original);
        // Those of which all that is compared was there come first.
        let mut originals: Vec<_> = living.chain(past).filter(is_untried).collect();
        // And before all, `app.log.1` for `app.log.1.gz`: it may be a copy itself, which has to be found out first.
        let uncompressed = self.settings.root.join(path.with_extension(""));
        let is_it = |name: &Path| super::rotation::is_gzip(path) && name == uncompressed;
        originals.sort_by_key(|original| match original {
            Original::Known(position) => (!is_it(Path::new(&position.path)), position.stamp.head > head.len() as u64),
            Original::Life(id, _) => self.files.get(id).map_or((true, true), |other| {
                let has_its_name = is_it(&other.reader.name().path) || is_it(other.reader.former());
                (!has_its_name, other.reader.offset() == 0)
            }),
        });
        if let Some(original) = originals.into_iter().next() {
            self.copies.expect(tracked.reader.name().id, original);
        }
    }

    /// A new file may also be what another new one is a copy of.
    pub(super) fn find_copies(&mut self, original: FileId) {
        let Some(tracked) = self.files.get(&original) else { return };
        let (path, key) = (self.relative(tracked), tracked.reader.key());
        let (Ok(head), family) = (tracked.reader.head(), super::rotation::family(path)) else { return };
        let others = self.families.get(family).into_iter().flatten().filter_map(|id| Some((id, self.files.get(id)?)));
        let is_copy = |other: &Tracked| {
            let is_new = other.reader.offset() == 0 && !other.reader.is_compressed();
            is_new && may_be_copy(self.relative(other), path) && begins_alike(&head, other)
        };
        let copies: Vec<FileId> =
            others.filter(|(id, other)| **id != original && is_copy(other)).map(|(id, _)| *id).collect();
        for copy in copies.into_iter().filter(|copy| !self.copies.is_undecided(*copy)).take(1).collect::<Vec<_>>() {
            self.copies.expect(copy, Original::Life(original, key));
        }
    }

    /// Whether the file can be read: it is known where it begins.
    pub(super) fn decide_copy(&mut self, id: FileId, flush: bool, now: Instant) -> bool {
        let Some(undecided) = self.copies.undecided.get(&id) else { return true };
        let original = undecided.original.clone();
        let mut verdict = self.compare(id, &original, flush, now);
        if flush && matches!(verdict, Verdict::NotYet) {
            self.waits += 1;
            if self.waits > MOST_WAITS {
                // Two that wait for each other: better twice than never.
                verdict = Verdict::No;
            }
        }
        let path = self.files.get(&id).map(|file| &file.reader.name().path);
        tracing::debug!(file = ?path, ?original, "may be a copy: {verdict}");
        match verdict {
            Verdict::NotYet => {
                // What it waits for is read before, if there is anything to read.
                if let Original::Life(other, _) = original
                    && let Some(reader) = self.files.get(&other).filter(|file| !file.is_over).map(|file| &file.reader)
                    && reader.meta().is_some_and(|meta| reader.has_more(meta.len))
                {
                    self.enqueue(other);
                }
                if flush {
                    self.enqueue(id);
                } else {
                    self.set_timer(id, now + LOOK_EVERY);
                }
                return false;
            }
            Verdict::Working => {
                self.is_working = true;
                self.enqueue(id);
                return false;
            }
            Verdict::No if self.has_other_original(id, &original) => {
                self.enqueue(id);
                return false;
            }
            Verdict::No => {
                if let Original::Known(position) = &original
                    && let Some(tracked) = self.files.get(&id)
                    && position.path == tracked.reader.name().path.to_string_lossy()
                {
                    self.counts.truncations += 1;
                }
            }
            Verdict::Yes(position, seen) => {
                self.take_over(id, &original, &position, seen);
                self.copies.undecided.remove(&id);
                self.release_others(&original);
            }
        }
        self.copies.undecided.remove(&id);
        if let Original::Life(original, _) = original {
            self.enqueue(original);
        }
        true
    }

    /// Whether the file, which is no copy of `tried`, may be one of something else.
    fn has_other_original(&mut self, id: FileId, tried: &Original) -> bool {
        let Some(undecided) = self.copies.undecided.get_mut(&id) else { return false };
        undecided.tried.push(tried.clone());
        let Some(tracked) = self.files.remove(&id) else { return false };
        let path = self.relative(&tracked).to_owned();
        self.find_original(&tracked, &path);
        self.files.insert(id, tracked);
        self.copies.undecided.get(&id).is_some_and(|undecided| undecided.original != *tried)
    }

    /// Looks once more for what files may be copies of: by now they have more content to be compared.
    pub(super) fn reconsider(&mut self) {
        let undecided = self.copies.undecided.iter();
        let lives =
            undecided.filter(|(_, undecided)| matches!(undecided.original, Original::Life(..)) || undecided.len == 0);
        let ids: Vec<FileId> = lives.map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(tracked) = self.files.remove(&id) {
                let path = self.relative(&tracked).to_owned();
                self.find_original(&tracked, &path);
                self.files.insert(id, tracked);
            }
        }
    }

    /// What was copied has one copy: others that may have been it are something else.
    fn release_others(&mut self, original: &Original) {
        match original {
            Original::Life(_, key) => _ = self.copies.copied.insert(*key),
            Original::Known(position) => {
                self.known.retain(|_, known| known != position);
                self.copies.past.retain(|(_, past)| past != position);
            }
        }
        let undecided = self.copies.undecided.iter().filter(|(_, other)| other.original == *original);
        let others: Vec<FileId> = undecided.map(|(id, _)| *id).collect();
        for other in others {
            self.copies.undecided.remove(&other);
            if let Some(tracked) = self.files.remove(&other) {
                let path = self.relative(&tracked).to_owned();
                self.find_original(&tracked, &path);
                self.files.insert(other, tracked);
                self.enqueue(other);
            }
        }
    }

    fn take_over(&mut self, id: FileId, original: &Original, position: &Position, seen: Seen) {
        let Some(tracked) = self.files.get_mut(&id) else { return };
        let path = &tracked.reader.name().path;
        tracing::info!(file = ?path, "was read as {:?} up to byte {}", position.path, position.place.offset);
        let head = tracked.reader.head().unwrap_or_default();
        tracked.reader.go_on(&position.place, seen, &head);
        tracked.announce = true;
        let len = tracked.reader.meta().map_or(0, |meta| meta.len);
        if let Original::Life(other, _) = original
            && let Some(other) = self.files.get_mut(other).filter(|other| other.is_over)
        {
            other.after = Some((id, len));
            self.copies.taken.insert(other.reader.name().id);
            if let Some(tracked) = self.files.get_mut(&id) {
                tracked.before = Some(other_id(original));
            }
        }
    }

    fn compare(&mut self, id: FileId, original: &Original, flush: bool, now: Instant) -> Verdict {
        let wait = self.settings.framing.flush_after;
        let is_known_kind = self.files.get_mut(&id).is_some_and(|tracked| tracked.reader.detect_gzip());
        let (position, is_over, is_read) = match original {
            Original::Known(position) => (position.clone(), true, true),
            Original::Life(other, key) => match self.files.get(other) {
                Some(other) if other.reader.key() == *key => {
                    let has_more = other.reader.meta().is_some_and(|meta| other.reader.has_more(meta.len));
                    let is_read = other.reader.is_at_end() && !other.queued && !has_more;
                    (other.reader.position(), other.is_over, other.is_over || is_read)
                }
                _ => match self.copies.past.iter().find(|(past, _)| past == key) {
                    Some((_, position)) => (position.clone(), true, true),
                    None => return Verdict::No,
                },
            },
        };
        let living = match original {
            Original::Life(other, _) if !is_over => {
                self.files.get(other).map(|other| (other, other.missing_since.is_some()))
            }
            _ => None,
        };
        let Some(tracked) = self.files.get(&id) else { return Verdict::No };
        let (Ok(head), Some(meta)) = (tracked.reader.head(), tracked.reader.meta()) else { return Verdict::No };
        let has_other_head = head.len() as u64 >= position.stamp.head && !position.stamp.has_head(&head);
        if is_known_kind && has_other_head {
            return Verdict::No;
        }
        let Some(undecided) = self.copies.undecided.get_mut(&id) else { return Verdict::No };
        if undecided.len != meta.len || undecided.since.is_none() {
            (undecided.len, undecided.since) = (meta.len, Some(now));
        }
        let is_quiet = flush || undecided.since.is_some_and(|since| now - since >= wait);
        if !is_known_kind && !is_quiet {
            return Verdict::NotYet;
        }
        if position.looked() == 0 && is_read && (is_quiet || living.is_none()) {
            // Nothing of the original was read: whatever this is, it is new.
            return Verdict::No;
        }
        if tracked.reader.is_compressed() {
            // What the original has at its end is shipped with it.
            let has_rest = living.is_some_and(|(other, _)| other.reader.has_rest());
            if !is_read || has_rest || living.is_some_and(|(_, is_missing)| !is_missing) && !is_quiet {
                return Verdict::NotYet;
            }
            return self.compare_compressed(id, position, head, is_quiet);
        }
        let looked = position.looked();
        let same = |other: &Seen| other.stamp().tail_hash == position.stamp.tail_hash;
        let verdict = |position: Position| match tracked.reader.seen_before(position.place.offset) {
            Some(seen) => Verdict::Yes(Box::new(position), seen),
            None => Verdict::No,
        };
        let Some((other, _)) = living else {
            return match tracked.reader.seen_before(looked) {
                Some(seen) if same(&seen) => verdict(position),
                Some(_) => Verdict::No,
                None if !is_quiet => Verdict::NotYet,
                // The original was written to after it was copied.
                None if head.len() == HEAD => verdict(self.end_of(id, meta.len, &position)),
                None => Verdict::No,
            };
        };
        // The original goes on. A copy that is to be truncated has all of it that will be there.
        if !is_read || !is_quiet {
            return Verdict::NotYet;
        }
        let (len, ends) =
            (meta.len.min(looked), [tracked, other].map(|file| file.reader.seen_before(meta.len.min(looked))));
        match ends {
            // A short one may just be the same again: nothing is left out that may have been meant to be there twice.
            [Some(copy), Some(original)] if len >= HEAD as u64 && copy.stamp() == original.stamp() => {
                let place = if len == looked { position } else { self.end_of(id, len, &position) };
                verdict(place)
            }
            _ => Verdict::No,
        }
    }

    /// The end of a copy whose original was read further.
    fn end_of(&self, id: FileId, len: u64, position: &Position) -> Position {
        let ends_in_line = self.files.get(&id).and_then(|file| file.reader.seen_before(len));
        let is_line = ends_in_line.is_none_or(|seen| seen.tail().last().is_none_or(|last| *last == b'\n'));
        let rest = if is_line { Rest::Line } else { Rest::Late };
        Position { place: Place { rest, ..Place::at(len) }, ..position.clone() }
    }

    fn compare_compressed(&mut self, id: FileId, position: Position, head: Vec<u8>, is_quiet: bool) -> Verdict {
        let Some(tracked) = self.files.get_mut(&id) else { return Verdict::No };
        let (looked, offset) = (position.looked(), position.place.offset.min(position.looked()));
        let from = offset.saturating_sub(TAIL as u64);
        let content = match tracked.reader.content_before(looked, looked - from) {
            Ok(Some(content)) => content,
            Ok(None) => return Verdict::Working,
            Err(_) => return Verdict::No,
        };
        if (content.len() as u64) < looked - from {
            return if is_quiet { Verdict::No } else { Verdict::NotYet };
        }
        let tail = &content[content.len() - TAIL.min(looked as usize)..];
        let read = |into: &mut [u8], at: u64| {
            let bytes = match at.checked_sub(from) {
                Some(at) => content.get(at as usize..).and_then(|rest| rest.get(..into.len())),
                None => head.get(at as usize..).and_then(|rest| rest.get(..into.len())),
            };
            bytes.map(|bytes| into.copy_from_slice(bytes)).is_some()
        };
        match Seen::before(offset, read) {
            Some(seen) if xxh3_64(tail) == position.stamp.tail_hash => Verdict::Yes(Box::new(position), seen),
            _ => Verdict::No,
        }
    }
}

/// Whether a file that was not read yet has the same first bytes as another one.
fn begins_alike(head: &[u8], other: &Tracked) -> bool {
    let other = other.reader.head().unwrap_or_default();
    // An empty one may be about to be filled.
    let len = head.len().min(other.len());
    head[..len] == other[..len]
}

fn other_id(original: &Original) -> FileId {
    match original {
        Original::Life(id, _) => *id,
        Original::Known(_) => FileId { device: 0, inode: 0 },
    }
}
