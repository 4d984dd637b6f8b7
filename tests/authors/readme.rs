//! The README, and pages whose commands go on from there: each command in its order, in a directory that is laid out like
//! the project.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::first_plugin::{fenced, newcomer};
use crate::harness::{Site, access_log, binary, plugins, repository};
use crate::registries::Docker;

fn page(name: &str) -> String {
    fs::read_to_string(repository().join(name)).unwrap()
}

/// The lines of a page that are set in, in groups: what commands print.
fn shown(page: &str) -> Vec<Vec<&str>> {
    let (mut groups, mut is_code) = (vec![Vec::new()], false);
    for line in page.lines() {
        is_code ^= line.starts_with("```");
        match line.strip_prefix("    ").filter(|_| !is_code) {
            Some(line) => groups.last_mut().unwrap().push(line),
            None if groups.last().unwrap().is_empty() => {}
            None => groups.push(Vec::new()),
        }
    }
    groups.retain(|group| !group.is_empty());
    groups
}

/// The project as `make demo` leaves it: what was built, and the SDK beside it.
fn checkout(site: &Site) -> PathBuf {
    let checkout = site.path("checkout");
    fs::create_dir_all(checkout.join("target/release")).unwrap();
    symlink(binary(), checkout.join("target/release/weir")).unwrap();
    symlink(plugins(), checkout.join("target/plugins")).unwrap();
    let copied = std::process::Command::new("cp").arg("-r").arg(repository().join("sdk")).arg(&checkout).status();
    assert!(copied.unwrap().success());
    let copied = std::process::Command::new("cp").arg("-r").arg(repository().join("wit")).arg(&checkout).status();
    assert!(copied.unwrap().success());
    // It says what is common to all crates.
    let manifest = page("Cargo.toml");
    let members = manifest.lines().find(|line| line.starts_with("members")).expect("a list of members");
    site.write("checkout/Cargo.toml", manifest.replace(members, "members = [\"sdk/rust\", \"sdk/rust-macros\"]"));
    checkout
}

/// Runs commands in the checkout; gives what they print.
#[track_caller]
fn run(site: &Site, script: &str) -> String {
    run_with(site, script, true)
}

#[track_caller]
fn run_with(site: &Site, script: &str, is_good: bool) -> String {
    let _ = fs::remove_dir_all(site.path("bin"));
    let mut shell = newcomer(site);
    let output = shell.args(["-euc", script]).current_dir(site.path("checkout")).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.success(), is_good, "{script}\n{said}{errors}");
    said.into_owned()
}

/// All these lines are there, one after the other, but for spaces; `…` is any.
#[track_caller]
fn assert_says(said: &str, lines: &[&str]) {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut rest = said.lines().map(words);
    for line in lines.iter().filter(|line| line.trim() != "…") {
        assert!(rest.any(|said| said == words(line)), "nothing says {line:?} in its place:\n{said}");
    }
}

/// Everything of the README up to its plugin, but for what takes the whole project: `make demo` and `make test`.
fn follow_readme(site: &Site) {
    checkout(site);
    let readme = page("README.md");
    let [yaml, rust, toml] = ["yaml", "rust", "toml"].map(|language| fenced(&readme, language));
    assert_eq!((yaml.len(), rust.len(), toml.len()), (1, 1, 1));
    site.write("checkout/weir.yaml", &yaml[0]);
    site.write("checkout/level/src/lib.rs", &rust[0]);
    site.write("checkout/level/Cargo.toml", &toml[0]);
    let blocks = fenced(&readme, "sh");
    assert_eq!(blocks[..2], ["make demo\n", "make test\n"]);
    let [using, writing] = &blocks[2..] else { panic!("{blocks:?}") };

    let said = run(site, using);
    let first: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert!(first["remote_addr"].is_string() && first["__tags__"]["path"].is_string(), "{first}");
    let made = fs::read_to_string(site.path("checkout/out/shop/nginx-access.ndjson")).unwrap();
    assert_eq!(made.lines().count(), 1000);

    let said = run(site, writing);
    let shown = shown(&readme);
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert!(said.ends_with(&(shown[0].join("\n") + "\n")), "{said}");
}

