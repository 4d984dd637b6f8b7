//! The sink `loki`, against a stand-in for its push API.

use serde_json::{Value, json};

use crate::harness::{Site, now_ns, numbers};
use crate::servers::{Server, certificates};

const TOKEN: &str = "the-token-that-nobody-may-see";

fn configure(site: &Site, logstore: &str, sink: &str) {
    site.config_app(logstore, &format!("type: loki, {sink}"));
}

fn at(server: &Server, more: &str) -> String {
    format!("url: 'http://127.0.0.1:{}', {more}", server.port)
}

fn lines(server: &Server) -> Vec<String> {
    server.events().iter().map(|event| event.fields["line"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn events_are_entries_of_the_streams_of_their_labels() {
    let site = Site::new();
    let server = Server::start("loki", &["--tenants", "--basic", "me:pass-that-nobody-may-see"]);
    let plugin = "plugins: [{ use: json, settings: { duplicates: keep, time: { field: t, format: rfc3339 } } }]";
    let keys = "tenant: 't-{project}', labels: { app: '{logstore}' }, labels_from_tags: [path], label_fields: [level], \
                structured_metadata: true, headers: { x-a: b }, auth: { user: me, password: pass-that-nobody-may-see }";
    configure(&site, plugin, &at(&server, keys));
    /// A line, its fields, time, and error.
    type Input = (&'static [u8], Value, Option<i64>, Option<&'static str>);
    let input: [Input; 7] = [
        (
            b"{\"t\":\"2023-11-14T22:13:20.000000007Z\",\"level\":\"info\",\"a\":1,\"b\":\"\xc3\xa9\\n\",\"c\":[1, 2],\"d\":true,\"e\":\"\"}",
            json!({"t": "2023-11-14T22:13:20.000000007Z", "level": "info", "a": 1, "b": "é\n", "c": [1, 2], "d": true, "e": ""}),
            Some(1_700_000_000_000_000_007),
            Some("info"),
        ),
        (
            b"{\"t\":\"2023-11-14T22:13:21Z\",\"level\":\"warn \\\"x\\\"\"}",
            json!({"t": "2023-11-14T22:13:21Z", "level": "warn \"x\""}),
            Some(1_700_000_001_000_000_000),
            Some("warn \"x\""),
        ),
        (
            b"{\"t\":\"2023-11-14T22:13:21Z\",\"level\":\"info\"}",
            json!({"t": "2023-11-14T22:13:21Z", "level": "info"}),
            // One nanosecond after the one before.
            Some(1_700_000_001_000_000_001),
            Some("info"),
        ),
        (b"{\"b\":\"\xff!\"}", json!({"b": "\u{fffd}!"}), None, None),
        (b"{}", json!({}), None, None),
        (b"no JSON", json!({"content": "no JSON", "__error__": "json: not an object"}), None, None),
        (b"{\"x\":1,\"x\":2}", json!({"x": 2}), None, None),
    ];
    for (line, ..) in &input {
        site.append("logs/a.log", [*line, &b"\n"[..]].concat());
    }
    let begun = now_ns();
    let ran = site.run();
    ran.assert_counts("shop/app", [7, 7, 1, 0]);
    assert_eq!(server.errors(), "");
    let events = server.events();
    assert_eq!(events.len(), 7);
    let path = site.path("logs/a.log");
    let host = events[0].fields["host"].clone();
    for (event, (_, line, time, level)) in events.iter().zip(&input) {
        let found: Value = serde_json::from_str(event.fields["line"].as_str().unwrap()).unwrap();
        assert_eq!(found, *line);
        match time {
            Some(time) => assert_eq!(event.time_ns, Some(*time)),
            None => assert!((begun..now_ns()).contains(&event.time_ns.unwrap())),
        }
        let mut labels = json!({"app": "app", "path": path});
        if let Some(level) = level {
            labels["level"] = (*level).into();
        }
        assert_eq!(json!(event.tags), labels);
        assert_eq!((event.fields.len(), &event.fields["host"]), (2, &host));
        assert_eq!(event.to["tenant"], "t-shop");
    }
    assert_eq!(lines(&server)[6], r#"{"x":1,"x":2}"#);
    assert_eq!(server.requests()[0].headers["x-a"], "b");
    assert!(!ran.stderr.contains("pass-that"), "{}", ran.stderr);
}

#[test]
fn each_line_arrives_once() {
    let site = Site::new();
    let server = Server::start("loki", &[]);
    configure(&site, "", &at(&server, "line: content, batch: { max_events: 1000 }"));
    site.write("logs/a.log", numbers(0..10_000));
    site.run().assert_counts("shop/app", [10_000, 10_000, 0, 0]);
    assert!(server.numbers("line").into_iter().eq(0..10_000));
    assert_eq!(server.errors(), "");
    let events = server.events();
    assert_eq!(events[0].tags["project"], "shop");
    assert_eq!(events[0].tags["logstore"], "app");
    // Loki would take two of the same time for one if they had the same line.
    let mut times: Vec<_> = events.iter().map(|event| event.time_ns).collect();
    times.sort();
    times.dedup();
    assert_eq!(times.len(), 10_000);
}

#[test]
fn a_poisonous_event_is_a_dead_letter_alone() {
    let site = Site::new();
    let server = Server::start("loki", &["--poison", "poison"]);
    configure(&site, "", &at(&server, "line: content"));
    site.write("logs/a.log", numbers(0..1000).replace("\n500\n", "\npoison 500\n"));
    let ran = site.run();
    assert_eq!((ran.summary["shop/app"]["delivered"], ran.summary["shop/app"]["dead_lettered"]), (999, 1));
    assert!(server.numbers("line").into_iter().eq((0..1000).filter(|n| *n != 500)));
    let [(reason, body)] = &site.dead_letters("shop/app")[..] else { panic!("one dead letter") };
    assert_eq!(reason, "400 Bad Request: an entry has poison");
    assert!(memchr::memmem::find(body, b"poison 500").is_some());
    assert!(!ran.stderr.contains("poison"), "{}", ran.stderr);
    assert_eq!(server.errors(), "");
}

#[test]
fn push_back_is_waited_out() {
    let site = Site::new();
    let server = Server::start("loki", &["--fail", "429:3", "--fail", "503:3", "--fail", "500:1"]);
    configure(&site, "", &at(&server, "line: content"));
    site.write("logs/a.log", numbers(0..5000));
    let ran = site.run();
    ran.assert_counts("shop/app", [5000, 5000, 0, 0]);
    assert!(server.numbers("line").into_iter().eq(0..5000));
    assert_eq!(server.errors(), "");
    ran.assert_says("pushes back, trying again; nothing is lost: the answer is 429 Too Many Requests");
}

#[test]
fn a_wrong_token_is_waited_for_until_it_is_right() {
    let site = Site::new();
    let server = Server::start("loki", &["--bearer", TOKEN]);
    configure(&site, "", &at(&server, "line: content, auth: { token_file: token }"));
    site.write("token", "another-token-that-nobody-may-see\n");
    site.write("logs/a.log", numbers(0..100));
    let mut agent = site.start();
    agent.wait_to_say("does not take what is sent; nothing is lost: the answer is 401 Unauthorized");
    assert_eq!(server.events(), []);
    site.write("token.new", TOKEN);
    site.rename("token.new", "token");
    server.wait_for(100);
    let ran = agent.stop();
    ran.assert_counts("shop/app", [100, 100, 0, 0]);
    assert!(server.numbers("line").into_iter().eq(0..100));
    site.assert_discreet(&ran, TOKEN);
    assert!(!ran.stderr.contains("another-token"), "{}", ran.stderr);
}

#[test]
fn only_a_server_that_proves_who_it_is_gets_events() {
    let site = Site::new();
    let server = Server::start_tls("loki", true, &[]);
    let all = certificates();
    let sink = |ca: &std::path::Path| {
        let tls = format!("{{ ca: {ca:?}, cert: {:?}, key: {:?} }}", all.client, all.client_key);
        format!("url: 'https://127.0.0.1:{}/loki/api/v1/push', line: content, tls: {tls}", server.port)
    };
    site.write("logs/a.log", numbers(0..100));
    configure(&site, "", &sink(&all.other_ca));
    let mut agent = site.start();
    agent.wait_to_say("not reached, trying again; nothing is lost");
    agent.kill();
    assert_eq!(server.requests().len(), 0);
    configure(&site, "", &sink(&all.ca));
    site.run();
    assert!(server.numbers("line").into_iter().eq(0..100));
    assert_eq!(server.errors(), "");
}
