//! Hints for words and paths that are nearly right.

use std::fs;
use std::path::{Path, PathBuf};

/// Candidates that are compared and listed at most, so that a large file cannot make this slow.
const MAX_COMPARED: usize = 200;
const MAX_LISTED: usize = 16;
/// Characters of a word that is compared at most.
const MAX_WORD: usize = 64;
/// Letters that may be wrong in the name of a directory.
const FEW: usize = 2;

/// ``did you mean `root`?``, or else the candidates after the words of `list`; none if there are none.
pub fn hint_among<'a>(word: &str, list: &str, candidates: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
    if let Some(close) = closest(word, candidates.clone()) {
        return Some(format!("did you mean `{close}`?"));
    }
    let listed: Vec<_> = candidates.clone().take(MAX_LISTED).collect();
    let more = if candidates.take(MAX_LISTED + 1).count() > MAX_LISTED { ", …" } else { "" };
    (!listed.is_empty()).then(|| format!("{list} {}{more}", listed.join(", ")))
}

/// For a directory that is not there: one that is, and whose path differs in a letter or two of what is missing.
pub fn near(path: &Path) -> Option<String> {
    let missing = path.ancestors().take_while(|path| !path.exists()).last()?;
    let (parent, name) = (missing.parent()?, missing.file_name()?.to_str()?);
    let entries = fs::read_dir(parent).ok()?.take(MAX_COMPARED).flatten().filter(|entry| entry.path().is_dir());
    let names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let (_, close) = closest_of(name, names.iter().map(String::as_str)).filter(|(wrong, _)| *wrong <= FEW)?;
    let found = parent.join(close);
    let rest = path.strip_prefix(missing).ok()?;
    let whole: PathBuf = found.components().chain(rest.components()).collect();
    let shown = if whole.is_dir() { whole } else { found };
    Some(format!("{shown:?} is there; is a letter wrong?"))
}

/// The candidate that the word was probably meant to be: at most a third of the letters are wrong.
fn closest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    closest_of(word, candidates).map(|(_, candidate)| candidate)
}

/// The same, with how many letters are wrong.
fn closest_of<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<(usize, &'a str)> {
    let word: Vec<char> = word.chars().take(MAX_WORD + 1).collect();
    if word.len() > MAX_WORD {
        return None;
    }
    candidates
        .take(MAX_COMPARED)
        .filter_map(|candidate| {
            let letters: Vec<char> = candidate.chars().collect();
            let most = word.len().max(letters.len()) / 3;
            let distance = if word.len().abs_diff(letters.len()) > most { usize::MAX } else { edits(&word, &letters) };
            (distance <= most).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
}

/// How many letters to insert, remove, replace or swap with their neighbour to make `b` of `a`.
fn edits(a: &[char], b: &[char]) -> usize {
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        (before_last, last) = (last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_beside_the_one_that_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("ngin/access")).unwrap();
        fs::write(path("ngin1"), "").unwrap();
        let there = |name: &str| Some(format!("{:?} is there; is a letter wrong?", path(name)));
        assert_eq!(near(&path("nginx")), there("ngin"));
        assert_eq!(near(&path("nginx/access")), there("ngin/access"));
        assert_eq!(near(&path("nginx/other/x")), there("ngin"));
        assert_eq!(near(&path("ngin/acess")), there("ngin/access"));
        // Another word, and what is there.
        assert_eq!(near(&path("engines")), None);
        assert_eq!(near(&path("ngin")), None);
        assert_eq!(near(Path::new("/")), None);
    }

    fn hint(word: &str, candidates: &[&str]) -> Option<String> {
        hint_among(word, "known keys:", candidates.iter().copied())
    }

    #[test]
    fn a_close_word_is_suggested_and_others_are_listed() {
        let keys = ["root", "include", "exclude", "from"];
        assert_eq!(hint("form", &keys).unwrap(), "did you mean `from`?");
        assert_eq!(hint("incldue", &keys).unwrap(), "did you mean `include`?");
        assert_eq!(hint("rot", &keys).unwrap(), "did you mean `root`?");
        assert_eq!(hint("format", &keys).unwrap(), "known keys: root, include, exclude, from");
        assert_eq!(hint("", &["a"]).unwrap(), "known keys: a");
        assert_eq!(hint("x", &[]), None);
        assert_eq!(hint(&"x".repeat(1000), &["y"; 17]).unwrap(), format!("known keys: {}, …", ["y"; 16].join(", ")));
    }
}
