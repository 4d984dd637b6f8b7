//! Files that the agent's configuration grants to a plugin: the contract's import `files`.
//!
//! A plugin that does not call [`read`] does not import it.

/// The whole content of a file below the granted directory, such as `countries.csv`. To be read in `new`, and never
/// later: what a batch becomes must not depend on when it comes.
///
/// In `cargo test` the directory is the one of [`crate::testing::with_files`].
pub fn read(path: &str) -> Result<Vec<u8>, String> {
    #[cfg(target_family = "wasm")]
    return crate::bindings::weir::plugin::files::read(path);
    #[cfg(not(target_family = "wasm"))]
    crate::testing::read_granted(path)
}
