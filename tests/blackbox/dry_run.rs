//! What a plugin would make of the last lines, with the plugins that weir ships and the hostile one.

use weir::budget::Budget;
use weir::event::{Batch, CONTENT, Field, Kind};
use weir::sandbox::cache::Whose;
use weir::sandbox::check::{Check, Failed};
use weir::sandbox::compile::{ByChild, Compiler};
use weir::sandbox::dry_run::{Count, Example, FieldCount, Outcome, Report, dry_run};
use weir::sandbox::{Chain, Limits, OnFault, Sandbox, Stage};

use crate::harness::{access_log, binary, cache_home, plugins};

fn chain(plugin: &str, settings: &str, on_fault: OnFault) -> Chain {
    let child = ByChild { binary: binary().to_owned(), ..ByChild::default() };
    let sandbox = Sandbox::new(Compiler::new(&cache_home().join("weir"), Whose::Shared, child).unwrap()).unwrap();
    let bytes = std::fs::read(plugins().join(format!("{plugin}.wasm"))).unwrap();
    let plugin = sandbox.load_bytes(bytes.into(), plugin, 64 << 20, &Limits::default()).unwrap();
    Chain::new(vec![Stage::new(plugin, settings, Limits::default(), &Budget::new(None)).unwrap()], on_fault)
}

/// One batch of so many lines of a file, from the event `first` on.
fn batch(path: &str, first: u64, lines: &[&str]) -> Batch {
    let mut batch = Batch { fields: vec![Field { name: CONTENT.into(), kind: Kind::Text }], first, ..Batch::default() };
    batch.tags = vec![("path".to_owned(), path.to_owned())].into();
    for line in lines {
        let start = batch.arena.len() as u32;
        batch.arena.extend_from_slice(line.as_bytes());
        batch.cells.extend_from_slice(&[0, start, batch.arena.len() as u32]);
        batch.rows.push(batch.rows.len() as u32 + 1);
    }
    batch
}

fn counts(outcome: &Outcome) -> [u64; 6] {
    [outcome.events, outcome.parsed, outcome.failed, outcome.dropped, outcome.made, outcome.faults]
}

#[test]
fn two_parsers_are_compared_on_the_same_lines() {
    let log = String::from_utf8(access_log(1000)).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    let batches = [
        batch("/a.log", 0, &lines[..400]),
        batch("/a.log", 400, &lines[400..]),
        batch("/b.log", 0, &["{\"a\": 1, \"b\": \"x\"}", "neither \u{1b}[31m"]),
    ];
    let Report { bytes, candidate, running, examples } = dry_run(
        chain("json", "{}", OnFault::Hold),
        Some(chain("nginx", r#"{"format": "main"}"#, OnFault::Raw)),
        &batches,
    );
    let running = running.unwrap();
    assert_eq!(bytes, log.len() as u64 + 20 + 13);
    assert_eq!(counts(&running), [1002, 1000, 2, 0, 1000, 0]);
    assert_eq!(counts(&candidate), [1002, 1, 1001, 0, 1, 0]);
    assert_eq!(candidate.fields, {
        let field = |name: &str, kind: &str| FieldCount { name: name.into(), kind: kind.into(), events: 1 };
        [field("a", "integer"), field("b", "text")]
    });
    assert!(running.fields.iter().any(|field| field.name == "status" && field.kind == "integer"));
    assert_eq!(candidate.reasons.iter().map(|reason| reason.events).sum::<u64>(), 1001);
    assert_eq!(examples.len(), 3);
    assert!(
        examples.iter().zip(&lines).all(|(example, line)| line.starts_with(&example.line) && example.line.len() > 100)
    );
    assert!(candidate.fuel_per_event > 0.0 && running.megabytes_per_second > 0.0 && running.cpu_per_event > 0.0);
    let report = Report { bytes, candidate, running: Some(running), examples };
    assert_eq!(report.objection(), None);
    let table = report.to_string();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    for row in [
        &["new", "running"][..],
        &["events", "1002", "1002"],
        &["parsed", "1", "1000"],
        &["failed", "1001", "2"],
        &["faults", "0", "0"],
        &["a", "(integer)", "1", "0"],
        &["status", "(integer)", "0", "1000"],
    ] {
        assert!(rows.iter().any(|found| found == row), "{row:?} in\n{table}");
    }
    assert!(!table.contains('\u{1b}'));
}

#[test]
fn what_faults_or_parses_nothing_is_objected_to() {
    let batches = [batch("/a.log", 0, &["one", "two poison", "three"])];
    let run = |mode: &str, running: Option<&str>| {
        let evil = |mode: &str| chain("weir-evil", &format!(r#"{{"mode": "{mode}"}}"#), OnFault::Hold);
        dry_run(evil(mode), running.map(evil), &batches)
    };
    assert_eq!(run("behave", None).objection(), None);
    let report = run("panic-on-poison", Some("behave"));
    assert_eq!(counts(&report.candidate)[..3], [3, 2, 1]);
    let reason = "weir-evil: trapped: ";
    assert!(report.candidate.reasons[0].what.starts_with(reason), "{report:?}");
    assert_eq!(report.examples.len(), 1);
    assert_eq!(report.examples[0].line, "two poison");
    let objection = report.objection().unwrap();
    assert!(objection.starts_with("it faults on the logstore's last lines, "), "{objection}");
    // What runs now is no better.
    assert_eq!(run("panic-on-poison", Some("panic")).objection(), None);
    for mode in ["spin", "panic", "grow", "gigabyte", "cell-out-of-bounds"] {
        let report = run(mode, None);
        assert_eq!(report.candidate.parsed, 0, "{mode}");
        assert!(report.candidate.faults > 0 && report.objection().is_some(), "{mode}: {report:?}");
    }

    let json = dry_run(chain("json", "{}", OnFault::Drop), None, &batches);
    assert_eq!(counts(&json.candidate), [3, 0, 3, 0, 0, 0]);
    let [Count { events: 3, what }] = &json.candidate.reasons[..] else { panic!("{json:?}") };
    assert_eq!(json.objection(), Some(format!("none of the logstore's last 3 events can be parsed, as here: {what}")));
    assert_eq!(json.examples[0], Example { line: "one".into(), reason: what.clone() });

    let nothing = dry_run(chain("json", "{}", OnFault::Raw), None, &[]);
    assert_eq!(nothing.objection(), None);
    assert_eq!(nothing.to_string(), "The logstore has no lines to try it on.\n");
}

#[test]
fn what_is_compiled_is_never_taken() {
    let child = ByChild { binary: binary().to_owned(), ..ByChild::default() };
    let cache = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::new(Compiler::new(&cache.path().join("c"), Whose::Own, child).unwrap()).unwrap();
    let bytes = std::fs::read(plugins().join("json.wasm")).unwrap();
    sandbox.load_bytes(bytes.into(), "json", 64 << 20, &Limits::default()).unwrap();
    let compiled = std::fs::read_dir(cache.path().join("c")).unwrap().next().unwrap().unwrap().path();
    let bytes = std::fs::read(compiled).unwrap();
    let Failed { check, error } = sandbox.load_bytes(bytes.into(), "json", 64 << 20, &Limits::default()).err().unwrap();
    assert_eq!(check, Check::Api);
    let words = "it is compiled machine code, which is not taken from anybody: upload the .wasm that it was made of";
    assert_eq!(error.to_string(), words);
}
