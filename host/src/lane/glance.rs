//! How a lane is: its files, how far each is read and settled, and how far behind that is.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Lane;
use super::settle::Settles;
use crate::metrics;
use crate::source::identity::FileId;

/// Sizes that are remembered of a file.
const SIZES: usize = 8;

/// What a lane has said of itself is as good as new for so long: to say it is work, which its project pays for.
const FRESH: Duration = Duration::from_millis(250);

/// A lane that has no turn for so long is not waited for any more.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a lane says of itself: it is asked once for all who want to know.
#[derive(Default)]
pub struct Glances {
    state: Mutex<Said>,
    told: Condvar,
}

#[derive(Default)]
struct Said {
    /// When it was asked what it has not said yet.
    asked: Option<Instant>,
    /// What it said last, and when.
    last: Option<(Instant, Arc<Glance>)>,
}

/// What is known of how a lane is.
#[derive(Clone, Default)]
pub struct Seen {
    /// What it said last.
    pub glance: Option<Arc<Glance>>,
    /// How long ago that was.
    pub age: Duration,
    /// Whether it has had a turn to say it since it was asked.
    pub is_new: bool,
}

/// A question that a lane has yet to answer.
pub struct Asked(Arc<Glances>);

impl Glances {
    /// Begins a question, if what is known is old and nobody waits for an answer already.
    pub fn ask(self: &Arc<Self>) -> Option<Asked> {
        let mut said = self.lock();
        let is_fresh = said.last.as_ref().is_some_and(|(at, _)| at.elapsed() < FRESH);
        if is_fresh || said.asked.is_some() {
            return None;
        }
        said.asked = Some(Instant::now());
        Some(Asked(self.clone()))
    }

