//! Other encodings than UTF-8.

/// From places in the decoded text to offsets in the file.
#[derive(Debug, Default)]
pub struct Table {}

impl Table {
    /// The file's offset of a byte of the text.
    pub fn raw(&self, at: usize) -> u64 {
        at as u64
    }
}
#[derive(Clone, Copy, Debug)]
pub enum Invalid { Replace, Keep }
#[derive(Clone, Copy, Debug)]
pub struct Decoder { pub invalid: Invalid }
pub struct Decoded { pub taken: usize, pub invalid_lines: u64 }
impl Decoder {
    pub fn new(_: &str, invalid: Invalid) -> Option<Self> { Some(Decoder { invalid }) }
    pub fn is_plain(&self) -> bool { true }
    pub fn by_bom(self, _: &[u8]) -> (Self, usize) { (self, 0) }
    pub fn decode(&self, _: &[u8], _: u64, _: bool, _: &mut Vec<u8>, _: &mut Table) -> Decoded { Decoded { taken: 0, invalid_lines: 0 } }
}
