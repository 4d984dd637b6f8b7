//! Sinks on the network: batches, several sinks, secrets, TLS with clients' certificates, proxies, full dead letters.

use std::collections::BTreeSet;
use std::fs;

use crate::harness::{self, Site, numbered, numbers};
use crate::proxy::{Fault, Proxy};
use crate::servers::{Front, Server, certificates, nginx};

const LOGSTORE: &str = "- { name: a/b, files: { root: logs, include: [b.log] }, sink: far }";

/// The lines that a server has, in their order.
fn lines(server: &Server) -> Vec<String> {
    server.events().iter().map(|event| event.fields["content"].as_str().unwrap().to_owned()).collect()
}

/// A sink of type `http` with more keys.
fn http(port: u16, more: &str) -> String {
    format!("  far: {{ type: http, url: \"http://127.0.0.1:{port}/{{project}}/{{logstore}}\", max_backoff: 1s{more} }}")
}

#[test]
fn bodies_are_what_was_asked_for() {
    let json = "[array, \"gzip\", 0, \"\\u00e9\"]";
    for (keys, content_type, content_encoding) in [
        ("", "application/x-ndjson", None),
        (", encoding: json, compression: gzip, compression_level: 1", "application/json", Some("gzip")),
        (", method: PUT, compression: zstd", "application/x-ndjson", Some("zstd")),
    ] {
        let server = Server::start("http", if keys.contains("PUT") { &["--method", "PUT"] } else { &[] });
        let site = Site::new();
        site.config_with(LOGSTORE, &http(server.port, &format!("{keys}, headers: {{ X-Team: blue }}")));
        site.write("logs/b.log", format!("{}{json}\n", numbers(0..10_000)));
        let ran = site.run();
        ran.assert_counts("a/b", [10_001, 10_001, 0, 0]);
        assert_eq!(server.errors(), "");
        let mut arrived = lines(&server);
        arrived.sort_by_key(|line| line.parse().unwrap_or(u64::MAX));
        assert_eq!(arrived, [numbered(0..10_000), vec![json.to_owned()]].concat());
        for request in server.requests() {
            assert_eq!(request.target, "/a/b");
            assert_eq!(request.headers["content-type"], content_type);
            assert_eq!(request.headers.get("content-encoding").map(String::as_str), content_encoding);
            assert_eq!(request.headers["x-team"], "blue");
        }
    }
}

#[test]
fn a_trickle_is_sent_together() {
    let server = Server::start("http", &[]);
    let site = Site::new();
    // The file has each line as soon as it is read.
    let out = "  out: { type: file, path: \"out/{project}/{logstore}.ndjson\" }";
    let logstore = "- { name: a/b, files: { root: logs, include: [b.log] }, sinks: [out, far] }";
    site.config_with(logstore, &format!("{}\n{out}", http(server.port, ", batch: { max_age: 5m, max_events: 10 }")));
    let mut agent = site.start();
    for line in 0..25 {
        site.append("logs/b.log", numbers(line..line + 1));
        agent.wait_for_lines("a/b", line as usize + 1);
    }
    agent.wait("what is full", |_| server.events().len() == 20);
    assert_eq!(server.requests().iter().map(|request| request.events).collect::<Vec<_>>(), [10, 10]);
    // The rest is sent because it ends.
    agent.stop().assert_settled();
    assert_eq!(lines(&server), numbered(0..25));
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn what_is_too_old_to_wait_is_sent_at_the_end_too() {
    let server = Server::start("http", &[]);
    let site = Site::new();
    site.config_with(LOGSTORE, &http(server.port, ", batch: { max_age: 5m }"));
    site.write("logs/b.log", numbers(0..10));
    site.run().assert_counts("a/b", [10, 10, 0, 0]);
    site.append("logs/b.log", numbers(10..20));
    let mut agent = site.start();
    agent.wait_to_say("running");
    // Whether it was read before it was asked to stop or not: it is there once, at the latest after the next run.
    agent.stop();
    site.run();
    assert_eq!(lines(&server), numbered(0..20));
}

#[test]
fn several_sinks_have_everything_each_at_its_own_pace() {
    let server = Server::start("http", &[]);
    let proxy = Proxy::start(server.port);
    let site = Site::new();
    let out = "  out: { type: file, path: \"out/{project}/{logstore}.ndjson\" }";
    let logstore = "- { name: a/b, files: { root: logs, include: [b.log] }, sinks: [far, out] }";
    site.config_with(logstore, &format!("{}\n{out}", http(proxy.port, ", batch: { max_events: 100, max_age: 100ms }")));
    proxy.set(Fault::Refuse);
    site.write("logs/b.log", numbers(0..500));
    let mut agent = site.start();
    // The one goes on while the other is not there.
    agent.wait_for_lines("a/b", 500);
    agent.wait_to_say("not reached, trying again");
    agent.kill();
    // Nothing was settled, as one of them did not have it: it comes again.
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 1000);
    proxy.set(Fault::None);
    agent.wait("all lines", |_| server.events().len() >= 500);
    let ran = agent.stop();
    ran.assert_settled();
    ran.assert_counts("a/b", [500, 500, 0, 0]);
    assert_eq!(site.contents("a/b"), [numbered(0..500), numbered(0..500)].concat());
    let arrived: BTreeSet<u64> = lines(&server).iter().map(|line| line.parse().unwrap()).collect();
    assert!(arrived.into_iter().eq(0..500));
    // Now both have it.
    site.run().assert_counts("a/b", [0, 0, 0, 0]);
}

