//! The file systems on which schedules are run: a simulated one, and the real one.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use crate::source::disk::{Bytes, DirStamp, Disk, Done, Kind, Meta, Tree};
use crate::source::identity::FileId;

/// What is outside of every root, and must never come out.
pub const SECRET: &str = "<secret>";

/// One read of so many has to come from disk first.
const COLD: usize = 5;

/// One time of so many that it is asked for, it is not there yet.
const SLOW: usize = 3;

/// A file system as its writers see it. Files are known by handles, whatever their names.
pub trait World {
    /// The root that the agent reads.
    fn root(&self) -> PathBuf;
    /// The agent's view of it.
    fn tree(&self) -> Box<dyn Tree>;
    /// Makes a file with that name, which replaces another one.
    fn create(&mut self, name: &str) -> usize;
    fn append(&mut self, file: usize, bytes: &[u8]);
    fn truncate(&mut self, file: usize);
    fn rename(&mut self, from: &str, to: &str);
    fn remove(&mut self, name: &str);
    /// Makes a link, or lets it lead elsewhere. `../secret` is outside.
    fn link(&mut self, name: &str, to: &str);
    /// Closes the writer's handle.
    fn close(&mut self, file: usize);
    fn id(&self, file: usize) -> FileId;
    /// What the agent wants to have fetched from disk may be there by now.
    fn fetch(&mut self) {}
}

#[derive(Default)]
struct State {
    files: Vec<Inode>,
    names: BTreeMap<PathBuf, Name>,
    /// Inodes that are free to be used again.
    free: Vec<u64>,
    next_inode: u64,
    /// Each change takes a nanosecond.
    time: u64,
    changed: i128,
    /// Reads that must not wait, of which some would have to.
    reads: usize,
    fetches: Vec<Done>,
    asked: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Name {
    File(usize),
    Link(PathBuf),
}

struct Inode {
    number: u64,
    bytes: Vec<u8>,
    born: u64,
    modified: u64,
    /// Names, the writer, and the agent's descriptors.
    links: usize,
    writer: bool,
    open: usize,
    is_freed: bool,
}

impl State {
    fn tick(&mut self) -> u64 {
        self.time += 1;
        self.time
    }

    fn release(&mut self, file: usize) {
        let inode = &mut self.files[file];
        if inode.links == 0 && !inode.writer && inode.open == 0 && !inode.is_freed {
            inode.is_freed = true;
            inode.bytes = Vec::new();
            self.free.push(inode.number);
        }
    }

    fn unlink(&mut self, name: &Path) {
        self.changed = i128::from(self.tick());
        if let Some(Name::File(file)) = self.names.remove(name) {
            self.files[file].links -= 1;
            self.release(file);
        }
    }

    fn resolve(&self, path: &Path) -> io::Result<usize> {
        match self.names.get(path) {
            None => Err(io::ErrorKind::NotFound.into()),
            Some(Name::File(file)) => Ok(*file),
            Some(Name::Link(to)) if to.starts_with("..") => Err(io::ErrorKind::PermissionDenied.into()),
            Some(Name::Link(to)) => match self.names.get(to) {
                Some(Name::File(file)) => Ok(*file),
                _ => Err(io::ErrorKind::NotFound.into()),
            },
        }
    }

    fn meta(&self, file: usize) -> Meta {
        let inode = &self.files[file];
        Meta {
            id: FileId { device: 1, inode: inode.number },
            born: Some(inode.born as i64),
            len: inode.bytes.len() as u64,
            modified: Some(UNIX_EPOCH + Duration::from_nanos(inode.modified)),
            links: inode.links as u64,
            kind: Kind::File,
        }
    }
}

/// A file system in memory. Inodes are used again at once.
#[derive(Clone, Default)]
pub struct Simulated(Arc<Mutex<State>>);

impl World for Simulated {
    fn root(&self) -> PathBuf {
        "/logs".into()
    }

    fn tree(&self) -> Box<dyn Tree> {
        Box::new(SimulatedTree { world: self.clone(), is_open: false })
    }

    fn create(&mut self, name: &str) -> usize {
        let mut state = self.0.lock().unwrap();
        if state.names.contains_key(Path::new(name)) {
            state.unlink(Path::new(name));
        }
        let number = state.free.pop().unwrap_or_else(|| {
            state.next_inode += 1;
            state.next_inode
        });
        let time = state.tick();
        state.changed = i128::from(time);
        let inode = Inode {
            number,
            bytes: Vec::new(),
            born: time,
            modified: time,
            links: 1,
            writer: true,
            open: 0,
            is_freed: false,
        };
        state.files.push(inode);
        let file = state.files.len() - 1;
        state.names.insert(name.into(), Name::File(file));
        file
    }

    fn append(&mut self, file: usize, bytes: &[u8]) {
        let mut state = self.0.lock().unwrap();
        state.files[file].modified = state.tick();
        state.files[file].bytes.extend_from_slice(bytes);
    }

    fn truncate(&mut self, file: usize) {
        let mut state = self.0.lock().unwrap();
        state.files[file].modified = state.tick();
        state.files[file].bytes.clear();
    }

    fn rename(&mut self, from: &str, to: &str) {
        let mut state = self.0.lock().unwrap();
        if state.names.contains_key(Path::new(to)) {
            state.unlink(Path::new(to));
        }
        let name = state.names.remove(Path::new(from)).expect("a name to rename");
        state.names.insert(to.into(), name);
        state.changed = i128::from(state.tick());
    }

    fn remove(&mut self, name: &str) {
        self.0.lock().unwrap().unlink(Path::new(name));
    }

