//! Files that are put aside: `NAME` becomes `NAME-20060102T150405.000000Z`, by the time of the rotation, and then
//! perhaps `….gz`. What becomes of them is found out by looking at the directory, so that a crash changes nothing: the
//! compressed file takes its name when it is whole and synced, and then the other one is removed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Instant;

use super::compress::Compression;

/// What the name of a compressed file ends in while it is written.
const PART: &str = ".part";

/// Says by its end that a keeper has done all.
pub type Ended = mpsc::Receiver<()>;

/// Waits until a keeper has done all, or it is time to go.
pub fn wait(ended: &Mutex<Ended>, deadline: Instant) {
    let ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
    // What is not done is done at the next start.
    let _ = ended.recv_timeout(deadline.saturating_duration_since(Instant::now()));
}

/// A thread that compresses files that were put aside, and removes those that are too many. It ends when this is
/// dropped and all is done.
pub struct Keeper(mpsc::Sender<PathBuf>);

impl Keeper {
    /// Starts it; `keep` files are kept of each path.
    pub fn start(sink: &str, keep: usize, compression: Compression) -> (Keeper, Ended) {
        let (paths, queue) = mpsc::channel::<PathBuf>();
        let (ends, ended) = mpsc::channel();
        let name = sink.to_owned();
        let work = move || {
            while let Ok(path) = queue.recv() {
                if let Err(error) = tidy(&path, keep, compression) {
                    tracing::error!(
                        sink = name,
                        "cannot keep order in the rotated files of {}: {error}",
                        path.display()
                    );
                }
            }
            drop(ends);
        };
        std::thread::Builder::new().name(format!("keep {sink}")).spawn(work).expect("the system has a thread to give");
        (Keeper(paths), ended)
    }

    /// Looks after the files that were put aside of that path.
    pub fn tidy(&self, path: PathBuf) {
        // It ends only after this.
        let _ = self.0.send(path);
    }
}

/// Gives a file the name of one that was put aside.
pub fn put_aside(path: &Path) -> io::Result<()> {
    loop {
        let stamp = jiff::Timestamp::now().strftime("-%Y%m%dT%H%M%S%.6fZ").to_string();
        let aside = with_suffix(path, &stamp);
        // Nothing is ever replaced.
        if !fs::exists(&aside)? {
            return fs::rename(path, aside);
        }
    }
}

/// What there is of a file that was put aside.
#[derive(Default)]
struct Kept {
    plain: Option<PathBuf>,
    compressed: Vec<PathBuf>,
}

fn tidy(path: &Path, keep: usize, compression: Compression) -> io::Result<()> {
    let mut kept = list(path)?;
    while kept.len() > keep {
        let Some((_, Kept { plain, compressed })) = kept.pop_first() else { break };
        plain.iter().chain(&compressed).try_for_each(remove)?;
    }
    for Kept { plain, compressed } in kept.into_values() {
        match plain {
            Some(plain) if !compressed.is_empty() => remove(&plain)?,
            Some(plain) => compress(&plain, compression)?,
            None => {}
        }
    }
    Ok(())
}

/// The files that were put aside of that path, by time. What was begun and not finished is removed.
fn list(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Kept>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(BTreeMap::new()) };
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        other => other?,
    };
    let mut kept: BTreeMap<Vec<u8>, Kept> = BTreeMap::new();
    for entry in entries {
        let entry = entry?;
        let file_name = entry.file_name();
        let Some((stamp, suffix)) = split(name, &file_name) else { continue };
        match suffix {
            b"" => kept.entry(stamp.to_owned()).or_default().plain = Some(entry.path()),
            b".gz" | b".zst" => kept.entry(stamp.to_owned()).or_default().compressed.push(entry.path()),
            b".gz.part" | b".zst.part" => remove(entry.path())?,
            _ => {}
        }
    }
    Ok(kept)
}

/// The time in the name of a file that was put aside, and what follows.
fn split<'n>(name: &OsStr, aside: &'n OsStr) -> Option<(&'n [u8], &'n [u8])> {
    const PATTERN: &[u8] = b"00000000T000000.000000Z";
    let rest = aside.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"-")?;
    let (stamp, suffix) = rest.split_at_checked(PATTERN.len())?;
    let fits = |(byte, pattern): (&u8, &u8)| if *pattern == b'0' { byte.is_ascii_digit() } else { byte == pattern };
    stamp.iter().zip(PATTERN).all(fits).then_some((stamp, suffix))
}

