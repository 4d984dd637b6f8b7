//! What can go wrong on the way to a destination, and does: the same for each destination on the network.
//!
//! Each line has a number. At the end, each number is at the server or among the dead letters; twice only where the
//! destination may have had it without saying so; and the lane of another sink has noticed nothing.

use std::collections::BTreeMap;

use crate::harness::{self, Agent, Site, numbered, numbers};
use crate::proxy::{Fault, Proxy};
use crate::servers::{Event, Server, certificates};

/// A destination that the suite is run against.
struct Destination {
    /// Of the server, as in `tests/servers`.
    kind: &'static str,
    args: &'static [&'static str],
    /// The sink's keys, given an address as `127.0.0.1:80`, and whether it speaks TLS.
    sink: fn(&str, bool) -> String,
    /// The line that an event was.
    line: fn(&Event) -> String,
}

const HTTP: Destination = Destination {
    kind: "http",
    args: &[],
    sink: |address, tls| {
        let scheme = if tls { "https" } else { "http" };
        format!("type: http, url: \"{scheme}://{address}/{{project}}/{{logstore}}\", compression: zstd")
    },
    line: content,
};

const SLS: Destination = Destination {
    kind: "sls",
    args: &["--access-key-secret", "secret"],
    sink: |address, tls| {
        let scheme = if tls { "https" } else { "http" };
        let keys = "access_key_id: id, access_key_secret: secret, region: cn-hangzhou";
        format!("type: sls, endpoint: \"{scheme}://{address}\", {keys}")
    },
    line: content,
};

const ELASTICSEARCH: Destination = Destination {
    kind: "elasticsearch",
    args: &[],
    sink: |address, tls| {
        let scheme = if tls { "https" } else { "http" };
        format!("type: elasticsearch, url: \"{scheme}://{address}\", index: \"logs-{{project}}\"")
    },
    line: content,
};

const LOKI: Destination = Destination {
    kind: "loki",
    args: &[],
    sink: |address, tls| {
        let scheme = if tls { "https" } else { "http" };
        format!("type: loki, url: \"{scheme}://{address}\", labels: {{ app: b }}, line: content")
    },
    line: |event| event.fields["line"].as_str().unwrap().to_owned(),
};

const OTLP: Destination = Destination {
    kind: "otlp",
    args: &["--poison-whole"],
    sink: |address, tls| {
        let scheme = if tls { "https" } else { "http" };
        format!("type: otlp, url: \"{scheme}://{address}\", compression: gzip")
    },
    line: |event| event.fields["body"].as_str().unwrap().to_owned(),
};

fn content(event: &Event) -> String {
    event.fields["content"].as_str().unwrap().to_owned()
}

/// An agent's directory, a destination, and what is between them. The logstore `a/b` goes there, `a/c` to a file.
struct Scene<'d> {
    site: Site,
    server: Server,
    proxy: Proxy,
    destination: &'d Destination,
}

impl<'d> Scene<'d> {
    fn new(destination: &'d Destination, args: &[&str]) -> Self {
        let server = Server::start(destination.kind, &[destination.args, args].concat());
        let proxy = Proxy::start(server.port);
        let scene = Scene { site: Site::new(), server, proxy, destination };
        scene.lead_to(&format!("127.0.0.1:{}", scene.proxy.port), false, "");
        scene
    }

    /// Writes the configuration: where to, and more keys of the sink.
    fn lead_to(&self, address: &str, tls: bool, more: &str) {
        let logstores = "
- { name: a/b, files: { root: logs, include: [b.log] }, sink: far }
- { name: a/c, files: { root: logs, include: [c.log] }, sink: out }";
        let common = "timeout: 2s, max_backoff: 1s, batch: { max_events: 50, max_age: 100ms }";
        let far = format!("  far: {{ {}, {common}{more} }}", (self.destination.sink)(address, tls));
        let out = "  out: { type: file, path: \"out/{project}/{logstore}.ndjson\" }";
        self.site.config_with(logstores, &format!("{far}\n{out}"));
    }

