//! What containers print, as CRI runtimes and Docker write it.

use serde_json::Value;

use crate::harness::{Site, contents, numbered, raw};

fn site(format: &str, more: &str) -> Site {
    let site = Site::new();
    site.config(&raw(&format!("format: {format}{more}")));
    site
}

/// A time of this second.
fn time(nanos: u64) -> String {
    format!("2026-01-02T03:04:05.{nanos:09}Z")
}

/// A line of a CRI log.
fn cri(nanos: u64, rest: &str) -> String {
    format!("{} {rest}\n", time(nanos))
}

/// A line of a Docker log; `log` is JSON.
fn docker(nanos: u64, stream: &str, log: &str) -> String {
    format!("{{\"log\":\"{log}\",\"stream\":\"{stream}\",\"time\":\"{}\"}}\n", time(nanos))
}

/// Stream, time and content of each event.
fn unwrapped(events: &[Value]) -> Vec<[String; 3]> {
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or("none").to_owned();
    events.iter().map(|event| ["stream", "__time__", "content"].map(|key| text(event, key))).collect()
}

/// Panics unless the events of each stream are these, in their order, with these times.
#[track_caller]
fn assert_streams(site: &Site, expected: &[(&str, u64, &str)]) {
    let events = unwrapped(&site.events("a/b"));
    let expected: Vec<_> = expected
        .iter()
        .map(|(stream, nanos, content)| {
            let whole = time(*nanos);
            let shortest = whole.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
            [(*stream).to_owned(), format!("{shortest}Z"), (*content).to_owned()]
        })
        .collect();
    for name in ["stdout", "stderr"] {
        let of = |all: &[[String; 3]]| all.iter().filter(|event| event[0] == name).cloned().collect::<Vec<_>>();
        assert_eq!(of(&events), of(&expected), "events of {name}");
    }
    assert_eq!(events.len(), expected.len(), "{events:?}");
}

#[test]
fn cri_lines_have_their_stream_time_and_content() {
    let site = site("cri", "");
    site.write(
        "logs/a.log",
        cri(1, "stdout F one")
            + &cri(250_000_000, "stderr F  two: stdout F  ")
            + &cri(3, "stdout F ")
            + "2026-01-02T05:04:05+02:00 stdout F elsewhere\r\n",
    );
    site.run().assert_counts("a/b", [4, 4, 0, 0]);
    assert_streams(
        &site,
        &[
            ("stdout", 1, "one"),
            ("stderr", 250_000_000, " two: stdout F  "),
            ("stdout", 3, ""),
            ("stdout", 0, "elsewhere"),
        ],
    );
}

#[test]
fn pieces_of_interleaved_streams_are_joined_and_have_the_time_of_the_first() {
    let site = site("cri", "");
    site.write(
        "logs/a.log",
        cri(1, "stdout P a")
            + &cri(2, "stderr P x")
            + &cri(3, "stdout P b")
            + &cri(4, "stderr F y")
            + &cri(5, "stdout F c")
            + &cri(6, "stdout F d"),
    );
    site.run().assert_counts("a/b", [3, 3, 0, 0]);
    assert_streams(&site, &[("stderr", 2, "xy"), ("stdout", 1, "abc"), ("stdout", 6, "d")]);
}

