//! What changes while an agent runs: its configuration, its plugins' files, and the versions of a plugin.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use weir::agent::keeper::{Keeper, look_at};
use weir::agent::{Agent, GRACE, Options};
use weir::config;
use weir::control::Control;
use weir::registry::{By, Canary, New};
use weir::sandbox::compile::ByChild;

use crate::harness::{POLL, Site, beside, binary, numbered, numbers, plugins};
use crate::operate::{Served, serve};
use crate::servers::Server;

const ONE: &str = "- { name: a/one, files: { root: logs, include: [one.log] }, sink: out }";
const TWO: &str = "- { name: a/two, files: { root: logs, include: [two.log] }, sink: out }";
const THREE: &str = "- { name: b/three, files: { root: logs, include: [three.log] }, sink: out }";
const APPLIED: &str = "the configuration is applied";
const REFUSED: &str = "the configuration is not applied";

#[test]
fn logstores_come_and_go_and_others_do_not_notice() {
    let site = Site::new();
    site.config(&[ONE, TWO].join("\n"));
    let mut agent = site.start();
    site.append("logs/one.log", numbers(0..10));
    site.append("logs/two.log", numbers(0..10));
    site.append("logs/three.log", numbers(0..10));
    agent.wait_for_lines("a/one", 10);
    agent.wait_for_lines("a/two", 10);

    let begun = Instant::now();
    site.config(&[ONE, THREE].join("\n"));
    agent.wait_for_lines("b/three", 10);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    agent.wait_to_say("the configuration is applied: added: b/three; removed: a/two; untouched: 1");
    site.append("logs/one.log", numbers(10..20));
    site.append("logs/two.log", numbers(10..20));
    agent.wait_for_lines("a/one", 20);
    // It goes on where it was.
    site.config(&[ONE, TWO, THREE].join("\n"));
    agent.wait_for_lines("a/two", 20);
    let ran = agent.stop();
    ran.assert_settled();
    ran.assert_counts("a/one", [20, 20, 0, 0]);
    ran.assert_counts("a/two", [10, 10, 0, 0]);
    for logstore in ["a/one", "a/two"] {
        assert_eq!(site.contents(logstore), numbered(0..20));
    }
}

#[test]
fn a_wrong_configuration_changes_nothing_and_is_told_of() {
    let site = Site::new();
    site.config(ONE);
    let mut agent = site.start();
    site.append("logs/one.log", numbers(0..10));
    agent.wait_for_lines("a/one", 10);
    let good = fs::read_to_string(site.path("weir.yaml")).unwrap();
    let said = |site: &Site, text: &str| fs::read_to_string(site.path("stderr")).unwrap().matches(text).count();
    let wrong = [
        (good.replace("sink: out", "sink: nowhere"), "there is no sink \"nowhere\""),
        (good.replace("sink: out", "plugins: [{ use: nothing }], sink: out"), "there is no nothing.wasm"),
        (format!("{good}workers: 7\n"), "weir.yaml: workers: cannot change while weir runs: start it again"),
        (good.replace("root: logs", "root: /usr/share"), "confined itself to: start weir again"),
        (good.replace("logstores:", "logstores: ["), "weir.yaml:"),
    ];
    for (refused, (wrong, what)) in (1..).zip(wrong) {
        site.write("weir.yaml", &wrong);
        agent.wait("a refusal", |site| said(site, REFUSED) == refused);
        agent.wait_to_say(what);
    }
    site.append("logs/one.log", numbers(10..20));
    agent.wait_for_lines("a/one", 20);
    // Asked for by a signal, it is read again although it has not changed.
    site.write("weir.yaml", good);
    agent.wait_to_say(APPLIED);
    agent.signal(Signal::HUP);
    agent.wait("applied again", |site| said(site, APPLIED) == 2);
    let ran = agent.stop();
    ran.assert_settled();
    ran.assert_counts("a/one", [20, 20, 0, 0]);
    assert_eq!(site.contents("a/one"), numbered(0..20));
}

