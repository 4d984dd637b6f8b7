//! Plugins that keep to the contract, and make as much trouble as they can.

use serde_json::{Value, json};

use super::{EVENTS, GOOD, attack, error, evil_logstore, lines, plugin, run, site, text};
use crate::harness::{Ran, Site, contents, parse};

/// The events that a plugin made, which did not fault.
fn made(mode: &str) -> (Vec<Value>, Ran) {
    let (site, ran) = attack(mode, "");
    ran.assert_code(0);
    ran.assert_counts("evil/own", [EVENTS, EVENTS, 0, 0]);
    assert_eq!(plugin(&ran).counts["faults"], 0, "{mode}");
    (site.events("evil/own"), ran)
}

#[test]
fn events_that_failed_before_do_not_overtake_those_that_are_held() {
    let site = Site::new();
    site.config(
        "- name: a/b
  files: { root: logs }
  plugins:
    - { use: json }
    - { use: weir-evil, settings: { mode: hold-for-ever } }
  sink: out",
    );
    site.write("logs/a.log", "broken 1\n{\"n\":2}\nbroken 3\n{\"n\":4}\n");
    let mut agent = site.start();
    // What is held is given back when its file has been quiet.
    agent.wait_for_lines("a/b", 4);
    agent.stop().assert_counts("a/b", [4, 4, 4, 0]);
    let events = site.events("a/b");
    let shown: Vec<_> =
        events.iter().map(|e| e["content"].as_str().map_or(e["n"].to_string(), str::to_owned)).collect();
    assert_eq!(shown, ["broken 1", "2", "broken 3", "4"]);
    let failed_by: Vec<_> =
        events.iter().map(|e| e["__error__"].as_str().unwrap().split(':').next().unwrap()).collect();
    assert_eq!(failed_by, ["json", "weir-evil", "json", "weir-evil"]);
    let path = site.path("logs/a.log");
    assert!(events.iter().all(|e| e["__tags__"]["path"].as_str() == path.to_str()));
}

#[test]
fn what_is_held_for_ever_is_shipped_raw_at_the_end() {
    assert_fails("hold-for-ever", |error| error == "weir-evil: held, but nothing follows");
}

#[test]
fn what_is_held_in_vain_is_read_again_by_the_next_run() {
    let site = site("hold-for-ever", "");
    let mut agent = site.start();
    agent.wait_for_lines("good/nginx", GOOD as usize);
    site.append("logs/evil/own.log", "line 100\n");
    // Seen when something after it is.
    site.append("logs/good/access.log", "?\n");
    agent.wait_for_lines("good/nginx", GOOD as usize + 1);
    let ran = agent.stop();
    let accounts = &ran.summary["evil/own"];
    assert_eq!((accounts["delivered"], accounts["dropped"]), (0, 0));
    assert_eq!(site.contents("evil/own"), [""; 0]);

    site.config(&evil_logstore("behave", ""));
    site.run().assert_counts("evil/own", [EVENTS + 1, EVENTS + 1, 0, 0]);
    let mut all = lines();
    all.push("line 100".to_owned());
    assert_eq!(site.contents("evil/own"), all);
}

#[test]
fn nobody_holds_more_than_the_limit() {
    let count = 20_000;
    let lines: Vec<_> = (0..count).map(|number| format!("{number:0300}")).collect();
    let site = site("hold-for-ever", "");
    site.write("logs/evil/own.log", lines.join("\n") + "\n");
    site.run().assert_counts("evil/own", [count, count, count, 0]);
    let events = site.events("evil/own");
    assert!(contents(&events) == lines, "some are lost, doubled or out of order");
    let (full, end) = (format!("weir-evil: held more than {} bytes", 4 << 20), "weir-evil: held, but nothing follows");
    let count_of = |what: &str| events.iter().filter(|event| event["__error__"] == what).count();
    assert_eq!(count_of(&full) + count_of(end), count as usize);
    assert!(count_of(&full) > count as usize / 2);
}

#[test]
fn what_a_plugin_drops_is_counted() {
    let (site, ran) = attack("drop-all", "");
    ran.assert_code(0);
    ran.assert_counts("evil/own", [EVENTS, 0, 0, EVENTS]);
    assert_eq!(parse(&site.ndjson("evil/own")).len(), 0);
    assert_eq!(site.settled("evil/own"), [(site.path("logs/evil/own.log"), 9 * EVENTS)].into());
}

