//! The patterns that come with the plugin.

use std::collections::BTreeMap;

const CORE: &str = include_str!("library/core.grok");
const PLAIN: &str = include_str!("library/plain.grok");
const ECS: &str = include_str!("library/ecs.grok");

/// Patterns by their names.
pub struct Library {
    patterns: BTreeMap<String, String>,
    /// Narrower patterns for the usual text, of those names and others; none if the user has changed what they rest on.
    fast: BTreeMap<String, String>,
    /// Whether fields have the names of the Elastic Common Schema.
    pub ecs: bool,
}

impl Library {
    /// The library with the user's patterns, which come before those of the library.
    pub fn new(ecs: bool, own: BTreeMap<String, String>) -> Result<Self, String> {
        let mut library = Library { patterns: BTreeMap::new(), fast: BTreeMap::new(), ecs };
        let lines = CORE.lines().chain(if ecs { ECS } else { PLAIN }.lines());
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (patterns, line) = match line.strip_prefix("fast ") {
                Some(line) => (&mut library.fast, line),
                None => (&mut library.patterns, line),
            };
            let (name, pattern) =
                line.split_once(' ').ok_or_else(|| format!("`{line}` of the library has no pattern"))?;
            patterns.insert(name.to_owned(), pattern.to_owned());
        }
        for (name, pattern) in own {
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(format!("definitions: `{name}` is not a name: letters of ASCII, digits and `_` only"));
            }
            if library.patterns.insert(name, pattern).is_some() {
                library.fast.clear();
            }
        }
        Ok(library)
    }

    /// The pattern of that name; where `fast` is true, the narrower one if there is one.
    pub fn get(&self, name: &str, fast: bool) -> Option<&str> {
        let narrow = if fast { self.fast.get(name) } else { None };
        narrow.or_else(|| self.patterns.get(name)).map(String::as_str)
    }

    /// Names of all patterns.
    #[cfg(test)]
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.patterns.keys().map(String::as_str)
    }
}
