//! Plugins that are pushed to a running agent, and their versions.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Done, Ran, Site, beside, numbered, numbers, plugins, repository};
use crate::operate::{Served, lines, serve};
use crate::refused::bad_plugins;
use crate::{bombs, evil};

const LOGSTORES: &str = "
- name: shop/app
  files: { root: logs, include: [app.log] }
  plugins: [{ use: delimiter, settings: { fields: [v0, word] } }]
  sink: out
- { name: pay/raw, files: { root: logs, include: [raw.log] }, sink: out }";

/// All checks, when all have passed.
const PASSED: [&str; 8] = [
    "size        passed",
    "signature   passed",
    "plugin API  passed",
    "imports     passed",
    "limits      passed",
    "compiling   passed",
    "settings    passed",
    "dry run     passed",
];

/// Names the first column, which says who made an event.
fn settings(name: &str) -> String {
    json!({ "fields": [name, "word"] }).to_string()
}

fn wasm(name: &str) -> String {
    plugins().join(format!("{name}.wasm")).display().to_string()
}

/// Lines of a file that was tried on are there before anything is pushed.
fn start(site: &Site) -> Served<'_> {
    serve(site, "", LOGSTORES);
    site.append("logs/app.log", lines(0..100));
    let mut served = Served::start(site);
    served.wait_for_settled("shop/app", 100);
    served
}

/// More lines of both logstores; all must arrive.
struct Traffic {
    app: u64,
    raw: u64,
}

impl Traffic {
    fn more(&mut self, served: &mut Served) {
        served.site.append("logs/app.log", lines(self.app..self.app + 10));
        served.site.append("logs/raw.log", numbers(self.raw..self.raw + 10));
        (self.app, self.raw) = (self.app + 10, self.raw + 10);
        served.wait_for_settled("shop/app", self.app);
        served.wait_for_settled("pay/raw", self.raw);
    }
}

/// The last event's first field that is not a tag or a mark.
fn made_by(site: &Site) -> String {
    let events = site.events("shop/app");
    events.last().unwrap().as_object().unwrap().keys().next().unwrap().to_owned()
}

#[track_caller]
fn assert_refused(done: &Done, failed: usize, error: &str) {
    done.assert_code(70);
    let (name, _) = PASSED[failed].split_at(12);
    let checks: Vec<_> = done.text().lines().take(failed + 1).collect();
    let last = format!("{name}failed");
    let expected = [&PASSED[..failed], &[&*last]].concat();
    assert_eq!(checks, expected, "{}", done.stderr);
    assert!(done.stderr.starts_with(&format!("error: {}: {error}", name.trim_end())), "{}", done.stderr);
    assert!(!done.stderr.contains('\x1b') && !done.text().contains('\x1b'), "{}", done.stderr);
}

