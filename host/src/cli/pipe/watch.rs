//! `weir pipe --watch`: from a saved file to what the plugin makes of the same lines.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use xxhash_rust::xxh3::Xxh3;

use super::{Args, Pipe, open, plugins};
use crate::cli::Usage;
use crate::cli::plugin::build::build_project;
use crate::cli::screen::{harmless, print};

/// Bytes of standard input that are kept, to be sent again.
const KEPT: u64 = 64 << 20;

/// Whoever saves a file may write several times: after the last, so long nothing happens.
const QUIET: Duration = Duration::from_millis(30);

/// How often files are looked at when nothing is heard of them.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is in a project's directory besides its sources: what was built, and what others made.
const NO_SOURCES: [&str; 7] =
    ["target", "node_modules", "__pycache__", "venv", "dist", "Cargo.lock", "package-lock.json"];

/// Files that are looked at, and bytes of each: sources are not larger.
const FILES: usize = 10_000;
const FILE_BYTES: u64 = 1 << 20;

/// Clears a terminal, with what was scrolled away.
const CLEAR: &str = "\x1b[2J\x1b[3J\x1b[H";

pub fn run(args: &Args, dir: &Path) -> Result<()> {
    ensure!(dir.is_dir(), "--watch {}: there is no such directory", dir.display());
    let kept = Kept::new(args)?;
    let mut plugins = plugins(args)?;
    let mut watch = Watch::new(args, dir);
    let mut begun = Instant::now();
    loop {
        let seen = watch.state();
        if io::stdout().is_terminal() {
            print(CLEAR)?;
        }
        let done = build_project(dir).and_then(|wasm| {
            let mut pipe = Pipe::new(args, &mut plugins, Some(&wasm))?;
            kept.send(&mut pipe)?;
            Ok(pipe)
        });
        match &done {
            Ok(pipe) => pipe.summarize(),
            Err(error) => complain!("error: {}", harmless(&format!("{error:#}"))),
        }
        let seconds = begun.elapsed().as_secs_f64();
        let what = if done.is_ok() { "the output" } else { "the error" };
        complain!("{seconds:.2} s from the change to {what}; waiting for changes of {}, Ctrl-C ends", dir.display());
        begun = watch.wait(seen);
    }
}

/// The lines that are sent each time.
enum Kept<'a> {
    File(&'a Path),
    Bytes(Vec<u8>),
}

impl Kept<'_> {
    fn new(args: &Args) -> Result<Kept<'_>> {
        if let Some(path) = &args.input {
            open(path)?;
            return Ok(Kept::File(path));
        }
        let input = io::stdin().lock();
        if input.is_terminal() {
            return Err(Usage("--watch needs lines: give --input FILE, or pipe them in".to_owned()).into());
        }
        let mut bytes = Vec::new();
        input.take(KEPT + 1).read_to_end(&mut bytes).context("reading standard input")?;
        if bytes.len() as u64 > KEPT {
            bytes.truncate(KEPT as usize);
            complain!(
                "warning: of standard input, the first {} MiB are used; --input FILE has no such limit",
                KEPT >> 20
            );
        }
        Ok(Kept::Bytes(bytes))
    }

    fn send(&self, pipe: &mut Pipe) -> Result<()> {
        match self {
            Kept::File(path) => pipe.copy(&mut open(path)?),
            Kept::Bytes(bytes) => pipe.copy(&mut bytes.as_slice()),
        }
    }
}

/// A project's sources, and other files that change what comes out.
struct Watch {
    dir: PathBuf,
    /// Settings.
    read: Vec<PathBuf>,
    /// The input, which may be too large to be read again and again.
    input: Option<PathBuf>,
    /// None if the system can't: then files are looked at.
    watcher: Option<RecommendedWatcher>,
    news: Receiver<()>,
}

impl Watch {
    fn new(args: &Args, dir: &Path) -> Self {
        let (tell, news) = mpsc::channel();
        let heard = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_))) {
                let _ = tell.send(());
            }
        };
        let watcher = notify::recommended_watcher(heard).ok();
        let read = args.settings.iter().filter_map(|text| text.strip_prefix('@')).map(PathBuf::from).collect();
        Watch { dir: dir.to_owned(), read, input: args.input.clone(), watcher, news }
    }

    /// Changes when something does. What appears from now on is heard of.
    fn state(&mut self) -> u64 {
        let mut hash = Xxh3::new();
        let mut sources = Sources::default();
        sources.find(&self.dir);
        let beside = self.read.iter().chain(&self.input).filter_map(|path| path.parent());
        let beside = beside.map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir });
        for dir in sources.dirs.iter().map(PathBuf::as_path).chain(beside) {
            if let Some(watcher) = &mut self.watcher {
                // Again is no error; where it can't be, looking has to do.
                let _ = watcher.watch(dir, RecursiveMode::NonRecursive);
            }
        }
        for path in sources.files.iter().chain(&self.read) {
            hash.update(path.as_os_str().as_encoded_bytes());
            let mut bytes = Vec::new();
            let _ = fs::File::open(path).and_then(|file| file.take(FILE_BYTES).read_to_end(&mut bytes));
            hash.update(&bytes.len().to_le_bytes());
            hash.update(&bytes);
        }
        if let Some(meta) = self.input.as_ref().and_then(|path| fs::metadata(path).ok()) {
            hash.update(format!("{:?} {}", meta.modified().ok(), meta.len()).as_bytes());
        }
        hash.digest()
    }

    /// Waits until the state is another. Gives when that was.
    fn wait(&mut self, seen: u64) -> Instant {
        let mut changed = Instant::now();
        while self.state() == seen {
            let heard = self.news.recv_timeout(LOOK_EVERY);
            changed = Instant::now();
            if heard.is_ok() {
                while self.news.recv_timeout(QUIET).is_ok() {}
            }
        }
        changed
    }
}

/// What a project is made of, in order.
#[derive(Default)]
struct Sources {
    dirs: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Sources {
    fn find(&mut self, dir: &Path) {
        self.dirs.push(dir.to_owned());
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut entries: Vec<_> = entries.filter(|entry| is_source(&entry.file_name())).collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            // Links are not followed: they may lead in a circle.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.find(&entry.path()),
                Ok(_) if self.files.len() < FILES => self.files.push(entry.path()),
                _ => {}
            }
        }
    }
}

fn is_source(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let is_other = name.starts_with('.') || name.ends_with(".wasm") || name.ends_with('~');
    !is_other && !NO_SOURCES.contains(&&*name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_what_is_written_by_hand() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let others = ["target/a.rs", "x.wasm", ".git/HEAD", "node_modules/a/b.js", ".venv/c.py", "src/lib.rs~"];
        others.iter().for_each(|name| write(name, "1"));
        ["src/lib.rs", "Cargo.toml"].iter().for_each(|name| write(name, "1"));
        let mut sources = Sources::default();
        sources.find(dir.path());
        assert_eq!(sources.files, ["Cargo.toml", "src/lib.rs"].map(|name| dir.path().join(name)));
        assert_eq!(sources.dirs, [dir.path().to_owned(), dir.path().join("src")]);

        let (_, news) = mpsc::channel();
        let mut watch = Watch { dir: dir.path().to_owned(), read: Vec::new(), input: None, watcher: None, news };
        let before = watch.state();
        others.iter().for_each(|name| write(name, "2"));
        write("src/lib.rs", "1");
        assert_eq!(watch.state(), before, "nothing has changed");
        write("src/lib.rs", "2");
        assert_ne!(watch.state(), before);
    }
}
