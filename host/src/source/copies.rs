//! What was read already under another name: rotation by copying and truncating, and by compressing.
//!
//! A new file whose name rotation can have made of another's, and whose content begins like what was read of that
//! one, is gone on with where that one was left. Nothing is taken for a copy of which only the name says so. Until it
//! is certain, the new file is not read; and a file that was truncated is not read on before its copy. Each time that
//! it is looked at, it is compared with all that it may be a copy of by then: see [`super::compare`].

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::compare::{Candidate, Verdict, begins_alike};
use super::identity::{FileId, Position, Seen};
use super::reader::Ends;
use super::rotation::{family, is_gzip, may_be_copy};
use super::{After, Source, Tracked};

/// Lives that are over and may turn up as copies.
const MOST_PAST: usize = 256;

/// When all that is there is to be read, so often is waited without anything to read.
const MOST_WAITS: usize = 1000;

/// How often a copy is looked at that is not complete.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where the content of a new file may have been read before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Original {
    /// In the file itself, in a former run.
    Itself,
    /// In a file that is there still, in the life of that key.
    Life(FileId, u64),
    /// In what a truncated file has now, of which nothing is read yet.
    Next(FileId),
    /// In a life that is over.
    Past(u64),
    /// In a file that was read in a former run, and not found in this one.
    Known(FileId),
}

/// Files that may be copies, and what they may be copies of.
#[derive(Default)]
pub struct Copies {
    /// The latest last.
    past: VecDeque<Past>,
    undecided: HashMap<FileId, Undecided>,
    /// Files whose content that is no more has been found in another file, to its last byte.
    taken: HashSet<FileId>,
    /// Lives whose content has been found in another file: it has one copy.
    copied: HashSet<u64>,
}

/// What was read of a content that is no more.
struct Past {
    key: u64,
    position: Position,
    /// Where the file was before it had the name that it had at last.
    former: PathBuf,
    ends: Ends,
}

#[derive(Default)]
struct Undecided {
    /// How far it was read in a former run.
    own: Option<Position>,
    /// What it is certainly no copy of.
    ruled_out: Vec<Original>,
    /// What it may be a copy of, when it was last looked at.
    originals: Vec<Original>,
    /// Its size, and since when it has that.
    len: u64,
    since: Option<Instant>,
}

impl Copies {
    /// The content of a file is to be compared with what was read before.
    fn expect(&mut self, id: FileId) {
        self.undecided.entry(id).or_default();
    }

    /// How far the content of a file is what was read of it in a former run is to be found out.
    pub fn expect_itself(&mut self, id: FileId, own: Position) {
        self.undecided.insert(id, Undecided { own: Some(own), ..Undecided::default() });
    }

    /// A life is over in which so much was read, of a file that had another name before.
    pub fn remember(&mut self, key: u64, position: Position, former: &Path, ends: Ends) {
        let is_copied = self.copied.remove(&key);
        if position.looked() > 0 && !is_copied {
            self.past.push_back(Past { key, position, former: former.to_owned(), ends });
            if self.past.len() > MOST_PAST {
                self.past.pop_front();
            }
        }
    }

    /// Whether the content of the file that is no more was found in another file. Said once.
    pub fn was_taken(&mut self, id: FileId) -> bool {
        self.taken.remove(&id)
    }

    /// Whether the content of that life was found in another file.
    pub fn is_copied(&self, key: u64) -> bool {
        self.copied.contains(&key)
    }

    /// Whether the file's content is to be compared with something.
    pub fn is_undecided(&self, id: FileId) -> bool {
        self.undecided.contains_key(&id)
    }

    /// The file is gone.
    pub fn forget(&mut self, id: FileId) {
        self.undecided.remove(&id);
        self.taken.remove(&id);
    }
}

impl Source {
    /// A new file may be a copy of something.
    pub(super) fn find_original(&mut self, tracked: &Tracked) {
        if !self.originals(tracked).is_empty() {
            self.copies.expect(tracked.reader.name().id);
        }
    }

    /// A new file may also be what another new one is a copy of.
    pub(super) fn find_copies(&mut self, original: FileId) {
        let Some(tracked) = self.files.get(&original) else { return };
        let (path, Ok(head)) = (self.relative(tracked), tracked.reader.head()) else { return };
        let others = self.families.get(family(path)).into_iter().flatten().filter(|id| !self.copies.is_undecided(**id));
        let is_copy = |other: &Tracked| {
            other.reader.offset() == 0 && may_be_copy(self.relative(other), path) && begins_alike(&head, other)
        };
        for copy in
            others.filter(|id| self.files.get(id).is_some_and(|other| is_copy(other))).copied().collect::<Vec<_>>()
        {
            self.copies.expect(copy);
        }
    }

