//! Black-box tests of what plugin authors use: each starts the real binary.
//!
//! `make plugins` first: they run what is in `target/plugins` (or `WEIR_TEST_PLUGINS`).
//!
//! Rooms: [`harness`] a directory, and commands in it · [`shipped`] what weir ships, by `weir plugin test` · [`testing`]
//! golden cases · [`manners`] what any plugin must stand · [`debugging`] panics and logs · [`check`] and [`inspect`] the
//! commands of these names · [`bench`] what plugins cost · [`watch`] editing one · [`registries`] to push to · [`oci`]
//! what goes through them · [`oci_hostile`] those that lie · [`signatures`] of plugins · [`languages`] Rust, Python and
//! JavaScript · [`sdks`] the last two by themselves · [`first_plugin`] the pages of that name, word by word · [`readme`] that page and others whose commands are
//! run · [`book`] what is in it · [`migrating`]
//! configurations of other agents, and ours.

mod bench;
mod book;
mod check;
mod debugging;
mod first_plugin;
#[allow(dead_code)]
#[path = "../blackbox/harness.rs"]
mod harness;
mod inspect;
mod languages;
mod manners;
mod migrating;
mod oci;
mod oci_hostile;
mod readme;
mod registries;
mod sdks;
mod shipped;
mod signatures;
mod testing;
mod watch;
