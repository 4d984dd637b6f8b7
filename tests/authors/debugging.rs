//! What an author sees of a panic, and of what a plugin logs.

use crate::harness::{Site, plugins};
use crate::testing::{expect, rude, test};

const LINES: &str = "good\nbetter\npoison \u{1b}[2J\nbest\n";

/// Where it happened, by name.
const STACK: &str = "in weir_rude::look";

#[test]
fn a_panic_is_shown_with_its_line_and_stack() {
    let site = rude("poison", LINES);
    let done = test(&site);
    done.assert_code(70);
    let text = done.text();
    let (_, told) =
        text.split_once("    FAILED   some          it faults 3 times\n").unwrap_or_else(|| panic!("{text}"));
    let lines: Vec<_> = told.lines().collect();
    assert!(lines[0].starts_with("      trapped: panicked at tests/plugins/rude/src/lib.rs:"), "{text}");
    assert!(lines[0].ends_with(": swallowed poison"), "{text}");
    assert_eq!(lines[1], "      at some.log:3: poison \\u{1b}[2J");
    assert_eq!(lines[2], format!("      {STACK}"));
    assert!(lines[3].starts_with("      called by <weir_rude::Rude as BatchPlugin>::batch"), "{text}");
    // It is not told a second time as a line of the log.
    assert!(!text.contains("log error"), "{text}");
}

#[test]
fn what_never_ends_is_shown_with_its_line_and_stack() {
    let site = rude("spin", LINES);
    let done = test(&site);
    done.assert_code(70);
    assert!(done.text().contains("      out of fuel: it used all of "), "{}", done.text());
    assert!(done.text().contains("      at some.log:3: poison \\u{1b}[2J\n"), "{}", done.text());
}

#[test]
fn a_pipe_says_which_event_it_was() {
    let site = Site::new();
    let settings = ["--plugin", "weir-rude", "--settings", "{\"mode\": \"poison\"}", "--summary"];
    let done = site.pipe(["pipe"].iter().chain(&settings), LINES.as_bytes());
    done.assert_code(0);
    done.assert_says(
        "weir-rude: the last event that it faults on:\n  trapped: panicked at tests/plugins/rude/src/lib.rs:",
    );
    done.assert_says(&format!(": swallowed poison\n  at event 3: poison \\u{{1b}}[2J\n  {STACK}\n  called by "));
}

#[test]
fn what_is_logged_is_shown_below_its_case() {
    let site = rude("talk", "one\ntwo\n");
    expect(&site, "some", "{\"content\":\"one\"}\n{\"content\":\"two\"}\n");
    let done = test(&site);
    done.assert_code(0);
    let said = "    passed   some          2 in, 2 out
      log debug: whispered
      log info: said\\nERROR forged\\u{1b}[2J
      log warn: warned
      log error: cried (2 times)
  manners
";
    assert!(done.text().contains(said), "{}", done.text());
}

#[test]
fn what_is_logged_in_a_pipe_has_the_plugins_name() {
    let site = Site::new();
    let settings = ["--plugin", "weir-rude", "--settings", "{\"mode\": \"talk\"}"];
    let done = site.pipe(["pipe"].iter().chain(&settings), b"one\n");
    done.assert_code(0);
    assert_labelled(&done.stderr, "");
}

#[test]
fn what_is_logged_in_an_agent_has_the_names_of_the_plugin_and_the_logstore_where_it_is_written() {
    let site = Site::new();
    site.write("logs/a.log", "one\n");
    site.config(
        "- name: a/b\n  files: { root: logs }\n  plugins: [{ use: weir-rude, settings: { mode: talk } }]\n  sink: out",
    );
    // It may be what is in a line: the agent's log has it only if it is told to.
    let ran = site.run();
    for words in ["forged", "warned", "cried"] {
        assert!(!ran.stderr.contains(words), "{}", ran.stderr);
    }
    ran.assert_says("its plugins log: see `weir tap a/b --log` logstore=\"a/b\" lines=1");
    site.append("logs/a.log", "two\n");
    let done = site.weir(["run", "-c", "weir.yaml", "--until-idle"]).env("RUST_LOG", "info").output().unwrap();
    assert_labelled(&String::from_utf8(done.stderr).unwrap(), "logstore=\"a/b\" ");
}

/// Each line of the plugin is one, and has its name; none is whispered.
#[track_caller]
fn assert_labelled(stderr: &str, whose: &str) {
    let of = |words: &str| stderr.lines().filter(|line| line.contains(words)).collect::<Vec<_>>();
    for (words, level) in [("said\\nERROR forged\\u{1b}[2J", " INFO "), ("warned", " WARN "), ("cried", "ERROR ")] {
        let lines = of(words);
        assert_eq!(lines.len(), 1, "{stderr}");
        assert!(lines[0].contains(&format!("{level}plugin: {words} {whose}plugin=\"weir-rude\"")), "{stderr}");
    }
    assert_eq!(of("whispered"), [""; 0]);
}

#[test]
fn an_event_that_is_poison_says_where_in_what_is_shipped() {
    let site = Site::new();
    site.write("logs/a.log", LINES);
    site.config(
        "- name: a/b\n  files: { root: logs }\n  plugins: [{ use: weir-rude, settings: { mode: poison } }]\n  sink: out",
    );
    site.run().assert_counts("a/b", [4, 4, 1, 0]);
    let events = site.events("a/b");
    let error = events[2]["__error__"].as_str().unwrap();
    assert!(error.starts_with("weir-rude: trapped: panicked at tests/plugins/rude/src/lib.rs:"), "{error}");
    assert!(error.contains("swallowed poison in weir_rude::look, called by "), "{error}");
    assert!(plugins().join("weir-rude.wasm").is_file());
}
