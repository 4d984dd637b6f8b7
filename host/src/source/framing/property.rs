//! Random logs: however they are read, the same events come out.

use std::time::{Duration, Instant};

use encoding_rs::Encoding;
use fastrand::Rng;

use super::multiline::{Patterns, Rule};
use super::{Format, Framed, Framing, Input, LongEvent, Map, Memory};
use crate::event::testing::text;
use crate::event::{Batch, UNKNOWN_TIME};
use crate::source::decode::{Decoder, Invalid, Table};

/// What is not too long for any event of the test.
const LARGE: usize = 1 << 20;

/// A log, and how it is read.
#[derive(Debug)]
struct Case {
    framing: Framing,
    label: &'static str,
    invalid: Invalid,
    raw: Vec<u8>,
}

#[derive(Debug, Default, PartialEq)]
struct Outcome {
    /// Text, start, stream, time.
    events: Vec<(String, u64, u8, i64)>,
    /// Split, truncated, skipped, malformed.
    counts: [u64; 4],
}

fn line_of(rng: &mut Rng) -> String {
    let words = ["E", "E1", " ", "  at x", "plain", ";", "ab;", "ü", "漢字", "abcdefghijkl", "", "\r", "語;"];
    (0..rng.usize(0..4)).map(|_| words[rng.usize(0..words.len())]).collect()
}

fn json(content: &str) -> String {
    serde_json::to_string(content).unwrap()
}

