//! `weir plugin inspect`.

use std::fs;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::harness::{Site, plugins};

fn inspect(name: &str, more: &[&str]) -> (Site, crate::harness::Done) {
    let site = Site::new();
    let wasm = plugins().join(format!("{name}.wasm")).display().to_string();
    let done = site.output(["plugin", "inspect", &wasm].iter().chain(more));
    (site, done)
}

#[test]
fn what_a_plugin_says_of_itself_is_shown() {
    let (_site, done) = inspect("weir-rude", &[]);
    done.assert_code(0);
    let text = done.text();
    let bytes = fs::read(plugins().join("weir-rude.wasm")).unwrap();
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    for line in [
        "name        weir-rude",
        "version     0.1.0",
        "what it is  Bad manners, one a setting: what `weir plugin test` must notice",
        "plugin API  0.1.0",
        &format!("sha256      {digest}"),
        "imports     weir:plugin/log@0.1.0, weir:plugin/event@0.1.0",
        "exports     weir:plugin/processor@0.1.0",
        "an agent    takes it, as far as can be seen without compiling it",
        "SETTING TYPE WHAT IT IS",
        "mode one of What it does wrong.",
        "\"polite\" Nothing.",
        "\"huge-line\"",
    ] {
        assert!(
            text.lines().any(|known| known.trim_end() == line || known.split_whitespace().eq(line.split_whitespace())),
            "{line} in:\n{text}"
        );
    }
    assert!(text.contains(&format!("\nsize        {} bytes: code ", bytes.len())), "{text}");
    assert!(text.contains(", with names, which stacks show\n"), "{text}");
    assert!(text.contains("\nmade by     ") && text.contains("language Rust"), "{text}");
}

#[test]
fn programs_get_the_same_as_json() {
    let (_site, done) = inspect("nginx", &["--json"]);
    done.assert_code(0);
    let value: Value = serde_json::from_str(done.text()).unwrap();
    assert_eq!((&value["name"], &value["api"], &value["refused"]), (&"nginx".into(), &"0.1.0".into(), &Value::Null));
    let size = fs::metadata(plugins().join("nginx.wasm")).unwrap().len();
    assert_eq!(value["size"], size);
    let of = |what: &str| value[what].as_u64().unwrap();
    let custom: u64 = value["custom"].as_object().unwrap().values().map(|bytes| bytes.as_u64().unwrap()).sum();
    assert!(of("code") > 1000 && of("data") > 100 && of("code") + of("data") + custom < size, "{value}");
    assert!(value["settings"]["properties"]["format"].is_object(), "{value}");
}

#[test]
fn what_an_agent_would_refuse_is_said() {
    let site = Site::new();
    let text = r#"(component (import "wasi:cli/environment@0.2.0" (instance)) (instance $i)
        (export "weir:plugin/processor@0.1.0" (instance $i)))"#;
    site.write("odd.wasm", wat::parse_str(text).unwrap());
    let done = site.output(["plugin", "inspect", "odd.wasm"]);
    done.assert_code(0);
    let words = "an agent    refuses it: imports: it imports `wasi:cli/environment@0.2.0`, which a plugin may not";
    assert!(done.text().contains(words), "{}", done.text());
    assert!(done.text().contains("name        odd\n"), "{}", done.text());
    assert!(done.text().contains("It does not say which settings it has.\n"), "{}", done.text());

    site.write("junk.wasm", "\u{1b}[2J");
    let done = site.output(["plugin", "inspect", "junk.wasm"]);
    done.assert_code(70);
    done.assert_says("error: junk.wasm: it is not WebAssembly, or it is damaged");
    site.output(["plugin", "inspect"]).assert_code(64);
}
