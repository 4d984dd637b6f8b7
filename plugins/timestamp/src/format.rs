//! Ways in which times are written.

use weir_plugin::time::days_from_civil;

use crate::zone::Zone;

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// How a time is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// A decimal number of units since the epoch, perhaps with a fraction; nanoseconds per unit.
    Unix(i64),
    /// Parts, one after the other.
    Parts(Vec<Piece>),
    /// The first of two ways that fits.
    Either(Vec<Piece>, Vec<Piece>),
}

/// One piece of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// This byte.
    Literal(u8),
    /// Any number of spaces and tabs, also none.
    Space,
    /// `T`, `t` or a space: what stands between date and time in RFC 3339 and ISO 8601.
    Between,
    /// Perhaps a point or a comma, and digits behind it.
    Fraction,
    /// Perhaps a comma or a day's name with one, and spaces: how RFC 2822 begins.
    Weekday,
    /// An offset, or nothing: then it is the zone of the settings.
    MaybeOffset,
    /// So many digits are next, which the following pieces read.
    Digits(usize),
    /// Perhaps seconds, with this before them, and a fraction: how a time of ISO 8601 ends.
    MaybeSeconds(Option<u8>),
    /// A year of four digits, or as RFC 2822 reads older ones: 24 is 2024, 99 and 099 are 1999.
    LongOrShortYear,
    /// Perhaps spaces and comments in parentheses: how RFC 2822 ends.
    Comments,
    /// What this letter of strftime stands for.
    Part(u8),
}

/// Formats that have names.
const PRESETS: [(&str, &str); 8] = [
    ("rfc3339", "rfc3339"),
    ("iso8601", "iso8601"),
    ("rfc2822", "rfc2822"),
    ("clf", "%d/%b/%Y:%H:%M:%S %z"),
    ("apache", "%d/%b/%Y:%H:%M:%S %z"),
    ("apache_error", "apache_error"),
    ("nginx_error", "%Y/%m/%d %H:%M:%S"),
    ("syslog", "%b %e %H:%M:%S"),
];

/// A time as it is written, with what may be missing.
#[derive(Clone, Copy, Debug, Default)]
struct Civil {
    year: Option<i64>,
    month: u32,
    day: u32,
    day_of_year: Option<u32>,
    hour: u32,
    /// Of a clock of twelve hours: whether it is after noon.
    afternoon: Option<bool>,
    minute: u32,
    second: u32,
    nanosecond: u32,
    /// Seconds east of UTC.
    offset: Option<i64>,
    /// Seconds since the epoch, which say all but the fraction.
    unix: Option<i64>,
}

/// What a text does not say.
#[derive(Clone, Copy, Debug)]
pub struct Missing {
    /// Where a text has no offset.
    pub zone: Zone,
    /// Where a text has no year: this one,
    pub year: Option<i64>,
    /// or the one that brings it nearest to this time.
    pub near: Option<i64>,
}

impl Format {
    /// Reads a format's name or a pattern of strftime. The error says what is not known.
    pub fn parse(format: &str) -> Result<Format, String> {
        Ok(match format {
            "unix" => Format::Unix(SECOND),
            "unix_ms" => Format::Unix(1_000_000),
            "unix_us" => Format::Unix(1_000),
            "unix_ns" => Format::Unix(1),
            pattern if pattern.contains('%') => Format::Parts(pieces(pattern)?),
            name => match PRESETS.iter().find(|(preset, _)| *preset == name) {
                Some((_, "rfc3339")) => Format::Parts(rfc3339()),
                Some((_, "rfc2822")) => Format::Parts(rfc2822()),
                Some((_, "iso8601")) => Format::Either(iso8601(), iso8601_basic()),
                Some((_, "apache_error")) => Format::Parts(apache_error()),
                Some((_, pattern)) => Format::Parts(pieces(pattern)?),
                None => {
                    let names = PRESETS.map(|(name, _)| name).join(", ");
                    return Err(format!(
                        "`{name}` is not known: use {names}, unix, unix_ms, unix_us, unix_ns, or a pattern such as `%Y-%m-%d %H:%M:%S`"
                    ));
                }
            },
        })
    }

