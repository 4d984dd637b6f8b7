//! Kafka, at the cluster that librdkafka has for its own tests, read back by another client.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Value, json};

use crate::harness::{Site, plugins};
use crate::proxy::{Broker, Proxy, Tls, User};
use crate::servers::{Event, Server, certificates};

/// The logstore `shop/web`, with more keys, which goes to the topic `logs-shop`.
fn config(site: &Site, server: &Server, logstore: &str, sink: &str) {
    config_at(site, &server.listens, logstore, sink);
}

/// The same with these brokers.
fn config_at(site: &Site, brokers: &str, logstore: &str, sink: &str) {
    let brokers: Vec<_> = brokers.split(',').collect();
    site.write(
        "weir.yaml",
        format!(
            "data_dir: data\nplugin_dirs: [{:?}]\nlogstores:\n- name: shop/web\n  files: {{ root: logs }}\n{logstore}\n  \
             sink: kafka\nsinks:\n  kafka:\n    type: kafka\n    brokers: {brokers:?}\n    topic: \"logs-{{project}}\"\n    \
             batch: {{ max_age: 50ms }}\n    max_backoff: 1s\n    {sink}\n",
            plugins()
        ),
    );
}

fn lines(count: usize) -> String {
    (0..count).map(|n| format!("line {n}\n")).collect()
}

fn number(event: &Event) -> usize {
    event.fields["content"].as_str().unwrap().strip_prefix("line ").unwrap().parse().unwrap()
}

fn numbers(events: &[Event]) -> Vec<usize> {
    let mut numbers: Vec<_> = events.iter().map(number).collect();
    numbers.sort();
    numbers
}

fn all(count: usize) -> Vec<usize> {
    (0..count).collect()
}

