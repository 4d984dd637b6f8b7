//! What plugins are measured with: lines or events, in batches as the agent makes them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use super::Args;
use crate::author::cases;
use crate::author::input::Input;
use crate::event::Batch;
use crate::mock::{Generator, LogType};
use crate::sandbox::Files;
use crate::source::CHUNK;

/// Bytes that a short input is repeated to: many batches, and more than a core's cache.
const BYTES: usize = 4 << 20;

/// Bytes of a file that are read at most.
const MOST: u64 = 16 << 20;

/// How far above the `.wasm` golden files are looked for: it may lie in a directory for what is built.
const ABOVE: usize = 4;

/// Input with its settings.
pub struct Case {
    pub name: String,
    /// JSON.
    pub settings: String,
    /// A directory that the plugin may read.
    pub dir: Option<PathBuf>,
    pub batches: Vec<Batch>,
}

impl Case {
    /// What the plugin may read.
    pub fn files(&self) -> Option<Arc<Files>> {
        self.dir.as_deref().map(Files::new)
    }
}

/// What the arguments say that a plugin is measured with.
pub fn cases(wasm: &Path, args: &Args) -> Result<Vec<Case>> {
    let settings = args.settings.as_deref().map(settings).transpose()?;
    if let Some(path) = &args.input {
        return of_lines(super::name(path), &read(path)?, settings, args);
    }
    if let Some(kind) = args.lines {
        let name = kind.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        return of_lines(format!("{name} lines"), &generated(kind), settings, args);
    }
    golden_cases(&golden(wasm)?, settings, args)
}

fn of_lines(name: String, log: &[u8], settings: Option<String>, args: &Args) -> Result<Vec<Case>> {
    ensure!(!log.is_empty(), "{name} is empty");
    let (settings, dir) = (settings.unwrap_or_else(|| "{}".to_owned()), args.files.clone());
    Ok(vec![Case { name, settings, dir, batches: batches(&Input::lines(&repeated(log))) }])
}

fn settings(text: &str) -> Result<String> {
    match text.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("--settings {text}")),
        None => Ok(text.to_owned()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let describe = || format!("reading {}", path.display());
    let mut bytes = Vec::new();
    File::open(path).with_context(describe)?.take(MOST).read_to_end(&mut bytes).with_context(describe)?;
    Ok(bytes)
}

fn generated(kind: LogType) -> Vec<u8> {
    let (mut generator, mut log) = (Generator::new(kind, 1), Vec::with_capacity(BYTES + CHUNK));
    while log.len() < BYTES {
        generator.next(&mut log);
    }
    log
}

/// The golden files of the project that a `.wasm` lies in.
fn golden(wasm: &Path) -> Result<PathBuf> {
    let path = wasm.canonicalize().with_context(|| format!("plugin {}", wasm.display()))?;
    let found = path.ancestors().skip(1).take(ABOVE).map(|dir| dir.join("tests/golden")).find(|dir| dir.is_dir());
    found.with_context(|| {
        format!("{} lies in no project with a directory tests/golden; give --input LOG or --lines KIND", wasm.display())
    })
}

/// The cases that are asked for, their input repeated.
fn golden_cases(dir: &Path, settings: Option<String>, args: &Args) -> Result<Vec<Case>> {
    let mut made = Vec::new();
    for found in cases::find(dir)? {
        if !args.case.is_empty() && !args.case.contains(&found.name) {
            continue;
        }
        let case = found.case.with_context(|| format!("the case {} in {}", found.name, dir.display()))?;
        // An empty one is for tests.
        if case.input.is_empty() {
            continue;
        }
        let bytes = repeated(&read(&dir.join(&case.input_name))?);
        let input = match case.input_name.ends_with(".log") {
            true => Input::lines(&bytes),
            false => Input::events(&String::from_utf8(bytes)?)?,
        };
        made.push(Case {
            name: case.name,
            settings: settings.clone().unwrap_or(case.settings),
            dir: args.files.clone().or(case.files),
            batches: batches(&input),
        });
    }
    if let Some(missing) = args.case.iter().find(|name| !made.iter().any(|case| case.name == **name)) {
        bail!("{} has no case {missing}", dir.display());
    }
    ensure!(!made.is_empty(), "{} has no case with lines; give --input LOG or --lines KIND", dir.display());
    Ok(made)
}

/// Whole lines, often enough.
fn repeated(log: &[u8]) -> Vec<u8> {
    if log.is_empty() || log.len() >= BYTES {
        return log.to_vec();
    }
    let mut once = log.to_vec();
    if !once.ends_with(b"\n") {
        once.push(b'\n');
    }
    once.repeat(BYTES.div_ceil(once.len()))
}

/// As many events together as an agent reads at once.
fn batches(input: &Input) -> Vec<Batch> {
    let ends = input.ends();
    let starts = [0].into_iter().chain(ends.iter().copied());
    starts.zip(&ends).filter(|(start, end)| start < end).map(|(start, end)| input.batch(start..*end)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::EVENTS;

    #[test]
    fn lines_are_in_batches_as_the_agent_makes_them() {
        let log: Vec<u8> = (0..100_000).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
        let cut = batches(&Input::lines(&log));
        assert_eq!(cut.iter().flat_map(|batch| batch.arena.clone()).collect::<Vec<_>>(), log);
        assert!(cut.iter().all(|batch| batch.len() <= EVENTS && batch.arena.len() <= CHUNK && batch.check().is_ok()));
        assert_eq!(cut[1].first, cut[0].len() as u64);
        assert!(batches(&Input::lines(b"")).is_empty());
    }

    #[test]
    fn a_short_log_is_repeated_by_whole_lines() {
        let many = repeated(b"a\nbc");
        assert!(many.len() >= BYTES && many.starts_with(b"a\nbc\na\nbc\n"), "{}", many.len());
        assert!(repeated(b"").is_empty());
    }
}
