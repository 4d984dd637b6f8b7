//! What a component was built of: the same again needs no build.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::registry::hex_digest;

/// What is no source wherever it is: what tools make.
const MADE: [&str; 2] = ["node_modules", "__pycache__"];

/// What is no source beside the manifest: what cargo makes, and tests. Deeper they are modules like any.
const BESIDE: [&str; 2] = ["target", "tests"];

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
        list(dir, 0, &mut HashSet::new(), &mut files)?;
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

/// The files of a directory that a plugin may be built of, also behind symbolic links; each directory once.
fn list(dir: &Path, depth: usize, seen: &mut HashSet<PathBuf>, files: &mut Vec<PathBuf>) -> Result<()> {
    let describe = || format!("reading {}", dir.display());
    if depth > DEPTH || !seen.insert(dir.canonicalize().with_context(describe)?) {
        return Ok(());
    }
    let entries = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>).with_context(describe)?;
    let mut paths: Vec<_> = entries.iter().map(fs::DirEntry::path).collect();
    // Of several ways to a directory the same one is taken each time.
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_made = MADE.contains(&&*name) || depth == 0 && BESIDE.contains(&&*name) || name.ends_with(".wasm");
        // A link to nothing is no source.
        let Some(meta) = fs::metadata(&path).ok().filter(|_| !name.starts_with('.') && !is_made) else { continue };
        if meta.is_dir() {
            list(&path, depth + 1, seen, files)?;
        } else if meta.is_file() {
            files.push(path);
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
        for source in ["lib/tests/x.py", "lib/target/x.py"] {
            write(source, "a module");
            assert_ne!(Stamp::of(dir, "tools 1").unwrap(), second, "{source}");
            fs::remove_file(dir.join(source)).unwrap();
        }
        assert_eq!(Stamp::of(dir, "tools 1").unwrap(), second);
        fs::rename(dir.join("lib/b.py"), dir.join("lib/c.py")).unwrap();
        assert_ne!(Stamp::of(dir, "tools 1").unwrap(), second);
    }

    #[test]
    fn sources_may_be_behind_links() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(other.path().join("deep")).unwrap();
        for file in ["a.py", "deep/b.py"] {
            fs::write(other.path().join(file), "1").unwrap();
        }
        let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, dir.path().join(name)).unwrap();
        link(&other.path().join("a.py"), "a.py");
        link(&other.path().join("deep"), "deep");
        link(dir.path(), "around");
        link(Path::new("nothing"), "nowhere");
        let mut last = Stamp::of(dir.path(), "").unwrap();
        assert_eq!(Stamp::of(dir.path(), "").unwrap(), last);
        for file in ["a.py", "deep/b.py"] {
            fs::write(other.path().join(file), "2").unwrap();
            let next = Stamp::of(dir.path(), "").unwrap();
            assert_ne!(next, last, "{file}");
            last = next;
        }
    }
}
