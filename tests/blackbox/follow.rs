//! Files that appear, grow, move, shrink, and are strange.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::harness::{Site, contents, numbered, numbers, raw};

const RAW: &str = "- name: a/b\n  files: { root: logs }\n  sink: out";

fn sorted(mut all: Vec<String>) -> Vec<String> {
    all.sort();
    all
}

#[test]
fn files_that_exist_and_appear_and_grow_are_read_in_order() {
    let site = Site::new();
    site.config(RAW);
    site.write("logs/old.log", numbers(0..100));
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 100);
    assert_eq!(site.contents("a/b"), numbered(0..100));
    site.write("logs/new.log", numbers(100..200));
    agent.wait_for_lines("a/b", 200);
    for number in 200..250 {
        site.append(if number % 2 == 0 { "logs/old.log" } else { "logs/new.log" }, format!("{number}\n"));
        agent.wait_for_lines("a/b", number + 1);
    }
    agent.stop().assert_counts("a/b", [250, 250, 0, 0]);
    assert_eq!(site.contents("a/b"), numbered(0..250));
    let paths =
        site.events("a/b").iter().map(|e| e["__tags__"]["path"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let path = |name| site.path(name).to_str().unwrap().to_owned();
    assert_eq!(
        [&paths[99], &paths[100], &paths[248], &paths[249]],
        [&path("logs/old.log"), &path("logs/new.log"), &path("logs/old.log"), &path("logs/new.log"),]
    );
}

#[test]
fn from_end_leaves_out_what_was_there() {
    let site = Site::new();
    site.config(&raw("from: end"));
    site.write("logs/old.log", numbers(0..100));
    let mut agent = site.start();
    agent.wait_to_say("running");
    // A new file is read from its first byte, which also shows that the old one has been looked at.
    site.write("logs/new.log", "new\n");
    agent.wait_for_lines("a/b", 1);
    site.append("logs/old.log", "100\n");
    agent.wait_for_lines("a/b", 2);
    agent.stop().assert_counts("a/b", [2, 2, 0, 0]);
    assert_eq!(site.contents("a/b"), ["new", "100"]);
}

#[test]
fn a_root_that_appears_later_is_found_within_the_poll_interval() {
    let site = Site::new();
    site.config("- name: a/b\n  files: { root: later/logs, poll_interval: 50ms }\n  sink: out");
    let mut agent = site.start();
    agent.wait_to_say("this root does not exist; its files are read when it does");
    site.write("later/logs/a.log", numbers(0..10));
    agent.wait_for_lines("a/b", 10);
    site.append("later/logs/a.log", numbers(10..20));
    agent.wait_for_lines("a/b", 20);
    let ran = agent.stop();
    assert_eq!(ran.stderr.matches("this root does not exist").count(), 1, "{}", ran.stderr);
    assert_eq!(site.contents("a/b"), numbered(0..20));
}

#[test]
fn a_root_that_cannot_be_read_keeps_no_other_logstore() {
    let site = Site::new();
    site.write("logs/a.log", numbers(0..10));
    site.write("file", "not a directory\n");
    let other = |name, root| format!("- name: {name}\n  files: {{ root: {root}, include: [\"**\"] }}\n  sink: out\n");
    let mut logstores =
        other("x/file", "file") + &other("x/none", "none/at/all") + &other("x/below", "file/below") + RAW;
    if !rustix::process::geteuid().is_root() {
        fs::create_dir(site.path("locked")).unwrap();
        fs::set_permissions(site.path("locked"), std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
        logstores = other("x/locked", "locked") + &logstores;
    }
    site.config(&logstores);
    let ran = site.run();
    ran.assert_counts("a/b", [10, 10, 0, 0]);
    assert_eq!(site.contents("a/b"), numbered(0..10));
    for (name, root) in [("x/file", "file"), ("x/none", "none/at/all"), ("x/below", "file/below")] {
        ran.assert_says(&format!("root={:?}", site.path(root)));
        ran.assert_counts(name, [0, 0, 0, 0]);
    }
}

#[test]
fn a_line_without_an_end_waits_for_it() {
    let site = Site::new();
    site.config(RAW);
    site.write("logs/a.log", "one\ntw");
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 1);
    site.append("logs/a.log", "o");
    // Another file's line comes after the half one was seen, and does not bring it out.
    site.write("logs/b.log", "other\n");
    agent.wait_for_lines("a/b", 2);
    assert_eq!(site.contents("a/b"), ["one", "other"]);
    site.append("logs/a.log", "\nthree\n");
    agent.wait_for_lines("a/b", 4);
    agent.stop().assert_counts("a/b", [4, 4, 0, 0]);
    assert_eq!(site.contents("a/b"), ["one", "other", "two", "three"]);
}

#[test]
fn a_line_without_an_end_is_shipped_once_when_nothing_follows() {
    let site = Site::new();
    site.config(RAW);
    site.write("logs/a.log", "one\ntwo");
    site.run().assert_counts("a/b", [2, 2, 0, 0]);
    site.run().assert_counts("a/b", [0, 0, 0, 0]);
    assert_eq!(site.contents("a/b"), ["one", "two"]);
    site.append("logs/a.log", ", more\nthree\n");
    site.run().assert_counts("a/b", [2, 2, 0, 0]);
    assert_eq!(site.contents("a/b"), ["one", "two", ", more", "three"]);
}

#[test]
fn the_end_of_a_line_that_was_shipped_without_it_is_no_event() {
    let site = Site::new();
    site.config(RAW);
    site.write("logs/a.log", "one\ntwo");
    site.run();
    site.append("logs/a.log", "\nthree\n");
    site.run();
    assert_eq!(site.contents("a/b"), ["one", "two", "three"]);
}

#[test]
fn bytes_of_all_kinds_come_out_as_text() {
    let site = Site::new();
    site.config(RAW);
    site.write("logs/a.log", b"crlf\r\n\r\n\nc\rr\r\r\n\xff\xfe \xe2\x82\nnul \0 here\n\xef\xbb\xbfbom\n\"\\\x1b\x7f\t\n\xc3\xa4\xf0\x9f\x98\x80\n");
    site.write("logs/empty.log", "");
    site.run().assert_counts("a/b", [9, 9, 0, 0]);
    let expected =
        ["crlf", "", "", "c\rr\r", "\u{fffd}\u{fffd} \u{fffd}", "nul \0 here", "\u{feff}bom", "\"\\\x1b\x7f\t", "ä😀"];
    assert_eq!(site.contents("a/b"), expected);
}

#[test]
fn an_empty_file_is_no_event_and_all_of_it_once_it_grows() {
    let site = Site::new();
    site.config(RAW);
    site.write("logs/a.log", "");
    site.run().assert_counts("a/b", [0, 0, 0, 0]);
    assert_eq!(site.ndjson("a/b"), b"");
    let mut agent = site.start();
    agent.wait_to_say("running");
    site.append("logs/a.log", numbers(0..3));
    agent.wait_for_lines("a/b", 3);
    agent.stop().assert_counts("a/b", [3, 3, 0, 0]);
    assert_eq!(site.contents("a/b"), numbered(0..3));
}

#[test]
fn a_line_of_100_mb_is_split_without_loss_in_little_memory() {
    const MIB: usize = 1 << 20;
    let site = Site::new();
    site.config(RAW);
    let line: Vec<u8> = (0..).flat_map(|n: u32| format!("{n:09} ").into_bytes()).take(100_000_000).collect();
    site.write("logs/a.log", "before\n");
    site.append("logs/a.log", &line);
    site.append("logs/a.log", "\nafter\n");
    let pieces = line.len().div_ceil(MIB);
    let mut agent = site.start();
    agent.wait_for_lines("a/b", pieces + 2);
    let peak = crate::cost::status(agent.pid(), "VmHWM");
    let ran = agent.stop();
    ran.assert_counts("a/b", [pieces as u64 + 2, pieces as u64 + 2, 0, 0]);
    assert_eq!(ran.summary["a/b"]["split"], pieces as u64 - 1);
    let all = site.contents("a/b");
    assert_eq!((&*all[0], &*all[pieces + 1]), ("before", "after"));
    assert!(all[1..pieces].iter().all(|piece| piece.len() == MIB));
    assert!(all[1..=pieces].concat().as_bytes() == line, "the pieces are not the line");
    assert!(peak < 64 << 20, "{} MiB at the most", peak >> 20);
}

#[test]
fn a_truncated_file_begins_anew() {
    let site = Site::new();
    site.config(RAW);
    site.write("logs/a.log", numbers(0..100));
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 100);
    // Shorter than before.
    site.write("logs/a.log", numbers(100..110));
    agent.wait_for_lines("a/b", 110);
    // Longer than before.
    site.write("logs/a.log", numbers(110..300));
    agent.wait_for_lines("a/b", 300);
    site.append("logs/a.log", numbers(300..310));
    agent.wait_for_lines("a/b", 310);
    let ran = agent.stop();
    ran.assert_counts("a/b", [310, 310, 0, 0]);
    assert_eq!(ran.summary["a/b"]["truncations"], 2);
    assert_eq!(site.contents("a/b"), numbered(0..310));
    site.run().assert_counts("a/b", [0, 0, 0, 0]);
}

