//! Threads that wait for disks, so that no worker does.
//!
//! What a tenant left unread for long is on disk and not in memory. A worker that read it would wait for it, and all other
//! tenants with it. So it only asks for it here, and is told when it is there.

use std::fs::File;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use rustix::fs::Advice;

use super::disk::Done;

/// Threads. Each waits for one file at a time.
const THREADS: usize = 4;

/// Bytes that are fetched at once.
const FETCH: u64 = 1 << 20;

/// Bytes of which one is waited for.
const STEP: u64 = 64 << 10;

/// A file, from where on to fetch it, and whom to tell.
type Wanted = (File, u64, Done);

/// Brings what the file has from the offset on into memory, and calls `done` then.
pub fn fetch(file: File, offset: u64, done: Done) {
    static QUEUE: OnceLock<Sender<Wanted>> = OnceLock::new();
    let queue = QUEUE.get_or_init(|| {
        let (sender, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        for number in 0..THREADS {
            let receiver = receiver.clone();
            let run = move || run(&receiver);
            if let Err(error) = thread::Builder::new().name(format!("disk {number}")).spawn(run) {
                tracing::warn!("no thread that waits for disks: {error}");
            }
        }
        sender
    });
    if let Err(unsent) = queue.send((file, offset, done)) {
        // There is no thread: whoever reads has to wait.
        (unsent.0.2)();
    }
}

fn run(queue: &Mutex<Receiver<Wanted>>) {
    loop {
        let wanted = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((file, offset, done)) = wanted else { return };
        bring(&file, offset);
        done();
    }
}

/// Asks for all of it at once, and then waits for it. What cannot be read, whoever reads is told.
fn bring(file: &File, offset: u64) {
    let _ = rustix::fs::fadvise(file, offset, std::num::NonZeroU64::new(FETCH), Advice::WillNeed);
    for at in (offset..offset + FETCH).step_by(STEP as usize) {
        if !matches!(rustix::io::pread(file, &mut [0], at), Ok(1)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::mpsc;

    use super::super::disk::Bytes;
    use super::*;

    /// A file of that size that is not in memory, where its file system has any other place for it.
    fn cold(dir: &tempfile::TempDir, size: usize) -> (File, Vec<u8>) {
        let bytes: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let path = dir.path().join(size.to_string());
        std::fs::write(&path, &bytes).unwrap();
        let file = File::open(&path).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        (file, bytes)
    }

    #[test]
    fn what_is_not_in_memory_is_fetched_and_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        // Also such that end with a page, where memory might end as well.
        for size in [0, 1, 4095, 4096, 4097, 1 << 20, (1 << 20) + 8192, 3_000_001] {
            let (file, bytes) = cold(&dir, size);
            let (mut read, mut room) = (Vec::new(), vec![0; 128 << 10]);
            loop {
                let (head, rest) = room.split_at_mut(64);
                match file.read_now([head, rest], read.len() as u64) {
                    Ok(got) => {
                        read.extend_from_slice(&room[..got]);
                        if got < room.len() {
                            break;
                        }
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        let (done, is_done) = mpsc::channel();
                        Bytes::fetch(&file, read.len() as u64, Box::new(move || done.send(()).unwrap()));
                        is_done.recv().unwrap();
                    }
                }
            }
            assert!(read == bytes, "{size} bytes: {} were read", read.len());
        }
    }
}
