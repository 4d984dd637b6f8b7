//! Lists the files of the SDKs, which weir carries.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Each SDK: the name of its list, its directory, and what of it is carried.
const SDKS: [(&str, &str, &[&str]); 5] = [
    ("RUST", "../sdk/rust", &["Cargo.toml", "src"]),
    ("RUST_MACROS", "../sdk/rust-macros", &["Cargo.toml", "src"]),
    ("RUST_REGEX", "../sdk/rust-regex", &["Cargo.toml", "src"]),
    ("PYTHON", "../sdk/python/weir_plugin", &["."]),
    ("JS", "../sdk/js", &["package.json", "src"]),
];

/// What tools leave behind.
const NOT_SOURCES: [&str; 3] = ["__pycache__", "node_modules", ".mypy_cache"];

fn main() -> io::Result<()> {
    let host = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let mut out = String::new();
    for (name, dir, carried) in SDKS {
        let dir = host.join(dir).canonicalize()?;
        let mut files = Vec::new();
        for path in carried {
            list(&dir.join(path), &mut files)?;
            println!("cargo::rerun-if-changed={}", dir.join(path).display());
        }
        files.sort();
        let _ = writeln!(out, "/// Files of an SDK.\npub const {name}: Files = &[");
        for file in files {
            let path = file.canonicalize()?;
            let path = path.strip_prefix(&dir).expect("it is in the directory");
            let _ = writeln!(out, "    ({:?}, include_str!({file:?})),", path.display().to_string());
        }
        out.push_str("];\n");
    }
    println!("cargo::rerun-if-changed=build.rs");
    fs::write(Path::new(&env::var_os("OUT_DIR").expect("cargo sets it")).join("sdk_files.rs"), out)
}

fn list(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if NOT_SOURCES.contains(&&*name) || name.starts_with('.') {
        return Ok(());
    }
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        list(&entry?.path(), files)?;
    }
    Ok(())
}
