use proptest::prelude::*;
use weir_plugin::testing::{Harness, golden, ndjson, run};

use super::Dedup;

fn some(settings: &str, events: &[&str]) -> Vec<String> {
    ndjson::<Dedup>("dedup", settings, events).unwrap_or_else(|e| panic!("{settings}: {e}"))
}

#[test]
fn golden_files() {
    golden::<Dedup>("dedup", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
}

#[test]
fn events_are_the_same_by_all_fields_or_some() {
    let events = [r#"{"a":1,"t":"x"}"#, r#"{"a":2,"t":"x"}"#, r#"{"a":1,"t":"y"}"#, r#"{"a":1,"t":"x"}"#];
    for (settings, expected) in [
        ("{}", &[r#"{"a":1,"t":"x","count":2}"#, r#"{"a":2,"t":"x"}"#, r#"{"a":1,"t":"y"}"#][..]),
        (r#"{"by":["a"]}"#, &[r#"{"a":1,"t":"x","count":3}"#, r#"{"a":2,"t":"x"}"#]),
        (r#"{"ignore":["a"],"count":"n"}"#, &[r#"{"a":1,"t":"x","n":3}"#, r#"{"a":1,"t":"y"}"#]),
        (r#"{"adjacent":true}"#, &events),
        (
            r#"{"adjacent":true,"by":["t"]}"#,
            &[r#"{"a":1,"t":"x","count":2}"#, r#"{"a":1,"t":"y"}"#, r#"{"a":1,"t":"x"}"#],
        ),
        (r#"{"by":["none"],"count":"a"}"#, &[r#"{"t":"x","a":4}"#]),
    ] {
        assert_eq!(some(settings, &events), expected, "{settings}");
    }
}

#[test]
fn missing_is_not_empty_and_cells_are_told_apart() {
    assert_eq!(some(r#"{"by":["a","b"]}"#, &[r#"{"a":""}"#, r#"{"b":""}"#, "{}", r#"{"a":"","b":""}"#]).len(), 4);
    assert_eq!(some("{}", &[r#"{"a":"bc"}"#, r#"{"ab":"c"}"#]).len(), 2);
}

#[test]
fn the_others_are_dropped() {
    let processed = Harness::<Dedup>::new("{}").unwrap().process(&["a", "b", "a", "a"], true);
    let got: Vec<_> = processed.events.iter().map(|e| (e.get("content").unwrap(), e.get("count"), e.origin)).collect();
    assert_eq!(got, [("a", Some("3"), (0, 1)), ("b", None, (1, 2))]);
    assert_eq!((processed.dropped, processed.held), (2, 0));
}

#[test]
fn wrong_settings_are_refused() {
    for (settings, expected) in [
        (r#"{"by":["a"],"ignore":["b"]}"#, "give either by or ignore, not both"),
        (r#"{"count":"__n"}"#, "field `__n`: names that begin with `__`"),
        (r#"{"fields":[]}"#, "unknown field `fields`"),
    ] {
        let error = run::<Dedup>(settings, &["1"]).unwrap_err();
        assert!(error.starts_with(expected), "{settings}: {error}");
    }
}

proptest! {
    /// Counts add up to the events, and each value comes once, in the order of its first.
    #[test]
    fn counts_add_up(lines in prop::collection::vec("[a-d]{1,2}", 0..40)) {
        let events = run::<Dedup>("{}", &lines).unwrap();
        let mut expected: Vec<(String, usize)> = Vec::new();
        for line in &lines {
            match expected.iter_mut().find(|(known, _)| known == line) {
                Some((_, count)) => *count += 1,
                None => expected.push((line.clone(), 1)),
            }
        }
        let count = |count: Option<&str>| count.map_or(1, |count| count.parse().unwrap());
        let got: Vec<_> = events.iter().map(|e| (e.get("content").unwrap().to_owned(), count(e.get("count")))).collect();
        prop_assert_eq!(got, expected);
    }
}
