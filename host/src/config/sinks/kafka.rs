//! `type: kafka`.

use std::time::Duration;

use super::super::fields::Fields;
use super::super::raw::Node;
use super::super::secret::{Secret, required_secret};
use super::super::template::Template;
use super::network::{self, Batching, Network};
use super::otlp::{ChosenTags, chosen_tags, flag};

/// Topics of a Kafka cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kafka {
    /// Some of the cluster's brokers, `host:port`; they know the others.
    pub brokers: Vec<String>,
    /// The topic of each logstore.
    pub topic: Template,
    /// The field whose value is a record's key. Without it, and where an event doesn't have it, files have keys.
    pub key_field: Option<String>,
    /// Who has to have a record before it counts as delivered.
    pub acks: Acks,
    /// Whether what is sent once more after a failure is stored once only, and in order.
    pub idempotent: bool,
    /// How batches of records are compressed.
    pub compression: KafkaCompression,
    /// Who sends.
    pub sasl: Option<Sasl>,
    /// Whether connections are encrypted, by what `network.tls` says.
    pub is_secure: bool,
    /// What the cluster calls the sender in its logs and quotas.
    pub client_id: String,
    /// Tags that are headers of each record.
    pub headers_from_tags: ChosenTags,
    /// Bytes of a record at most; 1 KiB to 64 MiB.
    pub max_message_size: usize,
    /// The rest. `timeout` is the time in which a record has to be delivered, with all tries.
    pub network: Network,
}

/// Who has to have a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// All replicas that are in sync.
    All,
    /// The partition's leader.
    Leader,
}

/// How batches of records are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaCompression {
    /// They aren't.
    None,
    /// gzip.
    Gzip,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
    /// Snappy.
    Snappy,
}

/// Who sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sasl {
    /// How it is proved.
    pub mechanism: Mechanism,
    /// The user's name.
    pub user: String,
    /// The user's password.
    pub password: Secret,
}

/// How the other side learns who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// The password itself is sent.
    Plain,
    /// A proof of it, by SHA-256.
    ScramSha256,
    /// A proof of it, by SHA-512.
    ScramSha512,
}

const BATCHING: Batching = Batching { max_bytes: 1 << 20, max_events: 10_000, max_age: Duration::from_secs(1) };

/// The time for a record, if none is given: what Kafka's own clients take.
const TIMEOUT: Duration = Duration::from_secs(120);

/// What brokers and librdkafka take, if nobody told them otherwise.
const MAX_MESSAGE: u64 = 1_000_000;

/// Characters of a topic's name at most.
const MAX_TOPIC: usize = 249;

