//! From the ways in which logs write a time to nanoseconds since the Unix epoch.
//!
//! There is no clock and no time zone database in the sandbox: a time without a zone is taken as UTC, or
//! in the offset that the plugin's settings give.

use serde::Deserialize;

use crate::Settings;

pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const DAY: i64 = 86_400;

/// Days from the epoch to a date of the proleptic Gregorian calendar.
pub fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": years begin in March.
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = i64::from((153 * ((month + 9) % 12) + 2) / 5 + day - 1);
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a day counted from the epoch: [`days_from_civil`] the other way.
pub(crate) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = (from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day_of_year - (153 * from_march + 2) / 5 + 1)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

pub(crate) fn days_in(year: i64, month: u32) -> u32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The parts of a time as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parts {
    year: i64,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    nanosecond: u32,
    /// Seconds east of UTC.
    offset: i64,
}

impl Parts {
    /// Nanoseconds since the epoch; none if there is no such time. A leap second is the next second's start.
    #[inline]
    fn nanoseconds(self) -> Option<i64> {
        let date = (1..=12).contains(&self.month) && self.day >= 1 && self.day <= days_in(self.year, self.month);
        if !date || self.hour > 23 || self.minute > 59 || self.second > 60 {
            return None;
        }
        let clock = i64::from(self.hour * 3600 + self.minute * 60 + self.second);
        let seconds = days_from_civil(self.year, self.month, self.day) * DAY + clock - self.offset;
        seconds.checked_mul(SECOND)?.checked_add(i64::from(self.nanosecond))
    }
}

/// The decimal number in `text[at..at + len]`.
#[inline]
pub(crate) fn digits(text: &[u8], at: usize, len: usize) -> Option<u32> {
    let mut value = 0;
    for byte in text.get(at..at + len)? {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u32::from(digit);
    }
    Some(value)
}

pub(crate) fn month(name: &[u8]) -> Option<u32> {
    const NAMES: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let name = name.get(..3)?;
    NAMES.chunks_exact(3).position(|n| n.eq_ignore_ascii_case(name)).map(|i| i as u32 + 1)
}

