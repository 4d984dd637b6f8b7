//! What is in the files: encodings, compressed ones, lines that are too long, files that are too old.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use crate::harness::{Agent, Lines, Ran, Site, numbered, numbers, raw};

fn site(files: &str) -> Site {
    let site = Site::new();
    site.config(&raw(files));
    site
}

/// Counts of `a/b` by their names.
fn counts<const N: usize>(ran: &Ran, names: [&str; N]) -> [u64; N] {
    names.map(|name| ran.summary["a/b"].get(name).copied().unwrap_or_else(|| panic!("no {name} in {ran:?}")))
}

/// An encoding, a text in it, and what it is.
fn encoded() -> Vec<(&'static str, Vec<u8>, Vec<&'static str>)> {
    // Some have a byte that is a newline, a carriage return or a backslash elsewhere: U+4E0A, U+0A0A, U+0D0A, U+8868.
    let utf_16 = ["上 line", "ਊഊ\u{0d0d}", "", "a😀b", "\u{0a0d}"];
    let bytes = |big: bool| {
        let text = utf_16.join("\r\n") + "\n";
        let units = std::iter::once(0xfeff).chain(text.encode_utf16());
        units.flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect::<Vec<u8>>()
    };
    vec![
        ("utf-8", b"\xef\xbb\xbffirst \xc3\xbc\nsecond \xf0\x9f\x98\x80\n".to_vec(), vec!["first ü", "second 😀"]),
        ("utf-16le", bytes(false), utf_16.to_vec()),
        ("utf-16be", bytes(true), utf_16.to_vec()),
        // Its second bytes are often ASCII: 0x81 0x5c is one character.
        ("gbk", b"\xd6\xd0\xce\xc4 log\n\xc8\xd5\xd6\xbe\r\n\x81\x5c\n".to_vec(), vec!["中文 log", "日志", "乗"]),
        (
            "shift_jis",
            b"\x93\xfa\x96\x7b\x8c\xea\n\x95\x5c\x83\x5c log\n\xb6\n".to_vec(),
            vec!["日本語", "表ソ log", "ｶ"],
        ),
        ("windows-1252", b"caf\xe9 \x80\nx\n".to_vec(), vec!["café €", "x"]),
    ]
}

#[test]
fn encodings_become_utf_8() {
    for (encoding, bytes, lines) in encoded() {
        let site = site(&format!("encoding: {encoding}"));
        site.write("logs/a.log", &bytes);
        let count = lines.len() as u64;
        let ran = site.run();
        assert_eq!(site.contents("a/b"), lines, "{encoding}");
        ran.assert_counts("a/b", [count, count, 0, 0]);
        assert_eq!(counts(&ran, ["invalid"]), [0], "{encoding}");
        site.run().assert_counts("a/b", [0, 0, 0, 0]);
    }
}

#[test]
fn characters_that_are_written_in_two_parts_are_whole() {
    for (encoding, bytes, lines) in encoded() {
        let site = site(&format!("encoding: {encoding}, include: [\"**/*.log\"]"));
        let mut agent = site.start();
        agent.wait_to_say("running");
        let mut expected = BTreeMap::new();
        for cut in 1..bytes.len() {
            let name = format!("logs/{cut}.log");
            site.write(&name, &bytes[..cut]);
            // Another file's line shows that this one has been looked at. It comes after it in the order of names.
            site.write(&format!("logs/{cut}.log.log"), &bytes);
            let total: usize = expected.values().map(Vec::len).sum();
            agent.wait_for_lines("a/b", total + lines.len());
            site.append(&name, &bytes[cut..]);
            agent.wait_for_lines("a/b", total + 2 * lines.len());
            for name in [name.clone(), name + ".log"] {
                expected.insert(site.path(name).to_str().unwrap().to_owned(), lines.clone());
            }
        }
        agent.stop();
        let mut all = BTreeMap::<String, Vec<String>>::new();
        for event in site.events("a/b") {
            let path = event["__tags__"]["path"].as_str().unwrap().to_owned();
            all.entry(path).or_default().push(event["content"].as_str().unwrap().to_owned());
        }
        assert_eq!(all.len(), expected.len(), "{encoding}");
        for (path, lines) in expected {
            assert_eq!(all[&path], lines, "{encoding}: {path}");
        }
    }
}

