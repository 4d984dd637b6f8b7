//! Rust: cargo makes a core module, which is wrapped into a component.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

use super::names;
use super::toolchain::{TARGET, Toolchain};
use super::{Built, admit_and_write, append_metadata};

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

/// How large a function may be to be written out where it is called, unless it is marked `#[inline]`: what is hot is. A
/// third of what the compiler does by itself, which makes plugins 1 to 4 % smaller, and none that was measured slower.
const INLINE: &str = "-Cllvm-args=-inline-threshold=75";

pub fn build(toolchain: &Toolchain, dir: &Path, out: &Path) -> Result<Built> {
    let package = package(toolchain, dir)?;
    let core = compile(toolchain, dir, &package)?;
    admit_and_write(componentize(&core)?, &package, out)
}

/// The package's name, if it is one that makes a plugin.
fn package(toolchain: &Toolchain, dir: &Path) -> Result<String> {
    let manifest = dir.join("Cargo.toml");
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
    // It may be given once only.
    if !flags.contains("inline-threshold") {
        flags.push_str(&format!(" {INLINE}"));
    }
    // By itself, the linker leaves room for the largest number in each reference: 6 % of a plugin.
    // It cannot do without where there is what debuggers read.
    if !flags.contains("strip=none") {
        flags.push_str(" -Clink-arg=--compress-relocations");
    }
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

/// Wraps a core module into a component, with its metadata where it can be read without looking inside, and there alone.
fn componentize(core: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = ComponentEncoder::default();
    let mut component = encoder
        .validate(true)
        .module(&names::readable(core)?)
        .and_then(|encoder| encoder.encode())
        .context("it is not a plugin: does it have `weir_plugin::export!(…)`?")
        .and_then(|component| names::without_its_parts(&component))?;
    for payload in Parser::new(0).parse_all(core) {
        if let Payload::CustomSection(section) = payload?
            && section.name() == "weir:plugin"
        {
            append_metadata(&mut component, section.data());
        }
    }
    Ok(component)
}
