//! The SDKs that weir carries, so that a plugin can be built where there is nothing but weir and a toolchain.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use toml::{Table, Value};

use crate::registry::hex_digest;

/// Files of an SDK, by their paths in it.
pub type Files = &'static [(&'static str, &'static str)];

// RUST, RUST_MACROS, RUST_REGEX, PYTHON, JS: listed by the build script, which sees all files that there are.
include!(concat!(env!("OUT_DIR"), "/sdk_files.rs"));

/// The contract that plugins are built for.
pub const CONTRACT: &str = include_str!("../../../../../wit/v0.1/plugin.wit");

/// What a plugin is that is not written in Rust.
pub const WORLDS: &str = include_str!("guest.wit");

/// The manifest from which the Rust SDK's inherit.
const WORKSPACE: &str = include_str!("../../../../../Cargo.toml");

/// What tells the SDKs of one weir, and the contract that they are for, from those of another.
pub fn version() -> String {
    let mut all = String::new();
    for (path, text) in PYTHON.iter().chain(JS).chain(&[("plugin.wit", CONTRACT), ("guest.wit", WORLDS)]) {
        all += path;
        all += text;
    }
    hex_digest(all.as_bytes())
}

/// Writes an SDK's files into a directory.
pub fn write(files: Files, dir: &Path) -> Result<()> {
    for (path, text) in files {
        write_file(&dir.join(path), text)?;
    }
    Ok(())
}

/// Writes the crates `weir-plugin`, whose macros and contract are in it, and `weir-plugin-regex` into a directory.
pub fn write_rust(vendor: &Path) -> Result<()> {
    let dir = vendor.join("weir-plugin");
    for (files, dir) in
        [(RUST, dir.clone()), (RUST_MACROS, dir.join("macros")), (RUST_REGEX, vendor.join("weir-plugin-regex"))]
    {
        for (path, text) in files {
            let text = if *path == "Cargo.toml" { manifest(text)? } else { (*text).to_owned() };
            write_file(&dir.join(path), &text)?;
        }
    }
    write_file(&dir.join("wit/plugin.wit"), CONTRACT)
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        fs::write(path, text)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// A manifest that inherits nothing, and finds the other crates where they are written.
fn manifest(text: &str) -> Result<String> {
    let workspace: Table = toml::from_str(WORKSPACE)?;
    let workspace = workspace["workspace"].as_table().context("the workspace is a table")?;
    let mut manifest: Table = toml::from_str(text)?;
    manifest.remove("lints");
    inherit_all(&mut manifest, "package", workspace);
    inherit_all(&mut manifest, "dependencies", workspace);
    let targets = manifest.get_mut("target").and_then(Value::as_table_mut).into_iter().flatten();
    for (_, target) in targets {
        target.as_table_mut().into_iter().for_each(|target| inherit_all(target, "dependencies", workspace));
    }
    for (name, place) in [("weir-plugin-macros", "macros"), ("weir-plugin", "../weir-plugin")] {
        let path = manifest.get_mut("dependencies").and_then(|all| all.get_mut(name)?.get_mut("path"));
        if let Some(path) = path {
            *path = Value::from(place);
        }
    }
    Ok(toml::to_string(&manifest)?)
}

/// What the entries of a table stand for that the workspace's table of the same name has.
fn inherit_all(manifest: &mut Table, table: &str, workspace: &Table) {
    for (name, value) in manifest.get_mut(table).and_then(Value::as_table_mut).into_iter().flatten() {
        inherit(value, workspace.get(table).and_then(|of| of.get(name)));
    }
}

/// What `workspace = true` stands for, with what is said beside it.
fn inherit(value: &mut Value, of_workspace: Option<&Value>) {
    let Some(entry) = value.as_table_mut().filter(|entry| entry.contains_key("workspace")) else { return };
    entry.remove("workspace");
    let Some(inherited) = of_workspace else { return };
    if entry.is_empty() {
        *value = inherited.clone();
        return;
    }
    let mut whole = match inherited {
        Value::Table(table) => table.clone(),
        version => Table::from_iter([("version".to_owned(), version.clone())]),
    };
    for (key, more) in std::mem::take(entry) {
        match (whole.get_mut(&key), more) {
            (Some(Value::Array(known)), Value::Array(more)) => known.extend(more),
            (_, more) => drop(whole.insert(key, more)),
        }
    }
    *value = Value::Table(whole);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rust_sdk_stands_alone() {
        let text = RUST.iter().find(|(path, _)| *path == "Cargo.toml").unwrap().1;
        let manifest: Table = toml::from_str(&manifest(text).unwrap()).unwrap();
        assert!(!manifest.contains_key("lints"));
        assert_eq!(manifest["package"]["edition"].as_str(), Some("2024"));
        let dependencies = manifest["dependencies"].as_table().unwrap();
        assert_eq!(dependencies["weir-plugin-macros"]["path"].as_str(), Some("macros"));
        assert_eq!(dependencies["serde"]["features"][0].as_str(), Some("derive"));
        assert!(dependencies["serde_json"]["version"].is_str());
        let inherits = |value: &Value| value.as_table().is_some_and(|table| table.contains_key("workspace"));
        assert!(!dependencies.values().any(inherits), "{dependencies}");
        let of_wasm = manifest["target"]["cfg(target_family = \"wasm\")"]["dependencies"].as_table().unwrap();
        assert!(of_wasm["talc"]["version"].is_str() && !of_wasm.values().any(inherits), "{of_wasm}");
        assert_eq!(manifest["features"]["default"][0].as_str(), Some("allocator"));

        let text = RUST_REGEX.iter().find(|(path, _)| *path == "Cargo.toml").unwrap().1;
        let regex: Table = toml::from_str(&super::manifest(text).unwrap()).unwrap();
        let of_regex = &regex["dependencies"]["weir-plugin"];
        assert_eq!(of_regex["path"].as_str(), Some("../weir-plugin"));
        assert_eq!(of_regex["default-features"].as_bool(), Some(false));
    }

    #[test]
    fn all_files_that_an_sdk_needs_are_carried() {
        for (files, expected) in [
            (RUST, "src/lib.rs"),
            (RUST_MACROS, "src/lib.rs"),
            (RUST_REGEX, "src/lib.rs"),
            (PYTHON, "py.typed"),
            (PYTHON, "guest.py"),
            (JS, "package.json"),
            (JS, "src/guest.js"),
            (JS, "src/index.d.ts"),
        ] {
            assert!(files.iter().any(|(path, _)| *path == expected), "{expected}");
        }
    }
}
