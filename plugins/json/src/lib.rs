//! A parser of JSON objects, one a line: each key becomes a field, each value a cell.
//!
//! Values are not copied: a cell is the span of the line where its value is. The walk over a line is here;
//! [`grammar`] knows where values end, and [`keys`] guesses the next key from the lines before.

mod grammar;
mod keys;

use weir_plugin::prelude::*;
use weir_plugin::time::{Cached, TimeField};

use grammar::{NO_COMMA, NOT_AN_OBJECT, Reason, TOO_DEEP, TRAILING, Text, unescape};
use keys::{Keys, Place, ROOT, slot};

weir_plugin::export!(Json, name = "json");

/// What the plugin's user may set.
#[derive(Deserialize, Settings)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which nested objects become fields of their own.
    expand: Expand,
    /// Where the event's time is.
    time: Option<TimeField>,
    /// What becomes of a key that an object has twice.
    duplicates: Duplicates,
    /// How deep objects and arrays may be nested, the line's object counted; deeper lines fail.
    max_depth: u32,
    /// The field that is read.
    field: Source,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            expand: Expand::default(),
            time: None,
            duplicates: Duplicates::Last,
            max_depth: 64,
            field: Source::default(),
        }
    }
}

/// Which nested objects become fields of their own.
#[derive(Deserialize, Settings)]
#[serde(default, deny_unknown_fields)]
pub struct Expand {
    /// So many levels of objects inside the line's; the others stay JSON.
    depth: u32,
    /// What stands between the names of the levels.
    separator: String,
}

impl Default for Expand {
    fn default() -> Self {
        Expand { depth: 0, separator: ".".to_owned() }
    }
}

/// What becomes of a key that an object has twice.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq, Settings)]
#[serde(rename_all = "snake_case")]
pub enum Duplicates {
    /// The last value counts, in the place of the first.
    Last,
    /// The first value counts.
    First,
    /// Each value becomes a cell.
    Keep,
}

/// The plugin.
pub struct Json {
    source: Source,
    expand_depth: usize,
    separator: String,
    duplicates: Duplicates,
    max_depth: usize,
    time: Option<Time>,
    keys: Keys,
    /// The number of the event, to see which keys it has had.
    event: u64,
    /// Around the current object: the keys whose values are objects, the outermost first.
    parents: Vec<u32>,
    /// For [`Text::nested`].
    open: Vec<bool>,
}

struct Time {
    field: String,
    key: u32,
    reader: Cached,
}

impl Plugin for Json {
    type Settings = Config;

    fn new(config: Config, _fields: &mut Fields) -> Result<Self, String> {
        if config.max_depth == 0 {
            return Err("max_depth must be at least 1, which is the line's object".to_owned());
        }
        let mut keys = Keys::new();
        let time = match config.time {
            Some(time) => Some(Time { key: keys.of_field(&time.field), reader: time.reader()?, field: time.field }),
            None => None,
        };
        Ok(Json {
            source: config.field,
            expand_depth: config.expand.depth as usize,
            separator: config.expand.separator,
            duplicates: config.duplicates,
            max_depth: config.max_depth as usize,
            time,
            keys,
            event: 0,
            parents: Vec::new(),
            open: Vec::new(),
        })
    }

    #[inline]
    fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure> {
        self.source.pass_others(event, row);
        let (start, end) = self.source.span(event)?;
        self.line(Text { data: event.data(), end }, start, row)?;
        Ok(Keep)
    }
}

/// What comes after a value.
enum Next {
    /// A key, with the place where its value begins.
    Key(u32, usize),
    /// The end of the object, here.
    End(usize),
}

impl Json {
    /// Puts the cells of the line that begins at `start`.
    #[inline]
    fn line(&mut self, text: Text, start: usize, row: &mut Row) -> Result<(), Reason> {
        self.begin();
        let mut cells = Cells { made: row.len(), row };
        let mut place = Place::first_in(ROOT);
        let mut last = ROOT;
        let mut at = start;
        loop {
            let next = match self.keys.guess(last, place, text, at) {
                Some((key, value)) => Next::Key(key, value),
                None if !place.is_first() && text.byte(at) == Ok(b'}') => Next::End(at),
                None => self.next_key(text, at, last, place)?,
            };
            match next {
                Next::Key(key, value) => {
                    last = key;
                    let nested = self.parents.len() < self.expand_depth;
                    if nested && let Some(inner) = self.enter(text, value)? {
                        self.parents.push(place.parent());
                        place = Place::first_in(key);
                        at = inner;
                    } else {
                        at = self.value(text, value, key, &mut cells)?;
                        place = Place::further_in(place.parent());
                    }
                }
                Next::End(end) => {
                    at = end + 1;
                    let Some(parent) = self.parents.pop() else { break };
                    place = Place::further_in(parent);
                }
            }
        }
        if text.skip_blank(at) == text.end { Ok(()) } else { Err(TRAILING) }
    }

    #[inline]
    fn begin(&mut self) {
        self.event += 1;
        self.parents.clear();
        if self.keys.is_full() {
            self.keys = Keys::new();
            if let Some(time) = &mut self.time {
                time.key = self.keys.of_field(&time.field);
            }
        }
    }

