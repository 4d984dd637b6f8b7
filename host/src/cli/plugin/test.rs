//! `weir plugin test`: golden cases and manners, in the sandbox.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::build;
use crate::agent::plugins::sandbox_for_tools;
use crate::author::junit::junit;
use crate::author::report::{Check, Report, Said, Tone, Verdict};
use crate::author::run::Subject;
use crate::author::{self, Expected};
use crate::cli::screen::{Look, coloured, harmless, has_colours, print};
use crate::cli::{Usage, user_cache};
use crate::sandbox::Sandbox;

/// Where a project has its cases.
const CASES: &str = "tests/golden";

/// What makes a directory a project that can be built.
const MANIFESTS: [&str; 3] = ["Cargo.toml", "pyproject.toml", "package.json"];

/// Characters of the longest name of the manners.
const NAME: usize = 12;

/// Log lines that are shown of a check.
const LOG_LINES: usize = 20;

/// Run a plugin's golden cases, and try its manners
///
/// A case is CASE.log (lines) or CASE.events.ndjson (events), CASE.settings.json ({} without it), and
/// CASE.expected.ndjson: what comes out. Manners are what any plugin must stand, tried with each case's settings and
/// events: no event at all, empty and huge lines, bytes that are no UTF-8 or zero, batches that are cut anywhere, the same
/// again, and another instance that goes on. tests/manners.json may skip some: {"skip": {"split": "why"}}.
///
/// All runs in the agent's sandbox, with the limits that it gives a plugin. Exits with 70 if a check fails.
#[derive(clap::Args)]
pub struct Args {
    /// Projects, which are built unless nothing has changed; directories with a .wasm; or .wasm files
    #[arg(value_name = "DIR|FILE.wasm", default_value = ".")]
    plugins: Vec<PathBuf>,
    /// Where the cases are, of one plugin [default: tests/golden beside the .wasm]
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
    /// Write down what comes out as what is expected
    #[arg(long)]
    bless: bool,
    /// Write the results as JUnit's XML, for CI
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    if args.cases.is_some() && args.plugins.len() > 1 {
        return Err(Usage("--cases is for one plugin, and several are given".to_owned()).into());
    }
    let begun = Instant::now();
    let sandbox = sandbox_for_tools(&user_cache())?;
    let expected = if args.bless { Expected::Bless } else { Expected::Compare };
    let colours = has_colours();
    let mut reports = Vec::new();
    for plugin in &args.plugins {
        let report = match Target::find(plugin, args.cases.as_deref()) {
            Ok(target) => target.test(&sandbox, expected),
            Err(error) if error.is::<Usage>() => return Err(error),
            Err(error) => broken(plugin, &error),
        };
        print(&text(&report, plugin, colours))?;
        reports.push(report);
    }
    if let Some(file) = &args.junit {
        fs::write(file, junit(&reports)?).with_context(|| format!("writing {}", file.display()))?;
    }
    let checks: usize = reports.iter().map(|report| report.checks().count()).sum();
    let failed: usize = reports.iter().map(Report::failed).sum();
    if failed > 0 {
        bail!("{failed} of {checks} checks failed");
    }
    print(&format!("{checks} checks passed or skipped, in {:.1} s\n", begun.elapsed().as_secs_f64()))
}

/// What is tested.
struct Target {
    wasm: PathBuf,
    cases: PathBuf,
}

impl Target {
    /// Builds it if need be.
    fn find(plugin: &Path, cases: Option<&Path>) -> Result<Target> {
        let is_project = plugin.is_dir();
        let wasm = if is_project { built(plugin)? } else { plugin.to_owned() };
        let dir = if is_project { plugin } else { plugin.parent().unwrap_or(plugin) };
        Ok(Target { cases: cases.map_or_else(|| dir.join(CASES), Path::to_owned), wasm })
    }

    fn test(&self, sandbox: &Sandbox, expected: Expected) -> Report {
        match sandbox.load(&self.wasm) {
            Ok(plugin) => author::test(&Subject::new(plugin), &self.cases, expected),
            Err(error) => broken(&self.wasm, &error),
        }
    }
}

/// There is nothing to test.
fn broken(plugin: &Path, error: &anyhow::Error) -> Report {
    let mut report = Report::new(&plugin.file_stem().unwrap_or(plugin.as_os_str()).to_string_lossy());
    report.cases.push(Check::failed("plugin", format!("{error:#}")));
    report
}

/// The component of a project, which the build knows to be as it was or builds anew; else the one that is there.
fn built(dir: &Path) -> Result<PathBuf> {
    if MANIFESTS.iter().any(|manifest| dir.join(manifest).is_file()) {
        return build::build_project(dir);
    }
    let entries = fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?.flatten();
    let mut found: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "wasm")).collect();
    found.sort();
    match &found[..] {
        [] => bail!("there is no .wasm in {}, and nothing to build: no {}", dir.display(), MANIFESTS.join(", ")),
        [wasm] => Ok(wasm.clone()),
        several => {
            let names: Vec<_> = several.iter().map(|path| path.display().to_string()).collect();
            Err(Usage(format!("there are several .wasm in {}: say which of {}", dir.display(), names.join(", ")))
                .into())
        }
    }
}

/// A line a check, with what is to be said about it below.
fn text(report: &Report, path: &Path, colours: bool) -> String {
    let title = format!("{} ({})\n", harmless(&report.plugin), harmless(&path.display().to_string()));
    let mut text = coloured(&title, Look::Head, colours);
    let width = report.checks().map(|check| check.name.chars().count()).chain([NAME]).max().unwrap_or(0);
    for (title, checks) in [("cases", &report.cases), ("manners", &report.manners)] {
        if !checks.is_empty() {
            text += &format!("  {title}\n");
        }
        for check in checks {
            let (word, look) = match check.verdict {
                Verdict::Passed => ("passed ", Look::Good),
                Verdict::Blessed => ("blessed", Look::Warning),
                Verdict::Skipped => ("skipped", Look::Warning),
                Verdict::Failed => ("FAILED ", Look::Bad),
            };
            text +=
                &format!("    {}  {:width$}  {}\n", coloured(word, look, colours), harmless(&check.name), check.note);
            text += &below(check, colours);
        }
    }
    text
}

fn below(check: &Check, colours: bool) -> String {
    let mut text = String::new();
    for line in &check.details {
        let look = match line.tone {
            Tone::Plain => Look::Plain,
            Tone::Missing => Look::Bad,
            Tone::Unexpected => Look::Good,
        };
        text += &format!("      {}\n", coloured(&line.text, look, colours));
    }
    let log = check.log.iter().take(LOG_LINES).map(Said::labelled);
    log.for_each(|said| text += &format!("      {said}\n"));
    if check.log.len() > LOG_LINES {
        text += &format!("      and {} more log lines\n", check.log.len() - LOG_LINES);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_component_is_meant_must_be_clear() {
        let dir = tempfile::tempdir().unwrap();
        let said = || built(dir.path()).unwrap_err().to_string();
        let none = format!(
            "there is no .wasm in {}, and nothing to build: no Cargo.toml, pyproject.toml, package.json",
            dir.path().display()
        );
        assert_eq!(said(), none);
        fs::write(dir.path().join("a.wasm"), "").unwrap();
        assert_eq!(built(dir.path()).unwrap(), dir.path().join("a.wasm"));
        fs::write(dir.path().join("b.wasm"), "").unwrap();
        assert!(said().starts_with("there are several .wasm in"), "{}", said());
    }
}
