//! Compile bombs: components that are small, valid, and take for ever to compile, or all memory.
//!
//! Each is refused in words, within limits, and everybody else's logs come out as if it were not there.

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use wasm_encoder::{
    BlockType, CodeSection, Component, ComponentExportKind, ComponentExportSection, ComponentInstanceSection, Function,
    FunctionSection, InstructionSink, Module, ModuleSection, NestedComponentSection, TypeSection, ValType,
};
use weir::agent::{Agent, GRACE, Options};
use weir::config;
use weir::lane::Mode;
use weir::sandbox::CompileLimits;
use weir::sandbox::compile::ByChild;

use crate::harness::{POLL, Site, access_log, binary};

const GOOD: u64 = 2000;
const GOOD_LOGSTORE: &str = "
- name: good/nginx
  files: { root: logs }
  plugins: [{ use: nginx, settings: { format: main } }]
  sink: out
";

/// What no honest plugin of these sizes would need.
const LIMITS: CompileLimits = CompileLimits { cpu_seconds: 20, seconds: 100, memory: 4 << 30, output: 100 << 20 };

/// A component that passes for a plugin until it is compiled, with modules in it.
pub fn plugin(modules: &[Module]) -> Vec<u8> {
    let mut component = Component::new();
    for module in modules {
        component.section(&ModuleSection(module));
    }
    component.section(&NestedComponentSection(&Component::new()));
    let mut instances = ComponentInstanceSection::new();
    instances.instantiate(0, [] as [(&str, ComponentExportKind, u32); 0]);
    component.section(&instances);
    let mut exports = ComponentExportSection::new();
    exports.export("weir:plugin/processor@0.1.0", ComponentExportKind::Instance, 0, None);
    component.section(&exports);
    component.finish()
}

/// A module of so many functions of one parameter, all with these locals and this body.
fn module(functions: u32, locals: u32, body: impl FnOnce(&mut InstructionSink)) -> Module {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32], []);
    let mut function = Function::new((locals > 0).then_some((locals, ValType::I32)));
    body(&mut function.instructions());
    function.instructions().end();
    let (mut indices, mut code) = (FunctionSection::new(), CodeSection::new());
    for _ in 0..functions {
        indices.function(0);
        code.function(&function);
    }
    let mut module = Module::new();
    module.section(&types).section(&indices).section(&code);
    module
}

/// Each branch goes to every block around it.
fn tables(depth: u32, times: u32) -> Module {
    module(1, 0, |body| {
        for _ in 0..depth {
            body.block(BlockType::Empty);
        }
        for _ in 0..times {
            body.block(BlockType::Empty).local_get(0).br_table(0..depth, 0).end();
        }
        for _ in 0..depth {
            body.end();
        }
    })
}

/// All locals are alive, and changed, in each of many loops.
pub fn locals(locals: u32, loops: u32) -> Module {
    module(1, locals, |body| {
        for number in 0..loops {
            let (from, to) = (1 + number % locals, 1 + number * 7 % locals);
            body.loop_(BlockType::Empty).local_get(from).local_get(to).i32_add().local_set(to);
            body.local_get(to).br_if(0).end();
        }
    })
}

fn nested(depth: u32) -> Module {
    module(1, 0, |body| {
        for _ in 0..depth {
            body.local_get(0).if_(BlockType::Empty);
        }
        for _ in 0..depth {
            body.end();
        }
    })
}

/// Many functions in each of which there is something to optimise.
pub fn many_functions(modules: usize) -> Vec<u8> {
    let one = module(2000, 8, |body| {
        for number in 0..40 {
            body.local_get(number % 9).local_get(number * 3 % 9).i32_mul().local_get(number * 5 % 9).i32_div_u();
            body.local_tee(number * 7 % 9).if_(BlockType::Empty).local_get(0).local_set(number % 9).end();
        }
    });
    plugin(&vec![one; modules])
}

/// The files of a cache that were not written to their ends.
pub fn unfinished(site: &Site) -> Vec<String> {
    cache(site).into_iter().filter(|name| !name.ends_with(".cwasm")).collect()
}

fn cache(site: &Site) -> Vec<String> {
    let names = fs::read_dir(site.path("data/cache")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// Runs an agent with a bomb and with a logstore that is not to notice. Gives why the bomb is refused.
fn explode(bomb: &[u8], limits: CompileLimits) -> String {
    let site = Site::new();
    site.write("logs/access.log", access_log(GOOD));
    site.write("plugins/bomb.wasm", bomb);
    let bad = "- name: bad/bomb\n  files: { root: logs }\n  plugins: [{ use: bomb }]\n  sink: out\n";
    site.config(&format!("{bad}{GOOD_LOGSTORE}"));
    let before = cache(&site);
    let config = config::load(&site.path("weir.yaml")).unwrap().config;
    let compile = ByChild { binary: binary().to_owned(), limits, stop: Arc::default() };
    let options = Options { mode: Mode::until_idle(), compile, ..Options::default() };

    let agent = Agent::start(&config, "weir.yaml", options).unwrap();
    let begun = Instant::now();
    while !agent.is_done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the good logstore does not end");
        thread::sleep(POLL);
    }
    let counts = agent.books().summary().logstores["good/nginx"].counts.clone();
    let problems = agent.problems();
    agent.stop(GRACE).unwrap();
    assert_eq!(["read", "delivered", "kept_raw"].map(|count| counts[count]), [GOOD, GOOD, 0]);
    assert_eq!(site.events("good/nginx").len() as u64, GOOD);
    assert_eq!(cache(&site), before);
    let [problem] = &problems[..] else { panic!("not one problem: {problems:?}") };
    let place = format!("plugin {}: ", site.path("plugins/bomb.wasm").display());
    problem.message.strip_prefix(&place).unwrap_or_else(|| panic!("{problem:?}")).to_owned()
}

#[test]
fn what_compiles_for_ever_is_refused_when_its_cpu_time_is_over() {
    let cpu_seconds = 1;
    for bomb in [plugin(&[tables(300, 3000)]), plugin(&[locals(20_000, 100_000)]), plugin(&[nested(200_000)])] {
        assert_eq!(explode(&bomb, CompileLimits { cpu_seconds, ..LIMITS }), "compiling took more than 1 s of CPU time");
    }
}

#[test]
fn what_needs_all_memory_is_refused() {
    let memory = 256 << 20;
    for bomb in [plugin(&[tables(300, 3000)]), plugin(&[nested(1_000_000)])] {
        assert_eq!(explode(&bomb, CompileLimits { memory, ..LIMITS }), "compiling took more than 256 MiB of memory");
    }
}

#[test]
fn what_becomes_too_large_is_refused() {
    let output = 1 << 20;
    let bomb = plugin(&[module(20_000, 0, |_| {})]);
    assert_eq!(explode(&bomb, CompileLimits { output, ..LIMITS }), "its compiled code has more than 1 MiB");
}

#[test]
fn what_takes_long_by_the_clock_is_refused() {
    let seconds = 1;
    let limits = CompileLimits { seconds, cpu_seconds: 100, ..LIMITS };
    assert_eq!(explode(&plugin(&[tables(300, 3000)]), limits), "compiling took longer than 1 s");
}

#[test]
fn what_the_compiler_refuses_is_refused_in_its_words() {
    let words = explode(&plugin(&[locals(50_001, 1)]), LIMITS);
    assert!(words.starts_with("it does not compile: failed to compile: "), "{words}");
    assert!(words.ends_with("too many locals: locals exceed maximum"), "{words}");
}
