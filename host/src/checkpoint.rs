//! Settled offsets, on disk.
//!
//! An embedded database (redb) in `data_dir`, one row a file of a logstore: `shop/nginx` + device + inode, to the
//! [`Position`] as JSON. Only settled offsets are written, so that what a crash costs is duplicates of what was
//! unsettled, and nothing else. A commit is synced, and is either there whole or not at all.
//!
//! A database that is damaged is set aside, never used and never deleted. All rows are also kept in a second file,
//! `checkpoint.backup`, as JSON with a checksum, which is written at the start, at the end, and now and then: with it a
//! damaged database costs duplicates of what was settled since.

mod backup;

use std::collections::HashMap;
use std::fs;
use std::ops::RangeBounds;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};

use crate::source::identity::{FileId, Position};

/// Rows are read by this format's number; another one is refused.
const FORMAT: u64 = 1;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const POSITIONS: TableDefinition<(&str, u64, u64), &[u8]> = TableDefinition::new("positions");

/// Bytes of the database that are kept in memory.
const CACHE: usize = 1 << 20;

/// The rows of files that are not found any more are kept so long.
const KEEP_GONE: Duration = Duration::from_secs(24 * 3600);

/// The second file is written at least so often, if anything has changed.
const BACK_UP_EVERY: Duration = Duration::from_secs(600);

/// Which row: a logstore and a file.
type Key = (String, FileId);

/// The database, and what has changed since it was last written.
pub struct Checkpoint {
    store: Mutex<Store>,
    dirty: Mutex<HashMap<Key, Change>>,
    /// Held by whoever writes: what another has taken is written, or noted again, before a flush ends.
    flushing: Mutex<()>,
    /// Where the second file is, and when it was last written.
    backup: Option<(PathBuf, Mutex<Option<Instant>>)>,
}

/// The database. After an error of its disk it takes nothing more, and has to be opened again: it is let go then, and
/// opened when it is needed, which fails as long as the disk does.
struct Store {
    database: Option<Database>,
    /// None: it is in memory.
    path: Option<PathBuf>,
}

impl Store {
    fn open(&mut self) -> Result<&Database> {
        if self.database.is_none() {
            let path = self.path.as_deref().context("it is closed")?;
            self.database = Some(open_sound(path).map_err(|unusable| match unusable {
                Unusable::InUse => anyhow!("another process has it open"),
                Unusable::Damaged(reason) => anyhow!("it cannot be opened again: {reason}"),
                Unusable::Error(error) => error,
            })?);
        }
        self.database.as_ref().context("it is closed")
    }
}

/// What is to be written.
enum Change {
    Set(Position),
    Gone,
    Remove,
}

impl Checkpoint {
    /// Opens or makes the database. One that is damaged is set aside, and what the backup has is used instead.
    pub fn open(path: &Path) -> Result<Self> {
        let describe = || format!("the checkpoint {}", path.display());
        let backup = path.with_extension("backup");
        make(path).with_context(describe)?;
        let (database, restored) = match when_free(|| open_sound(path)) {
            Ok(database) => (database, None),
            Err(Unusable::InUse) => bail!("{} is in use: another weir runs with this data_dir", describe()),
            Err(Unusable::Error(error)) => return Err(error).with_context(describe),
            Err(Unusable::Damaged(reason)) => {
                let aside = set_aside(path).with_context(describe)?;
                let rows = backup::read(&backup);
                let what = match &rows {
                    Ok(rows) => format!("{} offsets of its backup are used instead", rows.len()),
                    Err(error) => format!("there is no backup to use ({error:#}): files are read as if they were new"),
                };
                tracing::error!(
                    "{} is damaged ({reason}) and was set aside as {}; {what}",
                    describe(),
                    aside.display()
                );
                make(path).with_context(describe)?;
                (create(path).with_context(describe)?, rows.ok())
            }
        };
        let store = Mutex::new(Store { database: Some(database), path: Some(path.to_owned()) });
        let (dirty, flushing, backup) = (Mutex::default(), Mutex::default(), Some((backup, Mutex::new(None))));
        let checkpoint = Checkpoint { store, dirty, flushing, backup };
        checkpoint.prepare().with_context(describe)?;
        for (key, position) in restored.unwrap_or_default() {
            checkpoint.lock().insert(key, Change::Set(position));
        }
        checkpoint.flush()?;
        Ok(checkpoint)
    }

    /// One that is in memory only.
    pub fn in_memory() -> Result<Self> {
        let database = Database::builder().create_with_backend(redb::backends::InMemoryBackend::new())?;
        let store = Mutex::new(Store { database: Some(database), path: None });
        let checkpoint = Checkpoint { store, dirty: Mutex::default(), flushing: Mutex::default(), backup: None };
        checkpoint.prepare()?;
        Ok(checkpoint)
    }

