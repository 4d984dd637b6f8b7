//! JSON's grammar over spans: where a string, a number or a nested value ends, and whether it is well formed.
//!
//! Control characters and bytes that are not UTF-8 are let through in strings: logs have them.

use weir_plugin::Kind;
use weir_plugin::scan::{digits, find, find2};

/// Why a line is not a JSON object.
pub type Reason = &'static str;

pub const NOT_AN_OBJECT: Reason = "not an object";
pub const TRUNCATED: Reason = "truncated";
pub const TRAILING: Reason = "trailing bytes";
pub const TOO_DEEP: Reason = "nested deeper than max_depth";
pub const NO_KEY: Reason = "a key is missing";
pub const NO_COLON: Reason = "a colon is missing";
pub const NO_COMMA: Reason = "a comma is missing";
pub const BAD_VALUE: Reason = "not a JSON value";
pub const BAD_ESCAPE: Reason = "not a JSON escape";

/// The bytes of a batch up to the end of one line. Positions are indices of `data`.
#[derive(Clone, Copy)]
pub struct Text<'d> {
    pub data: &'d [u8],
    pub end: usize,
}

impl Text<'_> {
    #[inline]
    pub fn byte(self, at: usize) -> Result<u8, Reason> {
        if at < self.end { Ok(self.data[at]) } else { Err(TRUNCATED) }
    }

    /// The first position from `at` on that is not white space.
    #[inline]
    pub fn skip_blank(self, mut at: usize) -> usize {
        while at < self.end && matches!(self.data[at], b' ' | b'\t' | b'\n' | b'\r') {
            at += 1;
        }
        at
    }

    /// For a string whose bytes begin at `start`: where its closing quote is, and whether it has escapes.
    #[inline(always)]
    pub fn string(self, start: usize) -> Result<(usize, bool), Reason> {
        match find2(self.data, start, self.end, b'"', b'\\') {
            Some(at) if self.data[at] == b'"' => Ok((at, false)),
            Some(at) => Ok((self.string_from_escape(at)?, true)),
            None => Err(TRUNCATED),
        }
    }

    #[inline(never)]
    fn string_from_escape(self, mut at: usize) -> Result<usize, Reason> {
        loop {
            at += self.escape(at)?;
            match find2(self.data, at, self.end, b'"', b'\\') {
                Some(found) if self.data[found] == b'"' => return Ok(found),
                Some(found) => at = found,
                None => return Err(TRUNCATED),
            }
        }
    }

    /// The length of the escape at `at`.
    fn escape(self, at: usize) -> Result<usize, Reason> {
        match self.byte(at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(2),
            b'u' => {
                for i in 2..6 {
                    if !self.byte(at + i)?.is_ascii_hexdigit() {
                        return Err(BAD_ESCAPE);
                    }
                }
                Ok(6)
            }
            _ => Err(BAD_ESCAPE),
        }
    }

    /// For a number that begins at `at`: where it ends, and whether it is an integer or a float.
    #[inline]
    pub fn number(self, at: usize) -> Result<(usize, Kind), Reason> {
        let start = at + usize::from(self.byte(at)? == b'-');
        let end = self.digits(start)?;
        if end > start + 1 && self.data[start] == b'0' {
            return Err(BAD_VALUE);
        }
        if end < self.end && matches!(self.data[end], b'.' | b'e' | b'E') {
            return Ok((self.fraction(end)?, Kind::Float));
        }
        Ok((end, Kind::Integer))
    }

    fn fraction(self, mut at: usize) -> Result<usize, Reason> {
        if self.data[at] == b'.' {
            at = self.digits(at + 1)?;
        }
        if at < self.end && matches!(self.data[at], b'e' | b'E') {
            let sign = usize::from(matches!(self.byte(at + 1)?, b'+' | b'-'));
            at = self.digits(at + 1 + sign)?;
        }
        Ok(at)
    }

    /// Where the digits end, of which there must be one.
    #[inline]
    fn digits(self, at: usize) -> Result<usize, Reason> {
        match digits(self.data, at, self.end) {
            0 if at < self.end => Err(BAD_VALUE),
            0 => Err(TRUNCATED),
            count => Ok(at + count),
        }
    }

    /// For `true`, `false` or `null` at `at`: where it ends, and its kind.
    #[inline]
    pub fn word(self, at: usize) -> Result<(usize, Kind), Reason> {
        let rest = &self.data[at..self.end];
        if rest.starts_with(b"true") {
            Ok((at + 4, Kind::Boolean))
        } else if rest.starts_with(b"false") {
            Ok((at + 5, Kind::Boolean))
        } else if rest.starts_with(b"null") {
            Ok((at + 4, Kind::Json))
        } else if [&b"true"[..], b"false", b"null"].iter().any(|word| word.starts_with(rest)) {
            Err(TRUNCATED)
        } else {
            Err(BAD_VALUE)
        }
    }

    /// For an object or an array that begins at `at`: where it ends. It may be nested `most` deep, itself
    /// counted. `open` is room to work in: for each open value, whether it is an object.
    #[inline(never)]
    pub fn nested(self, mut at: usize, most: usize, open: &mut Vec<bool>) -> Result<usize, Reason> {
        open.clear();
        loop {
            at = match self.byte(at)? {
                opening @ (b'{' | b'[') => {
                    if open.len() == most {
                        return Err(TOO_DEEP);
                    }
                    open.push(opening == b'{');
                    let inner = self.skip_blank(at + 1);
                    if self.byte(inner)? != opening + 2 {
                        at = self.item(inner, opening == b'{')?;
                        continue;
                    }
                    inner
                }
                b'"' => self.string(at + 1)?.0 + 1,
                b'-' | b'0'..=b'9' => self.number(at)?.0,
                _ => self.word(at)?.0,
            };
            // Behind a value, or at the end of an empty one: the ends of what it is in, and a comma.
            while let Some(&is_object) = open.last() {
                at = self.skip_blank(at);
                match self.byte(at)? {
                    b'}' if is_object => drop(open.pop()),
                    b']' if !is_object => drop(open.pop()),
                    b',' => {
                        at = self.item(self.skip_blank(at + 1), is_object)?;
                        break;
                    }
                    _ => return Err(NO_COMMA),
                }
                at += 1;
            }
            if open.is_empty() {
                return Ok(at);
            }
        }
    }

    /// Where the value of the item at `at` begins: behind the key, in an object.
    #[inline]
    fn item(self, at: usize, in_object: bool) -> Result<usize, Reason> {
        if in_object { Ok(self.key(at)?.value) } else { Ok(at) }
    }

    /// The key at `at`.
    #[inline]
    pub fn key(self, at: usize) -> Result<Key, Reason> {
        if self.byte(at)? != b'"' {
            return Err(NO_KEY);
        }
        let (end, escaped) = self.string(at + 1)?;
        let colon = self.skip_blank(end + 1);
        if self.byte(colon)? != b':' {
            return Err(NO_COLON);
        }
        Ok(Key { start: at + 1, end, escaped, value: self.skip_blank(colon + 1) })
    }
}

