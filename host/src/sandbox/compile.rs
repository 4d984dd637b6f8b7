//! From the bytes of a component to compiled code, in a child process, kept in a [cache](super::cache).
//!
//! Compiling is outside of what wasmtime promises to bound: a small file may take for ever and all memory. So
//! it happens in a child of the same binary (`weir __compile`) with [limits](CompileLimits), the lowest priority, one
//! thread, and nothing that it could reach but its input and its output. There is one at a time, so that no upload
//! takes more than a part of one core. A compile bomb is an error.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, getppid, setrlimit};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::cache::{Cache, Whose};
use super::limits::{COMPONENT_BYTES, CompileLimits};
use crate::confine;

/// The hidden command of the binary that compiles standard input to standard output.
pub const COMMAND: &str = "__compile";

/// Bytes of what a child says that are shown.
const SAID: u64 = 2000;

/// How often a child is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Whoever holds it compiles.
static COMPILING: Mutex<()> = Mutex::new(());

/// Where and how plugins are compiled.
pub struct Compiler {
    cache: Cache,
    /// None compiles in this process, for tests.
    child: Option<ByChild>,
}

/// How plugins are compiled in a child.
#[derive(Clone)]
pub struct ByChild {
    /// The binary that has the command `__compile`.
    pub binary: PathBuf,
    /// What it may take.
    pub limits: CompileLimits,
    /// Ends what is being compiled, and begins nothing more.
    pub stop: Arc<AtomicBool>,
}

impl Default for ByChild {
    fn default() -> Self {
        // By the link of its process: the file may have been replaced since.
        let binary = PathBuf::from("/proc/self/exe");
        ByChild { binary, limits: CompileLimits::default(), stop: Arc::default() }
    }
}

impl Compiler {
    /// Compiles in children, and keeps the results in that directory, which is made if need be.
    pub fn new(cache: &Path, whose: Whose, child: ByChild) -> Result<Self> {
        Ok(Compiler { cache: Cache::open(cache, whose)?, child: Some(child) })
    }

    /// Compiles in this process: for tests, whose binary has no commands.
    pub fn in_process(cache: &Path) -> Result<Self> {
        Ok(Compiler { cache: Cache::open(cache, Whose::Shared)?, child: None })
    }

    /// The compiled component, from the cache if it is there.
    pub(super) fn compile(&self, engine: &Engine, bytes: &[u8], digest: &str) -> Result<Component> {
        if let Some(component) = self.cache.known(engine, digest) {
            return Ok(component);
        }
        let _alone = COMPILING.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody may have waited for the same one.
        if let Some(component) = self.cache.known(engine, digest) {
            return Ok(component);
        }
        let mut file = self.cache.begin()?;
        match &self.child {
            Some(child) => child.compile(bytes, file.as_file())?,
            None => file.write_all(&compile_here(engine, bytes)?)?,
        }
        self.cache.keep(engine, digest, file)
    }
}

impl ByChild {
    /// Compiles to that file, which has part of the result after an error.
    fn compile(&self, bytes: &[u8], output: &File) -> Result<()> {
        ensure!(!self.is_stopped(), "weir is stopping");
        let CompileLimits { cpu_seconds, memory, output: most, .. } = self.limits;
        let mut child = Command::new(&self.binary)
            .arg0("weir")
            .arg(COMMAND)
            .args([u64::from(std::process::id()), cpu_seconds, memory, most].map(|number| number.to_string()))
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(Stdio::piped())
            // Ctrl-C at a terminal is for the agent.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {} to compile a plugin", self.binary.display()))?;
        let input = child.stdin.take().context("the child has an input")?;
        let errors = child.stderr.take().context("the child has an output of errors")?;
        let (ended, said) = thread::scope(|scope| {
            // If it dies early, its status says why.
            scope.spawn(move || { input }.write_all(bytes));
            let said = scope.spawn(move || listen(errors));
            let ended = self.wait(&mut child);
            (ended, said.join().unwrap_or_default())
        });
        let status = ended?;
        if status.success() {
            return Ok(());
        }
        bail!("{}", self.reason(status, said.trim().trim_start_matches("error: ")))
    }

