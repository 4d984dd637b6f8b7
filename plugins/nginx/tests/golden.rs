//! Whole logs, with what weir makes of them.

use weir_nginx::Nginx;
use weir_plugin::testing::golden;

#[test]
fn golden_files() {
    golden::<Nginx>("nginx", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
}