    fn prepare(&self) -> Result<()> {
        self.with(prepare)
    }

    /// Does something with the database, which is opened again for the next time if that fails.
    fn with<T>(&self, act: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let done = act(store.open()?);
        if done.is_err() && store.path.is_some() {
            store.database = None;
        }
        done
    }

    /// The positions of a logstore's files.
    pub fn load(&self, logstore: &str) -> Result<HashMap<FileId, Position>> {
        let (first, last) = ((logstore, 0, 0), (logstore, u64::MAX, u64::MAX));
        let rows = self.with(|database| rows(database, first..=last))?;
        Ok(rows.into_iter().map(|((_, file), position)| (file, position)).collect())
    }

    /// Notes a position, to be written with the next [`Checkpoint::flush`].
    pub fn set(&self, logstore: &str, file: FileId, position: Position) {
        self.lock().insert((logstore.to_owned(), file), Change::Set(position));
    }

    /// Notes that a file is not found any more; its position is kept for a day.
    pub fn set_gone(&self, logstore: &str, file: FileId) {
        match self.lock().entry((logstore.to_owned(), file)).or_insert(Change::Gone) {
            Change::Set(position) => position.gone = Some(unix_now()),
            change => *change = Change::Gone,
        }
    }

    /// Notes that a file is deleted.
    pub fn remove(&self, logstore: &str, file: FileId) {
        self.lock().insert((logstore.to_owned(), file), Change::Remove);
    }

    /// Forgets what was noted and not written, as a kill does.
    pub fn forget_unwritten(&self) {
        self.lock().clear();
    }

    /// Writes what was noted, and syncs it.
    pub fn flush(&self) -> Result<()> {
        let _flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let dirty = std::mem::take(&mut *self.lock());
        if !dirty.is_empty() {
            let written = self.with(|database| write(database, &dirty));
            if written.is_err() {
                // Noted again for the next time, unless there is news by now.
                let mut now = self.lock();
                for (key, change) in dirty {
                    now.entry(key).or_insert(change);
                }
            }
            written.context("writing the checkpoint")?;
        } else if self.backup_age().is_some() {
            return Ok(());
        }
        match self.backup_age() {
            Some(age) if age < BACK_UP_EVERY => Ok(()),
            _ => self.back_up(),
        }
    }

    /// Writes the second file.
    pub fn back_up(&self) -> Result<()> {
        let Some((path, written)) = &self.backup else { return Ok(()) };
        *written.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        backup::write(path, &self.with(all_rows)?).context("writing the backup of the checkpoint")
    }

