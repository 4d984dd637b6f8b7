//! Keys and values between separators of the user's own. See the README for the settings.

mod splits;

use weir_plugin::escape;
use weir_plugin::keys::{KeyId, Keys, Options};
use weir_plugin::prelude::*;
use weir_plugin::scan::find2;
use weir_plugin::time::TimeField;

use splits::{Found, Splits};

weir_plugin::export!(Kv, name = "kv");

/// Settings of the plugin.
#[derive(Deserialize, Settings)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What stands between two pairs: one character or several.
    pub field_split: String,
    /// What stands between a key and its value: one character or several.
    pub value_split: String,
    /// Characters that may stand around a value, in pairs.
    pub quotes: String,
    /// Characters that are left out around keys, and around values that are not quoted.
    pub trim: String,
    /// What is put before each key to make the field's name.
    pub prefix: String,
    /// Only these keys become fields.
    pub include: Vec<String>,
    /// These keys do not become fields.
    pub exclude: Vec<String>,
    /// What becomes of pieces without a value.
    pub bare_keys: BareKeys,
    /// Whether values without quotes that look like numbers or booleans are such, rather than text.
    pub guess_types: bool,
    /// Kinds of fields that are not text, whatever they look like: integer, float, boolean or json.
    pub types: Kinds,
    /// Where the event's time is.
    pub time: Option<TimeField>,
    /// The field that is read.
    pub field: Source,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            field_split: " ".to_owned(),
            value_split: "=".to_owned(),
            quotes: "\"".to_owned(),
            trim: " \t\r".to_owned(),
            prefix: String::new(),
            include: Vec::new(),
            exclude: Vec::new(),
            bare_keys: BareKeys::default(),
            guess_types: false,
            types: Kinds::default(),
            time: None,
            field: Source::default(),
        }
    }
}

/// What becomes of pieces without a value.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq, Settings)]
#[serde(rename_all = "snake_case")]
pub enum BareKeys {
    /// They are left out.
    #[default]
    Drop,
    /// They are fields that are true.
    Keep,
    /// Their lines fail.
    Fail,
}

/// The plugin.
pub struct Kv {
    source: Source,
    splits: Splits,
    /// For each byte, whether it is a quote, and whether it is left out around keys and values.
    quotes: Box<[bool; 256]>,
    trim: Box<[bool; 256]>,
    bare_keys: BareKeys,
    keys: Keys,
}

impl Plugin for Kv {
    type Settings = Config;

    fn new(config: Config, _: &mut Fields) -> Result<Self, String> {
        let splits = Splits::new(&config.field_split, &config.value_split)?;
        let (quotes, trim) = (bytes("quotes", &config.quotes)?, bytes("trim", &config.trim)?);
        let Config { prefix, include, exclude, guess_types, types, time, .. } = config;
        let keys = Keys::new(Options { prefix, include, exclude, guess: guess_types, types, time })?;
        Ok(Kv { source: config.field, splits, quotes, trim, bare_keys: config.bare_keys, keys })
    }

    #[inline]
    fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure> {
        self.source.pass_others(event, row);
        let (start, end) = self.source.span(event)?;
        self.line(event.data(), start, end, row)?;
        Ok(Keep)
    }
}

/// A table of the characters.
fn bytes(setting: &str, characters: &str) -> Result<Box<[bool; 256]>, String> {
    let mut table = Box::new([false; 256]);
    for character in characters.chars() {
        if !character.is_ascii() {
            return Err(format!("{setting}: `{character}` is not an ASCII character"));
        }
        table[character as usize] = true;
    }
    Ok(table)
}

