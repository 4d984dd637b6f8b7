//! `weir plugin test`: golden cases, as an author sees them.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use quick_xml::Reader;
use quick_xml::events::Event;

use crate::harness::{Done, Site, cache_home, plugins, repository};

/// Makes `DIR` the project of a plugin that is built already.
pub fn project(site: &Site, dir: &str, plugin: &str) {
    fs::create_dir_all(site.path(format!("{dir}/tests/golden"))).unwrap();
    symlink(plugins().join(format!("{plugin}.wasm")), site.path(format!("{dir}/{plugin}.wasm"))).unwrap();
}

/// A project of the rude plugin in that mode, with a case whose lines these are, and nothing expected yet.
pub fn rude(mode: &str, lines: &str) -> Site {
    let site = Site::new();
    project(&site, "p", "weir-rude");
    case(&site, "some", mode, lines);
    site
}

/// Adds a case.
pub fn case(site: &Site, name: &str, mode: &str, lines: &str) {
    site.write(&format!("p/tests/golden/{name}.log"), lines);
    site.write(&format!("p/tests/golden/{name}.settings.json"), format!("{{\"mode\": \"{mode}\"}}"));
}

pub fn expect(site: &Site, name: &str, ndjson: &str) {
    site.write(&format!("p/tests/golden/{name}.expected.ndjson"), ndjson);
}

fn expected(site: &Site, name: &str) -> String {
    fs::read_to_string(site.path(format!("p/tests/golden/{name}.expected.ndjson"))).unwrap()
}

pub fn test(site: &Site) -> Done {
    site.output(["plugin", "test", "p"])
}

/// The lines about cases.
fn of_cases(done: &Done) -> &str {
    let (_, rest) = done.text().split_once("\n  cases\n").unwrap();
    rest.split_once("  manners\n").map_or(rest, |(cases, _)| cases)
}

const LINES: &str = "one\ntwo\nthree\n";
const POLITE: &str = "{\"content\":\"one\"}\n{\"content\":\"two\"}\n{\"content\":\"three\"}\n";

#[test]
fn what_passes_is_a_line_a_check() {
    let site = rude("polite", LINES);
    expect(&site, "some", POLITE);
    let done = test(&site);
    done.assert_code(0);
    let (report, total) = done.text().trim_end().rsplit_once('\n').unwrap();
    assert_eq!(
        report,
        "weir-rude (p)
  cases
    passed   some          3 in, 3 out
  manners
    passed   empty         1 call
    passed   last          2 calls
    passed   empty-line    1 event
    passed   huge-line     2 events
    passed   invalid-utf8  7 events
    passed   zero-bytes    5 events
    passed   split         2 splits
    passed   twice         2 runs
    passed   fresh         3 instances"
    );
    assert!(total.starts_with("10 checks passed or skipped, in "), "{total}");
    let again = test(&site);
    assert_eq!(again.text().trim_end().rsplit_once('\n').unwrap().0, report);
}

