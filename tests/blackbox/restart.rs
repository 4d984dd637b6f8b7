//! Agents that are stopped, killed, and started again.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::harness::{Lines, POLL, Site, access_log, beside, numbered, numbers};

const RAW: &str = "- name: a/b\n  files: { root: logs, poll_interval: 100ms }\n  sink: out";

#[test]
fn a_stopped_agent_goes_on_where_it_was() {
    let site = Site::new();
    site.config(RAW);
    for (round, signal) in [Signal::TERM, Signal::INT, Signal::TERM].into_iter().enumerate() {
        let from = 1000 * round as u64;
        site.append("logs/a.log", numbers(from..from + 500));
        let mut agent = site.start();
        agent.wait_for_lines("a/b", from as usize + 500);
        // Some more, that may or may not be read before the end.
        site.append("logs/a.log", numbers(from + 500..from + 1000));
        agent.signal(signal);
        let ran = agent.stop();
        ran.assert_settled();
        assert!(ran.summary["a/b"]["read"] >= 500 && ran.summary["a/b"]["delivered"] <= 1500);
    }
    site.run();
    assert_eq!(site.contents("a/b"), numbered(0..3000));
    assert_eq!(site.settled("a/b").into_values().collect::<Vec<_>>(), [numbers(0..3000).len() as u64]);
}

#[test]
fn nothing_is_lost_or_doubled_by_stops_while_a_lot_is_written() {
    let site = Site::new();
    site.config(RAW);
    site.write("logs/a.log", "");
    let written = write_during(&site, |more| {
        for _ in 0..4 {
            let before = Lines::of("a/b").count(&site);
            more(40_000);
            let mut agent = site.start();
            agent.wait_for_lines("a/b", before + 20_000);
            agent.stop().assert_settled();
        }
    });
    site.run();
    assert!(site.contents("a/b") == numbered(0..written), "some are lost, doubled or out of order");
}

/// Writes numbered lines to `logs/a.log` while something is done, which says how many more to write. Gives how many
/// it wrote.
fn write_during(site: &Site, act: impl FnOnce(&dyn Fn(u64))) -> u64 {
    const BURST: u64 = 500;
    let wanted = AtomicU64::new(0);
    let write = |is_done: &AtomicBool| {
        let mut file = OpenOptions::new().append(true).open(site.path("logs/a.log")).unwrap();
        let mut written = 0;
        while !is_done.load(Ordering::Relaxed) {
            if written < wanted.load(Ordering::Relaxed) {
                file.write_all(numbers(written..written + BURST).as_bytes()).unwrap();
                written += BURST;
            } else {
                thread::sleep(POLL);
            }
        }
        written
    };
    beside(write, || act(&|more| _ = wanted.fetch_add(more, Ordering::Relaxed))).0
}

#[test]
fn a_line_that_was_torn_by_a_crash_is_repaired() {
    let site = Site::new();
    site.config(RAW);
    site.write("logs/a.log", numbers(0..10));
    site.run();
    let whole = site.ndjson("a/b");
    site.append("out/a/b.ndjson", &whole[..20]);
    site.append("logs/a.log", numbers(10..20));
    let ran = site.run();
    ran.assert_says("cutting off a line that was not written to its end");
    assert_eq!(site.contents("a/b"), numbered(0..20));
}

#[test]
fn files_that_moved_and_shrank_meanwhile_are_recognized() {
    let site = Site::new();
    site.config("- name: a/b\n  files: { root: logs, include: [\"*\"] }\n  sink: out");
    site.write("logs/moved.log", "moved 0\n");
    site.write("logs/shrunk.log", "shrunk 0\nshrunk 1\n");
    site.write("logs/regrown.log", "regrown 0\n");
    site.write("logs/same.log", "same 0\n");
    site.run().assert_counts("a/b", [5, 5, 0, 0]);

    fs::rename(site.path("logs/moved.log"), site.path("logs/moved.log.1")).unwrap();
    site.append("logs/moved.log.1", "moved 1\n");
    site.write("logs/moved.log", "moved 2\n");
    site.write("logs/shrunk.log", "shrunk 2\n");
    site.write("logs/regrown.log", "regrown 1, and more than before\n");
    let ran = site.run();
    ran.assert_counts("a/b", [4, 4, 0, 0]);
    assert_eq!(ran.summary["a/b"]["truncations"], 2);
    let mut new = site.contents("a/b").split_off(5);
    new.sort();
    assert_eq!(new, ["moved 1", "moved 2", "regrown 1, and more than before", "shrunk 2"]);
}

#[test]
fn a_plugin_goes_on_where_it_was_as_well() {
    let site = Site::new();
    site.config(
        "- name: a/b\n  files: { root: logs }\n  plugins: [{ use: nginx, settings: { format: main } }]\n  sink: out",
    );
    let log = access_log(2000);
    let middle = log.len() / 2;
    site.write("logs/a.log", &log[..middle]);
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 900);
    agent.kill();
    site.append("logs/a.log", &log[middle..]);
    let (settled, already) = (site.settled("a/b").into_values().next().unwrap_or(0), site.events("a/b").len());
    site.run();

    let events = site.events("a/b");
    let again = log[settled as usize..middle].iter().filter(|byte| **byte == b'\n').count();
    assert!(events.iter().all(|event| event.get("__error__").is_none()));
    assert_eq!(events.len(), 2000 + again);
    // Without what came twice it is what an undisturbed run makes.
    let undisturbed = Site::new();
    undisturbed.config(
        "- name: a/b\n  files: { root: logs }\n  plugins: [{ use: nginx, settings: { format: main } }]\n  sink: out",
    );
    undisturbed.write("logs/a.log", &log);
    undisturbed.run();
    let strip = |mut event: serde_json::Value| {
        event.as_object_mut().unwrap().remove("__tags__");
        event
    };
    let once: Vec<_> = events[..already - again].iter().chain(&events[already..]).cloned().map(strip).collect();
    assert_eq!(once, undisturbed.events("a/b").into_iter().map(strip).collect::<Vec<_>>());
}

#[test]
fn a_data_dir_belongs_to_one_agent() {
    let site = Site::new();
    site.config(RAW);
    site.write("logs/a.log", numbers(0..10));
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 10);
    let second = site.output(["run", "-c", "weir.yaml", "--until-idle"]);
    second.assert_code(70);
    let checkpoint = site.path("data/checkpoint.redb");
    assert_eq!(
        second.stderr.lines().last().unwrap(),
        format!("error: the checkpoint {} is in use: another weir runs with this data_dir", checkpoint.display())
    );
    site.append("logs/a.log", numbers(10..20));
    agent.wait_for_lines("a/b", 20);
    agent.stop().assert_counts("a/b", [20, 20, 0, 0]);
    site.run().assert_counts("a/b", [0, 0, 0, 0]);
}
