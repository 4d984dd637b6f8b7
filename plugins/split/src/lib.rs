//! One event with a list becomes many: each element of a JSON array, or each part between separators.

mod array;

use std::ops::Range;

use weir_plugin::escape;
use weir_plugin::event::Cell;
use weir_plugin::prelude::*;

use array::elements;

weir_plugin::export!(Split, name = "split");

/// What the plugin's user may set.
#[derive(Deserialize, Settings)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The field that has the list.
    field: String,
    /// What stands between the parts. If not given, the list is a JSON array.
    separator: Option<String>,
    /// The field that an element comes in; the same field if not given.
    into: Option<String>,
    /// A field for the element's place in the list, counted from 0.
    index: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config { field: "content".to_owned(), separator: None, into: None, index: None }
    }
}

/// The plugin.
pub struct Split {
    field: String,
    separator: Option<String>,
    into: String,
    index: Option<(String, FieldId)>,
    /// Where the elements of the list are that is looked at.
    elements: Vec<Range<usize>>,
}

impl BatchPlugin for Split {
    type Settings = Config;

    fn new(config: Config, fields: &mut Fields) -> Result<Self, String> {
        let Config { field, separator, into, index } = config;
        if separator.as_ref().is_some_and(String::is_empty) {
            return Err("separator: it must not be empty".to_owned());
        }
        let into = into.unwrap_or_else(|| field.clone());
        for name in [&into].into_iter().chain(&index) {
            Fields::check(name)?;
        }
        if index.as_ref().is_some_and(|index| *index == field || *index == into) {
            return Err("index: it must not be the name of `field` or `into`".to_owned());
        }
        let index = index.map(|name| {
            let field = fields.add(&name, Kind::Integer);
            (name, field)
        });
        Ok(Split { field, separator, into, index, elements: Vec::new() })
    }

    fn batch(&mut self, input: &Batch, _last: bool, out: &mut Out) {
        for i in 0..input.len() {
            let event = input.event(i);
            let Some(list) = event.get(&self.field) else {
                out.row(&event).pass_all(&event);
                out.keep(i, i + 1);
                continue;
            };
            match &self.separator {
                Some(separator) => {
                    let mut parts = list;
                    let mut index = 0;
                    while let Some((part, rest)) = next_part(parts, separator.as_bytes()) {
                        self.put(&event, i, index, Kind::Text, part, out);
                        parts = rest;
                        index += 1;
                    }
                    self.put(&event, i, index, Kind::Text, parts, out);
                }
                None => match elements(list, &mut self.elements) {
                    Some(()) => {
                        for (index, element) in self.elements.iter().enumerate() {
                            self.put_json(&event, i, index, &list[element.clone()], out);
                        }
                    }
                    None => out.fail(i, "not a JSON array"),
                },
            }
        }
    }
}

/// The part before the first separator, and what is behind it.
fn next_part<'a>(text: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(separator.len()).position(|window| window == separator)?;
    Some((&text[..at], &text[at + separator.len()..]))
}

impl Split {
    fn put_json(&self, event: &Event, i: usize, index: usize, element: &[u8], out: &mut Out) {
        let kind = match element {
            [b'"', text @ .., b'"'] if text.contains(&b'\\') => {
                let mut plain = Vec::with_capacity(text.len());
                escape::append(text, &mut plain);
                return self.put(event, i, index, Kind::Text, &plain, out);
            }
            [b'"', text @ .., b'"'] => return self.put(event, i, index, Kind::Text, text, out),
            other => match Kind::guess(other) {
                // Too many digits, an array, an object or null.
                Kind::Text => Kind::Json,
                plain => plain,
            },
        };
        self.put(event, i, index, kind, element, out);
    }

    /// An event with an element in the place of the list.
    fn put(&self, event: &Event, i: usize, index: usize, kind: Kind, element: &[u8], out: &mut Out) {
        let mut row = out.row(event);
        let into = row.fields().add(&self.into, kind);
        let is_list = |cell: &Cell| cell.name == self.field;
        let is_made = |name: &str| name == self.into || self.index.as_ref().is_some_and(|(index, _)| name == index);
        let list = event.cells().position(|cell| is_list(&cell));
        for (place, cell) in event.cells().enumerate() {
            if Some(place) == list {
                row.put(into, element);
                if let Some((_, field)) = &self.index {
                    row.make(*field, |made| made.extend_from_slice(index.to_string().as_bytes()));
                }
            } else if !is_list(&cell) && !is_made(cell.name) {
                row.pass(&cell);
            }
        }
        out.keep(i, i + 1);
    }
}

#[cfg(test)]
mod tests;
