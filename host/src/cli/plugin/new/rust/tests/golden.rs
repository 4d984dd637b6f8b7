//! Whole logs, with what weir makes of them.

use MODULE::Parser;
use weir_plugin::testing::golden;

#[test]
fn golden_files() {
    golden::<Parser>("NAME", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
}
