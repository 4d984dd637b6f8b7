//! Which files there are below a root.
//!
//! A directory is listed again only if a name in it may have changed, and a name is looked at again only if it has
//! become another inode's: 10,000 quiet files cost one call a directory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::{Context, Result};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::disk::{Bytes, DirStamp, Kind, Meta, Tree};
use super::identity::FileId;
use crate::hint;

/// How deep a walk goes below the root.
const DEEPEST: usize = 32;

/// Refused paths that are remembered, so that each is told of once.
const MOST_TOLD: usize = 1000;

/// A file that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Relative to the root.
    pub path: PathBuf,
    /// What it was when its name was first seen.
    pub meta: Meta,
}

/// A root and the globs of what is wanted below it.
pub struct Discovery {
    tree: Box<dyn Tree>,
    root: PathBuf,
    /// The root by its real name, which inotify reports.
    watched: PathBuf,
    include: Arc<GlobSet>,
    exclude: Arc<GlobSet>,
    /// How many directories deep the globs can match.
    depth: usize,
    directories: HashMap<PathBuf, Box<Directory>>,
    is_open: bool,
    has_warned: bool,
    /// Symlinks that lead nowhere or out of the root, which were told of.
    refused: HashSet<PathBuf>,
}

/// A directory as it was last listed.
struct Directory {
    stamp: DirStamp,
    /// With the inode that the directory says.
    files: HashMap<OsString, (u64, Meta)>,
    /// Looked at each time: what they lead to may change without them.
    links: HashMap<OsString, Option<Meta>>,
    inner: Vec<OsString>,
}

/// What a scan found.
pub enum Scan {
    /// The same as before.
    Same,
    /// All wanted files, by path.
    Changed(Vec<Found>),
}

impl Discovery {
    /// Globs are relative to the root; `*` does not cross a `/`, `**` does.
    pub fn new(root: &Path, include: &[String], exclude: &[String], tree: Box<dyn Tree>) -> Result<Self> {
        let depth = |glob: &String| if glob.contains("**") { DEEPEST } else { glob.matches('/').count() };
        Ok(Discovery {
            tree,
            root: root.to_owned(),
            watched: root.to_owned(),
            include: globs(include)?,
            exclude: globs(exclude)?,
            depth: include.iter().map(depth).max().unwrap_or(0),
            directories: HashMap::new(),
            is_open: false,
            has_warned: false,
            refused: HashSet::new(),
        })
    }

    /// Whether the root exists and can be read.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether inotify hears of all that is written.
    pub fn is_heard(&self) -> bool {
        self.tree.is_heard()
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

    /// Looks for files by inode, whatever their names: those that rotation has given one that the globs don't want.
    pub fn find(&self, inodes: &HashSet<u64>) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for directory in self.directories.keys() {
            // One that can't be listed has been told of.
            let _ = self.tree.list(directory, &mut |name, kind, inode| {
                if kind == Kind::File && inodes.contains(&inode) {
                    found.push(directory.join(name));
                }
            });
        }
        found
    }

