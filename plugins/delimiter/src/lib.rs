//! A parser of lines that are columns between separators: CSV, TSV and their kin.

mod columns;
mod preset;

use weir_plugin::prelude::*;
use weir_plugin::scan::{Hits, Literal};
use weir_plugin::time::{Cached, TimeField};

use columns::{Column, Columns, LongHits, NO_QUOTE, Separators, undouble};
use preset::{Defaults, Preset};

weir_plugin::export!(Delimiter, name = "delimiter");

/// What the plugin's user may set.
#[derive(Deserialize, Settings)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A format that is known by name; other settings go before what it says.
    preset: Option<Preset>,
    /// The names of the columns, in order.
    fields: Option<Vec<String>>,
    /// What stands between two columns: one character or several.
    separator: Option<String>,
    /// What stands around a column that has separators in it, and twice for one in the column; null for nothing.
    #[serde(default = "double_quote")]
    quote: Option<char>,
    /// Whether a column that begins with `[` goes up to `]`, separators and all.
    brackets: Option<bool>,
    /// Kinds of fields that are not text: integer, float, boolean or json.
    #[serde(default)]
    types: Kinds,
    /// A column with this text, also between quotes, is left out.
    nil: Option<String>,
    /// Lines that begin with this are left out.
    comment: Option<String>,
    /// What becomes of lines with less columns than fields.
    too_few: Option<TooFew>,
    /// What becomes of lines with more columns than fields.
    too_many: Option<TooMany>,
    /// Where the event's time is.
    time: Option<TimeField>,
    /// Whether white space around columns is left out.
    #[serde(default)]
    trim: bool,
    /// The field that is read.
    #[serde(default)]
    field: Source,
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
    source: Source,
    comment: Option<String>,
    separator: Separator,
    quote: u16,
    brackets: bool,
    trim: bool,
    /// So many columns from the first on are as they are, unless they have quotes, and others follow.
    plain: usize,
    row: Shape,
}

enum Separator {
    Byte(u8),
    Long(Literal),
}

/// Columns of a line of which each has a field: an output may have 4096.
const MOST_COLUMNS: usize = 1000;

/// How columns become cells.
struct Shape {
    fields: Vec<FieldId>,
    /// The names of fields that columns too many might have.
    taken: Vec<String>,
    too_few: TooFew,
    too_many: TooMany,
    /// The text of a column that is left out.
    nil: Option<Vec<u8>>,
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
        let preset = config.preset.map_or(preset::PLAIN, Preset::defaults);
        let columns = columns(&config, &preset)?;
        let separator = config.separator.unwrap_or_else(|| preset.separator.to_owned());
        let quote = match config.quote {
            Some(quote) if !quote.is_ascii() => return Err(format!("quote must be an ASCII character, not `{quote}`")),
            Some(quote) if separator.chars().any(|c| c == quote) => {
                return Err(format!("quote: `{quote}` is in the separator"));
            }
            quote => quote.map_or(NO_QUOTE, |quote| quote as u16),
        };
        let own_columns = config.fields.is_some();
        let preset_time = preset.time.filter(|_| !own_columns);
        let time = config
            .time
            .or(preset_time.map(|(field, format)| TimeField { field: field.to_owned(), format: format.to_owned() }));
        let time = match time {
            Some(time) => {
                let column = columns.iter().position(|(name, _)| *name == time.field);
                let column = column.ok_or_else(|| format!("time: `{}` is not one of the fields", time.field))?;
                Some(Time { column, reader: time.reader()? })
            }
            None => None,
        };
        let (trim, brackets) = (config.trim, config.brackets.unwrap_or(preset.brackets));
        let nil = config.nil.or(preset.nil.map(str::to_owned)).map(String::into_bytes);
        let plain = match trim || brackets || nil.is_some() {
            true => 0,
            false => time.as_ref().map_or(columns.len() - 1, |time| time.column.min(columns.len() - 1)),
        };
        Ok(Delimiter {
            source: config.field,
            comment: config.comment.or(preset.comment.map(str::to_owned)).filter(|comment| !comment.is_empty()),
            separator: match separator.as_bytes() {
                [] => return Err("separator must not be empty".to_owned()),
                [byte] => Separator::Byte(*byte),
                bytes => Separator::Long(Literal::new(bytes)),
            },
            quote,
            brackets,
            trim,
            plain,
            row: Shape {
                fields: columns.iter().map(|(name, kind)| fields.add(name, *kind)).collect(),
                taken: columns.into_iter().map(|(name, _)| name).filter(|name| name.starts_with("column_")).collect(),
                too_few: config.too_few.unwrap_or(preset.too_few),
                too_many: config.too_many.unwrap_or(preset.too_many),
                nil,
                extra: Vec::new(),
                time,
            },
        })
    }

    #[inline]
    fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure> {
        self.source.pass_others(event, row);
        let (data, (start, end)) = (event.data(), self.source.span(event)?);
        if let Some(comment) = &self.comment
            && data[start..end].starts_with(comment.as_bytes())
        {
            return Ok(Drop);
        }
        let (quote, brackets, trim) = (self.quote, self.brackets, self.trim);
        match &self.separator {
            Separator::Byte(byte) => {
                let mut separators = Hits::new(data, start, end, *byte);
                let (count, at) = self.row.put_plain(self.plain, quote, data, (start, end), &mut separators, row);
                let columns = Columns { data, at, end, quote, brackets, trim, separator: 1, separators };
                self.row.put(count, columns, row)?;
            }
            Separator::Long(long) => {
                let (separator, separators) = (long.bytes().len(), LongHits::new(data, start, end, long));
                let columns = Columns { data, at: start, end, quote, brackets, trim, separator, separators };
                self.row.put(0, columns, row)?;
            }
        }
        Ok(Keep)
    }
}

