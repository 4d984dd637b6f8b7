//! `weir mock-log`: writes log events of a kind, at a rate.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};

use crate::config::units::{SIZE_HINT, parse_size};
use crate::mock::{Generator, LogType};

/// Bytes that are gathered before they are written, when no rate is asked for.
const BUFFER: usize = 256 * 1024;

/// Paced events are written together at most this often: a sleep is not more exact, and each costs a system call.
const BURST: Duration = Duration::from_millis(10);

/// Write test logs: numbered events of a realistic kind, to a file or a stream
#[derive(clap::Args, Debug)]
pub struct MockLog {
    /// Kind of log
    #[arg(long, value_enum, default_value = "nginx")]
    log_type: LogType,

    #[command(flatten)]
    target: Target,

    /// Stop after so many events; 0: never
    #[arg(long, value_name = "N", default_value_t = 0)]
    total_count: u64,

    /// Stop with the event that completes so many bytes, such as 64MiB; 0: never
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = size)]
    total_bytes: u64,

    /// Events a second, by the wall clock; 0: as fast as possible
    #[arg(long, value_name = "N", default_value_t = 0)]
    logs_per_sec: u64,

    /// Always write the same bytes for this number: times begin at 2026-01-01T00:00:00Z and are a millisecond
    /// apart. Absent: new content each time, and real times
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// Where to.
#[derive(clap::Args, Debug, Default)]
#[group(multiple = false)]
struct Target {
    /// Append to this file; it is made if there is none, its directory is not
    #[arg(long, value_name = "FILE")]
    path: Option<PathBuf>,

    /// Write to standard output; this is the default
    #[arg(long)]
    stdout: bool,

    /// Write to standard error
    #[arg(long)]
    stderr: bool,
}

/// Writes until a limit is reached or nobody reads any more. Errors: the target cannot be opened or written.
pub fn run(args: MockLog) -> anyhow::Result<()> {
    let mut out = args.target.open()?;
    match args.write(&mut *out) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write the log"),
    }
}

impl MockLog {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut events = Events::new(self);
        let start = Instant::now();
        let mut buffer = Vec::with_capacity(2 * BUFFER);
        while !events.are_done() {
            buffer.clear();
            if self.logs_per_sec == 0 {
                events.fill(&mut buffer, u64::MAX);
            } else {
                events.fill(&mut buffer, due(start.elapsed(), self.logs_per_sec));
            }
            out.write_all(&buffer)?;
            out.flush()?;
            if self.logs_per_sec > 0 && !events.are_done() {
                thread::sleep(pause(start.elapsed(), events.generator.count(), self.logs_per_sec));
            }
        }
        Ok(())
    }
}

/// Events up to the limits.
struct Events {
    generator: Generator,
    most_events: u64,
    bytes: u64,
    most_bytes: u64,
}

impl Events {
    fn new(args: &MockLog) -> Self {
        let or_endless = |limit| if limit == 0 { u64::MAX } else { limit };
        let generator = match args.seed {
            Some(seed) => Generator::new(args.log_type, seed),
            None => Generator::new(args.log_type, fresh_seed()).with_clock(SystemTime::now),
        };
        let (most_events, most_bytes) = (or_endless(args.total_count), or_endless(args.total_bytes));
        Events { generator, most_events, bytes: 0, most_bytes }
    }

    fn are_done(&self) -> bool {
        self.generator.count() >= self.most_events || self.bytes >= self.most_bytes
    }

    /// Appends events until there were `due` in all, or a limit is reached, or the buffer is full.
    fn fill(&mut self, buffer: &mut Vec<u8>, due: u64) {
        while !self.are_done() && self.generator.count() < due && buffer.len() < BUFFER {
            let before = buffer.len();
            self.generator.next(buffer);
            self.bytes += (buffer.len() - before) as u64;
        }
    }
}

/// How many events should be out after that time: the first at once.
fn due(elapsed: Duration, per_second: u64) -> u64 {
    let passed = elapsed.as_nanos() * u128::from(per_second) / 1_000_000_000;
    u64::try_from(passed).unwrap_or(u64::MAX).saturating_add(1)
}

