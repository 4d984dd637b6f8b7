//! What a component was built of: the same again needs no build.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::registry::hex_digest;

/// Names that begin no source: what tools make, tests, and version control.
const NOT_SOURCES: [&str; 4] = ["target", "node_modules", "tests", "__pycache__"];

/// How deep a project's directories are, and how many files it has, before it is taken for none.
const DEPTH: usize = 16;
const FILES: usize = 10_000;

/// The digest of all that a component is built of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp(String);

/// What is kept of a build.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// The [`Stamp`].
    inputs: String,
    /// The name of the component's file.
    file: String,
    /// SHA-256 of its bytes.
    digest: String,
}

impl Stamp {
    /// That of a project's sources, and of what builds them.
    pub fn of(dir: &Path, tools: &str) -> Result<Stamp> {
        let mut files = Vec::new();
        list(dir, DEPTH, &mut files)?;
        files.sort();
        let mut all = tools.to_owned();
        for file in &files {
            let name = file.strip_prefix(dir).unwrap_or(file);
            let digest = digest(file).with_context(|| format!("reading {}", file.display()))?;
            all += &format!("\0{}\0{digest}", name.display());
        }
        Ok(Stamp(hex_digest(all.as_bytes())))
    }

    /// The component in `out` that was built of just this, if it still is as it was.
    pub fn component(&self, own: &Path, out: &Path) -> Option<PathBuf> {
        let kept: Kept = serde_json::from_slice(&fs::read(own.join("stamp.json")).ok()?).ok()?;
        let path = out.join(Path::new(&kept.file).file_name()?);
        (kept.inputs == self.0 && digest(&path).ok()? == kept.digest).then_some(path)
    }

    /// Keeps what a component was built of.
    pub fn keep(&self, own: &Path, component: &Path) -> Result<()> {
        let file = component.file_name().context("a component has a name")?.to_string_lossy().into_owned();
        let kept = Kept { inputs: self.0.clone(), file, digest: hex_digest(&fs::read(component)?) };
        fs::write(own.join("stamp.json"), serde_json::to_vec(&kept)?)
            .with_context(|| format!("writing into {}", own.display()))
    }
}

/// The files of a directory that a plugin may be built of.
fn list(dir: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let kind = entry.file_type()?;
        if name.starts_with('.') || NOT_SOURCES.contains(&&*name) || name.ends_with(".wasm") {
            continue;
        }
        if kind.is_dir() && depth > 0 {
            list(&entry.path(), depth - 1, files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
        ensure!(files.len() <= FILES, "it has more than {FILES} files: is it a plugin's directory?");
    }
    Ok(())
}

fn digest(file: &Path) -> io::Result<String> {
    Ok(hex_digest(&fs::read(file)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_of_the_same_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let write = |name: &str, text: &str| {
            fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
            fs::write(dir.join(name), text).unwrap();
        };
        write("a.py", "1");
        write("lib/b.py", "2");
        let first = Stamp::of(dir, "tools 1").unwrap();
        write("tests/golden/x.log", "not built of");
        write("node_modules/x/index.js", "nor this");
        write("a.wasm", "built");
        assert_eq!(Stamp::of(dir, "tools 1").unwrap(), first);
        assert_ne!(Stamp::of(dir, "tools 2").unwrap(), first);

        write(".weir/.gitignore", "*");
        let own = dir.join(".weir");
        assert_eq!(first.component(&own, dir), None);
        first.keep(&own, &dir.join("a.wasm")).unwrap();
        assert_eq!(first.component(&own, dir), Some(dir.join("a.wasm")));
        assert_eq!(first.component(&own, &dir.join("lib")), None);
        write("a.wasm", "changed by somebody");
        assert_eq!(first.component(&own, dir), None);

        write("lib/b.py", "3");
        let second = Stamp::of(dir, "tools 1").unwrap();
        assert_ne!(second, first);
        fs::rename(dir.join("lib/b.py"), dir.join("lib/c.py")).unwrap();
        assert_ne!(Stamp::of(dir, "tools 1").unwrap(), second);
    }
}
