//! Each of the manners fails on a plugin that breaks exactly that one.

use crate::harness::{Done, Site};
use crate::testing::{case, expect, rude, test};

const LINES: &str = "one\ntwo\nthree\nfour\n";

/// The names of what failed.
fn failed(done: &Done) -> Vec<&str> {
    let names = done.text().lines().filter_map(|line| line.strip_prefix("    FAILED   ")?.split(' ').next());
    names.collect()
}

/// What the plugin makes in that mode is what is expected of it.
fn blessed(mode: &str) -> (Site, Done) {
    let site = rude(mode, LINES);
    site.output(["plugin", "test", "p", "--bless"]);
    let done = test(&site);
    (site, done)
}

#[track_caller]
fn assert_breaks(mode: &str, manner: &str, words: &[&str]) {
    let (_site, done) = blessed(mode);
    done.assert_code(70);
    assert_eq!(failed(&done), [manner], "{}", done.text());
    for words in words {
        assert!(done.text().contains(words), "{words} in:\n{}", done.text());
    }
}

#[test]
fn a_batch_may_have_no_event() {
    let words = "FAILED   empty         with the settings of some: it faults on a batch without events\n      trapped: panicked at ";
    assert_breaks(
        "empty",
        "empty",
        &[words, "      a batch may have no event: look at its first or last one only if there is one, or skip this: "],
    );
}

#[test]
fn nothing_may_follow_nothing() {
    assert_breaks(
        "last",
        "last",
        &["it faults when nothing follows and there is no event\n      trapped: panicked at "],
    );
}

#[test]
fn nothing_is_held_when_nothing_follows() {
    assert_breaks("hold-last", "last", &["it holds 1 of the events of some.log though nothing follows\n"]);
}

#[test]
fn a_line_may_have_no_byte() {
    let words = [
        "FAILED   empty-line    with the settings of some: it faults on an empty line\n",
        ": a line has bytes\n      at event 1: (an empty line)\n      in ",
        "      a line may have no byte: fail it with a reason, or keep it as it is, or skip this: docs/testing.md\n",
    ];
    assert_breaks("empty-line", "empty-line", &words);
}

#[test]
fn a_line_may_be_huge() {
    let line = format!(": a line is short\n      at event 2: {}… (1048576 bytes)\n", "one ".repeat(50));
    assert_breaks("huge-line", "huge-line", &["it faults on a line of 1 MiB\n", &line]);
}

#[test]
fn a_line_may_be_no_text() {
    assert_breaks(
        "invalid-utf8",
        "invalid-utf8",
        &["it faults on what is no UTF-8\n", "\n      at event 7: one\\xff\\xfe\n"],
    );
}

#[test]
fn a_line_may_have_zeros() {
    assert_breaks("zero-bytes", "zero-bytes", &["it faults on bytes that are zero\n", "\n      at event 5: one\\0\n"]);
}

#[test]
fn batches_are_cut_anywhere() {
    let words = "FAILED   split         with the settings of some: other events come out: cut before event 2
      event 2:
      - {\"content\":\"two\",\"number\":1}
      + {\"content\":\"two\",\"number\":0}
";
    assert_breaks("split", "split", &[words]);
}

#[test]
fn an_instance_is_given_anything_next() {
    let words = "with the settings of some: other events come out: the second time
      event 1:
      - {\"content\":\"one\",\"number\":0}
      + {\"content\":\"one\",\"number\":1}
";
    assert_breaks("twice", "twice", &[words]);
}

#[test]
fn an_instance_is_replaced_at_any_time() {
    let words = "other events come out: another instance from event 2 on
      event 2:
      - {\"content\":\"two\",\"number\":1}
      + {\"content\":\"two\",\"number\":0}
";
    assert_breaks("fresh", "fresh", &[words]);
}

#[test]
fn all_cases_that_break_one_are_named() {
    let site = rude("split", LINES);
    case(&site, "more", "split", LINES);
    case(&site, "polite", "polite", LINES);
    site.output(["plugin", "test", "p", "--bless"]);
    let done = test(&site);
    assert_eq!(failed(&done), ["split"], "{}", done.text());
    assert!(done.text().contains("with the settings of more; and of some: other events"), "{}", done.text());
}

#[test]
fn what_cannot_be_kept_is_skipped_with_a_reason() {
    let (site, done) = blessed("split");
    done.assert_code(70);
    site.write("p/tests/manners.json", "{\"skip\": {\"split\": \"it looks at the whole batch\"}}");
    let done = test(&site);
    done.assert_code(0);
    assert!(done.text().contains("    skipped  split         it looks at the whole batch\n"), "{}", done.text());

    site.write("p/tests/manners.json", "{\"skip\": {\"spilt\": \"it looks at the whole batch\"}}");
    let done = test(&site);
    done.assert_code(70);
    assert_eq!(failed(&done), ["manners.json"]);
    assert!(
        done.text().contains("unknown variant `spilt`, expected one of `empty`, `last`, `empty-line`"),
        "{}",
        done.text()
    );
}

#[test]
fn an_evil_plugin_fails_at_once() {
    for (mode, words) in [
        (
            "cell-out-of-bounds",
            "its output breaks the contract: cell 0 (event 0) has the bytes 0..5, and there are 4 of input",
        ),
        ("grow", "out of memory: it may have 67108864 bytes"),
        ("recurse", "trapped: wasm trap: out of bounds memory access"),
        ("spin", "out of fuel: it used all of 10136000"),
    ] {
        let site = Site::new();
        crate::testing::project(&site, "p", "weir-evil");
        case(&site, "some", mode, "one\n");
        expect(&site, "some", "{\"content\":\"one\"}\n");
        let done = test(&site);
        done.assert_code(70);
        assert_eq!(failed(&done), ["some"], "{}", done.text());
        assert!(
            done.text().contains(&format!("    FAILED   some          it faults\n      {words}")),
            "{}",
            done.text()
        );
        assert!(done.text().contains("      at some.log:1: one\n"), "{}", done.text());
        assert!(done.text().contains("    skipped  manners       no case runs\n"), "{}", done.text());
    }
}
