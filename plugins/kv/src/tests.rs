use proptest::prelude::*;
use weir_plugin::testing::{Harness, TestEvent, golden, run};

use super::*;

fn one(settings: &str, line: &str) -> TestEvent {
    run::<Kv>(settings, &[line]).unwrap().remove(0)
}

fn expect(settings: &str, line: &str, expected: &[(&str, &str)]) {
    let event = one(settings, line);
    assert_eq!((event.pairs().as_slice(), event.error.as_deref()), (expected, None), "{line}");
}

#[test]
fn golden_files() {
    golden::<Kv>("kv", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
}

#[test]
fn pairs_are_found() {
    expect("{}", "a=1 b=x", &[("a", "1"), ("b", "x")]);
    expect("{}", "  a=1   b=\t\r", &[("a", "1"), ("b", "")]);
    expect("{}", "url=/a?b=c a=1 a=2", &[("url", "/a?b=c"), ("a", "2")]);
    expect("{}", r#"a="x y" b='x' c="\"\n""#, &[("a", "x y"), ("b", "'x'"), ("c", "\"\n")]);
    expect("{}", "the a=1 end", &[("a", "1")]);
}

#[test]
fn separators_are_ones_own() {
    let settings = r#"{"field_split": ",", "value_split": ":", "quotes": "'\""}"#;
    expect(settings, " a : 1 ,b:'x, y' , c:\"it's\",,d:", &[("a", "1"), ("b", "x, y"), ("c", "it's"), ("d", "")]);
    let settings = r#"{"field_split": "; ", "value_split": " => "}"#;
    expect(settings, "a => 1; b => x;y; c => = >", &[("a", "1"), ("b", "x;y"), ("c", "= >")]);
    expect(r#"{"field_split": "&", "trim": "?"}"#, "?a=1&b=%20", &[("a", "1"), ("b", "%20")]);
    expect(r#"{"trim": "[]<>,"}"#, "a=<1>, [b=2]", &[("a", "1"), ("b", "2")]);
}

#[test]
fn keys_are_chosen_and_named() {
    let line = "a=1 b=2 c=3";
    expect(r#"{"include": ["a", "c"], "exclude": ["c"]}"#, line, &[("a", "1")]);
    expect(r#"{"exclude": ["a"], "prefix": "kv."}"#, line, &[("kv.b", "2"), ("kv.c", "3")]);
    expect(r#"{"include": ["x"]}"#, line, &[]);
    expect(r#"{"bare_keys": "keep"}"#, "x a=1 y", &[("x", "true"), ("a", "1"), ("y", "true")]);
    assert_eq!(one(r#"{"bare_keys": "fail"}"#, "a=1 y").error.as_deref(), Some("a key without a value"));
}

#[test]
fn kinds_and_time() {
    let settings = r#"{"guess_types": true, "types": {"x.id": "text"}, "prefix": "x.", "time": {"field": "x.t", "format": "unix"}}"#;
    let event = one(settings, "t=1714564800 id=7 ok=true");
    assert_eq!(event.time, Some(1_714_564_800_000_000_000));
    let kinds: Vec<_> = event.cells.iter().map(|cell| cell.1).collect();
    assert_eq!(kinds, [Kind::Integer, Kind::Text, Kind::Boolean]);
}

#[test]
fn what_has_no_pairs_fails() {
    for (line, reason) in [
        ("", "no pair"),
        ("hello there", "no pair"),
        ("=1", "a value without a key"),
        ("a=\"x", "a quote is not closed"),
        ("a=\"x\\\"", "a quote is not closed"),
        ("a=\"x\"y", "bytes behind a closing quote"),
    ] {
        assert_eq!(one("{}", line).error.as_deref(), Some(reason), "{line}");
    }
}

#[test]
fn wrong_settings_are_refused() {
    for (settings, expected) in [
        (r#"{"field_split": ""}"#, "field_split must not be empty"),
        (r#"{"value_split": ""}"#, "value_split must not be empty"),
        (r#"{"value_split": " ="}"#, "field_split ` ` and value_split ` =` begin alike, so none can tell them apart"),
        (r#"{"quotes": "«"}"#, "quotes: `«` is not an ASCII character"),
        (r#"{"splits": ","}"#, "unknown field `splits`"),
    ] {
        let error = run::<Kv>(settings, &["a=1"]).unwrap_err();
        assert!(error.starts_with(expected), "{settings}: {error}");
    }
}

#[test]
fn another_field_is_read_and_the_others_pass() {
    let mut plugin = Harness::<Kv>::new(r#"{"field": "message"}"#).unwrap();
    let event = vec![("pod", Kind::Text, &b"web-1"[..]), ("message", Kind::Text, b"a=1"), ("n", Kind::Integer, b"7")];
    let events = plugin.process_cells(&[event, vec![("pod", Kind::Text, b"web-1")]], true).events;
    assert_eq!(events[0].pairs(), [("pod", "web-1"), ("n", "7"), ("a", "1")]);
    assert_eq!(events[1].error.as_deref(), Some("no field `message`"));
}

/// The same, by `split`, for values without quotes.
fn slow(line: &str, field: &str, value: &str) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (key, value) in line.split(field).filter_map(|piece| piece.split_once(value)) {
        let (key, value) = (key.trim_matches(' ').to_owned(), value.trim_matches(' ').to_owned());
        match pairs.iter_mut().find(|pair| pair.0 == key) {
            Some(pair) => pair.1 = value,
            None => pairs.push((key, value)),
        }
    }
    pairs
}

proptest! {
    /// Guesses change nothing: lines that are alike are read as if each were the first.
    #[test]
    fn pairs_are_what_a_slow_reader_finds(
        lines in prop::collection::vec(prop::collection::vec("( ?(ab?|level|a_key_as_long_as_two_words_are) ?(=|=>|:))?[a-d.é=:> ]{0,6}", 1..6), 1..9),
        (field, value) in prop::sample::select(vec![(" ", "="), (",", ":"), ("; ", "=>"), ("||", "=")]),
    ) {
        let lines: Vec<_> = lines.iter().map(|pieces| pieces.join(field)).collect();
        let settings = format!(r#"{{"field_split": "{field}", "value_split": "{value}", "trim": " ", "quotes": ""}}"#);
        let mut plugin = Harness::<Kv>::new(&settings).unwrap();
        for _ in 0..2 {
            let padding = "x".repeat(64);
            let padded: Vec<_> = lines.iter().map(String::as_str).chain([padding.as_str()]).collect();
            let events = plugin.process(&padded, false).events;
            for (event, line) in events.iter().zip(&lines) {
                let expected = slow(line, field, value);
                let read: Vec<_> = event.cells.iter().map(|cell| (cell.0.clone(), cell.2.clone())).collect();
                match &event.error {
                    None => prop_assert_eq!(read, expected, "{}", line),
                    Some(error) if error == "no pair" => prop_assert!(expected.is_empty(), "{}", line),
                    Some(_) => prop_assert!(expected.iter().any(|(key, _)| key.is_empty()), "{}", line),
                }
            }
        }
    }
}
