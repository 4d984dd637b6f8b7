use proptest::prelude::*;
use weir_plugin::testing::{Harness, TestInput, golden, ndjson, run};

use super::Multiline;

fn joined(settings: &str, lines: &[&str]) -> Vec<String> {
    let events = run::<Multiline>(settings, lines).unwrap();
    events.iter().map(|event| event.get("content").unwrap().replace('\n', "|")).collect()
}

#[test]
fn golden_files() {
    golden::<Multiline>("multiline", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
}

#[test]
fn each_rule() {
    let lines = ["x", "+a", " b", " c", "y", "+d", "+e", " f;", " g"];
    for (settings, expected) in [
        (r#"{"start":"^\\+"}"#, &["x", "+a| b| c|y", "+d", "+e| f;| g"][..]),
        (r#"{"start":"^\\+","continue":"^ "}"#, &["x", "+a| b| c", "y", "+d", "+e| f;| g"]),
        (r#"{"continue":"^ "}"#, &["x", "+a| b| c", "y", "+d", "+e| f;| g"]),
        (r#"{"end":";$|y"}"#, &["x|+a| b| c|y", "+d|+e| f;", " g"]),
        (r#"{"start":"^\\+","max_lines":2}"#, &["x", "+a| b", " c|y", "+d", "+e| f;", " g"]),
        (r#"{"start":"^\\+","max_bytes":5}"#, &["x", "+a| b", " c|y", "+d", "+e", " f;", " g"]),
        (r#"{"start":"^\\+","continue":"^ ","max_lines":1}"#, &lines),
    ] {
        assert_eq!(joined(settings, &lines), expected, "{settings}");
    }
}

#[test]
fn what_may_go_on_is_held() {
    let mut plugin = Harness::<Multiline>::new(r#"{"start":"^\\+","max_lines":3}"#).unwrap();
    for (lines, last, events, held) in [
        (&["+a", " b"][..], false, 0, 2),
        (&["+a", " b", "+c"], false, 1, 1),
        (&["+c", " d", " e"], false, 1, 0),
        (&[" f"], false, 0, 1),
        (&[" f"], true, 1, 0),
        (&[], true, 0, 0),
    ] {
        let processed = plugin.process(lines, last);
        assert_eq!((processed.events.len(), processed.held, processed.dropped), (events, held, 0), "{lines:?}");
    }
    let mut by_end = Harness::<Multiline>::new(r#"{"end":";$"}"#).unwrap();
    assert_eq!(by_end.process(&["a", "b;", "c;"], false).held, 0);
}

#[test]
fn fields_are_those_of_the_first_line() {
    let settings = r#"{"continue":"^ ","field":"log"}"#;
    let events = [
        r#"{"n":1,"log":"a","s":"x","__time__":"2024-05-01T12:00:00Z"}"#,
        r#"{"n":2,"log":" b","s":"y","__time__":"2024-05-01T12:00:01Z"}"#,
        r#"{"n":3}"#,
        r#"{"n":4,"log":" c"}"#,
    ];
    assert_eq!(
        ndjson::<Multiline>("multiline", settings, &events).unwrap(),
        [r#"{"n":1,"log":"a\n b","s":"x","__time__":"2024-05-01T12:00:00Z"}"#, r#"{"n":3}"#, r#"{"n":4,"log":" c"}"#]
    );
}

#[test]
fn wrong_settings_are_refused() {
    for (settings, expected) in [
        (r#"{}"#, "give start, start and continue, continue, or end"),
        (r#"{"start":"a","end":"b"}"#, "give start, start and continue, continue, or end"),
        (r#"{"start":"("}"#, "start: regex parse error"),
        (r#"{"start":"a","max_lines":0}"#, "max_lines must be at least 1"),
        (r#"{"start":"a","max_bytes":3000000}"#, "max_bytes must be from 1 to 2097152"),
        (r#"{"begin":"a"}"#, "unknown field `begin`"),
    ] {
        let error = run::<Multiline>(settings, &["1"]).unwrap_err();
        assert!(error.starts_with(expected), "{settings}: {error}");
    }
}

proptest! {
    /// However lines come in batches, the same events come out, and no line is lost.
    #[test]
    fn batches_do_not_matter(
        lines in prop::collection::vec("[+ ]?[ab]{0,3};?", 1..30),
        cuts in prop::collection::vec(0usize..5, 0..12),
        rule in 0usize..4,
        max_lines in 1usize..5,
        max_bytes in 1usize..12,
    ) {
        let rule = [r#""start":"^\\+""#, r#""start":"^\\+","continue":"^ ""#, r#""continue":"^ ""#, r#""end":";$""#][rule];
        let settings = format!(r#"{{{rule},"max_lines":{max_lines},"max_bytes":{max_bytes}}}"#);
        let texts = |events: &[weir_plugin::testing::TestEvent]| -> Vec<String> {
            events.iter().map(|e| e.get("content").unwrap().to_owned()).collect()
        };
        let whole = texts(&Harness::<Multiline>::new(&settings).unwrap().process(&lines, true).events);
        prop_assert_eq!(whole.join("\n"), lines.join("\n"));
        prop_assert!(whole.iter().all(|event| event.lines().count() <= max_lines));

        let mut plugin = Harness::<Multiline>::new(&settings).unwrap();
        let event = |line: &String| TestInput::parse(&serde_json::json!({"a": 1, "content": line}).to_string()).unwrap();
        let (mut waiting, mut rest, mut events) = (Vec::new(), lines.as_slice(), Vec::new());
        for cut in cuts {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            rest = later;
            waiting.extend(now.iter().map(event));
            let processed = plugin.process_events(&waiting, false);
            events.extend(texts(&processed.events));
            waiting.drain(..waiting.len() - processed.held);
        }
        waiting.extend(rest.iter().map(event));
        events.extend(texts(&plugin.process_events(&waiting, true).events));
        prop_assert_eq!(events, whole);
    }
}
