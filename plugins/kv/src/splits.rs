//! What stands between pairs, and between a key and its value.

use weir_plugin::scan::{Literal, find, find2};

/// Both separators.
pub struct Splits {
    field: Literal,
    value: Literal,
}

/// The first separator of a piece: where it is, and what is behind it.
pub enum Found {
    /// The piece is a pair.
    Value(usize, usize),
    /// The piece is none; the end of the text counts too.
    Field(usize, usize),
}

impl Splits {
    pub fn new(field: &str, value: &str) -> Result<Self, String> {
        for (name, split) in [("field_split", field), ("value_split", value)] {
            if split.is_empty() {
                return Err(format!("{name} must not be empty"));
            }
        }
        if field.starts_with(value) || value.starts_with(field) {
            return Err(format!(
                "field_split `{field}` and value_split `{value}` begin alike, so none can tell them apart"
            ));
        }
        Ok(Splits { field: Literal::new(field.as_bytes()), value: Literal::new(value.as_bytes()) })
    }

    /// The first separator from `at` on.
    pub fn next(&self, data: &[u8], mut at: usize, end: usize) -> Found {
        while let Some(found) = find2(data, at, end, self.field.bytes()[0], self.value.bytes()[0]) {
            if self.value.is_at(data, found, end) {
                return Found::Value(found, found + self.value.bytes().len());
            }
            if self.field.is_at(data, found, end) {
                return Found::Field(found, found + self.field.bytes().len());
            }
            at = found + 1;
        }
        Found::Field(end, end)
    }

    /// What ends the value that begins at `at`: where it is, and what is behind it; none at the end of the text.
    #[inline]
    pub fn field(&self, data: &[u8], mut at: usize, end: usize) -> Option<(usize, usize)> {
        loop {
            let found = find(data, at, end, self.field.bytes()[0])?;
            if self.field.is_at(data, found, end) {
                return Some((found, found + self.field.bytes().len()));
            }
            at = found + 1;
        }
    }

    /// Whether a separator is here.
    pub fn is_at(&self, data: &[u8], at: usize, end: usize) -> bool {
        self.field.is_at(data, at, end) || self.value.is_at(data, at, end)
    }
}