#[test]
fn a_plugin_is_pushed_listed_activated_rolled_back_removed_and_downloaded() {
    let site = Site::new();
    let mut served = start(&site);
    let mut traffic = Traffic { app: 100, raw: 0 };
    let wasm = wasm("delimiter");
    assert_eq!(served.told(&["plugin", "list", "shop/app"]), "shop/app runs what the configuration says\n");

    let said = served.told(&["plugin", "push", "shop/app", &wasm, "--settings", &settings("v1")]);
    let told: Vec<_> = said.lines().collect();
    assert_eq!(told[..8], PASSED);
    let row =
        |name: &str| told.iter().find(|line| line.starts_with(name)).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!((row("events "), row("  parsed")), (vec!["events", "100", "100"], vec!["parsed", "100", "100"]));
    assert_eq!(
        (row("v1 (text)"), row("v0 (text)")),
        (vec!["v1", "(text)", "100", "0"], vec!["v0", "(text)", "0", "100"])
    );
    assert!(told[told.len() - 2].starts_with("version 1 is delimiter "), "{said}");
    assert_eq!(told[told.len() - 1], "shop/app runs version 1");
    traffic.more(&mut served);
    assert_eq!(made_by(&site), "v1");

    // From a file.
    site.write("s.json", settings("v2"));
    let file = site.path("s.json").display().to_string();
    let pushed = served.json(&["plugin", "push", "shop/app", &wasm, "--settings", &file]);
    assert_eq!((&pushed["version"]["number"], &pushed["choice"]["active"]), (&json!(2), &json!(2)));
    traffic.more(&mut served);
    assert_eq!(made_by(&site), "v2");
    let list = served.json(&["plugin", "list", "shop/app"]);
    let versions: Vec<_> = list["versions"].as_array().unwrap().iter().map(|version| &version["number"]).collect();
    assert_eq!((versions, &list["choice"]["before"]), (vec![&json!(1), &json!(2)], &json!(1)));
    let listed = served.told(&["plugin", "list", "shop/app"]);
    let states: Vec<_> =
        listed.lines().skip(1).map(|line| line.split_whitespace().take(2).collect::<Vec<_>>()).collect();
    assert_eq!(states, [vec!["1", "before"], vec!["2", "runs"], vec!["shop/app", "runs"]]);
    let status = served.told(&["status"]);
    let plugin = status.lines().find(|line| line.starts_with("shop/app") && line.contains("delimiter")).unwrap();
    assert_eq!(plugin.split_whitespace().nth(3), Some("2"), "{status}");

    for (args, says, made) in [
        (&["activate", "shop/app", "1"][..], "shop/app runs version 1\n", "v1"),
        (&["rollback", "shop/app"], "shop/app runs version 2\n", "v2"),
        (&["activate", "shop/app", "0"], "shop/app runs what the configuration says\n", "v0"),
        (&["activate", "shop/app", "2"], "shop/app runs version 2\n", "v2"),
    ] {
        assert_eq!(served.told(&[&["plugin"], args].concat()), says);
        traffic.more(&mut served);
        assert_eq!(made_by(&site), made);
    }
    for (args, error) in [
        (&["remove", "shop/app", "2"][..], "error: version 2 is in use: activate another one first\n"),
        (&["remove", "shop/app", "7"], "error: there is no version 7: see the list of versions\n"),
        (&["activate", "shop/app", "7"], "error: there is no version 7: see the list of versions\n"),
        (&["download", "shop/app", "7"], "error: shop/app has no version 7: see `weir plugin list shop/app`\n"),
    ] {
        let done = served.ask(&[&["plugin"], args].concat());
        done.assert_code(70);
        assert_eq!(done.stderr, error);
    }

    let said = served.told(&["plugin", "download", "shop/app", "1"]);
    assert!(said.starts_with("app-1.wasm: version 1 of shop/app, sha256:"), "{said}");
    let bytes = fs::read(&wasm).unwrap();
    assert_eq!(fs::read(site.path("app-1.wasm")).unwrap(), bytes);
    served.told(&["plugin", "download", "shop/app", "2", "-o", "mine.wasm"]);
    assert_eq!(fs::read(site.path("mine.wasm")).unwrap(), bytes);
    assert_eq!(served.ask(&["plugin", "download", "shop/app", "2", "-o", "-"]).stdout, bytes);

    assert_eq!(served.told(&["plugin", "activate", "shop/app", "0"]), "shop/app runs what the configuration says\n");
    assert_eq!(served.told(&["plugin", "remove", "shop/app", "1"]), "version 1 of shop/app is removed\n");
    let list = served.json(&["plugin", "list", "shop/app"]);
    assert_eq!(list["versions"].as_array().unwrap().len(), 1);
    traffic.more(&mut served);
    let ran = served.agent.stop();
    ran.assert_settled();
    ran.assert_counts("shop/app", [traffic.app, traffic.app, 0, 0]);
    ran.assert_counts("pay/raw", [traffic.raw, traffic.raw, 0, 0]);
}

