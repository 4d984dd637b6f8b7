//! The sink `elasticsearch`, against a stand-in for its bulk API.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::{Site, numbers};
use crate::proxy::{Fault, Proxy};
use crate::servers::{Server, certificates};

fn configure(site: &Site, url: &str, keys: &str) {
    let index = "logs-{project}-{logstore}";
    site.config_raw_and_json(&format!("type: elasticsearch, url: '{url}', index: '{index}', {keys}"));
}

fn http(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

#[test]
fn every_event_is_indexed_as_it_is() {
    let site = Site::new();
    let server = Server::start("elasticsearch", &["--data-stream", "logs-a-json"]);
    configure(&site, &http(server.port), "pipeline: none");
    let lines = [
        r#"{"ts":"2006-01-02T15:04:05.25Z","a":"x \"y\"","n":7,"f":1.5,"t":true,"j":{"k":[1,null]},"e":""}"#,
        r#"{"a":1,"a":"two","a":3}"#,
        "{}",
        r#"{"@timestamp":"2001-01-01T00:00:00Z","m":1}"#,
        "not json",
    ];
    site.write("logs/a.json", lines.join("\n") + "\n");
    site.write("logs/raw.log", b"plain\n\xff\xfe!\n");
    let ran = site.run();
    ran.assert_counts("a/json", [5, 5, 1, 0]);
    ran.assert_counts("a/b", [2, 2, 0, 0]);
    assert_eq!(server.errors(), "");
    let of = |index: &str| -> Vec<Value> {
        let events = server.events();
        let of_index = events.into_iter().filter(|event| event.to["index"] == index);
        of_index.map(|event| Value::Object(event.fields)).collect()
    };
    let mut parsed = of("logs-a-json");
    for event in &mut parsed {
        let event = event.as_object_mut().unwrap();
        let tags = event.remove("__tags__").unwrap();
        assert!(tags["path"].as_str().unwrap().ends_with("/logs/a.json") && tags["host"].is_string(), "{tags}");
        // Where it is not known, it is the time at which it was sent.
        if !matches!(event["@timestamp"].as_str().unwrap(), "2006-01-02T15:04:05.25Z" | "2001-01-01T00:00:00Z") {
            let sent = event.remove("@timestamp").unwrap();
            let age = jiff::Timestamp::now() - sent.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
            assert!(age.get_hours() == 0 && age.get_minutes() < 5, "{sent}");
        }
    }
    assert_eq!(
        parsed,
        [
            json!({"ts": "2006-01-02T15:04:05.25Z", "a": "x \"y\"", "n": 7, "f": 1.5, "t": true, "j": {"k": [1, null]},
                "e": "", "@timestamp": "2006-01-02T15:04:05.25Z"}),
            json!({"a": 1, "a_2": "two", "a_3": 3}),
            json!({}),
            json!({"@timestamp": "2001-01-01T00:00:00Z", "m": 1}),
            json!({"content": "not json", "__error__": "json: not an object"}),
        ]
    );
    let raw: Vec<_> = of("logs-a-b").iter().map(|event| event["content"].clone()).collect();
    assert_eq!(raw, ["plain", "\u{fffd}\u{fffd}!"]);
    for request in server.requests() {
        assert!(request.target.ends_with("&pipeline=none"), "{}", request.target);
        assert_eq!(request.headers["content-encoding"], "gzip");
    }
}

#[test]
fn ten_thousand_lines_arrive_once_also_when_it_pushes_back() {
    for args in [&[][..], &["--fail", "503:5", "--fail", "429:5", "--busy-items", "700"]] {
        let site = Site::new();
        let server = Server::start("elasticsearch", args);
        configure(&site, &http(server.port), "action: index, batch: { max_events: 1000 }");
        site.write("logs/raw.log", numbers(0..10_000));
        site.run().assert_counts("a/b", [10_000, 10_000, 0, 0]);
        assert_eq!(server.errors(), "");
        assert!(server.numbers("content").into_iter().eq(0..10_000), "some are lost or doubled");
    }
}

#[test]
fn a_poisonous_event_is_set_aside_alone() {
    let site = Site::new();
    let server = Server::start("elasticsearch", &["--poison", "666"]);
    configure(&site, &http(server.port), "");
    site.write("logs/raw.log", numbers(0..1000));
    let ran = site.run();
    ran.assert_counts("a/b", [1000, 999, 0, 0]);
    assert_eq!(ran.summary["a/b"]["dead_lettered"], 1);
    assert!(server.numbers("content").into_iter().eq((0..1000).filter(|number| *number != 666)));
    let [(reason, body)] = &site.dead_letters("a/b")[..] else { panic!("one dead letter") };
    assert_eq!(reason, "400 mapper_parsing_exception: failed to parse: it has the poison");
    let lines: Vec<_> = std::str::from_utf8(body).unwrap().lines().collect();
    assert_eq!((lines[0], lines.len()), ("{\"create\":{}}", 2));
    assert_eq!(serde_json::from_str::<Value>(lines[1]).unwrap()["content"], "666");
    assert!(!ran.stderr.contains("poison") && !ran.stderr.contains("666"), "{}", ran.stderr);
}

#[test]
fn a_key_that_is_wrong_is_told_of_and_may_be_repaired() {
    let site = Site::new();
    let server = Server::start("elasticsearch", &["--api-key", "right-key"]);
    configure(&site, &http(server.port), "auth: { api_key_file: key }");
    site.write("key", "wrong-key\n");
    site.write("logs/raw.log", numbers(0..100));
    let mut agent = site.start();
    agent.wait_to_say("does not take what is sent; nothing is lost: the answer is 401 Unauthorized");
    assert!(server.events().is_empty());
    site.write("key", "right-key\n");
    server.wait_for(100);
    let ran = agent.stop();
    ran.assert_counts("a/b", [100, 100, 0, 0]);
    assert!(server.numbers("content").into_iter().eq(0..100));
    for secret in ["wrong-key", "right-key"] {
        site.assert_discreet(&ran, secret);
    }
}

#[test]
fn only_a_server_with_a_certificate_that_is_trusted_gets_anything() {
    let site = Site::new();
    let server = Server::start_tls("elasticsearch", false, &["--basic", "user:secret-word"]);
    let url = format!("https://localhost:{}", server.port);
    let keys =
        |ca: &PathBuf| format!("auth: {{ user: user, password: secret-word }}, tls: {{ ca: '{}' }}", ca.display());
    configure(&site, &url, &keys(&certificates().other_ca));
    site.write("logs/raw.log", numbers(0..10));
    let mut agent = site.start();
    agent.wait_to_say("not reached, trying again; nothing is lost: ");
    let said = agent.stderr();
    agent.kill();
    assert!(server.requests().is_empty() && !said.contains("secret-word"), "{said}");
    configure(&site, &url, &keys(&certificates().ca));
    site.run().assert_counts("a/b", [10, 10, 0, 0]);
    assert!(server.numbers("content").into_iter().eq(0..10));
}

#[test]
fn an_answer_that_is_lost_costs_duplicates_and_rubbish_delivers_nothing() {
    let site = Site::new();
    let server = Server::start("elasticsearch", &[]);
    let proxy = Proxy::start(server.port);
    configure(&site, &http(proxy.port), "");
    let body = "<html>welcome</html>".to_owned();
    proxy.set(Fault::Status { code: 200, headers: Vec::new(), body, requests: 1_000_000 });
    site.write("logs/raw.log", numbers(0..10));
    let mut agent = site.start();
    agent.wait_to_say("does not take what is sent; nothing is lost: the answer is not one of the bulk API");
    assert!(server.events().is_empty());
    proxy.set(Fault::CutResponse);
    server.wait_for(10);
    proxy.set(Fault::None);
    server.wait_for(20);
    agent.wait("everything to be settled", |_| server.events().len() >= 20);
    let ran = agent.stop();
    ran.assert_counts("a/b", [10, 10, 0, 0]);
    let mut found = server.numbers("content");
    found.dedup();
    assert!(found.into_iter().eq(0..10));
}
