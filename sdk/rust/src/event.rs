//! What comes in: a batch, and one event of it.

use crate::Kind;
use crate::bindings::weir::plugin::event as wit;

/// The field of a raw line.
pub const CONTENT: &str = "content";

/// Nanoseconds that mean "unknown".
pub const UNKNOWN_TIME: i64 = i64::MIN;

/// Numbers of a cell in the flat array: field, start, end.
pub(crate) const CELL: usize = 3;

/// Events of one source, in order.
pub struct Batch<'a> {
    pub(crate) wit: &'a wit::Batch,
    content: u32,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(wit: &'a wit::Batch) -> Self {
        let content = wit.fields.iter().position(|f| f.name == CONTENT);
        Batch { wit, content: content.map_or(u32::MAX, |i| i as u32) }
    }

    /// How many events there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.wit.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The event of that index. Panics if there is none.
    #[inline]
    pub fn event(&self, index: usize) -> Event<'_> {
        let start = if index == 0 { 0 } else { self.wit.rows[index - 1] as usize };
        let end = self.wit.rows[index] as usize;
        Event { batch: self, index, cells: &self.wit.cells[start * CELL..end * CELL] }
    }

    /// All events, in order.
    pub fn events(&self) -> impl Iterator<Item = Event<'_>> {
        (0..self.len()).map(|i| self.event(i))
    }

    /// What the cells point into.
    #[inline]
    pub fn data(&self) -> &[u8] {
        &self.wit.data
    }

    /// The source's tags.
    pub fn tags(&self) -> &[(String, String)] {
        &self.wit.tags
    }
}

/// One event: cells of fields.
pub struct Event<'a> {
    batch: &'a Batch<'a>,
    index: usize,
    cells: &'a [u32],
}

/// One cell of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell<'a> {
    /// Index of its field in the batch.
    pub field: usize,
    /// The field's name.
    pub name: &'a str,
    /// The field's kind.
    pub kind: Kind,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl<'a> Event<'a> {
    /// The bytes of the field `content`, where a raw line is; empty if the event has none.
    #[inline]
    pub fn content(&self) -> &'a [u8] {
        let (start, end) = self.content_span();
        &self.batch.wit.data[start..end]
    }

    /// Where [`Event::content`] lies in [`Event::data`].
    #[inline]
    pub fn content_span(&self) -> (usize, usize) {
        for cell in self.cells.chunks_exact(CELL) {
            if cell[0] == self.batch.content {
                return (cell[1] as usize, cell[2] as usize);
            }
        }
        (0, 0)
    }

    /// The field `content` as text; none if it is not UTF-8.
    pub fn text(&self) -> Option<&'a str> {
        std::str::from_utf8(self.content()).ok()
    }

    /// What all cells of the batch point into.
    #[inline]
    pub fn data(&self) -> &'a [u8] {
        &self.batch.wit.data
    }

    /// The bytes of the first cell of the field with that name.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.cells().find(|cell| cell.name == name).map(|cell| cell.bytes)
    }

    /// Where the first cell of the field with that name lies in [`Event::data`].
    pub fn span(&self, name: &str) -> Option<(usize, usize)> {
        let fields = &self.batch.wit.fields;
        let cell = self.cells.chunks_exact(CELL).find(|cell| fields[cell[0] as usize].name == name)?;
        Some((cell[1] as usize, cell[2] as usize))
    }

    /// All cells, in order.
    pub fn cells(&self) -> impl Iterator<Item = Cell<'a>> {
        let wit = self.batch.wit;
        self.cells.chunks_exact(CELL).map(move |cell| {
            let field = &wit.fields[cell[0] as usize];
            Cell {
                field: cell[0] as usize,
                name: &field.name,
                kind: field.kind,
                bytes: &wit.data[cell[1] as usize..cell[2] as usize],
            }
        })
    }

    /// Whether the event is a raw line and nothing else.
    #[inline]
    pub fn is_raw(&self) -> bool {
        self.cells.len() == CELL && self.cells[0] == self.batch.content
    }

    /// Nanoseconds since the Unix epoch, if known.
    #[inline]
    pub fn time(&self) -> Option<i64> {
        self.batch.wit.times.get(self.index).copied().filter(|t| *t != UNKNOWN_TIME)
    }
}
