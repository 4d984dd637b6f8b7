//! inotify, for speed. Whatever it misses, polling finds.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use notify::event::{EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::identity::FileId;

/// What may have changed below one root.
pub struct News {
    changes: Mutex<Changes>,
    /// Whether bytes that were written are no reason to wake.
    is_muted: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// Paths that may have changed.
#[derive(Default)]
pub struct Changes {
    /// Files that were written to.
    pub paths: HashSet<PathBuf>,
    /// Files that have come from disk.
    pub fetched: Vec<FileId>,
    /// Files may have come, gone or been renamed.
    pub everything: bool,
    /// It isn't known what happened.
    pub is_lost: bool,
}

impl News {
    /// No news yet; `wake` is called when some comes.
    pub fn new(wake: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        Arc::new(News { changes: Mutex::default(), is_muted: AtomicBool::new(false), wake })
    }

    /// What came since this was last asked. That files may have come or gone stays news if not `all`.
    pub fn take(&self, all: bool) -> Changes {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = std::mem::take(&mut *changes);
        if !all {
            (changes.everything, changes.is_lost) = (taken.everything, taken.is_lost);
        }
        taken
    }

    /// Says that bytes which are written are looked at soon in any case, or not.
    pub fn mute(&self, is_muted: bool) {
        self.is_muted.store(is_muted, Ordering::Relaxed);
    }

    /// Whether files may have come, gone or been renamed.
    pub fn is_urgent(&self) -> bool {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).everything
    }

    /// Says that a file has come from disk.
    pub fn fetched(&self, id: FileId) {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).fetched.push(id);
        (self.wake)();
    }

    fn add(&self, add: impl FnOnce(&mut Changes)) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let (had_paths, had_everything) = (!changes.paths.is_empty(), changes.everything);
        add(&mut changes);
        let is_new = match changes.everything {
            true => !had_everything,
            false => !had_paths && !self.is_muted.load(Ordering::Relaxed),
        };
        drop(changes);
        if is_new {
            (self.wake)();
        }
    }
}

/// Who wants to know of what is below a directory. There may be very many directories, and an event has one path.
type Roots = Arc<Mutex<HashMap<PathBuf, Vec<Weak<News>>>>>;

/// One inotify instance for all roots.
pub struct Watch {
    watcher: Mutex<Option<RecommendedWatcher>>,
    roots: Roots,
}

impl Watch {
    /// Starts watching nothing. Without inotify everything still works, as fast as it is polled.
    pub fn start() -> Arc<Self> {
        let roots: Roots = Arc::default();
        let handler_roots = roots.clone();
        let watcher = notify::recommended_watcher(move |event| tell(&handler_roots, event));
        let watcher = watcher.inspect_err(|error| tracing::warn!("no inotify, polling only: {error}")).ok();
        Arc::new(Watch { watcher: Mutex::new(watcher), roots })
    }

    /// Watches a root and all below it. Where that can't be, which is said, polling has to do.
    pub fn add(&self, root: &Path, news: &Arc<News>) -> bool {
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(watcher) = watcher.as_mut() else { return false };
        if let Err(error) = watcher.watch(root, RecursiveMode::Recursive) {
            tracing::warn!(root = ?root, "cannot be watched, polling only: {error}");
            return false;
        }
        let mut roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        let listeners = roots.entry(root.to_owned()).or_default();
        let news_of = Arc::downgrade(news);
        listeners.retain(|known| known.strong_count() > 0 && !known.ptr_eq(&news_of));
        listeners.push(news_of);
        // Something may have happened between the scan and the watch.
        drop(roots);
        news.add(|changes| (changes.everything, changes.is_lost) = (true, true));
        true
    }

    /// For tests: tells nobody of anything.
    pub fn deaf() -> Arc<Self> {
        Arc::new(Watch { watcher: Mutex::new(None), roots: Arc::default() })
    }
}

fn tell(roots: &Roots, event: notify::Result<notify::Event>) {
    let roots = roots.lock().unwrap_or_else(PoisonError::into_inner);
    let event = match event {
        Ok(event) if event.need_rescan() => None,
        Ok(event) => match event.kind {
            EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_)) => return,
            _ => Some(event),
        },
        Err(_) => None,
    };
    let Some(event) = event else {
        let all = roots.values().flatten().filter_map(Weak::upgrade);
        return all.for_each(|news| news.add(|changes| (changes.everything, changes.is_lost) = (true, true)));
    };
    let is_data = matches!(event.kind, EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any));
    for path in &event.paths {
        let listeners = path.ancestors().filter_map(|root| roots.get(root)).flatten();
        for news in listeners.filter_map(Weak::upgrade) {
            news.add(|changes| match is_data {
                true => drop(changes.paths.insert(path.clone())),
                false => changes.everything = true,
            });
        }
    }
}
