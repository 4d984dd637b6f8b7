//! What can go wrong on the way to a destination, and does: the same for each destination on the network.
//!
//! Each line has a number. At the end, each number is at the server or among the dead letters; twice only where the
//! destination may have had it without saying so; and the lane of another sink has noticed nothing.

mod destination;

use std::collections::BTreeMap;

use crate::harness::{self, Agent, Site, numbered, numbers};
use crate::proxy::{Fault, Proxy};
use crate::servers::certificates;
use destination::{Destination, Far};

/// An agent's directory, a destination, and what is between them. The logstore `a/b` goes there, `a/c` to a file.
struct Scene<'d> {
    site: Site,
    server: Far,
    proxy: Proxy,
    destination: &'d Destination,
}

impl<'d> Scene<'d> {
    fn new(destination: &'d Destination, args: &[&str]) -> Self {
        let server = Far::start(&destination.kind, args);
        let proxy = server.proxy();
        let scene = Scene { site: Site::new(), server, proxy, destination };
        scene.lead_to(&format!("127.0.0.1:{}", scene.proxy.port), false, "");
        scene
    }

    /// The same with TLS, whose authority is in `ca.pem`.
    fn with_tls(destination: &'d Destination) -> Self {
        let proxy = Proxy::start(0);
        let server = Far::start_tls(&destination.kind, proxy.port);
        proxy.lead_to(server.port());
        let scene = Scene { site: Site::new(), server, proxy, destination };
        scene.lead_to(&format!("localhost:{}", scene.proxy.port), true, ", tls: { ca: ca.pem }");
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

    /// Waits until each of the lines has arrived once at least.
    #[track_caller]
    fn wait_for(&self, agent: &mut Agent, lines: std::ops::Range<u64>) {
        agent.wait(&format!("lines {lines:?}"), |_| {
            let arrived = self.server.arrived();
            lines.clone().all(|line| arrived.contains_key(&line))
        });
    }

    /// All lines arrived, each once.
    #[track_caller]
    fn assert_exactly(&self, lines: std::ops::Range<u64>) {
        let arrived = self.server.arrived();
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
    assert_eq!(scene.server.arrived(), BTreeMap::new());
    scene.proxy.set(Fault::None);
    scene.wait_for(&mut agent, 0..1000);
    let ran = scene.stop(agent, 1000);
    assert!(ran.sinks["far"]["retries"] > 0 || !destination.tells_of_tries, "{:?}", ran.sinks);
    scene.assert_exactly(0..1000);
}

fn nobody_listens(destination: &Destination) {
    lasts(destination, Fault::Refuse, "not reached, trying again");
}

fn connections_are_reset_in_the_middle_of_a_request(destination: &Destination) {
    lasts(destination, Fault::Reset { after_request_bytes: destination.cut_at }, "nothing is lost");
}

fn nobody_answers(destination: &Destination) {
    lasts(destination, Fault::Hang, destination.silence);
}

fn a_storm_of_503(destination: &Destination) {
    storm(destination, 503, None);
}

fn a_storm_of_429_that_says_when(destination: &Destination) {
    let begun = std::time::Instant::now();
    storm(destination, 429, Some("2"));
    // Five requests, the first two at once: it waited after each of the others.
    assert!(begun.elapsed() > std::time::Duration::from_secs(8));
}

/// Five requests are answered so, and may say after how many seconds the next is welcome.
fn storm(destination: &Destination, code: u16, after: Option<&str>) {
    let mut args = Vec::new();
    if let Some(storm) = destination.storm {
        args.extend(["--fail", storm(code)]);
        args.extend(after.into_iter().flat_map(|after| ["--retry-after", after]));
    }
    let scene = Scene::new(destination, &args);
    if destination.storm.is_none() {
        let headers = after.map(|after| ("Retry-After".to_owned(), after.to_owned())).into_iter().collect();
        scene.proxy.set(Fault::Status { code, headers, body: String::new(), requests: 5 });
    }
    scene.site.write("logs/b.log", numbers(0..1000));
    let mut agent = scene.site.start();
    if destination.tells_of_tries {
        agent.wait_to_say("pushes back, trying again");
    }
    scene.assert_others_go_on(&mut agent, 500);
    scene.wait_for(&mut agent, 0..1000);
    scene.stop(agent, 1000);
    scene.assert_exactly(0..1000);
}

fn one_event_is_refused(destination: &Destination) {
    let (args, fault) = Far::poison(&destination.kind);
    let scene = Scene::new(destination, args);
    scene.proxy.set(fault);
    let mut lines: Vec<_> = numbered(0..1000);
    lines[777] = "poison".to_owned();
    scene.site.write("logs/b.log", lines.join("\n") + "\n");
    let mut agent = scene.site.start();
    agent.wait("the other lines", |_| scene.server.arrived().len() >= 999);
    agent.wait("the dead letter", |site| !site.dead_letters("a/b").is_empty());
    let ran = agent.stop();
    ran.assert_counts("a/b", [1000, 999, 0, 0]);
    assert_eq!(ran.summary["a/b"]["dead_lettered"], 1);
    assert_eq!(ran.sinks["far"]["dead_lettered"], 1);
    let arrived = scene.server.arrived();
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
    let arrived = scene.server.arrived();
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
    let arrived = scene.server.arrived();
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
    let scene = Scene::with_tls(destination);
    scene.site.write("logs/b.log", numbers(0..100));
    scene.site.write("ca.pem", std::fs::read(&certificates().other_ca).unwrap());
    scene.proxy.set(Fault::GarbageTls);
    let mut agent = scene.site.start();
    agent.wait_to_say("not reached, trying again");
    scene.assert_others_go_on(&mut agent, 500);
    scene.proxy.set(Fault::None);
    let tries = scene.proxy.connections();
    agent.wait("tries with the wrong authority", |_| scene.proxy.connections() >= tries + 2);
    assert_eq!(scene.server.arrived(), BTreeMap::new());
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
    assert!(scene.server.arrived().keys().copied().eq(0..40_000));
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
    assert!(scene.server.arrived().keys().copied().eq(0..written));
    assert_eq!(scene.server.errors(), "");
}

macro_rules! suite {
    ($name:ident, $destination:ident, [$($test:ident),* $(,)?]) => {
        mod $name {
            $(#[test] fn $test() { super::$test(&super::destination::$destination); })*
        }
    };
    // Of HTTP and what is over it.
    ($name:ident, $destination:ident) => {
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
                tls_is_broken_and_then_repaired,
                the_server_is_gone_for_a_while_under_load,
                the_agent_is_killed_again_and_again_meanwhile,
            ]
        );
    };
}

suite!(http, HTTP);
suite!(sls, SLS);
suite!(elasticsearch, ELASTICSEARCH);
suite!(loki, LOKI);
suite!(otlp, OTLP);
suite!(otlp_grpc, OTLP_GRPC);
suite!(clickhouse, CLICKHOUSE);
// Brokers do not say when.
suite!(
    kafka,
    KAFKA,
    [
        nobody_listens,
        connections_are_reset_in_the_middle_of_a_request,
        nobody_answers,
        a_storm_of_503,
        one_event_is_refused,
        answers_come_slowly,
        answers_are_cut_off_after_the_events_were_stored,
        the_name_is_not_known,
        tls_is_broken_and_then_repaired,
        the_server_is_gone_for_a_while_under_load,
        the_agent_is_killed_again_and_again_meanwhile,
    ]
);
