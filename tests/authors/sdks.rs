//! The SDKs for Python and JavaScript by themselves: their own tests, and their types.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Site, cache_home, repository};

/// Checks what the pages show against the types of the SDK.
const TYPESCRIPT: &str = "typescript@5.9.3";

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = command.env("PYTHONDONTWRITEBYTECODE", "1").output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{said}{errors}", output.status);
    format!("{said}{errors}")
}

fn sdk(language: &str) -> PathBuf {
    repository().join("sdk").join(language)
}

#[test]
fn pythons_tests_pass() {
    let said = succeeds(Command::new("python3").args(["-m", "unittest"]).current_dir(sdk("python")));
    assert!(said.contains("\nRan ") && !said.contains("Ran 0 tests"), "{said}");
}

/// A Python with pip, which is the tests' own.
fn python() -> Command {
    let mut setup = Command::new("python3");
    let python = succeeds(setup.arg(repository().join("tests/servers/setup.py")).arg(cache_home()));
    Command::new(python.lines().last().unwrap())
}

/// A copy of an SDK, in which a package manager may leave what it likes.
fn copy(site: &Site, language: &str) -> PathBuf {
    succeeds(Command::new("cp").arg("-r").arg(sdk(language)).arg(site.path("sdk")));
    site.path("sdk")
}

/// Names of the files in a directory.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    let mut names: Vec<_> = files.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_pip_makes_of_the_python_sdk_has_all_of_it() {
    let site = Site::new();
    let (sdk, wheels, installed) = (copy(&site, "python"), site.path("wheels"), site.path("installed"));
    let pip = ["-m", "pip", "--disable-pip-version-check"];
    succeeds(python().args(pip).args(["wheel", "--quiet", "--no-deps", "-w"]).arg(&wheels).arg(&sdk));
    let wheel = wheels.join("weir_plugin-0.1.0-py3-none-any.whl");
    succeeds(python().args(pip).args(["install", "--quiet", "--no-deps", "--target"]).arg(&installed).arg(&wheel));
    let expected = names(&self::sdk("python").join("weir_plugin"));
    assert!(expected.contains(&"py.typed".to_owned()));
    assert_eq!(names(&installed.join("weir_plugin")), expected);
    // Its own tests, of what is installed.
    fs::remove_dir_all(sdk.join("weir_plugin")).unwrap();
    let said = succeeds(python().args(["-m", "unittest"]).current_dir(&sdk).env("PYTHONPATH", &installed));
    assert!(said.contains("\nRan ") && !said.contains("Ran 0 tests"), "{said}");
}

#[test]
fn what_npm_makes_of_the_javascript_sdk_has_all_of_it() {
    let site = Site::new();
    let sdk = copy(&site, "js");
    succeeds(Command::new("npm").args(["pack", "--silent"]).current_dir(&sdk));
    fs::create_dir(site.path("user")).unwrap();
    site.write("user/package.json", r#"{ "private": true }"#);
    let install = ["install", "--no-audit", "--no-fund", "--offline", "../sdk/weir-plugin-0.1.0.tgz"];
    succeeds(Command::new("npm").args(install).current_dir(site.path("user")));
    let installed = site.path("user/node_modules/weir-plugin");
    assert_eq!(names(&installed), ["README.md", "package.json"]);
    assert_eq!(names(&installed.join("src")), names(&sdk.join("src")));
    // All that it exports to authors is found.
    let code = "import * as sdk from 'weir-plugin'; import * as testing from 'weir-plugin/testing';
console.log(typeof sdk.fail, typeof testing.Harness);";
    let mut node = Command::new("node");
    let said = succeeds(node.args(["--input-type=module", "-e", code]).current_dir(site.path("user")));
    assert_eq!(said, "function function\n");
}

#[test]
fn python_is_typed() {
    let mut mypy = python();
    mypy.args(["-m", "mypy", "--cache-dir"]).arg(cache_home().join("mypy")).current_dir(sdk("python"));
    let said = succeeds(&mut mypy);
    assert!(said.starts_with("Success: no issues found in "), "{said}");
}

#[test]
fn javascripts_tests_pass() {
    let said = succeeds(Command::new("node").args(["--test", "--test-reporter=tap"]).current_dir(sdk("js")));
    assert!(said.contains("# fail 0") && !said.contains("# pass 0"), "{said}");
}

#[test]
fn what_the_page_shows_in_typescript_has_the_right_types() {
    let page = fs::read_to_string(repository().join("docs/javascript.md")).unwrap();
    let blocks: Vec<_> = page.split("```ts\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert_eq!(blocks.len(), 2);
    let site = Site::new();
    assert_eq!(site.output(["plugin", "new", "typed", "--lang", "js"]).status.code(), Some(0));
    let project = site.path("typed");
    succeeds(Command::new("npm").args(["install", "--no-audit", "--no-fund"]).current_dir(&project));
    let tools = cache_home().join("typescript");
    fs::create_dir_all(&tools).unwrap();
    let install = ["install", "--no-audit", "--no-fund", "--prefix"];
    succeeds(Command::new("npm").args(install).arg(&tools).arg(TYPESCRIPT));
    let check = |code: &str| {
        site.write("typed/shown.ts", code);
        let mut tsc = Command::new(tools.join("node_modules/.bin/tsc"));
        tsc.args(["--noEmit", "--strict", "--module", "nodenext", "--target", "es2022", "shown.ts"]);
        tsc.current_dir(&project).output().unwrap()
    };
    for block in blocks {
        let output = check(block);
        assert!(output.status.success(), "{block}{}", String::from_utf8_lossy(&output.stdout));
    }
    // And it would say if they were wrong.
    let wrong =
        check("import { type Row } from \"weir-plugin\";\nexport const put = (row: Row) => row.put(1n, {}, 2);\n");
    let said = String::from_utf8_lossy(&wrong.stdout);
    assert!(!wrong.status.success() && said.contains("shown.ts(2,"), "{said}");
}