/// How long to sleep when `written` events are out: until the next one is due, and not less than a burst,
/// unless more are due already.
fn pause(elapsed: Duration, written: u64, per_second: u64) -> Duration {
    let nanos = (u128::from(written) * 1_000_000_000).div_ceil(u128::from(per_second));
    let next = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
    match next.checked_sub(elapsed) {
        Some(wait) if !wait.is_zero() => wait.max(BURST),
        _ => Duration::ZERO,
    }
}

impl Target {
    fn open(&self) -> anyhow::Result<Box<dyn Write>> {
        match &self.path {
            Some(path) => append(path),
            None if self.stderr => Ok(Box::new(io::stderr())),
            None => Ok(Box::new(io::stdout())),
        }
    }
}

fn append(path: &Path) -> anyhow::Result<Box<dyn Write>> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
        bail!("cannot write {}: there is no directory {}; create it first", path.display(), parent.display());
    }
    let file = OpenOptions::new().append(true).create(true).open(path);
    Ok(Box::new(file.with_context(|| format!("cannot write {}", path.display()))?))
}

fn fresh_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

fn size(text: &str) -> Result<u64, &'static str> {
    parse_size(text).ok_or(SIZE_HINT)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: MockLog,
    }

    fn args(line: &str) -> MockLog {
        Cli::try_parse_from(["mock-log"].into_iter().chain(line.split_whitespace())).unwrap().args
    }

    fn written(line: &str) -> Vec<u8> {
        let mut out = Vec::new();
        args(line).write(&mut out).unwrap();
        out
    }

    #[test]
    fn a_seed_makes_it_repeatable_and_the_count_exact() {
        let once = written("--log-type=json --total-count=5000 --seed=7");
        assert_eq!(once, written("--log-type=json --total-count=5000 --seed=7"));
        let mut expected = Vec::new();
        let mut generator = Generator::new(LogType::Json, 7);
        (0..5000).for_each(|_| generator.next(&mut expected));
        assert_eq!(once, expected);
    }

    #[test]
    fn a_rate_changes_when_but_not_what() {
        assert_eq!(written("--total-count=500 --seed=1 --logs-per-sec=100000"), written("--total-count=500 --seed=1"),);
    }

    #[test]
    fn bytes_end_with_the_event_that_completes_them() {
        let all = written("--total-count=1000 --seed=1");
        let end = 9_999 + all[9_999..].iter().position(|b| *b == b'\n').unwrap() + 1;
        assert_eq!(written("--total-bytes=10KB --seed=1"), all[..end]);
    }

    #[test]
    fn files_are_appended_to_and_directories_are_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let line = |path: &Path| format!("--total-count=3 --seed=1 --path={}", path.display());
        run(args(&line(&path))).unwrap();
        run(args(&line(&path))).unwrap();
        assert_eq!(fs::read(&path).unwrap(), written("--total-count=3 --seed=1").repeat(2));

        let missing = dir.path().join("no/access.log");
        let error = run(args(&line(&missing))).unwrap_err().to_string();
        let [path, parent] = [missing.as_path(), missing.parent().unwrap()].map(Path::display);
        assert_eq!(error, format!("cannot write {path}: there is no directory {parent}; create it first"));
    }

    #[test]
    fn only_one_target_is_taken() {
        assert!(Cli::try_parse_from(["mock-log", "--stdout", "--stderr"]).is_err());
        assert!(Cli::try_parse_from(["mock-log", "--stdout", "--path=x"]).is_err());
    }

    #[test]
    fn without_a_seed_times_are_real() {
        let before = jiff::Timestamp::now().as_millisecond();
        let out = written("--log-type=json --total-count=1");
        let after = jiff::Timestamp::now().as_millisecond();
        let event: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let time: jiff::Timestamp = event["time"].as_str().unwrap().parse().unwrap();
        assert!((before..=after).contains(&time.as_millisecond()));
    }

    #[test]
    fn pacing_follows_the_clock() {
        let millis = Duration::from_millis;
        assert_eq!(due(millis(0), 100), 1);
        assert_eq!(due(millis(999), 100), 100);
        assert_eq!(due(millis(1000), 100), 101);
        assert_eq!(due(Duration::MAX, u64::MAX), u64::MAX);
        assert_eq!(pause(millis(0), 1, 4), millis(250));
        assert_eq!(pause(millis(200), 1, 4), millis(50));
        assert_eq!(pause(millis(0), 1, 100_000), BURST);
        assert_eq!(pause(millis(250), 1, 4), millis(0), "more is due");
    }
}
