//! No space left under the file sink.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::harness::{Agent, Site, binary, contents, numbered, numbers, parse};

const RAW: &str = "- name: a/b\n  files: { root: logs }\n  sink: out";
const EVENTS: u64 = 5000;
const COMPLAINT: &str = "cannot write, trying again until it works; nothing is lost: ";

/// Whether we may mount something where only the agent sees it, and by which command.
fn private_mount() -> Option<&'static [&'static str]> {
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
    let m = private_mount(); eprintln!("MOUNT {m:?}");
    match m {
        Some(flags) => on_a_small_disk(&site, flags),
        None => on_a_device_that_is_always_full(&site),
    }
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
    site.append("logs/a.log", numbers(0..EVENTS));
    agent.wait_to_say(COMPLAINT);
    agent.wait_to_say("No space left on device");
    let partial = fs::read(&out).unwrap();
    assert!(!partial.is_empty() && parse_whole(&partial).len() < EVENTS as usize);

    fs::remove_file(in_the_way).unwrap();
    agent.wait_to_say("writing works again");
    agent.wait("all lines", |_| fs::read(&out).unwrap().iter().filter(|b| **b == b'\n').count() >= EVENTS as usize);
    site.append("logs/a.log", numbers(EVENTS..EVENTS + 10));
    agent.wait("the last lines", |_| fs::read(&out).unwrap().ends_with(last_line(site).as_bytes()));
    // Before it stops: the file system goes with it.
    let bytes = fs::read(&out).unwrap();
    let ran = agent.stop();
    eprintln!("{}", ran.stderr);
    ran.assert_settled();
    ran.assert_counts("a/b", [EVENTS + 10, EVENTS + 10, 0, 0]);
    assert_eq!(ran.stderr.matches(COMPLAINT).count(), 1, "{}", ran.stderr);
    assert_eq!(contents(&parse(&bytes)), numbered(0..EVENTS + 10));
    assert_eq!(site.settled("a/b").into_values().collect::<Vec<_>>(), [numbers(0..EVENTS + 10).len() as u64]);
}

/// The lines that have an end.
fn parse_whole(bytes: &[u8]) -> Vec<serde_json::Value> {
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    parse(&bytes[..end])
}

/// How the last event that is written ends.
fn last_line(site: &Site) -> String {
    let (path, host) = (site.path("logs/a.log"), rustix::system::uname());
    let host = host.nodename().to_str().unwrap();
    format!("{{\"content\":\"{}\",\"__tags__\":{{\"path\":{path:?},\"host\":{host:?}}}}}\n", EVENTS + 9)
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
