//! What a logstore means: its files, its chain, its sink.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use encoding_rs::{Encoding, REPLACEMENT, UTF_8};
use globset::{GlobBuilder, GlobSetBuilder};

use super::fields::{Fields, Table};
use super::limits::{Ceilings, limits};
use super::problem::Problem;
use super::project::Project;
use super::raw::{Node, Value};
use super::resolved::{
    Files, Format, Invalid, Logstore, LongEvent, Multiline, OnFault, Patterns, PluginRef, PluginUse, Rotated, StartAt,
};
use super::template::{LogstoreName, is_name};
use crate::hint::hint_among;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
const DAY: Duration = Duration::from_secs(24 * 3600);

const DEFAULT_POLL: Duration = Duration::from_secs(1);
const SHORTEST_POLL: Duration = Duration::from_millis(10);
const LONGEST_POLL: Duration = Duration::from_secs(3600);
const DEFAULT_FLUSH: Duration = Duration::from_secs(5);
const SHORTEST_FLUSH: Duration = Duration::from_millis(100);
const SHORTEST_AGE: Duration = Duration::from_secs(1);
/// Ten years.
const LONGEST_AGE: Duration = DAY.saturating_mul(3650);
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
const MAX_ROTATED_FILES: u64 = 100_000;
const DEFAULT_OPEN_FILES: u64 = 10_000;
const MAX_OPEN_FILES: u64 = 1_000_000;
/// Lines of an event: a stack trace may have some hundreds.
const DEFAULT_LINES: u64 = 1000;
const MAX_LINES: u64 = 100_000;
/// Sinks of a logstore at most.
const MAX_SINKS: usize = 16;
/// Bytes of a glob at most: it is compiled.
const MAX_GLOB: usize = 1 << 10;

/// The logstores of a file. Sinks that are not among `sinks` are missing, unless nobody knows.
pub fn logstores(
    root: &Table,
    sinks: Option<&BTreeSet<&str>>,
    projects: &BTreeMap<String, (Project, Ceilings)>,
    fields: &mut Fields,
) -> Vec<Arc<Logstore>> {
    let Some(node) = fields.require(root, "logstores") else { return Vec::new() };
    let items = fields.list(Some(node));
    if items.is_empty() && matches!(node.value, Value::List(_)) {
        fields.error(node, "must have at least one logstore");
    }
    let mut names = HashMap::new();
    items.iter().filter_map(|item| logstore(item, &mut names, sinks, projects, fields).map(Arc::new)).collect()
}

fn logstore<'n>(
    node: &'n Node,
    names: &mut HashMap<LogstoreName, &'n Node>,
    sinks: Option<&BTreeSet<&str>>,
    projects: &BTreeMap<String, (Project, Ceilings)>,
    fields: &mut Fields,
) -> Option<Logstore> {
    let table = fields.table(node, &["name", "machine_groups", "files", "plugins", "on_fault", "sink", "sinks"])?;
    let name = fields.require(&table, "name").and_then(|node| name(node, names, fields));
    let machine_groups = fields.texts(table.get("machine_groups"));
    let files = fields.require(&table, "files").and_then(|node| files(node, fields));
    let none = Ceilings::default();
    let declared = name.as_ref().and_then(|name| projects.get(&name.project));
    let ceilings = declared.map_or(&none, |(_, ceilings)| ceilings);
    let items = fields.list(table.get("plugins"));
    let mut plugins: Vec<_> = items.iter().filter_map(|item| plugin(item, ceilings, fields)).collect();
    // There may be thousands of logstores.
    plugins.shrink_to_fit();
    check_replaceable(items, &plugins, fields);
    let limits = limits(None, ceilings, fields);
    let plugin_keys = declared.map(|(project, _)| project.plugin_keys.keys.clone()).unwrap_or_default();
    let policies = [("raw", OnFault::Raw), ("drop", OnFault::Drop), ("hold", OnFault::Hold)];
    let on_fault = table.get("on_fault").and_then(|node| fields.choice(node, &policies)).unwrap_or_default();
    let sinks = sinks_of(&table, sinks, fields);
    let (files, sinks, place) = (files?, sinks?, node.place());
    Some(Logstore { name: name?, machine_groups, files, plugins, limits, plugin_keys, on_fault, sinks, place })
}

