//! Whether a file is a copy: its content is compared with what was read of another one.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

use super::copies::Original;
use super::identity::{FileId, HEAD, Position, Seen, TAIL};
use super::place::{Place, Rest};
use super::{Source, Tracked};

/// A file that may be a copy, as it is now.
pub struct Candidate {
    /// Its first bytes.
    pub head: Vec<u8>,
    /// Its size.
    pub len: u64,
    /// Whether it has not grown for a while: it has all that it will have.
    pub is_quiet: bool,
    /// Whether it is known if it is compressed.
    pub is_known_kind: bool,
}

/// Whether a file is a copy of an original.
pub enum Verdict {
    /// It is; `has_rest`: to the last byte that was looked at.
    Yes { original: Original, position: Box<Position>, seen: Seen, has_rest: bool },
    /// It is certainly not.
    No,
    /// It seems not to be, as it is now.
    Unproven,
    /// There may be more to compare soon.
    NotYet,
    /// There is more to be decompressed first.
    Working,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Verdict::Yes { .. } => "it is",
            Verdict::No => "it is not",
            Verdict::Unproven => "nothing proves it",
            Verdict::NotYet => "it cannot be told yet",
            Verdict::Working => "being decompressed",
        })
    }
}

impl Source {
    /// Whether a file is a copy of that original, of which it has name and first bytes.
    pub(super) fn compare(&mut self, id: FileId, copy: &Candidate, original: Original) -> Verdict {
        if !copy.is_known_kind && !copy.is_quiet {
            return Verdict::NotYet;
        }
        if copy.len == 0 {
            // It may be about to be filled.
            return if copy.is_quiet { Verdict::Unproven } else { Verdict::NotYet };
        }
        let mut rest = Vec::new();
        match original {
            // It is compared once it is read.
            Original::Next(_) => return Verdict::NotYet,
            Original::Life(other, _) => match self.files.get(&other) {
                Some(file) if file.is_over => rest = file.reader.rest().to_vec(),
                Some(file) if file.reader.is_open() => return self.compare_with_living(id, copy, other),
                Some(_) => return self.compare_with_closed(id, copy, other),
                None => return Verdict::Unproven,
            },
            _ => {}
        }
        match self.position_of(id, original) {
            Some(position) => self.compare_content(id, copy, original, position, &rest),
            None => Verdict::Unproven,
        }
    }

    /// The original was closed to save descriptors. It is opened for a moment, so that no other one is closed for it.
    fn compare_with_closed(&mut self, id: FileId, copy: &Candidate, other: FileId) -> Verdict {
        let Some(file) = self.files.get(&other) else { return Verdict::Unproven };
        let born = file.reader.name().born;
        let opened = self.discovery.open(self.relative(file), other).ok().flatten();
        let Some(opened) = opened.filter(|opened| opened.meta().is_ok_and(|meta| meta.born == born)) else {
            // If it is gone, that is found out when it is read.
            self.enqueue(other);
            return Verdict::NotYet;
        };
        if let Some(file) = self.files.get_mut(&other) {
            file.reader.open_again(opened);
        }
        let verdict = self.compare_with_living(id, copy, other);
        if let Some(file) = self.files.get_mut(&other) {
            file.reader.close();
        }
        verdict
    }

    /// The original goes on: it is compared when all is read that it has.
    fn compare_with_living(&mut self, id: FileId, copy: &Candidate, other: FileId) -> Verdict {
        let (Some(tracked), Some(file)) = (self.files.get(&id), self.files.get(&other)) else {
            return Verdict::Unproven;
        };
        let (position, key) = (file.reader.position(), file.reader.key());
        // One that was truncated may have its old size again.
        let is_same = |seen: Seen| seen.stamp() == position.stamp;
        let has_more = file.reader.meta().is_some_and(|meta| file.reader.has_more(meta.len))
            || !file.reader.seen_before(position.looked()).is_some_and(is_same);
        if !file.reader.is_at_end() || file.queued || has_more || file.reader.has_rest() {
            // What it waits for is read before, if there is anything to read.
            if has_more {
                self.enqueue(other);
            }
            return Verdict::NotYet;
        }
        if self.copies.is_copied(key) || !begins_alike(&copy.head, file) {
            return Verdict::No;
        }
        // A copy that is to be truncated has all of it that will be there.
        let is_complete = copy.is_quiet || tracked.reader.is_compressed() && self.missing.contains_key(&other);
        if !is_complete {
            return Verdict::NotYet;
        }
        let original = Original::Life(other, key);
        if tracked.reader.is_compressed() {
            return self.compare_content(id, copy, original, position, &[]);
        }
        let len = copy.len.min(position.looked());
        match [tracked, file].map(|file| file.reader.seen_before(len)) {
            [Some(seen), Some(of)] if seen.stamp() != of.stamp() => Verdict::No,
            // A short one may just be the same again: nothing is left out that may have been meant to be there twice.
            [Some(_), Some(_)] if len >= HEAD as u64 => self.go_on_before(id, len, original, position),
            _ => Verdict::Unproven,
        }
    }