    /// The other logstore goes on as if nothing were wrong.
    #[track_caller]
    fn assert_others_go_on(&self, agent: &mut Agent, count: u64) {
        self.site.append("logs/c.log", numbers(0..count));
        agent.wait_for_lines("a/c", count as usize);
        assert_eq!(self.site.contents("a/c"), numbered(0..count));
    }

    /// How often each line has arrived.
    fn arrived(&self) -> BTreeMap<u64, usize> {
        let mut counts = BTreeMap::new();
        for event in self.server.events() {
            *counts.entry((self.destination.line)(&event).parse().unwrap()).or_default() += 1;
        }
        counts
    }

    /// Waits until each of the lines has arrived once at least.
    #[track_caller]
    fn wait_for(&self, agent: &mut Agent, lines: std::ops::Range<u64>) {
        agent.wait(&format!("lines {lines:?}"), |_| {
            let arrived = self.arrived();
            lines.clone().all(|line| arrived.contains_key(&line))
        });
    }

    /// All lines arrived, each once.
    #[track_caller]
    fn assert_exactly(&self, lines: std::ops::Range<u64>) {
        let arrived = self.arrived();
        assert!(arrived.keys().copied().eq(lines), "{arrived:?}");
        let twice: Vec<_> = arrived.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "these came twice: {twice:?}");
        assert_eq!(self.server.errors(), "");
    }

    /// Stops the agent: all lines are delivered, and their offsets settled.
    #[track_caller]
    fn stop(&self, agent: Agent, lines: u64) -> harness::Ran {
        let ran = agent.stop();
        ran.assert_settled();
        ran.assert_counts("a/b", [lines, lines, 0, 0]);
        ran
    }
}

/// A fault that lasts from before the first line until the agent has tried several times: nothing arrives, then all.
fn lasts(destination: &Destination, fault: Fault, says: &str) {
    let scene = Scene::new(destination, &[]);
    scene.proxy.set(fault);
    scene.site.write("logs/b.log", numbers(0..1000));
    let mut agent = scene.site.start();
    agent.wait_to_say(says);
    scene.assert_others_go_on(&mut agent, 500);
    assert_eq!(scene.server.events().len(), 0);
    scene.proxy.set(Fault::None);
    scene.wait_for(&mut agent, 0..1000);
    let ran = scene.stop(agent, 1000);
    assert!(ran.sinks["far"]["retries"] > 0, "{:?}", ran.sinks);
    scene.assert_exactly(0..1000);
}

fn nobody_listens(destination: &Destination) {
    lasts(destination, Fault::Refuse, "not reached, trying again");
}

fn connections_are_reset_in_the_middle_of_a_request(destination: &Destination) {
    lasts(destination, Fault::Reset { after_request_bytes: 150 }, "nothing is lost");
}

fn nobody_answers(destination: &Destination) {
    lasts(destination, Fault::Hang, "took too long");
}

fn a_storm_of_503(destination: &Destination) {
    storm(destination, 503, &[]);
}

fn a_storm_of_429_that_says_when(destination: &Destination) {
    let begun = std::time::Instant::now();
    storm(destination, 429, &[("Retry-After", "2")]);
    // Five requests, the first two at once: it waited after each of the others.
    assert!(begun.elapsed() > std::time::Duration::from_secs(8));
}

fn storm(destination: &Destination, code: u16, headers: &[(&str, &str)]) {
    let scene = Scene::new(destination, &[]);
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    scene.proxy.set(Fault::Status { code, headers, body: String::new(), requests: 5 });
    scene.site.write("logs/b.log", numbers(0..1000));
    let mut agent = scene.site.start();
    agent.wait_to_say("pushes back, trying again");
    scene.assert_others_go_on(&mut agent, 500);
    scene.wait_for(&mut agent, 0..1000);
    scene.stop(agent, 1000);
    scene.assert_exactly(0..1000);
}

