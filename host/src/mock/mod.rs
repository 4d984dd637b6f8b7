//! Log events of several kinds, made fast and always the same for a seed: for `weir mock-log`, the demo,
//! tests and benchmarks.
//!
//! Every event carries its sequence number, so that whoever reads the logs can prove that each arrived once.
//! The parts of events are made at the start; an event is a dozen of them, copied.

mod access;
mod java;
mod json;
mod parts;
mod syslog;

use std::time::{SystemTime, UNIX_EPOCH};

use parts::Rng;

/// Time of the first event: 2026-01-01T00:00:00Z, in milliseconds since the Unix epoch.
const START: i64 = 1_767_225_600_000;

/// What kind of log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum LogType {
    /// nginx access log in the format `main`, about 200 bytes a line
    Nginx,
    /// One JSON object a line, about 300 bytes, with one object inside
    Json,
    /// Application log with stack traces: an event has 1 line or 6 to 31
    Java,
    /// Apache access log in the format `combined`
    Apache,
    /// Lines as in /var/log/syslog
    Syslog,
}

/// Makes events, one after the other, numbered from 0.
pub struct Generator {
    seq: u64,
    clock: Option<fn() -> SystemTime>,
    rng: Rng,
    lines: Box<dyn Lines + Send>,
}

/// One kind of log.
trait Lines {
    /// Appends the event of that number and time (milliseconds since the Unix epoch), newline included.
    fn event(&mut self, seq: u64, millis: i64, rng: &mut Rng, out: &mut Vec<u8>);
}

impl Generator {
    /// The same kind and seed make the same bytes, everywhere. Events are a millisecond apart and begin
    /// at 2026-01-01T00:00:00Z.
    pub fn new(kind: LogType, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let lines: Box<dyn Lines + Send> = match kind {
            LogType::Nginx => Box::new(access::Access::nginx(&mut rng)),
            LogType::Apache => Box::new(access::Access::apache(&mut rng)),
            LogType::Json => Box::new(json::Json::new(&mut rng)),
            LogType::Java => Box::new(java::Java::new(&mut rng)),
            LogType::Syslog => Box::new(syslog::Syslog::new(&mut rng)),
        };
        Generator { seq: 0, clock: None, rng, lines }
    }

    /// Events have the clock's time instead: `with_clock(SystemTime::now)`.
    pub fn with_clock(self, now: fn() -> SystemTime) -> Self {
        Generator { clock: Some(now), ..self }
    }

