//! Golden files: lines or events, settings, and the NDJSON that weir makes of them.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde::de::IgnoredAny;

use super::{Harness, TestEvent, TestInput, with_files};
use crate::Kind;
use crate::plugin::BatchPlugin;
use crate::time::format_rfc3339;

/// Runs all golden cases of a folder. A case is three files: what comes in, the settings `CASE.settings.json`, which are
/// `{}` without it, and `CASE.expected.ndjson`: what weir's NDJSON would be, without the source's tags. What comes in is the lines
/// `CASE.log`, or the events `CASE.events.ndjson`, one JSON object a line: see [`TestInput::parse`]. A directory
/// `CASE.files` is granted to the plugin.
///
/// Errors are written as the host does, behind the plugin's `name`. Panics with the lines that differ.
pub fn golden<P: BatchPlugin>(name: &str, dir: impl AsRef<Path>) {
    let dir = dir.as_ref();
    let cases = cases(dir);
    assert!(!cases.is_empty(), "{} has no golden case", dir.display());
    let differences: String = cases.iter().map(|case| run::<P>(name, dir, case)).collect();
    assert!(differences.is_empty(), "golden files of {name}:\n{differences}");
}

/// Configures a plugin, gives it these events, which are NDJSON, as its last batch, and has them as weir would write
/// them. The error is what the settings' author is shown.
pub fn ndjson<P: BatchPlugin>(name: &str, settings: &str, events: &[&str]) -> Result<Vec<String>, String> {
    let events: Vec<_> = events.iter().map(|line| TestInput::parse(line).unwrap_or_else(|e| panic!("{e}"))).collect();
    let processed = Harness::<P>::new(settings)?.process_events(&events, true);
    Ok(processed.events.iter().map(|event| as_json(name, event)).collect())
}

/// The ends of the names of files with what comes in.
const LINES: &str = ".log";
const EVENTS: &str = ".events.ndjson";

/// The names of the files with what comes in, sorted.
fn cases(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let names = entries.map(|entry| entry.expect("a folder can be listed").file_name());
    let names = names.filter_map(|name| name.into_string().ok());
    let mut cases: Vec<_> = names.filter(|name| name.ends_with(LINES) || name.ends_with(EVENTS)).collect();
    cases.sort();
    cases
}

