//! klog: the lines of Kubernetes' own components. See the README for the settings.

mod pairs;

use weir_plugin::moment::{Moment, Years, Zone};
use weir_plugin::prelude::*;
use weir_plugin::scan::{digits, find};

use pairs::Pairs;

weir_plugin::export!(Klog, name = "klog");

/// Settings of the plugin.
#[derive(Deserialize, Settings)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The year of the times, which have none; unless it is given, the one that brings them nearest to the time that
    /// the event has already.
    pub year: Option<u16>,
    /// Where the clock is that wrote them: an offset such as `+08:00`.
    pub zone: Zone,
    /// Whether key="value" behind a message between quotes becomes fields.
    pub structured: bool,
    /// What is put before each key to make the field's name.
    pub prefix: String,
    /// Whether values without quotes that look like numbers or booleans are such, rather than text.
    pub guess_types: bool,
    /// The field that is read.
    pub field: Source,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            year: None,
            zone: Zone::default(),
            structured: true,
            prefix: String::new(),
            guess_types: true,
            field: Source::default(),
        }
    }
}

/// The plugin.
pub struct Klog {
    source: Source,
    years: Years,
    level: FieldId,
    timestamp: FieldId,
    pid: FieldId,
    file: FieldId,
    line: FieldId,
    message: FieldId,
    pairs: Option<Pairs>,
}

/// Bytes of `0102 15:04:05.000000`.
const TIME: usize = 20;

const NO_HEADER: &str = "no header such as `I0102 15:04:05.000000 1 file.go:12] `";

impl Plugin for Klog {
    type Settings = Config;

    fn new(config: Config, fields: &mut Fields) -> Result<Self, String> {
        let Config { year, zone, structured, prefix, guess_types, field } = config;
        Ok(Klog {
            source: field,
            years: Years { year, zone },
            level: fields.add("level", Kind::Text),
            timestamp: fields.add("timestamp", Kind::Text),
            pid: fields.add("pid", Kind::Integer),
            file: fields.add("file", Kind::Text),
            line: fields.add("line", Kind::Integer),
            message: fields.add("message", Kind::Text),
            pairs: if structured { Some(Pairs::new(prefix, guess_types)?) } else { None },
        })
    }

    #[inline]
    fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure> {
        let (start, end) = self.source.span(event)?;
        let data = event.data();
        let at = self.header(data, start, end, event.time(), row).ok_or(NO_HEADER)?;
        match &mut self.pairs {
            Some(pairs) if at < end && data[at] == b'"' => pairs.read(data, at, end, self.message, row)?,
            _ => row.span(self.message, at, end),
        }
        self.source.pass_others(event, row);
        Ok(Keep)
    }
}

impl Klog {
    /// Puts what stands before the message, and says where that begins; none if it is not there.
    #[inline]
    fn header(&self, data: &[u8], start: usize, end: usize, known: Option<i64>, row: &mut Row) -> Option<usize> {
        let level = match data[start..end].first()? {
            b'I' => "info",
            b'W' => "warning",
            b'E' => "error",
            b'F' => "fatal",
            _ => return None,
        };
        row.put(self.level, level.as_bytes());
        let time = start + 1;
        if time + TIME > end {
            return None;
        }
        let moment = Moment::klog(&data[time..time + TIME])?;
        if let Some(time) = self.years.time(moment, known) {
            row.time(time);
        }
        row.span(self.timestamp, time, time + TIME);

        let mut pid = time + TIME;
        while pid < end && data[pid] == b' ' {
            pid += 1;
        }
        let after = pid + digits(data, pid, end);
        if after == pid || after == end || data[after] != b' ' {
            return None;
        }
        row.span(self.pid, pid, after);
        let file = after + 1;
        let bracket = find(data, file, end, b']')?;
        let colon = file + data[file..bracket].iter().rposition(|b| *b == b':')?;
        row.span(self.file, file, colon);
        row.span(self.line, colon + 1, bracket);
        let message = bracket + 1;
        Some(message + usize::from(message < end && data[message] == b' '))
    }
}

#[cfg(test)]
mod tests;
