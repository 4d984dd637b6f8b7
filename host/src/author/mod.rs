//! What authors try their plugins with: golden cases, manners, and what came of them.
//!
//! ```text
//! a folder ── cases ──> Case { input, settings, expected } ── run ──> NDJSON ── report ──> a diff, JUnit
//!                                      └───────────────── manners ───────┘
//! ```
//!
//! `input` events to give · `cases` the files of a case · `run` a case in the sandbox, as an agent would run it ·
//! `manners` what any plugin must stand · `report` what came out, in words · `junit` the same for CI.
//! Known by `cli` alone.

pub mod cases;
pub mod input;
pub mod junit;
pub mod manners;
pub mod report;
pub mod run;

use std::fs;
use std::path::Path;

use anyhow::Context;

use cases::{Case, Found};
use report::{Check, Line, Report, Tone, Verdict, difference};
use run::{Run, Subject, Wrong, recorded};

/// What becomes of what a plugin makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is compared with what is expected.
    Compare,
    /// It is what is expected from now on.
    Bless,
}

/// Runs all cases of a folder, and tries a plugin's manners on them.
pub fn test(subject: &Subject, cases: &Path, expected: Expected) -> Report {
    let mut report = Report::new(subject.name());
    match run_cases(subject, cases, expected, &mut report) {
        Ok(sound) => match manners::Skip::read(cases) {
            Ok(skip) => report.manners = manners::check_all(subject, &sound, &skip),
            Err(error) => report.manners.push(Check::failed("manners.json", format!("{error:#}"))),
        },
        Err(error) => report.cases.push(Check::failed("cases", format!("{error:#}"))),
    }
    report
}

/// Gives the cases that run without a fault, and what comes out of them.
fn run_cases(
    subject: &Subject,
    dir: &Path,
    expected: Expected,
    report: &mut Report,
) -> anyhow::Result<Vec<(Case, Vec<u8>)>> {
    let mut sound = Vec::new();
    for found in cases::find(dir)? {
        let Found { name, case } = found;
        let mut case = match case {
            Ok(case) => case,
            Err(error) => {
                report.cases.push(Check::failed(&name, format!("{error:#}")));
                continue;
            }
        };
        let (made, log) = recorded(|| Run::whole(subject, &case, &case.input));
        let mut check = match &made {
            Ok(made) => judge(&mut case, made, expected),
            Err(wrong) => fault(&case, wrong),
        };
        check.log = report::without(log, made.as_ref().err());
        report.cases.push(check);
        sound.extend(made.ok().map(|made| (case, made)));
    }
    Ok(sound)
}

/// Compares what came out with what is expected.
fn judge(case: &mut Case, made: &[u8], mode: Expected) -> Check {
    let events = made.iter().filter(|byte| **byte == b'\n').count();
    let (given, file) = (case.input.len(), report::file_name(&case.expected_path));
    let note = format!("{given} in, {events} out");
    let differs = match &case.expected {
        Some(expected) => difference(expected, made),
        None => vec![Line::new(Tone::Plain, format!("there is no {file}: write down what comes out with --bless"))],
    };
    match mode {
        _ if differs.is_empty() => Check::new(&case.name, Verdict::Passed, note),
        Expected::Bless => match fs::write(&case.expected_path, made).context("writing what came out") {
            Ok(()) => Check::new(&case.name, Verdict::Blessed, format!("{note}, written to {file}")),
            Err(error) => Check::failed(&case.name, format!("{}: {error:#}", case.expected_path.display())),
        },
        Expected::Compare => {
            let note = if case.expected.is_some() { format!("{note}, not as in {file}") } else { note };
            Check { details: differs, ..Check::new(&case.name, Verdict::Failed, note) }
        }
    }
}

fn fault(case: &Case, wrong: &Wrong) -> Check {
    let note = match wrong {
        Wrong::NotStarted(_) => "it does not start".to_owned(),
        Wrong::Faulted { faults: 1, .. } => "it faults".to_owned(),
        Wrong::Faulted { faults, .. } => format!("it faults {faults} times"),
    };
    Check { details: wrong.lines(Some(&case.input_name)), ..Check::new(&case.name, Verdict::Failed, note) }
}
