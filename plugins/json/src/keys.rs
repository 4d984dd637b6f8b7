//! The keys that lines have had, and the guess which one comes next.
//!
//! Log lines look like the lines before. So each key remembers the exact bytes that stood between the value
//! before and its own (`,"status": `) and which key followed it, and a guess costs one or two comparisons of
//! sixteen bytes. Only where all guesses fail is a key read byte by byte and looked up by its name.

use weir_plugin::Kind;
use weir_plugin::out::FieldId;

use crate::grammar::{Text, unescape};

/// The key above all: the one whose value is the line.
pub const ROOT: u32 = 0;

/// Longest text before a value that is remembered: longer ones are read anew.
const LONGEST: usize = 4 * WORD;

const WORD: usize = 16;

/// Keys that are remembered before all are forgotten.
const MOST: usize = 4096;

/// Number of variants of [`Kind`].
const KINDS: usize = 5;

/// Where a key stands: in the value of which key, and whether it is the first there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u32);

impl Place {
    const NOWHERE: Place = Place(u32::MAX);

    pub fn first_in(parent: u32) -> Self {
        Place(parent * 2 + 1)
    }

    pub fn further_in(parent: u32) -> Self {
        Place(parent * 2)
    }

    pub fn is_first(self) -> bool {
        self.0 % 2 == 1
    }

    pub fn parent(self) -> u32 {
        self.0 / 2
    }
}

/// One key, by the full name of its field.
pub struct Key {
    pub name: String,
    /// The field of each kind that its values had.
    pub fields: [Option<FieldId>; KINDS],
    /// The last event that had it, by number.
    pub event: u64,
    /// Index of its cell in that event.
    pub cell: usize,
    /// The keys that followed it last.
    next: [u32; 2],
    /// Where it stood when `text` was learned.
    place: Place,
    /// Bytes of `text`.
    len: usize,
    /// What stood between the value before and its own, filled up with zeros.
    text: [u128; LONGEST / WORD],
    /// Which bits of the last word of `text` count.
    mask: u128,
}

impl Key {
    fn new(name: String) -> Self {
        let place = Place::NOWHERE;
        Key { name, fields: [None; KINDS], event: 0, cell: 0, next: [ROOT; 2], place, len: 0, text: [0; 4], mask: 0 }
    }

    fn learn(&mut self, place: Place, text: &[u8]) {
        if text.len() > LONGEST {
            return;
        }
        self.place = place;
        self.len = text.len();
        self.text = [0; 4];
        for (word, bytes) in self.text.iter_mut().zip(text.chunks(WORD)) {
            let mut filled = [0; WORD];
            filled[..bytes.len()].copy_from_slice(bytes);
            *word = u128::from_le_bytes(filled);
            self.mask = u128::MAX >> (128 - 8 * bytes.len());
        }
    }

    /// Whether this key is at `at`.
    #[inline(always)]
    fn is_at(&self, place: Place, text: Text, at: usize) -> bool {
        if self.place != place || at + self.len > text.end {
            return false;
        }
        let mut rest = self.len;
        let mut at = at;
        for expected in &self.text {
            let Some(word) = text.data.get(at..at + WORD) else { return false };
            let word = u128::from_le_bytes(word.try_into().expect("a word has its length"));
            if rest <= WORD {
                return (word ^ *expected) & self.mask == 0;
            }
            if word != *expected {
                return false;
            }
            at += WORD;
            rest -= WORD;
        }
        false
    }
}

/// All keys.
pub struct Keys {
    pub list: Vec<Key>,
    /// Indices of `list`, sorted by name.
    sorted: Vec<u32>,
    name: String,
    own_name: Vec<u8>,
}

impl Keys {
    pub fn new() -> Self {
        Keys { list: vec![Key::new(String::new())], sorted: Vec::new(), name: String::new(), own_name: Vec::new() }
    }

    /// Whether the data has named so many that they should be forgotten.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.list.len() > MOST
    }

    /// The key at `at`, if it is one of those that followed `last` before; and where its value begins.
    #[inline(always)]
    pub fn guess(&self, last: u32, place: Place, text: Text, at: usize) -> Option<(u32, usize)> {
        let [likely, other] = self.list[last as usize].next;
        let key = &self.list[likely as usize];
        if key.is_at(place, text, at) {
            return Some((likely, at + key.len));
        }
        let key = &self.list[other as usize];
        key.is_at(place, text, at).then(|| (other, at + key.len))
    }

    /// Remembers that `key` came after `last`, behind this text.
    pub fn learn(&mut self, last: u32, key: u32, place: Place, text: &[u8]) {
        self.list[key as usize].learn(place, text);
        let next = &mut self.list[last as usize].next;
        if next[0] != key {
            *next = [key, next[0]];
        }
    }

    /// The key with this text in the object that is the value of `parent`.
    pub fn child(&mut self, parent: u32, separator: &str, text: &[u8], escaped: bool) -> u32 {
        self.name.clear();
        if parent != ROOT {
            self.name.push_str(&self.list[parent as usize].name);
            self.name.push_str(separator);
        }
        if escaped {
            self.own_name.clear();
            unescape(text, &mut self.own_name);
            self.name.push_str(&String::from_utf8_lossy(&self.own_name));
        } else {
            self.name.push_str(&String::from_utf8_lossy(text));
        }
        if text.is_empty() {
            self.name.push('_');
        }
        if self.name.starts_with("__") {
            // Such names belong to the host.
            let kept = self.name.trim_start_matches('_').len();
            self.name.drain(..self.name.len() - kept - 1);
        }
        self.named()
    }

    /// The key whose field has this full name.
    pub fn of_field(&mut self, name: &str) -> u32 {
        self.name.clear();
        self.name.push_str(name);
        self.named()
    }

    fn named(&mut self) -> u32 {
        let place = match self.sorted.binary_search_by(|key| self.list[*key as usize].name.cmp(&self.name)) {
            Ok(found) => return self.sorted[found],
            Err(place) => place,
        };
        let key = self.list.len() as u32;
        self.sorted.insert(place, key);
        self.list.push(Key::new(self.name.clone()));
        key
    }
}

/// The place of a kind in [`Key::fields`].
#[inline]
pub fn slot(kind: Kind) -> usize {
    kind as usize
}
