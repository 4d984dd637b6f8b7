//! *Your first plugin*, word by word: every command of the page, and every plugin that it shows, in an empty directory,
//! by a user who has nothing of plugins yet: no toolchain but Rust's, nothing downloaded.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Site, binary, repository};

/// Seconds until the parser runs for the first time, with all downloads; and for any other block from then on.
const BEGIN: f64 = 600.0;
const AGAIN: f64 = 60.0;

/// What says how to reach the network and its registries; all else is as on a new machine.
const KEPT: [&str; 12] = [
    "PIP_",
    "NPM_CONFIG_",
    "npm_config_",
    "SSL_",
    "NODE_EXTRA",
    "REQUESTS_",
    "CURL_",
    "HTTP_",
    "HTTPS_",
    "http",
    "no_proxy",
    "PYENV_ROOT",
];

/// What a project's CI does, but for what sets a machine up.
const JOB: &str = "cp .github/workflows/plugin.yml ..
sed -n 's/^ *- run: //p' ../plugin.yml | grep -v -e '|' -e rustup > ../job
sh -e ../job
";

#[test]
fn in_rust() {
    follow("docs/first-plugin.md", "rust", "true");
}

#[test]
fn in_python() {
    follow("docs/python.md", "python", "cp $BLOCK first.py");
}

#[test]
fn in_javascript() {
    follow("docs/javascript.md", "ts", "rm -f index.js; sed -i s/index.js/index.ts/ package.json; cp $BLOCK index.ts");
}

/// What a page's plugins do, in their order: to a line, and what comes out.
const SHOWN: [(&str, &str); 2] = [
    ("warn: disk is full", r#"{"level":"warn","message":"disk is full"}"#),
    (
        r#"::1 "GET / HTTP/1.1" 200 2024-05-01T12:00:00Z"#,
        r#"{"address":"::1","request":"GET / HTTP/1.1","status":200,"time":"2024-05-01T12:00:00Z","__time__":"2024-05-01T12:00:00Z"}"#,
    ),
];

/// Runs the page's commands, then each plugin that it shows in that language, when `replace` has put it into the
/// project.
fn follow(page: &str, language: &str, replace: &str) {
    let text = fs::read_to_string(repository().join(page)).unwrap();
    let mut blocks = fenced(&text, "sh");
    assert!(blocks.len() >= 4, "{page}: {blocks:?}");
    let site = Site::new();
    let plugins = fenced(&text, language);
    assert!(plugins.is_empty() || plugins.len() == SHOWN.len(), "{page}: {plugins:?}");
    blocks.push(JOB.into());
    for (i, (code, (line, _))) in plugins.iter().zip(SHOWN).enumerate() {
        site.write(&format!("plugin{i}"), code);
        let block = site.path(format!("plugin{i}"));
        blocks.push(format!(
            "BLOCK={}; {replace}\nweir plugin build\necho '{line}' | weir pipe --plugin ./first.wasm\n",
            block.display()
        ));
    }
    let stamp = format!("\ndate +%s.%N >> {}\n", site.path("times").display());
    let script = format!("{stamp}{}{stamp}", blocks.join(&stamp));
    fs::create_dir(site.path("empty")).unwrap();
    let output = newcomer(&site).args(["-euc", &script]).current_dir(site.path("empty")).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{page}: {}\n{said}{errors}", output.status);

    // What the page shows is what comes out, in its order.
    let mut rest = &*said;
    let shown: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("    ")).filter(|l| l.starts_with('{')).collect();
    assert_eq!(shown.len(), 3, "{page}: {shown:?}");
    for line in shown.into_iter().chain(plugins.iter().zip(SHOWN).map(|(_, (_, out))| out)) {
        let at = rest.find(line).unwrap_or_else(|| panic!("{page}: nothing says {line} in its place:\n{said}"));
        rest = &rest[at + line.len()..];
    }

    let workflow = fs::read_to_string(site.path("empty/plugin.yml")).unwrap();
    assert!(saphyr_parser::Parser::new_from_str(&workflow).all(|event| event.is_ok()), "{workflow}");
    let job = fs::read_to_string(site.path("empty/job")).unwrap();
    assert_eq!(job.lines().take(2).collect::<Vec<_>>(), ["weir plugin build .", "weir plugin test ."]);
    assert_eq!(job.lines().count(), 3, "{job}");

    let times = fs::read_to_string(site.path("times")).unwrap();
    let times: Vec<f64> = times.lines().map(|line| line.parse().unwrap()).collect();
    let took: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // The second block ends with lines through the parser.
    let (begin, again) = took.split_at(2);
    println!("{page}: {:.0} s until it runs; then, by block, {again:.1?} s", begin.iter().sum::<f64>());
    assert!(begin.iter().sum::<f64>() <= BEGIN, "{page}: {took:?}");
    assert!(again.iter().all(|block| *block <= AGAIN), "{page}: {took:?}");
}

/// The blocks of a page in that language.
pub fn fenced(page: &str, language: &str) -> Vec<String> {
    let begin = format!("```{language}\n");
    page.split(&begin).skip(1).map(|rest| rest.split_once("```").unwrap().0.to_owned()).collect()
}

/// A shell of somebody with a new home directory, and with `weir` in PATH.
pub fn newcomer(site: &Site) -> Command {
    let home = PathBuf::from(env::var_os("HOME").expect("a home directory"));
    let (ours, cargo) = (site.path("home"), site.path("home/.cargo"));
    fs::create_dir_all(&cargo).unwrap();
    fs::create_dir(site.path("bin")).unwrap();
    symlink(binary(), site.path("bin/weir")).unwrap();
    // Where crates and packages come from belongs to the machine.
    let cargo_home = env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    keep(&cargo_home.join("config.toml"), &cargo.join("config.toml"));
    keep(&home.join(".npmrc"), &ours.join(".npmrc"));
    let rustup = env::var_os("RUSTUP_HOME").map_or_else(|| home.join(".rustup"), PathBuf::from);

    let mut shell = Command::new("sh");
    shell.env_clear();
    for (name, value) in env::vars_os() {
        if name.to_str().is_some_and(|name| KEPT.iter().any(|kept| name.starts_with(kept))) {
            shell.env(name, value);
        }
    }
    let path = format!("{}:{}", site.path("bin").display(), env::var("PATH").unwrap());
    shell
        .env("PATH", path)
        .env("HOME", ours)
        .env("CARGO_HOME", cargo)
        .env("RUSTUP_HOME", rustup)
        .env("LANG", "C.UTF-8");
    shell
}

fn keep(from: &Path, to: &Path) {
    if from.exists() {
        fs::copy(from, to).unwrap();
    }
}
