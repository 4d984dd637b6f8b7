//! The last events of a logstore's files, read once and without remembering anything.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use super::Settings;
use super::discover::{Discovery, Found, Scan};
use super::disk::Disk;
use super::framing::Format;
use super::place::{Place, Rest};
use super::reader::{Chunk, Reader};
use super::rotation::is_gzip;
use crate::event::Batch;

/// Files that are opened.
const FILES: usize = 16;

/// Reading begins at a multiple of it, so that no character of several bytes is cut where all have as many.
const UNIT: u64 = 4;

/// The last events, about so many bytes of them: of the file that was written last first, in order within each file, and
/// what was cut off at its beginning left out. Of compressed files the first events, and only if there are no others.
pub fn recent(settings: &Settings, bytes: usize) -> Result<Vec<Batch>> {
    let tree = Box::new(Disk::new(&settings.root));
    let mut discovery = Discovery::new(&settings.root, &settings.include, &settings.exclude, tree)?;
    let (Scan::Changed(mut found), _) = discovery.scan(true) else { return Ok(Vec::new()) };
    found.sort_by_key(|file| std::cmp::Reverse(file.meta.modified));
    let (compressed, plain): (Vec<_>, Vec<_>) = found.into_iter().partition(|file| is_gzip(&file.path));
    // What is not complete yet is better than nothing.
    for (files, flush) in [(&plain, false), (&plain, true), (&compressed, true)] {
        let mut batches = Vec::new();
        let mut left = bytes as u64;
        for file in files.iter().take(FILES) {
            // Files come and go.
            let read = Tail { settings, discovery: &discovery, file }.read(left, flush).unwrap_or_default();
            left = left.saturating_sub(read.iter().map(|batch| batch.arena.len() as u64).sum());
            batches.extend(read);
            if left == 0 {
                break;
            }
        }
        if !batches.is_empty() {
            return Ok(batches);
        }
    }
    Ok(Vec::new())
}

/// The end of one file.
struct Tail<'a> {
    settings: &'a Settings,
    discovery: &'a Discovery,
    file: &'a Found,
}

impl Tail<'_> {
    fn read(&self, bytes: u64, flush: bool) -> Result<Vec<Batch>> {
        let Settings { root, framing, decoder, .. } = self.settings;
        let Found { path, meta } = self.file;
        let Some(file) = self.discovery.open(path, meta.id)? else { return Ok(Vec::new()) };
        let meta = file.meta()?;
        let mut reader = Reader::new(file, &meta, 0, *decoder);
        reader.rename(
            root,
            Path::new(path),
            rustix::system::uname().nodename().to_string_lossy().as_ref(),
            &self.settings.tags,
        );
        reader.detect_gzip();
        let start = if reader.is_compressed() { 0 } else { meta.len.saturating_sub(bytes) / UNIT * UNIT };
        if start > 0 {
            let Some(seen) = reader.seen_before(start) else { return Ok(Vec::new()) };
            let head = reader.head()?;
            reader.go_on(&Place { rest: Rest::Discard, ..Place::at(start) }, seen, &head);
        }
        let (mut batches, mut chunk) = (Vec::new(), Chunk::default());
        let mut cut = Cut::new(start > 0, self.settings);
        while reader.offset() < start + bytes {
            reader.read(&mut chunk, framing, flush, true, Instant::now())?;
            let batch = cut.rest_of(&chunk);
            if !batch.is_empty() {
                batches.push(batch);
            }
            if chunk.at_end || chunk.bytes == 0 {
                break;
            }
        }
        Ok(batches)
    }
}

/// Which events at the beginning may lack theirs.
struct Cut {
    /// The first event of each stream, or of all.
    streams: Vec<u8>,
    /// How many events were left out.
    left_out: u64,
}

