//! A hostile plugin in one logstore costs no event, not its own and not another's.

use std::sync::OnceLock;

use serde_json::Value;

use crate::harness::{Ran, Site, access_log, contents, parse};

/// Events of the hostile logstore, of nine bytes each.
const EVENTS: u64 = 100;
/// Events of the good one.
const GOOD: u64 = 2000;

const GOOD_LOGSTORE: &str = "
- name: good/nginx
  files: { root: logs/good }
  plugins: [{ use: nginx, settings: { format: main } }]
  sink: out
";

fn evil_logstore(mode: &str, limits: &str) -> String {
    format!(
        "
- name: evil/own
  files: {{ root: logs/evil }}
  plugins: [{{ use: weir-evil, settings: {{ mode: {mode} }}, limits: {{ {limits} }} }}]
  sink: out
"
    )
}

fn lines() -> Vec<String> {
    (0..EVENTS).map(|number| format!("line {number:03}")).collect()
}

/// A directory in which both logstores have their files, and the hostile one that mode.
fn site(mode: &str, limits: &str) -> Site {
    let site = Site::new();
    site.write("logs/good/access.log", access_log(GOOD));
    site.write("logs/evil/own.log", lines().join("\n") + "\n");
    site.config(&(evil_logstore(mode, limits) + GOOD_LOGSTORE));
    site
}

/// Runs both logstores. The good one must not notice.
fn attack(mode: &str, limits: &str) -> (Site, Ran) {
    let site = site(mode, limits);
    let ran = site.run_with(&[]);
    ran.assert_settled();
    ran.assert_counts("good/nginx", [GOOD, GOOD, 0, 0]);
    assert!(good_output(&site) == peace(), "{mode} changed what another logstore made");
    (site, ran)
}

/// What the good logstore made, wherever its directory is.
fn good_output(site: &Site) -> String {
    let text = String::from_utf8(site.ndjson("good/nginx")).unwrap();
    text.replace(site.path("").to_str().unwrap(), "/")
}

/// What the good logstore makes when it is alone.
fn peace() -> &'static str {
    static PEACE: OnceLock<String> = OnceLock::new();
    PEACE.get_or_init(|| {
        let site = Site::new();
        site.write("logs/good/access.log", access_log(GOOD));
        site.config(GOOD_LOGSTORE);
        site.run().assert_counts("good/nginx", [GOOD, GOOD, 0, 0]);
        good_output(&site)
    })
}

/// The errors of the hostile logstore's events, all of which must have come out raw and in order.
fn errors(mode: &str, limits: &str) -> Vec<String> {
    let (site, ran) = attack(mode, limits);
    ran.assert_code(0);
    let events = site.events("evil/own");
    assert!(contents(&events) == lines(), "{mode}: its lines did not come out as they came in");
    ran.assert_counts("evil/own", [EVENTS, EVENTS, EVENTS, 0]);
    events.iter().map(|event| error(event).unwrap_or_else(|| panic!("{mode} gave {event}"))).collect()
}

/// The error of an event that has nothing else but its content and tags.
fn error(event: &Value) -> Option<String> {
    let members: Vec<_> = event.as_object()?.keys().map(String::as_str).collect();
    let error = event["__error__"].as_str()?;
    assert_eq!(members, ["content", "__error__", "__tags__"]);
    Some(error.to_owned())
}

/// All events are raw, with this error.
#[track_caller]
fn assert_error(mode: &str, expected: &str) {
    assert_eq!(errors(mode, ""), vec![expected; EVENTS as usize], "{mode}");
}

#[test]
fn a_plugin_that_behaves_is_believed() {
    let (site, ran) = attack("behave", "");
    ran.assert_code(0);
    ran.assert_counts("evil/own", [EVENTS, EVENTS, 0, 0]);
    let events = site.events("evil/own");
    assert_eq!(contents(&events), lines());
    assert!(events.iter().all(|event| event.get("__error__").is_none()));
}

#[test]
fn every_lie_is_named_and_costs_no_event() {
    let lies = [
        ("cell-out-of-bounds", "cell 0 (event 0) has the bytes 0..901, and there are 900 of input and 0 made"),
        ("cell-across-the-edge", "cell 0 (event 0) has the bytes 899..901, and there are 900 of input and 4 made"),
        ("start-after-end", "cell 0 (event 0) has the bytes 2..1, and there are 900 of input and 0 made"),
        ("part-of-a-cell", "299 numbers of cells, which is not three a cell"),
        ("rows-decrease", "the row of event 1 ends at cell 2, before it starts at 4294967295"),
        ("rows-end-early", "the rows end at cell 99 of 100"),
        ("unknown-field", "cell 0 (event 0) is of field 7, and there are 1 fields"),
        ("too-few-times", "99 times for 100 events"),
        ("origins-decrease", "event 99 comes from 0, before the one before it, from 99"),
        ("origins-out-of-bounds", "event 99 comes from 99..4294967295 of 100 events that are not held"),
        ("origins-empty", "event 0 comes from 0..0 of 100 events that are not held"),
        ("too-many-held", "101 events are held of 100"),
        ("failed-twice", "event 0 fails out of order, or twice"),
        ("failed-and-kept", "event 0 comes from 0..1, of which 0 failed"),
        ("unknown-reason", "event 0 fails by reason 1 of 1"),
        ("many-fields", "5000 fields, and 4096 are allowed"),
    ];
    for (mode, what) in lies {
        assert_error(mode, &format!("weir-evil: its output breaks the contract: {what}"));
    }
}

