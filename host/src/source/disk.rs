//! A directory tree that cannot be left, as far as reading needs it: the real one here, a simulated one in tests.
//!
//! Every path is relative to the root and resolved below it (by cap-std): neither `..` nor a symbolic link leads out,
//! whatever is swapped while it is looked at. All is opened read-only.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirEntryExt, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, MetadataExt, OpenOptions, OpenOptionsExt};

use rustix::fs::OFlags;
use rustix::io::{Errno, ReadWriteFlags};

use super::fetch;
use super::identity::FileId;

/// What is in memory of a file begins and ends at multiples of this, or at the file's end.
const PAGE: u64 = 4096;

/// A directory that was changed less long ago may change again without another time of change: clocks are coarse.
const RECENT: Duration = Duration::from_secs(2);

/// A tree of directories below a root.
pub trait Tree: Send {
    /// Opens the directory that has the root's name now. Gives it by its real name, if it is another one than before.
    fn open_root(&mut self) -> io::Result<Option<PathBuf>>;

    /// What a directory is like; the root is the empty path.
    fn stamp(&self, directory: &Path) -> io::Result<DirStamp>;

    /// All names of a directory.
    fn list(&self, directory: &Path, each: &mut dyn FnMut(&OsStr, Kind, u64)) -> io::Result<()>;

    /// What a path leads to; symbolic links are followed as long as they stay inside.
    fn look(&self, path: &Path) -> io::Result<Meta>;

    /// Opens a file for reading. Never waits for anybody, whatever has taken the file's place.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Bytes>>;

    /// Whether inotify hears of all that is written below the root: not on network file systems and the like.
    fn is_heard(&self) -> bool;
}

/// An open file.
pub trait Bytes: Send {
    /// What it is like now.
    fn meta(&self) -> io::Result<Meta>;

    /// Reads into both parts, one after the other, as if in one moment. Gives how many bytes there were: fewer than there
    /// is room for only at the end.
    fn read_at(&self, parts: [&mut [u8]; 2], offset: u64) -> io::Result<usize>;

    /// The same, but never waits for a disk: [`io::ErrorKind::WouldBlock`] says that [`Bytes::fetch`] has to come first.
    fn read_now(&self, parts: [&mut [u8]; 2], offset: u64) -> io::Result<usize> {
        self.read_at(parts, offset)
    }

    /// Has the bytes from there on brought from disk to memory, as far as that can be, and calls `done`, perhaps on
    /// another thread.
    fn fetch(&self, _offset: u64, done: Done) {
        done();
    }
}

/// What is called when bytes have been brought from disk.
pub type Done = Box<dyn FnOnce() + Send>;

/// What a name in a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Anything else: a pipe, a device, a socket.
    Other,
}

/// As long as it is the same, a directory has the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirStamp {
    /// Which directory it is.
    pub id: FileId,
    /// When a name was last added or removed, in nanoseconds.
    pub changed: i128,
    /// Whether that is so short ago that more may come without changing it.
    pub is_recent: bool,
}

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Which file it is.
    pub id: FileId,
    /// When it was made, in Unix nanoseconds, where known.
    pub born: Option<i64>,
    /// Its size in bytes.
    pub len: u64,
    /// When it was last written.
    pub modified: Option<SystemTime>,
    /// How many names it has.
    pub links: u64,
    /// What it is.
    pub kind: Kind,
}

/// The file system.
pub struct Disk {
    root: PathBuf,
    dir: Option<Dir>,
    id: Option<FileId>,
    is_heard: bool,
}

impl Disk {
    /// What is below a directory, which need not be there yet.
    pub fn new(root: &Path) -> Self {
        Disk { root: root.to_owned(), dir: None, id: None, is_heard: false }
    }

