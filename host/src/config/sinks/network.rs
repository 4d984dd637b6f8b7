//! What all sinks on the network share: batches, retries, TLS, secrets.

use std::path::PathBuf;
use std::time::Duration;

use super::super::fields::{Fields, Table};
use super::super::raw::Node;
use super::super::secret::{Secret, required_secret, secret};

const KIB: u64 = 1 << 10;
const SECOND: Duration = Duration::from_secs(1);

/// The keys that every sink on the network has.
pub(super) const KEYS: [&str; 7] = ["batch", "timeout", "concurrency", "max_backoff", "tls", "proxy", "proxy_file"];

/// How payloads are delivered over a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// When payloads are closed.
    pub batching: Batching,
    /// A request takes so long at most; 100 ms to an hour.
    pub timeout: Duration,
    /// Requests at once at most, 1 to 1000.
    pub concurrency: usize,
    /// The longest pause before something is tried again; 1 s to an hour.
    pub max_backoff: Duration,
    /// How the other side proves who it is, and this one.
    pub tls: Tls,
    /// The proxy; if there is none, what the environment says.
    pub proxy: Option<Secret>,
}

/// When payloads are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// Bytes before compression; 1 KiB to 64 MiB.
    pub max_bytes: usize,
    /// Events, 1 to 1,000,000.
    pub max_events: usize,
    /// Time since its first event; up to 5 minutes.
    pub max_age: Duration,
}

/// How a payload is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// It isn't.
    #[default]
    None,
    /// A gzip member, at a level of 1 to 9.
    Gzip(u32),
    /// A Zstandard frame, at a level of 1 to 19.
    Zstd(i32),
    /// An LZ4 block without a frame or a size.
    Lz4,
    /// A Snappy block without a frame.
    Snappy,
}

/// Certificates, PEM files. They are read again when they change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Who may sign the other side's certificate; those that the system trusts, if not given.
    pub ca: Option<PathBuf>,
    /// This side's certificate and its key, each a file.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Who sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Nobody says.
    #[default]
    None,
    /// A user and a password.
    Basic(String, Secret),
    /// A token.
    Bearer(Secret),
    /// A key of Elasticsearch, as it encodes it.
    ApiKey(Secret),
}

impl Auth {
    /// What of it is secret.
    pub fn secrets(&self) -> Vec<&Secret> {
        match self {
            Auth::None => Vec::new(),
            Auth::Basic(_, secret) | Auth::Bearer(secret) | Auth::ApiKey(secret) => vec![secret],
        }
    }
}

/// The port of an address that was checked by [`check_url`]; none if it has a name that stands for it.
pub(super) fn port(url: &str) -> Option<u16> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    match host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((_, port)) => port.parse().ok(),
        None => Some(if scheme == "https" { 443 } else { 80 }),
    }
}

/// What payloads may have, whatever the type.
const MOST: Batching = Batching { max_bytes: 64 << 20, max_events: 1_000_000, max_age: Duration::from_secs(300) };

/// Reads what is shared; `batching` is the type's own default.
pub(super) fn network(table: &Table, batching: Batching, fields: &mut Fields) -> Option<Network> {
    network_up_to(table, batching, MOST, fields)
}

/// The same where payloads may not have as much as with others.
pub(super) fn network_up_to(table: &Table, batching: Batching, most: Batching, fields: &mut Fields) -> Option<Network> {
    let batch = table.get("batch").and_then(|node| fields.table(node, &["max_size", "max_events", "max_age"]));
    let get = |key| batch.as_ref().and_then(|batch: &Table| batch.get(key));
    Some(Network {
        batching: Batching {
            max_bytes: fields.size(get("max_size"), batching.max_bytes as u64, KIB..=most.max_bytes as u64) as usize,
            max_events: fields.integer(get("max_events"), batching.max_events as u64, 1..=most.max_events as u64)
                as usize,
            max_age: fields.duration(get("max_age"), batching.max_age, Duration::ZERO..=most.max_age),
        },
        timeout: fields.duration(table.get("timeout"), 30 * SECOND, SECOND / 10..=3600 * SECOND),
        concurrency: fields.integer(table.get("concurrency"), 16, 1..=1000) as usize,
        max_backoff: fields.duration(table.get("max_backoff"), 10 * SECOND, SECOND..=3600 * SECOND),
        tls: table.get("tls").map_or(Some(Tls::default()), |node| tls(node, fields))?,
        proxy: secret(table, "proxy", fields),
    })
}

