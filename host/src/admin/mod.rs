//! The admin server: health, metrics, status and uploads over HTTP.
//!
//! [`control`] is all that it knows of the agent.

pub mod control;

pub use control::Control;