#[test]
fn invalid_bytes_are_replaced_or_kept() {
    let gbk = b"good \xd6\xd0\nbad \xd6\xd0\xff\xd6\xd0\ngood\n";
    let utf_8 = b"good \xc3\xbc\nbad \xc3\xbc\xff\xc3\xbc\ngood\n";
    let kept = String::from_utf8_lossy(b"bad \xd6\xd0\xff\xd6\xd0").into_owned();
    for (encoding, invalid, bytes, good, bad, count) in [
        ("gbk", "replace", &gbk[..], "good 中", "bad 中\u{fffd}中", Some(1)),
        ("gbk", "keep", gbk, "good 中", &*kept, Some(1)),
        ("utf-8", "replace", utf_8, "good ü", "bad ü\u{fffd}ü", Some(1)),
        // They are not even looked at.
        ("utf-8", "keep", utf_8, "good ü", "bad ü\u{fffd}ü", None),
    ] {
        let site = site(&format!("encoding: {encoding}, invalid: {invalid}"));
        site.write("logs/a.log", bytes);
        let ran = site.run();
        ran.assert_counts("a/b", [3, 3, 0, 0]);
        assert_eq!(site.contents("a/b"), [good, bad, "good"], "{encoding}, {invalid}");
        if let Some(count) = count {
            assert_eq!(counts(&ran, ["invalid"]), [count], "{encoding}, {invalid}");
        }
    }
}

/// Lines that are long enough for many of them not to be read at once.
fn long_lines(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|number| format!("{number} {:x>60}", number * 7919 % 100_003)).collect()
}

fn text(lines: &[String]) -> String {
    lines.join("\n") + "\n"
}

#[test]
fn a_compressed_file_is_read_once() {
    let site = site("include: [\"*.gz\"]");
    let lines = long_lines(0..20_000);
    site.write("logs/old.log", text(&lines));
    site.gzip("logs/old.log");
    site.run().assert_counts("a/b", [20_000, 20_000, 0, 0]);
    assert!(site.contents("a/b") == lines, "some are lost, doubled or out of order");
    site.run().assert_counts("a/b", [0, 0, 0, 0]);
    // Two members in one file, as appending to it makes them.
    site.write("logs/more.log", "one\n");
    site.gzip("logs/more.log");
    site.write("logs/other.log", "two\n");
    site.gzip("logs/other.log");
    let other = fs::read(site.path("logs/other.log.gz")).unwrap();
    fs::remove_file(site.path("logs/other.log.gz")).unwrap();
    site.append("logs/more.log.gz", other);
    site.run().assert_counts("a/b", [2, 2, 0, 0]);
    assert_eq!(site.contents("a/b")[20_000..], ["one", "two"]);
}

const MANY: u64 = 1_000_000;

/// A compressed file of many lines, which an agent has begun to read.
fn with_large_gzip(end: impl FnOnce(Agent)) -> (Site, Vec<String>) {
    let site = site("include: [\"*.gz\"]");
    let lines = long_lines(0..MANY);
    site.write("logs/old.log", text(&lines));
    site.gzip("logs/old.log");
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 1000);
    end(agent);
    assert!(Lines::of("a/b").count(&site) < MANY as usize, "it was read before it could be ended");
    (site, lines)
}

#[test]
fn a_compressed_file_goes_on_where_it_was_after_a_stop() {
    let (site, lines) = with_large_gzip(|agent| _ = agent.stop());
    site.run();
    assert!(site.contents("a/b") == lines, "some are lost, doubled or out of order");
    site.run().assert_counts("a/b", [0, 0, 0, 0]);
}

#[test]
fn a_compressed_file_loses_nothing_by_a_kill() {
    let (site, lines) = with_large_gzip(|agent| agent.kill());
    site.run();
    let mut next = 0;
    let mut times = vec![0; lines.len()];
    for content in site.contents("a/b") {
        let number: usize = content.split(' ').next().unwrap().parse().unwrap();
        assert!(number <= next && content == lines[number], "{content} came before {next}");
        times[number] += 1;
        next = next.max(number + 1);
    }
    assert_eq!(next, lines.len(), "some are lost");
    assert!(times.iter().all(|times| *times <= 2));
    site.run().assert_counts("a/b", [0, 0, 0, 0]);
}

#[test]
fn a_file_that_was_compressed_while_the_agent_was_down_is_not_read_twice() {
    // All of it was read, a part of it, or nothing.
    for unread in [0, 500, 1000] {
        let site = site("include: [\"access.log*\"]");
        site.write("logs/access.log", numbers(0..1000 - unread));
        site.run().assert_counts("a/b", [1000 - unread, 1000 - unread, 0, 0]);
        site.append("logs/access.log", numbers(1000 - unread..1000));
        site.rename("logs/access.log", "logs/access.log.1");
        site.gzip("logs/access.log.1");
        site.write("logs/access.log", numbers(1000..1100));
        site.run().assert_counts("a/b", [unread + 100, unread + 100, 0, 0]);
        assert_eq!(site.contents("a/b"), numbered(0..1100));
        site.run().assert_counts("a/b", [0, 0, 0, 0]);
    }
}

