//! What sinks mean: each type's keys in a file of its own, and what those on the network share in `network`.

mod clickhouse;
mod elasticsearch;
mod file;
mod http;
mod kafka;
mod loki;
mod network;
mod otlp;
mod sls;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use clickhouse::{ClickHouse, ColumnOfTags};
pub use elasticsearch::{Action, Elasticsearch};
pub use file::{File, Rotate, Sync};
pub use http::{Encoding, Http};
pub use kafka::{Acks, Kafka, KafkaCompression, Mechanism, Sasl};
pub use loki::{Line, Loki};
pub use network::{Auth, Batching, Compression, Network, Tls};
pub use otlp::{ChosenTags, Otlp, Protocol};
pub use sls::{Endpoint, Signature, Sls};

use super::fields::{Fields, Table};
use super::raw::Node;
use super::resolved::check_name;
pub use super::secret::Secret;
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
    /// Topics of a Kafka cluster.
    Kafka(Box<Kafka>),
    /// A collector that takes the logs of OpenTelemetry.
    Otlp(Box<Otlp>),
    /// Tables of ClickHouse.
    ClickHouse(Box<ClickHouse>),
    /// Indices of Elasticsearch or OpenSearch.
    Elasticsearch(Box<Elasticsearch>),
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
    Kafka,
    Otlp,
    ClickHouse,
    Elasticsearch,
    Loki,
    Sls,
}

const TYPES: &[(&str, SinkType)] = &[
    ("stdout", SinkType::Stdout),
    ("file", SinkType::File),
    ("blackhole", SinkType::Blackhole),
    ("http", SinkType::Http),
    ("kafka", SinkType::Kafka),
    ("otlp", SinkType::Otlp),
    ("clickhouse", SinkType::ClickHouse),
    ("elasticsearch", SinkType::Elasticsearch),
    ("loki", SinkType::Loki),
    ("sls", SinkType::Sls),
];

/// The types of sinks, as they are typed.
#[cfg(test)]
pub(super) fn types() -> impl Iterator<Item = &'static str> {
    TYPES.iter().map(|(name, _)| *name)
}

