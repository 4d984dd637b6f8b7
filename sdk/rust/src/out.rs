//! What goes out: fields, cells, and what became of each input event.

use std::borrow::Cow;

use serde::Deserialize;

use crate::bindings::weir::plugin::event as wit;
use crate::event::{Batch, CONTENT, Cell, Event, UNKNOWN_TIME};
use crate::plugin::Failure;
use crate::schema::Schema;
use crate::settings::{Reader, Refusal};
use crate::{Kind, Settings};

/// A field that a plugin makes; from [`Fields::add`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FieldId(u32);

impl FieldId {
    /// The index of the field among all that the plugin has named, for tables beside it.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A kind in settings is its name in the contract.
impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case", remote = "Kind")]
        enum Name {
            Text,
            Integer,
            Float,
            Boolean,
            Json,
        }
        Name::deserialize(deserializer)
    }
}

impl Settings for Kind {
    const SCHEMA: Schema =
        Schema::Choice(&[("text", ""), ("integer", ""), ("float", ""), ("boolean", ""), ("json", "")]);

    fn read(value: Reader) -> Result<Self, Refusal> {
        const KINDS: [Kind; 5] = [Kind::Text, Kind::Integer, Kind::Float, Kind::Boolean, Kind::Json];
        value.choice("Kind", &["text", "integer", "float", "boolean", "json"]).map(|index| KINDS[index])
    }
}

/// The fields that a plugin makes.
#[derive(Default)]
pub struct Fields {
    list: Vec<wit::Field>,
    /// Indices of `list`, sorted by name and kind. A hash map would be a tenth of a small plugin.
    sorted: Vec<u32>,
    /// So many were named by `new`; the others come and go with the data.
    fixed: usize,
}

impl Fields {
    /// The field of that name and kind; the same one if it exists.
    ///
    /// An id holds for as long as the plugin; a plugin whose data has named very many is made anew.
    ///
    /// A name that may not be a field's, which can only come from data, is changed into one that may: see
    /// [`Fields::allowed`].
    pub fn add(&mut self, name: &str, kind: Kind) -> FieldId {
        let name = &*Self::allowed(name);
        let wanted = (name, kind as u8);
        let place = self.sorted.binary_search_by(|id| {
            let field = &self.list[*id as usize];
            (field.name.as_str(), field.kind as u8).cmp(&wanted)
        });
        match place {
            Ok(found) => FieldId(self.sorted[found]),
            Err(place) => {
                let id = self.list.len() as u32;
                self.sorted.insert(place, id);
                self.list.push(wit::Field { name: name.to_owned(), kind });
                FieldId(id)
            }
        }
    }

    /// The name itself, if it may be a field's; else without all but one of its leading `_`, cut to 256 bytes, and
    /// `_` for nothing.
    pub fn allowed(name: &str) -> Cow<'_, str> {
        const MOST: usize = 256;
        if !name.is_empty() && !name.starts_with("__") && name.len() <= MOST {
            return Cow::Borrowed(name);
        }
        let rest = name.trim_start_matches('_');
        let allowed = if rest.len() == name.len() { rest.to_owned() } else { format!("_{rest}") };
        match allowed.get(..allowed.floor_char_boundary(MOST)) {
            None | Some("") => Cow::Borrowed("_"),
            Some(cut) => Cow::Owned(cut.to_owned()),
        }
    }

    /// Whether a name that a user has chosen may be a field's. The error says why not.
    pub fn check(name: &str) -> Result<(), String> {
        if name.is_empty() {
            return Err("a field's name must not be empty".to_owned());
        }
        if name.starts_with("__") {
            return Err(format!("field `{name}`: names that begin with `__` belong to the host"));
        }
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The name and the kind of a field.
    pub fn get(&self, field: FieldId) -> (&str, Kind) {
        let field = &self.list[field.index()];
        (&field.name, field.kind)
    }

    /// Whether data has named more than so many.
    pub(crate) fn is_over(&self, most: usize) -> bool {
        self.list.len() - self.fixed > most
    }

    pub(crate) fn fix(&mut self) {
        self.fixed = self.list.len();
    }
}

/// Sizes of the last output, so that the next one is allocated once.
#[derive(Default)]
pub(crate) struct Sizes {
    made: usize,
    cells: usize,
    rows: usize,
    times: usize,
}

/// The output of a batch, while it is made.
pub struct Out<'a> {
    fields: &'a mut Fields,
    input: &'a Batch<'a>,
    output: Parts,
    /// Where the open row began, in numbers of `cells` and bytes of `made`.
    row_cells: usize,
    row_made: usize,
    row_time: i64,
    /// Output events so far, if they are one to one with the input events that neither failed nor were held.
    one_to_one: bool,
    /// The input events before this one have been kept or have failed.
    next: usize,
    /// For fields that pass through: the input's field index to the output's field.
    passed: Vec<Option<FieldId>>,
}

