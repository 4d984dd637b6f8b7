//! The sink `clickhouse`, against Debian's own, which is an old one.

use serde_json::{Value, json};

use crate::harness::{Site, numbers};
use crate::proxy::{Fault, Proxy};
use crate::servers::{ClickHouse, clickhouse};

fn configure(site: &Site, port: u16, keys: &str) {
    let table = "{project}_{logstore}";
    let url = format!("http://127.0.0.1:{port}");
    site.config_raw_and_json(&format!("type: clickhouse, url: '{url}', table: '{table}', tags: string, {keys}"));
}

/// A server with a table for raw lines that are numbers.
fn server() -> ClickHouse {
    let server = clickhouse();
    let columns = "content UInt64, `__tags__` String, `__error__` String";
    server.query(&format!("CREATE TABLE a_b ({columns}) ENGINE = MergeTree ORDER BY content")).unwrap();
    server
}

/// How many rows the table of raw lines has, and of how many and which numbers.
fn numbers_of(server: &ClickHouse) -> [u64; 4] {
    let rows = server.rows("SELECT count() AS n, uniq(content) AS u, min(content) AS a, max(content) AS z FROM a_b");
    ["n", "u", "a", "z"].map(|name| rows[0][name].as_str().unwrap().parse().unwrap())
}

#[test]
fn every_event_is_a_row() {
    let site = Site::new();
    let server = clickhouse();
    let columns = "`__time__` DateTime, a String, n Int64, f Float64, t UInt8, e String, a_2 String, content String,
        `__error__` String, `__tags__` String";
    server.query(&format!("CREATE TABLE `a_json` ({columns}) ENGINE = MergeTree ORDER BY n")).unwrap();
    server.query("CREATE TABLE a_b (content String) ENGINE = MergeTree ORDER BY content").unwrap();
    configure(&site, server.port, "");
    let lines = [
        r#"{"ts":"2006-01-02T15:04:05.25Z","a":"x \"y\"","n":4,"f":1.5,"t":true,"j":{"k":[1,null]},"e":""}"#,
        r#"{"a":"one","a":"two","n":3}"#,
        r#"{"n":2}"#,
        "{}",
        "not json",
    ];
    site.write("logs/a.json", lines.join("\n") + "\n");
    site.write("logs/raw.log", b"plain\n\xff\xfe!\n");
    let ran = site.run();
    ran.assert_counts("a/json", [5, 5, 1, 0]);
    ran.assert_counts("a/b", [2, 2, 0, 0]);
    let mut rows = server.rows("SELECT * FROM a_json ORDER BY n DESC, content DESC");
    for row in &mut rows {
        let tags: Value = serde_json::from_str(row.remove("__tags__").unwrap().as_str().unwrap()).unwrap();
        assert!(tags["path"].as_str().unwrap().ends_with("/logs/a.json") && tags["host"].is_string(), "{tags}");
    }
    let none = "0000-00-00 00:00:00";
    let row = |time: &str, n: &str, a: [&str; 2], f: Value, t: u8, [content, error]: [&str; 2]| {
        json!({"__time__": time, "n": n, "a": a[0], "a_2": a[1], "f": f, "t": t, "e": "", "content": content,
            "__error__": error})
    };
    assert_eq!(
        rows.into_iter().map(Value::Object).collect::<Vec<_>>(),
        [
            row("2006-01-02 15:04:05", "4", ["x \"y\"", ""], json!(1.5), 1, ["", ""]),
            row(none, "3", ["one", "two"], json!(0), 0, ["", ""]),
            row(none, "2", ["", ""], json!(0), 0, ["", ""]),
            row(none, "0", ["", ""], json!(0), 0, ["not json", "json: not an object"]),
            row(none, "0", ["", ""], json!(0), 0, ["", ""]),
        ]
    );
    let raw: Vec<_> = server.rows("SELECT content FROM a_b ORDER BY content");
    let raw: Vec<_> = raw.iter().map(|row| row["content"].as_str().unwrap()).collect();
    assert_eq!(raw, ["plain", "\u{fffd}\u{fffd}!"]);
}

