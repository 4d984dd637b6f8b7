//! `weir plugin new`: a project that builds, tests and runs at once.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::build::{Language, is_pythons, sdk};
use crate::cli::Usage;
use crate::cli::screen::{harmless, print};

/// Begin a plugin: a project with a parser of a made-up format, its tests, and the SDK
#[derive(clap::Args)]
pub struct Args {
    /// Its name, which is also the directory that is made
    #[arg(value_name = "NAME")]
    name: String,
    /// Which language
    #[arg(long, value_enum)]
    lang: Language,
}

/// Bytes of a plugin's name.
const NAME_BYTES: usize = 48;

/// Names that no crate of a plugin can have: Rust's keywords, its own crates, and the SDK's.
const TAKEN: &str = "abstract alloc allocator-api2 as async await become box break const continue core crate do dyn else enum extern \
    false final fn for gen if impl in let loop macro match memchr mod move mut override priv proc-macro pub ref return \
    self serde serde-json static std struct super talc test trait true try type typeof unsafe unsized use virtual wasm32 where \
    while wit-bindgen yield weir-plugin weir-plugin-macros weir-plugin-regex";

/// Words that no module of Python can have as its name.
const PYTHONS_KEYWORDS: &str = "and assert class def del elif except finally from global import is lambda nonlocal not or \
    pass raise with";

/// Files of a project, by their paths in it. `NAME` in them is the plugin's name, `MODULE` the [`module`] of it.
type Template = &'static [(&'static str, &'static str)];

/// What the projects of all languages have.
const SHARED: Template = &[
    ("tests/golden/lines.log", include_str!("shared/golden/lines.log")),
    ("tests/golden/lines.settings.json", include_str!("shared/golden/lines.settings.json")),
    ("tests/golden/lines.expected.ndjson", include_str!("shared/golden/lines.expected.ndjson")),
    ("README.md", include_str!("shared/README.md")),
    (".github/workflows/plugin.yml", include_str!("shared/ci.yml")),
];

const RUST: Template = &[
    ("Cargo.toml", include_str!("rust/Cargo.toml")),
    ("src/lib.rs", include_str!("rust/src/lib.rs")),
    ("tests/golden.rs", include_str!("rust/tests/golden.rs")),
    (".gitignore", "/target\n*.wasm\n"),
];

const PYTHON: Template = &[
    ("pyproject.toml", include_str!("python/pyproject.toml")),
    ("MODULE.py", include_str!("python/module.py")),
    ("tests/__init__.py", include_str!("python/tests/__init__.py")),
    ("tests/test_golden.py", include_str!("python/tests/test_golden.py")),
    (".gitignore", "__pycache__/\n.weir/\n*.wasm\n"),
];

const JS: Template = &[
    ("package.json", include_str!("js/package.json")),
    ("index.js", include_str!("js/index.js")),
    ("tests/golden.test.js", include_str!("js/tests/golden.test.js")),
    (".gitignore", "/node_modules\n.weir/\n*.wasm\n"),
];

/// What differs between the languages beside their files.
struct Ways {
    template: Template,
    /// Runs the tests outside of the sandbox.
    native: &'static str,
    /// A step of the CI that sets up the language.
    setup: &'static str,
}

fn ways(language: Language) -> Ways {
    match language {
        Language::Rust => Ways {
            template: RUST,
            native: "cargo test",
            setup: "      - run: rustup toolchain install stable --target wasm32-unknown-unknown",
        },
        Language::Python => Ways {
            template: PYTHON,
            native: "python3 -m unittest",
            setup: "      - uses: actions/setup-python@v5\n        with: { python-version: \"3.13\" }",
        },
        Language::Js => Ways {
            template: JS,
            native: "npm install && npm test",
            setup: "      - uses: actions/setup-node@v4\n        with: { node-version: 24 }",
        },
    }
}

pub fn run(args: &Args) -> Result<()> {
    check_name(&args.name)?;
    let dir = Path::new(&args.name);
    make(&args.name, args.lang, dir)?;
    let Args { name, .. } = args;
    print(&format!(
        "{name} is there: a parser that works, with its tests. Next:\n\n  \
         cd {name}\n  weir plugin build\n  weir plugin test\n"
    ))
}