    fn link(&mut self, name: &str, to: &str) {
        let mut state = self.0.lock().unwrap();
        if state.names.contains_key(Path::new(name)) {
            state.unlink(Path::new(name));
        }
        state.names.insert(name.into(), Name::Link(to.into()));
        state.changed = i128::from(state.tick());
    }

    fn close(&mut self, file: usize) {
        let mut state = self.0.lock().unwrap();
        state.files[file].writer = false;
        state.release(file);
    }

    fn id(&self, file: usize) -> FileId {
        self.0.lock().unwrap().meta(file).id
    }

    fn fetch(&mut self) {
        let mut state = self.0.lock().unwrap();
        state.asked += 1;
        if state.asked.is_multiple_of(SLOW) {
            return;
        }
        let fetches = std::mem::take(&mut state.fetches);
        drop(state);
        fetches.into_iter().for_each(|done| done());
    }
}

struct SimulatedTree {
    world: Simulated,
    is_open: bool,
}

impl Tree for SimulatedTree {
    fn open_root(&mut self) -> io::Result<Option<PathBuf>> {
        let was_open = std::mem::replace(&mut self.is_open, true);
        Ok((!was_open).then(|| self.world.root()))
    }

    fn stamp(&self, _: &Path) -> io::Result<DirStamp> {
        let state = self.world.0.lock().unwrap();
        Ok(DirStamp { id: FileId { device: 1, inode: 0 }, changed: state.changed, is_recent: false })
    }

    fn list(&self, _: &Path, each: &mut dyn FnMut(&OsStr, Kind, u64)) -> io::Result<()> {
        let names: Vec<_> = {
            let state = self.world.0.lock().unwrap();
            let kind = |name: &Name| match name {
                Name::File(file) => (Kind::File, state.files[*file].number),
                Name::Link(_) => (Kind::Symlink, u64::MAX),
            };
            state.names.iter().map(|(path, name)| (path.clone(), kind(name))).collect()
        };
        names.iter().for_each(|(path, (kind, inode))| each(path.as_os_str(), *kind, *inode));
        Ok(())
    }

    fn look(&self, path: &Path) -> io::Result<Meta> {
        let state = self.world.0.lock().unwrap();
        Ok(state.meta(state.resolve(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Bytes>> {
        let mut state = self.world.0.lock().unwrap();
        let file = state.resolve(path)?;
        state.files[file].open += 1;
        Ok(Box::new(SimulatedFile { world: self.world.clone(), file }))
    }

    fn is_heard(&self) -> bool {
        false
    }
}

struct SimulatedFile {
    world: Simulated,
    file: usize,
}

impl Bytes for SimulatedFile {
    fn meta(&self) -> io::Result<Meta> {
        Ok(self.world.0.lock().unwrap().meta(self.file))
    }

    fn read_at(&self, parts: [&mut [u8]; 2], offset: u64) -> io::Result<usize> {
        let state = self.world.0.lock().unwrap();
        let mut from = state.files[self.file].bytes.get(offset as usize..).unwrap_or_default();
        let mut got = 0;
        for part in parts {
            let len = part.len().min(from.len());
            part[..len].copy_from_slice(&from[..len]);
            from = &from[len..];
            got += len;
        }
        Ok(got)
    }

    fn read_now(&self, parts: [&mut [u8]; 2], offset: u64) -> io::Result<usize> {
        let mut state = self.world.0.lock().unwrap();
        state.reads += 1;
        if state.reads.is_multiple_of(COLD) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        drop(state);
        self.read_at(parts, offset)
    }

    fn fetch(&self, _: u64, done: Done) {
        self.world.0.lock().unwrap().fetches.push(done);
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        let mut state = self.world.0.lock().unwrap();
        state.files[self.file].open -= 1;
        state.release(self.file);
    }
}

/// A directory.
pub struct Real {
    directory: TempDir,
    files: Vec<(Option<File>, FileId)>,
}

impl Real {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("logs")).unwrap();
        fs::write(directory.path().join("secret"), format!("{SECRET}\n")).unwrap();
        Real { directory, files: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }
}

impl World for Real {
    fn root(&self) -> PathBuf {
        self.directory.path().join("logs")
    }

    fn tree(&self) -> Box<dyn Tree> {
        Box::new(Disk::new(&self.root()))
    }

    fn create(&mut self, name: &str) -> usize {
        let path = self.path(name);
        let _ = fs::remove_file(&path);
        let file = OpenOptions::new().create_new(true).append(true).open(path).unwrap();
        // Files are begun in the order of these times, which the kernel's clock may not tell apart.
        let later = Duration::from_millis(self.files.len() as u64);
        file.set_modified(SystemTime::now() - Duration::from_secs(60) + later).unwrap();
        let meta = file.metadata().unwrap();
        self.files.push((Some(file), FileId { device: meta.dev(), inode: meta.ino() }));
        self.files.len() - 1
    }

    fn append(&mut self, file: usize, bytes: &[u8]) {
        let later = Duration::from_millis(file as u64);
        let file = self.files[file].0.as_mut().unwrap();
        file.write_all(bytes).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60) + later).unwrap();
    }

    fn truncate(&mut self, file: usize) {
        self.files[file].0.as_ref().unwrap().set_len(0).unwrap();
    }

    fn rename(&mut self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn remove(&mut self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    fn link(&mut self, name: &str, to: &str) {
        let path = self.path(name);
        let _ = fs::remove_file(&path);
        std::os::unix::fs::symlink(to, path).unwrap();
    }

    fn close(&mut self, file: usize) {
        self.files[file].0 = None;
    }

    fn id(&self, file: usize) -> FileId {
        self.files[file].1
    }
}
