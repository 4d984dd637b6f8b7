//! Settled offsets, on disk.
//!
//! An embedded database (redb) in `data_dir`, one row a file of a logstore: `shop/nginx` + device + inode, to the
//! [`Position`] as JSON. Only settled offsets are written, so that what a crash costs is duplicates of what was
//! unsettled, and nothing else. A commit is synced, and is either there whole or not at all.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};

use crate::source::identity::{FileId, Position};

/// Rows are read by this format's number; another one is refused.
const FORMAT: u64 = 1;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const POSITIONS: TableDefinition<(&str, u64, u64), &[u8]> = TableDefinition::new("positions");

/// Bytes of the database that are kept in memory.
const CACHE: usize = 1 << 20;

/// The database, and what has changed since it was last written.
pub struct Checkpoint {
    database: Database,
    dirty: Mutex<HashMap<(String, FileId), Position>>,
}

impl Checkpoint {
    /// Opens or makes the database.
    pub fn open(path: &Path) -> Result<Self> {
        let describe = || format!("the checkpoint {}", path.display());
        let database = match Database::builder().set_cache_size(CACHE).create(path) {
            Ok(database) => database,
            Err(DatabaseError::DatabaseAlreadyOpen) => {
                bail!("{} is in use: another weir runs with this data_dir", describe())
            }
            Err(error) => return Err(error).with_context(describe),
        };
        let write = database.begin_write()?;
        {
            let mut meta = write.open_table(META)?;
            let format = meta.get("format")?.map(|value| value.value());
            match format {
                None => drop(meta.insert("format", FORMAT)?),
                Some(FORMAT) => {}
                Some(other) => bail!("{} has format {other}, and this weir reads {FORMAT}", describe()),
            }
            write.open_table(POSITIONS)?;
        }
        write.commit()?;
        Ok(Checkpoint { database, dirty: Mutex::default() })
    }

    /// The positions of a logstore's files.
    pub fn load(&self, logstore: &str) -> Result<HashMap<FileId, Position>> {
        let table = self.database.begin_read()?.open_table(POSITIONS)?;
        let rows = table.range((logstore, 0, 0)..=(logstore, u64::MAX, u64::MAX))?;
        let read = |row: std::result::Result<(_, redb::AccessGuard<&[u8]>), _>| -> Result<_> {
            let (key, value): (redb::AccessGuard<(&str, u64, u64)>, _) = row?;
            let (_, device, inode) = key.value();
            Ok((FileId { device, inode }, serde_json::from_slice(value.value())?))
        };
        rows.map(read).collect()
    }

    /// Notes a position, to be written with the next [`Checkpoint::flush`].
    pub fn set(&self, logstore: &str, file: FileId, position: Position) {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner).insert((logstore.to_owned(), file), position);
    }

    /// Writes what was noted, and syncs it.
    pub fn flush(&self) -> Result<()> {
        let dirty = std::mem::take(&mut *self.dirty.lock().unwrap_or_else(PoisonError::into_inner));
        if dirty.is_empty() {
            return Ok(());
        }
        let written = self.write(&dirty);
        if written.is_err() {
            // Noted again for the next time, unless there is news by now.
            let mut now = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
            for (key, position) in dirty {
                now.entry(key).or_insert(position);
            }
        }
        written.context("writing the checkpoint")
    }

    fn write(&self, dirty: &HashMap<(String, FileId), Position>) -> Result<()> {
        let write = self.database.begin_write()?;
        {
            let mut table = write.open_table(POSITIONS)?;
            for ((logstore, file), position) in dirty {
                let row = serde_json::to_vec(position)?;
                table.insert((logstore.as_str(), file.device, file.inode), row.as_slice())?;
            }
        }
        write.commit()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_there_again_and_apart_by_logstore() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint.redb");
        let file = FileId { device: 1, inode: u64::MAX };
        let position = |offset| Position { offset, head: 0, head_hash: 1, tail_hash: u64::MAX, path: "/a".into() };
        {
            let checkpoint = Checkpoint::open(&path).unwrap();
            checkpoint.set("a/b", file, position(1));
            checkpoint.flush().unwrap();
            checkpoint.set("a/b", file, position(2));
            checkpoint.set("a/c", file, position(3));
            checkpoint.flush().unwrap();
            checkpoint.set("a/b", file, position(4));
            let again = Checkpoint::open(&path).err().unwrap().to_string();
            assert!(again.ends_with("is in use: another weir runs with this data_dir"), "{again}");
        }
        let checkpoint = Checkpoint::open(&path).unwrap();
        assert_eq!(checkpoint.load("a/b").unwrap(), HashMap::from([(file, position(2))]));
        assert_eq!(checkpoint.load("a/c").unwrap(), HashMap::from([(file, position(3))]));
        assert_eq!(checkpoint.load("a").unwrap(), HashMap::new());
    }
}
