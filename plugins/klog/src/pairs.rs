//! What klog's structured calls write: `"Message" key="value" other={"a":1}`.

use weir_plugin::escape;
use weir_plugin::keys::{KeyId, Keys, Options};
use weir_plugin::prelude::*;
use weir_plugin::scan::{find, find_in, find2};

const NOT_CLOSED: &str = "a quote is not closed";

/// The parser of messages and pairs.
pub struct Pairs {
    keys: Keys,
}

impl Pairs {
    pub fn new(prefix: String, guess: bool) -> Result<Self, String> {
        Ok(Pairs { keys: Keys::new(Options { prefix, guess, ..Options::default() })? })
    }

    /// Puts the message between quotes that begins at `at`, and the pairs behind it.
    #[inline]
    pub fn read(
        &mut self,
        data: &[u8],
        at: usize,
        end: usize,
        message: FieldId,
        row: &mut Row,
    ) -> Result<(), &'static str> {
        let (close, escaped) = quote(data, at + 1, end)?;
        if escaped {
            row.make(message, |made| escape::append(&data[at + 1..close], made));
        } else {
            row.span(message, at + 1, close);
        }
        self.keys.begin(row);
        let mut at = skip_blank(data, close + 1, end);
        while at < end {
            let (key, value) = match self.keys.guess(data, at, end) {
                Some(found) => found,
                None => {
                    let stop = find_in(data, at, end, &[(0, b' '), (b'=', b'=')]);
                    let stop = stop.filter(|stop| *stop > at && data[*stop] == b'=');
                    let stop = stop.ok_or("no key=value behind the message")?;
                    (self.keys.read(data, at, stop, stop + 1), stop + 1)
                }
            };
            at = skip_blank(data, self.value(key, data, value, end, row)?, end);
        }
        Ok(())
    }

    /// Puts the value at `at`, and says where it ends.
    #[inline]
    fn value(&mut self, key: KeyId, data: &[u8], at: usize, end: usize, row: &mut Row) -> Result<usize, &'static str> {
        match data[at..end].first() {
            Some(b'"') => {
                let (close, escaped) = quote(data, at + 1, end)?;
                if escaped {
                    self.keys.make(row, key, Kind::Text, |made| escape::append(&data[at + 1..close], made));
                } else {
                    self.keys.put_as(row, key, Kind::Text, data, at + 1, close);
                }
                Ok(close + 1)
            }
            Some(b'{' | b'[') => {
                let stop = nested(data, at, end)?;
                self.keys.put_as(row, key, Kind::Json, data, at, stop);
                Ok(stop)
            }
            Some(b'<') if data[at + 1..end].first() == Some(&b'\n') => {
                let stop = block(data, at + 2, end);
                self.keys.make(row, key, Kind::Text, |made| unindent(&data[at + 2..stop], made));
                Ok((stop + "\n >".len()).min(end))
            }
            _ => {
                let stop = find_in(data, at, end, &[(0, b' ')]).unwrap_or(end);
                self.keys.put(row, key, data, at, stop);
                Ok(stop)
            }
        }
    }
}

fn skip_blank(data: &[u8], mut at: usize, end: usize) -> usize {
    while at < end && data[at] <= b' ' {
        at += 1;
    }
    at
}

/// Where the quote is that ends the text which begins at `at`, and whether there are escapes in it.
#[inline]
fn quote(data: &[u8], mut at: usize, end: usize) -> Result<(usize, bool), &'static str> {
    let mut escaped = false;
    loop {
        let found = find2(data, at, end, b'"', b'\\').ok_or(NOT_CLOSED)?;
        if data[found] == b'"' {
            return Ok((found, escaped));
        }
        escaped = true;
        at = found + 2;
    }
}

/// Where the object or the list that begins at `at` ends: it is not checked for more than its brackets and quotes.
fn nested(data: &[u8], mut at: usize, end: usize) -> Result<usize, &'static str> {
    let mut depth = 0usize;
    while at < end {
        match data[at] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b'"' => (at, _) = quote(data, at + 1, end)?,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Ok(at);
        }
    }
    Err("a bracket is not closed")
}

/// Where the text of several lines that begins at `at` ends: before a line that is ` >`.
fn block(data: &[u8], mut at: usize, end: usize) -> usize {
    while let Some(line) = find(data, at, end, b'\n') {
        if data[line + 1..end].starts_with(b" >") {
            return line;
        }
        at = line + 1;
    }
    end
}

/// Appends lines without the tab that each begins with.
fn unindent(lines: &[u8], out: &mut Vec<u8>) {
    for (i, line) in lines.split(|b| *b == b'\n').enumerate() {
        if i > 0 {
            out.push(b'\n');
        }
        out.extend_from_slice(line.strip_prefix(b"\t").unwrap_or(line));
    }
}