#[test]
fn a_dry_run_and_a_canary_can_be_gone_back_from() {
    let site = Site::new();
    let mut served = start(&site);
    let mut traffic = Traffic { app: 100, raw: 0 };
    let wasm = wasm("delimiter");
    let configured = "shop/app runs what the configuration says\n";
    let dry = served.told(&["plugin", "push", "shop/app", &wasm, "--settings", &settings("v1"), "--dry-run"]);
    assert_eq!(
        (dry.lines().take(8).collect::<Vec<_>>(), dry.lines().last()),
        (PASSED.to_vec(), Some("nothing has changed"))
    );
    // Without settings, those of what runs.
    served.told(&["plugin", "push", "shop/app", &wasm, "--dry-run"]);
    let done = served.ask(&["plugin", "push", "shop/app", &self::wasm("json"), "--settings", "{}", "--dry-run"]);
    done.assert_code(70);
    assert_eq!(done.text().lines().nth(7), Some("dry run     failed"));
    assert!(
        done.stderr.starts_with("error: it would not run: none of the logstore's last 100 events can be parsed"),
        "{}",
        done.stderr
    );
    assert_eq!(served.told(&["plugin", "list", "shop/app"]), configured);

    let canary = ["plugin", "push", "shop/app", &wasm, "--settings", &settings("v1"), "--canary", "10%"];
    let said = served.told(&canary);
    let runs = "shop/app runs what the configuration says, and version 1 on 10% of the files";
    assert_eq!(said.lines().last(), Some(runs));
    let listed = served.told(&["plugin", "list", "shop/app"]);
    assert!(listed.lines().nth(1).unwrap().starts_with("1        on 10%  delimiter "), "{listed}");
    assert!(served.told(&["status"]).contains("\nshop/app: version 1 is tried on 10% of the files: "));
    assert_eq!(served.told(&["plugin", "rollback", "shop/app"]), configured);
    let again = served.told(&["plugin", "activate", "shop/app", "1", "--canary", "99"]);
    assert_eq!(again, "shop/app runs what the configuration says, and version 1 on 99% of the files\n");
    assert_eq!(served.told(&["plugin", "rollback", "shop/app"]), configured);
    let done = served.ask(&["plugin", "rollback", "shop/app"]);
    done.assert_code(70);
    assert_eq!(done.stderr, "error: there is no version to go back to\n");
    traffic.more(&mut served);
    assert_eq!(made_by(&site), "v0");
    served.agent.stop().assert_counts("shop/app", [traffic.app, traffic.app, 0, 0]);
}

#[test]
fn what_is_no_plugin_is_refused_at_the_first_check_that_it_fails() {
    let site = Site::new();
    let mut served = start(&site);
    let mut traffic = Traffic { app: 100, raw: 0 };
    let bad = bad_plugins(&site);
    site.write("plugins/locals.wasm", bombs::plugin(&[bombs::locals(50_001, 1)]));
    site.write("plugins/compiled.wasm", b"\x7fELF\x02\x01\x01");
    let push = |name: &str| {
        let file = site.path(format!("plugins/{name}.wasm")).display().to_string();
        served.ask(&["plugin", "push", "shop/app", &file])
    };
    for (name, words) in &bad {
        let words = words.rsplit_once(".wasm: ").map_or("", |(_, words)| words);
        match *name {
            "missing" => push(name).assert_says("error: reading the plugin "),
            "large" => push(name).assert_says("has more than 67108864 bytes: no agent takes it"),
            "wasi" | "files" => assert_refused(&push(name), 3, words),
            "hollow" => push(name).assert_code(70),
            _ => assert_refused(&push(name), 2, words),
        }
    }
    assert_refused(&push("compiled"), 2, "");
    assert_refused(&push("locals"), 5, "it does not compile: ");
    // More than the project may upload.
    let most = site.path("plugins/most.wasm").display().to_string();
    fs::File::create(&most).unwrap().set_len(64 << 20).unwrap();
    served.ask(&["plugin", "push", "shop/app", &most]).assert_code(70);
    for (settings, words) in
        [("{", "the settings of --settings are no JSON: "), ("none.json", "reading the settings none.json")]
    {
        served.ask(&["plugin", "push", "shop/app", &wasm("delimiter"), "--settings", settings]).assert_says(words);
    }
    assert_refused(
        &served.ask(&["plugin", "push", "shop/app", &wasm("delimiter"), "--settings", "{\"fields\":3}"]),
        6,
        "",
    );
    // Settings are looked at when it is their turn: these are none for any plugin.
    site.write("list.json", "[]");
    let push = |name: &str| served.ask(&["plugin", "push", "shop/app", &wasm(name), "--settings", "list.json"]);
    assert_refused(&push("delimiter"), 6, "the settings must be a JSON object");
    assert_refused(&push("lookup"), 3, "it imports `weir:plugin/files@0.1.0`, and no files are granted here: ");
    let list = served.json(&["plugin", "list", "shop/app"]);
    assert_eq!((&list["choice"]["active"], &list["versions"]), (&json!(0), &json!([])));
    traffic.more(&mut served);
    assert_eq!(made_by(&site), "v0");
    let ran = served.agent.stop();
    ran.assert_counts("shop/app", [traffic.app, traffic.app, 0, 0]);
    ran.assert_counts("pay/raw", [traffic.raw, traffic.raw, 0, 0]);
}

