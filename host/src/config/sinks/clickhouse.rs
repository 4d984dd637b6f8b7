//! `type: clickhouse`.

use std::time::Duration;

use super::super::fields::Fields;
use super::super::raw::{Node, Value};
use super::super::secret::{Secret, secret};
use super::super::template::Template;
use super::network::{self, Batching, Compression, Network};

/// Tables of ClickHouse, by its HTTP interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClickHouse {
    /// Where it is, without a slash at the end.
    pub url: String,
    /// The database of each logstore; if there is none, the user's own.
    pub database: Option<Template>,
    /// The table of each logstore.
    pub table: Template,
    /// The user, if it is not `default`.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// Whether the server gathers inserts; if it isn't said, as the user's profile says.
    pub async_insert: Option<bool>,
    /// `none`, `gzip` or `zstd`.
    pub compression: Compression,
    /// Further settings of each query.
    pub settings: Vec<(String, String)>,
    /// The name of the time's column.
    pub time_field: String,
    /// What the column of the tags has.
    pub tags: ColumnOfTags,
    /// The rest.
    pub network: Network,
}

/// What a column of tags has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnOfTags {
    /// An object: for `Map(String, String)` or `JSON`.
    Map,
    /// An object as text: for `String`.
    String,
}

const BATCHING: Batching = Batching { max_bytes: 4 << 20, max_events: 50_000, max_age: Duration::from_secs(5) };

const OWN: [&str; 12] = [
    "url",
    "database",
    "table",
    "user",
    "password",
    "password_file",
    "async_insert",
    "compression",
    "compression_level",
    "settings",
    "time_field",
    "tags",
];

/// Settings that weir sets itself.
const SET: [&str; 5] = ["query", "database", "wait_end_of_query", "user", "password"];

pub(super) fn clickhouse(node: &Node, fields: &mut Fields) -> Option<ClickHouse> {
    let table = super::table(node, &[&OWN[..], &network::KEYS].concat(), fields)?;
    let url = network::base_url(&table, fields);
    let database = match table.get("database") {
        Some(node) => super::template(node, fields).map(Some),
        None => Some(None),
    };
    let name = fields.require(&table, "table").and_then(|node| super::template(node, fields));
    let user = match table.get("user") {
        Some(node) => header(node, fields).map(Some),
        None => Some(None),
    };
    let password = secret(&table, "password", fields);
    let async_insert = table.get("async_insert").and_then(|node| boolean(node, fields));
    let compression = network::compression(&table, &["none", "gzip", "zstd"], fields);
    let settings = settings(table.get("settings"), fields);
    let time_field = match table.get("time_field") {
        Some(node) => fields.text(node).map(str::to_owned),
        None => Some("__time__".to_owned()),
    };
    let kinds = [("map", ColumnOfTags::Map), ("string", ColumnOfTags::String)];
    let tags = table.get("tags").map_or(Some(ColumnOfTags::Map), |node| fields.choice(node, &kinds));
    Some(ClickHouse {
        url: url?,
        database: database?,
        table: name?,
        user: user?,
        password,
        async_insert,
        compression: compression?,
        settings,
        time_field: time_field?,
        tags: tags?,
        network: network::network(&table, BATCHING, fields)?,
    })
}

/// Text that fits in a header.
fn header(node: &Node, fields: &mut Fields) -> Option<String> {
    let text = fields.text(node)?;
    if text.chars().any(char::is_control) {
        fields.error(node, "must not have control characters in it");
        return None;
    }
    Some(text.to_owned())
}

fn boolean(node: &Node, fields: &mut Fields) -> Option<bool> {
    match &node.value {
        Value::Bool(value) => Some(*value),
        Value::Text(text) if text.typed.is_some() => match &*text.text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        },
        _ => None,
    }
    .or_else(|| {
        fields.mismatch(node, "true or false", None);
        None
    })
}

/// Names and values of settings, as they stand in a query's address.
fn settings(node: Option<&Node>, fields: &mut Fields) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    for (name, node) in node.and_then(|node| fields.entries(node)).unwrap_or_default() {
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_name {
            fields.error(node, "is no name of a setting");
        } else if SET.contains(&name.as_str()) {
            fields.error(node, "is set by weir itself");
        } else if name == "wait_for_async_insert" {
            fields.error(node, "success would be said of events that may still be lost: see `async_insert`");
        }
        let value = match &node.value {
            Value::Bool(value) => u8::from(*value).to_string(),
            Value::Integer(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            _ => match fields.text(node) {
                Some(text) => text.to_owned(),
                None => continue,
            },
        };
        settings.push((name.clone(), value));
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::super::Sink;
    use super::super::testing::{problems, sink};
    use super::*;

    #[test]
    fn all_keys_are_taken() {
        let found = sink(
            "type: clickhouse, url: 'http://ch:8123/', database: '{project}', table: '{logstore}_raw', user: u,
            password_file: /p, async_insert: true, compression: zstd, time_field: t, tags: string,
            settings: {max_threads: 2, insert_deduplicate: false, a: b}",
        );
        let Sink::ClickHouse(found) = found else { panic!("{found:?}") };
        let name = "a/b".parse().unwrap();
        assert_eq!((&*found.url, &*found.table.render(&name)), ("http://ch:8123", "b_raw"));
        assert_eq!(found.database.unwrap().render(&name), "a");
        assert_eq!((found.user.as_deref(), found.password), (Some("u"), Some(Secret::File("/p".into()))));
        assert_eq!((found.async_insert, found.compression), (Some(true), Compression::Zstd(3)));
        assert_eq!((&*found.time_field, found.tags), ("t", ColumnOfTags::String));
        let settings = [("max_threads", "2"), ("insert_deduplicate", "0"), ("a", "b")];
        assert_eq!(found.settings, settings.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn most_keys_have_defaults() {
        let Sink::ClickHouse(found) = sink("type: clickhouse, url: 'http://ch:8123', table: logs") else { panic!() };
        assert_eq!((found.database, found.user, found.password, found.async_insert), (None, None, None, None));
        assert_eq!((&*found.time_field, found.tags), ("__time__", ColumnOfTags::Map));
        assert_eq!((found.compression, found.network.batching), (Compression::None, BATCHING));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (keys, expected) in [
            ("table: a", "url: is required"),
            ("url: 'http://c'", "table: is required"),
            ("url: 'tcp://c', table: a", "url: must begin with http:// or https://"),
            ("url: 'http://c', table: '{a}'", "table: unknown placeholder `{a}`"),
            ("url: 'http://c', table: a, password: x, password_file: /x", "password_file: give either"),
            ("url: 'http://c', table: a, user: \"a\\nb\"", "user: must not have control characters in it"),
            ("url: 'http://c', table: a, async_insert: 1", "async_insert: must be true or false, not 1"),
            ("url: 'http://c', table: a, compression: lz4", "compression: unknown word \"lz4\""),
            ("url: 'http://c', table: a, tags: json", "tags: unknown word \"json\""),
            ("url: 'http://c', table: a, settings: {query: x}", "settings.query: is set by weir itself"),
            ("url: 'http://c', table: a, settings: {a b: x}", "settings.\"a b\": is no name of a setting"),
            ("url: 'http://c', table: a, settings: {a: [1]}", "settings.a: must be a string"),
        ] {
            let said = problems(&format!("type: clickhouse, {keys}"));
            assert!(said.len() == 1 && said[0].starts_with(expected), "{keys}: {said:?}");
        }
    }
}
