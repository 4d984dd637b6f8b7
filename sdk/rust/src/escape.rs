//! Undoing the escapes that log writers use: of C, Go, JSON, nginx and Apache.

use crate::scan::find;

/// Appends the bytes with their escapes undone; what is no escape stays.
///
/// Escapes are `\"`, `\'`, `\\`, `\/`, `\n`, `\r`, `\t`, `\b`, `\f`, `\v`, `\a`, `\xHH`, `\uHHHH`, two of these for a
/// surrogate pair, and `\UHHHHHHHH`.
pub fn append(mut bytes: &[u8], out: &mut Vec<u8>) {
    while let Some(backslash) = find(bytes, 0, bytes.len(), b'\\') {
        out.extend_from_slice(&bytes[..backslash]);
        let escape = &bytes[backslash + 1..];
        let used = undo(escape, out).unwrap_or_else(|| {
            out.push(b'\\');
            0
        });
        bytes = &escape[used..];
    }
    out.extend_from_slice(bytes);
}

/// Appends what stands behind a backslash, and says how many bytes that was; none if it is no escape.
fn undo(escape: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let byte = match escape.first()? {
        c @ (b'"' | b'\'' | b'\\' | b'/') => *c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'f' => 0x0c,
        b'v' => 0x0b,
        b'a' => 0x07,
        b'x' => {
            out.push(hex(escape, 1, 2)? as u8);
            return Some(3);
        }
        b'u' => {
            let (c, used) = code_point(escape)?;
            return Some(push(c, used, out));
        }
        b'U' => return Some(push(char::from_u32(hex(escape, 1, 8)?)?, 9, out)),
        _ => return None,
    };
    out.push(byte);
    Some(1)
}

/// What `uHHHH`, or two of them with a backslash between, stand for, and how many bytes that is.
fn code_point(escape: &[u8]) -> Option<(char, usize)> {
    let unit = hex(escape, 1, 4)?;
    if (0xd800..0xdc00).contains(&unit) && escape.get(5..7) == Some(b"\\u") {
        let second = hex(escape, 7, 4).filter(|second| (0xdc00..0xe000).contains(second))?;
        return Some((char::from_u32(0x10000 + ((unit - 0xd800) << 10) + (second - 0xdc00))?, 11));
    }
    Some((char::from_u32(unit)?, 5))
}

fn push(c: char, used: usize, out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    used
}

fn hex(bytes: &[u8], at: usize, digits: usize) -> Option<u32> {
    let digits = bytes.get(at..at + digits)?.iter();
    digits.map(|digit| char::from(*digit).to_digit(16)).try_fold(0, |value, digit| Some(value << 4 | digit?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn escapes_are_undone_and_the_rest_stays() {
        for (from, to) in [
            (r#"a\"b\\c\'"#, "a\"b\\c'"),
            (r"\n\r\t\b\f\v\a\/", "\n\r\t\u{8}\u{c}\u{b}\u{7}/"),
            (r"\x41\x7a", "Az"),
            (r"\u0041\u20ac", "A€"),
            (r"\ud83d\ude00\U0001F600", "😀😀"),
            (r"\ud800", r"\ud800"),
            (r"\ud83d\u0041", r"\ud83dA"),
            (r"\U00110000", r"\U00110000"),
            (r"\x4", r"\x4"),
            (r"\x+1", r"\x+1"),
            (r"\q", r"\q"),
            (r"\", r"\"),
            (r"\\\", r"\\"),
            ("", ""),
        ] {
            let mut out = Vec::new();
            super::append(from.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), to, "{from}");
        }
    }
}
