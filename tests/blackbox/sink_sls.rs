//! The sink `sls`, against a stand-in for the Log Service.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Map, Value, json};

use crate::harness::{Site, now_ns, numbers, repository};
use crate::servers::{Event, Server, certificates, python};

const SECRET: &str = "the-key-that-nobody-may-see";

fn configure(site: &Site, logstore: &str, sink: &str) {
    site.config_app(logstore, &format!("type: sls, access_key_id: id, region: cn-hangzhou, {sink}"));
}

fn at(server: &Server, more: &str) -> String {
    format!("endpoint: 'http://127.0.0.1:{}', access_key_secret: {SECRET}, {more}", server.port)
}

fn start(args: &[&str]) -> Server {
    Server::start("sls", &[&["--access-key-secret", SECRET][..], args].concat())
}

const PARSED: &str = "plugins: [{ use: json, settings: { duplicates: keep, time: { field: t, format: rfc3339 } } }]";

type Case = (&'static [u8], Option<i64>, Vec<(&'static str, &'static str)>);

/// Lines, and as which fields they arrive; without a time it is that of the encoding.
fn cases() -> Vec<Case> {
    let second = 1_700_000_000_000_000_000;
    vec![
        (
            &b"{\"t\":\"2023-11-14T22:13:20.000000007Z\",\"a\":1,\"b\":\"\xc3\xa9\\n\",\"c\":[1, 2],\"d\":true,\"e\":\"\"}"[..],
            Some(second + 7),
            vec![("t", "2023-11-14T22:13:20.000000007Z"), ("a", "1"), ("b", "é\n"), ("c", "[1, 2]"), ("d", "true"), ("e", "")],
        ),
        (
            &b"{\"t\":\"2023-11-14T22:13:21.5Z\",\"a\":\"x\",\"a\":-1.5}"[..],
            Some(second + 1_500_000_000),
            vec![("t", "2023-11-14T22:13:21.5Z"), ("a", "x"), ("a_2", "-1.5")],
        ),
        (&b"{\"b\":\"\xff!\"}"[..], None, vec![("b", "\u{fffd}!")]),
        (&b"{}"[..], None, vec![]),
        (&b"no JSON"[..], None, vec![("content", "no JSON"), ("__error__", "json: not an object")]),
    ]
}

/// The same by the vendor's own client, with the tags that weir's group had.
fn put_by_the_vendor(server: &Server, like: &[Event]) {
    let logs: Vec<_> = (cases().iter().zip(like))
        .map(|((_, time, contents), event)| {
            let time = time.unwrap_or_else(|| event.time_ns.unwrap());
            json!({ "time": time / 1_000_000_000, "time_ns": time % 1_000_000_000, "contents": contents })
        })
        .collect();
    let request = json!({
        "project": "x-shop", "logstore": "app", "topic": "t", "source": "here", "logs": logs,
        "tags": like[0].tags.iter().collect::<Vec<_>>(),
    });
    let mut command = python(&repository().join("tests/servers/put_sls.py"));
    let mut child = command.arg(server.port.to_string()).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn events_are_those_that_the_vendors_client_sends() {
    let pairs = |fields: &Map<String, Value>| -> Vec<(String, Value)> {
        fields.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    for (signature, compression, sts) in [("v1", "lz4", false), ("v4", "zstd", true), ("v4", "none", false)] {
        let site = Site::new();
        let token: &[&str] = if sts { &["--sts-token", "the-token"] } else { &[] };
        let mut server = start(&[&["--signature", signature][..], token].concat());
        let token = if sts { "sts_token: the-token, " } else { "" };
        let keys = format!(
            "{token}signature: {signature}, compression: {compression}, topic: t, source: here, sls_project: 'x-{{project}}'"
        );
        configure(&site, PARSED, &at(&server, &keys));
        for (line, ..) in cases() {
            site.append("logs/a.log", [line, b"\n"].concat());
        }
        let begun = now_ns();
        let ran = site.run();
        ran.assert_counts("shop/app", [5, 5, 1, 0]);
        assert_eq!(server.errors(), "");
        let events = server.events();
        assert_eq!(events.len(), 5);
        for (event, (_, time, fields)) in events.iter().zip(cases()) {
            let expected: Vec<_> = fields.iter().map(|(k, v)| ((*k).to_owned(), Value::from(*v))).collect();
            assert_eq!(pairs(&event.fields), expected);
            match time {
                Some(time) => assert_eq!(event.time_ns, Some(time)),
                None => assert!((begun..now_ns()).contains(&event.time_ns.unwrap())),
            }
        }
        let tags = &events[0].tags;
        assert_eq!(tags.keys().collect::<Vec<_>>(), ["__hostname__", "__pack_id__", "__path__"]);
        assert_eq!(tags["__path__"], site.path("logs/a.log").to_str().unwrap());
        let pack = tags["__pack_id__"].as_str().unwrap();
        assert!(pack.len() == 18 && pack.ends_with("-0"), "{pack}");

        server.restart_with(&[]);
        put_by_the_vendor(&server, &events);
        let all = server.events();
        assert_eq!(server.errors(), "");
        assert_eq!(all.len(), 10);
        for (ours, theirs) in all[..5].iter().zip(&all[5..]) {
            assert_eq!(ours, theirs);
            assert_eq!(pairs(&ours.fields), pairs(&theirs.fields));
        }
    }
}

#[test]
fn each_line_arrives_once_in_groups_that_are_numbered() {
    let site = Site::new();
    let server = start(&[]);
    configure(&site, "", &at(&server, ""));
    site.write("logs/a.log", numbers(0..10_000));
    let ran = site.run();
    ran.assert_counts("shop/app", [10_000, 10_000, 0, 0]);
    assert!(server.numbers("content").into_iter().eq(0..10_000));
    assert_eq!(server.errors(), "");
    let mut groups: Vec<_> =
        server.events().iter().map(|event| event.tags["__pack_id__"].as_str().unwrap().to_owned()).collect();
    groups.sort();
    groups.dedup();
    let prefix = &groups[0][..16];
    let expected: Vec<_> = (0..groups.len()).map(|n| format!("{prefix}-{n:X}")).collect();
    assert_eq!(groups, expected);
    assert!(groups.len() >= 3, "4096 logs a group at most");
    site.assert_discreet(&ran, SECRET);
}

#[test]
fn a_poisonous_event_is_a_dead_letter_alone() {
    let site = Site::new();
    let server = start(&["--poison", "poison"]);
    configure(&site, "", &at(&server, "compression: zstd"));
    site.write("logs/a.log", numbers(0..1000).replace("\n500\n", "\npoison 500\n"));
    let ran = site.run();
    assert_eq!((ran.summary["shop/app"]["delivered"], ran.summary["shop/app"]["dead_lettered"]), (999, 1));
    assert!(server.numbers("content").into_iter().eq((0..1000).filter(|n| *n != 500)));
    let [(reason, body)] = &site.dead_letters("shop/app")[..] else { panic!("one dead letter") };
    assert_eq!(reason, "PostBodyInvalid: a log has poison");
    assert!(memchr::memmem::find(body, b"poison 500").is_some());
    assert!(!ran.stderr.contains("poison"), "{}", ran.stderr);
    assert_eq!(server.errors(), "");
}

#[test]
fn push_back_is_waited_out() {
    let site = Site::new();
    let fail = ["--fail", "ServerBusy:3", "--fail", "WriteQuotaExceed:2", "--fail", "ShardWriteQuotaExceed:1"];
    let server = start(&[&fail[..], &["--fail", "InternalServerError:1"]].concat());
    configure(&site, "", &at(&server, ""));
    site.write("logs/a.log", numbers(0..5000));
    let ran = site.run();
    ran.assert_counts("shop/app", [5000, 5000, 0, 0]);
    assert!(server.numbers("content").into_iter().eq(0..5000));
    assert_eq!(server.errors(), "");
    ran.assert_says("pushes back, trying again; nothing is lost: the answer is 503 Service Unavailable: ServerBusy");
}

#[test]
fn a_group_that_is_too_large_is_split() {
    let site = Site::new();
    let server = start(&["--max-logs", "100"]);
    configure(&site, "", &at(&server, "signature: v1"));
    site.write("logs/a.log", numbers(0..1000));
    site.run().assert_counts("shop/app", [1000, 1000, 0, 0]);
    assert!(server.numbers("content").into_iter().eq(0..1000));
}

#[test]
fn a_clock_that_is_wrong_is_corrected_at_once() {
    for signature in ["v1", "v4"] {
        for skew in ["7200", "-90000"] {
            let site = Site::new();
            let server = start(&["--clock-skew", skew]);
            configure(&site, "", &at(&server, &format!("signature: {signature}, concurrency: 1")));
            site.write("logs/a.log", numbers(0..10_000));
            let ran = site.run();
            assert!(server.numbers("content").into_iter().eq(0..10_000));
            let statuses: Vec<_> = server.requests().iter().map(|request| request.status).collect();
            assert_eq!(statuses[..2], [400, 200]);
            assert!(statuses[2..].iter().all(|status| *status == 200), "{statuses:?}");
            assert!(!ran.stderr.contains("RequestTimeExpired"), "{}", ran.stderr);
        }
    }
}

#[test]
fn a_wrong_key_is_waited_for_until_it_is_right() {
    let site = Site::new();
    let server = start(&[]);
    configure(&site, "", &format!("endpoint: 'http://127.0.0.1:{}', access_key_secret_file: key", server.port));
    site.write("key", "another-key-that-nobody-may-see\n");
    site.write("logs/a.log", numbers(0..100));
    let mut agent = site.start();
    agent.wait_to_say("does not take what is sent; nothing is lost: the answer is 401 Unauthorized: SignatureNotMatch");
    assert_eq!(server.events(), []);
    site.write("key.new", format!("{SECRET}\n"));
    site.rename("key.new", "key");
    server.wait_for(100);
    let ran = agent.stop();
    ran.assert_counts("shop/app", [100, 100, 0, 0]);
    assert!(server.numbers("content").into_iter().eq(0..100));
    site.assert_discreet(&ran, SECRET);
    assert!(!ran.stderr.contains("another-key"), "{}", ran.stderr);
}

#[test]
fn a_logstore_that_is_missing_is_waited_for() {
    let site = Site::new();
    let mut server = start(&["--logstore", "other"]);
    configure(&site, "", &at(&server, ""));
    site.write("logs/a.log", numbers(0..100));
    let mut agent = site.start();
    agent.wait_to_say("the answer is 404 Not Found: LogStoreNotExist");
    server.restart_with(&["--access-key-secret", SECRET, "--logstore", "app"]);
    server.wait_for(100);
    agent.stop().assert_counts("shop/app", [100, 100, 0, 0]);
    assert!(server.numbers("content").into_iter().eq(0..100));
}

#[test]
fn only_a_server_that_proves_who_it_is_gets_events() {
    let site = Site::new();
    let server = Server::start_tls("sls", false, &["--access-key-secret", SECRET]);
    let sink = |ca: &std::path::Path| {
        format!("endpoint: 'https://localhost:{}', access_key_secret: {SECRET}, tls: {{ ca: {ca:?} }}", server.port)
    };
    site.write("logs/a.log", numbers(0..100));
    configure(&site, "", &sink(&certificates().other_ca));
    let mut agent = site.start();
    agent.wait_to_say("not reached, trying again; nothing is lost");
    agent.kill();
    assert_eq!(server.requests().len(), 0);
    configure(&site, "", &sink(&certificates().ca));
    let ran = site.run();
    assert!(server.numbers("content").into_iter().eq(0..100));
    assert_eq!(server.errors(), "");
    site.assert_discreet(&ran, SECRET);
}