#[test]
fn ten_thousand_lines_arrive_once_compressed_or_not() {
    for compression in ["none", "gzip"] {
        let site = Site::new();
        let server = server();
        configure(&site, server.port, &format!("compression: {compression}, batch: {{ max_events: 1000 }}"));
        site.write("logs/raw.log", numbers(0..10_000));
        site.run().assert_counts("a/b", [10_000, 10_000, 0, 0]);
        assert_eq!(numbers_of(&server), [10_000, 10_000, 0, 9999]);
    }
}

#[test]
fn a_poisonous_event_is_set_aside_alone() {
    let site = Site::new();
    let server = server();
    configure(&site, server.port, "compression: gzip");
    site.write("logs/raw.log", numbers(0..700) + "a secret word\n" + &numbers(700..999));
    let ran = site.run();
    ran.assert_counts("a/b", [1000, 999, 0, 0]);
    assert_eq!(ran.summary["a/b"]["dead_lettered"], 1);
    assert_eq!(numbers_of(&server), [999, 999, 0, 998]);
    let [(reason, body)] = &site.dead_letters("a/b")[..] else { panic!("one dead letter") };
    assert!(reason.starts_with("code 27: Code: 27, "), "{reason}");
    assert_eq!(serde_json::from_slice::<Value>(body).unwrap()["content"], "a secret word");
    assert!(!ran.stderr.contains("a secret word"), "{}", ran.stderr);
}

#[test]
fn what_is_missing_or_wrong_is_told_of_and_may_be_repaired() {
    let site = Site::new();
    let server = clickhouse();
    configure(&site, server.port, "database: logs, user: weir, password_file: password");
    site.write("password", "not-the-word");
    site.write("logs/raw.log", numbers(0..100));
    let mut agent = site.start();
    agent.wait_to_say("nothing is lost: ClickHouse's code 193: the user or the password is wrong");
    site.write("password", "secret\n");
    agent.kill();
    // What is said of one thing is not said again soon, so another agent says the next.
    let mut agent = site.start();
    agent.wait_to_say("nothing is lost: ClickHouse's code 81: the database is not there");
    server.query("CREATE DATABASE logs").unwrap();
    agent.kill();
    let mut agent = site.start();
    agent.wait_to_say("nothing is lost: ClickHouse's code 60: the table is not there");
    server.query("CREATE TABLE logs.a_b (content UInt64) ENGINE = MergeTree ORDER BY content").unwrap();
    server.wait_for("logs.a_b", 100);
    let ran = agent.stop();
    ran.assert_counts("a/b", [100, 100, 0, 0]);
    assert_eq!(server.query("SELECT count(), uniq(content) FROM logs.a_b").unwrap(), "100\t100\n");
    assert!(!ran.stderr.contains("not-the-word") && !ran.stderr.contains("secret"), "{}", ran.stderr);
}

#[test]
fn storms_and_restarts_lose_and_double_nothing() {
    let site = Site::new();
    let mut server = server();
    let proxy = Proxy::start(server.port);
    configure(&site, proxy.port, "batch: { max_events: 500, max_age: 100ms }");
    proxy.set(Fault::status(503, 10));
    site.write("logs/raw.log", numbers(0..5000));
    let mut agent = site.start();
    server.wait_for("a_b", 5000);
    server.stop();
    let before = proxy.connections();
    site.append("logs/raw.log", numbers(5000..10_000));
    agent.wait("two tries in vain", |_| proxy.connections() > before + 1);
    server.restart();
    server.wait_for("a_b", 10_000);
    agent.stop().assert_counts("a/b", [10_000, 10_000, 0, 0]);
    assert_eq!(numbers_of(&server), [10_000, 10_000, 0, 9999]);
}
