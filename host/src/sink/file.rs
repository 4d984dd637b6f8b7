//! Files, one a target, appended to; and rotated, compressed and synced, if the configuration says so.
//!
//! A file is put aside (see `rotation`) only between two payloads. Whether its path still leads to it is looked at once
//! a second: where somebody else has renamed or deleted it, another is begun.

use std::collections::HashMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use super::rotation::{self, Ended, Keeper};
use super::writer::{Output, Writer};
use super::{Payload, Sender};
use crate::config::sinks::{File as Config, Sync};
use crate::config::{LogstoreName, UtcHour};
use crate::metrics::SinkAccounts;

/// Whether a path still leads to its file is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// With `sync: interval`, what was written is synced so much later.
const SYNC_AFTER: Duration = Duration::from_secs(1);

/// A rotation that failed is tried again so much later.
const ROTATE_AGAIN: Duration = Duration::from_secs(30);

/// Appends payloads to files, each whole.
pub struct Files {
    writer: Writer,
    keeper: Option<Mutex<Ended>>,
}

impl Files {
    /// Starts the thread that writes to the file of each logstore; `name` is the sink's.
    pub fn new(name: &str, config: &Config, accounts: Arc<SinkAccounts>) -> Self {
        let started = config.rotate.map(|rotate| Keeper::start(name, rotate.keep, config.compression));
        let (keeper, ended) = started.unzip();
        let output = ToFiles {
            sink: name.to_owned(),
            config: config.clone(),
            hour: UtcHour::now(),
            paths: HashMap::new(),
            open: HashMap::new(),
            written: None,
            failed: None,
            keeper,
        };
        Files { writer: Writer::start(name, output, accounts), keeper: ended.map(Mutex::new) }
    }
}

impl Sender for Files {
    fn send(&self, payload: Payload) {
        self.writer.send(payload);
    }

    fn trouble(&self) -> Option<String> {
        self.writer.trouble()
    }

    fn close(&self, within: Duration) {
        let deadline = Instant::now() + within;
        self.writer.close(within);
        if let Some(ended) = &self.keeper {
            rotation::wait(ended, deadline);
        }
    }
}

struct ToFiles {
    sink: String,
    config: Config,
    /// The hour that paths were made for.
    hour: UtcHour,
    paths: HashMap<LogstoreName, PathBuf>,
    open: HashMap<PathBuf, Open>,
    /// When the first byte was written that is not synced, if anything is ever synced.
    written: Option<Instant>,
    /// Why the last sync, or that of a file that was closed, failed.
    failed: Option<io::Error>,
    keeper: Option<Keeper>,
}

/// A file that is written to.
struct Open {
    file: File,
    /// Bytes that it has.
    len: u64,
    /// Whether it is one: nothing else can be rotated, or be missing.
    is_regular: bool,
    /// Whether it is new, so that its name has to be synced too.
    is_new: bool,
    /// Whether something in it is not synced.
    is_dirty: bool,
    /// When it was made.
    made: SystemTime,
    /// When its path was last looked at.
    looked: Instant,
    /// It is not rotated before.
    rotates_from: Option<Instant>,
}

impl Output for ToFiles {
    fn begin(&mut self, target: &LogstoreName, bytes: usize) -> io::Result<()> {
        let now = Instant::now();
        if self.due().is_some_and(|due| due <= now) {
            self.tick();
        }
        if self.config.path.is_dated() {
            self.follow_the_hour();
        }
        if !self.paths.contains_key(target) {
            let path = self.config.path.render(target, self.hour);
            if let Some(keeper) = &self.keeper {
                // What was left behind by a crash.
                keeper.tidy(real(&path));
            }
            self.paths.insert(target.clone(), path);
        }
        let path = self.paths[target].clone();
        if self.open.get_mut(&path).is_some_and(|open| open.is_gone(&path, now)) {
            self.close(&path);
        }
        self.ensure_open(&path)?;
        if self.is_full(&path, bytes as u64, now) {
            self.rotate(&path, now);
            self.ensure_open(&path)?;
        }
        Ok(())
    }