    /// What a file may be a copy of, by names and first bytes; first the one of which the most was read.
    fn originals(&self, tracked: &Tracked) -> Vec<Original> {
        let (path, id) = (self.relative(tracked), tracked.reader.name().id);
        let undecided = self.copies.undecided.get(&id);
        let mut originals: Vec<_> =
            undecided.filter(|it| it.own.is_some()).map(|_| Original::Itself).into_iter().collect();
        let family = family(path);
        if let Ok(head) = tracked.reader.head()
            && family != path.as_os_str().as_encoded_bytes()
        {
            // Of a file that is not known to be compressed, the head may be anything.
            let is_known_kind = tracked.reader.is_compressed() || !is_gzip(path) || head.len() >= 3;
            let has_name = |of: &Path| may_be_copy(path, of.strip_prefix(&self.settings.root).unwrap_or(of));
            // A head that is shorter may be that of a file that is being written.
            let fits = |position: &Position| {
                let is_shorter = (head.len() as u64) < position.stamp.head || !is_known_kind;
                position.looked() > 0 && (is_shorter || position.stamp.has_head(&head))
            };
            let mut found = Vec::new();
            for other in self.families.get(family).into_iter().flatten().filter_map(|id| self.files.get(id)) {
                let (reader, other_id) = (&other.reader, other.reader.name().id);
                let is_named = has_name(&reader.name().path) || has_name(reader.former());
                if other_id == id || reader.is_compressed() || !is_named {
                    continue;
                }
                let position = reader.position();
                let is_alike = !is_known_kind || begins_alike(&head, other);
                if other.is_over && is_alike {
                    found.push((position.looked(), Original::Next(other_id)));
                }
                let has_rest_only = reader.offset() == 0 && !reader.rest().is_empty();
                let is_free = !other.is_over || !self.copies.is_copied(reader.key());
                if is_free && (fits(&position) || is_alike && !other.is_over || has_rest_only) {
                    found.push((position.looked(), Original::Life(other_id, reader.key())));
                }
            }
            let past = self.copies.past.iter().filter(|past| fits(&past.position));
            let past = past.filter(|past| has_name(Path::new(&past.position.path)) || has_name(&past.former));
            found.extend(past.map(|past| (past.position.looked(), Original::Past(past.key))));
            let known = self.known.iter().filter(|(_, position)| fits(position) && has_name(Path::new(&position.path)));
            found.extend(known.map(|(id, position)| (position.looked(), Original::Known(*id))));
            found.sort_by_key(|(looked, _)| Reverse(*looked));
            originals.extend(found.into_iter().map(|(_, original)| original));
        }
        let ruled_out = undecided.map_or(&[][..], |undecided| &undecided.ruled_out);
        originals.retain(|original| !ruled_out.contains(&original.once_over()));
        originals
    }

    /// A file that may have the content of another one's life.
    pub(super) fn undecided_of(&self, original: FileId, life: u64) -> Option<FileId> {
        let life = Original::Life(original, life);
        let is_of = |id: &&FileId| self.files.get(id).is_some_and(|file| self.originals(file).contains(&life));
        self.copies.undecided.keys().find(is_of).copied()
    }

    /// Whether it may be a copy of a file that has to be read first then.
    pub(super) fn waits(&self, copy: FileId) -> bool {
        let is_read = |original: &Original| matches!(original, Original::Life(..) | Original::Next(_));
        self.copies.is_undecided(copy)
            && self.files.get(&copy).is_some_and(|copy| self.originals(copy).iter().any(is_read))
    }

    /// Whether the file can be read: it is known where it begins.
    pub(super) fn decide_copy(&mut self, id: FileId, flush: bool, now: Instant) -> bool {
        if !self.copies.is_undecided(id) {
            return true;
        }
        let Some((copy, originals)) = self.look_at_copy(id, flush, now) else {
            self.copies.undecided.remove(&id);
            return true;
        };
        let mut verdict = Verdict::No;
        for original in &originals {
            let this = self.compare(id, &copy, *original);
            tracing::debug!(file = ?self.files[&id].reader.name().path, ?original, "may be a copy: {this}");
            match this {
                // It may also be a copy of a copy, which has to be found out first.
                Verdict::Yes { .. } if self.is_contested(*original, &originals) => verdict = Verdict::NotYet,
                Verdict::NotYet => verdict = this,
                Verdict::No => self.rule_out(id, *original),
                Verdict::Unproven => {}
                Verdict::Yes { .. } | Verdict::Working => {
                    verdict = this;
                    break;
                }
            }
        }
        if flush && matches!(verdict, Verdict::NotYet) {
            self.waits += 1;
            if self.waits > MOST_WAITS {
                // Two that wait for each other: better twice than never.
                verdict = Verdict::No;
            }
        }
        match verdict {
            Verdict::Working => {
                self.is_working = true;
                self.enqueue(id);
                return false;
            }
            Verdict::NotYet if flush => {
                self.enqueue(id);
                return false;
            }
            Verdict::NotYet => {
                self.set_timer(id, now + LOOK_EVERY);
                return false;
            }
            Verdict::Yes { original, position, seen, has_rest } => {
                self.take_over(id, original, &position, seen, has_rest);
            }
            Verdict::No | Verdict::Unproven => {}
        }
        self.copies.undecided.remove(&id);
        originals.into_iter().for_each(|original| self.wake(original));
        true
    }

