//! Events that a destination refuses for good, on disk: each a file, so that each can be looked at, sent again or
//! removed by itself, beside an agent that runs.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::LogstoreName;

/// What the name of a letter's file ends in.
const EXTENSION: &str = "letter";

/// What the name of a file ends in that is being written.
const UNFINISHED: &str = "part";

/// A file that has been unfinished for so long is nobody's any more.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// Bytes of a reason that are kept.
const REASON: usize = 1 << 10;

/// Bytes of what is said before the event, at most.
const MAX_HEAD: usize = 16 << 10;

/// The dead letters of an agent.
pub struct DeadLetters {
    dir: PathBuf,
    /// Bytes of a logstore's letters at most.
    max_size: u64,
    /// Discards what does not fit, instead of holding up its logstore.
    discards: bool,
    /// What is used of each logstore's room. One that writes many holds up no other.
    rooms: Mutex<BTreeMap<PathBuf, Arc<Mutex<Option<u64>>>>>,
    next: std::sync::atomic::AtomicU64,
}

/// One event that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// What is known of it.
    pub head: Head,
    /// What was sent, before compression: a body with one event.
    pub body: Vec<u8>,
}

/// What is known of a dead letter: the first line of its file, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The sink that sent it.
    pub sink: String,
    /// What the body is, in the sink's words; empty where that was not kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub format: String,
    /// Whose it is: `project/logstore`.
    pub logstore: String,
    /// Why the destination refused it, as far as it said so.
    pub reason: String,
    /// When, as RFC 3339.
    pub time: String,
    /// How many events there are in the body: more than one where the destination didn't say which it refused.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub events: usize,
}

fn one() -> usize {
    1
}

fn is_one(events: &usize) -> bool {
    *events == 1
}

/// What became of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is on disk, synced.
    Kept,
    /// There is no room, and the operator wants it discarded.
    Discarded,
    /// There is no room: it has to be tried again.
    Full,
}

impl Letter {
    /// An event that was refused now.
    pub fn new(sink: &str, format: &str, target: &LogstoreName, reason: &str, body: Vec<u8>) -> Self {
        let cut = (0..=REASON.min(reason.len())).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
        let head = Head {
            sink: sink.to_owned(),
            format: format.to_owned(),
            logstore: target.to_string(),
            reason: reason[..cut].to_owned(),
            time: jiff::Timestamp::now().to_string(),
            events: 1,
        };
        Letter { head, body }
    }

    fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(&self.head)?;
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.body);
        Ok(bytes)
    }
}

impl DeadLetters {
    /// Those in the directory, which is made when there are any.
    pub fn new(dir: impl Into<PathBuf>, max_size: u64, discards: bool) -> Self {
        let (rooms, next) = (Mutex::default(), std::sync::atomic::AtomicU64::new(0));
        DeadLetters { dir: dir.into(), max_size, discards, rooms, next }
    }

    /// Keeps a letter, if there is room.
    pub fn keep(&self, letter: Letter) -> io::Result<Kept> {
        let dir = self.dir.join(&letter.head.logstore);
        let bytes = letter.to_bytes()?;
        let room = self.rooms.lock().unwrap_or_else(PoisonError::into_inner).entry(dir.clone()).or_default().clone();
        let mut known = room.lock().unwrap_or_else(PoisonError::into_inner);
        let used = match *known {
            Some(used) if used + bytes.len() as u64 <= self.max_size => used,
            // Some may have been taken away since.
            _ => size(&dir)?,
        };
        *known = Some(used);
        if used + bytes.len() as u64 > self.max_size {
            return Ok(if self.discards { Kept::Discarded } else { Kept::Full });
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let now = jiff::Timestamp::now().as_microsecond();
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("{now:016}-{}-{number}.{EXTENSION}", std::process::id());
        write(&dir.join(name), &bytes)?;
        *known = Some(used + bytes.len() as u64);
        Ok(Kept::Kept)
    }

    /// The files of all letters, of one logstore if one is named, the oldest of each first.
    pub fn files(dir: &Path, logstore: Option<&LogstoreName>) -> io::Result<Vec<PathBuf>> {
        let dirs = match logstore {
            Some(name) => vec![dir.join(name.to_string())],
            None => {
                let projects = entries(dir)?;
                projects.iter().map(|project| entries(project)).collect::<io::Result<Vec<_>>>()?.concat()
            }
        };
        let mut files = Vec::new();
        for dir in dirs {
            files.extend(entries(&dir)?.into_iter().filter(|path| path.extension().is_some_and(|e| e == EXTENSION)));
        }
        Ok(files)
    }
}

/// Reads a letter's head, and how many bytes its body has.
pub fn read_head(path: &Path) -> io::Result<(Head, u64)> {
    let mut file = File::open(path)?;
    let mut start = Vec::new();
    (&mut file).take(MAX_HEAD as u64).read_to_end(&mut start)?;
    let end = memchr::memchr(b'\n', &start).ok_or_else(|| io::Error::other("is no dead letter"))?;
    let head = serde_json::from_slice(&start[..end])?;
    Ok((head, file.metadata()?.len() - end as u64 - 1))
}

/// Reads a whole letter.
pub fn read(path: &Path) -> io::Result<Letter> {
    let bytes = fs::read(path)?;
    let end = memchr::memchr(b'\n', &bytes).ok_or_else(|| io::Error::other("is no dead letter"))?;
    Ok(Letter { head: serde_json::from_slice(&bytes[..end])?, body: bytes[end + 1..].to_vec() })
}

/// Puts another letter in the place of one.
pub fn replace(path: &Path, letter: &Letter) -> io::Result<()> {
    write(path, &letter.to_bytes()?)
}

/// Removes a letter; one that is not there any more is removed.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    sync_directory(path)
}