    fn write(&mut self, target: &LogstoreName, bytes: &[u8]) -> io::Result<usize> {
        let path = &self.paths[target];
        if !self.open.contains_key(path) {
            let path = path.clone();
            self.ensure_open(&path)?;
        }
        let path = &self.paths[target];
        let open = self.open.get_mut(path).expect("just opened");
        let count = open.file.write(bytes).map_err(|e| at(path, e))?;
        open.len += count as u64;
        if self.config.sync != Sync::None {
            open.is_dirty = true;
            self.written.get_or_insert_with(Instant::now);
        }
        Ok(count)
    }

    /// The file is opened again, for it may have been deleted, or its file system mounted anew. A line that was written
    /// in part is cut off.
    fn recover(&mut self, target: &LogstoreName, bytes: &[u8], written: usize) -> usize {
        if let Some(path) = self.paths.get(target).cloned() {
            if let Some(open) = self.open.get(&path).filter(|open| open.is_regular) {
                // If it cannot be cut now, it is when it is opened.
                let _ = cut_torn(&open.file, &path);
            }
            self.close(&path);
        }
        memchr::memrchr(b'\n', &bytes[..written]).map_or(0, |newline| newline + 1)
    }

    /// A project's directory may be on a disk of its own, which is full.
    fn targets_are_apart(&self) -> bool {
        true
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn delivers_by_sync(&self) -> bool {
        self.config.sync == Sync::Payload
    }

    fn sync(&mut self) -> io::Result<()> {
        self.written = None;
        let dirty: Vec<_> = self.open.iter().filter(|(_, open)| open.is_dirty).map(|(path, _)| path.clone()).collect();
        for path in dirty {
            let open = self.open.get_mut(&path).expect("it was there");
            if let Err(error) = open.sync(&path) {
                self.failed = Some(error);
                // What the kernel could not write it may have forgotten: another sync of it says nothing.
                self.open.remove(&path);
            }
        }
        self.failed.take().map_or(Ok(()), Err)
    }

    fn due(&self) -> Option<Instant> {
        self.written.filter(|_| self.config.sync == Sync::Interval).map(|written| written + SYNC_AFTER)
    }

    fn tick(&mut self) {
        if let Err(error) = self.sync() {
            tracing::error!(sink = self.sink, "cannot sync what was written: {error}");
        }
    }

    fn end(&mut self) {
        if self.config.sync != Sync::None {
            self.tick();
        }
    }
}

impl ToFiles {
    /// Finishes the files whose dates are over.
    fn follow_the_hour(&mut self) {
        let hour = UtcHour::now();
        if hour == self.hour {
            return;
        }
        self.hour = hour;
        for (target, path) in &mut self.paths {
            *path = self.config.path.render(target, hour);
        }
        let is_over = |path: &&PathBuf| !self.paths.values().any(|current| current == *path);
        let over: Vec<_> = self.open.keys().filter(is_over).cloned().collect();
        for path in over {
            if self.keeper.is_some() && self.open[&path].len > 0 {
                self.rotate(&path, Instant::now());
            }
            self.close(&path);
        }
    }

    fn ensure_open(&mut self, path: &Path) -> io::Result<()> {
        if !self.open.contains_key(path) {
            let open = Open::new(path).map_err(|e| at(path, e))?;
            self.open.insert(path.to_owned(), open);
        }
        Ok(())
    }

    /// Whether the file is to be rotated before so many bytes are written.
    fn is_full(&self, path: &Path, bytes: u64, now: Instant) -> bool {
        let (Some(rotate), Some(open)) = (self.config.rotate, self.open.get(path)) else { return false };
        let is_old = |age| open.made.elapsed().is_ok_and(|elapsed| elapsed >= age);
        let is_due = open.len.saturating_add(bytes) > rotate.size || rotate.age.is_some_and(is_old);
        is_due && open.is_regular && open.len > 0 && open.rotates_from.is_none_or(|from| from <= now)
    }

