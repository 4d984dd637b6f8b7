//! What `/metrics` of an agent under load says, at every moment: the conservation law, latencies, changes of the
//! configuration.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::{Client, Managed, SHOP};
use crate::harness::{Agent, Site, beside, numbers};
use crate::servers::Server;

/// In `shop/app` are events that are dropped, that a plugin fails on, that a plugin faults on and that are discarded for
/// that, and that the destination refuses. `other/raw` is not concerned.
fn logstores(port: u16) -> (String, String) {
    let logstores = "
- name: shop/app
  files: { root: logs, include: [app.log], poll_interval: 20ms }
  plugins:
  - { use: json }
  - { use: filter, settings: { drop: [{ field: kind, equals: dropped }] } }
  - { use: weir-evil, settings: { mode: panic-on-poison } }
  on_fault: drop
  sink: net
- { name: other/raw, files: { root: logs, include: [raw.log], poll_interval: 20ms }, sink: out }
";
    let net = format!(
        "  net: {{ type: http, url: \"http://127.0.0.1:{port}/x\", max_backoff: 1s, batch: {{ max_events: 200, max_age: 50ms }} }}"
    );
    (logstores.to_owned(), net)
}

/// Lines that are written at once: so many good ones, and one of each other kind.
const LINES: u64 = 204;

fn some_lines(number: u64) -> String {
    let line = |kind: &str| format!("{{\"number\":{number},\"kind\":\"{kind}\"}}\n");
    let special = ["dropped", "poison", "refused"].map(line).concat();
    line("good").repeat(100) + "no JSON\n" + &special + &line("good").repeat(100)
}

