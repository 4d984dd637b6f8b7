//! Which names rotation makes: `app.log` becomes `app.log.1`, `app.log-20261101`, `app.log.20261101-101010.gz`.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What all generations of a log have in common: the path without the numbers, dates and `.gz` at its end.
pub fn family(path: &Path) -> &[u8] {
    let mut rest = path.as_os_str().as_bytes();
    rest = rest.strip_suffix(b".gz").unwrap_or(rest);
    loop {
        let digits = rest.iter().rev().take_while(|b| b.is_ascii_digit()).count();
        let stem = &rest[..rest.len() - digits];
        match stem {
            [shorter @ .., b'.' | b'-' | b'_'] if digits > 0 && !matches!(shorter, [] | [.., b'/']) => rest = shorter,
            _ => return rest,
        }
    }
}

/// Sorts the generations of a log, the oldest first: by date, then by number, the highest first, then the one that is
/// written.
pub fn age(path: &Path) -> (bool, i128) {
    let whole = path.as_os_str().as_bytes();
    let suffix = &whole[family(path).len()..];
    let digits: Vec<u8> = suffix.iter().copied().filter(u8::is_ascii_digit).take(30).collect();
    let number = std::str::from_utf8(&digits).ok().and_then(|digits| digits.parse::<i128>().ok());
    match number {
        None => (true, 0),
        Some(date) if digits.len() >= 6 => (false, date),
        Some(number) => (false, -number),
    }
}

/// Whether rotation can have made the file at `path` of the content of the one at `of`, by copying or compressing it.
pub fn may_be_copy(path: &Path, of: &Path) -> bool {
    let [copy, original] = [path, of].map(|path| path.as_os_str().as_bytes());
    let is_longer = copy.strip_prefix(original).is_some_and(|more| matches!(more, [b'.' | b'-' | b'_', ..]));
    is_longer || is_gzip(path) && !is_gzip(of) && family(path) == family(of)
}

/// Whether the name says that the file is compressed.
pub fn is_gzip(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_one_family() {
        let names =
            ["a/app.log", "a/app.log.1", "a/app.log.12.gz", "a/app.log-20261101", "a/app.log.20261101-101010.gz"];
        for name in names {
            assert_eq!(family(Path::new(name)), b"a/app.log", "{name}");
        }
        for name in ["app-1.log", "1", ".1", "a/.1", "2026", "x/2026-", "app.gz.log"] {
            assert_eq!(family(Path::new(name)), name.as_bytes(), "{name}");
        }
    }

    #[test]
    fn the_oldest_generation_comes_first() {
        let mut names = ["a.log", "a.log.1", "a.log.10.gz", "a.log.2"].map(Path::new);
        names.sort_by_key(|name| age(name));
        assert_eq!(names, ["a.log.10.gz", "a.log.2", "a.log.1", "a.log"].map(Path::new));
        let mut names = ["a.log", "a.log-20261102", "a.log-20261101-235959", "a.log-20261101.gz"].map(Path::new);
        names[1..].sort_by_key(|name| age(name));
        assert_eq!(names[1], Path::new("a.log-20261101.gz"));
    }

    #[test]
    fn copies_have_longer_names() {
        let is_copy = |path: &str, of: &str| may_be_copy(Path::new(path), Path::new(of));
        assert!(is_copy("app.log.1", "app.log") && is_copy("app.log.1.gz", "app.log.1"));
        // Renamed after it was compressed.
        assert!(is_copy("app.log.2.gz", "app.log.1"));
        assert!(!is_copy("app.log", "app.log.1") && !is_copy("app.log", "app.log") && !is_copy("app.log2", "app.log"));
        assert!(!is_copy("app.log.3.gz", "app.log.2.gz") && !is_copy("b.log.1.gz", "app.log.1"));
    }
}
