//! Files, one a target, appended to.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::writer::{Output, Writer};
use super::{Payload, Sender};
use crate::config::{LogstoreName, PathTemplate};

/// Appends payloads to files, each whole.
pub struct Files(Writer);

impl Files {
    /// Starts the thread that writes to the file of each logstore; `name` is the sink's.
    pub fn new(name: &str, path: PathTemplate) -> Self {
        Files(Writer::start(name, ToFiles { path, open: HashMap::new() }))
    }
}

impl Sender for Files {
    fn send(&self, payload: Payload) {
        self.0.send(payload);
    }

    fn close(&self, within: Duration) {
        self.0.close(within);
    }
}

struct ToFiles {
    path: PathTemplate,
    open: HashMap<LogstoreName, (PathBuf, File)>,
}

impl Output for ToFiles {
    fn write(&mut self, target: &LogstoreName, bytes: &[u8]) -> io::Result<usize> {
        if !self.open.contains_key(target) {
            let path = self.path.render(target);
            let file = open(&path).map_err(|e| at(&path, e))?;
            self.open.insert(target.clone(), (path, file));
        }
        let (path, file) = &mut self.open.get_mut(target).expect("just opened");
        file.write(bytes).map_err(|e| at(path, e))
    }

    /// The file is opened again, for it may have been deleted, or its file system mounted anew; and opening cuts off a
    /// line that was written in part.
    fn recover(&mut self, target: &LogstoreName, bytes: &[u8], written: usize) -> usize {
        self.open.remove(target);
        memchr::memrchr(b'\n', &bytes[..written]).map_or(0, |newline| newline + 1)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Opens a file to append to. A line that was torn by a crash is cut off: its events are unsettled and come again.
fn open(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
    let meta = file.metadata()?;
    if meta.is_file()
        && let Some(torn) = torn_line(&file, meta.len())?
    {
        tracing::warn!(file = ?path, bytes = meta.len() - torn, "cutting off a line that was not written to its end");
        file.set_len(torn)?;
    }
    Ok(file)
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
            drop(open(&path).unwrap());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after, "{before:.40}");
        }
    }
}
