//! The destinations that the suite is run against.

use std::collections::BTreeMap;

use crate::proxy::{Broker, Fault, Proxy, Tls};
use crate::servers::{ClickHouse, Event, Front, Nginx, Server, clickhouse, nginx};

/// A destination, and what is different with it.
pub struct Destination {
    pub kind: Kind,
    /// The sink's keys, given an address as `127.0.0.1:80`, and whether it speaks TLS.
    pub sink: fn(&str, bool) -> String,
    /// So many bytes of a connection end in a request with events.
    pub cut_at: usize,
    /// What the agent says when nobody answers.
    pub silence: &'static str,
    /// How a status is answered so many times, as the server's argument; none: on the way there.
    pub storm: Option<fn(u16) -> &'static str>,
    /// Whether the agent counts and tells of each try. librdkafka tries again by itself, and says nothing.
    pub tells_of_tries: bool,
}

/// Who takes the events.
pub enum Kind {
    /// As in `tests/servers`, with its arguments, and how the line that an event was is found.
    StandIn(&'static str, &'static [&'static str], fn(&Event) -> &str),
    /// That of OpenTelemetry, by its other port.
    Grpc,
    ClickHouse,
    Kafka,
}

/// One over HTTP, as most are.
const fn over_http(kind: Kind, sink: fn(&str, bool) -> String) -> Destination {
    Destination { kind, sink, cut_at: 150, silence: "took too long", storm: None, tells_of_tries: true }
}

pub const HTTP: Destination = over_http(Kind::StandIn("http", &[], content), |address, tls| {
    format!("type: http, url: \"{}/{{project}}/{{logstore}}\", compression: zstd", url(address, tls))
});

pub const SLS: Destination =
    over_http(Kind::StandIn("sls", &["--access-key-secret", "secret"], content), |address, tls| {
        let keys = "access_key_id: id, access_key_secret: secret, region: cn-hangzhou";
        format!("type: sls, endpoint: \"{}\", {keys}", url(address, tls))
    });

pub const ELASTICSEARCH: Destination = over_http(Kind::StandIn("elasticsearch", &[], content), |address, tls| {
    format!("type: elasticsearch, url: \"{}\", index: \"logs-{{project}}\"", url(address, tls))
});

pub const LOKI: Destination = over_http(Kind::StandIn("loki", &[], line), |address, tls| {
    format!("type: loki, url: \"{}\", labels: {{ app: b }}, line: content", url(address, tls))
});

pub const OTLP: Destination = over_http(Kind::StandIn("otlp", &["--poison-whole"], body), |address, tls| {
    format!("type: otlp, url: \"{}\", compression: gzip", url(address, tls))
});

pub const OTLP_GRPC: Destination = Destination {
    cut_at: 700,
    storm: Some(|status| if status == 429 { "429:5" } else { "503:5" }),
    ..over_http(Kind::Grpc, |address, tls| format!("type: otlp, protocol: grpc, url: \"{}\"", url(address, tls)))
};

pub const CLICKHOUSE: Destination =
    over_http(Kind::ClickHouse, |address, tls| format!("type: clickhouse, url: \"{}\", table: a_b", url(address, tls)));

pub const KAFKA: Destination = Destination {
    kind: Kind::Kafka,
    sink: |address, _| format!("type: kafka, brokers: [\"{address}\"], topic: logs"),
    cut_at: 1500,
    silence: "timed out",
    // Kafka has no word for "later" but that it cannot be stored safely now.
    storm: Some(|_| "NOT_ENOUGH_REPLICAS:5"),
    tells_of_tries: false,
};

fn url(address: &str, tls: bool) -> String {
    format!("{}://{address}", if tls { "https" } else { "http" })
}

fn content(event: &Event) -> &str {
    event.fields["content"].as_str().unwrap()
}

fn line(event: &Event) -> &str {
    event.fields["line"].as_str().unwrap()
}

fn body(event: &Event) -> &str {
    event.fields["body"].as_str().unwrap()
}

/// The server that runs.
pub enum Far {
    StandIn(Server, fn(&Event) -> &str),
    Grpc(Server),
    /// nginx has TLS for it.
    ClickHouse(ClickHouse, Option<Nginx>),
    /// One broker; with TLS, that and who makes it name another port are before it.
    Kafka(Server, Option<(Tls, Proxy)>),
}

impl Far {
    /// Starts it, with more arguments for a stand-in.
    #[track_caller]
    pub fn start(kind: &Kind, more: &[&str]) -> Far {
        match kind {
            Kind::StandIn(name, args, line) => Far::StandIn(Server::start(name, &[args, more].concat()), *line),
            Kind::Grpc => Far::Grpc(Server::start("otlp", &[&["--poison-whole"], more].concat())),
            Kind::ClickHouse => Far::ClickHouse(clickhouse_with_table(), None),
            Kind::Kafka => Far::Kafka(Server::start("kafka", &[BROKER, more].concat()), None),
        }
    }

    /// The same with TLS, for clients that are led there by that port.
    #[track_caller]
    pub fn start_tls(kind: &Kind, port: u16) -> Far {
        match kind {
            Kind::StandIn(name, args, line) => Far::StandIn(Server::start_tls(name, false, args), *line),
            Kind::Grpc => Far::Grpc(Server::start_tls("otlp", false, &[])),
            Kind::ClickHouse => {
                let server = clickhouse_with_table();
                let nginx = nginx(server.port, Front::default());
                Far::ClickHouse(server, Some(nginx))
            }
            Kind::Kafka => {
                let server = Server::start("kafka", BROKER);
                let broker = Proxy::start_kafka(server.port, Broker::default());
                broker.advertise(port);
                Far::Kafka(server, Some((Tls::start(broker.port, false), broker)))
            }
        }
    }

    pub fn port(&self) -> u16 {
        match self {
            Far::StandIn(server, _) | Far::Kafka(server, None) => server.port,
            Far::Grpc(server) => server.ports()[1],
            Far::ClickHouse(_, Some(nginx)) => nginx.port,
            Far::ClickHouse(server, None) => server.port,
            Far::Kafka(_, Some((tls, _))) => tls.port,
        }
    }

    /// What breaks on the way there.
    pub fn proxy(&self) -> Proxy {
        match self {
            Far::Kafka(..) => Proxy::start_kafka(self.port(), Broker::default()),
            _ => Proxy::start(self.port()),
        }
    }

    /// How often each line, which is a number, is there.
    #[track_caller]
    pub fn arrived(&self) -> BTreeMap<u64, usize> {
        let (events, line) = match self {
            Far::StandIn(server, line) => (server.events(), *line),
            Far::Grpc(server) => (server.events(), body as fn(&Event) -> &str),
            Far::Kafka(server, _) => (server.events(), content as fn(&Event) -> &str),
            Far::ClickHouse(server, _) => {
                let rows = server.query("SELECT content, count() FROM a_b GROUP BY content").unwrap();
                let row = |row: &str| row.split_once('\t').map(|(line, count)| (line.parse(), count.parse())).unwrap();
                return rows.lines().map(row).map(|(line, count)| (line.unwrap(), count.unwrap())).collect();
            }
        };
        let mut counts = BTreeMap::new();
        for event in events {
            *counts.entry(line(&event).parse().unwrap()).or_default() += 1;
        }
        counts
    }

    /// What broke the protocol, as far as the server tells.
    pub fn errors(&self) -> String {
        match self {
            Far::StandIn(server, _) | Far::Grpc(server) | Far::Kafka(server, _) => server.errors(),
            Far::ClickHouse(..) => String::new(),
        }
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        match self {
            Far::StandIn(server, _) | Far::Grpc(server) => server.kill(),
            Far::ClickHouse(server, _) => server.kill(),
            // All that it has is in memory.
            Far::Kafka(server, _) => server.tell("down 1"),
        }
    }

    /// Starts it again, with what it has.
    #[track_caller]
    pub fn restart(&mut self) {
        match self {
            Far::StandIn(server, _) | Far::Grpc(server) => server.restart(),
            Far::ClickHouse(server, _) => server.restart(),
            Far::Kafka(server, _) => server.tell("up 1"),
        }
    }

    /// Has `poison` refused, whatever comes with it, as a server's argument and a fault on the way.
    pub fn poison(kind: &Kind) -> (&'static [&'static str], Fault) {
        match kind {
            Kind::StandIn(..) | Kind::Grpc => (&["--poison", "poison"], Fault::None),
            // It is no number, as the table has.
            Kind::ClickHouse => (&[], Fault::None),
            Kind::Kafka => (&[], Fault::Poison { text: "poison" }),
        }
    }
}

/// Of the cluster.
const BROKER: &[&str] = &["--brokers", "1", "--topic", "logs:2"];

fn clickhouse_with_table() -> ClickHouse {
    let server = clickhouse();
    server.query("CREATE TABLE a_b (content UInt64) ENGINE = MergeTree ORDER BY content").unwrap();
    server
}
