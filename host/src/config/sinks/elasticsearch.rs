//! `type: elasticsearch`, which OpenSearch is as well.

use std::time::Duration;

use super::super::fields::Fields;
use super::super::raw::Node;
use super::super::secret::Secret;
use super::super::template::{LogstoreName, Template};
use super::http;
use super::network::{self, Auth, Batching, Compression, Network};

/// Indices or data streams of Elasticsearch or OpenSearch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elasticsearch {
    /// Where it is, without a slash at the end.
    pub url: String,
    /// The index or data stream of each logstore.
    pub index: Template,
    /// What is done with each event.
    pub action: Action,
    /// The ingest pipeline; if there is none, what the index says.
    pub pipeline: Option<String>,
    /// Who sends.
    pub auth: Auth,
    /// Headers beside those that weir sets.
    pub headers: Vec<(String, Secret)>,
    /// `none` or `gzip`.
    pub compression: Compression,
    /// The name of the time's field.
    pub timestamp_field: String,
    /// The name of the tags' object.
    pub tags_field: String,
    /// The rest.
    pub network: Network,
}

/// An action of the bulk API. Without ids the two do the same; data streams take only the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `create`.
    Create,
    /// `index`.
    Index,
}

const BATCHING: Batching = Batching { max_bytes: 4 << 20, max_events: 10_000, max_age: Duration::from_secs(1) };

const OWN: [&str; 10] = [
    "url",
    "index",
    "action",
    "pipeline",
    "auth",
    "headers",
    "compression",
    "compression_level",
    "timestamp_field",
    "tags_field",
];

pub(super) fn elasticsearch(node: &Node, fields: &mut Fields) -> Option<Elasticsearch> {
    let table = super::table(node, &[&OWN[..], &network::KEYS].concat(), fields)?;
    let url = network::base_url(&table, fields);
    let index = fields.require(&table, "index").and_then(|node| index(node, fields));
    let actions = [("create", Action::Create), ("index", Action::Index)];
    let action = table.get("action").map_or(Some(Action::Create), |node| fields.choice(node, &actions));
    let text = |key: &str, default: &str, fields: &mut Fields| match table.get(key) {
        Some(node) => fields.text(node).map(str::to_owned),
        None => Some(default.to_owned()),
    };
    let pipeline = text("pipeline", "", fields);
    let auth = network::auth_or_key(table.get("auth"), fields);
    let headers = http::headers(table.get("headers"), fields);
    let compression = network::compression(&table, &["gzip", "none"], fields);
    let timestamp_field = text("timestamp_field", "@timestamp", fields);
    let tags_field = text("tags_field", "__tags__", fields);
    if let (Some(node), true) = (table.get("tags_field"), tags_field == timestamp_field) {
        fields.error(node, "must not be the `timestamp_field`");
    }
    Some(Elasticsearch {
        url: url?,
        index: index?,
        action: action?,
        pipeline: pipeline.filter(|name| !name.is_empty()),
        auth: auth?,
        headers,
        compression: compression?,
        timestamp_field: timestamp_field?,
        tags_field: tags_field?,
        network: network::network(&table, BATCHING, fields)?,
    })
}

/// A template of names that an index may have, whatever the logstore is.
fn index(node: &Node, fields: &mut Fields) -> Option<Template> {
    let template = super::template(node, fields)?;
    let name = |length| LogstoreName { project: "a".repeat(length), logstore: "a".repeat(length) };
    let (short, long) = (template.render(&name(1)), template.render(&name(63)));
    let problem = if short.chars().any(char::is_uppercase) {
        "must be in lower case"
    } else if short.contains(|c: char| r#"\/*?"<>| ,#:"#.contains(c) || c.is_control()) {
        "must not have any of \\ / * ? \" < > | , # : or a space in it"
    } else if short.starts_with(['-', '_', '+']) {
        "must not begin with `-`, `_` or `+`"
    } else if short.chars().all(|c| c == '.') {
        "must not be `.` or `..`"
    } else if long.len() > 255 {
        "must not be longer than 255 bytes, with names of 63"
    } else {
        return Some(template);
    };
    fields.error(node, problem);
    None
}

#[cfg(test)]
mod tests {
    use super::super::testing::{problems, sink};
    use super::super::{Secret, Sink};
    use super::*;

    #[test]
    fn all_keys_are_taken() {
        let found = sink(
            "type: elasticsearch, url: 'https://es:9200/prefix/', index: 'logs-{logstore}-{project}', action: index,
            pipeline: p, auth: {api_key: abc}, headers: {X-A: b}, compression: none, timestamp_field: time,
            tags_field: labels, batch: {max_events: 7}",
        );
        let Sink::Elasticsearch(found) = found else { panic!("{found:?}") };
        assert_eq!(
            (&*found.url, &*found.index.render(&"a/b".parse().unwrap())),
            ("https://es:9200/prefix", "logs-b-a")
        );
        assert_eq!((found.action, found.pipeline.as_deref()), (Action::Index, Some("p")));
        assert_eq!(found.auth, Auth::ApiKey(Secret::Value("abc".into())));
        assert_eq!((&*found.timestamp_field, &*found.tags_field), ("time", "labels"));
        assert_eq!((found.compression, found.network.batching.max_events), (Compression::None, 7));
    }

    #[test]
    fn most_keys_have_defaults() {
        let Sink::Elasticsearch(found) = sink("type: elasticsearch, url: 'http://es:9200', index: logs") else {
            panic!()
        };
        assert_eq!((found.action, found.pipeline, found.auth), (Action::Create, None, Auth::None));
        assert_eq!((&*found.timestamp_field, &*found.tags_field), ("@timestamp", "__tags__"));
        assert_eq!((found.compression, found.network.batching), (Compression::Gzip(6), BATCHING));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let long = "x".repeat(130);
        for (keys, expected) in [
            ("index: a", "url: is required"),
            ("url: 'http://e'", "index: is required"),
            ("url: 'es:9200', index: a", "url: must begin with http:// or https://"),
            ("url: 'http://u:p@e', index: a", "url: must not have a user in it: use `auth`"),
            ("url: 'http://e/?a=b', index: a", "url: must not have a query or a fragment"),
            ("url: 'http://{project}', index: a", "url: is the same for all logstores: it has no placeholders"),
            ("url: 'http://e', index: Logs", "index: must be in lower case"),
            ("url: 'http://e', index: a/b", "index: must not have any of \\ / * ? \" < > | , # : or a space in it"),
            ("url: 'http://e', index: '-a'", "index: must not begin with `-`, `_` or `+`"),
            ("url: 'http://e', index: '..'", "index: must not be `.` or `..`"),
            (
                &format!("url: 'http://e', index: '{long}{{project}}{{logstore}}'"),
                "index: must not be longer than 255 bytes, with names of 63",
            ),
            ("url: 'http://e', index: '{tenant}'", "index: unknown placeholder `{tenant}`"),
            ("url: 'http://e', index: a, action: update", "action: unknown word \"update\""),
            ("url: 'http://e', index: a, compression: zstd", "compression: unknown word \"zstd\""),
            ("url: 'http://e', index: a, auth: {api_key: k, token: t}", "auth.token: give either"),
            ("url: 'http://e', index: a, auth: {user: u}", "auth.password: is required"),
            ("url: 'http://e', index: a, tags_field: '@timestamp'", "tags_field: must not be the `timestamp_field`"),
            ("url: 'http://e', index: a, nme: b", "nme: unknown key"),
        ] {
            let said = problems(&format!("type: elasticsearch, {keys}"));
            assert!(said.len() == 1 && said[0].starts_with(expected), "{keys}: {said:?}");
        }
    }
}
