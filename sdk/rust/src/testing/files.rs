//! A directory that stands in for the one that an agent grants.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

thread_local! {
    static GRANTED: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Calls `body` while the plugins of this thread are granted the files below `dir`.
pub fn with_files<R>(dir: impl AsRef<Path>, body: impl FnOnce() -> R) -> R {
    struct Before(Option<PathBuf>);
    impl std::ops::Drop for Before {
        fn drop(&mut self) {
            GRANTED.set(self.0.take());
        }
    }
    let _before = Before(GRANTED.replace(Some(dir.as_ref().to_owned())));
    body()
}

/// [`crate::files::read`], outside of a sandbox.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn read_granted(path: &str) -> Result<Vec<u8>, String> {
    let Some(dir) = GRANTED.with_borrow(Clone::clone) else { return Err("no files are granted".to_owned()) };
    if !Path::new(path).components().all(|part| matches!(part, std::path::Component::Normal(_))) {
        return Err(format!("`{path}` is not below the granted directory"));
    }
    std::fs::read(dir.join(path)).map_err(|e| format!("`{path}`: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_below_the_granted_directory_is_read_and_no_other() {
        assert_eq!(read_granted("Cargo.toml").unwrap_err(), "no files are granted");
        with_files(env!("CARGO_MANIFEST_DIR"), || {
            assert_eq!(read_granted("src/lib.rs"), Ok(include_bytes!("../lib.rs").to_vec()));
            assert_eq!(
                read_granted("../rust/Cargo.toml").unwrap_err(),
                "`../rust/Cargo.toml` is not below the granted directory"
            );
            assert!(read_granted("none").unwrap_err().starts_with("`none`: "));
        });
        assert_eq!(read_granted("Cargo.toml").unwrap_err(), "no files are granted");
    }
}
