//! What any plugin must stand, whatever it is for: tried on each case's settings and events.
//!
//! Events may fail politely on what is no log. What may not be: a trap, a lie, or fuel and memory without end; and that
//! what comes out depends on how a file was cut into batches, which nobody can foresee.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::cases::{Case, read};
use super::input::{Input, MAX_LINE};
use super::report::{Check, Line, Said, Tone, Verdict, difference, without};
use super::run::{Run, Subject, Wrong, recorded};
use crate::event::Batch;
use crate::sandbox::Stage;

/// Beside the folder of cases: which are not to be tried, and why.
const FILE: &str = "manners.json";

/// Batches are cut at so many places at most, in so many with a new instance, and into single events if there are not more.
const SPLITS: usize = 32;
const FRESH: usize = 8;
const SINGLE: usize = 1000;

/// Bytes that all cuts of a case may be together, so that a large one is not tried for ever; but a few are.
const SPLIT_BYTES: usize = 32 << 20;
const FEWEST: usize = 3;

/// Texts of an event that are replaced, one after the other.
const TEXTS: usize = 8;

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Manner {
    /// It is given no event.
    Empty,
    /// It is given no event, and nothing follows; or its last ones, of which it holds none.
    Last,
    /// Lines without any byte.
    EmptyLine,
    /// Lines of 1 MiB.
    HugeLine,
    /// Bytes that are no UTF-8.
    InvalidUtf8,
    /// Bytes that are zero.
    ZeroBytes,
    /// The same events in two batches.
    Split,
    /// The same events again.
    Twice,
    /// Another instance that goes on.
    Fresh,
}

impl Manner {
    const ALL: [Manner; 9] = [
        Manner::Empty,
        Manner::Last,
        Manner::EmptyLine,
        Manner::HugeLine,
        Manner::InvalidUtf8,
        Manner::ZeroBytes,
        Manner::Split,
        Manner::Twice,
        Manner::Fresh,
    ];

    /// What to do about it.
    fn advice(self) -> &'static str {
        match self {
            Manner::Empty | Manner::Last => {
                "a batch may have no event: look at its first or last one only if there is one"
            }
            Manner::EmptyLine => "a line may have no byte: fail it with a reason, or keep it as it is",
            Manner::HugeLine => {
                "a line may have 1 MiB: fail it with a reason before much is done with it, and keep to one pass"
            }
            Manner::InvalidUtf8 => "a line may be no UTF-8: work on bytes, or fail it with a reason",
            Manner::ZeroBytes => "a line may have any bytes: fail it with a reason, or keep it as it is",
            Manner::Split => {
                "what belongs together may come in two batches: hold what may go on (`held`), and look at nothing across \
                 events otherwise"
            }
            Manner::Twice => "an instance may be given anything next: begin each batch as if it were the first",
            Manner::Fresh => "an instance may be replaced at any time: hold what must be remembered (`held`)",
        }
    }
}

/// As it is written in `manners.json`.
impl fmt::Display for Manner {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Manner::Empty => "empty",
            Manner::Last => "last",
            Manner::EmptyLine => "empty-line",
            Manner::HugeLine => "huge-line",
            Manner::InvalidUtf8 => "invalid-utf8",
            Manner::ZeroBytes => "zero-bytes",
            Manner::Split => "split",
            Manner::Twice => "twice",
            Manner::Fresh => "fresh",
        })
    }
}

/// What is not to be tried, and why.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skip {
    skip: BTreeMap<Manner, String>,
}

impl Skip {
    /// Reads `manners.json` beside a folder of cases, if it is there.
    pub fn read(cases: &Path) -> Result<Skip> {
        let path = cases.canonicalize().unwrap_or_else(|_| cases.to_owned()).with_file_name(FILE);
        let Some(bytes) = read(&path)? else { return Ok(Skip::default()) };
        serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
    }
}

/// Why a plugin has no manners.
enum Broken {
    Wrong(Wrong, String),
    Differs(Vec<Line>, String),
    Holds(u32),
}

/// What was tried.
struct Tried {
    tries: usize,
    /// What each is.
    what: &'static str,
}

/// Tries all on cases that run without a fault, each with what comes out of it.
pub fn check_all(subject: &Subject, cases: &[(Case, Vec<u8>)], skip: &Skip) -> Vec<Check> {
    if cases.is_empty() {
        return vec![Check::new("manners", Verdict::Skipped, "no case runs".to_owned())];
    }
    Manner::ALL.iter().map(|manner| check(subject, cases, skip, *manner)).collect()
}

