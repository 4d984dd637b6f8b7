use weir_plugin::testing::{Harness, TestEvent, golden, run};

use super::*;

const LINE: &str = r#"127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326 "http://www.example.com/start.html" "Mozilla/4.08 [en] (Win98; I ;Nav)""#;

fn one(settings: &str, line: &str) -> TestEvent {
    run::<Apache>(settings, &[line]).unwrap().remove(0)
}

#[test]
fn golden_files() {
    golden::<Apache>("apache", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
}

#[test]
fn combined_is_the_default() {
    let event = one("{}", LINE);
    assert_eq!(
        event.pairs(),
        [
            ("remote_host", "127.0.0.1"),
            ("remote_logname", "-"),
            ("remote_user", "frank"),
            ("time_local", "10/Oct/2000:13:55:36 -0700"),
            ("request_method", "GET"),
            ("request_uri", "/apache_pb.gif"),
            ("server_protocol", "HTTP/1.0"),
            ("status", "200"),
            ("body_bytes_sent", "2326"),
            ("http_referer", "http://www.example.com/start.html"),
            ("http_user_agent", "Mozilla/4.08 [en] (Win98; I ;Nav)"),
        ]
    );
    assert_eq!(event.time, Some(971_211_336_000_000_000));
}

#[test]
fn no_beginning_of_a_line_is_taken_for_a_whole_one() {
    let lines: Vec<_> = (0..LINE.len()).map(|end| &LINE[..end]).collect();
    let events = run::<Apache>("{}", &lines).unwrap();
    assert!(events.iter().all(|event| event.error.is_some()));
    assert_eq!(events.len(), LINE.len());
}

#[test]
fn every_directive_has_a_field_of_its_own() {
    for (directive, field) in [
        ("%a", "remote_addr"),
        ("%{c}a", "peer_addr"),
        ("%A", "server_addr"),
        ("%B", "body_bytes_sent"),
        ("%{Session-Id}C", "cookie_session_id"),
        ("%D", "request_time_us"),
        ("%{UNIQUE_ID}e", "env_unique_id"),
        ("%f", "request_filename"),
        ("%H", "server_protocol"),
        ("%400,501{User-Agent}i", "http_user_agent"),
        ("%!200,304,302{Referer}i", "http_referer"),
        ("%I", "request_length"),
        ("%k", "keepalive_requests"),
        ("%L", "log_id"),
        ("%m", "request_method"),
        ("%{ratio}n", "note_ratio"),
        ("%{Content-Type}o", "sent_http_content_type"),
        ("%O", "bytes_sent"),
        ("%p", "server_port"),
        ("%{remote}p", "remote_port"),
        ("%{tid}P", "tid"),
        ("%q", "query_string"),
        ("%R", "handler"),
        ("%<s", "status"),
        ("%S", "bytes_transferred"),
        ("%T", "request_time"),
        ("%{ms}T", "request_time_ms"),
        ("%U", "uri"),
        ("%v", "server_name"),
        ("%V", "host"),
        ("%X", "connection_status"),
        ("%^FB", "first_byte_time_us"),
        ("%{Grpc-Status}^to", "sent_trailer_grpc_status"),
    ] {
        let settings = format!(r#"{{"format": "<{directive}>"}}"#);
        assert_eq!(one(&settings, "<7>").pairs(), [(field, "7")], "{directive}");
    }
}

#[test]
fn times_may_have_patterns() {
    for (format, line, time) in [
        ("%{%Y-%m-%dT%H:%M:%S}t|%u", "2024-05-01T12:00:00|a", 1_714_564_800_000_000_000),
        ("%{end:msec}t|%u", "1714564800123|a", 1_714_564_800_123_000_000),
        ("%u%t", "a[01/May/2024:12:00:00 +0000]", 1_714_564_800_000_000_000),
    ] {
        let event = one(&format!(r#"{{"format": "{format}"}}"#), line);
        assert_eq!((event.time, event.get("remote_user")), (Some(time), Some("a")), "{format}: {event:?}");
    }
}

#[test]
fn formats_that_cannot_be_are_refused_in_words() {
    let known = "`common`, `combined`, `vhost_combined` or `error`";
    for (format, error) in [
        ("", format!("format: `` has no directive such as %h, and it is not {known}")),
        ("errors", format!("format: `errors` has no directive such as %h, and it is not {known}")),
        ("%h%u", "format: %h and %u have nothing between them".into()),
        ("%s %>s", "format: %s and %>s would both be the field `status`".into()),
        ("%{Referer", "format: `%{Referer` has no `}`".into()),
        ("%i", "format: `%i` needs a name, such as %{Referer}i".into()),
        ("%h %", "format: `%` ends without a directive's letter".into()),
        ("%é", "format: `%é` is not a directive of LogFormat that is known here".into()),
        ("%z", "format: `%z` is not a directive of LogFormat that is known here".into()),
        ("%{%Q}t", "format: `%{%Q}t`: time format `%Q`: `%Q` is not supported".into()),
    ] {
        let settings = format!(r#"{{"format": "{format}"}}"#);
        assert_eq!(run::<Apache>(&settings, &["x"]).unwrap_err(), error);
    }
    let error = run::<Apache>(r#"{"zone": "CET"}"#, &["x"]).unwrap_err();
    assert!(error.starts_with("zone `CET` is not known"), "{error}");
}

#[test]
fn clients_of_error_logs_may_have_ports() {
    for (client, addr, port) in [
        ("10.0.0.1", "10.0.0.1", None),
        ("10.0.0.1:4711", "10.0.0.1", Some("4711")),
        ("2001:db8::1:4711", "2001:db8::1", Some("4711")),
        ("::1", "::1", None),
        (":1", ":1", None),
        ("", "", None),
    ] {
        let line = format!("[Wed Oct 11 14:32:52 2000] [error] [client {client}] x");
        let event = one(r#"{"format": "error"}"#, &line);
        assert_eq!((event.get("client_addr"), event.get("client_port")), (Some(addr), port));
    }
}

#[test]
fn another_field_can_be_read() {
    let mut plugin = Harness::<Apache>::new(r#"{"format": "%h %>s", "field": "message"}"#).unwrap();
    let event = vec![("pod", Kind::Text, &b"web-1"[..]), ("message", Kind::Text, b"::1 200")];
    let events = plugin.process_cells(&[event, vec![("content", Kind::Text, b"::1 200")]], true).events;
    assert_eq!(events[0].pairs(), [("remote_host", "::1"), ("status", "200"), ("pod", "web-1")]);
    assert_eq!(events[1].error.as_deref(), Some("no field `message`"));
}
