//! What came of the cases and manners of a plugin, in words that are the same each time.

use std::path::Path;

use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::run::Wrong;
use crate::sandbox::guest::readable;

/// Events of a difference that are shown, and bytes of each.
const SHOWN: usize = 10;
const WIDTH: usize = 400;

/// Bytes before the first difference of two long events that are shown.
const BEFORE: usize = 60;

/// What came of a plugin's test.
pub struct Report {
    /// The plugin's name.
    pub plugin: String,
    /// A check a case.
    pub cases: Vec<Check>,
    /// A check for each of the manners.
    pub manners: Vec<Check>,
}

/// Something that was checked.
pub struct Check {
    /// Its name.
    pub name: String,
    /// What came of it.
    pub verdict: Verdict,
    /// The same in some words, on one line.
    pub note: String,
    /// Why.
    pub details: Vec<Line>,
    /// What the plugin logged.
    pub log: Vec<Said>,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is as it should be.
    Passed,
    /// What came out is what is expected from now on.
    Blessed,
    /// It was not to be tried, or could not be.
    Skipped,
    /// Something is wrong.
    Failed,
}

/// A line of what is told about a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How it looks.
    pub tone: Tone,
    /// Nothing in it is obeyed by a terminal.
    pub text: String,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As all text.
    Plain,
    /// Expected, and did not come.
    Missing,
    /// Came, and was not expected.
    Unexpected,
}

/// A line that a plugin logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// `error`, `warn`, `info` or `debug`.
    pub level: &'static str,
    /// Escaped and cut by the sandbox.
    pub text: String,
    /// How often.
    pub times: u64,
}

impl Report {
    /// Without any check yet.
    pub fn new(plugin: &str) -> Self {
        Report { plugin: plugin.to_owned(), cases: Vec::new(), manners: Vec::new() }
    }

    /// All checks.
    pub fn checks(&self) -> impl Iterator<Item = &Check> {
        self.cases.iter().chain(&self.manners)
    }

    /// How many failed.
    pub fn failed(&self) -> usize {
        self.checks().filter(|check| check.verdict == Verdict::Failed).count()
    }
}

impl Check {
    /// With nothing more to say.
    pub fn new(name: &str, verdict: Verdict, note: String) -> Self {
        Check { name: name.to_owned(), verdict, note, details: Vec::new(), log: Vec::new() }
    }

    /// One that failed for a reason of one line or several.
    pub fn failed(name: &str, why: String) -> Self {
        Check::new(name, Verdict::Failed, readable(why.as_bytes(), 10 * WIDTH))
    }
}

impl Line {
    /// A line.
    pub fn new(tone: Tone, text: String) -> Self {
        Line { tone, text }
    }
}

impl Said {
    /// With its label.
    pub fn labelled(&self) -> String {
        let often = if self.times > 1 { format!(" ({} times)", self.times) } else { String::new() };
        format!("log {}: {}{often}", self.level, self.text)
    }
}

/// The name of a file, without its directory.
pub fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What was logged, without the panic that is told as a fault already.
pub fn without(log: Vec<Said>, wrong: Option<&Wrong>) -> Vec<Said> {
    match wrong {
        Some(Wrong::Faulted { fault, .. }) => {
            log.into_iter().filter(|said| said.level != "error" || !fault.contains(&said.text)).collect()
        }
        _ => log,
    }
}

/// The events that differ, by their numbers, as they are expected and as they came; nothing if none do.
pub fn difference(expected: &[u8], made: &[u8]) -> Vec<Line> {
    let (expected, made) = (events(expected), events(made));
    let mut differing = Vec::new();
    for op in capture_diff_slices(Algorithm::Patience, &expected, &made) {
        if !matches!(op, DiffOp::Equal { .. }) {
            let (old, new) = (op.old_range(), op.new_range());
            for index in 0..old.len().max(new.len()) {
                let old = Some(old.start + index).filter(|at| *at < old.end);
                let new = Some(new.start + index).filter(|at| *at < new.end);
                differing.push((old, new));
            }
        }
    }
    let mut lines = Vec::new();
    for (old, new) in differing.iter().take(SHOWN) {
        lines.push(Line::new(Tone::Plain, place(*old, *new)));
        let (old, new) = (old.map(|at| expected[at]), new.map(|at| made[at]));
        let from = first_shown(old, new);
        lines.extend(old.map(|event| Line::new(Tone::Missing, format!("- {}", shown(event, from)))));
        lines.extend(new.map(|event| Line::new(Tone::Unexpected, format!("+ {}", shown(event, from)))));
    }
    if differing.len() > SHOWN {
        lines.push(Line::new(Tone::Plain, format!("and {} more events", differing.len() - SHOWN)));
    }
    lines
}

