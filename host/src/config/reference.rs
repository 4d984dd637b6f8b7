//! The page of all keys. Nobody lists them: the reader is given a mapping wherever it may want one and says which keys it
//! knows there; what a key takes is what the reader says of a value that it cannot take. Defaults are those of the pages,
//! and each is tried.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use super::sinks::types;
use super::{Config, parse};
use crate::reference::{anchor, check, head, repository, row};

thread_local! {
    /// The keys that the reader knew, by the place of their mapping.
    static ASKED: RefCell<BTreeMap<String, Vec<String>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Hears from the reader which keys it knows in a mapping.
pub fn asked(place: &str, known: &[&str]) {
    let known = known.iter().map(|key| (*key).to_owned()).collect();
    ASKED.with(|asked| asked.borrow_mut().insert(place.to_owned(), known));
}

const PAGE: &str = "# All keys

What the reader of configurations takes, as `make reference` wrote it down. What keys mean is on the pages that are linked.
";

/// A mapping of the configuration.
struct Section {
    /// Where it stands: `logstores[].files`.
    name: String,
    /// Of a sink, its type: the first of those that have it.
    of: Option<&'static str>,
    /// Further types.
    shared: Vec<&'static str>,
    /// A configuration that has it, and where: a JSON pointer.
    example: (Value, String),
    keys: Vec<Key>,
}

struct Key {
    name: String,
    takes: String,
    /// Whether there is an error without it: the keys that may be there in its place.
    required: Option<Vec<String>>,
}

/// What the reader says of a configuration.
struct Answer {
    asked: BTreeMap<String, Vec<String>>,
    /// Place, message, hint.
    problems: Vec<(String, String, String)>,
    config: Option<Config>,
}

fn ask(config: &Value) -> Answer {
    ask_text(&config.to_string())
}

fn ask_text(text: &str) -> Answer {
    ASKED.with(|asked| asked.borrow_mut().clear());
    let (config, problems) = match parse(text, "/etc/weir.yaml", &|_| None) {
        Ok(loaded) => (Some(loaded.config), Vec::new()),
        Err(errors) => (None, errors.problems().to_vec()),
    };
    let told = |problem: super::Problem| (problem.place.path, problem.message, problem.hint.unwrap_or_default());
    Answer { asked: ASKED.with(RefCell::take), problems: problems.into_iter().map(told).collect(), config }
}

impl Answer {
    /// What must be at a place, by the message that it is not.
    fn wanted(&self, place: &str) -> Option<&str> {
        let found = self.problems.iter().filter(|(path, ..)| path == place);
        found.filter_map(|(_, message, _)| message.strip_prefix("must be ")?.split(", not ").next()).next()
    }

    /// The words that may be at a place, by the message that another may not.
    fn words(&self, place: &str) -> Option<&str> {
        let found = self.problems.iter().filter(|(path, ..)| path == place);
        found.filter_map(|(_, _, hint)| hint.strip_prefix("it is one of ")).next()
    }

    fn has_problem(&self, place: &str) -> bool {
        self.problems.iter().any(|(path, ..)| path == place)
    }

    fn is_missing(&self, place: &str) -> bool {
        self.problems.iter().any(|(path, message, _)| path == place && message == "is required")
    }
}

/// What is right with one logstore and one sink.
fn base() -> Value {
    json!({
        "logstores": [{"name": "p/a", "files": {"root": "/x"}, "sink": "s"}],
        "sinks": {"s": {"type": "stdout"}},
    })
}

/// A sink of a type, with what it needs.
fn sink(kind: &str) -> Value {
    let needs = match kind {
        "file" => json!({"path": "/out/{logstore}"}),
        "http" | "loki" | "otlp" => json!({"url": "http://h"}),
        "kafka" => json!({"brokers": ["h:1"], "topic": "t"}),
        "clickhouse" => json!({"url": "http://h", "table": "t"}),
        "elasticsearch" => json!({"url": "http://h", "index": "i"}),
        "sls" => json!({"endpoint": "cn-x.log.aliyuncs.com", "access_key_id": "i", "access_key_secret": "s"}),
        _ => json!({}),
    };
    let mut sink = json!({"type": kind});
    sink.as_object_mut().unwrap().extend(needs.as_object().unwrap().clone());
    sink
}

/// The same configuration with another value at a pointer, which may be new.
fn with(config: &Value, pointer: &str, value: Value) -> Value {
    let mut config = config.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = config.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        _ => parent[key] = value,
    }
    config
}

