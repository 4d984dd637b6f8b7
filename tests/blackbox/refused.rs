//! What never runs: files that are no plugins, settings that a plugin refuses, configurations with mistakes.

use std::fs::File;

use crate::harness::{Site, numbered, numbers};

/// Components that export an empty `weir:plugin/processor` of a version, and import what is given.
fn component(imports: &[&str], version: &str) -> Vec<u8> {
    let imports: String = imports.iter().map(|name| format!("(import \"{name}\" (instance))")).collect();
    let text = format!(
        "(component {imports} (component $c) (instance $i (instantiate $c))
            (export \"weir:plugin/processor@{version}\" (instance $i)))"
    );
    wat::parse_str(text).unwrap()
}

/// Puts files that are no plugins into `plugins/`: each with the words that refuse it.
pub fn bad_plugins(site: &Site) -> Vec<(&'static str, String)> {
    let write = |name: &str, bytes: &[u8]| site.write(&format!("plugins/{name}.wasm"), bytes);
    write("wasi", &component(&["wasi:cli/environment@0.2.0", "weir:plugin/log@0.1.0"], "0.1.0"));
    write("files", &component(&["weir:plugin/files@0.1.0", "wasi:random/random@0.2.0"], "0.1.0"));
    write("newer", &component(&[], "0.2.0"));
    write("other", &wat::parse_str("(component)").unwrap());
    write("hollow", &component(&[], "0.1.0"));
    write("core", &wat::parse_str("(module)").unwrap());
    write("garbage", b"#!/bin/sh\nexit 0\n");
    write("damaged", &component(&[], "0.1.0")[..40]);
    write("empty", b"");
    let large = File::create(site.path("plugins/large.wasm")).unwrap();
    large.set_len(65 << 20).unwrap();
    let plugins = site.path("plugins");
    let plugins = plugins.display();
    let at = |name: &str, words: &str| format!("plugin {plugins}/{name}.wasm: {words}");
    vec![
        (
            "wasi",
            at(
                "wasi",
                "it imports `wasi:cli/environment@0.2.0`, which a plugin may not: only `log`, `count` and `files` of weir:plugin are granted",
            ),
        ),
        (
            "files",
            at(
                "files",
                "it imports `wasi:random/random@0.2.0`, which a plugin may not: only `log`, `count` and `files` of weir:plugin are granted",
            ),
        ),
        (
            "newer",
            at(
                "newer",
                "it wants version 0.2.0 of the plugin API, and this weir has 0.1: update weir, or build the plugin for 0.1",
            ),
        ),
        ("other", at("other", "it is a component but not a plugin: it does not export `weir:plugin/processor@0.1.0`")),
        ("hollow", at("hollow", "")),
        ("core", at("core", "it is a core module, not a component: build it with `weir plugin build`")),
        ("garbage", at("garbage", "it is not WebAssembly, or it is damaged")),
        ("damaged", at("damaged", "it is not WebAssembly, or it is damaged")),
        ("empty", at("empty", "it is not WebAssembly, or it is damaged")),
        ("large", at("large", "it has 68157440 bytes, and the most allowed is 67108864")),
        ("missing", "there is no missing.wasm in ".to_owned()),
    ]
}

/// Whether a directory has nothing in it.
fn is_empty(site: &Site, directory: &str) -> bool {
    std::fs::read_dir(site.path(directory)).unwrap().next().is_none()
}

/// A logstore of one plugin; its plugin stands four lines below its name.
fn logstore(name: &str, plugin: &str) -> String {
    format!("- name: {name}\n  files: {{ root: logs }}\n  plugins:\n    - use: {plugin}\n  sink: out\n")
}

#[test]
fn what_is_no_plugin_is_refused_with_its_reason_by_check_and_run() {
    let site = Site::new();
    site.write("logs/a.log", numbers(0..10));
    let bad = bad_plugins(&site);
    let all: String = bad.iter().map(|(name, _)| logstore(&format!("bad/{name}"), name)).collect();
    site.config(&all);
    let check = site.output(["check", "-c", "weir.yaml"]);
    let run = site.run_with(&[]);
    for (done, command) in [(&check, "check"), (&*run, "run")] {
        done.assert_code(78);
        for (i, (_, words)) in bad.iter().enumerate() {
            // Three lines come before the logstores.
            let place = format!("weir.yaml:{}:7: logstores[{i}].plugins[0].use: ", 3 + 5 * i + 4);
            done.assert_says(&format!("{place}{words}"));
        }
        done.assert_says(&format!("{} errors in weir.yaml", bad.len()));
        assert_eq!(done.stdout, b"", "{command}");
    }
    assert!(run.summary.is_empty());
    assert!(is_empty(&site, "out"));
}

#[test]
fn a_bad_plugin_keeps_no_other_logstore_and_leaves_its_files_for_later() {
    let site = Site::new();
    site.write("logs/a.log", numbers(0..10));
    bad_plugins(&site);
    let good = "- name: good/raw\n  files: { root: logs }\n  sink: out\n";
    site.config(&(logstore("bad/core", "core") + &logstore("bad/later", "later") + good));
    let ran = site.run_with(&[]);
    ran.assert_code(78);
    ran.assert_says("this logstore is not read: weir.yaml:7:7: logstores[0].plugins[0].use: plugin ");
    ran.assert_says(
        "this logstore is not read: weir.yaml:12:7: logstores[1].plugins[0].use: there is no later.wasm in ",
    );
    ran.assert_says("2 errors in weir.yaml");
    assert_eq!(ran.summary.keys().collect::<Vec<_>>(), ["good/raw"]);
    ran.assert_counts("good/raw", [10, 10, 0, 0]);
    assert_eq!(site.contents("good/raw"), numbered(0..10));
    for name in ["bad/core", "bad/later"] {
        assert_eq!(site.settled(name), [].into());
        assert_eq!(site.ndjson(name), b"");
    }

    // The plugin comes, and with it everything that was written before.
    std::fs::copy(crate::harness::plugins().join("delimiter.wasm"), site.path("plugins/later.wasm")).unwrap();
    site.config(&logstore("bad/later", "later\n      settings: { fields: [n] }"));
    site.run().assert_counts("bad/later", [10, 10, 0, 0]);
    let events = site.events("bad/later");
    assert_eq!(events.iter().map(|event| event["n"].as_str().unwrap().to_owned()).collect::<Vec<_>>(), numbered(0..10));
}

#[test]
fn an_agent_that_follows_goes_on_without_the_bad_ones() {
    let site = Site::new();
    site.write("plugins/empty.wasm", "");
    site.config(&(logstore("bad/empty", "empty") + "- name: good/raw\n  files: { root: logs }\n  sink: out\n"));
    let mut agent = site.start();
    agent.wait_to_say("this logstore is not read: weir.yaml:7:7: logstores[0].plugins[0].use: plugin ");
    site.write("logs/a.log", numbers(0..10));
    agent.wait_for_lines("good/raw", 10);
    agent.stop().assert_counts("good/raw", [10, 10, 0, 0]);
}

#[test]
fn settings_that_a_plugin_refuses_are_refused_in_its_words_at_their_place() {
    let site = Site::new();
    site.write("logs/a.log", numbers(0..10));
    let plugin = |name: &str, settings: &str| format!("    - use: {name}\n      settings: {settings}\n");
    site.config(&format!(
        "- name: a/b\n  files: {{ root: logs }}\n  sink: out\n  plugins:\n{}{}{}{}",
        plugin("nginx", "{ format: 5 }"),
        plugin("regex", "{ pattern: \"(unclosed\" }"),
        plugin("delimiter", "{ fields: 3 }"),
        plugin("weir-evil", "{ mode: refuse }"),
    ));
    let (check, run) = (site.output(["check", "-c", "weir.yaml"]), site.run_with(&[]));
    for done in [&check, &*run] {
        done.assert_code(78);
        for (i, name, words) in [
            (0, "nginx", "invalid type: integer `5`, expected a string"),
            (1, "regex", ""),
            (2, "delimiter", "invalid type: integer `3`, expected a sequence"),
            (3, "weir-evil", "mode: \"refuse\" is not \\u{1b}[31mto my taste\n"),
        ] {
            let place = format!("weir.yaml:{}:7: logstores[0].plugins[{i}].use: ", 8 + 2 * i);
            done.assert_says(&format!("{place}plugin {name}: it refuses its settings: {words}"));
        }
        done.assert_says("unclosed");
        done.assert_says("4 errors in weir.yaml");
    }
    assert!(is_empty(&site, "out"));
}

#[test]
fn pipe_refuses_settings_in_words_that_are_harmless_to_a_terminal() {
    let site = Site::new();
    let done = site.pipe(["pipe", "--plugin", "weir-evil", "--settings", "{\"mode\":\"refuse\"}"], b"a\n");
    done.assert_code(78);
    assert_eq!(
        done.stderr,
        "error: plugin weir-evil: it refuses its settings: mode: \"refuse\" is not \\u{1b}[31mto my taste\n"
    );
    assert_eq!(done.stdout, b"");
}

#[test]
fn all_mistakes_of_a_config_are_reported_at_once_with_their_places() {
    let site = Site::new();
    site.write(
        "weir.yaml",
        "data_dir: data
workers: many
logstores:
  - name: a/b
    files: { rot: logs, from: middle }
    plugins: [{ use: nginx, setings: {} }]
    sink: out
  - name: a/b
    files:
      root: logs
      include: [\"a[\"]
    sink: uot
sinks:
  out: { type: fil, path: out }
",
    );
    let (check, run) = (site.output(["check", "-c", "weir.yaml"]), site.run_with(&[]));
    for done in [&check, &*run] {
        done.assert_code(78);
        let mistakes: Vec<_> = done.stderr.lines().filter(|line| !line.starts_with("  hint: ")).collect();
        assert_eq!(
            mistakes,
            [
                "weir.yaml:2:1: workers: must be an integer from 1 to 256, not \"many\"",
                "weir.yaml:5:5: logstores[0].files.root: is required",
                "weir.yaml:5:14: logstores[0].files.rot: unknown key",
                "weir.yaml:5:25: logstores[0].files.from: unknown word \"middle\"",
                "weir.yaml:6:29: logstores[0].plugins[0].setings: unknown key",
                "weir.yaml:8:5: logstores[1].name: \"a/b\" is taken by logstores[0].name on line 4",
                "weir.yaml:11:17: logstores[1].files.include[0]: \"a[\" is not a glob: unclosed character class; missing ']'",
                "weir.yaml:12:5: logstores[1].sink: there is no sink \"uot\"",
                "weir.yaml:14:10: sinks.out.type: unknown word \"fil\"",
                "9 errors in weir.yaml",
            ]
        );
        assert_eq!(done.stdout, b"");
    }
    assert!(!site.path("data/checkpoint.redb").exists() && !site.path("out").exists());
}

#[test]
fn a_config_that_is_missing_or_no_yaml_is_an_error_of_configuration() {
    let site = Site::new();
    site.write("tabs.yaml", "logstores:\n\t- name: a/b\n");
    site.write("latin1.yaml", b"data_dir: caf\xe9\n");
    for command in ["check", "run"] {
        let told = |file: &str, start: &str| {
            let done = site.output([command, "-c", file]);
            done.assert_code(78);
            assert!(done.stderr.starts_with(&format!("{file}{start}")), "{}", done.stderr);
        };
        told("none.yaml", ": cannot be read: No such file or directory");
        told("logs", ": cannot be read: Is a directory");
        told("tabs.yaml", ":2:2: not valid YAML: ");
        told("latin1.yaml", ":1:14: not UTF-8");
    }
}
