//! `weir plugin build`: from an author's project to a component.
//!
//! Rooms: [`rust`], [`python`] and [`js`] one language each · [`names`] of functions, readable · [`toolchain`] Rust's compiler · [`tools`] what Python's
//! package manager and npm install · [`sdk`] the SDKs that weir carries · [`stamp`] what a component was built of.

mod js;
mod names;
mod python;
mod rust;
pub mod sdk;
mod stamp;
mod toolchain;
mod tools;

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::Serialize;
use tempfile::TempDir;
use wasm_encoder::{ComponentSection, CustomSection};

pub use self::python::is_pythons;
use self::stamp::Stamp;
use self::toolchain::{Choice, Toolchain};
use crate::cli::screen::harmless;
use crate::sandbox::admission;

/// Build plugins into components
///
/// A directory with a Cargo.toml is built as Rust, with a pyproject.toml as Python, with a package.json as JavaScript or
/// TypeScript. What a build needs is installed by its own package manager, after saying so: Rust's target
/// wasm32-unknown-unknown by rustup (or Debian's packages, as root); into the project's .weir/tools, or the directory
/// that WEIR_TOOLS names, which projects may share, componentize-py by pip, esbuild and componentize-qjs by npm.
#[derive(clap::Args)]
pub struct Args {
    /// Directories of the projects, each with a Cargo.toml, a pyproject.toml or a package.json
    #[arg(value_name = "DIR", default_value = ".")]
    projects: Vec<PathBuf>,
    /// Where to write NAME.wasm; each project's own directory if not given
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Which Rust compiler to use
    #[arg(long, value_enum, default_value = "auto")]
    toolchain: Choice,
}

/// A language that plugins are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// Built by cargo
    Rust,
    /// Built by componentize-py
    Python,
    /// JavaScript or TypeScript, built by esbuild and componentize-qjs
    Js,
}

/// Each language, by the file that a project of it has.
const MANIFESTS: [(&str, Language); 3] =
    [("Cargo.toml", Language::Rust), ("pyproject.toml", Language::Python), ("package.json", Language::Js)];

/// Where a project's builds keep what is theirs.
const OWN_DIR: &str = ".weir";

/// What a plugin says of itself, as JSON in the custom section `weir:plugin`; the Rust SDK writes the same.
#[derive(Serialize)]
struct Metadata<'a> {
    api: &'a str,
    name: &'a str,
    version: &'a str,
    description: &'a str,
    settings: &'a serde_json::Value,
}

/// What the SDK of a language says of a plugin: its part of the [`Metadata`].
#[derive(serde::Deserialize)]
struct Description {
    api: String,
    settings: serde_json::Value,
}

/// A component that is there, and whether it had to be built.
struct Built {
    path: PathBuf,
    is_new: bool,
}

pub fn run(args: &Args) -> Result<()> {
    for dir in &args.projects {
        let begun = Instant::now();
        let out = args.out.as_deref().unwrap_or(dir);
        let Built { path, is_new } = build(dir, out, args.toolchain)?;
        let size = fs::metadata(&path)?.len().div_ceil(1000);
        let how = if is_new { format!("{:.1} s", begun.elapsed().as_secs_f64()) } else { "unchanged".to_owned() };
        say!("{} ({size} KB, {how})", path.display());
    }
    Ok(())
}

/// Builds the project in a directory, and gives the component that is there then.
pub fn build_project(dir: &Path) -> Result<PathBuf> {
    Ok(build(dir, dir, Choice::Auto)?.path)
}

fn build(dir: &Path, out: &Path, choice: Choice) -> Result<Built> {
    let build = || {
        fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
        match language(dir)? {
            Language::Rust => rust::build(&Toolchain::find(choice)?, dir, out),
            Language::Python => python::build(dir, out),
            Language::Js => js::build(dir, out),
        }
    };
    build().with_context(|| format!("building the plugin in {}", dir.display()))
}

/// The language of a project, by its manifest.
pub fn language(dir: &Path) -> Result<Language> {
    let found: Vec<_> = MANIFESTS.iter().filter(|(manifest, _)| dir.join(manifest).is_file()).collect();
    match found[..] {
        [(_, language)] => Ok(*language),
        [] => bail!(
            "there is no Cargo.toml, pyproject.toml or package.json in it: give the directory of a plugin, or make one\n  \
             weir plugin new NAME --lang rust|python|js"
        ),
        _ => {
            let names: Vec<_> = found.iter().map(|(manifest, _)| *manifest).collect();
            bail!(
                "it has {}, so that it is not clear which of them makes the plugin: \
                 put each plugin into a directory of its own",
                names.join(" and ")
            )
        }
    }
}

/// What a manifest says of a plugin.
struct Project {
    name: String,
    version: String,
    description: String,
    /// Whether it reads files that the agent's configuration grants.
    files: bool,
}

