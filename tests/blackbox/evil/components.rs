//! Components that no compiler makes: each is refused in words, or fails as any other.

use wasm_encoder::{
    Alias, Component, ComponentAliasSection, ComponentExportKind, ComponentExportSection, ComponentInstanceSection,
    ComponentSection, CustomSection, InstanceSection, ModuleArg, RawSection,
};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

use super::{EVENTS, assert_faults_at, lines, logstore, plugin, run, site_of};
use crate::harness::{Ran, Site, contents, repository};

/// What makes a component a plugin.
const PROCESSOR: &str = "weir:plugin/processor@0.1.0";

/// A core module that gives back what came in, with more in it: items of the module, and what is done at each call.
fn core(more: &str, at_each_call: &str) -> String {
    core_with_memory("1", more, at_each_call)
}

fn core_with_memory(memory: &str, more: &str, at_each_call: &str) -> String {
    format!(
        r#"(module
            (memory (export "memory") {memory})
            (global $free (mut i32) (i32.const 4096))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
                (global.set $free (i32.add (local.get $at) (local.get 3)))
                (if (i32.gt_u (global.get $free) (i32.mul (memory.size) (i32.const 65536)))
                    (then (drop (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get 3) (i32.const 16)))))))
                (local.get $at))
            (func (export "{PROCESSOR}#configure") (param i32 i32) (result i32) (i32.const 1024))
            (func (export "{PROCESSOR}#process")
                (param $tags i32) (param i32) (param $data i32) (param i32) (param $fields i32) (param $fields# i32)
                (param $rows i32) (param $rows# i32) (param $cells i32) (param $cells# i32) (param $times i32) (param i32)
                (param $last i32) (result i32)
                {at_each_call}
                (i32.store (i32.const 2056) (local.get $fields)) (i32.store (i32.const 2060) (local.get $fields#))
                (i32.store (i32.const 2064) (local.get $rows)) (i32.store (i32.const 2068) (local.get $rows#))
                (i32.store (i32.const 2072) (local.get $cells)) (i32.store (i32.const 2076) (local.get $cells#))
                (global.set $free (i32.const 4096))
                (i32.const 2048))
            {more})"#
    )
}

/// A component from a core module in text.
fn component(core: &str) -> Vec<u8> {
    component_of(core, &wit())
}

fn wit() -> String {
    std::fs::read_to_string(repository().join("wit/v0.1/plugin.wit")).unwrap()
}

fn component_of(core: &str, wit: &str) -> Vec<u8> {
    let mut module = wat::parse_str(core).unwrap();
    let mut resolve = Resolve::default();
    let package = resolve.push_str("plugin.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some("plugin")).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
}

/// A directory in which the hostile logstore has this plugin.
fn site(component: &[u8]) -> Site {
    let site = site_of(&logstore("use: odd"));
    site.write("plugins/odd.wasm", component);
    site
}

/// It can't start, for this reason. Its logstore's files are not touched.
#[track_caller]
fn assert_not_started(what: &str, component: &[u8], words: &str) -> Ran {
    let site = site(component);
    let ran = run(&site, what);
    ran.assert_code(78);
    let place = "this logstore is not read: weir.yaml:6:13: logstores[0].plugins[0].use: plugin ";
    let said: Vec<_> = ran.stderr.lines().filter(|line| line.contains(place)).collect();
    assert!(said.len() == 1 && said[0].contains(words), "{what}: not {words:?}, but:\n{}", ran.stderr);
    assert!(ran.stderr.len() < 10_000 && !ran.stderr.contains(|c: char| c.is_control() && c != '\n'), "{}", ran.stderr);
    assert!(!ran.summary.contains_key("evil/own"), "{what}");
    assert_eq!(site.settled("evil/own"), [].into(), "{what}");
    ran
}

/// It keeps to the contract.
#[track_caller]
fn assert_behaves(what: &str, component: &[u8]) -> Ran {
    let site = site(component);
    let ran = run(&site, what);
    ran.assert_code(0);
    ran.assert_counts("evil/own", [EVENTS, EVENTS, 0, 0]);
    assert_eq!(contents(&site.events("evil/own")), lines(), "{what}");
    assert_eq!(plugin(&ran).counts["faults"], 0);
    ran
}

#[test]
fn a_component_made_by_hand_is_as_good_as_any() {
    assert_behaves("by hand", &component(&core("", "")));
}

#[test]
fn what_happens_before_any_call_has_its_limits() {
    for (what, start, words) in [
        ("a trap", "unreachable", "odd: trapped: wasm trap: wasm `unreachable` instruction executed in "),
        ("a loop", "(loop br 0)", "odd: out of fuel: it used all of 2000000000"),
        ("a recursion", "call $start", "odd: trapped: wasm trap: call stack exhausted in "),
        (
            "memory",
            "(loop (br_if 0 (i32.ge_s (memory.grow (i32.const 16)) (i32.const 0)))) unreachable",
            "odd: out of memory: it may have 67108864 bytes",
        ),
    ] {
        let core = core(&format!("(func $start {start}) (start $start)"), "");
        assert_not_started(what, &component(&core), words);
    }
}

#[test]
fn what_it_needs_at_least_has_its_limits() {
    let memory = core_with_memory("1025", "", "");
    assert_not_started(
        "memory",
        &component(&memory),
        "it begins with 67174400 bytes of memory, and 67108864 are allowed here",
    );
    let table = core("(table 100001 funcref)", "");
    assert_not_started(
        "a table",
        &component(&table),
        "it begins with 100001 elements of tables, and 100000 are allowed here",
    );
    let tables: String = (0..10).map(|_| "(table 10001 funcref)").collect();
    assert_not_started(
        "tables",
        &component(&core(&tables, "")),
        "it begins with 100010 elements of tables, and 100000 are allowed here",
    );
}

#[test]
fn tables_without_end_are_refused_and_nothing_else() {
    let table = "(table $t 1 funcref)";
    let grow = "(loop (br_if 0 (i32.ge_s (table.grow $t (ref.null func) (i32.const 100)) (i32.const 0))))";
    assert_behaves("a table", &component(&core(table, grow)));
    // It has all that it may, and asks for more.
    let want = format!("{grow} (loop (drop (table.grow $t (ref.null func) (i32.const 0xffff))) (br 0))");
    assert_faults_at(&site(&component(&core(table, &want))), "asking for a table", &["out of fuel: "]);
}

#[test]
fn asking_for_nothing_again_and_again_takes_fuel() {
    let ask = "(loop (drop (memory.grow (i32.const 0))) (br 0))";
    let site = site(&component(&core("", ask)));
    let (_, ran) = assert_faults_at(&site, "asking for memory", &["out of fuel: "]);
    let counts = &plugin(&ran).counts;
    // A thousand million of them would take a minute.
    assert!(counts["cpu"] < 2_000_000_000, "{counts:?}");
}

/// A plugin among other parts of one component.
fn wrapped(parts: impl FnOnce(&mut Component)) -> Vec<u8> {
    // Its types are its own, so that it imports nothing.
    let wit = wit();
    let body = |interface: &str| {
        let rest = wit.split_once(&format!("\ninterface {interface} {{")).unwrap().1;
        rest.split_once("\n}").unwrap().0.replace("use event.{batch, output};", "")
    };
    let all = format!(
        "interface processor {{ {} {} }} world plugin {{ export processor; }}",
        body("event"),
        body("processor")
    );
    let inner = component_of(&core("", ""), &format!("package weir:plugin@0.1.0; {all}"));
    let mut outer = Component::new();
    raw_component(&mut outer, &inner);
    parts(&mut outer);
    let mut instances = ComponentInstanceSection::new();
    let none: [(&str, ComponentExportKind, u32); 0] = [];
    instances.instantiate(0, none);
    outer.section(&instances);
    let mut aliases = ComponentAliasSection::new();
    aliases.alias(Alias::InstanceExport { instance: 0, kind: ComponentExportKind::Instance, name: PROCESSOR });
    outer.section(&aliases);
    let mut exports = ComponentExportSection::new();
    exports.export(PROCESSOR, ComponentExportKind::Instance, 1, None);
    outer.section(&exports);
    outer.finish()
}

/// Adds a component that is encoded already.
fn raw_component(outer: &mut Component, inner: &[u8]) {
    outer.section(&RawSection { id: 4, data: inner });
}

#[test]
fn a_plugin_within_a_component_is_one() {
    assert_behaves("nested", &wrapped(|_| {}));
}

#[test]
fn a_thousand_instances_are_too_many() {
    let many = |count: u32| {
        wrapped(|outer| {
            outer.section(&wasm_encoder::ModuleSection(&wasm_encoder::Module::new()));
            let mut instances = InstanceSection::new();
            let none: [(&str, ModuleArg); 0] = [];
            (0..count).for_each(|_| _ = instances.instantiate(0, none));
            outer.section(&instances);
        })
    };
    assert_behaves("some instances", &many(40));
    assert_not_started("many instances", &many(900), "it begins with 900 core instances, and 64 are allowed here");
    assert_not_started(
        "a thousand instances",
        &many(1000),
        "it begins with 1000 core instances, and 64 are allowed here",
    );
}

#[test]
fn components_nest_as_deep_as_they_like_in_vain() {
    let mut deep = Component::new().finish();
    for _ in 0..2000 {
        let mut outer = Component::new();
        raw_component(&mut outer, &deep);
        deep = outer.finish();
    }
    assert_not_started("nothing else", &deep, "it is a component but not a plugin");
    assert_behaves("beside it", &wrapped(|outer| raw_component(outer, &deep)));
}

#[test]
fn exports_that_are_missing_or_of_another_type_are_named() {
    let wit = |functions: &str| {
        format!("package weir:plugin@0.1.0; interface processor {{ {functions} }} world plugin {{ export processor; }}")
    };
    let core = |functions: &str| {
        let memory = "(memory (export \"memory\") 1)";
        format!("(module {memory} {})", functions.replace("NAME", PROCESSOR))
    };
    let configure = "(func (export \"NAME#configure\") (param i32))";
    let process = "(func (export \"NAME#process\"))";
    for (what, wit, core, words) in [
        ("no process", wit("configure: func(x: u32);"), core(configure), "process"),
        ("no configure", wit("process: func();"), core(process), "configure"),
        (
            "another type",
            wit("configure: func(x: u32); process: func();"),
            core(&format!("{configure} {process}")),
            "odd: failed to convert function to given type: type mismatch with parameters: expected `string` found `u32`",
        ),
    ] {
        assert_not_started(what, &component_of(&core, &wit), words);
    }
}

#[test]
fn what_is_not_granted_is_named_however_it_is_named() {
    let import = |names: &[String]| {
        let imports: String = names.iter().map(|name| format!("(import \"{name}\" (instance))")).collect();
        let text = format!(
            "(component {imports} (component $c) (instance $i (instantiate $c)) (export \"{PROCESSOR}\" (instance $i)))"
        );
        wat::parse_str(text).unwrap()
    };
    let granted = "which a plugin may not: only `log`, `count` and `files` of weir:plugin are granted";
    let names = |count| (0..count).map(|n| format!("wasi:odd/n{n}@0.2.0")).collect::<Vec<_>>();
    assert_not_started("wasi", &import(&names(1)), &format!("it imports `wasi:odd/n0@0.2.0`, {granted}"));
    assert_not_started("many", &import(&names(5000)), &format!("`wasi:odd/n7@0.2.0`, and 4992 more, {granted}"));
    let hostile = format!("\\1b[31m{}", "n".repeat(50_000));
    assert_not_started(
        "long",
        &import(&[hostile]),
        &format!("it imports `\\u{{1b}}[31m{}`, {granted}", "n".repeat(123)),
    );
}

#[test]
fn a_core_module_is_no_plugin() {
    let core = wat::parse_str(core("", "")).unwrap();
    assert_not_started("core", &core, "it is a core module, not a component: build it with `weir plugin build`");
}

#[test]
fn what_a_plugin_says_of_itself_has_its_limits() {
    let with = |metadata: &[u8]| {
        let mut component = component(&core("", ""));
        let section = CustomSection { name: "weir:plugin".into(), data: metadata.into() };
        section.append_to_component(&mut component);
        component
    };
    let named = |name: &str| format!("{{\"api\":\"0.1\",\"name\":{name},\"version\":\"1\"}}").into_bytes();
    assert_behaves("a name", &with(&named("\"nice\"")));
    let at = "its custom section `weir:plugin` is not as it should be: ";
    let bomb = "[".repeat(100_000);
    let large = format!("{{\"settings\":[{}[]]}}", "[],".repeat(100_000));
    for (what, metadata, words) in [
        ("no name", named("\"\""), "the name \"\" is empty"),
        ("control characters", named("\"a\\u001b[31mb\""), "the name \"a\\u{1b}[31mb\" is empty, longer than 64 bytes"),
        ("a path", named("\"../../etc/x\""), "the name \"../../etc/x\" is empty"),
        ("a long name", named(&format!("{:?}", "n".repeat(200_000))), "the name \"nnn"),
        ("no text", named("7"), "invalid type: integer `7`, expected a string"),
        ("depth", bomb.into_bytes(), "invalid type: sequence"),
        (
            "depth in settings",
            named(&format!("\"a\",\"settings\":{}", "[".repeat(100_000))),
            "recursion limit exceeded",
        ),
        ("size", large.into_bytes(), "it has 300017 bytes, and 262144 are allowed"),
        ("not JSON", b"\x1b[31m\xff".to_vec(), "expected value"),
        ("an odd word", b"{\"api\":\"0.1\",\"\\u001b[31m\":1}".to_vec(), "missing field"),
    ] {
        assert_not_started(what, &with(&metadata), &format!("{at}{words}"));
    }
}
