//! The plugins that weir ships, byte for byte, through the real sandbox.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Site, repository};

/// A case of `plugins/NAME/tests/golden` whose input is lines. Those whose input is events are `weir plugin test`'s.
struct Case {
    plugin: String,
    log: PathBuf,
}

fn cases() -> Vec<Case> {
    let list = |dir: &Path| fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut cases = Vec::new();
    for plugin in list(&repository().join("plugins")) {
        let name = plugin.file_name().unwrap().to_str().unwrap().to_owned();
        let logs = list(&plugin.join("tests/golden")).filter(|path| path.extension().is_some_and(|e| e == "log"));
        cases.extend(logs.map(|log| Case { plugin: name.clone(), log }));
    }
    cases.sort_by(|a, b| a.log.cmp(&b.log));
    cases
}

#[test]
fn every_golden_case_comes_out_of_the_sandbox_as_expected() {
    let site = Site::new();
    let cases = cases();
    assert!(cases.len() >= 6, "where are they? {}", repository().display());
    for Case { plugin, log } in cases {
        let settings = format!("@{}", log.with_extension("settings.json").display());
        let args = ["pipe", "--plugin", &plugin, "--settings", &settings];
        let done = site.pipe(args, &fs::read(&log).unwrap());
        done.assert_code(0);
        let expected = fs::read_to_string(log.with_extension("expected.ndjson")).unwrap();
        assert_eq!(done.text(), expected, "{}", log.display());
    }
}

#[test]
fn the_agent_makes_the_same_of_a_file_with_its_tags() {
    for Case { plugin, log } in cases() {
        let site = Site::new();
        site.write("logs/case.log", fs::read(&log).unwrap());
        let settings =
            fs::read_to_string(log.with_extension("settings.json")).unwrap().replace('\n', " ").replace('$', "$$");
        site.config(&format!(
            "- name: a/b\n  files: {{ root: logs }}\n  plugins: [{{ use: {plugin}, settings: {settings} }}]\n  sink: out"
        ));
        site.run();
        let host = rustix::system::uname().nodename().to_str().unwrap().to_owned();
        let path = site.path("logs/case.log");
        let tags = format!("\"__tags__\":{{\"path\":{path:?},\"host\":{host:?}}}}}");
        let tagged = |line: &str| match line.strip_suffix('}').unwrap() {
            "{" => format!("{{{tags}\n"),
            members => format!("{members},{tags}\n"),
        };
        let expected = fs::read_to_string(log.with_extension("expected.ndjson")).unwrap();
        let expected: String = expected.lines().map(tagged).collect();
        assert_eq!(String::from_utf8(site.ndjson("a/b")).unwrap(), expected, "{}", log.display());
    }
}
