use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use weir_plugin::Kind;
use weir_plugin::testing::{Harness, TestEvent, golden, run};

use super::Json;

/// What the plugin makes of the lines, once they are known to it and more data is behind them: by its guesses.
fn known(settings: &str, lines: &[&str]) -> Vec<TestEvent> {
    let mut plugin = Harness::<Json>::new(settings).unwrap();
    let padding = " ".repeat(200);
    let padded: Vec<_> = lines.iter().copied().chain([padding.as_str()]).collect();
    plugin.process(&padded, false);
    let mut events = plugin.process(&padded, false).events;
    events.pop();
    events
}

/// What it makes of one line, met for the first time, and again; which must be the same.
fn one(settings: &str, line: &str) -> TestEvent {
    let mut first = run::<Json>(settings, &[line]).unwrap();
    assert_eq!(known(settings, &[line]), first, "{line}");
    first.remove(0)
}

fn pairs(settings: &str, line: &str) -> Vec<(String, String)> {
    let event = one(settings, line);
    assert_eq!(event.error, None, "{line}");
    event.cells.into_iter().map(|(name, _, value)| (name, value)).collect()
}

fn expect(settings: &str, line: &str, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    assert_eq!(pairs(settings, line), expected, "{line}");
}

fn error(settings: &str, line: &str) -> String {
    one(settings, line).error.unwrap_or_else(|| panic!("should fail: {line}"))
}

