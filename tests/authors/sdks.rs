//! The SDKs for Python and JavaScript by themselves: their own tests, and their types.

use std::fs;
use std::path::PathBuf;
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

#[test]
fn python_is_typed() {
    let mut setup = Command::new("python3");
    let python = succeeds(setup.arg(repository().join("tests/servers/setup.py")).arg(cache_home()));
    let mut mypy = Command::new(python.lines().last().unwrap());
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