    /// Nanoseconds since the epoch; none if the text is not a time in this format.
    pub fn read(&self, text: &[u8], missing: &Missing) -> Option<i64> {
        match self {
            Format::Unix(unit) => unix(text, *unit),
            Format::Parts(pieces) => civil(text, pieces)?.nanoseconds(missing),
            Format::Either(one, other) => civil(text, one).or_else(|| civil(text, other))?.nanoseconds(missing),
        }
    }
}

fn rfc3339() -> Vec<Piece> {
    let mut all = known("%Y-%m-%d");
    all.push(Piece::Between);
    all.extend(known("%H:%M:%S"));
    all.extend([Piece::Fraction, Piece::Space, Piece::MaybeOffset]);
    all
}

/// `2024-05-01T12:00Z`: as RFC 3339, but that the seconds may be left out.
fn iso8601() -> Vec<Piece> {
    let mut all = known("%Y-%m-%d");
    all.push(Piece::Between);
    all.extend(known("%H:%M"));
    all.extend([Piece::MaybeSeconds(Some(b':')), Piece::Space, Piece::MaybeOffset]);
    all
}

/// `20240501T120000Z`: the same without separators.
fn iso8601_basic() -> Vec<Piece> {
    let mut all = vec![Piece::Digits(8)];
    all.extend(known("%Y%m%d"));
    all.extend([Piece::Between, Piece::Digits(4)]);
    all.extend(known("%H%M"));
    all.extend([Piece::MaybeSeconds(None), Piece::Space, Piece::MaybeOffset]);
    all
}

fn apache_error() -> Vec<Piece> {
    let mut all = known("%a %b %d %H:%M:%S");
    all.push(Piece::Fraction);
    all.extend(known(" %Y"));
    all
}

fn rfc2822() -> Vec<Piece> {
    let mut all = vec![Piece::Weekday];
    all.extend(known("%d %b "));
    all.push(Piece::LongOrShortYear);
    all.extend(known(" %H:%M"));
    all.extend([Piece::Part(b'o'), Piece::Space, Piece::Part(b'Z'), Piece::Comments]);
    all
}

/// The pieces of a pattern that is right.
fn known(pattern: &'static str) -> Vec<Piece> {
    pieces(pattern).unwrap_or_else(|why| panic!("{why}"))
}

fn pieces(pattern: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut bytes = pattern.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => match bytes.next() {
                Some(b'%') => pieces.push(Piece::Literal(b'%')),
                Some(b'T') => pieces.extend(self::pieces("%H:%M:%S")?),
                Some(b'R') => pieces.extend(self::pieces("%H:%M")?),
                Some(b'F') => pieces.extend(self::pieces("%Y-%m-%d")?),
                Some(b'D') => pieces.extend(self::pieces("%m/%d/%y")?),
                Some(b'n' | b't') => pieces.push(Piece::Space),
                Some(b'h' | b'B') => pieces.push(Piece::Part(b'b')),
                Some(b'A') => pieces.push(Piece::Part(b'a')),
                Some(b'k') => pieces.push(Piece::Part(b'H')),
                Some(b'l') => pieces.push(Piece::Part(b'I')),
                Some(b'P') => pieces.push(Piece::Part(b'p')),
                Some(
                    part @ (b'Y' | b'y' | b'm' | b'b' | b'd' | b'e' | b'j' | b'a' | b'H' | b'I' | b'p' | b'M' | b'S'
                    | b'f' | b'z' | b'Z' | b's'),
                ) => pieces.push(Piece::Part(part)),
                Some(other) => return Err(format!("`{pattern}`: `%{}` is not supported", char::from(other))),
                None => return Err(format!("`{pattern}` ends in `%`")),
            },
            b' ' => pieces.push(Piece::Space),
            byte => pieces.push(Piece::Literal(byte)),
        }
    }
    Ok(pieces)
}