    /// Reads what no guess was right about: white space, a comma, the key.
    #[inline(never)]
    fn next_key(&mut self, text: Text, start: usize, last: u32, place: Place) -> Result<Next, Reason> {
        let mut at = text.skip_blank(start);
        if place == Place::first_in(ROOT) {
            let mark = text.data[start..text.end].starts_with("\u{feff}".as_bytes());
            at = text.skip_blank(if mark { start + 3 } else { at });
            if text.byte(at) != Ok(b'{') {
                return Err(NOT_AN_OBJECT);
            }
            at = text.skip_blank(at + 1);
            if text.byte(at)? == b'}' {
                return Ok(Next::End(at));
            }
        } else if !place.is_first() {
            match text.byte(at)? {
                b'}' => return Ok(Next::End(at)),
                b',' => at = text.skip_blank(at + 1),
                _ => return Err(NO_COMMA),
            }
        }
        let found = text.key(at)?;
        let name = &text.data[found.start..found.end];
        let key = self.keys.child(place.parent(), &self.separator, name, found.escaped);
        self.keys.learn(last, key, place, &text.data[start..found.value]);
        Ok(Next::Key(key, found.value))
    }

    /// If the value at `at` is an object that is not empty: where its inside begins.
    fn enter(&self, text: Text, at: usize) -> Result<Option<usize>, Reason> {
        let at = text.skip_blank(at);
        if text.byte(at)? != b'{' || text.byte(text.skip_blank(at + 1))? == b'}' {
            return Ok(None);
        }
        // The line's object, those around this one, and this one.
        if self.parents.len() + 2 > self.max_depth {
            return Err(TOO_DEEP);
        }
        Ok(Some(at + 1))
    }

    /// Puts the cell of the value at `at`, and says where the value ends.
    #[inline(always)]
    fn value(&mut self, text: Text, mut at: usize, key: u32, cells: &mut Cells) -> Result<usize, Reason> {
        let mut byte = text.byte(at)?;
        if byte <= b' ' {
            at = text.skip_blank(at);
            byte = text.byte(at)?;
        }
        let (end, kind) = match byte {
            b'"' => {
                let (end, escaped) = text.string(at + 1)?;
                if escaped {
                    self.put_escaped(text, at + 1, end, key, cells);
                } else {
                    self.put(text, at + 1, end, key, Kind::Text, cells);
                }
                return Ok(end + 1);
            }
            b'-' | b'0'..=b'9' => text.number(at)?,
            b'{' | b'[' => {
                let most = self.max_depth - 1 - self.parents.len();
                (text.nested(at, most, &mut self.open)?, Kind::Json)
            }
            _ => text.word(at)?,
        };
        self.put(text, at, end, key, kind, cells);
        Ok(end)
    }

    #[inline(always)]
    fn put(&mut self, text: Text, start: usize, end: usize, key: u32, kind: Kind, cells: &mut Cells) {
        let Some(cell) = self.cell(key, kind, cells) else { return };
        cells.row.span(cell.field, start, end);
        cells.end(cell);
        if let Some(time) = &mut self.time
            && time.key == key
            && matches!(kind, Kind::Text | Kind::Integer | Kind::Float)
            && let Some(time) = time.reader.read(&text.data[start..end])
        {
            cells.row.time(time);
        }
    }

    #[inline(never)]
    fn put_escaped(&mut self, text: Text, start: usize, end: usize, key: u32, cells: &mut Cells) {
        let Some(cell) = self.cell(key, Kind::Text, cells) else { return };
        let reader = self.time.as_mut().filter(|time| time.key == key).map(|time| &mut time.reader);
        let mut time = None;
        cells.row.make(cell.field, |made| {
            let from = made.len();
            unescape(&text.data[start..end], made);
            time = reader.and_then(|reader| reader.read(&made[from..]));
        });
        cells.end(cell);
        if let Some(time) = time {
            cells.row.time(time);
        }
    }

    /// The cell for a value of this key; none if the value does not count.
    #[inline(always)]
    fn cell(&mut self, key: u32, kind: Kind, cells: &mut Cells) -> Option<Cell> {
        let key = &mut self.keys.list[key as usize];
        let field = match key.fields[slot(kind)] {
            Some(field) => field,
            None => {
                let field = cells.row.fields().add(&key.name, kind);
                key.fields[slot(kind)] = Some(field);
                field
            }
        };
        if key.event != self.event {
            key.event = self.event;
            key.cell = cells.made;
            return Some(Cell { field, over: None });
        }
        match self.duplicates {
            Duplicates::Last => Some(Cell { field, over: Some(key.cell) }),
            Duplicates::First => None,
            Duplicates::Keep => Some(Cell { field, over: None }),
        }
    }
}

/// The row of an event, and how many cells it has.
struct Cells<'r, 'o, 'a> {
    row: &'r mut Row<'o, 'a>,
    made: usize,
}

/// A cell that is to be put, perhaps in the place of an earlier one.
struct Cell {
    field: FieldId,
    over: Option<usize>,
}

impl Cells<'_, '_, '_> {
    /// To be called when the cell was put.
    #[inline(always)]
    fn end(&mut self, cell: Cell) {
        match cell.over {
            Some(earlier) => self.row.move_last(earlier),
            None => self.made += 1,
        }
    }
}

#[cfg(test)]
mod tests;
