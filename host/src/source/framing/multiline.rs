//! Lines that are joined: stack traces and the like.
//!
//! An event is one span of the file, from the first byte of its first line to the last byte of its last, so that
//! joining copies nothing: an event that is not complete is read again. What is remembered between reads is what became
//! of the beginning of an event that was too long.

use anyhow::{Context, Result};
use regex::bytes::{Regex, RegexBuilder};

use super::{Cut, Framed, Framing, Input, LongEvent, Map, Memory, cut, without_cr};
use crate::event::Batch;
use crate::source::EVENTS;
use crate::source::place::Rest;

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

/// What a line is to the event before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The event before it is complete.
    pub begins: bool,
    /// It matches a start pattern.
    pub has_start: bool,
    /// Nothing after it belongs to its event.
    pub ends: bool,
}

impl Rule {
    /// Judges a line, or the beginning of one that is too long, without its line end. `open` says of the event
    /// before it whether it began with a start; none if there is no such event.
    pub(super) fn judge(&self, line: &[u8], open: Option<bool>) -> Verdict {
        match &self.kind {
            Kind::Start(pattern) => {
                let begins = pattern.is_match(line);
                Verdict { begins, has_start: begins, ends: false }
            }
            Kind::StartContinue(pattern, more) => {
                let has_start = pattern.is_match(line);
                let goes_on = !has_start && open == Some(true) && more.is_match(line);
                Verdict { begins: !goes_on, has_start, ends: !has_start && !goes_on }
            }
            Kind::End(pattern) => Verdict { begins: false, has_start: false, ends: pattern.is_match(line) },
        }
    }

    /// Whether the last part of a line that was too long is the last line of its event.
    pub(super) fn ends_after(&self, part: &[u8]) -> bool {
        matches!(&self.kind, Kind::End(pattern) if pattern.is_match(part))
    }

    /// Whether events end with a pattern. It is not looked for in what is dropped, so that a line that is too long
    /// ends its event.
    pub(super) fn has_end(&self) -> bool {
        matches!(self.kind, Kind::End(_))
    }

    /// Whether an event of so many lines can have another.
    pub(super) fn allows_after(&self, lines: usize) -> bool {
        lines < self.max_lines
    }
}

/// As [`super::Framing::frame`].
pub fn frame(
    rule: &Rule,
    framing: &Framing,
    memory: &mut Memory,
    batch: &mut Batch,
    starts: &mut Vec<u64>,
    input: &Input,
) -> Framed {
    let Batch { arena, rows, cells, .. } = batch;
    let arena = arena.as_slice();
    let mut framed = Framed::default();
    let Some(first) = memory.skip_rest(arena, input.flush) else {
        framed.consumed = if memory.rest == Rest::Discard { arena.len() } else { 0 };
        return framed;
    };
    framed.consumed = first;
    let (max_event, long, map, cut) = (framing.max_event, framing.long, input.map, memory.cut);
    let mut joiner = Joiner { rule, max_event, long, map, arena, rows, cells, starts, open: None, cut, framed };
    let mut next = first;
    for newline in memchr::memchr_iter(b'\n', &arena[first..]) {
        let newline = first + newline;
        joiner.line(next, without_cr(arena, next, newline), newline + 1);
        next = newline + 1;
        if joiner.rows.len() >= EVENTS {
            // As if there were no more yet.
            (joiner.arena, joiner.framed.is_full) = (&arena[..next], true);
            break;
        }
    }
    memory.rest = joiner.rest(next, input.flush && !joiner.framed.is_full);
    memory.cut = joiner.cut;
    joiner.framed
}

struct Joiner<'a> {
    rule: &'a Rule,
    max_event: usize,
    long: LongEvent,
    map: &'a Map,
    arena: &'a [u8],
    rows: &'a mut Vec<u32>,
    cells: &'a mut Vec<u32>,
    starts: &'a mut Vec<u64>,
    open: Option<Open>,
    /// What became of what is before the open event, or before the next line.
    cut: Option<Cut>,
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
    has_start: bool,
}

