//! What the machine alone does to somebody at the same time: a message that goes through threads that do nothing else,
//! as a line goes through those of the agent.

use std::io;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Threads that a line wakes: that of inotify, a worker, that of the sink.
const THREADS: usize = 3;

/// How often a message is sent.
const EVERY: Duration = Duration::from_millis(5);

/// How often it is looked whether one has arrived, as for the victim's lines.
const LOOK: Duration = Duration::from_micros(500);

/// Sends messages until it is over. Gives what each took, in microseconds, ascending.
pub fn measure(is_over: &AtomicBool) -> io::Result<Vec<u32>> {
    let start = Instant::now();
    let (mut reader, mut first) = io::pipe()?;
    let mut threads: Vec<JoinHandle<io::Result<()>>> = Vec::new();
    for _ in 0..THREADS {
        let (next, mut into) = io::pipe()?;
        let mut from = std::mem::replace(&mut reader, next);
        threads.push(thread::spawn(move || {
            let mut message = [0; 8];
            while from.read_exact(&mut message).is_ok() {
                into.write_all(&message)?;
            }
            Ok(())
        }));
    }
    let arrived = thread::spawn(move || {
        let (mut latencies, mut message) = (Vec::new(), [0; 8]);
        while reader.read_exact(&mut message).is_ok() {
            let sent = Duration::from_nanos(u64::from_le_bytes(message));
            latencies.push((start.elapsed() - sent).as_micros() as u32);
            thread::sleep(LOOK);
        }
        latencies
    });
    while !is_over.load(Ordering::Relaxed) {
        first.write_all(&(start.elapsed().as_nanos() as u64).to_le_bytes())?;
        thread::sleep(EVERY);
    }
    drop(first);
    for thread in threads {
        thread.join().expect("a relay does not panic")?;
    }
    let mut latencies = arrived.join().expect("a relay does not panic");
    latencies.sort_unstable();
    Ok(latencies)
}