#[derive(Default)]
struct Parts {
    made: Vec<u8>,
    rows: Vec<u32>,
    cells: Vec<u32>,
    times: Vec<i64>,
    origins: Vec<u32>,
    reasons: Vec<String>,
    failed: Vec<u32>,
    held: u32,
}

impl<'a> Out<'a> {
    pub(crate) fn new(fields: &'a mut Fields, input: &'a Batch<'a>, sizes: &Sizes) -> Self {
        let rows = input.len();
        let more = |n: usize| n + n / 8;
        Out {
            fields,
            input,
            output: Parts {
                made: Vec::with_capacity(more(sizes.made)),
                rows: Vec::with_capacity(rows),
                cells: Vec::with_capacity(more(sizes.cells * rows / sizes.rows.max(1))),
                times: Vec::with_capacity(if sizes.times > 0 { rows } else { 0 }),
                ..Parts::default()
            },
            row_cells: 0,
            row_made: 0,
            row_time: UNKNOWN_TIME,
            one_to_one: true,
            next: 0,
            passed: Vec::new(),
        }
    }

    pub(crate) fn finish(self, sizes: &mut Sizes) -> wit::Output {
        let Parts { made, rows, cells, times, mut origins, reasons, failed, held } = self.output;
        *sizes = Sizes { made: made.len(), cells: cells.len(), rows: rows.len(), times: times.len() };
        let untouched = self.input.len() - held as usize;
        if self.one_to_one && self.next < untouched {
            // The events after the last kept one were dropped.
            origins = kept(self.next, &failed);
        }
        wit::Output { made, fields: self.fields.list.clone(), rows, cells, times, origins, reasons, failed, held }
    }

    /// Begins an output event that inherits the time of `event`.
    #[inline]
    pub fn row<'r>(&'r mut self, event: &Event) -> Row<'r, 'a> {
        self.row_time = event.time().unwrap_or(UNKNOWN_TIME);
        Row { out: self }
    }

    /// Ends the open row as one output event that came from the input events `first..end`.
    #[inline]
    pub fn keep(&mut self, first: usize, end: usize) {
        if self.one_to_one && (first != self.next || end != first + 1) {
            self.list_origins();
        }
        if !self.one_to_one {
            self.output.origins.extend_from_slice(&[first as u32, end as u32]);
        }
        self.next = end;
        if self.row_time != UNKNOWN_TIME && self.output.times.is_empty() {
            self.output.times.resize(self.output.rows.len(), UNKNOWN_TIME);
            self.output.times.push(self.row_time);
        } else if !self.output.times.is_empty() {
            self.output.times.push(self.row_time);
        }
        self.output.rows.push((self.output.cells.len() / 3) as u32);
        self.begin();
    }

    /// Forgets the open row. Its input event counts as dropped unless it is kept otherwise.
    #[inline]
    pub fn forget(&mut self) {
        self.output.cells.truncate(self.row_cells);
        self.output.made.truncate(self.row_made);
    }

    /// Forgets the open row, and has the input event of that index shipped unchanged, marked with the reason.
    pub fn fail(&mut self, index: usize, failure: impl Into<Failure>) {
        self.forget();
        if self.one_to_one && index != self.next {
            self.list_origins();
        }
        self.next = index + 1;
        let reason = failure.into().0;
        let known = self.output.reasons.iter().position(|r| *r == reason);
        let reason = known.unwrap_or_else(|| {
            self.output.reasons.push(reason.into_owned());
            self.output.reasons.len() - 1
        });
        self.output.failed.extend_from_slice(&[index as u32, reason as u32]);
    }

    /// Has the last so many input events given again, before the next ones.
    pub fn hold(&mut self, events: usize) {
        self.forget();
        self.output.held = events as u32;
    }

    /// The fields, to name new ones.
    pub fn fields(&mut self) -> &mut Fields {
        self.fields
    }

    #[inline]
    fn begin(&mut self) {
        self.row_cells = self.output.cells.len();
        self.row_made = self.output.made.len();
    }

    fn list_origins(&mut self) {
        self.one_to_one = false;
        self.output.origins = kept(self.next, &self.output.failed);
    }
}

/// The origins of output events that are one to one with the input events before `end` that did not fail.
fn kept(end: usize, failed: &[u32]) -> Vec<u32> {
    let mut failed = failed.chunks_exact(2).map(|pair| pair[0]).peekable();
    let mut origins = Vec::new();
    for i in 0..end as u32 {
        if failed.next_if_eq(&i).is_none() {
            origins.extend_from_slice(&[i, i + 1]);
        }
    }
    origins
}

/// The open row of an output: where an event's cells are put.
pub struct Row<'r, 'a> {
    out: &'r mut Out<'a>,
}