/// Writes a file whole or not at all, and synced.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}.{UNFINISHED}", std::process::id()));
    let unfinished = Path::new(&unfinished);
    let written =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(unfinished).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(unfinished, path)
        });
    if written.is_err() {
        // On a full disk it would take the room that the next try needs.
        let _ = fs::remove_file(unfinished);
    }
    written?;
    sync_directory(path)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// What is in a directory, by name; nothing if there is none.
fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Bytes of the letters in a directory. What a crash left unfinished is removed.
fn size(dir: &Path) -> io::Result<u64> {
    let mut size = 0;
    for path in entries(dir)? {
        // One that is taken away meanwhile has no size any more.
        let Ok(meta) = fs::metadata(&path) else { continue };
        let is_old = || meta.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age >= FORGOTTEN));
        if path.extension().is_some_and(|extension| extension == UNFINISHED) && is_old() {
            let _ = fs::remove_file(&path);
        } else {
            size += meta.len();
        }
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(logstore: &str, body: &str) -> Letter {
        Letter::new("s", "text", &logstore.parse().unwrap(), "no", body.into())
    }

    #[test]
    fn letters_are_kept_each_by_itself_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let letters = DeadLetters::new(dir.path().join("dead"), 1 << 20, false);
        let all = [letter("a/b", "one"), letter("a/c", "two\nlines"), letter("a/b", "")];
        for letter in &all {
            assert_eq!(letters.keep(letter.clone()).unwrap(), Kept::Kept);
        }
        let files = DeadLetters::files(&dir.path().join("dead"), None).unwrap();
        let read_back: Vec<_> = files.iter().map(|path| read(path).unwrap()).collect();
        assert_eq!(read_back, [all[0].clone(), all[2].clone(), all[1].clone()]);
        assert_eq!(read_head(&files[2]).unwrap(), (all[1].head.clone(), 9));
        let of_c = DeadLetters::files(&dir.path().join("dead"), Some(&"a/c".parse().unwrap())).unwrap();
        assert_eq!(of_c, files[2..]);
        assert!(DeadLetters::files(&dir.path().join("none"), None).unwrap().is_empty());
    }

    #[test]
    fn what_was_never_finished_takes_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let letters = DeadLetters::new(dir.path(), 1500, false);
        let place = dir.path().join("a/b");
        fs::create_dir_all(&place).unwrap();
        let unfinished = place.join("1-1-1.letter.1.part");
        fs::write(&unfinished, "x".repeat(1400)).unwrap();
        // Another process may be writing it.
        assert_eq!(letters.keep(letter("a/b", "one")).unwrap(), Kept::Full);
        let old = std::time::SystemTime::now() - 2 * FORGOTTEN;
        File::options().write(true).open(&unfinished).unwrap().set_modified(old).unwrap();
        assert_eq!(letters.keep(letter("a/b", "one")).unwrap(), Kept::Kept);
        assert!(!unfinished.exists());
        // What cannot be written leaves nothing behind: here a directory is in its place.
        let taken = place.join("taken.letter");
        fs::create_dir_all(taken.join("x")).unwrap();
        write(&taken, b"x").unwrap_err();
        assert_eq!(entries(&place).unwrap().len(), 2);
    }

    #[test]
    fn what_has_no_room_waits_or_is_discarded() {
        for (discards, expected) in [(false, Kept::Full), (true, Kept::Discarded)] {
            let dir = tempfile::tempdir().unwrap();
            let letters = DeadLetters::new(dir.path(), 1500, discards);
            let large = "x".repeat(800);
            assert_eq!(letters.keep(letter("a/b", &large)).unwrap(), Kept::Kept);
            assert_eq!(letters.keep(letter("a/b", &large)).unwrap(), expected);
            // Another logstore has room of its own.
            assert_eq!(letters.keep(letter("a/c", &large)).unwrap(), Kept::Kept);
            // So is there when one was taken away.
            let files = DeadLetters::files(dir.path(), Some(&"a/b".parse().unwrap())).unwrap();
            fs::remove_file(&files[0]).unwrap();
            assert_eq!(letters.keep(letter("a/b", &large)).unwrap(), Kept::Kept);
        }
    }
}