#[test]
fn what_differs_is_shown() {
    let site = rude("polite", LINES);
    expect(&site, "some", &POLITE.replace("two", "2").replace("{\"content\":\"three\"}\n", ""));
    let done = test(&site);
    done.assert_code(70);
    done.assert_says("error: 1 of 10 checks failed");
    assert_eq!(
        of_cases(&done),
        "    FAILED   some          3 in, 3 out, not as in some.expected.ndjson
      event 2:
      - {\"content\":\"2\"}
      + {\"content\":\"two\"}
      event 3 was not expected:
      + {\"content\":\"three\"}
"
    );
}

#[test]
fn bless_writes_exactly_what_comes_out() {
    let site = rude("polite", LINES);
    let done = test(&site);
    done.assert_code(70);
    assert_eq!(
        of_cases(&done),
        "    FAILED   some          3 in, 3 out
      there is no some.expected.ndjson: write down what comes out with --bless
"
    );
    let blessed = site.output(["plugin", "test", "p", "--bless"]);
    blessed.assert_code(0);
    assert_eq!(of_cases(&blessed), "    blessed  some          3 in, 3 out, written to some.expected.ndjson\n");
    assert_eq!(expected(&site, "some"), POLITE);
    test(&site).assert_code(0);

    // What is right already is not written again.
    let path = site.path("p/tests/golden/some.expected.ndjson");
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
    let blessed = site.output(["plugin", "test", "p", "--bless"]);
    assert_eq!(of_cases(&blessed), "    passed   some          3 in, 3 out\n");
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), long_ago);
}

#[test]
fn what_faults_is_not_blessed() {
    let site = rude("poison", "good\npoison\n");
    site.output(["plugin", "test", "p", "--bless"]).assert_code(70);
    assert!(!site.path("p/tests/golden/some.expected.ndjson").exists());
}

#[test]
fn events_and_their_times_are_given_as_they_are() {
    let site = Site::new();
    project(&site, "p", "weir-evil");
    let event = "{\"a\":\"x\",\"n\":1.50,\"j\":{\"k\": [1]},\"t\":true,\"__time__\":\"2026-01-02T03:04:05.5Z\"}";
    site.write("p/tests/golden/e.events.ndjson", format!("{event}\n{{\"content\":null,\"n\":-7}}\n"));
    site.write("p/tests/golden/e.settings.json", "{\"mode\": \"behave\"}");
    expect(&site, "e", &format!("{event}\n{{\"n\":-7}}\n"));
    let done = test(&site);
    assert_eq!(of_cases(&done), "    passed   e             2 in, 2 out\n", "{}", done.text());
}

#[test]
fn files_of_a_case_that_are_wrong_are_named() {
    let site = Site::new();
    project(&site, "p", "weir-rude");
    site.write("p/tests/golden/broken.events.ndjson", "{}\nno\n");
    site.write("p/tests/golden/lost.expected.ndjson", "");
    case(&site, "refused", "refuse", LINES);
    case(&site, "unknown", "rude", LINES);
    let done = test(&site);
    done.assert_code(70);
    let cases = of_cases(&done);
    for words in [
        "FAILED   broken        broken.events.ndjson: line 2: it is no JSON object: ",
        "FAILED   lost          there is neither lost.log nor lost.events.ndjson\n",
        "FAILED   refused       it does not start\n      plugin weir-rude: it refuses its settings: `mode`: \"refuse\" is not to my taste\n",
        "FAILED   unknown       it does not start\n      plugin weir-rude: it refuses its settings: unknown variant `rude`",
    ] {
        assert!(cases.contains(words), "{words} in:\n{cases}");
    }
    assert!(done.text().contains("skipped  manners       no case runs\n"), "{}", done.text());
}

#[test]
fn several_plugins_are_tested_and_what_is_wrong_with_one_is_said() {
    let site = rude("polite", LINES);
    expect(&site, "some", POLITE);
    project(&site, "empty", "nginx");
    site.write("junk.wasm", "no");
    let done = site.output(["plugin", "test", "p", "empty", "junk.wasm", "logs"]);
    done.assert_code(70);
    done.assert_says("error: 3 of 13 checks failed");
    let text = done.text();
    for words in [
        "weir-rude (p)\n  cases\n    passed   some",
        "nginx (empty)\n  cases\n    FAILED   cases         empty/tests/golden has no case: put lines into CASE.log",
        "junk (junk.wasm)\n  cases\n    FAILED   plugin        plugin junk.wasm: it is not WebAssembly, or it is damaged",
        "logs (logs)\n  cases\n    FAILED   plugin        there is no .wasm in logs, and nothing to build: no Cargo.toml, ",
    ] {
        assert!(text.contains(words), "{words} in:\n{text}");
    }
}

#[test]
fn cases_may_lie_elsewhere() {
    let site = rude("polite", LINES);
    expect(&site, "some", POLITE);
    let wasm = plugins().join("weir-rude.wasm").display().to_string();
    let done = site.output(["plugin", "test", &wasm, "--cases", "p/tests/golden"]);
    done.assert_code(0);
    assert!(done.text().contains("    passed   some          3 in, 3 out\n"), "{}", done.text());
    let done = site.output(["plugin", "test", &wasm, "p", "--cases", "p/tests/golden"]);
    done.assert_code(64);
    done.assert_says("--cases is for one plugin, and several are given");
}

#[test]
fn one_of_several_components_must_be_named() {
    let site = rude("polite", LINES);
    site.write("p/another.wasm", "");
    let done = test(&site);
    done.assert_code(64);
    done.assert_says("there are several .wasm in p: say which of p/another.wasm, p/weir-rude.wasm");
}

#[test]
fn ci_gets_junit_that_is_well_formed() {
    let site = rude("polite", "<one>\n&two\u{1}\n");
    expect(&site, "some", "{\"content\":\"<one>\"}\n");
    case(&site, "talk", "talk", LINES);
    expect(&site, "talk", POLITE);
    site.write("p/tests/manners.json", "{\"skip\": {\"split\": \"why & \\\"why\\\"\"}}");
    let done = site.output(["plugin", "test", "p", "--junit", "out.xml"]);
    done.assert_code(70);
    let xml = fs::read_to_string(site.path("out.xml")).unwrap();
    let mut reader = Reader::from_str(&xml);
    let (mut tests, mut failures, mut skipped, mut depth) = (0, 0, 0, 0);
    loop {
        match reader.read_event().unwrap() {
            Event::Start(start) => {
                depth += 1;
                match start.name().as_ref() {
                    "testcase" => tests += 1,
                    "failure" => failures += 1,
                    "skipped" => skipped += 1,
                    _ => {}
                }
                start.attributes().for_each(|attribute| _ = attribute.unwrap());
            }
            Event::End(_) => depth -= 1,
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!((tests, failures, skipped, depth), (11, 1, 1, 0), "{xml}");
    assert!(xml.contains("<testsuite name=\"weir-rude\" tests=\"11\" failures=\"1\" skipped=\"1\">"), "{xml}");
    assert!(xml.contains("+ {&quot;content&quot;:&quot;&amp;two\\u0001&quot;}</failure>"), "{xml}");
    assert!(xml.contains("log warn: warned"), "{xml}");
}

#[test]
fn a_project_is_built_when_what_it_is_made_of_has_changed() {
    let site = Site::new();
    let sdk = repository().join("sdk/rust");
    let manifest = format!(
        "[package]\nname = \"own\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\", \"rlib\"]\n\
         [dependencies]\nweir-plugin = {{ path = {sdk:?} }}\nshared = {{ path = \"../shared\" }}\n[workspace]\n"
    );
    site.write(
        "shared/Cargo.toml",
        "[package]\nname = \"shared\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n",
    );
    let shared = |suffix: &str| site.write("shared/src/lib.rs", format!("pub const SUFFIX: &str = \"{suffix}\";\n"));
    shared("");
    let source = "use weir_plugin::prelude::*;\nstruct Own(FieldId);\nimpl Plugin for Own {\n\
        type Settings = NoSettings;\n\
        fn new(_: NoSettings, fields: &mut Fields) -> Result<Self, String> { Ok(Own(fields.add(&format!(\"FIELD{}\", shared::SUFFIX), Kind::Text))) }\n\
        fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure> {\n\
        row.put(self.0, event.content()); Ok(Keep) } }\nweir_plugin::export!(Own);\n";
    site.write("p/Cargo.toml", manifest);
    site.write("p/Cargo.lock", fs::read(repository().join("Cargo.lock")).unwrap());
    site.write("p/src/lib.rs", source.replace("FIELD", "a"));
    site.write("p/tests/golden/some.log", "x\n");
    expect(&site, "some", "{\"a\":\"x\"}\n");
    let test = || {
        let mut command = site.weir(["plugin", "test", "p"]);
        let output = command.env("CARGO_TARGET_DIR", cache_home().join("authors")).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said, errors) = test();
    assert_eq!(code, Some(0), "{said}{errors}");
    let built = || fs::metadata(site.path("p/own.wasm")).unwrap().modified().unwrap();
    let first = built();
    let (code, ..) = test();
    assert_eq!((code, built()), (Some(0), first));

    let wait = first + Duration::from_secs(1);
    site.write("p/src/lib.rs", source.replace("FIELD", "b"));
    fs::File::options().write(true).open(site.path("p/src/lib.rs")).unwrap().set_modified(wait).unwrap();
    let (code, said, errors) = test();
    assert_eq!(code, Some(70), "{said}{errors}");
    assert!(said.contains("      - {\"a\":\"x\"}\n      + {\"b\":\"x\"}\n"), "{said}");

    // What it depends on is elsewhere.
    shared("2");
    fs::File::options().write(true).open(site.path("shared/src/lib.rs")).unwrap().set_modified(wait).unwrap();
    let (code, said, errors) = test();
    assert_eq!(code, Some(70), "{said}{errors}");
    assert!(said.contains("      - {\"a\":\"x\"}\n      + {\"b2\":\"x\"}\n"), "{said}");
}
