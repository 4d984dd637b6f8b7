//! What becomes of events on which a plugin faults, if they are not to be shipped raw.

use super::{EVENTS, GOOD, good_output, lines, peace, plugin, site_of, text};
use crate::harness::{Accounts, Site, contents};

/// The hostile logstore with that mode and policy, after other plugins.
fn logstore(before: &str, mode: &str, on_fault: &str) -> String {
    format!(
        "
- name: evil/own
  files: {{ root: logs/evil }}
  plugins: [{before} {{ use: weir-evil, settings: {{ mode: {mode} }} }}]
  on_fault: {on_fault}
  sink: out
"
    )
}

fn site(mode: &str, on_fault: &str) -> Site {
    site_of(&logstore("", mode, on_fault))
}

fn counts<const N: usize>(accounts: &Accounts, names: [&str; N]) -> [u64; N] {
    names.map(|name| accounts[name])
}

#[test]
fn drop_discards_the_poisonous_event_and_counts_it() {
    let site = site("panic-on-poison", "drop");
    let mut all: Vec<_> = (0..5000).map(|number| format!("line {number}")).collect();
    let poison = [0, 1234, 1235, 4999];
    poison.iter().for_each(|place| all[*place] = format!("poison {place}"));
    site.write("logs/evil/own.log", text(&all));
    let ran = super::run(&site, "drop");
    ran.assert_code(0);
    let accounts = &ran.summary["evil/own"];
    let named = counts(accounts, ["read", "delivered", "kept_raw", "dropped", "discarded", "faulted", "suspended"]);
    assert_eq!(named, [5000, 4996, 0, 0, 4, 4, 0]);
    all.retain(|line| !line.starts_with("poison"));
    assert!(site.contents("evil/own") == all);
    assert!(site.events("evil/own").iter().all(|event| event.get("__error__").is_none()));
}

#[test]
fn drop_discards_also_what_passes_by_a_suspended_plugin() {
    for mode in ["panic", "cell-out-of-bounds", "spin"] {
        let site = site(mode, "drop");
        let ran = super::run(&site, mode);
        ran.assert_code(0);
        let accounts = &ran.summary["evil/own"];
        let named = counts(accounts, ["read", "delivered", "kept_raw", "dropped", "discarded", "faulted"]);
        assert_eq!(named, [EVENTS, 0, 0, 0, EVENTS, EVENTS], "{mode}");
        assert!(accounts["suspended"] > 0 && accounts["suspended"] < EVENTS, "{mode}: {accounts:?}");
        assert_eq!(plugin(&ran).counts["suspensions"], 1, "{mode}");
        assert_eq!(site.ndjson("evil/own"), b"", "{mode}");
        assert_eq!(site.settled("evil/own"), [(site.path("logs/evil/own.log"), 9 * EVENTS)].into(), "{mode}");
    }
}

#[test]
fn drop_keeps_what_failed_before_and_what_is_held() {
    let site = site_of(&logstore("{ use: json },", "panic-on-poison-and-hold-last", "drop"));
    let mut all: Vec<_> = (0..300).map(|number| format!("{{\"content\":\"{number}\"}}")).collect();
    all[100] = "broken".to_owned();
    all[101] = "{\"content\":\"poison\"}".to_owned();
    all[299] = "{\"content\":\"poison\"}".to_owned();
    site.write("logs/evil/own.log", text(&all));
    let ran = super::run(&site, "drop");
    let accounts = &ran.summary["evil/own"];
    let named = counts(accounts, ["read", "delivered", "kept_raw", "dropped", "discarded", "faulted"]);
    assert_eq!(named, [300, 298, 1, 0, 2, 2]);
    let expected = (0..299).filter(|number| *number != 101);
    let expected = expected.map(|number| if number == 100 { "broken".to_owned() } else { number.to_string() });
    assert_eq!(contents(&site.events("evil/own")), expected.collect::<Vec<_>>());
}