#[test]
fn a_file_that_is_compressed_while_the_agent_runs_is_not_read_twice() {
    let site = site("include: [\"access.log*\"], poll_interval: 50ms");
    site.write("logs/access.log", numbers(0..1000));
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 1000);
    for generation in 1..5 {
        let from = generation * 1000;
        let rotated = format!("logs/access.log.{generation}");
        site.append("logs/access.log", numbers(from..from + 500));
        site.rename("logs/access.log", &rotated);
        site.gzip(&rotated);
        site.write("logs/access.log", numbers(from + 500..from + 1000));
        agent.wait_for_lines("a/b", from as usize + 1000);
    }
    agent.stop().assert_counts("a/b", [5000, 5000, 0, 0]);
    site.run().assert_counts("a/b", [0, 0, 0, 0]);
    assert_eq!(site.contents("a/b"), numbered(0..5000));
}

#[test]
fn a_compressed_file_that_is_corrupt_is_told_of_and_stops_no_other() {
    let site = site("include: [\"*.log*\"]");
    // Sound up to where a block begins, whose kind does not exist.
    let header = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03";
    site.write("logs/bad.log.gz", [&header[..], &[0xff; 100]].concat());
    site.write("logs/a.log", numbers(0..100));
    site.write("logs/z.log", numbers(100..200));
    site.gzip("logs/z.log");
    let ran = site.run();
    ran.assert_counts("a/b", [200, 200, 0, 0]);
    ran.assert_says("bad.log.gz");
    assert_eq!(site.contents("a/b"), numbered(0..200));
}

#[test]
fn of_a_compressed_file_that_ends_early_comes_what_is_there() {
    let site = site("include: [\"*.gz\"]");
    let lines = long_lines(0..20_000);
    site.write("logs/cut.log", text(&lines));
    site.gzip("logs/cut.log");
    let file = File::options().write(true).open(site.path("logs/cut.log.gz")).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    let ran = site.run_with(&[]);
    ran.assert_code(0);
    let all = site.contents("a/b");
    assert!(all.len() > 1000 && all.len() < 20_000, "{} lines", all.len());
    // The last may be cut as well.
    let (last, whole) = all.split_last().unwrap();
    assert!(whole == &lines[..whole.len()] && lines[whole.len()].starts_with(last), "not what is in it");
}

const SHORT: &str = "short";

/// A line of 5000 bytes, one as long as is allowed, one byte more, and short ones.
fn some_too_long() -> Vec<String> {
    [5000, 1024, 1025].into_iter().flat_map(|length| [SHORT.to_owned(), "x".repeat(length)]).collect()
}

#[test]
fn lines_that_are_too_long_are_split_truncated_or_skipped_and_counted() {
    let cut = |length| "x".repeat(length);
    let short = || SHORT.to_owned();
    let split = [vec![short()], vec![cut(1024); 4], vec![cut(904), short(), cut(1024), short(), cut(1024), cut(1)]];
    for (policy, expected, [split, truncated, discarded]) in [
        ("split", split.concat(), [5, 0, 0]),
        ("truncate", vec![short(), cut(1024), short(), cut(1024), short(), cut(1024)], [0, 2, 0]),
        ("skip", vec![short(), short(), cut(1024), short()], [0, 0, 2]),
    ] {
        let site = site(&format!("max_line: 1KiB, long_lines: {policy}"));
        site.write("logs/a.log", text(&some_too_long()));
        let ran = site.run();
        assert_eq!(site.contents("a/b"), expected, "{policy}");
        assert_eq!(counts(&ran, ["split", "truncated", "discarded"]), [split, truncated, discarded], "{policy}");
        let count = expected.len() as u64;
        assert_eq!(counts(&ran, ["read", "delivered"]), [count + discarded, count], "{policy}");
        site.run().assert_counts("a/b", [0, 0, 0, 0]);
    }
}

#[test]
fn characters_are_not_cut() {
    let site = site("max_line: 1KiB, long_lines: truncate");
    site.write("logs/a.log", format!("x{}\nlast\n", "ü".repeat(1000)));
    site.run().assert_counts("a/b", [2, 2, 0, 0]);
    assert_eq!(site.contents("a/b"), [format!("x{}", "ü".repeat(511)), "last".to_owned()]);
}

