//! `weir plugin build`: from a plugin crate to a component.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use wasm_encoder::{ComponentSection, CustomSection};
use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

use super::toolchain::{Choice, TARGET, Toolchain};
use crate::sandbox::admission;

/// Build plugin crates into components.
///
/// Needs a Rust compiler for wasm32-unknown-unknown: rustup's target is added if it is missing; where that can't
/// be, Debian's packages are used, and installed if weir runs as root.
#[derive(clap::Args)]
pub struct Args {
    /// Directories of the crates, each with a Cargo.toml
    #[arg(default_value = ".")]
    crates: Vec<PathBuf>,
    /// Where to write NAME.wasm; each crate's own directory if not given
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Which compiler to use
    #[arg(long, value_enum, default_value = "auto")]
    toolchain: Choice,
}

/// The linker's stack in linear memory: it counts against every instance's memory.
const STACK_BYTES: u32 = 128 << 10;

/// The profile that plugins are built with, whatever the crate's manifest says of `release`.
const PROFILE: [&str; 7] = [
    "profile.plugin.inherits='release'",
    "profile.plugin.opt-level=3",
    "profile.plugin.lto='fat'",
    "profile.plugin.codegen-units=1",
    "profile.plugin.panic='abort'",
    "profile.plugin.debug=false",
    "profile.plugin.strip='debuginfo'",
];

pub fn run(args: &Args) -> Result<()> {
    let toolchain = Toolchain::find(args.toolchain)?;
    for dir in &args.crates {
        let begun = Instant::now();
        let out = args.out.as_deref().unwrap_or(dir);
        let path = build(&toolchain, dir, out).with_context(|| format!("building the plugin in {}", dir.display()))?;
        let size = std::fs::metadata(&path)?.len();
        println!("{} ({} KB, {:.1} s)", path.display(), size.div_ceil(1000), begun.elapsed().as_secs_f64());
    }
    Ok(())
}

fn build(toolchain: &Toolchain, dir: &Path, out: &Path) -> Result<PathBuf> {
    let package = package(toolchain, dir)?;
    let core = compile(toolchain, dir, &package)?;
    let component = componentize(&core)?;
    let plugin = admission::admit(component, &package).context("what was built would be refused by an agent")?;
    std::fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    let path = out.join(format!("{}.wasm", plugin.metadata.name));
    // Written aside and renamed: an agent may be watching.
    let mut file = tempfile::Builder::new().prefix(".weir").tempfile_in(out)?;
    file.write_all(&plugin.bytes)?;
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.persist(&path).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// The package's name, if it is one that makes a plugin.
fn package(toolchain: &Toolchain, dir: &Path) -> Result<String> {
    let manifest = dir.join("Cargo.toml");
    ensure!(manifest.exists(), "there is no {}", manifest.display());
    let mut cargo = toolchain.cargo();
    cargo.args(["metadata", "--no-deps", "--format-version=1", "--manifest-path"]).arg(&manifest);
    let output = cargo.stderr(Stdio::inherit()).output().context("running cargo metadata")?;
    ensure!(output.status.success(), "cargo cannot read {}", manifest.display());
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let manifest = manifest.canonicalize()?;
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let package = packages.iter().find(|p| p["manifest_path"].as_str() == manifest.to_str());
    let package = package.context("its Cargo.toml has no [package]")?;
    let targets = package["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_library = |target: &Value| target["crate_types"].as_array().is_some_and(|t| t.iter().any(|t| t == "cdylib"));
    ensure!(
        targets.iter().any(is_library),
        "its Cargo.toml does not make a library for WebAssembly; add\n  [lib]\n  crate-type = [\"cdylib\", \"rlib\"]"
    );
    Ok(package["name"].as_str().context("a package has a name")?.to_owned())
}

/// Runs cargo, and gives the bytes of the core module that it made.
fn compile(toolchain: &Toolchain, dir: &Path, package: &str) -> Result<Vec<u8>> {
    let mut flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    flags.push_str(&format!(" -Ctarget-feature=+simd128 -Clink-arg=-zstack-size={STACK_BYTES}"));
    let mut cargo: Command = toolchain.cargo();
    cargo
        .args(["build", "--lib", "--profile=plugin", "--message-format=json-render-diagnostics"])
        .args(["--target", TARGET, "--package", package, "--manifest-path"])
        .arg(dir.join("Cargo.toml"))
        .args(toolchain.build_arguments())
        .args(PROFILE.iter().flat_map(|setting| ["--config", setting]))
        .env("RUSTFLAGS", flags.trim())
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stdout(Stdio::piped());
    let output = cargo.stderr(Stdio::inherit()).output().context("running cargo build")?;
    ensure!(output.status.success(), "cargo build failed");
    let messages = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
    let mut files = Vec::new();
    for message in messages {
        let message = message.context("reading what cargo says")?;
        let is_ours = message["target"]["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|k| k == "cdylib"));
        if message["reason"] == "compiler-artifact" && is_ours {
            let names = message["filenames"].as_array().into_iter().flatten().filter_map(Value::as_str);
            files.extend(names.filter(|name| name.ends_with(".wasm")).map(PathBuf::from));
        }
    }
    match files.as_slice() {
        [.., file] => std::fs::read(file).with_context(|| format!("reading {}", file.display())),
        [] => bail!("cargo made no .wasm"),
    }
}

/// Wraps a core module into a component, with its metadata where it can be read without looking inside.
fn componentize(core: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = ComponentEncoder::default();
    let mut component = encoder
        .validate(true)
        .module(core)
        .and_then(|encoder| encoder.encode())
        .context("it is not a plugin: does it have `weir_plugin::export!(…)`?")?;
    for payload in Parser::new(0).parse_all(core) {
        if let Payload::CustomSection(section) = payload?
            && section.name() == "weir:plugin"
        {
            let section = CustomSection { name: section.name().into(), data: section.data().into() };
            section.append_to_component(&mut component);
        }
    }
    Ok(component)
}
