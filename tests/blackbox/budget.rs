//! A project that uses up its memory waits, and nobody else notices. Nothing else runs meanwhile, for a plugin that
//! finds no memory for long has faulted.

use std::fs;
use std::io::{BufRead, BufReader};
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::cost::cpu_time_of;
use crate::harness::{Agent, Site, access_log, beside, numbers, plugins};

/// Logstores whose plugins each want 40 MiB, and the memory of their project.
const HUNGRY: usize = 6;
const BUDGET: u64 = 96 << 20;

/// The memory of the project that it must not harm.
const GOODS: u64 = 40 << 20;

/// What all else takes: the agent itself, the good logstore, and a turn of each worker.
const BESIDE: u64 = 40 << 20;

/// Lines of each hungry logstore, in a few batches.
const LINES: u64 = 4000;
const GOOD: u64 = 20_000;

/// A configuration of projects and logstores, which may use the sinks `out` and `stuck`.
fn config(site: &Site, projects: &str, logstores: &str) {
    let text = format!(
        "data_dir: data\nplugin_dirs: [{:?}]\nworkers: 2\nmemory: {}MiB\nprojects: {{ {projects} }}\nlogstores:\n{logstores}sinks:\n  \
         out: {{ type: file, path: \"out/{{project}}/{{logstore}}.ndjson\" }}\n  \
         stuck: {{ type: file, path: stuck.ndjson }}\n",
        plugins(),
        (BUDGET + GOODS) >> 20
    );
    site.write("weir.yaml", text);
}

fn line(logstore: usize, number: u64) -> String {
    format!("{logstore} {number:0120}")
}

const GOOD_LOGSTORE: &str = "- name: good/nginx
  files: { root: logs/good }
  plugins: [{ use: nginx, settings: { format: main } }]
  sink: out
";

