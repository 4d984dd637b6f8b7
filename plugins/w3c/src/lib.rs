//! W3C extended log files, as IIS and CloudFront write them. See the README for the settings.

use weir_plugin::prelude::*;
use weir_plugin::scan::{find, find2};
use weir_plugin::time::{Cached, Format};

weir_plugin::export!(W3c, name = "w3c");

/// What IIS writes unless it is told otherwise.
const IIS: &str = "date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip cs(User-Agent) cs(Referer) \
    sc-status sc-substatus sc-win32-status time-taken";

/// CloudFront's standard logs.
const CLOUDFRONT: &str = "date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) \
    cs(User-Agent) cs-uri-query cs(Cookie) x-edge-result-type x-edge-request-id x-host-header cs-protocol cs-bytes \
    time-taken x-forwarded-for ssl-protocol ssl-cipher x-edge-response-result-type cs-protocol-version fle-status \
    fle-encrypted-fields c-port time-to-first-byte x-edge-detailed-result-type sc-content-type sc-content-len \
    sc-range-start sc-range-end";

/// Settings of the plugin.
#[derive(Deserialize, Settings)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What the files' `#Fields:` line says, or `iis` or `cloudfront`.
    pub fields: String,
    /// Whether `cs(User-Agent)` is named `cs_user_agent`, and so on.
    pub plain_names: bool,
    /// Whether each `+` in `cs(User-Agent)` becomes a space: IIS writes spaces so.
    pub plus_is_space: bool,
    /// The field that is read.
    pub field: Source,
}

impl Default for Config {
    fn default() -> Self {
        Config { fields: "iis".to_owned(), plain_names: false, plus_is_space: false, field: Source::default() }
    }
}

/// The plugin.
pub struct W3c {
    source: Source,
    /// What a `#Fields:` line should say.
    names: String,
    columns: Vec<Column>,
    /// The time that was read last.
    time: Cached,
}

struct Column {
    field: FieldId,
    role: Role,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Plain,
    Date,
    Time,
    /// It has pluses for spaces.
    Pluses,
}

const TOO_FEW: &str = "less columns than `fields`: set it to what the file's #Fields line says";
const TOO_MANY: &str = "more columns than `fields`: set it to what the file's #Fields line says";
const OTHER_FIELDS: &str = "this #Fields line is not what the setting `fields` says";

/// Bytes of a date and a time with all digits of a fraction, and a byte between.
const LONGEST_TIME: usize = 40;

impl Plugin for W3c {
    type Settings = Config;

    fn new(config: Config, fields: &mut Fields) -> Result<Self, String> {
        let names = match config.fields.as_str() {
            "iis" => IIS,
            "cloudfront" => CLOUDFRONT,
            own => own.strip_prefix("#Fields:").unwrap_or(own),
        };
        let names: Vec<_> = names.split_ascii_whitespace().collect();
        if names.is_empty() {
            return Err("fields must name at least one column, as the file's #Fields line does".to_owned());
        }
        let mut columns: Vec<Column> = Vec::new();
        for name in &names {
            let own = if config.plain_names { plain(name) } else { (*name).to_owned() };
            Fields::check(&own).map_err(|e| format!("fields: {e}"))?;
            let field = fields.add(&own, kind(name));
            if columns.iter().any(|column| column.field == field) {
                return Err(format!("fields: `{own}` is there twice"));
            }
            let role = match *name {
                "date" => Role::Date,
                "time" => Role::Time,
                "cs(User-Agent)" if config.plus_is_space => Role::Pluses,
                _ => Role::Plain,
            };
            columns.push(Column { field, role });
        }
        Ok(W3c { source: config.field, names: names.join(" "), columns, time: Cached::new(Format::Rfc3339) })
    }

    #[inline]
    fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure> {
        let (start, end) = self.source.span(event)?;
        let data = event.data();
        if data[start..end].first() == Some(&b'#') {
            return self.directive(&data[start..end]);
        }
        self.line(data, start, end, row)?;
        self.source.pass_others(event, row);
        Ok(Keep)
    }
}

impl W3c {
    /// A line that begins with `#`: it is left out, but one that names other columns fails, so that someone sees it.
    #[cold]
    fn directive(&self, line: &[u8]) -> Result<Fate, Failure> {
        let Some(fields) = line.strip_prefix(b"#Fields:") else { return Ok(Drop) };
        let names = fields.split(u8::is_ascii_whitespace).filter(|name| !name.is_empty());
        if names.eq(self.names.split(' ').map(str::as_bytes)) { Ok(Drop) } else { Err(OTHER_FIELDS.into()) }
    }