fn name<'n>(node: &'n Node, names: &mut HashMap<LogstoreName, &'n Node>, fields: &mut Fields) -> Option<LogstoreName> {
    let name: LogstoreName = match fields.text(node)?.parse() {
        Ok(name) => name,
        Err(error) => {
            fields.error(node, format!("{error}; not {}", node.shown()));
            return None;
        }
    };
    if let Some(first) = names.get(&name) {
        fields.error(node, format!("{} is taken by {} on line {}", node.shown(), first.path, first.line));
    } else {
        names.insert(name.clone(), node);
    }
    Some(name)
}

/// `sink`, or several `sinks`.
fn sinks_of(table: &Table, known: Option<&BTreeSet<&str>>, fields: &mut Fields) -> Option<Vec<String>> {
    let Some(node) = table.get("sinks") else {
        let node = fields.require(table, "sink")?;
        return Some(vec![sink(node, known, fields)?]);
    };
    if let Some(sink) = table.get("sink") {
        fields.error(sink, "give either `sink` or `sinks`");
    }
    let items = fields.list(Some(node));
    if items.is_empty() && matches!(node.value, Value::List(_)) {
        fields.error(node, "must have at least one sink");
    } else if items.len() > MAX_SINKS {
        fields.error(node, format!("must have at most {MAX_SINKS} sinks"));
    }
    let mut names = Vec::new();
    for item in items {
        let name = sink(item, known, fields)?;
        if names.contains(&name) {
            fields.error(item, "is in the list already");
        }
        names.push(name);
    }
    (!names.is_empty()).then_some(names)
}

fn sink(node: &Node, sinks: Option<&BTreeSet<&str>>, fields: &mut Fields) -> Option<String> {
    let name = fields.text(node)?;
    if let Some(sinks) = sinks.filter(|sinks| !sinks.contains(name)) {
        let hint = hint_among(name, "sinks are", sinks.iter().copied());
        let hint = hint.unwrap_or_else(|| "declare it under `sinks`".into());
        fields.error_with(node, format!("there is no sink {}", node.shown()), Some(hint));
    }
    Some(name.to_owned())
}

const FILES_KEYS: &[&str] = &[
    "root",
    "include",
    "exclude",
    "from",
    "ignore_older",
    "poll_interval",
    "format",
    "encoding",
    "invalid",
    "max_line",
    "long_lines",
    "multiline",
    "flush_after",
    "rotated",
    "max_open_files",
];

fn files(node: &Node, fields: &mut Fields) -> Option<Files> {
    let table = fields.table(node, FILES_KEYS)?;
    let root = fields.require(&table, "root").and_then(|node| root(node, fields));
    let include = table.get("include").map(|node| include(node, fields));
    let exclude = table.get("exclude").map(|node| globs(node, fields)).unwrap_or_default();
    let starts = [("beginning", StartAt::Beginning), ("end", StartAt::End)];
    let from = table.get("from").and_then(|node| fields.choice(node, &starts));
    let ages = SHORTEST_AGE..=LONGEST_AGE;
    let ignore_older = table.get("ignore_older").map(|node| fields.duration(Some(node), LONGEST_AGE, ages));
    let poll_interval = fields.duration(table.get("poll_interval"), DEFAULT_POLL, SHORTEST_POLL..=LONGEST_POLL);
    let formats = [("lines", Format::Lines), ("cri", Format::Cri), ("docker", Format::Docker)];
    let format = table.get("format").and_then(|node| fields.choice(node, &formats));
    let encoding = table.get("encoding").and_then(|node| encoding(node, fields)).unwrap_or(UTF_8);
    let policies = [("replace", Invalid::Replace), ("keep", Invalid::Keep)];
    let invalid = table.get("invalid").and_then(|node| fields.choice(node, &policies));
    let max_line = fields.size(table.get("max_line"), MIB, KIB..=64 * MIB) as usize;
    let policies = [("split", LongEvent::Split), ("truncate", LongEvent::Truncate), ("skip", LongEvent::Skip)];
    let long_lines = table.get("long_lines").and_then(|node| fields.choice(node, &policies));
    let multiline = table.get("multiline").map(|node| multiline(node, fields));
    let flush_after = fields.duration(table.get("flush_after"), DEFAULT_FLUSH, SHORTEST_FLUSH..=LONGEST_POLL);
    let rotated = table.get("rotated").and_then(|node| rotated(node, fields));
    let max_open_files = fields.integer(table.get("max_open_files"), DEFAULT_OPEN_FILES, 1..=MAX_OPEN_FILES);
    Some(Files {
        root: root?,
        include: include.unwrap_or_else(|| vec!["*.log".into()]),
        exclude,
        from: from.unwrap_or(StartAt::Beginning),
        ignore_older,
        poll_interval,
        format: format.unwrap_or(Format::Lines),
        encoding: encoding.name(),
        // A line that stays as it is among lines that became UTF-8 is of no use, unless someone asks for it.
        invalid: invalid.unwrap_or(if encoding == UTF_8 { Invalid::Keep } else { Invalid::Replace }),
        max_line,
        long_lines: long_lines.unwrap_or(LongEvent::Split),
        multiline: multiline.flatten(),
        flush_after,
        rotated: rotated.unwrap_or_default(),
        max_open_files: max_open_files as usize,
    })
}

