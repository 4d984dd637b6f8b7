//! Other encodings than UTF-8: from a file's bytes to text, and back to where in the file it came from.
//!
//! Each line is decoded by itself, so that reading can go on at any of them.

use std::cell::Cell;

use encoding_rs::{
    CoderResult, DecoderResult, Encoding, ISO_2022_JP, REPLACEMENT, UTF_8, UTF_16BE, UTF_16LE, X_USER_DEFINED,
};

/// What becomes of bytes that are no text in the encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Invalid {
    /// Each such sequence becomes U+FFFD.
    #[default]
    Replace,
    /// The whole line stays as the bytes that it is. In UTF-16, whose bytes are no lines, it is as `Replace`.
    Keep,
}

/// Decodes one encoding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decoder {
    encoding: &'static Encoding,
    invalid: Invalid,
}

/// What was decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes that were taken; an incomplete character is left.
    pub taken: usize,
    /// Lines with bytes that are no text.
    pub invalid_lines: u64,
}

/// Where in a file the decoded text came from. Its memory is used again.
#[derive(Debug)]
pub struct Table {
    encoding: &'static Encoding,
    /// In order, and without gaps.
    segments: Vec<Segment>,
    /// The file's offset of the first byte of `bytes`.
    base: u64,
    /// What was decoded; empty if all of it has the same length in the file.
    bytes: Vec<u8>,
    /// Decoded and not decoded bytes in all.
    end: (usize, u64),
    /// The last place found inside of a segment: its start, where in the text, where in the file.
    last: Cell<(usize, usize, u64)>,
}

/// A line, or several bytes of text that are as in the file.
#[derive(Clone, Copy, Debug)]
struct Segment {
    at: usize,
    raw: u64,
    is_plain: bool,
}

impl Default for Table {
    fn default() -> Self {
        Table {
            encoding: UTF_8,
            segments: Vec::new(),
            base: 0,
            bytes: Vec::new(),
            end: (0, 0),
            last: Cell::new((usize::MAX, 0, 0)),
        }
    }
}

impl Table {
    /// The file's offset of a byte of the text, at which a character begins.
    pub fn raw(&self, at: usize) -> u64 {
        if at >= self.end.0 {
            return self.end.1;
        }
        let next = self.segments.partition_point(|segment| segment.at <= at);
        let Some(segment) = next.checked_sub(1).map(|index| self.segments[index]) else { return self.base };
        match segment.is_plain || at == segment.at {
            true => segment.raw + (at - segment.at) as u64,
            false => self.raw_inside(segment, at),
        }
    }

    /// Decodes the line once more, up to that place.
    fn raw_inside(&self, segment: Segment, at: usize) -> u64 {
        let last = self.last.get();
        // A decoder with states cannot go on in the middle of a line.
        let goes_on = last.0 == segment.at && last.1 <= at && self.encoding != ISO_2022_JP;
        let (mut text, from) = if goes_on { (last.1, last.2) } else { (segment.at, segment.raw) };
        let bytes = &self.bytes[(from - self.base) as usize..];
        let mut decoder = self.encoding.new_decoder_without_bom_handling();
        let (mut read, mut out) = (0, [0; 16]);
        let mut found = from;
        // What the decoder has read of what comes after something invalid, and gives with the next call.
        let mut held = 0;
        while text < at && (read < bytes.len() || held > 0) {
            let more = &bytes[read..read + usize::from(held == 0)];
            let (result, taken, written) = decoder.decode_to_utf8_without_replacement(more, &mut out, false);
            read += taken;
            text += written;
            held = 0;
            if let DecoderResult::Malformed(_, after) = result {
                text += char::REPLACEMENT_CHARACTER.len_utf8();
                held = after;
            }
            found = from + read as u64 - u64::from(held);
        }
        self.last.set((segment.at, text, found));
        found
    }

    fn begin(&mut self, encoding: &'static Encoding, base: u64) {
        self.encoding = encoding;
        self.base = base;
        self.segments.clear();
        self.bytes.clear();
        self.end = (0, base);
        self.last.set((usize::MAX, 0, 0));
    }

    fn add(&mut self, at: usize, raw: u64, is_plain: bool) {
        let goes_on = self.segments.last().is_some_and(|last| {
            last.is_plain && is_plain && at.checked_sub(last.at).map(|length| last.raw + length as u64) == Some(raw)
        });
        if !goes_on {
            self.segments.push(Segment { at, raw, is_plain });
        }
    }
}

impl Decoder {
    /// The decoder of an encoding by one of its names in the WHATWG's Encoding Standard.
    pub fn new(label: &str, invalid: Invalid) -> Option<Decoder> {
        let encoding = Encoding::for_label(label.as_bytes())?;
        (encoding != REPLACEMENT && encoding != X_USER_DEFINED).then_some(Decoder { encoding, invalid })
    }

    /// Whether there is nothing to do: the file's bytes are used as they are.
    pub fn is_plain(&self) -> bool {
        self.encoding == UTF_8 && self.invalid == Invalid::Keep
    }

