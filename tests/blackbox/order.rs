//! Generations of a log, one after the other, and files that nobody finds any more.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use crate::harness::{Site, numbered, numbers, raw};

/// Lines of a file: several reads.
const PART: u64 = 50_000;

fn site(files: &str) -> Site {
    let site = Site::new();
    site.config(&raw(files));
    site
}

#[track_caller]
fn assert_in_order(site: &Site, written: u64) {
    let (all, expected) = (site.contents("a/b"), numbered(0..written));
    let wrong = all.iter().zip(&expected).position(|(is, should)| is != should);
    assert_eq!(wrong.map(|at| (&all[at], &expected[at])), None, "the first that is out of order, lost or doubled");
    assert_eq!(all.len(), expected.len());
}

#[test]
fn generations_that_were_renamed_while_the_agent_was_down_are_read_in_order() {
    let site = site("include: [\"app.log*\"]");
    site.write("logs/app.log", numbers(0..PART));
    site.run();
    // The first has something left, the second was never seen, and neither was the third.
    site.append("logs/app.log", numbers(PART..2 * PART));
    site.rename("logs/app.log", "logs/app.log.2");
    site.write("logs/app.log.1", numbers(2 * PART..3 * PART));
    site.write("logs/app.log", numbers(3 * PART..4 * PART));
    site.run().assert_counts("a/b", [3 * PART, 3 * PART, 0, 0]);
    assert_in_order(&site, 4 * PART);
    site.run().assert_counts("a/b", [0, 0, 0, 0]);
}

#[test]
fn what_is_left_of_each_generation_is_read_in_order() {
    // By number, and by date.
    for names in [["app.log.10", "app.log.9", "app.log"], ["app.log-20260101", "app.log-20260102", "app.log"]] {
        in_generations(names, Duration::from_secs(60));
    }
}

#[test]
fn generations_of_the_same_moment_are_read_in_the_order_of_their_names() {
    // Clocks of file systems are coarse.
    in_generations(["app.log.10", "app.log.9", "app.log"], Duration::ZERO);
}

/// Has these files, the oldest first, written in two parts, and read after each.
fn in_generations(names: [&str; 3], apart: Duration) {
    let site = site("include: [\"app.log*\"]");
    let begun = SystemTime::now() - Duration::from_secs(600);
    let write = |from: u64, lines: u64| {
        for (name, number) in names.into_iter().zip(0..) {
            let name = format!("logs/{name}");
            site.append(&name, numbers(from + number * lines..from + (number + 1) * lines));
            let file = OpenOptions::new().append(true).open(site.path(name)).unwrap();
            file.set_modified(begun + apart * number as u32).unwrap();
        }
        site.run();
        assert_in_order(&site, from + 3 * lines);
    };
    write(0, 10);
    write(30, PART);
}

#[test]
fn a_file_that_left_the_globs_while_the_agent_was_down_is_read_before_its_successor() {
    let site = site("include: [\"app.log\"]");
    site.write("logs/app.log", numbers(0..PART));
    site.run();
    site.append("logs/app.log", numbers(PART..2 * PART));
    site.rename("logs/app.log", "logs/app.log.1");
    site.rename("logs/app.log.1", "logs/app.log.2");
    site.write("logs/app.log", numbers(2 * PART..3 * PART));
    site.run().assert_counts("a/b", [2 * PART, 2 * PART, 0, 0]);
    assert_in_order(&site, 3 * PART);
    site.run().assert_counts("a/b", [0, 0, 0, 0]);
}

