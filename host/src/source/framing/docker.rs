//! One line of what Docker's `json-file` driver writes: `{"log":"content\n","stream":"stdout","time":"…"}`.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::container::Piece;
use super::time::Times;

/// Why a line is shipped as it is.
pub const MALFORMED: &str = "docker: not a line of this format";

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    log: &'a RawValue,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow, default)]
    time: Cow<'a, str>,
}

/// Takes the line `start..end` of the arena apart; none if it is not of this format. Content with escapes is appended
/// to the arena. A time that is none is unknown.
pub fn unwrap(arena: &mut Vec<u8>, start: usize, end: usize, times: &mut Times) -> Option<Piece> {
    let (stream, time, from, length) = {
        let line: Line = serde_json::from_slice(&arena[start..end]).ok()?;
        let stream = match &*line.stream {
            "stdout" => 0,
            "stderr" => 1,
            _ => return None,
        };
        let inner = line.log.get().strip_prefix('"')?.strip_suffix('"')?;
        // Where the value is borrowed from.
        let from = inner.as_ptr() as usize - arena.as_ptr() as usize;
        (stream, times.parse(line.time.as_bytes()), from, inner.len())
    };
    let bytes = &arena[from..from + length];
    let is_complete = bytes.ends_with(b"\\n");
    let plain = length - if is_complete { 2 } else { 0 };
    if memchr::memchr(b'\\', &bytes[..plain]).is_none() {
        return Some(Piece { stream, name: None, time, content: (from, from + plain), is_partial: !is_complete });
    }
    let made = arena.len();
    unescape(arena, from, from + length);
    let is_complete = arena.len() > made && arena.ends_with(b"\n");
    if is_complete {
        arena.pop();
    }
    Some(Piece { stream, name: None, time, content: (made, arena.len()), is_partial: !is_complete })
}

/// Appends what a JSON string's inside, which is known to be sound, means. Half of a surrogate pair is U+FFFD.
fn unescape(arena: &mut Vec<u8>, start: usize, end: usize) {
    let mut at = start;
    while at < end {
        let plain = memchr::memchr(b'\\', &arena[at..end]).unwrap_or(end - at);
        arena.extend_from_within(at..at + plain);
        at += plain;
        if at + 1 >= end {
            return;
        }
        let escaped = arena[at + 1];
        at += 2;
        match escaped {
            b'n' => arena.push(b'\n'),
            b'r' => arena.push(b'\r'),
            b't' => arena.push(b'\t'),
            b'b' => arena.push(8),
            b'f' => arena.push(12),
            b'u' => {
                let first = unit(arena, at, end);
                at += 4;
                let mut code = first;
                if first & 0xfc00 == 0xd800 && arena.get(at..at + 2) == Some(b"\\u") {
                    let second = unit(arena, at + 2, end);
                    if second & 0xfc00 == 0xdc00 {
                        code = 0x10000 + ((first & 0x3ff) << 10) + (second & 0x3ff);
                        at += 6;
                    }
                }
                let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                arena.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => arena.push(other),
        }
    }
}

/// Four hexadecimal digits.
fn unit(arena: &[u8], at: usize, end: usize) -> u32 {
    let digits = &arena[at.min(end)..(at + 4).min(end)];
    digits.iter().fold(0, |sum, digit| sum << 4 | char::from(*digit).to_digit(16).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let one = |log: &str| {
            let line = format!(r#"{{"log":{log},"attrs":{{"a":1}},"stream":"stderr","time":"1970-01-01T00:00:01Z"}}"#);
            let mut arena = line.into_bytes();
            let end = arena.len();
            let piece = unwrap(&mut arena, 0, end, &mut Times::default())?;
            assert_eq!((piece.stream, piece.time), (1, 1_000_000_000));
            let content = String::from_utf8(arena[piece.content.0..piece.content.1].to_vec()).unwrap();
            Some((content, piece.is_partial))
        };
        for (log, content, is_partial) in [
            (r#""text\n""#, "text", false),
            (r#""text""#, "text", true),
            (r#""text\\n""#, "text\\n", true),
            (r#""a\tb\r\n""#, "a\tb\r", false),
            (r#""\u00fc\ud83d\ude00\ud83dx\"\\\/\u000a""#, "ü😀\u{fffd}x\"\\/", false),
            (r#""""#, "", true),
            (r#""\n""#, "", false),
        ] {
            assert_eq!(one(log), Some((content.to_owned(), is_partial)), "{log}");
        }
        assert_eq!(one("1"), None);
        let mut arena = b"{\"log\":\"x\\n\"}{".to_vec();
        for end in 0..arena.len() {
            assert!(unwrap(&mut arena, 0, end, &mut Times::default()).is_none());
        }
    }
}