fn check(subject: &Subject, cases: &[(Case, Vec<u8>)], skip: &Skip, manner: Manner) -> Check {
    let new = |verdict, note: String| Check::new(&manner.to_string(), verdict, note);
    if let Some(reason) = skip.skip.get(&manner) {
        return new(Verdict::Skipped, crate::sandbox::guest::harmless(reason, 1000));
    }
    let (mut tries, mut what, mut broken) = (0, "", Vec::new());
    for (case, made) in cases {
        match recorded(|| attempt(subject, case, made, manner)) {
            (Ok(tried), _) => (tries, what) = (tries + tried.tries, tried.what),
            (Err(why), log) => broken.push((case, why, log)),
        }
    }
    let mut broken = broken.into_iter();
    let Some((case, why, log)) = broken.next() else {
        return new(Verdict::Passed, format!("{tries} {what}{}", if tries == 1 { "" } else { "s" }));
    };
    let others: Vec<_> = broken.map(|(case, ..)| case.name.as_str()).collect();
    let others = if others.is_empty() { String::new() } else { format!("; and of {}", others.join(", ")) };
    let (note, mut details, log) = why.tell(case, log);
    details.push(Line::new(Tone::Plain, format!("{}, or skip this: docs/testing.md", manner.advice())));
    Check { details, log, ..new(Verdict::Failed, format!("with the settings of {}{others}: {note}", case.name)) }
}

impl Broken {
    fn tell(self, case: &Case, log: Vec<Said>) -> (String, Vec<Line>, Vec<Said>) {
        match self {
            Broken::Wrong(wrong, what) => {
                let log = without(log, Some(&wrong));
                (what, wrong.lines(None), log)
            }
            Broken::Differs(lines, what) => (what, lines, log),
            Broken::Holds(held) => {
                let what = format!("it holds {held} of the events of {} though nothing follows", case.input_name);
                let told = "what is held then is shipped as it is, marked: give it out when `last` is true".to_owned();
                (what, vec![Line::new(Tone::Plain, told)], log)
            }
        }
    }
}

fn attempt(subject: &Subject, case: &Case, made: &[u8], manner: Manner) -> Result<Tried, Broken> {
    let first = case.input.first_text();
    match manner {
        Manner::Empty => {
            let mut stage = start(subject, case)?;
            answer(&mut stage, &Batch::default(), false, "it faults on a batch without events")?;
            Ok(Tried { tries: 1, what: "call" })
        }
        Manner::Last => {
            let mut stage = start(subject, case)?;
            answer(&mut stage, &Batch::default(), true, "it faults when nothing follows and there is no event")?;
            let begin = case.input.ends().iter().rev().nth(1).copied().unwrap_or(0);
            let rest = case.input.batch(begin..case.input.len());
            match answer(&mut stage, &rest, true, "it faults when it is asked again")? {
                0 => Ok(Tried { tries: 2, what: "call" }),
                held => Err(Broken::Holds(held)),
            }
        }
        Manner::EmptyLine => junk(subject, case, &[vec![]], "an empty line"),
        Manner::HugeLine => {
            let again = first.iter().chain(b" ").copied().cycle().take(MAX_LINE).collect();
            junk(subject, case, &[vec![b'x'; MAX_LINE], again], "a line of 1 MiB")
        }
        Manner::InvalidUtf8 => {
            let alone = [&b"\xff"[..], b"\xc3(", b"\xed\xa0\x80", b"\xf0\x9f\x92"].map(<[u8]>::to_vec);
            junk(subject, case, &[&alone[..], &spoiled(first, b"\xff\xfe")].concat(), "what is no UTF-8")
        }
        Manner::ZeroBytes => {
            let alone = [vec![0], vec![0; 100]];
            junk(subject, case, &[&alone[..], &spoiled(first, b"\0")].concat(), "bytes that are zero")
        }
        Manner::Split => split(subject, case, made),
        Manner::Twice => twice(subject, case, made),
        Manner::Fresh => fresh(subject, case, made),
    }
}

fn start(subject: &Subject, case: &Case) -> Result<Stage, Broken> {
    subject.stage(case).map_err(|wrong| Broken::Wrong(wrong, "it does not start".to_owned()))
}

/// One call. Gives how many events are held.
fn answer(stage: &mut Stage, batch: &Batch, last: bool, what: &str) -> Result<u32, Broken> {
    let answered = stage.answer(batch, last);
    answered.map(|output| output.held).map_err(|fault| Broken::Wrong(Wrong::of_call(&fault), what.to_owned()))
}

/// A text with bytes at its beginning, in its middle, and at its end.
fn spoiled(text: &[u8], by: &[u8]) -> Vec<Vec<u8>> {
    let at = |at: usize| [&text[..at], by, &text[at..]].concat();
    [0, text.len() / 2, text.len()].map(at).into()
}

/// Events whose texts are these, each in a batch of its own, and all that are not large together with those of the case.
fn junk(subject: &Subject, case: &Case, texts: &[Vec<u8>], what: &str) -> Result<Tried, Broken> {
    let wrong = |wrong| Broken::Wrong(wrong, format!("it faults on {what}"));
    let input = case.input.like_first(texts, TEXTS);
    let mut run = Run::new(subject, case).map_err(wrong)?;
    let each: Vec<_> = (1..=input.len()).collect();
    run.give_all(&input, &each, |_| {}).map_err(wrong)?;
    run.give_all(&input, &input.ends(), |_| {}).map_err(wrong)?;
    Ok(Tried { tries: input.len(), what: "event" })
}

