//! Which field a parser reads.

use serde::{Deserialize, Deserializer};

use crate::Settings;
use crate::event::{CONTENT, Event};
use crate::out::Row;
use crate::plugin::Failure;
use crate::schema::Schema;
use crate::settings::{Reader, Refusal};

/// The usual setting `field` of a parser: the name of the field that it reads; `content` unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    name: String,
    is_content: bool,
}

impl Default for Source {
    fn default() -> Self {
        Source::new(CONTENT)
    }
}

impl Source {
    /// The field of that name.
    pub fn new(name: &str) -> Self {
        Source { name: name.to_owned(), is_content: name == CONTENT }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the field of this event lies in [`Event::data`]. An event without it fails; of `content`, it is as if it
    /// were empty.
    #[inline]
    pub fn span(&self, event: &Event) -> Result<(usize, usize), Failure> {
        if self.is_content { Ok(event.content_span()) } else { self.other_span(event) }
    }

    #[inline(never)]
    fn other_span(&self, event: &Event) -> Result<(usize, usize), Failure> {
        event.span(&self.name).ok_or_else(|| format!("no field `{}`", self.name).into())
    }

    /// Passes on all fields of the event but this one.
    #[inline]
    pub fn pass_others(&self, event: &Event, row: &mut Row) {
        row.pass_all_but(event, &self.name);
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|name| Source::new(&name))
    }
}

impl Settings for Source {
    const SCHEMA: Schema = Schema::String;

    fn read(value: Reader) -> Result<Self, Refusal> {
        String::read(value).map(|name| Source::new(&name))
    }
}
