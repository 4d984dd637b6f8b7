//! inotify, for speed. Whatever it misses, polling finds.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

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
    pub paths: HashSet<OsString>,
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

    /// Gives whether it was a reason to wake.
    fn add(&self, add: impl FnOnce(&mut Changes)) -> bool {
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
        is_new
    }
}

/// Who wants to know of what is below a directory. There may be very many directories, and an event has one path.
#[derive(Default)]
struct Roots {
    listeners: HashMap<OsString, Vec<Weak<News>>>,
    /// Of the directories' names, in bytes, so that only such beginnings of a path are looked up.
    lengths: BTreeSet<usize>,
}

impl Roots {
    fn listeners(&mut self, root: &Path) -> &mut Vec<Weak<News>> {
        self.lengths.insert(root.as_os_str().len());
        self.listeners.entry(root.as_os_str().to_owned()).or_default()
    }

    fn all(&self) -> impl Iterator<Item = Arc<News>> {
        self.listeners.values().flatten().filter_map(Weak::upgrade)
    }

    fn of(&self, path: &OsStr) -> impl Iterator<Item = Arc<News>> {
        let bytes = path.as_bytes();
        let is_above = |len: &usize| bytes.get(*len).is_none_or(|next| *next == b'/') || bytes[..*len].ends_with(b"/");
        let above = self.lengths.range(..=bytes.len()).copied().filter(is_above);
        let found = above.filter_map(|len| self.listeners.get(OsStr::from_bytes(&bytes[..len])));
        found.flatten().filter_map(Weak::upgrade)
    }
}

/// Events in a row that woke nobody, before more of them are waited for.
const DULL: usize = 64;

/// How long. Each costs more to be waited for by itself than to be looked at.
const PAUSE: Duration = Duration::from_millis(1);

/// How long events are looked at between two pauses, and how many at most: no pause for who is behind.
const BETWEEN: Duration = Duration::from_micros(250);
const MANY: usize = 1000;

/// Pauses of the thread that hears of events, while none is news.
#[derive(Default)]
struct Pauses {
    dull: usize,
    /// When the last was over, and the events since.
    last: Option<Instant>,
    since: usize,
}

impl Pauses {
    fn pause(&mut self, is_news: bool) {
        self.dull = if is_news { 0 } else { self.dull + 1 };
        self.since += 1;
        if self.dull < DULL || self.last.is_some_and(|last| last.elapsed() < BETWEEN) {
            return;
        }
        if std::mem::take(&mut self.since) < MANY {
            std::thread::sleep(PAUSE);
        }
        self.last = Some(Instant::now());
    }
}

/// One inotify instance for all roots.
pub struct Watch {
    watcher: Mutex<Option<RecommendedWatcher>>,
    roots: Arc<Mutex<Roots>>,
}

impl Watch {
    /// Starts watching nothing. Without inotify everything still works, as fast as it is polled.
    pub fn start() -> Arc<Self> {
        let roots: Arc<Mutex<Roots>> = Arc::default();
        let (handler_roots, mut pauses) = (roots.clone(), Pauses::default());
        let watcher = notify::recommended_watcher(move |event| pauses.pause(tell(&handler_roots, event)));
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
        let listeners = roots.listeners(root);
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

/// Gives whether it was a reason to wake anybody.
fn tell(roots: &Mutex<Roots>, event: notify::Result<notify::Event>) -> bool {
    let roots = roots.lock().unwrap_or_else(PoisonError::into_inner);
    let event = match event {
        Ok(event) if event.need_rescan() => None,
        Ok(event) => match event.kind {
            EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_)) => return false,
            _ => Some(event),
        },
        Err(_) => None,
    };
    let Some(event) = event else {
        roots.all().for_each(|news| _ = news.add(|changes| (changes.everything, changes.is_lost) = (true, true)));
        return true;
    };
    let is_data = matches!(event.kind, EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any));
    let mut is_news = false;
    for path in event.paths.iter().map(|path| path.as_os_str()) {
        for news in roots.of(path) {
            is_news |= news.add(|changes| match is_data {
                true if changes.paths.contains(path) => {}
                true => drop(changes.paths.insert(path.to_owned())),
                false => changes.everything = true,
            });
        }
    }
    is_news
}
