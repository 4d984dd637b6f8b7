//! RFC 5424: `2003-10-11T22:14:15.003Z host app 10 ID47 [id name="value"] message`.

use weir_plugin::keys::{Keys, Options};
use weir_plugin::prelude::*;
use weir_plugin::scan::find;
use weir_plugin::time::{Cached, Format};

use crate::StructuredData;
use crate::structured;

/// The parser, with its fields.
pub struct Ietf {
    mode: StructuredData,
    time: Cached,
    timestamp: FieldId,
    /// The words behind the time, each with the reason of a line that ends before it.
    words: [(FieldId, &'static str); 4],
    structured_data: FieldId,
    structured_json: FieldId,
    message: FieldId,
    keys: Keys,
    /// Room to work in.
    name: Vec<u8>,
}

impl Ietf {
    pub fn new(mode: StructuredData, fields: &mut Fields) -> Result<Self, String> {
        let mut text = |name| fields.add(name, Kind::Text);
        Ok(Ietf {
            mode,
            time: Cached::new(Format::Rfc3339),
            timestamp: text("timestamp"),
            words: [
                (text("hostname"), "no hostname"),
                (text("appname"), "no appname"),
                (text("procid"), "no procid"),
                (text("msgid"), "no msgid"),
            ],
            structured_data: text("structured_data"),
            message: text("message"),
            structured_json: fields.add("structured_data", Kind::Json),
            keys: Keys::new(Options::default())?,
            name: Vec::new(),
        })
    }

    /// Puts the values of what stands behind the version, `data[at..end]`.
    #[inline]
    pub fn read(&mut self, data: &[u8], at: usize, end: usize, row: &mut Row) -> Result<(), &'static str> {
        let stop = find(data, at, end, b' ').ok_or("no timestamp")?;
        if !is_nil(data, at, stop) {
            if let Some(time) = self.time.read(&data[at..stop]) {
                row.time(time);
            }
            row.span(self.timestamp, at, stop);
        }
        let mut at = stop + 1;
        for (field, missing) in self.words {
            let stop = find(data, at, end, b' ').ok_or(missing)?;
            if !is_nil(data, at, stop) {
                row.span(field, at, stop);
            }
            at = stop + 1;
        }
        let mut stop = at + 1;
        if at == end {
            return Err("no structured data");
        } else if data[at] != b'-' {
            stop = self.structured(data, at, end, row)?;
        }
        match data[stop..end].first() {
            None => Ok(()),
            Some(b' ') => {
                let mark = data[stop + 1..end].starts_with("\u{feff}".as_bytes());
                row.span(self.message, stop + 1 + if mark { 3 } else { 0 }, end);
                Ok(())
            }
            Some(_) => Err("no space after the structured data"),
        }
    }

    /// Puts structured data, and says where it ends.
    #[inline(never)]
    fn structured(&mut self, data: &[u8], at: usize, end: usize, row: &mut Row) -> Result<usize, &'static str> {
        if self.mode == StructuredData::Json {
            let mut stop = Ok(end);
            row.make(self.structured_json, |made| stop = structured::write_json(data, at, end, made));
            return stop;
        }
        let stop = structured::end(data, at, end)?;
        match self.mode {
            StructuredData::Drop | StructuredData::Json => {}
            StructuredData::Raw => row.span(self.structured_data, at, stop),
            StructuredData::Fields => {
                self.keys.begin(row);
                structured::parameters(&data[at..stop], |id, parameter| {
                    let Some((name, value)) = parameter else { return };
                    self.name.clear();
                    self.name.extend_from_slice(id);
                    self.name.push(b'.');
                    self.name.extend_from_slice(name);
                    let key = self.keys.named(&self.name);
                    self.keys.make(row, key, Kind::Text, |made| structured::unescape(value, made));
                });
            }
        }
        Ok(stop)
    }
}

fn is_nil(data: &[u8], start: usize, end: usize) -> bool {
    end - start == 1 && data[start] == b'-'
}