#[test]
fn a_sink_that_is_set_right_gets_what_the_wrong_one_did_not_take() {
    let server = Server::start("http", &[]);
    let site = Site::new();
    let logstores = "
- { name: a/b, files: { root: logs, include: [b.log] }, sink: far }
- { name: a/c, files: { root: logs, include: [c.log] }, sink: out }";
    let sinks = |port: u16| {
        let far = format!("  far: {{ type: http, url: \"http://127.0.0.1:{port}/\", batch: {{ max_age: 50ms }} }}");
        format!("{far}\n  out: {{ type: file, path: \"out/{{project}}/{{logstore}}.ndjson\" }}")
    };
    // Nobody listens there.
    site.config_with(logstores, &sinks(9));
    let text = fs::read_to_string(site.path("weir.yaml")).unwrap();
    site.write("weir.yaml", format!("confine: off\n{text}"));
    let mut agent = site.start();
    site.append("logs/b.log", numbers(0..1000));
    agent.wait_to_say("not reached, trying again");
    site.write(
        "weir.yaml",
        format!("confine: off\n{}", text.replace("127.0.0.1:9/", &format!("127.0.0.1:{}/", server.port))),
    );
    // The other lane goes on meanwhile.
    site.append("logs/c.log", numbers(0..10));
    agent.wait_for_lines("a/c", 10);
    agent.wait("all lines", |_| server.events().len() >= 1000);
    site.append("logs/b.log", numbers(1000..1010));
    agent.wait("more lines", |_| server.events().len() >= 1010);
    let ran = agent.stop();
    ran.assert_settled();
    ran.assert_counts("a/b", [1010, 1010, 0, 0]);
    ran.assert_counts("a/c", [10, 10, 0, 0]);
    let lines: Vec<_> =
        server.events().iter().map(|event| event.fields["content"].as_str().unwrap().to_owned()).collect();
    assert_eq!(lines, numbered(0..1010));
}

