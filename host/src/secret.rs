//! Secrets, as they are now: those in files are read again when the file changes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::sinks::Secret;

/// Bytes of a secret at most.
const MAX: u64 = 64 << 10;

/// What tells that a file has changed: device, inode, size, and its time.
pub type Stamp = (u64, u64, u64, i64, i64);

/// A secret that is looked up whenever it is needed.
pub struct Live {
    secret: Secret,
    read: Mutex<Option<(Stamp, Arc<str>)>>,
}

impl Live {
    /// Of that source.
    pub fn new(secret: &Secret) -> Self {
        Live { secret: secret.clone(), read: Mutex::default() }
    }

    /// What it is now. The error names the file.
    pub fn get(&self) -> Result<Arc<str>, String> {
        let path = match &self.secret {
            Secret::Value(value) => return Ok(value.as_str().into()),
            Secret::File(path) => path,
        };
        let at = |what: String| format!("the secret in {}: {what}", path.display());
        let stamp = stamp(path).map_err(|error| at(error.to_string()))?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, secret)) = &*read
            && *known == stamp
        {
            return Ok(secret.clone());
        }
        if stamp.2 > MAX {
            return Err(at(format!("is larger than {} KiB", MAX >> 10)));
        }
        let text = fs::read_to_string(path).map_err(|error| at(error.to_string()))?;
        let secret: Arc<str> = text.trim_end_matches(['\n', '\r']).into();
        if secret.is_empty() {
            return Err(at("is empty".to_owned()));
        }
        if secret.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(at("has control characters in it".to_owned()));
        }
        *read = Some((stamp, secret.clone()));
        Ok(secret)
    }
}

/// The stamp of a file as it is now.
pub fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let meta = fs::metadata(path)?;
    Ok((meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_a_file_is_what_the_file_has_now() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let live = Live::new(&Secret::File(path.clone()));
        let error = live.get().unwrap_err();
        assert!(error.starts_with(&format!("the secret in {}: ", path.display())), "{error}");
        fs::write(&path, "one\n").unwrap();
        assert_eq!(&*live.get().unwrap(), "one");
        // As Kubernetes does it: another file under the same name.
        fs::write(dir.path().join("new"), "two").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(&*live.get().unwrap(), "two");
        fs::write(&path, "\n").unwrap();
        assert!(live.get().unwrap_err().ends_with("is empty"));
        fs::write(&path, "a\nb").unwrap();
        assert!(live.get().unwrap_err().ends_with("has control characters in it"));
    }
}
