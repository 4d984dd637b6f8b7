//! Times of RFC 3339.

use crate::event::UNKNOWN_TIME;

/// Bytes of a date and a time of day without a fraction.
const SECOND: usize = 19;
/// Bytes of the longest offset from UTC.
const ZONE: usize = 6;
const NANOS: i64 = 1_000_000_000;

/// Parses times of which many are in the same second.
#[derive(Debug, Default)]
pub struct Times {
    /// The last second that was parsed, with its zone, and what it is.
    text: [u8; SECOND + ZONE],
    len: usize,
    seconds: i64,
}

impl Times {
    /// Unix nanoseconds of a time with a zone, or [`UNKNOWN_TIME`]. What is finer than that is left out.
    #[inline]
    pub fn parse(&mut self, text: &[u8]) -> i64 {
        self.try_parse(text).unwrap_or(UNKNOWN_TIME)
    }

    #[inline]
    fn try_parse(&mut self, text: &[u8]) -> Option<i64> {
        let (second, rest) = text.split_at_checked(SECOND)?;
        let (nanos, zone) = match rest {
            [b'.', fraction @ ..] => {
                let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
                let digit = |i: usize| if i < digits { i64::from(fraction[i] - b'0') } else { 0 };
                let nanos = (0..9).fold(0, |nanos, i| nanos * 10 + digit(i));
                (digits > 0).then_some((nanos, &fraction[digits..]))?
            }
            zone => (0, zone),
        };
        if zone.is_empty() || zone.len() > ZONE {
            return None;
        }
        let len = SECOND + zone.len();
        if self.len != len || self.text[..SECOND] != *second || self.text[SECOND..len] != *zone {
            self.remember(second, zone)?;
        }
        self.seconds.checked_mul(NANOS)?.checked_add(nanos)
    }

    #[cold]
    fn remember(&mut self, second: &[u8], zone: &[u8]) -> Option<()> {
        let len = second.len() + zone.len();
        self.len = 0;
        self.text[..SECOND].copy_from_slice(second);
        self.text[SECOND..len].copy_from_slice(zone);
        let text = std::str::from_utf8(&self.text[..len]).ok()?;
        self.seconds = text.parse::<jiff::Timestamp>().ok()?.as_second();
        self.len = len;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_to_the_nanosecond() {
        let mut times = Times::default();
        for (text, expected) in [
            ("2016-10-06T00:17:09.669794202Z", 1_475_713_029_669_794_202),
            ("2016-10-06T00:17:09Z", 1_475_713_029_000_000_000),
            ("2016-10-06T00:17:09.5Z", 1_475_713_029_500_000_000),
            ("2016-10-06T02:17:09.669794202+02:00", 1_475_713_029_669_794_202),
            ("1969-12-31T23:59:59.999999999Z", -1),
            ("2016-10-06T00:17:09.6697942029Z", 1_475_713_029_669_794_202),
            ("2016-10-06T00:17:09.Z", UNKNOWN_TIME),
            ("2016-10-06T00:17:09", UNKNOWN_TIME),
            ("2016-13-06T00:17:09Z", UNKNOWN_TIME),
            ("2016-10-06T00:17:09Zulu", UNKNOWN_TIME),
            ("", UNKNOWN_TIME),
        ] {
            assert_eq!(times.parse(text.as_bytes()), expected, "{text}");
            assert_eq!(times.parse(text.as_bytes()), expected, "{text} again");
        }
    }
}
