//! A hostile plugin in one logstore costs no event, not its own and not another's.
//!
//! Rooms: [`faults`] what always fails · [`poison`] what fails on some events · [`suspended`] what fails again and again ·
//! [`on_fault`] what becomes of that ·
//! [`nuisances`] what keeps to the contract · [`components`] what cannot be made with a compiler.

mod components;
mod faults;
mod nuisances;
mod on_fault;
mod poison;
mod suspended;

use std::sync::OnceLock;

use serde_json::Value;

use crate::harness::{Plugin, Ran, Site, access_log, contents};

/// Events of the hostile logstore, of nine bytes each.
const EVENTS: u64 = 100;
/// Events of the good one.
const GOOD: u64 = 2000;

/// Bytes that may be resident, whatever the plugin does: what the agent has by itself is 16 MiB.
const MEMORY: u64 = 64 << 20;
/// As many more may become of one batch.
const SWOLLEN: u64 = 4 * (16 << 20);

const GOOD_LOGSTORE: &str = "
- name: good/nginx
  files: { root: logs/good }
  plugins: [{ use: nginx, settings: { format: main } }]
  sink: out
";

/// `mode` may be followed by more settings.
fn evil_logstore(mode: &str, limits: &str) -> String {
    logstore(&format!("use: weir-evil, settings: {{ mode: {mode} }}, limits: {{ {limits} }}"))
}

fn logstore(plugin: &str) -> String {
    format!("\n- name: evil/own\n  files: {{ root: logs/evil }}\n  plugins: [{{ {plugin} }}]\n  sink: out\n")
}

fn lines() -> Vec<String> {
    (0..EVENTS).map(|number| format!("line {number:03}")).collect()
}

/// A directory in which both logstores have their files, and the hostile one that mode.
fn site(mode: &str, limits: &str) -> Site {
    site_of(&evil_logstore(mode, limits))
}

fn site_of(evil_logstore: &str) -> Site {
    let site = Site::new();
    site.write("logs/good/access.log", access_log(GOOD));
    site.write("logs/evil/own.log", text(&lines()));
    site.config(&format!("{evil_logstore}{GOOD_LOGSTORE}"));
    site
}

fn text(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

/// Runs both logstores. The good one must not notice.
fn attack(mode: &str, limits: &str) -> (Site, Ran) {
    let site = site(mode, limits);
    let ran = run(&site, mode);
    (site, ran)
}

/// Runs what is there. The good one must not notice what the other is.
#[track_caller]
fn run(site: &Site, what: &str) -> Ran {
    let ran = site.run_with(&[]);
    ran.assert_settled();
    let most = MEMORY + if what == "swell-alone" { SWOLLEN } else { 0 };
    assert!((4 << 20..=most).contains(&ran.peak), "{what}: {} KiB were resident", ran.peak >> 10);
    ran.assert_counts("good/nginx", [GOOD, GOOD, 0, 0]);
    assert_eq!((ran.projects["good"]["read"], ran.projects["good"]["faults"]), (GOOD, 0));
    assert!(good_output(site) == peace(), "{what} changed what another logstore made");
    ran
}

/// What the good logstore made, wherever its directory is.
fn good_output(site: &Site) -> String {
    output(site, "good/nginx")
}

/// What a logstore made, wherever its directory is.
fn output(site: &Site, logstore: &str) -> String {
    let text = String::from_utf8(site.ndjson(logstore)).unwrap();
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

/// What was counted for the hostile plugin.
fn plugin(ran: &Ran) -> &Plugin {
    let plugin = &ran.plugins["evil/own"][0];
    assert!(["weir-evil", "odd", "nice"].contains(&&*plugin.name), "{plugin:?}");
    assert_eq!(ran.projects["evil"]["fuel"], plugin.counts["fuel"]);
    plugin
}

/// The error of an event; one that has an error has nothing else but its content and tags.
fn error(event: &Value) -> Option<&str> {
    let error = event.get("__error__")?.as_str().unwrap();
    let members: Vec<_> = event.as_object()?.keys().map(String::as_str).collect();
    assert_eq!(members, ["content", "__error__", "__tags__"]);
    Some(error)
}

/// Numbers depend on the part of a batch that failed: each is a `#`.
pub fn words(error: &str) -> String {
    let mut words = String::new();
    for c in error.chars() {
        match c {
            '0'..='9' if words.ends_with('#') => {}
            '0'..='9' => words.push('#'),
            _ => words.push(c),
        }
    }
    words
}

/// What a fault says when it has passed by a suspended plugin, or when it is its own.
fn fault_of(error: &str) -> (bool, &str) {
    let (name, fault) = error.split_once(": ").expect("an error begins with the plugin's name");
    assert!(["weir-evil", "odd"].contains(&name), "{error}");
    match fault.strip_prefix("suspended for ") {
        Some(rest) => (true, rest.split_once(" s: ").expect("a suspension has a fault").1),
        None => (false, fault),
    }
}

/// Runs a plugin that faults: its events all come out, in order, and those that are raw say why, in these words. Whether
/// each came out good.
#[track_caller]
fn assert_faults(mode: &str, limits: &str, expected: &[&str]) -> (Vec<bool>, Ran) {
    assert_faults_at(&site(mode, limits), mode, expected)
}

#[track_caller]
fn assert_faults_at(site: &Site, mode: &str, expected: &[&str]) -> (Vec<bool>, Ran) {
    let ran = run(site, mode);
    ran.assert_code(0);
    let events = site.events("evil/own");
    assert!(contents(&events) == lines(), "{mode}: its lines did not come out as they came in");
    let mut suspended = 0;
    for error in events.iter().filter_map(error) {
        let (is_suspended, fault) = fault_of(error);
        suspended += u64::from(is_suspended);
        assert!(expected.iter().any(|expected| words(fault).starts_with(expected)), "{mode}: {error}");
    }
    let good: Vec<_> = events.iter().map(|event| error(event).is_none()).collect();
    let raw = good.iter().filter(|is_good| !**is_good).count() as u64;
    ran.assert_counts("evil/own", [EVENTS, EVENTS, raw, 0]);
    assert_eq!(ran.summary["evil/own"]["suspended"], suspended, "{mode}");
    let counts = &plugin(&ran).counts;
    assert!((1..=64).contains(&counts["faults"]), "{mode}: {counts:?}");
    assert_eq!(counts["suspensions"], u64::from(suspended > 0), "{mode}: {counts:?}");
    (good, ran)
}

/// As [`assert_faults`], of a plugin that can do nothing, not even with a single event.
#[track_caller]
fn assert_always_faults(mode: &str, limits: &str, expected: &str) -> Ran {
    let (good, ran) = assert_faults(mode, limits, &[expected]);
    assert_eq!(good, [false; EVENTS as usize], "{mode}");
    assert_eq!(plugin(&ran).counts["suspensions"], 1, "{mode}");
    ran
}

#[test]
fn a_plugin_that_behaves_is_believed() {
    let (site, ran) = attack("behave", "");
    ran.assert_code(0);
    ran.assert_counts("evil/own", [EVENTS, EVENTS, 0, 0]);
    assert_eq!(plugin(&ran).counts["faults"], 0);
    let events = site.events("evil/own");
    assert_eq!(contents(&events), lines());
    assert!(events.iter().all(|event| error(event).is_none()));
}
