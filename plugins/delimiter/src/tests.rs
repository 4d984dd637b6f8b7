use proptest::prelude::*;
use weir_plugin::Kind;
use weir_plugin::testing::{Harness, TestEvent, golden, run};

use super::Delimiter;

fn one(settings: &str, line: &str) -> TestEvent {
    run::<Delimiter>(settings, &[line]).unwrap().remove(0)
}

fn expect(settings: &str, line: &str, expected: &[(&str, &str)]) {
    let event = one(settings, line);
    assert_eq!((event.pairs().as_slice(), event.error.as_deref()), (expected, None), "{line}");
}

fn error(settings: &str, line: &str) -> String {
    let event = one(settings, line);
    assert_eq!(event.get("content"), Some(line));
    event.error.unwrap_or_else(|| panic!("should fail: {line}"))
}

#[test]
fn golden_files() {
    golden::<Delimiter>("delimiter", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
}

#[test]
fn columns_are_found() {
    let settings = r#"{"fields":["a","b","c"]}"#;
    expect(settings, "1,2,3", &[("a", "1"), ("b", "2"), ("c", "3")]);
    expect(settings, ",,", &[("a", ""), ("b", ""), ("c", "")]);
    expect(settings, " 1 ,x\"y,\t", &[("a", " 1 "), ("b", "x\"y"), ("c", "\t")]);
    expect(r#"{"fields":["a"]}"#, "", &[("a", "")]);
}

#[test]
fn quotes_protect_separators() {
    let settings = r#"{"fields":["a","b","c"]}"#;
    expect(settings, r#""1,2","",3"#, &[("a", "1,2"), ("b", ""), ("c", "3")]);
    expect(settings, r#""say ""hi""",2,"""""#, &[("a", "say \"hi\""), ("b", "2"), ("c", "\"")]);
    assert_eq!(error(settings, r#"1,"2,3"#), "a quote is not closed");
    assert_eq!(error(settings, r#"1,2,""#), "a quote is not closed");
    assert_eq!(error(settings, r#"1,2,"3"""#), "a quote is not closed");
    assert_eq!(error(settings, r#"1,"2" ,3"#), "bytes behind a closing quote");
    assert_eq!(error(settings, r#"1,2,"3"x"#), "bytes behind a closing quote");
    expect(r#"{"fields":["a","b"],"quote":"'"}"#, "'1,2',\"", &[("a", "1,2"), ("b", "\"")]);
    expect(r#"{"fields":["a","b"],"quote":null}"#, "\"1,2\"", &[("a", "\"1"), ("b", "2\"")]);
}

#[test]
fn separators_may_be_long() {
    let settings = r#"{"fields":["a","b","c"],"separator":"||"}"#;
    expect(settings, "1||2|3||", &[("a", "1"), ("b", "2|3"), ("c", "")]);
    expect(settings, "\"1||2\"||||\"\"", &[("a", "1||2"), ("b", ""), ("c", "")]);
    expect(settings, "1||2|||3", &[("a", "1"), ("b", "2"), ("c", "|3")]);
    expect(r#"{"fields":["a","b"],"separator":"\t"}"#, "1\t2", &[("a", "1"), ("b", "2")]);
    expect(r#"{"fields":["a","b"],"separator":"→"}"#, "1→2", &[("a", "1"), ("b", "2")]);
}

#[test]
fn white_space_around_columns_is_trimmed_on_request() {
    let settings = r#"{"fields":["a","b","c"],"trim":true}"#;
    expect(settings, " 1 ,  , 3 4 \r", &[("a", "1"), ("b", ""), ("c", "3 4")]);
    expect(settings, " \" 1,\" , \"2\",\"\" ", &[("a", " 1,"), ("b", "2"), ("c", "")]);
    assert_eq!(error(settings, "1,\"2\" x,3"), "bytes behind a closing quote");
    for (separator, line) in [("\\t", "\t\"x\"\t 1 "), ("\\t\\t", "\t\t\"x\"\t\t 1 "), (" | ", " | \"x\" |  1 ")] {
        let settings = format!(r#"{{"fields":["a","b","c"],"trim":true,"separator":"{separator}"}}"#);
        expect(&settings, line, &[("a", ""), ("b", "x"), ("c", "1")]);
    }
}

#[test]
fn of_too_few_columns_the_settings_say_what_becomes() {
    assert_eq!(error(r#"{"fields":["a","b","c"]}"#, "1,2"), "too few columns");
    expect(r#"{"fields":["a","b","c"],"too_few":"keep"}"#, "1,2", &[("a", "1"), ("b", "2")]);
    expect(r#"{"fields":["a","b","c"],"too_few":"keep"}"#, "", &[("a", "")]);
}

#[test]
fn of_too_many_columns_the_settings_say_what_becomes() {
    let with = |too_many| format!(r#"{{"fields":["a","b"],"too_many":"{too_many}"}}"#);
    assert_eq!(error(r#"{"fields":["a","b"]}"#, "1,2,3"), "too many columns");
    assert_eq!(error(&with("fail"), "1,2,"), "too many columns");
    expect(&with("drop"), "1,2,3,\"", &[("a", "1"), ("b", "2")]);
    expect(&with("extend"), "1,2,\"3,\",4", &[("a", "1"), ("b", "2"), ("column_3", "3,"), ("column_4", "4")]);
    expect(&with("join"), "1,2,3, \"4\"", &[("a", "1"), ("b", "2,3, \"4\"")]);
    expect(&with("join"), "1,\"2,\"\"3\"", &[("a", "1"), ("b", "2,\"3")]);
    expect(&with("join"), "1,\"2\",3", &[("a", "1"), ("b", "\"2\",3")]);
    for too_many in ["fail", "drop", "extend", "join"] {
        expect(&with(too_many), "1,2", &[("a", "1"), ("b", "2")]);
        assert_eq!(error(&with(too_many), "1,\"2"), "a quote is not closed");
    }
}

#[test]
fn a_column_too_many_does_not_take_the_name_of_a_field() {
    let settings = r#"{"fields":["column_4","column_4_","c"],"too_many":"extend"}"#;
    let expected = [("column_4", "1"), ("column_4_", "2"), ("c", "3"), ("column_4__", "4"), ("column_5", "5")];
    expect(settings, "1,2,3,4,5", &expected);
}

#[test]
fn the_time_is_read_and_its_field_stays() {
    let settings = r#"{"fields":["t","a"],"time":{"field":"t","format":"%Y \"%m\""},"types":{"a":"integer"}}"#;
    for (line, time) in [
        ("2024 \"02\",7", Some(1_706_745_600_000_000_000)),
        ("\"2024 \"\"02\"\"\",7", Some(1_706_745_600_000_000_000)),
        ("now,7", None),
    ] {
        let event = one(settings, line);
        assert_eq!((event.time, event.get("a"), event.error.as_deref()), (time, Some("7"), None), "{line}");
    }
}

#[test]
fn presets_say_what_settings_do_not() {
    for (preset, line) in [("csv", "1,2"), ("tsv", "1\t2"), ("psv", "1|2"), ("ssv", "1;2")] {
        expect(&format!(r#"{{"preset":"{preset}","fields":["a","b"]}}"#), line, &[("a", "1"), ("b", "2")]);
    }
    let settings = r#"{"preset":"aws_vpc_flow","fields":["a","b","c"],"nil":"?"}"#;
    expect(settings, "1 - ? 4", &[("a", "1"), ("b", "-"), ("column_4", "4")]);
    expect(r#"{"preset":"aws_s3","separator":",","fields":["a"],"too_many":"drop"}"#, "[1,2],3", &[("a", "1,2")]);
    let kinds: Vec<_> = one(r#"{"preset":"aws_elb","types":{"request":"json"}}"#, "t - c - 0.1").cells;
    let kinds: Vec<_> = kinds.iter().map(|(name, kind, _)| (name.as_str(), *kind)).collect();
    assert_eq!(kinds, [("time", Kind::Text), ("client", Kind::Text), ("request_processing_time", Kind::Float)]);
}

#[test]
fn brackets_protect_separators_on_request() {
    let settings = r#"{"fields":["a","b"],"brackets":true}"#;
    expect(settings, "[1,2],[]", &[("a", "1,2"), ("b", "")]);
    expect(settings, "1[,2]", &[("a", "1["), ("b", "2]")]);
    assert_eq!(error(settings, "[1,2"), "a bracket is not closed");
    assert_eq!(error(settings, "[1]x,2"), "bytes behind a closing bracket");
    expect(r#"{"fields":["a","b"]}"#, "[1,2]", &[("a", "[1"), ("b", "2]")]);
}

#[test]
fn a_column_that_is_nil_and_a_line_that_is_a_comment_are_left_out() {
    let settings = r##"{"fields":["a","b","c"],"nil":"","comment":"#"}"##;
    let out = Harness::<Delimiter>::new(settings).unwrap().process(&["# a,b,c", "1,,\"\"", "#", " #,2,3"], true);
    let pairs: Vec<_> = out.events.iter().map(TestEvent::pairs).collect();
    assert_eq!(pairs, [vec![("a", "1")], vec![("a", " #"), ("b", "2"), ("c", "3")]]);
    assert_eq!(out.dropped, 2);
}

#[test]
fn wrong_settings_are_refused() {
    for (settings, expected) in [
        (r#"{}"#, "fields must name at least one column"),
        (r#"{"preset":"tsv"}"#, "fields must name at least one column"),
        (r#"{"preset":"aws"}"#, "unknown variant `aws`"),
        (r#"{"fields":[]}"#, "fields must name at least one column"),
        (r#"{"fields":["a","a"]}"#, "fields: `a` is there twice"),
        (r#"{"fields":["a",""]}"#, "fields: a field's name must not be empty"),
        (r#"{"fields":["__time__"]}"#, "fields: field `__time__`: names that begin with `__` belong to the host"),
        (r#"{"fields":["a"],"separator":""}"#, "separator must not be empty"),
        (r#"{"fields":["a"],"quote":","}"#, "quote: `,` is in the separator"),
        (r#"{"fields":["a"],"quote":"«"}"#, "quote must be an ASCII character, not `«`"),
        (r#"{"fields":["a"],"types":{"b":"text"}}"#, "types: `b` is not one of the fields"),
        (r#"{"fields":["a"],"types":{"a":"number"}}"#, "unknown variant `number`"),
        (r#"{"fields":["a"],"time":{"field":"b","format":"unix"}}"#, "time: `b` is not one of the fields"),
        (r#"{"fields":["a"],"time":{"field":"a","format":"x"}}"#, "time: time format `x` is not known"),
        (r#"{"fields":["a"],"seperator":";"}"#, "unknown field `seperator`"),
    ] {
        let error = run::<Delimiter>(settings, &["1"]).unwrap_err();
        assert!(error.starts_with(expected), "{settings}: {error}");
    }
}

proptest! {
    /// Columns written with quotes where they need them are read back, in any place of a batch.
    #[test]
    fn columns_that_were_written_are_read_back(
        rows in prop::collection::vec(prop::collection::vec("[a-z,;\"→ ]{0,20}", 1..9), 1..6),
        separator in prop::sample::select(vec![",", ";", ";;", "→"]),
    ) {
        let quoted = |column: &String| match column.contains(separator) || column.contains(['"', ';']) {
            true => format!("\"{}\"", column.replace('"', "\"\"")),
            false => column.clone(),
        };
        let lines: Vec<_> = rows.iter().map(|row| row.iter().map(quoted).collect::<Vec<_>>().join(separator)).collect();
        let settings = format!(r#"{{"fields":["column_1"],"too_many":"extend","separator":"{separator}"}}"#);
        let events = Harness::<Delimiter>::new(&settings).unwrap().process(&lines, true).events;
        for (event, row) in events.iter().zip(&rows) {
            prop_assert_eq!(event.error.as_deref(), None);
            let expected: Vec<_> = row.iter().enumerate().map(|(i, v)| (format!("column_{}", i + 1), v.clone())).collect();
            let cells: Vec<_> = event.cells.iter().map(|(name, _, value)| (name.clone(), value.clone())).collect();
            prop_assert_eq!(cells, expected);
        }
    }
}