    fn backup_age(&self) -> Option<Duration> {
        let Some((_, written)) = &self.backup else { return Some(Duration::ZERO) };
        written.lock().unwrap_or_else(PoisonError::into_inner).map(|written| written.elapsed())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Change>> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(database: &Database, dirty: &HashMap<Key, Change>) -> Result<()> {
    let write = database.begin_write()?;
    {
        let mut table = write.open_table(POSITIONS)?;
        for ((logstore, file), change) in dirty {
            let key = (logstore.as_str(), file.device, file.inode);
            let position = match change {
                Change::Remove => {
                    table.remove(key)?;
                    continue;
                }
                Change::Set(position) => position.clone(),
                Change::Gone => {
                    let row = table.get(key)?.map(|row| serde_json::from_slice::<Position>(row.value()));
                    let Some(Ok(position)) = row else { continue };
                    Position { gone: Some(unix_now()), ..position }
                }
            };
            table.insert(key, serde_json::to_vec(&position)?.as_slice())?;
        }
    }
    Ok(write.commit()?)
}

/// All rows of a checkpoint, which an agent may be writing to meanwhile.
pub fn read(path: &Path) -> Result<Vec<(Key, Position)>> {
    let directory = tempfile::tempdir().context("a temporary directory")?;
    let mut last = anyhow!("it changes too fast");
    // What is copied while it is written may be torn: then it is copied again.
    for _ in 0..10 {
        let copy = directory.path().join("checkpoint.redb");
        fs::copy(path, &copy)?;
        match open_sound(&copy) {
            Ok(database) => return all_rows(&database),
            Err(Unusable::Damaged(reason)) => last = anyhow!("it is damaged: {reason}"),
            Err(Unusable::Error(error)) => last = error,
            Err(Unusable::InUse) => {}
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(last)
}

fn all_rows(database: &Database) -> Result<Vec<(Key, Position)>> {
    rows(database, ("", 0, 0)..)
}

/// The rows of these logstores and files.
fn rows<'k>(database: &Database, keys: impl RangeBounds<(&'k str, u64, u64)> + 'k) -> Result<Vec<(Key, Position)>> {
    let table = database.begin_read()?.open_table(POSITIONS)?;
    let mut all = Vec::new();
    for row in table.range(keys)? {
        let (key, value) = row?;
        let (logstore, device, inode) = key.value();
        all.push(((logstore.to_owned(), FileId { device, inode }), serde_json::from_slice(value.value())?));
    }
    Ok(all)
}

/// Makes a database that is not there, under another name first: a kill meanwhile leaves none, not half of one.
fn make(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let new = path.with_extension("redb.new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    prepare(&create(&new)?)?;
    Ok(fs::rename(&new, path)?)
}

fn create(path: &Path) -> Result<Database> {
    Ok(Database::builder().set_cache_size(CACHE).create(path)?)
}

/// Makes the tables, and drops the rows of files that have been gone for long.
fn prepare(database: &Database) -> Result<()> {
    let write = database.begin_write()?;
    {
        let mut meta = write.open_table(META)?;
        let format = meta.get("format")?.map(|value| value.value());
        match format {
            None => drop(meta.insert("format", FORMAT)?),
            Some(FORMAT) => {}
            Some(other) => bail!("it has format {other}, and this weir reads {FORMAT}"),
        }
        let oldest = unix_now().saturating_sub(KEEP_GONE.as_secs());
        let is_kept = |_: (&str, u64, u64), row: &[u8]| {
            let position: Result<Position, _> = serde_json::from_slice(row);
            position.is_ok_and(|position| position.gone.is_none_or(|gone| gone >= oldest))
        };
        write.open_table(POSITIONS)?.retain(is_kept)?;
    }
    Ok(write.commit()?)
}

/// Why a database cannot be used.
enum Unusable {
    InUse,
    Damaged(String),
    Error(anyhow::Error),
}

/// An agent that was killed has it for a moment longer: a process that it was just starting has its files until it is the
/// other program.
const FREE_WITHIN: Duration = Duration::from_secs(1);

/// Opens what another process may have and is about to let go of.
fn when_free<T>(mut open: impl FnMut() -> Result<T, Unusable>) -> Result<T, Unusable> {
    let begun = Instant::now();
    loop {
        match open() {
            Err(Unusable::InUse) if begun.elapsed() < FREE_WITHIN => std::thread::sleep(Duration::from_millis(5)),
            opened => return opened,
        }
    }
}

/// Opens or makes a database, and reads all of it once, so that damage is found now.
fn open_sound(path: &Path) -> Result<Database, Unusable> {
    // It checks its own checksums, but a damaged one can also make it panic.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let mut database = match Database::builder().set_cache_size(CACHE).create(path) {
            Ok(database) => database,
            Err(DatabaseError::DatabaseAlreadyOpen) => return Err(Unusable::InUse),
            Err(DatabaseError::Storage(redb::StorageError::Io(error))) if !is_damage(&error) => {
                return Err(Unusable::Error(error.into()));
            }
            Err(error) => return Err(Unusable::Damaged(error.to_string())),
        };
        match database.check_integrity() {
            Ok(_) => {}
            Err(DatabaseError::Storage(redb::StorageError::Io(error))) if !is_damage(&error) => {
                return Err(Unusable::Error(error.into()));
            }
            Err(error) => return Err(Unusable::Damaged(error.to_string())),
        }
        let is_new = database.begin_read().is_ok_and(|read| read.open_table(POSITIONS).is_err());
        match all_rows(&database) {
            Err(error) if !is_new => Err(Unusable::Damaged(format!("{error:#}"))),
            _ => Ok(database),
        }
    }));
    opened.unwrap_or_else(|_| Err(Unusable::Damaged("it is not readable".to_owned())))
}

fn is_damage(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
}

