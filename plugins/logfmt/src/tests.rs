use proptest::prelude::*;
use weir_plugin::testing::{Harness, TestEvent, golden, run};

use super::*;

fn one(settings: &str, line: &str) -> TestEvent {
    run::<Logfmt>(settings, &[line]).unwrap().remove(0)
}

fn expect(settings: &str, line: &str, expected: &[(&str, &str)]) {
    let event = one(settings, line);
    assert_eq!((event.pairs().as_slice(), event.error.as_deref()), (expected, None), "{line}");
}

#[test]
fn golden_files() {
    golden::<Logfmt>("logfmt", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
}

#[test]
fn pairs_are_found() {
    expect("{}", "a=1 b=x", &[("a", "1"), ("b", "x")]);
    expect("{}", " \t a=1   b= \r", &[("a", "1"), ("b", "")]);
    expect("{}", r#"a="x y" b="" c="\"q\" é\n\u00e9""#, &[("a", "x y"), ("b", ""), ("c", "\"q\" é\né")]);
    expect("{}", "url=/a?b=c&d=\"e\" x=y", &[("url", "/a?b=c&d=\"e\""), ("x", "y")]);
    expect("{}", "a=1 a=2 b=3 a=4", &[("a", "4"), ("b", "3")]);
}

#[test]
fn bare_keys_are_what_the_settings_say() {
    let line = "a fatal=1 b";
    expect("{}", line, &[("a", "true"), ("fatal", "1"), ("b", "true")]);
    expect(r#"{"bare_keys": "drop"}"#, line, &[("fatal", "1")]);
    assert_eq!(one(r#"{"bare_keys": "fail"}"#, line).error.as_deref(), Some("a key without a value"));
    assert_eq!(one("{}", line).cells[0].1, Kind::Boolean);
}

#[test]
fn what_is_not_logfmt_fails() {
    for (line, reason) in [
        ("", "no key=value"),
        ("   ", "no key=value"),
        ("starting server on port 80", "no key=value"),
        ("=1", "a value without a key"),
        ("a=1 =2", "a value without a key"),
        ("a=\"x", "a quote is not closed"),
        ("a=\"x\\\"", "a quote is not closed"),
        ("a=\"x\\", "a quote is not closed"),
        ("a=\"x\"y", "bytes behind a closing quote"),
        ("say \"hi\" a=1", "a quote in a key"),
        ("a\"b=1", "a quote in a key"),
    ] {
        assert_eq!(one("{}", line).error.as_deref(), Some(reason), "{line}");
    }
}

#[test]
fn kinds_are_guessed_or_given() {
    let line = r#"i=12 f=1.5 b=true t=12ms q="12" id=12"#;
    let kinds = |settings| one(settings, line).cells.iter().map(|cell| cell.1).collect::<Vec<_>>();
    assert_eq!(kinds("{}"), [Kind::Text; 6]);
    let guessed = kinds(r#"{"guess_types": true, "types": {"id": "text"}}"#);
    assert_eq!(guessed, [Kind::Integer, Kind::Float, Kind::Boolean, Kind::Text, Kind::Text, Kind::Text]);
    assert_eq!(kinds(r#"{"types": {"q": "integer"}}"#)[4], Kind::Integer);
}

#[test]
fn the_time_is_read_and_its_field_stays() {
    let settings = r#"{"time": {"field": "ts", "format": "rfc3339"}}"#;
    for line in ["a=1 ts=2024-05-01T12:00:00Z", "ts=\"2024-05-01T12:00:00Z\"", r#"ts="2024-05-01T12:00:0\u0030Z""#] {
        let event = one(settings, line);
        assert_eq!((event.time, event.get("ts")), (Some(1_714_564_800_000_000_000), Some("2024-05-01T12:00:00Z")));
    }
    let error = run::<Logfmt>(r#"{"time": {"field": "ts", "format": "x"}}"#, &["a=1"]).unwrap_err();
    assert!(error.starts_with("time: time format `x` is not known"), "{error}");
}

#[test]
fn another_field_can_be_read() {
    let mut plugin = Harness::<Logfmt>::new(r#"{"field": "message"}"#).unwrap();
    let event = vec![("pod", Kind::Text, &b"web-1"[..]), ("message", Kind::Text, b"a=1")];
    let events = plugin.process_cells(&[event, vec![("content", Kind::Text, b"a=1")]], true).events;
    assert_eq!(events[0].pairs(), [("pod", "web-1"), ("a", "1")]);
    assert_eq!(events[1].error.as_deref(), Some("no field `message`"));
}

/// The same, byte by byte, without guesses.
fn slow(line: &str) -> Result<Vec<(String, String)>, &'static str> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut has_value = false;
    let mut rest = line.trim_start_matches(|c: char| c <= ' ');
    while !rest.is_empty() {
        let end = rest.find(|c: char| c <= ' ' || c == '=' || c == '"').unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        if after.starts_with('"') {
            return Err("a quote in a key");
        }
        if key.is_empty() {
            return Err("a value without a key");
        }
        let value;
        (value, rest) = match after.strip_prefix('=') {
            None => ("true".to_owned(), after),
            Some(quoted) if quoted.starts_with('"') => {
                let mut end = 1;
                loop {
                    match quoted.as_bytes().get(end) {
                        None => return Err("a quote is not closed"),
                        Some(b'"') => break,
                        Some(b'\\') => end += 2,
                        Some(_) => end += 1,
                    }
                }
                let mut value = Vec::new();
                escape::append(&quoted.as_bytes()[1..end], &mut value);
                let rest = &quoted[end + 1..];
                if rest.starts_with(|c| c > ' ') {
                    return Err("bytes behind a closing quote");
                }
                (String::from_utf8(value).unwrap(), rest)
            }
            Some(plain) => {
                let (value, rest) = plain.split_at(plain.find(|c: char| c <= ' ').unwrap_or(plain.len()));
                (value.to_owned(), rest)
            }
        };
        has_value |= after.starts_with('=');
        match pairs.iter_mut().find(|pair| pair.0 == key) {
            Some(pair) => pair.1 = value,
            None => pairs.push((key.to_owned(), value)),
        }
        rest = rest.trim_start_matches(|c: char| c <= ' ');
    }
    if has_value { Ok(pairs) } else { Err("no key=value") }
}

proptest! {
    /// Guesses change nothing: lines that are alike are read as if each were the first.
    #[test]
    fn pairs_are_what_a_slow_reader_finds(
        lines in prop::collection::vec("((ab?|level|a_key_that_is_as_long_as_two_words)[=x]=?([a-z0-9.é]{0,5}|\"([a-c =]|\\\\[\"n\\\\q]){0,4}\"?)[ \t]{0,2}){0,6}", 1..12),
    ) {
        let mut plugin = Harness::<Logfmt>::new("{}").unwrap();
        for _ in 0..2 {
            let padding = format!("end={}", "x".repeat(64));
            let padded: Vec<_> = lines.iter().map(String::as_str).chain([padding.as_str()]).collect();
            let events = plugin.process(&padded, false).events;
            for (event, line) in events.iter().zip(&lines) {
                let read = match &event.error {
                    None => Ok(event.cells.iter().map(|cell| (cell.0.clone(), cell.2.clone())).collect()),
                    Some(error) => Err(error.as_str()),
                };
                prop_assert_eq!(read, slow(line), "{}", line);
            }
        }
    }
}
