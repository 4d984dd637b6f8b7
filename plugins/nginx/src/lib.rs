//! nginx access logs of any `log_format`. See the README for the settings.

mod format;

use format::{Format, Step};
use weir_plugin::moment::Zone;
use weir_plugin::prelude::*;
use weir_plugin::template::{Role, Template, Value};
use weir_plugin::time;

/// Settings of the plugin.
#[derive(Deserialize, Settings)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What `log_format` says in nginx's configuration, or `combined` or `main`.
    pub format: String,
    /// Whether `$request` becomes `request_method`, `request_uri` and `server_protocol`.
    pub split_request: bool,
    /// Whether `\"`, `\\`, `\xHH` and the escapes of JSON in quoted values are undone.
    pub unescape: bool,
    /// The field that is read.
    pub field: Source,
}

impl Default for Config {
    fn default() -> Self {
        Config { format: "combined".to_owned(), split_request: true, unescape: true, field: Source::default() }
    }
}

/// The plugin.
pub struct Nginx {
    source: Source,
    template: Template,
}

impl Plugin for Nginx {
    type Settings = Config;

    fn new(config: Config, fields: &mut Fields) -> Result<Self, String> {
        let Format { prefix, steps } = Format::parse(&config.format)?;
        let values = steps.into_iter().map(|step| value(step, config.split_request)).collect();
        Ok(Nginx { source: config.field, template: Template::new(&prefix, values, config.unescape, fields) })
    }

    #[inline]
    fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure> {
        let (start, end) = self.source.span(event)?;
        self.template.read(event.data(), start, end, row)?;
        self.source.pass_others(event, row);
        Ok(Keep)
    }
}

fn value(step: Step, split_request: bool) -> Value {
    let role = match step.variable.as_str() {
        "request" if split_request => Role::Request,
        "time_local" => Role::Time(time::Format::Clf, Zone::default()),
        "time_iso8601" => Role::Time(time::Format::Rfc3339, Zone::default()),
        "msec" => Role::Time(time::Format::Unix(1_000_000_000), Zone::default()),
        _ => Role::Plain,
    };
    Value {
        shown: format!("${}", step.variable),
        kind: kind(&step.variable),
        name: step.variable,
        role,
        until: step.until,
        quoted: step.quoted,
    }
}

/// The kind of a variable's values, by nginx's documentation. A value that is not of its kind, such as `-`, is
/// written as text.
fn kind(variable: &str) -> Kind {
    match variable {
        "status"
        | "body_bytes_sent"
        | "bytes_sent"
        | "request_length"
        | "content_length"
        | "connection"
        | "connection_requests"
        | "pid"
        | "server_port"
        | "remote_port"
        | "upstream_status"
        | "upstream_bytes_received"
        | "upstream_bytes_sent"
        | "upstream_response_length" => Kind::Integer,
        "request_time"
        | "msec"
        | "connection_time"
        | "upstream_response_time"
        | "upstream_connect_time"
        | "upstream_header_time"
        | "upstream_queue_time" => Kind::Float,
        _ => Kind::Text,
    }
}

weir_plugin::export!(Nginx, name = "nginx");

#[cfg(test)]
mod tests {
    use super::*;
    use weir_plugin::testing::{TestEvent, run};

    const LINE: &str = r#"203.0.113.9 - alice [10/Oct/2000:13:55:36 -0700] "GET /a?b=c HTTP/1.1" 200 2326 "http://x/" "Mozilla/5.0 (X11)""#;

    fn one(settings: &str, line: &str) -> TestEvent {
        run::<Nginx>(settings, &[line]).unwrap().remove(0)
    }