    /// Puts the columns of the line that is `data[at..end]`.
    #[inline]
    fn line(&mut self, data: &[u8], mut at: usize, mut end: usize, row: &mut Row) -> Result<(), &'static str> {
        while end > at && data[end - 1].is_ascii_whitespace() {
            end -= 1;
        }
        let (mut date, mut time) = ((0, 0), (0, 0));
        let last = self.columns.len() - 1;
        for (i, column) in self.columns.iter().enumerate() {
            let quoted = at < end && data[at] == b'"';
            let stop =
                if quoted { quote(data, at + 1, end)? } else { find2(data, at, end, b' ', b'\t').unwrap_or(end) };
            match column.role {
                _ if quoted => put_quoted(column.field, data, at + 1, stop - 1, row),
                _ if stop - at == 1 && data[at] == b'-' => {}
                Role::Plain => row.span(column.field, at, stop),
                Role::Pluses => put_spaced(column.field, data, at, stop, row),
                Role::Date => {
                    date = (at, stop);
                    row.span(column.field, at, stop);
                }
                Role::Time => {
                    time = (at, stop);
                    row.span(column.field, at, stop);
                }
            }
            if stop == end && i < last {
                return Err(TOO_FEW);
            }
            at = stop + 1;
        }
        if at <= end {
            return Err(TOO_MANY);
        }
        if let Some(time) = self.read_time(&data[date.0..date.1], &data[time.0..time.1]) {
            row.time(time);
        }
        Ok(())
    }

    #[inline]
    fn read_time(&mut self, date: &[u8], time: &[u8]) -> Option<i64> {
        let length = date.len() + 1 + time.len();
        let mut text = [b' '; LONGEST_TIME];
        if date.is_empty() || time.is_empty() || length > LONGEST_TIME {
            return None;
        }
        text[..date.len()].copy_from_slice(date);
        text[date.len() + 1..length].copy_from_slice(time);
        self.time.read(&text[..length])
    }
}

/// Where a text between quotes ends whose bytes begin at `at`: behind its closing quote. A quote in it stands twice.
#[inline(never)]
fn quote(data: &[u8], mut at: usize, end: usize) -> Result<usize, &'static str> {
    loop {
        let found = find(data, at, end, b'"').ok_or("a quote is not closed")?;
        match data[found + 1..end].first() {
            Some(b'"') => at = found + 2,
            Some(b' ' | b'\t') | None => return Ok(found + 1),
            Some(_) => return Err("bytes behind a closing quote"),
        }
    }
}

#[inline(never)]
fn put_quoted(field: FieldId, data: &[u8], start: usize, end: usize, row: &mut Row) {
    if find(data, start, end, b'"').is_none() {
        return row.span(field, start, end);
    }
    row.make(field, |made| {
        let mut at = start;
        while let Some(found) = find(data, at, end, b'"') {
            made.extend_from_slice(&data[at..=found]);
            at = found + 2;
        }
        made.extend_from_slice(&data[at..end]);
    });
}

#[inline(never)]
fn put_spaced(field: FieldId, data: &[u8], start: usize, end: usize, row: &mut Row) {
    row.make(field, |made| made.extend(data[start..end].iter().map(|b| if *b == b'+' { b' ' } else { *b })));
}

/// `cs(User-Agent)` as `cs_user_agent`.
fn plain(name: &str) -> String {
    let mut plain = String::new();
    for c in name.chars() {
        match c {
            ')' => {}
            c if c.is_ascii_alphanumeric() => plain.push(c.to_ascii_lowercase()),
            _ => plain.push('_'),
        }
    }
    plain
}

/// The kind of a column's values. What is not of its kind is shipped as text.
fn kind(name: &str) -> Kind {
    match name {
        "sc-status" | "sc-substatus" | "sc-win32-status" | "sc-bytes" | "cs-bytes" | "bytes" | "s-port" | "c-port"
        | "sc-content-len" | "sc-range-start" | "sc-range-end" => Kind::Integer,
        "time-taken" | "time-to-first-byte" => Kind::Float,
        _ => Kind::Text,
    }
}

#[cfg(test)]
mod tests;
