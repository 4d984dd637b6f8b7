//! `type: loki`.

use std::time::Duration;

use super::super::fields::{Fields, Table};
use super::super::raw::{Node, Value};
use super::super::secret::Secret;
use super::super::template::Template;
use super::network::{self, Auth, Batching, Network};

/// A server with Loki's push API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loki {
    /// Where to, for each logstore. Without a path: the server.
    pub url: Template,
    /// Whose the events are, for each logstore.
    pub tenant: Option<Template>,
    /// Labels that all events of a logstore have.
    pub labels: Vec<(String, Template)>,
    /// Tags that are labels.
    pub labels_from_tags: Vec<String>,
    /// Fields that are labels.
    pub label_fields: Vec<String>,
    /// What an event's line is.
    pub line: Line,
    /// Whether tags that are no labels are structured metadata.
    pub structured_metadata: bool,
    /// Headers beside those that weir sets.
    pub headers: Vec<(String, Secret)>,
    /// Who sends.
    pub auth: Auth,
    /// The rest.
    pub network: Network,
}

/// What an event's line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// The event as JSON.
    Json,
    /// The field `content` of events that have no other; the event as JSON for others.
    Content,
    /// That field of events that have it; the event as JSON for others.
    Field(String),
}

const BATCHING: Batching = Batching { max_bytes: 1 << 20, max_events: 10_000, max_age: Duration::from_secs(1) };

const KEYS: [&str; 9] =
    ["url", "tenant", "labels", "labels_from_tags", "label_fields", "line", "structured_metadata", "headers", "auth"];

/// Those of weir's tags that are labels if nothing else is said.
const LABEL_TAGS: [&str; 5] = ["path", "host", "namespace", "pod", "container"];

/// Fields that may be labels.
const MAX_LABEL_FIELDS: usize = 16;

pub(super) fn loki(node: &Node, fields: &mut Fields) -> Option<Loki> {
    let table = super::table(node, &[&KEYS[..], &network::KEYS].concat(), fields)?;
    let url = fields.require(&table, "url").and_then(|node| {
        network::check_url(node, fields)?;
        super::template(node, fields)
    });
    let tenant = table.get("tenant").and_then(|node| {
        if !fields.text(node)?.bytes().all(|b| b.is_ascii_graphic()) {
            fields.error(node, "must have only letters, digits and signs of ASCII");
        }
        super::template(node, fields)
    });
    let labels = labels(&table, fields);
    let labels_from_tags = match table.get("labels_from_tags") {
        None => LABEL_TAGS.map(str::to_owned).into(),
        node => fields.texts(node),
    };
    let label_fields = fields.texts(table.get("label_fields"));
    if let Some(node) = table.get("label_fields").filter(|_| label_fields.len() > MAX_LABEL_FIELDS) {
        fields.error(node, format!("must have no more than {MAX_LABEL_FIELDS} fields"));
    }
    let line = table.get("line").map_or(Some(Line::Json), |node| line(node, fields));
    let structured_metadata = fields.boolean(table.get("structured_metadata"), false);
    let headers = super::http::headers(table.get("headers"), fields);
    let auth = network::auth(table.get("auth"), fields);
    let network = network::network(&table, BATCHING, fields);
    Some(Loki {
        url: url?,
        tenant,
        labels,
        labels_from_tags,
        label_fields,
        line: line?,
        structured_metadata,
        headers,
        auth: auth?,
        network: network?,
    })
}

fn labels(table: &Table, fields: &mut Fields) -> Vec<(String, Template)> {
    let Some(node) = table.get("labels") else {
        let own = [("project", "{project}"), ("logstore", "{logstore}")];
        return own.iter().filter_map(|(name, text)| Some(((*name).to_owned(), Template::parse(text).ok()?))).collect();
    };
    let mut labels = Vec::new();
    for (name, node) in fields.entries(node).unwrap_or_default() {
        let is_letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
        if !name.bytes().all(|b| is_letter(b) || b.is_ascii_digit()) || !name.bytes().next().is_some_and(is_letter) {
            fields.error(node, "is no name of a label: letters, digits and `_`, and no digit first");
        }
        labels.extend(super::template(node, fields).map(|value| (name.clone(), value)));
    }
    labels
}