#[test]
fn a_project_at_its_budget_waits_and_harms_no_one() {
    let site = Site::alone();
    site.write("logs/good/access.log", access_log(GOOD));
    config(&site, "good: {}", GOOD_LOGSTORE);
    site.run();
    let alone = site.ndjson("good/nginx");
    for old in ["data/checkpoint.redb", "data/checkpoint.backup", "out/good/nginx.ndjson"] {
        fs::remove_file(site.path(old)).unwrap();
    }

    mknodat(CWD, site.path("stuck.ndjson"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    site.write("logs/stuck/access.log", access_log(GOOD));
    let mut logstores = GOOD_LOGSTORE.to_owned();
    logstores += &GOOD_LOGSTORE.replace("good", "stuck").replace("stuck/nginx", "poor/stuck").replace("out", "stuck");
    for number in 0..HUNGRY {
        let text: String = (0..LINES).map(|line_number| line(number, line_number) + "\n").collect();
        site.write(&format!("logs/{number}/a.log"), text);
        let plugin = "{ use: weir-evil, settings: { mode: gorge } }";
        logstores += &format!(
            "- {{ name: poor/s{number}, files: {{ root: logs/{number} }}, plugins: [{plugin}], sink: out }}\n"
        );
    }
    // The other has the rest of what the agent has.
    config(&site, &format!("good: {{ memory: {}MiB }}", GOODS >> 20), &logstores);

    let mut agent = site.start();
    agent.wait_for_lines("good/nginx", GOOD as usize);
    (0..HUNGRY).for_each(|number| agent.wait_for_lines(&format!("poor/s{number}"), LINES as usize));
    let stuck = fs::File::open(site.path("stuck.ndjson")).unwrap();
    let (unstuck, ()) = beside(
        |_| BufReader::new(stuck).lines().take(GOOD as usize).map(Result::unwrap).collect::<Vec<_>>(),
        || agent.wait_to_say("running"),
    );
    let ran = agent.stop();
    ran.assert_settled();
    assert!(site.ndjson("good/nginx") == alone, "another project noticed");
    let stuck_tags = |line: &str| line.replace("logs/stuck", "logs/good");
    let unstuck: String = unstuck.iter().map(|line| stuck_tags(line) + "\n").collect();
    assert!(unstuck.as_bytes() == alone, "what was stuck is not what it should be");
    for number in 0..HUNGRY {
        let name = format!("poor/s{number}");
        ran.assert_counts(&name, [LINES, LINES, 0, 0]);
        assert!(site.contents(&name).into_iter().eq((0..LINES).map(|of| line(number, of))), "{name}");
        let counts = &ran.plugins[&name][0].counts;
        assert_eq!((counts["faults"], counts["suspensions"]), (0, 0), "{name}: {counts:?}");
    }
    ran.assert_counts("poor/stuck", [GOOD, GOOD, 0, 0]);
    let (poor, good) = (&ran.projects["poor"], &ran.projects["good"]);
    assert!(poor["short"] > 0 && good["short"] == 0, "{poor:?}, {good:?}");
    assert!(poor["memory"] <= BUDGET, "{poor:?}");
    assert!(ran.peak <= BUDGET + BESIDE, "{} MiB were resident", ran.peak >> 20);
    // They did use what they may: twice 40 MiB.
    assert!(ran.peak >= 80 << 20, "{} MiB were resident", ran.peak >> 20);
}

#[test]
fn payloads_that_a_sink_does_not_take_hold_up_their_project_and_no_plugin_faults() {
    const LOGSTORES: usize = 4;
    const LINES: u64 = 240;
    const TIMES: u64 = 100;
    let site = Site::alone();
    mknodat(CWD, site.path("stuck.ndjson"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mut logstores = String::new();
    for number in 0..LOGSTORES {
        // Each batch becomes 13 MB.
        let text: String = (0..LINES).map(|line| format!("{number} {line:02000}\n")).collect();
        site.write(&format!("logs/{number}/a.log"), text);
        let plugin = "{ use: weir-evil, settings: { mode: repeat } }";
        logstores += &format!(
            "- {{ name: poor/s{number}, files: {{ root: logs/{number} }}, plugins: [{plugin}], sink: stuck }}\n"
        );
    }
    config(&site, "poor: { memory: 32MiB }", &logstores);
    let mut agent = site.start();
    agent.wait_to_say("running");
    // Longer than a plugin may find no memory if nobody is waited for.
    thread::sleep(Duration::from_secs(7));
    let mut lines = BufReader::new(fs::File::open(site.path("stuck.ndjson")).unwrap()).lines();
    let mut next = [0; LOGSTORES];
    for _ in 0..LOGSTORES as u64 * LINES * TIMES {
        let line = lines.next().unwrap().unwrap();
        let mut words = line.strip_prefix("{\"content\":\"").unwrap().split([' ', '"']).map(str::parse::<u64>);
        let (logstore, number) = (words.next().unwrap().unwrap() as usize, words.next().unwrap().unwrap());
        assert_eq!(number, next[logstore] / TIMES, "of logstore {logstore}: lost, doubled or out of order");
        next[logstore] += 1;
    }
    let ran = agent.stop();
    ran.assert_settled();
    for number in 0..LOGSTORES {
        let name = format!("poor/s{number}");
        ran.assert_counts(&name, [LINES, LINES, 0, 0]);
        assert_eq!(ran.plugins[&name][0].counts["faults"], 0, "{name}");
    }
    let poor = &ran.projects["poor"];
    assert!(poor["short"] > 0 && poor["memory"] <= 32 << 20, "{poor:?}");
    // Over its budget it has what each worker made in one turn.
    assert!(ran.peak <= (32 + 2 * 20 + 40) << 20, "{} MiB were resident", ran.peak >> 20);
}

#[test]
fn tiny_lines_with_long_tags_and_errors_are_shipped_in_small_parts() {
    // All of them are in one read, and each is written with 2 KB of path and error.
    const LINES: u64 = 120_000;
    let site = Site::alone();
    let deep = vec!["x".repeat(200); 8].join("/");
    site.write(&format!("logs/{deep}/a.log"), "\n".repeat(LINES as usize));
    let plugin = "{ use: weir-evil, settings: { mode: fail-all } }";
    let files = "{ root: logs, include: [\"**/*.log\"] }";
    config(&site, "a: {}", &format!("- {{ name: a/b, files: {files}, plugins: [{plugin}], sink: out }}\n"));
    let ran = site.run();
    ran.assert_counts("a/b", [LINES, LINES, LINES, 0]);
    let mut made = BufReader::new(fs::File::open(site.path("out/a/b.ndjson")).unwrap()).lines().map(Result::unwrap);
    let first = made.next().unwrap();
    assert!(first.starts_with("{\"content\":\"\",\"__error__\":\"weir-evil: as I please\"") && first.len() > 1600);
    assert_eq!(made.filter(|line| *line == first).count() as u64, LINES - 1);
    assert!(ran.peak < 80 << 20, "{} MiB were resident", ran.peak >> 20);
}

/// CPU time that an agent uses in a second and a half; the least of three, as much else may go on.
fn cpu_at_rest(agent: &Agent) -> Duration {
    let one = |_| {
        let before = cpu_time_of(agent.pid());
        thread::sleep(Duration::from_millis(1500));
        cpu_time_of(agent.pid()) - before
    };
    (0..3).map(one).min().unwrap()
}

#[test]
fn a_sink_that_is_gone_holds_up_no_other_logstore_of_its_project_and_nobody_spins() {
    const LINES: u64 = 10_000;
    let site = Site::alone();
    // Nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    site.write("logs/gone/a.log", numbers(0..2_000_000));
    site.write("logs/good/access.log", "");
    let logstores = "- { name: a/gone, files: { root: logs/gone }, sink: gone }
- { name: a/idle, files: { root: logs/idle }, sink: out }
- { name: a/good, files: { root: logs/good }, plugins: [{ use: nginx }], sink: out }
";
    config(&site, "a: { memory: 8MiB }", logstores);
    let with_sink = fs::read_to_string(site.path("weir.yaml")).unwrap()
        + &format!("  gone: {{ type: http, url: 'http://127.0.0.1:{port}/' }}\n");
    site.write("weir.yaml", with_sink);
    let mut agent = site.start();
    agent.wait_to_say("not reached");
    for round in 1..=3 {
        site.append("logs/good/access.log", access_log(LINES));
        agent.wait_for_lines("a/good", (round * LINES) as usize);
    }
    let cpu = cpu_at_rest(&agent);
    assert!(cpu < Duration::from_millis(300), "{cpu:?} of 1.5 s");
    agent.kill();
    assert_eq!(site.events("a/good").len(), 3 * LINES as usize);
}

#[test]
fn lines_without_ends_are_shipped_and_let_go() {
    const FILES: usize = 100;
    let site = Site::alone();
    for number in 0..FILES {
        site.write(&format!("logs/{number}.log"), "z".repeat(400_000));
    }
    let files = "{ root: logs, flush_after: 300ms }";
    config(&site, "a: { memory: 16MiB }", &format!("- {{ name: a/b, files: {files}, sink: out }}\n"));
    let mut agent = site.start();
    agent.wait_for_lines("a/b", FILES);
    let cpu = cpu_at_rest(&agent);
    assert!(cpu < Duration::from_millis(300), "{cpu:?} of 1.5 s");
    // They end after all, and the rest of each is an event.
    for number in 0..FILES {
        site.append(&format!("logs/{number}.log"), "more\n");
    }
    agent.wait_for_lines("a/b", 2 * FILES);
    let ran = agent.stop();
    ran.assert_settled();
    let count = 2 * FILES as u64;
    ran.assert_counts("a/b", [count, count, 0, 0]);
    assert!(ran.projects["a"]["memory"] <= 1 << 20, "{:?}", ran.projects["a"]);
    assert!(ran.peak < (16 + 64) << 20, "{} MiB were resident", ran.peak >> 20);
    let mut contents = site.contents("a/b");
    contents.sort();
    let expected = [vec!["more".to_owned(); FILES], vec!["z".repeat(400_000); FILES]].concat();
    assert!(contents == expected);
}
