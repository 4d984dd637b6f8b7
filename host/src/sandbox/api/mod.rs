//! One module for each published version of the contract, which adapts it to the host's own batch.

pub mod v0_1;
