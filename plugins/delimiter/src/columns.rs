//! Where the columns of a line are.

use weir_plugin::scan::{Hits, Literal, find};

/// The places of the separators, one after the other.
pub trait Separators {
    /// The next one.
    fn next(&mut self) -> Option<usize>;

    /// Goes on from `at`.
    fn seek(&mut self, at: usize);
}

impl Separators for Hits<'_> {
    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        Iterator::next(self)
    }

    #[inline(always)]
    fn seek(&mut self, at: usize) {
        Hits::seek(self, at);
    }
}

/// Separators of several bytes.
pub struct LongHits<'d> {
    data: &'d [u8],
    at: usize,
    end: usize,
    separator: &'d Literal,
}

impl<'d> LongHits<'d> {
    pub fn new(data: &'d [u8], at: usize, end: usize, separator: &'d Literal) -> Self {
        LongHits { data, at, end, separator }
    }
}

impl Separators for LongHits<'_> {
    fn next(&mut self) -> Option<usize> {
        loop {
            let found = find(self.data, self.at, self.end, self.separator.bytes()[0])?;
            if self.separator.is_at(self.data, found, self.end) {
                self.at = found + self.separator.bytes().len();
                return Some(found);
            }
            self.at = found + 1;
        }
    }

    fn seek(&mut self, at: usize) {
        self.at = at;
    }
}

/// No byte.
pub const NO_QUOTE: u16 = 256;

/// A line that is read column by column. Positions are indices of `data`.
pub struct Columns<'d, S> {
    pub data: &'d [u8],
    /// Where the next column begins.
    pub at: usize,
    pub end: usize,
    /// What a quoted column begins with; [`NO_QUOTE`] for none.
    pub quote: u16,
    /// Whether a column that begins with `[` ends with `]`.
    pub brackets: bool,
    /// Whether white space around columns is left out.
    pub trim: bool,
    /// Bytes of a separator.
    pub separator: usize,
    pub separators: S,
}

/// One column, without its quotes.
pub struct Column {
    /// Where the column began, with its quotes and white space.
    from: usize,
    pub start: usize,
    pub end: usize,
    /// Whether there are doubled quotes in it.
    pub doubled: bool,
    /// Whether another column follows.
    pub more: bool,
}

impl<S: Separators> Columns<'_, S> {
    /// The next column; there must be one.
    #[inline(always)]
    pub fn next(&mut self) -> Result<Column, &'static str> {
        let from = self.at;
        let mut next = self.separators.next();
        let (mut end, mut doubled) = (next.unwrap_or(self.end), false);
        let start = if self.trim { self.skip_blank(from, end) } else { from };
        let first = if start < end { self.data[start] } else { 0 };
        let mut quoted = false;
        if start < end && u16::from(first) == self.quote {
            (end, doubled, next) = self.quoted(start + 1)?;
            quoted = true;
        } else if first == b'[' && self.brackets {
            (end, next) = self.bracketed(start + 1)?;
            quoted = true;
        }
        self.at = next.map_or(self.end, |next| next + self.separator);
        let column = Column { from, start: start + usize::from(quoted), end, doubled, more: next.is_some() };
        Ok(if quoted { column } else { self.trimmed(column) })
    }

    /// From this column on all that is left, as one.
    pub fn rest(&self, column: &Column) -> Column {
        let (from, start, end) = (column.from, column.from, self.end);
        self.trimmed(Column { from, start, end, doubled: false, more: false })
    }

    /// For a quoted column whose bytes begin at `start`: where the closing quote is, whether quotes are doubled
    /// in it, and the separator behind it.
    #[inline(never)]
    fn quoted(&mut self, start: usize) -> Result<(usize, bool, Option<usize>), &'static str> {
        let (end, doubled) = closing(self.data, start, self.end, self.quote as u8).ok_or("a quote is not closed")?;
        let next = self.behind(end).ok_or("bytes behind a closing quote")?;
        Ok((end, doubled, next))
    }

    /// For a column between brackets whose bytes begin at `start`: where the closing one is, and the separator behind.
    #[inline(never)]
    fn bracketed(&mut self, start: usize) -> Result<(usize, Option<usize>), &'static str> {
        let end = find(self.data, start, self.end, b']').ok_or("a bracket is not closed")?;
        let next = self.behind(end).ok_or("bytes behind a closing bracket")?;
        Ok((end, next))
    }

    /// The separator behind what closes a column, if there is one; none if there are other bytes before.
    fn behind(&mut self, close: usize) -> Option<Option<usize>> {
        self.separators.seek(close + 1);
        let next = self.separators.next();
        let until = next.unwrap_or(self.end);
        let behind = if self.trim { self.skip_blank(close + 1, until) } else { close + 1 };
        (behind >= until).then_some(next)
    }

    fn skip_blank(&self, mut at: usize, end: usize) -> usize {
        while at < end && self.data[at].is_ascii_whitespace() {
            at += 1;
        }
        at
    }

    #[inline(always)]
    fn trimmed(&self, mut column: Column) -> Column {
        if self.trim {
            let bytes = &self.data[column.start..column.end];
            column.start = column.end - bytes.trim_ascii_start().len();
            column.end = column.start + bytes.trim_ascii().len();
        }
        column
    }
}

/// The quote that closes a column whose bytes begin at `start`, and whether there are doubled ones before it.
#[inline(never)]
fn closing(data: &[u8], start: usize, end: usize, quote: u8) -> Option<(usize, bool)> {
    let (mut at, mut doubled) = (start, false);
    loop {
        let found = find(data, at, end, quote)?;
        if found + 1 == end || data[found + 1] != quote {
            return Some((found, doubled));
        }
        doubled = true;
        at = found + 2;
    }
}

/// Appends the text of a quoted column with doubled quotes.
pub fn undouble(column: &[u8], quote: u8, out: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(found) = find(column, at, column.len(), quote) {
        out.extend_from_slice(&column[at..=found]);
        at = found + 2;
    }
    out.extend_from_slice(&column[at..]);
}