/// `+0800`, `+08:00` or `Z` at `at`: seconds east of UTC, and where it ends.
pub(crate) fn offset(text: &[u8], at: usize) -> Option<(i64, usize)> {
    let sign = match text.get(at)? {
        b'Z' | b'z' => return Some((0, at + 1)),
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let hours = digits(text, at + 1, 2)?;
    let colon = usize::from(text.get(at + 3) == Some(&b':'));
    let minutes = digits(text, at + 3 + colon, 2)?;
    (hours <= 23 && minutes <= 59).then_some((sign * i64::from(hours * 3600 + minutes * 60), at + 5 + colon))
}

/// nginx's and Apache's `02/Jan/2006:15:04:05 -0700`.
pub fn parse_clf(text: &[u8]) -> Option<i64> {
    let marks = text.len() == 26 && text[2] == b'/' && text[6] == b'/' && text[11] == b':';
    if !marks || text[14] != b':' || text[17] != b':' || text[20] != b' ' {
        return None;
    }
    let parts = Parts {
        year: i64::from(digits(text, 7, 4)?),
        month: month(&text[3..])?,
        day: digits(text, 0, 2)?,
        hour: digits(text, 12, 2)?,
        minute: digits(text, 15, 2)?,
        second: digits(text, 18, 2)?,
        nanosecond: 0,
        offset: offset(text, 21)?.0,
    };
    parts.nanoseconds()
}

/// RFC 3339 and the common ways to write ISO 8601: `T` or a space between, a fraction after `.` or `,`, the
/// zone as `Z`, `+08:00`, `+0800` or left out, which is UTC.
pub fn parse_rfc3339(text: &[u8]) -> Option<i64> {
    let marks = text.len() >= 19 && text[4] == b'-' && text[7] == b'-' && matches!(text[10], b'T' | b't' | b' ');
    if !marks || text[13] != b':' || text[16] != b':' {
        return None;
    }
    let (nanosecond, at) = match text.get(19) {
        Some(b'.' | b',') => fraction(text, 20)?,
        _ => (0, 19),
    };
    let (offset, end) = if at == text.len() { (0, at) } else { offset(text, at)? };
    let parts = Parts {
        year: i64::from(digits(text, 0, 4)?),
        month: digits(text, 5, 2)?,
        day: digits(text, 8, 2)?,
        hour: digits(text, 11, 2)?,
        minute: digits(text, 14, 2)?,
        second: digits(text, 17, 2)?,
        nanosecond,
        offset,
    };
    if end == text.len() { parts.nanoseconds() } else { None }
}

/// Whether a text that [`parse_rfc3339`] reads says its zone, so that it does not stand for UTC for want of one.
pub fn has_offset(text: &[u8]) -> bool {
    let zone = text.iter().skip("2006-01-02T15:04:05".len());
    zone.rev().any(|byte| matches!(byte, b'Z' | b'z' | b'+' | b'-'))
}

/// Nanoseconds since the epoch as RFC 3339 in UTC: `2006-01-02T15:04:05.25Z`, with as many digits of a fraction
/// as are needed, and none if it is zero.
pub fn format_rfc3339(nanoseconds: i64) -> String {
    let (seconds, fraction) = (nanoseconds.div_euclid(SECOND), nanoseconds.rem_euclid(SECOND));
    let (year, month, day) = civil_from_days(seconds.div_euclid(DAY));
    let clock = seconds.rem_euclid(DAY);
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if fraction > 0 {
        let digits = format!(".{fraction:09}");
        text.push_str(digits.trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// Digits of a second's fraction from `at`: nanoseconds, cut after the ninth digit, and where they end.
#[inline]
pub(crate) fn fraction(text: &[u8], at: usize) -> Option<(u32, usize)> {
    let (mut value, mut unit, mut end) = (0, 100_000_000, at);
    while let Some(digit @ b'0'..=b'9') = text.get(end) {
        value += unit * u32::from(digit - b'0');
        unit /= 10;
        end += 1;
    }
    (end > at).then_some((value, end))
}

/// How a time is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// As [`parse_rfc3339`].
    Rfc3339,
    /// As [`parse_clf`].
    Clf,
    /// A decimal number of units since the epoch, perhaps with a fraction; nanoseconds per unit.
    Unix(i64),
    /// Parts in an order of its own.
    Pattern(Vec<Piece>),
}

/// One piece of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// This byte.
    Literal(u8),
    /// Any number of spaces, also none.
    Space,
    /// What this letter of strftime stands for.
    Part(u8),
}

impl Format {
    /// Reads a format's name (`rfc3339`, `clf`, `unix`, `unix_ms`, `unix_us`, `unix_ns`) or a pattern of
    /// strftime: `%Y %m %d %e %H %M %S %f %b %B %y %j %z %s %T %F %%`; `%f` is a fraction of any length.
    pub fn parse(format: &str) -> Result<Format, String> {
        Ok(match format {
            "rfc3339" | "iso8601" => Format::Rfc3339,
            "clf" => Format::Clf,
            "unix" => Format::Unix(SECOND),
            "unix_ms" => Format::Unix(1_000_000),
            "unix_us" => Format::Unix(1_000),
            "unix_ns" => Format::Unix(1),
            pattern if pattern.bytes().any(|byte| byte == b'%') => Format::Pattern(pieces(pattern)?),
            other => {
                return Err(format!(
                    "time format `{other}` is not known: use rfc3339, clf, unix, unix_ms, unix_us, unix_ns, or a pattern such as `%Y-%m-%d %H:%M:%S`"
                ));
            }
        })
    }

    /// Reads a format that is in a plugin's source. Panics if it cannot be read.
    pub fn known(format: &'static str) -> Format {
        Format::parse(format).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Whether a time in this format says its zone, or cannot have one.
    pub fn has_zone(&self) -> bool {
        match self {
            Format::Pattern(pieces) => pieces.iter().any(|piece| matches!(piece, Piece::Part(b'z' | b's'))),
            Format::Rfc3339 | Format::Clf | Format::Unix(_) => true,
        }
    }

    /// Nanoseconds since the epoch; none if the text is not a time in this format.
    #[inline]
    pub fn read(&self, text: &[u8]) -> Option<i64> {
        match self {
            Format::Rfc3339 => parse_rfc3339(text),
            Format::Clf => parse_clf(text),
            Format::Unix(unit) => unix(text, *unit),
            Format::Pattern(pieces) => by_pattern(text, pieces),
        }
    }
}

fn pieces(pattern: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut bytes = pattern.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => match bytes.next() {
                Some(b'%') => pieces.push(Piece::Literal(b'%')),
                Some(b'T') => pieces.extend(self::pieces("%H:%M:%S")?),
                Some(b'F') => pieces.extend(self::pieces("%Y-%m-%d")?),
                Some(
                    part @ (b'Y' | b'm' | b'd' | b'e' | b'H' | b'M' | b'S' | b'f' | b'b' | b'B' | b'y' | b'j' | b'z'
                    | b's'),
                ) => {
                    pieces.push(Piece::Part(part));
                }
                Some(other) => {
                    return Err(format!("time format `{pattern}`: `%{}` is not supported", char::from(other)));
                }
                None => return Err(format!("time format `{pattern}` ends in `%`")),
            },
            b' ' => pieces.push(Piece::Space),
            byte => pieces.push(Piece::Literal(byte)),
        }
    }
    Ok(pieces)
}

fn unix(text: &[u8], unit: i64) -> Option<i64> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let whole = text.iter().take_while(|b| b.is_ascii_digit()).count();
    if whole == 0 {
        return None;
    }
    let mut value: i64 = 0;
    for byte in &text[..whole] {
        value = value.checked_mul(10)?.checked_add(i64::from(byte - b'0'))?;
    }
    value = value.checked_mul(unit)?;
    if let Some(b'.') = text.get(whole) {
        let (part, end) = fraction(text, whole + 1)?;
        if end != text.len() {
            return None;
        }
        value = value.checked_add(i64::from(part) * unit / SECOND)?;
    } else if whole != text.len() {
        return None;
    }
    Some(if negative { -value } else { value })
}

