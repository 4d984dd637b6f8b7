//! Plugins that fail on some events: these are found, and all others come out as if they had not been there.

use super::{EVENTS, GOOD, error, good_output, lines, output, peace, plugin, site, text};
use crate::harness::{Site, contents};

/// Lines of which those with these numbers are poisonous.
fn poisoned(count: usize, length: usize, poison: &[usize]) -> Vec<String> {
    let line = |number| {
        let word = if poison.contains(&number) { "poison" } else { "line" };
        format!("{word} {number:0$}", length - word.len() - 1)
    };
    (0..count).map(line).collect()
}

/// So many different numbers of lines, always the same.
fn places(count: usize, of: usize) -> Vec<usize> {
    let mut places = fastrand::Rng::with_seed(4).choose_multiple(0..of, count);
    places.sort_unstable();
    places
}

/// What a chain whose last plugin is the hostile one in that mode makes of lines.
fn made(mode: &str, before: &str, lines: &[String]) -> (Vec<String>, Ran) {
    let site = Site::new();
    site.write("logs/own.log", text(lines));
    site.config(&format!(
        "- name: evil/own
  files: {{ root: logs }}
  plugins: [{before} {{ use: weir-evil, settings: {{ mode: {mode} }} }}]
  sink: out"
    ));
    let ran = site.run();
    (output(&site, "evil/own").lines().map(str::to_owned).collect(), ran)
}

use crate::harness::Ran;

/// Only the poisonous ones come out raw, and all others as they would have without them.
#[track_caller]
fn assert_found(mode: &str, before: &str, lines: &[String], poison: &[usize], fault: &str) -> Ran {
    let (expected, _) = made("behave", before, lines);
    let (made, ran) = made(mode, before, lines);
    let (read, raw) = (lines.len() as u64, poison.len() as u64);
    let chain = &ran.plugins["evil/own"];
    let counts = &chain.last().unwrap().counts;
    assert_eq!((counts["suspensions"], counts["suspended"]), (0, 0), "{mode}: {counts:?}");
    ran.assert_counts("evil/own", [read, read, raw, 0]);
    assert_eq!((made.len(), expected.len()), (lines.len(), lines.len()));
    for (number, (made, expected)) in made.iter().zip(&expected).enumerate() {
        if !poison.contains(&number) {
            assert_eq!(made, expected, "{mode}, event {number}");
            continue;
        }
        let (mut made, expected) =
            [made, expected].map(|event| serde_json::from_str::<serde_json::Value>(event).unwrap()).into();
        let error = made
            .as_object_mut()
            .unwrap()
            .remove("__error__")
            .unwrap_or_else(|| panic!("{mode}, event {number}: no error"));
        assert_eq!(made, expected, "{mode}, event {number}");
        assert!(error.as_str().unwrap().starts_with(fault), "{mode}: {error}");
    }
    ran
}

/// What the panic says, before its place.
const PANIC: &str = "weir-evil: trapped: panicked at ";

#[test]
fn one_poisonous_event_is_found_wherever_it_is() {
    for place in [0, 1, 2500, 4998, 4999] {
        let ran = assert_found("panic-on-poison", "", &poisoned(5000, 20, &[place]), &[place], PANIC);
        // One call with all, one with each half.
        assert!(plugin(&ran).counts["faults"] <= 14);
    }
}

#[test]
fn the_error_names_what_the_guest_says_and_where() {
    let site = site("panic-on-poison", "");
    let mut lines = lines();
    lines[41] = "poison 41".to_owned();
    site.write("logs/evil/own.log", text(&lines));
    site.run().assert_counts("evil/own", [EVENTS, EVENTS, 1, 0]);
    assert_eq!(good_output(&site), peace());
    let events = site.events("evil/own");
    assert_eq!(contents(&events), lines);
    let error = error(&events[41]).unwrap();
    let place = error.strip_prefix("weir-evil: trapped: panicked at ").unwrap();
    assert!(
        place.contains("src/lib.rs:") && place.contains("swallowed poison in weir_evil::attack, called by "),
        "{error}"
    );
}

#[test]
fn some_poisonous_events_are_found() {
    // All in one batch, in two, and in twenty: how many can be found is counted by the batch.
    for (count, length) in [(3, 20), (3, 100), (20, 1000)] {
        let poison = places(count, 5000);
        let lines = poisoned(5000, length, &poison);
        assert_found("panic-on-poison", "", &lines, &poison, PANIC);
    }
}

/// Of 512 events that are halved, eight that are as far from each other as can be: 1 + 2 + 4 + 8 parts with some of them
/// fail, and then six for each.
const MOST: usize = 8;

#[test]
fn a_search_fails_63_times_at_most() {
    let poison: Vec<_> = (0..MOST).map(|number| 64 * number).collect();
    let ran = assert_found("panic-on-poison", "", &poisoned(512, 20, &poison), &poison, PANIC);
    assert_eq!(plugin(&ran).counts["faults"], 63);
}