/// What is wrong with a case; nothing if it is as expected.
fn run<P: BatchPlugin>(name: &str, dir: &Path, file: &str) -> String {
    let read = |file: &str| fs::read(dir.join(file)).unwrap_or_else(|e| panic!("{}: {e}", dir.join(file).display()));
    let text = |file: &str| String::from_utf8(read(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    let (case, events) = match file.strip_suffix(EVENTS) {
        Some(case) => (case, events(file, &text(file))),
        None => (&file[..file.len() - LINES.len()], lines(&read(file))),
    };
    let settings = format!("{case}.settings.json");
    let settings = if dir.join(&settings).exists() { text(&settings) } else { "{}".to_owned() };
    let process = || {
        let plugin = Harness::<P>::new(&settings);
        plugin.unwrap_or_else(|e| panic!("{case}.settings.json: {e}")).process_events(&events, true)
    };
    let files = dir.join(format!("{case}.files"));
    let processed = if files.is_dir() { with_files(files, process) } else { process() };
    let actual: Vec<_> = processed.events.iter().map(|event| as_json(name, event)).collect();
    difference(case, &text(&format!("{case}.expected.ndjson")).lines().collect::<Vec<_>>(), &actual)
}

/// The lines of a file as weir reads them: a carriage return at the end of one is none of it.
fn lines(log: &[u8]) -> Vec<TestInput> {
    if log.is_empty() {
        return Vec::new();
    }
    let lines = log.strip_suffix(b"\n").unwrap_or(log).split(|b| *b == b'\n');
    lines.map(|line| TestInput::line(line.strip_suffix(b"\r").unwrap_or(line))).collect()
}

fn events(file: &str, ndjson: &str) -> Vec<TestInput> {
    let event = |(i, line)| TestInput::parse(line).unwrap_or_else(|e| panic!("{file}:{}: {e}", i + 1));
    ndjson.lines().enumerate().map(event).collect()
}

fn difference(case: &str, expected: &[&str], actual: &[String]) -> String {
    let mut out = String::new();
    for i in 0..expected.len().max(actual.len()) {
        let (expected, actual) = (expected.get(i).copied(), actual.get(i).map(String::as_str));
        if expected != actual {
            let (expected, actual) = (expected.unwrap_or("(nothing)"), actual.unwrap_or("(nothing)"));
            let _ = writeln!(out, "{case}, event {}:\n  expected {expected}\n       got {actual}", i + 1);
        }
    }
    out
}

/// An event as weir's NDJSON encoder writes it.
fn as_json(plugin: &str, event: &TestEvent) -> String {
    let mut pairs = Vec::new();
    let string = |text: &str| serde_json::to_string(text).expect("text is JSON");
    for (name, kind, value) in &event.cells {
        let value = if is_plain(*kind, value) { value.clone() } else { string(value) };
        pairs.push(format!("{}:{value}", string(name)));
    }
    if let Some(time) = event.time {
        pairs.push(format!("\"__time__\":\"{}\"", format_rfc3339(time)));
    }
    if let Some(error) = &event.error {
        pairs.push(format!("\"__error__\":{}", string(&format!("{plugin}: {error}"))));
    }
    format!("{{{}}}", pairs.join(","))
}

/// Whether the value is JSON of its kind, so that it is not quoted.
fn is_plain(kind: Kind, value: &str) -> bool {
    let trimmed = value.trim_ascii() == value;
    let json = || trimmed && serde_json::from_str::<IgnoredAny>(value).is_ok();
    let number = value.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    match kind {
        Kind::Text => false,
        Kind::Integer => number && !value.contains(['.', 'e', 'E']) && json(),
        Kind::Float => number && json(),
        Kind::Boolean => matches!(value, "true" | "false"),
        Kind::Json => json(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_written_by_their_kinds_if_they_are_what_these_say() {
        let event = |cells: &[(&str, Kind, &str)], time, error: Option<&str>| TestEvent {
            cells: cells.iter().map(|(n, k, v)| ((*n).to_owned(), *k, (*v).to_owned())).collect(),
            time,
            error: error.map(str::to_owned),
            origin: (0, 1),
        };
        let kinds = [
            ("a", Kind::Text, "1"),
            ("b", Kind::Integer, "-12"),
            ("b", Kind::Integer, "012"),
            ("c", Kind::Float, "1e5"),
            ("d", Kind::Integer, "1e5"),
            ("e", Kind::Boolean, "true"),
            ("f", Kind::Boolean, "1"),
            ("g", Kind::Json, "[1, {}]"),
            ("h", Kind::Json, "[1, {]"),
        ];
        assert_eq!(
            as_json("p", &event(&kinds, Some(1_500_000_000), None)),
            r#"{"a":"1","b":-12,"b":"012","c":1e5,"d":"1e5","e":true,"f":"1","g":[1, {}],"h":"[1, {]","__time__":"1970-01-01T00:00:01.5Z"}"#
        );
        assert_eq!(
            as_json("p", &event(&[("content", Kind::Text, "a\"\n")], None, Some("no"))),
            r#"{"content":"a\"\n","__error__":"p: no"}"#
        );
    }

    #[test]
    fn lines_are_those_that_weir_reads() {
        let texts = |log: &[u8]| -> Vec<_> { lines(log).into_iter().map(|line| line.cells[0].2.clone()).collect() };
        assert_eq!(texts(b""), Vec::<Vec<u8>>::new());
        assert_eq!(texts(b"\n"), [b""]);
        assert_eq!(texts(b"a\r\n\r\nb\rc\r\nd"), [&b"a"[..], b"", b"b\rc", b"d"]);
    }

    #[test]
    fn a_case_without_settings_has_none() {
        struct Pass;
        impl crate::plugin::Plugin for Pass {
            type Settings = crate::plugin::NoSettings;
            fn new(_: Self::Settings, _: &mut crate::out::Fields) -> Result<Self, String> {
                Ok(Pass)
            }
            fn event(
                &mut self,
                event: &crate::event::Event,
                row: &mut crate::out::Row,
            ) -> Result<crate::plugin::Fate, crate::plugin::Failure> {
                row.pass_all(event);
                Ok(crate::plugin::Fate::Keep)
            }
        }
        let dir = std::env::temp_dir().join(format!("weir-plugin-golden-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("case.log"), "a\r\n").unwrap();
        fs::write(dir.join("case.expected.ndjson"), "{\"content\":\"a\"}\n").unwrap();
        golden::<Pass>("pass", &dir);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_difference_names_case_and_event() {
        assert_eq!(difference("x", &["a", "b"], &["a".to_owned(), "b".to_owned()]), "");
        assert_eq!(
            difference("x", &["a", "b"], &["a".to_owned()]),
            "x, event 2:\n  expected b\n       got (nothing)\n"
        );
    }
}
