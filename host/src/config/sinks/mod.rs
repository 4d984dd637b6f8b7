//! What sinks mean: each type's keys in a file of its own, and what those on the network share in `network`.

mod clickhouse;
mod elasticsearch;
mod file;
mod http;
mod network;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use clickhouse::{ClickHouse, ColumnOfTags};
pub use elasticsearch::{Action, Elasticsearch};
pub use file::{File, Rotate, Sync};
pub use http::{Encoding, Http};
pub use network::{Auth, Batching, Compression, Network, Secret, Tls};

use super::fields::{Fields, Table};
use super::raw::Node;
use super::resolved::check_name;
use super::template::{BadTemplate, LogstoreName, PathTemplate, Template};

/// A destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// NDJSON on the standard output.
    Stdout,
    /// NDJSON in files.
    File(Box<File>),
    /// Nowhere: for measuring.
    Blackhole,
    /// An HTTP server that takes JSON.
    Http(Box<Http>),
    /// Tables of ClickHouse.
    ClickHouse(Box<ClickHouse>),
    /// Indices of Elasticsearch or OpenSearch.
    Elasticsearch(Box<Elasticsearch>),
}

#[derive(Clone, Copy, PartialEq)]
enum SinkType {
    Stdout,
    File,
    Blackhole,
    Http,
    ClickHouse,
    Elasticsearch,
}

const TYPES: &[(&str, SinkType)] = &[
    ("stdout", SinkType::Stdout),
    ("file", SinkType::File),
    ("blackhole", SinkType::Blackhole),
    ("http", SinkType::Http),
    ("clickhouse", SinkType::ClickHouse),
    ("elasticsearch", SinkType::Elasticsearch),
];

impl Sink {
    /// What it shares with all that are on the network, if it is.
    pub fn network(&self) -> Option<&Network> {
        match self {
            Sink::Stdout | Sink::File(_) | Sink::Blackhole => None,
            Sink::Http(http) => Some(&http.network),
            Sink::ClickHouse(clickhouse) => Some(&clickhouse.network),
            Sink::Elasticsearch(elasticsearch) => Some(&elasticsearch.network),
        }
    }

    /// The ports that it connects to for a logstore; none if they are not known.
    pub fn ports(&self, name: &LogstoreName) -> Option<Vec<u16>> {
        match self {
            Sink::Stdout | Sink::File(_) | Sink::Blackhole => Some(Vec::new()),
            Sink::Http(http) => network::port(&http.url.render(name)).map(|port| vec![port]),
            Sink::ClickHouse(clickhouse) => network::port(&clickhouse.url).map(|port| vec![port]),
            Sink::Elasticsearch(elasticsearch) => network::port(&elasticsearch.url).map(|port| vec![port]),
        }
    }

    /// The files that its secrets are in.
    pub fn secret_files(&self) -> Vec<&PathBuf> {
        let secrets = match self {
            Sink::Stdout | Sink::File(_) | Sink::Blackhole => Vec::new(),
            Sink::Http(http) => http.auth.secrets(),
            Sink::ClickHouse(clickhouse) => clickhouse.password.iter().collect(),
            Sink::Elasticsearch(elasticsearch) => elasticsearch.auth.secrets(),
        };
        secrets
            .into_iter()
            .filter_map(|secret| match secret {
                Secret::File(path) => Some(path),
                Secret::Value(_) => None,
            })
            .collect()
    }
}

/// All sinks by name, also those that are wrong, so that these do not seem to be missing. None if nobody
/// knows, as the whole is no mapping.
pub(super) fn sinks(node: Option<&Node>, fields: &mut Fields) -> Option<BTreeMap<String, Option<Sink>>> {
    let Some(node) = node else { return Some(BTreeMap::new()) };
    let mut sinks = BTreeMap::new();
    for (name, node) in fields.entries(node)? {
        check_name(name, node, fields);
        sinks.insert(name.clone(), sink(node, fields));
    }
    Some(sinks)
}

fn sink(node: &Node, fields: &mut Fields) -> Option<Sink> {
    // Which keys are known depends on the type.
    let any = fields.entries(node)?;
    let Some((_, type_node)) = any.iter().find(|(key, _)| key == "type") else {
        let _ = fields.open_table(node).and_then(|table| fields.require(&table, "type"));
        return None;
    };
    match fields.choice(type_node, TYPES)? {
        SinkType::Stdout => table(node, &[], fields).map(|_| Sink::Stdout),
        SinkType::Blackhole => table(node, &[], fields).map(|_| Sink::Blackhole),
        SinkType::File => file::file(node, fields).map(|file| Sink::File(Box::new(file))),
        SinkType::Http => http::http(node, fields).map(|http| Sink::Http(Box::new(http))),
        SinkType::ClickHouse => clickhouse::clickhouse(node, fields).map(|sink| Sink::ClickHouse(Box::new(sink))),
        SinkType::Elasticsearch => {
            elasticsearch::elasticsearch(node, fields).map(|sink| Sink::Elasticsearch(Box::new(sink)))
        }
    }
}

/// A sink's keys, `type` among them.
fn table<'n>(node: &'n Node, keys: &[&str], fields: &mut Fields) -> Option<Table<'n>> {
    fields.table(node, &[&["type"], keys].concat())
}

/// Text with placeholders.
fn template(node: &Node, fields: &mut Fields) -> Option<Template> {
    let text = fields.text(node)?;
    Template::parse(text).map_err(|error| bad_template(node, &error, "{project} and {logstore}", fields)).ok()
}

fn path_template(node: &Node, fields: &mut Fields) -> Option<PathTemplate> {
    let text = fields.text(node)?;
    let template = PathTemplate::parse(text, &fields.base);
    let known = "{project}, {logstore}, {date} and {hour}";
    template.map_err(|error| bad_template(node, &error, known, fields)).ok()
}

fn bad_template(node: &Node, error: &BadTemplate, known: &str, fields: &mut Fields) {
    let is_unknown = matches!(error, BadTemplate::Unknown(_));
    // What stands in the braces may have been substituted, and a secret.
    let message = if is_unknown && node.is_substituted() { "unknown placeholder".into() } else { error.to_string() };
    fields.error_with(node, message, is_unknown.then(|| format!("placeholders are {known}")));
}

/// For the tests of each type.
#[cfg(test)]
mod testing {
    use super::super::{Loaded, parse};
    use super::Sink;

    fn config(keys: &str) -> String {
        // What is in braces may go on over several lines.
        format!("logstores:\n- {{ name: a/b, files: {{ root: /x }}, sink: s }}\nsinks:\n  s: {{ {keys} }}\n")
    }

    /// The sink with these keys, written as in braces.
    #[track_caller]
    pub fn sink(keys: &str) -> Sink {
        let Loaded { mut config, .. } = parse(&config(keys), "/weir.yaml", &|_| None).unwrap_or_else(|e| panic!("{e}"));
        config.sinks.remove("s").unwrap()
    }

    /// What is wrong with it: the path in the sink, and the message.
    #[track_caller]
    pub fn problems(keys: &str) -> Vec<String> {
        let errors = parse(&config(keys), "/weir.yaml", &|_| None).expect_err(keys);
        let line = |path: &str| path.strip_prefix("sinks.s.").unwrap_or(path).to_owned();
        errors.problems().iter().map(|problem| format!("{}: {}", line(&problem.place.path), problem.message)).collect()
    }
}