#[test]
fn hold_waits_at_the_poisonous_event_until_the_plugin_can_do_it() {
    let site = site("panic-on-poison", "hold");
    let mut all = lines();
    all[41] = "poison 41".to_owned();
    site.write("logs/evil/own.log", text(&all));
    let mut agent = site.start();
    agent.wait_to_say("suspended, as it fails too often");
    agent.wait_for_lines("evil/own", 41);
    agent.wait_for_lines("good/nginx", GOOD as usize);
    // It is tried again.
    agent.wait("another suspension", |site| {
        std::fs::read_to_string(site.path("stderr")).unwrap().matches("suspended, as it fails too often").count() == 2
    });
    let begun = std::time::Instant::now();
    let ran = agent.stop();
    assert!(begun.elapsed().as_secs() < 5, "it did not stop at once");
    let accounts = &ran.summary["evil/own"];
    let named = counts(accounts, ["read", "delivered", "kept_raw", "discarded", "in_flight", "suspended"]);
    assert_eq!(named, [EVENTS, 41, 0, 0, EVENTS - 41, 0]);
    assert_eq!(good_output(&site), peace());
    assert_eq!(site.contents("evil/own"), all[..41]);
    assert_eq!(site.settled("evil/own"), [(site.path("logs/evil/own.log"), 9 * 41)].into());

    site.config(&logstore("", "behave", "hold"));
    site.run().assert_counts("evil/own", [EVENTS - 41, EVENTS - 41, 0, 0]);
    assert_eq!(site.contents("evil/own"), all);
}

#[test]
fn hold_lets_what_is_before_go_on_through_the_rest_of_the_chain() {
    // The last plugin holds an event of its own.
    let chain = "{ use: json }, { use: weir-evil, settings: { mode: panic-on-poison } },";
    let line = |number: u64| match number {
        41 => "{\"content\":\"poison\"}".to_owned(),
        _ => format!("{{\"content\":\"{number}\"}}"),
    };
    let all: Vec<_> = (0..EVENTS).map(line).collect();
    let site = site_of(&logstore(chain, "panic-on-poison-and-hold-last", "hold"));
    site.write("logs/evil/own.log", text(&all));
    let mut agent = site.start();
    agent.wait_for_lines("evil/own", 40);
    let ran = agent.stop();
    let accounts = &ran.summary["evil/own"];
    let named = counts(accounts, ["read", "delivered", "kept_raw", "discarded", "in_flight"]);
    assert_eq!(named, [EVENTS, 40, 0, 0, EVENTS - 40]);
    let offset = all[..40].iter().map(|line| line.len() as u64 + 1).sum();
    assert_eq!(site.settled("evil/own"), [(site.path("logs/evil/own.log"), offset)].into());

    site.config(&logstore("{ use: json },", "behave", "hold"));
    site.run().assert_counts("evil/own", [EVENTS - 40, EVENTS - 40, 0, 0]);
    let expected = (0..EVENTS).map(|number| if number == 41 { "poison".to_owned() } else { number.to_string() });
    assert_eq!(site.contents("evil/own"), expected.collect::<Vec<_>>());
}

#[test]
fn hold_goes_on_when_the_plugin_can_do_it_again() {
    // An instance that behaves for one call only can do one batch after each pause.
    let site = site("panic, after: 1", "hold");
    let mut agent = site.start();
    agent.wait_for_lines("evil/own", EVENTS as usize);
    let mut all = lines();
    for number in 0..10 {
        site.append("logs/evil/own.log", format!("more {number}\n"));
        all.push(format!("more {number}"));
    }
    agent.wait_for_lines("evil/own", all.len());
    agent.wait_for_lines("good/nginx", GOOD as usize);
    let ran = agent.stop();
    let count = all.len() as u64;
    ran.assert_counts("evil/own", [count, count, 0, 0]);
    assert_eq!(site.contents("evil/own"), all);
    assert!(plugin(&ran).counts["faults"] > 0);
}
