//! Who is measured: writes nginx lines at a rate, and notes when each comes out.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use weir::mock::{Generator, LogType};

/// Lines that are written together are as old as the first of them.
const BURST: Duration = Duration::from_millis(5);

/// How often the output is looked at: latencies are exact to this.
const LOOK: Duration = Duration::from_micros(500);

/// What comes later than this after the last line was written is missing.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the victim saw.
pub struct Seen {
    /// Of each line, in microseconds, ascending.
    pub latencies: Vec<u32>,
    /// Bytes of input a second, from the first line written to the last line out.
    pub bytes_per_second: f64,
}

/// Lines up to that number were written at that time.
type Bursts = Arc<Mutex<Vec<(u64, Instant)>>>;

/// Writes `rate` MB/s to `input` for a while, and waits until all has come out in `output`, in order.
pub fn measure(input: &Path, output: &Path, rate: f64, length: Duration) -> anyhow::Result<Seen> {
    let (bursts, written) = (Bursts::default(), Arc::new(AtomicU64::new(u64::MAX)));
    let start = Instant::now();
    let writer = {
        let (input, bursts, written) = (input.to_owned(), bursts.clone(), written.clone());
        thread::spawn(move || write(&input, &bursts, &written, rate, length))
    };
    let latencies = read(output, &bursts, &written, start + length + PATIENCE);
    let wall = start.elapsed();
    let bytes = writer.join().expect("the writer does not panic")?;
    let mut latencies = latencies?;
    latencies.sort_unstable();
    Ok(Seen { latencies, bytes_per_second: bytes as f64 / wall.as_secs_f64() })
}

fn write(path: &Path, bursts: &Bursts, written: &AtomicU64, rate: f64, length: Duration) -> anyhow::Result<u64> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    let mut generator = Generator::new(LogType::Nginx, 1);
    let (start, mut bytes, mut burst) = (Instant::now(), 0, Vec::new());
    while start.elapsed() < length {
        burst.clear();
        let due = (start.elapsed().as_secs_f64() * rate * 1e6) as u64;
        while bytes + (burst.len() as u64) < due {
            generator.next(&mut burst);
        }
        bytes += burst.len() as u64;
        // Noted before it is written, so that nobody reads lines without a time.
        bursts.lock().expect("nobody panics").push((generator.count(), Instant::now()));
        file.write_all(&burst)?;
        thread::sleep(BURST);
    }
    written.store(generator.count(), Ordering::Release);
    Ok(bytes)
}

/// The latency of each line. An error if one is missing, or out of order.
fn read(path: &Path, bursts: &Bursts, written: &AtomicU64, deadline: Instant) -> anyhow::Result<Vec<u32>> {
    let (mut latencies, mut buffer, mut rest) = (Vec::new(), vec![0; 1 << 20], Vec::new());
    let (mut file, mut burst): (Option<File>, usize) = (None, 0);
    while latencies.len() as u64 != written.load(Ordering::Acquire) {
        if file.is_none() && fs::exists(path)? {
            file = Some(File::open(path)?);
        }
        let count = match &mut file {
            Some(file) => file.read(&mut buffer)?,
            None => 0,
        };
        if count == 0 {
            ensure!(Instant::now() < deadline, "only {} lines came out", latencies.len());
            thread::sleep(LOOK);
            continue;
        }
        let now = Instant::now();
        rest.extend_from_slice(&buffer[..count]);
        let end = memchr::memrchr(b'\n', &rest).map_or(0, |at| at + 1);
        let bursts = bursts.lock().expect("nobody panics");
        for line in rest[..end].split_inclusive(|byte| *byte == b'\n') {
            let number = latencies.len() as u64;
            ensure!(sequence(line) == Some(number), "line {number} is {}", String::from_utf8_lossy(line));
            while bursts[burst].0 <= number {
                burst += 1;
            }
            latencies.push((now - bursts[burst].1).as_micros() as u32);
        }
        drop(bursts);
        rest.drain(..end);
    }
    Ok(latencies)
}

/// The number that the generator gave the line.
fn sequence(line: &[u8]) -> Option<u64> {
    let at = memchr::memmem::find(line, b"seq=")? + 4;
    let digits = line[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&line[at..at + digits]).ok()?.parse().ok()
}