#[test]
fn a_flood_of_log_lines_is_a_trickle_without_control_characters() {
    let (site, ran) = attack("log-flood", "fuel_per_byte: 1000000");
    ran.assert_code(0);
    assert_eq!(site.contents("evil/own"), lines());
    let strange: Vec<_> = ran.stderr.chars().filter(|c| c.is_control() && *c != '\n').collect();
    assert!(strange.is_empty(), "{strange:?} in:\n{}", ran.stderr);
    assert!(!ran.stderr.contains("flood"), "{}", ran.stderr);
    assert!(ran.stderr.lines().all(|line| !line.starts_with("ERROR")), "a line was forged:\n{}", ran.stderr);
}

#[test]
fn a_flood_of_counters_harms_nobody() {
    let (site, ran) = attack("count-flood", "");
    ran.assert_code(0);
    ran.assert_counts("evil/own", [EVENTS, EVENTS, 0, 0]);
    assert_eq!(site.contents("evil/own"), lines());
    assert!(site.events("evil/own").iter().all(|event| event.get("__error__").is_none()));
}

/// All events fail by this reason, which is the plugin's own.
#[track_caller]
fn assert_fails(mode: &str, is_so: impl Fn(&str) -> bool) {
    let (site, ran) = attack(mode, "");
    ran.assert_code(0);
    ran.assert_counts("evil/own", [EVENTS, EVENTS, EVENTS, 0]);
    assert_eq!(plugin(&ran).counts["faults"], 0, "{mode}");
    let events = site.events("evil/own");
    assert_eq!(contents(&events), lines(), "{mode}");
    assert!(events.iter().all(|event| error(event).is_some_and(&is_so)), "{mode}: {}", events[0]);
}

#[test]
fn reasons_are_the_plugins_own_but_short() {
    assert_fails("fail-all", |error| error == "weir-evil: as I please");
    assert_fails("many-reasons", |error| error == "weir-evil: the last of many");
    let reason: String = "ä\u{1b}".repeat(256 / 3);
    let expected = format!("weir-evil: {}", &reason[..reason.len() - 3]);
    assert_fails("long-reason", |error| error.starts_with(&expected) && error.len() <= "weir-evil: ".len() + 256);
}

#[test]
fn times_at_the_ends_of_what_there_is_are_written_as_they_are() {
    let (events, _) = made("times-out-of-range");
    let times: Vec<_> = events.iter().map(|event| event.get("__time__").and_then(Value::as_str)).collect();
    let expected = [
        Some("2262-04-11T23:47:16.854775807Z"),
        Some("1677-09-21T00:12:43.145224193Z"),
        Some("1969-12-31T23:59:59.999999999Z"),
        None,
        Some("1970-01-01T00:00:00Z"),
    ];
    assert_eq!(times, expected.repeat(EVENTS as usize / 5));
    assert_eq!(contents(&events), lines());
}

#[test]
fn strange_names_of_fields_are_escaped() {
    let names = ["\0\x1b[31m", "a\"b", "line\nbreak", "\\u12", "\u{fffd}\u{10ffff}", "path", "_", " ", "content"];
    let (events, _) = made("odd-names");
    for (event, line) in events.iter().zip(lines()) {
        let members = event.as_object().unwrap();
        assert_eq!(members.keys().map(String::as_str).collect::<Vec<_>>(), [&names[..], &["__tags__"]].concat());
        assert!(names.iter().all(|name| members[*name] == line), "{event}");
        assert!(event["__tags__"]["path"].as_str().unwrap().ends_with("own.log"));
    }
}

#[test]
fn fields_of_one_name_are_all_written() {
    let (site, ran) = attack("duplicate-names", "");
    ran.assert_counts("evil/own", [EVENTS, EVENTS, 0, 0]);
    let made = String::from_utf8(site.ndjson("evil/own")).unwrap();
    for (made, line) in made.lines().zip(lines()) {
        assert!(
            made.starts_with(&format!("{{\"path\":\"{line}\",\"path\":\"{line}\",\"path\":\"{line}\",\"__tags__\""))
        );
        assert_eq!(serde_json::from_str::<Value>(made).unwrap()["path"], line);
    }
}

