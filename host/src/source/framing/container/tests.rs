use std::time::Duration;

use super::*;
use crate::event::testing::text;
use crate::source::framing::Map;
use crate::source::framing::multiline::Patterns;

struct Reads {
    framing: Framing,
    memory: Memory,
    start: Instant,
    offset: u64,
    framed: Framed,
}

fn reads(format: Format, max_event: usize, long: LongEvent) -> Reads {
    let framing = Framing { format, max_event, long, multiline: None, flush_after: Duration::from_secs(5) };
    Reads { framing, memory: Memory::default(), start: Instant::now(), offset: 0, framed: Framed::default() }
}

impl Reads {
    fn read(&mut self, bytes: &str, seconds: u64, ended: bool, flush: bool) -> Vec<String> {
        let mut batch = Batch { arena: bytes.as_bytes().to_vec(), ..Batch::default() };
        let (mut starts, mut streams) = (Vec::new(), Vec::new());
        let map = Map::Plain { base: self.offset };
        let input = Input { map: &map, ended, flush, now: self.start + Duration::from_secs(seconds) };
        self.framed = self.framing.frame(&mut self.memory, &mut batch, &mut starts, &mut streams, &input);
        self.offset += self.framed.consumed as u64;
        assert_eq!([starts.len(), streams.len(), batch.times.len()], [batch.len(); 3]);
        text(&batch)
    }

    fn cri(&mut self, lines: &[&str]) -> Vec<String> {
        let bytes: String = lines.iter().map(|line| format!("1970-01-01T00:00:01Z {line}\n")).collect();
        self.read(&bytes, 0, false, false)
    }
}

#[test]
fn pieces_of_two_streams_are_put_together() {
    let mut reads = reads(Format::Cri, 100, LongEvent::Split);
    let events = reads.cri(&["stdout P a", "stderr F x", "stdout P b", "stderr P y"]);
    assert_eq!(events, ["content=x stream=stderr"]);
    assert_eq!(reads.cri(&["stdout F c\r", "stderr F "]), ["content=abc stream=stdout", "content=y stream=stderr"]);
    let line = r#"{"log":"a","stream":"stdout","time":"1970-01-01T00:00:01Z"}"#;
    let docker = [line, &line.replace("a\"", "b\\r\\n\""), "{", &line.replace("a\"", "c\\t\\n\"")].join("\n") + "\n";
    let mut reads = super::tests::reads(Format::Docker, 100, LongEvent::Split);
    let events = reads.read(&docker, 0, false, false);
    let malformed = format!("content={{ !{}", docker::MALFORMED);
    assert_eq!(events, ["content=ab stream=stdout", &malformed, "content=c\t stream=stdout"]);
    assert_eq!((reads.framed.malformed, reads.framed.consumed), (1, docker.len()));
}

#[test]
fn lines_are_joined_by_stream() {
    let mut reads = reads(Format::Cri, 100, LongEvent::Split);
    reads.framing.multiline = Some(Rule::new(&Patterns::Start("^E".into()), 10).unwrap());
    assert!(reads.cri(&["stdout F E1", "stderr F E2"]).is_empty());
    let events = reads.cri(&["stdout P  a", "stderr F  b", "stdout F t", "stdout F E3", "stderr F E4"]);
    assert_eq!(events, ["content=E1\n at stream=stdout", "content=E2\n b stream=stderr"]);
    assert_eq!(reads.memory.waits_since(), Some(reads.start));
    assert!(reads.read("", 4, true, false).is_empty());
    assert_eq!(reads.read("", 5, true, false), ["content=E3 stream=stdout", "content=E4 stream=stderr"]);
    assert_eq!(reads.memory.waits_since(), None);
}

#[test]
fn what_is_too_long_is_split_cut_or_dropped() {
    let lines = ["stdout P abc", "stdout P de", "stdout F f", "stdout F abcdefghi", "stdout F x"];
    let contents = |long| {
        let mut reads = reads(Format::Cri, 4, long);
        let events = reads.cri(&lines);
        let contents: Vec<_> = events.iter().map(|e| e[8..].replace(" stream=stdout", "")).collect();
        (contents.join("|"), [reads.framed.split, reads.framed.truncated, reads.framed.skipped])
    };
    assert_eq!(contents(LongEvent::Split), ("abc|def|abcd|efgh|i|x".to_owned(), [3, 0, 0]));
    assert_eq!(contents(LongEvent::Truncate), ("abcd|abcd|x".to_owned(), [0, 2, 0]));
    assert_eq!(contents(LongEvent::Skip), ("x".to_owned(), [0, 0, 2]));
}

#[test]
fn a_place_is_before_what_is_open_and_nothing_comes_twice() {
    let lines = ["stdout F 1", "stdout P 2", "stderr F 3", "stderr P 4", "stdout P 5", "stderr F 6", "stdout F 7"];
    let length = "1970-01-01T00:00:01Z stdout F 1\n".len() as u64;
    let all = ["1", "3", "46", "257"].map(|c| c.to_owned()).to_vec();
    for stop in 0..=lines.len() {
        let mut reads = reads(Format::Cri, 100, LongEvent::Split);
        let mut events = reads.cri(&lines[..stop]);
        let place = reads.memory.place(reads.offset);
        reads.memory = Memory::resume(&place);
        reads.offset = place.offset;
        events.extend(reads.cri(&lines[(place.offset / length) as usize..]));
        let events: Vec<_> = events.iter().map(|e| e[8..].split(' ').next().unwrap_or("").to_owned()).collect();
        assert_eq!(events, all, "{stop} {place:?}");
    }
}

/// Run it by itself, in a release build.
#[test]
#[ignore = "a measurement"]
fn throughput() {
    let content = "x".repeat(160);
    let line = format!("2016-10-06T00:17:09.669794202Z stdout F {content}\n");
    let bytes = line.repeat(640);
    let mut batch = Batch::default();
    let (mut starts, mut streams) = (Vec::new(), Vec::new());
    let mut reads = reads(Format::Cri, 1 << 20, LongEvent::Split);
    let map = Map::Plain { base: 0 };
    let rounds = 20_000;
    let mut spent = Duration::ZERO;
    for _ in 0..rounds {
        batch.clear();
        batch.arena.extend_from_slice(bytes.as_bytes());
        starts.clear();
        streams.clear();
        let begun = Instant::now();
        let input = Input { map: &map, ended: false, flush: false, now: begun };
        let framed = reads.framing.frame(&mut reads.memory, &mut batch, &mut starts, &mut streams, &input);
        spent += begun.elapsed();
        assert_eq!((framed.consumed, batch.len()), (bytes.len(), 640));
    }
    println!("{:.0} MB/s", (bytes.len() * rounds) as f64 / 1e6 / spent.as_secs_f64());
}
