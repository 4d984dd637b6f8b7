//! Lines that are joined: stack traces and the like.
//!
//! An event is one span of the file, from the first byte of its first line to the last byte of its last, so that
//! joining copies nothing, and remembers nothing between reads: an event that is not complete is read again.

use anyhow::{Context, Result};
use regex::bytes::{Regex, RegexBuilder};

use super::{Framed, cut, without_cr};
use crate::event::Batch;

/// Which lines belong together. Patterns are searched for in each line without its line end; `\d`, `\w` and the
/// like are ASCII.
#[derive(Clone, Debug)]
pub struct Rule {
    kind: Kind,
    max_lines: usize,
}

#[derive(Clone, Debug)]
enum Kind {
    Start(Regex),
    StartContinue(Regex, Regex),
    End(Regex),
}

/// What the patterns of a rule say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patterns {
    /// An event begins with a line that matches, and goes on until the next such line.
    Start(String),
    /// An event begins with a line that matches the first, and goes on with lines that match the second. Any other
    /// line is an event by itself.
    StartContinue(String, String),
    /// An event ends with a line that matches.
    End(String),
}

impl Rule {
    /// A rule whose events have at most so many lines; what is longer is split.
    pub fn new(patterns: &Patterns, max_lines: usize) -> Result<Self> {
        let kind = match patterns {
            Patterns::Start(start) => Kind::Start(regex(start)?),
            Patterns::StartContinue(start, more) => Kind::StartContinue(regex(start)?, regex(more)?),
            Patterns::End(end) => Kind::End(regex(end)?),
        };
        Ok(Rule { kind, max_lines })
    }
}

fn regex(pattern: &str) -> Result<Regex> {
    // ASCII classes are several times smaller and faster; a pattern that has others gets Unicode's.
    let ascii = RegexBuilder::new(pattern).unicode(false).build();
    ascii.or_else(|_| Regex::new(pattern)).with_context(|| format!("the pattern `{pattern}`"))
}

/// As [`super::Framing::frame`].
pub fn frame(rule: &Rule, batch: &mut Batch, starts: &mut Vec<u32>, max_event: usize, flush: bool) -> Framed {
    let arena = std::mem::take(&mut batch.arena);
    let mut joiner = Joiner { rule, max_event, arena: &arena, batch, starts, open: None, framed: Framed::default() };
    let mut next = 0;
    for newline in memchr::memchr_iter(b'\n', &arena) {
        joiner.line(next, without_cr(&arena, next, newline), newline + 1);
        next = newline + 1;
    }
    joiner.rest(next, flush);
    let framed = joiner.framed;
    batch.arena = arena;
    framed
}

struct Joiner<'a> {
    rule: &'a Rule,
    max_event: usize,
    arena: &'a [u8],
    batch: &'a mut Batch,
    starts: &'a mut Vec<u32>,
    open: Option<Open>,
    framed: Framed,
}

/// An event that may go on.
#[derive(Clone, Copy)]
struct Open {
    start: usize,
    /// Where its content ends, and where the line after it begins.
    end: usize,
    next: usize,
    lines: usize,
    /// Whether it began with a line that a start pattern matched.
    has_start: bool,
}