#[test]
fn a_renamed_file_is_not_read_again_and_its_successor_is() {
    let site = Site::new();
    site.config(&raw("include: [\"a.log*\"]"));
    site.write("logs/a.log", numbers(0..10));
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 10);
    for generation in 1..5 {
        let from = generation * 10;
        fs::rename(site.path("logs/a.log"), site.path(format!("logs/a.log.{generation}"))).unwrap();
        // The writer has not noticed yet.
        site.append(&format!("logs/a.log.{generation}"), numbers(from..from + 5));
        agent.wait_for_lines("a/b", from as usize + 5);
        site.write("logs/a.log", numbers(from + 5..from + 10));
        agent.wait_for_lines("a/b", from as usize + 10);
    }
    agent.stop().assert_counts("a/b", [50, 50, 0, 0]);
    assert_eq!(site.contents("a/b"), numbered(0..50));
    site.run().assert_counts("a/b", [0, 0, 0, 0]);
}

#[test]
fn a_file_that_leaves_the_globs_is_read_to_its_end() {
    let site = Site::new();
    site.config(RAW);
    site.write("logs/a.log", numbers(0..10));
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 10);
    site.append("logs/a.log", numbers(10..100_000));
    // As rotation does, and `*.log` does not match it any more.
    fs::rename(site.path("logs/a.log"), site.path("logs/a.log.1")).unwrap();
    site.append("logs/a.log.1", numbers(100_000..100_010));
    site.write("logs/a.log", numbers(100_010..100_020));
    agent.wait_for_lines("a/b", 100_020);
    agent.stop().assert_counts("a/b", [100_020, 100_020, 0, 0]);
    let mut all = site.contents("a/b").into_iter().map(|n| n.parse().unwrap()).collect::<Vec<u64>>();
    all.sort();
    assert_eq!(all, (0..100_020).collect::<Vec<_>>());
}