fn by_pattern(text: &[u8], pieces: &[Piece]) -> Option<i64> {
    let mut parts = Parts { year: 1970, month: 1, day: 1, hour: 0, minute: 0, second: 0, nanosecond: 0, offset: 0 };
    let mut day_of_year = None;
    let mut unix = None;
    let mut at = 0;
    let number = |at: &mut usize, most: usize| -> Option<u32> {
        let len = text.get(*at..)?.iter().take(most).take_while(|b| b.is_ascii_digit()).count();
        let value = if len > 0 { digits(text, *at, len) } else { None };
        *at += len;
        value
    };
    for piece in pieces {
        match *piece {
            Piece::Literal(byte) => {
                if text.get(at) != Some(&byte) {
                    return None;
                }
                at += 1;
            }
            Piece::Space => at += text[at..].iter().take_while(|b| **b == b' ').count(),
            Piece::Part(b'Y') => parts.year = i64::from(number(&mut at, 4)?),
            Piece::Part(b'y') => {
                let year = i64::from(number(&mut at, 2)?);
                parts.year = if year < 69 { 2000 + year } else { 1900 + year };
            }
            Piece::Part(b'm') => parts.month = number(&mut at, 2)?,
            Piece::Part(b'd') => parts.day = number(&mut at, 2)?,
            Piece::Part(b'e') => {
                at += usize::from(text.get(at) == Some(&b' '));
                parts.day = number(&mut at, 2)?;
            }
            Piece::Part(b'H') => parts.hour = number(&mut at, 2)?,
            Piece::Part(b'M') => parts.minute = number(&mut at, 2)?,
            Piece::Part(b'S') => parts.second = number(&mut at, 2)?,
            Piece::Part(b'j') => day_of_year = Some(number(&mut at, 3)?),
            Piece::Part(b'f') => (parts.nanosecond, at) = fraction(text, at.min(text.len()))?,
            Piece::Part(b'z') => (parts.offset, at) = offset(text, at)?,
            Piece::Part(b's') => {
                let len = text[at..].iter().take_while(|b| b.is_ascii_digit()).count();
                unix = Some(self::unix(&text[at..at + len], SECOND)?);
                at += len;
            }
            Piece::Part(name) => {
                parts.month = month(text.get(at..)?)?;
                at += if name == b'B' { text[at..].iter().take_while(|b| b.is_ascii_alphabetic()).count() } else { 3 };
            }
        }
    }
    if at != text.len() {
        return None;
    }
    if let Some(seconds) = unix {
        return seconds.checked_add(i64::from(parts.nanosecond));
    }
    match day_of_year {
        None => parts.nanoseconds(),
        Some(day) => {
            let days = if is_leap(parts.year) { 366 } else { 365 };
            let first = Parts { month: 1, day: 1, ..parts };
            (1..=days).contains(&day).then(|| first.nanoseconds()?.checked_add((i64::from(day) - 1) * DAY * SECOND))?
        }
    }
}