    /// Waits for the answer, and gives what is known then. Of a lane that was asked long ago no answer is awaited, so
    /// that those who ask often do not all wait.
    pub fn seen(&self) -> Seen {
        let mut said = self.lock();
        while let Some(left) = said.asked.and_then(|asked| PATIENCE.checked_sub(asked.elapsed())) {
            said = self.told.wait_timeout(said, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let is_new = said.asked.is_none() && said.last.is_some();
        let age = said.last.as_ref().map_or(Duration::ZERO, |(at, _)| at.elapsed());
        Seen { glance: said.last.as_ref().map(|(_, glance)| glance.clone()), age, is_new }
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked {
    /// Answers it.
    pub fn tell(self, glance: Glance) {
        self.0.lock().last = Some((Instant::now(), Arc::new(glance)));
    }
}

impl Drop for Asked {
    /// Answered, or never to be: the lane has ended.
    fn drop(&mut self) {
        self.0.lock().asked = None;
        self.0.told.notify_all();
    }
}

/// How a lane is at a moment.
#[derive(Clone, Debug, Default)]
pub struct Glance {
    /// Its files, by path.
    pub files: Vec<FileGlance>,
    /// Its plugins, in order; then those that are tried.
    pub plugins: Vec<PluginGlance>,
    /// Whether it has more to ship than its sinks take.
    pub is_held_up: bool,
    /// Whether its project has no memory left.
    pub is_short: bool,
    /// What it had counted by then.
    pub counts: BTreeMap<&'static str, u64>,
}

/// How far a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileGlance {
    /// Where it was last found.
    pub path: PathBuf,
    /// Its size in bytes; none while it is closed.
    pub size: Option<u64>,
    /// Bytes of its content that were read.
    pub read: u64,
    /// Bytes of its content that are settled.
    pub settled: u64,
    /// Whether it is compressed, so that its size is not its content's.
    pub is_compressed: bool,
    /// For how long its first byte that is not settled has been there, as far as was seen.
    pub lag: Duration,
}

impl FileGlance {
    /// Bytes that are not settled; none if it is not known.
    pub fn lag_bytes(&self) -> Option<u64> {
        let size = self.size.filter(|_| !self.is_compressed)?;
        Some(size.saturating_sub(self.settled))
    }
}

/// How a plugin is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginGlance {
    /// What it calls itself.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// SHA-256 of its `.wasm`, in hex.
    pub digest: String,
    /// Why it is suspended, if it is.
    pub suspended: Option<String>,
    /// Why it failed last: by its own word, or by a fault.
    pub last_failure: Option<String>,
    /// Whether a part of the files tries it.
    pub is_tried: bool,
}

/// Without the plugin's name, which marks of events begin with.
fn last_failure(stage: &crate::sandbox::Stage) -> Option<String> {
    stage.stats.last_failure.as_deref().map(|reason| stage.without_name(reason).to_owned())
}

/// The sizes that a file was seen to have, and when.
#[derive(Debug, Default)]
pub(super) struct Growth(Vec<(Instant, u64)>);

impl Growth {
    /// It has that size now.
    pub(super) fn add(&mut self, now: Instant, size: u64) {
        if self.0.last().is_some_and(|(_, last)| *last >= size) {
            return;
        }
        if self.0.len() >= SIZES {
            let mut index = 0;
            self.0.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
        self.0.push((now, size));
    }

    /// When it was first seen to have so many bytes.
    pub(super) fn when(&self, bytes: u64) -> Option<Instant> {
        self.0.iter().find(|(_, size)| *size >= bytes).map(|(when, _)| *when)
    }

    /// So much is settled: when that was all that there was is of no interest.
    fn settled(&mut self, bytes: u64) {
        let done = self.0.iter().take_while(|(_, size)| *size <= bytes).count();
        self.0.drain(..done);
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Lane {
    /// How it is now.
    pub fn glance(&mut self) -> Glance {
        let now = self.clock.now();
        let pending = self.pending();
        let states: HashMap<_, _> = self.files.iter().map(|(key, file)| (*key, file)).collect();
        let mut files: Vec<_> = self
            .source
            .files()
            .map(|(reader, meta)| {
                let (id, state) = (reader.name().id, states.get(&reader.key()));
                let settled = pending.get(&id).copied();
                let settled = settled.or(state.map(|state| state.undecided.offset)).unwrap_or(reader.offset());
                let first = state.and_then(|state| state.growth.when(settled + 1));
                FileGlance {
                    path: reader.name().path.clone(),
                    size: meta.as_ref().map(|meta| meta.len),
                    read: reader.offset(),
                    settled,
                    is_compressed: reader.is_compressed(),
                    lag: first.map_or(Duration::ZERO, |first| now.saturating_duration_since(first)),
                }
            })
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let tried = self.trial.as_ref().map(|trial| &trial.new.chain);
        let chains = [(&self.chain, false)].into_iter().chain(tried.map(|chain| (chain, true)));
        let plugins = chains.flat_map(|(chain, is_tried)| chain.stages().iter().map(move |stage| (stage, is_tried)));
        let plugin = |(stage, is_tried): (&crate::sandbox::Stage, bool)| PluginGlance {
            name: stage.plugin().name().to_owned(),
            version: stage.plugin().metadata.version.clone(),
            digest: stage.plugin().digest.clone(),
            suspended: stage.trust.reason(),
            last_failure: last_failure(stage),
            is_tried,
        };
        Glance {
            files,
            plugins: plugins.map(plugin).collect(),
            is_held_up: self.is_full(),
            is_short: self.budget.is_full(),
            counts: self.accounts.summary(),
        }
    }

    /// Where what is not settled begins, of the files that have something shipped.
    fn pending(&self) -> HashMap<FileId, u64> {
        let mut pending = HashMap::new();
        for parcel in &self.parcels {
            if let Settles::UpTo(name, ..) = &parcel.settles {
                pending.entry(name.id).or_insert(parcel.begins);
            }
        }
        pending
    }

    /// How far it is behind what was written, of the files that were read lately.
    pub(super) fn publish_lag(&mut self) {
        let (now, pending) = (self.clock.now(), self.pending());
        let (mut bytes, mut longest) = (0, Duration::ZERO);
        // Most files are quiet, and are not touched.
        self.growing.retain(|key| {
            let Some(file) = self.files.get_mut(key) else { return false };
            let Some(id) = file.name.as_ref().map(|name| name.id) else { return false };
            let settled = pending.get(&id).copied().unwrap_or(file.undecided.offset);
            if let Some(meta) = self.source.meta(id) {
                file.growth.add(now, meta.len);
                bytes += meta.len.saturating_sub(settled);
            }
            file.growth.settled(settled);
            let first = file.growth.when(settled + 1);
            longest = longest.max(first.map_or(Duration::ZERO, |first| now.saturating_duration_since(first)));
            !file.growth.is_empty()
        });
        metrics::set(&self.accounts.lag_bytes, bytes);
        metrics::set(&self.accounts.lag, longest.as_nanos() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_asked_once_for_all_who_want_to_know() {
        let glances = Arc::new(Glances::default());
        let asked = glances.ask().unwrap();
        assert!(glances.ask().is_none());
        let waiting = std::thread::spawn({
            let glances = glances.clone();
            move || glances.seen()
        });
        asked.tell(Glance { is_short: true, ..Glance::default() });
        let seen = waiting.join().unwrap();
        assert!(seen.is_new && seen.glance.unwrap().is_short);
        // It is as good as new for a while, and then asked again.
        assert!(glances.ask().is_none() && glances.seen().is_new);
        glances.lock().last.as_mut().unwrap().0 -= FRESH;
        let asked = glances.ask().unwrap();
        // It has no turn: only the first wait for it, and the last that it said is what is known.
        glances.lock().asked = Some(Instant::now() - PATIENCE);
        let begun = Instant::now();
        let seen = glances.seen();
        assert!(begun.elapsed() < PATIENCE / 2 && glances.ask().is_none());
        assert!(!seen.is_new && seen.age >= FRESH && seen.glance.unwrap().is_short);
        // Nor does anybody wait for one that has ended.
        drop(asked);
        assert!(glances.ask().is_some());
    }

    #[test]
    fn lag_is_counted_from_when_the_first_unsettled_byte_was_seen() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut growth = Growth::default();
        for second in 0..=60 {
            growth.add(at(second), 100 * (second + 1));
        }
        // Of long ago, it is known about when; of late, exactly.
        assert_eq!(growth.when(1), Some(at(0)));
        assert_eq!(growth.when(6100), Some(at(60)));
        assert!(growth.when(3000).is_some_and(|when| (at(29)..=at(60)).contains(&when)));
        assert_eq!(growth.when(6101), None);
        growth.settled(6099);
        assert_eq!(growth.when(1), Some(at(60)));
        growth.settled(6100);
        assert!(growth.is_empty());
    }
}
