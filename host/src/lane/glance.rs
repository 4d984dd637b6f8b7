//! How a lane is: its files, how far each is read and settled, and how far behind that is.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Lane;
use super::settle::Settles;
use crate::metrics;
use crate::source::identity::FileId;

/// Sizes that are remembered of a file.
const SIZES: usize = 8;

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

    fn is_empty(&self) -> bool {
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
        for file in self.files.values_mut().filter(|file| !file.growth.is_empty()) {
            let Some(id) = file.name.as_ref().map(|name| name.id) else { continue };
            let settled = pending.get(&id).copied().unwrap_or(file.undecided.offset);
            if let Some(meta) = self.source.meta(id) {
                file.growth.add(now, meta.len);
                bytes += meta.len.saturating_sub(settled);
            }
            file.growth.settled(settled);
            let first = file.growth.when(settled + 1);
            longest = longest.max(first.map_or(Duration::ZERO, |first| now.saturating_duration_since(first)));
        }
        metrics::set(&self.accounts.lag_bytes, bytes);
        metrics::set(&self.accounts.lag, longest.as_nanos() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