#[test]
fn a_plugin_is_another_when_its_file_is() {
    let site = Site::new();
    site.write("plugins/mine.wasm", fs::read(plugins().join("json.wasm")).unwrap());
    site.config("- { name: a/b, files: { root: logs }, plugins: [{ use: mine }], sink: out }");
    let mut agent = site.start();
    site.append("logs/b.log", "{\"n\":1}\n");
    agent.wait_for_lines("a/b", 1);
    // As a mount does it: another file in its place. What cannot be used changes nothing.
    site.write("new", "no plugin");
    site.rename("new", "plugins/mine.wasm");
    agent.wait_to_say("cannot be used; what ran goes on");
    site.append("logs/b.log", "{\"n\":2}\n");
    agent.wait_for_lines("a/b", 2);
    // Nor does what cannot parse the lines that are there.
    site.write("new", fs::read(plugins().join("nginx.wasm")).unwrap());
    site.rename("new", "plugins/mine.wasm");
    agent.wait_to_say("none of the logstore's last 2 events can be parsed");
    // The same with a custom section behind it.
    let mut other = fs::read(plugins().join("json.wasm")).unwrap();
    other.extend(*b"\0\x03\x02hi");
    site.write("new", other);
    site.rename("new", "plugins/mine.wasm");
    agent.wait_to_say("has its plugins anew");
    site.append("logs/b.log", "{\"n\":3}\n");
    agent.wait_for_lines("a/b", 3);
    let ran = agent.stop();
    ran.assert_settled();
    ran.assert_counts("a/b", [3, 3, 0, 0]);
    assert_eq!(site.events("a/b").iter().map(|event| event["n"].clone()).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_plugins_file_that_is_refused_stays_refused_whatever_else_changes() {
    let site = Site::new();
    let logstore = "- { name: a/b, files: { root: logs, include: [b.log] }, plugins: [{ use: mine }], sink: out }";
    site.write("plugins/mine.wasm", fs::read(plugins().join("json.wasm")).unwrap());
    serve(&site, "", logstore);
    let mut served = Served::start(&site);
    site.append("logs/b.log", "{\"n\":1}\n");
    served.agent.wait_for_lines("a/b", 1);
    site.write("new", fs::read(plugins().join("nginx.wasm")).unwrap());
    site.rename("new", "plugins/mine.wasm");
    let why = "none of the logstore's last 1 events can be parsed";
    served.agent.wait_to_say(why);
    let told = format!("a/b: a plugin's file has changed and is not used: {why}");
    assert!(served.told(&["status"]).contains(&told), "{}", served.told(&["status"]));
    // Neither another logstore, nor another place in the file, nor what makes it begin anew.
    let moved = logstore.replace("[b.log]", "[b.log, c.log]");
    let mut edits = 0;
    let mut edit = |served: &mut Served, logstores: &str| {
        let text = fs::read_to_string(site.path("weir.yaml")).unwrap();
        let (head, _) = text.split_once("logstores:").unwrap();
        let (_, sinks) = text.split_once("\nsinks:").unwrap();
        site.write("weir.yaml", format!("{head}logstores:\n{logstores}\nsinks:{sinks}"));
        edits += 1;
        let applied = |site: &Site| fs::read_to_string(site.path("stderr")).unwrap().matches(APPLIED).count();
        served.agent.wait("applied", |site| applied(site) == edits);
        site.append("logs/b.log", format!("{{\"n\":{}}}\n", edits + 1));
        served.agent.wait_for_lines("a/b", edits + 1);
    };
    for logstores in [format!("{logstore}\n{ONE}"), format!("{ONE}\n{moved}")] {
        edit(&mut served, &logstores);
        assert!(served.told(&["status"]).contains(&told));
    }
    // What is no plugin at all does not keep others from changing, either.
    site.write("new", "no plugin");
    site.rename("new", "plugins/mine.wasm");
    let mine = site.path("plugins/mine.wasm");
    let told = format!("a/b: a plugin's file has changed and is not used: plugin {}: ", mine.display());
    edit(&mut served, &moved);
    assert!(served.told(&["status"]).contains(&told), "{}", served.told(&["status"]));
    // Another is looked at.
    let mut other = fs::read(plugins().join("json.wasm")).unwrap();
    other.extend(*b"\0\x03\x02hi");
    site.write("new", other);
    site.rename("new", "plugins/mine.wasm");
    served.agent.wait_to_say("has its plugins anew");
    assert!(!served.told(&["status"]).contains("is not used"));
    let ran = served.agent.stop();
    ran.assert_settled();
    ran.assert_counts("a/b", [4, 4, 0, 0]);
    assert_eq!(site.events("a/b").iter().map(|event| event["n"].clone()).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
fn what_changes_while_the_agent_starts_is_seen() {
    let site = Site::new();
    let mine = "- { name: a/b, files: { root: logs, include: [b.log] }, plugins: [{ use: mine, settings: { fields: [n, word] } }], sink: out }";
    site.write("plugins/mine.wasm", fs::read(plugins().join("delimiter.wasm")).unwrap());
    site.config(mine);
    let path = site.path("weir.yaml");
    let file_stamp = look_at(&path);
    let loaded = config::load(&path).unwrap();
    let compile = ByChild { binary: binary().to_owned(), ..ByChild::default() };
    let options = Options { file: Some(path), file_stamp, compile, ..Options::default() };
    let agent = Arc::new(Agent::start(&loaded.config, "weir.yaml", options).unwrap());
    // Before anybody looks after it.
    let mut other = fs::read(plugins().join("delimiter.wasm")).unwrap();
    other.extend(*b"\0\x03\x02hi");
    let before = agent.status(None).logstores["a/b"].plugins[0].digest.clone();
    site.write("plugins/mine.wasm", other);
    site.config(&format!("{mine}\n{ONE}"));
    let inside = Inside { agent, versions: Vec::new() };
    let keeper = Keeper::start(&inside.agent).unwrap();
    inside.wait("the configuration", |inside| inside.agent.config().logstores.len() == 2);
    let digest = |inside: &Inside| inside.agent.status(None).logstores["a/b"].plugins[0].digest.clone();
    inside.wait("the plugin", |inside| digest(inside) != before);
    keeper.stop();
    inside.finish();
}

#[test]
fn a_change_that_waits_for_a_sink_does_not_hold_up_the_end() {
    let site = Site::new();
    let far = "- { name: a/b, files: { root: logs, include: [b.log] }, sink: far }";
    // Nobody listens there.
    site.config_with(far, "  far: { type: http, url: 'http://127.0.0.1:9/', batch: { max_age: 50ms } }");
    let before = config::load(&site.path("weir.yaml")).unwrap().config;
    site.append("logs/b.log", numbers(0..10));
    let stop = Arc::new(AtomicBool::new(false));
    let compile = ByChild { stop: stop.clone(), ..ByChild::default() };
    let agent = Agent::start(&before, "weir.yaml", Options { compile, ..Options::default() }).unwrap();
    let inside = Inside { agent: Arc::new(agent), versions: Vec::new() };
    inside.wait("lines on their way", |inside| inside.count("in_flight") == 10);
    site.config(ONE);
    let after = config::load(&site.path("weir.yaml")).unwrap().config;
    let begun = Instant::now();
    let (error, ()) = beside(
        |_| inside.agent.reload(&after, "weir.yaml").unwrap_err().to_string(),
        || {
            // It comes in the midst of it, and before it changes nothing in what is expected.
            thread::sleep(Duration::from_millis(300));
            stop.store(true, Ordering::Relaxed);
        },
    );
    assert_eq!(error, "weir is stopping");
    // The sink has longer than that to take what is on its way.
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    inside.agent.drain();
    inside.agent.stop(Duration::ZERO).unwrap();
}

/// An agent in this process, and what may be done with it.
struct Inside {
    agent: Arc<Agent>,
    versions: Vec<u64>,
}

/// The first column's name says which version has seen an event.
fn settings(name: &str) -> Value {
    json!({ "fields": [name, "padding"] })
}

impl Inside {
    /// The agent of a site, with versions of the plugin `delimiter`, one for each of the names.
    fn new(site: &Site, names: &[&str]) -> Self {
        let loaded = config::load(&site.path("weir.yaml")).unwrap();
        let agent = Arc::new(Agent::start(&loaded.config, "weir.yaml", Options::default()).unwrap());
        let mut inside = Inside { agent, versions: Vec::new() };
        for name in names {
            inside.push("delimiter", &settings(name));
        }
        inside
    }

    fn push(&mut self, plugin: &str, settings: &Value) {
        let bytes = fs::read(plugins().join(format!("{plugin}.wasm"))).unwrap();
        let new = New {
            bytes: &bytes,
            name: plugin,
            plugin_version: "1",
            settings,
            by: By::Operator,
            most: 100,
            signature: None,
        };
        let version = self.agent.registry().add(&"a/b".parse().unwrap(), &new).unwrap();
        self.versions.push(version.number);
    }

    fn activate(&self, index: usize) {
        let name = "a/b".parse().unwrap();
        self.agent.registry().activate(&name, self.versions[index]).unwrap();
        self.agent.apply(&name).unwrap();
    }

    fn count(&self, name: &str) -> u64 {
        self.agent.books().summary().logstores["a/b"].counts[name]
    }

    #[track_caller]
    fn wait(&self, what: &str, is_so: impl Fn(&Inside) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            assert!(begun.elapsed() < Duration::from_secs(60), "in vain: {what}");
            thread::sleep(POLL);
        }
    }

    /// Has all read and delivered that there is.
    fn finish(self) {
        self.agent.finish();
        self.wait("the end", |inside| inside.agent.is_done());
        self.agent.stop(GRACE).unwrap();
    }
}

#[test]
fn a_thousand_plugins_under_load_and_each_line_is_there_once_in_order() {
    const SWAPS: usize = 1000;
    const RATE: u64 = 50_000_000;
    let site = Site::alone();
    site.config("- { name: a/b, files: { root: logs }, plugins: [{ use: delimiter, settings: { fields: [v0, padding] } }], sink: out }");
    let inside = Inside::new(&site, &["v1", "v2", "v3"]);
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut slowest = Duration::ZERO;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut log = fs::File::create(site.path("logs/b.log")).unwrap();
            let padding = "x".repeat(180);
            let (begun, mut bytes, mut number) = (Instant::now(), 0, 0);
            while !stop.load(Ordering::Relaxed) {
                let due = (begun.elapsed().as_secs_f64() * RATE as f64) as u64;
                let mut burst = String::new();
                while bytes + (burst.len() as u64) < due.min(bytes + 1_000_000) {
                    burst += &format!("{number},{padding}\n");
                    number += 1;
                }
                log.write_all(burst.as_bytes()).unwrap();
                bytes += burst.len() as u64;
                written.store(number, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
        });
        for swap in 0..SWAPS {
            // Each has something to do.
            let before = inside.count("read");
            inside.wait("lines", |inside| inside.count("read") > before);
            let begun = Instant::now();
            inside.activate(swap % 3);
            slowest = slowest.max(begun.elapsed());
        }
        let before = inside.count("read");
        inside.wait("lines", |inside| inside.count("read") > before);
        stop.store(true, Ordering::Relaxed);
    });
    let written = written.load(Ordering::Relaxed);
    inside.finish();
    eprintln!("{written} lines, the slowest of {SWAPS} changes took {slowest:?}");

    let (mut next, mut changes, mut last) = (0, 0, String::new());
    let mut seen = BTreeMap::new();
    for line in site.ndjson("a/b").split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line = std::str::from_utf8(line).unwrap();
        let (name, rest) = line[2..].split_once("\":\"").unwrap();
        let (number, _) = rest.split_once('"').unwrap();
        assert_eq!(number.parse(), Ok(next), "{line}");
        next += 1;
        if name != last {
            changes += 1;
            last = name.to_owned();
        }
        *seen.entry(name.to_owned()).or_insert(0) += 1;
    }
    assert_eq!(next, written);
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["v0", "v1", "v2", "v3"]);
    // One for each, and the first.
    assert_eq!(changes, SWAPS + 1);
    // With compiling, settings and all; the machine may have other things to do.
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

