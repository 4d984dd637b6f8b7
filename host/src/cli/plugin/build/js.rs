//! JavaScript and TypeScript: one module by esbuild, and QuickJS around it by componentize-qjs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::registry::hex_digest;

use super::tools::{COMPONENTIZE_QJS, ESBUILD, Node};
use super::{Built, Project, check_name, sdk, unless_unchanged, workshop};

/// Where a project may have the SDK.
const VENDORED: &str = "vendor/weir-plugin";

/// Where the plugin is looked for if the manifest does not say.
const ENTRIES: [&str; 4] = ["index.ts", "index.js", "src/index.ts", "src/index.js"];

/// What makes a component; run by node.
const DRIVER: &str = include_str!("componentize.mjs");

/// What is read of a `package.json`.
#[derive(Deserialize)]
struct Manifest {
    name: Option<String>,
    version: Option<String>,
    #[serde(default)]
    description: String,
    main: Option<String>,
    #[serde(default)]
    dependencies: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    weir: Own,
}

/// The key `weir`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    #[serde(default)]
    files: bool,
}

/// A project in JavaScript or TypeScript.
struct Package {
    project: Project,
    /// The module whose default export is the plugin.
    entry: PathBuf,
    /// Whether it needs packages beside the SDK.
    has_dependencies: bool,
}

pub fn build(dir: &Path, out: &Path) -> Result<Built> {
    let dir = &dir.canonicalize()?;
    let package = Package::read(dir)?;
    let tools = format!("{COMPONENTIZE_QJS} {ESBUILD} {DRIVER} {}", sdk::version());
    unless_unchanged(dir, out, &tools, |own| {
        let node = Node::find(own)?;
        let tools = node.componentize_qjs(own)?;
        if package.has_dependencies && !is_installed(dir, own) {
            complain!("installing what its package.json needs: npm install");
            node.npm(dir, &["install"])?;
            fs::write(own.join(INSTALLED), wanted(dir))?;
        }
        let workshop = workshop(own)?;
        let at = workshop.path();
        let sdk = if dir.join(VENDORED).is_dir() {
            dir.join("vendor")
        } else {
            sdk::write(sdk::JS, &at.join("sdk/weir-plugin"))?;
            at.join("sdk")
        };
        fs::write(at.join("componentize.mjs"), DRIVER)?;
        let mut command = node.command();
        command.arg(at.join("componentize.mjs")).args([&tools, &package.entry, &at.join("wit")]);
        command.arg(package.project.world()).args([at, &sdk]).current_dir(dir).stdout(Stdio::null());
        let status = command.status().context("running node")?;
        ensure!(status.success(), "esbuild or componentize-qjs failed");
        let described = fs::read(at.join("describe.json")).context("reading what the module says of itself")?;
        let described = serde_json::from_slice(&described).context("reading what the module says of itself")?;
        let component = fs::read(at.join("plugin.wasm")).context("reading what componentize-qjs made")?;
        package.project.finish(component, &described, out)
    })
}

/// Which packages the last build has installed, in the directory of its own.
const INSTALLED: &str = "installed";

/// Whether the packages that are there are those that the manifest and npm's lock ask for.
fn is_installed(dir: &Path, own: &Path) -> bool {
    dir.join("node_modules").is_dir() && fs::read_to_string(own.join(INSTALLED)).is_ok_and(|known| known == wanted(dir))
}

/// What tells packages that are asked for from others. npm writes its own record before the lock, so that the times of
/// these files say nothing.
fn wanted(dir: &Path) -> String {
    let digest = |name: &str| fs::read(dir.join(name)).map_or_else(|_| String::new(), |bytes| hex_digest(&bytes));
    format!("{} {}", digest("package.json"), digest("package-lock.json"))
}

