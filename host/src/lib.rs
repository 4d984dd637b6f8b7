//! weir: a log agent that runs each tenant's parser in a sandbox.
//!
//! ```text
//! cli ─┬─> agent ─┬─> lane ─┬─> source ──┐
//!      │     │    │         ├─> sandbox ─┼─> event
//!      │     v    │         └─> sink ────┘
//!      │  control └─> schedule, config, registry, checkpoint, budget, metrics
//!      │     ^
//!      └─> admin
//! ```
//!
//! - [`event`] is the batch; it knows nobody.
//! - [`source`] makes batches of files, [`sandbox`] sends them through plugins, [`sink`] delivers them. They
//!   know [`event`], never each other.
//! - [`lane`] joins the three for one logstore; [`schedule`] says whose turn it is.
//! - [`checkpoint`] keeps settled offsets, [`metrics`] names what is counted, [`config`] says what is wanted;
//!   [`registry`] finds plugins, and keeps those that were uploaded.
//! - [`secret`] reads secrets, again when their files change; [`signing`] signs plugins, and checks signatures.
//! - [`confine`] takes from the process what its configuration does not need.
//! - [`environment`] has variables with more than one name, [`hint`] says what was probably meant.
//! - [`budget`] counts a project's memory, `cgroup` knows what there is, [`books`] has all accounts together,
//!   [`heap`] gives memory back to the system, [`pace`] says how often little is read.
//! - [`agent`] puts a configuration to work, [`sinks`] those of its sinks that are used; [`cli`] has one file a command.
//! - [`author`] tries plugins for those who write them.
//! - [`control`] is what a running agent shows and lets be changed; [`admin`] offers that over HTTP.
//! - [`oci`] puts plugins into registries of images, and gets them from there.
//! - [`mock`] makes log lines for tests, demonstrations and benchmarks.

pub mod admin;
pub mod agent;
pub mod author;
pub mod books;
pub mod budget;
mod cgroup;
pub mod checkpoint;
pub mod cli;
pub mod clock;
pub mod config;
pub mod confine;
pub mod control;
pub mod environment;
pub mod event;
pub mod heap;
mod hint;
pub mod lane;
pub mod metrics;
pub mod mock;
#[cfg(test)]
mod model;
pub mod oci;
pub mod pace;
#[cfg(test)]
mod reference;
pub mod registry;
pub mod sandbox;
pub mod schedule;
pub mod secret;
pub mod signing;
pub mod sink;
pub mod sinks;
pub mod source;
