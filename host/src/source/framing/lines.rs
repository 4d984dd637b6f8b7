//! Lines that end in LF or CRLF.

use super::{Framed, cut, without_cr};
use crate::event::Batch;

/// As [`super::Framing::frame`]. A line of more than `max_line` bytes becomes several
/// events, none of which is cut inside of a UTF-8 character.
pub fn frame(batch: &mut Batch, starts: &mut Vec<u32>, max_line: usize, flush: bool) -> Framed {
    let Batch { arena, rows, cells, .. } = batch;
    let mut framed = Framed { consumed: 0, split: 0 };
    let mut event = |start: usize, end: usize| {
        cells.extend_from_slice(&[0, start as u32, end as u32]);
        rows.push(rows.len() as u32 + 1);
        starts.push(start as u32);
    };
    for newline in memchr::memchr_iter(b'\n', arena) {
        let mut start = framed.consumed;
        framed.consumed = newline + 1;
        let end = without_cr(arena, start, newline);
        while end - start > max_line {
            let cut = cut(&arena[start..end], max_line);
            event(start, start + cut);
            framed.split += 1;
            start += cut;
        }
        event(start, end);
    }
    // A line that is too long is not waited for; a CR may be half of its end.
    let end = without_cr(arena, framed.consumed, arena.len());
    while end - framed.consumed > max_line {
        let cut = cut(&arena[framed.consumed..end], max_line);
        event(framed.consumed, framed.consumed + cut);
        framed.split += 1;
        framed.consumed += cut;
    }
    if flush && framed.consumed < arena.len() {
        event(framed.consumed, arena.len());
        framed.consumed = arena.len();
    }
    framed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Field, Kind, testing::text};

    fn lines(bytes: &[u8], max_line: usize, flush: bool) -> (Vec<String>, Vec<u32>, Framed) {
        let field = Field { name: "".into(), kind: Kind::Text };
        let mut batch = Batch { arena: bytes.to_vec(), fields: vec![field], ..Batch::default() };
        let mut starts = Vec::new();
        let framed = frame(&mut batch, &mut starts, max_line, flush);
        (text(&batch).iter().map(|t| t[1..].to_owned()).collect(), starts, framed)
    }

    #[test]
    fn lines_end_in_lf_or_crlf_and_the_rest_waits() {
        let (events, starts, framed) = lines(b"a\r\n\nb\rc\nrest", 100, false);
        assert_eq!(events, ["a", "", "b\rc"]);
        assert_eq!(starts, [0, 3, 4]);
        assert_eq!(framed, Framed { consumed: 8, split: 0 });
        let (events, _, framed) = lines(b"a\nrest", 100, true);
        assert_eq!((events, framed.consumed), (vec!["a".to_owned(), "rest".to_owned()], 6));
    }

    #[test]
    fn a_long_line_is_split_between_characters() {
        let (events, starts, framed) = lines("abcdef\nüüü\n".as_bytes(), 3, false);
        assert_eq!(events, ["abc", "def", "ü", "ü", "ü"]);
        assert_eq!(starts, [0, 3, 7, 9, 11]);
        assert_eq!(framed, Framed { consumed: 14, split: 3 });
        // Not waited for, but its last piece is.
        let (events, _, framed) = lines(b"abcdefgh", 3, false);
        assert_eq!((events, framed.consumed), (vec!["abc".to_owned(), "def".to_owned()], 6));
        // Bytes that are no UTF-8 are split all the same.
        assert_eq!(lines(&[0x80; 7], 3, true).2, Framed { consumed: 7, split: 2 });
    }

    #[test]
    fn wherever_the_bytes_are_cut_the_events_are_the_same() {
        let log = "a\r\n\nbcdefghi\r\nü€ü\r\r\nlast".as_bytes();
        for max in [1, 2, 3, 5, 100] {
            let whole = lines(log, max, true).0;
            for at in 0..log.len() {
                let (mut events, _, framed) = lines(&log[..at], max, false);
                events.extend(lines(&log[framed.consumed..], max, true).0);
                assert_eq!(events, whole, "{max} at {at}");
            }
        }
    }

    #[test]
    fn nothing_is_lost_at_any_length() {
        for length in 0..20 {
            for max in 1..8 {
                let line = vec![b'x'; length];
                let (events, ..) = lines(&line, max, true);
                assert_eq!(events.concat().len(), length, "{length} {max}");
                assert!(events.iter().all(|e| e.len() <= max));
            }
        }
    }
}
