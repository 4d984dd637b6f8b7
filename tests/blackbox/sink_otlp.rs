//! OpenTelemetry's logs, by HTTP and by gRPC, at a stand-in for a collector.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::{Ran, Site, plugins};
use crate::proxy::{Fault, Proxy};
use crate::servers::{Event, Server, certificates};

const BOTH: [&str; 2] = ["http", "grpc"];

/// The address of a server, by that protocol.
fn url(server: &Server, protocol: &str) -> String {
    let port = server.ports()[usize::from(protocol == "grpc")];
    format!("http://127.0.0.1:{port}")
}

/// The logstore `shop/web`, with more keys, which is shipped to that address.
fn config(site: &Site, protocol: &str, url: &str, logstore: &str, sink: &str) {
    site.write(
        "weir.yaml",
        format!(
            "data_dir: data\nplugin_dirs: [{:?}]\nlogstores:\n- name: shop/web\n  files: {{ root: logs, invalid: keep }}\n\
             {logstore}\n  sink: otel\nsinks:\n  otel:\n    type: otlp\n    protocol: {protocol}\n    url: {url:?}\n    \
             batch: {{ max_age: 50ms }}\n    max_backoff: 1s\n    {sink}\n",
            plugins()
        ),
    );
}

fn lines(count: usize) -> String {
    (0..count).map(|n| format!("line {n}\n")).collect()
}

/// The body of each event, sorted.
fn bodies(events: &[Event]) -> Vec<String> {
    let mut bodies: Vec<_> = events.iter().map(|event| event.fields["body"].as_str().unwrap().to_owned()).collect();
    bodies.sort();
    bodies
}

fn expected(count: usize) -> Vec<String> {
    let mut expected: Vec<_> = lines(count).lines().map(str::to_owned).collect();
    expected.sort();
    expected
}

