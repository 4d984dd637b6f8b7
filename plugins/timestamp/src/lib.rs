//! The event's time, read from a field.

mod format;
mod zone;
mod zones;

use weir_plugin::prelude::*;

use format::{Format, Missing};
use zone::Zone;

weir_plugin::export!(Timestamp, name = "timestamp");

/// What the plugin's user may set.
#[derive(Deserialize, Settings)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The field that has the time.
    field: String,
    /// How it may be written, tried in order: rfc3339, rfc2822, clf, apache_error, nginx_error, syslog, unix, unix_ms,
    /// unix_us, unix_ns, or a pattern such as `%Y-%m-%d %H:%M:%S`.
    formats: Vec<String>,
    /// The zone of times that do not say theirs: an offset such as +08:00, or a name such as Europe/Berlin.
    zone: String,
    /// The year of times that do not say theirs; if not given, the one nearest to the time that the event had.
    year: Option<u32>,
    /// Whether the field is removed once its time is read.
    remove: bool,
    /// What becomes of an event whose time cannot be read.
    on_failure: OnFailure,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            field: "time".to_owned(),
            formats: vec!["rfc3339".to_owned()],
            zone: "UTC".to_owned(),
            year: None,
            remove: false,
            on_failure: OnFailure::Keep,
        }
    }
}

/// What becomes of an event whose time cannot be read.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq, Settings)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// It goes on as it is, with the time that it had.
    Keep,
    /// It fails.
    Fail,
}

/// The plugin.
pub struct Timestamp {
    field: String,
    formats: Vec<Format>,
    missing: Missing,
    remove: bool,
    on_failure: OnFailure,
    last: Last,
}

/// The last text, what it was read as, and the time that the event had: many events have the text of the one before.
#[derive(Default)]
struct Last {
    text: Vec<u8>,
    near: Option<i64>,
    time: Option<i64>,
}

impl Plugin for Timestamp {
    type Settings = Config;

    fn new(config: Config, _fields: &mut Fields) -> Result<Self, String> {
        if config.formats.is_empty() {
            return Err("formats: give at least one".to_owned());
        }
        let format = |(i, text): (usize, &String)| Format::parse(text).map_err(|e| format!("formats[{i}]: {e}"));
        let formats = config.formats.iter().enumerate().map(format).collect::<Result<_, _>>()?;
        let missing = Missing { zone: Zone::parse(&config.zone)?, year: config.year.map(i64::from), near: None };
        let Config { field, remove, on_failure, .. } = config;
        Ok(Timestamp { field, formats, missing, remove, on_failure, last: Last::default() })
    }

    fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure> {
        let text = event.get(&self.field);
        let time = text.and_then(|text| self.read(text, event.time()));
        match time {
            Some(time) => row.time(time),
            None if self.on_failure == OnFailure::Keep => {}
            None if text.is_none() => return Err(format!("no field `{}`", self.field).into()),
            None => return Err("not a time".into()),
        }
        if time.is_some() && self.remove {
            row.pass_all_but(event, &self.field);
        } else {
            row.pass_all(event);
        }
        Ok(Keep)
    }
}

impl Timestamp {
    fn read(&mut self, text: &[u8], near: Option<i64>) -> Option<i64> {
        if self.last.text != text || self.last.near != near {
            self.last.text.clear();
            self.last.text.extend_from_slice(text);
            self.last.near = near;
            let missing = Missing { near, ..self.missing };
            self.last.time = self.formats.iter().find_map(|format| format.read(text, &missing));
        }
        self.last.time
    }
}

#[cfg(test)]
mod tests;
