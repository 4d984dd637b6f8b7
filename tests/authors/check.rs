//! `weir plugin check`: the words of an upload's checks, without an agent.

use std::fs;

use crate::harness::{Done, Site, access_log, plugins};

fn check(site: &Site, args: &[&str]) -> Done {
    site.output(["plugin", "check"].iter().chain(args))
}

fn wasm(name: &str) -> String {
    plugins().join(format!("{name}.wasm")).display().to_string()
}

const ALL: [&str; 7] = ["size", "signature", "plugin API", "imports", "limits", "compiling", "settings"];

/// The checks that pass, and what is said of the next.
fn lines(passed: usize, next: &str) -> String {
    let mut text: String = ALL[..passed].iter().map(|check| format!("{check:<12}passed\n")).collect();
    text += next;
    text
}

/// The same where no logstore asks for a signature, and all pass but what is said of the last.
fn alone(last: &str) -> String {
    lines(7, last).replace("signature   passed", "signature   not asked for")
}

#[test]
fn what_an_agent_would_take_passes() {
    let site = Site::new();
    let done = check(&site, &[&wasm("nginx"), "--settings", "{\"format\": \"main\"}"]);
    done.assert_code(0);
    assert_eq!(done.text(), alone("dry run     not tried: give it --lines\n"));

    site.write("access.log", access_log(100));
    site.write("settings.json", "{\"format\": \"main\"}");
    let done = check(&site, &[&wasm("nginx"), "--settings", "settings.json", "--lines", "access.log"]);
    done.assert_code(0);
    let (checks, report) = done.text().split_once("\n\n").unwrap();
    assert_eq!(format!("{checks}\n"), alone("dry run     passed\n"));
    assert!(report.contains("\n  parsed            ") && report.contains("remote_addr (text)"), "{report}");
}

#[test]
fn the_check_that_fails_is_the_last() {
    let site = Site::new();
    let import = r#"(component (import "wasi:cli/environment@0.2.0" (instance)) (instance $i)
        (export "weir:plugin/processor@0.1.0" (instance $i)))"#;
    site.write("wasi.wasm", wat::parse_str(import).unwrap());
    let large = r#"(component (core module $m (memory 2000)) (core instance (instantiate $m)) (instance $i)
        (export "weir:plugin/processor@0.1.0" (instance $i)))"#;
    site.write("large.wasm", wat::parse_str(large).unwrap());
    let empty = r#"(component (instance $i) (export "weir:plugin/processor@0.1.0" (instance $i)))"#;
    site.write("empty.wasm", wat::parse_str(empty).unwrap());
    fs::File::create(site.path("huge.wasm")).unwrap().set_len((64 << 20) + 1).unwrap();
    let (nginx, rude) = (wasm("nginx"), wasm("weir-rude"));
    let cases: [(&[&str], usize, &str); 7] = [
        (&["huge.wasm"], 0, "size: it has 67108865 bytes, and the most allowed is 67108864"),
        (&["weir.yaml"], 2, "plugin API: it is not WebAssembly, or it is damaged"),
        (&["wasi.wasm"], 3, "imports: it imports `wasi:cli/environment@0.2.0`, which a plugin may not"),
        (&["large.wasm"], 4, "limits: it begins with 131072000 bytes of memory, and 67108864 are allowed here"),
        (&["empty.wasm"], 5, "compiling: "),
        (
            &[&nginx, "--settings", "{\"fromat\": 1}"],
            6,
            "settings: plugin nginx: it refuses its settings: unknown field `fromat`",
        ),
        (&[&rude, "--settings", "[]"], 6, "settings: the settings must be a JSON object"),
    ];
    site.write("weir.yaml", "no");
    site.write("array.json", "[]");
    for (args, passed, words) in cases {
        let args: Vec<_> = args.iter().map(|arg| if *arg == "[]" { "array.json" } else { arg }).collect();
        let done = check(&site, &args);
        done.assert_code(70);
        assert_eq!(done.text(), lines(passed, &format!("{:<12}failed\n", ALL[passed])), "{args:?}: {}", done.stderr);
        done.assert_says(&format!("error: {words}"));
    }
}

#[test]
fn a_dry_run_that_fails_is_shown() {
    let site = Site::new();
    site.write("a.log", "good\npoison\n");
    let done = check(&site, &[&wasm("weir-rude"), "--settings", "{\"mode\": \"poison\"}", "--lines", "a.log"]);
    done.assert_code(70);
    assert!(done.text().starts_with(&lines(7, "dry run     failed\n\n")), "{}", done.text());
    done.assert_says("error: dry run: it faults on the logstore's last lines, ");
}

#[test]
fn a_logstore_gives_settings_limits_and_the_rest_of_its_chain() {
    let site = Site::new();
    site.config(
        "
- name: shop/access
  files: { root: logs }
  plugins: [{ use: nginx, settings: { format: main } }]
  sink: out
- name: shop/small
  files: { root: logs }
  plugins: [{ use: nginx, settings: { format: main }, limits: { table_elements: 1 } }]
  sink: out",
    );
    site.write("access.log", access_log(100));
    let nginx = wasm("nginx");
    let done = check(&site, &[&nginx, "shop/access", "-c", "weir.yaml", "--lines", "access.log"]);
    done.assert_code(0);
    assert!(done.text().starts_with(&lines(7, "dry run     passed\n\n")), "{}", done.text());
    // Beside what is configured.
    assert!(done.text().contains(" running\n"), "{}", done.text());

    let done = check(&site, &[&nginx, "shop/small", "-c", "weir.yaml"]);
    done.assert_code(70);
    done.assert_says("error: limits: it begins with ");
}

#[test]
fn what_makes_no_sense_is_usage() {
    let site = Site::new();
    site.config("- { name: a/b, files: { root: logs }, sink: out }");
    let nginx = &*wasm("nginx");
    for (args, words) in [
        (&[nginx, "-c", "weir.yaml"][..], "a configuration is given: say for which PROJECT/LOGSTORE of it"),
        (&[nginx, "a/c", "-c", "weir.yaml"], "weir.yaml has no logstore a/c"),
        (&[nginx, "--settings", "{\"a\":"], "the settings of --settings are no JSON"),
        (&[], "<FILE.wasm>"),
    ] {
        let done = check(&site, args);
        done.assert_code(64);
        done.assert_says(words);
    }
}

#[test]
fn a_signature_that_a_project_asks_for_lies_beside() {
    let site = Site::new();
    fs::copy(wasm("weir-rude"), site.path("rude.wasm")).unwrap();
    site.output(["plugin", "keygen", "own"]).assert_code(0);
    let config = "data_dir: data\nprojects: { a: { plugin_keys: [own.pub] } }\n\
        logstores: [{ name: a/b, files: { root: logs }, sink: s }]\nsinks: { s: { type: stdout } }\n";
    site.write("weir.yaml", config);
    let args = ["rude.wasm", "a/b", "-c", "weir.yaml"];
    let done = check(&site, &args);
    done.assert_code(70);
    assert_eq!(done.text(), lines(1, "signature   failed\n"));
    site.output(["plugin", "sign", "rude.wasm", "--key", "own.key"]).assert_code(0);
    let done = check(&site, &args);
    assert_eq!(done.status.code(), Some(0), "{}", done.stderr);
    assert_eq!(done.text(), lines(7, "dry run     not tried: give it --lines\n"));
}