/// A pointer as the reader shows it: `logstores[0].files`.
fn place(pointer: &str) -> String {
    let mut place = String::new();
    for part in pointer.split('/').skip(1) {
        match part.parse::<usize>() {
            Ok(index) => place += &format!("[{index}]"),
            Err(_) if place.is_empty() => place += part,
            Err(_) => place += &format!(".{part}"),
        }
    }
    place
}

/// All mappings whose keys the reader knows.
fn sections() -> Vec<Section> {
    let mut sections = Vec::new();
    explore(&base(), "", "", None, &mut sections);
    for kind in types() {
        let config = with(&base(), "/sinks/s", sink(kind));
        explore(&config, "/sinks/s", "sinks.NAME", Some(kind), &mut sections);
    }
    sections
}

/// The mapping at a pointer, and those in it.
fn explore(config: &Value, pointer: &str, name: &str, of: Option<&'static str>, sections: &mut Vec<Section>) {
    let answer = ask(config);
    let known = answer.asked[&place(pointer)].clone();
    // What is required is known of a mapping that has nothing, but for what says which mapping it is.
    let bare = match of {
        Some(kind) if name == "sinks.NAME" => with(config, pointer, json!({"type": kind})),
        _ if pointer.is_empty() => json!({}),
        _ => with(config, pointer, json!({})),
    };
    let missing = |config: &Value, key: &str| ask(config).is_missing(&place(&format!("{pointer}/{key}")));
    let mut keys = Vec::new();
    let mut nested = Vec::new();
    for key in known.clone() {
        let at = format!("{pointer}/{key}");
        let inner = format!("{name}.{key}").trim_start_matches('.').to_owned();
        let tries = [
            (json!({}), at.clone(), inner.clone(), "a mapping"),
            (json!([{}]), format!("{at}/0"), format!("{inner}[]"), "a list of mappings"),
            (json!({"p": {}}), format!("{at}/p"), format!("{inner}.NAME"), "mappings by name"),
        ];
        let mut takes = Vec::new();
        for (value, pointer, name, what) in tries {
            let config = with(config, &at, value);
            if ask(&config).asked.contains_key(&place(&pointer)) {
                takes.push(what.to_owned());
                nested.push((config, pointer, name));
                break;
            }
        }
        if key == "sinks" && name.is_empty() {
            takes.push("mappings by name".to_owned());
        }
        let takes = match of {
            Some(_) if key == "type" => "its type".to_owned(),
            _ => takes_of(config, &at, takes),
        };
        let replaces = |other: &&String| {
            !["type", key.as_str()].contains(&other.as_str())
                && !missing(&with(&bare, &format!("{pointer}/{other}"), json!("x")), &key)
        };
        let required = match missing(&bare, &key) {
            true => Some(known.iter().filter(replaces).cloned().collect()),
            false => (key == "type").then(Vec::new),
        };
        keys.push(Key { name: key, takes, required });
    }
    let names = |keys: &[Key]| keys.iter().map(|key| key.name.clone()).collect::<Vec<_>>();
    match sections.iter_mut().find(|known| known.name == name && names(&known.keys) == names(&keys)) {
        // Sinks have some mappings in common.
        Some(known) => known.shared.extend(of),
        None => {
            let example = (config.clone(), pointer.to_owned());
            sections.push(Section { name: name.to_owned(), of, shared: Vec::new(), example, keys });
        }
    }
    for (config, pointer, name) in nested {
        explore(&config, &pointer, &name, of, sections);
    }
}

