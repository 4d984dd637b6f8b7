//! The cache of compiled plugins: `<digest>-<engine>.cwasm` in a directory that only this user may enter.
//!
//! What is in there is machine code and is trusted: no file comes in but through this module. When there is more than
//! [`KEPT`], what has not been used for longest is removed; it is compiled again if it is needed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use rustix::process::getuid;
use tempfile::NamedTempFile;
use wasmtime::Engine;
use wasmtime::component::Component;

/// What the name of a file begins with that is being written.
const UNFINISHED: &str = "compiling-";

/// What the name of a compiled plugin ends with.
const COMPILED: &str = "cwasm";

/// An unfinished file of a cache that others use too is nobody's any more when it is so old.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

/// Bytes of compiled plugins that are kept. A plugin of Python's has 50 MB, one of Rust's less than 1.
const KEPT: u64 = 2 << 30;

/// Whose a cache is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// This process's alone: what another left unfinished is removed.
    Own,
    /// Other processes may compile into it at the same time.
    Shared,
}

pub(super) struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// The cache in that directory, which is made if need be.
    pub(super) fn open(directory: &Path, whose: Whose) -> Result<Self> {
        private_directory(directory)?;
        remove_unfinished(directory, if whose == Whose::Own { Duration::ZERO } else { FORGOTTEN })?;
        Ok(Cache { directory: directory.to_owned() })
    }

    /// The compiled plugin of that digest, if there is one that this engine can use.
    pub(super) fn known(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let path = self.path(engine, digest);
        if !path.exists() {
            return None;
        }
        let warn = |error: &anyhow::Error| {
            tracing::warn!(file = %path.display(), "compiled plugin is not usable, compiling again: {error:#}");
        };
        let component = load(engine, &path).inspect_err(warn).ok()?;
        // A file that cannot be touched is removed sooner than it need be.
        let _ = File::options().append(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Some(component)
    }

    /// A file to compile into.
    pub(super) fn begin(&self) -> Result<NamedTempFile> {
        tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.directory).context("writing the compiled plugin")
    }

    /// Keeps what has been compiled, and loads it.
    pub(super) fn keep(&self, engine: &Engine, digest: &str, file: NamedTempFile) -> Result<Component> {
        let path = self.path(engine, digest);
        file.persist(&path).context("keeping the compiled plugin")?;
        let component = load(engine, &path)?;
        if let Err(error) = remove_unused(&self.directory, KEPT, &path) {
            tracing::warn!("removing compiled plugins that have not been used for long: {error:#}");
        }
        Ok(component)
    }

    fn path(&self, engine: &Engine, digest: &str) -> PathBuf {
        self.directory.join(format!("{digest}-{:016x}.{COMPILED}", compatibility(engine)))
    }
}

/// Removes what has not been used for longest until no more than so many bytes are left, but never `newest`. Whoever
/// has one of them loaded keeps it.
fn remove_unused(directory: &Path, most: u64, newest: &Path) -> Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
        let path = entry?.path();
        // Another process may have removed it.
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if path.extension() == Some(OsStr::new(COMPILED)) && meta.is_file() {
            files.push((meta.modified()?, meta.len(), path));
        }
    }
    let mut kept: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    files.sort();
    for (_, bytes, path) in files {
        if kept <= most {
            break;
        }
        if path != newest {
            fs::remove_file(&path).or_else(gone).with_context(|| format!("removing {}", path.display()))?;
            kept -= bytes;
        }
    }
    Ok(())
}

fn gone(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Removes what whoever was killed while compiling has left, if it is so old.
fn remove_unfinished(directory: &Path, age: Duration) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        // An older weir gave them names that begin with `.tmp`.
        let is_unfinished = [UNFINISHED, ".tmp"].iter().any(|start| name.to_string_lossy().starts_with(start));
        let written = || entry.metadata().and_then(|meta| meta.modified());
        let is_old = || written().is_ok_and(|at| SystemTime::now().duration_since(at).unwrap_or_default() >= age);
        if is_unfinished && (age.is_zero() || is_old()) {
            let removed = fs::remove_file(entry.path()).or_else(gone);
            removed.with_context(|| format!("removing {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// A directory that nobody else may enter. An existing one is refused unless it is ours and private.
fn private_directory(path: &Path) -> Result<()> {
    let describe = || format!("the cache of compiled plugins, {}", path.display());
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(describe)?;
    let meta = fs::symlink_metadata(path).with_context(describe)?;
    ensure!(
        meta.is_dir() && meta.uid() == getuid().as_raw() && meta.mode() & 0o022 == 0,
        "{} must be a directory of weir's own user that nobody else can write to",
        describe()
    );
    Ok(())
}

/// Changes when compiled code of one engine is of no use to the other.
fn compatibility(engine: &Engine) -> u64 {
    use std::hash::{Hash, Hasher};
    struct Hash64(xxhash_rust::xxh3::Xxh3);
    impl Hasher for Hash64 {
        fn finish(&self) -> u64 {
            self.0.digest()
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut hasher = Hash64(xxhash_rust::xxh3::Xxh3::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

fn load(engine: &Engine, path: &Path) -> Result<Component> {
    // SAFETY: the file was written by wasmtime and put by this module into a directory that only this user can
    // write to; it is replaced by renaming, never changed. wasmtime itself refuses another version's output.
    #[allow(unsafe_code)]
    let component = unsafe { Component::deserialize_file(engine, path) };
    Ok(component?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files of these sizes, each used a second after the one before it.
    fn files(sizes: &[u64]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let directory = tempfile::tempdir().unwrap();
        let write = |(i, size): (usize, &u64)| {
            let path = directory.path().join(format!("{i}.cwasm"));
            let file = File::create(&path).unwrap();
            file.set_len(*size).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1000 + i as u64)).unwrap();
            path
        };
        let paths = sizes.iter().enumerate().map(write).collect();
        (directory, paths)
    }

    fn there(paths: &[PathBuf]) -> Vec<bool> {
        paths.iter().map(|path| path.exists()).collect()
    }

    #[test]
    fn what_has_not_been_used_for_longest_is_removed() {
        let (directory, paths) = files(&[10, 20, 30, 40]);
        remove_unused(directory.path(), 100, &paths[3]).unwrap();
        assert_eq!(there(&paths), [true; 4]);
        remove_unused(directory.path(), 75, &paths[3]).unwrap();
        assert_eq!(there(&paths), [false, false, true, true]);
    }

    #[test]
    fn the_newest_stays_however_large_and_what_is_no_plugin_too() {
        let (directory, paths) = files(&[50, 20]);
        let unfinished = directory.path().join("compiling-x");
        fs::write(&unfinished, [0; 100]).unwrap();
        remove_unused(directory.path(), 1, &paths[0]).unwrap();
        assert_eq!(there(&paths), [true, false]);
        assert!(unfinished.exists());
    }
}
