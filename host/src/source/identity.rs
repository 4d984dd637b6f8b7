//! Which file is which, also after it was renamed, truncated, or the agent was away.
//!
//! A file is what its device and inode say, as long as its first bytes and the bytes just before the offset are
//! still what they were. The last catches a file that was truncated and has grown past the old offset.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of the head that are looked at.
const HEAD: u64 = 1024;

/// Bytes before the offset that are looked at.
const TAIL: u64 = 64;

/// Device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileId {
    /// The device.
    pub device: u64,
    /// The inode.
    pub inode: u64,
}

/// A place in a file, and what the file looks like around it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Bytes from the start.
    pub offset: u64,
    /// Bytes of the head that were hashed: 1024, or the offset if that is less.
    pub head: u64,
    /// Hash of the head.
    pub head_hash: u64,
    /// Hash of the 64 bytes, or fewer, before the offset.
    pub tail_hash: u64,
    /// Where the file was last seen, for people.
    pub path: String,
}

impl Position {
    /// The place at `offset` of a file as it is now.
    pub fn at(file: &File, offset: u64, path: &str) -> io::Result<Position> {
        let head = offset.min(HEAD);
        Ok(Position {
            offset,
            head,
            head_hash: hash(file, 0, head)?,
            tail_hash: tail_hash(file, offset)?,
            path: path.to_owned(),
        })
    }

    /// Whether the file still has around this place what it had.
    pub fn is_in(&self, file: &File) -> bool {
        let same = |hash: io::Result<u64>, expected| hash.is_ok_and(|hash| hash == expected);
        same(hash(file, 0, self.head), self.head_hash) && same(tail_hash(file, self.offset), self.tail_hash)
    }
}

/// Hash of the 64 bytes, or fewer, before `offset`.
pub fn tail_hash(file: &File, offset: u64) -> io::Result<u64> {
    let len = offset.min(TAIL);
    hash(file, offset - len, len)
}

/// `len` is at most [`HEAD`]. An error if the file has fewer bytes.
fn hash(file: &File, from: u64, len: u64) -> io::Result<u64> {
    let mut bytes = [0; HEAD as usize];
    let bytes = &mut bytes[..len as usize];
    file.read_exact_at(bytes, from)?;
    Ok(xxh3_64(bytes))
}
