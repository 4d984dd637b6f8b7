//! The real logrotate, while a log is written at 20,000 lines a second.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Site, beside, numbered, numbers, raw};

/// Lines that are written at once, and how often.
const BURST: u64 = 100;
const EVERY: Duration = Duration::from_millis(5);

const ROTATIONS: usize = 6;
/// From the end of a rotation to the next.
const BETWEEN: Duration = Duration::from_millis(450);

/// The writer is asked to open its log again, and it has when the flag is gone.
const REOPEN: &str = "create
    postrotate
        touch REOPEN
        for i in $(seq 3000); do test -e REOPEN || exit 0; sleep 0.01; done; exit 1
    endscript";

fn logrotate(site: &Site) -> Command {
    // /usr/sbin is not on every user's path.
    let works = |program: &&str| {
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    };
    let program = ["logrotate", "/usr/sbin/logrotate"].into_iter().find(works);
    let mut command = Command::new(program.expect("logrotate is not installed: apt-get install logrotate"));
    command.arg("--force").arg("--state").arg(site.path("logrotate.state")).arg(site.path("logrotate.conf"));
    command
}

/// A logstore of `app.log` and all that rotation makes of it, and logrotate's configuration for it.
fn site(directives: &str) -> Site {
    let site = Site::new();
    site.config(&raw("include: [\"app.log*\"], poll_interval: 200ms"));
    let directives = directives.replace("REOPEN", site.path("reopen").to_str().unwrap());
    site.write(
        "logrotate.conf",
        format!("{:?} {{\n    rotate 50\n    nodateext\n    {directives}\n}}\n", site.path("logs/app.log")),
    );
    // It believes none that others may write to.
    fs::set_permissions(site.path("logrotate.conf"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    site
}

fn rotate(site: &Site) {
    let output = logrotate(site).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "logrotate: {}; it said:\n{said}", output.status);
}

/// A program that logs numbered lines.
struct Writer<'a> {
    site: &'a Site,
    file: File,
    next: u64,
    begun: Instant,
    bursts: u32,
}

impl<'a> Writer<'a> {
    fn new(site: &'a Site) -> Self {
        Writer { site, file: open(&site.path("logs/app.log")), next: 0, begun: Instant::now(), bursts: 0 }
    }

    /// Writes some lines, when it is time for them.
    fn burst(&mut self) {
        self.bursts += 1;
        thread::sleep((self.begun + EVERY * self.bursts).saturating_duration_since(Instant::now()));
        self.file.write_all(numbers(self.next..self.next + BURST).as_bytes()).unwrap();
        self.next += BURST;
    }

    fn reopen_if_asked(&mut self) {
        let flag = self.site.path("reopen");
        if flag.exists() {
            self.file = open(&self.site.path("logs/app.log"));
            fs::remove_file(flag).unwrap();
        }
    }
}

fn open(path: &Path) -> File {
    OpenOptions::new().append(true).create(true).open(path).unwrap()
}

/// Has the log rotated while it is written and followed. Its writer opens it again when asked to.
fn rotate_by_renaming(directives: &str) {
    let site = site(directives);
    let mut writer = Writer::new(&site);
    let mut agent = site.start();
    let write = |is_done: &AtomicBool| {
        while !is_done.load(Ordering::Relaxed) {
            writer.burst();
            writer.reopen_if_asked();
        }
        writer.next
    };
    let (written, ()) = beside(write, || {
        for _ in 0..ROTATIONS {
            thread::sleep(BETWEEN);
            rotate(&site);
        }
    });
    agent.wait_for_lines("a/b", written as usize);
    agent.stop().assert_counts("a/b", [written, written, 0, 0]);
    // Nothing is read once more, whatever its name is by now.
    site.run().assert_counts("a/b", [0, 0, 0, 0]);
    assert_in_order(&site.contents("a/b"), written);
}

/// A rotated file ends before its successor begins, so that all is in the order in which it was written.
#[track_caller]
fn assert_in_order(contents: &[String], written: u64) {
    let expected = numbered(0..written);
    let wrong = contents.iter().zip(&expected).position(|(is, should)| is != should);
    assert_eq!(wrong.map(|at| (&contents[at], &expected[at])), None, "the first that is out of order, lost or doubled");
    assert_eq!(contents.len(), expected.len());
}

#[test]
fn renamed_files_come_out_once_and_in_order() {
    rotate_by_renaming(REOPEN);
}

#[test]
fn files_that_are_compressed_at_once_come_out_once_and_in_order() {
    rotate_by_renaming(&format!("compress\n    {REOPEN}"));
}

#[test]
fn files_that_are_compressed_later_come_out_once_and_in_order() {
    rotate_by_renaming(&format!("compress\n    delaycompress\n    {REOPEN}"));
}

#[test]
fn copied_and_truncated_files_come_out_once() {
    rotate_by_copying("copytruncate");
}

#[test]
fn copied_truncated_and_compressed_files_come_out_once() {
    rotate_by_copying("copytruncate\n    compress");
}

/// What logrotate copies and then truncates must not be written between, so the writer has it rotate.
fn rotate_by_copying(directives: &str) {
    let site = site(directives);
    let mut agent = site.start();
    let mut writer = Writer::new(&site);
    // Where each copy ends.
    let mut ends = Vec::new();
    for _ in 0..ROTATIONS {
        let until = Instant::now() + BETWEEN;
        while Instant::now() < until {
            writer.burst();
        }
        rotate(&site);
        ends.push(writer.next);
    }
    writer.burst();
    ends.push(writer.next);
    let written = writer.next;
    agent.wait_for_lines("a/b", written as usize);
    agent.stop().assert_counts("a/b", [written, written, 0, 0]);
    site.run().assert_counts("a/b", [0, 0, 0, 0]);
    assert_in_order_by_file(site.contents("a/b"), &ends);
}

/// What was not read before the file was truncated comes from its copy, after the same lines; what is written to the
/// file meanwhile may overtake it.
#[track_caller]
fn assert_in_order_by_file(contents: Vec<String>, ends: &[u64]) {
    let mut files = vec![Vec::new(); ends.len()];
    for content in contents {
        let number: u64 = content.parse().unwrap();
        files[ends.partition_point(|end| *end <= number)].push(content);
    }
    let begins = std::iter::once(0).chain(ends.iter().copied());
    for ((begin, end), file) in begins.zip(ends).zip(files) {
        let expected = numbered(begin..*end);
        assert!(file == expected, "some of {begin} to {end} are lost, doubled or out of order");
    }
}