impl Joiner<'_> {
    /// A line whose content is `start..end`; the one after it begins at `next`.
    fn line(&mut self, start: usize, end: usize, next: usize) {
        let line = &self.arena[start..end];
        match &self.rule.kind {
            Kind::Start(pattern) => {
                let begins = pattern.is_match(line);
                self.add(start, end, next, begins, begins);
            }
            Kind::StartContinue(pattern, more) => {
                let begins = pattern.is_match(line);
                let goes_on = !begins && self.open.is_some_and(|open| open.has_start) && more.is_match(line);
                self.add(start, end, next, !goes_on, begins);
                if !begins && !goes_on {
                    self.close();
                }
            }
            Kind::End(pattern) => {
                self.add(start, end, next, false, false);
                if pattern.is_match(line) {
                    self.close();
                }
            }
        }
    }

    /// Adds a line to the open event, or begins another.
    fn add(&mut self, start: usize, end: usize, next: usize, begins: bool, has_start: bool) {
        if begins {
            self.close();
        }
        if let Some(open) = &mut self.open {
            if end - open.start <= self.max_event && open.lines < self.rule.max_lines {
                (open.end, open.next, open.lines) = (end, next, open.lines + 1);
                return;
            }
            self.framed.split += 1;
            self.close();
        }
        let start = self.split(start, end);
        self.open = Some(Open { start, end, next, lines: 1, has_start });
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.event(open.start, open.end);
            self.framed.consumed = open.next;
        }
    }

    /// Makes events of a line's beginning until the rest is not too long; gives where that begins.
    fn split(&mut self, mut start: usize, end: usize) -> usize {
        while end - start > self.max_event {
            let cut = cut(&self.arena[start..end], self.max_event);
            self.event(start, start + cut);
            self.framed.split += 1;
            start += cut;
            self.framed.consumed = start;
        }
        start
    }

    fn event(&mut self, start: usize, end: usize) {
        self.batch.cells.extend_from_slice(&[0, start as u32, end as u32]);
        self.batch.rows.push(self.batch.rows.len() as u32 + 1);
        self.starts.push(start as u32);
    }

    /// What follows the last line end.
    fn rest(&mut self, start: usize, flush: bool) {
        let end = self.arena.len();
        if flush {
            if start < end {
                self.line(start, end, end);
            }
            self.close();
        } else if without_cr(self.arena, start, end) - start > self.max_event {
            // A line that is too long is not waited for; a CR may be half of its end.
            self.close();
            self.split(start, without_cr(self.arena, start, end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Field, Kind as FieldKind, testing::text};

    fn join(patterns: Patterns, bytes: &str, max: (usize, usize), flush: bool) -> (Vec<String>, Framed) {
        let field = Field { name: "".into(), kind: FieldKind::Text };
        let mut batch = Batch { arena: bytes.into(), fields: vec![field], ..Batch::default() };
        let mut starts = Vec::new();
        let framed = frame(&Rule::new(&patterns, max.1).unwrap(), &mut batch, &mut starts, max.0, flush);
        (text(&batch).iter().map(|t| t[1..].to_owned()).collect(), framed)
    }

    fn start() -> Patterns {
        Patterns::Start(r"^\d\d ".into())
    }

    #[test]
    fn by_start() {
        let log = "01 a\n  b\r\n02 c\n03 d\n  e\n  rest";
        let (events, framed) = join(start(), log, (100, 10), false);
        assert_eq!(events, ["01 a\n  b", "02 c"]);
        assert_eq!(framed, Framed { consumed: 15, split: 0 });
        assert_eq!(join(start(), log, (100, 10), true).0, ["01 a\n  b", "02 c", "03 d\n  e\n  rest"]);
        // What comes before the first start is an event.
        assert_eq!(join(start(), "x\ny\n01 a\n", (100, 10), true).0, ["x\ny", "01 a"]);
    }

    #[test]
    fn by_start_and_continue() {
        let patterns = || Patterns::StartContinue("^E".into(), "^ ".into());
        let log = "E1\n a\n b\nplain\n c\nE2\n";
        assert_eq!(join(patterns(), log, (100, 10), false).0, ["E1\n a\n b", "plain", " c"]);
        assert_eq!(join(patterns(), log, (100, 10), true).0, ["E1\n a\n b", "plain", " c", "E2"]);
    }

    #[test]
    fn by_end() {
        let patterns = || Patterns::End(";$".into());
        let (events, framed) = join(patterns(), "a\nb;\nc;\nd\n", (100, 10), false);
        assert_eq!((events, framed.consumed), (vec!["a\nb;".to_owned(), "c;".to_owned()], 8));
        assert_eq!(join(patterns(), "a;\r\nb", (100, 10), true).0, ["a;", "b"]);
    }

    #[test]
    fn limits_split_and_count() {
        let (events, framed) = join(start(), "01 a\nb\nc\nd\n", (100, 2), true);
        assert_eq!((events, framed.split), (vec!["01 a\nb".to_owned(), "c\nd".to_owned()], 1));
        let (events, framed) = join(start(), "01 a\nb\nc\n", (6, 9), true);
        assert_eq!((events, framed.split), (vec!["01 a\nb".to_owned(), "c".to_owned()], 1));
        let (events, framed) = join(start(), "01 a\nabcdefghij", (4, 9), false);
        assert_eq!((events, framed.consumed, framed.split), (vec!["01 a".into(), "abcd".into(), "efgh".into()], 13, 2));
    }

    #[test]
    fn wherever_the_bytes_are_cut_the_events_are_the_same() {
        let log = "x\n01 a\n  b\r\n02 c\n\n03 d;\n  e\nE f\n g;\nplain\n04\r\n05 z";
        let rules = [start(), Patterns::StartContinue(r"^\d\d".into(), "^ ".into()), Patterns::End(";$".into())];
        for patterns in rules {
            for max in [(100, 10), (100, 2), (6, 10), (1, 1)] {
                let whole = join(patterns.clone(), log, max, true).0;
                for at in 0..log.len() {
                    let (mut events, framed) = join(patterns.clone(), &log[..at], max, false);
                    events.extend(join(patterns.clone(), &log[framed.consumed..], max, true).0);
                    assert_eq!(events, whole, "{patterns:?} {max:?} at {at}");
                }
            }
        }
    }

    #[test]
    fn a_pattern_that_is_none_is_named() {
        let error = Rule::new(&Patterns::Start("(".into()), 1).unwrap_err();
        assert_eq!(error.to_string(), "the pattern `(`");
    }
}