    /// What the file is like now, and what it may be a copy of. What it was thought to be before need not wait any more.
    fn look_at_copy(&mut self, id: FileId, flush: bool, now: Instant) -> Option<(Candidate, Vec<Original>)> {
        let is_known_kind = self.files.get_mut(&id)?.reader.detect_gzip();
        let tracked = self.files.get(&id)?;
        let (head, len) = (tracked.reader.head().ok()?, tracked.reader.meta()?.len);
        let originals = self.originals(tracked);
        let undecided = self.copies.undecided.get_mut(&id)?;
        if undecided.len != len || undecided.since.is_none() {
            (undecided.len, undecided.since) = (len, Some(now));
        }
        let wait = self.settings.framing.flush_after;
        let is_quiet = flush || undecided.since.is_some_and(|since| now - since >= wait);
        let before = std::mem::replace(&mut undecided.originals, originals.clone());
        let out = before.into_iter().filter(|original| !originals.contains(original));
        out.collect::<Vec<_>>().into_iter().for_each(|original| self.wake(original));
        Some((Candidate { head, len, is_quiet, is_known_kind }, originals))
    }

    /// Whether another file that may be the original may be a copy of this one itself.
    fn is_contested(&self, original: Original, others: &[Original]) -> bool {
        others.iter().any(|other| match other {
            Original::Life(id, _) if self.copies.is_undecided(*id) => {
                self.files.get(id).is_some_and(|file| self.originals(file).contains(&original))
            }
            _ => false,
        })
    }

    fn rule_out(&mut self, id: FileId, original: Original) {
        if original == Original::Itself {
            self.counts.truncations += 1;
        }
        if let Some(undecided) = self.copies.undecided.get_mut(&id) {
            undecided.ruled_out.push(original.once_over());
        }
        self.wake(original);
    }

    /// The file may have waited for its copy.
    fn wake(&mut self, original: Original) {
        if let Original::Life(id, _) = original {
            self.enqueue(id);
        }
    }

    /// How far an original that is no more was read.
    pub(super) fn position_of(&self, id: FileId, original: Original) -> Option<Position> {
        match original {
            Original::Itself => self.copies.undecided.get(&id)?.own.clone(),
            Original::Life(other, _) => Some(self.files.get(&other)?.reader.position()),
            Original::Next(_) => None,
            Original::Past(key) => Some(self.copies.past.iter().find(|past| past.key == key)?.position.clone()),
            Original::Known(other) => self.known.get(&other).cloned(),
        }
    }

    /// Where the last reads of an original that is no more ended.
    pub(super) fn ends_of(&self, original: Original) -> Ends {
        match original {
            Original::Life(other, _) => self.files.get(&other).map(|file| file.reader.ends()),
            Original::Past(key) => self.copies.past.iter().find(|past| past.key == key).map(|past| past.ends),
            Original::Itself | Original::Next(_) | Original::Known(_) => None,
        }
        .unwrap_or_default()
    }

    /// Goes on with a copy where its original was left.
    fn take_over(&mut self, id: FileId, original: Original, position: &Position, seen: Seen, has_rest: bool) {
        let Some(tracked) = self.files.get_mut(&id) else { return };
        let path = &tracked.reader.name().path;
        tracing::info!(file = ?path, "was read as {:?} up to byte {}", position.path, position.place.offset);
        let head = tracked.reader.head().unwrap_or_default();
        tracked.reader.go_on(&position.place, seen, &head);
        tracked.announce = true;
        let len = tracked.reader.meta().map_or(0, |meta| meta.len);
        match original {
            Original::Life(other, key) => {
                self.copies.copied.insert(key);
                let Some(file) = self.files.get_mut(&other).filter(|file| file.is_over) else { return };
                file.after = Some(After { file: id, len, is_final: false });
                if has_rest {
                    self.copies.taken.insert(other);
                }
                if let Some(tracked) = self.files.get_mut(&id) {
                    tracked.before = Some(other);
                }
            }
            // It has one copy.
            Original::Past(key) => self.copies.past.retain(|past| past.key != key),
            Original::Known(other) => _ = self.known.remove(&other),
            Original::Itself | Original::Next(_) => {}
        }
    }
}

impl Original {
    /// A life is the same when it is over.
    fn once_over(self) -> Self {
        match self {
            Original::Life(_, key) => Original::Past(key),
            other => other,
        }
    }
}