#[test]
fn poison_that_takes_a_64th_failure_has_the_plugin_suspended_there() {
    // One more beside the first fails once more. Then the last is alone, and it and all behind it pass by.
    let poison: Vec<_> = (0..MOST).map(|number| 64 * number).chain([1]).collect();
    let lines = poisoned(512, 20, &poison);
    let (made, ran) = made("panic-on-poison", "", &lines);
    ran.assert_counts("evil/own", [512, 512, 8 + 64, 0]);
    let counts = &plugin(&ran).counts;
    assert_eq!((counts["faults"], counts["suspensions"], ran.summary["evil/own"]["suspended"]), (64, 1, 64));
    for (number, event) in made.iter().enumerate() {
        let event: serde_json::Value = serde_json::from_str(event).unwrap();
        assert_eq!(event["content"], lines[number]);
        let is_raw = number >= 448 || poison.contains(&number);
        assert_eq!(event.get("__error__").is_some(), is_raw, "{number}: {event}");
    }
}

#[test]
fn poison_is_found_though_settings_are_costly() {
    // Each part that fails costs a new instance, which takes more fuel than a search of so few events may otherwise use.
    let lines = poisoned(100, 20, &[70]);
    let configure = 300_000_000;
    let ran = assert_found(&format!("panic-on-poison, configure: {configure}"), "", &lines, &[70], PANIC);
    let counts = &plugin(&ran).counts;
    assert!(counts["fuel"] > counts["faults"] * configure / 2, "{counts:?}");
}

#[test]
fn an_event_that_takes_all_fuel_is_found() {
    let lines = poisoned(5000, 20, &[1234]);
    let ran = assert_found("spin-on-poison", "", &lines, &[1234], "weir-evil: out of fuel: it used all of ");
    // As many events as are read at once.
    let whole = 10_000_000 + 2_000 * 4096 * (21 + 64);
    let fuel = plugin(&ran).counts["fuel"];
    assert!((2 * whole..3 * whole).contains(&fuel), "{fuel}, and a call has {whole}");
}

#[test]
fn a_poisonous_event_at_the_end_of_a_chain_is_found() {
    let lines = |poison: &[usize]| -> Vec<_> {
        let word = |number| if poison.contains(&number) { "poison" } else { "good" };
        (0..2000).map(|number| format!("{{\"n\":{number},\"text\":\"{}\"}}", word(number))).collect()
    };
    let poison = places(4, 2000);
    assert_found("panic-on-poison", "{ use: json },", &lines(&poison), &poison, PANIC);
}

#[test]
fn events_that_failed_before_keep_their_places_among_poisonous_ones() {
    let lines: Vec<_> = (0..300)
        .map(|number| match number % 10 {
            3 => format!("broken {number}"),
            _ if number == 155 => "{\"n\":155,\"text\":\"poison\"}".to_owned(),
            _ => format!("{{\"n\":{number}}}"),
        })
        .collect();
    let (expected, _) = made("behave", "{ use: json },", &lines);
    let (made, ran) = made("panic-on-poison", "{ use: json },", &lines);
    ran.assert_counts("evil/own", [300, 300, 31, 0]);
    for (number, (made, expected)) in made.iter().zip(&expected).enumerate() {
        assert_eq!(made == expected, number != 155, "{made}");
        assert_eq!(made.contains("__error__"), number % 10 == 3 || number == 155);
    }
}

#[test]
fn a_poisonous_event_is_found_behind_and_among_those_that_are_held() {
    for mode in ["panic-on-poison-and-hold-last", "panic-on-poison-behind-held"] {
        for poison in [vec![0], vec![1], vec![2998], vec![2999], vec![700, 701], places(3, 3000)] {
            // Two batches and a bit.
            let lines = poisoned(3000, 200, &poison);
            assert_found(mode, "", &lines, &poison, PANIC);
        }
    }
}

#[test]
fn a_plugin_that_holds_finds_poison_line_by_line() {
    for mode in ["panic-on-poison-and-hold-last", "panic-on-poison-behind-held"] {
        let site = site(mode, "");
        let mut agent = site.start();
        // All but the one that is held.
        agent.wait_for_lines("evil/own", EVENTS as usize - 1);
        for round in 0..40 {
            site.append("logs/evil/own.log", format!("poison {round}\n"));
            site.append("logs/evil/own.log", format!("better {round}\n"));
            agent.wait_for_lines("evil/own", EVENTS as usize + 2 * round);
        }
        site.append("logs/evil/own.log", "end\n");
        agent.wait_for_lines("evil/own", EVENTS as usize + 80);
        agent.wait_for_lines("good/nginx", GOOD as usize);
        let ran = agent.stop();
        let (read, raw) = (EVENTS + 81, 40);
        let accounts = &ran.summary["evil/own"];
        assert_eq!([accounts["read"], accounts["delivered"], accounts["kept_raw"]], [read, read - 1, raw], "{mode}");
        assert_eq!((plugin(&ran).counts["suspensions"], accounts["in_flight"]), (0, 1), "{mode}");
        let events = site.events("evil/own");
        let rounds = (0..40).flat_map(|round| [format!("poison {round}"), format!("better {round}")]);
        assert_eq!(contents(&events)[EVENTS as usize..], rounds.collect::<Vec<_>>(), "{mode}");
        for event in &events {
            assert_eq!(
                error(event).is_some(),
                event["content"].as_str().unwrap().starts_with("poison"),
                "{mode}: {event}"
            );
        }
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
    assert!(error(events.last().unwrap()).is_none());
    assert_eq!(good_output(&site), peace());
}