    fn dir(&self) -> io::Result<&Dir> {
        self.dir.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// The path of a directory for the system: the root's is `.`.
fn name(directory: &Path) -> &Path {
    if directory.as_os_str().is_empty() { Path::new(".") } else { directory }
}

impl Tree for Disk {
    fn open_root(&mut self) -> io::Result<Option<PathBuf>> {
        // What is open keeps its inode: if that has the name still, it is the same.
        let is_same = |id| rustix::fs::stat(&self.root).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == id);
        if self.id.is_some_and(|FileId { device, inode }| is_same((device, inode))) {
            return Ok(None);
        }
        let opened = Dir::open_ambient_dir(&self.root, ambient_authority()).and_then(|dir| {
            let meta = dir.dir_metadata()?;
            Ok((dir, FileId { device: MetadataExt::dev(&meta), inode: MetadataExt::ino(&meta) }))
        });
        let (dir, id) = opened.inspect_err(|_| (self.dir, self.id) = (None, None))?;
        if self.id == Some(id) {
            return Ok(None);
        }
        self.is_heard = rustix::fs::fstatfs(&dir).is_ok_and(|fs| is_local(fs.f_type as u64));
        (self.dir, self.id) = (Some(dir), Some(id));
        std::fs::canonicalize(&self.root).map(Some)
    }

    fn stamp(&self, directory: &Path) -> io::Result<DirStamp> {
        let meta = match directory.as_os_str().is_empty() {
            true => self.dir()?.dir_metadata()?,
            false => self.dir()?.metadata(directory)?,
        };
        if !meta.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let changed = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(DirStamp {
            id: FileId { device: MetadataExt::dev(&meta), inode: MetadataExt::ino(&meta) },
            changed,
            is_recent: now.as_nanos() as i128 - changed < RECENT.as_nanos() as i128,
        })
    }

    fn list(&self, directory: &Path, each: &mut dyn FnMut(&OsStr, Kind, u64)) -> io::Result<()> {
        for entry in self.dir()?.read_dir(name(directory))? {
            let entry = entry?;
            // Where the directory doesn't say what it is, it is looked at.
            let Ok(kind) = entry.file_type() else { continue };
            let kind = match kind {
                kind if kind.is_file() => Kind::File,
                kind if kind.is_dir() => Kind::Directory,
                kind if kind.is_symlink() => Kind::Symlink,
                _ => Kind::Other,
            };
            let name: OsString = entry.file_name();
            each(&name, kind, DirEntryExt::ino(&entry));
        }
        Ok(())
    }

    fn look(&self, path: &Path) -> io::Result<Meta> {
        let meta = self.dir()?.metadata(path)?;
        let kind = match () {
            () if meta.is_file() => Kind::File,
            () if meta.is_dir() => Kind::Directory,
            () => Kind::Other,
        };
        Ok(Meta {
            id: FileId { device: MetadataExt::dev(&meta), inode: MetadataExt::ino(&meta) },
            born: meta.created().ok().and_then(|time| nanos(time.into_std())),
            len: meta.len(),
            modified: meta.modified().ok().map(|time| time.into_std()),
            links: MetadataExt::nlink(&meta),
            kind,
        })
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Bytes>> {
        // Without O_NONBLOCK a FIFO that has taken the file's place would hold the worker up.
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let open = |flags: OFlags| {
            let mut options = OpenOptions::new();
            options.read(true).custom_flags(flags.bits() as i32);
            self.dir()?.open_with(path, &options)
        };
        // Noting the time of a read in the inode costs as much as a small read, and waits for the file system's journal.
        let opened = match open(flags | OFlags::NOATIME) {
            // Only the file's owner may ask for that.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => open(flags),
            opened => opened,
        };
        Ok(Box::new(opened?.into_std()))
    }

    fn is_heard(&self) -> bool {
        self.is_heard
    }
}

impl Bytes for File {
    fn meta(&self) -> io::Result<Meta> {
        let meta = self.metadata()?;
        Ok(Meta {
            id: FileId { device: meta.dev(), inode: meta.ino() },
            born: meta.created().ok().and_then(nanos),
            len: meta.len(),
            modified: meta.modified().ok(),
            links: meta.nlink(),
            kind: if meta.is_file() { Kind::File } else { Kind::Other },
        })
    }

    fn read_at(&self, parts: [&mut [u8]; 2], offset: u64) -> io::Result<usize> {
        read(self, parts, offset, true)
    }

    fn read_now(&self, parts: [&mut [u8]; 2], offset: u64) -> io::Result<usize> {
        read(self, parts, offset, false)
    }

    fn fetch(&self, offset: u64, done: Done) {
        match self.try_clone() {
            Ok(file) => fetch::fetch(file, offset, done),
            // Whoever reads finds out what is wrong.
            Err(_) => done(),
        }
    }
}

fn read(file: &File, [first, second]: [&mut [u8]; 2], offset: u64, may_wait: bool) -> io::Result<usize> {
    let (len, all) = (first.len(), first.len() + second.len());
    let mut parts = [io::IoSliceMut::new(first), io::IoSliceMut::new(&mut second[..])];
    let mut got = match retry(|| rustix::io::preadv2(file, &mut parts, offset, ReadWriteFlags::NOWAIT)) {
        // Not ended by what is missing in memory, which begins with a page: it ends here.
        Ok(got) if got == 0 || got == all || !(offset + got as u64).is_multiple_of(PAGE) => return Ok(got),
        Ok(got) => got,
        Err(Errno::AGAIN) if !may_wait => return Err(io::ErrorKind::WouldBlock.into()),
        // A file system that cannot tell, or a kernel.
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
            retry(|| rustix::io::preadv(file, &mut parts, offset))?
        }
        Err(error) => return Err(error.into()),
    };
    while got >= len && got < all {
        let (rest, at) = (&mut second[got - len..], offset + got as u64);
        let more = match may_wait {
            true => retry(|| rustix::io::pread(file, &mut *rest, at))?,
            false => {
                let mut parts = [io::IoSliceMut::new(rest)];
                retry(|| rustix::io::preadv2(file, &mut parts, at, ReadWriteFlags::NOWAIT))?
            }
        };
        match more {
            0 => break,
            more => got += more,
        }
    }
    Ok(got)
}

fn retry(mut read: impl FnMut() -> rustix::io::Result<usize>) -> rustix::io::Result<usize> {
    loop {
        match read() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

fn nanos(time: SystemTime) -> Option<i64> {
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_nanos()).ok()
}

/// Whether all writers of a file system are on this machine and known to its kernel.
fn is_local(kind: u64) -> bool {
    // ext2 to ext4, XFS, Btrfs, tmpfs, F2FS, ZFS: from Linux's magic.h.
    [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0xf2f5_2010, 0x2fc1_2fc1].contains(&kind)
}
