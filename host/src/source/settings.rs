//! Which files a source reads, and how.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::decode::Decoder;
use super::framing::Framing;
use crate::event::Tags;

/// Where a new file is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At its first byte.
    Beginning,
    /// At its end, if it was there when the logstore was first read; at its first byte otherwise.
    End,
}

/// Which files a source reads, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Nothing outside it is ever opened.
    pub root: PathBuf,
    /// Globs relative to the root, with `**`.
    pub include: Vec<String>,
    /// Globs of what is left out.
    pub exclude: Vec<String>,
    /// Where a new file is begun.
    pub from: StartAt,
    /// The longest time until a change is seen, also without inotify.
    pub poll_interval: Duration,
    /// What the bytes of a file are.
    pub decoder: Decoder,
    /// How they become events.
    pub framing: Framing,
    /// A file that was last written longer ago than that when it is found is left alone until it is written again.
    pub ignore_older: Option<Duration>,
    /// What is kept of files that are not found any more.
    pub rotated: Rotated,
    /// Files that are open at once.
    pub max_open: usize,
    /// Tags of all files, besides those that a path has.
    pub tags: Arc<Tags>,
}

/// What is kept of files that were deleted, or renamed so that the globs don't match any more.
#[derive(Clone, Copy, Debug)]
pub struct Rotated {
    /// How long nothing must have been written to such a file before it is let go.
    pub wait: Duration,
    /// How many of them are held open.
    pub max_files: usize,
    /// Bytes on disk that they may have together.
    pub max_size: u64,
}

#[cfg(test)]
impl Settings {
    /// All `*.log` of a directory, each line an event: for tests, which change what they are about.
    pub fn plain(root: &std::path::Path) -> Settings {
        use super::decode::Invalid;
        use super::framing::{Format, LongEvent};
        Settings {
            root: root.to_owned(),
            include: vec!["*.log".into()],
            exclude: Vec::new(),
            from: StartAt::Beginning,
            poll_interval: Duration::from_secs(1),
            decoder: Decoder::new("utf-8", Invalid::Keep).expect("an encoding that there is"),
            framing: Framing {
                format: Format::Lines,
                max_event: 1 << 20,
                long: LongEvent::Split,
                multiline: None,
                flush_after: Duration::from_secs(5),
            },
            ignore_older: None,
            rotated: Rotated { wait: Duration::from_secs(60), max_files: 1000, max_size: 1 << 40 },
            max_open: 1000,
            tags: Arc::default(),
        }
    }
}