    #[test]
    fn combined() {
        let event = one("{}", LINE);
        assert_eq!(
            event.pairs(),
            [
                ("remote_addr", "203.0.113.9"),
                ("remote_user", "alice"),
                ("time_local", "10/Oct/2000:13:55:36 -0700"),
                ("request_method", "GET"),
                ("request_uri", "/a?b=c"),
                ("server_protocol", "HTTP/1.1"),
                ("status", "200"),
                ("body_bytes_sent", "2326"),
                ("http_referer", "http://x/"),
                ("http_user_agent", "Mozilla/5.0 (X11)"),
            ]
        );
        assert_eq!(event.time, Some(971_211_336_000_000_000));
        assert_eq!(event.cells[6].1, Kind::Integer);
        let whole = one(r#"{"split_request": false}"#, LINE);
        assert_eq!(whole.get("request"), Some("GET /a?b=c HTTP/1.1"));
    }

    #[test]
    fn quotes_and_backslashes_in_quoted_values_are_escaped() {
        let line = LINE.replace("Mozilla", r#"a \"b\" \\ \x22 \u00e9 \n \q"#);
        assert_eq!(one("{}", &line).get("http_user_agent"), Some("a \"b\" \\ \" é \n \\q/5.0 (X11)"));
        let raw = one(r#"{"unescape": false}"#, &line);
        assert_eq!(raw.get("http_user_agent"), Some(r#"a \"b\" \\ \x22 \u00e9 \n \q/5.0 (X11)"#));
        // nginx escapes each byte of what is not ASCII.
        assert_eq!(one("{}", &LINE.replace("Mozilla", r"\xC3\xBC")).get("http_user_agent"), Some("ü/5.0 (X11)"));
    }

    #[test]
    fn a_request_that_is_none_stays_whole() {
        for request in ["-", "", r"\x16\x03\x01", "GET /", "a b c", "HTTP/1.1", "GET HTTP/1.1"] {
            let event = one(r#"{"unescape": false}"#, &LINE.replace("GET /a?b=c HTTP/1.1", request));
            assert_eq!(event.get("request"), Some(request));
            assert_eq!(event.get("request_method"), None);
        }
        let spaces = one("{}", &LINE.replace("/a?b=c", "/a b"));
        assert_eq!(spaces.get("request_uri"), Some("/a b"));
    }

    #[test]
    fn a_line_of_another_format_fails_with_its_reason() {
        for (line, reason) in [
            ("", "no ` - ` after $remote_addr"),
            ("1.2.3.4 - - [x", "no `] \"` after $time_local"),
            (&format!("{LINE} more"), "no `\"` after $http_user_agent"),
            (&LINE[..LINE.len() - 1], "no `\"` after $http_user_agent"),
            (&format!("{}\\", &LINE[..LINE.len() - 1]), "no `\"` after $http_user_agent"),
        ] {
            let event = one("{}", line);
            if line.ends_with("more") {
                assert_eq!(event.error.as_deref(), Some("the line goes on after the format's end"));
            } else {
                assert_eq!(event.error.as_deref(), Some(reason), "{line}");
            }
            assert_eq!(event.pairs(), [("content", line)]);
        }
        let event = one(r#"{"format": "[$status]"}"#, "200");
        assert_eq!(event.error.as_deref(), Some("the line does not begin as the format does"));
    }

    #[test]
    fn no_beginning_of_a_line_is_taken_for_a_whole_one() {
        let lines: Vec<_> = (0..LINE.len()).map(|end| &LINE[..end]).collect();
        let events = run::<Nginx>("{}", &lines).unwrap();
        assert!(events.iter().all(|event| event.error.is_some()));
        assert_eq!(events.len(), LINE.len());
    }

    #[test]
    fn formats_of_ones_own() {
        let event = one(
            r#"{"format": "$time_iso8601|$msec|${request_time}s $upstream_response_time"}"#,
            "2006-01-02T15:04:05+00:00|1136214245.500|0.010s 0.001, 0.002",
        );
        assert_eq!(
            event.pairs(),
            [
                ("time_iso8601", "2006-01-02T15:04:05+00:00"),
                ("msec", "1136214245.500"),
                ("request_time", "0.010"),
                ("upstream_response_time", "0.001, 0.002"),
            ]
        );
        assert_eq!(event.time, Some(1_136_214_245_500_000_000));
    }

    #[test]
    fn a_time_that_is_none_leaves_the_event_without() {
        let event = one("{}", &LINE.replace("Oct", "Okt"));
        assert_eq!((event.time, event.error), (None, None));
    }
}
