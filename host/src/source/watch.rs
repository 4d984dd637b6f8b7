//! inotify, for speed. Whatever it misses, polling finds.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use notify::event::{EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

/// What may have changed below one root.
pub struct News {
    changes: Mutex<Changes>,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// Paths that may have changed.
#[derive(Default)]
pub struct Changes {
    /// Files that were written to.
    pub paths: HashSet<PathBuf>,
    /// Files may have come, gone or been renamed.
    pub everything: bool,
    /// It isn't known what happened.
    pub is_lost: bool,
}

impl News {
    /// No news yet; `wake` is called when some comes.
    pub fn new(wake: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        Arc::new(News { changes: Mutex::default(), wake })
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

    fn add(&self, add: impl FnOnce(&mut Changes)) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = changes.paths.is_empty() && !changes.everything;
        add(&mut changes);
        let is_empty = changes.paths.is_empty() && !changes.everything;
        drop(changes);
        if was_empty && !is_empty {
            (self.wake)();
        }
    }
}

type Roots = Arc<Mutex<Vec<(PathBuf, Weak<News>)>>>;

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
        let news_of = Arc::downgrade(news);
        roots.retain(|(other, known)| other != root || !known.ptr_eq(&news_of));
        roots.push((root.to_owned(), news_of));
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
    for (root, news) in roots.iter() {
        let Some(news) = news.upgrade() else { continue };
        let Some(event) = &event else {
            news.add(|changes| (changes.everything, changes.is_lost) = (true, true));
            continue;
        };
        let is_data = matches!(event.kind, EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any));
        for path in event.paths.iter().filter(|path| path.starts_with(root)) {
            news.add(|changes| match is_data {
                true => drop(changes.paths.insert(path.clone())),
                false => changes.everything = true,
            });
        }
    }
}