#[test]
fn a_file_that_was_deleted_is_read_to_its_end() {
    let site = Site::new();
    site.config(RAW);
    site.write("logs/a.log", numbers(0..10));
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 10);
    site.append("logs/a.log", numbers(10..100_000));
    fs::remove_file(site.path("logs/a.log")).unwrap();
    site.write("logs/a.log", numbers(100_000..100_010));
    agent.wait_for_lines("a/b", 100_010);
    agent.stop().assert_counts("a/b", [100_010, 100_010, 0, 0]);
    let mut all = site.contents("a/b").into_iter().map(|n| n.parse().unwrap()).collect::<Vec<u64>>();
    all.sort();
    assert_eq!(all, (0..100_010).collect::<Vec<_>>());
}

#[test]
fn globs_choose_and_leave_out() {
    let site = Site::new();
    site.config(&raw(
        "include: [\"*.log\", \"app/**/*.txt\", \"x?/[ab].{out,err}\"], exclude: [\"debug-*.log\", \"**/skip/**\"]",
    ));
    let (wanted, others) = (
        ["a.log", "app/1.txt", "app/b/c/2.txt", "x1/a.out", "x2/b.err"],
        ["debug-a.log", "b/a.log", "a.log.1", "app/skip/3.txt", "app/b/skip/c/4.txt", "x1/c.out", "xx1/a.out", "1.txt"],
    );
    for name in wanted.iter().chain(&others) {
        site.write(&format!("logs/{name}"), format!("{name}\n"));
    }
    site.run().assert_counts("a/b", [5, 5, 0, 0]);
    assert_eq!(sorted(site.contents("a/b")), wanted);
}

#[test]
fn nothing_outside_the_root_is_read_and_nothing_inside_it_twice() {
    let site = Site::new();
    site.config(&raw("include: [\"**/*.log\"]"));
    site.write("outside/secret.log", "secret\n");
    site.write("logs/in/a.log", "a\n");
    symlink(site.path("outside/secret.log"), site.path("logs/absolute.log")).unwrap();
    symlink("../outside/secret.log", site.path("logs/relative.log")).unwrap();
    symlink("../outside", site.path("logs/directory")).unwrap();
    symlink("/proc/self/environ", site.path("logs/proc.log")).unwrap();
    symlink("loop.log", site.path("logs/loop.log")).unwrap();
    symlink("in/a.log", site.path("logs/inside.log")).unwrap();
    fs::hard_link(site.path("logs/in/a.log"), site.path("logs/in/b.log")).unwrap();
    site.run().assert_counts("a/b", [1, 1, 0, 0]);
    assert_eq!(site.contents("a/b"), ["a"]);
}