#[test]
fn records_have_what_events_had() {
    let site = Site::new();
    let server = Server::start("kafka", &["--topic", "logs-shop:4"]);
    let sink = "key_field: user\n    client_id: me\n    headers_from_tags: [path]\n    compression: zstd";
    config(&site, &server, "  plugins: [{ use: json }]", sink);
    let lines = [r#"{"user":"ann","n":1,"f":1.5,"b":true,"o":{"x":[1]},"s":"gr\u00fcn","e":""}"#, "not JSON", "{}", ""];
    site.append("logs/a.log", lines.join("\n"));
    let ran = site.run();
    server.wait_for(3);
    assert_eq!(server.errors(), "");
    let events = server.events();
    let by_key: BTreeMap<&str, Vec<&Event>> = events.iter().fold(BTreeMap::new(), |mut by_key, event| {
        by_key.entry(event.to["key"].as_str().unwrap()).or_insert_with(Vec::new).push(event);
        by_key
    });
    let path = site.path("logs/a.log").to_str().unwrap().to_owned();
    assert!(events.iter().all(|event| event.to["topic"] == "logs-shop"));
    assert!(events.iter().all(|event| event.tags == BTreeMap::from([("path".to_owned(), json!(path))])));
    let [ann] = by_key["ann"][..] else { panic!("{events:?}") };
    let host = ann.fields["__tags__"]["host"].as_str().unwrap();
    let tags = json!({ "path": path, "host": host });
    let expected = json!({
        "user": "ann", "n": 1, "f": 1.5, "b": true, "o": { "x": [1] }, "s": "grün", "e": "", "__tags__": tags
    });
    assert_eq!(Value::Object(ann.fields.clone()), expected);
    let [failed, empty] = by_key[&*format!("{host}:{path}")][..] else { panic!("{events:?}") };
    let error = failed.fields["__error__"].as_str().unwrap();
    let expected = json!({ "content": "not JSON", "__error__": error, "__tags__": tags });
    assert_eq!(Value::Object(failed.fields.clone()), expected);
    assert_eq!(Value::Object(empty.fields.clone()), json!({ "__tags__": tags }));
    assert_eq!(ran.summary["shop/web"]["delivered"], 3);
}

#[test]
fn times_are_the_events_own() {
    let site = Site::new();
    let server = Server::start("kafka", &[]);
    config(&site, &server, "  plugins: [{ use: nginx }]", "");
    let line = r#"1.2.3.4 - - [23/Nov/2026:10:00:01 +0000] "GET / HTTP/1.1" 200 5 "-" "-""#;
    site.append("logs/a.log", format!("{line}\n"));
    site.run();
    server.wait_for(1);
    assert_eq!(server.events()[0].time_ns, Some(1_795_428_001_000_000_000));
}

#[test]
fn all_lines_arrive_once_and_each_file_in_order_in_one_partition() {
    for compression in ["none", "gzip", "lz4", "snappy"] {
        let site = Site::new();
        let server = Server::start("kafka", &["--topic", "logs-shop:4"]);
        config(&site, &server, "", &format!("compression: {compression}"));
        for file in 0..5 {
            let lines: String = (0..2000).map(|n| format!("line {}\n", file * 2000 + n)).collect();
            site.append(&format!("logs/{file}.log"), lines);
        }
        let ran = site.run();
        server.wait_for(10_000);
        assert_eq!(server.errors(), "");
        let events = server.events();
        assert_eq!(numbers(&events), all(10_000), "{compression}");
        assert_eq!(ran.summary["shop/web"]["delivered"], 10_000);
        for file in 0..5 {
            let path = site.path(format!("logs/{file}.log"));
            let of_file = |event: &&Event| event.fields["__tags__"]["path"] == path.to_str().unwrap();
            let mut of_file: Vec<_> = events.iter().filter(of_file).collect();
            let places: BTreeSet<_> = of_file.iter().map(|event| event.to["partition"].as_i64().unwrap()).collect();
            let keys: BTreeSet<_> = of_file.iter().map(|event| event.to["key"].as_str().unwrap()).collect();
            assert_eq!((places.len(), keys.len()), (1, 1));
            assert!(keys.first().unwrap().ends_with(&format!(":{}", path.display())));
            of_file.sort_by_key(|event| event.to["offset"].as_i64());
            let order: Vec<_> = of_file.into_iter().map(number).collect();
            assert_eq!(order, (file * 2000..(file + 1) * 2000).collect::<Vec<_>>());
        }
    }
}

#[test]
fn failures_that_pass_cost_nothing() {
    for code in ["NOT_LEADER_FOR_PARTITION:3", "REQUEST_TIMED_OUT:3", "NOT_ENOUGH_REPLICAS:3"] {
        let site = Site::new();
        let server = Server::start("kafka", &["--topic", "logs-shop:1", "--fail", code]);
        config(&site, &server, "", "");
        site.append("logs/a.log", lines(10_000));
        let ran = site.run();
        server.wait_for(10_000);
        assert_eq!(server.errors(), "");
        let events = server.events();
        // Once each, and in order, as the producer is idempotent.
        assert_eq!(events.iter().map(number).collect::<Vec<_>>(), all(10_000), "{code}");
        assert_eq!(ran.summary["shop/web"]["delivered"], 10_000);
    }
}

#[test]
fn an_event_that_is_too_large_is_kept_alone() {
    let site = Site::new();
    let server = Server::start("kafka", &["--topic", "logs-shop:1"]);
    config(&site, &server, "", "max_message_size: 2KiB");
    let mut lines: Vec<_> = lines(1000).lines().map(str::to_owned).collect();
    lines[567] = format!("large {}", "x".repeat(3000));
    site.append("logs/a.log", lines.join("\n") + "\n");
    let ran = site.run();
    server.wait_for(999);
    assert_eq!(server.errors(), "");
    let expected: Vec<_> = all(1000).into_iter().filter(|n| *n != 567).collect();
    assert_eq!(numbers(&server.events()), expected);
    let accounts = &ran.summary["shop/web"];
    assert_eq!([accounts["delivered"], accounts["dead_lettered"]], [999, 1]);
    assert_eq!(fs::read_dir(site.path("data/dead_letters/shop/web")).unwrap().count(), 1);
    assert!(!ran.stderr.contains("xxx"), "{}", ran.stderr);
    // With a larger limit it goes.
    config(&site, &server, "", "headers_from_tags: all");
    let replay = site.output(["dead-letters", "replay", "-c", "weir.yaml", "--all"]);
    replay.assert_code(0);
    server.wait_for(1000);
    let last = server.events().pop().unwrap();
    assert_eq!(last.fields["content"], lines[567]);
    assert!(last.to["key"].as_str().unwrap().ends_with("/logs/a.log"));
}

#[test]
fn what_is_refused_with_others_is_tried_alone() {
    let site = Site::new();
    let server = Server::start("kafka", &["--topic", "logs-shop:1", "--fail", "MSG_SIZE_TOO_LARGE:1"]);
    config(&site, &server, "", "");
    site.append("logs/a.log", lines(1000));
    let ran = site.run();
    server.wait_for(1000);
    assert_eq!(numbers(&server.events()), all(1000));
    let accounts = &ran.summary["shop/web"];
    assert_eq!([accounts["delivered"], accounts["dead_lettered"]], [1000, 0]);
}

#[test]
fn a_missing_right_is_told_and_nothing_is_lost() {
    let site = Site::new();
    let server = Server::start("kafka", &["--topic", "logs-shop:1", "--fail", "TOPIC_AUTHORIZATION_FAILED:3"]);
    config(&site, &server, "", "");
    site.append("logs/a.log", lines(1000));
    let mut agent = site.start();
    agent.wait_to_say("does not take what is sent; nothing is lost: ");
    server.wait_for(1000);
    let ran = agent.stop();
    assert_eq!(numbers(&server.events()), all(1000));
    assert!(!ran.stderr.contains("line 1"), "{}", ran.stderr);
}

#[test]
fn brokers_come_and_go() {
    let site = Site::new();
    let mut server = Server::start("kafka", &["--topic", "logs-shop:3", "--brokers", "3"]);
    config(&site, &server, "", "");
    let agent = site.start();
    let mut written = 0;
    for broker in 1..=3 {
        for (what, file) in [("down", 0), ("up", 1)] {
            server.tell(&format!("{what} {broker}"));
            let lines: String = (written..written + 500).map(|n| format!("line {n}\n")).collect();
            site.append(&format!("logs/{file}.log"), lines);
            written += 500;
        }
        server.wait_for(written);
    }
    let ran = agent.stop();
    server.wait_for(written);
    assert_eq!(server.errors(), "");
    assert_eq!(numbers(&server.events()), all(written));
    assert_eq!(ran.summary["shop/web"]["delivered"], written as u64);
}

#[test]
fn an_outage_of_all_brokers_is_told_and_nothing_is_lost() {
    let site = Site::new();
    let mut server = Server::start("kafka", &["--topic", "logs-shop:1", "--brokers", "1"]);
    config(&site, &server, "", "timeout: 1s");
    server.tell("down 1");
    site.append("logs/a.log", lines(1000));
    let mut agent = site.start();
    agent.wait_to_say("not reached, trying again; nothing is lost");
    server.tell("up 1");
    server.wait("all lines", |server| {
        let mut numbers = numbers(&server.events());
        numbers.dedup();
        numbers == all(1000)
    });
    agent.stop();
    assert_eq!(server.errors(), "");
}

/// A cluster of one broker.
fn one_broker() -> Server {
    Server::start("kafka", &["--brokers", "1", "--topic", "logs-shop:1"])
}

#[test]
fn a_user_proves_who_it_is() {
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let site = Site::new();
        let server = one_broker();
        let user = User { mechanism, name: "ann", password: "the-right-word" };
        let broker = Proxy::start_kafka(server.port, Broker::with(user));
        site.write("password", "the-wrong-word\n");
        let sasl = format!("sasl: {{ mechanism: {mechanism}, user: ann, password_file: password }}");
        config_at(&site, &format!("127.0.0.1:{}", broker.port), "", &sasl);
        site.append("logs/a.log", lines(1000));
        let mut agent = site.start();
        agent.wait_to_say("trouble with the cluster; nothing is lost: ");
        assert_eq!((broker.requests(), server.events().len()), (0, 0), "{mechanism}");
        // Passwords are read again when they change.
        site.write("password", "the-right-word\n");
        server.wait_for(1000);
        let ran = agent.stop();
        assert_eq!(numbers(&server.events()), all(1000), "{mechanism}");
        assert_eq!(ran.summary["shop/web"]["delivered"], 1000);
        assert!(!ran.stderr.contains("-word"), "{}", ran.stderr);
    }
}

