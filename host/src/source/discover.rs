//! Which files there are below a root, and opening them without ever leaving it.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, MetadataExt, OpenOptions, OpenOptionsExt};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::identity::FileId;

/// How deep a walk goes below the root.
const DEEPEST: usize = 32;

/// Refused paths that are remembered, so that each is told of once.
const MOST_TOLD: usize = 1000;

/// A file that was found.
pub struct Found {
    /// Relative to the root.
    pub path: PathBuf,
    /// Which file it is.
    pub id: FileId,
    /// Its size when it was looked at.
    pub len: u64,
}

/// A root and the globs of what is wanted below it.
pub struct Discovery {
    root: PathBuf,
    /// The root by its real name, which inotify reports.
    watched: PathBuf,
    include: GlobSet,
    exclude: GlobSet,
    /// How many directories deep the globs can match.
    depth: usize,
    dir: Option<Dir>,
    has_warned: bool,
    /// Symlinks that lead nowhere or out of the root, which were told of.
    refused: HashSet<PathBuf>,
}

impl Discovery {
    /// Globs are relative to the root; `*` does not cross a `/`, `**` does.
    pub fn new(root: &Path, include: &[String], exclude: &[String]) -> Result<Self> {
        let depth = |glob: &String| if glob.contains("**") { DEEPEST } else { glob.matches('/').count() };
        Ok(Discovery {
            root: root.to_owned(),
            watched: root.to_owned(),
            include: globs(include)?,
            exclude: globs(exclude)?,
            depth: include.iter().map(depth).max().unwrap_or(0),
            dir: None,
            has_warned: false,
            refused: HashSet::new(),
        })
    }

    /// Whether the root exists and can be read.
    pub fn is_open(&self) -> bool {
        self.dir.is_some()
    }

    /// The root by the name that inotify reports.
    pub fn watched_root(&self) -> &Path {
        &self.watched
    }

    /// Whether a path below the root is one that the globs want.
    pub fn is_wanted(&self, path: &Path) -> bool {
        self.include.is_match(path) && !self.exclude.is_match(path)
    }

    /// How many paths were found that lead nowhere, or out of the root.
    pub fn refused(&self) -> usize {
        self.refused.len()
    }

    /// All wanted files, by path. A root that is not there is reported once, and found when it appears.
    pub fn scan(&mut self) -> Vec<Found> {
        let mut found = Vec::new();
        match self.open_root() {
            Ok(dir) => {
                self.has_warned = false;
                self.walk(&dir, Path::new(""), 0, &mut found);
                self.dir = Some(dir);
            }
            Err(error) => {
                self.dir = None;
                if !self.has_warned {
                    tracing::warn!(root = %self.root.display(), "cannot read this root; its files are read when it can be: {error}");
                }
                self.has_warned = true;
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }

    /// Opens a file that was found, for reading. None if it is no file any more.
    pub fn open(&self, found: &Found) -> io::Result<Option<File>> {
        let Some(dir) = &self.dir else { return Ok(None) };
        // Without O_NONBLOCK a FIFO that has taken the file's place would hold the worker up.
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
        let file = dir.open_with(&found.path, &options)?.into_std();
        let meta = file.metadata()?;
        let same = meta.is_file() && meta.dev() == found.id.device && meta.ino() == found.id.inode;
        Ok(same.then_some(file))
    }

    /// The directory that has the root's name now: it may have been replaced since it was last opened.
    fn open_root(&mut self) -> io::Result<Dir> {
        let dir = Dir::open_ambient_dir(&self.root, ambient_authority())?;
        if self.dir.is_none() {
            self.watched = std::fs::canonicalize(&self.root)?;
        }
        Ok(dir)
    }

    fn walk(&mut self, dir: &Dir, at: &Path, depth: usize, found: &mut Vec<Found>) {
        let entries = match dir.entries() {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(directory = %self.root.join(at).display(), "cannot be listed: {error}");
                return;
            }
        };
        for entry in entries.flatten() {
            let path = at.join(entry.file_name());
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                if depth < self.depth
                    && let Ok(inner) = entry.open_dir()
                {
                    self.walk(&inner, &path, depth + 1, found);
                }
            } else if self.is_wanted(&path) {
                // Follows a symlink, but not to outside of the directory.
                let meta = if kind.is_symlink() { dir.metadata(entry.file_name()) } else { entry.metadata() };
                match meta {
                    Ok(meta) if meta.is_file() => {
                        let id = FileId { device: MetadataExt::dev(&meta), inode: MetadataExt::ino(&meta) };
                        if !found.iter().any(|f| kind.is_symlink() && f.id == id) {
                            found.push(Found { path, id, len: meta.len() });
                        }
                    }
                    Err(error)
                        if kind.is_symlink() && self.refused.len() < MOST_TOLD && self.refused.insert(path.clone()) =>
                    {
                        let link = self.root.join(&path);
                        tracing::warn!(link = %link.display(), "not read, for it leads nowhere or out of its root: {error}");
                    }
                    _ => {}
                }
            }
        }
    }
}

fn globs(patterns: &[String]) -> Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        set.add(glob.with_context(|| format!("the glob `{pattern}`"))?);
    }
    Ok(set.build()?)
}
