//! Plugins that are pushed to a running agent, and their versions.

use std::fs;

use serde_json::{Value, json};

use crate::bombs;
use crate::harness::{Done, Site, numbers, plugins};
use crate::operate::{Served, lines, serve};
use crate::refused::bad_plugins;

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
    let list = served.json(&["plugin", "list", "shop/app"]);
    assert_eq!((&list["choice"]["active"], &list["versions"]), (&json!(0), &json!([])));
    traffic.more(&mut served);
    assert_eq!(made_by(&site), "v0");
    let ran = served.agent.stop();
    ran.assert_counts("shop/app", [traffic.app, traffic.app, 0, 0]);
    ran.assert_counts("pay/raw", [traffic.raw, traffic.raw, 0, 0]);
}

#[test]
fn a_hostile_plugin_is_refused_by_its_settings_or_by_the_dry_run() {
    let site = Site::new();
    let mut served = start(&site);
    let mut traffic = Traffic { app: 100, raw: 0 };
    let evil = wasm("weir-evil");
    let push = |served: &Served, mode: &str| {
        served.ask(&["plugin", "push", "shop/app", &evil, "--settings", &json!({ "mode": mode }).to_string()])
    };
    for (mode, words) in [
        ("refuse", "plugin app: it refuses its settings: mode: \"refuse\" is not \\u{1b}[31mto my taste"),
        ("panic-in-configure", ""),
        ("spin-in-configure", ""),
    ] {
        assert_refused(&push(&served, mode), 6, words);
    }
    let faults = "it faults on the logstore's last lines, ";
    for mode in [
        "spin",
        "spin-in-free",
        "recurse",
        "grow",
        "panic",
        "cell-out-of-bounds",
        "cell-across-the-edge",
        "start-after-end",
        "part-of-a-cell",
        "rows-decrease",
        "rows-end-early",
        "unknown-field",
        "too-few-times",
        "origins-decrease",
        "origins-out-of-bounds",
        "origins-empty",
        "too-many-held",
        "failed-twice",
        "failed-and-kept",
        "unknown-reason",
        "empty-name",
        "reserved-name",
        "long-name",
        "many-fields",
        "beyond-memory",
        "gigabyte",
        "many-events",
        "long-names",
    ] {
        let done = push(&served, mode);
        assert_refused(&done, 7, faults);
        done.assert_says(" events, as here: ");
    }
    assert_refused(&push(&served, "fail-all"), 7, "none of the logstore's last 100 events can be parsed");
    let list = served.json(&["plugin", "list", "shop/app"]);
    assert_eq!((&list["choice"]["active"], &list["versions"]), (&json!(0), &json!([])));
    traffic.more(&mut served);
    assert_eq!(made_by(&site), "v0");
    let ran = served.agent.stop();
    ran.assert_counts("shop/app", [traffic.app, traffic.app, 0, 0]);
    ran.assert_counts("pay/raw", [traffic.raw, traffic.raw, 0, 0]);
}

#[test]
fn a_hostile_plugin_that_passes_is_contained_and_can_be_gone_back_from() {
    let site = Site::new();
    let mut served = start(&site);
    let mut traffic = Traffic { app: 100, raw: 0 };
    let evil = wasm("weir-evil");
    for mode in ["panic-on-poison", "odd-names", "duplicate-names", "hog", "gorge", "count-flood"] {
        let settings = json!({ "mode": mode }).to_string();
        let pushed = served.json(&["plugin", "push", "shop/app", &evil, "--settings", &settings]);
        assert_eq!(pushed["objection"], Value::Null, "{mode}");
        traffic.more(&mut served);
        if mode == "panic-on-poison" {
            site.append("logs/app.log", "poison,1\n");
            traffic.app += 1;
            traffic.more(&mut served);
            let status = served.told(&["status"]);
            assert!(status.contains(" failed last: trapped: panicked at "), "{status}");
        }
        served.told(&["plugin", "activate", "shop/app", "0"]);
        traffic.more(&mut served);
        assert_eq!(made_by(&site), "v0", "{mode}");
    }
    let ran = served.agent.stop();
    ran.assert_settled();
    ran.assert_counts("shop/app", [traffic.app, traffic.app, 1, 0]);
    ran.assert_counts("pay/raw", [traffic.raw, traffic.raw, 0, 0]);
}