fn one_event_is_refused(destination: &Destination) {
    let scene = Scene::new(destination, &["--poison", "poison"]);
    let mut lines: Vec<_> = numbered(0..1000);
    lines[777] = "poison".to_owned();
    scene.site.write("logs/b.log", lines.join("\n") + "\n");
    let mut agent = scene.site.start();
    agent.wait("the other lines", |_| scene.server.events().len() >= 999);
    agent.wait("the dead letter", |site| !site.dead_letters("a/b").is_empty());
    let ran = agent.stop();
    ran.assert_counts("a/b", [1000, 999, 0, 0]);
    assert_eq!(ran.summary["a/b"]["dead_lettered"], 1);
    assert_eq!(ran.sinks["far"]["dead_lettered"], 1);
    let arrived = scene.arrived();
    assert!(arrived.keys().copied().eq((0..1000).filter(|line| *line != 777)) && arrived.values().all(|n| *n == 1));
    let letters = scene.site.dead_letters("a/b");
    assert_eq!(letters.len(), 1);
    assert!(letters[0].1.windows(6).any(|window| window == b"poison"), "{letters:?}");
    // It is settled: it does not come again.
    let mut agent = scene.site.start();
    scene.site.append("logs/b.log", "1000\n");
    scene.wait_for(&mut agent, 1000..1001);
    let ran = agent.stop();
    ran.assert_counts("a/b", [1, 1, 0, 0]);
    assert_eq!(scene.site.dead_letters("a/b").len(), 1);
}

fn answers_come_slowly(destination: &Destination) {
    let scene = Scene::new(destination, &[]);
    scene.proxy.set(Fault::Drip { bytes_per_second: 8000 });
    scene.site.write("logs/b.log", numbers(0..300));
    let mut agent = scene.site.start();
    scene.assert_others_go_on(&mut agent, 500);
    scene.wait_for(&mut agent, 0..300);
    scene.proxy.set(Fault::None);
    scene.stop(agent, 300);
    let arrived = scene.arrived();
    assert!(arrived.keys().copied().eq(0..300));
}

fn answers_are_cut_off_after_the_events_were_stored(destination: &Destination) {
    let scene = Scene::new(destination, &[]);
    scene.proxy.set(Fault::CutResponse);
    scene.site.write("logs/b.log", numbers(0..1000));
    let mut agent = scene.site.start();
    agent.wait("a try and another", |_| scene.proxy.requests() >= 3);
    scene.proxy.set(Fault::None);
    scene.wait_for(&mut agent, 0..1000);
    scene.stop(agent, 1000);
    let arrived = scene.arrived();
    assert!(arrived.keys().copied().eq(0..1000));
    // What was stored and not confirmed came again: that is what at least once means.
    assert!(arrived.values().any(|count| *count > 1));
    assert_eq!(scene.server.errors(), "");
}

fn the_name_is_not_known(destination: &Destination) {
    let scene = Scene::new(destination, &[]);
    scene.lead_to("there-is-no-such-host.invalid:80", false, "");
    scene.site.write("logs/b.log", numbers(0..100));
    let mut agent = scene.site.start();
    agent.wait_to_say("not reached, trying again");
    scene.assert_others_go_on(&mut agent, 500);
    let ran = agent.stop();
    assert_eq!((ran.summary["a/b"]["read"], ran.summary["a/b"]["in_flight"]), (100, 100));
    assert_eq!(scene.site.settled("a/b").values().sum::<u64>(), 0);
    // Where it is known, nothing is missing.
    scene.lead_to(&format!("127.0.0.1:{}", scene.proxy.port), false, "");
    let mut agent = scene.site.start();
    scene.wait_for(&mut agent, 0..100);
    scene.stop(agent, 100);
    scene.assert_exactly(0..100);
}

fn tls_is_broken_and_then_repaired(destination: &Destination) {
    let mut scene = Scene::new(destination, &[]);
    scene.server = Server::start_tls(destination.kind, false, destination.args);
    scene.proxy.lead_to(scene.server.port);
    scene.site.write("logs/b.log", numbers(0..100));
    scene.site.write("ca.pem", std::fs::read(&certificates().other_ca).unwrap());
    scene.lead_to(&format!("localhost:{}", scene.proxy.port), true, ", tls: { ca: ca.pem }");
    scene.proxy.set(Fault::GarbageTls);
    let mut agent = scene.site.start();
    agent.wait_to_say("not reached, trying again");
    scene.assert_others_go_on(&mut agent, 500);
    scene.proxy.set(Fault::None);
    let tries = scene.proxy.connections();
    agent.wait("tries with the wrong authority", |_| scene.proxy.connections() >= tries + 2);
    assert_eq!(scene.server.events().len(), 0);
    // Certificates are read again when they change.
    scene.site.write("new.pem", std::fs::read(&certificates().ca).unwrap());
    scene.site.rename("new.pem", "ca.pem");
    scene.wait_for(&mut agent, 0..100);
    scene.stop(agent, 100);
    scene.assert_exactly(0..100);
}

