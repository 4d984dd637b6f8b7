//! A file by which another container says that it has ended.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

/// How often it is looked for: one system call each time.
pub const POLL: Duration = Duration::from_millis(250);

/// A file that is waited for. Its directory may come later than the agent.
pub struct Tombstone {
    path: PathBuf,
    /// Whether it was told that it cannot be looked for.
    has_warned: bool,
}

impl Tombstone {
    /// One that is expected there.
    pub fn at(path: PathBuf) -> Self {
        Tombstone { path, has_warned: false }
    }

    /// Whether it is there. What it is doesn't matter.
    pub fn is_there(&mut self) -> bool {
        match fs::symlink_metadata(&self.path) {
            Ok(_) => {
                tracing::info!(file = ?self.path, "is there: reading what there is to its end");
                true
            }
            Err(error) => {
                let is_expected = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
                if !is_expected && !std::mem::replace(&mut self.has_warned, true) {
                    tracing::warn!(file = ?self.path, "cannot be looked for, so its coming will not be noticed: {error}");
                }
                false
            }
        }
    }
}
