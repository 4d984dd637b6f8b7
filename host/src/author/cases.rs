//! Golden cases: `CASE.log` or `CASE.events.ndjson`, `CASE.settings.json`, `CASE.expected.ndjson`, and `CASE.files/`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::input::Input;

/// Bytes of a file of a case.
const MOST: u64 = 64 << 20;

const LINES: &str = ".log";
const EVENTS: &str = ".events.ndjson";
const SETTINGS: &str = ".settings.json";
const EXPECTED: &str = ".expected.ndjson";

/// A golden case.
pub struct Case {
    /// What its files' names begin with.
    pub name: String,
    /// The file that its events come from.
    pub input_name: String,
    /// Its events.
    pub input: Input,
    /// JSON; `{}` if there is no file.
    pub settings: String,
    /// What is to come out; none if that was not written down yet.
    pub expected: Option<Vec<u8>>,
    /// Where that is, or is to be.
    pub expected_path: PathBuf,
    /// The directory that the plugin may read.
    pub files: Option<PathBuf>,
}

/// A case, or what is wrong with its files.
pub struct Found {
    /// What its files' names begin with.
    pub name: String,
    /// The case.
    pub case: Result<Case>,
}

/// The cases of a folder, by name.
pub fn find(dir: &Path) -> Result<Vec<Found>> {
    let describe = || format!("the cases in {}", dir.display());
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("there is no {}: {HOW}", dir.display()),
        entries => entries.with_context(describe)?,
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        let file = entry.with_context(describe)?.file_name();
        let file = file.to_string_lossy();
        let name = [LINES, EVENTS, SETTINGS, EXPECTED].iter().find_map(|end| file.strip_suffix(end));
        names.extend(name.filter(|name| !name.is_empty()).map(str::to_owned));
    }
    ensure!(!names.is_empty(), "{} has no case: {HOW}", dir.display());
    Ok(names.into_iter().map(|name| Found { case: Case::read(dir, &name), name }).collect())
}

const HOW: &str = "put lines into CASE.log and settings into CASE.settings.json there, and run this with --bless";

impl Case {
    fn read(dir: &Path, name: &str) -> Result<Case> {
        let path = |end: &str| dir.join(format!("{name}{end}"));
        let (lines, events) = (read(&path(LINES))?, read(&path(EVENTS))?);
        let (input_name, input) = match (lines, events) {
            (Some(lines), None) => (format!("{name}{LINES}"), Input::lines(&lines)),
            (None, Some(events)) => {
                let name = format!("{name}{EVENTS}");
                let input = text(events).and_then(|text| Input::events(&text)).with_context(|| name.clone())?;
                (name, input)
            }
            (None, None) => bail!("there is neither {name}{LINES} nor {name}{EVENTS}"),
            (Some(_), Some(_)) => bail!("there are both {name}{LINES} and {name}{EVENTS}: rename one"),
        };
        let settings = read(&path(SETTINGS))?.map(|bytes| text(bytes).with_context(|| format!("{name}{SETTINGS}")));
        let files = Some(path(".files")).filter(|files| files.is_dir());
        Ok(Case {
            name: name.to_owned(),
            input_name,
            input,
            settings: settings.transpose()?.unwrap_or_else(|| "{}".to_owned()),
            expected: read(&path(EXPECTED))?,
            expected_path: path(EXPECTED),
            files,
        })
    }
}

/// A whole file; none if there is none.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.with_context(|| format!("reading {}", path.display()))?,
    };
    ensure!(bytes.len() as u64 <= MOST, "{} has more than {MOST} bytes", path.display());
    Ok(Some(bytes))
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).context("it is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_found_with_what_is_wrong_with_them() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("b.log", "x\ny\n");
        write("a.events.ndjson", "{\"n\":1}\n");
        write("a.settings.json", "{\"k\":2}");
        write("a.expected.ndjson", "{}\n");
        write("lost.expected.ndjson", "");
        write("twice.log", "");
        write("twice.events.ndjson", "");
        write("wrong.events.ndjson", "7");
        write("README.md", "");
        fs::create_dir(dir.path().join("b.files")).unwrap();
        let cases = find(dir.path()).unwrap();
        assert_eq!(cases.iter().map(|found| &*found.name).collect::<Vec<_>>(), ["a", "b", "lost", "twice", "wrong"]);
        let sound = |index: usize| cases[index].case.as_ref().unwrap();
        let (a, b) = (sound(0), sound(1));
        assert_eq!((a.input.len(), &*a.settings, a.expected.as_deref()), (1, "{\"k\":2}", Some(&b"{}\n"[..])));
        assert_eq!((b.input.len(), &*b.settings, b.expected.as_deref()), (2, "{}", None));
        assert_eq!((&a.files, b.files.as_deref()), (&None, Some(&*dir.path().join("b.files"))));
        let refusal = |index: usize| format!("{:#}", cases[index].case.as_ref().err().unwrap());
        assert_eq!(refusal(2), "there is neither lost.log nor lost.events.ndjson");
        assert_eq!(refusal(3), "there are both twice.log and twice.events.ndjson: rename one");
        assert!(refusal(4).starts_with("wrong.events.ndjson: line 1: it is no JSON object"));
    }

    #[test]
    fn a_folder_without_cases_says_how_to_make_one() {
        let dir = tempfile::tempdir().unwrap();
        let said = |path: &Path| find(path).err().unwrap().to_string();
        assert_eq!(said(dir.path()), format!("{} has no case: {HOW}", dir.path().display()));
        let none = dir.path().join("none");
        assert_eq!(said(&none), format!("there is no {}: {HOW}", none.display()));
    }
}
