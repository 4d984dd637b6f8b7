//! Time zones: an offset, or a name of the IANA database.

use weir_plugin::time::days_from_civil;

use crate::zones::ZONES;

const DAY: i64 = 86_400;

/// What local time is to UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Seconds east of UTC, outside of summer.
    offset: i64,
    summer: Option<Summer>,
}

/// The part of a year that has another offset. In the south it goes on over New Year.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summer {
    /// Seconds east of UTC.
    pub offset: i64,
    /// When it begins, in local time as it was before.
    pub from: Change,
    /// When it ends, in local time as it was before.
    pub to: Change,
}

/// A moment that comes each year: month, which such weekday of it (5: the last one), weekday (0: Sunday), and seconds
/// from the midnight at which that day begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change(pub u32, pub i64, pub i64, pub i64);

impl Zone {
    /// A zone that is so many seconds east of UTC all the year.
    pub fn fixed(offset: i64) -> Zone {
        Zone { offset, summer: None }
    }

    /// Reads `+08:00`, `UTC`, `Europe/Berlin`. The error says what may be.
    pub fn parse(text: &str) -> Result<Zone, String> {
        if let Some((offset, end)) = crate::format::offset(text.as_bytes(), 0)
            && end == text.len()
        {
            return Ok(Zone::fixed(offset));
        }
        let named = ZONES.iter().find(|(_, _, names)| names.split(' ').any(|name| name == text));
        let (offset, summer, _) = named.ok_or_else(|| {
            format!("zone `{text}` is not known: use an offset such as +08:00, or a name such as Europe/Berlin")
        })?;
        Ok(Zone { offset: *offset, summer: *summer })
    }

    /// Seconds since the epoch of a local time, which is given as if it were UTC. Of a time that comes twice the first
    /// one; one that is skipped is taken as if the clock had not been changed yet.
    pub fn to_utc(self, year: i64, local: i64) -> i64 {
        let Some(summer) = self.summer else { return local - self.offset };
        let (early, late) = (self.offset.max(summer.offset), self.offset.min(summer.offset));
        if self.offset_at(&summer, year, local - early) == early { local - early } else { local - late }
    }

    /// The offset at a moment of UTC; `year` is the local one.
    fn offset_at(self, summer: &Summer, year: i64, utc: i64) -> i64 {
        let from = summer.from.in_year(year) - self.offset;
        let to = summer.to.in_year(year) - summer.offset;
        let is_summer = if from < to { (from..to).contains(&utc) } else { !(to..from).contains(&utc) };
        if is_summer { summer.offset } else { self.offset }
    }
}

impl Change {
    /// Seconds from the epoch, in local time.
    fn in_year(self, year: i64) -> i64 {
        let Change(month, week, weekday, seconds) = self;
        let first = days_from_civil(year, month, 1);
        let next_month = if month == 12 { first + 31 } else { days_from_civil(year, month + 1, 1) };
        // 1970-01-01 was a Thursday.
        let first_weekday = (first + 4).rem_euclid(7);
        let mut day = first + (weekday - first_weekday).rem_euclid(7) + (week - 1) * 7;
        while day >= next_month {
            day -= 7;
        }
        day * DAY + seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `2024-03-31 02:30` as seconds, without a zone.
    fn local(text: &str) -> i64 {
        weir_plugin::time::parse_rfc3339(format!("{text}:00").as_bytes()).unwrap() / 1_000_000_000
    }

    // Expected values are `TZ=… date -d … +%z`'s.
    #[test]
    fn names_have_their_rules() {
        for (zone, time, offset) in [
            ("UTC", "2024-07-01 12:00", 0),
            ("+05:30", "2024-07-01 12:00", 5 * 3600 + 1800),
            ("-0330", "2024-07-01 12:00", -(3 * 3600 + 1800)),
            ("Asia/Shanghai", "2024-07-01 12:00", 8 * 3600),
            ("Europe/Berlin", "2024-01-01 12:00", 3600),
            ("Europe/Berlin", "2024-07-01 12:00", 7200),
            ("Europe/Berlin", "2024-03-31 01:59", 3600),
            ("Europe/Berlin", "2024-03-31 02:30", 3600),
            ("Europe/Berlin", "2024-03-31 03:00", 7200),
            ("Europe/Berlin", "2024-10-27 02:30", 7200),
            ("Europe/Berlin", "2024-10-27 03:00", 3600),
            ("Europe/Dublin", "2024-01-01 12:00", 0),
            ("Europe/Dublin", "2024-07-01 12:00", 3600),
            ("America/New_York", "2024-03-10 03:00", -4 * 3600),
            ("America/New_York", "2024-11-03 02:00", -5 * 3600),
            ("Australia/Sydney", "2024-01-01 00:00", 11 * 3600),
            ("Australia/Sydney", "2024-07-01 00:00", 10 * 3600),
            ("Australia/Sydney", "2024-12-31 23:59", 11 * 3600),
            ("Australia/Lord_Howe", "2024-01-01 00:00", 11 * 3600),
            ("America/Nuuk", "2024-03-30 21:59", -2 * 3600),
            ("America/Nuuk", "2024-03-31 00:00", -3600),
            ("Asia/Jerusalem", "2024-03-29 01:59", 2 * 3600),
            ("Asia/Jerusalem", "2024-03-29 03:00", 3 * 3600),
            ("EST5EDT", "2024-07-01 12:00", -4 * 3600),
        ] {
            let year = time[..4].parse().unwrap();
            let actual = local(time) - Zone::parse(zone).unwrap().to_utc(year, local(time));
            assert_eq!(actual, offset, "{zone} {time}");
        }
    }

    #[test]
    fn other_names_are_refused() {
        for text in ["", "Berlin", "europe/berlin", "+25:00", "UTC+1"] {
            assert!(Zone::parse(text).unwrap_err().starts_with(&format!("zone `{text}` is not known")), "{text}");
        }
    }
}
