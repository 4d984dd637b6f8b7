//! Apache access logs of any `LogFormat`, and error logs. See the README for the settings.

mod directive;
mod error_log;
mod format;

use error_log::ErrorLog;
use format::Format;
use weir_plugin::moment::Zone;
use weir_plugin::prelude::*;
use weir_plugin::template::Template;

/// Settings of the plugin.
#[derive(Deserialize, Settings)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What `LogFormat` says in Apache's configuration, or `common`, `combined`, `vhost_combined`, or `error`.
    pub format: String,
    /// Whether `%r` becomes `request_method`, `request_uri` and `server_protocol`.
    pub split_request: bool,
    /// Whether `\"`, `\\`, `\xHH` and their like in quoted values are undone.
    pub unescape: bool,
    /// Where the clock is that wrote times without a zone, as in error logs: an offset such as `+08:00`.
    pub zone: Zone,
    /// The field that is read.
    pub field: Source,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            format: "combined".to_owned(),
            split_request: true,
            unescape: true,
            zone: Zone::default(),
            field: Source::default(),
        }
    }
}

/// The plugin.
pub struct Apache {
    source: Source,
    log: Log,
}

enum Log {
    Access(Box<Template>),
    Error(Box<ErrorLog>),
}

impl Plugin for Apache {
    type Settings = Config;

    fn new(config: Config, fields: &mut Fields) -> Result<Self, String> {
        let log = if config.format == "error" {
            Log::Error(Box::new(ErrorLog::new(config.zone, fields)))
        } else {
            let Format { prefix, values } = Format::parse(&config.format, config.split_request, config.zone)?;
            Log::Access(Box::new(Template::new(&prefix, values, config.unescape, fields)))
        };
        Ok(Apache { source: config.field, log })
    }

    #[inline]
    fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure> {
        let (start, end) = self.source.span(event)?;
        match &mut self.log {
            Log::Access(template) => template.read(event.data(), start, end, row)?,
            Log::Error(log) => log.read(event.data(), start, end, row)?,
        }
        self.source.pass_others(event, row);
        Ok(Keep)
    }
}

weir_plugin::export!(Apache, name = "apache");

#[cfg(test)]
mod tests;
