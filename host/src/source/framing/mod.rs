//! From bytes to events: one module for each way in which a log marks where an event ends.

pub mod lines;
