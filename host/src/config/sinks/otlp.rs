//! `type: otlp`.

use std::time::Duration;

use super::super::fields::{Fields, Table};
use super::super::raw::{Node, Value};
use super::super::secret::Secret;
use super::super::template::Template;
use super::http::headers;
use super::network::{self, Auth, Batching, Compression, Network};

/// A collector that takes the logs of OpenTelemetry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// Where to, for each logstore. Of HTTP the whole address; of gRPC the server's.
    pub url: Template,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Headers, or what is called metadata in gRPC, beside those that weir sets.
    pub headers: Vec<(String, Secret)>,
    /// Who sends.
    pub auth: Auth,
    /// `none`, `gzip`, or by HTTP `zstd`.
    pub compression: Compression,
    /// Attributes of the resource that are the same for all files of a logstore, by name.
    pub resource: Vec<(String, Template)>,
    /// Which tags are attributes of the resource too.
    pub resource_from_tags: ChosenTags,
    /// The field that says how severe an event is.
    pub severity_field: Option<String>,
    /// The field that is the body of an event.
    pub body_field: String,
    /// The rest.
    pub network: Network,
}

/// What carries the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Protobuf as the body of a POST.
    Http,
    /// Unary calls.
    Grpc,
}

/// Some of the tags that events have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChosenTags {
    /// All of them.
    All,
    /// Those with these names.
    Named(Vec<String>),
}

impl ChosenTags {
    /// Whether a tag is among them.
    pub fn has(&self, name: &str) -> bool {
        match self {
            ChosenTags::All => true,
            ChosenTags::Named(names) => names.iter().any(|known| known == name),
        }
    }
}

/// A collector takes 4 MiB by gRPC if nobody told it otherwise.
const BATCHING: Batching = Batching { max_bytes: 1 << 20, max_events: 10_000, max_age: Duration::from_secs(1) };

/// Where a collector takes logs, if the address says only which server it is.
const PATH: &str = "/v1/logs";

/// Metadata that is gRPC's own.
const OF_GRPC: [&str; 2] = ["te", "user-agent"];

pub(super) fn otlp(node: &Node, fields: &mut Fields) -> Option<Otlp> {
    let own = [
        "url",
        "protocol",
        "headers",
        "auth",
        "compression",
        "compression_level",
        "resource",
        "resource_from_tags",
        "severity_field",
        "body_field",
    ];
    let table = super::table(node, &[&own[..], &network::KEYS].concat(), fields)?;
    let protocols = [("http", Protocol::Http), ("grpc", Protocol::Grpc)];
    let protocol = table.get("protocol").map_or(Some(Protocol::Http), |node| fields.choice(node, &protocols));
    let url = fields.require(&table, "url").and_then(|node| url(node, protocol.unwrap_or(Protocol::Http), fields));
    let headers_given = headers(table.get("headers"), fields);
    if protocol == Some(Protocol::Grpc) {
        for (name, node) in table.get("headers").and_then(|node| fields.entries(node)).unwrap_or_default() {
            let name = name.to_ascii_lowercase();
            if name.starts_with("grpc-") || OF_GRPC.contains(&&*name) {
                fields.error(node, "is set by weir itself");
            } else if name.ends_with("-bin") {
                fields.error(node, "is metadata of bytes, which cannot be given");
            }
        }
    }
    let auth = network::auth(table.get("auth"), fields);
    let compressions: &[&str] =
        if protocol == Some(Protocol::Grpc) { &["none", "gzip"] } else { &["none", "gzip", "zstd"] };
    let compression = network::compression(&table, compressions, fields);
    let resource = resource(table.get("resource"), fields);
    let resource_from_tags = chosen_tags(table.get("resource_from_tags"), ChosenTags::All, fields);
    let severity_field = table.get("severity_field").and_then(|node| fields.text(node)).map(str::to_owned);
    let body_field = table.get("body_field").map_or(Some("content"), |node| fields.text(node)).map(str::to_owned);
    if let Some(node) = table.get("severity_field")
        && severity_field.is_some()
        && severity_field == body_field
    {
        fields.error(node, "is the body already: give another `body_field`");
    }
    let network = network::network(&table, BATCHING, fields);
    Some(Otlp {
        url: url?,
        protocol: protocol?,
        headers: headers_given,
        auth: auth?,
        compression: compression?,
        resource,
        resource_from_tags: resource_from_tags?,
        severity_field,
        body_field: body_field?,
        network: network?,
    })
}

/// An address; by HTTP with a path, which is that of all collectors if none is given.
fn url(node: &Node, protocol: Protocol, fields: &mut Fields) -> Option<Template> {
    network::check_url(node, fields)?;
    let text = fields.text(node)?;
    let (_, server) = text.split_once("://")?;
    let path = server.find(['/', '?', '#']).map_or("", |at| &server[at..]);
    let bare = &text[..text.len() - path.len()];
    let whole = match (protocol, path) {
        (Protocol::Http, "" | "/") => format!("{bare}{PATH}"),
        (Protocol::Http, _) => text.to_owned(),
        (Protocol::Grpc, "" | "/") => bare.to_owned(),
        (Protocol::Grpc, _) => {
            fields.error(node, "must not have a path: gRPC has its own");
            return None;
        }
    };
    Template::parse(&whole).map_err(|error| super::bad_template(node, &error, "{project} and {logstore}", fields)).ok()
}

/// Names and values of attributes. Without any, what a collector's users look for first.
fn resource(node: Option<&Node>, fields: &mut Fields) -> Vec<(String, Template)> {
    let known = |text| Template::parse(text).expect("placeholders that there are");
    let Some(node) = node else {
        return vec![
            ("service.name".to_owned(), known("{logstore}")),
            ("service.namespace".to_owned(), known("{project}")),
        ];
    };
    let mut resource = Vec::new();
    for (name, node) in fields.entries(node).unwrap_or_default() {
        if name.is_empty() {
            fields.error(node, "has no name");
        }
        resource.extend(super::template(node, fields).map(|value| (name.clone(), value)));
    }
    resource
}

/// `all`, or a list of names.
pub(super) fn chosen_tags(node: Option<&Node>, default: ChosenTags, fields: &mut Fields) -> Option<ChosenTags> {
    let Some(node) = node else { return Some(default) };
    match &node.value {
        Value::Text(text) if text.text == "all" => Some(ChosenTags::All),
        Value::List(_) => Some(ChosenTags::Named(fields.texts(Some(node)))),
        _ => {
            fields.mismatch(node, "`all` or a list of tags", None);
            None
        }
    }
}

/// `true` or `false`. A substituted string may be one too.
pub(super) fn flag(table: &Table, key: &str, default: bool, fields: &mut Fields) -> bool {
    match table.get(key).map(|node| (node, &node.value)) {
        None => default,
        Some((_, Value::Bool(value))) => *value,
        Some((_, Value::Text(text))) if text.typed.is_some() && text.text == "true" => true,
        Some((_, Value::Text(text))) if text.typed.is_some() && text.text == "false" => false,
        Some((node, _)) => {
            fields.mismatch(node, "`true` or `false`", None);
            default
        }
    }
}