impl Project {
    /// The world of `guest.wit` that it is built for.
    fn world(&self) -> &'static str {
        if self.files { "guest-with-files" } else { "guest" }
    }

    /// Puts what it says of itself into a component, has it looked at as an agent would, and writes it.
    fn finish(&self, mut component: Vec<u8>, described: &Description, out: &Path) -> Result<Built> {
        let metadata = Metadata {
            api: &described.api,
            name: &self.name,
            version: &self.version,
            description: &self.description,
            settings: &described.settings,
        };
        let json = serde_json::to_vec(&metadata)?;
        append_metadata(&mut component, &json);
        admit_and_write(component, &self.name, out)
    }
}

fn append_metadata(component: &mut Vec<u8>, json: &[u8]) {
    CustomSection { name: "weir:plugin".into(), data: json.into() }.append_to_component(component);
}

/// Writes what an agent would take as `NAME.wasm`; not again where it is there.
fn admit_and_write(component: Vec<u8>, name: &str, out: &Path) -> Result<Built> {
    let plugin = admission::admit(component, name).context("what was built would be refused by an agent")?;
    let path = out.join(format!("{}.wasm", plugin.metadata.name));
    if fs::read(&path).is_ok_and(|known| known == plugin.bytes) {
        return Ok(Built { path, is_new: false });
    }
    // Written aside and renamed: an agent may be watching.
    let mut file = tempfile::Builder::new().prefix(".weir").tempfile_in(out)?;
    file.write_all(&plugin.bytes)?;
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.persist(&path).with_context(|| format!("writing {}", path.display()))?;
    Ok(Built { path, is_new: true })
}

/// The directory of a project where its builds keep what is theirs, which no version control needs to see.
fn own_dir(dir: &Path) -> Result<PathBuf> {
    let own = dir.join(OWN_DIR);
    let make = || {
        fs::create_dir_all(&own)?;
        fs::write(own.join(".gitignore"), "*\n")
    };
    make().with_context(|| format!("writing into {}", own.display()))?;
    own.canonicalize().with_context(|| format!("looking for {}", own.display()))
}

/// A directory for one build, with the contract in `wit`.
fn workshop(own: &Path) -> Result<TempDir> {
    let workshop = tempfile::Builder::new().prefix("build-").tempdir_in(own)?;
    let contract = workshop.path().join("wit/deps/plugin");
    fs::create_dir_all(&contract)?;
    fs::write(contract.join("plugin.wit"), sdk::CONTRACT)?;
    fs::write(workshop.path().join("wit/guest.wit"), sdk::WORLDS)?;
    Ok(workshop)
}

/// Builds unless the component is there already and nothing that it is built of has changed since.
fn unless_unchanged(dir: &Path, out: &Path, tools: &str, build: impl FnOnce(&Path) -> Result<Built>) -> Result<Built> {
    let own = own_dir(dir)?;
    // Another build of the same project is waited for: both put things into its directory. Without locks both just try.
    let lock = fs::File::create(own.join("lock"));
    if let Ok(file) = &lock
        && flock(file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
    {
        complain!("waiting for another build of {}", dir.display());
        let _ = flock(file, FlockOperation::LockExclusive);
    }
    let stamp = Stamp::of(dir, tools)?;
    if let Some(path) = stamp.component(&own, out) {
        return Ok(Built { path, is_new: false });
    }
    let built = build(&own)?;
    stamp.keep(&own, &built.path)?;
    Ok(built)
}

/// The name of a plugin that may be part of a file's name.
fn check_name(name: &str, manifest: &str) -> Result<()> {
    let is_sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_sound) || name.starts_with('.') {
        bail!(
            "the name \"{}\" in its {manifest} cannot be a plugin's: use letters, digits, `-` and `_`",
            harmless(name)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_says_which_language() {
        let dir = tempfile::tempdir().unwrap();
        assert!(language(dir.path()).unwrap_err().to_string().starts_with("there is no Cargo.toml, pyproject.toml or"));
        for (manifest, expected) in MANIFESTS {
            fs::write(dir.path().join(manifest), "").unwrap();
            assert_eq!(language(dir.path()).unwrap(), expected);
            fs::remove_file(dir.path().join(manifest)).unwrap();
        }
        fs::write(dir.path().join("Cargo.toml"), "").unwrap();
        fs::write(dir.path().join("package.json"), "").unwrap();
        let said = language(dir.path()).unwrap_err().to_string();
        assert!(said.starts_with("it has Cargo.toml and package.json, so that it is not clear which"), "{said}");
    }

    #[test]
    fn a_plugins_name_is_a_files() {
        for name in ["a", "my-parser", "my_parser2", "a.b"] {
            check_name(name, "package.json").unwrap();
        }
        for name in ["", "../a", ".a", "a/b", "a b", "\u{1b}[m", &"a".repeat(65)] {
            assert!(check_name(name, "package.json").is_err(), "{name}");
        }
    }
}