macro_rules! lie {
    ($what:literal) => {
        concat!("its output breaks the contract: ", $what)
    };
}

/// What becomes of an upload of the hostile plugin.
enum End {
    /// The check fails that has this place among all, with this message. Each number in it is a `#`.
    Refused(usize, &'static str),
    /// It runs, and of eleven lines, one of them poison, so many are delivered raw and so many are dropped; the status has
    /// the beginning of why.
    Contained { raw: u64, dropped: u64, why: &'static str },
}

const SETTINGS: usize = 6;
const DRY_RUN: usize = 7;

const fn faults(message: &'static str) -> End {
    End::Refused(DRY_RUN, message)
}

const HARMLESS: End = End::Contained { raw: 0, dropped: 0, why: "" };
const POISON: &str =
    "trapped: panicked at tests/plugins/evil/src/lib.rs:#:#:\\nswallowed poison in weir_evil::attack, called by ";

/// Every mode that there is.
const MODES: [(&str, End); 58] = [
    ("behave", HARMLESS),
    (
        "refuse",
        End::Refused(SETTINGS, "plugin app: it refuses its settings: mode: \"refuse\" is not \\u{#b}[#mto my taste\n"),
    ),
    (
        "panic-in-configure",
        End::Refused(
            SETTINGS,
            "plugin app: trapped: panicked at tests/plugins/evil/src/lib.rs:#:#:\\nborn dead in <weir_evil::Evil as ",
        ),
    ),
    ("spin-in-configure", End::Refused(SETTINGS, "plugin app: out of fuel: it used all of #\n")),
    ("spin", faults("out of fuel: it used all of #\n")),
    ("spin-in-alloc", faults("out of fuel: it used all of #\n")),
    ("spin-in-free", faults("out of fuel: it used all of #\n")),
    ("spin-on-poison", End::Contained { raw: 1, dropped: 0, why: "out of fuel: it used all of #" }),
    ("recurse", faults("trapped: wasm trap: out of bounds memory access in weir_evil::recurse, called by ")),
    ("grow", faults("out of memory: it may have # bytes\n")),
    (
        "panic",
        faults("trapped: panicked at tests/plugins/evil/src/lib.rs:#:#:\\non purpose in weir_evil::attack, called by "),
    ),
    ("panic-on-poison", End::Contained { raw: 1, dropped: 0, why: POISON }),
    ("panic-on-poison-and-hold-last", End::Contained { raw: 1, dropped: 0, why: POISON }),
    ("panic-on-poison-behind-held", End::Contained { raw: 1, dropped: 0, why: POISON }),
    ("cell-out-of-bounds", faults(lie!("cell # (event #) has the bytes #..#, and there are # of input and # made\n"))),
    (
        "cell-across-the-edge",
        faults(lie!("cell # (event #) has the bytes #..#, and there are # of input and # made\n")),
    ),
    ("start-after-end", faults(lie!("cell # (event #) has the bytes #..#, and there are # of input and # made\n"))),
    ("part-of-a-cell", faults(lie!("# numbers of cells, which is not three a cell\n"))),
    ("rows-decrease", faults(lie!("the rows end at cell # of #\n"))),
    ("rows-end-early", faults(lie!("the rows end at cell # of #\n"))),
    ("unknown-field", faults(lie!("cell # (event #) is of field #, and there are # fields\n"))),
    ("too-few-times", faults(lie!("# times for # events\n"))),
    ("origins-decrease", faults(lie!("event # comes from #, before the one before it, from #\n"))),
    ("origins-out-of-bounds", faults(lie!("event # comes from #..# of # events that are not held\n"))),
    ("origins-empty", faults(lie!("event # comes from #..# of # events that are not held\n"))),
    ("too-many-held", faults(lie!("# events are held of #\n"))),
    ("failed-twice", faults(lie!("event # fails out of order, or twice\n"))),
    ("failed-and-kept", faults(lie!("event # comes from #..#, of which # failed\n"))),
    ("unknown-reason", faults(lie!("event # fails by reason # of #\n"))),
    ("empty-name", faults(lie!("the field name \"\" is empty, longer than # bytes, or begins with `__`\n"))),
    ("reserved-name", faults(lie!("the field name \"__time__\" is empty, longer than # bytes, or begins with `__`\n"))),
    (
        "long-name",
        faults(lie!("the field name \"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn\" is empty, ")),
    ),
    ("many-fields", faults(lie!("# fields, and # are allowed\n"))),
    ("odd-names", HARMLESS),
    ("duplicate-names", HARMLESS),
    ("garbage", HARMLESS),
    ("times-out-of-range", HARMLESS),
    ("beyond-memory", faults("trapped: list pointer/length out of bounds of memory")),
    ("gigabyte", faults("out of memory: it may have # bytes\n")),
    ("swell", faults("out of memory: it may have # bytes\n")),
    ("long-reason", End::Refused(DRY_RUN, "ä\\u{#b}ä\\u{#b}ä\\u{#b}")),
    ("many-reasons", End::Refused(DRY_RUN, "the last of many\n")),
    ("many-events", faults("out of fuel: it used all of #\n")),
    ("long-names", faults(lie!("the cells have # bytes together, with their names, and # are allowed\n"))),
    ("swell-alone", faults("it makes more of a batch than there is room for\n")),
    ("hold-for-ever", End::Refused(DRY_RUN, "held, but nothing follows\n")),
    ("hold-for-ever-and-spin", End::Refused(DRY_RUN, "held, but nothing follows\n")),
    ("repeat", HARMLESS),
    ("hog", HARMLESS),
    ("gorge", HARMLESS),
    ("greedy", HARMLESS),
    ("log-flood", faults("out of fuel: it used all of #\n")),
    ("log-megabytes", HARMLESS),
    ("log-without-end", faults("trapped: it logs and counts more than # bytes in one call in function #, called by ")),
    (
        "count-without-end",
        faults("trapped: it logs and counts more than # bytes in one call in function #, called by "),
    ),
    ("count-flood", HARMLESS),
    ("drop-all", End::Contained { raw: 0, dropped: 11, why: "" }),
    ("fail-all", End::Refused(DRY_RUN, "as I please\n")),
];

#[test]
fn the_modes_of_the_hostile_plugin_are_all_here() {
    let source = fs::read_to_string(repository().join("tests/plugins/evil/src/lib.rs")).unwrap();
    let (_, rest) = source.split_once("\nenum Mode {\n").unwrap();
    let (variants, _) = rest.split_once("\n}\n").unwrap();
    let variants = variants.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    let kebab = |name: &str| {
        let parts = name.char_indices().flat_map(|(at, c)| {
            let hyphen = (c.is_ascii_uppercase() && at > 0).then_some('-');
            hyphen.into_iter().chain([c.to_ascii_lowercase()])
        });
        parts.collect::<String>()
    };
    let modes: Vec<_> = variants.map(|line| kebab(line.trim_end_matches(','))).collect();
    assert_eq!(modes, MODES.map(|(mode, _)| mode));
}

/// Pushes the hostile plugin in that mode.
fn push_evil(served: &Served, mode: &str) -> Done {
    let settings = json!({ "mode": mode }).to_string();
    served.ask(&["plugin", "push", "shop/app", &wasm("weir-evil"), "--settings", &settings])
}

/// Events of the neighbour, one after the other, as long as something is done.
fn beside_a_neighbour<T>(site: &Site, act: impl FnOnce() -> T) -> (u64, T) {
    let write = |is_done: &AtomicBool| {
        let mut written = 0;
        while !is_done.load(Ordering::Relaxed) {
            site.append("logs/raw.log", numbers(written..written + 10));
            written += 10;
            thread::sleep(Duration::from_millis(5));
        }
        written
    };
    beside(write, act)
}

/// Each of the neighbour's events has come, once and in its place.
#[track_caller]
fn assert_neighbour(site: &Site, ran: &Ran, written: u64) {
    ran.assert_counts("pay/raw", [written, written, 0, 0]);
    assert!(site.contents("pay/raw") == numbered(0..written), "some are lost, doubled or out of order");
}

#[test]
fn a_hostile_plugin_is_refused_in_each_mode_that_shows_and_says_why() {
    let site = Site::new();
    let mut served = start(&site);
    let (written, ()) = beside_a_neighbour(&site, || {
        for (mode, end) in &MODES {
            let End::Refused(check, words) = end else { continue };
            let done = push_evil(&served, mode);
            done.assert_code(70);
            let checks: Vec<_> = done.text().lines().take(check + 1).collect();
            let failed = format!("{}failed", &PASSED[*check][..12]);
            assert_eq!(checks, [&PASSED[..*check], &[&*failed]].concat(), "{mode}: {}", done.stderr);
            let said = evil::words(&done.stderr);
            // How often it faults depends on how batches are halved.
            let why = match said.split_once(", as here: app: ") {
                Some((often, why)) => {
                    let faults = "error: dry run: it faults on the logstore's last lines, # times in # events";
                    let parses = "error: dry run: none of the logstore's last # events can be parsed";
                    assert!(often == faults || often == parses, "{mode}: {said}");
                    why.strip_prefix("suspended for # s: ").unwrap_or(why)
                }
                None => said.strip_prefix("error: settings: ").unwrap_or(&said),
            };
            assert!(why.starts_with(words), "{mode}: {why}");
            assert!(!done.stderr.contains('\x1b') && !done.text().contains('\x1b'), "{mode}");
        }
    });
    let list = served.json(&["plugin", "list", "shop/app"]);
    assert_eq!((&list["choice"]["active"], &list["versions"]), (&json!(0), &json!([])));
    served.wait_for_settled("pay/raw", written);
    site.append("logs/app.log", lines(100..110));
    served.wait_for_settled("shop/app", 110);
    assert_eq!(made_by(&site), "v0");
    let ran = served.agent.stop();
    ran.assert_counts("shop/app", [110, 110, 0, 0]);
    assert_neighbour(&site, &ran, written);
}

#[test]
fn a_hostile_plugin_is_contained_in_each_mode_that_passes_and_can_be_gone_back_from() {
    let is_on_poison = |mode: &&(&str, End)| matches!(mode.1, End::Contained { why, .. } if !why.is_empty());
    let on_poison: Vec<_> = MODES.iter().filter(is_on_poison).collect();
    assert_eq!(on_poison.len(), 4);
    // An upload is tried on the logstore's last lines, of which one is poison then.
    on_poison.into_iter().for_each(|mode| contain(&[mode]));
    contain(&MODES.iter().filter(|mode| !is_on_poison(mode)).collect::<Vec<_>>());
}

fn contain(modes: &[&(&str, End)]) {
    let site = Site::new();
    let mut served = start(&site);
    let (mut read, mut all_raw, mut all_dropped) = (100, 0, 0);
    let (written, ()) = beside_a_neighbour(&site, || {
        for (mode, end) in modes {
            let End::Contained { raw, dropped, why } = end else { continue };
            push_evil(&served, mode).assert_code(0);
            let special = if why.is_empty() { "harmless,1\n" } else { "poison,1\n" };
            site.append("logs/app.log", lines(0..5) + special + &lines(5..10));
            (read, all_raw, all_dropped) = (read + 11, all_raw + raw, all_dropped + dropped);
            served.wait_for_settled("shop/app", read);
            let status = served.json(&["status", "shop/app"]);
            let counts = ["kept_raw", "dropped"].map(|name| status["counts"][name].as_u64().unwrap());
            assert_eq!(counts, [all_raw, all_dropped], "{mode}");
            let plugin = &status["plugins"][0];
            let last = plugin["last_failure"].as_str().map(evil::words).unwrap_or_default();
            assert_eq!((&plugin["name"], &plugin["state"]), (&json!("app"), &json!("running")), "{mode}: {last}");
            assert!(last.starts_with(why) && last.is_empty() == why.is_empty(), "{mode}: {last}");
            served.told(&["plugin", "activate", "shop/app", "0"]);
            site.append("logs/app.log", lines(0..1));
            read += 1;
            served.wait_for_settled("shop/app", read);
            assert_eq!(made_by(&site), "v0", "{mode}");
        }
    });
    served.wait_for_settled("pay/raw", written);
    let ran = served.agent.stop();
    ran.assert_settled();
    ran.assert_counts("shop/app", [read, read - all_dropped, all_raw, all_dropped]);
    assert_neighbour(&site, &ran, written);
}
