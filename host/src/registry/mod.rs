//! Plugins: where their names lead, and the versions that were uploaded.

mod disk;
mod find;
#[cfg(test)]
mod tests;
mod versions;

pub use find::find;
pub use versions::{By, Canary, Choice, New, Refused, Registry, SETTINGS, Version, hex_digest};
