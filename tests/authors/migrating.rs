//! What the page about other agents says of weir's configuration.

use std::fs;

use crate::harness::{Site, plugins, repository};

/// The examples that are weir's, whole configurations but for where things are.
fn examples() -> Vec<String> {
    let page = fs::read_to_string(repository().join("docs/migrating.md")).unwrap();
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| block.starts_with("logstores:\n")).map(str::to_owned).collect()
}

/// Variables that a configuration wants.
fn variables(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).filter_map(|rest| rest.split('}').next())
}

#[test]
fn every_example_is_right() {
    let examples = examples();
    assert_eq!(examples.len(), 6);
    for example in examples {
        let site = Site::new();
        site.write("weir.yaml", format!("data_dir: data\nplugin_dirs: [{:?}]\n{example}", plugins()));
        let mut command = site.weir(["check", "-c", "weir.yaml"]);
        command.envs(variables(&example).map(|name| (name, "0123456789abcdef")));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{example}");
        // The roots are somebody else's.
        let warned = said.lines().find(|line| line.starts_with("warning:") && !line.contains("does not exist yet"));
        assert_eq!(warned, None, "{example}");
    }
}

#[test]
fn its_plugins_are_there() {
    let page = fs::read_to_string(repository().join("docs/migrating.md")).unwrap();
    let is_used = |line: &&str| line.trim_start().starts_with("- use: ");
    let used = page.lines().filter(is_used).map(|line| line.trim_start().trim_start_matches("- use: "));
    for name in used.chain(["apache", "delimiter", "grok", "kv", "logfmt", "multiline", "sample", "dedup", "syslog"]) {
        assert!(repository().join("plugins").join(name).is_dir(), "there is no plugin {name}");
    }
}
