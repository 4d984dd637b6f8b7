//! A volume that belongs to a tenant who wants other people's files, or the agent's time.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};

use crate::cost::status;
use crate::harness::{POLL, Ran, Site, beside, contents, numbered, numbers};

const SECRET: &str = "the other tenant's secret";
/// Even.
const SWAPS: usize = 10_000;

/// A volume of two tenants, whose first is read, and is hostile.
fn site(files: &str) -> Site {
    let site = Site::new();
    site.config(&format!("- name: a/b\n  files: {{ root: logs/tenant, {files} }}\n  sink: out"));
    fs::create_dir(site.path("logs/tenant")).unwrap();
    site.write("logs/other/secret.log", format!("{SECRET}\n"));
    site
}

/// Panics if anything that is not the tenant's came out anywhere.
#[track_caller]
fn assert_no_secrets(site: &Site, ran: &Ran) {
    for bytes in [&site.ndjson("a/b")[..], ran.stderr.as_bytes(), &ran.stdout] {
        let text = String::from_utf8_lossy(bytes);
        assert!(!text.contains(SECRET) && !text.contains("root:x:0"), "a secret came out: {text}");
    }
}

#[test]
fn links_out_are_refused_counted_and_told_of() {
    let site = site("include: [\"**/*.log\"]");
    let logs = |name: &str| site.path("logs/tenant").join(name);
    site.write("logs/tenant/a.log", numbers(0..10));
    symlink("/etc/passwd", logs("passwd.log")).unwrap();
    symlink(site.path("logs/other/secret.log"), logs("absolute.log")).unwrap();
    symlink("../other/secret.log", logs("relative.log")).unwrap();
    // By another link, and by directories that are links themselves.
    symlink("passwd.log", logs("chain.log")).unwrap();
    symlink("../other", logs("directory")).unwrap();
    symlink("directory/secret.log", logs("through.log")).unwrap();
    symlink("/", logs("everything")).unwrap();
    fs::create_dir(logs("inner")).unwrap();
    symlink("../../other/secret.log", logs("inner/up.log")).unwrap();
    symlink("inner/../../other/secret.log", logs("about.log")).unwrap();
    symlink("/proc/self/root/etc/passwd", logs("proc.log")).unwrap();
    let ran = site.run();
    ran.assert_counts("a/b", [10, 10, 0, 0]);
    assert_eq!(site.contents("a/b"), numbered(0..10));
    assert_no_secrets(&site, &ran);
    let refused = ["passwd", "absolute", "relative", "chain", "through", "inner/up", "about", "proc"];
    assert_eq!(ran.summary["a/b"]["refused"], refused.len() as u64);
    for name in refused {
        let path = logs(&format!("{name}.log")).display().to_string();
        let told = ran.stderr.lines().filter(|line| line.contains(" WARN ") && line.contains(&path));
        assert_eq!(told.count(), 1, "of {name}: {}", ran.stderr);
    }
}

#[test]
fn names_with_dots_are_names() {
    let site = site("include: [\"**/*.log\"]");
    let names = ["...log", "..log.log", "a..b.log", "x../y...log"];
    for name in names {
        site.write(&format!("logs/tenant/{name}"), format!("{name}\n"));
    }
    site.run().assert_counts("a/b", [4, 4, 0, 0]);
    let mut all = site.contents("a/b");
    all.sort();
    assert_eq!(all, names);
}

#[test]
fn globs_cannot_lead_out() {
    let site = site("include: [\"../other/*.log\", \"*/../../other/*.log\", \"*.log\"]");
    site.write("logs/tenant/a.log", "mine\n");
    let done = site.output(["run", "-c", "weir.yaml", "--until-idle"]);
    // Whether they are refused or match nothing, what they mean is not read.
    assert!(!String::from_utf8_lossy(&site.ndjson("a/b")).contains(SECRET), "{done:?}");
    assert!([0, 78].contains(&done.status.code().unwrap()), "{done:?}");
}

/// Exchanges two names, again and again. In the end they are what they were.
fn swap(a: &Path, b: &Path) {
    for _ in 0..SWAPS {
        renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).unwrap();
    }
}

#[test]
fn a_file_that_becomes_a_link_and_back_leads_nowhere() {
    let site = site("include: [\"**/*.log\"], poll_interval: 10ms");
    let logs = |name: &str| site.path("logs/tenant").join(name);
    site.write("logs/tenant/swapped.log", numbers(0..100));
    symlink("../other/secret.log", logs("aside")).unwrap();
    site.write("logs/tenant/inner/deep.log", numbers(100..200));
    symlink("../other", logs("outside")).unwrap();
    fs::hard_link(site.path("logs/other/secret.log"), site.path("logs/other/deep.log")).unwrap();
    site.write("logs/tenant/quiet.log", "");
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 200);
    // Another file is written meanwhile.
    let write = |is_over: &AtomicBool| {
        let mut lines = 0;
        while !is_over.load(Ordering::Relaxed) {
            site.append("logs/tenant/quiet.log", numbers(1000 + lines..1010 + lines));
            lines += 10;
            thread::sleep(POLL);
        }
        lines
    };
    let (lines, ()) = beside(write, || {
        thread::scope(|scope| {
            scope.spawn(|| swap(&logs("swapped.log"), &logs("aside")));
            swap(&logs("inner"), &logs("outside"));
        });
    });
    site.append("logs/tenant/swapped.log", numbers(200..210));
    site.append("logs/tenant/inner/deep.log", numbers(210..220));
    agent.wait_for_lines("a/b", 220 + lines as usize);
    let ran = agent.stop();
    assert_no_secrets(&site, &ran);
    ran.assert_counts("a/b", [220 + lines, 220 + lines, 0, 0]);
    let mut all: Vec<u64> = site.contents("a/b").iter().map(|number| number.parse().unwrap()).collect();
    all.sort();
    assert!(all == (0..220).chain(1000..1000 + lines).collect::<Vec<_>>(), "some are lost or doubled");
}

