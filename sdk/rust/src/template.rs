//! Lines that are written by a format: values between texts that are always the same, as in access logs.

use crate::Kind;
use crate::escape;
use crate::moment::Zone;
use crate::out::{FieldId, Fields, Row};
use crate::plugin::Failure;
use crate::scan::{Literal, find, find2};
use crate::time::{Cached, Format};

/// One value of a format.
#[derive(Debug)]
pub struct Value {
    /// The field that it becomes.
    pub name: String,
    /// What the format calls it, for reasons: `$status`, `%>s`.
    pub shown: String,
    /// The kind of the field.
    pub kind: Kind,
    /// What is done with it beside passing it on.
    pub role: Role,
    /// What stands behind it, up to the next value; nothing for the rest of the line.
    pub until: Vec<u8>,
    /// Whether it stands between quotes, so that a backslash escapes.
    pub quoted: bool,
}

/// What is done with a value.
#[derive(Debug)]
pub enum Role {
    /// It becomes a field.
    Plain,
    /// It is a request line: if it is `METHOD URI HTTP/…`, it becomes three fields.
    Request,
    /// It becomes a field, and is the event's time, written in this way; in this zone unless it has one of its own.
    Time(Format, Zone),
}

/// A format, compiled.
pub struct Template {
    /// What a line begins with.
    prefix: Literal,
    columns: Vec<Column>,
    request: [FieldId; 3],
    unescape: bool,
}

/// A value, compiled.
struct Column {
    field: FieldId,
    role: Compiled,
    /// What stands behind it; nothing at the end of a line.
    until: Literal,
    /// The first byte of that.
    stop: Option<u8>,
    quoted: bool,
    /// The reason of a line in which it has no end.
    missing: String,
}

enum Compiled {
    Plain,
    Request,
    Time(Box<(Cached, Zone)>),
}

impl Template {
    /// Of what a line begins with, and values; `unescape` says whether escapes in values between quotes are undone.
    pub fn new(prefix: &[u8], values: Vec<Value>, unescape: bool, fields: &mut Fields) -> Self {
        let columns = values.into_iter().map(|value| Column::new(value, fields)).collect();
        let request = ["request_method", "request_uri", "server_protocol"].map(|name| fields.add(name, Kind::Text));
        Template { prefix: Literal::new(prefix), columns, request, unescape }
    }

    /// Puts the values of the line that is `data[at..end]`.
    #[inline(always)]
    pub fn read(&mut self, data: &[u8], mut at: usize, end: usize, row: &mut Row) -> Result<(), Failure> {
        if !self.prefix.is_at(data, at, end) {
            return Err("the line does not begin as the format does".into());
        }
        at += self.prefix.bytes().len();
        for column in &mut self.columns {
            let Some((stop, escaped)) = column.stop(data, at, end) else {
                return Err(column.missing.clone().into());
            };
            let escaped = escaped && self.unescape;
            match &mut column.role {
                Compiled::Plain => put(row, column.field, data, at, stop, escaped),
                Compiled::Request => put_request(row, column.field, &self.request, data, at, stop, escaped),
                Compiled::Time(reader) => {
                    let (format, zone) = &mut **reader;
                    if let Some(time) = format.read(&data[at..stop]) {
                        row.time(zone.to_utc(time));
                    }
                    row.span(column.field, at, stop);
                }
            }
            at = stop + column.until.bytes().len();
        }
        if at == end { Ok(()) } else { Err("the line goes on after the format's end".into()) }
    }
}

impl Column {
    fn new(value: Value, fields: &mut Fields) -> Self {
        let missing = format!("no `{}` after {}", String::from_utf8_lossy(&value.until), value.shown);
        Column {
            field: fields.add(&value.name, value.kind),
            role: match value.role {
                Role::Plain => Compiled::Plain,
                Role::Request => Compiled::Request,
                Role::Time(format, zone) => {
                    let zone = if format.has_zone() { Zone::default() } else { zone };
                    Compiled::Time(Box::new((Cached::new(format), zone)))
                }
            },
            quoted: value.quoted,
            stop: value.until.first().copied(),
            until: Literal::new(&value.until),
            missing,
        }
    }

    /// Where the value that begins at `at` ends, and whether it has an escape.
    #[inline]
    fn stop(&self, data: &[u8], mut at: usize, end: usize) -> Option<(usize, bool)> {
        let Some(first) = self.stop else { return Some((end, false)) };
        let mut escaped = false;
        loop {
            let found = match self.quoted {
                true => find2(data, at, end, first, b'\\')?,
                false => find(data, at, end, first)?,
            };
            if self.quoted && data[found] == b'\\' {
                escaped = true;
                at = found + 2;
            } else if self.until.is_at(data, found, end) {
                return Some((found, escaped));
            } else {
                at = found + 1;
            }
        }
    }
}

#[inline(always)]
fn put(row: &mut Row, field: FieldId, data: &[u8], start: usize, end: usize, escaped: bool) {
    if escaped {
        row.make(field, |made| escape::append(&data[start..end], made));
    } else {
        row.span(field, start, end);
    }
}

/// `GET /path HTTP/1.1` as three fields; anything else, such as what a port scanner sends, as one.
#[inline]
fn put_request(
    row: &mut Row,
    whole: FieldId,
    parts: &[FieldId; 3],
    data: &[u8],
    start: usize,
    end: usize,
    escaped: bool,
) {
    let method = find(data, start, end, b' ');
    // Nearly always `HTTP/1.1`.
    let near = end.checked_sub(9).filter(|at| *at > start && data[*at] == b' ');
    let protocol = near.or_else(|| data[start..end].iter().rposition(|b| *b == b' ').map(|at| start + at));
    match (method, protocol) {
        (Some(method), Some(protocol)) if method < protocol && data[protocol + 1..end].starts_with(b"HTTP/") => {
            put(row, parts[0], data, start, method, escaped);
            put(row, parts[1], data, method + 1, protocol, escaped);
            put(row, parts[2], data, protocol + 1, end, escaped);
        }
        _ => put(row, whole, data, start, end, escaped),
    }
}

/// What is before a place of a text, and the rest; all of it is before a place that is none. Unlike a slice, it cannot
/// panic: what tells of such a panic is a tenth of a small plugin.
pub fn cut(text: &str, at: usize) -> (&str, &str) {
    text.split_at_checked(at).unwrap_or((text, ""))
}
