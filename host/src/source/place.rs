//! Where in a file reading goes on.

use serde::{Deserialize, Serialize};

/// A place in a file at which reading can go on as if it had never stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Bytes from the start of the file; of what is in it, if it is compressed.
    pub offset: u64,
    /// What the bytes from the offset to the next line end are.
    #[serde(default, skip_serializing_if = "Rest::is_line")]
    pub rest: Rest,
    /// For each stream of a container's log: its lines that begin before this offset have been read. Zero where there
    /// are no streams, or if it is not after `offset`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub read: [u64; 2],
}

/// What comes before the next line end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rest {
    /// A line, from its beginning, or a piece of one that becomes an event of its own.
    #[default]
    Line,
    /// What is late of a line that was shipped without its end: an event, unless it is nothing but the line end.
    Late,
    /// What is left of a line that was too long, which is not wanted.
    Discard,
}

impl Rest {
    fn is_line(&self) -> bool {
        *self == Rest::Line
    }
}

fn is_zero(read: &[u64; 2]) -> bool {
    *read == [0, 0]
}

impl Place {
    /// At the beginning of a line.
    pub fn at(offset: u64) -> Self {
        Place { offset, ..Place::default() }
    }
}