    /// Puts a file aside. If that fails, it is written to as before.
    fn rotate(&mut self, path: &Path, now: Instant) {
        let Some(open) = self.open.get_mut(path) else { return };
        let path_of_file = real(path);
        match rotation::put_aside(&path_of_file) {
            Ok(()) => {
                self.close(path);
                if let Some(keeper) = &self.keeper {
                    keeper.tidy(path_of_file);
                }
            }
            Err(error) => {
                open.rotates_from = Some(now + ROTATE_AGAIN);
                let error = at(path, error);
                tracing::error!(sink = self.sink, "cannot rotate, writing on to the same file: {error}");
            }
        }
    }

    /// Forgets a file. What was written to it is synced, if anything is.
    fn close(&mut self, path: &Path) {
        let Some(mut open) = self.open.remove(path) else { return };
        if open.is_dirty
            && let Err(error) = open.sync(path)
        {
            self.failed = Some(error);
        }
    }
}

impl Open {
    /// Opens a file to append to. A line that was torn by a crash is cut off: its events are unsettled and come again.
    fn new(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let mut meta = file.metadata()?;
        if meta.is_file() && cut_torn(&file, path)? {
            meta = file.metadata()?;
        }
        Ok(Open {
            file,
            len: meta.len(),
            is_regular: meta.is_file(),
            is_new: meta.len() == 0,
            is_dirty: false,
            made: meta.created().or(meta.modified()).unwrap_or_else(|_| SystemTime::now()),
            looked: Instant::now(),
            rotates_from: None,
        })
    }