fn compress(plain: &Path, compression: Compression) -> io::Result<()> {
    let suffix = match compression {
        Compression::Gzip(_) => ".gz",
        Compression::Zstd(_) => ".zst",
        _ => return Ok(()),
    };
    let compressed = with_suffix(plain, suffix);
    let part = with_suffix(&compressed, PART);
    if let Err(error) = write_compressed(plain, &part, compression) {
        // The space may be what is missing.
        let _ = remove(&part);
        return Err(error);
    }
    fs::rename(&part, &compressed)?;
    if let Some(dir) = plain.parent() {
        File::open(dir)?.sync_all()?;
    }
    remove(plain)
}

fn write_compressed(from: &Path, to: &Path, compression: Compression) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut out = OpenOptions::new().create(true).truncate(true).write(true).open(to)?;
    out.set_permissions(source.metadata()?.permissions())?;
    match compression {
        Compression::Gzip(level) => {
            let mut encoder = flate2::write::GzEncoder::new(&mut out, flate2::Compression::new(level));
            io::copy(&mut source, &mut encoder)?;
            encoder.finish()?;
        }
        Compression::Zstd(level) => {
            let mut encoder = zstd::stream::write::Encoder::new(&mut out, level)?;
            io::copy(&mut source, &mut encoder)?;
            encoder.finish()?;
        }
        _ => _ = io::copy(&mut source, &mut out)?,
    }
    out.flush()?;
    out.sync_all()
}

/// Removes a file that may be gone already.
fn remove(path: impl AsRef<Path>) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn only_what_was_put_aside_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let stamp = |number: u32| format!("a.log-2006010{number}T150405.000000Z");
        let others = [
            "a.log",
            "a.log-20060101",
            "a.log-2006-01-01T150405.00000Z",
            "a.log.20060101T150405.000000Z",
            "b.log-20060101T150405.000000Z",
            "xa.log-20060101T150405.000000Z",
        ]
        .map(str::to_owned);
        let kept_otherwise = format!("{}.bak", stamp(1));
        for name in others.iter().chain([&stamp(1), &stamp(2), &stamp(3), &kept_otherwise]) {
            fs::write(dir.path().join(name), name).unwrap();
        }
        tidy(&path, 2, Compression::None).unwrap();
        let mut expected = [&others[..], &[kept_otherwise, stamp(2), stamp(3)]].concat();
        expected.sort();
        assert_eq!(names(dir.path()), expected);
    }

    #[test]
    fn wherever_a_crash_was_one_whole_file_is_left() {
        for (compression, suffix) in [(Compression::Gzip(6), ".gz"), (Compression::Zstd(3), ".zst")] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.log");
            let text = "a line\n".repeat(100_000);
            let at =
                |number: u32, suffix: &str| dir.path().join(format!("a.log-2006010{number}T150405.000000Z{suffix}"));
            // Before, in the middle, and before the end.
            fs::write(at(1, ""), &text).unwrap();
            fs::write(at(2, ""), &text).unwrap();
            fs::write(at(2, &format!("{suffix}.part")), "rubbish").unwrap();
            compress(&at(1, ""), compression).unwrap();
            fs::copy(at(1, suffix), at(3, suffix)).unwrap();
            fs::write(at(3, ""), &text).unwrap();
            tidy(&path, 9, compression).unwrap();
            let expected: Vec<_> = [1, 2, 3].map(|number| at(number, suffix)).into();
            let found: Vec<_> = names(dir.path()).iter().map(|name| dir.path().join(name)).collect();
            assert_eq!(found, expected);
            for file in found {
                let mut plain = String::new();
                let file = File::open(file).unwrap();
                match compression {
                    Compression::Gzip(_) => flate2::read::GzDecoder::new(file).read_to_string(&mut plain).unwrap(),
                    _ => zstd::stream::read::Decoder::new(file).unwrap().read_to_string(&mut plain).unwrap(),
                };
                assert!(plain == text);
            }
        }
    }

    #[test]
    fn a_file_that_is_put_aside_replaces_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        for number in 0..100 {
            fs::write(&path, number.to_string()).unwrap();
            put_aside(&path).unwrap();
        }
        let kept = list(&path).unwrap();
        let contents: Vec<_> =
            kept.values().map(|kept| fs::read_to_string(kept.plain.as_ref().unwrap()).unwrap()).collect();
        assert_eq!(contents, (0..100).map(|number| number.to_string()).collect::<Vec<_>>());
        assert_eq!(names(dir.path()).len(), 100);
    }
}