impl Row<'_, '_> {
    /// Adds a cell. A slice of the input is pointed at; other bytes are copied.
    #[inline]
    pub fn put(&mut self, field: FieldId, bytes: &[u8]) {
        let data = self.out.input.data();
        let start = (bytes.as_ptr() as usize).wrapping_sub(data.as_ptr() as usize);
        if start <= data.len() && bytes.len() <= data.len() - start {
            self.span(field, start, start + bytes.len());
        } else {
            self.make(field, |made| made.extend_from_slice(bytes));
        }
    }

    /// Adds a cell that is a range of [`Event::data`].
    #[inline]
    pub fn span(&mut self, field: FieldId, start: usize, end: usize) {
        self.out.output.cells.extend_from_slice(&[field.0, start as u32, end as u32]);
    }

    /// Adds a cell of new bytes: what `write` appends. It must not shorten what is there.
    #[inline]
    pub fn make(&mut self, field: FieldId, write: impl FnOnce(&mut Vec<u8>)) {
        let data = self.out.input.data().len();
        let made = &mut self.out.output.made;
        let start = made.len();
        write(made);
        let (start, end) = ((data + start) as u32, (data + made.len()) as u32);
        self.out.output.cells.extend_from_slice(&[field.0, start, end]);
    }

    /// Sets the event's time, in nanoseconds since the Unix epoch.
    #[inline]
    pub fn time(&mut self, nanoseconds: i64) {
        self.out.row_time = nanoseconds;
    }

    /// Adds the cells of the event except those of the field with that name: what a parser does with the
    /// fields that were there before.
    #[inline]
    pub fn pass_all_but(&mut self, event: &Event, name: &str) {
        if !(event.is_raw() && name == CONTENT) {
            for cell in event.cells().filter(|cell| cell.name != name) {
                self.pass(&cell);
            }
        }
    }

    /// Adds all cells of the event.
    pub fn pass_all(&mut self, event: &Event) {
        for cell in event.cells() {
            self.pass(&cell);
        }
    }

    /// Adds a cell of the input, under its own name.
    pub fn pass(&mut self, cell: &Cell) {
        let field = self.passed(cell);
        self.put(field, cell.bytes);
    }

    /// The output's field of the same name and kind as a cell of the input.
    pub fn passed(&mut self, cell: &Cell) -> FieldId {
        match self.out.passed.get(cell.field) {
            Some(Some(field)) => *field,
            _ => self.first_passed(cell),
        }
    }

    #[cold]
    fn first_passed(&mut self, cell: &Cell) -> FieldId {
        let passed = &mut self.out.passed;
        if passed.len() <= cell.field {
            passed.resize(cell.field + 1, None);
        }
        let field = self.out.fields.add(cell.name, cell.kind);
        passed[cell.field] = Some(field);
        field
    }

    /// Replaces the bytes of the cell with that index in the row, counted from the row's first.
    pub fn replace(&mut self, cell: usize, field: FieldId, bytes: &[u8]) {
        let at = self.out.row_cells + cell * 3;
        let end = self.out.output.cells.len();
        self.put(field, bytes);
        self.out.output.cells.copy_within(end..end + 3, at);
        self.out.output.cells.truncate(end);
    }

    /// Moves the row's last cell to the place of the cell with that index, which is forgotten.
    pub fn move_last(&mut self, cell: usize) {
        let at = self.out.row_cells + cell * 3;
        let last = self.out.output.cells.len() - 3;
        self.out.output.cells.copy_within(last.., at);
        self.out.output.cells.truncate(last);
    }

    /// How many cells the row has.
    pub fn len(&self) -> usize {
        (self.out.output.cells.len() - self.out.row_cells) / 3
    }

    /// Whether the row has no cell.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The fields, to name new ones.
    #[inline]
    pub fn fields(&mut self) -> &mut Fields {
        self.out.fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_its_name_and_its_kind() {
        let mut fields = Fields::default();
        let ids: Vec<_> = (0..100).map(|i| fields.add(&format!("{}", i * 37 % 100), Kind::Text)).collect();
        for (i, id) in ids.iter().enumerate() {
            assert_eq!(id.index(), i);
            assert_eq!(fields.add(&format!("{}", i * 37 % 100), Kind::Text), *id);
        }
        assert_eq!(fields.add("7", Kind::Json).index(), 100);
        assert_eq!((fields.get(FieldId(100)), fields.len()), (("7", Kind::Json), 101));
    }

    #[test]
    fn names_from_data_are_made_such_as_may_be() {
        let long = "ü".repeat(200);
        for (name, allowed) in
            [("a", "a"), ("_a", "_a"), ("__a", "_a"), ("____", "_"), ("", "_"), (long.as_str(), &long[..256])]
        {
            assert_eq!(Fields::allowed(name), allowed);
        }
    }
}
