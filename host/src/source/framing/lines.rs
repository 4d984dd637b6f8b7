//! Lines that end in LF or CRLF.

use super::{Framed, Input, LongEvent, Map, Memory, cut, without_cr};
use crate::event::Batch;
use crate::source::EVENTS;
use crate::source::place::Rest;

/// As [`super::Framing::frame`]. No event is cut inside of a UTF-8 character.
pub fn frame(
    max_event: usize,
    long: LongEvent,
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
    let mut lines = Lines { arena, max_event, long, map: input.map, rows, cells, starts, framed };
    for newline in memchr::memchr_iter(b'\n', &arena[first..]) {
        let newline = first + newline;
        let start = lines.framed.consumed;
        let end = without_cr(arena, start, newline);
        if end - start <= max_event {
            lines.event(start, end);
        } else if let Some(start) = lines.long_line(start, end) {
            lines.event(start, end);
        }
        lines.framed.consumed = newline + 1;
        if lines.rows.len() >= EVENTS {
            lines.framed.is_full = true;
            return lines.framed;
        }
    }
    memory.rest = lines.rest(input.flush);
    lines.framed
}

struct Lines<'a> {
    arena: &'a [u8],
    max_event: usize,
    long: LongEvent,
    map: &'a Map,
    rows: &'a mut Vec<u32>,
    cells: &'a mut Vec<u32>,
    starts: &'a mut Vec<u64>,
    framed: Framed,
}

impl Lines<'_> {
    #[inline]
    fn event(&mut self, start: usize, end: usize) {
        self.cells.extend_from_slice(&[0, start as u32, end as u32]);
        self.rows.push(self.rows.len() as u32 + 1);
        self.starts.push(self.map.raw(start));
    }

    /// Deals with a line of more than `max_event` bytes. Gives where what is left to become an event begins.
    #[cold]
    fn long_line(&mut self, mut start: usize, end: usize) -> Option<usize> {
        match self.long {
            LongEvent::Split => {
                while end - start > self.max_event {
                    let cut = start + cut(&self.arena[start..end], self.max_event);
                    self.event(start, cut);
                    self.framed.split += 1;
                    start = cut;
                }
                Some(start)
            }
            LongEvent::Truncate => {
                self.event(start, start + cut(&self.arena[start..end], self.max_event));
                self.framed.truncated += 1;
                None
            }
            LongEvent::Skip => {
                self.framed.skipped += 1;
                None
            }
        }
    }

    /// What follows the last line end: a line that is too long is not waited for.
    fn rest(&mut self, flush: bool) -> Rest {
        let (start, len) = (self.framed.consumed, self.arena.len());
        // A CR may be half of the line's end.
        let end = if flush { len } else { without_cr(self.arena, start, len) };
        if end - start > self.max_event {
            match self.long_line(start, end) {
                Some(rest) => self.framed.consumed = rest,
                None => {
                    self.framed.consumed = len;
                    return Rest::Discard;
                }
            }
        }
        if !flush || self.framed.consumed == len {
            return Rest::Line;
        }
        self.event(self.framed.consumed, len);
        self.framed.consumed = len;
        Rest::Late
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::framing::testing::{frame_once, lines};

    fn split(bytes: &[u8], max: usize, flush: bool) -> (Vec<String>, Vec<u64>, Framed) {
        frame_once(&lines(max, LongEvent::Split, None), &mut Memory::default(), bytes, flush)
    }

    fn consumed(consumed: usize, split: u64) -> Framed {
        Framed { consumed, split, ..Framed::default() }
    }

    #[test]
    fn lines_end_in_lf_or_crlf_and_the_rest_waits() {
        let (events, starts, framed) = split(b"a\r\n\nb\rc\nrest", 100, false);
        assert_eq!(events, ["a", "", "b\rc"]);
        assert_eq!(starts, [0, 3, 4]);
        assert_eq!(framed, consumed(8, 0));
        let (events, _, framed) = split(b"a\nrest", 100, true);
        assert_eq!((events, framed.consumed), (vec!["a".to_owned(), "rest".to_owned()], 6));
    }

    #[test]
    fn a_long_line_is_split_between_characters() {
        let (events, starts, framed) = split("abcdef\nüüü\n".as_bytes(), 3, false);
        assert_eq!(events, ["abc", "def", "ü", "ü", "ü"]);
        assert_eq!(starts, [0, 3, 7, 9, 11]);
        assert_eq!(framed, consumed(14, 3));
        // Not waited for, but its last piece is.
        let (events, _, framed) = split(b"abcdefgh", 3, false);
        assert_eq!((events, framed.consumed), (vec!["abc".to_owned(), "def".to_owned()], 6));
        // Bytes that are no UTF-8 are split all the same.
        assert_eq!(split(&[0x80; 7], 3, true).2, consumed(7, 2));
    }

    #[test]
    fn a_long_line_is_cut_or_dropped_over_several_reads() {
        for (long, expected, counts) in
            [(LongEvent::Truncate, vec!["ab", "abc", "z"], [1, 0]), (LongEvent::Skip, vec!["ab", "z"], [0, 1])]
        {
            let framing = lines(3, long, None);
            let mut memory = Memory::default();
            let mut events = Vec::new();
            let mut sum = [0, 0];
            for bytes in ["ab\nabcd", "efg", "h\r", "\nz\r\n"] {
                let (some, _, framed) = frame_once(&framing, &mut memory, bytes.as_bytes(), false);
                assert_eq!(framed.consumed, bytes.len(), "{bytes:?}");
                assert_eq!(memory.place(9).rest, if bytes.ends_with('\n') { Rest::Line } else { Rest::Discard });
                events.extend(some);
                sum = [sum[0] + framed.truncated, sum[1] + framed.skipped];
            }
            assert_eq!((events, sum), (expected.iter().map(|e| (*e).to_owned()).collect(), counts));
        }
    }

    #[test]
    fn a_late_line_end_is_not_an_empty_line() {
        let framing = lines(9, LongEvent::Split, None);
        let late = |bytes: &[u8], flush: bool| {
            let mut memory = Memory { rest: Rest::Late, ..Memory::default() };
            let (events, _, framed) = frame_once(&framing, &mut memory, bytes, flush);
            (events.join("|"), framed.consumed, memory.rest)
        };
        assert_eq!(late(b"\na\n", false), ("a".to_owned(), 3, Rest::Line));
        assert_eq!(late(b"\r\n\n", false), (String::new(), 3, Rest::Line));
        assert_eq!(late(b"\r", false), (String::new(), 0, Rest::Late));
        assert_eq!(late(b"", true), (String::new(), 0, Rest::Late));
        assert_eq!(late(b"\ra\n", false), ("\ra".to_owned(), 3, Rest::Line));
        assert_eq!(late(b"more", true), ("more".to_owned(), 4, Rest::Late));
    }

    #[test]
    fn nothing_is_lost_at_any_length() {
        for length in 0..20 {
            for max in 1..8 {
                let (events, ..) = split(&vec![b'x'; length], max, true);
                assert_eq!(events.concat().len(), length, "{length} {max}");
                assert!(events.iter().all(|e| e.len() <= max));
            }
        }
    }
}
