//! Regular expressions for plugins.
//!
//! The syntax is that of Rust's regex crate: no look-around, no back-references, and in return no pattern takes more
//! than linear time. Patterns match bytes; classes are ASCII's unless Unicode's are asked for.
//!
//! Rooms: [`Pattern`] named groups of a line · [`Search`] whether and where something is · `plan` patterns that can be
//! matched by scanning.

mod pattern;
mod plan;
mod search;

pub use regex_syntax::escape;

pub use pattern::{Group, Pattern};
pub use search::Search;
