//! Golden files: lines, settings, and the NDJSON that weir makes of them.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde::de::IgnoredAny;

use super::{Harness, TestEvent};
use crate::Kind;
use crate::plugin::BatchPlugin;
use crate::time::format_rfc3339;

/// Runs all golden cases of a folder. A case is three files: the lines `CASE.log`, the settings
/// `CASE.settings.json`, and `CASE.expected.ndjson`: what weir's NDJSON would be, without the source's tags.
///
/// Errors are written as the host does, behind the plugin's `name`. Panics with the lines that differ.
pub fn golden<P: BatchPlugin>(name: &str, dir: impl AsRef<Path>) {
    let dir = dir.as_ref();
    let cases = cases(dir);
    assert!(!cases.is_empty(), "{} has no golden case", dir.display());
    let differences: String = cases.iter().map(|case| run::<P>(name, dir, case)).collect();
    assert!(differences.is_empty(), "golden files of {name}:\n{differences}");
}

/// The names of the cases in a folder, sorted.
fn cases(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let names = entries.map(|entry| entry.expect("a folder can be listed").file_name());
    let mut cases: Vec<_> = names.filter_map(|n| Some(n.to_str()?.strip_suffix(".log")?.to_owned())).collect();
    cases.sort();
    cases
}

/// What is wrong with a case; nothing if it is as expected.
fn run<P: BatchPlugin>(name: &str, dir: &Path, case: &str) -> String {
    let read = |end: &str| {
        let path = dir.join(format!("{case}.{end}"));
        fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let log = read("log");
    let lines: Vec<_> = log.strip_suffix(b"\n").unwrap_or(&log).split(|b| *b == b'\n').collect();
    let settings = String::from_utf8(read("settings.json")).expect("settings are UTF-8");
    let mut plugin = Harness::<P>::new(&settings).unwrap_or_else(|e| panic!("{case}.settings.json: {e}"));
    let actual: Vec<_> = plugin.process(&lines, true).events.iter().map(|event| ndjson(name, event)).collect();
    let expected = String::from_utf8(read("expected.ndjson")).expect("what is expected is UTF-8");
    difference(case, &expected.lines().collect::<Vec<_>>(), &actual)
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
fn ndjson(plugin: &str, event: &TestEvent) -> String {
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
            ndjson("p", &event(&kinds, Some(1_500_000_000), None)),
            r#"{"a":"1","b":-12,"b":"012","c":1e5,"d":"1e5","e":true,"f":"1","g":[1, {}],"h":"[1, {]","__time__":"1970-01-01T00:00:01.5Z"}"#
        );
        assert_eq!(
            ndjson("p", &event(&[("content", Kind::Text, "a\"\n")], None, Some("no"))),
            r#"{"content":"a\"\n","__error__":"p: no"}"#
        );
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
