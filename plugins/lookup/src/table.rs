//! A table in memory: each value once, and rows found by their keys.

use std::collections::HashMap;

use csv::{ByteRecord, ReaderBuilder};
use weir_plugin::network::{Network, parse_address};
use weir_plugin::prelude::*;

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
        let mut reader = ReaderBuilder::new().delimiter(separator).from_reader(bytes);
        let names = reader.headers().map_err(|e| e.to_string())?.clone();
        let place = |name: &str| {
            let known = || names.iter().collect::<Vec<_>>().join(", ");
            names.iter().position(|n| n == name).ok_or_else(|| format!("it has no column `{name}`, but {}", known()))
        };
        let key = place(key)?;
        let places = match wanted {
            Some(wanted) => wanted.iter().map(|name| place(name)).collect::<Result<Vec<_>, _>>()?,
            None => (0..names.len()).filter(|column| *column != key).collect(),
        };
        let columns = places.iter().map(|column| names[*column].to_owned()).collect();
        let mut filler = Filler::default();
        let (mut exact, mut networks) = (HashMap::new(), Vec::new());
        let mut record = ByteRecord::new();
        let mut rows = 0;
        while reader.read_byte_record(&mut record).map_err(|e| e.to_string())? {
            match how {
                Match::Exact => {
                    exact.insert(record[key].to_vec(), rows);
                }
                Match::Network => {
                    let text = String::from_utf8_lossy(&record[key]);
                    let line = record.position().map_or(0, csv::Position::line);
                    networks.push((Network::parse(text.trim()).map_err(|e| format!("line {line}: {e}"))?, rows));
                }
            }
            for column in &places {
                filler.add(&record[*column]);
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