impl Cut {
    fn new(is_cut: bool, settings: &Settings) -> Cut {
        let streams = match settings.framing.format {
            Format::Cri | Format::Docker => vec![0, 1],
            Format::Lines if settings.framing.multiline.is_some() => vec![0],
            Format::Lines => vec![],
        };
        Cut { streams: if is_cut { streams } else { vec![] }, left_out: 0 }
    }

    /// The events that are whole, numbered without the others.
    fn rest_of(&mut self, chunk: &Chunk) -> Batch {
        let batch = &chunk.batch;
        let mut cut = Vec::new();
        for event in 0..batch.len() {
            let stream = chunk.streams.get(event).copied().unwrap_or(0);
            if let Some(known) = self.streams.iter().position(|of| *of == stream) {
                self.streams.swap_remove(known);
                cut.push(event);
            }
            if self.streams.is_empty() {
                break;
            }
        }
        let mut rest = match cut[..] {
            [] => batch.clone(),
            [first, ..] => {
                let mut rest = batch.part(0..first);
                let ends = cut[1..].iter().copied().chain([batch.len()]);
                cut.iter().zip(ends).for_each(|(event, end)| rest.append(&batch.part(event + 1..end)));
                rest.origins.clear();
                rest
            }
        };
        rest.first = batch.first - self.left_out;
        self.left_out += cut.len() as u64;
        rest
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;
    use std::path::PathBuf;
    use std::time::{Duration, SystemTime};

    use super::super::framing::multiline::{Patterns, Rule};
    use super::super::{Rotated, StartAt};
    use super::*;
    use crate::event::CELL;

    struct Site {
        dir: tempfile::TempDir,
        settings: Settings,
        age: u64,
    }

    impl Site {
        fn new(format: Format, start: Option<&str>) -> Site {
            let dir = tempfile::tempdir().unwrap();
            let rule = |start: &str| Rule::new(&Patterns::Start(start.to_owned()), 100).unwrap();
            let mut settings = Settings::plain(dir.path());
            settings.include = vec!["**/*.log".into(), "*.gz".into()];
            settings.exclude = vec!["not.log".into()];
            settings.from = StartAt::End;
            (settings.framing.format, settings.framing.multiline) = (format, start.map(rule));
            settings.rotated = Rotated { wait: Duration::ZERO, max_files: 0, max_size: 0 };
            settings.max_open = 1;
            Site { dir, settings, age: 0 }
        }

        /// Each file is older than the one before.
        fn file(&mut self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
            let path = self.dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            self.age += 100;
            let then = SystemTime::now() - Duration::from_secs(self.age);
            File::options().append(true).open(&path).unwrap().set_modified(then).unwrap();
            path
        }

        /// Events of all batches, with the numbers that they have in their files checked.
        fn recent(&self, bytes: usize) -> Vec<String> {
            let mut events = Vec::new();
            let mut before = None;
            for batch in recent(&self.settings, bytes).unwrap() {
                batch.check().unwrap();
                let path = batch.tags[0].1.clone();
                let next = before.filter(|(of, _)| *of == path).map_or(0, |(_, next)| next);
                assert_eq!(batch.first, next);
                before = Some((path, batch.first + batch.len() as u64));
                events.extend((0..batch.len()).map(|event| {
                    let cell = batch.event(event).chunks_exact(CELL).find(|cell| cell[0] == 0).unwrap();
                    String::from_utf8_lossy(&batch.arena[cell[1] as usize..cell[2] as usize]).into_owned()
                }));
            }
            events
        }
    }

    #[test]
    fn the_last_lines_come_from_the_newest_files() {
        let mut site = Site::new(Format::Lines, None);
        assert_eq!(site.recent(100), [""; 0]);
        site.file("new.log", "new 1\nnew 2\nnot yet compl");
        site.file("deep/old.log", "old 1\nold 2\nold 3\n");
        site.file("not.log", "not wanted\n");
        site.file("other.txt", "not wanted\n");
        assert_eq!(site.recent(1000), ["new 1", "new 2", "old 1", "old 2", "old 3"]);
        // What is cut at its beginning is left out.
        assert_eq!(site.recent(20), ["new 2"]);
        let lines: String = (0..100_000).map(|line| format!("line {line:06}\n")).collect();
        let path = site.file("many.log", lines);
        File::options().append(true).open(&path).unwrap().set_modified(SystemTime::now()).unwrap();
        let events = site.recent(256 << 10);
        assert_eq!(events.last().unwrap(), "line 099999");
        let first = 100_000 - events.len();
        assert!(events.iter().enumerate().all(|(at, event)| *event == format!("line {:06}", first + at)));
        assert_eq!(events.len(), (256 << 10) / 12);
    }

    #[test]
    fn what_is_not_complete_is_better_than_nothing_and_what_is_compressed_too() {
        let mut site = Site::new(Format::Lines, None);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"first\nsecond\n").unwrap();
        site.file("old.gz", gzip.finish().unwrap());
        assert_eq!(site.recent(1000), ["first", "second"]);
        site.file("a.log", "half of a li");
        assert_eq!(site.recent(1000), ["half of a li"]);
        site.file("b.log", "whole\n");
        assert_eq!(site.recent(1000), ["whole"]);
    }