impl Kv {
    /// Puts the pairs of the text that is `data[at..end]`.
    #[inline]
    fn line(&mut self, data: &[u8], mut at: usize, end: usize, row: &mut Row) -> Result<(), &'static str> {
        self.keys.begin(row);
        let mut pairs = 0;
        while at < end {
            let (key, value) = match self.keys.guess(data, at, end) {
                Some(found) => found,
                None => match self.piece(data, at, end, row)? {
                    Piece::Pair(key, value) => (key, value),
                    Piece::Bare(next) => {
                        at = next;
                        continue;
                    }
                },
            };
            pairs += 1;
            at = self.value(key, data, value, end, row)?;
        }
        if pairs > 0 { Ok(()) } else { Err("no pair") }
    }

    /// Reads what no guess was right about.
    #[inline(never)]
    fn piece(&mut self, data: &[u8], at: usize, end: usize, row: &mut Row) -> Result<Piece, &'static str> {
        match self.splits.next(data, at, end) {
            Found::Value(split, value) => {
                let (start, stop) = self.trimmed(data, at, split);
                if start == stop {
                    return Err("a value without a key");
                }
                // What was trimmed before it is no part of a guess.
                Ok(Piece::Pair(self.keys.read(data, start, stop, value), value))
            }
            Found::Field(split, next) => {
                let (start, stop) = self.trimmed(data, at, split);
                match self.bare_keys {
                    _ if start == stop => {}
                    BareKeys::Drop => {}
                    BareKeys::Keep => {
                        let key = self.keys.named(&data[start..stop]);
                        self.keys.make(row, key, Kind::Boolean, |made| made.extend_from_slice(b"true"));
                    }
                    BareKeys::Fail => return Err("a key without a value"),
                }
                Ok(Piece::Bare(next))
            }
        }
    }

    /// Puts the value that begins at `at`, and says where the next piece begins.
    #[inline]
    fn value(
        &mut self,
        key: KeyId,
        data: &[u8],
        mut at: usize,
        end: usize,
        row: &mut Row,
    ) -> Result<usize, &'static str> {
        let next = self.splits.field(data, at, end);
        let mut stop = next.map_or(end, |(stop, _)| stop);
        while at < stop && self.trim[usize::from(data[at])] {
            at += 1;
        }
        let next = next.map_or(end, |(_, next)| next);
        if at < stop && self.quotes[usize::from(data[at])] {
            return self.quoted(key, data, at, end, row);
        }
        while stop > at && self.trim[usize::from(data[stop - 1])] {
            stop -= 1;
        }
        self.keys.put(row, key, data, at, stop);
        Ok(self.skip(data, next, end))
    }

    /// The same for a value whose quote is at `at`.
    #[inline(never)]
    fn quoted(&mut self, key: KeyId, data: &[u8], at: usize, end: usize, row: &mut Row) -> Result<usize, &'static str> {
        let (mut escaped, mut from) = (false, at + 1);
        let close = loop {
            let found = find2(data, from, end, data[at], b'\\').ok_or("a quote is not closed")?;
            if data[found] == data[at] {
                break found;
            }
            escaped = true;
            from = found + 2;
        };
        if escaped {
            self.keys.make(row, key, Kind::Text, |made| escape::append(&data[at + 1..close], made));
        } else {
            self.keys.put_as(row, key, Kind::Text, data, at + 1, close);
        }
        let (stop, next) = self.splits.field(data, close + 1, end).unwrap_or((end, end));
        let (start, stop) = self.trimmed(data, close + 1, stop);
        if start < stop { Err("bytes behind a closing quote") } else { Ok(self.skip(data, next, end)) }
    }

    /// Where the next key begins, if only what is trimmed stands before it.
    #[inline]
    fn skip(&self, data: &[u8], mut at: usize, end: usize) -> usize {
        while at < end && self.trim[usize::from(data[at])] && !self.splits.is_at(data, at, end) {
            at += 1;
        }
        at
    }

    fn trimmed(&self, data: &[u8], mut start: usize, mut end: usize) -> (usize, usize) {
        while start < end && self.trim[usize::from(data[start])] {
            start += 1;
        }
        while end > start && self.trim[usize::from(data[end - 1])] {
            end -= 1;
        }
        (start, end)
    }
}

enum Piece {
    /// A key, with the place where its value begins.
    Pair(KeyId, usize),
    /// No value, with the place where the next piece begins.
    Bare(usize),
}

#[cfg(test)]
mod tests;
