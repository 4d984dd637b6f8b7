//! Times that leave out their year or their zone, as those of syslog and of Kubernetes' own logs do.
//!
//! The sandbox has no clock, and a plugin is a pure function of its settings and its input. So the year comes from
//! the settings, or from the time that the event has already.

use serde::{Deserialize, Deserializer};

use crate::Settings;
use crate::schema::Schema;
use crate::settings::{Reader, Refusal};
use crate::time::{DAY, SECOND, civil_from_days, days_from_civil, days_in, digits, fraction, month, offset};

/// A setting: in which zone times without one are written, as an offset such as `+08:00`; `Z` is UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    /// Nanoseconds east of UTC.
    east: i64,
}

impl Zone {
    /// Reads `Z`, `+08:00` or `+0800`.
    pub fn parse(text: &str) -> Result<Zone, String> {
        match offset(text.as_bytes(), 0) {
            Some((seconds, end)) if end == text.len() => Ok(Zone { east: seconds * SECOND }),
            _ => Err(format!("zone `{text}` is not known: write an offset such as `+08:00`, or `Z`")),
        }
    }

    /// What a time is, in nanoseconds since the Unix epoch, that was read as if it were UTC.
    #[inline]
    pub fn to_utc(self, time: i64) -> i64 {
        time.saturating_sub(self.east)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Zone::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl Settings for Zone {
    const SCHEMA: Schema = Schema::String;

    fn read(value: Reader) -> Result<Self, Refusal> {
        Zone::parse(&String::read(value)?).map_err(serde::de::Error::custom)
    }
}

/// A month, a day and a time of it: of which year, others must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    month: u32,
    day: u32,
    /// Nanoseconds since midnight.
    clock: i64,
}

impl Moment {
    /// Syslog's `Jan  2 15:04:05`, perhaps with a fraction.
    #[inline]
    pub fn bsd(text: &[u8]) -> Option<Moment> {
        let day = match text.get(4)? {
            b' ' => digits(text, 5, 1)?,
            _ => digits(text, 4, 2)?,
        };
        if text[3] != b' ' || *text.get(6)? != b' ' {
            return None;
        }
        Moment::new(month(text)?, day, text, 7)
    }

    /// klog's `0102 15:04:05.000000`.
    #[inline]
    pub fn klog(text: &[u8]) -> Option<Moment> {
        if *text.get(4)? != b' ' {
            return None;
        }
        Moment::new(digits(text, 0, 2)?, digits(text, 2, 2)?, text, 5)
    }

    /// The clock begins at `at`, and ends the text.
    #[inline]
    fn new(month: u32, day: u32, text: &[u8], at: usize) -> Option<Moment> {
        if text.len() < at + 8 || text[at + 2] != b':' || text[at + 5] != b':' {
            return None;
        }
        let (hour, minute, second) = (digits(text, at, 2)?, digits(text, at + 3, 2)?, digits(text, at + 6, 2)?);
        let (nanosecond, end) = match text.get(at + 8) {
            Some(b'.' | b',') => fraction(text, at + 9)?,
            _ => (0, at + 8),
        };
        if hour > 23 || minute > 59 || second > 60 || end != text.len() {
            return None;
        }
        let clock = i64::from(hour * 3600 + minute * 60 + second) * SECOND + i64::from(nanosecond);
        ((1..=12).contains(&month) && (1..=days_in(2000, month)).contains(&day)).then_some(Moment { month, day, clock })
    }

    /// The moment of that year, in nanoseconds since the Unix epoch; none if the year has no such day.
    pub fn in_year(self, year: i64, zone: Zone) -> Option<i64> {
        if self.day > days_in(year, self.month) {
            return None;
        }
        let midnight = days_from_civil(year, self.month, self.day).checked_mul(DAY * SECOND)?;
        Some(zone.to_utc(midnight.checked_add(self.clock)?))
    }