/// An encoding by any of its names. The labels that stand for `REPLACEMENT` decode nothing.
fn encoding(node: &Node, fields: &mut Fields) -> Option<&'static Encoding> {
    let found = Encoding::for_label(fields.text(node)?.as_bytes()).filter(|encoding| *encoding != REPLACEMENT);
    if found.is_none() {
        let names = "a WHATWG name such as utf-8, utf-16le, gbk, shift_jis, windows-1252";
        fields.error(node, format!("{} is not an encoding: use {names}", node.shown()));
    }
    found
}

fn rotated(node: &Node, fields: &mut Fields) -> Option<Rotated> {
    let table = fields.table(node, &["wait", "max_files", "max_size"])?;
    let default = Rotated::default();
    let max_files = fields.integer(table.get("max_files"), default.max_files as u64, 0..=MAX_ROTATED_FILES);
    Some(Rotated {
        wait: fields.duration(table.get("wait"), default.wait, SHORTEST_WAIT..=LONGEST_WAIT),
        max_files: max_files as usize,
        max_size: fields.size(table.get("max_size"), default.max_size, 0..=TIB),
    })
}

fn multiline(node: &Node, fields: &mut Fields) -> Option<Multiline> {
    let table = fields.table(node, &["start", "continue", "end", "max_lines"])?;
    let mut pattern = |key| table.get(key).map(|node| regex(node, fields).unwrap_or_default());
    let patterns = match (pattern("start"), pattern("continue"), pattern("end")) {
        (Some(start), None, None) => Patterns::Start(start),
        (Some(start), Some(more), None) => Patterns::StartContinue(start, more),
        (None, None, Some(end)) => Patterns::End(end),
        _ => {
            fields.error(node, "needs `start`, or `start` and `continue`, or `end`");
            return None;
        }
    };
    let max_lines = fields.integer(table.get("max_lines"), DEFAULT_LINES, 2..=MAX_LINES) as usize;
    Some(Multiline { patterns, max_lines })
}

fn regex(node: &Node, fields: &mut Fields) -> Option<String> {
    let text = fields.text(node)?;
    if let Err(error) = regex::bytes::Regex::new(text) {
        // The error's last line is what is wrong; those before it draw where.
        let error = error.to_string();
        let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        fields.error(node, format!("{} is not a regular expression: {reason}", node.shown()));
        return None;
    }
    Some(text.to_owned())
}

fn root(node: &Node, fields: &mut Fields) -> Option<PathBuf> {
    if has_parent(fields.text(node)?) {
        fields.error(node, "must not have `..` in it");
        return None;
    }
    fields.path(node)
}

fn has_parent(path: &str) -> bool {
    Path::new(path).components().any(|component| component == Component::ParentDir)
}

