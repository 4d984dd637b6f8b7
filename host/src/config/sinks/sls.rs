//! `type: sls`.

use std::time::Duration;

use super::super::fields::{Fields, Table};
use super::super::raw::Node;
use super::super::secret::{Secret, required_secret, secret};
use super::super::template::{LogstoreName, Template};
use super::network::{self, Batching, Compression, Network};

/// The Log Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sls {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Its project for each logstore.
    pub project: Template,
    /// Its logstore for each logstore.
    pub logstore: Template,
    /// The access key's ID.
    pub key_id: Secret,
    /// The access key's secret.
    pub key_secret: Secret,
    /// The token of a temporary key.
    pub token: Option<Secret>,
    /// How requests are signed.
    pub signature: Signature,
    /// `lz4`, `zstd` or `none`.
    pub compression: Compression,
    /// The topic of all events; empty, if not given.
    pub topic: Option<Template>,
    /// The source of all events; the host's name, if not given.
    pub source: Option<String>,
    /// Whether events have the nanoseconds of their times.
    pub time_ns: bool,
    /// The rest.
    pub network: Network,
}

/// An endpoint of the Log Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// A name or an address, and a port if it is not the scheme's own.
    pub host: String,
    /// Whether it is an address, or this machine: before it there is no place for a project.
    pub is_address: bool,
}

/// How requests are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signature {
    /// By HMAC-SHA1.
    V1,
    /// By SLS4-HMAC-SHA256.
    V4 {
        /// Of the endpoint.
        region: String,
    },
}

#[derive(Clone, Copy, PartialEq)]
enum Version {
    V1,
    V4,
}

impl Sls {
    /// The port that it connects to.
    pub(super) fn port(&self) -> Option<u16> {
        network::port(&format!("{}://{}", self.endpoint.scheme, self.endpoint.host))
    }

    /// What of it is secret.
    pub(super) fn secrets(&self) -> Vec<&Secret> {
        [&self.key_id, &self.key_secret].into_iter().chain(&self.token).collect()
    }
}

/// The service takes 4096 logs, and by its older pages 3 MB: the last event may be as long as a line of 1 MiB.
const BATCHING: Batching = Batching { max_bytes: 2 << 20, max_events: 4096, max_age: Duration::from_secs(1) };

/// What the service takes in a group: 4096 logs, 10 MB. The last event may be as long as a line of 1 MiB.
const MOST: Batching = Batching { max_bytes: 9 << 20, max_events: 4096, max_age: Duration::from_secs(300) };

const KEYS: [&str; 16] = [
    "endpoint",
    "sls_project",
    "logstore",
    "region",
    "access_key_id",
    "access_key_id_file",
    "access_key_secret",
    "access_key_secret_file",
    "sts_token",
    "sts_token_file",
    "signature",
    "compression",
    "compression_level",
    "topic",
    "source",
    "time_ns",
];

pub(super) fn sls(node: &Node, fields: &mut Fields) -> Option<Sls> {
    let table = super::table(node, &[&KEYS[..], &network::KEYS].concat(), fields)?;
    let endpoint = fields.require(&table, "endpoint").and_then(|node| endpoint(node, fields));
    let project = name(&table, "sls_project", "{project}", fields);
    let logstore = name(&table, "logstore", "{logstore}", fields);
    let key_id = required_secret(&table, "access_key_id", fields);
    let key_secret = required_secret(&table, "access_key_secret", fields);
    let token = secret(&table, "sts_token", fields);
    let signature = endpoint.as_ref().and_then(|endpoint| signature(&table, endpoint, fields));
    let compression = network::compression(&table, &["lz4", "zstd", "none"], fields);
    let topic = table.get("topic").and_then(|node| super::template(node, fields));
    let source = table.get("source").and_then(|node| fields.text(node)).map(str::to_owned);
    let time_ns = fields.boolean(table.get("time_ns"), true);
    let network = network::network_up_to(&table, BATCHING, MOST, fields);
    Some(Sls {
        endpoint: endpoint?,
        project: project?,
        logstore: logstore?,
        key_id: key_id?,
        key_secret: key_secret?,
        token,
        signature: signature?,
        compression: compression?,
        topic,
        source,
        time_ns,
        network: network?,
    })
}

