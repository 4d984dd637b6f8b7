//! Python: componentize-py, which has the interpreter inside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::tools::{COMPONENTIZE_PY, INNER_PYTHON, Python};
use super::{Built, Description, Project, check_name, sdk, unless_unchanged, workshop};

/// Where a project may have the SDK.
const VENDORED: &str = "vendor/weir_plugin";

/// The module that the component begins with.
const MAIN: &str = "weir_main";

/// Modules of Python's own, of all versions that there are.
const OWN_MODULES: &str = include_str!("python_modules.txt");

/// Whether a module of that name would take the place of one that Python, the SDK or the build need.
pub fn is_pythons(module: &str) -> bool {
    module == MAIN || module == "weir_plugin" || OWN_MODULES.split_ascii_whitespace().any(|own| own == module)
}

/// What is read of a `pyproject.toml`.
#[derive(Deserialize)]
struct Manifest {
    project: Option<About>,
    #[serde(default)]
    tool: Tools,
}

#[derive(Deserialize)]
struct About {
    name: String,
    version: Option<String>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    dependencies: Vec<String>,
}

#[derive(Default, Deserialize)]
struct Tools {
    #[serde(default)]
    weir: Own,
}

/// The table `tool.weir`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    /// The module with the plugin; named as the project unless given.
    module: Option<String>,
    #[serde(default)]
    files: bool,
}

/// A project in Python.
struct Package {
    project: Project,
    module: String,
    /// The directory with the module.
    source: PathBuf,
    /// The packages that it needs beside the SDK.
    dependencies: Vec<String>,
}

pub fn build(dir: &Path, out: &Path) -> Result<Built> {
    let dir = &dir.canonicalize()?;
    let package = Package::read(dir)?;
    let tools = format!("{COMPONENTIZE_PY} {}", sdk::version());
    unless_unchanged(dir, out, &tools, |own| {
        let python = Python::find()?;
        let workshop = workshop(own)?;
        let at = workshop.path();
        let sdk = if dir.join(VENDORED).is_dir() {
            dir.join("vendor")
        } else {
            sdk::write(sdk::PYTHON, &at.join("sdk/weir_plugin"))?;
            at.join("sdk")
        };
        let packages = package.install(&python, at)?;
        let path = [at, &package.source, &sdk, &packages];
        let described = package.describe(&python, &path)?;
        let component = package.componentize(&python, own, at, &path)?;
        package.project.finish(component, &described, out)
    })
}

/// The modules and packages in a directory.
fn modules(source: &Path) -> Result<Vec<String>> {
    let mut modules = Vec::new();
    for entry in fs::read_dir(source).with_context(|| format!("reading {}", source.display()))? {
        let path = entry?.path();
        let is_module = path.extension().is_some_and(|end| end == "py") || path.join("__init__.py").is_file();
        modules.extend(path.file_stem().filter(|_| is_module).and_then(|name| name.to_str()).map(str::to_owned));
    }
    modules.sort();
    Ok(modules)
}

