use weir_plugin::testing::{TestEvent, golden, run};
use weir_plugin::time::format_rfc3339;

use super::*;

fn one(settings: &str, line: &str) -> TestEvent {
    run::<Klog>(settings, &[line]).unwrap().remove(0)
}

fn pairs(message: &str) -> Result<Vec<(String, Kind, String)>, String> {
    let event = one("{}", &format!("I0102 15:04:05.000000 1 a.go:1] {message}"));
    match event.error {
        None => Ok(event.cells[5..].to_vec()),
        Some(error) => Err(error),
    }
}

#[test]
fn golden_files() {
    golden::<Klog>("klog", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
}

#[test]
fn a_message_without_quotes_is_all_that_stands_there() {
    for message in ["", "x", "Starting \"a\" b=c", " two", "]"] {
        assert_eq!(pairs(message), Ok(vec![("message".into(), Kind::Text, message.into())]));
    }
    let quoted = one(r#"{"structured": false}"#, "I0102 15:04:05.000000 1 a.go:1] \"x\" a=1");
    assert_eq!(quoted.get("message"), Some("\"x\" a=1"));
}

#[test]
fn values_are_what_go_writes() {
    let line =
        "\"a \\\"b\\\"\" s=\"x\\ty\" n=12 f=1.5s b=true o={\"a\":\"}\",\"c\":[1]} l=[\"x y\"] t=<\n\tone\n\ttwo\n > e=";
    let expected = [
        ("message", Kind::Text, "a \"b\""),
        ("s", Kind::Text, "x\ty"),
        ("n", Kind::Integer, "12"),
        ("f", Kind::Text, "1.5s"),
        ("b", Kind::Boolean, "true"),
        ("o", Kind::Json, "{\"a\":\"}\",\"c\":[1]}"),
        ("l", Kind::Json, "[\"x y\"]"),
        ("t", Kind::Text, "one\ntwo"),
        ("e", Kind::Text, ""),
    ];
    let found = pairs(line).unwrap();
    let found: Vec<_> = found.iter().map(|(name, kind, value)| (name.as_str(), *kind, value.as_str())).collect();
    assert_eq!(found, expected);
    let event = one(r#"{"prefix": "k_", "guess_types": false}"#, "I0102 15:04:05.000000 1 a.go:1] \"x\" file=1");
    assert_eq!(event.cells[6], ("k_file".into(), Kind::Text, "1".into()));
}

#[test]
fn what_is_not_klog_fails() {
    for line in [
        "",
        "I",
        "D0102 15:04:05.000000 1 a.go:1] x",
        "I0102 15:04:05 1 a.go:1] x",
        "I1302 15:04:05.000000 1 a.go:1] x",
        "I0102 15:04:05.000000",
        "I0102 15:04:05.000000 a.go:1] x",
        "I0102 15:04:05.000000 1",
        "I0102 15:04:05.000000 1 a.go:1",
        "I0102 15:04:05.000000 1 a.go] x",
    ] {
        assert_eq!(one("{}", line).error.as_deref(), Some(NO_HEADER), "{line}");
    }
    for (message, reason) in [
        ("\"x", "a quote is not closed"),
        ("\"x\" y", "no key=value behind the message"),
        ("\"x\" =y", "no key=value behind the message"),
        ("\"x\" y=\"", "a quote is not closed"),
        ("\"x\" y={\"", "a quote is not closed"),
        ("\"x\" y={[]", "a bracket is not closed"),
    ] {
        assert_eq!(pairs(message), Err(reason.into()), "{message}");
    }
}

#[test]
fn the_year_is_a_setting() {
    let line = "W0229 15:04:05.250000    1234 a.go:1] x";
    let event = one(r#"{"year": 2024, "zone": "-0100"}"#, line);
    assert_eq!(event.time.map(format_rfc3339).as_deref(), Some("2024-02-29T16:04:05.25Z"));
    assert_eq!((one("{}", line).time, one(r#"{"year": 2023}"#, line).time), (None, None));
}

#[test]
fn no_beginning_of_a_line_makes_trouble() {
    let line = "I0102 15:04:05.000000 1 a.go:1] \"a \\\"\" s=\"x\\t\" o={\"a\":[\"\\\"\"]} t=<\n\tone\n > e=1";
    let lines: Vec<_> = (0..=line.len()).map(|end| &line[..end]).collect();
    assert_eq!(run::<Klog>("{}", &lines).unwrap().len(), lines.len());
}