fn tls(node: &Node, fields: &mut Fields) -> Option<Tls> {
    let table = fields.table(node, &["ca", "cert", "key"])?;
    let ca = table.get("ca").and_then(|node| fields.path(node));
    let identity = match (table.get("cert"), table.get("key")) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some((fields.path(cert)?, fields.path(key)?)),
        (Some(one), None) | (None, Some(one)) => {
            fields.error(one, "`cert` and `key` need each other");
            return None;
        }
    };
    Some(Tls { ca, identity })
}

/// `auth: { user, password }` or `{ token }`, each secret also by `…_file`.
pub(super) fn auth(node: Option<&Node>, fields: &mut Fields) -> Option<Auth> {
    let Some(node) = node else { return Some(Auth::None) };
    let table = fields.table(node, &CREDENTIALS)?;
    credentials(&table, fields)
}

const CREDENTIALS: [&str; 5] = ["user", "password", "password_file", "token", "token_file"];

/// The same, and `{ api_key }`.
pub(super) fn auth_or_key(node: Option<&Node>, fields: &mut Fields) -> Option<Auth> {
    let Some(node) = node else { return Some(Auth::None) };
    let table = fields.table(node, &[&CREDENTIALS[..], &["api_key", "api_key_file"]].concat())?;
    match secret(&table, "api_key", fields) {
        Some(key) => {
            for other in CREDENTIALS.iter().filter_map(|key| table.get(key)) {
                fields.error(other, "give either `api_key`, or a token, or a user and a password");
            }
            Some(Auth::ApiKey(key))
        }
        None => credentials(&table, fields),
    }
}

fn credentials(table: &Table, fields: &mut Fields) -> Option<Auth> {
    if let Some(token) = secret(table, "token", fields) {
        if let Some(user) = table.get("user") {
            fields.error(user, "give either a user and a password, or a token");
        }
        return Some(Auth::Bearer(token));
    }
    let user = fields.require(table, "user")?;
    let user = fields.text(user)?.to_owned();
    Some(Auth::Basic(user, required_secret(table, "password", fields)?))
}

/// `compression: zstd` and `compression_level: 3`. The first of `choices` is the default.
pub(super) fn compression(table: &Table, choices: &[&str], fields: &mut Fields) -> Option<Compression> {
    let all = [
        ("none", Compression::None),
        ("gzip", Compression::Gzip(6)),
        ("zstd", Compression::Zstd(3)),
        ("lz4", Compression::Lz4),
        ("snappy", Compression::Snappy),
    ];
    let choices: Vec<_> =
        choices.iter().filter_map(|name| all.iter().find(|(known, _)| known == name)).copied().collect();
    let chosen = match table.get("compression") {
        Some(node) => fields.choice(node, &choices)?,
        None => choices[0].1,
    };
    let level = table.get("compression_level");
    Some(match chosen {
        Compression::Gzip(default) => Compression::Gzip(fields.integer(level, default.into(), 1..=9) as u32),
        Compression::Zstd(default) => Compression::Zstd(fields.integer(level, default as u64, 1..=19) as i32),
        other => {
            if let Some(level) = level {
                fields.error(level, "this compression has no levels");
            }
            other
        }
    })
}

/// An address that begins with `http://` or `https://`, and has a host. It must not have a user or password in it.
pub(super) fn check_url(node: &Node, fields: &mut Fields) -> Option<()> {
    let text = fields.text(node)?;
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    match host {
        None => fields.error(node, "must begin with http:// or https://"),
        Some(host) if host.contains('@') => fields.error(node, "must not have a user in it: use `auth`"),
        Some("") => fields.error(node, "has no host"),
        Some(_) => return Some(()),
    }
    None
}

/// An address under `url` that others begin with. It has no slash at its end.
pub(super) fn base_url(table: &Table, fields: &mut Fields) -> Option<String> {
    let node = fields.require(table, "url")?;
    check_url(node, fields)?;
    let text = fields.text(node)?;
    if text.contains(['?', '#']) {
        fields.error(node, "must not have a query or a fragment");
        return None;
    }
    if text.contains(['{', '}']) {
        fields.error(node, "is the same for all logstores: it has no placeholders");
        return None;
    }
    Some(text.trim_end_matches('/').to_owned())
}
