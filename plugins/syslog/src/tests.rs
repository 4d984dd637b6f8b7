use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use weir_plugin::testing::{TestEvent, golden, run};
use weir_plugin::time::{format_rfc3339, parse_rfc3339};

use super::*;

fn one(settings: &str, line: &str) -> TestEvent {
    run::<Syslog>(settings, &[line]).unwrap().remove(0)
}

fn expect(settings: &str, line: &str, expected: &[(&str, &str)]) {
    let event = one(settings, line);
    assert_eq!((event.pairs().as_slice(), event.error.as_deref()), (expected, None), "{line}");
}

#[test]
fn golden_files() {
    golden::<Syslog>("syslog", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
}

#[test]
fn what_stands_behind_the_time_is_told_apart() {
    let time = ("timestamp", "Oct 11 22:14:15");
    for (line, expected) in [
        ("host su[10]: hi: x", &[("hostname", "host"), ("appname", "su"), ("procid", "10"), ("message", "hi: x")][..]),
        ("host su: hi", &[("hostname", "host"), ("appname", "su"), ("message", "hi")]),
        ("host su[10] hi", &[("hostname", "host"), ("appname", "su"), ("procid", "10"), ("message", "hi")]),
        ("su[10]: hi", &[("appname", "su"), ("procid", "10"), ("message", "hi")]),
        ("su: hi", &[("appname", "su"), ("message", "hi")]),
        ("host last message repeated 3 times", &[("hostname", "host"), ("message", "last message repeated 3 times")]),
        ("host su[10", &[("hostname", "host"), ("message", "su[10")]),
        (
            "2001:db8::7 postfix/smtpd[1]:",
            &[("hostname", "2001:db8::7"), ("appname", "postfix/smtpd"), ("procid", "1"), ("message", "")],
        ),
        ("hi", &[("message", "hi")]),
        ("host : hi", &[("hostname", "host"), ("message", ": hi")]),
        ("", &[("message", "")]),
    ] {
        let expected: Vec<_> = [time].into_iter().chain(expected.iter().copied()).collect();
        expect("{}", &format!("Oct 11 22:14:15 {line}"), &expected);
    }
    expect(
        "{}",
        "Oct 11 22:14:15: %SYS-5-CONFIG_I: Configured",
        &[time, ("appname", "%SYS-5-CONFIG_I"), ("message", "Configured")],
    );
}

#[test]
fn times_are_read_as_far_as_they_are_known() {
    let settings = r#"{"year": 2023, "zone": "+02:00"}"#;
    for (time, expected) in [
        ("Oct 11 22:14:15", Some("2023-10-11T20:14:15Z")),
        ("Oct  1 22:14:15.5", Some("2023-10-01T20:14:15.5Z")),
        ("Oct 11 2003 22:14:15", Some("2003-10-11T20:14:15Z")),
        ("2003-10-11T22:14:15.25-07:00", Some("2003-10-12T05:14:15.25Z")),
        ("2003-10-11T22:14:15Z", Some("2003-10-11T22:14:15Z")),
        ("2003-10-11T22:14:15", Some("2003-10-11T20:14:15Z")),
        ("2003-10-11T22:14:15.25", Some("2003-10-11T20:14:15.25Z")),
        ("Feb 29 22:14:15", None),
    ] {
        let event = one(settings, &format!("<13>{time} host su: hi"));
        assert_eq!((event.time.map(format_rfc3339).as_deref(), event.error.as_deref()), (expected, None), "{time}");
        assert_eq!(event.get("timestamp"), Some(time));
    }
    assert_eq!(one("{}", "Oct 11 22:14:15 host su: hi").time, None);
    for line in ["hi", "", "<13>", "<13>hi there, how are you?", "Oct 11 22:14:1", "2003-10-11 22:14 a b c d e"] {
        assert_eq!(one(settings, line).error.as_deref(), Some("no timestamp"), "{line}");
    }
}

/// Two batches, since the time that was read last is remembered.
#[test]
fn a_time_that_is_the_last_one_is_read_the_same() {
    let lines =
        ["Oct 11 22:14:15 a b: 1", "Oct 11 22:14:15 a b: 2", "Oct 11 22:14:15.7 a b: 3", "Oct 11 22:14:15 a b: 4"];
    let times: Vec<_> = run::<Syslog>(r#"{"year": 1970}"#, &lines).unwrap().iter().map(|e| e.time.unwrap()).collect();
    let first = times[0];
    assert_eq!(times, [first, first, first + 700_000_000, first]);
}

#[test]
fn priorities_are_names() {
    for (priority, facility, severity) in
        [("0", "kern", "emerg"), ("34", "auth", "crit"), ("086", "authpriv", "info"), ("191", "local7", "debug")]
    {
        let event = one("{}", &format!("<{priority}>Oct 11 22:14:15 host su: hi"));
        assert_eq!((event.get("facility"), event.get("severity")), (Some(facility), Some(severity)));
    }
    for line in ["<192>x", "<>x", "<1", "<12x>", "<1234>x", "<"] {
        assert_eq!(one("{}", line).error.as_deref(), Some("not a priority from <0> to <191>"), "{line}");
    }
}

#[test]
fn headers_of_rfc_5424_must_be_whole() {
    for (line, reason) in [
        ("<34>1 ", "no timestamp"),
        ("<34>1 -", "no timestamp"),
        ("<34>1 - ", "no hostname"),
        ("<34>1 - - ", "no appname"),
        ("<34>1 - - - -", "no procid"),
        ("<34>1 - - - - -", "no msgid"),
        ("<34>1 - - - - - ", "no structured data"),
        ("<34>1 - - - - - x", "structured data is broken"),
        ("<34>1 - - - - - -x", "no space after the structured data"),
        ("<34>1 - - - - - [a]x", "no space after the structured data"),
    ] {
        assert_eq!(one("{}", line).error.as_deref(), Some(reason), "{line}");
    }
    for data in [
        "[",
        "[]",
        "[ a]",
        "[a",
        "[a ]",
        "[a b]",
        "[a b=]",
        "[a b=c]",
        "[a b=\"c]",
        "[a b=\"c\"",
        "[a b=\"c\\\"]",
        "[a =\"c\"]",
        "[a][",
        "[a b=\"c\"x]",
    ] {
        let line = format!("<34>1 - - - - - {data}");
        assert_eq!(one("{}", &line).error.as_deref(), Some("structured data is broken"), "{data}");
    }
    expect("{}", "<34>1 - - - - - -", &[("facility", "auth"), ("severity", "crit")]);
    let reason = Some("no priority and version 1 at the line's start");
    assert_eq!(one(r#"{"format": "rfc5424"}"#, "Oct 11 22:14:15 host su: hi").error.as_deref(), reason);
    assert_eq!(one(r#"{"format": "rfc5424"}"#, "1 - - - - - -").error.as_deref(), reason);
    assert_eq!(one(r#"{"format": "rfc3164"}"#, "<34>1 - - - - - -").error.as_deref(), Some("no timestamp"));
}

#[test]
fn of_structured_data_the_settings_say_what_becomes() {
    let line = r#"<34>1 - - - - - [a@1 x="1\"\]" y="\q"][b] hi"#;
    let with = |mode: &str| one(&format!(r#"{{"structured_data": "{mode}"}}"#), line);
    assert_eq!(with("raw").get("structured_data"), Some(r#"[a@1 x="1\"\]" y="\q"][b]"#));
    assert_eq!(with("drop").pairs()[2..], [("message", "hi")]);
    assert_eq!(with("fields").pairs()[2..], [("a@1.x", "1\"]"), ("a@1.y", "\\q"), ("message", "hi")]);
    assert_eq!(
        with("json").cells[2],
        ("structured_data".into(), Kind::Json, r#"{"a@1":{"x":"1\"]","y":"\\q"},"b":{}}"#.into())
    );
    for (elements, json) in [
        (r#"[a"b c"d="x"]"#, r#"{"a\"b":{"c\"d":"x"}}"#),
        (r#"[a b="1"][c d="" e="é"]"#, r#"{"a":{"b":"1"},"c":{"d":"","e":"é"}}"#),
        ("[a b=\"\t\"]", r#"{"a":{"b":"\u0009"}}"#),
    ] {
        let event = one("{}", &format!("<13>1 - host app 1 id {elements} hi"));
        assert_eq!(event.get("structured_data"), Some(json), "{elements}");
    }
}

#[test]
fn what_comes_more_than_once_becomes_an_array() {
    for (elements, json) in [
        (r#"[origin ip="192.0.2.1" ip="192.0.2.129"]"#, r#"{"origin":{"ip":["192.0.2.1","192.0.2.129"]}}"#),
        (r#"[b x="5"][a z="1" y="2" z="3" x="4" z="3"]"#, r#"{"a":{"x":"4","y":"2","z":["1","3","3"]},"b":{"x":"5"}}"#),
        (r#"[a x="\"" x="\]"]"#, r#"{"a":{"x":["\"","]"]}}"#),
        (r#"[a x="1"][b][c][a y="2" x="3"]"#, r#"{"a":{"x":["1","3"],"y":"2"},"b":{},"c":{}}"#),
        ("[a][a]", r#"{"a":{}}"#),
    ] {
        let event = one("{}", &format!("<13>1 - host app 1 id {elements} hi"));
        assert_eq!((event.get("structured_data"), event.get("message")), (Some(json), Some("hi")), "{elements}");
    }
    let names: Vec<_> = (0..2000).map(|i| format!("n{i}")).collect();
    let parameters: String = names.iter().map(|name| format!(r#" {name}="{name}""#)).collect();
    let event = one("{}", &format!(r#"<13>1 - host app 1 id [a{parameters} n7="x"]"#));
    let read: Value = serde_json::from_str(event.get("structured_data").unwrap()).unwrap();
    let mut expected: BTreeMap<_, _> = names.iter().map(|name| (name.as_str(), json!(name))).collect();
    expected.insert("n7", json!(["n7", "x"]));
    assert_eq!(read, json!({ "a": expected }));
    let event = one(r#"{"structured_data": "fields"}"#, r#"<13>1 - host app 1 id [a x="1" x="2"]"#);
    assert_eq!(event.get("a.x"), Some("2"));
}

#[test]
fn no_beginning_of_a_line_makes_trouble() {
    for line in [
        r#"<165>1 2003-10-11T22:14:15.003Z host app 10 ID47 [a@1 x="1\"\]" y="2"][b] hi"#,
        "<34>Oct 11 22:14:15.123 host su[10]: hi",
    ] {
        let lines: Vec<_> = (0..=line.len()).map(|end| &line[..end]).collect();
        assert_eq!(run::<Syslog>(r#"{"year": 2024}"#, &lines).unwrap().len(), lines.len());
    }
}

type Element = BTreeMap<String, String>;

proptest! {
    /// Structured data that was written is read back, as JSON and as fields.
    #[test]
    fn structured_data_that_was_written_is_read_back(
        elements in prop::collection::btree_map("[a-z@0-9]{1,8}", prop::collection::btree_map("[a-z]{1,5}", "[a-z\\\\\"\\] =\u{1}\u{e9}\\[]{0,9}", 0..4), 1..4),
        message in "[a-z\\] ]{0,9}",
    ) {
        let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]");
        let element = |(id, parameters): (&String, &Element)| {
            let parameters: String = parameters.iter().map(|(name, value)| format!(" {name}=\"{}\"", escaped(value))).collect();
            format!("[{id}{parameters}]")
        };
        let written: String = elements.iter().map(element).collect();
        let line = format!("<34>1 - - - - - {written} {message}");
        let event = one("{}", &line);
        prop_assert_eq!(event.get("message"), Some(message.as_str()));
        let read: Value = serde_json::from_str(event.get("structured_data").unwrap()).unwrap();
        prop_assert_eq!(read, json!(elements));
        let event = one(r#"{"structured_data": "fields"}"#, &line);
        for (id, parameters) in &elements {
            for (name, value) in parameters {
                prop_assert_eq!(event.get(&format!("{id}.{name}")), Some(value.as_str()));
            }
        }
    }

    /// What is not well formed fails, and nothing panics.
    #[test]
    fn any_line_comes_out_once(line in "(<1>1 - - - - - )?[\\[\\]\"\\\\=a -]{0,30}") {
        prop_assert_eq!(run::<Syslog>("{}", &[line]).unwrap().len(), 1);
    }

    /// A whole line keeps its time.
    #[test]
    fn times_of_all_days_are_read(day in 0..20_000i64, second in 0..86_400i64) {
        let time = (day * 86_400 + second) * 1_000_000_000;
        let text = format_rfc3339(time);
        prop_assert_eq!(parse_rfc3339(text.as_bytes()), Some(time));
        let month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
            [text[5..7].parse::<usize>().unwrap() - 1];
        let line = format!("{month} {:>2} {} host su: hi", text[8..10].trim_start_matches('0'), &text[11..19]);
        let settings = format!(r#"{{"year": {}}}"#, &text[..4]);
        prop_assert_eq!(one(&settings, &line).time, Some(time), "{}", line);
    }
}