    /// The moment of the year that brings it nearest to a time that is known.
    pub fn near(self, known: i64, zone: Zone) -> Option<i64> {
        let (year, ..) = civil_from_days(known.div_euclid(DAY * SECOND));
        let candidates = (year - 1..=year + 1).filter_map(|year| self.in_year(year, zone));
        candidates.min_by_key(|time| time.abs_diff(known))
    }
}

/// How a year that is not written is found: the usual settings `year` and `zone` of a parser.
#[derive(Clone, Copy, Debug, Default)]
pub struct Years {
    /// The year of all events; none: the one that brings them nearest to the time that they have.
    pub year: Option<u16>,
    /// Where the clock is that wrote them.
    pub zone: Zone,
}

impl Years {
    /// Nanoseconds since the Unix epoch; none if nothing says of which year it is.
    pub fn time(self, moment: Moment, known: Option<i64>) -> Option<i64> {
        match self.year {
            Some(year) => moment.in_year(i64::from(year), self.zone),
            None => moment.near(known?, self.zone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{format_rfc3339, parse_rfc3339};

    #[test]
    fn moments_are_read_exactly() {
        let clock = (15 * 3600 + 4 * 60 + 5) * SECOND;
        let expected = Moment { month: 1, day: 2, clock };
        assert_eq!(Moment::bsd(b"Jan  2 15:04:05"), Some(expected));
        assert_eq!(Moment::bsd(b"Jan 02 15:04:05.000"), Some(expected));
        assert_eq!(Moment::klog(b"0102 15:04:05.000001"), Some(Moment { clock: clock + 1000, ..expected }));
        for wrong in
            ["Jan  2 15:04:05 ", "Jan 32 15:04:05", "Jan  0 15:04:05", "Jab  2 15:04:05", "Jan  2 15:04:0", "Jan", ""]
        {
            assert_eq!(Moment::bsd(wrong.as_bytes()), None, "{wrong}");
        }
        for wrong in ["0102 25:04:05", "1302 15:04:05", "0102T15:04:05", "0102", ""] {
            assert_eq!(Moment::klog(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn the_year_is_given_or_the_nearest() {
        for (text, known, zone, expected) in [
            ("Jan  1 00:00:01", "2025-12-31T23:59:59Z", "Z", Some("2026-01-01T00:00:01Z")),
            ("Dec 31 23:59:59", "2026-01-01T00:00:01Z", "Z", Some("2025-12-31T23:59:59Z")),
            ("Jan  1 00:30:00", "2025-12-31T23:30:05Z", "+01:00", Some("2025-12-31T23:30:00Z")),
            ("Jun  1 12:00:00", "2026-06-01T12:00:09Z", "-0700", Some("2026-06-01T19:00:00Z")),
            ("Feb 29 12:00:00", "2024-03-01T00:00:00Z", "Z", Some("2024-02-29T12:00:00Z")),
            ("Feb 29 12:00:00", "2026-03-01T00:00:00Z", "Z", None),
        ] {
            let (moment, zone) = (Moment::bsd(text.as_bytes()).unwrap(), Zone::parse(zone).unwrap());
            let known = parse_rfc3339(known.as_bytes());
            let time = Years { year: None, zone }.time(moment, known);
            assert_eq!(time.map(format_rfc3339).as_deref(), expected, "{text}");
            assert_eq!(Years { year: None, zone }.time(moment, None), None);
            let time = Years { year: Some(2024), zone: Zone::default() }.time(moment, known).map(format_rfc3339);
            assert!(time.unwrap().starts_with("2024-"));
        }
    }

    #[test]
    fn zones_are_offsets() {
        assert_eq!(Zone::parse("Z"), Ok(Zone { east: 0 }));
        assert_eq!(Zone::parse("-01:30"), Ok(Zone { east: -5400 * SECOND }));
        for wrong in ["", "UTC", "+8", "+08:00 "] {
            let error = format!("zone `{wrong}` is not known: write an offset such as `+08:00`, or `Z`");
            assert_eq!(Zone::parse(wrong), Err(error));
        }
    }
}