    /// The encoding that a byte order mark at a file's first bytes says, or this one; and the mark's length.
    pub fn by_bom(self, head: &[u8]) -> (Decoder, usize) {
        match Encoding::for_bom(head) {
            Some((encoding, length)) => (Decoder { encoding, ..self }, length),
            None => (self, 0),
        }
    }

    /// Appends the text of `raw`, which begins at the file's offset `base`, to the arena; the table says from where
    /// each byte of it came, counted from where the arena ended before. What may be half of a character at the end is
    /// left, unless `last`.
    ///
    /// In UTF-16, `base` is where a unit begins.
    pub fn decode(&self, raw: &[u8], base: u64, last: bool, arena: &mut Vec<u8>, table: &mut Table) -> Decoded {
        table.begin(self.encoding, base);
        let from = arena.len();
        let mut decoded = Decoded::default();
        if self.is_plain() || self.encoding == UTF_8 && simdutf8::basic::from_utf8(raw).is_ok() {
            arena.extend_from_slice(raw);
            table.add(0, base, true);
            decoded.taken = raw.len();
        } else {
            while decoded.taken < raw.len() {
                let start = decoded.taken;
                let newline = self.newline(&raw[start..]);
                let line = &raw[start..start + newline.unwrap_or(raw.len() - start)];
                let at = arena.len() - from;
                let (taken, is_plain, is_valid) = self.line(line, last || newline.is_some(), arena);
                table.add(at, base + start as u64, is_plain);
                decoded.taken += taken;
                decoded.invalid_lines += u64::from(!is_valid);
                if taken < line.len() {
                    break;
                }
            }
            if table.segments.iter().any(|segment| !segment.is_plain) {
                table.bytes.extend_from_slice(&raw[..decoded.taken]);
            }
        }
        table.end = (arena.len() - from, base + decoded.taken as u64);
        decoded
    }

    /// The length of the first line with its newline.
    fn newline(&self, raw: &[u8]) -> Option<usize> {
        let is_16 = |at: usize| match self.encoding {
            e if e == UTF_16LE => at.is_multiple_of(2) && raw.get(at + 1) == Some(&0),
            _ => at % 2 == 1 && raw[at - 1] == 0,
        };
        if self.encoding == UTF_16LE || self.encoding == UTF_16BE {
            let newline = memchr::memchr_iter(b'\n', raw).find(|at| is_16(*at))?;
            return Some((newline / 2 + 1) * 2);
        }
        // In no other encoding it is a part of a character.
        Some(memchr::memchr(b'\n', raw)? + 1)
    }

