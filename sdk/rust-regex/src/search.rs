//! Whether and where a pattern is.

use std::ops::Range;

use regex_automata::Input;
use regex_automata::meta::{self, Cache, Regex};
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::util::syntax;

/// A pattern that is searched for. Classes such as `\w` are ASCII's.
pub struct Search {
    regex: Regex,
    cache: Box<Cache>,
    has_group: bool,
}

impl Search {
    /// Compiles a pattern. The error says what is wrong with it.
    pub fn new(pattern: &str, ignore_case: bool) -> Result<Self, String> {
        let syntax = syntax::Config::new().unicode(false).utf8(false).case_insensitive(ignore_case);
        let parsed = syntax::parse_with(pattern, &syntax).map_err(|e| e.to_string())?;
        let config = meta::Config::new().utf8_empty(false);
        let built = meta::Builder::new().configure(config).build_from_hir(&parsed);
        let regex = built.map_err(|e| format!("`{pattern}` is too large: {e}"))?;
        Ok(Search { cache: Box::new(regex.create_cache()), has_group: regex.captures_len() > 1, regex })
    }

    /// Whether it is anywhere in the text.
    #[inline]
    pub fn is_in(&mut self, text: &[u8]) -> bool {
        self.regex.search_half_with(&mut self.cache, &Input::new(text).earliest(true)).is_some()
    }

    /// The first place from `at` on.
    #[inline]
    pub fn find(&mut self, text: &[u8], at: usize) -> Option<Range<usize>> {
        self.regex.search_with(&mut self.cache, &Input::new(text).range(at..)).map(|found| found.range())
    }

    /// The first place from `at` on, and its first group: the place itself if there is no group, or if that has no part
    /// in it.
    pub fn find_group(&mut self, text: &[u8], at: usize) -> Option<(Range<usize>, Range<usize>)> {
        if !self.has_group {
            return self.find(text, at).map(|found| (found.clone(), found));
        }
        let mut slots: [Option<NonMaxUsize>; 4] = [None; 4];
        self.regex.search_slots_with(&mut self.cache, &Input::new(text).range(at..), &mut slots)?;
        let range = |first: usize| Some(slots[first]?.get()..slots[first + 1]?.get());
        let found = range(0)?;
        Some((found.clone(), range(2).unwrap_or(found)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_is_found() {
        let mut search = Search::new("[0-9]+|é.", true).unwrap();
        assert_eq!(search.find(b"ab 12 3", 0), Some(3..5));
        assert_eq!(search.find(b"ab 12 3", 5), Some(6..7));
        assert_eq!(search.find("X é!".as_bytes(), 0), Some(2..5));
        assert_eq!(search.find(b"X", 0), None);
        assert!(search.is_in(b"\xff7"));
        assert!(!search.is_in(b"\xff"));
        assert!(Search::new("x", true).unwrap().is_in(b"X"));
    }

    #[test]
    fn a_group_is_told_apart() {
        let mut search = Search::new("a(?:=([0-9]+))?", false).unwrap();
        assert_eq!(search.find_group(b"xa=12", 0), Some((1..5, 3..5)));
        assert_eq!(search.find_group(b"xa", 0), Some((1..2, 1..2)));
        assert_eq!(Search::new("[0-9]", false).unwrap().find_group(b"xa=12", 0), Some((3..4, 3..4)));
    }

    #[test]
    fn the_error_says_what_is_wrong() {
        assert!(Search::new("(", false).err().unwrap().starts_with("regex parse error"));
        let error = Search::new(r"[a-z]{1000}{1000}", false).err().unwrap();
        assert!(error.starts_with(r"`[a-z]{1000}{1000}` is too large"), "{error}");
    }
}
