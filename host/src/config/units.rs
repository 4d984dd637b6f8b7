//! Sizes, durations and parts of the CPU as people write them.

use std::time::Duration;

/// The words of a message that says what a size is.
pub const SIZE_HINT: &str = "write 64MiB, 10KiB, 1MB or a number of bytes";
/// The words of a message that says what a duration is.
pub const DURATION_HINT: &str = "write 250ms, 10s, 5m, 1h or 7d";
/// The words of a message that says what a part of the CPU is.
pub const CPU_HINT: &str = "write 500m for half a core, 2 or 1.5";

const SIZES: &[(&str, u64)] = &[
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

const MILLISECONDS: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Bytes of `64MiB`, `1MB` or `4096`; none if it is no size or does not fit in 64 bits.
pub fn parse_size(text: &str) -> Option<u64> {
    parse(text, SIZES)
}

/// Time of `250ms`, `10s`, `5m`, `1h` or `7d`; none if it is no duration or is beyond all measure.
pub fn parse_duration(text: &str) -> Option<Duration> {
    parse(text, MILLISECONDS).map(Duration::from_millis)
}

/// Thousandths of a core of `500m`, `2` or `1.5`; none if it is no such number, or finer than that.
pub fn parse_cpu(text: &str) -> Option<u64> {
    if text.ends_with('m') {
        return parse(text, &[("m", 1)]);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_fraction = (1..=3).contains(&fraction.len()) && fraction.bytes().all(|b| b.is_ascii_digit());
    let thousandths = if is_fraction { format!("{fraction:0<3}").parse::<u64>().ok()? } else { return None };
    parse(whole, &[("", 1000)])?.checked_add(thousandths)
}

/// The size in the largest unit that gives a whole number: `64MiB`.
pub fn show_size(bytes: u64) -> String {
    let units = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1u64)];
    show(bytes, &units)
}

/// The duration in the largest unit that gives a whole number: `250ms`.
pub fn show_duration(duration: Duration) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1u64)];
    show(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &units)
}

/// Thousandths of a core as cores, if that is a whole number: `2`, `500m`.
pub fn show_cpu(thousandths: u64) -> String {
    show(thousandths, &[("", 1000), ("m", 1u64)])
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

fn show(value: u64, units: &[(&str, u64)]) -> String {
    let whole = units.iter().find(|(_, scale)| value > 0 && value.is_multiple_of(*scale));
    let (name, scale) = whole.or(units.last()).expect("there are units");
    format!("{}{name}", value / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let good = [
            ("0", 0),
            ("4096", 4096),
            ("512B", 512),
            ("64MiB", 64 << 20),
            ("1GiB", 1 << 30),
            ("1TiB", 1 << 40),
            ("1MB", 1_000_000),
            ("2TB", 2_000_000_000_000),
        ];
        for (text, bytes) in good {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "MiB",
            "64 MiB",
            "64mib",
            "64Mi",
            "-1",
            "+1",
            "1.5MiB",
            "١MiB",
            "99999999999999999999",
            "18446744073709551615KiB",
        ] {
            assert_eq!(parse_size(text), None, "{text}");
        }
        assert_eq!([2 << 40, 64 << 20, 1536, 1000, 0].map(show_size), ["2TiB", "64MiB", "1536B", "1000B", "0B"]);
    }

    #[test]
    fn durations() {
        let good = [("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("1h", 3_600_000), ("7d", 604_800_000)];
        for (text, milliseconds) in good {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
            assert_eq!(show_duration(Duration::from_millis(milliseconds)), text);
        }
        for text in ["", "10", "s", "1w", "1D", "1.5s", "18446744073709551615h"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn parts_of_the_cpu() {
        let good = [("1m", 1), ("500m", 500), ("1500m", 1500), ("2", 2000), ("1.5", 1500), ("0.25", 250), ("0.001", 1)];
        for (text, thousandths) in good {
            assert_eq!(parse_cpu(text), Some(thousandths), "{text}");
        }
        for text in [
            "",
            "m",
            "1.5m",
            "-1",
            "+1",
            "1.",
            ".5",
            "0.0001",
            "1.5.5",
            "1 ",
            "1e3",
            "1.+5",
            "1k",
            "99999999999999999999",
            "18446744073709552",
        ] {
            assert_eq!(parse_cpu(text), None, "{text}");
        }
        assert_eq!([1, 500, 1000, 1500, 1_000_000].map(show_cpu), ["1m", "500m", "1", "1500m", "1000"]);
    }
}