/// The usual setting of a parser: which of its fields is the event's time.
#[derive(Clone, Debug, Deserialize, Settings)]
#[serde(deny_unknown_fields)]
pub struct TimeField {
    /// The field that has the event's time.
    pub field: String,
    /// How it is written: rfc3339, clf, unix, unix_ms, unix_us, unix_ns, or a pattern such as `%Y-%m-%d %H:%M:%S`.
    pub format: String,
}

impl TimeField {
    /// What reads the field's text. The error names the format that is not known.
    pub fn reader(&self) -> Result<Cached, String> {
        Format::parse(&self.format).map(Cached::new).map_err(|e| format!("time: {e}"))
    }
}

/// A format that remembers the last text: many lines have the time of the line before.
#[derive(Clone, Debug)]
pub struct Cached {
    format: Format,
    text: [u8; 40],
    len: usize,
    time: Option<i64>,
}

impl Cached {
    /// Remembers nothing yet.
    pub fn new(format: Format) -> Self {
        Cached { format, text: [0; 40], len: usize::MAX, time: None }
    }

    /// As [`Format::read`].
    #[inline]
    pub fn read(&mut self, text: &[u8]) -> Option<i64> {
        if text.len() == self.len && crate::scan::equal(&self.text[..self.len], text) {
            return self.time;
        }
        self.time = self.format.read(text);
        self.len = usize::MAX;
        if text.len() <= self.text.len() {
            self.text[..text.len()].copy_from_slice(text);
            self.len = text.len();
        }
        self.time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values are `date -u -d '…' +%s`'s.
    #[test]
    fn clf() {
        assert_eq!(parse_clf(b"10/Oct/2000:13:55:36 -0700"), Some(971_211_336 * SECOND));
        assert_eq!(parse_clf(b"29/Feb/2024:00:00:00 +0000"), Some(1_709_164_800 * SECOND));
        for wrong in ["29/Feb/2023:00:00:00 +0000", "10/Okt/2000:13:55:36 -0700", "10/Oct/2000:24:55:36 -0700", ""] {
            assert_eq!(parse_clf(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn rfc3339() {
        let second = 1_136_214_245 * SECOND;
        for (text, expected) in [
            ("2006-01-02T15:04:05Z", second),
            ("2006-01-02 15:04:05", second),
            ("2006-01-02T22:04:05.25+07:00", second + 250_000_000),
            ("2006-01-02T15:04:05,123456789987Z", second + 123_456_789),
            ("1969-12-31T23:59:59Z", -SECOND),
        ] {
            assert_eq!(parse_rfc3339(text.as_bytes()), Some(expected), "{text}");
        }
        for wrong in
            ["2006-01-02T15:04:05.Z", "2006-13-02T15:04:05Z", "2006-01-02T15:04:05Zulu", "9999-12-31T23:59:59Z"]
        {
            assert_eq!(parse_rfc3339(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_behind_the_second_may_be_a_zone() {
        for zone in ["Z", "z", "+08:00", "-0800", ".25Z", ",123+01:00"] {
            let text = format!("2006-01-02T15:04:05{zone}");
            assert!(parse_rfc3339(text.as_bytes()).is_some() && has_offset(text.as_bytes()), "{text}");
        }
        for text in ["2006-01-02T15:04:05", "2006-01-02 15:04:05.25"] {
            assert!(parse_rfc3339(text.as_bytes()).is_some() && !has_offset(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn a_time_is_written_with_the_digits_that_it_needs() {
        for (time, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (1_136_214_245 * SECOND + 250_000_000, "2006-01-02T15:04:05.25Z"),
            (1_709_164_800 * SECOND + 1, "2024-02-29T00:00:00.000000001Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
        ] {
            assert_eq!(format_rfc3339(time), expected);
        }
        for day in (-100_000..100_000).step_by(17) {
            let time = (day * DAY + day.rem_euclid(DAY)) * SECOND;
            assert_eq!(parse_rfc3339(format_rfc3339(time).as_bytes()), Some(time));
        }
    }

    #[test]
    fn named_formats_and_patterns() {
        for (format, text, expected) in [
            ("unix", "1136214245", Some(1_136_214_245 * SECOND)),
            ("unix", "1136214245.5", Some(1_136_214_245 * SECOND + SECOND / 2)),
            ("unix_ms", "1136214245123", Some(1_136_214_245_123_000_000)),
            ("unix_ns", "-7", Some(-7)),
            ("unix", "99999999999999999999", None),
            ("unix", "12x", None),
            ("%Y/%m/%d %H:%M:%S", "2006/01/02 15:04:05", Some(1_136_214_245 * SECOND)),
            ("%d %B %Y %T.%f %z", "02 January 2006 15:04:05.5 -0100", Some(1_136_217_845 * SECOND + SECOND / 2)),
            ("%b %e %T %Y", "Jan  2 15:04:05 2006", Some(1_136_214_245 * SECOND)),
            ("%Y-%j", "2024-060", Some(1_709_164_800 * SECOND)),
            ("%Y-%j", "2024-366", Some(1_735_603_200 * SECOND)),
            ("%Y-%j", "2023-365", Some(1_703_980_800 * SECOND)),
            ("%Y-%j", "2023-366", None),
            ("%Y-%j", "1900-366", None),
            ("%Y-%j", "2024-000", None),
            ("%s.%f", "9223372036.854775807", Some(i64::MAX)),
            ("%s.%f", "9223372036.854775808", None),
            ("%s.%f", "1136214245.25", Some(1_136_214_245 * SECOND + SECOND / 4)),
            ("%Y", "2006 ", None),
            ("%f", "", None),
        ] {
            assert_eq!(Format::parse(format).unwrap().read(text.as_bytes()), expected, "{format}: {text}");
        }
        assert!(Format::parse("%Q").unwrap_err().contains("`%Q` is not supported"));
        assert!(Format::parse("iso").unwrap_err().contains("time format `iso` is not known"));
    }

    #[test]
    fn what_is_remembered_is_the_last_text() {
        let mut cached = Cached::new(Format::Unix(1));
        for (text, expected) in
            [("12", Some(12)), ("12", Some(12)), ("1", Some(1)), ("x", None), ("12", Some(12)), ("", None)]
        {
            assert_eq!(cached.read(text.as_bytes()), expected, "{text}");
        }
    }
}