/// A host, with or without a scheme and a port.
fn endpoint(node: &Node, fields: &mut Fields) -> Option<Endpoint> {
    let text = fields.text(node)?;
    let (scheme, host) = match text.split_once("://") {
        Some(("http", host)) => ("http", host),
        Some(("https", host)) => ("https", host),
        Some(_) => {
            fields.error(node, "must be a host, or begin with http:// or https://");
            return None;
        }
        None => ("https", text),
    };
    let host = host.strip_suffix('/').unwrap_or(host);
    let (name, port) = match host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let is_v6 = address.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-') && !name.is_empty();
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if !(is_v6 || is_name) || !is_port {
        fields.error(node, "must be a host, with a port if need be, and without a path");
        return None;
    }
    let is_address = is_v6 || name.parse::<std::net::Ipv4Addr>().is_ok() || name == "localhost";
    Some(Endpoint { scheme, host: host.to_owned(), is_address })
}

/// A template of a name that can stand in a host or a path.
fn name(table: &Table, key: &str, default: &str, fields: &mut Fields) -> Option<Template> {
    let Some(node) = table.get(key) else { return Template::parse(default).ok() };
    let template = super::template(node, fields)?;
    let rendered = template.render(&LogstoreName { project: "p".into(), logstore: "l".into() });
    if !rendered.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) {
        fields.error(node, "must be a name: letters, digits, `_`, `.` and `-`");
        return None;
    }
    Some(template)
}

fn signature(table: &Table, endpoint: &Endpoint, fields: &mut Fields) -> Option<Signature> {
    let versions = [("v4", Version::V4), ("v1", Version::V1)];
    let version = table.get("signature").map_or(Some(Version::V4), |node| fields.choice(node, &versions))?;
    let region = table.get("region").map(|node| fields.text(node).map(str::to_owned));
    if version == Version::V1 {
        return Some(Signature::V1);
    }
    match region {
        Some(region) => Some(Signature::V4 { region: region? }),
        None => match region_of(&endpoint.host) {
            Some(region) => Some(Signature::V4 { region: region.to_owned() }),
            None => {
                let node = table.get("endpoint")?;
                let hint = "give `region`, which signature v4 needs, or `signature: v1`";
                fields.error_with(node, "does not say its region", Some(hint.to_owned()));
                None
            }
        },
    }
}