/// What a key takes, in the reader's words.
fn takes_of(config: &Value, pointer: &str, mappings: Vec<String>) -> String {
    let place = place(pointer);
    let wrong = ask(&with(config, pointer, json!("?~")));
    let words = wrong
        .words(&place)
        .map(|words| words.split(", ").map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "));
    let can_be_off = !mappings.is_empty() && !ask(&with(config, pointer, json!("off"))).has_problem(&place);
    let words = words.or_else(|| can_be_off.then(|| "`off`".to_owned()));
    let mut takes: Vec<_> = words.into_iter().chain(mappings).collect();
    if takes.is_empty() {
        takes.push(plain(config, pointer, &place));
    }
    takes.join(", or ")
}

fn plain(config: &Value, pointer: &str, place: &str) -> String {
    if pointer.ends_with("/compression_level") {
        let level = |compression: &str| {
            let config = with(config, &pointer.replace("_level", ""), json!(compression));
            let wanted = ask(&with(&config, pointer, json!([]))).wanted(place)?.to_owned();
            Some(format!("{wanted} (`{compression}`)"))
        };
        return ["gzip", "zstd"].into_iter().filter_map(level).collect::<Vec<_>>().join(", ");
    }
    match ask(&with(config, pointer, json!({}))).wanted(place) {
        Some("a list") => {
            let items = ask(&with(config, pointer, json!([{}])));
            items
                .wanted(&format!("{place}[0]"))
                .map_or("a list".to_owned(), |item| format!("a list of {}s", item.trim_start_matches("a ")))
        }
        Some(wanted) => wanted.to_owned(),
        // It takes any, or else it is not looked at unless others are there, or as long as another is.
        None if ask(&with(config, pointer, json!("?~"))).wanted(place) == Some("a mapping") => "a mapping".to_owned(),
        None => among_others(config, pointer, place),
    }
}

/// What a key takes that is not looked at by itself.
fn among_others(config: &Value, pointer: &str, place: &str) -> String {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let mut config = config.clone();
    if let (Some(twin), Some(section)) = (key.strip_suffix("_file"), config.pointer_mut(parent)) {
        section.as_object_mut().unwrap().remove(twin);
    }
    let others = ["user", "cert", "key", "start"].into_iter().filter(|other| *other != key);
    let tries = others.map(|other| with(&config, &format!("{parent}/{other}"), json!("x"))).chain([config.clone()]);
    let found =
        tries.filter_map(|config| ask(&with(&config, pointer, json!({}))).wanted(place).map(str::to_owned)).next();
    found.unwrap_or_else(|| panic!("nobody says what {place} takes"))
}

/// Page, heading, and what stands before keys there.
type Place = (&'static str, String, String);

/// Where a mapping is described. The first that has a key counts.
fn pages(section: &Section) -> Vec<Place> {
    let here = |page, heading: &str, prefix: &str| (page, heading.to_owned(), prefix.to_owned());
    let of_all = "Keys of every sink on the network";
    match (&*section.name, section.of) {
        ("", _) => vec![here("configuration.md", "Keys", "")],
        ("admin", _) => vec![here("configuration.md", "`admin`", "")],
        ("admin.tls", _) => vec![here("configuration.md", "`admin`", "tls.")],
        ("projects.NAME", _) => vec![here("configuration.md", "A project", "")],
        ("projects.NAME.uploads", _) => vec![here("configuration.md", "A project", "uploads.")],
        ("logstores[]", _) => vec![here("configuration.md", "A logstore", "")],
        ("logstores[].files", _) => vec![here("configuration.md", "`files`", "")],
        ("logstores[].files.multiline", _) => vec![here("configuration.md", "`multiline`", "")],
        ("logstores[].files.rotated", _) => vec![here("configuration.md", "`rotated`", "")],
        ("logstores[].plugins[]", _) => vec![here("configuration.md", "A plugin", "")],
        ("projects.NAME.limits" | "logstores[].plugins[].limits", _) => vec![here("configuration.md", "`limits`", "")],
        ("dead_letters", _) => vec![here("configuration.md", "`dead_letters`", "")],
        ("sinks.NAME", Some(kind)) => {
            let own = here("sinks.md", &format!("`{kind}`"), "");
            vec![own, here("delivery.md", of_all, ""), here("configuration.md", "A sink", "")]
        }
        (name, Some(kind)) => {
            let key = format!("{}.", name.trim_start_matches("sinks.NAME."));
            vec![here("sinks.md", &format!("`{kind}`"), &key), here("delivery.md", of_all, &key)]
        }
        (name, None) => panic!("nobody knows where {name} is described"),
    }
}

/// The text under a heading, up to the next one that is not below it.
fn under(page: &str, heading: &str) -> String {
    let text = fs::read_to_string(repository().join("docs").join(page)).unwrap();
    let depth = |line: &str| {
        line.split(' ').next().filter(|marks| !marks.is_empty() && marks.chars().all(|c| c == '#')).map(str::len)
    };
    let title = |line: &str| line.trim_start_matches('#').trim() == heading;
    let begin = text.lines().position(|line| depth(line).is_some() && title(line));
    let begin = begin.unwrap_or_else(|| panic!("docs/{page} has no heading {heading}"));
    let mut is_code = false;
    let prose = text.lines().skip(begin + 1).filter(|line| {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    prose.take_while(|line| depth(line).is_none()).collect::<Vec<_>>().join("\n")
}

/// The rows of the first table there whose head begins with `key`: names, default, and the rest.
fn rows(page: &str, heading: &str) -> Vec<(Vec<String>, Option<String>, String)> {
    let text = under(page, heading);
    let mut lines = text.lines().skip_while(|line| !line.starts_with("| key |"));
    let has_default = lines.next().is_some_and(|line| line.starts_with("| key | default |"));
    let rows = lines.skip(1).take_while(|line| line.starts_with('|') || line.is_empty());
    let rows = rows.filter(|line| !line.is_empty());
    rows.map(|line| {
        let line = line.replace("\\|", "\0");
        let cells: Vec<_> = line.trim_matches('|').split('|').map(|cell| cell.trim().replace('\0', "\\|")).collect();
        let default = has_default.then(|| cells[1].clone());
        (code(&cells[0]), default, cells[1..].join(" "))
    })
    .collect()
}

/// What is in backticks.
fn code(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What the pages say is there if a key is not given; nothing if they say it in words.
fn default(section: &Section, key: &Key) -> Option<String> {
    if section.name == "projects.NAME.limits" {
        return Some("no ceiling".to_owned());
    }
    let row = |(page, heading, prefix): Place| {
        let name = format!("{prefix}{}", key.name);
        rows(page, &heading).into_iter().find(|(names, ..)| names.contains(&name))
    };
    // Of what has keys of its own, these say it.
    pages(section).into_iter().find_map(row)?.1.filter(|default| default != "see below")
}

#[test]
fn the_reference_of_keys() {
    let mut page = PAGE.to_owned();
    let sections = sections();
    for section in &sections {
        page += &format!("\n## {}\n\n", title(section, &sections));
        let links = links(section);
        if !links.is_empty() {
            page += &format!("See {}.\n\n", links.join(", "));
        }
        page += &head(["key", "takes", "if not given"]);
        for key in &section.keys {
            let default = match &key.required {
                Some(others) if others.is_empty() => "required".to_owned(),
                Some(others) => format!("required, or `{}`", others.join("`, `")),
                None => default(section, key).unwrap_or_default(),
            };
            assert!(!default.contains("]("), "{default}: a link that leads elsewhere from here");
            page += &row([&format!("`{}`", key.name), &key.takes, &default]);
        }
    }
    check("configuration.md", &page);
}

/// Where it stands; and which sinks have it, where others have something else there.
fn title(section: &Section, all: &[Section]) -> String {
    let twins = all.iter().filter(|other| other.name == section.name).count() > 1;
    let types = section.of.iter().chain(&section.shared).filter(|_| twins);
    let types: Vec<_> = types.map(|kind| format!("`{kind}`")).collect();
    match section.name.as_str() {
        "" => "The file".to_owned(),
        name if types.is_empty() => format!("`{name}`"),
        name => format!("`{name}`: {}", types.join(", ")),
    }
}

/// Links to where its keys have rows.
fn links(section: &Section) -> Vec<String> {
    let has_rows = |(page, heading, prefix): &Place| {
        let is_here = |name: &String| section.keys.iter().any(|key| *name == format!("{prefix}{}", key.name));
        rows(page, heading).iter().any(|(names, ..)| names.iter().any(is_here))
    };
    let link = |(page, heading, _): Place| format!("[{}](../{page}#{})", heading.replace('`', ""), anchor(&heading));
    pages(section).into_iter().filter(has_rows).map(link).collect()
}

#[test]
fn every_key_is_described() {
    let mut missing = Vec::new();
    for section in sections() {
        // Sinks have it in common, and delivery describes it in words.
        for key in section.keys.iter().filter(|key| key.name != "type" && section.name != "sinks.NAME.auth") {
            if !pages(&section).iter().any(|place| is_described(key, place)) {
                missing.push(format!("{} {:?}: {}", section.name, section.of, key.name));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Whether a key is in backticks there.
fn is_described(key: &Key, (page, heading, prefix): &Place) -> bool {
    let text = under(page, heading);
    let code = code(&text);
    let mut words = code.iter().flat_map(|code| code.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')));
    // Each secret can be given in a file.
    let has_files = text.contains("`…_file`") || text.contains("`_file`");
    let secret = key.name.strip_suffix("_file").filter(|_| has_files);
    let names: Vec<_> =
        [Some(&*key.name), secret].into_iter().flatten().map(|name| format!("{prefix}{name}")).collect();
    words.any(|word| {
        names
            .iter()
            .any(|name| word == name || word.starts_with(&format!("{name}.")) || format!("{prefix}{word}") == *name)
    })
}

#[test]
fn no_other_key_is_described() {
    let sections = sections();
    let mut described: BTreeMap<(&'static str, String), Vec<String>> = BTreeMap::new();
    for section in &sections {
        for (page, heading, prefix) in pages(section) {
            let keys = section.keys.iter().map(|key| format!("{prefix}{}", key.name));
            described.entry((page, heading)).or_default().extend(keys);
        }
    }
    for ((page, heading), known) in described {
        for (names, ..) in rows(page, &heading) {
            for name in names {
                assert!(known.contains(&name), "docs/{page}, {heading}: there is no key {name}");
            }
        }
    }
}

#[test]
fn defaults_are_as_described() {
    let mut tried = 0;
    for section in sections() {
        let (config, pointer) = &section.example;
        let Some(without) = ask(&whole(config)).config else { continue };
        for key in &section.keys {
            let Some(default) = default(&section, key) else { continue };
            let code = code(&default);
            // Words, or a default that depends on something else.
            if code.len() != 1 || default.len() != code[0].len() + 2 {
                continue;
            }
            let at = format!("{pointer}/{}", key.name);
            let text = whole(&with(config, &at, json!("@@"))).to_string().replace("\"@@\"", &typed(&code[0]));
            let answer = ask_text(&text);
            assert!(answer.config.is_some(), "{} {}: {:?}", section.name, key.name, answer.problems);
            assert!(
                answer.config.as_ref() == Some(&without),
                "{} {:?}: the default of {} is not {}",
                section.name,
                section.of,
                key.name,
                code[0]
            );
            tried += 1;
        }
    }
    assert!(tried > 80, "only {tried} were tried");
}

/// The configuration with what is required beside what it is about.
fn whole(config: &Value) -> Value {
    let mut config = config.clone();
    let Some(logstores) = config["logstores"].as_array_mut() else { return config };
    for logstore in logstores {
        for (key, value) in base()["logstores"][0].as_object().unwrap() {
            if logstore.get(key).is_none_or(|value| value == &json!({})) {
                logstore[key] = value.clone();
            }
        }
        if logstore["files"].get("root").is_none() {
            logstore["files"]["root"] = json!("/x");
        }
        if logstore["files"].get("multiline").is_some() {
            logstore["files"]["multiline"]["start"] = json!("x");
        }
        for plugin in logstore["plugins"].as_array_mut().into_iter().flatten() {
            plugin["use"] = json!("p");
        }
    }
    config
}

/// A default as it is typed within YAML's brackets.
fn typed(code: &str) -> String {
    let is_flow = code.starts_with(['[', '"']) || code.starts_with('{') && code.contains(':') || code == "{}";
    match is_flow || code.parse::<f64>().is_ok() || matches!(code, "true" | "false") {
        true => code.to_owned(),
        false => json!(code).to_string(),
    }
}