    /// Waits for its end, and brings it about if need be.
    fn wait(&self, child: &mut Child) -> Result<ExitStatus> {
        let deadline = Instant::now() + Duration::from_secs(self.limits.seconds);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            let reason = match () {
                () if self.is_stopped() => anyhow!("weir is stopping"),
                () if Instant::now() >= deadline => anyhow!("compiling took longer than {} s", self.limits.seconds),
                () => {
                    thread::sleep(LOOK_EVERY);
                    continue;
                }
            };
            child.kill()?;
            child.wait()?;
            return Err(reason);
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Why it failed, in words.
    fn reason(&self, status: ExitStatus, said: &str) -> String {
        let CompileLimits { cpu_seconds, memory, output, .. } = self.limits;
        let by = |signal: Signal| status.signal() == Some(signal.as_raw());
        if by(Signal::XCPU) {
            format!("compiling took more than {cpu_seconds} s of CPU time")
        } else if by(Signal::XFSZ) {
            format!("its compiled code has more than {} MiB", output >> 20)
        } else if said.contains("memory allocation of ") || said.contains("Cannot allocate memory") {
            format!("compiling took more than {} MiB of memory", memory >> 20)
        } else if by(Signal::SEGV) || said.contains("overflowed its stack") {
            "compiling it needs more stack than there is".to_owned()
        } else if by(Signal::KILL) {
            "compiling was killed, perhaps because the system had no more memory".to_owned()
        } else if let Some(signal) = status.signal() {
            format!("compiling ended by signal {signal}: {said}")
        } else {
            format!("it does not compile: {said}")
        }
    }
}

/// What a child says: the first of it, harmless to a terminal, as part of it may be the plugin's words.
fn listen(mut errors: impl Read) -> String {
    let mut said = Vec::new();
    // All is read, so that the child does not wait.
    let _ = errors.by_ref().take(SAID).read_to_end(&mut said);
    let _ = io::copy(&mut errors, &mut io::sink());
    let mut text = String::new();
    for c in String::from_utf8_lossy(&said).trim().chars() {
        match c {
            '\n' => text.push(c),
            c if c.is_control() => text.extend(c.escape_default()),
            c => text.push(c),
        }
    }
    text
}

/// What the child process does: takes all from itself that it does not need, then compiles standard input to standard
/// output.
pub fn child_main(parent: u32, limits: CompileLimits) -> Result<()> {
    confine_child(parent, limits)?;
    let mut bytes = Vec::new();
    io::stdin().take(COMPONENT_BYTES + 1).read_to_end(&mut bytes)?;
    let compiled = compile_here(&super::engine::engine()?, &bytes)?;
    io::stdout().write_all(&compiled)?;
    Ok(())
}

fn confine_child(parent: u32, limits: CompileLimits) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have died before this was known.
    let is_orphan = getppid().map(Pid::as_raw_nonzero).is_none_or(|pid| pid.get() as u32 != parent);
    ensure!(!is_orphan, "weir has ended");
    rustix::process::nice(19)?;
    confine::lock_up();
    let limit = |resource, soft, hard| setrlimit(resource, Rlimit { current: Some(soft), maximum: Some(hard) });
    // At the soft limit the signal says what it was.
    limit(Resource::Cpu, limits.cpu_seconds, limits.cpu_seconds + 1)?;
    limit(Resource::As, limits.memory, limits.memory)?;
    limit(Resource::Fsize, limits.output, limits.output)?;
    limit(Resource::Core, 0, 0)?;
    // Neither a process, nor a thread, nor a file or socket besides the three that it has. Root may have processes.
    limit(Resource::Nproc, 0, 0)?;
    limit(Resource::Nofile, 3, 3)?;
    Ok(())
}

fn compile_here(engine: &Engine, bytes: &[u8]) -> Result<Vec<u8>> {
    Ok(engine.precompile_component(bytes)?)
}