pub(super) fn kafka(node: &Node, fields: &mut Fields) -> Option<Kafka> {
    let own = [
        "brokers",
        "topic",
        "key_field",
        "acks",
        "idempotent",
        "compression",
        "sasl",
        "client_id",
        "headers_from_tags",
        "max_message_size",
    ];
    // There is no proxy for what is not HTTP.
    let shared = network::KEYS.iter().filter(|key| !key.starts_with("proxy"));
    let table = super::table(node, &own.iter().chain(shared).copied().collect::<Vec<_>>(), fields)?;
    let brokers = fields.require(&table, "brokers").map(|node| brokers(node, fields));
    let topic = fields.require(&table, "topic").and_then(|node| topic(node, fields));
    let key_field = table.get("key_field").and_then(|node| fields.text(node)).map(str::to_owned);
    let acks = match table.get("acks").map(|node| (node, &node.value)) {
        None => Some(Acks::All),
        Some((_, super::super::raw::Value::Integer(1))) => Some(Acks::Leader),
        Some((node, _)) => fields.choice(node, &[("all", Acks::All), ("leader", Acks::Leader), ("1", Acks::Leader)]),
    };
    let idempotent = flag(&table, "idempotent", acks != Some(Acks::Leader), fields);
    if let Some(node) = table.get("idempotent").filter(|_| idempotent && acks == Some(Acks::Leader)) {
        fields.error(node, "needs `acks: all`");
    }
    let compressions = [
        ("none", KafkaCompression::None),
        ("gzip", KafkaCompression::Gzip),
        ("lz4", KafkaCompression::Lz4),
        ("zstd", KafkaCompression::Zstd),
        ("snappy", KafkaCompression::Snappy),
    ];
    let compression =
        table.get("compression").map_or(Some(KafkaCompression::None), |node| fields.choice(node, &compressions));
    let sasl = table.get("sasl").map(|node| sasl(node, fields));
    let client_id = table.get("client_id").map_or(Some("weir"), |node| fields.text(node)).map(str::to_owned);
    let headers_from_tags = chosen_tags(table.get("headers_from_tags"), ChosenTags::Named(Vec::new()), fields);
    let max_message_size = fields.size(table.get("max_message_size"), MAX_MESSAGE, 1 << 10..=64 << 20) as usize;
    let is_secure = table.get("tls").is_some();
    if !cfg!(feature = "kafka-tls") {
        let node = table.get("tls").or(table.get("sasl").filter(|_| {
            sasl.as_ref().is_some_and(|sasl| sasl.as_ref().is_some_and(|sasl| sasl.mechanism != Mechanism::Plain))
        }));
        if let Some(node) = node {
            fields.error(node, "this weir was built without TLS for Kafka, which SCRAM needs too");
        }
    }
    let mut network = network::network(&table, BATCHING, fields)?;
    if table.get("timeout").is_none() {
        network.timeout = TIMEOUT;
    }
    Some(Kafka {
        brokers: brokers?,
        topic: topic?,
        key_field,
        acks: acks?,
        idempotent,
        compression: compression?,
        sasl: match sasl {
            None => None,
            Some(sasl) => Some(sasl?),
        },
        is_secure,
        client_id: client_id?,
        headers_from_tags: headers_from_tags?,
        max_message_size,
        network,
    })
}

fn brokers(node: &Node, fields: &mut Fields) -> Vec<String> {
    let items = fields.list(Some(node));
    if items.is_empty() {
        fields.error(node, "must name a broker");
    }
    let mut brokers = Vec::new();
    for node in items {
        let Some(broker) = fields.text(node) else { continue };
        let is_host = |host: &str| !host.is_empty() && !host.contains(['/', ',', '@', ' ']);
        match broker.rsplit_once(':') {
            Some((host, port)) if is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0) => {
                brokers.push(broker.to_owned());
            }
            _ => fields.error(node, "must be `host:port`"),
        }
    }
    brokers
}

fn topic(node: &Node, fields: &mut Fields) -> Option<Template> {
    let template = super::template(node, fields)?;
    // Names of projects and logstores have nothing in them that topics may not have.
    let shortest = template.render(&super::LogstoreName { project: "a".into(), logstore: "a".into() });
    let is_known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if !shortest.bytes().all(is_known) || shortest.len() > MAX_TOPIC || matches!(&*shortest, "." | "..") {
        fields.error(node, format!("is no name of a topic: up to {MAX_TOPIC} of a-z, A-Z, 0-9, `.`, `_` and `-`"));
        return None;
    }
    Some(template)
}

fn sasl(node: &Node, fields: &mut Fields) -> Option<Sasl> {
    let table = fields.table(node, &["mechanism", "user", "password", "password_file"])?;
    let mechanisms = [
        ("PLAIN", Mechanism::Plain),
        ("SCRAM-SHA-256", Mechanism::ScramSha256),
        ("SCRAM-SHA-512", Mechanism::ScramSha512),
    ];
    let mechanism = fields.require(&table, "mechanism").and_then(|node| fields.choice(node, &mechanisms));
    let user = fields.require(&table, "user").and_then(|node| fields.text(node)).map(str::to_owned);
    let password = required_secret(&table, "password", fields);
    Some(Sasl { mechanism: mechanism?, user: user?, password: password? })
}