/// A key of an object: its bytes between the quotes, and where its value begins.
pub struct Key {
    pub start: usize,
    pub end: usize,
    pub escaped: bool,
    pub value: usize,
}

/// Appends the text of a string whose escapes are well formed. A surrogate without its other half becomes U+FFFD.
pub fn unescape(string: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(escape) = find(string, at, string.len(), b'\\') {
        out.extend_from_slice(&string[at..escape]);
        at = escape + 2;
        let byte = match string[escape + 1] {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let c;
                (c, at) = code_point(string, at);
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            itself => itself,
        };
        out.push(byte);
    }
    out.extend_from_slice(&string[at..]);
}

/// What the four digits at `at` stand for, with the escape after them if they are the first half of a pair; and
/// where it ends.
fn code_point(string: &[u8], at: usize) -> (char, usize) {
    let unit = hex(&string[at..at + 4]);
    let next = at + 4;
    let second = match string[next..] {
        [b'\\', b'u', a, b, c, d, ..] => hex(&[a, b, c, d]),
        _ => 0,
    };
    if (0xd800..0xdc00).contains(&unit) && (0xdc00..0xe000).contains(&second) {
        let code = 0x10000 + ((unit - 0xd800) << 10) + (second - 0xdc00);
        return (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), next + 6);
    }
    (char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER), next)
}

