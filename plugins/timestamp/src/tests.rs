use proptest::prelude::*;
use weir_plugin::testing::{golden, ndjson, run};
use weir_plugin::time::{format_rfc3339, parse_rfc3339};

use super::Timestamp;

fn one(settings: &str, event: &str) -> String {
    ndjson::<Timestamp>("timestamp", settings, &[event]).unwrap_or_else(|e| panic!("{settings}: {e}")).remove(0)
}

#[test]
fn golden_files() {
    golden::<Timestamp>("timestamp", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
}

#[test]
fn the_field_stays_or_is_removed() {
    let event = r#"{"a":1,"time":"2024-05-01T12:00:00Z","b":2}"#;
    let time = r#""__time__":"2024-05-01T12:00:00Z"}"#;
    assert_eq!(one("{}", event), format!(r#"{{"a":1,"time":"2024-05-01T12:00:00Z","b":2,{time}"#));
    assert_eq!(one(r#"{"remove":true}"#, event), format!(r#"{{"a":1,"b":2,{time}"#));
    assert_eq!(
        one(r#"{"field":"content","remove":true}"#, r#"{"content":"2024-05-01T12:00:00Z"}"#),
        format!("{{{time}")
    );
}

#[test]
fn what_cannot_be_read_is_kept_or_fails() {
    let event = r#"{"time":"soon","__time__":"2024-05-01T12:00:00Z"}"#;
    assert_eq!(one(r#"{"remove":true}"#, event), event);
    assert_eq!(one(r#"{"field":"none"}"#, event), event);
    let failed = |reason: &str| event.replace("Z\"}", &format!("Z\",\"__error__\":\"timestamp: {reason}\"}}"));
    assert_eq!(one(r#"{"on_failure":"fail"}"#, event), failed("not a time"));
    assert_eq!(one(r#"{"field":"none","on_failure":"fail"}"#, event), failed("no field `none`"));
}

#[test]
fn formats_are_tried_in_order() {
    let settings = r#"{"formats":["%d/%m/%Y","%m/%d/%Y","unix"],"zone":"America/New_York"}"#;
    for (text, time) in [
        ("01/02/2024", "2024-02-01T05:00:00Z"),
        ("07/31/2024", "2024-07-31T04:00:00Z"),
        ("1714564800", "2024-05-01T12:00:00Z"),
    ] {
        let event = format!(r#"{{"time":"{text}"}}"#);
        assert_eq!(one(settings, &event), format!(r#"{{"time":"{text}","__time__":"{time}"}}"#));
    }
}

#[test]
fn a_year_is_found_for_each_event() {
    let settings = r#"{"formats":["syslog"]}"#;
    let events = [
        r#"{"time":"Dec 31 23:00:00","__time__":"2025-01-01T00:00:00Z"}"#,
        r#"{"time":"Dec 31 23:00:00","__time__":"2024-01-01T00:00:00Z"}"#,
        r#"{"time":"Dec 31 23:00:00"}"#,
    ];
    let out = ndjson::<Timestamp>("timestamp", settings, &events).unwrap();
    let times: Vec<_> = out.iter().map(|line| line.split_once("__time__").map(|(_, time)| &time[3..7])).collect();
    assert_eq!(times, [Some("2024"), Some("2023"), None]);
}

#[test]
fn wrong_settings_are_refused() {
    for (settings, expected) in [
        (r#"{"formats":[]}"#, "formats: give at least one"),
        (r#"{"formats":["unix","x"]}"#, "formats[1]: `x` is not known"),
        (r#"{"zone":"Mars"}"#, "zone `Mars` is not known"),
        (r#"{"format":"unix"}"#, "unknown field `format`"),
        (r#"{"on_failure":"drop"}"#, "unknown variant `drop`"),
    ] {
        let error = run::<Timestamp>(settings, &["1"]).unwrap_err();
        assert!(error.starts_with(expected), "{settings}: {error}");
    }
}

proptest! {
    /// What is written by a format is read as the same time.
    #[test]
    fn a_time_is_read_as_it_was_written(seconds in -2_000_000_000i64..4_000_000_000, nanoseconds in 0i64..1_000_000_000) {
        let written = format_rfc3339(seconds * 1_000_000_000 + nanoseconds);
        let (date, clock) = written.trim_end_matches('Z').split_once('T').unwrap();
        let [year, month, day] = date.split('-').collect::<Vec<_>>().try_into().unwrap();
        let texts = [
            ("rfc3339", written.clone()),
            ("%d.%m.%Y %H:%M:%S", format!("{day}.{month}.{year} {}", &clock[..8])),
            ("unix_ns", (seconds * 1_000_000_000 + nanoseconds).to_string()),
        ];
        for (i, (format, text)) in texts.iter().enumerate() {
            let out = one(&format!(r#"{{"formats":["{format}"],"remove":true}}"#), &format!(r#"{{"time":"{text}"}}"#));
            let time = parse_rfc3339(out.split('"').nth(3).unwrap_or("").as_bytes());
            let fraction = if i == 1 { 0 } else { nanoseconds };
            prop_assert_eq!(time, Some(seconds * 1_000_000_000 + fraction), "{} {}", format, text);
        }
    }

    /// Any bytes are a time or are none.
    #[test]
    fn nothing_makes_it_panic(text in "[ 0-9TZ:+./,-]{0,30}|\\PC{0,20}", pick in 0usize..8) {
        let formats = ["rfc3339", "rfc2822", "clf", "syslog", "unix", "%s%f%z", "%a %I %p %Z %j", "%e%y%b%k"];
        let settings = format!(r#"{{"field":"content","formats":["{}"],"year":2024,"zone":"Europe/Berlin"}}"#, formats[pick]);
        prop_assert_eq!(run::<Timestamp>(&settings, &[text]).unwrap().len(), 1);
    }
}
