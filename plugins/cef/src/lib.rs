//! ArcSight's Common Event Format. See the README for the settings.

use weir_plugin::keys::{KeyId, Keys, Options};
use weir_plugin::prelude::*;
use weir_plugin::scan::{find, find2};
use weir_plugin::time::TimeField;

weir_plugin::export!(Cef, name = "cef");

/// Settings of the plugin.
#[derive(Deserialize, Settings)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is put before each key of the extension to make the field's name.
    pub prefix: String,
    /// Whether values of the extension that look like numbers or booleans are such, rather than text.
    pub guess_types: bool,
    /// Kinds of the extension's fields, whatever they look like: text, integer, float, boolean or json.
    pub types: Kinds,
    /// Where the event's time is.
    pub time: Option<TimeField>,
    /// The field that is read.
    pub field: Source,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            prefix: String::new(),
            guess_types: false,
            types: Kinds::default(),
            time: Some(TimeField { field: "rt".to_owned(), format: "unix_ms".to_owned() }),
            field: Source::default(),
        }
    }
}

/// What a header is made of behind `CEF:`, each part with the reason of a line that ends in it.
const HEADER: [(&str, &str); 7] = [
    ("cef_version", "the header ends after the version"),
    ("device_vendor", "the header ends after the device's vendor"),
    ("device_product", "the header ends after the device's product"),
    ("device_version", "the header ends after the device's version"),
    ("signature_id", "the header ends after the signature's id"),
    ("name", "the header ends after the name"),
    ("severity", "the header ends after the severity"),
];

/// The plugin.
pub struct Cef {
    source: Source,
    syslog: FieldId,
    header: [FieldId; HEADER.len()],
    keys: Keys,
}

impl Plugin for Cef {
    type Settings = Config;

    fn new(config: Config, fields: &mut Fields) -> Result<Self, String> {
        let Config { prefix, guess_types, types, time, field } = config;
        Ok(Cef {
            source: field,
            syslog: fields.add("syslog", Kind::Text),
            header: HEADER.map(|(name, _)| fields.add(name, Kind::Text)),
            keys: Keys::new(Options { prefix, types, guess: guess_types, time, ..Options::default() })?,
        })
    }

    #[inline]
    fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure> {
        self.source.pass_others(event, row);
        let (start, end) = self.source.span(event)?;
        let data = event.data();
        let at = self.header(data, start, end, row)?;
        self.extension(data, at, end, row)?;
        Ok(Keep)
    }
}

impl Cef {
    /// Puts the header, and says where the extension begins.
    #[inline]
    fn header(&self, data: &[u8], start: usize, end: usize, row: &mut Row) -> Result<usize, &'static str> {
        let mut at = mark(data, start, end).ok_or("no CEF: at a word's start")?;
        if at > start {
            row.span(self.syslog, start, at - usize::from(data[at - 1] == b' '));
        }
        at += "CEF:".len();
        for (field, (_, reason)) in self.header.iter().zip(HEADER) {
            let (stop, escaped) = end_of(data, at, end, b'|').ok_or(reason)?;
            if escaped {
                row.make(*field, |made| unescape(&data[at..stop], made));
            } else {
                row.span(*field, at, stop);
            }
            at = stop + 1;
        }
        Ok(at)
    }

    /// Puts the pairs of the extension that is `data[at..end]`: a value goes on up to the next key.
    #[inline]
    fn extension(&mut self, data: &[u8], mut at: usize, mut end: usize, row: &mut Row) -> Result<(), &'static str> {
        while at < end && data[at] == b' ' {
            at += 1;
        }
        while end > at && data[end - 1] <= b' ' {
            end -= 1;
        }
        self.keys.begin(row);
        let mut next = if at < end {
            Some(self.key(data, at, end).ok_or("the extension does not begin with key=")?)
        } else {
            None
        };
        while let Some((key, value)) = next {
            let (stop, escaped, following) = self.value(data, value, end);
            if escaped {
                self.keys.make(row, key, Kind::Text, |made| unescape(&data[value..stop], made));
            } else {
                self.keys.put(row, key, data, value, stop);
            }
            next = following;
        }
        Ok(())
    }

    /// The key at `at`, and where its value begins.
    #[inline]
    fn key(&mut self, data: &[u8], at: usize, end: usize) -> Option<(KeyId, usize)> {
        if let Some(found) = self.keys.guess(data, at, end) {
            return Some(found);
        }
        let mut stop = at;
        while stop < end && is_of_key(data[stop]) {
            stop += 1;
        }
        let is_key = stop > at && stop < end && data[stop] == b'=';
        is_key.then(|| (self.keys.read(data, at, stop, stop + 1), stop + 1))
    }

    /// For the value that begins at `at`: where it ends, whether it has an escape, and the key behind it.
    #[inline]
    fn value(&mut self, data: &[u8], mut at: usize, end: usize) -> (usize, bool, Option<(KeyId, usize)>) {
        let mut escaped = false;
        loop {
            match find2(data, at, end, b' ', b'\\') {
                Some(found) if data[found] == b'\\' => {
                    escaped = true;
                    at = found + 2;
                }
                Some(found) => {
                    if let Some(next) = self.key(data, found + 1, end) {
                        return (found, escaped, Some(next));
                    }
                    at = found + 1;
                }
                None => return (end, escaped, None),
            }
        }
    }
}

/// Where `CEF:` is: at the start, or behind a space.
fn mark(data: &[u8], start: usize, end: usize) -> Option<usize> {
    let mut at = start;
    loop {
        if data[at..end].starts_with(b"CEF:") {
            return Some(at);
        }
        at = find(data, at, end, b' ')? + 1;
    }
}

/// Where the byte is that ends what begins at `at`, and whether there is a backslash, which protects it.
#[inline]
fn end_of(data: &[u8], mut at: usize, end: usize, byte: u8) -> Option<(usize, bool)> {
    let mut escaped = false;
    loop {
        let found = find2(data, at, end, byte, b'\\')?;
        if data[found] == byte {
            return Some((found, escaped));
        }
        escaped = true;
        at = found + 2;
    }
}

/// Whether a key may have the byte: letters and digits by the standard, the others in practice.
#[inline]
fn is_of_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'[' | b']' | b':')
}

/// Appends a value with `\\`, `\|`, `\=`, `\n` and `\r` undone; what is no escape stays.
fn unescape(mut value: &[u8], out: &mut Vec<u8>) {
    while let Some(backslash) = find(value, 0, value.len(), b'\\') {
        out.extend_from_slice(&value[..backslash]);
        let (byte, used) = match value.get(backslash + 1) {
            Some(c @ (b'\\' | b'|' | b'=')) => (*c, 2),
            Some(b'n') => (b'\n', 2),
            Some(b'r') => (b'\r', 2),
            _ => (b'\\', 1),
        };
        out.push(byte);
        value = &value[backslash + used..];
    }
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests;