#[test]
fn names_that_fields_may_not_have_are_named() {
    for (mode, name) in [("empty-name", ""), ("reserved-name", "__time__"), ("long-name", &"n".repeat(64))] {
        let what = format!("the field name {name:?} is empty, longer than 256 bytes, or begins with `__`");
        assert_error(mode, &format!("weir-evil: its output breaks the contract: {what}"));
    }
}

#[test]
fn a_loop_without_end_runs_out_of_fuel() {
    let fuel = 10_000_000 + 2_000 * (9 * EVENTS + 16 * EVENTS);
    assert_error("spin", &format!("weir-evil: out of fuel: it used all of {fuel}"));
}

#[test]
fn memory_without_end_is_refused() {
    assert_error("grow", &format!("weir-evil: out of memory: it may have {} bytes", 64 << 20));
    assert_error("gigabyte", &format!("weir-evil: out of memory: it may have {} bytes", 64 << 20));
}

#[test]
fn a_recursion_without_end_and_a_panic_are_traps() {
    for (mode, words) in [("recurse", "recurse"), ("panic", "on purpose")] {
        for error in errors(mode, "") {
            assert!(error.starts_with("weir-evil: trapped: ") && error.contains(words), "{mode}: {error}");
        }
    }
}

#[test]
fn more_than_there_is_and_more_than_fits_are_not_taken() {
    let list = "weir-evil: trapped: list pointer/length out of bounds of memory";
    assert_error("beyond-memory", list);
    // Its memory may have that much, but it may not hand it over.
    for error in errors("gigabyte", "memory: 1GiB") {
        assert!(error.starts_with("weir-evil: trapped: "), "{error}");
    }
}

#[test]
fn a_few_numbers_that_stand_for_many_bytes_are_a_lie() {
    for error in errors("swell", "") {
        assert!(error.starts_with("weir-evil: its output breaks the contract: "), "{error}");
    }
}

#[test]
fn reasons_are_the_plugins_own_but_short() {
    assert_error("fail-all", "weir-evil: as I please");
    let reason: String = "ä\u{1b}".repeat(256 / 3) + "\u{fffd}";
    let expected = format!("weir-evil: {}", &reason[..reason.len() - 3]);
    for error in errors("long-reason", "") {
        assert!(error.starts_with(&expected) && error.len() <= "weir-evil: ".len() + 256, "{error:?}");
    }
}

#[test]
fn a_poisonous_event_fails_its_batch_and_nothing_else() {
    let site = site("panic-on-poison", "");
    let mut lines = lines();
    lines[41] = "poison 41".to_owned();
    site.write("logs/evil/own.log", lines.join("\n") + "\n");
    site.run().assert_counts("evil/own", [EVENTS, EVENTS, EVENTS, 0]);
    assert_eq!(good_output(&site), peace());
    let events = site.events("evil/own");
    assert_eq!(contents(&events), lines);
    for event in &events {
        assert!(error(event).is_some_and(|error| error.contains("swallowed poison")), "{event}");
    }
}

#[test]
fn an_agent_that_follows_goes_on_after_a_trap() {
    let site = site("panic-on-poison", "");
    let mut agent = site.start();
    agent.wait_for_lines("evil/own", EVENTS as usize);
    site.append("logs/evil/own.log", "poison\n");
    agent.wait_for_lines("evil/own", EVENTS as usize + 1);
    site.append("logs/evil/own.log", "better\n");
    agent.wait_for_lines("evil/own", EVENTS as usize + 2);
    agent.wait_for_lines("good/nginx", GOOD as usize);
    agent.stop().assert_counts("evil/own", [EVENTS + 2, EVENTS + 2, 1, 0]);
    let events = site.events("evil/own");
    assert_eq!(contents(&events)[EVENTS as usize..], ["poison", "better"]);
    assert!(events.last().unwrap().get("__error__").is_none());
    assert_eq!(good_output(&site), peace());
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
    assert_error("hold-for-ever", "weir-evil: held, but nothing follows");
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
    let flood = ran.stderr.lines().filter(|line| line.contains("flood")).count();
    assert!((1..=100).contains(&flood), "{flood} of 100000 lines");
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

/// The plugin does not get as far as to see an event, and the logstore's files are not touched.
#[track_caller]
fn assert_not_read(mode: &str, words: &str) {
    let (site, ran) = attack(mode, "");
    ran.assert_code(78);
    ran.assert_says(&format!("this logstore is not read: weir.yaml:6:13: logstores[0].plugins[0].use: {words}"));
    assert!(!ran.stderr.contains('\x1b'), "a control character in:\n{}", ran.stderr);
    assert!(!ran.summary.contains_key("evil/own"));
    assert_eq!(site.settled("evil/own"), [].into());

    site.config(&evil_logstore("behave", ""));
    site.run().assert_counts("evil/own", [EVENTS, EVENTS, 0, 0]);
    assert_eq!(site.contents("evil/own"), lines());
}

#[test]
fn refused_settings_leave_the_files_for_later() {
    let words = "plugin weir-evil: it refuses its settings: mode: \"refuse\" is not \\u{1b}[31mto my taste";
    assert_not_read("refuse", words);
}

#[test]
fn a_plugin_that_dies_of_its_settings_leaves_the_files_for_later() {
    assert_not_read("panic-in-configure", "plugin weir-evil: trapped: panicked at ");
}

#[test]
fn a_plugin_that_never_accepts_its_settings_leaves_the_files_for_later() {
    assert_not_read("spin-in-configure", "plugin weir-evil: out of fuel: it used all of 2000000000");
}
