//! Files that the configuration grants to a plugin: those of one directory, read when the plugin takes its settings.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, MetadataExt, OpenOptions, OpenOptionsExt};

use super::guest::harmless;

/// What tells that a file has changed: device, inode, size, and its time.
pub type Stamp = (u64, u64, u64, i64, i64);

/// Bytes of a path that is shown.
const SHOWN: usize = 128;

/// Whoever opens a pipe so does not wait for its other end.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;

/// The files of a directory, and which of them were read.
pub struct Files {
    dir: PathBuf,
    /// As they were; none is a file that was not there.
    read: Mutex<BTreeMap<PathBuf, Option<Stamp>>>,
}

impl Files {
    /// All that is in that directory, which need not be there yet.
    pub fn new(dir: &Path) -> Arc<Self> {
        Arc::new(Files { dir: dir.to_owned(), read: Mutex::default() })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The whole content of a file, of at most so many bytes. The path is relative to the directory, and leads nowhere
    /// else. The error is for the plugin's user, and says nothing of what is elsewhere.
    pub(super) fn read(&self, path: &str, most: usize) -> Result<Vec<u8>, String> {
        let refused = |why: &str| format!("{}: {why}", harmless(path, SHOWN));
        let opened = self.open(Path::new(path));
        let stamp = opened.as_ref().ok().map(|(_, stamp)| *stamp);
        self.known().insert(path.into(), stamp);
        let (file, stamp) = opened.map_err(|error| refused(&error.to_string()))?;
        if stamp.2 > most as u64 {
            return Err(refused(&format!("it has {} bytes, and {most} more may be read", stamp.2)));
        }
        let mut bytes = Vec::new();
        file.take(most as u64 + 1).read_to_end(&mut bytes).map_err(|error| refused(&error.to_string()))?;
        // It may grow meanwhile.
        if bytes.len() > most {
            return Err(refused(&format!("it has more than the {most} bytes that may be read")));
        }
        Ok(bytes)
    }

    /// Whether another plugin that is granted these has read, or would read, the same.
    pub fn is_same(&self, other: &Files) -> bool {
        self.dir == other.dir && !self.has_changed() && !other.has_changed()
    }

    /// The files that were read, and what tells that each has changed; none: it is not there.
    pub fn stamps(&self) -> Vec<(PathBuf, Option<Stamp>)> {
        let known = self.known().clone();
        let now = |path: PathBuf| (self.dir.join(&path), self.open(&path).ok().map(|(_, stamp)| stamp));
        known.into_keys().map(now).collect()
    }

    /// Whether a file that was read is another one now.
    pub fn has_changed(&self) -> bool {
        let known = self.known().clone();
        known.iter().any(|(path, before)| self.open(path).ok().map(|(_, stamp)| stamp) != *before)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, Option<Stamp>>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, path: &Path) -> std::io::Result<(File, Stamp)> {
        let dir = Dir::open_ambient_dir(&self.dir, ambient_authority())
            .map_err(|error| std::io::Error::new(error.kind(), "the directory that is granted cannot be opened"))?;
        let file = dir.open_with(path, OpenOptions::new().read(true).custom_flags(NONBLOCK))?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(std::io::Error::other("it is not a file"));
        }
        Ok((file, (meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec())))
    }
}

/// Whether two grants, where there are any, give the same.
pub fn is_same(files: Option<&Arc<Files>>, other: Option<&Arc<Files>>) -> bool {
    match (files, other) {
        (None, None) => true,
        (Some(files), Some(other)) => Arc::ptr_eq(files, other) || files.is_same(other),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_in_the_directory_is_read_and_nothing_else() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("tables");
        fs::create_dir_all(dir.join("in")).unwrap();
        fs::write(dir.join("in/a.csv"), "a,1").unwrap();
        fs::write(temporary.path().join("secret"), "no").unwrap();
        symlink("in/a.csv", dir.join("link")).unwrap();
        symlink("../secret", dir.join("out")).unwrap();
        symlink(temporary.path().join("secret"), dir.join("absolute")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, dir.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let files = Files::new(&dir);
        assert_eq!(files.read("in/a.csv", 3).unwrap(), b"a,1");
        assert_eq!(files.read("link", 100).unwrap(), b"a,1");
        assert_eq!(files.read("in/a.csv", 2).unwrap_err(), "in/a.csv: it has 3 bytes, and 2 more may be read");
        let secret = temporary.path().join("secret").display().to_string();
        for outside in ["out", "absolute", "../secret", "in/../../secret", &secret, "/proc/self/environ"] {
            let error = files.read(outside, 100).unwrap_err();
            assert!(error.ends_with("a path led outside of the filesystem"), "{error}");
        }
        for no_file in ["in", "pipe", "."] {
            assert_eq!(files.read(no_file, 100).unwrap_err(), format!("{no_file}: it is not a file"));
        }
        assert_eq!(files.read("none\n", 100).unwrap_err(), "none\\n: No such file or directory (os error 2)");
        let nowhere = Files::new(&temporary.path().join("nowhere"));
        let error = nowhere.read("a.csv", 100).unwrap_err();
        assert_eq!(error, "a.csv: the directory that is granted cannot be opened");
    }

    #[test]
    fn what_was_read_is_the_same_until_it_changes() {
        let temporary = tempfile::tempdir().unwrap();
        let path = |name: &str| temporary.path().join(name);
        fs::write(path("a"), "1").unwrap();
        let (before, fresh) = (Files::new(temporary.path()), Files::new(temporary.path()));
        before.read("a", 10).unwrap();
        before.read("later", 10).unwrap_err();
        assert!(before.is_same(&fresh) && fresh.is_same(&before));
        // Of this one nothing was read.
        fs::write(path("b"), "1").unwrap();
        assert!(before.is_same(&fresh));
        fs::write(path("later"), "1").unwrap();
        assert!(!before.is_same(&fresh) && !fresh.is_same(&before));
        fs::remove_file(path("later")).unwrap();
        assert!(before.is_same(&fresh));
        fs::write(path("new"), "2").unwrap();
        fs::rename(path("new"), path("a")).unwrap();
        assert!(!before.is_same(&fresh));
        assert!(!fresh.is_same(&Files::new(&path("elsewhere"))));
    }
}
