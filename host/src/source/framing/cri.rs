//! One line of what containerd and CRI-O write: `2016-10-06T00:17:09.669794202Z stdout F content`.

use super::container::Piece;
use super::time::Times;
use crate::event::UNKNOWN_TIME;

/// Why a line is shipped as it is.
pub const MALFORMED: &str = "cri: not a line of this format";

/// Bytes of the longest time, and a space.
const LONGEST_TIME: usize = 48;

/// Takes the line `start..end` of the arena apart; none if it is not of this format.
#[inline]
pub fn unwrap(arena: &[u8], start: usize, end: usize, times: &mut Times) -> Option<Piece> {
    let line = &arena[start..end];
    let space = line.iter().take(LONGEST_TIME).position(|b| *b == b' ')?;
    let stream_at = space + 1;
    let rest = line.get(stream_at..)?;
    let stream = match rest.get(..7)? {
        b"stdout " => 0,
        b"stderr " => 1,
        _ => return None,
    };
    // The first of several tags.
    let tag_at = stream_at + 7;
    let is_partial = match line.get(tag_at)? {
        b'F' => false,
        b'P' => true,
        _ => return None,
    };
    let content = match line.get(tag_at + 1) {
        Some(b' ') => tag_at + 2,
        None => line.len(),
        Some(b'\r') if tag_at + 2 == line.len() => line.len(),
        Some(b':') => {
            let tags = line[tag_at..].iter().position(|b| *b == b' ');
            tags.map_or(line.len(), |length| tag_at + length + 1)
        }
        Some(_) => return None,
    };
    let time = times.parse(&line[..space]);
    let name = Some((start + stream_at, start + stream_at + 6));
    (time != UNKNOWN_TIME).then_some(Piece { stream, name, time, content: (start + content, end), is_partial })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let one = |line: &str| {
            let piece = unwrap(line.as_bytes(), 0, line.len(), &mut Times::default())?;
            Some((piece.stream, piece.is_partial, line[piece.content.0..piece.content.1].to_owned()))
        };
        let time = "2016-10-06T00:17:09.669794202Z";
        for (rest, expected) in [
            ("stdout F content", Some((0, false, "content"))),
            ("stderr P  two words ", Some((1, true, " two words "))),
            ("stdout P:tag:other x", Some((0, true, "x"))),
            ("stdout F ", Some((0, false, ""))),
            ("stdout F", Some((0, false, ""))),
            ("stdout F\r", Some((0, false, ""))),
            ("stdout G x", None),
            ("stdout Fx", None),
            ("stdin F x", None),
            ("stdout ", None),
            ("stdout", None),
            ("", None),
        ] {
            let expected = expected.map(|(stream, partial, content)| (stream, partial, content.to_owned()));
            assert_eq!(one(&format!("{time} {rest}")), expected, "{rest}");
        }
        assert_eq!(one("yesterday stdout F x"), None);
        assert_eq!(one(time), None);
        assert_eq!(one(""), None);
    }
}
