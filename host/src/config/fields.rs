//! From nodes to values of Rust: each function takes what it can and reports what is wrong.
//!
//! A key without a value is as good as no key. After an error a function gives the default or nothing, so that
//! the rest is looked at too; the result is thrown away in the end.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::problem::{Problem, Problems};
use super::raw::{Node, Value};
use super::units::{
    CPU_HINT, DURATION_HINT, SIZE_HINT, parse_cpu, parse_duration, parse_size, show_cpu, show_duration, show_size,
};
use crate::hint::hint_among;

/// Reads values and collects problems.
pub struct Fields<'p> {
    /// What relative paths are relative to: the absolute directory of the config file.
    pub base: PathBuf,
    pub problems: &'p mut Problems,
}

/// A mapping whose keys are all known.
#[derive(Clone, Copy)]
pub struct Table<'n> {
    node: &'n Node,
    entries: &'n [(String, Node)],
}

impl<'n> Table<'n> {
    /// The value of a key, if it has one.
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        self.entry(key).filter(|node| !matches!(node.value, Value::Null))
    }

    fn entry(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }
}

impl Fields<'_> {
    /// Reports an error at the node.
    pub fn error(&mut self, node: &Node, message: impl Into<String>) {
        self.problems.error(Problem::new(node.place(), message));
    }

    /// Reports an error at the node, with a hint if there is one.
    pub fn error_with(&mut self, node: &Node, message: impl Into<String>, hint: Option<String>) {
        self.problems.error(Problem { hint, ..Problem::new(node.place(), message) });
    }

    /// The node as a mapping; keys that are not among the known ones are reported.
    pub fn table<'n>(&mut self, node: &'n Node, known: &[&str]) -> Option<Table<'n>> {
        let entries = self.entries(node)?;
        #[cfg(test)]
        super::reference::asked(&node.path.to_string(), known);
        for (key, value) in entries.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            self.error_with(value, "unknown key", hint_among(key, "known keys:", known.iter().copied()));
        }
        Some(Table { node, entries })
    }

    /// The node as a mapping whose keys are not known yet.
    pub fn open_table<'n>(&mut self, node: &'n Node) -> Option<Table<'n>> {
        let entries = self.entries(node)?;
        Some(Table { node, entries })
    }

    /// The entries of a mapping whose keys are free. Nothing is a mapping without entries.
    pub fn entries<'n>(&mut self, node: &'n Node) -> Option<&'n [(String, Node)]> {
        match &node.value {
            Value::Map(entries) => Some(entries),
            Value::Null => Some(&[]),
            _ => {
                self.mismatch(node, "a mapping", None);
                None
            }
        }
    }

    /// The value of a key that must be there.
    pub fn require<'n>(&mut self, table: &Table<'n>, key: &str) -> Option<&'n Node> {
        let found = table.get(key);
        if found.is_none() {
            let place = table.entry(key).map_or_else(|| table.node.place_of(key), Node::place);
            self.problems.error(Problem::new(place, "is required"));
        }
        found
    }

    /// The items of a list; none if there is no node.
    pub fn list<'n>(&mut self, node: Option<&'n Node>) -> &'n [Node] {
        match node.map(|node| (node, &node.value)) {
            None => &[],
            Some((_, Value::List(items))) => items,
            Some((node, Value::Text(_))) => {
                self.mismatch(node, "a list", Some("put it in brackets: [a, b]"));
                &[]
            }
            Some((node, _)) => {
                self.mismatch(node, "a list", None);
                &[]
            }
        }
    }

    /// A string that is not empty.
    pub fn text<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        match &node.value {
            Value::Text(text) if text.text.is_empty() => self.error(node, "must not be empty"),
            Value::Text(text) if text.text.contains('\0') => self.error(node, "must not have the character NUL in it"),
            Value::Text(text) => return Some(&text.text),
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {
                self.mismatch(node, "a string", Some("put it in quotes"));
            }
            _ => self.mismatch(node, "a string", None),
        }
        None
    }

    /// The strings of a list that are not empty.
    pub fn texts(&mut self, node: Option<&Node>) -> Vec<String> {
        self.list(node).iter().filter_map(|item| self.text(item)).map(str::to_owned).collect()
    }

    /// A path, made absolute.
    pub fn path(&mut self, node: &Node) -> Option<PathBuf> {
        let path = self.text(node)?;
        Some(self.base.join(path).components().collect())
    }

    /// An integer in the range. A substituted string may be one too.
    pub fn integer(&mut self, node: Option<&Node>, default: u64, range: RangeInclusive<u64>) -> u64 {
        let Some(node) = node else { return default };
        let value = match &node.value {
            Value::Integer(value) => u64::try_from(*value).ok(),
            Value::Text(text) if text.typed.is_some() => text.text.parse().ok(),
            _ => None,
        };
        let wanted = || format!("an integer from {} to {}", range.start(), range.end());
        self.in_range(node, value, default, &range, wanted, None)
    }

    /// Bytes in the range: `64MiB`, or an integer.
    pub fn size(&mut self, node: Option<&Node>, default: u64, range: RangeInclusive<u64>) -> u64 {
        let Some(node) = node else { return default };
        let value = match &node.value {
            Value::Integer(value) => u64::try_from(*value).ok(),
            Value::Text(text) => parse_size(&text.text),
            _ => None,
        };
        let hint = value.is_none().then_some(SIZE_HINT);
        let wanted = || format!("a size from {} to {}", show_size(*range.start()), show_size(*range.end()));
        self.in_range(node, value, default, &range, wanted, hint)
    }

    /// A duration in the range: `250ms`.
    pub fn duration(&mut self, node: Option<&Node>, default: Duration, range: RangeInclusive<Duration>) -> Duration {
        let Some(node) = node else { return default };
        let value = match &node.value {
            Value::Text(text) => parse_duration(&text.text),
            _ => None,
        };
        let hint = value.is_none().then_some(DURATION_HINT);
        let wanted = || format!("a duration from {} to {}", show_duration(*range.start()), show_duration(*range.end()));
        self.in_range(node, value, default, &range, wanted, hint)
    }

    /// Thousandths of a core in the range: `500m`, or cores, `1.5`.
    pub fn cpu(&mut self, node: &Node, range: RangeInclusive<u64>) -> Option<u64> {
        let value = match &node.value {
            Value::Integer(cores) => u64::try_from(*cores).ok().and_then(|cores| cores.checked_mul(1000)),
            // How it was typed is not known any more; a float's shortest form has no more digits than that.
            Value::Float(cores) => parse_cpu(&cores.to_string()),
            Value::Text(text) => parse_cpu(&text.text),
            _ => None,
        };
        let hint = value.is_none().then_some(CPU_HINT);
        let wanted = || format!("cores from {} to {}", show_cpu(*range.start()), show_cpu(*range.end()));
        let value = self.in_range(node, value, 0, &range, wanted, hint);
        (value > 0).then_some(value)
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, node: Option<&Node>, default: bool) -> bool {
        let Some(node) = node else { return default };
        match &node.value {
            Value::Bool(value) => *value,
            // As a substituted string may be.
            Value::Text(text) if text.typed.is_some() && matches!(&*text.text, "true" | "false") => text.text == "true",
            _ => {
                self.mismatch(node, "true or false", None);
                default
            }
        }
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&mut self, node: &Node, choices: &[(&str, T)]) -> Option<T> {
        let word = self.text(node)?;
        let found = choices.iter().find(|(name, _)| *name == word);
        if found.is_none() {
            let hint = hint_among(word, "it is one of", choices.iter().map(|(name, _)| *name));
            self.error_with(node, format!("unknown word {}", node.shown()), hint);
        }
        found.map(|(_, value)| *value)
    }

    fn in_range<T: PartialOrd>(
        &mut self,
        node: &Node,
        value: Option<T>,
        default: T,
        range: &RangeInclusive<T>,
        wanted: impl Fn() -> String,
        hint: Option<&str>,
    ) -> T {
        match value {
            Some(value) if range.contains(&value) => value,
            _ => {
                self.mismatch(node, wanted(), hint);
                default
            }
        }
    }

    /// Reports that the node is something else, unless it was reported already.
    pub fn mismatch(&mut self, node: &Node, wanted: impl Display, hint: Option<&str>) {
        if !matches!(node.value, Value::Invalid) {
            let message = format!("must be {wanted}, not {}", node.shown());
            self.error_with(node, message, hint.map(str::to_owned));
        }
    }
}