/// Makes a project in a directory that does not exist yet.
fn make(name: &str, language: Language, dir: &Path) -> Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("{} exists already: choose another name, or remove it", dir.display())
        }
        made => made.with_context(|| format!("making {}", dir.display()))?,
    }
    let ways = ways(language);
    for (path, text) in SHARED.iter().chain(ways.template) {
        write(
            &dir.join(filled(path, name)),
            &filled(text, name).replace("NATIVE", ways.native).replace("SETUP", ways.setup),
        )?;
    }
    let vendor = dir.join("vendor");
    match language {
        Language::Rust => sdk::write_rust(&vendor),
        Language::Python => sdk::write(sdk::PYTHON, &vendor.join("weir_plugin")),
        Language::Js => sdk::write(sdk::JS, &vendor.join("weir-plugin")),
    }
}

fn filled(text: &str, name: &str) -> String {
    text.replace("NAME", name).replace("MODULE", &module(name))
}

/// The name as an identifier; where a module of that name would take the place of one of Python's, another.
fn module(name: &str) -> String {
    let module = name.replace('-', "_");
    let is_taken = is_pythons(&module) || is_listed(PYTHONS_KEYWORDS, &module);
    if is_taken { format!("{module}_plugin") } else { module }
}

fn is_listed(list: &str, name: &str) -> bool {
    list.split_ascii_whitespace().any(|listed| listed == name)
}

fn write(path: &PathBuf, text: &str) -> Result<()> {
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        fs::write(path, text)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// A name that a crate, a module of Python, a package of npm and a plugin may all have.
fn check_name(name: &str) -> Result<()> {
    let check = || {
        let is_sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        ensure!(
            name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(is_sound) && !name.ends_with('-'),
            "\"{}\" cannot be a plugin's name: use small letters, digits and `-`, a letter first, as in my-parser",
            harmless(name)
        );
        ensure!(name.len() <= NAME_BYTES, "a plugin's name has {NAME_BYTES} letters at most");
        ensure!(!is_listed(TAKEN, name), "\"{name}\" is taken by Rust or the SDK: choose another name");
        Ok(())
    };
    check().map_err(|error| Usage(error.to_string()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_crates_modules_and_packages() {
        for name in ["a", "my-parser", "p2"] {
            check_name(name).unwrap();
        }
        for name in [
            "",
            "My",
            "2p",
            "a_b",
            "a.b",
            "../a",
            "a b",
            "-a",
            "a-",
            "é",
            "std",
            "match",
            "weir-plugin",
            &"a".repeat(49),
        ] {
            assert!(check_name(name).unwrap_err().is::<Usage>(), "{name}");
        }
    }

    #[test]
    fn a_module_takes_the_place_of_none_of_pythons() {
        for (name, expected) in [
            ("my-parser", "my_parser"),
            ("json", "json_plugin"),
            ("csv", "csv_plugin"),
            ("logging", "logging_plugin"),
            ("class", "class_plugin"),
            ("weir-main", "weir_main_plugin"),
            ("nginx", "nginx"),
        ] {
            check_name(name).unwrap();
            assert_eq!(module(name), expected);
        }
        let dir = tempfile::tempdir().unwrap();
        let project = dir.path().join("json");
        make("json", Language::Python, &project).unwrap();
        assert!(project.join("json_plugin.py").is_file() && !project.join("json.py").exists());
        let manifest = fs::read_to_string(project.join("pyproject.toml")).unwrap();
        assert!(
            manifest.contains("name = \"json\"\n") && manifest.contains("module = \"json_plugin\"\n"),
            "{manifest}"
        );
    }

    #[test]
    fn nothing_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let said = make("p", Language::Js, dir.path()).unwrap_err().to_string();
        assert!(said.ends_with("exists already: choose another name, or remove it"), "{said}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_project_has_its_name_everywhere() {
        for language in [Language::Rust, Language::Python, Language::Js] {
            let dir = tempfile::tempdir().unwrap();
            let project = dir.path().join("my-parser");
            make("my-parser", language, &project).unwrap();
            for (path, _) in SHARED.iter().chain(ways(language).template) {
                let path = project.join(filled(path, "my-parser"));
                let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                for left in ["NAME", "MODULE", "NATIVE", "SETUP"] {
                    assert!(!text.contains(left), "{left} in {}", path.display());
                }
            }
        }
    }
}