/// The region of the service's own endpoints: `cn-hangzhou` of `cn-hangzhou-intranet.log.aliyuncs.com`.
fn region_of(host: &str) -> Option<&str> {
    let name = host.split(':').next()?;
    let first = [".log.aliyuncs.com", ".sls.aliyuncs.com"].iter().find_map(|end| name.strip_suffix(end))?;
    let region =
        ["-intranet", "-internal", "-share", "-vpc"].iter().find_map(|end| first.strip_suffix(end)).unwrap_or(first);
    (!region.is_empty() && !region.contains('.')).then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sink, parse};

    fn parsed(keys: &str) -> Result<Sls, String> {
        let text =
            format!("logstores: [{{name: a/b, files: {{root: /x}}, sink: s}}]\nsinks:\n  s:\n    type: sls\n{keys}");
        let loaded = parse(&text, "weir.yaml", &|name| (name == "EMPTY").then(String::new));
        match &loaded.map_err(|errors| errors.to_string())?.config.sinks["s"] {
            Sink::Sls(sls) => Ok((**sls).clone()),
            other => panic!("{other:?}"),
        }
    }

    const KEY: &str = "    access_key_id: I\n    access_key_secret: S\n";

    #[test]
    fn defaults_and_every_key() {
        let sls = parsed(&format!("    endpoint: cn-hangzhou.log.aliyuncs.com\n{KEY}")).unwrap();
        let name = "shop/web".parse().unwrap();
        assert_eq!((&*sls.project.render(&name), &*sls.logstore.render(&name)), ("shop", "web"));
        assert_eq!(sls.endpoint.scheme, "https");
        assert_eq!(sls.port(), Some(443));
        assert_eq!(sls.signature, Signature::V4 { region: "cn-hangzhou".into() });
        assert_eq!((sls.compression, sls.time_ns, &sls.topic, &sls.source), (Compression::Lz4, true, &None, &None));
        assert_eq!(sls.network.batching, BATCHING);
        let keys = "    endpoint: http://10.0.0.1:8080/\n    sls_project: x-{project}\n    logstore: all\n    region: r\n    \
                    access_key_id_file: id\n    access_key_secret_file: /s\n    sts_token: T\n    signature: v1\n    \
                    compression: zstd\n    topic: t-{logstore}\n    source: here\n    time_ns: false\n    batch: {max_events: 9}\n";
        let sls = parsed(keys).unwrap();
        assert_eq!((&*sls.project.render(&name), &*sls.logstore.render(&name)), ("x-shop", "all"));
        assert_eq!((sls.port(), sls.endpoint.is_address), (Some(8080), true));
        assert_eq!(sls.signature, Signature::V1);
        assert_eq!((sls.compression, sls.time_ns), (Compression::Zstd(3), false));
        assert_eq!((sls.topic.unwrap().render(&name), sls.source.as_deref()), ("t-web".to_owned(), Some("here")));
        assert_eq!(sls.key_secret, Secret::File("/s".into()));
        assert_eq!(sls.network.batching.max_events, 9);
        assert!(!format!("{:?}{:?}", sls.token, sls.key_id).contains('T'));
    }

    #[test]
    fn regions_are_known_by_endpoints() {
        for (host, region) in [
            ("cn-hangzhou.log.aliyuncs.com", Some("cn-hangzhou")),
            ("cn-beijing-intranet.log.aliyuncs.com:80", Some("cn-beijing")),
            ("us-west-1-internal.log.aliyuncs.com", Some("us-west-1")),
            ("ap-southeast-1-share.log.aliyuncs.com", Some("ap-southeast-1")),
            ("p.cn-hangzhou.log.aliyuncs.com", None),
            ("log-global.aliyuncs.com", None),
            ("127.0.0.1", None),
        ] {
            assert_eq!(region_of(host), region, "{host}");
        }
    }

    #[test]
    fn errors_have_their_places() {
        let at = |rest: &str| format!("weir.yaml:5:5: sinks.s.endpoint: {rest}\n1 error in weir.yaml");
        let host = "must be a host, with a port if need be, and without a path";
        for (endpoint, expected) in [
            ("ftp://a", at("must be a host, or begin with http:// or https://")),
            ("https://a/b", at(host)),
            ("https://u@a", at(host)),
            ("a:0", at(host)),
            ("'https://'", at(host)),
            (
                "a.example.com",
                at("does not say its region\n  hint: give `region`, which signature v4 needs, or `signature: v1`"),
            ),
        ] {
            assert_eq!(parsed(&format!("    endpoint: {endpoint}\n{KEY}")).unwrap_err(), expected);
        }
        let endpoint = "    endpoint: cn-hangzhou.log.aliyuncs.com\n";
        for (keys, expected) in [
            ("    access_key_id: I\n", "3:3: sinks.s.access_key_secret: is required"),
            (
                &format!("{KEY}    sls_project: a/b\n"),
                "8:5: sinks.s.sls_project: must be a name: letters, digits, `_`, `.` and `-`",
            ),
            (
                &format!("{KEY}    logstore: 'a b'\n"),
                "8:5: sinks.s.logstore: must be a name: letters, digits, `_`, `.` and `-`",
            ),
            (
                &format!("{KEY}    access_key_secret_file: /x\n"),
                "8:5: sinks.s.access_key_secret_file: give either `access_key_secret` or `access_key_secret_file`",
            ),
            (&format!("{KEY}    signature: v2\n"), "8:5: sinks.s.signature: unknown word \"v2\""),
            (&format!("{KEY}    time_ns: 1\n"), "8:5: sinks.s.time_ns: must be true or false, not 1"),
            (&format!("{KEY}    compression: gzip\n"), "8:5: sinks.s.compression: unknown word \"gzip\""),
            (
                &format!("{KEY}    compression_level: 3\n"),
                "8:5: sinks.s.compression_level: this compression has no levels",
            ),
            (&format!("{KEY}    url: x\n"), "8:5: sinks.s.url: unknown key"),
        ] {
            let said = parsed(&format!("{endpoint}{keys}")).unwrap_err();
            assert!(
                said.starts_with(&format!("weir.yaml:{expected}")) && said.ends_with("1 error in weir.yaml"),
                "{said}"
            );
        }
    }
}