impl Civil {
    fn nanoseconds(mut self, missing: &Missing) -> Option<i64> {
        if let Some(seconds) = self.unix {
            return seconds.checked_mul(SECOND)?.checked_add(i64::from(self.nanosecond));
        }
        if let Some(afternoon) = self.afternoon {
            if !(1..=12).contains(&self.hour) {
                return None;
            }
            self.hour = self.hour % 12 + if afternoon { 12 } else { 0 };
        }
        if let Some(year) = self.year.or(missing.year) {
            return self.in_year(year, missing.zone);
        }
        let near = missing.near?;
        // The year of a moment in the middle of it, a year being 365.2425 days; its neighbours are tried, too.
        let about = 1970 + near.div_euclid(SECOND).div_euclid(31_556_952);
        let times = (about - 1..=about + 1).filter_map(|year| self.in_year(year, missing.zone));
        times.min_by_key(|time| time.abs_diff(near))
    }

    fn in_year(&self, year: i64, zone: Zone) -> Option<i64> {
        let days = match self.day_of_year {
            Some(day) => {
                let days = days_from_civil(year, 1, 1) + i64::from(day) - 1;
                (day >= 1 && days < days_from_civil(year + 1, 1, 1)).then_some(days)?
            }
            None => self.days(year)?,
        };
        if self.hour > 23 || self.minute > 59 || self.second > 60 {
            return None;
        }
        // A leap second is the next second's start.
        let local = days * DAY + i64::from(self.hour * 3600 + self.minute * 60 + self.second);
        let seconds = match self.offset {
            Some(offset) => local - offset,
            None => zone.to_utc(year, local),
        };
        seconds.checked_mul(SECOND)?.checked_add(i64::from(self.nanosecond))
    }

    fn days(&self, year: i64) -> Option<i64> {
        if !(1..=12).contains(&self.month) || self.day == 0 {
            return None;
        }
        let next = if self.month == 12 { (year + 1, 1) } else { (year, self.month + 1) };
        let days = days_from_civil(year, self.month, self.day);
        (days < days_from_civil(next.0, next.1, 1)).then_some(days)
    }
}

/// Reads pieces from the beginning to the end of a text.
fn civil(text: &[u8], pieces: &[Piece]) -> Option<Civil> {
    let mut civil = Civil { month: 1, day: 1, ..Civil::default() };
    let mut at = 0;
    for piece in pieces {
        match *piece {
            Piece::Literal(byte) => {
                if text.get(at) != Some(&byte) {
                    return None;
                }
                at += 1;
            }
            Piece::Space => at = skip_blank(text, at),
            Piece::Between => match text.get(at)? {
                b'T' | b't' | b' ' => at += 1,
                _ => return None,
            },
            Piece::Fraction => {
                if matches!(text.get(at), Some(b'.' | b',')) {
                    (civil.nanosecond, at) = fraction(text, at + 1)?;
                }
            }
            Piece::Weekday => {
                let end = at + letters(text, at);
                if end > at {
                    at = if text.get(end) == Some(&b',') { end + 1 } else { end };
                }
                at = skip_blank(text, at);
            }
            Piece::MaybeOffset => {
                if at < text.len() {
                    let (offset, end) = offset(text, at)?;
                    (civil.offset, at) = (Some(offset), end);
                }
            }
            Piece::Digits(count) => {
                if !text.get(at..at + count)?.iter().all(u8::is_ascii_digit) {
                    return None;
                }
            }
            Piece::MaybeSeconds(separator) => {
                let first = at + separator.iter().len();
                let is_there = separator.is_none_or(|separator| text.get(at) == Some(&separator));
                if is_there && text.get(first).is_some_and(u8::is_ascii_digit) {
                    at = part(b'S', text, first, &mut civil)?;
                    if matches!(text.get(at), Some(b'.' | b',')) {
                        (civil.nanosecond, at) = fraction(text, at + 1)?;
                    }
                }
            }
            Piece::LongOrShortYear => {
                let digits = text[at..].iter().take_while(|b| b.is_ascii_digit()).count();
                at = part(b'Y', text, at, &mut civil)?;
                civil.year = match (digits, civil.year?) {
                    (2, year @ ..50) => Some(2000 + year),
                    (2 | 3, year) => Some(1900 + year),
                    (_, year) => Some(year),
                };
            }
            Piece::Comments => at = comments(text, at)?,
            Piece::Part(letter) => at = part(letter, text, at, &mut civil)?,
        }
    }
    (at == text.len()).then_some(civil)
}

