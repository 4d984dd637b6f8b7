use proptest::prelude::*;
use weir_plugin::Kind;
use weir_plugin::testing::{Harness, TestEvent, golden, ndjson, run};
use weir_plugin_regex::Pattern;

use super::Regex;

fn one(settings: &str, line: &str) -> TestEvent {
    run::<Regex>(settings, &[line]).unwrap().remove(0)
}

/// Settings with one pattern.
fn with(pattern: &str) -> String {
    format!(r#"{{"pattern":"{}"}}"#, pattern.escape_default())
}

fn expect(pattern: &str, line: &str, expected: &[(&str, &str)]) {
    let event = one(&with(pattern), line);
    assert_eq!((event.pairs().as_slice(), event.error.as_deref()), (expected, None), "{pattern} {line}");
}

#[test]
fn golden_files() {
    golden::<Regex>("regex", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
}

#[test]
fn named_groups_become_fields() {
    expect(r"^(?P<a>\S+) (?:x|y) (?<b>\d+)$", "1 x 23", &[("a", "1"), ("b", "23")]);
    expect(r"(?<b>\d+)-(?<a>\d+)", "from 1-2 to 3-4", &[("b", "1"), ("a", "2")]);
    expect(r"^(?<all>(?<first>\w)\w*)(x)?", "word", &[("all", "word"), ("first", "w")]);
    expect(r"(?<a>)", "", &[("a", "")]);
}

#[test]
fn groups_without_a_part_in_the_match_are_left_out() {
    let pattern = r"^(?:(?<number>\d+)|(?<word>\w+))(?<rest> .*)?$";
    expect(pattern, "12", &[("number", "12")]);
    expect(pattern, "ab c", &[("word", "ab"), ("rest", " c")]);
    expect(pattern, "34", &[("number", "34")]);
}

#[test]
fn the_first_pattern_that_matches_counts() {
    let settings =
        r#"{"patterns":["^a (?<a>\\d+) (?<x>\\S+)$","^b (?<b>\\w+)$","(?<a>[a-c])"],"types":{"a":"integer"}}"#;
    let lines = ["a 1 2", "b x", "a x y", "zzz", ""];
    let events = Harness::<Regex>::new(settings).unwrap().process(&lines, true).events;
    let none = Some("no pattern matches".to_owned());
    let got: Vec<_> = events.iter().map(|e| (e.pairs(), e.error.clone())).collect();
    assert_eq!(
        got,
        [
            (vec![("a", "1"), ("x", "2")], None),
            (vec![("b", "x")], None),
            (vec![("a", "a")], None),
            (vec![("content", "zzz")], none.clone()),
            (vec![("content", "")], none),
        ]
    );
    assert_eq!(events[0].cells[0].1, Kind::Integer);
}

#[test]
fn bytes_are_matched_unless_unicode_is_asked_for() {
    let line = "é!";
    assert_eq!(one(r#"{"pattern":"^(?<a>\\w+)!$"}"#, line).error.as_deref(), Some("no pattern matches"));
    assert_eq!(one(r#"{"pattern":"^(?<a>..)!$"}"#, line).get("a"), Some("é"));
    assert_eq!(one(r#"{"pattern":"^(?<a>\\w+)!$","unicode":true}"#, line).get("a"), Some("é"));
    assert_eq!(one(r#"{"pattern":"^(?<a>.)!$","unicode":true}"#, line).get("a"), Some("é"));
    let broken = &run::<Regex>(r#"{"pattern":"^(?<a>[^ ]+) (?<b>.*)$"}"#, &[b"\xff\xfe x"]).unwrap()[0];
    assert_eq!(broken.pairs(), [("a", "\u{fffd}\u{fffd}"), ("b", "x")]);
}

#[test]
fn the_time_is_read_and_its_field_stays() {
    let settings = r#"{"patterns":["^(?<t>\\d+) (?<a>.*)$","^(?<a>x) (?:(?<t>\\d+)|-)$"],"time":{"field":"t","format":"unix_ns"}}"#;
    for (line, time, pairs) in [
        ("12 y", Some(12), vec![("t", "12"), ("a", "y")]),
        ("x 34", Some(34), vec![("a", "x"), ("t", "34")]),
        ("x -", None, vec![("a", "x")]),
        ("99999999999999999999 y", None, vec![("t", "99999999999999999999"), ("a", "y")]),
    ] {
        let event = one(settings, line);
        assert_eq!((event.time, event.pairs()), (time, pairs), "{line}");
    }
}

#[test]
fn other_cells_pass_through() {
    let mut plugin = Harness::<Regex>::new(&with("^(?<a>.*)$")).unwrap();
    let event = vec![("stream", Kind::Text, &b"stderr"[..]), ("content", Kind::Text, b"x")];
    assert_eq!(plugin.process_cells(&[event], true).events[0].pairs(), [("stream", "stderr"), ("a", "x")]);
}

#[test]
fn another_field_is_parsed() {
    let settings = r#"{"pattern":"^(?<a>\\w+)=(?<message>.*)$","field":"message"}"#;
    let events = [r#"{"n":1,"message":"x=y","m":2}"#, r#"{"message":"x"}"#, r#"{"content":"x=y"}"#];
    assert_eq!(
        ndjson::<Regex>("regex", settings, &events).unwrap(),
        [
            r#"{"n":1,"m":2,"a":"x","message":"y"}"#,
            r#"{"message":"x","__error__":"regex: no pattern matches"}"#,
            r#"{"content":"x=y","__error__":"regex: no field `message`"}"#,
        ]
    );
}

#[test]
fn wrong_settings_are_refused() {
    for (settings, expected) in [
        (r#"{}"#, "give a pattern, or several patterns"),
        (r#"{"patterns":[]}"#, "give a pattern, or several patterns"),
        (r#"{"pattern":"(?<a>x)","patterns":["(?<b>x)"]}"#, "give either pattern or patterns, not both"),
        (r#"{"pattern":"(x)"}"#, "pattern: `(x)` has no named group"),
        (r#"{"patterns":["(?<a>x)","x"]}"#, "patterns[1]: `x` has no named group"),
        (r#"{"pattern":"(?<a>"}"#, "pattern: regex parse error"),
        (r#"{"pattern":"(?<__a>x)"}"#, "pattern: field `__a`: names that begin with `__` belong to the host"),
        (r#"{"pattern":"(?<a>\\w{1000}{1000})"}"#, "pattern: it is too large"),
        (r#"{"pattern":"(?<a>x)","types":{"b":"text"}}"#, "types: no group has the name `b`"),
        (r#"{"pattern":"(?<a>x)","time":{"field":"b","format":"unix"}}"#, "time: no group has the name `b`"),
        (r#"{"pattern":"(?<a>x)","time":{"field":"a","format":"x"}}"#, "time: time format `x` is not known"),
        (r#"{"pattern":"(?<a>x)","patern":1}"#, "unknown field `patern`"),
    ] {
        let error = run::<Regex>(settings, &["1"]).unwrap_err();
        assert!(error.starts_with(expected), "{settings}: {error}");
    }
}

#[test]
fn rows_of_pieces_that_exclude_each_other_are_scanned() {
    for (pattern, scanned) in [
        (r#"^(?<a>\S+) - (?<b>\S+) \[(?<c>[^\]]+)\] "(?<d>[^"]*)" (?<e>\d+)$"#, true),
        (r"^(?<a>\d{4})-(?<b>\d{1,2}) (?<c>[A-Z][a-z]*):(?<d>.*)", true),
        (r"^(?<a>\w+)\s*=\s*(?<b>(\S)+)$", false), // a repeated group
        (r"^(?<a>\w+)\s*=\s*(?<b>\S+)$", true),
        (r"^(?<a>\w*)(?<b>\s*)(?<c>\w*)$", false), // without the white space in between, the words are one
        (r"^(?<a>\w*)(?<b>\s+)(?<c>\w*)$", true),
        (r"(?<a>\S+) (?<b>\S+)$", false),
        (r"^(?<a>.*) (?<b>\S+)$", false),
        (r"^(?<a>.*?) (?<b>\S+)$", false),
        (r"^(?<a>\S+)( (?<b>\S+))?$", false),
        (r"^(?<a>x|yz)$", false),
        (r"(?m)^(?<a>\S+)$", false),
        (r"^(?<a>\S+)\b$", false),
    ] {
        assert_eq!(Pattern::new(pattern, false).unwrap().is_scanned(), scanned, "{pattern}");
    }
    assert!(Pattern::new(r"^(?<a>[0-9]+) (?<b>[a-z]+)$", true).unwrap().is_scanned());
}

/// One piece of a pattern.
fn piece() -> impl Strategy<Value = String> {
    let class =
        prop::sample::select(vec!["\\S", "\\d", "\\w", "[^\\]]", "[^\"x]", "[a-c]", ".", "\\s", "x", "[^a]", "[ -~]"]);
    let count = prop::sample::select(vec!["", "*", "+", "{2}", "{1,3}", "{2,}", "{0,2}", "+?", "?"]);
    let text = prop::sample::select(vec![
        " ",
        "\\]",
        "\"",
        "x",
        "ab",
        " - ",
        "1",
        "",
        "a long piece of text, longer than a block",
    ]);
    prop_oneof![3 => (class, count).prop_map(|(class, count)| format!("{class}{count}")), 2 => text.prop_map(str::to_owned)]
}

proptest! {
    /// What is found by scanning is what the general engine finds.
    #[test]
    fn scanning_finds_what_an_engine_does(
        pieces in prop::collection::vec((piece(), any::<bool>()), 1..7),
        to_end: bool,
        lines in prop::collection::vec("([a-c]{0,3}|[0-9]{0,4}|[ \"\\]x-]{0,2}|[a-c]{16,20}|a long piece of text, longer than a block|é){0,6}", 1..10),
    ) {
        let mut pattern = "^(?<all>".to_owned();
        for (i, (piece, is_group)) in pieces.iter().enumerate() {
            pattern += &if *is_group { format!("(?<g{i}>{piece})") } else { format!("(?:{piece})") };
        }
        pattern += if to_end { ")$" } else { ")" };
        // An empty alternative changes nothing but that there is no plan.
        let general = format!("(?:{pattern}|^\\b\\B)");
        prop_assert!(!Pattern::new(&general, false).unwrap().is_scanned());
        let events = |pattern: &str| Harness::<Regex>::new(&with(pattern)).unwrap().process(&lines, true);
        prop_assert_eq!(events(&pattern), events(&general), "{}", pattern);
    }
}
