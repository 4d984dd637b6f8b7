//! From the bytes of a component to compiled code, in a child process, kept in a private cache.
//!
//! Compiling is outside of what wasmtime promises to bound: a small file may take for ever and all memory. So
//! it happens in a child of the same binary (`weir __compile`) with limits on CPU time and address space.
//!
//! The cache holds `<digest>-<engine>.cwasm` in a directory that only this user may enter. What is in there is
//! machine code and is trusted: no file comes in but through this module.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Resource, Rlimit, getuid, setrlimit};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::limits::{COMPILE_CPU_SECONDS, COMPILE_MEMORY, COMPONENT_BYTES};

/// The hidden command of the binary that compiles standard input to standard output.
pub const COMMAND: &str = "__compile";

/// Where and how plugins are compiled.
pub struct Compiler {
    cache: PathBuf,
    /// The binary that has the command `__compile`; none compiles in this process, for tests.
    binary: Option<PathBuf>,
}

impl Compiler {
    /// Compiles in children of this binary, and keeps the results in that directory, which is made if need be.
    pub fn new(cache: &Path) -> Result<Self> {
        let binary = std::env::current_exe().context("finding weir's own binary, to compile plugins with")?;
        private_directory(cache)?;
        Ok(Compiler { cache: cache.to_owned(), binary: Some(binary) })
    }

    /// Compiles in this process: for tests, whose binary has no commands.
    pub fn in_process(cache: &Path) -> Result<Self> {
        private_directory(cache)?;
        Ok(Compiler { cache: cache.to_owned(), binary: None })
    }

    /// The compiled component, from the cache if it is there.
    pub(super) fn compile(&self, engine: &Engine, bytes: &[u8], digest: &str) -> Result<Component> {
        let kept = self.cache.join(format!("{digest}-{:016x}.cwasm", compatibility(engine)));
        if kept.exists() {
            match load(engine, &kept) {
                Ok(component) => return Ok(component),
                Err(error) => {
                    tracing::warn!(file = %kept.display(), "compiled plugin is not usable, compiling again: {error:#}")
                }
            }
        }
        let mut file = tempfile::NamedTempFile::new_in(&self.cache).context("writing the compiled plugin")?;
        match &self.binary {
            Some(binary) => compile_in_child(binary, bytes, file.as_file())?,
            None => file.write_all(&compile_here(engine, bytes)?)?,
        }
        file.persist(&kept).context("keeping the compiled plugin")?;
        load(engine, &kept)
    }
}

/// A directory that nobody else may enter. An existing one is refused unless it is ours and private.
fn private_directory(path: &Path) -> Result<()> {
    let describe = || format!("the cache of compiled plugins, {}", path.display());
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(describe)?;
    let meta = fs::symlink_metadata(path).with_context(describe)?;
    ensure!(
        meta.is_dir() && meta.uid() == getuid().as_raw() && meta.mode() & 0o022 == 0,
        "{} must be a directory of weir's own user that nobody else can write to",
        describe()
    );
    Ok(())
}

/// Changes when compiled code of one engine is of no use to the other.
fn compatibility(engine: &Engine) -> u64 {
    use std::hash::{Hash, Hasher};
    struct Hash64(xxhash_rust::xxh3::Xxh3);
    impl Hasher for Hash64 {
        fn finish(&self) -> u64 {
            self.0.digest()
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut hasher = Hash64(xxhash_rust::xxh3::Xxh3::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

fn load(engine: &Engine, path: &Path) -> Result<Component> {
    // SAFETY: the file was written by wasmtime and put by this module into a directory that only this user can
    // write to; it is replaced by renaming, never changed. wasmtime itself refuses another version's output.
    #[allow(unsafe_code)]
    let component = unsafe { Component::deserialize_file(engine, path) };
    Ok(component?)
}

fn compile_in_child(binary: &Path, bytes: &[u8], output: &fs::File) -> Result<()> {
    let mut child = Command::new(binary)
        .arg(COMMAND)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(output.try_clone()?)
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {} to compile a plugin", binary.display()))?;
    let mut input = child.stdin.take().context("the child has an input")?;
    // The child reads all of its input before it writes anything. If it dies early, its status says why.
    let _ = input.write_all(bytes);
    drop(input);
    let result = child.wait_with_output()?;
    if result.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&result.stderr);
    match result.status.signal() {
        Some(signal) if signal == rustix::process::Signal::XCPU.as_raw() || signal == 9 => {
            bail!("compiling took more than {COMPILE_CPU_SECONDS} seconds of CPU time")
        }
        Some(signal) => {
            bail!("compiling ended by signal {signal}; it may use {COMPILE_MEMORY} bytes of memory: {}", said.trim())
        }
        None => bail!("it does not compile: {}", said.trim()),
    }
}

/// What the child process does: limits itself, then compiles standard input to standard output.
pub fn child_main() -> Result<()> {
    let limit = |resource, most| setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    limit(Resource::Cpu, COMPILE_CPU_SECONDS)?;
    limit(Resource::As, COMPILE_MEMORY)?;
    limit(Resource::Core, 0)?;
    rustix::process::nice(10)?;
    let mut bytes = Vec::new();
    std::io::stdin().take(COMPONENT_BYTES + 1).read_to_end(&mut bytes)?;
    let compiled = compile_here(&super::engine::engine()?, &bytes)?;
    std::io::stdout().write_all(&compiled)?;
    Ok(())
}

fn compile_here(engine: &Engine, bytes: &[u8]) -> Result<Vec<u8>> {
    Ok(engine.precompile_component(bytes)?)
}
