//! Fields whose names come from the data, as in `level=info user=7`.
//!
//! Log lines look like the lines before. So each key remembers which key followed it, and the exact bytes of that one
//! with what stands before its value: a guess costs a comparison of sixteen bytes. Only where it fails is a key looked
//! up by its name.

use crate::out::{FieldId, Row};
use crate::time::{Cached, TimeField};
use crate::{Kind, Kinds};

/// What stands for the key before the first one.
const START: u32 = 0;

/// Longest key, with what stands before its value, that is guessed.
const LONGEST: usize = 2 * WORD;

const WORD: usize = 16;

/// Keys that are remembered before all are forgotten.
const MOST: usize = 4096;

/// Number of variants of [`Kind`].
const KINDS: usize = 5;

/// What the settings of a parser say of the keys that it will meet.
#[derive(Default)]
pub struct Options {
    /// What is put before each key to make the field's name.
    pub prefix: String,
    /// Kinds of fields, by the fields' names.
    pub types: Kinds,
    /// Whether values of other fields are numbers or booleans where they look so; else they are text.
    pub guess: bool,
    /// Only these keys become fields; empty: all.
    pub include: Vec<String>,
    /// These keys do not become fields.
    pub exclude: Vec<String>,
    /// Which field has the event's time.
    pub time: Option<TimeField>,
}

/// A key that was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId(u32);

/// All keys that were met. Of a key that an event has twice, the last value counts, in the place of the first.
pub struct Keys {
    list: Vec<Key>,
    /// Indices of `list`, sorted by text. A hash map would be a tenth of a small plugin.
    sorted: Vec<u32>,
    options: Options,
    time: Option<Cached>,
    /// The key that was met last in this event.
    last: u32,
    /// The number of the event, to see which keys it has had.
    event: u64,
    /// Cells of the event's row so far.
    cells: usize,
}

struct Key {
    /// As it stands in the data.
    own: Vec<u8>,
    /// The name of its field.
    name: String,
    /// Whether it becomes a field.
    keep: bool,
    /// The kind that the settings give it.
    kind: Option<Kind>,
    is_time: bool,
    /// The field of each kind that its values had.
    fields: [Option<FieldId>; KINDS],
    /// The last event that had it, by number.
    event: u64,
    /// Index of its cell in that event.
    cell: usize,
    /// The keys that followed it last.
    next: [u32; 2],
    /// Its bytes and those before its value, filled up with zeros.
    text: [u128; LONGEST / WORD],
    /// Which bits of `text` count.
    mask: [u128; LONGEST / WORD],
    /// Bytes of `text`; none: it cannot be guessed.
    len: usize,
}

impl Key {
    fn new(own: Vec<u8>, name: String) -> Self {
        Key {
            own,
            name,
            keep: true,
            kind: None,
            is_time: false,
            fields: [None; KINDS],
            event: 0,
            cell: 0,
            next: [START; 2],
            text: [0; 2],
            mask: [0; 2],
            len: 0,
        }
    }

    fn learn(&mut self, text: &[u8]) {
        if text.len() > LONGEST {
            return;
        }
        self.len = text.len();
        let word = |bytes: &[u8; LONGEST], i: usize| {
            u128::from_le_bytes(bytes[i * WORD..][..WORD].try_into().expect("a word has its length"))
        };
        let (mut filled, mut ones) = ([0; LONGEST], [0; LONGEST]);
        filled[..text.len()].copy_from_slice(text);
        ones[..text.len()].fill(0xff);
        self.text = [word(&filled, 0), word(&filled, 1)];
        self.mask = [word(&ones, 0), word(&ones, 1)];
    }

    #[inline(always)]
    fn is_at(&self, data: &[u8], at: usize, end: usize) -> bool {
        let word = |at: usize| data.get(at..at + WORD).map(|w| u128::from_le_bytes(w.try_into().expect("a word")));
        let Some(first) = word(at) else { return false };
        if (first ^ self.text[0]) & self.mask[0] != 0 || self.len == 0 || at + self.len > end {
            return false;
        }
        self.len <= WORD || word(at + WORD).is_some_and(|second| (second ^ self.text[1]) & self.mask[1] == 0)
    }
}

impl Keys {
    /// None were met yet. The error says which option is wrong.
    pub fn new(options: Options) -> Result<Self, String> {
        let time = options.time.as_ref().map(TimeField::reader).transpose()?;
        let list = vec![Key::new(Vec::new(), String::new())];
        Ok(Keys { list, sorted: Vec::new(), options, time, last: START, event: 0, cells: 0 })
    }

    /// Begins an event whose row has the cells that it has.
    #[inline]
    pub fn begin(&mut self, row: &Row) {
        self.event += 1;
        self.last = START;
        self.cells = row.len();
        if self.list.len() > MOST {
            self.list.truncate(1);
            self.list[0].next = [START; 2];
            self.sorted.clear();
        }
    }