    /// Appends one event, which ends in a newline.
    pub fn next(&mut self, out: &mut Vec<u8>) {
        let millis = match self.clock {
            Some(now) => now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64),
            None => START + self.seq as i64,
        };
        self.lines.event(self.seq, millis, &mut self.rng, out);
        self.seq += 1;
    }

    /// How many events there were: the number of the next one.
    pub fn count(&self) -> u64 {
        self.seq
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    const ALL: [LogType; 5] = [LogType::Nginx, LogType::Json, LogType::Java, LogType::Apache, LogType::Syslog];

    /// Of the first 1000 events of seed 1, in the order of [`ALL`].
    const HASHES: [u64; 5] = [
        11_769_957_822_436_425_375,
        278_904_370_300_321_878,
        9_899_225_049_134_849_719,
        12_956_019_704_537_873_882,
        2_560_071_805_953_123_857,
    ];

    fn events(kind: LogType, seed: u64, count: usize) -> Vec<String> {
        let mut generator = Generator::new(kind, seed);
        let event = |_| {
            let mut event = Vec::new();
            generator.next(&mut event);
            String::from_utf8(event).unwrap()
        };
        (0..count).map(event).collect()
    }

    #[test]
    fn the_bytes_of_a_seed_never_change() {
        let hashes = ALL.map(|kind| xxh3_64(events(kind, 1, 1000).concat().as_bytes()));
        assert_eq!(hashes, HASHES, "corpora of old and new benchmarks would differ");
        for kind in ALL {
            assert_ne!(events(kind, 1, 10), events(kind, 2, 10), "{kind:?}");
        }
    }

    #[test]
    fn events_are_numbered_from_zero() {
        for kind in ALL {
            for (i, event) in events(kind, 3, 10_000).iter().enumerate() {
                let expected = match kind {
                    LogType::Json => format!(r#"{{"seq":{i},"#),
                    _ => format!("seq={i:010}"),
                };
                assert_eq!(event.matches(&expected).count(), 1, "{kind:?}: {event}");
                assert_eq!(event.matches("seq").count(), 1, "{kind:?}: {event}");
                assert!(event.ends_with('\n'), "{kind:?}: {event}");
            }
        }
    }

    #[test]
    fn sizes_are_as_promised() {
        let count = 50_000;
        for (kind, range) in [
            (LogType::Nginx, 195..=205),
            (LogType::Json, 290..=310),
            (LogType::Java, 300..=600),
            (LogType::Apache, 180..=200),
            (LogType::Syslog, 90..=120),
        ] {
            let mean = events(kind, 1, count).concat().len() / count;
            assert!(range.contains(&mean), "{kind:?}: {mean} bytes an event");
        }
    }

    #[test]
    fn time_is_a_millisecond_an_event() {
        for (kind, zero, later) in [
            (LogType::Nginx, "[01/Jan/2026:00:00:00 +0000]", "[01/Jan/2026:00:01:01 +0000]"),
            (LogType::Apache, "[01/Jan/2026:00:00:00 +0000]", "[01/Jan/2026:00:01:01 +0000]"),
            (LogType::Json, r#""time":"2026-01-01T00:00:00.000Z""#, r#""time":"2026-01-01T00:01:01.007Z""#),
            (LogType::Java, "2026-01-01 00:00:00.000 ", "2026-01-01 00:01:01.007 "),
            (LogType::Syslog, "Jan  1 00:00:00 ", "Jan  1 00:01:01 "),
        ] {
            let events = events(kind, 1, 61_008);
            assert!(events[0].contains(zero), "{kind:?}: {}", events[0]);
            assert!(events[61_007].contains(later), "{kind:?}: {}", events[61_007]);
        }
    }

    #[test]
    fn a_clock_gives_the_time() {
        let mut generator = Generator::new(LogType::Java, 1).with_clock(|| UNIX_EPOCH);
        let mut out = Vec::new();
        generator.next(&mut out);
        generator.next(&mut out);
        let starts =
            String::from_utf8(out).unwrap().lines().filter(|l| l.starts_with("1970-01-01 00:00:00.000 ")).count();
        assert_eq!((starts, generator.count()), (2, 2));
    }

    #[test]
    fn nginx_lines_have_the_format_main() {
        for event in events(LogType::Nginx, 1, 20_000) {
            let quoted: Vec<&str> = event.split('"').collect();
            let [head, request, sizes, referer, space, agent, space2, forwarded, "\n"] = quoted[..] else {
                panic!("{event}")
            };
            let head: Vec<&str> = head.split(' ').collect();
            let [addr, "-", user, time, "+0000]", ""] = head[..] else { panic!("{event}") };
            addr.parse::<std::net::IpAddr>().unwrap();
            assert!(time.starts_with("[01/Jan/2026:00:00:"), "{event}");
            let request: Vec<&str> = request.split(' ').collect();
            let [method, uri, protocol] = request[..] else { panic!("{event}") };
            assert!(method.bytes().all(|b| b.is_ascii_uppercase()), "{event}");
            assert!(uri.starts_with('/') && uri.contains("?seq="), "{event}");
            assert!(protocol.starts_with("HTTP/"), "{event}");
            let sizes: Vec<&str> = sizes.split(' ').collect();
            let ["", status, bytes, ""] = sizes[..] else { panic!("{event}") };
            assert!((200..600).contains(&status.parse::<u32>().unwrap()), "{event}");
            bytes.parse::<u64>().unwrap();
            assert_eq!((space, space2), (" ", " "), "{event}");
            assert!([user, referer, agent, forwarded].iter().all(|field| !field.is_empty()), "{event}");
        }
    }

    #[test]
    fn nginx_lines_vary() {
        let events = events(LogType::Nginx, 1, 20_000);
        let share = |what: &str| events.iter().filter(|e| e.contains(what)).count();
        let common = [
            " - - [", "\"GET ", "\"POST ", " 200 ", " 404 ", " 304 0 ", "\"-\" \"", "\"-\"\n", "HTTP/2.0", "::",
            "curl/",
        ];
        for what in common {
            assert!(share(what) > 200, "{what}: {}", share(what));
        }
        assert!(share(" 200 ") > 10_000 && share(" - - [") < 20_000);
    }

    #[test]
    fn json_lines_are_objects_with_every_type() {
        let count = 20_000;
        let events = events(LogType::Json, 1, count);
        for (i, event) in events.iter().enumerate() {
            let Value::Object(object) = serde_json::from_str(event).unwrap() else { panic!("{event}") };
            assert_eq!(object["seq"], i);
            assert!(object["duration_ms"].is_f64() && object["bytes"].is_u64(), "{event}");
            assert!(object["cache_hit"].is_boolean() && object["message"].is_string(), "{event}");
            assert_eq!(object.values().filter(|v| v.is_object()).count(), 1, "{event}");
        }
        let escaped = events.iter().filter(|e| e.contains('\\')).count();
        assert!((1..count / 100).contains(&escaped), "{escaped} of {count} have escapes");
        assert!(events.iter().any(|e| e.contains(":null")));
    }

    #[test]
    fn java_events_begin_with_a_date_and_a_fifth_have_traces() {
        let count = 20_000;
        let is_start = |line: &str| {
            let shape: String = line.chars().take(11).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
            shape == "0000-00-00 "
        };
        let mut traces = 0;
        for event in events(LogType::Java, 1, count) {
            let lines: Vec<&str> = event.lines().collect();
            assert!(is_start(lines[0]) && !lines[1..].iter().any(|line| is_start(line)), "{event}");
            match lines.len() - 1 {
                0 => {}
                5..=30 => traces += 1,
                other => panic!("a trace of {other} lines: {event}"),
            }
        }
        assert!((count * 18 / 100..count * 22 / 100).contains(&traces), "{traces} of {count} have a trace");
    }
}
