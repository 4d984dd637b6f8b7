//! A parser of lines by grok patterns: regular expressions with names, `%{NAME:field:type}`.

mod expand;
mod library;

use std::collections::BTreeMap;

use weir_plugin::prelude::*;
use weir_plugin::source::Source;
use weir_plugin::time::{Cached, TimeField};
use weir_plugin_regex::Pattern;

use expand::{Expanded, expand};
use library::Library;

weir_plugin::export!(Grok, name = "grok");

/// What the plugin's user may set.
#[derive(Default, Deserialize, Settings)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The pattern, if there is only one.
    pattern: Option<String>,
    /// The patterns, of which the first one that matches counts.
    patterns: Vec<String>,
    /// Patterns of one's own: `{ NAME: pattern }`. They come before the library's.
    definitions: BTreeMap<String, String>,
    /// The field that is parsed. Its place is taken by the fields of the pattern.
    field: Source,
    /// Whether the library's fields have the names of the Elastic Common Schema.
    ecs: bool,
    /// Where the event's time is.
    time: Option<TimeField>,
}

/// The plugin.
pub struct Grok {
    source: Source,
    patterns: Vec<Compiled>,
    time: Option<(FieldId, Cached)>,
}

/// A pattern, in two forms.
struct Compiled {
    /// Matches the usual line quickly, or not at all.
    fast: Option<(Pattern, Vec<FieldId>)>,
    full: (Pattern, Vec<FieldId>),
}

impl Plugin for Grok {
    type Settings = Config;

    fn new(config: Config, fields: &mut Fields) -> Result<Self, String> {
        let Config { pattern, patterns, definitions, field, ecs, time } = config;
        let library = Library::new(ecs, definitions)?;
        let named: Vec<_> = match (pattern, patterns) {
            (Some(pattern), list) if list.is_empty() => vec![("pattern".to_owned(), pattern)],
            (None, list) if !list.is_empty() => {
                list.into_iter().enumerate().map(|(i, pattern)| (format!("patterns[{i}]"), pattern)).collect()
            }
            (None, _) => return Err("give a pattern, or several patterns".to_owned()),
            (Some(_), _) => return Err("give either pattern or patterns, not both".to_owned()),
        };
        let mut compiled = Vec::new();
        for (place, pattern) in named {
            compiled.push(Compiled::new(&pattern, &library, fields).map_err(|e| format!("{place}: {e}"))?);
        }
        let time = time.map(|time| {
            let ids = compiled.iter().flat_map(|pattern: &Compiled| &pattern.full.1);
            let id = ids.copied().find(|id| fields.get(*id).0 == time.field);
            Ok::<_, String>((
                id.ok_or_else(|| format!("time: no pattern has the field `{}`", time.field))?,
                time.reader()?,
            ))
        });
        Ok(Grok { source: field, patterns: compiled, time: time.transpose()? })
    }

    #[inline]
    fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure> {
        let (data, (start, end)) = (event.data(), self.source.span(event)?);
        self.source.pass_others(event, row);
        let matching = self.patterns.iter_mut().find_map(|pattern| pattern.matches(data, start, end));
        let Some((pattern, fields)) = matching else { return Err("no pattern matches".into()) };
        for (group, field) in pattern.groups().iter().zip(fields) {
            let Some((start, end)) = pattern.span(group) else { continue };
            if start == end {
                continue;
            }
            row.span(*field, start, end);
            if let Some((time_field, reader)) = &mut self.time
                && time_field == field
                && let Some(time) = reader.read(&data[start..end])
            {
                row.time(time);
            }
        }
        Ok(Keep)
    }
}

impl Compiled {
    fn new(pattern: &str, library: &Library, fields: &mut Fields) -> Result<Self, String> {
        let expanded = expand(pattern, library, false)?;
        if expanded.fields.is_empty() {
            return Err(format!("`{pattern}` has no field, such as `%{{NUMBER:status}}`"));
        }
        let full = (Pattern::new(&expanded.regex, false)?, ids(&expanded, fields));
        let narrow = expand(pattern, library, true)?;
        // A narrower pattern may have fewer fields, and no other ones.
        let fast = Pattern::at_start(&narrow.regex, false).ok().flatten();
        Ok(Compiled { fast: fast.map(|fast| (fast, ids(&narrow, fields))), full })
    }

    /// The form of the pattern that matches, with the fields of its groups.
    #[inline]
    fn matches(&mut self, data: &[u8], start: usize, end: usize) -> Option<(&Pattern, &[FieldId])> {
        if let Some((pattern, fields)) = &mut self.fast
            && pattern.matches(data, start, end)
        {
            return Some((pattern, fields));
        }
        let (pattern, fields) = &mut self.full;
        pattern.matches(data, start, end).then_some((pattern, fields))
    }
}

/// The fields of the groups, in their order.
fn ids(expanded: &Expanded, fields: &mut Fields) -> Vec<FieldId> {
    expanded.fields.iter().map(|(name, kind)| fields.add(name, *kind)).collect()
}

#[cfg(test)]
mod tests;
