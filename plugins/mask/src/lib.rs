//! Secrets in fields, masked: what is found is replaced, hashed, or cut to its end.

mod action;
mod find;

use std::ops::Range;

use weir_plugin::prelude::*;

use action::{Action, Way};
use find::{Finder, Secret, has_escapes};

weir_plugin::export!(Mask, name = "mask");

/// What the plugin's user may set.
#[derive(Deserialize, Settings)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What is masked, and how. Where two find places that overlap, both are masked as the earlier rule says.
    rules: Vec<Rule>,
    /// The key of hashes, 16 bytes at least: a secret.
    #[serde(default)]
    key: String,
}

/// What is masked, and how.
#[derive(Deserialize, Settings)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// A known sort of secret.
    find: Option<Secret>,
    /// Or a regular expression; if it has a group, only the first group is masked.
    pattern: Option<String>,
    /// The fields that are looked at; all if none are given.
    #[serde(default)]
    fields: Vec<String>,
    /// What becomes of it.
    #[serde(default)]
    action: Action,
    /// For replace: what comes instead.
    with: Option<String>,
    /// For keep_last: how many characters stay, but half of them at most; 4 if not given.
    last: Option<usize>,
}

/// The plugin.
pub struct Mask {
    rules: Vec<Compiled>,
    /// Whether any of their finders does.
    minds_escapes: bool,
    /// Of the cell that is looked at: what is masked, and by which rule.
    places: Vec<(Range<usize>, usize)>,
}

struct Compiled {
    finders: Vec<Finder>,
    fields: Vec<String>,
    way: Way,
}

impl Plugin for Mask {
    type Settings = Config;

    fn new(config: Config, _fields: &mut Fields) -> Result<Self, String> {
        if config.rules.is_empty() {
            return Err("rules: give at least one".to_owned());
        }
        let compile = |(i, rule): (usize, Rule)| rule.compile(&config.key).map_err(|e| format!("rules[{i}]: {e}"));
        let rules = config.rules.into_iter().enumerate().map(compile).collect::<Result<Vec<_>, _>>()?;
        let minds_escapes = rules.iter().flat_map(|rule| &rule.finders).any(Finder::minds_escapes);
        Ok(Mask { rules, minds_escapes, places: Vec::new() })
    }

    fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure> {
        for cell in event.cells() {
            self.find(cell.name, cell.bytes);
            if self.places.is_empty() {
                row.pass(&cell);
                continue;
            }
            // JSON with a string masked is still JSON; a number masked is none.
            let kind = if cell.kind == Kind::Json { Kind::Json } else { Kind::Text };
            let field = row.fields().add(cell.name, kind);
            row.make(field, |made| {
                let mut at = 0;
                for (place, rule) in &self.places {
                    made.extend_from_slice(&cell.bytes[at..place.start]);
                    self.rules[*rule].way.write(&cell.bytes[place.clone()], made);
                    at = place.end;
                }
                made.extend_from_slice(&cell.bytes[at..]);
            });
        }
        Ok(Keep)
    }
}

impl Mask {
    /// Finds what is masked in a field: places in order that do not overlap.
    fn find(&mut self, name: &str, text: &[u8]) {
        let places = &mut self.places;
        places.clear();
        let has_escapes = self.minds_escapes && has_escapes(text);
        for (i, rule) in self.rules.iter_mut().enumerate() {
            if rule.fields.is_empty() || rule.fields.iter().any(|field| field == name) {
                for finder in &mut rule.finders {
                    finder.find(text, has_escapes, &mut |place| places.push((place, i)));
                }
            }
        }
        if places.len() > 1 {
            places.sort_by_key(|(place, rule)| (place.start, *rule));
            places.dedup_by(|(place, rule), (before, earlier)| {
                let overlaps = place.start < before.end;
                if overlaps {
                    before.end = before.end.max(place.end);
                    *earlier = (*earlier).min(*rule);
                }
                overlaps
            });
        }
    }
}

impl Rule {
    fn compile(self, key: &str) -> Result<Compiled, String> {
        let finders = match (self.find, &self.pattern) {
            (Some(secret), None) => secret.finders(),
            (None, Some(pattern)) => vec![Finder::pattern(pattern).map_err(|e| format!("pattern: {e}"))?],
            _ => return Err("give either find or pattern".to_owned()),
        };
        let way = Way::new(self.action, self.with, self.last, key)?;
        Ok(Compiled { finders, fields: self.fields, way })
    }
}

#[cfg(test)]
mod tests;
