//! Input files: made once, the same for the same size and seed.

use std::fmt::{self, Display};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use weir::mock::{Generator, LogType};

/// Bytes at the start of a file that tell whether the generator still makes the same.
const PROOF: usize = 64 * 1024;

/// Bytes written or read at a time.
const CHUNK: usize = 1 << 20;

/// Where a line of CRI has its `P` or `F`: after `2026-01-01T00:00:00.000000000Z stdout `.
const CRI_MARK: usize = 38;

/// What kind of events.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Nginx,
    Json,
    Java,
    /// nginx lines in what containerd writes; each tenth is in two pieces.
    Cri,
}

/// A file of events.
pub struct Corpus {
    pub kind: Kind,
    pub path: PathBuf,
    pub bytes: u64,
    /// A stack trace belongs to the event before it.
    pub events: u64,
}

/// The events of a file, in order.
pub struct Events {
    kind: Kind,
    file: BufReader<File>,
}

impl Kind {
    pub fn default_mib(self) -> u64 {
        if self == Kind::Java { 128 } else { 256 }
    }

    fn generator(self, seed: u64) -> Source {
        let kind = match self {
            Kind::Nginx | Kind::Cri => LogType::Nginx,
            Kind::Json => LogType::Json,
            Kind::Java => LogType::Java,
        };
        Source { events: Generator::new(kind, seed), is_cri: self == Kind::Cri, plain: Vec::new() }
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Kind::Nginx => "nginx",
            Kind::Json => "json",
            Kind::Java => "java",
            Kind::Cri => "cri",
        })
    }
}

/// Makes events, one after the other.
struct Source {
    events: Generator,
    is_cri: bool,
    plain: Vec<u8>,
}

impl Source {
    fn next(&mut self, out: &mut Vec<u8>) {
        if !self.is_cri {
            return self.events.next(out);
        }
        self.plain.clear();
        self.events.next(&mut self.plain);
        let count = self.events.count();
        let stream = if count.is_multiple_of(3) { "stderr" } else { "stdout" };
        let head = format!("2026-01-01T00:{:02}:{:02}.{:09}Z {stream} ", count / 60 % 60, count % 60, count);
        if count.is_multiple_of(10) {
            let rest = self.plain.split_off(self.plain.len() / 2);
            out.extend([head.as_bytes(), b"P ", &self.plain, b"\n"].concat());
            self.plain = rest;
        }
        out.extend([head.as_bytes(), b"F ", &self.plain].concat());
    }
}

impl Corpus {
    /// The file of that kind, size and seed in `dir`; made unless it is there.
    pub fn ensure(dir: &Path, kind: Kind, mib: u64, seed: u64) -> anyhow::Result<Corpus> {
        fs::create_dir_all(dir)?;
        let path = dir.join(format!("{kind}-{mib}MiB-{seed}.log"));
        if !is_current(&path, kind, seed) {
            eprintln!("making {}", path.display());
            make(&path, kind, mib << 20, seed).with_context(|| format!("cannot make {}", path.display()))?;
        }
        Corpus::open(path, kind)
    }

    /// A small file beside this one: its first events.
    pub fn sample(&self, events: u64) -> anyhow::Result<Corpus> {
        let path = self.path.with_extension("sample.log");
        let mut sample = File::create(&path)?;
        let (mut all, mut event) = (self.events()?, Vec::new());
        for _ in 0..events {
            if all.next(&mut event)? {
                sample.write_all(&event)?;
                sample.write_all(b"\n")?;
            }
        }
        Corpus::open(path, self.kind)
    }

    fn open(path: PathBuf, kind: Kind) -> anyhow::Result<Corpus> {
        let bytes = fs::metadata(&path)?.len();
        let mut corpus = Corpus { kind, path, bytes, events: 0 };
        let (mut events, mut event) = (corpus.events()?, Vec::new());
        while events.next(&mut event)? {
            corpus.events += 1;
        }
        Ok(corpus)
    }

    pub fn events(&self) -> io::Result<Events> {
        Ok(Events { kind: self.kind, file: BufReader::with_capacity(CHUNK, File::open(&self.path)?) })
    }

    /// Reads the file, so that it is in memory.
    pub fn warm(&self) -> anyhow::Result<()> {
        let mut file = File::open(&self.path)?;
        let mut chunk = vec![0; CHUNK];
        while file.read(&mut chunk)? > 0 {}
        Ok(())
    }
}

impl Events {
    /// Puts the next event into `event`, without its last newline; false at the end.
    pub fn next(&mut self, event: &mut Vec<u8>) -> io::Result<bool> {
        event.clear();
        let found = self.file.read_until(b'\n', event)? > 0;
        // The first line of an event begins with its date, and no other line with a digit.
        // A piece is marked, at the same place in each line.
        while found && self.kind == Kind::Cri && event.len() > CRI_MARK && event[CRI_MARK] == b'P' {
            event.clear();
            self.file.read_until(b'\n', event)?;
        }
        while found && self.kind == Kind::Java && self.file.fill_buf()?.first().is_some_and(|b| !b.is_ascii_digit()) {
            self.file.read_until(b'\n', event)?;
        }
        if event.last() == Some(&b'\n') {
            event.pop();
        }
        Ok(found)
    }
}

/// Whether the file is there and begins as it would if it were made now.
fn is_current(path: &Path, kind: Kind, seed: u64) -> bool {
    let mut generator = kind.generator(seed);
    let mut expected = Vec::new();
    while expected.len() < PROOF {
        generator.next(&mut expected);
    }
    let mut start = vec![0; expected.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == expected
}

/// Whole events, until there are `bytes`. The file gets its name when it is complete.
fn make(path: &Path, kind: Kind, bytes: u64, seed: u64) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = File::create(&part)?;
    let mut generator = kind.generator(seed);
    let mut chunk = Vec::with_capacity(2 * CHUNK);
    let mut written = 0;
    while written < bytes {
        chunk.clear();
        while chunk.len() < CHUNK && written + (chunk.len() as u64) < bytes {
            generator.next(&mut chunk);
        }
        file.write_all(&chunk)?;
        written += chunk.len() as u64;
    }
    fs::rename(part, path)
}
