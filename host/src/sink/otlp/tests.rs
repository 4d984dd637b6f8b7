//! What is written is read with prost, by the definitions of opentelemetry-proto 1.x.

use std::sync::Arc;

use super::encode::Encoder;
use super::*;
use crate::config::Sink;
use crate::event::testing::raw;
use crate::event::{Batch, CONTENT, Field, Kind, Mark, UNKNOWN_TIME};
use crate::sink::compress::Compression;
use crate::sink::records::{Body, Records, Room};

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_logs: Vec<ResourceLogs>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceLogs {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_logs: Vec<ScopeLogs>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeLogs {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    log_records: Vec<LogRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct LogRecord {
    #[prost(fixed64, tag = "1")]
    time_unix_nano: u64,
    #[prost(int32, tag = "2")]
    severity_number: i32,
    #[prost(string, tag = "3")]
    severity_text: String,
    #[prost(message, optional, tag = "5")]
    body: Option<AnyValue>,
    #[prost(message, repeated, tag = "6")]
    attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "11")]
    observed_time_unix_nano: u64,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Any", tags = "1, 2, 3, 4, 5")]
    value: Option<Any>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Any {
    #[prost(string, tag = "1")]
    String(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    Array(Array),
}

#[derive(Clone, PartialEq, Message)]
struct Array {
    #[prost(message, repeated, tag = "1")]
    values: Vec<AnyValue>,
}

impl AnyValue {
    fn show(&self) -> String {
        match self.value.as_ref().unwrap() {
            Any::String(text) => format!("{text:?}"),
            Any::Bool(value) => value.to_string(),
            Any::Int(value) => value.to_string(),
            Any::Double(value) => format!("{value:?}"),
            Any::Array(array) => {
                format!("[{}]", array.values.iter().map(AnyValue::show).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

fn show(pairs: &[KeyValue]) -> String {
    let show = |pair: &KeyValue| format!("{}={}", pair.key, pair.value.as_ref().unwrap().show());
    pairs.iter().map(show).collect::<Vec<_>>().join(" ")
}

impl LogRecord {
    fn show(&self) -> String {
        let mut all = Vec::new();
        all.extend((self.time_unix_nano != 0).then(|| format!("@{}", self.time_unix_nano)));
        all.extend((self.severity_number != 0).then(|| format!("#{}", self.severity_number)));
        all.extend((!self.severity_text.is_empty()).then(|| self.severity_text.clone()));
        all.extend(self.body.as_ref().map(|body| format!("<{}>", body.show())));
        all.push(show(&self.attributes));
        all.join(" ").trim_end().to_owned()
    }
}

fn otlp(keys: &str) -> Otlp {
    let config = format!(
        "logstores:\n- name: shop/web\n  files: {{ root: /x }}\n  sink: s\nsinks:\n  s: {{ type: otlp, url: 'http://a', {keys} }}\n"
    );
    let loaded = crate::config::parse(&config, "weir.yaml", &|_| None).unwrap();
    match &loaded.config.sinks["s"] {
        Sink::Otlp(otlp) => (**otlp).clone(),
        other => panic!("{other:?}"),
    }
}

fn encoder(keys: &str) -> Encoder {
    Encoder::new(&otlp(keys), &"shop/web".parse().unwrap())
}

fn sealed(encoder: &mut Encoder, batches: &[&Batch]) -> (Body, Vec<u8>) {
    let mut out = Records { wants_ends: true, ..Records::default() };
    for batch in batches {
        batch.check().unwrap();
        assert_eq!(encoder.encode(batch, 0, Room::ALL, &mut out), batch.len());
    }
    let body = out.seal(encoder.wrap(), Compression::None);
    let plain = body.bytes.as_slice().to_vec();
    (body, plain)
}

fn read(plain: &[u8]) -> Request {
    Request::decode(plain).unwrap()
}

/// The records of one batch.
fn encoded(keys: &str, batch: &Batch) -> Vec<String> {
    let request = read(&sealed(&mut encoder(keys), &[batch]).1);
    // What is read is all that there was.
    request.resource_logs[0].scope_logs[0].log_records.iter().map(LogRecord::show).collect()
}

/// One event of these cells.
fn event(cells: &[(&str, Kind, &[u8])]) -> Batch {
    let mut batch = Batch { rows: vec![cells.len() as u32], ..Batch::default() };
    for (name, kind, bytes) in cells {
        let field = Field { name: (*name).into(), kind: *kind };
        let index = batch.fields.iter().position(|known| *known == field).unwrap_or_else(|| {
            batch.fields.push(field);
            batch.fields.len() - 1
        });
        let start = batch.arena.len() as u32;
        batch.arena.extend_from_slice(bytes);
        batch.cells.extend([index as u32, start, batch.arena.len() as u32]);
    }
    batch
}

fn text(name: &'static str, value: &'static str) -> (&'static str, Kind, &'static [u8]) {
    (name, Kind::Text, value.as_bytes())
}

#[test]
fn kinds_times_errors_and_bodies_are_what_they_were() {
    for (kind, bytes, expected) in [
        (Kind::Text, "", "\"\""),
        (Kind::Text, "grün", "\"grün\""),
        (Kind::Integer, "-7", "-7"),
        (Kind::Integer, "9223372036854775807", "9223372036854775807"),
        (Kind::Integer, "-9223372036854775808", "-9223372036854775808"),
        (Kind::Integer, "9223372036854775808", "\"9223372036854775808\""),
        (Kind::Integer, "07", "\"07\""),
        (Kind::Integer, "", "\"\""),
        (Kind::Float, "1.5e-7", "1.5e-7"),
        (Kind::Float, "3", "3.0"),
        (Kind::Float, "1e999", "\"1e999\""),
        (Kind::Float, "nan", "\"nan\""),
        (Kind::Boolean, "true", "true"),
        (Kind::Boolean, "yes", "\"yes\""),
        (Kind::Json, "{\"a\":[1]}", "\"{\\\"a\\\":[1]}\""),
    ] {
        assert_eq!(
            encoded("", &event(&[("a", kind, bytes.as_bytes())])),
            [format!("a={expected}")],
            "{kind:?} {bytes}"
        );
        assert_eq!(encoded("body_field: a", &event(&[("a", kind, bytes.as_bytes())])), [format!("<{expected}>")]);
    }
    assert_eq!(encoded("", &event(&[("a", Kind::Text, b"\xff!"), text("b", "x")])), ["a=\"\u{fffd}!\" b=\"x\""]);
    let mut batch = raw(&["one", "two", "three", ""], 0);
    batch.times = vec![1, UNKNOWN_TIME, -1, i64::MAX];
    batch.marks = vec![Mark { event: 1, reason: "p: no".into() }];
    let expected = ["@1 <\"one\">", "<\"two\"> weir.error=\"p: no\"", "<\"three\">", "@9223372036854775807 <\"\">"];
    assert_eq!(encoded("", &batch), expected);
    assert_eq!(encoded("", &event(&[])), [""]);
}

#[test]
fn severities_are_words_and_numbers() {
    let of = |word: &'static str| encoded("severity_field: level", &event(&[text("level", word), text("a", "x")]));
    for (word, expected) in [
        ("INFO", "#9 INFO a=\"x\""),
        ("warning", "#13 warning a=\"x\""),
        ("Error", "#17 Error a=\"x\""),
        ("fatal", "#21 fatal a=\"x\""),
        ("notice", "#10 notice a=\"x\""),
        ("very-bad-indeed-it-is", "very-bad-indeed-it-is a=\"x\""),
        ("", "level=\"\" a=\"x\""),
    ] {
        assert_eq!(of(word), [expected]);
    }
    // Without the key it is a field like others.
    assert_eq!(encoded("", &event(&[text("level", "info")])), ["level=\"info\""]);
}

#[test]
fn a_name_twice_is_a_list() {
    let batch = event(&[
        text("a", "1"),
        ("b", Kind::Integer, b"2"),
        text("a", "3"),
        ("a", Kind::Integer, b"4"),
        text(CONTENT, "body"),
        text(CONTENT, "more"),
    ]);
    assert_eq!(encoded("", &batch), ["<\"body\"> a=[\"1\", \"3\", 4] b=2 content=\"more\""]);
    let mut batch = event(&[text("weir.error", "mine"), text("a", "x")]);
    batch.marks = vec![Mark { event: 0, reason: "no".into() }];
    assert_eq!(encoded("", &batch), ["weir.error=[\"mine\", \"no\"] a=\"x\""]);
    let mut batch = event(&[text("a", "x"), text("a", "y")]);
    batch.marks = vec![Mark { event: 0, reason: "no".into() }];
    assert_eq!(encoded("", &batch), ["a=[\"x\", \"y\"] weir.error=\"no\""]);
}

#[test]
fn a_containers_stream_has_the_name_of_the_convention() {
    assert_eq!(encoded("", &event(&[text("stream", "stderr")])), ["log.iostream=\"stderr\""]);
    assert_eq!(encoded("", &event(&[text("stream", "video")])), ["stream=\"video\""]);
    let both = event(&[text("stream", "stderr"), text("log.iostream", "x")]);
    assert_eq!(encoded("", &both), ["stream=\"stderr\" log.iostream=\"x\""]);
}

#[test]
fn lengths_of_every_size_are_right() {
    for length in (0..40).chain(80..200).chain(16_200..16_400).chain([70_000, 2_100_000]) {
        let long = "x".repeat(length);
        let batch = raw(&["a", &long, "b"], 0);
        let (body, plain) = sealed(&mut encoder(""), &[&batch]);
        let records = &read(&plain).resource_logs[0].scope_logs[0].log_records;
        assert_eq!(
            records.iter().map(LogRecord::show).collect::<Vec<_>>(),
            ["<\"a\">", &format!("<{long:?}>"), "<\"b\">"]
        );
        // Each is where it is said to be.
        let one = body.layout.part([1], &plain);
        let read = read(one.bytes.as_slice());
        assert_eq!(read.resource_logs[0].scope_logs[0].log_records, records[1..2]);
    }
}

#[test]
fn files_have_resources_of_their_own_in_one_payload() {
    let tagged = |lines: &[&str], tags: &[(&str, &str)]| {
        let tags = tags.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Batch { tags: Arc::new(tags), ..raw(lines, 0) }
    };
    let pod = [
        ("path", "/a"),
        ("host", "h"),
        ("namespace", "ns"),
        ("pod", "p"),
        ("uid", "u"),
        ("container", "c"),
        ("x", "y"),
    ];
    let (one, two) = (tagged(&["1", "2"], &pod), tagged(&["3"], &[("path", "/b")]));
    let shown = |keys: &str| -> Vec<String> {
        let request = read(&sealed(&mut encoder(keys), &[&one, &two, &one]).1);
        let show = |logs: &ResourceLogs| {
            let [scope] = &logs.scope_logs[..] else { panic!("{logs:?}") };
            let by = scope.scope.as_ref().unwrap();
            assert_eq!((&*by.name, &*by.version), ("weir", env!("CARGO_PKG_VERSION")));
            let records: Vec<_> = scope.log_records.iter().map(LogRecord::show).collect();
            format!("{}: {}", show(&logs.resource.as_ref().unwrap().attributes), records.join(" "))
        };
        request.resource_logs.iter().map(show).collect()
    };
    let service = "service.name=\"web\" service.namespace=\"shop\"";
    let pod = "log.file.path=\"/a\" host.name=\"h\" k8s.namespace.name=\"ns\" k8s.pod.name=\"p\" k8s.pod.uid=\"u\" \
               k8s.container.name=\"c\" x=\"y\"";
    let expected = [
        format!("{service} {pod}: <\"1\"> <\"2\">"),
        format!("{service} log.file.path=\"/b\": <\"3\">"),
        format!("{service} {pod}: <\"1\"> <\"2\">"),
    ];
    assert_eq!(shown(""), expected);
    let keys = "resource: { a: 'b-{project}', host.name: mine }, resource_from_tags: [host, x]";
    let expected = [
        "a=\"b-shop\" host.name=\"mine\" host=\"h\" x=\"y\": <\"1\"> <\"2\">",
        "a=\"b-shop\" host.name=\"mine\": <\"3\">",
        "a=\"b-shop\" host.name=\"mine\" host=\"h\" x=\"y\": <\"1\"> <\"2\">",
    ];
    assert_eq!(shown(keys), expected);
    // Neighbours with the same resource are together.
    let shown = shown("resource: {}, resource_from_tags: []");
    assert_eq!(shown, [": <\"1\"> <\"2\"> <\"3\"> <\"1\"> <\"2\">"]);
}

#[test]
fn observed_is_now() {
    let before = std::time::SystemTime::now();
    let request = read(&sealed(&mut encoder(""), &[&raw(&["a"], 0)]).1);
    let observed = request.resource_logs[0].scope_logs[0].log_records[0].observed_time_unix_nano;
    let observed = std::time::UNIX_EPOCH + Duration::from_nanos(observed);
    assert!(before <= observed && observed <= std::time::SystemTime::now());
}

#[test]
fn answers_of_success_are_read_in_every_form() {
    let partial = |rejected, message: &str| Some(Partial { rejected, message: message.into() });
    let body = Exported { partial_success: partial(3, "no") }.encode_to_vec();
    assert_eq!(body, b"\x0a\x06\x08\x03\x12\x02no");
    for (body, is_json, expected) in [
        (&b""[..], false, partial(0, "")),
        (&body, false, partial(3, "no")),
        (b"\x0a\x00", false, partial(0, "")),
        (b"<!doctype html>", false, None),
        (b"OK", false, None),
        (b"{}", true, partial(0, "")),
        (b"{\"partialSuccess\":{}}", true, partial(0, "")),
        (b"{\"partialSuccess\":{\"rejectedLogRecords\":\"3\",\"errorMessage\":\"no\"}}", true, partial(3, "no")),
        (b"{\"partialSuccess\":{\"rejectedLogRecords\":3}}", true, partial(3, "")),
        (b"[]x", true, None),
    ] {
        assert_eq!(success(body, is_json), expected, "{}", body.escape_ascii());
    }
    let outcome = |rejected| partial(rejected, "no").unwrap().outcome(2);
    assert_eq!(outcome(0), Outcome::Delivered);
    assert_eq!(outcome(-1), Outcome::Delivered);
    assert_eq!(outcome(1), Outcome::SomeRefused { count: 1, reason: "no".into() });
    let both = Outcome::Partly { refused: vec![(0, "no".into()), (1, "no".into())], again: vec![] };
    assert_eq!(outcome(2), both);
    assert_eq!(outcome(9), both);
}
