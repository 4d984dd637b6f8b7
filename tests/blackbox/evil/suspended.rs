//! Plugins that fail again and again are passed by, for longer each time, until they work.

use std::time::{Duration, Instant};

use super::{EVENTS, GOOD, error, evil_logstore, good_output, lines, peace, plugin, site, text};
use crate::harness::{contents, parse};

/// What the agent says each time.
const SUSPENDED: &str = "suspended, as it fails too often";

#[test]
fn a_plugin_that_can_do_nothing_is_tried_again_after_ever_longer_pauses() {
    let site = site("panic", "");
    let mut agent = site.start();
    let (begun, mut all) = (Instant::now(), lines());
    agent.wait("three suspensions", |site| {
        let line = format!("line {}", all.len());
        site.append("logs/evil/own.log", format!("{line}\n"));
        all.push(line);
        std::fs::read_to_string(site.path("stderr")).unwrap().matches(SUSPENDED).count() == 3
    });
    assert!(begun.elapsed() >= Duration::from_secs(1 + 2));
    agent.wait_for_lines("evil/own", all.len());
    agent.wait_for_lines("good/nginx", GOOD as usize);
    let ran = agent.stop();
    let count = all.len() as u64;
    ran.assert_counts("evil/own", [count, count, count, 0]);
    assert_eq!((plugin(&ran).counts["suspensions"], plugin(&ran).counts["suspended"]), (3, 1));
    assert_eq!(good_output(&site), peace());

    let events = site.events("evil/own");
    assert_eq!(contents(&events), all);
    let mut pauses: Vec<_> = events.iter().filter_map(|event| error(event)?.split(" s: ").next()).collect();
    pauses.retain(|error| error.starts_with("weir-evil: suspended for "));
    assert_eq!(pauses.len() as u64, ran.summary["evil/own"]["suspended"]);
    pauses.dedup();
    assert_eq!(pauses, [1, 2, 4].map(|pause| format!("weir-evil: suspended for {pause}")));

    // A better one takes its place.
    site.config(&evil_logstore("behave", ""));
    site.append("logs/evil/own.log", "at last\n");
    site.run().assert_counts("evil/own", [1, 1, 0, 0]);
    all.push("at last".to_owned());
    assert_eq!(site.contents("evil/own"), all);
}

#[test]
fn a_plugin_that_has_recovered_is_called_again() {
    let site = site("panic-on-poison", "");
    let mut all: Vec<_> = (0..EVENTS).map(|number| format!("poison {number}")).collect();
    site.write("logs/evil/own.log", text(&all));
    let mut agent = site.start();
    agent.wait_to_say(SUSPENDED);
    agent.wait("a good event", |site| {
        let line = format!("line {}", all.len());
        site.append("logs/evil/own.log", format!("{line}\n"));
        all.push(line);
        let made = site.ndjson("evil/own");
        let whole = made.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        parse(&made[..whole]).last().is_some_and(|event| error(event).is_none())
    });
    agent.wait_to_say("works again");
    for number in 0..10 {
        site.append("logs/evil/own.log", format!("good {number}\n"));
        all.push(format!("good {number}"));
    }
    agent.wait_for_lines("evil/own", all.len());
    let ran = agent.stop();
    let events = site.events("evil/own");
    assert_eq!(contents(&events), all);
    let raw = events.iter().filter(|event| error(event).is_some()).count();
    ran.assert_counts("evil/own", [all.len() as u64, all.len() as u64, raw as u64, 0]);
    // Once it worked, it went on to work.
    let good = events.iter().position(|event| error(event).is_none()).unwrap();
    assert_eq!(good, raw);
    assert!(good >= EVENTS as usize && good < all.len() - 10);
    assert_eq!((plugin(&ran).counts["suspensions"], plugin(&ran).counts["suspended"]), (1, 0));
}