impl Joiner<'_> {
    /// A line whose content is `start..end`; the one after it begins at `next`.
    fn line(&mut self, start: usize, end: usize, next: usize) {
        if end - start > self.max_event {
            match self.long_line(start, end) {
                Some(rest) => self.last_part(rest, end, next),
                None => self.framed.consumed = next,
            }
            return;
        }
        if self.is_in_line() {
            return self.last_part(start, end, next);
        }
        let line = &self.arena[start..end];
        let verdict = self.begin(line);
        match &mut self.open {
            Some(open) if end - open.start <= self.max_event && self.rule.allows_after(open.lines) => {
                (open.end, open.next, open.lines) = (end, next, open.lines + 1);
            }
            Some(open) => {
                let has_start = open.has_start;
                if self.end_too_long(has_start) {
                    self.open = Some(Open { start, end, next, lines: 1, has_start });
                } else {
                    self.framed.consumed = next;
                }
            }
            None if self.cut.is_some_and(|cut| cut.is_dropped) => self.framed.consumed = next,
            None => {
                let has_start = self.cut.map_or(verdict.has_start, |cut| cut.has_start);
                self.open = Some(Open { start, end, next, lines: 1, has_start });
            }
        }
        if verdict.ends {
            self.close();
        }
    }

    fn is_in_line(&self) -> bool {
        self.open.is_none() && self.cut.is_some_and(|cut| cut.in_line)
    }

    /// Judges a line; what is before it is closed if it begins an event.
    fn begin(&mut self, line: &[u8]) -> Verdict {
        let before = self.open.map(|open| open.has_start).or(self.cut.map(|cut| cut.has_start));
        let verdict = self.rule.judge(line, before);
        if verdict.begins {
            self.close();
        }
        verdict
    }

    /// The event is complete, as well as what was cut from it.
    fn close(&mut self) {
        self.ship();
        self.cut = None;
    }

    fn ship(&mut self) {
        if let Some(open) = self.open.take() {
            self.event(open.start, open.end);
            self.framed.consumed = open.next;
        }
    }

    /// The open event cannot have the line that would be next. Gives whether that line is wanted.
    fn end_too_long(&mut self, has_start: bool) -> bool {
        match self.long {
            LongEvent::Split => {
                self.framed.split += 1;
                self.ship();
            }
            LongEvent::Truncate => {
                self.framed.truncated += 1;
                self.ship();
            }
            LongEvent::Skip => {
                self.framed.skipped += 1;
                self.open = None;
            }
        }
        let is_dropped = self.long != LongEvent::Split;
        self.cut = Some(Cut { has_start, is_dropped, in_line: false });
        !is_dropped
    }

    /// Deals with a line of more than `max_event` bytes, which is judged by its beginning. Gives where what is left
    /// to become an event begins.
    fn long_line(&mut self, mut start: usize, end: usize) -> Option<usize> {
        let mut has_start = self.cut.is_some_and(|cut| cut.has_start);
        if !self.is_in_line() {
            let first = start + cut(&self.arena[start..end], self.max_event);
            let verdict = self.begin(&self.arena[start..first]);
            let before = self.open.map(|open| open.has_start).or(self.cut.map(|cut| cut.has_start));
            has_start = before.unwrap_or(verdict.has_start);
            if self.open.is_some() {
                self.end_too_long(has_start);
            } else if self.cut.is_none() {
                match self.long {
                    LongEvent::Split => {}
                    LongEvent::Truncate => {
                        self.event(start, first);
                        self.framed.truncated += 1;
                    }
                    LongEvent::Skip => self.framed.skipped += 1,
                }
            }
        }
        if self.long != LongEvent::Split {
            let cut = Cut { has_start, is_dropped: true, in_line: false };
            self.cut = (!self.rule.has_end()).then_some(cut);
            return None;
        }
        while end - start > self.max_event {
            let cut = start + cut(&self.arena[start..end], self.max_event);
            self.event(start, cut);
            self.framed.split += 1;
            start = cut;
        }
        self.framed.consumed = start;
        self.cut = Some(Cut { has_start, is_dropped: false, in_line: true });
        Some(start)
    }

    /// What is left of a line that was too long.
    fn last_part(&mut self, start: usize, end: usize, next: usize) {
        let has_start = self.cut.is_some_and(|cut| cut.has_start);
        self.open = Some(Open { start, end, next, lines: 1, has_start });
        if self.rule.ends_after(&self.arena[start..end]) {
            self.close();
        }
    }

    fn event(&mut self, start: usize, end: usize) {
        self.cells.extend_from_slice(&[0, start as u32, end as u32]);
        self.rows.push(self.rows.len() as u32 + 1);
        self.starts.push(self.map.raw(start));
    }

    /// What follows the last line end: a line that is too long is not waited for.
    fn rest(&mut self, start: usize, flush: bool) -> Rest {
        let len = self.arena.len();
        // A CR may be half of the line's end.
        let end = if flush { len } else { without_cr(self.arena, start, len) };
        let mut rest = start;
        if end - start > self.max_event {
            match self.long_line(start, end) {
                Some(start) => rest = start,
                None => {
                    self.framed.consumed = len;
                    if flush {
                        self.cut = None;
                    }
                    return Rest::Discard;
                }
            }
        }
        if !flush {
            return Rest::Line;
        }
        if rest < len {
            self.line(rest, len, len);
        }
        let is_dropped = rest < len && self.open.is_none() && self.cut.is_some_and(|cut| cut.is_dropped);
        self.close();
        match rest < len {
            false => Rest::Line,
            true if is_dropped => Rest::Discard,
            true => Rest::Late,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::framing::testing::{frame_once, lines};

    fn join(patterns: Patterns, bytes: &str, max: (usize, usize), flush: bool) -> (Vec<String>, Framed) {
        let rule = Rule::new(&patterns, max.1).unwrap();
        let framing = lines(max.0, LongEvent::Split, Some(rule));
        let (events, _, framed) = frame_once(&framing, &mut Memory::default(), bytes.as_bytes(), flush);
        (events, framed)
    }

    fn start() -> Patterns {
        Patterns::Start(r"^\d\d ".into())
    }

    #[test]
    fn by_start() {
        let log = "01 a\n  b\r\n02 c\n03 d\n  e\n  rest";
        let (events, framed) = join(start(), log, (100, 10), false);
        assert_eq!(events, ["01 a\n  b", "02 c"]);
        assert_eq!(framed, Framed { consumed: 15, ..Framed::default() });
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
        assert_eq!((events, framed.consumed, framed.split), (vec!["01 a".into(), "abcd".into(), "efgh".into()], 13, 3));
    }

    #[test]
    fn wherever_the_bytes_are_cut_the_events_are_the_same() {
        let log = "x\n01 a\n  b\r\n02 c\n\n03 d;\n  e\nE f\n g;\nplain\n04\r\n05 z";
        let rules = [start(), Patterns::StartContinue(r"^\d\d".into(), "^ ".into()), Patterns::End(";$".into())];
        for patterns in rules {
            for max in [(100, 10), (100, 2), (6, 10), (1, 1)] {
                let whole = join(patterns.clone(), log, max, true).0;
                for at in 0..log.len() {
                    let framing = lines(max.0, LongEvent::Split, Some(Rule::new(&patterns, max.1).unwrap()));
                    let mut memory = Memory::default();
                    let (mut events, _, framed) = frame_once(&framing, &mut memory, &log.as_bytes()[..at], false);
                    let rest = &log.as_bytes()[framed.consumed..];
                    events.extend(frame_once(&framing, &mut memory, rest, true).0);
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
