//! A parser of lines that are columns between separators: CSV, TSV and their kin.

mod columns;

use std::collections::BTreeMap;

use memchr::memmem;
use weir_plugin::Kind;
use weir_plugin::prelude::*;
use weir_plugin::scan::Hits;
use weir_plugin::time::{Cached, TimeField};

use columns::{Column, Columns, LongHits, Separators, undouble};

weir_plugin::export!(Delimiter, name = "delimiter");

/// What the plugin's user may set.
#[derive(Deserialize, Settings)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The names of the columns, in order.
    fields: Vec<String>,
    /// What stands between two columns: one character or several.
    #[serde(default = "comma")]
    separator: String,
    /// What stands around a column that has separators in it, and twice for one in the column; null for nothing.
    #[serde(default = "double_quote")]
    quote: Option<char>,
    /// Kinds of fields that are not text: integer, float, boolean or json.
    #[serde(default)]
    types: BTreeMap<String, Kind>,
    /// What becomes of lines with less columns than fields.
    #[serde(default)]
    too_few: TooFew,
    /// What becomes of lines with more columns than fields.
    #[serde(default)]
    too_many: TooMany,
    /// Where the event's time is.
    time: Option<TimeField>,
    /// Whether white space around columns is left out.
    #[serde(default)]
    trim: bool,
}

fn comma() -> String {
    ",".to_owned()
}

fn double_quote() -> Option<char> {
    Some('"')
}

/// What becomes of lines with less columns than fields.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq, Settings)]
#[serde(rename_all = "snake_case")]
pub enum TooFew {
    /// They fail.
    #[default]
    Fail,
    /// The event has the fields that there are.
    Keep,
}

/// What becomes of lines with more columns than fields.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq, Settings)]
#[serde(rename_all = "snake_case")]
pub enum TooMany {
    /// They fail.
    #[default]
    Fail,
    /// The last field is the rest of the line, separators and all.
    Join,
    /// The columns too many are left out.
    Drop,
    /// The columns too many become fields `column_4`, `column_5`, …: the first column is number 1.
    Extend,
}

/// The plugin.
pub struct Delimiter {
    separator: Separator,
    quote: Option<u8>,
    trim: bool,
    row: Shape,
}

enum Separator {
    Byte(u8),
    Long(Box<memmem::Finder<'static>>),
}

/// How columns become cells.
struct Shape {
    fields: Vec<FieldId>,
    too_few: TooFew,
    too_many: TooMany,
    /// The fields of columns too many, as far as there have been any.
    extra: Vec<FieldId>,
    time: Option<Time>,
}

struct Time {
    column: usize,
    reader: Cached,
}

impl Plugin for Delimiter {
    type Settings = Config;

    fn new(config: Config, fields: &mut Fields) -> Result<Self, String> {
        let separator = match config.separator.as_bytes() {
            [] => return Err("separator must not be empty".to_owned()),
            [byte] => Separator::Byte(*byte),
            bytes => Separator::Long(Box::new(memmem::Finder::new(bytes).into_owned())),
        };
        let quote = match config.quote {
            Some(quote) if !quote.is_ascii() => return Err(format!("quote must be an ASCII character, not `{quote}`")),
            Some(quote) if config.separator.contains(quote) => {
                return Err(format!("quote: `{quote}` is in the separator"));
            }
            quote => quote.map(|quote| quote as u8),
        };
        let column = |setting: &str, name: &String| {
            let column = config.fields.iter().position(|field| field == name);
            column.ok_or_else(|| format!("{setting}: `{name}` is not one of the fields"))
        };
        for name in config.types.keys() {
            column("types", name)?;
        }
        let time = match &config.time {
            Some(time) => Some(Time { column: column("time", &time.field)?, reader: time.reader()? }),
            None => None,
        };
        Ok(Delimiter {
            separator,
            quote,
            trim: config.trim,
            row: Shape {
                fields: named(&config, fields)?,
                too_few: config.too_few,
                too_many: config.too_many,
                extra: Vec::new(),
                time,
            },
        })
    }

    #[inline]
    fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure> {
        row.pass_all_but(event, "content");
        let (data, (start, end)) = (event.data(), event.content_span());
        let (quote, trim) = (self.quote, self.trim);
        match &self.separator {
            Separator::Byte(byte) => {
                let separators = Hits::new(data, start, end, *byte);
                self.row.put(Columns { data, at: start, end, quote, trim, separator: 1, separators }, row)?;
            }
            Separator::Long(finder) => {
                let (separator, separators) = (finder.needle().len(), LongHits::new(data, start, end, finder));
                self.row.put(Columns { data, at: start, end, quote, trim, separator, separators }, row)?;
            }
        }
        Ok(Keep)
    }
}

fn named(config: &Config, fields: &mut Fields) -> Result<Vec<FieldId>, String> {
    if config.fields.is_empty() {
        return Err("fields must name at least one column".to_owned());
    }
    let mut ids = Vec::new();
    for (i, name) in config.fields.iter().enumerate() {
        Fields::check(name).map_err(|e| format!("fields: {e}"))?;
        if config.fields[..i].contains(name) {
            return Err(format!("fields: `{name}` is there twice"));
        }
        ids.push(fields.add(name, config.types.get(name).copied().unwrap_or(Kind::Text)));
    }
    Ok(ids)
}

impl Shape {
    /// Puts the cells of a line.
    #[inline(always)]
    fn put<S: Separators>(&mut self, mut columns: Columns<S>, row: &mut Row) -> Result<(), &'static str> {
        let mut count = 0;
        let mut more = true;
        while more {
            let mut column = columns.next()?;
            more = column.more;
            if count + 1 == self.fields.len() && more && self.too_many == TooMany::Join {
                column = columns.rest(&column);
                more = false;
            }
            let field = match self.fields.get(count) {
                Some(field) => *field,
                None => match self.too_many {
                    TooMany::Drop => return Ok(()),
                    TooMany::Extend => self.extra_field(count, row),
                    TooMany::Fail | TooMany::Join => return Err("too many columns"),
                },
            };
            self.put_cell(count, field, &columns, &column, row);
            count += 1;
        }
        if count < self.fields.len() && self.too_few == TooFew::Fail {
            return Err("too few columns");
        }
        Ok(())
    }

    #[inline(always)]
    fn put_cell<S>(&mut self, count: usize, field: FieldId, columns: &Columns<S>, column: &Column, row: &mut Row) {
        let reader = self.time.as_mut().filter(|time| time.column == count).map(|time| &mut time.reader);
        let bytes = &columns.data[column.start..column.end];
        let mut time = None;
        if column.doubled {
            row.make(field, |made| {
                let from = made.len();
                undouble(bytes, columns.quote.unwrap_or_default(), made);
                time = reader.and_then(|reader| reader.read(&made[from..]));
            });
        } else {
            row.span(field, column.start, column.end);
            time = reader.and_then(|reader| reader.read(bytes));
        }
        if let Some(time) = time {
            row.time(time);
        }
    }

    #[inline(never)]
    fn extra_field(&mut self, column: usize, row: &mut Row) -> FieldId {
        let index = column - self.fields.len();
        if index == self.extra.len() {
            self.extra.push(row.fields().add(&format!("column_{}", column + 1), Kind::Text));
        }
        self.extra[index]
    }
}

#[cfg(test)]
mod tests;