#[test]
fn golden_files() {
    golden::<Json>("json", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
}

#[test]
fn each_value_has_its_kind() {
    let event =
        one("{}", r#"{"s":"x","i":-12,"f":1.50,"e":1E3,"t":true,"n":false,"z":null,"a":[1, "]"],"o":{"p":{}}}"#);
    let cells: Vec<_> = event.cells.iter().map(|(n, k, v)| (n.as_str(), *k, v.as_str())).collect();
    let expected = [
        ("s", Kind::Text, "x"),
        ("i", Kind::Integer, "-12"),
        ("f", Kind::Float, "1.50"),
        ("e", Kind::Float, "1E3"),
        ("t", Kind::Boolean, "true"),
        ("n", Kind::Boolean, "false"),
        ("z", Kind::Json, "null"),
        ("a", Kind::Json, r#"[1, "]"]"#),
        ("o", Kind::Json, r#"{"p":{}}"#),
    ];
    assert_eq!(cells, expected);
}

#[test]
fn white_space_and_a_byte_order_mark_are_let_through() {
    for line in ["{}", " { } ", "\u{feff}{}", "\u{feff} {}\r"] {
        expect("{}", line, &[]);
    }
    expect("{}", " \t{ \"a\" : 1 ,\n\"b\":\r [ ] } \r", &[("a", "1"), ("b", "[ ]")]);
    expect("{}", "\u{feff}{\"a\":1}", &[("a", "1")]);
}

#[test]
fn what_is_not_one_object_fails() {
    for (line, reason) in [
        ("", "not an object"),
        ("  ", "not an object"),
        ("hello", "not an object"),
        ("[1]", "not an object"),
        ("\"a\"", "not an object"),
        (" \u{feff}{}", "not an object"),
        ("{}x", "trailing bytes"),
        ("{\"a\":1} {}", "trailing bytes"),
        ("{\"a\":1}}", "trailing bytes"),
        ("{", "truncated"),
        ("{\"a\":tru", "truncated"),
        ("{,\"a\":1}", "a key is missing"),
        ("{\"a\":1,}", "a key is missing"),
        ("{\"a\":1,,\"b\":2}", "a key is missing"),
        ("{a:1}", "a key is missing"),
        ("{\"a\" 1}", "a colon is missing"),
        ("{\"a\"}", "a colon is missing"),
        ("{\"a\":1\"b\":2}", "a comma is missing"),
        ("{\"a\":12x}", "a comma is missing"),
        ("{\"a\":\"b\"\"c\"}", "a comma is missing"),
        ("{\"a\":[1}", "a comma is missing"),
        ("{\"a\":{\"b\":1]}", "a comma is missing"),
        ("{\"a\":}", "not a JSON value"),
        ("{\"a\":True}", "not a JSON value"),
        ("{\"a\":nulx}", "not a JSON value"),
        ("{\"a\":01}", "not a JSON value"),
        ("{\"a\":.5}", "not a JSON value"),
        ("{\"a\":+5}", "not a JSON value"),
        ("{\"a\":1.}", "not a JSON value"),
        ("{\"a\":'x'}", "not a JSON value"),
        ("{\"a\":\"\\x\"}", "not a JSON escape"),
        ("{\"a\":\"\\u12g4\"}", "not a JSON escape"),
    ] {
        assert_eq!(error("{}", line), reason, "{line}");
        assert_eq!(one("{}", line).get("content"), Some(line));
    }
}

#[test]
fn every_beginning_of_a_line_fails() {
    let line = r#"{"time":"2024-01-01T00:00:00Z","e\u00e9":"a\"\ud83d\ude00","n":-1.5e+3,"o":{"p":[true,null,{"q":{}}]},"z":false}"#;
    for settings in ["{}", r#"{"expand":{"depth":2}}"#] {
        let mut plugin = Harness::<Json>::new(settings).unwrap();
        assert_eq!(plugin.process(&[line], false).events[0].error, None);
        for end in 0..line.len() {
            let padding = " ".repeat(200);
            let events = plugin.process(&[&line[..end], &padding], false).events;
            let reason = if end == 0 { "not an object" } else { "truncated" };
            assert_eq!(events[0].error.as_deref(), Some(reason), "{}", &line[..end]);
            assert_eq!(run::<Json>(settings, &[&line[..end]]).unwrap()[0].error, events[0].error);
        }
    }
}

#[test]
fn escapes_are_resolved_in_values_and_keys() {
    expect(
        "{}",
        r#"{"a":"say \"hi\"\n\/\\","b":"caf\u00e9 \ud83d\ude00","c":"\ud800!","d\u0022\n":"plain"}"#,
        &[("a", "say \"hi\"\n/\\"), ("b", "café 😀"), ("c", "\u{fffd}!"), ("d\"\n", "plain")],
    );
}

#[test]
fn bytes_that_are_not_utf8_are_let_through() {
    let event = &run::<Json>("{}", &[&b"{\"a\":\"x\xff\",\"k\xfe\":1}"[..]]).unwrap()[0];
    assert_eq!(event.pairs(), [("a", "x\u{fffd}"), ("k\u{fffd}", "1")]);
}

#[test]
fn of_a_key_that_comes_twice_the_settings_say_which_value_counts() {
    let line = r#"{"a":1,"b":2,"a":"x\ty","c":3,"a":[4]}"#;
    expect(r#"{}"#, line, &[("a", "[4]"), ("b", "2"), ("c", "3")]);
    expect(r#"{"duplicates":"last"}"#, r#"{"a":1,"b":2,"a":"\t"}"#, &[("a", "\t"), ("b", "2")]);
    expect(r#"{"duplicates":"first"}"#, line, &[("a", "1"), ("b", "2"), ("c", "3")]);
    expect(r#"{"duplicates":"keep"}"#, line, &[("a", "1"), ("b", "2"), ("a", "x\ty"), ("c", "3"), ("a", "[4]")]);
    expect(r#"{"expand":{"depth":1}}"#, r#"{"a.b":1,"c":0,"a":{"b":2}}"#, &[("a.b", "2"), ("c", "0")]);
    assert_eq!(error("{}", r#"{"a":1,"a":x}"#), "not a JSON value");
}

#[test]
fn a_duplicate_replaces_a_cell_behind_those_that_pass_through() {
    let mut plugin = Harness::<Json>::new("{}").unwrap();
    let event = [("stream", Kind::Text, &b"stdout"[..]), ("content", Kind::Text, br#"{"a":1,"b":2,"a":3}"#)];
    let out = plugin.process_cells(&[event.to_vec()], true);
    assert_eq!(out.events[0].pairs(), [("stream", "stdout"), ("a", "3"), ("b", "2")]);
}

#[test]
fn nested_objects_are_expanded_down_to_the_depth() {
    let line = r#"{"a":{"b":{"c":1,"d":{"e":2}},"f":[{"g":3}]},"h":{},"i":{"j":"k"},"l":4}"#;
    expect(
        "{}",
        line,
        &[("a", r#"{"b":{"c":1,"d":{"e":2}},"f":[{"g":3}]}"#), ("h", "{}"), ("i", r#"{"j":"k"}"#), ("l", "4")],
    );
    expect(
        r#"{"expand":{"depth":2,"separator":"_"}}"#,
        line,
        &[("a_b_c", "1"), ("a_b_d", r#"{"e":2}"#), ("a_f", r#"[{"g":3}]"#), ("h", "{}"), ("i_j", "k"), ("l", "4")],
    );
    expect(r#"{"expand":{"depth":1}}"#, "{ \"a\" : { \"b\" : 1 } , \"c\" : { } }", &[("a.b", "1"), ("c", "{ }")]);
    for (wrong, reason) in [
        (r#"{"a":{"b":1"c":2}}"#, "a comma is missing"),
        (r#"{"a":{,"b":1}}"#, "a key is missing"),
        (r#"{"a":{"b":1,}}"#, "a key is missing"),
        (r#"{"a":{"b":1]}"#, "a comma is missing"),
        (r#"{"a":{"b":1}"#, "truncated"),
    ] {
        assert_eq!(error(r#"{"expand":{"depth":1}}"#, wrong), reason, "{wrong}");
    }
}

#[test]
fn a_guess_minds_where_commas_belong() {
    let settings = r#"{"expand":{"depth":1}}"#;
    let mut plugin = Harness::<Json>::new(settings).unwrap();
    let padding = " ".repeat(200);
    let lines = [
        r#"{"a":{"b":1,"c":2}}"#,
        r#"{"a":{"c":1,"b":2}}"#,
        r#"{"a":{"b":1"c":2}}"#,
        r#"{"a":{,"c":2}}"#,
        r#"{"a":{"c":1"b":2}}"#,
        r#"{"a":{,"b":2}}"#,
        &padding,
    ];
    let errors: Vec<_> = plugin.process(&lines, true).events.into_iter().map(|e| e.error).collect();
    let comma = Some("a comma is missing".to_owned());
    let key = Some("a key is missing".to_owned());
    assert_eq!(errors[..6], [None, None, comma.clone(), key.clone(), comma, key]);
}

#[test]
fn depth_is_limited() {
    for bomb in ["[".repeat(100_000), "{\"a\":".repeat(100_000), "{\"a\":[".repeat(50_000)] {
        let line = format!("{{\"a\":{bomb}");
        for settings in ["{}", r#"{"expand":{"depth":1000000}}"#] {
            assert_eq!(error(settings, &line), "nested deeper than max_depth");
        }
    }
    let deep = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    for settings in
        ["{\"max_depth\":3}", r#"{"max_depth":3,"expand":{"depth":1}}"#, r#"{"max_depth":3,"expand":{"depth":9}}"#]
    {
        assert_eq!(one(settings, &deep(3)).error, None);
        assert_eq!(error(settings, &deep(4)), "nested deeper than max_depth");
    }
    let deepest = deep(100_000);
    assert_eq!(one(r#"{"max_depth":100000}"#, &deepest).error, None);
    assert!(run::<Json>(r#"{"max_depth":0}"#, &["{}"]).unwrap_err().starts_with("max_depth must be at least 1"));
}

#[test]
fn the_time_is_read_from_text_and_numbers() {
    let second = 1_136_214_245_000_000_000;
    for (settings, line, expected) in [
        (r#"{"time":{"field":"t","format":"rfc3339"}}"#, r#"{"t":"2006-01-02T15:04:05Z"}"#, Some(second)),
        (r#"{"time":{"field":"t","format":"clf"}}"#, r#"{"t":"02\/Jan\/2006:15:04:05 +0000"}"#, Some(second)),
        (r#"{"time":{"field":"t","format":"unix"}}"#, r#"{"t":1136214245}"#, Some(second)),
        (r#"{"time":{"field":"t","format":"unix"}}"#, r#"{"t":1136214245.25}"#, Some(second + 250_000_000)),
        (r#"{"time":{"field":"t","format":"unix"}}"#, r#"{"t":"yesterday"}"#, None),
        (r#"{"time":{"field":"t","format":"unix"}}"#, r#"{"u":1}"#, None),
        (r#"{"time":{"field":"a.t","format":"unix"},"expand":{"depth":1}}"#, r#"{"a":{"t":1136214245}}"#, Some(second)),
    ] {
        let event = one(settings, line);
        assert_eq!((event.time, event.error, event.cells.len()), (expected, None, 1), "{line}");
    }
    let error = run::<Json>(r#"{"time":{"field":"t","format":"soon"}}"#, &["{}"]).unwrap_err();
    assert!(error.starts_with("time: time format `soon` is not known"), "{error}");
}

#[test]
fn names_are_never_empty_nor_the_hosts() {
    expect(
        r#"{"expand":{"depth":1}}"#,
        r#"{"":1,"__time__":2,"____x":3,"_y":4,"o":{"":5,"__z":6},"__p":{"q":7},"__":8}"#,
        &[("_", "8"), ("_time__", "2"), ("_x", "3"), ("_y", "4"), ("o._", "5"), ("o.__z", "6"), ("_p.q", "7")],
    );
}

#[test]
fn lines_of_many_shapes_and_keys_are_told_apart() {
    let mut plugin = Harness::<Json>::new("{}").unwrap();
    for round in 0..3 {
        let lines: Vec<_> =
            (0..10_000).map(|i| format!("{{\"k{}\":{i},\"x\":\"{round}\"}}", i * (round + 1))).collect();
        let out = plugin.process(&lines, false);
        for (i, event) in out.events.iter().enumerate() {
            let (name, value) = (format!("k{}", i * (round + 1)), i.to_string());
            assert_eq!(event.pairs(), [(name.as_str(), value.as_str()), ("x", &round.to_string())]);
        }
    }
}

#[test]
fn long_keys_are_guessed_too() {
    for length in 1..100 {
        let (a, b) = ("a".repeat(length), "a".repeat(length - 1) + "b");
        let lines = [format!("{{\"{a}\":1,\"{b}\":2}}"), format!("{{\"{b}\":1,\"{a}\":2}}")];
        let events = known("{}", &[&lines[0], &lines[1]]);
        assert_eq!(events[0].pairs(), [(a.as_str(), "1"), (b.as_str(), "2")]);
        assert_eq!(events[1].pairs(), [(b.as_str(), "1"), (a.as_str(), "2")]);
    }
}

/// Any JSON value, with few and short names so that lines have keys in common.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[a-z \"\\\\]{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from), map(inner).prop_map(Value::from)]
    })
}

fn map(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    let name = prop_oneof![4 => "[a-e]", 1 => "[a-z\"\\\\é]{1,40}"];
    prop::collection::btree_map(name, value, 0..6).prop_map(|map| map.into_iter().collect())
}

/// An object as the plugin should see it, names joined down to the depth.
fn flat(map: &Map<String, Value>, depth: u32, prefix: &str, out: &mut BTreeMap<String, Value>) {
    for (name, value) in map {
        let name = format!("{prefix}{name}");
        match value {
            Value::Object(inner) if depth > 0 && !inner.is_empty() => flat(inner, depth - 1, &(name + "."), out),
            value => drop(out.insert(name, value.clone())),
        }
    }
}

fn read_back(event: &TestEvent) -> BTreeMap<String, Value> {
    let value = |kind: Kind, text: &str| match kind {
        Kind::Text => Value::from(text),
        _ => serde_json::from_str(text).unwrap(),
    };
    event.cells.iter().map(|(name, kind, text)| (name.clone(), value(*kind, text))).collect()
}

/// What JSON is made of.
const DAMAGE: &[std::ops::RangeInclusive<char>] = &[' '..='"', '+'..=':', '['..=']', 'a'..='f', 'E'..='E', '{'..='}'];

proptest! {
    #[test]
    fn cells_are_what_serde_json_reads(maps in prop::collection::vec(map(value()), 1..8), depth in 0..3u32, pretty: bool) {
        let write = if pretty { serde_json::to_string_pretty } else { serde_json::to_string };
        let lines: Vec<_> = maps.iter().map(|map| write(map).unwrap()).collect();
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let events = known(&format!(r#"{{"expand":{{"depth":{depth}}}}}"#), &lines);
        for (event, line) in events.iter().zip(&lines) {
            let mut expected = BTreeMap::new();
            flat(&serde_json::from_str(line).unwrap(), depth, "", &mut expected);
            prop_assert_eq!(event.error.as_deref(), None);
            prop_assert_eq!(event.cells.len(), expected.len());
            prop_assert_eq!(read_back(event), expected);
        }
    }

    /// A line with characters changed is an object for the plugin exactly if it is one for serde_json.
    #[test]
    fn damaged_lines_fail_as_they_do_for_serde_json(
        map in map(value()),
        depth in 0..2u32,
        damage in prop::collection::vec((any::<prop::sample::Index>(), prop::char::ranges(DAMAGE.into())), 1..3),
    ) {
        let line = serde_json::to_string(&map).unwrap();
        let mut damaged: Vec<_> = line.chars().collect();
        for (place, c) in damage {
            *place.get_mut(&mut damaged) = c;
        }
        let damaged = String::from_iter(damaged);
        let events = known(&format!(r#"{{"expand":{{"depth":{depth}}}}}"#), &[&line, &damaged]);
        prop_assert_eq!(events[0].error.as_deref(), None);
        let expected = damaged.starts_with('{') && serde_json::from_str::<IgnoredAny>(&damaged).is_ok();
        prop_assert_eq!(events[1].error.is_none(), expected, "{}: {:?}", damaged, events[1].error);
    }
}