    /// Decodes a line. Gives how many bytes were taken, whether they are the same as text, and whether they are valid.
    fn line(&self, line: &[u8], is_complete: bool, arena: &mut Vec<u8>) -> (usize, bool, bool) {
        if self.encoding.is_ascii_compatible() && Encoding::ascii_valid_up_to(line) == line.len() {
            arena.extend_from_slice(line);
            return (line.len(), true, true);
        }
        let from = arena.len();
        let mut decoder = self.encoding.new_decoder_without_bom_handling();
        // An overflow of an address space is no line of a file.
        let room = decoder.max_utf8_buffer_length(line.len()).unwrap_or(usize::MAX);
        arena.resize(from + room, 0);
        let (result, _, mut written, mut has_errors) = decoder.decode_to_utf8(line, &mut arena[from..], false);
        debug_assert_eq!(result, CoderResult::InputEmpty);
        // What the decoder still holds is the beginning of a character.
        let mut held = 0;
        loop {
            let (result, _, more) = decoder.decode_to_utf8_without_replacement(&[], &mut arena[from + written..], true);
            written += more;
            let DecoderResult::Malformed(length, after) = result else { break };
            held += usize::from(length) + usize::from(after);
            if !is_complete {
                break;
            }
            has_errors = true;
            arena[from + written..from + written + 3].copy_from_slice("\u{fffd}".as_bytes());
            written += 3;
        }
        let taken = if is_complete { line.len() } else { line.len() - held.min(line.len()) };
        arena.truncate(from + written);
        let is_kept = has_errors && self.invalid == Invalid::Keep && self.encoding.is_ascii_compatible();
        if is_kept {
            arena.truncate(from);
            arena.extend_from_slice(&line[..taken]);
        }
        (taken, is_kept, !has_errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(label: &str, invalid: Invalid, raw: &[u8], last: bool) -> (String, Decoded, Table) {
        let (mut arena, mut table) = (Vec::new(), Table::default());
        let decoded = Decoder::new(label, invalid).unwrap().decode(raw, 100, last, &mut arena, &mut table);
        (String::from_utf8_lossy(&arena).into_owned(), decoded, table)
    }

    #[test]
    fn every_character_is_traced_to_its_bytes() {
        let text = "plain\nß and ü\r\n日本語 text 漢字\n\nか1ナ2\n😀 last";
        for label in ["utf-8", "utf-16le", "utf-16be", "gbk", "gb18030", "shift_jis", "euc-jp", "big5", "euc-kr"] {
            let encoding = Encoding::for_label(label.as_bytes()).unwrap();
            let encode = |c: char| -> Vec<u8> {
                match label {
                    "utf-16le" => c.encode_utf16(&mut [0; 2]).iter().flat_map(|u| u.to_le_bytes()).collect(),
                    "utf-16be" => c.encode_utf16(&mut [0; 2]).iter().flat_map(|u| u.to_be_bytes()).collect(),
                    _ => encoding.encode(c.encode_utf8(&mut [0; 4])).0.into_owned(),
                }
            };
            let can = |c: &char| label.starts_with("utf-16") || !encoding.encode(c.encode_utf8(&mut [0; 4])).2;
            let text: String = text.chars().filter(can).collect();
            let (mut raw, mut places) = (Vec::new(), Vec::new());
            for (at, character) in text.char_indices() {
                places.push((at, 100 + raw.len() as u64));
                raw.extend(encode(character));
            }
            places.push((text.len(), 100 + raw.len() as u64));
            let (decoded, counts, table) = decode(label, Invalid::Replace, &raw, false);
            assert_eq!((decoded.as_str(), counts), (text.as_str(), Decoded { taken: raw.len(), invalid_lines: 0 }));
            let found: Vec<_> = places.iter().map(|(at, _)| (*at, table.raw(*at))).collect();
            assert_eq!(found, places, "{label}");
            let found: Vec<_> = places.iter().rev().map(|(at, _)| (*at, table.raw(*at))).collect();
            assert!(found.iter().eq(places.iter().rev()), "{label} backwards");
            // Wherever it ends, what is left is less than a character.
            for end in 0..raw.len() {
                let (some, counts, table) = decode(label, Invalid::Replace, &raw[..end], false);
                assert!(text.starts_with(&some) && counts.invalid_lines == 0, "{label} {end}");
                assert_eq!(table.raw(some.len()), 100 + counts.taken as u64);
                let whole = places.iter().rfind(|(_, raw)| *raw <= 100 + end as u64).unwrap();
                assert_eq!((some.len(), 100 + counts.taken as u64), *whole, "{label} {end}");
            }
        }
    }

    #[test]
    fn what_is_invalid_is_replaced_or_kept_by_line() {
        let raw = b"ok \xe4\xe3\nbad \xff\xff.\nok\n";
        let (text, counts, table) = decode("gbk", Invalid::Replace, raw, false);
        assert_eq!((text.as_str(), counts.invalid_lines), ("ok 溷\nbad \u{fffd}\u{fffd}.\nok\n", 1));
        assert_eq!([11, 14, 17, 18].map(|at| table.raw(at)), [110, 111, 112, 113]);
        let mut arena = Vec::new();
        let mut table = Table::default();
        Decoder::new("gbk", Invalid::Keep).unwrap().decode(raw, 0, false, &mut arena, &mut table);
        assert_eq!(arena, "ok 溷\n".bytes().chain(*b"bad \xff\xff.\nok\n").collect::<Vec<_>>());
        assert_eq!(table.raw(12), 11);
        let (text, counts, _) = decode("utf-8", Invalid::Replace, b"a\nb\xff\xe2\x82\n", false);
        assert_eq!((text.as_str(), counts.invalid_lines), ("a\nb\u{fffd}\u{fffd}\n", 1));
        // Half of a character at the end.
        assert_eq!(decode("utf-8", Invalid::Replace, b"a\xe2\x82", false).1, Decoded { taken: 1, invalid_lines: 0 });
        let (text, counts, _) = decode("utf-8", Invalid::Replace, b"a\xe2\x82", true);
        assert_eq!((text.as_str(), counts), ("a\u{fffd}", Decoded { taken: 3, invalid_lines: 1 }));
        let (text, counts, _) = decode("utf-16le", Invalid::Keep, b"a\0\0\xd8\n\0b\0", false);
        assert_eq!((text.as_str(), counts.invalid_lines), ("a\u{fffd}\nb", 1));
    }

    #[test]
    fn what_comes_after_half_of_a_pair_is_traced() {
        let (text, _, table) = decode("utf-16le", Invalid::Replace, b"a\0\0\xd8b\0c\0", false);
        assert_eq!(text, "a\u{fffd}bc");
        assert_eq!([0, 1, 4, 5, 6].map(|at| table.raw(at)), [100, 102, 104, 106, 108]);
    }

    #[test]
    fn a_byte_order_mark_says_the_encoding() {
        let gbk = Decoder::new("gbk", Invalid::Keep).unwrap();
        let by = |head: &[u8]| (gbk.by_bom(head).0.encoding.name(), gbk.by_bom(head).1);
        assert_eq!(by(b"\xef\xbb\xbfx"), ("UTF-8", 3));
        assert_eq!(by(b"\xff\xfex\0"), ("UTF-16LE", 2));
        assert_eq!(by(b"\xfe\xff"), ("UTF-16BE", 2));
        assert_eq!(by(b"text"), ("GBK", 0));
        assert!(gbk.by_bom(b"\xef\xbb\xbf").0.is_plain());
        assert!(Decoder::new("hz-gb-2312", Invalid::Keep).is_none() && Decoder::new("no", Invalid::Keep).is_none());
    }
}