impl Sink {
    /// Its type, as it is typed.
    pub fn kind(&self) -> &'static str {
        match self {
            Sink::Stdout => "stdout",
            Sink::File(_) => "file",
            Sink::Blackhole => "blackhole",
            Sink::Http(_) => "http",
            Sink::Kafka(_) => "kafka",
            Sink::Otlp(_) => "otlp",
            Sink::ClickHouse(_) => "clickhouse",
            Sink::Elasticsearch(_) => "elasticsearch",
            Sink::Loki(_) => "loki",
            Sink::Sls(_) => "sls",
        }
    }

    /// What it shares with all that are on the network, if it is.
    pub fn network(&self) -> Option<&Network> {
        match self {
            Sink::Stdout | Sink::File(_) | Sink::Blackhole => None,
            Sink::Http(http) => Some(&http.network),
            Sink::Kafka(kafka) => Some(&kafka.network),
            Sink::Otlp(otlp) => Some(&otlp.network),
            Sink::ClickHouse(clickhouse) => Some(&clickhouse.network),
            Sink::Elasticsearch(elasticsearch) => Some(&elasticsearch.network),
            Sink::Loki(loki) => Some(&loki.network),
            Sink::Sls(sls) => Some(&sls.network),
        }
    }

    /// Whether what is sent goes to the same host, whichever logstore it is of.
    pub fn has_one_host(&self) -> bool {
        // The host's end is before the first placeholder.
        let is_one = |url: &Template| {
            let host = url.fixed().split_once("://").map_or("", |(_, rest)| rest);
            url.is_fixed() || host.contains(['/', '?', '#'])
        };
        match self {
            Sink::Http(http) => is_one(&http.url),
            Sink::Otlp(otlp) => is_one(&otlp.url),
            Sink::Sls(sls) => sls.endpoint.is_address || sls.project.is_fixed(),
            _ => true,
        }
    }

    /// The ports that it connects to for a logstore; none if they are not known.
    pub fn ports(&self, name: &LogstoreName) -> Option<Vec<u16>> {
        match self {
            Sink::Stdout | Sink::File(_) | Sink::Blackhole => Some(Vec::new()),
            Sink::Http(http) => network::port(&http.url.render(name)).map(|port| vec![port]),
            // Brokers say themselves where they are.
            Sink::Kafka(_) => None,
            Sink::Otlp(otlp) => network::port(&otlp.url.render(name)).map(|port| vec![port]),
            Sink::ClickHouse(clickhouse) => network::port(&clickhouse.url).map(|port| vec![port]),
            Sink::Elasticsearch(elasticsearch) => network::port(&elasticsearch.url).map(|port| vec![port]),
            Sink::Loki(loki) => network::port(&loki.url.render(name)).map(|port| vec![port]),
            Sink::Sls(sls) => sls.port().map(|port| vec![port]),
        }
    }

    /// The files that its secrets are in.
    pub fn secret_files(&self) -> Vec<&PathBuf> {
        let none: &[(String, Secret)] = &[];
        let (secrets, headers) = match self {
            Sink::Stdout | Sink::File(_) | Sink::Blackhole => (Vec::new(), none),
            Sink::Http(http) => (http.auth.secrets(), &*http.headers),
            Sink::Kafka(kafka) => (kafka.sasl.iter().map(|sasl| &sasl.password).collect(), none),
            Sink::Otlp(otlp) => (otlp.auth.secrets(), &*otlp.headers),
            Sink::ClickHouse(clickhouse) => (clickhouse.password.iter().collect(), none),
            Sink::Elasticsearch(elasticsearch) => (elasticsearch.auth.secrets(), &*elasticsearch.headers),
            Sink::Loki(loki) => (loki.auth.secrets(), none),
            Sink::Sls(sls) => (sls.secrets(), none),
        };
        let headers = headers.iter().map(|(_, value)| value);
        let proxy = self.network().and_then(|network| network.proxy.as_ref());
        secrets.into_iter().chain(headers).chain(proxy).filter_map(Secret::file).collect()
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
        SinkType::Kafka => kafka::kafka(node, fields).map(|kafka| Sink::Kafka(Box::new(kafka))),
        SinkType::Otlp => otlp::otlp(node, fields).map(|otlp| Sink::Otlp(Box::new(otlp))),
        SinkType::ClickHouse => clickhouse::clickhouse(node, fields).map(|sink| Sink::ClickHouse(Box::new(sink))),
        SinkType::Elasticsearch => {
            elasticsearch::elasticsearch(node, fields).map(|sink| Sink::Elasticsearch(Box::new(sink)))
        }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::parse;
    use super::*;

    /// A configuration whose only sink, `s`, has these keys, from line 5 on.
    fn parse_sink(keys: &str) -> Result<Sink, String> {
        let keys: String = keys.lines().map(|line| format!("    {line}\n")).collect();
        let text = format!(
            "data_dir: /d\nlogstores:\n- {{ name: a/b, files: {{ root: /x }}, sink: s }}\nsinks:\n  s:\n{keys}"
        );
        let env = |name: &str| (name == "SECRET").then(|| "hush".to_owned());
        match parse(&text, "/etc/weir.yaml", &env) {
            Ok(mut loaded) => Ok(loaded.config.sinks.remove("s").unwrap()),
            Err(errors) => Err(errors.to_string().replace("/etc/weir.yaml:", "")),
        }
    }

    #[test]
    fn an_http_sink_has_defaults() {
        let Sink::Http(http) = parse_sink("type: http\nurl: https://h/{project}").unwrap() else { panic!() };
        assert_eq!(http.url.render(&"a/b".parse().unwrap()), "https://h/a");
        assert_eq!((http.method, http.encoding, http.compression), ("POST", Encoding::Ndjson, Compression::None));
        assert_eq!(
            (http.auth.clone(), http.network.tls.clone(), http.network.proxy.clone()),
            (Auth::None, Tls::default(), None)
        );
        let second = Duration::from_secs(1);
        assert_eq!(http.network.batching, Batching { max_bytes: 1 << 20, max_events: 10_000, max_age: second });
        assert_eq!(
            (http.network.timeout, http.network.concurrency, http.network.max_backoff),
            (30 * second, 16, 10 * second)
        );
    }

    #[test]
    fn secrets_are_read_from_values_and_files_and_not_shown() {
        let sink = parse_sink("type: http\nurl: http://h\nauth: { user: u, password: \"${SECRET}\" }").unwrap();
        let Sink::Http(http) = &sink else { panic!() };
        assert_eq!(http.auth, Auth::Basic("u".into(), Secret::Value("hush".into())));
        assert!(!format!("{sink:?}").contains("hush"));
        let sink =
            parse_sink("type: http\nurl: http://h\nauth: { token_file: t/token }\nproxy: \"http://u:${SECRET}@p\"")
                .unwrap();
        assert!(!format!("{sink:?}").contains("hush"));
        assert_eq!(sink.secret_files(), [&PathBuf::from("/etc/t/token")]);
        let keys = "type: http\nurl: http://h\nproxy_file: t/proxy\nheaders: { A: \"${SECRET}\", B: { file: t/b } }";
        let sink = parse_sink(keys).unwrap();
        assert!(!format!("{sink:?}").contains("hush"));
        assert_eq!(sink.secret_files(), [&PathBuf::from("/etc/t/b"), &PathBuf::from("/etc/t/proxy")]);
        let errors = parse_sink("type: http\nurl: http://h\nheaders: { A: { path: x } }").unwrap_err();
        assert!(errors.contains("8:21: sinks.s.headers.A.path: unknown key"), "{errors}");
    }

    #[test]
    fn ports_are_known_if_the_address_says_them() {
        for (url, port) in [
            ("http://h", Some(80)),
            ("https://h/x?y=1:2", Some(443)),
            ("http://h:8080", Some(8080)),
            ("https://[::1]/", Some(443)),
            ("https://[::1]:9/", Some(9)),
            ("http://h:port/", None),
        ] {
            let sink = parse_sink(&format!("type: http\nurl: \"{url}\"")).unwrap();
            assert_eq!(sink.ports(&"a/b".parse().unwrap()), port.map(|port| vec![port]), "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_where_it_is() {
        for (keys, expected) in [
            ("url: http://h", "5:3: sinks.s.type: is required"),
            ("type: https", "6:5: sinks.s.type: unknown word \"https\"\n  hint: did you mean `http`?"),
            ("type: http", "5:3: sinks.s.url: is required"),
            ("type: stdout\nurl: http://h", "7:5: sinks.s.url: unknown key\n  hint: known keys: type"),
            ("type: http\nurl: h:80", "7:5: sinks.s.url: must begin with http:// or https://"),
            ("type: http\nurl: http://u:p@h", "7:5: sinks.s.url: must not have a user in it: use `auth`"),
            ("type: http\nurl: http:///x", "7:5: sinks.s.url: has no host"),
            (
                "type: http\nurl: http://h/{tenant}",
                "7:5: sinks.s.url: unknown placeholder `{tenant}`\n  hint: placeholders are {project} and {logstore}",
            ),
            (
                "type: http\nurl: http://h\ncompression: lz4",
                "8:5: sinks.s.compression: unknown word \"lz4\"\n  hint: it is one of none, gzip, zstd",
            ),
            (
                "type: http\nurl: http://h\ncompression_level: 3",
                "8:5: sinks.s.compression_level: this compression has no levels",
            ),
            (
                "type: http\nurl: http://h\ncompression: gzip\ncompression_level: 10",
                "9:5: sinks.s.compression_level: must be an integer from 1 to 9, not 10",
            ),
            (
                "type: http\nurl: http://h\ntls: { cert: c.pem }",
                "8:12: sinks.s.tls.cert: `cert` and `key` need each other",
            ),
            ("type: http\nurl: http://h\nauth: { user: u }", "8:5: sinks.s.auth.password: is required"),
            (
                "type: http\nurl: http://h\nauth: { user: u, password: a, password_file: b }",
                "8:35: sinks.s.auth.password_file: give either `password` or `password_file`",
            ),
            (
                "type: http\nurl: http://h\nheaders: { Content-Type: x }",
                "8:16: sinks.s.headers.Content-Type: is set by weir itself",
            ),
            (
                "type: http\nurl: http://h\nheaders: { \"a b\": x }",
                "8:16: sinks.s.headers.\"a b\": is no name of a header",
            ),
            (
                "type: http\nurl: http://h\nbatch: { max_age: 10m }",
                "8:14: sinks.s.batch.max_age: must be a duration from 0ms to 5m, not \"10m\"",
            ),
        ] {
            let shown = parse_sink(keys).expect_err(keys);
            assert_eq!(shown, format!("{expected}\n1 error in /etc/weir.yaml"), "{keys}");
        }
    }

    #[test]
    fn several_sinks_are_a_list_of_names() {
        let parse = |sinks: &str| {
            let text = format!(
                "logstores:\n- {{ name: a/b, files: {{ root: /x }}, {sinks} }}\nsinks: {{ s: {{ type: stdout }}, t: {{ type: blackhole }} }}\n"
            );
            parse(&text, "/w.yaml", &|_| None)
                .map(|loaded| loaded.config.logstores[0].sinks.clone())
                .map_err(|e| e.to_string())
        };
        assert_eq!(parse("sinks: [t, s]").unwrap(), ["t", "s"]);
        assert_eq!(parse("sink: s").unwrap(), ["s"]);
        for (sinks, expected) in [
            ("sinks: [s, s]", "logstores[0].sinks[1]: is in the list already"),
            ("sinks: []", "logstores[0].sinks: must have at least one sink"),
            ("sinks: [s], sink: t", "logstores[0].sink: give either `sink` or `sinks`"),
            ("sinks: [u]", "logstores[0].sinks[0]: there is no sink \"u\""),
        ] {
            let shown = parse(sinks).unwrap_err();
            assert!(shown.contains(expected), "{sinks}: {shown}");
        }
    }

    #[test]
    fn the_examples_of_the_documentation_are_right() {
        let page = include_str!("../../../../docs/sinks.md");
        for example in page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default()) {
            // Where it is only about sinks, a logstore uses the first.
            let sink = example.split("sinks:\n  ").nth(1).and_then(|rest| rest.split(':').next()).expect(example);
            let logstores = match example.contains("logstores:") {
                true => String::new(),
                false => format!("logstores: [{{ name: a/b, files: {{ root: /x }}, sink: {sink} }}]\n"),
            };
            let loaded = parse(&format!("{logstores}{example}"), "weir.yaml", &|_| Some("value".to_owned()));
            let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}\n{example}"));
            assert!(loaded.warnings.is_empty(), "{example}");
        }
    }
}