    /// Looks for wanted files; `all`: also where nothing seems to have changed. A root that is not there is reported
    /// once, and found when it appears. Gives whether the root is another directory than before.
    pub fn scan(&mut self, all: bool) -> (Scan, bool) {
        let is_new = match self.tree.open_root() {
            Ok(None) => false,
            Ok(Some(watched)) => {
                self.watched = watched;
                self.directories.clear();
                true
            }
            Err(error) => {
                if !self.has_warned {
                    self.warn(&error);
                }
                self.has_warned = true;
                let was_open = std::mem::take(&mut self.is_open);
                self.directories.clear();
                return (if was_open { Scan::Changed(Vec::new()) } else { Scan::Same }, false);
            }
        };
        if self.has_warned {
            tracing::info!(root = ?self.root, "this root can be read now");
        }
        (self.has_warned, self.is_open) = (false, true);
        let mut before = std::mem::take(&mut self.directories);
        let mut walk = Walk { has_changed: is_new, all, before: &mut before };
        self.visit(Path::new(""), 0, &mut walk);
        let has_changed = walk.has_changed || !before.is_empty();
        if !has_changed {
            return (Scan::Same, false);
        }
        let mut found: Vec<Found> = Vec::new();
        for (directory, listed) in &self.directories {
            let files = listed.files.iter().map(|(name, (_, meta))| (name, *meta));
            let links = listed.links.iter().filter_map(|(name, meta)| Some((name, (*meta)?)));
            found.extend(files.chain(links).map(|(name, meta)| Found { path: directory.join(name), meta }));
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        (Scan::Changed(found), is_new)
    }

    /// Gives all files at the next scan, as if they were new.
    pub fn forget(&mut self) {
        self.directories.clear();
    }

    /// What a wanted path leads to.
    pub fn look(&self, path: &Path) -> io::Result<Meta> {
        self.tree.look(path)
    }

    /// Opens a file that was found, for reading. None if it is another one by now, or no file.
    pub fn open(&self, path: &Path, id: FileId) -> io::Result<Option<Box<dyn Bytes>>> {
        let file = self.tree.open(path)?;
        let meta = file.meta()?;
        Ok((meta.kind == Kind::File && meta.id == id).then_some(file))
    }

    fn visit(&mut self, path: &Path, depth: usize, walk: &mut Walk) {
        let Ok(stamp) = self.tree.stamp(path) else {
            // It has gone since it was listed, or may not be entered.
            return;
        };
        let before = walk.before.remove(path);
        let mut listed = match before {
            Some(known) if known.stamp == stamp && !stamp.is_recent && !walk.all => known,
            before => {
                let listed = self.list(path, depth, stamp, before.as_deref());
                let is_other = before.as_ref().is_none_or(|before| {
                    before.files.len() != listed.files.len()
                        || before.inner != listed.inner
                        || listed
                            .files
                            .iter()
                            .any(|(name, (inode, _))| before.files.get(name).is_none_or(|f| f.0 != *inode))
                });
                walk.has_changed |= is_other;
                match before {
                    // The same stays where it is in memory.
                    Some(mut known) if !is_other => {
                        (known.stamp, known.links) = (listed.stamp, listed.links);
                        known
                    }
                    Some(mut place) => {
                        *place = listed;
                        place
                    }
                    None => Box::new(listed),
                }
            }
        };
        for (name, meta) in &mut listed.links {
            let link = path.join(name);
            let now = match self.tree.look(&link) {
                Ok(meta) => (meta.kind == Kind::File).then_some(meta),
                Err(error) => {
                    self.refuse(&link, &error);
                    None
                }
            };
            walk.has_changed |= now.map(|meta| meta.id) != meta.map(|meta| meta.id);
            *meta = now;
        }
        for name in &listed.inner {
            self.visit(&path.join(name), depth + 1, walk);
        }
        self.directories.insert(path.to_owned(), listed);
    }

    fn list(&self, path: &Path, depth: usize, stamp: DirStamp, before: Option<&Directory>) -> Directory {
        let mut listed = Directory { stamp, files: HashMap::new(), links: HashMap::new(), inner: Vec::new() };
        let result = self.tree.list(path, &mut |name, kind, inode| {
            let whole = path.join(name);
            let is_wanted = kind != Kind::Directory && self.is_wanted(&whole);
            match kind {
                Kind::Directory if depth < self.depth => listed.inner.push(name.to_owned()),
                Kind::File if is_wanted => {
                    let known = before.and_then(|before| before.files.get(name)).filter(|known| known.0 == inode);
                    let meta = known.map(|known| known.1).or_else(|| self.tree.look(&whole).ok());
                    if let Some(meta) = meta.filter(|meta| meta.kind == Kind::File) {
                        listed.files.insert(name.to_owned(), (inode, meta));
                    }
                }
                Kind::Symlink if is_wanted => {
                    let known = before.and_then(|before| before.links.get(name)).copied().flatten();
                    listed.links.insert(name.to_owned(), known);
                }
                _ => {}
            }
        });
        if let Err(error) = result
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(directory = ?self.root.join(path), "cannot be listed: {error}");
        }
        listed.inner.sort();
        listed
    }

    fn warn(&self, error: &io::Error) {
        let (root, hint) = (&self.root, hint::near(&self.root));
        let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        match error.kind() {
            io::ErrorKind::NotFound => {
                tracing::warn!(?root, "this root does not exist; its files are read when it does{hint}");
            }
            _ => tracing::warn!(?root, "cannot read this root; its files are read when it can be: {error}{hint}"),
        }
    }

    fn refuse(&mut self, link: &Path, error: &io::Error) {
        if self.refused.len() < MOST_TOLD && self.refused.insert(link.to_owned()) {
            let link = self.root.join(link);
            tracing::warn!(link = ?link, "not read, for it leads nowhere or out of its root: {error}");
        }
    }
}

struct Walk<'a> {
    has_changed: bool,
    all: bool,
    /// Directories of the last scan that were not visited in this one.
    before: &'a mut HashMap<PathBuf, Box<Directory>>,
}

/// Glob sets that are in use, by their patterns: one takes some 10 KiB, and most logstores have the same.
static GLOBS: Mutex<BTreeMap<Vec<String>, Weak<GlobSet>>> = Mutex::new(BTreeMap::new());

fn globs(patterns: &[String]) -> Result<Arc<GlobSet>> {
    let mut known = GLOBS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(set) = known.get(patterns).and_then(Weak::upgrade) {
        return Ok(set);
    }
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        set.add(glob.with_context(|| format!("the glob `{pattern}`"))?);
    }
    let set = Arc::new(set.build()?);
    known.retain(|_, set| set.strong_count() > 0);
    known.insert(patterns.to_owned(), Arc::downgrade(&set));
    Ok(set)
}