fn include(node: &Node, fields: &mut Fields) -> Vec<String> {
    if matches!(&node.value, Value::List(items) if items.is_empty()) {
        fields.error(node, "must have at least one glob");
    }
    globs(node, fields)
}

fn globs(node: &Node, fields: &mut Fields) -> Vec<String> {
    let (mut texts, mut set) = (Vec::new(), GlobSetBuilder::new());
    for item in fields.list(Some(node)) {
        let Some(text) = fields.text(item) else { continue };
        if text.len() > MAX_GLOB {
            fields.error(item, format!("a glob has at most {MAX_GLOB} bytes"));
        } else if text.starts_with('/') || has_parent(text) {
            fields.error(item, "a glob is relative to `root`, without `..`");
        } else {
            match GlobBuilder::new(text).literal_separator(true).build() {
                Ok(glob) => _ = set.add(glob),
                Err(error) => fields.error(item, format!("{} is not a glob: {}", item.shown(), error.kind())),
            }
        }
        texts.push(text.to_owned());
    }
    if set.build().is_err() {
        fields.error(node, "these globs are too large");
    }
    texts
}

fn plugin(node: &Node, ceilings: &Ceilings, fields: &mut Fields) -> Option<PluginUse> {
    let table = fields.table(node, &["use", "settings", "limits", "files", "replaceable"])?;
    let reference = fields.require(&table, "use").and_then(|node| reference(node, fields));
    let settings = table.get("settings").and_then(|node| settings(node, fields));
    let limits = limits(table.get("limits"), ceilings, fields);
    let settings = settings.unwrap_or_else(|| "{}".into());
    let files = table.get("files").and_then(|node| fields.path(node));
    let replaceable = table.get("replaceable").map(|node| fields.boolean(Some(node), true));
    Some(PluginUse { reference: reference?, settings, limits, files, replaceable, place: node.place() })
}

/// An upload takes the place of one plugin.
fn check_replaceable(items: &[Node], plugins: &[PluginUse], fields: &mut Fields) {
    let mut marked = plugins.iter().filter(|used| used.replaceable == Some(true));
    let Some(first) = marked.next() else { return };
    for second in marked {
        let Some(node) = items.iter().find(|item| item.place() == second.place) else { continue };
        let message =
            format!("{} is replaceable already, and an upload takes the place of one plugin", first.place.path);
        fields.problems.error(Problem::new(node.place_of("replaceable"), message));
    }
}

fn reference(node: &Node, fields: &mut Fields) -> Option<PluginRef> {
    let text = fields.text(node)?;
    if let Some(hex) = text.strip_prefix("sha256:") {
        if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Some(PluginRef::Digest(text.to_ascii_lowercase()));
        }
        fields.error(node, "a digest is `sha256:` and 64 hex digits");
    } else if text.contains('/') || text.ends_with(".wasm") {
        return fields.path(node).map(PluginRef::Path);
    } else if is_name(text) {
        return Some(PluginRef::Name(text.to_owned()));
    } else {
        fields.mismatch(node, "a plugin's name, the path of a .wasm, or `sha256:` and a digest", None);
    }
    None
}

fn settings(node: &Node, fields: &mut Fields) -> Option<String> {
    if !matches!(node.value, Value::Map(_)) {
        fields.mismatch(node, "a mapping", None);
        return None;
    }
    Some(json(node, fields).to_string())
}

fn json(node: &Node, fields: &mut Fields) -> serde_json::Value {
    match &node.value {
        Value::Invalid | Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Integer(value) => match i64::try_from(*value) {
            Ok(value) => value.into(),
            // A node's integers fit in 64 bits, with or without a sign.
            Err(_) => (*value as u64).into(),
        },
        Value::Float(value) => {
            if !value.is_finite() {
                fields.error(node, "plugins take no infinite numbers, nor what is not a number");
            }
            (*value).into()
        }
        Value::Text(text) => text.text.as_str().into(),
        Value::List(items) => items.iter().map(|item| json(item, fields)).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|(key, value)| (key.clone(), json(value, fields)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}
