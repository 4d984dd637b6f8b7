//! Small files that are written whole or not at all, whenever the process is killed or the power fails.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::process::geteuid;

/// What the name of a file begins with that is being written. No other does.
pub const UNFINISHED: &str = ".new-";

/// The two directories of the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// Plugins by their digests.
    Blobs,
    /// What is known of each logstore's.
    Logstores,
}

/// The steps in which files are written: the real ones here, simulated ones in tests.
pub trait Disk: Send + Sync {
    /// All names in a room.
    fn list(&self, room: Room) -> io::Result<Vec<String>>;

    /// A file's content, and an error if it has more than `most` bytes.
    fn read(&self, room: Room, name: &str, most: u64) -> io::Result<Vec<u8>>;

    /// Writes a new file that is on disk then, under a name that begins with [`UNFINISHED`].
    fn write(&self, room: Room, bytes: &[u8]) -> io::Result<String>;

    /// Gives a file another name, in place of whatever has it.
    fn rename(&self, room: Room, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, room: Room, name: &str) -> io::Result<()>;

    /// Has the names of a room on disk.
    fn sync(&self, room: Room) -> io::Result<()>;
}

/// A directory that nobody else may enter.
pub struct Private {
    root: PathBuf,
}

impl Private {
    /// Makes the directory and its rooms, if need be.
    pub fn open(root: &Path) -> Result<Self> {
        let disk = Private { root: root.to_owned() };
        for path in [root.to_owned(), disk.path(Room::Blobs), disk.path(Room::Logstores)] {
            make(&path).with_context(|| format!("the directory of uploaded plugins, {}", path.display()))?;
        }
        Ok(disk)
    }

    fn path(&self, room: Room) -> PathBuf {
        self.root.join(match room {
            Room::Blobs => "blobs",
            Room::Logstores => "logstores",
        })
    }
}

fn make(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let meta = fs::symlink_metadata(path)?;
    ensure!(meta.is_dir() && meta.uid() == geteuid().as_raw(), "it must be a directory of weir's own user");
    if meta.mode() & 0o077 != 0 {
        // Whoever mounts a volume may have opened it to a group.
        fs::set_permissions(path, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

impl Disk for Private {
    fn list(&self, room: Room) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(self.path(room))?.map(|entry| Ok(entry?.file_name().into_string()));
        Ok(entries.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    fn read(&self, room: Room, name: &str, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path(room).join(name))?.take(most + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > most {
            true => Err(io::Error::other(format!("it has more than {most} bytes"))),
            false => Ok(bytes),
        }
    }

    fn write(&self, room: Room, bytes: &[u8]) -> io::Result<String> {
        let name = format!("{UNFINISHED}{:016x}", fastrand::u64(..));
        let path = self.path(room).join(&name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // What a full disk has no room for must not take more of it.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(name)
    }

    fn rename(&self, room: Room, from: &str, to: &str) -> io::Result<()> {
        let room = self.path(room);
        fs::rename(room.join(from), room.join(to))
    }

    fn remove(&self, room: Room, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(room).join(name))
    }

    fn sync(&self, room: Room) -> io::Result<()> {
        File::open(self.path(room))?.sync_all()
    }
}
