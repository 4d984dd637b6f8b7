//! A parser of lines by regular expressions, whose named groups become fields.

use std::collections::BTreeMap;

use weir_plugin::Kind;
use weir_plugin::prelude::*;
use weir_plugin::source::Source;
use weir_plugin::time::{Cached, TimeField};
use weir_plugin_regex::Pattern;

weir_plugin::export!(Regex, name = "regex");

/// What the plugin's user may set.
#[derive(Default, Deserialize, Settings)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The pattern, if there is only one.
    pattern: Option<String>,
    /// The patterns, of which the first one that matches counts.
    patterns: Vec<String>,
    /// The field that is parsed. Its place is taken by the fields of the pattern.
    field: Source,
    /// Whether classes such as `\w` and `.` mean characters of Unicode, rather than single bytes.
    unicode: bool,
    /// Kinds of fields that are not text: integer, float, boolean or json.
    types: BTreeMap<String, Kind>,
    /// Where the event's time is.
    time: Option<TimeField>,
}

/// The plugin.
pub struct Regex {
    source: Source,
    /// Each with the fields of its groups.
    patterns: Vec<(Pattern, Vec<FieldId>)>,
    time: Option<Time>,
}

struct Time {
    field: FieldId,
    reader: Cached,
}

impl Plugin for Regex {
    type Settings = Config;

    fn new(config: Config, fields: &mut Fields) -> Result<Self, String> {
        let compiled = compile(&config)?;
        let has_group = |name: &str| compiled.iter().any(|p| p.groups().iter().any(|group| group.name == name));
        if let Some(name) = config.types.keys().find(|name| !has_group(name)) {
            return Err(format!("types: no group has the name `{name}`"));
        }
        let mut field = |name: &str| fields.add(name, config.types.get(name).copied().unwrap_or(Kind::Text));
        let time = match &config.time {
            Some(time) if !has_group(&time.field) => {
                return Err(format!("time: no group has the name `{}`", time.field));
            }
            Some(time) => Some(Time { field: field(&time.field), reader: time.reader()? }),
            None => None,
        };
        let with_fields = |pattern: Pattern| {
            let fields = pattern.groups().iter().map(|group| field(&group.name)).collect();
            (pattern, fields)
        };
        let patterns = compiled.into_iter().map(with_fields).collect();
        Ok(Regex { source: config.field, patterns, time })
    }

    #[inline]
    fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure> {
        let (data, (start, end)) = (event.data(), self.source.span(event)?);
        self.source.pass_others(event, row);
        let matching = self.patterns.iter_mut().find_map(|(pattern, fields)| {
            if pattern.matches(data, start, end) { Some((pattern, fields)) } else { None }
        });
        let Some((pattern, fields)) = matching else { return Err("no pattern matches".into()) };
        for (group, field) in pattern.groups().iter().zip(fields) {
            let Some((start, end)) = pattern.span(group) else { continue };
            row.span(*field, start, end);
            if let Some(time) = &mut self.time
                && time.field == *field
                && let Some(time) = time.reader.read(&data[start..end])
            {
                row.time(time);
            }
        }
        Ok(Keep)
    }
}

/// All patterns, compiled. The error names the one that is wrong.
fn compile(config: &Config) -> Result<Vec<Pattern>, String> {
    let one = |name: String, text: &str| Pattern::new(text, config.unicode).map_err(|e| format!("{name}: {e}"));
    match (&config.pattern, config.patterns.as_slice()) {
        (Some(pattern), []) => Ok(vec![one("pattern".to_owned(), pattern)?]),
        (None, [_, ..]) => config.patterns.iter().enumerate().map(|(i, p)| one(format!("patterns[{i}]"), p)).collect(),
        (None, []) => Err("give a pattern, or several patterns".to_owned()),
        (Some(_), _) => Err("give either pattern or patterns, not both".to_owned()),
    }
}

#[cfg(test)]
mod tests;