    /// The key at `at`, if it is one that stood there before; and where its value begins.
    #[inline(always)]
    pub fn guess(&mut self, data: &[u8], at: usize, end: usize) -> Option<(KeyId, usize)> {
        let [likely, other] = self.list[self.last as usize].next;
        let found = if self.list[likely as usize].is_at(data, at, end) {
            likely
        } else if self.list[other as usize].is_at(data, at, end) {
            other
        } else {
            return None;
        };
        self.last = found;
        Some((KeyId(found), at + self.list[found as usize].len))
    }

    /// The key whose name is `data[start..end]`, and whose value begins at `value`.
    #[inline(never)]
    pub fn read(&mut self, data: &[u8], start: usize, end: usize, value: usize) -> KeyId {
        let key = self.find(&data[start..end]);
        self.list[key as usize].learn(&data[start..value]);
        let next = &mut self.list[self.last as usize].next;
        if next[0] != key {
            *next = [key, next[0]];
        }
        self.last = key;
        KeyId(key)
    }

    /// The key of that name, wherever it stands.
    pub fn named(&mut self, name: &[u8]) -> KeyId {
        KeyId(self.find(name))
    }

    fn find(&mut self, name: &[u8]) -> u32 {
        let place = match self.sorted.binary_search_by(|id| self.list[*id as usize].own[..].cmp(name)) {
            Ok(found) => return self.sorted[found],
            Err(place) => place,
        };
        let own = String::from_utf8_lossy(name);
        let Options { prefix, types, include, exclude, time, .. } = &self.options;
        let has = |list: &[String]| list.iter().any(|key| *key == *own);
        let mut key = Key::new(name.to_vec(), format!("{prefix}{own}"));
        key.keep = (include.is_empty() || has(include)) && !has(exclude);
        key.kind = types.get(&key.name).copied();
        key.is_time = time.as_ref().is_some_and(|time| time.field == key.name);
        let id = self.list.len() as u32;
        self.list.push(key);
        self.sorted.insert(place, id);
        id
    }

    /// Puts the cell of a value that is `data[start..end]`, with the kind of its field.
    #[inline(always)]
    pub fn put(&mut self, row: &mut Row, key: KeyId, data: &[u8], start: usize, end: usize) {
        let guess = self.options.guess;
        let kind = self.list[key.0 as usize].kind;
        let kind = kind.unwrap_or_else(|| if guess { Kind::guess(&data[start..end]) } else { Kind::Text });
        self.put_kind(row, key, kind, data, start, end);
    }

    /// As [`Keys::put`], for a value that is of this kind unless the settings say otherwise.
    #[inline(always)]
    pub fn put_as(&mut self, row: &mut Row, key: KeyId, kind: Kind, data: &[u8], start: usize, end: usize) {
        let kind = self.list[key.0 as usize].kind.unwrap_or(kind);
        self.put_kind(row, key, kind, data, start, end);
    }

    #[inline(always)]
    fn put_kind(&mut self, row: &mut Row, key: KeyId, kind: Kind, data: &[u8], start: usize, end: usize) {
        let Some((field, over)) = self.cell(row, key, kind) else { return };
        row.span(field, start, end);
        self.end(row, over);
        if self.list[key.0 as usize].is_time
            && let Some(reader) = &mut self.time
            && let Some(time) = reader.read(&data[start..end])
        {
            row.time(time);
        }
    }

    /// Puts the cell of a value of new bytes, which is of this kind unless the settings say otherwise: what `write`
    /// appends.
    #[inline(never)]
    pub fn make(&mut self, row: &mut Row, key: KeyId, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) {
        let kind = self.list[key.0 as usize].kind.unwrap_or(kind);
        let Some((field, over)) = self.cell(row, key, kind) else { return };
        let reader = self.time.as_mut().filter(|_| self.list[key.0 as usize].is_time);
        let mut time = None;
        row.make(field, |made| {
            let from = made.len();
            write(made);
            time = reader.and_then(|reader| reader.read(&made[from..]));
        });
        self.end(row, over);
        if let Some(time) = time {
            row.time(time);
        }
    }

    /// The field for a value of this key, and the cell that it takes the place of; none if it is left out.
    #[inline(always)]
    fn cell(&mut self, row: &mut Row, key: KeyId, kind: Kind) -> Option<(FieldId, Option<usize>)> {
        let key = &mut self.list[key.0 as usize];
        if !key.keep {
            return None;
        }
        let field = match key.fields[kind as usize] {
            Some(field) => field,
            None => *key.fields[kind as usize].insert(row.fields().add(&key.name, kind)),
        };
        if key.event == self.event {
            return Some((field, Some(key.cell)));
        }
        key.event = self.event;
        key.cell = self.cells;
        Some((field, None))
    }

    #[inline(always)]
    fn end(&mut self, row: &mut Row, over: Option<usize>) {
        match over {
            Some(cell) => row.move_last(cell),
            None => self.cells += 1,
        }
    }
}
