//! Plugins that fail with whatever they are given. All events come out raw, and each says why.

use super::{EVENTS, assert_always_faults, assert_faults, attack, error, evil_logstore, fault_of, lines, plugin, site};

/// What a lie is called.
const LIE: &str = "its output breaks the contract: ";

#[test]
fn every_lie_is_named_and_costs_no_event() {
    let lies = [
        ("cell-out-of-bounds", "cell # (event #) has the bytes #..#, and there are # of input and # made"),
        ("cell-across-the-edge", "cell # (event #) has the bytes #..#, and there are # of input and # made"),
        ("start-after-end", "cell # (event #) has the bytes #..#, and there are # of input and # made"),
        ("part-of-a-cell", "# numbers of cells, which is not three a cell"),
        ("rows-end-early", "the rows end at cell # of #"),
        ("unknown-field", "cell # (event #) is of field #, and there are # fields"),
        ("origins-out-of-bounds", "event # comes from #..# of # events that are not held"),
        ("origins-empty", "event # comes from #..# of # events that are not held"),
        ("too-many-held", "# events are held of #"),
        ("failed-twice", "event # fails out of order, or twice"),
        ("failed-and-kept", "event # comes from #..#, of which # failed"),
        ("unknown-reason", "event # fails by reason # of #"),
        ("many-fields", "# fields, and # are allowed"),
        ("long-names", "the cells have # bytes together, with their names, and # are allowed"),
    ];
    for (mode, what) in lies {
        assert_always_faults(mode, "", &format!("{LIE}{what}"));
    }
    let what = "# events, and # are allowed";
    assert_always_faults("many-events", "fuel_per_byte: 1000000", &format!("{LIE}{what}"));
}

#[test]
fn a_lie_about_several_events_is_the_truth_about_one() {
    let lies: [(&str, &[&str]); 3] = [
        ("too-few-times", &["# times for # events"]),
        ("origins-decrease", &["event # comes from #, before the one before it, from #"]),
        ("rows-decrease", &["the row of event # ends at cell #, before it starts at #", "the rows end at cell # of #"]),
    ];
    for (mode, what) in lies {
        let what: Vec<_> = what.iter().map(|what| format!("{LIE}{what}")).collect();
        let (good, ran) = assert_faults(mode, "", &what.iter().map(String::as_str).collect::<Vec<_>>());
        let count = good.iter().filter(|good| **good).count();
        // A search that finds nothing has its limit too. What is left passes by.
        assert_eq!(plugin(&ran).counts["faults"], 64, "{mode}");
        assert_eq!(good, (0..EVENTS as usize).map(|event| event < count).collect::<Vec<_>>(), "{mode}");
        assert_eq!(count > 0, mode != "rows-decrease", "{mode}: {count}");
    }
}

#[test]
fn names_that_fields_may_not_have_are_named() {
    for (mode, name) in [("empty-name", ""), ("reserved-name", "__time__"), ("long-name", &"n".repeat(64))] {
        let what = format!("the field name {name:?} is empty, longer than # bytes, or begins with `__`");
        assert_always_faults(mode, "", &format!("{LIE}{what}"));
    }
}

#[test]
fn a_loop_without_end_runs_out_of_fuel_wherever_it_is() {
    let fuel = 10_000_000 + 2_000 * (9 * EVENTS + 64 * EVENTS);
    for mode in ["spin", "spin-in-alloc", "spin-in-free"] {
        let ran = assert_always_faults(mode, "", "out of fuel: it used all of #");
        let counts = &plugin(&ran).counts;
        // Four calls with all, twenty with none, and the one that goes beyond.
        let most = 5 * fuel + 20 * 10_000_000;
        assert!((2 * fuel..most).contains(&counts["fuel"]), "{mode}: {counts:?}");
        assert_eq!(ran.summary["evil/own"]["fuel"], counts["fuel"]);
    }
}

#[test]
fn memory_without_end_is_refused() {
    assert_always_faults("grow", "", "out of memory: it may have # bytes");
    assert_always_faults("gigabyte", "", "out of memory: it may have # bytes");
}

#[test]
fn a_recursion_without_end_and_a_panic_are_traps() {
    for (mode, what) in [("recurse", "trapped: wasm trap: "), ("panic", "trapped: panicked at ")] {
        assert_always_faults(mode, "", what);
    }
}

#[test]
fn a_fault_says_where_by_the_guests_own_names() {
    for (mode, words) in [("recurse", "weir_evil::recurse"), ("panic", "on purpose in weir_evil::attack")] {
        let (site, _) = attack(mode, "");
        for event in site.events("evil/own") {
            assert!(error(&event).is_some_and(|error| error.contains(words)), "{mode}: {event}");
        }
    }
}