/// Renames a file to a name that is free.
fn set_aside(path: &Path) -> Result<PathBuf> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".damaged-{}", unix_now()));
    let mut free = PathBuf::from(&aside);
    let mut number = 1;
    while free.exists() {
        free = PathBuf::from(format!("{}-{number}", Path::new(&aside).display()));
        number += 1;
    }
    fs::rename(path, &free).with_context(|| format!("setting it aside as {}", free.display()))?;
    Ok(free)
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::identity::Stamp;
    use crate::source::place::Place;

    const FILE: FileId = FileId { device: 1, inode: u64::MAX };

    fn position(offset: u64) -> Position {
        let stamp = Stamp { looked: offset, head: 0, head_hash: 1, tail_hash: u64::MAX };
        Position { place: Place::at(offset), stamp, born: Some(3), path: "/a".into(), gone: None }
    }

    #[test]
    fn what_is_in_use_for_a_moment_is_waited_for() {
        let mut tries = 0;
        let opened = when_free(|| {
            tries += 1;
            if tries < 4 { Err(Unusable::InUse) } else { Ok(tries) }
        });
        assert_eq!(opened.ok(), Some(4));
        assert!(matches!(when_free(|| Err::<(), _>(Unusable::InUse)), Err(Unusable::InUse)));
        let mut tries = 0;
        let damaged = || {
            tries += 1;
            Err::<(), _>(Unusable::Damaged("it is".to_owned()))
        };
        assert!(matches!(when_free(damaged), Err(Unusable::Damaged(_))));
        assert_eq!(tries, 1);
    }

    #[test]
    fn positions_are_there_again_and_apart_by_logstore() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint.redb");
        {
            let checkpoint = Checkpoint::open(&path).unwrap();
            checkpoint.set("a/b", FILE, position(1));
            checkpoint.flush().unwrap();
            checkpoint.set("a/b", FILE, position(2));
            checkpoint.set("a/c", FILE, position(3));
            checkpoint.flush().unwrap();
            checkpoint.set("a/b", FILE, position(4));
            let again = Checkpoint::open(&path).err().unwrap().to_string();
            assert!(again.ends_with("is in use: another weir runs with this data_dir"), "{again}");
            // What is written can be read meanwhile.
            let rows = read(&path).unwrap();
            assert_eq!(rows.iter().map(|(_, position)| position.place.offset).collect::<Vec<_>>(), [2, 3]);
        }
        let checkpoint = Checkpoint::open(&path).unwrap();
        assert_eq!(checkpoint.load("a/b").unwrap(), HashMap::from([(FILE, position(2))]));
        assert_eq!(checkpoint.load("a/c").unwrap(), HashMap::from([(FILE, position(3))]));
        assert_eq!(checkpoint.load("a").unwrap(), HashMap::new());
    }

    #[test]
    fn files_that_are_gone_are_remembered_for_a_day() {
        let checkpoint = Checkpoint::in_memory().unwrap();
        let other = FileId { inode: 7, ..FILE };
        checkpoint.set("a/b", FILE, position(1));
        checkpoint.set("a/b", other, position(2));
        checkpoint.flush().unwrap();
        checkpoint.set_gone("a/b", FILE);
        checkpoint.remove("a/b", other);
        checkpoint.flush().unwrap();
        let rows = checkpoint.load("a/b").unwrap();
        assert_eq!(rows.len(), 1);
        assert!(rows[&FILE].gone.is_some());
        checkpoint.set("a/b", FILE, Position { gone: Some(unix_now() - 25 * 3600), ..position(1) });
        checkpoint.flush().unwrap();
        checkpoint.prepare().unwrap();
        assert_eq!(checkpoint.load("a/b").unwrap(), HashMap::new());
    }

    #[test]
    fn damage_is_set_aside_and_costs_what_came_after_the_backup() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint.redb");
        {
            let checkpoint = Checkpoint::open(&path).unwrap();
            checkpoint.set("a/b", FILE, position(1));
            checkpoint.flush().unwrap();
            checkpoint.back_up().unwrap();
            checkpoint.set("a/b", FILE, position(2));
            checkpoint.flush().unwrap();
        }
        let whole = fs::read(&path).unwrap();
        type Damage = fn(&mut Vec<u8>);
        let damages: [Damage; 4] = [
            |bytes| bytes.fill(0x55),
            |bytes| bytes.truncate(1000),
            |bytes| bytes.truncate(bytes.len() / 2),
            |bytes| bytes[..64].fill(0),
        ];
        for (number, damage) in damages.iter().enumerate() {
            let mut bytes = whole.clone();
            damage(&mut bytes);
            fs::write(&path, bytes).unwrap();
            let checkpoint = Checkpoint::open(&path).unwrap();
            assert_eq!(checkpoint.load("a/b").unwrap(), HashMap::from([(FILE, position(1))]), "{number}");
            let aside = fs::read_dir(dir.path()).unwrap().filter(|file| {
                file.as_ref().unwrap().file_name().to_string_lossy().starts_with("checkpoint.redb.damaged-")
            });
            assert_eq!(aside.count(), number + 1);
        }
    }

    #[test]
    fn a_flipped_byte_is_never_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint.redb");
        {
            let checkpoint = Checkpoint::open(&path).unwrap();
            for inode in 0..200 {
                checkpoint.set("a/b", FileId { device: 1, inode }, position(inode));
            }
            checkpoint.flush().unwrap();
            checkpoint.back_up().unwrap();
        }
        let whole = fs::read(&path).unwrap();
        let expected: HashMap<_, _> = (0..200).map(|inode| (FileId { device: 1, inode }, position(inode))).collect();
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..100 {
            let mut bytes = whole.clone();
            let at = random.usize(..bytes.len());
            bytes[at] ^= 1 << random.u8(..8);
            fs::write(&path, &bytes).unwrap();
            // It may not matter, or be found; either way the offsets are those that were written.
            let loaded = Checkpoint::open(&path).map(|checkpoint| checkpoint.load("a/b").unwrap());
            assert_eq!(loaded.ok(), Some(expected.clone()), "byte {at}");
        }
    }
}
