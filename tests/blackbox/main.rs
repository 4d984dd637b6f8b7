//! Black-box tests: each starts the real binary in a directory of its own and looks at what comes out.
//!
//! `make plugins` first: they run what is in `target/plugins` (or `WEIR_TEST_PLUGINS`).
//!
//! Rooms: [`harness`] the directory, the agent in it, waiting and reading · [`golden`] plugins, byte for byte ·
//! [`evil`] a hostile plugin beside a good one · [`refused`] what never runs: bad files, settings, configs ·
//! [`follow`] files that grow, rotate, shrink and are strange · [`restart`] being stopped and killed ·
//! [`disk`] no space left · [`commands`] everything but `run` · [`cost`] memory, CPU and time.

mod commands;
mod cost;
mod disk;
mod evil;
mod follow;
mod golden;
mod harness;
mod multiline;
mod refused;
mod restart;