#[test]
fn what_is_tried_and_fails_more_goes_back_by_itself() {
    let site = Site::new();
    site.config("- { name: a/b, files: { root: logs }, plugins: [{ use: delimiter, settings: { fields: [v0, padding] } }], sink: out }");
    let mut inside = Inside::new(&site, &[]);
    for file in 0..20 {
        site.append(&format!("logs/{file}.log"), numbers(0..50).replace('\n', ",x\n"));
    }
    inside.wait("lines", |inside| inside.count("delivered") == 1000);
    // All lines fail with it.
    inside.push("json", &json!({}));
    let (name, version) = ("a/b".parse().unwrap(), inside.versions[0]);
    inside.agent.registry().begin_canary(&name, Canary { version, percent: 50 }).unwrap();
    inside.agent.apply(&name).unwrap();
    let keeper = weir::agent::keeper::Keeper::start(&inside.agent).unwrap();
    for file in 0..20 {
        site.append(&format!("logs/{file}.log"), numbers(50..100).replace('\n', ",x\n"));
    }
    inside.wait("its end", |inside| inside.agent.registry().choice(&name).unwrap().canary.is_none());
    inside.wait("lines", |inside| inside.count("delivered") == 2000);
    let note = inside.agent.registry().version(&name, version).unwrap().note.unwrap();
    assert!(note.starts_with("went back by itself: it failed on "), "{note}");
    for file in 0..20 {
        site.append(&format!("logs/{file}.log"), numbers(100..110).replace('\n', ",x\n"));
    }
    inside.wait("lines", |inside| inside.count("delivered") == 2200);
    keeper.stop();
    let raw = inside.count("kept_raw");
    inside.finish();
    let events = site.events("a/b");
    let failed = events.iter().filter(|event| event.get("__error__").is_some()).count() as u64;
    assert_eq!((events.len(), failed), (2200, raw));
    // About half of the files, and none after that.
    assert!((100..=900).contains(&raw) && raw.is_multiple_of(50), "{raw}");
    assert!(events[2000..].iter().all(|event| event.get("v0").is_some()));
}
