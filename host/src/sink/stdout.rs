//! Standard output.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use super::writer::{Output, Writer};
use super::{Payload, Sender};
use crate::config::LogstoreName;
use crate::metrics::SinkAccounts;

/// Writes payloads to standard output, each whole.
pub struct Stdout(Writer);

impl Stdout {
    /// Starts the thread that writes.
    pub fn new(name: &str, accounts: Arc<SinkAccounts>) -> Self {
        Stdout(Writer::start(name, ToStdout, accounts))
    }
}

impl Sender for Stdout {
    fn send(&self, payload: Payload) {
        self.0.send(payload);
    }

    fn close(&self, within: Duration) {
        self.0.close(within);
    }

    fn trouble(&self) -> Option<String> {
        self.0.trouble()
    }

    fn is_lost(&self) -> bool {
        self.0.is_lost()
    }
}

struct ToStdout;

impl Output for ToStdout {
    fn write(&mut self, _: &LogstoreName, bytes: &[u8]) -> std::io::Result<usize> {
        std::io::stdout().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stdout().flush()
    }
}