#[test]
fn more_than_there_is_and_more_than_fits_are_not_taken() {
    assert_always_faults("beyond-memory", "", "trapped: list pointer/length out of bounds of memory");
    // Its memory may have that much, but it may not hand it over.
    assert_always_faults("gigabyte", "memory: 1GiB", "trapped: ");
}

#[test]
fn a_few_numbers_that_stand_for_many_bytes_are_a_lie() {
    let lie = format!("{LIE}the cells have # bytes together, with their names, and # are allowed");
    // Of few bytes it would need so many numbers that it has no room for them.
    let (good, _) = assert_faults("swell", "", &[&lie, "out of memory: it may have # bytes"]);
    assert_eq!(good, [false; EVENTS as usize]);
}

#[test]
fn parts_that_swell_one_by_one_are_too_much_together() {
    let (site, ran) = attack("swell-alone", "");
    let made = String::from_utf8(site.ndjson("evil/own")).unwrap();
    let (good, raw): (Vec<_>, Vec<_>) = made.lines().partition(|line| line.starts_with("{\"nnn"));
    // Each has eleven and a half million bytes, and four times sixteen are too many.
    assert_eq!(good.len(), 6);
    assert!(
        raw.iter()
            .all(|line| line.contains("weir-evil: suspended for 1 s: it makes more of a batch than there is room for"))
    );
    let raw: Vec<_> = raw.iter().map(|line| &line[..22]).collect();
    assert_eq!(raw, lines()[6..].iter().map(|line| format!("{{\"content\":\"{line}\",")).collect::<Vec<_>>());
    ran.assert_counts("evil/own", [EVENTS, EVENTS, EVENTS - 6, 0]);
}

#[test]
fn it_may_not_talk_for_ever() {
    for mode in ["log-without-end", "count-without-end"] {
        assert_always_faults(mode, "", "trapped: it logs and counts more than # bytes in one call");
    }
}

#[test]
fn what_behaves_for_a_while_is_found_out_then() {
    for (mode, what) in [
        ("spin", "out of fuel: "),
        ("spin-in-alloc", "out of fuel: "),
        ("panic", "trapped: panicked at "),
        ("cell-out-of-bounds", "its output breaks the contract: "),
    ] {
        // A call a line: each is delivered before the next is written.
        let site = site(&format!("{mode}, after: 20"), "");
        site.write("logs/evil/own.log", "");
        let mut agent = site.start();
        for (number, line) in lines().iter().enumerate() {
            site.append("logs/evil/own.log", format!("{line}\n"));
            agent.wait_for_lines("evil/own", number + 1);
        }
        agent.wait_for_lines("good/nginx", super::GOOD as usize);
        let ran = agent.stop();
        assert_eq!(super::good_output(&site), super::peace());
        let events = site.events("evil/own");
        assert_eq!(crate::harness::contents(&events), lines());
        for (number, event) in events.iter().enumerate() {
            let is_bad = number % 21 == 20;
            assert_eq!(
                error(event).map(|error| fault_of(error).1.starts_with(what)),
                is_bad.then_some(true),
                "{mode}: {event}"
            );
        }
        let bad = EVENTS / 21;
        ran.assert_counts("evil/own", [EVENTS, EVENTS, bad, 0]);
        let counts = &plugin(&ran).counts;
        assert_eq!(
            (counts["faults"], counts["instances"], counts["suspensions"]),
            (bad, bad + 1, 0),
            "{mode}: {counts:?}"
        );
    }
}

#[test]
fn what_fails_with_every_second_batch_loses_one_event_of_it() {
    // A plugin is to be a function of its input. If it isn't, the last event is taken for the poisonous one.
    let site = site("panic, after: 1", "");
    site.write("logs/evil/own.log", "");
    let mut agent = site.start();
    let mut expected = Vec::new();
    for batch in 0..8 {
        let lines: Vec<_> = (0..16).map(|number| format!("line {batch} {number}")).collect();
        site.append("logs/evil/own.log", super::text(&lines));
        expected.extend(lines);
        agent.wait_for_lines("evil/own", expected.len());
    }
    let ran = agent.stop();
    let events = site.events("evil/own");
    assert_eq!(crate::harness::contents(&events), expected);
    let raw = events.iter().filter(|event| error(event).is_some()).count() as u64;
    ran.assert_counts("evil/own", [128, 128, raw, 0]);
    assert_eq!(raw, 4);
    assert_eq!(plugin(&ran).counts["suspensions"], 0);
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