#[test]
fn docker_lines_have_their_stream_time_and_content() {
    let site = site("docker", "");
    site.write(
        "logs/a.log",
        docker(1, "stdout", r"one\n")
            + &docker(2, "stderr", r#"a \"tab\"\t\u00fc\ud83d\ude00\\n\n"#)
            + &docker(3, "stdout", "long, ")
            + &docker(4, "stderr", "other, ")
            + &docker(5, "stdout", "longer, ")
            + &docker(6, "stderr", r"too\n")
            + &docker(7, "stdout", r"longest\r\n")
            + &docker(8, "stdout", r"\n")
            + "{\"attrs\":{\"tag\":\"x\"},\"time\":\"2026-01-02T03:04:05.9Z\",\"log\":\"last\\n\",\"stream\":\"stdout\"}\n",
    );
    site.run().assert_counts("a/b", [6, 6, 0, 0]);
    assert_streams(
        &site,
        &[
            ("stdout", 1, "one"),
            ("stderr", 2, "a \"tab\"\tü😀\\n"),
            ("stdout", 3, "long, longer, longest"),
            ("stderr", 4, "other, too"),
            ("stdout", 8, ""),
            ("stdout", 900_000_000, "last"),
        ],
    );
}

#[test]
fn lines_of_another_format_are_shipped_as_they_are_and_marked() {
    let bad_cri = ["no time at all", "2026-01-02T03:04:05Z stdin F x", "2026-01-02T03:04:05Z stdout X x", ""];
    let bad_docker = ["plain", "{\"log\":\"x\\n\"", "[]", "{\"log\":1,\"stream\":\"stdout\",\"time\":\"\"}"];
    for (format, bad, good) in [
        ("cri", bad_cri, [cri(1, "stdout F good"), cri(2, "stdout F good")]),
        ("docker", bad_docker, [1, 2].map(|nanos| docker(nanos, "stdout", r"good\n"))),
    ] {
        let site = site(format, "");
        site.write("logs/a.log", good[0].clone() + &bad.join("\n") + "\n" + &good[1]);
        let ran = site.run();
        let events = site.events("a/b");
        assert_eq!(contents(&events), [&["good"][..], &bad, &["good"]].concat(), "{format}");
        let is_marked = |event: &Value| event.get("__error__").is_some_and(|error| error.is_string());
        assert_eq!(
            events.iter().map(is_marked).collect::<Vec<_>>(),
            [false, true, true, true, true, false],
            "{format}"
        );
        let has_stream = |event: &Value| event.get("stream").is_some();
        assert_eq!(events.iter().filter(|event| has_stream(event)).count(), 2, "{format}");
        assert_eq!(ran.summary["a/b"]["malformed"], 4, "{format}");
        assert_eq!([ran.summary["a/b"]["read"], ran.summary["a/b"]["delivered"]], [6, 6], "{format}");
    }
}

#[test]
fn events_of_several_lines_are_joined_in_each_stream() {
    let site = site("cri", ", multiline: { start: '^E' }");
    site.write(
        "logs/a.log",
        cri(1, "stdout F E one")
            + &cri(2, "stderr F E other")
            + &cri(3, "stdout P   at")
            + &cri(4, "stderr F   too")
            + &cri(5, "stdout F  a.b")
            + &cri(6, "stdout F E two"),
    );
    site.run();
    assert_streams(&site, &[("stdout", 1, "E one\n  at a.b"), ("stderr", 2, "E other\n  too"), ("stdout", 6, "E two")]);
}

#[test]
fn what_is_open_at_a_stop_comes_out_once_and_whole_after_the_start() {
    for format in ["cri", "docker"] {
        let site = site(format, ", flush_after: 1h");
        let line = |nanos, stream: &str, is_partial: bool, text: &str| match (format, is_partial) {
            ("cri", true) => cri(nanos, &format!("{stream} P {text}")),
            ("cri", false) => cri(nanos, &format!("{stream} F {text}")),
            (_, true) => docker(nanos, stream, text),
            (_, false) => docker(nanos, stream, &format!("{text}\\n")),
        };
        site.write(
            "logs/a.log",
            line(1, "stdout", false, "one")
                + &line(2, "stdout", true, "begun, ")
                + &line(3, "stderr", false, "between")
                + &line(4, "stderr", true, "also ")
                + &line(5, "stdout", true, "going on, "),
        );
        let mut agent = site.start();
        agent.wait_for_lines("a/b", 2);
        agent.stop();
        site.append("logs/a.log", line(6, "stderr", false, "begun"));
        let mut agent = site.start();
        agent.wait_for_lines("a/b", 3);
        agent.stop();
        site.append("logs/a.log", line(7, "stdout", false, "ended") + &line(8, "stdout", false, "last"));
        site.run();
        assert_streams(
            &site,
            &[
                ("stdout", 1, "one"),
                ("stderr", 3, "between"),
                ("stderr", 4, "also begun"),
                ("stdout", 2, "begun, going on, ended"),
                ("stdout", 8, "last"),
            ],
        );
        site.run().assert_counts("a/b", [0, 0, 0, 0]);
    }
}

#[test]
fn pods_are_known_by_their_paths() {
    let site = Site::new();
    let uid = "b2f1c9e0-8d3c-4b0a-9f5e-0a1b2c3d4e5f";
    let path = format!("logs/var/log/pods/shop_web-7d9c5_{uid}/nginx/0.log");
    site.config(
        "- name: a/b\n  files: { root: logs/var/log/pods, include: [\"*/*/*.log\"], format: cri }\n  sink: out",
    );
    site.write(&path, cri(1, "stdout F one"));
    site.write("logs/var/log/pods/not-a-pod/x/0.log", cri(2, "stderr F two"));
    site.run().assert_counts("a/b", [2, 2, 0, 0]);
    let host = rustix::system::uname().nodename().to_str().unwrap().to_owned();
    let expected = serde_json::json!({
        "path": site.path(path), "host": host,
        "namespace": "shop", "pod": "web-7d9c5", "uid": uid, "container": "nginx",
    });
    let tags = |content: &str| {
        let event = site.events("a/b").into_iter().find(|event| event["content"] == content).unwrap();
        event["__tags__"].clone()
    };
    assert_eq!(tags("one"), expected);
    let other = serde_json::json!({ "path": site.path("logs/var/log/pods/not-a-pod/x/0.log"), "host": host });
    assert_eq!(tags("two"), other);
}

#[test]
fn a_rotated_log_goes_on_in_the_next_file() {
    // As the kubelet does it: renamed with the time, later compressed, and the runtime opens its log again.
    let site = Site::new();
    site.config(
        "- name: a/b\n  files: { root: logs, include: [\"**/*.log*\"], format: cri, poll_interval: 100ms }\n  sink: out",
    );
    let lines = |range: std::ops::Range<u64>| range.map(|n| cri(n, &format!("stdout F {n}"))).collect::<String>();
    site.write("logs/pod/0.log", lines(0..1000));
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 1000);
    for (round, stamp) in ["20260102-030405", "20260102-040506"].into_iter().enumerate() {
        let from = 1000 * (round as u64 + 1);
        let rotated = format!("logs/pod/0.log.{stamp}");
        site.append("logs/pod/0.log", lines(from..from + 500));
        site.rename("logs/pod/0.log", &rotated);
        site.write("logs/pod/0.log", lines(from + 500..from + 1000));
        site.gzip(&rotated);
        agent.wait_for_lines("a/b", from as usize + 1000);
    }
    agent.stop().assert_counts("a/b", [3000, 3000, 0, 0]);
    site.run().assert_counts("a/b", [0, 0, 0, 0]);
    assert_eq!(site.contents("a/b"), numbered(0..3000));
}
