use weir_plugin::testing::{Harness, TestEvent, golden, run};

use super::*;

fn one(settings: &str, line: &str) -> TestEvent {
    run::<W3c>(settings, &[line]).unwrap().remove(0)
}

fn expect(settings: &str, line: &str, expected: &[(&str, &str)]) {
    let event = one(settings, line);
    assert_eq!((event.pairs().as_slice(), event.error.as_deref()), (expected, None), "{line}");
}

#[test]
fn golden_files() {
    golden::<W3c>("w3c", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
}

#[test]
fn columns_are_found() {
    let settings = r##"{"fields": "#Fields: a b\tc"}"##;
    expect(settings, "1 2 3", &[("a", "1"), ("b", "2"), ("c", "3")]);
    expect(settings, "1\t-\t3\r", &[("a", "1"), ("c", "3")]);
    expect(settings, "1 \"2 \"\"x\"\" \" \"\"", &[("a", "1"), ("b", "2 \"x\" "), ("c", "")]);
    expect(settings, "1  3", &[("a", "1"), ("b", ""), ("c", "3")]);
    expect(r#"{"fields": "a"}"#, "1", &[("a", "1")]);
}

#[test]
fn what_does_not_fit_fails_and_says_what_to_set() {
    for (line, reason) in [
        ("", TOO_FEW),
        ("1", TOO_FEW),
        ("1 ", TOO_FEW),
        ("1 2 3", TOO_MANY),
        ("1 2 \"3", TOO_MANY),
        ("1 \"2", "a quote is not closed"),
        ("1 \"2\"\"", "a quote is not closed"),
        ("1 \"2\"x", "bytes behind a closing quote"),
    ] {
        assert_eq!(one(r#"{"fields": "a b"}"#, line).error.as_deref(), Some(reason), "{line}");
    }
}

#[test]
fn directives_are_left_out_unless_they_name_other_columns() {
    let lines = ["#Software: x", "#Fields: a b", "1 2", "#Fields:\ta  b\r", "#Fields: b a", "#Fields: a b c", "#"];
    let out = Harness::<W3c>::new(r#"{"fields": "a b"}"#).unwrap().process(&lines, true);
    let errors: Vec<_> = out.events.iter().map(|event| event.error.as_deref()).collect();
    assert_eq!(errors, [None, Some(OTHER_FIELDS), Some(OTHER_FIELDS)]);
    assert_eq!(out.dropped, 4);
}

#[test]
fn the_time_is_two_columns() {
    for (fields, line, time) in [
        ("date time", "2024-05-01 12:00:00", Some(1_714_564_800_000_000_000)),
        ("time x date", "12:00:00.5 y 2024-05-01", Some(1_714_564_800_500_000_000)),
        ("date time", "2024-05-01 -", None),
        ("time", "12:00:00", None),
        ("date time", "2024-05-01 12:00:00.000000000000000000000000000000", None),
    ] {
        let event = one(&format!(r#"{{"fields": "{fields}"}}"#), line);
        assert_eq!((event.time, event.error), (time, None), "{line}");
    }
}

#[test]
fn names_and_spaces_are_made_plain_on_request() {
    let settings = r#"{"fields": "cs(User-Agent) s-ip", "plain_names": true, "plus_is_space": true}"#;
    expect(settings, "Mozilla/5.0+(X11)+a 1", &[("cs_user_agent", "Mozilla/5.0 (X11) a"), ("s_ip", "1")]);
}

#[test]
fn wrong_settings_are_refused() {
    for (settings, error) in [
        (r#"{"fields": ""}"#, "fields must name at least one column, as the file's #Fields line does"),
        (r#"{"fields": "a a"}"#, "fields: `a` is there twice"),
        (r#"{"fields": "a-b a_b", "plain_names": true}"#, "fields: `a_b` is there twice"),
        (r#"{"fields": "__a"}"#, "fields: field `__a`: names that begin with `__` belong to the host"),
    ] {
        assert_eq!(run::<W3c>(settings, &["1"]).unwrap_err(), error);
    }
}
