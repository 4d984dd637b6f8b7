//! A Rust compiler for `wasm32-unknown-unknown`: rustup's if it has or can get the target, else Debian's, which
//! builds the standard library from its sources.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

/// The target that plugins are built for: no system, no WASI.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's packages that build for it.
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld"];

/// Which compiler to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// Rustup's, and Debian's if that has no such target and cannot get it
    Auto,
    /// The one in PATH, which must have the target
    Rustup,
    /// Debian's
    Debian,
}

/// A compiler that can build plugins.
pub enum Toolchain {
    /// `cargo` from PATH.
    Path,
    /// Debian's, with the linker to use.
    Debian {
        /// A `wasm-ld` or `rust-lld`.
        linker: PathBuf,
    },
}

impl Toolchain {
    /// Finds one, or installs it after saying so.
    pub fn find(choice: Choice) -> Result<Toolchain> {
        if choice != Choice::Debian {
            if has_target() || add_target() {
                return Ok(Toolchain::Path);
            }
            if choice == Choice::Rustup {
                bail!(
                    "the Rust toolchain in PATH has no target {TARGET}, and `rustup target add {TARGET}` did not add it"
                );
            }
        }
        debian()
    }

    /// A cargo command that builds for [`TARGET`] with it.
    pub fn cargo(&self) -> Command {
        match self {
            Toolchain::Path => Command::new("cargo"),
            Toolchain::Debian { linker } => {
                let mut command = Command::new("/usr/bin/cargo");
                command
                    .env("RUSTC", "/usr/bin/rustc")
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env_remove("RUSTUP_TOOLCHAIN")
                    .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
                command
            }
        }
    }

    /// Arguments of `cargo build` that only this toolchain needs.
    pub fn build_arguments(&self) -> &'static [&'static str] {
        match self {
            Toolchain::Path => &[],
            Toolchain::Debian { .. } => &["-Zbuild-std=std,panic_abort"],
        }
    }
}

fn has_target() -> bool {
    sysroot("rustc").is_some_and(|sysroot| sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir())
}

fn sysroot(rustc: &str) -> Option<PathBuf> {
    let output = Command::new(rustc).args(["--print", "sysroot"]).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(text.trim()))
}

fn add_target() -> bool {
    if sysroot("rustc").is_none() {
        return false;
    }
    complain!("adding the target {TARGET}: rustup target add {TARGET}");
    let status = Command::new("rustup").args(["target", "add", TARGET]).stdin(Stdio::null()).status();
    status.is_ok_and(|status| status.success()) && has_target()
}

fn debian() -> Result<Toolchain> {
    let installed = Path::new("/usr/bin/cargo").exists()
        && Path::new("/usr/bin/rustc").exists()
        && debian_std().is_some()
        && linker().is_some();
    if !installed {
        install()?;
    }
    let linker =
        linker().context("no linker for WebAssembly: neither rustup's rust-lld nor Debian's wasm-ld (package lld)")?;
    Ok(Toolchain::Debian { linker })
}

/// The sources of Debian's standard library.
fn debian_std() -> Option<PathBuf> {
    let path = sysroot("/usr/bin/rustc")?.join("lib/rustlib/src/rust/library/std");
    path.exists().then_some(path)
}

fn install() -> Result<()> {
    let packages = DEBIAN_PACKAGES.join(" ");
    let by_hand = format!("as root: apt-get install {packages}\n  or, with rustup: rustup target add {TARGET}");
    if !rustix::process::geteuid().is_root() || !Path::new("/usr/bin/apt-get").exists() {
        bail!("no Rust compiler for {TARGET}; install one\n  {by_hand}");
    }
    complain!("installing Debian's Rust for WebAssembly: apt-get install {packages}");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-q", "-y"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command.stdin(Stdio::null()).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let install = || apt(&[&["install"], DEBIAN_PACKAGES.as_slice()].concat());
    if install() || apt(&["update"]) && install() {
        return Ok(());
    }
    bail!("apt-get could not install {packages}; install a Rust compiler for {TARGET}\n  {by_hand}")
}

/// rustup's `rust-lld` or a `wasm-ld` in PATH.
fn linker() -> Option<PathBuf> {
    let of_rustup = sysroot("rustc").and_then(|sysroot| {
        let hosts = std::fs::read_dir(sysroot.join("lib/rustlib")).ok()?;
        hosts.flatten().map(|host| host.path().join("bin/rust-lld")).find(|lld| lld.exists())
    });
    let paths = std::env::var_os("PATH")?;
    let wasm_ld = || std::env::split_paths(&paths).map(|dir| dir.join("wasm-ld")).find(|ld| ld.exists());
    of_rustup.or_else(wasm_ld)
}