/// Reads what a letter of strftime stands for, and says where it ends.
fn part(letter: u8, text: &[u8], at: usize, civil: &mut Civil) -> Option<usize> {
    let mut at = at;
    let mut number = |most: usize| -> Option<u32> {
        let padded = usize::from(text.get(at) == Some(&b' '));
        let start = if most == 2 { at + padded } else { at };
        let rest = text.get(start..)?;
        let count = rest.iter().take(most).take_while(|b| b.is_ascii_digit()).count();
        at = start + count;
        (count > 0).then(|| rest[..count].iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0')))
    };
    match letter {
        b'Y' => civil.year = Some(i64::from(number(4)?)),
        b'y' => {
            let year = i64::from(number(2)?);
            civil.year = Some(if year < 69 { 2000 + year } else { 1900 + year });
        }
        b'm' => civil.month = number(2)?,
        b'd' | b'e' => civil.day = number(2)?,
        b'j' => civil.day_of_year = Some(number(3)?),
        b'H' => civil.hour = number(2)?,
        b'I' => {
            civil.hour = number(2)?;
            civil.afternoon = Some(civil.afternoon.unwrap_or(false));
        }
        b'M' => civil.minute = number(2)?,
        b'S' => civil.second = number(2)?,
        // Seconds that may be left out with their colon, as in RFC 2822.
        b'o' => {
            if text.get(at) == Some(&b':') {
                return part(b'S', text, at + 1, civil);
            }
        }
        b'p' => {
            let afternoon = match text.get(at..at + 2)? {
                [b'a' | b'A', b'm' | b'M'] => false,
                [b'p' | b'P', b'm' | b'M'] => true,
                _ => return None,
            };
            (civil.afternoon, at) = (Some(afternoon), at + 2);
        }
        b'b' => (civil.month, at) = month(text, at)?,
        b'a' => {
            let count = letters(text, at);
            at += (count >= 3).then_some(count)?;
        }
        b'f' => (civil.nanosecond, at) = fraction(text, at)?,
        b's' => {
            let end = at + text[at..].iter().take_while(|b| b.is_ascii_digit()).count();
            (civil.unix, at) = (Some(unix(&text[at..end], 1)?), end);
        }
        b'z' => {
            let (offset, end) = offset(text, at)?;
            (civil.offset, at) = (Some(offset), end);
        }
        _ => {
            let (offset, end) = offset(text, at).or_else(|| abbreviation(text, at))?;
            (civil.offset, at) = (Some(offset), end);
        }
    }
    Some(at)
}

fn skip_blank(text: &[u8], at: usize) -> usize {
    at + text[at..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count()
}

/// Where spaces and comments end, which may have comments in them; none if one has no end.
fn comments(text: &[u8], at: usize) -> Option<usize> {
    let (mut at, mut depth) = (at, 0);
    loop {
        match text.get(at) {
            Some(b'(') => depth += 1,
            Some(b')') if depth > 0 => depth -= 1,
            Some(b'\\') if depth > 0 => at += 1,
            Some(b' ' | b'\t') => {}
            Some(_) if depth > 0 => {}
            _ => return (depth == 0).then_some(at),
        }
        at += 1;
    }
}

fn letters(text: &[u8], at: usize) -> usize {
    text[at..].iter().take_while(|b| b.is_ascii_alphabetic()).count()
}

/// A month's name, short or long, and where it ends.
fn month(text: &[u8], at: usize) -> Option<(u32, usize)> {
    const NAMES: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let count = letters(text, at);
    let name = text.get(at..at + count)?;
    let is = |full: &&str| {
        let long = name.eq_ignore_ascii_case(full.as_bytes());
        long || name.eq_ignore_ascii_case(&full.as_bytes()[..3])
            || name.eq_ignore_ascii_case(b"sept") && full.len() == 9
    };
    let index =
        NAMES.iter().position(|full| is(full) && (count != 4 || full.len() != 9 || full.starts_with("sept")))?;
    Some((index as u32 + 1, at + count))
}

/// Digits of a second's fraction from `at`: nanoseconds, cut after the ninth digit, and where they end.
fn fraction(text: &[u8], at: usize) -> Option<(u32, usize)> {
    let digits = text.get(at..)?;
    let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    let kept = digits[..count.min(9)].iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    (count > 0).then(|| (kept * 10u32.pow(9 - count.min(9) as u32), at + count))
}

/// `+0800`, `+08:00`, `+08` or `Z` at `at`: seconds east of UTC, and where it ends.
pub fn offset(text: &[u8], at: usize) -> Option<(i64, usize)> {
    let sign = match text.get(at)? {
        b'Z' | b'z' if letters(text, at) == 1 => return Some((0, at + 1)),
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let two = |at: usize| match text.get(at..at + 2)? {
        [a @ b'0'..=b'9', b @ b'0'..=b'9'] => Some(i64::from(a - b'0') * 10 + i64::from(b - b'0')),
        _ => None,
    };
    let hours = two(at + 1)?;
    let colon = usize::from(text.get(at + 3) == Some(&b':'));
    let (minutes, end) = match two(at + 3 + colon) {
        Some(minutes) => (minutes, at + 5 + colon),
        None if colon == 0 => (0, at + 3),
        None => return None,
    };
    (hours <= 23 && minutes <= 59).then_some((sign * (hours * 3600 + minutes * 60), end))
}

/// The abbreviations that mean one zone only: RFC 2822's, and those of Central Europe.
fn abbreviation(text: &[u8], at: usize) -> Option<(i64, usize)> {
    const HOURS: [(&[u8], i64); 14] = [
        (b"UTC", 0),
        (b"GMT", 0),
        (b"UT", 0),
        (b"EST", -5),
        (b"EDT", -4),
        (b"CST", -6),
        (b"CDT", -5),
        (b"MST", -7),
        (b"MDT", -6),
        (b"PST", -8),
        (b"PDT", -7),
        (b"CET", 1),
        (b"CEST", 2),
        (b"WET", 0),
    ];
    let end = at + letters(text, at);
    let name = &text[at..end];
    HOURS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, hours)| (hours * 3600, end))
}

/// A number of units since the epoch, perhaps with a fraction.
fn unix(text: &[u8], unit: i64) -> Option<i64> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let whole = text.iter().take_while(|b| b.is_ascii_digit()).count();
    if whole == 0 {
        return None;
    }
    let digit = |value: i64, byte: &u8| value.checked_mul(10)?.checked_add(i64::from(byte - b'0'));
    let value = text[..whole].iter().try_fold(0i64, digit)?.checked_mul(unit)?;
    let part = match text.get(whole) {
        None => 0,
        Some(b'.') => {
            let (part, end) = fraction(text, whole + 1)?;
            // In units of 10⁻⁹; a unit has 10⁹ nanoseconds at most.
            (end == text.len()).then_some(i64::from(part) * unit / SECOND)?
        }
        Some(_) => return None,
    };
    let value = value.checked_add(part)?;
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    const JAN_2_2006: i64 = 1_136_214_245 * SECOND;

    fn read(format: &str, text: &str) -> Option<i64> {
        let missing = Missing { zone: Zone::fixed(3600), year: None, near: None };
        Format::parse(format).unwrap_or_else(|e| panic!("{e}")).read(text.as_bytes(), &missing)
    }

    #[test]
    fn presets_and_patterns() {
        let hour = 3600 * SECOND;
        for (format, text, expected) in [
            ("rfc3339", "2006-01-02T15:04:05Z", Some(JAN_2_2006)),
            ("rfc3339", "2006-01-02 15:04:05.25 +07:00", Some(JAN_2_2006 - 7 * hour + SECOND / 4)),
            ("rfc3339", "2006-01-02t15:04:05,123456789987z", Some(JAN_2_2006 + 123_456_789)),
            ("iso8601", "2006-01-02T15:04:05", Some(JAN_2_2006 - hour)),
            ("rfc3339", "2006-01-02T15:04:05.Z", None),
            ("rfc3339", "2006-02-29T15:04:05Z", None),
            ("rfc3339", "9999-12-31T23:59:59Z", None),
            ("rfc2822", "Mon, 02 Jan 2006 15:04:05 -0700", Some(JAN_2_2006 + 7 * hour)),
            ("rfc2822", "2 Jan 2006 15:04 GMT", Some(JAN_2_2006 - 5 * SECOND)),
            ("rfc2822", "Mon, 2 Jan 2006 15:04:05 PST", Some(JAN_2_2006 + 8 * hour)),
            ("rfc2822", "Mon, 02 Jan 2006 15:04:05 +0000 (UTC)", Some(JAN_2_2006)),
            ("rfc2822", "Mon, 02 Jan 06 15:04:05 GMT (a (b) \\) c)\t(d) ", Some(JAN_2_2006)),
            ("rfc2822", "02 Jan 106 15:04:05 +0000", Some(JAN_2_2006)),
            ("rfc2822", "01 Jan 70 00:00:01 +0000", Some(SECOND)),
            ("rfc2822", "01 Jan 070 00:00:01 +0000", Some(SECOND)),
            ("rfc2822", "Mon, 02 Jan 2006 15:04:05 +0000 (UTC", None),
            ("rfc2822", "Mon, 02 Jan 2006 15:04:05 +0000 (a\\", None),
            ("rfc2822", "Mon, 02 Jan 2006 15:04:05 +0000 UTC)", None),
            ("rfc2822", "Mon, 02 Jan 20066 15:04:05 +0000", None),
            ("iso8601", "2006-01-02T15:04Z", Some(JAN_2_2006 - 5 * SECOND)),
            ("iso8601", "2006-01-02T15:04", Some(JAN_2_2006 - 5 * SECOND - hour)),
            ("iso8601", "20060102T150405Z", Some(JAN_2_2006)),
            ("iso8601", "20060102T150405,25+0700", Some(JAN_2_2006 - 7 * hour + SECOND / 4)),
            ("iso8601", "20060102T1504+01", Some(JAN_2_2006 - 5 * SECOND - hour)),
            ("iso8601", "2006-01-02T15:04:05.25Z", Some(JAN_2_2006 + SECOND / 4)),
            ("iso8601", "2006-01-02T15:04.5Z", None),
            ("iso8601", "2006-01-02T15:04:Z", None),
            ("iso8601", "2006012T150405Z", None),
            ("iso8601", "20060102T154Z", None),
            ("rfc3339", "2006-01-02T15:04Z", None),
            ("clf", "02/Jan/2006:15:04:05 +0000", Some(JAN_2_2006)),
            ("apache_error", "Mon Jan 02 15:04:05.500000 2006", Some(JAN_2_2006 - hour + SECOND / 2)),
            ("apache_error", "Mon Jan 02 15:04:05 2006", Some(JAN_2_2006 - hour)),
            ("apache_error", "Mon Jan 02 15:04:05. 2006", None),
            ("nginx_error", "2006/01/02 15:04:05", Some(JAN_2_2006 - hour)),
            ("syslog", "Jan  2 15:04:05", None),
            ("unix", "1136214245", Some(JAN_2_2006)),
            ("unix", "1136214245.5", Some(JAN_2_2006 + SECOND / 2)),
            ("unix_ms", "1136214245123.5", Some(JAN_2_2006 + 123_500_000)),
            ("unix_ns", "-7", Some(-7)),
            ("unix", "99999999999999999999", None),
            ("unix", "12x", None),
            ("%d.%m.%Y %H:%M:%S,%f %z", "02.01.2006 15:04:05,250 +00", Some(JAN_2_2006 + SECOND / 4)),
            ("%A, %B %e, %Y %I:%M:%S %p %Z", "Monday, January  2, 2006 3:04:05 PM UTC", Some(JAN_2_2006)),
            ("%m/%d/%y %I:%M%p", "01/02/06 12:00am", Some(JAN_2_2006 - (15 * 3600 + 4 * 60 + 5) * SECOND - hour)),
            ("%I:%M%p", "13:00pm", None),
            ("%Y%m%d%H%M%S", "20060102150405", Some(JAN_2_2006 - hour)),
            ("%Y-%j %T", "2006-002 15:04:05", Some(JAN_2_2006 - hour)),
            ("%Y-%j", "2006-366", None),
            ("%s.%f", "1136214245.25", Some(JAN_2_2006 + SECOND / 4)),
            ("%F %T", "2006-01-02 15:04:60", Some(JAN_2_2006 - hour + 55 * SECOND)),
            ("%F %T", "2006-01-02 24:04:05", None),
            ("%d %b %Y", "2 Sept 2006", Some(1_157_155_200 * SECOND - hour)),
            ("%d %b %Y", "2 Febr 2006", None),
            ("%Y", "2006 ", None),
            ("100%% %Y", "100% 2006", Some(1_136_073_600 * SECOND - hour)),
        ] {
            assert_eq!(read(format, text), expected, "{format}: {text}");
        }
    }

    #[test]
    fn a_missing_year_is_the_given_one_or_that_of_the_nearest_time() {
        let format = Format::parse("syslog").unwrap();
        let read = |text: &str, year, near: Option<&str>| {
            let near = near.map(|time| weir_plugin::time::parse_rfc3339(time.as_bytes()).unwrap());
            let time = format.read(text.as_bytes(), &Missing { zone: Zone::fixed(0), year, near });
            time.map(weir_plugin::time::format_rfc3339)
        };
        for (text, year, near, expected) in [
            ("Jan  2 15:04:05", Some(2006), None, Some("2006-01-02T15:04:05Z")),
            ("Jan  2 15:04:05", Some(2006), Some("2024-05-01T00:00:00Z"), Some("2006-01-02T15:04:05Z")),
            ("Jan  2 15:04:05", None, Some("2024-05-01T00:00:00Z"), Some("2024-01-02T15:04:05Z")),
            ("Dec 31 23:59:59", None, Some("2025-01-01T00:00:01Z"), Some("2024-12-31T23:59:59Z")),
            ("Jan  1 00:00:01", None, Some("2024-12-31T23:59:59Z"), Some("2025-01-01T00:00:01Z")),
            ("Feb 29 00:00:00", None, Some("2024-03-01T00:00:00Z"), Some("2024-02-29T00:00:00Z")),
            ("Feb 29 00:00:00", Some(2023), None, None),
            ("Jan  2 15:04:05", None, None, None),
        ] {
            assert_eq!(read(text, year, near).as_deref(), expected, "{text} {year:?} {near:?}");
        }
    }

    #[test]
    fn other_formats_are_refused() {
        assert!(
            Format::parse("iso").unwrap_err().starts_with("`iso` is not known: use rfc3339, iso8601, rfc2822, clf")
        );
        assert_eq!(Format::parse("%Q").unwrap_err(), "`%Q` is not supported".replace("`%Q`", "`%Q`: `%Q`"));
        assert_eq!(Format::parse("%Y %").unwrap_err(), "`%Y %` ends in `%`");
    }
}
