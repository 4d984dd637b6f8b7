use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use weir_plugin::testing::{Harness, golden, ndjson, run};

use super::Rework;

fn one(settings: &str, event: &str) -> String {
    ndjson::<Rework>("fields", settings, &[event]).unwrap_or_else(|e| panic!("{settings}: {e}")).remove(0)
}

#[test]
fn golden_files() {
    golden::<Rework>("fields", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
}

#[test]
fn each_setting() {
    let event = r#"{"a":"1","b":2,"k.x":[1, 2],"k.y":true}"#;
    for (settings, expected) in [
        ("{}", event),
        (r#"{"rename":{"a":"c","none":"d"}}"#, r#"{"c":"1","b":2,"k.x":[1, 2],"k.y":true}"#),
        (r#"{"rename":{"a":"b","b":"a"}}"#, r#"{"b":"1","a":2,"k.x":[1, 2],"k.y":true}"#),
        (r#"{"rename":{"a":"b"}}"#, r#"{"b":"1","k.x":[1, 2],"k.y":true}"#),
        (r#"{"rename":{"none":"b"}}"#, event),
        (r#"{"copy":{"a":"c"}}"#, r#"{"a":"1","c":"1","b":2,"k.x":[1, 2],"k.y":true}"#),
        (r#"{"copy":{"a":"c"},"rename":{"a":"d"}}"#, r#"{"d":"1","c":"1","b":2,"k.x":[1, 2],"k.y":true}"#),
        (r#"{"copy":{"a":"c"},"drop":["a","k.*"]}"#, r#"{"c":"1","b":2}"#),
        (r#"{"drop":["*"]}"#, "{}"),
        (r#"{"keep":["b","k.y*"]}"#, r#"{"b":2,"k.y":true}"#),
        (r#"{"keep":["b"],"rename":{"a":"c"},"add":{"d":0}}"#, r#"{"c":"1","b":2,"d":0}"#),
        (
            r#"{"keep":["b"],"add":{"b":"new","f":1.5,"g":false,"h":[1],"i":null}}"#,
            r#"{"b":"new","f":1.5,"g":false,"h":[1],"i":null}"#,
        ),
        (r#"{"keep":["a","b"],"types":{"a":"integer","b":"text"}}"#, r#"{"a":1,"b":"2"}"#),
    ] {
        assert_eq!(one(settings, event), expected, "{settings}");
    }
}

#[test]
fn raw_lines_have_content() {
    assert_eq!(run::<Rework>(r#"{"rename":{"content":"message"}}"#, &["x"]).unwrap()[0].pairs(), [("message", "x")]);
}

#[test]
fn tags_become_fields() {
    let settings = r#"{"from_tags":{"pod":"k8s.pod","n":"number","none":"other"},"types":{"n":"integer"}}"#;
    let mut plugin = Harness::<Rework>::new(settings).unwrap().tags(&[("k8s.pod", "web-1"), ("number", "7")]);
    let processed = plugin.process(&["a", "b"], true);
    for (event, content) in processed.events.iter().zip(["a", "b"]) {
        assert_eq!(event.pairs(), [("content", content), ("n", "7"), ("pod", "web-1")]);
    }
}

#[test]
fn without_the_tag_a_field_stays() {
    let settings = r#"{"from_tags":{"content":"a","other":"b"}}"#;
    let mut plugin = Harness::<Rework>::new(settings).unwrap().tags(&[("a", "tag")]);
    assert_eq!(plugin.process(&["line"], true).events[0].pairs(), [("content", "tag")]);
    let mut plugin = Harness::<Rework>::new(settings).unwrap().tags(&[("b", "tag")]);
    assert_eq!(plugin.process(&["line"], true).events[0].pairs(), [("content", "line"), ("other", "tag")]);
}

#[test]
fn wrong_settings_are_refused() {
    for (settings, expected) in [
        (r#"{"drop":["a"],"keep":["b"]}"#, "give either drop or keep, not both"),
        (r#"{"rename":{"a":"c"},"add":{"c":1}}"#, "field `c` would be made twice"),
        (r#"{"rename":{"a":"c","b":"c"}}"#, "field `c` would be made twice"),
        (r#"{"rename":{"a":"__time__"}}"#, "field `__time__`: names that begin with `__` belong to the host"),
        (r#"{"copy":{"a":""}}"#, "a field's name must not be empty"),
        (r#"{"rename":{"a":"c"},"drop":["a"]}"#, "field `a` is renamed, so that drop and keep do not apply to it"),
        (r#"{"remove":["a"]}"#, "unknown field `remove`"),
    ] {
        let error = run::<Rework>(settings, &["1"]).unwrap_err();
        assert!(error.starts_with(expected), "{settings}: {error}");
    }
}

proptest! {
    /// The same as doing it with maps.
    #[test]
    fn a_map_would_be_reworked_alike(
        event in prop::collection::btree_map("[a-e]", "[xyz]", 0..5),
        rename in prop::collection::btree_map("[a-e]", "[a-h]", 0..3),
        copy in prop::collection::btree_map("[a-e]", "[a-h]", 0..3),
        drop in prop::collection::vec("[a-e]", 0..2),
        add in prop::collection::btree_map("[a-h]", 0..9, 0..2),
    ) {
        let settings = json!({"rename": rename, "copy": copy, "drop": drop, "add": add}).to_string();
        let Ok(lines) = ndjson::<Rework>("fields", &settings, &[&json!(event).to_string()]) else { return Ok(()) };
        let mut expected: BTreeMap<String, Value> = BTreeMap::new();
        for (name, value) in &event {
            if !rename.contains_key(name) && !drop.contains(name) {
                expected.insert(name.clone(), json!(value));
            }
        }
        for (from, to) in rename.iter().chain(&copy) {
            if let Some(value) = event.get(from) {
                expected.insert(to.clone(), json!(value));
            }
        }
        for (name, value) in &add {
            expected.insert(name.clone(), json!(value));
        }
        let actual: Map<String, Value> = serde_json::from_str(&lines[0]).unwrap();
        prop_assert_eq!(lines[0].matches(':').count(), actual.len(), "no name twice: {}", &lines[0]);
        prop_assert_eq!(actual.into_iter().collect::<BTreeMap<_, _>>(), expected, "{}", settings);
    }
}
