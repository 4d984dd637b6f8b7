//! No space left under the file sink.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flate2::read::MultiGzDecoder;

use crate::harness::{Agent, Site, binary, contents, numbered, numbers, parse};

const RAW: &str = "- name: a/b\n  files: { root: logs }\n  sink: out";
const EVENTS: u64 = 4000;
const COMPLAINT: &str = "cannot write, trying again until it works; nothing is lost: ";

/// Whether we may mount something where only the agent sees it, and by which command.
pub fn private_mount() -> Option<&'static [&'static str]> {
    const TRY: [&[&str]; 2] = [&["-m"], &["-rm"]];
    let works = |flags: &&&[&str]| {
        let mut command = Command::new("unshare");
        command.args(**flags).args(["mount", "-t", "tmpfs", "-o", "size=2m", "none", "/mnt"]);
        command.stdin(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    TRY.iter().find(works).copied()
}

#[test]
fn a_full_disk_is_waited_for_and_everything_comes_out_once() {
    let site = Site::new();
    site.config(RAW);
    fs::create_dir_all(site.path("out")).unwrap();
    match private_mount() {
        Some(flags) => on_a_small_disk(&site, flags),
        None => on_a_device_that_is_always_full(&site),
    }
}

#[test]
fn a_full_disk_under_the_checkpoint_ends_no_logstore_that_is_to_begin_anew() {
    let Some(flags) = private_mount() else { return eprintln!("nothing can be mounted here") };
    let site = Site::new();
    site.config(RAW);
    let mut command = Command::new("unshare");
    command.args(flags).args(["sh", "-c", "mount -t tmpfs -o size=4m none data && exec \"$0\" \"$@\""]).arg(binary());
    let mut agent = site.start_by(command);
    site.append("logs/a.log", numbers(0..10));
    agent.wait_for_lines("a/b", 10);
    let data = PathBuf::from(format!("/proc/{}/root{}", agent.pid(), site.path("data").display()));
    let in_the_way = data.join("in-the-way");
    let mut file = File::create(&in_the_way).unwrap();
    while file.write_all(&[1; 512]).is_ok() {}
    // More than there is room for, until it is known.
    let mut lines = 10;
    agent.wait("a complaint", |site| {
        if site.contents("a/b").len() as u64 == lines {
            let more = lines..lines + 500;
            more.clone().for_each(|number| site.append(&format!("logs/{number}.log"), numbers(number..number + 1)));
            lines = more.end;
        }
        fs::read_to_string(site.path("stderr")).unwrap().contains("writing the checkpoint")
    });
    agent.wait_for_lines("a/b", lines as usize);
    // It is refused, as what is settled cannot be written, or applied; and whichever it is, the logstore goes on.
    site.config("- name: a/b\n  files: { root: logs, include: ['*.log'] }\n  sink: out");
    agent.wait_to_say("the configuration is ");
    site.append("logs/a.log", numbers(lines..lines + 10));
    let last = (lines + 9).to_string();
    agent.wait("the last line", |site| site.contents("a/b").contains(&last));
    fs::remove_file(in_the_way).unwrap();
    agent.kill();
    let seen: BTreeSet<u64> = site.contents("a/b").iter().map(|line| line.parse().unwrap()).collect();
    assert_eq!(seen, (0..lines + 10).collect());
}

/// Lines of several lengths, so that space does not run out at the end of one.
fn lines(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|number| format!("{number} {}", "x".repeat(number as usize % 17))).collect()
}

/// An agent whose `out` is a file system of 2 MiB, most of which is taken by a file that is in the way.
fn on_a_small_disk(site: &Site, flags: &[&str]) {
    let mut command = Command::new("unshare");
    let script =
        "mount -t tmpfs -o size=2m none out && head -c 1800000 /dev/zero > out/in-the-way && exec \"$0\" \"$@\"";
    command.args(flags).args(["sh", "-c", script]).arg(binary());
    site.write("logs/a.log", "");
    let mut agent = site.start_by(command);
    let inside = |agent: &Agent, name: &str| -> PathBuf {
        // What the agent sees, which we do not.
        format!("/proc/{}/root{}", agent.pid(), site.path("out").join(name).display()).into()
    };
    let (in_the_way, out) = (inside(&agent, "in-the-way"), inside(&agent, "a/b.ndjson"));
    agent.wait_to_say("running");
    let text = |range| lines(range).join("\n") + "\n";
    site.append("logs/a.log", text(0..EVENTS));
    agent.wait_to_say(COMPLAINT);
    agent.wait_to_say("No space left on device");
    let size = || fs::metadata(&out).unwrap().len();
    assert!(size() > 0);

    // A little space, and a little more, neither enough.
    for space in [1_780_000, 1_760_000] {
        let before = size();
        OpenOptions::new().write(true).open(&in_the_way).unwrap().set_len(space).unwrap();
        agent.wait("more lines", |_| size() > before);
    }
    let partial = fs::read(&out).unwrap();
    assert!(partial.iter().filter(|byte| **byte == b'\n').count() < EVENTS as usize);
    fs::remove_file(in_the_way).unwrap();
    agent.wait_to_say("writing works again");

    site.append("logs/a.log", text(EVENTS..EVENTS + 10));
    let last = format!("{{\"content\":\"{}\"", lines(EVENTS + 9..EVENTS + 10)[0]);
    let has_last = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().any(|line| line.starts_with(&last));
    agent.wait("the last line", |_| fs::read(&out).is_ok_and(|bytes| bytes.ends_with(b"\n") && has_last(&bytes)));
    // Before it stops: the file system goes with it.
    let bytes = fs::read(&out).unwrap();
    let ran = agent.stop();
    ran.assert_settled();
    ran.assert_counts("a/b", [EVENTS + 10, EVENTS + 10, 0, 0]);
    // Once for each time that it begins to be full: how payloads are cut decides how often.
    assert!((1..=3).contains(&ran.stderr.matches(COMPLAINT).count()), "{}", ran.stderr);
    assert!(contents(&parse(&bytes)) == lines(0..EVENTS + 10), "some are lost, doubled or out of order");
    assert_eq!(site.settled("a/b").into_values().collect::<Vec<_>>(), [text(0..EVENTS + 10).len() as u64]);
}

/// Where nothing can be mounted: the output is `/dev/full`, and then it is a file.
fn on_a_device_that_is_always_full(site: &Site) {
    site.write("logs/a.log", numbers(0..EVENTS));
    fs::create_dir_all(site.path("out/a")).unwrap();
    let out = site.path("out/a/b.ndjson");
    symlink("/dev/full", &out).unwrap();
    let mut agent = site.start();
    agent.wait_to_say(COMPLAINT);
    agent.wait_to_say("No space left on device");
    fs::remove_file(&out).unwrap();
    agent.wait_to_say("writing works again");
    agent.wait_for_lines("a/b", EVENTS as usize);
    let ran = agent.stop();
    ran.assert_counts("a/b", [EVENTS, EVENTS, 0, 0]);
    assert_eq!(site.contents("a/b"), numbered(0..EVENTS));
}

#[test]
fn a_full_disk_holds_files_that_are_rotated_and_compressed() {
    let Some(flags) = private_mount() else { return };
    let site = Site::new();
    site.write(
        "weir.yaml",
        "data_dir: data
logstores:
  - { name: a/b, files: { root: logs }, sink: out }
sinks:
  out:
    type: file
    path: 'out/{project}/{logstore}.ndjson'
    rotate: { size: 64KiB, keep: 1000 }
    compression: gzip
    sync: payload
",
    );
    fs::create_dir_all(site.path("out")).unwrap();
    let mut command = Command::new("unshare");
    let script =
        "mount -t tmpfs -o size=16m none out && head -c 16400000 /dev/zero > out/in-the-way && exec \"$0\" \"$@\"";
    command.args(flags).args(["sh", "-c", script]).arg(binary());
    // What hardly gets smaller.
    let mut random = fastrand::Rng::with_seed(1);
    let line = |number: u64| format!("{number} {}\n", (0..300).map(|_| random.alphanumeric()).collect::<String>());
    let text: String = (0..EVENTS).map(line).collect();
    site.write("logs/a.log", &text);
    let mut agent = site.start_by(command);
    agent.wait_to_say("No space left on device");
    let out: PathBuf = format!("/proc/{}/root{}", agent.pid(), site.path("out").display()).into();
    fs::remove_file(out.join("in-the-way")).unwrap();
    let mut found = Vec::new();
    agent.wait("all lines", |_| {
        found = everything(&out.join("a"));
        found.len() as u64 >= EVENTS
    });
    agent.stop().assert_counts("a/b", [EVENTS, EVENTS, 0, 0]);
    assert!(found.iter().map(|content| format!("{content}\n")).collect::<String>() == text, "some are lost or doubled");
}

/// The contents of all files of a directory, in the order of their names; none, if it changes meanwhile.
fn everything(dir: &Path) -> Vec<String> {
    let list = || -> Vec<_> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut entries: Vec<_> = entries.collect();
        // The one that is written to is the newest.
        entries.sort_by_key(|path| (path.extension().is_some_and(|extension| extension == "ndjson"), path.clone()));
        entries
    };
    let (before, mut bytes) = (list(), Vec::new());
    for path in &before {
        let Ok(mut file) = File::open(path) else { return Vec::new() };
        let is_read = match path.extension().and_then(|extension| extension.to_str()) {
            Some("part") => return Vec::new(),
            Some("gz") => MultiGzDecoder::new(file).read_to_end(&mut bytes).is_ok(),
            _ => file.read_to_end(&mut bytes).is_ok(),
        };
        if !is_read || !bytes.is_empty() && !bytes.ends_with(b"\n") {
            return Vec::new();
        }
    }
    let plain = |path: &PathBuf| path.extension().is_none_or(|extension| extension != "gz" && extension != "ndjson");
    if list() != before || before.iter().any(plain) { Vec::new() } else { contents(&parse(&bytes)) }
}

