//! A table in memory: each value once, and rows found by their keys.

use std::collections::HashMap;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use weir_plugin::network::{Network, parse_address};
use weir_plugin::prelude::*;
use weir_plugin::scan::find;

use crate::networks::Networks;

/// How a value finds its row.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq, Settings)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// It is the key.
    #[default]
    Exact,
    /// It is an IP address in the network that is the key; of several, in the smallest.
    Network,
}

/// Rows with their keys.
pub struct Table {
    columns: Vec<String>,
    keys: Keys,
    /// All values, one behind the other, and where each ends.
    text: Vec<u8>,
    ends: Vec<usize>,
    /// For each row, the values of its columns.
    cells: Vec<u32>,
}

enum Keys {
    Exact(HashMap<Vec<u8>, u32>),
    Networks(Networks),
}

impl Table {
    /// Reads CSV. The error names the line or the column that is wrong. Of rows with the same key the last one counts.
    pub fn read(
        bytes: &[u8],
        separator: u8,
        key: &str,
        how: Match,
        wanted: Option<&[String]>,
    ) -> Result<Table, String> {
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        check_quotes(bytes, separator)?;
        let mut records = Records::new(bytes, separator);
        let mut names = Vec::new();
        if records.next() {
            let line = records.line;
            for name in records.cells() {
                let name = std::str::from_utf8(name).map_err(|_| "the first line is not UTF-8")?;
                if names.iter().any(|other| other == name) {
                    return Err(format!("line {line}: the column `{name}` is there twice"));
                }
                names.push(name.to_owned());
            }
        }
        let place = |name: &str| {
            let place = names.iter().position(|n| n == name);
            place.ok_or_else(|| format!("it has no column `{name}`, but {}", names.join(", ")))
        };
        let key = place(key)?;
        let places = match wanted {
            Some(wanted) => wanted.iter().map(|name| place(name)).collect::<Result<Vec<_>, _>>()?,
            None => (0..names.len()).filter(|column| *column != key).collect(),
        };
        let columns = places.iter().map(|column| names[*column].clone()).collect();
        let mut filler = Filler::default();
        let (mut exact, mut networks) = (HashMap::new(), Vec::new());
        let mut rows = 0;
        while records.next() {
            let line = records.line;
            if records.len() != names.len() {
                return Err(format!(
                    "line {line}: it has {} columns, but the first line {}",
                    records.len(),
                    names.len()
                ));
            }
            match how {
                Match::Exact => {
                    exact.insert(records.cell(key).to_vec(), rows);
                }
                Match::Network => {
                    let text = String::from_utf8_lossy(records.cell(key));
                    networks.push((Network::parse(text.trim()).map_err(|e| format!("line {line}: {e}"))?, rows));
                }
            }
            for column in &places {
                filler.add(records.cell(*column));
            }
            rows += 1;
        }
        let keys = match how {
            Match::Exact => Keys::Exact(exact),
            Match::Network => Keys::Networks(Networks::new(networks)),
        };
        let Filler { text, ends, cells, .. } = filler;
        Ok(Table { columns, keys, text, ends, cells })
    }

    /// The names of the columns that were asked for.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The row that a value finds.
    pub fn find(&self, value: &[u8]) -> Option<u32> {
        match &self.keys {
            Keys::Exact(keys) => keys.get(value).copied(),
            Keys::Networks(networks) => networks.find(parse_address(value)?),
        }
    }

    /// The values of a row.
    pub fn row(&self, row: u32) -> impl Iterator<Item = &[u8]> {
        let first = row as usize * self.columns.len();
        self.cells[first..first + self.columns.len()].iter().map(|value| {
            let value = *value as usize;
            let start = if value == 0 { 0 } else { self.ends[value - 1] };
            &self.text[start..self.ends[value]]
        })
    }
}

/// Refuses quotes that the reader would take for something else: one that is never closed would make all that follows
/// one cell, and bytes behind a closing one would be joined to the cell.
fn check_quotes(bytes: &[u8], separator: u8) -> Result<(), String> {
    let ends_cell = |byte: &u8| *byte == separator || matches!(byte, b'\n' | b'\r');
    let line = |at: usize| 1 + bytes[..at].iter().filter(|b| **b == b'\n').count();
    let mut at = 0;
    while let Some(quote) = find(bytes, at, bytes.len(), b'"') {
        at = quote + 1;
        // Inside of a cell that does not begin with one it is a character like others.
        if quote > 0 && !ends_cell(&bytes[quote - 1]) {
            continue;
        }
        let close = loop {
            let Some(next) = find(bytes, at, bytes.len(), b'"') else {
                return Err(format!("line {}: a quote is not closed", line(quote)));
            };
            if bytes.get(next + 1) != Some(&b'"') {
                break next;
            }
            at = next + 2;
        };
        at = close + 1;
        if bytes.get(at).is_some_and(|byte| !ends_cell(byte)) {
            return Err(format!("line {}: bytes behind a closing quote", line(close)));
        }
    }
    Ok(())
}

/// The records of a text, one at a time. The crate `csv` around the same reader would be a tenth of the plugin.
struct Records<'b> {
    reader: Reader,
    rest: &'b [u8],
    /// The cells of the record, one behind the other, and where each ends: the first so many.
    text: Vec<u8>,
    ends: Vec<usize>,
    count: usize,
    /// The line that the record begins in.
    line: u64,
}

impl<'b> Records<'b> {
    fn new(bytes: &'b [u8], separator: u8) -> Self {
        let reader = ReaderBuilder::new().delimiter(separator).build();
        // No record has more bytes than there are.
        Records { reader, rest: bytes, text: vec![0; bytes.len()], ends: vec![0; 64], count: 0, line: 1 }
    }

    /// Goes on to the next record, if there is one.
    fn next(&mut self) -> bool {
        self.line = self.reader.line();
        let (mut texts, mut ends) = (0, 0);
        loop {
            let (result, read, written, ended) =
                self.reader.read_record(self.rest, &mut self.text[texts..], &mut self.ends[ends..]);
            self.rest = &self.rest[read..];
            (texts, ends) = (texts + written, ends + ended);
            match result {
                // What is read next is nothing, which is the end.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.text.resize(2 * self.text.len() + 1, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(2 * self.ends.len(), 0),
                ReadRecordResult::Record => {
                    self.count = ends;
                    return true;
                }
                ReadRecordResult::End => return false,
            }
        }
    }

    fn len(&self) -> usize {
        self.count
    }

    fn cell(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start..self.ends[index]]
    }

    fn cells(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.count).map(|index| self.cell(index))
    }
}

/// What fills a table: most values come many times.
#[derive(Default)]
struct Filler {
    known: HashMap<Vec<u8>, u32>,
    text: Vec<u8>,
    ends: Vec<usize>,
    cells: Vec<u32>,
}

impl Filler {
    fn add(&mut self, value: &[u8]) {
        let next = self.ends.len() as u32;
        let index = match self.known.get(value) {
            Some(index) => *index,
            None => {
                self.known.insert(value.to_vec(), next);
                self.text.extend_from_slice(value);
                self.ends.push(self.text.len());
                next
            }
        };
        self.cells.push(index);
    }
}
