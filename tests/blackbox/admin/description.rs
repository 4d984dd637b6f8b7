//! Whether the server is as its OpenAPI document says, by `schemathesis`: it asks what the document allows, and what it
//! does not, and looks at the answers.

use std::path::Path;
use std::process::Output;

use super::tokens::write_lines;
use super::{Managed, OPERATOR, SHOP};
use crate::harness::{Site, beside, plugins, repository};
use crate::servers::python;

/// Both projects have the same logstores. Lines come all the time: taps wait for them.
const LOGSTORES: &str = "
- { name: shop/app, files: { root: logs }, plugins: [{ use: delimiter, settings: { fields: [number, v0] } }], sink: out }
- { name: shop/raw, files: { root: logs }, sink: out }
- { name: other/app, files: { root: logs }, sink: out }
- { name: other/raw, files: { root: logs }, sink: out }
";

/// Requests of each verb in each of the phases: about half a minute.
const EXAMPLES: &str = "30";

#[test]
fn the_server_is_as_its_description_says() {
    for token in [OPERATOR, SHOP] {
        let managed = Managed::new(Site::new(), LOGSTORES);
        let agent = managed.start();
        let ((), output) = beside(|is_done| write_lines(&managed.site, is_done), || examine(&managed, token));
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "with the token {token}:\n{said}{errors}(Python must be 3.11 or later)");
        // It got as far as to push plugins.
        for logstore in ["shop/app", "shop/raw"] {
            let list = managed.operator().get(&format!("/v1/logstores/{logstore}/plugins"));
            assert_ne!(list["versions"].as_array().unwrap().len(), 0, "{logstore}: {said}");
        }
        let ran = agent.stop();
        ran.assert_settled();
        assert!(!ran.stderr.contains(" ERROR "), "{}", ran.stderr);
    }
}

fn examine(managed: &Managed, token: &str) -> Output {
    let here = repository().join("tests/blackbox/admin");
    let mut command = python(Path::new("-m"));
    command.args(["schemathesis.cli", "--config-file"]).arg(here.join("schemathesis.toml"));
    command.args(["run", &format!("http://127.0.0.1:{}/v1/openapi.json", managed.port)]);
    command.args(["--seed", "1", "--max-examples", EXAMPLES, "--no-color"]);
    command.env("WEIR_TEST_TOKEN", token).env("WEIR_TEST_PLUGIN", plugins().join("delimiter.wasm"));
    command.env("PYTHONPATH", here).current_dir(managed.site.path("")).output().unwrap()
}
