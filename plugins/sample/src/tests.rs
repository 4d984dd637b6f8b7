use proptest::prelude::*;
use weir_plugin::testing::{golden, ndjson, run};

use super::Sample;

fn kept(settings: &str, lines: &[String]) -> Vec<String> {
    let events = run::<Sample>(settings, lines).unwrap_or_else(|e| panic!("{settings}: {e}"));
    events.iter().map(|event| event.get("content").unwrap().to_owned()).collect()
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("line {i}")).collect()
}

#[test]
fn golden_files() {
    golden::<Sample>("sample", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
}

#[test]
fn so_many_are_kept_as_the_rate_says() {
    let lines = numbers(100_000);
    for (rate, least, most) in
        [(0, 0, 0), (1, 100_000, 100_000), (2, 49_500, 50_500), (10, 9_700, 10_300), (1000, 70, 130)]
    {
        let count = kept(&format!(r#"{{"rate":{rate}}}"#), &lines).len();
        assert!((least..=most).contains(&count), "{count} at {rate}");
    }
}

#[test]
fn it_is_always_the_same_ones_and_others_with_another_seed() {
    let lines = numbers(40);
    assert_eq!(kept(r#"{"rate":10}"#, &lines), FIRST);
    assert_eq!(kept(r#"{"rate":10,"seed":1}"#, &lines), SECOND);
}

// Reckoned by another program: what is kept never changes.
const FIRST: [&str; 3] = ["line 2", "line 24", "line 39"];
const SECOND: [&str; 5] = ["line 10", "line 25", "line 28", "line 37", "line 38"];

#[test]
fn values_of_a_field_have_their_rates() {
    let settings =
        r#"{"rate":1,"rates":{"field":"level","values":{"debug":0,"info":1000000007}},"rate_field":"sample_rate"}"#;
    let events = ["debug", "info", "error"].map(|level| format!(r#"{{"level":"{level}","sample_rate":5}}"#));
    let events: Vec<_> = events.iter().map(String::as_str).chain([r#"{"a":1}"#]).collect();
    assert_eq!(
        ndjson::<Sample>("sample", settings, &events).unwrap(),
        [r#"{"level":"error","sample_rate":1}"#, r#"{"a":1,"sample_rate":1}"#]
    );
}

#[test]
fn wrong_settings_are_refused() {
    for (settings, expected) in [
        (r#"{}"#, "missing field `rate`"),
        (r#"{"rate":-1}"#, "invalid value: integer `-1`"),
        (r#"{"rate":2,"rate_field":""}"#, "a field's name must not be empty"),
        (r#"{"rate":2,"key":"a"}"#, "unknown field `key`"),
    ] {
        let error = run::<Sample>(settings, &["1"]).unwrap_err();
        assert!(error.starts_with(expected), "{settings}: {error}");
    }
}

proptest! {
    /// Events with the same value share their fate, whatever else they have and whatever comes before.
    #[test]
    fn one_value_one_fate(ids in prop::collection::vec(0u8..20, 1..40), rate in 1u64..5) {
        let events: Vec<_> = ids.iter().enumerate().map(|(i, id)| format!(r#"{{"n":{i},"id":"{id}"}}"#)).collect();
        let events: Vec<_> = events.iter().map(String::as_str).collect();
        let settings = format!(r#"{{"rate":{rate},"by":"id"}}"#);
        let kept = ndjson::<Sample>("sample", &settings, &events).unwrap();
        let alone = |event: &str| !ndjson::<Sample>("sample", &settings, &[&event.replace("\"n\":", "\"m\":")]).unwrap().is_empty();
        let expected: Vec<_> = events.iter().filter(|event| alone(event)).map(|event| (*event).to_owned()).collect();
        prop_assert_eq!(kept, expected);
    }
}
