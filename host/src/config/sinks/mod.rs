//! What sinks mean: each type's keys in a file of its own, and what those on the network share in `network`.

mod http;
mod loki;
mod network;
mod sls;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use http::{Encoding, Http};
pub use loki::{Line, Loki};
pub use network::{Auth, Batching, Compression, Network, Secret, Tls};
pub use sls::{Endpoint, Signature, Sls};

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
    File {
        /// The file for each logstore.
        path: PathTemplate,
    },
    /// Nowhere: for measuring.
    Blackhole,
    /// An HTTP server that takes JSON.
    Http(Box<Http>),
    /// A server with Loki's push API.
    Loki(Box<Loki>),
    /// The Log Service.
    Sls(Box<Sls>),
}

#[derive(Clone, Copy, PartialEq)]
enum SinkType {
    Stdout,
    File,
    Blackhole,
    Http,
    Loki,
    Sls,
}

const TYPES: &[(&str, SinkType)] = &[
    ("stdout", SinkType::Stdout),
    ("file", SinkType::File),
    ("blackhole", SinkType::Blackhole),
    ("http", SinkType::Http),
    ("loki", SinkType::Loki),
    ("sls", SinkType::Sls),
];

impl Sink {
    /// What it shares with all that are on the network, if it is.
    pub fn network(&self) -> Option<&Network> {
        match self {
            Sink::Stdout | Sink::File { .. } | Sink::Blackhole => None,
            Sink::Http(http) => Some(&http.network),
            Sink::Loki(loki) => Some(&loki.network),
            Sink::Sls(sls) => Some(&sls.network),
        }
    }

    /// The ports that it connects to for a logstore; none if they are not known.
    pub fn ports(&self, name: &LogstoreName) -> Option<Vec<u16>> {
        match self {
            Sink::Stdout | Sink::File { .. } | Sink::Blackhole => Some(Vec::new()),
            Sink::Http(http) => network::port(&http.url.render(name)).map(|port| vec![port]),
            Sink::Loki(loki) => network::port(&loki.url.render(name)).map(|port| vec![port]),
            Sink::Sls(sls) => sls.port().map(|port| vec![port]),
        }
    }

    /// The files that its secrets are in.
    pub fn secret_files(&self) -> Vec<&PathBuf> {
        let secrets = match self {
            Sink::Stdout | Sink::File { .. } | Sink::Blackhole => Vec::new(),
            Sink::Http(http) => http.auth.secrets(),
            Sink::Loki(loki) => loki.auth.secrets(),
            Sink::Sls(sls) => sls.secrets(),
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
        SinkType::File => {
            let table = table(node, &["path"], fields)?;
            let path = fields.require(&table, "path")?;
            Some(Sink::File { path: path_template(path, fields)? })
        }
        SinkType::Http => http::http(node, fields).map(|http| Sink::Http(Box::new(http))),
        SinkType::Loki => loki::loki(node, fields).map(|loki| Sink::Loki(Box::new(loki))),
        SinkType::Sls => sls::sls(node, fields).map(|sls| Sink::Sls(Box::new(sls))),
    }
}

/// A sink's keys, `type` among them.
fn table<'n>(node: &'n Node, keys: &[&str], fields: &mut Fields) -> Option<Table<'n>> {
    fields.table(node, &[&["type"], keys].concat())
}

/// Text with placeholders.
fn template(node: &Node, fields: &mut Fields) -> Option<Template> {
    let text = fields.text(node)?;
    Template::parse(text).map_err(|error| bad_template(node, &error, fields)).ok()
}

fn path_template(node: &Node, fields: &mut Fields) -> Option<PathTemplate> {
    let text = fields.text(node)?;
    let template = PathTemplate::parse(text, &fields.base);
    template.map_err(|error| bad_template(node, &error, fields)).ok()
}

fn bad_template(node: &Node, error: &BadTemplate, fields: &mut Fields) {
    let is_unknown = matches!(error, BadTemplate::Unknown(_));
    // What stands in the braces may have been substituted, and a secret.
    let message = if is_unknown && node.is_substituted() { "unknown placeholder".into() } else { error.to_string() };
    fields.error_with(node, message, is_unknown.then(|| "placeholders are {project} and {logstore}".into()));
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    #[test]
    fn the_examples_of_the_documentation_are_right() {
        let page = include_str!("../../../../docs/sinks.md");
        let examples = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
        for example in examples {
            let loaded = parse(example, "weir.yaml", &|_| Some("value".to_owned()));
            let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}\n{example}"));
            assert!(loaded.warnings.is_empty(), "{example}");
        }
    }
}