fn log_of(rng: &mut Rng, format: Format) -> String {
    let mut log = String::new();
    for i in 0..rng.usize(0..25) {
        let (content, stream) = (line_of(rng), ["stdout", "stderr"][rng.usize(0..2)]);
        let time = format!("2016-10-06T00:17:{:02}.{:09}Z", i % 60, rng.u32(0..1_000_000_000));
        match format {
            Format::Lines => log += &content,
            _ if rng.u8(0..12) == 0 => log += &content,
            _ if rng.u8(0..60) == 0 => log += &"malformed".repeat(500),
            Format::Cri => log += &format!("{time} {stream} {} {content}", ["F", "P", "F:x"][rng.usize(0..3)]),
            Format::Docker => {
                let end = ["", "\n", "\r\n"][rng.usize(0..3)];
                let log_text = json(&(content + end));
                log += &format!(r#"{{"log":{log_text},"stream":"{stream}","time":"{time}"}}"#);
            }
        }
        log += ["\n", "\r\n"][usize::from(rng.u8(0..4) == 0)];
    }
    if rng.bool() {
        log.pop();
    }
    log
}

fn case_of(rng: &mut Rng) -> Case {
    let format = [Format::Lines, Format::Cri, Format::Docker][rng.usize(0..3)];
    let max_lines = [1, 2, 3, 1000][rng.usize(0..4)];
    let max_event = [1, 2, 3, 5, 8, 13, 40, LARGE][rng.usize(0..8)];
    let long = [LongEvent::Split, LongEvent::Truncate, LongEvent::Skip][rng.usize(0..3)];
    let patterns = [
        None,
        Some(Patterns::Start("^E".into())),
        Some(Patterns::StartContinue("^E".into(), "^ ".into())),
        Some(Patterns::End(";$".into())),
    ];
    let multiline = patterns[rng.usize(0..4)].as_ref().map(|p| Rule::new(p, max_lines).unwrap());
    let framing = Framing { format, max_event, long, multiline, flush_after: Duration::from_secs(5) };
    // No place in the file is inside of a character that was decoded, so that each is to fit an event.
    let is_plain = max_event < 4 || rng.u8(0..4) == 0;
    let label = if is_plain { "utf-8" } else { ["utf-8", "utf-16le", "gbk", "shift_jis"][rng.usize(0..4)] };
    let log = log_of(rng, format);
    let mut raw = match label {
        "utf-16le" => log.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        _ => Encoding::for_label(label.as_bytes()).unwrap().encode(&log).0.into_owned(),
    };
    if rng.u8(0..4) == 0 && !raw.is_empty() {
        let at = rng.usize(0..raw.len());
        raw[at] = rng.u8(..);
    }
    // How far a line is valid is only known at its end.
    let invalid = if is_plain || max_event == LARGE && rng.bool() { Invalid::Keep } else { Invalid::Replace };
    Case { framing, label, invalid, raw }
}

impl Case {
    /// Reads the log as it grows by as much as `grow` says; goes on at a place instead of in memory when `stops` says.
    fn read(&self, mut grow: impl FnMut() -> usize, mut stops: impl FnMut() -> bool) -> Outcome {
        let decoder = Decoder::new(self.label, self.invalid).unwrap();
        let now = Instant::now();
        let (mut memory, mut batch, mut map) = (Memory::default(), Batch::default(), Map::Decoded(Table::default()));
        let (mut starts, mut streams) = (Vec::new(), Vec::new());
        let mut outcome = Outcome::default();
        let (mut offset, mut seen) = (0, 0);
        loop {
            seen = (seen + grow()).min(self.raw.len()).max(offset);
            let ended = seen == self.raw.len();
            batch.clear();
            starts.clear();
            streams.clear();
            let bytes = &self.raw[offset..seen];
            if decoder.is_plain() {
                batch.arena.extend_from_slice(bytes);
                map = Map::Plain { base: offset as u64 };
            } else if let Map::Decoded(table) = &mut map {
                decoder.decode(bytes, offset as u64, ended, &mut batch.arena, table);
            }
            let decoded = batch.arena.len();
            let input = Input { map: &map, ended, flush: ended, now };
            let framed = self.framing.frame(&mut memory, &mut batch, &mut starts, &mut streams, &input);
            assert!(framed.consumed <= decoded);
            for (i, event) in text(&batch).into_iter().enumerate() {
                let time = batch.times.get(i).copied().unwrap_or(UNKNOWN_TIME);
                let content = (batch.event(i)[2] - batch.event(i)[1]) as usize;
                assert!(content <= self.framing.max_event, "{event:?} is too long");
                outcome.events.push((event, starts[i], streams.get(i).copied().unwrap_or(0), time));
            }
            let Framed { split, truncated, skipped, malformed, .. } = framed;
            for (sum, count) in outcome.counts.iter_mut().zip([split, truncated, skipped, malformed]) {
                *sum += count;
            }
            offset = map.raw(framed.consumed) as usize;
            if ended {
                assert_eq!(offset, self.raw.len(), "all is read");
                return outcome;
            }
            if stops() {
                let place = memory.place(offset as u64);
                memory = Memory::resume(&place);
                offset = place.offset as usize;
            }
        }
    }

    /// Whether going on at a place gives the very same events: no event is so long that what became of its beginning
    /// is to be remembered.
    fn is_same_after_stop(&self, whole: &Outcome) -> bool {
        let is_split_only = self.framing.long == LongEvent::Split || self.framing.format == Format::Lines;
        whole.counts[..3] == [0; 3] || is_split_only && self.framing.multiline.is_none()
    }
}

fn same(some: &Outcome, other: &Outcome) {
    for (i, (one, two)) in some.events.iter().zip(&other.events).enumerate() {
        assert_eq!(one, two, "event {i}");
    }
    assert_eq!((some.events.len(), some.counts), (other.events.len(), other.counts));
}

#[test]
fn however_a_log_is_read_the_events_are_the_same() {
    let from_env = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let end = Instant::now() + Duration::from_secs(from_env("WEIR_FUZZ_SECONDS").unwrap_or(2));
    let fixed = from_env("WEIR_SEED");
    let mut seed = fixed.unwrap_or(0);
    let mut cases = 0;
    while Instant::now() < end && (fixed.is_none() || cases == 0) {
        let mut rng = Rng::with_seed(seed);
        let case = case_of(&mut rng);
        let shown = || format!("WEIR_SEED={seed}: {case:?}\n{}", String::from_utf8_lossy(&case.raw));
        let run = std::panic::AssertUnwindSafe(|| {
            let whole = case.read(|| case.raw.len(), || false);
            let most = [1, 3, 20, 200][rng.usize(0..4)];
            let unit = if case.label == "utf-16le" && rng.bool() { 2 } else { 1 };
            let mut grows = rng.fork();
            let pieces = case.read(|| grows.usize(0..=most) * unit, || false);
            same(&pieces, &whole);
            if case.is_same_after_stop(&whole) {
                let mut stops = rng.fork();
                let mut again = case.read(|| grows.usize(0..=most) * unit, || stops.u8(0..4) == 0);
                // A line that is not of the format may come again if it is after what is open in both streams.
                let mut known = std::collections::HashSet::new();
                again.events.retain(|event| !event.0.contains(" !") || known.insert(event.1));
                again.counts = whole.counts;
                same(&again, &whole);
            }
        });
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("{}", shown());
            std::panic::resume_unwind(panic);
        }
        seed += 1;
        cases += 1;
    }
    println!("{cases} cases");
}
