//! What is said on a terminal while something takes its time.

use std::io::{self, IsTerminal, Write};

/// How far something is, on standard error if that is a terminal.
#[derive(Clone)]
pub struct Progress {
    is_shown: bool,
    doing: &'static str,
    /// Instead of 100 %.
    done: &'static str,
}

impl Progress {
    /// Of that; and what is said when all of it is done.
    pub fn new(doing: &'static str, done: &'static str) -> Self {
        Progress { is_shown: io::stderr().is_terminal(), doing, done }
    }

    /// Says how much of it is done.
    pub fn tell(&self, some: u64, all: u64) {
        if !self.is_shown {
            return;
        }
        match some >= all {
            true => eprint!("\r\x1b[K{}", self.done),
            false => eprint!("\r\x1b[K{}: {}%", self.doing, some * 100 / all),
        }
        let _ = io::stderr().flush();
    }

    /// Leaves nothing of it.
    pub fn end(&self) {
        if self.is_shown {
            eprint!("\r\x1b[K");
        }
    }
}
