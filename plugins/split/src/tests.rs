use proptest::prelude::*;
use serde_json::{Value, json};
use weir_plugin::testing::{Harness, golden, ndjson, run};

use super::Split;

fn split(settings: &str, event: &str) -> Vec<String> {
    ndjson::<Split>("split", settings, &[event]).unwrap_or_else(|e| panic!("{settings}: {e}"))
}

#[test]
fn golden_files() {
    golden::<Split>("split", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
}

#[test]
fn each_element_has_its_kind() {
    assert_eq!(
        split(
            r#"{"field":"l","into":"e"}"#,
            r#"{"a":1,"l":["x", "\"\n", -2, 1.50,true, null,{"b": [1]},[ ]],"z":"last"}"#
        ),
        [r#""x""#, r#""\"\n""#, "-2", "1.50", "true", "null", r#"{"b": [1]}"#, "[ ]"]
            .map(|element| format!(r#"{{"a":1,"e":{element},"z":"last"}}"#))
    );
}

#[test]
fn parts_between_separators() {
    for (content, expected) in
        [("a;;b", &["a", "b"][..]), (";;a;;", &["", "a", ""]), ("a;b", &["a;b"]), ("", &[""]), (";;;", &["", ";"])]
    {
        let events = run::<Split>(r#"{"separator":";;"}"#, &[content]).unwrap();
        assert_eq!(events.iter().map(|e| e.get("content").unwrap()).collect::<Vec<_>>(), expected, "{content}");
        assert!(events.iter().all(|event| event.origin == (0, 1)));
    }
}

#[test]
fn what_has_no_list_goes_on_or_fails() {
    assert_eq!(split(r#"{"field":"l"}"#, r#"{"a":1}"#), [r#"{"a":1}"#]);
    assert_eq!(split(r#"{"field":"l"}"#, r#"{"l":"x"}"#), [r#"{"l":"x","__error__":"split: not a JSON array"}"#]);
    assert_eq!(
        split(r#"{"field":"l"}"#, r#"{"l":{"a":[1]}}"#),
        [r#"{"l":{"a":[1]},"__error__":"split: not a JSON array"}"#]
    );
    let out = Harness::<Split>::new("{}").unwrap().process(&["[]", "[1]", "[", "[1,2]", "[]"], true);
    let got: Vec<_> = out.events.iter().map(|e| (e.get("content").unwrap(), e.origin.0, e.error.is_some())).collect();
    assert_eq!(got, [("1", 1, false), ("[", 2, true), ("1", 3, false), ("2", 3, false)]);
    assert_eq!(out.dropped, 2, "an empty list has no events");
}

#[test]
fn a_field_of_the_element_name_gives_way() {
    assert_eq!(
        split(r#"{"field":"l","into":"e","index":"i"}"#, r#"{"e":0,"l":["x","y"],"b":2}"#),
        [r#"{"e":"x","i":0,"b":2}"#, r#"{"e":"y","i":1,"b":2}"#]
    );
    assert_eq!(
        split(r#"{"field":"l","index":"i"}"#, r#"{"i":"before","l":["x","y"],"b":2,"i":"behind"}"#),
        [r#"{"l":"x","i":0,"b":2}"#, r#"{"l":"y","i":1,"b":2}"#]
    );
}

#[test]
fn wrong_settings_are_refused() {
    for (settings, expected) in [
        (r#"{"separator":""}"#, "separator: it must not be empty"),
        (r#"{"into":"__x"}"#, "field `__x`: names that begin with `__`"),
        (r#"{"index":"content"}"#, "index: it must not be the name of `field` or `into`"),
        (r#"{"into":"e","index":"content"}"#, "index: it must not be the name of `field` or `into`"),
        (r#"{"into":"e","index":"e"}"#, "index: it must not be the name of `field` or `into`"),
        (r#"{"seperator":","}"#, "unknown field `seperator`"),
    ] {
        let error = run::<Split>(settings, &["1"]).unwrap_err();
        assert!(error.starts_with(expected), "{settings}: {error}");
    }
}

#[test]
fn numbers_may_have_any_digits() {
    let numbers = ["1000000000000000001.5", "-0", "0.1e-7", "123456789012345678901234567890E+400"];
    assert_eq!(run::<Split>("{}", &[&format!("[{}]", numbers.join(","))]).unwrap().len(), 4);
    for wrong in ["01", "1.", ".5", "+1", "1e", "1e+", "--1", "nan", "True", "1.5.5", "0x1"] {
        assert!(run::<Split>("{}", &[&format!("[{wrong}]")]).unwrap()[0].error.is_some(), "{wrong}");
    }
}

proptest! {
    /// Any bytes are a list or are none, and no list of JSON is refused.
    #[test]
    fn what_json_reads_is_read(text in r#"\[([0-9]{1,25}|"|[a,\[\]{}: ]|\\|true|null|-|1\.5){0,10}\]"#) {
        let events = run::<Split>("{}", &[&text]).unwrap();
        if let Ok(list) = serde_json::from_str::<Vec<serde::de::IgnoredAny>>(&text) {
            prop_assert_eq!(events.iter().filter(|e| e.error.is_none()).count(), list.len(), "{}", text);
        }
    }

    /// The elements are those that serde reads, and the parts those of `str::split`.
    #[test]
    fn elements_are_what_others_read(
        list in prop::collection::vec(prop_oneof![
            any::<i64>().prop_map(|n| json!(n)),
            "\\PC{0,5}".prop_map(|t| json!(t)),
            any::<bool>().prop_map(|b| json!(b)),
            Just(json!({"a": [1, "x"]})),
        ], 0..6),
        text in "[a,; ]{0,12}",
    ) {
        let out = split(r#"{"field":"l"}"#, &json!({ "l": list }).to_string());
        let read: Vec<Value> = out.iter().map(|e| serde_json::from_str::<Value>(e).unwrap()["l"].clone()).collect();
        prop_assert_eq!(read, list);
        let parts = run::<Split>(r#"{"separator":", "}"#, &[&text]).unwrap();
        let parts: Vec<_> = parts.iter().map(|e| e.get("content").unwrap().to_owned()).collect();
        prop_assert_eq!(parts, text.split(", ").map(str::to_owned).collect::<Vec<_>>());
    }
}
