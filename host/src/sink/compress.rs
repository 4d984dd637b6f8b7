//! Compression of payloads. What compressors need is kept by each thread, as lanes are many and threads few.

use std::cell::RefCell;
use std::io::{self, Read, Write};

use bytes::Bytes;

pub use crate::config::sinks::Compression;

/// One of each kind.
#[cfg(test)]
pub const ALL: [Compression; 5] =
    [Compression::None, Compression::Gzip(1), Compression::Zstd(1), Compression::Lz4, Compression::Snappy];

impl Compression {
    /// The value of `Content-Encoding`.
    pub fn content_encoding(self) -> Option<&'static str> {
        match self {
            Compression::None | Compression::Lz4 => None,
            Compression::Gzip(_) => Some("gzip"),
            Compression::Zstd(_) => Some("zstd"),
            Compression::Snappy => Some("snappy"),
        }
    }
}

#[derive(Default)]
struct Kept {
    out: Vec<u8>,
    zstd: Option<(i32, zstd::bulk::Compressor<'static>)>,
    snappy: Option<snap::raw::Encoder>,
}

/// A thread keeps no more than so many bytes for the next payload.
const KEEP: usize = 4 << 20;

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// Compresses into memory of the size that is needed.
pub fn compress(compression: Compression, raw: &[u8]) -> Vec<u8> {
    KEPT.with_borrow_mut(|kept| {
        let compressed = kept.compress(compression, raw);
        if kept.out.capacity() > KEEP {
            kept.out = Vec::new();
        }
        compressed
    })
}

impl Kept {
    fn compress(&mut self, compression: Compression, raw: &[u8]) -> Vec<u8> {
        const NO_REASON: &str = "there is room for the worst case";
        let bound = match compression {
            Compression::None => return raw.to_vec(),
            Compression::Gzip(level) => {
                self.out.clear();
                let out = std::mem::take(&mut self.out);
                let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(level));
                encoder.write_all(raw).expect("memory takes what is written");
                self.out = encoder.finish().expect("memory takes what is written");
                return self.out.clone();
            }
            Compression::Zstd(_) => zstd::zstd_safe::compress_bound(raw.len()),
            Compression::Lz4 => lz4_flex::block::get_maximum_output_size(raw.len()),
            Compression::Snappy => snap::raw::max_compress_len(raw.len()),
        };
        if self.out.len() < bound {
            self.out.resize(bound, 0);
        }
        let size = match compression {
            Compression::Zstd(level) => {
                if self.zstd.as_ref().is_none_or(|(known, _)| *known != level) {
                    self.zstd = Some((level, zstd::bulk::Compressor::new(level).expect("a level that was checked")));
                }
                let (_, zstd) = self.zstd.as_mut().expect("just made");
                zstd.compress_to_buffer(raw, &mut self.out[..]).expect(NO_REASON)
            }
            Compression::Lz4 => {
                // A third faster than what is all Rust.
                lz4::block::compress_to_buffer(raw, None, false, &mut self.out).expect(NO_REASON)
            }
            _ => self.snappy.get_or_insert_with(snap::raw::Encoder::new).compress(raw, &mut self.out).expect(NO_REASON),
        };
        self.out[..size].to_vec()
    }
}

/// What was compressed, which had `size` bytes. An error if it is anything else.
pub fn decompress(compression: Compression, bytes: &[u8], size: usize) -> io::Result<Bytes> {
    let mut plain = Vec::with_capacity(size);
    match compression {
        Compression::None => plain.extend_from_slice(bytes),
        Compression::Gzip(_) => {
            flate2::read::GzDecoder::new(bytes).take(size as u64 + 1).read_to_end(&mut plain)?;
        }
        Compression::Zstd(_) => plain = zstd::bulk::decompress(bytes, size)?,
        Compression::Lz4 => plain = lz4_flex::block::decompress(bytes, size).map_err(io::Error::other)?,
        Compression::Snappy => plain = snap::raw::Decoder::new().decompress_vec(bytes).map_err(io::Error::other)?,
    }
    if plain.len() != size {
        return Err(io::Error::other(format!("{} bytes were compressed, not {size}", plain.len())));
    }
    Ok(plain.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_comes_back() {
        let words = b"a line of a log, and once more ".repeat(10_000);
        for compression in ALL {
            for raw in [&b""[..], b"x", &words] {
                let compressed = compress(compression, raw);
                assert!(compression == Compression::None || raw.len() < 100 || compressed.len() < raw.len() / 10);
                assert_eq!(decompress(compression, &compressed, raw.len()).unwrap(), raw, "{compression:?}");
            }
        }
    }
}