fn split(subject: &Subject, case: &Case, made: &[u8]) -> Result<Tried, Broken> {
    let places = places(&case.input, SPLITS);
    for at in &places {
        compare(subject, case, made, &cut(&case.input, *at), |_| {}, &format!("cut before event {}", at + 1))?;
    }
    if (2..=SINGLE).contains(&case.input.len()) {
        let each: Vec<_> = (1..=case.input.len()).collect();
        compare(subject, case, made, &each, |_| {}, "each event in a batch of its own")?;
    }
    Ok(Tried { tries: places.len(), what: "split" })
}

fn fresh(subject: &Subject, case: &Case, made: &[u8]) -> Result<Tried, Broken> {
    let places = places(&case.input, FRESH);
    for at in &places {
        let (ends, what) = (cut(&case.input, *at), format!("another instance from event {} on", at + 1));
        let by_one = send(subject, case, &ends, |_| {}, &what)?;
        compare(subject, case, &by_one, &ends, Run::renew, &what)?;
    }
    compare(subject, case, made, &case.input.ends(), |_| {}, "another instance")?;
    Ok(Tried { tries: places.len() + 1, what: "instance" })
}

fn twice(subject: &Subject, case: &Case, made: &[u8]) -> Result<Tried, Broken> {
    let wrong = |wrong| Broken::Wrong(wrong, "it faults when the same events come again".to_owned());
    let mut run = Run::new(subject, case).map_err(wrong)?;
    for _ in 0..2 {
        run.take();
        run.give_all(&case.input, &case.input.ends(), |_| {}).map_err(wrong)?;
    }
    same(made, &run.take(), "the second time")?;
    Ok(Tried { tries: 2, what: "run" })
}

/// Gives the events of a case in batches that end there, and compares what comes out.
fn compare(
    subject: &Subject,
    case: &Case,
    made: &[u8],
    ends: &[usize],
    before: impl FnMut(&mut Run),
    what: &str,
) -> Result<(), Broken> {
    same(made, &send(subject, case, ends, before, what)?, what)
}

fn send(
    subject: &Subject,
    case: &Case,
    ends: &[usize],
    before: impl FnMut(&mut Run),
    what: &str,
) -> Result<Vec<u8>, Broken> {
    let wrong = |wrong| Broken::Wrong(wrong, format!("it faults: {what}"));
    let mut run = Run::new(subject, case).map_err(wrong)?;
    run.give_all(&case.input, ends, before).map_err(wrong)?;
    Ok(run.take())
}

fn same(made: &[u8], again: &[u8], what: &str) -> Result<(), Broken> {
    match difference(made, again) {
        lines if lines.is_empty() => Ok(()),
        lines => Err(Broken::Differs(lines, format!("other events come out: {what}"))),
    }
}

/// Where the events are cut in two: everywhere if there are few, else spread evenly over them.
fn places(input: &Input, most: usize) -> Vec<usize> {
    let possible = input.len().saturating_sub(1);
    let affordable = (SPLIT_BYTES / input.bytes().max(1)).max(FEWEST);
    let count = possible.min(most).min(affordable);
    // The first and the last are among them.
    (0..count).map(|number| 1 + number * (possible - 1) / (count - 1).max(1)).collect()
}

/// The ends of an agent's batches, and one more.
fn cut(input: &Input, at: usize) -> Vec<usize> {
    let mut ends = input.ends();
    if let Err(place) = ends.binary_search(&at) {
        ends.insert(place, at);
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_events_are_cut_everywhere_and_many_at_some_places() {
        let of = |count: usize| places(&Input::lines(&b"a\n".repeat(count)), 4);
        assert_eq!(of(0), [0; 0]);
        assert_eq!(of(1), [0; 0]);
        assert_eq!(of(2), [1]);
        assert_eq!(of(5), [1, 2, 3, 4]);
        assert_eq!(of(101), [1, 34, 67, 100]);
        let large = Input::lines(format!("{}\n", "x".repeat(1 << 19)).repeat(30).as_bytes());
        assert_eq!(places(&large, SPLITS), [1, 15, 29]);
    }

    #[test]
    fn manners_are_skipped_by_name() {
        let read = |text: &str| serde_json::from_str::<Skip>(text);
        let skip = read(r#"{"skip": {"split": "it looks at the whole batch"}}"#).unwrap();
        assert_eq!(skip.skip[&Manner::Split], "it looks at the whole batch");
        let names: Vec<_> = Manner::ALL.iter().map(|manner| format!("\"{manner}\": \"\"")).collect();
        let text = format!("{{\"skip\": {{{}}}}}", names.join(","));
        let all = read(&text).unwrap();
        assert!(all.skip.keys().eq(&Manner::ALL));
        let error = read(r#"{"skip": {"spilt": ""}}"#).err().unwrap().to_string();
        assert!(error.starts_with("unknown variant `spilt`, expected one of `empty`, `last`, "), "{error}");
    }

    #[test]
    fn texts_are_spoiled_at_three_places() {
        assert_eq!(spoiled(b"ab", b"!"), [b"!ab", b"a!b", b"ab!"]);
        assert_eq!(spoiled(b"", b"!"), [b"!", b"!", b"!"]);
    }
}
