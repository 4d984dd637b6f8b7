//! `type: http`.

use std::time::Duration;

use super::super::fields::Fields;
use super::super::raw::{Node, Value};
use super::super::secret::Secret;
use super::super::template::Template;
use super::network::{self, Auth, Batching, Compression, Network};

/// An HTTP server that takes JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where to, for each logstore.
    pub url: Template,
    /// `POST` or `PUT`.
    pub method: &'static str,
    /// Headers beside those that weir sets.
    pub headers: Vec<(String, Secret)>,
    /// Who sends.
    pub auth: Auth,
    /// What the body is.
    pub encoding: Encoding,
    /// `none`, `gzip` or `zstd`.
    pub compression: Compression,
    /// The rest.
    pub network: Network,
}

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// A JSON object a line.
    Ndjson,
    /// A JSON array of objects.
    Json,
}

const BATCHING: Batching = Batching { max_bytes: 1 << 20, max_events: 10_000, max_age: Duration::from_secs(1) };

pub(super) fn http(node: &Node, fields: &mut Fields) -> Option<Http> {
    let own = ["url", "method", "headers", "auth", "encoding", "compression", "compression_level"];
    let table = super::table(node, &[&own[..], &network::KEYS].concat(), fields)?;
    let url = fields.require(&table, "url").and_then(|node| {
        network::check_url(node, fields)?;
        super::template(node, fields)
    });
    let methods = [("POST", "POST"), ("PUT", "PUT")];
    let method = table.get("method").map_or(Some("POST"), |node| fields.choice(node, &methods));
    let headers = headers(table.get("headers"), fields);
    let auth = network::auth(table.get("auth"), fields);
    let encodings = [("ndjson", Encoding::Ndjson), ("json", Encoding::Json)];
    let encoding = table.get("encoding").map_or(Some(Encoding::Ndjson), |node| fields.choice(node, &encodings));
    let compression = network::compression(&table, &["none", "gzip", "zstd"], fields);
    let network = network::network(&table, BATCHING, fields);
    Some(Http {
        url: url?,
        method: method?,
        headers,
        auth: auth?,
        encoding: encoding?,
        compression: compression?,
        network: network?,
    })
}

/// Headers that are set by what else the config says.
const OWN: [&str; 6] =
    ["authorization", "content-encoding", "content-length", "content-type", "host", "transfer-encoding"];

/// Names and values of headers. Values may be secrets: given as they are, or as `{ file: PATH }`.
pub(super) fn headers(node: Option<&Node>, fields: &mut Fields) -> Vec<(String, Secret)> {
    let mut headers = Vec::new();
    for (name, node) in node.and_then(|node| fields.entries(node)).unwrap_or_default() {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(is_token) {
            fields.error(node, "is no name of a header");
        } else if OWN.contains(&name.to_ascii_lowercase().as_str()) {
            fields.error(node, "is set by weir itself");
        }
        headers.extend(value(node, fields).map(|value| (name.clone(), value)));
    }
    headers
}

fn value(node: &Node, fields: &mut Fields) -> Option<Secret> {
    if let Value::Map(_) = node.value {
        let table = fields.table(node, &["file"])?;
        return fields.require(&table, "file").and_then(|node| fields.path(node)).map(Secret::File);
    }
    let value = fields.text(node)?;
    if value.bytes().any(|b| b < 0x20 && b != b'\t' || b == 0x7f) {
        fields.error(node, "must not have control characters in it");
    }
    Some(Secret::Value(value.to_owned()))
}