#[test]
fn what_takes_a_files_place_holds_nobody_up() {
    let site = site("include: [\"**/*.log\"], poll_interval: 10ms");
    let logs = |name: &str| site.path("logs/tenant").join(name);
    site.write("logs/tenant/a.log", "a\n");
    site.write("logs/tenant/pipe.log", "file\n");
    mknodat(CWD, logs("aside"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(logs("socket.log")).unwrap();
    fs::create_dir(logs("directory.log")).unwrap();
    symlink("aside", logs("link.log")).unwrap();
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 2);
    swap(&logs("pipe.log"), &logs("aside"));
    site.append("logs/tenant/pipe.log", "more\n");
    site.append("logs/tenant/a.log", "b\n");
    site.write("logs/tenant/directory.log/inside.log", "inside\n");
    agent.wait_for_lines("a/b", 5);
    agent.stop().assert_counts("a/b", [5, 5, 0, 0]);
    let mut all = site.contents("a/b");
    all.sort();
    assert_eq!(all, ["a", "b", "file", "inside", "more"]);
}

#[test]
fn a_hole_of_1_gib_is_one_long_line() {
    for (policy, events, count) in [("truncate", 3, "truncated"), ("skip", 2, "discarded")] {
        let site = site(&format!("max_line: 64KiB, long_lines: {policy}"));
        site.write("logs/tenant/a.log", "first\n");
        File::options().append(true).open(site.path("logs/tenant/a.log")).unwrap().set_len(1 << 30).unwrap();
        site.append("logs/tenant/a.log", "end of it\nlast\n");
        let mut agent = site.start();
        agent.wait_for_lines("a/b", events);
        let peak = status(agent.pid(), "VmHWM");
        let ran = agent.stop();
        assert_eq!([ran.summary["a/b"]["read"], ran.summary["a/b"][count]], [3, 1], "{policy}");
        let all = site.contents("a/b");
        assert_eq!((&*all[0], &*all[events - 1], all.len()), ("first", "last", events), "{policy}");
        if events == 3 {
            assert!(all[1] == "\0".repeat(64 << 10), "{} bytes", all[1].len());
        }
        assert!(peak < 64 << 20, "{} MiB at the most", peak >> 20);
    }
}

#[test]
fn names_of_all_kinds_are_read_and_cannot_forge_what_the_agent_says() {
    let site = site("include: [\"**/*.log\"]");
    let names: [&[u8]; 6] =
        [b"caf\xe9.log", b"new\nline.log", b"\"quote\".log", b"back\\slash.log", b"\x1b[31mred.log", b" .log"];
    for (number, name) in names.into_iter().enumerate() {
        let path = site.path("logs/tenant").join(OsStr::from_bytes(name));
        fs::write(path, format!("{number}\n")).unwrap();
    }
    let link = site.path("logs/tenant/x\n2026-01-02T03:04:05Z ERROR forged\x1b[2J.log");
    symlink("/etc/passwd", link).unwrap();
    let ran = site.run();
    ran.assert_counts("a/b", [6, 6, 0, 0]);
    let mut events = site.events("a/b");
    events.sort_by_key(|event| event["content"].as_str().unwrap().to_owned());
    assert_eq!(contents(&events), numbered(0..6));
    for (event, name) in events.iter().zip(names) {
        let path = event["__tags__"]["path"].as_str().unwrap();
        assert!(path.ends_with(&format!("/{}", String::from_utf8_lossy(name))), "{path}");
    }
    assert_eq!(ran.summary["a/b"]["refused"], 1);
    let is_forged = |line: &str| line.starts_with("2026-01-02T03:04:05Z") || line.contains('\x1b');
    assert!(!ran.stderr.lines().any(is_forged), "{}", ran.stderr);
    assert_no_secrets(&site, &ran);
}

#[test]
fn three_files_among_100_000_others_are_found() {
    let site = site("poll_interval: 100ms");
    thread::scope(|scope| {
        for half in 0..2 {
            let dir = site.path("logs/tenant");
            scope.spawn(move || {
                for number in (half..100_000).step_by(2) {
                    File::create(dir.join(format!("{number}.txt"))).unwrap();
                }
            });
        }
    });
    for name in ["a", "m", "z"] {
        site.write(&format!("logs/tenant/{name}.log"), format!("{name}\n"));
    }
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 3);
    for round in 0..3 {
        site.append("logs/tenant/m.log", format!("{round}\n"));
        agent.wait_for_lines("a/b", 4 + round);
    }
    agent.stop().assert_counts("a/b", [6, 6, 0, 0]);
    let mut all = site.contents("a/b");
    all.sort();
    assert_eq!(all, ["0", "1", "2", "a", "m", "z"]);
}