    #[test]
    fn events_of_several_lines_are_whole() {
        let mut site = Site::new(Format::Lines, Some("^[A-Z]"));
        site.file("a.log", "One\n a\n b\nTwo\n c\nThree\nFour\n d\n");
        assert_eq!(site.recent(1000), ["One\n a\n b", "Two\n c", "Three"]);
        assert_eq!(site.recent(27), ["Two\n c", "Three"]);
        assert_eq!(site.recent(21), ["Three"]);
    }

    #[test]
    fn lines_of_containers_are_put_together_and_whole() {
        let mut site = Site::new(Format::Cri, None);
        let line = |second: u8, stream: &str, tag: &str, text: &str| {
            format!("2026-01-01T00:00:{second:02}Z {stream} {tag} {text}\n")
        };
        let lines = [
            line(0, "stdout", "F", "lost"),
            line(1, "stdout", "P", "cut"),
            line(2, "stdout", "F", "-off"),
            line(3, "stdout", "F", "a"),
            line(4, "stdout", "P", "b"),
            line(5, "stderr", "F", "rare"),
            line(6, "stdout", "F", "-b"),
            line(7, "stderr", "F", "c"),
            line(8, "stdout", "P", "more to come"),
        ];
        site.file("a.log", lines.concat());
        assert_eq!(site.recent(10_000), ["lost", "cut-off", "a", "rare", "b-b", "c"]);
        let from_cut = lines[1..].concat().len() - 5;
        assert_eq!(site.recent(from_cut), ["a", "b-b", "c"]);
    }

    #[test]
    fn other_encodings_are_decoded() {
        let mut site = Site::new(Format::Lines, None);
        let utf_16 =
            |text: &str| [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
        let bytes: Vec<u8> = utf_16("first ä\nsecond 漢\nthird 😀\n");
        site.file("a.log", &bytes);
        assert_eq!(site.recent(10_000), ["first ä", "second 漢", "third 😀"]);
        assert_eq!(site.recent(bytes.len() - 4), ["second 漢", "third 😀"]);
    }

    #[test]
    fn nothing_outside_of_the_root_is_read() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret.log"), "secret\n").unwrap();
        let mut site = Site::new(Format::Lines, None);
        site.file("a.log", "own\n");
        std::os::unix::fs::symlink(outside.path().join("secret.log"), site.dir.path().join("link.log")).unwrap();
        std::os::unix::fs::symlink(outside.path(), site.dir.path().join("directory")).unwrap();
        assert_eq!(site.recent(10_000), ["own"]);
        site.settings.root = outside.path().join("nowhere");
        assert_eq!(site.recent(10_000), [""; 0]);
    }
}