    /// The original is not written any more, or compressed from its first to its last byte; `rest` is what it had after
    /// what was read.
    fn compare_content(
        &mut self,
        id: FileId,
        copy: &Candidate,
        original: Original,
        position: Position,
        rest: &[u8],
    ) -> Verdict {
        let Some(tracked) = self.files.get_mut(&id) else { return Verdict::Unproven };
        let (looked, offset) = (position.looked(), position.place.offset.min(position.looked()));
        if looked == 0 && rest.is_empty() {
            // Nothing of the original was read: whatever this is, it is new.
            return if copy.is_quiet { Verdict::Unproven } else { Verdict::NotYet };
        }
        if copy.head.len() as u64 >= position.stamp.head && !position.stamp.has_head(&copy.head) {
            return Verdict::No;
        }
        let (from, end) = (offset.saturating_sub(TAIL as u64), looked + rest.len() as u64);
        let content = match tracked.reader.content_before(end, end - from) {
            Ok(Some(content)) => content,
            Ok(None) => return Verdict::Working,
            Err(_) => return Verdict::Unproven,
        };
        let Some((read, after)) = content.split_at_checked((looked - from) as usize) else {
            return match copy.is_quiet {
                false => Verdict::NotYet,
                // The original was written to after it was copied: it was read to somewhere in the copy, and further.
                true if !tracked.reader.is_compressed() && self.was_read_to_within(id, copy.len, original) => {
                    self.go_on_before(id, copy.len, original, position)
                }
                true => Verdict::No,
            };
        };
        if xxh3_64(&read[read.len() - TAIL.min(looked as usize)..]) != position.stamp.tail_hash {
            return Verdict::No;
        }
        if after.len() < rest.len() && !copy.is_quiet {
            return Verdict::NotYet;
        }
        let bytes = |into: &mut [u8], at: u64| {
            let bytes = match at.checked_sub(from) {
                Some(at) => content.get(at as usize..).and_then(|rest| rest.get(..into.len())),
                None => copy.head.get(at as usize..).and_then(|rest| rest.get(..into.len())),
            };
            bytes.map(|bytes| into.copy_from_slice(bytes)).is_some()
        };
        match Seen::before(offset, bytes) {
            Some(seen) => Verdict::Yes { original, position: Box::new(position), seen, has_rest: after == rest },
            None => Verdict::Unproven,
        }
    }

    /// Whether a read of the original ended somewhere in the copy, and what is before that is the same.
    fn was_read_to_within(&self, id: FileId, len: u64, original: Original) -> bool {
        let Some(tracked) = self.files.get(&id) else { return false };
        let is_same = |(end, hash)| tracked.reader.seen_before(end).is_some_and(|seen| seen.stamp().tail_hash == hash);
        // A short one may just be the same again.
        self.ends_of(original).up_to(len).any(|(end, hash)| end >= HEAD as u64 && is_same((end, hash)))
    }

    /// A copy is gone on with where its original was left; at its end, if that was read further.
    fn go_on_before(&self, id: FileId, len: u64, original: Original, mut position: Position) -> Verdict {
        let Some(tracked) = self.files.get(&id) else { return Verdict::Unproven };
        if position.place.offset > len {
            let end = tracked.reader.seen_before(len);
            let is_line = end.is_none_or(|seen| seen.tail().last().is_none_or(|last| *last == b'\n'));
            position.place = Place { rest: if is_line { Rest::Line } else { Rest::Late }, ..Place::at(len) };
        }
        match tracked.reader.seen_before(position.place.offset) {
            Some(seen) => Verdict::Yes { original, position: Box::new(position), seen, has_rest: false },
            None => Verdict::Unproven,
        }
    }
}

/// Whether a file that was not read yet has the same first bytes as another one.
pub fn begins_alike(head: &[u8], other: &Tracked) -> bool {
    let other = other.reader.head().unwrap_or_default();
    // An empty one may be about to be filled.
    let len = head.len().min(other.len());
    head[..len] == other[..len]
}