/// The plugin and the test of the page on plugins, and its commands but the one that does not end.
fn follow_plugins(site: &Site) {
    let plugins = page("docs/plugins.md");
    let rust = fenced(&plugins, "rust");
    let with = |words: &str| rust.iter().find(|block| block.contains(words)).unwrap();
    let manifest = fs::read_to_string(site.path("checkout/level/Cargo.toml")).unwrap();
    site.write("checkout/join/Cargo.toml", manifest.replace("\"level\"", "\"join\""));
    site.write("checkout/join/src/lib.rs", with("weir_plugin::export!(Join)"));
    let code = fs::read_to_string(site.path("checkout/level/src/lib.rs")).unwrap();
    site.write("checkout/level/src/lib.rs", format!("{code}\n{}", with("#[test]")));
    run(
        site,
        "weir plugin build join; cp join/join.wasm level/level.wasm .; echo '{\"drop\": \"debug\"}' > level.json
         printf 'warn: a\\n  b\\ndebug: c\\n' > app.log; cp logs/access.log .
         cargo test --manifest-path level/Cargo.toml",
    );
    let shown = shown(&plugins);
    let commands = shown.iter().find(|group| group[0].starts_with("weir pipe ")).unwrap();
    let [join, nginx, both, watch] = commands[..] else { panic!("{commands:?}") };
    assert!(watch.contains("--watch join"));
    let expected = "{\"content\":\"warn: a\\n  b\"}\n{\"content\":\"debug: c\"}\n";
    assert_eq!(run(site, join), expected);
    assert_eq!(run(site, nginx).matches("\"remote_addr\"").count(), 1000);
    assert_eq!(run(site, both), "{\"level\":\"warn\",\"message\":\"a\\n  b\"}\n");
    site.write("checkout/level/src/lib.rs", code);
}

#[test]
fn every_command_of_the_readme_and_of_the_pages_on_plugins_and_testing_does_what_is_said() {
    let site = Site::new();
    follow_readme(&site);
    follow_plugins(&site);
    let testing = page("docs/testing.md");
    let blocks = fenced(&testing, "sh");
    assert_eq!(blocks.len(), 1);
    let shown = shown(&testing);
    let of = |words: &str| shown.iter().find(|group| group.iter().any(|line| line.contains(words))).unwrap();
    assert_says(&run(&site, &blocks[0]), of("blessed"));
    assert!(site.path("checkout/level/tests/golden/some.expected.ndjson").exists());
    assert!(testing.contains(
        "Then change `.ok_or(\"no level\")?` to `.unwrap()`, and run `target/release/weir plugin test level`:"
    ));
    let code = fs::read_to_string(site.path("checkout/level/src/lib.rs")).unwrap();
    site.write("checkout/level/src/lib.rs", code.replace(".ok_or(\"no level\")?", ".unwrap()"));
    assert_says(&run_with(&site, "target/release/weir plugin test level", false), of("FAILED"));
}

#[test]
fn every_command_of_the_page_on_distribution_works_against_a_registry() {
    let site = Site::new();
    let registry = Docker::start(&site);
    fs::create_dir_all(site.path("checkout/plugins")).unwrap();
    fs::copy(plugins().join("nginx.wasm"), site.path("checkout/nginx.wasm")).unwrap();
    let text = page("docs/distribution.md");
    let [mut console, sh] = ["console", "sh"].map(|language| fenced(&text, language));
    console.iter_mut().for_each(|block| *block = block.replace("registry.example", &registry.address));
    let [through, to_agent, into_image, signing, signed] = &console[..] else { panic!("{console:?}") };
    let [openssl] = &sh[..] else { panic!("{sh:?}") };

    let said = run(&site, through);
    let name = format!("oci://{}/team/nginx", registry.address);
    assert!(said.starts_with(&format!("{name}@sha256:")) && said.contains("\nnginx.wasm: nginx 0.1.0, "), "{said}");
    run(&site, signing);
    assert!(run(&site, openssl).ends_with("Verified OK\n"));
    let said = run(&site, signed);
    let digest = said.lines().find_map(|line| line.strip_prefix(&format!("{name}@"))).unwrap();
    run(&site, &into_image.replace("sha256:…", digest));
    let bytes = |name: &str| fs::read(site.path(format!("checkout/{name}"))).unwrap();
    assert_eq!(bytes("plugins/nginx.wasm"), bytes("nginx.wasm"));

    site.write("logs/a.log", access_log(100));
    let plugin = "{ use: nginx, settings: { format: main } }";
    site.config(&format!("- {{ name: shop/nginx-access, files: {{ root: logs }}, plugins: [{plugin}], sink: out }}"));
    let config = fs::read_to_string(site.path("weir.yaml")).unwrap();
    site.write("weir.yaml", format!("admin: {{ listen: '127.0.0.1:0' }}\n{config}"));
    let mut agent = site.start();
    let address = agent.admin();
    agent.wait_for_lines("shop/nginx-access", 100);
    let asked = to_agent.replace("-c weir.yaml", &format!("-c ../weir.yaml --address http://{address}"));
    assert_ne!(asked, *to_agent);
    let said = run(&site, &asked);
    assert!(said.ends_with("\nshop/nginx-access runs version 1\n"), "{said}");
    agent.stop().assert_settled();
}