    /// Whether the path does not lead to it any more; looks, if that is due.
    fn is_gone(&mut self, path: &Path, now: Instant) -> bool {
        if !self.is_regular || now - self.looked < LOOK_EVERY {
            return false;
        }
        self.looked = now;
        let id = |meta: &Metadata| (meta.dev(), meta.ino());
        let Ok(own) = self.file.metadata() else { return false };
        // It may have been truncated.
        self.len = own.len();
        match fs::metadata(path) {
            Ok(meta) => id(&meta) != id(&own),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    fn sync(&mut self, path: &Path) -> io::Result<()> {
        if self.is_new {
            self.file.sync_all().map_err(|e| at(path, e))?;
            // Most file systems have written the name with the file; and a directory that only files may be made in
            // cannot be opened.
            let _ = path.parent().map(|dir| File::open(dir)?.sync_all());
        } else {
            self.file.sync_data().map_err(|e| at(path, e))?;
        }
        (self.is_new, self.is_dirty) = (false, false);
        Ok(())
    }
}

/// What a path leads to, if it is a link.
fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Cuts off the last line, if it is one of ours and has no end.
fn cut_torn(file: &File, path: &Path) -> io::Result<bool> {
    let len = file.metadata()?.len();
    let Some(torn) = torn_line(file, len)? else { return Ok(false) };
    tracing::warn!(file = ?path, bytes = len - torn, "cutting off a line that was not written to its end");
    file.set_len(torn)?;
    Ok(true)
}

/// Where the last line begins, if it is one of ours and has no end.
fn torn_line(file: &File, len: u64) -> io::Result<Option<u64>> {
    const BLOCK: u64 = 64 << 10;
    let mut block = [0; BLOCK as usize];
    let mut end = len;
    // Backwards, until the line's beginning.
    let start = loop {
        let from = end.saturating_sub(BLOCK);
        let block = &mut block[..(end - from) as usize];
        file.read_exact_at(block, from)?;
        match memchr::memrchr(b'\n', block) {
            Some(newline) => break from + newline as u64 + 1,
            None if from == 0 => break 0,
            None => end = from,
        }
    };
    if start == len {
        return Ok(None);
    }
    let mut first = [0];
    file.read_exact_at(&mut first, start)?;
    Ok((first == *b"{").then_some(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PathTemplate;
    use crate::config::sinks::Rotate;

    /// Files under a directory that are rotated when they would be larger than 10 bytes; and all there are.
    fn rotating(dir: &Path, path: &str) -> (ToFiles, impl Fn() -> Vec<(String, String)>) {
        let rotate = Some(Rotate { size: 10, age: None, keep: 9 });
        let config = Config { rotate, ..Config::plain(PathTemplate::parse(path, dir).unwrap()) };
        let (keeper, _) = Keeper::start("test", 9, config.compression);
        let (sink, hour) = ("test".to_owned(), UtcHour::of(0));
        let (paths, open) = (HashMap::new(), HashMap::new());
        let files = ToFiles { sink, config, hour, paths, open, written: None, failed: None, keeper: Some(keeper) };
        let dir = dir.to_owned();
        let all = move || {
            let entries = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap());
            let mut all: Vec<_> = entries
                .map(|entry| {
                    let name = entry.file_name().into_string().unwrap();
                    // Without the time of its rotation.
                    let name =
                        name.split("log-").next().unwrap().to_owned() + if name.contains("log-") { "+" } else { "" };
                    (name, fs::read_to_string(entry.path()).unwrap())
                })
                .collect();
            all.sort();
            all
        };
        (files, all)
    }

    #[track_caller]
    fn put(files: &mut ToFiles, target: &LogstoreName, text: &str) {
        files.begin(target, text.len()).unwrap();
        assert_eq!(files.write(target, text.as_bytes()).unwrap(), text.len());
    }

    fn all(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect()
    }

    #[test]
    fn a_file_is_put_aside_between_payloads_and_before_it_is_too_large() {
        let dir = tempfile::tempdir().unwrap();
        let (mut files, found) = rotating(dir.path(), "a.log");
        let target = "p/l".parse().unwrap();
        for text in ["{1234}\n", "{}\n", "{1}\n", "{a payload that is long}\n", "{2}\n"] {
            put(&mut files, &target, text);
        }
        let expected =
            [("a.+", "{1234}\n{}\n"), ("a.+", "{1}\n"), ("a.+", "{a payload that is long}\n"), ("a.log", "{2}\n")];
        assert_eq!(found(), all(&expected));
        // A line that was written in part is written again, whole, and its beginning cut off.
        let text = b"{3}\n{45}\n";
        files.begin(&target, 1).unwrap();
        assert_eq!(files.write(&target, &text[..6]).unwrap(), 6);
        let from = files.recover(&target, text, 6);
        assert_eq!(from, 4);
        files.write(&target, &text[from..]).unwrap();
        assert_eq!(found().last().unwrap().1, "{2}\n{3}\n{45}\n");
    }

    #[test]
    fn a_file_whose_hour_is_over_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let (mut files, found) = rotating(dir.path(), "{date}.log");
        let target = "p/l".parse().unwrap();
        files.paths.insert("p/l".parse().unwrap(), dir.path().join("1970-01-01.log"));
        files.write(&target, b"{}\n").unwrap();
        put(&mut files, &target, "{1}\n");
        let today = files.paths[&target].file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(found(), all(&[("1970-01-01.+", "{}\n"), (&today, "{1}\n")]));
        assert_eq!(files.open.len(), 1);
    }

    #[test]
    fn a_file_that_is_not_at_its_path_any_more_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (mut files, found) = rotating(dir.path(), "a.log");
        let target = "p/l".parse().unwrap();
        put(&mut files, &target, "{1}\n");
        fs::rename(dir.path().join("a.log"), dir.path().join("b")).unwrap();
        // It is looked at once a second.
        put(&mut files, &target, "{2}\n");
        let open = files.open.values_mut().next().unwrap();
        open.looked -= LOOK_EVERY;
        put(&mut files, &target, "{3}\n");
        assert_eq!(found(), all(&[("a.log", "{3}\n"), ("b", "{1}\n{2}\n")]));
    }

    #[test]
    fn only_our_own_torn_line_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let long = format!("{{}}\n{{\"a\":\"{}", "x".repeat(200_000));
        for (before, after) in [
            ("{\"a\":1}\n{\"a\":", "{\"a\":1}\n"),
            ("{\"a\"", ""),
            ("{\"a\":1}\n", "{\"a\":1}\n"),
            ("notes without an end", "notes without an end"),
            ("", ""),
            (&long, "{}\n"),
        ] {
            let path = dir.path().join("out");
            std::fs::write(&path, before).unwrap();
            drop(Open::new(&path).unwrap());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after, "{before:.40}");
        }
    }
}