fn the_server_is_gone_for_a_while_under_load(destination: &Destination) {
    let mut scene = Scene::new(destination, &[]);
    scene.site.write("logs/b.log", numbers(0..2000));
    let mut agent = scene.site.start();
    scene.wait_for(&mut agent, 0..1000);
    scene.server.kill();
    let before = agent.memory();
    // What is written meanwhile waits in its file.
    for part in 1..20 {
        scene.site.append("logs/b.log", numbers(part * 2000..(part + 1) * 2000));
        scene.assert_others_go_on_by(&mut agent, part * 50);
    }
    agent.wait_to_say("not reached, trying again");
    assert!(agent.memory() < before + (8 << 20), "{} bytes became {}", before, agent.memory());
    scene.server.restart();
    scene.wait_for(&mut agent, 0..40_000);
    let ran = agent.stop();
    ran.assert_settled();
    assert_eq!(ran.summary["a/b"]["delivered"], 40_000);
    assert!(scene.arrived().keys().copied().eq(0..40_000));
    assert_eq!(scene.server.errors(), "");
}

impl Scene<'_> {
    /// Fifty lines more of the other logstore, up to that one.
    #[track_caller]
    fn assert_others_go_on_by(&self, agent: &mut Agent, end: u64) {
        self.site.append("logs/c.log", numbers(end - 50..end));
        agent.wait_for_lines("a/c", end as usize);
    }
}

fn the_agent_is_killed_again_and_again_meanwhile(destination: &Destination) {
    let scene = Scene::new(destination, &[]);
    let mut written = 0;
    for fault in [Fault::None, Fault::Refuse, Fault::CutResponse, Fault::status(503, 3), Fault::None] {
        scene.proxy.set(fault);
        scene.site.append("logs/b.log", numbers(written..written + 1000));
        written += 1000;
        let mut agent = scene.site.start();
        scene.assert_others_go_on_by(&mut agent, written / 20);
        agent.kill();
    }
    scene.proxy.set(Fault::None);
    let mut agent = scene.site.start();
    scene.wait_for(&mut agent, 0..written);
    agent.stop().assert_settled();
    assert!(scene.arrived().keys().copied().eq(0..written));
    assert_eq!(scene.server.errors(), "");
}

macro_rules! suite {
    ($name:ident, $destination:expr, [$($test:ident),* $(,)?]) => {
        mod $name {
            $(#[test] fn $test() { super::$test(&$destination); })*
        }
    };
}

macro_rules! http_suite {
    ($name:ident, $destination:expr) => {
        suite!(
            $name,
            $destination,
            [
                nobody_listens,
                connections_are_reset_in_the_middle_of_a_request,
                nobody_answers,
                a_storm_of_503,
                a_storm_of_429_that_says_when,
                one_event_is_refused,
                answers_come_slowly,
                answers_are_cut_off_after_the_events_were_stored,
                the_name_is_not_known,
                the_server_is_gone_for_a_while_under_load,
                the_agent_is_killed_again_and_again_meanwhile,
            ]
        );
    };
}

http_suite!(http, crate::faults::HTTP);
http_suite!(sls, crate::faults::SLS);
http_suite!(elasticsearch, crate::faults::ELASTICSEARCH);
http_suite!(loki, crate::faults::LOKI);
http_suite!(otlp, crate::faults::OTLP);
suite!(http_tls, crate::faults::HTTP, [tls_is_broken_and_then_repaired]);
suite!(elasticsearch_tls, crate::faults::ELASTICSEARCH, [tls_is_broken_and_then_repaired]);
suite!(loki_tls, crate::faults::LOKI, [tls_is_broken_and_then_repaired]);
suite!(otlp_tls, crate::faults::OTLP, [tls_is_broken_and_then_repaired]);