#[test]
fn a_sink_that_never_works_leaves_its_events_for_later() {
    let site = Site::new();
    site.config(RAW);
    site.write("logs/a.log", numbers(0..EVENTS));
    // Where the directory should be there is a file.
    site.write("out", "in the way");
    let mut agent = site.start();
    agent.wait_to_say(COMPLAINT);
    agent.kill();
    assert_eq!(site.settled("a/b"), [].into());
    fs::remove_file(site.path("out")).unwrap();
    site.run().assert_counts("a/b", [EVENTS, EVENTS, 0, 0]);
    assert_eq!(site.contents("a/b"), numbered(0..EVENTS));
}

#[test]
fn a_full_disk_holds_up_no_other_sink() {
    let site = Site::new();
    site.write(
        "weir.yaml",
        "data_dir: data
logstores:
  - { name: a/full, files: { root: logs }, sink: full }
  - { name: a/b, files: { root: logs }, sink: out }
sinks:
  full: { type: file, path: /dev/full }
  out: { type: file, path: \"out/{project}/{logstore}.ndjson\" }
",
    );
    // More than may be on its way at once.
    site.write("logs/a.log", numbers(0..200_000));
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 200_000);
    agent.wait_to_say("/dev/full: No space left on device");
    site.append("logs/a.log", numbers(200_000..200_010));
    agent.wait_for_lines("a/b", 200_010);
    agent.kill();
    assert!(site.contents("a/b") == numbered(0..200_010), "some are lost, doubled or out of order");
    assert_eq!(site.settled("a/full"), [].into());
}
