//! What is in a compressed file, from an offset of its content on.
//!
//! A file may still be written while it is read, and may have several members. What cannot be decompressed ends
//! the content there: what came before is good.

use std::io;

use flate2::{Decompress, FlushDecompress, Status};

use super::disk::Bytes;

/// The first bytes of every such file.
pub const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];

/// Bytes of the file that are read at once.
const INPUT: usize = 16 << 10;

/// Bytes of room that the decoder is given at once.
const OUTPUT: usize = 64 << 10;

/// The largest window that the format allows: 2^15 bytes.
const WINDOW: u8 = 15;

/// A compressed file that is read in order.
pub struct Gzip {
    decoder: Box<Decompress>,
    /// Bytes of the file that were read.
    fed: u64,
    /// Those of them that the decoder has not taken.
    input: Vec<u8>,
    /// Content, of which the first byte is at that offset.
    content: Vec<u8>,
    start: u64,
    /// Whether the last member has ended.
    is_between: bool,
    /// What is wrong with it.
    pub broken: Option<String>,
}

/// What a decoder takes: its window, and tables.
const DECODER_BYTES: usize = 48 << 10;

impl Default for Gzip {
    fn default() -> Self {
        Gzip {
            decoder: Box::new(Decompress::new_gzip(WINDOW)),
            fed: 0,
            input: Vec::new(),
            content: Vec::new(),
            start: 0,
            is_between: false,
            broken: None,
        }
    }
}

impl Gzip {
    /// Bytes of memory that it has, about.
    pub fn bytes(&self) -> usize {
        DECODER_BYTES + self.input.capacity() + self.content.capacity()
    }

    /// Bytes of the file that were read.
    pub fn fed(&self) -> u64 {
        self.fed
    }

    /// Content from `offset` on, `want` bytes of it if there are so many; going back is slow. Gives fewer also
    /// when so much had to be decompressed to get there that the caller should do something else meanwhile.
    pub fn read(&mut self, file: &dyn Bytes, offset: u64, want: usize, at_most: usize) -> io::Result<Content<'_>> {
        if offset < self.start {
            // It was looked at further on, and has to be decompressed once more.
            *self = Gzip::default();
        }
        let mut work = 0;
        let ended = loop {
            let unwanted = offset.saturating_sub(self.start).min(self.content.len() as u64);
            if self.start + unwanted < offset || self.content.len() as u64 - unwanted < want as u64 {
                if unwanted > 0 {
                    self.content.drain(..unwanted as usize);
                    self.start += unwanted;
                }
                if work >= at_most {
                    break false;
                }
                let before = self.content.len();
                if !self.decode(file)? {
                    break true;
                }
                work += self.content.len() - before;
            } else {
                break false;
            }
        };
        let from = offset.saturating_sub(self.start).min(self.content.len() as u64) as usize;
        let bytes = &self.content[from..];
        let len = bytes.len().min(want);
        Ok(Content {
            bytes: &bytes[..len],
            is_there: self.start + from as u64 == offset,
            ended: ended && len == bytes.len(),
        })
    }

    /// Decodes some more; whether there was anything to decode.
    fn decode(&mut self, file: &dyn Bytes) -> io::Result<bool> {
        if self.broken.is_some() {
            return Ok(false);
        }
        if self.input.is_empty() {
            self.input.resize(INPUT, 0);
            let got = file.read_at([&mut [], &mut self.input], self.fed);
            self.input.truncate(*got.as_ref().unwrap_or(&0));
            self.fed += got? as u64;
            if self.input.is_empty() {
                return Ok(false);
            }
        }
        if self.is_between {
            // Files are sometimes padded with zeros.
            let padding = self.input.iter().take_while(|byte| **byte == 0).count();
            self.input.drain(..padding);
            if self.input.is_empty() {
                return Ok(true);
            }
            *self.decoder = Decompress::new_gzip(WINDOW);
            self.is_between = false;
        }
        let len = self.content.len();
        self.content.resize(len + OUTPUT, 0);
        let (taken, made) = (self.decoder.total_in(), self.decoder.total_out());
        let status = self.decoder.decompress(&self.input, &mut self.content[len..], FlushDecompress::None);
        self.content.truncate(len + (self.decoder.total_out() - made) as usize);
        let taken = (self.decoder.total_in() - taken) as usize;
        self.input.drain(..taken);
        match status {
            Ok(Status::StreamEnd) => self.is_between = true,
            Ok(_) if taken == 0 && self.content.len() == len => self.broken = Some("the decoder does not go on".into()),
            Ok(_) => {}
            Err(error) => self.broken = Some(error.to_string()),
        }
        Ok(true)
    }
}

/// A piece of content.
pub struct Content<'a> {
    /// From the offset that was asked for, if that was reached.
    pub bytes: &'a [u8],
    /// Whether it was.
    pub is_there: bool,
    /// Whether there is nothing after it now.
    pub ended: bool,
}