fn hex(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |value, digit| value * 16 + char::from(*digit).to_digit(16).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &str) -> Text<'_> {
        Text { data: line.as_bytes(), end: line.len() }
    }

    #[test]
    fn numbers_follow_the_grammar() {
        for (line, expected) in [
            ("0", Ok((1, Kind::Integer))),
            ("-0,", Ok((2, Kind::Integer))),
            ("12345678901234567890,", Ok((20, Kind::Integer))),
            ("1.50}", Ok((4, Kind::Float))),
            ("-1e5", Ok((4, Kind::Float))),
            ("1.0E+05 ", Ok((7, Kind::Float))),
            ("01", Err(BAD_VALUE)),
            ("-", Err(TRUNCATED)),
            ("-x", Err(BAD_VALUE)),
            ("1.", Err(TRUNCATED)),
            ("1.e5", Err(BAD_VALUE)),
            ("1e", Err(TRUNCATED)),
            ("1e+", Err(TRUNCATED)),
            ("1e+}", Err(BAD_VALUE)),
        ] {
            assert_eq!(text(line).number(0), expected, "{line}");
        }
    }

    #[test]
    fn nested_values_end_where_they_should() {
        let mut open = Vec::new();
        for (line, expected) in [
            ("[]", Ok(2)),
            ("{ }x", Ok(3)),
            (r#"[1, "]", {"a" : [true,null , {}]}] "#, Ok(34)),
            (r#"{"a":1,"b":-1.5e3}}"#, Ok(18)),
            ("[1 2]", Err(NO_COMMA)),
            ("[1}", Err(NO_COMMA)),
            ("[1,]", Err(BAD_VALUE)),
            ("[,1]", Err(BAD_VALUE)),
            ("{,}", Err(NO_KEY)),
            (r#"{"a"}"#, Err(NO_COLON)),
            (r#"{"a":1,}"#, Err(NO_KEY)),
            (r#"{"a":}"#, Err(BAD_VALUE)),
            ("[nul]", Err(BAD_VALUE)),
            ("[nul", Err(TRUNCATED)),
            ("[[[[[]]]]]", Err(TOO_DEEP)),
            ("[[[", Err(TRUNCATED)),
        ] {
            assert_eq!(text(line).nested(0, 4, &mut open), expected, "{line}");
        }
    }

    #[test]
    fn escapes_become_what_they_stand_for() {
        for (escaped, expected) in [
            (r#"\"\\\/\b\f\n\r\t"#, "\"\\/\u{8}\u{c}\n\r\t"),
            (r"caf\u00e9\u0041", "caféA"),
            (r"\ud83d\ude00!", "😀!"),
            (r"\ud83d", "\u{fffd}"),
            (r"\ud83dx\ude00", "\u{fffd}x\u{fffd}"),
            (r"\ud83d\u0041", "\u{fffd}A"),
            (r"\ud83d\ud83d\ude00", "\u{fffd}😀"),
        ] {
            let line = format!("{escaped}\"");
            assert_eq!(text(&line).string(0), Ok((escaped.len(), true)), "{escaped}");
            let mut out = Vec::new();
            unescape(escaped.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{escaped}");
        }
        for (line, reason) in
            [(r#"\x""#, BAD_ESCAPE), (r#"\u00g0""#, BAD_ESCAPE), (r"\u00", TRUNCATED), (r"\", TRUNCATED)]
        {
            assert_eq!(text(line).string(0), Err(reason), "{line}");
        }
    }
}
