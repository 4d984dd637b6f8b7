//! Syslog lines, of RFC 3164 and RFC 5424. See the README for the settings.

mod bsd;
mod ietf;
mod structured;

use weir_plugin::moment::Zone;
use weir_plugin::prelude::*;

use bsd::Bsd;
use ietf::Ietf;

weir_plugin::export!(Syslog, name = "syslog");

/// Settings of the plugin.
#[derive(Default, Deserialize, Settings)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which of the two ways lines are written in.
    pub format: Form,
    /// The year of times without one; unless it is given, the one that brings them nearest to the time that the event
    /// has already.
    pub year: Option<u16>,
    /// Where the clock is that wrote times without a zone: an offset such as `+08:00`.
    pub zone: Zone,
    /// What becomes of RFC 5424's structured data.
    pub structured_data: StructuredData,
    /// The field that is read.
    pub field: Source,
}

/// How lines are written.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq, Settings)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// As RFC 5424 where a version stands behind the priority, else as RFC 3164.
    #[default]
    Auto,
    /// `<34>Oct 11 22:14:15 host app[10]: message`, also with a time as in RFC 3339, or without a priority or a host.
    Rfc3164,
    /// `<34>1 2003-10-11T22:14:15.003Z host app 10 ID47 [id name="value"] message`.
    Rfc5424,
}

/// What becomes of structured data.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq, Settings)]
#[serde(rename_all = "snake_case")]
pub enum StructuredData {
    /// The field `structured_data` has it as JSON: an object of objects.
    #[default]
    Json,
    /// Each parameter is a field: `id.name`.
    Fields,
    /// The field `structured_data` has it as it stands in the line.
    Raw,
    /// It is left out.
    Drop,
}

/// The plugin.
pub struct Syslog {
    source: Source,
    form: Form,
    priority: Priority,
    bsd: Bsd,
    ietf: Ietf,
}

impl Plugin for Syslog {
    type Settings = Config;

    fn new(config: Config, fields: &mut Fields) -> Result<Self, String> {
        let Config { format, year, zone, structured_data, field } = config;
        Ok(Syslog {
            source: field,
            form: format,
            priority: Priority::new(fields),
            bsd: Bsd::new(year, zone, fields),
            ietf: Ietf::new(structured_data, fields)?,
        })
    }

    #[inline]
    fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure> {
        let (start, end) = self.source.span(event)?;
        let data = event.data();
        let at = self.priority.read(data, start, end, row)?;
        let has_version = at > start && end - at >= 2 && data[at..at + 2] == *b"1 ";
        match self.form {
            Form::Rfc5424 if !has_version => return Err("no priority and version 1 at the line's start".into()),
            Form::Auto | Form::Rfc5424 if has_version => self.ietf.read(data, at + 2, end, row)?,
            _ => self.bsd.read(data, at, end, event.time(), row)?,
        }
        self.source.pass_others(event, row);
        Ok(Keep)
    }
}

const FACILITIES: [&str; 24] = [
    "kern",
    "user",
    "mail",
    "daemon",
    "auth",
    "syslog",
    "lpr",
    "news",
    "uucp",
    "cron",
    "authpriv",
    "ftp",
    "ntp",
    "security",
    "console",
    "solaris-cron",
    "local0",
    "local1",
    "local2",
    "local3",
    "local4",
    "local5",
    "local6",
    "local7",
];

const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// `<34>`: what speaks, and how urgent it is.
struct Priority {
    facility: FieldId,
    severity: FieldId,
}

impl Priority {
    fn new(fields: &mut Fields) -> Self {
        Priority { facility: fields.add("facility", Kind::Text), severity: fields.add("severity", Kind::Text) }
    }

    /// Puts facility and severity, if the line has a priority, and says where it goes on.
    #[inline]
    fn read(&self, data: &[u8], start: usize, end: usize, row: &mut Row) -> Result<usize, &'static str> {
        if start == end || data[start] != b'<' {
            return Ok(start);
        }
        let (mut at, mut value) = (start + 1, 0);
        while at < end && at < start + 4 && data[at].is_ascii_digit() {
            value = value * 10 + usize::from(data[at] - b'0');
            at += 1;
        }
        if at == start + 1 || at == end || data[at] != b'>' || value >= FACILITIES.len() * 8 {
            return Err("not a priority from <0> to <191>");
        }
        row.put(self.facility, FACILITIES[value / 8].as_bytes());
        row.put(self.severity, SEVERITIES[value % 8].as_bytes());
        Ok(at + 1)
    }
}

#[cfg(test)]
mod tests;
