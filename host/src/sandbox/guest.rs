//! What a store knows of the plugin that runs in it: its limits, and what it has said, counted and grown to.

use std::collections::BTreeMap;
use std::time::Instant;

use wasmtime::ResourceLimiter;

use super::limits::Limits;

/// What a store holds of the guest: its limits, and what it has said and counted.
pub struct Guest {
    name: String,
    limits: Limits,
    /// Bytes of linear memory, over all memories.
    pub(super) memory: usize,
    /// Whether it wanted more than it may have.
    pub(super) refused_memory: bool,
    /// The plugin's own counters, until they are taken.
    pub(super) counters: BTreeMap<String, u64>,
    /// The last line that it logged as an error: a panic's message.
    pub(super) last_error: Option<String>,
    /// Log lines that may be passed on now, and since when they have been saved up.
    lines: f64,
    since: Instant,
    unsaid: u64,
}

impl Guest {
    /// A plugin that has done nothing yet.
    pub(super) fn new(name: &str, limits: &Limits) -> Self {
        Guest {
            name: name.to_owned(),
            limits: *limits,
            memory: 0,
            refused_memory: false,
            counters: BTreeMap::new(),
            last_error: None,
            lines: f64::from(limits.log_lines_per_second),
            since: Instant::now(),
            unsaid: 0,
        }
    }

    /// Passes a line on, under the plugin's name, escaped, cut, and limited in rate.
    pub(super) fn log(&mut self, level: tracing::Level, message: &str) {
        let message = harmless(message, self.limits.log_line);
        if level == tracing::Level::ERROR {
            self.last_error = Some(message.clone());
        }
        let rate = f64::from(self.limits.log_lines_per_second);
        let now = Instant::now();
        self.lines = (self.lines + rate * (now - self.since).as_secs_f64()).min(2.0 * rate);
        self.since = now;
        if self.lines < 1.0 {
            self.unsaid += 1;
            return;
        }
        self.lines -= 1.0;
        let (plugin, unsaid) = (&self.name, std::mem::take(&mut self.unsaid));
        match level {
            tracing::Level::ERROR => tracing::error!(target: "plugin", plugin, unsaid, "{message}"),
            tracing::Level::WARN => tracing::warn!(target: "plugin", plugin, unsaid, "{message}"),
            tracing::Level::INFO => tracing::info!(target: "plugin", plugin, unsaid, "{message}"),
            _ => tracing::debug!(target: "plugin", plugin, unsaid, "{message}"),
        }
    }

    /// Adds to a counter; those beyond the limit count as `other`.
    pub(super) fn count(&mut self, name: &str, amount: u64) {
        let fits = self.counters.len() < self.limits.counters && name.len() <= self.limits.field_name;
        let name = if fits || self.counters.contains_key(name) { name } else { "other" };
        match self.counters.get_mut(name) {
            Some(count) => *count = count.saturating_add(amount),
            None => drop(self.counters.insert(name.to_owned(), amount)),
        }
    }
}

impl ResourceLimiter for Guest {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        // Growth of any memory counts into one sum, so that many small memories are no way around.
        let sum = self.memory + (desired - current);
        let fits = sum <= self.limits.memory;
        self.refused_memory |= !fits;
        if fits {
            self.memory = sum;
        }
        Ok(fits)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= self.limits.table_elements)
    }

    fn instances(&self) -> usize {
        self.limits.instances
    }

    fn tables(&self) -> usize {
        self.limits.instances
    }

    fn memories(&self) -> usize {
        self.limits.instances
    }
}

/// A guest's text for a person's terminal: cut to so many bytes, with control characters escaped.
pub fn harmless(text: &str, most: usize) -> String {
    let escape = |c: char| match c {
        c if c.is_control() => c.escape_debug().to_string(),
        c => c.to_string(),
    };
    cut(text, most).chars().map(escape).collect()
}

/// At most so many bytes of a text, cut between characters.
pub fn cut(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].to_owned()
}