#[test]
fn what_is_not_of_its_kind_is_a_string() {
    let (events, _) = made("garbage");
    let deep = "[".repeat(100_000);
    let texts = ["1,\"x\":2", "01", "NaN", "tru", "{\"a\":", "\"\0\"", "1 2", "\"\\ud800\"", &deep, "\"\n\""];
    let mut expected = serde_json::Map::new();
    for kind in ["integer", "float", "boolean", "json"] {
        for (number, text) in texts.iter().enumerate() {
            expected.insert(format!("{kind}{number}"), json!(text));
        }
    }
    let mut first = events[0].as_object().unwrap().clone();
    first.remove("__tags__");
    assert_eq!(first, expected);
    for (number, event) in events.iter().enumerate().skip(1) {
        let (name, _) = expected.iter().nth(number % expected.len()).unwrap();
        assert_eq!(event[name], "1,");
        assert_eq!(event.as_object().unwrap().len(), 2);
    }
}

#[test]
fn what_is_made_of_one_event_again_and_again_was_read_once() {
    let (events, _) = made("repeat");
    let expected: Vec<_> = lines().into_iter().flat_map(|line| vec![line; 100]).collect();
    assert!(contents(&events) == expected);
}

#[test]
fn who_uses_nearly_all_memory_gets_a_new_instance_for_each_batch() {
    let site = site("hog", "");
    let mut agent = site.start();
    agent.wait_for_lines("evil/own", EVENTS as usize);
    for number in 1..=10 {
        site.append("logs/evil/own.log", format!("more {number}\n"));
        agent.wait_for_lines("evil/own", EVENTS as usize + number);
    }
    let ran = agent.stop();
    ran.assert_counts("evil/own", [EVENTS + 10, EVENTS + 10, 0, 0]);
    let counts = &plugin(&ran).counts;
    assert_eq!((counts["faults"], counts["memory"]), (0, 0), "{counts:?}");
    assert_eq!(counts["instances"], counts["calls"], "{counts:?}");
    assert!(counts["calls"] >= 11);
}

#[test]
fn who_uses_nearly_all_fuel_may() {
    let (events, ran) = made("greedy");
    assert_eq!(contents(&events), lines());
    let fuel = 10_000_000 + 2_000 * (9 + 1 + 16) * EVENTS;
    let used = plugin(&ran).counts["fuel"];
    assert!((fuel / 10 * 8..fuel).contains(&used), "{used} of {fuel}");
}

#[test]
fn megabytes_in_a_log_line_are_cut() {
    let (events, ran) = made("log-megabytes");
    assert_eq!(contents(&events), lines());
    ran.assert_says("its plugins log: see `weir tap evil/own --log` logstore=\"evil/own\" lines=1\n");
    assert!(!ran.stderr.contains("flood"), "{}", ran.stderr);
    // Who wants it in the agent's log gets it cut, and a trickle of many.
    let site = site("log-megabytes", "");
    let logged = |site: &Site| {
        let mut command = site.weir(["run", "-c", "weir.yaml", "--until-idle"]);
        let output = command.env("RUST_LOG", "info").output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!stderr.contains(|c: char| c.is_control() && c != '\n'));
        stderr.lines().filter(|line| line.contains("flood")).map(str::to_owned).collect::<Vec<_>>()
    };
    let flood = logged(&site);
    assert!(flood.len() == 1 && flood[0].len() < 5000, "{flood:?}");
    let site = self::site("log-flood", "fuel_per_byte: 1000000");
    assert_eq!(logged(&site).len(), 5);
}

#[test]
fn what_is_held_is_given_no_more_fuel_than_what_was_read() {
    let lines: Vec<_> = (0..40_000).map(|number| format!("{number:0100}")).collect();
    let site = site("hold-for-ever-and-spin", "");
    site.write("logs/evil/own.log", text(&lines));
    let ran = run(&site, "hold-for-ever-and-spin");
    ran.assert_counts("evil/own", [40_000, 40_000, 40_000, 0]);
    let events = site.events("evil/own");
    assert!(contents(&events) == lines);
    let most = 10_000_000 + 2_000 * 512 * 1024;
    let out_of_fuel = "out of fuel: it used all of ";
    let fuel = events.iter().filter_map(|event| error(event)?.split_once(out_of_fuel)?.1.parse::<u64>().ok());
    assert_eq!(fuel.max(), Some(most));
}