#[test]
fn a_cluster_that_asks_in_another_way_is_told_of() {
    let site = Site::new();
    let server = one_broker();
    let user = User { mechanism: "SCRAM-SHA-512", name: "ann", password: "x" };
    let broker = Proxy::start_kafka(server.port, Broker::with(user));
    let sasl = "timeout: 2s\n    sasl: { mechanism: PLAIN, user: ann, password: a-secret }";
    config_at(&site, &format!("127.0.0.1:{}", broker.port), "", sasl);
    site.append("logs/a.log", lines(10));
    let mut agent = site.start();
    agent.wait_to_say("trouble with the cluster; nothing is lost: ");
    let ran = agent.stop();
    assert_eq!((ran.summary["shop/web"]["in_flight"], broker.requests()), (10, 0));
    assert!(!ran.stderr.contains("a-secret"), "{}", ran.stderr);
}

#[test]
fn both_sides_have_to_prove_who_they_are() {
    let certificates = certificates();
    for asks_clients in [false, true] {
        let site = Site::new();
        let server = one_broker();
        let user = User { mechanism: "SCRAM-SHA-256", name: "ann", password: "the-word" };
        let broker = Proxy::start_kafka(server.port, Broker::with(user));
        let tls = Tls::start(broker.port, asks_clients);
        broker.advertise(tls.port);
        fs::copy(&certificates.other_ca, site.path("ca.pem")).unwrap();
        let own = match asks_clients {
            true => format!(", cert: {:?}, key: {:?}", certificates.client, certificates.client_key),
            false => String::new(),
        };
        let sasl = "sasl: { mechanism: SCRAM-SHA-256, user: ann, password: the-word }";
        let sink = format!("{sasl}\n    tls: {{ ca: ca.pem{own} }}");
        config_at(&site, &format!("localhost:{}", tls.port), "", &sink);
        site.append("logs/a.log", lines(1000));
        let mut agent = site.start();
        agent.wait_to_say("trouble with the cluster; nothing is lost: ");
        assert_eq!((broker.requests(), server.events().len()), (0, 0));
        fs::copy(&certificates.ca, site.path("ca.pem")).unwrap();
        server.wait_for(1000);
        let ran = agent.stop();
        assert_eq!(numbers(&server.events()), all(1000));
        assert_eq!(ran.summary["shop/web"]["delivered"], 1000);
        assert!(ran.stderr.contains("certificate verify failed"), "{}", ran.stderr);
    }
}

#[test]
fn a_certificate_of_another_host_is_refused() {
    let site = Site::new();
    let server = one_broker();
    let broker = Proxy::start_kafka(server.port, Broker::default());
    let tls = Tls::start_at([127, 0, 0, 2].into(), broker.port, false);
    let sink = format!("timeout: 2s\n    tls: {{ ca: {:?} }}", certificates().ca);
    config_at(&site, &format!("127.0.0.2:{}", tls.port), "", &sink);
    site.append("logs/a.log", lines(10));
    let mut agent = site.start();
    agent.wait_to_say("trouble with the cluster; nothing is lost: ");
    let ran = agent.stop();
    assert_eq!((ran.summary["shop/web"]["in_flight"], broker.requests()), (10, 0));
    assert!(ran.stderr.contains("certificate verify failed"), "{}", ran.stderr);
}