#[test]
fn a_file_that_leaves_the_globs_while_the_agent_runs_is_read_before_its_successor() {
    let site = site("include: [\"app.log\"], poll_interval: 50ms");
    site.write("logs/app.log", "");
    let mut agent = site.start();
    agent.wait_to_say("running");
    for generation in 0..4 {
        let from = generation * PART;
        let rotated = format!("logs/app.log.{generation}");
        site.append("logs/app.log", numbers(from..from + PART - 10));
        // It has been found; most of it is not read yet.
        agent.wait_for_lines("a/b", from as usize + 1);
        site.rename("logs/app.log", &rotated);
        // Its writer has not noticed yet.
        site.append(&rotated, numbers(from + PART - 10..from + PART));
        site.write("logs/app.log", "");
    }
    site.append("logs/app.log", numbers(4 * PART..5 * PART));
    agent.wait_for_lines("a/b", 5 * PART as usize);
    agent.stop().assert_counts("a/b", [5 * PART, 5 * PART, 0, 0]);
    assert_in_order(&site, 5 * PART);
}

#[test]
fn a_deleted_file_is_read_as_long_as_somebody_writes_to_it() {
    let site = site("poll_interval: 50ms");
    site.write("logs/a.log", numbers(0..10));
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 10);
    let mut held = OpenOptions::new().append(true).open(site.path("logs/a.log")).unwrap();
    fs::remove_file(site.path("logs/a.log")).unwrap();
    for round in 1..20 {
        held.write_all(numbers(10 * round..10 * round + 10).as_bytes()).unwrap();
        agent.wait_for_lines("a/b", 10 * round as usize + 10);
    }
    drop(held);
    site.write("logs/a.log", numbers(200..210));
    agent.wait_for_lines("a/b", 210);
    agent.stop().assert_counts("a/b", [210, 210, 0, 0]);
    assert_in_order(&site, 210);
}

/// How many deleted logs a process holds.
fn held(pid: u32, site: &Site) -> usize {
    let is_log = |entry: &io::Result<fs::DirEntry>| {
        // It may be closed by now.
        let Some(target) = entry.as_ref().ok().and_then(|entry| fs::read_link(entry.path()).ok()) else { return false };
        target.starts_with(site.path("logs")) && target.to_string_lossy().ends_with(" (deleted)")
    };
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter(is_log).count()
}

#[test]
fn deleted_files_are_held_within_their_budget_and_what_is_abandoned_is_counted() {
    const LINES: u64 = 300_000;
    let site = site("poll_interval: 50ms, rotated: { wait: 30s, max_files: 1, max_size: 1GiB }");
    // More than may be on its way, and nothing can be written: where a directory should be there is a file.
    site.write("out", "in the way");
    let part = |number: u64| number * LINES..(number + 1) * LINES;
    let names = ["a", "b", "c"].map(|name| format!("logs/{name}.log"));
    names.iter().zip(0..).for_each(|(name, number)| site.write(name, numbers(part(number))));
    let mut agent = site.start();
    agent.wait_to_say("cannot write, trying again until it works");
    let pid = agent.pid();
    names.iter().for_each(|name| fs::remove_file(site.path(name)).unwrap());
    agent.wait("giving up of two files", |site| held(pid, site) == 1);
    fs::remove_file(site.path("out")).unwrap();
    agent.wait_to_say("writing works again");
    // The one that is held comes out to its end.
    agent.wait_for_lines("a/b", LINES as usize);
    let ran = agent.stop();
    let accounts = &ran.summary["a/b"];
    assert_eq!(accounts["abandoned_files"], 2);

    let mut all = [Vec::new(), Vec::new(), Vec::new()];
    for content in site.contents("a/b") {
        let number: u64 = content.parse().unwrap();
        all[(number / LINES) as usize].push(content);
    }
    let mut lost = 0;
    for (number, came) in (0..).zip(&all) {
        let expected = numbered(part(number));
        assert!(came[..] == expected[..came.len()], "not the beginning of what {} had", names[number as usize]);
        lost += expected[came.len()..].iter().map(|line| line.len() as u64 + 1).sum::<u64>();
    }
    assert_eq!(all.iter().filter(|came| came.len() as u64 == LINES).count(), 1);
    assert_eq!(accounts["abandoned_bytes"], lost);
    assert_eq!(accounts["delivered"], all.iter().map(|came| came.len() as u64).sum::<u64>());
}
