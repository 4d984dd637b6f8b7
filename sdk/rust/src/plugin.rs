//! What an author implements.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

use crate::event::{Batch, Event};
use crate::out::{Fields, Out, Row};
use crate::schema::Schema;
use crate::settings::{Reader, Refusal};

/// Settings of a plugin: what serde reads from the JSON in the agent's configuration, with a schema.
/// Derived: `#[derive(Deserialize, Settings)]`.
pub trait Settings: DeserializeOwned {
    /// What is accepted.
    const SCHEMA: Schema;

    /// Reads it; by serde unless derived, which comes to the same.
    fn read(value: Reader) -> Result<Self, Refusal> {
        Self::deserialize(value)
    }
}

/// The settings of a plugin that has none.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

impl Settings for NoSettings {
    const SCHEMA: Schema = Schema::Object { properties: &[], closed: true };

    fn read(value: Reader) -> Result<Self, Refusal> {
        value.object("NoSettings", &[], true).map(|_| NoSettings {})
    }
}

/// A plugin that looks at one event at a time.
pub trait Plugin: Sized {
    /// What its user may set; [`NoSettings`] for nothing.
    type Settings: Settings + serde::de::DeserializeOwned;

    /// Checks the settings and names the fields that the plugin will make. An error is shown to the one who
    /// wrote the settings.
    fn new(settings: Self::Settings, fields: &mut Fields) -> Result<Self, String>;

    /// Puts the event's cells into `row`. What was put is forgotten if the event is dropped or fails.
    fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure>;
}

/// A plugin that looks at a batch at a time: to join events, to split them, or to hold some back.
pub trait BatchPlugin: Sized {
    /// What its user may set; [`NoSettings`] for nothing.
    type Settings: Settings + serde::de::DeserializeOwned;

    /// As [`Plugin::new`].
    fn new(settings: Self::Settings, fields: &mut Fields) -> Result<Self, String>;

    /// Turns the input into output, in order. Each input event must be kept by [`Out::keep`], failed by
    /// [`Out::fail`] or held by [`Out::hold`]; the others count as dropped. `last` says that nothing will
    /// follow, so that holding is of no use.
    fn batch(&mut self, input: &Batch, last: bool, out: &mut Out);
}

impl<P: Plugin> BatchPlugin for P {
    type Settings = P::Settings;

    fn new(settings: Self::Settings, fields: &mut Fields) -> Result<Self, String> {
        Plugin::new(settings, fields)
    }

    #[inline]
    fn batch(&mut self, input: &Batch, _last: bool, out: &mut Out) {
        for i in 0..input.len() {
            let event = input.event(i);
            match self.event(&event, &mut out.row(&event)) {
                Ok(Fate::Keep) => out.keep(i, i + 1),
                Ok(Fate::Drop) => out.forget(),
                Err(failure) => out.fail(i, failure),
            }
        }
    }
}

/// What becomes of an event that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on, with the cells that were put.
    Keep,
    /// It is left out on purpose, and counted.
    Drop,
}

/// Why an event could not be processed. The host ships it unchanged, marked with this reason.
///
/// Keep the reasons few: say what kind of trouble it is, not which bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub Cow<'static, str>);

impl From<&'static str> for Failure {
    fn from(reason: &'static str) -> Self {
        Failure(Cow::Borrowed(reason))
    }
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Failure(Cow::Owned(reason))
    }
}
