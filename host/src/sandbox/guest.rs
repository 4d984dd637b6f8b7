//! What a store knows of the plugin that runs in it: its limits, and what it has said, counted and grown to.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::ResourceLimiter;

use super::files::Files;
use super::limits::Limits;
use super::log::Log;
use crate::budget::{Budget, Share};

/// What a store holds of the guest: its limits, and what it has said and counted.
pub struct Guest {
    name: String,
    limits: Limits,
    /// Bytes of linear memory, over all memories.
    pub(super) memory: usize,
    /// Elements of all tables.
    table_elements: usize,
    /// The project's memory that it has.
    share: Share,
    /// Who refused it memory, if somebody did.
    pub(super) refused: Option<Refusal>,
    /// The plugin's own counters, until they are taken.
    pub(super) counters: BTreeMap<String, u64>,
    /// The last line that it logged as an error: a panic's message.
    pub(super) last_error: Option<String>,
    log: Log,
    /// What it may read while it takes its settings.
    files: Option<Arc<Files>>,
    is_configuring: bool,
    /// Bytes that it has read.
    bytes_read: usize,
    /// Bytes that it has logged and counted in this call.
    said: usize,
}

/// What any call of a host function counts as, in bytes: it costs the host more than the guest pays for it in fuel.
const CALL_BYTES: usize = 64;

/// Who refused memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The plugin's own limit.
    Limit,
    /// The project has no more.
    Project,
}

impl Guest {
    /// A plugin that has done nothing yet.
    pub(super) fn new(
        name: &str,
        limits: &Limits,
        budget: &Arc<Budget>,
        log: &Log,
        files: Option<&Arc<Files>>,
    ) -> Self {
        Guest {
            name: name.to_owned(),
            limits: *limits,
            memory: 0,
            table_elements: 0,
            share: Share::new(budget),
            refused: None,
            counters: BTreeMap::new(),
            last_error: None,
            log: log.clone(),
            files: files.cloned(),
            is_configuring: true,
            bytes_read: 0,
            said: 0,
        }
    }

    /// What it may use.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether files are granted to it.
    pub(super) fn has_files(&self) -> bool {
        self.files.is_some()
    }

    /// It has taken its settings.
    pub(super) fn end_configure(&mut self) {
        self.is_configuring = false;
    }

    /// A file that is granted. All that an instance reads has to fit into its memory, so that reading again and again
    /// comes to an end.
    pub(super) fn read(&mut self, path: &str) -> wasmtime::Result<Result<Vec<u8>, String>> {
        self.say(path)?;
        let Some(files) = &self.files else { return Ok(Err("no files are granted".to_owned())) };
        if !self.is_configuring {
            return Ok(Err("files are read in `configure` and not later".to_owned()));
        }
        let read = files.read(path, self.limits.memory - self.bytes_read);
        self.bytes_read += read.as_ref().map_or(0, Vec::len);
        Ok(read)
    }

    /// What it said before is forgiven.
    pub(super) fn begin_call(&mut self) {
        self.said = 0;
    }

    /// Ends a call in which it says too much.
    fn say(&mut self, text: &str) -> wasmtime::Result<()> {
        self.said += text.len() + CALL_BYTES;
        let most = self.limits.output_bytes;
        match self.said <= most {
            true => Ok(()),
            false => Err(wasmtime::Error::msg(format!("it logs and counts more than {most} bytes in one call"))),
        }
    }

    /// Passes a line on, under the plugin's name, escaped and cut.
    pub(super) fn log(&mut self, level: tracing::Level, message: &str) -> wasmtime::Result<()> {
        self.say(message)?;
        let message = harmless(message, self.limits.log_line);
        if level == tracing::Level::ERROR {
            self.last_error = Some(message.clone());
        }
        self.log.say(&self.limits, &self.name, level, &message);
        Ok(())
    }

    /// Adds to a counter; those beyond the limit count as `other`.
    pub(super) fn count(&mut self, name: &str, amount: u64) -> wasmtime::Result<()> {
        self.say(name)?;
        let fits = self.counters.len() < self.limits.counters && name.len() <= self.limits.field_name;
        let name = if fits || self.counters.contains_key(name) { name } else { "other" };
        match self.counters.get_mut(name) {
            Some(count) => *count = count.saturating_add(amount),
            None => drop(self.counters.insert(name.to_owned(), amount)),
        }
        Ok(())
    }
}

impl ResourceLimiter for Guest {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        // Growth of any memory counts into one sum, so that many small memories are no way around.
        let growth = desired - current;
        let sum = self.memory.saturating_add(growth);
        if sum > self.limits.memory {
            self.refused = Some(Refusal::Limit);
        } else if !self.share.try_grow(growth) {
            self.refused = Some(Refusal::Project);
        } else {
            self.memory = sum;
            return Ok(true);
        }
        Ok(false)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let sum = self.table_elements.saturating_add(desired - current);
        let is_granted = sum <= self.limits.table_elements;
        self.table_elements = if is_granted { sum } else { self.table_elements };
        Ok(is_granted)
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

/// The same of bytes, of which those that are no UTF-8 are written as `\xff`. Says how many there are if they are cut.
pub fn readable(bytes: &[u8], most: usize) -> String {
    let is_inside = |at: &usize| bytes.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let end = (most.saturating_sub(3)..=most).rev().find(|at| !is_inside(at)).unwrap_or(most).min(bytes.len());
    let mut text = String::new();
    for chunk in bytes[..end].utf8_chunks() {
        text += &harmless(chunk.valid(), end);
        chunk.invalid().iter().for_each(|byte| text += &format!("\\x{byte:02x}"));
    }
    if end < bytes.len() {
        text += &format!("… ({} bytes)", bytes.len());
    }
    text
}

/// At most so many bytes of a text, cut between characters.
pub fn cut(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_readable_and_obeyed_by_no_terminal() {
        assert_eq!(readable(b"a\x1b[2J\xff\xc3(\n", 100), "a\\u{1b}[2J\\xff\\xc3(\\n");
        assert_eq!(readable("ääää".as_bytes(), 5), "ää… (8 bytes)");
        assert_eq!(readable(&[0x80; 9], 2), "\\x80\\x80… (9 bytes)");
        assert_eq!(readable(b"", 5), "");
    }
}
