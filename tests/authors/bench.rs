//! `weir plugin bench`: numbers that must be so, and a profile whose proportions are known.

use std::path::Path;

use serde_json::Value;
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

use crate::harness::{Site, plugins, repository};

/// A plugin that gives back what came in. At each call, `heavy` runs a loop three times as long as `light`, and `at_each_call`
/// is done.
fn component(at_each_call: &str) -> Vec<u8> {
    component_with("", at_each_call)
}

/// The same with local variables of that.
fn component_with(locals: &str, at_each_call: &str) -> Vec<u8> {
    let processor = "weir:plugin/processor@0.1.0";
    let work = |name: &str, rounds: u32| {
        format!(
            "(func ${name} (local $i i32) (local.set $i (i32.const {rounds}))
                (loop $again (local.set $i (i32.sub (local.get $i) (i32.const 1))) (br_if $again (local.get $i))))"
        )
    };
    let core = format!(
        r#"(module
            (memory (export "memory") 1)
            (global $free (mut i32) (i32.const 4096))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
                (global.set $free (i32.add (local.get $at) (local.get 3)))
                (if (i32.gt_u (global.get $free) (i32.mul (memory.size) (i32.const 65536)))
                    (then (drop (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get 3) (i32.const 16)))))))
                (local.get $at))
            {light} {heavy}
            (func (export "{processor}#configure") (param i32 i32) (result i32) (i32.const 1024))
            (func $process (export "{processor}#process")
                (param $tags i32) (param i32) (param $data i32) (param i32) (param $fields i32) (param $fields# i32)
                (param $rows i32) (param $rows# i32) (param $cells i32) (param $cells# i32) (param $times i32) (param i32)
                (param $last i32) (result i32)
                {locals}
                (call $light) (call $heavy)
                {at_each_call}
                (i32.store (i32.const 2056) (local.get $fields)) (i32.store (i32.const 2060) (local.get $fields#))
                (i32.store (i32.const 2064) (local.get $rows)) (i32.store (i32.const 2068) (local.get $rows#))
                (i32.store (i32.const 2072) (local.get $cells)) (i32.store (i32.const 2076) (local.get $cells#))
                (global.set $free (i32.const 4096))
                (i32.const 2048)))"#,
        light = work("light", 50_000),
        heavy = work("heavy", 150_000),
    );
    let mut module = wat::parse_str(core).unwrap();
    let mut resolve = Resolve::default();
    let wit = std::fs::read_to_string(repository().join("wit/v0.1/plugin.wit")).unwrap();
    let package = resolve.push_str("plugin.wit", &wit).unwrap();
    let world = resolve.select_world(&[package], Some("plugin")).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
}

fn json(done: &crate::harness::Done) -> Value {
    serde_json::from_slice(&done.stdout).unwrap_or_else(|e| panic!("{e}: {}{}", done.text(), done.stderr))
}

/// A project with the nginx plugin and its golden files.
fn nginx(site: &Site) {
    let golden = repository().join("plugins/nginx/tests/golden");
    for file in std::fs::read_dir(golden).unwrap().map(Result::unwrap) {
        site.write(
            &format!("nginx/tests/golden/{}", file.file_name().to_str().unwrap()),
            std::fs::read(file.path()).unwrap(),
        );
    }
    site.write("nginx/nginx.wasm", std::fs::read(plugins().join("nginx.wasm")).unwrap());
}

#[test]
fn a_plugin_is_measured_on_the_golden_files_of_its_project() {
    let site = Site::new();
    nginx(&site);
    let done = site.output(["plugin", "bench", "nginx", "--case", "main", "--case", "broken", "--json"]);
    done.assert_code(0);
    let report = json(&done);
    let plugin = &report["plugins"][0];
    assert_eq!((&plugin["name"], &plugin["file"]), (&"nginx".into(), &"nginx/nginx.wasm".into()));
    assert_eq!(plugin["size"], std::fs::metadata(site.path("nginx/nginx.wasm")).unwrap().len());
    let cases = plugin["cases"].as_array().unwrap();
    assert_eq!(cases.iter().map(|case| &case["case"]).collect::<Vec<_>>(), ["broken", "main"]);
    let main = &cases[1];
    // Three lines, again and again.
    let lines = std::fs::read(site.path("nginx/tests/golden/main.log")).unwrap().len() as f64 / 3.0;
    let number = |value: &Value| value.as_f64().unwrap();
    assert!((number(&main["bytes"]) / number(&main["events"]) - lines).abs() < 0.1, "{main}");
    assert_eq!((&main["failed"], &main["dropped"], &main["fault"]), (&0.into(), &0.into(), &Value::Null));
    assert!(number(&cases[0]["failed"]) > 0.0);
    for what in ["megabytes_per_second", "events_per_second", "fuel_per_byte", "fuel_per_event", "start_seconds"] {
        assert!(number(&main[what]) > 0.0, "{what}: {main}");
    }
    let limits = plugin["limits"].as_array().unwrap();
    let names: Vec<_> = limits.iter().map(|limit| limit["limit"].as_str().unwrap()).collect();
    let expected = [
        "fuel of a call",
        "fuel for its settings",
        "memory",
        "output of a call",
        "size of the .wasm",
        "CPU time to compile",
    ];
    assert_eq!(names, expected);
    assert!(limits.iter().all(|limit| number(&limit["used"]) < number(&limit["most"])), "{limits:?}");
}

#[test]
fn several_plugins_are_in_one_table() {
    let site = Site::new();
    let files = ["nginx", "json"].map(|name| plugins().join(format!("{name}.wasm")).to_str().unwrap().to_owned());
    let done = site.output([
        "plugin",
        "bench",
        &files[0],
        &files[1],
        "--lines",
        "nginx",
        "--settings",
        "{\"format\":\"main\"}",
    ]);
    done.assert_code(78);
    done.assert_says("json: it refuses its settings");
    let done = site.output(["plugin", "bench", &files[1], &files[1], "--lines", "json"]);
    done.assert_code(0);
    assert_eq!(done.text().lines().filter(|line| line.starts_with("json    json lines")).count(), 2, "{}", done.text());
    assert!(!done.text().contains('\x1b') && done.stderr.is_empty(), "{}{}", done.text(), done.stderr);
}

#[test]
fn a_limit_that_is_exceeded_is_a_failure() {
    let site = Site::new();
    site.write("odd.wasm", component("(loop $for_ever (br $for_ever))"));
    let done = site.output(["plugin", "bench", "odd.wasm", "--lines", "syslog", "--json"]);
    done.assert_code(70);
    done.assert_says("error: odd, syslog lines: out of fuel: it used all of ");
    let report = json(&done);
    let fuel = &report["plugins"][0]["limits"][0];
    assert_eq!((&fuel["limit"], &fuel["used"]), (&"fuel of a call".into(), &fuel["most"]));

    site.write(
        "odd.wasm",
        component("(if (i32.lt_s (memory.grow (i32.const 2000)) (i32.const 0)) (then unreachable))"),
    );
    let done = site.output(["plugin", "bench", "odd.wasm", "--lines", "syslog"]);
    done.assert_code(70);
    done.assert_says("error: odd, syslog lines: out of memory: it may have 67108864 bytes");
    assert!(done.text().contains("████████████████████  100%"), "{}", done.text());
}

#[test]
fn a_profile_has_the_proportions_of_the_work() {
    let site = Site::new();
    site.write("odd.wasm", component(""));
    let args = ["plugin", "bench", "odd.wasm", "--lines", "syslog", "--profile"];
    let done = site.output(args.iter().chain(&["out.svg"]).chain(&["--json"]));
    done.assert_code(0);
    let report = json(&done);
    let functions = report["plugins"][0]["functions"].as_array().unwrap();
    let share = |name: &str| {
        let function = functions.iter().find(|function| function["name"] == name);
        function.unwrap_or_else(|| panic!("no {name} in {functions:?}"))["own"].as_f64().unwrap()
    };
    let (light, heavy) = (share("light"), share("heavy"));
    assert!((heavy / light - 3.0).abs() < 0.02, "{heavy} {light}");
    assert!(light + heavy > 0.99, "{functions:?}");

    let svg = std::fs::read_to_string(site.path("out.svg")).unwrap();
    assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""), "{svg}");
    assert!(
        svg.contains("<title>heavy (7") && svg.contains("<title>light (2") && svg.contains("<title>process ("),
        "{svg}"
    );
    assert_well_formed(&svg);

    // The same each time.
    let folded = |name: &str| {
        site.output(args.iter().chain(&[name])).assert_code(0);
        std::fs::read_to_string(site.path(name)).unwrap()
    };
    let stacks = folded("one.folded");
    assert_eq!(stacks, folded("two.folded"));
    assert!(stacks.lines().any(|line| line.starts_with("process;heavy ")), "{stacks}");
}

/// Each element ends where it should, and nothing in between needs an escape.
fn assert_well_formed(xml: &str) {
    let mut open = Vec::new();
    for piece in xml.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').unwrap_or_else(|| panic!("{piece}"));
        let is_entity = |rest: &str| ["amp;", "lt;", "gt;", "quot;"].iter().any(|entity| rest.starts_with(entity));
        assert!(text.split('&').skip(1).all(is_entity), "{piece}");
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "{piece}"),
            None if tag.ends_with('/') => {}
            None => open.push(tag.split(' ').next().unwrap()),
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn what_is_missing_is_said() {
    let site = Site::new();
    let nginx = plugins().join("nginx.wasm");
    let wrong: [(&[&str], i32, &str); 6] = [
        (&["nowhere.wasm"], 70, "plugin nowhere.wasm: "),
        (&["logs"], 70, "logs has no .wasm; build it first: weir plugin build logs"),
        (&["a.wasm", "b.wasm", "--profile", "a.svg"], 64, "a profile is of one plugin"),
        (&["a.wasm", "--profile", "a.png"], 64, "--profile a.png: its name must end in .svg or .folded"),
        (&["a.wasm", "--lines", "json", "--input", "x"], 64, "cannot be used with"),
        (
            &["nginx.wasm"],
            70,
            "nginx.wasm lies in no project with a directory tests/golden; give --input LOG or --lines KIND",
        ),
    ];
    std::fs::copy(Path::new(&nginx), site.path("nginx.wasm")).unwrap();
    for (args, code, words) in wrong {
        let done = site.output(["plugin", "bench"].iter().chain(args));
        done.assert_code(code);
        done.assert_says(words);
    }
}

#[test]
fn an_event_alone_must_have_enough_fuel_too() {
    let site = Site::new();
    // Once, it takes more than a call with one event has, and less than one with many.
    let once = "(local $i i32) (if (i32.eqz (i32.load (i32.const 512))) (then
        (i32.store (i32.const 512) (i32.const 1)) (local.set $i (i32.const 10000000))
        (loop $again (local.set $i (i32.sub (local.get $i) (i32.const 1))) (br_if $again (local.get $i)))))";
    // Locals come first.
    let (local, rest) = once.split_at("(local $i i32)".len());
    site.write("odd.wasm", component_with(local, rest));
    let done = site.output(["plugin", "bench", "odd.wasm", "--lines", "syslog", "--json"]);
    done.assert_code(70);
    done.assert_says(
        "error: odd, syslog lines: on its first event, alone and in a new instance: out of fuel: it used all of ",
    );
    // And all others are measured.
    assert!(json(&done)["plugins"][0]["cases"][0]["megabytes_per_second"].as_f64().unwrap() > 0.0);
}
