//! `weir pipe --watch`: a real project, as its author edits it.

use std::fs;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{POLL, Site, cache_home, parse, repository};

/// Building a project takes some seconds, and a minute where others build too.
const DEADLINE: Duration = Duration::from_secs(300);

const LIB: &str = r#"
use weir_plugin::prelude::*;

pub struct Level {
    level: FieldId,
    message: FieldId,
}

impl Plugin for Level {
    type Settings = NoSettings;

    fn new(_: NoSettings, fields: &mut Fields) -> Result<Self, String> {
        Ok(Level { level: fields.add("LEVEL", Kind::Text), message: fields.add("message", Kind::Text) })
    }

    fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure> {
        let line = event.text().ok_or("not UTF-8")?;
        let (level, message) = line.split_once(": ").ok_or("no level")?;
        row.put(self.level, level.as_bytes());
        row.put(self.message, message.as_bytes());
        Ok(Keep)
    }
}

weir_plugin::export!(Level);
"#;

/// A project in the directory `level`, whose dependencies are the workspace's own.
fn write_project(site: &Site) {
    let sdk = repository().join("sdk/rust");
    let manifest = format!(
        "[package]\nname = \"level\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[lib]\ncrate-type = [\"cdylib\", \"rlib\"]\n\n\
         [dependencies]\nweir-plugin = {{ path = {sdk:?} }}\nserde = {{ version = \"1\", features = [\"derive\"] }}\n\n[workspace]\n"
    );
    site.write("level/Cargo.toml", manifest);
    site.write("level/Cargo.lock", fs::read(repository().join("Cargo.lock")).unwrap());
    site.write("level/src/lib.rs", LIB.replace("LEVEL", "level"));
}

/// A command that goes on, and what it has said; ended when it is dropped.
struct Watching<'a> {
    site: &'a Site,
    child: Child,
}

impl<'a> Watching<'a> {
    fn start(site: &'a Site, args: &[&str]) -> Watching<'a> {
        let file = |name: &str| fs::File::create(site.path(name)).unwrap();
        let mut command = site.weir(args);
        command.env("CARGO_TARGET_DIR", cache_home().join("authors"));
        let child = command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr")).spawn().unwrap();
        Watching { site, child }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.site.path("stderr")).unwrap()
    }

    /// Waits until it has come to an end so many times. Gives the line that says so.
    #[track_caller]
    fn wait_for_round(&mut self, round: usize) -> String {
        let begun = Instant::now();
        loop {
            let said = self.said();
            let mut ends = said.lines().filter(|line| line.contains("; waiting for changes of level, Ctrl-C ends"));
            if let Some(end) = ends.nth(round - 1) {
                return end.to_owned();
            }
            assert!(self.child.try_wait().unwrap().is_none() && begun.elapsed() < DEADLINE, "round {round}: {said}");
            thread::sleep(POLL);
        }
    }

    fn events(&self) -> Vec<serde_json::Value> {
        parse(&fs::read(self.site.path("stdout")).unwrap())
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_saved_file_is_built_and_the_same_lines_go_through_it() {
    let site = Site::new();
    write_project(&site);
    site.write("app.log", "warn: disk\noops\n");
    let mut watching = Watching::start(&site, &["pipe", "--watch", "level", "--input", "app.log"]);
    let end = watching.wait_for_round(1);
    assert!(end.contains(" s from the change to the output;"), "{end}");
    let events = watching.events();
    assert_eq!(events.len(), 2, "{}", watching.said());
    assert_eq!((&events[0]["level"], &events[0]["message"]), (&"warn".into(), &"disk".into()));
    assert_eq!(events[1]["__error__"], "level: no level");

    // As an editor saves: another file in its place.
    site.write("level/src/.lib.rs.new", LIB.replace("LEVEL", "severity"));
    site.rename("level/src/.lib.rs.new", "level/src/lib.rs");
    watching.wait_for_round(2);
    assert_eq!(watching.events()[2]["severity"], "warn");

    site.write("level/src/lib.rs", "this is no Rust");
    let end = watching.wait_for_round(3);
    assert!(end.contains(" s from the change to the error;"), "{end}");
    assert!(
        watching.said().contains("error: building the plugin in level: cargo build failed\n"),
        "{}",
        watching.said()
    );
    assert_eq!(watching.events().len(), 4);

    site.write("level/src/lib.rs", LIB.replace("LEVEL", "grade"));
    watching.wait_for_round(4);
    assert_eq!(watching.events()[4]["grade"], "warn");

    // The lines may be what is edited.
    site.append("app.log", "info: more\n");
    watching.wait_for_round(5);
    let events = watching.events();
    assert_eq!((events.len(), &events[8]["message"]), (9, &"more".into()));
}

#[test]
fn watching_needs_a_directory() {
    let site = Site::new();
    let done = site.output(["pipe", "--watch", "nowhere"]);
    done.assert_code(70);
    assert_eq!(done.stderr, "error: --watch nowhere: there is no such directory\n");
}

#[test]
fn lines_that_are_shorter_than_a_number_are_all_there() {
    let site = Site::new();
    let log: String = (0..300_000).map(|number| format!("{number}\n")).collect();
    let done = site.pipe(["pipe", "--summary"], log.as_bytes());
    done.assert_code(0);
    assert_eq!(parse(&done.stdout).len(), 300_000);
    done.assert_says("read 300000, dropped 0, failed 0\n");
    site.write("a.log", &log);
    assert_eq!(site.output(["pipe", "--input", "a.log"]).stdout, done.stdout);
}