#[test]
fn an_event_that_one_of_several_sinks_refuses_is_a_dead_letter() {
    let server = Server::start("http", &["--poison", "poison"]);
    let site = Site::new();
    let out = "  out: { type: file, path: \"out/{project}/{logstore}.ndjson\" }";
    let logstore = "- { name: a/b, files: { root: logs, include: [b.log] }, sinks: [out, far] }";
    site.config_with(logstore, &format!("{}\n{out}", http(server.port, "")));
    site.write("logs/b.log", "1\npoison\n2\n");
    let ran = site.run();
    ran.assert_counts("a/b", [3, 2, 0, 0]);
    assert_eq!(ran.summary["a/b"]["dead_lettered"], 1);
    assert_eq!(site.contents("a/b"), ["1", "poison", "2"]);
    assert_eq!(lines(&server), ["1", "2"]);
}

#[test]
fn a_token_in_a_file_is_read_again_and_never_shown() {
    const SECRET: &str = "s3cr3t-of-the-shop";
    let server = Server::start("http", &["--bearer", SECRET]);
    let site = Site::new();
    site.write("token", "wrong-and-also-s3cr3t\n");
    site.config_with(LOGSTORE, &http(server.port, ", auth: { token_file: token }"));
    site.write("logs/b.log", numbers(0..100));
    let mut agent = site.start();
    agent.wait_to_say("the answer is 401 Unauthorized");
    assert_eq!(server.events().len(), 0);
    site.write("new", format!("{SECRET}\n"));
    site.rename("new", "token");
    agent.wait("all lines", |_| server.events().len() == 100);
    let ran = agent.stop();
    ran.assert_counts("a/b", [100, 100, 0, 0]);
    let summary = fs::read_to_string(site.path("summary.json")).unwrap();
    assert!(!ran.stderr.contains("s3cr3t") && !summary.contains("s3cr3t"), "{}", ran.stderr);
    assert!(ran.summary["a/b"]["dead_lettered"] == 0);
}

#[test]
fn a_password_from_the_environment_is_never_shown() {
    let server = Server::start("http", &["--basic", "user:s3cr3t"]);
    let site = Site::new();
    site.config_with(LOGSTORE, &http(server.port, ", auth: { user: user, password: \"${PASSWORD}\" }"));
    site.write("logs/b.log", numbers(0..10));
    let mut command = site.weir(["run", "-c", "weir.yaml", "--until-idle"]);
    let output = command.env("PASSWORD", "s3cr3t").env("RUST_LOG", "trace").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("s3cr3t") && !said.contains("dXNlcjpzM2NyM3Q="), "{said}");
    assert_eq!(lines(&server), numbered(0..10));
}

#[test]
fn a_client_proves_who_it_is() {
    let server = Server::start_tls("http", true, &[]);
    let site = Site::new();
    let made = certificates();
    let tls = |identity: &str| format!(", timeout: 2s, tls: {{ ca: {:?}{identity} }}", made.ca);
    let far = |identity: &str| http(server.port, &tls(identity)).replace("http://127.0.0.1", "https://localhost");
    site.config_with(LOGSTORE, &far(""));
    site.write("logs/b.log", numbers(0..10));
    let mut agent = site.start();
    agent.wait_to_say("nothing is lost");
    assert_eq!(agent.stop().summary["a/b"]["in_flight"], 10);
    assert_eq!(server.events().len(), 0);
    site.config_with(LOGSTORE, &far(&format!(", cert: {:?}, key: {:?}", made.client, made.client_key)));
    site.run().assert_counts("a/b", [10, 10, 0, 0]);
    assert_eq!(lines(&server), numbered(0..10));
}

