//! The directives of a `LogFormat`, by the documentation of mod_log_config and mod_logio.
//!
//! Where nginx has a variable for the same, the field has its name, so that queries do not change with the server.

use weir_plugin::Kind;
use weir_plugin::moment::Zone;
use weir_plugin::template::{Role, cut};
use weir_plugin::time;

/// One directive.
pub struct Directive {
    /// The field that it becomes.
    pub name: String,
    /// As it stands in the format.
    pub shown: String,
    pub kind: Kind,
    pub role: Role,
    /// Whether the value stands between brackets, which the format does not say.
    pub brackets: bool,
}

impl Directive {
    /// The directive that the text begins with, and what follows; times without a zone are of this one.
    pub fn parse(text: &str, zone: Zone) -> Result<(Directive, &str), String> {
        let body = cut(text, 1).1;
        // Conditions and the choice between the first and the last request change when there is a value, not how it looks.
        let body = body.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '!' | ',' | '<' | '>'));
        let (argument, body) = match body.strip_prefix('{') {
            Some(inner) => match inner.split_once('}') {
                Some((argument, rest)) => (argument, rest),
                None => return Err(format!("format: `{text}` has no `}}`")),
            },
            None => ("", body),
        };
        let letters = if body.starts_with('^') { 3 } else { body.chars().next().map_or(1, char::len_utf8) };
        let Some((letter, rest)) = body.split_at_checked(letters.min(body.len())).filter(|(l, _)| !l.is_empty()) else {
            return Err(format!("format: `{text}` ends without a directive's letter"));
        };
        let shown = cut(text, text.len() - rest.len()).0.to_owned();
        let unknown = || format!("format: `{shown}` is not a directive of LogFormat that is known here");
        let mut directive = Directive::of(letter, argument, &shown, zone)?.ok_or_else(unknown)?;
        directive.shown = shown;
        Ok((directive, rest))
    }

    fn of(letter: &str, argument: &str, shown: &str, zone: Zone) -> Result<Option<Directive>, String> {
        let named = |prefix: &str| match argument {
            "" => Err(format!("format: `{shown}` needs a name, such as %{{Referer}}i")),
            name => Ok(text(&format!("{prefix}{}", name.to_ascii_lowercase().replace('-', "_")))),
        };
        Ok(Some(match letter {
            "a" if argument == "c" => text("peer_addr"),
            "a" => text("remote_addr"),
            "A" => text("server_addr"),
            "b" | "B" => integer("body_bytes_sent"),
            "C" => named("cookie_")?,
            "D" => integer("request_time_us"),
            "e" => named("env_")?,
            "f" => text("request_filename"),
            "h" => text("remote_host"),
            "H" => text("server_protocol"),
            "i" => named("http_")?,
            "I" => integer("request_length"),
            "k" => integer("keepalive_requests"),
            "l" => text("remote_logname"),
            "L" => text("log_id"),
            "m" => text("request_method"),
            "n" => named("note_")?,
            "o" => named("sent_http_")?,
            "O" => integer("bytes_sent"),
            "p" => match argument {
                "remote" => integer("remote_port"),
                "local" => integer("local_port"),
                _ => integer("server_port"),
            },
            "P" => match argument {
                "tid" | "hextid" => text("tid"),
                _ => integer("pid"),
            },
            "q" => text("query_string"),
            "r" => Directive { role: Role::Request, ..text("request") },
            "R" => text("handler"),
            "s" => integer("status"),
            "S" => integer("bytes_transferred"),
            "t" => time_directive(argument, shown, zone)?,
            "T" => match argument {
                "us" => integer("request_time_us"),
                "ms" => integer("request_time_ms"),
                _ => Directive { kind: Kind::Float, ..text("request_time") },
            },
            "u" => text("remote_user"),
            "U" => text("uri"),
            "v" => text("server_name"),
            "V" => text("host"),
            "X" => text("connection_status"),
            "^FB" => integer("first_byte_time_us"),
            "^ti" => named("trailer_")?,
            "^to" => named("sent_trailer_")?,
            _ => return Ok(None),
        }))
    }
}

/// `%t`, or `%{…}t`: a pattern of strftime, or one of the names that Apache has for parts of it.
fn time_directive(argument: &str, shown: &str, zone: Zone) -> Result<Directive, String> {
    let argument = argument.strip_prefix("begin:").or(argument.strip_prefix("end:")).unwrap_or(argument);
    let format = match argument {
        "" => return Ok(Directive { brackets: true, role: Role::Time(time::Format::Clf, zone), ..text("time_local") }),
        "sec" => "unix",
        "msec" => "unix_ms",
        "usec" => "unix_us",
        "msec_frac" | "usec_frac" => return Ok(integer(&format!("time_{argument}"))),
        pattern => pattern,
    };
    let format = time::Format::parse(format).map_err(|e| format!("format: `{shown}`: {e}"))?;
    Ok(Directive { role: Role::Time(format, zone), ..text("time") })
}

fn text(name: &str) -> Directive {
    Directive { name: name.to_owned(), shown: String::new(), kind: Kind::Text, role: Role::Plain, brackets: false }
}

fn integer(name: &str) -> Directive {
    Directive { kind: Kind::Integer, ..text(name) }
}
