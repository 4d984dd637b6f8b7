//! A filter: events are kept or dropped by conditions on their fields. What is kept is not changed.

mod condition;

use weir_plugin::prelude::*;

use condition::{Condition, Test};

weir_plugin::export!(Filter, name = "filter");

/// What the plugin's user may set.
#[derive(Default, Deserialize, Settings)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Events for which one of these conditions holds are dropped.
    drop: Vec<Condition>,
    /// If given, events for which none of these conditions holds are dropped, too.
    keep: Vec<Condition>,
}

/// The plugin.
pub struct Filter {
    drop: Vec<Test>,
    keep: Vec<Test>,
}

impl Plugin for Filter {
    type Settings = Config;

    fn new(config: Config, _fields: &mut Fields) -> Result<Self, String> {
        if config.drop.is_empty() && config.keep.is_empty() {
            return Err("give conditions under drop or keep".to_owned());
        }
        Ok(Filter { drop: condition::compile("drop", config.drop)?, keep: condition::compile("keep", config.keep)? })
    }

    fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure> {
        let holds = |tests: &mut [Test]| tests.iter_mut().any(|test| test.holds(event));
        if holds(&mut self.drop) || !self.keep.is_empty() && !holds(&mut self.keep) {
            return Ok(Drop);
        }
        row.pass_all(event);
        Ok(Keep)
    }
}

#[cfg(test)]
mod tests;