#[test]
fn nginx_passes_on_what_is_not_too_large_from_a_client_that_it_knows() {
    for http2 in [false, true] {
        let server = Server::start("http", &[]);
        let nginx = nginx(server.port, Front { client_certificates: true, http2, max_body: 20_000 });
        let site = Site::new();
        let made = certificates();
        let tls = format!(", tls: {{ ca: {:?}, cert: {:?}, key: {:?} }}", made.ca, made.client, made.client_key);
        let far = http(nginx.port, &format!("{tls}, batch: {{ max_size: 100KiB, max_age: 100ms }}"));
        site.config_with(LOGSTORE, &far.replace("http://127.0.0.1", "https://localhost"));
        let large = "x".repeat(30_000);
        site.write("logs/b.log", format!("{}{large}\n{}", numbers(0..3000), numbers(3000..5000)));
        let ran = site.run();
        ran.assert_counts("a/b", [5001, 5000, 0, 0]);
        assert_eq!(ran.summary["a/b"]["dead_lettered"], 1);
        let letters = site.dead_letters("a/b");
        assert!(letters.len() == 1 && letters[0].0.starts_with("413 "), "{:?}", letters[0].0);
        // What nginx saw is what was logged, and what it passed on.
        let passed = nginx.passed();
        let good: String =
            passed.iter().filter(|request| request.status == 200).map(|request| &*request.body).collect();
        let mut seen = harness::contents(&harness::parse(good.as_bytes()));
        seen.sort_by_key(|line| line.parse::<u64>().unwrap());
        assert_eq!(seen, numbered(0..5000));
        assert_eq!((server.events().len(), server.errors()), (5000, String::new()));
        let protocol = if http2 { "HTTP/2.0" } else { "HTTP/1.1" };
        assert!(passed.iter().all(|request| request.verified == "SUCCESS" && request.protocol == protocol), "{http2}");
        assert!(passed.iter().any(|request| request.status == 413));
    }
}

#[test]
fn a_proxy_from_the_environment_is_used() {
    let server = Server::start("http", &[]);
    let site = Site::new();
    // Only the proxy knows such a name.
    let far = "  far: { type: http, url: \"http://collector.invalid/{project}\" }";
    site.config_with(LOGSTORE, far);
    site.write("logs/b.log", numbers(0..10));
    let mut command = site.weir(["run", "-c", "weir.yaml", "--until-idle"]);
    let output = command.env("HTTP_PROXY", format!("http://127.0.0.1:{}", server.port)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(lines(&server), numbered(0..10));
    assert_eq!(server.requests()[0].target, "http://collector.invalid/a");
}

#[test]
fn what_has_no_room_among_dead_letters_holds_up_its_own_logstore() {
    let server = Server::start("http", &["--poison", "poison"]);
    let site = Site::new();
    let logstores = format!("{LOGSTORE}\n- {{ name: a/c, files: {{ root: logs, include: [c.log] }}, sink: far }}");
    let more = "dead_letters: { max_size: 64KiB }";
    site.config_with(&logstores, &format!("{}\n{more}", http(server.port, ", batch: { max_events: 10 }")));
    let poison = format!("poison {}\n", "x".repeat(40_000));
    site.write("logs/b.log", format!("1\n{poison}{poison}2\n"));
    let mut agent = site.start();
    agent.wait_to_say("dead letters are full");
    site.write("logs/c.log", numbers(100..200));
    agent.wait("the other logstore", |_| lines(&server).iter().filter(|line| line.len() == 3).count() == 100);
    assert_eq!(site.dead_letters("a/b").len(), 1);
    // Somebody takes the first away.
    for file in fs::read_dir(site.path("data/dead_letters/a/b")).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    agent.wait("room", |site| site.dead_letters("a/b").len() == 1);
    let ran = agent.stop();
    ran.assert_settled();
    ran.assert_counts("a/b", [4, 2, 0, 0]);
    assert_eq!(ran.summary["a/b"]["dead_lettered"], 2);

    // Or the operator does not want them.
    let more = "dead_letters: { max_size: 64KiB, when_full: discard }";
    site.config_with(LOGSTORE, &format!("{}\n{more}", http(server.port, "")));
    site.append("logs/b.log", format!("{poison}3\n"));
    let ran = site.run();
    ran.assert_counts("a/b", [2, 1, 0, 0]);
    let counts = ["dead_lettered", "discarded", "undeliverable"].map(|count| ran.summary["a/b"][count]);
    assert_eq!(counts, [0, 1, 1]);
}