#[test]
fn the_rest_of_a_line_that_is_too_long_is_discarded_also_after_a_stop() {
    for (policy, count, before) in [("truncate", "truncated", 2), ("skip", "discarded", 1)] {
        let site = site(&format!("max_line: 1KiB, long_lines: {policy}"));
        site.write("logs/a.log", "first\n".to_owned() + &"x".repeat(200_000));
        let mut agent = site.start();
        agent.wait_for_lines("a/b", before);
        let first = agent.stop();
        site.append("logs/a.log", "x".repeat(200_000) + "\nlast\n");
        let second = site.run();
        let expected = ["first".to_owned(), "x".repeat(1024), "last".to_owned()];
        let expected: Vec<_> = expected.into_iter().filter(|line| before == 2 || line.len() < 1024).collect();
        assert_eq!(site.contents("a/b"), expected, "{policy}");
        assert_eq!(counts(&first, [count])[0] + counts(&second, [count])[0], 1, "{policy}");
    }
}

#[test]
fn files_that_are_too_old_are_left_alone_until_they_are_written() {
    let site = site("ignore_older: 7d");
    site.write("logs/old.log", numbers(0..100));
    site.write("logs/new.log", numbers(100..200));
    let age = |name: &str, days: u64| {
        let file = File::options().write(true).open(site.path(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(days * 24 * 3600)).unwrap();
    };
    age("logs/old.log", 8);
    age("logs/new.log", 6);
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 100);
    site.append("logs/old.log", "new\n");
    agent.wait_for_lines("a/b", 101);
    agent.stop().assert_counts("a/b", [101, 101, 0, 0]);
    site.append("logs/old.log", "newer\n");
    site.run().assert_counts("a/b", [1, 1, 0, 0]);
    assert_eq!(site.contents("a/b"), [numbered(100..200), vec!["new".into(), "newer".into()]].concat());
}

#[test]
fn a_file_of_two_names_that_is_too_old_is_read_once_when_it_is_written() {
    let site = site("include: ['*'], ignore_older: 7d");
    let names: Vec<_> = (0..20).map(|number| format!("logs/{number}.log")).collect();
    for name in &names {
        site.write(name, numbers(0..100));
        fs::hard_link(site.path(name), site.path(format!("{name}.1"))).unwrap();
        let file = File::options().write(true).open(site.path(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(8 * 24 * 3600)).unwrap();
    }
    let mut agent = site.start();
    agent.wait_to_say("running");
    for name in &names {
        site.append(name, format!("{name}\n"));
    }
    agent.wait_for_lines("a/b", names.len());
    // It goes on, under either name.
    for name in &names {
        site.append(&format!("{name}.1"), format!("{name} again\n"));
    }
    agent.wait_for_lines("a/b", 2 * names.len());
    let count = 2 * names.len() as u64;
    agent.stop().assert_counts("a/b", [count, count, 0, 0]);
    let mut expected: Vec<_> = names.iter().flat_map(|name| [name.clone(), format!("{name} again")]).collect();
    let mut contents = site.contents("a/b");
    expected.sort();
    contents.sort();
    assert_eq!(contents, expected);
}

#[test]
fn what_is_written_after_a_start_at_the_end_is_read_whatever_happens() {
    let site = site("from: end");
    site.write("logs/a.log", numbers(0..100));
    let mut agent = site.start();
    agent.wait_to_say("running");
    site.append("logs/a.log", numbers(100..105));
    agent.kill();
    site.append("logs/a.log", numbers(105..110));
    site.run();
    let mut all: Vec<u64> = site.contents("a/b").iter().map(|number| number.parse().unwrap()).collect();
    all.sort();
    // What was shipped before the kill may come again.
    all.dedup();
    assert_eq!(all, (100..110).collect::<Vec<_>>());
}

#[test]
fn a_file_that_appears_while_the_agent_is_down_was_not_there_at_its_first_start() {
    let site = site("from: end");
    site.write("logs/a.log", numbers(0..100));
    site.run().assert_counts("a/b", [0, 0, 0, 0]);
    site.append("logs/a.log", numbers(100..110));
    site.run().assert_counts("a/b", [10, 10, 0, 0]);
    site.write("logs/b.log", numbers(110..120));
    site.run().assert_counts("a/b", [10, 10, 0, 0]);
    assert_eq!(site.contents("a/b"), numbered(100..120));
}