fn letters(site: &Site) -> Vec<PathBuf> {
    let dir = fs::read_dir(site.path("data/dead_letters/shop/web"));
    dir.into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

#[track_caller]
fn assert_quiet(ran: &Ran, secret: &str) {
    assert!(!ran.stderr.contains(secret), "{}", ran.stderr);
}

#[test]
fn events_are_what_they_were() {
    for protocol in BOTH {
        let site = Site::new();
        let server = Server::start("otlp", &[]);
        let plugin = "  plugins: [{ use: json }]";
        let sink = "severity_field: level\n    body_field: message\n    resource_from_tags: [path]";
        config(&site, protocol, &url(&server, protocol), plugin, sink);
        let lines: [&[u8]; 5] = [
            br#"{"level":"warn","n":-1,"f":1.5,"b":true,"o":{"x":[1]},"s":"gr\u00fcn","e":""}"#,
            b"not JSON \xff",
            b"{}",
            br#"{"message":"hello","level":"odd"}"#,
            b"",
        ];
        site.append("logs/a.log", lines.join(&b'\n'));
        let ran = site.run();
        assert_eq!(server.errors(), "");
        let mut events = server.events();
        let observed: Vec<_> = events.iter_mut().map(|event| event.fields.remove("observed_time_unix_nano")).collect();
        assert!(observed.iter().all(|time| time.as_ref().unwrap().as_u64() > Some(1_700_000_000_000_000_000)));
        let made: Vec<Value> = events.iter().map(|event| Value::Object(event.fields.clone())).collect();
        let error = made[1]["attributes"]["weir.error"].as_str().unwrap().to_owned();
        assert!(error.starts_with("json: "), "{error}");
        let attributes = json!({ "n": -1, "f": 1.5, "b": true, "o": "{\"x\":[1]}", "s": "grün", "e": "" });
        let expected = [
            json!({ "attributes": attributes, "severity_text": "warn", "severity_number": 13 }),
            json!({ "attributes": { "content": "not JSON \u{fffd}", "weir.error": error } }),
            json!({ "attributes": {} }),
            json!({ "attributes": {}, "body": "hello", "severity_text": "odd" }),
        ];
        assert_eq!(made, expected);
        let path = site.path("logs/a.log").to_str().unwrap().to_owned();
        let resource = [("service.name", "web"), ("service.namespace", "shop"), ("log.file.path", &path)];
        let resource: BTreeMap<_, _> = resource.iter().map(|(name, value)| (name.to_string(), json!(value))).collect();
        let to = json!({ "transport": protocol, "scope": "weir" });
        assert!(
            events.iter().all(|event| event.tags == resource
                && Value::Object(event.to.clone()) == to
                && event.time_ns.is_none())
        );
        assert_eq!(ran.summary["shop/web"]["delivered"], 4);
    }
}

#[test]
fn all_lines_arrive_once_however_they_are_compressed() {
    for (protocol, compression) in
        [("http", "none"), ("http", "gzip"), ("http", "zstd"), ("grpc", "none"), ("grpc", "gzip")]
    {
        let site = Site::new();
        let server = Server::start("otlp", &[]);
        let sink = format!("compression: {compression}\n    headers: {{ X-Scope-OrgID: me }}");
        config(&site, protocol, &url(&server, protocol), "", &sink);
        for file in 0..4 {
            let lines: String = (0..2500).map(|n| format!("line {}\n", file * 2500 + n)).collect();
            site.append(&format!("logs/{file}.log"), lines);
        }
        let ran = site.run();
        assert_eq!(server.errors(), "");
        assert_eq!(bodies(&server.events()), expected(10_000), "{protocol} {compression}");
        assert_eq!(ran.summary["shop/web"]["delivered"], 10_000);
        for request in server.requests() {
            assert_eq!(request.headers["x-scope-orgid"], "me");
            let name = if protocol == "http" { "content-encoding" } else { "grpc-encoding" };
            let encoding = request.headers.get(name).map_or("none", String::as_str);
            // gRPC's library hides it.
            assert!(encoding == compression || protocol == "grpc", "{:?}", request.headers);
        }
    }
}

#[test]
fn one_event_that_is_refused_is_found_and_kept_alone() {
    for protocol in BOTH {
        let site = Site::new();
        let server = Server::start("otlp", &["--poison", "line 567", "--poison-whole"]);
        config(&site, protocol, &url(&server, protocol), "", "compression: gzip");
        site.append("logs/a.log", lines(1000));
        let ran = site.run();
        assert_eq!(server.errors(), "");
        let expected: Vec<_> = expected(1000).into_iter().filter(|line| line != "line 567").collect();
        assert_eq!(bodies(&server.events()), expected);
        let accounts = &ran.summary["shop/web"];
        assert_eq!([accounts["delivered"], accounts["dead_lettered"]], [999, 1]);
        let [letter] = &letters(&site)[..] else { panic!("{:?}", letters(&site)) };
        let letter = String::from_utf8_lossy(&fs::read(letter).unwrap()).into_owned();
        assert!(letter.contains("line 567") && letter.contains("a record has line 567"), "{letter}");
        assert_quiet(&ran, "line 567");
    }
}

#[test]
fn what_is_refused_without_a_name_is_kept_with_its_payload_and_not_sent_again() {
    for protocol in BOTH {
        let site = Site::new();
        let mut server = Server::start("otlp", &["--poison", "line 567"]);
        config(&site, protocol, &url(&server, protocol), "", "");
        site.append("logs/a.log", lines(1000));
        let ran = site.run();
        assert_eq!(server.errors(), "");
        let wanted: Vec<_> = expected(1000).into_iter().filter(|line| line != "line 567").collect();
        assert_eq!(bodies(&server.events()), wanted);
        let accounts = &ran.summary["shop/web"];
        assert_eq!([accounts["delivered"], accounts["dead_lettered"]], [999, 1]);
        let list = site.output(["dead-letters", "list", "-c", "weir.yaml", "--json"]);
        let head: Value = serde_json::from_str(list.text().trim()).unwrap();
        assert_eq!(head["reason"], "a record has line 567");
        let events = head["events"].as_u64().unwrap() as usize;
        assert!(events > 1, "{head}");
        // With all that came with it, it can be sent again.
        server.restart_with(&[]);
        config(&site, protocol, &url(&server, protocol), "", "");
        site.output(["dead-letters", "replay", "-c", "weir.yaml", "--all"]).assert_code(0);
        let all = server.events();
        assert_eq!(all.len(), 999 + events);
        assert!(bodies(&all).contains(&"line 567".to_owned()));
        assert!(letters(&site).is_empty());
    }
}

#[test]
fn a_payload_that_is_refused_whole_is_kept_event_by_event() {
    let site = Site::new();
    let server = Server::start("otlp", &["--poison", "line"]);
    config(&site, "grpc", &url(&server, "grpc"), "", "");
    site.append("logs/a.log", lines(20));
    let ran = site.run();
    assert_eq!(ran.summary["shop/web"]["dead_lettered"], 20);
    assert_eq!((letters(&site).len(), server.events().len()), (20, 0));
    // Nothing was sent again.
    assert_eq!(server.requests().iter().filter(|request| request.status == 200).count(), server.requests().len());
}

#[test]
fn push_back_is_waited_for() {
    for protocol in BOTH {
        for more in [&["--retry-after", "1"][..], &[]] {
            let site = Site::new();
            let fails = [&["--fail", "503:3", "--fail", "429:2", "--fail", "504:1"][..], more].concat();
            let server = Server::start("otlp", &fails);
            config(&site, protocol, &url(&server, protocol), "", "");
            site.append("logs/a.log", lines(1000));
            let ran = site.run();
            assert_eq!(server.errors(), "");
            assert_eq!(bodies(&server.events()), expected(1000));
            assert_eq!(ran.summary["shop/web"]["delivered"], 1000);
        }
    }
}

#[test]
fn a_message_that_is_too_large_for_grpc_is_sent_in_parts() {
    let site = Site::new();
    let server = Server::start("otlp", &["--max-message", "20000"]);
    config(&site, "grpc", &url(&server, "grpc"), "", "");
    site.append("logs/a.log", lines(2000));
    let ran = site.run();
    assert_eq!(bodies(&server.events()), expected(2000));
    assert_eq!(ran.summary["shop/web"]["delivered"], 2000);
}

#[test]
fn a_wrong_token_is_told_and_nothing_is_lost() {
    for protocol in BOTH {
        let site = Site::new();
        let server = Server::start("otlp", &["--bearer", "right-token"]);
        site.write("token", "wrong-token\n");
        config(&site, protocol, &url(&server, protocol), "", "auth: { token_file: token }");
        site.append("logs/a.log", lines(100));
        let mut agent = site.start();
        agent.wait_to_say("does not take what is sent; nothing is lost");
        site.write("token", "right-token\n");
        server.wait_for(100);
        agent.wait("settled", |site| letters(site).is_empty());
        let ran = agent.stop();
        assert_eq!(bodies(&server.events()), expected(100));
        for secret in ["right-token", "wrong-token", "line 1"] {
            assert_quiet(&ran, secret);
        }
    }
}

#[test]
fn servers_have_to_prove_who_they_are() {
    for protocol in BOTH {
        let site = Site::new();
        let server = Server::start_tls("otlp", true, &[]);
        let certificates = certificates();
        fs::copy(&certificates.other_ca, site.path("ca.pem")).unwrap();
        let url = url(&server, protocol).replace("http://", "https://");
        let tls = format!("tls: {{ ca: ca.pem, cert: {:?}, key: {:?} }}", certificates.client, certificates.client_key);
        config(&site, protocol, &url, "", &tls);
        site.append("logs/a.log", lines(100));
        let mut agent = site.start();
        agent.wait_to_say("not reached, trying again; nothing is lost");
        assert_eq!(server.events().len(), 0);
        fs::copy(&certificates.ca, site.path("ca.pem")).unwrap();
        server.wait_for(100);
        agent.stop();
        assert_eq!(bodies(&server.events()), expected(100));
    }
}

#[test]
fn connections_that_break_cost_copies_at_most() {
    for protocol in BOTH {
        for fault in [Fault::Reset { after_request_bytes: 3000 }, Fault::CutResponse, Fault::Refuse, Fault::GarbageTls]
        {
            let site = Site::new();
            let server = Server::start("otlp", &[]);
            let proxy = Proxy::start(server.ports()[usize::from(protocol == "grpc")]);
            proxy.set(fault.clone());
            config(&site, protocol, &format!("http://127.0.0.1:{}", proxy.port), "", "timeout: 5s");
            site.append("logs/a.log", lines(1000));
            let mut agent = site.start();
            agent.wait_to_say("nothing is lost");
            proxy.set(Fault::None);
            server.wait("all lines", |server| {
                let mut bodies = bodies(&server.events());
                bodies.dedup();
                bodies == expected(1000)
            });
            agent.stop();
            assert_eq!(server.errors(), "", "{protocol} {fault:?}");
        }
    }
}

#[test]
fn what_is_no_collector_is_told() {
    let site = Site::new();
    let server = Server::start("http", &[]);
    let proxy = Proxy::start(server.port);
    let body = "<html>Welcome</html>".to_owned();
    proxy.set(Fault::Status { code: 200, headers: Vec::new(), body, requests: usize::MAX });
    config(&site, "http", &format!("http://127.0.0.1:{}/v1/logs", proxy.port), "", "");
    site.append("logs/a.log", lines(10));
    let mut agent = site.start();
    agent.wait_to_say("does not take what is sent; nothing is lost");
    let ran = agent.stop();
    assert_eq!(ran.summary["shop/web"]["in_flight"], 10);
}
