use proptest::prelude::*;
use serde_json::{Value, json};
use weir_plugin::testing::{golden, ndjson, run};

use super::Filter;

/// Whether an event passes a filter that keeps what meets the condition.
fn holds(condition: &Value, event: &str) -> bool {
    let settings = json!({ "keep": [condition] }).to_string();
    let kept = ndjson::<Filter>("filter", &settings, &[event]).unwrap_or_else(|e| panic!("{condition}: {e}"));
    assert!(kept.is_empty() || kept == [event], "{kept:?}");
    !kept.is_empty()
}

#[test]
fn golden_files() {
    golden::<Filter>("filter", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
}

#[test]
fn each_test_of_a_field() {
    let event = r#"{"uri":"/Healthz","status":404,"ip":"10.1.2.3","time":0.5,"ok":true,"empty":""}"#;
    for (condition, expected) in [
        (json!({"field": "uri", "equals": "/Healthz"}), true),
        (json!({"field": "uri", "equals": "/healthz"}), false),
        (json!({"field": "uri", "equals": "/healthz", "ignore_case": true}), true),
        (json!({"field": "status", "equals": 404}), true),
        (json!({"field": "ok", "equals": true}), true),
        (json!({"field": "uri", "equals": ""}), false),
        (json!({"field": "empty", "equals": ""}), true),
        (json!({"field": "none", "equals": ""}), false),
        (json!({"field": "status", "in": ["200", 404]}), true),
        (json!({"field": "status", "in": []}), false),
        (json!({"field": "uri", "contains": "alth"}), true),
        (json!({"field": "uri", "contains": "ALTH"}), false),
        (json!({"field": "uri", "contains": "ALTH", "ignore_case": true}), true),
        (json!({"field": "uri", "contains": "."}), false),
        (json!({"field": "uri", "starts_with": "/He"}), true),
        (json!({"field": "uri", "starts_with": "/Healthz/"}), false),
        (json!({"field": "uri", "ends_with": "Z", "ignore_case": true}), true),
        (json!({"field": "uri", "ends_with": "Z"}), false),
        (json!({"field": "uri", "regex": "^/[A-Z]\\w+$"}), true),
        (json!({"field": "uri", "regex": "^/[a-z]"}), false),
        (json!({"field": "uri", "regex": "^/[a-z]", "ignore_case": true}), true),
        (json!({"field": "status", "range": {"min": 404, "max": 404}}), true),
        (json!({"field": "status", "range": {"above": 404}}), false),
        (json!({"field": "status", "range": {"below": 404}}), false),
        (json!({"field": "time", "range": {"above": 0.25, "below": 0.75}}), true),
        (json!({"field": "uri", "range": {"min": 0}}), false),
        (json!({"field": "ip", "cidr": ["192.168.0.0/16", "10.0.0.0/8"]}), true),
        (json!({"field": "ip", "cidr": ["::/0"]}), false),
        (json!({"field": "uri", "cidr": ["0.0.0.0/0"]}), false),
        (json!({"field": "empty", "exists": true}), true),
        (json!({"field": "none", "exists": true}), false),
        (json!({"field": "none", "exists": false}), true),
        (json!({"field": "uri", "starts_with": "/", "ends_with": "z"}), true),
        (json!({"field": "uri", "starts_with": "/", "ends_with": "x"}), false),
        (json!({"contains": "x"}), false),
        (json!({"not": {"contains": "x"}}), true),
        (
            json!({"and": [{"field": "status", "equals": 404}, {"or": [{"field": "ok", "equals": false}, {"not": {"field": "none", "exists": true}}]}]}),
            true,
        ),
    ] {
        assert_eq!(holds(&condition, event), expected, "{condition}");
    }
}

#[test]
fn drop_counts_before_keep() {
    let settings = r#"{"drop":[{"contains":"noise"},{"equals":""}],"keep":[{"contains":"warn"},{"contains":"error"}]}"#;
    let events = run::<Filter>(settings, &["warn", "info", "error noise", "", "an error"]).unwrap();
    assert_eq!(events.iter().map(|e| e.get("content").unwrap()).collect::<Vec<_>>(), ["warn", "an error"]);
}

#[test]
fn numbers_are_decimal() {
    for (text, expected) in [
        ("1", true),
        ("-1", false),
        ("1e3", true),
        ("inf", false),
        ("NaN", false),
        ("0x1", false),
        ("1 ", false),
        ("", false),
    ] {
        let event = json!({ "n": text }).to_string();
        assert_eq!(holds(&json!({"field": "n", "range": {"min": 0}}), &event), expected, "{text}");
    }
}

#[test]
fn wrong_settings_are_refused_with_their_place() {
    for (settings, expected) in [
        (r#"{}"#, "give conditions under drop or keep"),
        (r#"{"drop":[{"field":"a"}]}"#, "drop[0]: give a test of the field"),
        (r#"{"keep":[{"contains":"x"},{"not":{"regex":"("}}]}"#, "keep[1].not.regex: regex parse error"),
        (r#"{"drop":[{"or":[{"cidr":["10.0.0.0/99"]}]}]}"#, "drop[0].or[0].cidr: `10.0.0.0/99` is not a network"),
        (r#"{"drop":[{"and":[]}]}"#, "drop[0].and: give at least one condition"),
        (r#"{"drop":[{"and":[{"equals":1}],"field":"a"}]}"#, "drop[0]: and, or, not stand alone"),
        (r#"{"drop":[{"range":{}}]}"#, "drop[0].range: give min, max, above or below"),
        (r#"{"drop":[{"equal":1}]}"#, "unknown field `equal`"),
        (
            r#"{"drop":[{"equals":[1]}]}"#,
            "invalid type: a list, expected a text, a number or a boolean in `drop.0.equals`",
        ),
    ] {
        let error = run::<Filter>(settings, &["1"]).unwrap_err();
        assert!(error.starts_with(expected), "{settings}: {error}");
    }
}

/// Conditions of all shapes on the fields `a` and `b`.
fn condition() -> impl Strategy<Value = Value> {
    let text = "[abAB]{0,3}";
    let test = prop_oneof![
        text.prop_map(|t| json!({ "equals": t })),
        text.prop_map(|t| json!({ "contains": t })),
        text.prop_map(|t| json!({ "starts_with": t })),
        text.prop_map(|t| json!({ "ends_with": t })),
        any::<bool>().prop_map(|e| json!({ "exists": e })),
    ];
    let leaf = (prop::sample::select(vec!["a", "b"]), test, any::<bool>()).prop_map(|(field, mut test, ignore)| {
        test["field"] = json!(field);
        test["ignore_case"] = json!(ignore);
        test
    });
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..3).prop_map(|list| json!({ "and": list })),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|list| json!({ "or": list })),
            inner.prop_map(|one| json!({ "not": one })),
        ]
    })
}

/// What a condition means, in other words.
fn oracle(condition: &Value, event: &Value) -> bool {
    if let Some(list) = condition["and"].as_array() {
        return list.iter().all(|c| oracle(c, event));
    }
    if let Some(list) = condition["or"].as_array() {
        return list.iter().any(|c| oracle(c, event));
    }
    if condition["not"].is_object() {
        return !oracle(&condition["not"], event);
    }
    let value = event[condition["field"].as_str().unwrap()].as_str();
    if let Some(exists) = condition["exists"].as_bool() {
        return value.is_some() == exists;
    }
    let fold = |text: &str| {
        if condition["ignore_case"] == json!(true) { text.to_lowercase() } else { text.to_owned() }
    };
    let text = |name: &str| condition[name].as_str().map(fold);
    value.map(fold).is_some_and(|value| {
        text("equals").is_none_or(|t| value == t)
            && text("contains").is_none_or(|t| value.contains(&t))
            && text("starts_with").is_none_or(|t| value.starts_with(&t))
            && text("ends_with").is_none_or(|t| value.ends_with(&t))
    })
}

proptest! {
    #[test]
    fn conditions_mean_what_they_say(
        condition in condition(),
        a in prop::option::of("[abAB]{0,4}"),
        b in prop::option::of("[abAB]{0,4}"),
    ) {
        let mut event = json!({});
        for (name, value) in [("a", a), ("b", b)] {
            if let Some(value) = value {
                event[name] = json!(value);
            }
        }
        prop_assert_eq!(holds(&condition, &event.to_string()), oracle(&condition, &event), "{} {}", condition, event);
    }
}