/// The events of NDJSON; nobody minds whether the last line has an end.
fn events(ndjson: &[u8]) -> Vec<&[u8]> {
    match ndjson.strip_suffix(b"\n").unwrap_or(ndjson) {
        [] => Vec::new(),
        ndjson => ndjson.split(|byte| *byte == b'\n').collect(),
    }
}

/// Which event it is, in what is expected or in what came.
fn place(old: Option<usize>, new: Option<usize>) -> String {
    match (old, new) {
        (Some(old), Some(new)) if old != new => format!("event {}, which came as number {}:", old + 1, new + 1),
        (Some(old), Some(_)) => format!("event {}:", old + 1),
        (Some(old), None) => format!("event {} did not come:", old + 1),
        (None, new) => format!("event {} was not expected:", new.unwrap_or_default() + 1),
    }
}

/// Where two long events are shown from: a bit before they differ.
fn first_shown(old: Option<&[u8]>, new: Option<&[u8]>) -> usize {
    let (Some(old), Some(new)) = (old, new) else { return 0 };
    if old.len().max(new.len()) <= WIDTH {
        return 0;
    }
    let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let mut from = same.saturating_sub(BEFORE);
    while from > 0 && old.get(from).is_some_and(|byte| byte & 0xc0 == 0x80) {
        from -= 1;
    }
    from
}

fn shown(event: &[u8], from: usize) -> String {
    let dots = if from > 0 { "…" } else { "" };
    format!("{dots}{}", readable(&event[from.min(event.len())..], WIDTH))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(expected: &str, made: &str) -> Vec<String> {
        difference(expected.as_bytes(), made.as_bytes()).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn what_differs_is_shown_event_by_event() {
        assert_eq!(text("a\nb\n", "a\nb"), [""; 0]);
        assert_eq!(text("", ""), [""; 0]);
        assert_eq!(text("a\nb\nc\n", "a\nx\nc\n"), ["event 2:", "- b", "+ x"]);
        assert_eq!(text("a\nb\nc\n", "a\nc\n"), ["event 2 did not come:", "- b"]);
        assert_eq!(text("a\nc\n", "a\nb\nc\n"), ["event 2 was not expected:", "+ b"]);
        assert_eq!(
            text("a\nb\nc\nd\n", "b\nc\nx\n"),
            ["event 1 did not come:", "- a", "event 4, which came as number 3:", "- d", "+ x"]
        );
    }

    #[test]
    fn many_and_long_differences_are_cut_where_they_tell() {
        let numbers = |from: u64| (from..from + 12).map(|n| format!("{n}\n")).collect::<String>();
        let lines = text(&numbers(0), &numbers(100));
        assert_eq!((lines.len(), lines.last().unwrap().as_str()), (31, "and 2 more events"));
        let long = |c: &str| format!("{}{c}{}", "ä".repeat(500), "z".repeat(1000));
        let lines = text(&long("1"), &long("2"));
        let expected = |c: &str| format!("…{}{c}{}… (1061 bytes)", "ä".repeat(30), "z".repeat(339));
        assert_eq!(lines, ["event 1:".to_owned(), format!("- {}", expected("1")), format!("+ {}", expected("2"))]);
        assert_eq!(difference(b"\xff\x1b", b"")[1].text, "- \\xff\\u{1b}");
    }

    #[test]
    fn a_panic_that_is_told_is_not_told_twice() {
        let said = |level, text: &str| Said { level, text: text.to_owned(), times: 2 };
        let log = vec![said("error", "panicked"), said("error", "other"), said("warn", "panicked")];
        let wrong = Wrong::Faulted { faults: 1, poison: None, fault: "trapped: panicked in x".to_owned() };
        let left: Vec<_> = without(log, Some(&wrong)).iter().map(Said::labelled).collect();
        assert_eq!(left, ["log error: other (2 times)", "log warn: panicked (2 times)"]);
    }
}