impl Package {
    fn read(dir: &Path) -> Result<Package> {
        let text = fs::read(dir.join("package.json")).context("reading its package.json")?;
        let manifest: Manifest = serde_json::from_slice(&text).context("its package.json is not as it should be")?;
        let name = manifest.name.context("its package.json has no `name`")?;
        // A scope is whose it is, not what it is called.
        let name = name.strip_prefix('@').and_then(|scoped| Some(scoped.split_once('/')?.1)).unwrap_or(&name);
        check_name(name, "package.json")?;
        let version = manifest.version.context("its package.json has no `version`")?;
        let entry = match &manifest.main {
            Some(main) => {
                let main = dir.join(main);
                ensure!(main.is_file(), "there is no {}, which its package.json calls `main`", main.display());
                main
            }
            None => match ENTRIES.iter().map(|entry| dir.join(entry)).find(|entry| entry.is_file()) {
                Some(entry) => entry,
                None => bail!("its package.json does not say which module is `main`, and it has no {}", ENTRIES[0]),
            },
        };
        Ok(Package {
            project: Project {
                name: name.to_owned(),
                version,
                description: manifest.description,
                files: manifest.weir.files,
            },
            entry,
            has_dependencies: manifest.dependencies.keys().any(|name| name != "weir-plugin"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(manifest: &str, files: &[&str]) -> Result<Package, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("package.json"), manifest).unwrap();
        for file in files {
            fs::write(dir.path().join(file), "").unwrap();
        }
        Package::read(dir.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_manifest_says_name_and_module() {
        let text =
            r#"{"name": "@shop/parser", "version": "1.2.3", "main": "p.ts", "dependencies": {"weir-plugin": "*"}}"#;
        let package = read(text, &["p.ts"]).unwrap();
        assert_eq!((package.project.name.as_str(), package.has_dependencies), ("parser", false));
        assert!(package.entry.ends_with("p.ts"));
        let text = r#"{"name": "p", "version": "1", "dependencies": {"x": "1"}, "weir": {"files": true}}"#;
        let package = read(text, &["index.js"]).unwrap();
        assert_eq!((package.project.world(), package.has_dependencies), ("guest-with-files", true));
    }

    #[test]
    fn packages_are_installed_again_when_others_are_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let (dir, own) = (dir.path(), dir.path().join(".weir"));
        fs::create_dir(&own).unwrap();
        let install = || fs::write(own.join(INSTALLED), wanted(dir)).unwrap();
        fs::write(dir.join("package.json"), "1").unwrap();
        install();
        assert!(!is_installed(dir, &own), "there is no node_modules");
        fs::create_dir(dir.join("node_modules")).unwrap();
        assert!(is_installed(dir, &own));
        for (file, text) in [("package.json", "2"), ("package-lock.json", "1"), ("package-lock.json", "2")] {
            fs::write(dir.join(file), text).unwrap();
            assert!(!is_installed(dir, &own), "{file} is {text}");
            install();
            assert!(is_installed(dir, &own));
        }
        fs::remove_file(own.join(INSTALLED)).unwrap();
        assert!(!is_installed(dir, &own), "somebody else has installed something");
    }

    #[test]
    fn what_is_missing_is_said() {
        for (text, expected) in [
            ("{", "its package.json is not as it should be"),
            ("{}", "its package.json has no `name`"),
            (r#"{"name": "p"}"#, "its package.json has no `version`"),
            (r#"{"name": "a b", "version": "1"}"#, "the name \"a b\" in its package.json cannot be a plugin's"),
            (r#"{"name": "p", "version": "1"}"#, "its package.json does not say which module is `main`, and it has no"),
            (r#"{"name": "p", "version": "1", "weir": {"file": 1}}"#, "its package.json is not as it should be"),
        ] {
            let said = read(text, &[]).err().unwrap();
            assert!(said.starts_with(expected), "{said}");
        }
        assert!(read(r#"{"name": "p", "version": "1", "main": "x.js"}"#, &[]).err().unwrap().contains("calls `main`"));
    }
}