/// Names and kinds of the columns, by settings or preset.
fn columns(config: &Config, preset: &Defaults) -> Result<Vec<(String, Kind)>, String> {
    let mut columns: Vec<_> = match &config.fields {
        Some(names) => names.iter().map(|name| (name.clone(), Kind::Text)).collect(),
        None => preset.columns().map(|(name, kind)| (name.to_owned(), kind)).collect(),
    };
    if columns.is_empty() {
        return Err("fields must name at least one column".to_owned());
    }
    for (i, (name, _)) in columns.iter().enumerate() {
        Fields::check(name).map_err(|e| format!("fields: {e}"))?;
        if columns[..i].iter().any(|(other, _)| other == name) {
            return Err(format!("fields: `{name}` is there twice"));
        }
    }
    for (name, kind) in config.types.iter() {
        let column = columns.iter_mut().find(|(column, _)| *column == name);
        column.ok_or_else(|| format!("types: `{name}` is not one of the fields"))?.1 = *kind;
    }
    Ok(columns)
}

impl Shape {
    /// Puts the first cells of a line, `most` at most, up to one with quotes. Gives how many, and where the next begins.
    #[inline(always)]
    fn put_plain(
        &self,
        most: usize,
        quote: u16,
        data: &[u8],
        (mut at, end): (usize, usize),
        separators: &mut Hits,
        row: &mut Row,
    ) -> (usize, usize) {
        for (count, field) in self.fields[..most].iter().enumerate() {
            if at < end && u16::from(data[at]) == quote {
                return (count, at);
            }
            let Some(next) = Iterator::next(separators) else { return (count, at) };
            row.span(*field, at, next);
            at = next + 1;
        }
        (most, at)
    }

    /// Puts the cells of a line, from the column of that number on.
    #[inline(always)]
    fn put<S: Separators>(
        &mut self,
        mut count: usize,
        mut columns: Columns<S>,
        row: &mut Row,
    ) -> Result<(), &'static str> {
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
                    TooMany::Extend if count < MOST_COLUMNS => self.extra_field(count, row),
                    TooMany::Extend | TooMany::Fail | TooMany::Join => return Err("too many columns"),
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
        if let Some(nil) = &self.nil
            && columns.data[column.start..column.end] == nil[..]
        {
            return;
        }
        let is_time = self.time.as_ref().is_some_and(|time| time.column == count);
        if column.doubled || is_time {
            let quote = columns.quote as u8;
            return self.put_special(is_time, field, columns.data, quote, column, row);
        }
        row.span(field, column.start, column.end);
    }

    /// Puts a cell that is the time, or that has doubled quotes.
    #[inline(never)]
    fn put_special(&mut self, is_time: bool, field: FieldId, data: &[u8], quote: u8, column: &Column, row: &mut Row) {
        let reader = self.time.as_mut().filter(|_| is_time).map(|time| &mut time.reader);
        let bytes = &data[column.start..column.end];
        let mut time = None;
        if column.doubled {
            row.make(field, |made| {
                let from = made.len();
                undouble(bytes, quote, made);
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
            let mut name = format!("column_{}", column + 1);
            // An event must not have two fields of a name.
            while self.taken.contains(&name) {
                name.push('_');
            }
            self.extra.push(row.fields().add(&name, Kind::Text));
        }
        self.extra[index]
    }
}

#[cfg(test)]
mod tests;