/// Samples by their names and labels, as they stand there.
fn metrics(client: &Client) -> BTreeMap<String, f64> {
    let answer = client.ask("GET", "/metrics");
    assert_eq!(answer.status, 200);
    let text = answer.text();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

fn of(metrics: &BTreeMap<String, f64>, logstore: &str, name: &str) -> f64 {
    let (project, logstore) = logstore.split_once('/').unwrap();
    let name = format!("weir_{name}{{project=\"{project}\",logstore=\"{logstore}\"}}");
    *metrics.get(&name).unwrap_or_else(|| panic!("no {name} in {metrics:?}"))
}

/// Read, delivered, dropped, dead-lettered, discarded, in flight.
fn law(metrics: &BTreeMap<String, f64>, logstore: &str) -> [f64; 6] {
    let names =
        ["read_total", "delivered_total", "dropped_total", "dead_lettered_total", "discarded_total", "in_flight"];
    names.map(|name| of(metrics, logstore, &format!("events_{name}")))
}

#[track_caller]
fn assert_conserved(metrics: &BTreeMap<String, f64>, logstore: &str) -> [f64; 6] {
    let law = law(metrics, logstore);
    assert_eq!(law[0], law[1..].iter().sum::<f64>(), "{logstore}: {law:?}");
    law
}

/// The bounds of the histogram with what is at most that, in order, and then its count.
fn latencies(metrics: &BTreeMap<String, f64>, logstore: &str) -> (Vec<(f64, f64)>, f64) {
    let (project, name) = logstore.split_once('/').unwrap();
    let begin = format!("weir_latency_seconds_bucket{{project=\"{project}\",logstore=\"{name}\",le=\"");
    let bucket = |(name, count): (&String, &f64)| {
        let bound = name.strip_prefix(&begin)?.strip_suffix("\"}")?;
        Some((bound.replace("+Inf", "inf").parse::<f64>().unwrap(), *count))
    };
    let mut buckets: Vec<_> = metrics.iter().filter_map(bucket).collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    (buckets, of(metrics, logstore, "latency_seconds_count"))
}

#[test]
fn the_accounts_of_a_running_agent_are_even_at_every_moment() {
    const SCRAPES: usize = 300;
    let server = Server::start("http", &["--poison", "refused"]);
    let (logstores, net) = logstores(server.port);
    let managed = Managed::new(Site::new(), &logstores);
    let text = fs::read_to_string(managed.site.path("weir.yaml")).unwrap();
    managed.site.write("weir.yaml", format!("{text}{net}\n"));
    managed.site.write("logs/app.log", "");
    managed.site.write("logs/raw.log", "");
    let mut agent = managed.start();
    let client = managed.operator();
    let write = |is_done: &AtomicBool| {
        let mut times = 0;
        while !is_done.load(Ordering::Relaxed) {
            managed.site.append("logs/app.log", some_lines(times));
            managed.site.append("logs/raw.log", numbers(times * LINES..(times + 1) * LINES));
            times += 1;
            thread::sleep(Duration::from_millis(20));
        }
        times
    };
    let (times, moving) = beside(write, || {
        let mut seen = Vec::new();
        for _ in 0..SCRAPES {
            let metrics = metrics(&client);
            seen.push(assert_conserved(&metrics, "shop/app"));
            assert_conserved(&metrics, "other/raw");
        }
        seen
    });
    // There was something to be seen.
    assert!(moving.iter().filter(|law| law[5] > 0.0).count() > SCRAPES / 10, "{moving:?}");
    let read = (times * LINES) as f64;
    let is_settled = |logstore: &str| {
        let law = law(&metrics(&client), logstore);
        law[0] == read && law[5] == 0.0
    };
    agent.wait("all events", |_| is_settled("shop/app") && is_settled("other/raw"));
    let last = metrics(&client);
    let each = times as f64;
    let taken = read - 3.0 * each;
    assert_eq!(law(&last, "shop/app"), [read, taken, each, each, each, 0.0]);
    assert_eq!(of(&last, "shop/app", "events_kept_raw_total"), each);
    assert_eq!(of(&last, "shop/app", "events_faulted_total"), each);
    assert_eq!(law(&last, "other/raw"), [read, read, 0.0, 0.0, 0.0, 0.0]);
    let sink = |name: &str| last[&format!("weir_sink_{name}{{sink=\"net\"}}")];
    assert_eq!([sink("events_delivered_total"), sink("events_dead_lettered_total")], [taken, each]);
    assert!(sink("requests_total") > 0.0 && sink("failures_total") <= sink("requests_total"));
    let local = |name: &str| last[&format!("weir_sink_{name}{{sink=\"out\"}}")];
    assert_eq!([local("events_delivered_total"), local("failures_total"), local("payloads_waiting")], [read, 0.0, 0.0]);
    assert!(local("requests_total") > 0.0 && local("delivered_bytes_total") > 0.0);
    // A project sees its own.
    let own = metrics(&managed.client(Some(SHOP)));
    assert_eq!(law(&own, "shop/app"), law(&last, "shop/app"));
    assert!(!own.keys().any(|name| name.contains("other")), "{own:?}");

    for (logstore, delivered) in [("shop/app", taken), ("other/raw", read)] {
        let (buckets, count) = latencies(&last, logstore);
        assert_eq!((buckets.len(), buckets.last()), (16, Some(&(f64::INFINITY, count))));
        assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{buckets:?}");
        assert_eq!(count, delivered, "{logstore}: each event that is delivered took some time");
        let sum = of(&last, logstore, "latency_seconds_sum");
        assert!(sum > 0.0 && sum / count < 60.0, "{logstore}: {sum} s for {count}");
    }
    let ran = agent.stop();
    ran.assert_settled();
}

#[test]
fn a_change_that_is_refused_is_in_the_metrics_until_one_is_applied() {
    let logstore = |name: &str| format!("- {{ name: shop/{name}, files: {{ root: logs }}, sink: out }}");
    let managed = Managed::new(Site::new(), &logstore("app"));
    let mut agent = managed.start();
    let client = managed.operator();
    let reloads = |metrics: &BTreeMap<String, f64>| {
        let of = |result: &str| metrics[&format!("weir_reloads_total{{result=\"{result}\"}}")];
        [of("applied"), of("refused"), metrics["weir_config_ok"], metrics["weir_ready"]]
    };
    let wait = |agent: &mut Agent, expected: [f64; 4]| {
        agent.wait(&format!("reloads {expected:?}"), |_| reloads(&metrics(&client)) == expected);
    };
    assert_eq!(reloads(&metrics(&client)), [0.0, 0.0, 1.0, 1.0]);
    managed.config(&logstore("app").replace("sink: out", "sink: out, surprise: 1"));
    wait(&mut agent, [0.0, 1.0, 0.0, 1.0]);
    assert_eq!(client.ask("POST", "/v1/reload").status, 422);
    wait(&mut agent, [0.0, 2.0, 0.0, 1.0]);
    let before = metrics(&client)["weir_config_time_seconds"];
    managed.config(&format!("{}\n{}", logstore("app"), logstore("more")));
    wait(&mut agent, [1.0, 2.0, 1.0, 1.0]);
    let after = metrics(&client);
    assert!(after["weir_config_time_seconds"] >= before);
    assert_eq!(of(&after, "shop/more", "logstore_running"), 1.0);
    agent.stop().assert_settled();
}