#[test]
fn a_symlink_inside_the_root_is_read() {
    let site = Site::new();
    site.config(RAW);
    site.write("logs/real/a.txt", "a\n");
    symlink("real/a.txt", site.path("logs/current.log")).unwrap();
    site.run().assert_counts("a/b", [1, 1, 0, 0]);
    assert_eq!(site.contents("a/b"), ["a"]);
}

#[test]
fn what_is_no_file_is_passed_over() {
    let site = Site::new();
    site.config(RAW);
    site.write("logs/a.log", "a\n");
    fs::create_dir(site.path("logs/directory.log")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(site.path("logs/s.log")).unwrap();
    let fifo = |path: &Path| mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    fifo(&site.path("logs/fifo.log"));
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 1);
    fifo(&site.path("logs/later.log"));
    fs::remove_file(site.path("logs/a.log")).unwrap();
    fifo(&site.path("logs/a.log"));
    site.write("logs/b.log", "b\n");
    agent.wait_for_lines("a/b", 2);
    agent.stop().assert_counts("a/b", [2, 2, 0, 0]);
    assert_eq!(site.contents("a/b"), ["a", "b"]);
}

#[test]
fn two_logstores_may_read_the_same_file() {
    let site = Site::new();
    site.write("logs/a.log", numbers(0..1000));
    let other = "- name: c/d\n  files: { root: logs }\n  plugins: [{ use: weir-evil, settings: { mode: drop-all } }]\n  sink: out\n";
    site.config(&format!("{other}{RAW}"));
    let ran = site.run();
    ran.assert_counts("a/b", [1000, 1000, 0, 0]);
    ran.assert_counts("c/d", [1000, 0, 0, 1000]);
    assert_eq!(site.contents("a/b"), numbered(0..1000));
    assert_eq!(site.contents("c/d"), [""; 0]);
}

#[test]
fn an_agent_runs_the_logstores_of_its_groups_and_those_of_none() {
    let site = Site::new();
    site.write("logs/a.log", numbers(0..3));
    let logstore =
        |name, groups| format!("- name: {name}\n  machine_groups: {groups}\n  files: {{ root: logs }}\n  sink: out\n");
    site.config(&(logstore("p/one", "[one]") + &logstore("p/two", "[two, three]") + &logstore("p/all", "[]")));
    let ran_by = |args: &[&str]| {
        let _ = fs::remove_dir_all(site.path("data"));
        let ran = site.run_with(args);
        ran.assert_code(0);
        ran.summary.values().for_each(|accounts| assert_eq!(accounts["delivered"], 3));
        ran.summary.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(ran_by(&[]), ["p/all"]);
    assert_eq!(ran_by(&["--machine-group", "one"]), ["p/all", "p/one"]);
    assert_eq!(ran_by(&["--machine-group", "three"]), ["p/all", "p/two"]);
    assert_eq!(ran_by(&["--machine-group", "one,two"]), ["p/all", "p/one", "p/two"]);
    assert_eq!(ran_by(&["--machine-group", "one", "--machine-group", "other"]), ["p/all", "p/one"]);
    assert_eq!(site.contents("p/two"), ["0", "1", "2"].repeat(2));
}

#[test]
fn many_files_each_keep_their_order() {
    let site = Site::new();
    site.config(&raw("include: [\"**/*.log\"]"));
    let (files, lines) = (300, 100);
    for file in 0..files {
        let text: String = (0..lines).map(|line| format!("{file} {line}\n")).collect();
        site.write(&format!("logs/{}/{file}.log", file % 7), text);
    }
    site.run().assert_counts("a/b", [files * lines, files * lines, 0, 0]);
    let mut all = contents(&site.events("a/b"));
    // Stable: the lines of a file stay in the order in which they came.
    all.sort_by_key(|line| line.split_once(' ').unwrap().0.parse::<u64>().unwrap());
    let expected: Vec<_> = (0..files).flat_map(|file| (0..lines).map(move |line| format!("{file} {line}"))).collect();
    assert_eq!(all, expected);
}
