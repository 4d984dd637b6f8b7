//! Which file is which, also after it was renamed, truncated, copied, or the agent was away.
//!
//! A file is what its device, inode and time of birth say, as long as its first bytes and the bytes just before the
//! place that was read to are still what they were. The last catches a file that was truncated and has grown past
//! that place. What was hashed are the bytes as they were read, not as they are later: a file may change in between.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::place::Place;

/// Bytes of the head that are looked at.
pub const HEAD: usize = 1024;

/// Bytes before the end that are looked at.
pub const TAIL: usize = 64;

/// Device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileId {
    /// The device.
    pub device: u64,
    /// The inode.
    pub inode: u64,
}

/// What a file looked like when it was read to some offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The offset to which it had been read; of the content, if it is compressed.
    #[serde(default)]
    pub looked: u64,
    /// Bytes of the head that were hashed: 1024, or the offset if that is less.
    pub head: u64,
    /// Hash of the head.
    pub head_hash: u64,
    /// Hash of the 64 bytes, or fewer, before the offset.
    pub tail_hash: u64,
}

/// A place in a file that may be gone on from, and what the file looked like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Up to where all is settled.
    #[serde(flatten)]
    pub place: Place,
    /// What the file looked like, at the place or after it.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// When the file was made, in Unix nanoseconds, where the file system knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born: Option<i64>,
    /// Where the file was last seen, for people.
    pub path: String,
    /// Since when it is not found any more, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<u64>,
}

/// The first and the last bytes of what was read, as they were.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Until it is as long as it gets: then it is hashed.
    head: Vec<u8>,
    head_len: usize,
    head_hash: u64,
    tail: Vec<u8>,
    /// Bytes from the start.
    offset: u64,
}

impl Seen {
    /// Nothing yet, with room for the last bytes: what is asked for while plugins run is scattered among their memory.
    pub fn nothing() -> Self {
        Seen { tail: Vec::with_capacity(TAIL), ..Seen::default() }
    }

    /// The bytes before `offset` of which `read` gives any.
    pub fn before(offset: u64, mut read: impl FnMut(&mut [u8], u64) -> bool) -> Option<Self> {
        let mut seen = Seen { offset, ..Seen::default() };
        seen.head.resize(HEAD.min(offset as usize), 0);
        seen.tail.resize(TAIL.min(offset as usize), 0);
        let tail_at = offset - seen.tail.len() as u64;
        let all = read(&mut seen.head, 0) && read(&mut seen.tail, tail_at);
        seen.count_head();
        all.then_some(seen)
    }

    /// Adds bytes that were read.
    pub fn add(&mut self, bytes: &[u8]) {
        if self.head_len < HEAD {
            let more = bytes.len().min(HEAD - self.head_len);
            self.head.extend_from_slice(&bytes[..more]);
            self.count_head();
        }
        match bytes.len() >= TAIL {
            true => {
                self.tail.clear();
                self.tail.extend_from_slice(&bytes[bytes.len() - TAIL..]);
            }
            false => {
                let over = (self.tail.len() + bytes.len()).saturating_sub(TAIL);
                self.tail.drain(..over);
                self.tail.extend_from_slice(bytes);
            }
        }
        self.offset += bytes.len() as u64;
    }

    /// Bytes just before the offset: 64, or all if there are fewer.
    pub fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// What is remembered of it.
    pub fn stamp(&self) -> Stamp {
        let is_whole = self.head_len == HEAD;
        Stamp {
            looked: self.offset,
            head: self.head_len as u64,
            head_hash: if is_whole { self.head_hash } else { xxh3_64(&self.head) },
            tail_hash: xxh3_64(&self.tail),
        }
    }

    /// A head that is complete needs to be hashed once only.
    fn count_head(&mut self) {
        self.head_len = self.head.len();
        if self.head_len == HEAD {
            self.head_hash = xxh3_64(&self.head);
            self.head = Vec::new();
        }
    }
}

impl Stamp {
    /// Whether a file has the head that was seen; `head` is its first bytes, as many as there are.
    pub fn has_head(&self, head: &[u8]) -> bool {
        usize::try_from(self.head)
            .is_ok_and(|len| len <= HEAD && head.get(..len).is_some_and(|h| xxh3_64(h) == self.head_hash))
    }
}

impl Position {
    /// The offset at which the stamp was taken.
    pub fn looked(&self) -> u64 {
        // Rows of old have no such number: the stamp was of the place itself.
        if self.stamp.looked == 0 { self.place.offset } else { self.stamp.looked }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_it_was_read_the_stamp_is_the_same() {
        let bytes: Vec<u8> = (0..3000u32).map(|i| (i % 251) as u8).collect();
        for end in [0, 1, 63, 64, 65, 1000, 1023, 1024, 1025, 3000] {
            let mut whole = Seen::default();
            whole.add(&bytes[..end]);
            for step in [1, 7, 64, 100, 1024] {
                let mut seen = Seen::default();
                bytes[..end].chunks(step).for_each(|piece| seen.add(piece));
                assert_eq!(seen.stamp(), whole.stamp(), "{end} by {step}");
                assert_eq!(seen.tail(), &bytes[end.saturating_sub(TAIL)..end]);
            }
            let read = |into: &mut [u8], at: u64| {
                into.copy_from_slice(&bytes[at as usize..at as usize + into.len()]);
                true
            };
            assert_eq!(Seen::before(end as u64, read).unwrap().stamp(), whole.stamp());
        }
    }

    #[test]
    fn rows_of_the_first_weir_can_be_read() {
        let row = r#"{"offset":7,"head":7,"head_hash":1,"tail_hash":2,"path":"/a"}"#;
        let position: Position = serde_json::from_str(row).unwrap();
        assert_eq!((position.place, position.looked(), position.stamp.head), (Place::at(7), 7, 7));
    }
}
