//! Parses lines such as `2024-05-01T12:00:00Z I checkout 12ms order 7 is paid`.

use weir_plugin::prelude::*;
use weir_plugin::time::parse_rfc3339;

/// What the plugin's user may set.
#[derive(Default, Deserialize, Settings)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Lines of this level are left out: debug, info, warn or error.
    drop: Option<Level>,
}

#[derive(Clone, Copy, PartialEq, Deserialize, Settings)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

pub struct Parser {
    config: Config,
    level: FieldId,
    service: FieldId,
    duration: FieldId,
    message: FieldId,
}

impl Plugin for Parser {
    type Settings = Config;

    fn new(config: Config, fields: &mut Fields) -> Result<Self, String> {
        Ok(Parser {
            config,
            level: fields.add("level", Kind::Text),
            service: fields.add("service", Kind::Text),
            duration: fields.add("duration_ms", Kind::Integer),
            message: fields.add("message", Kind::Text),
        })
    }

    fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure> {
        let line = event.text().ok_or("not UTF-8")?;
        let parts: Vec<_> = line.splitn(5, ' ').collect();
        let [time, letter, service, duration, message] = parts[..] else {
            return Err("not TIME LEVEL SERVICE DURATION MESSAGE".into());
        };
        let (level, name) = match letter {
            "D" => (Level::Debug, "debug"),
            "I" => (Level::Info, "info"),
            "W" => (Level::Warn, "warn"),
            "E" => (Level::Error, "error"),
            _ => return Err("no such level".into()),
        };
        if self.config.drop == Some(level) {
            return Ok(Drop);
        }
        let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let duration = duration.strip_suffix("ms").filter(is_number).ok_or("no such duration")?;
        row.time(parse_rfc3339(time.as_bytes()).ok_or("no such time")?);
        row.put(self.level, name.as_bytes());
        row.put(self.service, service.as_bytes()); // a slice of the event: nothing is copied
        row.put(self.duration, duration.as_bytes());
        row.put(self.message, message.as_bytes());
        row.pass_all_but(event, "content"); // what an earlier plugin has found
        Ok(Keep)
    }
}

weir_plugin::export!(Parser);
