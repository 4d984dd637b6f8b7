//! What is chosen and cannot be used: the agent was killed after it was written down, and before it was tried.

use serde_json::{Value, json};
use weir::registry::{By, Canary, Choice, New, Registry};

use super::{APP, APP_PLUGINS, Managed, settings, wasm};
use crate::harness::{Site, numbers};

/// Adds a version of `delimiter` while no agent runs.
fn add(managed: &Managed, settings: &Value) -> u64 {
    let bytes = wasm("delimiter");
    let new = New {
        bytes: &bytes,
        name: "delimiter",
        plugin_version: "1",
        settings,
        by: By::Operator,
        most: 10,
        signature: None,
    };
    registry(managed).add(&"shop/app".parse().unwrap(), &new).unwrap().number
}

fn registry(managed: &Managed) -> Registry {
    Registry::open(&managed.site.path("data/registry")).unwrap()
}

/// What runs, by the settings that its events show, and what is said of all versions.
fn run(managed: &Managed, line: u64) -> (Value, Choice, Vec<Value>) {
    managed.site.append("logs/app.log", numbers(line..line + 1).replace('\n', ",x\n"));
    let mut agent = managed.start();
    agent.wait_for_lines("shop/app", line as usize + 1);
    let list = managed.operator().get(APP_PLUGINS);
    agent.stop().assert_settled();
    let event = managed.site.events("shop/app").pop().unwrap();
    let notes = list["versions"].as_array().unwrap().iter().map(|version| version["note"].clone()).collect();
    (event, serde_json::from_value(list["choice"].clone()).unwrap(), notes)
}

#[test]
fn what_cannot_be_used_at_the_start_gives_way_to_what_was_before() {
    let managed = Managed::new(Site::new(), APP);
    let name = "shop/app".parse().unwrap();
    let (good, wrong) = (add(&managed, &settings("v1")), add(&managed, &json!({ "fields": 5 })));
    registry(&managed).activate(&name, good).unwrap();
    registry(&managed).activate(&name, wrong).unwrap();
    let (event, choice, notes) = run(&managed, 0);
    assert_eq!((&event["number"], &event["v1"]), (&json!("0"), &json!("x")));
    assert_eq!(choice, Choice { active: good, before: None, canary: None });
    let note = notes[1].as_str().unwrap();
    assert!(note.starts_with("could not be used when the agent started: "), "{note}");
    assert_eq!(notes[0], Value::Null);

    // If that is of no use either, it is what is configured.
    let other = add(&managed, &json!({ "fields": 6 }));
    registry(&managed).activate(&name, other).unwrap();
    registry(&managed).activate(&name, wrong).unwrap();
    let (event, choice, notes) = run(&managed, 1);
    assert_eq!((&event["number"], &event["v0"]), (&json!("1"), &json!("x")));
    assert_eq!((choice, &notes[2]), (Choice::default(), &Value::Null));

    // And a trial of it is over.
    registry(&managed).activate(&name, good).unwrap();
    registry(&managed).begin_canary(&name, Canary { version: other, percent: 50 }).unwrap();
    let (event, choice, notes) = run(&managed, 2);
    assert_eq!((&event["number"], &event["v1"]), (&json!("2"), &json!("x")));
    assert_eq!(choice, Choice { active: good, before: Some(0), canary: None });
    assert!(notes[2].as_str().unwrap().starts_with("could not be tried: "), "{notes:?}");
}
