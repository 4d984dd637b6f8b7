//! Repeated events of a batch become one, with a count.

use std::collections::HashMap;

use weir_plugin::prelude::*;

weir_plugin::export!(Dedup, name = "dedup");

/// What the plugin's user may set.
#[derive(Deserialize, Settings)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The fields by which events are the same; all if none are given.
    by: Vec<String>,
    /// All fields but these are those by which events are the same.
    ignore: Vec<String>,
    /// The field for how many there were, of events that came more than once.
    count: String,
    /// Whether only events directly behind each other become one.
    adjacent: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config { by: Vec::new(), ignore: Vec::new(), count: "count".to_owned(), adjacent: false }
    }
}

/// The plugin.
pub struct Dedup {
    config: Config,
    count: FieldId,
    /// What makes the event that is looked at the same as another.
    key: Vec<u8>,
}

/// Events that are the same.
struct Group {
    /// Index of the first one.
    first: usize,
    count: u64,
}

impl BatchPlugin for Dedup {
    type Settings = Config;

    fn new(config: Config, fields: &mut Fields) -> Result<Self, String> {
        Fields::check(&config.count)?;
        if !config.by.is_empty() && !config.ignore.is_empty() {
            return Err("give either by or ignore, not both".to_owned());
        }
        Ok(Dedup { count: fields.add(&config.count, Kind::Integer), config, key: Vec::new() })
    }

    fn batch(&mut self, input: &Batch, _last: bool, out: &mut Out) {
        for Group { first, count } in self.groups(input) {
            let event = input.event(first);
            let mut row = out.row(&event);
            if count == 1 {
                row.pass_all(&event);
            } else {
                row.pass_all_but(&event, &self.config.count);
                row.make(self.count, |made| made.extend_from_slice(count.to_string().as_bytes()));
            }
            out.keep(first, first + 1);
        }
    }
}

impl Dedup {
    /// The groups, in the order of their first events.
    fn groups(&mut self, input: &Batch) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        let mut known: HashMap<Vec<u8>, usize> = HashMap::new();
        for (i, event) in input.events().enumerate() {
            self.read_key(&event);
            match known.get(&self.key) {
                Some(group) => groups[*group].count += 1,
                None => {
                    if self.config.adjacent {
                        known.clear();
                    }
                    known.insert(self.key.clone(), groups.len());
                    groups.push(Group { first: i, count: 1 });
                }
            }
        }
        groups
    }

    fn read_key(&mut self, event: &Event) {
        self.key.clear();
        if self.config.by.is_empty() {
            let ignore = &self.config.ignore;
            for cell in event.cells().filter(|cell| !ignore.iter().any(|name| name == cell.name)) {
                add(&mut self.key, Some(cell.name.as_bytes()));
                add(&mut self.key, Some(cell.bytes));
            }
        } else {
            for name in &self.config.by {
                add(&mut self.key, event.get(name));
            }
        }
    }
}

/// Adds a value with its length, so that `ab`, `c` is not `a`, `bc`; what is missing is not what is empty.
fn add(key: &mut Vec<u8>, value: Option<&[u8]>) {
    let length = value.map_or(u32::MAX, |value| value.len() as u32);
    key.extend_from_slice(&length.to_le_bytes());
    key.extend_from_slice(value.unwrap_or_default());
}

#[cfg(test)]
mod tests;