fn line(node: &Node, fields: &mut Fields) -> Option<Line> {
    if let Value::Map(_) = node.value {
        let table = fields.table(node, &["field"])?;
        let field = fields.require(&table, "field")?;
        return fields.text(field).map(|name| Line::Field(name.to_owned()));
    }
    match fields.choice(node, &[("json", true), ("content", false)])? {
        true => Some(Line::Json),
        false => Some(Line::Content),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sink, parse};

    fn parsed(keys: &str) -> Result<Loki, String> {
        let text =
            format!("logstores: [{{name: a/b, files: {{root: /x}}, sink: s}}]\nsinks:\n  s:\n    type: loki\n{keys}");
        let loaded = parse(&text, "weir.yaml", &|_| None);
        match &loaded.map_err(|errors| errors.to_string())?.config.sinks["s"] {
            Sink::Loki(loki) => Ok((**loki).clone()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_and_every_key() {
        let name = "shop/web".parse().unwrap();
        let labels = |loki: &Loki| -> Vec<String> {
            loki.labels.iter().map(|(label, value)| format!("{label}={}", value.render(&name))).collect()
        };
        let loki = parsed("    url: http://h:3100\n").unwrap();
        assert_eq!(labels(&loki), ["project=shop", "logstore=web"]);
        assert_eq!(loki.labels_from_tags, LABEL_TAGS);
        assert_eq!((loki.tenant, loki.line, loki.structured_metadata), (None, Line::Json, false));
        assert_eq!((loki.network.batching, loki.auth), (BATCHING, Auth::None));
        let loki = parsed(
            "    url: https://h/{project}\n    tenant: t-{project}\n    labels: {env: prod, app: '{logstore}'}\n    \
             labels_from_tags: []\n    label_fields: [level]\n    line: {field: msg}\n    structured_metadata: true\n    \
             headers: {a: b}\n    auth: {token: T}\n    timeout: 1s\n",
        )
        .unwrap();
        assert_eq!(labels(&loki), ["env=prod", "app=web"]);
        assert_eq!(
            (loki.url.render(&name), loki.tenant.unwrap().render(&name)),
            ("https://h/shop".into(), "t-shop".into())
        );
        assert_eq!((loki.labels_from_tags, loki.label_fields), (vec![], vec!["level".to_owned()]));
        assert_eq!((loki.line, loki.structured_metadata), (Line::Field("msg".into()), true));
        assert_eq!((loki.headers.len(), loki.auth), (1, Auth::Bearer(Secret::Value("T".into()))));
        assert_eq!(parsed("    url: http://h\n    line: content\n").unwrap().line, Line::Content);
    }

    #[test]
    fn errors_have_their_places() {
        let url = "    url: http://h\n";
        for (keys, expected) in [
            ("    line: json\n".to_owned(), "3:3: sinks.s.url: is required"),
            ("    url: h:3100\n".to_owned(), "5:5: sinks.s.url: must begin with http:// or https://"),
            (
                format!("{url}    tenant: 'a b'\n"),
                "6:5: sinks.s.tenant: must have only letters, digits and signs of ASCII",
            ),
            (
                format!("{url}    labels: {{1a: b}}\n"),
                "6:14: sinks.s.labels.1a: is no name of a label: letters, digits and `_`, and no digit first",
            ),
            (format!("{url}    labels: {{a: '{{x}}'}}\n"), "6:14: sinks.s.labels.a: unknown placeholder `{x}`"),
            (format!("{url}    line: xml\n"), "6:5: sinks.s.line: unknown word \"xml\""),
            (format!("{url}    line: {{}}\n"), "6:5: sinks.s.line.field: is required"),
            (format!("{url}    label_fields: level\n"), "6:5: sinks.s.label_fields: must be a list, not \"level\""),
            (format!("{url}    compression: gzip\n"), "6:5: sinks.s.compression: unknown key"),
        ] {
            let said = parsed(&keys).unwrap_err();
            assert!(
                said.starts_with(&format!("weir.yaml:{expected}")) && said.ends_with("1 error in weir.yaml"),
                "{said}"
            );
        }
    }
}