impl Package {
    fn read(dir: &Path) -> Result<Package> {
        let text = fs::read_to_string(dir.join("pyproject.toml")).context("reading its pyproject.toml")?;
        let manifest: Manifest = toml::from_str(&text).context("its pyproject.toml is not as it should be")?;
        let about = manifest.project.context("its pyproject.toml has no [project]: give it a name and a version")?;
        check_name(&about.name, "pyproject.toml")?;
        let version = about.version.context("its pyproject.toml has no `version` in [project]")?;
        let own = manifest.tool.weir;
        let module = own.module.unwrap_or_else(|| about.name.replace(['-', '.'], "_"));
        let is_name = |part: &str| {
            part.chars().all(|c| c.is_alphanumeric() || c == '_') && !part.starts_with(|c: char| c.is_numeric())
        };
        ensure!(
            !module.is_empty() && module.split('.').all(|part| !part.is_empty() && is_name(part)),
            "`{}` is no name of a module: say which it is in its pyproject.toml\n  [tool.weir]\n  module = \"…\"",
            crate::cli::screen::harmless(&module)
        );
        let path = module.replace('.', "/");
        let has = |source: &&PathBuf| {
            source.join(format!("{path}.py")).is_file() || source.join(&path).join("__init__.py").is_file()
        };
        let Some(source) = [dir.to_owned(), dir.join("src")].iter().find(has).cloned() else {
            bail!(
                "it has neither {path}.py nor src/{path}.py: put the plugin there, or say in its pyproject.toml where it \
                 is\n  [tool.weir]\n  module = \"…\""
            );
        };
        if let Some(module) = modules(&source)?.into_iter().find(|module| is_pythons(module)) {
            bail!(
                "its module `{module}` takes the place of Python's own, for all that import it: give it another name, and if it \
                 is the plugin say so in its pyproject.toml\n  [tool.weir]\n  module = \"{module}_plugin\""
            );
        }
        let is_other = |dependency: &String| {
            let name = dependency.split(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))).next();
            name.is_some_and(|name| name.replace('_', "-") != "weir-plugin")
        };
        Ok(Package {
            project: Project { name: about.name, version, description: about.description, files: own.files },
            module,
            source,
            dependencies: about.dependencies.into_iter().filter(is_other).collect(),
        })
    }

    /// Installs what the plugin needs beside the SDK, which must be Python and nothing else.
    fn install(&self, python: &Python, at: &Path) -> Result<PathBuf> {
        let packages = at.join("packages");
        fs::create_dir(&packages)?;
        if !self.dependencies.is_empty() {
            complain!("installing {} by pip", self.dependencies.join(" "));
            let names: Vec<_> = self.dependencies.iter().map(String::as_str).collect();
            let pure = ["--only-binary=:all:", "--platform=any", "--implementation=py", "--abi=none"];
            let version = format!("--python-version={INNER_PYTHON}");
            let arguments: Vec<_> = pure.into_iter().chain([version.as_str()]).collect();
            python.install(&names, &packages, &arguments).context("a plugin may need packages of pure Python only")?;
        }
        Ok(packages)
    }

    /// What the plugin says of itself, asked outside of the sandbox.
    fn describe(&self, python: &Python, path: &[&Path]) -> Result<Description> {
        let mut command = python.command(path)?;
        let output = command.args(["-m", "weir_plugin.describe", &self.module]).stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "the module {} cannot be imported", self.module);
        // The last line: what the module prints by itself comes before.
        let said = output.stdout.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        serde_json::from_slice(said).context("reading what the module says of itself")
    }

    fn componentize(&self, python: &Python, own: &Path, at: &Path, path: &[&Path]) -> Result<Vec<u8>> {
        let tool = python.componentize_py(own)?;
        let main = format!("import {}\nfrom weir_plugin.guest import Processor\n", self.module);
        fs::write(at.join(format!("{MAIN}.py")), main)?;
        let made = at.join("plugin.wasm");
        let mut command = python.command(&[&tool])?;
        command.args(["-c", "import sys, componentize_py; sys.exit(componentize_py.script())", "--quiet", "-d"]);
        command.arg(at.join("wit")).args(["-w", self.project.world(), "componentize", "--stub-wasi"]);
        for dir in path {
            command.arg("-p").arg(dir);
        }
        // An empty environment, so that nothing of what is installed elsewhere gets in.
        let environment = at.join("venv");
        fs::create_dir_all(environment.join("lib/site-packages"))?;
        command.args([MAIN, "-o"]).arg(&made).env("VIRTUAL_ENV", environment).stdout(Stdio::null());
        let status = command.status().context("running componentize-py")?;
        ensure!(status.success(), "componentize-py failed");
        fs::read(&made).context("reading what componentize-py made")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(manifest: &str, files: &[&str]) -> Result<Package, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("pyproject.toml"), manifest).unwrap();
        for file in files {
            let file = dir.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        Package::read(dir.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_manifest_says_name_module_and_packages() {
        let text =
            "[project]\nname = 'my-parser'\nversion = '1.2'\ndependencies = ['weir-plugin>=0.1', 'attrs ~= 25.0']";
        let package = read(text, &["my_parser.py"]).unwrap();
        assert_eq!(
            (package.module.as_str(), &package.dependencies[..]),
            ("my_parser", &["attrs ~= 25.0".to_owned()][..])
        );
        assert_eq!((package.project.version.as_str(), package.project.world()), ("1.2", "guest"));
        let text = format!("{text}\n[tool.weir]\nmodule = 'a.b'\nfiles = true");
        let package = read(&text, &["src/a/b/__init__.py"]).unwrap();
        assert!(package.source.ends_with("src"));
        assert_eq!(package.project.world(), "guest-with-files");
    }

    #[test]
    fn what_is_missing_is_said() {
        let project = "[project]\nname = 'p'\nversion = '1'\n";
        for (text, files, expected) in [
            ("[project", vec![], "its pyproject.toml is not as it should be"),
            ("[tool.x]", vec![], "its pyproject.toml has no [project]: give it a name and a version"),
            ("[project]\nname = 'p'", vec!["p.py"], "its pyproject.toml has no `version` in [project]"),
            ("[project]\nname = 'a/b'\nversion = '1'", vec![], "the name \"a/b\" in its pyproject.toml cannot"),
            (&project.replace("'p'", "'json'"), vec!["json.py"], "its module `json` takes the place of Python's own"),
            (project, vec!["p.py", "types.py"], "its module `types` takes the place of Python's own"),
            (project, vec!["p.py", "email/__init__.py"], "its module `email` takes the place of"),
            (project, vec!["q.py"], "it has neither p.py nor src/p.py: put the plugin there, or say in its"),
            (&format!("{project}[tool.weir]\nmodule = '../x'"), vec![], "`../x` is no name of a module"),
            (&format!("{project}[tool.weir]\nmodul = 'x'"), vec![], "its pyproject.toml is not as it should be"),
        ] {
            let said = read(text, &files).err().unwrap();
            assert!(said.starts_with(expected), "{said}");
        }
    }
}
