//! Where the name of a plugin leads.

use std::path::{Path, PathBuf};

use super::hex_digest;
use crate::config::PluginRef;
use anyhow::{Result, bail};

/// The file of a plugin: a name is looked for as `NAME.wasm` in the directories, in their order; a digest among
/// all their files.
pub fn find(reference: &PluginRef, dirs: &[PathBuf]) -> Result<PathBuf> {
    let places = || dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ");
    match reference {
        PluginRef::Path(path) if path.is_file() => Ok(path.clone()),
        PluginRef::Path(path) => bail!("there is no file {}", path.display()),
        PluginRef::Name(name) => {
            let mut paths = dirs.iter().map(|dir| dir.join(format!("{name}.wasm")));
            match paths.find(|path| path.is_file()) {
                Some(path) => Ok(path),
                None => bail!("there is no {name}.wasm in {}", places()),
            }
        }
        PluginRef::Digest(digest) => {
            let wanted = digest.trim_start_matches("sha256:");
            match dirs.iter().flat_map(|dir| plugins_in(dir)).find(|path| has_digest(path, wanted)) {
                Some(path) => Ok(path),
                None => bail!("there is no plugin with the digest {digest} in {}", places()),
            }
        }
    }
}

/// The `.wasm` files of a directory, by name.
fn plugins_in(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "wasm")).collect();
    paths.sort();
    paths
}

fn has_digest(path: &Path, wanted: &str) -> bool {
    std::fs::read(path).is_ok_and(|bytes| hex_digest(&bytes) == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_paths_and_digests_lead_to_files() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dirs = [first.path().to_owned(), second.path().to_owned()];
        let at = |dir: &tempfile::TempDir, name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, name).unwrap();
            path
        };
        let (shadowed, only) = (at(&second, "a.wasm"), at(&second, "b.wasm"));
        let shadow = at(&first, "a.wasm");
        assert_eq!(find(&PluginRef::Name("a".into()), &dirs).unwrap(), shadow);
        assert_eq!(find(&PluginRef::Name("b".into()), &dirs).unwrap(), only);
        assert_eq!(find(&PluginRef::Path(shadowed.clone()), &dirs).unwrap(), shadowed);
        let digest = format!("sha256:{}", hex_digest(b"b.wasm"));
        assert_eq!(find(&PluginRef::Digest(digest), &dirs).unwrap(), only);
        let error = find(&PluginRef::Name("c".into()), &dirs[..1]).unwrap_err().to_string();
        assert_eq!(error, format!("there is no c.wasm in {}", first.path().display()));
    }
}
