//! logfmt: lines of `key=value` pairs, as Go programs and Heroku write them. See the README for the settings.

use weir_plugin::escape;
use weir_plugin::keys::{Keys, Options};
use weir_plugin::prelude::*;
use weir_plugin::scan::{find_in, find2};
use weir_plugin::time::TimeField;

weir_plugin::export!(Logfmt, name = "logfmt");

/// Settings of the plugin.
#[derive(Default, Deserialize, Settings)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether values without quotes that look like numbers or booleans are such, rather than text.
    pub guess_types: bool,
    /// Kinds of fields that are not text, whatever they look like: integer, float, boolean or json.
    pub types: Kinds,
    /// What becomes of keys without a value.
    pub bare_keys: BareKeys,
    /// Where the event's time is.
    pub time: Option<TimeField>,
    /// The field that is read.
    pub field: Source,
}

/// What becomes of keys without a value.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq, Settings)]
#[serde(rename_all = "snake_case")]
pub enum BareKeys {
    /// They are fields that are true.
    #[default]
    Keep,
    /// They are left out.
    Drop,
    /// Their lines fail.
    Fail,
}

/// The plugin.
pub struct Logfmt {
    source: Source,
    bare_keys: BareKeys,
    keys: Keys,
}

impl Plugin for Logfmt {
    type Settings = Config;

    fn new(config: Config, _: &mut Fields) -> Result<Self, String> {
        let Config { guess_types, types, bare_keys, time, field } = config;
        let keys = Keys::new(Options { types, guess: guess_types, time, ..Options::default() })?;
        Ok(Logfmt { source: field, bare_keys, keys })
    }

    #[inline]
    fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure> {
        self.source.pass_others(event, row);
        let (start, end) = self.source.span(event)?;
        self.line(event.data(), start, end, row)?;
        Ok(Keep)
    }
}

/// What ends a key or a value without quotes: white space and other control characters.
const BLANK: (u8, u8) = (0, b' ');

impl Logfmt {
    /// Puts the pairs of the line that is `data[at..end]`.
    #[inline]
    fn line(&mut self, data: &[u8], mut at: usize, end: usize, row: &mut Row) -> Result<(), &'static str> {
        self.keys.begin(row);
        let mut pairs = 0;
        loop {
            let (key, value) = match self.keys.guess(data, at, end) {
                Some(found) => found,
                None => {
                    while at < end && data[at] <= b' ' {
                        at += 1;
                    }
                    if at == end {
                        break;
                    }
                    let stop = key_end(data, at, end)?;
                    if stop == end || data[stop] != b'=' {
                        self.bare(data, at, stop, row)?;
                        at = stop;
                        continue;
                    }
                    (self.keys.read(data, at, stop, stop + 1), stop + 1)
                }
            };
            pairs += 1;
            if value < end && data[value] == b'"' {
                let quote = find2(data, value + 1, end, b'"', b'\\').ok_or(NOT_CLOSED)?;
                if data[quote] == b'"' {
                    self.keys.put_as(row, key, Kind::Text, data, value + 1, quote);
                    at = quote + 1;
                } else {
                    let quote = closing_quote(data, quote, end)?;
                    self.keys.make(row, key, Kind::Text, |made| escape::append(&data[value + 1..quote], made));
                    at = quote + 1;
                }
                if at < end && data[at] > b' ' {
                    return Err("bytes behind a closing quote");
                }
            } else {
                at = find_in(data, value, end, &[BLANK]).unwrap_or(end);
                self.keys.put(row, key, data, value, at);
            }
            // Nearly always one space, and then the next key.
            at += usize::from(at < end);
        }
        if pairs > 0 { Ok(()) } else { Err("no key=value") }
    }

    #[inline(never)]
    fn bare(&mut self, data: &[u8], at: usize, end: usize, row: &mut Row) -> Result<(), &'static str> {
        match self.bare_keys {
            BareKeys::Keep => {
                let key = self.keys.named(&data[at..end]);
                self.keys.make(row, key, Kind::Boolean, |made| made.extend_from_slice(b"true"));
            }
            BareKeys::Drop => {}
            BareKeys::Fail => return Err("a key without a value"),
        }
        Ok(())
    }
}

const NOT_CLOSED: &str = "a quote is not closed";

/// Where the key that begins at `at` ends: before `=`, white space or the end of the line.
fn key_end(data: &[u8], at: usize, end: usize) -> Result<usize, &'static str> {
    let stop = find_in(data, at, end, &[BLANK, (b'"', b'"'), (b'=', b'=')]).unwrap_or(end);
    if stop < end && data[stop] == b'"' {
        return Err("a quote in a key");
    }
    if stop == at {
        return Err("a value without a key");
    }
    Ok(stop)
}

/// Where the quote is that ends a value; `at` is a backslash in it.
#[inline(never)]
fn closing_quote(data: &[u8], mut at: usize, end: usize) -> Result<usize, &'static str> {
    loop {
        let found = find2(data, at + 2, end, b'"', b'\\').ok_or(NOT_CLOSED)?;
        if data[found] == b'"' {
            return Ok(found);
        }
        at = found;
    }
}

#[cfg(test)]
mod tests;
